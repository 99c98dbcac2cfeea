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
#include <unistd.h>
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

/* In slices, between which the links' other ends are heard. */
int gw_env_wait_until(gw_env *env, int64_t data_ns)
{
    gw_node *n = env->node;
    const int64_t due_ns = gw_graph_due_ns(n->graph, data_ns);
    if (due_ns == INT64_MIN)
        return gw_graph_stopping(n->graph) ? GW_ECANCELED : GW_OK;
    const int64_t since_ns = gw_node_tick(n);
    int err = GW_OK;
    for (bool due = false; !due && err == GW_OK;) {
        const int64_t slice_ns = gw_monotonic_ns() + (int64_t)GW_POLL_MS * 1000000;
        due = due_ns <= slice_ns;
        err = gw_graph_sleep_until(n->graph, due ? due_ns : slice_ns);
        if (err == GW_OK) /* also when it is due: what a receiver has said meanwhile lets the next block go at
                             once */
            err = gw_node_pump(n);
    }
    gw_node_waited(n, GW_FOR_DUE, since_ns);
    return err;
}

void gw_env_waited(gw_env *env, int64_t ns)
{
    gw_count_add(&env->node->count.waits[GW_FOR_INPUT], 1);
    gw_count_add(&env->node->count.wait_ns[GW_FOR_INPUT], (uint64_t)ns);
}

int gw_env_emit(gw_env *env, const gw_event *e)
{
    int err = gw_node_emit(env->node, e);
    if (err == GW_EPEER) /* a sink that is gone has said so itself */
        err = GW_OK;
    if (err == GW_OK)
        gw_count_add(&env->node->count.events, 1);
    return err;
}

int gw_env_reached(gw_env *env, int64_t told_ns, bool searched)
{
    const gw_node *n = env->node;
    gw_event e = {.phase = GW_PHASE_REACHED, .told_ns = told_ns, .searched = searched};
    snprintf(e.stream, sizeof e.stream, "%.*s", (int)sizeof e.stream - 1, n->name);
    int err = gw_node_emit(env->node, &e);
    return err == GW_EPEER ? GW_OK : err;
}

int64_t gw_env_late_ns(const gw_env *env)
{
    return env->node->late_ns;
}

void gw_env_gauge(gw_env *env, const char *name, double value)
{
    if (env)
        gw_count_gauge(&env->node->count, name, value);
}

void gw_env_bad_input(gw_env *env, const char *fmt, ...)
{
    char text[512];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    gw_log(GW_LOG_WARN, env->node->name, "%s", text);
    gw_count_add(&env->node->count.bad_inputs, 1);
}

const gw_device *gw_env_device(const gw_env *env)
{
    return env->node->on_device ? env->node->graph->device : NULL;
}

gw_queue *gw_env_queue(const gw_env *env)
{
    return env->node->queue;
}

gw_view gw_arrival_view(const gw_arrival *a)
{
    const gw_header *h = &a->block->hdr;
    return (gw_view){.data = a->block->data,
                     .space = a->block->space,
                     .stride = h->n_samples,
                     .n_samples = h->n_samples,
                     .n_channels = h->n_channels,
                     .sample0 = h->sample0,
                     .dq = h->dq,
                     .flags = h->flags & (GW_FLAG_INJECTION | GW_FLAG_REPLAY),
                     .networks = h->networks,
                     .presence = a->presence,
                     .block = a->block,
                     .due_ns = h->due_ns,
                     .ingest_ns = h->ingest_ns};
}

static uint8_t *all_present(gw_output *o)
{
    return memset(o->presence, 0xff, (o->spec.n_channels + 7) / 8);
}

/* -- stages ------------------------------------------------------------------------------------------ */

