/* SPDX-License-Identifier: GPL-3.0-or-later
 * False-alarm rates of time slides against the same counted by hand: clusters, holes, what is withdrawn, what
 * is forgotten, a floor that rises, thresholds. */
#include "pipeline/stages/chance.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { FRAMES = 8, CLUSTER = 40, NEED = 2, SLIDES = 7, HOPS = 700, START = 5000 };

static const int32_t offset[SLIDES] = {0, 3, -3, 6, -6, 65, -130};
static float statistic[SLIDES][HOPS][FRAMES];
static bool there[HOPS], gone[HOPS];

static uint64_t seed;

static double uniform(void)
{
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (double)(seed >> 11) * 0x1p-53;
}

static int set_up(void **state)
{
    (void)state;
    seed = 11;
    for (int k = 0; k < SLIDES; k++)
        for (int h = 0; h < HOPS; h++)
            for (int f = 0; f < FRAMES; f++)
                statistic[k][h][f] = (float)(-log(uniform() + 1e-12));
    for (int h = 0; h < HOPS; h++) {
        there[h] = !(h == 50 || (h >= 200 && h < 209) || (h >= 400 && h < 520 && h % 7 == 0));
        gone[h] = (h >= 100 && h < 116) || h == 300;
    }
    return 0;
}

static gw_chance_conf conf_of(uint32_t memory, double floor)
{
    return (gw_chance_conf){.n_slides = SLIDES,
                            .offset_hops = offset,
                            .hop_frames = FRAMES,
                            .cluster_frames = CLUSTER,
                            .need_hops = NEED,
                            .memory_hops = memory,
                            .hop_s = 0.5,
                            .floor = floor,
                            .max_triggers = 100000};
}

static void feed(gw_chance *c, int to)
{
    for (int h = 0; h < to; h++) {
        if (!there[h])
            continue;
        gw_chance_hop(c, START + h);
        for (uint32_t k = 0; k < SLIDES; k++)
            gw_chance_slide(c, k, statistic[k][h]);
    }
    for (int h = 0; h < to; h++)
        if (gone[h])
            gw_chance_withdraw(c, START + h, START + h + 1);
    gw_chance_count(c);
}

/* -- by hand ----------------------------------------------------------------------------------------- */

static bool fit(int h)
{
    for (int i = 0; i <= NEED; i++)
        if (h - i < 0 || h - i >= HOPS || !there[h - i])
            return false;
    return true;
}

static bool live(int k, int h, bool exclusive)
{
    const int other = h - abs(offset[k]);
    return fit(h) && fit(other) && (!exclusive || (!gone[h] && !gone[other]));
}

/* Peaks of slide k in hops [.., to), closed ones, that count: into y; returns how many. */
static int peaks_by_hand(int k, int to, int memory, double floor, bool exclusive, double *y)
{
    int n = 0;
    int64_t at = -1;
    double peak = 0;
    bool open = false;
    for (int h = 0; h <= to; h++) {
        const bool counts = h < to && live(k, h, false);
        for (int f = 0; f < FRAMES; f++) {
            const int64_t frame = (int64_t)h * FRAMES + f;
            const double s = counts ? (double)statistic[k][h][f] : -1;
            const bool over = open && (frame - at > CLUSTER || (h < to && there[h] && !counts));
            if (over) {
                const int hop = (int)(at / FRAMES);
                if (hop >= to - memory && live(k, hop, exclusive))
                    y[n++] = peak;
                open = false;
            }
            if (s >= floor && (!open || s > peak)) {
                open = true;
                peak = s;
                at = frame;
            }
        }
    }
    return n;
}

static void compare(const gw_chance *c, int to, int memory, double floor)
{
    for (int exclusive = 0; exclusive < 2; exclusive++) {
        static double y[SLIDES * HOPS * FRAMES];
        int n = 0;
        uint64_t hops = 0;
        for (int k = 1; k < SLIDES; k++) {
            n += peaks_by_hand(k, to, memory, floor, exclusive, y + n);
            for (int h = to - memory > 0 ? to - memory : 0; h < to; h++)
                hops += live(k, h, exclusive);
        }
        const double slid_s = (double)hops * 0.5;
        assert_true(fabs(gw_chance_slid_s(c, exclusive) - (slid_s)) < 1e-9);
        /* The last clusters may still be open here and there. */
        assert_in_range(gw_chance_triggers(c, exclusive), n - SLIDES, n);
        for (double x = floor; x < 12; x += 0.37) {
            int above = 0;
            for (int i = 0; i < n; i++)
                above += y[i] >= x;
            const double rate = gw_chance_rate_hz(c, x, exclusive);
            assert_true(rate <= (above + 1) / slid_s + 1e-12 &&
                        rate >= (above - SLIDES + 1) / slid_s - 1e-12);
        }
    }
}

/* -- tests ------------------------------------------------------------------------------------------- */

