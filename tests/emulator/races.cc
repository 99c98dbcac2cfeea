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
        channels[2].forget = hop == 1 ? GW_BULK_FORGET_PAST : GW_BULK_KEEP;
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

/* A pass of a network's calls that are no layer of the table: input, moves, output; once more as it was
 * recorded. */
static bool run_place(bool features)
{
    enum { CHANNELS = 6, COLUMNS = 40, WINDOWS = 1, STEP = CHANNELS * (COLUMNS + 4) };
    const gw_place_output form = {CHANNELS, COLUMNS, false};
    gw_place_shape shape = {};
    shape.batch = WINDOWS;
    shape.channels = CHANNELS;
    shape.columns = COLUMNS;
    shape.parts = features ? 2 : 0;
    shape.n_outputs = 1;
    shape.output = &form;
    gw_place_ops ops;
    gw_place *p = nullptr;
    float *memory = nullptr;
    gw_place_cuda(&ops);
    if (ops.open(&p, &shape, &ops.layers) < 0 || ops.floats_new(&memory, 3 * WINDOWS * STEP) < 0)
        return false;
    const std::vector<float> x(WINDOWS * CHANNELS * COLUMNS, 1.0f);
    std::vector<float> y(x.size());
    float *out[] = {y.data()};
    const float *part[] = {x.data(), x.data() + 1};
    gw_place_call call = {};
    call.count = call.windows = WINDOWS;
    call.x = x.data();
    call.channel_stride = COLUMNS;
    call.window_stride = CHANNELS * COLUMNS;
    call.features = features ? part : nullptr;
    call.out = out;
    gw_place_array a = {memory + 2 * CHANNELS, STEP};
    const gw_place_array b = {memory + WINDOWS * STEP, STEP}, c = {b.x + WINDOWS * STEP, STEP};
    const gw_place_past past = {
        {memory, STEP}, CHANNELS * COLUMNS, 4 * CHANNELS}; /* longer than what is new */
    int err = GW_OK;
    for (int run = 0; run < (features ? 1 : 2) && err == GW_OK; run++) {
        bool known = false;
        err = ops.begin(p, &call, &known);
        if (err == GW_OK && !known) {
            ops.load(p, WINDOWS, &a);
            ops.join(p, WINDOWS, GW_JOIN_ADD, {GW_ACT_NONE, 0, 0}, COLUMNS, CHANNELS, a, a, false, b); /* 2 */
            ops.zero(p, WINDOWS, c, 3, 5, 7);
            ops.copy(p, WINDOWS, COLUMNS, CHANNELS, b, CHANNELS, c, CHANNELS);
            ops.meet(p, WINDOWS, {GW_ACT_RELU, 0, 0}, COLUMNS, CHANNELS, b.x, c, CHANNELS, a, c); /* 5 */
            ops.mean(p, WINDOWS, 1, COLUMNS, CHANNELS, c, b);
            ops.give(p, WINDOWS, 0, c);
            ops.keep(p, WINDOWS, &past, 1);
        }
        if (err == GW_OK)
            err = ops.end(p, err);
    }
    ops.floats_free(&memory);
    ops.close(&p);
    return err == GW_OK && y[0] == 5 && y[y.size() - 1] == 5;
}

int main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "--plant") == 0)
        return plant();
    /* rate, hop, taps, decimate, segment, pool, median of, memory, gate, half, dead run, taper */
    static const gw_bulk_shape shapes[] = {
        {2048, 2048, 2048, 1, 4096, 1, 0, 4, 0, false, 0, 0}, /* two warps */
        {128, 128, 128, 1, 256, 1, 0, 4, 0, false, 64, 16},   /* one fused kernel */
        {128, 128, 32, 2, 256, 3, 3, 4, 1e9f, true, 16, 0},   /* medians */
        {64, 64, 16, 1, 64, 1, 0, 4, 0, false, 0, 0},         /* segments apart */
        {64, 64, 16, 1, 0, 1, 0, 1, 1, false, 64, 16},        /* gated */
        {64, 64, 256, 1, 128, 1, 0, 4, 0, false, 0, 0},       /* partitions */
        {64, 64, 600, 2, 256, 1, 0, 4, 1e9f, false, 64, 16},  /* of two lengths */
        {64, 66, 16, 1, 132, 1, 0, 4, 0, false, 0, 0}};       /* by cuFFT */
    for (const gw_bulk_shape &shape : shapes)
        if (!run_bulk(shape)) {
            printf("hop %u, %u taps: %s\n", shape.hop, shape.n_taps, gw_err_detail());
            return 1;
        }
    if (!run_layers()) {
        printf("layers: %s\n", gw_err_detail());
        return 1;
    }
    if (!run_place(false) || !run_place(true)) {
        printf("a network's passes: %s\n", gw_err_detail());
        return 1;
    }
    printf("ran %zu shapes\n", sizeof shapes / sizeof *shapes);
    return 0;
}
