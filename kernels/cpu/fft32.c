/* SPDX-License-Identifier: GPL-3.0-or-later
 * fft32.h by fft32_block.c, in the build for this processor, and by FFTW's single precision. Of that only
 * execution is thread safe; planning goes through its own process-wide lock (fftwf_make_planner_thread_safe).
 */
#include "kernels/cpu/fft32.h"
#include "kernels/cpu/build.h"
#include "kernels/cpu/fft32_block.h"

#include <fftw3.h>
#include <stdlib.h>
#include <string.h>

struct gw_fft32 {
    uint32_t n;
    bool inverse;
    gw_fft32_block *ours; /* or NULL and */
    fftwf_plan plan;
};

static const gw_fft32_block_ops *block(void)
{
#ifdef __x86_64__
    switch (gw_build_best()) {
    case GW_BUILD_AVX512:
        return &gw_fft32_block_avx512;
    case GW_BUILD_AVX2:
        return &gw_fft32_block_avx2;
    case GW_BUILD_ANY:
        break;
    }
#endif
    return &gw_fft32_block_any;
}

/* Factors of 4 and 5, and one of 8 if need be. */
static bool column_can_be(uint32_t n)
{
    while (n % 5 == 0)
        n /= 5;
    return n != 2 && (n & (n - 1)) == 0;
}

uint32_t gw_fft32_block_rows(uint32_t n)
{
    enum { WIDEST = 16 };
    uint32_t best = 0, longer = GW_FFT32_BLOCK_COLUMN + 1;
    if (n > GW_FFT32_BLOCK_MAX || n % (4 * WIDEST))
        return 0;
    for (uint32_t rows = WIDEST; rows <= GW_FFT32_BLOCK_COLUMN; rows += WIDEST) {
        const uint32_t columns = n / 2 / rows, most = rows > columns ? rows : columns;
        if (n / 2 % rows == 0 && columns >= WIDEST && most < longer && column_can_be(rows) &&
            column_can_be(columns)) {
            best = rows;
            longer = most;
        }
    }
    return best;
}

bool gw_fft32_ours(uint32_t n)
{
    return gw_fft32_block_rows(n) != 0;
}

uint32_t gw_fft32_our_length(uint32_t n, uint32_t of)
{
    enum { STEP = 64 }; /* all ours are multiples of it */
    const uint32_t step = of % STEP == 0 ? of : STEP % of == 0 ? STEP : of * STEP;
    for (uint32_t length = (n + step - 1) / step * step; length <= GW_FFT32_BLOCK_MAX; length += step)
        if (gw_fft32_ours(length))
            return length;
    return 0;
}

uint32_t gw_fft32_width(void)
{
    return block()->width;
}

void gw_fft32_destroy(gw_fft32 **f)
{
    if (!*f)
        return;
    if ((*f)->plan)
        fftwf_destroy_plan((*f)->plan);
    free((*f)->ours);
    free(*f);
    *f = NULL;
}

static fftwf_plan make(uint32_t n, bool inverse, float *time, float *freq, unsigned flags)
{
    return inverse ? fftwf_plan_dft_c2r_1d((int)n, (fftwf_complex *)freq, time, flags)
                   : fftwf_plan_dft_r2c_1d((int)n, time, (fftwf_complex *)freq, flags);
}

