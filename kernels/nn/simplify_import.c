/* SPDX-License-Identifier: GPL-3.0-or-later
 * The way into simplification: everything but weights' bytes in files copied, open dimensions bound, half
 * types widened, names turned into numbers. */
#include "kernels/nn/simplify_graph.h"

#include <stdlib.h>
#include <string.h>

static int bind_inputs(gw_onnx_reader *o, const gw_onnx *m, const gw_onnx_binding *bind)
{
    gw_onnx_value *in = gw_onnx_take(o, (size_t)m->n_inputs, sizeof *in);
    if (!in)
        return o->err;
    for (int i = 0; i < m->n_inputs; i++) {
        const gw_onnx_value *from = &m->input[i];
        in[i] =
            (gw_onnx_value){.name = gw_simplify_text(o, from->name), .type = from->type, .rank = from->rank};
        if (!in[i].name)
            return o->err;
        if (from->type == GW_ONNX_FLOAT16 || from->type == GW_ONNX_BFLOAT16)
            in[i].type = GW_ONNX_FLOAT;
        if (from->rank < 0 || gw_tensor_type_bytes(in[i].type) == 0)
            return gw_onnx_fail(o, GW_ENOTSUP, "input '%s' has %s", from->name,
                                from->rank < 0 ? "no shape" : "an element type that is not built");
        for (int k = 0; k < from->rank; k++) {
            int64_t *d = &in[i].dim[k];
            const char *symbol = from->dim[k] < 0 && from->symbol[k] ? from->symbol[k] : "";
            *d = from->dim[k];
            if (*d < 0 && bind && bind->name && strcmp(symbol, bind->name) == 0)
                *d = bind->value;
            else if (*d < 0 && bind && k == 0)
                *d = bind->batch;
            if (from->dim[k] < 0 && *d < 1)
                return gw_onnx_fail(
                    o, GW_ENOTSUP,
                    "dimension %d of input '%s' is open ('%s'); give it a size, or export the "
                    "model with a fixed one",
                    k, from->name, symbol);
        }
    }
    o->m.input = in;
    o->m.n_inputs = m->n_inputs;
    return GW_OK;
}

static int copy_rest(gw_onnx_reader *o, const gw_onnx *m)
{
    const gw_onnx_reader *from = m->owned;
    gw_onnx_tensor *init = gw_onnx_take(o, (size_t)m->n_initialisers, sizeof *init);
    gw_onnx_value *out = gw_onnx_take(o, (size_t)m->n_outputs, sizeof *out);
    o->meta = gw_onnx_take(o, (size_t)from->n_meta, sizeof *o->meta);
    o->m.producer = gw_simplify_text(o, m->producer);
    if (!init || !out || !o->meta || !o->m.producer)
        return o->err;
    for (int i = 0; i < from->n_meta; i++) {
        o->meta[i].key = gw_simplify_text(o, from->meta[i].key);
        o->meta[i].value = gw_simplify_text(o, from->meta[i].value);
        if (!o->meta[i].key || !o->meta[i].value)
            return o->err;
    }
    o->n_meta = from->n_meta;
    for (int i = 0; i < m->n_initialisers; i++) { /* data: still the caller's */
        init[i] = m->initialiser[i];
        if (!(init[i].name = gw_simplify_text(o, init[i].name)))
            return o->err;
    }
    for (int i = 0; i < m->n_outputs; i++) {
        out[i] = m->output[i];
        if (!(out[i].name = gw_simplify_text(o, out[i].name)))
            return o->err;
    }
    o->m.initialiser = init;
    o->m.n_initialisers = m->n_initialisers;
    o->m.output = out;
    o->m.n_outputs = m->n_outputs;
    o->m.ir_version = m->ir_version;
    o->m.opset = m->opset;
    return GW_OK;
}

typedef struct entry {
    const char *name;
    int value;
} entry;

static int by_name(const void *a, const void *b)
{
    return strcmp(((const entry *)a)->name, ((const entry *)b)->name);
}

