/* SPDX-License-Identifier: GPL-3.0-or-later
 * From blocks to hops. Blocks come in any length, begin anywhere and may have holes between them; a stage
 * wants its hop with history, whole and in one piece. Each input copies blocks into one buffer that
 * holds the latest stretch without a hole; the runner takes messages only while the next hop is not
 * complete (or a little ahead, where inputs may be given up), so the buffer never holds more than that. */
#include "pipeline/log.h"
#include "pipeline/node.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* -- open and close ---------------------------------------------------------------------------------- */

static size_t presence_bytes(const gw_input *in)
{
    return (in->spec->n_channels + 7) / 8;
}

size_t gw_input_bytes(const gw_input *in)
{
    if (!in->hop)
        return 0;
    /* Twice what is needed, so that old samples are moved down only now and then. */
    const size_t samples =
        2 * ((size_t)in->history + in->hop + in->ahead) + 2 * (size_t)in->spec->block_samples;
    return samples * in->spec->n_channels * gw_dtype_bytes(in->spec->dtype);
}

int gw_input_open(gw_input *in)
{
    if (in->hop) {
        const size_t bytes = gw_input_bytes(in);
        in->capacity = bytes / in->spec->n_channels / gw_dtype_bytes(in->spec->dtype);
        in->buffer = calloc(bytes, 1);
        in->presence = calloc(GW_MAX_META + 1, presence_bytes(in));
        if (!in->buffer || !in->presence)
            return gw_fail(GW_ENOMEM, "input %s: %zu samples x %" PRIu32 " channels", in->spec->name,
                           in->capacity, in->spec->n_channels);
    }
    gw_link_conf c = {.zmq = gw_graph_zmq(in->node->graph),
                      .spec = in->spec,
                      .session = gw_graph_run_id(in->node->graph),
                      .credit = in->credit,
                      .on_full = in->on_full,
                      .counts = &in->link_count};
    gw_route_conf(&in->route, false, in->from->here, &c);
    return gw_receiver_open(&in->link, &c);
}

void gw_input_close(gw_input *in)
{
    if (in->has_next)
        (void)gw_input_done(in, &in->next);
    in->has_next = false;
    if (in->waiting)
        (void)gw_receiver_done(in->link, &in->waiting);
    gw_receiver_close(&in->link);
    free(in->buffer);
    free(in->presence);
    in->buffer = NULL;
    in->presence = NULL;
}

/* -- what was said about the samples in the buffer --------------------------------------------------- */

static uint8_t *presence_row(const gw_input *in, int slot)
{
    return in->presence + (size_t)slot * presence_bytes(in);
}

static void and_bits(uint8_t *to, const uint8_t *from, size_t n)
{
    for (size_t i = 0; i < n; i++)
        to[i] &= from[i];
}

static void free_slot(gw_input *in, const gw_meta *m)
{
    if (m->slot >= 0)
        in->slots_used &= ~(UINT64_C(1) << m->slot);
}

/* What holds for both is left in b. */
static void merge_meta(gw_input *in, gw_meta *a, gw_meta *b)
{
    b->dq &= a->dq;
    b->flags |= a->flags;
    if (a->slot >= 0 && b->slot >= 0)
        and_bits(presence_row(in, b->slot), presence_row(in, a->slot), presence_bytes(in));
    if (b->slot < 0) {
        b->slot = a->slot;
        a->slot = -1;
    }
}

/* Forgets what ends at `before` or earlier; where there is no more room, at least one. */
static void forget_meta(gw_input *in, int64_t before)
{
    int gone = 0;
    while (gone < in->n_meta && in->meta[gone].end <= before)
        gone++;
    if (gone == 0 && in->n_meta == GW_MAX_META) { /* many tiny blocks: the two oldest become one */
        merge_meta(in, &in->meta[0], &in->meta[1]);
        gone = 1;
    }
    for (int i = 0; i < gone; i++)
        free_slot(in, &in->meta[i]);
    in->n_meta -= gone;
    memmove(in->meta, in->meta + gone, (size_t)in->n_meta * sizeof in->meta[0]);
}

static void add_meta(gw_input *in, const gw_arrival *a, int64_t need_from)
{
    if (in->n_meta == GW_MAX_META)
        forget_meta(in, need_from);
    const gw_header *h = &a->block->hdr;
    gw_meta *m = &in->meta[in->n_meta++];
    *m = (gw_meta){.end = in->hi,
                   .dq = h->dq,
                   .flags = h->flags,
                   .networks = h->networks,
                   .slot = -1,
                   .due_ns = h->due_ns,
                   .ingest_ns = h->ingest_ns};
    if (!a->presence)
        return;
    m->slot = __builtin_ctzll(~in->slots_used); /* one is free: as many as metas, and this one is new */
    in->slots_used |= UINT64_C(1) << m->slot;
    memcpy(presence_row(in, m->slot), a->presence, presence_bytes(in));
}

