/* SPDX-License-Identifier: GPL-3.0-or-later
 * How many of its time slides a running background takes on in the next minute, and what an earlier run did.
 * Called by background.c.
 *
 * A live run that cannot keep up runs fewer slides instead of losing data: after each minute it looks at how
 * long its hops took, how late the newest one was, and whether its link had to drop any. The wall clock
 * decides nothing else, and this only at pace 1. What was decided is told with the minute's counts and kept
 * in the journal (sinks/journal_background.h), together with the seconds that were slid: so a replay of the
 * recording can take the same slides and seconds, and gives the same rates. */
#ifndef GW_RATION_H
#define GW_RATION_H

#include "pipeline/error.h"

#include <stdbool.h>
#include <stdint.h>

enum { GW_RATION_MINUTE = 60 }; /* hops: bits of what was slid in one */

typedef struct gw_ration {
    uint32_t together;  /* slides that cost as much as one of them */
    uint32_t all, runs; /* slides; so many of them now */
    int64_t hop_ns;     /* of stream time */
    int64_t busy_ns;    /* in this minute: of the wall clock, all hops together */
    int64_t late_ns;    /* ... the latest hop, behind the time it was due */
    uint32_t hops;      /* ... so many */
    bool lost;          /* ... and a link dropped some */
} gw_ration;

/* After each hop. */
void gw_ration_hop(gw_ration *r, int64_t busy_ns, int64_t late_ns);
/* At the end of a minute: how many run in the next one. Begins the next minute. */
uint32_t gw_ration_next(gw_ration *r);

typedef struct gw_skipped gw_skipped;

/* Of an earlier run's journal: what the stage of this name slid. GW_EMISSING, GW_EFORMAT, GW_ENOMEM. */
int gw_skipped_read(gw_skipped **s, const char *journal, const char *stage);
void gw_skipped_free(gw_skipped **s);
/* How many slides ran from the beginning of minute `minute` (since GPS 0) on; false: nothing was said then,
 * and it goes on as before. Nor were counts told then, unless the record had ended. */
bool gw_skipped_slides(const gw_skipped *s, int64_t minute, uint32_t *slides);
bool gw_skipped_ended(const gw_skipped *s, int64_t minute);
/* Whether second `hop` (since GPS 0) was slid. */
bool gw_skipped_slid(const gw_skipped *s, int64_t hop);

#endif
