/* SPDX-License-Identifier: GPL-3.0-or-later
 * Bulk whitening on the GPU at the lengths that it is for, where ref's direct sums would take hours: both
 * forms of it, fused and by cuFFT, against the processor's (which check_bulk.c holds against ref); and that
 * `enqueue` and `psd_read`, on a queue with several hops under way, give what `step` does, to the bit. */
#include "tests/check/check.h"

#include <math.h>
#include <string.h>

#ifdef GW_HAVE_CUDA
#include "kernels/cuda/cuda.h"

enum { RATE = 16384, HOPS = 6, CHANNELS = 3 }; /* the last channel's PSD is looked at */

/* rate, hop, taps, decimate, segment, pool, median of, memory, gate, half, dead run, taper */
static const gw_bulk_shape shapes[] = {
    {RATE, 16384, 16384, 1, 32768, 4, 0, 8, 50, false, 0, 0}, /* the usual one: a segment is the window */
    {RATE, 16384, 8193, 4, 16384, 1, 0, 8, 50, true, 0, 0},   /* decimated, half precision, short segments */
    {RATE, 4096, 16384, 1, 8192, 1, 3, 8, 50, false, 0, 0},   /* a shorter hop */
    {RATE, 1024, 3000, 1, 2048, 1, 0, 8, 50, false, 1024, 4096}, /* a few partitions */
    {RATE, 1024, 16384, 1, 4096, 1, 0, 8, 50, true, 64, 0},      /* two levels, half precision */
    {RATE, 256, 4096, 2, 1024, 1, 0, 8, 50, false, 64, 0},       /* the same, decimated */
    {RATE, 2048, 2048, 2, 4096, 1, 0, 8, 50, false, 0, 0},
    {RATE, 16384, 32768, 1, 65536, 16, 0, 8, 50, false, 0, 0}, /* cuFFT's in either case */
};

enum { FIRST_SHORT = 3, LAST_SHORT = 5, N_SHAPES = sizeof shapes / sizeof *shapes };

typedef struct rig {
    const gw_bulk_ops *ops;
    gw_bulk *b;
    gw_bulk_scratch *w;
    void *states, *responses;
    gw_bulk_channel channel[CHANNELS];
} rig;

static void rig_destroy(rig *r)
{
    r->ops->memory_destroy(&r->responses);
    r->ops->memory_destroy(&r->states);
    r->ops->scratch_destroy(&r->w);
    r->ops->bulk_destroy(&r->b);
}

/* taps[2][n_taps]; for tests of queues the filters are left to the first hop. */
static int rig_new(rig *r, const gw_bulk_ops *ops, const gw_bulk_shape *s)
{
    *r = (rig){.ops = ops};
    GW_TRY(ops->bulk_new(&r->b, s));
    const gw_bulk_info *info = ops->info(r->b);
    GW_TRY(ops->scratch_new(&r->w, r->b));
    GW_TRY(ops->memory_new(&r->states, CHANNELS * info->state_bytes));
    GW_TRY(ops->memory_new(&r->responses, 2 * info->response_bytes));
    for (int i = 0; i < CHANNELS; i++) {
        r->channel[i] = (gw_bulk_channel){
            .state = (char *)r->states + (size_t)i * info->state_bytes, .response = r->responses, .scale = 1};
        ops->state_clear(r->b, r->channel[i].state);
    }
    return GW_OK;
}

/* Before hop h: a second filter from hop 3 on, channel 1 does not come in hop 4, 2 forgets before hop 5. */
static void rig_hop(rig *r, const gw_bulk_shape *s, const double *taps, int h, gw_bulk_channel *c)
{
    void *second = (char *)r->responses + r->ops->info(r->b)->response_bytes;
    if (h == 0)
        r->ops->prepare(r->w, taps, r->responses);
    if (h == 3)
        r->ops->prepare(r->w, taps + s->n_taps, second);
    memcpy(c, r->channel, sizeof r->channel);
    for (int i = 0; i < CHANNELS; i++) {
        c[i].response = h < 3 ? r->responses : second;
        c[i].fading = h == 3 ? r->responses : NULL;
    }
    if (h == 4)
        c[1].state = NULL;
    if (h == 5)
        c[2].forget = GW_BULK_FORGET_PAST;
}

