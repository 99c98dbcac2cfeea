/* SPDX-License-Identifier: GPL-3.0-or-later
 * A stretch of time as a file. Called by ring.c. */
#include "sinks/dump.h"

#include <stdlib.h>
#include <string.h>

struct gw_dump {
    const gw_spec *spec;
    int n_streams;
    int64_t from_ns, to_ns;
    int64_t from[GW_MAX_PORTS], to[GW_MAX_PORTS]; /* the same in samples of each stream */
    int64_t at[GW_MAX_PORTS];                     /* written until here */
    gw_hdf5_out *out;
};

static int64_t block_at(const gw_spec *s, int64_t sample)
{
    const int64_t block = s->block_samples, over = sample % block;
    return sample - over - (over < 0 ? block : 0);
}

int gw_dump_new(gw_dump **out, const char *path, const gw_hdf5_out_conf *c, int64_t from_ns, int64_t to_ns)
{
    gw_dump *d = *out = calloc(1, sizeof *d);
    if (!d)
        return gw_fail(GW_ENOMEM, "%s", path);
    int64_t first[GW_MAX_PORTS];
    gw_hdf5_out_conf conf = *c;
    d->spec = c->spec;
    d->n_streams = c->n_streams;
    d->from_ns = d->to_ns = from_ns;
    for (int i = 0; i < c->n_streams; i++) {
        d->from[i] = gw_sample_at_or_after(from_ns, c->spec[i].rate, c->spec[i].phase_ns);
        d->at[i] = INT64_MIN;
        first[i] = block_at(&c->spec[i], d->from[i]);
    }
    gw_dump_extend(d, to_ns);
    conf.path = path;
    conf.layout = gw_layout_for(c->spec, c->n_streams);
    conf.first = first;
    conf.limit = NULL;
    int err = gw_hdf5_out_new(&d->out, &conf);
    if (err < 0)
        gw_dump_destroy(out);
    return err;
}

const char *gw_dump_path(const gw_dump *d)
{
    return gw_hdf5_out_path(d->out);
}

void gw_dump_span(const gw_dump *d, int64_t *from_ns, int64_t *to_ns)
{
    *from_ns = d->from_ns;
    *to_ns = d->to_ns;
}

void gw_dump_extend(gw_dump *d, int64_t to_ns)
{
    if (to_ns <= d->to_ns)
        return;
    d->to_ns = to_ns;
    for (int i = 0; i < d->n_streams; i++)
        d->to[i] = gw_sample_at_or_after(to_ns, d->spec[i].rate, d->spec[i].phase_ns);
}

int64_t gw_dump_at(const gw_dump *d, int stream)
{
    return d->at[stream] > d->from[stream] ? d->at[stream] : d->from[stream];
}

bool gw_dump_wants(const gw_dump *d, int stream, int64_t start, int64_t end)
{
    return start < d->to[stream] && end > gw_dump_at(d, stream);
}

bool gw_dump_beyond(const gw_dump *d, int stream, int64_t end)
{
    return end >= d->to[stream];
}

int gw_dump_block(gw_dump *d, int stream, const gw_block *b)
{
    const gw_header *h = &b->hdr;
    const gw_view v = {.data = b->data,
                       .stride = h->n_samples,
                       .n_samples = h->n_samples,
                       .n_channels = h->n_channels,
                       .sample0 = h->sample0,
                       .dq = h->dq,
                       .flags = h->flags & (GW_FLAG_INJECTION | GW_FLAG_REPLAY),
                       .networks = h->networks,
                       .presence = gw_block_presence(b)};
    d->at[stream] = h->sample0 + h->n_samples;
    return gw_hdf5_out_write(d->out, stream, &v);
}

/* A stretch may begin or end in the middle of a hole, and may yet be extended over the rest of it. */
int gw_dump_hole(gw_dump *d, int stream, const gw_hole *h)
{
    const int64_t at = gw_dump_at(d, stream), end = h->sample0 + (int64_t)h->samples;
    gw_hole part = *h;
    part.sample0 = h->sample0 > at ? h->sample0 : at;
    d->at[stream] = end < d->to[stream] ? end : d->to[stream];
    part.samples = (uint64_t)(d->at[stream] - part.sample0);
    return gw_hdf5_out_gap(d->out, stream, &part);
}

int gw_dump_flush(gw_dump *d)
{
    return gw_hdf5_out_flush(d->out);
}

int gw_dump_finish(gw_dump *d)
{
    return gw_hdf5_out_finish(d->out);
}

void gw_dump_destroy(gw_dump **out)
{
    gw_dump *d = *out;
    *out = NULL;
    if (!d)
        return;
    gw_hdf5_out_destroy(&d->out);
    free(d);
}
