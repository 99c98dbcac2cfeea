/* SPDX-License-Identifier: GPL-3.0-or-later
 * evaluation.h: the figures. */
#include "sinks/evaluation.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const double gw_eval_rate_hz[GW_RATES] = {1.0 / 3600, 1.0 / 86400};
const double gw_eval_edge[GW_EVAL_BINS + 1] = {5, 7, 10, 15, 20, 30, 70};

enum { DRAWS = 2000, LEAST_STRETCHES = 6 };
static const double bin_width = 0.05, even_ratio = 0.3, timed_snr = 12;

/* ---- the background ---- */

int gw_eval_background_add(gw_eval_background *b, const float *statistic, size_t n, double slid_s,
                           double distinct_s, double floor)
{
    if (b->n + n > b->room) {
        const size_t room = 2 * (b->n + n);
        float *more = realloc(b->statistic, room * sizeof *more);
        if (!more)
            return gw_fail(GW_ENOMEM, "%zu clusters of noise", room);
        b->statistic = more;
        b->room = room;
    }
    gw_eval_stretch *more = realloc(b->stretch, (b->n_stretches + 1) * sizeof *more);
    if (!more)
        return gw_fail(GW_ENOMEM, "%zu stretches of noise", b->n_stretches + 1);
    b->stretch = more;
    more[b->n_stretches++] = (gw_eval_stretch){n, slid_s};
    if (n)
        memcpy(b->statistic + b->n, statistic, n * sizeof *statistic);
    b->floor = b->slid_s > 0 ? fmax(b->floor, floor) : floor;
    b->n += n;
    b->slid_s += slid_s;
    b->distinct_s += distinct_s;
    return GW_OK;
}

/* The edge of a bin belongs to the bin, whatever the division makes of it (as in card.c). */
static double bin_of(const gw_eval_background *b, double statistic)
{
    return floor((statistic - b->first_bin) / b->bin_width + 1e-9);
}

static int count_bins(gw_eval_background *b)
{
    b->bin_width = bin_width;
    b->first_bin = ceil(b->floor / bin_width - 1e-9) * bin_width;
    double last = 0;
    for (size_t i = 0; i < b->n; i++)
        if (isfinite(b->statistic[i]))
            last = fmax(last, bin_of(b, (double)b->statistic[i]));
    if (last >= GW_EVAL_HISTOGRAM)
        return gw_fail(GW_ERANGE, "the loudest noise is %g above the floor: more than %d bins of %g",
                       last * bin_width, GW_EVAL_HISTOGRAM, bin_width);
    free(b->count);
    b->bins = (uint32_t)last + 1;
    b->count = calloc(b->bins, sizeof *b->count);
    if (!b->count)
        return gw_fail(GW_ENOMEM, "%u bins", b->bins);
    for (size_t i = 0; i < b->n; i++) {
        const double bin = bin_of(b, (double)b->statistic[i]);
        if (bin >= 0 && bin <= last)
            b->count[(uint32_t)bin]++;
    }
    return GW_OK;
}

static int find_threshold(gw_eval_background *b, int rate, int searches)
{
    static const char *const unit[GW_RATES] = {"hour", "day"};
    const double own_hz = gw_eval_rate_hz[rate] / searches;
    char text[32];
    if (searches > 1)
        snprintf(text, sizeof text, "in %d %ss", searches, unit[rate]);
    else
        snprintf(text, sizeof text, "%s %s", rate == GW_PER_HOUR ? "an" : "a", unit[rate]);
    if (!(b->slid_s * own_hz >= 1))
        return gw_fail(GW_ERANGE,
                       "%.0f s of background cannot tell what noise does once %s: more --days, or --hours",
                       b->slid_s, text);
    uint64_t above = 0;
    uint32_t edge = b->bins; /* nothing is louder */
    while (edge > 0 && (double)(above + b->count[edge - 1] + 1) / b->slid_s <= own_hz)
        above += b->count[--edge];
    if (edge == 0)
        return gw_fail(GW_ERANGE, "noise above the floor of %g is rarer than once %s already", b->floor,
                       text);
    /* A whole number of bins from 0, without the dust of the multiplication. */
    b->threshold[rate] = round((b->first_bin + edge * b->bin_width) * 1e6) / 1e6;
    return GW_OK;
}

