/* SPDX-License-Identifier: GPL-3.0-or-later
 * The plan of a network: which nodes count, what they read, and whether the whole can run as a stream.
 *
 * A stream is exact when each layer's new columns depend only on columns already there: a convolution
 * with span e = dilation * (kernel - 1) + 1 and stride s may be padded on the left by at least e - s and
 * not be read beyond the end. Then each layer keeps pad_left columns of the past where the window has
 * zeros, and the window's result equals the stream's wherever the window's zeros are not seen. `stale`
 * counts the columns where they are seen: ceil((stale + pad_left) / s) from layer to layer. The pooling
 * over the last F frames must lie behind them. */
#include "kernels/nn/plan_build.h"

#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct piece {
    struct piece *next;
    _Alignas(max_align_t) unsigned char data[];
} piece;

void *gw_plan_take(gw_netplan *p, size_t count, size_t bytes)
{
    if (count == 0)
        count = 1;
    piece *q = count <= (SIZE_MAX - sizeof *q) / bytes ? calloc(1, sizeof *q + count * bytes) : NULL;
    if (!q) {
        (void)gw_fail(GW_ENOMEM, "no memory for %zu x %zu bytes of a network", count, bytes);
        return NULL;
    }
    q->next = p->owned;
    p->owned = q;
    return q->data;
}

void gw_netplan_free(gw_netplan **p)
{
    if (!*p)
        return;
    for (piece *q = (*p)->owned; q;) {
        piece *next = q->next;
        free(q);
        q = next;
    }
    free(*p);
    *p = NULL;
}

static void add_problem(gw_build *b, const char *what)
{
    const size_t used = strlen(b->text), left = sizeof b->text - used;
    b->problems++;
    if (left > strlen(what) + 2)
        snprintf(b->text + used, left, "%s%s", used ? "; " : "", what);
}

int gw_plan_problem(gw_build *b, const gw_onnx_node *n, const char *fmt, ...)
{
    char why[200], what[400];
    va_list args;
    va_start(args, fmt);
    vsnprintf(why, sizeof why, fmt, args);
    va_end(args);
    snprintf(what, sizeof what, "%.40s '%.60s': %s", n->op, n->name, why);
    add_problem(b, what);
    return GW_OK;
}

static int tell_problems(const gw_build *b, const char *path, const char *how)
{
    return gw_fail(GW_ENOTSUP, "%s: the network cannot run%s: %s%s", path, how, b->text,
                   strlen(b->text) + 100 > sizeof b->text ? " ... and more" : "");
}

/* ---- Names ---- */

static int by_name(const void *a, const void *b)
{
    return strcmp(((const gw_value *)a)->name, ((const gw_value *)b)->name);
}

gw_value *gw_plan_value(gw_build *b, const char *name)
{
    if (name[0] == '\0')
        return NULL;
    const gw_value key = {.name = name};
    return bsearch(&key, b->value, b->n_values, sizeof *b->value, by_name);
}

static int name_values(gw_build *b)
{
    const gw_onnx *m = b->m;
    size_t n = (size_t)m->n_inputs + (size_t)m->n_initialisers;
    for (int i = 0; i < m->n_nodes; i++)
        n += (size_t)m->node[i].n_out;
    b->value = calloc(n + 1, sizeof *b->value);
    if (!b->value)
        return gw_fail(GW_ENOMEM, "no memory for %zu names of a network", n);
    n = 0;
    for (int i = 0; i < m->n_inputs; i++)
        b->value[n++].name = m->input[i].name;
    for (int i = 0; i < m->n_initialisers; i++)
        b->value[n++] =
            (gw_value){.name = m->initialiser[i].name, .kind = GW_VALUE_CONSTANT, .t = &m->initialiser[i]};
    for (int i = 0; i < m->n_nodes; i++)
        for (int k = 0; k < m->node[i].n_out; k++)
            if (m->node[i].out[k][0] != '\0')
                b->value[n++].name = m->node[i].out[k];
    b->n_values = n;
    qsort(b->value, n, sizeof *b->value, by_name);
    return GW_OK;
}

