/* SPDX-License-Identifier: GPL-3.0-or-later
 * The learning half of whiten. One grid of 16 s serves the cepstrum and the look back for the gain, so a tick
 * costs one PSD segment, three transforms of the grid for the design and three for the gain. */
#include "pipeline/stages/whitener.h"

#include "kernels/psd.h"
#include "kernels/whitening.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { GRID_SECONDS = 16 };

/* The past on which the gain is measured is the past from which the PSD was learnt. A filter is quieter on
 * its own past than on what comes: where a bin happened to be loud, the filter has turned it down. With n
 * segments the power to come is higher by 1 + a / n. By simulation, from n = 3 to 62: a = 0.21 +- 0.01 for
 * noise without lines, 0.27 to 0.34 +- 0.01 with 27 of them, which the PSD is not smoothed across. (For a PSD
 * not smoothed at all it would be 0.8.) */
static const double in_sample = 0.25;

typedef enum tick_state { TICK_MISSING, TICK_LOUD, TICK_GOOD } tick_state;

struct gw_whitener {
    const gw_spectrum_ops *ops;
    gw_whitener_shape shape;
    gw_fft *fft; /* grid */
    gw_psd *psd;
    gw_whitening *design;
    uint32_t tick; /* samples */
    uint32_t n_past, grid;
    uint32_t reach;    /* ticks before an output that its filter looks at */
    double expected;   /* median of |output| for unit noise */
    double *past;      /* [n_past + 1][tick]: closed ticks, and the one being filled */
    tick_state *state; /* [n_past] */
    int64_t now;       /* number of the tick being filled */
    uint32_t filled, loud_run;
    bool begun, loud, has_taps;
    double *spectrum;     /* [psd bin] */
    double *taps, *draft; /* [n_taps] */
    gw_complex *product;  /* [grid / 2 + 1] */
    double *rank;         /* [grid] */
};

static uint32_t ticks_in_grid(const gw_whitener_shape *s)
{
    const uint64_t tick = s->segment_samples / 2;
    return (uint32_t)((GRID_SECONDS * (uint64_t)s->rate_hz + tick - 1) / tick);
}

size_t gw_whitener_memory(const gw_whitener_shape *s)
{
    const size_t tick = s->segment_samples / 2, grid = ticks_in_grid(s) * tick;
    return sizeof(double) *
           ((2 * (size_t)s->max_segments + 3) * (tick + 1) + 7 * grid + 5 * (size_t)s->n_taps);
}

void gw_whitener_destroy(gw_whitener **w)
{
    gw_whitener *q = *w;
    if (!q)
        return;
    gw_whitening_destroy(&q->design);
    gw_psd_destroy(&q->psd);
    q->ops->fft_destroy(&q->fft);
    free(q->past);
    free(q->state);
    free(q->spectrum);
    free(q->taps);
    free(q->draft);
    free(q->product);
    free(q->rank);
    free(q);
    *w = NULL;
}

static int allocate(gw_whitener *q)
{
    const gw_whitener_shape *s = &q->shape;
    const gw_whitening_shape shape = {.rate_hz = s->rate_hz,
                                      .linear = s->linear,
                                      .n_taps = s->n_taps,
                                      .psd_bins = q->tick + 1,
                                      .grid_samples = q->grid,
                                      .highpass_hz = {s->highpass_hz[0], s->highpass_hz[1]},
                                      .lowpass_hz = {s->lowpass_hz[0], s->lowpass_hz[1]}};
    q->expected = 0.674489750196082 * sqrt(gw_whitening_fraction(&shape));
    GW_TRY(q->ops->fft_new(&q->fft, q->grid));
    /* On either side half the width, in whole bins of rate / segment. */
    const uint32_t smooth_bins = (uint32_t)(0.5 * s->smooth_hz * s->segment_samples / s->rate_hz);
    GW_TRY(
        gw_psd_new(&q->psd, q->ops, s->rate_hz, s->segment_samples, s->max_segments, s->mean, smooth_bins));
    GW_TRY(gw_whitening_new(&q->design, q->ops, q->fft, &shape));
    q->past = calloc(((size_t)q->n_past + 1) * q->tick, sizeof *q->past);
    q->state = calloc(q->n_past, sizeof *q->state);
    q->spectrum = calloc(q->tick + 1, sizeof *q->spectrum);
    q->taps = calloc(s->n_taps, sizeof *q->taps);
    q->draft = calloc(s->n_taps, sizeof *q->draft);
    q->product = calloc(q->grid / 2 + 1, sizeof *q->product);
    q->rank = calloc(q->grid, sizeof *q->rank);
    if (!q->past || !q->state || !q->spectrum || !q->taps || !q->draft || !q->product || !q->rank)
        return gw_fail(GW_ENOMEM, "whitening at %u Hz", s->rate_hz);
    return GW_OK;
}

