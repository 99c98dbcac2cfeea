/* SPDX-License-Identifier: GPL-3.0-or-later
 * Transforms and the multiply-add of spectra, each implementation against kernels/ref. */
#include "tests/check/check.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* One hop of whiten (2 x 32), a PSD segment, the design grid; then 2, primes and awkward products. */
static const uint32_t lengths[] = {64, 4096, 32768, 2, 4, 6, 14, 26, 34, 74, 202, 1000, 2310, 4002};
enum { N_LENGTHS = sizeof lengths / sizeof *lengths };

typedef struct fft_call {
    const gw_spectrum_ops *ops;
    gw_fft *fft;
} fft_call;

static void run_pair(void *arg)
{
    const fft_call *k = arg;
    k->ops->fft_forward(k->fft);
    k->ops->fft_inverse(k->fft);
}

static bool open_both(gw_check *c, const gw_spectrum_ops *ref, const gw_spectrum_ops *cand, uint32_t n,
                      gw_fft **a, gw_fft **b)
{
    const bool well = ref->fft_new(a, n) == GW_OK && cand->fft_new(b, n) == GW_OK;
    gw_check_that(c, well, "%u points: %s", n, gw_err_detail());
    return well;
}

static void check_forward(gw_check *c, const gw_spectrum_ops *ref, const gw_spectrum_ops *cand, uint32_t n)
{
    gw_fft *a = NULL, *b = NULL;
    if (!open_both(c, ref, cand, n, &a, &b))
        return;
    for (int fill = 0; fill < GW_FILL_FINITE_COUNT; fill++) {
        gw_check_fill_f64(c, (gw_check_fill)fill, a->time, n);
        memcpy(b->time, a->time, n * sizeof *a->time);
        ref->fft_forward(a);
        cand->fft_forward(b);
        gw_check_rms_f64(c, &a->freq[0].re, &b->freq[0].re, n + 2, 1e-15 * log2(2.0 * n), 0x1p-1070 * n,
                         "forward, %u points, %s", n, gw_check_fill_text((gw_check_fill)fill));
        gw_check_that(c, memcmp(a->time, b->time, n * sizeof *a->time) == 0, "forward, %u points: input kept",
                      n);
    }
    ref->fft_destroy(&a);
    cand->fft_destroy(&b);
}

static void check_inverse(gw_check *c, const gw_spectrum_ops *ref, const gw_spectrum_ops *cand, uint32_t n)
{
    gw_fft *a = NULL, *b = NULL;
    if (!open_both(c, ref, cand, n, &a, &b))
        return;
    for (int fill = 0; fill < GW_FILL_FINITE_COUNT; fill++) {
        /* Imaginary parts of the first and the last bin are there, and must not count. */
        gw_check_fill_f64(c, (gw_check_fill)fill, &a->freq[0].re, n + 2);
        memcpy(b->freq, a->freq, (n / 2 + 1) * sizeof *a->freq);
        ref->fft_inverse(a);
        cand->fft_inverse(b);
        gw_check_rms_f64(c, a->time, b->time, n, 1e-15 * log2(2.0 * n), 0x1p-1070 * n,
                         "inverse, %u points, %s", n, gw_check_fill_text((gw_check_fill)fill));
    }
    fft_call x = {ref, a}, y = {cand, b};
    char what[64];
    snprintf(what, sizeof what, "forward + inverse, %u points", n);
    if (n == 64 || n == 4096 || n == 32768)
        gw_check_bench(c, what, 5.0 * n * log2(n), 32.0 * n, run_pair, &x, run_pair, &y);
    ref->fft_destroy(&a);
    cand->fft_destroy(&b);
}

typedef struct mac_call {
    const gw_spectrum_ops *ops;
    const double *a, *b;
    double *sum;
    size_t n;
} mac_call;

static void run_mac(void *arg)
{
    const mac_call *k = arg;
    k->ops->multiply_add(k->a, k->b, k->sum, k->n);
}

static void check_multiply_add(gw_check *c, const gw_spectrum_ops *ref, const gw_spectrum_ops *cand)
{
    static const size_t sizes[] = {36, 4, 8, 132, 1028, 2052};
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
        for (int fill = 0; fill < GW_FILL_FINITE_COUNT; fill++) {
            const size_t n = sizes[s], bytes = 2 * n * sizeof(double);
            double *a = gw_check_buffer(c, bytes, 8), *b = gw_check_buffer(c, bytes, 16);
            double *want = gw_check_buffer(c, bytes, 0), *got = gw_check_buffer(c, bytes, 24);
            double *before = gw_check_buffer(c, bytes, 0);
            gw_check_fill_f64(c, (gw_check_fill)fill, a, 2 * n);
            gw_check_fill_f64(c, (gw_check_fill)fill, b, 2 * n);
            gw_check_fill_f64(c, (gw_check_fill)fill, before, 2 * n);
            memcpy(want, before, bytes);
            memcpy(got, before, bytes);
            run_mac(&(mac_call){ref, a, b, want, n});
            run_mac(&(mac_call){cand, a, b, got, n});
            double worst = 0;
            for (size_t k = 0; k < 2 * n; k++) {
                const double product = hypot(a[k % n], a[n + k % n]) * hypot(b[k % n], b[n + k % n]);
                const double bound = 0x1p-51 * (product + fabs(before[k])) + 0x1p-1070;
                worst = fmax(worst, fabs(want[k] - got[k]) / bound);
            }
            gw_check_that(c, worst <= 1, "%zu bins, %s: %.3g of the bound", n,
                          gw_check_fill_text((gw_check_fill)fill), worst);
            mac_call x = {ref, a, b, want, n}, y = {cand, a, b, got, n};
            char what[64];
            snprintf(what, sizeof what, "%zu bins", n);
            if (fill == GW_FILL_ZERO)
                gw_check_bench(c, what, 8.0 * (double)n, 64.0 * (double)n, run_mac, &x, run_mac, &y);
            gw_check_release(c);
        }
    }
}

