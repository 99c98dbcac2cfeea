/* SPDX-License-Identifier: GPL-3.0-or-later
 * Whether one hop of a channel can be used at all. Called by whiten_bulk for every channel and hop, before
 * the samples go into filter and PSD: what is wrong here must not leave a trace in either. */
#ifndef GW_WHITEN_BULK_HEALTH_H
#define GW_WHITEN_BULK_HEALTH_H

#include <stdint.h>

typedef enum gw_health {
    GW_HEALTH_GOOD,
    GW_HEALTH_NAN,      /* a sample is not finite */
    GW_HEALTH_DEAD,     /* dead_run samples in a row are the same */
    GW_HEALTH_SATURATED /* 16 samples in a row at the greatest or least value, which lies at least 64 of the
                           channel's smallest steps from the other: not a converter that idles between codes
                         */
} gw_health;

/* x[n]; n >= dead_run >= 16. */
gw_health gw_health_of(const float *x, uint32_t n, uint32_t dead_run);

#endif
