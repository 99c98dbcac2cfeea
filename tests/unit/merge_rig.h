/* SPDX-License-Identifier: GPL-3.0-or-later
 * What the tests of the merger share: a merger of branches that have searched for 90 s, words for it, what it
 * has said, and SQLite's JSON reader to ask what that says. */
#ifndef GW_MERGE_RIG_H
#define GW_MERGE_RIG_H

#include "sinks/merge.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <sqlite3.h>

enum { MAX = 4096 };

static const int64_t gps0 = INT64_C(1400000000) * GW_SECOND_NS;

/* ---- a merger and what it has said ---- */

typedef struct rig {
    gw_merge *m;
    int n;
    gw_event said[MAX];
} rig;

static inline gw_merge_conf conf_of(int n)
{
    static const char *const names[] = {"search", "search_clean", "third"};
    gw_merge_conf conf = {.group = "alerts", .n_branches = n, .refractory_ns = 8 * GW_SECOND_NS};
    for (int b = 0; b < n; b++)
        conf.branch[b] = names[b];
    return conf;
}

/* All branches have searched for 90 s. */
static inline rig *rig_new(const gw_merge_conf *conf)
{
    rig *r = calloc(1, sizeof *r);
    assert_non_null(r);
    assert_int_equal(gw_merge_new(&r->m, conf), 0);
    for (int b = 0; b < conf->n_branches; b++)
        assert_int_equal(gw_merge_reached(r->m, conf->branch[b], gps0 + 90 * GW_SECOND_NS, true), 0);
    return r;
}

static inline void rig_free(rig *r)
{
    gw_merge_destroy(&r->m);
    assert_null(r->m);
    free(r);
}

static inline void collect(rig *r)
{
    gw_event e;
    int due;
    while ((due = gw_merge_next(r->m, &e)) == 1) {
        assert_true(r->n < MAX);
        r->said[r->n++] = e;
    }
    assert_int_equal(due, 0);
}

static inline gw_event a_word(const char *branch, gw_phase phase, double at_s, double statistic)
{
    gw_event e = {.phase = phase,
                  .gps_ns = gps0 + (int64_t)(at_s * 1e9),
                  .told_ns = gps0 + (int64_t)(at_s * 1e9) + 60000000,
                  .detectors = "H1,L1",
                  .statistic = statistic,
                  .noise_rate_hz = exp(-statistic),
                  .background_s = 1e5,
                  .alert = statistic > 10,
                  .model = "m",
                  .model_hash = "0123456789abcdef",
                  .pace = 1,
                  .detail = "{\"thresholds\":{\"candidate\":3,\"alert\":10}}"};
    snprintf(e.stream, sizeof e.stream, "%s", branch);
    snprintf(e.id, sizeof e.id, "G%.8s%d", branch, (int)at_s);
    return e;
}

static inline void say(rig *r, const gw_event *e)
{
    assert_int_equal(gw_merge_take(r->m, e), 0);
    collect(r);
}

static inline void word(rig *r, const char *branch, gw_phase phase, double at_s, double statistic)
{
    const gw_event e = a_word(branch, phase, at_s, statistic);
    say(r, &e);
}

static inline void reached(rig *r, const char *branch, double at_s, bool searched)
{
    assert_int_equal(gw_merge_reached(r->m, branch, gps0 + (int64_t)(at_s * 1e9), searched), 0);
    collect(r);
}

/* The latest thing said is this one, and the n-th. */
#define assert_said(r, count, ph, stat)                                                                      \
    do {                                                                                                     \
        assert_int_equal((r)->n, count);                                                                     \
        assert_string_equal(gw_phase_text((r)->said[(r)->n - 1].phase), gw_phase_text(ph));                  \
        assert_true(fabs((r)->said[(r)->n - 1].statistic - (stat)) < 1e-12);                                 \
    } while (0)

/* ---- JSON ---- */

static inline const char *ask(const gw_event *e, const char *path)
{
    static char answer[1024], json[8192];
    sqlite3 *db;
    sqlite3_stmt *s;
    assert_true(gw_event_json(e, GW_NOT_KNOWN_NS, json, 6144) > 0);
    assert_int_equal(sqlite3_open(":memory:", &db), SQLITE_OK);
    assert_int_equal(
        sqlite3_prepare_v2(db,
                           path ? "select coalesce(json_extract(?1, ?2), '(null)')" : "select json_valid(?1)",
                           -1, &s, NULL),
        SQLITE_OK);
    sqlite3_bind_text(s, 1, json, -1, SQLITE_STATIC);
    if (path)
        sqlite3_bind_text(s, 2, path, -1, SQLITE_STATIC);
    snprintf(answer, sizeof answer, "%s",
             sqlite3_step(s) == SQLITE_ROW ? (const char *)sqlite3_column_text(s, 0) : "(error)");
    sqlite3_finalize(s);
    sqlite3_close(db);
    return answer;
}

#endif
