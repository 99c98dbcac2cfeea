/* SPDX-License-Identifier: GPL-3.0-or-later
 * One internal event, several faces: what a broker's readers expect to find in a message. A face writes the
 * event in its field's published form and holds the result against the published list of fields; what does
 * not fit must never leave. Called by the couriers. It allocates nothing and knows no broker.
 *
 *   gcn           GCN's unified notice, JSON       (GCN's core schema v7.2.3: Alert, Event, DateTime,
 *                                                   Reporter, Statistics, AdditionalInfo)
 *   gwalert-json  IGWN's public alert, JSON        (igwn.alerts.v1_0.Alert; skymap null, no classification)
 *   gwalert-avro  the same as an Avro container file of one record, schema inside, codec null
 *   gracedb       the event file that a CNN search uploads to GraceDB, JSON; a retraction has none
 *   plain         what `print` and ZeroMQ tell, JSON */
#ifndef GW_FACES_FACE_H
#define GW_FACES_FACE_H

#include "pipeline/event.h"

#include <stddef.h>

enum { GW_FACE_BYTES = 8192 }; /* no message of any face is longer */

/* What the event is to a reader: only the first is about the sky of now. */
typedef enum gw_tense { GW_TENSE_CURRENT, GW_TENSE_ARCHIVAL, GW_TENSE_TEST, GW_TENSE_INJECTION } gw_tense;
const char *gw_tense_text(gw_tense t); /* "current" ... */

/* All that a message is made from; nothing else, so that it is the same bytes each time it is sent. */
typedef struct gw_notice {
    const gw_event *event;
    int serial;       /* the journal's, within the phase */
    int record;       /* 1, 2, ... of what brokers hear of this id */
    int64_t made_ns;  /* GPS wall clock: committed to the journal */
    int64_t named_ns; /* GPS time of the event's first word, of whose day its name is; 0: the event's own */
    gw_tense tense;
    const char *mission; /* gcn: in "mission" and in the schema's address */
    const char *schema;  /* gcn: address of the notice's schema; NULL: made from the mission */
} gw_notice;

typedef struct gw_face {
    const char *name, *format; /* hop's word for the format: json | avro */
    /* Returns the length, 0 = nothing to say, GW_EFORMAT = does not fit its own list of fields. */
    int (*write)(const gw_notice *n, char *to, size_t size);
} gw_face;

/* GW_ECONFIG naming the known ones. */
int gw_face_find(const char *name, const gw_face **face);

/* The name of an event in IGWN's form, "S150914abcdef": S | MS (injection) | TS (test, archival), UTC day,
 * letters from the id; the same for every phase. n >= 24. */
const char *gw_notice_superevent(const gw_notice *n, char *name, size_t size);

/* The faces. */
int gw_face_gcn(const gw_notice *n, char *to, size_t size);
int gw_face_gwalert_json(const gw_notice *n, char *to, size_t size);
int gw_face_gwalert_avro(const gw_notice *n, char *to, size_t size);
int gw_face_gracedb(const gw_notice *n, char *to, size_t size);
int gw_face_plain(const gw_notice *n, char *to, size_t size);

#endif
