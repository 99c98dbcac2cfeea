/* SPDX-License-Identifier: GPL-3.0-or-later
 * Coherence and chance. A chosen channel is taken out of all others by one step of Gaussian elimination on
 * the Hermitian matrix of cross spectra; what is left on the diagonal is each channel's own residual. */
#include "kernels/coherence.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const double same = 1e-9; /* of a channel's power: what is left of it is rounding, not a new channel */
static const double least = 1e-4;  /* gain, as a logarithm */
static const double most_e = 1e15; /* a coherence of 1 but for rounding */

double gw_coherence_averages(double segments)
{
    /* correlation of the powers of neighbouring segments: (1/6)^2 */
    return segments <= 1 ? segments : segments / (1 + (segments - 1) / segments / 18);
}

double gw_coherence_log_tail(double a, double x)
{
    if (!(x > 0))
        return 0;
    const double front = a * log(x) - x - lgamma(a);
    if (x < a + 1) { /* 1 - P by its series */
        double term = 1 / a, sum = term;
        for (int n = 1; n < 1000 && term > 1e-12 * sum; n++)
            sum += term *= x / (a + n);
        return log1p(-fmin(exp(front + log(sum)), 1 - 1e-16));
    }
    double b = x + 1 - a, c = 1e300, d = 1 / b, h = d; /* Lentz's continued fraction */
    for (int n = 1; n < 1000; n++) {
        const double k = -n * (n - a);
        b += 2;
        d = 1 / (k * d + b);
        c = b + k / c;
        h *= d * c;
        if (fabs(d * c - 1) < 1e-12)
            break;
    }
    return front + log(h);
}

double gw_coherence_log_chance(const double *e, uint32_t bins, uint32_t step)
{
    double sum = 0, greatest = 0;
    if (!bins)
        return 0;
    for (uint32_t b = 0; b < bins; b++) {
        sum += e[b];
        greatest = fmax(greatest, e[b]);
    }
    /* Hann bins at distance 1 and 2 are correlated by 2/3 and 1/6: their powers by the squares of these. */
    const double n = bins;
    double wide = 1;
    if (step == 1)
        wide += 2 * ((n - 1) / n * 4 / 9 + fmax(n - 2, 0) / n / 36);
    if (step == 2)
        wide += 2 * (n - 1) / n / 36;
    const double by_sum = gw_coherence_log_tail(n / wide, sum / wide), by_greatest = log(n) - greatest;
    return fmin(0, M_LN2 + fmin(by_sum, by_greatest));
}

/* ---- The choice ---- */

typedef struct work {
    gw_gram *gram;
    int n_bands;
    uint32_t channels;
    double **whole;  /* [n_bands][bins][channels + 1]: the diagonal as it was */
    double *e;       /* [most bins] */
    uint32_t *taken; /* [channels] out of which bands */
    uint32_t *m;     /* [n_bands] channels taken out */
    double *ratio;   /* [n_bands]: now */

} work;

static gw_complex *at(const gw_gram *g, uint32_t bin, uint32_t i, uint32_t j)
{
    const size_t n = g->channels + 1;
    return &g->g[((size_t)bin * n + i) * n + j];
}

static double root(double left, double whole, double n, uint32_t m)
{
    return whole > 0 ? sqrt(fmax(left, 0) / whole * n / (n - m)) : 1;
}

/* Mean over bins of what would be left with channel c taken out too, m channels in all; c = channels: none.
 */
static double left_over(const work *w, int band, uint32_t c, uint32_t m)
{
    const gw_gram *g = &w->gram[band];
    const uint32_t y = g->channels;
    double sum = 0;
    for (uint32_t b = 0; b < g->bins; b++) {
        const double *whole = w->whole[band] + (size_t)b * (y + 1);
        double left = at(g, b, y, y)->re;
        if (c < y && at(g, b, c, c)->re > same * whole[c]) {
            const gw_complex z = *at(g, b, c, y);
            left -= (z.re * z.re + z.im * z.im) / at(g, b, c, c)->re;
        }
        sum += root(left, whole[y], g->averages, m);
    }
    return g->bins ? sum / g->bins : 1;
}

static double log_chance(const work *w, int band, uint32_t c, uint32_t m)
{
    const gw_gram *g = &w->gram[band];
    const uint32_t y = g->channels;
    const double freedom = g->averages - m - 1;
    uint32_t n = 0;
    for (uint32_t b = 0; b < g->bins; b++) {
        const double *whole = w->whole[band] + (size_t)b * (y + 1);
        const double xx = at(g, b, c, c)->re, yy = at(g, b, y, y)->re;
        if (!(xx > same * whole[c]) || !(yy > 0))
            continue;
        const gw_complex z = *at(g, b, c, y);
        w->e[n++] = fmin(most_e, -freedom * log1p(-fmin(1, (z.re * z.re + z.im * z.im) / (xx * yy))));
    }
    return gw_coherence_log_chance(w->e, n, g->step);
}

