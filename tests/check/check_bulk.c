/* SPDX-License-Identifier: GPL-3.0-or-later
 * Bulk whitening, each implementation against kernels/ref: a stream of several channels through everything
 * that happens to one (a filter that comes late, a cross-fade, a hole, a NaN, a gate), output and PSD; then
 * what the header promises beyond numbers. On the processor also each build of its loops against the plain
 * one. */
#include "tests/check/check.h"

#include "kernels/cpu/bulk_loops.h"
#include "kernels/cpu/fft32_block.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CHANNELS = 3, HOPS = 24, FADE_AT = 9, HOLE_AT = 13, NAN_AT = 16, GATE_AT = 19 };
enum { PAST_AT = 5, ABSENT_AT = 7, ALL_AT = 11, CLIPPED_AT = 15, DEAD_AT = 17 }; /* of shapes that judge */

/* rate, hop, taps, decimate, segment, pool, median of, memory, gate, half, dead run, taper */
static const gw_bulk_shape shapes[] = {
    {1024, 256, 256, 1, 512, 1, 0, 8, 50, false, 0, 0},  /* one transform, the segment's too */
    {1024, 256, 200, 1, 512, 4, 3, 4, 50, false, 0, 0},  /* pooled, medians */
    {1024, 256, 100, 1, 2048, 1, 0, 8, 50, false, 0, 0}, /* long segments: a transform of their own */
    {1024, 256, 256, 1, 128, 3, 0, 9, 50, false, 0, 0},  /* many short ones in a hop */
    {1024, 64, 1000, 1, 512, 1, 0, 8, 50, false, 0, 0},  /* blocks that grow */
    {1024, 64, 1024, 1, 1024, 1, 5, 2, 50, false, 0, 0}, /* the same, segment longer than the first level's */
    {1024, 66, 131, 1, 132, 1, 0, 8, 50, false, 0, 0},   /* awkward lengths */
    {1024, 250, 1, 1, 500, 7, 0, 1, 50, false, 0, 0},    /* one tap */
    {1024, 256, 600, 1, 0, 1, 0, 1, 0, false, 0, 0},     /* no PSD, no gate */
    {1024, 64, 600, 1, 128, 1, 0, 8, 50, true, 0, 0},    /* half precision */
    {1024, 256, 512, 2, 512, 1, 0, 8, 50, false, 0, 0},  /* decimation */
    {1024, 128, 512, 4, 256, 2, 0, 8, 50, false, 0, 0},  /* in blocks */
    {1024, 64, 768, 8, 0, 1, 0, 1, 50, true, 0, 0},
    {1024, 256, 256, 1, 512, 1, 0, 8, 50, false, 64, 100}, /* judged and gated */
    {1024, 250, 131, 1, 500, 1, 0, 8, 50, false, 16, 300},
    {1024, 64, 600, 2, 256, 1, 0, 8, 10, false, 64, 40},
};
enum { N_SHAPES = sizeof shapes / sizeof *shapes };

/* A decaying filter; before decimation one that ends 145 dB down where it must be zero (Kaiser). */
static void make_taps(gw_check *c, const gw_bulk_shape *s, double *taps)
{
    const uint32_t n = s->n_taps;
    if (s->decimate == 1) {
        for (uint32_t k = 0; k < n; k++)
            taps[k] = gw_check_normal(c) * exp(-4.0 * k / n);
        return;
    }
    const double beta = 15.5, width = 145 / (2.285 * 2 * M_PI * (n - 1)), cut = 0.5 / s->decimate - width;
    for (uint32_t k = 0; k < n; k++) {
        const double t = k - (n - 1) / 2.0, r = 2 * t / (n - 1), u = beta * sqrt(fmax(0, 1 - r * r));
        double bessel = 1, term = 1;
        for (int j = 1; j < 60; j++) {
            term *= u * u / (4.0 * j * j);
            bessel += term;
        }
        taps[k] = sin(2 * M_PI * cut * t) / (M_PI * t) * bessel * exp(-beta);
    }
}

/* One implementation at work on one shape. */
typedef struct rig {
    const gw_bulk_ops *ops;
    gw_bulk *b;
    gw_bulk_scratch *w;
    const gw_bulk_info *info;
    void *states, *responses;
    gw_bulk_channel channel[CHANNELS];
} rig;

static void *response_of(const rig *r, int i)
{
    return (char *)r->responses + (size_t)i * r->info->response_bytes;
}

