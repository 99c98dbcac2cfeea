/* SPDX-License-Identifier: GPL-3.0-or-later
 * Measures the GPU's kernels beside what the same card copies in the same minutes, and prints JSON: bulk
 * whitening fused and by cuFFT, on arrays that lie on the device and on pinned host memory; a convolution of
 * the network engine. Run by gpu.sh. bench_gpu [CHANNELS] (default 8192; 2 x 3 x 64 KiB of device memory
 * each, and filters). */
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

enum { ROUNDS = 9, RATE = 16384 };

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

/* Time of a hop of n channels, and its bytes: each of inputs and outputs once. */
static void whiten(const char *form, const gw_bulk_ops *ops, gw_bulk_shape s, const char *where, uint32_t n,
                   float *x, float *y, double copy, bool comma)
{
    gw_bulk *b = nullptr;
    gw_bulk_scratch *w = nullptr;
    void *states = nullptr, *responses = nullptr;
    need(ops->bulk_new(&b, &s) == GW_OK && ops->scratch_new(&w, b) == GW_OK, form);
    const gw_bulk_info *info = ops->info(b);
    need(ops->memory_new(&states, n * info->state_bytes) == GW_OK &&
             ops->memory_new(&responses, n * info->response_bytes) == GW_OK,
         "memory");
    std::vector<double> taps(s.n_taps, 1e-3);
    ops->prepare(w, taps.data(), responses);
    for (uint32_t i = 1; i < n; i++)
        need(cudaMemcpy(static_cast<char *>(responses) + i * info->response_bytes, responses,
                        info->response_bytes, cudaMemcpyDeviceToDevice) == cudaSuccess,
             "responses");
    std::vector<gw_bulk_channel> channels(n);
    for (uint32_t i = 0; i < n; i++) {
        channels[i] = gw_bulk_channel();
        channels[i].state = static_cast<char *>(states) + i * info->state_bytes;
        channels[i].response = static_cast<char *>(responses) + i * info->response_bytes;
        channels[i].scale = 1;
        ops->state_clear(b, channels[i].state);
    }
    int64_t hop = 0;
    const double t =
        seconds([&] { ops->step(w, hop++ * s.hop, channels.data(), n, x, s.hop, y, s.hop / s.decimate); });
    need(channels[0].finite && channels[n - 1].finite, "results");
    const double past = std::max(s.n_taps - 1, s.segment > s.hop ? s.segment - s.hop : 0u) * 4.0;
    const double per_hop = s.segment ? std::min(1.0, 2.0 * s.hop / s.segment) : 0;
    const double bytes = s.hop * 4.0 * (1 + 1.0 / s.decimate) + 2 * past + double(info->response_bytes) +
                         per_hop * 8.0 * info->psd_bins;
    const double us = 1e6 * t / n;
    printf(
        "    {\"form\": \"%s\", \"arrays\": \"%s\", \"hop\": %u, \"taps\": %u, \"decimate\": %u, "
        "\"segment\": %u, \"half\": %s, "
        "\"layout\": \"%s\", \"us_per_channel\": %.3f, \"bytes_per_channel\": %.0f, \"share_of_copy\": %.3f, "
        "\"share_of_card_for_100000\": %.4f, \"input_GBps\": %.2f}%s\n",
        form, where, s.hop, s.n_taps, s.decimate, s.segment, s.half ? "true" : "false", info->layout, us,
        bytes, bytes / (1e-6 * us) / copy, 1e5 * us * 1e-6 / (double(s.hop) / RATE), s.hop * 4.0 / (1e3 * us),
        comma ? "," : "");
    fflush(stdout);
    ops->memory_destroy(&responses);
    ops->memory_destroy(&states);
    ops->scratch_destroy(&w);
    ops->bulk_destroy(&b);
}

static void convolve(size_t room, uint32_t batch, uint32_t columns, uint32_t in, uint32_t out,
                     uint32_t kernel, float *x, float *y, bool comma)
{
    need(size_t(batch) * (columns + kernel - 1) * in <= room && size_t(batch) * columns * out <= room,
         "too few channels: no room for a convolution");
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
    const size_t bytes = size_t(n) * RATE * sizeof(float);
    float *x = nullptr, *y = nullptr, *host_x = nullptr, *host_y = nullptr;
    need(n > 0 && cudaMalloc(&x, bytes) == cudaSuccess && cudaMalloc(&y, bytes) == cudaSuccess &&
             cudaHostAlloc(&host_x, bytes, 0) == cudaSuccess &&
             cudaHostAlloc(&host_y, bytes, 0) == cudaSuccess,
         gw_cuda_status());
    uint32_t seed = 1;
    for (size_t i = 0; i < size_t(n) * RATE; i++) { /* zeros would be faster than data */
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
    const gw_bulk_shape usual = {RATE, RATE, RATE, 1, 2 * RATE, 1, 0, 64, 0, false};
    gw_bulk_shape plain = usual, half = usual, quarter = usual, shorter = usual;
    plain.segment = 0;
    half.half = true;
    quarter.decimate = 4;
    shorter.hop = RATE / 4;
    for (const gw_bulk_shape &s : {usual, plain, half, quarter, shorter}) {
        whiten("fused", &fused, s, "device", n, x, y, copy, true);
        whiten("cufft", &cufft, s, "device", n, x, y, copy, true);
    }
    whiten("fused", &fused, usual, "pinned", n, host_x, host_y, copy, false);
    const size_t room = size_t(n) * RATE;
    printf("  ],\n  \"convolution\": [\n");
    convolve(room, 256, 768, 64, 64, 3, x, y, true);
    convolve(room, 256, 96, 512, 512, 3, x, y, true);
    convolve(room, 64, 4096, 21, 21, 7, x, y, true);
    convolve(room, 1, 768, 64, 64, 3, x, y, false);
    printf("  ]\n}\n");
    return 0;
}
