/* SPDX-License-Identifier: GPL-3.0-or-later
 * What layers by cuDNN want of the device, so that all else of them is plain C without CUDA's runtime.
 * Called by cudnn.c; made by cudnn_device.cu, on a GPU or in the emulator. Streams are cudaStream_t. */
#ifndef GW_CUDNN_DEVICE_H
#define GW_CUDNN_DEVICE_H

#include "kernels/conv.h"

int gw_cudnn_device_name(char *text, size_t n); /* all that a choice of plans depends on */
int gw_cudnn_memory_new(void **p, size_t bytes);
void gw_cudnn_memory_free(void **p);
int gw_cudnn_upload(void *to, const void *from, size_t bytes);
int gw_cudnn_stream_new(void **stream);
void gw_cudnn_stream_free(void **stream);
int gw_cudnn_stream_wait(void *stream);
/* Median time of call(arg), which enqueues on the stream. */
int gw_cudnn_time(void *stream, int (*call)(void *arg), void *arg, double *us);
int gw_cudnn_noise(void *stream, void *p, size_t n, bool half); /* n values between -1 and 1 */

/* Windows of values, `step` apart. Below n is the values of a window; all three only enqueue. */
typedef struct gw_cudnn_array {
    void *p;
    size_t step;
    bool half; /* __half, not float */
} gw_cudnn_array;
int gw_cudnn_copy(void *stream, uint32_t batch, size_t n, gw_cudnn_array from, gw_cudnn_array to);
/* to = act(from + bias[i % channels] + residual). bias and residual.p may be NULL; `to` may be `from` or the
 * residual. */
int gw_cudnn_finish(void *stream, uint32_t batch, size_t n, uint32_t channels, gw_act act, const float *bias,
                    gw_cudnn_array from, gw_cudnn_array residual, gw_cudnn_array to);

#endif