int gw_fft32_plan_fftw(gw_fft32 **out, uint32_t n, bool inverse, gw_fft32_effort effort, double long_s)
{
    *out = NULL;
    if (n < 2 || n % 2 || n > INT32_MAX)
        return gw_fail(GW_ERANGE, "a real transform needs an even number of points, not %u", n);
    gw_fft32 *f = calloc(1, sizeof *f);
    float *time = fftwf_alloc_real(n), *freq = fftwf_alloc_real((size_t)n + 2);
    if (f && time && freq) {
        const unsigned flags = inverse ? FFTW_DESTROY_INPUT : FFTW_PRESERVE_INPUT;
        fftwf_make_planner_thread_safe();
        f->n = n;
        f->inverse = inverse;
        switch (effort) {
        case GW_FFT32_WISE: /* wisdom of more effort answers for less */
            f->plan = make(n, inverse, time, freq, flags | FFTW_MEASURE | FFTW_WISDOM_ONLY);
            break;
        case GW_FFT32_BY_RULE:
            break;
        case GW_FFT32_MEASURED:
        case GW_FFT32_PATIENT:
            fftwf_set_timelimit(long_s);
            f->plan = make(n, inverse, time, freq,
                           flags | (effort == GW_FFT32_PATIENT ? FFTW_PATIENT : FFTW_MEASURE));
            fftwf_set_timelimit(FFTW_NO_TIMELIMIT);
        }
        if (!f->plan)
            f->plan = make(n, inverse, time, freq, flags | FFTW_ESTIMATE);
    }
    fftwf_free(time);
    fftwf_free(freq);
    if (!f || !f->plan) {
        gw_fft32_destroy(&f);
        return gw_fail(GW_ENOMEM, "a transform of %u points", n);
    }
    *out = f;
    return GW_OK;
}

int gw_fft32_new(gw_fft32 **f, uint32_t n, bool inverse)
{
    if (!gw_fft32_ours(n))
        return gw_fft32_plan_fftw(f, n, inverse, GW_FFT32_WISE, 0);
    *f = calloc(1, sizeof **f);
    if (*f && ((*f)->ours = block()->tables_new(n, gw_fft32_block_rows(n)))) {
        (*f)->n = n;
        (*f)->inverse = inverse;
        return GW_OK;
    }
    gw_fft32_destroy(f);
    return gw_fail(GW_ENOMEM, "a transform of %u points", n);
}

void gw_fft32_run(const gw_fft32 *f, float *from, float *to, gw_fft32_ahead *ahead)
{
    gw_fft32_ahead none = {.lines = 0};
    if (!ahead)
        ahead = &none;
    if (f->ours && f->inverse)
        block()->inverse(f->ours, from, to, ahead);
    else if (f->ours)
        block()->forward(f->ours, from, to, ahead);
    else if (f->inverse)
        fftwf_execute_dft_c2r(f->plan, (fftwf_complex *)from, to);
    else
        fftwf_execute_dft_r2c(f->plan, from, (fftwf_complex *)to);
}

bool gw_fft32_can_filter(const gw_fft32 *f)
{
    return f->ours && block()->can_filter(f->ours);
}

void gw_fft32_filter(const gw_fft32 *f, const gw_fft32_product *p, const float *time, float *work, float *out,
                     gw_fft32_ahead *ahead)
{
    gw_fft32_ahead none = {.lines = 0};
    block()->filter(f->ours, p, time, work, out, ahead ? ahead : &none);
}

bool gw_fft32_can_low(const gw_fft32 *f, uint32_t d)
{
    return f->ours && f->n % d == 0 && gw_fft32_ours(f->n / d);
}

void gw_fft32_low_product(const gw_fft32 *f, const gw_fft32_product *p, uint32_t d, const float *time,
                          float *work, float *freq, gw_fft32_ahead *ahead)
{
    gw_fft32_ahead none = {.lines = 0};
    block()->low_product(f->ours, p, f->n / 2 / d, time, work, freq, ahead ? ahead : &none);
}

bool gw_fft32_wisdom_set(const char *text)
{
    fftwf_make_planner_thread_safe();
    return fftwf_import_wisdom_from_string(text) != 0;
}

char *gw_fft32_wisdom_get(void)
{
    return fftwf_export_wisdom_to_string();
}

void gw_fft32_wisdom_forget(void)
{
    fftwf_forget_wisdom();
}

const char *gw_fft32_library(void)
{
    return fftwf_version;
}

static bool smooth(uint32_t n)
{
    for (uint32_t p = 2; p <= 5; p++)
        while (n % p == 0)
            n /= p;
    return n == 1;
}

uint32_t gw_fft32_good_length(uint32_t n, uint32_t of)
{
    uint32_t times = (n + of - 1) / of;
    while (!smooth(times))
        times++;
    return times * of;
}
