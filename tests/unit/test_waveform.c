/* SPDX-License-Identifier: GPL-3.0-or-later
 * IMRPhenomB against what others computed: the SEOBNRv2 templates that GWOSC published with two events,
 * and the Newtonian limit of amplitude and chirp time. */
#include "sources/asd.h"
#include "sources/fourier.h"
#include "sources/waveform.h"

#include <hdf5.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* cmocka compares in float. */
#define assert_near(a, b, within) assert_true(fabs((double)(a) - (double)(b)) <= (within))

enum { TEMPLATE_SAMPLES = 131072, TEMPLATE_RATE = 4096 };

static const double sun_s = 4.92549e-6, mpc_s = 1.02927e14;

typedef struct template_file {
    double mass1, mass2, spin1, spin2;
    gw_fourier *plus;
} template_file;

static double read_number(hid_t group, const char *name)
{
    double v = NAN;
    const hid_t a = H5Aopen(group, name, H5P_DEFAULT);
    assert_true(a >= 0);
    assert_true(H5Aread(a, H5T_NATIVE_DOUBLE, &v) >= 0);
    H5Aclose(a);
    return v;
}

/* h+ of the template in plus->bins. Skips the test where the data folder is not there. */
static void read_template(template_file *t, const char *name)
{
    const char *folder = getenv("GWSTREAM_DATA");
    char path[1024];
    snprintf(path, sizeof path, "%s/gwosc/templates/%s", folder ? folder : "../shared/data", name);
    FILE *f = fopen(path, "rb");
    if (!f) {
        print_message("skipped: no file %s (set GWSTREAM_DATA)\n", path);
        skip();
    }
    fclose(f);
    const hid_t file = H5Fopen(path, H5F_ACC_RDONLY, H5P_DEFAULT);
    assert_true(file >= 0);
    const hid_t meta = H5Gopen2(file, "meta", H5P_DEFAULT), set = H5Dopen2(file, "template", H5P_DEFAULT);
    t->mass1 = read_number(meta, "m1");
    t->mass2 = read_number(meta, "m2");
    t->spin1 = read_number(meta, "a1");
    t->spin2 = read_number(meta, "a2");
    double *both = malloc(2 * TEMPLATE_SAMPLES * sizeof *both); /* [plus, cross][sample] */
    assert_non_null(both);
    assert_true(H5Dread(set, H5T_NATIVE_DOUBLE, H5S_ALL, H5S_ALL, H5P_DEFAULT, both) >= 0);
    assert_int_equal(gw_fourier_new(&t->plus, TEMPLATE_SAMPLES), GW_OK);
    memcpy(t->plus->time, both, TEMPLATE_SAMPLES * sizeof *both);
    gw_fourier_forward(t->plus);
    for (uint32_t k = 0; k <= TEMPLATE_SAMPLES / 2; k++)
        t->plus->bins[k] /= TEMPLATE_RATE;
    free(both);
    H5Dclose(set);
    H5Gclose(meta);
    H5Fclose(file);
}

/* <a|b> maximised over time and phase / sqrt(<a|a> <b|b>), above 30 Hz; *ratio = |b| / |a|. */
static double match(const double complex *a, const double complex *b, uint32_t n, double df, double *ratio)
{
    gw_asd *asd = NULL;
    gw_fourier *re, *im;
    assert_int_equal(gw_asd_new(&asd, &(gw_asd_conf){.scale = 1}), GW_OK);
    assert_int_equal(gw_fourier_new(&re, n), GW_OK);
    assert_int_equal(gw_fourier_new(&im, n), GW_OK);
    double aa = 0, bb = 0, best = 0;
    for (uint32_t k = (uint32_t)(30 / df); k < n / 2; k++) {
        const double s = gw_asd_floor(asd, k * df) * 1e46; /* out of the way of underflow */
        const double complex product = a[k] * conj(b[k]) * 1e42 / s;
        re->bins[k] = product;
        im->bins[k] = -I * product;
        aa += 1e42 * creal(a[k] * conj(a[k])) / s;
        bb += 1e42 * creal(b[k] * conj(b[k])) / s;
    }
    gw_fourier_inverse(re);
    gw_fourier_inverse(im);
    for (uint32_t i = 0; i < n; i++)
        best = fmax(best, re->time[i] * re->time[i] + im->time[i] * im->time[i]);
    gw_fourier_destroy(&re);
    gw_fourier_destroy(&im);
    gw_asd_destroy(&asd);
    if (ratio)
        *ratio = sqrt(bb / aa);
    return sqrt(best) / (2 * sqrt(aa * bb)); /* the inverse sums both signs of frequency */
}

static void check_template(const char *name)
{
    template_file t = {0};
    read_template(&t, name);
    gw_phenom p;
    gw_phenom_init(&p, t.mass1, t.mass2, (t.mass1 * t.spin1 + t.mass2 * t.spin2) / (t.mass1 + t.mass2));
    const uint32_t bins = TEMPLATE_SAMPLES / 2 + 1;
    const double df = (double)TEMPLATE_RATE / TEMPLATE_SAMPLES;
    double complex *h = calloc(bins, sizeof *h);
    assert_non_null(h);
    for (uint32_t k = 1; k < bins && k * df < p.cut_hz; k++)
        h[k] = gw_phenom_strain(&p, k * df);
    double ratio;
    const double good = match(t.plus->bins, h, TEMPLATE_SAMPLES, df, &ratio);
    for (uint32_t k = 0; k < bins; k++)
        h[k] = conj(h[k]);
    const double backwards = match(t.plus->bins, h, TEMPLATE_SAMPLES, df, NULL);
    free(h);
    gw_fourier_destroy(&t.plus);
    assert_true(good >= 0.97);
    assert_true(backwards < 0.6);
    assert_true(ratio > 0.8 && ratio < 1.25); /* the templates too are face-on from 1 Mpc */
}

