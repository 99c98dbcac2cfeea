/* SPDX-License-Identifier: GPL-3.0-or-later
 * What one channel shares with strain, in each band and at each line. Called by rank_table.c, which makes the
 * order; reads the spectra and changes nothing, so that many threads may call at once. */
#ifndef GW_RANK_MEASURE_H
#define GW_RANK_MEASURE_H

#include "sinks/rank_table.h"

enum { GW_RANK_LEAST_SEGMENTS = 8, GW_RANK_MOST_BINS = 2 * GW_RANK_SLOW_BINS };

/* What is to be explained: y of n segments. */
typedef struct gw_rank_target {
    int band, line;             /* the other is -1 */
    uint32_t bins, sides, step; /* y has sides * bins, x has bins */
    size_t n;
    int64_t *at;      /* [n] segment, or slow segment */
    const gw_bin **y; /* [n] */
    gw_bin *own;      /* what y points into, when it is a residual */
} gw_rank_target;

typedef struct gw_rank_measure {
    double chance[GW_RANK_TARGETS], peak[GW_RANK_TARGETS], peak_hz[GW_RANK_TARGETS];
    double left[GW_RANK_TARGETS]; /* chance against what the chosen leave */
    double broad, unsafe;         /* as in gw_rank_entry; ln of the chance of its response to injections */
    double good;                  /* share of strain's segments */
} gw_rank_measure;

/* Target `number` (bands, then lines) of the seconds [from, to): its segments without injections, or all if
 * these are too few. Free it also after a failure. */
int gw_rank_target_fill(const gw_rank_spectra *s, int number, int64_t from, int64_t to, gw_rank_target *t);
int gw_rank_target_new(gw_rank_target *t, size_t room); /* only `at` and `y`, for `room` segments */
void gw_rank_target_free(gw_rank_target *t);
/* A channel's bins of the target's i-th segment, or NULL. */
const gw_bin *gw_rank_target_row(const gw_rank_spectra *s, const gw_rank_target *t, int stream, uint32_t c,
                                 size_t i);

/* Chance, peak and share of good segments in target k of one channel, into *m. */
void gw_rank_measure_target(const gw_rank_spectra *s, const gw_rank_target *t, int k, int stream, uint32_t c,
                            gw_rank_measure *m);
/* ln of the chance alone, when `taken` channels have been taken out of y. */
double gw_rank_measure_chance(const gw_rank_spectra *s, const gw_rank_target *t, int stream, uint32_t c,
                              uint32_t taken);
/* What it shares with strain from 20 to 1000 Hz, and what it does when signals are injected. */
void gw_rank_look_broadly(const gw_rank_spectra *s, int64_t from, int64_t to, int stream, uint32_t c,
                          gw_rank_measure *m);

#endif
