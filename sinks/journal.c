/* SPDX-License-Identifier: GPL-3.0-or-later
 * Writing the journal: an event's name in it, its commit, its publication, and the text that was published. Opening is
 * in journal_file.c, reading in journal_read.c. */
#include "sinks/journal.h"
#include "pipeline/log.h"
#include "sinks/journal_db.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define X(type, name) #name ", "
#define Y(type, name) ":" #name ", "
static const char put_sql[] = "INSERT INTO events (" GW_EVENT_COLUMNS(
    X) "phase, serial, run, last_run, committed_ns) VALUES (" GW_EVENT_COLUMNS(Y) ":phase, :serial, :run, "
                                                                                  ":run, :committed_ns)";
#undef X
#undef Y

int gw_journal_prepare_writes(gw_journal *j)
{
    GW_TRY(gw_journal_prepare(j, put_sql, &j->put));
    GW_TRY(
        gw_journal_prepare(j,
                           "SELECT serial, published_ns IS NOT NULL FROM events WHERE id = ?1 AND phase = ?2"
                           " AND (last_run < ?3 OR ?4) AND (gps_ns IS ?5 OR abs(gps_ns - ?5) <= 1000000)"
                           " AND (statistic IS ?6 OR abs(statistic - ?6) <= 1e-3 * max(1, abs(?6)))"
                           " AND alert = ?7 AND injection = ?8 ORDER BY serial LIMIT 1",
                           &j->find));
    GW_TRY(gw_journal_prepare(j,
                              "SELECT serial, statistic, last_run < ?3 FROM events WHERE id = ?1 AND"
                              " phase = ?2 ORDER BY serial DESC LIMIT 1",
                              &j->newest));
    GW_TRY(gw_journal_prepare(
        j, "UPDATE events SET last_run = ?4 WHERE id = ?1 AND phase = ?2 AND serial = ?3", &j->again));
    GW_TRY(gw_journal_prepare(j,
                              "UPDATE events SET published_ns = ?4, recovered = ?5, latency_s = ?6, json = ?7"
                              " WHERE id = ?1 AND phase = ?2 AND serial = ?3",
                              &j->mark));
    GW_TRY(gw_journal_prepare(j, GW_JOURNAL_SETTLE, &j->settle));
    return gw_journal_prepare(j,
                              "INSERT INTO injections (gps_ns, detectors, detail, run, last_run)"
                              " VALUES (?1, ?2, ?3, ?4, ?4) ON CONFLICT DO UPDATE SET last_run = ?4",
                              &j->inject);
}

static void bind_text(sqlite3_stmt *s, int i, const char *text, size_t size)
{
    sqlite3_bind_text(s, i, text, (int)strnlen(text, size), SQLITE_TRANSIENT);
}

static void bind_ns(sqlite3_stmt *s, int i, int64_t ns)
{
    if (ns == GW_NOT_KNOWN_NS)
        sqlite3_bind_null(s, i);
    else
        sqlite3_bind_int64(s, i, ns);
}

/* (id, phase, number) as parameters 1, 2, 3; the number is a serial or a run */
static void bind_name(sqlite3_stmt *s, const gw_event *e, int64_t number)
{
    bind_text(s, 1, e->id, sizeof e->id);
    sqlite3_bind_text(s, 2, gw_phase_text(e->phase), -1, SQLITE_STATIC);
    sqlite3_bind_int64(s, 3, number);
}

/* Runs a bound statement to its first row or its end and makes it ready for the next time. The row's first
 * n columns go to `value`. Returns 1 with a row, 0 without, or an error. */
static int run_once(gw_journal *j, sqlite3_stmt *s, int n, double *value)
{
    int rc = sqlite3_step(s);
    int err = rc == SQLITE_ROW ? 1 : rc == SQLITE_DONE ? 0 : gw_journal_fail(j, rc);
    for (int i = 0; i < n && err == 1; i++)
        value[i] = sqlite3_column_type(s, i) == SQLITE_NULL ? NAN : sqlite3_column_double(s, i);
    sqlite3_reset(s);
    sqlite3_clear_bindings(s);
    return err;
}

