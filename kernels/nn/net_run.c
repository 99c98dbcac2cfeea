/* SPDX-License-Identifier: GPL-3.0-or-later
 * Runs an open network: one kernel call a step, the windows of a pass together in the convolutions.
 *
 * In a window the columns around a buffer's own are zeros, the padding; buffers share memory, so they are
 * written again each time. A stream's step writes the new columns behind `before` columns of the past, and
 * in the end moves each buffer's last `before` columns to its start. */
#include "kernels/nn/net_inside.h"

#include <string.h>

/* ---- In ---- */

/* Planes of columns -> columns of channels, in pieces that stay in the nearest cache. */
static void weave(const float *x, size_t stride, size_t channels, size_t columns, float *to)
{
    enum { PIECE = 64 };
    if (channels == 1) {
        memcpy(to, x, columns * sizeof *to);
        return;
    }
    for (size_t i0 = 0; i0 < columns; i0 += PIECE) {
        const size_t end = columns - i0 < PIECE ? columns : i0 + PIECE;
        for (size_t c = 0; c < channels; c++)
            for (size_t i = i0; i < end; i++)
                to[i * channels + c] = x[c * stride + i];
    }
}

static void zero_around(gw_net *n, int buffer, uint32_t count)
{
    const gw_netbuffer *b = &n->plan->buffer[buffer];
    for (size_t w = 0; w < count; w++) {
        float *first = n->column0[buffer] + w * n->step[buffer];
        if (b->before)
            memset(first - (size_t)b->before * b->channels, 0,
                   (size_t)b->before * b->channels * sizeof *first);
        if (b->after)
            memset(first + (size_t)b->columns * b->channels, 0,
                   (size_t)b->after * b->channels * sizeof *first);
    }
}

/* One channel without padding lies in the caller's memory as the steps want it: they read it there. */
static bool read_in_place(gw_net *n, const gw_net_in *in, uint32_t first)
{
    const int at = n->plan->input;
    const gw_netbuffer *b = &n->plan->buffer[at];
    if (b->channels > 1 || b->before || b->after || in->features)
        return false;
    n->column0[at] = (float *)(uintptr_t)(in->x + first * in->window_stride); /* no step writes to it */
    n->step[at] = in->window_stride;
    return true;
}

static void load_input(gw_net *n, const gw_net_in *in, uint32_t first, uint32_t count)
{
    const int at = n->plan->input;
    const gw_netbuffer *b = &n->plan->buffer[at];
    if (read_in_place(n, in, first))
        return;
    const size_t detectors = n->plan->n_detectors, each = b->channels / detectors;
    for (size_t w = 0; w < count; w++) {
        float *to = n->column0[at] + w * n->step[at];
        if (!in->features) {
            weave(in->x + (first + w) * in->window_stride, in->channel_stride, b->channels, b->columns, to);
            continue;
        }
        for (size_t d = 0; d < detectors; d++)
            for (size_t i = 0; i < b->columns; i++)
                memcpy(to + i * b->channels + d * each, in->features[(first + w) * detectors + d] + i * each,
                       each * sizeof *to);
    }
    if (n->mode == GW_NET_WINDOW)
        zero_around(n, at, count);
}

/* ---- Steps ---- */

static void run_copy(const gw_netstep *s, size_t in_channels, size_t out_channels, const float *in,
                     float *out)
{
    for (size_t i = 0; i < s->columns; i++)
        memcpy(out + i * out_channels + s->to, in + i * in_channels + s->from, s->channels * sizeof *out);
}

/* Anything but a convolution, on one window. */
static void run_plain(gw_net *n, const gw_netstep *s, const float *in, const float *in2, float *out)
{
    const gw_netbuffer *from = &n->plan->buffer[s->in];
    const uint32_t channels = from->channels;
    switch (s->kind) {
    case GW_STEP_JOIN:
        n->ops.join(s->join, s->act, s->columns, channels, in, in2, s->one_column ? 0 : channels, out);
        break;
    case GW_STEP_ACT:
        n->ops.act(s->act, (size_t)s->columns * channels, in, out);
        break;
    case GW_STEP_MEAN:
        n->ops.mean(s->columns, s->span, channels, in, out);
        break;
    case GW_STEP_POOL:
        n->ops.pool(&(gw_pool){s->mean, s->count_padding, channels, s->kernel, s->stride, s->dilation,
                               s->pad_left, s->in_columns, s->columns},
                    in, out);
        break;
    case GW_STEP_NORM:
        n->ops.norm(
            &(gw_norm){channels, s->groups, s->columns, s->epsilon, s->act, s->weight, s->bias, n->scratch},
            in, in2, out);
        break;
    case GW_STEP_COPY:
        run_copy(s, channels, n->plan->buffer[s->out].channels, in, out);
        break;
    case GW_STEP_CONV:
        break;
    }
}

static int run_steps(gw_net *n, uint32_t count)
{
    const gw_netplan *p = n->plan;
    for (int i = 0; i < p->n_steps; i++) {
        const gw_netstep *s = &p->step[i];
        const float *in = n->column0[s->in] + (ptrdiff_t)s->at * (ptrdiff_t)p->buffer[s->in].channels;
        const float *in2 =
            s->in2 < 0 ? NULL
                       : n->column0[s->in2] + (ptrdiff_t)s->at2 * (ptrdiff_t)p->buffer[s->in2].channels;
        float *out = n->column0[s->out];
        if (s->kind == GW_STEP_CONV) {
            const gw_conv_io io = {.batch = count,
                                   .columns = s->columns,
                                   .src = in,
                                   .residual = in2,
                                   .dst = out,
                                   .src_step = n->step[s->in],
                                   .residual_step = in2 ? n->step[s->in2] : 0,
                                   .dst_step = n->step[s->out]};
            GW_TRY(n->ops.run(n->conv[i]->conv, &io));
        } else {
            for (size_t w = 0; w < count; w++)
                run_plain(n, s, in + w * n->step[s->in], in2 ? in2 + w * n->step[s->in2] : NULL,
                          out + w * n->step[s->out]);
        }
        if (n->mode == GW_NET_WINDOW)
            zero_around(n, s->out, count);
    }
    return GW_OK;
}

