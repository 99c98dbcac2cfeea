/* SPDX-License-Identifier: GPL-3.0-or-later
 * The ONNX reader: a file, its ModelProto and its graph, into the plain tables of onnx.h. Called by
 * whoever opens a model. Field numbers: onnx.proto of ONNX 1.12 (https://github.com/onnx/onnx). Runs
 * nothing and judges no operator: that is plan.c's. */
#include "kernels/nn/onnx_reader.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MIN_IR = 3, MAX_IR = 10, MIN_OPSET = 1, MAX_OPSET = 21 };
static const size_t MAX_FILE_BYTES = (size_t)1 << 31;

static int check_count(const gw_onnx_reader *o, const char *what, long n)
{
    if (n > GW_ONNX_MAX_PARTS)
        return gw_onnx_fail(o, GW_EFORMAT, "%ld %s; at most %d are read", n, what, GW_ONNX_MAX_PARTS);
    return GW_OK;
}

static int read_graph(gw_onnx_reader *o, gw_pb graph)
{
    enum { NODE = 1, INITIALISER = 5, INPUT = 11, OUTPUT = 12, SPARSE = 15 };
    gw_onnx *m = &o->m;
    gw_pb unused;
    long n_nodes, n_init, n_in, n_out, n_sparse;
    o->part = "graph", o->index = -1;
    GW_TRY(gw_onnx_find(o, graph, "the graph", NODE, &unused, &n_nodes));
    GW_TRY(gw_onnx_find(o, graph, "the graph", INITIALISER, &unused, &n_init));
    GW_TRY(gw_onnx_find(o, graph, "the graph", INPUT, &unused, &n_in));
    GW_TRY(gw_onnx_find(o, graph, "the graph", OUTPUT, &unused, &n_out));
    GW_TRY(gw_onnx_find(o, graph, "the graph", SPARSE, &unused, &n_sparse));
    GW_TRY(check_count(o, "nodes", n_nodes));
    GW_TRY(check_count(o, "initialisers", n_init));
    GW_TRY(check_count(o, "inputs", n_in));
    GW_TRY(check_count(o, "outputs", n_out));
    if (n_sparse)
        return gw_onnx_fail(o, GW_ENOTSUP, "it has sparse initialisers");
    if (n_out == 0)
        return gw_onnx_fail(o, GW_EFORMAT, "it has no output");

    gw_onnx_node *node = gw_onnx_take(o, (size_t)n_nodes, sizeof *node);
    gw_onnx_tensor *init = gw_onnx_take(o, (size_t)n_init, sizeof *init);
    gw_onnx_value *in = gw_onnx_take(o, (size_t)n_in, sizeof *in),
                  *out = gw_onnx_take(o, (size_t)n_out, sizeof *out);
    if (!node || !init || !in || !out)
        return o->err;
    m->node = node, m->initialiser = init, m->input = in, m->output = out;
    gw_pb_field f;
    while (gw_pb_next(&graph, &f) == 1) {
        if (f.wire != GW_PB_BYTES)
            continue;
        switch (f.number) {
        case NODE:
            o->part = "node", o->index = m->n_nodes;
            GW_TRY(gw_onnx_read_node(o, f.bytes, &node[m->n_nodes]));
            m->n_nodes++;
            break;
        case INITIALISER:
            o->part = "initialiser", o->index = m->n_initialisers;
            GW_TRY(gw_onnx_read_tensor(o, f.bytes, &init[m->n_initialisers]));
            if (init[m->n_initialisers].name[0] == '\0')
                return gw_onnx_fail(o, GW_EFORMAT, "it has no name");
            m->n_initialisers++;
            break;
        case INPUT:
            o->part = "input", o->index = m->n_inputs;
            GW_TRY(gw_onnx_read_value(o, f.bytes, &in[m->n_inputs]));
            m->n_inputs++;
            break;
        case OUTPUT:
            o->part = "output", o->index = m->n_outputs;
            GW_TRY(gw_onnx_read_value(o, f.bytes, &out[m->n_outputs]));
            m->n_outputs++;
            break;
        default:
            break;
        }
    }

    o->part = "graph", o->index = -1;
    return gw_onnx_order(o);
}

/* ---- The model ---- */

