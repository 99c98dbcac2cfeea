/* SPDX-License-Identifier: GPL-3.0-or-later
 * Stages on a device: the graph's copies, steps under way, finish, holes, presence, drain, a slow consumer.
 * What comes out is compared with the same graph on the host, sample by sample. */
#include "tests/unit/device_rig.h"

static void test_two_stages_one_copy_each_way(void **state)
{
    (void)state;
    static const int blocks[] = {20, 100, 7};
    for (int i = 0; i < 3; i++) {
        char yaml[400];
        snprintf(yaml, sizeof yaml,
                 "sources: {a: {kind: ramp, block: %d}}\n"
                 "stages: {g: {kind: gain, from: a}, h: {kind: gain, k: 3, from: g}}\n"
                 "sinks: {k: {kind: look, from: h}}\n",
                 blocks[i]);
        const fake_report r = compare(&late_and_by_chance, yaml);
        assert_true(kept[0].value[10][77] == 6 * (77 + 10.0f / 16));
        const uint64_t n = (END + (uint64_t)blocks[i] - 1) / (uint64_t)blocks[i];
        assert_int_equal(kept[0].blocks, n);
        assert_int_equal(r.copies_up, n);
        assert_int_equal(r.copies_down, n);
        assert_int_equal(r.works, 2 * n);
        assert_int_equal(r.bytes_up, (uint64_t)END * CHANNELS * sizeof(float));
        assert_int_equal(r.bytes_down, r.bytes_up);
        assert_true(r.most_pending > 4); /* copies and steps overlap */
    }
}

static void test_holes_presence_and_drain(void **state)
{
    (void)state;
    const fake_report r = compare(&late_and_by_chance,
                                  "sources: {a: {kind: ramp, hole_from: 1005, hole_to: 1333}}\n"
                                  "stages: {g: {kind: gain, from: a}, l: {kind: gain, late: true, from: g},\n"
                                  "         h: {kind: gain, k: 3, from: l}}\n"
                                  "sinks: {k: {kind: look, from: h}}\n");
    assert_int_equal(kept[0].end, END); /* the last block came by drain */
    assert_int_equal(kept[0].reason[1100], GW_GAP_ABSENT);
    assert_int_equal(kept[0].reason[999], 0);
    assert_int_equal(kept[0].presence[0][70], 0xf7); /* channel 3 of block 3 */
    assert_int_equal(kept[0].flags[4 * 20],
                     GW_FLAG_INJECTION);              /* of block 5, at whose step block 4 went out */
    assert_int_equal(r.copies_up, r.copies_down + 1); /* one block was held when the hole came */
}

static void test_what_finish_changes(void **state)
{
    (void)state;
    const fake_report r = compare(
        &late_and_by_chance, "sources: {a: {kind: ramp}}\n"
                             "stages: {g: {kind: gain, sieve: true, from: a}, h: {kind: gain, from: g}}\n"
                             "sinks: {k: {kind: look, from: h}}\n");
    assert_int_equal(kept[0].reason[7 * 20], GW_GAP_NAN);
    assert_int_equal(kept[0].presence[1][60], 0xfe);
    assert_int_equal(kept[0].dq[100], GW_DQ_ALL & ~(uint64_t)GW_DQ_CBC_CAT2);
    assert_int_equal(r.copies_up - r.copies_down, (200 + 6) / 7);
}

static void test_steps_under_way_are_bounded(void **state)
{
    (void)state;
    (void)compare(&late_and_by_chance, "sources: {a: {kind: ramp}}\n"
                                       "stages: {g: {kind: gain, in_flight: 1, from: a}}\n"
                                       "sinks: {k: {kind: look, from: g}}\n");
}

/* Who drops does so on the host's side of the copies, and holds up nobody. */
static void test_who_drops(void **state)
{
    (void)state;
    int err;
    const fake_report r =
        run_on(&late_and_by_chance,
               "sources: {a: {kind: ramp}}\n"
               "stages: {g: {kind: gain, from: a}, h: {kind: gain, on_full: drop, credit: 2, from: a}}\n"
               "sinks: {k: {kind: look, from: g}, l: {kind: look, number: 1, from: h},\n"
               "        m: {kind: look, number: 2, on_full: drop, credit: 2, slow_us: 5000, from: g}}\n",
               0, &err);
    assert_int_equal(err, GW_OK);
    assert_int_equal(r.violations, 0);
    assert_int_equal(kept[0].blocks, 200);
    assert_true(kept[2].blocks < 200 && kept[2].end == END);
    assert_int_equal(kept[1].end, END);
    for (int s = 1; s < 3; s++)
        for (int i = 0; i < END; i++)
            assert_true(kept[s].reason[i] == GW_GAP_DROPPED || kept[s].value[0][i] == (float)(2 * i));
}

