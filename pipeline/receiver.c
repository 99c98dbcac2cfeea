/* SPDX-License-Identifier: GPL-3.0-or-later
 * The receiving end of a link (link.h). It hands blocks out strictly in the order of their numbers: what came
 * before is a duplicate, what comes too early shows that something is missing, and is asked for again from
 * the first number that lacks. What it has lent out, and what of that came back, is lending.c's. */
#include "pipeline/config.h"
#include "pipeline/lane.h"
#include "pipeline/lending.h"
#include "pipeline/shm.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define BEAT_NS   INT64_C(250000000)
#define AGAIN_NS  INT64_C(500000000) /* a request that nothing came of is repeated */
#define SILENT_NS (1 * GW_SECOND_NS) /* a sender that said nothing for so long may be replaced */
enum { LINGER_MS = 500, BYE_MS = 500, AT_ONCE = 1024 }; /* messages heard in one go */

typedef struct lane_state {
    gw_lane *lane;
    uint64_t session; /* the sender's, once its SPEC was accepted; 0: none */
    uint64_t next;    /* the number it must bring next */
    uint64_t eos;     /* UINT64_MAX: not heard */
    uint32_t epoch;
    uint64_t asked_for;
    int64_t asked_ns, heard_ns, said_ns;
    uint32_t channel0, n_channels;
} lane_state;

struct gw_receiver {
    gw_link_conf c;
    char *address;
    uint64_t hash;
    int lanes;
    lane_state lane[GW_MAX_LANES];
    uint64_t session;
    uint64_t generation; /* grows whenever numbers begin anew */
    int64_t looked_ns;
    gw_lending *lending;
    uint64_t told; /* of what was worked off, what the sender knows */
    int conn;      /* shm */
    gw_segment *segment;
    gw_timebase timebase;
    bool timebase_known;
    gw_link_counts *count, own_count;
};

static void add(atomic_uint_fast64_t *c, uint64_t n)
{
    atomic_fetch_add_explicit(c, n, memory_order_relaxed);
}

static bool on_wire(const gw_receiver *r)
{
    return r->c.transport != GW_INPROC;
}

