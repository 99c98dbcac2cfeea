/* SPDX-License-Identifier: GPL-3.0-or-later
 * The stage detect: events, statistic stream, readiness, holes, quality, retraction, thresholds, independence of
 * the hop. */
#include "tests/unit/detect_rig.h"

static void test_plan(void **state)
{
    (void)state;
    run *r = new_run();
    assert_int_equal(begin(r, ""), GW_OK);
    const gw_spec *s = &r->plan.out[0];
    assert_int_equal(r->plan.n_out, 1);
    assert_true(s->rate.num == 32 && s->rate.den == 1 && s->phase_ns == 0);
    assert_true(s->dtype == GW_F32 && s->n_channels == 2 && s->block_samples == 1);
    assert_string_equal(s->channel[0], "H1,L1:LOGIT");
    assert_string_equal(s->channel[1], "H1,L1:STATISTIC");
    assert_string_equal(s->unit, "logit");
    assert_true(r->plan.delay_ns == 0 && r->plan.history[0] == 0);
    end(r); /* planned, never opened */
    free_run(r);
}

static void test_event(void **state)
{
    (void)state;
    run *r = new_run();
    put_signal(r, 100, 6, 100 * 4 + 1);
    for (int i = 0; i < 8; i++)
        r->flags[93 + i] = i == 0 ? GW_FLAG_INJECTION : 0; /* frame 93 is within the window */
    do_run(r, 1);
    assert_int_equal(r->env.n, 2); /* the peak stays at 101 */
    const gw_event *first = &r->env.event[0], *final = &r->env.event[1];
    assert_int_equal(first->phase, GW_PHASE_FIRST);
    assert_int_equal(final->phase, GW_PHASE_FINAL);
    /* The centre of column 402 of 128 Hz, at L1, less 10 ms. */
    assert_in_range(first->gps_ns, INT64_C(1126259449134000000), INT64_C(1126259449135000000));
    assert_true(final->gps_ns == first->gps_ns);
    assert_true(fabs(final->gps_error_s - 0.003) < 1e-4); /* one column holds all: the floor */
    assert_non_null(
        strstr(final->detail, ",\"arrivals\":{\"H1\":{\"gps\":\"1126259449.126719\",\"sigma_s\":0.0030"));
    assert_non_null(strstr(final->detail, "\"L1\":{\"gps\":\"1126259449.134531\",\"sigma_s\":0.0030"));
    assert_true(final->statistic == 6 && final->alert && final->injection);
    assert_true(final->noise_rate_hz == 1 / 86400.0 && final->background_s == 86400);
    assert_true(final->dq == GW_DQ_ALL);
    assert_string_equal(final->detectors, "H1,L1");
    assert_string_equal(final->stream, "search");
    assert_string_equal(final->model, "fake");
    assert_string_equal(final->model_hash, "ba7816bf8f01cfea");
    assert_int_equal(strlen(final->card_hash), 16);
    /* echo -n "1126259449 H1,L1 fake search" | sha256sum */
    assert_string_equal(first->id, "G5078ab354baaa2f1");
    assert_string_equal(final->id, first->id);
    assert_true(first->due_ns == 1001 && first->ingest_ns == 2000 + 101);
    assert_true(llabs(first->decided_ns - gw_gps_now_ns()) < 60 * GW_SECOND_NS);
    assert_true(first->pace == 1 && first->anchor_wall_ns == 111 && first->anchor_data_ns == 222);
    free_run(r);
}

static void test_statistic(void **state)
{
    (void)state;
    const int hops[] = {1, 2, 5, 40, 640};
    for (size_t h = 0; h < sizeof hops / sizeof hops[0]; h++) {
        run *r = new_run();
        for (int i = 0; i < FRAMES; i++)
            r->data[1][i * HOP + HOP - 1] = (float)sin(i);
        do_run(r, hops[h]);
        for (int i = 0; i < FRAMES; i++) {
            const bool ready = i >= WINDOW + BOX - 2;
            assert_true(isnan(r->statistic[i]) == !ready && isnan(r->logit[i]) == !ready);
            if (!ready)
                continue;
            assert_true(r->logit[i] == (float)sin(i));
            assert_true(fabs((double)r->statistic[i] - (sin(i) + sin(i - 1)) / 2) < 1e-6);
        }
        assert_int_equal(r->env.n, 0);
        free_run(r);
    }
}

