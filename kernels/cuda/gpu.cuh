/* SPDX-License-Identifier: GPL-3.0-or-later
 * What every .cu file here begins with: CUDA's runtime (or the emulator of tests/emulator, which stands in
 * its place on the include path), the only ways to launch a kernel and to have shared memory, and errors.
 * Kernels written with these run on a GPU and, under the sanitizers, on any machine. */
#ifndef GW_GPU_CUH
#define GW_GPU_CUH

#include <cuda_runtime.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

extern "C" {
#include "pipeline/error.h"
}

#ifdef GW_EMULATED
#define GW_UNROLL
#define GW_UNROLL_BY(n)
#else
#define GW_UNROLL       _Pragma("unroll")
#define GW_PRAGMA(text) _Pragma(#text)
#define GW_UNROLL_BY(n) GW_PRAGMA(unroll n)
#define GW_LAUNCH(kernel, grid, block, dyn_shared, stream, ...)                                              \
    do {                                                                                                     \
        const auto gw_kernel_ = kernel;                                                                      \
        gw_kernel_<<<(grid), (block), (dyn_shared), (stream)>>>(__VA_ARGS__);                                \
    } while (0)
#define GW_SHARED(type, name, n) __shared__ type name[n]
#define GW_DYN_SHARED(type, name)                                                                            \
    extern __shared__ __align__(16) unsigned char gw_dyn_shared_[];                                          \
    type *const name = reinterpret_cast<type *>(gw_dyn_shared_)
#endif

/* Turns a CUDA call's status into ours: GW_ENOMEM or GW_ESYSTEM, with the device's own words. */
static inline int gw_gpu_status(cudaError_t e, const char *what)
{
    if (e == cudaSuccess)
        return GW_OK;
    return gw_fail(e == cudaErrorMemoryAllocation ? GW_ENOMEM : GW_ESYSTEM, "GPU, %s: %s", what,
                   cudaGetErrorString(e));
}

#define GW_GPU_TRY(call, what) GW_TRY(gw_gpu_status((call), (what)))

#endif
