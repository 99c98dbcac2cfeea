/* SPDX-License-Identifier: GPL-3.0-or-later
 * Normalisations: by stored statistics (BatchNormalization), by those of a channel, a group of channels or
 * the last axes of the input itself. Means first, then the mean square about them: no cancellation. */
#include "kernels/ref/tensor.h"

#include <math.h>
#include <string.h>

static bool is_list(const gw_tensor *t, int64_t n)
{
    return t->rank == 1 && t->dim[0] == n;
}

/* ---- BatchNormalization ---- */

static int batch_shape(gw_tensor_call *c)
{
    const gw_tensor *x = c->in[0];
    if (gw_op_int(c, "training_mode", 0))
        return gw_op_fail(c, GW_ENOTSUP, "training_mode is on; export the model for inference");
    if (c->opset < 9 && !gw_op_int(c, "spatial", 1))
        return gw_op_fail(c, GW_ENOTSUP, "spatial 0");
    if (x->rank < 1)
        return gw_op_fail(c, GW_EMISMATCH, "a single number");
    for (int i = 1; i < 5; i++)
        if (!is_list(c->in[i], x->rank > 1 ? x->dim[1] : 1) || !gw_op_is_float(c->in[i]->type))
            return gw_op_fail(c, GW_EMISMATCH, "'%s' is not one number for each channel", c->node->in[i]);
    return gw_op_same(c);
}

static int batch_run(gw_tensor_call *c)
{
    const gw_tensor *x = c->in[0];
    const double epsilon = gw_op_float(c, "epsilon", 1e-5);
    const size_t batch = (size_t)x->dim[0], channels = x->rank > 1 ? (size_t)x->dim[1] : 1;
    const size_t n = x->rank > 2 ? gw_op_product(x->dim, 2, x->rank) : 1;
    for (size_t b = 0; b < batch; b++) {
        for (size_t ch = 0; ch < channels; ch++) {
            const double scale = gw_op_get(c->in[1], ch) / sqrt(gw_op_get(c->in[4], ch) + epsilon);
            const double mean = gw_op_get(c->in[3], ch), shift = gw_op_get(c->in[2], ch);
            for (size_t i = (b * channels + ch) * n; i < (b * channels + ch + 1) * n; i++)
                gw_op_put(c->out[0], i, (gw_op_get(x, i) - mean) * scale + shift);
        }
    }
    return GW_OK;
}

/* ---- By the input's own statistics ---- */

/* Of n elements from `first`: their mean and 1 / sqrt(variance + epsilon). */
static void statistics(const gw_tensor *x, size_t first, size_t n, double epsilon, double *mean,
                       double *inverse)
{
    double sum = 0, square = 0;
    for (size_t i = first; i < first + n; i++)
        sum += gw_op_get(x, i);
    *mean = sum / (double)n;
    for (size_t i = first; i < first + n; i++) {
        const double d = gw_op_get(x, i) - *mean;
        square += d * d;
    }
    *inverse = 1 / sqrt(square / (double)n + epsilon);
}

static int64_t groups_of(const gw_tensor_call *c)
{
    return c->op->name[0] == 'G' ? gw_op_int(c, "num_groups", 0) : c->in[0]->dim[1];
}

/* GroupNormalization has a scale for each group in opset 18 and one for each channel from 21 on; where both
 * numbers are the same, so is the meaning: the length of the list tells. */
static int group_shape(gw_tensor_call *c)
{
    const gw_tensor *x = c->in[0];
    if (x->rank < 2)
        return gw_op_fail(c, GW_EMISMATCH, "an input of %d dimensions", x->rank);
    const int64_t groups = groups_of(c), channels = x->dim[1];
    if (channels > 0 && (groups < 1 || channels % groups))
        return gw_op_fail(c, GW_EMISMATCH, "%lld groups of %lld channels", (long long)groups,
                          (long long)channels);
    for (int i = 1; i < 3; i++)
        if (!is_list(c->in[i], channels) && !is_list(c->in[i], groups))
            return gw_op_fail(c, GW_EMISMATCH, "'%s' is neither for %lld channels nor for %lld groups",
                              c->node->in[i], (long long)channels, (long long)groups);
    c->work = 3 * (double)gw_tensor_elements(x);
    return gw_op_same(c);
}

