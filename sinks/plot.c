/* SPDX-License-Identifier: GPL-3.0-or-later
 * Draws one event with cairo. Called by the picture sink. Everything that is measured in pixels is here;
 * what is computed from strain is in timefreq.c.
 *
 * Detectors have Okabe and Ito's colours, close to those of the field. */
#include "sinks/plot.h"

#include "sinks/pen.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LEFT = 118, RIGHT = 1478, TOP = 148, BOTTOM = 922, BETWEEN = 26, JOIN = 5, STATISTIC = 158 };
enum { ROWS = 150, COLS = 900 };

static const double map_q = 7, low_hz = 20, high_hz = 1000, band_low_hz = 30, band_high_hz = 400;

static const gw_rgb paper = {0.992, 0.990, 0.984}, found = {0.84, 0.10, 0.36}, injected = {0.0, 0.55, 0.42},
                    statistic_ink = {0.24, 0.20, 0.50};

static gw_rgb detector_colour(const char *name)
{
    switch (name[0]) {
    case 'H':
        return (gw_rgb){0.835, 0.369, 0.000};
    case 'L':
        return (gw_rgb){0.000, 0.447, 0.698};
    case 'V':
        return (gw_rgb){0.560, 0.320, 0.640};
    default:
        return (gw_rgb){0.350, 0.350, 0.350};
    }
}

/* A small filled label; returns the x of its left end. */
static double badge(cairo_t *c, double right, double y, gw_rgb k, const char *text)
{
    cairo_text_extents_t e;
    cairo_select_font_face(c, "sans-serif", CAIRO_FONT_SLANT_NORMAL, CAIRO_FONT_WEIGHT_BOLD);
    cairo_set_font_size(c, 17);
    cairo_text_extents(c, text, &e);
    double w = e.x_advance + 28, h = 32, r = 6, x = right - w;
    cairo_new_sub_path(c);
    cairo_arc(c, x + w - r, y + r, r, -M_PI / 2, 0);
    cairo_arc(c, x + w - r, y + h - r, r, 0, M_PI / 2);
    cairo_arc(c, x + r, y + h - r, r, M_PI / 2, M_PI);
    cairo_arc(c, x + r, y + r, r, M_PI, 1.5 * M_PI);
    cairo_close_path(c);
    gw_pen_set(c, k, 1);
    cairo_fill(c);
    gw_pen_type(c, x + 14, y + 22, 17, true, gw_pen_panel, GW_AT_LEFT, text);
    return x - 12;
}

/* ---- axes ---- */

typedef struct box {
    double x, y, w, h;
    double v0, v1; /* values at the bottom and the top */
    bool log;
} box;

double gw_plot_x(const gw_plot *p, double t_s)
{
    return LEFT + (t_s + p->before_s) / (p->before_s + p->after_s) * (RIGHT - LEFT);
}

static double y_of(const box *b, double v)
{
    double f = b->log ? log(v / b->v0) / log(b->v1 / b->v0) : (v - b->v0) / (b->v1 - b->v0);
    return b->y + b->h * (1 - f);
}

static void hline(cairo_t *c, const box *b, double v, gw_rgb k, double alpha)
{
    double y = floor(y_of(b, v)) + 0.5;
    cairo_move_to(c, b->x, y);
    cairo_line_to(c, b->x + b->w, y);
    gw_pen_set(c, k, alpha);
    cairo_set_line_width(c, 1);
    cairo_stroke(c);
}

static void y_ticks(cairo_t *c, const box *b, double step)
{
    char text[32];
    for (double v = ceil(b->v0 / step + 1e-9) * step; v <= b->v1 + 1e-9 * step; v += step) {
        double y = y_of(b, v);
        if (y < b->y + 8 || y > b->y + b->h - 8) /* would meet the numbers of the next panel */
            continue;
        snprintf(text, sizeof text, "%g", fabs(v) < 1e-9 * step ? 0 : v);
        gw_pen_type(c, b->x - 10, y + 5, 14, false, gw_pen_soft, GW_AT_RIGHT, text);
        hline(c, b, v, gw_pen_faint, 1);
    }
}

static void x_grid(cairo_t *c, const gw_plot *p, const box *b, gw_rgb k, double alpha)
{
    double step = gw_pen_step(p->before_s + p->after_s, 16);
    for (double t = ceil(-p->before_s / step - 1e-9) * step; t <= p->after_s + 1e-9; t += step) {
        double x = floor(gw_plot_x(p, t)) + 0.5;
        cairo_move_to(c, x, b->y);
        cairo_line_to(c, x, b->y + b->h);
    }
    gw_pen_set(c, k, alpha);
    cairo_set_line_width(c, 1);
    cairo_stroke(c);
}

