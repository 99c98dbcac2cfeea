/* SPDX-License-Identifier: GPL-3.0-or-later
 * Bulk whitening by its definition, in double: direct sums, a Hann window in time, a sort for the median.
 * Written to be read; a second of one channel takes a good part of a second. */
#include "kernels/bulk_shared.h"
#include "kernels/spectrum.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

struct gw_bulk {
    gw_bulk_shape shape;
    gw_bulk_info info;
    uint32_t past; /* samples before the hop that filter or PSD look at */
    double bias;
};

struct gw_bulk_scratch {
    const gw_bulk *b;
    gw_spectrum_ops ops;
    gw_fft *fft;   /* one segment; NULL without a PSD */
    double *x;     /* [past + hop] scaled samples; the hop begins at past */
    double *power; /* [psd_bins] */
};

/* What a channel's state begins with. The arrays follow one after the other. */
typedef struct ref_state {
    int64_t next;       /* the sample expected next; INT64_MIN: any */
    int64_t past_from;  /* first sample since the last hole */
    int64_t clean_from; /* first one that may be in a segment */
    int64_t opens;      /* the gate: gw_bulk_settle */
    uint32_t averaged;  /* segments or medians in the PSD */
    uint32_t collected; /* segments waiting for their median */
    float scale;        /* of the last good hop; 0: there was none */
    double data[];      /* past, PSD, rows of powers */
} ref_state;

static double *past_of(ref_state *s)
{
    return s->data;
}

static double *psd_of(const gw_bulk *b, ref_state *s)
{
    return s->data + b->past;
}

static double *row_of(const gw_bulk *b, ref_state *s, uint32_t row)
{
    return psd_of(b, s) + (size_t)(1 + row) * b->info.psd_bins;
}

static void bulk_destroy(gw_bulk **b)
{
    free(*b);
    *b = NULL;
}

static int bulk_new(gw_bulk **out, const gw_bulk_shape *s)
{
    *out = NULL;
    GW_TRY(gw_bulk_shape_check(s));
    gw_bulk *b = calloc(1, sizeof *b);
    if (!b)
        return gw_fail(GW_ENOMEM, "bulk whitening");
    b->shape = *s;
    b->past = s->n_taps - 1 > s->segment ? s->n_taps - 1 : s->segment;
    b->bias = gw_bulk_median_bias(s);
    b->info = (gw_bulk_info){.psd_bins = gw_bulk_psd_bins(s), .n_partitions = 1, .layout = "direct sums"};
    b->info.state_bytes =
        sizeof(ref_state) + sizeof(double) * (b->past + (size_t)(1 + s->median_of) * b->info.psd_bins);
    b->info.state_bytes = (b->info.state_bytes + 63) / 64 * 64;
    b->info.response_bytes = (s->n_taps * sizeof(double) + 63) / 64 * 64;
    *out = b;
    return GW_OK;
}

static const gw_bulk_info *info(const gw_bulk *b)
{
    return &b->info;
}

static void scratch_destroy(gw_bulk_scratch **out)
{
    gw_bulk_scratch *w = *out;
    if (!w)
        return;
    w->ops.fft_destroy(&w->fft);
    free(w->x);
    free(w->power);
    free(w);
    *out = NULL;
}

static int scratch_new(gw_bulk_scratch **out, const gw_bulk *b)
{
    *out = NULL;
    gw_bulk_scratch *w = calloc(1, sizeof *w);
    if (!w)
        return gw_fail(GW_ENOMEM, "bulk whitening");
    w->b = b;
    gw_spectrum_ref(&w->ops);
    w->x = calloc((size_t)b->past + b->shape.hop, sizeof *w->x);
    w->power = calloc(b->info.psd_bins + 1, sizeof *w->power);
    int err = w->x && w->power ? GW_OK : gw_fail(GW_ENOMEM, "bulk whitening");
    if (err == GW_OK && b->shape.segment)
        err = w->ops.fft_new(&w->fft, b->shape.segment);
    if (err != GW_OK) {
        scratch_destroy(&w);
        return err;
    }
    *out = w;
    return GW_OK;
}

static int memory_new(void **m, size_t bytes)
{
    *m = aligned_alloc(64, (bytes + 63) / 64 * 64);
    return *m ? GW_OK : gw_fail(GW_ENOMEM, "bulk whitening: %zu bytes", bytes);
}

