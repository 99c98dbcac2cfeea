/* SPDX-License-Identifier: GPL-3.0-or-later
 * Coherences, one channel at a time. Called from all threads of the pool, each with its own channel. */
#include "sinks/rank_measure.h"

#include "kernels/coherence.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_LAGS = 64, LEAST_PROBES = 8 };
_Static_assert((int)GW_RANK_MOST_BINS >= (int)GW_RANK_BAND_BINS, "a band's bins fit");
static const double surprising = 6, one_line = 0.8;

/* ---- Targets ---- */

void gw_rank_target_free(gw_rank_target *t)
{
    free(t->at);
    free((void *)t->y);
    free(t->own);
    *t = (gw_rank_target){0};
}

int gw_rank_target_new(gw_rank_target *t, size_t room)
{
    t->at = calloc(room + 1, sizeof *t->at);
    t->y = (const gw_bin **)calloc(room + 1, sizeof *t->y);
    return t->at && t->y ? GW_OK : gw_fail(GW_ENOMEM, "the ranking");
}

static void shape(const gw_rank_spectra *s, int number, gw_rank_target *t)
{
    *t = (gw_rank_target){.band = -1, .line = -1, .sides = 1, .step = 1};
    if (number < s->n_bands) {
        t->band = number;
        t->bins = s->band[number].bins;
        t->step = s->band[number].step;
    } else {
        t->line = number - s->n_bands;
        t->bins = GW_RANK_SLOW_BINS;
        t->sides = s->line[t->line].carrier_stream == -1 ? 1 : 2;
    }
}

static const gw_bin *strain_row(const gw_rank_spectra *s, int64_t j, bool *injected)
{
    return gw_rank_row(s, s->strain_stream, s->strain, j, injected);
}

/* The segments without injections; all if these are too few. */
int gw_rank_target_fill(const gw_rank_spectra *s, int number, int64_t from, int64_t to, gw_rank_target *t)
{
    shape(s, number, t);
    GW_TRY(gw_rank_target_new(t, (size_t)(to - from)));
    if (t->line >= 0) {
        for (int64_t q = (from + GW_RANK_SLOW_HOP_S - 1) / GW_RANK_SLOW_HOP_S;
             q * GW_RANK_SLOW_HOP_S + GW_RANK_SLOW_S <= to; q++) {
            t->y[t->n] = gw_rank_sideband(s, t->line, q);
            t->at[t->n] = q;
            t->n += t->y[t->n] != NULL;
        }
        return GW_OK;
    }
    for (int all = 0; all < 2 && t->n < GW_RANK_LEAST_SEGMENTS; all++) {
        t->n = 0;
        for (int64_t j = from; j < to; j++) {
            bool injected = false;
            const gw_bin *row = strain_row(s, j, &injected);
            if (!row || (injected && !all))
                continue;
            t->y[t->n] = row + s->band[t->band].first;
            t->at[t->n++] = j;
        }
    }
    return GW_OK;
}

const gw_bin *gw_rank_target_row(const gw_rank_spectra *s, const gw_rank_target *t, int stream, uint32_t c,
                                 size_t i)
{
    if (t->line >= 0)
        return gw_rank_slow_row(s, stream, c, t->at[i]);
    const gw_bin *row = gw_rank_row(s, stream, c, t->at[i], NULL);
    return row ? row + s->band[t->band].first : NULL;
}

static double bin_hz(const gw_rank_spectra *s, const gw_rank_target *t, uint32_t b)
{
    if (t->line < 0)
        return s->row_bin[s->band[t->band].first + b] / (double)GW_RANK_SEGMENT_S;
    const double hz = (b % t->bins + GW_RANK_SLOW_FIRST) / (double)GW_RANK_SLOW_S;
    return b < t->bins ? hz : -hz;
}

void gw_rank_target_text(const gw_rank_spectra *s, int number, char *text, size_t n)
{
    if (number < s->n_bands)
        snprintf(text, n, "%g-%g Hz", s->band[number].low_hz, s->band[number].high_hz);
    else
        snprintf(text, n, "%g Hz +- %g Hz", s->line[number - s->n_bands].hz,
                 (GW_RANK_SLOW_FIRST + GW_RANK_SLOW_BINS - 1) / (double)GW_RANK_SLOW_S);
}

/* ---- Each channel by itself ---- */

