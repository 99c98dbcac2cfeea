/* SPDX-License-Identifier: GPL-3.0-or-later
 * Operators that make each element of one element of each input: functions of one variable, and of two or
 * more with broadcasting. */
#include "kernels/ref/tensor.h"

#include <math.h>
#include <string.h>

/* An inner loop over n elements; strides in elements. Of one variable: b holds two parameters. */
typedef void (*inner)(size_t n, const void *a, int64_t sa, const void *b, int64_t sb, void *out);

typedef struct loops {
    inner f32, f64, i32, i64, u8, i8, boolean;
    const char *parameter[2]; /* of one variable: float attributes, and what they are when absent */
    double absent[2];
    bool makes_bool;
} loops;

static inner loop_for(const loops *l, gw_onnx_type t)
{
    switch (t) {
    case GW_ONNX_FLOAT:
        return l->f32;
    case GW_ONNX_DOUBLE:
        return l->f64;
    case GW_ONNX_INT32:
        return l->i32;
    case GW_ONNX_INT64:
        return l->i64;
    case GW_ONNX_UINT8:
        return l->u8;
    case GW_ONNX_INT8:
        return l->i8;
    default:
        return l->boolean;
    }
}

/* ---- One variable ---- */

#define ONE(fn, T, W, expr)                                                                                  \
    static void fn(size_t n, const void *a, int64_t sa, const void *b, int64_t sb, void *out)                \
    {                                                                                                        \
        const T *from = a;                                                                                   \
        T *to = out;                                                                                         \
        const double p = ((const double *)b)[0], q = ((const double *)b)[1];                                 \
        (void)sa, (void)sb, (void)p, (void)q;                                                                \
        for (size_t i = 0; i < n; i++) {                                                                     \
            const W x = (W)from[i];                                                                          \
            to[i] = (T)(expr);                                                                               \
        }                                                                                                    \
    }

/* name, expression in x (double), p and q, and the attributes behind p and q. Sums of two exponents are
 * written so that neither overflows. */
#define FLOAT_FUNCTIONS(X)                                                                                   \
    X(Exp, exp(x), NULL, 0, NULL, 0)                                                                         \
    X(Log, log(x), NULL, 0, NULL, 0)                                                                         \
    X(Sqrt, sqrt(x), NULL, 0, NULL, 0)                                                                       \
    X(Reciprocal, 1 / x, NULL, 0, NULL, 0)                                                                   \
    X(Tanh, tanh(x), NULL, 0, NULL, 0)                                                                       \
    X(Sigmoid, 1 / (1 + exp(-x)), NULL, 0, NULL, 0)                                                          \
    X(Erf, erf(x), NULL, 0, NULL, 0)                                                                         \
    X(Sin, sin(x), NULL, 0, NULL, 0)                                                                         \
    X(Cos, cos(x), NULL, 0, NULL, 0)                                                                         \
    X(Tan, tan(x), NULL, 0, NULL, 0)                                                                         \
    X(Asin, asin(x), NULL, 0, NULL, 0)                                                                       \
    X(Acos, acos(x), NULL, 0, NULL, 0)                                                                       \
    X(Atan, atan(x), NULL, 0, NULL, 0)                                                                       \
    X(Sinh, sinh(x), NULL, 0, NULL, 0)                                                                       \
    X(Cosh, cosh(x), NULL, 0, NULL, 0)                                                                       \
    X(Asinh, asinh(x), NULL, 0, NULL, 0)                                                                     \
    X(Acosh, acosh(x), NULL, 0, NULL, 0)                                                                     \
    X(Atanh, atanh(x), NULL, 0, NULL, 0)                                                                     \
    X(Floor, floor(x), NULL, 0, NULL, 0)                                                                     \
    X(Ceil, ceil(x), NULL, 0, NULL, 0)                                                                       \
    X(Round, rint(x), NULL, 0, NULL, 0) /* half to even */                                                   \
    X(LeakyRelu, x < 0 ? p * x : x, "alpha", 0.01, NULL, 0)                                                  \
    X(ThresholdedRelu, x > p ? x : x != x ? x : 0, "alpha", 1, NULL, 0)                                      \
    X(Elu, x < 0 ? p * expm1(x) : x, "alpha", 1, NULL, 0)                                                    \
    X(Celu, x < 0 ? p * expm1(x / p) : x, "alpha", 1, NULL, 0)                                               \
    X(Selu, q *(x < 0 ? p * expm1(x) : x), "alpha", 1.67326319217681884765625, "gamma",                      \
      1.05070102214813232421875)                                                                             \
    X(Softplus, x > 0 ? x + log1p(exp(-x)) : log1p(exp(x)), NULL, 0, NULL, 0)                                \
    X(Softsign, x / (1 + fabs(x)), NULL, 0, NULL, 0)                                                         \
    X(HardSigmoid, between(p *x + q), "alpha", 0.2, "beta", 0.5)                                             \
    X(HardSwish, x *between(x / 6 + 0.5), NULL, 0, NULL, 0)                                                  \
    X(Mish, x *tanh(x > 0 ? x + log1p(exp(-x)) : log1p(exp(x))), NULL, 0, NULL, 0)                           \
    X(Silu, x / (1 + exp(-x)), NULL, 0, NULL, 0)                                                             \
    X(Shrink, x > p ? x - q : x < -p ? x + q : x != x ? x : 0, "lambd", 0.5, "bias", 0)

