/* SPDX-License-Identifier: GPL-3.0-or-later
 * Random numbers against their published vectors, the analytic design against its printed formula, the
 * noise against its spectrum by a Welch estimate written here, glitches against their SNR. */
#include "sources/glitch.h"
#include "sources/noise.h"
#include "sources/random.h"

#include <complex.h>
#include <fftw3.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

/* cmocka compares in float. */
#define assert_near(a, b, within) assert_true(fabs((double)(a) - (double)(b)) <= (within))

enum { RATE = 2048 };
static const gw_rate rate = {RATE, 1};

/* Known answers of Random123's own test suite, kat_vectors, philox4x32 10. */
static void philox_known_answers(void **state)
{
    (void)state;
    static const uint32_t vector[3][10] = {
        {0, 0, 0, 0, 0, 0, 0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8},
        {0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff, 0x408f276d, 0x41c83b0e,
         0xa20bc7c6, 0x6d5451fd},
        {0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344, 0xa4093822, 0x299f31d0, 0xd16cfe09, 0x94fdcceb,
         0x5001e420, 0x24126ea1},
    };
    for (int i = 0; i < 3; i++) {
        uint32_t out[4];
        gw_philox(vector[i] + 4, vector[i], out);
        assert_memory_equal(out, vector[i] + 6, sizeof out);
    }
}

static void distributions(void **state)
{
    (void)state;
    enum { N = 200000 };
    double sum = 0, sum2 = 0, sum4 = 0, unit = 0, count = 0, count2 = 0;
    gw_random r = gw_random_at(1, GW_FOR_NOISE, 0, -5);
    for (int i = 0; i < N; i += 2) {
        double z[2];
        gw_random_normals(&r, z);
        for (int k = 0; k < 2; k++) {
            sum += z[k];
            sum2 += z[k] * z[k];
            sum4 += z[k] * z[k] * z[k] * z[k];
        }
    }
    assert_near(sum / N, 0, 0.01);
    assert_near(sum2 / N, 1, 0.015);
    assert_near(sum4 / N, 3, 0.12);
    for (int i = 0; i < N; i++) {
        const double u = gw_random_unit(&r);
        assert_true(u > 0 && u < 1);
        unit += u;
        const int n = gw_random_poisson(&r, 2.5);
        count += n;
        count2 += n * n;
    }
    assert_near(unit / N, 0.5, 0.003);
    assert_near(count / N, 2.5, 0.02);
    assert_near(count2 / N - count / N * count / N, 2.5, 0.05);
    /* Neighbouring seeds, purposes, parts and indices share nothing. */
    const uint64_t first[5] = {
        gw_random_bits(&(gw_random[]){gw_random_at(1, GW_FOR_NOISE, 0, 0)}[0]),
        gw_random_bits(&(gw_random[]){gw_random_at(2, GW_FOR_NOISE, 0, 0)}[0]),
        gw_random_bits(&(gw_random[]){gw_random_at(1, GW_FOR_ASD, 0, 0)}[0]),
        gw_random_bits(&(gw_random[]){gw_random_at(1, GW_FOR_NOISE, 1, 0)}[0]),
        gw_random_bits(&(gw_random[]){gw_random_at(1, GW_FOR_NOISE, 0, 1)}[0]),
    };
    for (int i = 0; i < 5; i++)
        for (int k = 0; k < i; k++)
            assert_true(first[i] != first[k]);
}

/* The formula as printed in the review, four times. */
static double printed_psd(double f)
{
    const double x = f / 215;
    return 4e-49 * (pow(x, -4.14) - 5 * pow(x, -2) + 111 * (1 - x * x + pow(x, 4) / 2) / (1 + x * x / 2));
}

static gw_asd *plain(void)
{
    gw_asd *a;
    assert_int_equal(gw_asd_new(&a, &(gw_asd_conf){.scale = 1}), GW_OK);
    return a;
}

static void design_spectrum(void **state)
{
    (void)state;
    gw_asd *a = plain(), *twice;
    assert_int_equal(gw_asd_new(&twice, &(gw_asd_conf){.scale = 2}), GW_OK);
    for (double f = 10; f < 1000; f *= 1.3) {
        assert_near(gw_asd_floor(a, f) / printed_psd(f), 1, 1e-12);
        assert_near(gw_asd_psd(a, f, 0.1) / printed_psd(f), 1, 1e-12);
        assert_near(gw_asd_floor(twice, f) / printed_psd(f), 4, 1e-12);
    }
    assert_near(gw_asd_floor(a, 1) / printed_psd(10), 1, 1e-12);
    assert_near(sqrt(gw_asd_floor(a, 100)) * 1e24, 5.8, 0.3); /* the level of the first observing run */
    gw_asd_destroy(&a);
    gw_asd_destroy(&twice);
}

