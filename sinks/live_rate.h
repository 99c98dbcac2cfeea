/* SPDX-License-Identifier: GPL-3.0-or-later
 * False-alarm rates of events from the live background, in place of the model card's archived one. Pure
 * logic, used by alerts.c: the tables that `background` stages send (pipeline/noise_rate.h) are kept here,
 * one for each search, and give that search's events their rate. Until a table has `least_s` of slid time,
 * and below its floor, the card's rate stands. */
#ifndef GW_LIVE_RATE_H
#define GW_LIVE_RATE_H

#include "pipeline/event.h"
#include "pipeline/noise_rate.h"

enum { GW_LIVE_RATES = 16 };
#define GW_ALERT_HZ (1.0 / 86400) /* an alert's rate by a live background: at most once a day */

typedef struct gw_live_rates {
    double least_s;
    int n;
    gw_noise_rate rate[GW_LIVE_RATES];
} gw_live_rates;

/* GW_EFORMAT for what is no table; GW_ERANGE for tables of too many searches. */
int gw_live_rates_take(gw_live_rates *l, const gw_event *table);
/* The event of the search e->stream: noise_rate_hz and background_s (inclusive), alert (at most once a day; by the
 * card as before, where less than a day was slid),
 * and in its detail the member "background": where the rate comes from, how much of its slid time is an
 * archive's, the exclusive rate beside it, the interval (5 to 95 %, of this search's rate: no trials in it),
 * and whether it is a bound (nothing as loud was seen). Whether it has such a rate now. */
bool gw_live_rates_give(const gw_live_rates *l, gw_event *e);

#endif
