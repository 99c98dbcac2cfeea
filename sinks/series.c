/* SPDX-License-Identifier: GPL-3.0-or-later
 * Which file of a recording a block goes to. Called by record.c, in its own thread.
 *
 * Streams need not be at the same time: each goes on to its next file by itself, and a file is closed when
 * all have left it. The wall clock decides one thing alone: when a full disk is tried again. */
#include "sinks/series.h"
#include "pipeline/log.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>

enum { MAX_OPEN = 3, MAX_AGAIN = 1000, ROOM_BYTES = 64 << 20, MAX_SECONDS = 86400 };

typedef struct part {
    gw_hdf5_out *out; /* NULL: free */
    int64_t number;   /* it begins at GPS number * every */
} part;

struct gw_series {
    gw_series_conf c;
    char *path; /* of the file being made */
    size_t path_bytes;
    part part[MAX_OPEN];
    int64_t at[GW_MAX_PORTS]; /* how far each stream is */
    /* The disk is full until a new file can be made; not tried before `again_ns`. */
    bool stuck;
    int64_t again_ns;
    int64_t lost_from[GW_MAX_PORTS]; /* not recorded since then; INT64_MIN: nothing is missing */
    int64_t lost_samples;
};

/* ---- plan ---- */

int gw_series_check(const gw_series_conf *c)
{
    if (c->every_ns % GW_SECOND_NS || c->every_ns > MAX_SECONDS * GW_SECOND_NS)
        return gw_fail(GW_ECONFIG, "every: %g s; expected whole seconds, at most a day",
                       (double)c->every_ns * 1e-9);
    for (int i = 0; i < c->file.n_streams; i++) {
        GW_TRY(gw_hdf5_out_check_spec(&c->file.spec[i]));
        const gw_spec *spec = &c->file.spec[i];
        if (c->every_ns && (double)spec->block_samples / gw_rate_hz(spec->rate) > (double)c->every_ns * 1e-9)
            return gw_fail(GW_ECONFIG, "every: %g s is shorter than a block of stream %s",
                           (double)c->every_ns * 1e-9, spec->name);
    }
    if (!c->every_ns && c->file.layout == GW_LAYOUT_WIDE)
        return gw_fail(GW_ECONFIG, "every: the wide layout needs the length of a file, such as 60s");
    return gw_hdf5_out_check(c->file.path, c->file.overwrite || c->every_ns);
}

/* ---- the grid ---- */

/* The stream's first sample in a file: at the file's GPS start or up to a block before, where a block begins.
 */
static int64_t first_of(const gw_series *s, int stream, int64_t number)
{
    const gw_spec *spec = &s->c.file.spec[stream];
    const int64_t block = spec->block_samples;
    const int64_t at = gw_sample_at_or_after(number * s->c.every_ns, spec->rate, spec->phase_ns),
                  over = at % block;
    return at - over - (over < 0 ? block : 0);
}

static int64_t number_of(const gw_series *s, int stream, int64_t sample)
{
    const gw_spec *spec = &s->c.file.spec[stream];
    if (!s->c.every_ns)
        return 0;
    int64_t number = gw_sample_to_ns(sample, spec->rate, spec->phase_ns) / s->c.every_ns;
    while (first_of(s, stream, number) > sample)
        number--;
    while (first_of(s, stream, number + 1) <= sample)
        number++;
    return number;
}

/* ---- files ---- */

static void name_file(gw_series *s, int64_t number, int again)
{
    const char *path = s->c.file.path, *slash = strrchr(path, '/'), *dot = strrchr(path, '.');
    const int64_t every_s = s->c.every_ns / GW_SECOND_NS;
    const size_t stem =
        dot && dot > path && (!slash || dot > slash + 1) ? (size_t)(dot - path) : strlen(path);
    char more[16] = "";
    if (again > 1)
        snprintf(more, sizeof more, ".%d", again);
    if (every_s)
        snprintf(s->path, s->path_bytes, "%.*s-%" PRId64 "-%" PRId64 "%s%s", (int)stem, path,
                 number * every_s, every_s, more, path + stem);
    else
        snprintf(s->path, s->path_bytes, "%s", path);
}

static int make_file(gw_series *s, part *p, int64_t number)
{
    int64_t first[GW_MAX_PORTS], limit[GW_MAX_PORTS];
    gw_hdf5_out_conf c = s->c.file;
    for (int i = 0; i < c.n_streams; i++) {
        first[i] = s->c.every_ns ? first_of(s, i, number) : 0;
        limit[i] = s->c.every_ns ? first_of(s, i, number + 1) : INT64_MAX;
    }
    c.path = s->path;
    c.first = first;
    c.limit = limit;
    int err = GW_EBUSY;
    for (int again = 1; err == GW_EBUSY && again <= (s->c.every_ns ? MAX_AGAIN : 1); again++) {
        name_file(s, number, again);
        err = gw_hdf5_out_new(&p->out, &c);
    }
    p->number = number;
    return err;
}

