/* SPDX-License-Identifier: GPL-3.0-or-later
 * Decimating FIR with eight partial sums: an addition takes four cycles and can be started twice a cycle,
 * so one running sum leaves seven eighths of the machine idle. Vector types let the compiler use what the
 * build allows (SSE2 upwards) without being free to choose another order of summation. */
#include "kernels/fir.h"

#include <stddef.h>

typedef double lanes __attribute__((vector_size(32), aligned(8), may_alias));
enum { LANES = 4, STEP = 2 * LANES };

static void decimate(const double *h, uint32_t n_taps, uint32_t factor, const double *x, double *y,
                     uint32_t n_out)
{
    for (uint32_t i = 0; i < n_out; i++) {
        const double *p = x + (size_t)i * factor;
        lanes a = {0}, b = {0};
        uint32_t k = 0;
        for (; k + STEP <= n_taps; k += STEP) {
            a += *(const lanes *)(h + k) * *(const lanes *)(p + k);
            b += *(const lanes *)(h + k + LANES) * *(const lanes *)(p + k + LANES);
        }
        a += b;
        double sum = (a[0] + a[1]) + (a[2] + a[3]);
        for (; k < n_taps; k++)
            sum += h[k] * p[k];
        y[i] = sum;
    }
}

void gw_fir_cpu(gw_fir_ops *ops)
{
    ops->decimate = decimate;
}
