/* SPDX-License-Identifier: GPL-3.0-or-later
 * How much of a prediction is subtracted: a weight from 0 to 1 for every strain sample, one gate a coupling.
 * Used by the denoise stage. It holds no samples and measures nothing.
 *
 *   out      fades out when the ratio of amplitude spectra (asd_ratio.h) was above `out` in band, or above
 *            1.02 out of band, at every second of `after`. Nothing delays it: harm is not left to go on
 *   in       fades in when it was below `in` in band at every second of `for`, is at most 1.01 out of band,
 *            and the gate has not changed for `pause`: so it changes at most twice a minute
 *   hurt     the prediction is not valid (a witness is missing or bad, the network warms up again): it fades
 *            out at once. Well again for 2 s, it fades in if it was in before, was hurt for no longer than
 *            `pause`, and had not come back like this within `pause` before: a short hole costs seconds.
 *            Else it must prove itself anew, and the pause counts from then. So a witness that comes and
 *            goes brings it in twice a minute at most
 *   hole     in strain itself: the same, but the weight is 0 at once (there is no sample to fade on)
 *
 * A second without a measured ratio proves nothing: the count of seconds begins anew.
 *
 * Fades are halves of a Hann window, 1 s long, 0.25 s where it is hurt, and begin at a given sample: the
 * weight is a function of the sample number and of what was said, whatever the lengths of blocks. It is the
 * product of a slow and a fast weight, so that a fade cut short by another has no kink. */
#ifndef GW_GATE_H
#define GW_GATE_H

#include "pipeline/config.h"
#include "pipeline/stages/asd_ratio.h"

typedef struct gw_gate_keys {
    bool always;   /* no ratio closes it; only hurt and hole do, and it opens 2 s after */
    bool start_in; /* in as soon as the prediction is valid, unproven */
    double out, in;
    int64_t after_s, for_s, pause_s;
} gw_gate_keys;

/* Reads `gate: {out: 1.00, after: 2s, in: 0.97, for: 16s, pause: 60s, start: out | in}` or `gate: always` of
 * map `conf` (all optional) and sets their defaults. */
int gw_gate_keys_read(gw_gate_keys *k, gw_conf *conf);

typedef struct gw_fade { /* a weight that goes up or down by halves of a Hann window of `length` samples */
    bool up;
    int64_t length, rose, fell; /* where the newest fade of either kind began */
} gw_fade;

void gw_fade_init(gw_fade *f, int64_t length, bool up);
/* From sample `at` on, or from where the last change begins if that is later. Three changes within `length`
 * of each other are one too many: what the first had still to do is done at once. */
void gw_fade_turn(gw_fade *f, bool up, int64_t at);
double gw_fade_weight(const gw_fade *f, int64_t sample);

typedef enum gw_gate_change {
    GW_GATE_SAME,
    GW_GATE_IN,       /* proven: fades in */
    GW_GATE_BACK,     /* well again after it was hurt: fades in */
    GW_GATE_HARMS,    /* the ratio in band: fades out */
    GW_GATE_HARMS_OUT /* the ratio out of band: fades out */
} gw_gate_change;

typedef struct gw_gate {
    gw_gate_keys keys;
    int64_t rate;
    gw_fade slow, fast;
    bool in; /* what it wants: hurt or not */
    bool hurt;
    int64_t hurt_since, well_since; /* well_since: INT64_MAX while hurt */
    int64_t back_at;                /* last time it came back from being hurt */
    int64_t changed;                /* last change by the ratio */
    int64_t good, bad;              /* seconds in a row */
} gw_gate;

/* rate_hz: of strain. Begins hurt: nothing is valid yet. */
void gw_gate_init(gw_gate *g, const gw_gate_keys *keys, uint32_t rate_hz);

/* The prediction is not valid from output sample `from` on (not before what was weighed last); it must still
 * go on without a step for a quarter of a second: that long is the fade. May be said again at every hop; what
 * counts is the first. */
void gw_gate_hurt(gw_gate *g, int64_t from);
/* It is valid again, from output sample `from` on. May be said at every hop. */
void gw_gate_well(gw_gate *g, int64_t from);
/* Strain has a hole of `lost` samples up to `from`: hurt, and the weight is 0 at `from` already. */
void gw_gate_hole(gw_gate *g, int64_t from, int64_t lost);

/* At every whole second, when its last sample is measured and before what follows it is weighed: `second` is
 * the sample after it, where a fade begins; r the ratio of the prediction in use (ungated). */
gw_gate_change gw_gate_second(gw_gate *g, int64_t second, const gw_asd_ratios *r);

/* w[i] = weight of sample from + i, each call from where the last one ended. False: all are 0. */
bool gw_gate_weigh(const gw_gate *g, int64_t from, uint32_t n, double *w);

#endif
