/* SPDX-License-Identifier: GPL-3.0-or-later
 * kind: live. Any program feeds the graph over the protocol of docs/wire.md: one listening link for each
 * stream. Run by the runner. live_conf.c reads the YAML, order.c puts blocks in the order of stream time,
 * patience.c says how long a stream is waited for, samples.c converts; here they meet.
 *
 * What is overdue becomes a hole, for that stream only, and what comes later is dropped. So a dead detector
 * never stops the others, and nothing behind this source needs a clock. */
#include "pipeline/log.h"
#include "pipeline/stage.h"
#include "sources/live_conf.h"
#include "sources/order.h"
#include "sources/patience.h"
#include "sources/samples.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { FAR_SECONDS = 10, POLL_MS = 50 };
#define SAY_AGAIN_NS (10 * GW_SECOND_NS)
#define DAY_NS       (86400 * GW_SECOND_NS)

typedef struct port {
    const gw_live_stream *is;
    gw_receiver *link; /* NULL once the stream has ended */
    gw_link_counts count;
    gw_order *order;
    int credit;
    uint64_t session;
    /* What was said about it, and when: one line an occasion, at most one in ten seconds. */
    bool late, late_said;
    int64_t said_late_ns, said_drops_ns, said_peer_ns;
    gw_order_counts said;
} port;

typedef struct live {
    gw_live_conf conf;
    port port[GW_MAX_PORTS];
    int n_ports;
    void *zmq;
    gw_guard *guard;
    gw_env *env;
    gw_patience patience;
    int64_t left_ns; /* monotonic: when next() returned last */
    bool started;
    int64_t first_ns; /* stream time of the first stretch of any stream, once started */
} live;

static int live_configure(void *self, gw_conf *conf)
{
    live *l = self;
    return gw_live_conf_read(&l->conf, conf, GW_MAX_PORTS);
}

/* ---- plan and open ---- */

static int64_t time_of(const port *p, int64_t sample)
{
    return gw_sample_to_ns(sample, p->is->wire.rate, p->is->wire.phase_ns);
}

/* Where the block that sample `at` lies in ends. */
static int64_t grid_end(const port *p, int64_t at)
{
    return at - at % p->is->wire.block_samples + p->is->wire.block_samples;
}

static int64_t samples_in(const port *p, int64_t span_ns)
{
    return gw_sample_at_or_after(span_ns, p->is->wire.rate, 0);
}

/* Blocks that a client may send ahead: what the window may hold back twice over, and some on their way. */
static int credit_for(const live *l, const port *p)
{
    if (l->conf.credit)
        return (int)l->conf.credit;
    const int64_t blocks = 2 * samples_in(p, l->conf.reorder_ns) / p->is->wire.block_samples + 8;
    return blocks < GW_LIVE_MAX_CREDIT ? (int)blocks : GW_LIVE_MAX_CREDIT;
}

static int live_plan(void *self, gw_plan *plan)
{
    live *l = self;
    l->patience.patience_ns = l->conf.patience_ns;
    l->n_ports = l->conf.n_streams;
    for (plan->n_out = 0; plan->n_out < l->n_ports; plan->n_out++) {
        port *p = &l->port[plan->n_out];
        p->is = &l->conf.stream[plan->n_out];
        p->credit = credit_for(l, p);
        GW_TRY(gw_spec_copy(&plan->out[plan->n_out], &p->is->out));
        plan->memory_bytes += (size_t)p->credit * gw_spec_slab_bytes(&p->is->wire);
    }
    return GW_OK;
}

static void give_back(void *owner, gw_block *b)
{
    port *p = owner;
    if (p->link)
        (void)gw_receiver_done(p->link, &b);
    else
        gw_block_unref(&b);
}

static int open_port(live *l, port *p)
{
    const gw_order_conf o = {.window_samples = samples_in(p, l->conf.reorder_ns),
                             .far_samples = samples_in(p, FAR_SECONDS * GW_SECOND_NS),
                             .credit = p->credit,
                             .done = give_back,
                             .owner = p};
    GW_TRY(gw_order_new(&p->order, &o));
    const gw_link_conf c = {.zmq = l->zmq,
                            .transport = l->conf.transport,
                            .address = p->is->address,
                            .listen = true,
                            .lanes = l->conf.lanes,
                            .spec = &p->is->wire,
                            .session = gw_env_run_id(l->env),
                            .credit = p->credit,
                            .keys = l->conf.encrypted ? &l->conf.keys : NULL,
                            .counts = &p->count};
    GW_TRY(gw_receiver_open(&p->link, &c));
    char text[160];
    gw_spec_text(&p->is->wire, text, sizeof text);
    gw_log(GW_LOG_INFO, gw_env_name(l->env), "listens at %s for %s", p->is->address, text);
    return GW_OK;
}

