/* SPDX-License-Identifier: GPL-3.0-or-later
 * The clustering of detect against sequences worked out by hand: 32 frames a second, smoothing over 2
 * frames, thresholds 3 and 5, a window of 1.5 s, 8 s of refractory time. */
#include "pipeline/block.h"
#include "pipeline/stages/candidate.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { HOP = 64, COLUMNS = 4, MAX_SAID = 64, NO_GAP = -1 };

static const int64_t origin = INT64_C(1126259446) * 32; /* frame that begins at a whole GPS second */

typedef struct said {
    int n;
    gw_verdict v[MAX_SAID];
    int64_t at[MAX_SAID]; /* frame, relative to the origin */
} said;

static gw_candidate_conf usual(void)
{
    return (gw_candidate_conf){.rate = {2048, 1},
                               .hop_samples = HOP,
                               .window_samples = 48 * HOP,
                               .smoothing_frames = 2,
                               .candidate = 3,
                               .alert = 5,
                               .refractory_s = 8,
                               .travel_s = 0.010012,
                               .reach_s = 0.75};
}

static void note(said *s, const gw_verdict *v, int64_t at)
{
    assert_true(s->n < MAX_SAID);
    s->v[s->n] = *v;
    s->at[s->n++] = at;
}

/* Frames [from, to) of `logit`, all with good quality. */
static void feed(gw_candidate *c, const float *logit, int64_t from, int64_t to, said *s)
{
    for (int64_t i = from; i < to; i++) {
        gw_verdict v;
        double statistic;
        const gw_frame f = {.index = origin + i, .logit = logit[i], .dq = GW_DQ_ALL};
        int r = gw_candidate_frame(c, &f, &statistic, &v);
        assert_in_range(r, 0, 1);
        if (r)
            note(s, &v, i);
    }
}

/* A plateau: the statistic is `level` from frame at + 1 to at + frames - 1. */
static void plateau(float *logit, int at, int frames, float level)
{
    for (int i = 0; i < frames; i++)
        logit[at + i] = level;
}

static void quiet(float *logit, int n)
{
    for (int i = 0; i < n; i++)
        logit[i] = -4;
}

static int64_t frame_end_ns(int64_t frame)
{
    return INT64_C(1126259446000000000) + (frame + 1) * INT64_C(31250000);
}

static void test_quiet(void **state)
{
    (void)state;
    const gw_candidate_conf conf = usual();
    gw_candidate *c;
    gw_verdict v;
    double statistic;
    assert_int_equal(gw_candidate_new(&c, &conf), GW_OK);
    const float logit[] = {1, 2, -3, 4, 1.5F};
    for (int i = 0; i < 5; i++) {
        const gw_frame f = {.index = origin + i, .logit = logit[i]};
        assert_int_equal(gw_candidate_frame(c, &f, &statistic, &v), 0);
        if (i == 0)
            assert_true(isnan(statistic));
        else
            assert_true(statistic == ((double)logit[i] + (double)logit[i - 1]) / 2);
    }
    assert_int_equal(gw_candidate_gap(c, &v), 0);
    gw_candidate_destroy(&c);
    assert_null(c);
    gw_candidate_destroy(&c);
}

static void test_one_peak(void **state)
{
    (void)state;
    float logit[200];
    quiet(logit, 200);
    plateau(logit, 100, 6, 4); /* statistic 0 at 100, 4 at 101..105, 2 at 106 (frame 106 is 8: see below) */
    logit[103] = 8;            /* 6 at 103 and 104 */
    gw_candidate_conf conf = usual();
    conf.peak_offset_s = -0.2;
    gw_candidate *c;
    said s = {0};
    assert_int_equal(gw_candidate_new(&c, &conf), GW_OK);
    feed(c, logit, 0, 200, &s);
    assert_int_equal(s.n, 3);
    assert_int_equal(s.v[0].phase, GW_PHASE_FIRST);
    assert_int_equal(s.at[0], 101);
    assert_true(s.v[0].statistic == 4 && !s.v[0].alert);
    assert_true(s.v[0].gps_ns == frame_end_ns(101) - 200000000);
    assert_int_equal(s.v[1].phase, GW_PHASE_UPDATE); /* past the alert threshold: at once */
    assert_int_equal(s.at[1], 103);
    assert_true(s.v[1].statistic == 6 && s.v[1].alert);
    assert_int_equal(s.v[2].phase, GW_PHASE_FINAL);
    assert_int_equal(s.at[2], 106 + 15); /* 105 (4) is within 2 of the peak; 106 is the first of 16 below */
    assert_true(s.v[2].statistic == 6 && s.v[2].alert && s.v[2].peak_frame == origin + 103);
    assert_true(s.v[2].gps_ns == frame_end_ns(103) - 200000000);
    assert_true(s.v[2].first_gps_ns == s.v[0].gps_ns);
    gw_candidate_destroy(&c);
}

