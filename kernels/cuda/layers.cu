/* SPDX-License-Identifier: GPL-3.0-or-later
 * The layers of a network that are no convolution, a batch in each launch. A block works on one window; what
 * it reads of it lies together. */
#include "kernels/cuda/act.cuh"
#include "kernels/cuda/layers.cuh"

#include <cmath>

enum { THREADS = 256 };

/* Blocks for n values of each window: enough to fill a device, few enough to start quickly. */
static dim3 grid_for(size_t n, unsigned count)
{
    const size_t blocks = (n + THREADS - 1) / THREADS, most = count > 8 ? 256 : 2048;
    return dim3(unsigned(blocks > most ? most : blocks > 0 ? blocks : 1), count < 65535 ? count : 65535);
}

/* Values of one window by all blocks of a row of the grid, windows by the rows. */
#define EACH_WINDOW(w, count) for (unsigned w = blockIdx.y; w < (count); w += gridDim.y)
#define EACH_VALUE(i, n)                                                                                     \
    for (size_t i = blockIdx.x * size_t(THREADS) + threadIdx.x; i < (n); i += gridDim.x * size_t(THREADS))

static __global__ void __launch_bounds__(THREADS)
    join_all(unsigned count, gw_join kind, gw_act act, size_t n, unsigned channels, gw_place_array a,
             gw_place_array b, bool b_is_row, gw_place_array dst)
{
    EACH_WINDOW(w, count)
    {
        const float *p = a.x + w * a.step, *q = b.x + w * b.step;
        float *to = dst.x + w * dst.step;
        EACH_VALUE(i, n)
        {
            const float x = p[i], y = q[b_is_row ? i % channels : i];
            to[i] = gw_activate(act, kind == GW_JOIN_ADD ? x + y : kind == GW_JOIN_SUB ? x - y : x * y);
        }
    }
}

void gw_layer_join(cudaStream_t s, unsigned count, gw_join kind, gw_act act, unsigned columns,
                   unsigned channels, gw_place_array a, gw_place_array b, bool one_column, gw_place_array dst)
{
    const size_t n = size_t(columns) * channels;
    GW_LAUNCH(join_all, grid_for(n, count), THREADS, 0, s, count, kind, act, n, channels, a, b, one_column,
              dst);
}

static __global__ void __launch_bounds__(THREADS)
    meet_all(unsigned count, gw_act act, unsigned columns, unsigned channels, const float *bias,
             gw_place_array a, unsigned a_channels, gw_place_array b, gw_place_array dst)
{
    EACH_WINDOW(w, count)
    EACH_VALUE(i, size_t(columns) * channels)
    {
        const unsigned c = unsigned(i % channels);
        float v = bias[c] + a.x[w * a.step + i / channels * a_channels + c];
        if (b.x)
            v += b.x[w * b.step + i];
        dst.x[w * dst.step + i] = gw_activate(act, v);
    }
}

void gw_layer_meet(cudaStream_t s, unsigned count, gw_act act, unsigned columns, unsigned channels,
                   const float *bias, gw_place_array a, unsigned a_channels, gw_place_array b,
                   gw_place_array dst)
{
    GW_LAUNCH(meet_all, grid_for(size_t(columns) * channels, count), THREADS, 0, s, count, act, columns,
              channels, bias, a, a_channels, b, dst);
}

static __global__ void __launch_bounds__(THREADS)
    activate_all(unsigned count, gw_act act, size_t n, gw_place_array x, gw_place_array dst)
{
    EACH_WINDOW(w, count)
    EACH_VALUE(i, n) dst.x[w * dst.step + i] = gw_activate(act, x.x[w * x.step + i]);
}

void gw_layer_act(cudaStream_t s, unsigned count, gw_act act, size_t n, gw_place_array x, gw_place_array dst)
{
    GW_LAUNCH(activate_all, grid_for(n, count), THREADS, 0, s, count, act, n, x, dst);
}

/* 32 values of a column by 8 shares of the span, which are added in order. */
static __global__ void __launch_bounds__(THREADS)
    mean_all(unsigned count, size_t n, unsigned span, unsigned channels, gw_place_array x, gw_place_array dst)
{
    enum { SIDE = 32, SHARES = THREADS / SIDE };
    GW_SHARED(float, part, THREADS);
    const unsigned lane = threadIdx.x % SIDE, share = threadIdx.x / SIDE;
    EACH_WINDOW(w, count)
    for (size_t first = blockIdx.x * size_t(SIDE); first < n; first += gridDim.x * size_t(SIDE)) {
        const size_t i = first + lane;
        const float *from = x.x + w * x.step + i;
        float sum = 0;
        for (unsigned k = share; k < span && i < n; k += SHARES)
            sum += from[size_t(k) * channels];
        part[threadIdx.x] = sum;
        __syncthreads();
        if (share == 0 && i < n) {
            for (unsigned k = 1; k < SHARES; k++)
                sum += part[k * SIDE + lane];
            dst.x[w * dst.step + i] = sum / float(span);
        }
        __syncthreads();
    }
}

