/* SPDX-License-Identifier: GPL-3.0-or-later
 * How well a rate of time slides is known: the data are drawn again, block by block of each detector's real
 * time, many times. Pure arithmetic, called by chance.c.
 *
 * A block of a detector gets a weight w: how often it comes up in n_blocks draws with replacement. Blocks of
 * the two detectors are drawn independently; a pair of blocks, with its slid time T_ij and its triggers n_ij,
 * counts w_i w_j times:
 *
 *   rate = (sum w_i w_j n_ij + g) / sum w_i w_j T_ij
 *
 * and the interval is from the 5 % to the 95 % of GW_REDRAWS such rates (Owen 2007, "The pigeonhole
 * bootstrap"). g, exponential with mean 1, is the one that is added to n: so zero triggers give 0.05/T to 3/T,
 * as a Poisson count of zero does.
 *
 * A trigger that is of no block but its own pair's is three times in the spread of such rates (as of the one
 * block, of the other, and of the pair); that is taken out, as far as Poisson on n says it.
 *
 * Measured coverage of the true rate (test_chance.c with 1000 trials; 20 slides of 3,200 hops): 87 to 89 %
 * where glitches of one detector make the triggers, 88 to 89 % where each is independent of all others.
 * Poisson on n covers 38 to 42 % of the former. Where all offsets are shorter than a block it is too wide. */
#ifndef GW_REDRAW_H
#define GW_REDRAW_H

#include <stdint.h>

enum {
    GW_REDRAWS = 200,
    GW_REDRAW_BLOCKS = 200,     /* of each detector, at most */
    GW_REDRAW_BLOCKS_LEAST = 8, /* with fewer nothing can be said */
    GW_REDRAW_STEPS = 64        /* at most */
};

typedef struct gw_redraw_pair {
    uint32_t block[2]; /* of the first and the second detector */
    double slid;       /* T */
} gw_redraw_pair;

/* Data that were slid against themselves, and nothing else. */
typedef struct gw_redraw_source {
    uint32_t n_blocks, n_pairs;
    const gw_redraw_pair *pair;
    const uint32_t *triggers; /* [n_pairs][n_steps]: from this step to the next one */
} gw_redraw_source;

/* What is known by numbers alone: Poisson. */
typedef struct gw_redraw_counts {
    const double *triggers; /* [n_steps]; NULL: none */
    double slid;
} gw_redraw_counts;

/* low and high [n_steps] of the rate of what is at or above each step, per unit of T; 0 where T is too short
 * to tell. `scratch`: [n_steps][GW_REDRAWS]. */
void gw_redraw(const gw_redraw_source *source, int n_sources, const gw_redraw_counts *counts, int n_steps,
               uint64_t seed, double *scratch, double *low, double *high);

#endif
