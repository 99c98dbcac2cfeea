/* SPDX-License-Identifier: GPL-3.0-or-later
 * CUDA's runtime on host memory: every call is done when it returns. Under AddressSanitizer the device's
 * memory is poisoned while no kernel or copy is at work. */
#include "emulator.h"

#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <map>
#include <mutex>
#include <vector>

extern "C" {
void __asan_poison_memory_region(const volatile void *p, size_t size) __attribute__((weak));
void __asan_unpoison_memory_region(const volatile void *p, size_t size) __attribute__((weak));
}

struct gw_emu_graph {
    std::vector<std::function<void()>> nodes;
};
struct gw_emu_stream {
    gw_emu_graph *captured; /* NULL: what is enqueued is done at once */
};

namespace
{

thread_local int captures = 0; /* streams that this thread captures now */

void no_capture(const char *what)
{
    if (captures > 0)
        gw_emu_die(what);
}

struct memory {
    std::mutex lock;
    std::map<const char *, size_t> device, pinned;
    std::map<const void *, int> allowed; /* dynamic shared memory by kernel */
    int open = 0;                        /* launches and copies at work */
};
memory &all()
{
    static memory *m = new memory(); /* stays: objects of other files may outlive this one's */
    return *m;
}

bool inside(const std::map<const char *, size_t> &list, const void *p)
{
    auto next = list.upper_bound(static_cast<const char *>(p));
    if (next == list.begin())
        return false;
    --next;
    return static_cast<const char *>(p) < next->first + next->second;
}

cudaMemoryType type_of(const void *p)
{
    std::lock_guard<std::mutex> hold(all().lock);
    return inside(all().device, p)   ? cudaMemoryTypeDevice
           : inside(all().pinned, p) ? cudaMemoryTypeHost
                                     : cudaMemoryTypeUnregistered;
}

} // namespace

gw_emu_opened::gw_emu_opened()
{
    std::lock_guard<std::mutex> hold(all().lock);
    if (all().open++ == 0 && __asan_unpoison_memory_region)
        for (auto &m : all().device)
            __asan_unpoison_memory_region(m.first, m.second);
}

gw_emu_opened::~gw_emu_opened()
{
    std::lock_guard<std::mutex> hold(all().lock);
    if (--all().open == 0 && __asan_poison_memory_region)
        for (auto &m : all().device)
            __asan_poison_memory_region(m.first, m.second);
}

size_t gw_emu_most_dyn_shared(const void *kernel)
{
    std::lock_guard<std::mutex> hold(all().lock);
    auto found = all().allowed.find(kernel);
    return found == all().allowed.end() ? size_t(GW_EMU_PLAIN_SHARED) : size_t(found->second);
}

const char *cudaGetErrorString(cudaError_t e)
{
    return e == cudaSuccess                 ? "no error"
           : e == cudaErrorMemoryAllocation ? "out of memory"
                                            : "invalid argument";
}

cudaError_t cudaGetLastError()
{
    return cudaSuccess;
}

cudaError_t cudaGetDeviceCount(int *n)
{
    *n = 1;
    return cudaSuccess;
}

cudaError_t cudaGetDevice(int *device)
{
    *device = 0;
    return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int *value, cudaDeviceAttr attribute, int)
{
    *value = attribute == cudaDevAttrMultiProcessorCount            ? 2
             : attribute == cudaDevAttrMaxSharedMemoryPerBlockOptin ? GW_EMU_MOST_SHARED
             : attribute == cudaDevAttrComputeCapabilityMajor       ? 9
                                                                    : 0;
    return cudaSuccess;
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp *p, int)
{
    snprintf(p->name, sizeof p->name, "emulator");
    return cudaSuccess;
}

cudaError_t cudaMalloc(void **p, size_t bytes)
{
    no_capture("cudaMalloc in the middle of a capture");
    if (posix_memalign(p, 256, bytes) != 0)
        return cudaErrorMemoryAllocation;
    memset(*p, 0xff, bytes);
    std::lock_guard<std::mutex> hold(all().lock);
    all().device[static_cast<char *>(*p)] = bytes;
    if (all().open == 0 && __asan_poison_memory_region)
        __asan_poison_memory_region(*p, bytes);
    return cudaSuccess;
}

cudaError_t cudaFree(void *p)
{
    if (!p)
        return cudaSuccess;
    {
        std::lock_guard<std::mutex> hold(all().lock);
        auto found = all().device.find(static_cast<char *>(p));
        if (found == all().device.end())
            gw_emu_die("cudaFree of what cudaMalloc did not give");
        if (__asan_unpoison_memory_region)
            __asan_unpoison_memory_region(p, found->second);
        all().device.erase(found);
    }
    free(p);
    return cudaSuccess;
}

cudaError_t cudaHostAlloc(void **p, size_t bytes, unsigned)
{
    if (posix_memalign(p, 64, bytes) != 0)
        return cudaErrorMemoryAllocation;
    memset(*p, 0xff, bytes);
    std::lock_guard<std::mutex> hold(all().lock);
    all().pinned[static_cast<char *>(*p)] = bytes;
    return cudaSuccess;
}

cudaError_t cudaFreeHost(void *p)
{
    {
        std::lock_guard<std::mutex> hold(all().lock);
        if (p && all().pinned.erase(static_cast<char *>(p)) == 0)
            gw_emu_die("cudaFreeHost of what cudaHostAlloc did not give");
    }
    free(p);
    return cudaSuccess;
}

cudaError_t cudaPointerGetAttributes(cudaPointerAttributes *a, const void *p)
{
    a->type = type_of(p);
    return cudaSuccess;
}

