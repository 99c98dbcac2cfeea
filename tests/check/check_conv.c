/* SPDX-License-Identifier: GPL-3.0-or-later
 * Convolution layers and their small companions, each implementation against kernels/ref. */
#include "tests/check/check.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

typedef struct shape {
    uint32_t in, out, groups, kernel, stride, dilation, columns;
} shape;

static const shape shapes[] = {
    {2, 32, 2, 16, 4, 1, 16}, {32, 48, 2, 7, 2, 1, 8},   {48, 48, 2, 7, 1, 1, 8},   {32, 48, 2, 1, 2, 1, 8},
    {48, 64, 2, 7, 2, 1, 4},  {64, 64, 2, 7, 1, 1, 4},   {64, 64, 1, 5, 2, 1, 2},   {64, 64, 1, 5, 1, 1, 1},
    {64, 1, 1, 1, 1, 1, 1},   {2, 32, 2, 16, 4, 1, 768}, {48, 48, 2, 7, 1, 1, 384}, {64, 64, 1, 5, 1, 1, 48},
    {1, 1, 1, 1, 1, 1, 1},    {1, 1, 1, 1, 1, 1, 257},   {3, 5, 1, 3, 1, 1, 7},     {7, 7, 7, 3, 1, 1, 31},
    {13, 17, 1, 5, 3, 2, 11}, {21, 21, 1, 7, 1, 1, 129}, {64, 64, 64, 1, 1, 1, 33}, {6, 9, 3, 2, 5, 7, 3},
    {2, 4, 2, 25, 1, 1, 65},  {16, 16, 1, 3, 1, 128, 4}, {130, 67, 1, 3, 2, 1, 19}, {5, 1, 1, 1, 9, 1, 2},
    {4, 6, 2, 4, 4, 1, 100},  {1, 8, 1, 31, 8, 1, 37},   {64, 2, 1, 3, 1, 1, 128},  {1, 8, 1, 16, 4, 1, 130},
    {96, 80, 1, 3, 1, 1, 21}, {21, 48, 1, 7, 1, 1, 40},  {33, 1, 1, 7, 1, 1, 23},   {19, 2, 1, 2, 3, 1, 5},
    {8, 144, 1, 1, 1, 1, 9},  {37, 37, 37, 4, 2, 3, 12}, {64, 64, 1, 3, 1, 1, 37},  {21, 21, 1, 7, 1, 1, 43},
    {16, 32, 1, 7, 2, 1, 18}, {32, 32, 1, 4, 1, 1, 25},  {24, 70, 1, 6, 1, 1, 50},  {16, 32, 1, 8, 4, 1, 31},
    {48, 40, 1, 5, 2, 1, 29}, {21, 1, 1, 7, 1, 1, 150},  {9, 1, 1, 3, 1, 1, 67},    {300, 20, 1, 3, 1, 1, 11},
    {21, 8, 1, 7, 2, 1, 45},  {40, 4, 1, 7, 2, 1, 33},   {12, 1, 1, 8, 1, 1, 7},    {128, 1, 1, 4, 1, 1, 139},
};
enum { N_SHAPES = sizeof shapes / sizeof *shapes };

static const char *const act_text[] = {"",     " relu", " tanh", " sigmoid",  " leaky relu",
                                       " elu", " silu", " gelu", " softplus", " clip"};

static gw_act make_act(int kind)
{
    return (gw_act){(gw_act_kind)kind, kind == GW_ACT_CLIP ? -0.75f : 0.3f, 1.5f};
}

/* What the activation adds of its own; it amplifies no error. 1e-37: denormals may be flushed. */
static float act_bound(gw_act act, float result)
{
    const bool plain = act.kind == GW_ACT_NONE || act.kind == GW_ACT_RELU || act.kind == GW_ACT_LEAKY_RELU ||
                       act.kind == GW_ACT_CLIP;
    return plain ? 1e-37f : 5e-7f * (1 + fabsf(result));
}

typedef struct call {
    const gw_conv_ops *ops;
    gw_conv *layer;
    gw_conv_io io;
} call;

