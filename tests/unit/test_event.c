/* SPDX-License-Identifier: GPL-3.0-or-later
 * An event's JSON: its exact text, and what SQLite's own JSON reader makes of it, also when the event is
 * full of what JSON cannot hold. */
#include "pipeline/block.h"
#include "pipeline/event.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>
#include <sqlite3.h>

static sqlite3 *db;

static int open_db(void **state)
{
    (void)state;
    return sqlite3_open(":memory:", &db);
}

static int close_db(void **state)
{
    (void)state;
    return sqlite3_close(db);
}

/* What SQLite reads at `path` in `json`, as text; "(null)" for null. NULL path: json_valid(). */
static const char *ask(const char *json, const char *path)
{
    static char answer[1024];
    sqlite3_stmt *s = NULL;
    assert_int_equal(
        sqlite3_prepare_v2(db, path ? "select json_extract(?1, ?2)" : "select json_valid(?1)", -1, &s, NULL),
        SQLITE_OK);
    sqlite3_bind_text(s, 1, json, -1, SQLITE_STATIC);
    if (path)
        sqlite3_bind_text(s, 2, path, -1, SQLITE_STATIC);
    int rc = sqlite3_step(s);
    const unsigned char *text = rc == SQLITE_ROW ? sqlite3_column_text(s, 0) : NULL;
    snprintf(answer, sizeof answer, "%s",
             rc != SQLITE_ROW ? "(error)"
             : text           ? (const char *)text
                              : "(null)");
    sqlite3_finalize(s);
    return answer;
}

static gw_event gw150914(void)
{
    gw_event e = {.id = "G0123456789abcdef",
                  .phase = GW_PHASE_FINAL,
                  .gps_ns = 1126259462422000001,
                  .gps_error_s = 0.00123456,
                  .detectors = "H1,L1",
                  .stream = "search",
                  .statistic = 12.345678901,
                  .noise_rate_hz = 1.0 / 86400,
                  .background_s = 259200,
                  .alert = true,
                  .dq = GW_DQ_DATA | GW_DQ_CBC_CAT1 | GW_DQ_NO_CBC_HW_INJ,
                  .model = "bbh-small",
                  .model_hash = "00112233445566aa",
                  .card_hash = "ffeeddccbbaa0099",
                  .due_ns = 1126259462500000000,
                  .ingest_ns = 1400000000500000000,
                  .decided_ns = 1400000000650000000,
                  .pace = 1,
                  .anchor_wall_ns = 1400000000000000000,
                  .anchor_data_ns = 1126259462000000000};
    return e;
}

static void an_event_reads_as_stated(void **state)
{
    (void)state;
    gw_event e = gw150914();
    char text[4096];
    int n = gw_event_json(&e, 1400000000722000001, text, sizeof text);
    static const char want[] =
        "{\"type\":\"event\",\"id\":\"G0123456789abcdef\",\"phase\":\"final\",\"gps\":1126259462.422000001,"
        "\"utc\":\"2015-09-14T09:50:45.422Z\",\"gps_error_s\":0.00123456,\"detectors\":[\"H1\",\"L1\"],"
        "\"statistic\":12.3456789,"
        "\"noise_rate_hz\":1.15740741e-05,\"background_s\":259200,\"alert\":true,\"injection\":false,"
        "\"data_quality\":{\"bits\":65539,\"passes\":[\"DATA\",\"CBC_CAT1\",\"NO_CBC_HW_INJ\"]},"
        "\"model\":{\"name\":\"bbh-small\",\"sha256\":\"00112233445566aa\",\"card\":\"ffeeddccbbaa0099\"},"
        "\"stream\":\"search\",\"software\":\"";
    static const char wall[] = "\",\"wall\":{\"published\":\"2024-05-17T16:53:02.722Z\",\"latency\":{"
                               "\"merger_to_data_s\":0.078000,\"merger_to_decision_s\":0.228000,\"merger_to_"
                               "publication_s\":0.300000,"
                               "\"ingest_to_decision_s\":0.150000,\"ingest_to_publication_s\":0.222000}}}";
    assert_int_equal(n, strlen(text));
    assert_memory_equal(text, want, sizeof want - 1);
    assert_string_equal(text + n - (sizeof wall - 1), wall);
    assert_string_equal(ask(text, NULL), "1");
    assert_string_equal(ask(text, "$.detectors[1]"), "L1");
    assert_string_equal(ask(text, "$.data_quality.passes[2]"), "NO_CBC_HW_INJ");
    assert_true(strlen(ask(text, "$.software")) > 0);
}

