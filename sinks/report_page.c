/* SPDX-License-Identifier: GPL-3.0-or-later
 * The page of a report: HTML, its style, its tables; see report.h. */
#include "pipeline/clock.h"
#include "sinks/report.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct gw_report {
    char *path, *part;
    FILE *to;
    char *const *file;
    int n_files;
    int subjects;
};

static const char style[] =
    "body{font:15px/1.5 system-ui,-apple-system,'Segoe UI',Roboto,'Noto Sans',sans-serif;color:#1a1f29;"
    "background:#f6f6f4;margin:0}\n"
    "main{max-width:980px;margin:0 auto;padding:28px 20px 60px}\n"
    "h1{font-size:27px;margin:0 0 4px}h2{font-size:20px;margin:40px 0 10px;border-bottom:1px solid #d5d7dc;"
    "padding-bottom:4px}h3{font-size:16px;margin:28px 0 8px}\n"
    "p{margin:6px 0 12px;max-width:80ch}.soft{color:#5f6672;font-size:13.5px}\n"
    ".tiles{display:flex;flex-wrap:wrap;gap:12px;margin:18px 0}\n"
    ".tile{background:#fff;border:1px solid #dddfe3;border-radius:6px;padding:10px 16px;min-width:150px}\n"
    ".tile b{display:block;font-size:22px;font-weight:600;white-space:nowrap}.tile "
    "span{color:#5f6672;font-size:13px}\n"
    "img{display:block;max-width:100%;height:auto;background:#fff;border:1px solid #dddfe3;border-radius:6px;"
    "margin:10px 0}\n"
    ".pair{display:flex;flex-wrap:wrap;gap:10px}.pair img{margin:0;max-width:474px}\n"
    "table{border-collapse:collapse;background:#fff;font-variant-numeric:tabular-nums;font-size:14px;margin:"
    "10px "
    "0}\n"
    "th,td{border:1px solid #dddfe3;padding:5px "
    "11px;text-align:right}th{background:#eef0f2;font-weight:600}\n"
    "td:first-child,th:first-child,.text td{text-align:left}tr.out td{color:#5f6672}\n"
    "code{font-size:13px}footer{margin-top:44px;color:#5f6672;font-size:13px}\n"
    "@media print{body{background:#fff;font-size:12px}main{max-width:none;padding:0}"
    "img,table,.tile{break-inside:avoid}h2,h3{break-after:avoid}}\n";

static void put_text(FILE *to, const char *text)
{
    for (; *text; text++) {
        const unsigned char c = (unsigned char)*text;
        if (c == '<')
            fputs("&lt;", to);
        else if (c == '>')
            fputs("&gt;", to);
        else if (c == '&')
            fputs("&amp;", to);
        else if (c == '"')
            fputs("&quot;", to);
        else if (c < 0x20 || c == 0x7f)
            putc(' ', to);
        else
            putc(c, to);
    }
}

static void put_utc(FILE *to, int64_t gps_s)
{
    char utc[32];
    gw_gps_utc(gps_s * GW_SECOND_NS, utc, sizeof utc);
    fprintf(to, "%.10s %.8s UTC", utc, utc + 11);
}

static int fail_write(const gw_report *r)
{
    return gw_fail(GW_EIO, "%s: cannot be written (%s)", r->path, strerror(errno));
}

/* ---- the file ---- */

int gw_report_new(gw_report **out, const char *path, char *const *file, int n_files)
{
    *out = NULL;
    gw_report *r = calloc(1, sizeof *r);
    const size_t n = strlen(path) + 6;
    if (!r || !(r->path = strdup(path)) || !(r->part = malloc(n))) {
        gw_report_destroy(&r);
        return gw_fail(GW_ENOMEM, "%s", path);
    }
    snprintf(r->part, n, "%s.part", path);
    r->file = file;
    r->n_files = n_files;
    r->to = fopen(r->part, "w");
    if (!r->to) {
        const int why = errno;
        free(r->part);
        r->part = NULL; /* nothing to take away */
        gw_report_destroy(&r);
        return gw_fail(GW_EIO, "%s: cannot be written (%s); name a file in a folder that is there", path,
                       strerror(why));
    }
    fprintf(r->to,
            "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
            "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
            "<meta name=\"generator\" content=\"gwstream " GW_VERSION "\">\n<title>Cleaning report</title>\n"
            "<style>\n%s</style>\n</head>\n<body>\n<main>\n",
            style);
    *out = r;
    return GW_OK;
}

void gw_report_destroy(gw_report **out)
{
    gw_report *r = *out;
    *out = NULL;
    if (!r)
        return;
    if (r->to)
        fclose(r->to);
    if (r->part)
        remove(r->part);
    free(r->part);
    free(r->path);
    free(r);
}

/* ---- parts of the page ---- */

static void heading(gw_report *r, const gw_report_subject *s)
{
    FILE *to = r->to;
    const int64_t end = s->start_gps + s->seconds;
    fprintf(to, "<%s>Cleaning of <code style=\"font-size:inherit\">",
            r->subjects ? "h1 style=\"margin-top:70px\"" : "h1");
    put_text(to, s->strain);
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
    put_text(to, what);
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
        put_text(to, s->band[b].name);
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
        put_text(to, k->name);
        fputs("</td><td>", to);
        put_text(to, *k->bands ? k->bands : "?");
        fputs("</td><td>", to);
        put_text(to, *k->model ? k->model : "?");
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
    put_text(to, s->before);
    fputs("</code></td></tr>\n<tr><td>after</td><td><code>", to);
    put_text(to, s->after);
    fputs("</code></td></tr>\n", to);
    if (s->truth) {
        fputs("<tr><td>ideal</td><td><code>", to);
        put_text(to, s->truth);
        fputs("</code></td></tr>\n", to);
    }
    fprintf(to, "<tr><td>not there</td><td>%.3f s</td></tr>\n</table>\n", s->lost_s);
    if (s->remark) {
        fputs("<p>", to);
        put_text(to, s->remark);
        fputs("</p>\n", to);
    }
    if (!s->n_holes)
        return;
    fputs("<table>\n<tr><th>channel</th><th>from GPS</th><th>to GPS</th><th>seconds</th><th>why</th></tr>\n",
          to);
    for (int i = 0; i < s->n_holes; i++) {
        const gw_report_hole *h = &s->hole[i];
        fputs("<tr><td><code>", to);
        put_text(to, h->channel);
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
    return ferror(to) ? fail_write(r) : GW_OK;
}

int gw_report_finish(gw_report *r)
{
    FILE *to = r->to;
    fputs("<footer>Made by gwstream " GW_VERSION " from", to);
    for (int i = 0; i < r->n_files; i++) {
        fputs(i ? ", <code>" : " <code>", to);
        put_text(to, r->file[i]);
        fputs("</code>", to);
    }
    fputs("</footer>\n</main>\n</body>\n</html>\n", to);
    const bool written = fflush(to) == 0 && !ferror(to) && fsync(fileno(to)) == 0;
    const int why = errno;
    const bool closed = fclose(to) == 0;
    r->to = NULL;
    errno = written ? errno : why;
    if (!written || !closed || rename(r->part, r->path) != 0)
        return fail_write(r);
    free(r->part);
    r->part = NULL;
    return GW_OK;
}
