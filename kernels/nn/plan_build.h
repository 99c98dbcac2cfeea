/* SPDX-License-Identifier: GPL-3.0-or-later
 * The plan under construction: shared by plan.c (names, order) and the files with one function an operator
 * (plan_conv.c, plan_ops.c, plan_local.c, plan_shape.c). Nobody else includes this. */
#ifndef GW_PLAN_BUILD_H
#define GW_PLAN_BUILD_H

#include "kernels/nn/plan.h"

typedef enum gw_value_kind {
    GW_VALUE_NOTHING, /* not made yet, or its node has a problem already told */
    GW_VALUE_CONSTANT,
    GW_VALUE_ACTIVATION
} gw_value_kind;

typedef struct gw_value {
    const char *name;
    gw_value_kind kind;
    const gw_onnx_tensor *t; /* constant */
    int rank;                /* activation: its ONNX shape ... */
    int64_t dim[GW_ONNX_MAX_RANK];
    int buffer; /* ... and where it lies: columns [first, first + columns) of a buffer */
    uint32_t first, columns;
    uint32_t zeros_left, zeros_right; /* padding that the one convolution which reads it adds */
    bool flat;   /* [1, channels * columns], channel by channel, but lying as the series it was */
    int maker;   /* the step that wrote it last, or -1: the input */
    int uses;    /* by live nodes and as output */
    bool shared; /* something else reads the same buffer under another name */
    bool needed;
} gw_value;

enum { GW_PROBLEM_BYTES = 700, GW_PLAN_MAX_SIZE = 1 << 20, GW_PLAN_MAX_ELEMENTS = 1 << 28 };

typedef struct gw_build {
    const gw_onnx *m;
    gw_netplan *p;
    gw_value *value; /* sorted by name */
    size_t n_values;
    int problems;
    char text[GW_PROBLEM_BYTES]; /* the problems */
} gw_build;

/* Notes what stands in the way; the node makes nothing. Returns GW_OK: the search for more goes on. */
int gw_plan_problem(gw_build *b, const gw_onnx_node *n, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

gw_value *gw_plan_value(gw_build *b, const char *name); /* NULL for "" */

/* Pieces of which the operators are made (plan_ops.c). */
int64_t gw_plan_attr_int(const gw_onnx_node *n, const char *name, int64_t absent);
double gw_plan_attr_float(const gw_onnx_node *n, const char *name, float absent);
const gw_value *gw_plan_input(gw_build *b, const gw_onnx_node *n, int i); /* NULL: left out */
size_t gw_plan_elements(const gw_onnx_tensor *t);
const gw_onnx_tensor *gw_plan_reals(const gw_value *v); /* NULL unless a float constant */
double gw_plan_real(const gw_onnx_tensor *t, size_t i);
/* Up to GW_ONNX_MAX_RANK integers that an operator takes as an attribute in old files and as a constant
 * input (number `in`, or -1) in new ones. Returns how many, 0 when left out, -1 when neither. */
int gw_plan_ints(gw_build *b, const gw_onnx_node *n, const char *attr, int in, int64_t *out);
gw_netbuffer *gw_plan_at(gw_build *b, const gw_value *v);
bool gw_plan_is_whole(gw_build *b, const gw_value *v);
bool gw_plan_sole(const gw_value *v); /* its buffer has one reader, the one that asks */
/* NULL: no memory. */
gw_netstep *gw_plan_add_step(gw_build *b, const gw_onnx_node *n, gw_netstep_kind kind, const gw_value *in);
/* A new buffer for the step's output, and the node's first value lies there: [1, channels, columns]. */
int gw_plan_make_output(gw_build *b, const gw_onnx_node *n, gw_netstep *s, int64_t channels, int64_t columns);
/* The output has the shape of x, whose columns it keeps. */
void gw_plan_same_shape(gw_build *b, const gw_onnx_node *n, const gw_value *x);
/* Room around the columns of s->in for what the step reads outside them. */
void gw_plan_need_around(gw_build *b, const gw_netstep *s);
/* The node's output is its input under another name. */
gw_value *gw_plan_alias(gw_build *b, const gw_onnx_node *n, const gw_value *x);
/* The same value with nothing but zeros around it: x itself, or a copy. */
int gw_plan_alone(gw_build *b, const gw_onnx_node *n, const gw_value *x, gw_value *copy,
                  const gw_value **out);
/* y = scale[c] * x + shift[c] (plan_conv.c). */
int gw_plan_affine(gw_build *b, const gw_onnx_node *n, const gw_value *x, const double *scale,
                   const double *shift);
/* kernel, strides, dilations, pads of the one dimension; false: they make no sense. */
typedef struct gw_window {
    int64_t kernel, stride, dilation, left, right;
} gw_window;
bool gw_plan_window(gw_build *b, const gw_onnx_node *n, int64_t kernel, gw_window *w);
/* auto_pad: sets left and right; false: an unknown one. */
bool gw_plan_auto_pad(const gw_onnx_node *n, int64_t columns, gw_window *w);

typedef int gw_plan_op(gw_build *b, const gw_onnx_node *n);
gw_plan_op gw_plan_op_conv, gw_plan_op_transposed, gw_plan_op_gemm, gw_plan_op_matmul, gw_plan_op_batchnorm;
gw_plan_op gw_plan_op_maxpool, gw_plan_op_averagepool, gw_plan_op_instancenorm, gw_plan_op_groupnorm,
    gw_plan_op_layernorm, gw_plan_op_concat, gw_plan_op_pad;
gw_plan_op gw_plan_op_slice, gw_plan_op_pool, gw_plan_op_mean, gw_plan_op_flatten, gw_plan_op_reshape,
    gw_plan_op_squeeze, gw_plan_op_unsqueeze, gw_plan_op_identity, gw_plan_op_constant;

/* Adds the steps of one node. GW_OK also when it has noted a problem. */
int gw_plan_node(gw_build *b, const gw_onnx_node *n);
bool gw_plan_knows(const gw_onnx_node *n);

#endif
