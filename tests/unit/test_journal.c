/* SPDX-License-Identifier: GPL-3.0-or-later
 * The journal: what is written is read back (by SQLite's own functions as well as ours), names are given
 * once, figures are right, and what is no journal is refused and left alone. */
#include "pipeline/block.h"
#include "pipeline/log.h"
#include "sinks/journal.h"

#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/unit/journal_rig.h"

/* Every field is in the text, but for the detail; padding is nobody's. */
static void assert_same(const gw_event *a, const gw_event *b)
{
    char text[2][GW_JOURNAL_JSON_BYTES];
    assert_true(gw_event_json(a, b->gps_ns, text[0], sizeof text[0]) > 0);
    assert_true(gw_event_json(b, b->gps_ns, text[1], sizeof text[1]) > 0);
    assert_string_equal(text[0], text[1]);
    assert_string_equal(a->detail, b->detail);
}

static bool commit(gw_journal *j, gw_event e, double latency_s)
{
    return commit_event(j, &e, latency_s);
}

static int copy_row(void *to, const gw_journal_row *row)
{
    memcpy(to, row, sizeof *row);
    return 0;
}

static void every_field_comes_back(void **state)
{
    (void)state;
    gw_journal *j = NULL;
    assert_int_equal(gw_journal_open(&j, path), 0);
    gw_event e = an_event("G0011", GW_PHASE_FINAL, AT);
    e.gps_ns += 439512345;
    e.decided_ns = GW_NOT_KNOWN_NS;
    commit(j, e, 0.25);
    gw_journal_close(&j);
    assert_null(j);

    assert_string_equal(ask("SELECT id || ' ' || phase || ' ' || serial FROM events"), "G0011 final 1");
    assert_string_equal(ask("SELECT gps_ns FROM events"), "1400000000439512345");
    assert_string_equal(
        ask("SELECT decided_ns IS NULL AND statistic = 7.25 AND dq = 2031743 AND alert FROM events"), "1");
    assert_string_equal(ask("SELECT round(latency_s, 6) FROM events"), "0.25");
    assert_string_equal(ask("SELECT detail FROM events"), "{\"a\":\"it's\"}");
    assert_string_equal(ask("PRAGMA journal_mode"), "wal");
    assert_string_equal(ask("PRAGMA integrity_check"), "ok");
    /* the text as published, read by a JSON reader that is not ours */
    assert_string_equal(ask("SELECT json_valid(json) FROM events"), "1");
    assert_string_equal(
        ask("SELECT json_extract(json, '$.serial') || json_extract(json, '$.id') FROM events"), "1G0011");

    gw_journal_row r;
    assert_int_equal(gw_journal_open_read(&j, path), 0);
    assert_int_equal(gw_journal_each(j, &(gw_journal_query){.id = "G00"}, copy_row, &r), 0);
    gw_journal_close(&j);
    assert_same(&r.event, &e);
    assert_int_equal(r.serial, 1);
    assert_true(isnan(r.first_latency_s));
}

static int count_rows(void *n, const gw_journal_row *row)
{
    (void)row;
    ++*(int *)n;
    return 0;
}

static void a_replay_adds_nothing(void **state)
{
    (void)state;
    for (int run = 1; run <= 3; run++) {
        gw_journal *j = NULL;
        assert_int_equal(gw_journal_open(&j, path), 0);
        assert_int_equal(gw_journal_run(j), run);
        for (int i = 0; i < 5; i++) { /* first, three updates, final */
            gw_phase p = i == 0 ? GW_PHASE_FIRST : i == 4 ? GW_PHASE_FINAL : GW_PHASE_UPDATE;
            assert_int_equal(commit(j, an_event("Gaa", p, AT + i * 0.01), 0.2), run > 1);
        }
        gw_event truth = an_event("", GW_PHASE_INJECTION, AT + 0.012);
        assert_int_equal(gw_journal_put_injection(j, &truth), 0);
        gw_journal_summary s;
        assert_int_equal(gw_journal_summarise(j, run, &s), 0);
        assert_int_equal(
            s.phases[GW_PHASE_FIRST] + 10 * s.phases[GW_PHASE_UPDATE] + 100 * s.phases[GW_PHASE_FINAL], 131);
        assert_int_equal(s.timed, run == 1); /* what was published long ago has no latency today */
        assert_int_equal(s.injections * 10 + s.found, 11);
        gw_journal_close(&j);
        assert_string_equal(ask("SELECT count(*) || ' ' || max(serial) || ' ' || max(last_run) FROM events"),
                            run == 1   ? "5 3 1"
                            : run == 2 ? "5 3 2"
                                       : "5 3 3");
        assert_string_equal(ask("SELECT count(*) FROM injections"), "1");
    }
}

