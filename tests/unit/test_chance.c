/* SPDX-License-Identifier: GPL-3.0-or-later
 * False-alarm rates of time slides against the same counted by hand: clusters, holes, what is withdrawn, what
 * is forgotten, a floor that rises, thresholds; over several runs, with fewer slides for a while, with an
 * archive, through a file; and whether the interval holds what it says. */
#include "pipeline/stages/chance.h"
#include "pipeline/stages/chance_file.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

enum { FRAMES = 8, CLUSTER = 40, NEED = 2, SLIDES = 7, HOPS = 700, START = 5000 };

static const int32_t offset[SLIDES] = {0, 3, -3, 6, -6, 65, -130};
static float statistic[SLIDES][HOPS][FRAMES];
static bool there[HOPS], gone[HOPS];
/* A second run begins; slides from off_slide on are not run in [off_from, off_to). */
static bool all_closed; /* the end closes the last clusters */
static int second_run = HOPS, off_slide = SLIDES, off_from = HOPS, off_to = HOPS;

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

static void feed_hops(gw_chance *c, int from, int to)
{
    for (int h = from; h < to; h++) {
        if (h == off_from)
            assert_int_equal(gw_chance_spell_begins(c, (uint32_t)off_slide, false), GW_OK);
        if (h == off_to)
            assert_int_equal(gw_chance_spell_begins(c, SLIDES, false), GW_OK);
        if (!there[h])
            continue;
        gw_chance_hop(c, START + h);
        for (uint32_t k = 0; k < SLIDES; k++)
            gw_chance_slide(c, k, statistic[k][h]);
    }
}

static void feed(gw_chance *c, int to)
{
    feed_hops(c, 0, to);
    for (int h = 0; h < to; h++)
        if (gone[h])
            gw_chance_withdraw(c, START + h, START + h + 1);
    gw_chance_count(c);
}

/* -- by hand ----------------------------------------------------------------------------------------- */

static int ring_of(int h)
{
    return h >= second_run ? second_run : 0;
}

static bool fit(int h)
{
    for (int i = 0; i <= NEED; i++)
        if (h - i < ring_of(h) || h - i >= HOPS || !there[h - i])
            return false;
    return true;
}

