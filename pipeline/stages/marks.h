/* SPDX-License-Identifier: GPL-3.0-or-later
 * What blocks said about their samples (data quality, flags, networks), remembered for outputs that come later than
 * their input or cross its blocks. Used by the stages that take blocks as they come: resample, whiten. */
#ifndef GW_MARKS_H
#define GW_MARKS_H

#include "pipeline/stage.h"

enum { GW_MARKS_MAX = 256 }; /* 4 s of blocks of 1/64 s; beyond it the two oldest become one */

typedef struct gw_mark {
    int64_t end; /* sample after the last; it begins where the one before ends */
    uint64_t dq;
    uint32_t flags;
    uint64_t networks;
} gw_mark;

typedef struct gw_marks {
    int n;
    gw_mark mark[GW_MARKS_MAX];
} gw_marks;

void gw_marks_clear(gw_marks *m);
/* The samples up to `end` that have no mark yet get this one. */
void gw_marks_add(gw_marks *m, int64_t end, const gw_view *said);
/* Into dq, flags and networks of `out`: the AND, the OR and the newest over samples [from, to); forgets what lies
 * before `from`. Samples without a mark say nothing. */
void gw_marks_take(gw_marks *m, int64_t from, int64_t to, gw_out *out);

#endif