/* The sum of gains of channel c over the bands in which it is significant (choice->bands); its best band. */
static double weigh(const work *w, uint32_t c, double limit, gw_choice *choice)
{
    double sum = 0, best = 0;
    *choice = (gw_choice){.channel = c};
    for (int k = 0; k < w->n_bands; k++) {
        const gw_gram *g = &w->gram[k];
        if (w->taken[c] >> k & 1 || (g->may && !g->may[c]) || g->averages - w->m[k] - 1 < 3 || !g->bins)
            continue;
        const double chance = log_chance(w, k, c, w->m[k]);
        if (chance > limit)
            continue;
        const double gain = log(w->ratio[k] / fmax(left_over(w, k, c, w->m[k] + 1), 1e-12));
        if (gain < least)
            continue;
        sum += gain;
        choice->bands |= 1u << k;
        if (gain > best) {
            best = gain;
            choice->band = k;
            choice->log_chance = chance;
        }
    }
    return sum;
}

static void take_out(gw_gram *g, const double *whole, uint32_t bin, uint32_t c)
{
    const uint32_t n = g->channels + 1;
    const double own = at(g, bin, c, c)->re;
    if (!(own > same * whole[c]))
        return;
    gw_complex *pivot = at(g, bin, c, 0);
    for (uint32_t i = 0; i < n; i++) {
        if (i == c)
            continue;
        const gw_complex z = {at(g, bin, i, c)->re / own, at(g, bin, i, c)->im / own};
        gw_complex *row = at(g, bin, i, 0);
        for (uint32_t j = 0; j < n; j++) {
            if (j == c)
                continue;
            row[j].re -= z.re * pivot[j].re - z.im * pivot[j].im;
            row[j].im -= z.re * pivot[j].im + z.im * pivot[j].re;
        }
    }
    for (uint32_t i = 0; i < n; i++)
        *at(g, bin, i, c) = *at(g, bin, c, i) = (gw_complex){0, 0};
}

static void forget(work *w)
{
    for (int k = 0; w->whole && k < w->n_bands; k++)
        free(w->whole[k]);
    free(w->whole);
    free(w->e);
    free(w->taken);
    free(w->m);
    free(w->ratio);
}

static int prepare(work *w)
{
    uint32_t most = 1;
    w->whole = calloc((size_t)w->n_bands, sizeof *w->whole);
    w->taken = calloc(w->channels + 1, sizeof *w->taken);
    w->m = calloc((size_t)w->n_bands, sizeof *w->m);
    w->ratio = calloc((size_t)w->n_bands, sizeof *w->ratio);
    for (int k = 0; w->whole && k < w->n_bands; k++) {
        const gw_gram *g = &w->gram[k];
        most = g->bins > most ? g->bins : most;
        w->whole[k] = calloc((size_t)g->bins * (g->channels + 1) + 1, sizeof **w->whole);
        for (uint32_t b = 0; w->whole[k] && b < g->bins; b++)
            for (uint32_t c = 0; c <= g->channels; c++)
                w->whole[k][(size_t)b * (g->channels + 1) + c] = at(g, b, c, c)->re;
        if (!w->whole[k])
            return gw_fail(GW_ENOMEM, "the choice of channels");
    }
    w->e = calloc(most, sizeof *w->e);
    if (!w->whole || !w->taken || !w->m || !w->ratio || !w->e)
        return gw_fail(GW_ENOMEM, "the choice of channels");
    for (int k = 0; k < w->n_bands; k++)
        w->ratio[k] = 1;
    return GW_OK;
}

/* Takes the channel out of the bands of `choice`. */
static void take(work *w, const gw_choice *choice)
{
    const uint32_t c = choice->channel;
    w->taken[c] |= choice->bands;
    for (int k = 0; k < w->n_bands; k++) {
        if (!(choice->bands >> k & 1))
            continue;
        gw_gram *g = &w->gram[k];
        for (uint32_t b = 0; b < g->bins; b++)
            take_out(g, w->whole[k] + (size_t)b * (g->channels + 1), b, c);
        w->m[k]++;
        w->ratio[k] = fmin(1, left_over(w, k, w->channels, w->m[k]));
    }
}

int gw_coherence_choose(gw_gram *gram, int n_bands, double log_limit, uint32_t most, gw_choice *choice,
                        double *ratio)
{
    if (n_bands < 1)
        return 0;
    work w = {.gram = gram, .n_bands = n_bands, .channels = gram[0].channels};
    uint32_t m = 0;
    int err = prepare(&w);
    while (err == GW_OK) {
        gw_choice at_hand = {0}, best = {0};
        double most_gain = 0;
        for (uint32_t c = 0; c < w.channels; c++) {
            const double gain = m < most || w.taken[c] ? weigh(&w, c, log_limit, &at_hand) : 0;
            if (gain > most_gain) {
                most_gain = gain;
                best = at_hand;
            }
        }
        if (most_gain <= 0)
            break;
        uint32_t i = 0;
        while (i < m && choice[i].channel != best.channel)
            i++;
        if (i == m)
            choice[m++] = best;
        else
            choice[i].bands |= best.bands;
        take(&w, &best);
        memcpy(ratio + (size_t)(m - 1) * (size_t)n_bands, w.ratio, (size_t)n_bands * sizeof *ratio);
    }
    forget(&w);
    return err == GW_OK ? (int)m : err;
}
