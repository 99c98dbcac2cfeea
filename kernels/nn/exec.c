/* SPDX-License-Identifier: GPL-3.0-or-later
 * The executor: values by number, calls in order, one arena. At open every node's shape is worked out once
 * more with what is constant at hand (simplify.c has done so already, but a simplified model is data too),
 * and each value gets its place in the arena: the first gap that is free from its making to its last use,
 * largest values first. */
#include "kernels/nn/exec.h"

#include <stdlib.h>
#include <string.h>

static const size_t ALIGN = 64;
enum { MANY = 10000 }; /* values beyond which nobody looks for gaps: that takes their number squared */

typedef struct value {
    const char *name;
    gw_tensor t;
    int made, last; /* the calls between which it must stay; -1: before the first */
    size_t bytes, offset;
    bool placed; /* in the arena */
} value;

struct gw_exec {
    const gw_onnx *m;
    value *value; /* sorted by name */
    size_t n_values;
    gw_tensor_call *call;
    const gw_tensor_fast **fast; /* NULL: the operator's own run */
    int n_calls;
    const gw_tensor **in; /* all calls' inputs, one after the other */
    gw_tensor **out;
    unsigned char *arena;
};

static int by_name(const void *a, const void *b)
{
    return strcmp(((const value *)a)->name, ((const value *)b)->name);
}

static value *find(const gw_exec *e, const char *name)
{
    const value key = {.name = name};
    return e->n_values ? bsearch(&key, e->value, e->n_values, sizeof key, by_name) : NULL;
}

bool gw_exec_knows(const char *domain, const char *op, int64_t opset)
{
    gw_tensor_ops ops;
    gw_tensor_ref(&ops);
    return opset >= 1 && opset <= 21 && ops.find(domain, op);
}

static int no_memory(const gw_onnx *m)
{
    return gw_fail(GW_ENOMEM, "%s: no memory to run it", m->path);
}

/* ---- Open ---- */

static int make_values(gw_exec *e)
{
    const gw_onnx *m = e->m;
    size_t n = (size_t)m->n_inputs + (size_t)m->n_initialisers, edges_in = 0, edges_out = 0;
    for (int i = 0; i < m->n_nodes; i++) {
        n += (size_t)m->node[i].n_out;
        edges_in += (size_t)m->node[i].n_in;
        edges_out += (size_t)m->node[i].n_out;
    }
    e->value = calloc(n + 1, sizeof *e->value);
    e->call = calloc((size_t)m->n_nodes + 1, sizeof *e->call);
    e->fast = calloc((size_t)m->n_nodes + 1, sizeof *e->fast);
    e->in = calloc(edges_in + 1, sizeof *e->in);
    e->out = calloc(edges_out + 1, sizeof *e->out);
    if (!e->value || !e->call || !e->fast || !e->in || !e->out)
        return no_memory(m);
    for (int i = 0; i < m->n_inputs; i++) {
        value *v = &e->value[e->n_values++];
        *v = (value){.name = m->input[i].name, .made = -1};
        const int err = gw_tensor_set(&v->t, m->input[i].type, m->input[i].rank, m->input[i].dim);
        if (m->input[i].rank < 0 || err < 0)
            return gw_fail_at(GW_ENOTSUP, "%s: input '%s'", m->path, v->name);
    }
    for (int i = 0; i < m->n_initialisers; i++) {
        const gw_onnx_tensor *t = &m->initialiser[i];
        value *v = &e->value[e->n_values++];
        *v = (value){.name = t->name, .made = -1};
        const int err = gw_tensor_set(&v->t, t->type, t->rank, t->dim);
        if (err < 0)
            return gw_fail_at(err, "%s: initialiser '%s'", m->path, v->name);
        if ((uintptr_t)t->data % gw_tensor_type_bytes(t->type) != 0)
            return gw_fail(GW_ENOTSUP, "%s: initialiser '%s' lies crooked; simplify the model first", m->path,
                           t->name);
        v->t.data = (void *)t->data; /* read only: nothing writes to what is no output */
    }
    for (int i = 0; i < m->n_nodes; i++)
        for (int k = 0; k < m->node[i].n_out; k++)
            if (m->node[i].out[k][0])
                e->value[e->n_values++] =
                    (value){.name = m->node[i].out[k], .made = i, .last = i, .placed = true};
    qsort(e->value, e->n_values, sizeof *e->value, by_name);
    return GW_OK;
}

