/* SPDX-License-Identifier: GPL-3.0-or-later
 * The runner and the graph, with small kinds of our own: hops on the absolute grid whatever the blocks,
 * history, holes widened by it, alignment of two streams, a stage that fails, a stop, graphs refused. */
#include "tests/unit/runner_rig.h"

const gw_kind *const gw_kinds[] = {&kind_counter, &kind_sum, &kind_both, &kind_keep, &kind_mute, NULL};

static void test_hops_do_not_depend_on_blocks(void **state)
{
    (void)state;
    static const int blocks[] = {1, 3, 7, 10, 64, 1000};
    for (size_t b = 0; b < sizeof blocks / sizeof blocks[0]; b++) {
        for (int history = 0; history < 30; history += 14) {
            char yaml[512];
            snprintf(yaml, sizeof yaml,
                     "sources: {a: {kind: counter, block: %d, from: 13, to: 777}}\n"
                     "stages: {s: {kind: sum, from: a, hop: 20, history: %d, late: 5}}\n"
                     "sinks: {k: {kind: keep, from: s}}\n",
                     blocks[b], history);
            assert_int_equal(run(yaml), GW_OK);
            assert_true(seen.tiles);
            assert_int_equal(seen.drains, 1);
            /* the first whole hop with its history behind it, on the grid; five samples late */
            int64_t first = history == 0 ? 20 : history == 14 ? 40 : 60;
            assert_int_equal(seen.end[0], 760 - 5);
            for (int64_t i = 0; i < 755; i++)
                assert_true(seen.value[0][i] == (i + 5 < first ? -1 : (double)(2 * (i + 5) - history)));
        }
    }
}

static void test_blocks_as_they_come(void **state)
{
    (void)state;
    assert_int_equal(run("sources: {a: {kind: counter, block: 7, to: 100, hole_from: 30, hole_to: 50}}\n"
                         "stages: {s: {kind: sum, from: a, hop: 0}}\n"
                         "sinks: {k: {kind: keep, from: s}}\n"),
                     GW_OK);
    assert_true(seen.tiles);
    assert_int_equal(seen.end[0], 100);
    assert_int_equal(seen.lost[0], 0);
    assert_int_equal(seen.lost[1], 20);
    assert_true(seen.value[0][99] == 198 && seen.value[1][29] == 58 && seen.value[1][50] == 100);
}

static void test_hole_is_widened_by_history(void **state)
{
    (void)state;
    assert_int_equal(run("sources: {a: {kind: counter, block: 10, to: 1000, hole_from: 303, hole_to: 404}}\n"
                         "stages: {s: {kind: sum, from: a, hop: 10, history: 25}}\n"
                         "sinks: {k: {kind: keep, from: s}}\n"),
                     GW_OK);
    assert_true(seen.tiles);
    assert_true(seen.value[1][299] == 2 * 299 - 25);
    for (int i = 300; i < 430; i++) /* 404 + 25 = 429: the next hop begins at 430 */
        assert_true(seen.value[1][i] == -1);
    assert_true(seen.value[1][430] == 2 * 430 - 25);
    assert_true(seen.value[0][350] == 2 * 350 - 25); /* the other detector does not suffer */
    assert_int_equal(seen.lost[1], 30 + 130);        /* the first hops had no history either */
    assert_int_equal(seen.end[1], 1000);
    assert_int_equal(seen.events, 1); /* gap() was called once, and its event came through */
}

/* A client with other time stamps, or a sender that was started anew with other data: one GAP, at once, not a
 * turn for each of 1.6e9 hops. As before: it ends where a short one would. */
#define TEN_YEARS INT64_C(31557600000) /* samples */
static void test_a_hole_of_ten_years(void **state)
{
    (void)state;
    static const int64_t longer[] = {0, TEN_YEARS};
    for (int i = 0; i < 2; i++) {
        const int64_t more = longer[i];
        char yaml[700];
        snprintf(yaml, sizeof yaml,
                 "sources: {a: {kind: counter, to: %" PRId64 ", hole_from: 303, hole_to: %" PRId64
                 ", both: true}}\n"
                 "stages: {s: {kind: sum, from: a, hop: 10, history: 25}}\n"
                 "sinks: {k: {kind: keep, from: s}}\n",
                 more + 1000, more + 404);
        assert_int_equal(run(yaml), GW_OK);
        assert_true(seen.tiles && seen.value[1][299] == 2 * 299 - 25);
        assert_int_equal(seen.lost[1], more + 30 + 130);
        assert_int_equal(seen.end[1], more + 1000);
        /* two that differ: the next whole hop begins at 850 */
        snprintf(yaml, sizeof yaml,
                 "sources: {a: {kind: counter, to: %" PRId64 ", hole_from: 303, hole_to: %" PRId64
                 ", both: true},\n"
                 "          b: {kind: counter, to: %" PRId64 ", hole_from: 407, hole_to: %" PRId64
                 ", both: true, block: 9}}\n"
                 "stages: {s: {kind: both, from: [a.H1, b.L1], hop: 50}}\n"
                 "sinks: {k: {kind: keep, from: s}, m: {kind: mute, from: [a.L1, b.H1]}}\n",
                 more + 1000, more + 404, more + 1000, more + 808);
        assert_int_equal(run(yaml), GW_OK);
        assert_true(seen.tiles && seen.value[0][299] == 2 * 299);
        assert_int_equal(seen.lost[0], more + 550);
        assert_int_equal(seen.end[0], more + 1000);
    }
}

