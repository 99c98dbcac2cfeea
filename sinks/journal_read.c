/* SPDX-License-Identifier: GPL-3.0-or-later
 * Reading the journal: rows back into events, injections against what was found, and one run in figures.
 * Called by the alerts sink at its start (what a crash left), by `gwstream alerts`, and at the end of a run.
 */
#include "sinks/journal.h"
#include "sinks/journal_db.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* The inner SELECT has a limit, so SQLite finishes it before the first row comes out, and the visitor may
 * change rows. */
static const char rows_sql[] =
    "SELECT * FROM (SELECT " GW_JOURNAL_COLUMNS
    ", (SELECT f.latency_s FROM events AS f WHERE f.id = e.id AND f.phase = 'first' AND"
    " f.number <= e.number ORDER BY f.number DESC LIMIT 1), json, number"
    " FROM events AS e WHERE (?1 IS NULL OR substr(e.id, 1, length(?1)) = ?1)"
    " AND (NOT ?3 OR e.number = (SELECT max(number) FROM events AS o WHERE o.id = e.id))"
    " AND (NOT ?4 OR e.published_ns IS NULL) AND ((?2 IS NULL AND ?5 < 0) OR e.id IN"
    " (SELECT id FROM latest WHERE ?2 IS NULL OR gps_ns >= ?2 ORDER BY number DESC LIMIT ?5))"
    " ORDER BY e.number DESC LIMIT -1) ORDER BY number";

static void column_text(sqlite3_stmt *s, int i, char *to, size_t size)
{
    const unsigned char *text = sqlite3_column_text(s, i);
    snprintf(to, size, "%s", text ? (const char *)text : "");
}

static int64_t column_ns(sqlite3_stmt *s, int i)
{
    return sqlite3_column_type(s, i) == SQLITE_NULL ? GW_NOT_KNOWN_NS : sqlite3_column_int64(s, i);
}

static double column_real(sqlite3_stmt *s, int i)
{
    return sqlite3_column_type(s, i) == SQLITE_NULL ? NAN : sqlite3_column_double(s, i);
}

static gw_phase phase_from(const unsigned char *text)
{
    for (int p = GW_PHASE_FIRST; text && p <= GW_PHASE_RETRACTED; p++)
        if (strcmp((const char *)text, gw_phase_text((gw_phase)p)) == 0)
            return (gw_phase)p;
    return GW_PHASE_FINAL;
}

void gw_journal_read_row(sqlite3_stmt *s, gw_journal_row *r)
{
    gw_event *e = &r->event;
    int i = -1;
    memset(r, 0, sizeof *r);
#define READ_TEXT(name) column_text(s, ++i, e->name, sizeof e->name);
#define READ_NS(name)   e->name = column_ns(s, ++i);
#define READ_REAL(name) e->name = column_real(s, ++i);
#define READ_BITS(name) e->name = (uint64_t)sqlite3_column_int64(s, ++i);
#define READ_BOOL(name) e->name = sqlite3_column_int(s, ++i) != 0;
#define X(type, name)   READ_##type(name)
    GW_EVENT_COLUMNS(X)
#undef X
    e->phase = phase_from(sqlite3_column_text(s, ++i));
    r->serial = sqlite3_column_int(s, ++i);
    r->run = sqlite3_column_int64(s, ++i);
    r->committed_ns = column_ns(s, ++i);
    r->published_ns = column_ns(s, ++i);
    r->recovered = sqlite3_column_int(s, ++i) != 0;
    r->latency_s = column_real(s, ++i);
    r->first_latency_s = NAN;
}

