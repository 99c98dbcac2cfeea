/* SPDX-License-Identifier: GPL-3.0-or-later
 * What a node sends: opening its links, waiting for messages and credits, reserving slabs, sending samples
 * and the GAPs between them, events, and the leave-taking at the end. Called by runner.c, in the node's own
 * thread. */
#include "pipeline/log.h"
#include "pipeline/node.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static size_t presence_bytes(const gw_output *o)
{
    return (o->spec.n_channels + 7) / 8;
}

/* -- open -------------------------------------------------------------------------------------------- */

static gw_link_conf link_conf(gw_node *n)
{
    return (gw_link_conf){
        .zmq = gw_graph_zmq(n->graph), .session = gw_graph_run_id(n->graph), .timebase = &n->timebase};
}

static int open_output(gw_node *n, gw_output *o)
{
    o->presence = malloc(presence_bytes(o));
    if (!o->presence)
        return gw_fail(GW_ENOMEM, "stream %s", o->spec.name);
    for (int k = 0; k < o->n_links; k++) {
        struct gw_output_link *l = &o->link[k];
        gw_link_conf c = link_conf(n);
        c.spec = &o->spec;
        c.credit = l->to->credit;
        c.on_full = l->to->on_full;
        c.pool = o->pool;
        c.gaps = l->gaps;
        c.counts = &l->count;
        gw_route_conf(&l->to->route, true, l->to->node->here, &c);
        GW_TRY(gw_sender_open(&l->link, &c));
    }
    return GW_OK;
}

/* A link's end has a socket a lane, and for shm the door where its memory is fetched. */
enum { ITEMS_A_LINK = GW_MAX_LANES + 2 };

int gw_node_open_links(gw_node *n)
{
    int ends = n->n_in + n->n_feeds_in + n->n_feeds_out;
    for (int o = 0; o < n->n_out; o++)
        ends += n->out[o].n_links;
    n->max_items = ends * ITEMS_A_LINK;
    n->item = calloc((size_t)n->max_items + 1, sizeof *n->item);
    if (!n->item)
        return gw_fail(GW_ENOMEM, "%s: links", n->name);
    for (int i = 0; i < n->n_in; i++) {
        n->in[i].meter = &n->meter;
        GW_TRY(gw_input_open(&n->in[i]));
    }
    for (int o = 0; o < n->n_out; o++)
        GW_TRY(open_output(n, &n->out[o]));
    for (int i = 0; i < n->n_feeds_out; i++) {
        gw_feed *f = n->feed_out[i];
        gw_link_conf c = link_conf(n);
        gw_route_conf(&f->route, true, f->to->here, &c);
        GW_TRY(gw_feed_open_sender(f, &c));
    }
    for (int i = 0; i < n->n_feeds_in; i++) {
        gw_feed *f = n->feed_in[i];
        gw_link_conf c = link_conf(n);
        gw_route_conf(&f->route, false, f->from->here, &c);
        GW_TRY(gw_feed_open_receiver(f, &c));
    }
    return GW_OK;
}

void gw_node_close_links(gw_node *n)
{
    for (int i = 0; i < n->n_in; i++)
        gw_input_close(&n->in[i]);
    for (int o = 0; o < n->n_out; o++) {
        for (int k = 0; k < n->out[o].n_links; k++)
            gw_sender_close(&n->out[o].link[k].link);
        free(n->out[o].presence);
        n->out[o].presence = NULL;
    }
    for (int i = 0; i < n->n_feeds_out; i++)
        gw_sender_close(&n->feed_out[i]->sender);
    for (int i = 0; i < n->n_feeds_in; i++)
        gw_receiver_close(&n->feed_in[i]->receiver);
    free(n->item);
    n->item = NULL;
}

/* -- waiting ----------------------------------------------------------------------------------------- */

/* A receiver that gave up (a recorder on a full disk) is no reason to stop: what would go there is discarded.
 * GW_EPEER only when nobody at all is left to work for. */
static int without(gw_node *n, bool *gone, int err)
{
    if (err != GW_EPEER)
        return err;
    *gone = true;
    for (int o = 0; o < n->n_out; o++)
        for (int k = 0; k < n->out[o].n_links; k++)
            if (!n->out[o].link[k].gone)
                return GW_OK;
    for (int i = 0; i < n->n_feeds_out; i++)
        if (!n->feed_out[i]->gone)
            return GW_OK;
    return GW_EPEER;
}

/* For the links, which tell it to the other processes. */
static void learn_timebase(gw_node *n)
{
    if (!n->timebase.anchor_wall_ns)
        (void)gw_graph_knows_timebase(n->graph, &n->timebase);
}