/* One input jumps while the other is late, and given up. */
static void test_a_hole_of_ten_years_in_live_data(void **state)
{
    (void)state;
    char yaml[700];
    snprintf(yaml, sizeof yaml,
             "sources: {a: {kind: counter, to: %" PRId64 ", hole_from: 303, hole_to: %" PRId64
             ", both: true},\n"
             "          b: {kind: counter, to: 1000, stall_at: 300, stall_ms: 400}}\n"
             "stages: {s: {kind: both, from: [b.L1, a.H1], hop: 20, patience: 100ms}}\n"
             "sinks: {k: {kind: keep, from: s}, m: {kind: mute, from: [a.L1, b.H1]}}\n",
             TEN_YEARS + 1000, TEN_YEARS + 404);
    assert_int_equal(run(yaml), GW_OK);
    assert_true(seen.tiles && seen.value[0][299] == 2 * 299);
    assert_true(seen.end[0] >= TEN_YEARS + 400 && seen.lost[0] == seen.end[0] - 300);
}

static void test_two_streams_are_aligned(void **state)
{
    (void)state;
    assert_int_equal(
        run("sources: {a: {kind: counter, block: 9, to: 1000, hole_from: 303, hole_to: 404}}\n"
            "stages: {early: {kind: sum, from: a, hop: 3, late: 3}, s: {kind: both, from: a, hop: 50}}\n"
            "sinks: {k: {kind: keep, from: s}, l: {kind: mute, from: early.L1}}\n"),
        GW_OK);
    assert_int_equal(run("sources: {a: {kind: counter, block: 9, to: 1000, hole_from: 303, hole_to: 404}}\n"
                         "stages: {s: {kind: both, from: a, hop: 50}}\n"
                         "sinks: {k: {kind: keep, from: s}}\n"),
                     GW_OK);
    assert_true(seen.tiles);
    assert_true(seen.value[0][299] == 2 * 299);
    for (int i = 300; i < 450; i++)
        assert_true(seen.value[0][i] == -1);
    assert_true(seen.value[0][450] == 2 * 450);
    assert_int_equal(seen.events, 1);
}

/* Two sources, one late and slow: the stage sleeps while it lacks that input, although the other has blocks
 * for it; and a source whose streams start elsewhere than another's does not starve itself. */
static void test_failure_names_the_stage(void **state)
{
    (void)state;
    assert_int_equal(run("sources: {a: {kind: counter, endless: true}}\n"
                         "stages: {s: {kind: sum, from: a, fail_at: 500}}\n"
                         "sinks: {k: {kind: keep, from: s}}\n"),
                     GW_EFORMAT);
    assert_non_null(strstr(gw_err_detail(), "told to fail"));
    assert_non_null(strstr(gw_err_detail(), "s.")); /* s.H1 or s.L1, whichever comes first */
    assert_true(seen.tiles);
}

/* Each of the failed sink's feeds ends only after the other's producer could go on. */
static void test_stop_drains(void **state)
{
    (void)state;
    gw_graph *g;
    memset(&seen, 0, sizeof seen);
    seen.tiles = true;
    assert_int_equal(gw_graph_parse(&g, "test",
                                    "sources: {a: {kind: counter, endless: true}}\n"
                                    "stages: {s: {kind: sum, from: a}}\n"
                                    "sinks: {k: {kind: keep, from: s}}\n"),
                     GW_OK);
    assert_int_equal(gw_graph_start(g), GW_OK);
    gw_graph_status status = {.data_ns = GW_NOT_KNOWN_NS};
    for (int turn = 0; turn < 100 && status.data_ns < GW_SECOND_NS; turn++) {
        assert_false(gw_graph_wait(g, 100));
        gw_graph_get_status(g, &status);
    }
    gw_graph_stop(g);
    assert_true(gw_graph_wait(g, 10000));
    assert_int_equal(seen.drains, 1);
    assert_true(seen.tiles && seen.end[0] > 0 && llabs(seen.end[0] - seen.end[1]) <= 20);
    gw_graph_free(&g);
}

static void bad(const char *yaml, const char *say)
{
    gw_graph *g = NULL;
    int err = gw_graph_parse(&g, "bad.yaml", yaml);
    assert_int_equal(err, GW_ECONFIG);
    if (!strstr(gw_err_detail(), say))
        fail_msg("'%s' does not say '%s'", gw_err_detail(), say);
    assert_null(g);
}

static void test_bad_graphs(void **state)
{
    (void)state;
    bad("sources: {a: {kind: counter}}\n", "at least one sink");
    bad("sinks: {k: {kind: keep, from: a}}\n", "at least one source");
    bad("sources: {a: {kind: nothing}}\n", "bad.yaml:1:");
    bad("sources: {a: {kind: counter}}\nsinks: {k: {kind: keep, from: b}}\n", "does not exist");
    bad("sources: {a: {kind: counter}}\nsinks: {k: {kind: keep, from: a.V1}}\n", "nothing from 'a.V1'");
    bad("sources: {a: {kind: counter}}\nsinks: {k: {kind: keep, from: a, frm: a}}\n", "frm");
    bad("sources: {a: {kind: counter}}\nstages: {s: {kind: sum, from: t}, t: {kind: sum, from: s}}\n"
        "sinks: {k: {kind: keep, from: s}}\n",
        "circle");
    bad("sources: {a: {kind: counter}}\nsinks: {a: {kind: keep, from: a}}\n", "taken");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_hops_do_not_depend_on_blocks),
        cmocka_unit_test(test_blocks_as_they_come),
        cmocka_unit_test(test_hole_is_widened_by_history),
        cmocka_unit_test(test_a_hole_of_ten_years),
        cmocka_unit_test(test_a_hole_of_ten_years_in_live_data),
        cmocka_unit_test(test_two_streams_are_aligned),
        cmocka_unit_test(test_failure_names_the_stage),
        cmocka_unit_test(test_stop_drains),
        cmocka_unit_test(test_bad_graphs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
