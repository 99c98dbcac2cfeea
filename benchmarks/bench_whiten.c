/* SPDX-License-Identifier: GPL-3.0-or-later
 * Shapes of bulk whitening, timed in turns; which shapes, and scipy beside them, is bench_whiten.py's.
 *
 *   bench_whiten [--rounds 7] [--channels 256] [--threads 1] [--wisdom FILE] [--plan-ms 2000] SHAPE...
 *
 * A SHAPE is words with commas between them, each with a default: rate=16384,hop=16384,taps=16384,decimate=1,
 * segment=0,pool=1,median=0,channels=256,half,tiny (samples of 1e-21). In each round, shape by shape and one
 * after the other, microseconds a channel and hop and thread:
 *   streamed     gw_bulk's step over all channels, whose samples, filters, states and outputs lie in memory
 *   cached       the same, one channel again and again
 *   bare         the transforms and products of one channel, nothing else, in the cache
 *   fftw         the same by FFTW's plans (measured now, or of the wisdom)
 *   memcpy       a hop's samples from the input to the output, all channels
 *   accumulator  memcpy of as many bytes as the PSD of a channel has, all channels
 * Processor time of the thread, so what else the machine does costs cache, bandwidth and clock alone; and as
 * these change from second to second, only figures of one round are compared. One line of JSON a shape, with
 * the medians over the rounds, and the rounds themselves. */
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

enum {
    MAX_ROUNDS = 101,
    MAX_THREADS = 64,
    MAX_SHAPES = 16,
    BARE_TIMES = 40,
    DEAD_RUN = 1024,
    WARM_TIMES = 5
};
enum { STREAMED, CACHED, BARE, FFTW, MEMCPY, ACCUMULATOR, FIGURES };
static const char *const figure_name[FIGURES] = {"streamed", "cached", "bare",
                                                 "fftw",     "memcpy", "accumulator"};

typedef struct bench_shape {
    gw_bulk_shape shape;
    gw_bulk *b;
    const gw_bulk_info *info;
    gw_bulk_layout layout;
    gw_fft32 *forward[2][GW_BULK_LEVELS], *inverse[2][GW_BULK_LEVELS]; /* ours or not, FFTW's */
    uint32_t channels;
    bool tiny;
    float scale;
} bench_shape;

typedef struct bench {
    gw_bulk_ops ops;
    bench_shape shape[MAX_SHAPES];
    uint32_t shapes, channels, rounds, threads, plan_ms;
} bench;

/* A thread's share of a shape: as many channels as the shape says. */
typedef struct bank {
    gw_bulk_scratch *w;
    gw_bulk_channel *channel;
    void *states, *responses, *x, *y, *accumulators, *block, *spectrum, *product;
    int64_t hop_number;
    double us[FIGURES][MAX_ROUNDS + 1];
} bank;

typedef struct worker {
    const bench *q;
    const struct worker *all; /* [threads] */
    pthread_t thread;
    pthread_barrier_t *barrier;
    bank bank[MAX_SHAPES];
    int err;
    char detail[256];
} worker;

static double now_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e6 + (double)t.tv_nsec * 1e-3;
}

/* ---- what is worked on ---- */

static size_t accumulator_bytes(const bench_shape *s)
{
    return (s->info->psd_bins + 15) / 16 * 16 * sizeof(float);
}

static int zeros(const bench *q, void **m, size_t bytes)
{
    GW_TRY(q->ops.memory_new(m, bytes));
    memset(*m, 0, bytes);
    return GW_OK;
}

