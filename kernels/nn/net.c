/* SPDX-License-Identifier: GPL-3.0-or-later
 * Opens a network: plan, memory, layers. One allocation of the place holds all buffers: in a window they
 * share it, each from the step that writes it to the last that reads it; in a stream each has its own, for
 * its past lies there. Running is net_run.c; all arithmetic is in the kernel table. */
#include "kernels/nn/net_inside.h"
#include "kernels/nn/simplify.h"

#include <stdlib.h>
#include <string.h>

enum { ALIGN_FLOATS = 16, MAX_BATCH = 1 << 16 };

/* Activations of one pass that stay in a level-2 cache, with weights beside them: more windows at once gain
 * nothing. */
enum { PASS_FLOATS = 96 << 10, MAX_CHOSEN_BATCH = 16 };

/* On a device all multiprocessors want work at once. */
enum { DEVICE_PASS_FLOATS = 64 << 20, MAX_DEVICE_BATCH = 256 };

static const size_t limit_floats = (size_t)1 << 28; /* 1 GiB, far above any network of this kind */
static const size_t device_limit_floats = (size_t)16 << 28;

const gw_net_info *gw_net_get_info(const gw_net *n)
{
    return &n->info;
}

int gw_net_find_output(const gw_net *n, const char *name)
{
    for (int i = 0; i < n->info.n_outputs; i++)
        if (strcmp(n->output[i].name, name) == 0)
            return i;
    return -1;
}

bool gw_net_equal(const gw_net *a, const gw_net *b)
{
    return a->function == b->function;
}

const gw_net_layer *gw_net_layers(const gw_net *n, int *count)
{
    *count = n->plan->n_steps;
    return n->layer;
}

static void release(gw_netconv *c)
{
    if (!c || atomic_fetch_sub(&c->users, 1) > 1)
        return;
    c->ops.close(&c->conv);
    free(c);
}

void gw_net_close(gw_net **out)
{
    gw_net *n = *out;
    if (!n)
        return;
    for (int i = 0; n->conv && i < n->plan->n_steps; i++)
        release(n->conv[i]);
    n->ops.close(&n->place);
    n->ops.floats_free(&n->memory);
    n->ops.floats_free(&n->given);
    free(n->conv);
    free(n->scale);
    free(n->array);
    free(n->past);
    free(n->form);
    free(n->out);
    free(n->scratch);
    free(n->output);
    free(n->layer);
    gw_netplan_free(&n->plan);
    free(n);
    *out = NULL;
}

/* ---- Memory ---- */

static size_t window_floats(const gw_netbuffer *b)
{
    const size_t n = ((size_t)b->before + b->columns + b->after) * b->channels;
    return (n + ALIGN_FLOATS - 1) / ALIGN_FLOATS * ALIGN_FLOATS;
}

typedef struct span { /* where a buffer lies and which steps it must outlive */
    size_t at, floats;
    int born, dies;
} span;

static void find_lives(const gw_net *n, span *s)
{
    const gw_netplan *p = n->plan;
    for (int i = 0; i < p->n_buffers; i++)
        s[i] = (span){
            .floats = gw_netplan_uses(p, i) ? window_floats(&p->buffer[i]) : 0, .born = -1, .dies = -1};
    for (int i = p->n_steps; i-- > 0;)
        s[p->step[i].out].born = i;
    for (int i = 0; i < p->n_steps; i++) {
        const gw_netstep *q = &p->step[i];
        s[q->in].dies = s[q->out].dies = i;
        if (q->in2 >= 0)
            s[q->in2].dies = i;
    }
    for (int i = 0; i < p->n_outputs; i++)
        s[p->output[i].buffer].dies = p->n_steps;
}

