/* SPDX-License-Identifier: GPL-3.0-or-later
 * Network layers on the GPU: an own direct convolution in fp32 for every shape, and the ops round it. Sums in
 * float over taps and channels in one fixed order (norms in double), so a result depends neither on the batch
 * nor on the place in it.
 *
 * Arrays may be in device memory: then a call enqueues on this thread's stream and returns (gw_cuda_wait).
 * Arrays in host memory are copied there and back in the call: right, and for the harness, not fast. */
#include "kernels/cuda/gpu.cuh"

extern "C" {
#include "kernels/cuda/cuda.h"
}

#include <cmath>
#include <cstdlib>
#include <cstring>
#include <pthread.h>

enum { THREADS = 128, TILE = 4 /* columns and output channels of a thread */, MOST_LANES = 8 };

/* ---- Kernels ---- */

static __device__ __forceinline__ float activate(gw_act act, float x)
{
    switch (act.kind) {
    case GW_ACT_RELU:
        return x < 0 ? 0 : x;
    case GW_ACT_TANH:
        return tanhf(x);
    case GW_ACT_SIGMOID:
        return 1 / (1 + expf(-x));
    case GW_ACT_LEAKY_RELU:
        return x < 0 ? act.a * x : x;
    case GW_ACT_ELU:
        return x < 0 ? act.a * expm1f(x) : x;
    case GW_ACT_SILU:
        return x / (1 + expf(-x));
    case GW_ACT_GELU:
        return 0.5f * x * erfcf(-0.70710678118654752f * x);
    case GW_ACT_SOFTPLUS:
        return fmaxf(x, 0) + log1pf(expf(-fabsf(x)));
    case GW_ACT_CLIP:
        return x < act.a ? act.a : x > act.b ? act.b : x;
    default:
        return x;
    }
}

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
                io.dst[window * io.dst_step + to] = activate(d.act, v);
            }
        }
    }
}

static __global__ void __launch_bounds__(THREADS)
    join_all(gw_join kind, gw_act act, size_t n, unsigned channels, const float *a, const float *b,
             bool b_is_row, float *dst)
{
    for (size_t i = blockIdx.x * size_t(THREADS) + threadIdx.x; i < n; i += gridDim.x * size_t(THREADS)) {
        const float x = a[i], y = b[b_is_row ? i % channels : i];
        dst[i] = activate(act, kind == GW_JOIN_ADD ? x + y : kind == GW_JOIN_SUB ? x - y : x * y);
    }
}

static __global__ void __launch_bounds__(THREADS)
    activate_all(gw_act act, size_t n, const float *x, float *dst)
{
    for (size_t i = blockIdx.x * size_t(THREADS) + threadIdx.x; i < n; i += gridDim.x * size_t(THREADS))
        dst[i] = activate(act, x[i]);
}

static __global__ void __launch_bounds__(THREADS)
    mean_all(size_t n, unsigned span, unsigned channels, const float *x, float *dst)
{
    for (size_t i = blockIdx.x * size_t(THREADS) + threadIdx.x; i < n; i += gridDim.x * size_t(THREADS)) {
        float sum = 0;
        for (unsigned k = 0; k < span; k++)
            sum += x[i + size_t(k) * channels];
        dst[i] = sum / float(span);
    }
}

static __global__ void __launch_bounds__(THREADS) pool_all(gw_pool p, const float *src, float *dst)
{
    const size_t n = size_t(p.columns) * p.channels;
    for (size_t i = blockIdx.x * size_t(THREADS) + threadIdx.x; i < n; i += gridDim.x * size_t(THREADS)) {
        const unsigned channel = unsigned(i % p.channels);
        const long long first = (long long)(i / p.channels) * p.stride - p.pad_left;
        float sum = 0, most = 0;
        unsigned seen = 0;
        for (unsigned k = 0; k < p.kernel; k++) {
            const long long column = first + (long long)k * p.dilation;
            if (column < 0 || column >= p.in_columns)
                continue;
            const float v = src[size_t(column) * p.channels + channel];
            sum += v;
            most = seen == 0 || !(v <= most) ? v : most; /* a NaN is the largest */
            seen++;
        }
        dst[i] = p.mean ? sum / float(p.count_padding ? p.kernel : seen) : most;
    }
}

/* The sum of v over the block, in one fixed order. */
static __device__ __forceinline__ double block_sum(double v, double *part)
{
    for (int d = 16; d > 0; d >>= 1)
        v += __shfl_xor_sync(0xffffffffu, v, d);
    if (threadIdx.x % 32 == 0)
        part[threadIdx.x / 32] = v;
    __syncthreads();
    v = 0;
    for (unsigned i = 0; i < blockDim.x / 32; i++)
        v += part[i];
    __syncthreads();
    return v;
}