static bool rig_new(gw_check *c, rig *r, const gw_bulk_ops *ops, const gw_bulk_shape *s, const double *taps)
{
    *r = (rig){.ops = ops};
    int err = ops->bulk_new(&r->b, s);
    if (err == GW_OK)
        err = ops->scratch_new(&r->w, r->b);
    if (err == GW_OK) {
        r->info = ops->info(r->b);
        err = ops->memory_new(&r->states, CHANNELS * r->info->state_bytes);
    }
    if (err == GW_OK)
        err = ops->memory_new(&r->responses, 2 * r->info->response_bytes);
    gw_check_that(c, err == GW_OK, "hop %u, %u taps: %s", s->hop, s->n_taps, gw_err_detail());
    if (err != GW_OK)
        return false;
    for (int i = 0; i < 2; i++)
        ops->prepare(r->w, taps + (size_t)i * s->n_taps, response_of(r, i));
    for (int i = 0; i < CHANNELS; i++) {
        void *state = (char *)r->states + (size_t)i * r->info->state_bytes;
        ops->state_clear(r->b, state);
        r->channel[i] = (gw_bulk_channel){.state = state, .response = response_of(r, 0), .scale = 1};
    }
    return true;
}

static void rig_destroy(rig *r)
{
    if (!r->ops)
        return;
    r->ops->memory_destroy(&r->states);
    r->ops->memory_destroy(&r->responses);
    r->ops->scratch_destroy(&r->w);
    r->ops->bulk_destroy(&r->b);
}

typedef struct stream {
    const gw_bulk_shape *s;
    const double *taps; /* [2][n_taps] */
    const float *x;     /* [HOPS][CHANNELS][hop] */
    size_t x_stride;
    float scale;
    bool denormal; /* samples: they count as 0 on the processor, so nobody may scale by them */
    int64_t hop0;
    gw_bulk_channel said[HOPS][CHANNELS];
    float *y; /* [CHANNELS][HOPS][hop / decimate] */
    float *psd[CHANNELS];
    uint32_t segments[CHANNELS];
} stream;

/* Channel 1 gets its filter late, all fade over at FADE_AT, channel 2 has a hole at HOLE_AT. */
static bool run_stream(gw_check *c, stream *t, const gw_bulk_ops *ops, uint32_t together)
{
    rig r;
    const gw_bulk_shape *s = t->s;
    const size_t n_out = s->hop / s->decimate;
    const bool made = rig_new(c, &r, ops, s, t->taps);
    for (int h = 0; made && h < HOPS; h++) {
        for (int i = 0; i < CHANNELS; i++) {
            r.channel[i].state = (char *)r.states + (size_t)i * r.info->state_bytes;
            r.channel[i].scale = s->dead_run && !t->denormal ? 0 : t->scale;
            r.channel[i].forget = GW_BULK_KEEP;
            r.channel[i].response = i == 1 && h < 3 ? NULL : response_of(&r, h >= FADE_AT);
            r.channel[i].fading = h == FADE_AT ? response_of(&r, 0) : NULL;
            for (size_t j = 0; j < n_out; j++) /* with a taper somebody must say 0 */
                t->y[((size_t)i * HOPS + (size_t)h) * n_out + j] = s->taper ? 7 : 0;
        }
        if (h == HOLE_AT)
            ops->past_clear(r.b, r.channel[2].state);
        if (s->dead_run && h == PAST_AT)
            r.channel[0].forget = GW_BULK_FORGET_PAST;
        if (s->dead_run && h == ALL_AT)
            r.channel[1].forget = GW_BULK_FORGET_ALL;
        if (s->dead_run && h == ABSENT_AT)
            r.channel[2].state = NULL;
        for (uint32_t i = 0; i < CHANNELS; i += together) {
            const uint32_t n = CHANNELS - i < together ? CHANNELS - i : together;
            ops->step(r.w, (t->hop0 + h) * s->hop, &r.channel[i], n,
                      t->x + ((size_t)h * CHANNELS + i) * t->x_stride, t->x_stride,
                      t->y + ((size_t)i * HOPS + (size_t)h) * n_out, HOPS * n_out);
        }
        memcpy(t->said[h], r.channel, sizeof r.channel);
    }
    volatile float small = 1e-40f;
    gw_check_that(c, small * 0.5f > 0, "numbers below 1e-38 work again after a step");
    for (int i = 0; made && i < CHANNELS; i++)
        t->segments[i] = ops->psd_get(r.b, r.channel[i].state, t->psd[i]); /* nobody is absent at the end */
    rig_destroy(&r);
    return made;
}

static void new_stream(gw_check *c, stream *t)
{
    const uint32_t bins = gw_bulk_psd_bins(t->s);
    t->y = gw_check_buffer(c, (size_t)CHANNELS * HOPS * (t->s->hop / t->s->decimate) * sizeof *t->y, 0);
    for (int i = 0; i < CHANNELS; i++) {
        t->psd[i] = gw_check_buffer(c, (bins + 1) * sizeof(float), 0);
        memset(t->psd[i], 0, (bins + 1) * sizeof(float));
    }
}

/* The same sample; one too small for a normal float may have become 0. */
static bool near(double a, double b)
{
    return a == b || fabs(a - b) <= 0x1p-126;
}

