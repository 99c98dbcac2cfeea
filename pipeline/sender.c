/* SPDX-License-Identifier: GPL-3.0-or-later
 * The sending end of a link (link.h). Every block gets a number and is kept until the receiver has worked it
 * off; what is sent on each lane is a cursor over what is kept, so a receiver that asks again, or a new one
 * in its place, only moves the cursor back. */
#include "pipeline/lane.h"
#include "pipeline/shm.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define BEAT_NS    INT64_C(250000000)
#define SILENT_NS  (1 * GW_SECOND_NS)  /* a peer that said nothing for so long may be replaced */
#define AWAY_NS    INT64_C(500000000)  /* one whose connection is gone: lane.c tries again every 150 ms */
#define GIVE_UP_NS (10 * GW_SECOND_NS) /* after EOS */
enum {
    LINGER_MS = 200,
    MAX_BEATS = 8,
    AT_ONCE = 1024
}; /* messages heard in one go: a flood must not hold up the stage */

typedef struct lane_state {
    gw_lane *lane;
    uint32_t channel0, n_channels; /* its slice */
    uint64_t peer;                 /* the receiver's session; 0: none yet */
    uint64_t cursor, done, limit;  /* next to send; worked off by the receiver; it takes none from here on */
    uint32_t epoch;                /* of its latest HELLO */
    uint64_t beaten;               /* what the last beats said, and how often they said the same */
    int beats;
    bool bye, left, eos_said, time_said;
    int64_t heard_ns, said_ns;
} lane_state;

struct gw_sender {
    gw_link_conf c;
    char *address, *spec_text;
    uint64_t hash;
    int lanes;
    lane_state lane[GW_MAX_LANES];
    gw_block **kept; /* [credit] ring: blocks base .. next - 1 */
    uint64_t base, next, dropped;
    bool agreed, gone, eos;
    int64_t opened_ns, eos_ns, looked_ns;
    int64_t refused_ns; /* somebody wanted another stream, before anybody wanted this one */
    char refused[1400];
    /* A dropping link's own queue, and the hole that stands before its first block. */
    gw_block **queue; /* [credit] ring */
    int first, queued;
    gw_header hole; /* gap_samples 0: none */
    /* shm: where receivers fetch the memfd, and the connection of the one that has it */
    gw_shm_door door;
    int conn;
    gw_link_counts *count, own_count;
};

static void add(atomic_uint_fast64_t *c, uint64_t n)
{
    atomic_fetch_add_explicit(c, n, memory_order_relaxed);
}

static bool on_wire(const gw_sender *s)
{
    return s->c.transport != GW_INPROC;
}