static void run_call(void *arg)
{
    call *k = arg;
    (void)k->ops->run(k->layer, &k->io);
}

/* How the windows of one call lie: apart by `gap` floats more than they need (src may overlap instead). */
typedef struct layout {
    uint32_t batch, columns;
    size_t src_step, residual_step, dst_step, n_src, n_residual, n_dst;
} layout;

static layout lay(gw_check *c, const gw_conv_desc *d, uint32_t columns)
{
    const size_t in = (size_t)gw_conv_in_columns(d, columns) * d->in_channels,
                 out = (size_t)columns * d->out_channels;
    layout l = {.batch = 1 + gw_check_below(c, 4), .columns = columns};
    l.src_step = gw_check_below(c, 3) ? in + gw_check_below(c, 40) : (in + 1) / 2; /* or overlapping */
    l.residual_step = out + gw_check_below(c, 9);
    l.dst_step = out + gw_check_below(c, 20);
    l.n_src = (l.batch - 1) * l.src_step + in;
    l.n_residual = (l.batch - 1) * l.residual_step + out;
    l.n_dst = (l.batch - 1) * l.dst_step + out;
    return l;
}

/* Runs the layer in one implementation; returns its windows without what lies between them, which must
 * stay untouched. */
static float *run(gw_check *c, const gw_conv_ops *ops, const gw_conv_desc *d, const layout *l,
                  const float *weight, const float *bias, const float *src, const float *residual,
                  bool in_place)
{
    const size_t out = (size_t)l->columns * d->out_channels;
    float *dst = gw_check_buffer(c, l->n_dst * sizeof *dst, 4),
          *dense = gw_check_buffer(c, l->batch * out * 4, 0);
    for (size_t i = 0; i < l->n_dst; i++)
        dst[i] = 12345;
    gw_conv *layer;
    if (ops->open(&layer, d, weight, bias) < 0) {
        gw_check_that(c, false, "open: %s", gw_err_detail());
        memset(dense, 0, l->batch * out * sizeof *dense);
        return dense;
    }
    gw_conv_io io = {.batch = l->batch,
                     .columns = l->columns,
                     .src = src,
                     .dst = dst,
                     .src_step = l->src_step,
                     .residual = residual,
                     .residual_step = l->residual_step,
                     .dst_step = l->dst_step};
    if (residual && in_place) {
        for (size_t b = 0; b < l->batch; b++)
            memcpy(dst + b * l->dst_step, residual + b * l->residual_step, out * sizeof *dst);
        io.residual = dst;
        io.residual_step = l->dst_step;
    }
    if (ops->run(layer, &io) < 0)
        gw_check_that(c, false, "run: %s", gw_err_detail());
    bool same = true; /* alone or in a batch */
    float *alone = gw_check_buffer(c, out * sizeof *alone, 0);
    const gw_conv_io one = {.batch = 1,
                            .columns = l->columns,
                            .src = src + (l->batch - 1) * l->src_step,
                            .dst = alone,
                            .residual = residual ? residual + (l->batch - 1) * l->residual_step : NULL};
    if (ops->run(layer, &one) < 0)
        gw_check_that(c, false, "run: %s", gw_err_detail());
    same = memcmp(alone, dst + (l->batch - 1) * l->dst_step, out * sizeof *alone) == 0;
    gw_check_that(c, same, "a window gives the same alone as in a batch of %u", l->batch);
    ops->close(&layer);
    gw_check_that(c, layer == NULL, "close nulls");
    for (size_t b = 0; b < l->batch; b++) {
        memcpy(dense + b * out, dst + b * l->dst_step, out * sizeof *dst);
        for (size_t i = b * l->dst_step + out; i < (b + 1) * l->dst_step && i < l->n_dst; i++)
            gw_check_that(c, dst[i] == 12345, "untouched between the windows");
    }
    return dense;
}

/* Outputs that may be made together with output i: the first, and how many (their steps lie `channels`
 * apart). */
enum { TOGETHER = 7 };

