/* SPDX-License-Identifier: GPL-3.0-or-later
 * Bulk whitening on the GPU, the host's side: gw_bulk_ops over the kernels of bulk_fused.cuh and the cuFFT
 * form of bulk_fft.cuh. `enqueue` works on rows that lie on the device, in the caller's stream. `step` takes
 * rows from anywhere: a call's channels go in batches through two slots, each with its stream and its own
 * memory, so that one batch is copied in while the one before is worked on and the one before that is copied
 * out. Responses and states stay in device memory (memory_new). */
#include "kernels/cuda/bulk_fft.cuh"
#include "kernels/cuda/bulk_fused.cuh"
#include "kernels/cuda/bulk_plan.cuh"

extern "C" {
#include "kernels/cuda/cuda.h"
}

#include <cmath>
#include <cstdlib>
#include <cstring>

enum { N_SLOTS = 2, BATCH_BYTES = 16 << 20 };
#ifdef GW_EMULATED
static const unsigned MOST_BATCH = 2, MOST_DIRECT = 2; /* so that few channels are several batches */
#else
static const unsigned MOST_BATCH = 4096, MOST_DIRECT = 1 << 17;
#endif

struct slot {
    cudaStream_t stream;
    gw_bulk_channel *channels, *dev_channels; /* host's are pinned */
    float *x, *dev_x, *y, *dev_y, *spare;
    gw_bulk_fft *fft;
    unsigned first, n; /* channels of the call that are in it; n 0: free */
    bool deliver;      /* y is in `y`, to be copied to the caller */
};

/* Filters on their way: up to AT_ONCE of them wait for each other. */
struct staged {
    float *taps, *dev_taps; /* [AT_ONCE][n_taps] */
    gw_gpu_filters of;
    unsigned n;
    cudaEvent_t ready; /* they are done */
};

struct gw_bulk_scratch {
    const gw_bulk *b;
    slot slots[N_SLOTS];
    gw_bulk_channel *dev_channels; /* [most_direct] of enqueue */
    unsigned most_direct;
    cudaStream_t side; /* of filters */
    staged filters[2];
    unsigned turn;        /* which of them is filled */
    gw_bulk_fft *respond; /* cuFFT's form: for one filter */
};

/* ---- Launches ---- */

/* Of a kernel that transforms m complex points in shared memory: as many blocks as the device holds at once.
 */
template <class Kernel> static int launch_of(gw_bulk_launch *l, Kernel kernel, unsigned m)
{
    int device = 0, sms = 0, limit = 0, resident = 1;
    l->threads = m / GW_FFT_EACH < 32 ? 32 : m / GW_FFT_EACH;
    l->shared_bytes = (gw_pad(m) + 2) * sizeof(float2);
    const int bytes = int(l->shared_bytes);
    GW_GPU_TRY(cudaGetDevice(&device), "device");
    GW_GPU_TRY(cudaDeviceGetAttribute(&sms, cudaDevAttrMultiProcessorCount, device), "multiprocessors");
    GW_GPU_TRY(cudaDeviceGetAttribute(&limit, cudaDevAttrMaxSharedMemoryPerBlockOptin, device),
               "shared memory");
    if (bytes + 1024 > limit)
        return gw_fail(GW_ERANGE, "GPU: a transform wants %d bytes of shared memory, %d are there", bytes,
                       limit);
    GW_GPU_TRY(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, limit - 1024),
               "shared memory");
    GW_GPU_TRY(
        cudaOccupancyMaxActiveBlocksPerMultiprocessor(&resident, kernel, int(l->threads), size_t(bytes)),
        "occupancy");
    l->blocks = unsigned(sms * (resident > 0 ? resident : 1));
    return GW_OK;
}

