/* SPDX-License-Identifier: GPL-3.0-or-later
 * Puts one stream's blocks in the order of stream time. They come as somebody sent them: early, late, twice,
 * overlapping, with holes, or astray. Called by live.c, one for each stream, in its thread. Decides by sample
 * numbers alone: the same blocks in the same order always give the same result. Knows neither links nor
 * clocks, copies nothing. */
#ifndef GW_ORDER_H
#define GW_ORDER_H

#include "pipeline/block.h"

typedef struct gw_order gw_order;

typedef struct gw_order_conf {
    int64_t window_samples; /* a hole is left open until a sample this far beyond its beginning has come */
    int64_t far_samples;    /* a block that begins further than this beyond the newest sample, like the very
                               first,    counts only when another comes that lies near it */
    int credit; /* blocks that the sender has on their way at once: when the number of the newest is that
                   far from one that is held, nothing more can come, and no hole is left open */
    void (*done)(void *owner, gw_block *b); /* takes back every block, used or not */
    void *owner;
} gw_order_conf;

/* Blocks by what became of them. */
typedef struct gw_order_counts {
    uint64_t late;     /* dropped: their place was given up as a hole before */
    uint64_t repeated; /* dropped, or cut, where they cover what is there already */
    uint64_t stray;    /* dropped: far from all others */
} gw_order_counts;

int gw_order_new(gw_order **o, const gw_order_conf *c); /* *c is copied */
void gw_order_destroy(gw_order **o);                    /* every block held goes to done() */

/* Takes the caller's block (samples or a GAP). True when it begins where the newest one ended: what comes in
 * turn says how far stream time has got; anything else may be a mistake. */
bool gw_order_put(gw_order *o, gw_block *b);
/* The stream begins here although nothing has come. No effect once it has begun. */
void gw_order_begin(gw_order *o, int64_t at);
/* Nothing comes any more: no hole is left open, no stray waits for company. */
void gw_order_end(gw_order *o);
bool gw_order_over(const gw_order *o); /* after that: and everything has been given */

/* Whether the stream has begun, and the first sample that has not been given yet. */
bool gw_order_at(const gw_order *o, int64_t *at);
/* The next stretch, from gw_order_at on: [*at, *end) of *b (its samples, or the GAP it is), or of a hole (*b
 * is NULL). False: not known yet; *end is then where the next block held begins, or INT64_MAX. */
bool gw_order_next(gw_order *o, gw_block **b, int64_t *end);
/* What lies before `to` has been given, as samples or as a hole (also beyond what has come). */
void gw_order_give(gw_order *o, int64_t to, bool as_hole);

const gw_order_counts *gw_order_count(const gw_order *o);

#endif