void gw_layer_mean(cudaStream_t s, unsigned count, unsigned columns, unsigned span, unsigned channels,
                   gw_place_array x, gw_place_array dst)
{
    const size_t n = size_t(columns) * channels;
    GW_LAUNCH(mean_all, grid_for(n * (THREADS / 32), count), THREADS, 0, s, count, n, span, channels, x, dst);
}

static __global__ void __launch_bounds__(THREADS)
    pool_all(unsigned count, gw_pool p, gw_place_array src, gw_place_array dst)
{
    EACH_WINDOW(w, count)
    EACH_VALUE(i, size_t(p.columns) * p.channels)
    {
        const float *from = src.x + w * src.step + i % p.channels;
        const long long first = (long long)(i / p.channels) * p.stride - p.pad_left;
        float sum = 0, most = 0;
        unsigned seen = 0;
        for (unsigned k = 0; k < p.kernel; k++) {
            const long long column = first + (long long)k * p.dilation;
            if (column < 0 || column >= p.in_columns)
                continue;
            const float v = from[size_t(column) * p.channels];
            sum += v;
            most = seen == 0 || !(v <= most) ? v : most; /* a NaN is the largest */
            seen++;
        }
        dst.x[w * dst.step + i] = p.mean ? sum / float(p.count_padding ? p.kernel : seen) : most;
    }
}

void gw_layer_pool(cudaStream_t s, unsigned count, const gw_pool *p, gw_place_array src, gw_place_array dst)
{
    GW_LAUNCH(pool_all, grid_for(size_t(p->columns) * p->channels, count), THREADS, 0, s, count, *p, src,
              dst);
}

/* ---- Norm ---- */

/* The sum of v over the block, in one fixed order. */
static __device__ __forceinline__ double block_sum(double v, double *part)
{
    for (int d = 16; d > 0; d >>= 1)
        v += __shfl_xor_sync(0xffffffffu, v, d);
    if (threadIdx.x % 32 == 0)
        part[threadIdx.x / 32] = v;
    __syncthreads();
    v = 0;
    for (unsigned i = 0; i < THREADS / 32; i++)
        v += part[i];
    __syncthreads();
    return v;
}

/* A block a group of a window: mean, variance about it, and what becomes of both. With KEEP values or fewer
 * a thread they stay in registers: memory is read once. */
template <int KEEP>
static __global__ void __launch_bounds__(THREADS)
    norm_group(unsigned windows, gw_norm n, gw_place_array x, gw_place_array residual, gw_place_array dst)
{
    GW_SHARED(double, part, THREADS / 32);
    const unsigned each = n.channels / n.groups, first = blockIdx.x * each, count = each * n.columns;
    const auto at = [=](unsigned i) { return size_t(i / each) * n.channels + first + i % each; };
    EACH_WINDOW(w, windows)
    {
        const float *from = x.x + w * x.step, *add = residual.x ? residual.x + w * residual.step : nullptr;
        float *to = dst.x + w * dst.step, kept[KEEP + 1];
        double sum = 0, square = 0;
        if (KEEP) {
            GW_UNROLL
            for (int k = 0; k < KEEP; k++) {
                const unsigned i = unsigned(k) * THREADS + threadIdx.x;
                kept[k] = i < count ? from[at(i)] : 0;
                sum += double(kept[k]);
            }
        } else {
            for (unsigned i = threadIdx.x; i < count; i += THREADS)
                sum += double(from[at(i)]);
        }
        const double mean = block_sum(sum, part) / count;
        if (KEEP) {
            GW_UNROLL
            for (int k = 0; k < KEEP; k++) {
                const double away = unsigned(k) * THREADS + threadIdx.x < count ? double(kept[k]) - mean : 0;
                square += away * away;
            }
        } else {
            for (unsigned i = threadIdx.x; i < count; i += THREADS) {
                const double away = double(from[at(i)]) - mean;
                square += away * away;
            }
        }
        const double scale = 1 / sqrt(block_sum(square, part) / count + double(n.epsilon));
        const auto finish = [&](unsigned i, float value) {
            const unsigned channel = first + i % each;
            float v = fmaf(float((double(value) - mean) * scale), n.scale[channel], n.bias[channel]);
            if (add)
                v += add[at(i)];
            to[at(i)] = gw_activate(n.act, v);
        };
        if (KEEP) {
            GW_UNROLL
            for (int k = 0; k < KEEP; k++)
                if (unsigned(k) * THREADS + threadIdx.x < count)
                    finish(unsigned(k) * THREADS + threadIdx.x, kept[k]);
        } else {
            for (unsigned i = threadIdx.x; i < count; i += THREADS)
                finish(i, from[at(i)]);
        }
    }
}