int gw_series_new(gw_series **out, const gw_series_conf *c)
{
    gw_series *s = *out = calloc(1, sizeof *s);
    if (!s)
        return gw_fail(GW_ENOMEM, "%s", c->file.path);
    s->c = *c;
    s->path_bytes = strlen(c->file.path) + 64;
    s->path = malloc(s->path_bytes);
    int err = s->path ? GW_OK : gw_fail(GW_ENOMEM, "%s", c->file.path);
    for (int i = 0; i < c->file.n_streams; i++)
        s->at[i] = s->lost_from[i] = INT64_MIN;
    if (err == GW_OK && !c->every_ns)
        err = make_file(s, &s->part[0], 0); /* a reader may look at it before anything has come */
    if (err < 0)
        gw_series_destroy(out);
    return err;
}

static int finish_part(part *p)
{
    int err = gw_hdf5_out_finish(p->out);
    gw_hdf5_out_destroy(&p->out);
    return err;
}

/* A free place; where there is none, the oldest file must do with what it has. */
static int free_part(gw_series *s, part **out)
{
    part *oldest = &s->part[0];
    for (int i = 0; i < MAX_OPEN; i++) {
        part *p = &s->part[i];
        if (!p->out) {
            *out = p;
            return GW_OK;
        }
        if (p->number < oldest->number)
            oldest = p;
    }
    *out = oldest;
    return finish_part(oldest);
}

static int part_for(gw_series *s, int stream, int64_t sample, part **out)
{
    const int64_t number = number_of(s, stream, sample);
    for (int i = 0; i < MAX_OPEN; i++) {
        *out = &s->part[i];
        if ((*out)->out && (*out)->number == number)
            return GW_OK;
    }
    GW_TRY(free_part(s, out));
    return make_file(s, *out, number);
}

static int close_left(gw_series *s)
{
    for (int i = 0; i < MAX_OPEN; i++) {
        part *p = &s->part[i];
        bool left = p->out && s->c.every_ns;
        for (int k = 0; k < s->c.file.n_streams && left; k++)
            left = s->at[k] >= first_of(s, k, p->number + 1);
        if (left)
            GW_TRY(finish_part(p));
    }
    return GW_OK;
}

/* ---- a full disk ---- */

static double gps(const gw_series *s, int stream, int64_t sample)
{
    const gw_spec *spec = &s->c.file.spec[stream];
    return (double)gw_sample_to_ns(sample, spec->rate, spec->phase_ns) * 1e-9;
}

/* Lets go of all files: they hold what was flushed, the rest is lost. */
static void give_up_files(gw_series *s)
{
    for (int i = 0; i < MAX_OPEN; i++) {
        part *p = &s->part[i];
        if (p->out)
            (void)gw_hdf5_out_finish(p->out); /* one that is well keeps all it has */
        for (int k = 0; p->out && k < s->c.file.n_streams; k++) {
            int64_t start, end, safe;
            gw_hdf5_out_span(p->out, k, &start, &end, &safe);
            safe = safe > start ? safe : start;
            if (end > safe && (s->lost_from[k] == INT64_MIN || safe < s->lost_from[k]))
                s->lost_from[k] = safe;
        }
        gw_hdf5_out_destroy(&p->out);
    }
}

/* After a failure: GW_OK if the series goes on without what cannot be written now. */
static int get_stuck(gw_series *s, int err)
{
    if (err != GW_EIO || !s->c.every_ns)
        return err;
    if (!s->stuck)
        gw_log(GW_LOG_ERROR, s->c.name, "%s; nothing is recorded until there is room", gw_err_detail());
    s->stuck = true;
    s->again_ns = gw_monotonic_ns() + GW_SECOND_NS;
    give_up_files(s);
    return GW_OK;
}

static bool has_room(const gw_series *s)
{
    char *folder = strdup(s->c.file.path), *slash = folder ? strrchr(folder, '/') : NULL;
    struct statvfs v;
    if (slash)
        slash[slash == folder] = '\0';
    bool room = !folder || statvfs(slash ? folder : ".", &v) < 0 || v.f_bavail * v.f_frsize > ROOM_BYTES;
    free(folder);
    return room;
}

/* Stuck until a second has passed and there seems to be room. */
static bool still_stuck(gw_series *s)
{
    if (!s->stuck || gw_monotonic_ns() < s->again_ns)
        return s->stuck;
    s->again_ns = gw_monotonic_ns() + GW_SECOND_NS;
    return !has_room(s);
}

/* The hole that a full disk has left, in the file where the stream goes on. */
static int tell_lost(gw_series *s, int stream, part *p, int64_t until)
{
    const int64_t from = s->lost_from[stream];
    if (from == INT64_MIN)
        return GW_OK;
    const gw_hole hole = {from, (uint64_t)(until - from), GW_GAP_DROPPED, GW_DQ_ALL};
    GW_TRY(gw_hdf5_out_gap(p->out, stream, &hole));
    gw_log(GW_LOG_WARN, s->c.name, "records %s again in %s; lost GPS %.3f to %.3f",
           s->c.file.spec[stream].name, gw_hdf5_out_path(p->out), gps(s, stream, from),
           gps(s, stream, until));
    s->lost_samples += until - from;
    s->lost_from[stream] = INT64_MIN;
    return GW_OK;
}

