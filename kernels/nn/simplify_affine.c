/* SPDX-License-Identifier: GPL-3.0-or-later
 * A scale and a shift for each channel behind a convolution, a Gemm or a normalisation vanish into its
 * weights: BatchNormalization, and Mul, Div, Add, Sub with constants. Computed in double, rounded once. */
#include "kernels/nn/simplify_graph.h"

#include <math.h>
#include <string.h>

typedef struct affine { /* y = scale * x + shift */
    double *scale, *shift;
    int64_t n;
    bool scales;
} affine;

static double number(const gw_tensor *t, size_t i)
{
    return t->type == GW_ONNX_FLOAT ? (double)((const float *)t->data)[i] : ((const double *)t->data)[i];
}

static void put(gw_tensor *t, size_t i, double v)
{
    if (t->type == GW_ONNX_FLOAT)
        ((float *)t->data)[i] = (float)v;
    else
        ((double *)t->data)[i] = v;
}

static bool is(const gw_snode *n, const char *op)
{
    return strcmp(n->n.op, op) == 0;
}

/* What one element of `axis .. axis + n_axes - 1` of x is multiplied with: t has no more dimensions than x
 * and only ones elsewhere. Sets how far to step in t; false: it is no such constant. */
static bool lies_along(const gw_simplify *s, int value, const gw_tensor *x, int from, int to,
                       size_t *elements)
{
    if (!gw_simplify_is_constant(s, value))
        return false;
    const gw_tensor *t = gw_simplify_tensor(s, value);
    if (t->rank > x->rank || (t->type != GW_ONNX_FLOAT && t->type != GW_ONNX_DOUBLE))
        return false;
    *elements = gw_tensor_elements(t);
    if (*elements == 1)
        return true;
    for (int i = 0; i < x->rank; i++) {
        const int k = i - (x->rank - t->rank);
        const int64_t d = k < 0 ? 1 : t->dim[k];
        if (i >= from && i < to ? d != x->dim[i] : d != 1)
            return false;
    }
    return true;
}

/* Which input of the node is the activation, with constants along these axes of it in the others? Fills a. */
static int read_affine(gw_simplify *s, const gw_snode *n, int from, int to, affine *a, int *x)
{
    *x = -1;
    const bool bn = is(n, "BatchNormalization"), mul = is(n, "Mul"), div = is(n, "Div"), add = is(n, "Add"),
               sub = is(n, "Sub");
    if ((!bn && !mul && !div && !add && !sub) || n->n.n_in < 2)
        return GW_OK;
    const gw_tensor *y = gw_simplify_tensor(s, n->out[0]);
    int act = 0;
    size_t elements = 1;
    if (bn) {
        for (int i = 1; i < 5; i++)
            if (!gw_simplify_is_constant(s, gw_simplify_in(s, n, i)))
                return GW_OK;
        if (from != 1 || to != 2)
            return GW_OK;
    } else {
        while (act < 2 && !lies_along(s, gw_simplify_in(s, n, 1 - act), y, from, to, &elements))
            act++;
        if (act == 2 || (div && act == 1) || gw_simplify_is_constant(s, gw_simplify_in(s, n, act)))
            return GW_OK;
    }
    const int in = gw_simplify_in(s, n, act);
    const gw_tensor *t = gw_simplify_tensor(s, in);
    if (t->rank != y->rank || memcmp(t->dim, y->dim, (size_t)t->rank * sizeof *t->dim) != 0)
        return GW_OK; /* the constant makes it larger */
    a->n = 1;
    for (int i = from; i < to; i++)
        a->n *= t->dim[i];
    a->scale = gw_onnx_take(s->o, (size_t)a->n, sizeof *a->scale);
    a->shift = gw_onnx_take(s->o, (size_t)a->n, sizeof *a->shift);
    if (!a->scale || !a->shift)
        return s->o->err;
    a->scales = bn || mul || div || (sub && act == 1);
    const gw_onnx_attr *eps = gw_onnx_attr_find(&n->n, "epsilon");
    const double epsilon = eps ? (double)eps->f : 1e-5;
    for (int64_t i = 0; i < a->n; i++) {
        const size_t k = elements == 1 ? 0 : (size_t)i;
        if (bn) {
            const gw_tensor *p[4];
            for (int j = 0; j < 4; j++)
                p[j] = gw_simplify_tensor(s, gw_simplify_in(s, n, 1 + j));
            a->scale[i] = number(p[0], (size_t)i) / sqrt(number(p[3], (size_t)i) + epsilon);
            a->shift[i] = number(p[1], (size_t)i) - number(p[2], (size_t)i) * a->scale[i];
            continue;
        }
        const double c = number(gw_simplify_tensor(s, gw_simplify_in(s, n, 1 - act)), k);
        a->scale[i] = mul ? c : div ? 1 / c : sub && act == 1 ? -1 : 1;
        a->shift[i] = add ? c : sub ? (act == 1 ? c : -c) : 0;
    }
    *x = in;
    return GW_OK;
}

