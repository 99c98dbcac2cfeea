/* SPDX-License-Identifier: GPL-3.0-or-later
 * Activation functions as exporters write them down (Silu, Mish, Gelu by its error function, torch's
 * Softplus with a threshold), and zeros padded before a convolution, which become its own padding. */
#include "kernels/nn/simplify_graph.h"

#include <math.h>
#include <string.h>

static bool near(double x, double want)
{
    return fabs(x - want) <= 1e-5 * want;
}

/* x * Sigmoid(x), x * Tanh(Softplus(x)) */
static int of_itself(gw_simplify *s, gw_snode *n)
{
    for (int i = 0; i < 2; i++) {
        const int x = gw_simplify_in(s, n, i), gate = gw_simplify_in(s, n, 1 - i);
        const gw_snode *sigmoid = gw_simplify_maker(s, gate, "Sigmoid"),
                       *tanh = gw_simplify_maker(s, gate, "Tanh");
        const gw_snode *softplus = tanh ? gw_simplify_maker(s, gw_simplify_in(s, tanh, 0), "Softplus") : NULL;
        if (sigmoid && gw_simplify_in(s, sigmoid, 0) == x)
            return gw_simplify_become(s, n, "gwstream", "Silu", 1, &x);
        if (softplus && gw_simplify_in(s, softplus, 0) == x)
            return gw_simplify_become(s, n, "", "Mish", 1, &x);
    }
    return GW_OK;
}

/* The three factors of a product of a product that nobody else looks into. */
static bool factors(const gw_simplify *s, const gw_snode *n, int *list)
{
    for (int i = 0; i < 2; i++) {
        const gw_snode *inner = gw_simplify_only(s, gw_simplify_in(s, n, i), "Mul");
        if (!inner)
            continue;
        list[0] = gw_simplify_in(s, n, 1 - i);
        list[1] = gw_simplify_in(s, inner, 0);
        list[2] = gw_simplify_in(s, inner, 1);
        return true;
    }
    return false;
}

/* x where value = 1 + Erf(x / sqrt(2)); -1: it is not. */
static int erf_of(const gw_simplify *s, int value)
{
    const gw_snode *add = gw_simplify_maker(s, value, "Add");
    double number;
    for (int i = 0; add && i < 2; i++) {
        const gw_snode *erf = gw_simplify_maker(s, gw_simplify_in(s, add, i), "Erf");
        if (!erf || !gw_simplify_number(s, gw_simplify_in(s, add, 1 - i), &number) || number != 1)
            continue;
        const gw_snode *div = gw_simplify_maker(s, gw_simplify_in(s, erf, 0), "Div"),
                       *mul = gw_simplify_maker(s, gw_simplify_in(s, erf, 0), "Mul");
        if (div && gw_simplify_number(s, gw_simplify_in(s, div, 1), &number) && near(number, sqrt(2)))
            return gw_simplify_in(s, div, 0);
        for (int k = 0; mul && k < 2; k++)
            if (gw_simplify_number(s, gw_simplify_in(s, mul, k), &number) && near(number, sqrt(0.5)))
                return gw_simplify_in(s, mul, 1 - k);
    }
    return -1;
}

/* x * 0.5 * (1 + Erf(x / sqrt(2))) in any order */
static int gelu(gw_simplify *s, gw_snode *n)
{
    int list[3];
    double half;
    if (!factors(s, n, list))
        return GW_OK;
    for (int i = 0; i < 3; i++) {
        const int x = erf_of(s, list[i]), a = list[(i + 1) % 3], b = list[(i + 2) % 3];
        if (x < 0 || (a != x && b != x) || !gw_simplify_number(s, a == x ? b : a, &half) || half != 0.5)
            continue;
        return gw_simplify_become(s, n, "", "Gelu", 1, &x);
    }
    return GW_OK;
}