/* HOPS hops of CHANNELS channels, one after another in x[CHANNELS][HOPS * hop]. The PSD is channel 2's. */
static int run_shape(const gw_bulk_ops *ops, const gw_bulk_shape *s, const double *taps, const float *x,
                     float *y, gw_bulk_channel *said, float *psd, uint32_t *segments)
{
    rig r;
    const size_t row = (size_t)HOPS * s->hop, n_out = s->hop / s->decimate;
    const int err = rig_new(&r, ops, s);
    for (int h = 0; err == GW_OK && h < HOPS; h++) {
        gw_bulk_channel *c = said + h * CHANNELS;
        rig_hop(&r, s, taps, h, c);
        ops->step(r.w, (int64_t)h * s->hop, c, CHANNELS, x + (size_t)h * s->hop, row, y + (size_t)h * n_out,
                  row / s->decimate);
    }
    if (err == GW_OK)
        *segments = ops->psd_get(r.b, r.channel[2].state, psd);
    rig_destroy(&r);
    return err;
}

/* The same through a queue: all is enqueued before anything is looked at. The arrays are the device's or
 * pinned. */
typedef struct queued {
    const gw_device *d;
    gw_queue *queue;
    void *x, *y, *host_x, *host_y, *said, *psd, *segments;
} queued;

static int queued_new(queued *q, size_t x_bytes, size_t y_bytes, size_t psd_bytes)
{
    *q = (queued){.d = gw_cuda_device()};
    if (!q->d)
        return gw_fail(GW_ENOTSUP, "no device");
    GW_TRY(q->d->queue_new(&q->queue));
    GW_TRY(q->d->memory_new(&q->x, x_bytes, GW_SPACE_DEVICE));
    GW_TRY(q->d->memory_new(&q->y, y_bytes, GW_SPACE_DEVICE));
    GW_TRY(q->d->memory_new(&q->host_x, x_bytes, GW_SPACE_PINNED));
    GW_TRY(q->d->memory_new(&q->host_y, y_bytes, GW_SPACE_PINNED));
    GW_TRY(q->d->memory_new(&q->said, HOPS * CHANNELS * sizeof(gw_bulk_channel), GW_SPACE_PINNED));
    GW_TRY(q->d->memory_new(&q->psd, psd_bytes, GW_SPACE_PINNED));
    return q->d->memory_new(&q->segments, CHANNELS * sizeof(uint32_t), GW_SPACE_PINNED);
}

static void queued_destroy(queued *q)
{
    if (!q->d)
        return;
    if (q->queue)
        q->d->queue_destroy(&q->queue);
    void **pinned[] = {&q->host_x, &q->host_y, &q->said, &q->psd, &q->segments};
    for (size_t i = 0; i < sizeof pinned / sizeof *pinned; i++)
        q->d->memory_destroy(pinned[i], GW_SPACE_PINNED);
    q->d->memory_destroy(&q->x, GW_SPACE_DEVICE);
    q->d->memory_destroy(&q->y, GW_SPACE_DEVICE);
}

