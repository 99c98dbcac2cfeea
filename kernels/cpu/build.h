/* SPDX-License-Identifier: GPL-3.0-or-later
 * Which build of what is built several times (bulk_loops.c, fft32_block.c) this processor runs. */
#ifndef GW_BUILD_H
#define GW_BUILD_H

typedef enum gw_build { GW_BUILD_ANY, GW_BUILD_AVX2, GW_BUILD_AVX512 } gw_build;

static inline gw_build gw_build_best(void)
{
#ifdef __x86_64__
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq"))
        return GW_BUILD_AVX512;
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) /* these have F16C */
        return GW_BUILD_AVX2;
#endif
    return GW_BUILD_ANY;
}

#endif
