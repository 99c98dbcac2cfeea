/* SPDX-License-Identifier: GPL-3.0-or-later
 * Network layers in one dimension. Called by kernels/nn only. Activations are channels-last,
 * [column][channel], float32. There is no padding here: whoever wants zeros (or the columns of the last
 * hop) before a layer's input has them in memory before it, so a window and a stream are the same call.
 *
 *   conv  dst[n][o] = act(bias[o] + residual[n][o]
 *             + sum over k, c of weight[o][c][k] * src[n * stride + k * dilation][g * in / groups + c])
 *         with g = o / (out / groups): ONNX Conv. Error bound: |dst - exact| <= 6e-8 * (8 + sqrt(K)) *
 *         (sum of the absolute values of all K + 2 terms) before act, no act amplifies it; tanh and
 *         sigmoid add 1e-6 of their own.
 *   join  dst = act(a + b) or act(a * b);  mean: of `span` columns, for each of `n` ends.
 *
 * Not-a-number and infinite inputs may make anything of the outputs that depend on them, and leave all
 * others as they are. A result may depend on the implementation, never on the run. Kernels make no
 * threads and, once open, allocate nothing of their own (oneDNN keeps a table of a call's five arguments).
 * One gw_conv is for one thread at a time. */
#ifndef GW_CONV_H
#define GW_CONV_H

#include "pipeline/error.h"

#include <stddef.h>
#include <stdint.h>

typedef enum gw_act { GW_ACT_NONE, GW_ACT_RELU, GW_ACT_TANH, GW_ACT_SIGMOID } gw_act;

typedef struct gw_conv_desc {
    uint32_t in_channels, out_channels, groups; /* both multiples of groups */
    uint32_t kernel, stride, dilation;
    uint32_t columns; /* of the output */
    gw_act act;
    bool residual; /* run() will be given one */
} gw_conv_desc;

/* Input columns that `columns` outputs read: (columns - 1) * stride + (kernel - 1) * dilation + 1. */
static inline uint64_t gw_conv_in_columns(const gw_conv_desc *d)
{
    return (uint64_t)(d->columns - 1) * d->stride + (uint64_t)(d->kernel - 1) * d->dilation + 1;
}

/* GW_ERANGE unless all sizes are positive, divisible as above, and every array below 2^31 elements. */
int gw_conv_desc_check(const gw_conv_desc *d);

typedef struct gw_conv gw_conv; /* a layer made ready; each implementation has its own */

typedef struct gw_conv_ops {
    /* weight: [out][in / groups][kernel]; bias: [out] or NULL. Both are copied. */
    int (*open)(gw_conv **c, const gw_conv_desc *d, const float *weight, const float *bias);
    /* src: [gw_conv_in_columns][in]; residual: [columns][out], NULL without one, may be dst itself, else
     * no overlap; dst: [columns][out]. */
    int (*run)(gw_conv *c, const float *src, const float *residual, float *dst);
    void (*close)(gw_conv **c);

    /* n values; dst may be a or b. */
    void (*add)(size_t n, gw_act act, const float *a, const float *b, float *dst);
    void (*mul)(size_t n, gw_act act, const float *a, const float *b, float *dst);
    /* n values; dst may be x. */
    void (*act)(size_t n, gw_act act, const float *x, float *dst);
    /* dst[i][c] = mean of x[i .. i + span - 1][c]. x: [n + span - 1][channels]; dst: [n][channels].
     * |dst - exact| <= 6e-8 * (span + 1) * mean |x|. */
    void (*mean)(uint32_t n, uint32_t span, uint32_t channels, const float *x, float *dst);
} gw_conv_ops;

void gw_conv_ref(gw_conv_ops *ops); /* fills all: plain C, double inside */
void gw_conv_cpu(gw_conv_ops *ops); /* overwrites what oneDNN does better */

#endif
