/* SPDX-License-Identifier: GPL-3.0-or-later
 * The journal as a queue for one broker. It looks only at rows after `floor`, before which all are settled,
 * so that a journal of years costs no more than one of today. */
#include "sinks/outbox.h"
#include "sinks/journal_db.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct gw_outbox {
    gw_journal *journal;
    char broker[64];
    bool candidates;
    gw_outbox_of of;
    int64_t floor;
    sqlite3_stmt *waiting, *count, *newest, *settle, *records;
};

/* ?1 broker, ?2 whether candidates are for it too, ?3 floor, ?4 whose data (gw_outbox_of) */
#define ACK_OF(row)                                                                                          \
    " a.broker = ?1 AND a.id = " row ".id AND a.phase = " row ".phase AND a.serial = " row ".serial"
#define ORIGIN "(SELECT origin FROM runs WHERE runs.run = e.run)"
#define MAY_LEAVE                                                                                            \
    "(?4 = 2 OR (" ORIGIN " = 'live' AND NOT e.archived)"                                                    \
    " OR (?4 = 1 AND e.last_run = (SELECT max(run) FROM runs)))"
#define HAS_OR_GETS                                                                                          \
    "EXISTS (SELECT 1 FROM events AS r LEFT JOIN broker_ack AS a ON" ACK_OF(                                 \
        "r") " WHERE r.id = e.id AND r.phase <> 'retracted' AND (r.alert OR ?2) AND r.number < e.number"     \
             " AND (a.acked_ns IS NOT NULL OR (a.refused IS NULL AND r.number >"                             \
             " (SELECT since FROM brokers WHERE name = ?1))))"
#define IS_FOR_IT                                                                                            \
    "CASE WHEN e.phase <> 'retracted' THEN e.alert OR ?2 ELSE " HAS_OR_GETS " END AND " MAY_LEAVE
/* Not yet settled; or settled, and to be sent once more. */
#define WAITING                                                                                              \
    " FROM events AS e WHERE (e.number > ?3 AND " IS_FOR_IT " AND NOT EXISTS"                                \
    " (SELECT 1 FROM broker_ack AS a WHERE" ACK_OF(                                                          \
        "e") ")) OR e.number IN (SELECT g.number FROM broker_ack"                                            \
             " AS a JOIN events AS g USING (id, phase, serial) WHERE a.broker = ?1 AND a.again)"
#define FIRST_TIME "(SELECT gps_ns FROM events AS f WHERE f.id = e.id ORDER BY f.number LIMIT 1)"

static int prepare_all(gw_outbox *o)
{
    GW_TRY(gw_journal_prepare(o->journal,
                              "SELECT " GW_JOURNAL_COLUMNS
                              ", e.number, 1 + (SELECT count(*) FROM events AS b WHERE b.id = e.id"
                              " AND b.number < e.number AND (b.alert OR ?2)),"
                              " " ORIGIN ", " FIRST_TIME WAITING " ORDER BY e.number",
                              &o->waiting));
    GW_TRY(gw_journal_prepare(o->journal, "SELECT count(*)" WAITING, &o->count));
    GW_TRY(gw_journal_prepare(o->journal, "SELECT coalesce(max(number), 0) FROM events", &o->newest));
    GW_TRY(
        gw_journal_prepare(o->journal,
                           "SELECT count(*) FILTER (WHERE alert OR ?2), (SELECT gps_ns FROM events WHERE id ="
                           " ?1 ORDER BY number LIMIT 1) FROM events WHERE id = ?1",
                           &o->records));
    return gw_journal_prepare(o->journal, GW_JOURNAL_SETTLE, &o->settle);
}

static int register_broker(gw_outbox *o)
{
    sqlite3_stmt *s = NULL;
    GW_TRY(gw_journal_prepare(
        o->journal, "INSERT OR IGNORE INTO brokers SELECT ?1, coalesce(max(number), 0) FROM events", &s));
    sqlite3_bind_text(s, 1, o->broker, -1, SQLITE_STATIC);
    int rc = sqlite3_step(s);
    int err = rc == SQLITE_DONE ? 0 : gw_journal_fail(o->journal, rc);
    sqlite3_finalize(s);
    GW_TRY(err);
    GW_TRY(gw_journal_prepare(o->journal, "SELECT since FROM brokers WHERE name = ?1", &s));
    sqlite3_bind_text(s, 1, o->broker, -1, SQLITE_STATIC);
    rc = sqlite3_step(s);
    err = rc == SQLITE_ROW ? 0 : gw_journal_fail(o->journal, rc);
    o->floor = rc == SQLITE_ROW ? sqlite3_column_int64(s, 0) : 0;
    sqlite3_finalize(s);
    return err;
}

int gw_outbox_open(gw_outbox **out, const char *journal, const char *broker, bool candidates, gw_outbox_of of)
{
    *out = NULL;
    gw_outbox *o = calloc(1, sizeof *o);
    if (!o)
        return gw_fail(GW_ENOMEM, "broker %s: out of memory", broker);
    snprintf(o->broker, sizeof o->broker, "%s", broker);
    o->candidates = candidates;
    o->of = of;
    int err = gw_journal_attach(&o->journal, journal);
    if (err == 0)
        err = register_broker(o);
    if (err == 0)
        err = prepare_all(o);
    if (err < 0)
        gw_outbox_close(&o);
    *out = o;
    return err;
}

