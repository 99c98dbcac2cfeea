/* SPDX-License-Identifier: GPL-3.0-or-later
 * Whether one hop of a channel can be used at all, and what it is scaled by: rules that every implementation
 * of bulk.h follows to the bit, which is why they are made of comparisons alone and stand here as source for
 * the processor and the GPU. An implementation may look first whether a hop can be anything but good, by any
 * quicker means that misses none. */
#ifndef GW_BULK_HEALTH_H
#define GW_BULK_HEALTH_H

#include <float.h>
#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#ifdef __CUDACC__
#define GW_BULK_RULE static __host__ __device__ inline
#else
#define GW_BULK_RULE static inline
#endif

typedef enum gw_bulk_health {
    GW_BULK_GOOD,
    GW_BULK_NAN,      /* a sample is not finite, or beyond GW_BULK_LIMIT */
    GW_BULK_DEAD,     /* dead_run samples in a row are the same */
    GW_BULK_SATURATED /* values pile up at an end of the channel's range */
} gw_bulk_health;

/* One end of a hop's range. */
typedef struct gw_bulk_end {
    uint32_t at, visits;       /* samples that have the extreme value, and from how many other sides */
    uint32_t near;             /* samples less than 1/128 of the range away from it */
    uint32_t run, longest_run; /* at it: the present one, and the longest */
    uint32_t cells;            /* which of the next 16 times 1/128 of the range have samples: bits */
} gw_bulk_end;

GW_BULK_RULE void gw_bulk_end_count(gw_bulk_end *e, float away, float per)
{
    const float cell = away * per;
    e->visits += away == 0 && e->run == 0;
    e->run = away == 0 ? e->run + 1 : 0;
    e->longest_run = e->run > e->longest_run ? e->run : e->longest_run;
    e->at += away == 0;
    e->near += away > 0 && cell < 1;
    e->cells |= away > 0 && cell < 16 ? UINT32_C(1) << (uint32_t)cell : 0;
}

/* `worth`: bits that a visit counts; other_run: the longest one at neither end. */
GW_BULK_RULE bool gw_bulk_end_is_clipped(const gw_bulk_end *e, uint32_t n, uint32_t worth, uint32_t other_run)
{
    enum { RUN = 16, CELLS = 12, BITS = 44 };
    if (e->at <= 2 * e->near || n - e->at - e->near <= 2 * e->near)
        return false;
    if (e->longest_run >= RUN && e->longest_run >= 4 * other_run)
        return true;
    uint32_t cells = 0;
    for (uint32_t k = 0; k < 16; k++)
        cells += e->cells >> k & 1;
    return cells >= CELLS && (e->visits - 1) * worth >= BITS;
}

/* Of x[n], all finite; n >= dead_run >= 16. To be good it is enough that no four aligned samples (from a
 * multiple of 4 on) are the same, that fewer than five have the least value, and fewer than five the
 * greatest.
 *
 * Saturated: noise has fewer samples the further out, and whatever is smooth (a sine, a slow wave in codes of
 * a converter) turns around so that it dwells near its greatest value too. What is clipped has its whole tail
 * on one value. So an end is clipped where more than twice as many samples have the extreme value as lie
 * within 1/128 of the range of it, if also either
 *   - it stayed there for 16 samples, 4 times as long as at any value in between (who holds each of his
 * values is not clipped), or
 *   - it came there often enough, and there are samples in 12 of the 16 next 128ths (a period that repeats
 *     itself exactly has few values): where L smallest steps between samples at most 4 apart go into the
 * range, two of the most extreme of clean noise agree with odds of at most 32 / L (a step is 4 / sigma of
 * density there, the range 8 sigma), so k visits have odds of (32 / L)^(k - 1) <= 2^-44. Below L = 1024 a
 * smooth wave's dwelling cannot be told from clipping: such a converter is never saturated. Of white noise
 * clipped at 3 sigma 22 of 16384 samples lie on each end, 4 near it; of hops of 1024 what is clipped at 2
 * sigma is seen. What the dwelling of a parabola can be against 8 steps near it, also at a hop's edge, is
 * 1.1. */
GW_BULK_RULE uint8_t gw_bulk_judge(const float *x, uint32_t n, uint32_t dead_run)
{
    enum { LEAST_WORTH = 5, MOST_WORTH = 11, NEIGHBOURS = 4 };
    float low = x[0], high = x[0], step = FLT_MAX;
    uint32_t run = 1;
    for (uint32_t i = 1; i < n; i++) {
        run = x[i] == x[i - 1] ? run + 1 : 1;
        for (uint32_t k = 1; k <= NEIGHBOURS && k <= i; k++) {
            const float d = fabsf(x[i] - x[i - k]);
            step = d > 0 && d < step ? d : step;
        }
        if (run >= dead_run)
            return GW_BULK_DEAD;
        low = x[i] < low ? x[i] : low;
        high = x[i] > high ? x[i] : high;
    }
    uint32_t worth = 0;
    for (float range = 64 * step; worth < MOST_WORTH && high - low >= range; range *= 2)
        worth++;
    if (worth < LEAST_WORTH || high - low > FLT_MAX)
        return GW_BULK_GOOD;
    const float per = 128 / (high - low);
    gw_bulk_end bottom = {0, 0, 0, 0, 0, 0}, top = {0, 0, 0, 0, 0, 0};
    uint32_t other = 0;
    run = 1;
    for (uint32_t i = 0; i < n; i++) {
        run = i > 0 && x[i] == x[i - 1] ? run + 1 : 1;
        other = run > other && x[i] > low && x[i] < high ? run : other;
        gw_bulk_end_count(&bottom, x[i] - low, per);
        gw_bulk_end_count(&top, high - x[i], per);
    }
    return gw_bulk_end_is_clipped(&bottom, n, worth, other) || gw_bulk_end_is_clipped(&top, n, worth, other)
               ? GW_BULK_SATURATED
               : GW_BULK_GOOD;
}

/* The power of two that brings the larger of |low| and |high| to between 4 and 8, about what the largest of
 * very many samples of unit noise is; 1 where all are 0. */
GW_BULK_RULE float gw_bulk_scale(float low, float high)
{
    const float most = fabsf(low) > fabsf(high) ? fabsf(low) : fabsf(high);
    uint32_t bits;
    memcpy(&bits, &most, sizeof bits);
    if (most == 0)
        return 1;
    const int32_t exponent = (int32_t)(bits >> 23 & 255) - 127; /* most is 2^exponent up to twice it */
    const int32_t want = 2 - exponent < -120 ? -120 : 2 - exponent > 120 ? 120 : 2 - exponent;
    bits = (uint32_t)(want + 127) << 23;
    float scale;
    memcpy(&scale, &bits, sizeof scale);
    return scale;
}

#endif
