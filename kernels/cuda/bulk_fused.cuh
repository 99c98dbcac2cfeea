/* SPDX-License-Identifier: GPL-3.0-or-later
 * Bulk whitening in one visit to a channel: a block of threads takes a channel through window, transform,
 * PSD, filter, inverse and output without leaving shared memory; samples are read and written by the first
 * and the last pass of the transforms themselves. Device memory sees each sample, each bin of the filter, the
 * past and the PSD once, 16 bytes a thread. Included by bulk.cu alone.
 *
 * Where the hop is short the filter is in partitions (Gardner, 1995): `whiten` transforms the hop alone and
 * sums over the spectra of the hops before, which the state keeps; partitions of a second, longer level add a
 * tail, which `tails` makes as soon as a hop asks for it, of spectra that `spectra` makes each time that a
 * block of that level is full. So a channel may change its filter in any hop. */
#ifndef GW_BULK_FUSED_CUH
#define GW_BULK_FUSED_CUH

#include "kernels/cuda/bulk.cuh"

/* Brings what the next pass or channel will read into L2; where it does not lie as the copy engine wants it,
 * not. */
static __device__ __forceinline__ void hurry(const void *p, size_t bytes)
{
    if (threadIdx.x == 0 && (reinterpret_cast<uintptr_t>(p) & 15) == 0)
        gw_ptx_prefetch(p, unsigned(bytes) & ~15u);
}

/* The roots are for 2^bits points: those of a real transform of 2 m are each so many apart. */
static __device__ __forceinline__ int root_shift(gw_roots r, unsigned m)
{
    return r.bits - gw_fft_bits(m) - 1;
}

