/* SPDX-License-Identifier: GPL-3.0-or-later
 * Operators that make one element of many along some axes: Reduce..., ArgMax, ArgMin; and those that
 * normalise along them: Softmax, LogSoftmax, Hardmax. All sums in double, or in int64 for integers. */
#include "kernels/ref/tensor.h"

#include <math.h>
#include <string.h>

typedef enum reduction { SUM, MEAN, MAX, MIN, PROD, L1, L2, SUM_SQUARE, LOG_SUM, LOG_SUM_EXP } reduction;
static const reduction kind[] = {SUM, MEAN, MAX, MIN, PROD, L1, L2, SUM_SQUARE, LOG_SUM, LOG_SUM_EXP};

/* ---- Reduce... ---- */

/* Axes were an attribute until opset 13 (ReduceSum) and 18 (the others). */
static int reduced_axes(const gw_tensor_call *c, bool *reduced)
{
    int64_t list[GW_ONNX_MAX_RANK];
    int n;
    GW_TRY(gw_op_list(c, "axes", 1, list, GW_ONNX_MAX_RANK, &n));
    GW_TRY(gw_op_axes(c, list, n, c->in[0]->rank, reduced));
    if (n <= 0 && !gw_op_int(c, "noop_with_empty_axes", 0))
        for (int i = 0; i < c->in[0]->rank; i++)
            reduced[i] = true;
    return GW_OK;
}

static int reduce_shape(gw_tensor_call *c)
{
    const gw_tensor *x = c->in[0];
    const bool keep = gw_op_int(c, "keepdims", 1) != 0;
    bool reduced[GW_ONNX_MAX_RANK];
    int64_t dim[GW_ONNX_MAX_RANK];
    int rank = 0;
    GW_TRY(reduced_axes(c, reduced));
    for (int i = 0; i < x->rank; i++)
        if (!reduced[i] || keep)
            dim[rank++] = reduced[i] ? 1 : x->dim[i];
    c->work = (double)gw_tensor_elements(x);
    return gw_op_set(c, 0, x->type, rank, dim);
}

static double start(reduction r)
{
    return r == PROD ? 1 : r == MAX ? -INFINITY : r == MIN ? INFINITY : 0;
}

static double join(reduction r, double sum, double x)
{
    switch (r) {
    case MAX:
        return x > sum || x != x ? x : sum; /* not a number stays */
    case MIN:
        return x < sum || x != x ? x : sum;
    case PROD:
        return sum * x;
    case L1:
        return sum + fabs(x);
    case L2:
    case SUM_SQUARE:
        return sum + x * x;
    default:
        return sum + x;
    }
}

static int64_t join_int(reduction r, int64_t sum, int64_t x)
{
    switch (r) {
    case MAX:
        return x > sum ? x : sum;
    case MIN:
        return x < sum ? x : sum;
    case PROD:
        return (int64_t)((uint64_t)sum * (uint64_t)x);
    case L1:
        return (int64_t)((uint64_t)sum + (x < 0 ? 0 - (uint64_t)x : (uint64_t)x));
    case L2:
    case SUM_SQUARE:
        return (int64_t)((uint64_t)sum + (uint64_t)x * (uint64_t)x);
    default:
        return (int64_t)((uint64_t)sum + (uint64_t)x);
    }
}

/* What is walked for one output: the reduced dimensions, and where in x they begin. */
typedef struct walk {
    const gw_tensor *x;
    int rank;
    int64_t dim[GW_ONNX_MAX_RANK], stride[GW_ONNX_MAX_RANK];
    double count;
} walk;

/* Calls for every element: with f (plain, `shift` taken off and exp taken) or as integers. */
static double sum_floats(const walk *w, reduction r, int64_t base, double shift)
{
    double sum = start(r);
    int64_t at[GW_ONNX_MAX_RANK] = {0};
    if (w->count == 0)
        return sum;
    do {
        int64_t place = base;
        for (int i = 0; i < w->rank; i++)
            place += at[i] * w->stride[i];
        const double x = gw_op_get(w->x, (size_t)place);
        sum = join(r, sum, r == LOG_SUM_EXP ? exp(x - shift) : x);
    } while (gw_op_next(w->rank, w->dim, at));
    return sum;
}

static double reduce_floats(const walk *w, reduction r, int64_t base)
{
    if (r == LOG_SUM_EXP) {
        double top = sum_floats(w, MAX, base, 0);
        top = isfinite(top) ? top : 0;
        return top + log(sum_floats(w, r, base, top));
    }
    const double sum = sum_floats(w, r, base, 0);
    return r == MEAN ? sum / w->count : r == L2 ? sqrt(sum) : r == LOG_SUM ? log(sum) : sum;
}