static void frame(cairo_t *c, const box *b)
{
    cairo_rectangle(c, b->x - 0.5, b->y - 0.5, b->w + 1, b->h + 1);
    gw_pen_set(c, gw_pen_line, 1);
    cairo_set_line_width(c, 1);
    cairo_stroke(c);
}

/* The event's time, and the injected one's, through a panel. */
static void time_lines(cairo_t *c, const gw_plot *p, const box *b, bool on_dark)
{
    static const double dashes[] = {7, 5}, dots[] = {2, 4};
    double x = gw_plot_x(p, 0);
    cairo_set_dash(c, dashes, 2, 0);
    cairo_set_line_width(c, 1.5);
    cairo_move_to(c, x, b->y);
    cairo_line_to(c, x, b->y + b->h);
    gw_pen_set(c, on_dark ? gw_pen_panel : found, on_dark ? 0.75 : 0.9);
    cairo_stroke(c);
    if (p->truth) {
        x = gw_plot_x(p, (double)(p->truth->gps_ns - p->event->gps_ns) / 1e9);
        cairo_set_dash(c, dots, 2, 0);
        cairo_set_line_width(c, 2);
        cairo_move_to(c, x, b->y);
        cairo_line_to(c, x, b->y + b->h);
        gw_pen_set(c, on_dark ? (gw_rgb){0.45, 1, 0.8} : injected, 0.95);
        cairo_stroke(c);
    }
    cairo_set_dash(c, NULL, 0, 0);
}

static void curve(cairo_t *c, const gw_plot *p, const box *b, const gw_series *s, const float *y)
{
    bool pen_down = false;
    for (size_t n = 0; n < s->n; n++) {
        double t = s->t0_s + (double)n / s->rate_hz, x = gw_plot_x(p, t);
        if (isnan(y[n]) || x < b->x - 40 || x > b->x + b->w + 40) {
            pen_down = false;
            continue;
        }
        if (pen_down)
            cairo_line_to(c, x, y_of(b, (double)y[n]));
        else
            cairo_move_to(c, x, y_of(b, (double)y[n]));
        pen_down = true;
    }
}

static void clip(cairo_t *c, const box *b)
{
    cairo_save(c);
    cairo_rectangle(c, b->x, b->y, b->w, b->h);
    cairo_clip(c);
}

/* ---- panels ---- */

static uint32_t pixel(gw_rgb k)
{
    return 0xff000000u | (uint32_t)(k.r * 255 + 0.5) << 16 | (uint32_t)(k.g * 255 + 0.5) << 8 |
           (uint32_t)(k.b * 255 + 0.5);
}

static void paint_map(cairo_t *c, const box *b, const float *energy, double most)
{
    cairo_surface_t *image = cairo_image_surface_create(CAIRO_FORMAT_RGB24, COLS, ROWS);
    unsigned char *data = cairo_image_surface_get_data(image);
    if (data) {
        int stride = cairo_image_surface_get_stride(image);
        cairo_surface_flush(image);
        for (int r = 0; r < ROWS; r++)
            for (int k = 0; k < COLS; k++) {
                double e = (double)energy[r * COLS + k];
                uint32_t v = pixel(isnan(e) ? gw_pen_missing : gw_pen_scale(e / most));
                memcpy(data + (ROWS - 1 - r) * stride + 4 * k, &v, 4); /* row 0 is the lowest frequency */
            }
        cairo_surface_mark_dirty(image);
        clip(c, b);
        cairo_translate(c, b->x, b->y);
        cairo_scale(c, b->w / COLS, b->h / ROWS);
        cairo_set_source_surface(c, image, 0, 0);
        cairo_pattern_set_filter(cairo_get_source(c), CAIRO_FILTER_BILINEAR);
        cairo_pattern_set_extend(cairo_get_source(c), CAIRO_EXTEND_PAD);
        cairo_paint(c);
        cairo_restore(c);
    }
    cairo_surface_destroy(image); /* a failure shows up in the status of `c` */
}

