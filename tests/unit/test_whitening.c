/* SPDX-License-Identifier: GPL-3.0-or-later
 * The arithmetic under whitening by its definitions, and the stage whiten step by step: start, holes, bad
 * data, the gate, followers. The comparison of whole recordings with scipy is in tests/flow/check_whiten.py.
 */
#include "kernels/convolver.h"
#include "kernels/kernels.h"
#include "kernels/psd.h"
#include "kernels/whitening.h"
#include "pipeline/log.h"
#include "tests/unit/stage_rig.h"

extern const gw_kind gw_kind_whiten;

static gw_kernels kernels(gw_kernels_level level)
{
    gw_kernels k;
    assert_int_equal(gw_kernels_init(&k, level), 0);
    return k;
}

/* -- arithmetic -------------------------------------------------------------------------------------- */

static void transform_is_the_dft(void **unused)
{
    (void)unused;
    const uint32_t lengths[] = {2, 6, 8, 22, 36, 62};
    for (gw_kernels_level level = GW_KERNELS_REF; level <= GW_KERNELS_CPU; level++) {
        const gw_kernels k = kernels(level);
        for (size_t l = 0; l < sizeof lengths / sizeof *lengths; l++) {
            const uint32_t n = lengths[l];
            gw_fft *f;
            assert_int_equal(k.spectrum.fft_new(&f, n), 0);
            double x[62];
            for (uint32_t j = 0; j < n; j++)
                x[j] = f->time[j] = normal();
            k.spectrum.fft_forward(f);
            for (uint32_t b = 0; b <= n / 2; b++) {
                double re = 0, im = 0;
                for (uint32_t j = 0; j < n; j++) {
                    re += x[j] * cos(2 * M_PI * (b * j % n) / n);
                    im -= x[j] * sin(2 * M_PI * (b * j % n) / n);
                }
                assert_true(hypot(f->freq[b].re - re, f->freq[b].im - im) < 1e-13);
            }
            k.spectrum.fft_inverse(f);
            for (uint32_t j = 0; j < n; j++)
                assert_true(fabs(f->time[j] - x[j]) < 1e-14);
            k.spectrum.fft_destroy(&f);
            assert_null(f);
        }
    }
}

static void psd_median_mean_and_window(void **unused)
{
    (void)unused;
    const gw_kernels k = kernels(GW_KERNELS_CPU);
    enum { N = 64, BINS = N / 2 + 1 };
    double base[N], x[N], one[BINS], s[BINS];
    for (int j = 0; j < N; j++)
        base[j] = 5 + normal();
    for (int mean = 0; mean < 2; mean++) {
        gw_psd *p;
        assert_int_equal(gw_psd_new(&p, &k.spectrum, 100, N, 3, mean, 0), 0);
        assert_int_equal(gw_psd_estimate(p, s), GW_EAGAIN);
        assert_int_equal(gw_psd_add(p, base), 0);
        assert_int_equal(gw_psd_estimate(p, one), 0);
        /* Amplitudes 1 9 2 3 4: the last three stay, powers 4 9 16. */
        const double amplitude[] = {9, 2, 3, 4};
        for (int i = 0; i < 4; i++) {
            for (int j = 0; j < N; j++)
                x[j] = amplitude[i] * base[j];
            assert_int_equal(gw_psd_add(p, x), 0);
        }
        x[5] = NAN;
        assert_int_equal(gw_psd_add(p, x), GW_ERANGE);
        assert_int_equal(gw_psd_segments(p), 3);
        assert_int_equal(gw_psd_estimate(p, s), 0);
        const double want = mean ? 29.0 / 3 : 9 / (1 + 1.0 / 3 - 1.0 / 2);
        for (int b = 0; b < BINS; b++)
            assert_true(fabs(s[b] / one[b] - want) < 1e-9 * want);
        gw_psd_forget(p);
        assert_int_equal(gw_psd_segments(p), 0);
        gw_psd_destroy(&p);
    }
    /* A sine of amplitude A in the middle of a bin: A^2 / 2 of power over the Hann window's 1.5 bins. */
    gw_psd *p;
    assert_int_equal(gw_psd_new(&p, &k.spectrum, N, N, 1, false, 0), 0);
    for (int j = 0; j < N; j++)
        x[j] = 3 * sin(2 * M_PI * 10 * j / N);
    assert_int_equal(gw_psd_add(p, x), 0);
    assert_int_equal(gw_psd_estimate(p, s), 0);
    assert_true(fabs(s[10] - 4.5 / 1.5) < 1e-12 && fabs(s[9] - 4.5 / 6) < 1e-12 && s[13] < 1e-25);
    /* An offset is removed, also from the bins at 0 Hz that the window would spread it over. */
    assert_int_equal(gw_psd_add(p, base), 0);
    assert_int_equal(gw_psd_estimate(p, one), 0);
    for (int j = 0; j < N; j++)
        x[j] = base[j] - 1e3;
    assert_int_equal(gw_psd_add(p, x), 0);
    assert_int_equal(gw_psd_estimate(p, s), 0);
    for (int b = 0; b < BINS; b++)
        assert_true(fabs(s[b] - one[b]) < 1e-9 * (one[b] + 1e-6));
    gw_psd_destroy(&p);
}