int gw_onnx_read_opset(gw_onnx_reader *o, gw_pb m, int64_t *version)
{
    gw_pb_field f;
    int64_t v = 0;
    bool ours = true;
    int more;
    while ((more = gw_pb_next(&m, &f)) == 1) {
        if (f.number == 1 && f.wire == GW_PB_BYTES) {
            const size_t n = gw_pb_left(f.bytes);
            ours = n == 0 || (n == 7 && memcmp(f.bytes.at, "ai.onnx", 7) == 0);
        } else if (f.number == 2 && f.wire == GW_PB_VARINT) {
            v = (int64_t)f.value;
        }
    }
    if (more < 0)
        return gw_onnx_broken(o, "the operator set");
    if (ours)
        *version = v;
    return GW_OK;
}

static int read_property(gw_onnx_reader *o, gw_pb m, gw_onnx_property *p)
{
    gw_pb key, value;
    long n_keys, n_values;
    *p = (gw_onnx_property){"", ""};
    GW_TRY(gw_onnx_find(o, m, "the metadata", 1, &key, &n_keys));
    GW_TRY(gw_onnx_find(o, m, "the metadata", 2, &value, &n_values));
    if (n_keys)
        GW_TRY(gw_onnx_take_text(o, key, &p->key));
    if (n_values == 0)
        return GW_OK;
    const size_t n = gw_pb_left(value);
    char *text = gw_onnx_take(o, n + 1, 1); /* free text: lines and all */
    if (!text)
        return o->err;
    memcpy(text, value.at, n);
    text[n] = '\0';
    p->value = text;
    return GW_OK;
}

static int read_model(gw_onnx_reader *o, gw_pb m)
{
    gw_pb graph, unused;
    long n_graphs, n_meta, n_functions;
    GW_TRY(gw_onnx_find(o, m, "the file", 7, &graph, &n_graphs));
    GW_TRY(gw_onnx_find(o, m, "the file", 14, &unused, &n_meta));
    GW_TRY(gw_onnx_find(o, m, "the file", 25, &unused, &n_functions));
    GW_TRY(check_count(o, "functions", n_functions));
    gw_onnx_function *function = gw_onnx_take(o, (size_t)n_functions, sizeof *function);
    o->meta = gw_onnx_take(o, (size_t)n_meta, sizeof *o->meta);
    if (!o->meta || !function)
        return o->err;
    o->m.function = function;
    o->m.producer = "";
    gw_pb_field f;
    while (gw_pb_next(&m, &f) == 1) {
        if (f.number == 1 && f.wire == GW_PB_VARINT)
            o->m.ir_version = (int64_t)f.value;
        if (f.wire != GW_PB_BYTES)
            continue;
        if (f.number == 2)
            GW_TRY(gw_onnx_take_text(o, f.bytes, &o->m.producer));
        else if (f.number == 8)
            GW_TRY(gw_onnx_read_opset(o, f.bytes, &o->m.opset));
        else if (f.number == 14) {
            GW_TRY(read_property(o, f.bytes, &o->meta[o->n_meta]));
            o->n_meta++;
        } else if (f.number == 25) {
            o->part = "function", o->index = o->m.n_functions;
            GW_TRY(gw_onnx_read_function(o, f.bytes, &function[o->m.n_functions]));
            o->m.n_functions++;
            o->part = NULL, o->index = -1;
        }
    }
    if (o->m.ir_version == 0 || n_graphs == 0)
        return gw_onnx_fail(o, GW_EFORMAT, "not an ONNX model: it has no %s",
                            n_graphs ? "IR version" : "graph");
    if (o->m.ir_version < MIN_IR || o->m.ir_version > MAX_IR)
        return gw_onnx_fail(o, GW_ENOTSUP, "ONNX IR version %lld; %d to %d are read",
                            (long long)o->m.ir_version, MIN_IR, MAX_IR);
    if (o->m.opset < MIN_OPSET || o->m.opset > MAX_OPSET)
        return gw_onnx_fail(o, GW_ENOTSUP, "ONNX operator set %lld; %d to %d are read", (long long)o->m.opset,
                            MIN_OPSET, MAX_OPSET);
    return read_graph(o, graph);
}

void gw_onnx_free_reader(gw_onnx_reader *o)
{
    if (!o)
        return;
    gw_onnx_release_external(o);
    gw_onnx_release(o);
    free(o->file);
    free(o);
}

