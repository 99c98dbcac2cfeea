/* SPDX-License-Identifier: GPL-3.0-or-later
 * Runs an open network: one call of place.h a step, all windows of a pass together. Knows neither where
 * the arrays lie nor who computes.
 *
 * In a window the columns around a buffer's own are zeros, the padding; buffers share memory, so they are
 * written again each time. A stream's step writes the new columns behind `before` columns of the past, and
 * in the end moves each buffer's last `before` columns to its start. */
#include "kernels/nn/net_inside.h"

#include <string.h>

static int zero_around(gw_net *n, int buffer, uint32_t count)
{
    const gw_netbuffer *b = &n->plan->buffer[buffer];
    const size_t before = (size_t)b->before * b->channels, after = (size_t)b->after * b->channels;
    const gw_place_array a = n->array[buffer];
    if (before == 0 && after == 0)
        return GW_OK;
    return n->ops.zero(n->place, count, (gw_place_array){a.x - before, a.step}, before,
                       (size_t)b->columns * b->channels, after);
}

/* Where a step reads: `at` columns from the buffer's first new one on. */
static gw_place_array operand(const gw_net *n, int buffer, int32_t at)
{
    if (buffer < 0)
        return (gw_place_array){NULL, 0};
    const gw_place_array a = n->array[buffer];
    return (gw_place_array){a.x + (ptrdiff_t)at * (ptrdiff_t)n->plan->buffer[buffer].channels, a.step};
}

/* Of the windows, those of one detector. */
static gw_place_array turn(const gw_net *n, const gw_netstep *s, gw_place_array a)
{
    if (s->only == 0 || a.x == NULL)
        return a;
    return (gw_place_array){a.x + (s->only - 1) * a.step, a.step * n->plan->members};
}

gw_conv_io gw_net_conv_io(const gw_net *n, int i, uint32_t windows)
{
    const gw_netstep *s = &n->plan->step[i];
    const gw_place_array in = turn(n, s, operand(n, s->in, s->at)),
                         in2 = turn(n, s, operand(n, s->in2, s->at2)), out = turn(n, s, n->array[s->out]);
    return (gw_conv_io){.batch = s->only ? windows / n->plan->members : windows,
                        .columns = s->columns,
                        .src = in.x,
                        .residual = in2.x,
                        .dst = out.x,
                        .src_step = in.step,
                        .residual_step = in2.step,
                        .dst_step = out.step};
}

static int run_step(gw_net *n, int i, uint32_t windows)
{
    const gw_netstep *s = &n->plan->step[i];
    const uint32_t count = s->only ? windows / n->plan->members : windows;
    const gw_place_array in = turn(n, s, operand(n, s->in, s->at)),
                         in2 = turn(n, s, operand(n, s->in2, s->at2)), out = turn(n, s, n->array[s->out]);
    const uint32_t channels = n->plan->buffer[s->in].channels;
    switch (s->kind) {
    case GW_STEP_CONV: {
        const gw_conv_io io = gw_net_conv_io(n, i, windows);
        return n->ops.conv(n->place, n->conv[i]->conv, &io);
    }
    case GW_STEP_JOIN:
        return n->ops.join(n->place, count, s->join, s->act, s->columns, channels, in, in2, s->one_column,
                           out);
    case GW_STEP_ACT:
        return n->ops.act(n->place, count, s->act, (size_t)s->columns * channels, in, out);
    case GW_STEP_MEAN:
        return n->ops.mean(n->place, count, s->columns, s->span, channels, in, out);
    case GW_STEP_POOL:
        return n->ops.pool(n->place, count,
                           &(gw_pool){s->mean, s->count_padding, channels, s->kernel, s->stride, s->dilation,
                                      s->pad_left, s->in_columns, s->columns},
                           in, out);
    case GW_STEP_NORM:
        return n->ops.norm(n->place, count,
                           &(gw_norm){channels, s->groups, s->columns, s->epsilon, s->act, n->scale[i],
                                      n->bias[i], n->scratch},
                           in, in2, out);
    case GW_STEP_MEET:
        return n->ops.meet(n->place, count, s->act, s->columns, s->channels, n->bias[i],
                           (gw_place_array){in.x + s->from, in.step}, channels, in2, out);
    case GW_STEP_COPY: {
        const uint32_t wide = n->plan->buffer[s->out].channels;
        return n->ops.copy(n->place, count, s->columns, s->channels,
                           (gw_place_array){in.x + s->from, in.step}, channels,
                           (gw_place_array){out.x + s->to, out.step}, wide);
    }
    }
    return gw_fail(GW_EBUG, "a step of kind %d", (int)s->kind);
}

