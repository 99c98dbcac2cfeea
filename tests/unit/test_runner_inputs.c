/* SPDX-License-Identifier: GPL-3.0-or-later
 * The runner when inputs are late, absent, or not to be waited for, and when a stage may drop. */
#include "tests/unit/runner_rig.h"

const gw_kind *const gw_kinds[] = {&kind_counter, &kind_sum, &kind_both, &kind_keep, &kind_mute, NULL};

/* Two sources, one late and slow: the stage sleeps while it lacks that input, although the other has blocks
 * for it; and a source whose streams start elsewhere than another's does not starve itself. */
static void test_waiting_for_one_input_costs_nothing(void **state)
{
    (void)state;
    const clock_t before = clock();
    assert_int_equal(run("sources: {a: {kind: counter, block: 10, to: 400},\n"
                         "          b: {kind: counter, block: 10, from: 200, to: 400, slow_ms: 20}}\n"
                         "stages: {s: {kind: both, from: [b.L1, a.H1], hop: 20}}\n"
                         "sinks: {k: {kind: keep, from: s}, m: {kind: mute, from: [a.L1, b.H1]}}\n"),
                     GW_OK);
    const double cpu_s = (double)(clock() - before) / CLOCKS_PER_SEC;
    assert_true(seen.tiles);
    assert_int_equal(seen.end[0], 400);
    assert_true(seen.value[0][200] == 400);
    if (cpu_s > 0.3) /* it runs for 0.8 s; a stage that spins takes all of that */
        fail_msg("%.2f s of CPU for a run that mostly waits", cpu_s);
}

/* b stalls for a second while a goes on: with patience the stage does too, and takes b again when it is back.
 */
static void test_a_late_input_is_given_up(void **state)
{
    (void)state;
    const char *yaml = "sources: {a: {kind: counter, block: 10, to: 1000, slow_ms: 3},\n"
                       "          b: {kind: counter, block: 10, to: 1000, stall_at: 300, stall_ms: 400}}\n"
                       "stages: {s: {kind: both, from: [b.L1, a.H1], hop: 20%s}}\n"
                       "sinks: {k: {kind: keep, from: s}, m: {kind: mute, from: [a.L1, b.H1]}}\n";
    char text[600];
    snprintf(text, sizeof text, yaml, ", patience: 100ms");
    assert_int_equal(run(text), GW_OK);
    assert_true(seen.tiles);
    assert_int_equal(seen.end[0], 1000);
    for (int i = 0; i < 300; i++)
        assert_true(seen.value[0][i] == 2 * i);
    assert_true(seen.lost[0] >= 20 && seen.lost[0] == seen.lost_for[GW_GAP_LATE]);
    assert_true(seen.value[0][999] == 2 * 999); /* it was back */
    assert_true(seen.events >= 1);              /* gap() was called */
    snprintf(text, sizeof text, yaml, "");
    assert_int_equal(run(text), GW_OK);
    assert_int_equal(seen.lost[0], 0); /* without, it waits */
}

/* One that never comes must not keep the others from beginning. */
static void test_an_absent_input_is_given_up(void **state)
{
    (void)state;
    assert_int_equal(run("sources: {a: {kind: counter, block: 10, to: 500, slow_ms: 2},\n"
                         "          b: {kind: counter, block: 10, to: 500, stall_at: 0, stall_ms: 600}}\n"
                         "stages: {s: {kind: both, from: [b.L1, a.H1], hop: 20, patience: 100ms}}\n"
                         "sinks: {k: {kind: keep, from: s}, m: {kind: mute, from: [a.L1, b.H1]}}\n"),
                     GW_OK);
    assert_true(seen.tiles);
    assert_true(seen.lost_for[GW_GAP_LATE] > 0 && seen.first[0] == 0);
}

/* An input that may be missing: a hole in it, its end and its lateness cost the others nothing, and gap()
 * does not speak of it. */