int gw_journal_each(gw_journal *j, const gw_journal_query *q, gw_journal_visit *visit, void *user)
{
    sqlite3_stmt *s = NULL;
    GW_TRY(gw_journal_prepare(j, rows_sql, &s));
    if (q->id)
        sqlite3_bind_text(s, 1, q->id, -1, SQLITE_STATIC);
    if (q->since_ns)
        sqlite3_bind_int64(s, 2, q->since_ns);
    sqlite3_bind_int(s, 3, q->latest);
    sqlite3_bind_int(s, 4, q->pending);
    sqlite3_bind_int64(s, 5, q->limit > 0 ? q->limit : -1);

    int rc, err = 0;
    gw_journal_row row;
    while (err == 0 && (rc = sqlite3_step(s)) != SQLITE_DONE) {
        if (rc == SQLITE_ROW) {
            gw_journal_read_row(s, &row);
            row.first_latency_s = column_real(s, GW_JOURNAL_AFTER_COLUMNS);
            row.json = (const char *)sqlite3_column_text(s, GW_JOURNAL_AFTER_COLUMNS + 1);
            err = visit(user, &row);
        } else {
            err = gw_journal_fail(j, rc);
        }
    }
    sqlite3_finalize(s);
    return err;
}

int gw_journal_each_first(gw_journal *j, int64_t from_ns, int64_t to_ns, gw_journal_first_visit *visit,
                          void *user)
{
    sqlite3_stmt *s = NULL;
    GW_TRY(gw_journal_prepare(
        j, "SELECT id, gps_ns FROM events WHERE gps_ns BETWEEN ?1 AND ?2 AND phase = 'first' AND run < ?3",
        &s));
    sqlite3_bind_int64(s, 1, from_ns);
    sqlite3_bind_int64(s, 2, to_ns);
    sqlite3_bind_int64(s, 3, j->run);
    int rc, err = 0;
    while (err == 0 && (rc = sqlite3_step(s)) != SQLITE_DONE)
        err = rc == SQLITE_ROW
                  ? visit(user, (const char *)sqlite3_column_text(s, 0), sqlite3_column_int64(s, 1))
                  : gw_journal_fail(j, rc);
    sqlite3_finalize(s);
    return err;
}

int gw_journal_each_told(gw_journal *j, bool candidates, int limit, const char *refused,
                         gw_journal_told_visit *visit, void *user)
{
    sqlite3_stmt *s = NULL;
    GW_TRY(gw_journal_prepare(j,
                              "SELECT * FROM (SELECT id, gps_ns, EXISTS (SELECT 1 FROM broker_ack AS a WHERE"
                              " a.id = e.id AND a.refused = ?3), min(number) AS number FROM events AS e"
                              " WHERE (alert OR ?1) AND number > (SELECT max(number) FROM events) - 8 * ?2"
                              " GROUP BY id ORDER BY number DESC LIMIT ?2) ORDER BY number",
                              &s));
    sqlite3_bind_int(s, 1, candidates);
    sqlite3_bind_int(s, 2, limit);
    sqlite3_bind_text(s, 3, refused, -1, SQLITE_STATIC);
    int rc, err = 0;
    while (err == 0 && (rc = sqlite3_step(s)) != SQLITE_DONE)
        err = rc == SQLITE_ROW ? visit(user, (const char *)sqlite3_column_text(s, 0),
                                       sqlite3_column_int64(s, 1), sqlite3_column_int(s, 2) != 0)
                               : gw_journal_fail(j, rc);
    sqlite3_finalize(s);
    return err;
}

int gw_journal_each_ack(gw_journal *j, const gw_journal_row *row, gw_journal_ack_visit *visit, void *user)
{
    sqlite3_stmt *s = NULL;
    if (j->version < 2)
        return 0;
    GW_TRY(gw_journal_prepare(j,
                              "SELECT broker, refused, acked_ns, latency_s FROM broker_ack WHERE id = ?1 AND"
                              " phase = ?2 AND serial = ?3 ORDER BY acked_ns, broker",
                              &s));
    sqlite3_bind_text(s, 1, row->event.id, -1, SQLITE_STATIC);
    sqlite3_bind_text(s, 2, gw_phase_text(row->event.phase), -1, SQLITE_STATIC);
    sqlite3_bind_int(s, 3, row->serial);
    int rc, err = 0;
    while (err == 0 && (rc = sqlite3_step(s)) != SQLITE_DONE) {
        if (rc != SQLITE_ROW) {
            err = gw_journal_fail(j, rc);
            break;
        }
        const gw_journal_ack a = {.broker = (const char *)sqlite3_column_text(s, 0),
                                  .refused = (const char *)sqlite3_column_text(s, 1),
                                  .acked_ns = column_ns(s, 2),
                                  .latency_s = column_real(s, 3)};
        err = visit(user, &a);
    }
    sqlite3_finalize(s);
    return err;
}