/* What the header says of a hop that is judged, whatever ref thinks. */
static void check_said(gw_check *c, const gw_bulk_shape *s, const stream *t)
{
    const uint32_t n_out = s->hop / s->decimate;
    gw_check_that(c, t->said[NAN_AT][0].health == GW_BULK_NAN && !t->said[NAN_AT][0].finite, "a NaN is seen");
    gw_check_that(c, t->said[DEAD_AT][2].health == GW_BULK_DEAD && t->said[DEAD_AT][2].finite, "a dead hop");
    if (s->dead_run > 20)
        gw_check_that(c, t->said[CLIPPED_AT][1].health == GW_BULK_SATURATED, "a clipped hop");
    uint32_t shut = 0;
    for (int h = GATE_AT; h < HOPS; h++) /* the spike comes out as late as the filter's peak lies */
        shut += t->said[h][1].muted ? t->said[h][1].shut : 0;
    gw_check_that(c, shut > 0, "the gate shuts");
    bool all_zero = true;
    for (int h = 0; h < HOPS; h++)
        for (int i = 0; i < CHANNELS; i++) {
            const gw_bulk_channel *k = &t->said[h][i];
            const bool absent = k->state == NULL, good = !absent && k->health == GW_BULK_GOOD;
            for (uint32_t j = 0; j < n_out && !(good && k->whole && k->response); j++)
                all_zero &= t->y[((size_t)i * HOPS + (size_t)h) * n_out + j] == 0;
        }
    gw_check_that(c, all_zero, "what may not be searched is 0");
}

