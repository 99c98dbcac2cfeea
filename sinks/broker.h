/* SPDX-License-Identifier: GPL-3.0-or-later
 * One broker of the alerts sink: its keys, what may reach it, and what a row of the journal looks like to it.
 * Read by the alerts sink, used by the broker's courier. It opens nothing.
 *
 * Safe by default: a topic without `test` in its name wants `production: true`; without that all that goes
 * there is marked as a test; replayed and simulated data, and archived data on a live source, stay on this host's
 * loopback unless the run is told to publish, and are never marked as current; an injection is always marked as one. */
#ifndef GW_BROKER_H
#define GW_BROKER_H

#include "pipeline/stage.h"
#include "sinks/faces/face.h"
#include "sinks/kafka.h"
#include "sinks/outbox.h"

typedef struct gw_broker {
    const char *name, *topic, *sender;
    const char *heartbeat; /* topic of a sign of life a second, or NULL */
    const char *mission, *schema;
    const gw_face *face;
    gw_kafka_conf kafka;
    bool test, production, candidates;
    gw_outbox_of of; /* by gw_broker_allow */
} gw_broker;

/* Reads one item of `brokers`. GW_ECONFIG with its line. */
int gw_broker_configure(gw_broker *b, gw_conf *conf);
/* May data of this origin go to it? GW_ECONFIG says what would let them. Sets what of the journal, where other runs
 * may have left theirs, is for it. */
int gw_broker_allow(gw_broker *b, gw_origin origin, bool publish);

/* The message of a row, in text[GW_FACE_BYTES]: *m points into it and into b, row and id. Returns 0 when the
 * face has nothing to say of it, 1 when there is a message, GW_EFORMAT when it must not leave. */
int gw_broker_message(const gw_broker *b, const gw_outbox_row *row, char *text, unsigned char id[16],
                      gw_kafka_message *m);
/* Whether its readers can be told what is no event (a storm): those of the face `plain`. */
bool gw_broker_takes_notes(const gw_broker *b);
/* A sign of life, likewise; always 1. */
int gw_broker_heartbeat(const gw_broker *b, char *text, gw_kafka_message *m);

#endif