/* A louder signal within the refractory time re-opens an event. */
static void a_reopened_event_has_a_second_final(void **state)
{
    (void)state;
    static const gw_phase said[] = {GW_PHASE_FIRST, GW_PHASE_FINAL, GW_PHASE_UPDATE, GW_PHASE_FINAL};
    for (int run = 1; run <= 2; run++) {
        gw_journal *j = NULL;
        assert_int_equal(gw_journal_open(&j, path), 0);
        for (int i = 0; i < 4; i++) {
            gw_event e = an_event("Gaa", said[i], AT + 0.5 * i);
            e.statistic = 5 + i;
            assert_int_equal(commit(j, e, 0.3), run == 2);
        }
        gw_journal_close(&j);
        assert_string_equal(ask("SELECT group_concat(phase || serial || '@' || statistic) FROM events"),
                            "first1@5.0,final1@6.0,update1@7.0,final2@8.0");
        assert_string_equal(ask("SELECT count(*) FROM events WHERE published_ns IS NULL"), "0");
    }
}

static int warnings;

static void count_warnings(bool before)
{
    warnings += before;
}

/* One run that tells one event in three phases, changed by so much; returns how many of them the journal
 * took for repetitions. */
static int tell(double shift_s, double more, bool alert, bool injection)
{
    gw_journal *j = NULL;
    int repeated = 0;
    assert_int_equal(gw_journal_open(&j, path), 0);
    for (int p = GW_PHASE_FIRST; p <= GW_PHASE_FINAL; p++) {
        gw_event e = an_event("Gaa", (gw_phase)p, AT + shift_s);
        e.statistic += more + p;
        e.alert = alert;
        e.injection = injection;
        repeated += commit(j, e, 0.2 + more);
    }
    gw_journal_summary s;
    assert_int_equal(gw_journal_summarise(j, gw_journal_run(j), &s), 0);
    assert_int_equal(s.events, 1); /* though its rows may be older than those of another run */
    assert_int_equal(s.alerts, alert);
    gw_journal_close(&j);
    return repeated;
}

static void another_event_under_the_same_id_is_kept(void **state)
{
    (void)state;
    gw_log_set_hook(count_warnings);
    warnings = 0;
    assert_int_equal(tell(0, 0, true, false), 0);
    assert_int_equal(tell(0.0009, 0.007, true, false), 3); /* within the tolerances: the same */
    assert_int_equal(warnings, 0);
    assert_int_equal(tell(0.0011, 0, true, false), 0); /* another recording */
    assert_int_equal(warnings, 1);                     /* an id, not a phase */
    assert_int_equal(tell(0, 0.02, true, false), 0);
    assert_int_equal(tell(0, 0, false, false), 0); /* another threshold */
    assert_int_equal(tell(0, 0, true, true), 0);   /* a control */
    assert_int_equal(warnings, 4);
    assert_string_equal(ask("SELECT count(*) || ' ' || max(serial) FROM events"), "15 5");
    assert_int_equal(tell(0, 0, true, false), 3); /* each of them once more */
    assert_int_equal(tell(0.0011, 0, true, false), 3);
    assert_int_equal(tell(0, 0.02, true, false), 3);
    assert_int_equal(tell(0, 0, false, false), 3);
    assert_int_equal(tell(0, 0, true, true), 3);
    assert_int_equal(warnings, 4);
    gw_log_set_hook(NULL);
    assert_string_equal(ask("SELECT count(*) || ' ' || max(serial) FROM events"), "15 5");

    gw_journal *j = NULL;
    gw_journal_row r;
    assert_int_equal(gw_journal_open_read(&j, path), 0);
    const gw_journal_query last = {.latest = true};
    assert_int_equal(gw_journal_each(j, &last, copy_row, &r), 0);
    assert_true(r.event.injection && fabs(r.first_latency_s - 0.2) < 1e-6);
    gw_journal_close(&j);
}

static int copy_truth(void *to, const gw_journal_truth *t)
{
    gw_journal_truth **next = to;
    *(*next)++ = *t;
    return 0;
}

