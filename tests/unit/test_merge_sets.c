/* SPDX-License-Identifier: GPL-3.0-or-later
 * Sets of detectors: pairs that find one signal are one event, who searched counts as a trial. And bounds: what
 * comes out is JSON however much, or however little, the words carry. */
#include "tests/unit/merge_rig.h"

/* ---- sets of detectors ---- */

static const char *const pair_names[] = {"hl", "hv", "lv"};

static gw_merge_conf pairs(void)
{
    gw_merge_conf conf = conf_of(3);
    for (int b = 0; b < 3; b++)
        conf.branch[b] = pair_names[b];
    return conf;
}

static gw_event of_pair(int pair, gw_phase phase, double at_s, double statistic)
{
    static const char *const detectors[] = {"H1,L1", "H1,V1", "L1,V1"};
    gw_event e = a_word(pair_names[pair], phase, at_s, statistic);
    const char *a = detectors[pair], *b = a + 3;
    memcpy(e.detectors, a, 6);
    e.dq = ~(UINT64_C(1) << pair);
    snprintf(e.detail, sizeof e.detail,
             "{\"arrivals\":{\"%.2s\":{\"gps\":\"%d.1\",\"sigma_s\":0.001},\"%.2s\":{\"gps\":\"%d.2\"}},"
             "\"thresholds\":{\"alert\":%d}}",
             a, pair, b, pair, pair == 2 ? 11 : 10);
    return e;
}

static void say_pair(rig *r, int pair, gw_phase phase, double at_s, double statistic)
{
    const gw_event e = of_pair(pair, phase, at_s, statistic);
    say(r, &e);
}

static int trials(const rig *r)
{
    return atoi(ask(&r->said[r->n - 1], "$.trials"));
}

static void pairs_that_find_it_are_one_set(void **state)
{
    (void)state;
    const gw_merge_conf conf = pairs();
    rig *r = rig_new(&conf);
    say_pair(r, 0, GW_PHASE_FIRST, 99.99, 5);
    assert_string_equal(r->said[0].detectors, "H1,L1");
    say_pair(r, 2, GW_PHASE_FIRST, 100.01, 4);
    say_pair(r, 1, GW_PHASE_FIRST, 100.02, 12);
    assert_said(r, 2, GW_PHASE_UPDATE, 12);
    for (int pair = 0; pair < 3; pair++)
        say_pair(r, pair, GW_PHASE_FINAL, 100, pair == 1 ? 12 : 6);
    assert_said(r, 3, GW_PHASE_FINAL, 12);
    const gw_event *e = &r->said[2];
    assert_string_equal(e->id, r->said[0].id);
    assert_string_equal(e->detectors, "H1,L1,V1");
    assert_true(e->dq == ~UINT64_C(7)); /* what holds in all of them */
    assert_int_equal(trials(r), 3);
    assert_true(fabs(e->noise_rate_hz / exp(-12) - 3) < 1e-9);
    assert_string_equal(ask(e, "$.arrivals.H1.gps"), "1.1"); /* the best pair's own */
    assert_string_equal(ask(e, "$.arrivals.V1.gps"), "1.2");
    assert_string_equal(ask(e, "$.arrivals.L1.gps"), "0.2"); /* and who alone has it */
    const char *all = ask(e, "$.arrivals");
    assert_null(strstr(strstr(all, "H1") + 1, "H1")); /* each once */
    assert_string_equal(ask(e, "$.branches[1].detectors"), "H1,V1");
    assert_string_equal(ask(e, "$.branches[2].arrivals.L1.gps"), "2.1");
    assert_string_equal(ask(e, "$.branches[0].thresholds.alert"), "10");
    assert_string_equal(ask(e, "$.branches[2].thresholds.alert"), "11");
    rig_free(r);
}

static void a_pair_that_withdraws_leaves_the_set(void **state)
{
    (void)state;
    const gw_merge_conf conf = pairs();
    rig *r = rig_new(&conf);
    say_pair(r, 0, GW_PHASE_FIRST, 100, 12);
    say_pair(r, 1, GW_PHASE_FIRST, 100, 6);
    say_pair(r, 0, GW_PHASE_FINAL, 100, 12);
    say_pair(r, 1, GW_PHASE_FINAL, 100, 6);
    assert_said(r, 2, GW_PHASE_FINAL, 12);
    assert_string_equal(r->said[1].detectors, "H1,L1,V1");
    say_pair(r, 1, GW_PHASE_RETRACTED, 100, 6); /* not the best one */
    assert_said(r, 4, GW_PHASE_FINAL, 12);
    assert_int_equal(r->said[2].phase, GW_PHASE_UPDATE);
    assert_string_equal(r->said[2].detectors, "H1,L1");
    gw_event e = of_pair(0, GW_PHASE_RETRACTED, 100, 12);
    snprintf(e.detail, sizeof e.detail, "{\"reason\":\"data, \\\"quality\\\" of {H1\"}");
    say(r, &e);
    assert_said(r, 5, GW_PHASE_RETRACTED, 12);
    assert_true(r->said[4].alert); /* who was told is told this too */
    assert_string_equal(r->said[4].detectors, "H1,L1");
    assert_string_equal(ask(&r->said[4], "$.reason"), "data, \"quality\" of {H1");
    rig_free(r);
}

