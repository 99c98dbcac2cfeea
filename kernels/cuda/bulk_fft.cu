/* SPDX-License-Identifier: GPL-3.0-or-later
 * Bulk whitening by cuFFT (bulk_fft.cuh): window -> transform -> filter -> inverse -> store, and segment ->
 * transform -> power, each for a batch of channels, a block of threads a channel. */
#include "kernels/cuda/bulk_fft.cuh"

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

/* ---- Kernels: hops of any even length, so 8 bytes a thread ---- */

static __device__ __forceinline__ float2 two(const float *p)
{
    return *reinterpret_cast<const float2 *>(p);
}

/* The window of each channel, and what there is to say of its samples. */
static __global__ void __launch_bounds__(THREADS) cut_window(gw_gpu_shape p, gw_gpu_call call, float *time)
{
    GW_SHARED(gw_gpu_judge, judge, 1);
    const unsigned i = blockIdx.x, n = p.level[0].n, before = n - p.hop;
    gw_bulk_channel *c = &call.channels[i];
    if (!c->state)
        return;
    gw_gpu_now now = gw_now(call, *c);
    const float *x = call.x + i * call.x_stride;
    gw_gpu_seen seen = {FLT_MAX, -FLT_MAX, false};
    for (unsigned k = 4 * threadIdx.x; k < p.hop; k += 4 * blockDim.x) {
        const float2 a = two(x + k), b = k + 2 < p.hop ? two(x + k + 2) : a;
        gw_see(seen, {a.x, a.y, b.x, b.y});
    }
    gw_see_all(seen, judge);
    unsigned low = 0, high = 0;
    for (unsigned k = threadIdx.x; p.dead_run && k < p.hop; k += blockDim.x) {
        low += x[k] == seen.low;
        high += x[k] == seen.high;
    }
    const float scale = now.scale != 0 ? now.scale : gw_bulk_scale(seen.low, seen.high);
    const unsigned health = gw_judge_all(p, x, seen, scale, low, high, judge);
    if (threadIdx.x == 0) {
        c->health = uint8_t(health);
        c->low = seen.low;
        c->high = seen.high;
        if (health == GW_BULK_GOOD)
            c->scale = scale;
    }
    float2 *to = reinterpret_cast<float2 *>(time + size_t(i) * n);
    for (unsigned k = threadIdx.x; k < n / 2; k += blockDim.x) {
        float2 v = make_float2(0, 0);
        const unsigned back = before - 2 * k; /* where it is the past */
        if (health != GW_BULK_GOOD)
            ;
        else if (2 * k >= before)
            v = make_float2(scale * x[2 * k - before], scale * x[2 * k + 1 - before]);
        else if (back <= p.n_past && call.sample0 - (long long)back >= now.past_from)
            v = two(gw_past(now.state) + (call.ring_at + (back > call.ring_at ? p.n_past : 0) - back));
        to[k] = v;
    }
}

static __device__ __forceinline__ float2 bin(const gw_gpu_shape &p, const gw_gpu_response *r, unsigned k)
{
    if (!p.half)
        return __ldg(reinterpret_cast<const float2 *>(r + 1) + k);
    const float2 w = __half22float2(reinterpret_cast<const __half2 *>(r + 1)[k]);
    return make_float2(r->gain * w.x, r->gain * w.y);
}

static __global__ void __launch_bounds__(THREADS)
    filter(gw_gpu_shape p, gw_gpu_call call, bool fading, const float2 *freq, float2 *cut)
{
    const unsigned i = blockIdx.x, bins = p.level[0].n / 2 + 1, top = p.n_freq - 1;
    const gw_bulk_channel &c = call.channels[i];
    const gw_gpu_response *w =
        static_cast<const gw_gpu_response *>(fading && c.response ? c.fading : c.response);
    for (unsigned k = threadIdx.x; k < p.n_freq; k += blockDim.x) {
        float2 v = w && c.state ? gw_mul(freq[size_t(i) * bins + k], bin(p, w, k)) : make_float2(0, 0);
        if (k == 0 || k == top)
            v.y = 0;
        cut[size_t(i) * p.n_freq + k] = v;
    }
}

