/* SPDX-License-Identifier: GPL-3.0-or-later
 * Real transforms in single precision: the one place that knows who computes them. Called by bulk.c;
 * `gwstream tune` plans and times through it too.
 *
 * Most lengths 2^a 5^b are ours (fft32_block.c), all others FFTW's. Its plans are chosen by rule (ESTIMATE),
 * or as the wisdom says that was handed over before: nothing is timed while a graph runs. A transform is read
 * by any number of threads; making one is safe in several. */
#ifndef GW_FFT32_H
#define GW_FFT32_H

#include "pipeline/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct gw_fft32 gw_fft32;

/* What is wanted next from memory: brought into the cache a little at a time while transforms run. */
typedef struct gw_fft32_ahead {
    const char *at[3];
    size_t bytes[3];
    uint32_t lines; /* at a time, about one for every gw_fft32_width() points; 0: none */
} gw_fft32_ahead;

enum { GW_FFT32_ALIGN = 64 }; /* bytes, of every array */

/* How much thought a plan is given. WISE: what wisdom says, else by rule. The others are for tune, which
 * makes wisdom by them: MEASURED and PATIENT time whole transforms, for about long_s seconds at most; while
 * they do, no other thread plans. */
typedef enum gw_fft32_effort {
    GW_FFT32_WISE,
    GW_FFT32_BY_RULE,
    GW_FFT32_MEASURED,
    GW_FFT32_PATIENT
} gw_fft32_effort;

/* n: even; plan_fftw: by FFTW whatever the length. Forward: float[n] -> complex[n / 2 + 1], real and
 * imaginary part in turn; inverse: the way back, not divided by n, the imaginary parts of the first and last
 * bin count as 0. GW_ERANGE, GW_ENOMEM. */
int gw_fft32_new(gw_fft32 **f, uint32_t n, bool inverse);
int gw_fft32_plan_fftw(gw_fft32 **f, uint32_t n, bool inverse, gw_fft32_effort effort, double long_s);
void gw_fft32_destroy(gw_fft32 **f);

/* `from` is kept by a forward transform and destroyed by an inverse one. `ahead` may be NULL; it moves on. */
void gw_fft32_run(const gw_fft32 *f, float *from, float *to, gw_fft32_ahead *ahead);

/* There and back with a product between them, in fewer turns over memory than one after the other. */
typedef struct gw_fft32_product {
    const void *response; /* n / 2 + 1 bins, to be read to whole 64 bytes: float, or halves that are to be
                             multiplied by factor; 0 and the last are real */
    bool half;
    float factor;
    float *keep; /* NULL, or the spectrum [n / 2 + 1] before it is multiplied */
    uint32_t
        from; /* of the samples that come back those from here on are wanted; the others may be anything */
} gw_fft32_product;

/* f, a forward transform of n points, can. time[n] is kept, work[n] needed; out[n]. */
bool gw_fft32_can_filter(const gw_fft32 *f);
void gw_fft32_filter(const gw_fft32 *f, const gw_fft32_product *p, const float *time, float *work, float *out,
                     gw_fft32_ahead *ahead);

/* The same for a shorter way back, of d = 2, 4 or 8 times fewer points (ours too): freq[n / 2 / d + 1] are
 * the products of the first n / 2 / d bins, which is all of the response that there is, and a 0. `keep` and
 * `from` do not count. freq is not work. */
bool gw_fft32_can_low(const gw_fft32 *f, uint32_t d);
void gw_fft32_low_product(const gw_fft32 *f, const gw_fft32_product *p, uint32_t d, const float *time,
                          float *work, float *freq, gw_fft32_ahead *ahead);

/* Ours; the smallest of ours >= n that is a multiple of `of`, 0 if there is none; how many points it works on
 * at a time. */
bool gw_fft32_ours(uint32_t n);
uint32_t gw_fft32_our_length(uint32_t n, uint32_t of);
uint32_t gw_fft32_width(void);

/* Wisdom is text. set: false if it is none for this library; what was known stays. get: to be freed, or
 * NULL. forget: all of it. library: name and version. */
bool gw_fft32_wisdom_set(const char *text);
char *gw_fft32_wisdom_get(void);
void gw_fft32_wisdom_forget(void);
const char *gw_fft32_library(void);

/* The smallest length >= n that is a multiple of `of` (even) and has no prime factor above 5 besides `of`'s.
 */
uint32_t gw_fft32_good_length(uint32_t n, uint32_t of);

#endif
