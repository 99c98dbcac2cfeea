/* SPDX-License-Identifier: GPL-3.0-or-later
 * Operators over a few columns or over the channels of a window: pools, norms, Concat, Pad. See
 * plan_ops.c for the rest and for the pieces. */
#include "kernels/nn/plan_build.h"

#include <string.h>

/* ---- Pools ---- */

static int pool(gw_build *b, const gw_onnx_node *n, bool mean)
{
    const gw_value *x = gw_plan_input(b, n, 0);
    gw_window f;
    if (x->rank != 3 || x->flat)
        return gw_plan_problem(b, n, "only one dimension is supported: input [1, channels, columns]");
    if (!gw_plan_window(b, n, 1, &f) || f.left >= f.kernel || f.right >= f.kernel)
        return gw_plan_problem(b, n, "kernel, stride, dilation or pads that make no sense");
    const int64_t columns = x->columns, span = f.dilation * (f.kernel - 1) + 1;
    if (!gw_plan_auto_pad(n, columns, &f))
        return gw_plan_problem(b, n, "an auto_pad of that kind");
    const bool up = gw_plan_attr_int(n, "ceil_mode", 0) != 0;
    const bool count_padding = gw_plan_attr_int(n, "count_include_pad", 0) != 0;
    const int64_t free = columns + f.left + f.right - span;
    if (free < 0)
        return gw_plan_problem(b, n, "a kernel over %lld columns of an input of %lld", (long long)span,
                               (long long)(columns + f.left + f.right));
    int64_t out = (free + (up ? f.stride - 1 : 0)) / f.stride + 1;
    if ((out - 1) * f.stride >= columns + f.left) /* the last would see nothing but padding */
        out--;
    if (up && mean && count_padding && free % f.stride != 0)
        return gw_plan_problem(b, n, "ceil_mode together with count_include_pad");
    gw_netstep *s = gw_plan_add_step(b, n, GW_STEP_POOL, x);
    if (!s)
        return GW_ENOMEM;
    s->mean = mean;
    s->count_padding = count_padding;
    s->kernel = (uint32_t)f.kernel;
    s->stride = (uint32_t)f.stride;
    s->dilation = (uint32_t)f.dilation;
    s->pad_left = (uint32_t)f.left;
    s->in_columns = (uint32_t)columns;
    GW_TRY(gw_plan_make_output(b, n, s, gw_plan_at(b, x)->channels, out));
    gw_netbuffer *y = &b->p->buffer[s->out];
    const uint64_t stale = ((uint64_t)y->stale + s->pad_left + s->stride - 1) / s->stride;
    y->stale = stale < y->columns ? (uint32_t)stale : y->columns;
    return GW_OK;
}

int gw_plan_op_maxpool(gw_build *b, const gw_onnx_node *n)
{
    return pool(b, n, false);
}

int gw_plan_op_averagepool(gw_build *b, const gw_onnx_node *n)
{
    return pool(b, n, true);
}

/* ---- Norms over the window ---- */

/* scale and bias: constants of one number for each channel, or each group, or one; NULL: 1 and 0. */
static int norm(gw_build *b, const gw_onnx_node *n, int64_t groups, float epsilon,
                const gw_onnx_tensor *scale, const gw_onnx_tensor *bias)
{
    const gw_value *x = gw_plan_input(b, n, 0);
    const size_t channels = gw_plan_at(b, x)->channels;
    if (groups < 1 || channels % (size_t)groups != 0)
        return gw_plan_problem(b, n, "%zu channels that do not divide into %lld groups", channels,
                               (long long)groups);
    gw_netstep *s = gw_plan_add_step(b, n, GW_STEP_NORM, x);
    if (!s)
        return GW_ENOMEM;
    s->groups = (uint32_t)groups;
    s->epsilon = epsilon;
    GW_TRY(gw_plan_make_output(b, n, s, (int64_t)channels, x->columns));
    gw_plan_same_shape(b, n, x);
    s->weight = gw_plan_take(b->p, channels, sizeof *s->weight);
    s->bias = gw_plan_take(b->p, channels, sizeof *s->bias);
    if (!s->weight || !s->bias)
        return GW_ENOMEM;
    const size_t n_scale = scale ? gw_plan_elements(scale) : 0, n_bias = bias ? gw_plan_elements(bias) : 0;
    for (size_t c = 0; c < channels; c++) {
        s->weight[c] = n_scale ? (float)gw_plan_real(scale, c * n_scale / channels) : 1;
        s->bias[c] = n_bias ? (float)gw_plan_real(bias, c * n_bias / channels) : 0;
    }
    s->parameters = n_scale + n_bias;
    b->p->parameters += s->parameters;
    b->p->buffer[s->out].mixed |= groups % b->p->buffer[b->p->input].channels != 0;
    return GW_OK;
}