/* Virgo hears it 20 ms after the others; who was not in the search is not waited for. */
static void injections_are_compared_at_the_events_own_detectors(void **state)
{
    (void)state;
    static const char *const detectors[] = {"H1,L1,V1", "H1,L1", "H1", "K1", "L1"};
    static const double late[] = {0.020, 0.007, 0, 0.020, 0.007};
    gw_journal *j = NULL;
    assert_int_equal(gw_journal_open(&j, path), 0);
    for (int i = 0; i < 5; i++) {
        char id[16];
        double at = AT + 10 * i;
        snprintf(id, sizeof id, "G%d", i);
        /* the last one is near enough to where L1 heard it only if it is compared with that */
        gw_event e = an_event(id, GW_PHASE_FINAL, at + late[i] + (i == 4 ? -0.499 : 0.001));
        snprintf(e.detectors, sizeof e.detectors, "%s", detectors[i]);
        commit(j, e, 0.2);
        gw_event t = an_event("", GW_PHASE_INJECTION, at + 0.020);
        snprintf(t.detail, sizeof t.detail, "{\"gps\":{\"H1\":%.9f,\"L1\":%.9f,\"V1\":%.9f}}", at, at + 0.007,
                 at + 0.020);
        assert_int_equal(gw_journal_put_injection(j, &t), 0);
    }
    gw_event broken = an_event("", GW_PHASE_INJECTION, AT + 0.003); /* no JSON: its own time */
    snprintf(broken.detail, sizeof broken.detail, "{\"gps\":{");
    assert_int_equal(gw_journal_put_injection(j, &broken), 0);

    gw_journal_truth t[6], *next = t;
    assert_int_equal(gw_journal_each_truth(j, &(gw_journal_truths){0}, copy_truth, &next), 0);
    assert_int_equal(next - t, 6);
    for (int i = 0; i < 6; i++) {
        double want = i == 0 ? 0.018 : i == 5 ? -0.499 : 0.001;
        if (!t[i].found || fabs(t[i].offset_s - want) > 1e-6)
            fail_msg("injection %d: found %d, offset %g s, want %g s", i, t[i].found, t[i].offset_s, want);
    }
    next = t;
    const gw_journal_truths last = {.since_ns = (int64_t)AT * GW_SECOND_NS + 10000000, .limit = 2};
    assert_int_equal(gw_journal_each_truth(j, &last, copy_truth, &next), 0);
    assert_int_equal(next - t, 2);
    assert_string_equal(t[0].id, "G3");
    gw_journal_close(&j);
}

static void what_was_not_published_is_pending(void **state)
{
    (void)state;
    gw_journal *j = NULL;
    int serial, n = 0;
    bool published;
    assert_int_equal(gw_journal_open(&j, path), 0);
    commit(j, an_event("Gaa", GW_PHASE_FIRST, AT), 0.2);
    gw_event e = an_event("Gaa", GW_PHASE_UPDATE, AT);
    assert_int_equal(gw_journal_put(j, &e, &serial, &published), 0);
    assert_int_equal(gw_journal_each(j, &(gw_journal_query){.pending = true}, count_rows, &n), 0);
    assert_int_equal(n, 1);
    gw_journal_close(&j);

    assert_int_equal(gw_journal_open(&j, path), 0);
    gw_journal_row r = {0};
    assert_int_equal(gw_journal_each(j, &(gw_journal_query){.pending = true}, copy_row, &r), 0);
    assert_same(&r.event, &e);
    char json[GW_JOURNAL_JSON_BYTES];
    assert_true(gw_journal_json(&e, 1, e.gps_ns, true, json, sizeof json) > 0);
    assert_int_equal(gw_journal_mark(j, &e, 1, e.gps_ns, true, json), 0);
    assert_int_equal(gw_journal_put(j, &e, &serial, &published), 0);
    assert_true(published && serial == 1);
    n = 0;
    assert_int_equal(gw_journal_each(j, &(gw_journal_query){.pending = true}, count_rows, &n), 0);
    assert_int_equal(n, 0);
    gw_journal_close(&j);
    assert_string_equal(
        ask("SELECT json_extract(json, '$.wall.recovered') FROM events WHERE phase = 'update'"), "1");
    assert_string_equal(ask("SELECT json_type(json, '$.wall.latency') FROM events WHERE phase = 'update'"),
                        "object");
}