/* What differs in two runs at different speeds: nothing but the wall clock. */
static void test_hop_changes_nothing(void **state)
{
    (void)state;
    const int hops[] = {1, 2, 4, 8, 32, 640};
    gw_env seen = {.n = 0};
    for (size_t h = 0; h < sizeof hops / sizeof hops[0]; h++) {
        run *r = new_run();
        put_signal(r, 50, 4, 50 * 4);
        put_signal(r, 150, 5.5F, 150 * 4);
        put_signal(r, 500, 7, 500 * 4 + 2);
        for (int i = 0; i < 40; i++)
            r->data[1][(300 + i) * HOP + HOP - 1] = 0.2F * (float)i;
        r->data[1][(FRAMES - 1) * HOP + HOP - 1] = 30;
        do_run(r, hops[h]);
        if (h == 0) {
            seen = r->env;
            assert_int_equal(seen.event[seen.n - 1].phase, GW_PHASE_FINAL);
            assert_in_range(seen.n, 8, MAX_EVENTS - 1);
        }
        assert_int_equal(r->env.n, seen.n);
        for (int i = 0; i < seen.n; i++) {
            gw_event e = r->env.event[i];
            e.ingest_ns = seen.event[i].ingest_ns;
            e.decided_ns = seen.event[i].decided_ns;
            const gw_event *s = &seen.event[i];
            assert_string_equal(e.id, s->id);
            assert_int_equal(e.phase, s->phase);
            assert_true(e.gps_ns == s->gps_ns && e.statistic == s->statistic && e.alert == s->alert);
        }
        free_run(r);
    }
}

static void test_not_ready(void **state)
{
    (void)state;
    run *r = new_run();
    for (int i = 0; i < WINDOW - 1; i++) /* loud while the window is not full: no event, not even later */
        r->data[1][i * HOP + HOP - 1] = 50;
    do_run(r, 1);
    assert_int_equal(r->env.n, 0);
    assert_int_equal(r->reason[0], GW_GAP_HISTORY);
    assert_int_equal(r->reason[WINDOW + BOX - 3], GW_GAP_HISTORY);
    assert_int_equal(r->reason[WINDOW + BOX - 2], GW_GAP_NONE);
    free_run(r);
}

/* A signal in the first window after the start or a hole, found with the first statistic, is told as it is: when it
 * came, and with the marks of its samples. Nothing comes over from before the hole. */
static void test_first_window(void **state)
{
    (void)state;
    const int hops[] = {1, 2, 5, 40};
    for (size_t h = 0; h < 4; h++)
        for (int hole = 0; hole <= 200; hole += 200)
            for (int column = 0; column <= 24; column += 24) {
                run *r = new_run();
                r->gap_before[0] = hole;
                put_signal(r, hole + WINDOW - 1, 6, hole * 4 + column);
                if (hole) {
                    r->data[1][(hole - 1) * HOP + COLUMN / 2] = r->data[0][(hole - 1) * HOP + COLUMN / 2] =
                        50;
                    r->flags[hole - 1] = GW_FLAG_REPLAY;
                }
                r->flags[hole + 3] = GW_FLAG_INJECTION;
                r->dq[hole + 4] &= ~(uint64_t)GW_DQ_CBC_CAT2;
                do_run(r, hops[h]);
                assert_int_equal(r->env.n, 2);
                const gw_event *e = &r->env.event[1];
                const double late_s = (double)(e->gps_ns - INT64_C(1126259446000000000)) / 1e9 -
                                      (hole * 4 + column + 1.5) / 128;
                assert_true(fabs(late_s + 0.010) < 1e-4);
                assert_true(e->injection && !e->archived && e->dq == (GW_DQ_ALL & ~(uint64_t)GW_DQ_CBC_CAT2));
                assert_true(column ? fabs(e->gps_error_s - 0.003) < 1e-4 : isnan(e->gps_error_s));
                assert_true(!strstr(e->detail, "arrivals") == !column);
                free_run(r);
            }
}