static void excess_and_lines(void **state)
{
    (void)state;
    double low = 0, high = 0;
    for (uint64_t seed = 0; seed < 20; seed++) {
        gw_asd *a, *again;
        const gw_asd_conf c = {.scale = 1, .excess = true, .lines = true, .seed = seed, .detector = 1};
        assert_int_equal(gw_asd_new(&a, &c), GW_OK);
        assert_int_equal(gw_asd_new(&again, &c), GW_OK);
        /* The excess is of order one at its knee and makes the lowest frequencies much worse. */
        low += log10(gw_asd_floor(a, 15) / printed_psd(15)) / 20;
        high += log10(gw_asd_floor(a, 300) / printed_psd(300)) / 20;
        double power = 0;
        for (double f = 59; f < 61; f += 0.125)
            power += (gw_asd_psd(a, f, 0.125) - gw_asd_floor(a, f)) * 0.125;
        const double held = power / (0.5 * gw_asd_floor(a, 60));
        assert_true(held > 2 && held < 4000);
        assert_true(gw_asd_psd(a, 60, 0.1) == gw_asd_psd(again, 60, 0.1));
        gw_asd_destroy(&a);
        gw_asd_destroy(&again);
    }
    assert_true(low > 1 && low < 3);
    assert_near(high, 0, 0.2);
}

static void ask_file(const char *text, int expected, const char *message)
{
    char path[] = "/tmp/gwstream-asd-XXXXXX";
    const int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_true(write(fd, text, strlen(text)) == (ssize_t)strlen(text));
    close(fd);
    gw_asd *a;
    assert_int_equal(gw_asd_new(&a, &(gw_asd_conf){.path = path, .scale = 1}), expected);
    if (expected == GW_OK) {
        assert_near(gw_asd_floor(a, 100) / 1e-46, 1, 1e-9);
        assert_near(gw_asd_floor(a, sqrt(1e2 * 1e3)) / 1e-45, 1, 1e-9); /* straight on log-log axes */
        assert_near(gw_asd_floor(a, 5000) / 1e-44, 1, 1e-9);
        gw_asd_destroy(&a);
    } else {
        assert_null(a);
        if (!strstr(gw_err_detail(), message))
            fail_msg("'%s' does not say '%s'", gw_err_detail(), message);
    }
    unlink(path);
}

static void spectrum_files(void **state)
{
    (void)state;
    ask_file("# f ASD\n0 1e-20\n10 1e-23\n\n100\t1e-23\n1000, 1e-22 # end\n", GW_OK, NULL);
    ask_file("10 1e-23\n100 abc\n", GW_EFORMAT, ":2: expected two numbers");
    ask_file("10 1e-23\n100\n", GW_EFORMAT, ":2: expected two numbers");
    ask_file("10 1e-23 3\n", GW_EFORMAT, ":1: expected two numbers");
    ask_file("10 1e-23\n10 1e-23\n", GW_EFORMAT, ":2: 10 Hz does not rise");
    ask_file("10 -1e-23\n", GW_EFORMAT, "must be positive");
    ask_file("10 nan\n", GW_EFORMAT, "must be positive");
    ask_file("10 1e-23\n", GW_EFORMAT, "at least two lines");
    ask_file("", GW_EFORMAT, "at least two lines");
    gw_asd *a;
    assert_int_equal(gw_asd_new(&a, &(gw_asd_conf){.path = "/no/such/file", .scale = 1}), GW_EMISSING);
    assert_int_equal(gw_asd_new(&a, &(gw_asd_conf){.path = "/tmp", .scale = 1}), GW_EIO);
}

