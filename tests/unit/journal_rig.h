/* SPDX-License-Identifier: GPL-3.0-or-later
 * A journal in a folder of its own for unit tests: an event to put into it, and SQLite's own answers from it, past all
 * our code. Included by tests of the journal, its orders and its outbox, after cmocka.h. */
#ifndef GW_TEST_JOURNAL_RIG_H
#define GW_TEST_JOURNAL_RIG_H

#include "pipeline/block.h"
#include "sinks/journal.h"

#include <math.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define AT 1400000000 /* GPS, where the clock of GPS 1500000000 stands at pace 1 */

static char dir[32], path[64];

static inline int make_dir(void **state)
{
    (void)state;
    if (!mkdtemp(strcpy(dir, "/tmp/gw-journal-XXXXXX")))
        return -1;
    snprintf(path, sizeof path, "%s/j.sqlite", dir);
    return 0;
}

static inline int remove_dir(void **state)
{
    (void)state;
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'", dir);
    return system(command);
}

/* An event whose every field is different from every other's, told 61 ms after the signal. */
static inline gw_event an_event(const char *id, gw_phase phase, double gps)
{
    gw_event e = {.phase = phase,
                  .gps_ns = (int64_t)llround(gps * 1e9),
                  .detectors = "H1,L1",
                  .stream = "search",
                  .gps_error_s = 0.00125,
                  .statistic = 7.25,
                  .noise_rate_hz = 3.6e-6,
                  .background_s = 259200,
                  .alert = true,
                  .dq = GW_DQ_ALL,
                  .model = "bbh-small",
                  .model_hash = "0123456789abcdef",
                  .card_hash = "fedcba98",
                  .pace = 1,
                  .anchor_wall_ns = INT64_C(1500000000) * GW_SECOND_NS,
                  .anchor_data_ns = AT * GW_SECOND_NS,
                  .detail = "{\"a\":\"it's\"}"};
    snprintf(e.id, sizeof e.id, "%s", id);
    const int64_t shift = e.anchor_wall_ns - e.anchor_data_ns;
    e.due_ns = e.gps_ns + 40000000;
    e.ingest_ns = e.due_ns + shift + 1000000;
    e.decided_ns = e.ingest_ns + 20000000;
    return e;
}

/* Puts and publishes, `latency_s` after the merger. Returns whether it was there already. */
static inline bool commit_event(gw_journal *j, const gw_event *e, double latency_s)
{
    int serial = 0;
    bool published = false;
    char json[GW_JOURNAL_JSON_BYTES];
    assert_int_equal(gw_journal_put(j, e, &serial, &published), 0);
    const int64_t at = e->gps_ns + e->anchor_wall_ns - e->anchor_data_ns + (int64_t)llround(latency_s * 1e9);
    if (!published) {
        assert_true(gw_journal_json(e, serial, at, false, json, sizeof json) > 0);
        assert_int_equal(gw_journal_mark(j, e, serial, at, false, json), 0);
    }
    return published;
}

/* The first value of SQLite's answer as text, "" where there is none. */
static inline const char *ask(const char *sql)
{
    static char text[4096];
    sqlite3 *db = NULL;
    sqlite3_stmt *s = NULL;
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_prepare_v2(db, sql, -1, &s, NULL), SQLITE_OK);
    const unsigned char *v = sqlite3_step(s) == SQLITE_ROW ? sqlite3_column_text(s, 0) : NULL;
    snprintf(text, sizeof text, "%s", v ? (const char *)v : "");
    sqlite3_finalize(s);
    sqlite3_close(db);
    return text;
}

static inline void run_sql(const char *sql)
{
    sqlite3 *db = NULL;
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(db);
}

#endif