static void colour_bar(cairo_t *c, const box *map, double most)
{
    box b = {map->x + map->w + 18, map->y, 16, map->h, 0, most, false};
    cairo_pattern_t *g = cairo_pattern_create_linear(0, b.y + b.h, 0, b.y);
    for (int i = 0; i <= 32; i++) {
        gw_rgb k = gw_pen_scale(i / 32.0);
        cairo_pattern_add_color_stop_rgb(g, i / 32.0, k.r, k.g, k.b);
    }
    cairo_rectangle(c, b.x, b.y, b.w, b.h);
    cairo_set_source(c, g);
    cairo_fill(c);
    cairo_pattern_destroy(g);
    char text[32];
    double step = gw_pen_step(most, b.h > 150 ? 5 : 3);
    for (double v = 0; v <= most * 1.0001; v += step) {
        snprintf(text, sizeof text, "%g", v);
        double y = y_of(&b, v) + (v <= 0 ? 0 : v > most * 0.97 ? 10 : 5);
        gw_pen_type(c, b.x + b.w + 7, y, 14, false, gw_pen_soft, GW_AT_LEFT, text);
    }
    gw_pen_type_upwards(c, b.x + b.w + 52, b.y + b.h / 2, 14, gw_pen_soft,
                        b.h > 140 ? "normalized energy" : "energy");
}

static int map_panel(cairo_t *c, const gw_plot *p, const struct gw_plot_strain *d, box b)
{
    b.log = true;
    b.v0 = low_hz;
    b.v1 = fmin(high_hz, 0.45 * d->series.rate_hz);
    float *energy = malloc((size_t)ROWS * COLS * sizeof *energy);
    if (!energy)
        return gw_fail(GW_ENOMEM, "picture: out of memory");
    double f[ROWS], t[COLS];
    for (int r = 0; r < ROWS; r++)
        f[r] = b.v0 * pow(b.v1 / b.v0, (r + 0.5) / ROWS);
    for (int k = 0; k < COLS; k++)
        t[k] = -p->before_s + (p->before_s + p->after_s) * (k + 0.5) / COLS;
    int err = gw_timefreq(&d->series, map_q, f, ROWS, t, COLS, energy);
    if (err == 0) {
        /* The scale follows the signal, not a glitch at the edge: the largest energy within 0.25 s. */
        double most = 0;
        for (int i = 0; i < ROWS * COLS; i++)
            if (fabs(t[i % COLS]) < 0.25 && !isnan(energy[i]))
                most = fmax(most, (double)energy[i]);
        most = fmin(fmax(0.85 * most, 16), 60);
        paint_map(c, &b, energy, most);
        colour_bar(c, &b, most);
    }
    free(energy);
    GW_TRY(err);

    x_grid(c, p, &b, gw_pen_panel, 0.07);
    time_lines(c, p, &b, true);
    frame(c, &b);
    static const double ticks[] = {20, 50, 100, 200, 500, 1000};
    char text[32];
    for (size_t i = 0; i < sizeof ticks / sizeof *ticks; i++) {
        if (ticks[i] < b.v0 || ticks[i] > b.v1 * 1.001)
            continue;
        snprintf(text, sizeof text, "%g", ticks[i]);
        double y = y_of(&b, ticks[i]);
        gw_pen_type(c, b.x - 10,
                    y + (i == 0        ? 2
                         : y < b.y + 4 ? 11
                                       : 5),
                    14, false, gw_pen_soft, GW_AT_RIGHT, text);
        hline(c, &b, ticks[i], gw_pen_panel, 0.07);
    }
    gw_pen_type_upwards(c, b.x - 62, b.y + b.h / 2, 15, gw_pen_ink, "frequency (Hz)");
    gw_pen_type(c, b.x + 16, b.y + 34, 26, true, gw_pen_panel, GW_AT_LEFT, d->detector);
    return 0;
}

