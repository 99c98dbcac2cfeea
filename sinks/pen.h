/* SPDX-License-Identifier: GPL-3.0-or-later
 * What all pictures share: colours, type, and where ticks go. Used by plot.c (events) and chart.c (reports).
 * Draws with cairo; a failure shows up in the status of the cairo_t. */
#ifndef GW_PEN_H
#define GW_PEN_H

#include <cairo.h>
#include <stdbool.h>

typedef struct gw_rgb {
    double r, g, b;
} gw_rgb;

/* Paper and ink. */
static const gw_rgb gw_pen_panel = {1, 1, 1}, gw_pen_ink = {0.10, 0.12, 0.16},
                    gw_pen_soft = {0.42, 0.45, 0.50}, gw_pen_line = {0.80, 0.81, 0.83},
                    gw_pen_faint = {0.915, 0.92, 0.93}, gw_pen_missing = {0.62, 0.63, 0.66};

/* The maps' scale, v from 0 to 1: rises evenly in lightness from deep blue to pale yellow and can be read
 * without telling red from green. */
gw_rgb gw_pen_scale(double v);

typedef enum gw_anchor { GW_AT_LEFT, GW_AT_CENTRE, GW_AT_RIGHT } gw_anchor;

void gw_pen_set(cairo_t *c, gw_rgb k, double alpha);
/* `text` (UTF-8) with its baseline at y; returns how wide it is. */
double gw_pen_type(cairo_t *c, double x, double y, double size, bool bold, gw_rgb k, gw_anchor a,
                   const char *text);
double gw_pen_width(cairo_t *c, double size, bool bold, const char *text); /* only that */
void gw_pen_type_upwards(cairo_t *c, double x, double y, double size, gw_rgb k, const char *text);

/* The step 1, 2 or 5 times a power of ten that gives at most `most` ticks over `span`. */
double gw_pen_step(double span, int most);

#endif