static void psd_is_smoothed_but_for_lines(void **unused)
{
    (void)unused;
    const gw_kernels k = kernels(GW_KERNELS_CPU);
    enum { N = 2048, BINS = N / 2 + 1, SEGMENTS = 7, REACH = 4, LINE = 300 };
    static double x[N], raw[BINS], s[BINS];
    gw_psd *plain, *smoothed;
    assert_int_equal(gw_psd_new(&plain, &k.spectrum, 1024, N, SEGMENTS, false, 0), 0);
    assert_int_equal(gw_psd_new(&smoothed, &k.spectrum, 1024, N, SEGMENTS, false, REACH), 0);
    gw_fft *f;
    assert_int_equal(k.spectrum.fft_new(&f, N), 0);
    for (int i = 0; i < SEGMENTS; i++) {
        /* Falls as a seismic wall does, by f^-12, up to bin 200, and is flat from there; and a line. */
        for (int b = 0; b < BINS; b++) {
            const double strength = b < 200 ? pow(200.0 / fmax(b, 20), 6) : 1;
            f->freq[b] = (gw_complex){strength * normal(), b > 0 && b < BINS - 1 ? strength * normal() : 0};
        }
        f->freq[LINE].re += 100;
        k.spectrum.fft_inverse(f);
        memcpy(x, f->time, sizeof x);
        assert_int_equal(gw_psd_add(plain, x), 0);
        assert_int_equal(gw_psd_add(smoothed, x), 0);
    }
    assert_int_equal(gw_psd_estimate(plain, raw), 0);
    assert_int_equal(gw_psd_estimate(smoothed, s), 0);
    /* The line, its neighbours and the ends keep their value; the line spreads no further. */
    for (int b = 0; b < BINS; b++)
        if (b < REACH || b >= BINS - REACH || abs(b - LINE) <= 1)
            assert_true(s[b] == raw[b]);
    const double level = raw[LINE] / s[LINE + 3];
    assert_true(level > 300);
    /* On the wall and beyond it the scatter falls, and the level stays: 12 ln f is no bias. */
    for (int part = 0; part < 2; part++) {
        const int from = part ? 310 : 60, to = part ? 1000 : 195;
        double before[2] = {0}, after[2] = {0};
        for (int b = from; b < to; b++) {
            const double truth = b < 200 ? 12 * log(200.0 / b) : 0;
            const double u = log(raw[b]) - truth, v = log(s[b]) - truth;
            before[0] += u / (to - from);
            before[1] += u * u / (to - from);
            after[0] += v / (to - from);
            after[1] += v * v / (to - from);
        }
        before[1] = sqrt(before[1] - before[0] * before[0]);
        after[1] = sqrt(after[1] - after[0] * after[0]);
        assert_true(fabs(after[0] - before[0]) < 0.08);
        assert_true(after[1] < 0.6 * before[1]);
    }
    /* No power stays no power, and does not spread. */
    memset(x, 0, sizeof x);
    gw_psd_forget(smoothed);
    assert_int_equal(gw_psd_add(smoothed, x), 0);
    assert_int_equal(gw_psd_estimate(smoothed, s), 0);
    for (int b = 0; b < BINS; b++)
        assert_true(s[b] == 0);
    k.spectrum.fft_destroy(&f);
    gw_psd_destroy(&plain);
    gw_psd_destroy(&smoothed);
}

