/* SPDX-License-Identifier: GPL-3.0-or-later
 * Decimating FIRs, each implementation against kernels/ref. */
#include "tests/check/check.h"

#include <math.h>
#include <stdio.h>

typedef struct shape {
    uint32_t taps, factor, n_out;
} shape;

/* The resampler's own (16384 and 4096 to 2048 Hz, a block of 1/16 s), then awkward ones. */
static const shape shapes[] = {{2 * GW_FIR_REACH * 8 + 1, 8, 128},
                               {2 * GW_FIR_REACH * 2 + 1, 2, 128},
                               {1, 1, 1},
                               {1, 7, 33},
                               {2, 1, 5},
                               {7, 3, 31},
                               {8, 8, 17},
                               {9, 1, 64},
                               {31, 32, 3},
                               {257, 5, 13}};
enum { N_SHAPES = sizeof shapes / sizeof *shapes };

typedef struct call {
    const gw_fir_ops *ops;
    const shape *s;
    const double *h, *x;
    double *y;
} call;

static void run_call(void *arg)
{
    const call *k = arg;
    k->ops->decimate(k->h, k->s->taps, k->s->factor, k->x, k->y, k->s->n_out);
}

static void check_shape(gw_check *c, const gw_fir_ops *ref, const gw_fir_ops *cand, const shape *s,
                        gw_check_fill fill)
{
    const size_t n_in = (size_t)(s->n_out - 1) * s->factor + s->taps;
    double *h = gw_check_buffer(c, s->taps * sizeof *h, 8);
    double *x = gw_check_buffer(c, n_in * sizeof *x, 8 * gw_check_below(c, 4));
    double *want = gw_check_buffer(c, s->n_out * sizeof *want, 0);
    double *got = gw_check_buffer(c, s->n_out * sizeof *got, 8);
    gw_check_fill_f64(c, GW_FILL_NORMAL, h, s->taps);
    gw_check_fill_f64(c, fill, x, n_in);
    run_call(&(call){ref, s, h, x, want});
    run_call(&(call){cand, s, h, x, got});
    double worst = 0; /* in units of the header's bound */
    bool spoilt_alike = true;
    for (uint32_t i = 0; i < s->n_out; i++) {
        double sum = 0;
        for (uint32_t k = 0; k < s->taps; k++)
            sum += fabs(h[k] * x[(size_t)i * s->factor + k]);
        spoilt_alike &= isfinite(want[i]) == isfinite(got[i]);
        if (isfinite(want[i]) && isfinite(got[i]))
            worst = fmax(worst, fabs(want[i] - got[i]) / (4.0 * s->taps * (0x1p-53 * sum + 0x1p-1074)));
    }
    gw_check_that(c, worst <= 1, "%u taps, factor %u, %u outputs, %s: %.3g of the bound", s->taps, s->factor,
                  s->n_out, gw_check_fill_text(fill), worst);
    gw_check_that(c, spoilt_alike, "%u taps, factor %u, %s: NaN and Inf reach other outputs", s->taps,
                  s->factor, gw_check_fill_text(fill));
    if (s->n_out > 1) { /* one call or several: the same bits */
        const shape one = {s->taps, s->factor, 1};
        bool same = true;
        for (uint32_t i = 0; i < s->n_out; i++) {
            double y;
            run_call(&(call){cand, &one, h, x + (size_t)i * s->factor, &y});
            same &= y == got[i] || (isnan(y) && isnan(got[i]));
        }
        gw_check_that(c, same, "%u taps, factor %u, %s: outputs one by one differ", s->taps, s->factor,
                      gw_check_fill_text(fill));
    }
    gw_check_release(c);
}

static void bench_shape(gw_check *c, const gw_fir_ops *ref, const gw_fir_ops *cand, const shape *s)
{
    const size_t n_in = (size_t)(s->n_out - 1) * s->factor + s->taps;
    double *h = gw_check_buffer(c, s->taps * sizeof *h, 0), *x = gw_check_buffer(c, n_in * sizeof *x, 0);
    double *y = gw_check_buffer(c, s->n_out * sizeof *y, 0);
    gw_check_fill_f64(c, GW_FILL_NORMAL, h, s->taps);
    gw_check_fill_f64(c, GW_FILL_NORMAL, x, n_in);
    call a = {ref, s, h, x, y}, b = {cand, s, h, x, y};
    char what[64];
    snprintf(what, sizeof what, "%u taps, factor %u, n%u", s->taps, s->factor, s->n_out);
    gw_check_bench(c, what, 2.0 * s->taps * s->n_out, 8.0 * (double)(n_in + s->n_out), run_call, &a, run_call,
                   &b);
    gw_check_release(c);
}

static void run_fir(gw_check *c, const gw_kernels *r, const gw_kernels *k)
{
    if (!gw_check_begin(c, "decimate", (gw_check_fn)r->fir.decimate, (gw_check_fn)k->fir.decimate))
        return;
    for (int i = 0; i < N_SHAPES; i++)
        for (int fill = 0; fill < GW_FILL_COUNT; fill++)
            check_shape(c, &r->fir, &k->fir, &shapes[i], (gw_check_fill)fill);
    for (int i = 0; i < 2; i++)
        bench_shape(c, &r->fir, &k->fir, &shapes[i]);
}

const gw_check_family gw_check_suite = {.name = "fir", .run = run_fir};
