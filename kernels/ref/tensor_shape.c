/* SPDX-License-Identifier: GPL-3.0-or-later
 * Operators about shapes: those that change only the shape (Reshape, Flatten, Squeeze, Unsqueeze, Identity,
 * Dropout), those that tell it (Shape, Size), and those that make tensors of it (Constant, ConstantOfShape,
 * Expand, Range, EyeLike). */
#include "kernels/ref/tensor.h"

#include <math.h>
#include <string.h>

static int copy_run(gw_tensor_call *c)
{
    const size_t bytes = gw_tensor_elements(c->in[0]) * gw_tensor_type_bytes(c->in[0]->type);
    if (bytes)
        memcpy(c->out[0]->data, c->in[0]->data, bytes);
    return GW_OK;
}

static int reshape_shape(gw_tensor_call *c)
{
    const gw_tensor *x = c->in[0];
    int64_t dim[GW_ONNX_MAX_RANK] = {0};
    int rank, open = -1;
    GW_TRY(gw_op_list(c, "shape", 1, dim, GW_ONNX_MAX_RANK, &rank));
    if (rank < 0)
        return gw_op_fail(c, GW_EFORMAT, "the shape is missing");
    const bool zero_is_zero = gw_op_int(c, "allowzero", 0) != 0;
    double known = 1;
    for (int i = 0; i < rank; i++) {
        if (dim[i] == 0 && !zero_is_zero) {
            if (i >= x->rank)
                return gw_op_fail(c, GW_EMISMATCH, "dimension %d should stay, but there is none", i);
            dim[i] = x->dim[i];
        }
        if (dim[i] < -1 || (dim[i] == -1 && open >= 0))
            return gw_op_fail(c, GW_EFORMAT, "%s",
                              dim[i] < -1 ? "a negative dimension" : "two open dimensions");
        if (dim[i] == -1)
            open = i;
        else
            known *= (double)dim[i];
    }
    const size_t n = gw_tensor_elements(x);
    if (open >= 0) {
        if (known == 0 || known > 0x1p31 || n % (size_t)known != 0)
            return gw_op_fail(c, GW_EMISMATCH, "%zu elements do not fill whole rows of %.0f", n, known);
        dim[open] = (int64_t)(n / (size_t)known);
    } else if (known != (double)n) {
        return gw_op_fail(c, GW_EMISMATCH, "%zu elements in, %.0f out", n, known);
    }
    return gw_op_set(c, 0, x->type, rank, dim);
}

static int flatten_shape(gw_tensor_call *c)
{
    const gw_tensor *x = c->in[0];
    int64_t axis = gw_op_int(c, "axis", 1);
    if (axis < -x->rank || axis > x->rank)
        return gw_op_fail(c, GW_EMISMATCH, "axis %lld of a tensor of %d dimensions", (long long)axis,
                          x->rank);
    axis += axis < 0 ? x->rank : 0;
    const int64_t dim[2] = {(int64_t)gw_op_product(x->dim, 0, (int)axis),
                            (int64_t)gw_op_product(x->dim, (int)axis, x->rank)};
    return gw_op_set(c, 0, x->type, 2, dim);
}

static int squeeze_shape(gw_tensor_call *c)
{
    const gw_tensor *x = c->in[0];
    int64_t list[GW_ONNX_MAX_RANK], dim[GW_ONNX_MAX_RANK];
    bool gone[GW_ONNX_MAX_RANK];
    int n, rank = 0;
    GW_TRY(gw_op_list(c, "axes", 1, list, GW_ONNX_MAX_RANK, &n));
    GW_TRY(gw_op_axes(c, list, n, x->rank, gone));
    for (int i = 0; i < x->rank; i++) {
        if (n < 0)
            gone[i] = x->dim[i] == 1;
        if (gone[i] && x->dim[i] != 1)
            return gw_op_fail(c, GW_EMISMATCH, "axis %d has %lld elements, not one", i, (long long)x->dim[i]);
        if (!gone[i])
            dim[rank++] = x->dim[i];
    }
    return gw_op_set(c, 0, x->type, rank, dim);
}

static int unsqueeze_shape(gw_tensor_call *c)
{
    const gw_tensor *x = c->in[0];
    int64_t list[GW_ONNX_MAX_RANK], dim[GW_ONNX_MAX_RANK];
    bool made[GW_ONNX_MAX_RANK];
    int n;
    GW_TRY(gw_op_list(c, "axes", 1, list, GW_ONNX_MAX_RANK, &n));
    if (n < 0)
        return gw_op_fail(c, GW_EFORMAT, "axes are missing");
    if (x->rank + n > GW_ONNX_MAX_RANK)
        return gw_op_fail(c, GW_ERANGE, "more than %d dimensions", GW_ONNX_MAX_RANK);
    GW_TRY(gw_op_axes(c, list, n, x->rank + n, made));
    for (int i = 0, from = 0; i < x->rank + n; i++)
        dim[i] = made[i] ? 1 : x->dim[from++];
    return gw_op_set(c, 0, x->type, x->rank + n, dim);
}