/* Growth without crossing the alert threshold: told every 8 frames at most. The last is told for the peak's
 * time, which moved; it grew by 1 and no more. */
static void test_updates_are_limited(void **state)
{
    (void)state;
    float logit[300];
    quiet(logit, 300);
    for (int i = 0; i < 30; i++)
        logit[50 + i] = 3.25F + 0.25F * (float)i;
    gw_candidate_conf conf = usual();
    conf.alert = 100;
    gw_candidate *c;
    said s = {0};
    assert_int_equal(gw_candidate_new(&c, &conf), GW_OK);
    feed(c, logit, 0, 300, &s);
    assert_int_equal(s.n, 6);
    assert_int_equal(s.v[0].phase, GW_PHASE_FIRST);
    for (int i = 1; i < 5; i++) {
        assert_int_equal(s.v[i].phase, GW_PHASE_UPDATE);
        assert_int_equal(s.at[i] - s.at[i - 1], 8);
        assert_true(s.v[i].statistic == s.v[i - 1].statistic + (i < 4 ? 2 : 1));
    }
    assert_int_equal(s.v[5].phase, GW_PHASE_FINAL);
    gw_candidate_destroy(&c);
}

/* A long plateau ends one window after the peak, and does not begin again while it lasts. */
static void test_plateau(void **state)
{
    (void)state;
    float logit[700];
    quiet(logit, 700);
    plateau(logit, 99, 200, 4);
    gw_candidate *c;
    said s = {0};
    const gw_candidate_conf conf = usual();
    assert_int_equal(gw_candidate_new(&c, &conf), GW_OK);
    feed(c, logit, 0, 700, &s);
    assert_int_equal(s.n, 2);
    assert_int_equal(s.at[0], 100);
    assert_int_equal(s.v[1].phase, GW_PHASE_FINAL);
    assert_int_equal(s.at[1], 100 + 48);
    gw_candidate_destroy(&c);
}

static int two_peaks(int apart, float second, said *s)
{
    float logit[1000];
    quiet(logit, 1000);
    plateau(logit, 99, 2, 4);
    plateau(logit, 99 + apart, 2, second);
    gw_candidate *c;
    const gw_candidate_conf conf = usual();
    assert_int_equal(gw_candidate_new(&c, &conf), GW_OK);
    feed(c, logit, 0, 1000, s);
    gw_candidate_destroy(&c);
    return s->n;
}

static void test_two_peaks(void **state)
{
    (void)state;
    said quieter = {0}, louder = {0}, later = {0}, close = {0};
    assert_int_equal(two_peaks(8 * 32, 3.5F, &quieter), 2); /* the last refractory frame: the same event */
    assert_int_equal(two_peaks(8 * 32 + 1, 3.5F, &later), 4);
    assert_int_equal(later.v[2].phase, GW_PHASE_FIRST);
    assert_int_equal(later.v[3].phase, GW_PHASE_FINAL);
    assert_true(later.v[2].first_gps_ns == frame_end_ns(100 + 257));
    assert_int_equal(two_peaks(7 * 32, 6, &louder), 4);
    assert_int_equal(louder.v[1].phase, GW_PHASE_FINAL);
    assert_int_equal(louder.v[2].phase, GW_PHASE_UPDATE);
    assert_int_equal(louder.v[3].phase, GW_PHASE_FINAL);
    assert_true(louder.v[3].statistic == 6 && louder.v[3].alert);
    assert_true(louder.v[3].first_gps_ns == louder.v[0].gps_ns);
    assert_true(louder.v[3].gps_ns == frame_end_ns(100 + 224));
    assert_int_equal(two_peaks(10, 3.5F, &close), 2); /* before the first has settled */
    assert_int_equal(close.at[1], 100 + 10 + 1 + 15);
}

