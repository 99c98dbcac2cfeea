/* SPDX-License-Identifier: GPL-3.0-or-later
 * Runs a plan: one allocation for all buffers, one kernel call a step. Called by the detect stage; see
 * net.h for the two modes. All arithmetic is in the kernel table.
 *
 * A stream's step writes the new columns behind `before` columns of the past, runs the same steps as a
 * window would on so many columns, and then moves each buffer's last `before` columns to its start. */
#include "kernels/nn/plan.h"

#include <stdlib.h>
#include <string.h>

enum { ALIGN_FLOATS = 16 }; /* 64 bytes */

struct gw_net {
    gw_netplan *plan;
    gw_conv_ops ops;
    gw_conv **conv; /* [n_steps]; NULL where the step is none */
    float *memory;
    size_t memory_floats;
    float **column0;    /* [n_buffers]: the first new column */
    int logit, arrival; /* outputs; arrival -1 = none */
    gw_net_mode mode;
    gw_net_info info;
};

const gw_net_info *gw_net_get_info(const gw_net *n)
{
    return &n->info;
}

const gw_netplan *gw_net_plan(const gw_net *n)
{
    return n->plan;
}

void gw_net_close(gw_net **out)
{
    gw_net *n = *out;
    if (!n)
        return;
    for (int i = 0; n->conv && i < n->plan->n_steps; i++)
        n->ops.close(&n->conv[i]);
    free(n->conv);
    free(n->column0);
    free(n->memory);
    gw_netplan_free(&n->plan);
    free(n);
    *out = NULL;
}

/* ---- Opening ---- */

static size_t buffer_floats(const gw_netbuffer *b)
{
    if (b->columns == 0)
        return 0;
    const size_t n = ((size_t)b->before + b->columns + b->after) * b->channels;
    return (n + ALIGN_FLOATS - 1) / ALIGN_FLOATS * ALIGN_FLOATS;
}

static int lay_out(gw_net *n, const char *path)
{
    const gw_netplan *p = n->plan;
    const size_t limit = (size_t)1 << 28; /* floats: 1 GiB, far above any network of this kind */
    size_t total = 0;
    for (int i = 0; i < p->n_buffers; i++) {
        total += buffer_floats(&p->buffer[i]);
        if (total > limit)
            return gw_fail(GW_ERANGE, "%s: the network needs more than 1 GiB of memory", path);
    }
    n->memory_floats = total ? total : ALIGN_FLOATS;
    n->memory = aligned_alloc(ALIGN_FLOATS * sizeof(float), n->memory_floats * sizeof(float));
    n->column0 = calloc((size_t)p->n_buffers, sizeof *n->column0);
    n->conv = calloc((size_t)p->n_steps + 1, sizeof(gw_conv *));
    if (!n->memory || !n->column0 || !n->conv)
        return gw_fail(GW_ENOMEM, "%s: no memory for %zu bytes of activations", path,
                       n->memory_floats * sizeof(float));
    memset(n->memory, 0, n->memory_floats * sizeof(float));
    size_t at = 0;
    for (int i = 0; i < p->n_buffers; i++) {
        n->column0[i] = n->memory + at + (size_t)p->buffer[i].before * p->buffer[i].channels;
        at += buffer_floats(&p->buffer[i]);
    }
    return GW_OK;
}

static int open_layers(gw_net *n, const char *path)
{
    const gw_netplan *p = n->plan;
    for (int i = 0; i < p->n_steps; i++) {
        const gw_netstep *s = &p->step[i];
        if (s->kind != GW_STEP_CONV)
            continue;
        const gw_conv_desc d = {.in_channels = p->buffer[s->in].channels,
                                .out_channels = p->buffer[s->out].channels,
                                .groups = s->groups,
                                .kernel = s->kernel,
                                .stride = s->stride,
                                .dilation = s->dilation,
                                .columns = s->columns,
                                .act = s->act,
                                .residual = s->in2 >= 0};
        const int err = n->ops.open(&n->conv[i], &d, s->weight, s->bias);
        if (err < 0)
            return gw_fail_at(err, "%s: '%s'", path, s->node);
    }
    return GW_OK;
}

