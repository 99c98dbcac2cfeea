/* SPDX-License-Identifier: GPL-3.0-or-later
 * Chooses the network layers that this machine runs fastest.
 *
 * Why not a library: in channels-last order a 1-D convolution is one small matrix product (conv_tile.h),
 * which reaches 0.97-0.99 of the multiply-add peak from 16 channels on, and up to 1.8 of it where a layer
 * can do with fewer multiplications (conv_short.h); oneDNN 2.6 reached 0.4-0.9 on the
 * same layers, with microseconds of overhead a call, which for small networks is most of the time, and with
 * weights and scratch memory bound to one batch size and one thread. */
#include "kernels/cpu/conv_table.h"

void gw_conv_cpu(gw_conv_ops *ops)
{
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl")) {
        gw_conv_avx512(ops);
        return;
    }
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
        gw_conv_avx2(ops);
        return;
    }
#endif
    gw_conv_sse2(ops);
}