static void the_figures_of_a_run(void **state)
{
    (void)state;
    gw_journal *j = NULL;
    assert_int_equal(gw_journal_open(&j, path), 0);
    static const double latency[] = {0.30, 0.10, 0.20, 0.90};
    for (int i = 0; i < 4; i++) {
        char id[16];
        snprintf(id, sizeof id, "G%d", i);
        commit(j, an_event(id, GW_PHASE_FIRST, AT + 10 * i), latency[i]);
        commit(j, an_event(id, i == 3 ? GW_PHASE_RETRACTED : GW_PHASE_FINAL, AT + 10 * i + 0.004), 1);
    }
    /* found, found by an earlier event, too far, near a retracted one, twice the same */
    static const double truth[] = {0.002, 9.990, 20.505, 30, 0.002};
    for (int i = 0; i < 5; i++) {
        gw_event t = an_event("", GW_PHASE_INJECTION, AT + truth[i]);
        snprintf(t.detail, sizeof t.detail, "{\"network_snr\":%g}", 8 + truth[i]);
        assert_int_equal(gw_journal_put_injection(j, &t), 0);
    }
    gw_journal_close(&j);

    gw_journal_summary s;
    assert_int_equal(gw_journal_open_read(&j, path), 0);
    assert_int_equal(gw_journal_summarise(j, gw_journal_run(j), &s), 0);
    gw_journal_close(&j);
    assert_int_equal(s.run, 1);
    assert_int_equal(s.events, 4);
    assert_int_equal(s.alerts, 4);
    assert_int_equal(s.timed, 4);
    assert_true(fabs(s.latency_median_s - 0.25) < 1e-9 && fabs(s.latency_max_s - 0.9) < 1e-9);
    assert_int_equal(s.injections, 4);
    assert_int_equal(s.found, 2);
    assert_true(fabs(s.offset_max_s - 0.014) < 1e-6);
    char text[512];
    assert_non_null(
        strstr(gw_journal_summary_text(&s, text, sizeof text), "median 250 ms, longest 900 ms (of 4)"));
    assert_non_null(strstr(text, "2 of 4 found, event time within 14.0 ms"));
}

static void refuse(const char *file, int err, const char *says)
{
    gw_journal *j = NULL;
    int got = gw_journal_open(&j, file);
    if (got != err || !strstr(gw_err_detail(), says) || !strstr(gw_err_detail(), file))
        fail_msg("%s: got %s '%s', want %s '%s'", file, gw_err_name(got), gw_err_detail(), gw_err_name(err),
                 says);
    assert_null(j);
}

static void what_is_no_journal_is_refused(void **state)
{
    (void)state;
    char other[80];
    gw_journal *j = NULL;

    refuse(dir, GW_EACCESS, "is a directory");
    snprintf(other, sizeof other, "%s/none/j.sqlite", dir);
    refuse(other, GW_EMISSING, "No such file");
    refuse("/proc/gw-j.sqlite", GW_EMISSING, "No such file"); /* nobody can write there */
    assert_int_equal(gw_journal_open_read(&j, path), GW_EMISSING);
    assert_null(j);

    FILE *f = fopen(path, "w");
    fputs("id,phase\nnot an SQLite file, though long enough to have had a header of one hundred bytes at its "
          "start,"
          " if it had been one\n",
          f);
    long size = ftell(f);
    fclose(f);
    refuse(path, GW_EFORMAT, "not an SQLite file");
    assert_int_equal(gw_journal_open_read(&j, path), GW_EFORMAT);
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_size, size); /* untouched */
    assert_int_equal(unlink(path), 0);

    run_sql("CREATE TABLE bookmarks (url TEXT)");
    refuse(path, GW_EFORMAT, "of another program");
    assert_string_equal(ask("SELECT count(*) FROM sqlite_master"), "1");
    assert_int_equal(unlink(path), 0);

    assert_int_equal(gw_journal_open(&j, path), 0);
    refuse(path, GW_EBUSY, "another gwstream is writing it");
    gw_journal_close(&j);
    run_sql("UPDATE schema SET version = 7");
    refuse(path, GW_ENOTSUP, "newer gwstream");
    assert_int_equal(gw_journal_open_read(&j, path), GW_ENOTSUP);
    run_sql("UPDATE schema SET version = 2; PRAGMA wal_checkpoint(TRUNCATE)");

    f = fopen(path, "r+"); /* a file whose first page is there and whose others are noise */
    fseek(f, 4096, SEEK_SET);
    for (int i = 0; i < 20000; i++)
        fputc(i * 73 % 251, f);
    fclose(f);
    refuse(path, GW_EFORMAT, "damaged");
    snprintf(other, sizeof other, "%s-lock", path);
    assert_int_not_equal(access(other, F_OK), 0);
}

