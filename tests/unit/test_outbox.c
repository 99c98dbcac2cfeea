/* SPDX-License-Identifier: GPL-3.0-or-later
 * The journal as a queue of what a broker has not acknowledged: what is for it, in which order, until when;
 * and a journal that was written before there were brokers. And what a row becomes as a message: which tense,
 * which id, which headers. No broker is asked. */
#include "sinks/broker.h"
#include "sinks/journal.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/unit/journal_rig.h"

/* Each phase of its own loudness. */
static gw_event a_word(const char *id, gw_phase phase, bool alert)
{
    gw_event e = an_event(id, phase, AT);
    e.alert = alert;
    e.statistic += (int)phase;
    return e;
}

static void commit(gw_journal *j, const char *id, gw_phase phase, bool alert)
{
    const gw_event e = a_word(id, phase, alert);
    int serial = 0;
    bool published = false;
    assert_int_equal(gw_journal_put(j, &e, &serial, &published), 0);
    assert_false(published);
}

/* The waiting rows as text: "A first 1, B first 1". */
static const char *waiting(gw_outbox *o, gw_outbox_row row[8])
{
    static char text[512];
    const int n = gw_outbox_take(o, row, 8, NULL, NULL);
    assert_true(n >= 0);
    text[0] = '\0';
    for (int i = 0; i < n; i++)
        snprintf(text + strlen(text), sizeof text - strlen(text), "%s%s %s %d", i ? ", " : "",
                 row[i].event.id, gw_phase_text(row[i].event.phase), row[i].record);
    return text;
}

static void settle(gw_outbox *o, gw_outbox_row *row, const char *refused)
{
    row->acked_ns = row->event.anchor_wall_ns + GW_SECOND_NS;
    snprintf(row->refused, sizeof row->refused, "%s", refused);
    assert_int_equal(gw_outbox_settle(o, &row, 1), 0);
}

static void alerts_wait_in_order_one_an_event(void **state)
{
    (void)state;
    gw_journal *j;
    gw_outbox *o;
    gw_outbox_row row[8];
    assert_int_equal(gw_journal_open(&j, path), 0);
    commit(j, "OLD", GW_PHASE_FIRST, true); /* before the broker was known */
    assert_int_equal(gw_outbox_open(&o, path, "b", false, GW_OUTBOX_ANY), 0);
    assert_string_equal(waiting(o, row), "");
    commit(j, "A", GW_PHASE_FIRST, false); /* a candidate */
    assert_string_equal(waiting(o, row), "");
    commit(j, "A", GW_PHASE_UPDATE, true);
    commit(j, "A", GW_PHASE_FINAL, true);
    commit(j, "B", GW_PHASE_FIRST, true);
    assert_string_equal(waiting(o, row), "A update 1, B first 1");
    int64_t n = 0;
    assert_int_equal(gw_outbox_count(o, &n), 0);
    assert_int_equal(n, 3);
    settle(o, &row[0], "");
    assert_string_equal(waiting(o, row), "A final 2, B first 1");
    settle(o, &row[1], "too large");
    assert_string_equal(waiting(o, row), "A final 2");
    gw_outbox_close(&o); /* a crash: it waits still */
    assert_int_equal(gw_outbox_open(&o, path, "b", false, GW_OUTBOX_ANY), 0);
    assert_string_equal(waiting(o, row), "A final 2");
    settle(o, &row[0], "");
    assert_string_equal(waiting(o, row), "");
    assert_string_equal(waiting(o, row), "");
    commit(j, "A", GW_PHASE_RETRACTED, false); /* of an alert */
    commit(j, "C", GW_PHASE_FIRST, false);
    commit(j, "C", GW_PHASE_RETRACTED, false); /* of what nobody was told */
    assert_string_equal(waiting(o, row), "A retracted 3");
    gw_outbox_close(&o);
    gw_journal_close(&j);
}

static void brokers_do_not_know_of_each_other(void **state)
{
    (void)state;
    gw_journal *j;
    gw_outbox *a, *b;
    gw_outbox_row row[8];
    assert_int_equal(gw_journal_open(&j, path), 0);
    assert_int_equal(gw_journal_set_origin(j, "sim"), 0);
    assert_int_equal(gw_outbox_open(&a, path, "a", false, GW_OUTBOX_ANY), 0);
    assert_int_equal(gw_outbox_open(&b, path, "b", true, GW_OUTBOX_ANY), 0); /* candidates too */
    commit(j, "A", GW_PHASE_FIRST, false);
    commit(j, "A", GW_PHASE_UPDATE, true);
    assert_string_equal(waiting(b, row), "A first 1");
    settle(b, &row[0], "");
    assert_string_equal(waiting(b, row), "A update 2");
    assert_string_equal(waiting(a, row), "A update 1");
    assert_string_equal(row[0].origin, "sim");
    gw_outbox_close(&a);
    gw_outbox_close(&b);
    gw_journal_close(&j);
}

