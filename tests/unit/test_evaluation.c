/* SPDX-License-Identifier: GPL-3.0-or-later
 * The figures of an evaluation: Wilson's intervals against published values, thresholds against counting,
 * distance where the integral is known, quantiles and coverage, and what happens where there is nothing. The
 * command is judged from outside (tests/flow/check_evaluate.py). */
#include "sinks/evaluation.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void near(double a, double b, double tolerance)
{
    if (!(fabs(a - b) <= tolerance))
        fail_msg("%.12g is not %.12g", a, b);
}

/* Newcombe 1998, Statistics in Medicine 17, 857: method 3 of his table I, 95 %. */
static void test_wilson(void **state)
{
    (void)state;
    static const struct {
        uint32_t k, n;
        double low, high;
    } known[] = {{81, 263, 0.2553, 0.3662},
                 {15, 148, 0.0624, 0.1605},
                 {0, 20, 0, 0.1611},
                 {1, 29, 0.0061, 0.1718},
                 {29, 29, 0.8830, 1}};
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        const gw_eval_share s = gw_eval_share_of(known[i].k, known[i].n, 1.959964);
        near(s.low, known[i].low, 6e-5);
        near(s.high, known[i].high, 6e-5);
        near(s.share, (double)known[i].k / known[i].n, 1e-15);
    }
    const gw_eval_share none = gw_eval_share_of(0, 0, 1);
    assert_true(isnan(none.share) && none.low == 0 && none.high == 1);
}

static void test_thresholds(void **state)
{
    (void)state;
    gw_eval_background b = {0};
    float x[4000];
    for (int i = 0; i < 4000; i++) /* above y: 4000 exp(-y), and none twice */
        x[i] = (float)-log((i + 0.5) / 4000);
    const double days = 10, t = days * 86400;
    assert_int_equal(gw_eval_background_add(&b, x, 1500, t / 4, 600, -1), GW_OK);
    assert_int_equal(gw_eval_background_add(&b, x + 1500, 2500, 3 * t / 4, 1200, -2), GW_OK);
    assert_int_equal(gw_eval_background_count(&b, 1), GW_OK);
    near(b.slid_s, t, 1e-6);
    near(b.distinct_s, 1800, 0);
    near(b.floor, -1, 0); /* nothing is known below the higher one */
    uint64_t sum = 0;
    for (uint32_t i = 0; i < b.bins; i++)
        sum += b.count[i];
    assert_int_equal(sum, 4000);
    for (int r = 0; r < GW_RATES; r++) {
        int at[2] = {0, 0}; /* louder than the threshold; than the edge below it */
        for (int i = 0; i < 4000; i++) {
            at[0] += (double)x[i] >= b.threshold[r] - 1e-6;
            at[1] += (double)x[i] >= b.threshold[r] - b.bin_width - 1e-6;
        }
        assert_true((at[0] + 1) / t <= gw_eval_rate_hz[r]);
        assert_true((at[1] + 1) / t > gw_eval_rate_hz[r]);
        near(b.threshold[r] / 0.05, round(b.threshold[r] / 0.05), 1e-6);
    }
    assert_true(b.threshold[GW_PER_DAY] > b.threshold[GW_PER_HOUR]);
    gw_eval_background_free(&b);

    /* Too short for one a day; a floor above one an hour; no noise at all. */
    assert_int_equal(gw_eval_background_add(&b, x, 4000, 86000, 600, -1), GW_OK);
    assert_int_equal(gw_eval_background_count(&b, 1), GW_ERANGE);
    gw_eval_background_free(&b);
    assert_int_equal(gw_eval_background_add(&b, x, 12, t, 600, 3), GW_OK);
    assert_int_equal(gw_eval_background_count(&b, 1), GW_ERANGE);
    gw_eval_background_free(&b);
    assert_int_equal(gw_eval_background_add(&b, x, 0, t, 600, 0), GW_OK);
    assert_int_equal(gw_eval_background_count(&b, 1), GW_ERANGE);
    gw_eval_background_free(&b);
}

