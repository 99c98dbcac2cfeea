/* SPDX-License-Identifier: GPL-3.0-or-later
 * Operators that become convolutions: Conv, ConvTranspose, Gemm, MatMul, BatchNormalization and whatever
 * scales and shifts channels. See plan_ops.c for the rest and for the pieces. */
#include "kernels/nn/plan_build.h"

#include <math.h>
#include <string.h>

static int64_t max64(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

/* Nothing but its makers knows the step yet: constants may be folded in. */
static gw_netstep *bare_conv(gw_build *b, const gw_value *v)
{
    if (v->maker < 0 || !gw_plan_sole(v))
        return NULL;
    gw_netstep *s = &b->p->step[v->maker];
    return s->kind == GW_STEP_CONV && s->act.kind == GW_ACT_NONE && s->in2 < 0 ? s : NULL;
}

static int take_weights(gw_build *b, gw_netstep *s, size_t n, size_t out)
{
    s->weight = gw_plan_take_weights(b->p, n);
    s->bias = gw_plan_take_weights(b->p, out);
    return s->weight && s->bias ? GW_OK : GW_ENOMEM;
}

static void count_parameters(gw_build *b, gw_netstep *s, size_t n)
{
    s->parameters += n;
    b->p->parameters += n;
}

static void set_bias(gw_netstep *s, const gw_onnx_tensor *bias, size_t out)
{
    for (size_t i = 0; bias && i < out; i++)
        s->bias[i] = (float)gw_plan_real(bias, i);
}

/* ---- Conv ---- */

static uint32_t clipped(int64_t n, uint32_t most)
{
    return n < 0 ? 0 : n > (int64_t)most ? most : (uint32_t)n;
}

int gw_plan_op_conv(gw_build *b, const gw_onnx_node *n)
{
    const gw_value *x = gw_plan_input(b, n, 0), *bias = gw_plan_input(b, n, 2);
    const gw_onnx_tensor *w = gw_plan_reals(gw_plan_input(b, n, 1)),
                         *shift = bias ? gw_plan_reals(bias) : NULL;
    if (x->rank != 3 || x->flat)
        return gw_plan_problem(b, n, "only one dimension is supported: input [1, channels, columns]");
    if (!w || (bias && !shift))
        return gw_plan_problem(b, n, "weights that are not constant floats");
    const int64_t groups = gw_plan_attr_int(n, "group", 1), channels = x->dim[1];
    if (w->rank != 3 || gw_plan_elements(w) == 0 || groups < 1 || channels % groups != 0 ||
        w->dim[0] % groups != 0 || w->dim[1] != channels / groups || w->dim[0] > GW_PLAN_MAX_SIZE ||
        (shift && (shift->rank != 1 || shift->dim[0] != w->dim[0])))
        return gw_plan_problem(b, n, "weights that do not fit its %lld channels", (long long)channels);
    gw_window f;
    if (!gw_plan_window(b, n, w->dim[2], &f) || f.kernel != w->dim[2])
        return gw_plan_problem(b, n, "kernel, stride, dilation or pads that make no sense");
    if (!gw_plan_auto_pad(n, x->dim[2], &f))
        return gw_plan_problem(b, n, "an auto_pad of that kind");
    f.left += x->zeros_left;
    f.right += x->zeros_right;
    const int64_t span = f.dilation * (f.kernel - 1) + 1, columns = x->columns;
    if (columns + f.left + f.right < span)
        return gw_plan_problem(b, n, "a kernel over %lld columns of an input of %lld", (long long)span,
                               (long long)(columns + f.left + f.right));
    const int64_t out_columns = (columns + f.left + f.right - span) / f.stride + 1;
    gw_value copy;
    const bool padded = f.left > 0 || (out_columns - 1) * f.stride - f.left + span > columns;
    if (padded)
        GW_TRY(gw_plan_alone(b, n, x, &copy, &x));

    gw_netstep *s = gw_plan_add_step(b, n, GW_STEP_CONV, x);
    if (!s)
        return GW_ENOMEM;
    s->groups = (uint32_t)groups;
    s->kernel = s->taps = (uint32_t)f.kernel;
    s->stride = (uint32_t)f.stride;
    s->dilation = (uint32_t)f.dilation;
    s->at -= (int32_t)f.left;
    GW_TRY(gw_plan_make_output(b, n, s, w->dim[0], out_columns));
    gw_plan_need_around(b, s);
    gw_netbuffer *out = &b->p->buffer[s->out];
    out->stale = clipped(((int64_t)out->stale + f.left + f.stride - 1) / f.stride, out->columns);
    out->mixed = b->p->buffer[s->in].mixed || groups % b->p->buffer[b->p->input].channels != 0;
    GW_TRY(take_weights(b, s, gw_plan_elements(w), (size_t)w->dim[0]));
    for (size_t i = 0; i < gw_plan_elements(w); i++)
        s->weight[i] = (float)gw_plan_real(w, i);
    set_bias(s, shift, (size_t)w->dim[0]);
    count_parameters(b, s, gw_plan_elements(w) + (shift ? (size_t)w->dim[0] : 0));
    return GW_OK;
}

/* ---- ConvTranspose ---- */

/* Of ONNX's [in][out / groups][kernel] the dense [out][in][kernel]: with phases the groups' outputs would
 * not lie where the interleaved series wants them. */
static void fill_transposed(gw_netstep *s, const gw_onnx_tensor *w, size_t groups)
{
    const size_t in = (size_t)w->dim[0], each = (size_t)w->dim[1], k = (size_t)w->dim[2];
    for (size_t i = 0; i < in; i++)
        for (size_t o = 0; o < each; o++)
            for (size_t t = 0; t < k; t++)
                s->weight[((i / (in / groups) * each + o) * in + i) * k + t] =
                    (float)gw_plan_real(w, (i * each + o) * k + t);
}

int gw_plan_op_transposed(gw_build *b, const gw_onnx_node *n)
{
    const gw_value *x = gw_plan_input(b, n, 0), *bias = gw_plan_input(b, n, 2);
    const gw_onnx_tensor *w = gw_plan_reals(gw_plan_input(b, n, 1)),
                         *shift = bias ? gw_plan_reals(bias) : NULL;
    if (x->rank != 3 || x->flat)
        return gw_plan_problem(b, n, "only one dimension is supported: input [1, channels, columns]");
    if (!w || (bias && !shift))
        return gw_plan_problem(b, n, "weights that are not constant floats");
    const int64_t groups = gw_plan_attr_int(n, "group", 1), channels = x->dim[1];
    const int64_t out = w->rank == 3 && groups > 0 && groups <= channels ? w->dim[1] * groups : 0;
    if (w->rank != 3 || gw_plan_elements(w) == 0 || out < 1 || channels % groups != 0 ||
        w->dim[0] != channels || out > GW_PLAN_MAX_SIZE ||
        channels * out > GW_PLAN_MAX_ELEMENTS / w->dim[2] ||
        (shift && (shift->rank != 1 || shift->dim[0] != out)))
        return gw_plan_problem(b, n, "weights that do not fit its %lld channels", (long long)channels);
    gw_window f;
    if (!gw_plan_window(b, n, w->dim[2], &f) || f.kernel != w->dim[2])
        return gw_plan_problem(b, n, "kernel, stride, dilation or pads that make no sense");
    if (f.dilation != 1)
        return gw_plan_problem(b, n, "a dilation");
    int64_t more[8] = {0}, wanted[8] = {0};
    const int n_more = gw_plan_ints(b, n, "output_padding", -1, more);
    const int n_wanted = gw_plan_ints(b, n, "output_shape", -1, wanted);
    if (n_more < 0 || n_more > 1 || more[0] < 0 || more[0] >= max64(f.stride, 2) || n_wanted < 0)
        return gw_plan_problem(b, n, "an output_padding that makes no sense");
    const int64_t full = (x->dim[2] - 1) * f.stride + f.kernel + more[0];
    const gw_onnx_attr *pad = gw_onnx_attr_find(n, "auto_pad");
    const bool same = pad && pad->type == GW_ATTR_STRING && strncmp(pad->s, "SAME", 4) == 0;
    if (n_wanted > 0 || same) {
        const int64_t to = n_wanted > 0 ? wanted[n_wanted - 1] : x->dim[2] * f.stride;
        const int64_t total = max64(0, full - to);
        const bool upper = pad && pad->type == GW_ATTR_STRING && strcmp(pad->s, "SAME_UPPER") == 0;
        f.left = upper ? total / 2 : total - total / 2;
        f.right = total - f.left;
        if (full - total != to)
            return gw_plan_problem(b, n, "an output_shape that it cannot have");
    }
    const int64_t out_columns = full - f.left - f.right;
    if (out_columns < 1 || x->zeros_left || x->zeros_right)
        return gw_plan_problem(b, n, "no columns left");
    gw_value copy;
    GW_TRY(gw_plan_alone(b, n, x, &copy, &x)); /* it always looks beyond both ends */

    gw_netstep *s = gw_plan_add_step(b, n, GW_STEP_CONV, x);
    if (!s)
        return GW_ENOMEM;
    s->transposed = true;
    s->phases = (uint32_t)f.stride;
    s->taps = (uint32_t)f.kernel;
    s->pad = (uint32_t)f.left;
    const int64_t stale = b->p->buffer[s->in].stale;
    gw_netstep_phases(s, 0, s->at, &s->kernel, &s->at);
    GW_TRY(gw_plan_make_output(b, n, s, out, out_columns));
    gw_netbuffer *y = &b->p->buffer[s->out];
    s->columns = (uint32_t)((out_columns + f.stride - 1) / f.stride);
    y->after = s->columns * s->phases - y->columns;
    gw_plan_need_around(b, s);
    y->stale = clipped(f.stride * (stale - 1) + f.kernel - f.left, y->columns);
    y->mixed = true;
    GW_TRY(take_weights(b, s, (size_t)(channels * out * f.kernel), (size_t)out));
    fill_transposed(s, w, (size_t)groups);
    set_bias(s, shift, (size_t)out);
    count_parameters(b, s, gw_plan_elements(w) + (shift ? (size_t)out : 0));
    return GW_OK;
}

/* Output s v + r - origin (r = 0 .. s - 1) takes tap r' + s a of input v + c - a, where origin - pad apart
 * r + pad - origin = s c + r'. Together the phases reach from input v + low to v + high. */
static void reach(const gw_netstep *s, uint32_t origin, int64_t *low, int64_t *high)
{
    *low = INT32_MAX;
    *high = INT32_MIN;
    for (int64_t r = 0; r < s->phases; r++) {
        const int64_t q = r + s->pad - origin, c = q / s->phases, first = q % s->phases;
        const int64_t count = first < s->taps ? (s->taps - first + s->phases - 1) / s->phases : 0;
        if (count == 0)
            continue;
        *low = c - (count - 1) < *low ? c - (count - 1) : *low;
        *high = c > *high ? c : *high;
    }
}

void gw_netstep_phases(const gw_netstep *s, uint32_t origin, int32_t at0, uint32_t *kernel, int32_t *at)
{
    int64_t low, high;
    reach(s, origin, &low, &high);
    *kernel = (uint32_t)(high - low + 1);
    *at = (int32_t)(at0 + low);
}

void gw_netstep_weights(const gw_netstep *s, uint32_t in, uint32_t out, uint32_t origin, float *weight,
                        float *bias)
{
    int64_t low, high;
    reach(s, origin, &low, &high);
    const int64_t kernel = high - low + 1;
    for (int64_t r = 0; r < s->phases; r++) {
        const int64_t q = r + s->pad - origin, c = q / s->phases, first = q % s->phases;
        for (int64_t o = 0; o < out; o++) {
            bias[r * out + o] = s->bias[o];
            for (int64_t i = 0; i < in; i++) {
                for (int64_t j = 0; j < kernel; j++) {
                    const int64_t a = c - low - j, tap = first + s->phases * a;
                    weight[((r * out + o) * in + i) * kernel + j] =
                        a >= 0 && tap < s->taps ? s->weight[(o * in + i) * s->taps + tap] : 0;
                }
            }
        }
    }
}

/* ---- Gemm ---- */

typedef struct matrix {
    const gw_onnx_tensor *t;
    int64_t in, out;
    bool turned; /* [out][in] */
} matrix;

/* x [1, in] times the matrix: a convolution over all columns of a series that was flattened, or over
 * one. ONNX counts channel by channel; the series lies column by column. */
static int product(gw_build *b, const gw_onnx_node *n, const gw_value *x, const matrix *w, double alpha,
                   gw_netstep **out)
{
    const uint32_t columns = x->columns;
    gw_netstep *s = *out = gw_plan_add_step(b, n, GW_STEP_CONV, x);
    if (!s)
        return GW_ENOMEM;
    s->kernel = s->taps = columns;
    GW_TRY(gw_plan_make_output(b, n, s, w->out, 1));
    b->p->buffer[s->out].mixed = true;
    if (columns > 1) {
        b->p->buffer[s->out].pooled = true;
        b->p->buffer[s->out].samples = 0;
    }
    gw_value *v = gw_plan_value(b, n->out[0]);
    v->rank = 2;
    GW_TRY(take_weights(b, s, (size_t)(w->in * w->out), (size_t)w->out));
    for (int64_t o = 0; o < w->out; o++)
        for (int64_t i = 0; i < w->in; i++)
            s->weight[o * w->in + i] =
                (float)(alpha * gw_plan_real(w->t, (size_t)(w->turned ? o * w->in + i : i * w->out + o)));
    count_parameters(b, s, gw_plan_elements(w->t));
    return GW_OK;
}

static bool fits(gw_build *b, const gw_value *x, const matrix *w)
{
    return w->in == (int64_t)gw_plan_at(b, x)->channels * x->columns && w->out > 0 &&
           w->out <= GW_PLAN_MAX_SIZE;
}

int gw_plan_op_gemm(gw_build *b, const gw_onnx_node *n)
{
    const gw_value *x = gw_plan_input(b, n, 0), *third = gw_plan_input(b, n, 2);
    const gw_onnx_tensor *t = gw_plan_reals(gw_plan_input(b, n, 1)),
                         *add = third ? gw_plan_reals(third) : NULL;
    if (x->rank != 2)
        return gw_plan_problem(b, n, "input that is not [1, channels]");
    if (!t || t->rank != 2 || gw_plan_elements(t) == 0 || (third && !add))
        return gw_plan_problem(b, n, "weights that are not a constant float matrix");
    if (gw_plan_attr_int(n, "transA", 0) != 0)
        return gw_plan_problem(b, n, "a transposed input");
    const bool turned = gw_plan_attr_int(n, "transB", 0) != 0;
    const matrix w = {t, turned ? t->dim[1] : t->dim[0], turned ? t->dim[0] : t->dim[1], turned};
    if (!fits(b, x, &w))
        return gw_plan_problem(b, n, "weights that do not fit its %lld channels", (long long)x->dim[1]);
    const size_t n_add = add ? gw_plan_elements(add) : 0;
    if (add &&
        (add->rank > 2 || (n_add != 1 && n_add != (size_t)w.out) || (add->rank == 2 && add->dim[0] != 1)))
        return gw_plan_problem(b, n, "a bias that does not fit its %lld outputs", (long long)w.out);
    gw_netstep *s;
    GW_TRY(product(b, n, x, &w, gw_plan_attr_float(n, "alpha", 1), &s));
    const double beta = gw_plan_attr_float(n, "beta", 1);
    for (int64_t o = 0; add && o < w.out; o++)
        s->bias[o] = (float)(beta * gw_plan_real(add, n_add == 1 ? 0 : (size_t)o));
    count_parameters(b, s, n_add);
    return GW_OK;
}

int gw_plan_op_matmul(gw_build *b, const gw_onnx_node *n)
{
    const gw_value *x = gw_plan_input(b, n, 0);
    const gw_onnx_tensor *t = gw_plan_reals(gw_plan_input(b, n, 1));
    if (x->rank != 2)
        return gw_plan_problem(b, n, "input that is not [1, channels]");
    if (!t || t->rank != 2 || gw_plan_elements(t) == 0)
        return gw_plan_problem(b, n, "weights that are not a constant float matrix");
    const matrix w = {t, t->dim[0], t->dim[1], false};
    if (!fits(b, x, &w))
        return gw_plan_problem(b, n, "weights that do not fit its %lld channels", (long long)x->dim[1]);
    gw_netstep *s;
    return product(b, n, x, &w, 1, &s);
}

/* ---- Scales and shifts ---- */

/* Into the convolution before, or as a convolution of its own. */
int gw_plan_affine(gw_build *b, const gw_onnx_node *n, const gw_value *x, const double *scale,
                   const double *shift)
{
    const uint32_t channels = gw_plan_at(b, x)->channels;
    gw_netstep *s = bare_conv(b, x);
    if (s) {
        const size_t k = (size_t)b->p->buffer[s->in].channels / s->groups * s->taps;
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
    gw_plan_same_shape(b, n, x);
    GW_TRY(take_weights(b, s, channels, channels));
    for (size_t o = 0; o < channels; o++) {
        s->weight[o] = (float)scale[o];
        s->bias[o] = (float)shift[o];
    }
    return GW_OK;
}

int gw_plan_op_batchnorm(gw_build *b, const gw_onnx_node *n)
{
    const gw_value *x = gw_plan_input(b, n, 0);
    const size_t channels = gw_plan_at(b, x)->channels;
    const gw_onnx_tensor *t[4];
    for (int i = 0; i < 4; i++) {
        t[i] = gw_plan_reals(gw_plan_input(b, n, i + 1));
        if (!t[i] || t[i]->rank != 1 || gw_plan_elements(t[i]) != channels)
            return gw_plan_problem(b, n, "statistics that are not a constant for each channel");
    }
    if (gw_plan_attr_int(n, "training_mode", 0) != 0 || gw_plan_attr_int(n, "spatial", 1) != 1 || x->flat)
        return gw_plan_problem(b, n, "training mode or statistics in time");
    double *scale = gw_plan_take(b->p, channels, sizeof *scale),
           *shift = gw_plan_take(b->p, channels, sizeof *shift);
    if (!scale || !shift)
        return GW_ENOMEM;
    for (size_t c = 0; c < channels; c++) {
        scale[c] =
            gw_plan_real(t[0], c) / sqrt(gw_plan_real(t[3], c) + gw_plan_attr_float(n, "epsilon", 1e-5f));
        shift[c] = gw_plan_real(t[1], c) - gw_plan_real(t[2], c) * scale[c];
    }
    b->p->parameters += 4 * channels;
    return gw_plan_affine(b, n, x, scale, shift);
}
