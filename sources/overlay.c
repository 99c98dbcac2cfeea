/* SPDX-License-Identifier: GPL-3.0-or-later
 * A short sorted list; a handful of overlays are alive at a time. */
#include "sources/overlay.h"

#include <stdlib.h>
#include <string.h>

static bool before(const gw_overlay *a, const gw_overlay *b)
{
    if (a->first != b->first)
        return a->first < b->first;
    return a->serial != b->serial ? a->serial < b->serial : a->channel < b->channel;
}

int gw_overlay_put(gw_overlay **list, int64_t first, uint32_t n_samples, int channel, uint64_t serial,
                   const double *x)
{
    gw_overlay *o = malloc(sizeof *o + n_samples * sizeof *o->x);
    if (!o)
        return gw_fail(GW_ENOMEM, "a simulated signal of %u samples", n_samples);
    *o = (gw_overlay){.first = first, .n_samples = n_samples, .channel = channel, .serial = serial};
    memcpy(o->x, x, n_samples * sizeof *x);
    while (*list && before(*list, o))
        list = &(*list)->next;
    o->next = *list;
    *list = o;
    return GW_OK;
}

void gw_overlay_add(const gw_overlay *list, int channel, int64_t sample0, uint32_t n_samples, double *y)
{
    const int64_t end = sample0 + n_samples;
    for (const gw_overlay *o = list; o; o = o->next) {
        if (o->channel != channel)
            continue;
        const int64_t from = o->first > sample0 ? o->first : sample0;
        const int64_t last = o->first + o->n_samples;
        const int64_t to = last < end ? last : end;
        for (int64_t s = from; s < to; s++)
            y[s - sample0] += o->x[s - o->first];
    }
}

void gw_overlay_drop(gw_overlay **list, int64_t before_sample)
{
    while (*list) {
        gw_overlay *o = *list;
        if (o->first + o->n_samples > before_sample) {
            list = &o->next;
            continue;
        }
        *list = o->next;
        free(o);
    }
}

void gw_overlay_free(gw_overlay **list)
{
    gw_overlay_drop(list, INT64_MAX);
}
