/* SPDX-License-Identifier: GPL-3.0-or-later
 * The table's entry to the GPU. Called by kernels.c where the program was built with nvcc, and by the tests
 * where it was built with the emulator. The program needs no NVIDIA library to start: CUDA's runtime is
 * linked in, the driver and cuFFT are looked for when they are first wanted. */
#ifndef GW_CUDA_H
#define GW_CUDA_H

#include "kernels/kernels.h"
#include "pipeline/device.h"

/* Overwrites what is faster on the GPU for callers whose data is in host memory, if there is a GPU that can
 * (compute capability 8.0 or later); else leaves the table as it is. */
void gw_kernels_cuda(gw_kernels *k);

/* The same, and what is faster only for callers that keep their data on the device: layers. The harness
 * compares it all. */
void gw_kernels_cuda_all(gw_kernels *k);

/* The GPU as the house's device (pipeline/device.h), NULL where there is none that can. */
const gw_device *gw_cuda_device(void);

/* For people: "NVIDIA H200, 132 multiprocessors, cuFFT", or why there is none. Any thread. */
const char *gw_cuda_status(void);

/* The families. x and y of a step, and src and dst of a layer, may lie in the host's memory (pinned is
 * fastest) or the device's. A device that fails makes every channel of the call not finite. */
void gw_bulk_cuda(gw_bulk_ops *ops);  /* fused in shared memory where the shape allows, else with cuFFT */
void gw_bulk_cufft(gw_bulk_ops *ops); /* always with cuFFT: to be compared with the other */
void gw_conv_cuda(gw_conv_ops *ops);  /* on device arrays a call enqueues and returns ... */
int gw_cuda_wait(void);               /* ... until here: all that this thread's layers enqueued is done */
void gw_device_cuda(gw_device *d, const char *name); /* `name` must outlive it */
void gw_place_cuda(gw_place_ops *ops);               /* whole networks */

#endif
