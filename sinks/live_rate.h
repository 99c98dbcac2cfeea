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

typedef struct gw_live_rates {
    double least_s;
    int n;
    gw_noise_rate rate[GW_LIVE_RATES];
} gw_live_rates;

/* GW_EFORMAT for what is no table; GW_ERANGE for tables of too many searches. */
int gw_live_rates_take(gw_live_rates *l, const gw_event *table);
/* The event of the search e->stream: noise_rate_hz and background_s (inclusive), alert (at most once a day),
 * and in its detail the member "background": where the rate comes from, the exclusive one beside it, and
 * whether it is a bound (nothing as loud was seen). */
void gw_live_rates_give(const gw_live_rates *l, gw_event *e);

#endif
