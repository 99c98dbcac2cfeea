/* SPDX-License-Identifier: GPL-3.0-or-later
 * Walks a simplified model once, from the inputs to the outputs, and says of every node what it makes, what
 * it costs, how many weights it holds, and which samples of the input a column of its output depends on. For
 * `gwstream model show`; runs nothing. Where a node's handling of time is not known here, its output counts
 * as depending on the whole window: never too little. */
#include "pipeline/cmd_model.h"

#include "kernels/nn/simplify.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct named { /* what is known of one value */
    const char *name;
    gw_model_reach reach;
} named;

typedef struct walk {
    const gw_onnx *m;
    named *value; /* sorted by name */
    size_t n_values;
    const gw_onnx_tensor **weight; /* sorted by name */
    int64_t samples;
} walk;

/* ---- finding things by name ---- */

static int by_name(const void *a, const void *b)
{
    return strcmp(((const named *)a)->name, ((const named *)b)->name);
}

static int by_tensor(const void *a, const void *b)
{
    return strcmp((*(const gw_onnx_tensor *const *)a)->name, (*(const gw_onnx_tensor *const *)b)->name);
}

static named *find(const walk *w, const char *name)
{
    const named key = {.name = name};
    return bsearch(&key, w->value, w->n_values, sizeof key, by_name);
}

static const gw_onnx_tensor *weight(const walk *w, const gw_onnx_node *n, int i)
{
    if (i >= n->n_in || !n->in[i][0] || w->m->n_initialisers == 0)
        return NULL;
    const gw_onnx_tensor t = {.name = n->in[i]}, *key = &t;
    const gw_onnx_tensor **at =
        bsearch(&key, w->weight, (size_t)w->m->n_initialisers, sizeof *w->weight, by_tensor);
    return at ? *at : NULL;
}

static bool is(const gw_onnx_node *n, const char *names)
{
    const size_t length = strlen(n->op);
    for (const char *at = names; (at = strstr(at, n->op)); at += length)
        if ((at == names || at[-1] == ' ') && (at[length] == '\0' || at[length] == ' '))
            return true;
    return false;
}

static int64_t attribute(const gw_onnx_node *n, const char *name, int i, int64_t absent)
{
    const gw_onnx_attr *a = gw_onnx_attr_find(n, name);
    if (a && a->type == GW_ATTR_INT)
        return a->i;
    return a && a->type == GW_ATTR_INTS && i >= 0 && i < a->count ? a->ints[i] : absent;
}

/* The i-th of integers that old files have as an attribute and new ones as input `in`. */
static bool whole(const walk *w, const gw_onnx_node *n, const char *name, int in, int64_t i, int64_t *v)
{
    const gw_onnx_attr *a = gw_onnx_attr_find(n, name);
    if (a && a->type == GW_ATTR_INTS && i < a->count) {
        *v = a->ints[i];
        return true;
    }
    const gw_onnx_tensor *t = in >= 0 ? weight(w, n, in) : NULL;
    const size_t each = t && t->type == GW_ONNX_INT64 ? 8 : t && t->type == GW_ONNX_INT32 ? 4 : 0;
    if (each == 0 || (size_t)i >= t->bytes / each)
        return false;
    int32_t narrow;
    memcpy(each == 8 ? (void *)v : (void *)&narrow, (const char *)t->data + (size_t)i * each, each);
    *v = each == 8 ? *v : narrow;
    return true;
}

/* Where in a list of axes is this one: its index, or -1. */
static int64_t position(const walk *w, const gw_onnx_node *n, const char *name, int in, int axis, int rank)
{
    int64_t v;
    for (int64_t i = 0; whole(w, n, name, in, i, &v); i++)
        if ((v < 0 ? v + rank : v) == axis)
            return i;
    return -1;
}

/* ---- time ---- */

static const gw_model_reach nothing = {.axis = -1, .none = true};

static gw_model_reach everything(const walk *w, int axis)
{
    return (gw_model_reach){.axis = axis, .window = true, .last = (double)w->samples - 1};
}

