/* SPDX-License-Identifier: GPL-3.0-or-later
 * The loops of bulk.c that touch every sample or bin, built three times from one source: for any x86-64, for
 * AVX2 with FMA and F16C, and for AVX-512. gw_bulk_loops_best says which this processor runs.
 *
 * Spectra are complex numbers in turn, in rows of whole 64 bytes; arrays of samples may lie anywhere. */
#ifndef GW_BULK_LOOPS_H
#define GW_BULK_LOOPS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct gw_bulk_range {
    float low, high; /* of what came in */
    bool finite;     /* nothing was infinite or no number, before and after scaling */
    bool suspicious; /* false: no four aligned samples (from a multiple of 4 on) are the same, and fewer than
                        five have the least value, fewer than five the greatest. Else that is not sure */
} gw_bulk_range;

typedef struct gw_bulk_loops {
    const char *name;
    /* to[n] = x[n] * scale. Unless old is NULL also to[-n .. -1] = old[n] and then keep[n] = x[n] * scale;
     * keep may be old. */
    gw_bulk_range (*take)(float *to, const float *x, float scale, size_t n, const float *old, float *keep);
    /* y[n] = a[n] (+ b[n]): the largest |y|, a NaN if one y is none. away: y is not read here again. */
    float (*give)(float *y, const float *a, const float *b, size_t n, bool away);
    /* y[n] = old[n] + rise[n] * (y[n] - old[n]), and the same. */
    float (*fade)(float *y, const float *old, const float *rise, size_t n);
    /* sum[floats] = factor * sum over p < parts of x[p] * w[p], complex; floats: whole 64 bytes. w: halves if
     * `half`, else float, and factor is 1. */
    void (*multiply)(float *sum, const float *const *x, const void *const *w, uint32_t parts, bool half,
                     float factor, size_t floats);
    /* The spectrum of every d-th of n samples: in place, bins 0 .. n / (2 d) of n / 2 + 1. */
    void (*fold)(float *x, size_t n, uint32_t d);
    void (*to_half)(uint16_t *to, const float *from, size_t n);
    /* power[n] = factor * |x[k] / 2 - (x[k - 1] + x[k + 1]) / 4|^2, complex x[-1 .. n]; x at 64 bytes. */
    void (*power)(float *power, const float *x, float factor, size_t n);
    /* average[n] += weight * (power[n] - average[n]), and power as above. */
    void (*power_average)(float *average, const float *x, float factor, float weight, size_t n);
    /* average[n] += weight * (x[n] - average[n]) */
    void (*average)(float *average, const float *x, float weight, size_t n);
    /* to[n] = factor * median over the rows; rows: odd, at most 63. */
    void (*median)(float *to, const float *const *row, uint32_t rows, float factor, size_t n);
} gw_bulk_loops;

extern const gw_bulk_loops gw_bulk_loops_any, gw_bulk_loops_avx2, gw_bulk_loops_avx512;
const gw_bulk_loops *gw_bulk_loops_best(void);

#endif