static int live_open(void *self, gw_env *env)
{
    live *l = self;
    l->env = env;
    l->zmq = zmq_ctx_new(); /* its own: a context has one list of those who may come in */
    if (!l->zmq)
        return gw_fail(GW_ESYSTEM, "zmq_ctx_new: %s", zmq_strerror(zmq_errno()));
    zmq_ctx_set(l->zmq, ZMQ_IO_THREADS, l->conf.lanes < 4 ? l->conf.lanes : 4);
    if (l->conf.encrypted)
        GW_TRY(gw_guard_new(&l->guard, l->zmq));
    for (int i = 0; i < l->conf.n_allowed; i++)
        GW_TRY(gw_guard_allow(l->guard, l->conf.allowed[i]));
    for (int i = 0; i < l->n_ports; i++)
        GW_TRY(open_port(l, &l->port[i]));
    return GW_OK;
}

/* ---- what comes ---- */

static bool may_say(int64_t *said_ns, int64_t now_ns)
{
    if (*said_ns && now_ns - *said_ns < SAY_AGAIN_NS)
        return false;
    *said_ns = now_ns;
    return true;
}

static void say_drops(live *l, port *p, int64_t now_ns, bool at_once)
{
    const gw_order_counts *c = gw_order_count(p->order);
    if (c->late == p->said.late && c->repeated == p->said.repeated && c->stray == p->said.stray)
        return;
    if (!at_once && !may_say(&p->said_drops_ns, now_ns))
        return;
    gw_log(GW_LOG_WARN, gw_env_name(l->env),
           "%s: blocks dropped: %" PRIu64 " came after their place was given up, %" PRIu64
           " repeated what was there, %" PRIu64 " were astray",
           p->is->wire.name, c->late - p->said.late, c->repeated - p->said.repeated,
           c->stray - p->said.stray);
    p->said = *c;
}

static void say_peer(live *l, port *p, int64_t now_ns, const char *what)
{
    if (may_say(&p->said_peer_ns, now_ns))
        gw_log(GW_LOG_WARN, gw_env_name(l->env), "%s: %s; waits for another client", p->is->wire.name, what);
}

/* Takes what has come for a port and puts it in order. */
static int pump(live *l, port *p, int64_t now_ns)
{
    while (p->link) {
        gw_block *b;
        int err = gw_receiver_take(p->link, &b);
        if (err == GW_EAGAIN)
            break;
        if (err == GW_EEND) {
            gw_order_end(p->order);
            break;
        }
        if (err == GW_EMISMATCH || err == GW_EPEER) {
            say_peer(l, p, now_ns, gw_err_detail());
            break;
        }
        GW_TRY(err);
        const bool gap = b->hdr.flags & GW_FLAG_GAP;
        const int64_t end_ns = time_of(p, b->hdr.sample0 + (int64_t)b->hdr.n_samples);
        if (gw_order_put(p->order, b) && !gap)
            gw_patience_came(&l->patience, end_ns, now_ns);
    }
    const uint64_t session = p->link ? gw_receiver_session(p->link) : p->session;
    if (session != p->session) {
        if (p->session)
            gw_log(GW_LOG_INFO, gw_env_name(l->env), "%s: another client has taken over", p->is->wire.name);
        p->session = session;
    }
    say_drops(l, p, now_ns, false);
    return GW_OK;
}

/* ---- what goes on ---- */

/* The age of a block is now minus when it was due. A feed of the present is due by its own time stamps; one
 * of old times as if it were taken just now. */
static void start_clock(live *l, const port *p, int64_t at, int64_t end)
{
    l->started = true;
    l->first_ns = time_of(p, at);
    const int64_t ready_ns = gw_env_timebase(l->env).anchor_wall_ns;
    int64_t reached_ns;
    if (!gw_patience_best(&l->patience, gw_monotonic_ns(), &reached_ns))
        reached_ns = time_of(p, end);
    const int64_t behind_ns = gw_gps_now_ns() - reached_ns;
    const bool present = behind_ns > -DAY_NS && behind_ns < DAY_NS;
    gw_env_start(l->env, l->conf.paced ? 1 : 0, present ? ready_ns : ready_ns - behind_ns);
}

static int64_t first_sample(const live *l, const port *p)
{
    return gw_sample_at_or_after(l->first_ns, p->is->wire.rate, p->is->wire.phase_ns);
}

