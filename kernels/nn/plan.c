/* SPDX-License-Identifier: GPL-3.0-or-later
 * The plan of a network: which nodes count, what they read, and what goes in and comes out. One node after
 * the other is planned by plan_ops.c; streams are plan_stream.c's. */
#include "kernels/nn/plan_build.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct piece {
    struct piece *next;
    _Alignas(max_align_t) unsigned char data[];
} piece;

static void *take(void **list, size_t count, size_t bytes)
{
    if (count == 0)
        count = 1;
    piece *q = count <= (SIZE_MAX - sizeof *q) / bytes ? calloc(1, sizeof *q + count * bytes) : NULL;
    if (!q) {
        (void)gw_fail(GW_ENOMEM, "no memory for %zu x %zu bytes of a network", count, bytes);
        return NULL;
    }
    q->next = *list;
    *list = q;
    return q->data;
}

static void drop(void **list)
{
    for (piece *q = *list; q;) {
        piece *next = q->next;
        free(q);
        q = next;
    }
    *list = NULL;
}

void *gw_plan_take(gw_netplan *p, size_t count, size_t bytes)
{
    return take(&p->owned, count, bytes);
}

float *gw_plan_take_weights(gw_netplan *p, size_t count)
{
    return take(&p->weights, count, sizeof(float));
}

void gw_netplan_drop_weights(gw_netplan *p)
{
    drop(&p->weights);
    for (int i = 0; i < p->n_steps; i++)
        if (p->step[i].kind == GW_STEP_CONV)
            p->step[i].weight = p->step[i].bias = NULL;
}

