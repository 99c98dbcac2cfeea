/* SPDX-License-Identifier: GPL-3.0-or-later
 * A whole network on the device: kernels/nn/place.h for CUDA. Called by kernels/nn/net_run.c through the
 * table. The calls of a pass are captured once for each count of windows into a CUDA graph, which then is one
 * launch. What changes from call to call (where windows lie, where outputs go) is a table in device memory
 * that is copied before the launch from one of a few pinned slots, so that several passes may be on their
 * way. Windows and outputs in host memory go through device copies of both. */
#include "kernels/cuda/layers.cuh"

extern "C" {
#include "kernels/cuda/cuda.h"
#ifdef GW_HAVE_CUDNN
#include "kernels/cuda/cudnn.h"
#endif
}

#include <cstdlib>
#include <cstring>

enum { SLOTS = 4, MOST_GRAPHS = 64, THREADS = 256 };

/* What a pass is told: words of 8 bytes, COUNT windows are given and wanted. Then [n_outputs] where each
 * output goes or 0, and then, where BY_POINTER is not 0, [count][channels] planes or [count][parts] features.
 */
enum { COUNT, BASE, CHANNEL_STRIDE, WINDOW_STRIDE, BY_POINTER, HEAD };

typedef struct slot {
    uint64_t *words; /* pinned */
    cudaEvent_t read;
    bool used;
} slot;

typedef struct graph {
    uint32_t windows;
    cudaGraphExec_t run;
} graph;

struct gw_place {
    gw_place_shape s;
    cudaStream_t stream, recorder; /* the caller's or own; where passes are captured */
    bool own_stream, recording;
    slot slots[SLOTS];
    unsigned next;
    uint64_t *words;               /* on the device: the slot of the pass that runs */
    float *staged_in, *staged_out; /* on the device, for arrays of the host */
    size_t in_floats, out_floats;  /* of a window */
    graph graphs[MOST_GRAPHS];
    int n_graphs;
    gw_place_call call; /* of the pass that runs */
    bool out_on_host, wait;
    struct tuned *tuned; /* a list */
#ifdef GW_HAVE_CUDNN
    gw_cudnn *cudnn;
#endif
};

/* A call of a convolution that cuDNN does. */
struct tuned {
    const gw_conv *c;
    gw_conv_io io;
    struct tuned *next;
#ifdef GW_HAVE_CUDNN
    gw_cudnn_conv *plan;
#endif
};

/* ---- Memory ---- */

static int floats_new(float **x, size_t n)
{
    void *p = nullptr;
    *x = nullptr;
    const size_t bytes = (n > 0 ? n : 1) * sizeof(float);
    GW_GPU_TRY(cudaMalloc(&p, bytes), "memory of a network");
    *x = static_cast<float *>(p);
    GW_GPU_TRY(cudaMemsetAsync(p, 0, bytes, nullptr), "memory of a network");
    return gw_gpu_status(cudaStreamSynchronize(nullptr), "memory of a network");
}

static void floats_free(float **x)
{
    cudaFree(*x);
    *x = nullptr;
}

static bool on_device(const void *p)
{
    cudaPointerAttributes a;
    if (cudaPointerGetAttributes(&a, p) == cudaSuccess)
        return a.type == cudaMemoryTypeDevice;
    cudaGetLastError(); /* memory that CUDA does not know is no error */
    return false;
}

static void forget_tuned(gw_place *p)
{
    while (p->tuned) {
        tuned *t = p->tuned;
        p->tuned = t->next;
#ifdef GW_HAVE_CUDNN
        gw_cudnn_conv_close(&t->plan);
#endif
        free(t);
    }
#ifdef GW_HAVE_CUDNN
    gw_cudnn_close(&p->cudnn);
#endif
}

static void place_close(gw_place **out)
{
    gw_place *p = *out;
    if (!p)
        return;
    if (p->stream || !p->own_stream)
        cudaStreamSynchronize(p->stream);
    for (int i = 0; i < p->n_graphs; i++)
        cudaGraphExecDestroy(p->graphs[i].run);
    forget_tuned(p);
    for (slot &t : p->slots) {
        if (t.words)
            cudaFreeHost(t.words);
        if (t.read)
            cudaEventDestroy(t.read);
    }
    cudaFree(p->words);
    floats_free(&p->staged_in);
    floats_free(&p->staged_out);
    if (p->recorder)
        cudaStreamDestroy(p->recorder);
    if (p->own_stream && p->stream)
        cudaStreamDestroy(p->stream);
    free(p);
    *out = nullptr;
}

