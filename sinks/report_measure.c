/* SPDX-License-Identifier: GPL-3.0-or-later
 * Strain before and after, measured; see the header. Three kinds of segments come out of one history of 16 s:
 * 2 s for the ratios and the maps, 4 s for the range (those of 2 s smear the lines and the seismic wall over
 * what lies between), 8 or 16 s for a closer look at lines. */
#include "sinks/report_measure.h"

#include "kernels/psd.h"
#include "kernels/range.h"
#include "sinks/report_median.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    HISTORY_S = 16,
    PILE = 1024,
    NEED = 7,
    LEAST_WINDOW = 7,
    MOST_WINDOW = 63,
    RANGE_WINDOW = 15,
    RANGE_ENOUGH = 12
};
enum { FULL, RANGE, FINE, LENGTHS };
static const double guard_hz = 2, fine_hz = 512, range_hz = 1600, map_low_hz = 10;

/* Segments of one length. */
typedef struct length {
    uint32_t seconds, every; /* 0 seconds: too little data is expected */
    uint32_t bins;           /* kept */
    gw_psd *one;             /* makes the power of one segment */
    gw_median all[GW_STRAIN_KINDS], lately[GW_STRAIN_KINDS];
} length;

struct gw_measure {
    uint32_t rate;
    int kinds; /* GW_IDEAL or GW_STRAIN_KINDS of them */
    const gw_report_band *band;
    int n_bands;
    double *history[GW_STRAIN_KINDS]; /* [HISTORY_S * rate], the newest at the end */
    int64_t second;                   /* that came */
    uint32_t whole;                   /* of the newest, without a hole */
    length length[LENGTHS];
    uint32_t window;              /* segments of 2 s in the median of a column */
    int64_t step;                 /* seconds a column */
    double *psd[GW_STRAIN_KINDS]; /* a segment's, or a median */
    gw_measured out;
};

/* ---- making ---- */

static int open_length(length *l, const gw_spectrum_ops *ops, uint32_t rate, uint32_t seconds, uint32_t every,
                       double high_hz, int64_t expected_s, uint32_t window, int kinds)
{
    const double bins = fmin(high_hz, 0.5 * rate) * seconds;
    *l = (length){.seconds = seconds, .every = every, .bins = (uint32_t)floor(bins) + 1};
    const int64_t segments = expected_s / every + 1;
    GW_TRY(gw_psd_new(&l->one, ops, rate, seconds * rate, 1, false, 0));
    for (int k = 0; k < kinds; k++) {
        GW_TRY(gw_median_new(&l->all[k], l->bins, segments < PILE ? (uint32_t)segments : PILE));
        if (window)
            GW_TRY(gw_median_new(&l->lately[k], l->bins, window));
    }
    return GW_OK;
}

static int new_pair(gw_psd_pair *p, const length *l, int kinds)
{
    p->bins = l->bins;
    p->bin_hz = 1.0 / l->seconds;
    for (int k = 0; k < kinds; k++)
        if (!(p->of[k] = calloc(l->bins, sizeof(double))))
            return GW_ENOMEM;
    return GW_OK;
}

static double *nans(size_t n)
{
    double *x = malloc((n + 1) * sizeof *x);
    for (size_t i = 0; x && i < n; i++)
        x[i] = NAN;
    return x;
}

static float *map_nans(size_t n)
{
    float *x = malloc((n * GW_REPORT_ROWS + 1) * sizeof *x);
    for (size_t i = 0; x && i < n * GW_REPORT_ROWS; i++)
        x[i] = NAN;
    return x;
}