/* The sample up to which a port's data should have come by now, a multiple of its block; `at` if none. */
static int64_t overdue(const live *l, const port *p, int64_t at, int64_t now_ns)
{
    int64_t reached_ns;
    if (!l->conf.paced || !l->started || !gw_patience_deadline(&l->patience, now_ns, &reached_ns))
        return at;
    const int64_t reached = gw_sample_at_or_before(reached_ns, p->is->wire.rate, p->is->wire.phase_ns);
    const int64_t to = reached - reached % p->is->wire.block_samples;
    return to > at ? to : at;
}

/* Milliseconds until the port's next block is overdue, from 1 to POLL_MS. */
static long patience_left_ms(const live *l, const port *p, int64_t now_ns)
{
    int64_t at, reached_ns;
    if (!l->conf.paced || !l->started || !gw_patience_deadline(&l->patience, now_ns, &reached_ns))
        return POLL_MS;
    if (!gw_order_at(p->order, &at))
        at = first_sample(l, p);
    const int64_t left_ms = (time_of(p, grid_end(p, at)) - reached_ns) / 1000000 + 1;
    return left_ms < 1 ? 1 : left_ms < POLL_MS ? (long)left_ms : POLL_MS;
}

static void be_hole(gw_piece *piece, int64_t from, int64_t to, gw_gap_reason reason)
{
    piece->gap_samples = (uint64_t)(to - from);
    piece->reason = reason;
}

static void become_late(live *l, port *p, int64_t now_ns)
{
    if (p->late)
        return;
    p->late = true;
    p->late_said = may_say(&p->said_late_ns, now_ns);
    if (p->late_said)
        gw_log(GW_LOG_WARN, gw_env_name(l->env), "%s is more than %" PRId64 " ms late: goes on without it",
               p->is->wire.name, l->conf.patience_ns / 1000000);
}

static void be_back(live *l, port *p)
{
    if (p->late && p->late_said)
        gw_log(GW_LOG_INFO, gw_env_name(l->env), "%s is back", p->is->wire.name);
    p->late = false;
}

/* Samples [at, at + n) of a block; *piece becomes them or, where they are no numbers, a hole. Of one channel
 * exactly the samples that are none are lost, of many the channels that have any. */
static void fill(const port *p, const gw_block *b, int64_t at, uint32_t n, gw_piece *piece)
{
    const size_t from_size = gw_dtype_bytes(p->is->wire.dtype), to_size = gw_dtype_bytes(p->is->out.dtype);
    const uint8_t *presence = gw_block_presence(b);
    const char *from = (const char *)b->data + (size_t)(at - b->hdr.sample0) * from_size;
    char *to = piece->data;
    uint32_t there = 0;
    bool whole = true;
    for (uint32_t c = 0; c < p->is->wire.n_channels; c++) {
        whole = gw_samples_convert(to + (size_t)c * n * to_size, p->is->out.dtype,
                                   from + (size_t)c * b->hdr.n_samples * from_size, p->is->wire.dtype, n,
                                   p->is->scale, p->is->offset);
        const bool present = gw_present(presence, c) && (whole || p->is->wire.n_channels == 1);
        there += present;
        if (!present)
            piece->presence[c / 8] &= (uint8_t) ~(1u << c % 8);
    }
    piece->n_samples = n;
    if (there == 0) {
        piece->n_samples = 0;
        be_hole(piece, at, at + n, presence ? GW_GAP_ABSENT : GW_GAP_NAN);
    } else if (p->is->wire.n_channels == 1 && !whole) {
        piece->n_samples = (uint32_t)gw_samples_leading(piece->data, p->is->out.dtype, n, true);
        if (piece->n_samples == 0)
            be_hole(piece, at, at + (int64_t)gw_samples_leading(piece->data, p->is->out.dtype, n, false),
                    GW_GAP_NAN);
    }
}

static void take_block(const port *p, const gw_block *b, int64_t at, int64_t end, gw_piece *piece)
{
    const gw_header *h = &b->hdr;
    piece->dq = h->dq;
    piece->flags = h->flags & (GW_FLAG_INJECTION | GW_FLAG_REPLAY);
    piece->networks = h->networks;
    if (~h->dq & (GW_DQ_NO_CBC_HW_INJ | GW_DQ_NO_BURST_HW_INJ))
        piece->flags |= GW_FLAG_INJECTION;
    if (h->flags & GW_FLAG_GAP) {
        const bool known = h->gap_reason > GW_GAP_NONE && h->gap_reason < GW_GAP_REASON_COUNT;
        be_hole(piece, at, end, known ? (gw_gap_reason)h->gap_reason : GW_GAP_ABSENT);
        return;
    }
    end = end < grid_end(p, at) ? end : grid_end(p, at);
    if (~h->dq & (GW_DQ_DATA | GW_DQ_CBC_CAT1))
        be_hole(piece, at, end, GW_GAP_QUALITY);
    else
        fill(p, b, at, (uint32_t)(end - at), piece);
}

