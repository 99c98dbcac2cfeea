/* SPDX-License-Identifier: GPL-3.0-or-later
 * A node's outputs: waiting for messages and credits, reserving slabs, sending samples and the GAPs between
 * them, and the leave-taking at the end. Called by runner.c, in the node's own thread. */
#include "pipeline/node.h"

#include <inttypes.h>
#include <zmq.h>

/* -- waiting ----------------------------------------------------------------------------------------- */

/* A receiver that gave up (a recorder on a full disk) is no reason to stop: what would go there is discarded.
 * GW_EPEER only when nobody at all is left to work for. */
static int without(gw_node *n, struct gw_output_link *l, int err)
{
    if (err != GW_EPEER)
        return err;
    l->gone = true;
    for (int o = 0; o < n->n_out; o++)
        for (int k = 0; k < n->out[o].n_links; k++)
            if (!n->out[o].link[k].gone)
                return GW_OK;
    return n->n_feeds_out ? GW_OK : GW_EPEER;
}

/* Sleeps until a message comes to one of `inputs` (a bit each; inputs that are not wanted now may have
 * messages and must not wake us) or to the feed, or a credit to an output. */
int gw_node_wait(gw_node *n, unsigned inputs)
{
    zmq_pollitem_t item[GW_MAX_PORTS * (GW_MAX_FAN + 1) + 1];
    int count = 0;
    for (int i = 0; i < n->n_in; i++)
        if (inputs >> i & 1 && !n->in[i].ended)
            item[count++] =
                (zmq_pollitem_t){.socket = gw_receiver_socket(n->in[i].link), .events = ZMQ_POLLIN};
    if (inputs && n->feed_in)
        item[count++] = (zmq_pollitem_t){.socket = n->feed_in, .events = ZMQ_POLLIN};
    for (int o = 0; o < n->n_out; o++)
        for (int k = 0; k < n->out[o].n_links; k++)
            if (!n->out[o].link[k].gone)
                item[count++] = (zmq_pollitem_t){.socket = gw_sender_socket(n->out[o].link[k].link),
                                                 .events = ZMQ_POLLIN};
    if (zmq_poll(item, count, GW_POLL_MS) < 0 && zmq_errno() != EINTR)
        return gw_fail(GW_ESYSTEM, "poll: %s", zmq_strerror(zmq_errno()));
    for (int o = 0; o < n->n_out; o++)
        for (int k = 0; k < n->out[o].n_links; k++)
            GW_TRY(without(n, &n->out[o].link[k], gw_sender_pump(n->out[o].link[k].link)));
    return GW_OK;
}

/* -- outputs ----------------------------------------------------------------------------------------- */

static bool output_ready(const gw_output *o)
{
    for (int k = 0; k < o->n_links; k++)
        if (!gw_sender_ready(o->link[k].link))
            return false;
    return true;
}

/* A slab to write and the credit to send it. */
int gw_output_reserve(gw_node *n, gw_output *o)
{
    while (!o->slab) {
        if (output_ready(o) && gw_pool_take(o->pool, &o->slab) == GW_OK)
            break;
        GW_TRY(gw_node_wait(n, 0));
    }
    return GW_OK;
}

static int give(gw_node *n, gw_output *o)
{
    gw_block *b = o->slab;
    o->slab = NULL;
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
        int e = without(n, l, gw_sender_give(l->link, b));
        err = err == GW_OK ? e : err;
        atomic_store_explicit(&l->dropped, gw_sender_dropped(l->link), memory_order_relaxed);
    }
    atomic_store_explicit(&n->count.data_ns, gw_sample_to_ns(o->end, o->spec.rate, o->spec.phase_ns),
                          memory_order_relaxed);
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
        while (!output_ready(o))
            GW_TRY(gw_node_wait(n, 0));
    }
    if (sample0 < o->end)
        return gw_fail(GW_EBUG, "%s sent sample %" PRId64 " after %" PRId64, n->name, sample0, o->end);
    gw_header *h = &o->slab->hdr;
    h->flags = about->flags;
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
    o->started = true;
    o->end = sample0 + n_samples;
    return give(n, o);
}

/* EOS to every receiver at once (one may wait for what another must first let go), then their BYE. */
int gw_node_goodbye(gw_node *n)
{
    for (;;) {
        zmq_pollitem_t item[GW_MAX_PORTS * GW_MAX_FAN];
        int waiting = 0;
        for (int o = 0; o < n->n_out; o++) {
            for (int k = 0; k < n->out[o].n_links; k++) {
                gw_sender *s = n->out[o].link[k].link;
                int err = gw_sender_finish(s);
                atomic_store_explicit(&n->out[o].link[k].dropped, gw_sender_dropped(s), memory_order_relaxed);
                if (err == GW_EAGAIN)
                    item[waiting++] = (zmq_pollitem_t){.socket = gw_sender_socket(s), .events = ZMQ_POLLIN};
                else
                    GW_TRY(err);
            }
        }
        if (!waiting)
            return GW_OK;
        (void)zmq_poll(item, waiting, GW_POLL_MS);
    }
}
