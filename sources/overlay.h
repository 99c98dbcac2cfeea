/* SPDX-License-Identifier: GPL-3.0-or-later
 * Stretches of samples that wait to be added to a stream: rendered glitches and signals. A list kept in a
 * fixed order (first sample, then serial), so that sums come out bit for bit the same however the stream
 * is cut into blocks. Called by sim.c, which owns one list for each detector. */
#ifndef GW_OVERLAY_H
#define GW_OVERLAY_H

#include "pipeline/error.h"

#include <stdint.h>

typedef struct gw_overlay {
    struct gw_overlay *next;
    int64_t first; /* sample number */
    uint32_t n_samples;
    int channel;     /* of the stream */
    uint64_t serial; /* differs between overlays with the same first sample */
    double x[];      /* [n_samples] */
} gw_overlay;

/* An overlay with x copied. Becomes part of the list. */
int gw_overlay_put(gw_overlay **list, int64_t first, uint32_t n_samples, int channel, uint64_t serial,
                   const double *x);
/* y[i] += every overlay of `channel` that covers sample0 + i. */
void gw_overlay_add(const gw_overlay *list, int channel, int64_t sample0, uint32_t n_samples, double *y);
void gw_overlay_drop(gw_overlay **list, int64_t before); /* frees those that end at or before it */
void gw_overlay_free(gw_overlay **list);

#endif
