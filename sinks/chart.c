/* SPDX-License-Identifier: GPL-3.0-or-later
 * Draws a chart with cairo; see the header. A line of a million points becomes what can be seen of it: the
 * least and the greatest of each half pixel, so that no spectral line and no glitch is lost. */
#include "sinks/chart.h"

#include "pipeline/clock.h"

#include <cairo-svg.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LEFT = 78, RIGHT = 30, TOP = 14, TITLE = 24, BOTTOM = 46, UTC = 14, BAR = 118, LEGEND = 22 };

static const double type_size = 12;

typedef struct frame {
    double x, y, w, h; /* of the panel, in pixels */
    const gw_chart *c;
} frame;

static double fraction(const gw_chart_axis *a, double v)
{
    return a->log ? log(v / a->from) / log(a->to / a->from) : (v - a->from) / (a->to - a->from);
}

static double px(const frame *f, double v)
{
    return f->x + f->w * fraction(&f->c->x, v);
}

static double py(const frame *f, double v)
{
    return f->y + f->h * (1 - fraction(&f->c->y, v));
}

/* ---- ticks ---- */

/* 10^k in superscripts; plain numbers where they are short. */
static void number(double v, bool log_axis, char *text, size_t n)
{
    static const char *const raised[] = {"⁰", "¹", "²", "³", "⁴", "⁵", "⁶", "⁷", "⁸", "⁹"};
    const int power = v == 0 ? 0 : (int)floor(log10(fabs(v)) + 1e-9);
    if (!log_axis || (power >= -3 && power <= 4)) {
        snprintf(text, n, "%.6g", v);
        return;
    }
    const double lead = v / pow(10, power);
    size_t used = lead < 1.001 ? (size_t)snprintf(text, n, "10") : (size_t)snprintf(text, n, "%.0f·10", lead);
    char digits[16];
    snprintf(digits, sizeof digits, "%d", abs(power));
    if (power < 0)
        used += (size_t)snprintf(text + used, n - used, "⁻");
    for (const char *d = digits; *d && used < n; d++)
        used += (size_t)snprintf(text + used, n - used, "%s", raised[*d - '0']);
}

static void grid_line(cairo_t *k, const frame *f, bool vertical, double at, gw_rgb colour)
{
    at = floor(at) + 0.5;
    cairo_move_to(k, vertical ? at : f->x, vertical ? f->y : at);
    cairo_line_to(k, vertical ? at : f->x + f->w, vertical ? f->y + f->h : at);
    gw_pen_set(k, colour, f->c->image ? 0.25 : 1);
    cairo_set_line_width(k, 1);
    cairo_stroke(k);
}

/* A tick's text, and where it was last written, so that none meets the next. */
static void label(cairo_t *k, const frame *f, bool vertical, double at, const char *text, double *clear)
{
    if (vertical) {
        const double half = gw_pen_width(k, type_size, false, text) / 2;
        if (at - half < *clear)
            return;
        *clear = at + half + 10;
        gw_pen_type(k, at, f->y + f->h + 17, type_size, false, gw_pen_ink, GW_AT_CENTRE, text);
    } else {
        if (at > *clear)
            return;
        *clear = at - 17;
        gw_pen_type(k, f->x - 8, at + 4, type_size, false, gw_pen_ink, GW_AT_RIGHT, text);
    }
}

static void log_ticks(cairo_t *k, const frame *f, const gw_chart_axis *a, bool vertical)
{
    const double decades = log10(a->to / a->from);
    const int every = !vertical && decades > 9 ? 2 : 1;     /* decades */
    const double room = (vertical ? f->w : f->h) / decades; /* pixels a decade */
    double clear = vertical ? -INFINITY : INFINITY;
    char text[48];
    for (int e = (int)floor(log10(a->from)); e <= (int)ceil(log10(a->to)); e++)
        for (int m = 1; m < 10; m++) {
            const double v = m * pow(10, e);
            if (v < a->from * 0.9999 || v > a->to * 1.0001)
                continue;
            const double at = vertical ? px(f, v) : py(f, v);
            if (m == 1 || (decades < 5 && !f->c->image))
                grid_line(k, f, vertical, at, m == 1 ? gw_pen_line : gw_pen_faint);
            const bool told = m == 1                          ? e % every == 0
                              : decades <= 1.2                ? true
                              : room >= (vertical ? 110 : 55) ? m == 2 || m == 5
                                                              : false;
            if (!told)
                continue;
            number(v, true, text, sizeof text);
            label(k, f, vertical, at, text, &clear);
        }
}