/* One credit is the least there is. */
static void test_few_credits_and_a_slow_consumer(void **state)
{
    (void)state;
    (void)compare(
        &late_and_by_chance,
        "sources: {a: {kind: ramp, hole_from: 500, hole_to: 520}}\n"
        "stages: {g: {kind: gain, credit: 4, from: a}, l: {kind: gain, late: true, credit: 4, from: g}}\n"
        "sinks: {k: {kind: look, slow_us: 2000, credit: 1, from: l}}\n");
}

/* Host and device readers of either kind of stream: a stream is copied once each way, whoever wants it. */
static void test_a_stream_is_copied_once(void **state)
{
    (void)state;
    const char *yaml =
        "sources: {a: {kind: ramp}}\n"
        "stages: {g: {kind: gain, from: a}, h: {kind: gain, k: 3, from: a},\n"
        "         i: {kind: gain, k: 4, from: g}, j: {kind: gain, k: 5, host: true, from: g}}\n"
        "sinks: {k: {kind: look, from: h}, l: {kind: look, number: 1, from: i},\n"
        "        m: {kind: look, number: 2, from: j}, n: {kind: look, number: 3, from: j}}\n";
    const fake_report r = compare(&late_and_by_chance, yaml);
    assert_true(kept[2].value[0][50] == 500 && kept[1].value[0][50] == 400);
    assert_int_equal(r.copies_up, 200);
    assert_int_equal(r.copies_down, 3 * 200); /* h, g, i */
}

/* Whether this process has a device is its own affair: both ends of a link count the same credits. */
static void test_other_processes_see_no_difference(void **state)
{
    (void)state;
    const char *yaml =
        "nodes: {front: {}, back: {}}\n"
        "sources: {a: {kind: ramp, node: front}}\n"
        "stages: {g: {kind: gain, late: true, node: back, from: a},\n"
        "         h: {kind: gain, node: back, from: g}}\n"
        "sinks: {k: {kind: look, node: back, from: a}, l: {kind: look, number: 1, node: front, from: h}}\n";
    int credits[2] = {0}, across[2] = {0}, copies[2] = {0};
    for (int i = 0; i < 2; i++) {
        gw_device_set(i ? fake_device_begin(&late_and_by_chance) : NULL);
        gw_graph *g;
        assert_int_equal(gw_graph_parse(&g, "test", yaml), GW_OK);
        for (int k = 0; k < g->n_nodes; k++) {
            copies[i] += strcmp(g->node[k]->kind->kind, "copy") == 0;
            for (int p = 0; p < g->node[k]->n_in; p++)
                if (g->node[k]->in[p].route.across) {
                    across[i]++;
                    credits[i] += g->node[k]->in[p].credit * (10 + across[i]);
                }
        }
        gw_graph_free(&g);
    }
    gw_device_set(NULL);
    assert_int_equal(across[0], 3);
    assert_int_equal(across[1], 3);
    assert_int_equal(credits[0], credits[1]);
    assert_int_equal(copies[0], 0);
    assert_int_equal(copies[1], 2);
    (void)compare(&late_and_by_chance, yaml); /* one process runs it all */
}

static void test_the_file_may_say_no(void **state)
{
    (void)state;
    int err;
    const fake_report r = run_on(&late_and_by_chance,
                                 "run: {device: false}\n"
                                 "sources: {a: {kind: ramp}}\n"
                                 "stages: {g: {kind: gain, from: a}}\n"
                                 "sinks: {k: {kind: look, from: g}}\n",
                                 0, &err);
    assert_int_equal(err, GW_OK);
    assert_int_equal(r.copies_up + r.works, 0);
}

/* What `gwstream check` says. */
static void test_the_plan_names_copies_and_memory(void **state)
{
    (void)state;
    gw_device_set(fake_device_begin(&late_and_by_chance));
    gw_graph *g;
    assert_int_equal(gw_graph_parse(&g, "test",
                                    "sources: {a: {kind: ramp}}\n"
                                    "stages: {g: {kind: gain, from: a}}\n"
                                    "sinks: {k: {kind: look, from: g}}\n"),
                     GW_OK);
    char *text = NULL;
    size_t bytes = 0;
    FILE *f = open_memstream(&text, &bytes);
    assert_non_null(f);
    gw_graph_print(g, f);
    fclose(f);
    assert_non_null(strstr(text, "a.H1>device"));
    assert_non_null(strstr(text, "g.H1>host"));
    assert_non_null(strstr(text, "on the device, look-ahead"));
    free(text);
    gw_graph_free(&g);
    gw_device_set(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_two_stages_one_copy_each_way),
        cmocka_unit_test(test_holes_presence_and_drain),
        cmocka_unit_test(test_what_finish_changes),
        cmocka_unit_test(test_steps_under_way_are_bounded),
        cmocka_unit_test(test_few_credits_and_a_slow_consumer),
        cmocka_unit_test(test_who_drops),
        cmocka_unit_test(test_a_stream_is_copied_once),
        cmocka_unit_test(test_other_processes_see_no_difference),
        cmocka_unit_test(test_the_file_may_say_no),
        cmocka_unit_test(test_the_plan_names_copies_and_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
