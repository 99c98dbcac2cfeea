/* SPDX-License-Identifier: GPL-3.0-or-later
 * Measures the GPU's kernels beside what the same card copies in the same minutes, and prints JSON: bulk
 * whitening fused and by cuFFT, on arrays that lie on the device and on pinned host memory; a convolution of
 * the network engine. Run by gpu.sh. bench_gpu [CHANNELS [RATE_HZ]] (default 8192, 16384; up to half a MiB of
 * device memory a channel). */
#include <cuda_runtime.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

extern "C" {
#include "kernels/cuda/cuda.h"
}

enum { ROUNDS = 9 };
static uint32_t rate_hz = 16384;

static void need(bool holds, const char *what)
{
    if (holds)
        return;
    fprintf(stderr, "bench_gpu: %s: %s %s\n", what, cudaGetErrorString(cudaGetLastError()), gw_err_detail());
    exit(1);
}

static double now()
{
    return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

/* Seconds of a call that waits for its own end: the median of ROUNDS after two to warm up. */
template <class F> static double seconds(F f)
{
    std::vector<double> t;
    for (int i = 0; i < ROUNDS + 2; i++) {
        const double from = now();
        f();
        t.push_back(now() - from);
    }
    std::sort(t.begin() + 2, t.end());
    return t[2 + ROUNDS / 2];
}

static double copy_rate(void *to, const void *from, size_t bytes)
{
    return double(bytes) / seconds([=] {
               need(cudaMemcpy(to, from, bytes, cudaMemcpyDefault) == cudaSuccess &&
                        cudaDeviceSynchronize() == cudaSuccess,
                    "copy");
           });
}

/* A hop of n channels: its time, the bytes that the caller sees (samples in, samples out, once each) and
 * those that device memory moves; on the device by `enqueue`, with rows elsewhere by `step`. */
static void whiten(const char *form, const gw_bulk_ops *ops, gw_bulk_shape s, const char *where, uint32_t n,
                   float *x, float *y, double copy, bool comma)
{
    gw_bulk *b = nullptr;
    gw_bulk_scratch *w = nullptr;
    void *states = nullptr, *responses = nullptr;
    gw_bulk_channel *channels = nullptr;
    cudaStream_t stream = nullptr;
    need(ops->bulk_new(&b, &s) == GW_OK && ops->scratch_new(&w, b) == GW_OK, form);
    const gw_bulk_info *info = ops->info(b);
    need(ops->memory_new(&states, n * info->state_bytes) == GW_OK &&
             ops->memory_new(&responses, n * info->response_bytes) == GW_OK &&
             cudaHostAlloc(&channels, n * sizeof *channels, cudaHostAllocDefault) == cudaSuccess &&
             cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking) == cudaSuccess,
         "memory");
    std::vector<double> taps(s.n_taps, 1e-3);
    for (uint32_t i = 0; i < n; i++) {
        channels[i] = gw_bulk_channel();
        channels[i].state = static_cast<char *>(states) + i * info->state_bytes;
        channels[i].response = static_cast<char *>(responses) + i * info->response_bytes;
        channels[i].scale = 1;
        ops->state_clear(b, channels[i].state);
        ops->prepare(w, taps.data(), static_cast<char *>(responses) + i * info->response_bytes);
    }
    const bool device = strcmp(where, "device") == 0;
    const uint32_t hops = (s.n_taps + s.hop - 1) / s.hop + 1; /* until all partitions count */
    int64_t hop = 0;
    const auto one = [&] {
        const int64_t sample0 = hop++ * s.hop;
        if (device)
            need(ops->enqueue(w, stream, sample0, channels, n, x, s.hop, y, s.hop / s.decimate) == GW_OK,
                 form);
        else
            ops->step(w, sample0, channels, n, x, s.hop, y, s.hop / s.decimate);
    };
    for (uint32_t i = 0; i < hops; i++)
        one();
    const uint32_t each = rate_hz / s.hop > 0 ? rate_hz / s.hop : 1; /* long levels have their turn */
    const double t = seconds([&] {
                         for (uint32_t i = 0; i < each; i++)
                             one();
                         need(cudaStreamSynchronize(stream) == cudaSuccess, form);
                     }) /
                     each;
    need(channels[0].finite && channels[n - 1].finite && channels[0].whole, "results");
    const double us = 1e6 * t / n, seen = s.hop * 4.0 * (1 + 1.0 / s.decimate);
    printf("    {\"form\": \"%s\", \"arrays\": \"%s\", \"hop\": %u, \"taps\": %u, \"decimate\": %u, "
           "\"segment\": %u, \"half\": %s, \"layout\": \"%s\", \"us_per_channel\": %.4f, "
           "\"bytes_seen\": %.0f, \"bytes_moved\": %.0f, \"seen_share_of_copy\": %.3f, "
           "\"share_of_copy\": %.3f, \"share_of_card_for_100000\": %.4f, \"input_GBps\": %.2f}%s\n",
           form, where, s.hop, s.n_taps, s.decimate, s.segment, s.half ? "true" : "false", info->layout, us,
           seen, info->hop_bytes, seen / (1e-6 * us) / copy, info->hop_bytes / (1e-6 * us) / copy,
           1e5 * us * 1e-6 / (double(s.hop) / rate_hz), s.hop * 4.0 / (1e3 * us), comma ? "," : "");
    fflush(stdout);
    ops->memory_destroy(&responses);
    ops->memory_destroy(&states);
    ops->scratch_destroy(&w);
    ops->bulk_destroy(&b);
    cudaFreeHost(channels);
    cudaStreamDestroy(stream);
}