static int fill(const bench *q, const bench_shape *s, bank *k)
{
    const uint32_t n = s->channels, hop = s->shape.hop;
    const size_t points = s->layout.level[0].n + s->layout.level[s->layout.n_levels - 1].n + 64;
    GW_TRY(q->ops.scratch_new(&k->w, s->b));
    GW_TRY(zeros(q, &k->states, n * s->info->state_bytes));
    GW_TRY(zeros(q, &k->responses, n * s->info->response_bytes));
    GW_TRY(zeros(q, &k->x, (size_t)n * hop * sizeof(float)));
    GW_TRY(zeros(q, &k->y, (size_t)n * hop * sizeof(float)));
    GW_TRY(zeros(q, &k->accumulators, 2 * n * accumulator_bytes(s) + 64));
    GW_TRY(zeros(q, &k->block, points * sizeof(float)));
    GW_TRY(zeros(q, &k->spectrum, points * sizeof(float)));
    GW_TRY(zeros(q, &k->product, points * sizeof(float)));
    k->channel = calloc(n, sizeof *k->channel);
    double *taps = calloc(s->shape.n_taps, sizeof *taps);
    if (!k->channel || !taps) {
        free(taps);
        return gw_fail(GW_ENOMEM, "%u channels", n);
    }
    for (uint32_t j = 0; j < s->shape.n_taps; j++) /* band-limited, so that decimation is right too */
        taps[j] = exp(-4.0 * j / s->shape.n_taps) * 0.01 * sin(0.1 * j);
    q->ops.prepare(k->w, taps, k->responses);
    free(taps);
    uint64_t random = 88172645463325252u;
    for (uint32_t i = 0; i < n; i++) {
        char *state = (char *)k->states + i * s->info->state_bytes;
        char *response = (char *)k->responses + i * s->info->response_bytes;
        if (i)
            memcpy(response, k->responses, s->info->response_bytes);
        q->ops.state_clear(s->b, state);
        k->channel[i] = (gw_bulk_channel){.state = state, .response = response, .scale = s->scale};
        for (uint32_t j = 0; j < hop; j++) {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            ((float *)k->x)[(size_t)i * hop + j] = ((float)(random >> 40) * 0x1p-23f - 1) / s->scale;
        }
    }
    return GW_OK;
}

static void empty(const bench *q, bank *k)
{
    void **const memory[] = {&k->states,       &k->responses, &k->x,        &k->y,
                             &k->accumulators, &k->block,     &k->spectrum, &k->product};
    for (size_t i = 0; i < sizeof memory / sizeof *memory; i++)
        q->ops.memory_destroy(memory[i]);
    q->ops.scratch_destroy(&k->w);
    free(k->channel);
}

/* ---- rounds ---- */

/* One hop's transforms and products; a level above the first counts with its share. */
static double bare(const bench_shape *s, bank *k, int whose)
{
    const gw_bulk_loops *loops = gw_bulk_loops_best();
    float *block = k->block, *spectrum = k->spectrum, *product = k->product;
    double us = 0;
    for (uint32_t i = 0; i < s->layout.n_levels; i++) {
        const gw_bulk_level *v = &s->layout.level[i];
        const float *x[GW_BULK_PARTS];
        const void *h[GW_BULK_PARTS];
        for (uint32_t p = 0; p < v->parts; p++) {
            x[p] = spectrum;
            h[p] = block;
        }
        double begin = 0;
        for (int t = -WARM_TIMES; t < BARE_TIMES; t++) {
            if (t == 0)
                begin = now_us();
            gw_fft32_run(s->forward[whose][i], block, spectrum, NULL);
            loops->multiply(product, x, h, v->parts, false, 1, v->row);
            gw_fft32_run(s->inverse[whose][i], product, block, NULL);
            block[0] = 1; /* or it would all be zero, or grow */
        }
        us += (now_us() - begin) / BARE_TIMES * s->shape.hop / v->block;
        memset(block, 0, v->n * sizeof *block);
    }
    return us;
}

/* Hops until all levels had work and a segment ended. */
static uint32_t hops_of(const bench_shape *s)
{
    const uint32_t hop = s->shape.hop, per_tail = s->layout.level[s->layout.n_levels - 1].block / hop;
    const uint32_t per_segment = s->shape.segment / 2 / hop;
    return per_tail > per_segment ? per_tail : per_segment ? per_segment : 1;
}

static double measure(const bench *q, const bench_shape *s, bank *k, int figure)
{
    const uint32_t n = s->channels, hop = s->shape.hop, n_out = hop / s->shape.decimate, hops = hops_of(s);
    const double begin = now_us();
    switch (figure) {
    case STREAMED:
        for (uint32_t h = 0; h < hops; h++)
            q->ops.step(k->w, k->hop_number++ * hop, k->channel, n, k->x, hop, k->y, n_out);
        return (now_us() - begin) / n / hops;
    case CACHED: {
        gw_bulk_channel one = k->channel[0];
        const uint32_t times = (32 + hops - 1) / hops * hops;
        for (uint32_t h = 0; h < times; h++) /* from its own time on: the state takes it as a hole */
            q->ops.step(k->w, (((int64_t)1 << 32) + k->hop_number + h) * hop, &one, 1, k->x, hop, k->y,
                        n_out);
        return (now_us() - begin) / times;
    }
    case BARE:
        return bare(s, k, 0);
    case FFTW:
        return bare(s, k, 1);
    case MEMCPY:
        for (size_t i = 0; i < n; i++)
            memcpy((char *)k->y + i * hop * 4, (char *)k->x + i * hop * 4, (size_t)hop * 4);
        return (now_us() - begin) / n;
    default: {
        const size_t bytes = accumulator_bytes(s);
        for (size_t i = 0; i < n; i++)
            memcpy((char *)k->accumulators + (n + i) * bytes, (char *)k->accumulators + i * bytes, bytes);
        return (now_us() - begin) / n;
    }
    }
}

