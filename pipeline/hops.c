/* SPDX-License-Identifier: GPL-3.0-or-later
 * Stages with hops: several streams cut on the absolute sample grid and handed over together, whole or not at
 * all. Here is what a stage does while some input lacks the next hop: wait, give that input up where live
 * data must go on without it, or end. Called by runner.c, in the node's own thread. */
#include "pipeline/log.h"
#include "pipeline/node.h"

static int64_t hop_end_ns(const gw_node *n, int64_t hop)
{
    const gw_input *in = &n->in[0];
    return gw_sample_to_ns((hop + 1) * in->hop, in->spec->rate, in->spec->phase_ns);
}

static int tell_lost(gw_node *n)
{
    if (n->lost_until_hop == INT64_MIN)
        return GW_OK;
    const int64_t hop = n->lost_until_hop;
    n->lost_until_hop = INT64_MIN;
    return gw_node_lose(n, hop_end_ns(n, hop), n->lost_reason, n->lost_dq);
}

/* The last hop that is lost together with the next one, because it too begins before what input `in` has:
 * a hole of years is one turn. No further than those inputs have come that do not lack the next hop. */
static int64_t last_lost(const gw_node *n, unsigned lacking, const gw_input *in)
{
    const int64_t h = n->hop_index;
    int64_t more = in->lo > h * in->hop ? (in->lo - 1 - h * in->hop) / in->hop : 0;
    for (int i = 0; i < n->n_in; i++) {
        if (n->in[i].may_lack)
            continue;
        const int64_t come = (n->in[i].end - h * n->in[i].hop) / n->in[i].hop - 1;
        if (!(lacking >> i & 1) && come < more)
            more = come;
    }
    return h + more;
}

/* One hop of all inputs is there, whole or not. */
static int do_hop(gw_node *n)
{
    const int64_t h = n->hop_index;
    n->waiting_since_ns = 0;
    gw_view view[GW_MAX_PORTS];
    for (int i = 0; i < n->n_in; i++) {
        gw_input *in = &n->in[i];
        const int64_t from = h * in->hop;
        if (!in->hop || !gw_input_has(in, from - in->history, from + in->hop)) {
            if (in->may_lack) {
                view[i] = (gw_view){.n_channels = in->spec->n_channels, .sample0 = from, .dq = UINT64_MAX};
                continue;
            }
            n->lost_until_hop = last_lost(n, 0, in);
            n->hop_index = n->lost_until_hop + 1;
            n->lost_reason = in->lo > from ? in->reason : GW_GAP_HISTORY;
            n->lost_dq = in->lo > from ? in->hole_dq : GW_DQ_ALL;
            return GW_OK;
        }
        gw_input_view(in, from, in->hop, &view[i]);
    }
    n->hop_index++;
    GW_TRY(tell_lost(n));
    return gw_node_step(n, view);
}

/* The first hop that lies wholly in every input that may not be missing. */
static void begin_hops(gw_node *n)
{
    for (int i = 0; i < n->n_in; i++) {
        const gw_input *in = &n->in[i];
        if (in->may_lack)
            continue;
        const int64_t hop = in->hop, first = in->lo;
        int64_t h = first / hop;
        if (h * hop < first)
            h++;
        if (!n->hop_known || h > n->hop_index)
            n->hop_index = h;
        n->hop_known = true;
    }
    for (int o = 0; o < n->n_out; o++)
        n->out[o].end = gw_sample_at_or_after(hop_end_ns(n, n->hop_index - 1), n->out[o].spec.rate,
                                              n->out[o].spec.phase_ns);
}

/* One input has ended: nothing more can be done with the others, but their producers may have other
 * consumers, so they are read to their end. */
int gw_node_run_out(gw_node *n)
{
    for (;;) {
        bool progress = false, open = false;
        for (int i = 0; i < n->n_in; i++) {
            gw_input *in = &n->in[i];
            gw_arrival a;
            int err = gw_input_next(in, &a);
            open |= !in->ended;
            if (err == GW_EEND || err == GW_EAGAIN)
                continue;
            GW_TRY(err);
            progress = true;
            GW_TRY(gw_input_done(in, &a));
        }
        if (!open)
            return GW_OK;
        if (!progress)
            GW_TRY(gw_node_wait(n, GW_ALL_INPUTS));
    }
}

/* -- an input that is late --------------------------------------------------------------------------- */

static const char *input_name(const gw_input *in)
{
    return in->spec->detector[0] ? in->spec->detector : in->spec->name;
}

/* Stream time that the inputs which lack it must have for the next hop; before the first, its earliest begin.
 */
static int64_t needed_ns(const gw_node *n, unsigned lacking)
{
    if (n->hop_known)
        return hop_end_ns(n, n->hop_index);
    int64_t first_ns = INT64_MAX / 2; /* none of those that count has begun */
    for (int i = 0; i < n->n_in; i++)
        if (!(lacking >> i & 1) && !n->in[i].may_lack) {
            const int64_t ns = gw_input_ns(&n->in[i], n->in[i].lo);
            first_ns = ns < first_ns ? ns : first_ns;
        }
    return first_ns;
}

/* Whether the others have waited long enough for those that lack the next hop: some other is as far ahead in
 * stream time, and as much time has passed, so that a burst of old blocks does not look like it. Who was
 * given up already gets no more time on the clock. */
