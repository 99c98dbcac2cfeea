/* SPDX-License-Identifier: GPL-3.0-or-later
 * A courier serves one broker in a thread of its own: takes what waits for it out of the journal, hands it
 * over, and settles in the journal what the broker has acknowledged. Started by the alerts sink, which only
 * wakes it; so no broker, however slow or far away, holds up an event or another broker.
 *
 * At least once, in order for each event: the next phase goes when the one before is answered. What the journal
 * cannot take for want of space goes out of memory, and answers that cannot be written wait there. */
#ifndef GW_COURIER_H
#define GW_COURIER_H

#include "sinks/broker.h"

#include <stdatomic.h>

typedef struct gw_courier gw_courier;

/* Of all couriers together. */
typedef struct gw_courier_totals {
    atomic_int_least64_t acked, refused; /* of this run */
    atomic_int_least64_t waiting;        /* at the last look */
    atomic_int_least64_t troubles;       /* errors of connection and delivery */
} gw_courier_totals;

/* Opens the outbox (so that what is committed from now on is for the broker) and starts the thread. It adds
 * to `totals` and then calls `changed`, in that thread; b's texts stay the caller's until the end. */
int gw_courier_start(gw_courier **c, const gw_broker *b, const char *journal, gw_courier_totals *totals,
                     void (*changed)(void *user), void *user);
/* A row that the journal could not take, or a note: sent from memory. Any thread. GW_ENOMEM. */
int gw_courier_post(gw_courier *c, const gw_outbox_row *row);
/* Something was committed. Any thread. */
void gw_courier_wake(gw_courier *c);
/* No more will come: the courier goes on until nothing waits, for at most 5 s. Does not wait itself. */
void gw_courier_finish(gw_courier *c);
/* Finishes, waits for the thread's end, says what is left. Nulls. */
void gw_courier_end(gw_courier **c);

#endif