void gw_layer_norm(cudaStream_t s, unsigned count, const gw_norm *n, gw_place_array x,
                   gw_place_array residual, gw_place_array dst)
{
    const dim3 grid(n->groups, count < 65535 ? count : 65535);
    const size_t values = size_t(n->channels / n->groups) * n->columns;
    if (values <= 4 * THREADS)
        GW_LAUNCH(norm_group<4>, grid, THREADS, 0, s, count, *n, x, residual, dst);
    else if (values <= 16 * THREADS)
        GW_LAUNCH(norm_group<16>, grid, THREADS, 0, s, count, *n, x, residual, dst);
    else
        GW_LAUNCH(norm_group<0>, grid, THREADS, 0, s, count, *n, x, residual, dst);
}

/* ---- Moves ---- */

static __global__ void __launch_bounds__(THREADS)
    copy_all(unsigned count, unsigned columns, unsigned channels, gw_place_array from, unsigned from_channels,
             gw_place_array to, unsigned to_channels)
{
    EACH_WINDOW(w, count)
    EACH_VALUE(i, size_t(columns) * channels)
    to.x[w * to.step + i / channels * to_channels + i % channels] =
        from.x[w * from.step + i / channels * from_channels + i % channels];
}

void gw_layer_copy(cudaStream_t s, unsigned count, unsigned columns, unsigned channels, gw_place_array from,
                   unsigned from_channels, gw_place_array to, unsigned to_channels)
{
    GW_LAUNCH(copy_all, grid_for(size_t(columns) * channels, count), THREADS, 0, s, count, columns, channels,
              from, from_channels, to, to_channels);
}

static __global__ void __launch_bounds__(THREADS)
    zero_all(unsigned count, gw_place_array a, size_t n, size_t between, size_t after)
{
    EACH_WINDOW(w, count)
    EACH_VALUE(i, n + after) a.x[w * a.step + (i < n ? i : i + between)] = 0;
}

void gw_layer_zero(cudaStream_t s, unsigned count, gw_place_array a, size_t n, size_t between, size_t after)
{
    GW_LAUNCH(zero_all, grid_for(n + after, count), THREADS, 0, s, count, a, n, between, after);
}

enum { PASTS = 32 };
struct pasts {
    gw_place_past at[PASTS];
};

/* A block a buffer of a window. It reads a piece, waits, writes it: what a later piece reads lies further up
 * than anything written yet. */
static __global__ void __launch_bounds__(THREADS) keep_all(unsigned count, pasts p)
{
    const gw_place_past *b = &p.at[blockIdx.x];
    EACH_WINDOW(w, count)
    {
        float *start = b->start.x + w * b->start.step;
        for (size_t first = 0; first < b->past; first += 4 * THREADS) {
            float piece[4];
            GW_UNROLL
            for (unsigned k = 0; k < 4; k++) {
                const size_t i = first + k * THREADS + threadIdx.x;
                piece[k] = i < b->past ? start[i + b->fresh] : 0;
            }
            __syncthreads();
            GW_UNROLL
            for (unsigned k = 0; k < 4; k++) {
                const size_t i = first + k * THREADS + threadIdx.x;
                if (i < b->past)
                    start[i] = piece[k];
            }
            __syncthreads();
        }
    }
}

void gw_layer_keep(cudaStream_t s, unsigned count, const gw_place_past *past, int n)
{
    for (int first = 0; first < n; first += PASTS) {
        const int some = n - first < PASTS ? n - first : int(PASTS);
        pasts p = {};
        for (int i = 0; i < some; i++)
            p.at[i] = past[first + i];
        GW_LAUNCH(keep_all, dim3(unsigned(some), count < 65535 ? count : 65535), THREADS, 0, s, count, p);
    }
}