static int run_queue(const gw_bulk_ops *ops, const gw_bulk_shape *s, const double *taps, const float *x,
                     float *y, gw_bulk_channel *said, float *psd, uint32_t *segments)
{
    rig r;
    queued q;
    const size_t row = (size_t)HOPS * s->hop, n_out = s->hop / s->decimate;
    const size_t x_bytes = CHANNELS * row * sizeof(float), y_bytes = x_bytes / s->decimate;
    const size_t psd_bytes = gw_bulk_psd_bins(s) * sizeof(float);
    int err = rig_new(&r, ops, s);
    const int made = queued_new(&q, x_bytes, y_bytes, CHANNELS * psd_bytes);
    err = err == GW_OK ? made : err;
    if (err == GW_OK) {
        memcpy(q.host_x, x, x_bytes);
        memcpy(q.host_y, y, y_bytes);
        err = q.d->copy(q.queue, q.x, q.host_x, x_bytes);
    }
    if (err == GW_OK)
        err = q.d->copy(q.queue, q.y, q.host_y, y_bytes);
    for (int h = 0; err == GW_OK && h < HOPS; h++) {
        gw_bulk_channel *c = (gw_bulk_channel *)q.said + h * CHANNELS;
        rig_hop(&r, s, taps, h, c);
        err = ops->enqueue(r.w, q.queue, (int64_t)h * s->hop, c, CHANNELS, (float *)q.x + (size_t)h * s->hop,
                           row, (float *)q.y + (size_t)h * n_out, row / s->decimate);
    }
    const void *states[CHANNELS];
    for (int i = 0; i < CHANNELS; i++)
        states[i] = r.channel[i].state;
    if (err == GW_OK)
        err = ops->psd_read(r.w, q.queue, states, CHANNELS, q.psd, q.segments);
    if (err == GW_OK)
        err = q.d->copy(q.queue, q.host_y, q.y, y_bytes);
    if (err == GW_OK)
        err = q.d->queue_wait(q.queue);
    if (err == GW_OK) {
        memcpy(y, q.host_y, y_bytes);
        memcpy(said, q.said, HOPS * CHANNELS * sizeof *said);
        memcpy(psd, (char *)q.psd + 2 * psd_bytes, psd_bytes);
        *segments = ((uint32_t *)q.segments)[2];
    }
    queued_destroy(&q);
    rig_destroy(&r);
    return err;
}

static bool said_alike(const gw_bulk_channel *a, const gw_bulk_channel *b)
{
    return a->health == b->health && a->finite == b->finite && a->whole == b->whole &&
           a->entered == b->entered && a->peak == b->peak && a->low == b->low && a->high == b->high &&
           a->shut == b->shut && a->muted == b->muted && a->scale == b->scale;
}

/* A low pass (Blackman) and its echoes, so that all of a long filter is heard in a few hops; and another. */
static void make_taps(const gw_bulk_shape *s, double *taps)
{
    const uint32_t n = s->n_taps, one = n < 512 ? n : 512;
    const double cut = 0.8 * M_PI / s->decimate, middle = (one - 1) / 2.0;
    memset(taps, 0, n * sizeof *taps);
    for (uint32_t at = 0; at + one <= n; at += one / 2)
        for (uint32_t k = 0; k < one; k++) {
            const double t = k - middle, u = M_PI * (k + 0.5) / one;
            taps[at + k] += exp(-6.0 * at / n) * (t == 0 ? cut / M_PI : sin(cut * t) / (M_PI * t)) *
                            (0.42 - 0.5 * cos(2 * u) + 0.08 * cos(4 * u));
        }
    for (uint32_t k = 0; k < n; k++)
        taps[n + k] = -0.7 * taps[k];
}

