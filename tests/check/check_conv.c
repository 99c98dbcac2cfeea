/* SPDX-License-Identifier: GPL-3.0-or-later
 * Convolution layers and their small companions, each implementation against kernels/ref. */
#include "tests/check/check.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

typedef struct shape {
    uint32_t in, out, groups, kernel, stride, dilation, columns;
} shape;

/* The shipped architecture at one frame, at two, and a window; then awkward ones: 1, primes, wide. */
static const shape shapes[] = {
    {2, 32, 2, 16, 4, 1, 16}, {32, 48, 2, 7, 2, 1, 8},   {48, 48, 2, 7, 1, 1, 8},   {32, 48, 2, 1, 2, 1, 8},
    {48, 64, 2, 7, 2, 1, 4},  {64, 64, 2, 7, 1, 1, 4},   {64, 64, 1, 5, 2, 1, 2},   {64, 64, 1, 5, 1, 1, 1},
    {64, 1, 1, 1, 1, 1, 1},   {2, 32, 2, 16, 4, 1, 768}, {48, 48, 2, 7, 1, 1, 384}, {64, 64, 1, 5, 1, 1, 48},
    {1, 1, 1, 1, 1, 1, 1},    {1, 1, 1, 1, 1, 1, 257},   {3, 5, 1, 3, 1, 1, 7},     {7, 7, 7, 3, 1, 1, 31},
    {13, 17, 1, 5, 3, 2, 11}, {21, 21, 1, 7, 1, 1, 129}, {64, 64, 64, 1, 1, 1, 33}, {6, 9, 3, 2, 5, 7, 3},
    {2, 4, 2, 25, 1, 1, 65},  {16, 16, 1, 3, 1, 128, 4}, {130, 67, 1, 3, 2, 1, 19}, {5, 1, 1, 1, 9, 1, 2},
    {4, 6, 2, 4, 4, 1, 100},  {1, 8, 1, 31, 8, 1, 37},   {64, 2, 1, 3, 1, 1, 128},
};
enum { N_SHAPES = sizeof shapes / sizeof *shapes };

static const char *const act_text[] = {"", " relu", " tanh", " sigmoid"};

typedef struct call {
    const gw_conv_ops *ops;
    gw_conv *layer;
    const float *src, *residual;
    float *dst;
} call;

static void run_call(void *arg)
{
    call *k = arg;
    (void)k->ops->run(k->layer, k->src, k->residual, k->dst);
}

/* Runs the layer in one implementation; the output lies in guard bands of its own. */
static float *run(gw_check *c, const gw_conv_ops *ops, const gw_conv_desc *d, const float *weight,
                  const float *bias, const float *src, const float *residual, bool in_place)
{
    const size_t n_out = (size_t)d->columns * d->out_channels;
    float *dst = gw_check_buffer(c, n_out * sizeof *dst, 0);
    gw_conv *layer;
    if (ops->open(&layer, d, weight, bias) < 0) {
        gw_check_that(c, false, "open: %s", gw_err_detail());
        memset(dst, 0, n_out * sizeof *dst);
        return dst;
    }
    if (residual && in_place) {
        memcpy(dst, residual, n_out * sizeof *dst);
        residual = dst;
    }
    if (ops->run(layer, src, residual, dst) < 0)
        gw_check_that(c, false, "run: %s", gw_err_detail());
    ops->close(&layer);
    gw_check_that(c, layer == NULL, "close nulls");
    return dst;
}

