/* SPDX-License-Identifier: GPL-3.0-or-later
 * One function an operator: checks its attributes, infers its output's shape and adds its step, or folds
 * it into the step before it. What it does not do it notes as a problem, and goes on. Here: the pieces,
 * what works point by point, and the table of all. Semantics: the ONNX operator reference, 6 to 21. */
#include "kernels/nn/plan_build.h"

#include <math.h>
#include <string.h>

/* ---- Reading ---- */

int64_t gw_plan_attr_int(const gw_onnx_node *n, const char *name, int64_t absent)
{
    const gw_onnx_attr *a = gw_onnx_attr_find(n, name);
    return a && a->type == GW_ATTR_INT ? a->i : absent;
}

double gw_plan_attr_float(const gw_onnx_node *n, const char *name, float absent)
{
    const gw_onnx_attr *a = gw_onnx_attr_find(n, name);
    return (double)(a && a->type == GW_ATTR_FLOAT ? a->f : absent);
}

const gw_value *gw_plan_input(gw_build *b, const gw_onnx_node *n, int i)
{
    return i < n->n_in ? gw_plan_value(b, n->in[i]) : NULL;
}

size_t gw_plan_elements(const gw_onnx_tensor *t)
{
    size_t n = 1;
    for (int i = 0; i < t->rank; i++)
        n *= (size_t)t->dim[i];
    return n;
}

/* Element i of a float32 or float64 tensor. */
double gw_plan_real(const gw_onnx_tensor *t, size_t i)
{
    if (t->type == GW_ONNX_DOUBLE) {
        double d;
        memcpy(&d, (const char *)t->data + i * sizeof d, sizeof d);
        return d;
    }
    float f;
    memcpy(&f, (const char *)t->data + i * sizeof f, sizeof f);
    return (double)f;
}

const gw_onnx_tensor *gw_plan_reals(const gw_value *v)
{
    if (!v || v->kind != GW_VALUE_CONSTANT || (v->t->type != GW_ONNX_FLOAT && v->t->type != GW_ONNX_DOUBLE))
        return NULL;
    return v->t;
}

int gw_plan_ints(gw_build *b, const gw_onnx_node *n, const char *attr, int in, int64_t *out)
{
    const gw_onnx_attr *a = gw_onnx_attr_find(n, attr);
    if (a) {
        if (a->type != GW_ATTR_INTS || a->count > GW_ONNX_MAX_RANK)
            return -1;
        for (int i = 0; i < a->count; i++)
            out[i] = a->ints[i];
        return a->count;
    }
    const gw_value *v = in >= 0 ? gw_plan_input(b, n, in) : NULL;
    if (!v)
        return 0;
    if (v->kind != GW_VALUE_CONSTANT || v->t->rank > 1 || gw_plan_elements(v->t) > GW_ONNX_MAX_RANK ||
        (v->t->type != GW_ONNX_INT64 && v->t->type != GW_ONNX_INT32))
        return -1;
    const int count = (int)gw_plan_elements(v->t);
    for (int i = 0; i < count; i++) {
        int32_t narrow;
        if (v->t->type == GW_ONNX_INT64) {
            memcpy(&out[i], (const char *)v->t->data + (size_t)i * 8, 8);
        } else {
            memcpy(&narrow, (const char *)v->t->data + (size_t)i * 4, 4);
            out[i] = narrow;
        }
    }
    return count;
}

bool gw_plan_window(gw_build *b, const gw_onnx_node *n, int64_t kernel, gw_window *w)
{
    int64_t k[8] = {kernel}, stride[8] = {1}, dilation[8] = {1}, pads[8] = {0};
    const int n_kernel = gw_plan_ints(b, n, "kernel_shape", -1, k);
    const int n_stride = gw_plan_ints(b, n, "strides", -1, stride);
    const int n_dilation = gw_plan_ints(b, n, "dilations", -1, dilation);
    const int n_pads = gw_plan_ints(b, n, "pads", -1, pads);
    const int64_t most = GW_PLAN_MAX_SIZE;
    if (n_kernel < 0 || n_kernel > 1 || n_stride < 0 || n_stride > 1 || n_dilation < 0 || n_dilation > 1 ||
        (n_pads != 0 && n_pads != 2) || k[0] < 1 || k[0] > most || stride[0] < 1 || stride[0] > most ||
        dilation[0] < 1 || dilation[0] > most || pads[0] < 0 || pads[0] > most || pads[1] < 0 ||
        pads[1] > most)
        return false;
    *w = (gw_window){k[0], stride[0], dilation[0], pads[0], pads[1]};
    return true;
}

