/* SPDX-License-Identifier: GPL-3.0-or-later
 * The faces: what they write fits the published fields, what does not fit is refused, the same notice is the
 * same bytes. The checker itself: it must see each kind of fault. (python3-jsonschema and python3-avro read
 * the faces in check_kafka.py.) */
#include "sinks/faces/check.h"
#include "sinks/faces/face.h"
#include "sinks/faces/json.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static gw_event an_event(gw_phase phase)
{
    return (gw_event){.id = "G0123456789abcdef",
                      .phase = phase,
                      .gps_ns = INT64_C(1126259462439500000),
                      .gps_error_s = NAN,
                      .detectors = "H1,L1",
                      .stream = "search",
                      .statistic = 12.25,
                      .noise_rate_hz = 2.5e-7,
                      .background_s = 4e6,
                      .alert = true,
                      .model = "net \"A\"\\\n",
                      .pace = 1};
}

static gw_notice a_notice(const gw_event *e, gw_tense tense)
{
    return (gw_notice){.event = e,
                       .serial = 1,
                       .record = 1,
                       .made_ns = INT64_C(1126259462800000000),
                       .tense = tense,
                       .mission = "gwstream"};
}

static const char *const names[] = {"gcn", "gwalert-json", "gwalert-avro", "gracedb", "plain"};

static int write_face(const char *name, const gw_event *e, gw_tense tense, char text[GW_FACE_BYTES])
{
    const gw_face *f = NULL;
    const gw_notice n = a_notice(e, tense);
    assert_int_equal(gw_face_find(name, &f), 0);
    return f->write(&n, text, GW_FACE_BYTES);
}

static void every_face_in_every_phase_and_tense(void **state)
{
    (void)state;
    char a[GW_FACE_BYTES], b[GW_FACE_BYTES];
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        for (int phase = GW_PHASE_FIRST; phase <= GW_PHASE_RETRACTED; phase++)
            for (int tense = GW_TENSE_CURRENT; tense <= GW_TENSE_INJECTION; tense++) {
                const gw_event e = an_event((gw_phase)phase);
                const int n = write_face(names[i], &e, (gw_tense)tense, a);
                if (phase == GW_PHASE_RETRACTED && strcmp(names[i], "gracedb") == 0) {
                    assert_int_equal(n, 0);
                    continue;
                }
                assert_true(n > 50);
                assert_int_equal(write_face(names[i], &e, (gw_tense)tense, b), n);
                assert_memory_equal(a, b, (size_t)n);
            }
}

static void words_of_a_face(void **state)
{
    (void)state;
    char text[GW_FACE_BYTES];
    gw_event e = an_event(GW_PHASE_FIRST);
    assert_true(write_face("gcn", &e, GW_TENSE_CURRENT, text) > 0);
    assert_non_null(strstr(text, "\"alert_tense\":\"current\",\"alert_type\":\"initial\""));
    assert_non_null(strstr(text, "\"trigger_time\":\"2015-09-14T09:50:45.440Z\",\"far\":2.5e-07"));
    assert_non_null(strstr(text, "network net \\\"A\\\"\\\\\\u000a."));
    e.gps_error_s = 0.00125;
    assert_true(write_face("gcn", &e, GW_TENSE_CURRENT, text) > 0);
    assert_non_null(strstr(text, "45.440Z\",\"trigger_time_error\":0.001250,\"far\":2.5e-07"));
    assert_non_null(strstr(text, "\"event_name\":[\"S150914"));
    assert_true(write_face("gwalert-json", &e, GW_TENSE_INJECTION, text) > 0);
    assert_non_null(strstr(text, "\"alert_type\":\"PRELIMINARY\",\"time_created\":\"2015-09-14T09:50:45Z\""));
    assert_non_null(strstr(text, "\"superevent_id\":\"MS150914"));
    assert_non_null(strstr(text, "\"significant\":true,\"instruments\":[\"H1\",\"L1\"]"));
    assert_non_null(strstr(text, "\"search\":\"MDC\""));
    gw_notice moved = a_notice(&e, GW_TENSE_CURRENT); /* whose first word was of the day before */
    moved.named_ns = e.gps_ns - 86400 * GW_SECOND_NS;
    assert_true(gw_face_gwalert_json(&moved, text, sizeof text) > 0);
    assert_non_null(strstr(text, "\"superevent_id\":\"S150913"));
    assert_non_null(strstr(text, "2015-09-14T09:50:45.440Z"));
    e = an_event(GW_PHASE_RETRACTED);
    assert_true(write_face("gwalert-json", &e, GW_TENSE_TEST, text) > 0);
    assert_non_null(strstr(text, "\"superevent_id\":\"TS150914"));
    assert_non_null(strstr(text, "\"event\":null"));
    assert_true(write_face("gcn", &e, GW_TENSE_TEST, text) > 0);
    assert_non_null(strstr(text, "\"alert_type\":\"retraction\""));
    assert_null(strstr(text, "trigger_time"));
}