static void queue_or_step(gw_check *c, const gw_bulk_ops *gpu, const gw_bulk_shape *s)
{
    const size_t n_x = (size_t)CHANNELS * HOPS * s->hop, n_y = n_x / s->decimate, bins = gw_bulk_psd_bins(s);
    double *taps = gw_check_buffer(c, 2 * s->n_taps * sizeof *taps, 0);
    float *x = gw_check_buffer(c, n_x * sizeof *x, 0);
    float *y[2], *psd[2];
    gw_bulk_channel said[2][HOPS * CHANNELS] = {0};
    uint32_t segments[2] = {0};
    gw_check_fill_f32(c, GW_FILL_NORMAL, x, n_x);
    make_taps(s, taps);
    int err = GW_OK;
    for (int i = 0; i < 2; i++) {
        y[i] = gw_check_buffer(c, n_y * sizeof *y[i], 0);
        psd[i] = gw_check_buffer(c, bins * sizeof *psd[i], 0);
        memset(y[i], 0, n_y * sizeof *y[i]); /* of a channel that does not come nobody writes it */
        if (err == GW_OK)
            err = (i ? run_queue : run_shape)(gpu, s, taps, x, y[i], said[i], psd[i], &segments[i]);
    }
    gw_check_that(c, err == GW_OK, "%s", gw_err_detail());
    gw_check_that(c, memcmp(y[0], y[1], n_y * sizeof *y[0]) == 0, "hop %u, %u taps: other bits by a queue",
                  s->hop, s->n_taps);
    gw_check_that(c,
                  segments[0] == segments[1] && segments[0] && !memcmp(psd[0], psd[1], bins * sizeof(float)),
                  "hop %u, %u taps: %u segments by a queue, not %u, or another PSD", s->hop, s->n_taps,
                  segments[1], segments[0]);
    for (int i = 0; i < HOPS * CHANNELS; i++)
        gw_check_that(c, said_alike(&said[0][i], &said[1][i]), "hop %u, %u taps: a queue says otherwise",
                      s->hop, s->n_taps);
    gw_check_release(c);
}

static void compare(gw_check *c, const gw_bulk_ops *cpu, const gw_bulk_ops *gpu, const gw_bulk_shape *s)
{
    const size_t n_x = (size_t)CHANNELS * HOPS * s->hop, n_y = n_x / s->decimate, bins = gw_bulk_psd_bins(s);
    double *taps = gw_check_buffer(c, 2 * s->n_taps * sizeof *taps, 0);
    float *x = gw_check_buffer(c, n_x * sizeof *x, 4);
    gw_bulk_channel said[HOPS * CHANNELS], said_got[HOPS * CHANNELS];
    float *want = gw_check_buffer(c, n_y * sizeof *want, 0), *got = gw_check_buffer(c, n_y * sizeof *got, 4);
    float *psd = gw_check_buffer(c, bins * sizeof *psd, 0),
          *psd_got = gw_check_buffer(c, bins * sizeof *psd, 4);
    float *bound = gw_check_buffer(c, bins * sizeof *bound, 0);
    uint32_t segments = 0, segments_got = 0;
    gw_check_fill_f32(c, GW_FILL_NORMAL, x, n_x);
    make_taps(s, taps);
    memset(want, 0, n_y * sizeof *want);
    memset(got, 0, n_y * sizeof *got);
    const int err = run_shape(cpu, s, taps, x, want, said, psd, &segments);
    gw_check_that(c,
                  err == GW_OK && run_shape(gpu, s, taps, x, got, said_got, psd_got, &segments_got) == GW_OK,
                  "%s", gw_err_detail());
    double square = 0, error = 0, mean = 0;
    for (size_t i = 0; i < n_y; i++) {
        square += (double)want[i] * (double)want[i];
        error += pow((double)got[i] - (double)want[i], 2);
    }
    gw_check_that(c, square > 0 && sqrt(error / square) <= (s->half ? 3e-4 : 1e-6),
                  "hop %u, %u taps, / %u: rms error %.3g", s->hop, s->n_taps, s->decimate,
                  sqrt(error / square));
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
    if (gw_check_begin(c, "enqueue", (gw_check_fn)cpu.bulk_new, (gw_check_fn)fused.enqueue))
        for (size_t i = FIRST_SHORT; i <= LAST_SHORT; i++)
            queue_or_step(c, i == FIRST_SHORT + 1 ? &cufft : &fused, &shapes[i]);
}
#else
static void run_cuda(gw_check *c, const gw_kernels *r, const gw_kernels *k)
{
    (void)c, (void)r, (void)k;
}
#endif

const gw_check_family gw_check_suite = {.name = "cuda", .run = run_cuda};
