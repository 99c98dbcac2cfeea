/* SPDX-License-Identifier: GPL-3.0-or-later
 * What is wrong with one channel stays there: resample and whiten with four channels of which one is dead,
 * stuck at the ends of its range, zero, not a number or absent, against the same run without the fault. And
 * what an operator is told of the noise: drift and range. */
#include "kernels/range.h"
#include "pipeline/log.h"
#include "pipeline/stages/watch.h"
#include "tests/unit/stage_rig.h"

#include "kernels/kernels.h"

extern const gw_kind gw_kind_whiten, gw_kind_resample;

enum { N = 40 * RATE, FROM = 20 * RATE + 40, TO = 23 * RATE + 100, BAD = 1 };
static const int64_t begin0 = INT64_C(1126259446) * RATE;

static double x[CHANNELS][N], faulty[CHANNELS][N];
static rig clean, r;

static void noise(void)
{
    state = 5;
    for (int c = 0; c < CHANNELS; c++) {
        double slow = 0;
        for (int i = 0; i < N; i++) {
            slow = 0.9 * slow + normal();
            x[c][i] = 1e-21 * (normal() + slow) - 1e-18;
        }
    }
}

static double deviation(const double *y, int from, int to)
{
    double sum = 0;
    for (int i = from; i < to; i++)
        sum += y[i] * y[i];
    return sqrt(sum / (to - from));
}

/* With blocks of `block`; the channel BAD is absent from [FROM, TO) where `absent`. */
static void whiten_faulty(uint32_t block, bool absent)
{
    const uint8_t without = (uint8_t) ~(1u << BAD);
    rig_open(&r, &gw_kind_whiten, "{}", RATE, block, CHANNELS, begin0);
    rig_run(&r, begin0, faulty[0], N, 0, FROM);
    r.presence = absent ? &without : NULL;
    rig_run(&r, begin0, faulty[0], N, FROM, TO);
    r.presence = NULL;
    rig_run(&r, begin0, faulty[0], N, TO, N);
}

/* The others bit for bit as they were, BAD silent soon after FROM and back within 2 s of TO, and as loud as
 * before. */
static void is_isolated(const char *what, int silent_after)
{
    const int end = seek(clean.y[0], 8 * RATE, false);
    for (int c = 0; c < CHANNELS; c++) {
        if (c == BAD)
            continue;
        const int stop = seek(r.y[c], 8 * RATE, false);
        if (stop < N - 2 * RATE ||
            memcmp(r.y[c], clean.y[c], (size_t)(stop < end ? stop : end) * sizeof(double)))
            fail_msg("%s: channel %d is not as it was (it ends at %d of %d)", what, c, stop, end);
    }
    const int stop = seek(r.y[BAD], 8 * RATE, false), again = seek(r.y[BAD], stop, true);
    if (stop > silent_after ||
        memcmp(r.y[BAD] + 8 * RATE, clean.y[BAD] + 8 * RATE, (FROM - RATE - 8 * RATE) * sizeof(double)))
        fail_msg("%s: given out until %d, at most %d", what, stop, silent_after);
    if (again < TO + RATE - 1 || again > TO + 2 * RATE)
        fail_msg("%s: back at %d, %d samples after the end", what, again, again - TO);
    assert_true(seek(r.y[BAD], again, false) >= end - RATE);
    const double ratio =
        deviation(r.y[BAD], again, N - 4 * RATE) / deviation(clean.y[BAD], again, N - 4 * RATE);
    if (fabs(ratio - 1) > 0.1)
        fail_msg("%s: %g times as loud as before", what, ratio);
    rig_close(&r);
}

