/* SPDX-License-Identifier: GPL-3.0-or-later
 * From an ONNX graph to a list of steps over buffers: shapes inferred, constants read, BatchNormalization
 * and constant factors folded into convolutions, residual sums and activations fused. Called by net.c;
 * does no arithmetic on data and needs no kernels.
 *
 * Operators: Conv (1-D: group, any pads, auto_pad, stride, dilation), Gemm, BatchNormalization, Relu,
 * Tanh, Sigmoid, Add, Mul (with an activation, or a constant per channel), Slice (of time, step 1),
 * GlobalAveragePool and ReduceMean (over time), Flatten, Reshape, Squeeze, Unsqueeze (where nothing moves
 * in memory), Identity, Dropout, Constant. Batch 1. Float32 or float64 weights, used as float32.
 *
 * A buffer is channels-last with room for what its readers need around its new columns:
 *   [before + columns + after][channels]
 * In a window `before` and `after` are zeros, the padding; in a stream `before` is the past. After the
 * pooling over time a column belongs to a window (stream: to each frame's). */
#ifndef GW_PLAN_H
#define GW_PLAN_H

#include "kernels/conv.h"
#include "kernels/nn/net.h"
#include "kernels/nn/onnx.h"

typedef struct gw_netbuffer {
    uint32_t channels;
    uint32_t columns; /* new ones in a run: of the window, or of a hop; 0 = not used after all */
    uint32_t before, after;
    uint32_t samples; /* input samples a column; pooled: 0 */
    uint32_t stale;   /* columns at the start of a window that depend on left padding */
    bool pooled;
} gw_netbuffer;

typedef enum gw_netstep_kind {
    GW_STEP_CONV,
    GW_STEP_ADD,
    GW_STEP_MUL,
    GW_STEP_ACT,
    GW_STEP_MEAN
} gw_netstep_kind;

typedef struct gw_netstep {
    gw_netstep_kind kind;
    const char *node;       /* for messages */
    int in, in2, out;       /* buffers; in2: the other operand or a convolution's residual, or -1 */
    uint32_t first, first2; /* columns skipped at the start of in and in2 (Slice); 0 in a stream */
    uint32_t columns;       /* written */
    gw_act act;
    uint32_t groups, kernel, stride, dilation, pad_left, pad_right; /* conv; pad_right: read beyond the end */
    float *weight, *bias; /* conv: [out][in / groups][kernel], [out] */
    uint32_t span;        /* mean: columns */
} gw_netstep;

typedef struct gw_netoutput {
    const char *name;
    int buffer;
    uint32_t first, columns;
    int rank;
    int64_t dim[GW_ONNX_MAX_RANK];
} gw_netoutput;

typedef struct gw_netplan {
    gw_netbuffer *buffer;
    gw_netstep *step;
    gw_netoutput *output;
    int n_buffers, n_steps, n_outputs;
    int input; /* a buffer */
    uint32_t window_samples;
    uint32_t frame_samples; /* stream */
    uint64_t parameters;
    double flop; /* of a window, or of a hop */
    void *owned;
} gw_netplan;

/* The plan of one window. GW_ENOTSUP names all that stands in the way. Keeps nothing of m. */
int gw_netplan_window(gw_netplan **p, const gw_onnx *m);
/* Turns it into the plan of a stream of hops, or GW_ENOTSUP / GW_ERANGE with the reason. 0 = one frame. */
int gw_netplan_stream(gw_netplan *p, const char *path, uint32_t hop_samples);
void gw_netplan_free(gw_netplan **p);

/* For tests: any graph of these operators, whatever its outputs are called (window mode), and the
 * i-th output in ONNX's own order, [channel][column]. */
int gw_net_open_any(gw_net **n, const gw_onnx *m, const gw_kernels *k);
int gw_net_run_any(gw_net *n, const float *x, size_t stride);
const gw_netplan *gw_net_plan(const gw_net *n);
int gw_net_output(const gw_net *n, int i, float *y);

#endif
