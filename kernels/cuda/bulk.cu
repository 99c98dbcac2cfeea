/* SPDX-License-Identifier: GPL-3.0-or-later
 * Bulk whitening on the GPU, the host's side: gw_bulk_ops over the kernels of bulk_fused.cuh and the cuFFT
 * form of bulk_fft.cuh. A call's channels go in batches through two slots, each with its stream and its own
 * memory, so that one batch is copied in while the one before is worked on and the one before that is copied
 * out. Responses and states stay in device memory (memory_new). */
#include "kernels/cuda/bulk_fft.cuh"
#include "kernels/cuda/bulk_fused.cuh"

extern "C" {
#include "kernels/cuda/cuda.h"
}

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>

enum { N_SLOTS = 2, BATCH_BYTES = 16 << 20, LARGEST = 16384 /* complex points in shared memory */ };
#ifdef GW_EMULATED
static const unsigned MOST_BATCH = 2; /* so that few channels are several batches */
#else
static const unsigned MOST_BATCH = 4096;
#endif

struct gw_bulk {
    gw_bulk_shape shape;
    gw_bulk_info info;
    gw_gpu_shape p;
    float2 *roots;
    bool fused;                     /* the window's transform fits into shared memory */
    bool segmented;                 /* as does the segment's; else both by cuFFT */
    bool rides;                     /* a segment is the window */
    unsigned most, threads, blocks; /* complex points in shared memory; of a launch */
    size_t shared_bytes;
    unsigned batch, direct; /* channels of a slot: copied in and out; or on the device already */
};

struct slot {
    cudaStream_t stream;
    gw_gpu_channel *channels, *dev_channels; /* host's are pinned */
    gw_gpu_said *said, *dev_said;
    float *x, *dev_x, *y, *dev_y, *spare;
    gw_bulk_fft *fft;
    unsigned first, n; /* channels of the call that are in it; n 0: free */
    bool deliver;      /* y is in `y`, to be copied to the caller */
};

struct gw_bulk_scratch {
    const gw_bulk *b;
    slot slots[N_SLOTS];
    float *taps, *dev_taps;
};

/* ---- Shapes ---- */

static unsigned power_of_two(uint64_t at_least)
{
    unsigned n = 64;
    while (n < at_least && n < 1u << 30)
        n *= 2;
    return n;
}

static bool is_power_of_two(unsigned n)
{
    return (n & (n - 1)) == 0;
}

