/* SPDX-License-Identifier: GPL-3.0-or-later
 * Conv and ConvTranspose in one, two or three dimensions, as sums of shifted rows: a row of outputs is kept
 * in double (the scratch), and every weight adds its multiple of a row of inputs. */
#include "kernels/ref/tensor.h"

#include <string.h>

typedef struct conv {
    gw_op_window w;
    int64_t batch, in_channels, out_channels, groups;
    size_t in_size, out_size, kernel_size; /* of one channel */
} conv;

static int conv_of(const gw_tensor_call *c, bool transposed, conv *v)
{
    const gw_tensor *x = c->in[0], *weight = c->in[1], *bias = gw_op_in(c, 2);
    v->groups = gw_op_int(c, "group", 1);
    if (x->rank < 3 || weight->rank != x->rank)
        return gw_op_fail(c, GW_EMISMATCH, "an input of %d dimensions and weights of %d", x->rank,
                          weight->rank);
    v->batch = x->dim[0];
    v->in_channels = x->dim[1];
    if (v->groups < 1 || v->groups > INT32_MAX || v->in_channels < 1 || v->in_channels % v->groups ||
        weight->dim[0] % v->groups || weight->dim[0] < 1 || weight->dim[1] < 1)
        return gw_op_fail(c, GW_EMISMATCH, "%lld groups of %lld channels with weights for %lld",
                          (long long)v->groups, (long long)v->in_channels, (long long)weight->dim[0]);
    v->out_channels = transposed ? weight->dim[1] * v->groups : weight->dim[0];
    const int64_t takes = transposed ? weight->dim[0] : weight->dim[1] * v->groups;
    if (takes != v->in_channels)
        return gw_op_fail(c, GW_EMISMATCH, "'%s' has %lld channels, the weights are for %lld", c->node->in[0],
                          (long long)v->in_channels, (long long)takes);
    if (bias && (bias->rank != 1 || bias->dim[0] != v->out_channels))
        return gw_op_fail(c, GW_EMISMATCH, "the bias is not one number for each of %lld channels",
                          (long long)v->out_channels);
    GW_TRY(transposed ? gw_op_window_transposed(c, x, weight->dim + 2, &v->w)
                      : gw_op_window_of(c, x, weight->dim + 2, &v->w));
    v->in_size = gw_op_product(v->w.in, 0, 3);
    v->out_size = gw_op_product(v->w.out, 0, 3);
    v->kernel_size = gw_op_product(v->w.kernel, 0, 3);
    return GW_OK;
}

static int shape_of(gw_tensor_call *c, bool transposed)
{
    conv v;
    int64_t dim[GW_ONNX_MAX_RANK];
    GW_TRY(conv_of(c, transposed, &v));
    dim[0] = v.batch;
    dim[1] = v.out_channels;
    memcpy(dim + 2, v.w.out + 3 - v.w.spatial, (size_t)v.w.spatial * sizeof *dim);
    GW_TRY(gw_op_set(c, 0, c->in[0]->type, c->in[0]->rank, dim));
    c->work = (double)v.batch * (double)v.out_channels * (double)(transposed ? v.in_size : v.out_size) *
              (double)v.kernel_size * (double)v.in_channels / (double)v.groups;
    c->scratch_bytes = (size_t)v.w.out[2] * sizeof(double);
    return GW_OK;
}

static int conv_shape(gw_tensor_call *c)
{
    return shape_of(c, false);
}

static int transposed_shape(gw_tensor_call *c)
{
    return shape_of(c, true);
}

/* The outputs i of 0 .. out - 1 whose input i * stride + shift lies in 0 .. in - 1: [first, last). */
static void reach(int64_t in, int64_t out, int64_t stride, int64_t shift, int64_t *first, int64_t *last)
{
    *first = shift < 0 ? (-shift + stride - 1) / stride : 0;
    *last = shift >= in ? 0 : (in - 1 - shift) / stride + 1;
    if (*last > out)
        *last = out;
}

static double at(const gw_tensor *t, size_t i)
{
    return t->type == GW_ONNX_FLOAT ? (double)((const float *)t->data)[i] : ((const double *)t->data)[i];
}

/* sum[first .. last) += weight * x[from + i * stride] */
static void add_row(double *sum, int64_t first, int64_t last, double weight, const gw_tensor *x, int64_t from,
                    int64_t stride)
{
    if (x->type == GW_ONNX_FLOAT) {
        const float *row = (const float *)x->data;
        for (int64_t i = first; i < last; i++)
            sum[i] += weight * (double)row[from + i * stride];
    } else {
        const double *row = x->data;
        for (int64_t i = first; i < last; i++)
            sum[i] += weight * row[from + i * stride];
    }
}

/* sum[from + i * stride] += weight * x[i] */
static void spread_row(double *sum, int64_t from, int64_t stride, double weight, const gw_tensor *x,
                       int64_t row, int64_t first, int64_t last)
{
    for (int64_t i = first; i < last; i++)
        sum[from + i * stride] += weight * at(x, (size_t)(row + i));
}

