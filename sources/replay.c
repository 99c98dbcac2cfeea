/* SPDX-License-Identifier: GPL-3.0-or-later
 * kind: replay. Archived HDF5 files as streams, one port a detector (or group of channels), all over the
 * same span, with a GAP wherever a stream has nothing good. Run by the runner; joins files through join.c
 * and reads them through archive.c. Decides what is a hole; knows no file layout.
 *
 * A piece ends where the block grid, a file, the data quality or a stretch of NaN ends; the runner always
 * asks the port whose block ends first, so ports stay together although their pieces differ in length. */
#include "pipeline/stage.h"
#include "sources/join.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { WINDOW_SECONDS = 4, WINDOW_BYTES = 64 << 20, COLUMN_BYTES = 1 << 30 };

typedef struct port {
    const gw_join_stream *stream;
    bool wide;
    uint32_t block; /* samples; pieces do not cross its multiples */
    int64_t at;     /* next sample */
    int segment;    /* that holds it or comes next */
    size_t run;     /* of that segment's data quality */
    size_t absence; /* of that segment: the one at hand or to come */
    /* Samples read ahead: [channel][window], of which [have0, have1) are there; the first place is sample
     * base. */
    char *buffer;
    size_t window;
    int64_t have0, have1, base;
    /* A stretch of samples that are no numbers where they should be, not yet complained of. */
    int64_t bad0, bad1;
    const char *bad_file;
} port;

typedef struct replay {
    gw_join_wish wish;
    gw_rate block_s; /* num 0: as recorded, or 1/16 s */
    double pace;
    gw_join join;
    port port[GW_MAX_PORTS];
    int n_ports;
    gw_env *env;
    bool started;
} replay;

/* ---- configure ---- */

static int read_list(gw_conf *conf, const char *key, char ***list, int *n)
{
    gw_conf *node = gw_conf_find(conf, key);
    if (!node)
        return GW_OK;
    if (gw_conf_kind(node) != GW_CONF_LIST || gw_conf_count(node) == 0)
        return gw_conf_fail(node, "%s: expected a list of one or more", key);
    int count = gw_conf_count(node);
    *list = calloc((size_t)count, sizeof **list);
    if (!*list)
        return gw_fail(GW_ENOMEM, "%s: %d entries", key, count);
    for (; *n < count; (*n)++) {
        const char *text;
        GW_TRY(gw_conf_text(gw_conf_item(node, *n), &text));
        (*list)[*n] = strdup(text);
        if (!(*list)[*n])
            return gw_fail(GW_ENOMEM, "%s: %d entries", key, count);
    }
    return GW_OK;
}

static int read_shifts(gw_conf *conf, gw_join_wish *w)
{
    gw_conf *map = gw_conf_find(conf, "offset");
    if (!map)
        return GW_OK;
    if (gw_conf_kind(map) != GW_CONF_MAP)
        return gw_conf_fail(map, "offset: expected detectors and spans, {L1: 30ms}");
    int count = gw_conf_count(map);
    w->shift = calloc((size_t)count + 1, sizeof *w->shift);
    if (!w->shift)
        return gw_fail(GW_ENOMEM, "offset: %d entries", count);
    for (; w->n_shifts < count; w->n_shifts++) {
        gw_join_shift *s = &w->shift[w->n_shifts];
        const char *key = gw_conf_key(map, w->n_shifts);
        GW_TRY(gw_conf_get_span_ns(map, key, &s->ns));
        s->stream = strdup(key);
        if (!s->stream)
            return gw_fail(GW_ENOMEM, "offset: %d entries", count);
    }
    return GW_OK;
}

static int replay_configure(void *self, gw_conf *conf)
{
    replay *r = self;
    gw_join_wish *w = &r->wish;
    gw_conf *node;
    w->start_ns = INT64_MIN;
    w->end_ns = INT64_MAX;
    GW_TRY(gw_conf_need(conf, "files", &node));
    GW_TRY(read_list(conf, "files", &w->file, &w->n_files));
    GW_TRY(read_list(conf, "detectors", &w->detector, &w->n_detectors));
    GW_TRY(read_list(conf, "channels", &w->channel, &w->n_channels));
    GW_TRY(read_shifts(conf, w));
    GW_TRY(gw_conf_get_span(conf, "block", &r->block_s));
    GW_TRY(gw_conf_get_double(conf, "pace", 0, 1e6, &r->pace));
    GW_TRY(gw_conf_get_gps_ns(conf, "start", &w->start_ns));
    GW_TRY(gw_conf_get_gps_ns(conf, "end", &w->end_ns));
    node = gw_conf_find(conf, "block");
    if (node && (gw_rate_hz(r->block_s) < 1.0 / 64 || gw_rate_hz(r->block_s) > 4))
        return gw_conf_fail(node, "block: expected 1/64s to 4s");
    if (w->start_ns >= w->end_ns)
        return gw_conf_fail(gw_conf_find(conf, "end"), "end: is not after start");
    return GW_OK;
}

