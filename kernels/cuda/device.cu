/* SPDX-License-Identifier: GPL-3.0-or-later
 * The house's device (pipeline/device.h) by CUDA's runtime: a queue is a stream, a mark an event. Memory
 * comes once, at the start, so nothing here is made to be cheap but copies and marks. Used through the table
 * that gw_cuda_device() gives; which GPU, and whether there is one, is cuda.cu's to say. */
#include "kernels/cuda/gpu.cuh"

extern "C" {
#include "kernels/cuda/cuda.h"
}

static cudaStream_t stream(gw_queue *q)
{
    return reinterpret_cast<cudaStream_t>(q);
}

static cudaEvent_t event(gw_mark *m)
{
    return reinterpret_cast<cudaEvent_t>(m);
}

static int memory_new(void **m, size_t bytes, gw_space space)
{
    *m = nullptr;
    cudaError_t e = space == GW_SPACE_PINNED   ? cudaHostAlloc(m, bytes, cudaHostAllocDefault)
                    : space == GW_SPACE_DEVICE ? cudaMalloc(m, bytes)
                                               : cudaErrorInvalidValue;
    if (e == cudaSuccess)
        return GW_OK;
    cudaGetLastError(); /* no memory is no error that a later call should meet */
    *m = nullptr;
    return gw_fail(e == cudaErrorMemoryAllocation ? GW_ENOMEM : GW_ESYSTEM, "GPU, %.1f MiB of %s memory: %s",
                   double(bytes) / (1 << 20), space == GW_SPACE_PINNED ? "pinned" : "device",
                   cudaGetErrorString(e));
}

static void memory_destroy(void **m, gw_space space)
{
    if (*m && space == GW_SPACE_PINNED)
        cudaFreeHost(*m);
    else if (*m)
        cudaFree(*m);
    *m = nullptr;
}

static int queue_new(gw_queue **q)
{
    cudaStream_t s = nullptr;
    *q = nullptr;
    GW_GPU_TRY(cudaStreamCreateWithFlags(&s, cudaStreamNonBlocking), "a queue");
    *q = reinterpret_cast<gw_queue *>(s);
    return GW_OK;
}

static void queue_destroy(gw_queue **q)
{
    if (!*q)
        return;
    cudaStreamSynchronize(stream(*q));
    cudaStreamDestroy(stream(*q));
    *q = nullptr;
}

static int queue_wait(gw_queue *q)
{
    return gw_gpu_status(cudaStreamSynchronize(stream(q)), "the end of a queue");
}

static int copy(gw_queue *q, void *dst, const void *src, size_t bytes)
{
    return gw_gpu_status(cudaMemcpyAsync(dst, src, bytes, cudaMemcpyDefault, stream(q)), "copy");
}

static int copy_rows(gw_queue *q, void *dst, size_t dst_pitch, const void *src, size_t src_pitch,
                     size_t row_bytes, size_t rows)
{
    return gw_gpu_status(
        cudaMemcpy2DAsync(dst, dst_pitch, src, src_pitch, row_bytes, rows, cudaMemcpyDefault, stream(q)),
        "copy of rows");
}

/* Who waits for it sleeps. */
static int mark_new(gw_mark **m)
{
    cudaEvent_t e = nullptr;
    *m = nullptr;
    GW_GPU_TRY(cudaEventCreateWithFlags(&e, cudaEventDisableTiming | cudaEventBlockingSync), "a mark");
    *m = reinterpret_cast<gw_mark *>(e);
    return GW_OK;
}

static void mark_destroy(gw_mark **m)
{
    if (*m)
        cudaEventDestroy(event(*m));
    *m = nullptr;
}

static int mark(gw_queue *q, gw_mark *m)
{
    return gw_gpu_status(cudaEventRecord(event(m), stream(q)), "work");
}

static int after(gw_queue *q, gw_mark *m)
{
    return gw_gpu_status(cudaStreamWaitEvent(stream(q), event(m), 0), "a wait for a mark");
}

static int fired(gw_mark *m)
{
    const cudaError_t e = cudaEventQuery(event(m));
    if (e != cudaErrorNotReady)
        return gw_gpu_status(e, "work");
    cudaGetLastError(); /* it is remembered like an error */
    return GW_EAGAIN;
}

static int wait(gw_mark *m)
{
    return gw_gpu_status(cudaEventSynchronize(event(m)), "work");
}

void gw_device_cuda(gw_device *d, const char *name)
{
    *d = {name,      memory_new, memory_destroy, queue_new, queue_destroy, queue_wait, copy,
          copy_rows, mark_new,   mark_destroy,   mark,      after,         fired,      wait};
}