/* What versions 4 and 3 brought, taken away. */
#define NOT_4                                                                                                \
    "ALTER TABLE orders DROP COLUMN run;"                                                                    \
    "DROP VIEW latest; ALTER TABLE events DROP COLUMN archived; CREATE VIEW latest AS SELECT * FROM"         \
    " events AS e WHERE number = (SELECT max(number) FROM events AS o WHERE o.id = e.id);"
#define OLDER                                                                                                \
    NOT_4                                                                                                    \
    "DROP VIEW latest; ALTER TABLE events DROP COLUMN gps_error_s; CREATE VIEW latest AS SELECT * FROM"      \
    " events AS e WHERE number = (SELECT max(number) FROM events AS o WHERE o.id = e.id);"                   \
    "DROP TABLE orders; DROP INDEX broker_ack_again;"                                                        \
    "ALTER TABLE broker_ack DROP COLUMN again;"

static int count_rows(void *user, const gw_journal_row *row)
{
    assert_true(isnan(row->event.gps_error_s) && row->event.statistic > 0);
    return ++*(int *)user;
}

static void a_journal_of_version_1_goes_on(void **state)
{
    (void)state;
    gw_journal *j;
    gw_outbox *o;
    gw_outbox_row row[8];
    assert_int_equal(gw_journal_open(&j, path), 0);
    commit(j, "OLD", GW_PHASE_FIRST, true);
    gw_journal_close(&j);
    run_sql(OLDER "DROP TABLE brokers; DROP TABLE broker_ack; ALTER TABLE runs DROP COLUMN origin;"
                  "UPDATE schema SET version = 1");
    assert_int_equal(gw_journal_open_read(&j, path), 0); /* reading changes nothing */
    assert_int_equal(gw_journal_each(j, &(gw_journal_query){0}, count_rows, &(int){0}), 1);
    gw_journal_close(&j);
    assert_int_equal(gw_journal_open(&j, path), 0);
    assert_int_equal(gw_outbox_open(&o, path, "b", false, GW_OUTBOX_ANY), 0);
    assert_string_equal(waiting(o, row), "");
    commit(j, "A", GW_PHASE_FIRST, true);
    assert_string_equal(waiting(o, row), "A first 1");
    assert_string_equal(row[0].origin, "live");
    settle(o, &row[0], "");
    run_sql("UPDATE brokers SET since = 0"); /* what was there may have been of any data */
    gw_outbox_close(&o);
    assert_int_equal(gw_outbox_open(&o, path, "b", false, GW_OUTBOX_SKY), 0);
    assert_string_equal(waiting(o, row), "");
    gw_outbox_close(&o);
    assert_int_equal(gw_outbox_open(&o, path, "b", false, GW_OUTBOX_ANY), 0);
    assert_string_equal(waiting(o, row), "OLD first 1");
    assert_string_equal(row[0].origin, "unknown");
    gw_outbox_close(&o);
    gw_journal_close(&j);
    assert_int_equal(gw_journal_open(&j, path), 0); /* and once only */
    gw_journal_close(&j);
}

static void a_journal_of_version_3_goes_on(void **state)
{
    (void)state;
    gw_journal *j;
    gw_outbox *o;
    gw_outbox_row row[8];
    assert_int_equal(gw_journal_open(&j, path), 0);
    commit(j, "A", GW_PHASE_FIRST, true);
    gw_journal_close(&j);
    run_sql(NOT_4 "UPDATE schema SET version = 3");
    assert_int_equal(gw_journal_open_read(&j, path), 0); /* reading changes nothing */
    gw_journal_close(&j);
    assert_int_equal(gw_journal_open(&j, path), 0);
    assert_int_equal(gw_outbox_open(&o, path, "b", false, GW_OUTBOX_SKY), 0);
    commit(j, "A", GW_PHASE_FINAL, true);
    assert_string_equal(waiting(o, row), "A final 2");
    gw_outbox_close(&o);
    gw_journal_close(&j);
}