/* Takes `file` (may be NULL) over, also on failure. */
static int parse(gw_onnx **out, const char *name, const void *data, size_t bytes, void *file)
{
    *out = NULL;
    gw_onnx_reader *o = calloc(1, sizeof *o);
    if (!o) {
        free(file);
        return gw_fail(GW_ENOMEM, "%s: no memory", name);
    }
    o->file = file;
    o->index = -1;
    o->m.owned = o;
    o->m.path = name; /* until it has been copied */
    int err = gw_onnx_take_text(o, gw_pb_span(name, strlen(name)), &o->m.path);
    if (err == GW_OK && file) {
        const char *slash = strrchr(name, '/');
        const char *folder = slash ? name : "./";
        const size_t n = slash ? (size_t)(slash - name) + 1 : 2;
        char *copy = gw_onnx_take(o, n + 1, 1);
        if (copy)
            memcpy(copy, folder, n);
        else
            err = o->err;
        o->folder = copy;
    }
    if (err == GW_OK && bytes > MAX_FILE_BYTES)
        err = gw_onnx_fail(o, GW_EFORMAT, "more than 2 GiB");
    if (err == GW_OK)
        err = read_model(o, gw_pb_span(data, bytes));
    if (err < 0) {
        gw_onnx_free_reader(o);
        return err;
    }
    *out = &o->m;
    return GW_OK;
}

int gw_onnx_parse(gw_onnx **m, const char *name, const void *data, size_t bytes)
{
    return parse(m, name, bytes ? data : "", bytes, NULL);
}

int gw_onnx_load(gw_onnx **m, const char *path)
{
    *m = NULL;
    const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a fifo must not hang us */
    if (fd < 0) {
        const int e = errno;
        return gw_fail(e == ENOENT || e == ENOTDIR ? GW_EMISSING
                       : e == EACCES               ? GW_EACCESS
                                                   : GW_EIO,
                       "%s: %s", path, strerror(e));
    }
    struct stat st;
    unsigned char *data = NULL;
    size_t bytes = 0;
    int err = GW_OK;
    if (fstat(fd, &st) < 0)
        err = gw_fail(GW_EIO, "%s: %s", path, strerror(errno));
    else if (!S_ISREG(st.st_mode))
        err = gw_fail(GW_EFORMAT, "%s: not a regular file", path);
    else if (st.st_size == 0 || (uint64_t)st.st_size > MAX_FILE_BYTES)
        err = gw_fail(GW_EFORMAT, "%s: %s", path, st.st_size ? "more than 2 GiB" : "the file is empty");
    /* Read, not mapped: a file that somebody truncates meanwhile must not end the program (SIGBUS). */
    if (err == GW_OK && !(data = malloc((size_t)st.st_size)))
        err = gw_fail(GW_ENOMEM, "%s: no memory for %lld bytes", path, (long long)st.st_size);
    while (err == GW_OK && bytes < (size_t)st.st_size) {
        const ssize_t got = read(fd, data + bytes, (size_t)st.st_size - bytes);
        if (got > 0)
            bytes += (size_t)got;
        else if (got == 0)
            err = gw_fail(GW_EFORMAT, "%s: became shorter while it was read", path);
        else if (errno != EINTR)
            err = gw_fail(GW_EIO, "%s: %s", path, strerror(errno));
    }
    close(fd);
    if (err < 0) {
        free(data);
        return err;
    }
    return parse(m, path, data, bytes, data);
}

void gw_onnx_free(gw_onnx **m)
{
    if (!*m)
        return;
    gw_onnx_free_reader((*m)->owned);
    *m = NULL;
}

const char *gw_onnx_meta(const gw_onnx *m, const char *key)
{
    const gw_onnx_reader *o = m->owned;
    for (int i = 0; i < o->n_meta; i++)
        if (strcmp(o->meta[i].key, key) == 0)
            return o->meta[i].value;
    return NULL;
}

bool gw_onnx_meta_at(const gw_onnx *m, int i, const char **key, const char **value)
{
    const gw_onnx_reader *o = m->owned;
    if (i < 0 || i >= o->n_meta)
        return false;
    *key = o->meta[i].key;
    *value = o->meta[i].value;
    return true;
}

const gw_onnx_attr *gw_onnx_attr_find(const gw_onnx_node *n, const char *name)
{
    for (int i = 0; i < n->n_attr; i++)
        if (strcmp(n->attr[i].name, name) == 0)
            return &n->attr[i];
    return NULL;
}