static bool is_live(gw_build *b, const gw_onnx_node *n)
{
    for (int k = 0; k < n->n_out; k++) {
        const gw_value *v = gw_plan_value(b, n->out[k]);
        if (v && v->needed)
            return true;
    }
    return false;
}

/* Only what leads to an output counts. Also counts who uses what. */
static void mark_live(gw_build *b)
{
    const gw_onnx *m = b->m;
    for (int i = 0; i < m->n_outputs; i++) {
        gw_value *v = gw_plan_value(b, m->output[i].name);
        v->needed = true;
        v->uses++;
    }
    for (int i = m->n_nodes; i-- > 0;) {
        if (!is_live(b, &m->node[i]))
            continue;
        for (int k = 0; k < m->node[i].n_in; k++) {
            gw_value *v = gw_plan_value(b, m->node[i].in[k]);
            if (!v)
                continue;
            v->needed = true;
            v->uses++;
        }
    }
}

/* ---- The window ---- */

static int plan_input(gw_build *b)
{
    enum { MAX_CHANNELS = 1 << 16, MAX_COLUMNS = 1 << 24 };
    const gw_onnx *m = b->m;
    if (m->n_inputs != 1)
        return gw_fail(GW_ENOTSUP, "%s: the network has %d inputs; it should have one", m->path, m->n_inputs);
    const gw_onnx_value *in = &m->input[0];
    if (in->type != GW_ONNX_FLOAT)
        return gw_fail(GW_ENOTSUP, "%s: input '%s' is not float32", m->path, in->name);
    if ((in->rank != 3 && in->rank != 2) || (in->dim[0] != 1 && in->dim[0] != -1))
        return gw_fail(GW_ENOTSUP, "%s: input '%s' should have the shape [1, channels, samples]", m->path,
                       in->name);
    const int64_t channels = in->dim[1], columns = in->rank == 3 ? in->dim[2] : 1;
    if (channels < 1 || channels > MAX_CHANNELS || columns < 1 || columns > MAX_COLUMNS)
        return gw_fail(
            GW_ENOTSUP,
            "%s: input '%s' has %lld channels of %lld samples (-1: not fixed); export the network with "
            "a fixed window of 1 to %d channels and 1 to %d samples",
            m->path, in->name, (long long)channels, (long long)columns, MAX_CHANNELS, MAX_COLUMNS);
    gw_value *v = gw_plan_value(b, in->name);
    v->kind = GW_VALUE_ACTIVATION;
    v->rank = in->rank;
    memcpy(v->dim, in->dim, sizeof v->dim);
    v->dim[0] = 1;
    v->columns = (uint32_t)columns;
    v->maker = -1;
    v->buffer = b->p->n_buffers++;
    b->p->buffer[v->buffer] =
        (gw_netbuffer){.channels = (uint32_t)channels, .columns = (uint32_t)columns, .samples = 1};
    b->p->input = v->buffer;
    b->p->window_samples = (uint32_t)columns;
    return GW_OK;
}

static int plan_outputs(gw_build *b)
{
    const gw_onnx *m = b->m;
    b->p->output = gw_plan_take(b->p, (size_t)m->n_outputs, sizeof *b->p->output);
    if (!b->p->output)
        return GW_ENOMEM;
    for (int i = 0; i < m->n_outputs; i++) {
        const gw_value *v = gw_plan_value(b, m->output[i].name);
        if (v->kind != GW_VALUE_ACTIVATION || v->maker < 0)
            return gw_fail(GW_ENOTSUP, "%s: output '%.80s' does not depend on the input", m->path, v->name);
        gw_netoutput *o = &b->p->output[b->p->n_outputs++];
        *o = (gw_netoutput){.buffer = v->buffer, .first = v->first, .columns = v->columns, .rank = v->rank};
        memcpy(o->dim, v->dim, sizeof o->dim);
        char *name = gw_plan_take(b->p, strlen(v->name) + 1, 1);
        if (!name)
            return GW_ENOMEM;
        strcpy(name, v->name);
        o->name = name;
    }
    return GW_OK;
}

