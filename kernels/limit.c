/* SPDX-License-Identifier: GPL-3.0-or-later
 * One core's limits, measured. */
#include "kernels/limit.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#ifdef __x86_64__
#include <immintrin.h>
#endif

enum { LOOPS = 20000, CHAINS = 12 /* enough to hide the latency of 4 cycles on two ports */ };

static double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Each returns the FLOP it has done and stores its results, so that nothing is optimised away. */
#ifdef __x86_64__
__attribute__((target("avx512f"))) static double burn_512(float *sink)
{
    __m512 a[CHAINS];
    const __m512 b = _mm512_set1_ps(0.999f), d = _mm512_set1_ps(0.001f);
    for (int i = 0; i < CHAINS; i++)
        a[i] = _mm512_set1_ps((float)i);
    for (int n = 0; n < LOOPS; n++)
#pragma GCC unroll 12
        for (int i = 0; i < CHAINS; i++)
            a[i] = _mm512_fmadd_ps(a[i], b, d);
    for (int i = 0; i < CHAINS; i++)
        *sink += _mm512_reduce_add_ps(a[i]);
    return 2.0 * 16 * CHAINS * LOOPS;
}

__attribute__((target("avx2,fma"))) static double burn_256(float *sink)
{
    __m256 a[CHAINS];
    const __m256 b = _mm256_set1_ps(0.999f), d = _mm256_set1_ps(0.001f);
    for (int i = 0; i < CHAINS; i++)
        a[i] = _mm256_set1_ps((float)i);
    for (int n = 0; n < LOOPS; n++)
#pragma GCC unroll 12
        for (int i = 0; i < CHAINS; i++)
            a[i] = _mm256_fmadd_ps(a[i], b, d);
    for (int i = 0; i < CHAINS; i++)
        *sink += _mm256_cvtss_f32(a[i]);
    return 2.0 * 8 * CHAINS * LOOPS;
}
#endif

static double burn_plain(float *sink)
{
    float a[CHAINS * 4];
    for (int i = 0; i < CHAINS * 4; i++)
        a[i] = (float)i;
    for (int n = 0; n < LOOPS; n++)
        for (int i = 0; i < CHAINS * 4; i++)
            a[i] = a[i] * 0.999f + 0.001f;
    for (int i = 0; i < CHAINS * 4; i++)
        *sink += a[i];
    return 2.0 * 4 * CHAINS * LOOPS;
}

double gw_limit_flop(void)
{
    static double limit;
    if (limit > 0)
        return limit;
    double (*burn)(float *) = burn_plain;
#ifdef __x86_64__
    if (__builtin_cpu_supports("avx512f"))
        burn = burn_512;
    else if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
        burn = burn_256;
#endif
    volatile float keep;
    float sink = 0;
    for (int run = 0; run < 50; run++) {
        const double start = seconds(), flop = burn(&sink), took = seconds() - start;
        if (took > 0 && flop / took > limit)
            limit = flop / took;
    }
    keep = sink;
    (void)keep;
    return limit;
}

double gw_limit_copy(void)
{
    static double limit;
    const size_t bytes = 64u << 20;
    if (limit > 0)
        return limit;
    unsigned char *a = malloc(bytes), *b = malloc(bytes);
    if (!a || !b) {
        free(a);
        free(b);
        return (double)NAN;
    }
    memset(a, 1, bytes);
    memset(b, 2, bytes);
    for (int run = 0; run < 8; run++) {
        const double start = seconds();
        memcpy(b, a, bytes);
        const double took = seconds() - start;
        a[run] = b[bytes - 1];
        if (took > 0 && 2 * (double)bytes / took > limit)
            limit = 2 * (double)bytes / took;
    }
    free(a);
    free(b);
    return limit;
}
