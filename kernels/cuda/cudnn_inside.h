/* SPDX-License-Identifier: GPL-3.0-or-later
 * What the files of cudnn.h share. Nobody else includes this.
 *   cudnn_library.c  finds the library: a table of its calls, its version
 *   cudnn_graph.c    a layer as cuDNN's graph of operations, and the plans that run it
 *   cudnn_weights.c  weights on the GPU, shared
 *   cudnn_cache.c    choices on disk; knows files only
 *   cudnn.c          puts them together: choosing, running */
#ifndef GW_CUDNN_INSIDE_H
#define GW_CUDNN_INSIDE_H

#include "kernels/cuda/cudnn.h"
#include "kernels/cuda/cudnn_device.h"

#include <cudnn_graph.h>

/* ---- cudnn_library.c ---- */

#define GW_CUDNN_CALLS(X)                                                                                    \
    X(cudnnGetVersion)                                                                                       \
    X(cudnnGetErrorString)                                                                                   \
    X(cudnnGetLastErrorString)                                                                               \
    X(cudnnCreate)                                                                                           \
    X(cudnnDestroy)                                                                                          \
    X(cudnnSetStream)                                                                                        \
    X(cudnnBackendCreateDescriptor)                                                                          \
    X(cudnnBackendDestroyDescriptor)                                                                         \
    X(cudnnBackendFinalize)                                                                                  \
    X(cudnnBackendSetAttribute)                                                                              \
    X(cudnnBackendGetAttribute)                                                                              \
    X(cudnnBackendExecute)

typedef struct gw_cudnn_library {
#define X(name) __typeof__(name) *name;
    GW_CUDNN_CALLS(X)
#undef X
    void *handle;
    int version; /* 91900 */
} gw_cudnn_library;

/* The process's, or NULL; why is in gw_cudnn_status(). */
const gw_cudnn_library *gw_cudnn_library_get(void);
int gw_cudnn_fail(const gw_cudnn_library *l, int err, cudnnStatus_t status, const char *what);
void gw_cudnn_remark(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* ---- cudnn_graph.c ---- */

/* Where plans are made: for a handle, or for a description of a device. */
typedef struct gw_cudnn_target {
    const gw_cudnn_library *library;
    cudnnHandle_t handle;
    cudnnBackendDescriptor_t description;
} gw_cudnn_target;
int gw_cudnn_target_describe(gw_cudnn_target *t); /* the H200 */

/* Tensors of a graph; the numbers are cuDNN's unique ids. */
enum { GW_CUDNN_X = 1, GW_CUDNN_W, GW_CUDNN_Y, GW_CUDNN_BIAS, GW_CUDNN_RESIDUAL };

/* What cuDNN is to compute: the layer, or what is left of it when we do the rest. */
typedef struct gw_cudnn_shape {
    gw_conv_desc d; /* act: none when it is not fused */
    uint32_t batch, columns;
    size_t x_step, residual_step, y_step;
    uint32_t x_align, y_align;
    bool half, bias, residual;
    gw_cudnn_precision precision;
} gw_cudnn_shape;

typedef struct gw_cudnn_plan {
    cudnnBackendDescriptor_t plan;
    int64_t engine, workspace_bytes;
    bool compiled;
} gw_cudnn_plan;

/* At most `most` plans, cuDNN's favourites first. Returns how many, or an error; none is no error.
 * left_out grows by those that cuDNN has but this machine cannot make. */
int gw_cudnn_plans(const gw_cudnn_target *t, const gw_cudnn_shape *s, gw_cudnn_plan *plan, int most,
                   int *left_out);
/* A plan as text and back: text is zero-terminated, the caller frees it. */
int gw_cudnn_plan_text(const gw_cudnn_target *t, const gw_cudnn_plan *p, char **text);
int gw_cudnn_plan_from(const gw_cudnn_target *t, const char *text, gw_cudnn_plan *p);
void gw_cudnn_plan_free(const gw_cudnn_target *t, gw_cudnn_plan *p);
/* data[i] is the array of id[i]. */
int gw_cudnn_plan_run(const gw_cudnn_target *t, const gw_cudnn_plan *p, int n, const int64_t *id,
                      void *const *data, void *workspace);

/* ---- cudnn_weights.c ---- */

/* On the GPU, [out][kernel][in]; in: of a group. */
typedef struct gw_cudnn_weights {
    struct gw_cudnn_weights *next;
    int users;
    bool half;
    uint32_t in, out, kernel;
    float *host;         /* [out * in * kernel] as given, then the bias */
    void *weight, *bias; /* floats, or __half with `half` */
    void *bias32;        /* floats; NULL: no bias */
} gw_cudnn_weights;

/* Those of the list, or new ones; `stream` is for turning them into halves. */
int gw_cudnn_weights_get(gw_cudnn_weights **list, void *stream, const gw_conv_desc *d, bool half,
                         const float *weight, const float *bias, gw_cudnn_weights **out);
void gw_cudnn_weights_drop(gw_cudnn_weights **list, gw_cudnn_weights *w); /* w may be NULL */

/* ---- cudnn_cache.c ---- */

/* Text kept under a key (one line), as a file of its own. GW_EMISSING: none. Whatever else is wrong with the
 * file is a remark, and GW_EMISSING too. */
int gw_cudnn_cache_load(const char *key, char **text);
/* Replaces it at once or not at all. Failures are the caller's to ignore. */
int gw_cudnn_cache_store(const char *key, const char *text);

#endif
