/* SPDX-License-Identifier: GPL-3.0-or-later
 * How many slides a background takes on: all while there is time, fewer when it is late, dropped or too slow,
 * and again more. What an earlier run skipped is read in tests/flow/check_background_kept.py. */
#include "pipeline/stages/ration.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

static const int64_t second_ns = 1000000000;

static gw_ration new_ration(uint32_t all)
{
    return (gw_ration){.together = 32, .all = all, .runs = all, .hop_ns = second_ns};
}

/* A minute on a machine that needs so long for each slide. */
static uint32_t minute(gw_ration *r, int64_t slide_ns, int64_t late_ns)
{
    for (int h = 0; h < 60; h++)
        gw_ration_hop(r, (int64_t)r->runs * slide_ns, late_ns);
    return gw_ration_next(r);
}

static void test_all_while_there_is_time(void **state)
{
    (void)state;
    gw_ration r = new_ration(1201);
    for (int m = 0; m < 5; m++)
        assert_int_equal(minute(&r, second_ns / 1201 / 2, second_ns / 10), 1201);
    assert_int_equal(gw_ration_next(&r), 1201); /* a minute without data says nothing */
}

static void test_finds_what_it_can(void **state)
{
    (void)state;
    gw_ration r = new_ration(4801);
    uint32_t runs = 0;
    for (int m = 0; m < 6; m++) {
        runs = minute(&r, second_ns / 1000, second_ns / 10);
        assert_int_equal(runs % 32, 0);
        assert_in_range(runs, 600, 900); /* of the 1000 that there is time for */
    }
    for (int m = 0; m < 12; m++) /* the machine has become fast */
        runs = minute(&r, second_ns / 100000, second_ns / 10);
    assert_int_equal(runs, 4801);
}

static void test_late_or_dropped(void **state)
{
    (void)state;
    gw_ration r = new_ration(1201);
    const uint32_t late = minute(&r, second_ns / 1201 * 8 / 10, 5 * second_ns);
    assert_in_range(late, 1000, 1200);
    r.lost = true;
    assert_true(minute(&r, second_ns / 2000, second_ns / 10) < late);
    for (int m = 0; m < 40; m++)
        minute(&r, 10 * second_ns, 9 * second_ns);
    assert_int_equal(r.runs, 32); /* one lot always */
    gw_ration few = new_ration(5);
    assert_int_equal(minute(&few, second_ns, second_ns), 5);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_all_while_there_is_time),
                                       cmocka_unit_test(test_finds_what_it_can),
                                       cmocka_unit_test(test_late_or_dropped)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
