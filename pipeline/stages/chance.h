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
 * Kept are triggers above a floor, for `memory_hops`; where they become too many the floor rises. */
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

int gw_chance_new(gw_chance **c, const gw_chance_conf *conf);
void gw_chance_destroy(gw_chance **c);
size_t gw_chance_bytes(const gw_chance_conf *conf);

/* Both detectors' hop `hop` was there, with the statistics that each slide has of it, one after the other:
 * statistic[hop_frames], NAN where there is none. Hops grow; what is left out was not there. */
void gw_chance_hop(gw_chance *c, int64_t hop);
void gw_chance_slide(gw_chance *c, uint32_t slide, const float *statistic);
/* Hops [from, to) of both detectors no longer belong to the exclusive background. */
void gw_chance_withdraw(gw_chance *c, int64_t from, int64_t to);

/* What is known now. Sorts: once a minute, say. */
void gw_chance_count(gw_chance *c);

/* As of the last count. `exclusive`: without what was withdrawn. */
double gw_chance_rate_hz(const gw_chance *c, double statistic, bool exclusive); /* NAN as long as T is 0 */
/* The lowest statistic, floor or above, whose rate is at most this; INFINITY where T is too short to tell. */
double gw_chance_threshold(const gw_chance *c, double rate_hz, bool exclusive);
double gw_chance_slid_s(const gw_chance *c, bool exclusive);
double gw_chance_distinct_s(const gw_chance *c); /* hops that count in any slide */
uint32_t gw_chance_triggers(const gw_chance *c, bool exclusive);
double gw_chance_floor(const gw_chance *c);

/* The same as steps for others (noise_rate.h): each of the loudest, then fewer and fewer, down to the floor.
 * Fills all but `of`, from_ns and until_ns. */
void gw_chance_steps(const gw_chance *c, gw_noise_rate *r);

/* The search's own clusters (slide of offset 0) since the last call, closed ones: up to n of them. */
typedef struct gw_chance_peak {
    double statistic;
    int64_t hop; /* of the peak */
} gw_chance_peak;
uint32_t gw_chance_own(gw_chance *c, gw_chance_peak *peak, uint32_t n);

#endif