/* Constant input i to be changed: a copy, since others may use it too, unless it was made for this node. */
static int copy_input(gw_simplify *s, gw_snode *n, int i, gw_tensor **t)
{
    const int was = gw_simplify_in(s, n, i);
    if (was >= s->n_imported) {
        *t = &s->value[was].t;
        return GW_OK;
    }
    int value;
    const gw_tensor shape = *gw_simplify_tensor(s, was);
    GW_TRY(gw_simplify_constant(s, shape.type, shape.rank, shape.dim, &value));
    memcpy(s->value[value].t.data, shape.data, gw_tensor_elements(&shape) * gw_tensor_type_bytes(shape.type));
    n->in[i] = value;
    *t = &s->value[value].t;
    return GW_OK;
}

/* scale * old + shift, where there is an old one, as input i. */
static int absorb_shift(gw_simplify *s, gw_snode *n, int i, const affine *a, gw_onnx_type type)
{
    const int was = gw_simplify_in(s, n, i);
    int value;
    GW_TRY(gw_simplify_constant(s, type, 1, &a->n, &value));
    const gw_tensor *old = was >= 0 ? gw_simplify_tensor(s, was) : NULL;
    for (int64_t k = 0; k < a->n; k++)
        put(&s->value[value].t, (size_t)k,
            a->shift[k] +
                (old ? a->scale[k] * number(old, gw_tensor_elements(old) == 1 ? 0 : (size_t)k) : 0));
    if (i >= n->n.n_in) { /* it had none */
        int *in = gw_onnx_take(s->o, (size_t)i + 1, sizeof *in);
        if (!in)
            return s->o->err;
        for (int k = 0; k <= i; k++)
            in[k] = k < n->n.n_in ? n->in[k] : -1;
        n->in = in;
        n->n.n_in = i + 1;
    }
    n->in[i] = value;
    return GW_OK;
}

/* Weights whose output channel is told by axis `axis` of the weights, offset by groups for transposed ones.
 */
static int absorb_conv(gw_simplify *s, gw_snode *n, const affine *a)
{
    const bool transposed = is(n, "ConvTranspose");
    const gw_onnx_attr *attr = gw_onnx_attr_find(&n->n, "group");
    const size_t groups = attr ? (size_t)attr->i : 1;
    gw_tensor *w = NULL;
    if (a->scales) {
        GW_TRY(copy_input(s, n, 1, &w));
        const size_t rows = (size_t)w->dim[0], columns = (size_t)w->dim[1],
                     size = gw_tensor_elements(w) / (rows * columns);
        for (size_t r = 0; r < rows; r++)
            for (size_t c = 0; c < columns; c++) {
                const size_t out = transposed ? r / (rows / groups) * columns + c : r;
                for (size_t k = (r * columns + c) * size; k < (r * columns + c + 1) * size; k++)
                    put(w, k, number(w, k) * a->scale[out]);
            }
    }
    return absorb_shift(s, n, 2, a, gw_simplify_tensor(s, n->in[1])->type);
}

static int absorb_gemm(gw_simplify *s, gw_snode *n, const affine *a)
{
    const gw_onnx_attr *attr = gw_onnx_attr_find(&n->n, "transB");
    const bool by_row = attr && attr->i;
    gw_tensor *w = NULL;
    if (a->scales) {
        GW_TRY(copy_input(s, n, 1, &w));
        for (size_t k = 0; k < gw_tensor_elements(w); k++)
            put(w, k, number(w, k) * a->scale[by_row ? k / (size_t)w->dim[1] : k % (size_t)w->dim[1]]);
    }
    return absorb_shift(s, n, 2, a, gw_simplify_tensor(s, n->in[1])->type);
}

