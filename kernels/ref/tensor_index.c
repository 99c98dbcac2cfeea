/* SPDX-License-Identifier: GPL-3.0-or-later
 * Operators that move elements and change none: Transpose, Concat, Split, Slice, Pad, Tile, Gather,
 * DepthToSpace, SpaceToDepth. */
#include "kernels/ref/tensor.h"

#include <string.h>

static void own_strides(const gw_tensor *t, int64_t *stride)
{
    int64_t step = 1;
    for (int i = t->rank - 1; i >= 0; step *= t->dim[i--])
        stride[i] = step;
}

/* ---- Transpose ---- */

static int permutation(const gw_tensor_call *c, int *perm)
{
    const int rank = c->in[0]->rank;
    int n;
    const int64_t *given = gw_op_ints(c, "perm", &n);
    bool seen[GW_ONNX_MAX_RANK];
    if (given && n != rank)
        return gw_op_fail(c, GW_EMISMATCH, "a permutation of %d for %d dimensions", n, rank);
    if (given)
        GW_TRY(gw_op_axes(c, given, n, rank, seen));
    for (int i = 0; i < rank; i++)
        perm[i] = given ? (int)(given[i] < 0 ? given[i] + rank : given[i]) : rank - 1 - i;
    return GW_OK;
}

static int transpose_shape(gw_tensor_call *c)
{
    int perm[GW_ONNX_MAX_RANK];
    int64_t dim[GW_ONNX_MAX_RANK];
    GW_TRY(permutation(c, perm));
    for (int i = 0; i < c->in[0]->rank; i++)
        dim[i] = c->in[0]->dim[perm[i]];
    return gw_op_set(c, 0, c->in[0]->type, c->in[0]->rank, dim);
}

static int transpose_run(gw_tensor_call *c)
{
    const gw_tensor *x = c->in[0], *y = c->out[0];
    int perm[GW_ONNX_MAX_RANK];
    int64_t own[GW_ONNX_MAX_RANK], stride[GW_ONNX_MAX_RANK];
    GW_TRY(permutation(c, perm));
    own_strides(x, own);
    for (int i = 0; i < x->rank; i++)
        stride[i] = own[perm[i]];
    gw_op_gather(x->data, y->data, gw_tensor_type_bytes(x->type), y->rank, y->dim, stride, 0);
    return GW_OK;
}

/* ---- Concat, Split ---- */

static int concat_shape(gw_tensor_call *c)
{
    const gw_tensor *x = c->in[0];
    int64_t dim[GW_ONNX_MAX_RANK];
    int axis = 0;
    GW_TRY(gw_op_axis(c, gw_op_int(c, "axis", 1), x->rank, &axis));
    memcpy(dim, x->dim, sizeof dim);
    for (int i = 1; i < c->n_in; i++) {
        const gw_tensor *t = c->in[i];
        bool fits = t && t->rank == x->rank;
        for (int k = 0; fits && k < x->rank; k++)
            fits = k == axis || t->dim[k] == x->dim[k];
        if (!fits)
            return gw_op_fail(c, GW_EMISMATCH, "input %d does not fit to the first", i);
        dim[axis] += t->dim[axis];
    }
    return gw_op_set(c, 0, x->type, x->rank, dim);
}

/* All of `part` to or from its place in `whole`, at `offset` along the axis. */
static void move_part(const gw_tensor *whole, const gw_tensor *part, int axis, int64_t offset, bool out)
{
    const size_t bytes = gw_tensor_type_bytes(whole->type) * gw_op_product(whole->dim, axis + 1, whole->rank);
    const size_t rows = gw_op_product(whole->dim, 0, axis);
    const size_t step = (size_t)whole->dim[axis] * bytes, run = (size_t)part->dim[axis] * bytes;
    unsigned char *w = whole->data, *p = part->data;
    for (size_t i = 0; i < rows && run; i++) {
        unsigned char *there = w + i * step + (size_t)offset * bytes, *here = p + i * run;
        memcpy(out ? here : there, out ? there : here, run);
    }
}

static int concat_run(gw_tensor_call *c)
{
    int axis = 0;
    int64_t offset = 0;
    GW_TRY(gw_op_axis(c, gw_op_int(c, "axis", 1), c->in[0]->rank, &axis));
    for (int i = 0; i < c->n_in; i++) {
        move_part(c->out[0], c->in[i], axis, offset, false);
        offset += c->in[i]->dim[axis];
    }
    return GW_OK;
}

