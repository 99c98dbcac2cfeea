/* SPDX-License-Identifier: GPL-3.0-or-later
 * Bulk whitening on the GPU: how a shape is laid out. Which windows and partitions, by a price in bytes and
 * arithmetic, whether they fit into one block's shared memory, and where a channel's state has what. Called by
 * bulk.cu. Touches no device. */
#ifndef GW_BULK_PLAN_CUH
#define GW_BULK_PLAN_CUH

#include "kernels/cuda/bulk.cuh"

struct gw_bulk_launch {
    unsigned threads, blocks;
    size_t shared_bytes;
};

struct gw_bulk {
    gw_bulk_shape shape;
    gw_bulk_info info;
    gw_gpu_shape p;
    float2 *roots;
    bool fused;     /* windows are transformed in shared memory */
    bool segmented; /* as are segments; else both by cuFFT */
    int rides;      /* the level whose window is a segment; -1: none */
    unsigned most;  /* complex points in shared memory */
    gw_bulk_launch level[GW_GPU_LEVELS], segment;
    unsigned blocks; /* the most of any launch */
    unsigned batch;  /* channels of a slot */
};

/* Fills *b, which is zero, but for the roots, the launches and the batch, which are the device's. `fused`: in shared
 * memory where that is possible. GW_ENOTSUP: it needs cuFFT, which is not there. */
int gw_bulk_plan(gw_bulk *b, const gw_bulk_shape *s, bool fused);

#endif