static int new_columns(gw_measure *m, int64_t seconds)
{
    gw_measured *o = &m->out;
    const size_t columns = (size_t)(seconds / m->step);
    bool made = (o->t_s = nans(columns)) && (o->map[0] = map_nans(columns)) &&
                (o->map[1] = map_nans(columns)) && (o->ratio = map_nans(columns));
    for (int b = 0; b < m->n_bands; b++)
        made = made && (o->mean[b] = nans(columns)) && (o->integrated[b] = nans(columns));
    for (int k = 0; k < m->kinds; k++)
        made = made && (o->range[k] = nans(columns));
    o->n = columns;
    o->step_s = (double)m->step;
    o->window_s = m->window + 1;
    o->low_hz = map_low_hz;
    o->high_hz = 0.45 * m->rate;
    return made ? GW_OK : GW_ENOMEM;
}

static int open_all(gw_measure *m, const gw_spectrum_ops *ops, int64_t seconds)
{
    const uint32_t rate = m->rate;
    const uint32_t ranges = m->window / 2 > RANGE_WINDOW ? m->window / 2 : RANGE_WINDOW;
    GW_TRY(open_length(&m->length[FULL], ops, rate, 2, 1, rate, seconds, m->window, m->kinds));
    GW_TRY(open_length(&m->length[RANGE], ops, rate, 4, 2, range_hz, seconds, ranges, m->kinds));
    const uint32_t fine = seconds >= 96 ? 16 : 8;
    GW_TRY(open_length(&m->length[FINE], ops, rate, fine, fine / 2, fine_hz, seconds, 0, m->kinds));
    GW_TRY(new_pair(&m->out.full, &m->length[FULL], m->kinds));
    GW_TRY(new_pair(&m->out.fine, &m->length[FINE], m->kinds));
    uint32_t most = 0;
    for (int l = 0; l < LENGTHS; l++)
        most = m->length[l].bins > most ? m->length[l].bins : most;
    for (int k = 0; k < m->kinds; k++) {
        m->history[k] = calloc((size_t)HISTORY_S * rate, sizeof *m->history[k]);
        m->psd[k] = calloc(most, sizeof *m->psd[k]);
        if (!m->history[k] || !m->psd[k])
            return GW_ENOMEM;
    }
    return new_columns(m, seconds);
}

int gw_measure_new(gw_measure **out, const gw_spectrum_ops *ops, uint32_t rate_hz, int64_t seconds,
                   const gw_report_band *band, int n_bands, bool ideal)
{
    *out = NULL;
    gw_measure *m = calloc(1, sizeof *m);
    if (!m)
        return gw_fail(GW_ENOMEM, "report");
    m->rate = rate_hz;
    m->kinds = ideal ? GW_STRAIN_KINDS : GW_IDEAL;
    m->band = band;
    m->n_bands = n_bands;
    m->out.ideal = ideal;
    m->step = 1 + seconds / GW_REPORT_COLUMNS;
    m->window = m->step < LEAST_WINDOW  ? LEAST_WINDOW
                : m->step > MOST_WINDOW ? MOST_WINDOW
                                        : (uint32_t)m->step;
    if (open_all(m, ops, seconds) < 0) {
        gw_measure_destroy(&m);
        return gw_fail(GW_ENOMEM, "spectra of %u samples a second", rate_hz);
    }
    *out = m;
    return GW_OK;
}

void gw_measure_destroy(gw_measure **out)
{
    gw_measure *m = *out;
    *out = NULL;
    if (!m)
        return;
    for (int l = 0; l < LENGTHS; l++) {
        gw_psd_destroy(&m->length[l].one);
        for (int k = 0; k < GW_STRAIN_KINDS; k++) {
            gw_median_free(&m->length[l].all[k]);
            gw_median_free(&m->length[l].lately[k]);
        }
    }
    for (int k = 0; k < GW_STRAIN_KINDS; k++) {
        free(m->history[k]);
        free(m->psd[k]);
        free(m->out.full.of[k]);
        free(m->out.fine.of[k]);
        free(m->out.range[k]);
    }
    for (int b = 0; b < GW_REPORT_BANDS; b++) {
        free(m->out.mean[b]);
        free(m->out.integrated[b]);
    }
    free(m->out.map[0]);
    free(m->out.map[1]);
    free(m->out.ratio);
    free(m->out.t_s);
    free(m);
}