/* Pieces of any length, in any order, from any place are pieces of one sequence. */
static void one_sequence(void **state)
{
    (void)state;
    enum { N = 40000 };
    gw_asd *a = plain();
    gw_noise *n, *m;
    static double x[N], y[N];
    const int64_t at = INT64_C(1126259462) * RATE - 777;
    assert_int_equal(gw_noise_new(&n, a, rate, 3, 0), GW_OK);
    assert_int_equal(gw_noise_new(&m, a, rate, 3, 0), GW_OK);
    gw_noise_fill(n, at, N, x);
    for (uint32_t i = 0, step = 1; i < N; i += step, step = 1 + (step * 7) % 911)
        gw_noise_fill(m, at + i, i + step < N ? step : N - i, y + i);
    assert_memory_equal(x, y, sizeof x);
    gw_noise_fill(m, at + 30000, 500, y); /* back and forth */
    gw_noise_fill(m, at + 10, 500, y + 500);
    assert_memory_equal(y, x + 30000, 500 * sizeof *x);
    assert_memory_equal(y + 500, x + 10, 500 * sizeof *x);
    gw_noise_fill(m, -1000, 2000, x); /* across sample 0 */
    gw_noise_fill(m, -1000, 1000, y);
    gw_noise_fill(m, 0, 1000, y + 1000);
    assert_memory_equal(x, y, 2000 * sizeof *x);
    gw_noise_destroy(&n);
    gw_noise_destroy(&m);
    gw_asd_destroy(&a);
}

/* Welch: 2-s periodic Hann windows, half overlapping, mean, one-sided; and the cross power of two. */
static void welch(const double *x, const double *y, uint32_t n, double *xx, double *yy, fftw_complex *xy)
{
    enum { LENGTH = 2 * RATE, BINS = LENGTH / 2 + 1 };
    double *in = fftw_alloc_real(LENGTH);
    fftw_complex *fx = fftw_alloc_complex(BINS), *fy = fftw_alloc_complex(BINS);
    fftw_plan px = fftw_plan_dft_r2c_1d(LENGTH, in, fx, FFTW_ESTIMATE);
    fftw_plan py = fftw_plan_dft_r2c_1d(LENGTH, in, fy, FFTW_ESTIMATE);
    memset(xx, 0, BINS * sizeof *xx);
    memset(yy, 0, BINS * sizeof *yy);
    memset(xy, 0, BINS * sizeof *xy);
    int segments = 0;
    for (uint32_t at = 0; at + LENGTH <= n; at += LENGTH / 2, segments++) {
        for (int i = 0; i < LENGTH; i++)
            in[i] = x[at + (uint32_t)i] * (0.5 - 0.5 * cos(2 * M_PI * i / LENGTH));
        fftw_execute(px);
        for (int i = 0; i < LENGTH; i++)
            in[i] = y[at + (uint32_t)i] * (0.5 - 0.5 * cos(2 * M_PI * i / LENGTH));
        fftw_execute(py);
        for (int k = 0; k < BINS; k++) {
            xx[k] += creal(fx[k] * conj(fx[k]));
            yy[k] += creal(fy[k] * conj(fy[k]));
            xy[k] += fx[k] * conj(fy[k]);
        }
    }
    const double scale = 2.0 / (RATE * 0.375 * LENGTH * segments);
    for (int k = 0; k < BINS; k++) {
        xx[k] *= scale;
        yy[k] *= scale;
        xy[k] *= scale;
    }
    fftw_destroy_plan(px);
    fftw_destroy_plan(py);
    fftw_free(in);
    fftw_free(fx);
    fftw_free(fy);
}

static void noise_has_its_spectrum(void **state)
{
    (void)state;
    enum { SECONDS = 512, N = SECONDS * RATE, BINS = RATE + 1 };
    gw_asd *a = plain();
    gw_noise *n, *m;
    double *x = malloc(N * sizeof *x), *y = malloc(N * sizeof *y);
    static double xx[BINS], yy[BINS];
    static fftw_complex xy[BINS];
    assert_true(x && y);
    assert_int_equal(gw_noise_new(&n, a, rate, 5, 0), GW_OK);
    assert_int_equal(gw_noise_new(&m, a, rate, 5, 1), GW_OK);
    gw_noise_fill(n, 12345, N, x);
    gw_noise_fill(m, 12345, N, y);
    welch(x, y, N, xx, yy, xy);
    /* Per 8-Hz band: 16 bins of some 350 independent segments, so 1.3 % deviation. */
    double worst = 0, square = 0;
    int bands = 0;
    for (int k = 40; k + 16 < BINS - 16; k += 16, bands++) {
        double ratio = 0, both = 0;
        fftw_complex cross = 0;
        for (int i = k; i < k + 16; i++) {
            ratio += xx[i] / printed_psd(i * 0.5) / 16;
            both += sqrt(xx[i] * yy[i]) / 16;
            cross += xy[i] / 16;
        }
        worst = fmax(worst, fabs(ratio - 1));
        square += (ratio - 1) * (ratio - 1);
        assert_true(cabs(cross) / both < 0.06); /* the two detectors know nothing of each other */
    }
    assert_true(worst < 0.06);
    assert_true(sqrt(square / bands) < 0.018);
    /* The variance is constant: no seams at multiples of half a segment. */
    double power[2] = {0, 0};
    const int64_t half = 8 * RATE;
    for (int64_t i = 0; i < N; i++)
        power[(i + 12345 + half / 4) % half < half / 2] += x[i] * x[i];
    assert_near(power[0] / power[1], 1, 0.1);
    gw_noise_destroy(&n);
    gw_noise_destroy(&m);
    gw_asd_destroy(&a);
    free(x);
    free(y);
}