int gw_whitener_new(gw_whitener **w, const gw_spectrum_ops *ops, const gw_whitener_shape *s)
{
    *w = NULL;
    gw_whitener *q = calloc(1, sizeof *q);
    if (!q)
        return gw_fail(GW_ENOMEM, "whitening");
    q->ops = ops;
    q->shape = *s;
    q->tick = s->segment_samples / 2;
    q->n_past = ticks_in_grid(s);
    q->grid = q->n_past * q->tick;
    if (q->grid % 2) {
        q->n_past++;
        q->grid += q->tick;
    }
    q->reach = (s->n_taps - 1 + q->tick - 1) / q->tick;
    int err = allocate(q);
    if (err != GW_OK) {
        gw_whitener_destroy(&q);
        return err;
    }
    *w = q;
    return GW_OK;
}

const double *gw_whitener_taps(const gw_whitener *w)
{
    return w->has_taps ? w->taps : NULL;
}

const double *gw_whitener_psd(const gw_whitener *w)
{
    return w->has_taps ? w->spectrum : NULL;
}

uint32_t gw_whitener_segments(const gw_whitener *w)
{
    return gw_psd_segments(w->psd);
}

const double *gw_whitener_past(const gw_whitener *w, uint32_t samples)
{
    const uint32_t ticks = (samples + w->tick - 1) / w->tick;
    for (uint32_t t = 1; t <= ticks; t++)
        if (t > w->n_past || w->state[w->n_past - t] != TICK_GOOD)
            return NULL;
    return w->past + w->grid - samples;
}

/* -- checkpoint -------------------------------------------------------------------------------------- */

/* A power of two that brings the middle of the spectrum near 1, so that all of it is at home in a float. */
static double scale_of(const double *psd, uint32_t bins)
{
    int exponent = 0;
    (void)frexp(psd[bins / 2], &exponent);
    return ldexp(1, -exponent / 2);
}

uint32_t gw_whitener_save(const gw_whitener *w, float *rows, double *taps, double *scale)
{
    const uint32_t bins = w->tick + 1;
    if (!w->has_taps)
        return 0;
    const uint32_t n = gw_psd_segments(w->psd);
    *scale = scale_of(w->spectrum, bins);
    for (uint32_t i = 0; i < n; i++) {
        const double *power = gw_psd_held(w->psd, i);
        for (uint32_t k = 0; k < bins; k++) {
            const double p = power[k] * *scale * *scale;
            rows[(size_t)i * bins + k] = (float)fmin(p, (double)FLT_MAX);
        }
    }
    memcpy(taps, w->taps, w->shape.n_taps * sizeof *taps);
    return n;
}

void gw_whitener_restore(gw_whitener *w, uint32_t segments, const float *rows, const double *taps,
                         double scale)
{
    const uint32_t bins = w->tick + 1;
    for (uint32_t i = 0; i < segments; i++) {
        for (uint32_t k = 0; k < bins; k++)
            w->spectrum[k] = (double)rows[(size_t)i * bins + k] / scale / scale;
        gw_psd_put(w->psd, w->spectrum);
    }
    memcpy(w->taps, taps, w->shape.n_taps * sizeof *taps);
    w->has_taps = segments > 0 && gw_psd_estimate(w->psd, w->spectrum) == GW_OK;
}

/* -- learning ---------------------------------------------------------------------------------------- */

void gw_whitener_loud(gw_whitener *w)
{
    w->loud = true;
}

/* The k-th smallest of x[n], by Hoare's selection; reorders x. */
static double select_rank(double *x, size_t n, size_t k)
{
    size_t lo = 0, hi = n - 1;
    while (lo < hi) {
        const double pivot = x[lo + (hi - lo) / 2];
        size_t i = lo, j = hi;
        for (;;) {
            while (x[i] < pivot)
                i++;
            while (x[j] > pivot)
                j--;
            if (i >= j)
                break;
            const double t = x[i];
            x[i++] = x[j];
            x[j--] = t;
        }
        /* x[lo .. i - 1] <= pivot <= x[j + 1 .. hi] */
        if (i == j && x[i] <= pivot)
            i++;
        if (k < i)
            hi = i - 1;
        else
            lo = i;
    }
    return x[k];
}

