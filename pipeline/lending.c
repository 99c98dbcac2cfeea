/* SPDX-License-Identifier: GPL-3.0-or-later
 * What a receiver has lent: see lending.h. Blocks come back in any order; a ring of flags turns that into one
 * number, below which all are back. */
#include "pipeline/lending.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

typedef struct lent {
    gw_block b; /* first */
    gw_lending *home;
    uint64_t number, generation;
    bool has_message;
    zmq_msg_t message;
    gw_segment *segment;
    void *copy; /* this lent's own memory: put together from several lanes, or moved to a good address */
    size_t copy_bytes;
    uint32_t lanes_in; /* several lanes: a bit for each that has brought its part */
    struct lent *next;
} lent;

struct gw_lending {
    const gw_spec *spec;
    gw_link_counts *count;
    bool shared;
    int lanes;
    uint64_t credit, generation;
    uint64_t handed, done;
    bool *released; /* [credit] ring: numbers done .. handed - 1 that came back out of order */
    lent **slot;    /* [credit] ring, several lanes: blocks being put together */
    lent *spare;
    int outstanding;
    bool closed;
};

static void free_lending(gw_lending *l)
{
    while (l->spare) {
        lent *e = l->spare;
        l->spare = e->next;
        free(e->copy);
        free(e);
    }
    free(l->released);
    free(l->slot);
    free(l);
}

int gw_lending_new(gw_lending **out, const gw_link_conf *c, int lanes, gw_link_counts *counts)
{
    *out = NULL;
    gw_lending *l = calloc(1, sizeof *l);
    if (!l)
        return gw_fail(GW_ENOMEM, "link %s", c->address);
    *l = (gw_lending){.spec = c->spec,
                      .count = counts,
                      .shared = c->transport == GW_SHM,
                      .lanes = lanes,
                      .credit = (uint64_t)c->credit};
    l->released = calloc(l->credit, sizeof *l->released);
    l->slot = lanes > 1 ? calloc(l->credit, sizeof(lent *)) : NULL;
    if (!l->released || (lanes > 1 && !l->slot)) {
        free_lending(l);
        return gw_fail(GW_ENOMEM, "link %s", c->address);
    }
    *out = l;
    return GW_OK;
}

static void forget_slots(gw_lending *l)
{
    for (uint64_t i = 0; l->slot && i < l->credit; i++) {
        gw_block *b = l->slot[i] ? &l->slot[i]->b : NULL;
        l->slot[i] = NULL;
        gw_block_unref(&b);
    }
}

void gw_lending_close(gw_lending **ll)
{
    gw_lending *l = *ll;
    *ll = NULL;
    if (!l)
        return;
    l->closed = true;
    l->outstanding++; /* so that giving back what is half together does not free us under our feet */
    forget_slots(l);
    if (--l->outstanding == 0)
        free_lending(l);
}

/* -- numbers ----------------------------------------------------------------------------------------- */

uint64_t gw_lending_handed(const gw_lending *l)
{
    return l->handed;
}

uint64_t gw_lending_done(const gw_lending *l)
{
    return l->done;
}

static void show(const gw_lending *l)
{
    atomic_store_explicit(&l->count->credits, (int64_t)(l->handed - l->done), memory_order_relaxed);
}

void gw_lending_restart(gw_lending *l, uint64_t number)
{
    forget_slots(l);
    l->generation++;
    l->handed = l->done = number;
    memset(l->released, 0, l->credit * sizeof *l->released);
    show(l);
}

static void hand(gw_lending *l)
{
    l->handed++;
    show(l);
}

static void mark_done(gw_lending *l, uint64_t number)
{
    l->released[number % l->credit] = true;
    while (l->done < l->handed && l->released[l->done % l->credit])
        l->released[l->done++ % l->credit] = false;
    show(l);
}

static void add(atomic_uint_fast64_t *c, uint64_t n)
{
    atomic_fetch_add_explicit(c, n, memory_order_relaxed);
}

static void account(const gw_lending *l, const gw_header *h, uint64_t copies)
{
    add(&l->count->blocks, 1);
    add(&l->count->gaps, h->flags & GW_FLAG_GAP ? 1 : 0);
    add(&l->count->bytes, h->payload_bytes);
    add(&l->count->copied_bytes, copies * (h->payload_bytes + h->presence_bytes));
}

void gw_lending_pass(gw_lending *l, const gw_heard *m)
{
    account(l, &m->header, 0);
    hand(l);
}

void gw_lending_passed(gw_lending *l)
{
    mark_done(l, l->done);
}

/* -- blocks ------------------------------------------------------------------------------------------ */

static void take_back(gw_block *b)
{
    lent *e = (lent *)b;
    gw_lending *l = e->home;
    if (e->has_message)
        zmq_msg_close(&e->message);
    e->has_message = false;
    gw_segment_unref(&e->segment);
    if (e->generation == l->generation && !l->closed)
        mark_done(l, e->number);
    e->next = l->spare;
    l->spare = e;
    if (--l->outstanding == 0 && l->closed)
        free_lending(l);
}

static int no_memory(const gw_lending *l)
{
    return gw_fail(GW_ENOMEM, "link %s: a block", l->spec->name);
}

