/* SPDX-License-Identifier: GPL-3.0-or-later
 * evaluation.h: the page and its pictures. */
#include "sinks/evaluation.h"

#include "sinks/page.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { WIDTH = 960, HALF = 474, PATH = 1200 };

static const char *const rate_text[GW_RATES] = {"one an hour", "one a day"};
static const gw_rgb *const bin_colour[GW_EVAL_BINS] = {&gw_chart_purple, &gw_chart_orange, &gw_chart_amber,
                                                       &gw_chart_green,  &gw_chart_sky,    &gw_chart_blue};

/* ---- pictures ---- */

typedef struct album {
    const char *folder;
    FILE *page;
} album;

static int write_png(const album *a, const gw_chart *c, const char *name)
{
    char path[PATH], part[PATH + 8], *data;
    size_t n;
    snprintf(path, sizeof path, "%s/evaluate-%s.png", a->folder, name);
    snprintf(part, sizeof part, "%s.part", path);
    GW_TRY(gw_chart_png(c, &data, &n));
    FILE *to = fopen(part, "wb");
    bool put = to && fwrite(data, 1, n, to) == n && fflush(to) == 0 && fsync(fileno(to)) == 0;
    int why = errno;
    free(data);
    if (to && fclose(to) != 0 && put) {
        put = false;
        why = errno;
    }
    if (put && rename(part, path) == 0)
        return GW_OK;
    why = put ? errno : why;
    remove(part);
    return gw_fail(GW_EIO, "%s: cannot be written (%s)", path, strerror(why));
}

static int show(const album *a, const gw_chart *c, const char *name, const char *what)
{
    GW_TRY(write_png(a, c, name));
    return gw_page_figure(a->page, c, what);
}

/* Two lines of the chart: the shares, and their intervals as upright strokes. */
typedef struct strokes {
    double x[GW_EVAL_SNRS], y[GW_EVAL_SNRS], bar_x[3 * GW_EVAL_SNRS], bar_y[3 * GW_EVAL_SNRS];
} strokes;

static void add_shares(gw_chart *c, strokes *v, const gw_eval *e, const gw_eval_share *s, const char *name,
                       gw_rgb colour, bool dashed)
{
    for (int k = 0; k < e->n_snrs; k++) {
        v->x[k] = e->snr[k];
        v->y[k] = s[k].share;
        const double bar[] = {s[k].low, s[k].high, NAN};
        for (int i = 0; i < 3; i++) {
            v->bar_x[3 * k + i] = e->snr[k];
            v->bar_y[3 * k + i] = s[k].n ? bar[i] : NAN;
        }
    }
    const size_t n = (size_t)e->n_snrs;
    c->line[c->n_lines++] = (gw_chart_line){
        .name = name, .x = v->x, .y = v->y, .n = n, .colour = colour, .width = 1.6, .dashed = dashed};
    c->line[c->n_lines++] =
        (gw_chart_line){.x = v->bar_x, .y = v->bar_y, .n = 3 * n, .colour = colour, .width = 1.2};
}

static gw_chart over_snr(const gw_eval *e, const char *title, const char *y, double most, double width)
{
    const double low = e->snr[0], high = e->snr[e->n_snrs - 1], room = fmax(0.05 * (high - low), 0.5);
    return (gw_chart){.title = title,
                      .width = width,
                      .height = 380,
                      .level = NAN,
                      .x = {.label = "network SNR", .from = low - room, .to = high + room},
                      .y = {.label = y, .from = 0, .to = most}};
}

