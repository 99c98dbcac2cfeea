/* SPDX-License-Identifier: GPL-3.0-or-later
 * The page of a report: HTML, its style, its tables; see report.h. */
#include "pipeline/clock.h"
#include "sinks/page.h"
#include "sinks/report.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

struct gw_report {
    gw_page *page;
    FILE *to; /* the page's */
    char *const *file;
    int n_files;
    int subjects;
};

static void put_utc(FILE *to, int64_t gps_s)
{
    char utc[32];
    gw_gps_utc(gps_s * GW_SECOND_NS, utc, sizeof utc);
    fprintf(to, "%.10s %.8s UTC", utc, utc + 11);
}

/* ---- the file ---- */

int gw_report_new(gw_report **out, const char *path, char *const *file, int n_files)
{
    *out = NULL;
    gw_report *r = calloc(1, sizeof *r);
    if (!r)
        return gw_fail(GW_ENOMEM, "%s", path);
    const int err = gw_page_new(&r->page, path, "Cleaning report");
    if (err != GW_OK) {
        free(r);
        return err;
    }
    r->to = gw_page_file(r->page);
    r->file = file;
    r->n_files = n_files;
    *out = r;
    return GW_OK;
}

void gw_report_destroy(gw_report **out)
{
    gw_report *r = *out;
    *out = NULL;
    if (!r)
        return;
    gw_page_destroy(&r->page);
    free(r);
}

/* ---- parts of the page ---- */

static void heading(gw_report *r, const gw_report_subject *s)
{
    FILE *to = r->to;
    const int64_t end = s->start_gps + s->seconds;
    fprintf(to, "<%s>Cleaning of <code style=\"font-size:inherit\">",
            r->subjects ? "h1 style=\"margin-top:70px\"" : "h1");
    gw_page_text(to, s->strain);
    fputs("</code></h1>\n<p class=\"soft\">GPS ", to);
    fprintf(to, "%lld to %lld &middot; ", (long long)s->start_gps, (long long)end);
    put_utc(to, s->start_gps);
    fputs(" to ", to);
    put_utc(to, end);
    fprintf(to, " &middot; %lld s at %u Hz</p>\n", (long long)s->seconds, s->rate_hz);
}

static void tile(FILE *to, const char *value, const char *what)
{
    fprintf(to, "<div class=\"tile\"><b>%s</b><span>", value);
    gw_page_text(to, what);
    fputs("</span></div>\n", to);
}

static void tiles(FILE *to, const gw_report_subject *s)
{
    const gw_measured *m = s->m;
    char value[96], what[128];
    fputs("<div class=\"tiles\">\n", to);
    if (m->range_mpc[GW_RAW] > 0) {
        const double gain = 100 * (m->range_mpc[GW_CLEAN] / m->range_mpc[GW_RAW] - 1);
        snprintf(value, sizeof value, "%.4g &rarr; %.4g Mpc", m->range_mpc[GW_RAW], m->range_mpc[GW_CLEAN]);
        snprintf(what, sizeof what, "binary neutron star range (%+.2f %%)", gain);
        tile(to, value, what);
    }
    for (int b = 0; b < s->n_bands && b < 6; b++) {
        if (s->band[b].outside)
            continue;
        snprintf(value, sizeof value, "%.3f", m->figures[b][GW_CLEAN].mean);
        snprintf(what, sizeof what, "mean ASD ratio, %s", s->band[b].name);
        tile(to, value, what);
    }
    snprintf(value, sizeof value, "%.0f of %lld s", m->seconds, (long long)s->seconds);
    tile(to, value, "of data used");
    fputs("</div>\n", to);
}

static void number_cell(FILE *to, double v)
{
    if (isfinite(v))
        fprintf(to, "<td>%.4g</td>", v);
    else
        fputs("<td>&ndash;</td>", to);
}

static void figure_table(FILE *to, const gw_report_subject *s)
{
    const gw_measured *m = s->m;
    fputs(
        "<table class=\"figures\">\n<tr><th>band (Hz)</th><th>mean ratio</th><th>integrated</th><th>loudest "
        "bin (Hz)</th><th>ratio there</th><th>worst bin (Hz)</th><th>ratio there</th>",
        to);
    if (m->ideal)
        fputs("<th>ideal mean</th><th>ideal integrated</th><th>mean / ideal</th>", to);
    fputs("</tr>\n", to);
    for (int b = 0; b < s->n_bands; b++) {
        const gw_report_figures *g = m->figures[b];
        if (s->band[b].outside && !isfinite(g[GW_CLEAN].mean)) /* nothing is left of it */
            continue;
        fprintf(to, "<tr%s><td>", s->band[b].outside ? " class=\"out\"" : "");
        gw_page_text(to, s->band[b].name);
        fputs("</td>", to);
        number_cell(to, g[GW_CLEAN].mean);
        number_cell(to, g[GW_CLEAN].integrated);
        number_cell(to, m->loudest_hz[b]);
        number_cell(to, g[GW_CLEAN].loudest);
        number_cell(to, g[GW_CLEAN].worst_hz);
        number_cell(to, g[GW_CLEAN].worst);
        if (m->ideal) {
            number_cell(to, g[GW_IDEAL].mean);
            number_cell(to, g[GW_IDEAL].integrated);
            number_cell(to, g[GW_CLEAN].mean / g[GW_IDEAL].mean);
        }
        fputs("</tr>\n", to);
    }
    fprintf(
        to,
        "</table>\n<p class=\"soft\">Ratios of amplitudes, after / before. Spectra: Welch, %u segments of 2 "
        "s "
        "(Hann, 50 %% overlap, mean removed), median over segments. Mean: over the 0.5 Hz bins "
        "lo &le; f &lt; hi of &radic;(S<sub>after</sub>/S<sub>before</sub>); integrated: "
        "&radic;(&Sigma;S<sub>after</sub>/&Sigma;S<sub>before</sub>). Bands in grey are not meant to change; "
        "they leave out the others and 2 Hz either side.",
        m->full.segments);
    if (m->ideal)
        fputs(" Ideal: minus exactly what the simulation's witnesses added.", to);
    fputs("</p>\n", to);
}

