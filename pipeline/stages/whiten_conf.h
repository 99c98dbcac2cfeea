/* SPDX-License-Identifier: GPL-3.0-or-later
 * The YAML keys of the stage whiten, what they come to on a stream, and the one canonical text that says how
 * a stream was whitened. Called by whiten.c in configure and plan. */
#ifndef GW_WHITEN_CONF_H
#define GW_WHITEN_CONF_H

#include "pipeline/stage.h"
#include "pipeline/stages/psd_file.h"
#include "pipeline/stages/strand.h"
#include "pipeline/stages/whiten_keys.h"

typedef struct gw_whiten_conf {
    gw_whiten_keys keys; /* that whiten_bulk has too */
    bool follow_first;
    double drift;
    gw_checkpoint_keys checkpoint;
} gw_whiten_conf;

int gw_whiten_conf_read(gw_whiten_conf *w, gw_conf *conf);

/* What a strand of this stream looks like. GW_EMISMATCH with the reason where the keys do not fit it. */
int gw_whiten_conf_fit(const gw_whiten_conf *w, const gw_spec *in, gw_strand_shape *s);

/* All that matters to a network trained on the output, as one text that models carry and detect compares. */
int gw_whiten_conf_name(const gw_whiten_conf *w, const gw_spec *in, gw_spec *out);

#endif