/* Marked as archived where any sample of the peak's window was. */
static void test_archived(void **state)
{
    (void)state;
    for (int frame = 101 - WINDOW; frame <= 102; frame++) {
        run *r = new_run();
        put_signal(r, 100, 6, 100 * 4 + 1); /* the peak stays at 101 */
        r->flags[frame] = GW_FLAG_REPLAY;
        do_run(r, 1);
        assert_int_equal(r->env.n, 2);
        for (int i = 0; i < 2; i++) {
            const gw_event *e = &r->env.event[i];
            assert_true(e->archived == (frame > 101 - WINDOW && frame <= 101) && !e->injection);
        }
        free_run(r);
    }
}

static void test_gap(void **state)
{
    (void)state;
    run *r = new_run();
    put_signal(r, 100, 4, 100 * 4);
    r->gap_before[0] = 104;
    const int before = net_resets;
    do_run(r, 1);
    assert_true(net_resets > before);
    assert_int_equal(r->env.n, 2);
    assert_int_equal(r->env.event[1].phase, GW_PHASE_FINAL);
    assert_true(r->env.event[1].ingest_ns == 2000 + 103); /* at the hole, not later */
    for (int i = 104; i < 104 + WINDOW + BOX - 2; i++)
        assert_true(isnan(r->statistic[i]) && r->reason[i] == GW_GAP_HISTORY);
    assert_true(r->statistic[104 + WINDOW + BOX - 2] == -2);
    free_run(r);
}

static void test_quality(void **state)
{
    (void)state;
    const uint64_t bad[] = {GW_DQ_DATA, GW_DQ_CBC_CAT1}, fine[] = {GW_DQ_CBC_CAT2, GW_DQ_CBC_CAT3};
    for (int k = 0; k < 2; k++) {
        run *r = new_run();
        put_signal(r, 200, 6, 200 * 4);
        r->dq[199] &= ~bad[k];
        do_run(r, 1);
        assert_int_equal(r->env.n, 0); /* the window is not clean again before the signal is gone */
        assert_int_equal(r->reason[199], GW_GAP_QUALITY);
        assert_int_equal(r->reason[200], GW_GAP_HISTORY);
        assert_int_equal(r->reason[199 + WINDOW + BOX - 1], GW_GAP_NONE);
        free_run(r);
        r = new_run();
        put_signal(r, 200, 6, 200 * 4);
        r->dq[199] &= ~fine[k];
        do_run(r, 1);
        assert_int_equal(r->env.n, 2);
        assert_true(r->env.event[0].dq == (GW_DQ_ALL & ~fine[k]) && !r->env.event[0].injection);
        free_run(r);
    }
    run *r = new_run(); /* a hardware injection */
    put_signal(r, 200, 6, 200 * 4);
    r->dq[201] &= ~(uint64_t)GW_DQ_NO_CBC_HW_INJ;
    do_run(r, 1);
    assert_true(r->env.n > 0 && r->env.event[r->env.n - 1].injection);
    free_run(r);
}

