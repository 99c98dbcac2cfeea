/* SPDX-License-Identifier: GPL-3.0-or-later
 * The journal: one SQLite file that holds every event before anybody outside hears of it. Written by the
 * alerts sink (one writer a file), read by `gwstream alerts` and by the summary at the end of a run.
 *
 * A row is one phase of one event; (id, phase, serial) is its name, with serial 1, 2, ... numbering what was
 * said in this phase under this id: several updates, a second `final` when a louder signal has re-opened
 * the event. Because detection is repeatable, a replay says the same again, finds it here and gives it the
 * same name. An id tells no more than GPS second, detectors, model and stage, so that another recording or
 * another threshold may bring something else under it: that is new, and takes the next free serial. A row is
 * `published` once its time of publication is known; rows that are not are what a crash left between commit
 * and publication.
 *
 * Commits are durable when a call returns (WAL, synchronous=FULL). Another program may hold the file for
 * up to 5 s before a call gives up with GW_EBUSY. 8 MiB are set aside for commits while the disk is full. */
#ifndef GW_JOURNAL_H
#define GW_JOURNAL_H

#include "pipeline/event.h"

/* 2: brokers and their acknowledgements, and what the data of a run were. 3: gps_error_s, orders of the
 * command line, what a broker is to be sent again. */
#define GW_JOURNAL_VERSION    4
#define GW_JOURNAL_JSON_BYTES 8192      /* always enough for gw_journal_json */
#define GW_MATCH_NS           500000000 /* an event this close to an injection has found it */

typedef struct gw_journal gw_journal;

/* For writing: creates the file if there is none and begins a new run. One thread. GW_EACCESS, GW_EMISSING
 * (no such directory), GW_EFORMAT (not a journal, or a damaged one), GW_ENOTSUP (a newer journal),
 * GW_EBUSY (another gwstream writes it), GW_EIO. */
int gw_journal_open(gw_journal **j, const char *path);
/* For reading only, beside a writer. GW_EMISSING when there is none. */
int gw_journal_open_read(gw_journal **j, const char *path);
void gw_journal_close(gw_journal **j);
int64_t gw_journal_run(const gw_journal *j); /* number of the current run; reading: of the latest */
/* What is left of the space that was set aside for commits while the disk is full (journal_room.c). */
int64_t gw_journal_room_bytes(const gw_journal *j);
/* What the data of this run are: live (so it is without this call), replay or sim. Kept with the run, so that
 * what is sent later is never taken for the sky of now. */
int gw_journal_set_origin(gw_journal *j, const char *origin);
/* 1: that run's data were what this run's are. */
int gw_journal_is_alike(gw_journal *j, int64_t run);

/* Commits one phase of an event. *serial becomes its serial number. *published: it was here already, and
 * published; then nothing is added and it must not be published again. "Already here" is what an earlier
 * run said in the same phase under the same id, with gps_ns within 1 ms, the statistic within 1e-3 of
 * max(1, |statistic|), and the same alert and injection; FIRST and RETRACTED also of this run. Anything
 * else is added; when an earlier run's row differs, one warning an id names both statistics. */
int gw_journal_put(gw_journal *j, const gw_event *e, int *serial, bool *published);

/* The latest `limit` ids that are above the alert threshold (or all), oldest first, with the time of their first such
 * word, and whether a broker was refused it with this text. */
typedef int gw_journal_told_visit(void *user, const char *id, int64_t gps_ns, bool refused);
int gw_journal_each_told(gw_journal *j, bool candidates, int limit, const char *refused,
                         gw_journal_told_visit *visit, void *user);

/* What has become of a row at a broker: acknowledged, or never sent for the reason that is there. */
typedef struct gw_journal_ack {
    const char *broker, *refused; /* valid during the call; refused NULL: acknowledged ... */
    int64_t acked_ns;             /* ... at this GPS wall time ... */
    double latency_s;             /* ... so long after the merger, NAN if there is no such thing */
} gw_journal_ack;

/* The same, and in the same commit what has become of it at n brokers already: those that it is kept from, or
 * that had it before the journal could take it. A row that is here already keeps what it has. */
int gw_journal_put_settled(gw_journal *j, const gw_event *e, const gw_journal_ack *ack, int n, int *serial,
                           bool *published);
/* The serial that gw_journal_put would give; nothing is written. */
int gw_journal_next_serial(gw_journal *j, const gw_event *e, int *serial, bool *published);

/* Marks a row as published at wall time published_ns, with the text that was published. */
int gw_journal_mark(gw_journal *j, const gw_event *e, int serial, int64_t published_ns, bool recovered,
                    const char *json);

