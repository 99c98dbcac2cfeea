/* SPDX-License-Identifier: GPL-3.0-or-later
 * The order of the passes, and the first of them: shapes and constants, by running reference operators in
 * order. The others are in simplify_*.c.
 *
 * A hostile file of a hundred bytes can ask for an hour of constant arithmetic: folding has a budget, and
 * what goes beyond it stays in the graph as it is. */
#include "kernels/nn/simplify_graph.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const double FOLD_WORK = 1e8;                /* elements and multiply-adds, */
static const size_t FOLD_BYTES = (size_t)256 << 20; /* and memory, in all */
static const size_t SPARE_BYTES = (size_t)1 << 30;  /* besides four times the weights, for everything */
enum { MAX_NEW_ATTRIBUTES = 4 };

/* ---- Questions ---- */

int gw_simplify_root(const gw_simplify *s, int value)
{
    while (value >= 0 && s->value[value].alias >= 0)
        value = s->value[value].alias;
    return value;
}

gw_tensor *gw_simplify_tensor(const gw_simplify *s, int value)
{
    return &s->value[gw_simplify_root(s, value)].t;
}

bool gw_simplify_is_constant(const gw_simplify *s, int value)
{
    return value >= 0 && gw_simplify_tensor(s, value)->data;
}

bool gw_simplify_number(const gw_simplify *s, int value, double *out)
{
    if (!gw_simplify_is_constant(s, value))
        return false;
    const gw_tensor *t = gw_simplify_tensor(s, value);
    if (gw_tensor_elements(t) != 1)
        return false;
    *out = t->type == GW_ONNX_FLOAT    ? (double)*(const float *)t->data
           : t->type == GW_ONNX_DOUBLE ? *(const double *)t->data
           : t->type == GW_ONNX_INT64  ? (double)*(const int64_t *)t->data
           : t->type == GW_ONNX_INT32  ? *(const int32_t *)t->data
                                       : *(const uint8_t *)t->data;
    return true;
}

int gw_simplify_in(const gw_simplify *s, const gw_snode *n, int i)
{
    return i < n->n.n_in ? gw_simplify_root(s, n->in[i]) : -1;
}

gw_snode *gw_simplify_maker(const gw_simplify *s, int value, const char *op)
{
    const int root = gw_simplify_root(s, value);
    if (root < 0 || s->value[root].maker < 0)
        return NULL;
    gw_snode *n = &s->node[s->value[root].maker];
    return !n->gone && strcmp(n->n.op, op) == 0 && n->out[0] == root ? n : NULL;
}

gw_snode *gw_simplify_only(const gw_simplify *s, int value, const char *op)
{
    gw_snode *n = gw_simplify_maker(s, value, op);
    const gw_svalue *v = n ? &s->value[gw_simplify_root(s, value)] : NULL;
    return n && v->uses == 1 && !v->output ? n : NULL;
}

/* ---- Values ---- */

int gw_simplify_value(gw_simplify *s, const char *name)
{
    if (s->n_values == s->room) {
        const int room = s->room ? 2 * s->room : 1024;
        gw_svalue *more = gw_onnx_take(s->o, (size_t)room, sizeof *more);
        if (!more)
            return s->o->err;
        if (s->n_values)
            memcpy(more, s->value, (size_t)s->n_values * sizeof *more);
        s->value = more;
        s->room = room;
    }
    s->value[s->n_values] = (gw_svalue){.name = name, .maker = -1, .alias = -1};
    return s->n_values++;
}

int gw_simplify_data(gw_simplify *s, gw_tensor *t)
{
    t->data = gw_onnx_take(s->o, gw_tensor_elements(t) + 1, gw_tensor_type_bytes(t->type));
    return t->data ? GW_OK : s->o->err;
}

int gw_simplify_new_name(gw_simplify *s)
{
    char name[48];
    snprintf(name, sizeof name, "gwstream/%d", s->made++);
    const char *copy = gw_simplify_text(s->o, name);
    return copy ? gw_simplify_value(s, copy) : s->o->err;
}

int gw_simplify_constant(gw_simplify *s, gw_onnx_type type, int rank, const int64_t *dim, int *value)
{
    *value = gw_simplify_new_name(s);
    if (*value < 0)
        return *value;
    GW_TRY(gw_tensor_set(&s->value[*value].t, type, rank, dim));
    return gw_simplify_data(s, &s->value[*value].t);
}

int gw_simplify_become(gw_simplify *s, gw_snode *n, const char *domain, const char *op, int n_in,
                       const int *in)
{
    int *inputs = gw_onnx_take(s->o, (size_t)n_in, sizeof *inputs);
    gw_onnx_attr *attr = gw_onnx_take(s->o, MAX_NEW_ATTRIBUTES, sizeof *attr);
    if (!inputs || !attr)
        return s->o->err;
    memcpy(inputs, in, (size_t)n_in * sizeof *in);
    n->in = inputs;
    n->n.n_in = n_in;
    n->n.n_out = 1;
    n->n.domain = domain;
    n->n.op = op;
    n->n.attr = attr;
    n->n.n_attr = 0;
    n->op = s->ops.find(domain, op);
    return GW_OK;
}

