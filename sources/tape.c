/* SPDX-License-Identifier: GPL-3.0-or-later
 * One channel as one row of numbers; see the header. */
#include "sources/tape.h"

#include "sources/join.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct gw_tape_inside {
    gw_join join;
    uint32_t row;  /* of a wide recording */
    int segment;   /* last read from */
    void *scratch; /* what was read, in the file's type */
    size_t scratch_bytes;
};

static int64_t min64(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static int64_t max64(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

static const gw_archive_channel *channel_of(const gw_join_segment *g)
{
    return gw_archive_channel_at(g->archive, g->channel[0]);
}

int gw_tape_open(gw_tape *t, gw_archive *const *archive, int n, const char *name, const char *path)
{
    *t = (gw_tape){0};
    char entry[2 * GW_NAME_BYTES];
    snprintf(entry, sizeof entry, "%s", path ? path : name);
    gw_join_wish wish = {.lent = archive,
                         .n_lent = n,
                         .channel = (char *[]){entry},
                         .n_channels = 1,
                         .start_ns = INT64_MIN,
                         .end_ns = INT64_MAX};
    struct gw_tape_inside *in = t->inside = calloc(1, sizeof *in);
    if (!in)
        return gw_fail(GW_ENOMEM, "%s", name);
    GW_TRY(gw_join_open(&in->join, &wish));
    const gw_join_stream *s = &in->join.stream[0];
    while (in->row < s->spec.n_channels && strcmp(s->spec.channel[in->row], name) != 0)
        in->row++;
    if (in->join.n_streams > 1 || in->row == s->spec.n_channels)
        return gw_fail(GW_EMISMATCH, "%s: the files hold several channels of this name", name);
    memcpy(t->name, s->spec.channel[in->row], sizeof t->name);
    memcpy(t->unit, s->spec.unit, sizeof t->unit);
    memcpy(t->cleaning, s->spec.cleaning, sizeof t->cleaning);
    t->rate = s->spec.rate;
    t->phase_ns = s->spec.phase_ns;
    t->start = s->start;
    t->end = s->end;
    return GW_OK;
}

void gw_tape_close(gw_tape *t)
{
    if (t->inside) {
        gw_join_close(&t->inside->join);
        free(t->inside->scratch);
        free(t->inside);
    }
    *t = (gw_tape){0};
}

/* The run of a segment that sample `at`, counted from its origin, lies in. */
static const gw_archive_run *run_at(const gw_archive_channel *c, int64_t at)
{
    size_t lo = 0, hi = c->n_runs - 1;
    while (lo < hi) {
        const size_t mid = lo + (hi - lo) / 2;
        if (c->run[mid].end > at)
            hi = mid;
        else
            lo = mid + 1;
    }
    return &c->run[lo];
}

gw_gap_reason gw_tape_state(const gw_tape *t, int64_t at, int64_t *end)
{
    const gw_join_stream *s = &t->inside->join.stream[0];
    const int k = gw_join_segment_at(s, at);
    *end = t->end;
    if (k == s->n_segments || at >= t->end)
        return GW_GAP_ABSENT;
    const gw_join_segment *g = &s->segment[k];
    *end = min64(g->start, t->end);
    if (g->start > at)
        return GW_GAP_ABSENT;
    const gw_archive_channel *c = channel_of(g);
    const gw_archive_run *run = run_at(c, at - g->origin);
    *end = min64(min64(g->origin + run->end, g->end), t->end);
    if (run->gap != GW_GAP_NONE)
        return run->gap;
    return !c->exact && ~run->dq & (GW_DQ_DATA | GW_DQ_CBC_CAT1) ? GW_GAP_QUALITY : GW_GAP_NONE;
}

static int need_scratch(gw_tape *t, size_t bytes)
{
    if (bytes <= t->inside->scratch_bytes)
        return GW_OK;
    void *more = realloc(t->inside->scratch, bytes);
    if (!more)
        return gw_fail(GW_ENOMEM, "%s: %zu bytes", t->name, bytes);
    t->inside->scratch = more;
    t->inside->scratch_bytes = bytes;
    return GW_OK;
}

static double value(gw_dtype type, const void *x, size_t i)
{
    return type == GW_F32   ? (double)((const float *)x)[i]
           : type == GW_I16 ? (double)((const int16_t *)x)[i]
           : type == GW_I32 ? (double)((const int32_t *)x)[i]
                            : ((const double *)x)[i];
}

/* [from, end) of a segment's dataset, counted from its origin, to to[]. */
static int read_piece(gw_tape *t, const gw_join_segment *g, int64_t from, int64_t end, double *to)
{
    const gw_archive_channel *c = channel_of(g);
    const size_t size = gw_dtype_bytes(c->dtype);
    if (!c->names) {
        GW_TRY(need_scratch(t, (size_t)(end - from) * size));
        GW_TRY(gw_archive_read(g->archive, g->channel[0], from, (size_t)(end - from), t->inside->scratch));
        for (int64_t i = from; i < end; i++)
            to[i - from] = value(c->dtype, t->inside->scratch, (size_t)(i - from));
        return GW_OK;
    }
    GW_TRY(need_scratch(t, (size_t)c->n_channels * (size_t)c->chunk_samples * size));
    const char *row = (const char *)t->inside->scratch + t->inside->row * (size_t)c->chunk_samples * size;
    for (int64_t at = from, first, last; at < end; at = last) {
        GW_TRY(gw_archive_read_column(g->archive, g->channel[0], at, t->inside->scratch, &first, &last));
        for (int64_t i = at; i < last && i < end; i++)
            to[i - from] = value(c->dtype, row, (size_t)(i - first));
    }
    return GW_OK;
}

int gw_tape_read(gw_tape *t, int64_t first, size_t n, double *to)
{
    const gw_join_stream *s = &t->inside->join.stream[0];
    const int64_t end = first + (int64_t)n;
    for (size_t i = 0; i < n; i++)
        to[i] = NAN;
    for (int64_t at = first, until; at < end; at = until) {
        const gw_gap_reason gap = gw_tape_state(t, at, &until);
        if (until <= at)
            break;
        until = min64(until, end);
        if (gap != GW_GAP_NONE)
            continue;
        const int k = gw_join_segment_at(s, at);
        const gw_join_segment *g = &s->segment[k];
        const gw_archive_channel *c = channel_of(g);
        const int64_t from = max64(at - g->origin, -c->skip),
                      to_end = min64(until - g->origin, c->n_data - c->skip);
        if (k != t->inside->segment) /* that one is behind us */
            gw_archive_park(s->segment[t->inside->segment].archive);
        t->inside->segment = k;
        if (to_end > from)
            GW_TRY(read_piece(t, g, from, to_end, to + (g->origin + from - first)));
    }
    return GW_OK;
}