/* With V1 lost the event of the others is one of one search, within a second. */
static void who_does_not_search_does_not_count(void **state)
{
    (void)state;
    const gw_merge_conf conf = pairs();
    rig *r = rig_new(&conf);
    for (int b = 0; b < 3; b++)
        reached(r, pair_names[b], 109.5, true);
    for (double s = 109.75; s <= 110; s += 0.25) /* silent, but not for long */
        reached(r, "hl", s, true);
    say_pair(r, 0, GW_PHASE_FIRST, 110.44, 5);
    assert_int_equal(trials(r), 3);
    for (double s = 110.5; s <= 129.75; s += 0.25)
        reached(r, "hl", s, true);
    say_pair(r, 0, GW_PHASE_FINAL, 110.44, 5);
    assert_int_equal(trials(r), 1); /* now it is known that they were gone */
    reached(r, "lv", 129.8, false); /* there, with a hole */
    say_pair(r, 0, GW_PHASE_FIRST, 129.9, 5);
    assert_int_equal(trials(r), 1);
    assert_true(fabs(r->said[r->n - 1].noise_rate_hz / exp(-5) - 1) < 1e-9);
    say_pair(r, 0, GW_PHASE_FINAL, 129.9, 5);
    reached(r, "hv", 150.0, false);
    reached(r, "hv", 150.25, true); /* V1 is back, for one of them */
    reached(r, "hl", 150.25, true);
    reached(r, "lv", 150.25, false);
    say_pair(r, 0, GW_PHASE_FIRST, 150.3, 5);
    assert_int_equal(trials(r), 2);
    say_pair(r, 2, GW_PHASE_FIRST, 150.3, 12); /* who speaks has searched */
    assert_int_equal(trials(r), 3);
    rig_free(r);
}

/* A branch on 4 s blocks that is not behind in time is not taken for a silent one. */
static void blocks_may_be_long(void **state)
{
    (void)state;
    const gw_merge_conf conf = pairs();
    rig *r = rig_new(&conf);
    for (int b = 0; b < 3; b++)
        reached(r, pair_names[b], 100, true);
    say_pair(r, 1, GW_PHASE_FIRST, 103.5, 5); /* of its next block; the others have not had theirs */
    assert_int_equal(trials(r), 3);
    rig_free(r);
}

/* Where words are held, a branch that is far ahead counts as it was at the time. */
static void trials_are_of_stream_time(void **state)
{
    (void)state;
    const gw_merge_conf conf = pairs();
    for (int order = 0; order < 2; order++) {
        rig *r = rig_new(&conf);
        for (int i = 0; i < 2; i++) {
            if (i == order) {
                for (int k = 0; k < 2; k++) {
                    gw_event e = of_pair(0, k ? GW_PHASE_FINAL : GW_PHASE_FIRST, 120, 5);
                    e.pace = 0;
                    e.told_ns += k;
                    say(r, &e);
                    e = of_pair(0, k ? GW_PHASE_FINAL : GW_PHASE_FIRST, 140, 5);
                    e.pace = 0;
                    e.told_ns += k;
                    say(r, &e);
                }
                reached(r, "hl", 1000, true);
            } else {
                for (int b = 1; b < 3; b++) {
                    reached(r, pair_names[b], 119.5, true);
                    reached(r, pair_names[b], b == 1 ? 130 : 139, false);
                    for (int s = 150; s < 1000; s += 2) {
                        reached(r, pair_names[b], s, true);
                        reached(r, pair_names[b], s + 1, false);
                    }
                }
            }
        }
        assert_int_equal(r->n, 4);
        assert_string_equal(ask(&r->said[0], "$.trials"), "3"); /* lost half a second before */
        assert_string_equal(ask(&r->said[1], "$.trials"), "3");
        assert_string_equal(ask(&r->said[2], "$.trials"), "3");
        rig_free(r);
    }
}

/* ---- bounds ---- */