/* The table that signals are scaled by is the spectrum. */
static void table_is_the_spectrum(void **state)
{
    (void)state;
    static const gw_rate rates[] = {{2048, 1}, {16384, 1}, {4096, 3}, {100, 1}};
    gw_asd *a = plain();
    for (int i = 0; i < 4; i++) {
        gw_noise *n;
        assert_int_equal(gw_noise_new(&n, a, rates[i], 5, 0), GW_OK);
        for (double f = 20; f < 0.49 * gw_rate_hz(rates[i]); f *= 1.07)
            assert_near(gw_noise_psd(n, f) / printed_psd(f), 1, 1e-3);
        gw_noise_destroy(&n);
    }
    gw_asd_destroy(&a);
}

/* SNR of an overlay by the definition, with the printed spectrum. */
static double overlay_snr(const gw_overlay *o)
{
    fftw_complex *h = fftw_alloc_complex(o->n_samples / 2 + 1);
    double *x = fftw_alloc_real(o->n_samples), sum = 0;
    fftw_plan p = fftw_plan_dft_r2c_1d((int)o->n_samples, x, h, FFTW_ESTIMATE);
    memcpy(x, o->x, o->n_samples * sizeof *x);
    fftw_execute(p);
    const double df = (double)RATE / o->n_samples;
    for (uint32_t k = (uint32_t)ceil(20 / df); k < o->n_samples / 2; k++)
        sum += 4 * df * creal(h[k] * conj(h[k])) / ((double)RATE * RATE) / printed_psd(k * df);
    fftw_destroy_plan(p);
    fftw_free(h);
    fftw_free(x);
    return sqrt(sum);
}

static int count_overlays(const gw_overlay *list)
{
    int n = 0;
    for (; list; list = list->next)
        n++;
    return n;
}

static void glitches_have_their_snr(void **state)
{
    (void)state;
    const gw_glitch_conf conf = {.rate_hz = 0.5, .snr_low = 4, .snr_high = 80, .coincident = 0};
    gw_asd *a = plain();
    gw_noise *n;
    gw_glitches *g, *later;
    gw_overlay *list = NULL, *other = NULL;
    const int64_t first = INT64_C(1000000000) * RATE;
    assert_int_equal(gw_noise_new(&n, a, rate, 5, 0), GW_OK);
    assert_int_equal(gw_glitches_new(&g, &conf, a, n, rate, first, 9, 0), GW_OK);
    for (int64_t s = 0; s <= 400; s++)
        assert_int_equal(gw_glitches_render(g, first + s * RATE, &list), GW_OK);
    assert_near(count_overlays(list), 200, 45); /* 3 deviations */
    int loud = 0, peaks_inside = 0;
    for (const gw_overlay *o = list; o; o = o->next) {
        const double snr = overlay_snr(o);
        assert_true(snr > 3.99 && snr < 80.1);
        loud += snr > sqrt(4 * 80); /* half of them: the law is uniform in the logarithm */
        double inside = 0, all = 0;
        for (uint32_t i = 0; i < o->n_samples; i++) {
            all += o->x[i] * o->x[i];
            if (fabs((double)i - o->n_samples / 2) < 2.5 * RATE)
                inside += o->x[i] * o->x[i];
        }
        peaks_inside += inside > 0.999 * all;
        if (o->next)
            assert_true(o->first <= o->next->first);
    }
    const int count = count_overlays(list);
    assert_near(loud, count / 2, 25);
    assert_int_equal(peaks_inside, count);
    /* A run that begins later, in one go, has the same glitches. */
    assert_int_equal(gw_glitches_new(&later, &conf, a, n, rate, first + 96 * RATE, 9, 0), GW_OK);
    assert_int_equal(gw_glitches_render(later, first + 400 * RATE, &other), GW_OK);
    gw_overlay_drop(&list, first + 96 * RATE);
    const gw_overlay *p = list, *q = other;
    for (; p && q; p = p->next, q = q->next) {
        assert_true(p->first == q->first && p->serial == q->serial && p->n_samples == q->n_samples);
        assert_memory_equal(p->x, q->x, p->n_samples * sizeof *p->x);
    }
    assert_true(!p && !q);
    gw_overlay_free(&list);
    gw_overlay_free(&other);
    gw_glitches_destroy(&g);
    gw_glitches_destroy(&later);
    gw_noise_destroy(&n);
    gw_asd_destroy(&a);
}

