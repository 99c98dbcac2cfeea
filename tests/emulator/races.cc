/* SPDX-License-Identifier: GPL-3.0-or-later
 * The kernels at tiny shapes under ThreadSanitizer, which knows of the emulator which fibers a barrier has
 * ordered and which not: any pair of threads (of one block or of two) that touch the same memory without one,
 * one of them writing, is reported and makes the exit status 66. Results are check.c's business.
 * --plant runs a kernel with such a race instead, to see that it is found. */
#include "kernels/cuda/gpu.cuh"

extern "C" {
#include "kernels/cuda/cuda.h"
}

#include <cstdio>
#include <cstring>
#include <vector>

static __global__ void planted(float *x)
{
    GW_SHARED(float, part, 32);
    part[threadIdx.x] = float(threadIdx.x);
    x[threadIdx.x] = part[31 - threadIdx.x];
}

static int plant()
{
    void *x = nullptr;
    if (cudaMalloc(&x, 32 * sizeof(float)) != cudaSuccess)
        return 0;
    GW_LAUNCH(planted, 1, 32, 0, nullptr, static_cast<float *>(x));
    cudaFree(x);
    return 0;
}

static bool run_bulk(const gw_bulk_shape &shape)
{
    enum { CHANNELS = 3, HOPS = 6 };
    gw_bulk_ops ops;
    gw_bulk *b = nullptr;
    gw_bulk_scratch *w = nullptr;
    void *states = nullptr, *responses = nullptr;
    gw_bulk_cuda(&ops);
    if (ops.bulk_new(&b, &shape) < 0 || ops.scratch_new(&w, b) < 0 ||
        ops.memory_new(&states, CHANNELS * ops.info(b)->state_bytes) < 0 ||
        ops.memory_new(&responses, ops.info(b)->response_bytes) < 0)
        return false;
    std::vector<double> taps(shape.n_taps, 0.1);
    std::vector<float> x(CHANNELS * shape.hop), y(x.size()), psd(shape.segment / 2 + 1);
    ops.prepare(w, taps.data(), responses);
    gw_bulk_channel channels[CHANNELS] = {};
    for (int i = 0; i < CHANNELS; i++) {
        channels[i].state = static_cast<char *>(states) + i * ops.info(b)->state_bytes;
        channels[i].response = responses;
        channels[i].scale = 1;
        ops.state_clear(b, channels[i].state);
    }
    for (int hop = 0; hop < HOPS; hop++) {
        for (size_t i = 0; i < x.size(); i++)
            x[i] = float(i * 7919 % 1009) - 504;
        x[0] = hop == 3 ? HUGE_VALF : 1;
        channels[1].fading = hop == 4 ? responses : nullptr;
        ops.step(w, int64_t(hop) * shape.hop, channels, CHANNELS, x.data(), shape.hop, y.data(),
                 shape.hop / shape.decimate);
    }
    const bool good =
        channels[2].finite && (shape.segment == 0 || ops.psd_get(b, channels[2].state, psd.data()) > 0);
    ops.memory_destroy(&responses);
    ops.memory_destroy(&states);
    ops.scratch_destroy(&w);
    ops.bulk_destroy(&b);
    return good;
}

/* Convolution into its own residual, norm, pool. */
static bool run_layers()
{
    enum { CHANNELS = 8, COLUMNS = 12 };
    gw_conv_ops ops;
    gw_conv *c = nullptr;
    gw_conv_cuda(&ops);
    const gw_conv_desc d = {CHANNELS, CHANNELS, 2, 3, 1, 1, {GW_ACT_RELU, 0, 0}};
    const std::vector<float> weight(CHANNELS * CHANNELS / 2 * 3, 0.5f), row(CHANNELS, 1.0f);
    std::vector<float> x(CHANNELS * (COLUMNS + 2), 1.0f), y(CHANNELS * COLUMNS, 2.0f);
    if (ops.open(&c, &d, weight.data(), nullptr) < 0)
        return false;
    const gw_conv_io io = {1, COLUMNS, x.data(), y.data(), y.data(), x.size(), y.size(), y.size()};
    const gw_norm norm = {CHANNELS, 4, COLUMNS, 1e-5f, {GW_ACT_NONE, 0, 0}, row.data(), row.data(), nullptr};
    const gw_pool pool = {false, false, CHANNELS, 3, 2, 1, 1, COLUMNS, COLUMNS / 2};
    const int err = ops.run(c, &io);
    ops.norm(&norm, y.data(), y.data(), y.data());
    ops.pool(&pool, y.data(), x.data());
    ops.close(&c);
    return err == GW_OK &&
           x[0] == 9; /* 12 taps of 0.5 and the residual 2: 8; normed 0 + 1, and 8 as residual */
}

int main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "--plant") == 0)
        return plant();
    /* rate, hop, taps, decimate, segment, pool, median of, memory, gate, half */
    static const gw_bulk_shape shapes[] = {{2048, 2048, 2048, 1, 4096, 1, 0, 4, 0, false}, /* two warps */
                                           {64, 64, 64, 1, 128, 1, 0, 4, 0, false}, /* one fused kernel */
                                           {64, 64, 32, 2, 128, 3, 3, 4, 1e9f, true},
                                           {64, 64, 16, 1, 64, 1, 0, 4, 0, false},   /* segments apart */
                                           {64, 66, 16, 1, 132, 1, 0, 4, 0, false}}; /* by cuFFT */
    for (const gw_bulk_shape &shape : shapes)
        if (!run_bulk(shape)) {
            printf("hop %u, %u taps: %s\n", shape.hop, shape.n_taps, gw_err_detail());
            return 1;
        }
    if (!run_layers()) {
        printf("layers: %s\n", gw_err_detail());
        return 1;
    }
    printf("ran %zu shapes\n", sizeof shapes / sizeof *shapes);
    return 0;
}
