/* SPDX-License-Identifier: GPL-3.0-or-later
 * The ratio of amplitude spectra where the answer is known without a spectrum: parts of strain taken away,
 * holes, another network in a prediction's place. Against scipy: tests/flow/check_asd_ratio.py. */
#include "kernels/kernels.h"
#include "pipeline/stages/asd_ratio.h"
#include "tests/unit/stage_rig.h"

enum { FS = 512, CHUNK = 32 };

static const int64_t first = (int64_t)1400000000 * FS;

typedef struct bench {
    gw_kernels k;
    gw_asd_ratio *a;
    double s[CHUNK], p[2][CHUNK];
    int64_t at;
    gw_asd_ratios r[2];
} bench;

static gw_bands bands_of(const char *text)
{
    gw_bands b;
    assert_int_equal(gw_bands_parse(&b, "test", text), GW_OK);
    return b;
}

static void set_up(bench *b)
{
    const gw_bands bands[2] = {bands_of("57-63"), bands_of("10-30,100-110")};
    *b = (bench){.at = first};
    assert_int_equal(gw_kernels_init(&b->k, GW_KERNELS_REF), GW_OK);
    assert_int_equal(gw_asd_ratio_new(&b->a, &b->k.spectrum, FS, 2, bands), GW_OK);
}

/* Runs `seconds`; p[0] = c0 s, p[1] = c1 s; returns how many seconds p[which] was measured. */
static int go(bench *b, int seconds, double c0, double c1, int which)
{
    int measured = 0;
    for (int i = 0; i < seconds * FS / CHUNK; i++) {
        for (int j = 0; j < CHUNK; j++) {
            b->s[j] = 1e-21 * normal();
            b->p[0][j] = c0 * b->s[j];
            b->p[1][j] = c1 * b->s[j];
        }
        const double *p[2] = {isfinite(c0) ? b->p[0] : NULL, isfinite(c1) ? b->p[1] : NULL};
        if (gw_asd_ratio_add(b->a, b->at, CHUNK, b->s, p, b->r))
            measured += b->r[which].measured;
        b->at += CHUNK;
    }
    return measured;
}

static void near(double x, double want)
{
    assert_true(fabs(x - want) < 1e-9);
}

static void what_is_taken_away(void **unused)
{
    (void)unused;
    bench b;
    set_up(&b);
    assert_int_equal(go(&b, 7, 0.25, -0.5, 0), 0);
    assert_int_equal(go(&b, 1, 0.25, -0.5, 0), 1);
    for (int k = 0; k < 2; k++) {
        const double want = k == 0 ? 0.75 : 1.5;
        near(b.r[k].mean, want);
        near(b.r[k].integrated, want);
        near(b.r[k].out, want);
        near(b.r[k].out_worst, want);
    }
    gw_asd_ratio_destroy(&b.a);
}

static void holes(void **unused)
{
    (void)unused;
    bench b;
    set_up(&b);
    assert_int_equal(go(&b, 12, 0, 0, 0), 5);
    b.at += 3 * FS; /* a hole in strain: nothing for 8 s */
    assert_int_equal(go(&b, 10, 0, 0, 1), 3);
    assert_int_equal(go(&b, 2, NAN, 0, 1), 2); /* prediction 0 not valid: the other goes on */
    assert_false(b.r[0].measured);
    assert_int_equal(go(&b, 8, 0, 0, 0), 1);
    near(b.r[0].mean, 1);
    gw_asd_ratio_destroy(&b.a);
}

static void anew(void **unused)
{
    (void)unused;
    bench b;
    set_up(&b);
    go(&b, 9, 0.5, 0.5, 0);
    const gw_bands bands = bands_of("40-50");
    assert_int_equal(gw_asd_ratio_anew(b.a, 0, &bands), GW_OK);
    assert_int_equal(go(&b, 7, 0.1, 0.5, 0), 0);
    assert_int_equal(go(&b, 1, 0.1, 0.5, 0), 1);
    near(b.r[0].mean, 0.9); /* none of the past */
    near(b.r[1].mean, 0.5);
    gw_asd_ratio_destroy(&b.a);
}

/* Noise where strain has none: no division by zero goes unseen. */
static void silence(void **unused)
{
    (void)unused;
    bench b;
    set_up(&b);
    int measured = 0;
    for (int i = 0; i < 9 * FS / CHUNK; i++) {
        for (int j = 0; j < CHUNK; j++)
            b.s[j] = b.p[0][j] = 0, b.p[1][j] = normal();
        const double *p[2] = {b.p[0], b.p[1]};
        if (gw_asd_ratio_add(b.a, b.at, CHUNK, b.s, p, b.r))
            measured += b.r[0].measured;
        b.at += CHUNK;
    }
    assert_int_equal(measured, 2);
    near(b.r[0].mean, 1);
    assert_true(isinf(b.r[1].mean) && b.r[1].mean > 0);
    gw_asd_ratio_destroy(&b.a);
}

static void bands(void **unused)
{
    (void)unused;
    static const char *const bad[] = {"",     "60",    "60-50", "50-60,", "a-b",    "50-60;70-80",
                                      "-5-3", "1-2-3", "nan-3", "1-inf",  "50-60,,"};
    gw_bands b;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(gw_bands_parse(&b, "model x", bad[i]), GW_EFORMAT);
        assert_non_null(strstr(gw_err_detail(), "model x"));
    }
    assert_int_equal(gw_bands_parse(&b, "model x", "57-63,118.5-122"), GW_OK);
    assert_int_equal(b.n, 2);
    assert_true(b.lo[1] == 118.5 && b.hi[1] == 122);
    gw_kernels k;
    gw_asd_ratio *a;
    const gw_bands high = bands_of("300-400");
    assert_int_equal(gw_kernels_init(&k, GW_KERNELS_REF), GW_OK);
    assert_int_equal(gw_asd_ratio_new(&a, &k.spectrum, FS, 1, &high), GW_ERANGE);
    assert_null(a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_taken_away),
        cmocka_unit_test(holes),
        cmocka_unit_test(anew),
        cmocka_unit_test(silence),
        cmocka_unit_test(bands),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
