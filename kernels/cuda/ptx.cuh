/* SPDX-License-Identifier: GPL-3.0-or-later
 * All inline PTX there is, each with a model for the host that does the same, or, where it only hurries,
 * makes sure that it could have. */
#ifndef GW_PTX_CUH
#define GW_PTX_CUH

#include "kernels/cuda/gpu.cuh"

/* Asks for `bytes` from p on (both multiples of 16) to be brought into L2. One thread's call is enough. */
static __device__ __forceinline__ void gw_ptx_prefetch(const void *p, unsigned bytes)
{
#ifdef GW_EMULATED
    const volatile char *b = static_cast<const volatile char *>(p); /* memory that is there */
    if (bytes > 0)
        (void)(b[0] + b[bytes - 1]);
#elif defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
    if (bytes > 0)
        asm volatile("cp.async.bulk.prefetch.L2.global [%0], %1;" ::"l"(__cvta_generic_to_global(p)),
                     "r"(bytes)
                     : "memory");
#else
    (void)p;
    (void)bytes;
#endif
}

/* v, of which the compiler no longer knows where it comes from: what follows from it is worked out where it
 * is wanted, not ahead of a loop and kept. */
static __device__ __forceinline__ unsigned gw_ptx_opaque(unsigned v)
{
#ifndef GW_EMULATED
    asm volatile("" : "+r"(v));
#endif
    return v;
}

#endif