/* Sizes of the parts: given (attribute before opset 13, then an input), or equal, the last one smaller. */
static int split_size(const gw_tensor_call *c, int axis, int i, int64_t *size)
{
    int n;
    const int64_t whole = c->in[0]->dim[axis], *given = gw_op_ints(c, "split", &n);
    const gw_tensor *t = gw_op_in(c, 1);
    if (t && !given) {
        if (!t->data)
            return gw_op_fail(c, GW_ENOTSUP, "the sizes depend on data; they must be constants");
        if (t->rank != 1 || t->type != GW_ONNX_INT64)
            return gw_op_fail(c, GW_EMISMATCH, "the sizes should be a list of int64");
        n = (int)t->dim[0];
    }
    if (given || t) {
        if (n != c->n_out)
            return gw_op_fail(c, GW_EMISMATCH, "%d sizes for %d outputs", n, c->n_out);
        *size = given ? given[i] : gw_op_get_int(t, (size_t)i);
        return GW_OK;
    }
    const int64_t parts = gw_op_int(c, "num_outputs", c->n_out);
    if (parts != c->n_out)
        return gw_op_fail(c, GW_EMISMATCH, "num_outputs is %lld, and there are %d", (long long)parts,
                          c->n_out);
    if (whole % parts != 0 && c->opset < 18)
        return gw_op_fail(c, GW_EMISMATCH, "%lld elements in %d equal parts", (long long)whole, c->n_out);
    const int64_t each = (whole + parts - 1) / parts, left = whole - each * i;
    *size = left < 0 ? 0 : left < each ? left : each;
    return GW_OK;
}

static int split_shape(gw_tensor_call *c)
{
    const gw_tensor *x = c->in[0];
    int64_t dim[GW_ONNX_MAX_RANK], sum = 0;
    int axis = 0;
    GW_TRY(gw_op_axis(c, gw_op_int(c, "axis", 0), x->rank, &axis));
    memcpy(dim, x->dim, sizeof dim);
    for (int i = 0; i < c->n_out; i++) {
        GW_TRY(split_size(c, axis, i, &dim[axis]));
        if (dim[axis] < 0 || dim[axis] > x->dim[axis])
            return gw_op_fail(c, GW_EMISMATCH, "a part of %lld out of %lld elements", (long long)dim[axis],
                              (long long)x->dim[axis]);
        sum += dim[axis];
        GW_TRY(gw_op_set(c, i, x->type, x->rank, dim));
    }
    if (sum != x->dim[axis])
        return gw_op_fail(c, GW_EMISMATCH, "the parts have %lld elements, the whole %lld", (long long)sum,
                          (long long)x->dim[axis]);
    return GW_OK;
}

static int split_run(gw_tensor_call *c)
{
    int axis = 0;
    int64_t offset = 0, size = 0;
    GW_TRY(gw_op_axis(c, gw_op_int(c, "axis", 0), c->in[0]->rank, &axis));
    for (int i = 0; i < c->n_out; i++) {
        GW_TRY(split_size(c, axis, i, &size));
        if (c->out[i])
            move_part(c->in[0], c->out[i], axis, offset, true);
        offset += size;
    }
    return GW_OK;
}

/* ---- Slice: attributes before opset 10, then inputs ---- */

typedef struct cut {
    int64_t start[GW_ONNX_MAX_RANK], step[GW_ONNX_MAX_RANK], dim[GW_ONNX_MAX_RANK];
} cut;

static int64_t between(int64_t v, int64_t low, int64_t high)
{
    return v < low ? low : v > high ? high : v;
}

