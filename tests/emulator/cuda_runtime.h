/* SPDX-License-Identifier: GPL-3.0-or-later
 * Stands where NVIDIA's <cuda_runtime.h> would, so that a .cu file builds with a plain host C++ compiler and
 * its kernels run on a machine without a GPU, under the sanitizers. Blocks run one after another in an
 * order shuffled by seed; inside one, each thread is a fiber that runs until a barrier or a warp operation,
 * and who goes on next is drawn as well. So what a missing barrier lets happen does happen, in the result of
 * some seed, and under ThreadSanitizer always (emulator.cc tells it which fibers a barrier has ordered).
 * Copies and streams are synchronous, except that a captured stream only notes what a graph is to do. Device
 * memory is poisoned for the host between calls under AddressSanitizer, so that a host that dereferences a
 * device pointer is seen.
 *
 * It has what kernels/cuda uses and no more. Breaking a rule of CUDA (a barrier that not all threads reach, a
 * warp operation that misses lanes, too much shared memory) ends the program with a line that says which.
 * GW_EMULATE_SEED in the environment chooses the order. */
#ifndef GW_EMULATOR_H
#define GW_EMULATOR_H

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <initializer_list>
#include <tuple>
#include <type_traits>

#define GW_EMULATED 1

/* ---- The language ---- */
#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __noinline__
#define __restrict__ __restrict
#define __launch_bounds__(...)
#define __align__(n) alignas(n)

struct alignas(8) float2 {
    float x, y;
};
struct alignas(16) float4 {
    float x, y, z, w;
};
struct alignas(8) uint2 {
    unsigned x, y;
};
struct alignas(16) uint4 {
    unsigned x, y, z, w;
};
struct alignas(16) double2 {
    double x, y;
};
static inline float2 make_float2(float x, float y)
{
    return {x, y};
}
static inline float4 make_float4(float x, float y, float z, float w)
{
    return {x, y, z, w};
}
struct dim3 {
    unsigned x, y, z;
    constexpr dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_)
    {
    }
};

/* ---- Where a thread is ---- */
struct gw_emu_place {
    dim3 thread, block, block_dim, grid_dim;
};
extern thread_local gw_emu_place gw_emu_here; /* of the fiber that runs now */
#define threadIdx (gw_emu_here.thread)
#define blockIdx  (gw_emu_here.block)
#define blockDim  (gw_emu_here.block_dim)
#define gridDim   (gw_emu_here.grid_dim)

/* ---- Launches and shared memory: as the macros of kernels/cuda/gpu.cuh ---- */
void gw_emu_launch(const void *kernel, const char *name, dim3 grid, dim3 block, size_t dyn_shared,
                   void (*body)(void *), void *arg);
/* Does it now, or, while the stream is captured, each time the graph is launched. */
void gw_emu_enqueue(struct gw_emu_stream *stream, const std::function<void()> &what);
/* The block's piece of shared memory that belongs to this line of the source; its own heap block. */
void *gw_emu_shared(const void *key, size_t bytes);
void *gw_emu_dyn_shared();

#define GW_LAUNCH(kernel, grid, block, dyn_shared, stream, ...)                                              \
    do {                                                                                                     \
        const auto gw_kernel_ = kernel;                                                                      \
        const dim3 gw_grid_ = (grid), gw_block_ = (block);                                                   \
        const size_t gw_bytes_ = (dyn_shared);                                                               \
        const auto gw_given_ = std::make_tuple(__VA_ARGS__); /* copied now, as a launch does */              \
        auto gw_body_ = [=] { std::apply(gw_kernel_, gw_given_); };                                          \
        gw_emu_enqueue((stream), [=] {                                                                       \
            auto gw_copy_ = gw_body_;                                                                        \
            gw_emu_launch(                                                                                   \
                reinterpret_cast<const void *>(gw_kernel_), #kernel, gw_grid_, gw_block_, gw_bytes_,         \
                [](void *b) { (*static_cast<decltype(gw_copy_) *>(b))(); }, &gw_copy_);                      \
        });                                                                                                  \
    } while (0)
