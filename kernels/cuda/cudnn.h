/* SPDX-License-Identifier: GPL-3.0-or-later
 * Convolution layers through cuDNN 9, where that library is found at run time; called by the networks on the
 * GPU (net.cu). Each layer, with its batch and its arrays' shapes, becomes a plan: bias, residual and
 * activation inside cuDNN's kernel where an engine does that, else the convolution alone and a kernel of ours
 * after it. On a GPU the most promising plans are timed when a layer is opened, and the choice is kept on
 * disk (cudnn_cache.c). Without a GPU plans can be made for a described H200, to see that they exist; they do
 * not run. Nothing here is used for strict float32 unless it is asked for.
 *
 * The library is $GWSTREAM_CUDNN or else libcudnn.so.9, as the system finds it. Failures leave the caller
 * with its own convolution (kernels/cuda/conv.cu): GW_EMISSING no cuDNN, GW_ENOTSUP not this layer. */
#ifndef GW_CUDNN_H
#define GW_CUDNN_H

#include "kernels/conv.h"

/* "9.19.0", or why there is none. Any thread. */
const char *gw_cudnn_status(void);

/* Would this file or soname do? GW_EMISSING with the reason: not there, not version 9, or not whole. */
int gw_cudnn_library_check(const char *path);

/* Where remarks go that are no failure ("cache file ... is damaged: ignored"): one line each. NULL: nowhere,
 * which is how it begins. Set it before anything else here is called. */
void gw_cudnn_remarks(void (*to)(const char *line));

typedef enum gw_cudnn_precision {
    GW_CUDNN_FP32, /* products and sums in float32 */
    GW_CUDNN_TF32, /* inputs of products rounded to 10 bits of mantissa, sums in float32 */
    GW_CUDNN_FP16  /* the same, and their range is half precision's */
} gw_cudnn_precision;

typedef struct gw_cudnn_layer {
    gw_conv_desc d;
    uint32_t batch, columns;
    size_t src_step, residual_step, dst_step; /* elements; as in gw_conv_io */
    bool residual;
    bool in_place;                 /* the residual is dst itself */
    bool half;                     /* FP16 only: src, residual and dst hold __half, not float */
    uint32_t src_align, dst_align; /* bytes that the starts of windows are aligned to (dst: and the
                                      residual's); 0: 16. 4 at least, with `half` 2. */
    gw_cudnn_precision precision;
    /* NULL, or enqueues the caller's own convolution of the same layer. It is timed with the plans, and where
     * it is faster gw_cudnn_conv_open returns GW_ENOTSUP, which is kept on disk too. */
    int (*rival)(void *arg, const gw_conv_io *io, void *stream);
    void *rival_arg;
} gw_cudnn_layer;

typedef struct gw_cudnn gw_cudnn;           /* for one net, so one thread: its layers share it */
typedef struct gw_cudnn_conv gw_cudnn_conv; /* a layer with its plan */

/* With `device` for the current GPU, else for a described H200. GW_EMISSING: no cuDNN that fits. */
int gw_cudnn_open(gw_cudnn **c, bool device);
void gw_cudnn_close(gw_cudnn **c); /* after its layers */

typedef struct gw_cudnn_info {
    int engine;    /* cuDNN's number of it */
    bool fused;    /* bias, residual and activation inside */
    bool compiled; /* at run time, by NVRTC */
    bool cached;   /* from disk, not timed now */
    int plans;     /* that could be chosen from */
    int left_out;  /* offered by cuDNN, but not to be had on this machine: needs the driver or NVRTC */
    size_t workspace_bytes;
    double us; /* median of a run when it was timed; 0 without a GPU */
} gw_cudnn_info;

/* weight and bias (or NULL): on the host, as gw_conv_ops.open has them; copied to the GPU, once for all
 * layers of c that have the same. Allocates and, on a GPU, runs: not while a stream is being captured, and a
 * graph captured before remains valid. GW_ENOTSUP: cuDNN has nothing for it, or the rival is faster. */
int gw_cudnn_conv_open(gw_cudnn_conv **p, gw_cudnn *c, const gw_cudnn_layer *l, const float *weight,
                       const float *bias);
const gw_cudnn_info *gw_cudnn_conv_info(const gw_cudnn_conv *p);
/* Only enqueues on `stream` (a cudaStream_t, which may be being captured). io: device arrays of just the
 * layer's shape; GW_EBUG if not. Layers of one gw_cudnn share memory: one after another, on one stream. */
int gw_cudnn_conv_run(const gw_cudnn_conv *p, const gw_conv_io *io, void *stream);
void gw_cudnn_conv_close(gw_cudnn_conv **p);

#endif
