/* SPDX-License-Identifier: GPL-3.0-or-later
 * Network layers on the GPU as the table of kernels/conv.h has them: an own direct convolution in fp32 for
 * every shape, and the layers of layers.cu on one window.
 *
 * Arrays may be in device memory: then a call enqueues on this thread's stream and returns (gw_cuda_wait).
 * Arrays in host memory are copied there and back in the call: right, and for the harness, not fast. Whole
 * networks are net.cu's. */
#include "kernels/cuda/act.cuh"
#include "kernels/cuda/layers.cuh"

extern "C" {
#include "kernels/cuda/cuda.h"
}

#include <cstdlib>
#include <cstring>
#include <pthread.h>

enum { THREADS = 128, TILE = 4 /* columns and output channels of a thread */, MOST_LANES = 8 };

/* ---- Kernels ---- */

/* A thread has TILE columns by TILE output channels. Weights are [group][kernel][in / groups][out], out
 * padded to a multiple of TILE: read 16 bytes at a time, the same for all columns of a warp. With WIDE the
 * input is too. The working set of a block, a few KB of both, stays in L1. `lanes`: threads side by side over
 * output channels. */
template <bool WIDE>
static __global__ void __launch_bounds__(THREADS)
    convolve(gw_conv_desc d, gw_conv_io io, const float *weight, const float *bias, unsigned lanes)
{
    constexpr unsigned C = WIDE ? 4 : 1;
    const unsigned in = d.in_channels / d.groups, out = d.out_channels / d.groups,
                   padded = (out + TILE - 1) / TILE * TILE;
    const unsigned tiles = (padded / TILE + lanes - 1) / lanes, group = blockIdx.y / tiles;
    const unsigned o = ((blockIdx.y % tiles) * lanes + threadIdx.x % lanes) * TILE;
    const unsigned column = (blockIdx.x * (THREADS / lanes) + threadIdx.x / lanes) * TILE;
    if (o >= out || column >= io.columns)
        return;
    const float *w = weight + size_t(group) * d.kernel * in * padded + o;
    for (unsigned window = blockIdx.z; window < io.batch; window += gridDim.z) {
        const float *from[TILE];
        float sum[TILE][TILE] = {};
        GW_UNROLL
        for (unsigned i = 0; i < TILE; i++) { /* columns beyond the last repeat it */
            const unsigned n = min(column + i, io.columns - 1);
            from[i] = io.src + window * io.src_step + size_t(n) * d.stride * d.in_channels + group * in;
        }
        for (unsigned k = 0; k < d.kernel; k++) {
            const size_t at = size_t(k) * d.dilation * d.in_channels;
            const float *tap = w + size_t(k) * in * padded;
            for (unsigned c = 0; c < in; c += C) {
                float x[TILE][4];
                GW_UNROLL
                for (unsigned i = 0; i < TILE; i++) {
                    if (WIDE) {
                        const float4 v = __ldg(reinterpret_cast<const float4 *>(from[i] + at + c));
                        x[i][0] = v.x, x[i][1] = v.y, x[i][2] = v.z, x[i][3] = v.w;
                    } else {
                        x[i][0] = __ldg(from[i] + at + c);
                    }
                }
                GW_UNROLL
                for (unsigned j = 0; j < C; j++) {
                    const float4 v = __ldg(reinterpret_cast<const float4 *>(tap + (c + j) * padded));
                    GW_UNROLL
                    for (unsigned i = 0; i < TILE; i++) {
                        sum[i][0] = fmaf(v.x, x[i][j], sum[i][0]);
                        sum[i][1] = fmaf(v.y, x[i][j], sum[i][1]);
                        sum[i][2] = fmaf(v.z, x[i][j], sum[i][2]);
                        sum[i][3] = fmaf(v.w, x[i][j], sum[i][3]);
                    }
                }
            }
        }
        GW_UNROLL
        for (unsigned i = 0; i < TILE; i++) {
            GW_UNROLL
            for (unsigned j = 0; j < TILE; j++) {
                if (column + i >= io.columns || o + j >= out)
                    continue;
                const size_t to = size_t(column + i) * d.out_channels + group * out + o + j;
                float v = sum[i][j] + bias[group * out + o + j];
                if (io.residual)
                    v += io.residual[window * io.residual_step + to];
                io.dst[window * io.dst_step + to] = gw_activate(d.act, v);
            }
        }
    }
}