static int allow_shared(gw_bulk *b)
{
    int device = 0, sms = 0, limit = 0, resident = 1;
    const int bytes = int(b->shared_bytes);
    GW_GPU_TRY(cudaGetDevice(&device), "device");
    GW_GPU_TRY(cudaDeviceGetAttribute(&sms, cudaDevAttrMultiProcessorCount, device), "multiprocessors");
    GW_GPU_TRY(cudaDeviceGetAttribute(&limit, cudaDevAttrMaxSharedMemoryPerBlockOptin, device),
               "shared memory");
    if (bytes + 1024 > limit)
        return gw_fail(GW_ERANGE, "GPU: a transform wants %d bytes of shared memory, %d are there", bytes,
                       limit);
    for (auto kernel : {whiten, finish})
        GW_GPU_TRY(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes),
                   "shared memory");
    GW_GPU_TRY(cudaFuncSetAttribute(respond, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes),
               "shared memory");
    GW_GPU_TRY(
        cudaOccupancyMaxActiveBlocksPerMultiprocessor(&resident, whiten, int(b->threads), size_t(bytes)),
        "occupancy");
    b->blocks = unsigned(sms * (resident > 0 ? resident : 1));
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
    const uint32_t half = s->segment / 2;
    const uint32_t for_psd = s->segment ? half >= s->hop ? s->segment - s->hop : half : 0;
    gw_gpu_shape *p = &b->p;
    b->shape = *s;
    p->hop = s->hop;
    p->decimate = s->decimate;
    p->n_taps = s->n_taps;
    p->segment = s->segment;
    p->pool = s->pool;
    p->median_of = s->median_of;
    p->memory = s->memory;
    p->psd_bins = gw_bulk_psd_bins(s);
    p->n_bins = (p->psd_bins + 3) / 4 * 4;
    p->n_past = ((s->n_taps - 1 > for_psd ? s->n_taps - 1 : for_psd) + 3) / 4 * 4;
    p->gate = s->gate;
    p->density = s->segment ? float(2 / (0.375 * s->segment * s->rate_hz)) : 0;
    p->bias = float(gw_bulk_median_bias(s));
    p->half = s->half;
    p->n = power_of_two(uint64_t(s->hop) + s->n_taps - 1);
    if (p->n < 64 * s->decimate)
        p->n = 64 * s->decimate;
    const bool segment_fits =
        s->segment == 0 || (is_power_of_two(s->segment) && s->segment >= 64 && s->segment <= 2 * LARGEST);
    b->fused = fused && p->n <= 2 * LARGEST;
    b->segmented = fused && segment_fits;
    b->rides = b->fused && s->segment == p->n && s->hop <= half;
    if (!b->fused || !b->segmented) {
        if (!gw_cufft())
            return gw_fail(GW_ENOTSUP,
                           "bulk whitening on the GPU: a window of %u samples and segments of %u need "
                           "cuFFT, and libcufft is not there",
                           p->n, s->segment);
    }
    if (!b->fused)
        p->n = gw_fft_even_size(s->hop + s->n_taps - 1, s->decimate);
    p->n_freq = p->n / 2 / s->decimate + 1;

    b->most = 32;
    if (b->fused)
        b->most = p->n / 2;
    if (b->segmented && half > b->most)
        b->most = half;
    b->threads = b->most / GW_FFT_EACH < 32 ? 32 : b->most / GW_FFT_EACH;
    b->shared_bytes = (gw_pad(b->most) + 1) * sizeof(float2);

    b->info.psd_bins = p->psd_bins;
    b->info.n_partitions = 1;
    b->info.state_bytes =
        (sizeof(gw_gpu_state) + (p->n_past + size_t(1 + s->median_of) * p->n_bins) * sizeof(float) + 63) /
        64 * 64;
    b->info.response_bytes =
        (sizeof(gw_gpu_response) + p->n_freq * (s->half ? sizeof(__half2) : sizeof(float2)) + 63) / 64 * 64;
    snprintf(b->info.layout, sizeof b->info.layout, "1 x %u, %s on the GPU", p->n,
             b->fused ? "fused" : "cuFFT");
    const size_t bytes = size_t(s->hop) * sizeof(float);
    b->batch = unsigned(bytes > BATCH_BYTES ? 1 : BATCH_BYTES / bytes);
    b->batch = b->batch > MOST_BATCH ? MOST_BATCH : b->batch;
    b->direct = b->fused && b->segmented ? MOST_BATCH : b->batch;
    GW_TRY(roots_new(b, 2 * b->most));
    return allow_shared(b);
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
    s.next = LLONG_MIN;
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
        from_device(psd, static_cast<const float *>(state) + sizeof s / sizeof(float) + b->p.n_past,
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
        to_device(static_cast<float *>(state) + sizeof(gw_gpu_state) / sizeof(float) + b->p.n_past, psd,
                  b->p.psd_bins * sizeof(float));
}

/* ---- Scratch ---- */

static void scratch_destroy(gw_bulk_scratch **out)
{
    gw_bulk_scratch *w = *out;
    if (!w)
        return;
    for (slot &s : w->slots) {
        gw_bulk_fft_destroy(&s.fft);
        for (void *p :
             {static_cast<void *>(s.dev_channels), static_cast<void *>(s.dev_said),
              static_cast<void *>(s.dev_x), static_cast<void *>(s.dev_y), static_cast<void *>(s.spare)})
            cudaFree(p);
        for (void *p : {static_cast<void *>(s.channels), static_cast<void *>(s.said),
                        static_cast<void *>(s.x), static_cast<void *>(s.y)})
            cudaFreeHost(p);
        if (s.stream)
            cudaStreamDestroy(s.stream);
    }
    cudaFreeHost(w->taps);
    cudaFree(w->dev_taps);
    free(w);
    *out = nullptr;
}

