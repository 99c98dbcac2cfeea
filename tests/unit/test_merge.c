/* SPDX-License-Identifier: GPL-3.0-or-later
 * One event out of several branches: what is said when, that the order in which threads deliver words changes
 * nothing where words are held, and that what comes out is JSON (SQLite's reader) however much there is. */
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

static gw_merge_conf conf_of(int n)
{
    static const char *const names[] = {"search", "search_clean", "third"};
    gw_merge_conf conf = {.group = "alerts", .n_branches = n, .refractory_ns = 8 * GW_SECOND_NS};
    for (int b = 0; b < n; b++)
        conf.branch[b] = names[b];
    return conf;
}

static rig *rig_new(const gw_merge_conf *conf)
{
    rig *r = calloc(1, sizeof *r);
    assert_non_null(r);
    assert_int_equal(gw_merge_new(&r->m, conf), 0);
    return r;
}

static void rig_free(rig *r)
{
    gw_merge_destroy(&r->m);
    assert_null(r->m);
    free(r);
}

static void collect(rig *r)
{
    gw_event e;
    int due;
    while ((due = gw_merge_next(r->m, &e)) == 1) {
        assert_true(r->n < MAX);
        r->said[r->n++] = e;
    }
    assert_int_equal(due, 0);
}

static gw_event a_word(const char *branch, gw_phase phase, double at_s, double statistic)
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

static void say(rig *r, const gw_event *e)
{
    assert_int_equal(gw_merge_take(r->m, e), 0);
    collect(r);
}

static void word(rig *r, const char *branch, gw_phase phase, double at_s, double statistic)
{
    const gw_event e = a_word(branch, phase, at_s, statistic);
    say(r, &e);
}

/* The latest thing said is this one, and the n-th. */
#define assert_said(r, count, ph, stat)                                                                      \
    do {                                                                                                     \
        assert_int_equal((r)->n, count);                                                                     \
        assert_string_equal(gw_phase_text((r)->said[(r)->n - 1].phase), gw_phase_text(ph));                  \
        assert_true(fabs((r)->said[(r)->n - 1].statistic - (stat)) < 1e-12);                                 \
    } while (0)

/* ---- JSON ---- */

static const char *ask(const gw_event *e, const char *path)
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

/* ---- what is said ---- */

static void one_signal_is_one_event(void **state)
{
    (void)state;
    const gw_merge_conf conf = conf_of(2);
    rig *r = rig_new(&conf);
    word(r, "search", GW_PHASE_FIRST, 100.0, 5); /* at once */
    assert_said(r, 1, GW_PHASE_FIRST, 5);
    assert_true(gw_merge_has_id("alerts", r->said[0].gps_ns, r->said[0].id));
    assert_false(gw_merge_has_id("other", r->said[0].gps_ns, r->said[0].id));
    assert_true(fabs(r->said[0].noise_rate_hz / (2 * exp(-5)) - 1) < 1e-12);
    word(r, "search_clean", GW_PHASE_FIRST, 100.02, 4.5); /* not better */
    assert_int_equal(r->n, 1);
    word(r, "search_clean", GW_PHASE_UPDATE, 100.03, 12);
    assert_said(r, 2, GW_PHASE_UPDATE, 12);
    assert_string_equal(r->said[1].stream, "search_clean");
    assert_true(r->said[1].alert);
    word(r, "search", GW_PHASE_UPDATE, 100.03, 9);
    word(r, "search", GW_PHASE_FINAL, 100.03, 9); /* the other goes on */
    assert_int_equal(r->n, 2);
    word(r, "search_clean", GW_PHASE_FINAL, 100.04, 13);
    assert_said(r, 3, GW_PHASE_FINAL, 13);
    for (int i = 1; i < 3; i++)
        assert_string_equal(r->said[i].id, r->said[0].id);

    const gw_event *e = &r->said[2];
    assert_string_equal(ask(e, NULL), "1");
    assert_string_equal(ask(e, "$.trials"), "2");
    assert_string_equal(ask(e, "$.thresholds.alert"), "10");
    assert_string_equal(ask(e, "$.branches[0].stream"), "search");
    assert_string_equal(ask(e, "$.branches[0].phase"), "final");
    assert_string_equal(ask(e, "$.branches[0].statistic"), "9");
    assert_string_equal(ask(e, "$.branches[1].statistic"), "13");
    assert_string_equal(ask(e, "$.branches[1].thresholds.candidate"), "3");
    assert_true(fabs(atof(ask(e, "$.branches[1].noise_rate_hz")) / exp(-13) - 1) < 1e-6);
    rig_free(r);
}