static int make_calls(gw_exec *e, const gw_kernels *k)
{
    const gw_onnx *m = e->m;
    const gw_tensor **in = e->in;
    gw_tensor **out = e->out;
    for (int i = 0; i < m->n_nodes; i++) {
        const gw_onnx_node *n = &m->node[i];
        gw_tensor_call *c = &e->call[i];
        *c = (gw_tensor_call){.op = k->tensor.find(n->domain, n->op),
                              .node = n,
                              .opset = m->opset,
                              .n_in = n->n_in,
                              .n_out = n->n_out,
                              .in = in,
                              .out = out};
        if (!c->op)
            return gw_fail(GW_ENOTSUP, "%s: node '%s' is of the operator %s, which is not built", m->path,
                           n->name, n->op);
        for (int j = 0; j < n->n_in; j++) {
            value *v = n->in[j][0] ? find(e, n->in[j]) : NULL;
            if (n->in[j][0] && !v)
                return gw_fail(GW_EFORMAT, "%s: nothing makes '%s'", m->path, n->in[j]);
            if (v)
                v->last = i;
            *in++ = v ? &v->t : NULL;
        }
        for (int j = 0; j < n->n_out; j++) {
            value *v = n->out[j][0] ? find(e, n->out[j]) : NULL;
            *out++ = v ? &v->t : NULL;
        }
        e->n_calls++;
        const int err = gw_tensor_shape(c);
        if (err < 0)
            return gw_fail_at(err, "%s", m->path);
    }
    for (int i = 0; i < m->n_outputs; i++) {
        value *v = find(e, m->output[i].name);
        if (!v)
            return gw_fail(GW_EFORMAT, "%s: nothing makes the output '%s'", m->path, m->output[i].name);
        v->last = m->n_nodes; /* stays to the end */
    }
    return GW_OK;
}

static int by_size(const void *a, const void *b)
{
    const value *x = *(value *const *)a, *y = *(value *const *)b;
    return x->bytes != y->bytes ? (x->bytes < y->bytes) - (x->bytes > y->bytes) : strcmp(x->name, y->name);
}

static int by_offset(const void *a, const void *b)
{
    const value *x = *(value *const *)a, *y = *(value *const *)b;
    return (x->offset > y->offset) - (x->offset < y->offset);
}

/* The lowest place where v overlaps none of those placed before that live at the same time. */
static size_t place(value *const *placed, size_t n, const value *v, const value **busy)
{
    size_t n_busy = 0, at = 0;
    for (size_t i = 0; i < n; i++)
        if (placed[i]->made <= v->last && v->made <= placed[i]->last)
            busy[n_busy++] = placed[i];
    qsort(busy, n_busy, sizeof *busy, by_offset);
    for (size_t i = 0; i < n_busy; i++) {
        if (busy[i]->offset >= at + v->bytes)
            break;
        if (busy[i]->offset + busy[i]->bytes > at)
            at = busy[i]->offset + busy[i]->bytes;
    }
    return at;
}

