/* SPDX-License-Identifier: GPL-3.0-or-later
 * redraw.h. Pairs of which one block was not drawn cost nothing: about two in three. */
#include "pipeline/stages/redraw.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static uint64_t next(uint64_t *state) /* splitmix64 */
{
    uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

static double uniform(uint64_t *state) /* never 0 */
{
    return (double)((next(state) >> 11) + 1) * 0x1p-53;
}

static double poisson(uint64_t *state, double mean)
{
    if (mean > 50) {
        const double normal = sqrt(-2 * log(uniform(state))) * cos(6.283185307179586 * uniform(state));
        return fmax(0, round(mean + sqrt(mean) * normal));
    }
    double n = -1, left = mean;
    for (; left >= 0; n++)
        left += log(uniform(state));
    return n;
}

static void draw(uint64_t *state, uint32_t n_blocks, uint32_t weight[2][GW_REDRAW_BLOCKS])
{
    memset(weight, 0, 2 * sizeof weight[0]);
    for (int d = 0; d < 2; d++)
        for (uint32_t i = 0; i < n_blocks; i++)
            weight[d][next(state) % n_blocks]++;
}

/* Adds a source's triggers by step, drawn again, to n; returns its slid time. */
static double redraw_source(const gw_redraw_source *s, int n_steps, uint64_t *state, double *n)
{
    uint32_t weight[2][GW_REDRAW_BLOCKS];
    double slid = 0;
    draw(state, s->n_blocks, weight);
    for (uint32_t p = 0; p < s->n_pairs; p++) {
        const gw_redraw_pair *pair = &s->pair[p];
        const uint32_t w = weight[0][pair->block[0]] * weight[1][pair->block[1]];
        if (!w)
            continue;
        slid += w * pair->slid;
        const uint32_t *triggers = s->triggers + (size_t)p * (size_t)n_steps;
        for (int i = 0; i < n_steps; i++)
            n[i] += (double)w * triggers[i];
    }
    return slid;
}

static int rising(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return x > y ? 1 : x < y ? -1 : 0;
}

/* Triggers of pairs at or above each step, and the slid time of all. */
static double what_is(const gw_redraw_source *source, int n_sources, const gw_redraw_counts *counts,
                      int n_steps, double *paired)
{
    double slid = counts->slid;
    for (int k = 0; k < n_sources; k++) {
        const gw_redraw_source *s = &source[k];
        if (s->n_blocks < GW_REDRAW_BLOCKS_LEAST)
            continue;
        for (uint32_t p = 0; p < s->n_pairs; p++) {
            slid += s->pair[p].slid;
            for (int i = 0; i < n_steps; i++)
                paired[i] += s->triggers[(size_t)p * (size_t)n_steps + (size_t)i];
        }
    }
    for (int i = n_steps - 2; i >= 0; i--)
        paired[i] += paired[i + 1];
    return slid;
}

/* Of the spread of drawn rates, what is the rate's: a trigger that is of no block but its own pair's is in it
 * three times, as of the one block, of the other and of the pair. */
static double own_spread(const double *rate, int n, double paired, double slid)
{
    double mean = 0, square = 0;
    for (int r = 0; r < n; r++)
        mean += rate[r] / n;
    for (int r = 0; r < n; r++)
        square += (rate[r] - mean) * (rate[r] - mean) / n;
    const double variance = square * slid * slid;
    return variance > 0 ? sqrt(fmin(1, fmax(1.0 / 3, (variance - 2 * paired) / variance))) : 1;
}

void gw_redraw(const gw_redraw_source *source, int n_sources, const gw_redraw_counts *counts, int n_steps,
               uint64_t seed, double *scratch, double *low, double *high)
{
    int sources = 0, drawn = 0;
    for (int k = 0; k < n_sources; k++)
        sources += source[k].n_blocks >= GW_REDRAW_BLOCKS_LEAST;
    for (int r = 0; r < GW_REDRAWS && (sources || counts->slid > 0); r++) {
        double n[GW_REDRAW_STEPS] = {0}, slid = counts->slid;
        for (int k = 0; k < n_sources; k++)
            if (source[k].n_blocks >= GW_REDRAW_BLOCKS_LEAST)
                slid += redraw_source(&source[k], n_steps, &seed, n);
        for (int i = 0; counts->triggers && i < n_steps; i++)
            n[i] += poisson(&seed, counts->triggers[i]);
        double above = -log(uniform(&seed));
        if (!(slid > 0))
            continue;
        for (int i = n_steps - 1; i >= 0; i--) {
            above += n[i];
            scratch[i * GW_REDRAWS + drawn] = above / slid;
        }
        drawn++;
    }
    double paired[GW_REDRAW_STEPS] = {0}, others = 0;
    const double slid = what_is(source, n_sources, counts, n_steps, paired);
    for (int i = n_steps - 1; i >= 0; i--) {
        low[i] = high[i] = 0;
        if (drawn < GW_REDRAWS / 2)
            continue;
        others += counts->triggers ? counts->triggers[i] : 0;
        double *rate = scratch + i * GW_REDRAWS;
        qsort(rate, (size_t)drawn, sizeof *rate, rising);
        const double centre = (paired[i] + others + 1) / slid;
        const double spread = own_spread(rate, drawn, paired[i], slid);
        low[i] = centre + spread * (rate[drawn / 20] - centre);
        high[i] = centre + spread * (rate[drawn - 1 - drawn / 20] - centre);
    }
}
