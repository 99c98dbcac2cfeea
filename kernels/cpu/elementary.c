/* SPDX-License-Identifier: GPL-3.0-or-later
 * See elementary.h. Power series after an exact reduction of the argument (Cody & Waite, Software Manual for
 * the Elementary Functions): ln of a mantissa within a factor sqrt(2) of 1, e^r for |r| <= ln(2) / 2, sine
 * and cosine for |r| <= pi / 4; each cut off where the next term is below 1e-17. Built with GW_LOOPS = any,
 * avx2 or avx512. */
#include "kernels/cpu/elementary.h"

#include <string.h>

#if defined __AVX512F__
enum { LANES = 8 };
#elif defined __AVX2__
enum { LANES = 4 };
#else
enum { LANES = 2 };
#endif

typedef double vec __attribute__((vector_size(8 * LANES)));
typedef int64_t bits __attribute__((vector_size(8 * LANES)));

/* Adding it leaves the nearest whole number in the last bits. */
static const double whole = 0x1.8p52;

static inline vec either(bits mask, vec yes, vec no)
{
    return (vec)((mask & (bits)yes) | (~mask & (bits)no));
}

/* c[0] + c[1] x + ... + c[n - 1] x^(n - 1) */
static inline vec series(const double *c, int n, vec x)
{
    vec sum = x * 0 + c[n - 1];
    for (int i = n - 2; i >= 0; i--)
        sum = sum * x + c[i];
    return sum;
}

static const double ln2_high = 0x1.62e42fefa38p-1, /* 42 bits, so that small multiples of it are exact */
    ln2_low = 0x1.ef35793c7673p-45;

/* 2 artanh(s) = ln((1 + s) / (1 - s)) */
static inline vec log_of(vec x)
{
    static const double c[] = {2.0,      2.0 / 3,  2.0 / 5,  2.0 / 7,  2.0 / 9, 2.0 / 11,
                               2.0 / 13, 2.0 / 15, 2.0 / 17, 2.0 / 19, 2.0 / 21};
    bits exponent = ((bits)x >> 52) - 1023;
    vec m = (vec)(((bits)x & 0xfffffffffffff) | 0x3ff0000000000000);
    const bits large = m > 0x1.6a09e667f3bcdp0;
    m = either(large, 0.5 * m, m);
    exponent -= large; /* a true lane is -1 */
    const vec e = (vec)(exponent + 0x4338000000000000) - whole;
    const vec s = (m - 1) / (m + 1), s2 = s * s;
    return e * ln2_high + (s * series(c, 11, s2) + e * ln2_low);
}

/* e^(re + i im) */
static inline void exp_of(vec *re, vec *im)
{
    static const double e[] = {1,
                               1,
                               1.0 / 2,
                               1.0 / 6,
                               1.0 / 24,
                               1.0 / 120,
                               1.0 / 720,
                               1.0 / 5040,
                               1.0 / 40320,
                               1.0 / 362880,
                               1.0 / 3628800,
                               1.0 / 39916800,
                               1.0 / 479001600,
                               1.0 / 6227020800};
    static const double sine[] = {1,
                                  -1.0 / 6,
                                  1.0 / 120,
                                  -1.0 / 5040,
                                  1.0 / 362880,
                                  -1.0 / 39916800,
                                  1.0 / 6227020800,
                                  -1.0 / 1307674368000};
    static const double cosine[] = {1,
                                    -1.0 / 2,
                                    1.0 / 24,
                                    -1.0 / 720,
                                    1.0 / 40320,
                                    -1.0 / 3628800,
                                    1.0 / 479001600,
                                    -1.0 / 87178291200,
                                    1.0 / 20922789888000};
    static const double quarter[] = {0x1.921fb544p0, 0x1.0b4611a4p-34,
                                     0x1.8469898cc5170p-69}; /* pi / 2 in parts */
    const vec k = *re * 0x1.71547652b82fep0 + whole, n = k - whole;
    const vec r = (*re - n * ln2_high) - n * ln2_low;
    const vec size = (vec)((bits)series(e, 14, r) + (((bits)k - 0x4338000000000000) << 52));
    const vec j = *im * 0x1.45f306dc9c883p-1 + whole, q = j - whole;
    const vec a = ((*im - q * quarter[0]) - q * quarter[1]) - q * quarter[2], a2 = a * a;
    const vec s = a * series(sine, 8, a2), c = series(cosine, 9, a2);
    const bits odd = -((bits)j & 1);
    const bits flip_cos = (((bits)j + 1) & 2) << 62, flip_sin = ((bits)j & 2) << 62; /* to the sign's place */
    *re = size * (vec)((bits)either(odd, s, c) ^ flip_cos);
    *im = size * (vec)((bits)either(odd, c, s) ^ flip_sin);
}

static void log_all(double *x, size_t n)
{
    for (size_t k = 0; k < n; k += LANES) {
        vec v = (vec){0} + 1;
        const size_t bytes = (n - k < LANES ? n - k : LANES) * sizeof *x;
        memcpy(&v, x + k, bytes);
        v = log_of(v);
        memcpy(x + k, &v, bytes);
    }
}