/* -- what comes -------------------------------------------------------------------------------------- */

static gw_hole hole_between(int64_t from, int64_t to, gw_gap_reason reason, uint64_t dq)
{
    return (gw_hole){.sample0 = from, .samples = (uint64_t)(to - from), .reason = reason, .dq = dq};
}

/* A hole that nobody sent. */
static gw_arrival own_hole(gw_input *in, int64_t from, int64_t to, gw_gap_reason reason, uint64_t dq)
{
    gw_count_add(&in->count.gap_samples[reason], (uint64_t)(to - from));
    return (gw_arrival){.hole = hole_between(from, to, reason, dq)};
}

/* The block's presence bits, NULL when none is clear. */
static const uint8_t *some_absent(const gw_block *b)
{
    const uint8_t *bits = gw_block_presence(b);
    for (uint32_t c = 0; bits && c < b->hdr.n_channels; c++)
        if (!gw_present(bits, c))
            return bits;
    return NULL;
}

/* What there is to know whenever a block comes from another process. */
static void hear_sender(gw_input *in)
{
    const uint64_t session = gw_receiver_session(in->link);
    const bool anew = in->session && session != in->session;
    gw_timebase t;
    if ((anew || !in->node->timebase.anchor_wall_ns) && gw_receiver_timebase(in->link, &t))
        gw_graph_adopt_timebase(in->node->graph, &t, anew);
    if (anew) {
        gw_log(GW_LOG_WARN, in->node->name, "%s comes from another run of node %s now", in->spec->name,
               in->route.from->name);
        in->anew = in->loose = true;
    }
    in->session = session;
}

static int take_message(gw_input *in, gw_block **b)
{
    const bool across = !in->from->here;
    if (across && gw_graph_past_grace(in->node->graph))
        return GW_EEND;
    int err = gw_receiver_take(in->link, b);
    if (err == GW_EPEER)
        return gw_fail_at(GW_EIO, "stream %s", in->spec->name); /* not our own receivers, who may leave */
    if (err == GW_OK) {
        gw_count_taken(&in->count, in->meter, &(*b)->hdr);
        if (across)
            hear_sender(in);
    }
    return err;
}

static int drop_late(gw_input *in, gw_block *b)
{
    gw_count_add(&in->count.late_samples, b->hdr.n_samples);
    return gw_receiver_done(in->link, &b);
}

/* Fills in->next with what comes next: it begins at in->end. */
static int fetch(gw_input *in)
{
    gw_arrival *a = &in->next;
    for (;;) {
        gw_block *b = in->waiting;
        in->waiting = NULL;
        if (!b)
            GW_TRY(take_message(in, &b));
        const gw_header *h = &b->hdr;
        const int64_t from = h->sample0, to = from + (int64_t)h->n_samples + (int64_t)h->gap_samples;
        if (!in->started)
            in->end = from;
        if (from != in->end && !in->loose) {
            int err = gw_fail(GW_EBUG, "stream %s does not tile: sample %" PRId64 " after %" PRId64,
                              in->spec->name, from, in->end);
            (void)gw_receiver_done(in->link, &b);
            return err;
        }
        if (to <= in->end || (from < in->end && h->n_samples)) {
            GW_TRY(drop_late(in, b)); /* whole, also where only its beginning is late */
            continue;
        }
        if (from > in->end) {
            *a = own_hole(in, in->end, from, GW_GAP_ABSENT, h->dq);
            in->waiting = b;
        } else if (h->flags & GW_FLAG_GAP) {
            *a = (gw_arrival){.hole = hole_between(in->end, to, (gw_gap_reason)h->gap_reason, h->dq)};
            GW_TRY(gw_receiver_done(in->link, &b));
        } else if (some_absent(b) && !in->node->kind->takes_presence) {
            *a = own_hole(in, from, to, GW_GAP_CHANNEL, h->dq);
            GW_TRY(gw_receiver_done(in->link, &b));
        } else {
            *a = (gw_arrival){.block = b, .presence = some_absent(b)};
        }
        a->anew = in->anew;
        in->anew = in->loose = false;
        in->has_next = true;
        return GW_OK;
    }
}

/* Hands in->next on. */
static void hand_over(gw_input *in, gw_arrival *a)
{
    *a = in->next;
    in->has_next = false;
    const int64_t from = a->block ? a->block->hdr.sample0 : a->hole.sample0;
    if (!in->started || a->anew) { /* no history */
        in->lo = in->hi = in->base = from;
        forget_meta(in, INT64_MAX);
        in->reason = GW_GAP_HISTORY;
        in->hole_dq = GW_DQ_ALL;
    }
    in->started = true;
    in->end = from + (a->block ? (int64_t)a->block->hdr.n_samples : (int64_t)a->hole.samples);
}

