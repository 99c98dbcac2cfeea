/* SPDX-License-Identifier: GPL-3.0-or-later
 * One shape of bulk whitening, timed, as one line of JSON; which shapes, and scipy beside it, is
 * bench_whiten.py's.
 *
 *   bench_whiten [--rate 16384] [--hop 16384] [--taps 16384] [--decimate 1] [--segment 0]
 *                [--pool 1] [--median 0] [--half] [--tiny] [--channels 512] [--threads 1]
 *                [--rounds 7] [--wisdom FILE] [--plan-ms 2000]
 *
 * In each round, one after the other, microseconds a channel and hop and thread:
 *   streamed     gw_bulk's step over all channels, whose samples, filters, states and outputs lie in memory
 *   cached       the same, one channel again and again
 *   bare         the transforms and products of one channel, nothing else, in the cache
 *   fftw         the same by FFTW's plans (measured now, or of the wisdom)
 *   memcpy       a hop's samples from the input to the output, all channels
 *   accumulator  memcpy of as many bytes as the PSD of a channel has, all channels
 * and the medians over the rounds of these and of their ratios. Processor time of the thread: what else the
 * machine does costs cache and bandwidth alone. */
#include "kernels/bulk.h"
#include "kernels/cpu/bulk_layout.h"
#include "kernels/cpu/bulk_loops.h"
#include "kernels/cpu/fft32.h"

#include <getopt.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { MAX_ROUNDS = 101, MAX_THREADS = 64 };
enum { STREAMED, CACHED, BARE, FFTW, MEMCPY, ACCUMULATOR, FIGURES };
static const char *const figure_name[FIGURES] = {"streamed", "cached", "bare",
                                                 "fftw",     "memcpy", "accumulator"};

typedef struct bench {
    gw_bulk_shape shape;
    gw_bulk_ops ops;
    gw_bulk *b;
    const gw_bulk_info *info;
    uint32_t channels, rounds, threads, plan_ms;
    gw_bulk_layout layout;
    gw_fft32 *forward[2][GW_BULK_LEVELS], *inverse[2][GW_BULK_LEVELS]; /* ours or not, FFTW's */
    bool tiny;
    float scale;
} bench;

/* One thread and its share of the channels. */
typedef struct worker {
    const bench *q;
    const struct worker *all; /* [threads] */
    pthread_t thread;
    pthread_barrier_t *barrier;
    gw_bulk_scratch *w;
    gw_bulk_channel *channel;
    void *states, *responses, *x, *y, *accumulators;
    float *block, *spectrum, *product;
    double us[FIGURES][MAX_ROUNDS];
    int err;
    char detail[256];
} worker;

static double now_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e6 + (double)t.tv_nsec * 1e-3;
}

