/* SPDX-License-Identifier: GPL-3.0-or-later
 * What the files of `gwstream model` share: the options, the model made ready on the best engine for it, and
 * arrays in files. One file a verb: cmd_model.c (options, check), cmd_model_show.c, cmd_model_run.c,
 * cmd_model_bench.c; cmd_model_engine.c, cmd_model_facts.c and cmd_model_array.c do the work under them. */
#ifndef GW_CMD_MODEL_H
#define GW_CMD_MODEL_H

#include "kernels/nn/exec.h"
#include "kernels/nn/net.h"
#include "kernels/nn/onnx.h"
#include "kernels/tensor.h"

#include <stdbool.h>
#include <stddef.h>

enum { GW_MODEL_FILES = 16, GW_MODEL_BATCHES = 16 };

typedef struct gw_model_options {
    const char *path;
    gw_kernels_level level;
    const char *in[GW_MODEL_FILES], *out[GW_MODEL_FILES]; /* [NAME=]FILE */
    int n_in, n_out;
    int64_t batch[GW_MODEL_BATCHES];
    int n_batches;
    const char *dim_name; /* a symbolic dimension ... */
    int64_t dim_value;    /* ... and its value */
    int64_t hop;          /* samples; 0 = not given */
    double seconds;
    bool stream, nodes, pairs, json;
    bool device;            /* the whole network on the GPU ... */
    gw_precision precision; /* ... so */
} gw_model_options;

int gw_model_show(const gw_model_options *o);
int gw_model_run(const gw_model_options *o);
int gw_model_bench(const gw_model_options *o);

/* ---- engine: a model ready to run (cmd_model_engine.c) ---- */

typedef struct gw_model_engine {
    gw_onnx *m; /* simplified */
    gw_kernels k;
    gw_net *net;   /* planned, or NULL: ... */
    gw_exec *exec; /* ... node by node */
    int64_t calls; /* a run is so many windows (plan), or so many of the model's own batch */
    size_t channel_stride, window_stride; /* plan: of the input, floats; dense, unless changed after open */
    gw_tensor out[GW_MODEL_FILES]; /* what the last run has given, all windows of an output in one tensor */
    int n_out;
    char why[600]; /* why it is not planned; "" if it is, or was not tried */
} gw_model_engine;

/* Loads and simplifies; symbolic first dimensions become `batch`. */
int gw_model_load(gw_onnx **m, const gw_model_options *o, int64_t batch);
/* Loads, simplifies, and opens the plan for so many windows a run (0: the model's own batch), or the
 * interpreter where no plan covers the model (always with o->nodes). */
int gw_model_engine_open(gw_model_engine *e, const gw_model_options *o, int64_t windows);
void gw_model_engine_close(gw_model_engine *e);
/* in: [n_inputs], types as the model's inputs, dim[0] as many windows as were opened for. */
int gw_model_engine_run(gw_model_engine *e, const gw_tensor *in);

/* ---- arrays in files (cmd_model_array.c) ---- */

/* "x.npy" or "x.h5:/dataset": little-endian float32, float64, int32, int64, int8, uint8 or bool, row-major.
 * t->data is the caller's to free. GW_EMISSING, GW_EACCESS, GW_EFORMAT, GW_ENOTSUP, GW_ERANGE (2^31 elements
 * or more). */
int gw_array_read(gw_tensor *t, const char *where);
/* A .npy is written anew; a dataset is added to its file, which is made if need be. */
int gw_array_write(const gw_tensor *t, const char *where);

const char *gw_array_type_text(gw_onnx_type type); /* "float32" */
/* "[1, 2, 3072]". Returns text. */
const char *gw_array_shape_text(int rank, const int64_t *dim, char *text, size_t n);

/* ---- what a graph says of itself (cmd_model_facts.c) ---- */

typedef struct gw_model_reach { /* which input samples a value depends on */
    int axis;                   /* of time, or -1: it has none (any more) */
    bool window;                /* on all of them */
    bool none;                  /* on none (a constant) */
    double step;                /* input samples a column */
    double first, last; /* column j: samples j * step + first ... j * step + last; without an axis: step 0 */
} gw_model_reach;

typedef struct gw_model_layer {
    const gw_onnx_node *node;
    const gw_onnx_value *out; /* of its first output */
    gw_model_reach reach;
    uint64_t parameters;
    double flop; /* 2 x multiply-adds of convolutions and matrix products */
} gw_model_layer;

typedef struct gw_model_facts {
    gw_model_layer *layer;  /* [m->n_nodes] */
    gw_model_reach *output; /* [m->n_outputs] */
    uint64_t parameters;
    double flop;
    int64_t samples; /* of the first input along time; 0 = it has no such axis */
} gw_model_facts;

/* m: simplified, must outlive the facts. */
int gw_model_facts_read(gw_model_facts *f, const gw_onnx *m);
void gw_model_facts_free(gw_model_facts *f);

#endif
