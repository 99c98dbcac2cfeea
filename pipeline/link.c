/* SPDX-License-Identifier: GPL-3.0-or-later
 * The link's two ends and their small protocol (link.h). Control messages are 32 bytes and begin with
 * their own magic; everything else is a block. */
#include "pipeline/link.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zmq.h>

enum { HELLO = 1, CREDIT, EOS, BYE, GONE };

#define CONTROL_MAGIC 0x43535747u /* "GWSC" */

typedef struct control {
    uint32_t magic;
    uint16_t version, type;
    uint64_t count;     /* messages */
    uint64_t spec_hash; /* HELLO */
    uint64_t reserved;
} control;
_Static_assert(sizeof(control) == 32, "control messages are 32 bytes");

struct gw_sender {
    void *socket;
    const gw_spec *spec;
    gw_on_full on_full;
    uint64_t sent, allowed, dropped;
    bool eos_sent, bye, gone;
    /* A dropping link's own queue, and the hole that stands before its first block. */
    gw_block **queue; /* [depth] ring */
    int depth, first, queued;
    gw_pool *gaps;
    gw_header hole; /* gap_samples 0: none */
};

struct gw_receiver {
    void *socket;
    int credit;
    uint64_t received, done, eos_count;
    bool eos;
};

static int zmq_failed(const char *what, const char *address)
{
    return gw_fail(zmq_errno() == EADDRINUSE ? GW_EBUSY : GW_ESYSTEM, "link %s: %s: %s", address, what,
                   zmq_strerror(zmq_errno()));
}

static int open_socket(void **socket, const gw_link_conf *c, bool bind)
{
    *socket = zmq_socket(c->zmq, ZMQ_DEALER);
    if (!*socket)
        return zmq_failed("socket", c->address);
    const int none = 0; /* credits bound what is in flight; the high-water mark counts something else */
    zmq_setsockopt(*socket, ZMQ_SNDHWM, &none, sizeof none);
    zmq_setsockopt(*socket, ZMQ_RCVHWM, &none, sizeof none);
    zmq_setsockopt(*socket, ZMQ_LINGER, &none, sizeof none);
    if ((bind ? zmq_bind(*socket, c->address) : zmq_connect(*socket, c->address)) != 0) {
        int err = zmq_failed(bind ? "bind" : "connect", c->address);
        zmq_close(*socket);
        *socket = NULL;
        return err;
    }
    return GW_OK;
}

static int send_control(void *socket, uint16_t type, uint64_t count, uint64_t spec_hash)
{
    const control c = {.magic = CONTROL_MAGIC,
                       .version = GW_BLOCK_VERSION,
                       .type = type,
                       .count = count,
                       .spec_hash = spec_hash};
    if (zmq_send(socket, &c, sizeof c, ZMQ_DONTWAIT) != (int)sizeof c)
        return gw_fail(GW_ESYSTEM, "link: %s", zmq_strerror(zmq_errno()));
    return GW_OK;
}

static bool read_control(zmq_msg_t *m, control *c)
{
    if (zmq_msg_size(m) != sizeof *c)
        return false;
    memcpy(c, zmq_msg_data(m), sizeof *c);
    return c->magic == CONTROL_MAGIC && c->version == GW_BLOCK_VERSION;
}

/* -- sender ------------------------------------------------------------------------------------------ */

int gw_sender_open(gw_sender **out, const gw_link_conf *c)
{
    *out = NULL;
    gw_sender *s = calloc(1, sizeof *s);
    if (!s)
        return gw_fail(GW_ENOMEM, "link %s", c->address);
    s->spec = c->spec;
    s->on_full = c->on_full;
    int err = open_socket(&s->socket, c, true);
    if (err == GW_OK && c->on_full == GW_DROP) {
        s->depth = c->credit;
        s->queue = calloc((size_t)s->depth, sizeof *s->queue);
        s->gaps = c->gaps;
        if (!s->queue)
            err = gw_fail(GW_ENOMEM, "link %s", c->address);
    }
    if (err != GW_OK) {
        gw_sender_close(&s);
        return err;
    }
    *out = s;
    return GW_OK;
}

void *gw_sender_socket(const gw_sender *s)
{
    return s->socket;
}