/* The past through the draft: its gain, or 0 when no good stretch is there to measure it on. */
static double measure_gain(gw_whitener *w)
{
    gw_fft *f = w->fft;
    memset(f->time, 0, w->grid * sizeof *f->time);
    memcpy(f->time, w->draft, w->shape.n_taps * sizeof *f->time);
    w->ops->fft_forward(f);
    memcpy(w->product, f->freq, (w->grid / 2 + 1) * sizeof *f->freq);
    memcpy(f->time, w->past, w->grid * sizeof *f->time);
    w->ops->fft_forward(f);
    for (uint32_t k = 0; k <= w->grid / 2; k++) {
        const gw_complex a = f->freq[k], b = w->product[k];
        f->freq[k] = (gw_complex){a.re * b.re - a.im * b.im, a.re * b.im + a.im * b.re};
    }
    w->ops->fft_inverse(f);
    size_t n = 0;
    uint32_t good = 0; /* ticks in a row */
    for (uint32_t t = 0; t < w->n_past; t++) {
        good = w->state[t] == TICK_GOOD ? good + 1 : 0;
        if (good > w->reach)
            for (uint32_t i = 0; i < w->tick; i++)
                w->rank[n++] = fabs(f->time[(size_t)t * w->tick + i]);
    }
    if (n == 0)
        return 0;
    /* n is a whole number of ticks and may be odd; for even n the two in the middle are averaged. */
    const double upper = select_rank(w->rank, n, n / 2);
    double lower = upper;
    if (n % 2 == 0) {
        lower = w->rank[0];
        for (size_t i = 1; i < n / 2; i++)
            lower = w->rank[i] > lower ? w->rank[i] : lower;
    }
    const double median = 0.5 * (lower + upper);
    if (!(median > 0) || !isfinite(median))
        return 0;
    return w->expected / median / sqrt(1 + in_sample / gw_psd_segments(w->psd));
}

/* The tick just closed was good, and so was the one before: a new segment, a new filter. */
static bool learn(gw_whitener *w)
{
    if (gw_psd_add(w->psd, w->past + (size_t)(w->n_past - 2) * w->tick) != GW_OK)
        return false;
    if (gw_psd_estimate(w->psd, w->spectrum) != GW_OK)
        return false;
    if (gw_whitening_design(w->design, w->spectrum, w->draft) != GW_OK)
        return false;
    const double gain = measure_gain(w);
    if (gain == 0)
        return false;
    for (uint32_t t = 0; t < w->shape.n_taps; t++)
        w->taps[t] = gain * w->draft[t];
    w->has_taps = true;
    return true;
}

static void shift(gw_whitener *w, tick_state closed)
{
    memmove(w->past, w->past + w->tick, w->grid * sizeof *w->past);
    memset(w->past + w->grid, 0, w->tick * sizeof *w->past);
    memmove(w->state, w->state + 1, (w->n_past - 1) * sizeof *w->state);
    w->state[w->n_past - 1] = closed;
}

/* Closes ticks until `tick` is the one being filled. */
static gw_whitener_news advance(gw_whitener *w, int64_t tick)
{
    gw_whitener_news news = GW_WHITENER_SAME;
    const tick_state closed = w->filled < w->tick ? TICK_MISSING : w->loud ? TICK_LOUD : TICK_GOOD;
    shift(w, closed);
    w->loud_run = closed == TICK_LOUD ? w->loud_run + 1 : 0;
    if (w->loud_run >= w->shape.forget_ticks) {
        /* A glitch passes; this stays. What was learnt is of other noise, and would keep the search shut. */
        gw_psd_forget(w->psd);
        for (uint32_t t = 0; t < w->n_past; t++)
            w->state[t] = TICK_MISSING;
        w->has_taps = false;
        w->loud_run = 0;
        news = GW_WHITENER_FORGOT;
    } else if (closed == TICK_GOOD && w->state[w->n_past - 2] == TICK_GOOD && learn(w)) {
        news = GW_WHITENER_FILTER;
    }
    const int64_t missed = tick - w->now - 1;
    for (int64_t t = 0; t < missed && t <= w->n_past; t++)
        shift(w, TICK_MISSING);
    if (missed > 0)
        w->loud_run = 0;
    w->now = tick;
    w->filled = 0;
    w->loud = false;
    return news;
}

gw_whitener_news gw_whitener_feed(gw_whitener *w, int64_t sample0, const double *x, uint32_t n)
{
    const int64_t tick = sample0 / w->tick;
    gw_whitener_news news = GW_WHITENER_SAME;
    if (!w->begun)
        w->now = tick;
    else if (tick != w->now)
        news = advance(w, tick);
    w->begun = true;
    memcpy(w->past + w->grid + (size_t)(sample0 - tick * w->tick), x, n * sizeof *x);
    w->filled += n;
    return news;
}
