/* SPDX-License-Identifier: GPL-3.0-or-later
 * live_rate.h. */
#include "sinks/live_rate.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

static const gw_noise_rate *find(const gw_live_rates *l, const char *search)
{
    for (int i = 0; i < l->n; i++)
        if (strncmp(l->rate[i].of, search, sizeof l->rate[i].of) == 0)
            return &l->rate[i];
    return NULL;
}

int gw_live_rates_take(gw_live_rates *l, const gw_event *table)
{
    gw_noise_rate r;
    GW_TRY(gw_noise_rate_read(&r, table->detail));
    const gw_noise_rate *old = find(l, r.of);
    if (!old && l->n == GW_LIVE_RATES)
        return gw_fail(GW_ERANGE, "backgrounds of more than %d searches", GW_LIVE_RATES);
    l->rate[old ? old - l->rate : l->n++] = r;
    return GW_OK;
}

/* Adds a member to the event's detail where there is room. */
static void add_member(gw_event *e, const char *member)
{
    const size_t used = strnlen(e->detail, sizeof e->detail), more = strlen(member);
    const bool object = used > 2 && e->detail[0] == '{' && e->detail[used - 1] == '}';
    if (!object || used + more + 2 > sizeof e->detail)
        return;
    e->detail[used - 1] = ',';
    memcpy(e->detail + used, member, more);
    memcpy(e->detail + used + more, "}", 2);
}

bool gw_live_rates_give(const gw_live_rates *l, gw_event *e)
{
    const gw_noise_rate *r = find(l, e->stream);
    if (!r || !(r->slid_s[0] >= l->least_s))
        return false;
    bool bound = false;
    const double rate = gw_noise_rate_hz(r, e->statistic, false, &bound);
    if (isnan(rate))
        return false;
    e->noise_rate_hz = rate;
    e->background_s = r->slid_s[0];
    if (e->background_s * GW_ALERT_HZ >= 1) /* else nothing, however loud, could be shown to be so rare */
        e->alert = rate <= GW_ALERT_HZ;
    char member[400], exclusive[40] = "null", interval[80] = "null";
    const double other = gw_noise_rate_hz(r, e->statistic, true, NULL);
    if (!isnan(other))
        snprintf(exclusive, sizeof exclusive, "%.9g", other);
    double low, high;
    if (gw_noise_rate_interval(r, e->statistic, &low, &high))
        snprintf(interval, sizeof interval, "[%.3g,%.3g]", low, high);
    snprintf(member, sizeof member,
             "\"background\":{\"source\":\"live\",\"until\":%" PRId64
             ",\"slid_s\":%.0f,\"distinct_s\":%.0f,\"archived_s\":%.0f,\"exclusive_rate_hz\":%s,"
             "\"interval\":%s,\"bound\":%s}",
             r->until_ns / GW_SECOND_NS, r->slid_s[0], r->distinct_s, r->archived_s, exclusive, interval,
             bound ? "true" : "false");
    add_member(e, member);
    return true;
}