/* Pointers of a window that a call may come with. */
static size_t pointers(const gw_place_shape *s)
{
    return s->parts ? s->parts : s->channels;
}

static size_t floats_of_feature(const gw_place_shape *s)
{
    return size_t(s->first + s->columns) * (s->summed ? s->channels : s->channels / s->parts);
}

static int make(gw_place *p)
{
    const gw_place_shape *s = &p->s;
    const size_t words = HEAD + size_t(s->n_outputs) + s->batch * pointers(s);
    void *there = nullptr;
    GW_GPU_TRY(cudaStreamCreateWithFlags(&p->recorder, cudaStreamNonBlocking), "stream");
    if (p->own_stream)
        GW_GPU_TRY(cudaStreamCreateWithFlags(&p->stream, cudaStreamNonBlocking), "stream");
    else
        p->stream = static_cast<cudaStream_t>(s->queue);
    for (slot &t : p->slots) {
        void *here = nullptr;
        GW_GPU_TRY(cudaHostAlloc(&here, words * sizeof(uint64_t), cudaHostAllocDefault), "pinned memory");
        t.words = static_cast<uint64_t *>(here);
        GW_GPU_TRY(cudaEventCreateWithFlags(&t.read, cudaEventDisableTiming), "event");
    }
    GW_GPU_TRY(cudaMalloc(&there, words * sizeof(uint64_t)), "memory of a network");
    p->words = static_cast<uint64_t *>(there);
    p->in_floats = s->parts ? s->parts * floats_of_feature(s) : size_t(s->channels) * (s->first + s->columns);
    for (int i = 0; i < s->n_outputs; i++)
        p->out_floats += size_t(s->output[i].channels) * s->output[i].columns;
    GW_TRY(floats_new(&p->staged_in, p->in_floats * s->batch));
    return floats_new(&p->staged_out, p->out_floats * s->batch);
}

static int place_open(gw_place **out, const gw_place_shape *s, const gw_conv_ops *)
{
    gw_place *p = static_cast<gw_place *>(calloc(1, sizeof *p));
    *out = p;
    if (!p)
        return gw_fail(GW_ENOMEM, "no memory for a network");
    p->s = *s;
    p->own_stream = s->queue == nullptr;
    const int err = make(p);
    if (err < 0)
        place_close(out);
    return err;
}

static int place_wait(gw_place *p)
{
    return gw_gpu_status(cudaStreamSynchronize(p->stream), "network");
}

static int move(gw_place *p, float *to, size_t to_step, const float *from, size_t from_step, size_t n,
                size_t rows)
{
    const size_t width = n * sizeof(float);
    GW_GPU_TRY(cudaMemcpy2DAsync(to, rows > 1 ? to_step * sizeof(float) : width, from,
                                 rows > 1 ? from_step * sizeof(float) : width, width, rows, cudaMemcpyDefault,
                                 p->stream),
               "copy");
    return place_wait(p);
}

/* ---- A pass ---- */

static int bring(gw_place *p, float *to, size_t pitch, const float *from, size_t from_pitch, size_t n,
                 size_t rows)
{
    const size_t width = n * sizeof(float);
    p->wait = true;
    if (from_pitch >= n)
        return gw_gpu_status(cudaMemcpy2DAsync(to, pitch * sizeof(float), from, from_pitch * sizeof(float),
                                               width, rows, cudaMemcpyHostToDevice, p->stream),
                             "input");
    for (size_t i = 0; i < rows; i++) /* rows that overlap */
        GW_GPU_TRY(
            cudaMemcpyAsync(to + i * pitch, from + i * from_pitch, width, cudaMemcpyHostToDevice, p->stream),
            "input");
    return GW_OK;
}

