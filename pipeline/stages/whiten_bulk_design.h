/* SPDX-License-Identifier: GPL-3.0-or-later
 * From a channel's PSD to its filter: what lies between kernels/bulk.h, which keeps coarse PSDs, and
 * kernels/whitening.h, which designs taps. Called by whiten_bulk for each channel once in a while. A designer
 * belongs to one thread at a time and keeps nothing of the channels. */
#ifndef GW_WHITEN_BULK_DESIGN_H
#define GW_WHITEN_BULK_DESIGN_H

#include "kernels/kernels.h"

typedef struct gw_bulk_design_shape {
    gw_bulk_shape bulk;
    bool linear;
    double highpass_hz[2], lowpass_hz[2];
} gw_bulk_design_shape;

typedef struct gw_bulk_designer gw_bulk_designer;

/* `k` must outlive it. Allocates everything. */
int gw_bulk_designer_new(gw_bulk_designer **d, const gw_kernels *k, const gw_bulk_design_shape *s);
void gw_bulk_designer_destroy(gw_bulk_designer **d);
size_t gw_bulk_designer_bytes(const gw_bulk_design_shape *s); /* roughly */

/* psd[psd_bins] of `segments`, as gw_bulk_ops.psd_get gives them, to taps[n_taps] (valid until the next
 * call), for noise of one-sided PSD 2 / (rate / decimate) in the output. NULL: the PSD is zero, or not finite
 * inside the pass band. S is taken linearly between the middles of the pools. The taps are smaller by sqrt(1
 * + 0.7 / m): the filter is learnt from a PSD of finitely many independent powers, m = segments x bins a
 * pool, those that overlap counted as what they are worth (see the .c). */
const double *gw_bulk_designer_run(gw_bulk_designer *d, const float *psd, uint32_t segments);

#endif