static int insert(gw_journal *j, const gw_event *e, int serial)
{
    sqlite3_stmt *s = j->put;
    int i = 0;
#define BIND_TEXT(name) bind_text(s, ++i, e->name, sizeof e->name);
#define BIND_NS(name)   bind_ns(s, ++i, e->name);
#define BIND_REAL(name) sqlite3_bind_double(s, ++i, e->name);
#define BIND_BITS(name) sqlite3_bind_int64(s, ++i, (int64_t)e->name);
#define BIND_BOOL(name) sqlite3_bind_int(s, ++i, e->name);
#define X(type, name)   BIND_##type(name)
    GW_EVENT_COLUMNS(X)
#undef X
    sqlite3_bind_text(s, ++i, gw_phase_text(e->phase), -1, SQLITE_STATIC);
    sqlite3_bind_int(s, ++i, serial);
    sqlite3_bind_int64(s, ++i, j->run);
    sqlite3_bind_int64(s, ++i, gw_gps_now_ns());
    return run_once(j, s, 0, NULL);
}

/* What an earlier run has said and this one has not yet said again; earliest first, so that two updates
 * that say the same are two rows for a replay too. */
static int find_same(gw_journal *j, const gw_event *e, int *serial, bool *published)
{
    double row[2];
    sqlite3_stmt *s = j->find;
    bind_name(s, e, j->run);
    sqlite3_bind_int(s, 4, e->phase == GW_PHASE_FIRST || e->phase == GW_PHASE_RETRACTED);
    bind_ns(s, 5, e->gps_ns);
    sqlite3_bind_double(s, 6, e->statistic);
    sqlite3_bind_int(s, 7, e->alert);
    sqlite3_bind_int(s, 8, e->injection);
    int found = run_once(j, s, 2, row);
    if (found == 1) {
        *serial = (int)row[0];
        *published = row[1] > 0;
    }
    return found;
}

/* The next free serial. Says so when an earlier run has kept something else under this name. */
static int next_serial(gw_journal *j, const gw_event *e, int *serial)
{
    double row[3];
    bind_name(j->newest, e, j->run);
    int found = run_once(j, j->newest, 3, row);
    GW_TRY(found);
    *serial = found ? (int)row[0] + 1 : 1;
    if (found && row[2] > 0 && strncmp(j->differed, e->id, sizeof j->differed) != 0) {
        memcpy(j->differed, e->id, sizeof j->differed);
        gw_log(
            GW_LOG_WARN, NULL,
            "journal %s: event %.23s, statistic %g, is not the one that an earlier run kept under this id, "
            "statistic %g: kept beside it (give each recording or threshold a journal of its own)",
            j->path, e->id, e->statistic, row[1]);
    }
    return 0;
}

static int settle(gw_journal *j, const gw_event *e, int serial, const gw_journal_ack *a)
{
    sqlite3_stmt *s = j->settle;
    sqlite3_bind_text(s, 1, a->broker, -1, SQLITE_STATIC);
    bind_text(s, 2, e->id, sizeof e->id);
    sqlite3_bind_text(s, 3, gw_phase_text(e->phase), -1, SQLITE_STATIC);
    sqlite3_bind_int(s, 4, serial);
    if (a->refused) {
        sqlite3_bind_text(s, 7, a->refused, -1, SQLITE_STATIC);
    } else {
        sqlite3_bind_int64(s, 5, a->acked_ns);
        sqlite3_bind_double(s, 6, a->latency_s); /* NAN becomes NULL */
    }
    return run_once(j, s, 0, NULL);
}

/* 1: here already; 0: new, and *serial is free. */
static int name(gw_journal *j, const gw_event *e, int *serial, bool *published)
{
    *published = false;
    int found = find_same(j, e, serial, published);
    return found == 0 ? next_serial(j, e, serial) : found;
}

static int put(gw_journal *j, const gw_event *e, const gw_journal_ack *ack, int n, int *serial,
               bool *published)
{
    const int found = name(j, e, serial, published);
    GW_TRY(found);
    if (found == 0) {
        GW_TRY(insert(j, e, *serial));
        for (int i = 0; i < n; i++)
            GW_TRY(settle(j, e, *serial, &ack[i]));
        return 0;
    }
    bind_name(j->again, e, *serial);
    sqlite3_bind_int64(j->again, 4, j->run);
    return run_once(j, j->again, 0, NULL);
}