static void filter_has_the_magnitude_asked_for(void **unused)
{
    (void)unused;
    const gw_kernels k = kernels(GW_KERNELS_CPU);
    enum { RATE = 512, GRID = 16 * RATE, BINS = RATE + 1 };
    for (int linear = 0; linear < 2; linear++) {
        const gw_whitening_shape shape = {.rate_hz = RATE,
                                          .linear = linear,
                                          .n_taps = RATE + (uint32_t)linear,
                                          .psd_bins = BINS,
                                          .grid_samples = GRID,
                                          .highpass_hz = {20, 30},
                                          .lowpass_hz = {0.88 * 256, 0.95 * 256}};
        gw_fft *f;
        gw_whitening *w;
        assert_int_equal(k.spectrum.fft_new(&f, GRID), 0);
        assert_int_equal(gw_whitening_new(&w, &k.spectrum, f, &shape), 0);
        double psd[BINS], h[RATE + 1] = {0}, sum = 0, early = 0, all = 0;
        for (int b = 0; b < BINS; b++) /* falls by 100 over the band, as strain does; 0.5 Hz bins */
            psd[b] = 1e-42 * pow(10 + 0.5 * b, -2) + 1e-47;
        assert_int_equal(gw_whitening_design(w, psd, h), 0);
        for (uint32_t t = 0; t < shape.n_taps; t++) {
            sum += h[t];
            all += h[t] * h[t];
            early += t < 64 ? h[t] * h[t] : 0;
            if (linear)
                assert_true(fabs(h[t] - h[shape.n_taps - 1 - t]) < 1e-12 * fabs(h[RATE / 2]));
        }
        assert_true(fabs(sum) < 1e-12 * sqrt(all));
        assert_true(linear ? early < 0.01 * all : early > 0.98 * all);
        for (double hz = 35; hz < 220; hz += 7.3) {
            const double want = sqrt(2.0 / RATE / psd[lround(2 * hz)]);
            assert_true(fabs(response(h, shape.n_taps, hz / RATE) / want - 1) < 0.02);
        }
        for (double hz = 0.5; hz < 17; hz += 1.5)
            assert_true(response(h, shape.n_taps, hz / RATE) * sqrt(psd[100] * RATE / 2) < 0.01);
        assert_true(fabs(gw_whitening_fraction(&shape) -
                         (0.88 * 256 - 30 + 0.375 * (10 + 0.07 * 256)) / 256) < 1e-12);
        const double before = h[3];
        psd[200] = 0;
        assert_int_equal(gw_whitening_design(w, psd, h), GW_ERANGE);
        assert_true(h[3] == before);
        gw_whitening_destroy(&w);
        k.spectrum.fft_destroy(&f);
    }
}

/* On a smooth curve, like the design of a detector (a wall, a bucket, shot noise), minimum phase in 1 s has
 * the magnitude asked for to 1 % from the end of the lower ramp on (on it, to 3 % above 25 Hz). */
static void filter_of_a_design_curve(void **unused)
{
    (void)unused;
    enum { HZ = 2048, GRID = 16 * HZ, BINS = HZ + 1 };
    const gw_kernels k = kernels(GW_KERNELS_CPU);
    const gw_whitening_shape shape = {.rate_hz = HZ,
                                      .n_taps = HZ,
                                      .psd_bins = BINS,
                                      .grid_samples = GRID,
                                      .highpass_hz = {20, 30},
                                      .lowpass_hz = {0.88 * 1024, 0.95 * 1024}};
    gw_fft *f;
    gw_whitening *w;
    static double psd[BINS], h[HZ];
    for (int b = 0; b < BINS; b++) {
        const double hz = fmax(0.5 * b, 8);
        psd[b] = 1e-46 * (pow(18 / hz, 12) + 0.5 * pow(100 / hz, 2) + 0.5 * (1 + pow(hz / 250, 2)));
    }
    assert_int_equal(k.spectrum.fft_new(&f, GRID), 0);
    assert_int_equal(gw_whitening_new(&w, &k.spectrum, f, &shape), 0);
    assert_int_equal(gw_whitening_design(w, psd, h), 0);
    double worst = 0;
    for (int b = 60; b < 2 * 950; b += 3) {
        const double hz = 0.5 * b, up = sin(M_PI / 2 * fmin(1, (hz - 20) / 10)),
                     down = hz < 901.12 ? 1 : cos(M_PI / 2 * (hz - 901.12) / 71.68);
        const double want = sqrt(2.0 / HZ / psd[b]) * up * up * down * down;
        worst = fmax(worst, fabs(response(h, HZ, hz / HZ) / want - 1));
    }
    if (!(worst < 0.01))
        fail_msg("off by %g", worst);
    gw_whitening_destroy(&w);
    k.spectrum.fft_destroy(&f);
}