static void check_shape(gw_check *c, const gw_bulk_ops *ref, const gw_bulk_ops *cand, const gw_bulk_shape *s,
                        gw_check_fill fill)
{
    const size_t stride = s->hop + 5; /* rows at any alignment */
    float *x = gw_check_buffer(c, HOPS * CHANNELS * stride * sizeof *x, 4);
    double *taps = gw_check_buffer(c, 2 * (size_t)s->n_taps * sizeof *taps, 0);
    make_taps(c, s, taps);
    for (uint32_t k = 0; k < s->n_taps; k++)
        taps[s->n_taps + k] = -0.5 * taps[k];
    gw_check_fill_f32(c, fill == GW_FILL_NAN || fill == GW_FILL_INF ? GW_FILL_NORMAL : fill, x,
                      HOPS * CHANNELS * stride);
    const float scale = fill == GW_FILL_TINY ? 0x1p70f : fill == GW_FILL_HUGE ? 0x1p-40f : 1;
    if (fill == GW_FILL_NAN || fill == GW_FILL_INF) {
        x[(NAN_AT * CHANNELS + 0) * stride + s->hop - 1] = fill == GW_FILL_NAN ? NAN : -INFINITY;
        x[(GATE_AT * CHANNELS + 1) * stride + 1] = s->segment ? 600 : 6;
        float *clipped = x + (CLIPPED_AT * CHANNELS + 1) * stride,
              *dead = x + (DEAD_AT * CHANNELS + 2) * stride;
        for (uint32_t j = 0; s->dead_run && j < s->hop; j++) {
            clipped[j] = j < 20 ? 0.7f : j == 40 ? 0.5f : j == 41 ? 0.5001f : fminf(clipped[j], 0.7f);
            dead[j] = j < s->dead_run ? -0.25f : dead[j];
        }
    }
    stream a = {.s = s,
                .taps = taps,
                .x = x,
                .x_stride = stride,
                .scale = scale,
                .denormal = fill == GW_FILL_DENORMAL,
                .hop0 = 7},
           b = a, alone = a;
    new_stream(c, &a);
    new_stream(c, &b);
    new_stream(c, &alone);
    const char *name = gw_check_fill_text(fill);
    if (!run_stream(c, &a, ref, CHANNELS) || !run_stream(c, &b, cand, CHANNELS) ||
        !run_stream(c, &alone, cand, 1)) {
        gw_check_release(c);
        return;
    }
    if (s->dead_run && fill == GW_FILL_NAN)
        check_said(c, s, &b);
    const size_t n = (size_t)HOPS * (s->hop / s->decimate), bins = gw_bulk_psd_bins(s);
    const double bound = s->half ? 3e-4 : 1e-6, floor = 1e-30;
    float *at_most = gw_check_buffer(c, n * sizeof *at_most, 0);
    bool said_alike = true, same = true;
    for (int i = 0; i < CHANNELS; i++) {
        const float *want = a.y + (size_t)i * n, *got = b.y + (size_t)i * n;
        double square = 0, error = 0, mean = 0;
        for (size_t j = 0; j < n; j++) {
            square += (double)want[j] * (double)want[j] / (double)n;
            error += pow((double)got[j] - (double)want[j], 2) / (double)n;
        }
        gw_check_that(c, sqrt(error) <= bound * sqrt(square) + floor,
                      "hop %u, %u taps, / %u, %s, channel %d: rms error %.3g of the output", s->hop,
                      s->n_taps, s->decimate, name, i, sqrt(error / square));
        double most = 0;
        for (size_t j = 0; j < n; j++)
            most = fmax(most, fabs((double)want[j]));
        for (int h = 0; h < HOPS; h++) /* before the gate */
            most = fmax(most, (double)a.said[h][i].peak);
        for (size_t j = 0; j < n; j++) /* a spike's rounding is spread over its window */
            at_most[j] = (float)(bound * (6 * sqrt(square) + fabs((double)want[j]) + 0.05 * most) + floor);
        gw_check_f32(c, want, got, at_most, n, "hop %u, %u taps, / %u, %s, channel %d", s->hop, s->n_taps,
                     s->decimate, name, i);
        gw_check_that(c, a.segments[i] == b.segments[i],
                      "hop %u, segment %u, %s, channel %d: %u segments, not %u", s->hop, s->segment, name, i,
                      b.segments[i], a.segments[i]);
        float limit[4096];
        for (size_t k = 0; k < bins; k++)
            mean += (double)a.psd[i][k] / (double)bins;
        for (size_t k = 0; k < bins; k++)
            limit[k] = (float)(1e-6 * ((double)a.psd[i][k] + 0.1 * mean));
        gw_check_f32(c, a.psd[i], b.psd[i], limit, bins,
                     "PSD: hop %u, segment %u, pool %u, median %u, %s, channel %d", s->hop, s->segment,
                     s->pool, s->median_of, name, i);
        same &= memcmp(got, alone.y + (size_t)i * n, n * sizeof *got) == 0 &&
                memcmp(b.psd[i], alone.psd[i], bins * sizeof(float)) == 0;
        for (int h = 0; h < HOPS; h++) /* before the gate */
            most = fmax(most, (double)a.said[h][i].peak);
        for (int h = 0; h < HOPS; h++) {
            const gw_bulk_channel *u = &a.said[h][i], *v = &b.said[h][i];
            const bool alike =
                u->finite == v->finite && u->whole == v->whole && u->entered == v->entered &&
                u->health == v->health && u->shut == v->shut && u->muted == v->muted &&
                u->scale == v->scale &&
                fabs((double)u->peak - (double)v->peak) <=
                    bound * (6 * sqrt(square) + most + 1e-7 * fabs((double)(u->high * u->scale))) + floor &&
                (!u->finite ||
                 (near((double)u->low, (double)v->low) && near((double)u->high, (double)v->high)));
            if (!alike && said_alike)
                gw_check_that(
                    c, false,
                    "hop %u, %u taps, segment %u, %s, channel %d, hop number %d: finite %d %d, whole "
                    "%d %d, entered %d %d, health %d %d, shut %u %u, muted %d %d, scale %g %g, peak %g %g, "
                    "low %g %g, "
                    "high %g %g",
                    s->hop, s->n_taps, s->segment, name, i, h, u->finite, v->finite, u->whole, v->whole,
                    u->entered, v->entered, u->health, v->health, u->shut, v->shut, u->muted, v->muted,
                    (double)u->scale, (double)v->scale, (double)u->peak, (double)v->peak, (double)u->low,
                    (double)v->low, (double)u->high, (double)v->high);
            said_alike &= alike;
        }
    }
    gw_check_that(c, same, "hop %u, %u taps, %s: a channel's bits depend on its neighbours", s->hop,
                  s->n_taps, name);
    if (fill ==
        GW_FILL_NORMAL) { /* a power of two in the input and its inverse in the scale: the same bits */
        float *tiny = gw_check_buffer(c, HOPS * CHANNELS * stride * sizeof *tiny, 0);
        for (size_t j = 0; j < HOPS * CHANNELS * stride; j++)
            tiny[j] = ldexpf(x[j], -70);
        alone.x = tiny;
        alone.scale = 0x1p70f;
        run_stream(c, &alone, cand, CHANNELS);
        gw_check_that(c,
                      memcmp(alone.y, b.y, CHANNELS * n * sizeof *b.y) == 0 &&
                          memcmp(alone.psd[0], b.psd[0], bins * sizeof(float)) == 0,
                      "hop %u, %u taps: samples of 1e-21 give other bits", s->hop, s->n_taps);
    }
    gw_check_release(c);
}

typedef struct call {
    rig r;
    const gw_bulk_shape *s;
    const float *x;
    float *y;
    int64_t sample0;
} call;

static void one_hop(void *arg)
{
    call *k = arg;
    k->r.ops->step(k->r.w, k->sample0, k->r.channel, CHANNELS, k->x, k->s->hop, k->y,
                   k->s->hop / k->s->decimate);
    k->sample0 += k->s->hop;
}