static int fill(worker *k)
{
    const bench *q = k->q;
    const uint32_t n = q->channels, hop = q->shape.hop;
    GW_TRY(q->ops.scratch_new(&k->w, q->b));
    GW_TRY(q->ops.memory_new(&k->states, n * q->info->state_bytes));
    GW_TRY(q->ops.memory_new(&k->responses, n * q->info->response_bytes));
    GW_TRY(q->ops.memory_new(&k->x, (size_t)n * hop * sizeof(float)));
    GW_TRY(q->ops.memory_new(&k->y, (size_t)n * hop * sizeof(float)));
    GW_TRY(q->ops.memory_new(&k->accumulators, 2 * (size_t)n * (q->info->psd_bins + 16) * sizeof(float)));
    memset(k->y, 0, (size_t)n * hop * sizeof(float));
    memset(k->accumulators, 0, 2 * (size_t)n * (q->info->psd_bins + 16) * sizeof(float));
    k->channel = calloc(n, sizeof *k->channel);
    double *taps = calloc(q->shape.n_taps, sizeof *taps);
    if (!k->channel || !taps)
        return gw_fail(GW_ENOMEM, "%u channels", n);
    for (uint32_t j = 0; j < q->shape.n_taps; j++) /* band-limited, so that decimation is right too */
        taps[j] = exp(-4.0 * j / q->shape.n_taps) * 0.01 * sin(0.1 * j);
    q->ops.prepare(k->w, taps, k->responses);
    free(taps);
    uint64_t random = 88172645463325252u;
    for (uint32_t i = 0; i < n; i++) {
        char *state = (char *)k->states + i * q->info->state_bytes;
        char *response = (char *)k->responses + i * q->info->response_bytes;
        if (i)
            memcpy(response, k->responses, q->info->response_bytes);
        q->ops.state_clear(q->b, state);
        k->channel[i] = (gw_bulk_channel){.state = state, .response = response, .scale = q->scale};
        for (uint32_t j = 0; j < hop; j++) {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            ((float *)k->x)[(size_t)i * hop + j] = ((float)(random >> 40) * 0x1p-23f - 1) / q->scale;
        }
    }
    GW_TRY(q->ops.memory_new((void **)&k->block, (k->q->layout.level[0].n + 131072) * sizeof(float)));
    GW_TRY(q->ops.memory_new((void **)&k->spectrum, (k->q->layout.level[0].n + 131072) * sizeof(float)));
    GW_TRY(q->ops.memory_new((void **)&k->product, (k->q->layout.level[0].n + 131072) * sizeof(float)));
    memset(k->block, 0, (k->q->layout.level[0].n + 131072) * sizeof(float));
    return GW_OK;
}

/* One hop's transforms and products; a level above the first counts with its share. */
static double bare(worker *k, int whose)
{
    const gw_bulk_loops *loops = gw_bulk_loops_best();
    double us = 0;
    for (uint32_t i = 0; i < k->q->layout.n_levels; i++) {
        const gw_bulk_level *v = &k->q->layout.level[i];
        enum { TIMES = 40 };
        const float *x[GW_BULK_PARTS];
        const void *h[GW_BULK_PARTS];
        for (uint32_t p = 0; p < v->parts; p++) {
            x[p] = k->spectrum;
            h[p] = k->block;
        }
        double begin = 0;
        for (int t = -5; t < TIMES; t++) {
            if (t == 0)
                begin = now_us();
            gw_fft32_run(k->q->forward[whose][i], k->block, k->spectrum, NULL);
            loops->multiply(k->product, x, h, v->parts, false, 1, v->row);
            gw_fft32_run(k->q->inverse[whose][i], k->product, k->block, NULL);
            k->block[0] = 1; /* or it would all be zero, or grow */
        }
        us += (now_us() - begin) / TIMES * k->q->shape.hop / v->block;
        memset(k->block, 0, v->n * sizeof(float));
    }
    return us;
}

static void round_of(worker *k, uint32_t round)
{
    const bench *q = k->q;
    const uint32_t n = q->channels, hop = q->shape.hop;
    const uint32_t per_tail =
        k->q->layout.level[k->q->layout.n_levels - 1].block / hop; /* hops until all levels had work */
    const uint32_t segments = q->shape.segment ? q->shape.segment / 2 / hop : 1;
    const uint32_t hops = per_tail > segments ? per_tail : segments ? segments : 1;
    for (int f = 0; f < FIGURES; f++) {
        pthread_barrier_wait(k->barrier);
        double begin = now_us(), us = 0;
        switch (f) {
        case STREAMED:
            for (uint32_t h = 0; h < hops; h++)
                q->ops.step(k->w, (int64_t)(round * hops + h) * hop, k->channel, n, k->x, hop, k->y,
                            hop / q->shape.decimate);
            us = (now_us() - begin) / n / hops;
            break;
        case CACHED: {
            gw_bulk_channel one = k->channel[0];
            const uint32_t times = (64 + hops - 1) / hops * hops;
            for (uint32_t h = 0; h < times; h++)
                q->ops.step(k->w, (int64_t)(round * hops + h) * hop + ((int64_t)1 << 40) / hop * hop, &one, 1,
                            k->x, hop, k->y, hop / q->shape.decimate);
            us = (now_us() - begin) / times;
            break;
        }
        case BARE:
            us = bare(k, 0);
            break;
        case FFTW:
            us = bare(k, 1);
            break;
        case MEMCPY:
            for (uint32_t i = 0; i < n; i++)
                memcpy((char *)k->y + (size_t)i * hop * 4, (char *)k->x + (size_t)i * hop * 4,
                       (size_t)hop * 4);
            us = (now_us() - begin) / n;
            break;
        case ACCUMULATOR: {
            const size_t bytes = ((size_t)q->info->psd_bins + 16) * 4;
            for (uint32_t i = 0; i < n; i++)
                memcpy((char *)k->accumulators + (n + i) * bytes, (char *)k->accumulators + i * bytes, bytes);
            us = (now_us() - begin) / n;
        }
        }
        k->us[f][round] = us;
    }
}

