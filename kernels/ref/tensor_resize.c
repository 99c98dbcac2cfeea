/* SPDX-License-Identifier: GPL-3.0-or-later
 * Resize (and Upsample, its older form): nearest and linear in any number of dimensions. Cubic, cropping
 * and antialiasing are not built. */
#include "kernels/ref/tensor.h"

#include <math.h>
#include <string.h>

typedef struct scaling {
    double scale[GW_ONNX_MAX_RANK];
    int64_t dim[GW_ONNX_MAX_RANK]; /* of the output */
    bool linear;
    const char *place, *nearest;
} scaling;

/* The constant input i as doubles; *n = -1: left out or empty. */
static int numbers(const gw_tensor_call *c, int i, double *out, int *n)
{
    const gw_tensor *t = gw_op_in(c, i);
    *n = -1;
    if (!t || gw_tensor_elements(t) == 0)
        return GW_OK;
    if (!t->data)
        return gw_op_fail(c, GW_ENOTSUP, "its scales or sizes depend on data; they must be constants");
    if (t->rank != 1 || t->dim[0] > GW_ONNX_MAX_RANK)
        return gw_op_fail(c, GW_EMISMATCH, "scales or sizes should be a short list");
    *n = (int)t->dim[0];
    for (int k = 0; k < *n; k++)
        out[k] = gw_op_get(t, (size_t)k);
    return GW_OK;
}

static int scaling_of(const gw_tensor_call *c, scaling *s)
{
    const gw_tensor *x = c->in[0];
    const bool old = c->op->name[0] == 'U' || c->opset < 11;
    const char *mode = gw_op_text(c, "mode", "nearest");
    s->linear = strcmp(mode, "linear") == 0;
    s->place = gw_op_text(c, "coordinate_transformation_mode", old ? "asymmetric" : "half_pixel");
    s->nearest = gw_op_text(c, "nearest_mode", old ? "floor" : "round_prefer_floor");
    const bool half = strcmp(s->place, "half_pixel") == 0 || strcmp(s->place, "pytorch_half_pixel") == 0;
    if ((!s->linear && strcmp(mode, "nearest") != 0) || gw_op_int(c, "antialias", 0) ||
        (!half && strcmp(s->place, "asymmetric") != 0 && strcmp(s->place, "align_corners") != 0))
        return gw_op_fail(c, GW_ENOTSUP, "mode '%s' with '%s'", mode, s->place);
    const char *keep = gw_op_text(c, "keep_aspect_ratio_policy", "stretch");
    if (strcmp(keep, "stretch") != 0)
        return gw_op_fail(c, GW_ENOTSUP, "keep_aspect_ratio_policy '%s'", keep);
    double scale[GW_ONNX_MAX_RANK], size[GW_ONNX_MAX_RANK];
    int n, n_size = -1, n_axis;
    const gw_onnx_attr *listed = gw_onnx_attr_find(c->node, "scales"); /* Upsample before opset 9 */
    if (listed && listed->count <= GW_ONNX_MAX_RANK) {
        n = listed->count;
        for (int i = 0; i < n; i++)
            scale[i] = (double)listed->floats[i];
    } else {
        GW_TRY(numbers(c, old ? 1 : 2, scale, &n));
    }
    if (!old)
        GW_TRY(numbers(c, 3, size, &n_size));
    const int64_t *axis = gw_op_ints(c, "axes", &n_axis);
    const int count = axis ? n_axis : x->rank;
    if ((n < 0) == (n_size < 0) || (n >= 0 ? n : n_size) != count)
        return gw_op_fail(c, GW_EMISMATCH, "it wants one scale or one size for each of %d axes", count);
    bool seen[GW_ONNX_MAX_RANK];
    if (axis)
        GW_TRY(gw_op_axes(c, axis, n_axis, x->rank, seen));
    for (int i = 0; i < x->rank; i++) {
        s->scale[i] = 1;
        s->dim[i] = x->dim[i];
    }
    for (int i = 0; i < count; i++) {
        const int64_t a = !axis ? i : axis[i] < 0 ? axis[i] + x->rank : axis[i];
        const double to = n >= 0 ? floor((double)x->dim[a] * scale[i]) : size[i];
        if (!(to >= 1 && to < 0x1p31) || x->dim[a] < 1)
            return gw_op_fail(c, GW_ERANGE, "axis %lld to %g elements", (long long)a, to);
        /* ONNX takes corners from the size before rounding, torch and others from the size itself. */
        if (n >= 0 && strcmp(s->place, "align_corners") == 0 && to != (double)x->dim[a] * scale[i])
            return gw_op_fail(c, GW_ENOTSUP,
                              "align_corners with a scale that makes no whole number of elements; "
                              "write sizes instead");
        s->dim[a] = (int64_t)to;
        s->scale[a] = n >= 0 ? scale[i] : to / (double)x->dim[a];
    }
    return GW_OK;
}

