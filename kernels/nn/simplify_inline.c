/* SPDX-License-Identifier: GPL-3.0-or-later
 * Copies a model's nodes into another model, and writes the model's own functions out in place: their
 * inputs and outputs become the call's, all other names get the call's name before theirs. Bounded, since
 * eight functions that each call the next ten times are ten million nodes. */
#include "kernels/nn/simplify_graph.h"

#include <stdio.h>
#include <string.h>

enum { MAX_DEPTH = 8, MAX_FUNCTIONS = 4096 };

typedef struct inliner {
    gw_onnx_reader *o;
    const gw_onnx *m;
    gw_onnx_node *node; /* room for GW_ONNX_MAX_PARTS at most */
    int n_nodes, room;
} inliner;

/* How names of the graph that is being copied are to be called. */
typedef struct scope {
    const struct scope *outer;
    const char *prefix;         /* "" at the top */
    const gw_onnx_function *fn; /* NULL at the top */
    const gw_onnx_node *call;
    int depth;
} scope;

const char *gw_simplify_text(gw_onnx_reader *o, const char *text)
{
    const size_t n = strlen(text) + 1;
    char *copy = gw_onnx_take(o, n, 1);
    if (copy)
        memcpy(copy, text, n);
    return copy;
}

static int copy_bytes(gw_onnx_reader *o, const void *from, size_t count, size_t bytes, const void **out)
{
    void *to = gw_onnx_take(o, count, bytes);
    if (!to)
        return o->err;
    if (count)
        memcpy(to, from, count * bytes);
    *out = to;
    return GW_OK;
}

int gw_simplify_attr(gw_onnx_reader *o, const gw_onnx_attr *from, gw_onnx_attr *to)
{
    *to = *from;
    to->from = NULL;
    const void *copy = NULL;
    if (!(to->name = gw_simplify_text(o, from->name)) || (from->s && !(to->s = gw_simplify_text(o, from->s))))
        return o->err;
    if (from->floats) {
        GW_TRY(copy_bytes(o, from->floats, (size_t)from->count, sizeof *from->floats, &copy));
        to->floats = copy;
    }
    if (from->ints) {
        GW_TRY(copy_bytes(o, from->ints, (size_t)from->count, sizeof *from->ints, &copy));
        to->ints = copy;
    }
    if (from->t) {
        GW_TRY(copy_bytes(o, from->t, 1, sizeof *from->t, &copy));
        gw_onnx_tensor *t = (gw_onnx_tensor *)copy; /* its data stays where it is, see simplify_export.c */
        if (!(t->name = gw_simplify_text(o, from->t->name)))
            return o->err;
        to->t = t;
    }
    return GW_OK;
}

static const char *prefixed(gw_onnx_reader *o, const char *prefix, const char *name)
{
    if (prefix[0] == '\0')
        return gw_simplify_text(o, name);
    const size_t n = strlen(prefix) + strlen(name) + 2;
    char *both = gw_onnx_take(o, n, 1);
    if (both)
        snprintf(both, n, "%s/%s", prefix, name);
    return both;
}

/* NULL: no memory. */
static const char *renamed(gw_onnx_reader *o, const scope *sc, const char *name)
{
    if (name[0] == '\0')
        return "";
    for (int i = 0; sc->fn && i < sc->fn->n_in; i++)
        if (strcmp(sc->fn->in[i], name) == 0)
            return i < sc->call->n_in ? renamed(o, sc->outer, sc->call->in[i]) : "";
    for (int i = 0; sc->fn && i < sc->fn->n_out; i++)
        if (strcmp(sc->fn->out[i], name) == 0 && i < sc->call->n_out && sc->call->out[i][0])
            return renamed(o, sc->outer, sc->call->out[i]);
    return prefixed(o, sc->prefix, name);
}

static const gw_onnx_attr *given(const scope *sc, const char *name)
{
    const gw_onnx_attr *a = gw_onnx_attr_find(sc->call, name);
    for (int i = 0; !a && i < sc->fn->n_defaults; i++)
        if (strcmp(sc->fn->defaults[i].name, name) == 0)
            a = &sc->fn->defaults[i];
    if (a && a->from) /* the call is in a function itself and hands its own on */
        return sc->outer->fn ? given(sc->outer, a->from) : NULL;
    return a;
}