#define GW_SHARED(type, name, n)                                                                             \
    static const char gw_key_##name = 0;                                                                     \
    type *const name = static_cast<type *>(gw_emu_shared(&gw_key_##name, sizeof(type) * (n)))
#define GW_DYN_SHARED(type, name) type *const name = static_cast<type *>(gw_emu_dyn_shared())

/* ---- Barriers and warps ---- */
void gw_emu_barrier(const char *file, int line);
int gw_emu_barrier_or(int value, const char *file, int line);
/* All lanes of `mask` give 8 bytes; then each may read the others' through gw_emu_lane. */
void gw_emu_warp(unsigned mask, uint64_t value, const char *file, int line);
uint64_t gw_emu_lane(unsigned lane); /* of the warp operation that has just returned */
unsigned gw_emu_lane_id();

#define __syncthreads()                gw_emu_barrier(__FILE__, __LINE__)
#define __syncthreads_or(value)        gw_emu_barrier_or((value), __FILE__, __LINE__)
#define __syncwarp(...)                gw_emu_warp(gw_emu_mask(__VA_ARGS__), 0, __FILE__, __LINE__)
#define __shfl_sync(mask, value, lane) gw_emu_shfl(mask, value, (lane)&31, __FILE__, __LINE__)
#define __shfl_xor_sync(mask, value, lanes)                                                                  \
    gw_emu_shfl(mask, value, gw_emu_lane_id() ^ unsigned(lanes), __FILE__, __LINE__)
#define __shfl_down_sync(mask, value, delta)                                                                 \
    gw_emu_shfl(mask, value,                                                                                 \
                gw_emu_lane_id() + unsigned(delta) < 32 ? gw_emu_lane_id() + unsigned(delta)                 \
                                                        : gw_emu_lane_id(),                                  \
                __FILE__, __LINE__)
#define __ballot_sync(mask, value) gw_emu_ballot(mask, value, __FILE__, __LINE__)
#define __any_sync(mask, value)    (gw_emu_ballot(mask, value, __FILE__, __LINE__) != 0)
#define __all_sync(mask, value)    (gw_emu_ballot(mask, value, __FILE__, __LINE__) == (mask))

static inline unsigned gw_emu_mask(unsigned mask = 0xffffffffu)
{
    return mask;
}

template <typename T> T gw_emu_shfl(unsigned mask, T value, unsigned lane, const char *file, int line)
{
    static_assert(sizeof(T) <= 8 && std::is_trivially_copyable<T>::value, "what a register pair holds");
    uint64_t bits = 0;
    memcpy(&bits, &value, sizeof value);
    gw_emu_warp(mask, bits, file, line);
    bits = gw_emu_lane(lane);
    memcpy(&value, &bits, sizeof value);
    return value;
}

unsigned gw_emu_ballot(unsigned mask, int value, const char *file, int line);

/* ---- Atomics: return the value before ---- */
template <typename T> T atomicAdd(T *p, T value)
{
    T seen = *const_cast<volatile T *>(p), sum;
    do
        sum = seen + value;
    while (!__atomic_compare_exchange(p, &seen, &sum, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED));
    return seen;
}
static inline unsigned atomicMax(unsigned *p, unsigned value)
{
    unsigned seen = __atomic_load_n(p, __ATOMIC_RELAXED);
    while (seen < value &&
           !__atomic_compare_exchange_n(p, &seen, value, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
        ;
    return seen;
}
static inline unsigned atomicOr(unsigned *p, unsigned value)
{
    return __atomic_fetch_or(p, value, __ATOMIC_RELAXED);
}

/* ---- Arithmetic that the host's <cmath> has not ---- */
template <typename T> static inline T __ldg(const T *p)
{
    return *p;
}
static inline float rsqrtf(float x)
{
    return 1 / std::sqrt(x);
}
static inline unsigned __float_as_uint(float x)
{
    unsigned u;
    memcpy(&u, &x, sizeof u);
    return u;
}
static inline float __uint_as_float(unsigned u)
{
    float x;
    memcpy(&x, &u, sizeof x);
    return x;
}
static inline int __clz(int x)
{
    return x ? __builtin_clz(unsigned(x)) : 32;
}
static inline float sinpif(float x)
{
    return float(std::sin(3.14159265358979323846 * double(x)));
}
template <typename T> static inline T min(T a, T b)
{
    return b < a ? b : a;
}
template <typename T> static inline T max(T a, T b)
{
    return a < b ? b : a;
}

/* ---- The runtime ---- */
typedef enum cudaError {
    cudaSuccess = 0,
    cudaErrorInvalidValue = 1,
    cudaErrorMemoryAllocation = 2,
    cudaErrorInsufficientDriver = 35,
    cudaErrorNotReady = 600,
    cudaErrorNotSupported = 801
} cudaError_t;
typedef enum cudaMemcpyKind {
    cudaMemcpyHostToHost,
    cudaMemcpyHostToDevice,
    cudaMemcpyDeviceToHost,
    cudaMemcpyDeviceToDevice,
    cudaMemcpyDefault
} cudaMemcpyKind;
typedef enum cudaMemoryType {
    cudaMemoryTypeUnregistered,
    cudaMemoryTypeHost,
    cudaMemoryTypeDevice,
    cudaMemoryTypeManaged
} cudaMemoryType;
typedef enum cudaDeviceAttr {
    cudaDevAttrMultiProcessorCount,
    cudaDevAttrMaxSharedMemoryPerBlockOptin,
    cudaDevAttrComputeCapabilityMajor,
    cudaDevAttrComputeCapabilityMinor
} cudaDeviceAttr;
typedef enum cudaFuncAttribute { cudaFuncAttributeMaxDynamicSharedMemorySize } cudaFuncAttribute;
typedef struct gw_emu_stream *cudaStream_t;
typedef struct gw_emu_event *cudaEvent_t;
typedef struct gw_emu_graph *cudaGraph_t, *cudaGraphExec_t;
typedef enum cudaStreamCaptureMode { cudaStreamCaptureModeThreadLocal = 1 } cudaStreamCaptureMode;
struct cudaPointerAttributes {
    cudaMemoryType type;
};
struct cudaDeviceProp {
    char name[256];
};
enum {
    cudaStreamNonBlocking = 1,
    cudaEventBlockingSync = 1,
    cudaEventDisableTiming = 2,
    cudaHostAllocDefault = 0
};

const char *cudaGetErrorString(cudaError_t e);
cudaError_t cudaGetLastError();
cudaError_t cudaGetDeviceCount(int *n);
cudaError_t cudaGetDevice(int *device);
cudaError_t cudaDeviceGetAttribute(int *value, cudaDeviceAttr attribute, int device);
cudaError_t cudaGetDeviceProperties(cudaDeviceProp *p, int device);
cudaError_t cudaMalloc(void **p, size_t bytes);
cudaError_t cudaFree(void *p);
cudaError_t cudaHostAlloc(void **p, size_t bytes, unsigned flags);
cudaError_t cudaFreeHost(void *p);
cudaError_t cudaPointerGetAttributes(cudaPointerAttributes *a, const void *p);
cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, cudaMemcpyKind kind, cudaStream_t s);
cudaError_t cudaMemcpy2DAsync(void *to, size_t to_pitch, const void *from, size_t from_pitch, size_t width,
                              size_t height, cudaMemcpyKind kind, cudaStream_t s);
cudaError_t cudaMemcpy(void *to, const void *from, size_t bytes, cudaMemcpyKind kind);
cudaError_t cudaDeviceSynchronize();
cudaError_t cudaMemsetAsync(void *p, int value, size_t bytes, cudaStream_t s);
cudaError_t cudaStreamCreateWithFlags(cudaStream_t *s, unsigned flags);
cudaError_t cudaStreamDestroy(cudaStream_t s);
cudaError_t cudaStreamSynchronize(cudaStream_t s);
cudaError_t cudaEventCreateWithFlags(cudaEvent_t *e, unsigned flags);
cudaError_t cudaEventDestroy(cudaEvent_t e);
cudaError_t cudaEventRecord(cudaEvent_t e, cudaStream_t s);
cudaError_t cudaEventSynchronize(cudaEvent_t e);
cudaError_t cudaEventElapsedTime(float *ms, cudaEvent_t from, cudaEvent_t to);
cudaError_t cudaEventQuery(cudaEvent_t e);
cudaError_t cudaStreamWaitEvent(cudaStream_t s, cudaEvent_t e, unsigned flags);
cudaError_t cudaStreamBeginCapture(cudaStream_t s, cudaStreamCaptureMode mode);
cudaError_t cudaStreamEndCapture(cudaStream_t s, cudaGraph_t *g);
cudaError_t cudaGraphInstantiateWithFlags(cudaGraphExec_t *e, cudaGraph_t g, unsigned long long flags);
cudaError_t cudaGraphLaunch(cudaGraphExec_t e, cudaStream_t s);
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t e);
cudaError_t cudaGraphDestroy(cudaGraph_t g);
cudaError_t gw_emu_allow_shared(const void *kernel, cudaFuncAttribute a, int bytes);
cudaError_t gw_emu_occupancy(int *blocks, int threads, size_t shared);
template <typename T> cudaError_t cudaMalloc(T **p, size_t bytes)
{
    return cudaMalloc(reinterpret_cast<void **>(p), bytes);
}
template <typename T> cudaError_t cudaHostAlloc(T **p, size_t bytes, unsigned flags)
{
    return cudaHostAlloc(reinterpret_cast<void **>(p), bytes, flags);
}
template <typename F> cudaError_t cudaFuncSetAttribute(F kernel, cudaFuncAttribute a, int bytes)
{
    return gw_emu_allow_shared(reinterpret_cast<const void *>(kernel), a, bytes);
}
template <typename F>
cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int *blocks, F, int threads, size_t shared)
{
    return gw_emu_occupancy(blocks, threads, shared);
}

#endif