static int slice_cut(const gw_tensor_call *c, cut *s)
{
    const gw_tensor *x = c->in[0];
    int64_t start[GW_ONNX_MAX_RANK], end[GW_ONNX_MAX_RANK], axis[GW_ONNX_MAX_RANK], step[GW_ONNX_MAX_RANK];
    int n, n_end, n_axis, n_step;
    GW_TRY(gw_op_list(c, "starts", 1, start, GW_ONNX_MAX_RANK, &n));
    GW_TRY(gw_op_list(c, "ends", 2, end, GW_ONNX_MAX_RANK, &n_end));
    GW_TRY(gw_op_list(c, "axes", 3, axis, GW_ONNX_MAX_RANK, &n_axis));
    GW_TRY(gw_op_list(c, "steps", 4, step, GW_ONNX_MAX_RANK, &n_step));
    if (n < 0 || n_end != n || (n_axis >= 0 && n_axis != n) || (n_step >= 0 && n_step != n) || n > x->rank)
        return gw_op_fail(c, GW_EMISMATCH, "starts, ends, axes and steps do not fit each other");
    for (int i = 0; i < n && n_axis < 0; i++)
        axis[i] = i;
    bool seen[GW_ONNX_MAX_RANK];
    GW_TRY(gw_op_axes(c, axis, n, x->rank, seen));
    for (int i = 0; i < x->rank; i++) {
        s->start[i] = 0;
        s->step[i] = 1;
        s->dim[i] = x->dim[i];
    }
    for (int i = 0; i < n; i++) {
        const int64_t a = axis[i] < 0 ? axis[i] + x->rank : axis[i], size = x->dim[a];
        const int64_t by = n_step < 0 ? 1 : step[i] == INT64_MIN ? -INT64_MAX : step[i];
        if (by == 0)
            return gw_op_fail(c, GW_EFORMAT, "a step of zero");
        const int64_t from = start[i] < 0 && start[i] >= -size ? start[i] + size : start[i];
        const int64_t to = end[i] < 0 && end[i] >= -size ? end[i] + size : end[i];
        const int64_t first = by > 0 ? between(from, 0, size) : between(from, -1, size - 1);
        /* Going down, -1 is "past the first": an end below -size means that too. */
        const int64_t last = by > 0 ? between(to, 0, size) : between(to, -1, size - 1);
        const int64_t span = by > 0 ? last - first : first - last, each = by > 0 ? by : -by;
        s->start[a] = first;
        s->step[a] = by;
        s->dim[a] = span > 0 ? (span - 1) / each + 1 : 0;
    }
    return GW_OK;
}

static int slice_shape(gw_tensor_call *c)
{
    cut s;
    GW_TRY(slice_cut(c, &s));
    return gw_op_set(c, 0, c->in[0]->type, c->in[0]->rank, s.dim);
}

static int slice_run(gw_tensor_call *c)
{
    const gw_tensor *x = c->in[0];
    cut s = {0};
    int64_t stride[GW_ONNX_MAX_RANK], base = 0;
    GW_TRY(slice_cut(c, &s));
    own_strides(x, stride);
    for (int i = 0; i < x->rank; i++) {
        base += s.start[i] * stride[i];
        stride[i] *= s.dim[i] > 1 ? s.step[i] : 1; /* a step over one element may be anything */
    }
    gw_op_gather(x->data, c->out[0]->data, gw_tensor_type_bytes(x->type), x->rank, s.dim, stride, base);
    return GW_OK;
}

/* ---- Pad ---- */

static int pad_counts(const gw_tensor_call *c, int64_t *before, int64_t *after)
{
    const int rank = c->in[0]->rank;
    int64_t list[2 * GW_ONNX_MAX_RANK], axis[GW_ONNX_MAX_RANK];
    int n, n_axis;
    GW_TRY(gw_op_list(c, "pads", 1, list, 2 * GW_ONNX_MAX_RANK, &n));
    GW_TRY(gw_op_list(c, "axes", 3, axis, GW_ONNX_MAX_RANK, &n_axis));
    const int count = n_axis >= 0 ? n_axis : rank;
    if (n != 2 * count)
        return gw_op_fail(c, GW_EMISMATCH, "%d pads for %d axes", n, count);
    bool seen[GW_ONNX_MAX_RANK];
    if (n_axis >= 0)
        GW_TRY(gw_op_axes(c, axis, n_axis, rank, seen));
    memset(before, 0, GW_ONNX_MAX_RANK * sizeof *before);
    memset(after, 0, GW_ONNX_MAX_RANK * sizeof *after);
    for (int i = 0; i < count; i++) {
        const int64_t a = n_axis < 0 ? i : axis[i] < 0 ? axis[i] + rank : axis[i];
        if (list[i] > INT32_MAX || list[i] < INT32_MIN || list[count + i] > INT32_MAX ||
            list[count + i] < INT32_MIN)
            return gw_op_fail(c, GW_ERANGE, "pads beyond 2^31");
        before[a] = list[i];
        after[a] = list[count + i];
    }
    return GW_OK;
}