/* Where(x > threshold, x, Softplus(x)): the same to the last bit of a float from 18 on. */
static int softplus(gw_simplify *s, gw_snode *n)
{
    const int x = gw_simplify_in(s, n, 1);
    const gw_snode *over = gw_simplify_maker(s, gw_simplify_in(s, n, 0), "Greater"),
                   *soft = gw_simplify_maker(s, gw_simplify_in(s, n, 2), "Softplus");
    double threshold;
    if (!over || !soft || gw_simplify_in(s, over, 0) != x || gw_simplify_in(s, soft, 0) != x ||
        !gw_simplify_number(s, gw_simplify_in(s, over, 1), &threshold) || threshold < 18)
        return GW_OK;
    return gw_simplify_become(s, n, "", "Softplus", 1, &x);
}

/* ---- Pad of zeros, then Conv ---- */

static const int64_t *pads_of(const gw_simplify *s, const gw_snode *pad, int rank)
{
    const gw_onnx_attr *a = gw_onnx_attr_find(&pad->n, "pads"), *mode = gw_onnx_attr_find(&pad->n, "mode"),
                       *value = gw_onnx_attr_find(&pad->n, "value");
    const int list = gw_simplify_in(s, pad, 1), with = gw_simplify_in(s, pad, 2),
              axes = gw_simplify_in(s, pad, 3);
    double zero = value ? (double)value->f : 0;
    if ((mode && strcmp(mode->s, "constant") != 0) || axes >= 0 ||
        (with >= 0 && !gw_simplify_number(s, with, &zero)) || zero != 0)
        return NULL;
    const gw_tensor *t = list >= 0 ? gw_simplify_tensor(s, list) : NULL;
    const int64_t *pads = a ? a->ints : t && t->data && t->type == GW_ONNX_INT64 ? t->data : NULL;
    for (int i = 0; pads && i < 2 * rank; i++)
        if (pads[i] < 0 || (i % rank < 2 && pads[i] != 0))
            return NULL;
    return pads;
}

static int pad_conv(gw_simplify *s, gw_snode *n)
{
    const gw_snode *pad = gw_simplify_maker(s, n->in[0], "Pad");
    const int rank = gw_simplify_tensor(s, n->in[0])->rank;
    const int64_t *more = pad ? pads_of(s, pad, rank) : NULL;
    const gw_onnx_attr *word = gw_onnx_attr_find(&n->n, "auto_pad");
    if (!more || (word && strcmp(word->s, "NOTSET") != 0))
        return GW_OK;
    gw_onnx_attr *attr = (gw_onnx_attr *)gw_onnx_attr_find(&n->n, "pads");
    int64_t *sum = gw_onnx_take(s->o, (size_t)(2 * rank), sizeof *sum);
    if (!sum)
        return s->o->err;
    for (int i = 0; i < rank - 2; i++) {
        sum[i] = more[2 + i] + (attr ? attr->ints[i] : 0);
        sum[rank - 2 + i] = more[rank + 2 + i] + (attr ? attr->ints[rank - 2 + i] : 0);
    }
    if (!attr) { /* nodes are copied with room for a few */
        attr = (gw_onnx_attr *)&n->n.attr[n->n.n_attr++];
        *attr = (gw_onnx_attr){.name = "pads", .type = GW_ATTR_INTS};
    }
    attr->ints = sum;
    attr->count = 2 * (rank - 2);
    n->in[0] = gw_simplify_in(s, pad, 0);
    return GW_OK;
}

int gw_simplify_fuse(gw_simplify *s)
{
    for (int i = s->n_nodes - 1; i >= 0; i--) { /* a product's last factor first */
        gw_snode *n = &s->node[i];
        if (n->gone)
            continue;
        if (strcmp(n->n.op, "Where") == 0)
            GW_TRY(softplus(s, n));
        if (strcmp(n->n.op, "Mul") == 0)
            GW_TRY(gelu(s, n));
    }
    for (int i = 0; i < s->n_nodes; i++)
        if (!s->node[i].gone && strcmp(s->node[i].n.op, "Mul") == 0)
            GW_TRY(of_itself(s, &s->node[i]));
    for (int i = 0; i < s->n_nodes; i++)
        if (!s->node[i].gone && strcmp(s->node[i].n.op, "Conv") == 0)
            GW_TRY(pad_conv(s, &s->node[i]));
    gw_simplify_count(s);
    return GW_OK;
}