static void convolve(size_t room, uint32_t batch, uint32_t columns, uint32_t in, uint32_t out,
                     uint32_t kernel, float *x, float *y, bool comma)
{
    if (size_t(batch) * (columns + kernel - 1) * in > room || size_t(batch) * columns * out > room)
        batch = 1, columns = 16; /* few channels: only to see that it runs */
    need(size_t(columns + kernel) * (in > out ? in : out) <= room, "too few channels for a convolution");
    gw_conv_ops ops;
    gw_conv *c = nullptr;
    gw_conv_cuda(&ops);
    const gw_conv_desc d = {in, out, 1, kernel, 1, 1, {GW_ACT_RELU, 0, 0}};
    const std::vector<float> weight(size_t(in) * out * kernel, 1e-3f);
    need(ops.open(&c, &d, weight.data(), nullptr) == GW_OK, "convolution");
    const gw_conv_io io = {
        batch, columns, x, nullptr, y, size_t(columns + kernel - 1) * in, 0, size_t(columns) * out};
    const double t = seconds([&] {
                         for (int i = 0; i < 10; i++)
                             ops.run(c, &io);
                         need(gw_cuda_wait() == GW_OK, "convolution");
                     }) /
                     10;
    printf("    {\"batch\": %u, \"columns\": %u, \"in\": %u, \"out\": %u, \"kernel\": %u, \"us\": %.2f, "
           "\"GFLOPs\": %.0f}%s\n",
           batch, columns, in, out, kernel, 1e6 * t, 2e-9 * batch * columns * in * out * kernel / t,
           comma ? "," : "");
    ops.close(&c);
}

int main(int argc, char **argv)
{
    const uint32_t n = argc > 1 ? uint32_t(strtoul(argv[1], nullptr, 10)) : 8192;
    if (argc > 2)
        rate_hz = uint32_t(strtoul(argv[2], nullptr, 10));
    const uint32_t rate = rate_hz;
    const size_t bytes = size_t(n) * rate * sizeof(float);
    float *x = nullptr, *y = nullptr, *host_x = nullptr, *host_y = nullptr;
    need(n > 0 && cudaMalloc(&x, bytes) == cudaSuccess && cudaMalloc(&y, bytes) == cudaSuccess &&
             cudaHostAlloc(&host_x, bytes, 0) == cudaSuccess &&
             cudaHostAlloc(&host_y, bytes, 0) == cudaSuccess,
         gw_cuda_status());
    uint32_t seed = 1;
    for (size_t i = 0; i < size_t(n) * rate; i++) { /* zeros would be faster than data */
        seed = seed * 1664525 + 1013904223;
        host_x[i] = float(int32_t(seed)) * 0x1p-31f;
    }
    const double up = copy_rate(x, host_x, bytes), down = copy_rate(host_y, x, bytes),
                 copy = 2 * copy_rate(y, x, bytes);
    printf("{\"gpu\": \"%s\", \"channels\": %u,\n  \"device_copy_GBps\": %.1f, \"to_device_GBps\": %.2f, "
           "\"from_device_GBps\": %.2f,\n"
           "  \"whiten\": [\n",
           gw_cuda_status(), n, 1e-9 * copy, 1e-9 * up, 1e-9 * down);
    gw_bulk_ops fused, cufft;
    gw_bulk_cuda(&fused);
    gw_bulk_cufft(&cufft);
    gw_bulk_shape usual = {};
    usual.rate_hz = usual.hop = usual.n_taps = rate;
    usual.decimate = usual.pool = 1;
    usual.segment = 2 * rate;
    usual.memory = 64;
    gw_bulk_shape plain = usual, judged = usual, half = usual, reduced = usual, quarter = usual,
                  sixteenth = usual, sixteenth_half = usual;
    plain.segment = 0;
    judged.dead_run = rate / 16;
    judged.gate = 100;
    judged.taper = rate / 4;
    half.half = true;
    reduced.decimate = 4;
    quarter.hop = rate / 4;
    quarter.segment = rate / 2;
    sixteenth.hop = rate / 16;
    sixteenth.segment = rate / 2;
    sixteenth_half = sixteenth;
    sixteenth_half.half = true;
    for (const gw_bulk_shape &s : {usual, plain, judged, half, reduced, quarter, sixteenth, sixteenth_half}) {
        whiten("fused", &fused, s, "device", n, x, y, copy, true);
        whiten("cufft", &cufft, s, "device", n, x, y, copy, true);
    }
    whiten("fused", &fused, usual, "pinned", n, host_x, host_y, copy, false);
    const size_t room = size_t(n) * rate;
    printf("  ],\n  \"convolution\": [\n");
    convolve(room, 256, 768, 64, 64, 3, x, y, true);
    convolve(room, 256, 96, 512, 512, 3, x, y, true);
    convolve(room, 64, 4096, 21, 21, 7, x, y, true);
    convolve(room, 1, 768, 64, 64, 3, x, y, false);
    printf("  ]\n}\n");
    return 0;
}
