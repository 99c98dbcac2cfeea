/* SPDX-License-Identifier: GPL-3.0-or-later
 * The graph while it is being simplified: shared by simplify.c (values, shapes, folding),
 * simplify_import.c and simplify_export.c (the way in and out), simplify_inline.c (functions),
 * simplify_norm.c and simplify_fuse.c (patterns), simplify_affine.c (scales and shifts into weights). Nobody
 * else includes this. */
#ifndef GW_SIMPLIFY_GRAPH_H
#define GW_SIMPLIFY_GRAPH_H

#include "kernels/nn/onnx_reader.h"
#include "kernels/nn/simplify.h"
#include "kernels/tensor.h"

typedef struct gw_svalue {
    const char *name;
    gw_tensor t; /* type 0: not known yet; data: a constant */
    int maker;   /* the live node that makes it, or -1 */
    int alias;   /* the value it is the same as, or -1 */
    int uses;    /* by live nodes */
    bool output;
} gw_svalue;

typedef struct gw_snode {
    gw_onnx_node n; /* its in and out are names as imported; the numbers below are what counts */
    int *in, *out;  /* values, -1: left out */
    const gw_tensor_op *op;
    bool gone;
} gw_snode;

typedef struct gw_simplify {
    gw_onnx_reader *o; /* the model that is made; all memory is its arena */
    gw_svalue *value;
    int n_values, room;
    gw_snode *node;
    int n_nodes;
    gw_tensor_ops ops;
    double work;    /* that folding may still spend ... */
    size_t bytes;   /* ... and its memory */
    int made;       /* names given */
    int n_imported; /* values beyond are constants made here, each for one node */
} gw_simplify;

/* simplify_inline.c: all nodes of m, functions written out, copied into o. */
int gw_simplify_inline(gw_onnx_reader *o, const gw_onnx *m);
/* A text, or an attribute but for the data of a tensor, copied into o. NULL or an error: no memory. */
const char *gw_simplify_text(gw_onnx_reader *o, const char *text);
int gw_simplify_attr(gw_onnx_reader *o, const gw_onnx_attr *from, gw_onnx_attr *to);

/* Questions about values, by number, aliases followed. */
int gw_simplify_root(const gw_simplify *s, int value);
gw_tensor *gw_simplify_tensor(const gw_simplify *s, int value);
bool gw_simplify_is_constant(const gw_simplify *s, int value);
/* A constant of one element: its number; else false. */
bool gw_simplify_number(const gw_simplify *s, int value, double *out);
/* Input i of a node, aliases followed; -1: left out. */
int gw_simplify_in(const gw_simplify *s, const gw_snode *n, int i);
/* The live node of this operator that makes the value, or NULL; the second also if anybody else uses it. */
gw_snode *gw_simplify_maker(const gw_simplify *s, int value, const char *op);
gw_snode *gw_simplify_only(const gw_simplify *s, int value, const char *op);

/* Changes. New tensors have zeroed data of their own; *value is the number of the new constant. */
int gw_simplify_constant(gw_simplify *s, gw_onnx_type type, int rank, const int64_t *dim, int *value);
/* The node becomes another: same first output, these inputs, no attributes but those that are added (at
 * most 4). */
int gw_simplify_become(gw_simplify *s, gw_snode *n, const char *domain, const char *op, int n_in,
                       const int *in);
void gw_simplify_set_int(gw_snode *n, const char *name, int64_t i);
void gw_simplify_set_float(gw_snode *n, const char *name, double f);
/* Counts uses again and drops nodes that nobody needs; after a change. */
void gw_simplify_count(gw_simplify *s);

int gw_simplify_value(gw_simplify *s, const char *name); /* its number, or an error */
int gw_simplify_new_name(gw_simplify *s);                /* a value under a name of our own */
int gw_simplify_data(gw_simplify *s, gw_tensor *t);      /* room for its elements, zeroed */

/* Passes, in their order. */
int gw_simplify_import(gw_simplify *s, const gw_onnx *m, const gw_onnx_binding *bind);
int gw_simplify_norms(gw_simplify *s);
int gw_simplify_fuse(gw_simplify *s);
int gw_simplify_affine(gw_simplify *s);
int gw_simplify_export(gw_simplify *s);

#endif