/* One of three searches: what it does once in three days is once a day of the set. */
static void test_trials(void **state)
{
    (void)state;
    gw_eval_background b[2] = {{0}};
    float x[3000];
    for (int i = 0; i < 3000; i++)
        x[i] = (float)-log((i % 300 + 0.5) / 300); /* ten stretches, all alike */
    for (int k = 0; k < 2; k++) {
        for (int i = 0; i < 10; i++)
            assert_int_equal(gw_eval_background_add(&b[k], x + 300 * i, 300, 86400, 600, -1), GW_OK);
        assert_int_equal(gw_eval_background_count(&b[k], k ? 3 : 1), GW_OK);
    }
    for (int r = 0; r < GW_RATES; r++) {
        int at[2] = {0, 0};
        for (int i = 0; i < 3000; i++) {
            at[0] += (double)x[i] >= b[1].threshold[r] - 1e-6;
            at[1] += (double)x[i] >= b[1].threshold[r] - b[1].bin_width - 1e-6;
        }
        assert_true(3 * (at[0] + 1) / 864000.0 <= gw_eval_rate_hz[r]);
        assert_true(3 * (at[1] + 1) / 864000.0 > gw_eval_rate_hz[r]);
        assert_true(r == GW_PER_HOUR ? b[1].threshold[r] > b[0].threshold[r]
                                     : b[1].threshold[r] >= b[0].threshold[r]);
        near(b[1].rate_low_hz[r], 3 * (at[0] + 1) / 864000.0, 1e-12); /* of the set, not of one */
        near(b[1].rate_high_hz[r], b[1].rate_low_hz[r], 1e-12);
    }
    gw_eval_background_free(&b[0]);
    gw_eval_background_free(&b[1]);
    /* Two days tell what is once a day, not what is once in three. */
    assert_int_equal(gw_eval_background_add(&b[0], x, 3000, 2 * 86400, 600, -1), GW_OK);
    assert_int_equal(gw_eval_background_count(&b[0], 1), GW_OK);
    assert_int_equal(gw_eval_background_count(&b[0], 3), GW_ERANGE);
    gw_eval_background_free(&b[0]);
}

/* Ten stretches: all alike, the rate is what it is; one with all the noise, and it is anything. */
static void test_resampling(void **state)
{
    (void)state;
    gw_eval_background b = {0};
    float x[400];
    for (int i = 0; i < 400; i++)
        x[i] = (float)-log((i % 40 + 0.5) / 40);
    for (int k = 0; k < 10; k++)
        assert_int_equal(gw_eval_background_add(&b, x + 40 * k, 40, 86400, 600, -1), GW_OK);
    assert_int_equal(gw_eval_background_count(&b, 1), GW_OK);
    const double one = b.rate_low_hz[GW_PER_HOUR];
    near(b.rate_high_hz[GW_PER_HOUR], one, 1e-12);
    assert_true(one <= gw_eval_rate_hz[GW_PER_HOUR] && one > 0.5 * gw_eval_rate_hz[GW_PER_HOUR]);
    gw_eval_background_free(&b);
    for (int k = 0; k < 10; k++)
        assert_int_equal(gw_eval_background_add(&b, x, k ? 0 : 400, 86400, 600, -1), GW_OK);
    assert_int_equal(gw_eval_background_count(&b, 1), GW_OK);
    near(b.rate_low_hz[GW_PER_HOUR] * 864000, 1, 1e-9); /* (9/10)^10: one in three draws has none of it */
    assert_true(b.rate_high_hz[GW_PER_HOUR] > 2.5 * one);
    gw_eval_background_free(&b);
    for (int k = 0; k < 5; k++)
        assert_int_equal(gw_eval_background_add(&b, x + 40 * k, 40, 86400, 600, -1), GW_OK);
    assert_int_equal(gw_eval_background_count(&b, 1), GW_OK);
    assert_true(isnan(b.rate_low_hz[GW_PER_DAY]) && isnan(b.rate_high_hz[GW_PER_HOUR]));
    gw_eval_background_free(&b);
}

enum { EACH = 40 };
static const double snr[3] = {10, 8, 16}; /* need not rise */

/* EACH signals at each SNR, found where `found` says. */
static void make(gw_eval_signal *s, bool (*found)(double snr, int i))
{
    for (int k = 0; k < 3; k++)
        for (int i = 0; i < EACH; i++) {
            gw_eval_signal *one = &s[k * EACH + i];
            const bool is = found(snr[k], i);
            *one = (gw_eval_signal){.snr = snr[k],
                                    .unit_snr = 4000,
                                    .ratio = i % 4 ? 0.5 : 0.1,
                                    .chirp_mass = i % 2 ? 7 : 25,
                                    .found = {is, is && i % 2},
                                    .statistic = 5,
                                    .error_s = 1e-3 * (i - 19.5),
                                    .sigma_s = 10e-3,
                                    .latency_s = 1e-3 * i};
        }
}

