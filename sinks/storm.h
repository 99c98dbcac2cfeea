/* SPDX-License-Identifier: GPL-3.0-or-later
 * A limit against a storm: more than `most` new events within `within_ns` of stream time, and what is new is held
 * back from the brokers until the rate has fallen to half of that. Pure logic in stream time, so that a replay holds
 * back the same; used by the alerts sink, one for each kind of broker. An event that was let through keeps all its
 * phases, one that was held back none. */
#ifndef GW_STORM_H
#define GW_STORM_H

#include "pipeline/event.h"

enum { GW_STORM_MOST = 500 };

typedef struct gw_storm {
    int most; /* 1 .. GW_STORM_MOST; 0 = no limit */
    int64_t within_ns;
    /* the rest is storm.c's, zero at first */
    bool on;
    int64_t since_ns, held; /* of this storm, or of the last: its first event held back, and how many were */
    struct gw_storm_id {
        char id[GW_EVENT_ID_BYTES];
        int64_t gps_ns;
        bool held;
    } known[2 * GW_STORM_MOST]; /* a ring of the latest */
    int n, next;
} gw_storm;

/* An event's word that a broker would get: whether it is held back. A word of an id that is not known counts as a
 * new event, unless it is a retraction, which passes. */
bool gw_storm_holds(gw_storm *s, const gw_event *e);
/* What earlier runs have told, or have held back; oldest first, before the first event. */
void gw_storm_recall(gw_storm *s, const char *id, int64_t gps_ns, bool held);
/* Stream time has come so far: a storm may be over. Events come up to a minute after their own time. */
void gw_storm_reached(gw_storm *s, int64_t gps_ns);

#endif
