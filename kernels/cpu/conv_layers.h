/* SPDX-License-Identifier: GPL-3.0-or-later
 * All layers of kernels/conv.h in vectors of LANES floats: the one source of conv_sse2.c, conv_avx2.c and
 * conv_avx512.c, which differ in LANES, NARROW (lanes for a few output channels), VECS (vectors of output
 * channels in a tile) and the instructions they are compiled for. They end with gw_conv_<name>(); conv.c
 * chooses among them. Here are the convolutions as plain sums; conv_tile.h has their innermost loops,
 * conv_short.h those with fewer multiplications, conv_slide.h those with one output channel, conv_act.h
 * vectors and activations, conv_plain.h the rest. */
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

#include "kernels/cpu/conv_act.h"
#include "kernels/cpu/conv_plain.h"

enum { MOST_ROWS = 8, MOST_VECS = 4, FEW_OUTPUTS = LANES > 4 ? 2 : 1, MANY_TAPS = 32, ROWS_AT_ONCE = 4 };

/* ---- Convolution ---- */

/* The output channels of one tile. */
typedef struct part {
    uint32_t out0, in0; /* first output channel, first input channel of its group */
    uint32_t lanes;     /* output channels */
    int vecs;
    bool narrow;
    const float *weight;
} part;

/* The same layer with fewer multiplications: see conv_short.h. */
typedef struct shorter {
    uint32_t taps;              /* 3 or 4; 0: there is none */
    uint32_t hop;               /* columns of the input that are one of its own */
    uint32_t together, in, out; /* columns of the output that are; its channels */
    double cost, plain;         /* of a tile; of a column of the plain sum */
    part *part;
    size_t n_parts;
    float *weight, *bias;
} shorter;

struct gw_conv {
    gw_conv_desc d;
    enum { BY_TILE, BY_CHANNEL, BY_ROW, BY_SLIDE } how;
    shorter shorter;
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
    free(c->shorter.part);
    free(c->shorter.weight);
    free(c->shorter.bias);
    free(c);
    *out = NULL;
}

/* Floats of a row of its weights or sums. */
static inline size_t part_width(const part *p)
{
    return (size_t)p->vecs * (p->narrow ? NARROW : LANES);
}

/* Tiles of nearly equal width for n output channels from number out0 of a group on. */
static void divide(part *to, size_t *n_parts, uint32_t out0, uint32_t in0, uint32_t n, bool narrow)
{
    const uint32_t lanes = narrow ? NARROW : LANES, vecs = (n + lanes - 1) / lanes,
                   tiles = (vecs + VECS - 1) / VECS;
    uint32_t done = 0;
    for (uint32_t t = 0; t < tiles; t++) {
        const uint32_t width = (vecs - done + (tiles - t) - 1) / (tiles - t), from = done * lanes;
        to[(*n_parts)++] = (part){.out0 = out0 + from,
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
            divide(c->part, &c->n_parts, g * each, g * in_each, each - rest, false);
        if (rest)
            divide(c->part, &c->n_parts, g * each + each - rest, g * in_each, rest, true);
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
        const size_t width = part_width(p);
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

#include "kernels/cpu/conv_short.h"
#include "kernels/cpu/conv_slide.h"

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
             : d->out_channels == 1 && d->stride == 1 && d->dilation == 1 && d->kernel > 2 &&
                     d->kernel <= SLIDE_TAPS && in_each >= NARROW && in_each <= SLIDE_IN
                 ? BY_SLIDE
             : d->groups == 1 && d->dilation == 1 && out_each <= FEW_OUTPUTS && c->n_taps >= LANES ? BY_ROW
                                                                                                   : BY_TILE;
    const size_t widest = c->how == BY_TILE    ? (out_each / LANES + 1) * LANES * d->groups
                          : c->how == BY_SLIDE ? 2
                                               : d->out_channels;
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
    int err = GW_OK;
    if (c->how == BY_TILE) {
        divide_all(c);
        pack(c, weight);
        err = short_open(c, weight, bias);
    } else if (c->how == BY_SLIDE) {
        pack_slide(c, weight);
    } else {
        pack_plain(c, weight);
    }
    if (err < 0)
        conv_close(&c);
    *out = c;
    return err;
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
    const size_t width = part_width(p);
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
    else if (c->how == BY_SLIDE)
        run_by_slide(c, io);
    else if (short_pays(c, io->columns))
        run_short(c, io);
    else
        for (size_t i = 0; i < c->n_parts; i++)
            run_part(c, &c->part[i], io);
    return GW_OK;
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
