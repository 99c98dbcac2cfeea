/* SPDX-License-Identifier: GPL-3.0-or-later
 * All layers of kernels/conv.h in vectors of LANES floats: the one source of conv_sse2.c, conv_avx2.c and
 * conv_avx512.c, which differ in LANES, NARROW (lanes for a few output channels), VECS (vectors of output
 * channels in a tile) and the instructions they are compiled for. They end with gw_conv_<name>(); conv.c
 * chooses among them. */
#include "kernels/cpu/conv_table.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#ifdef __AVX__
#include <immintrin.h>
#endif

/* a * b + c of vectors, fused where the processor can. Said, not left to the compiler, which would fuse in
 * one place and not in another: a window must give the same alone as in a batch. */
#ifdef __FMA__
#define MADD_16(a, b, c) _mm512_fmadd_ps((__m512)(a), (__m512)(b), (__m512)(c))
#define MADD_8(a, b, c)  _mm256_fmadd_ps((__m256)(a), (__m256)(b), (__m256)(c))
#define MADD_4(a, b, c)  _mm_fmadd_ps((__m128)(a), (__m128)(b), (__m128)(c))
#else
#define MADD_4(a, b, c) ((a) * (b) + (c))
#define MADD_2(a, b, c) ((a) * (b) + (c))
#endif
#define LAYER_JOIN_(a, b) a##b
#define LAYER_JOIN(a, b)  LAYER_JOIN_(a, b)

#define TILE_LANES LANES
#define TILE_VECS  VECS
#include "kernels/cpu/conv_tile.h"
#define TILE_LANES NARROW
#define TILE_VECS  2
#include "kernels/cpu/conv_tile.h"

typedef float vec __attribute__((vector_size(4 * LANES)));
typedef float vec_loose __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef int32_t veci __attribute__((vector_size(4 * LANES)));

enum { MOST_ROWS = 8, MOST_VECS = 4, FEW_OUTPUTS = LANES > 4 ? 2 : 1, MANY_TAPS = 32, ROWS_AT_ONCE = 4 };

/* ---- Vectors ---- */

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
    x = choose(x < all(low), all(low), x);
    return choose(x > all(high), all(high), x);
}

