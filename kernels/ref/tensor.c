/* SPDX-License-Identifier: GPL-3.0-or-later
 * The operators' common ground: finding one by its name, checking a node against its table entry,
 * attributes, axes, broadcasting, elements of any type. */
#include "kernels/ref/tensor.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* ---- Tensors ---- */

size_t gw_tensor_type_bytes(gw_onnx_type type)
{
    switch (type) {
    case GW_ONNX_UINT8:
    case GW_ONNX_INT8:
    case GW_ONNX_BOOL:
        return 1;
    case GW_ONNX_FLOAT:
    case GW_ONNX_INT32:
        return 4;
    case GW_ONNX_INT64:
    case GW_ONNX_DOUBLE:
        return 8;
    case GW_ONNX_FLOAT16:
    case GW_ONNX_BFLOAT16:
        break;
    }
    return 0;
}

size_t gw_tensor_elements(const gw_tensor *t)
{
    return gw_op_product(t->dim, 0, t->rank);
}

int gw_tensor_set(gw_tensor *t, gw_onnx_type type, int rank, const int64_t *dim)
{
    if (rank < 0 || rank > GW_ONNX_MAX_RANK)
        return gw_fail(GW_ERANGE, "a tensor of %d dimensions; at most %d are possible", rank,
                       GW_ONNX_MAX_RANK);
    if (gw_tensor_type_bytes(type) == 0)
        return gw_fail(GW_ENOTSUP, "a tensor of element type %d", (int)type);
    int64_t n = 1;
    bool empty = false;
    for (int i = 0; i < rank; i++) {
        if (dim[i] < 0)
            return gw_fail(GW_ERANGE, "a tensor with a dimension of %lld", (long long)dim[i]);
        empty |= dim[i] == 0;
    }
    for (int i = 0; i < rank && !empty; i++) {
        if (dim[i] > INT32_MAX / n)
            return gw_fail(GW_ERANGE, "a tensor of 2^31 elements or more");
        n *= dim[i];
    }
    /* An empty tensor's other dimensions are bounded too: they get multiplied. */
    for (int i = 0; i < rank && empty; i++)
        if (dim[i] > INT32_MAX)
            return gw_fail(GW_ERANGE, "a tensor with a dimension of %lld", (long long)dim[i]);
    int64_t copy[GW_ONNX_MAX_RANK] = {0}; /* dim may be t's own */
    if (rank > 0)
        memcpy(copy, dim, (size_t)rank * sizeof *dim);
    t->type = type;
    t->rank = rank;
    memcpy(t->dim, copy, sizeof copy);
    return GW_OK;
}

size_t gw_tensor_file_elements(const gw_onnx_tensor *t)
{
    return gw_op_product(t->dim, 0, t->rank);
}

static float widen_half(uint16_t h)
{
    const int exponent = h >> 10 & 31, fraction = h & 1023;
    const double size = exponent == 0    ? ldexp(fraction, -24)
                        : exponent == 31 ? (fraction ? NAN : INFINITY)
                                         : ldexp(1024 + fraction, exponent - 25);
    return (float)(h >> 15 ? -size : size);
}

void gw_tensor_widen(const gw_onnx_tensor *t, void *to)
{
    if (t->type != GW_ONNX_FLOAT16 && t->type != GW_ONNX_BFLOAT16) {
        if (t->bytes)
            memcpy(to, t->data, t->bytes);
        return;
    }
    for (size_t i = 0; i < t->bytes / 2; i++) {
        uint16_t h;
        memcpy(&h, (const unsigned char *)t->data + 2 * i, sizeof h);
        const uint32_t bits = (uint32_t)h << 16;
        float f;
        memcpy(&f, &bits, sizeof f);
        ((float *)to)[i] = t->type == GW_ONNX_BFLOAT16 ? f : widen_half(h);
    }
}

double gw_op_get_any(const gw_tensor *t, size_t i)
{
    switch (t->type) {
    case GW_ONNX_FLOAT:
        return (double)((const float *)t->data)[i];
    case GW_ONNX_DOUBLE:
        return ((const double *)t->data)[i];
    default:
        return (double)gw_op_get_int(t, i);
    }
}

static int64_t to_int(double v)
{
    return isnan(v) ? 0 : v >= 9.2233720368e18 ? INT64_MAX : v <= -9.2233720368e18 ? INT64_MIN : (int64_t)v;
}