/* A journal in which a replay, a live run and marked data have left their words. */
static void only_the_sky_reaches_far(void **state)
{
    (void)state;
    gw_journal *j;
    gw_outbox *sky, *run, *any;
    gw_outbox_row row[8];
    int serial = 0;
    bool published = false;
    assert_int_equal(gw_journal_open(&j, path), 0);
    assert_int_equal(gw_journal_set_origin(j, "replay"), 0);
    assert_int_equal(gw_outbox_open(&sky, path, "b", false, GW_OUTBOX_SKY), 0);
    commit(j, "A", GW_PHASE_FIRST, true);
    gw_outbox_close(&sky);
    gw_journal_close(&j);

    assert_int_equal(gw_journal_open(&j, path), 0);
    gw_event marked = a_word("B", GW_PHASE_FIRST, true);
    marked.archived = true;
    assert_int_equal(gw_journal_put(j, &marked, &serial, &published), 0);
    commit(j, "C", GW_PHASE_FIRST, true);
    assert_int_equal(gw_outbox_open(&sky, path, "b", false, GW_OUTBOX_SKY), 0);
    assert_int_equal(gw_outbox_open(&run, path, "b", false, GW_OUTBOX_SKY_RUN), 0);
    assert_int_equal(gw_outbox_open(&any, path, "b", false, GW_OUTBOX_ANY), 0);
    assert_string_equal(waiting(sky, row), "C first 1");
    assert_string_equal(waiting(run, row), "B first 1, C first 1");
    assert_true(row[0].event.archived && !row[1].event.archived);
    assert_string_equal(waiting(any, row), "A first 1, B first 1, C first 1");
    marked = a_word("A", GW_PHASE_FIRST, true); /* this run says it too */
    assert_int_equal(gw_journal_put(j, &marked, &serial, &published), 0);
    gw_outbox_close(&run);
    assert_int_equal(gw_outbox_open(&run, path, "b", false, GW_OUTBOX_SKY_RUN), 0);
    assert_string_equal(waiting(run, row), "A first 1, B first 1, C first 1");
    assert_string_equal(waiting(sky, row), "C first 1");
    gw_outbox_close(&sky);
    gw_outbox_close(&run);
    gw_outbox_close(&any);
    gw_journal_close(&j);
}

static void what_a_broker_never_had_is_not_retracted_there(void **state)
{
    (void)state;
    gw_journal *j;
    gw_outbox *o;
    gw_outbox_row row[8];
    assert_int_equal(gw_journal_open(&j, path), 0);
    commit(j, "OLD", GW_PHASE_FIRST, true);
    assert_int_equal(gw_outbox_open(&o, path, "b", false, GW_OUTBOX_ANY), 0);
    commit(j, "OLD", GW_PHASE_RETRACTED, true);
    commit(j, "NEW", GW_PHASE_FIRST, true);
    commit(j, "NEW", GW_PHASE_RETRACTED, true);
    assert_string_equal(waiting(o, row), "NEW first 1");
    settle(o, &row[0], "");
    assert_string_equal(waiting(o, row), "NEW retracted 2");
    gw_outbox_close(&o);
    gw_journal_close(&j);
}

static void the_name_is_of_the_first_word(void **state)
{
    (void)state;
    gw_journal *j;
    gw_outbox *o;
    gw_outbox_row row[8];
    int serial = 0, records = 0;
    bool published = false;
    int64_t named_ns = 7;
    assert_int_equal(gw_journal_open(&j, path), 0);
    assert_int_equal(gw_outbox_open(&o, path, "b", false, GW_OUTBOX_ANY), 0);
    commit(j, "A", GW_PHASE_FIRST, true);
    gw_event later = a_word("A", GW_PHASE_UPDATE, true);
    const int64_t at_ns = later.gps_ns;
    later.gps_ns += 5 * GW_SECOND_NS;
    assert_int_equal(gw_journal_put(j, &later, &serial, &published), 0);
    assert_string_equal(waiting(o, row), "A first 1");
    settle(o, &row[0], "");
    assert_string_equal(waiting(o, row), "A update 2");
    assert_true(row[0].named_ns == at_ns && row[0].event.gps_ns != at_ns);
    assert_int_equal(gw_outbox_records(o, "B", &records, &named_ns), 0);
    assert_true(records == 0 && named_ns == 7);
    assert_int_equal(gw_outbox_records(o, "A", &records, &named_ns), 0);
    assert_true(records == 2 && named_ns == at_ns);
    gw_outbox_close(&o);
    gw_journal_close(&j);
}