/* For few columns of many inputs each, as in the head of a network: a warp an output, whose lanes add every
 * 32nd product, then each other. */
static __global__ void __launch_bounds__(THREADS)
    convolve_few(gw_conv_desc d, gw_conv_io io, const float *weight, const float *bias)
{
    const unsigned in = d.in_channels / d.groups, out = d.out_channels / d.groups,
                   padded = (out + TILE - 1) / TILE * TILE, lane = threadIdx.x % 32;
    const size_t at = blockIdx.x * size_t(THREADS / 32) + threadIdx.x / 32;
    if (at >= size_t(io.columns) * d.out_channels) /* a whole warp */
        return;
    const unsigned column = unsigned(at / d.out_channels), o = unsigned(at % d.out_channels), group = o / out;
    const float *w = weight + size_t(group) * d.kernel * in * padded + o % out;
    for (unsigned window = blockIdx.y; window < io.batch; window += gridDim.y) {
        const float *from =
            io.src + window * io.src_step + size_t(column) * d.stride * d.in_channels + group * in;
        float sum = 0;
        for (unsigned i = lane; i < d.kernel * in; i += 32)
            sum = fmaf(__ldg(w + size_t(i) * padded),
                       __ldg(from + size_t(i / in) * d.dilation * d.in_channels + i % in), sum);
        for (int k = 16; k > 0; k >>= 1)
            sum += __shfl_xor_sync(0xffffffffu, sum, k);
        if (lane == 0) {
            float v = sum + bias[o];
            if (io.residual)
                v += io.residual[window * io.residual_step + at];
            io.dst[window * io.dst_step + at] = gw_activate(d.act, v);
        }
    }
}

/* ---- A thread's stream, and device copies of what lies in host memory ---- */

struct desk {
    cudaStream_t stream;
    char *memory;
    size_t bytes, used;
    bool staged; /* the call has copied something */
    cudaError_t error;
};

static pthread_key_t desk_key;

static void desk_destroy(void *p)
{
    desk *k = static_cast<desk *>(p);
    cudaFree(k->memory);
    if (k->stream)
        cudaStreamDestroy(k->stream);
    free(k);
}

static void make_key()
{
    pthread_key_create(&desk_key, desk_destroy);
}

/* This thread's, empty; NULL when there is no memory. */
static desk *desk_get()
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, make_key);
    desk *k = static_cast<desk *>(pthread_getspecific(desk_key));
    if (!k) {
        k = static_cast<desk *>(calloc(1, sizeof *k));
        if (!k || cudaStreamCreateWithFlags(&k->stream, cudaStreamNonBlocking) != cudaSuccess) {
            free(k);
            return nullptr;
        }
        pthread_setspecific(desk_key, k);
    }
    k->used = 0;
    k->staged = false;
    k->error = cudaSuccess;
    return k;
}

static bool on_device(const void *p)
{
    cudaPointerAttributes a;
    if (cudaPointerGetAttributes(&a, p) == cudaSuccess)
        return a.type == cudaMemoryTypeDevice;
    cudaGetLastError(); /* memory that CUDA does not know is no error */
    return false;
}

/* Room for `floats` in all of the call's arrays (with 64 bytes between them). */
static void reserve(desk *k, size_t floats)
{
    const size_t bytes = (floats + 16 * 8) * sizeof(float);
    if (bytes <= k->bytes)
        return;
    void *p = nullptr;
    cudaStreamSynchronize(k->stream);
    cudaFree(k->memory);
    k->error = cudaMalloc(&p, bytes);
    k->memory = static_cast<char *>(p);
    k->bytes = k->error == cudaSuccess ? bytes : 0;
}

/* Where the device finds n floats: p itself, or a copy. */
static float *bring(desk *k, const float *p, size_t n)
{
    if (!p || on_device(p) || k->error != cudaSuccess)
        return const_cast<float *>(p);
    float *there = reinterpret_cast<float *>(k->memory + k->used);
    k->used += (n * sizeof(float) + 63) / 64 * 64;
    k->error = cudaMemcpyAsync(there, p, n * sizeof(float), cudaMemcpyHostToDevice, k->stream);
    k->staged = true;
    return there;
}

