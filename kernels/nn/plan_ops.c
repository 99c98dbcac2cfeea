/* SPDX-License-Identifier: GPL-3.0-or-later
 * One function an operator: checks its attributes, infers its output's shape and adds its step, or folds
 * it into the convolution before it. What it does not do it notes as a problem, and goes on. Semantics:
 * the ONNX operator reference, versions 6 to 21. */
#include "kernels/nn/plan_build.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_SIZE = 1 << 20, MAX_ELEMENTS = 1 << 28 }; /* of a kernel, a stride ...; of a buffer */

static int64_t max64(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

/* ---- Reading ---- */

int64_t gw_plan_attr_int(const gw_onnx_node *n, const char *name, int64_t absent)
{
    const gw_onnx_attr *a = gw_onnx_attr_find(n, name);
    return a && a->type == GW_ATTR_INT ? a->i : absent;
}

static float attr_float(const gw_onnx_node *n, const char *name, float absent)
{
    const gw_onnx_attr *a = gw_onnx_attr_find(n, name);
    return a && a->type == GW_ATTR_FLOAT ? a->f : absent;
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
static double real_at(const gw_onnx_tensor *t, size_t i)
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

static const gw_onnx_tensor *reals(const gw_value *v)
{
    if (!v || v->kind != GW_VALUE_CONSTANT || (v->t->type != GW_ONNX_FLOAT && v->t->type != GW_ONNX_DOUBLE))
        return NULL;
    return v->t;
}

/* Up to GW_ONNX_MAX_RANK integers that an operator takes as an attribute in old files and as a constant
 * input in new ones. Returns how many, -1 when it is neither, 0 when it is left out. */
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

/* ---- Making ---- */

gw_netbuffer *gw_plan_at(gw_build *b, const gw_value *v)
{
    return &b->p->buffer[v->buffer];
}

/* Nobody but the one reader sees this buffer: what follows may be folded into what made it. */
static bool sole(const gw_value *v)
{
    return v->uses == 1 && !v->shared;
}

static bool is_whole(gw_build *b, const gw_value *v)
{
    return v->first == 0 && v->columns == gw_plan_at(b, v)->columns;
}

/* The convolution that made v and that nothing has been fused to yet, or NULL. */
static gw_netstep *bare_conv(gw_build *b, const gw_value *v)
{
    if (v->maker < 0 || !sole(v))
        return NULL;
    gw_netstep *s = &b->p->step[v->maker];
    return s->kind == GW_STEP_CONV && s->act == GW_ACT_NONE && s->in2 < 0 ? s : NULL;
}

gw_netstep *gw_plan_add_step(gw_build *b, const gw_onnx_node *n, gw_netstep_kind kind, const gw_value *in)
{
    gw_netstep *s = &b->p->step[b->p->n_steps];
    *s = (gw_netstep){.kind = kind, .in = in->buffer, .in2 = -1, .out = -1, .first = in->first, .stride = 1};
    s->kernel = s->dilation = s->groups = 1;
    char *name = gw_plan_take(b->p, strlen(n->name) + 1, 1);
    if (!name)
        return NULL;
    strcpy(name, n->name);
    s->node = name;
    b->p->n_steps++;
    return s;
}

/* A new buffer for the step's output, and the value that lies there: [1, channels, columns]. */
int gw_plan_make_output(gw_build *b, const gw_onnx_node *n, gw_netstep *s, int64_t channels, int64_t columns)
{
    if (columns > MAX_ELEMENTS / channels)
        return gw_fail(GW_ERANGE, "%s: '%s' makes more than %d values", b->m->path, n->name, MAX_ELEMENTS);
    const gw_netbuffer *in = &b->p->buffer[s->in];
    s->out = b->p->n_buffers++;
    s->columns = (uint32_t)columns;
    const uint64_t samples = (uint64_t)in->samples * s->stride;
    b->p->buffer[s->out] = (gw_netbuffer){.channels = (uint32_t)channels,
                                          .columns = (uint32_t)columns,
                                          .samples = samples > 1u << 24 ? 1u << 24 : (uint32_t)samples,
                                          .stale = in->stale > s->first ? in->stale - s->first : 0,
                                          .pooled = in->pooled};
    gw_value *v = gw_plan_value(b, n->out[0]);
    v->kind = GW_VALUE_ACTIVATION;
    v->rank = 3;
    v->dim[0] = 1, v->dim[1] = channels, v->dim[2] = columns;
    v->buffer = s->out;
    v->columns = s->columns;
    v->maker = (int)(s - b->p->step);
    return GW_OK;
}

/* The node's output is its input under another name. */
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

static void same_shape(gw_build *b, const gw_onnx_node *n, const gw_value *as)
{
    gw_value *v = gw_plan_value(b, n->out[0]);
    v->rank = as->rank;
    memcpy(v->dim, as->dim, sizeof v->dim);
}

/* Room behind and before the columns of a buffer for a reader's padding. */
static void need_padding(gw_build *b, const gw_netstep *s)
{
    gw_netbuffer *in = &b->p->buffer[s->in];
    if (in->before < s->pad_left)
        in->before = s->pad_left;
    if (in->after < s->pad_right)
        in->after = s->pad_right;
}

/* ---- Convolution and its relatives ---- */

static int weights(gw_build *b, gw_netstep *s, const gw_onnx_tensor *w, const gw_onnx_tensor *bias,
                   size_t out)
{
    const size_t n = gw_plan_elements(w);
    s->weight = gw_plan_take(b->p, n, sizeof *s->weight);
    s->bias = gw_plan_take(b->p, out, sizeof *s->bias);
    if (!s->weight || !s->bias)
        return GW_ENOMEM;
    for (size_t i = 0; i < n; i++)
        s->weight[i] = (float)real_at(w, i);
    for (size_t i = 0; bias && i < out; i++)
        s->bias[i] = (float)real_at(bias, i);
    b->p->parameters += n + (bias ? out : 0);
    return GW_OK;
}

static int op_conv(gw_build *b, const gw_onnx_node *n)
{
    const gw_value *x = gw_plan_input(b, n, 0), *bias = gw_plan_input(b, n, 2);
    const gw_onnx_tensor *w = reals(gw_plan_input(b, n, 1)), *shift = bias ? reals(bias) : NULL;
    if (x->rank != 3)
        return gw_plan_problem(b, n, "only one dimension is supported: input [1, channels, columns]");
    if (!w || (bias && !shift))
        return gw_plan_problem(b, n, "weights that are not constant floats");
    const int64_t groups = gw_plan_attr_int(n, "group", 1), channels = x->dim[1], columns = x->dim[2];
    if (w->rank != 3 || gw_plan_elements(w) == 0 || groups < 1 || channels % groups != 0 ||
        w->dim[0] % groups != 0 || w->dim[1] != channels / groups || w->dim[0] > MAX_SIZE ||
        (shift && (shift->rank != 1 || shift->dim[0] != w->dim[0])))
        return gw_plan_problem(b, n, "weights that do not fit its %lld channels", (long long)channels);
    int64_t stride[8] = {1}, dilation[8] = {1}, pads[8] = {0}, kernel[8] = {w->dim[2]};
    const int n_stride = gw_plan_ints(b, n, "strides", -1, stride);
    const int n_dilation = gw_plan_ints(b, n, "dilations", -1, dilation);
    const int n_pads = gw_plan_ints(b, n, "pads", -1, pads);
    const int n_kernel = gw_plan_ints(b, n, "kernel_shape", -1, kernel);
    if (n_stride < 0 || n_stride > 1 || n_dilation < 0 || n_dilation > 1 || n_kernel < 0 || n_kernel > 1 ||
        (n_pads != 0 && n_pads != 2) || kernel[0] != w->dim[2] || kernel[0] > MAX_SIZE || stride[0] < 1 ||
        stride[0] > MAX_SIZE || dilation[0] < 1 || dilation[0] > MAX_SIZE || pads[0] < 0 ||
        pads[0] > MAX_SIZE || pads[1] < 0 || pads[1] > MAX_SIZE)
        return gw_plan_problem(b, n, "kernel, stride, dilation or pads that make no sense");
    const int64_t span = dilation[0] * (kernel[0] - 1) + 1, s_ = stride[0];
    const gw_onnx_attr *pad = gw_onnx_attr_find(n, "auto_pad");
    if (pad && pad->type == GW_ATTR_STRING && strcmp(pad->s, "NOTSET") != 0) {
        const bool upper = strcmp(pad->s, "SAME_UPPER") == 0, lower = strcmp(pad->s, "SAME_LOWER") == 0;
        if (!upper && !lower && strcmp(pad->s, "VALID") != 0)
            return gw_plan_problem(b, n, "auto_pad '%.20s'", pad->s);
        const int64_t total =
            upper || lower ? max64(0, ((columns + s_ - 1) / s_ - 1) * s_ + span - columns) : 0;
        pads[0] = lower ? total - total / 2 : total / 2;
        pads[1] = total - pads[0];
    }
    if (pads[0] + pads[1] > 0 && !is_whole(b, x))
        return gw_plan_problem(b, n, "padding after a Slice");
    if (columns + pads[0] + pads[1] < span)
        return gw_plan_problem(b, n, "a kernel over %lld columns of an input of %lld", (long long)span,
                               (long long)(columns + pads[0] + pads[1]));
    const int64_t out_columns = (columns + pads[0] + pads[1] - span) / s_ + 1;

    gw_netstep *s = gw_plan_add_step(b, n, GW_STEP_CONV, x);
    if (!s)
        return GW_ENOMEM;
    s->groups = (uint32_t)groups;
    s->kernel = (uint32_t)kernel[0];
    s->stride = (uint32_t)s_;
    s->dilation = (uint32_t)dilation[0];
    s->pad_left = (uint32_t)pads[0];
    s->pad_right = (uint32_t)max64(0, (out_columns - 1) * s_ - pads[0] + span - columns);
    need_padding(b, s);
    GW_TRY(gw_plan_make_output(b, n, s, w->dim[0], out_columns));
    /* Columns that see the zeros on the left, or others that do. */
    gw_netbuffer *out = &b->p->buffer[s->out];
    const int64_t stale = ((int64_t)out->stale + pads[0] + s_ - 1) / s_;
    out->stale = stale < out_columns ? (uint32_t)stale : out->columns;
    return weights(b, s, w, shift, (size_t)w->dim[0]);
}

static int op_gemm(gw_build *b, const gw_onnx_node *n)
{
    const gw_value *x = gw_plan_input(b, n, 0), *third = gw_plan_input(b, n, 2);
    const gw_onnx_tensor *w = reals(gw_plan_input(b, n, 1)), *add = third ? reals(third) : NULL;
    if (x->rank != 2)
        return gw_plan_problem(b, n, "input that is not [1, channels]");
    if (!w || w->rank != 2 || gw_plan_elements(w) == 0 || (third && !add))
        return gw_plan_problem(b, n, "weights that are not a constant float matrix");
    const bool turned = gw_plan_attr_int(n, "transB", 0) != 0;
    const int64_t in = x->dim[1], out = turned ? w->dim[0] : w->dim[1];
    if (gw_plan_attr_int(n, "transA", 0) != 0)
        return gw_plan_problem(b, n, "a transposed input");
    if ((turned ? w->dim[1] : w->dim[0]) != in || out > MAX_SIZE)
        return gw_plan_problem(b, n, "weights that do not fit its %lld channels", (long long)in);
    if (add && (add->rank > 2 || (gw_plan_elements(add) != 1 && gw_plan_elements(add) != (size_t)out) ||
                (add->rank == 2 && add->dim[0] != 1)))
        return gw_plan_problem(b, n, "a bias that does not fit its %lld outputs", (long long)out);
    gw_netstep *s = gw_plan_add_step(b, n, GW_STEP_CONV, x);
    if (!s)
        return GW_ENOMEM;
    GW_TRY(gw_plan_make_output(b, n, s, out, 1));
    s->weight = gw_plan_take(b->p, (size_t)(in * out), sizeof *s->weight);
    s->bias = gw_plan_take(b->p, (size_t)out, sizeof *s->bias);
    if (!s->weight || !s->bias)
        return GW_ENOMEM;
    const double alpha = (double)attr_float(n, "alpha", 1), beta = (double)attr_float(n, "beta", 1);
    for (int64_t o = 0; o < out; o++) {
        for (int64_t i = 0; i < in; i++)
            s->weight[o * in + i] = (float)(alpha * real_at(w, (size_t)(turned ? o * in + i : i * out + o)));
        s->bias[o] = add ? (float)(beta * real_at(add, gw_plan_elements(add) == 1 ? 0 : (size_t)o)) : 0;
    }
    b->p->parameters += gw_plan_elements(w) + (add ? gw_plan_elements(add) : 0);
    gw_value *v = gw_plan_value(b, n->out[0]);
    v->rank = 2;
    return GW_OK;
}

/* y = scale[c] * x + shift[c]: into the convolution before, or as a convolution of its own. */
static int affine(gw_build *b, const gw_onnx_node *n, const gw_value *x, const double *scale,
                  const double *shift)
{
    const uint32_t channels = gw_plan_at(b, x)->channels;
    gw_netstep *s = bare_conv(b, x);
    if (s) {
        const size_t k = (size_t)b->p->buffer[s->in].channels / s->groups * s->kernel;
        for (size_t o = 0; o < channels; o++) {
            for (size_t i = 0; i < k; i++)
                s->weight[o * k + i] = (float)(scale[o] * (double)s->weight[o * k + i]);
            s->bias[o] = (float)(scale[o] * (double)s->bias[o] + shift[o]);
        }
        (void)gw_plan_alias(b, n, x);
        return GW_OK;
    }
    s = gw_plan_add_step(b, n, GW_STEP_CONV, x);
    if (!s)
        return GW_ENOMEM;
    s->groups = channels;
    GW_TRY(gw_plan_make_output(b, n, s, channels, x->columns));
    same_shape(b, n, x);
    s->weight = gw_plan_take(b->p, channels, sizeof *s->weight);
    s->bias = gw_plan_take(b->p, channels, sizeof *s->bias);
    if (!s->weight || !s->bias)
        return GW_ENOMEM;
    for (size_t o = 0; o < channels; o++) {
        s->weight[o] = (float)scale[o];
        s->bias[o] = (float)shift[o];
    }
    return GW_OK;
}

static int op_batchnorm(gw_build *b, const gw_onnx_node *n)
{
    const gw_value *x = gw_plan_input(b, n, 0);
    const size_t channels = gw_plan_at(b, x)->channels;
    const gw_onnx_tensor *t[4];
    for (int i = 0; i < 4; i++) {
        t[i] = reals(gw_plan_input(b, n, i + 1));
        if (!t[i] || t[i]->rank != 1 || gw_plan_elements(t[i]) != channels)
            return gw_plan_problem(b, n, "statistics that are not a constant for each channel");
    }
    if (gw_plan_attr_int(n, "training_mode", 0) != 0 || gw_plan_attr_int(n, "spatial", 1) != 1)
        return gw_plan_problem(b, n, "training mode or statistics in time");
    double *scale = gw_plan_take(b->p, channels, sizeof *scale),
           *shift = gw_plan_take(b->p, channels, sizeof *shift);
    if (!scale || !shift)
        return GW_ENOMEM;
    for (size_t c = 0; c < channels; c++) {
        scale[c] = real_at(t[0], c) / sqrt(real_at(t[3], c) + (double)attr_float(n, "epsilon", 1e-5f));
        shift[c] = real_at(t[1], c) - real_at(t[2], c) * scale[c];
    }
    b->p->parameters += 4 * channels;
    return affine(b, n, x, scale, shift);
}

/* ---- Point by point ---- */

static int op_act(gw_build *b, const gw_onnx_node *n, gw_act act)
{
    const gw_value *x = gw_plan_input(b, n, 0);
    if (x->maker >= 0 && sole(x)) {
        gw_netstep *s = &b->p->step[x->maker];
        if (s->act == GW_ACT_NONE && s->kind != GW_STEP_MEAN) {
            s->act = act;
            (void)gw_plan_alias(b, n, x);
            return GW_OK;
        }
    }
    gw_netstep *s = gw_plan_add_step(b, n, GW_STEP_ACT, x);
    if (!s)
        return GW_ENOMEM;
    s->act = act;
    GW_TRY(gw_plan_make_output(b, n, s, gw_plan_at(b, x)->channels, x->columns));
    same_shape(b, n, x);
    return GW_OK;
}

/* A constant beside an activation: one number, or one for each channel, by numpy's rules. */
static int with_constant(gw_build *b, const gw_onnx_node *n, const gw_value *x, const gw_value *c,
                         bool product)
{
    const gw_onnx_tensor *t = reals(c);
    const size_t channels = gw_plan_at(b, x)->channels;
    bool fits = t && t->rank <= x->rank && x->rank >= 2 && gw_onnx_attr_find(n, "axis") == NULL;
    for (int i = 0; fits && i < t->rank; i++) {
        const int axis = x->rank - t->rank + i;
        fits = t->dim[i] == 1 || (axis == 1 && t->dim[i] == (int64_t)channels);
    }
    if (!fits)
        return gw_plan_problem(b, n, "a constant that is not one number a channel");
    const bool single = gw_plan_elements(t) == 1;
    double *scale = gw_plan_take(b->p, channels, sizeof *scale),
           *shift = gw_plan_take(b->p, channels, sizeof *shift);
    if (!scale || !shift)
        return GW_ENOMEM;
    for (size_t i = 0; i < channels; i++) {
        const double k = real_at(t, single ? 0 : i);
        scale[i] = product ? k : 1;
        shift[i] = product ? 0 : k;
    }
    b->p->parameters += gw_plan_elements(t);
    return affine(b, n, x, scale, shift);
}

/* x + y where x comes straight from a convolution: the sum happens inside it. If nobody else reads y,
 * it happens in y's place. */
static bool fuse_sum(gw_build *b, const gw_onnx_node *n, const gw_value *x, const gw_value *y)
{
    gw_netstep *s = bare_conv(b, x);
    if (!s || y->maker >= x->maker || !is_whole(b, x) || !is_whole(b, y))
        return false;
    s->in2 = y->buffer;
    const uint32_t stale =
        gw_plan_at(b, x)->stale > gw_plan_at(b, y)->stale ? gw_plan_at(b, x)->stale : gw_plan_at(b, y)->stale;
    gw_value *v = gw_plan_alias(b, n, x);
    if (y->maker >= 0 && sole(y)) {
        gw_plan_at(b, x)->columns = 0;
        s->out = v->buffer = y->buffer;
    }
    v->shared = false; /* the sum is a new value, wherever it lies */
    gw_plan_at(b, v)->stale = stale;
    return true;
}

static int op_join(gw_build *b, const gw_onnx_node *n, bool product)
{
    const gw_value *x = gw_plan_input(b, n, 0), *y = gw_plan_input(b, n, 1);
    if (!y)
        return gw_plan_problem(b, n, "only one input");
    if (y->kind == GW_VALUE_CONSTANT)
        return with_constant(b, n, x, y, product);
    if (x->kind == GW_VALUE_CONSTANT)
        return with_constant(b, n, y, x, product);
    if (x->rank != y->rank || memcmp(x->dim, y->dim, (size_t)x->rank * sizeof *x->dim) != 0)
        return gw_plan_problem(b, n, "inputs of different shapes");
    if (!product && x != y && (fuse_sum(b, n, x, y) || fuse_sum(b, n, y, x)))
        return GW_OK;
    gw_netstep *s = gw_plan_add_step(b, n, product ? GW_STEP_MUL : GW_STEP_ADD, x);
    if (!s)
        return GW_ENOMEM;
    s->in2 = y->buffer;
    s->first2 = y->first;
    GW_TRY(gw_plan_make_output(b, n, s, gw_plan_at(b, x)->channels, x->columns));
    const uint32_t stale = gw_plan_at(b, y)->stale > y->first ? gw_plan_at(b, y)->stale - y->first : 0;
    if (b->p->buffer[s->out].stale < stale)
        b->p->buffer[s->out].stale = stale;
    same_shape(b, n, x);
    return GW_OK;
}

/* ---- The table ---- */

static int op_relu(gw_build *b, const gw_onnx_node *n)
{
    return op_act(b, n, GW_ACT_RELU);
}

static int op_tanh(gw_build *b, const gw_onnx_node *n)
{
    return op_act(b, n, GW_ACT_TANH);
}

static int op_sigmoid(gw_build *b, const gw_onnx_node *n)
{
    return op_act(b, n, GW_ACT_SIGMOID);
}

static int op_add(gw_build *b, const gw_onnx_node *n)
{
    return op_join(b, n, false);
}

static int op_mul(gw_build *b, const gw_onnx_node *n)
{
    return op_join(b, n, true);
}

typedef struct operator_entry {
    const char *op;
    int (*plan)(gw_build *, const gw_onnx_node *);
    bool constants; /* its first input may be a constant */
} operator_entry;

static const operator_entry operators[] = {
    {"Conv", op_conv, false},
    {"Gemm", op_gemm, false},
    {"Relu", op_relu, false},
    {"Tanh", op_tanh, false},
    {"Sigmoid", op_sigmoid, false},
    {"Add", op_add, true},
    {"Mul", op_mul, true},
    {"BatchNormalization", op_batchnorm, false},
    {"Slice", gw_plan_op_slice, false},
    {"GlobalAveragePool", gw_plan_op_pool, false},
    {"ReduceMean", gw_plan_op_mean, false},
    {"Flatten", gw_plan_op_flatten, false},
    {"Reshape", gw_plan_op_reshape, false},
    {"Squeeze", gw_plan_op_squeeze, false},
    {"Unsqueeze", gw_plan_op_unsqueeze, false},
    {"Identity", gw_plan_op_identity, true},
    {"Dropout", gw_plan_op_identity, false},
    {"Constant", gw_plan_op_constant, true},
};

static const operator_entry *find_operator(const char *op)
{
    for (size_t i = 0; i < sizeof operators / sizeof *operators; i++)
        if (strcmp(operators[i].op, op) == 0)
            return &operators[i];
    return NULL;
}

bool gw_plan_knows(const char *op)
{
    return find_operator(op) != NULL;
}

int gw_plan_node(gw_build *b, const gw_onnx_node *n)
{
    const operator_entry *entry = find_operator(n->op);
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
    }
    if (x && x->kind == GW_VALUE_CONSTANT &&
        (!entry->constants || (!activation && entry->plan != gw_plan_op_identity)))
        return gw_plan_problem(b, n, "a constant input");
    return entry->plan(b, n);
}
