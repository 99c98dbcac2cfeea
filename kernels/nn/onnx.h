/* SPDX-License-Identifier: GPL-3.0-or-later
 * An ONNX file as it stands: a small hardened protobuf reader over the file in memory. It checks everything
 * it hands out (sizes, ranks, products without overflow, names, order) and runs nothing. Accepts IR 3-10,
 * opset 1-21 (below 6 operators are read as opset 6 has them). Weights in a file of their own are read from
 * below the model's folder only. Limits: file 2 GiB, weights beside it 8 GiB, 100,000 nodes and
 * initialisers, rank 8. What no network needs is passed over: graphs in attributes (If, Loop), lists of
 * text, training information. */
#ifndef GW_ONNX_H
#define GW_ONNX_H

#include "pipeline/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { GW_ONNX_MAX_RANK = 8 };

typedef enum gw_onnx_type { /* TensorProto.DataType */
                            GW_ONNX_FLOAT = 1,
                            GW_ONNX_UINT8 = 2,
                            GW_ONNX_INT8 = 3,
                            GW_ONNX_INT32 = 6,
                            GW_ONNX_INT64 = 7,
                            GW_ONNX_BOOL = 9,
                            GW_ONNX_FLOAT16 = 10,
                            GW_ONNX_DOUBLE = 11,
                            GW_ONNX_BFLOAT16 = 16
} gw_onnx_type;

typedef struct gw_onnx_tensor {
    const char *name;
    gw_onnx_type type;
    int rank;
    int64_t dim[GW_ONNX_MAX_RANK];
    const void *data; /* little-endian elements, possibly unaligned in the file: copy with memcpy */
    size_t bytes;
} gw_onnx_tensor;

typedef struct gw_onnx_attr {
    const char *name;
    enum {
        GW_ATTR_FLOAT = 1,
        GW_ATTR_INT = 2,
        GW_ATTR_STRING = 3,
        GW_ATTR_TENSOR = 4,
        GW_ATTR_FLOATS = 6,
        GW_ATTR_INTS = 7
    } type;
    float f;
    int64_t i;
    const char *s;
    const gw_onnx_tensor *t;
    const float *floats;
    const int64_t *ints;
    int count;        /* of floats or ints */
    const char *from; /* in a function: the attribute of its call that this one is; else NULL */
} gw_onnx_attr;

typedef struct gw_onnx_node {
    const char *name, *op, *domain;
    int n_in, n_out, n_attr;
    const char *const *in; /* "" = left out */
    const char *const *out;
    const gw_onnx_attr *attr;
} gw_onnx_node;

typedef struct gw_onnx_value { /* a graph input or output */
    const char *name;
    gw_onnx_type type;
    int rank;
    int64_t dim[GW_ONNX_MAX_RANK];        /* -1 = symbolic */
    const char *symbol[GW_ONNX_MAX_RANK]; /* its name, "" = nameless; NULL where dim is a number */
} gw_onnx_value;

typedef struct gw_onnx_function { /* an operator that the model defines itself */
    const char *domain, *name;
    int64_t opset; /* of the default domain; 0: not said, the model's */
    int n_in, n_out, n_nodes, n_defaults;
    const char *const *in, *const *out;
    const gw_onnx_node *node;     /* in any order */
    const gw_onnx_attr *defaults; /* attributes that a call may leave out */
} gw_onnx_function;

typedef struct gw_onnx {
    const char *path;
    int64_t ir_version, opset;
    const char *producer;
    int n_nodes, n_initialisers, n_inputs, n_outputs; /* inputs: without initialisers */
    const gw_onnx_node *node; /* in an order in which every input is made before it is used */
    const gw_onnx_tensor *initialiser;
    const gw_onnx_value *input, *output;
    int n_functions;
    const gw_onnx_function *function;
    void *owned;
} gw_onnx;

/* GW_EMISSING / GW_EACCESS / GW_EFORMAT with file and place. The same codes for a file of weights. */
int gw_onnx_load(gw_onnx **m, const char *path);
/* The same from memory, which must outlive *m (fuzzing, tests). Weights in another file: GW_ENOTSUP. */
int gw_onnx_parse(gw_onnx **m, const char *name, const void *data, size_t bytes);
void gw_onnx_free(gw_onnx **m);

/* metadata_props; NULL when the key is not there. */
const char *gw_onnx_meta(const gw_onnx *m, const char *key);
/* The i-th of them in the file's order; false when there are no more. */
bool gw_onnx_meta_at(const gw_onnx *m, int i, const char **key, const char **value);
const gw_onnx_attr *gw_onnx_attr_find(const gw_onnx_node *n, const char *name);

#endif