static void a_journal_of_version_2_goes_on(void **state)
{
    (void)state;
    gw_journal *j;
    gw_outbox *o;
    gw_outbox_row row[8];
    assert_int_equal(gw_journal_open(&j, path), 0);
    assert_int_equal(gw_outbox_open(&o, path, "b", false, GW_OUTBOX_ANY), 0);
    commit(j, "A", GW_PHASE_FIRST, true);
    commit(j, "A", GW_PHASE_FINAL, true);
    assert_string_equal(waiting(o, row), "A first 1");
    settle(o, &row[0], "");
    gw_outbox_close(&o);
    gw_journal_close(&j);
    run_sql(OLDER "UPDATE schema SET version = 2");
    assert_int_equal(gw_journal_open(&j, path), 0);
    assert_int_equal(gw_outbox_open(&o, path, "b", false, GW_OUTBOX_ANY), 0);
    assert_string_equal(waiting(o, row), "A final 2");
    settle(o, &row[0], "");
    run_sql("UPDATE broker_ack SET again = 1 WHERE phase = 'first'"); /* by order: once more, and no more */
    assert_string_equal(waiting(o, row), "A first 1");
    settle(o, &row[0], "");
    assert_string_equal(waiting(o, row), "");
    gw_outbox_close(&o);
    gw_journal_close(&j);
}

static void what_was_kept_from_a_broker_is_not_retracted_there(void **state)
{
    (void)state;
    gw_journal *j;
    gw_outbox *o;
    gw_outbox_row row[8];
    int serial;
    bool published;
    assert_int_equal(gw_journal_open(&j, path), 0);
    assert_int_equal(gw_outbox_open(&o, path, "b", false, GW_OUTBOX_ANY), 0);
    const gw_event e = a_word("A", GW_PHASE_FIRST, true);
    const gw_journal_ack kept = {.broker = "b", .refused = "storm"}, had = {.broker = "b", .acked_ns = 5};
    assert_int_equal(gw_journal_put_settled(j, &e, &kept, 1, &serial, &published), 0);
    assert_string_equal(waiting(o, row), "");
    commit(j, "A", GW_PHASE_RETRACTED, false);
    assert_string_equal(waiting(o, row), "");
    const gw_event late = a_word("B", GW_PHASE_FIRST, true);
    assert_int_equal(gw_journal_put_settled(j, &late, &had, 1, &serial, &published), 0);
    assert_string_equal(waiting(o, row), "");
    commit(j, "B", GW_PHASE_RETRACTED, false);
    assert_string_equal(waiting(o, row), "B retracted 2");
    run_sql("UPDATE broker_ack SET again = 1 WHERE id = 'A'");
    assert_string_equal(waiting(o, row), "A first 1, B retracted 2");
    gw_outbox_close(&o);
    gw_journal_close(&j);
}

/* ---- messages ---- */

static int read_broker(gw_conf_file **file, gw_broker *b, const char *yaml)
{
    *b = (gw_broker){0};
    assert_int_equal(gw_conf_parse(file, "test.yaml", yaml, strlen(yaml)), 0);
    return gw_broker_configure(b, gw_conf_root(*file));
}