/* One row of outputs: channel o of image n at (d, h). */
static void conv_row(const conv *v, const gw_tensor *x, const gw_tensor *weight, int64_t n, int64_t o,
                     int64_t d, int64_t h, double *sum)
{
    const gw_op_window *w = &v->w;
    const int64_t per_group = v->in_channels / v->groups, group = o / (v->out_channels / v->groups);
    for (int64_t i = 0; i < per_group; i++) {
        const size_t channel = (size_t)(n * v->in_channels + group * per_group + i) * v->in_size;
        const size_t kernel = (size_t)(o * per_group + i) * v->kernel_size;
        for (int64_t kd = 0; kd < w->kernel[0]; kd++) {
            const int64_t id = d * w->stride[0] + kd * w->dilation[0] - w->before[0];
            for (int64_t kh = 0; id >= 0 && id < w->in[0] && kh < w->kernel[1]; kh++) {
                const int64_t ih = h * w->stride[1] + kh * w->dilation[1] - w->before[1];
                for (int64_t kw = 0; ih >= 0 && ih < w->in[1] && kw < w->kernel[2]; kw++) {
                    const int64_t shift = kw * w->dilation[2] - w->before[2];
                    int64_t first, last;
                    reach(w->in[2], w->out[2], w->stride[2], shift, &first, &last);
                    const size_t k = kernel + (size_t)((kd * w->kernel[1] + kh) * w->kernel[2] + kw);
                    add_row(sum, first, last, at(weight, k), x,
                            (int64_t)channel + (id * w->in[1] + ih) * w->in[2] + shift, w->stride[2]);
                }
            }
        }
    }
}

/* The input row that reaches output row `out` through this element of the kernel, or -1. */
static int64_t source(const gw_op_window *w, int dim, int64_t out, int64_t k)
{
    const int64_t t = out + w->before[dim] - k * w->dilation[dim];
    return t < 0 || t % w->stride[dim] || t / w->stride[dim] >= w->in[dim] ? -1 : t / w->stride[dim];
}

static void transposed_row(const conv *v, const gw_tensor *x, const gw_tensor *weight, int64_t n, int64_t o,
                           int64_t d, int64_t h, double *sum)
{
    const gw_op_window *w = &v->w;
    const int64_t in_group = v->in_channels / v->groups, out_group = v->out_channels / v->groups;
    const int64_t group = o / out_group;
    for (int64_t i = group * in_group; i < (group + 1) * in_group; i++) {
        const size_t channel = (size_t)(n * v->in_channels + i) * v->in_size;
        const size_t kernel = (size_t)(i * out_group + o % out_group) * v->kernel_size;
        for (int64_t kd = 0; kd < w->kernel[0]; kd++) {
            const int64_t id = source(w, 0, d, kd);
            for (int64_t kh = 0; id >= 0 && kh < w->kernel[1]; kh++) {
                const int64_t ih = source(w, 1, h, kh);
                for (int64_t kw = 0; ih >= 0 && kw < w->kernel[2]; kw++) {
                    const int64_t shift = kw * w->dilation[2] - w->before[2];
                    int64_t first, last; /* inputs whose output lies inside */
                    reach(w->out[2], w->in[2], w->stride[2], shift, &first, &last);
                    const size_t k = kernel + (size_t)((kd * w->kernel[1] + kh) * w->kernel[2] + kw);
                    spread_row(sum, shift, w->stride[2], at(weight, k), x,
                               (int64_t)channel + (id * w->in[1] + ih) * w->in[2], first, last);
                }
            }
        }
    }
}

static int run_of(gw_tensor_call *c, bool transposed)
{
    const gw_tensor *bias = gw_op_in(c, 2);
    conv v = {0};
    GW_TRY(conv_of(c, transposed, &v));
    double *sum = c->scratch;
    size_t out = 0;
    for (int64_t n = 0; n < v.batch; n++) {
        for (int64_t o = 0; o < v.out_channels; o++) {
            for (int64_t d = 0; d < v.w.out[0]; d++) {
                for (int64_t h = 0; h < v.w.out[1]; h++) {
                    const double start = bias ? at(bias, (size_t)o) : 0;
                    for (int64_t i = 0; i < v.w.out[2]; i++)
                        sum[i] = start;
                    (transposed ? transposed_row : conv_row)(&v, c->in[0], c->in[1], n, o, d, h, sum);
                    for (int64_t i = 0; i < v.w.out[2]; i++)
                        gw_op_put(c->out[0], out++, sum[i]);
                }
            }
        }
    }
    return GW_OK;
}

static int conv_run(gw_tensor_call *c)
{
    return run_of(c, false);
}

static int transposed_run(gw_tensor_call *c)
{
    return run_of(c, true);
}

#define WINDOW "auto_pad:s dilations:I group:i kernel_shape:I pads:I strides:I"
const gw_tensor_op gw_ops_conv[] = {
    {"Conv", WINDOW, 2, 3, 3, GW_T_FLOATS, 1, conv_shape, conv_run, NULL},
    {"ConvTranspose", WINDOW " output_padding:I output_shape:I", 2, 3, 3, GW_T_FLOATS, 1, transposed_shape,
     transposed_run, NULL},
    {0},
};
