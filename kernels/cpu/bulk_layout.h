/* SPDX-License-Identifier: GPL-3.0-or-later
 * How bulk.c cuts a filter into partitions, and where things lie in a channel's memory. Chosen by rule from
 * the shape alone, so that every run of a shape computes the same bits. */
#ifndef GW_BULK_LAYOUT_H
#define GW_BULK_LAYOUT_H

#include "kernels/bulk.h"

enum { GW_BULK_LEVELS = 2, GW_BULK_PARTS = 64 };

/* Taps [first, first + parts * block), in partitions of one block each, by transforms of n >= 2 block points.
 * Level 0 has the hop as its block and first = 0. Level l > 0 has first = block: a block's part in what comes
 * after it can wait until it is whole, and is then known a block ahead. (A third level was slower
 * throughout.) A single partition of level 0 may be as long as the filter.
 *
 * Before decimation a single partition drops the bins that do not leave: the filter is zero there. A piece of
 * a filter is not, so where there are several, their sum is folded, which is the decimation itself. */
typedef struct gw_bulk_level {
    uint32_t block, parts, first, n;
    uint32_t bins; /* that are multiplied; n / (2 decimate) if what lies above is dropped, else n / 2 + 1 */
    uint32_t row;  /* floats of a spectrum in memory: the bins, padded to 64 bytes */
    uint32_t kept; /* spectra in the state */
    size_t spectra_at;  /* in the state, floats: [kept][row] */
    size_t tail_at;     /* in the state, floats: [block / decimate] what a whole block adds to the next one */
    size_t response_at; /* in a response, values: [parts][row] */
} gw_bulk_level;

typedef struct gw_bulk_layout {
    uint32_t n_levels;
    gw_bulk_level level[GW_BULK_LEVELS];
    uint32_t
        past; /* samples kept, a multiple of 16: the last ones if at most a hop, else a ring of whole hops */
    int psd_level;                   /* whose transform is that of a PSD segment; -1: it has its own */
    bool psd_in_block;               /* its own, of samples that are all in level 0's block */
    size_t past_at, psd_at, rows_at; /* in the state, floats */
    size_t state_floats, response_values;
    double cost_us; /* of a hop, as estimated */
} gw_bulk_layout;

/* s: checked. */
void gw_bulk_layout_choose(gw_bulk_layout *l, const gw_bulk_shape *s);

/* The one with these blocks above the hop: blocks[n], growing; n = 0: equal ones; -1: one partition, by a
 * transform of blocks[0] points. False: cannot be. */
bool gw_bulk_layout_make(gw_bulk_layout *l, const gw_bulk_shape *s, const uint32_t *blocks, int n);

#endif