static lent *lend(gw_lending *l, const gw_header *h, uint64_t number)
{
    lent *e = l->spare;
    if (e)
        l->spare = e->next;
    else
        e = calloc(1, sizeof *e);
    if (!e)
        return NULL;
    e->b.hdr = *h;
    atomic_store_explicit(&e->b.refs, 1, memory_order_relaxed);
    atomic_store_explicit(&e->b.sealed, true, memory_order_relaxed);
    e->b.space = l->shared ? GW_SPACE_SHARED : GW_SPACE_HOST;
    e->b.capacity = 0;
    e->b.data = NULL;
    e->b.release = take_back;
    e->home = l;
    e->number = number;
    e->generation = l->generation;
    e->lanes_in = 0;
    l->outstanding++;
    return e;
}

static void *own_memory(lent *e, size_t bytes)
{
    if (bytes > e->copy_bytes) {
        free(e->copy);
        e->copy_bytes = (bytes + 127) / 128 * 128;
        e->copy = aligned_alloc(128, e->copy_bytes);
        if (!e->copy)
            e->copy_bytes = 0;
    }
    return e->copy;
}

int gw_lending_whole(gw_lending *l, gw_heard *m, gw_segment *segment, gw_block **b)
{
    lent *e = lend(l, &m->header, l->handed);
    if (!e)
        return no_memory(l);
    const size_t bytes = m->header.payload_bytes + m->header.presence_bytes;
    uint64_t copies = 0;
    if (m->header.flags & GW_FLAG_GAP) {
        e->b.data = NULL;
    } else if (l->shared) {
        gw_descriptor d;
        memcpy(&d, m->where, sizeof d);
        e->segment = segment;
        e->segment->refs++;
        e->b.data = (char *)segment->map + d.offset;
    } else {
        copies = 1;
        zmq_msg_init(&e->message);
        zmq_msg_move(&e->message, m->payload);
        e->has_message = true;
        e->b.data = zmq_msg_data(&e->message);
        if ((uintptr_t)e->b.data % gw_dtype_bytes((gw_dtype)m->header.dtype)) {
            void *to = own_memory(e, bytes);
            if (!to) {
                gw_block *back = &e->b;
                gw_block_unref(&back);
                return no_memory(l);
            }
            memcpy(to, e->b.data, bytes);
            e->b.data = to;
            copies = 2;
        }
    }
    e->b.capacity = bytes;
    account(l, &m->header, copies);
    hand(l);
    *b = &e->b;
    return GW_OK;
}

/* The block that a first slice begins: all channels, no presence yet. */
static int begin_joined(gw_lending *l, const gw_header *h, uint64_t number, lent **slot)
{
    const gw_spec *s = l->spec;
    lent *e = *slot = lend(l, h, number);
    if (!e)
        return no_memory(l);
    if (h->flags & GW_FLAG_GAP)
        return GW_OK;
    gw_header *whole = &e->b.hdr;
    whole->channel0 = 0;
    whole->n_channels = s->n_channels;
    whole->payload_bytes = (uint64_t)h->n_samples * s->n_channels * gw_dtype_bytes(s->dtype);
    whole->presence_bytes = whole->presence_offset = whole->payload_crc = 0;
    e->b.capacity = whole->payload_bytes + (s->n_channels + 7) / 8;
    e->b.data = own_memory(e, e->b.capacity);
    return e->b.data ? GW_OK : no_memory(l);
}

int gw_lending_slice(gw_lending *l, int lane, uint64_t number, uint32_t channel0, const gw_heard *m)
{
    const gw_spec *s = l->spec;
    const gw_header *h = &m->header;
    lent **slot = &l->slot[number % l->credit];
    if (!*slot)
        GW_TRY(begin_joined(l, h, number, slot));
    lent *e = *slot;
    gw_header *whole = &e->b.hdr;
    if (h->sample0 != whole->sample0 || h->n_samples != whole->n_samples ||
        h->gap_samples != whole->gap_samples)
        return gw_fail(GW_EFORMAT, "link %s: the lanes of block %" PRIu64 " differ", s->name, number);
    e->lanes_in |= UINT32_C(1) << lane;
    if (h->flags & GW_FLAG_GAP)
        return GW_OK;
    const size_t row = (size_t)h->n_samples * gw_dtype_bytes(s->dtype);
    const char *from = zmq_msg_data(m->payload);
    memcpy((char *)e->b.data + row * channel0, from, row * h->n_channels);
    if (!h->presence_bytes)
        return GW_OK;
    uint8_t *tail = (uint8_t *)e->b.data + whole->payload_bytes;
    if (!whole->presence_bytes) {
        whole->presence_bytes = (s->n_channels + 7) / 8;
        whole->presence_offset = (uint32_t)whole->payload_bytes;
        memset(tail, 0xff, whole->presence_bytes);
    }
    const uint8_t *bits = (const uint8_t *)from + h->payload_bytes;
    for (uint32_t i = 0; i < h->n_channels; i++)
        if (!gw_present(bits, i))
            tail[(channel0 + i) / 8] &= (uint8_t) ~(1u << (channel0 + i) % 8);
    return GW_OK;
}

gw_block *gw_lending_joined(gw_lending *l)
{
    lent **slot = &l->slot[l->handed % l->credit];
    lent *e = *slot;
    if (!e || e->lanes_in != (UINT32_C(1) << l->lanes) - 1)
        return NULL;
    *slot = NULL;
    account(l, &e->b.hdr, 2); /* out of the kernel, and together */
    hand(l);
    return &e->b;
}