bool gw_plan_auto_pad(const gw_onnx_node *n, int64_t columns, gw_window *w)
{
    const gw_onnx_attr *pad = gw_onnx_attr_find(n, "auto_pad");
    if (!pad || pad->type != GW_ATTR_STRING || strcmp(pad->s, "NOTSET") == 0)
        return true;
    const bool upper = strcmp(pad->s, "SAME_UPPER") == 0, lower = strcmp(pad->s, "SAME_LOWER") == 0;
    if (!upper && !lower && strcmp(pad->s, "VALID") != 0)
        return false;
    const int64_t span = w->dilation * (w->kernel - 1) + 1;
    int64_t total =
        upper || lower ? ((columns + w->stride - 1) / w->stride - 1) * w->stride + span - columns : 0;
    total = total > 0 ? total : 0;
    w->left = lower ? total - total / 2 : total / 2;
    w->right = total - w->left;
    return true;
}

/* ---- Making ---- */

gw_netbuffer *gw_plan_at(gw_build *b, const gw_value *v)
{
    return &b->p->buffer[v->buffer];
}

bool gw_plan_sole(const gw_value *v)
{
    return v->uses == 1 && !v->shared;
}

bool gw_plan_is_whole(gw_build *b, const gw_value *v)
{
    return v->first == 0 && v->columns == gw_plan_at(b, v)->columns;
}

gw_netstep *gw_plan_add_step(gw_build *b, const gw_onnx_node *n, gw_netstep_kind kind, const gw_value *in)
{
    char *name = gw_plan_take(b->p, strlen(n->name) + strlen(n->op) + 1, 1);
    if (!name)
        return NULL;
    strcpy(name, n->name[0] ? n->name : n->op);
    gw_netstep *s = &b->p->step[b->p->n_steps++];
    *s = (gw_netstep){.kind = kind,
                      .node = name,
                      .in = in->buffer,
                      .in2 = -1,
                      .out = -1,
                      .at = (int32_t)in->first,
                      .stride = 1,
                      .kernel = 1,
                      .dilation = 1,
                      .groups = 1,
                      .phases = 1,
                      .taps = 1};
    return s;
}

int gw_plan_make_output(gw_build *b, const gw_onnx_node *n, gw_netstep *s, int64_t channels, int64_t columns)
{
    if (channels > GW_PLAN_MAX_SIZE || columns > GW_PLAN_MAX_ELEMENTS / channels)
        return gw_fail(GW_ERANGE, "%s: '%s' makes more than %d values", b->m->path, n->name,
                       GW_PLAN_MAX_ELEMENTS);
    const gw_netbuffer *in = &b->p->buffer[s->in];
    s->out = b->p->n_buffers++;
    s->columns = (uint32_t)columns;
    const uint64_t samples = (uint64_t)in->samples * s->stride;
    b->p->buffer[s->out] = (gw_netbuffer){
        .channels = (uint32_t)channels,
        .columns = (uint32_t)columns,
        .samples = samples > 1u << 24 || samples % s->phases != 0 ? 0 : (uint32_t)samples / s->phases,
        .stale = s->at > 0 && (uint32_t)s->at > in->stale ? 0
                 : s->at > 0                              ? in->stale - (uint32_t)s->at
                                                          : in->stale,
        .pooled = in->pooled,
        .mixed = in->mixed};
    gw_value *v = gw_plan_value(b, n->out[0]);
    v->kind = GW_VALUE_ACTIVATION;
    v->rank = 3;
    v->dim[0] = 1, v->dim[1] = channels, v->dim[2] = columns;
    v->buffer = s->out;
    v->columns = s->columns;
    v->maker = (int)(s - b->p->step);
    return GW_OK;
}

void gw_plan_same_shape(gw_build *b, const gw_onnx_node *n, const gw_value *x)
{
    gw_value *v = gw_plan_value(b, n->out[0]);
    v->rank = x->rank;
    v->flat = x->flat;
    memcpy(v->dim, x->dim, sizeof v->dim);
}