void gw_simplify_set_int(gw_snode *n, const char *name, int64_t i)
{
    ((gw_onnx_attr *)n->n.attr)[n->n.n_attr++] = (gw_onnx_attr){.name = name, .type = GW_ATTR_INT, .i = i};
}

void gw_simplify_set_float(gw_snode *n, const char *name, double f)
{
    ((gw_onnx_attr *)n->n.attr)[n->n.n_attr++] =
        (gw_onnx_attr){.name = name, .type = GW_ATTR_FLOAT, .f = (float)f};
}

void gw_simplify_count(gw_simplify *s)
{
    for (int i = 0; i < s->n_values; i++)
        s->value[i].uses = 0;
    for (int i = 0; i < s->n_values; i++) /* an alias that is an output uses what it stands for */
        if (s->value[i].output && s->value[i].alias >= 0)
            s->value[gw_simplify_root(s, i)].uses++;
    for (int i = s->n_nodes - 1; i >= 0; i--) {
        gw_snode *n = &s->node[i];
        bool wanted = false;
        for (int k = 0; k < n->n.n_out && !n->gone; k++)
            wanted |= n->out[k] >= 0 && s->value[n->out[k]].alias < 0 &&
                      (s->value[n->out[k]].uses > 0 || s->value[n->out[k]].output);
        n->gone |= !wanted;
        for (int k = 0; k < n->n.n_in && !n->gone; k++)
            if (n->in[k] >= 0)
                s->value[gw_simplify_root(s, n->in[k])].uses++;
    }
}

/* ---- Shapes, constants, aliases ---- */

static int name_unknown(gw_simplify *s)
{
    char list[700] = "";
    size_t used = 0;
    int unknown = 0, told = 0;
    for (int i = 0; i < s->n_nodes; i++) {
        gw_snode *n = &s->node[i];
        n->op = s->ops.find(n->n.domain, n->n.op);
        if (n->op || n->gone)
            continue;
        unknown++;
        char one[160];
        const int bytes = snprintf(one, sizeof one, "%s'%.60s' (%.30s%s%.40s)", told ? ", " : "", n->n.name,
                                   n->n.domain, n->n.domain[0] ? "." : "", n->n.op);
        if (bytes > 0 && (size_t)bytes < sizeof one && used + (size_t)bytes < sizeof list) {
            memcpy(list + used, one, (size_t)bytes + 1);
            used += (size_t)bytes;
            told++;
        }
    }
    if (!unknown)
        return GW_OK;
    return gw_onnx_fail(s->o, GW_ENOTSUP, "opset %lld: %d node%s of operators that are not built: %s%s",
                        (long long)s->o->m.opset, unknown, unknown > 1 ? "s" : "", list,
                        told < unknown ? " ..." : "");
}

static bool same_shape(const gw_tensor *a, const gw_tensor *b)
{
    return a->type == b->type && a->rank == b->rank &&
           memcmp(a->dim, b->dim, (size_t)a->rank * sizeof *a->dim) == 0;
}

/* Does this operator, whose output has the shape of its input, hand its input on? */
static bool hands_on(const gw_simplify *s, const gw_snode *n)
{
    static const char *const always[] = {"Identity", "Dropout", "Cast",      "CastLike", "Reshape",
                                         "Flatten",  "Squeeze", "Unsqueeze", "Expand"};
    static const char *const alone[] = {"Concat", "Sum", "Max", "Min", "Mean"};
    for (size_t i = 0; i < sizeof always / sizeof *always; i++)
        if (strcmp(n->n.op, always[i]) == 0)
            return true;
    for (size_t i = 0; i < sizeof alone / sizeof *alone; i++)
        if (strcmp(n->n.op, alone[i]) == 0)
            return n->n.n_in == 1;
    if (strcmp(n->n.op, "Transpose") == 0) {
        const gw_onnx_attr *perm = gw_onnx_attr_find(&n->n, "perm");
        const int rank = gw_simplify_tensor(s, n->in[0])->rank;
        bool same = perm || rank <= 1;
        for (int i = 0; perm && i < perm->count; i++)
            same &= perm->ints[i] == i;
        return same;
    }
    if (strcmp(n->n.op, "Pad") == 0) { /* the same shape with pads of both signs is no copy */
        const gw_onnx_attr *pads = gw_onnx_attr_find(&n->n, "pads");
        const gw_tensor *t = !pads && n->n.n_in > 1 ? gw_simplify_tensor(s, n->in[1]) : NULL;
        bool none = pads || (t && t->data && t->type == GW_ONNX_INT64);
        for (int i = 0; pads && i < pads->count; i++)
            none &= pads->ints[i] == 0;
        for (size_t i = 0; none && t && i < gw_tensor_elements(t); i++)
            none &= ((const int64_t *)t->data)[i] == 0;
        return none;
    }
    return false;
}