static void without_a_wall_there_is_no_latency(void **state)
{
    (void)state;
    gw_event e = gw150914();
    char text[4096], other[4096];
    assert_true(isnan(gw_event_latency_s(&e, GW_NOT_KNOWN_NS)));
    e.pace = 0;
    assert_true(isnan(gw_event_latency_s(&e, e.decided_ns)));
    assert_true(gw_event_json(&e, GW_NOT_KNOWN_NS, text, sizeof text) > 0);
    static const char *const path[] = {"$.wall.published",
                                       "$.wall.latency.merger_to_data_s",
                                       "$.wall.latency.merger_to_decision_s",
                                       "$.wall.latency.merger_to_publication_s",
                                       "$.wall.latency.ingest_to_decision_s",
                                       "$.wall.latency.ingest_to_publication_s"};
    for (size_t i = 0; i < sizeof path / sizeof *path; i++)
        assert_string_equal(ask(text, path[i]), "(null)");

    /* Two runs differ in "wall" alone, and it comes last. */
    gw_event f = gw150914();
    f.decided_ns += 777;
    f.ingest_ns += 55;
    assert_true(gw_event_json(&f, 1500000000000000000, other, sizeof other) > 0);
    size_t same = (size_t)(strstr(text, ",\"wall\":{") - text);
    assert_memory_equal(text, other, same);
    assert_string_not_equal(text + same, other + same);
}

static void latency_is_wall_minus_arrival(void **state)
{
    (void)state;
    gw_event e = gw150914();
    double s = gw_event_latency_s(&e, 1400000000722000001);
    assert_true(fabs(s - 0.3) < 1e-9);
    e.anchor_wall_ns = INT64_MAX; /* nonsense, but no overflow */
    assert_true(isnan(gw_event_latency_s(&e, INT64_MIN + 1)));
}

static void an_injection_tells_the_truth(void **state)
{
    (void)state;
    gw_event e = {.phase = GW_PHASE_INJECTION, .gps_ns = 1400000010000000000, .detectors = "H1,L1"};
    char text[4096];
    strcpy(e.detail, "{\"mass1\":36.5,\"snr\":12}");
    assert_true(gw_event_json(&e, GW_NOT_KNOWN_NS, text, sizeof text) > 0);
    assert_string_equal(text,
                        "{\"type\":\"injection\",\"gps\":1400000010.000000000,\"detectors\":[\"H1\",\"L1\"],"
                        "\"parameters\":{\"mass1\":36.5,\"snr\":12}}");
    assert_string_equal(ask(text, "$.parameters.mass1"), "36.5");
    e.detail[0] = '\0';
    gw_event_json(&e, GW_NOT_KNOWN_NS, text, sizeof text);
    assert_string_equal(ask(text, "$.parameters"), "(null)");
    memset(e.detail, 'x', sizeof e.detail); /* cut off: must not spoil the line */
    e.detail[0] = '{';
    gw_event_json(&e, GW_NOT_KNOWN_NS, text, sizeof text);
    assert_string_equal(ask(text, NULL), "1");
}