static void coincident_glitches(void **state)
{
    (void)state;
    const gw_glitch_conf conf = {.rate_hz = 0.5, .snr_low = 4, .snr_high = 80, .coincident = 0.5};
    gw_asd *a = plain();
    gw_noise *n;
    gw_overlay *list[2] = {NULL, NULL};
    const int64_t first = INT64_C(1000000000) * RATE;
    assert_int_equal(gw_noise_new(&n, a, rate, 5, 0), GW_OK);
    for (uint32_t d = 0; d < 2; d++) {
        gw_glitches *g;
        assert_int_equal(gw_glitches_new(&g, &conf, a, n, rate, first, 9, d), GW_OK);
        assert_int_equal(gw_glitches_render(g, first + 400 * RATE, &list[d]), GW_OK);
        gw_glitches_destroy(&g);
    }
    int pairs = 0, same = 0;
    for (const gw_overlay *p = list[0]; p; p = p->next)
        for (const gw_overlay *q = list[1]; q; q = q->next)
            if (llabs(p->first - q->first) <= RATE / 50) {
                pairs++;
                same += !memcmp(p->x, q->x, p->n_samples * sizeof *p->x);
            }
    assert_near(pairs, 104, 32); /* 100 made so, 4 by chance */
    assert_int_equal(same, 0);
    assert_near(count_overlays(list[0]), 200, 45);
    gw_overlay_free(&list[0]);
    gw_overlay_free(&list[1]);
    gw_noise_destroy(&n);
    gw_asd_destroy(&a);
}

/* Sums do not depend on the order in which overlays came. */
static void overlays_keep_their_order(void **state)
{
    (void)state;
    enum { N = 4 };
    const double x[N][4] = {{1e20, 1, 2, 3}, {-1e20, 1, 1, 1}, {0.1, 0.2, 0.3, 0.4}, {9, 9, 9, 9}};
    const int64_t first[N] = {10, 10, 10, 9};
    double sum[2][6] = {{0}};
    for (int way = 0; way < 2; way++) {
        gw_overlay *list = NULL;
        for (int i = 0; i < N; i++) {
            const int k = way ? N - 1 - i : i;
            assert_int_equal(gw_overlay_put(&list, first[k], 4, 0, (uint64_t)k, x[k]), GW_OK);
        }
        assert_int_equal(gw_overlay_put(&list, 9, 4, 1, 7, x[3]), GW_OK); /* another channel */
        gw_overlay_add(list, 0, 8, 3, sum[way]);
        gw_overlay_add(list, 0, 11, 3, sum[way] + 3);
        gw_overlay_drop(&list, 13);
        assert_int_equal(count_overlays(list), 3);
        gw_overlay_free(&list);
        assert_null(list);
    }
    assert_memory_equal(sum[0], sum[1], sizeof sum[0]);
    assert_true(sum[0][0] == 0 && sum[0][1] == 9 && sum[0][2] == 0.1 && sum[0][5] == 3 + 1 + 0.4);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(philox_known_answers),
        cmocka_unit_test(distributions),
        cmocka_unit_test(design_spectrum),
        cmocka_unit_test(excess_and_lines),
        cmocka_unit_test(spectrum_files),
        cmocka_unit_test(one_sequence),
        cmocka_unit_test(noise_has_its_spectrum),
        cmocka_unit_test(table_is_the_spectrum),
        cmocka_unit_test(glitches_have_their_snr),
        cmocka_unit_test(coincident_glitches),
        cmocka_unit_test(overlays_keep_their_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