static void what_grows_little_waits_for_the_end(void **state)
{
    (void)state;
    const gw_merge_conf conf = conf_of(2);
    rig *r = rig_new(&conf);
    gw_event e = a_word("search", GW_PHASE_FIRST, 100, 5);
    say(r, &e);
    e.phase = GW_PHASE_UPDATE;
    e.statistic = 8; /* much, but soon */
    e.told_ns += 249999999;
    say(r, &e);
    assert_int_equal(r->n, 1);
    e.told_ns += 1;
    e.statistic = 5.9; /* late enough, but little */
    say(r, &e);
    assert_int_equal(r->n, 1);
    e.gps_ns += 10000001;
    say(r, &e);
    assert_said(r, 2, GW_PHASE_UPDATE, 5.9);
    e.phase = GW_PHASE_FINAL;
    e.statistic = 6;
    say(r, &e);
    assert_said(r, 3, GW_PHASE_FINAL, 6);
    e = a_word("search_clean", GW_PHASE_FIRST, 101, 6.009); /* rounding is no louder signal */
    e.noise_rate_hz = r->said[2].noise_rate_hz / 2;
    say(r, &e);
    assert_int_equal(r->n, 3);
    rig_free(r);
}

static void the_refractory_time_is_the_events(void **state)
{
    (void)state;
    const gw_merge_conf conf = conf_of(2);
    rig *r = rig_new(&conf);
    word(r, "search", GW_PHASE_FIRST, 100, 9);
    word(r, "search", GW_PHASE_FINAL, 100, 9);
    assert_said(r, 2, GW_PHASE_FINAL, 9);
    word(r, "search_clean", GW_PHASE_FIRST, 107.9, 8); /* not better: the same signal, not told */
    word(r, "search_clean", GW_PHASE_FINAL, 107.9, 8.5);
    assert_int_equal(r->n, 2);
    word(r, "search_clean", GW_PHASE_UPDATE, 107.95,
         10); /* better: told again, and the time counts from here */
    assert_said(r, 3, GW_PHASE_UPDATE, 10);
    word(r, "search_clean", GW_PHASE_FINAL, 107.95, 10);
    assert_said(r, 4, GW_PHASE_FINAL, 10);
    word(r, "search", GW_PHASE_FIRST, 115.9, 6);
    word(r, "search", GW_PHASE_FINAL, 115.9, 6);
    assert_int_equal(r->n, 4);
    word(r, "search", GW_PHASE_FIRST, 124, 4); /* another one */
    assert_said(r, 5, GW_PHASE_FIRST, 4);
    assert_string_equal(r->said[3].id, r->said[0].id);
    assert_string_not_equal(r->said[4].id, r->said[0].id);
    rig_free(r);
}

/* A branch's own event may outlive the merged one: what it says of a new peak belongs to the new event. */
static void the_nearest_peak_takes_a_word(void **state)
{
    (void)state;
    const gw_merge_conf conf = conf_of(2);
    rig *r = rig_new(&conf);
    word(r, "search", GW_PHASE_FIRST, 100, 9);
    word(r, "search", GW_PHASE_FINAL, 100, 9);
    word(r, "search_clean", GW_PHASE_FIRST, 107.9, 8);
    word(r, "search_clean", GW_PHASE_FINAL, 107.9, 8);
    word(r, "search", GW_PHASE_FIRST, 108.5, 7);
    assert_said(r, 3, GW_PHASE_FIRST, 7);
    gw_event e = a_word("search_clean", GW_PHASE_UPDATE, 108.6, 12);
    snprintf(e.id, sizeof e.id, "Gsearch_c107");
    say(r, &e);
    assert_said(r, 4, GW_PHASE_UPDATE, 12);
    assert_string_equal(r->said[3].id, r->said[2].id);
    rig_free(r);
}