static int efficiency_chart(const album *a, const gw_eval *e)
{
    strokes v[4];
    gw_chart c = over_snr(e, "Efficiency", "share found", 1.02, WIDTH);
    add_shares(&c, &v[0], e, e->found[GW_PER_HOUR][GW_EVAL_BINS], "one an hour, all", gw_chart_sky, false);
    add_shares(&c, &v[1], e, e->even[GW_PER_HOUR], "one an hour, ratio > 0.3", gw_chart_sky, true);
    add_shares(&c, &v[2], e, e->found[GW_PER_DAY][GW_EVAL_BINS], "one a day, all", gw_chart_blue, false);
    add_shares(&c, &v[3], e, e->even[GW_PER_DAY], "one a day, ratio > 0.3", gw_chart_blue, true);
    return show(a, &c, "efficiency", "share of injections found, by network SNR");
}

static int mass_chart(const album *a, const gw_eval *e)
{
    strokes v[GW_EVAL_BINS];
    char name[GW_EVAL_BINS][32];
    gw_chart c =
        over_snr(e, "Efficiency at one a day, by chirp mass (solar masses)", "share found", 1.02, WIDTH);
    for (int b = 0; b < GW_EVAL_BINS; b++) {
        snprintf(name[b], sizeof name[b], "%g-%g", gw_eval_edge[b], gw_eval_edge[b + 1]);
        add_shares(&c, &v[b], e, e->found[GW_PER_DAY][b], name[b], *bin_colour[b], false);
    }
    return show(a, &c, "chirp-mass", "share found at one a day, by network SNR and chirp mass");
}

static int timing_chart(const album *a, const gw_eval *e)
{
    double median[GW_EVAL_SNRS], most[GW_EVAL_SNRS], top = 1;
    for (int k = 0; k < e->n_snrs; k++) {
        median[k] = 1e3 * e->later[k].median_s;
        most[k] = 1e3 * e->later[k].most_s;
        if (most[k] > top)
            top = most[k];
    }
    gw_chart c = over_snr(e, "Error of the arrival at the later detector", "|error| (ms)", 1.15 * top, WIDTH);
    const size_t n = (size_t)e->n_snrs;
    c.line[c.n_lines++] = (gw_chart_line){
        .name = "nine tenths", .x = e->snr, .y = most, .n = n, .colour = gw_chart_orange, .width = 1.6};
    c.line[c.n_lines++] = (gw_chart_line){
        .name = "median", .x = e->snr, .y = median, .n = n, .colour = gw_chart_blue, .width = 1.6};
    return show(a, &c, "timing", "error of the time of arrival, by network SNR");
}

static const gw_rgb *search_colour(int i)
{
    static const gw_rgb *const colour[] = {&gw_chart_blue,   &gw_chart_green,  &gw_chart_amber,
                                           &gw_chart_purple, &gw_chart_orange, &gw_chart_sky};
    return colour[i % (int)(sizeof colour / sizeof colour[0])];
}

/* Rates of each search at the edges of its bins, those that `at` has room for. */
static void add_noise(gw_chart *c, const gw_eval_background *b, const char *name, const gw_rgb *colour,
                      double *at)
{
    double *x = at, *y = at + b->bins, above = 0;
    for (uint32_t i = b->bins; i-- > 0;) {
        above += b->count[i];
        x[i] = b->first_bin + i * b->bin_width;
        y[i] = (above + 1) / b->slid_s * 3600;
    }
    c->x.from = fmin(c->x.from, x[0] - 0.1);
    c->x.to = fmax(c->x.to, x[b->bins - 1] + 0.3);
    c->y.from = fmin(c->y.from, 0.5 / b->slid_s * 3600);
    c->y.to = fmax(c->y.to, 2 * y[0]);
    c->line[c->n_lines++] = (gw_chart_line){
        .name = name, .x = x, .y = y, .n = b->bins, .colour = *colour, .width = 1.6, .steps = true};
}

