/* SPDX-License-Identifier: GPL-3.0-or-later
 * Bulk whitening by cuFFT (bulk_fft.cuh): window -> transform -> filter -> inverse -> store, and segment ->
 * transform -> power, each for a batch of channels, a block of threads a channel. */
#include "kernels/cuda/bulk_fft.cuh"

#include <cfloat>
#include <cstdlib>

enum { THREADS = 256 };

struct gw_bulk_fft {
    gw_gpu_shape p;
    const gw_cufft_calls *calls;
    cudaStream_t stream;
    int forward, inverse, segment; /* plans */
    bool windows, segments;
    float *time;  /* [n_batch][n], windows; then outputs; and segments */
    float2 *freq; /* [n_batch][n / 2 + 1], or of a segment */
    float2 *cut;  /* [n_batch][n_freq], filtered */
};

unsigned gw_fft_even_size(unsigned n, unsigned decimate)
{
    for (unsigned size = n;; size++) {
        if (size % (2 * decimate))
            continue;
        unsigned left = size;
        for (unsigned prime : {2u, 3u, 5u})
            while (left % prime == 0)
                left /= prime;
        if (left == 1)
            return size;
    }
}

/* ---- Kernels ---- */

/* The window of each channel, and what there is to say of its samples. */
static __global__ void __launch_bounds__(THREADS) cut_window(gw_gpu_shape p, gw_gpu_call call, float *time)
{
    GW_SHARED(float, part, 32);
    const unsigned i = blockIdx.x, before = p.n - p.hop;
    const gw_gpu_channel c = call.channels[i];
    const float *x = call.x + i * call.x_stride;
    const bool hole = c.state->next != call.sample0;
    float2 *to = reinterpret_cast<float2 *>(time + size_t(i) * p.n);
    bool ok = true;
    float low = FLT_MAX, high = -FLT_MAX;
    for (unsigned k = threadIdx.x; k < p.n / 2; k += blockDim.x) {
        const float2 v = gw_sample2(p, c, x, hole, before, 2 * k);
        if (2 * k >= before) {
            ok = ok && fabsf(v.x) <= GW_BULK_LIMIT && fabsf(v.y) <= GW_BULK_LIMIT;
            low = fminf(low, fminf(v.x, v.y));
            high = fmaxf(high, fmaxf(v.x, v.y));
        }
        to[k] = v;
    }
    const bool bad = __syncthreads_or(!ok);
    low = -gw_block_max(-low, part);
    high = gw_block_max(high, part);
    if (threadIdx.x == 0) {
        const long long past_from = hole ? call.sample0 : c.state->past_from;
        const bool whole = !bad && past_from <= call.sample0 - (long long)(p.n_taps - 1);
        call.said[i] = {0, low / c.scale, high / c.scale, !bad, whole, false};
    }
}

static __global__ void __launch_bounds__(THREADS)
    filter(gw_gpu_shape p, gw_gpu_call call, bool fading, const float2 *freq, float2 *cut)
{
    const unsigned i = blockIdx.x, bins = p.n / 2 + 1, top = p.n_freq - 1;
    const gw_gpu_response *w = fading ? call.channels[i].fading : call.channels[i].response;
    for (unsigned k = threadIdx.x; k < p.n_freq; k += blockDim.x) {
        float2 v = w ? gw_mul(freq[size_t(i) * bins + k], gw_bin(p, w, k)) : make_float2(0, 0);
        if (k == 0 || k == top)
            v.y = 0;
        cut[size_t(i) * p.n_freq + k] = v;
    }
}