static bool divides(const gw_onnx_tensor *t, size_t channels)
{
    return t && t->rank <= 3 && gw_plan_elements(t) > 0 && channels % gw_plan_elements(t) == 0;
}

static int with_scale(gw_build *b, const gw_onnx_node *n, int64_t groups)
{
    const gw_value *x = gw_plan_input(b, n, 0);
    const gw_onnx_tensor *scale = gw_plan_reals(gw_plan_input(b, n, 1)),
                         *bias = gw_plan_reals(gw_plan_input(b, n, 2));
    const size_t channels = gw_plan_at(b, x)->channels;
    if (x->rank != 3 || x->flat)
        return gw_plan_problem(b, n, "only one dimension is supported: input [1, channels, columns]");
    if (!divides(scale, channels) || !divides(bias, channels))
        return gw_plan_problem(b, n, "a scale or bias that is not a constant for each of %zu channels",
                               channels);
    return norm(b, n, groups, (float)gw_plan_attr_float(n, "epsilon", 1e-5f), scale, bias);
}

int gw_plan_op_instancenorm(gw_build *b, const gw_onnx_node *n)
{
    return with_scale(b, n, gw_plan_at(b, gw_plan_input(b, n, 0))->channels);
}

int gw_plan_op_groupnorm(gw_build *b, const gw_onnx_node *n)
{
    return with_scale(b, n, gw_plan_attr_int(n, "num_groups", 0));
}

/* Over all axes but the first, with one scale for a channel: a norm of one group. */
int gw_plan_op_layernorm(gw_build *b, const gw_onnx_node *n)
{
    const gw_value *x = gw_plan_input(b, n, 0), *bias = gw_plan_input(b, n, 2);
    const gw_onnx_tensor *scale = gw_plan_reals(gw_plan_input(b, n, 1)), *shift = gw_plan_reals(bias);
    const int64_t axis = gw_plan_attr_int(n, "axis", -1);
    const size_t channels = gw_plan_at(b, x)->channels, n_scale = scale ? gw_plan_elements(scale) : 0;
    if (x->rank < 2 || (axis != 1 && axis != 1 - x->rank))
        return gw_plan_problem(b, n, "a norm over anything but channels and time together");
    if (!scale || (bias && !shift) || x->columns != 1 || n_scale != channels ||
        (shift && gw_plan_elements(shift) != channels))
        return gw_plan_problem(b, n, "a scale or bias that changes with time");
    return norm(b, n, 1, (float)gw_plan_attr_float(n, "epsilon", 1e-5f), scale, shift);
}

/* ---- Concat, Pad ---- */

int gw_plan_op_concat(gw_build *b, const gw_onnx_node *n)
{
    const gw_value *x = gw_plan_input(b, n, 0);
    const int64_t axis = gw_plan_attr_int(n, "axis", 1);
    int64_t channels = 0;
    uint32_t stale = 0;
    if (x->rank < 2 || (axis != 1 && axis != 1 - x->rank) || x->flat)
        return gw_plan_problem(b, n, "a joining of anything but channels");
    for (int i = 0; i < n->n_in; i++) {
        const gw_value *y = gw_plan_input(b, n, i);
        if (!y || y->kind != GW_VALUE_ACTIVATION || y->rank != x->rank || y->columns != x->columns ||
            y->flat || gw_plan_at(b, y)->samples != gw_plan_at(b, x)->samples ||
            gw_plan_at(b, y)->pooled != gw_plan_at(b, x)->pooled)
            return gw_plan_problem(b, n, "inputs that are constants or of other columns");
        channels += gw_plan_at(b, y)->channels;
        const uint32_t seen = gw_plan_at(b, y)->stale > y->first ? gw_plan_at(b, y)->stale - y->first : 0;
        stale = seen > stale ? seen : stale;
    }
    uint32_t to = 0;
    int buffer = -1;
    for (int i = 0; i < n->n_in; i++) {
        const gw_value *y = gw_plan_input(b, n, i);
        gw_netstep *s = gw_plan_add_step(b, n, GW_STEP_COPY, y);
        if (!s)
            return GW_ENOMEM;
        s->channels = gw_plan_at(b, y)->channels;
        s->to = to;
        to += s->channels;
        if (i == 0) {
            GW_TRY(gw_plan_make_output(b, n, s, channels, y->columns));
            buffer = s->out;
        }
        s->out = buffer;
        s->columns = y->columns;
    }
    b->p->buffer[buffer].stale = stale;
    b->p->buffer[buffer].mixed = true;
    gw_value *v = gw_plan_value(b, n->out[0]);
    v->maker = b->p->n_steps - 1;
    v->rank = x->rank;
    return GW_OK;
}