static void linear_ticks(cairo_t *k, const frame *f, const gw_chart_axis *a, bool vertical)
{
    const double step = gw_pen_step(a->to - a->from, vertical ? (int)(f->w / 70) : (int)fmax(f->h / 34, 2));
    double clear = vertical ? -INFINITY : INFINITY;
    char text[48];
    for (double n = ceil(a->from / step - 1e-9); n * step <= a->to + 1e-9 * step; n++) {
        const double v = n * step, at = vertical ? px(f, v) : py(f, v);
        grid_line(k, f, vertical, at, gw_pen_faint);
        number(fabs(v) < 1e-9 * step ? 0 : v, false, text, sizeof text);
        label(k, f, vertical, at, text, &clear);
    }
}

static void gps_ticks(cairo_t *k, const frame *f, const gw_chart_axis *a)
{
    static const double steps[] = {1,   2,   5,    10,   20,   30,    60,    120,   300,
                                   600, 900, 1800, 3600, 7200, 14400, 21600, 43200, 86400};
    size_t s = 0;
    while (s + 1 < sizeof steps / sizeof *steps && (a->to - a->from) / steps[s] > f->w / 84)
        s++;
    char text[48], utc[32];
    for (double v = ceil(a->from / steps[s] - 1e-9) * steps[s]; v <= a->to + 1e-9; v += steps[s]) {
        const double at = px(f, v);
        grid_line(k, f, true, at, gw_pen_faint);
        snprintf(text, sizeof text, "%.10g", fabs(v) < 1e-9 ? 0 : v);
        gw_pen_type(k, at, f->y + f->h + 17, type_size, false, gw_pen_ink, GW_AT_CENTRE, text);
        gw_gps_utc((a->gps_s + (int64_t)llround(v)) * GW_SECOND_NS, utc, sizeof utc);
        utc[19] = '\0'; /* 2015-09-14T09:50:45 */
        gw_pen_type(k, at, f->y + f->h + 31, type_size - 1.5, false, gw_pen_soft, GW_AT_CENTRE, utc + 11);
    }
}

static void axes(cairo_t *k, const frame *f)
{
    const gw_chart *c = f->c;
    if (c->x.gps)
        gps_ticks(k, f, &c->x);
    else if (c->x.log)
        log_ticks(k, f, &c->x, true);
    else
        linear_ticks(k, f, &c->x, true);
    if (c->y.log)
        log_ticks(k, f, &c->y, false);
    else if (!c->y.bare)
        linear_ticks(k, f, &c->y, false);
    if (c->x.label)
        gw_pen_type(k, f->x + f->w / 2, f->y + f->h + 37 + (c->x.gps ? UTC : 0), type_size + 0.5, false,
                    gw_pen_ink, GW_AT_CENTRE, c->x.label);
    if (c->y.label)
        gw_pen_type_upwards(k, 16, f->y + f->h / 2, type_size + 0.5, gw_pen_ink, c->y.label);
}

/* ---- what is in the panel ---- */

static void spans(cairo_t *k, const frame *f)
{
    for (int i = 0; i < f->c->n_spans; i++) {
        const gw_chart_span *s = &f->c->span[i];
        const double x0 = fmax(px(f, fmax(s->from, f->c->x.from)), f->x),
                     x1 = fmin(px(f, fmin(s->to, f->c->x.to)), f->x + f->w);
        if (x1 <= x0)
            continue;
        cairo_rectangle(k, x0, f->y, fmax(x1 - x0, 1), f->h);
        gw_pen_set(k, s->colour, s->alpha);
        cairo_fill(k);
    }
}

/* Their names, over what was drawn, each in a row of its own where the one before is in the way. */
static void span_names(cairo_t *k, const frame *f)
{
    double taken = -INFINITY;
    int row = 0;
    for (int i = 0; i < f->c->n_spans; i++) {
        const gw_chart_span *s = &f->c->span[i];
        const double x0 = px(f, fmax(s->from, f->c->x.from)), x1 = px(f, fmin(s->to, f->c->x.to));
        if (!s->name || x1 <= x0)
            continue;
        const double wide = gw_pen_width(k, type_size - 1.5, false, s->name);
        double x = (x0 + x1) / 2 - wide / 2;
        x = fmax(fmin(x, f->x + f->w - wide - 4), f->x + 4);
        row = x < taken ? row + 1 : 0;
        taken = fmax(taken, x + wide + 8);
        gw_pen_type(k, x, f->y + 13 + 13 * (row % 3), type_size - 1.5, false, gw_pen_soft, GW_AT_LEFT,
                    s->name);
    }
}