static int launches(gw_bulk *b)
{
    gw_bulk_launch filters;
    if (b->fused) {
        GW_TRY(launch_of(&b->level[0], whiten, b->p.level[0].n / 2));
        GW_TRY(launch_of(&filters, respond, b->most));
    }
    if (b->p.n_levels > 1) {
        GW_TRY(launch_of(&b->level[1], tails, b->p.level[1].n / 2));
        GW_TRY(launch_of(&b->level[1], spectra, b->p.level[1].n / 2));
    }
    if (b->segmented && b->p.segment && b->rides < 0)
        GW_TRY(launch_of(&b->segment, segments, b->p.segment / 2));
    for (const gw_bulk_launch *l : {&b->level[0], &b->level[1], &b->segment})
        b->blocks = l->blocks > b->blocks ? l->blocks : b->blocks;
    return GW_OK;
}

static int roots_new(gw_bulk *b, unsigned points)
{
    float2 *host = static_cast<float2 *>(malloc(points / 2 * sizeof(float2)));
    if (!host)
        return gw_fail(GW_ENOMEM, "GPU: roots of unity");
    for (unsigned i = 0; i < points / 2; i++)
        host[i] = make_float2(float(cos(2 * M_PI * i / points)), float(-sin(2 * M_PI * i / points)));
    void *p = nullptr;
    cudaError_t e = cudaMalloc(&p, points / 2 * sizeof(float2));
    if (e == cudaSuccess)
        e = cudaMemcpyAsync(p, host, points / 2 * sizeof(float2), cudaMemcpyHostToDevice, nullptr);
    if (e == cudaSuccess)
        e = cudaStreamSynchronize(nullptr);
    free(host);
    b->roots = static_cast<float2 *>(p);
    b->p.roots = {b->roots, 31 - __builtin_clz(points)};
    return gw_gpu_status(e, "roots of unity");
}

static void bulk_destroy(gw_bulk **b)
{
    if (*b)
        cudaFree((*b)->roots);
    free(*b);
    *b = nullptr;
}

static int fill(gw_bulk *b, const gw_bulk_shape *s, bool fused)
{
    GW_TRY(gw_bulk_plan(b, s, fused));
    const size_t bytes = size_t(s->hop) * sizeof(float);
    b->batch = unsigned(bytes > BATCH_BYTES ? 1 : BATCH_BYTES / bytes);
    b->batch = b->batch > MOST_BATCH ? MOST_BATCH : b->batch;
    GW_TRY(roots_new(b, 2 * b->most));
    return launches(b);
}

static int bulk_make(gw_bulk **out, const gw_bulk_shape *s, bool fused)
{
    *out = nullptr;
    GW_TRY(gw_bulk_shape_check(s));
    gw_bulk *b = static_cast<gw_bulk *>(calloc(1, sizeof *b));
    if (!b)
        return gw_fail(GW_ENOMEM, "bulk whitening");
    const int err = fill(b, s, fused);
    if (err != GW_OK) {
        bulk_destroy(&b);
        return err;
    }
    *out = b;
    return GW_OK;
}

static int bulk_new(gw_bulk **out, const gw_bulk_shape *s)
{
    return bulk_make(out, s, true);
}

static int bulk_new_cufft(gw_bulk **out, const gw_bulk_shape *s)
{
    return bulk_make(out, s, false);
}

static const gw_bulk_info *info(const gw_bulk *b)
{
    return &b->info;
}

/* ---- Memory ---- */

template <typename T> static int device_new(T **p, size_t n)
{
    void *m = nullptr;
    const cudaError_t e = n ? cudaMalloc(&m, n * sizeof(T)) : cudaSuccess;
    *p = static_cast<T *>(m);
    return e == cudaSuccess ? GW_OK : gw_fail(GW_ENOMEM, "GPU: %zu bytes of its memory", n * sizeof(T));
}

template <typename T> static int pinned_new(T **p, size_t n)
{
    void *m = nullptr;
    const cudaError_t e = cudaHostAlloc(&m, n * sizeof(T), cudaHostAllocDefault);
    *p = static_cast<T *>(m);
    return e == cudaSuccess ? GW_OK : gw_fail(GW_ENOMEM, "GPU: %zu bytes of pinned memory", n * sizeof(T));
}

static int memory_new(void **m, size_t bytes)
{
    char *p = nullptr;
    const int err = device_new(&p, bytes ? bytes : 1);
    *m = p;
    return err;
}

