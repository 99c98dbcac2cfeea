/* SPDX-License-Identifier: GPL-3.0-or-later
 * Logarithms and exponentials of many numbers at once, behind spectrum.h's `log` and `exp`, and minphase.h.
 * Built three times from one source, like bulk_loops.h; spectrum.c takes the one that this processor runs. */
#ifndef GW_ELEMENTARY_H
#define GW_ELEMENTARY_H

#include "kernels/spectrum.h"

typedef struct gw_elementary {
    void (*log)(double *x, size_t n);
    void (*exp)(gw_complex *z, size_t n);
    /* Single precision, behind minphase.h. log32: x normal numbers above 0; |difference| <= 3e-7 (|ref| + 1).
     * exp32: of z[2 n], real and imaginary parts in turn; 1e-6 |ref| where |re| < 80 and |im| < 10. */
    void (*log32)(float *x, size_t n);
    void (*exp32)(float *z, size_t n);
} gw_elementary;

extern const gw_elementary gw_elementary_any, gw_elementary_avx2, gw_elementary_avx512;

#endif
