/* SPDX-License-Identifier: GPL-3.0-or-later
 * The samples of a recording in the wide layout: one dataset [channel][sample] a stream. Called by
 * hdf5_out.c.
 *
 * A chunk is `group` channels x one block. A block's payload is [channel][sample], so the rows of a group lie
 * in one piece and exactly as the file wants them: H5Dwrite_chunk takes them from the slab, nothing is copied
 * and nothing is asked of the library but an address. All else (a block shorter than the grid's, the last
 * group when it is not full, a group with an absent channel) goes through a column in memory. */
#include "pipeline/hdf5_lock.h"
#include "sinks/hdf5_layout.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CHUNK_BYTES = 4 << 20 };

typedef struct wide {
    hid_t dataset;
    uint32_t group;    /* channels a chunk */
    uint32_t n_groups; /* chunks a column */
    size_t row_bytes, chunk_bytes;
    char *column; /* [n_groups * group][block_samples]: chunk after chunk; NULL until one is needed */
    int64_t open; /* the column's number; < 0: none */
    bool dirty;   /* it holds what the file does not */
} wide;

/* Channels a chunk: as many groups as the wished size asks for, then as even as they get. */
static void choose_groups(wide *w, const gw_spec *spec, size_t wish)
{
    const uint32_t n = spec->n_channels;
    w->row_bytes = spec->block_samples * gw_dtype_bytes(spec->dtype);
    const size_t bytes = w->row_bytes * n, want = (bytes + wish - 1) / wish;
    const uint32_t groups = want < 1 ? 1 : want > n ? n : (uint32_t)want;
    w->group = (n + groups - 1) / groups;
    w->n_groups = (n + w->group - 1) / w->group;
    w->chunk_bytes = w->row_bytes * w->group;
}

static hid_t create_samples(hid_t where, const gw_spec *spec, const wide *w)
{
    const hsize_t dims[] = {spec->n_channels, 0}, most[] = {spec->n_channels, H5S_UNLIMITED},
                  chunk[] = {w->group, spec->block_samples};
    const double fill = NAN;
    const bool is_float = spec->dtype == GW_F32 || spec->dtype == GW_F64;
    hid_t space = H5Screate_simple(2, dims, most), create = H5Pcreate(H5P_DATASET_CREATE), dataset = -1;
    if (space >= 0 && create >= 0 && H5Pset_chunk(create, 2, chunk) >= 0 &&
        H5Pset_alloc_time(create, H5D_ALLOC_TIME_INCR) >= 0 && H5Pset_obj_track_times(create, false) >= 0 &&
        (!is_float || H5Pset_fill_value(create, H5T_NATIVE_DOUBLE, &fill) >= 0))
        dataset =
            H5Dcreate2(where, "samples", gw_out_type(spec->dtype), space, H5P_DEFAULT, create, H5P_DEFAULT);
    if (create >= 0)
        H5Pclose(create);
    if (space >= 0)
        H5Sclose(space);
    return dataset;
}

static int put_channels(hid_t where, const gw_spec *spec)
{
    char(*name)[GW_NAME_BYTES] = calloc(spec->n_channels, sizeof *name);
    for (uint32_t c = 0; name && c < spec->n_channels; c++)
        if (spec->channel && spec->channel[c][0])
            memcpy(name[c], spec->channel[c], sizeof *name);
        else
            snprintf(name[c], sizeof *name, "%.40s:%" PRIu32, spec->name, c);
    int err = name ? gw_hdf5_put_names(where, "channels", name[0], sizeof *name, spec->n_channels) : -1;
    free(name);
    return err;
}