static void memory_destroy(void **m)
{
    cudaFree(*m);
    *m = nullptr;
}

/* Small copies outside the stream of hops; a failure shows in the next step. */
static void to_device(void *to, const void *from, size_t bytes)
{
    if (cudaMemcpyAsync(to, from, bytes, cudaMemcpyHostToDevice, nullptr) == cudaSuccess)
        cudaStreamSynchronize(nullptr);
}

static void from_device(void *to, const void *from, size_t bytes)
{
    if (cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToHost, nullptr) == cudaSuccess)
        cudaStreamSynchronize(nullptr);
}

static void state_clear(const gw_bulk *, void *state)
{
    gw_gpu_state s = {};
    s.next = s.opens = LLONG_MIN;
    to_device(state, &s, sizeof s);
}

static void past_clear(const gw_bulk *, void *state)
{
    const long long next = LLONG_MIN;
    to_device(&static_cast<gw_gpu_state *>(state)->next, &next, sizeof next);
}

static uint32_t psd_get(const gw_bulk *b, const void *state, float *psd)
{
    gw_gpu_state s = {};
    from_device(&s, state, sizeof s);
    if (s.averaged)
        from_device(psd, static_cast<const float *>(state) + sizeof s / sizeof(float) + b->p.psd_at,
                    b->p.psd_bins * sizeof(float));
    const uint64_t segments = uint64_t(s.averaged) * (b->p.median_of ? b->p.median_of : 1);
    return segments < UINT32_MAX ? uint32_t(segments) : UINT32_MAX;
}

static void psd_set(const gw_bulk *b, void *state, const float *psd, uint32_t segments)
{
    const uint32_t each = b->p.median_of ? b->p.median_of : 1;
    const unsigned counts[2] = {segments < each ? segments > 0 : segments / each,
                                0}; /* averaged, collected */
    to_device(&static_cast<gw_gpu_state *>(state)->averaged, counts, sizeof counts);
    if (counts[0])
        to_device(static_cast<float *>(state) + sizeof(gw_gpu_state) / sizeof(float) + b->p.psd_at, psd,
                  b->p.psd_bins * sizeof(float));
}

/* ---- Scratch ---- */

static void scratch_destroy(gw_bulk_scratch **out)
{
    gw_bulk_scratch *w = *out;
    if (!w)
        return;
    if (w->side)
        cudaStreamSynchronize(w->side);
    for (slot &s : w->slots) {
        gw_bulk_fft_destroy(&s.fft);
        for (void *p : {static_cast<void *>(s.dev_channels), static_cast<void *>(s.dev_x),
                        static_cast<void *>(s.dev_y), static_cast<void *>(s.spare)})
            cudaFree(p);
        for (void *p : {static_cast<void *>(s.channels), static_cast<void *>(s.x), static_cast<void *>(s.y)})
            cudaFreeHost(p);
        if (s.stream)
            cudaStreamDestroy(s.stream);
    }
    for (staged &f : w->filters) {
        cudaFreeHost(f.taps);
        cudaFree(f.dev_taps);
        if (f.ready)
            cudaEventDestroy(f.ready);
    }
    gw_bulk_fft_destroy(&w->respond);
    cudaFree(w->dev_channels);
    if (w->side)
        cudaStreamDestroy(w->side);
    free(w);
    *out = nullptr;
}

static size_t row_of(unsigned n)
{
    return (size_t(n) + 3) / 4 * 4;
}

static int slot_fill(slot *s, const gw_bulk *b)
{
    const size_t n = b->batch;
    GW_GPU_TRY(cudaStreamCreateWithFlags(&s->stream, cudaStreamNonBlocking), "stream");
    GW_TRY(pinned_new(&s->channels, n));
    GW_TRY(pinned_new(&s->x, n * row_of(b->p.hop)));
    GW_TRY(pinned_new(&s->y, n * row_of(b->p.n_out)));
    GW_TRY(device_new(&s->dev_channels, n));
    GW_TRY(device_new(&s->dev_x, n * row_of(b->p.hop)));
    GW_TRY(device_new(&s->dev_y, n * row_of(b->p.n_out)));
    GW_TRY(device_new(&s->spare, size_t(b->blocks) * b->p.n_bins));
    return b->fused && (b->segmented || b->rides >= 0)
               ? GW_OK
               : gw_bulk_fft_new(&s->fft, &b->p, b->fused, b->segmented || b->rides >= 0, b->batch,
                                 s->stream);
}

