/* SPDX-License-Identifier: GPL-3.0-or-later
 * Vectors of complex numbers for fft32_block.c: arithmetic, butterflies of 4, 5 and 8, and how they lie in
 * memory. */
#ifndef GW_FFT32_VECTOR_H
#define GW_FFT32_VECTOR_H

#include "kernels/cpu/vector.h"

#include <math.h>
#include <stdbool.h>

typedef struct cvec {
    vec re, im;
} cvec;

typedef struct cfloat {
    float re, im;
} cfloat;

static inline cvec add(cvec a, cvec b)
{
    return (cvec){a.re + b.re, a.im + b.im};
}

static inline cvec sub(cvec a, cvec b)
{
    return (cvec){a.re - b.re, a.im - b.im};
}

static inline cvec times(cvec a, cvec b)
{
    return (cvec){a.re * b.re - a.im * b.im, a.re * b.im + a.im * b.re};
}

static inline cvec times_root(cvec a, cfloat w)
{
    return (cvec){a.re * w.re - a.im * w.im, a.re * w.im + a.im * w.re};
}

static inline cvec add_i(cvec a, cvec b) /* a + i b */
{
    return (cvec){a.re - b.im, a.im + b.re};
}

static inline cvec sub_i(cvec a, cvec b) /* a - i b */
{
    return (cvec){a.re + b.im, a.im - b.re};
}

static inline void butterfly4(cvec v[4])
{
    const cvec a = add(v[0], v[2]), b = sub(v[0], v[2]), c = add(v[1], v[3]), d = sub(v[1], v[3]);
    v[0] = add(a, c);
    v[1] = sub_i(b, d);
    v[2] = sub(a, c);
    v[3] = add_i(b, d);
}

static inline void butterfly5(cvec v[5])
{
    const float c1 = 0.309016994374947424f, c2 = -0.809016994374947424f; /* cos 2 pi / 5, cos 4 pi / 5 */
    const float s1 = 0.951056516295153572f, s2 = 0.587785252292473129f;  /* sin */
    const cvec a = add(v[1], v[4]), b = add(v[2], v[3]), c = sub(v[1], v[4]), d = sub(v[2], v[3]), o = v[0];
    const cvec p = {o.re + c1 * a.re + c2 * b.re, o.im + c1 * a.im + c2 * b.im};
    const cvec q = {o.re + c2 * a.re + c1 * b.re, o.im + c2 * a.im + c1 * b.im};
    const cvec r = {s1 * c.re + s2 * d.re, s1 * c.im + s2 * d.im};
    const cvec t = {s2 * c.re - s1 * d.re, s2 * c.im - s1 * d.im};
    v[0] = add(o, add(a, b));
    v[1] = sub_i(p, r);
    v[2] = sub_i(q, t);
    v[3] = add_i(q, t);
    v[4] = add_i(p, r);
}

static inline void butterfly8(cvec v[8])
{
    const float r = (float)M_SQRT1_2;
    cvec even[4], odd[4];
    for (int i = 0; i < 4; i++) {
        even[i] = add(v[i], v[i + 4]);
        odd[i] = sub(v[i], v[i + 4]);
    }
    odd[1] = (cvec){r * (odd[1].re + odd[1].im), r * (odd[1].im - odd[1].re)};
    odd[2] = (cvec){odd[2].im, -odd[2].re};
    odd[3] = (cvec){r * (odd[3].im - odd[3].re), -r * (odd[3].re + odd[3].im)};
    butterfly4(even);
    butterfly4(odd);
    for (int i = 0; i < 4; i++) {
        v[2 * i] = even[i];
        v[2 * i + 1] = odd[i];
    }
}

/* ---- to and from memory ---- */

/* How WIDTH complex numbers lie in memory: real and imaginary parts in turn, or in groups; and whether the
 * two are exchanged. Constants wherever they are used. */
typedef enum form { PAIRS, GROUPS } form;

static inline cvec get(const float *x, form how, bool exchanged)
{
    const vec a = load(x), b = load(x + WIDTH);
    const cvec v = how == PAIRS ? (cvec){SHUFFLE(a, b, EVENS), SHUFFLE(a, b, ODDS)} : (cvec){a, b};
    return exchanged ? (cvec){v.im, v.re} : v;
}

static inline void put(float *x, cvec v, form how, bool exchanged)
{
    if (exchanged)
        v = (cvec){v.im, v.re};
    store(x, how == PAIRS ? SHUFFLE(v.re, v.im, ZIP_LOW) : v.re);
    store(x + WIDTH, how == PAIRS ? SHUFFLE(v.re, v.im, ZIP_HIGH) : v.im);
}

static inline void cross(vec v[WIDTH])
{
#define CROSS(apart, low, high)                                                                              \
    for (int i = 0; i < WIDTH; i++)                                                                          \
        if (!(i & apart)) {                                                                                  \
            const vec a = v[i], b = v[i + apart];                                                            \
            v[i] = SHUFFLE(a, b, low);                                                                       \
            v[i + apart] = SHUFFLE(a, b, high);                                                              \
        }
#define LANES(...) __VA_ARGS__
#if defined __AVX512F__
    CROSS(8, LANES(CROSS8), LANES(CROSS8_))
#endif
#if defined __AVX2__
    CROSS(4, LANES(CROSS4), LANES(CROSS4_))
#endif
    CROSS(2, LANES(CROSS2), LANES(CROSS2_))
    CROSS(1, LANES(CROSS1), LANES(CROSS1_))
}

#endif