void gw_outbox_close(gw_outbox **out)
{
    gw_outbox *o = *out;
    if (!o)
        return;
    sqlite3_finalize(o->waiting);
    sqlite3_finalize(o->count);
    sqlite3_finalize(o->newest);
    sqlite3_finalize(o->settle);
    sqlite3_finalize(o->records);
    gw_journal_close(&o->journal);
    free(o);
    *out = NULL;
}

static void bind_waiting(gw_outbox *o, sqlite3_stmt *s)
{
    sqlite3_bind_text(s, 1, o->broker, -1, SQLITE_STATIC);
    sqlite3_bind_int(s, 2, o->candidates);
    sqlite3_bind_int64(s, 3, o->floor);
    sqlite3_bind_int(s, 4, (int)o->of);
}

static bool has_id(const gw_outbox_row *row, int n, const char *id)
{
    while (n-- > 0)
        if (strcmp(row[n].event.id, id) == 0)
            return true;
    return false;
}

int gw_outbox_take(gw_outbox *o, gw_outbox_row *row, int max, gw_outbox_skip *skip, void *user)
{
    sqlite3_stmt *s = o->waiting;
    gw_journal_row r;
    int n = 0, rc = sqlite3_step(o->newest); /* before the search, so that it has seen them all */
    const int64_t newest = rc == SQLITE_ROW ? sqlite3_column_int64(o->newest, 0) : o->floor;
    sqlite3_reset(o->newest);
    bind_waiting(o, s);
    while (n < max && (rc = sqlite3_step(s)) == SQLITE_ROW) {
        const int i = GW_JOURNAL_AFTER_COLUMNS;
        gw_journal_read_row(s, &r);
        if (has_id(row, n, r.event.id) || (skip && skip(user, &r.event, r.serial)))
            continue;
        const char *origin = (const char *)sqlite3_column_text(s, i + 2);
        row[n] = (gw_outbox_row){.event = r.event,
                                 .serial = r.serial,
                                 .committed_ns = r.committed_ns,
                                 .number = sqlite3_column_int64(s, i),
                                 .record = sqlite3_column_int(s, i + 1),
                                 .named_ns = sqlite3_column_int64(s, i + 3)};
        snprintf(row[n].origin, sizeof row[n].origin, "%s", origin ? origin : "unknown");
        if (n++ == 0 && row[0].number > o->floor + 1)
            o->floor = row[0].number - 1; /* all before it are settled, or never for this broker */
    }
    int err = rc == SQLITE_ROW || rc == SQLITE_DONE ? n : gw_journal_fail(o->journal, rc);
    sqlite3_reset(s);
    if (err == 0)
        o->floor = newest;
    return err;
}

static int settle(gw_outbox *o, const gw_outbox_row *r)
{
    sqlite3_stmt *s = o->settle;
    sqlite3_bind_text(s, 1, o->broker, -1, SQLITE_STATIC);
    sqlite3_bind_text(s, 2, r->event.id, -1, SQLITE_STATIC);
    sqlite3_bind_text(s, 3, gw_phase_text(r->event.phase), -1, SQLITE_STATIC);
    sqlite3_bind_int(s, 4, r->serial);
    if (!r->refused[0]) {
        sqlite3_bind_int64(s, 5, r->acked_ns);
        sqlite3_bind_double(s, 6, gw_event_latency_s(&r->event, r->acked_ns)); /* NAN becomes NULL */
    } else {
        sqlite3_bind_text(s, 7, r->refused, -1, SQLITE_STATIC);
    }
    int rc = sqlite3_step(s);
    int err = rc == SQLITE_DONE ? 0 : gw_journal_fail(o->journal, rc);
    sqlite3_reset(s);
    sqlite3_clear_bindings(s);
    return err;
}

int gw_outbox_settle(gw_outbox *o, gw_outbox_row *const *rows, int n)
{
    GW_TRY(gw_journal_exec(o->journal, "BEGIN IMMEDIATE"));
    int err = 0;
    for (int i = 0; i < n && err == 0; i++)
        err = settle(o, rows[i]);
    if (err == 0)
        err = gw_journal_exec(o->journal, "COMMIT");
    if (err < 0)
        sqlite3_exec(o->journal->db, "ROLLBACK", NULL, NULL, NULL); /* keeps the first failure's text */
    return err;
}

int gw_outbox_records(gw_outbox *o, const char *id, int *records, int64_t *named_ns)
{
    sqlite3_bind_text(o->records, 1, id, -1, SQLITE_STATIC);
    sqlite3_bind_int(o->records, 2, o->candidates);
    int rc = sqlite3_step(o->records);
    int err = rc == SQLITE_ROW ? 0 : gw_journal_fail(o->journal, rc);
    *records = rc == SQLITE_ROW ? sqlite3_column_int(o->records, 0) : 0;
    if (rc == SQLITE_ROW && sqlite3_column_type(o->records, 1) != SQLITE_NULL)
        *named_ns = sqlite3_column_int64(o->records, 1);
    sqlite3_reset(o->records);
    return err;
}

int gw_outbox_count(gw_outbox *o, int64_t *waiting)
{
    bind_waiting(o, o->count);
    int rc = sqlite3_step(o->count);
    int err = rc == SQLITE_ROW ? 0 : gw_journal_fail(o->journal, rc);
    *waiting = rc == SQLITE_ROW ? sqlite3_column_int64(o->count, 0) : 0;
    sqlite3_reset(o->count);
    return err;
}
