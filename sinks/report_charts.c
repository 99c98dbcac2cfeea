/* SPDX-License-Identifier: GPL-3.0-or-later
 * The pictures of a report; see report.h. Before is orange, after is blue, the ideal green, everywhere. */
#include "pipeline/clock.h"
#include "sinks/page.h"
#include "sinks/report.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { WIDTH = 960, HALF = 474 };

static const gw_rgb *const colours[] = {&gw_chart_blue,   &gw_chart_orange, &gw_chart_green,
                                        &gw_chart_purple, &gw_chart_amber,  &gw_chart_sky};
static const char *const kind_names[] = {"before", "after", "ideal"};

/* ---- over frequency ---- */

static void mark_bands(gw_chart *c, const gw_report_subject *s, bool named)
{
    for (int b = 0; b < s->n_bands && c->n_spans < GW_CHART_SPANS; b++)
        if (!s->band[b].outside)
            c->span[c->n_spans++] = (gw_chart_span){s->band[b].low_hz, s->band[b].high_hz, gw_chart_amber,
                                                    0.16, named ? s->band[b].name : NULL};
}

/* The amplitudes that are seen between x.from and x.to, with some room. */
static void fit_amplitudes(gw_chart *c)
{
    double least = INFINITY, most = 0;
    for (int l = 0; l < c->n_lines; l++)
        for (size_t i = 0; i < c->line[l].n; i++) {
            const double v = c->line[l].y[i];
            if (c->line[l].x[i] < c->x.from || c->line[l].x[i] > c->x.to || !(v > 0) || !isfinite(v))
                continue;
            least = fmin(least, v);
            most = fmax(most, v);
        }
    if (!(most > 0))
        least = most = 1;
    c->y.to = most * 2;
    c->y.from = fmax(least * 0.6, c->y.to * 1e-9);
    if (c->y.to / c->y.from < 10)
        c->y.from = c->y.to / 10;
}

static double *hertz(const gw_psd_pair *p)
{
    double *x = malloc(p->bins * sizeof *x);
    for (uint32_t k = 0; x && k < p->bins; k++)
        x[k] = k * p->bin_hz;
    return x;
}

/* sqrt(S), or sqrt(S / S_raw). */
static double *root(const gw_psd_pair *p, gw_strain_kind kind, bool ratio)
{
    double *y = malloc(p->bins * sizeof *y);
    for (uint32_t k = 0; y && k < p->bins; k++)
        y[k] = sqrt(ratio ? p->of[kind][k] / p->of[GW_RAW][k] : p->of[kind][k]);
    return y;
}

typedef struct curves {
    double *x, *y[GW_STRAIN_KINDS];
} curves;

static void free_curves(curves *v)
{
    free(v->x);
    for (int k = 0; k < GW_STRAIN_KINDS; k++)
        free(v->y[k]);
}

/* Fills the chart's lines: after over the ideal over before. */
static int add_curves(gw_chart *c, curves *v, const gw_psd_pair *p, bool ratio)
{
    static const gw_rgb *const of[] = {&gw_chart_orange, &gw_chart_blue, &gw_chart_green};
    *v = (curves){.x = hertz(p)};
    static const gw_strain_kind order[] = {GW_RAW, GW_IDEAL, GW_CLEAN};
    for (int i = ratio; i < GW_STRAIN_KINDS; i++) {
        const gw_strain_kind k = order[i];
        if (!p->of[k])
            continue;
        v->y[k] = root(p, k, ratio);
        if (!v->x || !v->y[k])
            return gw_fail(GW_ENOMEM, "chart");
        c->line[c->n_lines++] = (gw_chart_line){.name = kind_names[k],
                                                .x = v->x,
                                                .y = v->y[k],
                                                .n = p->bins,
                                                .colour = *of[k],
                                                .width = k == GW_IDEAL ? 1 : 1.3};
    }
    return GW_OK;
}

static const char amplitude[] = "ASD (strain/√Hz)";

static int whole_spectrum(FILE *to, const gw_report_subject *s)
{
    curves v, w;
    gw_chart c = {.title = "Amplitude spectral density",
                  .width = WIDTH,
                  .height = 440,
                  .level = NAN,
                  .x = {"frequency (Hz)", 8, 0.49 * s->rate_hz, .log = true},
                  .y = {amplitude, .log = true}};
    mark_bands(&c, s, true);
    int err = add_curves(&c, &v, &s->m->full, false);
    fit_amplitudes(&c);
    if (err == GW_OK)
        err = gw_page_figure(to, &c, "amplitude spectral density before and after");
    free_curves(&v);
    GW_TRY(err);
    gw_chart r = {.title = "Ratio to before, bin by bin",
                  .width = WIDTH,
                  .height = 260,
                  .level = 1,
                  .x = c.x,
                  .y = {.label = "amplitude ratio", .from = 0, .to = 1.3}};
    mark_bands(&r, s, false);
    err = add_curves(&r, &w, &s->m->full, true);
    if (err == GW_OK)
        err = gw_page_figure(to, &r, "ratio of the amplitudes, bin by bin");
    free_curves(&w);
    return err;
}

