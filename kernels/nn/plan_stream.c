/* SPDX-License-Identifier: GPL-3.0-or-later
 * From the plan of a window to the plan of a stream of hops.
 *
 * Think of one window without an end on either side: a series in which column j of every buffer is what it
 * would be there. A stream computes that series: after n new columns of a buffer, those up to number
 * n - lag - 1 are known. A step whose output column j reads columns s j + at ... s j + at + e - 1 of a
 * buffer with lag l has the lag ceil((l + at + e - s) / s), or 0, or that of its other operand if longer; and
 * when it makes the new columns of a hop it begins to read at -lag s + at + l from the input's new columns:
 * never after them, so each layer keeps that many columns of the past. Padding does not occur: where a window
 * sees zeros, the stream sees the data before or after. So the stream gives what a window gives wherever a
 * window sees no padding: not in the first `stale` columns, and not in the last `lag`. A mean over a window's
 * columns must leave these out. */
#include "kernels/nn/plan.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *say(gw_netplan *p, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static const char *say(gw_netplan *p, const char *fmt, ...)
{
    char why[200];
    va_list args;
    va_start(args, fmt);
    vsnprintf(why, sizeof why, fmt, args);
    va_end(args);
    char *kept = gw_plan_take(p, strlen(why) + 1, 1);
    return kept ? strcpy(kept, why) : "cannot stream (no memory to say why)";
}

static int64_t up(int64_t a, int64_t b) /* ceil(a / b), b > 0 */
{
    return a > 0 ? (a + b - 1) / b : -(-a / b);
}

/* Kernel and first column of a step in a stream. */
static void reads(const gw_netplan *p, const gw_netstep *s, uint32_t *kernel, int64_t *at)
{
    const gw_netbuffer *in = &p->buffer[s->in];
    *kernel = s->kernel;
    *at = (int64_t)s->at - s->pad_left;
    if (s->transposed) {
        int32_t from;
        uint32_t unused;
        int32_t base;
        gw_netstep_phases(s, 0, 0, &unused, &base); /* s->at = first column of the view + base */
        gw_netstep_phases(s, s->pad % s->phases, s->at - base, kernel, &from);
        *at = from;
    }
    *at += in->origin;
}

/* The lag of a step's output, in columns (of rows of phases). */
static int64_t lag_of(const gw_netplan *p, const gw_netstep *s)
{
    uint32_t kernel;
    int64_t at;
    reads(p, s, &kernel, &at);
    const int64_t span = (int64_t)s->dilation * (kernel - 1) + 1;
    int64_t lag = up(p->buffer[s->in].lag + at + span - s->stride, s->stride);
    if (s->in2 >= 0) {
        const gw_netbuffer *other = &p->buffer[s->in2];
        const int64_t second = (int64_t)other->lag + s->at2 + other->origin;
        lag = second > lag ? second : lag;
    }
    return lag > 0 ? lag : 0;
}

static void check_mean(gw_netplan *p, gw_netstep *s)
{
    const gw_netbuffer *in = &p->buffer[s->in];
    const uint32_t late = in->lag + in->origin;
    if (in->samples == 0 || p->window_samples % in->samples != 0)
        s->why = say(p, "pools columns of %u samples in a window of %u", in->samples, p->window_samples);
    else if ((int64_t)in->stale > s->at)
        s->why = say(p, "pools from column %d of %u, but the first %u see the padding", s->at, in->columns,
                     in->stale);
    else if (s->tail < late)
        s->why = say(p,
                     "pools up to %u columns from the end of the window, but the last %u see the padding: it "
                     "looks ahead",
                     s->tail, late);
}

/* For the eye only: how much of the input a column depends on. */
static void set_field(gw_netplan *p, const gw_netstep *s)
{
    const gw_netbuffer *in = &p->buffer[s->in];
    const uint64_t before = p->buffer[s->out].field; /* of a joined buffer's other parts */
    const uint64_t columns = s->kind == GW_STEP_MEAN ? s->span : (uint64_t)(s->kernel - 1) * s->dilation + 1;
    uint64_t field = in->field + (columns - 1) * in->samples;
    if (s->kind == GW_STEP_NORM || in->samples == 0)
        field = p->window_samples;
    if (s->in2 >= 0 && p->buffer[s->in2].field > field)
        field = p->buffer[s->in2].field;
    if (s->kind == GW_STEP_COPY && before > field)
        field = before;
    p->buffer[s->out].field = field < p->window_samples ? field : p->window_samples;
}

static void check_step(gw_netplan *p, gw_netstep *s)
{
    gw_netbuffer *in = &p->buffer[s->in], *out = &p->buffer[s->out];
    const gw_netbuffer *other = s->in2 >= 0 ? &p->buffer[s->in2] : NULL;
    s->why = NULL;
    if (s->kind == GW_STEP_NORM) {
        s->why = say(p, "takes its statistics from the whole window");
    } else if (s->kind == GW_STEP_MEAN) {
        check_mean(p, s);
    } else if (s->one_column) {
        s->why = say(p, "applies what it pooled from the whole window");
    } else if (out->pooled && !in->pooled) {
        s->why = say(p, "takes the whole window at once");
    } else if (out->samples == 0 && !out->pooled) {
        s->why = say(p, "makes columns that are not whole samples apart");
    } else if (other && (other->pooled != in->pooled || other->samples != out->samples)) {
        s->why = say(p, "joins columns of %u and of %u samples", out->samples, other->samples);
    }
    out->lag = out->origin = 0;
    set_field(p, s);
    if (out->pooled)
        return;
    const int64_t lag = lag_of(p, s), most = 1 << 24;
    if (lag > most && !s->why)
        s->why = say(p, "looks ahead by more than %lld columns", (long long)most);
    out->lag = (uint32_t)(lag > most ? most : lag) * (s->phases > 1 ? s->phases : 1);
    out->origin = s->phases > 1 ? s->pad % s->phases : 0;
}