/* A run that is being stopped waits for no receiver that has left or died: its sources have ended already,
 * and what they feed must be able to follow. */
static void leave_the_deserted(gw_node *n, gw_sender *s, const gw_route *r, const char *what)
{
    if (!gw_sender_deserted(s))
        return;
    const uint64_t lost = gw_sender_abandon(s);
    gw_log(GW_LOG_WARN, n->name,
           "stopped while node %s was not there: %" PRIu64 " blocks of %s did not reach it", r->to->name,
           lost, what);
}

/* Hears what the receiver says; *gone once there is none to work for. */
static int pump_link(gw_node *n, gw_sender *s, bool *gone, const gw_route *r, const char *what)
{
    if (*gone)
        return GW_OK;
    int err = gw_sender_pump(s);
    if (err == GW_OK && gw_graph_stopping(n->graph)) {
        leave_the_deserted(n, s, r, what);
        err = gw_sender_pump(s);
    }
    return without(n, gone, err);
}

int gw_node_pump(gw_node *n)
{
    learn_timebase(n);
    for (int o = 0; o < n->n_out; o++)
        for (int k = 0; k < n->out[o].n_links; k++) {
            struct gw_output_link *l = &n->out[o].link[k];
            GW_TRY(pump_link(n, l->link, &l->gone, &l->to->route, n->out[o].spec.name));
        }
    for (int i = 0; i < n->n_feeds_out; i++) {
        gw_feed *f = n->feed_out[i];
        GW_TRY(pump_link(n, f->sender, &f->gone, &f->route, "events"));
    }
    for (int i = 0; i < n->n_in; i++)
        if (n->in[i].link && !n->in[i].from->here)
            GW_TRY(gw_receiver_beat(n->in[i].link));
    return GW_OK;
}

static int poll_outputs(gw_node *n, int count)
{
    for (int o = 0; o < n->n_out; o++)
        for (int k = 0; k < n->out[o].n_links; k++)
            if (!n->out[o].link[k].gone)
                count += gw_sender_poll(n->out[o].link[k].link, n->item + count, n->max_items - count);
    for (int i = 0; i < n->n_feeds_out; i++)
        if (!n->feed_out[i]->gone)
            count += gw_sender_poll(n->feed_out[i]->sender, n->item + count, n->max_items - count);
    return count;
}

/* Somebody who waits in vain for another process wants to know for which. */
static void say_waiting(gw_node *n)
{
    const gw_route *r = NULL;
    const char *what = NULL;
    for (int i = 0; i < n->n_in; i++)
        if (!n->in[i].from->here && !gw_receiver_session(n->in[i].link)) {
            r = &n->in[i].route;
            what = n->in[i].spec->name;
        }
    if (n->said_waiting || !r || gw_monotonic_ns() - n->opened_ns < 5 * GW_SECOND_NS)
        return;
    n->said_waiting = true;
    gw_log(GW_LOG_WARN, n->name, "nothing yet from node %s (%s, %s); does it run?", r->from->name, what,
           r->address);
}

int gw_node_wait(gw_node *n, unsigned inputs)
{
    int count = 0;
    for (int i = 0; i < n->n_in; i++)
        if (inputs >> i & 1 && !n->in[i].ended)
            count += gw_receiver_poll(n->in[i].link, n->item + count, n->max_items - count);
    for (int i = 0; inputs && i < n->n_feeds_in; i++)
        if (!n->feed_in[i]->ended)
            count += gw_receiver_poll(n->feed_in[i]->receiver, n->item + count, n->max_items - count);
    count = poll_outputs(n, count);
    const int wait_ms = n->waiting_since_ns ? GW_POLL_MS / 10 : GW_POLL_MS;
    const int64_t since_ns = gw_node_tick(n);
    if (zmq_poll(n->item, count, wait_ms) < 0 && zmq_errno() != EINTR)
        return gw_fail(GW_ESYSTEM, "poll: %s", zmq_strerror(zmq_errno()));
    gw_node_waited(n, inputs ? GW_FOR_INPUT : n->blocked, since_ns);
    if (inputs)
        say_waiting(n);
    return gw_node_pump(n);
}

/* -- outputs ----------------------------------------------------------------------------------------- */

static bool output_ready(const gw_output *o)
{
    for (int k = 0; k < o->n_links; k++)
        if (!gw_sender_ready(o->link[k].link))
            return false;
    return true;
}

bool gw_output_try(gw_output *o)
{
    return o->slab || (output_ready(o) && gw_pool_take(o->pool, &o->slab) == GW_OK);
}