static double step_flop(const gw_netplan *p, const gw_netstep *s)
{
    const double out = (double)s->columns * p->buffer[s->out].channels;
    switch (s->kind) {
    case GW_STEP_CONV:
        return 2 * out * (p->buffer[s->in].channels / s->groups) * s->kernel;
    case GW_STEP_MEAN:
        return out * s->span;
    case GW_STEP_ADD:
    case GW_STEP_MUL:
    case GW_STEP_ACT:
        break;
    }
    return out;
}

static void count_flop(gw_netplan *p)
{
    p->flop = 0;
    for (int i = 0; i < p->n_steps; i++)
        p->flop += step_flop(p, &p->step[i]);
}

static int build(gw_build *b)
{
    const gw_onnx *m = b->m;
    GW_TRY(name_values(b));
    mark_live(b);
    for (int i = 0; i < m->n_nodes; i++)
        if (is_live(b, &m->node[i]) && (m->node[i].domain[0] != '\0' || !gw_plan_knows(m->node[i].op)))
            (void)gw_plan_problem(b, &m->node[i], "operator not supported");
    if (b->problems)
        return tell_problems(b, m->path, "");

    /* A node makes at most one step and one buffer. */
    b->p->step = gw_plan_take(b->p, (size_t)m->n_nodes, sizeof *b->p->step);
    b->p->buffer = gw_plan_take(b->p, (size_t)m->n_nodes + 1, sizeof *b->p->buffer);
    if (!b->p->step || !b->p->buffer)
        return GW_ENOMEM;
    GW_TRY(plan_input(b));
    for (int i = 0; i < m->n_nodes; i++)
        if (is_live(b, &m->node[i]))
            GW_TRY(gw_plan_node(b, &m->node[i]));
    if (b->problems)
        return tell_problems(b, m->path, "");
    GW_TRY(plan_outputs(b));
    count_flop(b->p);
    return GW_OK;
}

int gw_netplan_window(gw_netplan **out, const gw_onnx *m)
{
    *out = NULL;
    gw_build *b = calloc(1, sizeof *b);
    gw_netplan *p = calloc(1, sizeof *p);
    if (!b || !p) {
        free(b);
        free(p);
        return gw_fail(GW_ENOMEM, "%s: no memory", m->path);
    }
    b->m = m;
    b->p = p;
    const int err = build(b);
    free(b->value);
    free(b);
    if (err < 0)
        gw_netplan_free(&p);
    *out = p;
    return err;
}

/* ---- The stream ---- */