/* Where one search alone is judged its thresholds stand upright; of several, each has its own. */
static int background_chart(const album *a, const gw_eval_about *about)
{
    static const gw_rgb *const colour[GW_RATES] = {&gw_chart_sky, &gw_chart_orange};
    static const char *const of_set[GW_RATES] = {"one an hour of the set", "one a day of the set"};
    const int room = GW_CHART_LINES - GW_RATES, n = about->n_searches < room ? about->n_searches : room;
    size_t bins = 0, used = 0;
    for (int i = 0; i < n; i++)
        bins += about->search[i].noise.bins;
    double *at = malloc(2 * bins * sizeof *at);
    if (!at)
        return gw_fail(GW_ENOMEM, "%zu bins", bins);
    gw_chart c = {.title = "What noise does: (n + 1) / T",
                  .width = WIDTH,
                  .height = 380,
                  .level = NAN,
                  .x = {.label = "ranking statistic", .from = INFINITY, .to = -INFINITY},
                  .y = {.label = "an hour", .from = INFINITY, .to = 0, .log = true}};
    for (int i = 0; i < n; i++) {
        const gw_eval_background *b = &about->search[i].noise;
        add_noise(&c, b, n > 1 ? about->search[i].name : NULL, search_colour(i), at + used);
        used += 2 * (size_t)b->bins;
    }
    double edge[GW_RATES][2], rates[GW_RATES][2], ends[2] = {c.y.from, c.y.to}, width[2] = {c.x.from, c.x.to};
    for (int r = 0; r < GW_RATES; r++) {
        edge[r][0] = edge[r][1] = about->search[0].noise.threshold[r];
        rates[r][0] = rates[r][1] = 3600 * gw_eval_rate_hz[r] / about->n_searches;
        c.line[c.n_lines++] = (gw_chart_line){.name = n > 1 ? of_set[r] : rate_text[r],
                                              .x = n > 1 ? width : edge[r],
                                              .y = n > 1 ? rates[r] : ends,
                                              .n = 2,
                                              .colour = *colour[r],
                                              .width = 1.4,
                                              .dashed = true};
    }
    const int err = show(a, &c, "background", "rate at which noise reaches a statistic");
    free(at);
    return err;
}

/* ---- tables ---- */

static void share_cell(FILE *to, const gw_eval_share *s)
{
    if (!s->n) {
        fputs("<td>&ndash;</td>", to);
        return;
    }
    fprintf(to, "<td title=\"%u of %u\">%.3f <span class=\"soft\">%.3f&ndash;%.3f</span></td>", s->k, s->n,
            s->share, s->low, s->high);
}

static void share_row(FILE *to, const gw_eval *e, const char *name, const gw_eval_share *s)
{
    fprintf(to, "<tr><td>%s</td>", name);
    for (int k = 0; k < e->n_snrs; k++)
        share_cell(to, &s[k]);
    fputs("</tr>\n", to);
}

static void snr_head(FILE *to, const gw_eval *e, const char *first)
{
    fprintf(to, "<tr><th>%s</th>", first);
    for (int k = 0; k < e->n_snrs; k++)
        fprintf(to, "<th>SNR %g</th>", e->snr[k]);
    fputs("</tr>\n", to);
}

static void efficiency_table(FILE *to, const gw_eval *e, int rate)
{
    char name[48];
    fprintf(to, "<h3>At %s</h3>\n<table class=\"efficiency\">\n", rate_text[rate]);
    snr_head(to, e, "share found");
    share_row(to, e, "all", e->found[rate][GW_EVAL_BINS]);
    share_row(to, e, "detector SNR ratio &gt; 0.3", e->even[rate]);
    for (int b = 0; b < GW_EVAL_BINS; b++) {
        snprintf(name, sizeof name, "chirp mass %g&ndash;%g", gw_eval_edge[b], gw_eval_edge[b + 1]);
        share_row(to, e, name, e->found[rate][b]);
    }
    fputs("</table>\n", to);
}

static void number_cell(FILE *to, int decimals, double v)
{
    if (isfinite(v))
        fprintf(to, "<td>%.*f</td>", decimals, v);
    else
        fputs("<td>&ndash;</td>", to);
}