static int ascending(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* As numpy's: linear between the two nearest. */
static double quantile(const double *sorted, size_t n, double q)
{
    if (!n)
        return NAN;
    const double at = q * (double)(n - 1);
    const size_t i = (size_t)at;
    return i + 1 < n ? sorted[i] + (at - (double)i) * (sorted[i + 1] - sorted[i]) : sorted[n - 1];
}

/* A whole number below n: SplitMix64. */
static size_t draw(uint64_t *state, size_t n)
{
    uint64_t z = (*state += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return (size_t)((z ^ (z >> 31)) % n);
}

/* The rate at the threshold, if other stretches had been drawn. */
static int resample(gw_eval_background *b, int rate, int searches)
{
    b->rate_low_hz[rate] = b->rate_high_hz[rate] = NAN;
    if (b->n_stretches < LEAST_STRETCHES)
        return GW_OK;
    uint64_t state = 1;
    double drawn[DRAWS];
    uint32_t *above = calloc(b->n_stretches, sizeof *above);
    if (!above)
        return gw_fail(GW_ENOMEM, "%zu stretches of noise", b->n_stretches);
    const double edge = bin_of(b, b->threshold[rate]);
    for (size_t k = 0, i = 0; k < b->n_stretches; k++)
        for (size_t end = i + b->stretch[k].n; i < end; i++)
            above[k] += bin_of(b, (double)b->statistic[i]) >= edge;
    for (int d = 0; d < DRAWS; d++) {
        double n = 0, slid_s = 0;
        for (size_t k = 0; k < b->n_stretches; k++) {
            const size_t at = draw(&state, b->n_stretches);
            n += above[at];
            slid_s += b->stretch[at].slid_s;
        }
        drawn[d] = searches * (n + 1) / slid_s;
    }
    free(above);
    qsort(drawn, DRAWS, sizeof *drawn, ascending);
    b->rate_low_hz[rate] = quantile(drawn, DRAWS, 0.05);
    b->rate_high_hz[rate] = quantile(drawn, DRAWS, 0.95);
    return GW_OK;
}

int gw_eval_background_count(gw_eval_background *b, int searches)
{
    GW_TRY(count_bins(b));
    for (int r = 0; r < GW_RATES; r++) {
        GW_TRY(find_threshold(b, r, searches));
        GW_TRY(resample(b, r, searches));
    }
    return GW_OK;
}

void gw_eval_background_free(gw_eval_background *b)
{
    free(b->statistic);
    free(b->stretch);
    free(b->count);
    *b = (gw_eval_background){0};
}

/* ---- shares ---- */

gw_eval_share gw_eval_share_of(uint32_t k, uint32_t n, double z)
{
    gw_eval_share s = {.n = n, .k = k, .share = NAN, .low = 0, .high = 1};
    if (!n)
        return s;
    const double p = (double)k / n, zz = z * z / n;
    const double centre = (p + zz / 2) / (1 + zz), half = sqrt(p * (1 - p) * zz + zz * zz / 4) / (1 + zz);
    s.share = p;
    s.low = k ? centre - half : 0;
    s.high = k < n ? centre + half : 1;
    return s;
}

static bool in_bin(const gw_eval_signal *s, int bin)
{
    return bin == GW_EVAL_BINS ||
           (s->chirp_mass >= gw_eval_edge[bin] && s->chirp_mass < gw_eval_edge[bin + 1]);
}

typedef struct counting {
    const gw_eval_signal *s;
    size_t n;
} counting;

static gw_eval_share share(counting c, double snr, int rate, int bin, double least_ratio)
{
    uint32_t n = 0, k = 0;
    for (size_t i = 0; i < c.n; i++)
        if (c.s[i].snr == snr && in_bin(&c.s[i], bin) && c.s[i].ratio > least_ratio) {
            n++;
            k += c.s[i].found[rate];
        }
    return gw_eval_share_of(k, n, 1);
}

/* ---- distance ---- */

/* The weight of each SNR's value in int value(rho) rho^-4 drho. */
static void weigh(const gw_eval *e, double weight[GW_EVAL_SNRS])
{
    memset(weight, 0, GW_EVAL_SNRS * sizeof *weight);
    for (int k = 0; k + 1 < e->n_snrs; k++) {
        const double a = e->snr[k], b = e->snr[k + 1];
        const double i4 = (pow(a, -3) - pow(b, -3)) / 3, i3 = (pow(a, -2) - pow(b, -2)) / 2;
        weight[k] += (b * i4 - i3) / (b - a);
        weight[k + 1] += (i3 - a * i4) / (b - a);
    }
    weight[e->n_snrs - 1] += pow(e->snr[e->n_snrs - 1], -3) / 3;
}

static gw_eval_distance distance(const gw_eval *e, counting c, int rate, int bin)
{
    double weight[GW_EVAL_SNRS], volume = 0, variance = 0, most = 0, signals = 0;
    weigh(e, weight);
    for (int k = 0; k < e->n_snrs; k++) {
        double sum = 0, squares = 0, n = 0;
        for (size_t i = 0; i < c.n; i++) {
            const gw_eval_signal *s = &c.s[i];
            if (s->snr != e->snr[k] || !in_bin(s, bin))
                continue;
            const double cube = pow(s->unit_snr, 3), v = s->found[rate] ? cube : 0;
            n++;
            sum += v;
            squares += v * v;
            most += cube;
        }
        if (n < 2)
            return (gw_eval_distance){NAN, NAN, NAN};
        signals += n;
        const double mean = sum / n;
        volume += weight[k] * mean;
        variance += weight[k] * weight[k] * fmax(squares / n - mean * mean, 0) / (n - 1);
    }
    gw_eval_distance d = {.mpc = cbrt(3 * volume), .most_mpc = cbrt(most / signals) / e->snr[0]};
    d.error_mpc = volume > 0 ? d.mpc * sqrt(variance) / volume / 3 : NAN;
    return d;
}

/* ---- times ---- */

typedef struct errors {
    double *x;
    size_t n;
    uint32_t with_sigma, covered;
} errors;

static void take_error(errors *e, double error_s, double sigma_s)
{
    if (!isfinite(error_s))
        return;
    e->x[e->n++] = error_s;
    if (sigma_s > 0) {
        e->with_sigma++;
        e->covered += fabs(error_s) <= sigma_s;
    }
}

static gw_eval_timing close_errors(errors *e)
{
    gw_eval_timing t = {.n = (uint32_t)e->n, .covered = gw_eval_share_of(e->covered, e->with_sigma, 1)};
    qsort(e->x, e->n, sizeof *e->x, ascending);
    t.bias_s = quantile(e->x, e->n, 0.5);
    for (size_t i = 0; i < e->n; i++)
        e->x[i] = fabs(e->x[i]);
    qsort(e->x, e->n, sizeof *e->x, ascending);
    t.median_s = quantile(e->x, e->n, 0.5);
    t.most_s = quantile(e->x, e->n, 0.9);
    return t;
}

/* Of SNRs from `from` to `to`. own: of each detector's own arrival, or of this one's; NULL: of the later one's. */
static gw_eval_timing timing(counting c, double *scratch, double from, double to, int bin, const char *own)
{
    errors e = {.x = scratch};
    for (size_t i = 0; i < c.n; i++) {
        const gw_eval_signal *s = &c.s[i];
        if (s->snr < from || s->snr > to || !in_bin(s, bin) || !s->found[GW_PER_HOUR])
            continue;
        if (!own)
            take_error(&e, s->error_s, s->sigma_s);
        for (int d = 0; own && d < s->n_arrivals; d++)
            if (!*own || strcmp(own, s->arrival_at[d]) == 0)
                take_error(&e, s->arrival_error_s[d], s->arrival_sigma_s[d]);
    }
    return close_errors(&e);
}

static gw_eval_latency latency(counting c, double *scratch, double from, double to)
{
    size_t n = 0;
    for (size_t i = 0; i < c.n; i++)
        if (c.s[i].snr >= from && c.s[i].snr <= to && c.s[i].found[GW_PER_HOUR] && isfinite(c.s[i].latency_s))
            scratch[n++] = c.s[i].latency_s;
    qsort(scratch, n, sizeof *scratch, ascending);
    return (gw_eval_latency){(uint32_t)n, quantile(scratch, n, 0.5), quantile(scratch, n, 0.9)};
}

/* ---- who found them ---- */

static void list_detectors(gw_eval *e, counting c)
{
    for (size_t i = 0; i < c.n; i++)
        for (int d = 0; d < c.s[i].n_arrivals; d++) {
            const char *name = c.s[i].arrival_at[d];
            int at = 0;
            while (at < e->n_detectors && strcmp(e->detector[at], name) < 0)
                at++;
            if (!*name || e->n_detectors == GW_EVAL_DETECTORS ||
                (at < e->n_detectors && strcmp(e->detector[at], name) == 0))
                continue;
            memmove(e->detector[at + 1], e->detector[at],
                    (size_t)(e->n_detectors++ - at) * sizeof *e->detector);
            memcpy(e->detector[at], name, sizeof *e->detector);
        }
}

/* The set's place among the others, where it is given one if it has none. NULL: there are too many. */
static gw_eval_tally *find_set(gw_eval *e, const char *detectors)
{
    int at = 0;
    while (at < e->n_sets && strcmp(e->set[at].name, detectors) < 0)
        at++;
    if (at < e->n_sets && strcmp(e->set[at].name, detectors) == 0)
        return &e->set[at];
    if (e->n_sets == GW_EVAL_SETS)
        return NULL;
    memmove(&e->set[at + 1], &e->set[at], (size_t)(e->n_sets++ - at) * sizeof *e->set);
    e->set[at] = (gw_eval_tally){0};
    snprintf(e->set[at].name, sizeof e->set[at].name, "%s", detectors);
    return &e->set[at];
}

static int tally(gw_eval *e, counting c)
{
    for (size_t i = 0; i < c.n; i++) {
        const gw_eval_signal *s = &c.s[i];
        int k = 0;
        while (k < e->n_snrs && s->snr != e->snr[k])
            k++;
        if (k == e->n_snrs || !s->found[GW_PER_HOUR] || !*s->detectors)
            continue;
        gw_eval_tally *set = find_set(e, s->detectors);
        if (!set)
            return gw_fail(GW_ERANGE, "events of more than %d sets of detectors", GW_EVAL_SETS);
        for (int r = 0; r < GW_RATES; r++) {
            set->found[r][k] += s->found[r];
            for (int b = 0; b < GW_EVAL_SEARCHES; b++)
                e->part[b][r][k] += s->found[r] && (s->searches >> b & 1);
        }
    }
    return GW_OK;
}

int gw_eval_measure(gw_eval *e, const gw_eval_signal *s, size_t n, const double *snr, int n_snrs)
{
    *e = (gw_eval){.n_snrs = n_snrs};
    memcpy(e->snr, snr, (size_t)n_snrs * sizeof *snr);
    qsort(e->snr, (size_t)n_snrs, sizeof *e->snr, ascending);
    double *scratch = malloc((n + 1) * GW_EVAL_DETECTORS * sizeof *scratch);
    if (!scratch)
        return gw_fail(GW_ENOMEM, "%zu injections", n);
    const counting c = {s, n};
    for (int r = 0; r < GW_RATES; r++) {
        for (int bin = 0; bin <= GW_EVAL_BINS; bin++) {
            for (int k = 0; k < n_snrs; k++)
                e->found[r][bin][k] = share(c, e->snr[k], r, bin, -1);
            e->distance[r][bin] = distance(e, c, r, bin);
        }
        for (int k = 0; k < n_snrs; k++)
            e->even[r][k] = share(c, e->snr[k], r, GW_EVAL_BINS, even_ratio);
    }
    const double most = e->snr[n_snrs - 1];
    e->timed_from = most >= timed_snr ? timed_snr : e->snr[0];
    for (int k = 0; k < n_snrs; k++) {
        e->later[k] = timing(c, scratch, e->snr[k], e->snr[k], GW_EVAL_BINS, NULL);
        e->each[k] = timing(c, scratch, e->snr[k], e->snr[k], GW_EVAL_BINS, "");
        e->latency[k] = latency(c, scratch, e->snr[k], e->snr[k]);
    }
    for (int bin = 0; bin <= GW_EVAL_BINS; bin++)
        e->timed[bin] = timing(c, scratch, e->timed_from, most, bin, NULL);
    e->timed_each = timing(c, scratch, e->timed_from, most, GW_EVAL_BINS, "");
    list_detectors(e, c);
    for (int d = 0; d < e->n_detectors; d++)
        e->timed_at[d] = timing(c, scratch, e->timed_from, most, GW_EVAL_BINS, e->detector[d]);
    e->latency[GW_EVAL_SNRS] = latency(c, scratch, e->snr[0], most);
    free(scratch);
    return tally(e, c);
}