static int pad_shape(gw_tensor_call *c)
{
    const gw_tensor *x = c->in[0], *value = gw_op_in(c, 2);
    const char *mode = gw_op_text(c, "mode", "constant");
    const bool constant = strcmp(mode, "constant") == 0, reflect = strcmp(mode, "reflect") == 0;
    if (!constant && !reflect && strcmp(mode, "edge") != 0 && strcmp(mode, "wrap") != 0)
        return gw_op_fail(c, GW_ENOTSUP, "mode '%s'", mode);
    if (value && (value->type != x->type || gw_tensor_elements(value) != 1))
        return gw_op_fail(c, GW_EMISMATCH, "the value should be one number of the input's type");
    int64_t before[GW_ONNX_MAX_RANK], after[GW_ONNX_MAX_RANK], dim[GW_ONNX_MAX_RANK];
    GW_TRY(pad_counts(c, before, after));
    for (int i = 0; i < x->rank; i++) {
        dim[i] = x->dim[i] + before[i] + after[i];
        if (dim[i] < 0)
            return gw_op_fail(c, GW_EMISMATCH, "more is cut off than there is");
        if (!constant && dim[i] > 0 && x->dim[i] == 0)
            return gw_op_fail(c, GW_EMISMATCH, "nothing to repeat along axis %d", i);
    }
    return gw_op_set(c, 0, x->type, x->rank, dim);
}

/* Where the padded place i comes from in 0 .. n - 1, or -1. */
static int64_t pad_source(char mode, int64_t i, int64_t n)
{
    if (i >= 0 && i < n)
        return i;
    switch (mode) {
    case 'e':
        return i < 0 ? 0 : n - 1;
    case 'w':
        return ((i % n) + n) % n;
    case 'r': {
        if (n == 1)
            return 0;
        const int64_t period = 2 * (n - 1), k = ((i % period) + period) % period;
        return k < n ? k : period - k;
    }
    default:
        return -1;
    }
}

static int pad_run(gw_tensor_call *c)
{
    const gw_tensor *x = c->in[0], *y = c->out[0], *value = gw_op_in(c, 2);
    const char mode = gw_op_text(c, "mode", "constant")[0];
    const size_t bytes = gw_tensor_type_bytes(x->type), n = gw_tensor_elements(y);
    _Alignas(8) unsigned char fill[8] = {0};
    gw_tensor one = {.type = x->type, .data = fill};
    int64_t before[GW_ONNX_MAX_RANK], after[GW_ONNX_MAX_RANK], stride[GW_ONNX_MAX_RANK],
        at[GW_ONNX_MAX_RANK] = {0};
    GW_TRY(pad_counts(c, before, after));
    own_strides(x, stride);
    if (value)
        memcpy(fill, value->data, bytes);
    else
        gw_op_put(&one, 0, gw_op_float(c, "value", 0));
    unsigned char *to = y->data;
    for (size_t i = 0; i < n; i++, to += bytes, gw_op_next(y->rank, y->dim, at)) {
        int64_t place = 0;
        bool inside = true;
        for (int k = 0; k < y->rank; k++) {
            const int64_t from = pad_source(mode, at[k] - before[k], x->dim[k]);
            inside &= from >= 0;
            place += from * stride[k];
        }
        memcpy(to, inside ? (const unsigned char *)x->data + (size_t)place * bytes : fill, bytes);
    }
    return GW_OK;
}

/* ---- Tile ---- */

static int tile_shape(gw_tensor_call *c)
{
    const gw_tensor *x = c->in[0];
    int64_t times[GW_ONNX_MAX_RANK];
    int n;
    GW_TRY(gw_op_list(c, "repeats", 1, times, GW_ONNX_MAX_RANK, &n));
    if (n != x->rank)
        return gw_op_fail(c, GW_EMISMATCH, "%d repeats for %d dimensions", n, x->rank);
    for (int i = 0; i < n; i++) {
        if (times[i] < 0 || times[i] > INT32_MAX)
            return gw_op_fail(c, GW_ERANGE, "%lld repeats", (long long)times[i]);
        times[i] *= x->dim[i];
    }
    return gw_op_set(c, 0, x->type, x->rank, times);
}