/* Back from the device what `bring` took there, and the call's status. */
static int give_back(desk *k, const float *there, float *p, size_t n, const char *what)
{
    if (k->error == cudaSuccess)
        k->error = cudaGetLastError();
    if (k->error == cudaSuccess && there != p)
        k->error = cudaMemcpyAsync(p, there, n * sizeof(float), cudaMemcpyDeviceToHost, k->stream);
    if (k->error == cudaSuccess && k->staged)
        k->error = cudaStreamSynchronize(k->stream);
    return gw_gpu_status(k->error, what);
}

int gw_cuda_wait(void)
{
    desk *k = desk_get();
    return k ? gw_gpu_status(cudaStreamSynchronize(k->stream), "waiting")
             : gw_fail(GW_ENOMEM, "GPU: no stream");
}

/* ---- The ops ---- */

struct gw_conv {
    gw_conv_desc d;
    float *weight, *bias; /* on the device */
};

static void conv_close(gw_conv **c)
{
    if (!*c)
        return;
    cudaFree((*c)->weight);
    cudaFree((*c)->bias);
    free(*c);
    *c = nullptr;
}

static int upload(float **to, const float *from, size_t n)
{
    void *p = nullptr;
    GW_GPU_TRY(cudaMalloc(&p, n * sizeof(float)), "weights");
    *to = static_cast<float *>(p);
    GW_GPU_TRY(cudaMemcpyAsync(p, from, n * sizeof(float), cudaMemcpyHostToDevice, nullptr), "weights");
    return gw_gpu_status(cudaStreamSynchronize(nullptr), "weights");
}

static int conv_open(gw_conv **out, const gw_conv_desc *d, const float *weight, const float *bias)
{
    *out = nullptr;
    GW_TRY(gw_conv_desc_check(d));
    const size_t in = d->in_channels / d->groups, each = d->out_channels / d->groups;
    const size_t padded = (each + TILE - 1) / TILE * TILE, n = d->groups * d->kernel * in * padded;
    gw_conv *c = static_cast<gw_conv *>(calloc(1, sizeof *c));
    float *host = static_cast<float *>(calloc(n + d->out_channels, sizeof *host));
    if (!c || !host) {
        free(c);
        free(host);
        return gw_fail(GW_ENOMEM, "convolution: no memory for %zu weights", n);
    }
    c->d = *d;
    for (size_t o = 0; o < d->out_channels; o++)
        for (size_t i = 0; i < in; i++)
            for (size_t k = 0; k < d->kernel; k++)
                host[((o / each * d->kernel + k) * in + i) * padded + o % each] =
                    weight[(o * in + i) * d->kernel + k];
    if (bias)
        memcpy(host + n, bias, d->out_channels * sizeof *bias);
    int err = upload(&c->weight, host, n);
    if (err == GW_OK)
        err = upload(&c->bias, host + n, d->out_channels);
    free(host);
    if (err != GW_OK) {
        conv_close(&c);
        return err;
    }
    *out = c;
    return GW_OK;
}

void gw_layer_conv(const gw_conv *c, const gw_conv_io *io, cudaStream_t s)
{
    const gw_conv_desc *d = &c->d;
    const unsigned in = d->in_channels / d->groups, tiles = (d->out_channels / d->groups + TILE - 1) / TILE,
                   windows = io->batch < 65535 ? io->batch : 65535;
    if (size_t(io->columns) * d->out_channels <= 64 && size_t(d->kernel) * in >= 64) {
        const dim3 grid((io->columns * d->out_channels + THREADS / 32 - 1) / (THREADS / 32), windows);
        GW_LAUNCH(convolve_few, grid, THREADS, 0, s, *d, *io, c->weight, c->bias);
        return;
    }
    unsigned lanes = MOST_LANES;
    while (lanes > 1 && lanes / 2 >= tiles)
        lanes /= 2;
    const unsigned columns = THREADS / lanes * TILE;
    const dim3 grid((io->columns + columns - 1) / columns, d->groups * ((tiles + lanes - 1) / lanes),
                    windows);
    const bool wide = in % 4 == 0 && d->in_channels % 4 == 0 && io->src_step % 4 == 0 &&
                      (reinterpret_cast<uintptr_t>(io->src) & 15) == 0;
    if (wide)
        GW_LAUNCH(convolve<true>, grid, THREADS, 0, s, *d, *io, c->weight, c->bias, lanes);
    else
        GW_LAUNCH(convolve<false>, grid, THREADS, 0, s, *d, *io, c->weight, c->bias, lanes);
}