bool gw_sender_ready(const gw_sender *s)
{
    return s->gone || s->on_full == GW_DROP || s->sent < s->allowed;
}

uint64_t gw_sender_dropped(const gw_sender *s)
{
    return s->dropped;
}

static void release_block(void *data, void *hint)
{
    (void)data;
    gw_block *b = hint;
    gw_block_unref(&b);
}

static int send_block(gw_sender *s, gw_block *b)
{
    zmq_msg_t m;
    if (zmq_msg_init_data(&m, b, GW_HEADER_BYTES, release_block, b) != 0) {
        gw_block_unref(&b);
        return gw_fail(GW_ENOMEM, "link: message");
    }
    if (zmq_msg_send(&m, s->socket, ZMQ_DONTWAIT) < 0) {
        int err = gw_fail(GW_ESYSTEM, "link: %s", zmq_strerror(zmq_errno()));
        zmq_msg_close(&m); /* gives the reference back */
        return err;
    }
    s->sent++;
    return GW_OK;
}

/* The oldest block of the queue makes room; what it covered joins the hole before the queue. */
static void drop_oldest(gw_sender *s)
{
    gw_block *b = s->queue[s->first];
    s->first = (s->first + 1) % s->depth;
    s->queued--;
    s->dropped++;
    if (!s->hole.gap_samples) {
        s->hole = b->hdr;
        s->hole.flags = (b->hdr.flags & ~(uint32_t)GW_FLAG_EOS) | GW_FLAG_GAP;
        s->hole.n_samples = 0;
        s->hole.payload_bytes = 0;
        s->hole.gap_samples = 0;
        s->hole.gap_reason = GW_GAP_DROPPED;
    }
    s->hole.gap_samples += b->hdr.flags & GW_FLAG_GAP ? b->hdr.gap_samples : b->hdr.n_samples;
    s->hole.due_ns = b->hdr.due_ns;
    gw_block_unref(&b);
}

static int flush_queue(gw_sender *s)
{
    while (s->sent < s->allowed && (s->hole.gap_samples || s->queued)) {
        gw_block *b = NULL;
        if (s->hole.gap_samples) {
            if (gw_pool_take(s->gaps, &b) != GW_OK)
                return GW_OK; /* comes back with a later credit */
            b->hdr = s->hole;
            s->hole.gap_samples = 0;
            gw_block_seal(b);
        } else {
            b = s->queue[s->first];
            s->first = (s->first + 1) % s->depth;
            s->queued--;
        }
        GW_TRY(send_block(s, b));
    }
    return GW_OK;
}

static int refuse_spec(const gw_sender *s)
{
    char mine[256];
    gw_spec_text(s->spec, mine, sizeof mine);
    return gw_fail(GW_EMISMATCH, "link: the receiver expects another stream than %s", mine);
}

int gw_sender_pump(gw_sender *s)
{
    for (;;) {
        zmq_msg_t m;
        zmq_msg_init(&m);
        if (zmq_msg_recv(&m, s->socket, ZMQ_DONTWAIT) < 0) {
            zmq_msg_close(&m);
            if (zmq_errno() == EAGAIN)
                break;
            return gw_fail(GW_ESYSTEM, "link: %s", zmq_strerror(zmq_errno()));
        }
        control c;
        bool known = read_control(&m, &c);
        zmq_msg_close(&m);
        if (!known)
            return gw_fail(GW_EFORMAT, "link: an unknown control message");
        switch (c.type) {
        case HELLO:
            if (c.spec_hash != gw_spec_hash(s->spec))
                return refuse_spec(s);
            /* fall through */
        case CREDIT:
            if (c.count > s->allowed)
                s->allowed = c.count;
            break;
        case BYE:
            s->bye = c.count == s->sent;
            break;
        case GONE:
            s->gone = true;
            break;
        default:
            return gw_fail(GW_EFORMAT, "link: control message %u", (unsigned)c.type);
        }
    }
    if (s->gone)
        return gw_fail(GW_EPEER, "link %s: the receiver gave up", s->spec->name);
    return s->on_full == GW_DROP ? flush_queue(s) : GW_OK;
}