void gw_netplan_free(gw_netplan **p)
{
    if (!*p)
        return;
    drop(&(*p)->owned);
    drop(&(*p)->weights);
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

static int tell_problems(const gw_build *b)
{
    return gw_fail(GW_ENOTSUP, "%s: the network cannot run: %s%s", b->m->path, b->text,
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
        gw_netvalue *o = &b->p->output[b->p->n_outputs++];
        *o = (gw_netvalue){.buffer = v->buffer, .first = v->first, .columns = v->columns, .rank = v->rank};
        memcpy(o->dim, v->dim, sizeof o->dim);
        char *name = gw_plan_take(b->p, strlen(v->name) + 1, 1);
        if (!name)
            return GW_ENOMEM;
        strcpy(name, v->name);
        o->name = name;
    }
    return GW_OK;
}

bool gw_netplan_uses(const gw_netplan *p, int buffer)
{
    bool used = buffer == p->input;
    for (int i = 0; i < p->n_steps; i++)
        used |= p->step[i].out == buffer;
    return used;
}

static uint64_t mix(uint64_t sum, const void *data, size_t bytes)
{
    const unsigned char *c = data;
    for (size_t i = 0; i < bytes; i++)
        sum = (sum ^ c[i]) * 0x100000001b3u; /* FNV-1a */
    return sum;
}

static uint64_t mix_step(const gw_netplan *p, const gw_netstep *s, uint64_t sum)
{
    const uint32_t shape[] = {
        s->kind,          (uint32_t)s->in, (uint32_t)s->in2, (uint32_t)s->out, s->columns,  (uint32_t)s->at,
        (uint32_t)s->at2, s->act.kind,     s->groups,        s->kernel,        s->stride,   s->dilation,
        s->phases,        s->taps,         s->pad,           s->transposed,    s->join,     s->one_column,
        s->span,          s->tail,         s->mean,          s->count_padding, s->pad_left, s->in_columns,
        s->from,          s->to,           s->channels,      s->only};
    const float real[] = {s->act.a, s->act.b, s->epsilon};
    const size_t out = p->buffer[s->out].channels, in = p->buffer[s->in].channels;
    sum = mix(mix(sum, shape, sizeof shape), real, sizeof real);
    if (s->weight)
        sum = mix(sum, s->weight,
                  (s->kind == GW_STEP_CONV ? out * (in / s->groups) * s->taps : out) * sizeof *s->weight);
    return s->bias ? mix(sum, s->bias, out * sizeof *s->bias) : sum;
}

uint64_t gw_netplan_mark(const gw_netplan *p)
{
    const uint32_t shape[] = {(uint32_t)p->input, p->window_samples, p->frame_samples, p->input_first,
                              p->n_detectors,     p->summed,         p->members};
    uint64_t sum = mix(0xcbf29ce484222325u, shape, sizeof shape);
    for (int i = 0; i < p->n_buffers; i++) {
        const gw_netbuffer *b = &p->buffer[i];
        const uint32_t size[] = {b->channels, b->columns, b->before, b->after};
        if (gw_netplan_uses(p, i))
            sum = mix(sum, size, sizeof size);
    }
    for (int i = 0; i < p->n_steps; i++)
        sum = mix_step(p, &p->step[i], sum);
    for (int i = 0; i < p->n_outputs; i++) {
        const gw_netvalue *o = &p->output[i];
        const uint32_t size[] = {(uint32_t)o->buffer, o->first, o->columns};
        sum = mix(mix(sum, size, sizeof size), o->name, strlen(o->name) + 1);
    }
    return sum;
}

double gw_netstep_flop(const gw_netplan *p, const gw_netstep *s)
{
    const double out = (double)s->columns * p->buffer[s->out].channels / (s->only ? p->members : 1);
    switch (s->kind) {
    case GW_STEP_CONV: /* transposed: each input column meets each tap once, whatever zeros the phases add */
        return s->transposed ? 2 * out * p->buffer[s->in].channels * s->taps
                             : 2 * out * (p->buffer[s->in].channels / s->groups) * s->kernel;
    case GW_STEP_MEAN:
        return out * s->span;
    case GW_STEP_POOL:
        return out * s->kernel;
    case GW_STEP_NORM:
        return out * 5;
    case GW_STEP_COPY:
        return 0;
    case GW_STEP_MEET: /* the other detectors', the bias, a residual */
        return out * (p->n_detectors + (s->in2 >= 0));
    case GW_STEP_JOIN:
    case GW_STEP_ACT:
        break;
    }
    return out;
}

static const char *const act_text[] = {"",      ", relu", ", tanh", ", sigmoid",  ", leaky relu",
                                       ", elu", ", silu", ", gelu", ", softplus", ", clip"};

void gw_netstep_text(const gw_netplan *p, const gw_netstep *s, char *text, size_t n)
{
    static const char *const joins[] = {"add", "subtract", "multiply"};
    char what[96] = "";
    switch (s->kind) {
    case GW_STEP_CONV:
        snprintf(what, sizeof what, "%s %u", s->transposed ? "transposed conv" : "conv", s->taps);
        const uint32_t stride = s->transposed ? s->phases : s->stride;
        size_t used = strlen(what);
        if (stride > 1)
            snprintf(what + used, sizeof what - used, " / %u", stride);
        used = strlen(what);
        if (s->dilation > 1)
            snprintf(what + used, sizeof what - used, " dilated %u", s->dilation);
        used = strlen(what);
        if (s->groups > 1)
            snprintf(what + used, sizeof what - used, " in %u groups", s->groups);
        break;
    case GW_STEP_JOIN:
        snprintf(what, sizeof what, "%s", joins[s->join]);
        break;
    case GW_STEP_ACT:
        snprintf(text, n, "%s", act_text[s->act.kind] + 2);
        return;
    case GW_STEP_MEAN:
        snprintf(what, sizeof what, "mean of %u columns", s->span);
        break;
    case GW_STEP_POOL:
        snprintf(what, sizeof what, "%s of %u / %u", s->mean ? "mean" : "largest", s->kernel, s->stride);
        break;
    case GW_STEP_NORM:
        snprintf(what, sizeof what, "norm of %u channels in %u groups", p->buffer[s->in].channels, s->groups);
        break;
    case GW_STEP_COPY:
        snprintf(what, sizeof what, "copy");
        break;
    case GW_STEP_MEET:
        snprintf(what, sizeof what, "parts of %u detectors", p->n_detectors);
        break;
    }
    const bool sum =
        s->in2 >= 0 && (s->kind == GW_STEP_CONV || s->kind == GW_STEP_NORM || s->kind == GW_STEP_MEET);
    snprintf(text, n, "%s%s%s", what, sum ? ", sum" : "", act_text[s->act.kind]);
}

/* Far above any network; what is done for each step and each other one stays quick. */
enum { MAX_STEPS = 1 << 13 };

static int build(gw_build *b)
{
    const gw_onnx *m = b->m;
    GW_TRY(name_values(b));
    mark_live(b);
    for (int i = 0; i < m->n_nodes; i++)
        if (is_live(b, &m->node[i]) && !gw_plan_knows(&m->node[i]))
            (void)gw_plan_problem(b, &m->node[i], "operator not supported");
    if (b->problems)
        return tell_problems(b);

    /* A node makes at most a step for each input, one of its own, and a buffer for each. */
    size_t most = 1;
    for (int i = 0; i < m->n_nodes; i++)
        most += 1 + (size_t)m->node[i].n_in;
    if (most > MAX_STEPS)
        return gw_fail(GW_ENOTSUP, "%s: the network has %zu steps or more; the limit is %d", m->path, most,
                       MAX_STEPS);
    b->p->step = gw_plan_take(b->p, most, sizeof *b->p->step);
    b->p->buffer = gw_plan_take(b->p, most, sizeof *b->p->buffer);
    b->p->n_detectors = b->p->members = 1;
    if (!b->p->step || !b->p->buffer)
        return GW_ENOMEM;
    GW_TRY(plan_input(b));
    for (int i = 0; i < m->n_nodes; i++)
        if (is_live(b, &m->node[i]))
            GW_TRY(gw_plan_node(b, &m->node[i]));
    if (b->problems)
        return tell_problems(b);
    GW_TRY(plan_outputs(b));
    for (int i = 0; i < b->p->n_steps; i++)
        b->p->flop += gw_netstep_flop(b->p, &b->p->step[i]);
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