/* Windows of the host -> the device: once each sample where they overlap or lie side by side. */
static int stage_windows(gw_place *p, const gw_place_call *c, uint64_t *words)
{
    const size_t columns = p->s.first + p->s.columns, channels = p->s.channels;
    const size_t last = size_t(c->count - 1) * c->window_stride;
    words[BASE] = reinterpret_cast<uintptr_t>(p->staged_in);
    if (c->window_stride <= columns && (channels == 1 || c->channel_stride >= last + columns)) {
        words[CHANNEL_STRIDE] = last + columns;
        words[WINDOW_STRIDE] = c->window_stride;
        return bring(p, p->staged_in, last + columns, c->x, channels > 1 ? c->channel_stride : last + columns,
                     last + columns, channels);
    }
    words[CHANNEL_STRIDE] = columns;
    words[WINDOW_STRIDE] = channels * columns;
    if (c->window_stride == channels * c->channel_stride && c->channel_stride >= columns)
        return bring(p, p->staged_in, columns, c->x, c->channel_stride, columns, channels * c->count);
    for (size_t w = 0; w < c->count; w++)
        GW_TRY(bring(p, p->staged_in + w * channels * columns, columns, c->x + w * c->window_stride,
                     channels > 1 ? c->channel_stride : columns, columns, channels));
    return GW_OK;
}

/* Where each plane or feature is on the device. */
static int point(gw_place *p, const float *const *from, size_t n, size_t floats, uint64_t *words)
{
    const bool there = on_device(from[0]);
    for (size_t i = 0; i < n; i++) {
        const float *at = from[i];
        if (!there) {
            float *copy = p->staged_in + i * floats;
            GW_TRY(bring(p, copy, floats, at, floats, floats, 1));
            at = copy;
        }
        words[i] = reinterpret_cast<uintptr_t>(at);
    }
    return GW_OK;
}

/* Fills a slot and has it copied. */
static int tell(gw_place *p, const gw_place_call *c)
{
    slot *t = &p->slots[p->next++ % SLOTS];
    uint64_t *words = t->words, *more = words + HEAD + p->s.n_outputs;
    if (t->used)
        GW_GPU_TRY(cudaEventSynchronize(t->read), "network");
    size_t n = 0;
    words[COUNT] = c->count;
    words[BASE] = reinterpret_cast<uintptr_t>(c->x);
    words[CHANNEL_STRIDE] = c->channel_stride;
    words[WINDOW_STRIDE] = c->window_stride;
    if (p->s.parts) {
        n = size_t(c->count) * p->s.parts;
        GW_TRY(point(p, c->features, n, floats_of_feature(&p->s), more));
    } else if (c->channel) {
        n = size_t(c->count) * p->s.channels;
        GW_TRY(point(p, c->channel, n, p->s.first + p->s.columns, more));
    } else if (!on_device(c->x)) {
        GW_TRY(stage_windows(p, c, words));
    }
    words[BY_POINTER] = n > 0;
    float *staged = p->staged_out;
    p->out_on_host = false;
    for (int i = 0; i < p->s.n_outputs; i++) {
        const bool host = c->out[i] && !on_device(c->out[i]);
        words[HEAD + i] = reinterpret_cast<uintptr_t>(host ? staged : c->out[i]);
        staged += size_t(p->s.output[i].channels) * p->s.output[i].columns * p->s.batch;
        p->out_on_host |= host;
    }
    p->wait |= p->out_on_host;
    GW_GPU_TRY(cudaMemcpyAsync(p->words, words, (HEAD + size_t(p->s.n_outputs) + n) * sizeof(uint64_t),
                               cudaMemcpyHostToDevice, p->stream),
               "network");
    t->used = true;
    return gw_gpu_status(cudaEventRecord(t->read, p->stream), "network");
}

static graph *find(gw_place *p, uint32_t windows)
{
    for (int i = 0; i < p->n_graphs; i++)
        if (p->graphs[i].windows == windows)
            return &p->graphs[i];
    return nullptr;
}

static int begin(gw_place *p, const gw_place_call *call, bool *known)
{
    p->wait = false;
    if (call->out)
        GW_TRY(tell(p, call));
    p->call = *call;
    *known = find(p, call->windows) != nullptr;
    if (*known)
        return GW_OK;
    GW_GPU_TRY(cudaStreamBeginCapture(p->recorder, cudaStreamCaptureModeThreadLocal), "recording");
    p->recording = true;
    return GW_OK;
}