static void range_table(FILE *to, const gw_report_subject *s)
{
    static const char *const names[] = {"before", "after", "ideal"};
    const gw_measured *m = s->m;
    if (!(m->range_mpc[GW_RAW] > 0))
        return;
    fputs("<table class=\"ranges\">\n<tr><th>binary neutron star range</th><th>Mpc</th><th>gain "
          "(%)</th></tr>\n",
          to);
    for (int k = 0; k < GW_STRAIN_KINDS; k++)
        if (m->range_mpc[k] > 0)
            fprintf(to, "<tr><td>%s</td><td>%.5g</td><td>%+.3f</td></tr>\n", names[k], m->range_mpc[k],
                    100 * (m->range_mpc[k] / m->range_mpc[GW_RAW] - 1));
    fputs("</table>\n<p class=\"soft\">1.4 + 1.4 solar masses, SNR 8, mean over sky and orientation, from 10 "
          "Hz; "
          "median spectrum of segments of 4 s.</p>\n",
          to);
}

static void coupling_table(FILE *to, const gw_report_subject *s)
{
    if (!s->n_couplings)
        return;
    fputs("<h2>Couplings and networks</h2>\n<table class=\"text\">\n<tr><th>coupling</th><th>bands "
          "(Hz)</th><th>network</th><th>SHA-256 begins</th><th>gate open</th></tr>\n",
          to);
    for (int i = 0; i < s->n_couplings; i++) {
        const gw_report_coupling *k = &s->coupling[i];
        fputs("<tr><td>", to);
        gw_page_text(to, k->name);
        fputs("</td><td>", to);
        gw_page_text(to, *k->bands ? k->bands : "?");
        fputs("</td><td>", to);
        gw_page_text(to, *k->model ? k->model : "?");
        fputs("</td><td>", to);
        if (k->n_models == 0)
            fprintf(to, "<code>%s</code>", *k->hash ? k->hash : "?");
        for (int u = 0; u < k->n_models; u++) {
            fprintf(to, "%s<code>%s</code>", u ? "<br>" : "", k->used[u].hash);
            if (k->n_models > 1)
                fprintf(to, " from GPS %.0f", (double)s->start_gps + k->used[u].t_s);
        }
        fputs("</td><td>", to);
        if (isfinite(k->open))
            fprintf(to, "%.1f %%", 100 * k->open);
        else
            fputs("–", to);
        fputs("</td></tr>\n", to);
    }
    fputs("</table>\n", to);
}

static void data_part(const gw_report *r, const gw_report_subject *s)
{
    FILE *to = r->to;
    fputs("<h2>Data</h2>\n<table class=\"text\">\n<tr><td>before</td><td><code>", to);
    gw_page_text(to, s->before);
    fputs("</code></td></tr>\n<tr><td>after</td><td><code>", to);
    gw_page_text(to, s->after);
    fputs("</code></td></tr>\n", to);
    if (s->truth) {
        fputs("<tr><td>ideal</td><td><code>", to);
        gw_page_text(to, s->truth);
        fputs("</code></td></tr>\n", to);
    }
    fprintf(to, "<tr><td>not there</td><td>%.3f s</td></tr>\n</table>\n", s->lost_s);
    if (s->remark) {
        fputs("<p>", to);
        gw_page_text(to, s->remark);
        fputs("</p>\n", to);
    }
    if (!s->n_holes)
        return;
    fputs("<table>\n<tr><th>channel</th><th>from GPS</th><th>to GPS</th><th>seconds</th><th>why</th></tr>\n",
          to);
    for (int i = 0; i < s->n_holes; i++) {
        const gw_report_hole *h = &s->hole[i];
        fputs("<tr><td><code>", to);
        gw_page_text(to, h->channel);
        fprintf(to, "</code></td><td>%.3f</td><td>%.3f</td><td>%.3f</td><td>%s</td></tr>\n",
                (double)s->start_gps + h->from_s, (double)s->start_gps + h->to_s, h->to_s - h->from_s,
                h->why);
    }
    fputs("</table>\n", to);
    if (s->more_holes)
        fprintf(to, "<p class=\"soft\">and %d more</p>\n", s->more_holes);
}

int gw_report_add(gw_report *r, const gw_report_subject *s)
{
    FILE *to = r->to;
    heading(r, s);
    tiles(to, s);
    fputs("<h2>Figures</h2>\n", to);
    figure_table(to, s);
    range_table(to, s);
    fputs("<h2>Spectra</h2>\n", to);
    GW_TRY(gw_report_chart_spectra(to, s));
    fputs("<h2>In time</h2>\n", to);
    GW_TRY(gw_report_chart_times(to, s));
    fputs("<h2>Spectrograms</h2>\n", to);
    GW_TRY(gw_report_chart_maps(to, s));
    coupling_table(to, s);
    data_part(r, s);
    r->subjects++;
    return ferror(to) ? gw_page_fail(r->page) : GW_OK;
}

int gw_report_finish(gw_report *r)
{
    FILE *to = r->to;
    fputs("<footer>Made by gwstream " GW_VERSION " from", to);
    for (int i = 0; i < r->n_files; i++) {
        fputs(i ? ", <code>" : " <code>", to);
        gw_page_text(to, r->file[i]);
        fputs("</code>", to);
    }
    fputs("</footer>\n", to);
    return gw_page_finish(r->page);
}