/* A joined buffer has one lag: that of its slowest part. */
static void level_copies(gw_netplan *p, int end)
{
    const int out = p->step[end].out;
    int64_t lag = 0;
    for (int i = end; i >= 0 && p->step[i].out == out; i--)
        lag = lag_of(p, &p->step[i]) > lag ? lag_of(p, &p->step[i]) : lag;
    p->buffer[out].lag = (uint32_t)lag;
}

int gw_netplan_check_stream(gw_netplan *p)
{
    int problems = 0;
    p->buffer[p->input].lag = p->buffer[p->input].origin = 0;
    p->buffer[p->input].field = 1;
    for (int i = 0; i < p->n_steps; i++) {
        check_step(p, &p->step[i]);
        if (p->step[i].kind == GW_STEP_COPY)
            level_copies(p, i);
        problems += p->step[i].why != NULL;
    }
    for (int i = 0; i < p->n_outputs; i++) {
        gw_netvalue *o = &p->output[i];
        const gw_netbuffer *at = &p->buffer[o->buffer];
        o->why = NULL;
        if (!at->pooled && at->stale >= at->columns)
            o->why = say(p, "sees the padding in every column");
        else if (at->pooled && at->samples == 0)
            o->why = say(p, "takes the whole window at once");
        problems += o->why != NULL;
    }
    return problems;
}

/* ---- The stream itself ---- */

static int tell(const gw_netplan *p, const char *path)
{
    char text[700] = "";
    bool more = false;
    for (int i = 0; i < p->n_steps + p->n_outputs; i++) {
        const char *node = i < p->n_steps ? p->step[i].node : p->output[i - p->n_steps].name;
        const char *why = i < p->n_steps ? p->step[i].why : p->output[i - p->n_steps].why;
        const size_t used = strlen(text);
        if (!why)
            continue;
        if (used + strlen(why) + 80 > sizeof text)
            more = true;
        else
            snprintf(text + used, sizeof text - used, "%s'%.60s' %s", used ? "; " : "", node, why);
    }
    return gw_fail(GW_ENOTSUP, "%s: the network cannot run as a stream: %s%s", path, text,
                   more ? " ... and more" : "");
}

static uint32_t common(uint32_t a, uint32_t b)
{
    while (b) {
        const uint32_t r = a % b;
        a = b;
        b = r;
    }
    return a;
}

/* The least number of samples in which every buffer gets a whole number of columns. */
static uint64_t least_hop(const gw_netplan *p)
{
    uint64_t hop = 1;
    for (int i = 0; i < p->n_buffers && hop <= 1u << 24; i++)
        if (gw_netplan_uses(p, i) && p->buffer[i].samples)
            hop = hop / common((uint32_t)hop, p->buffer[i].samples) * p->buffer[i].samples;
    return hop;
}

static void need(gw_netbuffer *b, int64_t at)
{
    if (at < 0 && b->before < (uint32_t)-at)
        b->before = (uint32_t)-at;
}

static void turn_step(gw_netplan *p, gw_netstep *s)
{
    gw_netbuffer *in = &p->buffer[s->in], *out = &p->buffer[s->out];
    uint32_t kernel;
    int64_t at;
    reads(p, s, &kernel, &at);
    const int64_t lag = s->phases > 1 ? out->lag / s->phases : out->lag;
    s->columns = out->columns / s->phases;
    if (out->pooled && !in->pooled) /* a mean for each frame, over columns that end `tail` before its end */
        at = 1 - (int64_t)s->tail - s->span + in->origin + in->lag;
    else if (!out->pooled)
        at = -lag * s->stride + at + in->lag;
    s->at = (int32_t)at;
    s->kernel = kernel;
    need(in, at);
    if (s->kind == GW_STEP_POOL) {
        s->pad_left = 0;
        s->in_columns =
            (uint32_t)((s->columns - 1) * (uint64_t)s->stride + (uint64_t)(s->kernel - 1) * s->dilation + 1);
    }
    if (s->in2 < 0)
        return;
    gw_netbuffer *other = &p->buffer[s->in2];
    if (!out->pooled)
        s->at2 = (int32_t)(-lag + s->at2 + other->origin + other->lag);
    need(other, s->at2);
}

int gw_netplan_stream(gw_netplan *p, const char *path, uint32_t hop_samples)
{
    if (gw_netplan_check_stream(p) > 0)
        return tell(p, path);
    const uint64_t least = least_hop(p);
    if (least > 1u << 24)
        return gw_fail(GW_ENOTSUP, "%s: the strides of the network have no common hop below 2^24 samples",
                       path);
    p->frame_samples = (uint32_t)least;
    const uint32_t hop = hop_samples ? hop_samples : p->frame_samples;
    if (hop % p->frame_samples != 0 || hop > 1u << 24)
        return gw_fail(GW_ERANGE, "%s: a hop of %u samples is not a multiple of the frame of %u", path, hop,
                       p->frame_samples);
    for (int i = 0; i < p->n_buffers; i++) {
        gw_netbuffer *b = &p->buffer[i];
        b->columns = gw_netplan_uses(p, i) ? hop / b->samples : 0;
        b->before = b->after = 0;
    }
    p->flop = 0;
    for (int i = 0; i < p->n_steps; i++) {
        turn_step(p, &p->step[i]);
        p->flop += gw_netstep_flop(p, &p->step[i]);
    }
    return GW_OK;
}
