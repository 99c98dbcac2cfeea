/* SPDX-License-Identifier: GPL-3.0-or-later
 * One event as a picture: for each detector a time-frequency map with the whitened strain below it, at the
 * bottom the ranking statistic. Called by the picture sink; it knows no streams and no stages. */
#ifndef GW_PLOT_H
#define GW_PLOT_H

#include "pipeline/event.h"
#include "sinks/timefreq.h"

enum { GW_PLOT_WIDTH = 1600, GW_PLOT_HEIGHT = 1000, GW_PLOT_STRAINS = 4, GW_PLOT_MARKS = 16 };

typedef struct gw_plot {
    const gw_event *event;    /* its latest phase; time 0 is its gps_ns */
    const gw_event *truth;    /* the injection it belongs to, or NULL */
    double before_s, after_s; /* what is shown */
    int n_strains;
    struct gw_plot_strain {
        char detector[8];
        gw_series series; /* whitened, variance about 1 in the full band; better longer than what is shown */
    } strain[GW_PLOT_STRAINS];
    gw_series statistic; /* n 0: none. A sample's time is the end of its window */
    int n_marks;
    struct gw_plot_mark { /* when a phase was known, in stream time, and what it said */
        gw_phase phase;
        double t_s, statistic;
    } mark[GW_PLOT_MARKS];
    double candidate, alert; /* thresholds of the statistic, NAN if not known */
} gw_plot;

/* Writes a PNG of GW_PLOT_WIDTH x GW_PLOT_HEIGHT; an existing file is replaced at once or not at all.
 * GW_EIO, GW_ENOMEM. */
int gw_plot_png(const gw_plot *p, const char *path);

/* The pixel column of time t_s, for who wants to point into the picture. */
double gw_plot_x(const gw_plot *p, double t_s);

#endif