/* Outputs of channels that have a filter; with `fading` of those that have two, as a first half. */
static __global__ void __launch_bounds__(THREADS)
    store(gw_gpu_shape p, gw_gpu_call call, bool fading, const float *time)
{
    GW_SHARED(float, part, 32);
    const unsigned i = blockIdx.x, n = p.n / p.decimate, n_out = p.hop / p.decimate;
    const gw_gpu_channel c = call.channels[i];
    const bool good = call.said[i].finite;
    if (fading ? !c.fading : !c.response)
        return;
    const float *from = time + size_t(i) * n + (n - n_out);
    float *y = call.y + i * call.y_stride;
    const float unit = 1.0f / float(p.n);
    float peak = 0;
    bool ok = true;
    for (unsigned k = threadIdx.x; k < n_out; k += blockDim.x) {
        float v = good ? unit * from[k] : 0;
        if (!fading && c.fading && good) {
            const float rise = sinpif(0.5f * float(k) / float(n_out));
            v = fmaf(rise * rise, v - y[k], y[k]);
        }
        y[k] = v;
        ok = ok && fabsf(v) <= FLT_MAX;
        peak = fmaxf(peak, fabsf(v));
    }
    const bool bad = __syncthreads_or(!ok);
    peak = gw_block_max(peak, part);
    for (unsigned k = threadIdx.x; bad && k < n_out; k += blockDim.x)
        y[k] = 0;
    if (threadIdx.x == 0 && !fading) {
        call.said[i].peak = bad ? 0 : peak;
        if (bad)
            call.said[i].finite = call.said[i].whole = false;
    }
}

/* Is the segment that ends with sample `end` fit to enter? */
static __device__ __forceinline__ bool clean(const gw_gpu_shape &p, const gw_gpu_call &call, unsigned i,
                                             long long end)
{
    const gw_gpu_state *s = call.channels[i].state;
    const gw_gpu_said said = call.said[i];
    long long clean_from = s->next != call.sample0 ? call.sample0 : s->clean_from;
    if (p.gate > 0 && said.peak > p.gate)
        clean_from = call.sample0 + p.hop;
    return said.finite && clean_from <= end - (long long)p.segment;
}

static __global__ void __launch_bounds__(THREADS)
    cut_segment(gw_gpu_shape p, gw_gpu_call call, long long end, float *time)
{
    const unsigned i = blockIdx.x;
    const gw_gpu_channel c = call.channels[i];
    const float *x = call.x + i * call.x_stride;
    const bool hole = c.state->next != call.sample0, fit = clean(p, call, i, end);
    const unsigned from = unsigned(p.n_past + (end - call.sample0) - p.segment);
    float *to = time + size_t(i) * p.segment;
    for (unsigned k = threadIdx.x; k < p.segment; k += blockDim.x) {
        const unsigned at = from + k; /* a segment of 2 * odd samples may begin at an odd one */
        const float2 v = fit ? gw_sample2(p, c, x, hole, p.n_past, at & ~1u) : make_float2(0, 0);
        to[k] = at & 1 ? v.y : v.x;
    }
}

static __global__ void __launch_bounds__(THREADS)
    take_power(gw_gpu_shape p, gw_gpu_call call, long long end, const float2 *freq, float *spare)
{
    const unsigned i = blockIdx.x;
    if (!clean(p, call, i, end))
        return;
    gw_gpu_state *s = call.channels[i].state;
    unsigned averaged = s->averaged, collected = s->collected;
    const float2 *x = freq + size_t(i) * (p.segment / 2 + 1);
    float *own = spare + size_t(i) * p.n_bins;
    gw_segment_power(p, gw_power_row(p, s, collected, own), [=](unsigned k) { return x[k]; });
    gw_enter(p, s, own, averaged, collected);
    __syncthreads();
    if (threadIdx.x == 0) {
        s->averaged = averaged;
        s->collected = collected;
        call.said[i].entered = true;
    }
}

static __global__ void __launch_bounds__(THREADS)
    keep_response(gw_gpu_shape p, const float2 *freq, gw_gpu_response *w)
{
    GW_SHARED(float, part, 32);
    float most = 0;
    for (unsigned k = threadIdx.x; k < p.n_freq; k += blockDim.x)
        most = fmaxf(most, fmaxf(fabsf(freq[k].x), fabsf(freq[k].y)));
    gw_keep_response(
        p, gw_block_max(most, part), [=](unsigned k) { return freq[k]; }, w);
}

/* ---- Host ---- */

void gw_bulk_fft_destroy(gw_bulk_fft **out)
{
    gw_bulk_fft *f = *out;
    if (!f)
        return;
    for (int plan : {f->forward, f->inverse, f->segment})
        if (plan)
            f->calls->destroy(plan);
    cudaFree(f->time);
    cudaFree(f->freq);
    cudaFree(f->cut);
    free(f);
    *out = nullptr;
}

