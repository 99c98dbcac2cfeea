/* SPDX-License-Identifier: GPL-3.0-or-later
 * The one table of arithmetic. gw_kernels_init() fills every pointer from ref/ (plain C, the truth), then
 * overwrites what cpu/ does better on this machine, then what cuda/ does. Nothing else in the program
 * asks which processor this is. Each family states shapes, units and error bounds in its own header. */
#ifndef GW_KERNELS_H
#define GW_KERNELS_H

#include "kernels/bulk.h"
#include "kernels/conv.h"
#include "kernels/fir.h"
#include "kernels/minphase.h"
#include "kernels/nn/place.h"
#include "kernels/spectrum.h"
#include "kernels/tensor.h"
#include "pipeline/device.h"

typedef struct gw_kernels {
    gw_fir_ops fir;           /* polyphase decimation */
    gw_spectrum_ops spectrum; /* transforms, PSD, whitening filters, overlap-save */
    gw_minphase_ops minphase; /* design of very many filters */
    gw_conv_ops conv;         /* network layers */
    gw_tensor_ops tensor;     /* ONNX operators one by one */
    gw_bulk_ops bulk;         /* whitening of very many channels */
    gw_place_ops place;       /* whole networks on the GPU; all NULL where there is none */
} gw_kernels;

/* Which implementations may be used; the best of the allowed ones wins. */
typedef enum gw_kernels_level { GW_KERNELS_REF, GW_KERNELS_CPU, GW_KERNELS_CUDA } gw_kernels_level;

/* Fills *k. GW_KERNELS_CUDA is the normal choice: it falls back to what is there. */
int gw_kernels_init(gw_kernels *k, gw_kernels_level best);

/* The GPU as the house's device (pipeline/device.h); NULL where there is none, or none was compiled for. */
const gw_device *gw_kernels_device(void);

#endif