static int tile_run(gw_tensor_call *c)
{
    const gw_tensor *x = c->in[0], *y = c->out[0];
    const size_t bytes = gw_tensor_type_bytes(x->type), n = gw_tensor_elements(y);
    int64_t stride[GW_ONNX_MAX_RANK], at[GW_ONNX_MAX_RANK] = {0};
    own_strides(x, stride);
    unsigned char *to = y->data;
    for (size_t i = 0; i < n; i++, to += bytes, gw_op_next(y->rank, y->dim, at)) {
        int64_t place = 0;
        for (int k = 0; k < y->rank; k++)
            place += at[k] % x->dim[k] * stride[k];
        memcpy(to, (const unsigned char *)x->data + (size_t)place * bytes, bytes);
    }
    return GW_OK;
}

/* ---- Gather ---- */

static int gather_shape(gw_tensor_call *c)
{
    const gw_tensor *x = c->in[0], *index = c->in[1];
    int64_t dim[2 * GW_ONNX_MAX_RANK];
    int axis = 0, rank = 0;
    if (index->type != GW_ONNX_INT64 && index->type != GW_ONNX_INT32)
        return gw_op_fail(c, GW_EMISMATCH, "indices should be integers");
    GW_TRY(gw_op_axis(c, gw_op_int(c, "axis", 0), x->rank, &axis));
    for (int i = 0; i < axis; i++)
        dim[rank++] = x->dim[i];
    for (int i = 0; i < index->rank; i++)
        dim[rank++] = index->dim[i];
    for (int i = axis + 1; i < x->rank; i++)
        dim[rank++] = x->dim[i];
    return gw_op_set(c, 0, x->type, rank, dim);
}

static int place_of(const gw_tensor_call *c, size_t i, int64_t size, size_t *place)
{
    const int64_t k = gw_op_get_int(c->in[1], i);
    if (k < -size || k >= size)
        return gw_op_fail(c, GW_ERANGE, "index %lld into %lld elements", (long long)k, (long long)size);
    *place = (size_t)(k < 0 ? k + size : k);
    return GW_OK;
}

static int gather_run(gw_tensor_call *c)
{
    const gw_tensor *x = c->in[0];
    int axis = 0;
    GW_TRY(gw_op_axis(c, gw_op_int(c, "axis", 0), x->rank, &axis));
    const size_t run = gw_tensor_type_bytes(x->type) * gw_op_product(x->dim, axis + 1, x->rank);
    const size_t outer = gw_op_product(x->dim, 0, axis), n = gw_tensor_elements(c->in[1]);
    unsigned char *to = c->out[0]->data;
    for (size_t o = 0; o < outer; o++) {
        for (size_t i = 0; i < n && run; i++, to += run) {
            size_t place = 0;
            GW_TRY(place_of(c, i, x->dim[axis], &place));
            memcpy(to, (const unsigned char *)x->data + (o * (size_t)x->dim[axis] + place) * run, run);
        }
    }
    return GW_OK;
}

static int gather_elements_shape(gw_tensor_call *c)
{
    const gw_tensor *x = c->in[0], *index = c->in[1];
    int axis = 0;
    if ((index->type != GW_ONNX_INT64 && index->type != GW_ONNX_INT32) || index->rank != x->rank)
        return gw_op_fail(c, GW_EMISMATCH, "indices should be integers with as many dimensions as the data");
    GW_TRY(gw_op_axis(c, gw_op_int(c, "axis", 0), x->rank, &axis));
    for (int i = 0; i < x->rank; i++)
        if (i != axis && index->dim[i] > x->dim[i])
            return gw_op_fail(c, GW_EMISMATCH, "more indices than data along axis %d", i);
    return gw_op_set(c, 0, x->type, index->rank, index->dim);
}

static int gather_elements_run(gw_tensor_call *c)
{
    const gw_tensor *x = c->in[0], *y = c->out[0];
    const size_t bytes = gw_tensor_type_bytes(x->type), n = gw_tensor_elements(y);
    int64_t stride[GW_ONNX_MAX_RANK], at[GW_ONNX_MAX_RANK] = {0};
    int axis = 0;
    GW_TRY(gw_op_axis(c, gw_op_int(c, "axis", 0), x->rank, &axis));
    own_strides(x, stride);
    unsigned char *to = y->data;
    for (size_t i = 0; i < n; i++, to += bytes, gw_op_next(y->rank, y->dim, at)) {
        size_t place = 0;
        GW_TRY(place_of(c, i, x->dim[axis], &place));
        int64_t from = (int64_t)place * stride[axis];
        for (int k = 0; k < y->rank; k++)
            from += k == axis ? 0 : at[k] * stride[k];
        memcpy(to, (const unsigned char *)x->data + (size_t)from * bytes, bytes);
    }
    return GW_OK;
}

