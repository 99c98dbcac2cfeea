/* SPDX-License-Identifier: GPL-3.0-or-later
 * The five calls of cuFFT that are used, looked for at run time: a program that links it would not start
 * where it is not. The emulator has a model of it. */
#ifndef GW_CUFFT_CUH
#define GW_CUFFT_CUH

#include "kernels/cuda/gpu.cuh"

enum { GW_CUFFT_R2C = 0x2a, GW_CUFFT_C2R = 0x2c };

struct gw_cufft_calls { /* each returns 0 on success */
    int (*plan_many)(int *plan, int rank, int *n, int *in_embed, int in_stride, int in_distance,
                     int *out_embed, int out_stride, int out_distance, int type, int batch);
    int (*set_stream)(int plan, cudaStream_t stream);
    int (*forward)(int plan, float *in, float2 *out);
    int (*inverse)(int plan, float2 *in, float *out);
    int (*destroy)(int plan);
};

/* NULL where there is none. Any thread. */
const gw_cufft_calls *gw_cufft();

#endif
