/* SPDX-License-Identifier: GPL-3.0-or-later
 * One stream's blocks, sorted by their first sample, from the one that comes next to the newest. Usually
 * there is one: what comes in turn goes through. */
#include "sources/order.h"

#include <stdlib.h>
#include <string.h>

/* Beyond this no sample number is believed: some 10^13 s at 16 kHz, and far from overflow. */
#define LAST_SAMPLE (INT64_C(1) << 57)

struct gw_order {
    gw_order_conf conf;
    gw_block **held; /* [room], by first sample */
    int n_held, room;
    gw_block *aside; /* alone and far from the others: waits for company */
    bool begun, ended;
    uint64_t run_id, seq; /* of the block that came last */
    int64_t at;           /* all before it has been given */
    int64_t newest;       /* end of the newest sample that came or was given */
    int64_t hole0, hole1; /* the latest hole that was given */
    gw_order_counts count;
};

static int64_t begin_of(const gw_block *b)
{
    return b->hdr.sample0;
}

static int64_t end_of(const gw_block *b)
{
    return b->hdr.sample0 + (int64_t)b->hdr.n_samples + (int64_t)b->hdr.gap_samples;
}

int gw_order_new(gw_order **out, const gw_order_conf *c)
{
    *out = NULL;
    gw_order *o = calloc(1, sizeof *o);
    const int room = 2 * c->credit; /* a sender that was started anew has a credit of its own */
    gw_block **held = calloc((size_t)room, sizeof *held);
    if (!o || !held) {
        free(o);
        free(held);
        return gw_fail(GW_ENOMEM, "order: %d blocks", room);
    }
    o->conf = *c;
    o->held = held;
    o->room = room;
    *out = o;
    return GW_OK;
}

static void done(gw_order *o, gw_block *b)
{
    o->conf.done(o->conf.owner, b);
}

void gw_order_destroy(gw_order **oo)
{
    gw_order *o = *oo;
    if (!o)
        return;
    *oo = NULL;
    for (int i = 0; i < o->n_held; i++)
        done(o, o->held[i]);
    if (o->aside)
        done(o, o->aside);
    free(o->held);
    free(o);
}

/* Two blocks of which the later one begins no further than `far` from the other's end. */
static bool near_each_other(const gw_order *o, const gw_block *a, const gw_block *b)
{
    return begin_of(b) <= end_of(a) + o->conf.far_samples && begin_of(a) <= end_of(b) + o->conf.far_samples;
}

/* Where the hole begins that a block from `begin` on (at place i) falls into, or that comes after what it
 * repeats. */
static int64_t hole_begin(const gw_order *o, int64_t begin, int i)
{
    int64_t hole = o->begun ? o->at : begin;
    for (int k = 0; k < i; k++)
        hole = end_of(o->held[k]) > hole ? end_of(o->held[k]) : hole;
    for (int k = i; k < o->n_held && hole >= begin && begin_of(o->held[k]) <= hole; k++)
        hole = end_of(o->held[k]) > hole ? end_of(o->held[k]) : hole;
    return hole;
}

static void insert(gw_order *o, gw_block *b)
{
    const int64_t begin = begin_of(b), end = end_of(b);
    int i = o->n_held;
    while (i > 0 && begin_of(o->held[i - 1]) > begin)
        i--;
    if (begin < o->newest) { /* not in turn */
        const int64_t hole = hole_begin(o, begin, i);
        const bool touches = hole > begin || (i < o->n_held && begin_of(o->held[i]) < end);
        /* That the hole is open no longer does not depend on whether somebody has asked for it yet. */
        const bool late = o->begun && hole < end && o->newest - hole > o->conf.window_samples;
        o->count.late += late;
        o->count.repeated += !late && touches;
        if (late || hole >= end) {
            done(o, b);
            return;
        }
    }
    memmove(o->held + i + 1, o->held + i, (size_t)(o->n_held - i) * sizeof *o->held);
    o->held[i] = b;
    o->n_held++;
    if (end > o->newest)
        o->newest = end;
}