static void test_end_and_gap(void **state)
{
    (void)state;
    float logit[400];
    quiet(logit, 400);
    plateau(logit, 99, 100, 6);
    gw_candidate *c;
    gw_verdict v;
    said s = {0};
    const gw_candidate_conf conf = usual();
    assert_int_equal(gw_candidate_new(&c, &conf), GW_OK);
    feed(c, logit, 0, 103, &s);
    assert_int_equal(s.n, 1);
    assert_true(s.v[0].alert);
    assert_int_equal(gw_candidate_gap(c, &v), 1);
    assert_int_equal(v.phase, GW_PHASE_FINAL);
    assert_true(v.peak_frame == origin + 100 && v.statistic == 6);
    assert_int_equal(gw_candidate_gap(c, &v), 0); /* said once */

    /* After the hole the box is empty, the cluster is not forgotten. */
    double statistic;
    gw_frame f = {.index = origin + 120, .logit = 6};
    assert_int_equal(gw_candidate_frame(c, &f, &statistic, &v), 0);
    assert_true(isnan(statistic));
    feed(c, logit, 121, 200, &s);
    assert_int_equal(s.n, 1);
    gw_candidate_gap(c, &v);
    f.index = origin + 100; /* back in time */
    assert_int_equal(gw_candidate_frame(c, &f, &statistic, &v), GW_EBUG);
    f.index = origin + 300;
    assert_int_equal(gw_candidate_frame(c, &f, &statistic, &v), 0);
    f.index = origin + 302; /* a hole that nobody announced */
    assert_int_equal(gw_candidate_frame(c, &f, &statistic, &v), GW_EBUG);
    gw_candidate_destroy(&c);
}

/* Withdrawn once, only what is final and near, and then silent as long as it would have counted. */
static void test_withdrawal(void **state)
{
    (void)state;
    const int64_t within = 4 * GW_SECOND_NS;
    float logit[800];
    quiet(logit, 800);
    plateau(logit, 100, 4, 4);
    plateau(logit, 250, 4, 6); /* louder, within the refractory time */
    plateau(logit, 400, 4, 4); /* after it */
    for (int withdrawn = 0; withdrawn < 2; withdrawn++) {
        const gw_candidate_conf conf = usual();
        gw_candidate *c;
        gw_verdict v;
        said s = {0};
        assert_int_equal(gw_candidate_new(&c, &conf), GW_OK);
        assert_int_equal(gw_candidate_withdraw(c, frame_end_ns(0), within, &v), 0); /* nothing there */
        feed(c, logit, 0, 103, &s);
        const int64_t gps_ns = s.v[0].gps_ns;
        assert_int_equal(s.n, 1);
        assert_int_equal(gw_candidate_withdraw(c, gps_ns + 1, within, &v), 0); /* still open */
        assert_int_equal(gw_candidate_gap(c, &v), 1);
        assert_int_equal(gw_candidate_withdraw(c, gps_ns + within + 1, within, &v), 0); /* too late */
        assert_int_equal(gw_candidate_withdraw(c, gps_ns - 1500000001, within, &v), 0); /* long before */
        if (withdrawn) {
            assert_int_equal(gw_candidate_withdraw(c, gps_ns + within, within, &v), 1);
            assert_true(v.phase == GW_PHASE_RETRACTED && v.gps_ns == gps_ns && v.statistic == 4);
            assert_int_equal(gw_candidate_withdraw(c, gps_ns, within, &v), 0);
        }
        s.n = 0;
        feed(c, logit, 103, 800, &s);
        assert_int_equal(s.v[0].phase, withdrawn ? GW_PHASE_FIRST : GW_PHASE_UPDATE);
        assert_in_range(s.at[0], withdrawn ? 400 : 250, withdrawn ? 404 : 254);
        gw_candidate_destroy(&c);
    }
}

/* ---- arrival times ---- */

typedef struct bump {
    int detector;
    double s; /* relative to the origin */
    double height;
} bump;

/* Scores of Gaussian bumps 5 ms wide (a parabola in the exponent) on a floor of 0, at the columns' centres.
 */
static void scores(float *score, int64_t frame, const bump *b, int n)
{
    for (int d = 0; d < 2; d++)
        for (int j = 0; j < COLUMNS; j++) {
            double t = ((double)(frame * COLUMNS + j) + 0.5) / 128, y = 0;
            for (int i = 0; i < n; i++)
                if (b[i].detector == d)
                    y = fmax(y, b[i].height - 0.5 * pow((t - b[i].s) / 0.005, 2));
            score[d * COLUMNS + j] = (float)y;
        }
}