static double between(double x) /* 0 and 1; not a number stays that */
{
    return x < 0 ? 0 : x > 1 ? 1 : x;
}

#define X(name, expr, p, dp, q, dq)                                                                          \
    ONE(name##_f32, float, double, expr)                                                                     \
    ONE(name##_f64, double, double, expr)                                                                    \
    static const loops name##_loops = {                                                                      \
        .f32 = name##_f32, .f64 = name##_f64, .parameter = {p, q}, .absent = {dp, dq}};
FLOAT_FUNCTIONS(X)
#undef X

ONE(gelu_f32, float, double, 0.5 * x * (1 + erf(x * 0.70710678118654752440)))
ONE(gelu_f64, double, double, 0.5 * x * (1 + erf(x * 0.70710678118654752440)))
static const loops gelu_loops = {.f32 = gelu_f32, .f64 = gelu_f64};
#define GELU_TANH 0.5 * x *(1 + tanh(0.79788456080286535588 * (x + 0.044715 * x * x * x)))
ONE(gelu_tanh_f32, float, double, GELU_TANH)
ONE(gelu_tanh_f64, double, double, GELU_TANH)
static const loops gelu_tanh_loops = {.f32 = gelu_tanh_f32, .f64 = gelu_tanh_f64};

/* Integers wrap round: unsigned arithmetic. */
#define NUMBER_FUNCTIONS(X)                                                                                  \
    X(Relu, x < 0 ? 0 : x, (int64_t)x < 0 ? 0 : x)                                                           \
    X(Neg, -x, 0 - x)                                                                                        \
    X(Abs, fabs(x), (int64_t)x < 0 ? 0 - x : x)                                                              \
    X(Sign, x > 0 ? 1 : x < 0 ? -1 : x, (int64_t)x > 0 ? 1 : (int64_t)x < 0 ? (uint64_t)-1 : 0)
#define X(name, real, whole)                                                                                 \
    ONE(name##_f32, float, double, real)                                                                     \
    ONE(name##_f64, double, double, real)                                                                    \
    ONE(name##_i32, int32_t, uint64_t, whole)                                                                \
    ONE(name##_i64, int64_t, uint64_t, whole)                                                                \
    ONE(name##_u8, uint8_t, uint64_t, whole)                                                                 \
    ONE(name##_i8, int8_t, uint64_t, whole)                                                                  \
    static const loops name##_loops = {name##_f32, name##_f64, name##_i32, name##_i64, name##_u8,            \
                                       name##_i8,  NULL,       {0},        {0},        false};
NUMBER_FUNCTIONS(X)
#undef X
ONE(not_bool, uint8_t, int, !x)
static const loops not_loops = {.boolean = not_bool};

static int one_shape(gw_tensor_call *c)
{
    const loops *l = c->op->detail;
    if (!loop_for(l, c->in[0]->type))
        return gw_op_fail(c, GW_ENOTSUP, "element type %d", (int)c->in[0]->type);
    return gw_op_same(c);
}

static int run_loops(const gw_tensor_call *c, const loops *l)
{
    double p[2];
    for (int i = 0; i < 2; i++)
        p[i] = l->parameter[i] ? gw_op_float(c, l->parameter[i], l->absent[i]) : 0;
    loop_for(l, c->in[0]->type)(gw_tensor_elements(c->in[0]), c->in[0]->data, 1, p, 0, c->out[0]->data);
    return GW_OK;
}

static int one_run(gw_tensor_call *c)
{
    return run_loops(c, c->op->detail);
}

static int gelu_run(gw_tensor_call *c)
{
    const bool tanh_form = strcmp(gw_op_text(c, "approximate", "none"), "tanh") == 0;
    return run_loops(c, tanh_form ? &gelu_tanh_loops : &gelu_loops);
}

static int is_shape(gw_tensor_call *c)
{
    return gw_op_set(c, 0, GW_ONNX_BOOL, c->in[0]->rank, c->in[0]->dim);
}

static int is_nan_run(gw_tensor_call *c)
{
    for (size_t i = 0; i < gw_tensor_elements(c->in[0]); i++) {
        const double x = gw_op_get(c->in[0], i);
        ((uint8_t *)c->out[0]->data)[i] = x != x;
    }
    return GW_OK;
}

static int is_inf_run(gw_tensor_call *c)
{
    const bool low = gw_op_int(c, "detect_negative", 1) != 0, high = gw_op_int(c, "detect_positive", 1) != 0;
    for (size_t i = 0; i < gw_tensor_elements(c->in[0]); i++) {
        const double x = gw_op_get(c->in[0], i);
        ((uint8_t *)c->out[0]->data)[i] = isinf(x) && (x > 0 ? high : low);
    }
    return GW_OK;
}

/* ---- Two variables ---- */

#define TWO(fn, T, W, R, expr)                                                                               \
    static void fn(size_t n, const void *a, int64_t sa, const void *b, int64_t sb, void *out)                \
    {                                                                                                        \
        const T *pa = a, *pb = b;                                                                            \
        R *to = out;                                                                                         \
        for (size_t i = 0; i < n; i++) {                                                                     \
            const W x = (W)pa[(int64_t)i * sa], y = (W)pb[(int64_t)i * sb];                                  \
            to[i] = (R)(expr);                                                                               \
        }                                                                                                    \
    }

static int64_t divide(int64_t x, int64_t y) /* towards zero; by zero: 0, as ONNX leaves it open */
{
    return y == 0 ? 0 : y == -1 ? (int64_t)(0 - (uint64_t)x) : x / y;
}
static int64_t remainder_of(int64_t x, int64_t y, bool c_sign)
{
    if (y == 0 || y == -1)
        return 0;
    const int64_t r = x % y;
    return !c_sign && r != 0 && (r < 0) != (y < 0) ? r + y : r;
}

/* name, on doubles, on integers (int64_t). Max and Min hand on what is not a number. */
#define NUMBER_PAIRS(X)                                                                                      \
    X(Add, x + y, (uint64_t)x + (uint64_t)y)                                                                 \
    X(Sub, x - y, (uint64_t)x - (uint64_t)y)                                                                 \
    X(Mul, x *y, (uint64_t)x *(uint64_t)y)                                                                   \
    X(Div, x / y, divide(x, y))                                                                              \
    X(PRelu, x < 0 ? x * y : x, x < 0 ? (int64_t)((uint64_t)x * (uint64_t)y) : x)                            \
    X(Max, x > y || x != x ? x : y, x > y ? x : y)                                                           \
    X(Min, x < y || x != x ? x : y, x < y ? x : y)
#define X(name, real, whole)                                                                                 \
    TWO(name##2_f32, float, float, float, real)                                                              \
    TWO(name##2_f64, double, double, double, real)                                                           \
    TWO(name##2_i32, int32_t, int64_t, int32_t, whole)                                                       \
    TWO(name##2_i64, int64_t, int64_t, int64_t, whole)                                                       \
    TWO(name##2_u8, uint8_t, int64_t, uint8_t, whole)                                                        \
    TWO(name##2_i8, int8_t, int64_t, int8_t, whole)                                                          \
    static const loops name##2_loops = {name##2_f32, name##2_f64, name##2_i32, name##2_i64, name##2_u8,      \
                                        name##2_i8,  NULL,        {0},         {0},         false};
NUMBER_PAIRS(X)
#undef X

#define COMPARISONS(X)                                                                                       \
    X(Equal, x == y)                                                                                         \
    X(Greater, x > y)                                                                                        \
    X(Less, x < y)                                                                                           \
    X(GreaterOrEqual, x >= y)                                                                                \
    X(LessOrEqual, x <= y)
#define X(name, expr)                                                                                        \
    TWO(name##2_f32, float, float, uint8_t, expr)                                                            \
    TWO(name##2_f64, double, double, uint8_t, expr)                                                          \
    TWO(name##2_i32, int32_t, int64_t, uint8_t, expr)                                                        \
    TWO(name##2_i64, int64_t, int64_t, uint8_t, expr)                                                        \
    TWO(name##2_u8, uint8_t, int64_t, uint8_t, expr)                                                         \
    TWO(name##2_i8, int8_t, int64_t, uint8_t, expr)                                                          \
    static const loops name##2_loops = {name##2_f32, name##2_f64, name##2_i32, name##2_i64, name##2_u8,      \
                                        name##2_i8,  name##2_u8,  {0},         {0},         true};
COMPARISONS(X)
#undef X

#define LOGIC(X)                                                                                             \
    X(And, x &&y)                                                                                            \
    X(Or, x || y)                                                                                            \
    X(Xor, !x != !y)
#define X(name, expr)                                                                                        \
    TWO(name##2_bool, uint8_t, int, uint8_t, expr)                                                           \
    static const loops name##2_loops = {.boolean = name##2_bool};
LOGIC(X)
#undef X

TWO(mod_i32, int32_t, int64_t, int32_t, remainder_of(x, y, false))
TWO(mod_i64, int64_t, int64_t, int64_t, remainder_of(x, y, false))
TWO(mod_u8, uint8_t, int64_t, uint8_t, remainder_of(x, y, false))
TWO(mod_i8, int8_t, int64_t, int8_t, remainder_of(x, y, false))
static const loops mod_loops = {.i32 = mod_i32, .i64 = mod_i64, .u8 = mod_u8, .i8 = mod_i8};
TWO(fmod_f32, float, double, float, fmod(x, y))
TWO(fmod_f64, double, double, double, fmod(x, y))
TWO(fmod_i32, int32_t, int64_t, int32_t, remainder_of(x, y, true))
TWO(fmod_i64, int64_t, int64_t, int64_t, remainder_of(x, y, true))
TWO(fmod_u8, uint8_t, int64_t, uint8_t, remainder_of(x, y, true))
TWO(fmod_i8, int8_t, int64_t, int8_t, remainder_of(x, y, true))
static const loops fmod_loops = {
    .f32 = fmod_f32, .f64 = fmod_f64, .i32 = fmod_i32, .i64 = fmod_i64, .u8 = fmod_u8, .i8 = fmod_i8};

/* Operators before opset 7 line the second input up with a given axis of the first. */
static int aligned(const gw_tensor_call *c, const gw_tensor *b, gw_tensor *out)
{
    *out = *b;
    const gw_tensor *a = c->in[0];
    if (c->opset < 7 && strcmp(c->op->name, "PRelu") == 0 && b->rank == 1 && a->rank > 2 &&
        b->dim[0] == a->dim[1]) {
        out->rank = a->rank - 1; /* a slope for each channel */
        for (int i = 1; i < out->rank; i++)
            out->dim[i] = 1;
        return GW_OK;
    }
    if (c->opset >= 7 || !gw_op_int(c, "broadcast", 0) || !gw_onnx_attr_find(c->node, "axis"))
        return GW_OK;
    int axis;
    GW_TRY(gw_op_axis(c, gw_op_int(c, "axis", 0), a->rank, &axis));
    if (axis + b->rank > a->rank)
        return gw_op_fail(c, GW_EMISMATCH, "input 1 does not fit from axis %d of input 0", axis);
    out->rank = a->rank - axis;
    for (int i = b->rank; i < out->rank; i++)
        out->dim[i] = 1;
    return GW_OK;
}

static int two_shape_as(gw_tensor_call *c, gw_onnx_type type)
{
    gw_tensor b;
    int rank;
    int64_t dim[GW_ONNX_MAX_RANK];
    GW_TRY(aligned(c, c->in[1], &b));
    if (!gw_op_broadcast(c->in[0], &b, &rank, dim))
        return gw_op_fail(c, GW_EMISMATCH, "the shapes of '%s' and '%s' do not fit each other",
                          c->node->in[0], c->node->in[1]);
    return gw_op_set(c, 0, type, rank, dim);
}

static const loops *loops_of(const gw_tensor_call *c)
{
    return c->op->detail == &mod_loops && gw_op_int(c, "fmod", 0) ? &fmod_loops : c->op->detail;
}

static int two_shape(gw_tensor_call *c)
{
    const loops *l = loops_of(c);
    if (!loop_for(l, c->in[0]->type))
        return gw_op_fail(c, GW_ENOTSUP, "element type %d", (int)c->in[0]->type);
    GW_TRY(two_shape_as(c, l->makes_bool ? GW_ONNX_BOOL : c->in[0]->type));
    if (strcmp(c->op->name, "PRelu") == 0 && c->out[0])
        for (int i = 0; i < c->out[0]->rank; i++)
            if (c->out[0]->rank != c->in[0]->rank || c->out[0]->dim[i] != c->in[0]->dim[i])
                return gw_op_fail(c, GW_EMISMATCH, "the slope does not fit the input");
    return GW_OK;
}

/* out = loop(a, b) under broadcasting; out may be a where a has out's shape. */
static void pair(inner loop, const gw_tensor *a, const gw_tensor *b, gw_tensor *out)
{
    int64_t sa[GW_ONNX_MAX_RANK], sb[GW_ONNX_MAX_RANK], at[GW_ONNX_MAX_RANK] = {0};
    const size_t ea = gw_tensor_type_bytes(a->type), eb = gw_tensor_type_bytes(b->type),
                 eo = gw_tensor_type_bytes(out->type), n = gw_tensor_elements(out);
    if (n == 0)
        return;
    int64_t dim[GW_ONNX_MAX_RANK];
    int rank = out->rank;
    memcpy(dim, out->dim, sizeof dim);
    gw_op_strides(a, rank, dim, sa);
    gw_op_strides(b, rank, dim, sb);
    if (rank == 0)
        rank = 1, dim[0] = 1, sa[0] = sb[0] = 0;
    /* Dimensions over which both inputs go on evenly are one. */
    while (rank > 1 && sa[rank - 2] == sa[rank - 1] * dim[rank - 1] &&
           sb[rank - 2] == sb[rank - 1] * dim[rank - 1]) {
        rank--;
        dim[rank - 1] *= dim[rank];
        sa[rank - 1] = sa[rank];
        sb[rank - 1] = sb[rank];
    }
    const size_t row = (size_t)dim[rank - 1];
    unsigned char *to = out->data;
    do {
        int64_t ia = 0, ib = 0;
        for (int i = 0; i < rank - 1; i++) {
            ia += at[i] * sa[i];
            ib += at[i] * sb[i];
        }
        loop(row, (const unsigned char *)a->data + (size_t)ia * ea, sa[rank - 1],
             (const unsigned char *)b->data + (size_t)ib * eb, sb[rank - 1], to);
        to += row * eo;
    } while (gw_op_next(rank - 1, dim, at));
}

static int two_run(gw_tensor_call *c)
{
    gw_tensor b;
    GW_TRY(aligned(c, c->in[1], &b));
    pair(loop_for(loops_of(c), c->in[0]->type), c->in[0], &b, c->out[0]);
    return GW_OK;
}

/* Pow alone takes two types: the exponent's may differ. */
static int pow_shape(gw_tensor_call *c)
{
    if (!(GW_T_NUMBERS >> c->in[1]->type & 1))
        return gw_op_fail(c, GW_ENOTSUP, "the exponent has element type %d", (int)c->in[1]->type);
    return two_shape_as(c, c->in[0]->type);
}

static int64_t whole_power(int64_t x, int64_t n)
{
    if (n < 0)
        return x == 1 ? 1 : x == -1 ? (n % 2 ? -1 : 1) : 0;
    uint64_t y = 1, b = (uint64_t)x;
    for (; n > 0; n >>= 1, b *= b)
        if (n & 1)
            y *= b;
    return (int64_t)y;
}

static int pow_run(gw_tensor_call *c)
{
    const gw_tensor *a = c->in[0];
    gw_tensor *out = c->out[0], b;
    int64_t sa[GW_ONNX_MAX_RANK], sb[GW_ONNX_MAX_RANK], at[GW_ONNX_MAX_RANK] = {0};
    GW_TRY(aligned(c, c->in[1], &b));
    const bool whole = !gw_op_is_float(a->type) && !gw_op_is_float(b.type);
    gw_op_strides(a, out->rank, out->dim, sa);
    gw_op_strides(&b, out->rank, out->dim, sb);
    const size_t n = gw_tensor_elements(out);
    for (size_t i = 0; i < n; i++, gw_op_next(out->rank, out->dim, at)) {
        int64_t ia = 0, ib = 0;
        for (int k = 0; k < out->rank; k++) {
            ia += at[k] * sa[k];
            ib += at[k] * sb[k];
        }
        if (whole) {
            gw_op_put_int(out, i, whole_power(gw_op_get_int(a, (size_t)ia), gw_op_get_int(&b, (size_t)ib)));
        } else {
            const double x = gw_op_get(a, (size_t)ia), y = gw_op_get(&b, (size_t)ib);
            gw_op_put(out, i, y == 2 ? x * x : pow(x, y));
        }
    }
    return GW_OK;
}

/* ---- Any number of inputs ---- */

static int many_shape(gw_tensor_call *c)
{
    gw_tensor all = *c->in[0];
    if (!loop_for(c->op->detail, all.type))
        return gw_op_fail(c, GW_ENOTSUP, "element type %d", (int)all.type);
    for (int i = 1; i < c->n_in; i++) {
        if (!c->in[i])
            return gw_op_fail(c, GW_EFORMAT, "input %d is missing", i);
        if (!gw_op_broadcast(&all, c->in[i], &all.rank, all.dim))
            return gw_op_fail(c, GW_EMISMATCH, "the shape of '%s' does not fit those before it",
                              c->node->in[i]);
    }
    c->work = (double)c->n_in * (double)gw_tensor_elements(&all);
    return gw_op_set(c, 0, all.type, all.rank, all.dim);
}

static int many_run(gw_tensor_call *c)
{
    gw_tensor *out = c->out[0];
    const inner loop = loop_for(c->op->detail, out->type);
    int64_t stride[GW_ONNX_MAX_RANK];
    gw_op_strides(c->in[0], out->rank, out->dim, stride);
    gw_op_gather(c->in[0]->data, out->data, gw_tensor_type_bytes(out->type), out->rank, out->dim, stride, 0);
    for (int i = 1; i < c->n_in; i++)
        pair(loop, out, c->in[i], out);
    if (strcmp(c->op->name, "Mean") == 0)
        for (size_t i = 0; i < gw_tensor_elements(out); i++)
            gw_op_put(out, i, gw_op_get(out, i) / c->n_in);
    return GW_OK;
}

#define OLD            "consumed_inputs:I "
#define TWO_ATTRIBUTES OLD "axis:i broadcast:i"
#define X(op, expr, p, dp, q, dq)                                                                            \
    {#op,        OLD "alpha:f beta:f gamma:f lambd:f bias:f", 1, 1, 1, GW_T_FLOATS, 1, one_shape, one_run,   \
     &op##_loops},
const gw_tensor_op gw_ops_pointwise[] = {
    FLOAT_FUNCTIONS(X)
#undef X
#define X(op, real, whole) {#op, OLD, 1, 1, 1, GW_T_NUMBERS, 1, one_shape, one_run, &op##_loops},
        NUMBER_FUNCTIONS(X)
#undef X
            {"Not", "", 1, 1, 1, GW_T(BOOL), 1, one_shape, one_run, &not_loops},
    {"Gelu", "approximate:s", 1, 1, 1, GW_T_FLOATS, 1, one_shape, gelu_run, &gelu_loops},
    {"IsNaN", "", 1, 1, 1, GW_T_FLOATS, 1, is_shape, is_nan_run, NULL},
    {"IsInf", "detect_negative:i detect_positive:i", 1, 1, 1, GW_T_FLOATS, 1, is_shape, is_inf_run, NULL},
    {"Add", TWO_ATTRIBUTES, 2, 2, 2, GW_T_NUMBERS, 1, two_shape, two_run, &Add2_loops},
    {"Sub", TWO_ATTRIBUTES, 2, 2, 2, GW_T_NUMBERS, 1, two_shape, two_run, &Sub2_loops},
    {"Mul", TWO_ATTRIBUTES, 2, 2, 2, GW_T_NUMBERS, 1, two_shape, two_run, &Mul2_loops},
    {"Div", TWO_ATTRIBUTES, 2, 2, 2, GW_T_NUMBERS, 1, two_shape, two_run, &Div2_loops},
    {"Pow", TWO_ATTRIBUTES, 2, 2, 1, GW_T_NUMBERS, 1, pow_shape, pow_run, NULL},
    {"PRelu", OLD, 2, 2, 2, GW_T_NUMBERS, 1, two_shape, two_run, &PRelu2_loops},
    {"Mod", "fmod:i", 2, 2, 2, GW_T_NUMBERS, 1, two_shape, two_run, &mod_loops},
#define X(op, expr) {#op, "axis:i broadcast:i", 2, 2, 2, GW_T_ALL, 1, two_shape, two_run, &op##2_loops},
    COMPARISONS(X)
#undef X
#define X(op, expr) {#op, "axis:i broadcast:i", 2, 2, 2, GW_T(BOOL), 1, two_shape, two_run, &op##2_loops},
        LOGIC(X)
#undef X
            {"Max", OLD, 1, GW_T_MANY, GW_T_MANY, GW_T_NUMBERS, 1, many_shape, many_run, &Max2_loops},
    {"Min", OLD, 1, GW_T_MANY, GW_T_MANY, GW_T_NUMBERS, 1, many_shape, many_run, &Min2_loops},
    {"Sum", OLD, 1, GW_T_MANY, GW_T_MANY, GW_T_FLOATS, 1, many_shape, many_run, &Add2_loops},
    {"Mean", OLD, 1, GW_T_MANY, GW_T_MANY, GW_T_FLOATS, 1, many_shape, many_run, &Add2_loops},
    {0},
};