static void stroke(cairo_t *k, const gw_chart_line *l)
{
    static const double dashes[] = {6, 4};
    cairo_set_dash(k, dashes, l->dashed ? 2 : 0, 0);
    cairo_set_line_width(k, l->width);
    cairo_set_line_join(k, CAIRO_LINE_JOIN_ROUND);
    gw_pen_set(k, l->colour, 1);
    cairo_stroke(k);
    cairo_set_dash(k, NULL, 0, 0);
}

/* The points that fall into one half pixel: first, the two outermost in the order they came, last. */
typedef struct bunch {
    double column, x, least, most, last;
    bool most_first, any, pen_down;
} bunch;

static void put_point(cairo_t *k, bunch *b, double x, double y)
{
    if (b->pen_down)
        cairo_line_to(k, x, y);
    else
        cairo_move_to(k, x, y);
    b->pen_down = true;
}

static void put_bunch(cairo_t *k, bunch *b)
{
    if (b->any && b->least == b->most) {
        put_point(k, b, b->x, b->last);
    } else if (b->any) {
        put_point(k, b, b->x, b->most_first ? b->most : b->least);
        put_point(k, b, b->x, b->most_first ? b->least : b->most);
        if (b->last != (b->most_first ? b->least : b->most))
            put_point(k, b, b->x, b->last);
    }
    b->any = false;
}

static void curve(cairo_t *k, const frame *f, const gw_chart_line *l)
{
    bunch b = {.column = -INFINITY};
    const double bottom = f->y + f->h + 50, top = f->y - 50;
    for (size_t i = 0; i < l->n; i++) {
        const bool there = isfinite(l->y[i]) && (!f->c->y.log || l->y[i] > 0) && l->x[i] >= f->c->x.from &&
                           l->x[i] <= f->c->x.to * (1 + 1e-12);
        if (!there) {
            put_bunch(k, &b);
            b.pen_down = false;
            continue;
        }
        const double x = px(f, l->x[i]), y = fmin(fmax(py(f, l->y[i]), top), bottom);
        if (floor(2 * x) != b.column) {
            put_bunch(k, &b);
            b.column = floor(2 * x);
            b.x = x;
        }
        if (!b.any || y < b.least) {
            b.least = y;
            b.most_first = b.any; /* on the screen `least` is above */
        }
        if (!b.any || y > b.most) {
            b.most = y;
            b.most_first = false;
        }
        b.any = true;
        b.last = y;
    }
    put_bunch(k, &b);
    stroke(k, l);
}

static void stairs(cairo_t *k, const frame *f, const gw_chart_line *l)
{
    bool down = false;
    for (size_t i = 0; i < l->n; i++) {
        if (!isfinite(l->y[i])) {
            down = false;
            continue;
        }
        const double y = py(f, l->y[i]), x0 = px(f, l->x[i]),
                     x1 = px(f, i + 1 < l->n ? l->x[i + 1] : f->c->x.to);
        if (down)
            cairo_line_to(k, x0, y);
        else
            cairo_move_to(k, x0, y);
        cairo_line_to(k, x1, y);
        down = true;
    }
    stroke(k, l);
}

/* ---- images ---- */

/* Better than before is blue, worse is orange, and both darken away from white. */
static gw_rgb two_sided(double u)
{
    static const gw_rgb below[] = {{0.97, 0.97, 0.97},
                                   {0.57, 0.77, 0.87},
                                   {0.13, 0.40, 0.67},
                                   {0.02, 0.19, 0.38}},
                        above[] = {
                            {0.97, 0.97, 0.97}, {0.96, 0.65, 0.51}, {0.79, 0.24, 0.20}, {0.40, 0.00, 0.12}};
    const gw_rgb *p = u < 0 ? below : above;
    const double v = fmin(fabs(u), 1) * 3;
    const int i = v < 3 ? (int)v : 2;
    const double s = v - i;
    return (gw_rgb){p[i].r + s * (p[i + 1].r - p[i].r), p[i].g + s * (p[i + 1].g - p[i].g),
                    p[i].b + s * (p[i + 1].b - p[i].b)};
}

static gw_rgb colour_of(const gw_chart *c, double v)
{
    if (!isfinite(v))
        return gw_pen_line;
    if (c->diverging)
        return two_sided(log(v) / log(c->high));
    return gw_pen_scale(c->log_colours ? log(v / c->low) / log(c->high / c->low)
                                       : (v - c->low) / (c->high - c->low));
}