/* ---- figures ---- */

/* Whether f counts in a band; an outside band leaves out what is to be cleaned, and some of what is next to
 * it, for the window leaks. */
static bool in_band(const gw_measure *m, int b, double f)
{
    if (f < m->band[b].low_hz || f >= m->band[b].high_hz)
        return false;
    for (int i = 0; m->band[b].outside && i < m->n_bands; i++)
        if (!m->band[i].outside && f > m->band[i].low_hz - guard_hz && f < m->band[i].high_hz + guard_hz)
            return false;
    return true;
}

static gw_report_figures figures(const gw_measure *m, int b, const double *raw, const double *psd,
                                 double *loudest_hz)
{
    gw_report_figures g = {.worst = NAN, .worst_hz = NAN, .loudest = NAN};
    const double bin_hz = m->out.full.bin_hz;
    double before = 0, after = 0, loudest = -1;
    uint32_t n = 0;
    for (uint32_t k = 0; k < m->length[FULL].bins; k++) {
        if (!in_band(m, b, k * bin_hz))
            continue;
        const double r = raw[k] > 0 ? sqrt(psd[k] / raw[k]) : psd[k] > 0 ? INFINITY : 1;
        before += raw[k];
        after += psd[k];
        g.mean += r;
        n++;
        if (!(r <= g.worst)) {
            g.worst = r;
            g.worst_hz = k * bin_hz;
        }
        if (raw[k] > loudest) {
            loudest = raw[k];
            g.loudest = r;
            *loudest_hz = k * bin_hz;
        }
    }
    g.mean = n ? g.mean / n : NAN;
    g.integrated = before > 0 ? sqrt(after / before) : NAN;
    return g;
}

/* ---- in time ---- */

/* Row r of the maps holds the frequencies from row_hz(r) to row_hz(r + 1). */
static double row_hz(const gw_measured *o, int r)
{
    return o->low_hz * pow(o->high_hz / o->low_hz, (double)r / GW_REPORT_ROWS);
}

/* Where rows are narrower than bins, the bin that the row lies in; else the mean over its bins. */
static void fill_maps(gw_measure *m, size_t column)
{
    gw_measured *o = &m->out;
    const double bin_hz = o->full.bin_hz;
    for (int r = 0; r < GW_REPORT_ROWS; r++) {
        const double lo = row_hz(o, r), hi = row_hz(o, r + 1);
        uint32_t first = (uint32_t)ceil(lo / bin_hz - 0.5), end = (uint32_t)ceil(hi / bin_hz - 0.5);
        end = end > first ? end : first + 1;
        double sum[2] = {0, 0};
        for (uint32_t k = first; k < end; k++) {
            sum[0] += m->psd[GW_RAW][k];
            sum[1] += m->psd[GW_CLEAN][k];
        }
        const size_t at = (size_t)r * o->n + column;
        o->map[0][at] = (float)(sqrt(sum[0] / (end - first)));
        o->map[1][at] = (float)(sqrt(sum[1] / (end - first)));
        o->ratio[at] = sum[0] > 0 ? (float)sqrt(sum[1] / sum[0]) : sum[1] > 0 ? INFINITY : 1;
    }
}

static int column(gw_measure *m, size_t at)
{
    gw_measured *o = &m->out;
    const length *full = &m->length[FULL], *range = &m->length[RANGE];
    o->t_s[at] = (double)m->second;
    if (full->lately[0].held >= full->lately[0].room) {
        for (int k = 0; k < GW_IDEAL; k++)
            GW_TRY(gw_median_estimate(&full->lately[k], m->psd[k]));
        for (int b = 0; b < m->n_bands; b++) {
            double hz;
            const gw_report_figures g = figures(m, b, m->psd[GW_RAW], m->psd[GW_CLEAN], &hz);
            o->mean[b][at] = g.mean;
            o->integrated[b][at] = g.integrated;
        }
        fill_maps(m, at);
    }
    for (int k = 0; k < m->kinds && range->lately[0].held >= RANGE_ENOUGH; k++) {
        GW_TRY(gw_median_estimate(&range->lately[k], m->psd[k]));
        o->range[k][at] = gw_range_mpc(m->psd[k], range->bins, 1.0 / range->seconds, 0.44 * m->rate);
    }
    return GW_OK;
}

