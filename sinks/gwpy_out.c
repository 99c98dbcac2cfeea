/* SPDX-License-Identifier: GPL-3.0-or-later
 * The samples of a recording in GWpy's layout: a one-dimensional dataset a channel. Called by hdf5_out.c.
 * For few channels; wide_out.c is for many. */
#include "pipeline/hdf5_lock.h"
#include "sinks/hdf5_layout.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PATH_BYTES = 2 * GW_NAME_BYTES, MIN_CHUNK = 1024, MAX_CHUNK = 65536, CACHED_CHUNKS = 2 };

static void dataset_path(const gw_out_stream *s, uint32_t c, char path[PATH_BYTES])
{
    const char *name = s->spec->channel ? s->spec->channel[c] : "";
    char numbered[GW_NAME_BYTES];
    if (!*name) {
        snprintf(numbered, sizeof numbered, "%.40s:%" PRIu32, s->spec->name, c);
        name = numbered;
    }
    snprintf(path, PATH_BYTES, "%s%s%s", s->in_group ? s->spec->name : "", s->in_group ? "/" : "", name);
}

static int put_paths(const gw_out_stream *s)
{
    const uint32_t n = s->spec->n_channels;
    char(*path)[PATH_BYTES] = calloc(n, sizeof *path);
    for (uint32_t c = 0; path && c < n; c++)
        dataset_path(s, c, path[c]);
    int err = path ? gw_hdf5_put_names(s->group, "paths", path[0], sizeof *path, n) : -1;
    free(path);
    return err;
}

/* An extendible dataset whose unwritten chunks take no space. */
static hid_t create_growing(hid_t where, const char *path, hid_t type, hsize_t chunk)
{
    const hsize_t none = 0, unlimited = H5S_UNLIMITED;
    const double fill = NAN;
    hid_t space = H5Screate_simple(1, &none, &unlimited), create = H5Pcreate(H5P_DATASET_CREATE);
    hid_t access_list = H5Pcreate(H5P_DATASET_ACCESS), link = H5Pcreate(H5P_LINK_CREATE), dataset = -1;
    if (space >= 0 && create >= 0 && access_list >= 0 && link >= 0 && H5Pset_chunk(create, 1, &chunk) >= 0 &&
        H5Pset_alloc_time(create, H5D_ALLOC_TIME_INCR) >= 0 && H5Pset_obj_track_times(create, false) >= 0 &&
        H5Pset_fill_value(create, H5T_NATIVE_DOUBLE, &fill) >= 0 &&
        H5Pset_chunk_cache(access_list, 3, CACHED_CHUNKS * chunk * H5Tget_size(type), 1.0) >= 0 &&
        H5Pset_create_intermediate_group(link, 1) >= 0)
        dataset = H5Dcreate2(where, path, type, space, link, create, access_list);
    const hid_t list[] = {create, access_list, link};
    for (size_t i = 0; i < sizeof list / sizeof *list; i++)
        if (list[i] >= 0)
            H5Pclose(list[i]);
    if (space >= 0)
        H5Sclose(space);
    return dataset;
}

/* Whole seconds and the rest apart: nanoseconds since 1980 do not fit a double, seconds do to 1e-7. */
static double seconds(int64_t ns)
{
    return (double)(ns / GW_SECOND_NS) + (double)(ns % GW_SECOND_NS) * 1e-9;
}