/* One event with its peak at frame 100 (ends at 3.15625 s), first crossing at frame 95. */
static void run_skewed_bumps(const bump *b, int n, double skew, said *s)
{
    float logit[200], score[2 * COLUMNS];
    quiet(logit, 200);
    plateau(logit, 94, 5, 3.5F);
    plateau(logit, 99, 2, 6);
    gw_candidate_conf conf = usual();
    conf.arrival_samples = HOP / COLUMNS;
    conf.arrival_offset_s = -0.015;
    conf.arrival_skew = skew;
    conf.arrival_sigma_scale = 0.5;
    conf.arrival_sigma_floor_s = 0.001;
    gw_candidate *c;
    assert_int_equal(gw_candidate_new(&c, &conf), GW_OK);
    for (int64_t i = 0; i < 200; i++) {
        gw_verdict v;
        double statistic;
        scores(score, i, b, n);
        const gw_frame f = {.index = origin + i,
                            .logit = logit[i],
                            .arrival = score,
                            .arrival_stride = COLUMNS,
                            .dq = GW_DQ_ALL};
        if (gw_candidate_frame(c, &f, &statistic, &v))
            note(s, &v, i);
    }
    gw_candidate_destroy(&c);
}

static void run_bumps(const bump *b, int n, said *s)
{
    run_skewed_bumps(b, n, 0, s);
}

static double error_ms(const gw_verdict *v, double expected_s)
{
    return fabs((double)(v->gps_ns - INT64_C(1126259446000000000)) / 1e6 - (expected_s - 0.015) * 1e3);
}

static void test_arrival_times(void **state)
{
    (void)state;
    /* The later detector counts, whichever it is. */
    for (int later = 0; later < 2; later++)
        for (int k = 0; k < 20; k++) {
            const double t = 2.88 + k * 0.0021;
            const bump plain[] = {{1 - later, t - 0.007, 12}, {later, t, 12}};
            said s = {0};
            run_bumps(plain, 2, &s);
            assert_int_equal(s.n, 3);
            assert_int_equal(s.v[2].phase, GW_PHASE_FINAL);
            assert_true(error_ms(&s.v[2], t) < 1);
        }
    /* A louder column without a partner within light travel, a pair before the reach, one after the peak. */
    const bump decoys[] = {{0, 2.9, 12},  {1, 2.895, 12}, {0, 2.855, 15}, {0, 2.35, 30},
                           {1, 2.35, 30}, {0, 3.2, 30},   {1, 3.2, 30}};
    said s = {0};
    run_bumps(decoys, 7, &s);
    assert_true(error_ms(&s.v[s.n - 1], 2.9) < 0.5);
    assert_true(s.v[s.n - 1].peak_frame == origin + 100);
    /* The same so near that it stands among the columns of the soft-argmax. */
    const bump near[] = {{0, 2.9, 12}, {1, 2.895, 12}, {0, 2.923, 12.5}};
    s.n = 0;
    run_bumps(near, 3, &s);
    assert_true(error_ms(&s.v[s.n - 1], 2.9) < 4);
}

/* A Gaussian's mean and width, each detector its own; the floor in quadrature, the scale as a factor. */
static void test_arrival_errors(void **state)
{
    (void)state;
    const bump b[] = {{0, 2.9031, 12}, {1, 2.9024, 12}};
    said s = {0};
    run_bumps(b, 2, &s);
    const gw_verdict *v = &s.v[s.n - 1];
    assert_int_equal(v->phase, GW_PHASE_FINAL);
    for (int d = 0; d < 2; d++) {
        const double ms = (double)(v->arrival_ns[d] - INT64_C(1126259446000000000)) / 1e6;
        assert_true(fabs(ms - (b[d].s - 0.015) * 1e3) < 0.1);
        assert_true(fabs(v->arrival_error_s[d] - sqrt(0.25 * 0.005 * 0.005 + 1e-6)) < 0.0002);
    }
    assert_true(v->gps_ns == v->arrival_ns[0] && v->gps_error_s == v->arrival_error_s[0]);
}