static gw_model_reach join(const walk *w, gw_model_reach a, gw_model_reach b)
{
    if (a.none)
        return b;
    if (b.none)
        return a;
    if (a.window || b.window || a.axis != b.axis || fabs(a.step - b.step) > 1e-9)
        return everything(w, a.axis == b.axis ? a.axis : -1);
    a.first = fmin(a.first, b.first);
    a.last = fmax(a.last, b.last);
    return a;
}

/* A kernel that steps along time: columns i * stride - left ... + span of what it reads. */
static gw_model_reach slide(const walk *w, const gw_onnx_node *n, gw_model_reach r, int64_t in, int64_t out,
                            int64_t kernel, bool up)
{
    const int64_t stride = attribute(n, "strides", 0, 1),
                  span = (kernel - 1) * attribute(n, "dilations", 0, 1);
    int64_t left = attribute(n, "pads", 0, 0);
    const gw_onnx_attr *same = gw_onnx_attr_find(n, "auto_pad");
    if (r.axis != 2 || r.window || stride < 1)
        return everything(w, 2);
    if (same && same->type == GW_ATTR_STRING && strncmp(same->s, "SAME", 4) == 0) {
        const int64_t all = up ? (in - 1) * stride + span + 1 - out : (out - 1) * stride + span + 1 - in;
        left = all < 0 ? 0 : strcmp(same->s, "SAME_LOWER") == 0 ? (all + 1) / 2 : all / 2;
    }
    if (up) { /* the output column t is made of input columns (t + left - span) / stride ... (t + left) /
                 stride */
        r.step /= (double)stride;
        r.first += (double)(left - span) * r.step;
        r.last += (double)left * r.step;
    } else {
        r.first -= (double)left * r.step;
        r.last += (double)(span - left) * r.step;
        r.step *= (double)stride;
    }
    return r;
}

/* Of all columns that there are: one value that has no time any more. */
static gw_model_reach pooled(const walk *w, gw_model_reach r, int64_t columns)
{
    if (r.window || columns < 1)
        return everything(w, -1);
    r.last += r.step * (double)(columns - 1);
    r.step = 0;
    r.axis = -1;
    return r;
}

#define SAME_SHAPE                                                                                           \
    "Relu Tanh Sigmoid LeakyRelu Elu Selu Celu PRelu Softplus Softsign HardSigmoid HardSwish Mish Silu "     \
    "Gelu "                                                                                                  \
    "Clip Abs Neg Exp Log Sqrt Reciprocal Erf Pow Add Sub Mul Div Max Min Where Cast Identity Dropout "      \
    "BatchNormalization ThresholdedRelu Sum Mean Floor Ceil Round Sign Not And Or Xor Equal Less Greater"