static void distance_table(FILE *to, const gw_eval *e)
{
    fputs("<table class=\"distance\">\n<tr><th>chirp mass</th><th>one an hour (Mpc)</th><th>one a day "
          "(Mpc)</th>"
          "<th>if all were found (Mpc)</th></tr>\n",
          to);
    for (int b = 0; b <= GW_EVAL_BINS; b++) {
        if (b < GW_EVAL_BINS)
            fprintf(to, "<tr><td>%g&ndash;%g</td>", gw_eval_edge[b], gw_eval_edge[b + 1]);
        else
            fputs("<tr><td>all</td>", to);
        for (int r = 0; r < GW_RATES; r++) {
            const gw_eval_distance *d = &e->distance[r][b];
            if (isfinite(d->mpc) && isfinite(d->error_mpc))
                fprintf(to, "<td>%.0f &plusmn; %.0f</td>", d->mpc, d->error_mpc);
            else
                number_cell(to, 0, d->mpc);
        }
        number_cell(to, 0, e->distance[GW_PER_DAY][b].most_mpc);
        fputs("</tr>\n", to);
    }
    fprintf(
        to,
        "</table>\n<p class=\"soft\">d = (3V/4&pi;)<sup>1/3</sup>, V = &lang;4&pi;u<sup>3</sup> &int; "
        "&epsilon;(&rho;) &rho;<sup>&minus;4</sup> d&rho;&rang;, u: network SNR of an injection from 1 Mpc; "
        "Euclidean, detector-frame masses, nothing below SNR %g counted (a lower bound). As in Usman et al. "
        "2016 (CQG 33 215004) and Tiwari 2018 (CQG 35 145009).</p>\n",
        e->snr[0]);
}

static void timing_row(FILE *to, const char *name, const gw_eval_timing *t)
{
    fprintf(to, "<tr><td>%s</td><td>%u</td>", name, t->n);
    number_cell(to, 2, 1e3 * t->median_s);
    number_cell(to, 2, 1e3 * t->most_s);
    number_cell(to, 2, 1e3 * t->bias_s);
    share_cell(to, &t->covered);
    fputs("</tr>\n", to);
}

static void timing_tables(FILE *to, const gw_eval *e, bool several)
{
    char name[96];
    fputs("<table class=\"timing\">\n<tr><th>arrival at the later detector</th><th>events</th><th>median "
          "|error| "
          "(ms)</th><th>90 % (ms)</th><th>bias (ms)</th><th>within the stated sigma</th></tr>\n",
          to);
    for (int k = 0; k < e->n_snrs; k++) {
        snprintf(name, sizeof name, "SNR %g", e->snr[k]);
        timing_row(to, name, &e->later[k]);
    }
    for (int b = 0; b <= GW_EVAL_BINS; b++) {
        if (b < GW_EVAL_BINS)
            snprintf(name, sizeof name, "SNR &ge; %g, chirp mass %g&ndash;%g", e->timed_from, gw_eval_edge[b],
                     gw_eval_edge[b + 1]);
        else
            snprintf(name, sizeof name, "SNR &ge; %g, all", e->timed_from);
        timing_row(to, name, &e->timed[b]);
    }
    snprintf(name, sizeof name, "SNR &ge; %g, each detector&rsquo;s own", e->timed_from);
    timing_row(to, name, &e->timed_each);
    for (int d = 0; several && d < e->n_detectors; d++) {
        snprintf(name, sizeof name, "SNR &ge; %g, at %s", e->timed_from, e->detector[d]);
        timing_row(to, name, &e->timed_at[d]);
    }
    fputs("</table>\n<p class=\"soft\">Of those found at one an hour. Bias: median of the error, event less "
          "truth.</p>\n",
          to);
}

static void count_row(FILE *to, const gw_eval *e, const char *what, const char *name, int rate,
                      const uint32_t *found)
{
    fprintf(to, "<tr><td>%s ", what);
    gw_page_text(to, name);
    fputs("</td>", to);
    for (int k = 0; k < e->n_snrs; k++)
        fprintf(to, "<td title=\"of %u\">%u</td>", e->found[rate][GW_EVAL_BINS][k].k, found[k]);
    fputs("</tr>\n", to);
}