static void bench_step(gw_check *c, const gw_bulk_ops *ref, const gw_bulk_ops *cand)
{
    static const gw_bulk_shape some[] = {{16384, 1024, 1024, 1, 2048, 1, 0, 64, 0, false, 0, 0},
                                         {16384, 512, 1024, 4, 0, 1, 0, 1, 0, false, 0, 0}};
    for (size_t i = 0; i < sizeof some / sizeof *some; i++) {
        const gw_bulk_shape *s = &some[i];
        double *taps = gw_check_buffer(c, 2 * (size_t)s->n_taps * sizeof *taps, 0);
        float *x = gw_check_buffer(c, (size_t)CHANNELS * s->hop * sizeof *x, 0);
        float *y = gw_check_buffer(c, (size_t)CHANNELS * s->hop * sizeof *y, 0);
        memset(taps, 0, 2 * (size_t)s->n_taps * sizeof *taps);
        gw_check_fill_f32(c, GW_FILL_NORMAL, x, (size_t)CHANNELS * s->hop);
        call a = {.s = s, .x = x, .y = y}, b = a;
        const bool made = rig_new(c, &a.r, ref, s, taps) && rig_new(c, &b.r, cand, s, taps);
        const double n = s->hop + s->n_taps;
        char what[64];
        snprintf(what, sizeof what, "hop %u, %u taps, / %u", s->hop, s->n_taps, s->decimate);
        if (made)
            gw_check_bench(c, what, CHANNELS * 2.5 * n * log2(n) * (1 + 1.0 / s->decimate),
                           CHANNELS * 4.0 * s->hop * (1 + 1.0 / s->decimate), one_hop, &a, one_hop, &b);
        rig_destroy(&a.r);
        rig_destroy(&b.r);
        gw_check_release(c);
    }
}

/* What was set comes back, and a next segment weighs as the count says. */
static void check_psd_set(gw_check *c, const gw_bulk_ops *cand)
{
    const gw_bulk_shape *s = &shapes[0];
    const uint32_t bins = gw_bulk_psd_bins(s);
    double *taps = gw_check_buffer(c, 2 * (size_t)s->n_taps * sizeof *taps, 0);
    float *psd = gw_check_buffer(c, bins * sizeof *psd, 4), *got = gw_check_buffer(c, bins * sizeof *got, 4);
    memset(taps, 0, 2 * (size_t)s->n_taps * sizeof *taps);
    for (uint32_t k = 0; k < bins; k++)
        psd[k] = (float)(1 + gw_check_below(c, 100));
    rig r;
    if (rig_new(c, &r, cand, s, taps)) {
        void *state = r.channel[0].state;
        gw_check_that(c, cand->psd_get(r.b, state, got) == 0, "a PSD of no segment");
        cand->psd_set(r.b, state, psd, 5);
        gw_check_that(c, cand->psd_get(r.b, state, got) == 5 && memcmp(psd, got, bins * sizeof *psd) == 0,
                      "a PSD that was set comes back");
        cand->past_clear(r.b, state);
        gw_check_that(c, cand->psd_get(r.b, state, got) == 5, "a PSD outlives a hole");
        cand->state_clear(r.b, state);
        gw_check_that(c, cand->psd_get(r.b, state, got) == 0, "a cleared state has no PSD");
    }
    rig_destroy(&r);
    gw_check_release(c);
}

/* Shapes that cannot be: refused with a word. */
static void check_refusals(gw_check *c, const gw_bulk_ops *cand)
{
    static const gw_bulk_shape bad[] = {{0, 256, 256, 1, 512, 1, 0, 8, 0, false, 0, 0},
                                        {1024, 63, 256, 1, 0, 1, 0, 8, 0, false, 0, 0},
                                        {1024, 255, 256, 1, 0, 1, 0, 8, 0, false, 0, 0},
                                        {1024, 256, 0, 1, 0, 1, 0, 8, 0, false, 0, 0},
                                        {1024, 256, 256, 3, 0, 1, 0, 8, 0, false, 0, 0},
                                        {1024, 68, 256, 8, 0, 1, 0, 8, 0, false, 0, 0},
                                        {1024, 256, 256, 1, 300, 1, 0, 8, 0, false, 0, 0},
                                        {1024, 256, 256, 1, 513, 1, 0, 8, 0, false, 0, 0},
                                        {1024, 256, 256, 1, 512, 0, 0, 8, 0, false, 0, 0},
                                        {1024, 256, 256, 1, 512, 1, 4, 8, 0, false, 0, 0},
                                        {1024, 256, 256, 1, 512, 1, 65, 8, 0, false, 0, 0},
                                        {1024, 256, 256, 1, 512, 1, 0, 0, 0, false, 0, 0},
                                        {1024, 256, 256, 1, 512, 1, 0, 8, NAN, false, 0, 0},
                                        {1024, 256, 256, 1, 512, 1, 0, 8, 0, false, 15, 0},
                                        {1024, 256, 256, 1, 512, 1, 0, 8, 0, false, 257, 0}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        gw_bulk *b = NULL;
        gw_err_clear();
        const int err = cand->bulk_new(&b, &bad[i]);
        gw_check_that(c, err == GW_ERANGE && b == NULL && gw_err_detail()[0],
                      "impossible shape %zu was refused", i);
        cand->bulk_destroy(&b);
    }
}

/* ---- the builds of the loops ---- */