static int dropout_shape(gw_tensor_call *c)
{
    const gw_tensor *training = gw_op_in(c, 2);
    if (training && (training->type != GW_ONNX_BOOL || gw_tensor_elements(training) != 1))
        return gw_op_fail(c, GW_EMISMATCH, "training_mode should be one boolean");
    if (training && !training->data)
        return gw_op_fail(c, GW_ENOTSUP, "training_mode depends on data");
    if (training && gw_op_get_int(training, 0))
        return gw_op_fail(c, GW_ENOTSUP, "training_mode is on; export the model for inference");
    GW_TRY(gw_op_set(c, 1, c->opset >= 10 ? GW_ONNX_BOOL : c->in[0]->type, c->in[0]->rank, c->in[0]->dim));
    return gw_op_same(c);
}

static int dropout_run(gw_tensor_call *c)
{
    gw_tensor *mask = gw_op_out(c, 1);
    for (size_t i = 0; mask && i < gw_tensor_elements(mask); i++)
        gw_op_put_int(mask, i, 1);
    return copy_run(c);
}

/* ---- Shape, Size ---- */

static int shape_shape(gw_tensor_call *c)
{
    const int64_t rank = c->in[0]->rank;
    int64_t from = gw_op_int(c, "start", 0), to = gw_op_int(c, "end", rank);
    from = from < -rank ? 0 : from < 0 ? from + rank : from > rank ? rank : from;
    to = to < -rank ? 0 : to < 0 ? to + rank : to > rank ? rank : to;
    const int64_t n = to > from ? to - from : 0;
    return gw_op_set(c, 0, GW_ONNX_INT64, 1, &n);
}

static int shape_run(gw_tensor_call *c)
{
    const int64_t rank = c->in[0]->rank;
    int64_t from = gw_op_int(c, "start", 0);
    from = from < -rank ? 0 : from < 0 ? from + rank : from;
    for (int64_t i = 0; i < c->out[0]->dim[0]; i++)
        ((int64_t *)c->out[0]->data)[i] = c->in[0]->dim[from + i];
    return GW_OK;
}

static int size_shape(gw_tensor_call *c)
{
    return gw_op_set(c, 0, GW_ONNX_INT64, 0, NULL);
}

static int size_run(gw_tensor_call *c)
{
    ((int64_t *)c->out[0]->data)[0] = (int64_t)gw_tensor_elements(c->in[0]);
    return GW_OK;
}

/* ---- Makers ---- */

static int constant_shape(gw_tensor_call *c)
{
    const gw_onnx_attr *a = c->node->n_attr == 1 ? &c->node->attr[0] : NULL;
    if (!a)
        return gw_op_fail(c, GW_ENOTSUP, "a constant should have one value");
    const int64_t n = a->count;
    switch (a->type) {
    case GW_ATTR_TENSOR: {
        const bool half = a->t->type == GW_ONNX_FLOAT16 || a->t->type == GW_ONNX_BFLOAT16;
        return gw_op_set(c, 0, half ? GW_ONNX_FLOAT : a->t->type, a->t->rank, a->t->dim);
    }
    case GW_ATTR_FLOAT:
        return gw_op_set(c, 0, GW_ONNX_FLOAT, 0, NULL);
    case GW_ATTR_INT:
        return gw_op_set(c, 0, GW_ONNX_INT64, 0, NULL);
    case GW_ATTR_FLOATS:
        return gw_op_set(c, 0, GW_ONNX_FLOAT, 1, &n);
    case GW_ATTR_INTS:
        return gw_op_set(c, 0, GW_ONNX_INT64, 1, &n);
    default:
        return gw_op_fail(c, GW_ENOTSUP, "a constant of text");
    }
}

static int constant_run(gw_tensor_call *c)
{
    const gw_onnx_attr *a = &c->node->attr[0];
    void *to = c->out[0]->data;
    switch (a->type) {
    case GW_ATTR_TENSOR:
        gw_tensor_widen(a->t, to);
        break;
    case GW_ATTR_FLOAT:
        memcpy(to, &a->f, sizeof a->f);
        break;
    case GW_ATTR_INT:
        memcpy(to, &a->i, sizeof a->i);
        break;
    case GW_ATTR_FLOATS:
        memcpy(to, a->floats, (size_t)a->count * sizeof *a->floats);
        break;
    default:
        memcpy(to, a->ints, (size_t)a->count * sizeof *a->ints);
        break;
    }
    return GW_OK;
}

static int fill_shape(gw_tensor_call *c)
{
    const gw_onnx_attr *value = gw_onnx_attr_find(c->node, "value");
    int64_t dim[GW_ONNX_MAX_RANK];
    int rank;
    GW_TRY(gw_op_list(c, "the shape", 0, dim, GW_ONNX_MAX_RANK, &rank));
    gw_onnx_type type = value ? value->t->type : GW_ONNX_FLOAT;
    if (type == GW_ONNX_FLOAT16 || type == GW_ONNX_BFLOAT16)
        type = GW_ONNX_FLOAT;
    if (value && gw_tensor_file_elements(value->t) != 1)
        return gw_op_fail(c, GW_EFORMAT, "the value should be one number");
    return gw_op_set(c, 0, type, rank, dim);
}

