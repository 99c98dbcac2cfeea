/* SPDX-License-Identifier: GPL-3.0-or-later
 * The journal's figures by SQL, their quantiles here. */
#include "sinks/journal_stats.h"

#include "sinks/journal_db.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- quantiles ---- */

static int by_value(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double quantile(const double *x, uint64_t n, double q)
{
    const double at = q * (double)(n - 1);
    const uint64_t i = (uint64_t)at;
    return i + 1 < n ? x[i] + (at - (double)i) * (x[i + 1] - x[i]) : x[n - 1];
}

void gw_spread_of(double *x, uint64_t n, gw_spread *s)
{
    uint64_t k = 0;
    for (uint64_t i = 0; i < n; i++)
        if (!isnan(x[i]))
            x[k++] = x[i];
    *s = (gw_spread){k, NAN, NAN, NAN, NAN, NAN};
    if (k == 0)
        return;
    qsort(x, k, sizeof *x, by_value);
    s->median_s = quantile(x, k, 0.5);
    s->p90_s = quantile(x, k, 0.9);
    s->p95_s = quantile(x, k, 0.95);
    s->p99_s = quantile(x, k, 0.99);
    s->max_s = x[k - 1];
}

/* ---- what a statement says ---- */

typedef struct columns {
    double *x[4]; /* [column][row] */
    uint64_t n, room;
} columns;

static void drop(columns *c)
{
    for (int i = 0; i < 4; i++)
        free(c->x[i]);
}

static int grow(columns *c)
{
    const uint64_t room = c->room ? 2 * c->room : 256;
    for (int i = 0; i < 4; i++) {
        double *x = realloc(c->x[i], room * sizeof *x);
        if (!x)
            return gw_fail(GW_ENOMEM, "stats: out of memory after %llu rows", (unsigned long long)c->n);
        c->x[i] = x;
    }
    c->room = room;
    return 0;
}

/* Nanoseconds as seconds; ?1 is since, ?2 a broker. */
static int read_columns(gw_journal *j, const char *sql, int64_t since_ns, const char *broker, int width,
                        columns *c)
{
    sqlite3_stmt *s = NULL;
    int rc, err = 0;
    GW_TRY(gw_journal_prepare(j, sql, &s));
    sqlite3_bind_int64(s, 1, since_ns ? since_ns : INT64_MIN);
    if (broker)
        sqlite3_bind_text(s, 2, broker, -1, SQLITE_STATIC);
    while (err == 0 && (rc = sqlite3_step(s)) != SQLITE_DONE) {
        err = rc != SQLITE_ROW ? gw_journal_fail(j, rc) : c->n == c->room ? grow(c) : 0;
        for (int i = 0; i < width && err == 0; i++)
            c->x[i][c->n] =
                sqlite3_column_type(s, i) == SQLITE_NULL ? NAN : (double)sqlite3_column_int64(s, i) / 1e9;
        c->n += err == 0;
    }
    sqlite3_finalize(s);
    return err;
}

static int read_counts(gw_journal *j, const char *sql, int64_t since_ns, const char *broker, int n,
                       uint64_t *count)
{
    sqlite3_stmt *s = NULL;
    GW_TRY(gw_journal_prepare(j, sql, &s));
    sqlite3_bind_int64(s, 1, since_ns ? since_ns : INT64_MIN);
    if (broker)
        sqlite3_bind_text(s, 2, broker, -1, SQLITE_STATIC);
    const int rc = sqlite3_step(s);
    for (int i = 0; i < n; i++)
        count[i] = rc == SQLITE_ROW ? (uint64_t)sqlite3_column_int64(s, i) : 0;
    const int err = rc == SQLITE_ROW || rc == SQLITE_DONE ? 0 : gw_journal_fail(j, rc);
    sqlite3_finalize(s);
    return err;
}

/* ---- latencies ---- */

/* Stream time on the wall; a row that has no anchor has none. The merger: the latest word's. */
#define WALL(t) "(f.anchor_wall_ns + (" t " - f.anchor_data_ns))"
#define MERGER                                                                                               \
    "(SELECT m.gps_ns FROM events AS m WHERE m.id = f.id AND m.phase <> 'retracted'"                         \
    " ORDER BY m.number DESC LIMIT 1)"
#define TIMED " abs(f.pace - 1) < 1e-9 AND f.gps_ns >= ?1"

static const char spans_sql[] =
    "SELECT f.due_ns - " MERGER
    ", f.ingest_ns - " WALL("f.due_ns") ", f.committed_ns - f.ingest_ns,"
                                        " CASE WHEN NOT f.recovered THEN f.published_ns - " WALL(
                                            MERGER) " END"
                                                    " FROM events AS f WHERE f.phase = 'first' AND" TIMED;

static int measure_latencies(gw_journal *j, int64_t since_ns, gw_journal_stats *s)
{
    columns c = {0};
    int err = read_columns(j, spans_sql, since_ns, NULL, 4, &c);
    s->timed = c.n;
    gw_spread_of(c.x[0], c.n, &s->signal);
    gw_spread_of(c.x[1], c.n, &s->data);
    gw_spread_of(c.x[2], c.n, &s->pipeline);
    gw_spread_of(c.x[3], c.n, &s->local);
    drop(&c);
    return err;
}

/* ---- brokers ---- */

/* Is row e for broker ?2, and still to be settled? A broker that has had a candidate takes candidates. */
#define WAITS                                                                                                \
    "e.gps_ns >= ?1 AND e.number > b.since AND (e.alert OR EXISTS (SELECT 1 FROM broker_ack AS k, events "   \
    "AS c"                                                                                                   \
    " WHERE k.broker = ?2 AND c.id = k.id AND c.phase = k.phase AND c.serial = k.serial AND NOT c.alert"     \
    " AND c.phase <> 'retracted') OR (e.phase = 'retracted' AND EXISTS"                                      \
    " (SELECT 1 FROM events AS r WHERE r.id = e.id AND r.alert AND r.number < e.number)))"                   \
    " AND NOT EXISTS (SELECT 1 FROM broker_ack AS a WHERE a.broker = ?2 AND a.id = e.id AND"                 \
    " a.phase = e.phase AND a.serial = e.serial)"
#define OF_BROKER                                                                                            \
    " FROM broker_ack AS a JOIN events AS f ON f.id = a.id AND f.phase = a.phase AND f.serial = a.serial"    \
    " WHERE a.broker = ?2"

static int read_reasons(gw_journal *j, int64_t since_ns, gw_broker_stats *b)
{
    sqlite3_stmt *s = NULL;
    int rc = SQLITE_DONE;
    GW_TRY(gw_journal_prepare(j,
                              "SELECT a.refused, count(*) AS n" OF_BROKER
                              " AND f.gps_ns >= ?1 AND a.refused IS NOT NULL GROUP BY 1 ORDER BY n DESC, 1",
                              &s));
    sqlite3_bind_int64(s, 1, since_ns ? since_ns : INT64_MIN);
    sqlite3_bind_text(s, 2, b->name, -1, SQLITE_STATIC);
    while (b->n_reasons < GW_STATS_REASONS && (rc = sqlite3_step(s)) == SQLITE_ROW) {
        snprintf(b->reason[b->n_reasons].text, sizeof b->reason[0].text, "%s",
                 (const char *)sqlite3_column_text(s, 0));
        b->reason[b->n_reasons++].n = (uint64_t)sqlite3_column_int64(s, 1);
    }
    const int err = rc == SQLITE_ROW || rc == SQLITE_DONE ? 0 : gw_journal_fail(j, rc);
    sqlite3_finalize(s);
    return err;
}

/* Columns beside min() come from the row of the minimum: the word that the broker had first. */
static const char broker_spans_sql[] = "SELECT a.acked_ns - f.committed_ns, a.acked_ns - " WALL(
    MERGER) ", min(f.number)" OF_BROKER " AND a.refused IS NULL AND a.acked_ns IS NOT NULL AND" TIMED
            " GROUP BY f.id";

static int measure_broker(gw_journal *j, int64_t since_ns, gw_broker_stats *b)
{
    uint64_t count[3];
    columns c = {0};
    GW_TRY(read_counts(j,
                       "SELECT count(*) FILTER (WHERE a.refused IS NULL AND a.acked_ns IS NOT NULL),"
                       " count(a.refused), count(*) FILTER (WHERE a.refused LIKE 'held back: %')" OF_BROKER
                       " AND f.gps_ns >= ?1",
                       since_ns, b->name, 3, count));
    b->acked = count[0];
    b->refused = count[1];
    b->held = count[2];
    GW_TRY(read_counts(j, "SELECT count(*) FROM events AS e JOIN brokers AS b ON b.name = ?2 WHERE " WAITS,
                       since_ns, b->name, 1, &b->waiting));
    if (j->version >= 3)
        GW_TRY(read_counts(j, "SELECT count(*)" OF_BROKER " AND f.gps_ns >= ?1 AND a.again", since_ns,
                           b->name, 1, &b->again));
    GW_TRY(read_reasons(j, since_ns, b));
    int err = read_columns(j, broker_spans_sql, since_ns, b->name, 2, &c);
    gw_spread_of(c.x[0], c.n, &b->publish);
    gw_spread_of(c.x[1], c.n, &b->total);
    drop(&c);
    return err;
}

static int measure_brokers(gw_journal *j, int64_t since_ns, gw_journal_stats *s)
{
    sqlite3_stmt *q = NULL;
    int rc = SQLITE_DONE, err = 0;
    if (j->version < 2)
        return 0;
    GW_TRY(gw_journal_prepare(j, "SELECT name FROM brokers ORDER BY name", &q));
    while (s->n_brokers < GW_STATS_BROKERS && (rc = sqlite3_step(q)) == SQLITE_ROW)
        snprintf(s->broker[s->n_brokers++].name, sizeof s->broker[0].name, "%s",
                 (const char *)sqlite3_column_text(q, 0));
    err = rc == SQLITE_ROW || rc == SQLITE_DONE ? 0 : gw_journal_fail(j, rc);
    sqlite3_finalize(q);
    for (int i = 0; i < s->n_brokers && err == 0; i++)
        err = measure_broker(j, since_ns, &s->broker[i]);
    return err;
}

/* ---- counts ---- */

static const struct {
    const char *name;
    double least_hz;
} rates[GW_STATS_RATES] = {{"more than 1/h", 1.0 / 3600},
                           {"1/d to 1/h", 1.0 / 86400},
                           {"1/month to 1/d", 1.0 / (30 * 86400)},
                           {"1/yr to 1/month", 1.0 / (365.25 * 86400)},
                           {"less than 1/yr", 0},
                           {"not known", -1}};

const char *gw_stats_rate(int i)
{
    return rates[i].name;
}

static int count_rates(gw_journal *j, int64_t since_ns, gw_journal_stats *s)
{
    sqlite3_stmt *q = NULL;
    int rc;
    GW_TRY(gw_journal_prepare(j, "SELECT noise_rate_hz FROM latest WHERE gps_ns >= ?1", &q));
    sqlite3_bind_int64(q, 1, since_ns ? since_ns : INT64_MIN);
    while ((rc = sqlite3_step(q)) == SQLITE_ROW) {
        int i = 0;
        if (sqlite3_column_type(q, 0) == SQLITE_NULL || !(sqlite3_column_double(q, 0) > 0))
            i = GW_STATS_RATES - 1;
        else
            while (sqlite3_column_double(q, 0) <= rates[i].least_hz)
                i++;
        s->rates[i]++;
    }
    const int err = rc == SQLITE_DONE ? 0 : gw_journal_fail(j, rc);
    sqlite3_finalize(q);
    return err;
}

static int count_events(gw_journal *j, int64_t since_ns, gw_journal_stats *s)
{
    uint64_t v[5];
    for (int p = GW_PHASE_FIRST; p <= GW_PHASE_RETRACTED; p++) {
        char sql[128];
        snprintf(sql, sizeof sql, "SELECT count(*) FROM events WHERE phase = '%s' AND gps_ns >= ?1",
                 gw_phase_text((gw_phase)p));
        GW_TRY(read_counts(j, sql, since_ns, NULL, 1, &s->phases[p]));
    }
    GW_TRY(read_counts(j,
                       "SELECT count(*), count(*) FILTER (WHERE alert), count(*) FILTER (WHERE injection),"
                       " count(*) FILTER (WHERE phase = 'retracted') FROM latest WHERE gps_ns >= ?1",
                       since_ns, NULL, 4, v));
    s->events = v[0];
    s->alerts = v[1];
    s->injections = v[2];
    s->retracted = v[3];
    GW_TRY(read_counts(j, "SELECT count(*) FROM events WHERE recovered AND gps_ns >= ?1", since_ns, NULL, 1,
                       &s->recovered));
    GW_TRY(
        read_counts(j,
                    "SELECT count(*) FROM events AS f WHERE f.phase = 'first' AND NOT abs(f.pace - 1) < 1e-9"
                    " AND f.gps_ns >= ?1",
                    since_ns, NULL, 1, &s->untimed));
    return count_rates(j, since_ns, s);
}

int gw_journal_measure(gw_journal *j, int64_t since_ns, gw_journal_stats *s)
{
    memset(s, 0, sizeof *s);
    GW_TRY(count_events(j, since_ns, s));
    GW_TRY(measure_latencies(j, since_ns, s));
    return measure_brokers(j, since_ns, s);
}