static int scratch_fill(gw_bulk_scratch *w)
{
    const gw_bulk *b = w->b;
    const size_t taps = size_t(AT_ONCE) * b->p.n_taps;
    GW_GPU_TRY(cudaStreamCreateWithFlags(&w->side, cudaStreamNonBlocking), "stream");
    for (staged &f : w->filters) {
        GW_TRY(pinned_new(&f.taps, taps));
        GW_TRY(device_new(&f.dev_taps, taps));
        GW_GPU_TRY(cudaEventCreateWithFlags(&f.ready, cudaEventDisableTiming), "event");
    }
    for (slot &s : w->slots)
        GW_TRY(slot_fill(&s, b));
    w->most_direct = b->fused && (b->segmented || b->rides >= 0) ? MOST_DIRECT : b->batch;
    GW_TRY(device_new(&w->dev_channels, w->most_direct));
    return b->fused ? GW_OK : gw_bulk_fft_new(&w->respond, &b->p, false, true, 1, w->side);
}

static int scratch_new(gw_bulk_scratch **out, const gw_bulk *b)
{
    *out = nullptr;
    gw_bulk_scratch *w = static_cast<gw_bulk_scratch *>(calloc(1, sizeof *w));
    if (!w)
        return gw_fail(GW_ENOMEM, "bulk whitening");
    w->b = b;
    const int err = scratch_fill(w);
    if (err != GW_OK) {
        scratch_destroy(&w);
        return err;
    }
    *out = w;
    return GW_OK;
}

/* ---- Filters ---- */

/* Sends off what is staged: on a stream of its own, so that no hop that is under way waits for it. */
static void send_filters(gw_bulk_scratch *w)
{
    const gw_bulk *b = w->b;
    staged *f = &w->filters[w->turn];
    if (f->n == 0)
        return;
    const dim3 grid(f->n, b->info.n_partitions);
    cudaMemcpyAsync(f->dev_taps, f->taps, size_t(f->n) * b->p.n_taps * sizeof(float), cudaMemcpyHostToDevice,
                    w->side);
    if (b->fused) {
        gw_bulk_launch l = {};
        l.threads = b->most / GW_FFT_EACH < 32 ? 32 : b->most / GW_FFT_EACH;
        l.shared_bytes = (gw_pad(b->most) + 2) * sizeof(float2);
        GW_LAUNCH(respond, grid, l.threads, l.shared_bytes, w->side, b->p, f->dev_taps, f->of);
    }
    for (unsigned i = 0; i < f->n && !b->fused; i++)
        gw_bulk_fft_respond(w->respond, w->side, f->dev_taps + size_t(i) * b->p.n_taps, f->of.gain[i],
                            f->of.response[i]);
    cudaEventRecord(f->ready, w->side);
    f->n = 0;
    w->turn ^= 1;
}

static void prepare(gw_bulk_scratch *w, const double *taps, void *response)
{
    const unsigned n_taps = w->b->p.n_taps;
    staged *f = &w->filters[w->turn];
    if (f->n == 0)
        cudaEventSynchronize(f->ready); /* the round before; at once where there was none */
    float *to = f->taps + size_t(f->n) * n_taps;
    double sum = 0;
    for (unsigned k = 0; k < n_taps; k++) {
        to[k] = float(taps[k]);
        sum += fabs(taps[k]);
    }
    int exponent = 0;
    frexp(sum, &exponent);
    f->of.response[f->n] = static_cast<gw_gpu_response *>(response);
    f->of.gain[f->n] = w->b->p.half && sum > 0 ? ldexpf(1, exponent) : 1; /* half has few exponents */
    if (++f->n == AT_ONCE)
        send_filters(w);
}

