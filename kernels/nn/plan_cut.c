/* SPDX-License-Identifier: GPL-3.0-or-later
 * Cuts the plan of a window where its detectors (the channels of the input) meet: before, every layer works
 * on each of them apart (group convolutions, or anything point by point), so channel block d of every buffer
 * depends on input d alone, and those layers can be computed once for each detector; after the cut a time
 * slide differs only in which features come together.
 *
 * The trunk keeps the steps before, on block d; what the others read of it becomes the output "features",
 * and outputs of the network that are a part of it keep their names. The merged part keeps the steps after,
 * and takes the features of all detectors side by side as its input. */
#include "kernels/nn/plan.h"

#include <string.h>

/* The one unmixed buffer that mixing steps read, or -1. */
static int features_of(const gw_netplan *p, int *count)
{
    int found = -1;
    *count = 0;
    for (int i = 0; i < p->n_steps; i++) {
        const gw_netstep *s = &p->step[i];
        const int in[2] = {s->in, s->in2};
        for (int k = 0; k < 2 && p->buffer[s->out].mixed; k++) {
            if (in[k] < 0 || p->buffer[in[k]].mixed || in[k] == found)
                continue;
            found = in[k];
            ++*count;
        }
    }
    return found;
}

static void keep_steps(gw_netplan *p, bool mixed)
{
    int kept = 0;
    for (int i = 0; i < p->n_steps; i++)
        if (p->buffer[p->step[i].out].mixed == mixed)
            p->step[kept++] = p->step[i];
    p->n_steps = kept;
    kept = 0;
    for (int i = 0; i < p->n_outputs; i++)
        if (p->buffer[p->output[i].buffer].mixed == mixed)
            p->output[kept++] = p->output[i];
    p->n_outputs = kept;
}

static int cut_trunk(gw_netplan *p, int features, uint32_t detectors, uint32_t detector)
{
    keep_steps(p, false);
    for (int i = 0; i < p->n_buffers; i++)
        p->buffer[i].channels /= detectors;
    for (int i = 0; i < p->n_steps; i++) {
        gw_netstep *s = &p->step[i];
        const gw_netbuffer *in = &p->buffer[s->in], *out = &p->buffer[s->out];
        if (s->kind == GW_STEP_COPY)
            s->channels /= detectors;
        if (s->kind != GW_STEP_CONV && s->kind != GW_STEP_NORM)
            continue;
        s->groups /= detectors;
        const size_t each = s->kind == GW_STEP_NORM ? 1 : (size_t)in->channels / s->groups * s->taps;
        s->weight += (size_t)detector * out->channels * each;
        s->bias += (size_t)detector * out->channels;
        p->parameters -= s->parameters - s->parameters / detectors;
        s->parameters /= detectors;
    }
    for (int i = 0; i < p->n_outputs; i++)
        p->output[i].dim[1] /= detectors;
    gw_netvalue *all = gw_plan_take(p, (size_t)p->n_outputs + 1, sizeof *all);
    if (!all)
        return GW_ENOMEM;
    if (p->n_outputs)
        memcpy(all + 1, p->output, (size_t)p->n_outputs * sizeof *all);
    const gw_netbuffer *f = &p->buffer[features];
    all[0] = (gw_netvalue){.name = "features",
                           .buffer = features,
                           .columns = f->columns,
                           .rank = 3,
                           .dim = {1, f->channels, f->columns}};
    p->output = all;
    p->n_outputs++;
    return GW_OK;
}

static int cut_merged(gw_netplan *p, const char *path, int features, uint32_t detectors)
{
    const uint32_t unit = p->buffer[features].samples;
    keep_steps(p, true);
    if (p->n_outputs == 0)
        return gw_fail(GW_ENOTSUP, "%s: no output depends on more than one detector", path);
    for (int i = 0; i < p->n_buffers; i++) { /* samples are columns of the features now */
        gw_netbuffer *b = &p->buffer[i];
        b->samples = unit && b->samples % unit == 0 ? b->samples / unit : 0;
    }
    p->input = features;
    p->window_samples = p->buffer[features].columns;
    p->n_detectors = detectors;
    p->parameters = 0;
    for (int i = 0; i < p->n_steps; i++)
        p->parameters += p->step[i].parameters;
    return GW_OK;
}

int gw_netplan_cut(gw_netplan *p, const char *path, gw_net_part part, uint32_t detector)
{
    const uint32_t detectors = p->buffer[p->input].channels;
    int count;
    const int features = features_of(p, &count);
    if (part == GW_NET_WHOLE)
        return GW_OK;
    if (detectors < 2)
        return gw_fail(GW_ENOTSUP, "%s: the network has one detector, so there is nothing to cut", path);
    if (detector >= detectors)
        return gw_fail(GW_ERANGE, "%s: detector %u of %u", path, detector, detectors);
    if (count == 0 || features == p->input)
        return gw_fail(
            GW_ENOTSUP,
            "%s: the first layer mixes the detectors, so they have no features of their own (convolutions "
            "of %u groups would keep them apart)",
            path, detectors);
    if (count > 1)
        return gw_fail(GW_ENOTSUP, "%s: the detectors meet in %d places; features can be cut at one only",
                       path, count);
    const int err = part == GW_NET_TRUNK ? cut_trunk(p, features, detectors, detector)
                                         : cut_merged(p, path, features, detectors);
    p->flop = 0;
    for (int i = 0; i < p->n_steps; i++)
        p->flop += gw_netstep_flop(p, &p->step[i]);
    return err;
}