int64_t gw_op_get_int(const gw_tensor *t, size_t i)
{
    switch (t->type) {
    case GW_ONNX_INT64:
        return ((const int64_t *)t->data)[i];
    case GW_ONNX_INT32:
        return ((const int32_t *)t->data)[i];
    case GW_ONNX_INT8:
        return ((const int8_t *)t->data)[i];
    case GW_ONNX_UINT8:
        return ((const uint8_t *)t->data)[i];
    case GW_ONNX_BOOL:
        return ((const uint8_t *)t->data)[i] != 0;
    default:
        return to_int(gw_op_get(t, i));
    }
}

static int64_t clamp(int64_t v, int64_t low, int64_t high)
{
    return v < low ? low : v > high ? high : v;
}

void gw_op_put_int(gw_tensor *t, size_t i, int64_t v)
{
    switch (t->type) {
    case GW_ONNX_FLOAT:
        ((float *)t->data)[i] = (float)v;
        break;
    case GW_ONNX_DOUBLE:
        ((double *)t->data)[i] = (double)v;
        break;
    case GW_ONNX_INT64:
        ((int64_t *)t->data)[i] = v;
        break;
    case GW_ONNX_INT32:
        ((int32_t *)t->data)[i] = (int32_t)clamp(v, INT32_MIN, INT32_MAX);
        break;
    case GW_ONNX_INT8:
        ((int8_t *)t->data)[i] = (int8_t)clamp(v, INT8_MIN, INT8_MAX);
        break;
    case GW_ONNX_UINT8:
        ((uint8_t *)t->data)[i] = (uint8_t)clamp(v, 0, UINT8_MAX);
        break;
    default:
        ((uint8_t *)t->data)[i] = v != 0;
        break;
    }
}

void gw_op_put_any(gw_tensor *t, size_t i, double v)
{
    if (t->type == GW_ONNX_DOUBLE)
        ((double *)t->data)[i] = v;
    else if (t->type == GW_ONNX_BOOL)
        ((uint8_t *)t->data)[i] = v != 0;
    else
        gw_op_put_int(t, i, to_int(v));
}

/* ---- Attributes ---- */

int gw_op_fail(const gw_tensor_call *c, int err, const char *fmt, ...)
{
    char what[512];
    va_list args;
    va_start(args, fmt);
    vsnprintf(what, sizeof what, fmt, args);
    va_end(args);
    return gw_fail(err, "node '%s' (%s): %s", c->node->name, c->node->op, what);
}

int64_t gw_op_int(const gw_tensor_call *c, const char *name, int64_t absent)
{
    const gw_onnx_attr *a = gw_onnx_attr_find(c->node, name);
    return a ? a->i : absent;
}

double gw_op_float(const gw_tensor_call *c, const char *name, double absent)
{
    const gw_onnx_attr *a = gw_onnx_attr_find(c->node, name);
    return a ? (double)a->f : absent;
}

const char *gw_op_text(const gw_tensor_call *c, const char *name, const char *absent)
{
    const gw_onnx_attr *a = gw_onnx_attr_find(c->node, name);
    return a ? a->s : absent;
}

const int64_t *gw_op_ints(const gw_tensor_call *c, const char *name, int *n)
{
    const gw_onnx_attr *a = gw_onnx_attr_find(c->node, name);
    *n = a ? a->count : 0;
    return a ? a->ints : NULL;
}

int gw_op_list(const gw_tensor_call *c, const char *name, int i, int64_t *list, int max, int *n)
{
    *n = -1;
    const int64_t *old = gw_op_ints(c, name, n);
    const gw_tensor *t = i >= 0 ? gw_op_in(c, i) : NULL;
    if (!old && !t) {
        *n = -1;
        return GW_OK;
    }
    if (!old) {
        if (t->type != GW_ONNX_INT64 && t->type != GW_ONNX_INT32)
            return gw_op_fail(c, GW_EMISMATCH, "%s should be integers", name);
        if (t->rank > 1)
            return gw_op_fail(c, GW_EMISMATCH, "%s should be a list, not of %d dimensions", name, t->rank);
        if (!t->data)
            return gw_op_fail(
                c, GW_ENOTSUP,
                "%s depends on data; it must be a constant, so that all shapes are known at load", name);
        *n = (int)gw_tensor_elements(t);
    }
    if (*n > max)
        return gw_op_fail(c, GW_EFORMAT, "%s has %d values, more than %d", name, *n, max);
    for (int k = 0; k < *n; k++)
        list[k] = old ? old[k] : gw_op_get_int(t, (size_t)k);
    return GW_OK;
}