static int zoom(FILE *to, const gw_report_subject *s, double low_hz, double high_hz)
{
    const gw_psd_pair *p = s->m->fine.segments ? &s->m->fine : &s->m->full;
    const double pad = fmax(0.4 * (high_hz - low_hz), 2);
    if (high_hz + pad > (p->bins - 1) * p->bin_hz)
        p = &s->m->full;
    curves v;
    char title[96];
    snprintf(title, sizeof title, "%g to %g Hz (segments of %g s)", low_hz, high_hz, 1 / p->bin_hz);
    gw_chart c = {.title = title,
                  .width = HALF,
                  .height = 320,
                  .level = NAN,
                  .x = {.label = "frequency (Hz)",
                        .from = fmax(low_hz - pad, 2),
                        .to = fmin(high_hz + pad, 0.5 * s->rate_hz)},
                  .y = {amplitude, .log = true}};
    mark_bands(&c, s, false);
    int err = add_curves(&c, &v, p, false);
    for (int l = 0; l < c.n_lines; l++)
        c.line[l].width = 1.6;
    fit_amplitudes(&c);
    if (err == GW_OK)
        err = gw_page_figure(to, &c, title);
    free_curves(&v);
    return err;
}

int gw_report_chart_spectra(FILE *to, const gw_report_subject *s)
{
    GW_TRY(whole_spectrum(to, s));
    fputs("<div class=\"pair\">\n", to);
    for (int b = 0; b < s->n_bands; b++)
        if (!s->band[b].outside)
            GW_TRY(zoom(to, s, s->band[b].low_hz, s->band[b].high_hz));
    fputs("</div>\n", to);
    return GW_OK;
}

/* ---- over time ---- */

static gw_chart in_time(const gw_report_subject *s, char label[96])
{
    char utc[32];
    gw_gps_utc(s->start_gps * GW_SECOND_NS, utc, sizeof utc);
    utc[10] = ' ';
    utc[19] = '\0';
    snprintf(label, 96, "seconds from GPS %lld  (%s UTC)", (long long)s->start_gps, utc);
    gw_chart c = {.width = WIDTH,
                  .level = NAN,
                  .x = {label, 0, (double)s->seconds, .gps = true, .gps_s = s->start_gps}};
    for (int i = 0; i < s->n_holes; i++)
        c.span[c.n_spans++] = (gw_chart_span){s->hole[i].from_s, s->hole[i].to_s, gw_pen_missing, 0.35, NULL};
    return c;
}

/* Line number `hue` of its kind, a band or a coupling; as many as fit. Without y it was not recorded. */
static void add_line(gw_chart *c, int hue, gw_chart_line l)
{
    l.colour = *colours[(size_t)hue % (sizeof colours / sizeof *colours)];
    if (l.y && c->n_lines < GW_CHART_LINES)
        c->line[c->n_lines++] = l;
}

static void fit_ratio(gw_chart *c)
{
    double most = 1.1;
    for (int l = 0; l < c->n_lines; l++)
        for (size_t i = 0; i < c->line[l].n; i++)
            if (isfinite(c->line[l].y[i]))
                most = fmax(most, c->line[l].y[i]);
    c->y.from = 0;
    c->y.to = fmin(most * 1.05, 5);
}

static int ratios(FILE *to, const gw_report_subject *s)
{
    char label[96], title[96];
    gw_chart c = in_time(s, label);
    char(*name)[80] = calloc((size_t)s->n_bands, sizeof *name);
    if (!name)
        return gw_fail(GW_ENOMEM, "chart");
    snprintf(title, sizeof title,
             "After / before in time, median over %g s: mean over bins, and integrated (dashed)",
             s->m->window_s);
    c.title = title;
    c.height = 300;
    c.level = 1;
    c.y.label = "ASD ratio";
    const gw_measured *m = s->m;
    for (int b = 0; b < s->n_bands; b++) {
        if (s->band[b].outside)
            continue;
        snprintf(name[b], sizeof *name, "%s", s->band[b].name);
        add_line(&c, b,
                 (gw_chart_line){.name = name[b], .x = m->t_s, .y = m->mean[b], .n = m->n, .width = 1.7});
        add_line(&c, b,
                 (gw_chart_line){.x = m->t_s, .y = m->integrated[b], .n = m->n, .width = 1, .dashed = true});
    }
    fit_ratio(&c);
    int err = gw_page_figure(to, &c, title);
    free(name);
    return err;
}

static int recorded(FILE *to, const gw_report_subject *s)
{
    char label[96];
    gw_chart c = in_time(s, label);
    c.title = "As the run measured it, not gated: mean over bins, and out of band (dashed)";
    c.height = 260;
    c.level = 1;
    c.y.label = "ASD ratio";
    for (int i = 0; i < s->n_couplings; i++) {
        const gw_report_coupling *k = &s->coupling[i];
        add_line(&c, i,
                 (gw_chart_line){.name = k->name, .x = k->t_s, .y = k->ratio, .n = k->n, .width = 1.7});
        add_line(&c, i, (gw_chart_line){.x = k->t_s, .y = k->outside, .n = k->n, .width = 1, .dashed = true});
    }
    fit_ratio(&c);
    return c.n_lines ? gw_page_figure(to, &c, "the ratio as it was recorded") : GW_OK;
}

