/* SPDX-License-Identifier: GPL-3.0-or-later
 * Tensors, and the ONNX operators as functions over them. Called by kernels/nn (exec.c runs whole models,
 * simplify.c computes constants). Row-major and dense, any rank up to 8, exactly as ONNX describes each
 * operator; plain C with sums in double in kernels/ref, the heavy ones again through oneDNN in kernels/cpu.
 * Knows no graph, no file and no names beyond those it puts into messages.
 *
 * FLOAT, DOUBLE, INT32, INT64, BOOL, UINT8, INT8. Half types do not occur: they are widened at load, and a
 * Cast to one of them makes FLOAT. An operator is read as its opset has it (axes as attribute or as input).
 * Error bound of FLOAT results: 1e-6 of the sum of the absolute values that went into them; sums and
 * transcendental functions are computed in double and rounded once. */
#ifndef GW_TENSOR_H
#define GW_TENSOR_H

#include "kernels/nn/onnx.h"

#include <stdbool.h>

typedef struct gw_tensor { /* row-major, dense */
    gw_onnx_type type;
    int rank;
    int64_t dim[GW_ONNX_MAX_RANK];
    void *data; /* aligned for its type; NULL: not known yet */
} gw_tensor;

/* Bytes of one element; 0 for a type that no tensor can have. */
size_t gw_tensor_type_bytes(gw_onnx_type type);
size_t gw_tensor_elements(const gw_tensor *t);
/* GW_ERANGE unless no dimension is negative and the elements number below 2^31. */
int gw_tensor_set(gw_tensor *t, gw_onnx_type type, int rank, const int64_t *dim);

/* A tensor of a file: its elements' number, and the elements with half types as floats. */
size_t gw_tensor_file_elements(const gw_onnx_tensor *t);
void gw_tensor_widen(const gw_onnx_tensor *t, void *to);

typedef struct gw_tensor_op gw_tensor_op;

/* One node with its tensors. */
typedef struct gw_tensor_call {
    const gw_tensor_op *op;
    const gw_onnx_node *node;
    int64_t opset; /* of the default domain */
    int n_in, n_out;
    const gw_tensor *const *in; /* NULL: left out */
    gw_tensor *const *out;      /* NULL: nobody wants it */
    double work;                /* said by shape: multiply-adds or elements touched, about */
    size_t scratch_bytes;       /* said by shape: what run needs ... */
    void *scratch;              /* ... here, 16-byte aligned */
    void *state;                /* of a gw_tensor_fast between its open and close */
} gw_tensor_call;

struct gw_tensor_op {
    const char *name;
    const char *attributes; /* "axis:i alpha:f axes:I mode:s": all there are; others are refused */
    int n_need, n_max;      /* inputs */
    int n_alike;            /* so many first inputs have one type ... */
    unsigned types;         /* ... out of these, 1u << type */
    int n_out;              /* at most */
    int (*shape)(gw_tensor_call *c);
    int (*run)(gw_tensor_call *c);
    const void *detail; /* which of several operators that share their functions */
};

/* The same operator made ready beforehand, by a library that wants that. */
typedef struct gw_tensor_fast {
    const char *name;
    int (*open)(gw_tensor_call *c); /* after shape; GW_ENOTSUP: not this one, take run of the op */
    int (*run)(gw_tensor_call *c);  /* allocates nothing of its own */
    void (*close)(gw_tensor_call *c);
} gw_tensor_fast;

typedef struct gw_tensor_ops {
    const gw_tensor_op *(*find)(const char *domain, const char *name);   /* NULL: unknown */
    const gw_tensor_fast *(*fast)(const char *domain, const char *name); /* NULL: nothing better than run */
} gw_tensor_ops;

void gw_tensor_ref(gw_tensor_ops *ops); /* find */
void gw_tensor_cpu(gw_tensor_ops *ops); /* fast: Conv, ConvTranspose, MatMul, Gemm and pools by oneDNN */

/* What the outputs of a call will be: fills type, rank and dim of every out, work and scratch_bytes. The
 * inputs have their types and dims; those that are constants have their data, others have NULL. Checks
 * everything that run relies on. GW_EMISMATCH: inputs that do not fit; GW_ENOTSUP: a form of the operator
 * that is not built, or a shape that depends on data; GW_EFORMAT: attributes. All name the node. */
int gw_tensor_shape(gw_tensor_call *c);
/* Fills the outputs' data (of as many bytes as shape said; may not overlap inputs). GW_ERANGE for an index
 * out of range, naming the node; nothing else can fail. */
int gw_tensor_run(gw_tensor_call *c);

#endif