static int64_t reduce_ints(const walk *w, reduction r, int64_t base)
{
    int64_t sum = r == PROD ? 1 : r == MAX ? INT64_MIN : r == MIN ? INT64_MAX : 0;
    int64_t at[GW_ONNX_MAX_RANK] = {0};
    if (w->count == 0)
        return sum;
    do {
        int64_t place = base;
        for (int i = 0; i < w->rank; i++)
            place += at[i] * w->stride[i];
        sum = join_int(r, sum, gw_op_get_int(w->x, (size_t)place));
    } while (gw_op_next(w->rank, w->dim, at));
    return r == MEAN && w->count > 0 ? sum / (int64_t)w->count : r == L2 ? (int64_t)sqrt((double)sum) : sum;
}

static int reduce_run(gw_tensor_call *c)
{
    const gw_tensor *x = c->in[0];
    const reduction r = *(const reduction *)c->op->detail;
    const bool whole = !gw_op_is_float(x->type) && r < LOG_SUM;
    bool reduced[GW_ONNX_MAX_RANK];
    walk w = {.x = x, .count = 1};
    int64_t dim[GW_ONNX_MAX_RANK], stride[GW_ONNX_MAX_RANK], at[GW_ONNX_MAX_RANK] = {0}, step = 1;
    int rank = 0;
    GW_TRY(reduced_axes(c, reduced));
    int64_t own[GW_ONNX_MAX_RANK];
    for (int i = x->rank - 1; i >= 0; step *= x->dim[i--])
        own[i] = step;
    for (int i = 0; i < x->rank; i++) {
        if (reduced[i]) {
            w.dim[w.rank] = x->dim[i];
            w.stride[w.rank++] = own[i];
            w.count *= (double)x->dim[i];
        } else {
            dim[rank] = x->dim[i];
            stride[rank++] = own[i];
        }
    }
    const size_t n = gw_tensor_elements(c->out[0]);
    for (size_t i = 0; i < n; i++, gw_op_next(rank, dim, at)) {
        int64_t base = 0;
        for (int k = 0; k < rank; k++)
            base += at[k] * stride[k];
        if (whole)
            gw_op_put_int(c->out[0], i, reduce_ints(&w, r, base));
        else
            gw_op_put(c->out[0], i, reduce_floats(&w, r, base));
    }
    return GW_OK;
}

/* ---- Along one axis ---- */

typedef struct line { /* x as [outer][n][inner] */
    size_t outer, n, inner;
} line;

static line line_of(const gw_tensor *x, int from, int to)
{
    return (line){gw_op_product(x->dim, 0, from), gw_op_product(x->dim, from, to),
                  gw_op_product(x->dim, to, x->rank)};
}

static int arg_shape(gw_tensor_call *c)
{
    const gw_tensor *x = c->in[0];
    int64_t dim[GW_ONNX_MAX_RANK];
    int axis = 0, rank = 0;
    GW_TRY(gw_op_axis(c, gw_op_int(c, "axis", 0), x->rank, &axis));
    if (x->dim[axis] == 0)
        return gw_op_fail(c, GW_EMISMATCH, "an axis of no elements");
    for (int i = 0; i < x->rank; i++)
        if (i != axis || gw_op_int(c, "keepdims", 1))
            dim[rank++] = i == axis ? 1 : x->dim[i];
    c->work = (double)gw_tensor_elements(x);
    return gw_op_set(c, 0, GW_ONNX_INT64, rank, dim);
}

static int arg_run(gw_tensor_call *c)
{
    const gw_tensor *x = c->in[0];
    const bool last = gw_op_int(c, "select_last_index", 0) != 0;
    const double sign = *(const reduction *)c->op->detail == MAX ? 1 : -1;
    int axis = 0;
    GW_TRY(gw_op_axis(c, gw_op_int(c, "axis", 0), x->rank, &axis));
    const line l = line_of(x, axis, axis + 1);
    for (size_t o = 0; o < l.outer; o++) {
        for (size_t i = 0; i < l.inner; i++) {
            size_t best = 0;
            double top = sign * gw_op_get(x, o * l.n * l.inner + i);
            for (size_t k = 1; k < l.n; k++) {
                const double v = sign * gw_op_get(x, (o * l.n + k) * l.inner + i);
                if (v > top || (last && v >= top)) {
                    top = v;
                    best = k;
                }
            }
            gw_op_put_int(c->out[0], o * l.inner + i, (int64_t)best);
        }
    }
    return GW_OK;
}

/* Before opset 13 everything from the axis on is one line, and the axis is 1 when nothing is said. */
static int softmax_line(const gw_tensor_call *c, line *l)
{
    const gw_tensor *x = c->in[0];
    const bool old = c->opset < 13;
    int axis = 0;
    if (x->rank == 0) {
        *l = (line){1, 1, 1};
        return GW_OK;
    }
    GW_TRY(gw_op_axis(c, gw_op_int(c, "axis", old ? (x->rank > 1 ? 1 : 0) : -1), x->rank, &axis));
    *l = line_of(x, axis, old ? x->rank : axis + 1);
    return GW_OK;
}

