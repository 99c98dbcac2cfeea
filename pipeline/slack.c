/* SPDX-License-Identifier: GPL-3.0-or-later
 * The search for circles of waits (slack.h): Bellman and Ford's longest paths over the waits. A wait is a
 * link and a direction; a circle that may stand still is one whose sum is positive. */
#include "pipeline/slack.h"

#include <stdlib.h>

/* Wait 2 l: link l is full, its producer waits for room. Wait 2 l + 1: it is empty, its consumer waits for
 * data. */
typedef struct search {
    const gw_slack_stage *stage;
    gw_slack_link *link;
    int n_links, n_waits;
    int64_t *sum; /* [n_waits]: the greatest of a walk that ends with this wait */
    int *before;  /* [n_waits]: the wait before it on that walk; -1 = none */
} search;

static bool is_for_room(int wait)
{
    return wait % 2 == 0;
}

/* The stage that is waited for. */
static int at(const search *s, int wait)
{
    const gw_slack_link *l = &s->link[wait / 2];
    return is_for_room(wait) ? l->to : l->from;
}

static int waiter(const search *s, int wait)
{
    const gw_slack_link *l = &s->link[wait / 2];
    return is_for_room(wait) ? l->from : l->to;
}

/* Whether the stage that `a` waits for can stand still in `b`. Not on the same link: one cannot be full and
 * empty at once. */
static bool can_follow(const search *s, int a, int b)
{
    if (at(s, a) != waiter(s, b) || a / 2 == b / 2)
        return false;
    return !is_for_room(b) || !s->link[b / 2].drops;
}

static int64_t weight(const search *s, int a, int b)
{
    const gw_slack_link *l = &s->link[b / 2];
    if (!is_for_room(b))
        return s->stage[l->to].hold_ns;
    const int counted = l->credit > GW_SLACK_SPARE ? l->credit - GW_SLACK_SPARE : 0;
    const int64_t room = counted * l->message_ns + s->stage[l->to].least_ns;
    /* the stage lacks room on one output and so does not serve another */
    const bool other_port = !is_for_room(a) && s->link[a / 2].port != l->port;
    return (other_port ? s->stage[l->from].skew_ns : 0) - room;
}

static bool relax(search *s)
{
    bool more = false;
    for (int a = 0; a < s->n_waits; a++)
        for (int b = 0; b < s->n_waits; b++) {
            if (!can_follow(s, a, b))
                continue;
            const int64_t sum = s->sum[a] + weight(s, a, b);
            if (sum <= s->sum[b])
                continue;
            s->sum[b] = sum;
            s->before[b] = a;
            more = true;
        }
    return more;
}

/* A wait on a circle with a positive sum, -1 if there is none. Where sums keep growing, the walks that they
 * are of run in a circle sooner or later. */
static int find_circle(search *s)
{
    for (int w = 0; w < s->n_waits; w++) {
        s->sum[w] = 0;
        s->before[w] = -1;
    }
    while (relax(s))
        for (int start = 0; start < s->n_waits; start++) {
            int w = start;
            for (int i = 0; i < s->n_waits && w >= 0; i++)
                w = s->before[w];
            if (w >= 0)
                return w;
        }
    return -1;
}

/* Gives the circle's links room until it is none. GW_OK, or the fixed link that would need it. */
static int open_circle(search *s, int start, int *waits_for)
{
    int64_t sum = 0;
    int chosen = -1, fixed = -1, for_data = -1;
    for (int w = start, first = 1; first || w != start; first = 0, w = s->before[w]) {
        const int a = s->before[w];
        sum += weight(s, a, w);
        if (!is_for_room(w) && is_for_room(a)) /* the consumer of a full link waits for data of another */
            for_data = w / 2;
        if (!is_for_room(w))
            continue;
        if (!s->link[w / 2].fixed)
            chosen = w / 2;
        else if (fixed < 0)
            fixed = w / 2;
    }
    *waits_for = for_data;
    gw_slack_link *l = &s->link[chosen >= 0 ? chosen : fixed];
    if (l->credit < GW_SLACK_SPARE)
        l->credit = GW_SLACK_SPARE;
    l->credit += sum > l->message_ns ? (int)((sum + l->message_ns - 1) / l->message_ns) : 1;
    return chosen >= 0 ? -1 : fixed;
}

int gw_slack_fit(gw_slack_link *link, int n_links, const gw_slack_stage *stage, int *waits_for)
{
    search s = {.stage = stage, .link = link, .n_links = n_links, .n_waits = 2 * n_links};
    s.sum = calloc((size_t)s.n_waits + 1, sizeof *s.sum);
    s.before = calloc((size_t)s.n_waits + 1, sizeof *s.before);
    int found = s.sum && s.before ? -1 : GW_SLACK_ENOMEM;
    for (int circle; found != GW_SLACK_ENOMEM && (circle = find_circle(&s)) >= 0;) {
        const int short_of = open_circle(&s, circle, waits_for);
        if (short_of >= 0)
            found = short_of;
    }
    free(s.sum);
    free(s.before);
    return found;
}
