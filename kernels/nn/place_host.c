/* SPDX-License-Identifier: GPL-3.0-or-later
 * A network in the host's memory: each call of place.h is a loop over windows round one call of the kernel
 * table, but for convolutions, which take all windows themselves. */
#include "kernels/nn/place.h"

#include <stdlib.h>
#include <string.h>

struct gw_place {
    gw_place_shape s;
    gw_conv_ops ops;
    gw_place_call call; /* of the pass that runs */
};

static int host_open(gw_place **out, const gw_place_shape *s, const gw_conv_ops *layers)
{
    gw_place *p = calloc(1, sizeof *p);
    *out = p;
    if (!p)
        return gw_fail(GW_ENOMEM, "no memory for a network");
    p->s = *s;
    p->ops = *layers;
    return GW_OK;
}

static void host_close(gw_place **p)
{
    free(*p);
    *p = NULL;
}

static int floats_new(float **x, size_t n)
{
    const size_t bytes = (n * sizeof **x + 63) / 64 * 64;
    *x = aligned_alloc(64, bytes ? bytes : 64);
    if (!*x)
        return gw_fail(GW_ENOMEM, "no memory for %zu bytes of activations", bytes);
    memset(*x, 0, bytes);
    return GW_OK;
}

static void floats_free(float **x)
{
    free(*x);
    *x = NULL;
}

static int move(gw_place *p, float *to, size_t to_step, const float *from, size_t from_step, size_t n,
                size_t rows)
{
    (void)p;
    for (size_t i = 0; i < rows; i++)
        memcpy(to + i * to_step, from + i * from_step, n * sizeof *to);
    return GW_OK;
}

static int host_wait(gw_place *p)
{
    (void)p;
    return GW_OK;
}

static int begin(gw_place *p, const gw_place_call *call, bool *known)
{
    p->call = *call;
    *known = false;
    return GW_OK;
}

static int end(gw_place *p, int err)
{
    p->call = (gw_place_call){0};
    return err;
}

/* ---- In and out ---- */

typedef float four __attribute__((vector_size(16)));
typedef float four_loose __attribute__((vector_size(16), aligned(4), may_alias));

/* Four channels of four columns. */
static inline void turn_four(const float *const *plane, size_t i, float *to, size_t channels)
{
    const four a = *(const four_loose *)(plane[0] + i), b = *(const four_loose *)(plane[1] + i),
               c = *(const four_loose *)(plane[2] + i), d = *(const four_loose *)(plane[3] + i);
    const four ab0 = __builtin_shufflevector(a, b, 0, 4, 1, 5),
               ab2 = __builtin_shufflevector(a, b, 2, 6, 3, 7),
               cd0 = __builtin_shufflevector(c, d, 0, 4, 1, 5),
               cd2 = __builtin_shufflevector(c, d, 2, 6, 3, 7);
    *(four_loose *)to = __builtin_shufflevector(ab0, cd0, 0, 1, 4, 5);
    *(four_loose *)(to + channels) = __builtin_shufflevector(ab0, cd0, 2, 3, 6, 7);
    *(four_loose *)(to + 2 * channels) = __builtin_shufflevector(ab2, cd2, 0, 1, 4, 5);
    *(four_loose *)(to + 3 * channels) = __builtin_shufflevector(ab2, cd2, 2, 3, 6, 7);
}

/* One channel of a window. */
static const float *plane_of(const gw_place_call *in, size_t window, size_t channels, size_t c)
{
    return in->channel ? in->channel[window * channels + c]
                       : in->x + window * in->window_stride + c * in->channel_stride;
}

/* Columns [from, from + columns) of a window's channels -> columns of channels, in pieces that stay in the
 * nearest cache. */
