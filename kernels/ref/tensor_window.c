/* SPDX-License-Identifier: GPL-3.0-or-later
 * Where the windows of convolutions and pools lie: kernels, strides, dilations, pads and their automatic
 * forms, worked out once for the reference and for kernels/cpu. */
#include "kernels/ref/tensor.h"

#include <string.h>

static const int64_t LIMIT = INT32_MAX;

/* An attribute of one number (or two: pads) a spatial dimension. */
static int spatial_list(const gw_tensor_call *c, const char *name, int n, int64_t low, int64_t high,
                        int64_t absent, int64_t *out)
{
    int count;
    const int64_t *given = gw_op_ints(c, name, &count);
    if (given && count != n)
        return gw_op_fail(c, GW_EMISMATCH, "%s has %d values, not %d", name, count, n);
    for (int i = 0; i < n; i++) {
        out[i] = given ? given[i] : absent;
        if (given && (out[i] < low || out[i] > high))
            return gw_op_fail(c, GW_ERANGE, "%s of %lld", name, (long long)out[i]);
    }
    return GW_OK;
}

/* All but out, before and after; lists stand at the end of the three. */
static int read_window(const gw_tensor_call *c, const gw_tensor *x, const int64_t *kernel, gw_op_window *w,
                       int64_t *pads)
{
    const int n = x->rank - 2, first = 3 - n;
    if (n < 1 || n > 3)
        return gw_op_fail(c, GW_ENOTSUP, "an input of %d dimensions; 3 to 5 are possible", x->rank);
    w->spatial = n;
    for (int i = 0; i < 3; i++) {
        w->in[i] = w->out[i] = w->kernel[i] = w->stride[i] = w->dilation[i] = 1;
        w->before[i] = w->after[i] = 0;
    }
    memcpy(w->in + first, x->dim + 2, (size_t)n * sizeof *w->in);
    GW_TRY(spatial_list(c, "kernel_shape", n, 1, LIMIT, 0, w->kernel + first));
    if (!kernel && w->kernel[2] == 0)
        return gw_op_fail(c, GW_EFORMAT, "kernel_shape is missing");
    for (int i = 0; i < n && kernel; i++) {
        if (w->kernel[first + i] != 0 && w->kernel[first + i] != kernel[i])
            return gw_op_fail(c, GW_EMISMATCH, "kernel_shape says %lld, the weights have %lld",
                              (long long)w->kernel[first + i], (long long)kernel[i]);
        w->kernel[first + i] = kernel[i];
        if (kernel[i] < 1)
            return gw_op_fail(c, GW_EMISMATCH, "an empty kernel");
    }
    GW_TRY(spatial_list(c, "strides", n, 1, LIMIT, 1, w->stride + first));
    GW_TRY(spatial_list(c, "dilations", n, 1, LIMIT, 1, w->dilation + first));
    for (int i = 0; i < 3; i++)
        if ((w->kernel[i] - 1) > LIMIT / w->dilation[i] || w->in[i] > LIMIT)
            return gw_op_fail(c, GW_ERANGE, "a kernel wider than 2^31");
    return spatial_list(c, "pads", 2 * n, 0, LIMIT, 0, pads);
}

static int auto_pad(const gw_tensor_call *c, bool *same, bool *upper, bool *valid)
{
    const char *word = gw_op_text(c, "auto_pad", "NOTSET");
    *upper = strcmp(word, "SAME_UPPER") == 0;
    *same = *upper || strcmp(word, "SAME_LOWER") == 0;
    *valid = strcmp(word, "VALID") == 0;
    if (!*same && !*valid && strcmp(word, "NOTSET") != 0)
        return gw_op_fail(c, GW_EFORMAT, "auto_pad '%s'", word);
    return GW_OK;
}

static int64_t extent(const gw_op_window *w, int i)
{
    return (w->kernel[i] - 1) * w->dilation[i] + 1;
}

int gw_op_window_of(const gw_tensor_call *c, const gw_tensor *x, const int64_t *kernel, gw_op_window *w)
{
    int64_t pads[6];
    bool same, upper, valid;
    GW_TRY(read_window(c, x, kernel, w, pads));
    GW_TRY(auto_pad(c, &same, &upper, &valid));
    const bool ceiling = gw_op_int(c, "ceil_mode", 0) != 0;
    for (int i = 0, d = 3 - w->spatial; i < w->spatial; i++, d++) {
        if (same) {
            w->out[d] = (w->in[d] + w->stride[d] - 1) / w->stride[d];
            const int64_t need = (w->out[d] - 1) * w->stride[d] + extent(w, d) - w->in[d],
                          total = need > 0 ? need : 0;
            w->before[d] = upper ? total / 2 : total - total / 2;
            w->after[d] = total - w->before[d];
        } else {
            w->before[d] = valid ? 0 : pads[i];
            w->after[d] = valid ? 0 : pads[w->spatial + i];
            const int64_t room = w->in[d] + w->before[d] + w->after[d] - extent(w, d);
            if (room < 0)
                return gw_op_fail(c, GW_EMISMATCH, "a window of %lld over %lld elements",
                                  (long long)extent(w, d), (long long)(room + extent(w, d)));
            w->out[d] = room / w->stride[d] + 1;
            /* Rounded up, but no window begins in the padding behind: torch's rule, and ONNX's since 2024. */
            if (ceiling && room % w->stride[d] && w->out[d] * w->stride[d] < w->in[d] + w->before[d])
                w->out[d]++;
        }
    }
    return GW_OK;
}

int gw_op_window_transposed(const gw_tensor_call *c, const gw_tensor *x, const int64_t *kernel,
                            gw_op_window *w)
{
    int64_t pads[6], more[3], want[3];
    bool same, upper, valid;
    int n_want;
    GW_TRY(read_window(c, x, kernel, w, pads));
    GW_TRY(auto_pad(c, &same, &upper, &valid));
    GW_TRY(spatial_list(c, "output_padding", w->spatial, 0, LIMIT, 0, more));
    const int64_t *given = gw_op_ints(c, "output_shape", &n_want);
    if (given && n_want == x->rank) /* some write the whole shape */
        given += 2, n_want -= 2;
    if (given && n_want != w->spatial)
        return gw_op_fail(c, GW_EMISMATCH, "output_shape has %d values, not %d", n_want, w->spatial);
    for (int i = 0, d = 3 - w->spatial; i < w->spatial; i++, d++) {
        want[i] = given ? given[i] : same ? w->in[d] * w->stride[d] : 0;
        if (w->in[d] > 0 && w->stride[d] > LIMIT / w->in[d])
            return gw_op_fail(c, GW_ERANGE, "an output of 2^31 elements or more");
        const int64_t full = (w->in[d] - 1) * w->stride[d] + more[i] + extent(w, d);
        if (given || same) {
            const int64_t total = full > want[i] ? full - want[i] : 0;
            w->before[d] = upper ? total / 2 : total - total / 2;
            w->after[d] = total - w->before[d];
            w->out[d] = want[i];
        } else {
            w->before[d] = valid ? 0 : pads[i];
            w->after[d] = valid ? 0 : pads[w->spatial + i];
            w->out[d] = full - w->before[d] - w->after[d];
        }
        if (w->in[d] < 1 || w->out[d] < 1 || w->out[d] > LIMIT)
            return gw_op_fail(c, GW_EMISMATCH, "an output of %lld elements", (long long)w->out[d]);
    }
    return GW_OK;
}