static bool live(int k, int h, bool exclusive)
{
    const int other = h - abs(offset[k]);
    if (other < ring_of(h) || (k >= off_slide && h >= off_from && h < off_to + NEED))
        return false;
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
            const bool over =
                open && (frame - at > CLUSTER || (h < to && there[h] && !counts) || (h == to && all_closed));
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

/* -- several runs ------------------------------------------------------------------------------------ */

/* Exactly: what was saved has no open cluster. */
static void assert_by_hand(const gw_chance_memory *m, const gw_chance_conf *conf, int to)
{
    gw_chance *c;
    static double y[SLIDES * HOPS * FRAMES];
    assert_int_equal(gw_chance_new(&c, conf), GW_OK);
    assert_int_equal(gw_chance_load(c, m), GW_OK);
    gw_chance_count(c);
    all_closed = true;
    for (int exclusive = 0; exclusive < 2; exclusive++) {
        int n = 0, hops = 0;
        for (int k = 1; k < SLIDES; k++) {
            n += peaks_by_hand(k, to, (int)conf->memory_hops, conf->floor, exclusive, y + n);
            for (int h = to - (int)conf->memory_hops > 0 ? to - (int)conf->memory_hops : 0; h < to; h++)
                hops += live(k, h, exclusive);
        }
        assert_int_equal(gw_chance_triggers(c, exclusive), n);
        assert_true(fabs(gw_chance_slid_s(c, exclusive) - hops * 0.5) < 1e-9);
        for (double x = conf->floor; x < 12; x += 0.37) {
            int above = 0;
            for (int i = 0; i < n; i++)
                above += y[i] >= x;
            assert_true(fabs(gw_chance_rate_hz(c, x, exclusive) - (above + 1) / (hops * 0.5)) < 1e-12);
        }
    }
    all_closed = false;
    gw_chance_destroy(&c);
}

/* 330 hops, killed; from hop 341 on the next run, in which fewer slides ran for a while. */
static void two_runs(gw_chance_memory *m, const gw_chance_conf *conf)
{
    gw_chance *c;
    set_up(NULL);
    second_run = 341;
    off_slide = 3;
    off_from = 560;
    off_to = 610;
    for (int h = 330; h < second_run; h++)
        there[h] = false;
    assert_int_equal(gw_chance_new(&c, conf), GW_OK);
    feed(c, 330);
    assert_int_equal(gw_chance_save(c, m), GW_OK);
    gw_chance_destroy(&c);
    assert_by_hand(m, conf, 330);
    assert_int_equal(gw_chance_new(&c, conf), GW_OK);
    assert_int_equal(gw_chance_load(c, m), GW_OK);
    feed_hops(c, second_run, HOPS);
    gw_chance_count(c);
    assert_int_equal(gw_chance_save(c, m), GW_OK);
    gw_chance_destroy(&c);
}

static void one_run(void)
{
    second_run = off_from = off_to = HOPS;
    off_slide = SLIDES;
    set_up(NULL);
}

static void test_a_second_run_goes_on(void **state)
{
    (void)state;
    for (int memory = 200; memory <= HOPS; memory += 250) {
        gw_chance_memory m = {.now = INT64_MIN};
        const gw_chance_conf conf = conf_of((uint32_t)memory, 4);
        two_runs(&m, &conf);
        assert_by_hand(&m, &conf, HOPS);
        gw_chance_memory_free(&m);
    }
    one_run();
}

/* -- files and archives ------------------------------------------------------------------------------ */

static char file[] = "/tmp/gwstream-chance-XXXXXX";

static gw_chance_record record_of(const gw_chance_conf *conf, const gw_chance_memory *m)
{
    gw_chance_record r = {.name = "noise",
                          .rules = {.detectors = "H1,L1",
                                    .hop_s = conf->hop_s,
                                    .hop_frames = conf->hop_frames,
                                    .cluster_frames = conf->cluster_frames,
                                    .need_hops = conf->need_hops},
                          .n_slides = conf->n_slides,
                          .offset_hops = (int32_t *)offset,
                          .memory = *m};
    memset(r.rules.model, 'a', sizeof r.rules.model - 1);
    return r;
}

static void test_through_a_file(void **state)
{
    (void)state;
    gw_chance_memory m = {.now = INT64_MIN};
    const gw_chance_conf conf = conf_of(HOPS, 4);
    two_runs(&m, &conf);
    const gw_chance_record r = record_of(&conf, &m);
    gw_chance_record s;
    assert_int_equal(gw_chance_file_read(&s, "/nowhere/at.all"), GW_EMISSING);
    assert_true(close(mkstemp(file)) == 0);
    assert_int_equal(gw_chance_file_read(&s, file), GW_EFORMAT); /* empty */
    assert_int_equal(gw_chance_file_write(&r, file), GW_OK);
    assert_int_equal(gw_chance_file_read(&s, file), GW_OK);
    assert_int_equal(gw_chance_record_match(&s, file, &r.rules), GW_OK); /* every member */
    assert_int_equal(s.memory.n_triggers, m.n_triggers);
    assert_by_hand(&s.memory, &conf, HOPS);
    gw_chance *c;
    assert_int_equal(gw_chance_of(&c, &s), GW_OK); /* whatever the memory of who reads it */
    assert_int_equal(gw_chance_triggers(c, false), m.n_triggers);
    gw_chance_destroy(&c);
    /* other rules */
    gw_chance_rules other = r.rules;
    other.cluster_frames++;
    assert_int_equal(gw_chance_record_match(&s, file, &other), GW_EMISMATCH);
    other = r.rules;
    other.model[0] = 'b';
    assert_int_equal(gw_chance_record_match(&s, file, &other), GW_EMISMATCH);
    assert_int_equal(gw_chance_record_add(&s, file, &r, "itself"), GW_EMISMATCH); /* the same time twice */
    gw_chance_record_free(&s);
    /* a bit of the data */
    FILE *f = fopen(file, "r+b");
    assert_non_null(f);
    static char text[1 << 20];
    const size_t size = fread(text, 1, sizeof text, f);
    int64_t hops[4] = {m.trigger[0].hop[0], m.trigger[0].hop[1], m.trigger[1].hop[0], m.trigger[1].hop[1]};
    float statistics[4] = {m.trigger[0].statistic, m.trigger[1].statistic, m.trigger[2].statistic,
                           m.trigger[3].statistic};
    const char *at[] = {memmem(text, size, hops, sizeof hops),
                        memmem(text, size, statistics, sizeof statistics)};
    for (int i = 0; i < 2; i++) {
        assert_non_null(at[i]);
        for (int turn = 0; turn < 2; turn++) { /* and back */
            assert_true(fseek(f, at[i] - text + 5, SEEK_SET) == 0);
            fputc(at[i][5] ^ (turn ? 0 : 0x10), f);
            fflush(f);
            assert_int_equal(gw_chance_file_read(&s, file), turn ? GW_OK : GW_EFORMAT);
            gw_chance_record_free(&s);
        }
    }
    assert_true(ftruncate(fileno(f), (off_t)size * 3 / 4) == 0);
    assert_int_equal(gw_chance_file_read(&s, file), GW_EFORMAT);
    fclose(f);
    unlink(file);
    gw_chance_memory_free(&m);
    one_run();
}

/* The first run's counts and the second run's, apart, are both runs' counts; and time that both know counts
 * once. */
static void test_archive(void **state)
{
    (void)state;
    gw_chance *first, *second, *both, *whole;
    gw_chance_memory m = {.now = INT64_MIN}, n = {.now = INT64_MIN};
    const gw_chance_conf conf = conf_of(HOPS, 4);
    two_runs(&n, &conf);
    assert_int_equal(gw_chance_new(&first, &conf), GW_OK);
    feed_hops(first, 0, 330);
    gw_chance_count(first);
    assert_int_equal(gw_chance_save(first, &m), GW_OK);
    gw_chance_record a = record_of(&conf, &m), sum;
    assert_int_equal(gw_chance_of(&both, &a), GW_OK); /* with its open clusters */
    assert_int_equal(gw_chance_new(&second, &conf), GW_OK);
    gw_chance_add_archive(second, both);
    feed_hops(second, second_run, HOPS);
    gw_chance_count(second);
    gw_chance_memory second_is = {.now = INT64_MIN};
    assert_int_equal(gw_chance_save(second, &second_is), GW_OK);

    gw_chance_record b = record_of(&conf, &second_is);
    assert_int_equal(gw_chance_file_write(&b, file), GW_OK);
    assert_int_equal(gw_chance_file_read(&sum, file), GW_OK);
    assert_int_equal(gw_chance_record_add(&sum, file, &a, "first"), GW_OK);
    unlink(file);
    assert_int_equal(gw_chance_new(&whole, &conf), GW_OK);
    assert_int_equal(gw_chance_load(whole, &n), GW_OK);
    gw_chance_count(whole);
    assert_true(fabs(sum.slid_s[0] - gw_chance_slid_s(whole, false)) < 1e-9);
    assert_true(fabs(sum.distinct_s - gw_chance_distinct_s(whole)) < 1e-9);
    assert_int_equal(sum.memory.n_triggers, gw_chance_triggers(whole, false));
    assert_true(fabs(gw_chance_slid_s(second, false) - gw_chance_slid_s(whole, false)) < 1e-9);
    assert_true(fabs(gw_chance_archived_s(second) - gw_chance_slid_s(first, false)) < 1e-9);
    assert_in_range(gw_chance_triggers(second, false), gw_chance_triggers(whole, false) - SLIDES,
                    gw_chance_triggers(whole, false));
    for (double per_s = 0.0005; per_s < 0.05; per_s *= 1.7) {
        const double at = gw_chance_threshold(second, per_s, false);
        assert_true(isinf(at) || gw_chance_rate_hz(second, at, false) <= per_s);
        assert_true(isinf(at) || at <= 4 ||
                    gw_chance_rate_hz(second, (double)nextafterf((float)at, 0), false) > per_s);
    }
    /* the same data again: nothing new */
    gw_chance_destroy(&second);
    assert_int_equal(gw_chance_new(&second, &conf), GW_OK);
    gw_chance_add_archive(second, both);
    feed_hops(second, 0, 330);
    gw_chance_count(second);
    assert_true(fabs(gw_chance_slid_s(second, false) - gw_chance_slid_s(both, false)) < 1e-9);
    assert_int_equal(gw_chance_triggers(second, false), gw_chance_triggers(both, false));
    assert_true(gw_chance_own_slid_s(second, false) == 0);
    /* a card's counts */
    gw_chance_add_archive(second, NULL);
    const float card[] = {4.5f, 7, 9};
    assert_int_equal(gw_chance_add_counts(second, card, 3, 1000, 4.2), GW_OK);
    gw_chance_count(second);
    assert_true(gw_chance_floor(second) > 4.19 && gw_chance_archived_s(second) > 999.9);
    assert_int_equal(gw_chance_triggers(second, false), gw_chance_triggers(first, false) + 3);
    gw_noise_rate r = {0};
    gw_chance_steps(second, &r);
    assert_true(fabs(r.slid_s[0] - gw_chance_slid_s(first, false) - 1000) < 1e-9);
    assert_true(r.above[0][r.n - 1] == 0 && r.above[0][0] > 3);
    gw_chance_memory_free(&m);
    gw_chance_memory_free(&n);
    gw_chance_memory_free(&second_is);
    gw_chance_record_free(&sum);
    gw_chance_destroy(&first);
    gw_chance_destroy(&second);
    gw_chance_destroy(&both);
    gw_chance_destroy(&whole);
    one_run();
}

/* -- the interval ------------------------------------------------------------------------------------ */

enum { MANY_SLIDES = 20, MANY_HOPS = 3200, TRIALS = 100 };

/* A trial: a trigger wherever one of the two has a glitch that is loud enough for this pair (`own`: without
 * glitches, wherever chance will). Returns whether the interval, and whether Poisson on n, hold the truth. */
static void trial(double glitches, double own, bool *holds, bool *poisson_holds)
{
    int32_t slid[MANY_SLIDES];
    static bool glitch[2][MANY_HOPS];
    for (int k = 0; k < MANY_SLIDES; k++)
        slid[k] = (k % 2 ? -1 : 1) * 65 * (k / 2 + 1); /* a block or more, as where there are many */
    for (int d = 0; d < 2; d++)
        for (int h = 0; h < MANY_HOPS; h++)
            glitch[d][h] = uniform() < glitches;
    const gw_chance_conf conf = {.n_slides = MANY_SLIDES,
                                 .offset_hops = slid,
                                 .hop_frames = 1,
                                 .need_hops = 0,
                                 .memory_hops = MANY_HOPS,
                                 .hop_s = 1,
                                 .floor = 1,
                                 .max_triggers = 100000};
    gw_chance *c;
    assert_int_equal(gw_chance_new(&c, &conf), GW_OK);
    for (int h = 0; h < MANY_HOPS; h++) {
        gw_chance_hop(c, h);
        for (int k = 0; k < MANY_SLIDES; k++) {
            const int other = h - abs(slid[k]);
            const int a = slid[k] > 0 ? h : other, b = slid[k] > 0 ? other : h;
            const bool loud =
                other >= 0 && ((glitch[0][a] && uniform() < 0.5) || (glitch[1][b] && uniform() < 0.5) ||
                               (own > 0 && uniform() < own));
            gw_chance_slide(c, (uint32_t)k, &(float){loud ? 2 : 0});
        }
    }
    gw_chance_count(c);
    gw_noise_rate r = {0};
    gw_chance_steps(c, &r);
    const double truth = 1 - (1 - glitches / 2) * (1 - glitches / 2) * (1 - own);
    double low = 0, high = 0;
    assert_true(gw_noise_rate_interval(&r, 1, &low, &high));
    *holds = low <= truth && truth <= high;
    const double n = gw_chance_triggers(c, false), t = gw_chance_slid_s(c, false);
    *poisson_holds = fabs(n - truth * t) < 1.645 * sqrt(n + 1);
    gw_chance_destroy(&c);
}

static void test_interval(void **state)
{
    (void)state;
    /* glitches in each detector, now and then; triggers of their own, many and few */
    static const struct {
        double glitches, own;
        int poisson_most;
    } row[] = {{0.005, 0, 60}, {0.02, 0, 60}, {0, 0.0025, 99}, {0, 0.0001, 99}};
    for (size_t i = 0; i < sizeof row / sizeof row[0]; i++) {
        int held = 0, poisson = 0;
        for (int t = 0; t < TRIALS; t++) {
            bool a, b;
            trial(row[i].glitches, row[i].own, &a, &b);
            held += a;
            poisson += b;
        }
        print_message("glitches %g, own %g a hop: the interval held %d of %d, Poisson on n %d\n",
                      row[i].glitches, row[i].own, held, TRIALS, poisson);
        assert_in_range(held, 80, 98);
        assert_true(poisson <= row[i].poisson_most);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_counted_by_hand),
                                       cmocka_unit_test(test_exactly_when_all_is_closed),
                                       cmocka_unit_test(test_too_many_triggers_raise_the_floor),
                                       cmocka_unit_test(test_nothing_known),
                                       cmocka_unit_test(test_a_second_run_goes_on),
                                       cmocka_unit_test(test_through_a_file),
                                       cmocka_unit_test(test_archive),
                                       cmocka_unit_test(test_interval)};
    return cmocka_run_group_tests(tests, set_up, NULL);
}