/* The lowest place that no buffer of the same time holds. Returns how much is used in all. */
static size_t place(const gw_net *n, span *s)
{
    const int count = n->plan->n_buffers;
    size_t used = 0;
    for (int i = 0; i < count; i++) {
        bool moved = s[i].floats > 0;
        s[i].at = 0;
        while (moved) {
            moved = false;
            for (int k = 0; k < i; k++) {
                const bool together =
                    n->mode == GW_NET_STREAM || (s[k].born <= s[i].dies && s[i].born <= s[k].dies);
                if (s[k].floats && together && s[k].at < s[i].at + s[i].floats &&
                    s[i].at < s[k].at + s[k].floats) {
                    s[i].at = s[k].at + s[k].floats;
                    moved = true;
                }
            }
        }
        used = s[i].at + s[i].floats > used ? s[i].at + s[i].floats : used;
    }
    return used;
}

static int lay_out(gw_net *n, const char *path, uint32_t batch, bool device)
{
    const gw_netplan *p = n->plan;
    span *s = calloc((size_t)p->n_buffers, sizeof *s);
    n->array = calloc((size_t)p->n_buffers, sizeof *n->array);
    n->past = calloc((size_t)p->n_buffers, sizeof *n->past);
    if (!s || !n->array || !n->past) {
        free(s);
        return gw_fail(GW_ENOMEM, "%s: no memory", path);
    }
    find_lives(n, s);
    const size_t one = place(n, s);
    if (batch == 0 && n->mode == GW_NET_WINDOW) {
        const size_t most = device ? MAX_DEVICE_BATCH : MAX_CHOSEN_BATCH,
                     fit = (device ? DEVICE_PASS_FLOATS : PASS_FLOATS) / (one ? one : 1);
        batch = (uint32_t)(fit < 1 ? 1 : fit > most ? most : fit);
    }
    n->info.batch = batch ? batch : 1;
    n->info.batch = n->info.batch <= MAX_BATCH / p->members ? n->info.batch * p->members : UINT32_MAX;
    const size_t limit = device ? device_limit_floats : limit_floats;
    if (n->info.batch > MAX_BATCH || one > limit / n->info.batch) {
        free(s);
        return gw_fail(GW_ERANGE, "%s: %u windows at once need more than %zu GiB of memory", path,
                       n->info.batch, limit >> 28);
    }
    n->memory_floats = one ? one * n->info.batch : ALIGN_FLOATS;
    const int err = n->ops.floats_new(&n->memory, n->memory_floats);
    for (int i = 0; i < p->n_buffers && err == GW_OK; i++) {
        const gw_netbuffer *b = &p->buffer[i];
        const size_t before = (size_t)b->before * b->channels;
        const gw_place_array whole = {n->memory + s[i].at * n->info.batch, s[i].floats};
        n->array[i] = (gw_place_array){whole.x + before, whole.step};
        if (n->mode == GW_NET_STREAM && before && whole.step)
            n->past[n->n_past++] = (gw_place_past){whole, before, (size_t)b->columns * b->channels};
    }
    free(s);
    n->input = n->array[p->input];
    if (err < 0)
        return gw_fail_at(err, "%s", path);
    n->info.memory_bytes = n->memory_floats * sizeof(float);
    return GW_OK;
}

/* ---- Layers ---- */

static uint64_t mix(uint64_t sum, const void *data, size_t bytes)
{
    const unsigned char *c = data;
    for (size_t i = 0; i < bytes; i++)
        sum = (sum ^ c[i]) * 0x100000001b3u; /* FNV-1a */
    return sum;
}

static bool same_desc(const gw_conv_desc *a, const gw_conv_desc *b)
{
    return a->in_channels == b->in_channels && a->out_channels == b->out_channels && a->groups == b->groups &&
           a->kernel == b->kernel && a->stride == b->stride && a->dilation == b->dilation &&
           a->act.kind == b->act.kind && memcmp(&a->act.a, &b->act.a, 2 * sizeof a->act.a) == 0;
}

