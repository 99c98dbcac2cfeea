/* SPDX-License-Identifier: GPL-3.0-or-later
 * Normalisations as exporters write them down, found again:
 *   - by moments (ml4gw's GroupNorm1D, with and without groups): mean and mean square along time, averaged
 *     over the channels of a group, w / sqrt(E[x^2] - E[x]^2 + eps), b - w' mean: up to 26 nodes;
 *   - torch's GroupNorm before opset 18: Reshape - InstanceNormalization - Reshape;
 *   - centred (LayerNorm before opset 17, instance norms): d = x - mean(x), d / sqrt(mean(d^2) + eps).
 * The first form cancels; ours does not, so results differ by what it loses (1e-6 relative). A scale and a
 * shift behind are taken in by simplify_affine.c. Nodes that are left over die of nobody needing them. */
#include "kernels/nn/simplify_graph.h"

#include <string.h>

static bool is_number(const gw_simplify *s, int value, double want)
{
    double x;
    return gw_simplify_number(s, value, &x) && x == want;
}

/* The two inputs of a commutative node, one made by `op` (its node is *a) and the other *b. */
static bool either(const gw_simplify *s, const gw_snode *n, const char *op, gw_snode **a, int *b)
{
    for (int i = 0; i < 2; i++) {
        *a = gw_simplify_maker(s, gw_simplify_in(s, n, i), op);
        *b = gw_simplify_in(s, n, 1 - i);
        if (*a)
            return true;
    }
    return false;
}

/* A commutative node with a constant: *x is the other input. */
static bool with_number(const gw_simplify *s, const gw_snode *n, double *number, int *x)
{
    for (int i = 0; i < 2; i++) {
        *x = gw_simplify_in(s, n, 1 - i);
        if (gw_simplify_number(s, gw_simplify_in(s, n, i), number))
            return true;
    }
    return false;
}

/* The first of the trailing axes that a ReduceMean is over, or -1 when it is over others. */
static int mean_from(const gw_simplify *s, const gw_snode *n)
{
    const gw_onnx_attr *a = gw_onnx_attr_find(&n->n, "axes");
    const int given = gw_simplify_in(s, n, 1), rank = gw_simplify_tensor(s, n->in[0])->rank;
    const gw_tensor *t = given >= 0 ? gw_simplify_tensor(s, given) : NULL;
    bool in[GW_ONNX_MAX_RANK] = {false};
    const int count = a                                          ? a->count
                      : t && t->data && t->type == GW_ONNX_INT64 ? (int)gw_tensor_elements(t)
                                                                 : 0;
    for (int i = 0; i < count; i++) {
        const int64_t axis = a ? a->ints[i] : ((const int64_t *)t->data)[i];
        in[axis < 0 ? axis + rank : axis] = true; /* in range: its shape has been worked out */
    }
    int first = rank;
    while (first > 0 && in[first - 1])
        first--;
    return count > 0 && rank - first == count ? first : -1;
}

/* A mean of what over its trailing axes, from which; NULL if it is none. */
static gw_snode *mean_of(const gw_simplify *s, int value, int *x, int *from)
{
    gw_snode *n = gw_simplify_maker(s, value, "ReduceMean");
    if (!n)
        return NULL;
    *x = gw_simplify_in(s, n, 0);
    *from = mean_from(s, n);
    return *from >= 0 ? n : NULL;
}

/* x where value = x^2; -1: it is not. */
static int square_of(const gw_simplify *s, int value)
{
    const gw_snode *p = gw_simplify_maker(s, value, "Pow"), *m = gw_simplify_maker(s, value, "Mul");
    if (p && is_number(s, gw_simplify_in(s, p, 1), 2))
        return gw_simplify_in(s, p, 0);
    if (m && gw_simplify_in(s, m, 0) == gw_simplify_in(s, m, 1))
        return gw_simplify_in(s, m, 0);
    return -1;
}

/* v where value = sqrt(v + eps). */
static int root_of(const gw_simplify *s, int value, double *epsilon)
{
    const gw_snode *q = gw_simplify_maker(s, value, "Sqrt"), *p = gw_simplify_maker(s, value, "Pow");
    const gw_snode *n = q ? q : p && is_number(s, gw_simplify_in(s, p, 1), 0.5) ? p : NULL;
    const gw_snode *add = n ? gw_simplify_maker(s, gw_simplify_in(s, n, 0), "Add") : NULL;
    int v;
    return add && with_number(s, add, epsilon, &v) ? v : -1;
}

