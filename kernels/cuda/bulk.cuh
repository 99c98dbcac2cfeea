/* SPDX-License-Identifier: GPL-3.0-or-later
 * What the kernels of bulk whitening share: how a channel lies in the device's memory, what is told to a
 * kernel, and the steps that both forms (bulk.cu: one fused kernel; bulk_fft.cu: cuFFT) do alike. */
#ifndef GW_BULK_CUH
#define GW_BULK_CUH

#include "kernels/cuda/fft.cuh"
#include "kernels/cuda/ptx.cuh"

#include <cmath>
#include <cuda_fp16.h>

extern "C" {
#include "kernels/bulk.h"
}

/* A channel's state: this, then past [n_past], PSD [n_bins], median_of rows of powers [n_bins], with n_bins
 * the PSD's bins rounded up to 4. */
struct gw_gpu_state {
    long long next;       /* the sample expected next; LLONG_MIN: any */
    long long past_from;  /* first sample since the last hole */
    long long clean_from; /* first one that may be in a segment */
    unsigned averaged;    /* segments or medians in the PSD */
    unsigned collected;   /* segments waiting for their median */
    unsigned free[8];
};
static_assert(sizeof(gw_gpu_state) == 64, "what follows it is aligned");

/* A response: this, then n_freq bins as float2, or as __half2 times 1 / gain. */
struct gw_gpu_response {
    float gain;
    float free[15];
};

struct gw_gpu_channel { /* one channel of a call, told to the device */
    gw_gpu_state *state;
    const gw_gpu_response *response, *fading;
    float scale;
    unsigned free;
};

struct gw_gpu_said { /* and what it says */
    float peak, low, high;
    unsigned finite : 1, whole : 1, entered : 1;
};

/* What a call tells a kernel. */
struct gw_gpu_call {
    const gw_gpu_channel *channels; /* [n] */
    gw_gpu_said *said;              /* [n] */
    unsigned n;
    long long sample0;
    const float *x; /* 8-byte aligned, as is each row */
    float *y;
    size_t x_stride, y_stride;
    float *spare;       /* [gridDim.x][n_bins] */
    bool segment, last; /* a segment is the window itself; nobody follows who ends the step */
};

/* The shape, with what follows from it. */
struct gw_gpu_shape {
    unsigned hop, decimate, n_taps;
    unsigned n;      /* points of the window's transform: the hop and what is before it */
    unsigned n_past; /* samples kept; a multiple of 4 */
    unsigned n_freq; /* bins of a response: n / 2 / decimate + 1 */
    unsigned segment, pool, median_of, memory, psd_bins, n_bins;
    float gate, density; /* power -> (unit)^2 / Hz of a bin that stands for two */
    float bias;
    bool half;
    gw_roots roots;
};

static __device__ __forceinline__ float *gw_past(gw_gpu_state *s)
{
    return reinterpret_cast<float *>(s + 1);
}

static __device__ __forceinline__ float *gw_psd(const gw_gpu_shape &p, gw_gpu_state *s)
{
    return gw_past(s) + p.n_past;
}

static __device__ __forceinline__ float2 gw_bin(const gw_gpu_shape &p, const gw_gpu_response *r, unsigned k)
{
    if (!p.half)
        return __ldg(reinterpret_cast<const float2 *>(r + 1) + k);
    const float2 w = __half22float2(reinterpret_cast<const __half2 *>(r + 1)[k]);
    return make_float2(r->gain * w.x, r->gain * w.y);
}

/* Samples i and i + 1 of a window that ends with the hop, of which `before` samples are the past (or zeros:
 * beyond what is kept, and behind a hole); scaled. i and before are even. */
static __device__ __forceinline__ float2 gw_sample2(const gw_gpu_shape &p, const gw_gpu_channel &c,
                                                    const float *x, bool hole, unsigned before, unsigned i)
{
    if (i >= before) {
        const float2 v = *reinterpret_cast<const float2 *>(x + (i - before));
        return make_float2(v.x * c.scale, v.y * c.scale);
    }
    if (!hole && before - i <= p.n_past)
        return *reinterpret_cast<const float2 *>(gw_past(c.state) + (p.n_past - (before - i)));
    return make_float2(0, 0);
}

/* ---- Over the block; n_threads is a multiple of 32 ---- */

static __device__ __forceinline__ float gw_block_max(float v, float *shared)
{
    for (int d = 16; d > 0; d >>= 1)
        v = fmaxf(v, __shfl_xor_sync(0xffffffffu, v, d));
    if (threadIdx.x % 32 == 0)
        shared[threadIdx.x / 32] = v;
    __syncthreads();
    v = shared[0];
    for (unsigned i = 1; i < blockDim.x / 32; i++)
        v = fmaxf(v, shared[i]);
    __syncthreads();
    return v;
}

/* ---- The PSD ---- */

