/* SPDX-License-Identifier: GPL-3.0-or-later
 * Range and drift; see the header. */
#include "pipeline/stages/watch.h"

#include "kernels/psd.h"
#include "kernels/range.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { RANGE_S = 4, RANGE_SEGMENTS = 15, RANGE_ENOUGH = 12, DRIFT_ENOUGH = 7, SLOW_S = 600, MAX_BANDS = 16 };

typedef struct band {
    double low_hz, high_hz;
    uint32_t first, end; /* bins */
    double slow;         /* level: mean logarithm */
} band;

struct gw_watch {
    gw_watch_shape shape;
    gw_psd *psd;      /* NULL: no range */
    double *spectrum; /* [segment / 2 + 1] */
    uint32_t segment; /* samples */
    int64_t stride;   /* ticks from segment to segment */
    double range_mpc;
    band band[MAX_BANDS];
    int n_bands;
    uint64_t looks; /* in the slow levels */
    double drift;
    int worst;
    bool alarm, news;
};

void gw_watch_destroy(gw_watch **w)
{
    if (!*w)
        return;
    gw_psd_destroy(&(*w)->psd);
    free((*w)->spectrum);
    free(*w);
    *w = NULL;
}

size_t gw_watch_memory(const gw_watch_shape *s)
{
    return sizeof(gw_watch) +
           (s->range ? (2 * (size_t)RANGE_SEGMENTS + 4) * RANGE_S * s->rate_hz / 2 * sizeof(double) : 0);
}

/* A quarter second to four seconds make a tick, so some whole number of them is close to a segment. */
static int open_range(gw_watch *w, const gw_spectrum_ops *ops)
{
    const gw_watch_shape *s = &w->shape;
    uint32_t ticks = (RANGE_S * s->rate_hz + s->tick_samples / 2) / s->tick_samples;
    ticks = ticks ? ticks : 1;
    ticks += ticks * s->tick_samples % 2;
    w->segment = ticks * s->tick_samples;
    w->stride = ticks > 1 ? ticks / 2 : 1;
    w->spectrum = calloc(w->segment / 2 + 1, sizeof *w->spectrum);
    if (!w->spectrum)
        return gw_fail(GW_ENOMEM, "range");
    return gw_psd_new(&w->psd, ops, s->rate_hz, w->segment, RANGE_SEGMENTS, false, 0);
}

int gw_watch_new(gw_watch **out, const gw_spectrum_ops *ops, const gw_watch_shape *s)
{
    *out = NULL;
    gw_watch *w = calloc(1, sizeof *w);
    if (!w)
        return gw_fail(GW_ENOMEM, "watch");
    w->shape = *s;
    const double bin_hz = 0.5 * s->rate_hz / (s->bins - 1);
    for (double hz = s->low_hz > 1 ? s->low_hz : 1; hz < s->high_hz && w->n_bands < MAX_BANDS; hz *= 2) {
        band b = {.low_hz = hz, .high_hz = 2 * hz < s->high_hz ? 2 * hz : s->high_hz};
        b.first = (uint32_t)ceil(b.low_hz / bin_hz);
        b.end = (uint32_t)ceil(b.high_hz / bin_hz);
        if (b.end > b.first)
            w->band[w->n_bands++] = b;
    }
    gw_watch_forget(w);
    const int err = s->range ? open_range(w, ops) : GW_OK;
    if (err != GW_OK) {
        gw_watch_destroy(&w);
        return err;
    }
    *out = w;
    return GW_OK;
}

uint32_t gw_watch_samples(const gw_watch *w)
{
    return w->segment;
}

void gw_watch_forget(gw_watch *w)
{
    w->looks = 0;
    w->drift = 1;
    w->range_mpc = 0;
    w->alarm = w->news = false;
    if (w->psd)
        gw_psd_forget(w->psd);
}

static double level_of(const band *b, const double *psd)
{
    double sum = 0;
    for (uint32_t k = b->first; k < b->end; k++)
        sum += log(psd[k] > 0 ? psd[k] : 1e-300);
    return sum / (b->end - b->first);
}

static void look_at_drift(gw_watch *w, const double *psd)
{
    const double slow_looks = (double)SLOW_S * w->shape.rate_hz / w->shape.tick_samples;
    double worst = 0;
    w->looks++;
    for (int k = 0; k < w->n_bands; k++) {
        band *b = &w->band[k];
        const double level = level_of(b, psd);
        if (w->looks == 1)
            b->slow = level;
        const double off = level - b->slow;
        if (fabs(off) >= fabs(worst)) {
            worst = off;
            w->worst = k;
        }
        b->slow += off / fmin((double)w->looks, slow_looks);
    }
    w->drift = exp(worst);
    if (w->shape.drift <= 0)
        return;
    const double limit = log(w->shape.drift) * (w->alarm ? 0.5 : 1);
    if ((fabs(worst) > limit) != w->alarm) {
        w->alarm = !w->alarm;
        w->news = true;
    }
}

void gw_watch_look(gw_watch *w, int64_t tick, const double *psd, uint32_t segments, const double *past)
{
    if (segments >= DRIFT_ENOUGH)
        look_at_drift(w, psd);
    if (!w->psd || !past || tick % w->stride != 0 || gw_psd_add(w->psd, past) != GW_OK ||
        gw_psd_segments(w->psd) < RANGE_ENOUGH || gw_psd_estimate(w->psd, w->spectrum) != GW_OK)
        return;
    w->range_mpc = gw_range_mpc(w->spectrum, w->segment / 2 + 1, (double)w->shape.rate_hz / w->segment,
                                w->shape.high_hz);
}

double gw_watch_range_mpc(const gw_watch *w)
{
    return w->range_mpc;
}

double gw_watch_drift(const gw_watch *w)
{
    return w->drift;
}

bool gw_watch_alarm(gw_watch *w, char *line, size_t n)
{
    if (!w->news)
        return false;
    w->news = false;
    const band *b = &w->band[w->worst];
    if (w->alarm)
        snprintf(
            line, n,
            "the noise has changed: between %g and %g Hz its PSD is %.2f times the average of 10 minutes",
            b->low_hz, b->high_hz, w->drift);
    else
        snprintf(line, n, "the noise is near the average of 10 minutes again (PSD at most %.2f times it)",
                 w->drift);
    return true;
}
