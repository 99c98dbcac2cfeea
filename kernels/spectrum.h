/* SPDX-License-Identifier: GPL-3.0-or-later
 * The transform pair behind PSDs, filter design and convolution, the multiply-add of spectra, and logarithms
 * and exponentials of them, in double. psd.c, whitening.c and convolver.c are written upon these operations
 * and know no FFT library. An object belongs to one thread at a time; objects may be made in several threads
 * at once. */
#ifndef GW_SPECTRUM_H
#define GW_SPECTRUM_H

#include "pipeline/error.h"

#include <stddef.h>
#include <stdint.h>

typedef struct gw_complex {
    double re, im;
} gw_complex;

/* A real transform of n points with its own buffers, which the caller fills and reads. */
typedef struct gw_fft {
    uint32_t n;       /* even, >= 2 */
    double *time;     /* [n] */
    gw_complex *freq; /* [n / 2 + 1] */
    void *plan;       /* of the implementation */
} gw_fft;

enum { GW_SPECTRUM_LANES = 4 }; /* multiply_add works in whole groups of so many bins */

typedef struct gw_spectrum_ops {
    /* GW_ERANGE: n is odd or 0; GW_ENOMEM. fft_destroy nulls; NULL is fine. */
    int (*fft_new)(gw_fft **f, uint32_t n);
    void (*fft_destroy)(gw_fft **f);
    /* freq[k] = sum over j of time[j] exp(-2 pi i j k / n), k <= n / 2. `time` is kept.
     * Against ref: rms(difference) <= 1e-15 * log2(2 n) * rms(ref). */
    void (*fft_forward)(gw_fft *f);
    /* Its inverse: time[j] = 1 / n * sum over all n bins, those above n / 2 by conjugate symmetry; the
     * imaginary parts of bins 0 and n / 2 count as 0. `freq` is destroyed. The same bound. */
    void (*fft_inverse)(gw_fft *f);
    /* sum += a * b, complex, bin by bin. Each array is n real parts, then n imaginary parts; n is a multiple
     * of GW_SPECTRUM_LANES. Against ref: |difference| <= 2^-51 (|a b| + |sum|) in each part. */
    void (*multiply_add)(const double *a, const double *b, double *sum, size_t n);
    /* x[k] = ln x[k]; x normal numbers above 0. Against ref: |difference| <= 1e-15 (|ref| + 1). */
    void (*log)(double *x, size_t n);
    /* z[k] = e^z[k]; |re| < 700, |im| < 1e5. Against ref: |difference| <= 2e-15 |ref|. */
    void (*exp)(gw_complex *z, size_t n);
} gw_spectrum_ops;

void gw_spectrum_ref(gw_spectrum_ops *ops);
void gw_spectrum_cpu(gw_spectrum_ops *ops);

#endif