/* Half a standard deviation earlier; that of a column is what the error says, without its floor. */
static void test_arrival_skew(void **state)
{
    (void)state;
    const bump b[] = {{0, 2.900, 12}, {1, 2.907, 5}};
    said plain = {0}, skewed = {0};
    run_bumps(b, 2, &plain);
    run_skewed_bumps(b, 2, 0.5, &skewed);
    const gw_verdict *p = &plain.v[plain.n - 1], *s = &skewed.v[skewed.n - 1];
    for (int d = 0; d < GW_CANDIDATE_DETECTORS; d++) {
        const double deviation_s = sqrt(pow(p->arrival_error_s[d], 2) - 1e-6) / 0.5;
        assert_true(deviation_s > 0.003 && p->arrival_error_s[d] == s->arrival_error_s[d]);
        assert_true(fabs((double)(p->arrival_ns[d] - s->arrival_ns[d]) - 0.5e9 * deviation_s) < 2);
    }
}

/* An error says so where the scores do not know, or not yet. */
static void test_arrival_unknown(void **state)
{
    (void)state;
    const bump three[] = {{0, 2.55, 12}, {1, 2.55, 12},   {0, 2.75, 12},
                          {1, 2.75, 12}, {0, 2.95, 12.1}, {1, 2.95, 12.1}};
    said s = {0};
    run_bumps(three, 6, &s); /* a little more than a third of the weight is where the mean is */
    const gw_verdict *v = &s.v[s.n - 1];
    assert_true(error_ms(v, 2.95) < 0.5);
    assert_in_range(v->gps_error_s * 1e3, 80, 140);     /* half the rms of 0, 200 and 400 ms */
    const bump late[] = {{0, 3.15, 12}, {1, 3.15, 12}}; /* 6 ms before the end of the peak's frame */
    s.n = 0;
    run_bumps(late, 2, &s);
    v = &s.v[s.n - 1];
    assert_true(error_ms(v, 3.15) < 4 && v->gps_error_s > 0.0234 && v->gps_error_s < 0.024); /* 3 columns */
}

/* What `first` could not know yet comes with an update: the bump lies after the first crossing. */
static void test_arrival_moves(void **state)
{
    (void)state;
    const bump b[] = {{0, 2.6, 4}, {1, 2.6, 4}, {0, 3.08, 12}, {1, 3.08, 12}};
    said s = {0};
    run_bumps(b, 4, &s);
    assert_int_equal(s.v[0].phase, GW_PHASE_FIRST);
    assert_true(error_ms(&s.v[0], 2.6) < 1);
    assert_int_equal(s.v[1].phase, GW_PHASE_UPDATE);
    assert_true(error_ms(&s.v[1], 3.08) < 1);
    assert_true(s.v[1].first_gps_ns == s.v[0].gps_ns);
    assert_true(error_ms(&s.v[s.n - 1], 3.08) < 1);
}

static void test_scores_without_numbers(void **state)
{
    (void)state;
    gw_candidate_conf conf = usual();
    conf.arrival_samples = HOP / COLUMNS;
    conf.peak_offset_s = -0.1;
    float score[2 * COLUMNS];
    for (int i = 0; i < 2 * COLUMNS; i++)
        score[i] = i % 2 ? NAN : INFINITY;
    gw_candidate *c;
    gw_verdict v;
    double statistic;
    assert_int_equal(gw_candidate_new(&c, &conf), GW_OK);
    for (int i = 0; i < 60; i++) {
        const gw_frame f = {
            .index = origin + i, .logit = i == 59 ? 20 : NAN, .arrival = score, .arrival_stride = COLUMNS};
        assert_int_equal(gw_candidate_frame(c, &f, &statistic, &v), 0);
        assert_true(isnan(statistic));
    }
    const gw_frame f = {.index = origin + 60, .logit = 0, .arrival = score, .arrival_stride = COLUMNS};
    assert_int_equal(gw_candidate_frame(c, &f, &statistic, &v), 1); /* a NAN does not stay in the box */
    assert_true(statistic == 10 && v.gps_ns == frame_end_ns(60) - 100000000);
    assert_true(isnan(v.gps_error_s) && isnan(v.arrival_error_s[0]) && v.arrival_ns[1] == GW_NOT_KNOWN_NS);
    gw_candidate_destroy(&c);
}

/* ---- soon after the start or a hole ---- */

/* A stretch that begins at frame 0, whose first logit is that of frame 47, loud until 60. Scores with a signal at
 * `t`, marks in frame 10. */
