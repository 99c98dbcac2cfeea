/* SPDX-License-Identifier: GPL-3.0-or-later
 * Operators that choose or regroup columns: Slice, pooling over time, changes of shape where nothing
 * moves in memory, constants. See plan_ops.c for the rest. */
#include "kernels/nn/plan_build.h"

#include <string.h>

static int64_t max64(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

/* ---- Time ---- */

int gw_plan_op_slice(gw_build *b, const gw_onnx_node *n)
{
    const gw_value *x = gw_plan_input(b, n, 0);
    int64_t start[8], end[8], axis[8] = {0, 1, 2, 3, 4, 5, 6, 7}, step[8] = {1, 1, 1, 1, 1, 1, 1, 1};
    const int count = gw_plan_ints(b, n, "starts", 1, start), n_end = gw_plan_ints(b, n, "ends", 2, end);
    const int n_axis = gw_plan_ints(b, n, "axes", 3, axis), n_step = gw_plan_ints(b, n, "steps", 4, step);
    if (count < 1 || n_end != count || (n_axis != 0 && n_axis != count) || (n_step != 0 && n_step != count))
        return gw_plan_problem(b, n, "starts, ends, axes or steps that are not constant or do not match");
    int64_t from = 0, to = x->columns, low = 0, high = gw_plan_at(b, x)->channels;
    if (x->flat || x->zeros_left || x->zeros_right)
        return gw_plan_problem(b, n, "a cut of what is no series");
    for (int i = 0; i < count; i++) {
        const int64_t a = axis[i] < 0 ? axis[i] + x->rank : axis[i];
        if (a < 0 || a >= x->rank || step[i] != 1)
            return gw_plan_problem(b, n, "an axis that is not there, or a step");
        const int64_t size = x->dim[a];
        int64_t lo = start[i] < 0 ? max64(start[i] < -size ? 0 : start[i] + size, 0) : start[i];
        int64_t hi = end[i] < 0 ? max64(end[i] < -size ? 0 : end[i] + size, 0) : end[i];
        lo = lo > size ? size : lo;
        hi = hi > size ? size : hi;
        if (lo >= hi)
            return gw_plan_problem(b, n, "nothing left");
        if (a == 2 && x->rank == 3) {
            from = lo;
            to = hi;
        } else if (a == 1) {
            low = lo;
            high = hi;
        } else if (lo != 0 || hi != size) {
            return gw_plan_problem(b, n, "a cut in the batch");
        }
    }
    if (high - low < gw_plan_at(b, x)->channels) {
        gw_netstep *s = gw_plan_add_step(b, n, GW_STEP_COPY, x);
        if (!s)
            return GW_ENOMEM;
        s->at += (int32_t)from;
        s->from = (uint32_t)low;
        s->channels = (uint32_t)(high - low);
        GW_TRY(gw_plan_make_output(b, n, s, high - low, to - from));
        b->p->buffer[s->out].mixed = true; /* not a part of each detector */
        gw_plan_value(b, n->out[0])->rank = x->rank;
        return GW_OK;
    }
    gw_value *v = gw_plan_alias(b, n, x);
    v->first += (uint32_t)from;
    v->columns = (uint32_t)(to - from);
    if (x->rank == 3)
        v->dim[2] = to - from;
    return GW_OK;
}

/* The mean over time. keep: the axes that were averaged stay, as 1. */
static int pool(gw_build *b, const gw_onnx_node *n, bool keep)
{
    const gw_value *x = gw_plan_input(b, n, 0);
    if (x->rank < 3 || x->flat || gw_plan_at(b, x)->pooled)
        return gw_plan_problem(b, n, "input that is not a series [1, channels, columns]");
    gw_netstep *s = gw_plan_add_step(b, n, GW_STEP_MEAN, x);
    if (!s)
        return GW_ENOMEM;
    s->span = x->columns;
    GW_TRY(gw_plan_make_output(b, n, s, gw_plan_at(b, x)->channels, 1));
    const uint32_t samples = b->p->buffer[s->in].samples, all = samples ? b->p->window_samples / samples : 0;
    s->tail = all > x->first + x->columns ? all - x->first - x->columns : 0;
    b->p->buffer[s->out].pooled = true;
    b->p->buffer[s->out].stale = 0;
    gw_value *v = gw_plan_value(b, n->out[0]);
    v->rank = keep ? x->rank : 2;
    for (int i = 2; i < v->rank; i++)
        v->dim[i] = 1;
    return GW_OK;
}

int gw_plan_op_pool(gw_build *b, const gw_onnx_node *n)
{
    return pool(b, n, true);
}

int gw_plan_op_mean(gw_build *b, const gw_onnx_node *n)
{
    const gw_value *x = gw_plan_input(b, n, 0);
    int64_t axes[8];
    const int count = gw_plan_ints(b, n, "axes", 1, axes);
    const bool keep = gw_plan_attr_int(n, "keepdims", 1) != 0;
    bool time = false, other = count < 1;
    for (int i = 0; i < count; i++) {
        const int64_t a = axes[i] < 0 ? axes[i] + x->rank : axes[i];
        time |= a >= 2 && a < x->rank && x->dim[a] == x->columns;
        other |= a < 2 || a >= x->rank;
    }
    if (!time || other || (!keep && count != x->rank - 2))
        return gw_plan_problem(b, n, "a mean over anything but time");
    return pool(b, n, keep);
}

/* ---- Shapes: only where nothing moves in memory ---- */

static int reshape(gw_build *b, const gw_onnx_node *n, const gw_value *x, int rank, const int64_t *dim)
{
    const bool same = rank == x->rank && memcmp(dim, x->dim, (size_t)rank * sizeof *dim) == 0;
    const int64_t channels = gw_plan_at(b, x)->channels;
    const bool flat = x->columns > 1 && rank == 2 && dim[0] == 1 && dim[1] == channels * x->columns;
    bool series = x->columns > 1 && rank >= 3 && dim[0] == 1 && dim[1] == channels; /* with more axes of 1 */
    for (int i = 2, found = 0; i < rank; i++) {
        found += dim[i] == x->columns;
        series = series && (dim[i] == 1 || dim[i] == x->columns) && found <= 1;
    }
    const bool vector = x->columns == 1 && ((rank == 1 && dim[0] == channels) ||
                                            (rank >= 2 && rank <= 4 && dim[0] == 1 && dim[1] == channels &&
                                             (rank < 3 || dim[2] == 1) && (rank < 4 || dim[3] == 1)));
    if (!same && !vector && !flat && !series)
        return gw_plan_problem(b, n, "a change of shape that moves data (pool over time before it)");
    gw_value *v = gw_plan_alias(b, n, x);
    v->flat = flat || (same && x->flat);
    v->rank = rank;
    memcpy(v->dim, dim, (size_t)rank * sizeof *dim);
    return GW_OK;
}

int gw_plan_op_flatten(gw_build *b, const gw_onnx_node *n)
{
    const gw_value *x = gw_plan_input(b, n, 0);
    int64_t axis = gw_plan_attr_int(n, "axis", 1), dim[2] = {1, 1};
    if (axis < 0)
        axis += x->rank;
    if (axis < 0 || axis > x->rank)
        return gw_plan_problem(b, n, "an axis that is not there");
    for (int i = 0; i < x->rank; i++)
        dim[i >= axis] *= x->dim[i];
    return reshape(b, n, x, 2, dim);
}

int gw_plan_op_reshape(gw_build *b, const gw_onnx_node *n)
{
    const gw_value *x = gw_plan_input(b, n, 0);
    int64_t dim[8], left = 1;
    const int rank = gw_plan_ints(b, n, "shape", 1, dim);
    if (rank < 1)
        return gw_plan_problem(b, n, "a shape that is not constant");
    int open = -1;
    for (int i = 0; i < x->rank; i++)
        left *= x->dim[i];
    for (int i = 0; i < rank; i++) {
        if (dim[i] == 0 && i < x->rank && gw_plan_attr_int(n, "allowzero", 0) == 0)
            dim[i] = x->dim[i];
        if (dim[i] == -1 && open < 0) {
            open = i;
        } else if (dim[i] < 1 || left % dim[i] != 0) {
            return gw_plan_problem(b, n, "a shape that does not fit");
        } else {
            left /= dim[i];
        }
    }
    if (open >= 0)
        dim[open] = left;
    else if (left != 1)
        return gw_plan_problem(b, n, "a shape that does not fit");
    return reshape(b, n, x, rank, dim);
}

int gw_plan_op_squeeze(gw_build *b, const gw_onnx_node *n)
{
    const gw_value *x = gw_plan_input(b, n, 0);
    int64_t axes[8], dim[8];
    const int count = gw_plan_ints(b, n, "axes", 1, axes);
    bool drop[8] = {false};
    if (count < 0)
        return gw_plan_problem(b, n, "axes that are not constant");
    for (int i = 0; i < x->rank; i++)
        drop[i] = count == 0 && x->dim[i] == 1;
    for (int i = 0; i < count; i++) {
        const int64_t a = axes[i] < 0 ? axes[i] + x->rank : axes[i];
        if (a < 0 || a >= x->rank || x->dim[a] != 1)
            return gw_plan_problem(b, n, "an axis that is not 1");
        drop[a] = true;
    }
    int rank = 0;
    for (int i = 0; i < x->rank; i++)
        if (!drop[i])
            dim[rank++] = x->dim[i];
    return reshape(b, n, x, rank, dim);
}

int gw_plan_op_unsqueeze(gw_build *b, const gw_onnx_node *n)
{
    const gw_value *x = gw_plan_input(b, n, 0);
    int64_t axes[8], dim[8];
    const int count = gw_plan_ints(b, n, "axes", 1, axes), rank = x->rank + count;
    bool added[8] = {false};
    if (count < 1 || rank > GW_ONNX_MAX_RANK)
        return gw_plan_problem(b, n, "axes that are not constant, or too many");
    for (int i = 0; i < count; i++) {
        const int64_t a = axes[i] < 0 ? axes[i] + rank : axes[i];
        if (a < 0 || a >= rank || added[a])
            return gw_plan_problem(b, n, "an axis that is not there");
        added[a] = true;
    }
    for (int i = 0, k = 0; i < rank; i++)
        dim[i] = added[i] ? 1 : x->dim[k++];
    return reshape(b, n, x, rank, dim);
}

int gw_plan_op_constant(gw_build *b, const gw_onnx_node *n)
{
    const gw_onnx_attr *a = gw_onnx_attr_find(n, "value");
    gw_value *v = gw_plan_value(b, n->out[0]);
    gw_onnx_tensor *t = gw_plan_take(b->p, 1, sizeof *t);
    if (!t)
        return GW_ENOMEM;
    if (a && a->type == GW_ATTR_TENSOR) {
        *t = *a->t;
    } else {
        a = n->n_attr == 1 ? &n->attr[0] : NULL;
        if (!a || a->type == GW_ATTR_STRING || a->type == GW_ATTR_TENSOR)
            return gw_plan_problem(b, n, "a value that is not numbers");
        const bool list = a->type == GW_ATTR_FLOATS || a->type == GW_ATTR_INTS;
        const bool real = a->type == GW_ATTR_FLOAT || a->type == GW_ATTR_FLOATS;
        *t = (gw_onnx_tensor){.name = n->name, .type = real ? GW_ONNX_FLOAT : GW_ONNX_INT64, .rank = list};
        t->dim[0] = list ? a->count : 1;
        t->data = real ? list ? (const void *)a->floats : &a->f : list ? (const void *)a->ints : &a->i;
        t->bytes = (size_t)t->dim[0] * (real ? sizeof(float) : sizeof(int64_t));
    }
    v->kind = GW_VALUE_CONSTANT;
    v->t = t;
    return GW_OK;
}

int gw_plan_op_identity(gw_build *b, const gw_onnx_node *n)
{
    (void)gw_plan_alias(b, n, gw_plan_input(b, n, 0));
    return GW_OK;
}