/* ---- Blocks of pixels to channels and back ---- */

/* The view in which both are a transposition: x as [n, a, b, c, d, e], and its order. */
static int blocks(const gw_tensor_call *c, int64_t *view, int *perm)
{
    const gw_tensor *x = c->in[0];
    const int64_t s = gw_op_int(c, "blocksize", 0);
    const bool to_space = c->op->name[0] == 'D', crd = strcmp(gw_op_text(c, "mode", "DCR"), "CRD") == 0;
    if (x->rank != 4 || s < 1 || s > INT16_MAX || (to_space && x->dim[1] % (s * s)) ||
        (!to_space && (x->dim[2] % s || x->dim[3] % s)))
        return gw_op_fail(c, GW_EMISMATCH, "blocks of %lld do not fit the input", (long long)s);
    const int64_t n = x->dim[0], ch = x->dim[1], h = x->dim[2], w = x->dim[3];
    const int64_t space[6] = {n, crd ? ch / (s * s) : s, s, crd ? s : ch / (s * s), h, w};
    const int64_t depth[6] = {n, ch, h / s, s, w / s, s};
    const int order[3][6] = {{0, 3, 4, 1, 5, 2}, {0, 1, 4, 2, 5, 3}, {0, 3, 5, 1, 2, 4}};
    memcpy(view, to_space ? space : depth, sizeof space);
    memcpy(perm, order[to_space ? crd : 2], sizeof order[0]);
    return GW_OK;
}

static int blocks_shape(gw_tensor_call *c)
{
    int64_t view[6];
    int perm[6];
    GW_TRY(blocks(c, view, perm));
    const int64_t s = gw_op_int(c, "blocksize", 0), *d = c->in[0]->dim;
    const int64_t space[4] = {d[0], d[1] / (s * s), d[2] * s, d[3] * s};
    const int64_t depth[4] = {d[0], d[1] * s * s, d[2] / s, d[3] / s};
    return gw_op_set(c, 0, c->in[0]->type, 4, c->op->name[0] == 'D' ? space : depth);
}

static int blocks_run(gw_tensor_call *c)
{
    int64_t view[6], own[6], dim[6], stride[6], step = 1;
    int perm[6];
    GW_TRY(blocks(c, view, perm));
    for (int i = 5; i >= 0; step *= view[i--])
        own[i] = step;
    for (int i = 0; i < 6; i++) {
        dim[i] = view[perm[i]];
        stride[i] = own[perm[i]];
    }
    gw_op_gather(c->in[0]->data, c->out[0]->data, gw_tensor_type_bytes(c->in[0]->type), 6, dim, stride, 0);
    return GW_OK;
}

const gw_tensor_op gw_ops_index[] = {
    {"Transpose", "perm:I", 1, 1, 1, GW_T_ALL, 1, transpose_shape, transpose_run, NULL},
    {"Concat", "axis:i", 1, GW_T_MANY, GW_T_MANY, GW_T_ALL, 1, concat_shape, concat_run, NULL},
    {"Split", "axis:i split:I num_outputs:i", 1, 2, 1, GW_T_ALL, GW_T_MANY, split_shape, split_run, NULL},
    {"Slice", "starts:I ends:I axes:I", 1, 5, 1, GW_T_ALL, 1, slice_shape, slice_run, NULL},
    {"Pad", "mode:s pads:I value:f", 1, 4, 1, GW_T_ALL, 1, pad_shape, pad_run, NULL},
    {"Tile", "", 2, 2, 1, GW_T_ALL, 1, tile_shape, tile_run, NULL},
    {"Gather", "axis:i", 2, 2, 1, GW_T_ALL, 1, gather_shape, gather_run, NULL},
    {"GatherElements", "axis:i", 2, 2, 1, GW_T_ALL, 1, gather_elements_shape, gather_elements_run, NULL},
    {"DepthToSpace", "blocksize:i mode:s", 1, 1, 1, GW_T_ALL, 1, blocks_shape, blocks_run, NULL},
    {"SpaceToDepth", "blocksize:i", 1, 1, 1, GW_T_ALL, 1, blocks_shape, blocks_run, NULL},
    {0},
};