static int create_dataset(gw_hdf5_out *o, gw_out_stream *s, uint32_t c)
{
    const gw_spec *spec = s->spec;
    const bool wide = spec->dtype == GW_F64 || spec->dtype == GW_I32; /* floats that hold every value */
    const double hz = gw_rate_hz(spec->rate);
    const double second = hz < MIN_CHUNK ? MIN_CHUNK : hz > MAX_CHUNK ? MAX_CHUNK : hz;
    hid_t *dataset = s->samples;
    char path[PATH_BYTES];
    dataset_path(s, c, path);
    o->pending_bytes += CACHED_CHUNKS * (size_t)second * sizeof(double);
    const hid_t d = dataset[c] =
        create_growing(o->file, path, wide ? H5T_NATIVE_DOUBLE : H5T_NATIVE_FLOAT, (hsize_t)second);
    const char *name = strrchr(path, '/') ? strrchr(path, '/') + 1 : path;
    if (d < 0 ||
        gw_hdf5_put_real(d, "x0", seconds(gw_sample_to_ns(s->sample0, spec->rate, spec->phase_ns))) < 0 ||
        gw_hdf5_put_real(d, "dx", (double)spec->rate.den / spec->rate.num) < 0 ||
        gw_hdf5_put_text(d, "xunit", "s") < 0 || gw_hdf5_put_text(d, "unit", spec->unit) < 0 ||
        gw_hdf5_put_text(d, "name", name) < 0 || gw_hdf5_put_text(d, "channel", name) < 0)
        return gw_out_fail(o, path);
    return GW_OK;
}

static int gwpy_begin(gw_hdf5_out *o, gw_out_stream *s)
{
    hid_t *dataset = malloc(s->spec->n_channels * sizeof *dataset);
    if (!dataset)
        return gw_fail(GW_ENOMEM, "%s: %" PRIu32 " channels", o->path, s->spec->n_channels);
    s->samples = dataset;
    for (uint32_t c = 0; c < s->spec->n_channels; c++)
        dataset[c] = -1;
    for (uint32_t c = 0; c < s->spec->n_channels; c++)
        GW_TRY(create_dataset(o, s, c));
    return put_paths(s) < 0 ? gw_out_fail(o, s->spec->name) : GW_OK;
}

static int gwpy_extend(gw_hdf5_out *o, gw_out_stream *s, int64_t samples)
{
    const hid_t *dataset = s->samples;
    const hsize_t extent = (hsize_t)samples;
    for (uint32_t c = 0; c < s->spec->n_channels; c++)
        if (H5Dset_extent(dataset[c], &extent) < 0)
            return gw_out_fail(o, s->spec->name);
    return GW_OK;
}

static int write_rows(gw_hdf5_out *o, gw_out_stream *s, const gw_view *v)
{
    const hid_t *dataset = s->samples;
    const hsize_t n = v->n_samples, start = (hsize_t)(v->sample0 - s->sample0), extent = (hsize_t)s->extent;
    hid_t memory = H5Screate_simple(1, &n, NULL), file = H5Screate_simple(1, &extent, NULL);
    int err = memory < 0 || file < 0 || H5Sselect_hyperslab(file, H5S_SELECT_SET, &start, NULL, &n, NULL) < 0
                  ? gw_out_fail(o, s->spec->name)
                  : GW_OK;
    for (uint32_t c = 0; c < v->n_channels && err == GW_OK; c++) {
        const char *from = (const char *)v->data + (size_t)c * v->stride * gw_dtype_bytes(s->spec->dtype);
        if (gw_present(v->presence, c) &&
            H5Dwrite(dataset[c], s->memory, memory, file, H5P_DEFAULT, from) < 0)
            err = gw_out_fail(o, s->spec->channel ? s->spec->channel[c] : s->spec->name);
    }
    if (file >= 0)
        H5Sclose(file);
    if (memory >= 0)
        H5Sclose(memory);
    return err;
}

static int gwpy_write(gw_hdf5_out *o, gw_out_stream *s, const gw_view *v)
{
    gw_hdf5_lock();
    int err = write_rows(o, s, v);
    gw_hdf5_unlock();
    return err;
}

static int gwpy_settle(gw_hdf5_out *o, gw_out_stream *s)
{
    (void)o, (void)s;
    return GW_OK;
}

static void gwpy_close(gw_out_stream *s, bool touch)
{
    hid_t *dataset = s->samples;
    for (uint32_t c = 0; touch && dataset && c < s->spec->n_channels; c++)
        if (dataset[c] >= 0)
            H5Dclose(dataset[c]);
    free(dataset);
    s->samples = NULL;
}

const gw_layout_ops gw_gwpy_ops = {.name = "gwpy",
                                   .begin = gwpy_begin,
                                   .extend = gwpy_extend,
                                   .write = gwpy_write,
                                   .settle = gwpy_settle,
                                   .close = gwpy_close};
