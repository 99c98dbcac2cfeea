/* SPDX-License-Identifier: GPL-3.0-or-later
 * Stands where NVIDIA's <cuda_fp16.h> would: half precision to and from float, round to nearest even. */
#ifndef GW_EMULATOR_FP16_H
#define GW_EMULATOR_FP16_H

#include "cuda_runtime.h"

struct __half {
    uint16_t bits;
};
struct alignas(4) __half2 {
    __half x, y;
};

static inline __half __float2half_rn(float v)
{
    const uint32_t u = __float_as_uint(v), sign = u >> 16 & 0x8000;
    const float a = std::fabs(v);
    if (!(a < 65520.0f)) /* rounds to infinity, or NaN */
        return {uint16_t(sign | (a >= 65520.0f ? 0x7c00 : 0x7e00))};
    if (a < 0x1p-14f) /* denormal: steps of 2^-24 */
        return {uint16_t(sign | uint32_t(std::nearbyintf(a * 0x1p24f)))};
    const uint32_t b = __float_as_uint(a), round = 0xfff + (b >> 13 & 1);
    return {uint16_t(sign | (((b + round) >> 13) - (112 << 10)))};
}

static inline float __half2float(__half h)
{
    const uint32_t sign = uint32_t(h.bits & 0x8000) << 16, e = h.bits >> 10 & 31, f = h.bits & 0x3ff;
    if (e == 31)
        return __uint_as_float(sign | 0x7f800000 | f << 13);
    const float a = e ? __uint_as_float((e + 112) << 23 | f << 13) : float(f) * 0x1p-24f;
    return sign ? -a : a;
}

static inline float2 __half22float2(__half2 h)
{
    return make_float2(__half2float(h.x), __half2float(h.y));
}

static inline __half2 __floats2half2_rn(float x, float y)
{
    return {__float2half_rn(x), __float2half_rn(y)};
}

#endif