/* The end of a recording: a graph more, in place of the oldest of too many. */
static int finish(gw_place *p, int err)
{
    cudaGraph_t g = nullptr;
    cudaGraphExec_t run = nullptr;
    p->recording = false;
    cudaError_t e = cudaStreamEndCapture(p->recorder, &g);
    if (err == GW_OK && e == cudaSuccess)
        e = cudaGetLastError();
    if (err == GW_OK && e == cudaSuccess)
        e = cudaGraphInstantiateWithFlags(&run, g, 0);
    if (g)
        cudaGraphDestroy(g);
    if (err < 0)
        return err;
    GW_GPU_TRY(e, "recording a network");
    if (p->n_graphs == MOST_GRAPHS) {
        cudaStreamSynchronize(p->stream);
        cudaGraphExecDestroy(p->graphs[0].run);
        memmove(p->graphs, p->graphs + 1, sizeof p->graphs - sizeof *p->graphs);
        p->n_graphs--;
    }
    p->graphs[p->n_graphs++] = {p->call.windows, run};
    return GW_OK;
}

static int fetch_outputs(gw_place *p)
{
    const float *staged = p->staged_out;
    for (int i = 0; i < p->s.n_outputs; i++) {
        const size_t n = size_t(p->s.output[i].channels) * p->s.output[i].columns;
        float *to = p->call.out[i];
        if (to && !on_device(to))
            GW_GPU_TRY(cudaMemcpyAsync(to, staged, n * p->call.count * sizeof(float), cudaMemcpyDeviceToHost,
                                       p->stream),
                       "output");
        staged += n * p->s.batch;
    }
    return GW_OK;
}

static int end(gw_place *p, int err)
{
    if (p->recording)
        err = finish(p, err);
    if (err < 0 || !p->call.out)
        return err;
    GW_GPU_TRY(cudaGraphLaunch(find(p, p->call.windows)->run, p->stream), "network");
    if (p->out_on_host)
        GW_TRY(fetch_outputs(p));
    return p->wait ? place_wait(p) : GW_OK;
}

/* ---- What a pass is made of ---- */

static cudaStream_t now(const gw_place *p)
{
    return p->recording ? p->recorder : p->stream;
}

enum { SIDE = 32, ROWS = THREADS / SIDE };

/* Planes of a window -> columns of channels, in tiles through shared memory: both sides in whole lines. */
static __global__ void __launch_bounds__(THREADS)
    weave(const uint64_t *words, unsigned table, unsigned count, unsigned channels, unsigned columns,
          unsigned first, gw_place_array to)
{
    GW_SHARED(float, tile, SIDE *(SIDE + 1));
    const unsigned lane = threadIdx.x % SIDE, row = threadIdx.x / SIDE, channel0 = blockIdx.z * SIDE;
    count = min(count, unsigned(words[COUNT]));
    for (unsigned w = blockIdx.y; w < count; w += gridDim.y) {
        for (unsigned column0 = blockIdx.x * SIDE; column0 < columns; column0 += gridDim.x * SIDE) {
            for (unsigned k = row; k < SIDE && channel0 + k < channels; k += ROWS) {
                const unsigned c = channel0 + k;
                const float *x =
                    words[BY_POINTER]
                        ? reinterpret_cast<const float *>(words[table + size_t(w) * channels + c])
                        : reinterpret_cast<const float *>(words[BASE]) + w * words[WINDOW_STRIDE] +
                              c * words[CHANNEL_STRIDE];
                if (column0 + lane < columns)
                    tile[k * (SIDE + 1) + lane] = x[first + column0 + lane];
            }
            __syncthreads();
            const unsigned some = min(unsigned(SIDE), channels - channel0),
                           many = min(unsigned(SIDE), columns - column0);
            for (unsigned i = threadIdx.x; i < some * many; i += THREADS)
                to.x[w * to.step + size_t(column0 + i / some) * channels + channel0 + i % some] =
                    tile[i % some * (SIDE + 1) + i / some];
            __syncthreads();
        }
    }
}