/* ---- plan ---- */

/* Samples in a block: of the configured length, doubled (up to 4 s) until that is a whole number. */
static int block_samples(const gw_spec *s, gw_rate block_s, uint32_t *samples)
{
    if (block_s.num == 0 && s->block_samples) {
        *samples = s->block_samples;
        return GW_OK;
    }
    if (block_s.num == 0)
        block_s = (gw_rate){1, 16};
    uint64_t num = (uint64_t)s->rate.num * block_s.num, den = (uint64_t)s->rate.den * block_s.den;
    for (double span_s = gw_rate_hz(block_s); span_s <= 4; span_s *= 2, num *= 2) {
        if (num % den == 0 && num / den >= 1 && num / den <= 1u << 28) {
            *samples = (uint32_t)(num / den);
            return GW_OK;
        }
        if (num > UINT64_MAX / 2)
            break;
    }
    return gw_fail(GW_ECONFIG,
                   "%s: no block of %.6g s doubled up to 4 s is a whole number of samples at %.10g Hz",
                   s->name, gw_rate_hz(block_s), gw_rate_hz(s->rate));
}

static size_t sample_bytes(const gw_spec *s)
{
    return (size_t)s->n_channels * gw_dtype_bytes(s->dtype);
}

/* The longest chunk of a wide stream's files: one column of them is read at a time. */
static int widest_column(const gw_join_stream *s, size_t *window)
{
    *window = 0;
    for (int i = 0; i < s->n_segments; i++) {
        const gw_archive_channel *c = gw_archive_channel_at(s->segment[i].archive, s->segment[i].channel[0]);
        *window = (size_t)c->chunk_samples > *window ? (size_t)c->chunk_samples : *window;
        if (*window > COLUMN_BYTES / sample_bytes(&s->spec))
            return gw_fail(GW_ENOTSUP, "%s: %s: chunks of %zu samples x %" PRIu32 " channels are too large",
                           gw_archive_path(s->segment[i].archive), c->path, *window, s->spec.n_channels);
    }
    return GW_OK;
}

static int replay_plan(void *self, gw_plan *plan)
{
    replay *r = self;
    gw_join_close(&r->join);
    GW_TRY(gw_join_open(&r->join, &r->wish));
    if (r->join.n_streams > GW_MAX_PORTS)
        return gw_fail(GW_ECONFIG,
                       "%d streams in these files, at most %d: choose with 'detectors' or 'channels'",
                       r->join.n_streams, GW_MAX_PORTS);
    r->n_ports = r->join.n_streams;
    plan->n_out = 0;
    for (int i = 0; i < r->n_ports; i++) {
        const gw_join_stream *s = &r->join.stream[i];
        port *p = &r->port[i];
        *p = (port){.stream = s, .at = s->start, .segment = gw_join_segment_at(s, s->start)};
        GW_TRY(block_samples(&s->spec, r->block_s, &p->block));
        const gw_join_segment *g = &s->segment[0];
        const gw_archive_channel *c = gw_archive_channel_at(g->archive, g->channel[0]);
        p->wide = c->names != NULL;
        double window = WINDOW_SECONDS * gw_rate_hz(s->spec.rate);
        double room = (double)(WINDOW_BYTES / sample_bytes(&s->spec));
        window = window < room ? window : room;
        p->window = window > p->block ? (size_t)window : p->block;
        if (p->wide)
            GW_TRY(widest_column(s, &p->window));
        GW_TRY(gw_spec_copy(&plan->out[i], &s->spec));
        plan->out[i].block_samples = p->block;
        plan->n_out = i + 1;
        plan->memory_bytes += p->window * sample_bytes(&s->spec);
    }
    return GW_OK;
}

static int replay_open(void *self, gw_env *env)
{
    replay *r = self;
    r->env = env;
    for (int i = 0; i < r->n_ports; i++) {
        port *p = &r->port[i];
        p->buffer = calloc(p->window, sample_bytes(&p->stream->spec));
        if (!p->buffer)
            return gw_fail(GW_ENOMEM, "%s: %zu samples to read ahead", p->stream->spec.name, p->window);
    }
    return GW_OK;
}

