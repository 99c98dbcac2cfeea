/* SPDX-License-Identifier: GPL-3.0-or-later
 * Decimating FIR, as its formula reads. */
#include "kernels/fir.h"

#include <stddef.h>

static void decimate(const double *h, uint32_t n_taps, uint32_t factor, const double *x, double *y,
                     uint32_t n_out)
{
    for (uint32_t i = 0; i < n_out; i++) {
        double sum = 0;
        for (uint32_t k = 0; k < n_taps; k++)
            sum += h[k] * x[(size_t)i * factor + k];
        y[i] = sum;
    }
}

void gw_fir_ref(gw_fir_ops *ops)
{
    ops->decimate = decimate;
}