/* Features side by side or added up. */
static __global__ void __launch_bounds__(THREADS)
    gather(const uint64_t *words, unsigned table, unsigned count, unsigned parts, unsigned channels,
           unsigned columns, unsigned first, bool summed, gw_place_array to)
{
    const unsigned each = summed ? channels : channels / parts;
    count = min(count, unsigned(words[COUNT]));
    for (unsigned w = blockIdx.y; w < count; w += gridDim.y)
        for (size_t i = blockIdx.x * size_t(THREADS) + threadIdx.x; i < size_t(columns) * channels;
             i += gridDim.x * size_t(THREADS)) {
            const unsigned c = unsigned(i % channels), column = unsigned(i / channels) + first;
            float v = 0;
            for (unsigned d = summed ? 0 : c / each; d < (summed ? parts : c / each + 1); d++) {
                const float *x = reinterpret_cast<const float *>(words[table + size_t(w) * parts + d]);
                v += x[size_t(column) * each + c % each];
            }
            to.x[w * to.step + i] = v;
        }
}

static unsigned rows_for(uint32_t count)
{
    return count < 65535 ? count : 65535;
}

static int load(gw_place *p, uint32_t count, gw_place_array *to)
{
    const gw_place_shape *s = &p->s;
    const unsigned table = unsigned(HEAD + s->n_outputs);
    const size_t values = size_t(s->columns) * s->channels;
    if (s->parts) {
        const dim3 grid(unsigned(values / THREADS < 64 ? values / THREADS + 1 : 64), rows_for(count));
        GW_LAUNCH(gather, grid, THREADS, 0, now(p), p->words, table, count, s->parts, s->channels, s->columns,
                  s->first, s->summed, *to);
        return GW_OK;
    }
    const unsigned tiles = (s->columns + SIDE - 1) / SIDE;
    GW_LAUNCH(weave, dim3(tiles, rows_for(count), (s->channels + SIDE - 1) / SIDE), THREADS, 0, now(p),
              p->words, table, count, s->channels, s->columns, s->first, *to);
    return GW_OK;
}

/* Columns of channels -> the caller's, as they are or as planes. */
static __global__ void __launch_bounds__(THREADS)
    give_all(const uint64_t *words, unsigned output, unsigned count, unsigned channels, unsigned columns,
             bool planes, gw_place_array from)
{
    float *y = reinterpret_cast<float *>(words[HEAD + output]);
    if (!y)
        return;
    const size_t n = size_t(channels) * columns;
    count = min(count, unsigned(words[COUNT]));
    for (unsigned w = blockIdx.y; w < count; w += gridDim.y)
        for (size_t i = blockIdx.x * size_t(THREADS) + threadIdx.x; i < n; i += gridDim.x * size_t(THREADS))
            y[w * n + i] = from.x[w * from.step + (planes ? i % columns * channels + i / columns : i)];
}

static int give(gw_place *p, uint32_t count, int output, gw_place_array from)
{
    const gw_place_output *o = &p->s.output[output];
    const size_t n = size_t(o->channels) * o->columns;
    const dim3 grid(unsigned(n / THREADS < 64 ? n / THREADS + 1 : 64), rows_for(count));
    GW_LAUNCH(give_all, grid, THREADS, 0, now(p), p->words, unsigned(output), count, o->channels, o->columns,
              !o->channels_last && o->channels > 1, from);
    return GW_OK;
}

static int conv(gw_place *p, const gw_conv *c, const gw_conv_io *io)
{
#ifdef GW_HAVE_CUDNN
    for (const tuned *t = p->tuned; t; t = t->next)
        if (t->c == c && t->io.batch == io->batch && t->io.src == io->src && t->io.dst == io->dst &&
            t->io.residual == io->residual)
            return gw_cudnn_conv_run(t->plan, io, now(p));
#endif
    gw_layer_conv(c, io, now(p));
    return GW_OK;
}

#ifdef GW_HAVE_CUDNN
static int rival(void *arg, const gw_conv_io *io, void *stream)
{
    gw_layer_conv(static_cast<const gw_conv *>(arg), io, static_cast<cudaStream_t>(stream));
    return GW_OK;
}

/* Bytes that the starts of all windows are aligned to, up to 16. */
static uint32_t alignment(const float *x, size_t step)
{
    const uintptr_t bits = reinterpret_cast<uintptr_t>(x) | (step * sizeof(float)) | 16;
    return uint32_t(bits & (~bits + 1));
}