/* The latest phase of each id: of all, or of what run ?1 said. */
#define LATEST_OF_RUN                                                                                        \
    "e.number = (SELECT max(o.number) FROM events AS o WHERE o.id = e.id AND (?1 = 0 OR o.last_run = ?1))"

/* An injection's gps_ns is the arrival at the latest of all simulated detectors; `early` is by how much the
 * latest of the event's own is before that (0 where the detail does not say). No two places on Earth are
 * more than 43 ms apart. Of the events near enough, the nearest; a bare column beside min() comes from the
 * row of the minimum. */
static const char truths_sql[] =
    "WITH i AS (SELECT *, CASE WHEN json_valid(detail) THEN detail ELSE '{}' END AS object FROM injections"
    " WHERE (?1 = 0 OR last_run = ?1) AND gps_ns >= ?3 ORDER BY gps_ns DESC, number DESC LIMIT ?4),"
    " close AS (SELECT i.number AS injection, i.gps_ns AS at, e.id, e.alert, e.gps_ns,"
    " (SELECT CAST(round(1e9 * (max(value) - max(value) FILTER (WHERE"
    " instr(',' || e.detectors || ',', ',' || key || ',')))) AS INTEGER)"
    " FROM json_each(i.object, '$.gps')) AS early"
    " FROM i JOIN events AS e ON e.gps_ns BETWEEN i.gps_ns - ?2 - 50000000 AND i.gps_ns + ?2"
    " AND e.phase <> 'retracted' AND " LATEST_OF_RUN "),"
    " near AS (SELECT injection, id, alert, gps_ns - (at - coalesce(early, 0)) AS offset FROM close)"
    " SELECT i.gps_ns, i.detectors, i.detail, json_extract(i.object, '$.network_snr'),"
    " near.id, near.alert, near.offset, min(abs(near.offset))"
    " FROM i LEFT JOIN near ON near.injection = i.number AND abs(near.offset) <= ?2"
    " GROUP BY i.number ORDER BY i.gps_ns, i.number";

int gw_journal_each_truth(gw_journal *j, const gw_journal_truths *q, gw_journal_truth_visit *visit,
                          void *user)
{
    sqlite3_stmt *s = NULL;
    GW_TRY(gw_journal_prepare(j, truths_sql, &s));
    sqlite3_bind_int64(s, 1, q->run);
    sqlite3_bind_int64(s, 2, GW_MATCH_NS);
    sqlite3_bind_int64(s, 3, q->since_ns ? q->since_ns : INT64_MIN);
    sqlite3_bind_int64(s, 4, q->limit > 0 ? q->limit : -1);
    int rc, err = 0;
    while (err == 0 && (rc = sqlite3_step(s)) != SQLITE_DONE) {
        if (rc != SQLITE_ROW) {
            err = gw_journal_fail(j, rc);
            break;
        }
        gw_journal_truth t = {.gps_ns = sqlite3_column_int64(s, 0)};
        column_text(s, 1, t.detectors, sizeof t.detectors);
        t.detail = (const char *)sqlite3_column_text(s, 2);
        t.network_snr = column_real(s, 3);
        t.found = sqlite3_column_type(s, 4) != SQLITE_NULL;
        column_text(s, 4, t.id, sizeof t.id);
        t.alert = sqlite3_column_int(s, 5) != 0;
        t.offset_s = t.found ? (double)sqlite3_column_int64(s, 6) / 1e9 : NAN;
        err = visit(user, &t);
    }
    sqlite3_finalize(s);
    return err;
}

/* ---- one run in figures ---- */

/* Runs `sql` (?1 is the run) and copies its first row's n columns; all of them NAN without a row. */
static int ask(gw_journal *j, const char *sql, int64_t run, int n, double *value)
{
    sqlite3_stmt *s = NULL;
    GW_TRY(gw_journal_prepare(j, sql, &s));
    sqlite3_bind_int64(s, 1, run);
    int rc = sqlite3_step(s);
    for (int i = 0; i < n; i++)
        value[i] = rc == SQLITE_ROW ? column_real(s, i) : NAN;
    int err = rc == SQLITE_ROW || rc == SQLITE_DONE ? 0 : gw_journal_fail(j, rc);
    sqlite3_finalize(s);
    return err;
}