static void *work(void *arg)
{
    worker *k = arg;
    const bench *q = k->q;
    for (uint32_t i = 0; i < q->shapes && k->err == GW_OK; i++)
        k->err = fill(q, &q->shape[i], &k->bank[i]);
    if (k->err != GW_OK)
        snprintf(k->detail, sizeof k->detail, "%s", gw_err_detail());
    pthread_barrier_wait(k->barrier);
    bool all_ready = true;
    for (uint32_t t = 0; t < q->threads; t++)
        all_ready &= k->all[t].err == GW_OK;
    for (uint32_t round = 0; all_ready && round <= q->rounds; round++)
        for (int f = 0; f < FIGURES; f++)
            for (uint32_t i = 0; i < q->shapes; i++) { /* the shapes' same figure follow each other closely */
                pthread_barrier_wait(k->barrier);
                k->bank[i].us[f][round] = measure(q, &q->shape[i], &k->bank[i], f);
            }
    for (uint32_t i = 0; i < q->shapes; i++)
        empty(q, &k->bank[i]);
    return NULL;
}

/* ---- what comes of it ---- */

static int ascending(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Median over rounds, the first one left out, of the mean over threads; over >= 0: of the ratio. */
static double median(const bench *q, const worker *k, uint32_t shape, int figure, int over)
{
    double v[MAX_ROUNDS];
    for (uint32_t r = 0; r < q->rounds; r++) {
        double a = 0, b = 0;
        for (uint32_t t = 0; t < q->threads; t++) {
            a += k[t].bank[shape].us[figure][r + 1] / q->threads;
            b += over >= 0 ? k[t].bank[shape].us[over][r + 1] / q->threads : 1.0 / q->threads;
        }
        v[r] = a / b;
    }
    qsort(v, q->rounds, sizeof *v, ascending);
    return v[q->rounds / 2];
}

static void report(const bench *q, const worker *k, uint32_t i)
{
    const bench_shape *b = &q->shape[i];
    const gw_bulk_shape *s = &b->shape;
    printf("{\"rate_hz\": %u, \"hop\": %u, \"taps\": %u, \"decimate\": %u, \"segment\": %u, \"pool\": %u, "
           "\"median_of\": %u, \"half\": %s, \"tiny\": %s, \"channels\": %u, \"threads\": %u, \"layout\": "
           "\"%s\", \"state_bytes\": %zu, \"response_bytes\": %zu, \"loops\": \"%s\", \"fft\": \"%s\"",
           s->rate_hz, s->hop, s->n_taps, s->decimate, s->segment, s->pool, s->median_of,
           s->half ? "true" : "false", b->tiny ? "true" : "false", b->channels, q->threads, b->info->layout,
           b->info->state_bytes, b->info->response_bytes, gw_bulk_loops_best()->name, gw_fft32_library());
    for (int f = 0; f < FIGURES; f++)
        printf(", \"%s_us\": %.2f", figure_name[f], median(q, k, i, f, -1));
    printf(", \"streamed_of_bare\": %.3f, \"streamed_of_fftw\": %.3f, \"streamed_of_memcpy\": %.2f, "
           "\"channels_per_core\": %.0f, \"rounds\": {",
           median(q, k, i, STREAMED, BARE), median(q, k, i, STREAMED, FFTW),
           median(q, k, i, STREAMED, MEMCPY), 1e6 * s->hop / s->rate_hz / median(q, k, i, STREAMED, -1));
    for (int f = 0; f < FIGURES; f++) {
        printf("%s\"%s\": [", f ? ", " : "", figure_name[f]);
        for (uint32_t r = 0; r < q->rounds; r++) {
            double us = 0;
            for (uint32_t t = 0; t < q->threads; t++)
                us += k[t].bank[i].us[f][r + 1] / q->threads;
            printf("%s%.3f", r ? ", " : "", us);
        }
        printf("]");
    }
    printf("}}\n");
}

/* ---- what is asked for ---- */

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

static int read_shape(bench *q, char *words)
{
    if (q->shapes == MAX_SHAPES)
        return gw_fail(GW_ERANGE, "at most %d shapes at a time", MAX_SHAPES);
    bench_shape *s = &q->shape[q->shapes++];
    *s = (bench_shape){
        .shape = {.rate_hz = 16384, .hop = 16384, .n_taps = 16384, .decimate = 1, .pool = 1, .memory = 32},
        .channels = q->channels};
    const struct {
        const char *name;
        uint32_t *value;
    } known[] = {{"rate", &s->shape.rate_hz},      {"hop", &s->shape.hop},         {"taps", &s->shape.n_taps},
                 {"decimate", &s->shape.decimate}, {"segment", &s->shape.segment}, {"pool", &s->shape.pool},
                 {"median", &s->shape.median_of},  {"channels", &s->channels}};
    enum { KNOWN = sizeof known / sizeof *known };
    for (char *word = strtok(words, ","); word; word = strtok(NULL, ",")) {
        char *value = strchr(word, '=');
        size_t i = 0;
        if (value)
            *value++ = 0;
        while (i < KNOWN && (!value || strcmp(word, known[i].name) != 0))
            i++;
        if (i < KNOWN)
            *known[i].value = (uint32_t)strtoul(value, NULL, 10);
        else if (strcmp(word, "half") == 0)
            s->shape.half = true;
        else if (strcmp(word, "tiny") == 0)
            s->tiny = true;
        else
            return gw_fail(GW_EUSAGE, "'%s' is no word of a shape: see the top of bench_whiten.c", word);
    }
    s->scale = s->tiny ? 0x1p70f : 1;
    s->shape.dead_run =
        s->shape.hop < DEAD_RUN ? s->shape.hop : DEAD_RUN; /* hops are judged, as in the stage */
    if (s->channels == 0)
        return gw_fail(GW_ERANGE, "a shape needs a channel");
    GW_TRY(q->ops.bulk_new(&s->b, &s->shape));
    s->info = q->ops.info(s->b);
    gw_bulk_layout_choose(&s->layout, &s->shape);
    for (uint32_t i = 0; i < s->layout.n_levels; i++) {
        const uint32_t points = s->layout.level[i].n, points_out = points / s->shape.decimate;
        const double long_s = q->plan_ms * 1e-3;
        GW_TRY(gw_fft32_new(&s->forward[0][i], points, false));
        GW_TRY(gw_fft32_new(&s->inverse[0][i], points_out, true));
        GW_TRY(gw_fft32_plan_fftw(&s->forward[1][i], points, false, GW_FFT32_MEASURED, long_s));
        GW_TRY(gw_fft32_plan_fftw(&s->inverse[1][i], points_out, true, GW_FFT32_MEASURED, long_s));
    }
    return GW_OK;
}

static int run(int argc, char **argv)
{
    static bench q = {.channels = 256, .threads = 1, .rounds = 7, .plan_ms = 2000};
    static uint32_t *const number[] = {&q.channels, &q.threads, &q.rounds, &q.plan_ms};
    static const struct option options[] = {{"channels", 1, 0, 0}, {"threads", 1, 0, 1},  {"rounds", 1, 0, 2},
                                            {"plan-ms", 1, 0, 3},  {"wisdom", 1, 0, 'w'}, {0, 0, 0, 0}};
    for (int o; (o = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        if (o == '?')
            return gw_fail(GW_EUSAGE, "see the top of bench_whiten.c");
        if (o == 'w')
            GW_TRY(read_wisdom(optarg));
        else
            *number[o] = (uint32_t)strtoul(optarg, NULL, 10);
    }
    if (q.rounds == 0 || q.rounds > MAX_ROUNDS || q.threads == 0 || q.threads > MAX_THREADS || optind == argc)
        return gw_fail(GW_ERANGE, "1 to %d rounds, 1 to %d threads, and a shape", MAX_ROUNDS, MAX_THREADS);
    gw_bulk_cpu(&q.ops);
    for (int i = optind; i < argc; i++)
        GW_TRY(read_shape(&q, argv[i]));

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
    for (uint32_t i = 0; i < q.shapes; i++) {
        bench_shape *s = &q.shape[i];
        if (err == GW_OK)
            report(&q, k, i);
        for (int whose = 0; whose < 2; whose++)
            for (uint32_t v = 0; v < s->layout.n_levels; v++) {
                gw_fft32_destroy(&s->forward[whose][v]);
                gw_fft32_destroy(&s->inverse[whose][v]);
            }
        q.ops.bulk_destroy(&s->b);
    }
    return err;
}

int main(int argc, char **argv)
{
    const int err = run(argc, argv);
    if (err != GW_OK)
        fprintf(stderr, "bench_whiten: %s\n", gw_err_detail());
    return err == GW_OK ? 0 : 1;
}