/* The stream begins, or goes on somewhere else, with what was set aside. */
static void take_aside(gw_order *o)
{
    gw_block *b = o->aside;
    o->aside = NULL;
    if (b)
        insert(o, b);
}

static void begin_with_first(gw_order *o)
{
    if (o->begun || o->n_held == 0)
        return;
    o->begun = true;
    o->at = o->hole1 = begin_of(o->held[0]); /* what lies before comes late */
}

/* Whether block b keeps the sender from sending more than has come. */
static bool blocks_sender(const gw_order *o, const gw_block *b)
{
    return b && b->hdr.run_id == o->run_id && o->seq - b->hdr.seq + 1 >= (uint64_t)o->conf.credit;
}

static bool credit_is_spent(const gw_order *o)
{
    bool spent = blocks_sender(o, o->aside);
    for (int i = 0; i < o->n_held; i++)
        spent |= blocks_sender(o, o->held[i]);
    return spent;
}

static void refuse(gw_order *o, gw_block *b)
{
    o->count.stray++;
    done(o, b);
}

bool gw_order_put(gw_order *o, gw_block *b)
{
    o->run_id = b->hdr.run_id;
    o->seq = b->hdr.seq;
    if (begin_of(b) < 0 || end_of(b) > LAST_SAMPLE || o->n_held + 1 >= o->room) {
        refuse(o, b);
        return false;
    }
    if (o->begun && end_of(b) <= o->at) {
        const bool late = begin_of(b) < o->hole1 && end_of(b) > o->hole0;
        o->count.late += late;
        o->count.repeated += !late;
        done(o, b);
        return false;
    }
    const bool far = !o->begun || begin_of(b) > o->newest + o->conf.far_samples;
    if (far && !(o->aside && near_each_other(o, o->aside, b))) {
        if (o->aside)
            refuse(o, o->aside);
        o->aside = b;
        return false;
    }
    if (far) {
        take_aside(o);
    } else if (o->aside) { /* the others go on as before: it was alone */
        refuse(o, o->aside);
        o->aside = NULL;
    }
    const bool in_turn = begin_of(b) == o->newest;
    insert(o, b);
    begin_with_first(o);
    return in_turn;
}

void gw_order_begin(gw_order *o, int64_t at)
{
    if (o->begun)
        return;
    o->begun = true;
    o->at = o->newest = o->hole1 = at;
    gw_block *b = o->aside;
    o->aside = NULL;
    if (b)
        (void)gw_order_put(o, b);
}

void gw_order_end(gw_order *o)
{
    o->ended = true;
    take_aside(o);
    begin_with_first(o);
}

bool gw_order_over(const gw_order *o)
{
    return o->ended && o->n_held == 0;
}

bool gw_order_at(const gw_order *o, int64_t *at)
{
    *at = o->at;
    return o->begun;
}

static void drop_first(gw_order *o)
{
    done(o, o->held[0]);
    o->n_held--;
    memmove(o->held, o->held + 1, (size_t)o->n_held * sizeof *o->held);
}

bool gw_order_next(gw_order *o, gw_block **b, int64_t *end)
{
    *b = NULL;
    *end = INT64_MAX;
    while (o->n_held && end_of(o->held[0]) <= o->at) /* given, or covered by others */
        drop_first(o);
    if (!o->begun || o->n_held == 0)
        return false;
    if (begin_of(o->held[0]) <= o->at) {
        *b = o->held[0];
        *end = end_of(*b);
        return true;
    }
    *end = begin_of(o->held[0]);
    return o->ended || o->newest - o->at > o->conf.window_samples || credit_is_spent(o);
}

void gw_order_give(gw_order *o, int64_t to, bool as_hole)
{
    if (as_hole) {
        if (o->at != o->hole1)
            o->hole0 = o->at;
        o->hole1 = to;
    }
    o->at = to;
    if (to > o->newest)
        o->newest = to;
}

const gw_order_counts *gw_order_count(const gw_order *o)
{
    return &o->count;
}