/* The bytes after the container's head, by hand from the Avro specification. */
static void avro_bytes(void **state)
{
    (void)state;
    static const unsigned char want[] = {2, /* PRELIMINARY */
                                         40,  '2', '0', '1', '5', '-', '0', '9', '-', '1',
                                         '4', 'T', '0', '9', ':', '5', '0', ':', '4', '5',
                                         'Z', 26,  'S', '1', '5', '0', '9', '1', '4'};
    static const unsigned char end[] = {2,   4,   'H', '1', 2,   4,   'L', '1', 0,   6,   'C',
                                        'B', 'C', 16,  'g', 'w', 's', 't', 'r', 'e', 'a', 'm',
                                        6,   'B', 'B', 'H', 0,   0,   0,   0,   0,   0,   0};
    char text[GW_FACE_BYTES];
    const gw_event e = an_event(GW_PHASE_FIRST);
    const int n = write_face("gwalert-avro", &e, GW_TENSE_CURRENT, text);
    assert_true(n > 1000);
    assert_memory_equal(text,
                        "Obj\x01\x04\x16"
                        "avro.schema",
                        17);
    const char *mark = text + n - 16;
    assert_memory_equal(mark - sizeof end, end, sizeof end);
    const char *record = memmem(text, (size_t)n - 16, mark, 16);
    assert_non_null(record);
    record += 16;
    assert_int_equal(record[0], 2); /* one record */
    const int bytes = (record[1] & 0x7f) | (record[2] & 0x7f) << 7;
    assert_true(record[1] & 0x80);
    assert_int_equal(bytes / 2, mark - (record + 3)); /* its length, zigzag */
    assert_memory_equal(record + 3, want, sizeof want);
    assert_memory_equal(record + 3 + 1 + 21 + 14,
                        "\x02\x30"
                        "2015",
                        6); /* the union: branch 1; 24 bytes */
}

static void what_does_not_fit_is_refused(void **state)
{
    (void)state;
    char text[GW_FACE_BYTES];
    gw_event e = an_event(GW_PHASE_FINAL);
    e.noise_rate_hz = NAN;
    for (int i = 0; i < 4; i++)
        assert_int_equal(write_face(names[i], &e, GW_TENSE_CURRENT, text), GW_EFORMAT);
    e = an_event(GW_PHASE_FINAL);
    e.noise_rate_hz = -1;
    assert_int_equal(write_face("gcn", &e, GW_TENSE_CURRENT, text), GW_EFORMAT);
    assert_non_null(strstr(gw_err_detail(), "far"));
    e = an_event(GW_PHASE_FINAL);
    snprintf(e.detectors, sizeof e.detectors, "H1,X9");
    assert_int_equal(write_face("gwalert-avro", &e, GW_TENSE_CURRENT, text), GW_EFORMAT);
    assert_non_null(strstr(gw_err_detail(), "'X9'"));
    e = an_event(GW_PHASE_FINAL);
    const gw_face *f;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const gw_notice n = a_notice(&e, GW_TENSE_CURRENT);
        assert_int_equal(gw_face_find(names[i], &f), 0);
        for (size_t size = 1; size < 100; size += 7)
            assert_int_equal(f->write(&n, text, size), GW_ERANGE);
    }
    assert_int_equal(gw_face_find("voevent", &f), GW_ECONFIG);
}