static void faults_stay_in_their_channel(void **unused)
{
    (void)unused;
    noise();
    rig_open(&clean, &gw_kind_whiten, "{}", RATE, 16, CHANNELS, begin0);
    rig_run(&clean, begin0, x[0], N, 0, N);
    rig_close(&clean);
    const uint32_t blocks[] = {16, 64, 333};
    for (size_t b = 0; b < sizeof blocks / sizeof *blocks; b++) {
        const uint32_t block = blocks[b];
        /* Where a block is long, the fault may cost the channel all of it. */
        const int soon = FROM, later = FROM + 32 + 4;
        memcpy(faulty, x, sizeof x);
        whiten_faulty(block, true);
        is_isolated("absent", soon);
        for (int i = FROM; i < TO; i++)
            faulty[BAD][i] = i == FROM || i == TO - 1 || i % 7 ? x[BAD][i] : NAN;
        faulty[BAD][FROM] = faulty[BAD][TO - 1] = INFINITY;
        whiten_faulty(block, false);
        is_isolated("not a number", soon);
        for (int i = FROM; i < TO; i++)
            faulty[BAD][i] = -3e-18;
        whiten_faulty(block, false);
        is_isolated("dead", later);
        for (int i = FROM; i < TO; i++)
            faulty[BAD][i] = 0;
        whiten_faulty(block, false);
        is_isolated("zero", later);
        for (int i = FROM; i < TO; i++) /* driven far beyond its range, at 11 Hz */
            faulty[BAD][i] = -1e-18 + (sin(2 * M_PI * 11 * i / RATE) > 0 ? 2e-20 : -2e-20);
        whiten_faulty(block, false);
        is_isolated("saturated", later);
    }
}

/* A channel that is there only later learns from then on, with a warm-up of its own. */
static void a_dead_start_is_no_warm_up(void **unused)
{
    (void)unused;
    noise();
    memcpy(faulty, x, sizeof x);
    for (int i = 0; i < 15 * RATE; i++)
        faulty[BAD][i] = 0;
    rig_open(&r, &gw_kind_whiten, "{}", RATE, 16, CHANNELS, begin0);
    rig_run(&r, begin0, faulty[0], N, 0, N);
    assert_int_equal(seek(r.y[0], 0, true), 8 * RATE);
    assert_int_equal(seek(r.y[BAD], 0, true), 23 * RATE);
    rig_close(&r);
}

/* All at once: then it is a hole, with the reason, and no line of it in any channel. */
static void only_all_of_them_make_a_hole(void **unused)
{
    (void)unused;
    noise();
    const uint8_t none = 0, one = 1;
    rig_open(&r, &gw_kind_whiten, "{}", RATE, 16, CHANNELS, begin0);
    rig_run(&r, begin0, x[0], N, 0, 12 * RATE);
    r.presence = &one;
    rig_run(&r, begin0, x[0], N, 12 * RATE, 13 * RATE);
    assert_true(r.last.n_samples == 16 && !r.last.lost && (r.out_presence[0] & 0xf) == 1);
    r.presence = &none;
    rig_run(&r, begin0, x[0], N, 13 * RATE, 14 * RATE);
    assert_true(r.last.n_samples == 0 && r.last.lost && r.last.reason == GW_GAP_ABSENT);
    assert_int_equal(r.last.lost_until, begin0 + 14 * RATE);
    rig_close(&r);
}

/* resample: outputs that the filter makes from absent samples are absent, no others, in that channel alone.
 */
static void resample_keeps_channels_apart(void **unused)
{
    (void)unused;
    enum { D = 4, HIGH = D * RATE, LEN = 4096, GONE = 1280, BACK = 1536, REACH = 19 };
    static double in[CHANNELS][LEN];
    state = 9;
    for (int c = 0; c < CHANNELS; c++)
        for (int i = 0; i < LEN; i++)
            in[c][i] = normal();
    rig_open(&clean, &gw_kind_resample, "{rate: 256Hz}", HIGH, 64, CHANNELS, 0);
    rig_run(&clean, 0, in[0], LEN, 0, LEN);
    rig_close(&clean);
    const uint8_t without = (uint8_t) ~(1u << BAD);
    rig_open(&r, &gw_kind_resample, "{rate: 256Hz}", HIGH, 64, CHANNELS, 0);
    rig_run(&r, 0, in[0], LEN, 0, GONE);
    r.presence = &without;
    for (int i = GONE; i < BACK; i++)
        in[BAD][i] = NAN; /* whatever lies there */
    rig_run(&r, 0, in[0], LEN, GONE, BACK);
    r.presence = NULL;
    rig_run(&r, 0, in[0], LEN, BACK, LEN);
    for (int c = 0; c < CHANNELS; c++)
        if (c != BAD)
            assert_memory_equal(r.y[c], clean.y[c], sizeof r.y[c]);
    const int stop = seek(r.y[BAD], REACH, false), again = seek(r.y[BAD], stop, true);
    assert_in_range(stop, GONE / D - REACH - 64 / D, GONE / D - REACH + 1);
    assert_in_range(again, BACK / D + REACH - 1, BACK / D + REACH + 64 / D);
    assert_memory_equal(r.y[BAD] + again, clean.y[BAD] + again, 64 * sizeof(double));
    rig_close(&r);
}

