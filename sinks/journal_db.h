/* SPDX-License-Identifier: GPL-3.0-or-later
 * The journal's inside, shared by journal_file.c, which opens, journal.c, which writes, journal_read.c, which reads,
 * orders.c and doubts.c, and outbox.c, through which brokers are served. */
#ifndef GW_JOURNAL_DB_H
#define GW_JOURNAL_DB_H

#include "sinks/journal.h"

#include <sqlite3.h>

enum { GW_JOURNAL_PATH_BYTES = 1024 };

/* The fields of a gw_event that are columns of the same name, in one list: the table, the INSERT, the
 * SELECT and both copies are made from it. A change here is a new GW_JOURNAL_VERSION. */
#define GW_EVENT_COLUMNS(X)                                                                                  \
    X(TEXT, id)                                                                                              \
    X(NS, gps_ns)                                                                                            \
    X(TEXT, detectors)                                                                                       \
    X(TEXT, stream)                                                                                          \
    X(REAL, statistic)                                                                                       \
    X(REAL, noise_rate_hz)                                                                                   \
    X(REAL, background_s)                                                                                    \
    X(BOOL, alert)                                                                                           \
    X(BOOL, injection)                                                                                       \
    X(BITS, dq)                                                                                              \
    X(TEXT, model)                                                                                           \
    X(TEXT, model_hash)                                                                                      \
    X(TEXT, card_hash)                                                                                       \
    X(NS, due_ns)                                                                                            \
    X(NS, ingest_ns)                                                                                         \
    X(NS, decided_ns)                                                                                        \
    X(REAL, pace)                                                                                            \
    X(NS, anchor_wall_ns)                                                                                    \
    X(NS, anchor_data_ns)                                                                                    \
    X(TEXT, detail)                                                                                          \
    X(REAL, gps_error_s)                                                                                     \
    X(BOOL, archived)

#define GW_SQL_TEXT "TEXT NOT NULL"
#define GW_SQL_NS   "INTEGER" /* NULL: not known */
#define GW_SQL_REAL "REAL"    /* NULL: not a number */
#define GW_SQL_BITS "INTEGER NOT NULL"
#define GW_SQL_BOOL "INTEGER NOT NULL"

struct gw_journal {
    char path[GW_JOURNAL_PATH_BYTES];
    sqlite3 *db;
    int lock; /* descriptor of <path>-lock; -1 when reading */
    int64_t run, version;
    int log_pages; /* of the write-ahead log, after the last commit */
    bool tight;    /* the log could not be copied for want of space */
    sqlite3_stmt *put, *find, *newest, *again, *mark, *inject, *settle;
    char differed[GW_EVENT_ID_BYTES]; /* the id that was warned of last */
};

/* gw_fail with the code and the line that SQLite's failure `rc` deserves. */
int gw_journal_fail(const gw_journal *j, int rc);
int gw_journal_exec(gw_journal *j, const char *sql);
int gw_journal_prepare(gw_journal *j, const char *sql, sqlite3_stmt **s);
int gw_journal_prepare_writes(gw_journal *j); /* the statements of journal.c */

/* Gives the write-ahead log of a journal that is open for writing its space. GW_EIO: there is none. */
enum { GW_JOURNAL_ROOM_BYTES = 8 << 20 };
int gw_journal_set_aside(gw_journal *j);

/* A second connection to a journal that this program has open for writing: no run and no lock of its own.
 * Its commits survive a kill, but may be lost with the power: they do not wait for the disk, and so do not
 * hold up those of events. */
int gw_journal_attach(gw_journal **j, const char *path);
/* Whether a row is settled at a broker. Parameters: broker, id, phase, serial, acked_ns, latency_s, refused. What
 * is sent once more by order keeps the time of its first acknowledgement; what was under way when an earlier word of
 * its event was ordered again goes again behind that. */
#define GW_JOURNAL_SETTLE                                                                                    \
    "INSERT INTO broker_ack (broker, id, phase, serial, acked_ns, latency_s, refused, again)"                \
    " VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?5 IS NOT NULL AND EXISTS (SELECT 1 FROM broker_ack AS a JOIN"     \
    " events AS f USING (id, phase, serial) WHERE a.broker = ?1 AND a.id = ?2 AND a.again AND f.number <"    \
    " (SELECT number FROM events WHERE id = ?2 AND phase = ?3 AND serial = ?4)))"                            \
    " ON CONFLICT DO UPDATE SET again = excluded.again, refused = excluded.refused,"                         \
    " acked_ns = coalesce(acked_ns, excluded.acked_ns), latency_s = coalesce(latency_s, excluded.latency_s)"

/* Columns of an event `e` and how they become a row. */
#define GW_JOURNAL_COLUMN(type, name) "e." #name ", "
#define GW_JOURNAL_COLUMNS                                                                                   \
    GW_EVENT_COLUMNS(GW_JOURNAL_COLUMN)                                                                      \
    "e.phase, e.serial, e.run, e.committed_ns, e.published_ns, e.recovered, e.latency_s"
enum { GW_JOURNAL_AFTER_COLUMNS = 29 }; /* index of what a SELECT has after them */
void gw_journal_read_row(sqlite3_stmt *s, gw_journal_row *r);

#endif
