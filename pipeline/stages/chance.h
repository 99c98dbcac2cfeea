/* SPDX-License-Identifier: GPL-3.0-or-later
 * How often noise alone does this: false-alarm rates from the statistics of time slides. Pure logic, called
 * by background.c; knows no networks, files or clocks.
 *
 * A trigger is the peak of a cluster of one slide, by the search's own rule: what comes within
 * `cluster_frames` of a peak belongs to it, a louder one takes its place (candidate.h, refractory). It is
 * kept with both of its times, one for each detector, so that any stretch of either detector's data can be
 * withdrawn afterwards.
 *
 *   rate(x) = (n + 1) / T,  n: triggers of at least x, T: slid time
 * which is never zero: with no trigger of at least x it is "less than about 1 in T".
 *
 * A hop of a slide counts, with its triggers, when both detectors' data were there for it and for `need_hops`
 * before it (window and smoothing full). T is counted exactly from that, whatever was lost or withdrawn.
 * Slides of one stretch of data share it and are not independent: beside T stands the distinct time, the real
 * time that the data took.
 *
 * Spells. The rings of features begin anew with each run, and a run that cannot keep up runs only the first
 * of the slides for a while. So a slide pairs hops of one ring only, and one that is taken up again counts
 * from `need_hops` later on.
 *
 * Kept are triggers above a floor, for `memory_hops`; where they become too many the floor rises. What is
 * kept can be taken out and brought back (gw_chance_save, _load): a new run goes on with the counts.
 *
 * An archive (another run's counts) adds its triggers and its time to all rates; what lies in its time does
 * not count here, so no time counts twice.
 *
 * Interval. Slides share their data: a glitch of one detector gives triggers in many slides, and Poisson on
 * their number is far too narrow. So the data are resampled, not the triggers: blocks of each detector's real
 * time (64 hops or more, at most 200 of them) get random weights, independently in the two detectors, and
 * triggers and slid time of a pair of blocks count with the product of both (redraw.h). */
#ifndef GW_CHANCE_H
#define GW_CHANCE_H

#include "pipeline/noise_rate.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct gw_chance gw_chance;

typedef struct gw_chance_conf {
    uint32_t n_slides;
    const int32_t
        *offset_hops; /* [n_slides], read in _new; 0: the search itself, no part of the background */
    uint32_t hop_frames, cluster_frames, need_hops;
    uint32_t memory_hops;
    double hop_s;
    double floor;          /* of the statistic */
    uint32_t max_triggers; /* that are kept */
} gw_chance_conf;

typedef struct gw_chance_trigger {
    float statistic;
    int64_t hop[2]; /* of the first and the second detector */
} gw_chance_trigger;

typedef struct gw_chance_span {
    int64_t from, to; /* hops [from, to) */
} gw_chance_span;

typedef struct gw_chance_spell {
    int64_t from;    /* until the next one */
    uint32_t slides; /* the first so many are run */
    bool new_ring;   /* nothing before it can be paired with it */
} gw_chance_spell;

/* All that a run knows, in order of time; the arrays are the memory's own (gw_chance_memory_free). */
typedef struct gw_chance_memory {
    int64_t now; /* the newest hop; INT64_MIN: none */
    double floor;
    uint32_t n_triggers, n_fit, n_withdrawn, n_spells;
    uint32_t max_triggers, max_fit, max_withdrawn, max_spells; /* that there is room for */
    gw_chance_trigger *trigger;
    gw_chance_span *fit; /* hops that count, where the other detector's counts too */
    gw_chance_span *withdrawn;
    gw_chance_spell *spell;
} gw_chance_memory;

int gw_chance_new(gw_chance **c, const gw_chance_conf *conf);
void gw_chance_destroy(gw_chance **c);
size_t gw_chance_bytes(const gw_chance_conf *conf);

/* Both detectors' hop `hop` was there, with the statistics that each slide has of it, one after the other:
 * statistic[hop_frames], NAN where there is none. Hops grow; what is left out was not there. */
void gw_chance_hop(gw_chance *c, int64_t hop);
void gw_chance_slide(gw_chance *c, uint32_t slide, const float *statistic);
/* With the next hop only the first `slides` are run, and where new_ring the rings of features are empty. Not
 * needed for a first spell of all. GW_ENOMEM. */
int gw_chance_spell_begins(gw_chance *c, uint32_t slides, bool new_ring);
/* Hops [from, to) of both detectors no longer belong to the exclusive background. */
void gw_chance_withdraw(gw_chance *c, int64_t from, int64_t to);

/* A copy of what is known, as if the run ended here: open clusters are triggers. Reuses m's room; zeroed
 * before the first time. GW_ENOMEM. */
int gw_chance_save(const gw_chance *c, gw_chance_memory *m);
/* Into a new one, with the same slides: goes on where `m` ended, in a new ring. GW_ENOMEM. */
int gw_chance_load(gw_chance *c, const gw_chance_memory *m);
void gw_chance_memory_free(gw_chance_memory *m);

/* Counts of elsewhere, from the next count on: of another run's (counted, and it outlives c; NULL: none), or
 * a list of statistics with their slid time and floor (copied). GW_ENOMEM. */
void gw_chance_add_archive(gw_chance *c, gw_chance *archive);
int gw_chance_add_counts(gw_chance *c, const float *statistic, uint32_t n, double slid_s, double floor);

/* What is known now. Sorts: once a minute, say. */
void gw_chance_count(gw_chance *c);

/* As of the last count, archive included. `exclusive`: without what was withdrawn. */
double gw_chance_rate_hz(const gw_chance *c, double statistic, bool exclusive); /* NAN as long as T is 0 */
/* The lowest statistic, floor or above, whose rate is at most this; INFINITY where T is too short to tell. */
double gw_chance_threshold(const gw_chance *c, double rate_hz, bool exclusive);
double gw_chance_slid_s(const gw_chance *c, bool exclusive);
double gw_chance_own_slid_s(const gw_chance *c, bool exclusive); /* without the archive's */
double gw_chance_own_distinct_s(const gw_chance *c);
double gw_chance_archived_s(const gw_chance *c); /* of the inclusive slid time, what is the archive's */
double gw_chance_distinct_s(const gw_chance *c); /* hops that count in any slide */
uint32_t gw_chance_triggers(const gw_chance *c, bool exclusive);
double gw_chance_floor(const gw_chance *c); /* nothing is known below it */

/* The same as steps for others (noise_rate.h): each of the loudest, then fewer and fewer, down to the floor,
 * with the interval of each one's rate. Fills all but `of`, from_ns, until_ns and what was skipped. Resamples,
 * by a seed that the newest hop gives: once a minute, say. */
void gw_chance_steps(gw_chance *c, gw_noise_rate *r);

/* The search's own clusters (slide of offset 0) since the last call, closed ones: up to n of them. */
typedef struct gw_chance_peak {
    double statistic;
    int64_t hop; /* of the peak */
} gw_chance_peak;
uint32_t gw_chance_own(gw_chance *c, gw_chance_peak *peak, uint32_t n);

#endif