static int plan_new(gw_bulk_fft *f, int *plan, int type, unsigned n, unsigned n_batch)
{
    int points = int(n);
    if (f->calls->plan_many(plan, 1, &points, nullptr, 1, 0, nullptr, 1, 0, type, int(n_batch)) != 0 ||
        f->calls->set_stream(*plan, f->stream) != 0)
        return gw_fail(GW_ESYSTEM, "cuFFT makes no plan for %u transforms of %u points", n_batch, n);
    return GW_OK;
}

static int allocate(void *p, size_t bytes)
{
    return gw_gpu_status(cudaMalloc(static_cast<void **>(p), bytes), "memory of cuFFT's windows");
}

static int fill(gw_bulk_fft *f, unsigned n_batch)
{
    const gw_gpu_shape *p = &f->p;
    const size_t window = f->windows ? p->n : 0, segment = f->segments ? p->segment : 0;
    const size_t points = window > segment ? window : segment;
    GW_TRY(allocate(&f->time, n_batch * points * sizeof(float)));
    GW_TRY(allocate(&f->freq, n_batch * (points / 2 + 1) * sizeof(float2)));
    if (f->windows) {
        GW_TRY(allocate(&f->cut, n_batch * size_t(p->n_freq) * sizeof(float2)));
        GW_TRY(plan_new(f, &f->forward, GW_CUFFT_R2C, p->n, n_batch));
        GW_TRY(plan_new(f, &f->inverse, GW_CUFFT_C2R, p->n / p->decimate, n_batch));
    }
    return f->segments ? plan_new(f, &f->segment, GW_CUFFT_R2C, p->segment, n_batch) : GW_OK;
}

int gw_bulk_fft_new(gw_bulk_fft **out, const gw_gpu_shape *p, bool no_windows, bool no_segments,
                    unsigned n_batch, cudaStream_t stream)
{
    *out = nullptr;
    gw_bulk_fft *f = static_cast<gw_bulk_fft *>(calloc(1, sizeof *f));
    if (!f)
        return gw_fail(GW_ENOMEM, "bulk whitening");
    f->p = *p;
    f->calls = gw_cufft();
    f->stream = stream;
    f->windows = !no_windows;
    f->segments = !no_segments && p->segment > 0;
    const int err = fill(f, n_batch);
    if (err != GW_OK) {
        gw_bulk_fft_destroy(&f);
        return err;
    }
    *out = f;
    return GW_OK;
}

void gw_bulk_fft_respond(gw_bulk_fft *f, const float *taps, gw_gpu_response *w)
{
    const gw_gpu_shape &p = f->p;
    cudaMemsetAsync(f->time, 0, p.n * sizeof(float), f->stream);
    cudaMemcpyAsync(f->time, taps, p.n_taps * sizeof(float), cudaMemcpyDeviceToDevice, f->stream);
    f->calls->forward(f->forward, f->time, f->freq);
    GW_LAUNCH(keep_response, 1, THREADS, 0, f->stream, p, f->freq, w);
}

void gw_bulk_fft_whiten(gw_bulk_fft *f, const gw_gpu_call *call, bool fading)
{
    const gw_gpu_shape &p = f->p;
    GW_LAUNCH(cut_window, call->n, THREADS, 0, f->stream, p, *call, f->time);
    f->calls->forward(f->forward, f->time, f->freq);
    for (int round = fading ? 0 : 1; round < 2; round++) {
        GW_LAUNCH(filter, call->n, THREADS, 0, f->stream, p, *call, round == 0, f->freq, f->cut);
        f->calls->inverse(f->inverse, f->cut, f->time);
        GW_LAUNCH(store, call->n, THREADS, 0, f->stream, p, *call, round == 0, f->time);
    }
}

void gw_bulk_fft_segments(gw_bulk_fft *f, const gw_gpu_call *call)
{
    const gw_gpu_shape &p = f->p;
    const long long half = p.segment / 2, next = call->sample0 + p.hop;
    for (long long end = (call->sample0 / half + 1) * half; end <= next; end += half) {
        GW_LAUNCH(cut_segment, call->n, THREADS, 0, f->stream, p, *call, end, f->time);
        f->calls->forward(f->segment, f->time, f->freq);
        GW_LAUNCH(take_power, call->n, THREADS, 0, f->stream, p, *call, end, f->freq, f->time);
    }
}