/* ---- what comes ---- */

static bool is_whole(const gw_measure *m, const double *const *x)
{
    for (int k = 0; k < m->kinds; k++)
        for (uint32_t i = 0; i < m->rate; i++)
            if (!isfinite(x[k][i]))
                return false;
    return true;
}

/* Of all strains or of none: a segment whose power is beyond a double's reach counts as a hole. */
static int take_segments(gw_measure *m, length *l)
{
    for (int k = 0; k < m->kinds; k++) {
        if (gw_psd_add(l->one, m->history[k] + (size_t)(HISTORY_S - l->seconds) * m->rate) < 0)
            return GW_OK;
        memcpy(m->psd[k], gw_psd_held(l->one, 0), l->bins * sizeof *m->psd[k]);
    }
    for (int k = 0; k < m->kinds; k++) {
        GW_TRY(gw_median_pile(&l->all[k], m->psd[k]));
        if (l->lately[k].room)
            gw_median_slide(&l->lately[k], m->psd[k]);
    }
    return GW_OK;
}

int gw_measure_second(gw_measure *m, const double *const *x)
{
    const size_t n = m->rate, held = (HISTORY_S - 1) * n;
    m->second++;
    if (is_whole(m, x)) {
        for (int k = 0; k < m->kinds; k++) {
            memmove(m->history[k], m->history[k] + n, held * sizeof(double));
            memcpy(m->history[k] + held, x[k], n * sizeof(double));
        }
        m->whole++;
        m->out.seconds++;
    } else {
        m->whole = 0;
        for (int l = 0; l < LENGTHS; l++)
            for (int k = 0; k < m->kinds; k++)
                gw_median_forget(&m->length[l].lately[k]);
    }
    for (int l = 0; l < LENGTHS; l++)
        if (m->whole >= m->length[l].seconds && m->second % m->length[l].every == 0)
            GW_TRY(take_segments(m, &m->length[l]));
    return m->second % m->step == 0 ? column(m, (size_t)(m->second / m->step) - 1) : GW_OK;
}

static int estimate(const length *l, gw_psd_pair *p, int kinds)
{
    p->segments = (uint32_t)l->all[0].total;
    for (int k = 0; k < kinds && p->segments; k++)
        GW_TRY(gw_median_estimate(&l->all[k], p->of[k]));
    return GW_OK;
}

int gw_measure_finish(gw_measure *m, const gw_measured **result)
{
    gw_measured *o = &m->out;
    const length *range = &m->length[RANGE];
    GW_TRY(estimate(&m->length[FULL], &o->full, m->kinds));
    GW_TRY(estimate(&m->length[FINE], &o->fine, m->kinds));
    if (o->full.segments < NEED)
        return gw_fail(
            GW_ERANGE,
            "too little data: %u segments of 2 s in which strain is there before and after, and at "
            "least %d are needed",
            o->full.segments, NEED);
    if (o->fine.segments < NEED)
        o->fine.segments = 0;
    for (int b = 0; b < m->n_bands; b++)
        for (int k = GW_CLEAN; k < m->kinds; k++)
            o->figures[b][k] = figures(m, b, o->full.of[GW_RAW], o->full.of[k], &o->loudest_hz[b]);
    for (int k = 0; k < m->kinds && range->all[0].total >= NEED; k++) {
        GW_TRY(gw_median_estimate(&range->all[k], m->psd[k]));
        o->range_mpc[k] = gw_range_mpc(m->psd[k], range->bins, 1.0 / range->seconds, 0.44 * m->rate);
    }
    *result = o;
    return GW_OK;
}