/* x P(x^2) / Q(x^2), fitted to tanh(x) on |x| <= 8, where it is 1 to within 2.3e-7; relative error 4e-7. */
static inline vec vec_tanh(vec x)
{
    x = clamp(x, -8, 8);
    const vec z = x * x;
    vec p = all(2.350859335063333e-11f);
    p = madd(p, z, all(-1.4704216438894861e-08f));
    p = madd(p, z, all(9.878659154826507e-06f));
    p = madd(p, z, all(2.985861847626153e-03f));
    p = madd(p, z, all(1.2979223326120207e-01f));
    p = madd(p, z, all(1.0f));
    vec q = all(2.372032377652219e-04f);
    q = madd(q, z, all(2.4027924240713646e-02f));
    q = madd(q, z, all(4.6312539366882793e-01f));
    q = madd(q, z, all(1.0f));
    return x * p / q;
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
        return 1.0f / (1.0f + vec_exp(-x));
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

/* ---- Convolution ---- */

/* The output channels of one tile. */
typedef struct part {
    uint32_t out0, in0; /* first output channel, first input channel of its group */
    uint32_t lanes;     /* output channels */
    int vecs;
    bool narrow;
    const float *weight;
} part;

struct gw_conv {
    gw_conv_desc d;
    enum { BY_TILE, BY_CHANNEL, BY_ROW } how;
    size_t n_taps;
    uint32_t *tap;
    part *part;
    size_t n_parts;
    float *weight, *bias; /* bias: [out] and room to read a vector from any of them */
};

static void conv_close(gw_conv **out)
{
    gw_conv *c = *out;
    if (!c)
        return;
    free(c->tap);
    free(c->part);
    free(c->weight);
    free(c->bias);
    free(c);
    *out = NULL;
}

/* Tiles of nearly equal width for n output channels from number out0 of a group on. */
static void divide(gw_conv *c, uint32_t out0, uint32_t in0, uint32_t n, bool narrow)
{
    const uint32_t lanes = narrow ? NARROW : LANES, vecs = (n + lanes - 1) / lanes,
                   tiles = (vecs + VECS - 1) / VECS;
    uint32_t done = 0;
    for (uint32_t t = 0; t < tiles; t++) {
        const uint32_t width = (vecs - done + (tiles - t) - 1) / (tiles - t), from = done * lanes;
        c->part[c->n_parts++] = (part){.out0 = out0 + from,
                                       .in0 = in0,
                                       .lanes = n - from < width * lanes ? n - from : width * lanes,
                                       .vecs = (int)width,
                                       .narrow = narrow};
        done += width;
    }
}

/* Few channels, and a few that are left over, go through narrow vectors. */
static void divide_all(gw_conv *c)
{
    const uint32_t each = c->d.out_channels / c->d.groups, in_each = c->d.in_channels / c->d.groups;
    const uint32_t rest =
        each % LANES <= NARROW && (each < LANES || c->n_taps >= MANY_TAPS) ? each % LANES : 0;
    for (uint32_t g = 0; g < c->d.groups; g++) {
        if (each > rest)
            divide(c, g * each, g * in_each, each - rest, false);
        if (rest)
            divide(c, g * each + each - rest, g * in_each, rest, true);
    }
}

/* weight [out][in / groups][kernel] -> for each part [kernel][in / groups][lanes], zeros where a vector is
 * not full. */
static void pack(gw_conv *c, const float *weight)
{
    const size_t in_each = c->d.in_channels / c->d.groups, kernel = c->d.kernel;
    float *to = c->weight;
    for (size_t i = 0; i < c->n_parts; i++) {
        part *p = &c->part[i];
        const size_t width = (size_t)p->vecs * (p->narrow ? NARROW : LANES);
        p->weight = to;
        for (size_t k = 0; k < kernel; k++)
            for (size_t in = 0; in < in_each; in++, to += width)
                for (size_t o = 0; o < p->lanes; o++)
                    to[o] = weight[((p->out0 + o) * in_each + in) * kernel + k];
    }
}

/* One output or two: vectors run over k instead, [out][kernel][in]. One input channel to one output:
 * over the channels, [kernel][channel]. */
static void pack_plain(gw_conv *c, const float *weight)
{
    const size_t in = c->how == BY_ROW ? c->d.in_channels : 1, kernel = c->d.kernel;
    for (size_t o = 0; o < c->d.out_channels; o++)
        for (size_t k = 0; k < kernel; k++)
            for (size_t i = 0; i < in; i++)
                c->weight[c->how == BY_ROW ? (o * kernel + k) * in + i : k * c->d.out_channels + o] =
                    weight[(o * in + i) * kernel + k];
}

static int conv_open(gw_conv **out, const gw_conv_desc *d, const float *weight, const float *bias)
{
    *out = NULL;
    GW_TRY(gw_conv_desc_check(d));
    gw_conv *c = calloc(1, sizeof *c);
    if (!c)
        return gw_fail(GW_ENOMEM, "convolution: no memory");
    const size_t in_each = d->in_channels / d->groups, out_each = d->out_channels / d->groups;
    c->d = *d;
    c->n_taps = in_each * d->kernel;
    c->how = d->groups > 1 && in_each == 1 && out_each == 1 ? BY_CHANNEL
             : d->groups == 1 && d->dilation == 1 && out_each <= FEW_OUTPUTS && c->n_taps >= LANES ? BY_ROW
                                                                                                   : BY_TILE;
    const size_t widest = c->how == BY_TILE ? (out_each / LANES + 1) * LANES * d->groups : d->out_channels;
    c->tap = calloc(c->n_taps, sizeof *c->tap);
    c->part = calloc(d->groups * ((out_each + LANES * VECS - 1) / (LANES * VECS) + 2), sizeof *c->part);
    c->weight = aligned_alloc(64, (widest * c->n_taps * sizeof *c->weight + 63) / 64 * 64);
    c->bias = calloc(d->out_channels + LANES * (VECS + 1), sizeof *c->bias);
    if (!c->tap || !c->part || !c->weight || !c->bias) {
        conv_close(&c);
        return gw_fail(GW_ENOMEM, "convolution: no memory for %zu x %u weights", in_each * d->kernel,
                       d->out_channels);
    }
    memset(c->weight, 0, widest * c->n_taps * sizeof *c->weight);
    for (size_t k = 0; k < d->kernel; k++)
        for (size_t i = 0; i < in_each; i++)
            c->tap[k * in_each + i] = (uint32_t)(k * d->dilation * d->in_channels + i);
    if (bias)
        memcpy(c->bias, bias, d->out_channels * sizeof *bias);
    if (c->how == BY_TILE) {
        divide_all(c);
        pack(c, weight);
    } else {
        pack_plain(c, weight);
    }
    *out = c;
    return GW_OK;
}

/* The rows of a call in order: window by window, column by column. */
typedef struct walk {
    const float *src, *residual;
    float *dst;
    uint32_t column, window;
} walk;

static inline walk start(const gw_conv_io *io)
{
    return (walk){io->src, io->residual, io->dst, 0, 0};
}

static inline void advance(const gw_conv *c, const gw_conv_io *io, walk *w)
{
    if (++w->column < io->columns) {
        w->src += (size_t)c->d.stride * c->d.in_channels;
        w->dst += c->d.out_channels;
        if (w->residual)
            w->residual += c->d.out_channels;
        return;
    }
    w->column = 0;
    w->window++;
    w->src = io->src + w->window * io->src_step;
    w->dst = io->dst + w->window * io->dst_step;
    w->residual = io->residual ? io->residual + w->window * io->residual_step : NULL;
}

/* dst = act(sum + bias + residual), n channels of one column. */
static inline __attribute__((always_inline)) void finish(gw_act act, size_t n, const float *sum,
                                                         const float *bias, const float *residual, float *dst)
{
    size_t o = 0;
    for (; o + LANES <= n; o += LANES) {
        vec y = load(sum + o) + load(bias + o);
        if (residual)
            y += load(residual + o);
        store(dst + o, activate(act, y));
    }
    if (o == n)
        return;
    vec y = load(sum + o) + load(bias + o);
    if (residual)
        y += load_some(residual + o, n - o);
    store_some(dst + o, activate(act, y), n - o);
}

/* Some rows and their sums. Tiles fill all of it before it is finished: a vector read back at once, in
 * another width than it was written in, would wait for memory. */
enum { BLOCK_ROWS = 48, BLOCK_FLOATS = BLOCK_ROWS * 2 * LANES };

typedef struct block {
    const float *row[BLOCK_ROWS], *residual[BLOCK_ROWS];
    float *dst[BLOCK_ROWS];
    float sum[BLOCK_FLOATS + LANES]; /* the last row may be read beyond its end */
} block;

static void take_rows(const gw_conv *c, const part *p, const gw_conv_io *io, walk *w, int n, block *at)
{
    if (!io->residual && w->column + (uint32_t)n < io->columns) { /* the common case, all in one window */
        const size_t step = (size_t)c->d.stride * c->d.in_channels, out = c->d.out_channels;
        for (int i = 0; i < n; i++) {
            at->row[i] = w->src + p->in0 + (size_t)i * step;
            at->dst[i] = w->dst + p->out0 + (size_t)i * out;
        }
        at->residual[0] = NULL;
        w->src += (size_t)n * step;
        w->dst += (size_t)n * out;
        w->column += (uint32_t)n;
        return;
    }
    for (int i = 0; i < n; i++) {
        at->row[i] = w->src + p->in0;
        at->dst[i] = w->dst + p->out0;
        at->residual[i] = io->residual ? w->residual + p->out0 : NULL;
        advance(c, io, w);
    }
}

static inline __attribute__((always_inline)) void finish_rows(gw_act act, bool residual, size_t lanes,
                                                              size_t width, int rows, const float *bias,
                                                              const block *at)
{
    for (int i = 0; i < rows; i++)
        finish(act, lanes, at->sum + (size_t)i * width, bias, residual ? at->residual[i] : NULL, at->dst[i]);
}

/* Half vectors that lie one behind the other in dst make whole ones. */
static void finish_halves(gw_act act, int rows, const float *bias, const block *at)
{
    float twice[LANES];
    memcpy(twice, bias, NARROW * sizeof *bias);
    memcpy(twice + NARROW, bias, NARROW * sizeof *bias);
    const vec both = load(twice);
    for (int i = 0; i < rows; i += 2)
        store(at->dst[i], activate(act, load(at->sum + (size_t)i * NARROW) + both));
}

static void finish_block(gw_act act, size_t lanes, size_t width, int rows, const float *bias, const block *at)
{
    if (lanes == NARROW && rows % 2 == 0 && !at->residual[0] &&
        at->dst[rows - 1] == at->dst[0] + (size_t)(rows - 1) * NARROW) {
        finish_halves(act, rows, bias, at);
        return;
    }
    const bool residual = at->residual[0] != NULL; /* the common cases without a question for each vector */
    if (act.kind == GW_ACT_RELU && residual)
        finish_rows((gw_act){.kind = GW_ACT_RELU}, true, lanes, width, rows, bias, at);
    else if (act.kind == GW_ACT_RELU)
        finish_rows((gw_act){.kind = GW_ACT_RELU}, false, lanes, width, rows, bias, at);
    else if (act.kind == GW_ACT_TANH && !residual)
        finish_rows((gw_act){.kind = GW_ACT_TANH}, false, lanes, width, rows, bias, at);
    else if (act.kind == GW_ACT_NONE && !residual)
        finish_rows((gw_act){.kind = GW_ACT_NONE}, false, lanes, width, rows, bias, at);
    else
        finish_rows(act, residual, lanes, width, rows, bias, at);
}

static void run_part(const gw_conv *c, const part *p, const gw_conv_io *io)
{
    const int most = p->vecs == VECS || (p->narrow && p->vecs == 2) ? 6 : MOST_ROWS;
    const size_t width = (size_t)p->vecs * (p->narrow ? NARROW : LANES);
    const size_t fit = BLOCK_FLOATS / width < BLOCK_ROWS ? BLOCK_FLOATS / width : BLOCK_ROWS;
    block at;
    walk w = start(io);
    for (size_t left = (size_t)io->batch * io->columns; left > 0;) {
        const int rows = (int)(left < fit ? left : fit / (size_t)most * (size_t)most);
        take_rows(c, p, io, &w, rows, &at);
        for (int r = 0; r < rows;) {
            const int n = rows - r >= most ? most : rows - r >= 4 ? 4 : rows - r >= 2 ? 2 : 1;
            float *sum = at.sum + (size_t)r * width;
            if (p->narrow)
                LAYER_JOIN(tile_run, NARROW)(n, p->vecs, at.row + r, c->tap, c->n_taps, p->weight, sum);
            else
                LAYER_JOIN(tile_run, LANES)(n, p->vecs, at.row + r, c->tap, c->n_taps, p->weight, sum);
            r += n;
        }
        finish_block(c->d.act, p->lanes, width, rows, c->bias + p->out0, &at);
        left -= (size_t)rows;
    }
}

static void run_by_channel(const gw_conv *c, const gw_conv_io *io)
{
    const size_t channels = c->d.out_channels, kernel = c->d.kernel, step = c->d.dilation * channels;
    walk w = start(io);
    for (size_t left = (size_t)io->batch * io->columns; left > 0; left--, advance(c, io, &w)) {
        for (size_t o = 0; o < channels; o += LANES) {
            const size_t n = channels - o < LANES ? channels - o : LANES;
            const float *x = w.src + o, *f = c->weight + o;
            vec sum = {0};
            for (size_t k = 0; k < kernel; k++)
                sum = n == LANES ? madd(load(f + k * channels), load(x + k * step), sum)
                                 : madd(load_some(f + k * channels, n), load_some(x + k * step, n), sum);
            float s[LANES];
            store(s, sum);
            finish(c->d.act, n, s, c->bias + o, w.residual ? w.residual + o : NULL, w.dst + o);
        }
    }
}

static inline float total(vec v)
{
    float lane[LANES], sum[4] = {0};
    store(lane, v);
    for (int i = 0; i < LANES; i++)
        sum[i % 4] += lane[i];
    return (sum[0] + sum[2]) + (sum[1] + sum[3]);
}

/* sum[i] = weights f times row i, `rows` of them at once. */
static inline __attribute__((always_inline)) void
rows_times(const int rows, const float *const *row, const float *f, size_t n_taps, float *sum, size_t step)
{
    vec s[ROWS_AT_ONCE];
    for (int i = 0; i < rows; i++)
        s[i] = (vec){0};
    size_t k = 0;
    for (; k + LANES <= n_taps; k += LANES) {
        const vec w = load(f + k);
        for (int i = 0; i < rows; i++)
            s[i] = madd(w, load(row[i] + k), s[i]);
    }
    if (k < n_taps) {
        const vec w = load_some(f + k, n_taps - k);
        for (int i = 0; i < rows; i++)
            s[i] = madd(w, load_some(row[i] + k, n_taps - k), s[i]);
    }
    for (int i = 0; i < rows; i++)
        sum[(size_t)i * step] = total(s[i]);
}

static void run_by_row(const gw_conv *c, const gw_conv_io *io)
{
    const part all_outputs = {0};
    block at;
    walk w = start(io);
    for (size_t left = (size_t)io->batch * io->columns; left > 0;) {
        const int rows = (int)(left < BLOCK_ROWS ? left : BLOCK_ROWS);
        take_rows(c, &all_outputs, io, &w, rows, &at);
        for (size_t o = 0; o < c->d.out_channels; o++) {
            const float *f = c->weight + o * c->n_taps;
            int r = 0;
            for (; r + ROWS_AT_ONCE <= rows; r += ROWS_AT_ONCE)
                rows_times(ROWS_AT_ONCE, at.row + r, f, c->n_taps, at.sum + (size_t)r * c->d.out_channels + o,
                           c->d.out_channels);
            for (; r < rows; r++)
                rows_times(1, at.row + r, f, c->n_taps, at.sum + (size_t)r * c->d.out_channels + o,
                           c->d.out_channels);
        }
        finish_block(c->d.act, c->d.out_channels, c->d.out_channels, rows, c->bias, &at);
        left -= (size_t)rows;
    }
}

static int conv_run(const gw_conv *c, const gw_conv_io *io)
{
    if (c->how == BY_CHANNEL)
        run_by_channel(c, io);
    else if (c->how == BY_ROW)
        run_by_row(c, io);
    for (size_t i = 0; i < c->n_parts; i++)
        run_part(c, &c->part[i], io);
    return GW_OK;
}

/* ---- The others ---- */

static void act_only(gw_act act, size_t n, const float *x, float *dst)
{
    size_t i = 0;
    for (; i + LANES <= n; i += LANES)
        store(dst + i, activate(act, load(x + i)));
    if (i < n)
        store_some(dst + i, activate(act, load_some(x + i, n - i)), n - i);
}

static inline vec joined(gw_join kind, gw_act act, vec a, vec b)
{
    return activate(act, kind == GW_JOIN_ADD ? a + b : kind == GW_JOIN_SUB ? a - b : a * b);
}

static void join_row(gw_join kind, gw_act act, size_t n, const float *a, const float *b, float *dst)
{
    size_t i = 0;
    for (; i + LANES <= n; i += LANES)
        store(dst + i, joined(kind, act, load(a + i), load(b + i)));
    if (i < n)
        store_some(dst + i, joined(kind, act, load_some(a + i, n - i), load_some(b + i, n - i)), n - i);
}

static void join(gw_join kind, gw_act act, uint32_t columns, uint32_t channels, const float *a,
                 const float *b, size_t b_step, float *dst)
{
    if (b_step == channels) {
        join_row(kind, act, (size_t)columns * channels, a, b, dst);
        return;
    }
    for (size_t n = 0; n < columns; n++)
        join_row(kind, act, channels, a + n * channels, b + n * b_step, dst + n * channels);
}

static void mean(uint32_t n, uint32_t span, uint32_t channels, const float *x, float *dst)
{
    const float share = 1 / (float)span;
    for (size_t i = 0; i < n; i++) {
        for (size_t c = 0; c < channels; c += LANES) {
            const size_t lanes = channels - c < LANES ? channels - c : LANES;
            const float *from = x + i * channels + c;
            vec sum = {0};
            for (size_t k = 0; k < span; k++, from += channels)
                sum += lanes == LANES ? load(from) : load_some(from, lanes);
            sum *= share;
            if (lanes == LANES)
                store(dst + i * channels + c, sum);
            else
                store_some(dst + i * channels + c, sum, lanes);
        }
    }
}

static void pool_some(const gw_pool *p, size_t column, size_t c, size_t lanes, const float *src, float *dst)
{
    vec most = all(-INFINITY), sum = {0};
    size_t seen = 0;
    for (size_t k = 0; k < p->kernel; k++) {
        const size_t at = column * p->stride + k * p->dilation;
        if (at < p->pad_left || at - p->pad_left >= p->in_columns)
            continue;
        const float *from = src + (at - p->pad_left) * p->channels + c;
        const vec x = lanes == LANES ? load(from) : load_some(from, lanes);
        most = choose(x > most, x, most);
        sum += x;
        seen++;
    }
    const vec y = p->mean ? sum * (1 / (float)(p->count_padding ? p->kernel : seen)) : most;
    if (lanes == LANES)
        store(dst + column * p->channels + c, y);
    else
        store_some(dst + column * p->channels + c, y, lanes);
}

static void pool(const gw_pool *p, const float *src, float *dst)
{
    for (size_t n = 0; n < p->columns; n++)
        for (size_t c = 0; c < p->channels; c += LANES)
            pool_some(p, n, c, p->channels - c < LANES ? p->channels - c : LANES, src, dst);
}

/* total[c] += over all columns: x - center, squared or not. Short sums in float, the long one in double. */
static void add_up(const gw_norm *n, const float *x, const float *center, bool squared, double *total)
{
    enum { PIECE = 32 };
    const size_t channels = n->channels;
    for (size_t i0 = 0; i0 < n->columns; i0 += PIECE) {
        const size_t end = n->columns - i0 < PIECE ? n->columns : i0 + PIECE;
        for (size_t c = 0; c < channels; c += LANES) {
            const size_t lanes = channels - c < LANES ? channels - c : LANES;
            const vec middle = load_some(center + c, lanes);
            vec sum = {0};
            for (size_t i = i0; i < end; i++) {
                const float *from = x + i * channels + c;
                const vec d = (lanes == LANES ? load(from) : load_some(from, lanes)) - middle;
                sum += squared ? d * d : d;
            }
            float s[LANES];
            store(s, sum);
            for (size_t k = 0; k < lanes; k++)
                total[c + k] += (double)s[k];
        }
    }
}

/* Mean first, then the squares of what is left: a large mean costs no digits. */
static void norm(const gw_norm *n, const float *x, const float *residual, float *dst)
{
    const size_t channels = n->channels, each = channels / n->groups;
    const double count = (double)each * n->columns;
    double *total = n->scratch;
    float *center = (float *)(n->scratch + channels), *factor = center + channels;
    memcpy(center, x, channels * sizeof *center); /* near the mean already: short sums stay small */
    for (int pass = 0; pass < 2; pass++) {
        memset(total, 0, channels * sizeof *total);
        add_up(n, x, center, pass == 1, total);
        for (size_t g = 0; g < n->groups; g++) {
            double sum = 0;
            for (size_t c = g * each; c < (g + 1) * each; c++)
                sum += total[c] + (pass == 0 ? (double)center[c] * n->columns : 0);
            for (size_t c = g * each; c < (g + 1) * each; c++) {
                if (pass == 0)
                    center[c] = (float)(sum / count);
                else
                    factor[c] = (float)((double)n->scale[c] / sqrt(sum / count + (double)n->epsilon));
            }
        }
    }
    for (size_t i = 0; i < n->columns; i++) {
        for (size_t c = 0; c < channels; c += LANES) {
            const size_t at = i * channels + c, lanes = channels - c < LANES ? channels - c : LANES;
            if (lanes == LANES) {
                vec y = load(factor + c) * (load(x + at) - load(center + c)) + load(n->bias + c);
                if (residual)
                    y += load(residual + at);
                store(dst + at, activate(n->act, y));
            } else {
                vec y =
                    load_some(factor + c, lanes) * (load_some(x + at, lanes) - load_some(center + c, lanes)) +
                    load_some(n->bias + c, lanes);
                if (residual)
                    y += load_some(residual + at, lanes);
                store_some(dst + at, activate(n->act, y), lanes);
            }
        }
    }
}

void LAYER_JOIN(gw_conv_, NAME)(gw_conv_ops *ops)
{
    *ops = (gw_conv_ops){.open = conv_open,
                         .run = conv_run,
                         .close = conv_close,
                         .join = join,
                         .act = act_only,
                         .mean = mean,
                         .pool = pool,
                         .norm = norm};
}
