/* SPDX-License-Identifier: GPL-3.0-or-later
 * One chart: lines over an axis of frequency, time or anything, linear or logarithmic, with shaded bands, a
 * legend, or an image with its colour bar. Dark on white, to be read on screen and on paper. Called for
 * reports; knows no detectors and computes nothing.
 *
 * Written as SVG, where lines stay lines, or as PNG at twice the size. */
#ifndef GW_CHART_H
#define GW_CHART_H

#include "pipeline/error.h"
#include "sinks/pen.h"

#include <stddef.h>
#include <stdint.h>

enum { GW_CHART_LINES = 16, GW_CHART_SPANS = 48 };

/* Okabe and Ito's colours: told apart by everybody. */
static const gw_rgb gw_chart_orange = {0.835, 0.369, 0.000}, gw_chart_blue = {0.000, 0.447, 0.698},
                    gw_chart_green = {0.000, 0.620, 0.451}, gw_chart_purple = {0.800, 0.475, 0.655},
                    gw_chart_amber = {0.902, 0.624, 0.000}, gw_chart_sky = {0.337, 0.706, 0.914};

typedef struct gw_chart_axis {
    const char *label;
    double from, to; /* on a logarithmic axis both above 0 */
    bool log;
    bool bare; /* no ticks */
    bool gps;  /* seconds after `gps_s`: ticks are told as seconds from there, with UTC under them */
    int64_t gps_s;
} gw_chart_axis;

typedef struct gw_chart_line {
    const char *name;    /* in the legend; NULL: not there */
    const double *x, *y; /* [n], x ascending, lent; NaN in y lifts the pen */
    size_t n;
    gw_rgb colour;
    double width;
    bool steps; /* y[i] holds from x[i] to x[i + 1] */
    bool dashed;
} gw_chart_line;

typedef struct gw_chart_span { /* a stretch of x */
    double from, to;
    gw_rgb colour;
    double alpha;
    const char *name; /* above it; NULL: none */
} gw_chart_span;

typedef struct gw_chart {
    const char *title; /* NULL: none */
    double width, height;
    gw_chart_axis x, y;
    gw_chart_line line[GW_CHART_LINES];
    int n_lines;
    gw_chart_span span[GW_CHART_SPANS];
    int n_spans;
    double level; /* a thin line across; NAN: none */
    /* An image instead of a white panel: [rows][cols], row 0 at the bottom of y; x and y evenly divided (in
     * the logarithm where the axis is). NaN is grey. `diverging`: 1 is white, below blue, above orange, on a
     * logarithmic scale; else dark to pale, linear in the given values. */
    const float *image; /* NULL: none */
    size_t rows, cols;
    double low, high; /* of the colours; diverging: the scale is high, 1, 1 / high */
    bool diverging, log_colours;
    const char *bar_label;
} gw_chart;

/* The chart's file in memory, *data [*bytes], the caller's to free. GW_ENOMEM, GW_EIO (cairo's reason). */
int gw_chart_svg(const gw_chart *c, char **data, size_t *bytes);
int gw_chart_png(const gw_chart *c, char **data, size_t *bytes);

#endif
