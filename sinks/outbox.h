/* SPDX-License-Identifier: GPL-3.0-or-later
 * What one broker has not yet acknowledged, out of the journal. The journal is the only queue: an event is
 * committed, then taken from here, sent, and settled when the broker has it; whatever a crash or an outage
 * leaves is simply still here. Used by a courier, in its thread, on a connection of its own.
 *
 * A broker is known by its name. The first time that a name is seen, what the journal holds already is not
 * for it. For it are the rows above the alert threshold (or all) of data that it may have, and what retracts one
 * that it has or gets. */
#ifndef GW_OUTBOX_H
#define GW_OUTBOX_H

#include "pipeline/event.h"

typedef struct gw_outbox gw_outbox;

/* Whose data a broker may have. */
typedef enum gw_outbox_of {
    GW_OUTBOX_SKY,     /* of the sky, now: of runs on live data that were not marked as archived */
    GW_OUTBOX_SKY_RUN, /* ... and whatever this run says */
    GW_OUTBOX_ANY
} gw_outbox_of;

typedef struct gw_outbox_row {
    gw_event event;
    int serial, record; /* record: 1, 2, ... of this id's rows that are for the broker */
    int64_t number;     /* order of commitment */
    int64_t committed_ns;
    int64_t named_ns;  /* GPS time of the first word of this id */
    char origin[16];   /* of the run's data: live | replay | sim | unknown (a journal of version 1) */
    char refused[192]; /* to be said by the caller: why it never goes; "" = acknowledged at acked_ns */
    int64_t acked_ns;
    bool unkept; /* the journal could not take it: sent from memory, and marked so */
    bool note;   /* no event: event.detail is the text, event.id names it */
} gw_outbox_row;

/* The journal must be open for writing in this program. */
int gw_outbox_open(gw_outbox **o, const char *journal, const char *broker, bool candidates, gw_outbox_of of);
void gw_outbox_close(gw_outbox **o);

/* The oldest rows that wait, at most `max` and at most one of each id: the next phase of an event may only go
 * when the one before is settled. Without those that `skip` (NULL: none) says are answered though not settled.
 * Returns how many. */
typedef bool gw_outbox_skip(void *user, const gw_event *e, int serial);
int gw_outbox_take(gw_outbox *o, gw_outbox_row *row, int max, gw_outbox_skip *skip, void *user);
/* How many of this id's rows are for the broker, and named_ns (left as it is where the journal has no row of it). */
int gw_outbox_records(gw_outbox *o, const char *id, int *records, int64_t *named_ns);
/* Commits rows[n] as acknowledged or refused, in one transaction. */
int gw_outbox_settle(gw_outbox *o, gw_outbox_row *const *rows, int n);
/* How many wait. */
int gw_outbox_count(gw_outbox *o, int64_t *waiting);

#endif