static int look(gw_input *in)
{
    if (in->has_next)
        return GW_OK;
    int err = in->ended ? GW_EEND : fetch(in);
    in->ended |= err == GW_EEND;
    return err;
}

int gw_input_next(gw_input *in, gw_arrival *a)
{
    GW_TRY(look(in));
    hand_over(in, a);
    return GW_OK;
}

int gw_input_done(gw_input *in, gw_arrival *a)
{
    return a->block ? gw_receiver_done(in->link, &a->block) : GW_OK;
}

int64_t gw_input_known(const gw_input *in)
{
    return in->has_next && !in->next.block ? in->end + (int64_t)in->next.hole.samples : in->end;
}

/* -- the buffer -------------------------------------------------------------------------------------- */

static void append(gw_input *in, const gw_arrival *a, int64_t need_from)
{
    const gw_block *b = a->block;
    const size_t size = gw_dtype_bytes(in->spec->dtype);
    const uint32_t n = b->hdr.n_samples;
    if (in->hi == in->lo) /* empty: begin anew */
        in->lo = in->hi = in->base = b->hdr.sample0;
    if ((size_t)(in->hi - in->base) + n > in->capacity) {
        int64_t keep = need_from > in->lo ? (need_from < in->hi ? need_from : in->hi) : in->lo;
        for (uint32_t c = 0; c < in->spec->n_channels; c++) {
            char *row = in->buffer + c * in->capacity * size;
            memmove(row, row + (size_t)(keep - in->base) * size, (size_t)(in->hi - keep) * size);
        }
        in->lo = in->base = keep;
        forget_meta(in, keep);
    }
    for (uint32_t c = 0; c < in->spec->n_channels; c++)
        memcpy(in->buffer + (c * in->capacity + (size_t)(in->hi - in->base)) * size,
               (const char *)b->data + (size_t)c * n * size, n * size);
    in->hi += n;
    add_meta(in, a, need_from);
}

int gw_input_take(gw_input *in, int64_t need_from, bool ahead, gw_arrival *a)
{
    GW_TRY(look(in));
    if (ahead && (!in->next.block || in->next.anew))
        return GW_EAGAIN;
    hand_over(in, a);
    if (a->block)
        append(in, a, need_from);
    else {
        in->reason = a->hole.reason;
        in->hole_dq = a->hole.dq;
        in->lo = in->hi = in->base = in->end;
        forget_meta(in, INT64_MAX);
    }
    return gw_input_done(in, a);
}

void gw_input_give_up(gw_input *in, int64_t until)
{
    const uint64_t samples = in->started ? (uint64_t)(until - in->end) : 0;
    gw_count_add(&in->count.gap_samples[GW_GAP_LATE], samples);
    gw_count_add(&in->given_up_samples, samples);
    in->started = in->loose = in->late = true;
    in->end = in->lo = in->hi = in->base = until;
    forget_meta(in, INT64_MAX);
    in->reason = GW_GAP_LATE;
    in->hole_dq = GW_DQ_ALL;
}

bool gw_input_has(const gw_input *in, int64_t from, int64_t to)
{
    return in->lo <= from && in->hi >= to;
}

void gw_input_view(const gw_input *in, int64_t from, uint32_t n, gw_view *v)
{
    const size_t size = gw_dtype_bytes(in->spec->dtype);
    *v = (gw_view){.data = in->buffer + (size_t)(from - in->base) * size,
                   .stride = in->capacity,
                   .n_samples = n,
                   .n_channels = in->spec->n_channels,
                   .sample0 = from,
                   .dq = UINT64_MAX};
    int64_t start = INT64_MIN;
    for (int i = 0; i < in->n_meta; i++) {
        const gw_meta *m = &in->meta[i];
        if (m->end > from && start < from + n) { /* a block that overlaps [from, from + n) */
            v->dq &= m->dq;
            v->flags |= m->flags & (GW_FLAG_INJECTION | GW_FLAG_REPLAY);
            v->networks = m->networks;
            v->due_ns = m->due_ns;
            v->ingest_ns = m->ingest_ns;
        }
        if (m->slot >= 0 && m->end > from - in->history && start < from + n) {
            uint8_t *all = presence_row(in, GW_MAX_META);
            if (!v->presence)
                memset(all, 0xff, presence_bytes(in));
            and_bits(all, presence_row(in, m->slot), presence_bytes(in));
            v->presence = all;
        }
        start = m->end;
    }
}