static void check_shape(gw_check *c, const gw_conv_ops *ref, const gw_conv_ops *cand, const shape *s,
                        gw_check_fill fill, gw_act act, bool residual, bool bias)
{
    const gw_conv_desc d = {.in_channels = s->in,
                            .out_channels = s->out,
                            .groups = s->groups,
                            .kernel = s->kernel,
                            .stride = s->stride,
                            .dilation = s->dilation,
                            .columns = s->columns,
                            .act = act,
                            .residual = residual};
    const size_t n_in = (size_t)gw_conv_in_columns(&d) * d.in_channels,
                 n_out = (size_t)d.columns * d.out_channels, k = d.in_channels / d.groups * d.kernel,
                 n_w = d.out_channels * k;
    float *src = gw_check_buffer(c, n_in * sizeof *src, (size_t)gw_check_below(c, 3) * 4);
    float *w = gw_check_buffer(c, n_w * sizeof *w, 4);
    float *b = gw_check_buffer(c, d.out_channels * sizeof *b, 8);
    float *r = gw_check_buffer(c, n_out * sizeof *r, 0);
    gw_check_fill_f32(c, fill, src, n_in);
    gw_check_fill_f32(c, GW_FILL_NORMAL, w, n_w);
    gw_check_fill_f32(c, fill >= GW_FILL_FINITE_COUNT ? GW_FILL_NORMAL : fill, b, d.out_channels);
    gw_check_fill_f32(c, fill >= GW_FILL_FINITE_COUNT ? GW_FILL_NORMAL : fill, r, n_out);
    char what[128];
    snprintf(what, sizeof what, "%u->%u groups %u kernel %u stride %u dilation %u columns %u%s%s%s, %s",
             s->in, s->out, s->groups, s->kernel, s->stride, s->dilation, s->columns, act_text[act],
             residual ? " residual" : "", bias ? "" : " no bias", gw_check_fill_text(fill));

    float *want = run(c, ref, &d, w, bias ? b : NULL, src, residual ? r : NULL, false);
    float *got = run(c, cand, &d, w, bias ? b : NULL, src, residual ? r : NULL, gw_check_random(c) & 1);

    if (fill >= GW_FILL_FINITE_COUNT) { /* one bad sample: it may spoil what it touches and no more */
        size_t at = 0;
        while (at < n_in && isfinite(src[at]))
            at++;
        const size_t column = at / d.in_channels, group = at % d.in_channels / (d.in_channels / d.groups);
        for (size_t n = 0; n < d.columns; n++) {
            bool touched = false;
            for (size_t i = 0; i < d.kernel; i++)
                touched |= n * d.stride + i * d.dilation == column;
            for (size_t o = 0; touched && o < d.out_channels; o++)
                if (o / (d.out_channels / d.groups) == group)
                    want[n * d.out_channels + o] = got[n * d.out_channels + o] = 0;
        }
        src[at] = 0;
    }

    /* The bound needs the sum of absolute values: the same layer on them. */
    for (size_t i = 0; i < n_in; i++)
        src[i] = fabsf(src[i]);
    for (size_t i = 0; i < n_w; i++)
        w[i] = fabsf(w[i]);
    for (size_t i = 0; i < d.out_channels; i++)
        b[i] = fabsf(b[i]);
    for (size_t i = 0; i < n_out; i++)
        r[i] = fabsf(r[i]);
    gw_conv_desc bare = d;
    bare.act = GW_ACT_NONE;
    float *bound = run(c, ref, &bare, w, bias ? b : NULL, src, residual ? r : NULL, false);
    for (size_t i = 0; i < n_out; i++)
        bound[i] = 6e-8f * (8 + sqrtf((float)k)) * bound[i] +
                   (act == GW_ACT_TANH || act == GW_ACT_SIGMOID ? 1e-6f : 1e-37f /* flushed denormals */);
    gw_check_f32(c, want, got, bound, n_out, "%s", what);
    gw_check_release(c);
}