/* Tells the outputs that the input up to GPS time `until_ns` brings nothing more. */
int gw_node_lose(gw_node *n, int64_t until_ns, gw_gap_reason reason, uint64_t dq)
{
    for (int o = 0; o < n->n_out; o++) {
        gw_output *out = &n->out[o];
        GW_TRY(gw_output_gap(
            n, out, gw_sample_at_or_before(until_ns - n->plan.delay_ns, out->spec.rate, out->spec.phase_ns),
            reason, dq));
    }
    return GW_OK;
}

int gw_node_send(gw_node *n, gw_output *o, const gw_header *about, const gw_out *out)
{
    if (!out->n_samples)
        return out->lost ? gw_output_gap(n, o, out->lost_until, out->reason, out->dq) : GW_OK;
    gw_header h = {.ingest_ns = 0};
    if (about) {
        h = *about;
    } else {
        h.due_ns = gw_sample_to_ns(out->sample0 + out->n_samples, o->spec.rate, o->spec.phase_ns);
        h.ingest_ns = gw_gps_now_ns();
    }
    h.dq = out->dq;
    h.flags = out->flags;
    h.networks = out->networks;
    return gw_output_samples(n, o, out->sample0, out->n_samples, &h, GW_GAP_HISTORY);
}

int gw_node_step(gw_node *n, const gw_view *view)
{
    gw_out out[GW_MAX_PORTS] = {0};
    gw_header about = {.dq = UINT64_MAX};
    for (int i = 0; i < n->n_in; i++) {
        about.dq &= view[i].dq;
        about.flags |= view[i].flags;
        about.networks ^= view[i].networks;
        about.due_ns = view[i].due_ns > about.due_ns ? view[i].due_ns : about.due_ns;
        about.ingest_ns = view[i].ingest_ns > about.ingest_ns ? view[i].ingest_ns : about.ingest_ns;
    }
    for (int o = 0; o < n->n_out; o++) {
        GW_TRY(gw_output_reserve(n, &n->out[o]));
        out[o] = (gw_out){.data = n->out[o].slab->data,
                          .capacity_samples = n->out[o].spec.block_samples,
                          .dq = about.dq,
                          .flags = about.flags,
                          .networks = about.networks,
                          .presence = all_present(&n->out[o])};
    }
    const int64_t since_ns = gw_node_tick(n);
    int err = n->kind->step(n->self, view, out);
    gw_node_stepped(n, since_ns);
    GW_TRY(err);
    for (int o = 0; o < n->n_out; o++)
        GW_TRY(gw_node_send(n, &n->out[o], &about, &out[o]));
    return GW_OK;
}

/* A stage also hears of it when nothing is missing but the sender has begun anew: a hole of no samples. */
int gw_node_gap(gw_node *n, int port, const gw_arrival *a)
{
    const bool tell = a->hole.samples || (a->anew && n->kind->role == GW_STAGE);
    if (!tell || !n->kind->gap)
        return GW_OK;
    gw_hole hole = a->hole;
    if (!hole.samples)
        hole = (gw_hole){.sample0 = a->block ? a->block->hdr.sample0 : n->in[port < 0 ? 0 : port].end,
                         .dq = GW_DQ_ALL};
    return n->kind->gap(n->self, port, &hole);
}

void gw_node_begin(gw_node *n, const gw_arrival *a)
{
    const int64_t from = a->block ? a->block->hdr.sample0 : a->hole.sample0;
    for (int o = 0; o < n->n_out; o++)
        n->out[o].end =
            gw_sample_at_or_after(gw_input_ns(&n->in[0], from), n->out[o].spec.rate, n->out[o].spec.phase_ns);
}