void gw_emu_enqueue(gw_emu_stream *s, const std::function<void()> &what)
{
    if (s && s->captured)
        s->captured->nodes.push_back(what);
    else
        what();
}

static void copy_rows(void *to, size_t to_pitch, const void *from, size_t from_pitch, size_t width,
                      size_t height)
{
    const gw_emu_opened memory;
    for (size_t i = 0; i < height; i++)
        memmove(static_cast<char *>(to) + i * to_pitch, static_cast<const char *>(from) + i * from_pitch,
                width);
}

cudaError_t cudaMemcpy2DAsync(void *to, size_t to_pitch, const void *from, size_t from_pitch, size_t width,
                              size_t height, cudaMemcpyKind kind, cudaStream_t s)
{
    const bool to_device = type_of(to) == cudaMemoryTypeDevice,
               from_device = type_of(from) == cudaMemoryTypeDevice;
    if (kind != cudaMemcpyDefault &&
        (to_device != (kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice) ||
         from_device != (kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice)))
        gw_emu_die("a copy in another direction than it says");
    if (height > 1 && (width > to_pitch || width > from_pitch))
        gw_emu_die("a copy whose rows are wider than their distance");
    gw_emu_enqueue(s, [=] { copy_rows(to, to_pitch, from, from_pitch, width, height); });
    return cudaSuccess;
}

cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, cudaMemcpyKind kind, cudaStream_t s)
{
    return cudaMemcpy2DAsync(to, bytes, from, bytes, bytes, 1, kind, s);
}

cudaError_t cudaMemcpy(void *to, const void *from, size_t bytes, cudaMemcpyKind kind)
{
    return cudaMemcpyAsync(to, from, bytes, kind, nullptr);
}

cudaError_t cudaDeviceSynchronize()
{
    return cudaSuccess;
}

cudaError_t cudaMemsetAsync(void *p, int value, size_t bytes, cudaStream_t s)
{
    if (type_of(p) != cudaMemoryTypeDevice)
        gw_emu_die("cudaMemset of memory that is not the device's");
    gw_emu_enqueue(s, [=] {
        const gw_emu_opened memory;
        memset(p, value, bytes);
    });
    return cudaSuccess;
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *s, unsigned)
{
    *s = new gw_emu_stream{nullptr};
    return cudaSuccess;
}

cudaError_t cudaStreamDestroy(cudaStream_t s)
{
    delete s;
    return cudaSuccess;
}

cudaError_t cudaStreamBeginCapture(cudaStream_t s, cudaStreamCaptureMode)
{
    if (!s || s->captured)
        gw_emu_die("a capture of the default stream, or of one that is captured already");
    s->captured = new gw_emu_graph();
    captures++;
    return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t s, cudaGraph_t *g)
{
    if (!s || !s->captured)
        gw_emu_die("the end of a capture that was not begun");
    *g = s->captured;
    s->captured = nullptr;
    captures--;
    return cudaSuccess;
}

cudaError_t cudaGraphInstantiateWithFlags(cudaGraphExec_t *e, cudaGraph_t g, unsigned long long)
{
    *e = new gw_emu_graph(*g);
    return cudaSuccess;
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t e, cudaStream_t s)
{
    for (const auto &node : e->nodes)
        gw_emu_enqueue(s, node);
    return cudaSuccess;
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t e)
{
    delete e;
    return cudaSuccess;
}

cudaError_t cudaGraphDestroy(cudaGraph_t g)
{
    delete g;
    return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t)
{
    no_capture("a wait in the middle of a capture");
    return cudaSuccess;
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *e, unsigned)
{
    *e = static_cast<cudaEvent_t>(calloc(1, sizeof(timespec)));
    return *e ? cudaSuccess : cudaErrorMemoryAllocation;
}

cudaError_t cudaEventDestroy(cudaEvent_t e)
{
    free(e);
    return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t e, cudaStream_t)
{
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, reinterpret_cast<timespec *>(e)); /* whoever else runs here */
    return cudaSuccess;
}

cudaError_t cudaEventElapsedTime(float *ms, cudaEvent_t from, cudaEvent_t to)
{
    const timespec *a = reinterpret_cast<const timespec *>(from), *b = reinterpret_cast<const timespec *>(to);
    *ms = float(1e3 * double(b->tv_sec - a->tv_sec) + 1e-6 * double(b->tv_nsec - a->tv_nsec));
    return cudaSuccess;
}

cudaError_t cudaEventSynchronize(cudaEvent_t)
{
    return cudaSuccess;
}

cudaError_t cudaEventQuery(cudaEvent_t)
{
    return cudaSuccess;
}

cudaError_t cudaStreamWaitEvent(cudaStream_t, cudaEvent_t, unsigned)
{
    return cudaSuccess;
}

cudaError_t gw_emu_allow_shared(const void *kernel, cudaFuncAttribute, int bytes)
{
    if (bytes > GW_EMU_MOST_SHARED)
        return cudaErrorInvalidValue;
    std::lock_guard<std::mutex> hold(all().lock);
    all().allowed[kernel] = bytes;
    return cudaSuccess;
}

cudaError_t gw_emu_occupancy(int *blocks, int threads, size_t shared)
{
    *blocks = 2048 / threads;
    if (shared > 0 && *blocks > int((GW_EMU_MOST_SHARED + 1024) / (shared + 1024)))
        *blocks = int((GW_EMU_MOST_SHARED + 1024) / (shared + 1024));
    return *blocks > 0 ? cudaSuccess : cudaErrorInvalidValue;
}