static int absorb_norm(gw_simplify *s, gw_snode *n, const affine *a)
{
    gw_tensor *t = NULL;
    GW_TRY(copy_input(s, n, 1, &t));
    for (size_t k = 0; k < (size_t)a->n; k++)
        put(t, k, number(t, k) * a->scale[k]);
    const gw_tensor *scale = gw_simplify_tensor(s, n->in[1]);
    const int rank = scale->rank;
    int64_t dim[GW_ONNX_MAX_RANK];
    memcpy(dim, scale->dim, sizeof dim);
    GW_TRY(absorb_shift(s, n, 2, a, scale->type));
    return gw_tensor_set(&s->value[n->in[2]].t, scale->type, rank, dim); /* LayerNormalization: many axes */
}

static bool plain_number(const gw_snode *n, const char *name, double want)
{
    const gw_onnx_attr *a = gw_onnx_attr_find(&n->n, name);
    return !a || (double)a->f == want;
}

/* Who can take in what stands behind it? Says along which axes of its output. */
static bool can_absorb(const gw_simplify *s, const gw_snode *p, int *from, int *to)
{
    const gw_tensor *y = gw_simplify_tensor(s, p->out[0]);
    *from = 1;
    *to = 2;
    for (int i = 1; i < p->n.n_in; i++) {
        const int v = gw_simplify_in(s, p, i);
        if (v >= 0 && !gw_simplify_is_constant(s, v))
            return false;
    }
    if (is(p, "Conv") || is(p, "ConvTranspose"))
        return true;
    if (is(p, "Gemm")) {
        const int c = gw_simplify_in(s, p, 2);
        const size_t n = c >= 0 ? gw_tensor_elements(gw_simplify_tensor(s, c)) : 1;
        const bool row = c < 0 || n == 1 ||
                         (n == (size_t)y->dim[1] &&
                          gw_simplify_tensor(s, c)->dim[gw_simplify_tensor(s, c)->rank - 1] == y->dim[1]);
        return row && plain_number(p, "alpha", 1) && plain_number(p, "beta", 1);
    }
    if (is(p, "InstanceNormalization") || is(p, "GroupNormalization") || is(p, "BatchNormalization"))
        return y->rank > 1 && gw_simplify_tensor(s, p->in[1])->dim[0] == y->dim[1] &&
               gw_simplify_tensor(s, p->in[2])->dim[0] == y->dim[1];
    if (is(p, "LayerNormalization")) {
        const gw_onnx_attr *axis = gw_onnx_attr_find(&p->n, "axis");
        *from = (int)(axis ? axis->i : -1);
        *from += *from < 0 ? y->rank : 0;
        *to = y->rank;
        size_t n = 1;
        for (int i = *from; i < *to; i++)
            n *= (size_t)y->dim[i];
        return p->n.n_out == 1 && gw_tensor_elements(gw_simplify_tensor(s, p->in[1])) == n &&
               (p->n.n_in < 3 || gw_tensor_elements(gw_simplify_tensor(s, p->in[2])) == n);
    }
    return false;
}

int gw_simplify_affine(gw_simplify *s)
{
    for (int i = 0; i < s->n_nodes; i++) {
        gw_snode *n = &s->node[i];
        if (n->gone || n->n.n_out != 1)
            continue;
        for (int k = 0; k < n->n.n_in && k < 2 && !n->gone; k++) {
            const int root = gw_simplify_in(s, n, k);
            const gw_svalue *v = root >= 0 ? &s->value[root] : NULL;
            gw_snode *p = v && v->maker >= 0 && !s->node[v->maker].gone ? &s->node[v->maker] : NULL;
            int from, to, x;
            affine a = {0};
            if (!p || v->uses != 1 || v->output || p->n.n_out < 1 || p->out[0] != root ||
                !can_absorb(s, p, &from, &to))
                continue;
            GW_TRY(read_affine(s, n, from, to, &a, &x));
            if (x != root)
                continue;
            GW_TRY(is(p, "Conv") || is(p, "ConvTranspose") ? absorb_conv(s, p, &a)
                   : is(p, "Gemm")                         ? absorb_gemm(s, p, &a)
                                                           : absorb_norm(s, p, &a));
            const gw_svalue *out = &s->value[n->out[0]];
            s->value[root].uses = out->uses + out->output;
            s->value[n->out[0]].alias = root;
            n->gone = true;
        }
    }
    gw_simplify_count(s);
    return GW_OK;
}