static gw_netconv *borrow(const gw_net *from, const gw_conv_desc *d, uint64_t sum, const gw_conv_ops *ops)
{
    for (int i = 0; from && i < from->plan->n_steps; i++) {
        gw_netconv *c = from->conv[i];
        if (!c || c->sum != sum || !same_desc(&c->d, d) || c->ops.open != ops->open)
            continue;
        atomic_fetch_add(&c->users, 1);
        return c;
    }
    return NULL;
}

static int open_conv(gw_net *n, int step, const gw_conv_ops *layers, const gw_net *share)
{
    const gw_netplan *p = n->plan;
    const gw_netstep *s = &p->step[step];
    gw_netconv **out = &n->conv[step];
    const gw_netbuffer *from = &p->buffer[s->in], *to = &p->buffer[s->out];
    const gw_conv_desc d = {.in_channels = from->channels,
                            .out_channels = to->channels * s->phases,
                            .groups = s->groups,
                            .kernel = s->kernel,
                            .stride = s->stride,
                            .dilation = s->dilation,
                            .act = s->act};
    GW_TRY(gw_conv_desc_check(&d));
    const size_t n_weights = (size_t)d.out_channels * (d.in_channels / d.groups) * d.kernel;
    float *weight = s->weight, *bias = s->bias, *turned = NULL;
    if (s->transposed) {
        turned = calloc(n_weights + d.out_channels, sizeof *turned);
        if (!turned)
            return gw_fail(GW_ENOMEM, "no memory for %zu weights", n_weights);
        weight = turned;
        bias = turned + n_weights;
        gw_netstep_weights(s, d.in_channels, to->channels, n->mode == GW_NET_STREAM ? to->origin : 0, weight,
                           bias);
    }
    const uint64_t sum = mix(mix(0xcbf29ce484222325u, weight, n_weights * sizeof *weight), bias,
                             d.out_channels * sizeof *bias);
    n->mark = mix(n->mark, &sum, sizeof sum);
    int err = GW_OK;
    *out = borrow(share, &d, sum, layers);
    if (!*out) {
        gw_netconv *c = calloc(1, sizeof *c);
        err = c ? layers->open(&c->conv, &d, weight, bias) : gw_fail(GW_ENOMEM, "no memory");
        if (err < 0) {
            free(c);
        } else {
            c->d = d;
            c->ops = *layers;
            c->sum = sum;
            atomic_init(&c->users, 1);
            *out = c;
        }
    }
    if (err == GW_OK && n->whole) {
        const gw_conv_io io = gw_net_conv_io(n, step, n->info.batch);
        err = n->ops.tune(n->place, (*out)->conv, &d, &io, weight, bias);
    }
    free(turned);
    return err;
}

/* Scale and bias of the steps that are no convolution: where they are, or a copy where the place is. */
static int open_vectors(gw_net *n, bool device)
{
    const gw_netplan *p = n->plan;
    size_t used = 0;
    for (int i = 0; i < p->n_steps; i++) {
        n->scale[i] = p->step[i].weight;
        n->bias[i] = p->step[i].bias;
        if (p->step[i].kind != GW_STEP_CONV)
            used += 2 * (size_t)p->buffer[p->step[i].out].channels;
    }
    if (!device || used == 0)
        return GW_OK;
    GW_TRY(n->ops.floats_new(&n->given, used));
    used = 0;
    for (int i = 0; i < p->n_steps; i++) {
        const size_t channels = p->buffer[p->step[i].out].channels;
        const float **of[] = {&n->scale[i], &n->bias[i]};
        for (int k = 0; k < 2 && p->step[i].kind != GW_STEP_CONV; k++) {
            if (!*of[k])
                continue;
            GW_TRY(n->ops.move(n->place, n->given + used, channels, *of[k], channels, channels, 1));
            *of[k] = n->given + used;
            used += channels;
        }
    }
    return GW_OK;
}