static size_t neighbours(const gw_conv_desc *d, uint32_t columns, size_t i, size_t *first)
{
    const size_t n = i / d->out_channels % columns, reach = d->groups == 1 && d->dilation == 1 ? TOGETHER : 0;
    const size_t left = n < reach ? n : reach, right = columns - 1 - n < reach ? columns - 1 - n : reach;
    *first = i - left * d->out_channels;
    return left + 1 + right;
}

static void check_shape(gw_check *c, const gw_conv_ops *ref, const gw_conv_ops *cand, const shape *s,
                        gw_check_fill fill, int act, bool residual, bool bias)
{
    const gw_conv_desc d = {s->in, s->out, s->groups, s->kernel, s->stride, s->dilation, make_act(act)};
    const layout l = lay(c, &d, s->columns);
    const size_t k = d.in_channels / d.groups * d.kernel, n_w = d.out_channels * k;
    const size_t out = (size_t)s->columns * d.out_channels, n_out = out * l.batch;
    float *src = gw_check_buffer(c, l.n_src * sizeof *src, (size_t)gw_check_below(c, 3) * 4);
    float *w = gw_check_buffer(c, n_w * sizeof *w, 4);
    float *b = gw_check_buffer(c, d.out_channels * sizeof *b, 8);
    float *r = gw_check_buffer(c, l.n_residual * sizeof *r, 0);
    gw_check_fill_f32(c, fill, src, l.n_src);
    gw_check_fill_f32(c, GW_FILL_NORMAL, w, n_w);
    gw_check_fill_f32(c, fill >= GW_FILL_FINITE_COUNT ? GW_FILL_NORMAL : fill, b, d.out_channels);
    gw_check_fill_f32(c, fill >= GW_FILL_FINITE_COUNT ? GW_FILL_NORMAL : fill, r, l.n_residual);
    char what[160];
    snprintf(what, sizeof what,
             "%u->%u groups %u kernel %u stride %u dilation %u columns %u batch %u%s%s%s, %s", s->in, s->out,
             s->groups, s->kernel, s->stride, s->dilation, s->columns, l.batch, act_text[act],
             residual ? " residual" : "", bias ? "" : " no bias", gw_check_fill_text(fill));

    float *want = run(c, ref, &d, &l, w, bias ? b : NULL, src, residual ? r : NULL, false);
    float *got = run(c, cand, &d, &l, w, bias ? b : NULL, src, residual ? r : NULL, gw_check_random(c) & 1);

    if (fill >= GW_FILL_FINITE_COUNT) { /* bad samples: they may spoil what they touch and no more */
        bool *touched = gw_check_buffer(c, n_out * sizeof *touched, 0);
        for (size_t i = 0; i < n_out; i++) {
            const size_t window = i / out, n = i % out / d.out_channels, o = i % d.out_channels;
            const size_t first = o / (d.out_channels / d.groups) * (d.in_channels / d.groups);
            const float *x = src + window * l.src_step + n * d.stride * d.in_channels + first;
            touched[i] = false;
            for (size_t q = 0; q < k; q++)
                touched[i] |= !isfinite(x[q / (d.in_channels / d.groups) * d.dilation * d.in_channels +
                                          q % (d.in_channels / d.groups)]);
        }
        for (size_t i = 0, near; i < n_out; i++)
            for (size_t left = neighbours(&d, l.columns, i, &near); left > 0; left--, near += d.out_channels)
                if (touched[near])
                    want[i] = got[i] = 0;
        for (size_t i = 0; i < l.n_src; i++)
            if (!isfinite(src[i]))
                src[i] = 0;
    }

    /* The bound needs the sum of absolute values: the same layer on them. */
    for (size_t i = 0; i < l.n_src; i++)
        src[i] = fabsf(src[i]);
    for (size_t i = 0; i < n_w; i++)
        w[i] = fabsf(w[i]);
    for (size_t i = 0; i < d.out_channels; i++)
        b[i] = fabsf(b[i]);
    for (size_t i = 0; i < l.n_residual; i++)
        r[i] = fabsf(r[i]);
    gw_conv_desc bare = d;
    bare.act.kind = GW_ACT_NONE;
    float *bound = run(c, ref, &bare, &l, w, bias ? b : NULL, src, residual ? r : NULL, false);
    if (fill ==
        GW_FILL_SPIKE) { /* outputs made together share what is large; else there is nothing to gain */
        for (size_t i = 0; i < n_w; i++)
            for (size_t q = i / d.kernel * d.kernel; q < (i / d.kernel + 1) * d.kernel; q++)
                w[i] = fmaxf(w[i], w[q]);
        const float *shared = run(c, ref, &bare, &l, w, bias ? b : NULL, src, residual ? r : NULL, false);
        for (size_t i = 0, near; i < n_out; i++)
            for (size_t left = neighbours(&d, l.columns, i, &near); left > 0; left--, near += d.out_channels)
                bound[i] = fmaxf(bound[i], shared[near]);
    }
    for (size_t i = 0; i < n_out; i++)
        bound[i] =
            6e-8f * (8 + sqrtf((float)k)) * bound[i] * (act == GW_ACT_SILU || act == GW_ACT_GELU ? 1.2f : 1) +
            act_bound(d.act, want[i]);
    gw_check_f32(c, want, got, bound, n_out, "%s", what);
    gw_check_release(c);
}

