/* SPDX-License-Identifier: GPL-3.0-or-later
 * Network layers in one dimension. Called by kernels/nn only. Activations are channels-last,
 * [window][column][channel], float32; a window's columns and channels are dense, `step` floats lie between
 * the starts of two windows. A convolution knows no padding: whoever wants zeros (or the columns of the
 * last hop) before a layer's input has them in memory before it, so a window and a stream are the same call.
 *
 *   conv  dst[n][o] = act(bias[o] + residual[n][o]
 *             + sum over k, c of weight[o][c][k] * src[n * stride + k * dilation][g * in / groups + c])
 *         with g = o / (out / groups): ONNX Conv. Error bound: |dst - exact| <= 6e-8 * (8 + sqrt(K)) *
 *         (sum of the absolute values of all K + 2 terms) before act. `ref` sums in order of k, then c, in
 *         double: leading and trailing zero taps change nothing. `cpu` makes up to 8 neighbouring outputs of
 *         a convolution without groups or dilation together: there the bound takes the largest such sum
 *         within 7 columns, an input counted with the largest weight of its taps, a not-a-number reaches
 *         7 columns further, and other columns before or behind may change the last bits.
 *   act   none and relu and leaky_relu and clip add no error; tanh, sigmoid, elu, silu, gelu, softplus add
 *         2e-7 * (1 + |result|).
 *   join  dst = act(a + b), act(a - b) or act(a * b);  mean: of `span` columns, for each of `n` ends.
 *   pool  the largest or the mean of `kernel` columns; padding columns are left out of either (but count
 *         as zeros in a mean with count_padding).
 *   norm  over groups of channels and all columns of one window: dst = act(scale[c] * (x - mean) /
 *         sqrt(variance + epsilon) + bias[c] + residual). |error| <= 2e-6 * (|scale| * (|x - mean| / sd + 1)
 *         + |bias| + |residual|) before act.
 *
 * Not-a-number and infinite inputs may make anything of the outputs that depend on them, and leave all
 * others as they are. A result may depend on the implementation, never on the run, on the size of a batch or
 * on the place in it. Kernels make no threads, allocate nothing once open, and a gw_conv once open is only
 * read: any number of threads may run it at once. */
#ifndef GW_CONV_H
#define GW_CONV_H

#include "pipeline/error.h"

#include <stddef.h>
#include <stdint.h>

typedef enum gw_act_kind {
    GW_ACT_NONE,
    GW_ACT_RELU,
    GW_ACT_TANH,
    GW_ACT_SIGMOID,
    GW_ACT_LEAKY_RELU, /* x < 0: a * x */
    GW_ACT_ELU,        /* x < 0: a * (exp(x) - 1) */
    GW_ACT_SILU,       /* x * sigmoid(x) */
    GW_ACT_GELU,       /* x * (1 + erf(x / sqrt(2))) / 2 */
    GW_ACT_SOFTPLUS,   /* log(1 + exp(x)) */
    GW_ACT_CLIP,       /* a <= x <= b */
    GW_ACT_COUNT
} gw_act_kind;

typedef struct gw_act {
    gw_act_kind kind;
    float a, b;
} gw_act;

typedef struct gw_conv_desc {
    uint32_t in_channels, out_channels, groups; /* both multiples of groups */
    uint32_t kernel, stride, dilation;
    gw_act act;
} gw_conv_desc;

/* Input columns that `columns` outputs read: (columns - 1) * stride + (kernel - 1) * dilation + 1. */
static inline uint64_t gw_conv_in_columns(const gw_conv_desc *d, uint32_t columns)
{
    return (uint64_t)(columns - 1) * d->stride + (uint64_t)(d->kernel - 1) * d->dilation + 1;
}

/* GW_ERANGE unless all sizes are positive, divisible as above, and below 2^31 as their products are. */
int gw_conv_desc_check(const gw_conv_desc *d);

/* One call: `batch` windows of `columns` outputs each. */
typedef struct gw_conv_io {
    uint32_t batch, columns;
    const float *src; /* [batch] windows of [gw_conv_in_columns][in] */
    const float
        *residual; /* [batch] windows of [columns][out], or NULL; may be dst itself, else no overlap */
    float *dst;    /* [batch] windows of [columns][out] */
    size_t src_step, residual_step, dst_step; /* floats; a src_step may make windows overlap */
} gw_conv_io;

typedef struct gw_conv gw_conv; /* a layer made ready; each implementation has its own */

typedef enum gw_join { GW_JOIN_ADD, GW_JOIN_SUB, GW_JOIN_MUL } gw_join;

typedef struct gw_pool {
    bool mean, count_padding;
    uint32_t channels, kernel, stride, dilation;
    uint32_t pad_left;   /* columns that are not there before src ... */
    uint32_t in_columns; /* ... and how many are: beyond them nothing is there either */
    uint32_t columns;    /* of dst. Each sees at least one column that is there. */
} gw_pool;

typedef struct gw_norm {
    uint32_t channels, groups, columns; /* channels: a multiple of groups */
    float epsilon;
    gw_act act;
    const float *scale, *bias; /* [channels] */
    double *scratch;           /* [2 * channels], the caller's */
} gw_norm;

typedef struct gw_conv_ops {
    /* weight: [out][in / groups][kernel]; bias: [out] or NULL. Both are copied. */
    int (*open)(gw_conv **c, const gw_conv_desc *d, const float *weight, const float *bias);
    int (*run)(const gw_conv *c, const gw_conv_io *io);
    void (*close)(gw_conv **c);

    /* a, dst: [columns][channels]; b: the same, or [channels] for all columns (b_step 0, else channels).
     * dst may be a, or b where b_step is not 0. */
    void (*join)(gw_join kind, gw_act act, uint32_t columns, uint32_t channels, const float *a,
                 const float *b, size_t b_step, float *dst);
    /* n values; dst may be x. */
    void (*act)(gw_act act, size_t n, const float *x, float *dst);
    /* dst[i][c] = mean of x[i .. i + span - 1][c]. x: [n + span - 1][channels]; dst: [n][channels].
     * |dst - exact| <= 6e-8 * (span + 1) * mean |x|. */
    void (*mean)(uint32_t n, uint32_t span, uint32_t channels, const float *x, float *dst);
    /* src: [in_columns][channels]; dst: [columns][channels]. */
    void (*pool)(const gw_pool *p, const float *src, float *dst);
    /* x, dst, residual (or NULL): [columns][channels]; dst may be x or residual. */
    void (*norm)(const gw_norm *n, const float *x, const float *residual, float *dst);
} gw_conv_ops;

void gw_conv_ref(gw_conv_ops *ops); /* fills all: plain C, double inside */
void gw_conv_cpu(gw_conv_ops *ops); /* overwrites all with what the widest vectors of this machine do */

#endif
