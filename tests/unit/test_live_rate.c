/* SPDX-License-Identifier: GPL-3.0-or-later
 * False-alarm rates from a background's table: its text there and back, steps, bounds, what is below the
 * floor, which search it is of; and tables in the order of words (merge.h). */
#include "sinks/live_rate.h"
#include "sinks/merge.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static gw_noise_rate example(void)
{
    return (gw_noise_rate){.of = "search",
                           .from_ns = INT64_C(1400000160) * 1000000000,
                           .until_ns = INT64_C(1400000100) * 1000000000,
                           .slid_s = {864000, 800000},
                           .distinct_s = 3000,
                           .n = 4,
                           .statistic = {-0.5, 1.25, 3.0001, 7},
                           .above = {{4000, 240, 9, 0}, {3900, 230, 7, 0}}};
}

static void test_text_there_and_back(void **state)
{
    (void)state;
    gw_noise_rate r = example(), s;
    char text[1900];
    assert_int_equal(gw_noise_rate_write(&r, text, sizeof text), GW_OK);
    assert_int_equal(gw_noise_rate_read(&s, text), GW_OK);
    assert_memory_equal(&r, &s, sizeof r);
    assert_int_equal(gw_noise_rate_write(&r, text, 60), GW_ERANGE);
    /* the longest there can be */
    r.n = GW_NOISE_STEPS;
    memset(r.of, 'x', sizeof r.of - 1);
    for (int i = 0; i < r.n; i++) {
        r.statistic[i] = -99.9999 + i;
        r.above[0][i] = r.above[1][i] = 20000000 - (uint32_t)i;
    }
    assert_int_equal(gw_noise_rate_write(&r, text, sizeof text), GW_OK);
    assert_true(strlen(text) < sizeof((gw_event *)0)->detail);
    assert_int_equal(gw_noise_rate_read(&s, text), GW_OK);
    assert_int_equal(s.n, GW_NOISE_STEPS);
    assert_true(s.statistic[47] == r.statistic[47] && s.above[1][47] == r.above[1][47]);
}

static void test_what_is_no_table(void **state)
{
    (void)state;
    gw_noise_rate r;
    char text[1900];
    const gw_noise_rate good = example();
    gw_noise_rate_write(&good, text, sizeof text);
    assert_int_equal(gw_noise_rate_read(&r, ""), GW_EFORMAT);
    assert_int_equal(gw_noise_rate_read(&r, "{\"of\":\"search\"}"), GW_EFORMAT);
    for (size_t n = 1; n < strlen(text); n++) { /* cut anywhere */
        char cut[1900];
        snprintf(cut, n, "%s", text);
        assert_int_equal(gw_noise_rate_read(&r, cut), GW_EFORMAT);
    }
    gw_noise_rate falls = example();
    falls.statistic[2] = 0;
    gw_noise_rate_write(&falls, text, sizeof text);
    assert_int_equal(gw_noise_rate_read(&r, text), GW_EFORMAT);
}

static void test_rates(void **state)
{
    (void)state;
    const gw_noise_rate r = example();
    bool bound;
    assert_true(isnan(gw_noise_rate_hz(&r, -0.6, false, &bound)));
    assert_true(isnan(gw_noise_rate_hz(&r, NAN, false, &bound)));
    assert_true(gw_noise_rate_hz(&r, 1.25, false, &bound) == 241 / 864000.0 && !bound);
    assert_true(gw_noise_rate_hz(&r, 2.9, true, &bound) == 231 / 800000.0 && !bound);
    assert_true(gw_noise_rate_hz(&r, 40, false, &bound) == 1 / 864000.0 && bound);
}

static gw_event word(const char *stream, double statistic, int64_t told_s)
{
    gw_event e = {.phase = GW_PHASE_FIRST,
                  .gps_ns = told_s * 1000000000,
                  .told_ns = told_s * 1000000000,
                  .statistic = statistic,
                  .noise_rate_hz = 1e-3,
                  .background_s = 10,
                  .id = "Gown",
                  .detail = "{\"thresholds\":{}}"};
    snprintf(e.stream, sizeof e.stream, "%s", stream);
    return e;
}