/* Outputs; with `fading` of the channels that have a filter before, as a first half. Else ends the hop. */
static __global__ void __launch_bounds__(THREADS)
    store(gw_gpu_shape p, gw_gpu_call call, bool fading, const float *time)
{
    GW_SHARED(float, part, 32);
    GW_SHARED(long long, loud, THREADS);
    const unsigned i = blockIdx.x, n = p.level[0].n / p.decimate, n_out = p.n_out;
    const gw_bulk_channel c = call.channels[i];
    float *y = call.y + i * call.y_stride;
    if (!c.state) {
        if (p.taper && !fading)
            gw_silence(p, y);
        return;
    }
    gw_gpu_now now = gw_now(call, c);
    if (fading && !now.fading)
        return;
    const float *from = time + size_t(i) * n + (n - n_out);
    const float unit = 1.0f / float(p.level[0].n);
    unsigned health = c.health;
    float peak = 0;
    bool ok = true;
    for (unsigned k = threadIdx.x; now.response && health == GW_BULK_GOOD && k < n_out; k += blockDim.x) {
        float v = unit * from[k];
        if (!fading && now.fading) {
            const float rise = sinpif(0.5f * float(k) / float(n_out));
            v = fmaf(rise * rise, v - y[k], y[k]);
        }
        y[k] = v;
        ok = ok && fabsf(v) <= FLT_MAX;
        peak = fmaxf(peak, fabsf(v));
    }
    if (fading)
        return;
    if (__syncthreads_or(!ok))
        health = GW_BULK_NAN;
    peak = gw_block_max(peak, part);
    const float *x = call.x + i * call.x_stride;
    const unsigned skip = p.hop > p.n_past ? p.hop - p.n_past : 0;
    for (unsigned k = skip + 2 * threadIdx.x; health == GW_BULK_GOOD && k < p.hop; k += 2 * blockDim.x) {
        const unsigned to = call.ring_to + (k - skip);
        const float2 v = two(x + k);
        *reinterpret_cast<float2 *>(gw_past(now.state) + (to < p.n_past ? to : to - p.n_past)) =
            make_float2(c.scale * v.x, c.scale * v.y);
    }
    gw_end(p, call, i, now, y, health, peak, {c.low, c.high, false}, false, loud);
}

/* Is the segment that ends with sample `end` fit to enter? */
static __device__ __forceinline__ bool clean(const gw_gpu_shape &p, const gw_gpu_call &call, unsigned i,
                                             long long end)
{
    const gw_gpu_state *s = static_cast<const gw_gpu_state *>(call.channels[i].state);
    return s && s->next == call.next && s->clean_from <= end - (long long)p.segment;
}

static __global__ void __launch_bounds__(THREADS)
    cut_segment(gw_gpu_shape p, gw_gpu_call call, long long end, float *time)
{
    const unsigned i = blockIdx.x;
    const gw_gpu_state *s = static_cast<const gw_gpu_state *>(call.channels[i].state);
    const bool fit = clean(p, call, i, end);
    float *to = time + size_t(i) * p.segment;
    for (unsigned k = threadIdx.x; k < p.segment; k += blockDim.x) {
        const long long t = end - p.segment + k;
        to[k] = fit && t >= s->past_from ? gw_past(s)[unsigned((unsigned long long)t % p.n_past)] : 0;
    }
}

static __global__ void __launch_bounds__(THREADS)
    take_power(gw_gpu_shape p, gw_gpu_call call, long long end, const float2 *freq, float *spare)
{
    const unsigned i = blockIdx.x;
    if (!clean(p, call, i, end))
        return;
    gw_gpu_state *s = static_cast<gw_gpu_state *>(call.channels[i].state);
    unsigned averaged = s->averaged, collected = s->collected;
    const float2 *x = freq + size_t(i) * (p.segment / 2 + 1);
    float *own = spare + size_t(i) * p.n_bins;
    gw_segment_power(p, gw_power_row(p, s, collected, own), [=](unsigned k) { return x[k]; });
    gw_enter(p, s, own, averaged, collected);
    __syncthreads();
    if (threadIdx.x == 0) {
        s->averaged = averaged;
        s->collected = collected;
        call.channels[i].entered = true;
    }
}