/* A stage that takes blocks as they come: no copy, no history. */
static int run_blocks(gw_node *n)
{
    gw_input *in = &n->in[0];
    for (;;) {
        gw_arrival a;
        const bool first = !in->started;
        int err = gw_input_next(in, &a);
        if (err == GW_EEND)
            return GW_OK;
        if (err == GW_EAGAIN) {
            GW_TRY(gw_node_wait(n, GW_ALL_INPUTS));
            continue;
        }
        GW_TRY(err);
        if (first)
            gw_node_begin(n, &a);
        err = gw_node_gap(n, 0, &a);
        if (err == GW_OK && a.block) {
            const gw_view v = gw_arrival_view(&a);
            err = gw_node_step(n, &v);
        } else if (err == GW_OK) {
            err = gw_node_lose(n, gw_input_ns(in, in->end), a.hole.reason, a.hole.dq);
        }
        int done = gw_input_done(in, &a);
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
                              .dq = GW_DQ_ALL,
                              .presence = all_present(&n->out[o])};
        }
        GW_TRY(n->kind->drain(n->self, out));
        bool more = false;
        for (int o = 0; o < n->n_out; o++) {
            if (!out[o].n_samples)
                continue;
            more = true;
            GW_TRY(gw_node_send(n, &n->out[o], NULL, &out[o]));
        }
        if (!more)
            break;
    }
    return GW_OK;
}

/* -- sources and sinks ------------------------------------------------------------------------------- */

static uint64_t source_waited_ns(const gw_node *n)
{
    return gw_count_read(&n->count.wait_ns[GW_FOR_DUE]) + gw_count_read(&n->count.wait_ns[GW_FOR_INPUT]);
}

static int next_piece(gw_node *n, int port)
{
    gw_output *o = &n->out[port];
    GW_TRY(gw_output_reserve(n, o));
    gw_piece p = {.data = o->slab->data,
                  .capacity_samples = o->spec.block_samples,
                  .dq = GW_DQ_ALL,
                  .presence = all_present(o)};
    int64_t since_ns = gw_node_tick(n);
    const uint64_t waited_ns = source_waited_ns(n);
    int err = n->kind->next(n->self, port, &p);
    since_ns += (int64_t)(source_waited_ns(n) - waited_ns); /* no work of its own */
    gw_node_stepped(n, since_ns);
    GW_TRY(err);
    if (!o->started)
        o->end = p.sample0;
    if (!n->first_ns)
        n->first_ns = gw_sample_to_ns(p.sample0, o->spec.rate, o->spec.phase_ns);
    if (p.n_samples == 0)
        return gw_output_gap(n, o, p.sample0 + (int64_t)p.gap_samples, p.reason, p.dq);
    const gw_header about = {.dq = p.dq,
                             .flags = p.flags,
                             .networks = p.networks,
                             .ingest_ns = gw_gps_now_ns(),
                             .due_ns =
                                 gw_sample_to_ns(p.sample0 + p.n_samples, o->spec.rate, o->spec.phase_ns)};
    return gw_output_samples(n, o, p.sample0, p.n_samples, &about, GW_GAP_ABSENT);
}

/* The port whose next block is complete first. So ports advance together in stream time: a stage that aligns
 * them never starves on one while the source waits for credit on another, and at real time no port waits
 * for the end of another's longer block. */
