/* SPDX-License-Identifier: GPL-3.0-or-later
 * Whether the host's wall clock can be right: it was stepped, or live data come before their time or minutes after it.
 * Pure logic, used by the alerts sink about once a second, since an alert's UTC times and latencies follow that clock.
 * It mends nothing and holds nothing up. */
#ifndef GW_WALL_H
#define GW_WALL_H

#include "pipeline/clock.h"

typedef struct gw_wall {
    bool live; /* the data's time stamps are of now */
    /* the rest is wall.c's, zero at first */
    bool begun, wrong;
    int64_t offset_ns, first_offset_ns; /* wall minus monotonic: at the last look, at the first */
    double error_s;                     /* how far it is off, as far as is known; 0 = it seems right */
} gw_wall;

/* wall_ns and monotonic_ns are of one moment; data_ns: stream time reached, on the timebase t. Returns the line to be
 * logged, in text, or NULL when there is nothing new. n >= 256. */
const char *gw_wall_look(gw_wall *w, int64_t wall_ns, int64_t monotonic_ns, const gw_timebase *t,
                         int64_t data_ns, char *text, size_t n);

#endif