static int softmax_shape(gw_tensor_call *c)
{
    line l;
    GW_TRY(softmax_line(c, &l));
    return gw_op_same(c);
}

static int softmax_run(gw_tensor_call *c)
{
    const gw_tensor *x = c->in[0];
    gw_tensor *y = c->out[0];
    line l = {0};
    GW_TRY(softmax_line(c, &l));
    const char what = c->op->name[0]; /* Softmax, LogSoftmax, Hardmax */
    for (size_t o = 0; o < l.outer; o++) {
        for (size_t i = 0; i < l.inner; i++) {
            const size_t first = o * l.n * l.inner + i;
            double top = -INFINITY, sum = 0;
            size_t best = 0;
            for (size_t k = 0; k < l.n; k++) {
                const double v = gw_op_get(x, first + k * l.inner);
                if (v > top) {
                    top = v;
                    best = k;
                }
            }
            for (size_t k = 0; k < l.n && what != 'H'; k++)
                sum += exp(gw_op_get(x, first + k * l.inner) - top);
            for (size_t k = 0; k < l.n; k++) {
                const double d = gw_op_get(x, first + k * l.inner) - top;
                gw_op_put(y, first + k * l.inner,
                          what == 'S'   ? exp(d) / sum
                          : what == 'L' ? d - log(sum)
                                        : (double)(k == best));
            }
        }
    }
    return GW_OK;
}

static int cumsum_shape(gw_tensor_call *c)
{
    int64_t axis;
    int n, unused;
    GW_TRY(gw_op_list(c, "axis", 1, &axis, 1, &n));
    if (n != 1)
        return gw_op_fail(c, GW_EFORMAT, "one axis is needed");
    GW_TRY(gw_op_axis(c, axis, c->in[0]->rank, &unused));
    return gw_op_same(c);
}

static int cumsum_run(gw_tensor_call *c)
{
    const gw_tensor *x = c->in[0];
    const bool exclusive = gw_op_int(c, "exclusive", 0) != 0, reverse = gw_op_int(c, "reverse", 0) != 0;
    int axis = 0;
    GW_TRY(gw_op_axis(c, gw_op_get_int(c->in[1], 0), x->rank, &axis));
    const line l = line_of(x, axis, axis + 1);
    for (size_t o = 0; o < l.outer; o++) {
        for (size_t i = 0; i < l.inner; i++) {
            double sum = 0;
            uint64_t whole = 0;
            for (size_t k = 0; k < l.n; k++) {
                const size_t at = (o * l.n + (reverse ? l.n - 1 - k : k)) * l.inner + i;
                const double before = sum;
                const uint64_t whole_before = whole;
                sum += gw_op_get(x, at);
                whole += (uint64_t)gw_op_get_int(x, at);
                if (gw_op_is_float(x->type))
                    gw_op_put(c->out[0], at, exclusive ? before : sum);
                else
                    gw_op_put_int(c->out[0], at, (int64_t)(exclusive ? whole_before : whole));
            }
        }
    }
    return GW_OK;
}

#define REDUCE(name, which)                                                                                  \
    {                                                                                                        \
        "Reduce" name, "axes:I keepdims:i noop_with_empty_axes:i", 1, 2, 1, GW_T_NUMBERS, 1, reduce_shape,   \
            reduce_run, &kind[which]                                                                         \
    }
const gw_tensor_op gw_ops_reduce[] = {
    REDUCE("Sum", SUM),
    REDUCE("Mean", MEAN),
    REDUCE("Max", MAX),
    REDUCE("Min", MIN),
    REDUCE("Prod", PROD),
    REDUCE("L1", L1),
    REDUCE("L2", L2),
    REDUCE("SumSquare", SUM_SQUARE),
    REDUCE("LogSum", LOG_SUM),
    REDUCE("LogSumExp", LOG_SUM_EXP),
    {"ArgMax", "axis:i keepdims:i select_last_index:i", 1, 1, 1, GW_T_NUMBERS, 1, arg_shape, arg_run,
     &kind[MAX]},
    {"ArgMin", "axis:i keepdims:i select_last_index:i", 1, 1, 1, GW_T_NUMBERS, 1, arg_shape, arg_run,
     &kind[MIN]},
    {"Softmax", "axis:i", 1, 1, 1, GW_T_FLOATS, 1, softmax_shape, softmax_run, NULL},
    {"LogSoftmax", "axis:i", 1, 1, 1, GW_T_FLOATS, 1, softmax_shape, softmax_run, NULL},
    {"Hardmax", "axis:i", 1, 1, 1, GW_T_FLOATS, 1, softmax_shape, softmax_run, NULL},
    {"CumSum", "exclusive:i reverse:i", 2, 2, 1, GW_T_NUMBERS, 1, cumsum_shape, cumsum_run, NULL},
    {0},
};