/* Coherence in each bin; returns over how many segments. */
static size_t coherence(const gw_rank_spectra *s, const gw_rank_target *t, int stream, uint32_t c,
                        double *value)
{
    double xx[GW_RANK_MOST_BINS] = {0}, yy[GW_RANK_MOST_BINS] = {0}, re[GW_RANK_MOST_BINS] = {0},
           im[GW_RANK_MOST_BINS] = {0};
    size_t n = 0;
    for (size_t i = 0; i < t->n; i++) {
        const gw_bin *row = gw_rank_target_row(s, t, stream, c, i);
        if (!row)
            continue;
        n++;
        for (uint32_t side = 0; side < t->sides; side++) {
            const gw_bin *y = t->y[i] + side * t->bins;
            const size_t to = side * t->bins;
            for (uint32_t b = 0; b < t->bins; b++) {
                const double a = (double)row[b].re, d = (double)row[b].im, u = (double)y[b].re,
                             v = (double)y[b].im;
                xx[to + b] += a * a + d * d;
                yy[to + b] += u * u + v * v;
                re[to + b] += a * u + d * v;
                im[to + b] += d * u - a * v;
            }
        }
    }
    for (uint32_t b = 0; b < t->sides * t->bins; b++)
        value[b] = xx[b] > 0 && yy[b] > 0 ? fmin(1, (re[b] * re[b] + im[b] * im[b]) / xx[b] / yy[b]) : -1;
    return n;
}

/* Sum over segments of z conj(z a lag before), as a complex number. */
static gw_complex lagged(const gw_rank_spectra *s, const gw_rank_target *t, int stream, uint32_t c,
                         uint32_t b, size_t lag, bool of_y)
{
    gw_complex sum = {0, 0};
    for (size_t i = lag; i < t->n; i++) {
        const gw_bin *now = of_y ? t->y[i] + b : gw_rank_target_row(s, t, stream, c, i);
        const gw_bin *then = of_y ? t->y[i - lag] + b : gw_rank_target_row(s, t, stream, c, i - lag);
        if (!now || !then)
            continue;
        const gw_bin z = now[of_y ? 0 : b % t->bins], w = then[of_y ? 0 : b % t->bins];
        sum.re += (double)z.re * (double)w.re + (double)z.im * (double)w.im;
        sum.im += (double)z.im * (double)w.re - (double)z.re * (double)w.im;
    }
    return sum;
}

/* Independent averages in one bin, by Bartlett: n / (1 + 2 sum over lags of Re(rho_x conj(rho_y))). Two lines
 * that keep their phases for a minute are a handful of numbers however many segments there are. */
static double averages_in(const gw_rank_spectra *s, const gw_rank_target *t, int stream, uint32_t c,
                          uint32_t b, size_t n)
{
    const size_t lags = t->n / 4 < MOST_LAGS ? t->n / 4 : MOST_LAGS;
    const double whole = lagged(s, t, stream, c, b, 0, false).re * lagged(s, t, stream, c, b, 0, true).re;
    double sum = 1;
    for (size_t lag = 1; lag <= lags && whole > 0; lag++) {
        const gw_complex x = lagged(s, t, stream, c, b, lag, false),
                         y = lagged(s, t, stream, c, b, lag, true);
        sum += 2 * (x.re * y.re + x.im * y.im) / whole;
    }
    return fmax(2, (double)n / fmax(1, sum));
}

/* Where both are lines, only a coherence that two lines hardly have by chance counts as if they were noise.
 */
static double chance_of(const gw_rank_spectra *s, const gw_rank_target *t, int stream, uint32_t c,
                        const double *value, size_t n, uint32_t taken)
{
    double e[GW_RANK_MOST_BINS];
    uint32_t bins = 0;
    const double freedom = gw_coherence_averages((double)n) - 1 - taken;
    if (n < GW_RANK_LEAST_SEGMENTS || freedom < 2)
        return 0;
    for (uint32_t b = 0; b < t->sides * t->bins; b++) {
        if (value[b] < 0)
            continue;
        double x = -freedom * log1p(-value[b]);
        if (x > surprising && value[b] < one_line) {
            const double few = averages_in(s, t, stream, c, b, n);
            x = few < freedom / 3 ? x * (few - 1) / freedom : x;
        }
        e[bins++] = fmin(1e15, x);
    }
    return gw_coherence_log_chance(e, bins, t->step);
}