static int port_due(const gw_node *n, const bool *done, const bool *idle)
{
    int next = -1;
    int64_t earliest_ns = INT64_MAX;
    for (int port = 0; port < n->n_out; port++) {
        const gw_output *o = &n->out[port];
        if (done[port] || idle[port])
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
    bool done[GW_MAX_PORTS] = {false}, idle[GW_MAX_PORTS] = {false};
    bool some_idle = false;
    while (!gw_graph_stopping(n->graph)) {
        const int port = port_due(n, done, idle);
        if (port < 0 && !some_idle)
            return GW_OK;
        if (port >= 0 && some_idle && !gw_output_try(&n->out[port])) {
            idle[port] = true; /* what it would wait for may be waiting for the port that has nothing */
            continue;
        }
        int err = port < 0 ? gw_node_pump(n) : next_piece(n, port);
        if (err == GW_ECANCELED)
            return GW_OK;
        if (err == GW_EEND) {
            done[port] = true;
            GW_TRY(gw_output_end(&n->out[port]));
        } else if (err != GW_EAGAIN)
            GW_TRY(err);
        some_idle = err == GW_EAGAIN;
        if (some_idle) /* nothing for this port now: the others have their turn */
            idle[port] = true;
        else
            memset(idle, 0, sizeof idle);
    }
    return GW_OK;
}

static int sink_arrival(gw_node *n, int port, const gw_arrival *a)
{
    const gw_input *in = &n->in[port];
    gw_node_reached(n, gw_input_ns(in, a->block ? a->block->hdr.sample0 : a->hole.sample0),
                    gw_input_ns(in, in->end));
    if (!a->block)
        return gw_node_gap(n, port, a);
    const gw_view v = gw_arrival_view(a);
    const int64_t since_ns = gw_node_tick(n);
    int err = n->kind->take(n->self, port, &v);
    gw_node_stepped(n, since_ns);
    return err;
}

/* All events that are there; GW_EEND when no feed can bring more. */
static int sink_events(gw_node *n, bool *progress)
{
    int open = 0;
    for (int i = 0; i < n->n_feeds_in; i++) {
        gw_feed *f = n->feed_in[i];
        gw_event e;
        gw_timebase t;
        int err = GW_EEND;
        while (!f->ended && (err = gw_feed_take(f, &e)) == GW_OK) {
            *progress = true;
            if (!f->from->here && !n->timebase.anchor_wall_ns && gw_receiver_timebase(f->receiver, &t))
                gw_graph_adopt_timebase(n->graph, &t, false);
            const int64_t since_ns = gw_node_tick(n);
            if (e.phase == GW_PHASE_REACHED) {
                err = n->kind->reached ? n->kind->reached(n->self, e.stream, e.told_ns, e.searched) : GW_OK;
            } else if (e.phase == GW_PHASE_BACKGROUND) {
                err = n->kind->background ? n->kind->background(n->self, &e) : GW_OK;
            } else if (e.phase == GW_PHASE_DOUBT) {
                err = n->kind->doubt ? n->kind->doubt(n->self, &e) : GW_OK;
            } else {
                gw_count_add(&n->count.events, 1);
                err = n->kind->event(n->self, &e);
            }
            gw_node_stepped(n, since_ns);
            GW_TRY(err);
        }
        if (err != GW_EAGAIN && err != GW_EEND)
            return err;
        f->ended |= !f->from->here && gw_graph_past_grace(n->graph);
        open += !f->ended;
    }
    return open ? GW_OK : GW_EEND;
}

static int run_sink(gw_node *n)
{
    for (;;) {
        bool progress = false;
        gw_mailbox_serve(&n->mail, n->kind->command, n->self);
        int err = sink_events(n, &progress);
        if (err != GW_EEND)
            GW_TRY(err);
        bool open = err == GW_OK;
        for (int i = 0; i < n->n_in; i++) {
            gw_input *in = &n->in[i];
            gw_arrival a;
            err = gw_input_next(in, &a);
            open |= !in->ended;
            if (err == GW_EAGAIN || err == GW_EEND)
                continue;
            GW_TRY(err);
            progress = true;
            err = sink_arrival(n, i, &a);
            int done = gw_input_done(in, &a);
            GW_TRY(err);
            GW_TRY(done);
        }
        if (!open && !progress)
            return n->kind->drain ? n->kind->drain(n->self, NULL) : GW_OK;
        if (progress)
            continue;
        if (n->kind->idle)
            GW_TRY(n->kind->idle(n->self));
        GW_TRY(gw_node_wait(n, GW_ALL_INPUTS));
    }
}

/* -- a node's life ----------------------------------------------------------------------------------- */

static int work(gw_node *n)
{
    switch (n->kind->role) {
    case GW_SOURCE:
        return run_source(n);
    case GW_SINK:
        return run_sink(n);
    case GW_STAGE:
        if (n->on_device)
            return gw_node_run_flights(n);
        GW_TRY(n->in[0].hop ? gw_node_run_hops(n) : run_blocks(n));
        GW_TRY(drain_stage(n)); /* sinks that wait for its word need not wait until the other inputs end */
        return n->in[0].hop ? gw_node_run_out(n) : GW_OK;
    }
    return GW_EBUG;
}

/* Sinks of samples hang beside the search: without them the rest goes on, and the run fails at its end. */
static bool is_side_branch(const gw_node *n)
{
    return n->kind->role == GW_SINK && n->kind->take;
}

/* A sink that failed takes no more events; each that still comes is at least said. All feeds in turn: one may
 * end only after the producer of another could go on. */
static void mourn_events(gw_node *n)
{
    for (bool open = true; open;) {
        int items = 0;
        bool progress = false;
        open = false;
        for (int i = 0; i < n->n_feeds_in; i++) {
            gw_feed *f = n->feed_in[i];
            if (f->ended)
                continue;
            gw_event e;
            int err = gw_feed_take(f, &e);
            if (err == GW_OK && e.phase < GW_PHASE_INJECTION)
                gw_log(GW_LOG_ERROR, n->name,
                       "not taken after the failure: event %s %s, GPS %.3f, statistic %.3f", e.id,
                       gw_phase_text(e.phase), (double)e.gps_ns / 1e9, e.statistic);
            else if (err == GW_EAGAIN)
                f->ended |= !f->from->here && gw_graph_past_grace(n->graph);
            else if (err != GW_OK)
                f->ended = true;
            open |= !f->ended;
            progress |= err == GW_OK;
            if (!f->ended)
                items += gw_receiver_poll(f->receiver, n->item + items, n->max_items - items);
        }
        if (open && !progress)
            (void)zmq_poll(n->item, items, GW_POLL_MS);
    }
}

static void close_stage(gw_node *n)
{
    if (n->kind->close)
        n->kind->close(n->self);
}

static void close_inputs(gw_node *n)
{
    for (int i = 0; i < n->n_in; i++)
        gw_input_close(&n->in[i]);
    mourn_events(n);
    for (int i = 0; i < n->n_feeds_in; i++)
        gw_receiver_close(&n->feed_in[i]->receiver);
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
    n->opened_ns = gw_monotonic_ns();
    atomic_store_explicit(&n->count.tid, (int)gettid(), memory_order_relaxed);
    gw_placement_fit(&n->place, n->name);
    gw_placement_apply(&n->place, n->name);
    for (int o = 0; o < n->n_out; o++)
        if (n->out[o].space == GW_SPACE_HOST || n->out[o].space == GW_SPACE_SHARED)
            gw_placement_move_pool(&n->place, n->name, n->out[o].pool);
    int err = gw_node_open_links(n);
    if (err == GW_OK)
        err = gw_node_open_flights(n);
    if (err == GW_OK && n->kind->open)
        err = n->kind->open(n->self, &n->env);
    if (err != GW_OK)
        gw_graph_fail(n->graph, n, err, false);
    const bool keeps = n->kind->role == GW_SINK || (n->n_in && n->in[0].keep);
    bool closed = false;
    if (gw_graph_opened(n->graph, err == GW_OK)) {
        err = work(n);
        if (err != GW_OK && err != GW_EPEER && err != GW_ECANCELED)
            gw_graph_fail(n->graph, n, err, is_side_branch(n));
        gw_mailbox_close(&n->mail);
        gw_node_ground_flights(n);
        if (keeps) /* first, for it may still hold on to blocks: they are worked off now */
            close_stage(n);
        closed = keeps;
        /* Inputs first: a producer may be waiting for this BYE while we wait for our own. */
        close_inputs(n);
        for (int o = 0; o < n->n_out; o++)
            gw_block_unref(&n->out[o].slab);
        err = gw_node_goodbye(n);
        if (err != GW_OK)
            gw_graph_fail(n->graph, n, err, false);
    }
    if (!closed)
        close_stage(n);
    gw_node_close_flights(n);
    gw_node_close_links(n);
    return NULL;
}