static gw_verdict run_start(gw_candidate *c, int64_t start, double t, double *statistic)
{
    const bump b[] = {{0, t, 12}, {1, t - 0.003, 12}};
    said s = {0};
    for (int64_t i = 0; i < 120; i++) {
        float score[2 * COLUMNS];
        gw_verdict v;
        scores(score, i, b, 2);
        const gw_frame f = {.index = origin + start + i,
                            .logit = i < 47   ? NAN
                                     : i < 60 ? 6
                                              : -4,
                            .arrival = score,
                            .arrival_stride = COLUMNS,
                            .dq = i == 17 ? GW_DQ_ALL & ~(uint64_t)GW_DQ_CBC_CAT2 : GW_DQ_ALL,
                            .injection = i == 1,
                            .archived = i == 2};
        if (gw_candidate_frame(c, &f, &statistic[i], &v))
            note(&s, &v, i);
    }
    assert_int_equal(s.n, 2);
    assert_int_equal(s.at[0], 48);
    assert_true(s.v[1].phase == GW_PHASE_FINAL && s.v[1].peak_frame == origin + start + 48);
    assert_true(s.v[0].gps_ns == s.v[1].gps_ns);
    s.v[1].gps_ns -= start * 31250000;
    for (int d = 0; d < GW_CANDIDATE_DETECTORS; d++)
        s.v[1].arrival_ns[d] -= s.v[1].arrival_ns[d] == GW_NOT_KNOWN_NS ? 0 : start * 31250000;
    return s.v[1];
}

/* The whole window of the first peak counts, though what it saw came before the first statistic: marks, and
 * arrivals in and out of reach (0.78 s), also after a hole. Not what came with the first columns. */
static void test_start(void **state)
{
    (void)state;
    static const struct {
        double t;
        uint32_t warmup;
        bool known;
    } given[] = {{1.42, 0, true}, {0.9, 0, true},    {0.7, 0, true},   {0.30, 28, true},
                 {0.2, 0, true},  {0.20, 28, false}, {0.04, 0, false}, {0.01, 0, false}};
    for (size_t g = 0; g < sizeof given / sizeof *given; g++) {
        gw_candidate_conf conf = usual();
        conf.arrival_samples = HOP / COLUMNS;
        conf.arrival_warmup = given[g].warmup;
        conf.arrival_offset_s = -0.015;
        conf.arrival_sigma_scale = 0.5;
        conf.arrival_sigma_floor_s = 0.001;
        gw_candidate *c;
        assert_int_equal(gw_candidate_new(&c, &conf), GW_OK);
        for (int64_t start = 0; start < 2000; start += 1000) {
            double statistic[120];
            gw_verdict v = run_start(c, start, given[g].t, statistic);
            for (int i = 0; i < 120; i++)
                assert_true(isnan(statistic[i]) == (i < 48));
            assert_true(v.injection && v.archived && v.dq == (GW_DQ_ALL & ~(uint64_t)GW_DQ_CBC_CAT2));
            assert_true(error_ms(&v, given[g].t) < (given[g].known ? 1 : 40));
            assert_true(isnan(v.gps_error_s) == !given[g].known);
            for (int d = 0; d < GW_CANDIDATE_DETECTORS; d++) {
                assert_true((v.arrival_ns[d] == GW_NOT_KNOWN_NS) == !given[g].known);
                assert_true(isnan(v.arrival_error_s[d]) == !given[g].known);
            }
            if (given[g].known)
                assert_true(v.gps_error_s < 0.004);
            assert_int_equal(gw_candidate_gap(c, &v), 0);
        }
        gw_candidate_destroy(&c);
    }
}

/* ---- quality and injections ---- */

static gw_verdict with_marks(int bad_dq_frame, int marked_frame)
{
    const gw_candidate_conf conf = usual();
    gw_candidate *c;
    gw_verdict v;
    double statistic;
    assert_int_equal(gw_candidate_new(&c, &conf), GW_OK);
    for (int i = 0; i <= 200; i++) {
        const gw_frame f = {.index = origin + i,
                            .logit = i < 200 ? 0 : 8,
                            .dq = i == bad_dq_frame ? GW_DQ_ALL & ~(uint64_t)GW_DQ_CBC_CAT2 : GW_DQ_ALL,
                            .injection = i == marked_frame,
                            .archived = i == marked_frame};
        assert_int_equal(gw_candidate_frame(c, &f, &statistic, &v), i == 200);
    }
    gw_candidate_destroy(&c);
    return v;
}

