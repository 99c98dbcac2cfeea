/* SPDX-License-Identifier: GPL-3.0-or-later
 * What the kernels of bulk whitening share: how a channel lies in the device's memory, what is told to a
 * kernel, and the steps that both forms (bulk_fused.cuh: in shared memory; bulk_fft.cu: cuFFT) do alike: how
 * a hop begins, how its output is judged, how the PSD is averaged. Device memory is read and written in 16
 * bytes a thread wherever rows allow it. */
#ifndef GW_BULK_CUH
#define GW_BULK_CUH

#include "kernels/cuda/fft.cuh"
#include "kernels/cuda/ptx.cuh"

#include <cfloat>
#include <climits>
#include <cmath>
#include <cstring>
#include <cuda_fp16.h>

extern "C" {
#include "kernels/bulk.h"
}

enum { GW_GPU_LEVELS = 2 };

/* A channel's state: this, then floats: the past [n_past], a ring where sample t lies at t % n_past; spectra
 * of the levels; two tails; the PSD and median_of rows of powers [n_bins] each. */
struct gw_gpu_state {
    long long next;         /* the sample expected next; LLONG_MIN: any */
    long long past_from;    /* first sample since the last hole */
    long long clean_from;   /* first one that may be in a segment */
    long long opens;        /* the gate is shut until this output sample; LLONG_MIN: open */
    const void *tail_of[2]; /* the responses whose tails of the present block are there */
    float scale;            /* of the last good hop; 0: there was none */
    unsigned averaged;      /* segments or medians in the PSD */
    unsigned collected;     /* segments waiting for their median */
    unsigned free;
};
static_assert(sizeof(gw_gpu_state) == 64, "what follows it is aligned");

/* A response: this, then bins. Fused: of each partition slot k holds bins k and m - k, side by side because
 * the real transform needs them together, and slot 0 the real bins 0 and m and bin m / 2; 16 bytes, or 8 in
 * half precision. By cuFFT: n_freq bins. Halves are times 1 / gain. */
struct gw_gpu_response {
    float gain;
    float free[15];
};

/* Partitions of equal length, as in kernels/cpu/bulk.c. */
struct gw_gpu_level {
    unsigned block; /* samples of a partition: of level 0 the hop, or all taps of a filter in one */
    unsigned n;     /* points of its transform */
    unsigned parts;
    unsigned first;      /* tap with which it begins */
    unsigned kept;       /* spectra of blocks in the state, block b at b % kept; [n] floats each */
    unsigned spectra_at; /* floats from the state's past */
    unsigned slots_at;   /* of a response */
};

/* The shape, with what follows from it. */
struct gw_gpu_shape {
    gw_gpu_level level[GW_GPU_LEVELS]; /* [0] is the window of cuFFT's form as well */
    unsigned n_levels;
    unsigned hop, decimate, n_taps, n_out;
    unsigned m_out;           /* complex points of level 0's inverse */
    unsigned skip;            /* the inverse is at the full rate: of its samples every skip-th is an output */
    unsigned n_past;          /* samples kept; a multiple of 4 */
    unsigned tail_at, psd_at; /* floats from the state's past */
    unsigned n_freq;          /* cuFFT: bins of a response, n / 2 / decimate + 1 */
    unsigned segment, pool, median_of, memory, psd_bins, n_bins;
    float gate, density; /* power -> (unit)^2 / Hz of a bin that stands for two */
    float bias;
    bool half;
    unsigned dead_run, taper;
    gw_roots roots;
};

/* What a call tells a kernel. */
struct gw_gpu_call {
    gw_bulk_channel *channels; /* [n]; what is said stands in them, too */
    unsigned n;
    long long sample0, next;
    const float *x; /* rows 16-byte aligned */
    float *y;
    size_t x_stride, y_stride;
    float *spare;                /* [gridDim.x][n_bins] */
    unsigned ring_at;            /* sample0 % n_past */
    unsigned ring_to;            /* where in the past the first sample of this hop lies that is kept */
    unsigned row[GW_GPU_LEVELS]; /* number of the block under way at each level, % kept */
    bool segment;                /* a segment that is this kernel's window ends with this hop */
};

