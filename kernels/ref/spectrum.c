/* SPDX-License-Identifier: GPL-3.0-or-later
 * Transforms in plain C: Cooley and Tukey's splitting by the smallest prime factor, down to single points,
 * for any length, with every root of unity taken from one table. Written to be read; the real transform
 * is the complex one with nothing in the imaginary parts. */
#include "kernels/spectrum.h"

#include <math.h>
#include <stdlib.h>

typedef struct ref_plan {
    gw_complex *root;     /* [n] exp(-2 pi i k / n) */
    gw_complex *in, *out; /* [n] */
    gw_complex *gather;   /* [n] one butterfly's inputs */
} ref_plan;

static uint32_t smallest_factor(uint32_t n)
{
    for (uint32_t p = 2; p <= n / p; p++)
        if (n % p == 0)
            return p;
    return n;
}

/* out[k] = sum over j < m of in[j * stride] root^(stride j k): the transform of every stride-th point. */
static void transform(const ref_plan *w, uint32_t n, uint32_t m, uint32_t stride, const gw_complex *in,
                      gw_complex *out)
{
    if (m == 1) {
        out[0] = in[0];
        return;
    }
    const uint32_t p = smallest_factor(m), q = m / p;
    for (uint32_t r = 0; r < p; r++)
        transform(w, n, q, stride * p, in + (size_t)r * stride, out + (size_t)r * q);
    for (uint32_t k = 0; k < q; k++) {
        for (uint32_t r = 0; r < p; r++)
            w->gather[r] = out[r * q + k];
        for (uint32_t s = 0; s < p; s++) {
            gw_complex sum = {0, 0};
            for (uint32_t r = 0; r < p; r++) {
                const uint64_t turn = (uint64_t)stride * r * (k + (uint64_t)s * q) % n;
                const gw_complex z = w->root[turn], g = w->gather[r];
                sum.re += g.re * z.re - g.im * z.im;
                sum.im += g.re * z.im + g.im * z.re;
            }
            out[s * q + k] = sum;
        }
    }
}

static void fft_destroy(gw_fft **f)
{
    if (!*f)
        return;
    ref_plan *w = (*f)->plan;
    if (w) {
        free(w->root);
        free(w->in);
        free(w->out);
        free(w->gather);
    }
    free(w);
    free((*f)->time);
    free((*f)->freq);
    free(*f);
    *f = NULL;
}

static int fft_new(gw_fft **f, uint32_t n)
{
    *f = NULL;
    if (n < 2 || n % 2)
        return gw_fail(GW_ERANGE, "a real transform needs an even number of points, not %u", n);
    gw_fft *t = calloc(1, sizeof *t);
    ref_plan *w = calloc(1, sizeof *w);
    if (t && w) {
        t->n = n;
        t->plan = w;
        t->time = calloc(n, sizeof *t->time);
        t->freq = calloc(n / 2 + 1, sizeof *t->freq);
        w->root = calloc(n, sizeof *w->root);
        w->in = calloc(n, sizeof *w->in);
        w->out = calloc(n, sizeof *w->out);
        w->gather = calloc(n, sizeof *w->gather);
    } else {
        free(w);
    }
    if (!t || !w || !t->time || !t->freq || !w->root || !w->in || !w->out || !w->gather) {
        fft_destroy(&t);
        return gw_fail(GW_ENOMEM, "a transform of %u points", n);
    }
    for (uint32_t k = 0; k < n; k++)
        w->root[k] = (gw_complex){cos(2 * M_PI * k / n), -sin(2 * M_PI * k / n)};
    *f = t;
    return GW_OK;
}

static void fft_forward(gw_fft *f)
{
    const ref_plan *w = f->plan;
    for (uint32_t j = 0; j < f->n; j++)
        w->in[j] = (gw_complex){f->time[j], 0};
    transform(w, f->n, f->n, 1, w->in, w->out);
    for (uint32_t k = 0; k <= f->n / 2; k++)
        f->freq[k] = w->out[k];
}

/* The inverse is the forward transform of the conjugate, conjugated; and the result is real. */
static void fft_inverse(gw_fft *f)
{
    const ref_plan *w = f->plan;
    const uint32_t n = f->n, half = n / 2;
    f->freq[0].im = f->freq[half].im = 0;
    for (uint32_t k = 0; k <= half; k++)
        w->in[k] = (gw_complex){f->freq[k].re, -f->freq[k].im};
    for (uint32_t k = half + 1; k < n; k++)
        w->in[k] = f->freq[n - k];
    transform(w, n, n, 1, w->in, w->out);
    for (uint32_t j = 0; j < n; j++)
        f->time[j] = w->out[j].re / n;
}

static void multiply_add(const double *a, const double *b, double *sum, size_t n)
{
    for (size_t k = 0; k < n; k++) {
        sum[k] += a[k] * b[k] - a[n + k] * b[n + k];
        sum[n + k] += a[k] * b[n + k] + a[n + k] * b[k];
    }
}

static void log_all(double *x, size_t n)
{
    for (size_t k = 0; k < n; k++)
        x[k] = log(x[k]);
}

static void exp_all(gw_complex *z, size_t n)
{
    for (size_t k = 0; k < n; k++) {
        const double size = exp(z[k].re), angle = z[k].im;
        z[k] = (gw_complex){size * cos(angle), size * sin(angle)};
    }
}

void gw_spectrum_ref(gw_spectrum_ops *ops)
{
    *ops = (gw_spectrum_ops){.fft_new = fft_new,
                             .fft_destroy = fft_destroy,
                             .fft_forward = fft_forward,
                             .fft_inverse = fft_inverse,
                             .multiply_add = multiply_add,
                             .log = log_all,
                             .exp = exp_all};
}
