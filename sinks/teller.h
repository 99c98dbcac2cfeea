/* SPDX-License-Identifier: GPL-3.0-or-later
 * Tells one word of an event: commits it to the journal, hands it to the brokers' couriers, the socket and the lines,
 * and marks it as published, in this order; so whatever anybody heard is in the journal, whenever this program dies.
 * What the journal cannot take goes out all the same, marked, and is kept in memory until it can. Used by the alerts
 * sink, in its thread; it knows no branches, orders or clocks. */
#ifndef GW_TELLER_H
#define GW_TELLER_H

#include "sinks/brokers.h"
#include "sinks/journal.h"
#include "sinks/publisher.h"
#include "sinks/unkept.h"

typedef struct gw_teller {
    const char *name; /* of the sink, for messages */
    const char *journal_path, *publish, *print;
    bool print_injections;
    gw_env *env;
    gw_brokers *brokers;
    gw_journal *journal;
    /* the rest is teller.c's; zero at first, but for */
    int lines; /* descriptor; -1 = none */
    gw_publisher *publisher;
    gw_unkept *unkept;
    int64_t write_again_ns; /* monotonic */
    uint64_t events, again, unprinted;
    int64_t commit_sum_ns, commit_max_ns;
    char json[GW_JOURNAL_JSON_BYTES];
} gw_teller;

/* The journal is open. Opens socket and lines, and publishes again what a crash left unmarked ("recovered": true):
 * a subscriber may hear it twice, under the same id, phase and serial, and never not at all. */
int gw_teller_open(gw_teller *t);
/* A word, new to the journal or not. What is there already is only printed. */
int gw_teller_tell(gw_teller *t, const gw_event *e);
/* What is committed already: all that follows. */
int gw_teller_publish(gw_teller *t, const gw_event *e, int serial);
int gw_teller_injection(gw_teller *t, const gw_event *e);
/* No event: to the socket alone. */
void gw_teller_news(void *teller, const char *topic, const char *text);
/* Writes to the journal what it could not take. GW_OK: nothing is left; GW_EAGAIN: not yet, after a pause. */
int gw_teller_write_unkept(gw_teller *t);
/* At the end of the run, once the brokers have ended: what came of it. GW_EIO: something is in no journal, or was not
 * printed. */
int gw_teller_end(gw_teller *t);
void gw_teller_close(gw_teller *t);

/* Of errors: our own mistakes, which end the run; of all others the search goes on. */
bool gw_teller_is_ours(int err);

#endif