/* What the stream gets from now on finds all filters ready. */
static cudaError_t filters_before(gw_bulk_scratch *w, cudaStream_t stream)
{
    send_filters(w);
    return cudaStreamWaitEvent(stream, w->filters[w->turn ^ 1].ready,
                               0); /* the latest sent; the side is in order */
}

/* ---- Work ---- */

/* A hop of channels that the device has been told of, rows on the device. */
static cudaError_t run(const gw_bulk *b, cudaStream_t stream, gw_bulk_fft *fft, float *spare,
                       gw_bulk_channel *channels, unsigned n, bool fading, int64_t sample0, const float *x,
                       size_t x_stride, float *y, size_t y_stride)
{
    const gw_gpu_shape &p = b->p;
    const int64_t next = sample0 + p.hop, taken = p.hop < p.n_past ? p.hop : p.n_past;
    gw_gpu_call call = {channels,
                        n,
                        sample0,
                        next,
                        x,
                        y,
                        x_stride,
                        y_stride,
                        spare,
                        unsigned(sample0 % p.n_past),
                        unsigned((next - taken) % p.n_past),
                        {0, 0},
                        false};
    for (unsigned i = 0; i < p.n_levels; i++)
        if (p.level[i].kept)
            call.row[i] = unsigned(sample0 / p.level[i].block % p.level[i].kept);
    const auto blocks = [n](const gw_bulk_launch &l) { return n < l.blocks ? n : l.blocks; };
    const bool ends = p.segment && next % (p.segment / 2) == 0;
    const gw_bulk_launch *l = b->level;
    if (!b->fused) {
        gw_bulk_fft_whiten(fft, stream, &call, fading);
    } else {
        if (p.n_levels > 1)
            GW_LAUNCH(tails, blocks(l[1]), l[1].threads, l[1].shared_bytes, stream, p, call);
        call.segment = ends && b->rides == 0;
        GW_LAUNCH(whiten, blocks(l[0]), l[0].threads, l[0].shared_bytes, stream, p, call);
        call.segment = ends && b->rides == 1;
        if (p.n_levels > 1 && next % p.level[1].block == 0)
            GW_LAUNCH(spectra, blocks(l[1]), l[1].threads, l[1].shared_bytes, stream, p, call);
    }
    if (p.segment && b->rides < 0) {
        if (!b->segmented)
            gw_bulk_fft_segments(fft, stream, &call);
        else if (ends || p.segment / 2 < p.hop)
            GW_LAUNCH(segments, blocks(b->segment), b->segment.threads, b->segment.shared_bytes, stream, p,
                      call);
    }
    return cudaGetLastError();
}

static cudaMemoryType memory_of(const void *p)
{
    cudaPointerAttributes a;
    if (cudaPointerGetAttributes(&a, p) != cudaSuccess) {
        cudaGetLastError(); /* memory that CUDA does not know is no error */
        return cudaMemoryTypeUnregistered;
    }
    return a.type;
}

/* Can a kernel work on the caller's rows themselves? */
static bool is_direct(cudaMemoryType type, const float *p, size_t stride)
{
    return type == cudaMemoryTypeDevice && (reinterpret_cast<uintptr_t>(p) & 15) == 0 && stride % 4 == 0;
}