static void test_counted_by_hand(void **state)
{
    (void)state;
    for (int memory = 100; memory <= HOPS; memory += 300) {
        gw_chance *c;
        const gw_chance_conf conf = conf_of((uint32_t)memory, 4);
        assert_int_equal(gw_chance_new(&c, &conf), GW_OK);
        feed(c, HOPS);
        compare(c, HOPS, memory, 4);
        gw_chance_destroy(&c);
    }
}

/* With a long silence at the end every cluster is closed, and counts are equal. */
static void test_exactly_when_all_is_closed(void **state)
{
    (void)state;
    for (int k = 0; k < SLIDES; k++)
        for (int h = HOPS - 8; h < HOPS; h++)
            memset(statistic[k][h], 0, sizeof statistic[k][h]);
    gw_chance *c;
    const gw_chance_conf conf = conf_of(HOPS, 3);
    assert_int_equal(gw_chance_new(&c, &conf), GW_OK);
    feed(c, HOPS);
    for (int exclusive = 0; exclusive < 2; exclusive++) {
        static double y[SLIDES * HOPS * FRAMES];
        int n = 0;
        for (int k = 1; k < SLIDES; k++)
            n += peaks_by_hand(k, HOPS, HOPS, 3, exclusive, y + n);
        assert_int_equal(gw_chance_triggers(c, exclusive), n);
        /* The threshold of a rate: there it holds, and a little lower no more. */
        for (double per_s = 0.0005; per_s < 0.05; per_s *= 1.7) {
            const double at = gw_chance_threshold(c, per_s, exclusive);
            if (isinf(at)) {
                assert_true(1 / gw_chance_slid_s(c, exclusive) > per_s);
                continue;
            }
            assert_true(gw_chance_rate_hz(c, at, exclusive) <= per_s);
            if (at > 3)
                assert_true(gw_chance_rate_hz(c, (double)nextafterf((float)at, 0), exclusive) > per_s);
        }
    }
    int distinct = 0;
    for (int h = 0; h < HOPS; h++)
        distinct += fit(h);
    assert_true(fabs(gw_chance_distinct_s(c) - (distinct * 0.5)) < 1e-9);
    /* The search's own clusters are no background, but known. */
    static double y[HOPS * FRAMES];
    const int own = peaks_by_hand(0, HOPS, HOPS, 3, false, y);
    gw_chance_peak peak[64];
    const uint32_t n = gw_chance_own(c, peak, 64);
    assert_int_equal(n, own < 64 ? own : 64);
    for (uint32_t i = 0; i < n; i++)
        assert_true(fabs(peak[i].statistic - (y[i])) < 1e-6);
    assert_int_equal(gw_chance_own(c, peak, 64), 0);
    gw_chance_destroy(&c);
}

static void test_too_many_triggers_raise_the_floor(void **state)
{
    (void)state;
    gw_chance *all, *few;
    gw_chance_conf conf = conf_of(HOPS, 2);
    assert_int_equal(gw_chance_new(&all, &conf), GW_OK);
    conf.max_triggers = 150;
    assert_int_equal(gw_chance_new(&few, &conf), GW_OK);
    feed(all, HOPS);
    feed(few, HOPS);
    assert_true(gw_chance_triggers(all, false) > 300);
    const double floor = gw_chance_floor(few);
    assert_true(floor > 2);
    assert_in_range(gw_chance_triggers(few, false), 1, 150);
    for (double x = floor + 1; x < 12; x += 0.5) {
        const double a = gw_chance_rate_hz(all, x, false), b = gw_chance_rate_hz(few, x, false);
        assert_true(fabs(a - b) <= 2 / gw_chance_slid_s(all, false)); /* clusters may begin elsewhere */
    }
    assert_true(gw_chance_threshold(few, 1e3, false) == floor);
    gw_chance_destroy(&all);
    gw_chance_destroy(&few);
}

static void test_nothing_known(void **state)
{
    (void)state;
    gw_chance *c;
    const gw_chance_conf conf = conf_of(100, 2);
    assert_int_equal(gw_chance_new(&c, &conf), GW_OK);
    gw_chance_count(c);
    assert_true(isnan(gw_chance_rate_hz(c, 5, false)));
    assert_true(isinf(gw_chance_threshold(c, 1, false)));
    assert_true(gw_chance_slid_s(c, true) == 0);
    gw_chance_hop(c, 3 * INT64_C(1000000000));
    gw_chance_hop(c, 4 * INT64_C(1000000000)); /* a hole of years */
    gw_chance_count(c);
    assert_true(gw_chance_distinct_s(c) == 0);
    gw_chance_destroy(&c);
    assert_null(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_counted_by_hand), cmocka_unit_test(test_exactly_when_all_is_closed),
        cmocka_unit_test(test_too_many_triggers_raise_the_floor), cmocka_unit_test(test_nothing_known)};
    return cmocka_run_group_tests(tests, set_up, NULL);
}