static void weave(const gw_place_call *in, size_t window, size_t channels, size_t from, size_t columns,
                  float *to)
{
    enum { PIECE = 64 };
    if (channels == 1) {
        memcpy(to, plane_of(in, window, 1, 0) + from, columns * sizeof *to);
        return;
    }
    for (size_t i0 = 0; i0 < columns; i0 += PIECE) {
        const size_t stop = columns - i0 < PIECE ? columns : i0 + PIECE, fours = (stop - i0) / 4 * 4;
        for (size_t c = 0; c < channels; c++) {
            size_t i = i0;
            if (c % 4 == 0 && c + 4 <= channels) {
                const float *plane[4];
                for (size_t k = 0; k < 4; k++)
                    plane[k] = plane_of(in, window, channels, c + k) + from;
                for (; i < i0 + fours; i += 4)
                    turn_four(plane, i, to + i * channels + c, channels);
            } else if (c < channels / 4 * 4) {
                i += fours; /* with the first one of its four */
            }
            const float *plane = plane_of(in, window, channels, c) + from;
            for (; i < stop; i++)
                to[i * channels + c] = plane[i];
        }
    }
}

/* All windows. Of windows that overlap each column is woven once: they overlap in the result too, or, where
 * each has its own zeros around it, take the columns from the window before. */
static void load_samples(const gw_place *p, uint32_t count, gw_place_array *to)
{
    const gw_place_shape *s = &p->s;
    const size_t channels = s->channels, columns = s->columns,
                 hop = p->call.channel ? columns : p->call.window_stride;
    if (count > 1 && hop < columns && s->in_place) {
        weave(&p->call, 0, channels, s->first, (count - 1) * hop + columns, to->x);
        to->step = hop * channels;
        return;
    }
    for (size_t w = 0; w < count; w++) {
        float *at = to->x + w * to->step;
        const size_t old = w > 0 && hop < columns ? columns - hop : 0;
        if (old)
            memcpy(at, at - to->step + hop * channels, old * channels * sizeof *at);
        weave(&p->call, w, channels, s->first + old, columns - old, at + old * channels);
    }
}

/* The sum of the features, or side by side in each column. */
static void load_features(const gw_place_shape *s, const float *const *feature, float *to)
{
    const size_t each = s->summed ? s->channels : s->channels / s->parts, skip = s->first * each,
                 n = s->columns * each;
    if (s->summed)
        for (size_t i = 0; i < n; i++)
            to[i] = feature[0][skip + i] + feature[1][skip + i];
    for (size_t d = 2; d < s->parts && s->summed; d++)
        for (size_t i = 0; i < n; i++)
            to[i] += feature[d][skip + i];
    for (size_t d = 0; d < s->parts && !s->summed; d++)
        for (size_t i = 0; i < s->columns; i++)
            memcpy(to + i * s->channels + d * each, feature[d] + skip + i * each, each * sizeof *to);
}

static int load(gw_place *p, uint32_t count, gw_place_array *to)
{
    const gw_place_shape *s = &p->s;
    const gw_place_call *in = &p->call;
    /* One channel without padding lies in the caller's memory as the steps want it: no step writes to it. */
    if (s->in_place && s->channels == 1 && !in->features && !in->channel) {
        *to = (gw_place_array){(float *)(uintptr_t)(in->x + s->first), in->window_stride};
        return GW_OK;
    }
    if (!in->features)
        load_samples(p, count, to);
    for (size_t w = 0; w < count && in->features; w++)
        load_features(s, in->features + w * s->parts, to->x + w * to->step);
    return GW_OK;
}

static int give(gw_place *p, uint32_t count, int output, gw_place_array from)
{
    const gw_place_output *o = &p->s.output[output];
    const size_t channels = o->channels, columns = o->columns;
    float *y = p->call.out[output];
    for (size_t w = 0; y && w < count; w++, y += channels * columns) {
        const float *x = from.x + w * from.step;
        if (o->channels_last || channels == 1 || columns == 1) {
            memcpy(y, x, channels * columns * sizeof *y);
            continue;
        }
        for (size_t c = 0; c < channels; c++)
            for (size_t k = 0; k < columns; k++)
                y[c * columns + k] = x[k * channels + c];
    }
    return GW_OK;
}

/* ---- Layers ---- */

static int conv(gw_place *p, const gw_conv *c, const gw_conv_io *io)
{
    return p->ops.run(c, io);
}

