/* SPDX-License-Identifier: GPL-3.0-or-later
 * What a cleaning network says of itself, in its ONNX metadata (metadata_props, all text). Read by cleaner.c
 * and by what checks a model before it is used; runs nothing.
 *
 *     gwstream.format         1
 *     gwstream.kind           denoise
 *     gwstream.name           deepclean-demo
 *     gwstream.sample_rate    4096         Hz, of the network's input and output
 *     gwstream.witnesses      H1:PEM-MAINS_0,H1:PEM-MAINS_1,...   in the order of the input's channels
 *     gwstream.means          0,0,...      of each witness, in its own unit
 *     gwstream.scales         1,2.5,...    likewise: the network is given (x - mean) / scale, float32
 *     gwstream.output_scale   1e-21        strain per unit of output
 *     gwstream.bands          57-63,118-122  Hz: where it is meant to make strain quieter
 *     gwstream.shift_samples  0            output column i is the noise at sample i + shift (sample_rate's)
 *     gwstream.strain         H1:STRAIN    channel that it was trained for; another one is refused
 *
 * The graph: one input [1, witnesses, samples], one output [1, 1, samples] or [1, samples], local in time. */
#ifndef GW_DENOISE_MODEL_H
#define GW_DENOISE_MODEL_H

#include "kernels/nn/onnx.h"
#include "pipeline/block.h"
#include "pipeline/stages/asd_ratio.h"

enum { GW_DENOISE_MAX_WITNESSES = 1024 };

typedef struct gw_denoise_model {
    char name[48], strain[GW_NAME_BYTES], bands_text[128];
    gw_bands bands;
    uint32_t rate_hz, n_witnesses, shift_samples;
    double output_scale;
    char (*witness)[GW_NAME_BYTES]; /* [n_witnesses] */
    double *mean, *scale;           /* [n_witnesses] */
} gw_denoise_model;

/* *m is overwritten. GW_EFORMAT where metadata are not there, make no sense or do not fit the graph's input
 * (key and value in the message), GW_ENOTSUP for another format or kind, GW_ENOMEM. */
int gw_denoise_model_read(gw_denoise_model *m, const gw_onnx *onnx);
void gw_denoise_model_free(gw_denoise_model *m);

#endif