/* The port's next piece, from what is there. GW_EAGAIN: nothing yet. GW_EEND: nothing more. */
static int produce(live *l, port *p, int64_t now_ns, gw_piece *piece)
{
    gw_block *b;
    int64_t at, end;
    bool known = gw_order_next(p->order, &b, &end);
    const bool begun = gw_order_at(p->order, &at);
    gw_gap_reason reason = GW_GAP_ABSENT;
    if (gw_order_over(p->order))
        return GW_EEND;
    if (!known) {
        at = begun ? at : first_sample(l, p);
        const int64_t to = overdue(l, p, at, now_ns);
        if (to <= at)
            return GW_EAGAIN;
        gw_order_begin(p->order, at);
        end = end < to ? end : to;
        reason = GW_GAP_LATE;
        become_late(l, p, now_ns);
    }
    if (!l->started)
        start_clock(l, p, at, end);
    piece->sample0 = at;
    if (b) {
        take_block(p, b, at, end, piece);
        be_back(l, p);
    } else {
        be_hole(piece, at, end, reason);
    }
    gw_order_give(p->order, at + (int64_t)piece->n_samples + (int64_t)piece->gap_samples, !b);
    return GW_OK;
}

/* Until something comes to any stream, or this port's next block is overdue. */
static int wait_for(live *l, port *p, int64_t now_ns)
{
    zmq_pollitem_t item[GW_MAX_PORTS * GW_MAX_LANES];
    int n = 0;
    for (int i = 0; i < l->n_ports; i++)
        if (l->port[i].link)
            n += gw_receiver_poll(l->port[i].link, item + n, GW_MAX_PORTS * GW_MAX_LANES - n);
    const long left_ms = patience_left_ms(l, p, now_ns);
    if (zmq_poll(item, n, left_ms) < 0 && zmq_errno() != EINTR)
        return gw_fail(GW_ESYSTEM, "poll: %s", zmq_strerror(zmq_errno()));
    const int64_t then_ns = gw_monotonic_ns(), asked_ns = now_ns + (int64_t)left_ms * 1000000;
    gw_patience_held_up(&l->patience, asked_ns, then_ns); /* asleep for longer than was asked */
    gw_env_waited(l->env, then_ns - now_ns);
    return GW_OK;
}

static int next_of(live *l, port *p, gw_piece *piece)
{
    for (int turn = 0; turn < 2; turn++) {
        const int64_t now_ns = gw_monotonic_ns();
        for (int i = 0; i < l->n_ports; i++)
            GW_TRY(pump(l, &l->port[i], now_ns));
        int err = produce(l, p, now_ns, piece);
        if (err == GW_EEND) {
            say_drops(l, p, now_ns, true);
            gw_receiver_close(&p->link); /* says BYE: everything has been worked off */
        }
        if (err != GW_EAGAIN)
            return err;
        if (turn == 0)
            GW_TRY(wait_for(l, p, now_ns));
    }
    return GW_EAGAIN;
}

static int live_next(void *self, int number, gw_piece *piece)
{
    live *l = self;
    if (l->left_ns)
        gw_patience_held_up(&l->patience, l->left_ns, gw_monotonic_ns());
    int err = next_of(l, &l->port[number], piece);
    l->left_ns = gw_monotonic_ns();
    return err;
}

static void live_close(void *self)
{
    live *l = self;
    for (int i = 0; i < l->n_ports; i++) {
        port *p = &l->port[i];
        if (p->order)
            say_drops(l, p, 0, true);
        gw_order_destroy(&p->order);
        gw_receiver_close(&p->link);
    }
    gw_guard_destroy(&l->guard);
    if (l->zmq)
        zmq_ctx_term(l->zmq);
    gw_live_conf_free(&l->conf);
    *l = (live){0};
}

const gw_kind gw_kind_live = {
    .kind = "live",
    .help = "streams that other programs send over the protocol of docs/wire.md",
    .role = GW_SOURCE,
    .state_size = sizeof(live),
    .configure = live_configure,
    .plan = live_plan,
    .open = live_open,
    .next = live_next,
    .close = live_close,
};