static void memory_destroy(void **m)
{
    free(*m);
    *m = NULL;
}

static void past_clear(const gw_bulk *b, void *state)
{
    ref_state *s = state;
    s->next = s->opens = INT64_MIN;
    memset(past_of(s), 0, b->past * sizeof(double));
}

static void state_clear(const gw_bulk *b, void *state)
{
    ref_state *s = state;
    memset(s, 0, b->info.state_bytes);
    past_clear(b, state);
}

static void prepare(gw_bulk_scratch *w, const double *taps, void *response)
{
    memcpy(response, taps, w->b->shape.n_taps * sizeof *taps);
}

/* Sum over k of taps[k] x[at - k]. */
static double filtered(const gw_bulk *b, const double *taps, const double *x, uint32_t at)
{
    double sum = 0;
    for (uint32_t k = 0; k < b->shape.n_taps; k++)
        sum += taps[k] * x[at - k];
    return sum;
}

/* Powers of x[segment], pooled: one-sided, per Hz. */
static void segment_power(gw_bulk_scratch *w, const double *x)
{
    const gw_bulk *b = w->b;
    const uint32_t n = b->shape.segment, pool = b->shape.pool;
    double mean = 0, square = 0;
    for (uint32_t j = 0; j < n; j++)
        mean += x[j] / n;
    for (uint32_t j = 0; j < n; j++) {
        const double hann = 0.5 - 0.5 * cos(2 * M_PI * j / n);
        square += hann * hann;
        w->fft->time[j] = (x[j] - mean) * hann;
    }
    w->ops.fft_forward(w->fft);
    for (uint32_t k = 0; k < b->info.psd_bins; k++) {
        const uint32_t end = (k + 1) * pool < n / 2 + 1 ? (k + 1) * pool : n / 2 + 1;
        double sum = 0;
        for (uint32_t i = k * pool; i < end; i++) {
            const gw_complex z = w->fft->freq[i];
            sum += (z.re * z.re + z.im * z.im) * (i == 0 || i == n / 2 ? 1 : 2);
        }
        w->power[k] = sum / (end - k * pool) / (square * b->shape.rate_hz);
    }
}

