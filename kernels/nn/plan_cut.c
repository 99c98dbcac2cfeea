/* SPDX-License-Identifier: GPL-3.0-or-later
 * Cuts the plan of a window where its detectors (the channels of the input) meet: before, every layer works
 * on each of them apart (group convolutions, or anything point by point), so channel block d of every buffer
 * depends on input d alone, and those layers can be computed once for each detector; after the cut a time
 * slide differs only in which features come together.
 *
 * The trunk keeps the steps before, on block d; what the others read of it becomes the output "features",
 * and outputs of the network that are a part of it keep their names. The merged part keeps the steps after,
 * and takes the features of all detectors as its input: side by side, or, where the convolutions that bring
 * them together were split into a part for each (plan_split.c), their sum. */
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

/* Floats of one detector's weights of a step that has been cut. */
static size_t weights_of(const gw_netplan *p, const gw_netstep *s)
{
    const size_t out = p->buffer[s->out].channels;
    return s->kind == GW_STEP_NORM ? out : out * (p->buffer[s->in].channels / s->groups) * s->taps;
}

static void choose(const gw_netplan *p, gw_netstep *s, uint32_t detector)
{
    s->weight += detector * weights_of(p, s);
    s->bias += (size_t)detector * p->buffer[s->out].channels;
}

static bool all_equal(const gw_netplan *p, const gw_netstep *s, uint32_t detectors)
{
    for (uint32_t d = 1; d < detectors; d++) {
        gw_netstep other = *s;
        choose(p, &other, d);
        if (memcmp(s->weight, other.weight, weights_of(p, s) * sizeof *s->weight) != 0 ||
            memcmp(s->bias, other.bias, p->buffer[s->out].channels * sizeof *s->bias) != 0)
            return false;
    }
    return true;
}

/* The steps with weights become those of one detector. Of all: once where their weights are equal, else once
 * for each. */
static int choose_weights(gw_netplan *p, uint32_t detectors, uint32_t detector)
{
    const bool all = detector == GW_NET_ALL_DETECTORS;
    gw_netstep *step = gw_plan_take(p, (size_t)p->n_steps * (all ? detectors : 1), sizeof *step);
    int kept = 0;
    if (!step)
        return GW_ENOMEM;
    for (int i = 0; i < p->n_steps; i++) {
        gw_netstep *s = &p->step[i];
        if (s->kind != GW_STEP_CONV && s->kind != GW_STEP_NORM) {
            step[kept++] = *s;
            continue;
        }
        s->groups /= detectors;
        s->parameters /= detectors;
        const bool apart = all && !all_equal(p, s, detectors);
        for (uint32_t d = 0; d < (apart ? detectors : 1); d++) {
            step[kept] = *s;
            step[kept].only = apart ? d + 1 : 0;
            choose(p, &step[kept++], all ? d : detector);
        }
    }
    p->step = step;
    p->n_steps = kept;
    p->members = all ? detectors : 1;
    return GW_OK;
}

static int cut_trunk(gw_netplan *p, int features, uint32_t detectors, uint32_t detector)
{
    keep_steps(p, false);
    for (int i = 0; i < p->n_buffers; i++)
        p->buffer[i].channels /= detectors;
    for (int i = 0; i < p->n_steps; i++)
        if (p->step[i].kind == GW_STEP_COPY)
            p->step[i].channels /= detectors;
    GW_TRY(choose_weights(p, detectors, detector));
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
    if (p->summed)
        p->buffer[features].channels /= detectors;
    return GW_OK;
}

int gw_netplan_cut(gw_netplan *p, const char *path, gw_net_part part, uint32_t detector)
{
    const uint32_t detectors = p->buffer[p->input].channels;
    if (part == GW_NET_WHOLE)
        return GW_OK;
    if (detectors < 2)
        return gw_fail(GW_ENOTSUP, "%s: the network has one detector, so there is nothing to cut", path);
    if (detector >= detectors && detector != GW_NET_ALL_DETECTORS)
        return gw_fail(GW_ERANGE, "%s: detector %u of %u", path, detector, detectors);
    GW_TRY(gw_netplan_split(p, detectors));
    int count;
    const int features = features_of(p, &count);
    if (count == 0 || features == p->input)
        return gw_fail(GW_ENOTSUP,
                       "%s: the first layer mixes the detectors and is no convolution that splits into a "
                       "part for each, so they have no features of their own (convolutions of %u groups "
                       "would keep them apart)",
                       path, detectors);
    if (count > 1)
        return gw_fail(GW_ENOTSUP, "%s: the detectors meet in %d places; features can be cut at one only",
                       path, count);
    const int err = part == GW_NET_TRUNK ? cut_trunk(p, features, detectors, detector)
                                         : cut_merged(p, path, features, detectors);
    p->flop = 0;
    p->parameters = 0;
    for (int i = 0; i < p->n_steps; i++) {
        p->flop += gw_netstep_flop(p, &p->step[i]);
        p->parameters += p->step[i].parameters;
    }
    return err;
}