/* A block a group: mean, variance about it, and what becomes of both. */
static __global__ void __launch_bounds__(THREADS)
    norm_group(gw_norm n, const float *x, const float *residual, float *dst)
{
    GW_SHARED(double, part, THREADS / 32);
    const unsigned each = n.channels / n.groups, first = blockIdx.x * each, count = each * n.columns;
    const auto at = [=](unsigned i) { return size_t(i / each) * n.channels + first + i % each; };
    double sum = 0, square = 0;
    for (unsigned i = threadIdx.x; i < count; i += THREADS)
        sum += double(x[at(i)]);
    const double mean = block_sum(sum, part) / count;
    for (unsigned i = threadIdx.x; i < count; i += THREADS) {
        const double away = double(x[at(i)]) - mean;
        square += away * away;
    }
    const double scale = 1 / sqrt(block_sum(square, part) / count + double(n.epsilon));
    for (unsigned i = threadIdx.x; i < count; i += THREADS) {
        const unsigned channel = first + i % each;
        float v = fmaf(float((double(x[at(i)]) - mean) * scale), n.scale[channel], n.bias[channel]);
        if (residual)
            v += residual[at(i)];
        dst[at(i)] = activate(n.act, v);
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

static unsigned blocks_for(size_t n)
{
    const size_t blocks = (n + THREADS - 1) / THREADS;
    return unsigned(blocks > 4096 ? 4096 : blocks > 0 ? blocks : 1);
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

    const unsigned in = d->in_channels / d->groups, tiles = (d->out_channels / d->groups + TILE - 1) / TILE;
    unsigned lanes = MOST_LANES;
    while (lanes > 1 && lanes / 2 >= tiles)
        lanes /= 2;
    const unsigned columns = THREADS / lanes * TILE;
    const dim3 grid((io->columns + columns - 1) / columns, d->groups * ((tiles + lanes - 1) / lanes),
                    io->batch < 65535 ? io->batch : 65535);
    const bool wide = in % 4 == 0 && d->in_channels % 4 == 0 && there.src_step % 4 == 0 &&
                      (reinterpret_cast<uintptr_t>(there.src) & 15) == 0;
    if (wide)
        GW_LAUNCH(convolve<true>, grid, THREADS, 0, k->stream, *d, there, c->weight, c->bias, lanes);
    else
        GW_LAUNCH(convolve<false>, grid, THREADS, 0, k->stream, *d, there, c->weight, c->bias, lanes);
    return give_back(k, there.dst, io->dst, n_dst, "convolution");
}

static void join(gw_join kind, gw_act act, uint32_t columns, uint32_t channels, const float *a,
                 const float *b, size_t b_step, float *dst)
{
    const size_t n = size_t(columns) * channels, n_b = b_step ? n : channels;
    desk *k = desk_get();
    if (!k || n == 0)
        return;
    reserve(k, 2 * n + n_b);
    const float *a_there = bring(k, a, n), *b_there = bring(k, b, n_b);
    float *dst_there = bring(k, dst, n);
    if (k->error == cudaSuccess)
        GW_LAUNCH(join_all, blocks_for(n), THREADS, 0, k->stream, kind, act, n, channels, a_there, b_there,
                  b_step == 0, dst_there);
    give_back(k, dst_there, dst, n, "join");
}

static void act(gw_act what, size_t n, const float *x, float *dst)
{
    desk *k = desk_get();
    if (!k || n == 0)
        return;
    reserve(k, 2 * n);
    const float *x_there = bring(k, x, n);
    float *dst_there = bring(k, dst, n);
    if (k->error == cudaSuccess)
        GW_LAUNCH(activate_all, blocks_for(n), THREADS, 0, k->stream, what, n, x_there, dst_there);
    give_back(k, dst_there, dst, n, "activation");
}

static void mean(uint32_t columns, uint32_t span, uint32_t channels, const float *x, float *dst)
{
    const size_t n = size_t(columns) * channels, n_x = (size_t(columns) + span - 1) * channels;
    desk *k = desk_get();
    if (!k || n == 0)
        return;
    reserve(k, n + n_x);
    const float *x_there = bring(k, x, n_x);
    float *dst_there = bring(k, dst, n);
    if (k->error == cudaSuccess)
        GW_LAUNCH(mean_all, blocks_for(n), THREADS, 0, k->stream, n, span, channels, x_there, dst_there);
    give_back(k, dst_there, dst, n, "mean");
}

static void pool(const gw_pool *p, const float *src, float *dst)
{
    const size_t n = size_t(p->columns) * p->channels, n_src = size_t(p->in_columns) * p->channels;
    desk *k = desk_get();
    if (!k || n == 0)
        return;
    reserve(k, n + n_src);
    const float *src_there = bring(k, src, n_src);
    float *dst_there = bring(k, dst, n);
    if (k->error == cudaSuccess)
        GW_LAUNCH(pool_all, blocks_for(n), THREADS, 0, k->stream, *p, src_there, dst_there);
    give_back(k, dst_there, dst, n, "pool");
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
    const float *x_there = bring(k, x, count), *residual_there = bring(k, residual, count);
    float *dst_there = bring(k, dst, count);
    if (k->error == cudaSuccess)
        GW_LAUNCH(norm_group, n->groups, THREADS, 0, k->stream, there, x_there, residual_there, dst_there);
    give_back(k, dst_there, dst, count, "norm");
}

void gw_conv_cuda(gw_conv_ops *ops)
{
    *ops = {conv_open, conv_run, conv_close, join, act, mean, pool, norm};
}