static void a_silent_branch_is_not_waited_for(void **state)
{
    (void)state;
    const gw_merge_conf conf = conf_of(2);
    rig *r = rig_new(&conf);
    word(r, "search_clean", GW_PHASE_FIRST, 100, 7);
    word(r, "search", GW_PHASE_FIRST, 100, 6);
    word(r, "search", GW_PHASE_FINAL, 100, 6);
    gw_merge_reached(r->m, "search", gps0 + 110 * GW_SECOND_NS);
    collect(r);
    assert_int_equal(r->n, 1);
    gw_merge_reached(r->m, "search", gps0 + 111 * GW_SECOND_NS);
    collect(r);
    assert_said(r, 2, GW_PHASE_FINAL, 7);
    word(r, "search", GW_PHASE_FIRST, 130, 5); /* and at the end nobody is */
    gw_merge_end(r->m);
    collect(r);
    assert_said(r, 4, GW_PHASE_FINAL, 5);
    rig_free(r);
}

static void an_event_is_withdrawn_when_no_word_is_left(void **state)
{
    (void)state;
    const gw_merge_conf conf = conf_of(2);
    rig *r = rig_new(&conf);
    word(r, "search", GW_PHASE_FIRST, 100, 7);
    word(r, "search_clean", GW_PHASE_FIRST, 100, 6);
    word(r, "search", GW_PHASE_RETRACTED, 100, 7);
    assert_said(r, 2, GW_PHASE_UPDATE, 6);
    word(r, "search_clean", GW_PHASE_RETRACTED, 100, 6);
    assert_said(r, 3, GW_PHASE_RETRACTED, 6);
    assert_string_equal(r->said[2].id, r->said[0].id);
    word(r, "search", GW_PHASE_RETRACTED, 100, 7); /* of nothing */
    assert_int_equal(r->n, 3);
    rig_free(r);
}

static int known_before(void *user, int64_t gps_ns, int64_t refractory_ns, char id[GW_EVENT_ID_BYTES])
{
    const int64_t first_ns = *(int64_t *)user;
    if (llabs(gps_ns - first_ns) > refractory_ns)
        return 0;
    strcpy(id, "Gkept");
    return 1;
}

static void a_restart_goes_on_with_what_was_kept(void **state)
{
    (void)state;
    int64_t first_ns = gps0 + 99 * GW_SECOND_NS;
    gw_merge_conf conf = conf_of(2);
    conf.known = known_before;
    conf.user = &first_ns;
    rig *r = rig_new(&conf);
    word(r, "search", GW_PHASE_UPDATE, 100, 7); /* its FIRST went to who was here before */
    assert_said(r, 1, GW_PHASE_UPDATE, 7);
    assert_string_equal(r->said[0].id, "Gkept");
    word(r, "search", GW_PHASE_FINAL, 100, 7);
    assert_said(r, 2, GW_PHASE_FINAL, 7);
    word(r, "search", GW_PHASE_FINAL, 200, 5); /* nobody has heard of this one */
    assert_int_equal(r->n, 4);
    assert_int_equal(r->said[2].phase, GW_PHASE_FIRST);
    assert_said(r, 4, GW_PHASE_FINAL, 5);
    rig_free(r);

    r = rig_new(&conf); /* a replay says FIRST again */
    word(r, "search", GW_PHASE_FIRST, 100, 7);
    assert_said(r, 1, GW_PHASE_FIRST, 7);
    assert_string_equal(r->said[0].id, "Gkept");
    rig_free(r);
}

