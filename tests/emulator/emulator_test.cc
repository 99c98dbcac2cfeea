/* SPDX-License-Identifier: GPL-3.0-or-later
 * Does the emulator do what a GPU would, and show what is wrong? Block sums by shared memory and barriers, by
 * warp operations and by atomics must come out for every order of threads; the same sum with a barrier left
 * out must not; and each broken rule must end a program, in a child of its own. */
#include "kernels/cuda/gpu.cuh"
#include "kernels/cuda/ptx.cuh"

#include <cstdio>
#include <cstdlib>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

enum { THREADS = 96, BLOCKS = 5 };

/* sum[block] = 1 + ... + THREADS, as a tree in shared memory; `careful` is the barrier in the tree. */
static __global__ void tree_sum(bool careful, unsigned *sum)
{
    GW_DYN_SHARED(unsigned, part);
    part[threadIdx.x] = threadIdx.x + 1;
    __syncthreads();
    for (unsigned n = blockDim.x; n > 1;) {
        const unsigned half = (n + 1) / 2;
        if (threadIdx.x + half < n)
            part[threadIdx.x] += part[threadIdx.x + half];
        n = half;
        if (careful)
            __syncthreads();
    }
    if (threadIdx.x == 0)
        sum[blockIdx.x] = part[0];
}

static __global__ void warp_sum(unsigned *sum)
{
    GW_SHARED(unsigned, part, THREADS / 32);
    unsigned v = threadIdx.x + 1;
    for (int d = 16; d > 0; d >>= 1)
        v += __shfl_down_sync(0xffffffffu, v, d);
    const unsigned odd = __ballot_sync(0xffffffffu, threadIdx.x & 1);
    if (threadIdx.x % 32 == 0)
        part[threadIdx.x / 32] = odd == 0xaaaaaaaau ? v : 0;
    const int any = __syncthreads_or(threadIdx.x == 7);
    if (threadIdx.x == 0)
        sum[blockIdx.x] = any ? part[0] + part[1] + part[2] : 0;
}

static __global__ void atomic_sum(unsigned *sum)
{
    atomicAdd(&sum[blockIdx.x], threadIdx.x + 1);
}

/* What is captured is done at each launch of the graph, with the arguments of its own time, and not before.
 */
static bool captures()
{
    unsigned *x = nullptr, seen[3] = {9, 9, 9};
    void *p = nullptr;
    cudaStream_t s = nullptr;
    cudaGraph_t g = nullptr;
    cudaGraphExec_t e = nullptr;
    bool good = cudaMalloc(&p, sizeof *x) == cudaSuccess &&
                cudaStreamCreateWithFlags(&s, cudaStreamNonBlocking) == cudaSuccess;
    x = static_cast<unsigned *>(p);
    good = good && cudaMemsetAsync(x, 0, sizeof *x, s) == cudaSuccess &&
           cudaStreamBeginCapture(s, cudaStreamCaptureModeThreadLocal) == cudaSuccess;
    GW_LAUNCH(atomic_sum, 1, 3, 0, s, x); /* 6 */
    unsigned *const there = x;
    x = nullptr;
    good = good && cudaStreamEndCapture(s, &g) == cudaSuccess &&
           cudaGraphInstantiateWithFlags(&e, g, 0) == cudaSuccess && cudaGraphDestroy(g) == cudaSuccess;
    for (unsigned &v : seen)
        good = good && cudaMemcpy(&v, there, sizeof v, cudaMemcpyDeviceToHost) == cudaSuccess &&
               cudaGraphLaunch(e, s) == cudaSuccess;
    cudaGraphExecDestroy(e);
    cudaStreamDestroy(s);
    cudaFree(there);
    return good && seen[0] == 0 && seen[1] == 6 && seen[2] == 12;
}

/* ---- Broken rules ---- */

static __global__ void some_leave(unsigned from)
{
    if (threadIdx.x >= from)
        __syncthreads();
}

static __global__ void two_barriers(unsigned from)
{
    if (threadIdx.x >= from)
        __syncthreads();
    else
        __syncthreads();
}

static __global__ void lane_missing(unsigned which)
{
    if (threadIdx.x % 32 != which)
        __syncwarp();
}

static __global__ void beyond_shared(float v)
{
    GW_SHARED(float, part, 8);
    part[threadIdx.x] = v;
}

static __global__ void beyond_device(unsigned *sum)
{
    sum[BLOCKS] = 0;
}