/* A constant of `channels` numbers, one after the other, as a new one of rank 1. */
static int channel_list(gw_simplify *s, int value, int64_t channels, int *list)
{
    const gw_tensor *t = gw_simplify_tensor(s, value);
    GW_TRY(gw_simplify_constant(s, t->type, 1, &channels, list));
    memcpy(s->value[*list].t.data, t->data, (size_t)channels * gw_tensor_type_bytes(t->type));
    return GW_OK;
}

/* ---- By moments ---- */

/* Is `value` of every channel the mean over its group of the means along time, of x (which 0) or x^2 (1)?
 * Says how many groups. */
static bool group_moment(const gw_simplify *s, int value, int which, int x, int64_t *groups)
{
    int from, of;
    const gw_tensor *tx = gw_simplify_tensor(s, x);
    if (mean_of(s, value, &of, &from)) { /* each channel by itself */
        *groups = tx->dim[1];
        return from == 2 && (which ? square_of(s, of) : of) == x;
    }
    const gw_snode *gather = gw_simplify_maker(s, value, "Gather");
    const gw_onnx_attr *axis = gather ? gw_onnx_attr_find(&gather->n, "axis") : NULL;
    if (!axis || axis->i != 1 || !is_number(s, gw_simplify_in(s, gather, 1), which))
        return false;
    const gw_snode *back = gw_simplify_maker(s, gw_simplify_in(s, gather, 0), "Reshape");
    const gw_snode *expand = back ? gw_simplify_maker(s, gw_simplify_in(s, back, 0), "Expand") : NULL;
    const gw_snode *mean = expand ? mean_of(s, gw_simplify_in(s, expand, 0), &of, &from) : NULL;
    const gw_snode *split = mean && from == 3 ? gw_simplify_maker(s, of, "Reshape") : NULL;
    const gw_snode *both = split ? gw_simplify_maker(s, gw_simplify_in(s, split, 0), "Concat") : NULL;
    if (!both || both->n.n_in != 2)
        return false;
    const gw_snode *u = gw_simplify_maker(s, gw_simplify_in(s, both, which), "Unsqueeze");
    int moment;
    if (!u || !mean_of(s, gw_simplify_in(s, u, 0), &moment, &from) || from != 2 ||
        (which ? square_of(s, moment) : moment) != x)
        return false;
    /* [N, 2, groups, channels of a group], and all back again. */
    const gw_tensor *t = gw_simplify_tensor(s, of), *e = gw_simplify_tensor(s, gw_simplify_in(s, back, 0)),
                    *b = gw_simplify_tensor(s, gw_simplify_in(s, gather, 0)),
                    *c = gw_simplify_tensor(s, gw_simplify_in(s, split, 0));
    *groups = t->dim[2];
    return c->rank == 3 && c->dim[1] == 2 && c->dim[2] == tx->dim[1] && t->rank == 4 &&
           t->dim[0] == tx->dim[0] && t->dim[1] == 2 && t->dim[2] * t->dim[3] == tx->dim[1] && e->rank == 4 &&
           e->dim[2] == t->dim[2] && e->dim[3] == t->dim[3] && b->rank == 4 && b->dim[1] == 2 &&
           b->dim[2] == tx->dim[1] && b->dim[3] == 1;
}