/* All that a pass does with its windows, in order. */
static int run_pass(gw_net *n, uint32_t count)
{
    const bool stream = n->mode == GW_NET_STREAM;
    const int at = n->plan->input;
    n->array[at] = n->input; /* or, this time, where the caller has it */
    GW_TRY(n->ops.load(n->place, count, &n->array[at]));
    if (!stream)
        GW_TRY(zero_around(n, at, count));
    for (int i = 0; i < n->plan->n_steps; i++) {
        GW_TRY(run_step(n, i, count));
        if (!stream)
            GW_TRY(zero_around(n, n->plan->step[i].out, count));
    }
    for (int i = 0; i < n->info.n_outputs; i++) {
        const gw_netvalue *o = &n->plan->output[i];
        GW_TRY(n->ops.give(n->place, count, i, operand(n, o->buffer, stream ? 0 : (int32_t)o->first)));
    }
    return stream ? n->ops.keep(n->place, count, n->past, n->n_past) : GW_OK;
}

static int pass(gw_net *n, const gw_place_call *call)
{
    bool known = false;
    GW_TRY(n->ops.begin(n->place, call, &known));
    return n->ops.end(n->place, known ? GW_OK : run_pass(n, call->windows));
}

int gw_net_record(gw_net *n)
{
    return pass(n, &(gw_place_call){.count = n->info.batch, .windows = n->info.batch});
}

int gw_net_run(gw_net *n, const gw_net_in *in, float *const *out)
{
    const bool merged = n->plan->n_detectors > 1, stream = n->mode == GW_NET_STREAM;
    const uint32_t windows = stream && in->n_windows == 0 ? n->info.batch : in->n_windows;
    if (merged != (in->features != NULL))
        return gw_fail(GW_EBUG, "a network %s",
                       merged ? "of features was given samples" : "was given features");
    if (windows % n->plan->members != 0)
        return gw_fail(GW_EBUG, "%u windows were given to the trunk of %u detectors in turn", windows,
                       n->plan->members);
    if (stream && windows != n->info.batch)
        return gw_fail(GW_EBUG, "%u streams were given to a network opened for %u", windows, n->info.batch);
    for (uint32_t first = 0; first < windows; first += n->info.batch) {
        const uint32_t left = windows - first, count = left < n->info.batch ? left : n->info.batch;
        for (int i = 0; i < n->info.n_outputs; i++)
            n->out[i] = out[i] ? out[i] + (size_t)first * n->output[i].channels * n->output[i].columns : NULL;
        GW_TRY(
            pass(n, &(gw_place_call){
                        .count = count,
                        .windows = n->whole ? n->info.batch : count,
                        .x = in->x ? in->x + first * in->window_stride : NULL,
                        .channel_stride = in->channel_stride,
                        .window_stride = in->window_stride,
                        .channel = in->channel ? in->channel + (size_t)first * n->info.n_channels : NULL,
                        .features = in->features ? in->features + (size_t)first * n->plan->n_detectors : NULL,
                        .out = n->out}));
    }
    return GW_OK;
}

int gw_net_wait(gw_net *n)
{
    return n->ops.wait(n->place);
}

/* ---- The past ---- */

void gw_net_reset(gw_net *n)
{
    (void)n->ops.zero(n->place, 1, (gw_place_array){n->memory, 0}, n->memory_floats, 0, 0);
}

void gw_net_reset_stream(gw_net *n, uint32_t stream)
{
    for (int i = 0; i < n->n_past; i++) {
        const gw_place_past *b = &n->past[i];
        (void)n->ops.zero(n->place, 1, (gw_place_array){b->start.x + stream * b->start.step, 0}, b->past, 0,
                          0);
    }
}

typedef struct state_head {
    uint64_t mark, bytes;
} state_head;

size_t gw_net_state_bytes(const gw_net *n)
{
    size_t floats = 0;
    for (int i = 0; i < n->n_past; i++)
        floats += n->past[i].past;
    return sizeof(state_head) + floats * n->info.batch * sizeof(float);
}

int gw_net_state_save(const gw_net *n, void *to)
{
    const state_head head = {n->mark, gw_net_state_bytes(n)};
    memcpy(to, &head, sizeof head);
    float *past = (float *)((char *)to + sizeof head);
    for (int i = 0; i < n->n_past; i++) {
        const gw_place_past *b = &n->past[i];
        GW_TRY(n->ops.move(n->place, past, b->past, b->start.x, b->start.step, b->past, n->info.batch));
        past += b->past * n->info.batch;
    }
    return GW_OK;
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
    const float *past = (const float *)((const char *)from + sizeof head);
    for (int i = 0; i < n->n_past; i++) {
        const gw_place_past *b = &n->past[i];
        GW_TRY(n->ops.move(n->place, b->start.x, b->start.step, past, b->past, b->past, n->info.batch));
        past += b->past * n->info.batch;
    }
    return GW_OK;
}