/* Alone among the outputs: the others (a mask) are wanted by nobody. */
static bool one_output(const gw_simplify *s, const gw_snode *n)
{
    for (int k = 1; k < n->n.n_out; k++)
        if (n->out[k] >= 0 && (s->value[n->out[k]].uses || s->value[n->out[k]].output))
            return false;
    return true;
}

static int fold(gw_simplify *s, gw_snode *n, gw_tensor_call *c)
{
    for (int k = 0; k < n->n.n_out; k++)
        if (c->out[k])
            GW_TRY(gw_simplify_data(s, c->out[k]));
    if (c->scratch_bytes && !(c->scratch = malloc(c->scratch_bytes)))
        return gw_onnx_fail(s->o, GW_ENOMEM, "no memory for %zu bytes", c->scratch_bytes);
    const int err = gw_tensor_run(c);
    free(c->scratch);
    s->work -= c->work;
    n->gone = true;
    return err;
}

static int infer(gw_simplify *s, gw_snode *n, const gw_tensor **in, gw_tensor **out)
{
    bool constant = true;
    const bool asks_shape = strcmp(n->n.op, "Shape") == 0 || strcmp(n->n.op, "Size") == 0;
    for (int k = 0; k < n->n.n_in; k++) {
        in[k] = n->in[k] < 0 ? NULL : gw_simplify_tensor(s, n->in[k]);
        constant &= !in[k] || in[k]->data || asks_shape;
    }
    for (int k = 0; k < n->n.n_out; k++)
        out[k] = n->out[k] < 0 ? NULL : &s->value[n->out[k]].t;
    gw_tensor_call c = {.op = n->op,
                        .node = &n->n,
                        .opset = s->o->m.opset,
                        .n_in = n->n.n_in,
                        .n_out = n->n.n_out,
                        .in = in,
                        .out = out};
    GW_TRY(gw_tensor_shape(&c));
    double bytes = (double)c.scratch_bytes;
    for (int k = 0; k < n->n.n_out; k++)
        if (out[k])
            bytes += (double)gw_tensor_elements(out[k]) * (double)gw_tensor_type_bytes(out[k]->type);
    if (constant && c.work <= s->work && bytes <= (double)s->bytes) {
        s->bytes -= (size_t)bytes;
        return fold(s, n, &c);
    }
    if (n->n.n_in > 0 && n->in[0] >= 0 && same_shape(in[0], out[0]) && hands_on(s, n) && one_output(s, n)) {
        s->value[n->out[0]].alias = gw_simplify_root(s, n->in[0]);
        n->gone = true;
    }
    return GW_OK;
}

static int propagate(gw_simplify *s)
{
    int most = 1;
    for (int i = 0; i < s->n_nodes; i++) {
        most = s->node[i].n.n_in > most ? s->node[i].n.n_in : most;
        most = s->node[i].n.n_out > most ? s->node[i].n.n_out : most;
    }
    const gw_tensor **in = gw_onnx_take(s->o, (size_t)most, sizeof *in);
    gw_tensor **out = gw_onnx_take(s->o, (size_t)most, sizeof *out);
    if (!in || !out)
        return s->o->err;
    for (int i = 0; i < s->n_nodes; i++) {
        if (s->node[i].gone)
            continue;
        const int err = infer(s, &s->node[i], in, out);
        if (err < 0)
            return gw_fail_at(err, "%s", s->o->m.path);
    }
    gw_simplify_count(s);
    return GW_OK;
}

static int simplify(gw_onnx_reader *o, const gw_onnx *m, const gw_onnx_binding *bind)
{
    gw_simplify s = {.o = o, .work = FOLD_WORK, .bytes = FOLD_BYTES};
    gw_tensor_ref(&s.ops);
    o->arena_limit = SPARE_BYTES;
    for (int i = 0; i < m->n_initialisers; i++)
        o->arena_limit += 4 * m->initialiser[i].bytes;
    GW_TRY(gw_simplify_import(&s, m, bind));
    GW_TRY(name_unknown(&s));
    GW_TRY(propagate(&s));
    GW_TRY(gw_simplify_norms(&s));
    GW_TRY(gw_simplify_fuse(&s));
    GW_TRY(gw_simplify_affine(&s));
    return gw_simplify_export(&s);
}

int gw_onnx_simplify(gw_onnx **out, const gw_onnx *m, const gw_onnx_binding *bind)
{
    *out = NULL;
    gw_onnx_reader *o = calloc(1, sizeof *o);
    if (!o)
        return gw_fail(GW_ENOMEM, "%s: no memory", m->path);
    o->index = -1;
    o->m.owned = o;
    o->m.path = m->path;
    const int err = simplify(o, m, bind);
    if (err < 0) {
        gw_onnx_free_reader(o);
        return err;
    }
    *out = &o->m;
    return GW_OK;
}