int gw_op_axis(const gw_tensor_call *c, int64_t axis, int rank, int *out)
{
    if (axis < -rank || axis >= rank)
        return gw_op_fail(c, GW_EMISMATCH, "axis %lld of a tensor of %d dimensions", (long long)axis, rank);
    *out = (int)(axis < 0 ? axis + rank : axis);
    return GW_OK;
}

int gw_op_axes(const gw_tensor_call *c, const int64_t *axis, int n, int rank, bool *set)
{
    memset(set, 0, GW_ONNX_MAX_RANK * sizeof *set);
    for (int i = 0; i < n; i++) {
        int a = 0;
        GW_TRY(gw_op_axis(c, axis[i], rank, &a));
        if (set[a])
            return gw_op_fail(c, GW_EFORMAT, "axis %d twice", a);
        set[a] = true;
    }
    return GW_OK;
}

int gw_op_set(const gw_tensor_call *c, int i, gw_onnx_type type, int rank, const int64_t *dim)
{
    gw_tensor *t = gw_op_out(c, i);
    if (!t)
        return GW_OK;
    const int err = gw_tensor_set(t, type, rank, dim);
    return err < 0 ? gw_fail_at(err, "node '%s' (%s)", c->node->name, c->node->op) : GW_OK;
}

int gw_op_same(gw_tensor_call *c)
{
    return gw_op_set(c, 0, c->in[0]->type, c->in[0]->rank, c->in[0]->dim);
}

/* ---- Shapes and places ---- */

bool gw_op_broadcast(const gw_tensor *a, const gw_tensor *b, int *rank, int64_t *dim)
{
    const int n = a->rank > b->rank ? a->rank : b->rank;
    int64_t both[GW_ONNX_MAX_RANK]; /* rank and dim may be a's own */
    for (int i = 0; i < n; i++) {
        const int ia = i - (n - a->rank), ib = i - (n - b->rank);
        const int64_t da = ia < 0 ? 1 : a->dim[ia], db = ib < 0 ? 1 : b->dim[ib];
        if (da != db && da != 1 && db != 1)
            return false;
        both[i] = da == 1 ? db : da;
    }
    *rank = n;
    memcpy(dim, both, (size_t)n * sizeof *dim);
    return true;
}

void gw_op_strides(const gw_tensor *t, int rank, const int64_t *dim, int64_t *stride)
{
    int64_t step = 1;
    for (int i = rank - 1; i >= 0; i--) {
        const int k = i - (rank - t->rank);
        const int64_t d = k < 0 ? 1 : t->dim[k];
        stride[i] = d == 1 && dim[i] != 1 ? 0 : k < 0 ? 0 : step;
        step *= d;
    }
}

bool gw_op_next(int rank, const int64_t *dim, int64_t *at)
{
    for (int i = rank - 1; i >= 0; i--) {
        if (++at[i] < dim[i])
            return true;
        at[i] = 0;
    }
    return false;
}

void gw_op_gather(const void *in, void *out, size_t bytes, int rank, const int64_t *dim,
                  const int64_t *stride, int64_t base)
{
    const unsigned char *from = in;
    unsigned char *to = out;
    if (gw_op_product(dim, 0, rank) == 0)
        return;
    /* Inner dimensions that lie side by side are one. */
    size_t run = bytes;
    while (rank > 0 && stride[rank - 1] == (int64_t)(run / bytes))
        run *= (size_t)dim[--rank];
    int64_t at[GW_ONNX_MAX_RANK] = {0};
    const int64_t last = rank > 0 ? dim[rank - 1] : 1, step = rank > 0 ? stride[rank - 1] : 0;
    const int outer = rank > 0 ? rank - 1 : 0;
    do {
        int64_t place = base;
        for (int i = 0; i < outer; i++)
            place += at[i] * stride[i];
        for (int64_t i = 0; i < last; i++, to += run)
            memcpy(to, from + (place + i * step) * (int64_t)bytes, run);
    } while (gw_op_next(outer, dim, at));
}

/* ---- The table ---- */

