/* SPDX-License-Identifier: GPL-3.0-or-later
 * `gwstream model bench`: one core, one call after another on the same random numbers, after a warm-up.
 * Inferences a second are counted by this thread's CPU time, so that a busy machine spoils them less; the
 * times of a call are the wall clock's. The core's peak is measured in the same run. On the GPU the numbers
 * lie in its memory, a call ends when they are there, and inferences are counted by the wall clock. */
#include "pipeline/cmd_model.h"

#include "kernels/limit.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { MOST_TIMES = 1 << 20 };
static const double warm_s = 0.1;

typedef struct job { /* one call of what is measured */
    int (*call)(void *what);
    void *what;
    const char *mode;
    int64_t batch; /* inferences a call */
    double flop;   /* of one of them */
    int64_t hop;   /* samples; 0 where nothing streams */
} job;

static double now(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int by_value(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void report(const gw_model_options *o, const job *j, double *times, size_t n, size_t calls, double cpu,
                   double wall)
{
    const double each = cpu / ((double)calls * (double)j->batch);
    qsort(times, n, sizeof *times, by_value);
    const double p50 = 1e6 * times[n / 2], p99 = 1e6 * times[n - 1 - (n - 1) / 100], rate = j->flop / each,
                 peak = o->device ? 0 : gw_limit_flop(), share = peak > 0 ? rate / peak : 0;
    if (o->json) {
        printf("{\"mode\": \"%s\", \"batch\": %lld, \"hop\": %lld, \"inferences_per_s\": %.6g, "
               "\"inferences_per_wall_s\": %.6g, \"p50_us\": %.6g, \"p99_us\": %.6g, \"flop\": %.9g, "
               "\"flop_per_s\": %.6g, \"peak_flop_per_s\": %.6g, \"share_of_peak\": %.4f}\n",
               j->mode, (long long)j->batch, (long long)j->hop, 1 / each,
               (double)calls * (double)j->batch / wall, p50, p99, j->flop, rate, peak, share);
        return;
    }
    printf("%-16s %6lld %14.1f %12.1f %12.1f %10.2f %8.3f\n", j->mode, (long long)j->batch, 1 / each, p50,
           p99, rate * 1e-9, share);
}

static int measure(const gw_model_options *o, const job *j)
{
    double *times = malloc(MOST_TIMES * sizeof *times);
    if (!times)
        return gw_fail(GW_ENOMEM, "no memory for the times");
    int err = GW_OK;
    size_t calls = 0;
    double start = now(CLOCK_MONOTONIC), cpu = 0;
    for (double t = start; err == GW_OK && t - start < warm_s; t = now(CLOCK_MONOTONIC))
        err = j->call(j->what);
    start = now(CLOCK_MONOTONIC);
    cpu = now(CLOCK_THREAD_CPUTIME_ID);
    double last = start;
    while (err == GW_OK && (last - start < o->seconds || calls == 0)) {
        err = j->call(j->what);
        const double t = now(CLOCK_MONOTONIC);
        if (calls < MOST_TIMES)
            times[calls] = t - last;
        calls++;
        last = t;
    }
    cpu = now(CLOCK_THREAD_CPUTIME_ID) - cpu;
    if (err == GW_OK)
        report(o, j, times, calls < MOST_TIMES ? calls : MOST_TIMES, calls, o->device ? last - start : cpu,
               last - start);
    free(times);
    return err;
}

/* Uniform in -1.7 ... 1.7: variance 1, and no call is spoilt by denormals. */
static void fill(float *x, size_t n)
{
    uint32_t state = 1;
    for (size_t i = 0; i < n; i++) {
        state = state * 1664525u + 1013904223u;
        x[i] = (float)(int32_t)state * 0x1.bb67aep-31f;
    }
}

/* ---- windows ---- */

typedef struct windows {
    gw_model_engine e;
    gw_tensor in[GW_MODEL_FILES];
} windows;

static int call_windows(void *what)
{
    windows *w = what;
    return gw_model_engine_run(&w->e, w->in);
}

static int make_input(gw_tensor *t, const gw_onnx_value *v, int64_t calls)
{
    int64_t dim[GW_ONNX_MAX_RANK];
    memcpy(dim, v->dim, sizeof dim);
    if (v->rank > 0)
        dim[0] *= calls;
    GW_TRY(gw_tensor_set(t, v->type, v->rank, dim));
    t->data = calloc(gw_tensor_elements(t) + 1, gw_tensor_type_bytes(v->type));
    if (!t->data)
        return gw_fail(GW_ENOMEM, "no memory for input '%s'", v->name);
    if (v->type == GW_ONNX_FLOAT)
        fill(t->data, gw_tensor_elements(t));
    return GW_OK;
}

static int bench_windows(const gw_model_options *o, int64_t batch)
{
    windows w = {0};
    gw_model_facts f = {0};
    GW_TRY(gw_model_engine_open(&w.e, o, batch));
    int err = gw_model_facts_read(&f, w.e.m);
    const int64_t own = w.e.m->n_inputs && w.e.m->input[0].rank ? w.e.m->input[0].dim[0] : 1;
    for (int i = 0; i < w.e.m->n_inputs && err == GW_OK; i++)
        err = make_input(&w.in[i], &w.e.m->input[i], w.e.calls);
    const job j = {.call = call_windows,
                   .what = &w,
                   .mode = w.e.net ? "window" : "window, nodes",
                   .batch = own * w.e.calls,
                   .flop = w.e.net ? gw_net_get_info(w.e.net)->flop : f.flop / (double)own};
    if (err == GW_OK)
        err = measure(o, &j);
    for (int i = 0; i < GW_MODEL_FILES; i++)
        free(w.in[i].data);
    gw_model_facts_free(&f);
    gw_model_engine_close(&w.e);
    return err;
}

/* ---- streams, the merged part, and all on the GPU ---- */

typedef struct direct {
    gw_net *net;
    gw_net_in in;
    const float **features;
    float *x, *out[GW_MODEL_FILES]; /* of `place` if there is one */
    gw_place_ops ops;
    gw_place *place;
} direct;

static int call_direct(void *what)
{
    direct *d = what;
    GW_TRY(gw_net_run(d->net, &d->in, d->out));
    return gw_net_wait(d->net);
}

/* Random numbers, where the network wants them. */
static int numbers(direct *d, float **x, size_t n)
{
    float *host = malloc(n * sizeof *host + 1);
    int err = host ? d->ops.floats_new(x, n) : gw_fail(GW_ENOMEM, "no memory for %zu numbers", n);
    if (err == GW_OK) {
        fill(host, n);
        err = d->ops.move(d->place, *x, n, host, n, n, 1);
    }
    free(host);
    return err;
}

static int prepare(direct *d, bool merged, int64_t batch)
{
    const gw_net_info *info = gw_net_get_info(d->net);
    const size_t columns = info->hop_samples ? info->hop_samples : info->window_samples;
    const size_t each = columns * info->n_channels, n = (size_t)batch * info->n_detectors;
    d->in.n_windows = (uint32_t)batch;
    d->features = calloc(n, sizeof *d->features);
    if (!d->features || info->n_outputs > GW_MODEL_FILES)
        return gw_fail(GW_ENOMEM, "no memory for a batch of %lld", (long long)batch);
    GW_TRY(numbers(d, &d->x, each * n));
    d->in.x = d->x;
    d->in.channel_stride = columns;
    d->in.window_stride = each;
    for (size_t i = 0; merged && i < n; i++)
        d->features[i] = d->x + i * each;
    d->in.features = merged ? d->features : NULL;
    for (int i = 0; i < info->n_outputs; i++)
        GW_TRY(d->ops.floats_new(&d->out[i],
                                 (size_t)batch * info->output[i].channels * info->output[i].columns));
    return GW_OK;
}

static int bench_direct(const gw_model_options *o, int64_t batch)
{
    gw_onnx *m = NULL;
    gw_kernels k;
    direct d = {0};
    const gw_net_options want = {.mode = o->stream ? GW_NET_STREAM : GW_NET_WINDOW,
                                 .part = o->pairs ? GW_NET_MERGED : GW_NET_WHOLE,
                                 .hop_samples = (uint32_t)o->hop,
                                 .batch = o->stream || o->device ? (uint32_t)batch : 0,
                                 .device = o->device,
                                 .precision = o->precision};
    GW_TRY(gw_kernels_init(&k, o->level));
    if (o->device)
        d.ops = k.place;
    else
        gw_place_host(&d.ops);
    GW_TRY(gw_model_load(&m, o, 1));
    int err = gw_net_open(&d.net, m, &k, &want);
    gw_onnx_free(&m);
    if (err == GW_OK)
        err = d.ops.open(&d.place, &(gw_place_shape){.batch = 1, .channels = 1, .columns = 1}, &k.conv);
    if (err == GW_OK)
        err = prepare(&d, o->pairs, batch);
    if (err == GW_OK) {
        const gw_net_info *info = gw_net_get_info(d.net);
        const job j = {.call = call_direct,
                       .what = &d,
                       .mode = o->stream  ? o->pairs ? "stream, pairs" : "stream"
                               : o->pairs ? "window, pairs"
                                          : "window",
                       .batch = batch,
                       .flop = info->flop,
                       .hop = info->hop_samples};
        err = measure(o, &j);
    }
    gw_net_close(&d.net);
    for (int i = 0; i < GW_MODEL_FILES && d.place; i++)
        d.ops.floats_free(&d.out[i]);
    if (d.place) {
        d.ops.floats_free(&d.x);
        d.ops.close(&d.place);
    }
    free(d.features);
    return err;
}

int gw_model_bench(const gw_model_options *o)
{
    if (!o->json)
        printf("%-16s %6s %14s %12s %12s %10s %8s\n", "", "batch", "inferences/s", "p50 us", "p99 us",
               "GFLOP/s", "of peak");
    for (int i = 0; i < (o->n_batches ? o->n_batches : 1); i++) {
        const bool direct = o->stream || o->pairs || o->device;
        GW_TRY(direct ? bench_direct(o, o->n_batches ? o->batch[i] : 1) : bench_windows(o, o->batch[i]));
    }
    if (!o->json && !o->device)
        printf("\nOne core; its peak in this run: %.1f GFLOP/s (float32, fused multiply-adds).\n",
               gw_limit_flop() * 1e-9);
    return GW_OK;
}