static void bench_shape(gw_check *c, const gw_conv_ops *ref, const gw_conv_ops *cand, const shape *s)
{
    const gw_conv_desc d = {s->in, s->out, s->groups, s->kernel, s->stride, s->dilation, {GW_ACT_RELU, 0, 0}};
    const size_t n_in = (size_t)gw_conv_in_columns(&d, s->columns) * d.in_channels,
                 n_out = (size_t)s->columns * d.out_channels, k = d.in_channels / d.groups * d.kernel;
    float *src = gw_check_buffer(c, n_in * sizeof *src, 0),
          *w = gw_check_buffer(c, d.out_channels * k * 4, 0);
    float *dst = gw_check_buffer(c, n_out * sizeof *dst, 0);
    gw_check_fill_f32(c, GW_FILL_NORMAL, src, n_in);
    gw_check_fill_f32(c, GW_FILL_NORMAL, w, d.out_channels * k);
    const gw_conv_io io = {.batch = 1, .columns = s->columns, .src = src, .dst = dst};
    call a = {ref, NULL, io}, b = {cand, NULL, io};
    if (ref->open(&a.layer, &d, w, NULL) == 0 && cand->open(&b.layer, &d, w, NULL) == 0) {
        char what[64];
        snprintf(what, sizeof what, "%ux%u k%u s%u g%u n%u", s->in, s->out, s->kernel, s->stride, s->groups,
                 s->columns);
        gw_check_bench(c, what, 2.0 * (double)(n_out * k), 4.0 * (double)(n_in + n_out), run_call, &a,
                       run_call, &b);
    }
    ref->close(&a.layer);
    cand->close(&b.layer);
    gw_check_release(c);
}

static void check_layers(gw_check *c, const gw_conv_ops *ref, const gw_conv_ops *cand)
{
    for (int i = 0; i < N_SHAPES; i++)
        for (int fill = 0; fill < GW_FILL_COUNT; fill++)
            for (int rest = 0; rest < 4; rest++)
                check_shape(c, ref, cand, &shapes[i], (gw_check_fill)fill, (i + fill + rest) % GW_ACT_COUNT,
                            rest & 1, rest & 2);
    /* What must be refused must be refused alike. */
    const gw_act none = {GW_ACT_NONE, 0, 0};
    const gw_conv_desc bad[] = {{0, 1, 1, 1, 1, 1, none},
                                {1, 1, 1, 1, 0, 1, none},
                                {3, 4, 2, 1, 1, 1, none},
                                {4, 3, 2, 1, 1, 1, none},
                                {1u << 16, 1u << 16, 1, 3, 1, 1, none},
                                {1, 1, 1, 1u << 31, 1, 1u << 31, none},
                                {1u << 20, 1, 1, 1, 1u << 20, 1u << 20, none}};
    const float one = 1;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        gw_conv *layer = NULL;
        gw_check_that(c, cand->open(&layer, &bad[i], &one, &one) == GW_ERANGE && !layer,
                      "bad shape %zu refused", i);
        gw_check_that(c, ref->open(&layer, &bad[i], &one, &one) == GW_ERANGE && !layer,
                      "bad shape %zu refused", i);
    }
    for (int i = 0; i < N_SHAPES; i++)
        bench_shape(c, ref, cand, &shapes[i]);
}