static int plan_memory(gw_exec *e)
{
    value **list = calloc(e->n_values + 1, sizeof *list);
    const value **busy = calloc(e->n_values + 1, sizeof *busy);
    size_t n = 0, scratch = 0, total = 0;
    if (!list || !busy) {
        free(list);
        free(busy);
        return no_memory(e->m);
    }
    for (int i = 0; i < e->n_calls; i++)
        scratch = e->call[i].scratch_bytes > scratch ? e->call[i].scratch_bytes : scratch;
    scratch = (scratch + ALIGN - 1) / ALIGN * ALIGN;
    for (size_t i = 0; i < e->n_values; i++) {
        value *v = &e->value[i];
        if (!v->placed)
            continue;
        v->bytes = (gw_tensor_elements(&v->t) * gw_tensor_type_bytes(v->t.type) + ALIGN) / ALIGN * ALIGN;
        list[n++] = v;
    }
    qsort(list, n, sizeof *list, by_size);
    for (size_t i = 0; i < n; i++) {
        list[i]->offset = n < MANY ? place(list, i, list[i], busy) : total;
        const size_t end = list[i]->offset + list[i]->bytes;
        total = end > total ? end : total;
    }
    free(list);
    free(busy);
    e->arena = aligned_alloc(ALIGN, scratch + total + ALIGN);
    if (!e->arena)
        return gw_fail(GW_ENOMEM, "%s: no memory for %zu MiB of activations", e->m->path,
                       (scratch + total) >> 20);
    memset(e->arena, 0, scratch + total + ALIGN);
    for (size_t i = 0; i < e->n_values; i++)
        if (e->value[i].placed)
            e->value[i].t.data = e->arena + scratch + e->value[i].offset;
    for (int i = 0; i < e->n_calls; i++)
        e->call[i].scratch = e->arena;
    return GW_OK;
}

static int make_ready(gw_exec *e, const gw_kernels *k)
{
    GW_TRY(make_values(e));
    GW_TRY(make_calls(e, k));
    /* While its data is NULL a tensor is not constant: libraries may keep copies of those that are. */
    for (int i = 0; i < e->n_calls; i++) {
        const gw_tensor_fast *f = k->tensor.fast(e->call[i].node->domain, e->call[i].node->op);
        const int err = f ? f->open(&e->call[i]) : GW_ENOTSUP;
        if (err == GW_OK)
            e->fast[i] = f;
        else if (err != GW_ENOTSUP)
            return gw_fail_at(err, "%s", e->m->path);
    }
    return plan_memory(e);
}

int gw_exec_open(gw_exec **out, const gw_onnx *m, const gw_kernels *k)
{
    *out = NULL;
    gw_exec *e = calloc(1, sizeof *e);
    if (!e)
        return no_memory(m);
    e->m = m;
    const int err = make_ready(e, k);
    if (err < 0) {
        gw_exec_close(&e);
        return err;
    }
    *out = e;
    return GW_OK;
}

void gw_exec_close(gw_exec **out)
{
    gw_exec *e = *out;
    if (!e)
        return;
    for (int i = 0; i < e->n_calls; i++)
        if (e->fast[i])
            e->fast[i]->close(&e->call[i]);
    free(e->value);
    free(e->call);
    free(e->fast);
    free(e->in);
    free(e->out);
    free(e->arena);
    free(e);
    *out = NULL;
}

/* ---- Run ---- */

static int take_inputs(gw_exec *e, const gw_tensor *in)
{
    for (int i = 0; i < e->m->n_inputs; i++) {
        value *v = find(e, e->m->input[i].name);
        if (in[i].type != v->t.type || in[i].rank != v->t.rank ||
            memcmp(in[i].dim, v->t.dim, (size_t)v->t.rank * sizeof *in[i].dim) != 0)
            return gw_fail(GW_EMISMATCH, "%s: input '%s' has another type or shape than the model wants",
                           e->m->path, v->name);
        v->t.data = in[i].data;
    }
    return GW_OK;
}

int gw_exec_run(gw_exec *e, const gw_tensor *in, gw_tensor *out)
{
    GW_TRY(take_inputs(e, in));
    for (int i = 0; i < e->n_calls; i++) {
        const int err = e->fast[i] ? e->fast[i]->run(&e->call[i]) : gw_tensor_run(&e->call[i]);
        if (err < 0)
            return gw_fail_at(err, "%s", e->m->path);
    }
    for (int i = 0; i < e->m->n_outputs; i++)
        out[i] = find(e, e->m->output[i].name)->t;
    return GW_OK;
}
