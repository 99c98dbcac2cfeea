/* SPDX-License-Identifier: GPL-3.0-or-later
 * The one runner. Each node of a graph runs gw_node_run in a thread of its own: open its links, open the
 * stage, meet the others, then turn messages into next / step / take / event / gap until the streams
 * end, drain, and take leave of its neighbours. Stages know nothing of all this. */
#include "pipeline/log.h"
#include "pipeline/node.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <zmq.h>

/* -- what a stage may ask for ------------------------------------------------------------------------ */

const char *gw_env_name(const gw_env *env)
{
    return env->node->name;
}

uint64_t gw_env_run_id(const gw_env *env)
{
    return gw_graph_run_id(env->node->graph);
}

void gw_env_start(gw_env *env, double pace, int64_t data_ns)
{
    gw_graph_set_timebase(env->node->graph, pace, data_ns);
}

gw_timebase gw_env_timebase(const gw_env *env)
{
    return gw_graph_timebase(env->node->graph);
}

int gw_env_wait_until(gw_env *env, int64_t data_ns)
{
    const gw_timebase t = gw_graph_timebase(env->node->graph);
    if (t.pace <= 0)
        return gw_graph_stopping(env->node->graph) ? GW_ECANCELED : GW_OK;
    const double ahead_ns = (double)(data_ns - t.anchor_data_ns) / t.pace;
    return gw_graph_sleep_until(env->node->graph, t.anchor_wall_ns + (int64_t)ahead_ns);
}

int gw_env_emit(gw_env *env, const gw_event *e)
{
    gw_node *n = env->node;
    for (int i = 0; i < n->n_feeds_out; i++) {
        int err = gw_feed_send(n->feed_out[i], e);
        if (err != GW_EPEER) /* a sink that is gone has said so itself */
            GW_TRY(err);
    }
    if (e->phase != GW_PHASE_END)
        atomic_fetch_add_explicit(&n->count.events, 1, memory_order_relaxed);
    return GW_OK;
}

void gw_env_bad_input(gw_env *env, const char *fmt, ...)
{
    char text[512];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    gw_log(GW_LOG_WARN, env->node->name, "%s", text);
    atomic_fetch_add_explicit(&env->node->count.bad_inputs, 1, memory_order_relaxed);
}

/* A message as a stage sees it. */
static gw_hole hole_of(const gw_block *b)
{
    const gw_header *h = &b->hdr;
    return (gw_hole){.sample0 = h->sample0,
                     .samples = h->gap_samples,
                     .reason = (gw_gap_reason)h->gap_reason,
                     .dq = h->dq};
}

static gw_view view_of(const gw_block *b)
{
    const gw_header *h = &b->hdr;
    return (gw_view){.data = b->data,
                     .stride = h->n_samples,
                     .n_samples = h->n_samples,
                     .n_channels = h->n_channels,
                     .sample0 = h->sample0,
                     .dq = h->dq,
                     .flags = h->flags & (GW_FLAG_INJECTION | GW_FLAG_REPLAY),
                     .due_ns = h->due_ns,
                     .ingest_ns = h->ingest_ns};
}

/* -- stages ------------------------------------------------------------------------------------------ */

static int64_t hop_end_ns(const gw_node *n, int64_t hop)
{
    const gw_input *in = &n->in[0];
    return gw_sample_to_ns((hop + 1) * in->hop, in->spec->rate, in->spec->phase_ns);
}

/* Tells the outputs that the input up to GPS time `until_ns` brings nothing more. */
static int lose_until(gw_node *n, int64_t until_ns, gw_gap_reason reason, uint64_t dq)
{
    for (int o = 0; o < n->n_out; o++) {
        gw_output *out = &n->out[o];
        GW_TRY(gw_output_gap(
            n, out, gw_sample_at_or_before(until_ns - n->plan.delay_ns, out->spec.rate, out->spec.phase_ns),
            reason, dq));
    }
    return GW_OK;
}