/* The complex bins 0 .. m - 1 in s become the real transform's 0 .. m. */
static __device__ __forceinline__ void untangle_all(float2 *s, unsigned m, gw_roots r)
{
    const int shift = root_shift(r, m);
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

/* ---- Slots: bins k and m - k; slot 0: the real bins 0 and m, and bin m / 2 ---- */

/* Of a transform in s; with `real` it is untangled already. m < whole: its lower part, without bin m. */
static __device__ __forceinline__ float4 get_slot(const float2 *s, unsigned m, unsigned k, float2 root,
                                                  bool real, bool part)
{
    float2 a = s[gw_pad(k)], b = s[gw_pad(k ? m - k : m / 2)];
    if (k == 0) {
        const float top = part ? 0 : real ? s[gw_pad(m)].x : a.x - a.y;
        return {real ? a.x : a.x + a.y, top, b.x, real ? b.y : -b.y};
    }
    if (!real)
        gw_untangle(a, b, root);
    return {a.x, a.y, b.x, b.y};
}

/* Into s, as the input of an inverse. */
static __device__ __forceinline__ void put_slot(float2 *s, unsigned m, unsigned k, float2 root, float4 v)
{
    float2 a = make_float2(v.x, v.y), b = make_float2(v.z, v.w);
    if (k == 0) {
        a = make_float2(0.5f * (v.x + v.y), 0.5f * (v.x - v.y));
        b.y = -b.y;
    } else {
        gw_tangle(a, b, root);
    }
    s[gw_pad(k)] = gw_swap(a);
    s[gw_pad(k ? m - k : m / 2)] = gw_swap(b);
}

static __device__ __forceinline__ float4 response_slot(const gw_gpu_shape &p, const gw_gpu_response *w,
                                                       unsigned at)
{
    if (!p.half)
        return __ldg(reinterpret_cast<const float4 *>(w + 1) + at);
    const uint2 v = __ldg(reinterpret_cast<const uint2 *>(w + 1) + at);
    __half2 h[2];
    memcpy(static_cast<void *>(h), &v, sizeof v);
    const float2 a = __half22float2(h[0]), b = __half22float2(h[1]);
    return {a.x, a.y, b.x, b.y};
}

/* sum += x * w */
static __device__ __forceinline__ void add_slots(float4 &sum, unsigned k, float4 x, float4 w)
{
    if (k == 0) {
        sum.x = fmaf(x.x, w.x, sum.x);
        sum.y = fmaf(x.y, w.y, sum.y);
    } else {
        sum.x += fmaf(x.x, w.x, -x.y * w.y);
        sum.y += fmaf(x.x, w.y, x.y * w.x);
    }
    sum.z += fmaf(x.z, w.z, -x.w * w.w);
    sum.w += fmaf(x.z, w.w, x.w * w.z);
}

/* The slots of block `row` - back of a level. */
static __device__ __forceinline__ float4 *kept_row(const gw_gpu_level &l, const gw_gpu_state *s, unsigned row,
                                                   unsigned back)
{
    const unsigned at = row + (back > row ? l.kept : 0) - back;
    return gw_four(gw_past(s) + l.spectra_at + size_t(at) * l.n);
}

/* The present block's transform in s -> what all parts of a level's filter make of it and the blocks before,
 * of which so many count; in s, ready for an inverse. `newest`: false: there is no present block, and parts
 * begin with the block before. keep: its spectrum goes into the state. w NULL: that is all. */
static __device__ __forceinline__ void filter_all(const gw_gpu_shape &p, const gw_gpu_call &call,
                                                  unsigned level, const gw_gpu_now &now,
                                                  const gw_gpu_response *w, unsigned parts, unsigned m,
                                                  bool newest, bool real, bool keep, float2 *s)
{
    const gw_gpu_level &l = p.level[level];
    const int shift = root_shift(p.roots, m);
    const float gain = w ? w->gain : 1;
    for (unsigned k = threadIdx.x; k < m / 2; k += blockDim.x) {
        const float2 root = gw_root(p.roots, k << shift);
        const float4 x = newest ? get_slot(s, m, k, root, real, m < l.n / 2) : gw_zero4();
        if (w) {
            float4 sum = gw_zero4();
            if (newest)
                add_slots(sum, k, x, response_slot(p, w, l.slots_at + k));
            GW_UNROLL_BY(4)
            for (unsigned q = newest ? 1 : 0; q < parts; q++)
                add_slots(sum, k, kept_row(l, now.state, call.row[level], newest ? q : q + 1)[k],
                          response_slot(p, w, l.slots_at + q * (m / 2) + k));
            put_slot(s, m, k, root, {gain * sum.x, gain * sum.y, gain * sum.z, gain * sum.w});
        }
        if (keep)
            kept_row(l, now.state, call.row[level], 0)[k] = x;
    }
    __syncthreads();
}

/* ---- The hop ---- */

/* The first pass: the window of a channel -> s. first: the hop is judged, and its scale found; last: it goes
 * into the past. The verdict, for all. */
static __device__ __forceinline__ unsigned take_hop(const gw_gpu_shape &p, const gw_gpu_call &call,
                                                    gw_gpu_now &now, const float *x, bool first, bool last,
                                                    gw_gpu_seen &seen, gw_gpu_judge *j, float2 *s)
{
    const unsigned m = p.level[0].n / 2, before = 2 * m - p.hop;
    unsigned health = GW_BULK_GOOD;
    gw_fft_first(
        m, s, [&](unsigned i) { return gw_window4(p, call, now, x, before, 2 * i); },
        [&](auto visit) {
            if (first) {
                visit([&](const float4 &v, unsigned i) {
                    if (2 * i >= before)
                        gw_see(seen, v);
                });
                gw_see_all(seen, j);
                const float scale = now.scale != 0 ? now.scale : gw_bulk_scale(seen.low, seen.high);
                unsigned low = 0, high = 0;
                if (p.dead_run)
                    visit([&](const float4 &v, unsigned i) {
                        if (2 * i < before)
                            return;
                        low += (v.x == seen.low) + (v.y == seen.low) + (v.z == seen.low) + (v.w == seen.low);
                        high +=
                            (v.x == seen.high) + (v.y == seen.high) + (v.z == seen.high) + (v.w == seen.high);
                    });
                health = gw_judge_all(p, x, seen, scale, low, high, j);
                if (health != GW_BULK_GOOD)
                    return false;
                now.scale = scale;
            } else {
                __syncthreads();
            }
            const unsigned skip = p.hop > p.n_past ? p.hop - p.n_past : 0;
            visit([&](float4 &v, unsigned i) {
                if (2 * i < before)
                    return;
                v = {v.x * now.scale, v.y * now.scale, v.z * now.scale, v.w * now.scale};
                const unsigned at = 2 * i - before;
                if (!last || at < skip)
                    return;
                const unsigned to = call.ring_to + (at - skip);
                *gw_four(gw_past(now.state) + (to < p.n_past ? to : to - p.n_past)) = v;
            });
            return true;
        });
    return health;
}

/* One output more: over from what y has, with `onto`. */
static __device__ __forceinline__ float fade(const gw_gpu_shape &p, float old, float v, unsigned k)
{
    const float rise = sinpif(0.5f * float(k) / float(p.n_out));
    return fmaf(rise * rise, v - old, old);
}

/* The last pass: outputs -> y, the tail added. False: one is not finite. */
static __device__ __forceinline__ bool give_hop(const gw_gpu_shape &p, float2 *s, const float *tail,
                                                bool onto, float *y, float &peak)
{
    const unsigned silent = 2 * p.m_out - p.n_out * p.skip;
    const float unit = 2.0f / float(p.level[0].n); /* of the inverse transform */
    bool ok = true;
    gw_fft_last(p.m_out, p.roots, s, [&](unsigned i, float4 z) {
        if (2 * i < silent)
            return;
        const unsigned at = 2 * i - silent;
        float v[4] = {unit * z.y, unit * z.x, unit * z.w, unit * z.z};
        if (p.skip == 1) {
            const float4 more = tail ? gw_four(tail)[at / 4] : gw_zero4();
            const float4 old = onto ? gw_four(y)[at / 4] : gw_zero4();
            const float add[4] = {more.x, more.y, more.z, more.w}, from[4] = {old.x, old.y, old.z, old.w};
            GW_UNROLL
            for (unsigned k = 0; k < 4; k++) {
                v[k] += add[k];
                if (onto)
                    v[k] = fade(p, from[k], v[k], at + k);
                ok = ok && fabsf(v[k]) <= FLT_MAX;
                peak = fmaxf(peak, fabsf(v[k]));
            }
            gw_four(y)[at / 4] = {v[0], v[1], v[2], v[3]};
            return;
        }
        GW_UNROLL
        for (unsigned k = 0; k < 4; k += 2) { /* skip is even */
            if ((at + k) % p.skip)
                continue;
            const unsigned to = (at + k) / p.skip;
            float one = v[k] + (tail ? tail[to] : 0);
            if (onto)
                one = fade(p, y[to], one, to);
            ok = ok && fabsf(one) <= FLT_MAX;
            peak = fmaxf(peak, fabsf(one));
            y[to] = one;
        }
    });
    return ok;
}

static __device__ __forceinline__ void prefetch_next(const gw_gpu_shape &p, const gw_gpu_call &call,
                                                     unsigned i)
{
    if (i >= call.n || !call.channels[i].state)
        return;
    hurry(call.x + i * call.x_stride, p.hop * sizeof(float));
    if (p.level[0].parts == 1)
        hurry(gw_past(static_cast<gw_gpu_state *>(call.channels[i].state)), p.n_past * sizeof(float));
}

/* How many blocks of level 1 before the present one count: none of those that ended before the last hole. */
static __device__ __forceinline__ unsigned tail_parts(const gw_gpu_shape &p, const gw_gpu_call &call,
                                                      const gw_gpu_now &now)
{
    const long long block = p.level[1].block;
    return p.n_levels < 2
               ? 0
               : unsigned(min((long long)p.level[1].parts, call.sample0 / block - now.past_from / block));
}

static __device__ __forceinline__ float *tail_row(const gw_gpu_shape &p, gw_gpu_state *s, unsigned slot)
{
    return gw_past(s) + p.tail_at + slot * (p.level[1].block / p.decimate);
}

static __global__ void __launch_bounds__(512, 1) whiten(gw_gpu_shape p, gw_gpu_call call)
{
    GW_DYN_SHARED(float2, s); /* [gw_pad(n / 2) + 2] */
    GW_SHARED(float, part, 32);
    GW_SHARED(gw_gpu_judge, judge, 1);
    const unsigned m = p.level[0].n / 2, m_out = p.m_out;

    for (unsigned i = blockIdx.x; i < call.n; i += gridDim.x) {
        const gw_bulk_channel c = call.channels[i];
        const float *x = call.x + i * call.x_stride;
        float *y = call.y + i * call.y_stride;
        if (!c.state) {
            if (p.taper)
                gw_silence(p, y);
            continue;
        }
        gw_gpu_now now = gw_now(call, c);
        float *spare = call.spare + size_t(blockIdx.x) * p.n_bins;
        if (c.response && p.level[0].parts == 1)
            hurry(now.response + 1, m_out * (p.half ? sizeof(__half2) : sizeof(float2)));
        const unsigned parts =
            unsigned(min((long long)p.level[0].parts, (call.next - now.past_from) / p.hop));
        const bool segment = call.segment && now.clean_from <= call.next - p.segment;

        unsigned health = GW_BULK_GOOD;
        float peak = 0;
        gw_gpu_seen seen = {FLT_MAX, -FLT_MAX, false};
        for (int round = now.fading ? 0 : 1, first = 1; round < 2; round++, first = 0) {
            const gw_gpu_response *w = round ? now.response : now.fading; /* first the filter that goes */
            health = take_hop(p, call, now, x, first, round == 1, seen, judge, s);
            if (health != GW_BULK_GOOD)
                break;
            gw_fft_passes(m, GW_FFT_EDGE_BITS, gw_fft_bits(m), p.roots, s);
            const bool power = segment && round == 1, real = power || m_out < m;
            if (real)
                untangle_all(s, m, p.roots);
            if (power) {
                gw_segment_power(p, gw_power_row(p, now.state, now.collected, spare),
                                 [=](unsigned k) { return s[gw_pad(k)]; });
                __syncthreads();
            }
            if (round == 1)
                prefetch_next(p, call, i + gridDim.x);
            const bool keep = p.level[0].kept && round == 1;
            if (w || keep)
                filter_all(p, call, 0, now, w, parts, m_out, true, real, keep, s);
            if (!w)
                break;
            gw_fft_passes(m_out, 0, gw_fft_bits(m_out) - GW_FFT_EDGE_BITS, p.roots, s);
            const float *tail = nullptr;
            if (tail_parts(p, call, now))
                tail = tail_row(p, now.state, now.state->tail_of[0] == w ? 0 : 1) +
                       unsigned(call.sample0 % p.level[1].block) / p.decimate;
            peak = 0;
            const bool ok = give_hop(p, s, tail, round == 1 && now.fading, y, peak);
            if (__syncthreads_or(!ok)) {
                health = GW_BULK_NAN;
                break;
            }
        }
        peak = gw_block_max(peak, part);
        bool entered = segment && health == GW_BULK_GOOD && !(p.gate > 0 && peak > p.gate);
        if (entered)
            gw_enter(p, now.state, spare, now.averaged, now.collected);
        gw_end(p, call, i, now, y, health, peak, seen, entered, reinterpret_cast<long long *>(s));
        __syncthreads();
    }
}

/* Before a hop: tails of the present block of level 1 for responses that have none yet. */
static __global__ void __launch_bounds__(512, 1) tails(gw_gpu_shape p, gw_gpu_call call)
{
    GW_DYN_SHARED(float2, s);
    const gw_gpu_level &l = p.level[1];
    const unsigned m = l.n / 2, n_out = l.block / p.decimate;
    for (unsigned i = blockIdx.x; i < call.n; i += gridDim.x) {
        const gw_bulk_channel c = call.channels[i];
        if (!c.state)
            continue;
        const gw_gpu_now now = gw_now(call, c);
        const bool fresh = now.hole || call.sample0 % l.block == 0; /* what is there is of a block before */
        const unsigned parts = tail_parts(p, call, now);
        const void *of[2] = {fresh ? nullptr : now.state->tail_of[0],
                             fresh ? nullptr : now.state->tail_of[1]};
        for (int t = 0; t < 2; t++)
            if (of[t] != c.response && of[t] != now.fading)
                of[t] = nullptr;
        const gw_gpu_response *want[2] = {now.fading, now.response};
        for (int t = 0; t < 2 && parts; t++) {
            const gw_gpu_response *w = want[t];
            if (!w || of[0] == w || of[1] == w)
                continue;
            const unsigned slot = of[0] ? 1 : 0;
            of[slot] = w;
            filter_all(p, call, 1, now, w, parts, m, false, true, false, s);
            gw_block_fft(m, p.roots, s);
            const float unit = 2.0f / float(l.n);
            float *to = tail_row(p, now.state, slot);
            for (unsigned k = threadIdx.x; k < n_out / 4; k += blockDim.x) {
                float v[4];
                GW_UNROLL
                for (unsigned j = 0; j < 4; j++) {
                    const unsigned at = l.n - l.block + (4 * k + j) * p.decimate;
                    const float2 z = s[gw_pad(at / 2)];
                    v[j] = unit * (at & 1 ? z.x : z.y);
                }
                gw_four(to)[k] = {v[0], v[1], v[2], v[3]};
            }
            __syncthreads();
        }
        __syncthreads(); /* all have read the state */
        if (threadIdx.x == 0) {
            now.state->tail_of[0] = of[0];
            now.state->tail_of[1] = of[1];
        }
    }
}

/* The last 2 * half samples of those that the state keeps -> s, transformed and untangled. */
static __device__ __forceinline__ void transform_past(const gw_gpu_shape &p, const gw_gpu_state *state,
                                                      long long end, unsigned m, float2 *s)
{
    for (unsigned k = threadIdx.x; k < m / 2; k += blockDim.x) {
        const long long t = end - 2 * (long long)m + 4 * k;
        *gw_pair(s, 2 * k) = t < state->past_from
                                 ? gw_zero4()
                                 : *gw_four(gw_past(state) + unsigned((unsigned long long)t % p.n_past));
    }
    __syncthreads();
    gw_block_fft(m, p.roots, s);
    untangle_all(s, m, p.roots);
}

/* After a hop with which a block of level 1 is full: its spectrum; and a segment, if it is one. */
static __global__ void __launch_bounds__(512, 1) spectra(gw_gpu_shape p, gw_gpu_call call)
{
    GW_DYN_SHARED(float2, s);
    const gw_gpu_level &l = p.level[1];
    const unsigned m = l.n / 2;
    for (unsigned i = blockIdx.x; i < call.n; i += gridDim.x) {
        gw_bulk_channel *c = &call.channels[i];
        gw_gpu_state *state = static_cast<gw_gpu_state *>(c->state);
        if (!state || state->next != call.next)
            continue;
        transform_past(p, state, call.next, m, s);
        float4 *row = kept_row(l, state, call.row[1], 0);
        for (unsigned k = threadIdx.x; k < m / 2; k += blockDim.x)
            row[k] = get_slot(s, m, k, make_float2(0, 0), true, false);
        if (call.segment && state->clean_from <= call.next - p.segment) {
            float *spare = call.spare + size_t(blockIdx.x) * p.n_bins;
            unsigned averaged = state->averaged, collected = state->collected;
            gw_segment_power(p, gw_power_row(p, state, collected, spare),
                             [=](unsigned k) { return s[gw_pad(k)]; });
            gw_enter(p, state, spare, averaged, collected);
            __syncthreads(); /* all have read the state */
            if (threadIdx.x == 0) {
                state->averaged = averaged;
                state->collected = collected;
                c->entered = true;
            }
        }
        __syncthreads();
    }
}

/* After a hop: segments of any other length, each with a transform of its own. */
static __global__ void __launch_bounds__(512, 1) segments(gw_gpu_shape p, gw_gpu_call call)
{
    GW_DYN_SHARED(float2, s); /* [gw_pad(segment / 2) + 2] */
    const unsigned m = p.segment / 2;
    const long long half = m;
    for (unsigned i = blockIdx.x; i < call.n; i += gridDim.x) {
        gw_bulk_channel *c = &call.channels[i];
        gw_gpu_state *state = static_cast<gw_gpu_state *>(c->state);
        if (!state || state->next != call.next)
            continue;
        unsigned averaged = state->averaged, collected = state->collected;
        float *spare = call.spare + size_t(blockIdx.x) * p.n_bins;
        bool entered = false;
        for (long long end = (call.sample0 / half + 1) * half; end <= call.next; end += half) {
            if (state->clean_from > end - 2 * half)
                continue;
            transform_past(p, state, end, m, s);
            gw_segment_power(p, gw_power_row(p, state, collected, spare),
                             [=](unsigned k) { return s[gw_pad(k)]; });
            gw_enter(p, state, spare, averaged, collected);
            entered = true;
            __syncthreads();
        }
        __syncthreads(); /* all have read the state */
        if (threadIdx.x == 0 && entered) {
            state->averaged = averaged;
            state->collected = collected;
            c->entered = true;
        }
    }
}

/* ---- What is asked and told outside of hops ---- */

enum { AT_ONCE = 16 }; /* filters, or states, of a launch */

struct gw_gpu_states {
    const gw_gpu_state *state[AT_ONCE];
};

/* PSDs straight into the host's pinned memory: [gridDim.x][psd_bins], and how many segments are in each. */
static __global__ void __launch_bounds__(256)
    read_psd(gw_gpu_shape p, gw_gpu_states states, float *psd, uint32_t *segments)
{
    const gw_gpu_state *s = states.state[blockIdx.x];
    const unsigned long long n = (unsigned long long)s->averaged * (p.median_of ? p.median_of : 1);
    const float *from = gw_past(s) + p.psd_at;
    float *to = psd + size_t(blockIdx.x) * p.psd_bins;
    for (unsigned k = threadIdx.x; n && k < p.psd_bins; k += blockDim.x)
        to[k] = from[k];
    if (threadIdx.x == 0)
        segments[blockIdx.x] = uint32_t(min(n, (unsigned long long)UINT32_MAX));
}

struct gw_gpu_filters {
    gw_gpu_response *response[AT_ONCE];
    float gain[AT_ONCE]; /* a power of two that no bin exceeds; 1 in full precision */
};

/* taps[gridDim.x][n_taps] -> responses; a block makes one partition. */
static __global__ void __launch_bounds__(512, 1)
    respond(gw_gpu_shape p, const float *taps, gw_gpu_filters filters)
{
    GW_DYN_SHARED(float2, s);
    const unsigned level = blockIdx.y < p.level[0].parts ? 0 : 1;
    const gw_gpu_level &l = p.level[level];
    const unsigned part = blockIdx.y - (level ? p.level[0].parts : 0), m = l.n / 2;
    const unsigned first = l.first + part * l.block, end = min(first + l.block, p.n_taps);
    taps += size_t(blockIdx.x) * p.n_taps;
    for (unsigned k = threadIdx.x; k < m; k += blockDim.x) {
        const unsigned at = first + 2 * k;
        s[gw_pad(k)] = make_float2(at < end ? taps[at] : 0, at + 1 < end ? taps[at + 1] : 0);
    }
    __syncthreads();
    gw_block_fft(m, p.roots, s);
    untangle_all(s, m, p.roots);
    gw_gpu_response *w = filters.response[blockIdx.x];
    const float gain = filters.gain[blockIdx.x];
    const unsigned m_out = level ? m : p.m_out, at = l.slots_at + part * (m_out / 2);
    for (unsigned k = threadIdx.x; k < m_out / 2; k += blockDim.x) {
        const float4 v = get_slot(s, m_out, k, make_float2(0, 0), true, m_out < m);
        if (p.half) {
            const __half2 h[2] = {__floats2half2_rn(v.x / gain, v.y / gain),
                                  __floats2half2_rn(v.z / gain, v.w / gain)};
            uint2 bits;
            memcpy(&bits, h, sizeof bits);
            reinterpret_cast<uint2 *>(w + 1)[at + k] = bits;
        } else {
            reinterpret_cast<float4 *>(w + 1)[at + k] = v;
        }
    }
    if (threadIdx.x == 0 && blockIdx.y == 0)
        w->gain = gain;
}

#endif