/* Add(Sub(bias, Mul(scale', mean)), Mul(x, scale')) with scale' = Div(scale, sqrt(E[x^2] - mean^2 + eps)). */
static int by_moments(gw_simplify *s, gw_snode *n)
{
    gw_snode *shift, *by_mean, *div;
    int product, mean;
    if (!either(s, n, "Sub", &shift, &product))
        return GW_OK;
    const gw_snode *scaled = gw_simplify_maker(s, product, "Mul");
    const int bias = gw_simplify_in(s, shift, 0);
    by_mean = gw_simplify_maker(s, gw_simplify_in(s, shift, 1), "Mul");
    if (!scaled || !by_mean || !gw_simplify_is_constant(s, bias) || !either(s, by_mean, "Div", &div, &mean))
        return GW_OK;
    const int factor = div->out[0], a = gw_simplify_in(s, scaled, 0), b = gw_simplify_in(s, scaled, 1);
    if (a != factor && b != factor)
        return GW_OK;
    const int x = a == factor ? b : a, scale = gw_simplify_in(s, div, 0);
    double epsilon;
    const int variance = root_of(s, gw_simplify_in(s, div, 1), &epsilon);
    const gw_snode *difference = variance >= 0 ? gw_simplify_maker(s, variance, "Sub") : NULL;
    if (!difference || !gw_simplify_is_constant(s, scale) ||
        square_of(s, gw_simplify_in(s, difference, 1)) != mean)
        return GW_OK;
    const gw_tensor *tx = gw_simplify_tensor(s, x);
    int64_t groups, groups2;
    if (tx->rank != 3 || !group_moment(s, mean, 0, x, &groups) ||
        !group_moment(s, gw_simplify_in(s, difference, 0), 1, x, &groups2) || groups != groups2)
        return GW_OK;
    const int64_t channels = tx->dim[1];
    const gw_tensor *ts = gw_simplify_tensor(s, scale), *tb = gw_simplify_tensor(s, bias);
    if (gw_tensor_elements(ts) != (size_t)channels || gw_tensor_elements(tb) != (size_t)channels ||
        ts->rank < 2 || ts->dim[ts->rank - 1] != 1 || tb->rank < 2 || tb->dim[tb->rank - 1] != 1)
        return GW_OK;
    int in[3] = {x, 0, 0};
    GW_TRY(channel_list(s, scale, channels, &in[1]));
    GW_TRY(channel_list(s, bias, channels, &in[2]));
    const bool each = groups == channels;
    GW_TRY(gw_simplify_become(s, n, "", each ? "InstanceNormalization" : "GroupNormalization", 3, in));
    gw_simplify_set_float(n, "epsilon", epsilon);
    if (!each)
        gw_simplify_set_int(n, "num_groups", groups);
    return GW_OK;
}

/* ---- Reshape - InstanceNormalization - Reshape ---- */

/* The constant of one number for each group as one for each channel. */
static int spread(gw_simplify *s, int value, int64_t groups, int64_t channels, int *list)
{
    const gw_onnx_type type = gw_simplify_tensor(s, value)->type;
    const size_t bytes = gw_tensor_type_bytes(type);
    GW_TRY(gw_simplify_constant(s, type, 1, &channels, list));
    const unsigned char *from = gw_simplify_tensor(s, value)->data;
    for (int64_t c = 0; c < channels; c++)
        memcpy((unsigned char *)s->value[*list].t.data + (size_t)c * bytes,
               from + (size_t)(c / (channels / groups)) * bytes, bytes);
    return GW_OK;
}

static int by_reshape(gw_simplify *s, gw_snode *n)
{
    const gw_snode *norm = gw_simplify_maker(s, gw_simplify_in(s, n, 0), "InstanceNormalization");
    const gw_snode *before = norm ? gw_simplify_maker(s, gw_simplify_in(s, norm, 0), "Reshape") : NULL;
    if (!before)
        return GW_OK;
    const int x = gw_simplify_in(s, before, 0), scale = gw_simplify_in(s, norm, 1),
              bias = gw_simplify_in(s, norm, 2);
    const gw_tensor *tx = gw_simplify_tensor(s, x), *in = gw_simplify_tensor(s, before->out[0]),
                    *out = gw_simplify_tensor(s, n->out[0]);
    if (tx->rank < 3 || in->rank < 3 || in->dim[0] != tx->dim[0] || in->dim[1] < 1 ||
        tx->dim[1] % in->dim[1] || out->rank != tx->rank ||
        memcmp(out->dim, tx->dim, (size_t)tx->rank * sizeof *tx->dim) != 0 ||
        !gw_simplify_is_constant(s, scale) || !gw_simplify_is_constant(s, bias))
        return GW_OK;
    const int64_t groups = in->dim[1], channels = tx->dim[1];
    const gw_onnx_attr *epsilon = gw_onnx_attr_find(&norm->n, "epsilon");
    int inputs[3] = {x, 0, 0};
    GW_TRY(spread(s, scale, groups, channels, &inputs[1]));
    GW_TRY(spread(s, bias, groups, channels, &inputs[2]));
    GW_TRY(gw_simplify_become(s, n, "", "GroupNormalization", 3, inputs));
    gw_simplify_set_float(n, "epsilon", epsilon ? (double)epsilon->f : 1e-5);
    gw_simplify_set_int(n, "num_groups", groups);
    return GW_OK;
}

/* GroupNormalization of opset 18 has a scale for each group: for each channel from here on. */
static int by_channel(gw_simplify *s, gw_snode *n)
{
    const gw_onnx_attr *attr = gw_onnx_attr_find(&n->n, "num_groups");
    const int64_t channels = gw_simplify_tensor(s, n->in[0])->dim[1];
    for (int i = 1; i < 3 && attr; i++) {
        const int value = gw_simplify_in(s, n, i);
        if (!gw_simplify_is_constant(s, value) || gw_simplify_tensor(s, value)->dim[0] == channels)
            continue;
        int list;
        GW_TRY(spread(s, value, attr->i, channels, &list));
        n->in[i] = list;
    }
    return GW_OK;
}

