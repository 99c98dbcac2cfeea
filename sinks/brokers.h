/* SPDX-License-Identifier: GPL-3.0-or-later
 * All brokers of an alerts sink: their part of its YAML, their couriers, and what a storm of events holds back from
 * them. Used by alerts.c in its thread; the couriers have their own.
 *
 *   brokers: [{name, bootstrap, topic, face, ...}]   broker.h, kafka.h
 *   storm: {alerts: 10, within: 10min}                 or none; storm.h, in stream time */
#ifndef GW_BROKERS_H
#define GW_BROKERS_H

#include "sinks/courier.h"
#include "sinks/journal.h"
#include "sinks/storm.h"

enum { GW_MAX_BROKERS = 8 };

/* Of what is no event, for the socket's listeners. */
typedef void gw_brokers_news(void *user, const char *topic, const char *text);

typedef struct gw_brokers {
    int n;
    gw_broker broker[GW_MAX_BROKERS];
    /* the rest is brokers.c's */
    const char *sink; /* for messages */
    gw_origin origin;
    gw_env *env;
    gw_brokers_news *news;
    void *user;
    gw_courier *courier[GW_MAX_BROKERS];
    gw_courier_totals totals;
    gw_storm storm[2]; /* of what is an alert; of candidates too, for brokers that get those */
    bool said[2];      /* that it is on */
    int64_t held;      /* of this run */
} gw_brokers;

int gw_brokers_configure(gw_brokers *b, gw_conf *conf);
/* May data of this origin go to all of them? */
int gw_brokers_allow(gw_brokers *b, gw_origin origin, bool publish);
/* Starts the couriers of the journal that is open. All that is told is committed before, so they find it there. */
int gw_brokers_start(gw_brokers *b, const char *sink, gw_journal *j, const char *journal, gw_env *env,
                     gw_brokers_news *news, void *user);
void gw_brokers_wake(gw_brokers *b); /* nothing before the start */
/* A word of an event, before it is committed: from whom it is held back, a bit each. Asked once a word. */
uint32_t gw_brokers_hold(gw_brokers *b, const gw_event *e);
extern const char gw_brokers_held[]; /* what the journal says of these */
/* What the journal could not take: to all whose it is, but for those of `held`. */
void gw_brokers_post(gw_brokers *b, const gw_event *e, int serial, int64_t said_ns, uint32_t held);
/* Stream time has come so far. */
void gw_brokers_reached(gw_brokers *b, int64_t gps_ns);
/* Nothing more comes: all couriers get their last seconds at the same time, and end. */
void gw_brokers_end(gw_brokers *b);

#endif
