/* SPDX-License-Identifier: GPL-3.0-or-later
 * The activations of kernels/conv.h for one value, in a kernel. Included by the .cu files with layers. */
#ifndef GW_ACT_CUH
#define GW_ACT_CUH

#include "kernels/cuda/gpu.cuh"

extern "C" {
#include "kernels/conv.h"
}

static __device__ __forceinline__ float gw_activate(gw_act act, float x)
{
    switch (act.kind) {
    case GW_ACT_RELU:
        return x < 0 ? 0 : x;
    case GW_ACT_TANH:
        return tanhf(x);
    case GW_ACT_SIGMOID:
        return 1 / (1 + expf(-x));
    case GW_ACT_LEAKY_RELU:
        return x < 0 ? act.a * x : x;
    case GW_ACT_ELU:
        return x < 0 ? act.a * expm1f(x) : x;
    case GW_ACT_SILU:
        return x / (1 + expf(-x));
    case GW_ACT_GELU:
        return 0.5f * x * erfcf(-0.70710678118654752f * x);
    case GW_ACT_SOFTPLUS:
        return fmaxf(x, 0) + log1pf(expf(-fabsf(x)));
    case GW_ACT_CLIP:
        return x < act.a ? act.a : x > act.b ? act.b : x;
    default:
        return x;
    }
}

#endif
