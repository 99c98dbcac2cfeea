/* SPDX-License-Identifier: GPL-3.0-or-later
 * wall.h. What comes before its time is wrong without doubt. What comes late may be late by itself: a quarter of a
 * minute is usual between observatories, a minute is not. */
#include "sinks/wall.h"

#include <math.h>
#include <stdio.h>

static const double step_s = 0.5, early_s = -1, late_s = 45;

/* How late live data are, by the wall clock; 0 where that says nothing. */
static double age_s(const gw_wall *w, int64_t wall_ns, const gw_timebase *t, int64_t data_ns)
{
    if (!w->live || t->pace != 1 || !t->anchor_wall_ns)
        return 0;
    return ((double)(wall_ns - t->anchor_wall_ns) - (double)(data_ns - t->anchor_data_ns)) / 1e9;
}

const char *gw_wall_look(gw_wall *w, int64_t wall_ns, int64_t monotonic_ns, const gw_timebase *t,
                         int64_t data_ns, char *text, size_t n)
{
    const int64_t offset_ns = wall_ns - monotonic_ns;
    if (!w->begun)
        w->offset_ns = w->first_offset_ns = offset_ns;
    w->begun = true;
    const double step = (double)(offset_ns - w->offset_ns) / 1e9, age = age_s(w, wall_ns, t, data_ns);
    const double stepped = (double)(offset_ns - w->first_offset_ns) / 1e9;
    const bool was_wrong = w->wrong;
    w->offset_ns = offset_ns;
    w->wrong = age < early_s || age > late_s;
    w->error_s = w->wrong ? age : fabs(stepped) > step_s ? stepped : 0;
    if (fabs(step) > step_s) {
        snprintf(text, n,
                 "this host's clock was stepped by %+.3f s; what alerts say of UTC and latency follows it",
                 step);
        return text;
    }
    if (w->wrong == was_wrong)
        return NULL;
    if (!w->wrong)
        snprintf(text, n, "this host's clock and the data agree again");
    else if (age < 0)
        snprintf(text, n,
                 "the data come %.1f s before their time: this host's clock is behind; alerts go on, what "
                 "they say of "
                 "UTC and latency is wrong",
                 -age);
    else
        snprintf(text, n,
                 "the data come %.1f s after their time: they are late, or this host's clock is ahead; "
                 "alerts go on, "
                 "what they say of UTC and latency may be wrong",
                 age);
    return text;
}
