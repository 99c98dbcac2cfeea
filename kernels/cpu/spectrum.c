/* SPDX-License-Identifier: GPL-3.0-or-later
 * Transforms by FFTW. Plans are FFTW_ESTIMATE: chosen by rule, not by timing, so that two runs give the
 * same bits. Only fftw_execute is thread safe in FFTW: making and freeing plans goes
 * through FFTW's own process-wide lock (fftw_make_planner_thread_safe). */
#include "kernels/spectrum.h"

#include "kernels/cpu/build.h"
#include "kernels/cpu/elementary.h"

#include <fftw3.h>
#include <stdlib.h>
#include <string.h>

typedef struct cpu_plan {
    fftw_plan forward, inverse;
} cpu_plan;

static void fft_destroy(gw_fft **f)
{
    if (!*f)
        return;
    cpu_plan *p = (*f)->plan;
    if (p && p->forward)
        fftw_destroy_plan(p->forward);
    if (p && p->inverse)
        fftw_destroy_plan(p->inverse);
    free(p);
    fftw_free((*f)->time);
    fftw_free((*f)->freq);
    free(*f);
    *f = NULL;
}

static int fft_new(gw_fft **f, uint32_t n)
{
    *f = NULL;
    if (n < 2 || n % 2 || n > INT32_MAX)
        return gw_fail(GW_ERANGE, "a real transform needs an even number of points, not %u", n);
    gw_fft *t = calloc(1, sizeof *t);
    if (!t)
        return gw_fail(GW_ENOMEM, "a transform of %u points", n);
    cpu_plan *p = t->plan = calloc(1, sizeof *p);
    t->n = n;
    t->time = fftw_alloc_real(n);
    t->freq = (gw_complex *)fftw_alloc_complex(n / 2 + 1);
    if (p && t->time && t->freq) {
        memset(t->time, 0, n * sizeof *t->time);
        memset(t->freq, 0, (n / 2 + 1) * sizeof *t->freq);
        fftw_make_planner_thread_safe();
        p->forward = fftw_plan_dft_r2c_1d((int)n, t->time, (fftw_complex *)t->freq,
                                          FFTW_ESTIMATE | FFTW_PRESERVE_INPUT);
        p->inverse = fftw_plan_dft_c2r_1d((int)n, (fftw_complex *)t->freq, t->time, FFTW_ESTIMATE);
    }
    if (!p || !p->forward || !p->inverse) {
        fft_destroy(&t);
        return gw_fail(GW_ENOMEM, "a transform of %u points", n);
    }
    *f = t;
    return GW_OK;
}

static void fft_forward(gw_fft *f)
{
    fftw_execute(((const cpu_plan *)f->plan)->forward);
}

static void fft_inverse(gw_fft *f)
{
    f->freq[0].im = f->freq[f->n / 2].im = 0;
    fftw_execute(((const cpu_plan *)f->plan)->inverse);
    const double scale = 1.0 / f->n;
    for (uint32_t j = 0; j < f->n; j++)
        f->time[j] *= scale;
}

/* Four bins at once, wherever they lie; the compiler makes of it what the build allows. */
typedef double lanes __attribute__((vector_size(8 * GW_SPECTRUM_LANES), aligned(8), may_alias));

static void multiply_add(const double *a, const double *b, double *sum, size_t n)
{
    for (size_t k = 0; k < n; k += GW_SPECTRUM_LANES) {
        const lanes *ar = (const lanes *)(a + k), *ai = (const lanes *)(a + n + k);
        const lanes *br = (const lanes *)(b + k), *bi = (const lanes *)(b + n + k);
        lanes *re = (lanes *)(sum + k), *im = (lanes *)(sum + n + k);
        *re += *ar * *br - *ai * *bi;
        *im += *ar * *bi + *ai * *br;
    }
}

static const gw_elementary *elementary(void)
{
#ifdef __x86_64__
    switch (gw_build_best()) {
    case GW_BUILD_AVX512:
        return &gw_elementary_avx512;
    case GW_BUILD_AVX2:
        return &gw_elementary_avx2;
    case GW_BUILD_ANY:
        break;
    }
#endif
    return &gw_elementary_any;
}

void gw_spectrum_cpu(gw_spectrum_ops *ops)
{
    *ops = (gw_spectrum_ops){.fft_new = fft_new,
                             .fft_destroy = fft_destroy,
                             .fft_forward = fft_forward,
                             .fft_inverse = fft_inverse,
                             .multiply_add = multiply_add,
                             .log = elementary()->log,
                             .exp = elementary()->exp};
}