static void bench_shape(gw_check *c, const gw_conv_ops *ref, const gw_conv_ops *cand, const shape *s)
{
    const gw_conv_desc d = {s->in,       s->out,     s->groups,   s->kernel, s->stride,
                            s->dilation, s->columns, GW_ACT_RELU, false};
    const size_t n_in = (size_t)gw_conv_in_columns(&d) * d.in_channels,
                 n_out = (size_t)d.columns * d.out_channels, k = d.in_channels / d.groups * d.kernel;
    float *src = gw_check_buffer(c, n_in * sizeof *src, 0),
          *w = gw_check_buffer(c, d.out_channels * k * 4, 0);
    float *dst = gw_check_buffer(c, n_out * sizeof *dst, 0);
    gw_check_fill_f32(c, GW_FILL_NORMAL, src, n_in);
    gw_check_fill_f32(c, GW_FILL_NORMAL, w, d.out_channels * k);
    call a = {ref, NULL, src, NULL, dst}, b = {cand, NULL, src, NULL, dst};
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
                check_shape(c, ref, cand, &shapes[i], (gw_check_fill)fill, (gw_act)((i + fill + rest) % 4),
                            rest & 1, rest & 2);
    /* What must be refused must be refused alike. */
    const gw_conv_desc bad[] = {{0, 1, 1, 1, 1, 1, 1, GW_ACT_NONE, false},
                                {1, 1, 1, 1, 0, 1, 1, GW_ACT_NONE, false},
                                {3, 4, 2, 1, 1, 1, 1, GW_ACT_NONE, false},
                                {4, 3, 2, 1, 1, 1, 1, GW_ACT_NONE, false},
                                {1u << 16, 1u << 16, 1, 3, 1, 1, 1, GW_ACT_NONE, false},
                                {1, 1, 1, 1u << 31, 1, 1u << 31, 1, GW_ACT_NONE, false},
                                {1u << 20, 1, 1, 1, 1u << 20, 1, 1u << 20, GW_ACT_NONE, false}};
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

typedef void (*two_fn)(size_t, gw_act, const float *, const float *, float *);

static void check_pointwise(gw_check *c, two_fn ref, two_fn cand, bool product)
{
    static const size_t sizes[] = {1, 2, 31, 64, 1023, 4096};
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
        for (int fill = 0; fill < GW_FILL_FINITE_COUNT; fill++) {
            for (int act = GW_ACT_NONE; act <= GW_ACT_SIGMOID; act++) {
                const size_t n = sizes[s];
                float *a = gw_check_buffer(c, n * 4, 4), *b = gw_check_buffer(c, n * 4, 8);
                float *want = gw_check_buffer(c, n * 4, 0), *got = gw_check_buffer(c, n * 4, 12);
                float *bound = gw_check_buffer(c, n * 4, 0);
                gw_check_fill_f32(c, (gw_check_fill)fill, a, n);
                gw_check_fill_f32(c, (gw_check_fill)fill, b, n);
                ref(n, (gw_act)act, a, b, want);
                cand(n, (gw_act)act, a, b, got);
                for (size_t i = 0; i < n; i++)
                    bound[i] = 2.4e-7f * (product ? fabsf(a[i] * b[i]) : fabsf(a[i]) + fabsf(b[i])) +
                               (act > GW_ACT_RELU ? 1e-6f : 1e-37f);
                gw_check_f32(c, want, got, bound, n, "%zu values%s, %s", n, act_text[act],
                             gw_check_fill_text((gw_check_fill)fill));
                gw_check_release(c);
            }
        }
    }
}

static void check_act(gw_check *c, const gw_conv_ops *ref, const gw_conv_ops *cand)
{
    for (int act = GW_ACT_NONE; act <= GW_ACT_SIGMOID; act++) {
        const size_t n = 1001;
        float *x = gw_check_buffer(c, n * 4, 4), *want = gw_check_buffer(c, n * 4, 0);
        float *got = gw_check_buffer(c, n * 4, 8), *bound = gw_check_buffer(c, n * 4, 0);
        gw_check_fill_f32(c, GW_FILL_NORMAL, x, n);
        for (size_t i = 0; i < n; i++) {
            x[i] *= i % 7 == 0 ? 1e4f : 2;
            bound[i] = act > GW_ACT_RELU ? 1e-6f : 0;
        }
        ref->act(n, (gw_act)act, x, want);
        cand->act(n, (gw_act)act, x, got);
        gw_check_f32(c, want, got, bound, n, "%zu values%s", n, act_text[act]);
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

static void run_conv(gw_check *c, const gw_kernels *r, const gw_kernels *k)
{
    if (gw_check_begin(c, "conv", (gw_check_fn)r->conv.run, (gw_check_fn)k->conv.run))
        check_layers(c, &r->conv, &k->conv);
    if (gw_check_begin(c, "add", (gw_check_fn)r->conv.add, (gw_check_fn)k->conv.add))
        check_pointwise(c, r->conv.add, k->conv.add, false);
    if (gw_check_begin(c, "mul", (gw_check_fn)r->conv.mul, (gw_check_fn)k->conv.mul))
        check_pointwise(c, r->conv.mul, k->conv.mul, true);
    if (gw_check_begin(c, "act", (gw_check_fn)r->conv.act, (gw_check_fn)k->conv.act))
        check_act(c, &r->conv, &k->conv);
    if (gw_check_begin(c, "mean", (gw_check_fn)r->conv.mean, (gw_check_fn)k->conv.mean))
        check_mean(c, &r->conv, &k->conv);
}

const gw_check_family gw_check_suite = {.name = "conv", .run = run_conv};