static int open_layers(gw_net *n, const char *path, const gw_conv_ops *layers, const gw_net *share)
{
    const gw_netplan *p = n->plan;
    uint32_t most = 1;
    n->conv = calloc((size_t)p->n_steps + 1, sizeof(gw_netconv *));
    if (!n->conv)
        return gw_fail(GW_ENOMEM, "%s: no memory", path);
    for (int i = 0; i < p->n_steps; i++) {
        const gw_netstep *s = &p->step[i];
        if (s->kind == GW_STEP_NORM && p->buffer[s->in].channels > most)
            most = p->buffer[s->in].channels;
        const int err = s->kind == GW_STEP_CONV ? open_conv(n, i, layers, share) : GW_OK;
        if (err < 0)
            return gw_fail_at(err, "%s: '%s'", path, s->node);
    }
    n->scratch = calloc(2 * (size_t)most, sizeof *n->scratch);
    return n->scratch ? GW_OK : gw_fail(GW_ENOMEM, "%s: no memory", path);
}

/* What the place must know of a call. */
static int open_place(gw_net *n, const char *path, const gw_conv_ops *layers, const gw_net_options *o)
{
    const gw_netplan *p = n->plan;
    const gw_netbuffer *in = &p->buffer[p->input];
    n->form = calloc((size_t)p->n_outputs + 1, sizeof *n->form);
    n->out = calloc((size_t)p->n_outputs + 1, sizeof *n->out);
    n->scale = calloc(2 * (size_t)p->n_steps + 1, sizeof *n->scale);
    if (!n->form || !n->out || !n->scale)
        return gw_fail(GW_ENOMEM, "%s: no memory", path);
    n->bias = n->scale + p->n_steps;
    for (int i = 0; i < p->n_outputs; i++)
        n->form[i] =
            (gw_place_output){n->output[i].channels, n->output[i].columns, n->output[i].channels_last};
    const gw_place_shape s = {.batch = n->info.batch,
                              .channels = in->channels,
                              .columns = in->columns,
                              .first = p->input_first,
                              .summed = p->summed,
                              .parts = p->n_detectors > 1 ? p->n_detectors : 0,
                              .in_place = in->before == 0 && in->after == 0,
                              .n_outputs = p->n_outputs,
                              .output = n->form,
                              .queue = o->queue,
                              .precision = o->precision};
    return n->ops.open(&n->place, &s, layers);
}

/* ---- What it says of itself ---- */

static void describe_output(gw_net *n, int i)
{
    const gw_netplan *p = n->plan;
    const gw_netvalue *o = &p->output[i];
    const gw_netbuffer *b = &p->buffer[o->buffer];
    gw_net_output *to = &n->output[i];
    *to = (gw_net_output){.name = o->name,
                          .rank = o->rank,
                          .channels = b->channels,
                          .columns = n->mode == GW_NET_STREAM ? b->columns : o->columns,
                          .pooled = b->pooled,
                          .column_samples = b->samples,
                          .not_streamable = o->why};
    memcpy(to->dim, o->dim, sizeof to->dim);
    if (n->mode != GW_NET_STREAM)
        return;
    const uint32_t early = b->stale > o->first ? b->stale : o->first, late = b->lag + b->origin;
    to->delay_samples = b->pooled ? 0 : (late + o->first) * b->samples;
    to->warmup_columns = b->pooled ? p->window_samples / b->samples - 1 : late + early;
    if (to->delay_samples > n->info.lookahead_samples)
        n->info.lookahead_samples = to->delay_samples;
}