static int tell_lost(gw_node *n)
{
    if (n->lost_until_hop == INT64_MIN)
        return GW_OK;
    const int64_t hop = n->lost_until_hop;
    n->lost_until_hop = INT64_MIN;
    return lose_until(n, hop_end_ns(n, hop), n->lost_reason, n->lost_dq);
}

static int call_step(gw_node *n, const gw_view *view)
{
    gw_out out[GW_MAX_PORTS] = {0};
    gw_header about = {.dq = UINT64_MAX};
    for (int i = 0; i < n->n_in; i++) {
        about.dq &= view[i].dq;
        about.flags |= view[i].flags;
        about.due_ns = view[i].due_ns > about.due_ns ? view[i].due_ns : about.due_ns;
        about.ingest_ns = view[i].ingest_ns > about.ingest_ns ? view[i].ingest_ns : about.ingest_ns;
    }
    for (int o = 0; o < n->n_out; o++) {
        GW_TRY(gw_output_reserve(n, &n->out[o]));
        out[o] = (gw_out){.data = n->out[o].slab->data,
                          .capacity_samples = n->out[o].spec.block_samples,
                          .dq = about.dq,
                          .flags = about.flags};
    }
    int err = n->kind->step(n->self, view, out);
    GW_TRY(err);
    for (int o = 0; o < n->n_out; o++) {
        about.dq = out[o].dq;
        about.flags = out[o].flags;
        if (out[o].n_samples)
            GW_TRY(
                gw_output_samples(n, &n->out[o], out[o].sample0, out[o].n_samples, &about, GW_GAP_HISTORY));
        else if (out[o].lost)
            GW_TRY(gw_output_gap(n, &n->out[o], out[o].lost_until, out[o].reason, out[o].dq));
    }
    return GW_OK;
}

static int call_gap(gw_node *n, int port, const gw_hole *hole)
{
    if (!hole->samples || !n->kind->gap)
        return GW_OK;
    return n->kind->gap(n->self, port, hole);
}

/* One hop of all inputs is there, whole or not. */
static int do_hop(gw_node *n)
{
    const int64_t h = n->hop_index++;
    gw_view view[GW_MAX_PORTS];
    for (int i = 0; i < n->n_in; i++) {
        gw_input *in = &n->in[i];
        const int64_t from = h * in->hop;
        if (!gw_input_has(in, from - in->history, from + in->hop)) {
            n->lost_until_hop = h;
            n->lost_reason = in->lo > from ? in->reason : GW_GAP_HISTORY;
            n->lost_dq = GW_DQ_ALL;
            return GW_OK;
        }
        gw_input_view(in, from, in->hop, &view[i]);
    }
    GW_TRY(tell_lost(n));
    return call_step(n, view);
}