static uint64_t whole(double v)
{
    return v > 0 ? (uint64_t)v : 0;
}

typedef struct offsets {
    uint64_t injections, found;
    double max;
} offsets;

static int add_truth(void *user, const gw_journal_truth *t)
{
    offsets *o = user;
    o->injections++;
    if (t->found) {
        o->found++;
        o->max = fmax(o->max, fabs(t->offset_s));
    }
    return 0;
}

int gw_journal_summarise(gw_journal *j, int64_t run, gw_journal_summary *sum)
{
    memset(sum, 0, sizeof *sum);
    sum->run = run;
    double v[6];
    for (int p = GW_PHASE_FIRST; p <= GW_PHASE_RETRACTED; p++) {
        char sql[128];
        snprintf(sql, sizeof sql,
                 "SELECT count(*) FROM events WHERE phase = '%s' AND (?1 = 0 OR last_run = ?1)",
                 gw_phase_text((gw_phase)p));
        GW_TRY(ask(j, sql, run, 1, v));
        sum->phases[p] = whole(v[0]);
    }
    GW_TRY(ask(j, "SELECT count(*), total(e.alert) FROM events AS e WHERE " LATEST_OF_RUN, run, 2, v));
    sum->events = whole(v[0]);
    sum->alerts = whole(v[1]);
    GW_TRY(ask(j, "SELECT count(*) FROM events WHERE recovered AND (?1 = 0 OR last_run = ?1)", run, 1, v));
    sum->recovered = whole(v[0]);

#define TIMED                                                                                                \
    "FROM events WHERE phase = 'first' AND NOT recovered AND latency_s IS NOT NULL AND (?1 = 0 OR run = ?1)"
    GW_TRY(ask(j, "SELECT count(*), max(latency_s) " TIMED, run, 2, v));
    sum->timed = whole(v[0]);
    sum->latency_max_s = v[1];
    GW_TRY(ask(j,
               "SELECT avg(latency_s) FROM (SELECT latency_s " TIMED " ORDER BY latency_s"
               " LIMIT 2 - (SELECT count(*) " TIMED ") % 2 OFFSET max(0, ((SELECT count(*) " TIMED
               ") - 1) / 2))",
               run, 1, &sum->latency_median_s));
#undef TIMED

    offsets o = {0, 0, NAN};
    GW_TRY(gw_journal_each_truth(j, &(gw_journal_truths){.run = run}, add_truth, &o));
    sum->injections = o.injections;
    sum->found = o.found;
    sum->offset_max_s = o.max;
    return 0;
}

static void add(char *text, size_t n, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
static void add(char *text, size_t n, const char *fmt, ...)
{
    size_t used = strlen(text);
    va_list args;
    va_start(args, fmt);
    vsnprintf(text + used, n - used, fmt, args);
    va_end(args);
}

const char *gw_journal_summary_text(const gw_journal_summary *s, char *text, size_t n)
{
    text[0] = '\0';
    add(text, n, "events      %llu (%llu above the alert threshold", (unsigned long long)s->events,
        (unsigned long long)s->alerts);
    for (int p = GW_PHASE_FIRST; p <= GW_PHASE_RETRACTED; p++)
        if (s->phases[p])
            add(text, n, "; %llu %s", (unsigned long long)s->phases[p], gw_phase_text((gw_phase)p));
    add(text, n, "%s)\n", s->recovered ? "; some published again after a crash" : "");
    if (s->timed)
        add(text, n, "latency     merger to first publication: median %.0f ms, longest %.0f ms (of %llu)\n",
            s->latency_median_s * 1e3, s->latency_max_s * 1e3, (unsigned long long)s->timed);
    if (s->injections) {
        add(text, n, "injections  %llu of %llu found", (unsigned long long)s->found,
            (unsigned long long)s->injections);
        if (s->found)
            add(text, n, ", event time within %.1f ms of the injected one", s->offset_max_s * 1e3);
        add(text, n, "\n");
    }
    return text;
}