static bool all(double rho, int i)
{
    (void)i;
    return rho > 0;
}

static bool from_ten(double rho, int i)
{
    (void)i;
    return rho >= 10;
}

static bool none(double rho, int i)
{
    (void)i;
    return rho < 0;
}

static gw_eval *measure(bool (*found)(double snr, int i))
{
    gw_eval_signal *s = calloc(3 * EACH, sizeof *s);
    gw_eval *e = calloc(1, sizeof *e);
    assert_non_null(s);
    assert_non_null(e);
    make(s, found);
    assert_int_equal(gw_eval_measure(e, s, 3 * EACH, snr, 3), GW_OK);
    free(s);
    return e;
}

static void test_distance(void **state)
{
    (void)state;
    gw_eval *e = measure(all);
    near(e->distance[GW_PER_HOUR][GW_EVAL_BINS].mpc, 4000.0 / 8, 1e-9); /* all within the reach of SNR 8 */
    near(e->distance[GW_PER_HOUR][GW_EVAL_BINS].most_mpc, 4000.0 / 8, 1e-9);
    near(e->distance[GW_PER_HOUR][GW_EVAL_BINS].error_mpc, 0, 1e-9);
    near(e->distance[GW_PER_DAY][GW_EVAL_BINS].mpc, 4000.0 / 8 * cbrt(0.5), 1e-9); /* half of them */
    /* The volume's variance: three numbers of mean 1/2, weighed by their share of the integral. */
    assert_true(e->distance[GW_PER_DAY][GW_EVAL_BINS].error_mpc > 0);
    near(e->distance[GW_PER_DAY][1].mpc, 500, 1e-9); /* chirp mass 7-10: all of the odd ones */
    assert_true(isnan(e->distance[GW_PER_DAY][0].mpc));
    free(e);
    e = measure(from_ten);
    /* 3 (int_8^10 (rho - 8) / 2 rho^-4 drho + int_10^inf rho^-4 drho), by hand */
    const double i3 = (1 / 64.0 - 1 / 100.0) / 2, i4 = (1 / 512.0 - 1 / 1000.0) / 3;
    near(e->distance[GW_PER_HOUR][GW_EVAL_BINS].mpc, 4000 * cbrt(3 * ((i3 - 8 * i4) / 2 + 1 / 3000.0)), 1e-9);
    free(e);
    e = measure(none);
    near(e->distance[GW_PER_HOUR][GW_EVAL_BINS].mpc, 0, 0);
    assert_true(isnan(e->later[0].median_s) && e->later[0].n == 0);
    assert_true(isnan(e->latency[GW_EVAL_SNRS].median_s));
    free(e);
}

static void test_tables(void **state)
{
    (void)state;
    gw_eval *e = measure(from_ten);
    assert_true(e->snr[0] == 8 && e->snr[1] == 10 && e->snr[2] == 16);
    near(e->found[GW_PER_HOUR][GW_EVAL_BINS][0].share, 0, 0);
    near(e->found[GW_PER_HOUR][GW_EVAL_BINS][1].share, 1, 0);
    near(e->found[GW_PER_DAY][GW_EVAL_BINS][2].share, 0.5, 0);
    assert_int_equal(e->found[GW_PER_DAY][GW_EVAL_BINS][2].n, EACH);
    assert_int_equal(e->even[GW_PER_DAY][2].n, EACH * 3 / 4);
    near(e->found[GW_PER_DAY][1][2].share, 1, 0); /* 7-10 */
    near(e->found[GW_PER_DAY][4][2].share, 0, 0); /* 20-30 */
    assert_int_equal(e->found[GW_PER_DAY][0][2].n, 0);
    /* |error| of i - 19.5 ms: each of 0.5 .. 19.5 twice; its median 10, nine tenths as numpy has them */
    near(e->later[2].median_s, 10e-3, 1e-12);
    near(e->later[2].most_s, 17.6e-3, 1e-12);
    near(e->later[2].bias_s, 0, 1e-12);
    assert_int_equal(e->later[2].covered.n, EACH);
    assert_int_equal(e->later[2].covered.k, 20);
    assert_true(e->timed_from == 12);
    assert_int_equal(e->timed[GW_EVAL_BINS].n, EACH);
    assert_int_equal(e->timed_each.n, 0);
    near(e->latency[GW_EVAL_SNRS].median_s, 19.5e-3, 1e-12);
    assert_int_equal(e->latency[GW_EVAL_SNRS].n, 2 * EACH);
    free(e);
}

