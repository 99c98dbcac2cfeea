/* SPDX-License-Identifier: GPL-3.0-or-later
 * Bulk whitening in one visit to a channel: a block of threads takes a channel through window, transform,
 * PSD, filter, inverse and output without leaving shared memory. Device memory sees each sample, each bin of
 * the filter, the past and the PSD once. Included by bulk.cu alone. */
#ifndef GW_BULK_FUSED_CUH
#define GW_BULK_FUSED_CUH

#include "kernels/cuda/bulk.cuh"

#include <cfloat>
#include <climits>

/* Brings what the next pass or channel will read into L2; where it does not lie as the copy engine wants it,
 * not. */
static __device__ __forceinline__ void hurry(const void *p, size_t bytes)
{
    if (threadIdx.x == 0 && (reinterpret_cast<uintptr_t>(p) & 15) == 0)
        gw_ptx_prefetch(p, unsigned(bytes) & ~15u);
}

/* The complex bins 0 .. m - 1 in s become the real transform's 0 .. m. */
static __device__ __forceinline__ void untangle_all(float2 *s, unsigned m, gw_roots r)
{
    const int shift = r.bits + __clz(int(m)) - 32; /* 2 m points, where the roots are for 2^bits */
    for (unsigned k = threadIdx.x; k <= m / 2; k += blockDim.x) {
        float2 a = s[gw_pad(k)];
        if (k == 0) {
            s[0] = make_float2(a.x + a.y, 0);
            s[gw_pad(m)] = make_float2(a.x - a.y, 0);
            continue;
        }
        float2 b = s[gw_pad(m - k)];
        gw_untangle(a, b, gw_root(r, k << shift));
        s[gw_pad(k)] = a;
        s[gw_pad(m - k)] = b;
    }
    __syncthreads();
}

/* Complex bins of the window -> complex bins of the filtered one, ready for gw_block_fft as an inverse. With
 * `real` they were untangled before; m_out < m drops the bins above (decimation) and needs that. */
static __device__ __forceinline__ void filter_all(const gw_gpu_shape &p, float2 *s, unsigned m,
                                                  unsigned m_out, const gw_gpu_response *w, bool real)
{
    const gw_roots r = p.roots;
    const int shift = r.bits + __clz(int(m_out)) - 32;
    for (unsigned k = threadIdx.x; k <= m_out / 2; k += blockDim.x) {
        float2 a = s[gw_pad(k)];
        if (k == 0) {
            float top = real ? s[gw_pad(m_out)].x : a.x - a.y;
            const float2 w_top = gw_bin(p, w, m_out);
            if (real && m_out < m)
                top = gw_mul(s[gw_pad(m_out)], w_top).x;
            else
                top *= w_top.x;
            const float bottom = (real ? a.x : a.x + a.y) * gw_bin(p, w, 0).x;
            s[0] = gw_swap(make_float2(0.5f * (bottom + top), 0.5f * (bottom - top)));
            continue;
        }
        float2 b = s[gw_pad(m_out - k)];
        const float2 root = gw_root(r, k << shift);
        if (!real)
            gw_untangle(a, b, root);
        a = gw_mul(a, gw_bin(p, w, k));
        b = gw_mul(b, gw_bin(p, w, m_out - k));
        gw_tangle(a, b, root);
        s[gw_pad(k)] = gw_swap(a);
        s[gw_pad(m_out - k)] = gw_swap(b);
    }
    __syncthreads();
}

/* The window of a channel -> s, as pairs; what its hop's least and greatest sample are. False: one is not
 * finite. */
static __device__ __forceinline__ bool load_window(const gw_gpu_shape &p, const gw_gpu_channel &c,
                                                   const float *x, bool hole, float2 *s, float &low,
                                                   float &high)
{
    const unsigned before = p.n - p.hop;
    bool ok = true;
    GW_UNROLL_BY(8)
    for (unsigned k = threadIdx.x; k < p.n / 2; k += blockDim.x) {
        const float2 v = gw_sample2(p, c, x, hole, before, 2 * k);
        s[gw_pad(k)] = v;
        if (2 * k >= before) {
            ok = ok && fabsf(v.x) <= GW_BULK_LIMIT && fabsf(v.y) <= GW_BULK_LIMIT;
            low = fminf(low, fminf(v.x, v.y));
            high = fmaxf(high, fmaxf(v.x, v.y));
        }
    }
    return ok;
}