static int tune(gw_place *p, const gw_conv *c, const gw_conv_desc *d, const gw_conv_io *io,
                const float *weight, const float *bias)
{
    if (p->s.precision == GW_PRECISION_FP32 || (!p->cudnn && gw_cudnn_open(&p->cudnn, true) < 0))
        return GW_OK; /* our own does it */
    gw_cudnn_layer l = {};
    l.d = *d;
    l.batch = io->batch;
    l.columns = io->columns;
    l.src_step = io->src_step;
    l.residual_step = io->residual_step;
    l.dst_step = io->dst_step;
    l.residual = io->residual != nullptr;
    l.in_place = io->residual == io->dst;
    l.src_align = alignment(io->src, io->src_step);
    l.dst_align = alignment(io->dst, io->dst_step);
    if (l.residual && alignment(io->residual, io->residual_step) < l.dst_align)
        l.dst_align = alignment(io->residual, io->residual_step);
    l.precision = p->s.precision == GW_PRECISION_FP16 ? GW_CUDNN_FP16 : GW_CUDNN_TF32;
    l.rival = rival;
    l.rival_arg = const_cast<gw_conv *>(c);
    tuned *t = static_cast<tuned *>(calloc(1, sizeof *t));
    if (!t)
        return gw_fail(GW_ENOMEM, "no memory for a plan");
    t->c = c;
    t->io = *io;
    const int err = gw_cudnn_conv_open(&t->plan, p->cudnn, &l, weight, bias);
    if (err < 0) {
        free(t);
        return err == GW_ENOMEM ? err : GW_OK;
    }
    t->next = p->tuned;
    p->tuned = t;
    return GW_OK;
}
#else
static int tune(gw_place *, const gw_conv *, const gw_conv_desc *, const gw_conv_io *, const float *,
                const float *)
{
    return GW_OK;
}
#endif

static int join(gw_place *p, uint32_t count, gw_join kind, gw_act act, uint32_t columns, uint32_t channels,
                gw_place_array a, gw_place_array b, bool one_column, gw_place_array dst)
{
    gw_layer_join(now(p), count, kind, act, columns, channels, a, b, one_column, dst);
    return GW_OK;
}

static int meet(gw_place *p, uint32_t count, gw_act act, uint32_t columns, uint32_t channels,
                const float *bias, gw_place_array a, uint32_t a_channels, gw_place_array b,
                gw_place_array dst)
{
    gw_layer_meet(now(p), count, act, columns, channels, bias, a, a_channels, b, dst);
    return GW_OK;
}

static int act(gw_place *p, uint32_t count, gw_act what, size_t n, gw_place_array x, gw_place_array dst)
{
    gw_layer_act(now(p), count, what, n, x, dst);
    return GW_OK;
}

static int mean(gw_place *p, uint32_t count, uint32_t n, uint32_t span, uint32_t channels, gw_place_array x,
                gw_place_array dst)
{
    gw_layer_mean(now(p), count, n, span, channels, x, dst);
    return GW_OK;
}

static int pool(gw_place *p, uint32_t count, const gw_pool *what, gw_place_array src, gw_place_array dst)
{
    gw_layer_pool(now(p), count, what, src, dst);
    return GW_OK;
}

static int norm(gw_place *p, uint32_t count, const gw_norm *n, gw_place_array x, gw_place_array residual,
                gw_place_array dst)
{
    gw_layer_norm(now(p), count, n, x, residual, dst);
    return GW_OK;
}

static int copy(gw_place *p, uint32_t count, uint32_t columns, uint32_t channels, gw_place_array from,
                uint32_t from_channels, gw_place_array to, uint32_t to_channels)
{
    gw_layer_copy(now(p), count, columns, channels, from, from_channels, to, to_channels);
    return GW_OK;
}

static int zero(gw_place *p, uint32_t count, gw_place_array a, size_t n, size_t between, size_t after)
{
    gw_layer_zero(now(p), count, a, n, between, after);
    return GW_OK;
}

static int keep(gw_place *p, uint32_t count, const gw_place_past *past, int n)
{
    gw_layer_keep(now(p), count, past, n);
    return GW_OK;
}

void gw_place_cuda(gw_place_ops *ops)
{
    gw_conv_ops layers = {};
    gw_conv_cuda(&layers);
    *ops = {layers, place_open, place_close, floats_new, floats_free, move, place_wait, begin,
            end,    load,       give,        conv,       tune,        join, meet,       act,
            mean,   pool,       norm,        copy,       zero,        keep};
}
