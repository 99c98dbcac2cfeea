/* SPDX-License-Identifier: GPL-3.0-or-later
 * CUDA's runtime for cudnn.c, and the kernels round cuDNN's: gathering windows, rounding to half precision
 * and back, bias + residual + activation where cuDNN does not do it. */
#include "kernels/cuda/act.cuh"

extern "C" {
#include "kernels/cuda/cudnn_device.h"
}

#include <cuda_fp16.h>

#include <cstdio>
#include <cstdlib>

enum { THREADS = 256, RUNS = 9 };

/* ---- Kernels ---- */

static __device__ __forceinline__ float load(gw_cudnn_array a, size_t i)
{
    return a.half ? __half2float(static_cast<const __half *>(a.p)[i]) : static_cast<const float *>(a.p)[i];
}

static __device__ __forceinline__ void store(gw_cudnn_array a, size_t i, float v)
{
    if (a.half)
        static_cast<__half *>(a.p)[i] = __float2half_rn(v);
    else
        static_cast<float *>(a.p)[i] = v;
}

/* A thread a value; blockIdx.y walks the windows. */
static __global__ void __launch_bounds__(THREADS)
    finish_all(unsigned batch, size_t n, unsigned channels, gw_act act, const float *bias,
               gw_cudnn_array from, gw_cudnn_array residual, gw_cudnn_array to)
{
    for (size_t window = blockIdx.y; window < batch; window += gridDim.y)
        for (size_t i = blockIdx.x * size_t(THREADS) + threadIdx.x; i < n; i += gridDim.x * size_t(THREADS)) {
            float v = load(from, window * from.step + i);
            if (bias)
                v += bias[i % channels];
            if (residual.p)
                v += load(residual, window * residual.step + i);
            store(to, window * to.step + i, gw_activate(act, v));
        }
}

/* The same for floats, four at a time. */
static __global__ void __launch_bounds__(THREADS)
    finish_wide(unsigned batch, size_t n, unsigned channels, gw_act act, const float *bias, const float *from,
                size_t from_step, const float *residual, size_t residual_step, float *to, size_t to_step)
{
    for (size_t window = blockIdx.y; window < batch; window += gridDim.y)
        for (size_t i = (blockIdx.x * size_t(THREADS) + threadIdx.x) * 4; i < n;
             i += gridDim.x * size_t(THREADS) * 4) {
            float4 v = *reinterpret_cast<const float4 *>(from + window * from_step + i);
            if (bias) {
                const float4 b = *reinterpret_cast<const float4 *>(bias + i % channels);
                v.x += b.x, v.y += b.y, v.z += b.z, v.w += b.w;
            }
            if (residual) {
                const float4 r = *reinterpret_cast<const float4 *>(residual + window * residual_step + i);
                v.x += r.x, v.y += r.y, v.z += r.z, v.w += r.w;
            }
            v.x = gw_activate(act, v.x), v.y = gw_activate(act, v.y);
            v.z = gw_activate(act, v.z), v.w = gw_activate(act, v.w);
            *reinterpret_cast<float4 *>(to + window * to_step + i) = v;
        }
}

static __global__ void __launch_bounds__(THREADS) make_noise(size_t n, gw_cudnn_array to)
{
    for (size_t i = blockIdx.x * size_t(THREADS) + threadIdx.x; i < n; i += gridDim.x * size_t(THREADS)) {
        unsigned x = unsigned(i) * 2654435761u + 12345u;
        x ^= x >> 16;
        x *= 0x45d9f3bu;
        x ^= x >> 16;
        store(to, i, float(int(x)) / 2147483648.0f);
    }
}

static unsigned blocks_for(size_t n)
{
    const size_t blocks = (n + THREADS - 1) / THREADS;
    return unsigned(blocks > 4096 ? 4096 : blocks > 0 ? blocks : 1);
}

static bool is_wide(const void *p, size_t step)
{
    return reinterpret_cast<uintptr_t>(p) % 16 == 0 && step % 4 == 0;
}

int gw_cudnn_finish(void *stream, uint32_t batch, size_t n, uint32_t channels, gw_act act, const float *bias,
                    gw_cudnn_array from, gw_cudnn_array residual, gw_cudnn_array to)
{
    const auto s = static_cast<cudaStream_t>(stream);
    const unsigned windows = batch < 65535 ? batch : 65535;
    if (!from.half && !to.half && !residual.half && channels % 4 == 0 && n % 4 == 0 && is_wide(bias, 0) &&
        is_wide(from.p, from.step) && is_wide(to.p, to.step) && is_wide(residual.p, residual.step))
        GW_LAUNCH(finish_wide, dim3(blocks_for(n / 4), windows), THREADS, 0, s, batch, n, channels, act, bias,
                  static_cast<const float *>(from.p), from.step, static_cast<const float *>(residual.p),
                  residual.step, static_cast<float *>(to.p), to.step);
    else
        GW_LAUNCH(finish_all, dim3(blocks_for(n), windows), THREADS, 0, s, batch, n, channels, act, bias,
                  from, residual, to);
    return gw_gpu_status(cudaGetLastError(), "finishing a convolution");
}