static bool patience_is_over(gw_node *n, unsigned lacking)
{
    const int64_t now_ns = gw_monotonic_ns(), need_ns = needed_ns(n, lacking) + n->patience_ns;
    bool ahead = false, all_late = true;
    for (int i = 0; i < n->n_in; i++) {
        if (lacking >> i & 1)
            all_late &= n->in[i].late;
        else if (!n->in[i].may_lack) /* one that may be missing gives nobody up */
            ahead |= gw_input_ns(&n->in[i], gw_input_known(&n->in[i])) >= need_ns;
    }
    if (!n->waiting_since_ns)
        n->waiting_since_ns = now_ns;
    return ahead && (all_late || now_ns - n->waiting_since_ns >= n->patience_ns);
}

/* Also without what would be of no use, because another input has a hole there. */
static int go_on_without(gw_node *n, unsigned lacking)
{
    const int64_t until_ns = needed_ns(n, lacking);
    int64_t last = n->hop_index;
    for (int i = 0; i < n->n_in && n->hop_known; i++) {
        const bool tells = !(lacking >> i & 1) && !n->in[i].may_lack;
        const int64_t lost = tells ? last_lost(n, lacking, &n->in[i]) : last;
        last = lost > last ? lost : last;
    }
    for (int i = 0; i < n->n_in; i++) {
        gw_input *in = &n->in[i];
        if (!(lacking >> i & 1))
            continue;
        const int64_t until = n->hop_known
                                  ? (last + 1) * in->hop
                                  : gw_sample_at_or_after(until_ns, in->spec->rate, in->spec->phase_ns);
        const int64_t from = in->started ? in->end : until;
        const bool first = !in->late;
        gw_input_give_up(in, until);
        if (!first)
            continue;
        gw_log(GW_LOG_WARN, n->name, "%s is late, going on without it", input_name(in));
        if (in->may_lack)
            continue;
        const gw_arrival a = {.hole = {from, (uint64_t)(until - from), GW_GAP_LATE, GW_DQ_ALL}};
        GW_TRY(gw_node_gap(n, i, &a));
    }
    return GW_OK;
}

/* -- hops -------------------------------------------------------------------------------------------- */

/* Whether input i lacks the next hop, or may take a little ahead of it. */
static bool is_lacking(const gw_node *n, const gw_input *in)
{
    return n->hop_known ? in->end < (n->hop_index + 1) * in->hop : !in->started;
}

static bool may_take_ahead(const gw_node *n, const gw_input *in)
{
    const int64_t from = n->hop_known ? (n->hop_index + 1) * in->hop : in->lo;
    return in->ahead && gw_input_known(in) < from + in->ahead;
}

static int take_input(gw_node *n, gw_input *in, bool ahead)
{
    gw_arrival a;
    GW_TRY(gw_input_take(in, n->hop_known ? n->hop_index * in->hop - in->history : INT64_MIN, ahead, &a));
    if (in->late && !a.hole.samples) {
        in->late = false;
        gw_log(GW_LOG_INFO, n->name, "%s is back", input_name(in));
    }
    return in->may_lack ? GW_OK : gw_node_gap(n, (int)(in - n->in), &a);
}

/* Takes what comes on an input that is of no use, so that its producer goes on. */
static int waste(gw_input *in, bool *progress)
{
    gw_arrival a;
    const int err = gw_input_next(in, &a);
    *progress |= err == GW_OK;
    return err == GW_OK ? gw_input_done(in, &a) : err == GW_EAGAIN || err == GW_EEND ? GW_OK : err;
}

/* An input that the others do without has ended: it lacks the next hop no more. */
static void end_early(const gw_node *n, gw_input *in)
{
    in->started = true;
    if (n->hop_known)
        in->end = in->lo = in->hi = in->base = (n->hop_index + 1) * in->hop;
}

/* Hops of all inputs together. */
int gw_node_run_hops(gw_node *n)
{
    for (;;) {
        unsigned lacking = 0, wanted = 0;
        bool progress = false, ended = false;
        for (int i = 0; i < n->n_in; i++) {
            gw_input *in = &n->in[i];
            if (!in->hop) {
                GW_TRY(waste(in, &progress));
                wanted |= (unsigned)!in->ended << i;
                continue;
            }
            const bool lacks = is_lacking(n, in);
            if (!lacks && !may_take_ahead(n, in))
                continue;
            int err = take_input(n, in, !lacks);
            if (err < 0 && err != GW_EAGAIN && err != GW_EEND)
                return err;
            if (lacks && err == GW_EEND && in->may_lack) {
                end_early(n, in);
                continue;
            }
            progress |= err == GW_OK;
            lacking |= (unsigned)lacks << i;
            wanted |= (unsigned)(lacks || !in->has_next) << i;
            ended |= lacks && err == GW_EEND;
        }
        const bool some = n->patience_ns && lacking && lacking != (1u << n->n_in) - 1;
        if (!lacking && !n->hop_known)
            begin_hops(n);
        else if (!lacking)
            GW_TRY(do_hop(n));
        else if (ended) {
            return tell_lost(n); /* some input will never complete this hop */
        } else if (!progress && some && patience_is_over(n, lacking)) {
            GW_TRY(go_on_without(n, lacking));
        } else if (!progress) {
            GW_TRY(tell_lost(n));
            GW_TRY(gw_node_wait(n, wanted));
        }
    }
}