/* The two outputs that mean something, by name. */
static int find_outputs(gw_net *n, const char *path)
{
    const gw_netplan *p = n->plan;
    n->logit = n->arrival = -1;
    for (int i = 0; i < p->n_outputs; i++) {
        const gw_netoutput *o = &p->output[i];
        int64_t values = 1;
        for (int k = 0; k < o->rank; k++)
            values *= o->dim[k];
        if (strcmp(o->name, "logit") == 0 && values == 1)
            n->logit = i;
        else if (strcmp(o->name, "arrival") == 0 && o->rank == 3 && p->window_samples % o->dim[2] == 0 &&
                 !p->buffer[o->buffer].pooled)
            n->arrival = i;
        else
            return gw_fail(
                GW_ENOTSUP,
                "%s: output '%.80s' is neither 'logit' [1, 1] nor 'arrival' [1, detectors, columns] with "
                "columns that divide the window",
                path, o->name);
    }
    if (n->logit < 0)
        return gw_fail(GW_ENOTSUP, "%s: the network has no output 'logit' [1, 1]", path);
    return GW_OK;
}

static int prepare(gw_net *n, const gw_onnx *m, bool any, uint32_t hop_samples)
{
    gw_netplan *p = n->plan;
    gw_net_info *info = &n->info;
    n->logit = n->arrival = -1;
    if (!any)
        GW_TRY(find_outputs(n, m->path));
    info->n_channels = p->buffer[p->input].channels;
    info->window_samples = p->window_samples;
    info->parameters = p->parameters;
    info->flop_window = p->flop;
    if (n->arrival >= 0) {
        info->n_arrival = p->buffer[p->output[n->arrival].buffer].channels;
        info->arrival_samples = p->window_samples / p->output[n->arrival].columns;
    }
    if (n->mode == GW_NET_STREAM) {
        GW_TRY(gw_netplan_stream(p, m->path, hop_samples));
        info->frame_samples = p->frame_samples;
        const char *rate =
            gw_onnx_meta(m, "gwstream.sample_rate"); /* only for this figure; detect checks it */
        const double hop = (double)p->buffer[p->input].columns;
        info->flop_second = rate ? p->flop / hop * strtod(rate, NULL) : 0;
    }
    GW_TRY(lay_out(n, m->path));
    return open_layers(n, m->path);
}

static int open_net(gw_net **out, const gw_onnx *m, const gw_kernels *k, gw_net_mode mode, bool any,
                    uint32_t hop_samples)
{
    *out = NULL;
    gw_net *n = calloc(1, sizeof *n);
    if (!n)
        return gw_fail(GW_ENOMEM, "%s: no memory", m->path);
    n->ops = k->conv;
    n->mode = mode;
    int err = gw_netplan_window(&n->plan, m);
    if (err < 0) {
        free(n);
        return err;
    }
    err = prepare(n, m, any, hop_samples);
    if (err < 0) {
        gw_net_close(&n);
        return err;
    }
    *out = n;
    return GW_OK;
}

int gw_net_open(gw_net **n, const gw_onnx *m, const gw_kernels *k, gw_net_mode mode, uint32_t hop_samples)
{
    return open_net(n, m, k, mode, false, hop_samples);
}

int gw_net_open_any(gw_net **n, const gw_onnx *m, const gw_kernels *k)
{
    return open_net(n, m, k, GW_NET_WINDOW, true, 0);
}

/* ---- Running ---- */