static void matches_gw150914(void **state)
{
    (void)state;
    check_template("GW150914_4_template.hdf5");
}

static void matches_gw170104(void **state)
{
    (void)state;
    check_template("GW170104_4_template.hdf5");
}

/* Far below merger: |h| = sqrt(5 / 24) pi^-2/3 Mc^5/6 f^-7/6 c / D, and the chirp runs as Peters says. */
static void newtonian_limit(void **state)
{
    (void)state;
    gw_phenom p;
    gw_phenom_init(&p, 1.4, 1.4, 0);
    const double chirp_mass_s = 1.4 * pow(2, -0.2) * sun_s, f = 2;
    const double newton =
        sqrt(5.0 / 24) * pow(M_PI, -2.0 / 3) * pow(chirp_mass_s, 5.0 / 6) * pow(f, -7.0 / 6) / mpc_s;
    assert_near(cabs(gw_phenom_strain(&p, f)) / newton, 1, 0.01);
    /* Group delay between 2 Hz and 4 Hz: arrival time is -d(arg h)/df / 2 pi. */
    double arrival[2];
    for (int i = 0; i < 2; i++) {
        const double at = f * (i + 1), step = 1e-6;
        const double complex a = gw_phenom_strain(&p, at), b = gw_phenom_strain(&p, at + step);
        arrival[i] = -carg(b * conj(a)) / (2 * M_PI * step);
    }
    const double tau = 5.0 / 256 * pow(chirp_mass_s, -5.0 / 3) * pow(M_PI * f, -8.0 / 3);
    assert_near((arrival[1] - arrival[0]) / (tau * (1 - pow(2, -8.0 / 3))), 1, 0.03);
}

static void amplitude_is_continuous(void **state)
{
    (void)state;
    for (double chi = -0.8; chi <= 0.8; chi += 0.4) {
        gw_phenom p;
        gw_phenom_init(&p, 50, 20, chi);
        assert_true(0 < p.merger_hz && p.merger_hz < p.ring_hz && p.ring_hz < p.cut_hz && p.width_hz > 0);
        const double at[2] = {p.merger_hz, p.ring_hz};
        for (int i = 0; i < 2; i++) {
            const double below = cabs(gw_phenom_strain(&p, at[i] * (1 - 1e-9)));
            const double above = cabs(gw_phenom_strain(&p, at[i] * (1 + 1e-9)));
            assert_near(above / below, 1, 1e-6);
        }
    }
}

/* The grid waveform: |h(t)| peaks at t = 0 with phase 0, and little is left at the buffer's seam. */
static void coalescence_is_at_zero(void **state)
{
    (void)state;
    static const double mass[][2] = {{36, 29}, {80, 80}, {10, 8}, {60, 10}};
    for (int m = 0; m < 4; m++) {
        gw_waveform *w;
        gw_fourier *plus, *cross;
        const gw_rate rate = {4096, 1};
        assert_int_equal(gw_waveform_new(&w, mass[m][0], mass[m][1], 0.3, rate), GW_OK);
        const uint32_t n = w->n_samples;
        assert_true(n >= gw_waveform_seconds(mass[m][0], mass[m][1]) * 4096);
        assert_int_equal(gw_fourier_new(&plus, n), GW_OK);
        assert_int_equal(gw_fourier_new(&cross, n), GW_OK);
        for (uint32_t k = 0; k < w->n_bins; k++) {
            plus->bins[k] = w->h[k];
            cross->bins[k] = -I * w->h[k];
        }
        gw_fourier_inverse(plus);
        gw_fourier_inverse(cross);
        uint32_t top = 0;
        double most = 0;
        for (uint32_t i = 0; i < n; i++)
            if (hypot(plus->time[i], cross->time[i]) > most) {
                most = hypot(plus->time[i], cross->time[i]);
                top = i;
            }
        assert_true(top <= 1 || top == n - 1);
        assert_near(atan2(cross->time[0], plus->time[0]), 0, 1e-3);
        const uint32_t seam = (uint32_t)(GW_AFTER_S * 4096);
        assert_true(hypot(plus->time[seam], cross->time[seam]) < 2e-3 * most);
        gw_fourier_destroy(&plus);
        gw_fourier_destroy(&cross);
        gw_waveform_destroy(&w);
    }
}

static void nothing_in_band_is_refused(void **state)
{
    (void)state;
    gw_waveform *w;
    assert_int_equal(gw_waveform_new(&w, 30, 30, 0, (gw_rate){16, 1}), GW_ERANGE);
    assert_null(w);
    assert_non_null(strstr(gw_err_detail(), "no signal"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(matches_gw150914),       cmocka_unit_test(matches_gw170104),
        cmocka_unit_test(newtonian_limit),        cmocka_unit_test(amplitude_is_continuous),
        cmocka_unit_test(coalescence_is_at_zero), cmocka_unit_test(nothing_in_band_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
