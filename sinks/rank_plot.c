/* SPDX-License-Identifier: GPL-3.0-or-later
 * A ranking as a picture: a row a channel, in the order of the table, each target a panel over its own
 * frequencies; colour is coherence. To the right the ratio of ASDs that is left in that channel's target. */
#include "sinks/pen.h"
#include "sinks/rank_write.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

enum { ROWS = 32, WIDTH = 1600, ROW = 24, LEFT = 330, RIGHT = 1240, TOP = 96, GAP = 14, FOOT = 64 };

typedef struct panel {
    double x, w, low_hz, high_hz;
    bool line;
} panel;

static void cell(cairo_t *c, double x, double y, double w, double h, gw_rgb colour)
{
    cairo_rectangle(c, x, y, w, h);
    gw_pen_set(c, colour, 1);
    cairo_fill(c);
}

static void draw_cells(cairo_t *c, const gw_rank_table *t, const gw_rank_spectra *s, int target, uint32_t row,
                       panel *p)
{
    double hz[2 * GW_RANK_SLOW_BINS], value[2 * GW_RANK_SLOW_BINS];
    const gw_rank_entry *e = &t->entry[row];
    const uint32_t n = gw_rank_coherence(s, t, target, e->stream, e->channel, hz, value);
    if (!n)
        return;
    p->low_hz = hz[0];
    p->high_hz = hz[n - 1];
    for (uint32_t k = 0; k < n; k++)
        cell(c, p->x + p->w * k / n, TOP + ROW * row, p->w / n + 0.3, ROW - 2, gw_pen_scale(value[k]));
}

static void draw_axis(cairo_t *c, const gw_rank_spectra *s, int target, const panel *p, double bottom)
{
    char text[64];
    gw_rank_target_text(s, target, text, sizeof text);
    gw_pen_type(c, p->x + p->w / 2, TOP - 14, 15, true, gw_pen_ink, GW_AT_CENTRE, text);
    for (int i = 0; i < 3; i++) {
        const double hz = p->low_hz + (p->high_hz - p->low_hz) * i / 2;
        snprintf(text, sizeof text, p->line ? "%+.2g" : "%.4g", hz);
        gw_pen_type(c, p->x + p->w * i / 2, bottom + 18, 13, false, gw_pen_soft,
                    i == 0   ? GW_AT_LEFT
                    : i == 2 ? GW_AT_RIGHT
                             : GW_AT_CENTRE,
                    text);
    }
}

static void draw_names(cairo_t *c, const gw_rank_table *t, uint32_t row)
{
    const gw_rank_entry *e = &t->entry[row];
    const double y = TOP + ROW * row + ROW - 8;
    const gw_rgb ink = e->verdict <= GW_RANK_COHERENT ? gw_pen_ink : gw_pen_soft;
    char text[96];
    snprintf(text, sizeof text, "%.36s", e->name);
    gw_pen_type(c, LEFT - 12, y, 14, e->verdict == GW_RANK_CHOSEN, ink, GW_AT_RIGHT, text);
    if (e->verdict == GW_RANK_CHOSEN) {
        const double left = t->ratio[(size_t)row * (size_t)t->n_targets + (size_t)e->target];
        cell(c, RIGHT + 24, TOP + ROW * row + 5, 160, ROW - 12, gw_pen_faint);
        cell(c, RIGHT + 24, TOP + ROW * row + 5, 160 * left, ROW - 12, gw_pen_scale(0.45));
        snprintf(text, sizeof text, "%.3f", left);
    } else
        snprintf(text, sizeof text, "%s", gw_rank_verdict_text(e->verdict));
    gw_pen_type(c, RIGHT + (e->verdict == GW_RANK_CHOSEN ? 196 : 24), y, 14, false, ink, GW_AT_LEFT, text);
}

static void draw_scale(cairo_t *c, double y)
{
    for (int i = 0; i < 100; i++)
        cell(c, LEFT + 2 * i, y, 2.3, 10, gw_pen_scale((i + 0.5) / 100));
    gw_pen_type(c, LEFT - 12, y + 10, 13, false, gw_pen_soft, GW_AT_RIGHT, "coherence  0");
    gw_pen_type(c, LEFT + 208, y + 10, 13, false, gw_pen_soft, GW_AT_LEFT, "1");
}

static void draw(cairo_t *c, const gw_rank_table *t, const gw_rank_spectra *s, uint32_t rows)
{
    const double bottom = TOP + ROW * rows, room = (double)(RIGHT - LEFT) - GAP * (t->n_targets - 1);
    char text[200];
    gw_pen_set(c, gw_pen_panel, 1);
    cairo_paint(c);
    cairo_set_antialias(c, CAIRO_ANTIALIAS_NONE); /* cells meet without seams */
    snprintf(text, sizeof text, "Witnesses of %s", s->stream[s->strain_stream].name[s->strain]);
    gw_pen_type(c, 24, 36, 22, true, gw_pen_ink, GW_AT_LEFT, text);
    snprintf(text, sizeof text, "GPS %lld, %lld s", (long long)t->from_s, (long long)(t->to_s - t->from_s));
    gw_pen_type(c, 24, 60, 14, false, gw_pen_soft, GW_AT_LEFT, text);
    gw_pen_type(c, RIGHT + 24, TOP - 14, 15, true, gw_pen_ink, GW_AT_LEFT, "ASD left where it gains most");
    for (int k = 0; k < t->n_targets; k++) {
        panel p = {.w = room / t->n_targets, .line = k >= s->n_bands};
        p.x = LEFT + k * (p.w + GAP);
        for (uint32_t row = 0; row < rows; row++)
            draw_cells(c, t, s, k, row, &p);
        draw_axis(c, s, k, &p, bottom);
    }
    for (uint32_t row = 0; row < rows; row++)
        draw_names(c, t, row);
    draw_scale(c, bottom + 36);
}

int gw_rank_write_picture(const gw_rank_table *t, const gw_rank_spectra *s, const char *path)
{
    const uint32_t rows = t->n < ROWS ? t->n : ROWS;
    char part[1024];
    snprintf(part, sizeof part, "%s.part", path);
    cairo_surface_t *image =
        cairo_image_surface_create(CAIRO_FORMAT_RGB24, WIDTH, (int)(TOP + ROW * rows + FOOT));
    cairo_t *c = cairo_create(image);
    draw(c, t, s, rows);
    cairo_status_t status = cairo_status(c);
    if (status == CAIRO_STATUS_SUCCESS)
        status = cairo_surface_write_to_png(image, part);
    cairo_destroy(c);
    cairo_surface_destroy(image);
    if (status == CAIRO_STATUS_NO_MEMORY)
        return gw_fail(GW_ENOMEM, "%s: the picture", path);
    if (status != CAIRO_STATUS_SUCCESS || rename(part, path) != 0) {
        const char *why = status != CAIRO_STATUS_SUCCESS ? cairo_status_to_string(status) : strerror(errno);
        remove(part);
        return gw_fail(GW_EIO, "%s: cannot be written: %s", path, why);
    }
    return GW_OK;
}