/* Whatever of a word's detail is there, what comes out is JSON. */
static void details_may_be_cut(void **state)
{
    (void)state;
    const gw_merge_conf conf = pairs();
    const gw_event whole = of_pair(0, GW_PHASE_FIRST, 100, 5);
    const size_t n = strlen(whole.detail);
    for (size_t cut = 0; cut < n; cut++) {
        rig *r = rig_new(&conf);
        gw_event e = whole;
        e.detail[cut] = cut ? '}' : '\0';
        e.detail[cut + 1] = '\0';
        say(r, &e);
        say_pair(r, 1, GW_PHASE_FIRST, 100, 12);
        assert_int_equal(r->n, 2);
        assert_string_equal(ask(&r->said[0], NULL), "1");
        assert_string_equal(ask(&r->said[1], NULL), "1");
        assert_string_equal(ask(&r->said[1], "$.arrivals.V1.gps"), "1.2");
        rig_free(r);
    }
}

/* Three pairs with what a word carries: no branch is lost, and none of the detectors. */
static void there_is_room_for_three_pairs(void **state)
{
    (void)state;
    const gw_merge_conf conf = pairs();
    rig *r = rig_new(&conf);
    for (int pair = 0; pair < 3; pair++) {
        gw_event e = of_pair(pair, GW_PHASE_FIRST, 100, pair < 2 ? 5 : 12);
        const size_t used = strlen(e.detail) - 1;
        snprintf(e.detail + used, sizeof e.detail - used,
                 ",\"background\":{\"source\":\"live\",\"until\":14000000%02d,\"slid_s\":864000,\"distinct_"
                 "s\":3600,"
                 "\"archived_s\":864000,\"exclusive_rate_hz\":0.000473933649,\"interval\":[1.2e-5,3.4e-5],"
                 "\"bound\":"
                 "true,\"more\":\"%0160d\"}}",
                 pair, pair);
        say(r, &e);
        if (pair == 0)
            assert_string_equal(ask(&r->said[0], "$.branches[0].background.until"), "1400000000");
    }
    const gw_event *e = &r->said[r->n - 1];
    assert_string_equal(ask(e, NULL), "1");
    assert_string_equal(ask(e, "$.branches[0].stream"), "hl");
    assert_string_equal(ask(e, "$.branches[0].background"), "(null)"); /* its rate is there */
    assert_string_equal(ask(e, "$.branches[0].arrivals.H1.gps"), "0.1");
    assert_string_equal(ask(e, "$.branches[2].stream"), "lv");
    assert_string_equal(ask(e, "$.branches[2].thresholds.alert"), "11");
    assert_string_equal(ask(e, "$.background.until"), "1400000002");
    assert_string_equal(ask(e, "$.arrivals.H1.gps"), "0.1");
    rig_free(r);
}

static void many_branches_with_long_names_stay_json(void **state)
{
    (void)state;
    static char names[GW_MERGE_BRANCHES][48];
    gw_merge_conf conf = {
        .group = "alerts", .n_branches = GW_MERGE_BRANCHES, .refractory_ns = 8 * GW_SECOND_NS};
    for (int b = 0; b < GW_MERGE_BRANCHES; b++) {
        snprintf(names[b], sizeof names[b], "branch-%02d-\"quoted\\-%021d", b % 100, 7);
        conf.branch[b] = names[b];
    }
    rig *r = rig_new(&conf);
    for (int b = 0; b < GW_MERGE_BRANCHES; b++) {
        gw_event e = a_word(names[b], GW_PHASE_FIRST, 100 + 0.25 * b, 5 + 2 * b);
        memset(e.model, 'x', sizeof e.model);
        memset(e.model_hash, '"', sizeof e.model_hash);
        if (b % 2) {
            memset(e.detail, ' ', sizeof e.detail);
            e.detail[0] = '{';
            snprintf(e.detail + sizeof e.detail - 10, 10, "\"a\":\"b\"}");
        }
        say(r, &e);
        assert_string_equal(ask(&r->said[r->n - 1], NULL), "1");
        assert_string_equal(ask(&r->said[r->n - 1], "$.trials"), "16");
        assert_string_not_equal(ask(&r->said[r->n - 1], "$.branches[0].stream"), "(null)");
    }
    assert_int_equal(r->n, GW_MERGE_BRANCHES);
    gw_event stranger = a_word("nobody", GW_PHASE_FIRST, 100, 5);
    assert_int_equal(gw_merge_take(r->m, &stranger), GW_EBUG);
    assert_false(gw_merge_has_branch(r->m, "nobody"));
    rig_free(r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pairs_that_find_it_are_one_set),
        cmocka_unit_test(a_pair_that_withdraws_leaves_the_set),
        cmocka_unit_test(who_does_not_search_does_not_count),
        cmocka_unit_test(blocks_may_be_long),
        cmocka_unit_test(trials_are_of_stream_time),
        cmocka_unit_test(details_may_be_cut),
        cmocka_unit_test(there_is_room_for_three_pairs),
        cmocka_unit_test(many_branches_with_long_names_stay_json),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