static int fill_run(gw_tensor_call *c)
{
    const gw_onnx_attr *value = gw_onnx_attr_find(c->node, "value");
    _Alignas(8) unsigned char one[8] = {0};
    if (value)
        gw_tensor_widen(value->t, one);
    const size_t bytes = gw_tensor_type_bytes(c->out[0]->type), n = gw_tensor_elements(c->out[0]);
    for (size_t i = 0; i < n; i++)
        memcpy((unsigned char *)c->out[0]->data + i * bytes, one, bytes);
    return GW_OK;
}

static int expand_shape(gw_tensor_call *c)
{
    gw_tensor want = {.rank = 0};
    GW_TRY(gw_op_list(c, "the shape", 1, want.dim, GW_ONNX_MAX_RANK, &want.rank));
    int rank;
    int64_t dim[GW_ONNX_MAX_RANK];
    for (int i = 0; i < want.rank; i++)
        if (want.dim[i] < 0)
            return gw_op_fail(c, GW_EFORMAT, "a negative dimension");
    if (!gw_op_broadcast(c->in[0], &want, &rank, dim))
        return gw_op_fail(c, GW_EMISMATCH, "'%s' does not fit the shape wanted", c->node->in[0]);
    return gw_op_set(c, 0, c->in[0]->type, rank, dim);
}

static int expand_run(gw_tensor_call *c)
{
    const gw_tensor *out = c->out[0];
    int64_t stride[GW_ONNX_MAX_RANK];
    gw_op_strides(c->in[0], out->rank, out->dim, stride);
    gw_op_gather(c->in[0]->data, out->data, gw_tensor_type_bytes(out->type), out->rank, out->dim, stride, 0);
    return GW_OK;
}

static int range_shape(gw_tensor_call *c)
{
    for (int i = 0; i < 3; i++) {
        if (gw_tensor_elements(c->in[i]) != 1)
            return gw_op_fail(c, GW_EMISMATCH, "input %d should be one number", i);
        if (!c->in[i]->data)
            return gw_op_fail(c, GW_ENOTSUP, "its length depends on data");
    }
    const double from = gw_op_get(c->in[0], 0), to = gw_op_get(c->in[1], 0), step = gw_op_get(c->in[2], 0);
    const double n = ceil((to - from) / step);
    if (step == 0 || !(n < 0x1p31))
        return gw_op_fail(c, GW_ERANGE, "from %g to %g by %g", from, to, step);
    const int64_t dim = n > 0 ? (int64_t)n : 0;
    return gw_op_set(c, 0, c->in[0]->type, 1, &dim);
}

static int range_run(gw_tensor_call *c)
{
    const bool real = gw_op_is_float(c->in[0]->type);
    for (int64_t i = 0; i < c->out[0]->dim[0]; i++)
        if (real)
            gw_op_put(c->out[0], (size_t)i, gw_op_get(c->in[0], 0) + (double)i * gw_op_get(c->in[2], 0));
        else
            gw_op_put_int(c->out[0], (size_t)i,
                          (int64_t)((uint64_t)gw_op_get_int(c->in[0], 0) +
                                    (uint64_t)i * (uint64_t)gw_op_get_int(c->in[2], 0)));
    return GW_OK;
}

const gw_tensor_op gw_ops_shape[] = {
    {"Reshape", "shape:I allowzero:i consumed_inputs:I", 1, 2, 1, GW_T_ALL, 1, reshape_shape, copy_run, NULL},
    {"Flatten", "axis:i", 1, 1, 1, GW_T_ALL, 1, flatten_shape, copy_run, NULL},
    {"Squeeze", "axes:I", 1, 2, 1, GW_T_ALL, 1, squeeze_shape, copy_run, NULL},
    {"Unsqueeze", "axes:I", 1, 2, 1, GW_T_ALL, 1, unsqueeze_shape, copy_run, NULL},
    {"Identity", "consumed_inputs:I", 1, 1, 1, GW_T_ALL, 1, gw_op_same, copy_run, NULL},
    {"Dropout", "ratio:f seed:i is_test:i consumed_inputs:I", 1, 3, 1, GW_T_FLOATS, 2, dropout_shape,
     dropout_run, NULL},
    {"Shape", "start:i end:i", 1, 1, 1, GW_T_ALL, 1, shape_shape, shape_run, NULL},
    {"Size", "", 1, 1, 1, GW_T_ALL, 1, size_shape, size_run, NULL},
    {"Constant", "value:t value_float:f value_floats:F value_int:i value_ints:I value_string:s", 0, 0, 0, 0,
     1, constant_shape, constant_run, NULL},
    {"ConstantOfShape", "value:t", 1, 1, 1, GW_T(INT64), 1, fill_shape, fill_run, NULL},
    {"Expand", "", 2, 2, 1, GW_T_ALL, 1, expand_shape, expand_run, NULL},
    {"Range", "", 3, 3, 3, GW_T_NUMBERS, 1, range_shape, range_run, NULL},
    {0},
};
