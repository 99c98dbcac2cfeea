/* SPDX-License-Identifier: GPL-3.0-or-later
 * Samples of any type on the wire to those of the graph. Called by live.c. One row (a channel) at a time. */
#ifndef GW_SAMPLES_H
#define GW_SAMPLES_H

#include "pipeline/block.h"

/* to[i] = from[i] * scale + offset, worked out in double and rounded once; scale 1 and offset 0 change
 * nothing. `to_type` is GW_F32 or GW_F64. Returns whether every result is a finite number. The rows do not
 * overlap. */
bool gw_samples_convert(void *to, gw_dtype to_type, const void *from, gw_dtype from_type, size_t n,
                        double scale, double offset);

/* How many of x[0..n) at the beginning are finite (or, with `finite` false, are not). */
size_t gw_samples_leading(const void *x, gw_dtype type, size_t n, bool finite);

#endif
