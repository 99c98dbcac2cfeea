/* SPDX-License-Identifier: GPL-3.0-or-later
 * How good a search is, from injections and a background: efficiency with binomial intervals, sensitive
 * distance, timing, latency. Pure arithmetic, called by `gwstream evaluate`, which reads journals and archives;
 * evaluation_page.c draws it.
 *
 * Everything is told at two thresholds, which noise alone reaches once an hour and once a day. A threshold is
 * the lower edge of the lowest bin of the background at which (n + 1) / T is at most the rate, n: clusters in
 * this bin and above (as the model card counts, pipeline/stages/card.h).
 *
 * A set of N searches (pairs of detectors; raw and cleaned strain) makes one event of a signal, and gives it the
 * best word's rate times N (sinks/merge.h). That is at most R where this search's own is at most R / N: each
 * search's threshold is the lowest bin edge with
 *     N (n + 1) / T <= R,
 * and a signal is found at R where one search reaches its own. The set's false alarms are then at most R,
 * whatever its searches share, and fewer where they find the same noise.
 *
 * Sensitive distance, in a Euclidean universe without redshift (detector-frame masses): of injection i with
 * network SNR u_i from 1 Mpc,
 *     V_i = 4 pi int eff(u_i / D) D^2 dD = 4 pi u_i^3 int eff(rho) rho^-4 drho,   d = (3 <V> / 4 pi)^(1/3)
 * (the volume that a search sees: Usman et al. 2016, CQG 33 215004, eq. 13; Tiwari 2018, CQG 35 145009). The
 * mean over the population is taken of u^3 x found at each SNR, so that a sky position that is hard to find
 * counts with its own volume; straight lines between the SNRs of the list, the last value above the highest,
 * and nothing below the lowest: a lower bound. */
#ifndef GW_EVALUATION_H
#define GW_EVALUATION_H

#include "pipeline/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { GW_PER_HOUR, GW_PER_DAY, GW_RATES };
enum { GW_EVAL_SNRS = 16, GW_EVAL_BINS = 6, GW_EVAL_DETECTORS = 3, GW_EVAL_HISTOGRAM = 100000 };
enum { GW_EVAL_SEARCHES = 16, GW_EVAL_SETS = 32, GW_EVAL_NAMES = 32 };

extern const double gw_eval_rate_hz[GW_RATES];
extern const double gw_eval_edge[GW_EVAL_BINS + 1]; /* of the bins of chirp mass, solar masses */

/* One injection, and what became of it. */
typedef struct gw_eval_signal {
    double snr;        /* network SNR as asked for: one of the list */
    double unit_snr;   /* from 1 Mpc */
    double ratio;      /* SNR in the weakest / in the strongest detector */
    double chirp_mass; /* solar masses, detector frame */
    bool found[GW_RATES];
    /* Of those found at one an hour; NAN: not told. */
    double statistic;
    double error_s, sigma_s; /* arrival at the later detector (of the best word's) less the true one, and its
                                stated 1 sigma */
    double latency_s;        /* stream time at which it crossed one an hour, less the true latest arrival */
    int n_arrivals;          /* detectors whose own arrival was told */
    double arrival_error_s[GW_EVAL_DETECTORS], arrival_sigma_s[GW_EVAL_DETECTORS];
    char arrival_at[GW_EVAL_DETECTORS][8];
    char detectors[GW_EVAL_NAMES]; /* that the event names: "H1,L1" */
    uint32_t searches;             /* bit i: search i has a word in it */
} gw_eval_signal;

/* A stretch of noise that shares nothing with the others. */
typedef struct gw_eval_stretch {
    size_t n; /* clusters */
    double slid_s;
} gw_eval_stretch;

/* What noise did: clusters of all slides above a floor. */
typedef struct gw_eval_background {
    double slid_s, distinct_s, floor;
    float *statistic; /* [n], in the order of the stretches */
    size_t n, room;
    gw_eval_stretch *stretch; /* [n_stretches] */
    size_t n_stretches;
    /* gw_eval_background_count: */
    double bin_width, first_bin;
    uint32_t bins, *count; /* [bins], up to the loudest */
    double threshold[GW_RATES];
    /* 5 and 95 % of what noise's rate at the threshold may be, times N, from resampling the stretches (slides of one
     * share it, so counting clusters would promise too much); NAN with fewer than 6. */
    double rate_low_hz[GW_RATES], rate_high_hz[GW_RATES];
} gw_eval_background;