int gw_journal_next_serial(gw_journal *j, const gw_event *e, int *serial, bool *published)
{
    const int found = name(j, e, serial, published);
    return found < 0 ? found : 0;
}

int gw_journal_put(gw_journal *j, const gw_event *e, int *serial, bool *published)
{
    return gw_journal_put_settled(j, e, NULL, 0, serial, published);
}

int gw_journal_put_settled(gw_journal *j, const gw_event *e, const gw_journal_ack *ack, int n, int *serial,
                           bool *published)
{
    if (e->phase < GW_PHASE_FIRST || e->phase > GW_PHASE_RETRACTED || !e->id[0])
        return gw_fail(GW_EBUG, "journal %s: an event without id, or of phase %d, is no detection", j->path,
                       (int)e->phase);
    GW_TRY(gw_journal_exec(j, "BEGIN IMMEDIATE"));
    int err = put(j, e, ack, n, serial, published);
    if (err == 0)
        err = gw_journal_exec(j, "COMMIT");
    if (err < 0)
        sqlite3_exec(j->db, "ROLLBACK", NULL, NULL, NULL); /* keeps the first failure's text */
    return err;
}

int gw_journal_mark(gw_journal *j, const gw_event *e, int serial, int64_t published_ns, bool recovered,
                    const char *json)
{
    bind_name(j->mark, e, serial);
    sqlite3_bind_int64(j->mark, 4, published_ns);
    sqlite3_bind_int(j->mark, 5, recovered);
    sqlite3_bind_double(j->mark, 6, gw_event_latency_s(e, published_ns)); /* NAN becomes NULL */
    sqlite3_bind_text(j->mark, 7, json, -1, SQLITE_STATIC);
    return run_once(j, j->mark, 0, NULL);
}

int gw_journal_put_injection(gw_journal *j, const gw_event *e)
{
    sqlite3_bind_int64(j->inject, 1, e->gps_ns);
    bind_text(j->inject, 2, e->detectors, sizeof e->detectors);
    bind_text(j->inject, 3, e->detail, sizeof e->detail);
    sqlite3_bind_int64(j->inject, 4, j->run);
    return run_once(j, j->inject, 0, NULL);
}

int gw_journal_json(const gw_event *e, int serial, int64_t published_ns, bool recovered, char *text, size_t n)
{
    static const char head[] = "{\"type\":\"event\",", mark[] = ",\"recovered\":true";
    char name[32];
    int extra =
        snprintf(name, sizeof name, "\"serial\":%d,", serial) + (recovered ? (int)sizeof mark - 1 : 0);
    int len = gw_event_json(e, published_ns, text, n);
    GW_TRY(len);
    if (strncmp(text, head, sizeof head - 1) != 0 || len < 2)
        return gw_fail(GW_EBUG, "event %.23s: its JSON does not begin with %s", e->id, head);
    if ((size_t)len + (size_t)extra >= n)
        return gw_fail(GW_ERANGE, "event %.23s: its JSON is longer than %zu bytes", e->id, n);
    if (recovered) { /* inside the last member, "wall":{...}} */
        memmove(text + len - 2 + sizeof mark - 1, text + len - 2, 3);
        memcpy(text + len - 2, mark, sizeof mark - 1);
        len += (int)sizeof mark - 1;
    }
    size_t at = sizeof head - 1, shift = strlen(name);
    memmove(text + at + shift, text + at, (size_t)len - at + 1);
    memcpy(text + at, name, shift);
    return len + (int)shift;
}

int gw_journal_json_unkept(char *text, int len, size_t n)
{
    static const char mark[] = ",\"_journaled\":false}";
    if (len < 2 || text[len - 1] != '}')
        return gw_fail(GW_EBUG, "an event's JSON of %d bytes does not end with a brace", len);
    if ((size_t)len + sizeof mark > n)
        return gw_fail(GW_ERANGE, "an event's JSON is longer than %zu bytes", n);
    memcpy(text + len - 1, mark, sizeof mark);
    return len - 1 + (int)sizeof mark - 1;
}
