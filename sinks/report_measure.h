/* SPDX-License-Identifier: GPL-3.0-or-later
 * What a report on cleaning says, measured from strain before and after (and after the ideal subtraction,
 * where that is known), fed second by second. Called by `gwstream report`; reads no files, draws nothing. Any
 * length of data in bounded memory (about 400 MB at 16384 Hz).
 *
 * S is Welch's: segments of 2 s, one a second, periodic Hann, mean removed, median over segments divided by
 * its bias. A segment counts only if all of its samples are there in all strains: before and after are of
 * the same stretches. Beyond 1024 segments: the median of the medians of groups of so many. Figures of a band
 * are of the bins lo <= f < hi of S (0.5 Hz). */
#ifndef GW_REPORT_MEASURE_H
#define GW_REPORT_MEASURE_H

#include "kernels/spectrum.h"

#include <stdbool.h>

typedef enum gw_strain_kind { GW_RAW, GW_CLEAN, GW_IDEAL, GW_STRAIN_KINDS } gw_strain_kind;

enum { GW_REPORT_BANDS = 40, GW_REPORT_ROWS = 240, GW_REPORT_COLUMNS = 840 };

typedef struct gw_report_band {
    char name[48];
    double low_hz, high_hz;
    bool outside; /* not one to be cleaned: without those that are, and 2 Hz either side of them */
} gw_report_band;

/* Of a band: ratios of amplitudes after / before. */
typedef struct gw_report_figures {
    double mean;            /* over bins of sqrt(S / S_raw) */
    double integrated;      /* sqrt(sum of S / sum of S_raw) */
    double loudest;         /* in the bin that was the loudest before */
    double worst, worst_hz; /* the largest of any bin, and where */
} gw_report_figures;

typedef struct gw_psd_pair { /* one-sided, unit^2 / Hz; bin k at k * bin_hz */
    double bin_hz;
    uint32_t bins, segments;
    double *of[GW_STRAIN_KINDS]; /* [bins]; NULL for one that is not known */
} gw_psd_pair;

typedef struct gw_measured {
    bool ideal;
    double seconds;   /* that were whole in all strains */
    gw_psd_pair full; /* S */
    gw_psd_pair fine; /* segments of 8 or 16 s, up to 512 Hz; segments 0: too little data */
    gw_report_figures figures[GW_REPORT_BANDS][GW_STRAIN_KINDS]; /* of GW_CLEAN and GW_IDEAL */
    double loudest_hz[GW_REPORT_BANDS];
    double range_mpc[GW_STRAIN_KINDS]; /* of segments of 4 s, median over all; 0: not known */
    /* In time: a column each step_s, of the median over the window_s before its end; NAN where unknown. */
    size_t n;
    double step_s, window_s;
    double *t_s;                                                 /* [n] end of a column, from the start */
    double *mean[GW_REPORT_BANDS], *integrated[GW_REPORT_BANDS]; /* [n] of GW_CLEAN */
    double *range[GW_STRAIN_KINDS];                              /* [n] Mpc */
    double low_hz, high_hz; /* of the maps, rows divided evenly in log f */
    float *map[2], *ratio;  /* [GW_REPORT_ROWS][n]: ASD before and after; after / before */
} gw_measured;

typedef struct gw_measure gw_measure;

/* rate_hz: whole and even. seconds: how much will come at most, holes included. band: lent. */
int gw_measure_new(gw_measure **m, const gw_spectrum_ops *ops, uint32_t rate_hz, int64_t seconds,
                   const gw_report_band *band, int n_bands, bool ideal);
void gw_measure_destroy(gw_measure **m);

/* The next second: x[kind][rate_hz]; a sample that is not finite is a hole. GW_ENOMEM. */
int gw_measure_second(gw_measure *m, const double *const *x);

/* After the last. GW_ERANGE: fewer than 7 segments (8 s in one piece). The result is the measure's own. */
int gw_measure_finish(gw_measure *m, const gw_measured **result);

#endif