static int slot_fill(slot *s, const gw_bulk *b)
{
    const size_t n = b->batch, n_out = b->p.hop / b->p.decimate;
    GW_GPU_TRY(cudaStreamCreateWithFlags(&s->stream, cudaStreamNonBlocking), "stream");
    GW_TRY(pinned_new(&s->channels, b->direct));
    GW_TRY(pinned_new(&s->said, b->direct));
    GW_TRY(pinned_new(&s->x, n * b->p.hop));
    GW_TRY(pinned_new(&s->y, n * n_out));
    GW_TRY(device_new(&s->dev_channels, b->direct));
    GW_TRY(device_new(&s->dev_said, b->direct));
    GW_TRY(device_new(&s->dev_x, n * b->p.hop));
    GW_TRY(device_new(&s->dev_y, n * n_out));
    GW_TRY(device_new(&s->spare, size_t(b->blocks) * b->p.n_bins));
    return b->fused && b->segmented
               ? GW_OK
               : gw_bulk_fft_new(&s->fft, &b->p, b->fused, b->segmented, b->batch, s->stream);
}

static int scratch_new(gw_bulk_scratch **out, const gw_bulk *b)
{
    *out = nullptr;
    gw_bulk_scratch *w = static_cast<gw_bulk_scratch *>(calloc(1, sizeof *w));
    if (!w)
        return gw_fail(GW_ENOMEM, "bulk whitening");
    w->b = b;
    int err = pinned_new(&w->taps, b->p.n_taps);
    if (err == GW_OK)
        err = device_new(&w->dev_taps, b->p.n_taps);
    for (int i = 0; i < N_SLOTS && err == GW_OK; i++)
        err = slot_fill(&w->slots[i], b);
    if (err != GW_OK) {
        scratch_destroy(&w);
        return err;
    }
    *out = w;
    return GW_OK;
}

/* ---- Work ---- */

static void prepare(gw_bulk_scratch *w, const double *taps, void *response)
{
    const gw_bulk *b = w->b;
    cudaStream_t stream = w->slots[0].stream;
    for (unsigned k = 0; k < b->p.n_taps; k++)
        w->taps[k] = float(taps[k]);
    if (cudaMemcpyAsync(w->dev_taps, w->taps, b->p.n_taps * sizeof(float), cudaMemcpyHostToDevice, stream) !=
        cudaSuccess)
        return;
    gw_gpu_response *r = static_cast<gw_gpu_response *>(response);
    if (b->fused)
        GW_LAUNCH(respond, 1, b->threads, b->shared_bytes, stream, b->p, w->dev_taps, r);
    else
        gw_bulk_fft_respond(w->slots[0].fft, w->dev_taps, r);
    cudaStreamSynchronize(stream);
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
    return type == cudaMemoryTypeDevice && (reinterpret_cast<uintptr_t>(p) & 7) == 0 && stride % 2 == 0;
}

