/* SPDX-License-Identifier: GPL-3.0-or-later
 * What ref/bulk.c and cpu/bulk*.c do alike, by bulk.c. Nobody else calls it. */
#ifndef GW_BULK_SHARED_H
#define GW_BULK_SHARED_H

#include "kernels/bulk.h"

/* Judges x[hop], whose least and greatest sample are low and high (not finite if one of x is not), and
 * settles the scale. known: the state's own scale, 0: none yet. c->health, finite, low, high and scale are
 * said. */
void gw_bulk_examine(const gw_bulk_shape *s, gw_bulk_channel *c, const float *x, float known, float low,
                     float high, bool finite, bool suspicious);

/* Ends a channel's hop: y[hop / decimate] becomes what may be searched, c->shut and muted are said. opens:
 * the state's, INT64_MIN: the gate is open; else it is shut until that output sample. c says all else
 * already. */
void gw_bulk_settle(const gw_bulk_shape *s, gw_bulk_channel *c, int64_t sample0, float *y, int64_t *opens);

/* A channel that did not come. */
void gw_bulk_absent(const gw_bulk_shape *s, float *y);

/* Segments of a PSD of so many averages, and the other way round. */
uint32_t gw_bulk_segments(const gw_bulk_shape *s, uint32_t averaged);
uint32_t gw_bulk_averages(const gw_bulk_shape *s, uint32_t segments);

#endif