static gw_event table(const gw_noise_rate *r, const char *stream)
{
    gw_event e = {.phase = GW_PHASE_BACKGROUND, .told_ns = r->from_ns};
    snprintf(e.stream, sizeof e.stream, "%s", stream);
    assert_int_equal(gw_noise_rate_write(r, e.detail, sizeof e.detail), GW_OK);
    return e;
}

static void test_events_get_their_rate(void **state)
{
    (void)state;
    gw_live_rates l = {.least_s = 86400};
    gw_noise_rate r = example();
    gw_event e = word("search", 3.5, 1), t = table(&r, "noise");
    gw_live_rates_give(&l, &e);
    assert_true(e.noise_rate_hz == 1e-3); /* no table yet */
    assert_int_equal(gw_live_rates_take(&l, &t), GW_OK);
    gw_live_rates_give(&l, &e);
    assert_true(e.noise_rate_hz == 10 / 864000.0 && e.background_s == 864000 && e.alert);
    assert_non_null(
        strstr(e.detail, "\"thresholds\":{},\"background\":{\"source\":\"live\",\"until\":1400000100,"));
    assert_non_null(strstr(e.detail, "\"exclusive_rate_hz\":1e-05,\"bound\":false}}"));
    e = word("search", 1.3, 1); /* no alert: more than once a day */
    e.alert = true;
    gw_live_rates_give(&l, &e);
    assert_true(e.noise_rate_hz == 241 / 864000.0 && !e.alert);
    e = word("search", -1, 1); /* below the floor */
    gw_live_rates_give(&l, &e);
    assert_true(e.noise_rate_hz == 1e-3);
    e = word("search_clean", 3.5, 1); /* another search */
    gw_live_rates_give(&l, &e);
    assert_true(e.noise_rate_hz == 1e-3);
    r.slid_s[0] = 86399; /* the newest table counts, and has too little */
    t = table(&r, "noise");
    assert_int_equal(gw_live_rates_take(&l, &t), GW_OK);
    assert_int_equal(l.n, 1);
    e = word("search", 3.5, 1);
    gw_live_rates_give(&l, &e);
    assert_true(e.noise_rate_hz == 1e-3);
}

/* -- in the order of words --------------------------------------------------------------------------- */

static int take(void *user, const gw_event *e)
{
    return gw_live_rates_take(user, e);
}

static void give(void *user, gw_event *e)
{
    gw_live_rates_give(user, e);
}

/* A word told before a table's time gets the card's rate, one after it the table's, whoever came first. */
static void test_tables_take_their_turn(void **state)
{
    (void)state;
    const int64_t from_s = 1400000160;
    for (int order = 0; order < 6; order++) {
        gw_live_rates l = {.least_s = 1};
        const gw_merge_conf conf = {.group = "alerts",
                                    .n_branches = 1,
                                    .branch = {"search"},
                                    .refractory_ns = 8000000000,
                                    .n_tables = 1,
                                    .table_of = {"noise"},
                                    .table = take,
                                    .rate = give,
                                    .user = &l};
        gw_merge *m;
        assert_int_equal(gw_merge_new(&m, &conf), GW_OK);
        const gw_noise_rate r = example();
        gw_event piece[3] = {word("search", 3.5, from_s - 20), table(&r, "noise"),
                             word("search", 3.5, from_s + 20)};
        static const int orders[6][3] = {{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}};
        snprintf(piece[2].id, sizeof piece[2].id, "Gother");
        gw_event e;
        double rate[8];
        int told = 0;
        for (int i = 0; i < 5; i++) {
            if (i < 3)
                assert_int_equal(gw_merge_take(m, &piece[orders[order][i]]), GW_OK);
            else
                gw_merge_reached(m, i == 3 ? "search" : "noise", (from_s + 60) * 1000000000);
            while (gw_merge_next(m, &e) == 1) {
                assert_true(i > 0 && told < 8); /* nobody knew how far the others were */
                rate[told++] = e.noise_rate_hz;
            }
        }
        assert_true(told >= 2 && rate[0] == 1e-3);
        bool live = false;
        for (int i = 0; i < told; i++)
            live |= rate[i] == 10 / 864000.0;
        assert_true(live);
        gw_merge_destroy(&m);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_text_there_and_back),
                                       cmocka_unit_test(test_what_is_no_table), cmocka_unit_test(test_rates),
                                       cmocka_unit_test(test_events_get_their_rate),
                                       cmocka_unit_test(test_tables_take_their_turn)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