static void rates_compare_models_and_statistics_one(void **state)
{
    (void)state;
    const gw_merge_conf conf = conf_of(2);
    rig *r = rig_new(&conf);
    gw_event a = a_word("search", GW_PHASE_FIRST, 100, 7),
             b = a_word("search_clean", GW_PHASE_FIRST, 100, 50);
    memcpy(b.model_hash, "fedc", 4);
    b.alert = false;
    b.noise_rate_hz =
        a.noise_rate_hz; /* beyond both backgrounds: a statistic of another model says nothing */
    say(r, &a);
    say(r, &b);
    assert_int_equal(r->n, 1);
    b.phase = GW_PHASE_UPDATE;
    b.statistic = 1;
    b.noise_rate_hz = 0.4 * a.noise_rate_hz;
    b.told_ns += GW_SECOND_NS / 4;
    say(r, &b);
    assert_said(r, 2, GW_PHASE_UPDATE, 1);
    a.phase = GW_PHASE_UPDATE;
    a.noise_rate_hz = NAN; /* not a rate: never better */
    say(r, &a);
    assert_int_equal(r->n, 2);
    rig_free(r);
}

/* ---- order ---- */

static uint64_t seed = 1;

static double uniform(void)
{
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return ((double)(seed >> 11) + 0.5) * 0x1p-53;
}

/* What three branches say of some signals, each in its own order: FIRST, UPDATEs, FINAL, and ticks (statistic
 * NAN) between. Times are multiples of 1/32 s, so that branches often speak at one instant. */
static int make_words(const char *branch, gw_event *w)
{
    int n = 0;
    double reached_s = 90;
    for (int signal = 0; signal < 12; signal++) {
        const double at_s = 100 + 6 * signal + floor(32 * uniform()) / 32;
        double statistic = 3 + 6 * uniform();
        const int updates = (int)(3 * uniform());
        if (uniform() < 0.3)
            continue;
        for (; reached_s < at_s; reached_s += 1 + uniform()) {
            w[n] = a_word(branch, GW_PHASE_REACHED, reached_s, 0);
            w[n].pace = 0;
            n++;
        }
        for (int k = 0; k <= updates + 1; k++, n++) {
            const gw_phase phase = k == 0 ? GW_PHASE_FIRST : k <= updates ? GW_PHASE_UPDATE : GW_PHASE_FINAL;
            w[n] = a_word(branch, phase, at_s, statistic);
            w[n].pace = 0;
            w[n].told_ns = gps0 + (int64_t)((at_s + 0.0625 + k * 0.25) * 1e9);
            statistic += uniform();
        }
        reached_s = at_s + 1 + updates * 0.25;
    }
    return n;
}

static void the_order_of_arrival_changes_nothing(void **state)
{
    (void)state;
    enum { BRANCHES = 3, WORDS = 256 };
    static gw_event words[BRANCHES][WORDS];
    int n[BRANCHES], events = 0;
    const gw_merge_conf conf = conf_of(BRANCHES);
    for (int b = 0; b < BRANCHES; b++)
        n[b] = make_words(conf.branch[b], words[b]);
    rig *want = NULL;
    for (int round = 0; round < 200; round++) {
        rig *r = rig_new(&conf);
        int at[BRANCHES] = {0};
        /* round 0: one branch after the other; else any interleaving, some of them lopsided */
        const double bias = uniform();
        for (int left = n[0] + n[1] + n[2]; left > 0; left--) {
            int b = round == 0 ? 0 : uniform() < bias ? round % BRANCHES : (int)(BRANCHES * uniform());
            while (at[b] == n[b])
                b = (b + 1) % BRANCHES;
            const gw_event *e = &words[b][at[b]++];
            if (e->phase == GW_PHASE_REACHED)
                gw_merge_reached(r->m, e->stream, e->told_ns);
            else
                assert_int_equal(gw_merge_take(r->m, e), 0);
            if (uniform() < 0.7)
                collect(r);
        }
        gw_merge_end(r->m);
        collect(r);
        if (!want) {
            want = r;
            continue;
        }
        assert_int_equal(r->n, want->n);
        assert_memory_equal(r->said, want->said, (size_t)r->n * sizeof r->said[0]);
        rig_free(r);
    }
    for (int i = 0; i < want->n; i++)
        events += want->said[i].phase == GW_PHASE_FIRST;
    assert_true(events >= 4);
    assert_true(want->n > 2 * events);
    rig_free(want);
}