static int enqueue(gw_bulk_scratch *w, void *queue, int64_t sample0, gw_bulk_channel *channel, uint32_t n,
                   const float *x, size_t x_stride, float *y, size_t y_stride)
{
    const gw_bulk *b = w->b;
    cudaStream_t stream = static_cast<cudaStream_t>(queue);
    if (!is_direct(memory_of(x), x, x_stride) || !is_direct(memory_of(y), y, y_stride))
        return gw_fail(GW_ERANGE, "GPU: bulk whitening wants rows on the device, 16-byte aligned");
    if (memory_of(channel) != cudaMemoryTypeHost)
        return gw_fail(GW_ERANGE, "GPU: bulk whitening wants its channels in pinned memory");
    cudaError_t e = filters_before(w, stream);
    for (uint32_t first = 0; first < n && e == cudaSuccess; first += w->most_direct) {
        const unsigned some = n - first < w->most_direct ? n - first : w->most_direct;
        const size_t bytes = some * sizeof *channel;
        bool fading = false;
        for (unsigned i = first; i < first + some && !b->fused; i++)
            fading = fading || channel[i].fading;
        e = cudaMemcpyAsync(w->dev_channels, channel + first, bytes, cudaMemcpyHostToDevice, stream);
        if (e == cudaSuccess)
            e = run(b, stream, w->slots[0].fft, w->slots[0].spare, w->dev_channels, some, fading, sample0,
                    x + first * x_stride, x_stride, y + first * y_stride, y_stride);
        if (e == cudaSuccess)
            e = cudaMemcpyAsync(channel + first, w->dev_channels, bytes, cudaMemcpyDeviceToHost, stream);
    }
    return gw_gpu_status(e, "bulk whitening");
}

/* Which channels' rows of y a step writes. */
static bool gives(const gw_bulk *b, const gw_bulk_channel *c)
{
    return b->p.taper || (c->state && c->response);
}

/* Starts channels [first, first + n) of the call in a free slot. */
static cudaError_t start(gw_bulk_scratch *w, slot *s, int64_t sample0, const gw_bulk_channel *channel,
                         unsigned first, unsigned n, const float *x, size_t x_stride, float *y,
                         size_t y_stride)
{
    const gw_bulk *b = w->b;
    const unsigned hop = b->p.hop, n_out = b->p.n_out;
    const size_t in_bytes = hop * sizeof(float), out_bytes = n_out * sizeof(float);
    size_t in_row = row_of(hop), out_row = row_of(n_out);
    bool all = true, fading = false; /* channels have a filter; some have two */
    s->first = first;
    s->n = n;
    memcpy(s->channels, channel + first, n * sizeof *channel);
    for (unsigned i = 0; i < n; i++) {
        all = all && gives(b, &s->channels[i]);
        fading = fading || s->channels[i].fading;
    }
    x += first * x_stride;
    y += first * y_stride;
    cudaError_t e = filters_before(w, s->stream);
    if (e == cudaSuccess)
        e = cudaMemcpyAsync(s->dev_channels, s->channels, n * sizeof *s->channels, cudaMemcpyHostToDevice,
                            s->stream);
    const float *from = s->dev_x;
    float *to = s->dev_y;
    const cudaMemoryType in = memory_of(x), out = memory_of(y);
    if (is_direct(in, x, x_stride)) {
        from = x;
        in_row = x_stride;
    } else if (in == cudaMemoryTypeUnregistered) {
        for (unsigned i = 0; i < n; i++)
            memcpy(s->x + i * in_row, x + i * x_stride, in_bytes);
        if (e == cudaSuccess)
            e = cudaMemcpyAsync(s->dev_x, s->x, n * in_row * sizeof(float), cudaMemcpyHostToDevice,
                                s->stream);
    } else if (e == cudaSuccess) {
        e = cudaMemcpy2DAsync(s->dev_x, in_row * sizeof(float), x, x_stride * sizeof(float), in_bytes, n,
                              cudaMemcpyDefault, s->stream);
    }
    const bool direct = is_direct(out, y, y_stride);
    if (direct) {
        to = y;
        out_row = y_stride;
    }
    if (e == cudaSuccess)
        e = run(b, s->stream, s->fft, s->spare, s->dev_channels, n, fading, sample0, from, in_row, to,
                out_row);
    if (e == cudaSuccess)
        e = cudaMemcpyAsync(s->channels, s->dev_channels, n * sizeof *s->channels, cudaMemcpyDeviceToHost,
                            s->stream);
    s->deliver = !direct && out == cudaMemoryTypeUnregistered;
    if (e != cudaSuccess || direct)
        return e;
    if (s->deliver)
        return cudaMemcpyAsync(s->y, s->dev_y, n * out_row * sizeof(float), cudaMemcpyDeviceToHost,
                               s->stream);
    if (all)
        return cudaMemcpy2DAsync(y, y_stride * sizeof(float), s->dev_y, out_row * sizeof(float), out_bytes, n,
                                 cudaMemcpyDefault, s->stream);
    for (unsigned i = 0; i < n && e == cudaSuccess; i++)
        if (gives(b, &channel[first + i]))
            e = cudaMemcpyAsync(y + i * y_stride, s->dev_y + i * out_row, out_bytes, cudaMemcpyDefault,
                                s->stream);
    return e;
}