/* Of several searches, who found them. */
static void set_tables(FILE *to, const gw_eval *e, const gw_eval_about *about)
{
    fputs("<h2>Who found them</h2>\n", to);
    for (int r = GW_RATES; r-- > 0;) {
        fprintf(to, "<h3>At %s</h3>\n<table class=\"set\">\n", rate_text[r]);
        snr_head(to, e, "events found");
        for (int i = 0; i < e->n_sets; i++)
            count_row(to, e, "in", e->set[i].name, r, e->set[i].found[r]);
        for (int i = 0; i < about->n_searches; i++)
            count_row(to, e, "with a word of", about->search[i].name, r, e->part[i][r]);
        fputs("</table>\n", to);
    }
    fprintf(to,
            "<p class=\"soft\">In: the detectors that the event names, those of all searches that have a "
            "word in it, each at "
            "once in %d hours or more rarely. One event a signal: its rate is the best search&rsquo;s times "
            "%d.</p>\n",
            about->n_searches, about->n_searches);
}

static void latency_table(FILE *to, const gw_eval *e)
{
    fputs("<table class=\"latency\">\n<tr><th>first crossing of one an hour</th><th>events</th><th>median "
          "(ms)</th><th>90 % (ms)</th></tr>\n",
          to);
    for (int k = 0; k <= e->n_snrs; k++) {
        const gw_eval_latency *l = &e->latency[k < e->n_snrs ? k : GW_EVAL_SNRS];
        if (k < e->n_snrs)
            fprintf(to, "<tr><td>SNR %g</td><td>%u</td>", e->snr[k], l->n);
        else
            fprintf(to, "<tr><td>all</td><td>%u</td>", l->n);
        number_cell(to, 0, 1e3 * l->median_s);
        number_cell(to, 0, 1e3 * l->most_s);
        fputs("</tr>\n", to);
    }
    fputs("</table>\n<p class=\"soft\">Stream time: the end of the block that holds the last sample needed, "
          "less the "
          "true arrival at the later detector. Computing, journal and brokers come on top (gwstream alerts "
          "stats).</p>\n",
          to);
}

static void tile(FILE *to, const char *value, const char *what)
{
    fprintf(to, "<div class=\"tile\"><b>%s</b><span>%s</span></div>\n", value, what);
}

static void heading(FILE *to, const gw_eval *e, const gw_eval_about *about)
{
    char value[64], what[96];
    const gw_eval_background *b = &about->search[0].noise;
    fputs("<h1>How good is ", to);
    for (int i = 0; i < about->n_searches; i++) {
        fputs(i ? " + <code style=\"font-size:inherit\">" : "<code style=\"font-size:inherit\">", to);
        gw_page_text(to, about->n_searches > 1 ? about->search[i].name : about->search[i].model);
        fputs("</code>", to);
    }
    fputs("?</h1>\n<p class=\"soft\">", to);
    for (int i = 0; i < about->n_searches; i++) {
        if (about->n_searches > 1) {
            fputs(i ? "<br>" : "", to);
            gw_page_text(to, about->search[i].name);
            fputs(": <code>", to);
            gw_page_text(to, about->search[i].model);
            fputs("</code>, ", to);
        }
        gw_page_text(to, about->search[i].detectors);
        fputs(" &middot; SHA-256 <code>", to);
        gw_page_text(to, about->search[i].sha256);
        fputs("</code>", to);
        b = about->search[i].noise.slid_s < b->slid_s ? &about->search[i].noise : b;
    }
    fputs("</p>\n<div class=\"tiles\">\n", to);
    for (int k = 0; k < e->n_snrs && k < 5; k++) {
        snprintf(value, sizeof value, "%.3f", e->found[GW_PER_DAY][GW_EVAL_BINS][k].share);
        snprintf(what, sizeof what, "found at SNR %g, one a day", e->snr[k]);
        tile(to, value, what);
    }
    snprintf(value, sizeof value, "%.3g d", b->slid_s / 86400);
    snprintf(what, sizeof what, "of slides of %.3g h of noise", b->distinct_s / 3600);
    tile(to, value, what);
    fputs("</div>\n<p>", to);
    gw_page_text(to, about->how);
    fputs("</p>\n", to);
}