int gw_sender_give(gw_sender *s, gw_block *b)
{
    if (s->gone) {
        gw_block_unref(&b);
        return gw_fail(GW_EPEER, "link %s: the receiver gave up", s->spec->name);
    }
    if (s->on_full == GW_WAIT) {
        if (s->sent < s->allowed)
            return send_block(s, b);
        gw_block_unref(&b);
        return gw_fail(GW_EBUG, "link %s: sent beyond the credit", s->spec->name);
    }
    if (s->queued == s->depth)
        drop_oldest(s);
    s->queue[(s->first + s->queued++) % s->depth] = b;
    return gw_sender_pump(s); /* nobody waits for a dropping link's credits: they are read here */
}

int gw_sender_finish(gw_sender *s)
{
    int err = gw_sender_pump(s);
    if (err == GW_EPEER || s->bye)
        return GW_OK;
    GW_TRY(err);
    if (s->on_full == GW_DROP && (s->queued || s->hole.gap_samples))
        return GW_EAGAIN; /* the tail of a dropping link still gets its chance */
    if (!s->eos_sent) {
        GW_TRY(send_control(s->socket, EOS, s->sent, 0));
        s->eos_sent = true;
    }
    return GW_EAGAIN;
}

void gw_sender_close(gw_sender **ss)
{
    gw_sender *s = *ss;
    if (!s)
        return;
    *ss = NULL;
    for (; s->queued; s->queued--) {
        gw_block_unref(&s->queue[s->first]);
        s->first = (s->first + 1) % s->depth;
    }
    if (s->socket)
        zmq_close(s->socket);
    free(s->queue);
    free(s);
}

/* -- receiver ---------------------------------------------------------------------------------------- */

int gw_receiver_open(gw_receiver **out, const gw_link_conf *c)
{
    *out = NULL;
    gw_receiver *r = calloc(1, sizeof *r);
    if (!r)
        return gw_fail(GW_ENOMEM, "link %s", c->address);
    r->credit = c->credit;
    int err = open_socket(&r->socket, c, false);
    if (err == GW_OK)
        err = send_control(r->socket, HELLO, (uint64_t)c->credit, gw_spec_hash(c->spec));
    if (err != GW_OK) {
        if (r->socket)
            zmq_close(r->socket);
        free(r);
        return err;
    }
    *out = r;
    return GW_OK;
}

void *gw_receiver_socket(const gw_receiver *r)
{
    return r->socket;
}

int gw_receiver_take(gw_receiver *r, gw_block **b)
{
    *b = NULL;
    if (r->eos)
        return r->received == r->eos_count ? GW_EEND
                                           : gw_fail(GW_EBUG, "link: %" PRIu64 " of %" PRIu64 " blocks came",
                                                     r->received, r->eos_count);
    zmq_msg_t m;
    zmq_msg_init(&m);
    if (zmq_msg_recv(&m, r->socket, ZMQ_DONTWAIT) < 0) {
        zmq_msg_close(&m);
        return zmq_errno() == EAGAIN ? GW_EAGAIN : gw_fail(GW_ESYSTEM, "link: %s", zmq_strerror(zmq_errno()));
    }
    control c;
    if (read_control(&m, &c)) {
        zmq_msg_close(&m);
        if (c.type != EOS)
            return gw_fail(GW_EFORMAT, "link: control message %u", (unsigned)c.type);
        r->eos = true;
        r->eos_count = c.count;
        return gw_receiver_take(r, b);
    }
    gw_block *block = zmq_msg_data(&m);
    if (!atomic_load_explicit(&block->sealed, memory_order_acquire)) {
        zmq_msg_close(&m);
        return gw_fail(GW_EBUG, "link: a block that is still being written");
    }
    gw_block_ref(block); /* ours, before the message gives up its own */
    zmq_msg_close(&m);
    r->received++;
    *b = block;
    return GW_OK;
}

int gw_receiver_done(gw_receiver *r, gw_block **b)
{
    gw_block_unref(b);
    r->done++;
    return send_control(r->socket, CREDIT, r->done + (uint64_t)r->credit, 0);
}

void gw_receiver_close(gw_receiver **rr)
{
    gw_receiver *r = *rr;
    if (!r)
        return;
    *rr = NULL;
    bool whole = r->eos && r->received == r->eos_count && r->done == r->received;
    (void)send_control(r->socket, whole ? BYE : GONE, r->received, 0);
    zmq_close(r->socket);
    free(r);
}