void gw_plan_need_around(gw_build *b, const gw_netstep *s)
{
    gw_netbuffer *in = &b->p->buffer[s->in];
    const int64_t end = (int64_t)s->at + (int64_t)(s->columns - 1) * s->stride +
                        (int64_t)(s->kernel - 1) * s->dilation + 1 - in->columns;
    if (s->at < 0 && in->before < (uint32_t)-s->at)
        in->before = (uint32_t)-s->at;
    if (end > (int64_t)in->after)
        in->after = (uint32_t)end;
}

gw_value *gw_plan_alias(gw_build *b, const gw_onnx_node *n, const gw_value *x)
{
    gw_value *v = gw_plan_value(b, n->out[0]);
    const gw_value named = *v;
    *v = *x;
    v->name = named.name;
    v->uses = named.uses;
    v->needed = named.needed;
    v->shared = x->shared || x->uses > 1;
    return v;
}

int gw_plan_alone(gw_build *b, const gw_onnx_node *n, const gw_value *x, gw_value *copy, const gw_value **out)
{
    if (gw_plan_is_whole(b, x))
        return GW_OK;
    gw_netstep *s = gw_plan_add_step(b, n, GW_STEP_COPY, x);
    if (!s)
        return GW_ENOMEM;
    s->channels = gw_plan_at(b, x)->channels;
    GW_TRY(gw_plan_make_output(b, n, s, s->channels, x->columns));
    *copy = *x;
    copy->buffer = s->out;
    copy->first = 0;
    copy->maker = -1; /* nothing is folded into a copy */
    *out = copy;
    return GW_OK;
}

/* ---- Point by point ---- */

/* After the step that made x, when it can and nobody else sees x. */
static bool fuse_act(gw_build *b, const gw_value *x, gw_act act)
{
    if (x->maker < 0 || !gw_plan_sole(x))
        return false;
    gw_netstep *s = &b->p->step[x->maker];
    if (s->act.kind != GW_ACT_NONE || s->kind == GW_STEP_MEAN || s->kind == GW_STEP_POOL ||
        s->kind == GW_STEP_COPY)
        return false;
    s->act = act;
    return true;
}

static int op_act(gw_build *b, const gw_onnx_node *n, gw_act act)
{
    const gw_value *x = gw_plan_input(b, n, 0);
    if (fuse_act(b, x, act)) {
        (void)gw_plan_alias(b, n, x);
        return GW_OK;
    }
    gw_netstep *s = gw_plan_add_step(b, n, GW_STEP_ACT, x);
    if (!s)
        return GW_ENOMEM;
    s->act = act;
    GW_TRY(gw_plan_make_output(b, n, s, gw_plan_at(b, x)->channels, x->columns));
    gw_plan_same_shape(b, n, x);
    return GW_OK;
}

static int op_relu(gw_build *b, const gw_onnx_node *n)
{
    return op_act(b, n, (gw_act){.kind = GW_ACT_RELU});
}

static int op_tanh(gw_build *b, const gw_onnx_node *n)
{
    return op_act(b, n, (gw_act){.kind = GW_ACT_TANH});
}

static int op_sigmoid(gw_build *b, const gw_onnx_node *n)
{
    return op_act(b, n, (gw_act){.kind = GW_ACT_SIGMOID});
}

static int op_leaky(gw_build *b, const gw_onnx_node *n)
{
    return op_act(b, n,
                  (gw_act){.kind = GW_ACT_LEAKY_RELU, .a = (float)gw_plan_attr_float(n, "alpha", 0.01f)});
}

static int op_elu(gw_build *b, const gw_onnx_node *n)
{
    return op_act(b, n, (gw_act){.kind = GW_ACT_ELU, .a = (float)gw_plan_attr_float(n, "alpha", 1)});
}

static int op_silu(gw_build *b, const gw_onnx_node *n)
{
    return op_act(b, n, (gw_act){.kind = GW_ACT_SILU});
}

static int op_gelu(gw_build *b, const gw_onnx_node *n)
{
    const gw_onnx_attr *a = gw_onnx_attr_find(n, "approximate");
    if (a && (a->type != GW_ATTR_STRING || strcmp(a->s, "none") != 0))
        return gw_plan_problem(b, n, "an approximate form");
    return op_act(b, n, (gw_act){.kind = GW_ACT_GELU});
}

