/* SPDX-License-Identifier: GPL-3.0-or-later
 * Vectors of LANES floats and the activations in them, for conv_layers.h. */

typedef float vec __attribute__((vector_size(4 * LANES)));
typedef float vec_loose __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef int32_t veci __attribute__((vector_size(4 * LANES)));

static inline vec load(const float *p)
{
    return *(const vec_loose *)p;
}

static inline void store(float *p, vec v)
{
    *(vec_loose *)p = v;
}

static inline vec all(float x)
{
    return x - (vec){0};
}

static inline vec madd(vec a, vec b, vec c)
{
    return (vec)LAYER_JOIN(MADD_, LANES)(a, b, c);
}

/* The first n of them, n <= LANES; the rest is zero, or untouched. */
static inline vec load_some(const float *p, size_t n)
{
#if LANES == 16
    return (vec)_mm512_maskz_loadu_ps((__mmask16)((1u << n) - 1), p);
#else
    float some[LANES] = {0};
    for (size_t i = 0; i < n; i++)
        some[i] = p[i];
    return load(some);
#endif
}

static inline void store_some(float *p, vec v, size_t n)
{
#if LANES == 16
    _mm512_mask_storeu_ps(p, (__mmask16)((1u << n) - 1), (__m512)v);
#else
    float some[LANES];
    store(some, v);
    for (size_t i = 0; i < n; i++)
        p[i] = some[i];
#endif
}

/* mask ? a : b, lane by lane. */
static inline vec choose(veci mask, vec a, vec b)
{
    return (vec)((mask & (veci)a) | (~mask & (veci)b));
}

static inline vec clamp(vec x, float low, float high)
{
#if LANES == 16
    return (vec)_mm512_min_ps(_mm512_max_ps((__m512)x, (__m512)all(low)), (__m512)all(high));
#else
    x = choose(x < all(low), all(low), x);
    return choose(x > all(high), all(high), x);
#endif
}

/* a / b to 1e-7, b far from 0 and from the largest. A division occupies what multiplies and adds, for as long
 * as ten of these. */
static inline vec ratio(vec a, vec b)
{
#if LANES == 16
    const vec about = (vec)_mm512_rcp14_ps((__m512)b), y = a * about;
    return madd(about, madd(-b, y, a), y);
#else
    return a / b;
#endif
}

/* x P(x^2) / Q(x^2), fitted to tanh(x) on |x| <= 8, where it is 1 to within 2.3e-7; relative error 3e-7. Q
 * begins with 1: a multiplication less. */
static inline vec vec_tanh(vec x)
{
    x = clamp(x, -8, 8);
    const vec z = x * x;
    vec p = all(9.85286306e-08f);
    p = madd(p, z, all(-6.18003542e-05f));
    p = madd(p, z, all(0.041612424f));
    p = madd(p, z, all(12.5953035f));
    p = madd(p, z, all(547.856934f));
    p = madd(p, z, all(4221.77881f));
    vec q = z + all(101.397972f);
    q = madd(q, z, all(1955.1156f));
    q = madd(q, z, all(4221.77881f));
    return ratio(x * p, q);
}

/* 2^n 2^f with n whole and |f| <= 1/2; the polynomial is fitted to 2^f. */
static inline vec vec_exp(vec x)
{
    x = clamp(x, -87, 88) * 1.44269504088896341f;
    const vec magic = all(12582912.0f); /* 1.5 * 2^23: adding it rounds to a whole number */
    const vec shifted = x + magic, f = x - (shifted - magic);
    vec p = all(1.5461444508095147e-04f);
    p = madd(p, f, all(1.3400428180310492e-03f));
    p = madd(p, f, all(9.618056677177429e-03f));
    p = madd(p, f, all(5.55032722666279e-02f));
    p = madd(p, f, all(2.402265092229887e-01f));
    p = madd(p, f, all(6.931472067028361e-01f));
    p = madd(p, f, all(1.0f));
    const veci power = ((veci)shifted - (veci)magic) + 127;
    return p * (vec)(power << 23);
}

static vec one_by_one(gw_act_kind kind, vec x)
{
    float v[LANES];
    store(v, x);
    for (int i = 0; i < LANES; i++)
        v[i] = kind == GW_ACT_GELU ? 0.5f * v[i] * (1 + erff(v[i] * 0.70710678f))
                                   : (v[i] > 0 ? v[i] : 0) + log1pf(expf(-fabsf(v[i])));
    return load(v);
}

static inline vec activate(gw_act act, vec x)
{
    switch (act.kind) {
    case GW_ACT_RELU:
        return choose(x < all(0), all(0), x);
    case GW_ACT_TANH:
        return vec_tanh(x);
    case GW_ACT_SIGMOID:
        return ratio(all(1), 1.0f + vec_exp(-x));
    case GW_ACT_LEAKY_RELU:
        return choose(x < all(0), x * act.a, x);
    case GW_ACT_ELU:
        return choose(x < all(0), act.a * (vec_exp(x) - 1.0f), x);
    case GW_ACT_SILU:
        return x / (1.0f + vec_exp(-x));
    case GW_ACT_GELU:
    case GW_ACT_SOFTPLUS:
        return one_by_one(act.kind, x);
    case GW_ACT_CLIP:
        return clamp(x, act.a, act.b);
    case GW_ACT_NONE:
    case GW_ACT_COUNT:
        break;
    }
    return x;
}
