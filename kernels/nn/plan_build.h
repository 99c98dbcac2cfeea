/* SPDX-License-Identifier: GPL-3.0-or-later
 * The plan under construction: shared by plan.c (names, order, stream) and plan_ops.c (one function an
 * operator). Nobody else includes this. */
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
    int maker;   /* the step that wrote it last, or -1: the input */
    int uses;    /* by live nodes and as output */
    bool shared; /* something else reads the same buffer under another name */
    bool needed;
} gw_value;

enum { GW_PROBLEM_BYTES = 700 };

typedef struct gw_build {
    const gw_onnx *m;
    gw_netplan *p;
    gw_value *value; /* sorted by name */
    size_t n_values;
    int problems;
    char text[GW_PROBLEM_BYTES]; /* the problems */
} gw_build;

/* Zeroed memory that lives as long as the plan; NULL with the detail set. */
void *gw_plan_take(gw_netplan *p, size_t count, size_t bytes);

/* Notes what stands in the way; the node makes nothing. Returns GW_OK: the search for more goes on. */
int gw_plan_problem(gw_build *b, const gw_onnx_node *n, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

gw_value *gw_plan_value(gw_build *b, const char *name); /* NULL for "" */

/* Pieces of which the operators are made (plan_ops.c). */
int64_t gw_plan_attr_int(const gw_onnx_node *n, const char *name, int64_t absent);
const gw_value *gw_plan_input(gw_build *b, const gw_onnx_node *n, int i); /* NULL: left out */
size_t gw_plan_elements(const gw_onnx_tensor *t);
/* Up to GW_ONNX_MAX_RANK integers that an operator takes as an attribute in old files and as a constant
 * input (number `in`, or -1) in new ones. Returns how many, 0 when left out, -1 when neither. */
int gw_plan_ints(gw_build *b, const gw_onnx_node *n, const char *attr, int in, int64_t *out);
gw_netbuffer *gw_plan_at(gw_build *b, const gw_value *v);
/* NULL: no memory. */
gw_netstep *gw_plan_add_step(gw_build *b, const gw_onnx_node *n, gw_netstep_kind kind, const gw_value *in);
/* A new buffer for the step's output, and the node's first value lies there: [1, channels, columns]. */
int gw_plan_make_output(gw_build *b, const gw_onnx_node *n, gw_netstep *s, int64_t channels, int64_t columns);
/* The node's output is its input under another name. */
gw_value *gw_plan_alias(gw_build *b, const gw_onnx_node *n, const gw_value *x);

/* plan_shape.c */
int gw_plan_op_slice(gw_build *b, const gw_onnx_node *n);
int gw_plan_op_pool(gw_build *b, const gw_onnx_node *n);
int gw_plan_op_mean(gw_build *b, const gw_onnx_node *n);
int gw_plan_op_flatten(gw_build *b, const gw_onnx_node *n);
int gw_plan_op_reshape(gw_build *b, const gw_onnx_node *n);
int gw_plan_op_squeeze(gw_build *b, const gw_onnx_node *n);
int gw_plan_op_unsqueeze(gw_build *b, const gw_onnx_node *n);
int gw_plan_op_identity(gw_build *b, const gw_onnx_node *n);
int gw_plan_op_constant(gw_build *b, const gw_onnx_node *n);

/* Adds the steps of one node. GW_OK also when it has noted a problem. */
int gw_plan_node(gw_build *b, const gw_onnx_node *n);
bool gw_plan_knows(const char *op);

#endif