static void the_checker_sees_faults(void **state)
{
    (void)state;
    static const gw_field fields[] = {
        {"a", .type = GW_FIELD_WHOLE, .min = 1, .max = 9},
        {"t", .type = GW_FIELD_TIME, .may_lack = true},
        {"w", .type = GW_FIELD_WORDS, .one_of = "x|yy", .may_lack = true},
        {"o", .type = GW_FIELD_OBJECT, .may_be_null = true, .may_lack = true},
        {"o.b", .type = GW_FIELD_BOOL},
        {"o.s", .type = GW_FIELD_SHARES, .may_lack = true},
        {.path = NULL},
    };
    static const char *const good[] = {
        "{\"a\":1}",
        " { \"a\" : 9 , \"t\" : \"2018-11-01T22:22:46.654Z\" } ",
        "{\"a\":2,\"w\":[\"x\",\"yy\"],\"o\":null}",
        "{\"a\":2,\"w\":[],\"o\":{\"b\":false,\"s\":{\"BNS\":0.25,\"u\\u0041\":1}}}",
    };
    static const char *const bad[] = {
        "",
        "{}",
        "[1]",
        "{\"a\":1",
        "{\"a\":1}}",
        "{\"a\":1,}",
        "{\"a\":0}",
        "{\"a\":10}",
        "{\"a\":1.5}",
        "{\"a\":01}",
        "{\"a\":\"1\"}",
        "{\"a\":null}",
        "{\"a\":nan}",
        "{\"a\":1,\"zz\":1}",
        "{\"a\":1,\"t\":\"2018-11-01 22:22:46Z\"}",
        "{\"a\":1,\"t\":\"2018-11-01T22:22:46\"}",
        "{\"a\":1,\"t\":\"2018-11-01T22:22:46.Z\"}",
        "{\"a\":1,\"t\":\"\"}",
        "{\"a\":1,\"w\":[\"y\"]}",
        "{\"a\":1,\"w\":[\"x\"}",
        "{\"a\":1,\"w\":\"x\"}",
        "{\"a\":1,\"o\":{}, \"t\":\"2018-11-01T22:22:46Z\",\"o\":{\"s\":{}}}",
        "{\"a\":1,\"o\":{\"b\":0}}",
        "{\"a\":1,\"o\":{\"b\":true,\"s\":{\"BNS\":1.01}}}",
        "{\"a\":1,\"o\":{\"b\":true,\"s\":{\"BNS\":\"1\"}}}",
        "{\"a\":1,\"t\":\"\\x\"}",
        "{\"a\":1,\"\\u12\":1}",
    };
    for (size_t i = 0; i < sizeof good / sizeof *good; i++)
        assert_int_equal(gw_check_json("t", good[i], strlen(good[i]), fields), 0);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        const int err = gw_check_json("t", bad[i], strlen(bad[i]), fields);
        if (err != GW_EFORMAT)
            fail_msg("taken: %s", bad[i]);
    }
    /* Cut anywhere, it is refused and nothing is read behind the cut. */
    const char *whole = good[3];
    for (size_t n = 0; n < strlen(whole); n++) {
        char cut[128];
        memcpy(cut, whole, n);
        memset(cut + n, 'x', sizeof cut - n);
        assert_int_equal(gw_check_json("t", cut, n, fields), GW_EFORMAT);
    }
}

static void numbers_read_back(void **state)
{
    (void)state;
    static const double v[] = {0, 1e-6, 2.5e-7, 1.0 / 3, 3.8026e-7 / 7, 1e300, 5e-324, 1126259462.4395};
    for (size_t i = 0; i < sizeof v / sizeof *v; i++) {
        char text[64];
        double back;
        gw_json t = {.s = text, .size = sizeof text};
        gw_json_number(&t, v[i]);
        assert_int_equal(sscanf(text, "%lf", &back), 1);
        assert_true(back == v[i]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_face_in_every_phase_and_tense),
        cmocka_unit_test(words_of_a_face),
        cmocka_unit_test(avro_bytes),
        cmocka_unit_test(what_does_not_fit_is_refused),
        cmocka_unit_test(the_checker_sees_faults),
        cmocka_unit_test(numbers_read_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