static void cannot(gw_build *b, const char *node, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
static void cannot(gw_build *b, const char *node, const char *fmt, ...)
{
    char why[200], what[400];
    va_list args;
    va_start(args, fmt);
    vsnprintf(why, sizeof why, fmt, args);
    va_end(args);
    snprintf(what, sizeof what, "'%.60s' %s", node, why);
    add_problem(b, what);
}

static bool whole(const gw_netplan *p, int buffer, uint32_t first, uint32_t columns)
{
    return first == 0 && columns == p->buffer[buffer].columns;
}

static void check_step(gw_build *b, const gw_netstep *s)
{
    gw_netplan *p = b->p;
    gw_netbuffer *in = &p->buffer[s->in];
    const uint64_t span = (uint64_t)s->dilation * (s->kernel - 1) + 1;
    switch (s->kind) {
    case GW_STEP_CONV:
        if (in->pooled ? s->kernel != 1 || s->stride != 1 || s->pad_left != 0
                       : (uint64_t)s->columns * s->stride != in->columns || s->first != 0)
            cannot(b, s->node, "does not make one column of each %u", s->stride);
        else if (s->pad_right > 0 || s->pad_left + s->stride < span)
            cannot(b, s->node, "looks ahead: pad it on the left by %lld and not on the right",
                   (long long)span - s->stride);
        break;
    case GW_STEP_MEAN:
        if (s->first + s->span != in->columns)
            cannot(b, s->node, "does not pool up to the end of the window");
        else if (in->stale > s->first)
            cannot(b, s->node, "pools the last %u of %u frames, but the first %u see the padding", s->span,
                   in->columns, in->stale);
        if (p->frame_samples != 0 && p->frame_samples != in->samples)
            cannot(b, s->node, "pools frames of %u samples, another node frames of %u", in->samples,
                   p->frame_samples);
        p->frame_samples = in->samples;
        break;
    case GW_STEP_ADD:
    case GW_STEP_MUL:
    case GW_STEP_ACT:
        if (!whole(p, s->in, s->first, s->columns) ||
            (s->in2 >= 0 && !whole(p, s->in2, s->first2, s->columns)))
            cannot(b, s->node, "works on a part of the window");
        break;
    }
}

int gw_netplan_stream(gw_netplan *p, const char *path, uint32_t hop_samples)
{
    gw_build *b = calloc(1, sizeof *b);
    if (!b)
        return gw_fail(GW_ENOMEM, "%s: no memory", path);
    b->p = p;
    for (int i = 0; i < p->n_steps; i++)
        check_step(b, &p->step[i]);
    for (int i = 0; i < p->n_outputs; i++) {
        const gw_netoutput *o = &p->output[i];
        const gw_netbuffer *at = &p->buffer[o->buffer];
        if (strcmp(o->name, "logit") == 0 && !at->pooled)
            cannot(b, o->name, "is not pooled over time");
        else if (strcmp(o->name, "logit") != 0 && (at->pooled || !whole(p, o->buffer, o->first, o->columns)))
            cannot(b, o->name, "is not a series over the whole window");
        else if (at->stale >= at->columns)
            cannot(b, o->name, "sees the padding in every column");
    }
    const int err = b->problems ? tell_problems(b, path, " as a stream") : GW_OK;
    free(b);
    if (err < 0)
        return err;

    if (p->frame_samples == 0)
        return gw_fail(GW_ENOTSUP, "%s: the network does not pool over time, so it has no frames", path);
    if (p->window_samples % p->frame_samples != 0)
        return gw_fail(GW_ENOTSUP, "%s: the window of %u samples is not a whole number of frames of %u", path,
                       p->window_samples, p->frame_samples);
    const uint32_t hop = hop_samples ? hop_samples : p->frame_samples;
    if (hop % p->frame_samples != 0 || hop > 1u << 24)
        return gw_fail(GW_ERANGE, "%s: a hop of %u samples is not a multiple of the frame of %u", path, hop,
                       p->frame_samples);
    for (int i = 0; i < p->n_buffers; i++) {
        gw_netbuffer *at = &p->buffer[i];
        if (at->columns == 0)
            continue;
        const uint32_t samples = at->pooled ? p->frame_samples : at->samples;
        if (hop % samples != 0)
            return gw_fail(GW_ENOTSUP, "%s: the network has columns of %u samples in frames of %u", path,
                           samples, p->frame_samples);
        at->columns = hop / samples;
        at->after = 0;
    }
    for (int i = 0; i < p->n_steps; i++) {
        gw_netstep *s = &p->step[i];
        gw_netbuffer *in = &p->buffer[s->in];
        s->first = s->first2 = 0;
        s->columns = p->buffer[s->out].columns;
        if (s->kind == GW_STEP_MEAN && in->before < s->span - 1)
            in->before = s->span - 1;
    }
    for (int i = 0; i < p->n_outputs; i++) {
        p->output[i].first = 0;
        p->output[i].columns = p->buffer[p->output[i].buffer].columns;
    }
    count_flop(p);
    return GW_OK;
}