int gw_cudnn_copy(void *stream, uint32_t batch, size_t n, gw_cudnn_array from, gw_cudnn_array to)
{
    const gw_act none = {GW_ACT_NONE, 0, 0};
    return gw_cudnn_finish(stream, batch, n, 4, none, nullptr, from, gw_cudnn_array{nullptr, 0, false}, to);
}

int gw_cudnn_noise(void *stream, void *p, size_t n, bool half)
{
    const gw_cudnn_array to = {p, 0, half};
    GW_LAUNCH(make_noise, blocks_for(n), THREADS, 0, static_cast<cudaStream_t>(stream), n, to);
    return gw_gpu_status(cudaGetLastError(), "noise");
}

/* ---- The runtime ---- */

int gw_cudnn_device_name(char *text, size_t n)
{
    int device = 0, sms = 0;
    cudaDeviceProp what = {};
    GW_GPU_TRY(cudaGetDevice(&device), "which GPU");
    GW_GPU_TRY(cudaGetDeviceProperties(&what, device), "which GPU");
    GW_GPU_TRY(cudaDeviceGetAttribute(&sms, cudaDevAttrMultiProcessorCount, device), "which GPU");
    snprintf(text, n, "%s with %d multiprocessors", what.name, sms);
    return GW_OK;
}

int gw_cudnn_memory_new(void **p, size_t bytes)
{
    *p = nullptr;
    return gw_gpu_status(cudaMalloc(p, bytes > 0 ? bytes : 1), "memory for convolutions");
}

void gw_cudnn_memory_free(void **p)
{
    cudaFree(*p);
    *p = nullptr;
}

int gw_cudnn_upload(void *to, const void *from, size_t bytes)
{
    GW_GPU_TRY(cudaMemcpyAsync(to, from, bytes, cudaMemcpyHostToDevice, nullptr), "weights");
    return gw_gpu_status(cudaStreamSynchronize(nullptr), "weights");
}

int gw_cudnn_stream_new(void **stream)
{
    cudaStream_t s = nullptr;
    const cudaError_t e = cudaStreamCreateWithFlags(&s, cudaStreamNonBlocking);
    *stream = s;
    return gw_gpu_status(e, "a stream");
}

void gw_cudnn_stream_free(void **stream)
{
    if (*stream)
        cudaStreamDestroy(static_cast<cudaStream_t>(*stream));
    *stream = nullptr;
}

int gw_cudnn_stream_wait(void *stream)
{
    return gw_gpu_status(cudaStreamSynchronize(static_cast<cudaStream_t>(stream)), "waiting");
}

static int by_size(const void *a, const void *b)
{
    const float x = *static_cast<const float *>(a), y = *static_cast<const float *>(b);
    return x < y ? -1 : x > y;
}

/* RUNS + 1 runs, of which the first is not counted, with an event after each. */
static int time_runs(cudaStream_t s, int (*call)(void *arg), void *arg, cudaEvent_t *event, double *us)
{
    float ms[RUNS];
    for (int i = 0; i <= RUNS; i++) {
        GW_TRY(call(arg));
        GW_GPU_TRY(cudaEventRecord(event[i], s), "an event");
    }
    GW_GPU_TRY(cudaStreamSynchronize(s), "timing a convolution");
    for (int i = 0; i < RUNS; i++)
        GW_GPU_TRY(cudaEventElapsedTime(&ms[i], event[i], event[i + 1]), "timing a convolution");
    qsort(ms, RUNS, sizeof *ms, by_size);
    *us = 1e3 * double(ms[RUNS / 2]);
    return GW_OK;
}

int gw_cudnn_time(void *stream, int (*call)(void *arg), void *arg, double *us)
{
    cudaEvent_t event[RUNS + 1] = {};
    int err = GW_OK, n = 0;
    while (n <= RUNS && err == GW_OK) {
        err = gw_gpu_status(cudaEventCreateWithFlags(&event[n], 0), "an event");
        n += err == GW_OK;
    }
    if (err == GW_OK)
        err = time_runs(static_cast<cudaStream_t>(stream), call, arg, event, us);
    while (n > 0)
        cudaEventDestroy(event[--n]);
    return err;
}
