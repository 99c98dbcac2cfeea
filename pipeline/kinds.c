/* SPDX-License-Identifier: GPL-3.0-or-later
 * The one list of all kinds of sources, stages and sinks. */
#include "pipeline/stage.h"

#include <string.h>

extern const gw_kind gw_kind_sim, gw_kind_replay, gw_kind_repeat, gw_kind_live;
extern const gw_kind gw_kind_resample, gw_kind_whiten, gw_kind_whiten_bulk, gw_kind_denoise, gw_kind_detect,
    gw_kind_background;
extern const gw_kind gw_kind_alerts, gw_kind_record, gw_kind_ring, gw_kind_picture, gw_kind_rank,
    gw_kind_challenge, gw_kind_null;

const gw_kind *const gw_kinds[] = {
    &gw_kind_sim,
    &gw_kind_replay,
    &gw_kind_live,
    &gw_kind_repeat, /* sources */
    &gw_kind_resample,
    &gw_kind_whiten,
    &gw_kind_whiten_bulk,
    &gw_kind_denoise,
    &gw_kind_detect,
    &gw_kind_background, /* stages */
    &gw_kind_alerts,
    &gw_kind_record,
    &gw_kind_ring,
    &gw_kind_picture,
    &gw_kind_rank,
    &gw_kind_challenge,
    &gw_kind_null, /* sinks */
    NULL,
};

const gw_kind *gw_kind_find(const char *word)
{
    for (int i = 0; gw_kinds[i]; i++)
        if (strcmp(gw_kinds[i]->kind, word) == 0)
            return gw_kinds[i];
    return NULL;
}
