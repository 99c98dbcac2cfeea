/* SPDX-License-Identifier: GPL-3.0-or-later
 * What the journal could not take, in the order in which it was said: kept here until it can. Used by the alerts sink,
 * in its thread. While anything is here, what comes after it waits behind it, so that names and order stay those that
 * were told. */
#ifndef GW_UNKEPT_H
#define GW_UNKEPT_H

#include "sinks/journal.h"

enum { GW_UNKEPT_MOST = 2000 }; /* 6 MiB */

typedef struct gw_unkept gw_unkept;

typedef struct gw_unkept_item {
    gw_event event; /* or an injection */
    int serial;
    int64_t published_ns;
    uint32_t held;  /* brokers that it was held back from, by their bits */
    bool committed; /* only its time of publication is still to be written */
} gw_unkept_item;

int gw_unkept_new(gw_unkept **u); /* GW_ENOMEM */
void gw_unkept_destroy(gw_unkept **u);
int gw_unkept_count(const gw_unkept *u);
/* When it is full the oldest is lost, with a line that says all of it. */
void gw_unkept_add(gw_unkept *u, const gw_unkept_item *item);
/* How many words are here under this name (id and phase) that the journal does not count yet. */
int gw_unkept_words(const gw_unkept *u, const gw_event *e);
/* Writes all to the journal, oldest first, as far as it goes; refused[i] is what is said of the broker of bit i,
 * which is brokers[i]. GW_OK: none is left. */
int gw_unkept_write(gw_unkept *u, gw_journal *j, const char *const *brokers, int n_brokers,
                    const char *refused);
/* At the end of a run: says each that is left in full, and forgets it. */
void gw_unkept_say(gw_unkept *u);

#endif