static void convolver_is_the_sum(void **unused)
{
    (void)unused;
    static const uint32_t shapes[][2] = {{1, 1}, {7, 3}, {64, 32}, {65, 32}, {100, 7}, {33, 64}};
    for (gw_kernels_level level = GW_KERNELS_REF; level <= GW_KERNELS_CPU; level++) {
        const gw_kernels k = kernels(level);
        for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++) {
            const uint32_t taps = shapes[s][0], hop = shapes[s][1];
            gw_convolver *c;
            assert_int_equal(gw_convolver_new(&c, &k.spectrum, taps, hop), 0);
            double h[100], x[640], y[64], *r = malloc(gw_convolver_response_size(c) * sizeof *r);
            assert_non_null(r);
            for (uint32_t t = 0; t < taps; t++)
                h[t] = normal();
            gw_convolver_prepare(c, h, r);
            for (int again = 0; again < 2; again++) { /* a reset forgets all */
                for (uint32_t at = 0; at + hop <= 640; at += hop) {
                    for (uint32_t i = 0; i < hop; i++)
                        x[at + i] = normal();
                    gw_convolver_push(c, x + at);
                    gw_convolver_run(c, r, y);
                    for (uint32_t i = 0; i < hop; i++) {
                        double want = 0;
                        for (uint32_t t = 0; t < taps && t <= at + i; t++)
                            want += h[t] * x[at + i - t];
                        assert_true(fabs(y[i] - want) < 1e-12);
                    }
                }
                gw_convolver_reset(c);
            }
            free(r);
            gw_convolver_destroy(&c);
        }
    }
}

/* -- whiten ------------------------------------------------------------------------------------------ */

static double deviation(const double *y, int from, int to)
{
    double sum = 0;
    for (int i = from; i < to; i++)
        sum += y[i] * y[i];
    return sqrt(sum / (to - from));
}

/* Noise of strength 1e-21 whose PSD falls with frequency, upon an offset as in real strain. */
static void strain(double *x, size_t n)
{
    double slow = 0;
    for (size_t i = 0; i < n; i++) {
        slow = 0.9 * slow + normal();
        x[i] = 1e-21 * (normal() + slow) - 1e-18;
    }
}

static const double expected = 0.8373; /* at 256 Hz: sqrt((112.64 - 30 + 3/8 (10 + 8.96)) / 128) */
static const int64_t begin0 = INT64_C(1126259446) * RATE;

