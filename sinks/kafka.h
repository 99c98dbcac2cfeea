/* SPDX-License-Identifier: GPL-3.0-or-later
 * A Kafka producer (librdkafka) for one broker: idempotent, acks=all, zstd, hop's headers. It keeps a message
 * until the broker has acknowledged it, however long the broker is away, and says so by a report. Used by a
 * courier, in its one thread; it knows no journal and no event.
 *
 * What goes wrong is logged once, when it begins and when it is over: unreachable, password refused,
 * certificate refused. librdkafka's own log goes into ours at debug level, but what the option
 * `debug` asks for, which is told. */
#ifndef GW_KAFKA_H
#define GW_KAFKA_H

#include "pipeline/config.h"

typedef struct gw_kafka_conf {
    const char *name;      /* the broker's, for messages */
    const char *bootstrap; /* "host:port,host:port" */
    bool tls;
    const char *ca, *certificate, *key; /* PEM files, or NULL: the system's authorities; no certificate */
    const char *mechanism;              /* NULL | PLAIN | SCRAM-SHA-256 | SCRAM-SHA-512 | OAUTHBEARER */
    const char *username, *password_file, *token_command;
    uint64_t max_bytes; /* of a message */
    gw_conf *options;   /* librdkafka's own, by name; NULL = none */
} gw_kafka_conf;

/* Reads the keys bootstrap, tls, sasl, max_message, options of map `conf`. name is given. Opens nothing, but
 * asks librdkafka whether it takes every option; those that delivery or safety may hang on are refused.
 * GW_ECONFIG with the line. */
int gw_kafka_configure(gw_kafka_conf *k, gw_conf *conf);
/* Are all hosts this one (loopback.h)? */
bool gw_kafka_is_local(const gw_kafka_conf *k);

typedef struct gw_kafka_message {
    const char *topic, *key;
    const void *payload;
    size_t bytes;
    const unsigned char *id; /* [16]: header _id; NULL = no headers at all */
    const char *format;      /* _format */
    const char *sender;      /* _sender */
    bool test;               /* _test */
    bool unjournaled;        /* _journaled: false */
    void *tag;               /* comes back in the report; NULL = none wanted */
} gw_kafka_message;

/* err: GW_OK = acknowledged by all replicas; GW_ERANGE = never will be; GW_EAGAIN = send it again later. */
typedef void gw_kafka_report(void *user, void *tag, int err, const char *why);

typedef struct gw_kafka gw_kafka;

/* Makes the producer, which begins to connect by itself. wake_fd: an eventfd that is written to whenever
 * gw_kafka_poll has something to do. GW_EACCESS, GW_EMISSING (password file), GW_ECONFIG. */
int gw_kafka_open(gw_kafka **k, const gw_kafka_conf *conf, int wake_fd, gw_kafka_report *report, void *user);
/* Hands a copy over. GW_ERANGE: too large; GW_EAGAIN: not now. Never waits. */
int gw_kafka_send(gw_kafka *k, const gw_kafka_message *m);
/* Reports what has become of messages. GW_EPEER: this producer is beyond repair, and nothing that it holds
 * will be reported: close it and open another. Never waits, but for a token_command. */
int gw_kafka_poll(gw_kafka *k);
/* Asks the broker about a topic, so that a refused or misspelt one is known before the first event. Waits up
 * to ms. GW_EAGAIN: no answer; GW_EACCESS, GW_EMISSING: its refusal. */
int gw_kafka_ask_topic(gw_kafka *k, const char *topic, int ms);
/* How often something went wrong with the connection. */
uint64_t gw_kafka_troubles(const gw_kafka *k);
/* What is still unacknowledged is dropped without a report. Nulls. */
void gw_kafka_close(gw_kafka **k);

#endif