/* ---- what comes ---- */

/* The file for what begins at `sample`, or NULL while nothing can be written. */
static int ready(gw_series *s, int stream, int64_t sample, part **p)
{
    *p = NULL;
    int err = GW_OK;
    if (still_stuck(s)) {
        if (s->lost_from[stream] == INT64_MIN)
            s->lost_from[stream] = sample;
        return GW_OK;
    }
    if ((err = part_for(s, stream, sample, p)) == GW_OK)
        err = tell_lost(s, stream, *p, sample);
    if (err == GW_OK) {
        s->stuck = false;
        return GW_OK;
    }
    *p = NULL;
    GW_TRY(get_stuck(s, err));
    if (s->lost_from[stream] == INT64_MIN)
        s->lost_from[stream] = sample;
    return GW_OK;
}

static int write_in_file(gw_series *s, int stream, const gw_view *v)
{
    part *p;
    GW_TRY(ready(s, stream, v->sample0, &p));
    s->at[stream] = v->sample0 + v->n_samples;
    if (!p)
        return GW_OK;
    int err = gw_hdf5_out_write(p->out, stream, v);
    err = err < 0 ? err : close_left(s);
    if (err == GW_OK)
        return GW_OK;
    GW_TRY(get_stuck(s, err));
    if (s->lost_from[stream] == INT64_MIN)
        s->lost_from[stream] = v->sample0;
    return GW_OK;
}

/* The first sample after `sample` that lies in another file, or in another chunk of a wide one. */
static int64_t boundary(const gw_series *s, int stream, int64_t sample)
{
    const int64_t block = s->c.file.spec[stream].block_samples;
    int64_t end = s->c.every_ns ? first_of(s, stream, number_of(s, stream, sample) + 1) : INT64_MAX;
    if (s->c.file.layout == GW_LAYOUT_WIDE && (sample / block + 1) * block < end)
        end = (sample / block + 1) * block;
    return end;
}

/* A stage with a delay sends blocks that lie across the grid: they are cut. */
int gw_series_write(gw_series *s, int stream, const gw_view *v)
{
    gw_view part = *v;
    const int64_t end = v->sample0 + v->n_samples;
    while (part.sample0 < end) {
        const int64_t until = boundary(s, stream, part.sample0);
        part.n_samples = (uint32_t)((until < end ? until : end) - part.sample0);
        GW_TRY(write_in_file(s, stream, &part));
        part.data = (const char *)part.data + part.n_samples * gw_dtype_bytes(s->c.file.spec[stream].dtype);
        part.sample0 += part.n_samples;
    }
    return GW_OK;
}

static int gap_in_file(gw_series *s, int stream, const gw_hole *h)
{
    part *p;
    GW_TRY(ready(s, stream, h->sample0, &p));
    s->at[stream] = h->sample0 + (int64_t)h->samples;
    if (!p)
        return GW_OK;
    int err = gw_hdf5_out_gap(p->out, stream, h);
    err = err < 0 ? err : close_left(s);
    return err < 0 ? get_stuck(s, err) : GW_OK;
}

int gw_series_gap(gw_series *s, int stream, const gw_hole *h)
{
    const int64_t end = h->sample0 + (int64_t)h->samples;
    const int64_t last = s->c.every_ns ? first_of(s, stream, number_of(s, stream, end)) : h->sample0;
    gw_hole part = *h;
    if (last > h->sample0 && last < end) {
        part.samples = (uint64_t)(last - h->sample0);
        GW_TRY(gap_in_file(s, stream, &part));
        part.sample0 = last;
        part.samples = (uint64_t)(end - last);
    }
    return gap_in_file(s, stream, &part);
}

int gw_series_flush(gw_series *s)
{
    for (int i = 0; i < MAX_OPEN; i++) {
        int err = s->part[i].out ? gw_hdf5_out_flush(s->part[i].out) : GW_OK;
        if (err < 0)
            return get_stuck(s, err);
    }
    return GW_OK;
}

int gw_series_finish(gw_series *s)
{
    for (int i = 0; i < MAX_OPEN; i++) {
        int err = s->part[i].out ? finish_part(&s->part[i]) : GW_OK;
        if (err < 0)
            GW_TRY(get_stuck(s, err));
    }
    for (int i = 0; i < s->c.file.n_streams; i++)
        if (s->lost_from[i] != INT64_MIN && s->at[i] > s->lost_from[i])
            s->lost_samples += s->at[i] - s->lost_from[i];
    return s->lost_samples ? gw_fail(GW_EIO, "%s: %" PRId64 " samples a channel are lost for want of room",
                                     s->c.file.path, s->lost_samples)
                           : GW_OK;
}

void gw_series_destroy(gw_series **out)
{
    gw_series *s = *out;
    *out = NULL;
    if (!s)
        return;
    for (int i = 0; i < MAX_OPEN; i++)
        gw_hdf5_out_destroy(&s->part[i].out);
    free(s->path);
    free(s);
}