/* Starts channels [first, first + n) of the call in a free slot. */
static cudaError_t start(gw_bulk_scratch *w, slot *s, int64_t sample0, const gw_bulk_channel *channel,
                         unsigned first, unsigned n, const float *x, size_t x_stride, float *y,
                         size_t y_stride)
{
    const gw_bulk *b = w->b;
    const unsigned hop = b->p.hop, n_out = hop / b->p.decimate;
    const size_t in_bytes = hop * sizeof(float), out_bytes = n_out * sizeof(float);
    bool all = true, fading = false; /* channels have a filter; some have two */
    s->first = first;
    s->n = n;
    for (unsigned i = 0; i < n; i++) {
        const gw_bulk_channel *c = &channel[first + i];
        s->channels[i] = {
            static_cast<gw_gpu_state *>(c->state), static_cast<const gw_gpu_response *>(c->response),
            static_cast<const gw_gpu_response *>(c->response ? c->fading : nullptr), c->scale, 0};
        all = all && c->response;
        fading = fading || s->channels[i].fading;
    }
    x += first * x_stride;
    y += first * y_stride;
    cudaError_t e = cudaMemcpyAsync(s->dev_channels, s->channels, n * sizeof *s->channels,
                                    cudaMemcpyHostToDevice, s->stream);

    gw_gpu_call call = {s->dev_channels, s->dev_said, n,     sample0, s->dev_x, s->dev_y, hop,
                        n_out,           s->spare,    false, false};
    const cudaMemoryType in = memory_of(x), out = memory_of(y);
    if (is_direct(in, x, x_stride)) {
        call.x = x;
        call.x_stride = x_stride;
    } else if (in == cudaMemoryTypeUnregistered) {
        for (unsigned i = 0; i < n; i++)
            memcpy(s->x + i * size_t(hop), x + i * x_stride, in_bytes);
        if (e == cudaSuccess)
            e = cudaMemcpyAsync(s->dev_x, s->x, n * in_bytes, cudaMemcpyHostToDevice, s->stream);
    } else if (e == cudaSuccess) {
        e = cudaMemcpy2DAsync(s->dev_x, in_bytes, x, x_stride * sizeof(float), in_bytes, n, cudaMemcpyDefault,
                              s->stream);
    }
    const bool direct = is_direct(out, y, y_stride);
    if (direct) {
        call.y = y;
        call.y_stride = y_stride;
    }
    if (e != cudaSuccess)
        return e;

    const unsigned blocks = n < b->blocks ? n : b->blocks;
    call.segment = b->rides && (sample0 + hop) % (b->p.segment / 2) == 0;
    call.last = b->fused && (b->rides || b->p.segment == 0);
    if (b->fused)
        GW_LAUNCH(whiten, blocks, b->threads, b->shared_bytes, s->stream, b->p, call);
    else
        gw_bulk_fft_whiten(s->fft, &call, fading);
    gw_gpu_shape rest = b->p;
    if (!b->segmented && b->p.segment) {
        gw_bulk_fft_segments(s->fft, &call);
        rest.segment = 0;
    }
    if (!call.last)
        GW_LAUNCH(finish, blocks, b->threads, b->shared_bytes, s->stream, rest, call);
    e = cudaGetLastError();

    if (e == cudaSuccess)
        e = cudaMemcpyAsync(s->said, s->dev_said, n * sizeof *s->said, cudaMemcpyDeviceToHost, s->stream);
    s->deliver = !direct && out == cudaMemoryTypeUnregistered;
    if (e != cudaSuccess || direct)
        return e;
    if (s->deliver)
        return cudaMemcpyAsync(s->y, s->dev_y, n * out_bytes, cudaMemcpyDeviceToHost, s->stream);
    if (all)
        return cudaMemcpy2DAsync(y, y_stride * sizeof(float), s->dev_y, out_bytes, out_bytes, n,
                                 cudaMemcpyDefault, s->stream);
    for (unsigned i = 0; i < n && e == cudaSuccess; i++)
        if (channel[first + i].response)
            e = cudaMemcpyAsync(y + i * y_stride, s->dev_y + i * size_t(n_out), out_bytes, cudaMemcpyDefault,
                                s->stream);
    return e;
}

/* Waits for what a slot works on and hands it over. */
static void collect(gw_bulk_scratch *w, slot *s, gw_bulk_channel *channel, float *y, size_t y_stride,
                    cudaError_t e)
{
    const unsigned n = s->n, n_out = w->b->p.hop / w->b->p.decimate;
    s->n = 0;
    if (n == 0)
        return;
    if (e == cudaSuccess)
        e = cudaStreamSynchronize(s->stream);
    const bool failed = gw_gpu_status(e, "bulk whitening") != GW_OK;
    for (unsigned i = 0; i < n; i++) {
        gw_bulk_channel *c = &channel[s->first + i];
        const gw_gpu_said said = failed ? gw_gpu_said() : s->said[i];
        c->finite = said.finite;
        c->whole = said.whole;
        c->entered = said.entered;
        c->peak = said.peak;
        c->low = said.low;
        c->high = said.high;
        float *to = y + (s->first + i) * y_stride;
        if (c->response && s->deliver && !failed)
            memcpy(to, s->y + i * size_t(n_out), n_out * sizeof(float));
        else if (c->response && failed && memory_of(to) != cudaMemoryTypeDevice)
            memset(to, 0, n_out * sizeof(float));
    }
}

static void step(gw_bulk_scratch *w, int64_t sample0, gw_bulk_channel *channel, uint32_t n, const float *x,
                 size_t x_stride, float *y, size_t y_stride)
{
    unsigned turn = 0;
    const bool direct = is_direct(memory_of(x), x, x_stride) && is_direct(memory_of(y), y, y_stride);
    const uint32_t batch = direct ? w->b->direct : w->b->batch;
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

void gw_bulk_cuda(gw_bulk_ops *ops)
{
    *ops = {bulk_new,    bulk_destroy, info,    scratch_new, scratch_destroy, memory_new, memory_destroy,
            state_clear, past_clear,   prepare, step,        psd_get,         psd_set};
}

void gw_bulk_cufft(gw_bulk_ops *ops)
{
    gw_bulk_cuda(ops);
    ops->bulk_new = bulk_new_cufft;
}