static int group_run(gw_tensor_call *c)
{
    const gw_tensor *x = c->in[0];
    const double epsilon = gw_op_float(c, "epsilon", 1e-5);
    const size_t batch = (size_t)x->dim[0], channels = (size_t)x->dim[1],
                 n = gw_op_product(x->dim, 2, x->rank);
    const size_t groups = (size_t)groups_of(c);
    if (gw_tensor_elements(x) == 0)
        return GW_OK;
    const size_t each = channels / groups;
    for (size_t g = 0; g < batch * groups; g++) {
        double mean, inverse;
        statistics(x, g * each * n, each * n, epsilon, &mean, &inverse);
        for (size_t k = 0; k < each; k++) {
            const size_t ch = g % groups * each + k;
            const double scale = gw_op_get(c->in[1], c->in[1]->dim[0] == (int64_t)channels ? ch : g % groups);
            const double shift = gw_op_get(c->in[2], c->in[2]->dim[0] == (int64_t)channels ? ch : g % groups);
            for (size_t i = (g * each + k) * n; i < (g * each + k + 1) * n; i++)
                gw_op_put(c->out[0], i, (gw_op_get(x, i) - mean) * inverse * scale + shift);
        }
    }
    return GW_OK;
}

static int layer_shape(gw_tensor_call *c)
{
    const gw_tensor *x = c->in[0];
    int64_t dim[GW_ONNX_MAX_RANK];
    int axis = 0;
    GW_TRY(gw_op_axis(c, gw_op_int(c, "axis", -1), x->rank, &axis));
    const gw_tensor tail = {.rank = x->rank, .type = x->type};
    gw_tensor norm = tail;
    for (int i = 0; i < x->rank; i++) {
        norm.dim[i] = i < axis ? 1 : x->dim[i];
        dim[i] = i < axis ? x->dim[i] : 1;
    }
    for (int i = 1; i < 3; i++) {
        gw_tensor both = {0};
        const gw_tensor *t = gw_op_in(c, i);
        if (t && (!gw_op_broadcast(&norm, t, &both.rank, both.dim) || both.rank != norm.rank ||
                  memcmp(both.dim, norm.dim, (size_t)norm.rank * sizeof *norm.dim) != 0))
            return gw_op_fail(c, GW_EMISMATCH, "'%s' does not fit the axes that are normalised",
                              c->node->in[i]);
    }
    c->work = 3 * (double)gw_tensor_elements(x);
    GW_TRY(gw_op_set(c, 1, GW_ONNX_FLOAT, x->rank, dim));
    GW_TRY(gw_op_set(c, 2, GW_ONNX_FLOAT, x->rank, dim));
    return gw_op_same(c);
}

static int layer_run(gw_tensor_call *c)
{
    const gw_tensor *x = c->in[0], *scale = c->in[1], *shift = gw_op_in(c, 2);
    const double epsilon = gw_op_float(c, "epsilon", 1e-5);
    int axis = 0;
    GW_TRY(gw_op_axis(c, gw_op_int(c, "axis", -1), x->rank, &axis));
    const size_t rows = gw_op_product(x->dim, 0, axis), n = gw_op_product(x->dim, axis, x->rank);
    const int tail = x->rank - axis;
    int64_t by_scale[GW_ONNX_MAX_RANK], by_shift[GW_ONNX_MAX_RANK] = {0};
    gw_op_strides(scale, x->rank, x->dim, by_scale);
    if (shift)
        gw_op_strides(shift, x->rank, x->dim, by_shift);
    for (size_t r = 0; r < rows && n; r++) {
        double mean, inverse;
        int64_t at[GW_ONNX_MAX_RANK] = {0};
        statistics(x, r * n, n, epsilon, &mean, &inverse);
        for (size_t i = 0; i < n; i++, gw_op_next(tail, x->dim + axis, at)) {
            int64_t is = 0, ib = 0;
            for (int k = 0; k < tail; k++) {
                is += at[k] * by_scale[axis + k];
                ib += at[k] * by_shift[axis + k];
            }
            gw_op_put(c->out[0], r * n + i,
                      (gw_op_get(x, r * n + i) - mean) * inverse * gw_op_get(scale, (size_t)is) +
                          (shift ? gw_op_get(shift, (size_t)ib) : 0));
        }
        if (gw_op_out(c, 1))
            gw_op_put(c->out[1], r, mean);
        if (gw_op_out(c, 2))
            gw_op_put(c->out[2], r, inverse);
    }
    return GW_OK;
}

const gw_tensor_op gw_ops_norm[] = {
    {"BatchNormalization", "epsilon:f momentum:f spatial:i is_test:i training_mode:i consumed_inputs:I", 5, 5,
     1, GW_T_FLOATS, 1, batch_shape, batch_run, NULL},
    {"InstanceNormalization", "epsilon:f consumed_inputs:I", 3, 3, 3, GW_T_FLOATS, 1, group_shape, group_run,
     NULL},
    {"GroupNormalization", "epsilon:f num_groups:i stash_type:i", 3, 3, 3, GW_T_FLOATS, 1, group_shape,
     group_run, NULL},
    {"LayerNormalization", "axis:i epsilon:f stash_type:i", 2, 3, 3, GW_T_FLOATS, 3, layer_shape, layer_run,
     NULL},
    {0},
};