static int rising(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* What it shares with strain from 20 to 1000 Hz, and what it does when signals are injected. */
void gw_rank_look_broadly(const gw_rank_spectra *s, int64_t from, int64_t to, int stream, uint32_t c,
                          gw_rank_measure *m)
{
    double xx[GW_RANK_PROBES] = {0}, yy[GW_RANK_PROBES] = {0}, hot[GW_RANK_PROBES] = {0};
    gw_complex xy[GW_RANK_PROBES] = {{0, 0}}, hot_xy[GW_RANK_PROBES] = {{0, 0}};
    double quiet = 0, loud = 0;
    for (int64_t j = from; j < to; j++) {
        bool injected = false;
        const gw_bin *y = strain_row(s, j, &injected), *x = gw_rank_row(s, stream, c, j, &injected);
        if (!x || !y)
            continue;
        *(injected ? &loud : &quiet) += 1;
        for (uint32_t k = 0; k < GW_RANK_PROBES; k++) {
            const double a = (double)x[s->probe + k].re, b = (double)x[s->probe + k].im,
                         u = (double)y[s->probe + k].re, v = (double)y[s->probe + k].im;
            gw_complex *z = injected ? &hot_xy[k] : &xy[k];
            z->re += a * u + b * v;
            z->im += b * u - a * v;
            *(injected ? &hot[k] : &yy[k]) += u * u + v * v;
            xx[k] += injected ? 0 : a * a + b * b;
        }
    }
    double value[GW_RANK_PROBES], e[GW_RANK_PROBES];
    uint32_t n = 0;
    if (quiet < GW_RANK_LEAST_SEGMENTS)
        return;
    for (uint32_t k = 0; k < GW_RANK_PROBES; k++) {
        if (!(xx[k] > 0) || !(yy[k] > 0))
            continue;
        value[n] = (xy[k].re * xy[k].re + xy[k].im * xy[k].im) / xx[k] / yy[k];
        const double re = hot_xy[k].re - xy[k].re * loud / quiet, im = hot_xy[k].im - xy[k].im * loud / quiet;
        const double norm = xx[k] / quiet * fmax(hot[k], yy[k] / quiet * loud);
        e[n++] = norm > 0 ? (re * re + im * im) / norm : 0;
    }
    if (n < LEAST_PROBES)
        return;
    m->unsafe = loud > 0 ? gw_coherence_log_chance(e, n, 3) : 0;
    qsort(value, n, sizeof *value, rising);
    m->broad = value[n / 2];
}

void gw_rank_measure_target(const gw_rank_spectra *s, const gw_rank_target *t, int k, int stream, uint32_t c,
                            gw_rank_measure *m)
{
    double value[GW_RANK_MOST_BINS];
    const size_t n = coherence(s, t, stream, c, value);
    m->chance[k] = chance_of(s, t, stream, c, value, n, 0);
    for (uint32_t b = 0; b < t->sides * t->bins; b++)
        if (value[b] > m->peak[k]) {
            m->peak[k] = value[b];
            m->peak_hz[k] = bin_hz(s, t, b);
        }
    if (t->n)
        m->good = fmax(m->good, (double)n / (double)t->n);
    if (n < GW_RANK_LEAST_SEGMENTS)
        m->peak[k] = 0;
}

double gw_rank_measure_chance(const gw_rank_spectra *s, const gw_rank_target *t, int stream, uint32_t c,
                              uint32_t taken)
{
    double value[GW_RANK_MOST_BINS];
    const size_t n = coherence(s, t, stream, c, value);
    return chance_of(s, t, stream, c, value, n, taken);
}

uint32_t gw_rank_coherence(const gw_rank_spectra *s, const gw_rank_table *table, int number, int stream,
                           uint32_t channel, double *hz, double *value)
{
    gw_rank_target t;
    uint32_t n = 0;
    double raw[GW_RANK_MOST_BINS];
    if (gw_rank_target_fill(s, number, table->from_s, table->to_s, &t) == GW_OK) {
        coherence(s, &t, stream, channel, raw);
        for (uint32_t k = 0; k < t.sides * t.bins; k++, n++) {
            /* the lower sideband lies backwards, before the upper one */
            const uint32_t b = t.sides == 1 ? k : k < t.bins ? 2 * t.bins - 1 - k : k - t.bins;
            hz[n] = bin_hz(s, &t, b);
            value[n] = fmax(0, raw[b]);
        }
    }
    gw_rank_target_free(&t);
    return n;
}