static int conv_run(const gw_conv *c, const gw_conv_io *io)
{
    const gw_conv_desc *d = &c->d;
    desk *k = desk_get();
    if (!k)
        return gw_fail(GW_ENOMEM, "GPU: no stream");
    const size_t gaps = io->batch - 1, out_row = size_t(io->columns) * d->out_channels;
    const size_t n_src = gaps * io->src_step + size_t(gw_conv_in_columns(d, io->columns)) * d->in_channels;
    const size_t n_residual = gaps * io->residual_step + out_row, n_dst = gaps * io->dst_step + out_row;
    reserve(k, n_src + n_residual + n_dst);
    gw_conv_io there = *io;
    there.src = bring(k, io->src, n_src);
    there.residual = bring(k, io->residual, n_residual);
    there.dst = bring(k, io->dst, n_dst); /* with what lies between its windows */
    if (k->error != cudaSuccess)
        return gw_gpu_status(k->error, "convolution");
    gw_layer_conv(c, &there, k->stream);
    return give_back(k, there.dst, io->dst, n_dst, "convolution");
}

/* The others, on one window. `run` gets the arrays where the device finds them. */
template <class F>
static void alone(const char *what, const float *a, size_t n_a, const float *b, size_t n_b, float *dst,
                  size_t n, F run)
{
    desk *k = desk_get();
    if (!k || n == 0)
        return;
    reserve(k, n + n_a + n_b);
    const gw_place_array x = {bring(k, a, n_a), 0}, y = {bring(k, b, n_b), 0}, to = {bring(k, dst, n), 0};
    if (k->error == cudaSuccess)
        run(k->stream, x, y, to);
    give_back(k, to.x, dst, n, what);
}

static void join(gw_join kind, gw_act act, uint32_t columns, uint32_t channels, const float *a,
                 const float *b, size_t b_step, float *dst)
{
    const size_t n = size_t(columns) * channels;
    alone("join", a, n, b, b_step ? n : channels, dst, n,
          [=](cudaStream_t s, gw_place_array x, gw_place_array y, gw_place_array to) {
              gw_layer_join(s, 1, kind, act, columns, channels, x, y, b_step == 0, to);
          });
}

static void act(gw_act what, size_t n, const float *x, float *dst)
{
    alone("activation", x, n, nullptr, 0, dst, n,
          [=](cudaStream_t s, gw_place_array from, gw_place_array, gw_place_array to) {
              gw_layer_act(s, 1, what, n, from, to);
          });
}

static void mean(uint32_t columns, uint32_t span, uint32_t channels, const float *x, float *dst)
{
    alone("mean", x, (size_t(columns) + span - 1) * channels, nullptr, 0, dst, size_t(columns) * channels,
          [=](cudaStream_t s, gw_place_array from, gw_place_array, gw_place_array to) {
              gw_layer_mean(s, 1, columns, span, channels, from, to);
          });
}

static void pool(const gw_pool *p, const float *src, float *dst)
{
    alone("pool", src, size_t(p->in_columns) * p->channels, nullptr, 0, dst, size_t(p->columns) * p->channels,
          [=](cudaStream_t s, gw_place_array from, gw_place_array, gw_place_array to) {
              gw_layer_pool(s, 1, p, from, to);
          });
}

static void norm(const gw_norm *n, const float *x, const float *residual, float *dst)
{
    const size_t count = size_t(n->columns) * n->channels;
    desk *k = desk_get();
    if (!k || count == 0)
        return;
    reserve(k, 3 * count + 2 * size_t(n->channels));
    gw_norm there = *n;
    there.scale = bring(k, n->scale, n->channels);
    there.bias = bring(k, n->bias, n->channels);
    const gw_place_array from = {bring(k, x, count), 0}, add = {bring(k, residual, count), 0},
                         to = {bring(k, dst, count), 0};
    if (k->error == cudaSuccess)
        gw_layer_norm(k->stream, 1, &there, from, add, to);
    give_back(k, to.x, dst, count, "norm");
}

void gw_conv_cuda(gw_conv_ops *ops)
{
    ops->open = conv_open;
    ops->run = conv_run;
    ops->close = conv_close;
    ops->join = join;
    ops->act = act;
    ops->mean = mean;
    ops->pool = pool;
    ops->norm = norm;
}