static void paint_image(cairo_t *k, const frame *f)
{
    const gw_chart *c = f->c;
    cairo_surface_t *image = cairo_image_surface_create(CAIRO_FORMAT_RGB24, (int)c->cols, (int)c->rows);
    unsigned char *data = cairo_image_surface_get_data(image);
    if (data) {
        const size_t stride = (size_t)cairo_image_surface_get_stride(image);
        cairo_surface_flush(image);
        for (size_t r = 0; r < c->rows; r++)
            for (size_t n = 0; n < c->cols; n++) {
                const gw_rgb s = colour_of(c, (double)c->image[r * c->cols + n]);
                const uint32_t v = 0xff000000u | (uint32_t)(s.r * 255 + 0.5) << 16 |
                                   (uint32_t)(s.g * 255 + 0.5) << 8 | (uint32_t)(s.b * 255 + 0.5);
                memcpy(data + (c->rows - 1 - r) * stride + 4 * n, &v, 4);
            }
        cairo_surface_mark_dirty(image);
        cairo_save(k);
        cairo_rectangle(k, f->x, f->y, f->w, f->h);
        cairo_clip(k);
        cairo_translate(k, f->x, f->y);
        cairo_scale(k, f->w / (double)c->cols, f->h / (double)c->rows);
        cairo_set_source_surface(k, image, 0, 0);
        cairo_pattern_set_filter(cairo_get_source(k), CAIRO_FILTER_NEAREST);
        cairo_paint(k);
        cairo_restore(k);
    }
    cairo_surface_destroy(image); /* a failure shows up in the status of k */
}

static void colour_bar(cairo_t *k, const frame *f)
{
    const gw_chart *c = f->c;
    gw_chart axis = {.y = {.from = c->diverging ? 1 / c->high : c->low,
                           .to = c->high,
                           .log = c->diverging || c->log_colours}};
    const frame b = {f->x + f->w + 16, f->y, 14, f->h, &axis};
    enum { STEPS = 96 };
    for (int i = 0; i < STEPS; i++) {
        const double u = (i + 0.5) / STEPS;
        const double v = axis.y.log ? axis.y.from * pow(axis.y.to / axis.y.from, u)
                                    : axis.y.from + u * (axis.y.to - axis.y.from);
        cairo_rectangle(k, b.x, b.y + b.h * (1 - (i + 1.0) / STEPS), b.w, b.h / STEPS + (i ? 0.6 : 0));
        gw_pen_set(k, colour_of(c, v), 1);
        cairo_fill(k);
    }
    cairo_rectangle(k, b.x - 0.5, b.y - 0.5, b.w + 1, b.h + 1);
    gw_pen_set(k, gw_pen_line, 1);
    cairo_set_line_width(k, 1);
    cairo_stroke(k);
    char text[48];
    const double decades = axis.y.log ? log10(axis.y.to / axis.y.from) : 0;
    const double step = axis.y.log ? 0 : gw_pen_step(axis.y.to - axis.y.from, 5);
    double clear = INFINITY;
    for (int e = axis.y.log ? (int)floor(log10(axis.y.from)) : 0;
         axis.y.log && e <= (int)ceil(log10(axis.y.to)); e++)
        for (int m = 1; m < 10; m++) {
            const double v = m * pow(10, e), y = py(&b, v);
            if (v < axis.y.from * 0.999 || v > axis.y.to * 1.001 ||
                (m != 1 && !(decades <= 2.2 && (m == 2 || m == 5))) || y > clear)
                continue;
            clear = y - 15;
            number(v, true, text, sizeof text);
            gw_pen_type(k, b.x + b.w + 6, y + 4, type_size - 0.5, false, gw_pen_ink, GW_AT_LEFT, text);
        }
    for (double v = step > 0 ? ceil(axis.y.from / step - 1e-9) * step : INFINITY;
         v <= axis.y.to + 1e-9 * step; v += step) {
        number(fabs(v) < 1e-9 * step ? 0 : v, false, text, sizeof text);
        gw_pen_type(k, b.x + b.w + 6, py(&b, v) + 4, type_size - 0.5, false, gw_pen_ink, GW_AT_LEFT, text);
    }
    if (c->bar_label)
        gw_pen_type_upwards(k, b.x + b.w + 76, b.y + b.h / 2, type_size, gw_pen_ink, c->bar_label);
}

/* ---- the whole ---- */

