/* SPDX-License-Identifier: GPL-3.0-or-later
 * One recording: what it says about its streams, and its tables. Called by series.c and dump.c; the file is
 * out_file.c's, the samples are gwpy_out.c's and wide_out.c's. Knows no YAML and no clock. */
#include "pipeline/hdf5_lock.h"
#include "sinks/hdf5_layout.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#ifndef GW_VERSION
#define GW_VERSION "0.1.0"
#endif

enum { ROWS_CHUNK = 256, ABSENT_CHUNK_BYTES = 64 << 10, WIDE_CHANNELS = 65 };

gw_layout gw_layout_for(const gw_spec *spec, int n_streams)
{
    for (int i = 0; i < n_streams; i++)
        if (spec[i].n_channels >= WIDE_CHANNELS)
            return GW_LAYOUT_WIDE;
    return GW_LAYOUT_GWPY;
}

static const gw_layout_ops *ops(const gw_hdf5_out *o)
{
    return o->c.layout == GW_LAYOUT_WIDE ? &gw_wide_ops : &gw_gwpy_ops;
}

int gw_out_fail(gw_hdf5_out *o, const char *what)
{
    const char *why = gw_hdf5_reason();
    o->broken = true;
    return gw_fail(GW_EIO, "%s: cannot write %s: %s", o->path, what, why);
}

hid_t gw_out_type(gw_dtype t)
{
    switch (t) {
    case GW_F32:
        return H5T_NATIVE_FLOAT;
    case GW_F64:
        return H5T_NATIVE_DOUBLE;
    case GW_I16:
        return H5T_NATIVE_INT16;
    case GW_I32:
        return H5T_NATIVE_INT32;
    case GW_U8:
        return -1;
    }
    return -1;
}

int gw_hdf5_out_check_spec(const gw_spec *s)
{
    return s->dtype == GW_U8 || gw_dtype_bytes(s->dtype) == 0
               ? gw_fail(GW_ENOTSUP, "stream %s holds no numbers (%s) and cannot be recorded", s->name,
                         gw_dtype_text(s->dtype))
               : GW_OK;
}

/* ---- a stream's objects ---- */

static hid_t dq_type(void)
{
    hid_t t = H5Tcreate(H5T_COMPOUND, sizeof(gw_out_row));
    if (t < 0)
        return t;
    H5Tinsert(t, "sample0", offsetof(gw_out_row, sample0), H5T_NATIVE_INT64);
    H5Tinsert(t, "n_samples", offsetof(gw_out_row, n_samples), H5T_NATIVE_INT64);
    H5Tinsert(t, "dq", offsetof(gw_out_row, dq), H5T_NATIVE_UINT64);
    H5Tinsert(t, "flags", offsetof(gw_out_row, flags), H5T_NATIVE_UINT32);
    H5Tinsert(t, "gap_reason", offsetof(gw_out_row, gap_reason), H5T_NATIVE_UINT32);
    H5Tinsert(t, "networks", offsetof(gw_out_row, networks), H5T_NATIVE_UINT64);
    return t;
}

enum { ABSENT_BITS_AT = 2 * sizeof(int64_t) };

static size_t absent_bytes(const gw_spec *s)
{
    return ABSENT_BITS_AT + (s->n_channels + 7) / 8;
}

static hid_t absent_type(const gw_spec *s)
{
    const hsize_t bytes = (s->n_channels + 7) / 8;
    hid_t bits = H5Tarray_create2(H5T_NATIVE_UINT8, 1, &bytes);
    hid_t t = bits < 0 ? -1 : H5Tcreate(H5T_COMPOUND, absent_bytes(s));
    if (t >= 0) {
        H5Tinsert(t, "sample0", 0, H5T_NATIVE_INT64);
        H5Tinsert(t, "n_samples", sizeof(int64_t), H5T_NATIVE_INT64);
        H5Tinsert(t, "present", ABSENT_BITS_AT, bits);
    }
    if (bits >= 0)
        H5Tclose(bits);
    return t;
}

