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
        d->dilation == 0)
        return gw_fail(GW_ERANGE, "convolution with a size of zero");
    if (d->in_channels % d->groups != 0 || d->out_channels % d->groups != 0)
        return gw_fail(GW_ERANGE, "convolution of %u to %u channels does not divide into %u groups",
                       d->in_channels, d->out_channels, d->groups);
    /* Each factor is tested before it multiplies, so nothing overflows. */
    const uint64_t limit = INT32_MAX, per_group = d->in_channels / d->groups;
    if (d->in_channels > limit || d->out_channels > limit || d->kernel > limit || d->stride > limit ||
        d->dilation > limit || d->kernel > limit / per_group ||
        d->kernel * per_group > limit / d->out_channels ||
        (uint64_t)d->kernel * d->dilation > limit / d->in_channels)
        return gw_fail(GW_ERANGE, "convolution with a size beyond 2^31");
    return GW_OK;
}

static double activate(gw_act act, double x)
{
    switch (act.kind) {
    case GW_ACT_RELU:
        return x > 0 ? x : 0;
    case GW_ACT_TANH:
        return tanh(x);
    case GW_ACT_SIGMOID:
        return 1 / (1 + exp(-x));
    case GW_ACT_LEAKY_RELU:
        return x < 0 ? (double)act.a * x : x;
    case GW_ACT_ELU:
        return x < 0 ? (double)act.a * expm1(x) : x;
    case GW_ACT_SILU:
        return x / (1 + exp(-x));
    case GW_ACT_GELU:
        return 0.5 * x * (1 + erf(x * 0.70710678118654752));
    case GW_ACT_SOFTPLUS:
        return (x > 0 ? x : 0) + log1p(exp(-fabs(x)));
    case GW_ACT_CLIP:
        return x < (double)act.a ? (double)act.a : x > (double)act.b ? (double)act.b : x;
    case GW_ACT_NONE:
    case GW_ACT_COUNT:
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

static void one_window(const gw_conv *c, uint32_t columns, const float *src, const float *residual,
                       float *dst)
{
    const gw_conv_desc *d = &c->d;
    const size_t per_group = d->in_channels / d->groups, out_per_group = d->out_channels / d->groups;
    for (size_t n = 0; n < columns; n++) {
        for (size_t o = 0; o < d->out_channels; o++) {
            const float *w = c->weight + o * per_group * d->kernel;
            const float *x = src + n * d->stride * d->in_channels + o / out_per_group * per_group;
            double sum = (double)c->bias[o];
            if (residual)
                sum += (double)residual[n * d->out_channels + o];
            for (size_t k = 0; k < d->kernel; k++)
                for (size_t i = 0; i < per_group; i++)
                    sum += (double)w[i * d->kernel + k] * (double)x[k * d->dilation * d->in_channels + i];
            dst[n * d->out_channels + o] = (float)activate(d->act, sum);
        }
    }
}

static int conv_run(const gw_conv *c, const gw_conv_io *io)
{
    for (size_t b = 0; b < io->batch; b++)
        one_window(c, io->columns, io->src + b * io->src_step,
                   io->residual ? io->residual + b * io->residual_step : NULL, io->dst + b * io->dst_step);
    return GW_OK;
}

static void join(gw_join kind, gw_act act, uint32_t columns, uint32_t channels, const float *a,
                 const float *b, size_t b_step, float *dst)
{
    for (size_t n = 0; n < columns; n++) {
        for (size_t c = 0; c < channels; c++) {
            const double x = (double)a[n * channels + c], y = (double)b[n * b_step + c];
            dst[n * channels + c] = (float)activate(act, kind == GW_JOIN_ADD   ? x + y
                                                         : kind == GW_JOIN_SUB ? x - y
                                                                               : x * y);
        }
    }
}

static void act_only(gw_act act, size_t n, const float *x, float *dst)
{
    for (size_t i = 0; i < n; i++)
        dst[i] = (float)activate(act, (double)x[i]);
}

static void mean(uint32_t n, uint32_t span, uint32_t channels, const float *x, float *dst)
{
    for (size_t i = 0; i < n; i++) {
        for (size_t c = 0; c < channels; c++) {
            double sum = 0;
            for (size_t k = 0; k < span; k++)
                sum += (double)x[(i + k) * channels + c];
            dst[i * channels + c] = (float)(sum / span);
        }
    }
}

static void pool(const gw_pool *p, const float *src, float *dst)
{
    for (size_t n = 0; n < p->columns; n++) {
        for (size_t c = 0; c < p->channels; c++) {
            double most = -INFINITY, sum = 0;
            size_t seen = 0;
            for (size_t k = 0; k < p->kernel; k++) {
                const size_t at = n * p->stride + k * p->dilation;
                if (at < p->pad_left || at - p->pad_left >= p->in_columns)
                    continue;
                const double x = (double)src[(at - p->pad_left) * p->channels + c];
                most = x > most || isnan(x) ? x : most;
                sum += x;
                seen++;
            }
            dst[n * p->channels + c] =
                (float)(p->mean ? sum / (double)(p->count_padding ? p->kernel : seen) : most);
        }
    }
}

static void norm(const gw_norm *n, const float *x, const float *residual, float *dst)
{
    const size_t each = n->channels / n->groups;
    const double count = (double)each * n->columns;
    for (size_t g = 0; g < n->groups; g++) {
        double mean = 0, square = 0;
        for (size_t i = 0; i < n->columns; i++)
            for (size_t c = g * each; c < (g + 1) * each; c++)
                mean += (double)x[i * n->channels + c];
        mean /= count;
        for (size_t i = 0; i < n->columns; i++)
            for (size_t c = g * each; c < (g + 1) * each; c++)
                square += ((double)x[i * n->channels + c] - mean) * ((double)x[i * n->channels + c] - mean);
        const double scale = 1 / sqrt(square / count + (double)n->epsilon);
        for (size_t i = 0; i < n->columns; i++) {
            for (size_t c = g * each; c < (g + 1) * each; c++) {
                const size_t at = i * n->channels + c;
                const double y = (double)n->scale[c] * ((double)x[at] - mean) * scale + (double)n->bias[c];
                dst[at] = (float)activate(n->act, y + (residual ? (double)residual[at] : 0));
            }
        }
    }
}

void gw_conv_ref(gw_conv_ops *ops)
{
    *ops = (gw_conv_ops){.open = conv_open,
                         .run = conv_run,
                         .close = conv_close,
                         .join = join,
                         .act = act_only,
                         .mean = mean,
                         .pool = pool,
                         .norm = norm};
}