static void whiten_start_hole_and_blocks(void **unused)
{
    (void)unused;
    enum { N = 40 * RATE, HOLE = 20 * RATE + 100, AFTER = 23 * RATE + 50 };
    static double x[N];
    static rig r, s;
    strain(x, N);
    rig_open(&r, &gw_kind_whiten, "{}", RATE, 16, 1, begin0);
    assert_string_equal(
        r.plan.out[0].whitening,
        "v2 minimum-phase 256Hz 1s highpass=20-30Hz lowpass=0.88-0.95 psd=median,2s,64s,smooth=4Hz");
    assert_string_equal(r.plan.out[0].unit, "whitened");
    assert_int_equal(r.plan.out[0].dtype, GW_F32);
    rig_run(&r, begin0, x, N, 5, HOLE); /* as a resampler leaves it: some samples missing at the start */
    assert_true(!r.last.lost);
    assert_int_equal(r.kind->gap(r.self, 0, &(gw_hole){.sample0 = begin0 + HOLE, .samples = AFTER - HOLE}),
                     0);
    rig_block(&r, begin0 + AFTER, x + AFTER, N, 14, GW_DQ_ALL, 0);
    assert_true(r.last.lost && r.last.reason == GW_GAP_HISTORY);
    rig_run(&r, begin0, x, N, AFTER + 14, N);

    /* 8 s of warm-up, output to the last whole piece, and after the hole again when 1 s of it is past. */
    const int first = seek(r.y[0], 0, true), stop = seek(r.y[0], first, false),
              again = seek(r.y[0], stop, true);
    assert_int_equal(first, 8 * RATE);
    assert_in_range(stop, HOLE - 4, HOLE);
    assert_in_range(again, AFTER + RATE - 1, AFTER + RATE + 8);
    assert_int_equal(seek(r.y[0], again, false), N);
    assert_true(fabs(deviation(r.y[0], first, stop) / expected - 1) < 0.06);
    assert_true(fabs(deviation(r.y[0], again, N) / expected - 1) < 0.06);

    const uint32_t blocks[] = {1, 4, 37, 64, 256, 1000};
    for (size_t b = 0; b < sizeof blocks / sizeof *blocks; b++) {
        rig_open(&s, &gw_kind_whiten, "{}", RATE, blocks[b], 1, begin0);
        rig_run(&s, begin0, x, N, 5, HOLE);
        rig_run(&s, begin0, x, N, AFTER, N); /* a hole that nobody announced is one too */
        const int end = seek(s.y[0], again, false);
        assert_true(end > N - 8 && memcmp(r.y[0], s.y[0], (size_t)end * sizeof r.y[0][0]) == 0);
        rig_close(&s);
    }
    rig_close(&r);
}

static void whiten_refuses_bad_data(void **unused)
{
    (void)unused;
    enum { N = 30 * RATE };
    static double x[N];
    static rig r;
    strain(x, N);
    rig_open(&r, &gw_kind_whiten, "{warmup: 4s}", RATE, 64, 1, begin0);
    rig_run(&r, begin0, x, N, 0, 10 * RATE);
    assert_int_equal(seek(r.y[0], 0, true), 4 * RATE);
    /* Data quality: the block and the filter's memory after it. */
    rig_block(&r, begin0 + 10 * RATE, x + 10 * RATE, N, 64, GW_DQ_ALL & ~(uint64_t)GW_DQ_CBC_CAT1, 0);
    assert_true(r.last.n_samples == 0 && r.last.lost && r.last.reason == GW_GAP_QUALITY);
    assert_true(r.last.lost_until == begin0 + 10 * RATE + 64);
    rig_run(&r, begin0, x, N, 10 * RATE + 64, 14 * RATE);
    assert_int_equal(seek(r.y[0], 10 * RATE, true), 11 * RATE + 64);
    /* CAT2 and CAT3 change nothing. */
    rig_block(&r, begin0 + 14 * RATE, x + 14 * RATE, N, 64, GW_DQ_DATA | GW_DQ_CBC_CAT1, GW_FLAG_REPLAY);
    assert_true(r.last.n_samples == 64 && r.last.dq == (GW_DQ_DATA | GW_DQ_CBC_CAT1));
    assert_true(r.last.flags == GW_FLAG_REPLAY);
    /* NaN and infinity: not one comes out, nor anything else until they have left. */
    x[15 * RATE + 3] = NAN;
    x[15 * RATE + 70] = INFINITY;
    rig_run(&r, begin0, x, N, 14 * RATE + 64, 15 * RATE);
    rig_block(&r, begin0 + 15 * RATE, x + 15 * RATE, N, 64, GW_DQ_ALL, 0);
    assert_true(r.last.n_samples == 0 && r.last.lost && r.last.reason == GW_GAP_NAN);
    rig_run(&r, begin0, x, N, 15 * RATE + 64, N);
    const int again = seek(r.y[0], 15 * RATE, true);
    assert_in_range(again, 16 * RATE + 68, 16 * RATE + 76);
    assert_int_equal(seek(r.y[0], again, false), N);
    assert_true(fabs(deviation(r.y[0], again, N) / expected - 1) < 0.08);
    rig_close(&r);
}