static void noise_text(FILE *to, const gw_eval_search *s, int searches)
{
    const gw_eval_background *b = &s->noise;
    fputs("<p>", to);
    if (searches > 1) {
        gw_page_text(to, s->name);
        fprintf(to, ": thresholds %.2f (once in %d hours), %.2f (once in %d days)", b->threshold[GW_PER_HOUR],
                searches, b->threshold[GW_PER_DAY], searches);
    } else {
        fprintf(to, "Thresholds: %.2f (one an hour), %.2f (one a day)", b->threshold[GW_PER_HOUR],
                b->threshold[GW_PER_DAY]);
    }
    fprintf(to, ", from %zu clusters above %.2f in %.0f s of slides of %.0f s of noise.", b->n, b->floor,
            b->slid_s, b->distinct_s);
    if (isfinite(b->rate_low_hz[GW_PER_DAY]))
        fprintf(to,
                " Slides of one stretch of noise are not independent: resampling the %zu stretches, what is "
                "called one an hour is %.2f to %.2f an hour, and one a day %.2f to %.2f a day (5-95 %%%s).",
                b->n_stretches, 3600 * b->rate_low_hz[GW_PER_HOUR], 3600 * b->rate_high_hz[GW_PER_HOUR],
                86400 * b->rate_low_hz[GW_PER_DAY], 86400 * b->rate_high_hz[GW_PER_DAY],
                searches > 1 ? "; times the searches" : "");
}

static void background_text(FILE *to, const gw_eval_about *about)
{
    for (int i = 0; i < about->n_searches; i++) {
        fputs(i ? "</p>\n" : "", to);
        noise_text(to, &about->search[i], about->n_searches);
    }
    fprintf(
        to,
        " Among the injections %u events belong to none, in %.0f s; at one an hour %.1f are expected.</p>\n"
        "<footer>Made by gwstream " GW_VERSION "</footer>\n",
        about->chance, about->searched_s, about->searched_s / 3600);
}

int gw_eval_write_page(const char *folder, const gw_eval *e, const gw_eval_about *about)
{
    char path[PATH];
    gw_page *p;
    snprintf(path, sizeof path, "%s/evaluate.html", folder);
    GW_TRY(gw_page_new(&p, path, "How good is the search"));
    FILE *to = gw_page_file(p);
    const album a = {folder, to};
    heading(to, e, about);
    fputs("<h2>Efficiency</h2>\n", to);
    int err = efficiency_chart(&a, e);
    if (err == GW_OK)
        err = mass_chart(&a, e);
    for (int r = GW_RATES; err == GW_OK && r-- > 0;)
        efficiency_table(to, e, r);
    fputs("<p class=\"soft\">Small figures: Wilson's interval of 1 sigma.</p>\n<h2>Sensitive distance</h2>\n",
          to);
    distance_table(to, e);
    if (about->n_searches > 1)
        set_tables(to, e, about);
    fputs("<h2>Timing</h2>\n", to);
    if (err == GW_OK)
        err = timing_chart(&a, e);
    timing_tables(to, e, about->n_searches > 1);
    fputs("<h2>Latency</h2>\n", to);
    latency_table(to, e);
    fputs("<h2>Background</h2>\n", to);
    if (err == GW_OK)
        err = background_chart(&a, about);
    background_text(to, about);
    if (err == GW_OK)
        err = ferror(to) ? gw_page_fail(p) : gw_page_finish(p);
    gw_page_destroy(&p);
    return err;
}