static void *work(void *arg)
{
    worker *k = arg;
    k->err = fill(k);
    if (k->err != GW_OK)
        snprintf(k->detail, sizeof k->detail, "%s", gw_err_detail());
    pthread_barrier_wait(k->barrier);
    bool all_ready = true;
    for (uint32_t t = 0; t < k->q->threads; t++)
        all_ready &= k->all[t].err == GW_OK;
    for (uint32_t round = 0; all_ready && round < k->q->rounds + 1; round++)
        round_of(k, round);
    return NULL;
}

static int ascending(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Median over rounds, the first one left out, of the mean over threads. */
static double median(const worker *k, uint32_t threads, uint32_t rounds, int figure, int over)
{
    double v[MAX_ROUNDS];
    for (uint32_t r = 0; r < rounds; r++) {
        double a = 0, b = 0;
        for (uint32_t t = 0; t < threads; t++) {
            a += k[t].us[figure][r + 1] / threads;
            b += over >= 0 ? k[t].us[over][r + 1] / threads : 1.0 / threads;
        }
        v[r] = a / b;
    }
    qsort(v, rounds, sizeof *v, ascending);
    return v[rounds / 2];
}

static void report(const bench *q, const worker *k)
{
    const gw_bulk_shape *s = &q->shape;
    printf("{\"rate_hz\": %u, \"hop\": %u, \"taps\": %u, \"decimate\": %u, \"segment\": %u, \"pool\": %u, "
           "\"median_of\": %u, \"half\": %s, \"tiny\": %s, \"channels\": %u, \"threads\": %u, \"layout\": "
           "\"%s\", "
           "\"state_bytes\": %zu, \"response_bytes\": %zu, \"loops\": \"%s\", \"fft\": \"%s\"",
           s->rate_hz, s->hop, s->n_taps, s->decimate, s->segment, s->pool, s->median_of,
           s->half ? "true" : "false", q->tiny ? "true" : "false", q->channels, q->threads, q->info->layout,
           q->info->state_bytes, q->info->response_bytes, gw_bulk_loops_best()->name, gw_fft32_library());
    for (int f = 0; f < FIGURES; f++)
        printf(", \"%s_us\": %.2f", figure_name[f], median(k, q->threads, q->rounds, f, -1));
    const double streamed = median(k, q->threads, q->rounds, STREAMED, -1);
    printf(", \"streamed_of_bare\": %.3f, \"streamed_of_fftw\": %.3f, \"streamed_of_memcpy\": %.2f, "
           "\"channels_per_core\": %.0f}\n",
           median(k, q->threads, q->rounds, STREAMED, BARE), median(k, q->threads, q->rounds, STREAMED, FFTW),
           median(k, q->threads, q->rounds, STREAMED, MEMCPY), 1e6 * s->hop / s->rate_hz / streamed);
}

static int read_wisdom(const char *path)
{
    static char text[1 << 20];
    FILE *f = fopen(path, "r");
    if (!f)
        return gw_fail(GW_EMISSING, "%s: cannot be read", path);
    const size_t n = fread(text, 1, sizeof text - 1, f);
    fclose(f);
    text[n] = 0;
    return gw_fft32_wisdom_set(text) ? GW_OK : gw_fail(GW_EFORMAT, "%s: no wisdom of this FFTW", path);
}

static int run(int argc, char **argv)
{
    static bench q = {.shape = {16384, 16384, 16384, 1, 0, 1, 0, 32, 0, false},
                      .channels = 512,
                      .threads = 1,
                      .rounds = 7,
                      .plan_ms = 2000,
                      .scale = 1};
    static uint32_t *const number[] = {&q.shape.rate_hz, &q.shape.hop,  &q.shape.n_taps,    &q.shape.decimate,
                                       &q.shape.segment, &q.shape.pool, &q.shape.median_of, &q.channels,
                                       &q.threads,       &q.rounds,     &q.plan_ms};
    static const struct option options[] = {
        {"rate", 1, 0, 0},    {"hop", 1, 0, 1},      {"taps", 1, 0, 2},     {"decimate", 1, 0, 3},
        {"segment", 1, 0, 4}, {"pool", 1, 0, 5},     {"median", 1, 0, 6},   {"channels", 1, 0, 7},
        {"threads", 1, 0, 8}, {"rounds", 1, 0, 9},   {"plan-ms", 1, 0, 10}, {"half", 0, 0, 'h'},
        {"tiny", 0, 0, 't'},  {"wisdom", 1, 0, 'w'}, {0, 0, 0, 0}};
    for (int o; (o = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        if (o == '?')
            return gw_fail(GW_EUSAGE, "see the top of bench_whiten.c");
        if (o == 'w')
            GW_TRY(read_wisdom(optarg));
        else if (o == 'h')
            q.shape.half = true;
        else if (o == 't')
            q.tiny = true;
        else
            *number[o] = (uint32_t)strtoul(optarg, NULL, 10);
    }
    if (q.rounds == 0 || q.rounds >= MAX_ROUNDS || q.threads == 0 || q.threads > MAX_THREADS ||
        q.channels == 0)
        return gw_fail(GW_ERANGE, "1 to %d rounds, 1 to %d threads", MAX_ROUNDS - 1, MAX_THREADS);
    q.scale = q.tiny ? 0x1p70f : 1;
    gw_bulk_cpu(&q.ops);
    GW_TRY(q.ops.bulk_new(&q.b, &q.shape));
    q.info = q.ops.info(q.b);
    gw_bulk_layout_choose(&q.layout, &q.shape);
    for (uint32_t i = 0; i < q.layout.n_levels; i++) {
        const uint32_t points = q.layout.level[i].n, points_out = points / q.shape.decimate;
        GW_TRY(gw_fft32_new(&q.forward[0][i], points, false));
        GW_TRY(gw_fft32_new(&q.inverse[0][i], points_out, true));
        GW_TRY(gw_fft32_plan_fftw(&q.forward[1][i], points, false, GW_FFT32_MEASURED, q.plan_ms * 1e-3));
        GW_TRY(gw_fft32_plan_fftw(&q.inverse[1][i], points_out, true, GW_FFT32_MEASURED, q.plan_ms * 1e-3));
    }
    static worker k[MAX_THREADS];
    pthread_barrier_t barrier;
    pthread_barrier_init(&barrier, NULL, q.threads);
    for (uint32_t t = 0; t < q.threads; t++) {
        k[t] = (worker){.q = &q, .all = k, .barrier = &barrier};
        if (pthread_create(&k[t].thread, NULL, work, &k[t]) != 0)
            return gw_fail(GW_ESYSTEM, "a thread");
    }
    int err = GW_OK;
    for (uint32_t t = 0; t < q.threads; t++) {
        pthread_join(k[t].thread, NULL);
        if (k[t].err != GW_OK)
            err = gw_fail(k[t].err, "%s", k[t].detail);
    }
    if (err == GW_OK)
        report(&q, k);
    return err;
}

int main(int argc, char **argv)
{
    const int err = run(argc, argv);
    if (err != GW_OK)
        fprintf(stderr, "bench_whiten: %s\n", gw_err_detail());
    return err == GW_OK ? 0 : 1;
}