static int op_softplus(gw_build *b, const gw_onnx_node *n)
{
    return op_act(b, n, (gw_act){.kind = GW_ACT_SOFTPLUS});
}

static int op_clip(gw_build *b, const gw_onnx_node *n)
{
    gw_act act = {.kind = GW_ACT_CLIP,
                  .a = (float)gw_plan_attr_float(n, "min", -INFINITY),
                  .b = (float)gw_plan_attr_float(n, "max", INFINITY)};
    for (int i = 1; i < 3; i++) {
        const gw_value *limit = gw_plan_input(b, n, i);
        const gw_onnx_tensor *t = gw_plan_reals(limit);
        if (limit && (!t || gw_plan_elements(t) != 1))
            return gw_plan_problem(b, n, "limits that are not constant numbers");
        if (limit && i == 1)
            act.a = (float)gw_plan_real(t, 0);
        else if (limit)
            act.b = (float)gw_plan_real(t, 0);
    }
    return op_act(b, n, act);
}

static int op_prelu(gw_build *b, const gw_onnx_node *n)
{
    const gw_onnx_tensor *t = gw_plan_reals(gw_plan_input(b, n, 1));
    if (!t || gw_plan_elements(t) != 1)
        return gw_plan_problem(b, n, "a slope that is not one constant number");
    return op_act(b, n, (gw_act){.kind = GW_ACT_LEAKY_RELU, .a = (float)gw_plan_real(t, 0)});
}

/* ---- Two inputs ---- */

typedef enum join_op { JOIN_ADD, JOIN_SUB, JOIN_MUL, JOIN_DIV } join_op;

/* A constant beside an activation: one number, or one for each channel, by numpy's rules. */
static int with_constant(gw_build *b, const gw_onnx_node *n, const gw_value *x, const gw_value *c, join_op op,
                         bool constant_first)
{
    const gw_onnx_tensor *t = gw_plan_reals(c);
    const size_t channels = gw_plan_at(b, x)->channels;
    const bool single = t && gw_plan_elements(t) == 1;
    bool fits = t && t->rank <= x->rank && x->rank >= 2 && gw_onnx_attr_find(n, "axis") == NULL &&
                (single || !x->flat);
    for (int i = 0; fits && i < t->rank; i++) {
        const int axis = x->rank - t->rank + i;
        fits = t->dim[i] == 1 || (axis == 1 && t->dim[i] == (int64_t)channels);
    }
    if (!fits)
        return gw_plan_problem(b, n, "a constant that is not one number a channel");
    if (op == JOIN_DIV && constant_first)
        return gw_plan_problem(b, n, "a division by something that is not constant");
    double *scale = gw_plan_take(b->p, channels, sizeof *scale),
           *shift = gw_plan_take(b->p, channels, sizeof *shift);
    if (!scale || !shift)
        return GW_ENOMEM;
    for (size_t i = 0; i < channels; i++) {
        const double k = gw_plan_real(t, single ? 0 : i);
        const bool product = op == JOIN_MUL || op == JOIN_DIV;
        scale[i] = op == JOIN_MUL ? k : op == JOIN_DIV ? 1 / k : op == JOIN_SUB && constant_first ? -1 : 1;
        shift[i] = product ? 0 : op == JOIN_SUB && !constant_first ? -k : k;
    }
    b->p->parameters += gw_plan_elements(t);
    return gw_plan_affine(b, n, x, scale, shift);
}

/* x + y where x comes straight from a convolution or a norm: the sum happens inside it. */
static bool fuse_sum(gw_build *b, const gw_onnx_node *n, const gw_value *x, const gw_value *y)
{
    if (x->maker < 0 || !gw_plan_sole(x) || y->maker >= x->maker || !gw_plan_is_whole(b, x) || x->flat ||
        y->flat)
        return false;
    gw_netstep *s = &b->p->step[x->maker];
    if ((s->kind != GW_STEP_CONV && s->kind != GW_STEP_NORM) || s->act.kind != GW_ACT_NONE || s->in2 >= 0 ||
        s->phases > 1)
        return false;
    s->in2 = y->buffer;
    s->at2 = (int32_t)y->first;
    gw_netbuffer *out = gw_plan_at(b, x);
    const gw_netbuffer *other = gw_plan_at(b, y);
    const uint32_t stale = other->stale > y->first ? other->stale - y->first : 0;
    out->stale = stale > out->stale ? stale : out->stale;
    out->mixed |= other->mixed;
    gw_value *v = gw_plan_alias(b, n, x);
    v->shared = false; /* the sum is a new value where x was */
    return true;
}