/* The first hop that lies wholly in every input. */
static void begin_hops(gw_node *n)
{
    for (int i = 0; i < n->n_in; i++) {
        const gw_input *in = &n->in[i];
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
static int run_out(gw_node *n)
{
    for (;;) {
        bool progress = false, open = false;
        for (int i = 0; i < n->n_in; i++) {
            gw_input *in = &n->in[i];
            gw_block *b;
            int err = in->ended ? GW_EEND : gw_input_next(in, &b);
            open |= !in->ended;
            if (err == GW_EEND || err == GW_EAGAIN)
                continue;
            GW_TRY(err);
            progress = true;
            GW_TRY(gw_receiver_done(in->link, &b));
        }
        if (!open)
            return GW_OK;
        if (!progress)
            GW_TRY(gw_node_wait(n, GW_ALL_INPUTS));
    }
}

/* Hops of all inputs together. */
static int run_hops(gw_node *n)
{
    for (;;) {
        unsigned lacking = 0;
        bool progress = false, ended = false;
        for (int i = 0; i < n->n_in; i++) {
            gw_input *in = &n->in[i];
            if (n->hop_known ? in->end >= (n->hop_index + 1) * in->hop : in->started)
                continue;
            lacking |= 1u << i;
            gw_hole hole;
            int err =
                gw_input_take(in, n->hop_known ? n->hop_index * in->hop - in->history : INT64_MIN, &hole);
            if (err == GW_OK)
                GW_TRY(call_gap(n, n->n_in > 1 ? -1 : 0, &hole));
            else if (err != GW_EAGAIN && err != GW_EEND)
                return err;
            progress |= err == GW_OK;
            ended |= err == GW_EEND;
        }
        if (!lacking && !n->hop_known)
            begin_hops(n);
        else if (!lacking)
            GW_TRY(do_hop(n));
        else if (ended) {
            GW_TRY(tell_lost(n)); /* some input will never complete this hop */
            return run_out(n);
        } else if (!progress) {
            GW_TRY(tell_lost(n));
            GW_TRY(gw_node_wait(n, lacking));
        }
    }
}

/* A stage that takes blocks as they come: no copy, no history. */
static int run_blocks(gw_node *n)
{
    gw_input *in = &n->in[0];
    for (;;) {
        gw_block *b;
        const bool first = !in->started;
        int err = gw_input_next(in, &b);
        if (err == GW_EEND)
            return GW_OK;
        if (err == GW_EAGAIN) {
            GW_TRY(gw_node_wait(n, GW_ALL_INPUTS));
            continue;
        }
        GW_TRY(err);
        const gw_header *h = &b->hdr;
        if (first)
            for (int o = 0; o < n->n_out; o++)
                n->out[o].end =
                    gw_sample_at_or_after(gw_sample_to_ns(h->sample0, in->spec->rate, in->spec->phase_ns),
                                          n->out[o].spec.rate, n->out[o].spec.phase_ns);
        if (h->flags & GW_FLAG_GAP) {
            const gw_hole hole = hole_of(b);
            err = call_gap(n, 0, &hole);
            if (err == GW_OK)
                err = lose_until(
                    n,
                    gw_sample_to_ns(h->sample0 + (int64_t)h->gap_samples, in->spec->rate, in->spec->phase_ns),
                    hole.reason, h->dq);
        } else {
            const gw_view v = view_of(b);
            err = call_step(n, &v);
        }
        int done = gw_receiver_done(in->link, &b);
        GW_TRY(err);
        GW_TRY(done);
    }
}

static int drain_stage(gw_node *n)
{
    while (n->kind->drain) {
        gw_out out[GW_MAX_PORTS] = {0};
        for (int o = 0; o < n->n_out; o++) {
            GW_TRY(gw_output_reserve(n, &n->out[o]));
            out[o] = (gw_out){.data = n->out[o].slab->data,
                              .capacity_samples = n->out[o].spec.block_samples,
                              .dq = GW_DQ_ALL};
        }
        GW_TRY(n->kind->drain(n->self, out));
        bool more = false;
        for (int o = 0; o < n->n_out; o++) {
            if (!out[o].n_samples)
                continue;
            more = true;
            const gw_header about = {.dq = out[o].dq,
                                     .flags = out[o].flags,
                                     .due_ns = gw_sample_to_ns(out[o].sample0 + out[o].n_samples,
                                                               n->out[o].spec.rate, n->out[o].spec.phase_ns),
                                     .ingest_ns = gw_gps_now_ns()};
            GW_TRY(
                gw_output_samples(n, &n->out[o], out[o].sample0, out[o].n_samples, &about, GW_GAP_HISTORY));
        }
        if (!more)
            break;
    }
    return GW_OK;
}

/* -- sources and sinks ------------------------------------------------------------------------------- */

static int next_piece(gw_node *n, int port)
{
    gw_output *o = &n->out[port];
    GW_TRY(gw_output_reserve(n, o));
    gw_piece p = {.data = o->slab->data, .capacity_samples = o->spec.block_samples, .dq = GW_DQ_ALL};
    GW_TRY(n->kind->next(n->self, port, &p));
    if (!o->started)
        o->end = p.sample0;
    if (!n->first_ns)
        n->first_ns = gw_sample_to_ns(p.sample0, o->spec.rate, o->spec.phase_ns);
    if (p.n_samples == 0)
        return gw_output_gap(n, o, p.sample0 + (int64_t)p.gap_samples, p.reason, p.dq);
    const gw_header about = {.dq = p.dq,
                             .flags = p.flags,
                             .ingest_ns = gw_gps_now_ns(),
                             .due_ns =
                                 gw_sample_to_ns(p.sample0 + p.n_samples, o->spec.rate, o->spec.phase_ns)};
    return gw_output_samples(n, o, p.sample0, p.n_samples, &about, GW_GAP_ABSENT);
}

/* The port whose next block is complete first. So ports advance together in stream time: a stage that aligns
 * them never starves on one while the source waits for credit on another, and at real time no port waits
 * for the end of another's longer block. */
static int port_due(const gw_node *n, const bool *done)
{
    int next = -1;
    int64_t earliest_ns = INT64_MAX;
    for (int port = 0; port < n->n_out; port++) {
        const gw_output *o = &n->out[port];
        if (done[port])
            continue;
        const int64_t block = o->spec.block_samples;
        const int64_t at =
            o->started ? o->end : gw_sample_at_or_after(n->first_ns, o->spec.rate, o->spec.phase_ns);
        const int64_t ns = gw_sample_to_ns((at / block + 1) * block, o->spec.rate, o->spec.phase_ns);
        if (ns < earliest_ns) {
            earliest_ns = ns;
            next = port;
        }
    }
    return next;
}

static int run_source(gw_node *n)
{
    bool done[GW_MAX_PORTS] = {false};
    for (int port; (port = port_due(n, done)) >= 0 && !gw_graph_stopping(n->graph);) {
        int err = next_piece(n, port);
        if (err == GW_EEND)
            done[port] = true;
        else if (err == GW_ECANCELED)
            return GW_OK;
        else
            GW_TRY(err);
    }
    return GW_OK;
}

static int sink_block(gw_node *n, int port, const gw_block *b)
{
    const gw_header *h = &b->hdr;
    const gw_input *in = &n->in[port];
    atomic_store_explicit(&n->count.data_ns,
                          gw_sample_to_ns(h->sample0 + h->n_samples + (int64_t)h->gap_samples, in->spec->rate,
                                          in->spec->phase_ns),
                          memory_order_relaxed);
    if (h->flags & GW_FLAG_GAP) {
        const gw_hole hole = hole_of(b);
        return call_gap(n, port, &hole);
    }
    const gw_view v = view_of(b);
    return n->kind->take(n->self, port, &v);
}

static int run_sink(gw_node *n)
{
    for (;;) {
        bool progress = false, open = n->feeds_in > 0;
        gw_event e;
        while (n->feed_in && n->feeds_in > 0) {
            int err = gw_feed_take(n->feed_in, &e);
            if (err == GW_EAGAIN)
                break;
            GW_TRY(err);
            progress = true;
            if (e.phase == GW_PHASE_END) {
                n->feeds_in--;
                continue;
            }
            atomic_fetch_add_explicit(&n->count.events, 1, memory_order_relaxed);
            GW_TRY(n->kind->event(n->self, &e));
        }
        for (int i = 0; i < n->n_in; i++) {
            gw_input *in = &n->in[i];
            if (in->ended)
                continue;
            gw_block *b;
            int err = gw_input_next(in, &b);
            open |= !in->ended;
            if (err == GW_EAGAIN || err == GW_EEND)
                continue;
            GW_TRY(err);
            progress = true;
            err = sink_block(n, i, b);
            int done = gw_receiver_done(in->link, &b);
            GW_TRY(err);
            GW_TRY(done);
        }
        if (!open && !progress)
            return n->kind->drain ? n->kind->drain(n->self, NULL) : GW_OK;
        if (!progress)
            GW_TRY(gw_node_wait(n, GW_ALL_INPUTS));
    }
}

/* -- a node's life ----------------------------------------------------------------------------------- */

static int open_links(gw_node *n)
{
    void *zmq = gw_graph_zmq(n->graph);
    for (int i = 0; i < n->n_in; i++)
        GW_TRY(gw_input_open(&n->in[i], zmq));
    for (int o = 0; o < n->n_out; o++) {
        for (int k = 0; k < n->out[o].n_links; k++) {
            struct gw_output_link *l = &n->out[o].link[k];
            const gw_link_conf c = {.zmq = zmq,
                                    .address = l->to->address,
                                    .spec = &n->out[o].spec,
                                    .credit = l->to->credit,
                                    .on_full = l->to->on_full,
                                    .gaps = l->gaps};
            GW_TRY(gw_sender_open(&l->link, &c));
        }
    }
    for (int i = 0; i < n->n_feeds_out; i++)
        GW_TRY(gw_feed_push_open(&n->feed_out[i], zmq, n->feed_out_address[i]));
    if (n->feeds_in)
        GW_TRY(gw_feed_pull_open(&n->feed_in, zmq, n->feed_in_address));
    return GW_OK;
}

static int work(gw_node *n)
{
    switch (n->kind->role) {
    case GW_SOURCE:
        return run_source(n);
    case GW_SINK:
        return run_sink(n);
    case GW_STAGE:
        GW_TRY(n->in[0].hop ? run_hops(n) : run_blocks(n));
        return drain_stage(n);
    }
    return GW_EBUG;
}

/* Sinks of samples hang beside the search: without them the rest goes on, and the run fails at its end. */
static bool is_side_branch(const gw_node *n)
{
    return n->kind->role == GW_SINK && n->kind->take;
}

/* A sink that failed takes no more events; each that still comes is at least said. */
static void mourn_events(gw_node *n)
{
    while (n->feed_in && n->feeds_in > 0) {
        gw_event e;
        int err = gw_feed_take(n->feed_in, &e);
        if (err == GW_EAGAIN) {
            zmq_pollitem_t item = {.socket = n->feed_in, .events = ZMQ_POLLIN};
            (void)zmq_poll(&item, 1, GW_POLL_MS);
        } else if (err != GW_OK) {
            return;
        } else if (e.phase == GW_PHASE_END) {
            n->feeds_in--;
        } else if (e.phase != GW_PHASE_INJECTION) {
            gw_log(GW_LOG_ERROR, n->name,
                   "not taken after the failure: event %s %s, GPS %.3f, statistic %.3f", e.id,
                   gw_phase_text(e.phase), (double)e.gps_ns / 1e9, e.statistic);
        }
    }
}

void *gw_node_run(void *arg)
{
    gw_node *n = arg;
    char thread_name[16];
    snprintf(thread_name, sizeof thread_name, "%.15s", n->name);
    pthread_setname_np(pthread_self(), thread_name);
    gw_err_clear();
    n->env.node = n;
    n->lost_until_hop = INT64_MIN;
    int err = open_links(n);
    if (err == GW_OK && n->kind->open)
        err = n->kind->open(n->self, &n->env);
    if (err != GW_OK)
        gw_graph_fail(n->graph, n, err, false);
    if (gw_graph_opened(n->graph, err == GW_OK)) {
        err = work(n);
        if (err != GW_OK && err != GW_EPEER && err != GW_ECANCELED)
            gw_graph_fail(n->graph, n, err, is_side_branch(n));
        const gw_event end = {.phase = GW_PHASE_END};
        (void)gw_env_emit(&n->env, &end);
        /* Inputs first: a producer may be waiting for this BYE while we wait for our own. */
        for (int i = 0; i < n->n_in; i++)
            gw_input_close(&n->in[i]);
        for (int o = 0; o < n->n_out; o++)
            gw_block_unref(&n->out[o].slab);
        mourn_events(n);
        err = gw_node_goodbye(n);
        if (err != GW_OK)
            gw_graph_fail(n->graph, n, err, false);
    }
    if (n->kind->close)
        n->kind->close(n->self);
    for (int i = 0; i < n->n_in; i++)
        if (n->in[i].link)
            gw_input_close(&n->in[i]);
    for (int o = 0; o < n->n_out; o++)
        for (int k = 0; k < n->out[o].n_links; k++)
            gw_sender_close(&n->out[o].link[k].link);
    for (int i = 0; i < n->n_feeds_out; i++)
        gw_feed_close(&n->feed_out[i]);
    gw_feed_close(&n->feed_in);
    return NULL;
}