enum { REASON_BYTES = 16 };

static int put_reasons(hid_t group, const int64_t *zero)
{
    char text[GW_GAP_REASON_COUNT][REASON_BYTES] = {{0}};
    for (int r = 0; r < GW_GAP_REASON_COUNT; r++)
        snprintf(text[r], sizeof text[r], "%s", gw_gap_reason_text((gw_gap_reason)r));
    hid_t type = H5Tcopy(H5T_C_S1);
    int err =
        type < 0 || H5Tset_size(type, REASON_BYTES) < 0 ||
                gw_hdf5_put(group, "gap_reasons", type, GW_GAP_REASON_COUNT, text) < 0 ||
                gw_hdf5_put(group, "gap_samples_by_reason", H5T_NATIVE_INT64, GW_GAP_REASON_COUNT, zero) < 0
            ? -1
            : 0;
    if (type >= 0)
        H5Tclose(type);
    return err;
}

static int create_stream(gw_hdf5_out *o, gw_out_stream *s, int64_t sample0)
{
    const gw_spec *spec = s->spec;
    s->sample0 = sample0;
    const size_t row = absent_bytes(spec), rows = ABSENT_CHUNK_BYTES / row;
    s->absent_row = calloc(1, row);
    o->pending_bytes += 4 * ABSENT_CHUNK_BYTES;
    if (!s->absent_row)
        return gw_fail(GW_ENOMEM, "%s: %s", o->path, spec->name);
    const hid_t g = s->group = H5Gcreate2(o->root, spec->name, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
    if (g < 0 || gw_hdf5_put_text(g, "layout", ops(o)->name) < 0 ||
        gw_hdf5_put_text(g, "detector", spec->detector) < 0 || gw_hdf5_put_text(g, "unit", spec->unit) < 0 ||
        gw_hdf5_put_text(g, "whitening", spec->whitening) < 0 ||
        gw_hdf5_put_text(g, "cleaning", spec->cleaning) < 0 ||
        gw_hdf5_put_text(g, "dtype", gw_dtype_text(spec->dtype)) < 0 ||
        gw_hdf5_put_int(g, "rate_num", spec->rate.num) < 0 ||
        gw_hdf5_put_int(g, "rate_den", spec->rate.den) < 0 ||
        gw_hdf5_put_int(g, "phase_ns", spec->phase_ns) < 0 || gw_hdf5_put_int(g, "sample0", sample0) < 0 ||
        gw_hdf5_put_int(g, "block_samples", spec->block_samples) < 0 ||
        gw_hdf5_put_int(g, "gap_samples", 0) < 0 || put_reasons(g, s->gap_by_reason) < 0 ||
        gw_hdf5_table_new(&s->dq, g, "dq", dq_type(), sizeof(gw_out_row), ROWS_CHUNK) < 0 ||
        gw_hdf5_table_new(&s->absent, g, "absent", absent_type(spec), row, rows ? rows : 1) < 0)
        return gw_out_fail(o, spec->name);
    GW_TRY(ops(o)->begin(o, s));
    s->begun = true;
    return GW_OK;
}

/* ---- what comes ---- */

/* The last row grows while nothing changes. */
static int note(gw_hdf5_out *o, gw_out_stream *s, gw_out_row r)
{
    gw_out_row *last = s->dq.last;
    if (!s->came)
        s->start = r.sample0;
    s->came = true;
    s->end = r.sample0 + r.n_samples;
    if (s->dq.n && last->dq == r.dq && last->flags == r.flags && last->networks == r.networks &&
        last->gap_reason == r.gap_reason && last->sample0 + last->n_samples == r.sample0) {
        last->n_samples += r.n_samples;
        return GW_OK;
    }
    return gw_hdf5_table_push(&s->dq, &r) < 0 ? gw_out_fail(o, "dq") : GW_OK;
}

static int note_absent(gw_hdf5_out *o, gw_out_stream *s, const gw_view *v)
{
    int64_t *span = s->absent.last; /* {sample0, n_samples} */
    const size_t bits = absent_bytes(s->spec) - ABSENT_BITS_AT;
    if (!v->presence)
        return GW_OK;
    if (s->absent.n && span[0] + span[1] == v->sample0 &&
        !memcmp((char *)s->absent.last + ABSENT_BITS_AT, v->presence, bits)) {
        span[1] += v->n_samples;
        return GW_OK;
    }
    const int64_t row[] = {v->sample0, v->n_samples};
    memcpy(s->absent_row, row, sizeof row);
    memcpy(s->absent_row + ABSENT_BITS_AT, v->presence, bits);
    return gw_hdf5_table_push(&s->absent, s->absent_row) < 0 ? gw_out_fail(o, "absent") : GW_OK;
}

static int extend(gw_hdf5_out *o, gw_out_stream *s, int64_t end)
{
    const int64_t samples = (end < s->limit ? end : s->limit) - s->sample0;
    if (samples <= s->extent)
        return GW_OK;
    GW_TRY(ops(o)->extend(o, s, samples));
    s->extent = samples;
    return GW_OK;
}

static int begin(gw_hdf5_out *o, gw_out_stream *s, int64_t sample0)
{
    if (o->file < 0 || o->broken)
        return gw_fail(GW_EBUG, "%s: written to after its end", o->path);
    if (!s->begun)
        GW_TRY(create_stream(o, s, sample0));
    if (s->came && sample0 < s->end)
        return gw_fail(GW_EBUG, "%s: %s sends sample %" PRId64 " after %" PRId64, o->path, s->spec->name,
                       sample0, s->end);
    return GW_OK;
}

static int begin_block(gw_hdf5_out *o, gw_out_stream *s, const gw_view *v)
{
    GW_TRY(begin(o, s, v->sample0));
    if (v->n_channels != s->spec->n_channels || v->n_samples == 0 || v->sample0 < s->sample0 ||
        v->sample0 + v->n_samples > s->limit)
        return gw_fail(GW_EBUG, "%s: %s sends %" PRIu32 " x %" PRIu32 " samples from %" PRId64, o->path,
                       s->spec->name, v->n_channels, v->n_samples, v->sample0);
    return extend(o, s, v->sample0 + v->n_samples);
}

int gw_hdf5_out_write(gw_hdf5_out *o, int number, const gw_view *v)
{
    gw_out_stream *s = &o->stream[number];
    gw_hdf5_lock();
    int err = begin_block(o, s, v);
    gw_hdf5_unlock();
    GW_TRY(err);
    GW_TRY(ops(o)->write(o, s, v));
    gw_hdf5_lock();
    err = note(o, s, (gw_out_row){v->sample0, v->n_samples, v->dq, v->flags, GW_GAP_NONE, v->networks});
    if (err == GW_OK)
        err = note_absent(o, s, v);
    gw_hdf5_unlock();
    return err;
}

int gw_hdf5_out_gap(gw_hdf5_out *o, int number, const gw_hole *h)
{
    gw_out_stream *s = &o->stream[number];
    gw_hdf5_lock();
    int err = begin(o, s, h->sample0);
    if (err == GW_OK) {
        s->gap_samples += (int64_t)h->samples;
        s->gap_by_reason[h->reason] += (int64_t)h->samples;
        err = note(o, s, (gw_out_row){h->sample0, (int64_t)h->samples, h->dq, GW_FLAG_GAP, h->reason, 0});
    }
    gw_hdf5_unlock();
    return err;
}

const char *gw_hdf5_out_path(const gw_hdf5_out *o)
{
    return o->path;
}

void gw_hdf5_out_span(const gw_hdf5_out *o, int number, int64_t *start, int64_t *end, int64_t *safe)
{
    const gw_out_stream *s = &o->stream[number];
    *start = s->start;
    *end = s->end;
    *safe = s->safe;
}

/* ---- ends ---- */

static int put_totals(const gw_out_stream *s)
{
    return gw_hdf5_set(s->group, "gap_samples", H5T_NATIVE_INT64, &s->gap_samples) < 0 ||
                   gw_hdf5_set(s->group, "gap_samples_by_reason", H5T_NATIVE_INT64, s->gap_by_reason) < 0
               ? -1
               : 0;
}

/* Whoever is killed in between, each step is on the disk before the next begins. First the samples, then
 * which of them are absent, then the rows that say how far the recording reaches: a reader believes only
 * those. */
static int flush(gw_hdf5_out *o)
{
    bool absent = false;
    for (int i = 0; i < o->c.n_streams; i++) {
        gw_out_stream *s = &o->stream[i];
        if (!s->came)
            continue;
        GW_TRY(extend(o, s, s->end)); /* a hole at the end is part of the recording */
        GW_TRY(ops(o)->settle(o, s));
        absent |= s->absent.n > 0;
    }
    GW_TRY(gw_out_file_hand_over(o));
    for (int i = 0; i < o->c.n_streams && absent; i++)
        if (o->stream[i].came && gw_hdf5_table_settle(&o->stream[i].absent) < 0)
            return gw_out_fail(o, o->stream[i].spec->name);
    if (absent)
        GW_TRY(gw_out_file_hand_over(o));
    for (int i = 0; i < o->c.n_streams; i++) {
        gw_out_stream *s = &o->stream[i];
        if (s->came && (gw_hdf5_table_settle(&s->dq) < 0 || put_totals(s) < 0))
            return gw_out_fail(o, s->spec->name);
    }
    GW_TRY(gw_out_file_hand_over(o));
    for (int i = 0; i < o->c.n_streams; i++)
        o->stream[i].safe = o->stream[i].end;
    return GW_OK;
}

int gw_hdf5_out_flush(gw_hdf5_out *o)
{
    gw_hdf5_lock();
    int err = o->file < 0 || o->broken ? GW_OK : flush(o);
    gw_hdf5_unlock();
    return err;
}

static int close_all(gw_hdf5_out *o)
{
    int err = GW_OK;
    const bool touch = o->file >= 0 && (!o->broken || gw_out_file_bury(o));
    for (int i = 0; i < o->c.n_streams; i++) {
        gw_out_stream *s = &o->stream[i];
        ops(o)->close(s, touch);
        gw_hdf5_table_free(&s->dq, touch);
        gw_hdf5_table_free(&s->absent, touch);
        free(s->absent_row);
        s->absent_row = NULL;
        if (touch && s->group >= 0)
            H5Gclose(s->group);
    }
    if (touch) {
        if (o->root >= 0)
            H5Gclose(o->root);
        err = gw_out_file_close(o);
    }
    o->file = o->root = -1;
    return err;
}

int gw_hdf5_out_finish(gw_hdf5_out *o)
{
    const uint8_t yes = 1;
    gw_hdf5_lock();
    int err = GW_OK;
    if (o->file >= 0) {
        err = o->broken ? GW_OK : flush(o);
        if (err == GW_OK && !o->broken && gw_hdf5_set(o->root, "complete", H5T_NATIVE_UINT8, &yes) < 0)
            err = gw_out_fail(o, "the file");
        int closed = close_all(o);
        err = err < 0 ? err : closed;
    }
    gw_hdf5_unlock();
    return err;
}

void gw_hdf5_out_destroy(gw_hdf5_out **out)
{
    gw_hdf5_out *o = *out;
    *out = NULL;
    if (!o)
        return;
    gw_hdf5_out_finish(o);
    free(o->stream);
    free(o->path);
    free(o);
}

/* Streams that share a channel name keep their datasets in groups. */
static void find_names(gw_hdf5_out *o)
{
    if (o->c.layout != GW_LAYOUT_GWPY)
        return;
    for (int i = 0; i < o->c.n_streams; i++)
        for (int k = 0; k < o->c.n_streams; k++)
            for (uint32_t a = 0; k != i && a < o->stream[i].spec->n_channels; a++)
                for (uint32_t b = 0; b < o->stream[k].spec->n_channels && !o->stream[i].in_group; b++) {
                    const gw_spec *x = o->stream[i].spec, *y = o->stream[k].spec;
                    o->stream[i].in_group = x->channel && y->channel && !strcmp(x->channel[a], y->channel[b]);
                }
}

/* version 1: only the GWpy layout, which every reader of version 1 still reads. */
static int create_root(gw_hdf5_out *o)
{
    const uint8_t no = 0;
    o->root = H5Gcreate2(o->file, "gwstream", H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
    if (o->root < 0 || gw_hdf5_put_int(o->root, "version", o->c.layout == GW_LAYOUT_WIDE ? 2 : 1) < 0 ||
        gw_hdf5_put_text(o->root, "software", "gwstream " GW_VERSION) < 0 ||
        gw_hdf5_put(o->root, "run_id", H5T_NATIVE_UINT64, 0, &o->c.run_id) < 0 ||
        gw_hdf5_put(o->root, "complete", H5T_NATIVE_UINT8, 0, &no) < 0)
        return gw_out_fail(o, "the file");
    return GW_OK;
}

/* Nothing can be added to a file in SWMR mode: so all streams of a wide one begin at once. */
static int create_all(gw_hdf5_out *o)
{
    o->file = gw_out_file_create(o);
    if (o->file < 0)
        return gw_out_fail(o, "the file");
    GW_TRY(create_root(o));
    for (int i = 0; o->c.layout == GW_LAYOUT_WIDE && i < o->c.n_streams; i++)
        GW_TRY(create_stream(o, &o->stream[i], o->c.first[i]));
    if (o->c.layout == GW_LAYOUT_WIDE && H5Fstart_swmr_write(o->file) < 0)
        return gw_out_fail(o, "the file");
    return gw_out_file_hand_over(o);
}

int gw_hdf5_out_new(gw_hdf5_out **out, const gw_hdf5_out_conf *c)
{
    *out = NULL;
    GW_TRY(gw_hdf5_out_check(c->path, c->overwrite));
    for (int i = 0; i < c->n_streams; i++)
        GW_TRY(gw_hdf5_out_check_spec(&c->spec[i]));
    gw_hdf5_out *o = calloc(1, sizeof *o);
    if (!o)
        return gw_fail(GW_ENOMEM, "%s", c->path);
    o->c = *c;
    o->path = strdup(c->path);
    o->stream = calloc((size_t)c->n_streams, sizeof *o->stream);
    o->file = o->root = -1;
    if (!o->path || !o->stream) {
        o->c.n_streams = 0;
        gw_hdf5_out_destroy(&o);
        return gw_fail(GW_ENOMEM, "%s", c->path);
    }
    gw_hdf5_lock();
    for (int i = 0; i < c->n_streams; i++)
        o->stream[i] = (gw_out_stream){.spec = &c->spec[i],
                                       .group = -1,
                                       .dq = GW_HDF5_NO_TABLE,
                                       .absent = GW_HDF5_NO_TABLE,
                                       .memory = gw_out_type(c->spec[i].dtype),
                                       .limit = c->limit ? c->limit[i] : INT64_MAX};
    find_names(o);
    int err = create_all(o);
    o->c.path = o->path;
    o->c.first = o->c.limit = NULL; /* the caller's */
    const bool half_made = err < 0 && o->file >= 0;
    gw_hdf5_unlock();
    if (err < 0)
        gw_hdf5_out_destroy(&o);
    if (half_made)
        unlink(c->path);
    *out = o;
    return err;
}