static void close_fd(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

const char *gw_transport_text(gw_transport t)
{
    static const char *const text[] = {"inproc", "shm", "ipc", "tcp"};
    return (unsigned)t <= GW_TCP ? text[t] : "?";
}

int gw_sender_open(gw_sender **out, const gw_link_conf *c)
{
    *out = NULL;
    const int lanes = c->lanes > 0 ? c->lanes : 1;
    if (lanes > GW_MAX_LANES || (uint32_t)lanes > c->spec->n_channels ||
        (lanes > 1 && c->transport != GW_IPC && c->transport != GW_TCP))
        return gw_fail(GW_ECONFIG,
                       "link %s: %d lanes for %" PRIu32 " channels over %s (at most %d, ipc and tcp only)",
                       c->address, lanes, c->spec->n_channels, gw_transport_text(c->transport), GW_MAX_LANES);
    if (c->transport == GW_INPROC && !c->listen)
        return gw_fail(GW_EBUG, "link %s: inproc, the sender listens", c->address);
    if (c->transport == GW_SHM && (!c->listen || !c->pool || gw_pool_fd(c->pool) < 0))
        return gw_fail(GW_EBUG, "link %s: a shm sender listens and sends from a shared pool", c->address);
    gw_sender *s = calloc(1, sizeof *s);
    if (!s)
        return gw_fail(GW_ENOMEM, "link %s", c->address);
    s->c = *c;
    s->count = c->counts ? c->counts : &s->own_count;
    s->lanes = lanes;
    s->opened_ns = gw_monotonic_ns();
    s->hash = gw_spec_hash(c->spec);
    s->conn = s->door.listener = s->door.half = -1;
    s->address = strdup(c->address);
    s->kept = calloc((size_t)c->credit, sizeof *s->kept);
    s->queue = calloc((size_t)c->credit, sizeof *s->queue);
    int err = s->address && s->kept && s->queue ? GW_OK : gw_fail(GW_ENOMEM, "link %s", c->address);
    s->c.address = s->address;
    if (err == GW_OK && on_wire(s))
        err = gw_spec_write(c->spec, &s->spec_text);
    if (err == GW_OK && c->transport == GW_SHM)
        err = gw_shm_listen(&s->door.listener, s->address);
    for (int k = 0; k < lanes && err == GW_OK; k++) {
        lane_state *l = &s->lane[k];
        const uint64_t n = c->spec->n_channels;
        l->channel0 = (uint32_t)(n * (unsigned)k / (unsigned)lanes);
        l->n_channels = (uint32_t)(n * (unsigned)(k + 1) / (unsigned)lanes) - l->channel0;
        err = gw_lane_open(&l->lane, &s->c, k, true);
    }
    if (err != GW_OK) {
        gw_sender_close(&s);
        return err;
    }
    *out = s;
    return GW_OK;
}

int gw_sender_poll(gw_sender *s, zmq_pollitem_t *item, int max)
{
    int n = 0;
    for (int k = 0; k < s->lanes && n < max; k++)
        item[n++] = (zmq_pollitem_t){.socket = gw_lane_socket(s->lane[k].lane), .events = ZMQ_POLLIN};
    const int fds[] = {s->door.half >= 0 ? s->door.half : s->door.listener, s->conn};
    for (int i = 0; i < 2 && n < max; i++)
        if (fds[i] >= 0)
            item[n++] = (zmq_pollitem_t){.fd = fds[i], .events = ZMQ_POLLIN};
    return n;
}

bool gw_sender_ready(const gw_sender *s)
{
    return s->gone || s->c.on_full == GW_DROP || s->next - s->base < (uint64_t)s->c.credit;
}

uint64_t gw_sender_dropped(const gw_sender *s)
{
    return s->dropped;
}

/* -- what goes out ----------------------------------------------------------------------------------- */

static gw_control control_of(const gw_sender *s, gw_control_type type, uint64_t count)
{
    return (gw_control){.type = (uint16_t)type, .session = s->c.session, .count = count};
}

static void say(lane_state *l, const gw_control *c, const char *text)
{
    l->said_ns = gw_monotonic_ns();
    if (gw_lane_say(l->lane, c, text) == GW_EPEER)
        gw_lane_forget(l->lane);
}

static bool time_is_known(const gw_sender *s)
{
    return s->c.timebase && (s->c.timebase->pace != 0 || s->c.timebase->anchor_wall_ns != 0);
}

/* The spec, with what this end knows about time. */
static int say_spec(gw_sender *s, lane_state *l)
{
    gw_control c = control_of(s, GW_SPEC, s->base);
    c.spec_hash = s->hash;
    l->time_said = time_is_known(s);
    if (!l->time_said) {
        say(l, &c, s->spec_text);
        return GW_OK;
    }
    const gw_timebase *t = s->c.timebase;
    char *text = NULL;
    if (asprintf(&text, "%.*s,\"pace\":%.17g,\"anchor_wall_ns\":%" PRId64 ",\"anchor_data_ns\":%" PRId64 "}",
                 (int)strlen(s->spec_text) - 1, s->spec_text, t->pace, t->anchor_wall_ns,
                 t->anchor_data_ns) < 0)
        return gw_fail(GW_ENOMEM, "link %s", s->address);
    say(l, &c, text);
    free(text);
    return GW_OK;
}

/* Sends what is kept, as far as each lane's receiver allows. */
static int push(gw_sender *s)
{
    for (int k = 0; k < s->lanes; k++) {
        lane_state *l = &s->lane[k];
        if (on_wire(s) && l->peer && l->limit && !l->time_said && time_is_known(s))
            GW_TRY(say_spec(s, l));
        while (l->peer && gw_lane_has_peer(l->lane) && l->cursor < s->next && l->cursor < l->limit) {
            gw_block *b = s->kept[l->cursor % (uint64_t)s->c.credit];
            int err = gw_lane_send(l->lane, b, l->cursor, l->channel0, l->n_channels);
            if (err == GW_EAGAIN)
                break;
            if (err == GW_EPEER) {
                gw_lane_forget(l->lane);
                break;
            }
            GW_TRY(err);
            l->cursor++;
        }
    }
    return GW_OK;
}

static void let_go(gw_sender *s)
{
    uint64_t done = UINT64_MAX;
    for (int k = 0; k < s->lanes; k++)
        done = s->lane[k].done < done ? s->lane[k].done : done;
    while (s->base < done && s->base < s->next)
        gw_block_unref(&s->kept[s->base++ % (uint64_t)s->c.credit]);
    for (int k = 0; k < s->lanes; k++) /* it asked again for what it then found to be on its way */
        if (s->lane[k].cursor < s->base)
            s->lane[k].cursor = s->base;
    atomic_store_explicit(&s->count->credits, s->c.credit - (int64_t)(s->next - s->base),
                          memory_order_relaxed);
}

static void keep(gw_sender *s, gw_block *b)
{
    add(&s->count->blocks, 1);
    add(&s->count->gaps, b->hdr.flags & GW_FLAG_GAP ? 1 : 0);
    add(&s->count->bytes, b->hdr.payload_bytes);
    s->kept[s->next++ % (uint64_t)s->c.credit] = b;
    atomic_store_explicit(&s->count->credits, s->c.credit - (int64_t)(s->next - s->base),
                          memory_order_relaxed);
}

/* The oldest block of the queue makes room; what it covered joins the hole before the queue. */
static void drop_oldest(gw_sender *s)
{
    gw_block *b = s->queue[s->first];
    s->first = (s->first + 1) % s->c.credit;
    s->queued--;
    s->dropped++;
    if (!s->hole.gap_samples) {
        s->hole = b->hdr;
        s->hole.flags = (b->hdr.flags & ~(uint32_t)GW_FLAG_EOS) | GW_FLAG_GAP;
        s->hole.n_samples = 0;
        s->hole.payload_bytes = 0;
        s->hole.presence_offset = s->hole.presence_bytes = 0;
        s->hole.gap_samples = 0;
        s->hole.gap_reason = GW_GAP_DROPPED;
    }
    const uint64_t samples = b->hdr.flags & GW_FLAG_GAP ? b->hdr.gap_samples : b->hdr.n_samples;
    s->hole.gap_samples += samples;
    s->hole.due_ns = b->hdr.due_ns;
    add(&s->count->dropped, 1);
    add(&s->count->dropped_samples, samples);
    gw_block_unref(&b);
}

/* Whether a dropping link may commit itself to another block: once it has a number it will be delivered. */
static bool can_commit(const gw_sender *s)
{
    if (s->next - s->base >= (uint64_t)s->c.credit)
        return false;
    for (int k = 0; k < s->lanes; k++) {
        const lane_state *l = &s->lane[k];
        if (!l->peer || !gw_lane_has_peer(l->lane) || s->next >= l->limit)
            return false;
    }
    return true;
}

static int flush_queue(gw_sender *s)
{
    while (can_commit(s) && (s->hole.gap_samples || s->queued)) {
        gw_block *b = NULL;
        if (s->hole.gap_samples) {
            if (gw_pool_take(s->c.gaps, &b) != GW_OK)
                return GW_OK; /* comes back with a later credit */
            b->hdr = s->hole;
            s->hole.gap_samples = 0;
            gw_block_seal(b);
        } else {
            b = s->queue[s->first];
            s->first = (s->first + 1) % s->c.credit;
            s->queued--;
        }
        keep(s, b);
        GW_TRY(push(s));
    }
    return GW_OK;
}

/* -- what comes in ----------------------------------------------------------------------------------- */

/* Whether the receiver that is being served must not be replaced. On shm it may still read what it was lent,
 * so only its proven death counts; a tcp connection may have been cut and come back. */
static bool peer_lives(const gw_sender *s, lane_state *l)
{
    if (s->conn >= 0)
        return !gw_shm_hung_up(s->conn);
    if (!l->peer)
        return false;
    if (!gw_lane_has_peer(l->lane))
        return s->c.transport == GW_TCP && gw_monotonic_ns() - l->heard_ns < AWAY_NS;
    gw_control c = control_of(s, GW_BEAT, l->cursor);
    c.epoch = l->epoch;
    return gw_monotonic_ns() - l->heard_ns < SILENT_NS && gw_lane_say(l->lane, &c, NULL) != GW_EPEER;
}

static void answer_gone(gw_sender *s, lane_state *l, gw_gone why, const char *text)
{
    const gw_control c = control_of(s, GW_GONE, why);
    (void)gw_lane_answer(l->lane, &c, text);
}

/* A stranger with another spec is no reason to stop; but if nobody comes whom it fits, the two ends were
 * started with different files. */
static int refuse(gw_sender *s, lane_state *l, const char *theirs)
{
    char mine[256], *text = s->refused;
    gw_spec_text(s->c.spec, mine, sizeof mine);
    snprintf(text, sizeof s->refused, "the receiver expects %.*s, the sender has %s (%.400s)", 600,
             *theirs ? theirs : "another stream", mine, s->spec_text ? s->spec_text : "");
    answer_gone(s, l, GW_GONE_REFUSE, text);
    add(&s->count->malformed, 1);
    if (!s->refused_ns)
        s->refused_ns = gw_monotonic_ns();
    return on_wire(s) ? GW_OK : gw_fail(GW_EMISMATCH, "link %s: %s", s->c.spec->name, text);
}

/* Some lane serves a receiver other than `session`, and it lives. */
static bool serves_another(const gw_sender *s, uint64_t session)
{
    for (int k = 0; k < s->lanes; k++) {
        lane_state *l = (lane_state *)&s->lane[k];
        if (l->peer && l->peer != session && peer_lives(s, l))
            return true;
    }
    return false;
}

static int hear_hello(gw_sender *s, lane_state *l, const gw_heard *m)
{
    const gw_control *c = &m->control;
    const bool fresh = c->session != l->peer;
    if (fresh && m->stranger && serves_another(s, c->session)) { /* this end's own connection has one peer */
        answer_gone(s, l, GW_GONE_BUSY, "another receiver is being served");
        return GW_OK;
    }
    if (c->spec_hash && c->spec_hash != s->hash)
        return refuse(s, l, m->text ? m->text : "");
    gw_lane_adopt(l->lane);
    l->heard_ns = gw_monotonic_ns();
    if (fresh) { /* what its predecessor confirmed before counts, what it may still say does not */
        let_go(s);
        for (int k = 0; k < s->lanes; k++)
            if (s->lane[k].peer != c->session)
                s->lane[k].peer = 0;
        close_fd(&s->conn);
        l->peer = c->session;
        l->bye = l->left = false;
        l->limit = 0;
        l->cursor = s->base;
        add(&s->count->sessions, 1);
    }
    s->agreed = true;
    l->epoch = c->epoch;
    l->eos_said = false;
    if (c->limit == 0) { /* it opens: it wants to know the stream first */
        l->cursor = s->base;
        return on_wire(s) ? say_spec(s, l) : GW_OK;
    }
    const uint64_t wanted = c->count == GW_FROM_OLDEST || c->count < s->base ? s->base : c->count;
    const uint64_t from = wanted < s->next ? wanted : s->next;
    if (from < l->cursor)
        add(&s->count->resent, l->cursor - from);
    l->cursor = from;
    l->limit = c->limit;
    return GW_OK;
}

static int hear_control(gw_sender *s, lane_state *l, const gw_heard *m)
{
    const gw_control *c = &m->control;
    if (c->type == GW_HELLO)
        return hear_hello(s, l, m);
    if (c->type == GW_GONE && c->count == GW_GONE_REFUSE && !m->stranger && !s->agreed)
        return gw_fail(GW_EMISMATCH, "link %s: refused: %s", s->c.spec->name, m->text);
    if (c->session != l->peer || !l->peer) {
        if (c->type == GW_CREDIT || c->type == GW_BYE) /* of a life before, or replaced meanwhile */
            answer_gone(s, l, GW_GONE_UNKNOWN, NULL);
        return GW_OK;
    }
    if (m->stranger) { /* the same receiver over a new connection: what was under way may be lost */
        gw_lane_adopt(l->lane);
        l->beats = 0;
    }
    l->heard_ns = gw_monotonic_ns();
    switch (c->type) {
    case GW_BYE:
        if (!s->eos || c->count != s->next)
            break;
        for (int k = 0; k < s->lanes; k++) /* it speaks for all of them */
            if (s->lane[k].peer == l->peer) {
                s->lane[k].bye = true;
                s->lane[k].done = s->next;
            }
        if (on_wire(s))
            answer_gone(s, l, GW_GONE_LEFT, NULL);
        break;
    case GW_CREDIT:
        if (c->count > l->done)
            l->done = c->count < s->next ? c->count : s->next;
        if (c->limit > l->limit)
            l->limit = c->limit;
        break;
    case GW_GONE:
        if (!on_wire(s)) {
            s->gone = true;
            break;
        }
        l->left = true;
        l->peer = 0;
        gw_lane_forget(l->lane);
        close_fd(&s->conn);
        break;
    default:
        add(&s->count->malformed, 1);
    }
    return GW_OK;
}

static void serve_memory(gw_sender *s)
{
    int conn;
    uint64_t session;
    if (s->conn >= 0 && gw_shm_hung_up(s->conn)) { /* dead, whatever killed it */
        close_fd(&s->conn);
        gw_lane_forget(s->lane[0].lane);
    }
    while (gw_shm_accept(&s->door, &conn, &session) == GW_OK) {
        if (session == s->lane[0].peer &&
            gw_shm_pass(conn, gw_pool_fd(s->c.pool), gw_pool_bytes(s->c.pool)) == GW_OK) {
            close_fd(&s->conn);
            s->conn = conn;
        } else {
            close(conn);
        }
    }
}

static void heartbeat(gw_sender *s)
{
    const int64_t now_ns = gw_monotonic_ns();
    for (int k = 0; k < s->lanes; k++) {
        lane_state *l = &s->lane[k];
        if (now_ns - l->said_ns < BEAT_NS)
            continue;
        if (!l->peer) {
            if (!s->c.listen)
                (void)say_spec(s, l);
            continue;
        }
        if (!gw_lane_has_peer(l->lane))
            continue;
        /* Somebody whose credit is spent and who is held up does not read: tell it less often what it knows.
         */
        l->beats = l->beaten == l->cursor ? l->beats + 1 : 0;
        l->beaten = l->cursor;
        if (l->beats > MAX_BEATS && l->cursor >= l->limit && !s->eos && now_ns - l->said_ns < 8 * BEAT_NS)
            continue;
        gw_control c = control_of(s, s->eos && l->cursor == s->next ? GW_EOS : GW_BEAT, l->cursor);
        c.epoch = l->epoch;
        say(l, &c, NULL);
    }
}

/* Time in which this end did not look cannot be held against the other. */
static void forgive(gw_sender *s)
{
    const int64_t now_ns = gw_monotonic_ns(), late_ns = now_ns - s->looked_ns - BEAT_NS;
    for (int k = 0; k < s->lanes && s->looked_ns && late_ns > 0; k++)
        if (s->lane[k].heard_ns)
            s->lane[k].heard_ns += late_ns;
    s->looked_ns = now_ns;
}

int gw_sender_pump(gw_sender *s)
{
    forgive(s);
    for (int k = 0; k < s->lanes; k++) {
        lane_state *l = &s->lane[k];
        for (int i = 0; i < AT_ONCE; i++) {
            gw_heard m;
            int err = gw_lane_hear(l->lane, &m);
            if (err == GW_EAGAIN)
                break;
            if (err == GW_EFORMAT || (err == GW_OK && !m.is_control)) {
                if (err == GW_OK)
                    gw_fail(GW_EFORMAT, "a block came to the sending end");
                gw_block_unref(&m.block);
                gw_lane_complain(l->lane, s->count);
                continue;
            }
            GW_TRY(err);
            GW_TRY(hear_control(s, l, &m));
        }
        if (l->heard_ns)
            atomic_store_explicit(&s->count->heard_ns, l->heard_ns, memory_order_relaxed);
    }
    let_go(s);
    if (s->gone)
        return gw_fail(GW_EPEER, "link %s: the receiver gave up", s->c.spec->name);
    if (s->refused_ns && !s->agreed && s->looked_ns - s->refused_ns > SILENT_NS)
        return gw_fail(GW_EMISMATCH, "link %s: %s", s->c.spec->name, s->refused);
    if (s->c.transport == GW_SHM)
        serve_memory(s);
    if (s->c.on_full == GW_DROP)
        GW_TRY(flush_queue(s));
    GW_TRY(push(s));
    if (on_wire(s))
        heartbeat(s);
    return GW_OK;
}

int gw_sender_give(gw_sender *s, gw_block *b)
{
    if (s->gone) {
        gw_block_unref(&b);
        return gw_fail(GW_EPEER, "link %s: the receiver gave up", s->c.spec->name);
    }
    if (on_wire(s) && b->hdr.run_id != s->c.session) { /* the receiver would refuse it for ever */
        gw_block_unref(&b);
        return gw_fail(GW_EBUG, "link %s: a block of another run", s->c.spec->name);
    }
    if (s->c.on_full == GW_WAIT) {
        if (s->next - s->base < (uint64_t)s->c.credit) {
            keep(s, b);
            return push(s);
        }
        gw_block_unref(&b);
        return gw_fail(GW_EBUG, "link %s: sent beyond the credit", s->c.spec->name);
    }
    if (s->queued == s->c.credit)
        drop_oldest(s);
    s->queue[(s->first + s->queued++) % s->c.credit] = b;
    return gw_sender_pump(s); /* nobody waits for a dropping link's credits: they are read here */
}

/* -- the end ----------------------------------------------------------------------------------------- */

static bool lane_is_over(const gw_sender *s, lane_state *l)
{
    /* Worked off, and nobody there to say BYE. An empty stream still waits for the first who comes to hear
     * EOS. */
    return l->bye || (on_wire(s) && l->heard_ns && l->done == s->next && !peer_lives(s, l));
}

int gw_sender_finish(gw_sender *s)
{
    int err = gw_sender_pump(s);
    if (err == GW_EPEER)
        return GW_OK;
    GW_TRY(err);
    const int64_t now_ns = gw_monotonic_ns();
    if (!s->eos_ns)
        s->eos_ns = now_ns;
    bool over = true, silent = false;
    const bool tail = s->queued || s->hole.gap_samples; /* of a dropping link: it still gets its chance */
    s->eos |= !tail;
    for (int k = 0; k < s->lanes; k++) {
        lane_state *l = &s->lane[k];
        if (s->eos && !l->eos_said && l->peer && gw_lane_has_peer(l->lane) && l->cursor == s->next) {
            gw_control c = control_of(s, GW_EOS, s->next); /* at once; the heartbeat repeats it */
            c.epoch = l->epoch;
            say(l, &c, NULL);
            l->eos_said = true;
        }
        over &= lane_is_over(s, l);
        silent |= now_ns - (l->heard_ns > s->eos_ns ? l->heard_ns : s->eos_ns) > GIVE_UP_NS;
    }
    if (over && !tail)
        return GW_OK;
    if (silent && on_wire(s))
        return gw_fail(GW_EPEER,
                       "link %s (%s): no receiver has been heard for %d s: %" PRIu64
                       " blocks at the end of the stream are not known to have arrived",
                       s->c.spec->name, s->address, (int)(GIVE_UP_NS / GW_SECOND_NS),
                       s->next - s->base + (uint64_t)s->queued);
    return GW_EAGAIN;
}

bool gw_sender_deserted(const gw_sender *s)
{
    for (int k = 0; k < s->lanes && on_wire(s); k++) {
        const lane_state *l = &s->lane[k];
        const int64_t since_ns = l->heard_ns ? l->heard_ns : s->opened_ns;
        if (l->left || gw_monotonic_ns() - since_ns > GIVE_UP_NS)
            return true;
    }
    return false;
}

static void release_queue(gw_sender *s)
{
    for (; s->queued; s->queued--) {
        gw_block_unref(&s->queue[s->first]);
        s->first = (s->first + 1) % s->c.credit;
    }
}

static void release_kept(gw_sender *s)
{
    while (s->base < s->next)
        gw_block_unref(&s->kept[s->base++ % (uint64_t)s->c.credit]);
}

uint64_t gw_sender_abandon(gw_sender *s)
{
    const uint64_t lost = s->next - s->base + (uint64_t)s->queued;
    s->gone = true;
    release_queue(s);
    if (s->conn < 0 ||
        gw_shm_hung_up(s->conn)) /* a receiver that is merely silent may still read what it was lent */
        release_kept(s);
    return lost;
}

void gw_sender_close(gw_sender **ss)
{
    gw_sender *s = *ss;
    if (!s)
        return;
    *ss = NULL;
    for (int k = 0; k < s->lanes; k++) {
        lane_state *l = &s->lane[k];
        if (l->lane && on_wire(s) && l->peer && !l->bye) {
            const gw_control c = control_of(s, GW_GONE, GW_GONE_LEFT);
            say(l, &c, NULL);
        }
        gw_lane_close(&l->lane, on_wire(s) ? LINGER_MS : 0);
    }
    if (s->kept && s->queue) {
        release_queue(s);
        release_kept(s);
    }
    close_fd(&s->conn);
    close_fd(&s->door.half);
    close_fd(&s->door.listener);
    free(s->kept);
    free(s->queue);
    free(s->address);
    free(s->spec_text);
    free(s);
}
