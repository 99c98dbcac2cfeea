/* SPDX-License-Identifier: GPL-3.0-or-later
 * Writes small ONNX models into memory, for the tests of the reader and of the networks. Nothing is
 * checked: a test that wants a broken file writes one. A message is a growing span of bytes. */
#ifndef ONNX_BUILD_H
#define ONNX_BUILD_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct bytes {
    unsigned char *data;
    size_t n, room;
} bytes;

static inline void put(bytes *b, const void *data, size_t n)
{
    if (b->n + n > b->room) {
        b->room = 2 * (b->n + n) + 64;
        b->data = realloc(b->data, b->room);
        if (!b->data) {
            fputs("onnx_build: out of memory\n", stderr);
            exit(1);
        }
    }
    if (n)
        memcpy(b->data + b->n, data, n);
    b->n += n;
}

static inline void put_varint(bytes *b, uint64_t v)
{
    unsigned char c;
    while (v > 0x7f) {
        c = (unsigned char)(v | 0x80);
        put(b, &c, 1);
        v >>= 7;
    }
    c = (unsigned char)v;
    put(b, &c, 1);
}

static inline void put_int(bytes *b, uint32_t field, int64_t v)
{
    put_varint(b, (uint64_t)field << 3);
    put_varint(b, (uint64_t)v);
}

static inline void put_bytes(bytes *b, uint32_t field, const void *data, size_t n)
{
    put_varint(b, (uint64_t)field << 3 | 2);
    put_varint(b, n);
    put(b, data, n);
}

static inline void put_text(bytes *b, uint32_t field, const char *text)
{
    put_bytes(b, field, text, strlen(text));
}

/* As a submessage; frees it. */
static inline void put_message(bytes *b, uint32_t field, bytes *m)
{
    put_bytes(b, field, m->data, m->n);
    free(m->data);
    *m = (bytes){0};
}

static inline void put_float(bytes *b, uint32_t field, float f)
{
    put_varint(b, (uint64_t)field << 3 | 5);
    put(b, &f, sizeof f);
}

/* The graph of a model under construction. */
typedef struct build {
    bytes graph;
} build;

static inline void add_value(build *b, uint32_t field, const char *name, int rank, const int64_t *dim)
{
    bytes shape = {0}, tensor = {0}, type = {0}, value = {0};
    for (int i = 0; i < rank; i++) {
        bytes d = {0};
        if (dim[i] >= 0)
            put_int(&d, 1, dim[i]);
        else
            put_text(&d, 2, "N");
        put_message(&shape, 1, &d);
    }
    put_int(&tensor, 1, 1);
    put_message(&tensor, 2, &shape);
    put_message(&type, 1, &tensor);
    put_text(&value, 1, name);
    put_message(&value, 2, &type);
    put_message(&b->graph, field, &value);
}

static inline void add_input(build *b, const char *name, int64_t a, int64_t c, int64_t n)
{
    add_value(b, 11, name, 3, (int64_t[]){a, c, n});
}

static inline void add_output(build *b, const char *name)
{
    add_value(b, 12, name, 0, NULL);
}

static inline void add_raw(build *b, const char *name, int type, int rank, const int64_t *dim,
                           const void *data, size_t n)
{
    bytes t = {0};
    for (int i = 0; i < rank; i++)
        put_int(&t, 1, dim[i]);
    put_int(&t, 2, type);
    put_text(&t, 8, name);
    put_bytes(&t, 9, data, n);
    put_message(&b->graph, 5, &t);
}

static inline void add_floats(build *b, const char *name, int rank, const int64_t *dim, const float *data)
{
    size_t n = 1;
    for (int i = 0; i < rank; i++)
        n *= (size_t)dim[i];
    add_raw(b, name, 1, rank, dim, data, n * sizeof *data);
}

static inline void add_ints(build *b, const char *name, int64_t n, const int64_t *data)
{
    add_raw(b, name, 7, 1, &n, data, (size_t)n * sizeof *data);
}

/* Attributes, into a bytes that add_node then takes. */
static inline void attr_int(bytes *a, const char *name, int64_t v)
{
    bytes m = {0};
    put_text(&m, 1, name);
    put_int(&m, 3, v);
    put_int(&m, 20, 2);
    put_message(a, 5, &m);
}

static inline void attr_float(bytes *a, const char *name, float v)
{
    bytes m = {0};
    put_text(&m, 1, name);
    put_float(&m, 2, v);
    put_int(&m, 20, 1);
    put_message(a, 5, &m);
}

static inline void attr_text(bytes *a, const char *name, const char *v)
{
    bytes m = {0};
    put_text(&m, 1, name);
    put_text(&m, 4, v);
    put_int(&m, 20, 3);
    put_message(a, 5, &m);
}

static inline void attr_ints(bytes *a, const char *name, int n, const int64_t *v)
{
    bytes m = {0};
    put_text(&m, 1, name);
    for (int i = 0; i < n; i++)
        put_int(&m, 8, v[i]);
    put_int(&m, 20, 7);
    put_message(a, 5, &m);
}

/* in: names apart by blanks; out: one name; the node's name is "<op>.<out>". attrs may be NULL. */
static inline void add_node(build *b, const char *op, const char *in, const char *out, bytes *attrs)
{
    bytes n = {0};
    while (*in) {
        const size_t length = strcspn(in, " ");
        put_bytes(&n, 1, in, length);
        in += length + (in[length] == ' ');
    }
    put_text(&n, 2, out);
    char name[128];
    snprintf(name, sizeof name, "%s.%s", op, out);
    put_text(&n, 3, name);
    put_text(&n, 4, op);
    if (attrs) {
        put(&n, attrs->data, attrs->n);
        free(attrs->data);
        *attrs = (bytes){0};
    }
    put_message(&b->graph, 1, &n);
}

/* The model: IR version, operator set, one line of metadata. Takes the graph; the caller frees .data. */
static inline bytes finish(build *b, int64_t ir, int64_t opset)
{
    bytes model = {0}, set = {0}, meta = {0};
    put_int(&model, 1, ir);
    put_text(&model, 2, "onnx_build");
    put_message(&model, 7, &b->graph);
    put_text(&set, 1, "");
    put_int(&set, 2, opset);
    put_message(&model, 8, &set);
    put_text(&meta, 1, "detectors");
    put_text(&meta, 2, "H1,\nL1");
    put_message(&model, 14, &meta);
    return model;
}

#endif