static const gw_tensor_op *const tables[] = {gw_ops_pointwise, gw_ops_select, gw_ops_reduce, gw_ops_shape,
                                             gw_ops_index,     gw_ops_conv,   gw_ops_pool,   gw_ops_norm,
                                             gw_ops_matmul,    gw_ops_resize, gw_ops_lstm};

static const gw_tensor_op *find(const char *domain, const char *name)
{
    const bool own = strcmp(domain, "gwstream") == 0;
    if (!own && domain[0] != '\0')
        return NULL;
    for (size_t i = 0; i < sizeof tables / sizeof *tables; i++)
        for (const gw_tensor_op *op = tables[i]; op->name; op++)
            if (strcmp(op->name, name) == 0)
                /* Silu is the only operator that ONNX has no word for. */
                return own == (strcmp(name, "Silu") == 0) ? op : NULL;
    return NULL;
}

static const gw_tensor_fast *nothing_faster(const char *domain, const char *name)
{
    (void)domain;
    (void)name;
    return NULL;
}

void gw_tensor_ref(gw_tensor_ops *ops)
{
    ops->find = find;
    ops->fast = nothing_faster;
}

/* The letter of `name` in "axis:i axes:I", or 0. */
static char attribute_kind(const char *all, const char *name)
{
    const size_t n = strlen(name);
    for (const char *at = all; (at = strstr(at, name)); at += n)
        if ((at == all || at[-1] == ' ') && at[n] == ':')
            return at[n + 1];
    return 0;
}

static int check_attributes(const gw_tensor_call *c)
{
    for (int i = 0; i < c->node->n_attr; i++) {
        const gw_onnx_attr *a = &c->node->attr[i];
        const char kind = a->name[0] ? attribute_kind(c->op->attributes, a->name) : 0;
        if (!kind)
            return gw_op_fail(c, GW_ENOTSUP, "attribute '%s' is not known", a->name);
        const char *given = a->type == GW_ATTR_FLOAT    ? "f"
                            : a->type == GW_ATTR_INT    ? "i"
                            : a->type == GW_ATTR_STRING ? "s"
                            : a->type == GW_ATTR_TENSOR ? "t"
                            : a->type == GW_ATTR_FLOATS ? "F"
                            : a->type == GW_ATTR_INTS   ? "I"
                                                        : "?";
        if (*given != kind)
            return gw_op_fail(c, GW_EFORMAT, "attribute '%s' is of another type than it should be", a->name);
    }
    return GW_OK;
}

int gw_tensor_shape(gw_tensor_call *c)
{
    const gw_tensor_op *op = c->op;
    c->work = 0;
    c->scratch_bytes = 0;
    GW_TRY(check_attributes(c));
    if (c->n_in > op->n_max)
        return gw_op_fail(c, GW_EFORMAT, "%d inputs; it takes at most %d", c->n_in, op->n_max);
    if (c->n_out > op->n_out || c->n_out == 0)
        return gw_op_fail(c, c->n_out ? GW_ENOTSUP : GW_EFORMAT, "%d outputs; %d %s made here", c->n_out,
                          op->n_out, op->n_out == 1 ? "is" : "are");
    for (int i = 0; i < op->n_need; i++)
        if (!gw_op_in(c, i))
            return gw_op_fail(c, GW_EFORMAT, "input %d is missing", i);
    for (int i = 0; i < c->n_in && i < op->n_alike; i++) {
        if (!c->in[i])
            continue;
        if (!(op->types >> c->in[i]->type & 1))
            return gw_op_fail(c, GW_ENOTSUP, "input %d has element type %d, which it does not take", i,
                              (int)c->in[i]->type);
        if (c->in[0] && c->in[i]->type != c->in[0]->type)
            return gw_op_fail(c, GW_EMISMATCH, "inputs 0 and %d differ in type", i);
    }
    if (!c->out[0])
        return gw_op_fail(c, GW_ENOTSUP, "its first output has no name");
    GW_TRY(op->shape(c));
    double elements = 0;
    for (int i = 0; i < c->n_out; i++)
        elements += c->out[i] ? (double)gw_tensor_elements(c->out[i]) : 0;
    if (c->work < elements)
        c->work = elements;
    return GW_OK;
}

int gw_tensor_run(gw_tensor_call *c)
{
    return c->op->run(c);
}