static int ascending(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* w->power enters the average, or waits for the others of its median. */
static void enter(gw_bulk_scratch *w, ref_state *s)
{
    const gw_bulk *b = w->b;
    const uint32_t n = b->shape.median_of;
    if (n) {
        memcpy(row_of(b, s, s->collected), w->power, b->info.psd_bins * sizeof *w->power);
        if (++s->collected < n)
            return;
        s->collected = 0;
        for (uint32_t k = 0; k < b->info.psd_bins; k++) {
            double bin[GW_BULK_MEDIAN_MAX];
            for (uint32_t i = 0; i < n; i++)
                bin[i] = row_of(b, s, i)[k];
            qsort(bin, n, sizeof *bin, ascending);
            w->power[k] = bin[n / 2] / b->bias;
        }
    }
    s->averaged += s->averaged < UINT32_MAX;
    const double weight = 1.0 / (s->averaged < b->shape.memory ? s->averaged : b->shape.memory);
    for (uint32_t k = 0; k < b->info.psd_bins; k++)
        psd_of(b, s)[k] += weight * (w->power[k] - psd_of(b, s)[k]);
}

/* What is known of x[hop] before it is filtered. */
static void examine(const gw_bulk *b, const ref_state *s, gw_bulk_channel *c, const float *x)
{
    float low = x[0], high = x[0];
    bool finite = true;
    for (uint32_t j = 0; j < b->shape.hop; j++) {
        low = x[j] < low ? x[j] : low;
        high = x[j] > high ? x[j] : high;
        finite &= isfinite(x[j]) != 0;
    }
    gw_bulk_examine(&b->shape, c, x, s->scale, low, high, finite, true);
}

/* y[n_out] of the samples in w->x. */
static void filter(gw_bulk_scratch *w, gw_bulk_channel *c, float *y)
{
    const gw_bulk *b = w->b;
    const uint32_t n_out = b->shape.hop / b->shape.decimate;
    for (uint32_t j = 0; j < n_out; j++) {
        const uint32_t at = b->past + j * b->shape.decimate;
        double v = filtered(b, c->response, w->x, at);
        if (c->fading) {
            const double old = filtered(b, c->fading, w->x, at), rise = sin(M_PI / 2 * j / n_out);
            v = old + rise * rise * (v - old);
        }
        y[j] = (float)v;
        c->finite &= isfinite(y[j]) != 0;
        c->peak = fmaxf(c->peak, fabsf(y[j]));
    }
    if (!c->finite)
        c->health = GW_BULK_NAN;
}

/* The segments that end in the hop that w->x holds. */
static void take_segments(gw_bulk_scratch *w, ref_state *s, gw_bulk_channel *c, int64_t sample0)
{
    const gw_bulk *b = w->b;
    const int64_t half = b->shape.segment / 2;
    for (int64_t end = (sample0 / half + 1) * half; end <= s->next; end += half)
        if (s->clean_from <= end - 2 * half) {
            segment_power(w, w->x + (b->past + (end - sample0) - 2 * half));
            enter(w, s);
            c->entered = true;
        }
}

static void step_one(gw_bulk_scratch *w, int64_t sample0, gw_bulk_channel *c, const float *x, float *y)
{
    const gw_bulk *b = w->b;
    const gw_bulk_shape *shape = &b->shape;
    const uint32_t past = b->past, hop = shape->hop;
    ref_state *s = c->state;
    if (!s) {
        gw_bulk_absent(shape, y);
        return;
    }
    if (c->forget == GW_BULK_FORGET_ALL)
        state_clear(b, s);
    else if (c->forget == GW_BULK_FORGET_PAST)
        past_clear(b, s);
    if (s->next != sample0) {
        past_clear(b, s);
        s->past_from = s->clean_from = sample0;
    }
    s->next = sample0 + hop;

    examine(b, s, c, x);
    c->whole = c->entered = false;
    c->peak = 0;
    if (c->health == GW_BULK_GOOD) {
        memcpy(w->x, past_of(s), past * sizeof *w->x);
        for (uint32_t j = 0; j < hop; j++)
            w->x[past + j] = (double)x[j] * (double)c->scale;
        if (c->response)
            filter(w, c, y);
    }
    if (c->health == GW_BULK_GOOD) {
        s->scale = c->scale;
        c->whole = s->past_from <= sample0 - (int64_t)(shape->n_taps - 1);
        if (shape->gate > 0 && c->peak > shape->gate)
            s->clean_from = s->next;
        if (shape->segment)
            take_segments(w, s, c, sample0);
        memcpy(past_of(s), w->x + hop, past * sizeof *w->x);
    } else {
        c->peak = 0;
        past_clear(b, s);
    }
    gw_bulk_settle(shape, c, sample0, y, &s->opens);
}

static void step(gw_bulk_scratch *w, int64_t sample0, gw_bulk_channel *channel, uint32_t n, const float *x,
                 size_t x_stride, float *y, size_t y_stride)
{
    for (uint32_t i = 0; i < n; i++)
        step_one(w, sample0, &channel[i], x + i * x_stride, y + i * y_stride);
}

static uint32_t psd_get(const gw_bulk *b, const void *state, float *psd)
{
    ref_state *s = (ref_state *)(uintptr_t)state; /* read only */
    for (uint32_t k = 0; s->averaged && k < b->info.psd_bins; k++)
        psd[k] = (float)psd_of(b, s)[k];
    return gw_bulk_segments(&b->shape, s->averaged);
}

static void psd_set(const gw_bulk *b, void *state, const float *psd, uint32_t segments)
{
    ref_state *s = state;
    s->collected = 0;
    s->averaged = gw_bulk_averages(&b->shape, segments);
    for (uint32_t k = 0; s->averaged && k < b->info.psd_bins; k++)
        psd_of(b, s)[k] = (double)psd[k];
}

void gw_bulk_ref(gw_bulk_ops *ops)
{
    *ops = (gw_bulk_ops){.bulk_new = bulk_new,
                         .bulk_destroy = bulk_destroy,
                         .info = info,
                         .scratch_new = scratch_new,
                         .scratch_destroy = scratch_destroy,
                         .memory_new = memory_new,
                         .memory_destroy = memory_destroy,
                         .state_clear = state_clear,
                         .past_clear = past_clear,
                         .prepare = prepare,
                         .step = step,
                         .psd_get = psd_get,
                         .psd_set = psd_set};
}
