/* SPDX-License-Identifier: GPL-3.0-or-later
 * Event feeds (feed.h). */
#include "pipeline/feed.h"

#include <stdio.h>
#include <string.h>

enum { SLABS = 2 * GW_FEED_CREDIT };

void gw_feed_spec(gw_spec *s, const char *producer)
{
    *s = (gw_spec){
        .rate = {1, 1}, .dtype = GW_U8, .n_channels = 1, .block_samples = sizeof(gw_event), .unit = "event"};
    snprintf(s->name, sizeof s->name, "%.48s.events", producer);
    snprintf(s->whitening, sizeof s->whitening, "gwstream %s, events of %zu bytes, layout %d", GW_VERSION,
             sizeof(gw_event), GW_EVENT_LAYOUT);
}

size_t gw_feed_bytes(void)
{
    return SLABS * sizeof(gw_event);
}

int gw_feed_make_pool(gw_feed *f, gw_space space)
{
    return gw_pool_new(&f->pool, f->spec.name, SLABS, gw_spec_slab_bytes(&f->spec), space);
}

int gw_feed_open_sender(gw_feed *f, gw_link_conf *c)
{
    c->spec = &f->spec;
    c->credit = GW_FEED_CREDIT;
    c->on_full = GW_WAIT;
    c->pool = f->pool;
    c->counts = &f->sender_count;
    return gw_sender_open(&f->sender, c);
}

int gw_feed_open_receiver(gw_feed *f, gw_link_conf *c)
{
    c->spec = &f->spec;
    c->credit = GW_FEED_CREDIT;
    c->counts = &f->receiver_count;
    return gw_receiver_open(&f->receiver, c);
}

int gw_feed_give(gw_feed *f, uint64_t run_id, const gw_event *e)
{
    gw_block *b;
    if (!gw_sender_ready(f->sender) || gw_pool_take(f->pool, &b) != GW_OK)
        return GW_EAGAIN;
    memcpy(b->data, e, sizeof *e);
    b->hdr.dtype = GW_U8;
    b->hdr.run_id = run_id;
    b->hdr.seq = f->sent;
    b->hdr.sample0 = (int64_t)(f->sent++ * sizeof *e);
    b->hdr.n_samples = sizeof *e;
    b->hdr.n_channels = 1;
    b->hdr.payload_bytes = sizeof *e;
    b->hdr.dq = GW_DQ_ALL;
    b->hdr.ingest_ns = gw_gps_now_ns();
    gw_block_seal(b);
    return gw_sender_give(f->sender, b);
}

/* A text that came from another process ends within its field. */
#define END_TEXT(field) (field)[sizeof(field) - 1] = '\0'

int gw_feed_take(gw_feed *f, gw_event *e)
{
    gw_block *b;
    int err = gw_receiver_take(f->receiver, &b);
    f->ended |= err == GW_EEND;
    GW_TRY(err);
    const bool whole = b->hdr.payload_bytes == sizeof *e;
    if (whole)
        memcpy(e, b->data, sizeof *e);
    GW_TRY(gw_receiver_done(f->receiver, &b));
    if (!whole)
        return gw_fail(GW_EFORMAT, "%s: a message that is no event", f->spec.name);
    END_TEXT(e->id);
    END_TEXT(e->detectors);
    END_TEXT(e->stream);
    END_TEXT(e->model);
    END_TEXT(e->model_hash);
    END_TEXT(e->card_hash);
    END_TEXT(e->detail);
    return GW_OK;
}
