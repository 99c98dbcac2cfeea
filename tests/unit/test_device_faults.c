/* SPDX-License-Identifier: GPL-3.0-or-later
 * Stages on a device when things end or go wrong: a stop in the middle, a device or a step that fails, no memory,
 * a wait that is missing. */
#include "tests/unit/device_rig.h"

static void test_a_stop_in_the_middle(void **state)
{
    (void)state;
    for (unsigned seed = 0; seed < 5; seed++) {
        int err;
        const fake_wish w = {.seed = seed, .delay_us = 2000};
        const fake_report r = run_on(&w,
                                     "sources: {a: {kind: ramp, endless: true}}\n"
                                     "stages: {g: {kind: gain, from: a}, h: {kind: gain, k: 3, from: g}}\n"
                                     "sinks: {k: {kind: look, from: h}}\n",
                                     30 + 10 * (int)seed, &err);
        assert_int_equal(err, GW_OK);
        assert_int_equal(r.violations, 0);
        assert_int_equal(r.copies_up, r.copies_down); /* what was under way came through */
        assert_int_equal(kept[0].blocks, r.copies_down);
    }
}

static void test_a_device_that_fails(void **state)
{
    (void)state;
    for (int64_t at = 1; at < 200; at += 13) {
        int err;
        const fake_wish w = {.seed = (unsigned)at, .delay_us = 200, .fail_at = at};
        const fake_report r =
            run_on(&w,
                   "sources: {a: {kind: ramp, endless: true}}\n"
                   "stages: {g: {kind: gain, from: a}, l: {kind: gain, late: true, from: g}}\n"
                   "sinks: {k: {kind: look, from: l}}\n",
                   0, &err);
        assert_int_equal(err, GW_ESYSTEM);
        assert_non_null(strstr(gw_err_detail(), "the fake device failed"));
        assert_int_equal(r.violations, 0);
    }
}

/* While earlier steps are under way: what they use stays until they are done. */
static void test_a_step_that_fails(void **state)
{
    (void)state;
    for (unsigned seed = 0; seed < 8; seed++) {
        int err;
        const fake_wish w = {.seed = seed, .delay_us = 4000};
        const fake_report r =
            run_on(&w,
                   "sources: {a: {kind: ramp, endless: true}}\n"
                   "stages: {g: {kind: gain, from: a}, h: {kind: gain, fail_at: 333, credit: 3, from: g}}\n"
                   "sinks: {k: {kind: look, from: h}}\n",
                   0, &err);
        assert_int_equal(err, GW_EFORMAT);
        assert_non_null(strstr(gw_err_detail(), "h.H1: told to fail"));
        assert_int_equal(r.violations, 0);
    }
}

static void test_a_device_without_memory(void **state)
{
    (void)state;
    int err;
    const fake_wish w = {.memory_bytes = 20000};
    (void)run_on(&w,
                 "sources: {a: {kind: ramp}}\n"
                 "stages: {g: {kind: gain, from: a}}\n"
                 "sinks: {k: {kind: look, from: g}}\n",
                 0, &err);
    assert_int_equal(err, GW_ENOMEM);
    assert_non_null(strstr(gw_err_detail(), "fake device:"));
}

/* Who does not wait is caught. */
static void test_a_missing_wait_is_found(void **state)
{
    (void)state;
    int err;
    const fake_wish w = {.seed = 3, .delay_us = 500, .hasty = true};
    const fake_report r = run_on(&w,
                                 "sources: {a: {kind: ramp}}\n"
                                 "stages: {g: {kind: gain, from: a}, h: {kind: gain, from: g}}\n"
                                 "sinks: {k: {kind: look, from: h}}\n",
                                 0, &err);
    assert_true(r.violations > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_stop_in_the_middle),    cmocka_unit_test(test_a_device_that_fails),
        cmocka_unit_test(test_a_step_that_fails),       cmocka_unit_test(test_a_device_without_memory),
        cmocka_unit_test(test_a_missing_wait_is_found),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
