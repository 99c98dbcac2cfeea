/* SPDX-License-Identifier: GPL-3.0-or-later
 * Bulk whitening on the GPU at the lengths that it is for, where ref's direct sums would take hours: both
 * forms of it, fused and by cuFFT, against the processor's (which check_bulk.c holds against ref). */
#include "tests/check/check.h"

#include <math.h>
#include <string.h>

#ifdef GW_HAVE_CUDA
#include "kernels/cuda/cuda.h"

enum { RATE = 16384, HOPS = 4, CHANNELS = 2 };

static const gw_bulk_shape shapes[] = {
    {RATE, 16384, 16384, 1, 32768, 4, 0, 8, 50, false}, /* the usual one: a segment is the window */
    {RATE, 16384, 8193, 4, 16384, 1, 0, 8, 50, true},   /* decimated, half precision, short segments */
    {RATE, 4096, 16384, 1, 8192, 1, 3, 8, 50, false},   /* a shorter hop */
    {RATE, 1024, 3000, 1, 2048, 1, 0, 8, 50, false},     {RATE, 2048, 2048, 2, 4096, 1, 0, 8, 50, false},
    {RATE, 16384, 32768, 1, 65536, 16, 0, 8, 50, false}, /* cuFFT's in either case */
};

enum { N_SHAPES = sizeof shapes / sizeof *shapes };

/* HOPS hops of CHANNELS channels, one after another in x[CHANNELS][HOPS * hop]. */
static int run_shape(const gw_bulk_ops *ops, const gw_bulk_shape *s, const double *taps, const float *x,
                     float *y, float *psd, uint32_t *segments)
{
    gw_bulk *b = NULL;
    gw_bulk_scratch *w = NULL;
    void *states = NULL, *response = NULL;
    const size_t row = (size_t)HOPS * s->hop;
    int err = ops->bulk_new(&b, s);
    if (err == GW_OK)
        err = ops->scratch_new(&w, b);
    if (err == GW_OK)
        err = ops->memory_new(&states, CHANNELS * ops->info(b)->state_bytes);
    if (err == GW_OK)
        err = ops->memory_new(&response, ops->info(b)->response_bytes);
    if (err == GW_OK) {
        gw_bulk_channel c[CHANNELS] = {{0}};
        ops->prepare(w, taps, response);
        for (int i = 0; i < CHANNELS; i++) {
            c[i] = (gw_bulk_channel){.state = (char *)states + (size_t)i * ops->info(b)->state_bytes,
                                     .response = response,
                                     .scale = 1};
            ops->state_clear(b, c[i].state);
        }
        for (int h = 0; h < HOPS; h++)
            ops->step(w, (int64_t)h * s->hop, c, CHANNELS, x + (size_t)h * s->hop, row,
                      y + (size_t)h * (s->hop / s->decimate), row / s->decimate);
        *segments = ops->psd_get(b, c[CHANNELS - 1].state, psd);
    }
    ops->memory_destroy(&response);
    ops->memory_destroy(&states);
    ops->scratch_destroy(&w);
    ops->bulk_destroy(&b);
    return err;
}

static void compare(gw_check *c, const gw_bulk_ops *cpu, const gw_bulk_ops *gpu, const gw_bulk_shape *s)
{
    const size_t n_x = (size_t)CHANNELS * HOPS * s->hop, n_y = n_x / s->decimate, bins = gw_bulk_psd_bins(s);
    double *taps = gw_check_buffer(c, s->n_taps * sizeof *taps, 0);
    float *x = gw_check_buffer(c, n_x * sizeof *x, 4);
    float *want = gw_check_buffer(c, n_y * sizeof *want, 0), *got = gw_check_buffer(c, n_y * sizeof *got, 4);
    float *psd = gw_check_buffer(c, bins * sizeof *psd, 0),
          *psd_got = gw_check_buffer(c, bins * sizeof *psd, 4);
    float *bound = gw_check_buffer(c, bins * sizeof *bound, 0);
    uint32_t segments = 0, segments_got = 0;
    gw_check_fill_f32(c, GW_FILL_NORMAL, x, n_x);
    const double cut = 0.8 * M_PI / s->decimate, middle = (s->n_taps - 1) / 2.0;
    for (uint32_t k = 0; k < s->n_taps; k++) { /* a low pass, Blackman */
        const double t = k - middle, u = M_PI * (k + 0.5) / s->n_taps;
        taps[k] =
            (t == 0 ? cut / M_PI : sin(cut * t) / (M_PI * t)) * (0.42 - 0.5 * cos(2 * u) + 0.08 * cos(4 * u));
    }
    const int err = run_shape(cpu, s, taps, x, want, psd, &segments);
    gw_check_that(c, err == GW_OK && run_shape(gpu, s, taps, x, got, psd_got, &segments_got) == GW_OK, "%s",
                  gw_err_detail());
    double square = 0, error = 0, mean = 0;
    for (size_t i = 0; i < n_y; i++) {
        square += (double)want[i] * (double)want[i];
        error += pow((double)got[i] - (double)want[i], 2);
    }
    gw_check_that(c, sqrt(error / square) <= (s->half ? 3e-4 : 1e-6), "hop %u, %u taps, / %u: rms error %.3g",
                  s->hop, s->n_taps, s->decimate, sqrt(error / square));
    gw_check_that(c, segments == segments_got && segments > 0, "hop %u, segment %u: %u segments, not %u",
                  s->hop, s->segment, segments_got, segments);
    for (size_t k = 0; k < bins; k++)
        mean += (double)psd[k] / (double)bins;
    for (size_t k = 0; k < bins; k++)
        bound[k] = (float)(2e-6 * ((double)psd[k] + 0.1 * mean));
    gw_check_f32(c, psd, psd_got, bound, bins, "PSD: hop %u, segment %u", s->hop, s->segment);
    gw_check_release(c);
}

static void run_cuda(gw_check *c, const gw_kernels *r, const gw_kernels *k)
{
    (void)r;
    gw_bulk_ops cpu, fused, cufft;
    gw_bulk_cpu(&cpu);
    gw_bulk_cuda(&fused);
    gw_bulk_cufft(&cufft);
    if (k->bulk.step != fused.step) /* this level is another, or has no GPU */
        return;
    if (gw_check_begin(c, "fused", (gw_check_fn)cpu.bulk_new, (gw_check_fn)fused.bulk_new))
        for (size_t i = 0; i < N_SHAPES; i++)
            compare(c, &cpu, &fused, &shapes[i]);
    if (gw_check_begin(c, "cufft", (gw_check_fn)cpu.bulk_new, (gw_check_fn)cufft.bulk_new))
        for (size_t i = 0; i < N_SHAPES; i++)
            compare(c, &cpu, &cufft, &shapes[i]);
}
#else
static void run_cuda(gw_check *c, const gw_kernels *r, const gw_kernels *k)
{
    (void)c, (void)r, (void)k;
}
#endif

const gw_check_family gw_check_suite = {.name = "cuda", .run = run_cuda};