static void test_an_input_may_be_missing(void **state)
{
    (void)state;
    assert_int_equal(run("sources: {a: {kind: counter, block: 9, to: 1000, hole_from: 303, hole_to: 404}}\n"
                         "stages: {s: {kind: both, from: [a.H1, a.L1], hop: 50, spare: true}}\n"
                         "sinks: {k: {kind: keep, from: s}}\n"),
                     GW_OK);
    assert_true(seen.tiles && seen.first[0] == 0 && seen.end[0] == 1000);
    assert_int_equal(seen.lost[0], 0);
    assert_int_equal(seen.events, 0);
    for (int i = 0; i < 1000; i++)
        assert_true(seen.value[0][i] == (i >= 300 && i < 450 ? i : 2 * i));
    assert_int_equal(run("sources: {a: {kind: counter, to: 1000}, b: {kind: counter, from: 100, to: 500}}\n"
                         "stages: {s: {kind: both, from: [a.H1, b.L1], hop: 20, history: 10, spare: true}}\n"
                         "sinks: {k: {kind: keep, from: s}, m: {kind: mute, from: [a.L1, b.H1]}}\n"),
                     GW_OK);
    assert_true(seen.tiles && seen.end[0] == 1000);
    for (int i = 20; i < 1000; i++) /* b has a hop's history from 120 on */
        assert_true(seen.value[0][i] == (i < 120 || i >= 500 ? i : 2 * i - 10));
    assert_int_equal(
        run("sources: {a: {kind: counter, block: 10, to: 1000, slow_ms: 3},\n"
            "          b: {kind: counter, block: 10, to: 1000, stall_at: 300, stall_ms: 400}}\n"
            "stages: {s: {kind: both, from: [a.H1, b.L1], hop: 20, spare: true, patience: 100ms}}\n"
            "sinks: {k: {kind: keep, from: s}, m: {kind: mute, from: [a.L1, b.H1]}}\n"),
        GW_OK);
    assert_true(seen.tiles && seen.end[0] == 1000 && seen.lost[0] == 0 && seen.events == 0);
    assert_true(seen.value[0][300] == 300 && seen.value[0][299] == 2 * 299 && seen.value[0][999] == 2 * 999);
    assert_int_equal(
        run("sources: {a: {kind: counter, block: 10, to: 500, stall_at: 100, stall_ms: 300},\n"
            "          b: {kind: counter, block: 10, to: 500}}\n"
            "stages: {s: {kind: both, from: [a.H1, b.L1], hop: 20, spare: true, patience: 50ms}}\n"
            "sinks: {k: {kind: keep, from: s}, m: {kind: mute, from: [a.L1, b.H1]}}\n"),
        GW_OK);
    assert_true(seen.end[0] == 500 && seen.lost[0] == 0); /* it gives nobody up ... */
    assert_int_equal(
        run("sources: {a: {kind: counter, block: 10, to: 500, stall_at: 0, stall_ms: 200},\n"
            "          b: {kind: counter, block: 10, to: 500}}\n"
            "stages: {s: {kind: both, from: [a.H1, b.L1], hop: 20, spare: true, patience: 50ms}}\n"
            "sinks: {k: {kind: keep, from: s}, m: {kind: mute, from: [a.L1, b.H1]}}\n"),
        GW_OK);
    assert_true(seen.first[0] == 0 && seen.end[0] == 500 &&
                seen.lost[0] == 0); /* ... before the first hop too */
    assert_int_equal(
        run("sources: {a: {kind: counter, block: 7, from: 60, to: 1000, both: true, hole_from: 303, "
            "hole_to: 404}}\n"
            "stages: {s: {kind: both, from: [a.H1, a.L1], hop: 50, history: 10, useless: true}}\n"
            "sinks: {k: {kind: keep, from: s}}\n"),
        GW_OK);
    assert_true(seen.tiles && seen.end[0] == 1000 && seen.value[0][999] == 999);
}

static void test_a_stage_may_drop(void **state)
{
    (void)state;
    assert_int_equal(run("sources: {a: {kind: counter, to: 1000, slow_ms: 1}}\n"
                         "stages: {fast: {kind: sum, from: a.H1}, s: {kind: both, from: a.L1, slow_ms: 10, "
                         "on_full: drop, credit: 2}}\n"
                         "sinks: {k: {kind: keep, from: [fast, s]}}\n"),
                     GW_OK);
    assert_true(seen.tiles);
    assert_int_equal(seen.lost[0], 0);
    assert_int_equal(seen.end[0], 1000);
    assert_true(seen.lost[1] > 0 && seen.lost[1] == seen.lost_for[GW_GAP_DROPPED]);
    assert_int_equal(seen.end[1], 1000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_waiting_for_one_input_costs_nothing),
        cmocka_unit_test(test_a_late_input_is_given_up),
        cmocka_unit_test(test_an_absent_input_is_given_up),
        cmocka_unit_test(test_an_input_may_be_missing),
        cmocka_unit_test(test_a_stage_may_drop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
