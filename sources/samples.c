/* SPDX-License-Identifier: GPL-3.0-or-later
 * One loop for each pair of types, so that each of them is a few vector instructions a sample. */
#include "sources/samples.h"

#include <math.h>

/* v - v is 0 for every finite v and NaN for the others; OR-ing bits keeps the loop free of branches. */
#define CONVERT(name, From, To)                                                                              \
    static bool name(To *restrict to, const From *restrict from, size_t n, double scale, double offset)      \
    {                                                                                                        \
        int bad = 0;                                                                                         \
        if (scale == 1 && offset == 0) {                                                                     \
            for (size_t i = 0; i < n; i++) {                                                                 \
                const To v = (To)from[i];                                                                    \
                to[i] = v;                                                                                   \
                bad |= !(v - v == 0);                                                                        \
            }                                                                                                \
            return !bad;                                                                                     \
        }                                                                                                    \
        for (size_t i = 0; i < n; i++) {                                                                     \
            const To v = (To)((double)from[i] * scale + offset);                                             \
            to[i] = v;                                                                                       \
            bad |= !(v - v == 0);                                                                            \
        }                                                                                                    \
        return !bad;                                                                                         \
    }

CONVERT(f32_f32, float, float)
CONVERT(f64_f32, double, float)
CONVERT(i16_f32, int16_t, float)
CONVERT(i32_f32, int32_t, float)
CONVERT(f32_f64, float, double)
CONVERT(f64_f64, double, double)
CONVERT(i16_f64, int16_t, double)
CONVERT(i32_f64, int32_t, double)

bool gw_samples_convert(void *to, gw_dtype to_type, const void *from, gw_dtype from_type, size_t n,
                        double scale, double offset)
{
    const bool wide = to_type == GW_F64;
    switch (from_type) {
    case GW_F32:
        return wide ? f32_f64(to, from, n, scale, offset) : f32_f32(to, from, n, scale, offset);
    case GW_F64:
        return wide ? f64_f64(to, from, n, scale, offset) : f64_f32(to, from, n, scale, offset);
    case GW_I16:
        return wide ? i16_f64(to, from, n, scale, offset) : i16_f32(to, from, n, scale, offset);
    case GW_I32:
        return wide ? i32_f64(to, from, n, scale, offset) : i32_f32(to, from, n, scale, offset);
    case GW_U8:
        break;
    }
    return false;
}

size_t gw_samples_leading(const void *x, gw_dtype type, size_t n, bool finite)
{
    size_t i = 0;
    if (type == GW_F64)
        while (i < n && !isfinite(((const double *)x)[i]) == !finite)
            i++;
    else
        while (i < n && !isfinite(((const float *)x)[i]) == !finite)
            i++;
    return i;
}