static int trace_panel(cairo_t *c, const gw_plot *p, const struct gw_plot_strain *d, box b)
{
    const gw_series *s = &d->series;
    float *y = malloc((s->n + 1) * sizeof *y);
    if (!y)
        return gw_fail(GW_ENOMEM, "picture: out of memory");
    double high = fmin(band_high_hz, 0.45 * s->rate_hz), most = 4;
    int err = gw_band_pass(s, band_low_hz, high, y);
    /* in units of what noise of variance 1 leaves in the band */
    double unit = sqrt((high - band_low_hz) / (s->rate_hz / 2));
    for (size_t n = 0; n < s->n && err == 0; n++) {
        double t = s->t0_s + (double)n / s->rate_hz;
        y[n] = (float)((double)y[n] / unit);
        if (fabs(t) < 0.25 && !isnan(y[n]))
            most = fmax(most, fabs((double)y[n]));
    }
    if (err == 0) {
        b.v1 = fmin(most * 1.15, 1e6);
        b.v0 = -b.v1;
        cairo_rectangle(c, b.x, b.y, b.w, b.h);
        gw_pen_set(c, gw_pen_panel, 1);
        cairo_fill(c);
        x_grid(c, p, &b, gw_pen_faint, 1);
        y_ticks(c, &b, gw_pen_step(2 * b.v1, 6));
        clip(c, &b);
        time_lines(c, p, &b, false);
        curve(c, p, &b, s, y);
        gw_pen_set(c, detector_colour(d->detector), 1);
        cairo_set_line_width(c, 1.5);
        cairo_set_line_join(c, CAIRO_LINE_JOIN_ROUND);
        cairo_stroke(c);
        cairo_restore(c);
        frame(c, &b);
        gw_pen_type_upwards(c, b.x - 62, b.y + b.h / 2, 15, gw_pen_ink, "strain (σ)");
    }
    free(y);
    return err;
}

static void threshold(cairo_t *c, const box *b, double v, bool above, const char *text)
{
    static const double dashes[] = {4, 4};
    if (isnan(v))
        return;
    cairo_set_dash(c, dashes, 2, 0);
    hline(c, b, v, gw_pen_soft, 1);
    cairo_set_dash(c, NULL, 0, 0);
    gw_pen_type(c, b->x + 10, y_of(b, v) + (above ? -5 : 14), 13, false, gw_pen_soft, GW_AT_LEFT, text);
}

static void mark(cairo_t *c, const gw_plot *p, const box *b, const struct gw_plot_mark *m, bool label)
{
    double x = gw_plot_x(p, m->t_s), y = y_of(b, m->statistic);
    if (x < b->x || x > b->x + b->w || isnan(y))
        return;
    cairo_new_sub_path(c);
    cairo_arc(c, x, y, m->phase == GW_PHASE_UPDATE ? 3.5 : 5.5, 0, 2 * M_PI);
    gw_pen_set(c, m->phase == GW_PHASE_FIRST ? gw_pen_panel : statistic_ink, 1);
    cairo_fill_preserve(c);
    gw_pen_set(c, statistic_ink, 1);
    cairo_set_line_width(c, 2);
    cairo_stroke(c);
    char text[48];
    snprintf(text, sizeof text, "%s  %+.0f ms", gw_phase_text(m->phase), m->t_s * 1e3);
    bool left = m->phase == GW_PHASE_FIRST; /* the curve rises to the right of it */
    if (!label)
        return;
    cairo_text_extents_t e; /* clear of the lines below it */
    cairo_set_font_size(c, 14);
    cairo_text_extents(c, text, &e);
    cairo_rectangle(c, left ? x - 17 - e.x_advance : x + 9, fmin(y + 5, b->y + b->h - 6) - 13,
                    e.x_advance + 8, 18);
    gw_pen_set(c, gw_pen_panel, 0.8);
    cairo_fill(c);
    gw_pen_type(c, x + (left ? -13 : 13), fmin(y + 5, b->y + b->h - 6), 14, false, statistic_ink,
                left ? GW_AT_RIGHT : GW_AT_LEFT, text);
}

static void statistic_panel(cairo_t *c, const gw_plot *p, box b)
{
    const gw_series *s = &p->statistic;
    double lo = INFINITY, hi = p->event->statistic;
    for (size_t n = 0; n < s->n; n++) {
        double t = s->t0_s + (double)n / s->rate_hz, v = (double)s->x[n];
        if (t < -p->before_s || t > p->after_s || !isfinite(v))
            continue;
        lo = fmin(lo, v);
        hi = fmax(hi, v);
    }
    if (!isnan(p->candidate))
        lo = fmin(lo, p->candidate);
    if (!isnan(p->alert))
        hi = fmax(hi, p->alert);
    lo = isfinite(lo) ? fmin(lo, hi - 1) : hi - 10;
    b.v0 = lo - 0.08 * (hi - lo);
    b.v1 = hi + 0.16 * (hi - lo);

    cairo_rectangle(c, b.x, b.y, b.w, b.h);
    gw_pen_set(c, gw_pen_panel, 1);
    cairo_fill(c);
    x_grid(c, p, &b, gw_pen_faint, 1);
    y_ticks(c, &b, gw_pen_step(b.v1 - b.v0, 5));
    threshold(c, &b, p->candidate, false, "candidate threshold");
    threshold(c, &b, p->alert, true, "alert threshold");
    clip(c, &b);
    time_lines(c, p, &b, false);
    curve(c, p, &b, s, s->x);
    gw_pen_set(c, statistic_ink, 1);
    cairo_set_line_width(c, 2.5);
    cairo_set_line_join(c, CAIRO_LINE_JOIN_ROUND);
    cairo_stroke(c);
    for (int i = p->n_marks - 1; i >= 0; i--)
        mark(c, p, &b, &p->mark[i], p->mark[i].phase != GW_PHASE_UPDATE);
    cairo_restore(c);
    frame(c, &b);
    gw_pen_type_upwards(c, b.x - 62, b.y + b.h / 2, 15, gw_pen_ink, "ranking statistic");
}