static int join(gw_build *b, const gw_onnx_node *n, const gw_value *x, const gw_value *y, gw_join kind)
{
    const bool one =
        x->rank == 3 && y->rank == 3 && x->dim[1] == y->dim[1] && y->dim[2] == 1 && x->dim[2] > 1;
    if (!one && (x->rank != y->rank || memcmp(x->dim, y->dim, (size_t)x->rank * sizeof *x->dim) != 0 ||
                 x->flat != y->flat || gw_plan_at(b, x)->channels != gw_plan_at(b, y)->channels))
        return gw_plan_problem(b, n, "inputs of different shapes");
    if (kind == GW_JOIN_ADD && x != y && !one && (fuse_sum(b, n, x, y) || fuse_sum(b, n, y, x)))
        return GW_OK;
    gw_netstep *s = gw_plan_add_step(b, n, GW_STEP_JOIN, x);
    if (!s)
        return GW_ENOMEM;
    s->join = kind;
    s->in2 = y->buffer;
    s->at2 = (int32_t)y->first;
    s->one_column = one;
    GW_TRY(gw_plan_make_output(b, n, s, gw_plan_at(b, x)->channels, x->columns));
    gw_netbuffer *out = &b->p->buffer[s->out];
    const gw_netbuffer *other = gw_plan_at(b, y);
    const uint32_t stale = !one && other->stale > y->first ? other->stale - y->first : 0;
    out->stale = stale > out->stale ? stale : out->stale;
    out->mixed |= other->mixed;
    gw_plan_same_shape(b, n, x);
    return GW_OK;
}

static int op_join(gw_build *b, const gw_onnx_node *n, join_op op)
{
    const gw_value *x = gw_plan_input(b, n, 0), *y = gw_plan_input(b, n, 1);
    if (!y)
        return gw_plan_problem(b, n, "only one input");
    if (y->kind == GW_VALUE_CONSTANT)
        return with_constant(b, n, x, y, op, false);
    if (x->kind == GW_VALUE_CONSTANT)
        return with_constant(b, n, y, x, op, true);
    if (op == JOIN_DIV)
        return gw_plan_problem(b, n, "a division by something that is not constant");
    const bool turn = op != JOIN_SUB && x->rank == 3 && y->rank == 3 && x->dim[2] == 1 && y->dim[2] > 1;
    return join(b, n, turn ? y : x, turn ? x : y,
                op == JOIN_ADD   ? GW_JOIN_ADD
                : op == JOIN_SUB ? GW_JOIN_SUB
                                 : GW_JOIN_MUL);
}

static int op_add(gw_build *b, const gw_onnx_node *n)
{
    return op_join(b, n, JOIN_ADD);
}

static int op_sub(gw_build *b, const gw_onnx_node *n)
{
    return op_join(b, n, JOIN_SUB);
}

static int op_mul(gw_build *b, const gw_onnx_node *n)
{
    return op_join(b, n, JOIN_MUL);
}

static int op_div(gw_build *b, const gw_onnx_node *n)
{
    return op_join(b, n, JOIN_DIV);
}

static int op_neg(gw_build *b, const gw_onnx_node *n)
{
    const gw_value *x = gw_plan_input(b, n, 0);
    const size_t channels = gw_plan_at(b, x)->channels;
    double *scale = gw_plan_take(b->p, channels, sizeof *scale),
           *zero = gw_plan_take(b->p, channels, sizeof *zero);
    if (!scale || !zero)
        return GW_ENOMEM;
    for (size_t i = 0; i < channels; i++)
        scale[i] = -1;
    return gw_plan_affine(b, n, x, scale, zero);
}

/* ---- The table ---- */