static __device__ __forceinline__ float *gw_past(const gw_gpu_state *s)
{
    return reinterpret_cast<float *>(const_cast<gw_gpu_state *>(s) + 1);
}

static __device__ __forceinline__ float *gw_psd(const gw_gpu_shape &p, gw_gpu_state *s)
{
    return gw_past(s) + p.psd_at;
}

static __device__ __forceinline__ float4 gw_zero4()
{
    return {0, 0, 0, 0};
}

static __device__ __forceinline__ float4 *gw_four(float *p)
{
    return reinterpret_cast<float4 *>(p);
}

static __device__ __forceinline__ const float4 *gw_four(const float *p)
{
    return reinterpret_cast<const float4 *>(p);
}

/* ---- A hop of a channel ---- */

/* A channel as this hop finds it: each thread's own copy of what the state says. */
struct gw_gpu_now {
    gw_gpu_state *state;
    const gw_gpu_response *response, *fading;
    long long past_from, clean_from, opens;
    unsigned averaged, collected;
    float scale; /* 0: not known yet */
    bool hole;
};

static __device__ __forceinline__ gw_gpu_now gw_now(const gw_gpu_call &call, const gw_bulk_channel &c)
{
    gw_gpu_state *s = static_cast<gw_gpu_state *>(c.state);
    gw_gpu_now now = {s,
                      static_cast<const gw_gpu_response *>(c.response),
                      static_cast<const gw_gpu_response *>(c.response ? c.fading : nullptr),
                      s->past_from,
                      s->clean_from,
                      s->opens,
                      s->averaged,
                      s->collected,
                      c.scale != 0 ? c.scale : s->scale,
                      s->next != call.sample0 || c.forget != GW_BULK_KEEP};
    if (c.forget == GW_BULK_FORGET_ALL) {
        now.averaged = now.collected = 0;
        now.scale = c.scale;
    }
    if (now.hole) {
        now.past_from = now.clean_from = call.sample0;
        now.opens = LLONG_MIN;
    }
    return now;
}

/* Samples i to i + 3 of a window that ends with the hop, of which `before` samples are the past; i and before
 * are multiples of 4. Those of the hop are not scaled yet. */