/* ---- Centred ---- */

static gw_snode *only_user(const gw_simplify *s, const gw_snode *n)
{
    const int value = n->out[0];
    if (s->value[value].uses != 1 || s->value[value].output)
        return NULL;
    for (int i = (int)(n - s->node) + 1; i < s->n_nodes; i++)
        for (int k = 0; !s->node[i].gone && k < s->node[i].n.n_in; k++)
            if (gw_simplify_in(s, &s->node[i], k) == value)
                return &s->node[i];
    return NULL;
}

/* Div(Sub(x, mean(x)), sqrt(mean((x - mean)^2) + eps)) over trailing axes. */
static int centred(gw_simplify *s, gw_snode *n)
{
    const gw_snode *d = gw_simplify_maker(s, gw_simplify_in(s, n, 0), "Sub");
    double epsilon;
    const int variance = d ? root_of(s, gw_simplify_in(s, n, 1), &epsilon) : -1;
    int x, from, of, from2;
    if (variance < 0 || !mean_of(s, gw_simplify_in(s, d, 1), &x, &from) || gw_simplify_in(s, d, 0) != x ||
        !mean_of(s, variance, &of, &from2) || from2 != from)
        return GW_OK;
    const int squared = square_of(s, of);
    const gw_snode *again =
        squared >= 0 ? gw_simplify_maker(s, squared, "Sub") : NULL; /* some subtract twice */
    int x2, from3;
    if (squared != d->out[0] &&
        (!again || gw_simplify_in(s, again, 0) != x ||
         !mean_of(s, gw_simplify_in(s, again, 1), &x2, &from3) || x2 != x || from3 != from))
        return GW_OK;
    /* Both norms look the same when time is the last axis: the scale behind tells whose it is. */
    const gw_tensor *tx = gw_simplify_tensor(s, x);
    const int rank = tx->rank;
    const gw_onnx_type type = tx->type;
    int64_t dim[GW_ONNX_MAX_RANK];
    memcpy(dim, tx->dim, sizeof dim);
    const gw_snode *user = only_user(s, n);
    bool instance = false;
    for (int i = 0; from == 2 && rank > 2 && user && strcmp(user->n.op, "Mul") == 0 && i < 2; i++) {
        const int v = gw_simplify_in(s, user, i);
        const gw_tensor *t = gw_simplify_is_constant(s, v) ? gw_simplify_tensor(s, v) : NULL;
        instance |= t && t->rank >= rank - 1 && t->dim[t->rank - rank + 1] == dim[1] &&
                    gw_tensor_elements(t) == (size_t)dim[1];
    }
    if (type != GW_ONNX_FLOAT)
        return GW_OK;
    int in[3] = {x, 0, 0};
    GW_TRY(instance ? gw_simplify_constant(s, type, 1, dim + 1, &in[1])
                    : gw_simplify_constant(s, type, rank - from, dim + from, &in[1]));
    float *one = s->value[in[1]].t.data;
    for (size_t i = 0; i < gw_tensor_elements(&s->value[in[1]].t); i++)
        one[i] = 1;
    GW_TRY(gw_simplify_constant(s, type, s->value[in[1]].t.rank, s->value[in[1]].t.dim, &in[2]));
    GW_TRY(gw_simplify_become(s, n, "", instance ? "InstanceNormalization" : "LayerNormalization", 3, in));
    gw_simplify_set_float(n, "epsilon", epsilon);
    if (!instance)
        gw_simplify_set_int(n, "axis", from - rank);
    return GW_OK;
}

int gw_simplify_norms(gw_simplify *s)
{
    for (int i = 0; i < s->n_nodes; i++) {
        gw_snode *n = &s->node[i];
        if (n->gone)
            continue;
        if (strcmp(n->n.op, "Add") == 0)
            GW_TRY(by_moments(s, n));
        else if (strcmp(n->n.op, "Reshape") == 0)
            GW_TRY(by_reshape(s, n));
        else if (strcmp(n->n.op, "GroupNormalization") == 0)
            GW_TRY(by_channel(s, n));
        else if (strcmp(n->n.op, "Div") == 0)
            GW_TRY(centred(s, n));
    }
    gw_simplify_count(s);
    return GW_OK;
}