/* What is not suspicious is good; and noise seldom is. */
static void check_glance(gw_check *c, const gw_bulk_loops *cand)
{
    enum { N = 256, RUN = 16, TRIALS = 2000 };
    float x[N + 1], to[N];
    int clear = 0;
    for (int trial = 0; trial < TRIALS; trial++) {
        const uint32_t n = N - 2 * gw_check_below(c, 20), at = gw_check_below(c, n),
                       long_ = gw_check_below(c, 40);
        for (uint32_t i = 0; i < n; i++)
            x[i + 1] = (float)gw_check_normal(c);
        const float low = trial % 3 == 1 ? -1.2f : -INFINITY;
        for (uint32_t i = 0; i < n; i++)
            x[i + 1] = fmaxf(x[i + 1], low);
        for (uint32_t i = at; trial % 3 == 2 && i < n && i < at + long_; i++)
            x[i + 1] = i % 2 ? 0.0f : -0.0f;
        const bool suspicious = cand->take(to, x + 1, 1, n, NULL, NULL).suspicious;
        if (!suspicious && gw_bulk_judge(x + 1, n, RUN) != GW_BULK_GOOD)
            gw_check_that(c, false, "trial %d: not good, but not suspicious", trial);
        clear += trial % 3 == 0 && !suspicious;
    }
    gw_check_that(c, clear > TRIALS / 3 * 99 / 100, "noise is suspicious: only %d clear", clear);
}

static void check_loops(gw_check *c, const gw_bulk_loops *ref, const gw_bulk_loops *cand)
{
    enum { N = 1000 * 2, PARTS = 3 };
    float *a = gw_check_buffer(c, 4 * (N + 64) * sizeof *a, 0), *y0 = gw_check_buffer(c, N * sizeof *y0, 0);
    float *y1 = gw_check_buffer(c, N * sizeof *y1, 0), *limit = gw_check_buffer(c, N * sizeof *limit, 0);
    uint16_t *h0 = gw_check_buffer(c, N * sizeof *h0, 0), *h1 = gw_check_buffer(c, N * sizeof *h1, 0);
    gw_check_fill_f32(c, GW_FILL_NORMAL, a, 4 * (N + 64));
    for (int i = 0; i < N; i++)
        limit[i] = 1e-5f;
    const float *x[PARTS] = {a, a + N + 64, a + 2 * (N + 64)};
    const void *w[PARTS] = {a + 64, a + N, a + 3 * (N + 64)};
    for (size_t n = 1; n < 60; n += 7) {
        const gw_bulk_range u = ref->take(y0, a + 3, 2, n, NULL, NULL),
                            v = cand->take(y1, a + 3, 2, n, NULL, NULL);
        gw_check_that(c, u.low == v.low && u.high == v.high && u.finite && v.finite && !memcmp(y0, y1, 4 * n),
                      "take of %zu", n);
        float past[60], block[2][60];
        memcpy(past, a + 100, n * sizeof *past);
        cand->take(block[1], a + 3, 2, n, past, past);
        gw_check_that(c,
                      !memcmp(block[0] + 60 - n, a + 100, 4 * n) && !memcmp(block[1], y0, 4 * n) &&
                          !memcmp(past, y0, 4 * n),
                      "take of %zu with its past", n);
        gw_check_that(c,
                      ref->give(y0, a, a + 1, n, false) == cand->give(y1, a, a + 1, n, true) &&
                          !memcmp(y0, y1, 4 * n),
                      "give of %zu", n);
        const float p0 = ref->fade(y0, a + 9, a + 77, n), p1 = cand->fade(y1, a + 9, a + 77, n);
        gw_check_that(c, fabsf(p0 - p1) < 1e-5f, "the peak of a fade of %zu", n);
        gw_check_f32(c, y0, y1, limit, n, "fade of %zu", n);
        ref->average(y0, a + 5, 0.25f, n);
        cand->average(y1, a + 5, 0.25f, n);
        gw_check_f32(c, y0, y1, limit, n, "average of %zu", n);
        ref->power_average(y0, a + 16, 3, 0.25f, n);
        cand->power_average(y1, a + 16, 3, 0.25f, n);
        gw_check_f32(c, y0, y1, limit, n, "average of powers of %zu", n);
        ref->power(y0, a + 16, 3, n);
        cand->power(y1, a + 16, 3, n);
        gw_check_f32(c, y0, y1, limit, n, "power of %zu", n);
        for (uint32_t rows = 1; rows <= 7; rows += 2) {
            const float *row[7] = {a, a + 100, a + 200, a + 300, a + 400, a + 500, a + 600};
            ref->median(y0, row, rows, 1, n);
            cand->median(y1, row, rows, 1, n);
            gw_check_that(c, !memcmp(y0, y1, 4 * n), "median of %u, %zu", rows, n);
        }
        for (size_t at = 0; at < n; at++) { /* wherever it lies */
            float keep = a[3 + at];
            a[3 + at] = at % 2 ? NAN : INFINITY;
            gw_check_that(c,
                          !cand->take(y1, a + 3, 2, n, NULL, NULL).finite &&
                              !isfinite(cand->give(y1, a + 3, NULL, n, true)),
                          "%g at %zu of %zu", (double)a[3 + at], at, n);
            a[3 + at] = keep;
        }
    }
    check_glance(c, cand);
    for (uint32_t d = 2; d <= 8; d *= 2) {
        memcpy(y0, a + 7, N * sizeof *y0);
        memcpy(y1, a + 7, N * sizeof *y1);
        ref->fold(y0, 1600, d);
        cand->fold(y1, 1600, d);
        gw_check_f32(c, y0, y1, limit, 2 * (1600 / (2 * d) + 1), "fold by %u", d);
    }
    for (uint32_t parts = 1; parts <= PARTS; parts++) {
        ref->multiply(y0, x, w, parts, false, 1, N / 16 * 16);
        cand->multiply(y1, x, w, parts, false, 1, N / 16 * 16);
        gw_check_f32(c, y0, y1, limit, N / 16 * 16, "product of %u", parts);
    }
    for (int i = 0; i < N; i++) /* every exponent, and denormals of the half */
        y0[i] = ldexpf(a[i], i % 44 - 28);
    y0[0] = 0;
    ref->to_half(h0, y0, N);
    cand->to_half(h1, y0, N);
    gw_check_that(c, !memcmp(h0, h1, N * sizeof *h0), "to half precision");
    for (int i = 0; i < 16; i++) /* times 1 + 0 i */
        a[i] = i % 2 ? 0 : 1;
    for (int i = 0; i < N / 16 * 16; i += 16) {
        const float *one[1] = {a};
        const void *what[1] = {h0 + i};
        cand->multiply(y1 + i, one, what, 1, true, 2, 16);
        ref->multiply(a + N + i, one, what, 1, true, 2, 16);
        for (int k = i; k < i + 16; k++) {
            limit[k] = fabsf(y0[k]) > 65504 ? INFINITY : fmaxf(fabsf(y0[k]) * 0x1p-10f, 0x1p-24f);
            y0[k] *= 2;
        }
    }
    gw_check_f32(c, y0, y1, limit, N / 16 * 16, "from half precision");
    gw_check_that(c, !memcmp(a + N, y1, N / 16 * 16 * sizeof *y1), "the same from half precision");
    gw_check_release(c);
}

