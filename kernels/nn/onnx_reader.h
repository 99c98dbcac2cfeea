/* SPDX-License-Identifier: GPL-3.0-or-later
 * What the files of the ONNX reader share: onnx.c (file, model, graph), onnx_parts.c (tensors, nodes,
 * values, and the arena), onnx_function.c (functions), onnx_external.c (weights in other files) and
 * onnx_order.c (names and order); and simplify*.c, which make a model out of a model. Nobody else includes
 * this. */
#ifndef GW_ONNX_READER_H
#define GW_ONNX_READER_H

#include "kernels/nn/onnx.h"
#include "kernels/nn/protobuf.h"

enum { GW_ONNX_MAX_PARTS = 100000 };

typedef struct gw_onnx_property {
    const char *key, *value;
} gw_onnx_property;

typedef struct gw_onnx_reader { /* what gw_onnx.owned points to */
    gw_onnx m;
    void *file; /* NULL when the bytes are the caller's */
    struct gw_onnx_chunk *chunks;
    size_t arena_bytes, arena_limit; /* limit 0: what a file may ask for */
    const char *folder;              /* of the model, NULL: from memory */
    struct gw_onnx_external *external;
    const gw_onnx_value *shapes; /* simplified: of every value, sorted by name */
    int n_shapes;
    int err; /* why gw_onnx_take gave NULL */
    gw_onnx_property *meta;
    int n_meta;
    /* Where reading stands, for messages: "node 12"; index -1 = no number. */
    const char *part;
    long index;
} gw_onnx_reader;

/* gw_fail with the file and the place. */
int gw_onnx_fail(const gw_onnx_reader *o, int err, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
int gw_onnx_broken(const gw_onnx_reader *o, const char *what);

/* Zeroed memory that lives as long as the model, or NULL with o->err and the detail set. */
void *gw_onnx_take(gw_onnx_reader *o, size_t count, size_t bytes);
/* A name, with its NUL. Control characters become '?': names end up in messages on terminals. */
int gw_onnx_take_text(gw_onnx_reader *o, gw_pb bytes, const char **out);
void gw_onnx_release(gw_onnx_reader *o);
void gw_onnx_free_reader(gw_onnx_reader *o); /* and all that it holds */

/* The last length-delimited field of this number in message `m` (as protobuf has it), and how many
 * there are; *out is empty if none. The whole message has been found well formed afterwards. */
int gw_onnx_find(const gw_onnx_reader *o, gw_pb m, const char *what, uint32_t number, gw_pb *out,
                 long *count);

int gw_onnx_read_tensor(gw_onnx_reader *o, gw_pb m, gw_onnx_tensor *t);
int gw_onnx_read_attr(gw_onnx_reader *o, gw_pb m, gw_onnx_attr *a, bool *kept);
int gw_onnx_read_function(gw_onnx_reader *o, gw_pb m, gw_onnx_function *f);
/* The bytes that t->... of this message (its external_data entries) names in a file below the folder. */
int gw_onnx_read_external(gw_onnx_reader *o, gw_pb m, gw_onnx_tensor *t, size_t bytes);
void gw_onnx_release_external(gw_onnx_reader *o);
/* The version of the default operator set; unchanged when the entry is for another. */
int gw_onnx_read_opset(gw_onnx_reader *o, gw_pb m, int64_t *version);
int gw_onnx_read_node(gw_onnx_reader *o, gw_pb m, gw_onnx_node *n);
/* rank -1 when the file does not say; type 0 for what is not a tensor. */
int gw_onnx_read_value(gw_onnx_reader *o, gw_pb m, gw_onnx_value *v);

/* Takes initialisers out of the inputs, sees that every name is made once and before it is used, and
 * brings the nodes into such an order if they are not. */
int gw_onnx_order(gw_onnx_reader *o);

#endif