static void exp_all(gw_complex *z, size_t n)
{
    for (size_t k = 0; k < n; k += LANES) {
        const size_t left = n - k < LANES ? n - k : LANES;
        vec re = {0}, im = {0};
        for (size_t i = 0; i < left; i++) {
            re[i] = z[k + i].re;
            im[i] = z[k + i].im;
        }
        exp_of(&re, &im);
        for (size_t i = 0; i < left; i++)
            z[k + i] = (gw_complex){re[i], im[i]};
    }
}

/* -- single precision: the same with shorter series ------------------------------------------------- */

enum { LANES32 = 2 * LANES };

typedef float vec32 __attribute__((vector_size(4 * LANES32)));
typedef int32_t bits32 __attribute__((vector_size(4 * LANES32)));

static const float whole32 = 0x1.8p23f;
static const float ln2_high32 = 0x1.62ep-1f, /* 12 bits */
    ln2_low32 = 0x1.0bfbe8p-15f;

static inline vec32 either32(bits32 mask, vec32 yes, vec32 no)
{
    return (vec32)((mask & (bits32)yes) | (~mask & (bits32)no));
}

static inline vec32 series32(const float *c, int n, vec32 x)
{
    vec32 sum = x * 0 + c[n - 1];
    for (int i = n - 2; i >= 0; i--)
        sum = sum * x + c[i];
    return sum;
}

static inline vec32 log32_of(vec32 x)
{
    static const float c[] = {2, 2.0f / 3, 2.0f / 5, 2.0f / 7, 2.0f / 9};
    bits32 exponent = ((bits32)x >> 23) - 127;
    vec32 m = (vec32)(((bits32)x & 0x7fffff) | 0x3f800000);
    const bits32 large = m > 0x1.6a09e6p0f;
    m = either32(large, 0.5f * m, m);
    exponent -= large;
    const vec32 e = (vec32)(exponent + 0x4b400000) - whole32;
    const vec32 s = (m - 1) / (m + 1), s2 = s * s;
    return e * ln2_high32 + (s * series32(c, 5, s2) + e * ln2_low32);
}

static inline void exp32_of(vec32 *re, vec32 *im)
{
    static const float e[] = {1, 1, 1.0f / 2, 1.0f / 6, 1.0f / 24, 1.0f / 120, 1.0f / 720};
    static const float sine[] = {1, -1.0f / 6, 1.0f / 120, -1.0f / 5040, 1.0f / 362880};
    static const float cosine[] = {1, -1.0f / 2, 1.0f / 24, -1.0f / 720, 1.0f / 40320};
    static const float quarter[] = {0x1.92p0f, 0x1.fb4p-12f, 0x1.4442d2p-24f}; /* pi / 2 in parts */
    const vec32 k = *re * 0x1.715476p0f + whole32, n = k - whole32;
    const vec32 r = (*re - n * ln2_high32) - n * ln2_low32;
    const vec32 size = (vec32)((bits32)series32(e, 7, r) + (((bits32)k - 0x4b400000) << 23));
    const vec32 j = *im * 0x1.45f306p-1f + whole32, q = j - whole32;
    const vec32 a = ((*im - q * quarter[0]) - q * quarter[1]) - q * quarter[2], a2 = a * a;
    const vec32 s = a * series32(sine, 5, a2), c = series32(cosine, 5, a2);
    const bits32 odd = -((bits32)j & 1);
    const bits32 flip_cos = (((bits32)j + 1) & 2) << 30, flip_sin = ((bits32)j & 2) << 30;
    *re = size * (vec32)((bits32)either32(odd, s, c) ^ flip_cos);
    *im = size * (vec32)((bits32)either32(odd, c, s) ^ flip_sin);
}

static void log32_all(float *x, size_t n)
{
    for (size_t k = 0; k < n; k += LANES32) {
        vec32 v = (vec32){0} + 1;
        const size_t bytes = (n - k < LANES32 ? n - k : LANES32) * sizeof *x;
        memcpy(&v, x + k, bytes);
        v = log32_of(v);
        memcpy(x + k, &v, bytes);
    }
}

/* In blocks, so that the compiler takes the parts apart and puts them together by vectors too. */
static void exp32_all(float *z, size_t n)
{
    enum { BLOCK = 64 };
    float re[BLOCK] = {0}, im[BLOCK] = {0};
    for (size_t k = 0; k < n; k += BLOCK) {
        const size_t left = n - k < BLOCK ? n - k : BLOCK;
        for (size_t i = 0; i < left; i++) {
            re[i] = z[2 * (k + i)];
            im[i] = z[2 * (k + i) + 1];
        }
        for (size_t i = 0; i < BLOCK; i += LANES32) {
            vec32 a, b;
            memcpy(&a, re + i, sizeof a);
            memcpy(&b, im + i, sizeof b);
            exp32_of(&a, &b);
            memcpy(re + i, &a, sizeof a);
            memcpy(im + i, &b, sizeof b);
        }
        for (size_t i = 0; i < left; i++) {
            z[2 * (k + i)] = re[i];
            z[2 * (k + i) + 1] = im[i];
        }
    }
}

#define PASTE(a, b) a##b
#define NAME(a, b)  PASTE(a, b)
const gw_elementary NAME(gw_elementary_, GW_LOOPS) = {log_all, exp_all, log32_all, exp32_all};