static void whiten_gates_glitches(void **unused)
{
    (void)unused;
    enum { N = 40 * RATE, AT = 20 * RATE + 77 };
    static double x[N];
    static rig quiet, loud;
    strain(x, N);
    rig_open(&quiet, &gw_kind_whiten, "{}", RATE, 16, 1, begin0);
    rig_run(&quiet, begin0, x, N, 0, N);
    x[AT] += 1e-18; /* about a thousand sigma */
    rig_open(&loud, &gw_kind_whiten, "{}", RATE, 16, 1, begin0);
    rig_run(&loud, begin0, x, N, 0, N);
    double peak = 0;
    for (int i = 8 * RATE; i < N; i++)
        peak = fmax(peak, fabs(loud.y[0][i]));
    assert_true(peak < 100);
    assert_memory_equal(quiet.y[0] + 8 * RATE, loud.y[0] + 8 * RATE, (AT - 8 * RATE) * sizeof peak);
    int shut_at = AT; /* the filter's answer takes a sample or two to rise beyond 100 sigma */
    while (loud.y[0][shut_at] != 0)
        shut_at++;
    assert_in_range(shut_at, AT, AT + 4);
    for (int i = shut_at; i < shut_at + RATE / 4; i++)
        assert_true(loud.y[0][i] == 0);
    /* Neither PSD nor gain has noticed: once the filters of both have seen the same ticks' worth again, all
     * that differs is the tick left out. */
    assert_true(fabs(deviation(loud.y[0], 23 * RATE, N) / deviation(quiet.y[0], 23 * RATE, N) - 1) < 0.02);
    rig_close(&quiet);
    rig_close(&loud);

    /* Noise that becomes 10,000 times louder and stays so is learnt anew after a warm-up, not gated for ever.
     */
    for (int i = 20 * RATE; i < N; i++)
        x[i] = 1e4 * (x[i] + 1e-18) - 1e-18;
    rig_open(&loud, &gw_kind_whiten, "{warmup: 4s}", RATE, 16, 1, begin0);
    rig_run(&loud, begin0, x, N, 0, N);
    const int shut = seek(loud.y[0], 20 * RATE, false), open = seek(loud.y[0], shut, true);
    assert_int_equal(shut, 24 * RATE);
    assert_int_equal(open, 28 * RATE);
    assert_true(fabs(deviation(loud.y[0], open, N) / expected - 1) < 0.08);
    rig_close(&loud);
}

static void whiten_follows_the_first(void **unused)
{
    (void)unused;
    enum { N = 30 * RATE };
    static double x[2][N], sum[N];
    static rig parts, whole;
    strain(x[0], N);
    for (int i = 0; i < N; i++) {
        x[1][i] = i > 12 * RATE && i < 13 * RATE ? 3e-21 * sin(0.9 * i) : 0;
        sum[i] = x[0][i];
    }
    rig_open(&parts, &gw_kind_whiten, "{follow_first: true}", RATE, 16, 2, begin0);
    rig_run(&parts, begin0, x[0], N, 0, N);
    rig_open(&whole, &gw_kind_whiten, "{}", RATE, 16, 1, begin0);
    rig_run(&whole, begin0, sum, N, 0, N);
    /* The first is whitened as if alone; the second through the same filter: linear, silent where it is
     * silent. */
    assert_memory_equal(parts.y[0], whole.y[0], N * sizeof parts.y[0][0]);
    assert_true(deviation(parts.y[1], 8 * RATE, 12 * RATE) == 0);
    const double strength = deviation(parts.y[1], 12 * RATE, 13 * RATE);
    assert_true(strength > 0.3 && strength < 3);
    rig_close(&whole);
    for (int i = 0; i < N; i++) {
        x[1][i] *= -2;
        sum[i] = i < 8 * RATE ? x[0][i] : 0;
    }
    rig_open(&whole, &gw_kind_whiten, "{follow_first: true}", RATE, 16, 2, begin0);
    rig_run(&whole, begin0, x[0], N, 0, N);
    for (int i = 8 * RATE; i < N; i++)
        assert_true(fabs(whole.y[1][i] + 2 * parts.y[1][i]) < 1e-6);
    rig_close(&parts);
    rig_close(&whole);
}