/* The same for one that takes nothing: a wait without end is visible. */
static void say_blocked(gw_node *n, const gw_output *o, int64_t since_ns)
{
    for (int k = 0; k < o->n_links && !n->said_blocked; k++) {
        const struct gw_output_link *l = &o->link[k];
        if (!l->to->route.across || l->gone || gw_sender_ready(l->link) ||
            gw_monotonic_ns() - since_ns < 5 * GW_SECOND_NS)
            continue;
        n->said_blocked = true;
        gw_log(GW_LOG_WARN, n->name, "waits: node %s takes nothing of %s (%s)", l->to->route.to->name,
               o->spec.name, l->to->route.address);
    }
}

/* A slab to write and the credit to send it. */
int gw_output_reserve(gw_node *n, gw_output *o)
{
    const int64_t since_ns = o->slab ? 0 : gw_monotonic_ns();
    while (!o->slab) {
        const bool ready = output_ready(o);
        if (ready && gw_pool_take(o->pool, &o->slab) == GW_OK)
            break;
        n->blocked = ready ? GW_FOR_SLAB : GW_FOR_CREDIT;
        GW_TRY(gw_node_wait(n, 0));
        say_blocked(n, o, since_ns);
    }
    if (n->said_blocked)
        gw_log(GW_LOG_INFO, n->name, "goes on");
    n->said_blocked = false;
    return GW_OK;
}

int gw_output_allow(gw_node *n, gw_output *o)
{
    n->blocked = GW_FOR_CREDIT;
    while (!output_ready(o))
        GW_TRY(gw_node_wait(n, 0));
    return GW_OK;
}

/* The channels' presence behind the samples, where one is absent. */
static void add_presence(gw_output *o)
{
    gw_header *h = &o->slab->hdr;
    const size_t bytes = presence_bytes(o);
    bool all = true;
    for (size_t i = 0; i + 1 < bytes; i++)
        all &= o->presence[i] == 0xff;
    for (uint32_t c = (uint32_t)(bytes - 1) * 8; c < o->spec.n_channels; c++)
        all &= gw_present(o->presence, c);
    if (all)
        return;
    h->presence_offset = (uint32_t)h->payload_bytes;
    h->presence_bytes = (uint32_t)bytes;
    uint8_t *tail = o->slab->tail ? o->slab->tail : (uint8_t *)o->slab->data + h->payload_bytes;
    memcpy(tail, o->presence, bytes);
}

static int give(gw_node *n, gw_output *o)
{
    gw_block *b = o->slab;
    o->slab = NULL;
    learn_timebase(n);
    b->hdr.stream_id = o->spec.stream_id;
    b->hdr.dtype = (uint8_t)o->spec.dtype;
    b->hdr.run_id = gw_graph_run_id(n->graph);
    b->hdr.seq = o->seq++;
    gw_block_seal(b);
    int err = GW_OK;
    for (int k = 0; k < o->n_links; k++) {
        struct gw_output_link *l = &o->link[k];
        if (l->gone)
            continue;
        gw_block_ref(b);
        int e = without(n, &l->gone, gw_sender_give(l->link, b));
        err = err == GW_OK ? e : err;
        atomic_store_explicit(&l->dropped, gw_sender_dropped(l->link), memory_order_relaxed);
    }
    gw_node_reached(n, gw_sample_to_ns(b->hdr.sample0, o->spec.rate, o->spec.phase_ns),
                    gw_sample_to_ns(o->end, o->spec.rate, o->spec.phase_ns));
    gw_block_unref(&b);
    return err;
}

/* Everything up to `until` that was not sent is a hole. */
int gw_output_gap(gw_node *n, gw_output *o, int64_t until, gw_gap_reason reason, uint64_t dq)
{
    if (until <= o->end)
        return GW_OK;
    GW_TRY(gw_output_reserve(n, o));
    gw_header *h = &o->slab->hdr;
    h->flags = GW_FLAG_GAP;
    h->sample0 = o->end;
    h->gap_samples = (uint64_t)(until - o->end);
    h->gap_reason = reason;
    h->dq = dq;
    h->due_ns = gw_sample_to_ns(until, o->spec.rate, o->spec.phase_ns);
    h->ingest_ns = gw_gps_now_ns();
    atomic_fetch_add_explicit(&o->gap_samples[reason], h->gap_samples, memory_order_relaxed);
    o->started = true;
    o->end = until;
    return give(n, o);
}