/* Outputs in s -> y; with `onto`, over from what y has to them. False: one is not finite. */
static __device__ __forceinline__ bool store_outputs(const gw_gpu_shape &p, const float2 *s, bool onto,
                                                     float *y, float &peak)
{
    const unsigned n_out = p.hop / p.decimate, silent = (p.n - p.hop) / p.decimate;
    const float unit = 2.0f / float(p.n); /* of the inverse transform */
    bool ok = true;
    for (unsigned k = threadIdx.x; k < n_out / 2; k += blockDim.x) {
        const float2 z = s[gw_pad(silent / 2 + k)];
        float2 *to = reinterpret_cast<float2 *>(y) + k;
        float2 v = make_float2(unit * z.y, unit * z.x);
        if (onto) {
            const float2 old = *to;
            const float a = sinpif(0.5f * float(2 * k) / float(n_out));
            const float b = sinpif(0.5f * float(2 * k + 1) / float(n_out));
            v = make_float2(fmaf(a * a, v.x - old.x, old.x), fmaf(b * b, v.y - old.y, old.y));
        }
        *to = v;
        ok = ok && fabsf(v.x) <= FLT_MAX && fabsf(v.y) <= FLT_MAX;
        peak = fmaxf(peak, fmaxf(fabsf(v.x), fabsf(v.y)));
    }
    return ok;
}

static __global__ void __launch_bounds__(512, 1) whiten(gw_gpu_shape p, gw_gpu_call call)
{
    GW_DYN_SHARED(float2, s); /* [gw_pad(n / 2) + 1] */
    GW_SHARED(float, part, 32);
    const unsigned m = p.n / 2, m_out = m / p.decimate;
    const long long next = call.sample0 + p.hop;

    for (unsigned i = blockIdx.x; i < call.n; i += gridDim.x) {
        const gw_gpu_channel c = call.channels[i];
        const float *x = call.x + i * call.x_stride;
        float *y = call.y + i * call.y_stride;
        const bool hole = c.state->next != call.sample0;
        const long long past_from = hole ? call.sample0 : c.state->past_from;
        long long clean_from = hole ? call.sample0 : c.state->clean_from;
        unsigned averaged = c.state->averaged, collected = c.state->collected;
        float *spare = call.spare + size_t(blockIdx.x) * p.n_bins;
        if (c.response)
            hurry(c.response + 1, p.n_freq * (p.half ? sizeof(__half2) : sizeof(float2)));

        bool bad = false;
        float peak = 0, low = FLT_MAX, high = -FLT_MAX;
        for (int round = c.fading ? 0 : 1; round < 2 && !bad;
             round++) { /* first through the filter that goes */
            const gw_gpu_response *w = round ? c.response : c.fading;
            bad = __syncthreads_or(!load_window(p, c, x, hole, s, low, high));
            if (bad)
                break;
            gw_block_fft(m, p.roots, s);
            const bool segment = call.segment && round == 1;
            if (segment || m_out < m)
                untangle_all(s, m, p.roots);
            if (segment) {
                gw_segment_power(p, gw_power_row(p, c.state, collected, spare),
                                 [=](unsigned k) { return s[gw_pad(k)]; });
                __syncthreads();
            }
            if (round == 1 && i + gridDim.x < call.n) {
                hurry(x + gridDim.x * call.x_stride, p.hop * sizeof(float));
                hurry(gw_past(call.channels[i + gridDim.x].state), p.n_past * sizeof(float));
            }
            if (!w)
                break;
            filter_all(p, s, m, m_out, w, segment || m_out < m);
            gw_block_fft(m_out, p.roots, s);
            peak = 0;
            bad = __syncthreads_or(!store_outputs(p, s, round == 1 && c.fading, y, peak));
        }
        peak = gw_block_max(peak, part);
        low = -gw_block_max(-low, part);
        high = gw_block_max(high, part);

        bool entered = false;
        if (bad) {
            for (unsigned k = threadIdx.x; c.response && k < p.hop / p.decimate / 2; k += blockDim.x)
                reinterpret_cast<float2 *>(y)[k] = make_float2(0, 0);
        } else if (call.last) {
            if (p.gate > 0 && peak > p.gate)
                clean_from = next;
            entered = call.segment && clean_from <= next - p.segment;
            if (entered)
                gw_enter(p, c.state, spare, averaged, collected);
            gw_move_past(p, c, x, hole);
        }
        if (threadIdx.x == 0) {
            const bool whole = !bad && past_from <= call.sample0 - (long long)(p.n_taps - 1);
            call.said[i] = {bad ? 0 : peak, low / c.scale, high / c.scale, !bad, whole, entered};
            if (call.last && bad) {
                c.state->next = LLONG_MIN;
            } else if (call.last) {
                c.state->next = next;
                c.state->past_from = past_from;
                c.state->clean_from = clean_from;
                c.state->averaged = averaged;
                c.state->collected = collected;
            }
        }
    }
}