typedef struct elementary_call {
    const gw_spectrum_ops *ops;
    double *x;
    size_t n;
} elementary_call;

static void run_log(void *arg)
{
    const elementary_call *k = arg;
    k->ops->log(k->x, k->n);
    for (size_t i = 0; i < k->n; i++)
        k->x[i] = 2 + (double)i;
}

static void run_exp(void *arg)
{
    const elementary_call *k = arg;
    k->ops->exp((gw_complex *)k->x, k->n / 2);
    for (size_t i = 0; i < k->n; i++)
        k->x[i] = 0.01 * (double)i;
}

/* Squares of amplitudes of all sizes, near 1 in particular. */
static void check_log(gw_check *c, const gw_spectrum_ops *ref, const gw_spectrum_ops *cand)
{
    for (size_t n = 1; n < 3000; n = n < 20 ? n + 1 : 7 * n) {
        double *want = gw_check_buffer(c, n * sizeof(double), 0),
               *got = gw_check_buffer(c, n * sizeof(double), 8);
        for (size_t k = 0; k < n; k++) {
            const double x = gw_check_normal(c);
            want[k] = k % 3 == 0 ? 1 + 1e-3 * x : k % 3 == 1 ? exp(200 * x) : 0x1p-1022 * (1 + fabs(x));
        }
        memcpy(got, want, n * sizeof *got);
        ref->log(want, n);
        cand->log(got, n);
        double worst = 0;
        for (size_t k = 0; k < n; k++)
            worst = fmax(worst, fabs(got[k] - want[k]) / (1e-15 * (fabs(want[k]) + 1)));
        gw_check_that(c, worst <= 1, "log of %zu: %.3g of the bound", n, worst);
        elementary_call x = {ref, want, n}, y = {cand, got, n};
        if (n > 500)
            gw_check_bench(c, "log", 0, 16.0 * (double)n, run_log, &x, run_log, &y);
        gw_check_release(c);
    }
}

static void check_exp(gw_check *c, const gw_spectrum_ops *ref, const gw_spectrum_ops *cand)
{
    for (size_t n = 1; n < 3000; n = n < 20 ? n + 1 : 7 * n) {
        double *want = gw_check_buffer(c, 2 * n * sizeof(double), 0),
               *got = gw_check_buffer(c, 2 * n * sizeof(double), 8);
        for (size_t k = 0; k < n; k++) {
            const double x = gw_check_normal(c), y = gw_check_normal(c);
            want[2 * k] = fmax(-690, fmin(690, k % 2 ? x : 150 * x));
            want[2 * k + 1] = k % 5 == 0   ? 0
                              : k % 5 == 1 ? 2e4 * y
                              : k % 5 == 2 ? M_PI / 4 * (double)(k % 17)
                                           : 3 * y;
        }
        memcpy(got, want, 2 * n * sizeof *got);
        ref->exp((gw_complex *)want, n);
        cand->exp((gw_complex *)got, n);
        double worst = 0;
        for (size_t k = 0; k < 2 * n; k += 2)
            worst = fmax(worst, hypot(got[k] - want[k], got[k + 1] - want[k + 1]) /
                                    (2e-15 * hypot(want[k], want[k + 1])));
        gw_check_that(c, worst <= 1, "exp of %zu: %.3g of the bound", n, worst);
        elementary_call x = {ref, want, 2 * n}, y = {cand, got, 2 * n};
        if (n > 500)
            gw_check_bench(c, "exp", 0, 32.0 * (double)n, run_exp, &x, run_exp, &y);
        gw_check_release(c);
    }
}

static void run_spectrum(gw_check *c, const gw_kernels *r, const gw_kernels *k)
{
    const gw_spectrum_ops *ref = &r->spectrum, *cand = &k->spectrum;
    if (gw_check_begin(c, "fft_forward", (gw_check_fn)ref->fft_forward, (gw_check_fn)cand->fft_forward)) {
        for (int i = 0; i < N_LENGTHS; i++)
            check_forward(c, ref, cand, lengths[i]);
        for (uint32_t n = 0; n < 4; n = n ? n + 2 : 1) { /* 0, 1 and 3 points are refused by both */
            gw_fft *f = NULL;
            gw_check_that(c, cand->fft_new(&f, n) == GW_ERANGE && !f, "%u points refused", n);
            gw_check_that(c, ref->fft_new(&f, n) == GW_ERANGE && !f, "%u points refused", n);
        }
    }
    if (gw_check_begin(c, "fft_inverse", (gw_check_fn)ref->fft_inverse, (gw_check_fn)cand->fft_inverse))
        for (int i = 0; i < N_LENGTHS; i++)
            check_inverse(c, ref, cand, lengths[i]);
    if (gw_check_begin(c, "multiply_add", (gw_check_fn)ref->multiply_add, (gw_check_fn)cand->multiply_add))
        check_multiply_add(c, ref, cand);
    if (gw_check_begin(c, "log", (gw_check_fn)ref->log, (gw_check_fn)cand->log))
        check_log(c, ref, cand);
    if (gw_check_begin(c, "exp", (gw_check_fn)ref->exp, (gw_check_fn)cand->exp))
        check_exp(c, ref, cand);
}

const gw_check_family gw_check_suite = {.name = "spectrum", .run = run_spectrum};