/* -- what an operator is told ------------------------------------------------------------------------ */

/* The integral for a PSD that is a power of f is known: 4 A^2 / S0 (f1^(-4/3) - f2^(-4/3)) 3/4. */
static void range_of_white_noise(void **unused)
{
    (void)unused;
    enum { BINS = 8 * 2048 + 1 };
    static double psd[BINS];
    for (int k = 0; k < BINS; k++)
        psd[k] = 1e-46;
    const double g = 6.67430e-11, c = 299792458, sun = 1.98840987e30, mpc = 3.0856775814913673e22;
    const double chirp = g * 1.4 * pow(2, -0.2) * sun,
                 isco = c * c * c / (pow(6, 1.5) * M_PI * g * 2.8 * sun);
    const double a2 = 5.0 / 24 * pow(M_PI, -4.0 / 3) * pow(chirp, 5.0 / 3) / (c * c * c);
    const double snr2 = 4 * a2 / 1e-46 * 0.75 * (pow(9.9375, -4.0 / 3) - pow(isco, -4.0 / 3));
    const double want = sqrt(snr2) / 8 / 2.2648 / mpc;
    assert_true(fabs(gw_range_mpc(psd, BINS, 0.125, 1e9) / want - 1) < 1e-3);
    assert_true(fabs(gw_range_mpc(psd, BINS, 0.125, 1000) / want - 1) < 2e-2);
    for (int k = 0; k < BINS; k++)
        psd[k] *= 4;
    assert_true(fabs(gw_range_mpc(psd, BINS, 0.125, 1e9) / want - 0.5) < 1e-3);
    for (int k = 0; k < BINS; k++)
        psd[k] = 0;
    assert_true(gw_range_mpc(psd, BINS, 0.125, 1e9) == 0);
}

static void drift_is_said_once(void **unused)
{
    (void)unused;
    enum { BINS = 129 };
    gw_kernels k;
    assert_int_equal(gw_kernels_init(&k, GW_KERNELS_CPU), 0);
    gw_watch *w;
    double psd[BINS];
    char line[160];
    assert_int_equal(
        gw_watch_new(
            &w, &k.spectrum,
            &(gw_watch_shape){
                .rate_hz = 256, .tick_samples = 256, .bins = BINS, .low_hz = 20, .high_hz = 110, .drift = 2}),
        0);
    assert_int_equal(gw_watch_samples(w), 0);
    int said = 0, over = 0;
    for (int t = 0; t < 1200; t++) {
        for (int b = 0; b < BINS;
             b++) /* from 600 s on three times as much between 40 and 80 Hz, until 900 s */
            psd[b] = 1e-44 * exp(0.1 * normal()) * (t >= 600 && t < 900 && b >= 40 && b < 80 ? 3 : 1);
        gw_watch_look(w, t, psd, 63, NULL);
        if (gw_watch_alarm(w, line, sizeof line)) {
            if (strstr(line, "changed")) {
                said++;
                assert_int_equal(t, 600);
                assert_non_null(strstr(line, "between 40 and 80 Hz"));
                assert_true(fabs(gw_watch_drift(w) - 3) < 0.2);
            } else {
                over++;
                assert_true(t > 700);
            }
        }
        if (t < 600)
            assert_true(gw_watch_drift(w) < 1.2 && gw_watch_drift(w) > 0.8);
    }
    assert_true(said == 1 && over == 1 && gw_watch_range_mpc(w) == 0);
    gw_watch_destroy(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(faults_stay_in_their_channel), cmocka_unit_test(a_dead_start_is_no_warm_up),
        cmocka_unit_test(only_all_of_them_make_a_hole), cmocka_unit_test(resample_keeps_channels_apart),
        cmocka_unit_test(range_of_white_noise),         cmocka_unit_test(drift_is_said_once),
    };
    gw_log_set_level(GW_LOG_ERROR);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