/* Ends a step that whiten (or cuFFT's form) did not: segments of any other length, each with a transform
 * of its own, then the past. */
static __global__ void __launch_bounds__(512, 1) finish(gw_gpu_shape p, gw_gpu_call call)
{
    GW_DYN_SHARED(float2, s); /* [gw_pad(segment / 2) + 1] */
    const unsigned m = p.segment / 2;
    const long long half = m, next = call.sample0 + p.hop;
    for (unsigned i = blockIdx.x; i < call.n; i += gridDim.x) {
        const gw_gpu_channel c = call.channels[i];
        const gw_gpu_said said = call.said[i];
        const float *x = call.x + i * call.x_stride;
        const bool hole = c.state->next != call.sample0;
        const long long past_from = hole ? call.sample0 : c.state->past_from;
        long long clean_from = hole ? call.sample0 : c.state->clean_from;
        unsigned averaged = c.state->averaged, collected = c.state->collected;
        float *spare = call.spare + size_t(blockIdx.x) * p.n_bins;
        if (p.gate > 0 && said.peak > p.gate)
            clean_from = next;
        bool entered = false;
        for (long long end = half && said.finite ? (call.sample0 / half + 1) * half : LLONG_MAX; end <= next;
             end += half) {
            if (clean_from > end - 2 * half)
                continue;
            const unsigned from = unsigned(p.n_past + (end - call.sample0) - 2 * half);
            for (unsigned k = threadIdx.x; k < m; k += blockDim.x)
                s[gw_pad(k)] = gw_sample2(p, c, x, hole, p.n_past, from + 2 * k);
            __syncthreads();
            gw_block_fft(m, p.roots, s);
            untangle_all(s, m, p.roots);
            gw_segment_power(p, gw_power_row(p, c.state, collected, spare),
                             [=](unsigned k) { return s[gw_pad(k)]; });
            gw_enter(p, c.state, spare, averaged, collected);
            entered = true;
            __syncthreads();
        }
        __syncthreads(); /* all have read the state */
        if (said.finite)
            gw_move_past(p, c, x, hole);
        if (threadIdx.x == 0) {
            c.state->next = said.finite ? next : LLONG_MIN;
            c.state->past_from = past_from;
            c.state->clean_from = clean_from;
            c.state->averaged = averaged;
            c.state->collected = collected;
            if (entered)
                call.said[i].entered = true;
        }
    }
}

/* taps[n_taps] -> response. One block. */
static __global__ void __launch_bounds__(512, 1)
    respond(gw_gpu_shape p, const float *taps, gw_gpu_response *w)
{
    GW_DYN_SHARED(float2, s);
    GW_SHARED(float, part, 32);
    const unsigned m = p.n / 2;
    for (unsigned k = threadIdx.x; k < m; k += blockDim.x)
        s[gw_pad(k)] =
            make_float2(2 * k < p.n_taps ? taps[2 * k] : 0, 2 * k + 1 < p.n_taps ? taps[2 * k + 1] : 0);
    __syncthreads();
    gw_block_fft(m, p.roots, s);
    untangle_all(s, m, p.roots);
    float most = 0;
    for (unsigned k = threadIdx.x; k < p.n_freq; k += blockDim.x)
        most = fmaxf(most, fmaxf(fabsf(s[gw_pad(k)].x), fabsf(s[gw_pad(k)].y)));
    gw_keep_response(
        p, gw_block_max(most, part), [=](unsigned k) { return s[gw_pad(k)]; }, w);
}

#endif