/* The members of an event's detail one by one; what does not fit leaves an object behind that is whole. */
static void test_detail(void **state)
{
    (void)state;
    gw_detail text;
    gw_spec in[2] = {stream("L1"), stream("H1")};
    const gw_model model = {.detector = {"H1", "L1"}};
    const uint64_t networks[2][2] = {{0, 0}, {0, 0xabc}};
    gw_verdict v = {.arrival_ns = {GW_NOT_KNOWN_NS, 5}};
    gw_detail_begin(text, 1.5, 4, in, 2);
    gw_detail_add_arrivals(text, &model, &v);
    gw_detail_add_networks(text, &model, networks[0]);
    assert_string_equal(text, "{\"thresholds\":{\"candidate\":1.5,\"alert\":4}}");
    snprintf(in[1].cleaning, sizeof in[1].cleaning, "mains\":x");
    v = (gw_verdict){.arrival_ns = {1999999600, 2000000000}, .arrival_error_s = {0.002, 0.5}};
    gw_detail_begin(text, 1.5, 4, in, 2);
    gw_detail_add_arrivals(text, &model, &v);
    gw_detail_add_networks(text, &model, networks[1]);
    gw_detail_add_reason(text, "H1", GW_DQ_DATA, 3960000000, 2000000000);
    static const char want[] =
        "{\"thresholds\":{\"candidate\":1.5,\"alert\":4},\"cleaning\":{\"H1\":\"mains?:x\"},"
        "\"arrivals\":{\"H1\":{\"gps\":\"2.000000\",\"sigma_s\":0.002000},"
        "\"L1\":{\"gps\":\"2.000000\",\"sigma_s\":0.500000}},\"networks\":{\"L1\":\"0000000000000abc\"},"
        "\"reason\":\"data quality: DATA of H1 not good from about GPS 4.0, 2.0 s after the event\"}";
    assert_string_equal(text, want);
    for (int i = 0; i < 40; i++)
        gw_detail_add_arrivals(text, &model, &v);
    assert_in_range(strlen(text), sizeof text - 120, sizeof text - 1);
    assert_string_equal(text + strlen(text) - 3, "}}}");
}

/* Withdrawn where the data turn bad soon after, once, with the reason; not for a hole of another kind, not
 * later. Which of two detectors is named does not depend on which the stage hears of first. What an earlier run may
 * have told is in doubt as long, from this one's beginning on, once. */
static void test_retraction(void **state)
{
    (void)state;
    static const struct {
        int gap[2], port[2];
        int64_t sample[2];
        const char *reason; /* NULL: none */
    } given[] = {
        {{150, -1}, {0, -1}, {5}, "CBC_CAT1 of L1 not good from about GPS 1126259450.7, 1.6 s after"},
        {{150, -1}, {-1, -1}, {5}, NULL},
        {{350, -1}, {0, -1}, {0}, "CBC_CAT1 of L1 not good from about GPS 1126259456.9, 7.8 s after"},
        {{360, -1}, {0, -1}, {0}, NULL}, /* more than 8 s */
        {{150, 150}, {0, 1}, {5, 5}, "CBC_CAT1 of H1 not good from about GPS 1126259450.7"},
        {{150, 150}, {1, 0}, {5, 5}, "CBC_CAT1 of H1 not good from about GPS 1126259450.7"},
        {{150, 150}, {0, 1}, {5, 6}, "CBC_CAT1 of L1 not good from about GPS 1126259450.7"},
        {{150, 150}, {1, 0}, {6, 5}, "CBC_CAT1 of L1 not good from about GPS 1126259450.7"},
        {{150, 200}, {0, 1}, {0, 0}, "CBC_CAT1 of L1 not good from about GPS 1126259450.7"}, /* once */
        {{102, -1},
         {0, -1},
         {0},
         "CBC_CAT1 of L1 not good from about GPS 1126259449.2"}, /* while it is open */
    };
    for (size_t g = 0; g < sizeof given / sizeof *given; g++) {
        run *r = new_run();
        put_signal(r, 100, 6, 100 * 4 + 1);
        for (int i = 0; i < 2; i++) {
            r->gap_before[i] = given[g].gap[i];
            r->bad_port[i] = given[g].port[i];
            r->bad_sample[i] = given[g].sample[i];
        }
        do_run(r, 1);
        assert_int_equal(r->env.n, given[g].reason ? 3 : 2);
        const gw_event *doubt = &r->env.doubt;
        assert_int_equal(r->env.n_doubts, given[g].port[0] >= 0 && given[g].gap[0] < 8 * 32);
        if (r->env.n_doubts) {
            char span[160];
            snprintf(span, sizeof span,
                     "{\"from_ns\":%lld,\"to_ns\":%lld,\"bad_ns\":%lld,\"reason\":\"data quality: ",
                     (long long)(doubt->gps_ns - 8 * GW_SECOND_NS),
                     (long long)gw_sample_to_ns(frame0 * HOP, (gw_rate){2048, 1}, 0),
                     (long long)doubt->gps_ns);
            assert_memory_equal(doubt->detail, span, strlen(span));
            assert_memory_equal(doubt->detail + strlen(span), given[g].reason, 20);
            assert_true(doubt->told_ns == r->env.event[2].told_ns && !doubt->id[0]);
        }
        const gw_event *final = &r->env.event[1], *e = &r->env.event[2];
        assert_int_equal(final->phase, GW_PHASE_FINAL);
        assert_null(strstr(final->detail, "reason"));
        if (given[g].reason) {
            assert_int_equal(e->phase, GW_PHASE_RETRACTED);
            assert_string_equal(e->id, final->id);
            assert_true(e->gps_ns == final->gps_ns && e->told_ns > final->told_ns);
            if (!strstr(e->detail, given[g].reason))
                fail_msg("%zu: %s", g, e->detail);
        }
        free_run(r);
    }
    for (int hop = 1; hop <= 4; hop *= 4) { /* the same by bits that a block carries */
        run *r = new_run();
        put_signal(r, 100, 6, 100 * 4 + 1);
        for (int i = 160; i < 200; i++)
            r->dq[i] = 0;
        do_run(r, hop);
        assert_int_equal(r->env.n, 3);
        assert_int_equal(r->env.event[2].phase, GW_PHASE_RETRACTED);
        assert_non_null(
            strstr(r->env.event[2].detail,
                   "\"reason\":\"data quality: DATA, CBC_CAT1 of L1 not good from about GPS 1126259451.0"));
        free_run(r);
    }
}