static void a_locked_journal_is_busy(void **state)
{
    (void)state;
    gw_journal *j = NULL;
    sqlite3 *db;
    int serial;
    bool published;
    assert_int_equal(gw_journal_open(&j, path), 0);
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, "BEGIN IMMEDIATE", NULL, NULL, NULL), SQLITE_OK);
    gw_event e = an_event("Gaa", GW_PHASE_FIRST, AT);
    int64_t start = gw_monotonic_ns();
    assert_int_equal(gw_journal_put(j, &e, &serial, &published), GW_EBUSY);
    assert_true(gw_monotonic_ns() - start > 4 * GW_SECOND_NS);
    assert_non_null(strstr(gw_err_detail(), path));
    assert_int_equal(sqlite3_exec(db, "ROLLBACK", NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(db);
    assert_int_equal(gw_journal_put(j, &e, &serial, &published), 0); /* and works again */
    gw_journal_close(&j);
}

static void a_full_disk_is_said(void **state)
{
    (void)state;
    gw_journal *j = NULL;
    assert_int_equal(gw_journal_open(&j, path), 0);
    struct rlimit old, tight = {.rlim_cur = 160000};
    getrlimit(RLIMIT_FSIZE, &old);
    tight.rlim_max = old.rlim_max;
    signal(SIGXFSZ, SIG_IGN);
    setrlimit(RLIMIT_FSIZE, &tight);
    int err = 0, n = 0, serial;
    bool published;
    for (; err == 0 && n < 1000; n++) {
        char id[16];
        snprintf(id, sizeof id, "G%d", n);
        gw_event e = an_event(id, GW_PHASE_FIRST, AT + n);
        err = gw_journal_put(j, &e, &serial, &published);
    }
    setrlimit(RLIMIT_FSIZE, &old);
    assert_int_equal(err, GW_EIO);
    assert_true(n > 1);
    char want[32];
    snprintf(want, sizeof want, "%d", n - 1);
    gw_journal_close(&j);
    assert_string_equal(ask("SELECT count(*) FROM events"), want); /* all that were promised */
    assert_string_equal(ask("PRAGMA integrity_check"), "ok");
}

static int add_first(void *user, const char *id, int64_t gps_ns)
{
    char *seen = user;
    sprintf(seen + strlen(seen), "%s %d ", id, (int)((gps_ns - AT * GW_SECOND_NS) / 1000000));
    return strcmp(id, "Gstop") == 0 ? 7 : 0;
}

static void first_words_are_found_by_their_time(void **state)
{
    (void)state;
    static const struct {
        const char *id;
        gw_phase phase;
        double at_s;
    } said[] = {{"Ga", GW_PHASE_FIRST, 0},
                {"Ga", GW_PHASE_FINAL, 5},
                {"Gb", GW_PHASE_FIRST, 8},
                {"Gstop", GW_PHASE_FIRST, 20}};
    char seen[256] = "";
    gw_journal *j = NULL;
    int serial;
    bool published;
    assert_int_equal(gw_journal_open(&j, path), 0);
    for (size_t i = 0; i < sizeof said / sizeof *said; i++) {
        const gw_event e = an_event(said[i].id, said[i].phase, AT + said[i].at_s);
        assert_int_equal(gw_journal_put(j, &e, &serial, &published), 0);
    }
    const int64_t at = AT * GW_SECOND_NS;
    assert_int_equal(gw_journal_each_first(j, at, INT64_MAX, add_first, seen), 0); /* of this run */
    assert_string_equal(seen, "");
    gw_journal_close(&j);
    assert_int_equal(gw_journal_open(&j, path), 0);
    assert_int_equal(gw_journal_each_first(j, at, at + 8 * GW_SECOND_NS, add_first, seen), 0);
    assert_string_equal(seen, "Ga 0 Gb 8000 ");
    assert_int_equal(gw_journal_each_first(j, at + 1, INT64_MAX, add_first, seen), 7);
    gw_journal_close(&j);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(first_words_are_found_by_their_time, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(every_field_comes_back, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(a_replay_adds_nothing, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(a_reopened_event_has_a_second_final, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(another_event_under_the_same_id_is_kept, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(injections_are_compared_at_the_events_own_detectors, make_dir,
                                        remove_dir),
        cmocka_unit_test_setup_teardown(what_was_not_published_is_pending, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(the_figures_of_a_run, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(what_is_no_journal_is_refused, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(a_locked_journal_is_busy, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(a_full_disk_is_said, make_dir, remove_dir),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