/* Adds a stretch: n clusters in slid_s of slides of distinct_s; the highest floor stands. GW_ENOMEM. */
int gw_eval_background_add(gw_eval_background *b, const float *statistic, size_t n, double slid_s,
                           double distinct_s, double floor);
/* Bins and thresholds of one of so many searches (N above; 1: alone). GW_ERANGE: T is too short for one a day, or the
 * floor too high for one an hour. */
int gw_eval_background_count(gw_eval_background *b, int searches);
void gw_eval_background_free(gw_eval_background *b);

typedef struct gw_eval_share { /* k of n, with Wilson's interval of 1 sigma */
    uint32_t n, k;
    double share, low, high; /* NAN, 0, 1 of none */
} gw_eval_share;

/* Wilson's score interval with z standard deviations. */
gw_eval_share gw_eval_share_of(uint32_t k, uint32_t n, double z);

typedef struct gw_eval_timing { /* of `n` errors; NAN where there are none */
    uint32_t n;
    double median_s, most_s; /* of |error|: half, and nine tenths, are no larger */
    double bias_s;           /* median of error */
    gw_eval_share covered;   /* |error| <= sigma, of those with a sigma */
} gw_eval_timing;

typedef struct gw_eval_distance {
    double mpc, error_mpc; /* 1 sigma of the counting */
    double most_mpc;       /* if all from the lowest SNR of the list on were found */
} gw_eval_distance;

typedef struct gw_eval_latency {
    uint32_t n;
    double median_s, most_s; /* half, and nine tenths, are no later */
} gw_eval_latency;

typedef struct gw_eval_tally {
    char name[GW_EVAL_NAMES];
    uint32_t found[GW_RATES][GW_EVAL_SNRS];
} gw_eval_tally;

/* Index of a bin of chirp mass, or GW_EVAL_BINS: all of them, also those in no bin. */
typedef struct gw_eval {
    int n_snrs;
    double snr[GW_EVAL_SNRS]; /* rising */
    gw_eval_share found[GW_RATES][GW_EVAL_BINS + 1][GW_EVAL_SNRS];
    gw_eval_share even[GW_RATES][GW_EVAL_SNRS]; /* of those with a detector ratio above 0.3 */
    gw_eval_distance distance[GW_RATES][GW_EVAL_BINS + 1];
    gw_eval_timing later[GW_EVAL_SNRS], each[GW_EVAL_SNRS]; /* later detector; each detector's own */
    double timed_from; /* the next are of this SNR and more: 12, or all */
    gw_eval_timing timed[GW_EVAL_BINS + 1], timed_each;
    gw_eval_latency latency[GW_EVAL_SNRS + 1]; /* the last: all SNRs */
    /* Who found them. Of those found at a rate: the detectors that the event names, in the order of their names; and
     * how many have a word of search i, at one an hour or more rarely. */
    int n_sets;
    gw_eval_tally set[GW_EVAL_SETS];
    uint32_t part[GW_EVAL_SEARCHES][GW_RATES][GW_EVAL_SNRS];
    /* Each detector's own arrivals, as timed_each. */
    int n_detectors;
    char detector[GW_EVAL_DETECTORS][8];
    gw_eval_timing timed_at[GW_EVAL_DETECTORS];
} gw_eval;

/* Signals of other SNRs than the list's are left out. GW_ENOMEM; GW_ERANGE: events name more than GW_EVAL_SETS sets. */
int gw_eval_measure(gw_eval *e, const gw_eval_signal *s, size_t n, const double *snr, int n_snrs);

/* -- the page (evaluation_page.c) -- */

typedef struct gw_eval_search { /* one that is judged, alone or in a set */
    char name[64];              /* of its stage */
    char model[64], sha256[72], detectors[GW_EVAL_NAMES];
    gw_eval_background noise;
} gw_eval_search;

typedef struct gw_eval_about {
    const gw_eval_search *search; /* [n_searches], borrowed */
    int n_searches;
    char how[1024];    /* a text for the reader */
    uint32_t chance;   /* events that belong to no injection ... */
    double searched_s; /* ... in this time, that after finds left out */
} gw_eval_about;

/* FOLDER/evaluate.html with all its pictures in it, and the same pictures as FOLDER/evaluate-*.png. Each
 * replaced whole or not at all. GW_EIO, GW_ENOMEM. */
int gw_eval_write_page(const char *folder, const gw_eval *e, const gw_eval_about *about);

#endif