/* There and back in one go, of x[n] with the spectrum freq[n + 2]: with responses in both precisions, all
 * samples and the later half, at the full rate and the lower ones. */
static void check_product(gw_check *c, const gw_fft32_block_ops *cand, const gw_fft32_block *t, uint32_t n,
                          const float *x, const float *freq)
{
    enum { MORE = 64 };
    float *h = gw_check_buffer(c, (n + MORE) * sizeof *h, 0),
          *whole = gw_check_buffer(c, (n + MORE) * sizeof *h, 0);
    uint16_t *halves = gw_check_buffer(c, (n + MORE) * sizeof *halves, 0);
    float *work = gw_check_buffer(c, (n + 2) * sizeof *h, 0),
          *keep = gw_check_buffer(c, (n + MORE) * sizeof *h, 0);
    float *want = gw_check_buffer(c, n * sizeof *h, 0), *got = gw_check_buffer(c, (n + 2) * sizeof *h, 0);
    gw_check_fill_f32(c, GW_FILL_NORMAL, h, n + MORE);
    h[1] = h[n + 1] = 0;
    gw_bulk_loops_any.to_half(halves, h, n + MORE);
    for (int half = 0; half < 2; half++) {
        if (half)
            for (uint32_t k = 0; k < n + 2; k++) /* h = 2 * (a half, exactly) */
                h[k] = (float)(int)(h[k] * 8) / 8;
        if (half)
            gw_bulk_loops_any.to_half(halves, h, n + MORE);
        const float factor = half ? 2 : 1;
        for (uint32_t k = 0; k <= n / 2; k++) {
            const double a = (double)freq[2 * k], b = (double)freq[2 * k + 1],
                         u = (double)(factor * h[2 * k]), v = (double)(factor * h[2 * k + 1]);
            whole[2 * k] = (float)(a * u - b * v);
            whole[2 * k + 1] = (float)(a * v + b * u);
        }
        gw_fft32_product f = {half ? (const void *)halves : h, half, factor, keep, 0};
        for (uint32_t d = 2; d <= 8; d *= 2) {
            if (n % (64 * d))
                continue;
            cand->low_product(t, &f, n / 2 / d, x, work, got, &(gw_fft32_ahead){.lines = 0});
            gw_check_rms_f32(c, whole, got, n / d, 4e-6, 0, "%u points, the lowest of %u, half %d", n, d,
                             half);
            gw_check_that(c, got[n / d] == 0 && got[n / d + 1] == 0, "a bin of 0 behind them");
        }
        if (!cand->can_filter(t))
            continue;
        memcpy(work, whole, (n + 2) * sizeof *work);
        cand->inverse(t, work, want, &(gw_fft32_ahead){.lines = 0});
        cand->filter(t, &f, x, work, got, &(gw_fft32_ahead){.lines = 0});
        gw_check_rms_f32(c, want, got, n, 4e-6, 0, "%u points, filtered, half %d", n, half);
        gw_check_rms_f32(c, freq, keep, n + 2, 4e-6, 0, "%u points, filtered, its spectrum", n);
        f.keep = NULL;
        f.from = n / 2;
        memset(got, 0, n * sizeof *got);
        cand->filter(t, &f, x, work, got, &(gw_fft32_ahead){.lines = 0});
        gw_check_rms_f32(c, want + n / 2, got + n / 2, n / 2, 4e-6, 0, "%u points, filtered, the later half",
                         n);
    }
}

