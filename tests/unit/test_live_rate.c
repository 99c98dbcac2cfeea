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
                           .archived_s = 1000,
                           .slides = 1183,
                           .hops = UINT64_C(0xfffffffffffffff),
                           .n = 4,
                           .statistic = {-0.5, 1.25, 3.0001, 7},
                           .above = {{4000, 240, 9, 0}, {3900, 230, 7, 0}},
                           .low = {90, 80, 50, 5},
                           .high = {110, 130, 250, 300}};
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
        r.low[i] = 99;
        r.high[i] = 99999;
    }
    assert_int_equal(gw_noise_rate_write(&r, text, sizeof text), GW_OK);
    assert_true(strlen(text) < sizeof((gw_event *)0)->detail);
    assert_int_equal(gw_noise_rate_read(&s, text), GW_OK);
    assert_int_equal(s.n, GW_NOISE_STEPS);
    assert_true(s.statistic[39] == r.statistic[39] && s.above[1][39] == r.above[1][39]);
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
    /* half way between two steps, half way between their logarithms */
    const double middle = sqrt(231.0 * 8) / 800000;
    assert_true(fabs(gw_noise_rate_hz(&r, (1.25 + 3.0001) / 2, true, &bound) / middle - 1) < 1e-12 && !bound);
    assert_true(gw_noise_rate_hz(&r, 40, false, &bound) == 1 / 864000.0 && bound);
    /* among the loudest, where each step is one trigger's, n is what it is */
    gw_noise_rate loud = {
        .slid_s = {100, 100}, .n = 3, .statistic = {1, 2, 3}, .above = {{2, 1, 0}, {2, 1, 0}}};
    assert_true(gw_noise_rate_hz(&loud, 1.9, false, &bound) == 3 / 100.0 && !bound);
    assert_true(gw_noise_rate_hz(&loud, 2.1, false, &bound) == 2 / 100.0 && !bound);
    double low, high;
    assert_true(gw_noise_rate_interval(&r, 1.25, &low, &high));
    assert_true(fabs(low * 864000 / 241 - 0.8) < 1e-12 && fabs(high * 864000 / 241 - 1.3) < 1e-12);
    assert_true(gw_noise_rate_interval(&r, 2, &low, &high));
    const double rate = gw_noise_rate_hz(&r, 2, false, NULL);
    assert_true(low > 0.5 * rate && low < 0.8 * rate && high > 1.3 * rate && high < 2.5 * rate);
    assert_true(gw_noise_rate_interval(&r, 40, &low, &high) && fabs(high * 864000 - 3) < 1e-12);
    assert_false(gw_noise_rate_interval(&r, -1, &low, &high));
    assert_false(gw_noise_rate_interval(&loud, 2, &low, &high));
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
    gw_event e = word("search", 3.0001, 1), t = table(&r, "noise");
    gw_live_rates_give(&l, &e);
    assert_true(e.noise_rate_hz == 1e-3); /* no table yet */
    assert_int_equal(gw_live_rates_take(&l, &t), GW_OK);
    gw_live_rates_give(&l, &e);
    assert_true(e.noise_rate_hz == 10 / 864000.0 && e.background_s == 864000 && e.alert);
    assert_non_null(
        strstr(e.detail, "\"thresholds\":{},\"background\":{\"source\":\"live\",\"until\":1400000100,"));
    assert_non_null(strstr(e.detail, "\"archived_s\":1000,\"exclusive_rate_hz\":1e-05,"
                                     "\"interval\":[5.79e-06,2.89e-05],\"bound\":false}}"));
    e = word("search", 1.25, 1); /* no alert: more than once a day */
    e.alert = true;
    gw_live_rates_give(&l, &e);
    assert_true(e.noise_rate_hz == 241 / 864000.0 && !e.alert);
    e = word("search", -1, 1); /* below the floor */
    gw_live_rates_give(&l, &e);
    assert_true(e.noise_rate_hz == 1e-3);
    e = word("search_clean", 3.0001, 1); /* another search */
    gw_live_rates_give(&l, &e);
    assert_true(e.noise_rate_hz == 1e-3);
    r.slid_s[0] = 86399; /* the newest table counts, and has too little */
    t = table(&r, "noise");
    assert_int_equal(gw_live_rates_take(&l, &t), GW_OK);
    assert_int_equal(l.n, 1);
    e = word("search", 3.0001, 1);
    gw_live_rates_give(&l, &e);
    assert_true(e.noise_rate_hz == 1e-3);
}

/* -- in the order of words --------------------------------------------------------------------------- */

static int take(void *user, const gw_event *e)
{
    return gw_live_rates_take(user, e);
}