static int resize_shape(gw_tensor_call *c)
{
    scaling s;
    GW_TRY(scaling_of(c, &s));
    GW_TRY(gw_op_set(c, 0, c->in[0]->type, c->in[0]->rank, s.dim));
    double corners = 1;
    for (int i = 0; i < c->in[0]->rank; i++)
        corners *= s.linear && s.dim[i] != c->in[0]->dim[i] ? 2 : 1;
    c->work = corners * (double)gw_tensor_elements(c->out[0]);
    return GW_OK;
}

/* Where output i of an axis lies among its inputs. */
static double source(const scaling *s, int axis, int64_t n, int64_t i)
{
    const double x = (double)i;
    if (strcmp(s->place, "asymmetric") == 0)
        return x / s->scale[axis];
    if (strcmp(s->place, "align_corners") == 0)
        return s->dim[axis] == 1 ? 0 : x * (double)(n - 1) / (double)(s->dim[axis] - 1);
    if (strcmp(s->place, "pytorch_half_pixel") == 0 && s->dim[axis] == 1)
        return 0;
    return (x + 0.5) / s->scale[axis] - 0.5;
}

static double nearest(const char *mode, double x)
{
    if (strcmp(mode, "floor") == 0)
        return floor(x);
    if (strcmp(mode, "ceil") == 0)
        return ceil(x);
    return strcmp(mode, "round_prefer_ceil") == 0 ? floor(x + 0.5) : ceil(x - 0.5);
}

static int64_t inside(double x, int64_t n)
{
    return x < 0 ? 0 : x > (double)(n - 1) ? n - 1 : (int64_t)x;
}

static int resize_run(gw_tensor_call *c)
{
    const gw_tensor *x = c->in[0];
    gw_tensor *y = c->out[0];
    scaling s = {0};
    GW_TRY(scaling_of(c, &s));
    int64_t own[GW_ONNX_MAX_RANK], step = 1, at[GW_ONNX_MAX_RANK] = {0};
    for (int i = x->rank - 1; i >= 0; step *= x->dim[i--])
        own[i] = step;
    const size_t n = gw_tensor_elements(y);
    for (size_t i = 0; i < n; i++, gw_op_next(y->rank, y->dim, at)) {
        int64_t low[GW_ONNX_MAX_RANK], high[GW_ONNX_MAX_RANK];
        double part[GW_ONNX_MAX_RANK];
        int between[GW_ONNX_MAX_RANK], n_between = 0; /* axes along which it lies between two inputs */
        int64_t base = 0;
        for (int k = 0; k < y->rank; k++) {
            const double from =
                s.dim[k] == x->dim[k] && s.scale[k] == 1 ? (double)at[k] : source(&s, k, x->dim[k], at[k]);
            low[k] = inside(s.linear ? floor(from) : nearest(s.nearest, from), x->dim[k]);
            high[k] = s.linear ? inside(floor(from) + 1, x->dim[k]) : low[k];
            part[k] = from - floor(from);
            if (high[k] != low[k])
                between[n_between++] = k;
            base += low[k] * own[k];
        }
        double sum = 0;
        for (unsigned corner = 0; corner < 1u << n_between; corner++) {
            double weight = 1;
            int64_t place = base;
            for (int b = 0; b < n_between; b++) {
                const int k = between[b];
                const bool up = corner >> b & 1;
                weight *= up ? part[k] : 1 - part[k];
                place += up ? (high[k] - low[k]) * own[k] : 0;
            }
            sum += weight == 0 ? 0 : weight * gw_op_get(x, (size_t)place);
        }
        gw_op_put(y, i, sum);
    }
    return GW_OK;
}

const gw_tensor_op gw_ops_resize[] = {
    {"Resize",
     "mode:s coordinate_transformation_mode:s nearest_mode:s cubic_coeff_a:f exclude_outside:i "
     "extrapolation_value:f antialias:i axes:I keep_aspect_ratio_policy:s",
     1, 4, 1, GW_T_NUMBERS, 1, resize_shape, resize_run, NULL},
    {"Upsample", "mode:s scales:F", 1, 2, 1, GW_T_NUMBERS, 1, resize_shape, resize_run, NULL},
    {0},
};