static gw_model_reach reach(const walk *w, const gw_onnx_node *n, const gw_onnx_value *x,
                            const gw_onnx_value *y)
{
    gw_model_reach r = nothing;
    int timed = 0;
    for (int i = 0; i < n->n_in; i++) {
        const named *v = n->in[i][0] ? find(w, n->in[i]) : NULL;
        if (v && !v->reach.none) {
            r = join(w, r, v->reach);
            timed++;
        }
    }
    if (timed == 0 || !x || !y)
        return timed ? everything(w, -1) : nothing;
    if (r.axis < 0) /* pooled before: nothing brings time back */
        return r;
    const int axis = r.axis;
    if (axis >= x->rank)
        return everything(w, -1);
    const int64_t columns = x->dim[axis];
    if (is(n, "Conv ConvTranspose")) {
        const gw_onnx_tensor *k = weight(w, n, 1);
        return timed == 1 && k && k->rank == 3 && axis == 2
                   ? slide(w, n, r, columns, y->dim[2], k->dim[2], n->op[4] == 'T')
                   : everything(w, axis);
    }
    if (is(n, "MaxPool AveragePool LpPool"))
        return x->rank == 3 && axis == 2
                   ? slide(w, n, r, columns, y->dim[2], attribute(n, "kernel_shape", 0, 1), false)
                   : everything(w, axis);
    if (is(n, "GlobalAveragePool GlobalMaxPool"))
        return pooled(w, r, columns);
    if (is(n, "ReduceMean ReduceMax ReduceMin ReduceSum ReduceL1 ReduceL2 ReduceSumSquare ReduceProd")) {
        if (position(w, n, "axes", 1, axis, x->rank) >= 0)
            return pooled(w, r, columns);
        return x->rank == y->rank ? r : everything(w, -1);
    }
    if (is(n, "Concat")) {
        const int64_t along = attribute(n, "axis", 0, 0);
        return (along < 0 ? along + y->rank : along) != axis ? r : everything(w, axis);
    }
    if (is(n, "Slice Split")) {
        int64_t start = 0, step = 1;
        if (n->op[1] == 'p')
            return attribute(n, "axis", 0, 0) != axis && attribute(n, "axis", 0, 0) + x->rank != axis
                       ? r
                       : everything(w, axis);
        const bool axes = n->n_in > 3 || gw_onnx_attr_find(n, "axes");
        const int64_t at = axes ? position(w, n, "axes", 3, axis, x->rank) : axis;
        if (at >= 0 && (!whole(w, n, "starts", 1, at, &start) ||
                        (n->n_in > 4 && (!whole(w, n, "", 4, at, &step) || step != 1))))
            return everything(w, axis);
        start = start < 0 ? start + columns : start;
        start = start < 0 ? 0 : start > columns ? columns : start;
        r.first += r.window ? 0 : (double)start * r.step;
        r.last += r.window ? 0 : (double)start * r.step;
        return r;
    }
    if (is(n, "Pad")) {
        int64_t before = 0;
        if (n->n_in > 3 || !whole(w, n, "pads", 1, axis, &before) || r.window)
            return everything(w, axis);
        r.first -= (double)before * r.step;
        r.last -= (double)before * r.step;
        return r;
    }
    if (is(n, "Reshape Squeeze Unsqueeze Flatten")) { /* time stays the last axis, or is lost */
        if (axis != x->rank - 1 || y->rank < 1 || y->dim[y->rank - 1] != columns)
            return columns == 1 ? pooled(w, r, 1) : everything(w, -1);
        r.axis = y->rank - 1;
        return r;
    }
    if (is(n, "Transpose")) {
        for (int i = 0; i < y->rank; i++)
            if (attribute(n, "perm", i, y->rank - 1 - i) == axis) {
                r.axis = i;
                return r;
            }
    }
    if (is(n, "Softmax LogSoftmax LayerNormalization")) {
        const int64_t from = attribute(n, "axis", 0, -1);
        const int64_t first = from < 0 ? from + x->rank : from;
        return n->op[1] == 'a'
                   ? (axis < first ? r : everything(w, axis)) /* it takes all axes from there on */
                   : (axis != first ? r : everything(w, axis));
    }
    if (is(n, "MatMul Gemm") && weight(w, n, 1) && axis < x->rank - 1)
        return r;
    return is(n, SAME_SHAPE) && y->rank == x->rank ? r : everything(w, axis < y->rank ? axis : -1);
}

/* ---- cost ---- */

static double product(const gw_onnx_value *v)
{
    double n = 1;
    for (int i = 0; v && i < v->rank; i++)
        n *= (double)v->dim[i];
    return v ? n : 0;
}

static double flop(const walk *w, const gw_onnx_node *n, const gw_onnx_value *x, const gw_onnx_value *y)
{
    const gw_onnx_tensor *k = weight(w, n, 1);
    double per = 1;
    if (!x || !y)
        return 0;
    if (is(n, "Conv ConvTranspose") && k) { /* weight [a][b][kernel ...]: a is one of each side's columns */
        for (int i = 1; i < k->rank; i++)
            per *= (double)k->dim[i];
        return 2 * per * product(n->op[4] == 'T' ? x : y);
    }
    if (is(n, "Gemm") && x->rank == 2)
        return 2 * product(y) * (double)x->dim[attribute(n, "transA", 0, 0) ? 0 : 1];
    if (is(n, "MatMul") && x->rank > 0)
        return 2 * product(y) * (double)x->dim[x->rank - 1];
    return 0;
}