static __device__ __forceinline__ float4 gw_window4(const gw_gpu_shape &p, const gw_gpu_call &call,
                                                    const gw_gpu_now &now, const float *x, unsigned before,
                                                    unsigned i)
{
    if (i >= before)
        return *gw_four(x + (i - before));
    const unsigned back = before - i;
    if (back > p.n_past || call.sample0 - (long long)back < now.past_from)
        return gw_zero4();
    return *gw_four(gw_past(now.state) + (call.ring_at + (back > call.ring_at ? p.n_past : 0) - back));
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

/* What a block shares while it judges a hop. */
struct gw_gpu_judge {
    float low[32], high[32];
    unsigned hits[2];
    unsigned verdict;
};

/* What a thread has seen of the hop's samples, as they came. */
struct gw_gpu_seen {
    float low, high; /* low is -infinity where one is not finite */
    bool alike;      /* four aligned ones were all the same */
};

static __device__ __forceinline__ void gw_see(gw_gpu_seen &seen, float4 v)
{
    const bool ok =
        fabsf(v.x) <= FLT_MAX && fabsf(v.y) <= FLT_MAX && fabsf(v.z) <= FLT_MAX && fabsf(v.w) <= FLT_MAX;
    seen.low = ok ? fminf(seen.low, fminf(fminf(v.x, v.y), fminf(v.z, v.w))) : -INFINITY;
    seen.high = fmaxf(seen.high, fmaxf(fmaxf(v.x, v.y), fmaxf(v.z, v.w)));
    seen.alike = seen.alike || (v.x == v.y && v.y == v.z && v.z == v.w);
}

/* First barrier of judging: `seen` becomes the block's. */
static __device__ __forceinline__ void gw_see_all(gw_gpu_seen &seen, gw_gpu_judge *j)
{
    for (int d = 16; d > 0; d >>= 1) {
        seen.low = fminf(seen.low, __shfl_xor_sync(0xffffffffu, seen.low, d));
        seen.high = fmaxf(seen.high, __shfl_xor_sync(0xffffffffu, seen.high, d));
    }
    if (threadIdx.x % 32 == 0) {
        j->low[threadIdx.x / 32] = seen.low;
        j->high[threadIdx.x / 32] = seen.high;
    }
    if (threadIdx.x == 0)
        j->hits[0] = j->hits[1] = 0;
    seen.alike = __syncthreads_or(seen.alike) != 0;
    for (unsigned i = 0; i < blockDim.x / 32; i++) {
        seen.low = fminf(seen.low, j->low[i]);
        seen.high = fmaxf(seen.high, j->high[i]);
    }
}

/* Second: how many samples are the least or the greatest; low and high: this thread's count of them. The
 * verdict, for all. Behind it there is a barrier. */
static __device__ __forceinline__ unsigned gw_judge_all(const gw_gpu_shape &p, const float *x,
                                                        const gw_gpu_seen &seen, float scale, unsigned low,
                                                        unsigned high, gw_gpu_judge *j)
{
    enum { SUSPICIOUS = 5 }; /* bulk_health.h */
    if (low)
        atomicAdd(&j->hits[0], low);
    if (high)
        atomicAdd(&j->hits[1], high);
    __syncthreads();
    if (!(fmaxf(fabsf(seen.low), fabsf(seen.high)) * scale <= GW_BULK_LIMIT))
        return GW_BULK_NAN;
    if (p.dead_run == 0 || !(seen.alike || j->hits[0] >= SUSPICIOUS || j->hits[1] >= SUSPICIOUS))
        return GW_BULK_GOOD;
    if (threadIdx.x == 0) /* alone: seldom, and the rule is one for all machines */
        j->verdict = gw_bulk_judge(x, p.hop, p.dead_run);
    __syncthreads();
    return j->verdict;
}

/* The gate over y[n_out]: returns how often it shut. Thread t looks after the t-th piece. */
static __device__ unsigned gw_gate(const gw_gpu_shape &p, long long first, float *y, long long &opens,
                                   bool &muted, long long *shared)
{
    const unsigned piece = (p.n_out + blockDim.x - 1) / blockDim.x;
    const unsigned from = min(threadIdx.x * piece, p.n_out), end = min(from + piece, p.n_out);
    const long long taper = p.taper;
    long long last = LLONG_MIN; /* the loud sample before */
    for (unsigned i = from; i < end; i++)
        if (!(fabsf(y[i]) <= p.gate))
            last = first + i;
    shared[threadIdx.x] = last;
    __syncthreads();
    last = opens == LLONG_MIN ? LLONG_MIN : opens - taper;
    long long latest = last;
    for (unsigned t = 0; t < blockDim.x; t++) {
        if (shared[t] != LLONG_MIN)
            latest = shared[t];
        if (t + 1 == threadIdx.x)
            last = latest;
    }
    unsigned shut = 0;
    for (unsigned i = from; i < end; i++) {
        const long long at = first + i;
        if (!(fabsf(y[i]) <= p.gate)) {
            shut += last == LLONG_MIN || at >= last + taper;
            last = at;
        }
        if (last == LLONG_MIN || at >= last + 2 * taper)
            continue;
        const float rise = at < last + taper ? 0 : sinpif(0.5f * float(at - last - taper) / float(p.taper));
        y[i] *= rise * rise;
        muted = true;
    }
    const long long after = first + p.n_out - 1;
    opens = latest == LLONG_MIN || after >= latest + 2 * taper ? LLONG_MIN : latest + taper;
    return shut;
}

static __device__ __forceinline__ void gw_silence(const gw_gpu_shape &p, float *y)
{
    for (unsigned k = threadIdx.x; k < p.n_out / 2; k += blockDim.x)
        reinterpret_cast<float2 *>(y)[k] = make_float2(0, 0);
}

/* Ends a hop: the output is judged, the state goes on, and what there is to say is said. y is written, behind
 * a barrier; shared [blockDim.x]. entered: a segment did. */
static __device__ __forceinline__ void gw_end(const gw_gpu_shape &p, const gw_gpu_call &call, unsigned i,
                                              gw_gpu_now &now, float *y, unsigned health, float peak,
                                              const gw_gpu_seen &seen, bool entered, long long *shared)
{
    const bool good = health == GW_BULK_GOOD;
    const bool whole = good && now.past_from <= call.sample0 - (long long)(p.n_taps - 1);
    unsigned shut = 0;
    bool muted = false;
    if (good && p.gate > 0 && peak > p.gate)
        now.clean_from = call.next;
    if (good && p.taper && p.gate > 0 && now.response && (peak > p.gate || now.opens != LLONG_MIN)) {
        const unsigned own = gw_gate(p, call.sample0 / p.decimate, y, now.opens, muted, shared);
        muted = __syncthreads_or(muted) != 0;
        shared[threadIdx.x] = own;
        __syncthreads();
        for (unsigned t = 0; t < blockDim.x; t++)
            shut += unsigned(shared[t]);
        __syncthreads();
    }
    if ((!good && now.response) || (p.taper && !whole) || (p.taper && !now.response))
        gw_silence(p, y);
    if (threadIdx.x != 0)
        return;
    gw_bulk_channel *c = &call.channels[i];
    c->scale = now.scale;
    c->health = uint8_t(health);
    c->finite = health != GW_BULK_NAN;
    c->whole = whole;
    c->entered = entered;
    c->peak = good ? peak : 0;
    c->low = seen.low;
    c->high = seen.high;
    c->shut = shut;
    c->muted = muted;
    gw_gpu_state *s = now.state;
    s->next = good ? call.next : LLONG_MIN;
    s->past_from = now.past_from;
    s->clean_from = now.clean_from;
    s->opens = now.opens;
    s->averaged = now.averaged;
    s->collected = now.collected;
    if (good)
        s->scale = now.scale;
    else if (c->forget == GW_BULK_FORGET_ALL)
        s->scale = 0;
    for (int t = 0; t < 2; t++)
        if (s->tail_of[t] != now.response)
            s->tail_of[t] = nullptr; /* it may be another's by the next hop */
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

/* Pooled powers of a segment -> power[n_bins], four a thread. */
template <class Bin>
static __device__ __forceinline__ void gw_segment_power(const gw_gpu_shape &p, float *power, Bin x)
{
    const unsigned half = p.segment / 2;
    for (unsigned q = threadIdx.x; q < p.n_bins / 4; q += blockDim.x) {
        float v[4];
        GW_UNROLL
        for (unsigned i = 0; i < 4; i++) {
            const unsigned first = min((4 * q + i) * p.pool, half + 1), end = min(first + p.pool, half + 1);
            v[i] = first < end ? gw_hann_power(half, first, end, x) * p.density / float(end - first) : 0;
        }
        gw_four(power)[q] = {v[0], v[1], v[2], v[3]};
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

static __device__ __forceinline__ float gw_average(float old, float power, float weight, bool first)
{
    return first ? power : fmaf(weight, power - old, old);
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
    const bool first = averaged == 1;
    const float weight = 1.0f / float(min(averaged, p.memory));
    for (unsigned q = threadIdx.x; q < p.n_bins / 4; q += blockDim.x) {
        float4 v;
        if (p.median_of) {
            const float *row = psd + p.n_bins + 4 * q;
            v = {gw_median(row, p.median_of, p.n_bins) / p.bias,
                 gw_median(row + 1, p.median_of, p.n_bins) / p.bias,
                 gw_median(row + 2, p.median_of, p.n_bins) / p.bias,
                 gw_median(row + 3, p.median_of, p.n_bins) / p.bias};
        } else {
            v = gw_four(spare)[q];
        }
        const float4 old = first ? gw_zero4() : gw_four(psd)[q];
        gw_four(psd)[q] = {gw_average(old.x, v.x, weight, first), gw_average(old.y, v.y, weight, first),
                           gw_average(old.z, v.z, weight, first), gw_average(old.w, v.w, weight, first)};
    }
}

#endif
