/* SPDX-License-Identifier: GPL-3.0-or-later
 * A report on cleaning as one HTML file that stands alone: pictures are in it, nothing is fetched, nothing
 * runs. Called by `gwstream report`, which reads the recordings; what is measured from strain is
 * report_measure.c's, the pictures are report_charts.c's. */
#ifndef GW_REPORT_H
#define GW_REPORT_H

#include "sinks/report_measure.h"

#include <stdio.h>

enum { GW_REPORT_COUPLINGS = 8, GW_REPORT_MODELS = 16, GW_REPORT_HOLES = 24 };

/* A coupling, as the run that was recorded told it. */
typedef struct gw_report_coupling {
    char name[48];
    char model[64], hash[17], bands[128]; /* as the run began; "" where not told */
    /* What was recorded once a second, averaged to columns of step_s; NAN where unknown. NULL: not recorded.
     */
    size_t n;
    double step_s;
    double *t_s; /* [n] begin of a column, from the start */
    double *gate, *ratio, *integrated, *outside;
    double open;  /* share of the time in which the gate was open more than half; NAN */
    int n_models; /* which networks were at work, in turn */
    struct {
        double t_s;
        char hash[14];
    } used[GW_REPORT_MODELS];
} gw_report_coupling;

typedef struct gw_report_hole { /* in seconds from the start */
    double from_s, to_s;
    const char *channel, *why;
} gw_report_hole;

/* One strain channel. */
typedef struct gw_report_subject {
    const char *strain;                 /* "H1:STRAIN" */
    const char *before, *after, *truth; /* what these are made of: "H1:STRAIN - H1:STRAIN_NOISE" */
    uint32_t rate_hz;
    int64_t start_gps, seconds;
    const gw_report_band *band;
    int n_bands;
    const gw_measured *m;
    gw_report_coupling *coupling;
    int n_couplings;
    gw_report_hole hole[GW_REPORT_HOLES]; /* the first so many */
    int n_holes, more_holes;
    double lost_s;
    const char *remark; /* NULL: none */
} gw_report_subject;

typedef struct gw_report gw_report;

/* Begins a file that becomes `path` when it is finished, or never. GW_EACCESS, GW_EIO: it cannot be written.
 */
int gw_report_new(gw_report **r, const char *path, char *const *file, int n_files);
int gw_report_add(gw_report *r, const gw_report_subject *s);
int gw_report_finish(gw_report *r); /* GW_EIO: the disk does not take it; then there is no file */
void gw_report_destroy(gw_report **r);

/* report_charts.c: all pictures of one subject, as HTML figures. GW_EIO, GW_ENOMEM. */
int gw_report_chart_spectra(FILE *to, const gw_report_subject *s);
int gw_report_chart_times(FILE *to, const gw_report_subject *s);
int gw_report_chart_maps(FILE *to, const gw_report_subject *s);

#endif
