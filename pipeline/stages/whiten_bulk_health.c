/* SPDX-License-Identifier: GPL-3.0-or-later
 * A hop's health. Nearly every hop is good, so one fast pass asks only two things: is each sample finite, and
 * does any stretch of CHUNK samples often have the same value four samples later? Who dies or saturates has;
 * of noise almost nobody. Only then is the hop looked at closely. */
#include "pipeline/stages/whiten_bulk_health.h"

#include <float.h>
#include <math.h>
#include <stdbool.h>
#include <string.h>

/* A run of RUN equal samples has RUN - LANES that are equal to the one LANES later, of which one of two
 * chunks holds SUSPICIOUS. */
enum { LANES = 4, CHUNK = 64, RUN = 16, SUSPICIOUS = (RUN - LANES) / 2, STEPS = 64 };

typedef float floats __attribute__((vector_size(LANES * sizeof(float))));
typedef int32_t bits __attribute__((vector_size(LANES * sizeof(int32_t))));

static gw_health look_closely(const float *x, uint32_t n, uint32_t dead_run)
{
    float low = x[0], high = x[0], step = FLT_MAX;
    for (uint32_t i = 1; i < n; i++) {
        const float d = fabsf(x[i] - x[i - 1]);
        low = x[i] < low ? x[i] : low;
        high = x[i] > high ? x[i] : high;
        step = d > 0 && d < step ? d : step;
    }
    uint32_t run = 1, longest = 1, at_extreme = 1;
    for (uint32_t i = 1; i < n; i++) {
        run = x[i] == x[i - 1] ? run + 1 : 1;
        longest = run > longest ? run : longest;
        if (run > at_extreme && (x[i] == low || x[i] == high))
            at_extreme = run;
    }
    if (longest >= dead_run)
        return GW_HEALTH_DEAD;
    return at_extreme >= RUN && high - low >= STEPS * step ? GW_HEALTH_SATURATED : GW_HEALTH_GOOD;
}

gw_health gw_health_of(const float *x, uint32_t n, uint32_t dead_run)
{
    const bits exponent = (bits){0} + 0x7f800000;
    bool suspicious = false;
    bits not_finite = {0};
    uint32_t i = 0;
    floats now, next;
    memcpy(&next, x, sizeof next);
    while (i + CHUNK + LANES <= n) {
        bits equal = {0};
        for (const uint32_t end = i + CHUNK; i < end; i += LANES) {
            now = next;
            memcpy(&next, x + i + LANES, sizeof next);
            equal -= now == next;
            not_finite |= ((bits)now & exponent) == exponent;
        }
        suspicious |= equal[0] + equal[1] + equal[2] + equal[3] >= SUSPICIOUS;
    }
    bool finite = !(not_finite[0] | not_finite[1] | not_finite[2] | not_finite[3]);
    for (int equal = 0; i < n; i++) {
        finite &= fabsf(x[i]) <= FLT_MAX;
        equal += i + LANES < n && x[i] == x[i + LANES];
        suspicious |= equal >= SUSPICIOUS;
    }
    if (!finite)
        return GW_HEALTH_NAN;
    return suspicious ? look_closely(x, n, dead_run) : GW_HEALTH_GOOD;
}