/* x [channel][column] -> the input buffer's new columns [column][channel]. */
static void load_input(gw_net *n, const float *x, size_t stride)
{
    const gw_netbuffer *in = &n->plan->buffer[n->plan->input];
    float *to = n->column0[n->plan->input];
    for (size_t c = 0; c < in->channels; c++)
        for (size_t i = 0; i < in->columns; i++)
            to[i * in->channels + c] = x[c * stride + i];
}

static int run_steps(gw_net *n)
{
    const gw_netplan *p = n->plan;
    for (int i = 0; i < p->n_steps; i++) {
        const gw_netstep *s = &p->step[i];
        const size_t channels = p->buffer[s->in].channels;
        const float *in = n->column0[s->in] + s->first * channels;
        const float *in2 = s->in2 >= 0 ? n->column0[s->in2] + s->first2 * p->buffer[s->in2].channels : NULL;
        float *out = n->column0[s->out];
        const size_t values = (size_t)s->columns * p->buffer[s->out].channels;
        switch (s->kind) {
        case GW_STEP_CONV:
            GW_TRY(n->ops.run(n->conv[i], in - s->pad_left * channels, in2, out));
            break;
        case GW_STEP_ADD:
            n->ops.add(values, s->act, in, in2, out);
            break;
        case GW_STEP_MUL:
            n->ops.mul(values, s->act, in, in2, out);
            break;
        case GW_STEP_ACT:
            n->ops.act(values, s->act, in, out);
            break;
        case GW_STEP_MEAN: /* in a window exactly one mean; in a stream one for each new frame */
            if (n->mode == GW_NET_STREAM)
                in -= (size_t)(s->span - 1) * channels;
            n->ops.mean(s->columns, s->span, (uint32_t)channels, in, out);
            break;
        }
    }
    return GW_OK;
}

int gw_net_output(const gw_net *n, int i, float *y)
{
    const gw_netoutput *o = &n->plan->output[i];
    const size_t channels = n->plan->buffer[o->buffer].channels, columns = o->columns;
    const float *from = n->column0[o->buffer] + o->first * channels;
    for (size_t c = 0; c < channels; c++)
        for (size_t k = 0; k < columns; k++)
            y[c * columns + k] = from[k * channels + c];
    return GW_OK;
}

/* The last columns become the past of the next step. */
static void keep_past(gw_net *n)
{
    for (int i = 0; i < n->plan->n_buffers; i++) {
        const gw_netbuffer *b = &n->plan->buffer[i];
        if (b->before == 0 || b->columns == 0)
            continue;
        float *start = n->column0[i] - (size_t)b->before * b->channels;
        memmove(start, start + (size_t)b->columns * b->channels,
                (size_t)b->before * b->channels * sizeof *start);
    }
}

int gw_net_step(gw_net *n, const float *x, size_t stride, float *logit, float *arrival)
{
    if (n->mode != GW_NET_STREAM)
        return gw_fail(GW_EBUG, "a network opened for windows was asked to stream");
    load_input(n, x, stride);
    GW_TRY(run_steps(n));
    GW_TRY(gw_net_output(n, n->logit, logit));
    if (arrival && n->arrival >= 0)
        GW_TRY(gw_net_output(n, n->arrival, arrival));
    keep_past(n);
    return GW_OK;
}

void gw_net_reset(gw_net *n)
{
    memset(n->memory, 0, n->memory_floats * sizeof *n->memory);
}

int gw_net_window(gw_net *n, const float *x, size_t stride, float *logit, float *arrival)
{
    if (n->mode != GW_NET_WINDOW)
        return gw_fail(GW_EBUG, "a network opened for a stream was asked for a window");
    GW_TRY(gw_net_run_any(n, x, stride));
    GW_TRY(gw_net_output(n, n->logit, logit));
    return arrival && n->arrival >= 0 ? gw_net_output(n, n->arrival, arrival) : GW_OK;
}

int gw_net_run_any(gw_net *n, const float *x, size_t stride)
{
    load_input(n, x, stride);
    return run_steps(n);
}
