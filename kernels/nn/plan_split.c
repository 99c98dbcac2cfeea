/* SPDX-License-Identifier: GPL-3.0-or-later
 * Splits the convolutions in which the detectors meet. A convolution is linear:
 *
 *     act(bias + W * [x_H; x_L] + residual)  =  act(bias + W_H * x_H + W_L * x_L + residual)
 *
 * so each detector's part of it is a layer of that detector alone, computed once, and what is left where they
 * meet is a sum, the bias, a residual and the activation: the step GW_STEP_MEET. Several convolutions may
 * read the detectors (a block's first one and its skip); their parts lie side by side in one series of
 * features. Called by plan_cut.c, which then cuts between the two; the plan between is not one to run. */
#include "kernels/nn/plan.h"

#include <string.h>

/* Does the step bring detectors together, so that they meet there? */
static bool meets(const gw_netplan *p, const gw_netstep *s)
{
    return p->buffer[s->out].mixed && (!p->buffer[s->in].mixed || (s->in2 >= 0 && !p->buffer[s->in2].mixed));
}

/* All of them dense convolutions whose results lie beside each other, column by column? */
static int count_splits(const gw_netplan *p)
{
    const gw_netbuffer *first = NULL;
    int count = 0;
    for (int i = 0; i < p->n_steps; i++) {
        const gw_netstep *s = &p->step[i];
        if (!meets(p, s))
            continue;
        const gw_netbuffer *out = &p->buffer[s->out];
        first = first ? first : out;
        if (s->kind != GW_STEP_CONV || s->transposed || s->groups != 1 || p->buffer[s->in].mixed ||
            (s->in2 >= 0 && !p->buffer[s->in2].mixed) || out->pooled || out->columns != first->columns ||
            out->samples != first->samples)
            return 0;
        count++;
    }
    return count;
}

/* [out][detectors * c][taps] -> [detectors][out][c][taps], without a bias */
static int part_weights(gw_netplan *p, const gw_netstep *from, uint32_t detectors, gw_netstep *to)
{
    const size_t out = p->buffer[from->out].channels, taps = from->taps,
                 each = p->buffer[from->in].channels / detectors * taps;
    to->weight = gw_plan_take_weights(p, detectors * out * each);
    to->bias = gw_plan_take_weights(p, detectors * out);
    if (!to->weight || !to->bias)
        return GW_ENOMEM;
    for (size_t d = 0; d < detectors; d++)
        for (size_t o = 0; o < out; o++)
            memcpy(to->weight + (d * out + o) * each, from->weight + (o * detectors + d) * each,
                   each * sizeof *to->weight);
    to->parameters = detectors * out * each;
    return GW_OK;
}

/* The step of all detectors' parts, each in a group, to a new buffer. */
static int add_part(gw_netplan *p, const gw_netstep *s, uint32_t detectors, gw_netstep *part)
{
    *part = *s;
    part->in2 = -1;
    part->act = (gw_act){.kind = GW_ACT_NONE};
    part->groups = detectors;
    part->out = p->n_buffers++;
    gw_netbuffer *b = &p->buffer[part->out];
    *b = p->buffer[s->out];
    b->channels *= detectors;
    b->before = b->after = 0;
    b->mixed = false;
    return part_weights(p, s, detectors, part);
}

/* What is left of the step. */
static int add_meet(gw_netplan *p, const gw_netstep *s, int features, uint32_t from, gw_netstep *meet)
{
    const uint32_t channels = p->buffer[s->out].channels;
    const uint64_t weights = (uint64_t)channels * p->buffer[s->in].channels * s->taps;
    *meet = (gw_netstep){.kind = GW_STEP_MEET,
                         .node = s->node,
                         .in = features,
                         .in2 = s->in2,
                         .out = s->out,
                         .at2 = s->at2,
                         .columns = s->columns,
                         .act = s->act,
                         .parameters = s->parameters > weights ? s->parameters - weights : 0,
                         .groups = 1,
                         .kernel = 1,
                         .stride = 1,
                         .dilation = 1,
                         .phases = 1,
                         .taps = 1,
                         .from = from,
                         .channels = channels,
                         .bias = gw_plan_take(p, channels, sizeof(float))};
    if (!meet->bias)
        return GW_ENOMEM;
    memcpy(meet->bias, s->bias, channels * sizeof *meet->bias);
    return GW_OK;
}

/* Where several parts lie together; the copies' channels are those of one detector (cut_trunk divides them).
 */
static int add_features(gw_netplan *p, const gw_netstep *part, int count, uint32_t detectors,
                        gw_netstep *copy)
{
    const int features = p->n_buffers++;
    gw_netbuffer *f = &p->buffer[features];
    *f = p->buffer[part[0].out];
    f->channels = 0;
    for (int i = 0; i < count; i++) {
        const gw_netbuffer *b = &p->buffer[part[i].out];
        copy[i] = (gw_netstep){.kind = GW_STEP_COPY,
                               .node = part[i].node,
                               .in = part[i].out,
                               .in2 = -1,
                               .out = features,
                               .columns = b->columns,
                               .groups = 1,
                               .kernel = 1,
                               .stride = 1,
                               .dilation = 1,
                               .phases = 1,
                               .taps = 1,
                               .to = f->channels / detectors,
                               .channels = b->channels};
        f->channels += b->channels;
        f->stale = b->stale > f->stale ? b->stale : f->stale;
    }
    return features;
}

int gw_netplan_split(gw_netplan *p, uint32_t detectors)
{
    const int count = count_splits(p), n = p->n_steps;
    if (count == 0)
        return GW_OK;
    const gw_netstep *old = p->step;
    gw_netstep *step = gw_plan_take(p, (size_t)n + 2 * (size_t)count, sizeof *step),
               *part = gw_plan_take(p, 2 * (size_t)count, sizeof *part);
    gw_netbuffer *buffer = gw_plan_take(p, (size_t)p->n_buffers + (size_t)count + 1, sizeof *buffer);
    if (!step || !part || !buffer)
        return GW_ENOMEM;
    memcpy(buffer, p->buffer, (size_t)p->n_buffers * sizeof *buffer);
    p->buffer = buffer;
    int parts = 0, kept = 0, features;
    for (int i = 0; i < n; i++)
        if (meets(p, &old[i]))
            GW_TRY(add_part(p, &old[i], detectors, &part[parts++]));
    features = count == 1 ? part[0].out : add_features(p, part, count, detectors, part + count);
    /* Unmixed steps, the parts, and where they meet: the two halves are kept apart in any order. */
    for (int i = 0; i < n; i++)
        if (!buffer[old[i].out].mixed)
            step[kept++] = old[i];
    memcpy(step + kept, part, (size_t)(count == 1 ? 1 : 2 * count) * sizeof *part);
    kept += count == 1 ? 1 : 2 * count;
    uint32_t from = 0;
    for (int i = 0; i < n; i++) {
        if (!buffer[old[i].out].mixed)
            continue;
        if (meets(p, &old[i])) {
            GW_TRY(add_meet(p, &old[i], features, from, &step[kept]));
            from += step[kept].channels;
        } else {
            step[kept] = old[i];
        }
        kept++;
    }
    p->step = step;
    p->n_steps = kept;
    p->summed = true;
    return GW_OK;
}