/* Transforms of every length that is ours, there and back, in every build that this processor runs. */
static void check_transforms(gw_check *c, const gw_spectrum_ops *ref, const gw_fft32_block_ops *cand)
{
    for (uint32_t n = gw_fft32_our_length(1, 2); n && n <= 70000; n = gw_fft32_our_length(n + 1, 2)) {
        gw_fft *f = NULL;
        gw_fft32_block *t = cand->tables_new(n, gw_fft32_block_rows(n));
        const bool made = ref->fft_new(&f, n) == GW_OK && t;
        gw_check_that(c, made, "memory for %u points", n);
        float *x = gw_check_buffer(c, n * sizeof *x, 0), *freq = gw_check_buffer(c, (n + 2) * sizeof *x, 0);
        float *want = gw_check_buffer(c, (n + 2) * sizeof *x, 0),
              *back = gw_check_buffer(c, n * sizeof *x, 0);
        gw_check_fill_f32(c, GW_FILL_NORMAL, x, n);
        gw_fft32_ahead ahead = {
            .at = {(const char *)x, NULL, (const char *)want}, .bytes = {100, 0, 70}, .lines = 2};
        if (made) {
            for (uint32_t j = 0; j < n; j++)
                f->time[j] = (double)x[j];
            ref->fft_forward(f);
            for (uint32_t k = 0; k <= n / 2; k++) {
                want[2 * k] = (float)f->freq[k].re;
                want[2 * k + 1] = (float)f->freq[k].im;
            }
            cand->forward(t, x, freq, &ahead);
            gw_check_rms_f32(c, want, freq, n + 2, 2e-6, 0, "%u points, forward", n);
            memcpy(freq, want, (n + 2) * sizeof *freq);
            freq[1] = freq[n + 1] = 1000; /* does not count */
            cand->inverse(t, freq, back, &ahead);
            for (uint32_t j = 0; j < n; j++)
                back[j] /= (float)n;
            gw_check_rms_f32(c, x, back, n, 2e-6, 0, "%u points, inverse", n);
            check_product(c, cand, t, n, x, want);
        }
        free(t);
        ref->fft_destroy(&f);
        gw_check_release(c);
    }
}

static void run_bulk(gw_check *c, const gw_kernels *r, const gw_kernels *k)
{
    if (gw_check_begin(c, "step", (gw_check_fn)r->bulk.step, (gw_check_fn)k->bulk.step)) {
        for (int i = 0; i < N_SHAPES; i++)
            for (int fill = 0; fill < GW_FILL_COUNT; fill++)
                check_shape(c, &r->bulk, &k->bulk, &shapes[i], (gw_check_fill)fill);
        bench_step(c, &r->bulk, &k->bulk);
    }
    if (gw_check_begin(c, "psd_set", (gw_check_fn)r->bulk.psd_set, (gw_check_fn)k->bulk.psd_set))
        check_psd_set(c, &k->bulk);
    if (gw_check_begin(c, "bulk_new", (gw_check_fn)r->bulk.bulk_new, (gw_check_fn)k->bulk.bulk_new))
        check_refusals(c, &k->bulk);
    static const struct {
        const char *op[2];
        const gw_bulk_loops *loops;
        const gw_fft32_block_ops *fft;
    } build[] = {
        {{"transforms any", "loops any"}, &gw_bulk_loops_any, &gw_fft32_block_any},
#ifdef __x86_64__
        {{"transforms avx2", "loops avx2"}, &gw_bulk_loops_avx2, &gw_fft32_block_avx2},
        {{"transforms avx512", "loops avx512"}, &gw_bulk_loops_avx512, &gw_fft32_block_avx512},
#endif
    };
    for (size_t i = 0; i < sizeof build / sizeof *build; i++) {
        if (gw_check_begin(c, build[i].op[0], NULL, (gw_check_fn)build[i].fft->forward))
            check_transforms(c, &k->spectrum, build[i].fft);
        if (gw_check_begin(c, build[i].op[1], NULL, (gw_check_fn)build[i].loops->multiply))
            check_loops(c, &gw_bulk_loops_any, build[i].loops);
        if (build[i].loops == gw_bulk_loops_best())
            break;
    }
}

const gw_check_family gw_check_suite = {.name = "bulk", .run = run_bulk};
