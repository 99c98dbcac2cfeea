/* SPDX-License-Identifier: GPL-3.0-or-later
 * One channel of archived files as one long row of numbers, read in pieces of any length from anywhere: for
 * programs that look at a recording as a whole (gwstream report). replay.c is for streams. What is not there,
 * or was recorded as a hole, is NaN. Holds no samples but the piece that is read. One thread. */
#ifndef GW_TAPE_H
#define GW_TAPE_H

#include "sources/archive.h"

typedef struct gw_tape {
    char name[GW_NAME_BYTES]; /* of the channel */
    gw_rate rate;
    int64_t phase_ns;
    int64_t start, end;           /* samples, on the channel's own grid */
    char unit[16], cleaning[256]; /* as in the spec (pipeline/block.h) */
    struct gw_tape_inside *inside;
} gw_tape;

/* Joins channel `name` of these archives, which outlive the tape and may be other tapes' too. `path`: its
 * dataset, needed where it is a row of a wide one, or where several channels have that name; else NULL.
 * Errors are the join's. gw_tape_close also after a failure. */
int gw_tape_open(gw_tape *t, gw_archive *const *archive, int n, const char *name, const char *path);
void gw_tape_close(gw_tape *t);

/* Samples [first, first + n). GW_EFORMAT, GW_EIO, GW_ENOMEM. */
int gw_tape_read(gw_tape *t, int64_t first, size_t n, double *to);

/* What lies at sample `at`: GW_GAP_NONE for data, or why there is none; *end says up to where. */
gw_gap_reason gw_tape_state(const gw_tape *t, int64_t at, int64_t *end);

#endif