/* ---- time ---- */

static int64_t time_of(const port *p, int64_t sample)
{
    return gw_sample_to_ns(sample, p->stream->spec.rate, p->stream->spec.phase_ns);
}

static int64_t min64(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* Whether a run holds nothing that may be searched; our own recordings have stages behind them that knew. */
static bool is_hole(const gw_archive_channel *c, const gw_archive_run *run)
{
    return run->gap != GW_GAP_NONE || (!c->exact && ~run->dq & (GW_DQ_DATA | GW_DQ_CBC_CAT1));
}

/* Where the hole ends that `sample` lies in; `sample` itself if it lies in none. */
static int64_t hole_end(const gw_join_stream *s, int64_t sample)
{
    const int k = gw_join_segment_at(s, sample);
    if (k == s->n_segments || s->segment[k].start > sample)
        return k == s->n_segments ? s->end : min64(s->segment[k].start, s->end);
    const gw_join_segment *g = &s->segment[k];
    const gw_archive_channel *c = gw_archive_channel_at(g->archive, g->channel[0]);
    size_t lo = 0, hi = c->n_runs - 1;
    while (lo < hi) {
        const size_t mid = lo + (hi - lo) / 2;
        if (c->run[mid].end > sample - g->origin)
            hi = mid;
        else
            lo = mid + 1;
    }
    return is_hole(c, &c->run[lo]) ? min64(g->origin + c->run[lo].end, s->end) : sample;
}

/* Where the port's next piece ends at the latest: the end of its block; of a hole that all streams share,
 * and that nobody waits for, its end. */
static int64_t bound(const replay *r, const port *p)
{
    const gw_join_stream *s = p->stream;
    const int64_t end =
        min64(p->at - p->at % p->block + p->block, s->end); /* GPS 0 is long ago: none negative */
    if (r->pace > 0 || hole_end(s, p->at) <= end)
        return end;
    const int64_t ns = time_of(p, p->at);
    int64_t until_ns = INT64_MAX;
    for (int i = 0; i < r->n_ports; i++) {
        const port *q = &r->port[i];
        const gw_spec *spec = &q->stream->spec;
        const int64_t at = gw_sample_at_or_after(ns - 1, spec->rate, spec->phase_ns);
        if (at < q->stream->end)
            until_ns = min64(until_ns, time_of(q, hole_end(q->stream, at)));
    }
    const int64_t hole = gw_sample_at_or_before(until_ns, s->spec.rate, s->spec.phase_ns);
    return hole > end ? min64(hole, s->end) : end;
}

/* ---- samples ---- */

typedef enum state { GOOD, HOLE, BAD } state;

/* Samples in the dataset of every channel, from the segment's origin. */
static int64_t data_end(const gw_join_segment *g)
{
    int64_t end = INT64_MAX;
    for (int i = 0; i < g->n_channels; i++) {
        const gw_archive_channel *c = gw_archive_channel_at(g->archive, g->channel[i]);
        end = min64(end, c->n_data - c->skip);
    }
    return end;
}

/* One column of chunks: packed chunk_samples apart in the file, so in the buffer too. */
static int fill_column(port *p, const gw_join_segment *g)
{
    int64_t start, end;
    GW_TRY(gw_archive_read_column(g->archive, g->channel[0], p->at - g->origin, p->buffer, &start, &end));
    p->base = p->have0 = g->origin + start;
    p->have1 = g->origin + end;
    return GW_OK;
}

/* Reads the window that begins at p->at, up to a boundary of the file's chunks. */
static int fill_window(port *p)
{
    if (p->at >= p->have0 && p->at < p->have1)
        return GW_OK;
    const gw_join_segment *g = &p->stream->segment[p->segment];
    p->have0 = p->have1 = 0;
    if (p->wide)
        return fill_column(p, g);
    const gw_archive_channel *c = gw_archive_channel_at(g->archive, g->channel[0]);
    const int64_t chunk = c->chunk_samples, first = p->at - g->origin;
    int64_t end = first + (int64_t)p->window, over = (end + c->skip) % chunk;
    if (end - over > first)
        end -= over;
    end = min64(end, min64(min64(g->end, p->stream->end) - g->origin, data_end(g)));
    const size_t size = gw_dtype_bytes(p->stream->spec.dtype);
    for (int k = 0; k < g->n_channels; k++)
        GW_TRY(gw_archive_read(g->archive, g->channel[k], first, (size_t)(end - first),
                               p->buffer + (size_t)k * p->window * size));
    p->base = p->have0 = p->at;
    p->have1 = g->origin + end;
    return GW_OK;
}

static double sample_value(const port *p, uint32_t c, int64_t sample)
{
    size_t i = (size_t)c * p->window + (size_t)(sample - p->base);
    return p->stream->spec.dtype == GW_F32 ? (double)((const float *)p->buffer)[i]
                                           : ((const double *)p->buffer)[i];
}

/* NaN is how archives write a hole, unless they also say that the data is good; infinity never is. */
static state sample_state(const port *p, int64_t sample, bool quality)
{
    state worst = GOOD;
    for (uint32_t c = 0; c < p->stream->spec.n_channels; c++) {
        double x = sample_value(p, c, sample);
        if (isinf(x) || (isnan(x) && quality))
            return BAD;
        if (isnan(x))
            worst = HOLE;
    }
    return worst;
}

/* The end of the samples from p->at on that are in one state. */
static int64_t state_end(const port *p, int64_t limit, bool quality, state *now)
{
    *now = sample_state(p, p->at, quality);
    if (*now == GOOD) { /* the usual case, channel by channel */
        for (uint32_t c = 0; c < p->stream->spec.n_channels; c++)
            for (int64_t i = p->at; i < limit; i++)
                if (!isfinite(sample_value(p, c, i)))
                    limit = i;
        return limit;
    }
    int64_t i = p->at + 1;
    while (i < limit && sample_state(p, i, quality) == *now)
        i++;
    return i;
}

static void complain(replay *r, port *p)
{
    if (p->bad1 > p->bad0)
        gw_env_bad_input(r->env,
                         "%s: %s: %" PRId64
                         " samples from GPS %.6f to %.6f are not numbers although the data is "
                         "marked good; they are left out",
                         p->bad_file, p->stream->spec.name, p->bad1 - p->bad0,
                         (double)time_of(p, p->bad0) * 1e-9, (double)time_of(p, p->bad1) * 1e-9);
    p->bad0 = p->bad1 = 0;
}

static void note_bad(replay *r, port *p, int64_t end)
{
    const char *file = gw_archive_path(p->stream->segment[p->segment].archive);
    if (p->bad1 != p->at || p->bad_file != file)
        complain(r, p);
    if (p->bad1 == p->bad0)
        p->bad0 = p->at;
    p->bad1 = end;
    p->bad_file = file;
}

/* ---- pieces ---- */

static void be_gap(gw_piece *piece, int64_t from, int64_t end, gw_gap_reason reason)
{
    piece->gap_samples = (uint64_t)(end - from);
    piece->reason = reason;
}

/* Absent channels, as recorded: clears their bits, and ends the piece where that changes. */
static void mark_absent(port *p, const gw_join_segment *g, int64_t *end, gw_piece *piece)
{
    const gw_archive_channel *first = gw_archive_channel_at(g->archive, g->channel[0]);
    const int64_t at = p->at - g->origin;
    while (p->absence < first->n_absences && first->absence[p->absence].end <= at)
        p->absence++;
    if (p->absence == first->n_absences)
        return;
    const gw_archive_absence *a = &first->absence[p->absence];
    if (a->start > at) {
        *end = min64(*end, g->origin + a->start);
        return;
    }
    *end = min64(*end, g->origin + a->end);
    for (uint32_t k = 0; k < p->stream->spec.n_channels; k++) {
        const uint32_t recorded = p->wide ? k : gw_archive_channel_at(g->archive, g->channel[k])->index;
        if (!gw_present(a->present, recorded))
            piece->presence[k / 8] &= (uint8_t) ~(1u << k % 8);
    }
}

/* Whether [p->at, end) is one whole column of the file's chunks, which can then be read into the piece as it
 * is. */
static bool column_fits(const port *p, const gw_join_segment *g, const gw_archive_channel *c, int64_t end)
{
    return end - p->at == c->chunk_samples && (p->at - g->origin + c->skip) % c->chunk_samples == 0 &&
           !(p->at >= p->have0 && p->at < p->have1);
}

/* The next piece up to `limit` at most; *end says where it ends. */
static int make_piece(replay *r, port *p, int64_t limit, gw_piece *piece, int64_t *end)
{
    const gw_join_stream *s = p->stream;
    piece->dq = GW_DQ_ALL;
    if (p->segment >= s->n_segments || s->segment[p->segment].start > p->at) {
        *end = p->segment < s->n_segments ? min64(limit, s->segment[p->segment].start) : limit;
        be_gap(piece, p->at, *end, GW_GAP_ABSENT);
        return GW_OK;
    }
    const gw_join_segment *g = &s->segment[p->segment];
    const gw_archive_channel *c = gw_archive_channel_at(g->archive, g->channel[0]);
    while (c->run[p->run].end <= p->at - g->origin)
        p->run++;
    const gw_archive_run *run = &c->run[p->run];
    *end = min64(limit, g->origin + run->end);
    piece->dq = run->dq;
    piece->flags = GW_FLAG_REPLAY | run->flags;
    piece->networks = run->networks;
    if (!c->exact && ~run->dq & (GW_DQ_NO_CBC_HW_INJ | GW_DQ_NO_BURST_HW_INJ))
        piece->flags |= GW_FLAG_INJECTION;
    if (is_hole(c, run)) {
        be_gap(piece, p->at, *end, run->gap != GW_GAP_NONE ? run->gap : GW_GAP_QUALITY);
        return GW_OK;
    }
    *end = min64(*end, p->at + piece->capacity_samples);
    mark_absent(p, g, end, piece);
    if (p->wide && column_fits(p, g, c, *end)) {
        int64_t from, to;
        GW_TRY(gw_archive_read_column(g->archive, g->channel[0], p->at - g->origin, piece->data, &from, &to));
        piece->n_samples = (uint32_t)(*end - p->at);
        return GW_OK;
    }
    GW_TRY(fill_window(p));
    state now = GOOD;
    *end = min64(*end, p->have1);
    if (!c->exact)
        *end = state_end(p, *end, c->quality, &now);
    if (now != GOOD) {
        be_gap(piece, p->at, *end, now == BAD ? GW_GAP_NAN : GW_GAP_ABSENT);
        if (now == BAD)
            note_bad(r, p, *end);
        return GW_OK;
    }
    const size_t size = gw_dtype_bytes(s->spec.dtype), n = (size_t)(*end - p->at);
    const size_t apart = p->wide ? (size_t)c->chunk_samples : p->window;
    for (uint32_t k = 0; k < s->spec.n_channels; k++)
        memcpy((char *)piece->data + k * n * size, p->buffer + (k * apart + (size_t)(p->at - p->base)) * size,
               n * size);
    piece->n_samples = (uint32_t)n;
    return GW_OK;
}

/* Leaves a segment that has been worked off. Other ports may still read its file: it opens again by itself.
 */
static void next_segment(port *p)
{
    const gw_join_stream *s = p->stream;
    while (p->segment < s->n_segments && s->segment[p->segment].end <= p->at) {
        gw_archive_park(s->segment[p->segment].archive);
        p->segment++;
        p->run = p->absence = 0;
        p->have0 = p->have1 = 0;
    }
}

static int replay_next(void *self, int number, gw_piece *piece)
{
    replay *r = self;
    port *p = &r->port[number];
    if (!r->started) {
        gw_env_start(r->env, r->pace, r->join.start_ns);
        r->started = true;
    }
    if (p->at >= p->stream->end) {
        complain(r, p);
        return GW_EEND;
    }
    const int64_t limit = bound(r, p);
    piece->sample0 = p->at;
    int64_t end;
    GW_TRY(make_piece(r, p, limit, piece, &end));
    if (p->bad1 != end)
        complain(r, p); /* the stretch ended before this piece */
    /* As from a detector, a block comes as a whole at its end, in however many pieces. */
    GW_TRY(gw_env_wait_until(r->env, time_of(p, limit)));
    p->at = end;
    next_segment(p);
    return GW_OK;
}

static void free_list(char **list, int n)
{
    for (int i = 0; i < n; i++)
        free(list[i]);
    free(list);
}

static void replay_close(void *self)
{
    replay *r = self;
    for (int i = 0; i < r->n_ports; i++)
        free(r->port[i].buffer);
    gw_join_close(&r->join);
    free_list(r->wish.file, r->wish.n_files);
    free_list(r->wish.detector, r->wish.n_detectors);
    free_list(r->wish.channel, r->wish.n_channels);
    for (int i = 0; i < r->wish.n_shifts; i++)
        free(r->wish.shift[i].stream);
    free(r->wish.shift);
    *r = (replay){0};
}

const gw_kind gw_kind_replay = {
    .kind = "replay",
    .help = "archived HDF5 (GWOSC, GWpy, one dataset per channel, own recordings) as streams",
    .role = GW_SOURCE,
    .origin = GW_ARCHIVED,
    .state_size = sizeof(replay),
    .configure = replay_configure,
    .plan = replay_plan,
    .open = replay_open,
    .next = replay_next,
    .close = replay_close,
};