static uint64_t parameters(const walk *w, const gw_onnx_node *n)
{
    uint64_t sum = 0;
    for (int i = 0; i < n->n_in; i++) {
        const gw_onnx_tensor *t = weight(w, n, i);
        uint64_t count = t && (t->type == GW_ONNX_FLOAT || t->type == GW_ONNX_DOUBLE);
        for (int d = 0; count && d < t->rank; d++)
            count *= (uint64_t)t->dim[d];
        sum += count;
    }
    return sum;
}

/* ---- the walk ---- */

static int prepare(walk *w, gw_model_facts *f)
{
    const gw_onnx *m = w->m;
    size_t n = (size_t)m->n_inputs;
    for (int i = 0; i < m->n_nodes; i++)
        n += (size_t)m->node[i].n_out;
    w->value = calloc(n + 1, sizeof *w->value);
    w->weight = calloc((size_t)m->n_initialisers + 1, sizeof(const gw_onnx_tensor *));
    f->layer = calloc((size_t)m->n_nodes + 1, sizeof *f->layer);
    f->output = calloc((size_t)m->n_outputs + 1, sizeof *f->output);
    if (!w->value || !w->weight || !f->layer || !f->output)
        return gw_fail(GW_ENOMEM, "%s: no memory", m->path);
    for (int i = 0; i < m->n_initialisers; i++)
        w->weight[i] = &m->initialiser[i];
    qsort(w->weight, (size_t)m->n_initialisers, sizeof *w->weight, by_tensor);
    for (int i = 0; i < m->n_inputs; i++) { /* [batch, channels, time] or [batch, time] */
        const gw_onnx_value *x = &m->input[i];
        gw_model_reach r = {.axis = x->rank - 1, .step = 1};
        if (x->rank != 3 && x->rank != 2)
            r = everything(w, -1);
        else if (w->samples == 0)
            w->samples = x->dim[x->rank - 1];
        w->value[w->n_values++] = (named){.name = x->name, .reach = r};
    }
    for (int i = 0; i < m->n_nodes; i++)
        for (int k = 0; k < m->node[i].n_out; k++)
            if (m->node[i].out[k][0])
                w->value[w->n_values++] = (named){.name = m->node[i].out[k], .reach = nothing};
    qsort(w->value, w->n_values, sizeof *w->value, by_name);
    return GW_OK;
}

static void visit(walk *w, gw_model_facts *f, int i)
{
    const gw_onnx_node *n = &w->m->node[i];
    gw_model_layer *l = &f->layer[i];
    const gw_onnx_value *x = n->n_in > 0 && n->in[0][0] ? gw_onnx_shape(w->m, n->in[0]) : NULL;
    for (int k = 0; k < n->n_in && (!x || weight(w, n, 0)); k++) /* the input that is no weight */
        if (n->in[k][0] && !weight(w, n, k))
            x = gw_onnx_shape(w->m, n->in[k]);
    l->node = n;
    l->out = n->n_out > 0 ? gw_onnx_shape(w->m, n->out[0]) : NULL;
    l->reach = reach(w, n, x, l->out);
    l->parameters = parameters(w, n);
    l->flop = flop(w, n, x, l->out);
    f->parameters += l->parameters;
    f->flop += l->flop;
    for (int k = 0; k < n->n_out; k++) {
        named *v = n->out[k][0] ? find(w, n->out[k]) : NULL;
        if (v)
            v->reach = l->reach;
    }
}

int gw_model_facts_read(gw_model_facts *f, const gw_onnx *m)
{
    walk w = {.m = m};
    *f = (gw_model_facts){0};
    const int err = prepare(&w, f);
    if (err == GW_OK) {
        for (int i = 0; i < m->n_nodes; i++)
            visit(&w, f, i);
        for (int i = 0; i < m->n_outputs; i++) {
            const named *v = find(&w, m->output[i].name);
            f->output[i] = v ? v->reach : nothing;
        }
        f->samples = w.samples;
    }
    free(w.value);
    free(w.weight);
    if (err < 0)
        gw_model_facts_free(f);
    return err;
}

void gw_model_facts_free(gw_model_facts *f)
{
    free(f->layer);
    free(f->output);
    *f = (gw_model_facts){0};
}