static void test_quality_and_injection(void **state)
{
    (void)state;
    gw_verdict v = with_marks(200 - 31, 200 - 47); /* the oldest frames of 1 s and of the window */
    assert_true(v.injection && v.archived && v.dq == (GW_DQ_ALL & ~(uint64_t)GW_DQ_CBC_CAT2));
    v = with_marks(200 - 32, 200 - 48);
    assert_true(!v.injection && !v.archived && v.dq == GW_DQ_ALL);
}

static void test_bad_configurations(void **state)
{
    (void)state;
    enum { N = 11 };
    gw_candidate_conf bad[N];
    for (int i = 0; i < N; i++)
        bad[i] = usual();
    bad[0].window_samples = 100;
    bad[1].smoothing_frames = 0;
    bad[2].arrival_samples = 5;
    bad[3].alert = 2;
    bad[4].candidate = NAN;
    bad[5].refractory_s = -1;
    bad[6].reach_s = 0;
    bad[7].hop_samples = 0;
    bad[8].arrival_sigma_scale = -1;
    bad[9].arrival_sigma_floor_s = NAN;
    bad[10].arrival_skew = -0.1;
    for (int i = 0; i < N; i++) {
        gw_candidate *c = NULL;
        assert_int_equal(gw_candidate_new(&c, &bad[i]), GW_ERANGE);
        assert_null(c);
    }
}

/* ---- a long random walk: what must always hold, checked by looking back over the whole record ---- */

static void test_random(void **state)
{
    (void)state;
    enum { FRAMES = 60000 };
    float *logit = malloc(FRAMES * sizeof *logit);
    assert_non_null(logit);
    uint32_t seed = 12345;
    double x = 0;
    for (int i = 0; i < FRAMES; i++) {
        seed = seed * 1664525u + 1013904223u;
        x = 0.9 * x + ((double)(seed >> 8) / (1 << 24) - 0.5) * 4;
        logit[i] = (float)x;
    }
    const gw_candidate_conf conf = usual();
    gw_candidate *c;
    gw_verdict v;
    assert_int_equal(gw_candidate_new(&c, &conf), GW_OK);
    bool open = false;
    int events = 0;
    int64_t first = 0, peak = INT64_MIN / 2;
    double top = 0;
    for (int64_t i = 0; i < FRAMES; i++) {
        double statistic;
        const gw_frame f = {.index = origin + i, .logit = logit[i]};
        int r = gw_candidate_frame(c, &f, &statistic, &v);
        if (r && v.phase == GW_PHASE_FIRST) {
            assert_false(open);
            assert_true(i - peak > 8 * 32 && statistic >= 3);
            open = true;
            events++;
            first = i;
        } else if (r && v.phase == GW_PHASE_UPDATE && !open) {
            assert_true(i - peak <= 8 * 32 && statistic > top); /* re-opened */
            open = true;
        } else if (r) {
            assert_true(open);
        }
        if (!open && statistic >= 3) /* nothing above threshold is passed over */
            assert_true(i - peak <= 8 * 32 && statistic <= top);
        if (r) {
            peak = v.peak_frame - origin;
            top = v.statistic;
            assert_true(v.alert == (top >= 5));
        }
        if (r && v.phase == GW_PHASE_FINAL) {
            double largest = -INFINITY;
            for (int64_t k = first; k <= i; k++)
                largest = fmax(largest, ((double)logit[k] + (double)logit[k - 1]) / 2);
            assert_true(largest == top);
            assert_true(i - peak <= 48);
            open = false;
        }
    }
    assert_in_range(events, 20, FRAMES / 256);
    gw_candidate_destroy(&c);
    free(logit);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_quiet),
        cmocka_unit_test(test_one_peak),
        cmocka_unit_test(test_updates_are_limited),
        cmocka_unit_test(test_plateau),
        cmocka_unit_test(test_two_peaks),
        cmocka_unit_test(test_end_and_gap),
        cmocka_unit_test(test_withdrawal),
        cmocka_unit_test(test_arrival_times),
        cmocka_unit_test(test_arrival_errors),
        cmocka_unit_test(test_arrival_skew),
        cmocka_unit_test(test_arrival_unknown),
        cmocka_unit_test(test_arrival_moves),
        cmocka_unit_test(test_scores_without_numbers),
        cmocka_unit_test(test_start),
        cmocka_unit_test(test_quality_and_injection),
        cmocka_unit_test(test_bad_configurations),
        cmocka_unit_test(test_random),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