/* ---- words ---- */

/* The number after "key": in a JSON object, NAN if there is none. */
static double number_of(const char *json, const char *key)
{
    char name[48];
    snprintf(name, sizeof name, "\"%s\":", key);
    const char *at = strstr(json, name);
    char *end;
    if (!at)
        return NAN;
    double v = strtod(at + strlen(name), &end);
    return end > at + strlen(name) ? v : NAN;
}

static void rarity(double rate_hz, char *text, size_t n)
{
    double days = 1 / rate_hz / 86400;
    if (!(rate_hz > 0))
        snprintf(text, n, "false-alarm rate not known");
    else if (days >= 365.25)
        snprintf(text, n, "false-alarm rate 1 per %.1f yr", days / 365.25);
    else if (days >= 1)
        snprintf(text, n, "false-alarm rate 1 per %.1f d", days);
    else
        snprintf(text, n, "false-alarm rate 1 per %.1f h", days * 24);
}

static void heading(cairo_t *c, const gw_plot *p)
{
    const gw_event *e = p->event;
    char text[320], utc[32], far[64];
    double right = RIGHT + 92;
    if (e->injection || p->truth)
        right = badge(c, right, 28, injected, "INJECTION");
    badge(c, right, 28, e->alert ? found : gw_pen_soft, e->alert ? "ALERT" : "CANDIDATE");

    gw_pen_type(c, LEFT - 72, 56, 31, true, gw_pen_ink, GW_AT_LEFT, e->id);
    gw_gps_utc(e->gps_ns, utc, sizeof utc);
    utc[10] = ' ';
    if (strlen(utc) > 23)
        utc[23] = '\0';
    char detectors[64];
    size_t used = 0;
    for (const char *d = e->detectors; *d && used + 4 < sizeof detectors; d++)
        used += (size_t)snprintf(detectors + used, sizeof detectors - used, *d == ',' ? " + " : "%c", *d);
    detectors[used] = '\0';
    snprintf(text, sizeof text, "%s UTC   ·   %s   ·   %s", utc, detectors, e->model);
    gw_pen_type(c, LEFT - 72, 92, 19, false, gw_pen_ink, GW_AT_LEFT, text);
    rarity(e->noise_rate_hz, far, sizeof far);
    snprintf(text, sizeof text, "ranking statistic %.2f   ·   %s", e->statistic, far);
    double x = LEFT - 72 + gw_pen_type(c, LEFT - 72, 121, 19, false, gw_pen_ink, GW_AT_LEFT, text);

    if (!p->truth)
        return;
    double off = (double)(e->gps_ns - p->truth->gps_ns) / 1e6,
           snr = number_of(p->truth->detail, "network_snr"), m1 = number_of(p->truth->detail, "mass1"),
           m2 = number_of(p->truth->detail, "mass2");
    int n = snprintf(text, sizeof text, "injected %.1f ms %s", fabs(off), off < 0 ? "later" : "earlier");
    if (!isnan(m1) && !isnan(m2))
        n += snprintf(text + n, sizeof text - (size_t)n, ", %.1f + %.1f M☉", m1, m2);
    if (!isnan(snr))
        snprintf(text + n, sizeof text - (size_t)n, ", network SNR %.1f", snr);
    gw_pen_type(c, x + 36, 121, 19, false, injected, GW_AT_LEFT, text);
}

