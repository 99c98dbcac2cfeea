/* SPDX-License-Identifier: GPL-3.0-or-later
 * Lag and grace (patience.h). */
#include "sources/patience.h"

#define FORGET_NS INT64_C(60000000000)

void gw_patience_came(gw_patience *p, int64_t end_ns, int64_t now_ns)
{
    const int64_t lag_ns = now_ns - end_ns;
    if (!p->known) {
        p->known = true;
        p->before_ns = p->least_ns = lag_ns;
        p->since_ns = now_ns;
    }
    if (now_ns - p->since_ns > FORGET_NS) {
        p->before_ns = p->least_ns;
        p->least_ns = lag_ns;
        p->since_ns = now_ns;
    }
    if (lag_ns < p->least_ns)
        p->least_ns = lag_ns;
}

static int64_t grace(const gw_patience *p, int64_t now_ns)
{
    const int64_t left_ns = p->grace_ns - (now_ns - p->grace_at_ns);
    return left_ns > 0 ? left_ns : 0;
}

void gw_patience_held_up(gw_patience *p, int64_t since_ns, int64_t now_ns)
{
    if (now_ns <= since_ns)
        return;
    p->grace_ns = grace(p, since_ns) + (now_ns - since_ns);
    p->grace_at_ns = now_ns;
}

bool gw_patience_best(const gw_patience *p, int64_t now_ns, int64_t *stream_ns)
{
    *stream_ns = now_ns - (p->least_ns < p->before_ns ? p->least_ns : p->before_ns);
    return p->known;
}

bool gw_patience_deadline(const gw_patience *p, int64_t now_ns, int64_t *stream_ns)
{
    const bool known = gw_patience_best(p, now_ns, stream_ns);
    *stream_ns -= p->patience_ns + grace(p, now_ns);
    return known;
}
