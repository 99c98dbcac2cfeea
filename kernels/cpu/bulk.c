/* SPDX-License-Identifier: GPL-3.0-or-later
 * Bulk whitening in single precision: the object, its memory, filters made ready, the PSD from outside. A hop
 * is bulk_step.c's. */
#include "kernels/cpu/build.h"
#include "kernels/cpu/bulk_inside.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { HALF_SHIFT = 14, HUGE_PAGE = 1 << 21 };

static size_t lines(size_t bytes)
{
    return (bytes + LINE - 1) / LINE * LINE;
}

/* ---- the object ---- */

static void bulk_destroy(gw_bulk **out)
{
    gw_bulk *b = *out;
    if (!b)
        return;
    for (int i = 0; i < GW_BULK_LEVELS; i++) {
        gw_fft32_destroy(&b->forward[i]);
        gw_fft32_destroy(&b->inverse[i]);
    }
    gw_fft32_destroy(&b->segment);
    free(b->rise);
    free(b);
    *out = NULL;
}

static void describe(gw_bulk *b)
{
    const gw_bulk_layout *l = &b->layout;
    int at = 0;
    for (uint32_t i = 0; i < l->n_levels; i++) {
        const gw_bulk_level *v = &l->level[i];
        b->info.n_partitions += v->parts;
        at += snprintf(b->info.layout + at, sizeof b->info.layout - (size_t)at, "%s%u x %u", i ? " + " : "",
                       v->parts, v->parts == 1 && l->n_levels == 1 ? b->shape.n_taps : v->block);
    }
    for (uint32_t i = 0; i < l->n_levels; i++)
        at += snprintf(b->info.layout + at, sizeof b->info.layout - (size_t)at, "%s%u",
                       i ? ", " : " taps, transforms of ", l->level[i].n);
}

static int bulk_new(gw_bulk **out, const gw_bulk_shape *s)
{
    *out = NULL;
    GW_TRY(gw_bulk_shape_check(s));
    gw_bulk *b = calloc(1, sizeof *b);
    if (!b)
        return gw_fail(GW_ENOMEM, "bulk whitening");
    b->shape = *s;
    b->loops = gw_bulk_loops_best();
    gw_bulk_layout_choose(&b->layout, s);
    const gw_bulk_layout *l = &b->layout;
    int err = GW_OK;
    b->n_max = s->segment;
    for (uint32_t i = 0; i < l->n_levels && err == GW_OK; i++) {
        const gw_bulk_level *v = &l->level[i];
        b->n_max = v->n > b->n_max ? v->n : b->n_max;
        if (err == GW_OK)
            err = gw_fft32_new(&b->forward[i], v->n, false);
        if (err == GW_OK)
            err = gw_fft32_new(&b->inverse[i], v->n / s->decimate, true);
    }
    if (s->segment && l->psd_level < 0 && err == GW_OK)
        err = gw_fft32_new(&b->segment, s->segment, false);
    if (err == GW_OK && l->level[0].parts == 1 && l->n_levels == 1)
        b->in_one = s->decimate == 1 ? gw_fft32_can_filter(b->forward[0])
                                     : l->psd_level != 0 && gw_fft32_can_low(b->forward[0], s->decimate);
    const uint32_t n_out = s->hop / s->decimate;
    b->rise = calloc(n_out, sizeof *b->rise);
    if (err == GW_OK && !b->rise)
        err = gw_fail(GW_ENOMEM, "bulk whitening");
    if (err != GW_OK) {
        bulk_destroy(&b);
        return err;
    }
    for (uint32_t j = 0; j < n_out; j++)
        b->rise[j] = (float)pow(sin(M_PI / 2 * j / n_out), 2);
    b->info.psd_bins = gw_bulk_psd_bins(s);
    b->info.state_bytes = sizeof(cpu_state) + lines(l->state_floats * sizeof(float));
    b->info.response_bytes = LINE + lines(l->response_values * (s->half ? sizeof(uint16_t) : sizeof(float)));
    describe(b);
    b->psd_bins = s->segment ? s->segment / 2 + 1 : 0;
    b->power_factor =
        s->segment ? (float)(2 / (s->rate_hz * 0.375 * s->segment)) : 0; /* sum of Hann^2: 3/8 n */
    b->median_factor = (float)(1 / gw_bulk_median_bias(s));
    *out = b;
    return GW_OK;
}

static const gw_bulk_info *info(const gw_bulk *b)
{
    return &b->info;
}

static void scratch_destroy(gw_bulk_scratch **out)
{
    gw_bulk_scratch *w = *out;
    if (!w)
        return;
    free(w->memory);
    free(w);
    *out = NULL;
}

/* The next array of n floats; the first call only counts. */
static float *carve(float *memory, size_t *at, size_t n)
{
    float *p = memory ? memory + *at : NULL;
    *at += (n + PAD - 1) / PAD * PAD;
    return p;
}

static size_t arrange(gw_bulk_scratch *w)
{
    const gw_bulk *b = w->b;
    float *m = w->memory;
    size_t at = 0;
    w->block = carve(m, &at, b->n_max);
    w->out = b->segment && b->layout.psd_in_block ? carve(m, &at, b->n_max) : w->block;
    w->spectrum = carve(m, &at, (size_t)b->n_max + 3 * PAD);
    if (w->spectrum)
        w->spectrum += PAD;
    w->product = carve(m, &at, (size_t)b->n_max + 2 * PAD);
    w->old = carve(m, &at, b->shape.hop / b->shape.decimate);
    w->power = carve(m, &at, b->psd_bins);
    w->pooled = b->shape.pool > 1 ? carve(m, &at, b->info.psd_bins) : w->power;
    return at * sizeof(float);
}

