/* SPDX-License-Identifier: GPL-3.0-or-later
 * What the files of reference operators share: tensor.c (checks, attributes, the table of all) and
 * tensor_*.c (the operators by idea, each with its own table). kernels/cpu/tensor.c looks in for the geometry
 * of windows. Nobody else includes this. */
#ifndef GW_REF_TENSOR_H
#define GW_REF_TENSOR_H

#include "kernels/tensor.h"

#include <limits.h>

#define GW_T(x) (1u << GW_ONNX_##x)
enum {
    GW_T_FLOATS = GW_T(FLOAT) | GW_T(DOUBLE),
    GW_T_INTS = GW_T(INT32) | GW_T(INT64) | GW_T(UINT8) | GW_T(INT8),
    GW_T_NUMBERS = GW_T_FLOATS | GW_T_INTS,
    GW_T_ALL = GW_T_NUMBERS | GW_T(BOOL),
    GW_T_MANY = INT_MAX /* inputs or outputs */
};

/* "node 'n' (Op): ..." */
int gw_op_fail(const gw_tensor_call *c, int err, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

static inline const gw_tensor *gw_op_in(const gw_tensor_call *c, int i) /* NULL: left out */
{
    return i < c->n_in ? c->in[i] : NULL;
}
static inline gw_tensor *gw_op_out(const gw_tensor_call *c, int i) /* NULL: nobody wants it */
{
    return i < c->n_out ? c->out[i] : NULL;
}

/* Attributes; gw_tensor_shape has seen to their types. */
int64_t gw_op_int(const gw_tensor_call *c, const char *name, int64_t absent);
double gw_op_float(const gw_tensor_call *c, const char *name, double absent);
const char *gw_op_text(const gw_tensor_call *c, const char *name, const char *absent);
const int64_t *gw_op_ints(const gw_tensor_call *c, const char *name, int *n); /* NULL: left out */
/* Integers that are an attribute in old opsets and a constant input (number i, or -1) in new ones; *n = -1:
 * left out. */
int gw_op_list(const gw_tensor_call *c, const char *name, int i, int64_t *list, int max, int *n);
/* An axis as ONNX counts it, negative from the end, to 0 .. rank - 1. */
int gw_op_axis(const gw_tensor_call *c, int64_t axis, int rank, int *out);
/* A list of axes to flags; left out: none set. */
int gw_op_axes(const gw_tensor_call *c, const int64_t *axis, int n, int rank, bool *set);

/* Sets output i, if anybody wants it. */
int gw_op_set(const gw_tensor_call *c, int i, gw_onnx_type type, int rank, const int64_t *dim);
int gw_op_same(gw_tensor_call *c); /* shape: output 0 is as input 0 */

/* The shape to which both broadcast, numpy's rule; false: they do not. */
bool gw_op_broadcast(const gw_tensor *a, const gw_tensor *b, int *rank, int64_t *dim);
/* Element strides of t under that shape: 0 where it is repeated. */
void gw_op_strides(const gw_tensor *t, int rank, const int64_t *dim, int64_t *stride);
/* The next place of an odometer over dim[0 .. rank - 1]; false: it was the last. */
bool gw_op_next(int rank, const int64_t *dim, int64_t *at);
/* out[i0][i1].. = in[base + i0 * stride0 + i1 * stride1 ..], any element size. */
void gw_op_gather(const void *in, void *out, size_t bytes, int rank, const int64_t *dim,
                  const int64_t *stride, int64_t base);
static inline size_t gw_op_product(const int64_t *dim, int from, int to)
{
    size_t n = 1;
    for (int i = from; i < to; i++)
        n *= (size_t)dim[i];
    return n;
}

/* One element as a double or an integer, whatever its type. */
double gw_op_get_any(const gw_tensor *t, size_t i);
void gw_op_put_any(gw_tensor *t, size_t i, double value);
static inline double gw_op_get(const gw_tensor *t, size_t i)
{
    return t->type == GW_ONNX_FLOAT ? (double)((const float *)t->data)[i] : gw_op_get_any(t, i);
}
static inline void gw_op_put(gw_tensor *t, size_t i, double value) /* integers: saturates, NaN is 0 */
{
    if (t->type == GW_ONNX_FLOAT)
        ((float *)t->data)[i] = (float)value;
    else
        gw_op_put_any(t, i, value);
}
int64_t gw_op_get_int(const gw_tensor *t, size_t i);
void gw_op_put_int(gw_tensor *t, size_t i, int64_t value);
static inline bool gw_op_is_float(gw_onnx_type t)
{
    return t == GW_ONNX_FLOAT || t == GW_ONNX_DOUBLE;
}

/* A sliding window over up to three spatial dimensions; those that are not there have size 1 and stand
 * first. Convolutions and pools, also in kernels/cpu. */
typedef struct gw_op_window {
    int spatial; /* 1, 2 or 3 */
    int64_t in[3], out[3], kernel[3], stride[3], dilation[3], before[3], after[3];
} gw_op_window;
/* From the attributes kernel_shape (or kernel, may be NULL), strides, dilations, pads, auto_pad, ceil_mode.
 */
int gw_op_window_of(const gw_tensor_call *c, const gw_tensor *x, const int64_t *kernel, gw_op_window *w);
/* The same of a ConvTranspose, where in is smaller: output_padding and output_shape. */
int gw_op_window_transposed(const gw_tensor_call *c, const gw_tensor *x, const int64_t *kernel,
                            gw_op_window *w);

/* The tables; each ends with a nameless entry. */
extern const gw_tensor_op gw_ops_pointwise[], gw_ops_select[], gw_ops_reduce[], gw_ops_shape[],
    gw_ops_index[], gw_ops_conv[], gw_ops_pool[], gw_ops_norm[], gw_ops_matmul[], gw_ops_resize[],
    gw_ops_lstm[];

#endif