static void foot(cairo_t *c, const gw_plot *p)
{
    char text[96];
    double step = gw_pen_step(p->before_s + p->after_s, 16);
    for (double t = ceil(-p->before_s / step - 1e-9) * step; t <= p->after_s + 1e-9; t += step) {
        snprintf(text, sizeof text, "%g", fabs(t) < 1e-9 ? 0 : nearbyint(t * 1e6) / 1e6);
        gw_pen_type(c, gw_plot_x(p, t), BOTTOM + 22, 15, false, gw_pen_ink, GW_AT_CENTRE, text);
    }
    int64_t us = (p->event->gps_ns + 500) / 1000;
    snprintf(text, sizeof text, "seconds from GPS %" PRId64 ".%06" PRId64, us / 1000000, us % 1000000);
    gw_pen_type(c, (LEFT + RIGHT) / 2.0, BOTTOM + 54, 18, false, gw_pen_ink, GW_AT_CENTRE, text);

    /* what the two vertical lines are */
    static const double dashes[] = {7, 5}, dots[] = {2, 4};
    double x = LEFT, y = BOTTOM + 48;
    cairo_set_dash(c, dashes, 2, 0);
    cairo_set_line_width(c, 2);
    cairo_move_to(c, x, y);
    cairo_line_to(c, x + 36, y);
    gw_pen_set(c, found, 1);
    cairo_stroke(c);
    x += 44 + gw_pen_type(c, x + 44, y + 5, 15, false, gw_pen_soft, GW_AT_LEFT, "arrival, as found") + 26;
    if (p->truth) {
        cairo_set_dash(c, dots, 2, 0);
        cairo_set_line_width(c, 2.5);
        cairo_move_to(c, x, y);
        cairo_line_to(c, x + 36, y);
        gw_pen_set(c, injected, 1);
        cairo_stroke(c);
        gw_pen_type(c, x + 44, y + 5, 15, false, gw_pen_soft, GW_AT_LEFT, "as injected");
    }
    cairo_set_dash(c, NULL, 0, 0);
    gw_pen_type(c, RIGHT + 92, BOTTOM + 54, 14, false, gw_pen_soft, GW_AT_RIGHT, "gwstream");
}

static int draw(cairo_t *c, const gw_plot *p)
{
    cairo_set_antialias(c, CAIRO_ANTIALIAS_BEST);
    gw_pen_set(c, paper, 1);
    cairo_paint(c);
    heading(c, p);
    foot(c, p);

    int n = p->n_strains;
    double each = n ? ((double)(BOTTOM - TOP - STATISTIC) - BETWEEN * n) / n : 0, trace = 0.32 * each;
    double y = TOP;
    for (int i = 0; i < n; i++) {
        const box map = {LEFT, floor(y), RIGHT - LEFT, floor(each - trace - JOIN), 0, 1, false};
        const box under = {LEFT, map.y + map.h + JOIN, RIGHT - LEFT, floor(trace), 0, 1, false};
        GW_TRY(map_panel(c, p, &p->strain[i], map));
        GW_TRY(trace_panel(c, p, &p->strain[i], under));
        y += each + BETWEEN;
    }
    statistic_panel(c, p, (box){LEFT, floor(y), RIGHT - LEFT, floor(BOTTOM - y), 0, 1, false});
    return 0;
}

int gw_plot_png(const gw_plot *p, const char *path)
{
    char part[1100];
    if ((size_t)snprintf(part, sizeof part, "%s.part", path) >= sizeof part)
        return gw_fail(GW_ERANGE, "picture %.60s...: its path is too long", path);
    cairo_surface_t *s = cairo_image_surface_create(CAIRO_FORMAT_RGB24, GW_PLOT_WIDTH, GW_PLOT_HEIGHT);
    cairo_t *c = cairo_create(s);
    int err = draw(c, p);
    cairo_status_t status = cairo_status(c);
    if (err == 0 && status == CAIRO_STATUS_SUCCESS)
        status = cairo_surface_write_to_png(s, part);
    if (err == 0 && status == CAIRO_STATUS_NO_MEMORY)
        err = gw_fail(GW_ENOMEM, "picture %s: out of memory", path);
    else if (err == 0 && (status != CAIRO_STATUS_SUCCESS || rename(part, path) != 0))
        err = gw_fail(GW_EIO, "picture %s: cannot be written (%s)", path,
                      status != CAIRO_STATUS_SUCCESS ? cairo_status_to_string(status) : "cannot be replaced");
    if (err < 0)
        remove(part);
    cairo_destroy(c);
    cairo_surface_destroy(s);
    return err;
}