static int join(gw_place *p, uint32_t count, gw_join kind, gw_act act, uint32_t columns, uint32_t channels,
                gw_place_array a, gw_place_array b, bool one_column, gw_place_array dst)
{
    for (size_t w = 0; w < count; w++)
        p->ops.join(kind, act, columns, channels, a.x + w * a.step, b.x + w * b.step,
                    one_column ? 0 : channels, dst.x + w * dst.step);
    return GW_OK;
}

static int meet(gw_place *p, uint32_t count, gw_act act, uint32_t columns, uint32_t channels,
                const float *bias, gw_place_array a, uint32_t a_channels, gw_place_array b,
                gw_place_array dst)
{
    for (size_t w = 0; w < count; w++) {
        float *to = dst.x + w * dst.step;
        for (size_t i = 0; i < columns; i++) {
            const float *x = a.x + w * a.step + i * a_channels,
                        *y = b.x ? b.x + w * b.step + i * channels : NULL;
            for (size_t c = 0; c < channels; c++)
                to[i * channels + c] = bias[c] + x[c] + (y ? y[c] : 0);
        }
        if (act.kind != GW_ACT_NONE)
            p->ops.act(act, (size_t)columns * channels, to, to);
    }
    return GW_OK;
}

static int act_only(gw_place *p, uint32_t count, gw_act act, size_t n, gw_place_array x, gw_place_array dst)
{
    for (size_t w = 0; w < count; w++)
        p->ops.act(act, n, x.x + w * x.step, dst.x + w * dst.step);
    return GW_OK;
}

static int mean(gw_place *p, uint32_t count, uint32_t n, uint32_t span, uint32_t channels, gw_place_array x,
                gw_place_array dst)
{
    for (size_t w = 0; w < count; w++)
        p->ops.mean(n, span, channels, x.x + w * x.step, dst.x + w * dst.step);
    return GW_OK;
}

static int pool(gw_place *p, uint32_t count, const gw_pool *pool, gw_place_array src, gw_place_array dst)
{
    for (size_t w = 0; w < count; w++)
        p->ops.pool(pool, src.x + w * src.step, dst.x + w * dst.step);
    return GW_OK;
}

static int norm(gw_place *p, uint32_t count, const gw_norm *norm, gw_place_array x, gw_place_array residual,
                gw_place_array dst)
{
    for (size_t w = 0; w < count; w++)
        p->ops.norm(norm, x.x + w * x.step, residual.x ? residual.x + w * residual.step : NULL,
                    dst.x + w * dst.step);
    return GW_OK;
}

static int copy(gw_place *p, uint32_t count, uint32_t columns, uint32_t channels, gw_place_array from,
                uint32_t from_channels, gw_place_array to, uint32_t to_channels)
{
    (void)p;
    for (size_t w = 0; w < count; w++)
        for (size_t i = 0; i < columns; i++)
            memcpy(to.x + w * to.step + i * to_channels, from.x + w * from.step + i * from_channels,
                   channels * sizeof *to.x);
    return GW_OK;
}

static int zero(gw_place *p, uint32_t count, gw_place_array a, size_t n, size_t between, size_t after)
{
    (void)p;
    for (size_t w = 0; w < count; w++) {
        memset(a.x + w * a.step, 0, n * sizeof *a.x);
        if (after)
            memset(a.x + w * a.step + n + between, 0, after * sizeof *a.x);
    }
    return GW_OK;
}

static int keep(gw_place *p, uint32_t count, const gw_place_past *past, int n)
{
    (void)p;
    for (int i = 0; i < n; i++)
        for (size_t w = 0; w < count; w++) {
            float *start = past[i].start.x + w * past[i].start.step;
            memmove(start, start + past[i].fresh, past[i].past * sizeof *start);
        }
    return GW_OK;
}

void gw_place_host(gw_place_ops *ops)
{
    *ops = (gw_place_ops){.open = host_open,
                          .close = host_close,
                          .floats_new = floats_new,
                          .floats_free = floats_free,
                          .move = move,
                          .wait = host_wait,
                          .begin = begin,
                          .end = end,
                          .load = load,
                          .give = give,
                          .conv = conv,
                          .join = join,
                          .meet = meet,
                          .act = act_only,
                          .mean = mean,
                          .pool = pool,
                          .norm = norm,
                          .copy = copy,
                          .zero = zero,
                          .keep = keep};
}