static bool give(void *user, gw_event *e)
{
    return gw_live_rates_give(user, e);
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
        gw_event piece[3] = {word("search", 3.0001, from_s - 20), table(&r, "noise"),
                             word("search", 3.0001, from_s + 20)};
        static const int orders[6][3] = {{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}};
        snprintf(piece[2].id, sizeof piece[2].id, "Gother");
        gw_event e;
        double rate[8];
        int told = 0;
        for (int i = 0; i < 5; i++) {
            if (i < 3)
                assert_int_equal(gw_merge_take(m, &piece[orders[order][i]]), GW_OK);
            else
                assert_int_equal(
                    gw_merge_reached(m, i == 3 ? "search" : "noise", (from_s + 60) * 1000000000, true),
                    GW_OK);
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

/* What noise does once a day in one search is an alert's; in one of two, which do it twice a day, no more. By a card
 * it is each branch's own threshold that counts. */
static void test_an_alert_counts_its_trials(void **state)
{
    (void)state;
    for (int live = 0; live < 2; live++)
        for (int branches = 1; branches <= 2; branches++) {
            gw_live_rates l = {.least_s = live ? 1 : 1e12};
            const gw_merge_conf conf = {.group = "alerts",
                                        .n_branches = branches,
                                        .branch = {"search", "other"},
                                        .refractory_ns = 8000000000,
                                        .rate = give,
                                        .user = &l};
            gw_merge *m;
            gw_event e, last = {0};
            assert_int_equal(gw_merge_new(&m, &conf), GW_OK);
            gw_noise_rate r = example();
            const gw_event t = table(&r, "noise");
            assert_int_equal(gw_live_rates_take(&l, &t), GW_OK);
            gw_event w = word("search", 3.0001, 1400000170); /* 10 in 10 days: once a day */
            w.alert = true;
            assert_int_equal(gw_merge_take(m, &w), GW_OK);
            w.told_ns += 1000;
            snprintf(w.stream, sizeof w.stream, "other"); /* with a card's rate, no alert */
            w.alert = false;
            if (branches == 2)
                assert_int_equal(gw_merge_take(m, &w), GW_OK);
            for (int b = 0; b < branches; b++)
                assert_int_equal(gw_merge_reached(m, conf.branch[b], 1400000190 * GW_SECOND_NS, true), GW_OK);
            gw_merge_end(m);
            while (gw_merge_next(m, &e) == 1)
                last = e;
            assert_true(last.alert == (!live || branches == 1));
            gw_merge_destroy(&m);
        }
}

/* A background too short to show one a day of all that search: the loudest event is no less an alert for that, and
 * it is the card, or the branch, that says so. */
static void test_a_young_background_hides_no_alert(void **state)
{
    (void)state;
    static const double slid_s[] = {43200, 129600, 864000};
    for (int k = 0; k < 3; k++)
        for (int branches = 1; branches <= 2; branches++)
            for (int by_card = 0; by_card < 2; by_card++) {
                gw_live_rates l = {.least_s = 1};
                const gw_merge_conf conf = {.group = "alerts",
                                            .n_branches = branches,
                                            .branch = {"search", "other"},
                                            .refractory_ns = 8000000000,
                                            .rate = give,
                                            .user = &l};
                gw_merge *m;
                gw_event e, last = {0}, w = word("search", 40, 1400000170);
                gw_noise_rate r = example();
                r.slid_s[0] = slid_s[k];
                const gw_event t = table(&r, "noise");
                assert_int_equal(gw_merge_new(&m, &conf), GW_OK);
                assert_int_equal(gw_live_rates_take(&l, &t), GW_OK);
                w.alert = by_card;
                assert_int_equal(gw_merge_take(m, &w), GW_OK);
                for (int b = 0; b < branches; b++)
                    assert_int_equal(gw_merge_reached(m, conf.branch[b], 1400000190 * GW_SECOND_NS, true),
                                     GW_OK);
                gw_merge_end(m);
                while (gw_merge_next(m, &e) == 1)
                    last = e;
                assert_true(last.background_s == slid_s[k]);
                assert_true(last.alert == (by_card || k > 0));
                gw_merge_destroy(&m);
            }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_text_there_and_back),
                                       cmocka_unit_test(test_what_is_no_table),
                                       cmocka_unit_test(test_a_young_background_hides_no_alert),
                                       cmocka_unit_test(test_rates),
                                       cmocka_unit_test(test_events_get_their_rate),
                                       cmocka_unit_test(test_tables_take_their_turn),
                                       cmocka_unit_test(test_an_alert_counts_its_trials)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
