/* SPDX-License-Identifier: GPL-3.0-or-later
 * What the YAML of whiten and of whiten_bulk have in common, with the same defaults: phase, duration,
 * highpass, lowpass, warmup, gate and the map psd: {segment, average, memory}. Reading only; the shapes that
 * follow from it are each stage's own. */
#ifndef GW_WHITEN_KEYS_H
#define GW_WHITEN_KEYS_H

#include "pipeline/config.h"

#include <stdbool.h>
#include <stdint.h>

enum { GW_PHASE_MINIMUM_FILTER, GW_PHASE_LINEAR_FILTER };
enum { GW_AVERAGE_MEDIAN, GW_AVERAGE_MEAN };

typedef struct gw_whiten_keys {
    int phase, average;
    gw_rate duration, segment, memory, warmup; /* spans */
    double highpass_hz[2], lowpass[2];         /* where the ramps begin and end; lowpass as fractions */
    double gate;                               /* sigma */
    gw_conf *psd;                              /* the map, NULL: not given. gw_conf_done is the caller's */
} gw_whiten_keys;

int gw_whiten_keys_read(gw_whiten_keys *k, gw_conf *conf);

/* A span in whole samples, 2 to `max`; GW_EMISMATCH says which key is wrong. */
int gw_whole_samples(const char *key, gw_rate span, uint32_t rate_hz, uint32_t max, uint32_t *samples);

/* "2s", "0.5s" */
const char *gw_span_text(gw_rate span, char *text, size_t n);

#endif