static void close_fd(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

/* -- what goes out ----------------------------------------------------------------------------------- */

static gw_control control_of(const gw_receiver *r, gw_control_type type, uint64_t count, uint64_t limit)
{
    return (gw_control){.type = (uint16_t)type, .session = r->c.session, .count = count, .limit = limit};
}

static int say(lane_state *l, const gw_control *c, const char *text)
{
    l->said_ns = gw_monotonic_ns();
    const int err = gw_lane_say(l->lane, c, text);
    if (err == GW_EPEER)
        gw_lane_forget(l->lane);
    return err;
}

static uint64_t limit_of(const gw_receiver *r)
{
    return gw_lending_done(r->lending) + (uint64_t)r->c.credit;
}

/* "Who are you?": the answer is a SPEC. */
static void open_session(gw_receiver *r, lane_state *l)
{
    gw_control c = control_of(r, GW_HELLO, GW_FROM_OLDEST, on_wire(r) ? 0 : limit_of(r));
    c.spec_hash = r->c.listen ? 0 : r->hash;
    c.epoch = l->epoch;
    char text[256];
    gw_spec_text(r->c.spec, text, sizeof text);
    (void)say(l, &c, on_wire(r) ? text : NULL);
}

/* "Send from what I lack", once for each number unless nothing came of it. */
static void ask_again(gw_receiver *r, lane_state *l)
{
    const int64_t now_ns = gw_monotonic_ns();
    if (l->asked_for == l->next && now_ns - l->asked_ns < AGAIN_NS)
        return;
    l->asked_for = l->next;
    l->asked_ns = now_ns;
    gw_control c = control_of(r, GW_HELLO, l->next, limit_of(r));
    c.epoch = ++l->epoch;
    (void)say(l, &c, NULL);
}

static int tell_done(gw_receiver *r)
{
    r->told = gw_lending_done(r->lending);
    const gw_control c = control_of(r, GW_CREDIT, r->told, limit_of(r));
    for (int k = 0; k < r->lanes; k++) {
        lane_state *l = &r->lane[k];
        if (on_wire(r) && (!l->session || l->session != r->session || !gw_lane_has_peer(l->lane)))
            continue;
        const int err = say(l, &c, NULL);
        if (err != GW_EAGAIN && err != GW_EPEER) /* the heartbeat says it again */
            GW_TRY(err);
    }
    return GW_OK;
}

/* -- what comes in ----------------------------------------------------------------------------------- */

static void read_timebase(gw_receiver *r, const char *text, size_t bytes)
{
    gw_conf_file *file;
    if (!strstr(text, "\"anchor_wall_ns\"") || gw_conf_parse(&file, "spec", text, bytes) != GW_OK)
        return;
    gw_conf *root = gw_conf_root(file);
    gw_timebase t = {0};
    const char *pace = NULL;
    if (gw_conf_get_text(root, "pace", &pace) == GW_OK && pace && gw_parse_double(pace, &t.pace) == GW_OK &&
        gw_conf_get_int(root, "anchor_wall_ns", INT64_MIN, INT64_MAX, &t.anchor_wall_ns) == GW_OK &&
        gw_conf_get_int(root, "anchor_data_ns", INT64_MIN, INT64_MAX, &t.anchor_data_ns) == GW_OK) {
        r->timebase = t;
        r->timebase_known = true;
    }
    gw_conf_free(&file);
}

static int refuse_spec(gw_receiver *r, lane_state *l, const char *theirs)
{
    char mine[256], text[1024];
    gw_spec_text(r->c.spec, mine, sizeof mine);
    snprintf(text, sizeof text, "the sender offers %.600s, expected is %s", theirs, mine);
    const gw_control c = control_of(r, GW_GONE, GW_GONE_REFUSE, 0);
    (void)gw_lane_answer(l->lane, &c, text);
    gw_lane_forget(l->lane);
    l->session = 0;
    return gw_fail(GW_EMISMATCH, "link %s: %s", r->c.spec->name, text);
}

static bool sender_lives(gw_receiver *r, lane_state *l)
{
    if (!l->session || !gw_lane_has_peer(l->lane))
        return false;
    const gw_control c = control_of(r, GW_CREDIT, gw_lending_done(r->lending), limit_of(r));
    return gw_monotonic_ns() - l->heard_ns < SILENT_NS && gw_lane_say(l->lane, &c, NULL) != GW_EPEER;
}

/* A sender that did not know us: numbers begin anew, with another process or because this one served somebody
 * else in between and let go of what we lack. Otherwise we go on where we were. */
static void begin_session(gw_receiver *r, lane_state *l, const gw_control *c)
{
    if (r->session != c->session || c->count > l->next) {
        r->session = c->session;
        r->generation++;
        r->told = c->count;
        gw_lending_restart(r->lending, c->count);
        for (int k = 0; k < r->lanes; k++) {
            r->lane[k].next = c->count;
            r->lane[k].eos = r->lane[k].asked_for = UINT64_MAX;
        }
        add(&r->count->sessions, 1);
    }
    gw_segment_unref(&r->segment);
    close_fd(&r->conn);
    l->session = c->session;
    l->eos = UINT64_MAX;
    l->asked_for = UINT64_MAX;
}

static void grant(gw_receiver *r, lane_state *l)
{
    gw_control c = control_of(r, GW_HELLO, l->next, limit_of(r));
    c.epoch = ++l->epoch;
    (void)say(l, &c, NULL);
}

static int hear_spec(gw_receiver *r, lane_state *l, const gw_heard *m)
{
    const gw_control *c = &m->control;
    if (m->stranger && c->session != l->session && sender_lives(r, l)) {
        const gw_control busy = control_of(r, GW_GONE, GW_GONE_BUSY, 0);
        (void)gw_lane_answer(l->lane, &busy, "another sender is being served");
        return GW_OK;
    }
    if (!c->session)
        return gw_fail(GW_EFORMAT, "link: a sender without a session");
    if (c->spec_hash == 0 || c->spec_hash != r->hash) {
        gw_spec offered;
        int err = gw_spec_read(m->text, c->text_bytes, &offered);
        if (err == GW_ENOMEM)
            return err;
        if (err != GW_OK)
            return refuse_spec(r, l, gw_err_detail());
        const bool agrees = gw_spec_agrees(r->c.spec, &offered);
        char theirs[256];
        gw_spec_text(&offered, theirs, sizeof theirs);
        gw_spec_free(&offered);
        if (!agrees)
            return refuse_spec(r, l, theirs);
    }
    gw_lane_adopt(l->lane);
    l->heard_ns = gw_monotonic_ns();
    read_timebase(r, m->text, c->text_bytes);
    if (c->session ==
        l->session) { /* again: because time is known now, or because it did not hear our HELLO */
        if (r->c.listen)
            grant(r, l);
        return GW_OK;
    }
    begin_session(r, l, c);
    if (r->c.transport == GW_SHM) /* no credit before the memory is here */
        (void)gw_shm_connect(&r->conn, r->address, r->c.session);
    else
        grant(r, l);
    return GW_OK;
}

static void fetch_memory(gw_receiver *r)
{
    lane_state *l = &r->lane[0];
    if (r->conn < 0 || r->segment) {
        if (r->conn >= 0 && gw_shm_hung_up(r->conn))
            close_fd(&r->conn); /* the sender's process is gone; what it sent can still be read */
        return;
    }
    int err = gw_segment_receive(r->conn, &r->segment);
    if (err == GW_OK)
        grant(r, l);
    else if (err != GW_EAGAIN) {
        close_fd(&r->conn);
        l->session = 0; /* begin again */
    }
}

static int hear_control(gw_receiver *r, lane_state *l, const gw_heard *m)
{
    const gw_control *c = &m->control;
    if (c->type == GW_SPEC)
        return on_wire(r) ? hear_spec(r, l, m) : GW_OK;
    if (c->type == GW_GONE && c->count == GW_GONE_REFUSE && !m->stranger && !l->session)
        return gw_fail(GW_EMISMATCH, "link %s: refused: %s", r->c.spec->name, m->text);
    const bool unknown = c->type == GW_GONE && c->count == GW_GONE_UNKNOWN;
    if (on_wire(r) && (!l->session || c->session != l->session || unknown)) {
        if (c->type != GW_BEAT && c->type != GW_EOS && !unknown)
            return GW_OK;
        if (m->stranger && sender_lives(r, l))
            return GW_OK;
        gw_lane_adopt(l->lane); /* a sender of a life before ours, or of another before its */
        l->session = 0;
        open_session(r, l);
        return GW_OK;
    }
    if (m->stranger)
        gw_lane_adopt(l->lane); /* the same sender over a new connection */
    l->heard_ns = gw_monotonic_ns();
    switch (c->type) {
    case GW_EOS:
        l->eos = c->count;
        /* fall through */
    case GW_BEAT:
        if (on_wire(r) &&
            c->count > l->next) { /* sent, and not here: lost, unless it was sent before we asked */
            if (c->epoch == l->epoch)
                l->asked_for = UINT64_MAX;
            ask_again(r, l);
        }
        break;
    case GW_GONE: /* it ended or failed; another may come */
        l->session = 0;
        gw_lane_forget(l->lane);
        break;
    default:
        add(&r->count->malformed, 1);
    }
    return GW_OK;
}

/* What a block must be on this lane. */
static int check_block(gw_receiver *r, lane_state *l, const gw_heard *m)
{
    const gw_header *h = &m->header;
    const gw_spec *s = r->c.spec;
    if (h->flags & GW_FLAG_GAP)
        return GW_OK;
    if (r->lanes > 1 && h->channel0 != 0 && h->channel0 != l->channel0)
        return gw_fail(GW_EFORMAT,
                       "link %s: block %" PRIu64 " begins at channel %" PRIu32 ", this lane at %" PRIu32,
                       s->name, h->seq, h->channel0, l->channel0);
    if (h->n_channels != l->n_channels || h->dtype != s->dtype || h->n_samples > s->block_samples)
        return gw_fail(GW_EFORMAT,
                       "link %s: block %" PRIu64 " has %" PRIu32 " channels x %" PRIu32
                       " samples of %s, the stream %" PRIu32 " x at most %" PRIu32 " of %s",
                       s->name, h->seq, h->n_channels, h->n_samples, gw_dtype_text((gw_dtype)h->dtype),
                       l->n_channels, s->block_samples, gw_dtype_text(s->dtype));
    gw_descriptor d;
    if (r->c.transport == GW_SHM)
        return gw_descriptor_read(m->where, m->where_bytes, h, r->segment ? r->segment->bytes : 0, &d);
    return GW_OK;
}

/* A block of the wire. GW_OK with *b NULL: it was of no use. */
static int hear_block(gw_receiver *r, lane_state *l, gw_heard *m, gw_block **b)
{
    const gw_header *h = &m->header;
    if (!l->session || h->run_id != l->session || l->session != r->session) {
        add(&r->count->malformed, 1);
        return GW_OK;
    }
    l->heard_ns = gw_monotonic_ns();
    if (h->seq < l->next) {
        add(&r->count->duplicates, 1);
        return GW_OK;
    }
    if (h->seq > l->next) {
        ask_again(r, l);
        return GW_OK;
    }
    int err = h->seq < limit_of(r) ? check_block(r, l, m)
                                   : gw_fail(GW_EFORMAT, "link %s: block %" PRIu64 " goes beyond the credit",
                                             r->c.spec->name, h->seq);
    if (err == GW_OK)
        err = r->lanes > 1 ? gw_lending_slice(r->lending, (int)(l - r->lane), l->next, l->channel0, m)
                           : gw_lending_whole(r->lending, m, r->segment, b);
    if (err == GW_EFORMAT) { /* no damage, the checksums were right: this peer does not speak our language */
        char text[512];
        snprintf(text, sizeof text, "%s", gw_err_detail());
        const gw_control c = control_of(r, GW_GONE, GW_GONE_REFUSE, 0);
        (void)say(l, &c, text);
        gw_lane_forget(l->lane);
        l->session = 0;
        return gw_fail(GW_EMISMATCH, "%s", text);
    }
    GW_TRY(err);
    l->next++;
    return GW_OK;
}

/* -- the caller's side ------------------------------------------------------------------------------- */

int gw_receiver_open(gw_receiver **out, const gw_link_conf *c)
{
    *out = NULL;
    const int lanes = c->lanes > 0 ? c->lanes : 1;
    if (lanes > GW_MAX_LANES || (uint32_t)lanes > c->spec->n_channels ||
        (c->transport == GW_SHM && c->listen))
        return gw_fail(GW_ECONFIG, "link %s: %d lanes for %" PRIu32 " channels over %s", c->address, lanes,
                       c->spec->n_channels, gw_transport_text(c->transport));
    gw_receiver *r = calloc(1, sizeof *r);
    if (!r)
        return gw_fail(GW_ENOMEM, "link %s", c->address);
    r->c = *c;
    r->count = c->counts ? c->counts : &r->own_count;
    r->lanes = lanes;
    r->conn = -1;
    r->hash = gw_spec_hash(c->spec);
    for (int k = 0; k < lanes; k++)
        r->lane[k].eos = r->lane[k].asked_for = UINT64_MAX;
    r->address = strdup(c->address);
    int err = r->address ? GW_OK : gw_fail(GW_ENOMEM, "link %s", c->address);
    r->c.address = r->address;
    if (err == GW_OK)
        err = gw_lending_new(&r->lending, &r->c, lanes, r->count);
    for (int k = 0; k < lanes && err == GW_OK; k++) {
        lane_state *l = &r->lane[k];
        const uint64_t n = c->spec->n_channels;
        l->channel0 = (uint32_t)(n * (unsigned)k / (unsigned)lanes);
        l->n_channels = (uint32_t)(n * (unsigned)(k + 1) / (unsigned)lanes) - l->channel0;
        err = gw_lane_open(&l->lane, &r->c, k, false);
        if (err == GW_OK && !c->listen)
            open_session(r, l);
    }
    if (err != GW_OK) {
        gw_receiver_close(&r);
        return err;
    }
    *out = r;
    return GW_OK;
}

int gw_receiver_poll(gw_receiver *r, zmq_pollitem_t *item, int max)
{
    int n = 0;
    for (int k = 0; k < r->lanes && n < max; k++)
        item[n++] = (zmq_pollitem_t){.socket = gw_lane_socket(r->lane[k].lane), .events = ZMQ_POLLIN};
    if (r->conn >= 0 && n < max)
        item[n++] = (zmq_pollitem_t){.fd = r->conn, .events = ZMQ_POLLIN};
    return n;
}

uint64_t gw_receiver_session(const gw_receiver *r)
{
    return r->generation;
}

bool gw_receiver_timebase(const gw_receiver *r, gw_timebase *t)
{
    *t = r->timebase;
    return r->timebase_known;
}

static int heartbeat(gw_receiver *r)
{
    const int64_t now_ns = gw_monotonic_ns();
    for (int k = 0; k < r->lanes; k++) {
        lane_state *l = &r->lane[k];
        atomic_store_explicit(&r->count->heard_ns, l->heard_ns, memory_order_relaxed);
        if (now_ns - l->said_ns < BEAT_NS || !gw_lane_has_peer(l->lane))
            continue;
        if (!l->session) {
            open_session(r, l);
        } else if (r->c.transport == GW_SHM && !r->segment) {
            if (r->conn < 0)
                (void)gw_shm_connect(&r->conn, r->address, r->c.session);
            l->said_ns = now_ns;
        } else {
            const gw_control c = control_of(r, GW_CREDIT, gw_lending_done(r->lending), limit_of(r));
            (void)say(l, &c, NULL);
        }
    }
    return GW_OK;
}

int gw_receiver_beat(gw_receiver *r)
{
    if (!on_wire(r))
        return GW_OK;
    if (gw_lending_done(r->lending) > r->told)
        GW_TRY(tell_done(r));
    return heartbeat(r);
}

/* Hears until there is a block for the caller (one lane), or nothing more. */
static int hear_lane(gw_receiver *r, lane_state *l, gw_block **b)
{
    for (int i = 0; i < AT_ONCE; i++) {
        gw_heard m;
        int err = gw_lane_hear(l->lane, &m);
        if (err == GW_EFORMAT) {
            gw_lane_complain(l->lane, r->count);
            if (!m.stranger && l->session && on_wire(r))
                ask_again(r, l); /* most likely that was the block we want */
            continue;
        }
        GW_TRY(err);
        if (m.is_control) {
            GW_TRY(hear_control(r, l, &m));
        } else if (m.block) { /* inproc: neither lost nor doubled */
            gw_lending_pass(r->lending, &m);
            l->next++;
            *b = m.block;
        } else {
            GW_TRY(hear_block(r, l, &m, b));
        }
        if (*b)
            return GW_OK;
        if (r->lanes > 1 && l->next - gw_lending_handed(r->lending) >= (uint64_t)r->c.credit)
            break;
    }
    return GW_EAGAIN;
}

static bool all_ended(const gw_receiver *r)
{
    for (int k = 0; k < r->lanes; k++)
        if (r->lane[k].eos != gw_lending_handed(r->lending))
            return false;
    return true;
}

/* Time in which this end did not look cannot be held against the other. */
static void forgive(gw_receiver *r)
{
    const int64_t now_ns = gw_monotonic_ns(), late_ns = now_ns - r->looked_ns - BEAT_NS;
    for (int k = 0; k < r->lanes && r->looked_ns && late_ns > 0; k++)
        if (r->lane[k].heard_ns)
            r->lane[k].heard_ns += late_ns;
    r->looked_ns = now_ns;
}

int gw_receiver_take(gw_receiver *r, gw_block **b)
{
    *b = NULL;
    forgive(r);
    if (r->c.transport == GW_SHM)
        fetch_memory(r);
    for (int k = 0; k < r->lanes; k++) {
        int err = hear_lane(r, &r->lane[k], b);
        if (err != GW_EAGAIN)
            GW_TRY(err);
        if (*b)
            return GW_OK;
    }
    if (r->lanes > 1) {
        *b = gw_lending_joined(r->lending);
        if (*b)
            return GW_OK;
    }
    if (all_ended(r))
        return GW_EEND;
    if (!on_wire(r) && r->lane[0].eos != UINT64_MAX)
        return gw_fail(GW_EBUG, "link: %" PRIu64 " of %" PRIu64 " blocks came", gw_lending_handed(r->lending),
                       r->lane[0].eos);
    if (gw_lending_done(r->lending) > r->told)
        GW_TRY(tell_done(r));
    if (on_wire(r))
        GW_TRY(heartbeat(r));
    return GW_EAGAIN;
}

int gw_receiver_done(gw_receiver *r, gw_block **b)
{
    gw_block_unref(b);
    if (!on_wire(r))
        gw_lending_passed(r->lending);
    const uint64_t batch = (uint64_t)r->c.credit / 8;
    return gw_lending_done(r->lending) - r->told > (batch > 1 ? batch - 1 : 0) ? tell_done(r) : GW_OK;
}

/* The sender lets go when it has heard BYE, and says so; then nothing of ours can be lost by closing. */
static void wait_for_leave(gw_receiver *r)
{
    const int64_t until_ns = gw_monotonic_ns() + (int64_t)BYE_MS * 1000000;
    for (int k = 0; k < r->lanes; k++) {
        lane_state *l = &r->lane[k];
        while (gw_lane_has_peer(l->lane) && gw_monotonic_ns() < until_ns) {
            gw_heard m;
            int err = gw_lane_hear(l->lane, &m);
            if (err == GW_OK && m.is_control && m.control.type == GW_GONE)
                break;
            if (err == GW_OK && m.is_control && m.control.type == GW_EOS && !m.stranger) {
                const gw_control bye = control_of(r, GW_BYE, gw_lending_handed(r->lending), 0);
                (void)say(l, &bye, NULL);
            }
            if (err == GW_EAGAIN) {
                zmq_pollitem_t item = {.socket = gw_lane_socket(l->lane), .events = ZMQ_POLLIN};
                (void)zmq_poll(&item, 1, 20);
            }
            if (r->conn >= 0 && gw_shm_hung_up(r->conn))
                break;
        }
    }
}

void gw_receiver_close(gw_receiver **rr)
{
    gw_receiver *r = *rr;
    if (!r)
        return;
    *rr = NULL;
    const bool whole =
        r->lending && all_ended(r) && gw_lending_done(r->lending) == gw_lending_handed(r->lending);
    const gw_control c = whole ? control_of(r, GW_BYE, gw_lending_handed(r->lending), 0)
                               : control_of(r, GW_GONE, GW_GONE_LEFT, 0);
    for (int k = 0; k < r->lanes; k++)
        if (r->lane[k].lane && gw_lane_has_peer(r->lane[k].lane))
            (void)say(&r->lane[k], &c, NULL);
    if (whole && on_wire(r))
        wait_for_leave(r);
    for (int k = 0; k < r->lanes; k++)
        gw_lane_close(&r->lane[k].lane, on_wire(r) ? LINGER_MS : 0);
    close_fd(&r->conn);
    gw_segment_unref(&r->segment);
    gw_lending_close(&r->lending);
    free(r->address);
    free(r);
}