/* Sinks hear from where to where it searched. */
static void test_searched(void **state)
{
    (void)state;
    for (int hop = 1; hop <= 8; hop += 7) { /* whole hops, each of these is one */
        const int need = WINDOW + BOX - 2, at[] = {need, 104, 104 + need, 200, 200 + hop + need, FRAMES};
        run *r = new_run();
        r->gap_before[0] = 104;
        r->dq[200] &= ~(uint64_t)GW_DQ_DATA;
        do_run(r, hop);
        assert_int_equal(r->env.n_stretches, 7);
        for (int i = 0; i < 7; i++) {
            const int64_t sample = (frame0 + (i < 6 ? at[i] : 0)) * HOP;
            assert_true(r->env.stretch[i].searched == (i % 2 == 1));
            assert_true(r->env.stretch[i].until_ns ==
                        (i < 6 ? gw_sample_to_ns(sample, (gw_rate){2048, 1}, 0) + 10000000 : INT64_MAX));
        }
        free_run(r);
    }
}

static void test_thresholds(void **state)
{
    (void)state;
    run *r = new_run();
    put_signal(r, 100, 4, 100 * 4);
    assert_int_equal(begin(r, ", candidate: 4.5"), GW_OK);
    end(r);
    assert_int_equal(begin(r, ", candidate: 1, alert: 3.5"), GW_OK);
    end(r);
    do_run(r, 1); /* the card's: a candidate, no alert */
    assert_true(r->env.n == 2 && !r->env.event[1].alert);
    assert_true(r->env.event[1].noise_rate_hz == 2 / 86400.0);
    free_run(r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_plan),       cmocka_unit_test(test_event),
        cmocka_unit_test(test_statistic),  cmocka_unit_test(test_hop_changes_nothing),
        cmocka_unit_test(test_not_ready),  cmocka_unit_test(test_first_window),
        cmocka_unit_test(test_archived),   cmocka_unit_test(test_gap),
        cmocka_unit_test(test_quality),    cmocka_unit_test(test_retraction),
        cmocka_unit_test(test_detail),     cmocka_unit_test(test_searched),
        cmocka_unit_test(test_thresholds),
    };
    return cmocka_run_group_tests(tests, make_files, remove_files);
}