/* Held until every branch is past it, and no longer. */
static void a_word_is_held_for_the_others_alone(void **state)
{
    (void)state;
    const gw_merge_conf conf = conf_of(2);
    rig *r = rig_new(&conf);
    gw_event e = a_word("search", GW_PHASE_FIRST, 100, 7);
    e.pace = 0;
    say(r, &e);
    assert_int_equal(r->n, 0);
    gw_merge_reached(r->m, "search_clean", e.told_ns - 1);
    collect(r);
    assert_int_equal(r->n, 0);
    gw_merge_reached(r->m, "search_clean", e.told_ns);
    collect(r);
    assert_int_equal(r->n, 0); /* its own branch may yet say something of the same instant */
    gw_merge_reached(r->m, "search", e.told_ns);
    collect(r);
    assert_said(r, 1, GW_PHASE_FIRST, 7);
    rig_free(r);
}

/* ---- bounds ---- */

static void many_branches_with_long_names_stay_json(void **state)
{
    (void)state;
    static char names[GW_MERGE_BRANCHES][48];
    gw_merge_conf conf = {
        .group = "alerts", .n_branches = GW_MERGE_BRANCHES, .refractory_ns = 8 * GW_SECOND_NS};
    for (int b = 0; b < GW_MERGE_BRANCHES; b++) {
        snprintf(names[b], sizeof names[b], "branch-%02d-\"quoted\\-%021d", b % 100, 7);
        conf.branch[b] = names[b];
    }
    rig *r = rig_new(&conf);
    for (int b = 0; b < GW_MERGE_BRANCHES; b++) {
        gw_event e = a_word(names[b], GW_PHASE_FIRST, 100 + 0.25 * b, 5 + 2 * b);
        memset(e.model, 'x', sizeof e.model);
        memset(e.model_hash, '"', sizeof e.model_hash);
        if (b % 2) {
            memset(e.detail, ' ', sizeof e.detail);
            e.detail[0] = '{';
            snprintf(e.detail + sizeof e.detail - 10, 10, "\"a\":\"b\"}");
        }
        say(r, &e);
        assert_string_equal(ask(&r->said[r->n - 1], NULL), "1");
        assert_string_equal(ask(&r->said[r->n - 1], "$.trials"), "16");
        assert_string_not_equal(ask(&r->said[r->n - 1], "$.branches[0].stream"), "(null)");
    }
    assert_int_equal(r->n, GW_MERGE_BRANCHES);
    gw_event stranger = a_word("nobody", GW_PHASE_FIRST, 100, 5);
    assert_int_equal(gw_merge_take(r->m, &stranger), GW_EBUG);
    assert_false(gw_merge_has_branch(r->m, "nobody"));
    rig_free(r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_signal_is_one_event),
        cmocka_unit_test(what_grows_little_waits_for_the_end),
        cmocka_unit_test(the_refractory_time_is_the_events),
        cmocka_unit_test(the_nearest_peak_takes_a_word),
        cmocka_unit_test(a_silent_branch_is_not_waited_for),
        cmocka_unit_test(an_event_is_withdrawn_when_no_word_is_left),
        cmocka_unit_test(a_restart_goes_on_with_what_was_kept),
        cmocka_unit_test(rates_compare_models_and_statistics_one),
        cmocka_unit_test(the_order_of_arrival_changes_nothing),
        cmocka_unit_test(a_word_is_held_for_the_others_alone),
        cmocka_unit_test(many_branches_with_long_names_stay_json),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