static void check_join(gw_check *c, const gw_conv_ops *ref, const gw_conv_ops *cand)
{
    static const uint32_t sizes[][2] = {{1, 1}, {2, 31}, {3, 16}, {31, 33}, {64, 64}, {5, 8}};
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes * 6; s++) {
        for (int fill = 0; fill < GW_FILL_FINITE_COUNT; fill++) {
            const uint32_t columns = sizes[s / 6][0], channels = sizes[s / 6][1];
            const gw_join kind = (gw_join)(s % 3);
            const bool one = s % 6 >= 3; /* column for all */
            const gw_act act = make_act((int)gw_check_below(c, GW_ACT_COUNT));
            const size_t n = (size_t)columns * channels, n_b = one ? channels : n;
            float *a = gw_check_buffer(c, n * 4, 4), *b = gw_check_buffer(c, n_b * 4, 8);
            float *want = gw_check_buffer(c, n * 4, 0), *got = gw_check_buffer(c, n * 4, 12);
            float *bound = gw_check_buffer(c, n * 4, 0);
            gw_check_fill_f32(c, (gw_check_fill)fill, a, n);
            gw_check_fill_f32(c, (gw_check_fill)fill, b, n_b);
            ref->join(kind, act, columns, channels, a, b, one ? 0 : channels, want);
            for (size_t i = 0; i < n; i++) {
                const float y = b[one ? i % channels : i];
                bound[i] = 2.4e-7f * (kind == GW_JOIN_MUL ? fabsf(a[i] * y) : fabsf(a[i]) + fabsf(y)) +
                           act_bound(act, want[i]);
            }
            const bool in_place = gw_check_random(c) & 1;
            if (in_place)
                memcpy(got, a, n * sizeof *got);
            cand->join(kind, act, columns, channels, in_place ? got : a, b, one ? 0 : channels, got);
            gw_check_f32(c, want, got, bound, n, "%u x %u join %d%s%s, %s", columns, channels, (int)kind,
                         one ? " one column" : "", act_text[act.kind],
                         gw_check_fill_text((gw_check_fill)fill));
            gw_check_release(c);
        }
    }
}

static void check_act(gw_check *c, const gw_conv_ops *ref, const gw_conv_ops *cand)
{
    for (int kind = GW_ACT_NONE; kind < GW_ACT_COUNT; kind++) {
        const size_t n = 4001;
        float *x = gw_check_buffer(c, n * 4, 4), *want = gw_check_buffer(c, n * 4, 0);
        float *got = gw_check_buffer(c, n * 4, 8), *bound = gw_check_buffer(c, n * 4, 0);
        gw_check_fill_f32(c, GW_FILL_NORMAL, x, n);
        for (size_t i = 0; i < n; i++)
            x[i] *= i % 7 == 0 ? 1e4f : i % 5 == 0 ? 20 : i % 3 == 0 ? 1e-6f : 3;
        ref->act(make_act(kind), n, x, want);
        for (size_t i = 0; i < n; i++)
            bound[i] = act_bound(make_act(kind), want[i]);
        cand->act(make_act(kind), n, x, got);
        gw_check_f32(c, want, got, bound, n, "%zu values%s", n, act_text[kind]);
        if (kind == GW_ACT_TANH) { /* small ones keep their digits: a subtraction depends on it */
            for (size_t i = 0; i < n; i++)
                bound[i] = 5e-7f * fabsf(want[i]);
            gw_check_f32(c, want, got, bound, n, "relative");
        }
        gw_check_release(c);
    }
}