static unsigned *device_new()
{
    void *p = nullptr;
    if (cudaMalloc(&p, BLOCKS * sizeof(unsigned)) != cudaSuccess)
        exit(1);
    cudaMemsetAsync(p, 0, BLOCKS * sizeof(unsigned), nullptr);
    return static_cast<unsigned *>(p);
}

#ifdef __has_feature
static const bool asan = __has_feature(address_sanitizer);
#elif defined(__SANITIZE_ADDRESS__)
static const bool asan = true;
#else
static const bool asan = false;
#endif

struct broken {
    const char *what;
    void (*run)();
    bool by_asan; /* seen only by AddressSanitizer */
};
static const broken rules[] = {
    {"some threads end before a barrier", [] { GW_LAUNCH(some_leave, 1, 32, 0, nullptr, 4u); }, false},
    {"two barriers at once", [] { GW_LAUNCH(two_barriers, 1, 32, 0, nullptr, 4u); }, false},
    {"a lane that does not come", [] { GW_LAUNCH(lane_missing, 1, 32, 0, nullptr, 3u); }, false},
    {"1025 threads", [] { GW_LAUNCH(atomic_sum, 1, 1025, 0, nullptr, device_new()); }, false},
    {"48 KiB of shared memory and 1 without leave",
     [] { GW_LAUNCH(tree_sum, 1, 32, (48 << 10) + 1, nullptr, true, device_new()); }, false},
    {"beyond shared memory", [] { GW_LAUNCH(beyond_shared, 1, 32, 0, nullptr, 0.0f); }, true},
    {"beyond device memory", [] { GW_LAUNCH(beyond_device, 1, 32, 0, nullptr, device_new()); }, true},
    {"the host reads device memory", [] { exit(*const_cast<volatile unsigned *>(device_new()) == 1); }, true},
};

/* Does it end the program? */
static bool ends(void (*run)())
{
    fflush(stdout);
    const pid_t child = fork();
    if (child == 0) {
        const struct rlimit none = {0, 0};
        setrlimit(RLIMIT_CORE, &none);
        freopen("/dev/null", "w", stderr);
        run();
        _exit(0);
    }
    int status = 0;
    waitpid(child, &status, 0);
    return !WIFEXITED(status) || WEXITSTATUS(status) != 0;
}

static int failures;

static void expect(bool holds, const char *what)
{
    printf("%s %s\n", holds ? "ok  " : "FAIL", what);
    failures += !holds;
}

/* How many of the launches gave every block its sum? */
template <class F> static int right(int launches, F launch)
{
    int n = 0;
    unsigned *sum = device_new(), host[BLOCKS];
    for (int i = 0; i < launches; i++) {
        cudaMemsetAsync(sum, 0, sizeof host, nullptr);
        launch(sum);
        cudaMemcpyAsync(host, sum, sizeof host, cudaMemcpyDeviceToHost, nullptr);
        bool good = true;
        for (unsigned v : host)
            good = good && v == THREADS * (THREADS + 1) / 2;
        n += good;
    }
    cudaFree(sum);
    return n;
}

int main()
{
    const size_t shared = THREADS * sizeof(unsigned);
    expect(right(20, [=](unsigned *s) { GW_LAUNCH(tree_sum, BLOCKS, THREADS, shared, nullptr, true, s); }) ==
               20,
           "sums by barriers");
    expect(right(20, [](unsigned *s) { GW_LAUNCH(warp_sum, BLOCKS, THREADS, 0, nullptr, s); }) == 20,
           "sums by warps");
    expect(right(20, [](unsigned *s) { GW_LAUNCH(atomic_sum, BLOCKS, THREADS, 0, nullptr, s); }) == 20,
           "sums by atomics");
    expect(right(20, [=](unsigned *s) { GW_LAUNCH(tree_sum, BLOCKS, THREADS, shared, nullptr, false, s); }) ==
               0,
           "a missing barrier shows in every one of 20 launches");
    expect(captures(), "a captured stream");
    for (const broken &b : rules)
        if (!b.by_asan || asan)
            expect(ends(b.run), b.what);
    expect(!ends([] { GW_LAUNCH(tree_sum, 1, 32, 32 * sizeof(unsigned), nullptr, true, device_new()); }),
           "a kernel that breaks none goes through");
    printf("%d failures\n", failures);
    return failures ? 1 : 0;
}