/* Is the only reader of v a convolution, which adds the zeros itself? */
static bool read_by_conv(gw_build *b, const gw_value *v)
{
    const gw_onnx *m = b->m;
    for (int i = 0; i < m->n_nodes; i++)
        for (int k = 0; k < m->node[i].n_in; k++)
            if (strcmp(m->node[i].in[k], v->name) == 0)
                return v->uses == 1 && strcmp(m->node[i].op, "Conv") == 0 && k == 0;
    return false;
}

int gw_plan_op_pad(gw_build *b, const gw_onnx_node *n)
{
    const gw_value *x = gw_plan_input(b, n, 0), *value = gw_plan_input(b, n, 2),
                   *axes = gw_plan_input(b, n, 3);
    const gw_onnx_attr *mode = gw_onnx_attr_find(n, "mode");
    int64_t pads[GW_ONNX_MAX_RANK];
    const int count = gw_plan_ints(b, n, "pads", 1, pads);
    if (mode && (mode->type != GW_ATTR_STRING || strcmp(mode->s, "constant") != 0))
        return gw_plan_problem(b, n, "a padding with anything but zeros");
    if (value) {
        const gw_onnx_tensor *t = gw_plan_reals(value);
        if (!t || gw_plan_elements(t) != 1 || gw_plan_real(t, 0) != 0)
            return gw_plan_problem(b, n, "a padding with anything but zeros");
    } else if (gw_plan_attr_float(n, "value", 0) != 0) {
        return gw_plan_problem(b, n, "a padding with anything but zeros");
    }
    if (axes || x->rank != 3 || x->zeros_left || x->zeros_right || x->flat || count != 6 || pads[0] != 0 ||
        pads[1] != 0 || pads[3] != 0 || pads[4] != 0)
        return gw_plan_problem(b, n, "a padding of anything but time");
    int64_t left = pads[2], right = pads[5];
    if (left < -(int64_t)x->columns || right < -(int64_t)x->columns || left > GW_PLAN_MAX_SIZE ||
        right > GW_PLAN_MAX_SIZE || x->columns + left + right < 1)
        return gw_plan_problem(b, n, "a padding that leaves nothing, or too much");
    gw_value *v = gw_plan_value(b, n->out[0]), cut = *x, copy;
    if (left < 0 || right < 0) { /* takes columns away, and perhaps adds zeros on the other side */
        const int64_t off = left < 0 ? -left : 0, end = right < 0 ? -right : 0;
        cut.first += (uint32_t)off;
        cut.columns -= (uint32_t)(off + end);
        left = left < 0 ? 0 : left;
        right = right < 0 ? 0 : right;
    }
    const gw_value *from = &cut;
    cut.dim[2] = cut.columns + left + right;
    cut.shared = true; /* nothing is folded across the padding */
    if (left + right == 0 || read_by_conv(b, v)) {
        v = gw_plan_alias(b, n, &cut);
        v->zeros_left += (uint32_t)left;
        v->zeros_right += (uint32_t)right;
        return GW_OK;
    }
    GW_TRY(gw_plan_alone(b, n, &cut, &copy, &from));
    gw_netstep *s = gw_plan_add_step(b, n, GW_STEP_COPY, from);
    if (!s)
        return GW_ENOMEM;
    s->at -= (int32_t)left;
    s->channels = gw_plan_at(b, from)->channels;
    GW_TRY(gw_plan_make_output(b, n, s, s->channels, cut.columns + left + right));
    gw_plan_need_around(b, s);
    gw_netbuffer *y = &b->p->buffer[s->out];
    y->stale = y->stale + (uint32_t)left < y->columns ? y->stale + (uint32_t)left : y->columns;
    gw_plan_same_shape(b, n, &cut);
    return GW_OK;
}
