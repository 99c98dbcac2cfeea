/* SPDX-License-Identifier: GPL-3.0-or-later
 * Orders: what an operator asks of events that the journal holds. `gwstream alerts retract | resend` writes them
 * into the journal's table `orders`, from a process of its own; the run that holds the journal carries them out;
 * where none does, the command does it itself, and brokers hear of it at the next run.
 *
 * A retraction is one more row of its event, phase `retracted`: a copy of its latest word, of the same run (so
 * that a recording's event is not retracted as one of the sky), with "reason" in its detail. A resend changes no
 * row: it marks a broker's messages in broker_ack (`again`), and its courier sends them once more, with the same
 * bytes but for what a run's settings add, and the same _id. The order stays in the table with its answer.
 *
 * Who reads a broker has the words of an event in their order, whatever is sent again: a word takes all that come
 * after it along (also those that were under way when it was ordered: outbox.h), and one that a broker never had is
 * not sent once the broker has had a later word of the event, which says all that it said. */
#ifndef GW_ORDERS_H
#define GW_ORDERS_H

#include "sinks/journal.h"

enum { GW_ORDER_REASON_BYTES = 200 };

typedef struct gw_order {
    bool retract;       /* else resend */
    const char *id;     /* the whole id; resend: NULL = of any event */
    const char *reason; /* retract: UTF-8 without control characters, 1 to GW_ORDER_REASON_BYTES bytes */
    const char *broker; /* resend: NULL = every broker */
    int64_t since_ns;   /* resend: events whose latest word has this GPS time or a later one; 0 = all */
    bool refused;       /* resend: only what a broker has refused for good */
} gw_order;

/* What the order comes to, asked of a journal that is open for reading: *messages are one retraction, or so many
 * messages to brokers. GW_EUSAGE: a reason that is none. GW_EMISSING: no such event, no such broker, or nothing to
 * send again. GW_EMISMATCH: the event is retracted already. Any process. */
int gw_orders_look(gw_journal *j, const gw_order *o, int64_t *messages);

typedef struct gw_orders_told {
    int64_t given, done, refused; /* orders; refused ones are done too */
    bool by_run;                  /* a run holds the journal, and it is that which does them */
    char answer[256];             /* of the first that was refused, or else of the first */
} gw_orders_told;

/* Gives the order to whoever holds the journal at `path`, waits for the answers for at most wait_ms, or carries it
 * out here. done < given: the run has not come to it yet; what is given stays given. The command's process only:
 * it must not have the journal open for writing. Errors of gw_orders_look and gw_journal_open. */
int gw_orders_give(const char *path, const gw_order *o, int wait_ms, gw_orders_told *told);

/* Whoever has the journal open for writing, in the thread that does, about once a second: carries out what is
 * ordered, up to 16 retractions and 1000 messages a call. Calls say (unless NULL) after the commit: with each
 * retraction, to publish it, `serial` of its phase; then with e NULL when couriers have something to send again.
 * An order that cannot be carried out gets its reason as its answer; an error is the journal's, or what say
 * returned. */
typedef int gw_orders_say(void *user, const gw_event *e, int serial);
int gw_orders_obey(gw_journal *j, gw_orders_say *say, void *user);

/* 1: event `id` was retracted by an order that the current run carried out; what is still said of it (but for a
 * new `first`) is not to be told. 0: it was not. The journal's thread. */
int gw_orders_withdrawn(gw_journal *j, const char *id);

#endif