static void check_mean(gw_check *c, const gw_conv_ops *ref, const gw_conv_ops *cand)
{
    static const uint32_t sizes[][3] = {{1, 32, 64}, {2, 32, 64}, {32, 32, 64},
                                        {1, 1, 1},   {7, 5, 3},   {48, 1, 65}};
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
        for (int fill = 0; fill < GW_FILL_FINITE_COUNT; fill++) {
            const uint32_t n = sizes[s][0], span = sizes[s][1], channels = sizes[s][2];
            const size_t n_in = (size_t)(n + span - 1) * channels, n_out = (size_t)n * channels;
            float *x = gw_check_buffer(c, n_in * 4, 4), *bound = gw_check_buffer(c, n_out * 4, 0);
            float *want = gw_check_buffer(c, n_out * 4, 0), *got = gw_check_buffer(c, n_out * 4, 8);
            gw_check_fill_f32(c, (gw_check_fill)fill, x, n_in);
            ref->mean(n, span, channels, x, want);
            cand->mean(n, span, channels, x, got);
            for (size_t i = 0; i < n_in; i++)
                x[i] = fabsf(x[i]);
            ref->mean(n, span, channels, x, bound);
            for (size_t i = 0; i < n_out; i++)
                bound[i] = 6e-8f * (float)(span + 1) * bound[i] + 1e-37f;
            gw_check_f32(c, want, got, bound, n_out, "n %u span %u channels %u, %s", n, span, channels,
                         gw_check_fill_text((gw_check_fill)fill));
            gw_check_release(c);
        }
    }
}

static void check_pool(gw_check *c, const gw_conv_ops *ref, const gw_conv_ops *cand)
{
    /* channels, kernel, stride, dilation, pad_left, in_columns, columns */
    static const uint32_t sizes[][7] = {{1, 2, 2, 1, 0, 8, 4},    {64, 3, 2, 1, 1, 100, 50},
                                        {33, 5, 1, 1, 2, 17, 17}, {16, 3, 3, 2, 1, 20, 6},
                                        {7, 4, 4, 1, 3, 9, 3},    {48, 1, 1, 1, 0, 5, 5}};
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes * 3; s++) {
        const uint32_t *z = sizes[s / 3];
        const gw_pool p = {s % 3 > 0, s % 3 > 1, z[0], z[1], z[2], z[3], z[4], z[5], z[6]};
        for (int fill = 0; fill < GW_FILL_FINITE_COUNT; fill++) {
            const size_t n_in = (size_t)p.in_columns * p.channels, n_out = (size_t)p.columns * p.channels;
            float *x = gw_check_buffer(c, n_in * 4, 4), *bound = gw_check_buffer(c, n_out * 4, 0);
            float *want = gw_check_buffer(c, n_out * 4, 0), *got = gw_check_buffer(c, n_out * 4, 8);
            gw_check_fill_f32(c, (gw_check_fill)fill, x, n_in);
            ref->pool(&p, x, want);
            cand->pool(&p, x, got);
            for (size_t i = 0; i < n_in; i++)
                x[i] = fabsf(x[i]);
            ref->pool(&p, x, bound);
            for (size_t i = 0; i < n_out; i++)
                bound[i] = p.mean ? 6e-8f * (float)(p.kernel + 1) * bound[i] + 1e-37f : 0;
            gw_check_f32(
                c, want, got, bound, n_out, "%s%s kernel %u stride %u dilation %u pad %u of %u channels, %s",
                p.mean ? "mean" : "largest", p.count_padding ? " with padding" : "", p.kernel, p.stride,
                p.dilation, p.pad_left, p.channels, gw_check_fill_text((gw_check_fill)fill));
            gw_check_release(c);
        }
    }
}