typedef struct operator_entry {
    const char *op;
    gw_plan_op *plan;
    bool constants; /* its first input may be a constant */
} operator_entry;

static const operator_entry operators[] = {
    {"Conv", gw_plan_op_conv, false},
    {"ConvTranspose", gw_plan_op_transposed, false},
    {"Gemm", gw_plan_op_gemm, false},
    {"MatMul", gw_plan_op_matmul, false},
    {"Relu", op_relu, false},
    {"Tanh", op_tanh, false},
    {"Sigmoid", op_sigmoid, false},
    {"LeakyRelu", op_leaky, false},
    {"PRelu", op_prelu, false},
    {"Elu", op_elu, false},
    {"Silu", op_silu, false},
    {"Swish", op_silu, false},
    {"Gelu", op_gelu, false},
    {"Softplus", op_softplus, false},
    {"Clip", op_clip, false},
    {"Add", op_add, true},
    {"Sub", op_sub, true},
    {"Mul", op_mul, true},
    {"Div", op_div, true},
    {"Neg", op_neg, false},
    {"BatchNormalization", gw_plan_op_batchnorm, false},
    {"InstanceNormalization", gw_plan_op_instancenorm, false},
    {"GroupNormalization", gw_plan_op_groupnorm, false},
    {"LayerNormalization", gw_plan_op_layernorm, false},
    {"MaxPool", gw_plan_op_maxpool, false},
    {"AveragePool", gw_plan_op_averagepool, false},
    {"GlobalAveragePool", gw_plan_op_pool, false},
    {"ReduceMean", gw_plan_op_mean, false},
    {"Concat", gw_plan_op_concat, false},
    {"Slice", gw_plan_op_slice, false},
    {"Pad", gw_plan_op_pad, false},
    {"Flatten", gw_plan_op_flatten, false},
    {"Reshape", gw_plan_op_reshape, false},
    {"Squeeze", gw_plan_op_squeeze, false},
    {"Unsqueeze", gw_plan_op_unsqueeze, false},
    {"Identity", gw_plan_op_identity, true},
    {"Dropout", gw_plan_op_identity, false},
    {"Constant", gw_plan_op_constant, true},
};

static const operator_entry *find_operator(const gw_onnx_node *n)
{
    if (n->domain[0] != '\0' && strcmp(n->domain, "ai.onnx") != 0 && strcmp(n->domain, "gwstream") != 0)
        return NULL;
    for (size_t i = 0; i < sizeof operators / sizeof *operators; i++)
        if (strcmp(operators[i].op, n->op) == 0)
            return &operators[i];
    return NULL;
}

bool gw_plan_knows(const gw_onnx_node *n)
{
    return find_operator(n) != NULL;
}

/* Only a convolution adds the zeros that a Pad before it asks for. */
static bool takes_zeros(const gw_onnx_node *n)
{
    return strcmp(n->op, "Conv") == 0;
}

int gw_plan_node(gw_build *b, const gw_onnx_node *n)
{
    const operator_entry *entry = find_operator(n);
    for (int i = 1; i < n->n_out; i++) {
        const gw_value *v = gw_plan_value(b, n->out[i]);
        if (v && v->needed)
            return gw_plan_problem(b, n, "more than one output");
    }
    if (n->n_out == 0 || n->out[0][0] == '\0')
        return gw_plan_problem(b, n, "no first output");
    const gw_value *x = gw_plan_input(b, n, 0);
    if (!x && entry->plan != gw_plan_op_constant)
        return gw_plan_problem(b, n, "no input");
    bool activation = false;
    for (int i = 0; i < n->n_in; i++) {
        const gw_value *v = gw_plan_input(b, n, i);
        if (v && v->kind == GW_VALUE_NOTHING)
            return GW_OK; /* its maker's problem has been told */
        activation |= v && v->kind == GW_VALUE_ACTIVATION;
        if (v && (v->zeros_left || v->zeros_right) && !takes_zeros(n))
            return gw_fail(GW_EBUG, "%s: '%s' reads a padding that it cannot add", b->m->path, n->name);
    }
    if (x && x->kind == GW_VALUE_CONSTANT &&
        (!entry->constants || (!activation && entry->plan != gw_plan_op_identity)))
        return gw_plan_problem(b, n, "a constant input");
    return entry->plan(b, n);
}