static int copy_node(inliner *b, const scope *sc, const gw_onnx_node *from)
{
    gw_onnx_reader *o = b->o;
    if (b->n_nodes == GW_ONNX_MAX_PARTS)
        return gw_onnx_fail(o, GW_EFORMAT, "more than %d nodes with its functions written out",
                            GW_ONNX_MAX_PARTS);
    if (b->n_nodes == b->room) {
        const int room = b->room ? 2 * b->room : 256;
        gw_onnx_node *more = gw_onnx_take(o, (size_t)room, sizeof *more);
        if (!more)
            return o->err;
        if (b->n_nodes)
            memcpy(more, b->node, (size_t)b->n_nodes * sizeof *more);
        b->node = more;
        b->room = room;
    }
    gw_onnx_node *n = &b->node[b->n_nodes];
    *n = (gw_onnx_node){.n_in = from->n_in, .n_out = from->n_out};
    const char **in = gw_onnx_take(o, (size_t)from->n_in, sizeof *in),
               **out = gw_onnx_take(o, (size_t)from->n_out, sizeof *out);
    gw_onnx_attr *attr = gw_onnx_take(o, (size_t)from->n_attr + 4, sizeof *attr); /* and a few of our own */
    n->name = prefixed(o, sc->prefix, from->name);
    n->op = gw_simplify_text(o, from->op);
    n->domain = gw_simplify_text(o, from->domain);
    if (!in || !out || !attr || !n->name || !n->op || !n->domain)
        return o->err;
    for (int i = 0; i < n->n_in; i++)
        if (!(in[i] = renamed(o, sc, from->in[i])))
            return o->err;
    for (int i = 0; i < n->n_out; i++)
        if (!(out[i] = renamed(o, sc, from->out[i])))
            return o->err;
    n->in = in;
    n->out = out;
    n->attr = attr;
    for (int i = 0; i < from->n_attr; i++) {
        const gw_onnx_attr *a = &from->attr[i];
        if (a->from)
            a = sc->fn ? given(sc, a->from) : NULL;
        if (!a)
            continue; /* left out by the call too */
        GW_TRY(gw_simplify_attr(o, a, &attr[n->n_attr]));
        if (!(attr[n->n_attr].name = gw_simplify_text(o, from->attr[i].name)))
            return o->err;
        n->n_attr++;
    }
    b->n_nodes++;
    return GW_OK;
}

static const gw_onnx_function *function_of(const gw_onnx *m, const gw_onnx_node *n)
{
    for (int i = 0; i < m->n_functions; i++)
        if (strcmp(m->function[i].name, n->op) == 0 && strcmp(m->function[i].domain, n->domain) == 0)
            return &m->function[i];
    return NULL;
}

static int copy_graph(inliner *b, const scope *sc, const gw_onnx_node *node, int n_nodes);

static int write_out(inliner *b, const scope *outer, const gw_onnx_node *call, const gw_onnx_function *fn)
{
    const scope inner = {.outer = outer,
                         .prefix = prefixed(b->o, outer->prefix, call->name),
                         .fn = fn,
                         .call = call,
                         .depth = outer->depth + 1};
    if (!inner.prefix)
        return b->o->err;
    if (inner.depth > MAX_DEPTH)
        return gw_onnx_fail(b->o, GW_EFORMAT, "function '%s': functions in functions more than %d deep",
                            fn->name, MAX_DEPTH);
    if (fn->opset && fn->opset != b->m->opset)
        return gw_onnx_fail(b->o, GW_ENOTSUP,
                            "function '%s' is written in operator set %lld, the model in %lld", fn->name,
                            (long long)fn->opset, (long long)b->m->opset);
    if (call->n_in > fn->n_in || call->n_out > fn->n_out)
        return gw_onnx_fail(b->o, GW_EMISMATCH,
                            "node '%s' gives function '%s' %d inputs and %d outputs, not %d and %d",
                            call->name, fn->name, call->n_in, call->n_out, fn->n_in, fn->n_out);
    return copy_graph(b, &inner, fn->node, fn->n_nodes);
}

static int copy_graph(inliner *b, const scope *sc, const gw_onnx_node *node, int n_nodes)
{
    for (int i = 0; i < n_nodes; i++) {
        const gw_onnx_function *fn = function_of(b->m, &node[i]);
        GW_TRY(fn ? write_out(b, sc, &node[i], fn) : copy_node(b, sc, &node[i]));
    }
    return GW_OK;
}

int gw_simplify_inline(gw_onnx_reader *o, const gw_onnx *m)
{
    if (m->n_functions > MAX_FUNCTIONS)
        return gw_onnx_fail(o, GW_EFORMAT, "%d functions; at most %d are read", m->n_functions,
                            MAX_FUNCTIONS);
    inliner b = {.o = o, .m = m};
    const scope top = {.prefix = ""};
    GW_TRY(copy_graph(&b, &top, m->node, m->n_nodes));
    o->m.node = b.node;
    o->m.n_nodes = b.n_nodes;
    return GW_OK;
}