static void legend(cairo_t *k, const frame *f, double y)
{
    double x = f->x;
    for (int i = 0; i < f->c->n_lines; i++) {
        const gw_chart_line *l = &f->c->line[i];
        if (!l->name)
            continue;
        cairo_move_to(k, x, y - 4);
        cairo_line_to(k, x + 24, y - 4);
        gw_chart_line sample = *l;
        sample.width = fmax(l->width, 2);
        stroke(k, &sample);
        x += 30 + gw_pen_type(k, x + 30, y, type_size, false, gw_pen_ink, GW_AT_LEFT, l->name) + 22;
    }
}

static void draw(cairo_t *k, const gw_chart *c)
{
    bool named = false;
    for (int i = 0; i < c->n_lines; i++)
        named = named || c->line[i].name;
    const double top = TOP + (c->title ? TITLE : 0) + (named ? LEGEND : 0);
    const frame f = {LEFT, top, c->width - LEFT - RIGHT - (c->image ? BAR - RIGHT : 0),
                     c->height - top - BOTTOM - (c->x.gps ? UTC : 0), c};
    gw_pen_set(k, gw_pen_panel, 1);
    cairo_paint(k);
    if (c->title)
        gw_pen_type(k, f.x, 21, type_size + 2.5, true, gw_pen_ink, GW_AT_LEFT, c->title);
    if (named)
        legend(k, &f, top - 11);
    if (c->image)
        paint_image(k, &f);
    spans(k, &f);
    axes(k, &f);
    cairo_save(k);
    cairo_rectangle(k, f.x, f.y, f.w, f.h);
    cairo_clip(k);
    if (!isnan(c->level)) {
        cairo_move_to(k, f.x, py(&f, c->level));
        cairo_line_to(k, f.x + f.w, py(&f, c->level));
        gw_pen_set(k, gw_pen_soft, 1);
        cairo_set_line_width(k, 1);
        cairo_stroke(k);
    }
    for (int i = 0; i < c->n_lines; i++)
        if (c->line[i].steps)
            stairs(k, &f, &c->line[i]);
        else
            curve(k, &f, &c->line[i]);
    cairo_restore(k);
    span_names(k, &f);
    if (c->image)
        colour_bar(k, &f);
    cairo_rectangle(k, f.x - 0.5, f.y - 0.5, f.w + 1, f.h + 1);
    gw_pen_set(k, gw_pen_missing, 1);
    cairo_set_line_width(k, 1);
    cairo_stroke(k);
}

/* ---- to memory ---- */

static cairo_status_t keep(void *to, const unsigned char *data, unsigned int bytes)
{
    return fwrite(data, 1, bytes, (FILE *)to) == bytes ? CAIRO_STATUS_SUCCESS : CAIRO_STATUS_WRITE_ERROR;
}

static int write_chart(const gw_chart *c, bool svg, char **data, size_t *bytes)
{
    *data = NULL;
    *bytes = 0;
    FILE *f = open_memstream(data, bytes);
    if (!f)
        return gw_fail(GW_ENOMEM, "chart");
    cairo_surface_t *s =
        svg ? cairo_svg_surface_create_for_stream(keep, f, c->width, c->height)
            : cairo_image_surface_create(CAIRO_FORMAT_RGB24, 2 * (int)c->width, 2 * (int)c->height);
    cairo_t *k = cairo_create(s);
    if (!svg)
        cairo_scale(k, 2, 2);
    draw(k, c);
    cairo_status_t status = cairo_status(k);
    cairo_destroy(k);
    if (status == CAIRO_STATUS_SUCCESS && !svg)
        status = cairo_surface_write_to_png_stream(s, keep, f);
    cairo_surface_finish(s);
    if (status == CAIRO_STATUS_SUCCESS)
        status = cairo_surface_status(s);
    cairo_surface_destroy(s);
    if (fclose(f) != 0 && status == CAIRO_STATUS_SUCCESS)
        status = CAIRO_STATUS_NO_MEMORY;
    if (status == CAIRO_STATUS_SUCCESS)
        return GW_OK;
    free(*data);
    *data = NULL;
    return gw_fail(status == CAIRO_STATUS_NO_MEMORY ? GW_ENOMEM : GW_EIO, "chart: %s",
                   cairo_status_to_string(status));
}

int gw_chart_svg(const gw_chart *c, char **data, size_t *bytes)
{
    return write_chart(c, true, data, bytes);
}

int gw_chart_png(const gw_chart *c, char **data, size_t *bytes)
{
    return write_chart(c, false, data, bytes);
}