static int find_value(const entry *table, size_t n, const char *name)
{
    const entry key = {name, 0}, *e = bsearch(&key, table, n, sizeof *table, by_name);
    return e ? e->value : -1;
}

/* A half-precision tensor's place is a float tensor's. */
static gw_onnx_type widened(gw_onnx_type t)
{
    return t == GW_ONNX_FLOAT16 || t == GW_ONNX_BFLOAT16 ? GW_ONNX_FLOAT : t;
}

static int number_values(gw_simplify *s)
{
    gw_onnx_reader *o = s->o;
    const gw_onnx *m = &o->m;
    for (int i = 0; i < m->n_inputs; i++) {
        const int v = gw_simplify_value(s, m->input[i].name);
        if (v < 0)
            return v;
        const int err = gw_tensor_set(&s->value[v].t, m->input[i].type, m->input[i].rank, m->input[i].dim);
        if (err < 0)
            return gw_fail_at(err, "%s: input '%s'", m->path, m->input[i].name);
    }
    for (int i = 0; i < m->n_initialisers; i++) {
        const gw_onnx_tensor *t = &m->initialiser[i];
        const int v = gw_simplify_value(s, t->name);
        if (v < 0)
            return v;
        const int err = gw_tensor_set(&s->value[v].t, widened(t->type), t->rank, t->dim);
        if (err < 0)
            return gw_fail_at(err, "%s: initialiser '%s'", m->path, t->name);
        GW_TRY(gw_simplify_data(s, &s->value[v].t));
        gw_tensor_widen(t, s->value[v].t.data);
    }
    s->n_nodes = m->n_nodes;
    s->node = gw_onnx_take(o, (size_t)m->n_nodes, sizeof *s->node);
    if (!s->node)
        return o->err;
    for (int i = 0; i < m->n_nodes; i++) {
        gw_snode *n = &s->node[i];
        n->n = m->node[i];
        n->in = gw_onnx_take(o, (size_t)n->n.n_in, sizeof *n->in);
        n->out = gw_onnx_take(o, (size_t)n->n.n_out, sizeof *n->out);
        if (!n->in || !n->out)
            return o->err;
        for (int k = 0; k < n->n.n_out; k++) {
            n->out[k] = n->n.out[k][0] ? gw_simplify_value(s, n->n.out[k])
                        : k == 0       ? gw_simplify_new_name(s)
                                       : -1;
            if (n->out[k] < -1)
                return n->out[k];
            if (n->out[k] >= 0)
                s->value[n->out[k]].maker = i;
        }
    }
    entry *table = gw_onnx_take(o, (size_t)s->n_values, sizeof *table);
    if (!table)
        return o->err;
    for (int i = 0; i < s->n_values; i++)
        table[i] = (entry){s->value[i].name, i};
    qsort(table, (size_t)s->n_values, sizeof *table, by_name);
    for (int i = 0; i < m->n_nodes; i++)
        for (int k = 0; k < s->node[i].n.n_in; k++)
            s->node[i].in[k] =
                m->node[i].in[k][0] ? find_value(table, (size_t)s->n_values, m->node[i].in[k]) : -1;
    for (int i = 0; i < m->n_outputs; i++)
        s->value[find_value(table, (size_t)s->n_values, m->output[i].name)].output = true;
    return GW_OK;
}

int gw_simplify_import(gw_simplify *s, const gw_onnx *m, const gw_onnx_binding *bind)
{
    gw_onnx_reader *o = s->o;
    if (!(o->m.path = gw_simplify_text(o, m->path)))
        return o->err;
    GW_TRY(gw_simplify_inline(o, m));
    GW_TRY(bind_inputs(o, m, bind));
    GW_TRY(copy_rest(o, m));
    GW_TRY(gw_onnx_order(o));
    GW_TRY(number_values(s));
    s->n_imported = s->n_values;
    gw_simplify_count(s);
    return GW_OK;
}