static int scratch_new(gw_bulk_scratch **out, const gw_bulk *b)
{
    *out = NULL;
    gw_bulk_scratch *w = calloc(1, sizeof *w);
    if (!w)
        return gw_fail(GW_ENOMEM, "bulk whitening");
    w->b = b;
    const size_t bytes = lines(arrange(w));
    w->memory = aligned_alloc(LINE, bytes);
    if (!w->memory) {
        scratch_destroy(&w);
        return gw_fail(GW_ENOMEM, "bulk whitening: %zu bytes", bytes);
    }
    memset(w->memory, 0, bytes);
    arrange(w);
    *out = w;
    return GW_OK;
}

static int memory_new(void **m, size_t bytes)
{
    const bool huge =
        bytes >= HUGE_PAGE; /* measured: a tenth of the time of a step is spent on looking up small pages */
    *m = aligned_alloc(huge ? HUGE_PAGE : LINE,
                       huge ? (bytes + HUGE_PAGE - 1) / HUGE_PAGE * HUGE_PAGE : lines(bytes));
    if (*m && huge)
        madvise(*m, bytes, MADV_HUGEPAGE);
    return *m ? GW_OK : gw_fail(GW_ENOMEM, "bulk whitening: %zu bytes", bytes);
}

static void memory_destroy(void **m)
{
    free(*m);
    *m = NULL;
}

/* ---- filters ---- */

/* Into w->product: the spectrum of taps[n] in level i's transform, divided by its length, as many bins as
 * are multiplied. */
static void transform_taps(gw_bulk_scratch *w, uint32_t i, const double *taps, uint32_t n)
{
    const gw_bulk_level *v = &w->b->layout.level[i];
    const float part = 1 / (float)v->n;
    memset(w->block, 0, v->n * sizeof *w->block);
    for (uint32_t k = 0; k < n; k++)
        w->block[k] = (float)taps[k];
    gw_fft32_run(w->b->forward[i], w->block, w->spectrum, NULL);
    memset(w->product, 0, v->row * sizeof *w->product);
    for (uint32_t k = 0; k < 2 * v->bins; k++)
        w->product[k] = w->spectrum[k] * part;
}

static void prepare(gw_bulk_scratch *w, const double *taps, void *response)
{
    const gw_bulk *b = w->b;
    cpu_response *r = response;
    int shift = 0;
    if (b->shape.half) { /* no bin exceeds the sum of all |taps| / n */
        double most = 0;
        for (uint32_t k = 0; k < b->shape.n_taps; k++)
            most += fabs(taps[k]);
        shift = most > 0 ? HALF_SHIFT - ilogb(most / b->layout.level[0].n) : 0;
    }
    r->factor = ldexpf(1, -shift);
    for (uint32_t i = 0; i < b->layout.n_levels; i++) {
        const gw_bulk_level *v = &b->layout.level[i];
        const uint32_t length = v->parts == 1 ? b->shape.n_taps : v->block;
        for (uint32_t p = 0; p < v->parts; p++) {
            const uint32_t from = v->first + p * v->block, left = b->shape.n_taps - from;
            const size_t at = v->response_at + (size_t)p * v->row;
            transform_taps(w, i, taps + from, left < length ? left : length);
            if (!b->shape.half) {
                memcpy((float *)r->data + at, w->product, v->row * sizeof(float));
                continue;
            }
            for (uint32_t k = 0; k < v->row; k++)
                w->product[k] = ldexpf(w->product[k], shift);
            b->loops->to_half((uint16_t *)r->data + at, w->product, v->row);
        }
    }
}

/* ---- a channel's state ---- */

void gw_bulk_past_clear(const gw_bulk *b, void *state)
{
    cpu_state *s = state;
    s->next = s->opens = INT64_MIN;
    memset(s->data, 0, b->layout.psd_at * sizeof *s->data);
    memset(s->tail_of, 0, sizeof s->tail_of);
}

void gw_bulk_state_clear(const gw_bulk *b, void *state)
{
    memset(state, 0, b->info.state_bytes);
    gw_bulk_past_clear(b, state);
}

static uint32_t psd_get(const gw_bulk *b, const void *state, float *psd)
{
    const cpu_state *s = state;
    if (s->averaged)
        memcpy(psd, s->data + b->layout.psd_at, b->info.psd_bins * sizeof *psd);
    return gw_bulk_segments(&b->shape, s->averaged);
}

static void psd_set(const gw_bulk *b, void *state, const float *psd, uint32_t segments)
{
    cpu_state *s = state;
    s->collected = 0;
    s->averaged = gw_bulk_averages(&b->shape, segments);
    if (s->averaged)
        memcpy(state_array(s, b->layout.psd_at), psd, b->info.psd_bins * sizeof *psd);
}

void gw_bulk_cpu(gw_bulk_ops *ops)
{
    *ops = (gw_bulk_ops){.bulk_new = bulk_new,
                         .bulk_destroy = bulk_destroy,
                         .info = info,
                         .scratch_new = scratch_new,
                         .scratch_destroy = scratch_destroy,
                         .memory_new = memory_new,
                         .memory_destroy = memory_destroy,
                         .state_clear = gw_bulk_state_clear,
                         .past_clear = gw_bulk_past_clear,
                         .prepare = prepare,
                         .step = gw_bulk_step,
                         .psd_get = psd_get,
                         .psd_set = psd_set};
}

const gw_bulk_loops *gw_bulk_loops_best(void)
{
#ifdef __x86_64__
    switch (gw_build_best()) {
    case GW_BUILD_AVX512:
        return &gw_bulk_loops_avx512;
    case GW_BUILD_AVX2:
        return &gw_bulk_loops_avx2;
    case GW_BUILD_ANY:
        break;
    }
#endif
    return &gw_bulk_loops_any;
}