static int describe(gw_net *n, gw_net_part part, const char *path)
{
    const gw_netplan *p = n->plan;
    gw_net_info *info = &n->info;
    n->output = calloc((size_t)p->n_outputs + 1, sizeof *n->output);
    n->layer = calloc((size_t)p->n_steps + 1, sizeof *n->layer);
    if (!n->output || !n->layer)
        return gw_fail(GW_ENOMEM, "%s: no memory", path);
    info->n_detectors = p->members > 1 ? p->members : p->n_detectors;
    info->n_channels = p->buffer[p->input].channels / (p->summed ? 1 : p->n_detectors);
    info->window_samples = p->window_samples;
    info->frame_samples = p->frame_samples;
    info->hop_samples = n->mode == GW_NET_STREAM ? p->buffer[p->input].columns : 0;
    info->n_outputs = p->n_outputs;
    info->output = n->output;
    info->parameters = p->parameters;
    info->flop = p->flop;
    for (int i = 0; i < p->n_outputs; i++) {
        describe_output(n, i);
        n->output[i].channels_last = part == GW_NET_TRUNK && i == 0;
        const uint64_t field = p->buffer[p->output[i].buffer].field;
        info->receptive_samples = field > info->receptive_samples ? field : info->receptive_samples;
    }
    for (int i = 0; i < p->n_steps; i++) {
        const gw_netstep *s = &p->step[i];
        char text[128], *kept;
        gw_netstep_text(p, s, text, sizeof text);
        kept = gw_plan_take(n->plan, strlen(text) + 1, 1);
        if (!kept)
            return GW_ENOMEM;
        strcpy(kept, text);
        n->layer[i] = (gw_net_layer){.node = s->node,
                                     .what = kept,
                                     .channels = p->buffer[s->out].channels,
                                     .columns = p->buffer[s->out].columns,
                                     .parameters = s->parameters,
                                     .flop = gw_netstep_flop(p, s),
                                     .meets = s->kind == GW_STEP_MEET,
                                     .not_streamable = s->why};
    }
    return GW_OK;
}

/* ---- Opening ---- */

static int prepare(gw_net *n, const char *path, const gw_conv_ops *layers, const gw_net_options *o)
{
    gw_netplan *p = n->plan;
    GW_TRY(gw_netplan_cut(p, path, o->part, o->detector));
    if (o->mode == GW_NET_STREAM)
        GW_TRY(gw_netplan_stream(p, path, o->hop_samples));
    else
        (void)gw_netplan_check_stream(p);
    if (o->mode == GW_NET_WINDOW)
        GW_TRY(gw_netplan_trim(p));
    n->function = gw_netplan_mark(p);
    GW_TRY(describe(n, o->part, path));
    GW_TRY(lay_out(n, path, o->batch, o->device));
    for (int i = 0; i < p->n_buffers; i++) {
        const gw_netbuffer *b = &p->buffer[i];
        const uint32_t shape[] = {b->channels, b->columns, b->before};
        n->mark = mix(n->mark, shape, sizeof shape);
    }
    n->mark = mix(n->mark, &n->info.batch, sizeof n->info.batch);
    GW_TRY(open_place(n, path, layers, o));
    n->whole = n->ops.tune != NULL && o->precision != GW_PRECISION_FP32;
    GW_TRY(open_layers(n, path, layers, o->share));
    gw_netplan_drop_weights(p);
    GW_TRY(open_vectors(n, o->device));
    return o->device ? gw_net_record(n) : GW_OK;
}

int gw_net_open(gw_net **out, const gw_onnx *m, const gw_kernels *k, const gw_net_options *o)
{
    *out = NULL;
    if (o->device && !k->place.open)
        return gw_fail(GW_ENOTSUP, "%s: there is no GPU here that could run it", m->path);
    gw_onnx *simple = NULL;
    GW_TRY(gw_onnx_simplify(&simple, m, &(gw_onnx_binding){.batch = 1}));
    gw_net *n = calloc(1, sizeof *n);
    int err = n ? gw_netplan_window(&n->plan, simple) : gw_fail(GW_ENOMEM, "%s: no memory", m->path);
    gw_onnx_free(&simple);
    if (err < 0) {
        free(n);
        return err;
    }
    if (o->device)
        n->ops = k->place;
    else
        gw_place_host(&n->ops);
    n->mode = o->mode;
    n->mark = 0xcbf29ce484222325u;
    err = prepare(n, m->path, o->device ? &k->place.layers : &k->conv, o);
    if (err < 0) {
        gw_net_close(&n);
        return err;
    }
    *out = n;
    return GW_OK;
}