static void nothing_spoils_the_line(void **state)
{
    (void)state;
    gw_event e = gw150914();
    char text[4096];
    e.statistic = e.gps_error_s = NAN;
    e.noise_rate_hz = INFINITY;
    e.background_s = -INFINITY;
    e.gps_ns = -1500000000;
    strcpy(e.model, "a\"b\\c\n\t\x01");
    strcpy(e.stream, "gr\xc3\xbc\xc3\x9f \xe2\x82"); /* "grüß" and half a euro sign */
    strcpy(e.detectors, ",H1,,L1,");
    assert_true(gw_event_json(&e, GW_NOT_KNOWN_NS, text, sizeof text) > 0);
    assert_string_equal(ask(text, NULL), "1");
    assert_string_equal(ask(text, "$.statistic"), "(null)");
    assert_string_equal(ask(text, "$.gps_error_s"), "(null)");
    assert_string_equal(ask(text, "$.noise_rate_hz"), "(null)");
    assert_string_equal(ask(text, "$.background_s"), "(null)");
    assert_non_null(strstr(text, "\"gps\":-1.500000000,"));
    assert_string_equal(ask(text, "$.model.name"), "a\"b\\c\n\t\x01");
    assert_string_equal(ask(text, "$.stream"), "gr\xc3\xbc\xc3\x9f \xef\xbf\xbd\xef\xbf\xbd");
    assert_string_equal(ask(text, "$.detectors"), "[\"H1\",\"L1\"]");
    for (const char *p = text; *p; p++)
        assert_true((unsigned char)*p >= 0x20);

    /* Each byte of what is not UTF-8 becomes one U+FFFD: no continuation, overlong, surrogate, too far. */
    static const char *const bad[] = {"\xc3(", "\xc0\x80", "\xe0\x80\x80", "\xed\xa0\x80",
                                      "\xf4\x90\x80\x80"};
    static const int marks[] = {1, 2, 3, 3, 4};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        strcpy(e.stream, bad[i]);
        assert_true(gw_event_json(&e, GW_NOT_KNOWN_NS, text, sizeof text) > 0);
        int n = 0;
        for (const char *p = text; (p = strstr(p, "\\ufffd")); p++)
            n++;
        assert_int_equal(n, marks[i]);
    }
}

/* The longest event there is: no field has a NUL, each byte needs six characters. */
static void four_kib_always_do(void **state)
{
    (void)state;
    gw_event e;
    char text[4096];
    memset(&e, 0x01, sizeof e);
    e.alert = e.injection = true;
    e.phase = GW_PHASE_RETRACTED;
    e.gps_ns = e.due_ns = INT64_MIN + 1;
    e.ingest_ns = 1;
    e.decided_ns = e.anchor_wall_ns = e.anchor_data_ns = INT64_MAX;
    e.pace = 1;
    e.gps_error_s = e.statistic = e.noise_rate_hz = e.background_s = -1.23456789e-300;
    e.dq = UINT64_MAX;
    int n = gw_event_json(&e, INT64_MAX, text, sizeof text);
    assert_in_range(n, 1500, sizeof text - 1);
    assert_string_equal(ask(text, NULL), "1");
    e.phase = GW_PHASE_INJECTION;
    memset(e.detail, ' ', sizeof e.detail);
    e.detail[0] = '{';
    e.detail[sizeof e.detail - 2] = '}';
    e.detail[sizeof e.detail - 1] = '\0';
    assert_true(gw_event_json(&e, INT64_MAX, text, sizeof text) > 600);
    assert_string_equal(ask(text, NULL), "1");
}

static void a_small_buffer_is_refused(void **state)
{
    (void)state;
    gw_event e = gw150914();
    char text[4096], small[4096];
    int n = gw_event_json(&e, GW_NOT_KNOWN_NS, text, sizeof text);
    for (size_t size = 0; size <= (size_t)n; size++) {
        memset(small, 0x7e, sizeof small);
        assert_int_equal(gw_event_json(&e, GW_NOT_KNOWN_NS, small, size), GW_ERANGE);
        assert_int_equal(small[size], 0x7e);
    }
    assert_int_equal(gw_event_json(&e, GW_NOT_KNOWN_NS, small, (size_t)n + 1), n);
    assert_string_equal(small, text);
}

static void phases_have_words(void **state)
{
    (void)state;
    assert_string_equal(gw_phase_text(GW_PHASE_FIRST), "first");
    assert_string_equal(gw_phase_text(GW_PHASE_UPDATE), "update");
    assert_string_equal(gw_phase_text(GW_PHASE_FINAL), "final");
    assert_string_equal(gw_phase_text(GW_PHASE_RETRACTED), "retracted");
    assert_string_equal(gw_phase_text(GW_PHASE_INJECTION), "injection");
    assert_string_equal(gw_phase_text(0), "unknown");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_event_reads_as_stated),      cmocka_unit_test(without_a_wall_there_is_no_latency),
        cmocka_unit_test(latency_is_wall_minus_arrival), cmocka_unit_test(an_injection_tells_the_truth),
        cmocka_unit_test(nothing_spoils_the_line),       cmocka_unit_test(four_kib_always_do),
        cmocka_unit_test(a_small_buffer_is_refused),     cmocka_unit_test(phases_have_words),
    };
    return cmocka_run_group_tests(tests, open_db, close_db);
}
