/* SPDX-License-Identifier: GPL-3.0-or-later
 * Pools: the greatest, the mean or a norm of each window, and of everything (Global...). Padding takes no
 * part in a maximum, and in a mean only where count_include_pad says so. */
#include "kernels/ref/tensor.h"

#include <math.h>
#include <string.h>

typedef enum pool { MAX, AVERAGE, LP } pool;
static const pool kind[] = {MAX, AVERAGE, LP};

static int pool_shape(gw_tensor_call *c)
{
    const gw_tensor *x = c->in[0];
    gw_op_window w;
    int64_t dim[GW_ONNX_MAX_RANK];
    GW_TRY(gw_op_window_of(c, x, NULL, &w));
    memcpy(dim, x->dim, sizeof dim);
    memcpy(dim + 2, w.out + 3 - w.spatial, (size_t)w.spatial * sizeof *dim);
    GW_TRY(gw_op_set(c, 0, x->type, x->rank, dim));
    GW_TRY(gw_op_set(c, 1, GW_ONNX_INT64, x->rank, dim));
    c->work = (double)gw_tensor_elements(c->out[0]);
    for (int i = 0; i < 3; i++)
        c->work *= (double)(w.kernel[i] < w.in[i] ? w.kernel[i] : w.in[i]);
    return GW_OK;
}

typedef struct found { /* in one window */
    double sum, top, norm;
    int64_t place;          /* of the greatest, in its channel */
    double inside, covered; /* elements; with those in the padding */
} found;

/* The window at `at` of a channel that begins at element `first`. */
static found look(const gw_tensor *x, const gw_op_window *w, size_t first, const int64_t *at, double p)
{
    found f = {.top = -INFINITY, .covered = 1};
    int64_t from[3], to[3], low[3]; /* the kernel's elements inside, and where it begins */
    for (int i = 0; i < 3; i++) {
        const int64_t d = w->dilation[i], k = w->kernel[i];
        low[i] = at[i] * w->stride[i] - w->before[i];
        from[i] = low[i] < 0 ? (-low[i] + d - 1) / d : 0;
        const int64_t last = w->in[i] - 1 - low[i], pad = last + w->after[i];
        to[i] = last < 0 ? 0 : last / d + 1 < k ? last / d + 1 : k;
        f.covered *= pad < 0 ? 0 : (double)(pad / d + 1 < k ? pad / d + 1 : k);
    }
    for (int64_t kd = from[0]; kd < to[0]; kd++) {
        for (int64_t kh = from[1]; kh < to[1]; kh++) {
            for (int64_t kw = from[2]; kw < to[2]; kw++) {
                const int64_t d = low[0] + kd * w->dilation[0], h = low[1] + kh * w->dilation[1];
                const int64_t place = (d * w->in[1] + h) * w->in[2] + low[2] + kw * w->dilation[2];
                const double v = gw_op_get(x, first + (size_t)place);
                if (f.inside == 0 || v > f.top || v != v) {
                    f.top = v;
                    f.place = place;
                }
                f.inside++;
                f.sum += v;
                f.norm += p == 1 ? fabs(v) : pow(fabs(v), p);
            }
        }
    }
    return f;
}

static int pool_run(gw_tensor_call *c)
{
    const gw_tensor *x = c->in[0];
    gw_tensor *y = c->out[0], *index = gw_op_out(c, 1);
    const pool what = *(const pool *)c->op->detail;
    const bool count_pad = gw_op_int(c, "count_include_pad", 0) != 0,
               by_column = gw_op_int(c, "storage_order", 0);
    const double p = (double)gw_op_int(c, "p", 2);
    gw_op_window w = {0};
    GW_TRY(gw_op_window_of(c, x, NULL, &w));
    const size_t channels = gw_op_product(x->dim, 0, 2), size = gw_op_product(w.in, 0, 3);
    const size_t windows = gw_op_product(w.out, 0, 3);
    for (size_t ch = 0, out = 0; ch < channels; ch++) {
        int64_t at[3] = {0};
        for (size_t i = 0; i < windows; i++, out++, gw_op_next(3, w.out, at)) {
            const found f = look(x, &w, ch * size, at, what == LP ? p : 1);
            gw_op_put(y, out,
                      what == MAX       ? f.top
                      : what == AVERAGE ? f.sum / (count_pad ? f.covered : f.inside)
                                        : pow(f.norm, 1 / p));
            if (!index)
                continue;
            int64_t place = f.place;
            if (by_column) { /* the last dimension slowest: [W][H][D] */
                const int64_t d = place / (w.in[1] * w.in[2]), h = place / w.in[2] % w.in[1],
                              k = place % w.in[2];
                place = (k * w.in[1] + h) * w.in[0] + d;
            }
            gw_op_put_int(index, out, (int64_t)(ch * size) + place);
        }
    }
    return GW_OK;
}

static int global_shape(gw_tensor_call *c)
{
    const gw_tensor *x = c->in[0];
    int64_t dim[GW_ONNX_MAX_RANK];
    if (x->rank < 2)
        return gw_op_fail(c, GW_EMISMATCH, "an input of %d dimensions", x->rank);
    for (int i = 0; i < x->rank; i++)
        dim[i] = i < 2 ? x->dim[i] : 1;
    c->work = (double)gw_tensor_elements(x);
    return gw_op_set(c, 0, x->type, x->rank, dim);
}

static int global_run(gw_tensor_call *c)
{
    const gw_tensor *x = c->in[0];
    const pool what = *(const pool *)c->op->detail;
    const double p = (double)gw_op_int(c, "p", 2);
    const size_t channels = gw_op_product(x->dim, 0, 2), n = gw_op_product(x->dim, 2, x->rank);
    for (size_t ch = 0; ch < channels; ch++) {
        double sum = what == MAX ? -INFINITY : 0;
        for (size_t i = ch * n; i < (ch + 1) * n; i++) {
            const double v = gw_op_get(x, i);
            sum = what == MAX ? (v > sum || v != v ? v : sum) : sum + (what == AVERAGE ? v : pow(fabs(v), p));
        }
        gw_op_put(c->out[0], ch, what == AVERAGE ? sum / (double)n : what == LP ? pow(sum, 1 / p) : sum);
    }
    return GW_OK;
}

#define WINDOW "auto_pad:s kernel_shape:I pads:I strides:I dilations:I ceil_mode:i"
const gw_tensor_op gw_ops_pool[] = {
    {"MaxPool", WINDOW " storage_order:i", 1, 1, 1, GW_T_FLOATS | GW_T(UINT8) | GW_T(INT8), 2, pool_shape,
     pool_run, &kind[MAX]},
    {"AveragePool", WINDOW " count_include_pad:i", 1, 1, 1, GW_T_FLOATS, 1, pool_shape, pool_run,
     &kind[AVERAGE]},
    {"LpPool", WINDOW " p:i", 1, 1, 1, GW_T_FLOATS, 1, pool_shape, pool_run, &kind[LP]},
    {"GlobalMaxPool", "", 1, 1, 1, GW_T_FLOATS, 1, global_shape, global_run, &kind[MAX]},
    {"GlobalAveragePool", "", 1, 1, 1, GW_T_FLOATS, 1, global_shape, global_run, &kind[AVERAGE]},
    {"GlobalLpPool", "p:i", 1, 1, 1, GW_T_FLOATS, 1, global_shape, global_run, &kind[LP]},
    {0},
};