static void check_norm(gw_check *c, const gw_conv_ops *ref, const gw_conv_ops *cand)
{
    static const uint32_t sizes[][3] = {{64, 16, 768}, {64, 64, 33}, {64, 1, 31}, {6, 3, 100},
                                        {21, 7, 40},   {512, 16, 9}, {1, 1, 50},  {300, 4, 3}};
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes * 2; s++) {
        for (int fill = 0; fill < GW_FILL_FINITE_COUNT; fill++) {
            const uint32_t channels = sizes[s / 2][0], groups = sizes[s / 2][1], columns = sizes[s / 2][2];
            const size_t n = (size_t)channels * columns;
            float *x = gw_check_buffer(c, n * 4, 4), *bound = gw_check_buffer(c, n * 4, 0);
            float *want = gw_check_buffer(c, n * 4, 0), *got = gw_check_buffer(c, n * 4, 8);
            float *r = gw_check_buffer(c, n * 4, 0), *scale = gw_check_buffer(c, channels * 4, 4);
            float *bias = gw_check_buffer(c, channels * 4, 4);
            double *scratch = gw_check_buffer(c, channels * 16, 0);
            gw_check_fill_f32(c, (gw_check_fill)fill, x, n);
            gw_check_fill_f32(c, GW_FILL_NORMAL, r, n);
            gw_check_fill_f32(c, GW_FILL_NORMAL, scale, channels);
            gw_check_fill_f32(c, GW_FILL_NORMAL, bias, channels);
            if (fill == GW_FILL_NORMAL) /* a mean that dwarfs the rest, as after a bias */
                for (size_t i = 0; i < n; i++)
                    x[i] += 100;
            gw_norm m = {channels, groups, columns, 1e-5f, make_act(GW_ACT_NONE), scale, bias, scratch};
            const float *residual = s % 2 ? r : NULL;
            ref->norm(&m, x, residual, bound); /* = scale * (x - mean) / sd + bias + residual */
            for (size_t i = 0; i < n; i++)
                bound[i] = 2e-6f * (2 * fabsf(bound[i]) + fabsf(scale[i % channels]) +
                                    2 * fabsf(bias[i % channels]) + (residual ? 2 * fabsf(r[i]) : 0));
            if (fill == GW_FILL_NORMAL) /* x - mean has the error of a float of 100 */
                for (size_t i = 0; i < n; i++)
                    bound[i] += 8e-6f * 2 * fabsf(scale[i % channels]);
            m.act = make_act((int)gw_check_below(c, GW_ACT_COUNT));
            ref->norm(&m, x, residual, want);
            for (size_t i = 0; i < n; i++)
                bound[i] = 1.2f * bound[i] + act_bound(m.act, want[i]);
            if (s % 4 == 3) { /* in the residual's place */
                memcpy(got, r, n * sizeof *got);
                residual = got;
            }
            cand->norm(&m, x, residual, got);
            gw_check_f32(c, want, got, bound, n, "%u channels in %u groups of %u columns%s%s, %s", channels,
                         groups, columns, residual ? " residual" : "", act_text[m.act.kind],
                         gw_check_fill_text((gw_check_fill)fill));
            gw_check_release(c);
        }
    }
}

static void run_conv(gw_check *c, const gw_kernels *r, const gw_kernels *k)
{
    if (gw_check_begin(c, "conv", (gw_check_fn)r->conv.run, (gw_check_fn)k->conv.run))
        check_layers(c, &r->conv, &k->conv);
    if (gw_check_begin(c, "join", (gw_check_fn)r->conv.join, (gw_check_fn)k->conv.join))
        check_join(c, &r->conv, &k->conv);
    if (gw_check_begin(c, "act", (gw_check_fn)r->conv.act, (gw_check_fn)k->conv.act))
        check_act(c, &r->conv, &k->conv);
    if (gw_check_begin(c, "mean", (gw_check_fn)r->conv.mean, (gw_check_fn)k->conv.mean))
        check_mean(c, &r->conv, &k->conv);
    if (gw_check_begin(c, "pool", (gw_check_fn)r->conv.pool, (gw_check_fn)k->conv.pool))
        check_pool(c, &r->conv, &k->conv);
    if (gw_check_begin(c, "norm", (gw_check_fn)r->conv.norm, (gw_check_fn)k->conv.norm))
        check_norm(c, &r->conv, &k->conv);
}

const gw_check_family gw_check_suite = {.name = "conv", .run = run_conv};