/* Who found them: sets in the order of their names, searches by their bits, each detector's own times. */
static void test_sets(void **state)
{
    (void)state;
    static const char *const set[3] = {"H1,V1", "H1,L1,V1", "H1,L1"};
    static const uint32_t searches[3] = {2, 7, 1};
    gw_eval_signal *s = calloc(3 * EACH, sizeof *s);
    gw_eval *e = calloc(1, sizeof *e);
    assert_non_null(s);
    assert_non_null(e);
    make(s, from_ten);
    for (int i = 0; i < 3 * EACH; i++) {
        strcpy(s[i].detectors, set[i % 3]);
        s[i].searches = searches[i % 3];
        s[i].n_arrivals = 2;
        strcpy(s[i].arrival_at[0], i % 3 == 2 ? "L1" : "V1");
        strcpy(s[i].arrival_at[1], "H1");
        s[i].arrival_error_s[0] = i % 3 == 2 ? 3e-3 : -2e-3;
        s[i].arrival_error_s[1] = 1e-3;
        s[i].arrival_sigma_s[0] = s[i].arrival_sigma_s[1] = 2.5e-3;
    }
    assert_int_equal(gw_eval_measure(e, s, 3 * EACH, snr, 3), GW_OK);
    assert_int_equal(e->n_sets, 3);
    for (int k = 0; k < 3; k++) {
        static const char *const sorted[3] = {"H1,L1", "H1,L1,V1", "H1,V1"};
        static const int of[3] = {2, 1, 0};
        assert_string_equal(e->set[k].name, sorted[k]);
        for (int r = 0; r < GW_RATES; r++)
            for (int rho = 0; rho < 3; rho++) {
                uint32_t n = 0, part[3] = {0};
                for (int i = 0; i < 3 * EACH; i++) {
                    n += s[i].snr == e->snr[rho] && s[i].found[r] && i % 3 == of[k];
                    for (int b = 0; b < 3; b++)
                        part[b] += s[i].snr == e->snr[rho] && s[i].found[r] && (searches[i % 3] & 1u << b);
                }
                assert_int_equal(e->set[k].found[r][rho], n);
                for (int b = 0; b < 3; b++)
                    assert_int_equal(e->part[b][r][rho], part[b]);
            }
    }
    assert_true(e->set[0].found[GW_PER_HOUR][1] > 0 && e->set[0].found[GW_PER_HOUR][0] == 0);
    assert_int_equal(e->n_detectors, 3);
    assert_string_equal(e->detector[0], "H1");
    assert_string_equal(e->detector[2], "V1");
    near(e->timed_at[0].bias_s, 1e-3, 1e-12); /* SNR 12 and above: 40 of SNR 16 */
    near(e->timed_at[1].bias_s, 3e-3, 1e-12);
    near(e->timed_at[2].bias_s, -2e-3, 1e-12);
    assert_int_equal(e->timed_at[0].n, EACH);
    assert_int_equal(e->timed_at[1].n + e->timed_at[2].n, EACH);
    assert_int_equal(e->timed_at[1].covered.k, 0);
    /* More sets than there is room for. */
    for (int i = 0; i < EACH; i++) /* of SNR 10, all found */
        snprintf(s[i].detectors, sizeof s[i].detectors, "X%d", i);
    assert_int_equal(gw_eval_measure(e, s, 3 * EACH, snr, 3), GW_ERANGE);
    free(s);
    free(e);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_wilson),   cmocka_unit_test(test_thresholds), cmocka_unit_test(test_resampling),
        cmocka_unit_test(test_distance), cmocka_unit_test(test_tables),     cmocka_unit_test(test_trials),
        cmocka_unit_test(test_sets),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
