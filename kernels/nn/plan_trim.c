/* SPDX-License-Identifier: GPL-3.0-or-later
 * Leaves columns out of the plan of a window that no output depends on: a head that pools the last 16 of 48
 * columns needs few of the layers' columns before, the fewer the less they reach back. Called by net.c last,
 * when the plan is cut and known not to become a stream (there every new column counts).
 *
 * From the outputs backwards every step says which columns of its inputs it reads; then each buffer keeps the
 * columns from the first to the last that is read, and the steps are moved to where these lie now. No kept
 * column changes its value. */
#include "kernels/nn/plan.h"

typedef struct range {
    int64_t from, to; /* empty: to <= from */
} range;

static int64_t least(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static int64_t most(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

static void widen(const gw_netplan *p, range *need, int buffer, int64_t from, int64_t to)
{
    range *r = &need[buffer];
    from = most(from, 0);
    to = least(to, p->buffer[buffer].columns);
    if (to <= from)
        return;
    *r = r->to <= r->from ? (range){from, to} : (range){least(r->from, from), most(r->to, to)};
}

/* Columns of a step's input that rows [from, to) of its output read; may reach into the padding. */
static range reads(const gw_netstep *s, int64_t from, int64_t to)
{
    const int64_t width = s->kind == GW_STEP_MEAN ? s->span : (int64_t)(s->kernel - 1) * s->dilation + 1;
    const int64_t at = (int64_t)s->at - s->pad_left;
    range r = {at + from * s->stride, at + (to - 1) * s->stride + width};
    if (s->kind == GW_STEP_POOL)
        r = (range){most(r.from, s->at), least(r.to, (int64_t)s->at + s->in_columns)};
    return r;
}

static void need_of_step(const gw_netplan *p, const gw_netstep *s, range *need)
{
    range *out = &need[s->out];
    if (out->to <= out->from || s->kind == GW_STEP_NORM) /* of nobody's use: left as it is */
        *out = (range){0, p->buffer[s->out].columns};
    out->from -= out->from % s->phases;
    const range in = reads(s, out->from / s->phases, (out->to + s->phases - 1) / s->phases);
    widen(p, need, s->in, in.from, in.to);
    if (s->in2 >= 0 && s->one_column)
        widen(p, need, s->in2, s->at2, (int64_t)s->at2 + 1);
    else if (s->in2 >= 0)
        widen(p, need, s->in2, s->at2 + out->from, s->at2 + out->to);
}

/* Room around the columns of s->in and s->out for what the step reads and writes outside them. */
static void need_around(gw_netplan *p, const gw_netstep *s)
{
    gw_netbuffer *in = &p->buffer[s->in], *out = &p->buffer[s->out];
    const range r = reads(s, 0, s->columns);
    const uint32_t before = (uint32_t)most(-r.from, 0), after = (uint32_t)most(r.to - in->columns, 0),
                   over = s->columns * s->phases - out->columns;
    in->before = before > in->before ? before : in->before;
    in->after = after > in->after ? after : in->after;
    out->after = over > out->after ? over : out->after;
}

static void move_step(gw_netplan *p, gw_netstep *s, const range *need)
{
    const int64_t from = need[s->out].from, start = from / s->phases * s->stride;
    int64_t at = s->at + start - need[s->in].from;
    if (s->kind == GW_STEP_POOL) {
        const int64_t skipped = most(start - s->pad_left, 0);
        at = s->at + skipped - need[s->in].from;
        s->pad_left = (uint32_t)most(s->pad_left - start, 0);
        s->in_columns = (uint32_t)least(s->in_columns - skipped, need[s->in].to - need[s->in].from - at);
    }
    s->at = (int32_t)at;
    s->columns = (p->buffer[s->out].columns + s->phases - 1) / s->phases;
    if (s->in2 >= 0)
        s->at2 = (int32_t)(s->at2 + (s->one_column ? 0 : from) - need[s->in2].from);
}

int gw_netplan_trim(gw_netplan *p)
{
    range *need = gw_plan_take(p, (size_t)p->n_buffers, sizeof *need);
    if (!need)
        return GW_ENOMEM;
    for (int i = 0; i < p->n_outputs; i++)
        widen(p, need, p->output[i].buffer, p->output[i].first,
              (int64_t)p->output[i].first + p->output[i].columns);
    for (int i = p->n_steps; i-- > 0;)
        need_of_step(p, &p->step[i], need);
    for (int i = 0; i < p->n_buffers; i++) {
        gw_netbuffer *b = &p->buffer[i];
        if (need[i].to <= need[i].from) /* read by nobody */
            need[i] = (range){0, b->columns};
        b->columns = (uint32_t)(need[i].to - need[i].from);
        b->before = b->after = 0;
    }
    p->flop = 0;
    for (int i = 0; i < p->n_steps; i++) {
        move_step(p, &p->step[i], need);
        need_around(p, &p->step[i]);
        p->flop += gw_netstep_flop(p, &p->step[i]);
    }
    for (int i = 0; i < p->n_outputs; i++)
        p->output[i].first -= (uint32_t)need[p->output[i].buffer].from;
    p->input_first = (uint32_t)need[p->input].from;
    return GW_OK;
}