static void whiten_linear_phase_is_centred(void **unused)
{
    (void)unused;
    enum { N = 24 * RATE, AT = 16 * RATE + 9 };
    static double x[2][N];
    static rig r;
    strain(x[0], N);
    x[1][AT] = 1e-20;
    rig_open(&r, &gw_kind_whiten, "{phase: linear, follow_first: true, duration: 0.5s}", RATE, 16, 2, begin0);
    rig_run(&r, begin0, x[0], N, 0, N);
    assert_true(r.plan.delay_ns >= 250000000 && r.plan.delay_ns < 270000000);
    assert_int_equal(seek(r.y[0], 0, true), 8 * RATE - RATE / 4);
    int peak = 8 * RATE;
    for (int i = 8 * RATE; i < N - RATE / 4; i++)
        if (fabs(r.y[1][i]) > fabs(r.y[1][peak]))
            peak = i;
    assert_int_equal(peak, AT);
    rig_close(&r);
}

static void whiten_refuses_configurations(void **unused)
{
    (void)unused;
    static rig r;
    static const struct {
        const char *yaml;
        int err;
    } bad[] = {{"{phase: zero}", GW_ECONFIG},
               {"{highpass: 20Hz}", GW_ECONFIG},
               {"{highpass: [30Hz, 20Hz]}", GW_ECONFIG},
               {"{highpass: [20, 30]}", GW_ECONFIG},
               {"{lowpass: [0.9]}", GW_ECONFIG},
               {"{lowpass: [0.9, 1.5]}", GW_ECONFIG},
               {"{psd: 2s}", GW_ECONFIG},
               {"{psd: {segmnt: 2s}}", GW_ECONFIG},
               {"{warmup: 8}", GW_ECONFIG},
               {"{highpass: [20Hz, 120Hz]}", GW_EMISMATCH},
               {"{warmup: 2s}", GW_EMISMATCH},
               {"{psd: {segment: 100s}}", GW_EMISMATCH},
               {"{psd: {segment: 4s, memory: 2s}}", GW_EMISMATCH},
               {"{duration: 1/3s}", GW_EMISMATCH},
               {"{duration: 60s}", GW_EMISMATCH}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(rig_plan(&r, &gw_kind_whiten, bad[i].yaml, RATE, 16, 1, GW_F64), bad[i].err);
        assert_true(strlen(gw_err_detail()) > 10);
        rig_close(&r);
    }
    assert_int_equal(rig_plan(&r, &gw_kind_whiten, "{}", RATE, 16, 1, GW_I32), GW_EMISMATCH);
    rig_close(&r);
    assert_int_equal(rig_plan(&r, &gw_kind_whiten, "{psd: {segment: 1s, average: mean, memory: 32s}}", RATE,
                              16, 1, GW_F32),
                     0);
    assert_string_equal(
        r.plan.out[0].whitening,
        "v2 minimum-phase 256Hz 1s highpass=20-30Hz lowpass=0.88-0.95 psd=mean,1s,32s,smooth=4Hz");
    rig_close(&r);
}

/* A dead channel (zeros, or one value for ever) is no noise: nothing comes out, and nothing breaks. */
static void whiten_stays_silent_on_a_dead_channel(void **unused)
{
    (void)unused;
    enum { N = 20 * RATE };
    static double x[N];
    static rig r;
    for (int i = 0; i < N; i++)
        x[i] = 0;
    rig_open(&r, &gw_kind_whiten, "{}", RATE, 16, 1, begin0);
    rig_run(&r, begin0, x, N, 0, N);
    assert_int_equal(seek(r.y[0], 0, true), MAX);
    assert_true(r.last.lost && r.last.reason == GW_GAP_ABSENT);
    rig_close(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(transform_is_the_dft),
        cmocka_unit_test(psd_median_mean_and_window),
        cmocka_unit_test(psd_is_smoothed_but_for_lines),
        cmocka_unit_test(filter_has_the_magnitude_asked_for),
        cmocka_unit_test(filter_of_a_design_curve),
        cmocka_unit_test(convolver_is_the_sum),
        cmocka_unit_test(whiten_start_hole_and_blocks),
        cmocka_unit_test(whiten_refuses_bad_data),
        cmocka_unit_test(whiten_gates_glitches),
        cmocka_unit_test(whiten_follows_the_first),
        cmocka_unit_test(whiten_linear_phase_is_centred),
        cmocka_unit_test(whiten_refuses_configurations),
        cmocka_unit_test(whiten_stays_silent_on_a_dead_channel),
    };
    gw_log_set_level(GW_LOG_ERROR);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
