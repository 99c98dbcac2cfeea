/* SPDX-License-Identifier: GPL-3.0-or-later
 * The way out of simplification: live nodes in order, constants that they use as initialisers, the shape
 * of every value. */
#include "kernels/nn/simplify_graph.h"

#include <stdlib.h>
#include <string.h>

/* An output that is another name for something: that takes its name, or the copy is made after all. */
static int settle_outputs(gw_simplify *s)
{
    gw_snode *more = gw_onnx_take(s->o, (size_t)s->n_nodes + (size_t)s->o->m.n_outputs, sizeof *more);
    if (!more)
        return s->o->err;
    if (s->n_nodes)
        memcpy(more, s->node, (size_t)s->n_nodes * sizeof *more);
    s->node = more;
    for (int i = 0; i < s->n_values; i++) {
        gw_svalue *v = &s->value[i];
        if (!v->output || v->alias < 0)
            continue;
        const int root = gw_simplify_root(s, i);
        gw_svalue *r = &s->value[root];
        if (r->maker >= 0 && !s->node[r->maker].gone && !r->output) {
            const char *was = r->name;
            r->name = v->name;
            v->name = was;
            r->output = true;
            v->output = false;
            continue;
        }
        gw_snode *n = &s->node[s->n_nodes];
        *n = (gw_snode){.n = {.name = v->name, .n_out = 1}, .out = gw_onnx_take(s->o, 1, sizeof *n->out)};
        if (!n->out)
            return s->o->err;
        n->out[0] = i;
        GW_TRY(gw_simplify_become(s, n, "", "Identity", 1, (int[]){root}));
        v->alias = -1;
        v->maker = s->n_nodes++;
        v->t = r->t;
        v->t.data = NULL;
    }
    gw_simplify_count(s);
    return GW_OK;
}

static int by_value_name(const void *a, const void *b)
{
    return strcmp(((const gw_onnx_value *)a)->name, ((const gw_onnx_value *)b)->name);
}

static gw_onnx_value described(const gw_svalue *v)
{
    gw_onnx_value d = {.name = v->name, .type = v->t.type, .rank = v->t.rank};
    memcpy(d.dim, v->t.dim, sizeof d.dim);
    return d;
}

int gw_simplify_export(gw_simplify *s)
{
    GW_TRY(settle_outputs(s));
    gw_onnx_reader *o = s->o;
    gw_onnx_node *node = gw_onnx_take(o, (size_t)s->n_nodes, sizeof *node);
    gw_onnx_tensor *init = gw_onnx_take(o, (size_t)s->n_values, sizeof *init);
    gw_onnx_value *shape = gw_onnx_take(o, (size_t)s->n_values, sizeof *shape);
    if (!node || !init || !shape)
        return o->err;
    int n_nodes = 0, n_init = 0, n_shapes = 0;
    for (int i = 0; i < s->n_nodes; i++) {
        gw_snode *n = &s->node[i];
        if (n->gone)
            continue;
        const char **in = gw_onnx_take(o, (size_t)n->n.n_in, sizeof *in),
                   **out = gw_onnx_take(o, (size_t)n->n.n_out, sizeof *out);
        if (!in || !out)
            return o->err;
        for (int k = 0; k < n->n.n_in; k++)
            in[k] = n->in[k] < 0 ? "" : s->value[gw_simplify_root(s, n->in[k])].name;
        for (int k = 0; k < n->n.n_out; k++)
            out[k] = n->out[k] < 0 ? "" : s->value[n->out[k]].name;
        n->n.in = in;
        n->n.out = out;
        for (int k = 0; k < n->n.n_attr; k++) {
            const gw_onnx_tensor *t = n->n.attr[k].t;
            void *data = t ? gw_onnx_take(o, t->bytes + 1, 1) : NULL;
            if (t && !data)
                return o->err;
            if (t && t->bytes)
                memcpy(data, t->data, t->bytes);
            if (t)
                ((gw_onnx_tensor *)t)->data = data;
        }
        node[n_nodes++] = n->n;
    }
    for (int i = 0; i < s->n_values; i++) {
        const gw_svalue *v = &s->value[i];
        const bool input = i < o->m.n_inputs, live = v->alias < 0 && (v->uses > 0 || v->output);
        if (v->t.data && live) {
            gw_onnx_tensor *t = &init[n_init++];
            *t = (gw_onnx_tensor){.name = v->name, .type = v->t.type, .rank = v->t.rank, .data = v->t.data};
            memcpy(t->dim, v->t.dim, sizeof t->dim);
            t->bytes = gw_tensor_elements(&v->t) * gw_tensor_type_bytes(v->t.type);
        }
        if ((live || input) && v->name[0])
            shape[n_shapes++] = described(v);
    }
    qsort(shape, (size_t)n_shapes, sizeof *shape, by_value_name);
    o->m.node = node, o->m.n_nodes = n_nodes;
    o->m.initialiser = init, o->m.n_initialisers = n_init;
    o->shapes = shape, o->n_shapes = n_shapes;
    gw_onnx_value *out = (gw_onnx_value *)o->m.output;
    for (int i = 0; i < o->m.n_outputs; i++)
        out[i] = *gw_onnx_shape(&o->m, out[i].name);
    return GW_OK;
}

const gw_onnx_value *gw_onnx_shape(const gw_onnx *m, const char *name)
{
    const gw_onnx_reader *o = m->owned;
    const gw_onnx_value key = {.name = name};
    return o->n_shapes ? bsearch(&key, o->shapes, (size_t)o->n_shapes, sizeof key, by_value_name) : NULL;
}