/* |Hann X|^2 of bins [first, end) summed, one-sided: Hann is -1/4, 1/2, -1/4 over bins, and bin 0 counts as
 * zero, which takes the segment's mean away. x(k): bin k of the segment's transform, 0 <= k <= half. */
template <class Bin>
static __device__ __forceinline__ float gw_hann_power(unsigned half, unsigned first, unsigned end, Bin x)
{
    float sum = 0;
    for (unsigned k = first; k < end; k++) {
        const float2 zero = make_float2(0, 0);
        const float2 at = k == 0 ? zero : x(k);
        const float2 before = k == 0 ? gw_conj(x(1)) : k == 1 ? zero : x(k - 1);
        const float2 after = k == half ? gw_conj(x(k - 1)) : x(k + 1);
        const float re = 0.5f * at.x - 0.25f * (before.x + after.x);
        const float im = 0.5f * at.y - 0.25f * (before.y + after.y);
        sum += (k == 0 || k == half ? 0.5f : 1.0f) * fmaf(re, re, im * im);
    }
    return sum;
}

/* Where the powers of the next segment go: the median's next row, or `spare`. */
static __device__ __forceinline__ float *gw_power_row(const gw_gpu_shape &p, gw_gpu_state *s,
                                                      unsigned collected, float *spare)
{
    return p.median_of ? gw_psd(p, s) + (1 + collected) * p.n_bins : spare;
}

/* Pooled powers of a segment -> power[psd_bins]. */
template <class Bin>
static __device__ __forceinline__ void gw_segment_power(const gw_gpu_shape &p, float *power, Bin x)
{
    const unsigned half = p.segment / 2;
    for (unsigned b = threadIdx.x; b < p.psd_bins; b += blockDim.x) {
        const unsigned first = b * p.pool, end = min(first + p.pool, half + 1);
        power[b] = gw_hann_power(half, first, end, x) * p.density / float(end - first);
    }
}

/* The middle one of n values, n odd and small: the one that has as many below as above. */
static __device__ float gw_median(const float *row, unsigned n, unsigned stride)
{
    for (unsigned i = 0; i < n; i++) {
        const float v = row[i * stride];
        unsigned below = 0, same = 0;
        for (unsigned j = 0; j < n; j++) {
            below += row[j * stride] < v;
            same += row[j * stride] == v;
        }
        if (below <= n / 2 && n / 2 < below + same)
            return v;
    }
    return row[0];
}

/* The segment whose powers this block has written to gw_power_row enters the average. Each thread deals with
 * the bins that it wrote. averaged and collected are the thread's own copies of the state's. */
static __device__ __forceinline__ void gw_enter(const gw_gpu_shape &p, gw_gpu_state *s, const float *spare,
                                                unsigned &averaged, unsigned &collected)
{
    float *psd = gw_psd(p, s);
    if (p.median_of && ++collected < p.median_of)
        return;
    collected = 0;
    averaged += averaged < UINT32_MAX;
    const float weight = 1.0f / float(min(averaged, p.memory));
    for (unsigned b = threadIdx.x; b < p.psd_bins; b += blockDim.x) {
        const float power =
            p.median_of ? gw_median(psd + p.n_bins + b, p.median_of, p.n_bins) / p.bias : spare[b];
        psd[b] = averaged > 1 ? fmaf(weight, power - psd[b], psd[b]) : power;
    }
}

/* ---- Responses ---- */

/* x(k), k < n_freq, with no part beyond `most`, becomes a response. */
template <class Bin>
static __device__ __forceinline__ void gw_keep_response(const gw_gpu_shape &p, float most, Bin x,
                                                        gw_gpu_response *w)
{
    const float gain = p.half && most > 0 ? exp2f(ceilf(log2f(most))) : 1; /* half has few exponents */
    for (unsigned k = threadIdx.x; k < p.n_freq; k += blockDim.x) {
        const float2 v = x(k);
        if (p.half)
            reinterpret_cast<__half2 *>(w + 1)[k] = __floats2half2_rn(v.x / gain, v.y / gain);
        else
            reinterpret_cast<float2 *>(w + 1)[k] = v;
    }
    if (threadIdx.x == 0)
        w->gain = gain;
}

/* ---- The past ---- */

/* past := the last n_past of past and hop. Moves forward in pieces, each read by all before it is written. */
static __device__ __forceinline__ void gw_move_past(const gw_gpu_shape &p, const gw_gpu_channel &c,
                                                    const float *x, bool hole)
{
    float2 *past = reinterpret_cast<float2 *>(gw_past(c.state));
    for (unsigned at = 0; at < p.n_past / 2; at += blockDim.x) {
        const unsigned i = at + threadIdx.x;
        float2 v = make_float2(0, 0);
        if (i < p.n_past / 2)
            v = gw_sample2(p, c, x, hole, p.n_past, 2 * i + p.hop);
        if (p.hop < p.n_past)
            __syncthreads();
        if (i < p.n_past / 2)
            past[i] = v;
    }
}

#endif
