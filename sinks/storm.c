/* SPDX-License-Identifier: GPL-3.0-or-later
 * storm.h. */
#include "sinks/storm.h"

#include <stdio.h>
#include <string.h>

enum { SIZE = 2 * GW_STORM_MOST };

static const struct gw_storm_id *find(const gw_storm *s, const char *id)
{
    for (int i = 0; i < s->n; i++)
        if (strcmp(s->known[i].id, id) == 0)
            return &s->known[i];
    return NULL;
}

/* How many began in the time before. Another recording's, at any other time, do not count. */
static int recent(const gw_storm *s, int64_t gps_ns)
{
    int n = 0;
    for (int i = 0; i < s->n; i++)
        n += s->known[i].gps_ns > gps_ns - s->within_ns && s->known[i].gps_ns < gps_ns + 60 * GW_SECOND_NS;
    return n;
}

void gw_storm_recall(gw_storm *s, const char *id, int64_t gps_ns, bool held)
{
    struct gw_storm_id *to = &s->known[s->next];
    snprintf(to->id, sizeof to->id, "%s", id);
    to->gps_ns = gps_ns;
    to->held = held;
    s->next = (s->next + 1) % SIZE;
    s->n += s->n < SIZE;
}

bool gw_storm_holds(gw_storm *s, const gw_event *e)
{
    const struct gw_storm_id *known = s->most ? find(s, e->id) : NULL;
    if (known)
        return known->held;
    if (!s->most || e->phase == GW_PHASE_RETRACTED)
        return false;
    const int n = recent(s, e->gps_ns);
    if (s->on && n <= s->most / 2)
        s->on = false;
    if (!s->on && n >= s->most) {
        s->on = true;
        s->since_ns = e->gps_ns;
        s->held = 0;
    }
    s->held += s->on;
    gw_storm_recall(s, e->id, e->gps_ns, s->on);
    return s->on;
}

void gw_storm_reached(gw_storm *s, int64_t gps_ns)
{
    if (s->on && gps_ns > INT64_MIN + 60 * GW_SECOND_NS &&
        recent(s, gps_ns - 60 * GW_SECOND_NS) <= s->most / 2)
        s->on = false;
}