static void what_is_not_of_now_says_so(void **state)
{
    (void)state;
    static const struct {
        const char *topic, *production, *test, *origin;
        bool injection;
        const char *tense; /* "" = of now, without the header _test */
        bool archived;
    } cases[] = {
        {"gcn.notices.x", "true", "false", "live", false, "archival", true},
        {"gcn.notices.x", "true", "false", "live", true, "injection", true},
        {"gcn.notices.x", "true", "false", "unknown", false, "archival", false},
        {"gcn.notices.x", "true", "false", "live", false, "", false},
        {"gcn.notices.x", "true", "true", "live", false, "test", false},
        {"gcn.notices.x", "true", "false", "live", true, "injection", false},
        {"gcn.notices.x", "true", "false", "replay", false, "archival", false},
        {"gcn.notices.x", "true", "false", "sim", false, "test", false},
        {"gcn.notices.x", "true", "false", "sim", true, "injection", false},
        {"my.test", "false", "true", "live", false, "test", false},
        {"my.test", "false", "true", "replay", false, "archival", false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char yaml[256], text[GW_FACE_BYTES], again[GW_FACE_BYTES], want[40];
        unsigned char id[16], same[16];
        gw_conf_file *file;
        gw_broker b;
        gw_kafka_message m;
        gw_outbox_row row = {
            .event = a_word("G0000000000000001", GW_PHASE_FIRST, true), .serial = 1, .record = 1};
        row.event.injection = cases[i].injection;
        row.event.archived = cases[i].archived;
        row.committed_ns = 1500000000 * GW_SECOND_NS;
        snprintf(row.origin, sizeof row.origin, "%s", cases[i].origin);
        snprintf(yaml, sizeof yaml,
                 "{name: b, bootstrap: 'h:1', topic: %s, face: gcn, production: %s, test: %s}",
                 cases[i].topic, cases[i].production, cases[i].test);
        assert_int_equal(read_broker(&file, &b, yaml), 0);
        assert_int_equal(gw_broker_message(&b, &row, text, id, &m), 1);
        snprintf(want, sizeof want, "\"alert_tense\":\"%s\"", cases[i].tense[0] ? cases[i].tense : "current");
        assert_non_null(strstr(text, want));
        assert_int_equal(m.test, cases[i].tense[0] != '\0');
        assert_string_equal(m.key, "G0000000000000001");
        assert_string_equal(m.format, "json");
        assert_int_equal(id[6] >> 4, 4);
        assert_int_equal(gw_broker_message(&b, &row, again, same, &m), 1); /* sent again: the same */
        assert_memory_equal(id, same, 16);
        assert_string_equal(text, again);
        snprintf(row.origin, sizeof row.origin, "%s", strcmp(row.origin, "sim") == 0 ? "replay" : "sim");
        assert_int_equal(gw_broker_message(&b, &row, again, same, &m),
                         1); /* of another tense it is another */
        assert_true(memcmp(id, same, 16) != 0 || cases[i].injection || strcmp(cases[i].tense, "test") == 0);
        snprintf(row.origin, sizeof row.origin, "%s", cases[i].origin);
        row.event.phase = GW_PHASE_UPDATE;
        assert_int_equal(gw_broker_message(&b, &row, again, same, &m), 1);
        assert_memory_not_equal(id, same, 16);
        gw_conf_free(&file);
    }
}

static void who_may_hear_what(void **state)
{
    (void)state;
    gw_conf_file *file;
    gw_broker b;
    assert_int_equal(
        read_broker(&file, &b, "{name: b, bootstrap: 'kafka.example.org:9092', topic: test.x, face: gcn}"),
        0);
    assert_true(b.test && b.kafka.tls);
    assert_int_equal(gw_broker_allow(&b, GW_LIVE, false), 0);
    assert_int_equal(gw_broker_allow(&b, GW_ARCHIVED, false), GW_ECONFIG);
    assert_non_null(strstr(gw_err_detail(), "--publish"));
    assert_int_equal(gw_broker_allow(&b, GW_SIMULATED, false), GW_ECONFIG);
    assert_int_equal(gw_broker_allow(&b, GW_SIMULATED, true), 0);
    gw_conf_free(&file);
    assert_int_equal(
        read_broker(&file, &b,
                    "{name: b, bootstrap: '127.0.0.1:9092,localhost:1,[::1]:2', topic: Test, face: gcn}"),
        0);
    assert_true(gw_kafka_is_local(&b.kafka) && !b.kafka.tls);
    assert_int_equal(gw_broker_allow(&b, GW_SIMULATED, false), 0);
    gw_conf_free(&file);
    assert_int_equal(
        read_broker(&file, &b, "{name: b, bootstrap: '127.0.0.1:9092,10.0.0.1:1', topic: test, face: gcn}"),
        0);
    assert_false(gw_kafka_is_local(&b.kafka));
    gw_conf_free(&file);
    assert_int_equal(read_broker(&file, &b, "{name: b, bootstrap: 'h:1', topic: igwn.gwalert, face: gcn}"),
                     GW_ECONFIG);
    gw_conf_free(&file);
    assert_int_equal(
        read_broker(&file, &b, "{name: b, bootstrap: 'h:1', topic: test, heartbeat: beat, face: gcn}"),
        GW_ECONFIG);
    gw_conf_free(&file);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(alerts_wait_in_order_one_an_event, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(brokers_do_not_know_of_each_other, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(a_journal_of_version_1_goes_on, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(a_journal_of_version_2_goes_on, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(a_journal_of_version_3_goes_on, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(only_the_sky_reaches_far, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(what_a_broker_never_had_is_not_retracted_there, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(the_name_is_of_the_first_word, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(what_was_kept_from_a_broker_is_not_retracted_there, make_dir,
                                        remove_dir),
        cmocka_unit_test(what_is_not_of_now_says_so),
        cmocka_unit_test(who_may_hear_what),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
