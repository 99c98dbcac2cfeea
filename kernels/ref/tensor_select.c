/* SPDX-License-Identifier: GPL-3.0-or-later
 * Operators that choose or convert each element: Where, Clip, Cast. */
#include "kernels/ref/tensor.h"

#include <math.h>
#include <string.h>

/* ---- Where ---- */

static int where_shape(gw_tensor_call *c)
{
    gw_tensor all = *c->in[1];
    if (c->in[0]->type != GW_ONNX_BOOL || c->in[1]->type != c->in[2]->type)
        return gw_op_fail(c, GW_EMISMATCH, "it wants a boolean and two inputs of one type");
    if (!gw_op_broadcast(&all, c->in[2], &all.rank, all.dim) ||
        !gw_op_broadcast(&all, c->in[0], &all.rank, all.dim))
        return gw_op_fail(c, GW_EMISMATCH, "the shapes of its inputs do not fit each other");
    return gw_op_set(c, 0, all.type, all.rank, all.dim);
}

static int where_run(gw_tensor_call *c)
{
    gw_tensor *out = c->out[0];
    const size_t bytes = gw_tensor_type_bytes(out->type), n = gw_tensor_elements(out);
    int64_t stride[3][GW_ONNX_MAX_RANK], at[GW_ONNX_MAX_RANK] = {0};
    for (int k = 0; k < 3; k++)
        gw_op_strides(c->in[k], out->rank, out->dim, stride[k]);
    unsigned char *to = out->data;
    for (size_t i = 0; i < n; i++, to += bytes, gw_op_next(out->rank, out->dim, at)) {
        int64_t place[3] = {0};
        for (int k = 0; k < 3; k++)
            for (int d = 0; d < out->rank; d++)
                place[k] += at[d] * stride[k][d];
        const int from = ((const uint8_t *)c->in[0]->data)[place[0]] ? 1 : 2;
        memcpy(to, (const unsigned char *)c->in[from]->data + (size_t)place[from] * bytes, bytes);
    }
    return GW_OK;
}

/* ---- Clip: bounds are attributes before opset 11 ---- */

static int clip_shape(gw_tensor_call *c)
{
    for (int i = 1; i < 3; i++)
        if (gw_op_in(c, i) && gw_tensor_elements(c->in[i]) != 1)
            return gw_op_fail(c, GW_EMISMATCH, "a bound should be one number");
    return gw_op_same(c);
}

static int clip_run(gw_tensor_call *c)
{
    const gw_tensor *x = c->in[0], *low = gw_op_in(c, 1), *high = gw_op_in(c, 2);
    const size_t n = gw_tensor_elements(x);
    if (gw_op_is_float(x->type)) {
        const double a = low ? gw_op_get(low, 0) : gw_op_float(c, "min", -INFINITY),
                     b = high ? gw_op_get(high, 0) : gw_op_float(c, "max", INFINITY);
        for (size_t i = 0; i < n; i++) {
            const double v = gw_op_get(x, i);
            gw_op_put(c->out[0], i, v > b ? b : v < a ? (a > b ? b : a) : v);
        }
    } else {
        const int64_t a = low ? gw_op_get_int(low, 0) : INT64_MIN,
                      b = high ? gw_op_get_int(high, 0) : INT64_MAX;
        for (size_t i = 0; i < n; i++) {
            const int64_t v = gw_op_get_int(x, i), raised = v < a ? a : v;
            gw_op_put_int(c->out[0], i, raised > b ? b : raised);
        }
    }
    return GW_OK;
}

/* ---- Cast ---- */

static int cast_shape(gw_tensor_call *c)
{
    const bool like = strcmp(c->op->name, "CastLike") == 0;
    if (like && !gw_op_in(c, 1))
        return gw_op_fail(c, GW_EFORMAT, "input 1 is missing");
    if (!like && !gw_onnx_attr_find(c->node, "to"))
        return gw_op_fail(c, GW_EFORMAT, "attribute 'to' is missing");
    const int64_t to = like ? (int64_t)c->in[1]->type : gw_op_int(c, "to", 0);
    const bool half = to == GW_ONNX_FLOAT16 || to == GW_ONNX_BFLOAT16;
    if (to < 0 || to > 31 || !((GW_T_ALL | GW_T(FLOAT16) | GW_T(BFLOAT16)) >> to & 1))
        return gw_op_fail(c, GW_ENOTSUP, "to element type %lld", (long long)to);
    return gw_op_set(c, 0, half ? GW_ONNX_FLOAT : (gw_onnx_type)to, c->in[0]->rank, c->in[0]->dim);
}

static int cast_run(gw_tensor_call *c)
{
    const gw_tensor *x = c->in[0];
    gw_tensor *out = c->out[0];
    const size_t n = gw_tensor_elements(x);
    if (x->type == out->type)
        memcpy(out->data, x->data, n * gw_tensor_type_bytes(x->type));
    else if (gw_op_is_float(x->type))
        for (size_t i = 0; i < n; i++)
            gw_op_put(out, i, gw_op_get(x, i));
    else
        for (size_t i = 0; i < n; i++)
            gw_op_put_int(out, i, gw_op_get_int(x, i));
    return GW_OK;
}

const gw_tensor_op gw_ops_select[] = {
    {"Where", "", 3, 3, 0, 0, 1, where_shape, where_run, NULL},
    {"Clip", "min:f max:f consumed_inputs:I", 1, 3, 3, GW_T_NUMBERS, 1, clip_shape, clip_run, NULL},
    {"Cast", "to:i saturate:i", 1, 1, 1, GW_T_ALL, 1, cast_shape, cast_run, NULL},
    {"CastLike", "saturate:i", 2, 2, 1, GW_T_ALL, 1, cast_shape, cast_run, NULL},
    {0},
};