/* Waits for what a slot works on and hands it over. */
static void collect(gw_bulk_scratch *w, slot *s, gw_bulk_channel *channel, float *y, size_t y_stride,
                    cudaError_t e)
{
    const unsigned n = s->n, n_out = w->b->p.n_out;
    s->n = 0;
    if (n == 0)
        return;
    if (e == cudaSuccess)
        e = cudaStreamSynchronize(s->stream);
    const bool failed = gw_gpu_status(e, "bulk whitening") != GW_OK;
    for (unsigned i = 0; i < n; i++) {
        gw_bulk_channel *c = &channel[s->first + i];
        float *to = y + (s->first + i) * y_stride;
        if (!failed) {
            *c = s->channels[i];
        } else {
            c->health = GW_BULK_NAN;
            c->finite = c->whole = c->entered = c->muted = false;
            c->peak = c->low = c->high = 0;
            c->shut = 0;
        }
        if (gives(w->b, c) && s->deliver && !failed)
            memcpy(to, s->y + i * row_of(n_out), n_out * sizeof(float));
        else if (gives(w->b, c) && failed && memory_of(to) != cudaMemoryTypeDevice)
            memset(to, 0, n_out * sizeof(float));
    }
}

static void step(gw_bulk_scratch *w, int64_t sample0, gw_bulk_channel *channel, uint32_t n, const float *x,
                 size_t x_stride, float *y, size_t y_stride)
{
    unsigned turn = 0;
    const uint32_t batch = w->b->batch;
    for (uint32_t first = 0; first < n; first += batch) {
        slot *s = &w->slots[turn++ % N_SLOTS];
        collect(w, s, channel, y, y_stride, cudaSuccess);
        const unsigned some = n - first < batch ? n - first : batch;
        const cudaError_t e = start(w, s, sample0, channel, first, some, x, x_stride, y, y_stride);
        if (e != cudaSuccess)
            collect(w, s, channel, y, y_stride, e);
    }
    for (int i = 0; i < N_SLOTS; i++)
        collect(w, &w->slots[turn++ % N_SLOTS], channel, y, y_stride, cudaSuccess);
}

static int psd_read(gw_bulk_scratch *w, void *queue, const void *const *state, uint32_t n, float *psd,
                    uint32_t *segments)
{
    const gw_bulk *b = w->b;
    if (memory_of(psd) != cudaMemoryTypeHost || memory_of(segments) != cudaMemoryTypeHost)
        return gw_fail(GW_ERANGE, "GPU: a PSD is read into pinned memory");
    for (uint32_t first = 0; first < n; first += AT_ONCE) {
        gw_gpu_states some = {};
        const unsigned count = n - first < AT_ONCE ? n - first : unsigned(AT_ONCE);
        for (unsigned i = 0; i < count; i++)
            some.state[i] = static_cast<const gw_gpu_state *>(state[first + i]);
        GW_LAUNCH(read_psd, count, 256, 0, static_cast<cudaStream_t>(queue), b->p, some,
                  psd + size_t(first) * b->p.psd_bins, segments + first);
    }
    return gw_gpu_status(cudaGetLastError(), "a PSD");
}

void gw_bulk_cuda(gw_bulk_ops *ops)
{
    *ops = {bulk_new,   bulk_destroy,   info,        scratch_new, scratch_destroy,
            memory_new, memory_destroy, state_clear, past_clear,  prepare,
            step,       psd_get,        psd_set,     enqueue,     psd_read};
}

void gw_bulk_cufft(gw_bulk_ops *ops)
{
    gw_bulk_cuda(ops);
    ops->bulk_new = bulk_new_cufft;
}
