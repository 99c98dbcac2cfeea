/* SPDX-License-Identifier: GPL-3.0-or-later
 * Network layers on the device, each one launch for all windows of a batch. Arrays are the device's; a call
 * enqueues on the stream and returns. Called by conv.cu (one window, any memory) and net.cu (whole networks).
 * Sums run in one fixed order (in float over taps and channels, norms in double), so a result depends
 * neither on the batch nor on the place in it. Launches that fail show in cudaGetLastError. */
#ifndef GW_LAYERS_CUH
#define GW_LAYERS_CUH

#include "kernels/cuda/gpu.cuh"

extern "C" {
#include "kernels/nn/place.h"
}

/* A layer's convolution; nothing is copied. */
void gw_layer_conv(const gw_conv *c, const gw_conv_io *io, cudaStream_t s);
void gw_layer_join(cudaStream_t s, unsigned count, gw_join kind, gw_act act, unsigned columns,
                   unsigned channels, gw_place_array a, gw_place_array b, bool one_column,
                   gw_place_array dst);
void gw_layer_meet(cudaStream_t s, unsigned count, gw_act act, unsigned columns, unsigned channels,
                   const float *bias, gw_place_array a, unsigned a_channels, gw_place_array b,
                   gw_place_array dst);
void gw_layer_act(cudaStream_t s, unsigned count, gw_act act, size_t n, gw_place_array x, gw_place_array dst);
void gw_layer_mean(cudaStream_t s, unsigned count, unsigned n, unsigned span, unsigned channels,
                   gw_place_array x, gw_place_array dst);
void gw_layer_pool(cudaStream_t s, unsigned count, const gw_pool *p, gw_place_array src, gw_place_array dst);
void gw_layer_norm(cudaStream_t s, unsigned count, const gw_norm *n, gw_place_array x,
                   gw_place_array residual, gw_place_array dst);
void gw_layer_copy(cudaStream_t s, unsigned count, unsigned columns, unsigned channels, gw_place_array from,
                   unsigned from_channels, gw_place_array to, unsigned to_channels);
void gw_layer_zero(cudaStream_t s, unsigned count, gw_place_array a, size_t n, size_t between, size_t after);
void gw_layer_keep(cudaStream_t s, unsigned count, const gw_place_past *past, int n);

#endif