static int wide_begin(gw_hdf5_out *o, gw_out_stream *s)
{
    const gw_spec *spec = s->spec;
    wide *w = s->samples = calloc(1, sizeof *w);
    if (!w)
        return gw_fail(GW_ENOMEM, "%s", o->path);
    w->dataset = w->open = -1;
    choose_groups(w, spec, o->c.chunk_bytes ? o->c.chunk_bytes : CHUNK_BYTES);
    const double start_gps = (double)gw_sample_to_ns(s->sample0, spec->rate, spec->phase_ns) / 1e9;
    hid_t group = H5Gcreate2(o->file, spec->name, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
    int err = group < 0 || put_channels(group, spec) < 0 ||
                      (w->dataset = create_samples(group, spec, w)) < 0 ||
                      gw_hdf5_put_real(w->dataset, "start_gps", start_gps) < 0 ||
                      gw_hdf5_put_real(w->dataset, "rate_hz", gw_rate_hz(spec->rate)) < 0 ||
                      gw_hdf5_put_text(w->dataset, "unit", spec->unit) < 0
                  ? gw_out_fail(o, spec->name)
                  : GW_OK;
    if (group >= 0)
        H5Gclose(group);
    return err;
}

static int wide_extend(gw_hdf5_out *o, gw_out_stream *s, int64_t samples)
{
    const wide *w = s->samples;
    const hsize_t dims[] = {s->spec->n_channels, (hsize_t)samples};
    return H5Dset_extent(w->dataset, dims) < 0 ? gw_out_fail(o, s->spec->name) : GW_OK;
}

/* The lock is held for one chunk at a time: others read and write files too. */
static int write_chunk(gw_hdf5_out *o, gw_out_stream *s, uint32_t g, int64_t column, const void *from)
{
    const wide *w = s->samples;
    const hsize_t at[] = {(hsize_t)g * w->group, (hsize_t)column * s->spec->block_samples};
    return H5Dwrite_chunk(w->dataset, H5P_DEFAULT, 0, at, w->chunk_bytes, from) < 0
               ? gw_out_fail(o, s->spec->name)
               : GW_OK;
}

static int write_chunk_locked(gw_hdf5_out *o, gw_out_stream *s, uint32_t g, int64_t column, const void *from)
{
    gw_hdf5_lock();
    int err = write_chunk(o, s, g, column, from);
    gw_hdf5_unlock();
    return err;
}

/* ---- the column in memory ---- */

static void erase(const gw_spec *spec, char *to, size_t samples)
{
    if (spec->dtype == GW_F32)
        for (size_t i = 0; i < samples; i++)
            ((float *)to)[i] = NAN;
    else if (spec->dtype == GW_F64)
        for (size_t i = 0; i < samples; i++)
            ((double *)to)[i] = NAN;
    else
        memset(to, 0, samples * gw_dtype_bytes(spec->dtype));
}

static int need_column(gw_hdf5_out *o, gw_out_stream *s)
{
    wide *w = s->samples;
    if (!w->column)
        w->column = malloc(w->chunk_bytes * w->n_groups);
    return w->column ? GW_OK : gw_fail(GW_ENOMEM, "%s: %zu bytes", o->path, w->chunk_bytes * w->n_groups);
}

/* Rows [c0, c1) of a view into the column, from sample `at` of the block on; absent channels stay erased. */
static void copy_rows(gw_out_stream *s, const gw_view *v, uint32_t c0, uint32_t c1, size_t at)
{
    const wide *w = s->samples;
    const size_t size = gw_dtype_bytes(s->spec->dtype);
    for (uint32_t c = c0; c < c1; c++)
        if (gw_present(v->presence, c))
            memcpy(w->column + c * w->row_bytes + at * size, (const char *)v->data + c * v->stride * size,
                   v->n_samples * size);
}

static int wide_settle(gw_hdf5_out *o, gw_out_stream *s)
{
    wide *w = s->samples;
    for (uint32_t g = 0; g < w->n_groups && w->dirty; g++)
        GW_TRY(write_chunk(o, s, g, w->open, w->column + g * w->chunk_bytes));
    w->dirty = false;
    return GW_OK;
}

static int write_part(gw_hdf5_out *o, gw_out_stream *s, const gw_view *v, int64_t column, size_t at)
{
    wide *w = s->samples;
    GW_TRY(need_column(o, s));
    if (w->open != column) {
        erase(s->spec, w->column, w->chunk_bytes * w->n_groups / gw_dtype_bytes(s->spec->dtype));
        w->open = column;
    }
    copy_rows(s, v, 0, s->spec->n_channels, at);
    w->dirty = true;
    return GW_OK;
}

static int present_in(const gw_view *v, uint32_t c0, uint32_t c1)
{
    int n = 0;
    for (uint32_t c = c0; c < c1; c++)
        n += gw_present(v->presence, c);
    return n;
}

/* A block that fills its column: each group straight from the slab, where that is possible. */
static int write_whole(gw_hdf5_out *o, gw_out_stream *s, const gw_view *v, int64_t column)
{
    const wide *w = s->samples;
    for (uint32_t g = 0; g < w->n_groups; g++) {
        const uint32_t c0 = g * w->group, c1 = c0 + w->group, end = c1 < v->n_channels ? c1 : v->n_channels;
        const uint32_t there = v->presence ? (uint32_t)present_in(v, c0, end) : end - c0;
        const char *from = (const char *)v->data + c0 * w->row_bytes;
        if (there == 0)
            continue;
        if (there < w->group) {
            GW_TRY(need_column(o, s));
            from = w->column + c0 * w->row_bytes;
            erase(s->spec, w->column + c0 * w->row_bytes, w->chunk_bytes / gw_dtype_bytes(s->spec->dtype));
            copy_rows(s, v, c0, end, 0);
        }
        GW_TRY(write_chunk_locked(o, s, g, column, from));
    }
    return GW_OK;
}

static int wide_write(gw_hdf5_out *o, gw_out_stream *s, const gw_view *v)
{
    wide *w = s->samples;
    const int64_t block = s->spec->block_samples, offset = v->sample0 - s->sample0;
    const int64_t column = offset / block, at = offset % block;
    if (at + v->n_samples > block)
        return gw_fail(GW_EBUG, "%s: %s sends a block across the grid: %" PRIu32 " samples from %" PRId64,
                       o->path, s->spec->name, v->n_samples, v->sample0);
    if (w->open >= 0 && w->open != column) {
        gw_hdf5_lock();
        int err = wide_settle(o, s);
        gw_hdf5_unlock();
        GW_TRY(err);
        w->open = -1;
    }
    if (v->n_samples == block && v->stride == (size_t)block)
        return write_whole(o, s, v, column);
    return write_part(o, s, v, column, (size_t)at);
}

static void wide_close(gw_out_stream *s, bool touch)
{
    wide *w = s->samples;
    if (!w)
        return;
    if (touch && w->dataset >= 0)
        H5Dclose(w->dataset);
    free(w->column);
    free(w);
    s->samples = NULL;
}

const gw_layout_ops gw_wide_ops = {.name = "wide",
                                   .begin = wide_begin,
                                   .extend = wide_extend,
                                   .write = wide_write,
                                   .settle = wide_settle,
                                   .close = wide_close};
