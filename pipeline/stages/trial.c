/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "pipeline/stages/trial.h"

#include <math.h>

enum { WORSE_S = 16 };
static const double MOST_OUT_OF_BAND = 1.01, HARM_OUT_OF_BAND = 1.02; /* as gate.c's */

void gw_trial_init(gw_trial *t, int64_t over_s, int64_t watch_s, double better, uint32_t rate_hz)
{
    *t = (gw_trial){.over_s = over_s, .watch_s = watch_s, .better = better, .rate = rate_hz};
    gw_fade_init(&t->fade, t->rate, false);
}

static void enter(gw_trial *t, gw_trial_phase phase)
{
    t->phase = phase;
    t->seconds = t->worse = 0;
    t->sum[0] = t->sum[1] = t->sum_out[0] = t->sum_out[1] = 0;
}

void gw_trial_begin(gw_trial *t)
{
    enter(t, GW_TRIAL_TRYING);
}

static void swap(gw_trial *t, int64_t second)
{
    t->used = 1 - t->used;
    t->until = second + t->rate;
    gw_fade_turn(&t->fade, t->used == 1, second);
}

/* canary: what was measured of it; the other is the old one, in use or not. */
static void count(gw_trial *t, const gw_asd_ratios *canary, const gw_asd_ratios *old)
{
    t->seconds++;
    t->sum[0] += canary->mean;
    t->sum[1] += old->mean;
    t->sum_out[0] += canary->out;
    t->sum_out[1] += old->out;
    const bool harms = canary->out > HARM_OUT_OF_BAND && canary->out > old->out;
    t->worse = canary->mean > old->mean || harms ? t->worse + 1 : 0;
}

static gw_trial_event try(gw_trial *t, int64_t second, const gw_trial_result *r)
{
    if (t->seconds < t->over_s)
        return GW_TRIAL_NONE;
    const bool better = r->canary < t->better * r->production && r->canary < 1;
    const bool harmless = r->canary_out <= MOST_OUT_OF_BAND || r->canary_out < r->production_out;
    if (!better || !harmless) {
        enter(t, GW_TRIAL_IDLE);
        return GW_TRIAL_REJECTED;
    }
    swap(t, second);
    enter(t, GW_TRIAL_WATCHING);
    return GW_TRIAL_PROMOTED;
}

static gw_trial_event watch(gw_trial *t, int64_t second)
{
    if (t->worse >= WORSE_S) {
        swap(t, second);
        enter(t, GW_TRIAL_LEAVING);
        return GW_TRIAL_ROLLED_BACK;
    }
    if (t->seconds < t->watch_s || second < t->until)
        return GW_TRIAL_NONE;
    enter(t, GW_TRIAL_IDLE);
    return GW_TRIAL_KEPT;
}

gw_trial_event gw_trial_second(gw_trial *t, int64_t second, const gw_asd_ratios *used,
                               const gw_asd_ratios *other, gw_trial_result *result)
{
    if (t->phase == GW_TRIAL_IDLE)
        return GW_TRIAL_NONE;
    if (t->phase == GW_TRIAL_LEAVING) {
        if (second < t->until)
            return GW_TRIAL_NONE;
        enter(t, GW_TRIAL_IDLE);
        return GW_TRIAL_FREE;
    }
    const bool trying = t->phase == GW_TRIAL_TRYING;
    if (used->measured && other->measured)
        count(t, trying ? other : used, trying ? used : other);
    const double n = t->seconds > 0 ? (double)t->seconds : NAN;
    *result = (gw_trial_result){.seconds = t->seconds,
                                .canary = t->sum[0] / n,
                                .production = t->sum[1] / n,
                                .canary_out = t->sum_out[0] / n,
                                .production_out = t->sum_out[1] / n};
    return trying ? try(t, second, result) : watch(t, second);
}

bool gw_trial_share(const gw_trial *t, int64_t from, uint32_t n, double *share)
{
    if (from >= t->until)
        return false;
    for (uint32_t i = 0; i < n; i++)
        share[i] = gw_fade_weight(&t->fade, from + i);
    return true;
}