/* Each in a lane of its own, one above the other as in the legend from left to right. */
static int gates(FILE *to, const gw_report_subject *s)
{
    char label[96];
    gw_chart c = in_time(s, label);
    const int lanes = s->n_couplings;
    const size_t n = lanes ? s->coupling[0].n : 0; /* all have the same columns */
    double *y = calloc((size_t)lanes * n + 1, sizeof *y);
    if (!y)
        return gw_fail(GW_ENOMEM, "chart");
    c.title = "Gates: from nothing (0) to all (1) of a prediction is subtracted";
    c.height = 120 + 40 * lanes;
    c.y = (gw_chart_axis){.label = "weight", .from = 0, .to = lanes, .bare = true};
    for (int i = 0; i < lanes; i++) {
        const gw_report_coupling *k = &s->coupling[i];
        for (size_t t = 0; t < n && k->gate; t++)
            y[(size_t)i * n + t] = lanes - 1 - i + 0.1 + 0.8 * k->gate[t];
        add_line(&c, i,
                 (gw_chart_line){.name = k->name,
                                 .x = k->t_s,
                                 .y = k->gate ? y + (size_t)i * n : NULL,
                                 .n = n,
                                 .width = 2.2,
                                 .steps = true});
    }
    const int err = c.n_lines ? gw_page_figure(to, &c, "state of the gates in time") : GW_OK;
    free(y);
    return err;
}

static int ranges(FILE *to, const gw_report_subject *s)
{
    char label[96];
    gw_chart c = in_time(s, label);
    const gw_measured *m = s->m;
    static const gw_rgb *const of[] = {&gw_chart_orange, &gw_chart_blue, &gw_chart_green};
    double least = INFINITY, most = 0;
    for (int k = 0; k < GW_STRAIN_KINDS; k++) {
        for (size_t i = 0; m->range[k] && i < m->n; i++)
            if (isfinite(m->range[k][i])) {
                least = fmin(least, m->range[k][i]);
                most = fmax(most, m->range[k][i]);
            }
        if (m->range[k])
            c.line[c.n_lines++] = (gw_chart_line){
                kind_names[k], m->t_s, m->range[k], m->n, *of[k], k == GW_IDEAL ? 1.1 : 1.8, false, false};
    }
    if (!(most > 0))
        return GW_OK;
    const double room = fmax(0.15 * (most - least), 0.01 * most);
    c.title = "Range for binary neutron stars of 1.4 + 1.4 solar masses, SNR 8, sky average";
    c.height = 260;
    c.y = (gw_chart_axis){.label = "range (Mpc)", .from = fmax(least - room, 0), .to = most + room};
    return gw_page_figure(to, &c, "range for binary neutron stars in time");
}

int gw_report_chart_times(FILE *to, const gw_report_subject *s)
{
    GW_TRY(ratios(to, s));
    GW_TRY(recorded(to, s));
    GW_TRY(gates(to, s));
    return ranges(to, s);
}

/* ---- maps ---- */

static int ascending(const void *a, const void *b)
{
    const float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

/* The values that a share of the map lies below. */
static int quantiles(const float *map, size_t n, double low, double high, double *at_low, double *at_high)
{
    float *x = malloc((n + 1) * sizeof *x);
    if (!x)
        return gw_fail(GW_ENOMEM, "chart");
    size_t m = 0;
    for (size_t i = 0; i < n; i++)
        if (isfinite(map[i]) && map[i] > 0)
            x[m++] = map[i];
    qsort(x, m, sizeof *x, ascending);
    *at_low = m ? (double)x[(size_t)(low * (double)(m - 1))] : 1;
    *at_high = m ? (double)x[(size_t)(high * (double)(m - 1))] : 2;
    if (!(*at_high > *at_low * 1.01))
        *at_high = *at_low * 2;
    free(x);
    return GW_OK;
}

int gw_report_chart_maps(FILE *to, const gw_report_subject *s)
{
    const gw_measured *m = s->m;
    char label[96];
    gw_chart c = in_time(s, label);
    GW_TRY(quantiles(m->map[0], m->n * GW_REPORT_ROWS, 0.005, 0.985, &c.low, &c.high));
    c.x.to = (double)m->n * m->step_s;
    c.y = (gw_chart_axis){"frequency (Hz)", m->low_hz, m->high_hz, .log = true};
    c.rows = GW_REPORT_ROWS;
    c.cols = m->n;
    c.n_spans = 0;
    c.height = 290;
    c.log_colours = true;
    c.bar_label = amplitude;
    c.title = "Before";
    c.image = m->map[0];
    GW_TRY(gw_page_figure(to, &c, "spectrogram before"));
    c.title = "After";
    c.image = m->map[1];
    GW_TRY(gw_page_figure(to, &c, "spectrogram after"));
    c.title = "After / before";
    c.image = m->ratio;
    c.diverging = true;
    c.high = 5;
    c.bar_label = "amplitude ratio";
    return gw_page_figure(to, &c, "spectrogram of the ratio");
}