/* Commits what a source says it injected; once, however often it is said. */
int gw_journal_put_injection(gw_journal *j, const gw_event *e);

/* The event as published: gw_event_json with its serial number, and with "recovered":true among the wall
 * clock's members when it may have been published once before. Returns the length or GW_ERANGE. */
int gw_journal_json(const gw_event *e, int serial, int64_t published_ns, bool recovered, char *text,
                    size_t n);

/* Adds "_journaled":false to such a text of `len` bytes. Returns the length or GW_ERANGE. */
int gw_journal_json_unkept(char *text, int len, size_t n);

typedef struct gw_journal_row {
    gw_event event;
    int serial;
    int64_t run;            /* that committed it */
    int64_t committed_ns;   /* GPS wall clock */
    int64_t published_ns;   /* GW_NOT_KNOWN_NS: not yet */
    bool recovered;         /* published by a later run than the one that committed it */
    double latency_s;       /* merger -> publication, NAN if there is none (not at pace 1) */
    double first_latency_s; /* the same of this id's phase `first` */
    const char *json;       /* as published, or NULL; valid during the call */
} gw_journal_row;

typedef struct gw_journal_query {
    const char *id;   /* rows whose id begins so; NULL = all */
    int64_t since_ns; /* events whose latest phase has this GPS time or a later one; 0 = all */
    int64_t limit;    /* the last so many events; 0 = all */
    bool latest;      /* only the latest phase of each id */
    bool pending;     /* only what is committed but not published */
} gw_journal_query;

/* Calls visit for each row in the order of commitment; ends early, and returns it, when visit returns
 * non-zero. visit may call gw_journal_mark where no other connection writes meanwhile. */
typedef int gw_journal_visit(void *user, const gw_journal_row *row);
int gw_journal_each(gw_journal *j, const gw_journal_query *q, gw_journal_visit *visit, void *user);

/* Calls visit for each phase `first` that an earlier run has committed, with from_ns <= gps_ns <= to_ns. */
typedef int gw_journal_first_visit(void *user, const char *id, int64_t gps_ns);
int gw_journal_each_first(gw_journal *j, int64_t from_ns, int64_t to_ns, gw_journal_first_visit *visit,
                          void *user);

typedef int gw_journal_ack_visit(void *user, const gw_journal_ack *a);
int gw_journal_each_ack(gw_journal *j, const gw_journal_row *row, gw_journal_ack_visit *visit, void *user);

/* An injection and the event nearest to it, if one is within GW_MATCH_NS and not retracted. An event's time
 * is the arrival at the latest of its own detectors, so that is what it is compared with, where the
 * injection's detail has "gps":{"H1":...}. */
typedef struct gw_journal_truth {
    int64_t gps_ns;
    char detectors[32];
    double network_snr; /* "network_snr" of its parameters, or NAN */
    bool found, alert;  /* alert: the event was above the alert threshold */
    char id[GW_EVENT_ID_BYTES];
    double offset_s;    /* event - injection, at the event's detectors */
    const char *detail; /* JSON; valid during the call */
} gw_journal_truth;

typedef struct gw_journal_truths {
    int64_t run;      /* 0 = of all runs */
    int64_t since_ns; /* injections at or after this GPS time; 0 = all */
    int64_t limit;    /* the last so many; 0 = all */
} gw_journal_truths;

/* In the order of GPS time. */
typedef int gw_journal_truth_visit(void *user, const gw_journal_truth *t);
int gw_journal_each_truth(gw_journal *j, const gw_journal_truths *q, gw_journal_truth_visit *visit,
                          void *user);

/* One run in figures. Phases that a replay found in the journal already are counted too, but not timed. */
typedef struct gw_journal_summary {
    int64_t run;
    uint64_t phases[GW_PHASE_RETRACTED + 1]; /* [gw_phase]: how many rows */
    uint64_t events, alerts;                 /* ids; ids whose latest phase is above the alert threshold */
    uint64_t recovered;
    uint64_t timed;                         /* `first` phases with a latency */
    double latency_median_s, latency_max_s; /* of those; NAN if none */
    uint64_t injections, found;
    double offset_max_s; /* largest |event - injection| of those found; NAN if none */
} gw_journal_summary;

/* run 0 = all runs together. */
int gw_journal_summarise(gw_journal *j, int64_t run, gw_journal_summary *s);
/* Up to three lines for a person, each ended by a newline: events, latency, injections. */
const char *gw_journal_summary_text(const gw_journal_summary *s, char *text, size_t n);

#endif