static __global__ void __launch_bounds__(THREADS)
    keep_response(gw_gpu_shape p, const float2 *freq, float gain, gw_gpu_response *w)
{
    for (unsigned k = threadIdx.x; k < p.n_freq; k += blockDim.x) {
        const float2 v = freq[k];
        if (p.half)
            reinterpret_cast<__half2 *>(w + 1)[k] = __floats2half2_rn(v.x / gain, v.y / gain);
        else
            reinterpret_cast<float2 *>(w + 1)[k] = v;
    }
    if (threadIdx.x == 0)
        w->gain = gain;
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

/* Plans belong to a stream at a time. */
static void use(gw_bulk_fft *f, cudaStream_t stream)
{
    if (f->stream == stream)
        return;
    f->stream = stream;
    for (int plan : {f->forward, f->inverse, f->segment})
        if (plan)
            f->calls->set_stream(plan, stream);
}

static int allocate(void *p, size_t bytes)
{
    return gw_gpu_status(cudaMalloc(static_cast<void **>(p), bytes), "memory of cuFFT's windows");
}

static int fill(gw_bulk_fft *f, unsigned n_batch)
{
    const gw_gpu_shape *p = &f->p;
    const unsigned n = p->level[0].n;
    const size_t window = f->windows ? n : 0, segment = f->segments ? p->segment : 0;
    const size_t points = window > segment ? window : segment;
    GW_TRY(allocate(&f->time, n_batch * points * sizeof(float)));
    GW_TRY(allocate(&f->freq, n_batch * (points / 2 + 1) * sizeof(float2)));
    if (f->windows) {
        GW_TRY(allocate(&f->cut, n_batch * size_t(p->n_freq) * sizeof(float2)));
        GW_TRY(plan_new(f, &f->forward, GW_CUFFT_R2C, n, n_batch));
        GW_TRY(plan_new(f, &f->inverse, GW_CUFFT_C2R, n / p->decimate, n_batch));
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

void gw_bulk_fft_respond(gw_bulk_fft *f, cudaStream_t stream, const float *taps, float gain,
                         gw_gpu_response *w)
{
    const gw_gpu_shape &p = f->p;
    use(f, stream);
    cudaMemsetAsync(f->time, 0, p.level[0].n * sizeof(float), stream);
    cudaMemcpyAsync(f->time, taps, p.n_taps * sizeof(float), cudaMemcpyDeviceToDevice, stream);
    f->calls->forward(f->forward, f->time, f->freq);
    GW_LAUNCH(keep_response, 1, THREADS, 0, stream, p, f->freq, gain, w);
}

void gw_bulk_fft_whiten(gw_bulk_fft *f, cudaStream_t stream, const gw_gpu_call *call, bool fading)
{
    const gw_gpu_shape &p = f->p;
    use(f, stream);
    GW_LAUNCH(cut_window, call->n, THREADS, 0, stream, p, *call, f->time);
    f->calls->forward(f->forward, f->time, f->freq);
    for (int round = fading ? 0 : 1; round < 2; round++) {
        GW_LAUNCH(filter, call->n, THREADS, 0, stream, p, *call, round == 0, f->freq, f->cut);
        f->calls->inverse(f->inverse, f->cut, f->time);
        GW_LAUNCH(store, call->n, THREADS, 0, stream, p, *call, round == 0, f->time);
    }
}

void gw_bulk_fft_segments(gw_bulk_fft *f, cudaStream_t stream, const gw_gpu_call *call)
{
    const gw_gpu_shape &p = f->p;
    const long long half = p.segment / 2;
    use(f, stream);
    for (long long end = (call->sample0 / half + 1) * half; end <= call->next; end += half) {
        GW_LAUNCH(cut_segment, call->n, THREADS, 0, stream, p, *call, end, f->time);
        f->calls->forward(f->segment, f->time, f->freq);
        GW_LAUNCH(take_power, call->n, THREADS, 0, stream, p, *call, end, f->freq, f->time);
    }
}
