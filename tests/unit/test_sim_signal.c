/* SPDX-License-Identifier: GPL-3.0-or-later
 * The source `sim`'s signals from their YAML to samples, flags and truth: SNRs are recomputed here from the emitted
 * samples and the printed formula of the PSD. */
#include "sources/detector.h"
#include "tests/unit/sim_rig.h"

#include <complex.h>
#include <fftw3.h>

static double printed_psd(double f)
{
    const double x = f / 215;
    return 4e-49 * (pow(x, -4.14) - 5 * pow(x, -2) + 111 * (1 - x * x + pow(x, 4) / 2) / (1 + x * x / 2));
}

/* rho by the definition; and the time of the envelope's maximum, in samples. */
static double snr_of(const recording *rec, double rate_hz, double *peak)
{
    const size_t n = rec->n;
    double *x = fftw_alloc_real(n), sum = 0;
    fftw_complex *h = fftw_alloc_complex(n);
    fftw_plan forward = fftw_plan_dft_r2c_1d((int)n, x, h, FFTW_ESTIMATE);
    memcpy(x, rec->x[1], n * sizeof *x);
    fftw_execute(forward);
    const double df = rate_hz / (double)n;
    for (size_t k = 1; k < n / 2; k++)
        if ((double)k * df >= 20)
            sum += 4 * df * creal(h[k] * conj(h[k])) / (rate_hz * rate_hz) / printed_psd((double)k * df);
    for (size_t k = n / 2; k < n; k++)
        h[k] = 0; /* the analytic signal */
    fftw_plan back = fftw_plan_dft_1d((int)n, h, h, FFTW_BACKWARD, FFTW_ESTIMATE);
    fftw_execute(back);
    size_t top = 0;
    for (size_t i = 0; i < n; i++)
        if (cabs(h[i]) > cabs(h[top]))
            top = i;
    const double a = cabs(h[top - 1]), b = cabs(h[top]), c = cabs(h[top + 1]);
    *peak = (double)top + 0.5 * (a - c) / (a - 2 * b + c);
    fftw_destroy_plan(forward);
    fftw_destroy_plan(back);
    fftw_free(x);
    fftw_free(h);
    return sqrt(sum);
}

static void signal_snr_and_arrival(void **state)
{
    (void)state;
    static const char *const how[] = {
        "mass1: 36, mass2: 29, spin1z: 0.3, network_snr: 24, ra: 1.9, dec: -1.2, psi: 0.7, iota: 2.6",
        "mass1: 14, mass2: 8, network_snr: 12, ra: 5, dec: 0.8, psi: 1.1, iota: 0.9, phase: 0.4",
        "mass1: 90, mass2: 60, distance: 1500, ra: 3.3, dec: 0.1, psi: 2.7, iota: 0.1",
    };
    for (int i = 0; i < 3; i++) {
        char yaml[1024];
        run r;
        snprintf(yaml, sizeof yaml,
                 "start: %d\nduration: 14s\nrate: 4096Hz\nparts: true\nasd: design-plain\nlines: false\n"
                 "detectors: [L1, H1, V1]\nsignals: [{gps: %d.123456789, %s}]\n",
                 START, START + 12, how[i]);
        play(&r, yaml, 0);
        assert_int_equal(r.env.n_events, 1);
        const gw_event *e = &r.env.event[0];
        assert_int_equal(e->phase, GW_PHASE_INJECTION);
        assert_string_equal(e->detectors, "H1,L1,V1");
        assert_string_equal(e->stream, "sky");
        assert_true(e->injection && e->detail[strlen(e->detail) - 1] == '}');
        double sum = 0, latest = 0;
        static const char *const key[] = {"\"L1\":", "\"H1\":", "\"V1\":"};
        for (int d = 0; d < 3; d++) {
            double peak;
            const double snr = snr_of(&r.port[d], 4096, &peak);
            const double said = number_in(e->detail, "\"snr\":", key[d]);
            const double arrival = number_in(e->detail, "\"gps\":", key[d]) - START;
            assert_near(snr / said, 1, 0.005);
            sum += snr * snr;
            latest = fmax(latest, arrival);
            /* V1 is 23 ms from the centre of the Earth at most, and so are the others. */
            assert_near(arrival, 12.123456789, 0.0214);
            assert_near(peak / 4096, arrival, i == 2 ? 0.002 : 0.0005);
        }
        assert_near(sqrt(sum) / e->statistic, 1, 0.005);
        assert_near((double)(e->gps_ns - START * GW_SECOND_NS) / 1e9, latest, 1e-6);
        const double distance = number_in(e->detail, "{", "\"distance_mpc\":");
        assert_true(i == 2 ? distance == 1500 : distance > 10);
        if (i < 2)
            assert_near(e->statistic, i ? 12 : 24, 1e-6);
        finish(&r);
    }
}