/* Sends the reserved slab with n_samples from sample0, after the hole before it if there is one. */
int gw_output_samples(gw_node *n, gw_output *o, int64_t sample0, uint32_t n_samples, const gw_header *about,
                      gw_gap_reason before)
{
    if (o->seq == 0 && sample0 < o->end)
        o->end = sample0; /* nothing was sent yet: the stream begins where its first block does */
    if (sample0 > o->end) {
        gw_block *filled = o->slab;
        o->slab = NULL;
        int err = gw_output_gap(n, o, sample0, before, about->dq);
        gw_block *spare = o->slab;
        o->slab = filled;
        gw_block_unref(&spare);
        GW_TRY(err);
        GW_TRY(gw_output_allow(n, o));
    }
    if (sample0 < o->end)
        return gw_fail(GW_EBUG, "%s sent sample %" PRId64 " after %" PRId64, n->name, sample0, o->end);
    gw_header *h = &o->slab->hdr;
    h->flags = about->flags;
    h->networks = about->networks;
    h->dq = about->dq;
    h->due_ns = about->due_ns;
    h->ingest_ns = about->ingest_ns;
    h->sample0 = sample0;
    h->n_samples = n_samples;
    h->n_channels = o->spec.n_channels;
    h->payload_bytes = (uint64_t)n_samples * o->spec.n_channels * gw_dtype_bytes(o->spec.dtype);
    if (h->payload_bytes > o->slab->capacity)
        return gw_fail(GW_EBUG, "%s filled %" PRIu32 " samples into a slab of %" PRIu32, n->name, n_samples,
                       o->spec.block_samples);
    add_presence(o);
    o->started = true;
    o->end = sample0 + n_samples;
    return give(n, o);
}

/* -- events, and the end ----------------------------------------------------------------------------- */

int gw_node_emit(gw_node *n, const gw_event *e)
{
    for (int i = 0; i < n->n_feeds_out; i++) {
        gw_feed *f = n->feed_out[i];
        int err = GW_OK;
        while (!f->gone && (err = gw_feed_give(f, gw_graph_run_id(n->graph), e)) == GW_EAGAIN) {
            n->blocked = GW_FOR_CREDIT;
            GW_TRY(gw_node_wait(n, 0));
        }
        GW_TRY(without(n, &f->gone, err));
    }
    return GW_OK;
}

int gw_output_end(gw_output *o)
{
    for (int k = 0; k < o->n_links; k++) {
        const int err = o->link[k].link ? gw_sender_finish(o->link[k].link) : GW_OK;
        if (err < 0 && err != GW_EAGAIN)
            return err;
    }
    return GW_OK;
}

/* In a run that has failed, who is not there by now is not waited for. */
static bool is_worth_waiting(const gw_node *n, const gw_node *to, const gw_link_counts *count)
{
    if (to->here || !gw_graph_past_grace(n->graph) || !gw_graph_has_failed(n->graph))
        return true;
    return gw_monotonic_ns() - atomic_load(&count->heard_ns) < 2 * GW_SECOND_NS;
}

/* Asks once. GW_EAGAIN: it takes longer, and the items have what to wait for. */
static int finish(gw_node *n, gw_sender *s, const gw_node *to, const gw_route *r, const char *what,
                  const gw_link_counts *count, int *items)
{
    int err = s ? gw_sender_finish(s) : GW_OK;
    if (err != GW_EAGAIN)
        return err;
    if (gw_graph_stopping(n->graph) && !gw_graph_has_failed(n->graph))
        leave_the_deserted(n, s, r, what);
    if (!is_worth_waiting(n, to, count))
        return GW_OK;
    *items += gw_sender_poll(s, n->item + *items, n->max_items - *items);
    return GW_EAGAIN;
}

/* Everybody hears EOS before anybody is waited for: one may wait for what another must first let go. */
int gw_node_goodbye(gw_node *n)
{
    for (;;) {
        int items = 0, failed = GW_OK;
        bool waiting = false;
        for (int o = 0; o < n->n_out; o++) {
            for (int k = 0; k < n->out[o].n_links; k++) {
                struct gw_output_link *l = &n->out[o].link[k];
                int err =
                    finish(n, l->link, l->to->node, &l->to->route, n->out[o].spec.name, &l->count, &items);
                if (l->link)
                    atomic_store_explicit(&l->dropped, gw_sender_dropped(l->link), memory_order_relaxed);
                waiting |= err == GW_EAGAIN;
                failed = err != GW_EAGAIN && err != GW_OK ? err : failed;
            }
        }
        for (int i = 0; i < n->n_feeds_out; i++) {
            gw_feed *f = n->feed_out[i];
            int err = finish(n, f->sender, f->to, &f->route, "events", &f->sender_count, &items);
            waiting |= err == GW_EAGAIN;
            failed = err != GW_EAGAIN && err != GW_OK ? err : failed;
        }
        if (!waiting)
            return failed;
        (void)zmq_poll(n->item, items, GW_POLL_MS);
    }
}
