/* SPDX-License-Identifier: GPL-3.0-or-later
 * Network layers, the truth: loops as in the formula, double inside, no tricks. */
#include "kernels/conv.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

struct gw_conv {
    gw_conv_desc d;
    float *weight; /* [out][in / groups][kernel], then bias [out] in the same allocation */
    float *bias;
};

int gw_conv_desc_check(const gw_conv_desc *d)
{
    if (d->in_channels == 0 || d->out_channels == 0 || d->groups == 0 || d->kernel == 0 || d->stride == 0 ||
        d->dilation == 0 || d->columns == 0)
        return gw_fail(GW_ERANGE, "convolution with a size of zero");
    if (d->in_channels % d->groups != 0 || d->out_channels % d->groups != 0)
        return gw_fail(GW_ERANGE, "convolution of %u to %u channels does not divide into %u groups",
                       d->in_channels, d->out_channels, d->groups);
    /* Each factor is tested before it multiplies, so nothing overflows. */
    const uint64_t limit = INT32_MAX;
    if (d->in_channels > limit || d->out_channels > limit || d->kernel > limit || d->stride > limit ||
        d->dilation > limit || d->columns > limit)
        return gw_fail(GW_ERANGE, "convolution with a size beyond 2^31");
    const uint64_t in_columns = gw_conv_in_columns(d);
    const uint64_t per_group = d->in_channels / d->groups;
    if (in_columns > limit / d->in_channels || d->columns > limit / d->out_channels ||
        d->kernel > limit / per_group || d->kernel * per_group > limit / d->out_channels)
        return gw_fail(GW_ERANGE, "convolution with an array beyond 2^31 elements");
    return GW_OK;
}

static double activate(gw_act act, double x)
{
    switch (act) {
    case GW_ACT_RELU:
        return x > 0 ? x : 0;
    case GW_ACT_TANH:
        return tanh(x);
    case GW_ACT_SIGMOID:
        return 1 / (1 + exp(-x));
    case GW_ACT_NONE:
        break;
    }
    return x;
}

static void conv_close(gw_conv **c)
{
    if (!*c)
        return;
    free((*c)->weight);
    free(*c);
    *c = NULL;
}

static int conv_open(gw_conv **out, const gw_conv_desc *d, const float *weight, const float *bias)
{
    *out = NULL;
    GW_TRY(gw_conv_desc_check(d));
    const size_t n_weights = (size_t)d->out_channels * (d->in_channels / d->groups) * d->kernel;
    gw_conv *c = calloc(1, sizeof *c);
    float *all = calloc(n_weights + d->out_channels, sizeof *all);
    if (!c || !all) {
        free(c);
        free(all);
        return gw_fail(GW_ENOMEM, "convolution: no memory for %zu weights", n_weights);
    }
    c->d = *d;
    c->weight = all;
    c->bias = all + n_weights;
    memcpy(c->weight, weight, n_weights * sizeof *weight);
    if (bias)
        memcpy(c->bias, bias, d->out_channels * sizeof *bias);
    *out = c;
    return GW_OK;
}

static int conv_run(gw_conv *c, const float *src, const float *residual, float *dst)
{
    const gw_conv_desc *d = &c->d;
    const size_t per_group = d->in_channels / d->groups, out_per_group = d->out_channels / d->groups;
    for (size_t n = 0; n < d->columns; n++) {
        for (size_t o = 0; o < d->out_channels; o++) {
            const float *w = c->weight + o * per_group * d->kernel;
            const float *x = src + n * d->stride * d->in_channels + o / out_per_group * per_group;
            double sum = c->bias[o];
            if (residual)
                sum += residual[n * d->out_channels + o];
            for (size_t i = 0; i < per_group; i++)
                for (size_t k = 0; k < d->kernel; k++)
                    sum += (double)w[i * d->kernel + k] * x[k * d->dilation * d->in_channels + i];
            dst[n * d->out_channels + o] = (float)activate(d->act, sum);
        }
    }
    return GW_OK;
}

static void add(size_t n, gw_act act, const float *a, const float *b, float *dst)
{
    for (size_t i = 0; i < n; i++)
        dst[i] = (float)activate(act, (double)a[i] + b[i]);
}

static void mul(size_t n, gw_act act, const float *a, const float *b, float *dst)
{
    for (size_t i = 0; i < n; i++)
        dst[i] = (float)activate(act, (double)a[i] * b[i]);
}

static void act_only(size_t n, gw_act act, const float *x, float *dst)
{
    for (size_t i = 0; i < n; i++)
        dst[i] = (float)activate(act, x[i]);
}

static void mean(uint32_t n, uint32_t span, uint32_t channels, const float *x, float *dst)
{
    for (size_t i = 0; i < n; i++) {
        for (size_t c = 0; c < channels; c++) {
            double sum = 0;
            for (size_t k = 0; k < span; k++)
                sum += x[(i + k) * channels + c];
            dst[i * channels + c] = (float)(sum / span);
        }
    }
}

void gw_conv_ref(gw_conv_ops *ops)
{
    *ops = (gw_conv_ops){.open = conv_open,
                         .run = conv_run,
                         .close = conv_close,
                         .add = add,
                         .mul = mul,
                         .act = act_only,
                         .mean = mean};
}