/* Two detectors see one wave, apart from a factor and a delay: the cross-correlation of their signal
 * parts peaks at the difference of the arrivals, to a small part of a sample. */
static void delay_is_finer_than_a_sample(void **state)
{
    (void)state;
    run r;
    play(&r,
         "start: 1187008880\nduration: 12s\nrate: 2048Hz\nparts: true\ndetectors: [H1, L1]\n"
         "signals: [{gps: 1187008888.0001, mass1: 30, mass2: 25, network_snr: 20, ra: 4, dec: 0.6, psi: "
         "0.2, iota: 0.9}]\n",
         0);
    const gw_event *e = &r.env.event[0];
    const double expected =
        (number_in(e->detail, "\"gps\":", "\"H1\":") - number_in(e->detail, "\"gps\":", "\"L1\":")) * 2048;
    const size_t n = r.port[0].n;
    fftw_complex *h[2];
    double *x = fftw_alloc_real(n);
    for (int d = 0; d < 2; d++) {
        h[d] = fftw_alloc_complex(n / 2 + 1);
        fftw_plan p = fftw_plan_dft_r2c_1d((int)n, x, h[d], FFTW_ESTIMATE);
        memcpy(x, r.port[d].x[1], n * sizeof *x);
        fftw_execute(p);
        fftw_destroy_plan(p);
    }
    double best = 0, at = 0, phase = 0;
    for (int fine = 0; fine < 2; fine++) {
        const double from = fine ? at - 1 : -25, step = fine ? 0.01 : 0.5;
        for (int i = 0; i <= (fine ? 200 : 100); i++) {
            const double lag = from + i * step;
            double complex sum = 0;
            for (size_t k = 1; k < n / 2; k++)
                sum += h[0][k] * conj(h[1][k]) * cexp(2 * M_PI * I * (double)k * lag / (double)n) * 1e42;
            if (cabs(sum) > best) {
                best = cabs(sum);
                at = lag;
                phase = carg(sum);
            }
        }
    }
    assert_true(fabs(expected) > 1);
    assert_near(at, expected, 0.02);
    /* hx lags h+ by a quarter turn, so the detectors differ in phase by that of F+ (1 + c^2) / 2 - i Fx c. */
    double complex seen[2];
    for (int d = 0; d < 2; d++) {
        double plus, cross;
        gw_detector_antenna(gw_detector_find(d ? "L1" : "H1"), 4, 0.6, 0.2,
                            gw_sidereal_rad(1187008888 * GW_SECOND_NS), &plus, &cross);
        seen[d] = plus * 0.5 * (1 + cos(0.9) * cos(0.9)) - I * cross * cos(0.9);
    }
    const double expected_phase = carg(seen[0] * conj(seen[1]));
    assert_true(fabs(sin(expected_phase)) > 0.1);
    assert_near(remainder(phase - expected_phase, 2 * M_PI), 0, 0.02);
    fftw_free(x);
    fftw_free(h[0]);
    fftw_free(h[1]);
    finish(&r);
}

/* Exactly the blocks that hold a part of [arrival - 1 s, arrival + 0.3 s] are flagged. */
static void flags(void **state)
{
    (void)state;
    run r;
    play(&r,
         "start: 1187008880\nduration: 16s\nrate: 1024Hz\nblock: 1/16s\n"
         "signals: [{gps: 1187008885.03, mass1: 30, mass2: 25, network_snr: 20, ra: 4, dec: 0.6},"
         " {gps: 1187008880.2, mass1: 30, mass2: 25, network_snr: 20},"
         " {gps: 1187008895.9, mass1: 30, mass2: 25, network_snr: 20}]\n",
         0);
    assert_int_equal(r.env.n_events, 3);
    for (int d = 0; d < 2; d++)
        for (size_t i = 0; i < r.port[d].n; i += 64) {
            bool expected = false;
            for (int k = 0; k < 3; k++) {
                const double tc =
                    number_in(r.env.event[k].detail, "\"gps\":", d ? "\"L1\":" : "\"H1\":") - START;
                const double from = (double)i / 1024, to = (double)(i + 64) / 1024;
                expected |= tc - 1 < to && tc + 0.3 >= from;
            }
            assert_int_equal(r.port[d].flags[i], expected ? GW_FLAG_INJECTION : 0);
        }
    finish(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(signal_snr_and_arrival),
        cmocka_unit_test(delay_is_finer_than_a_sample),
        cmocka_unit_test(flags),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
