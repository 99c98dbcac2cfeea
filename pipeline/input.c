/* SPDX-License-Identifier: GPL-3.0-or-later
 * From blocks to hops. Blocks come in any length, begin anywhere and may have holes between them; a stage
 * wants its hop with history, whole and in one piece. Each input copies blocks into one buffer that
 * holds the latest stretch without a hole; the runner takes messages only while the next hop is not
 * complete, so the buffer is never asked for more than a block beyond a hop. */
#include "pipeline/node.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

int gw_input_open(gw_input *in, void *zmq)
{
    if (in->hop) {
        /* Twice what is needed, so that old samples are moved down only now and then. */
        in->capacity = 2 * ((size_t)in->history + in->hop) + 2 * (size_t)in->spec->block_samples;
        in->buffer = calloc(in->capacity * in->spec->n_channels, gw_dtype_bytes(in->spec->dtype));
        if (!in->buffer)
            return gw_fail(GW_ENOMEM, "input %s: %zu samples x %" PRIu32 " channels", in->spec->name,
                           in->capacity, in->spec->n_channels);
    }
    const gw_link_conf c = {
        .zmq = zmq, .address = in->address, .spec = in->spec, .credit = in->credit, .on_full = in->on_full};
    return gw_receiver_open(&in->link, &c);
}

void gw_input_close(gw_input *in)
{
    gw_receiver_close(&in->link);
    free(in->buffer);
    in->buffer = NULL;
}

static void forget_meta(gw_input *in, int64_t before)
{
    int gone = 0;
    while (gone < in->n_meta && in->meta[gone].end <= before)
        gone++;
    if (gone == 0 && in->n_meta == GW_MAX_META) {
        /* Many tiny blocks: the two oldest become one, which keeps what holds for both. */
        gw_meta *a = &in->meta[0], *b = &in->meta[1];
        b->dq &= a->dq;
        b->flags |= a->flags;
        gone = 1;
    }
    in->n_meta -= gone;
    memmove(in->meta, in->meta + gone, (size_t)in->n_meta * sizeof in->meta[0]);
}

static void append(gw_input *in, const gw_block *b, int64_t need_from)
{
    const size_t size = gw_dtype_bytes(in->spec->dtype);
    const uint32_t n = b->hdr.n_samples;
    if (in->hi == in->lo) { /* empty: begin anew */
        in->lo = in->hi = in->base = b->hdr.sample0;
        in->n_meta = 0;
    }
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
    if (in->n_meta == GW_MAX_META)
        forget_meta(in, need_from);
    in->meta[in->n_meta++] = (gw_meta){.end = in->hi,
                                       .dq = b->hdr.dq,
                                       .flags = b->hdr.flags,
                                       .due_ns = b->hdr.due_ns,
                                       .ingest_ns = b->hdr.ingest_ns};
}

int gw_input_next(gw_input *in, gw_block **b)
{
    int err = gw_receiver_take(in->link, b);
    in->ended |= err == GW_EEND;
    if (err != GW_OK)
        return err;
    const gw_header *h = &(*b)->hdr;
    if (in->started && h->sample0 != in->end) {
        err = gw_fail(GW_EBUG, "stream %s does not tile: sample %" PRId64 " after %" PRId64, in->spec->name,
                      h->sample0, in->end);
        (void)gw_receiver_done(in->link, b);
        return err;
    }
    if (!in->started)
        in->lo = in->hi = in->base = h->sample0;
    in->started = true;
    in->end = h->sample0 + (int64_t)h->n_samples + (int64_t)h->gap_samples;
    return GW_OK;
}

int gw_input_take(gw_input *in, int64_t need_from, gw_hole *hole)
{
    hole->samples = 0;
    gw_block *b;
    GW_TRY(gw_input_next(in, &b));
    if (b->hdr.flags & GW_FLAG_GAP) {
        *hole = (gw_hole){.sample0 = b->hdr.sample0,
                          .samples = b->hdr.gap_samples,
                          .reason = (gw_gap_reason)b->hdr.gap_reason,
                          .dq = b->hdr.dq};
        in->reason = hole->reason;
        in->lo = in->hi = in->base = in->end;
        in->n_meta = 0;
    } else {
        append(in, b, need_from);
    }
    return gw_receiver_done(in->link, &b);
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
    for (int i = 0; i < in->n_meta; i++) { /* the blocks that overlap [from, from + n) */
        const gw_meta *m = &in->meta[i];
        if (m->end > from && start < from + n) {
            v->dq &= m->dq;
            v->flags |= m->flags & (GW_FLAG_INJECTION | GW_FLAG_REPLAY);
            v->due_ns = m->due_ns;
            v->ingest_ns = m->ingest_ns;
        }
        start = m->end;
    }
}
