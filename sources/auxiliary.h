/* SPDX-License-Identifier: GPL-3.0-or-later
 * Many channels of white noise for load tests: float32, unit variance, at the speed of memory. Called by
 * sim.c. Every sample is a function of (seed, channel, sample number) alone.
 *
 * Not for statistics between channels: all channels are pieces of 256 samples taken from one table of
 * 2^20 normal numbers, each from a place of its own. */
#ifndef GW_AUXILIARY_H
#define GW_AUXILIARY_H

#include "pipeline/error.h"

#include <stdint.h>

typedef struct gw_auxiliary gw_auxiliary;

int gw_auxiliary_new(gw_auxiliary **a, uint64_t seed);
void gw_auxiliary_destroy(gw_auxiliary **a);
/* x: [channel][n_samples] */
void gw_auxiliary_fill(const gw_auxiliary *a, uint32_t n_channels, int64_t sample0, uint32_t n_samples,
                       float *x);

#endif