/* ---- Out ---- */

static void take_output(const gw_net *n, int i, uint32_t count, float *y)
{
    const gw_netvalue *o = &n->plan->output[i];
    const gw_net_output *about = &n->output[i];
    const size_t channels = about->channels, columns = about->columns;
    const size_t first = n->mode == GW_NET_WINDOW ? o->first : 0;
    for (size_t w = 0; w < count; w++, y += channels * columns) {
        const float *from = n->column0[o->buffer] + w * n->step[o->buffer] + first * channels;
        if (about->channels_last || channels == 1 || columns == 1) {
            memcpy(y, from, channels * columns * sizeof *y);
            continue;
        }
        for (size_t c = 0; c < channels; c++)
            for (size_t k = 0; k < columns; k++)
                y[c * columns + k] = from[k * channels + c];
    }
}

/* The last columns become the past of the next step. */
static void keep_past(gw_net *n)
{
    for (int i = 0; i < n->plan->n_buffers; i++) {
        const gw_netbuffer *b = &n->plan->buffer[i];
        const size_t past = (size_t)b->before * b->channels, fresh = (size_t)b->columns * b->channels;
        for (size_t w = 0; w < n->info.batch && past && fresh; w++) {
            float *start = n->column0[i] + w * n->step[i] - past;
            memmove(start, start + fresh, past * sizeof *start);
        }
    }
}

int gw_net_run(gw_net *n, const gw_net_in *in, float *const *out)
{
    const bool merged = n->plan->n_detectors > 1, stream = n->mode == GW_NET_STREAM;
    const uint32_t windows = stream && in->n_windows == 0 ? n->info.batch : in->n_windows;
    if (merged != (in->features != NULL))
        return gw_fail(GW_EBUG, "a network %s",
                       merged ? "of features was given samples" : "was given features");
    if (stream && windows != n->info.batch)
        return gw_fail(GW_EBUG, "%u streams were given to a network opened for %u", windows, n->info.batch);
    for (uint32_t first = 0; first < windows; first += n->info.batch) {
        const uint32_t count = windows - first < n->info.batch ? windows - first : n->info.batch;
        load_input(n, in, first, count);
        GW_TRY(run_steps(n, count));
        for (int i = 0; i < n->info.n_outputs; i++)
            if (out[i])
                take_output(n, i, count,
                            out[i] + (size_t)first * n->output[i].channels * n->output[i].columns);
    }
    if (stream)
        keep_past(n);
    return GW_OK;
}

/* ---- The past ---- */

void gw_net_reset(gw_net *n)
{
    memset(n->memory, 0, n->memory_floats * sizeof *n->memory);
}

void gw_net_reset_stream(gw_net *n, uint32_t stream)
{
    for (int i = 0; i < n->plan->n_buffers; i++) {
        const gw_netbuffer *b = &n->plan->buffer[i];
        if (b->before && n->step[i])
            memset(n->column0[i] + stream * n->step[i] - (size_t)b->before * b->channels, 0,
                   (size_t)b->before * b->channels * sizeof *n->memory);
    }
}

typedef struct state_head {
    uint64_t mark, bytes;
} state_head;

size_t gw_net_state_bytes(const gw_net *n)
{
    size_t floats = 0;
    for (int i = 0; i < n->plan->n_buffers; i++)
        if (n->mode == GW_NET_STREAM && n->step[i])
            floats += (size_t)n->plan->buffer[i].before * n->plan->buffer[i].channels;
    return sizeof(state_head) + floats * n->info.batch * sizeof(float);
}

/* Every stream's columns of the past, to `to` or from `from`. */
static void move_past(const gw_net *n, unsigned char *to, const unsigned char *from)
{
    for (int i = 0; i < n->plan->n_buffers; i++) {
        const gw_netbuffer *b = &n->plan->buffer[i];
        const size_t bytes = (size_t)b->before * b->channels * sizeof(float);
        for (size_t w = 0; w < n->info.batch && n->step[i] && bytes; w++) {
            float *past = n->column0[i] + w * n->step[i] - (size_t)b->before * b->channels;
            if (to) {
                memcpy(to, past, bytes);
                to += bytes;
            } else {
                memcpy(past, from, bytes);
                from += bytes;
            }
        }
    }
}

void gw_net_state_save(const gw_net *n, void *to)
{
    const state_head head = {n->mark, gw_net_state_bytes(n)};
    memcpy(to, &head, sizeof head);
    if (n->mode == GW_NET_STREAM)
        move_past(n, (unsigned char *)to + sizeof head, NULL);
}

int gw_net_state_load(gw_net *n, const void *from, size_t bytes)
{
    state_head head;
    if (bytes >= sizeof head)
        memcpy(&head, from, sizeof head);
    if (n->mode != GW_NET_STREAM || bytes != gw_net_state_bytes(n) || head.bytes != bytes ||
        head.mark != n->mark)
        return gw_fail(GW_EMISMATCH,
                       "the saved state of %zu bytes is not of this network with this hop and batch (%zu "
                       "bytes); start without it",
                       bytes, gw_net_state_bytes(n));
    move_past(n, NULL, (const unsigned char *)from + sizeof head);
    return GW_OK;
}
