/* SPDX-License-Identifier: GPL-3.0-or-later
 * What our own recordings add to the layouts of others: exact grids, holes, absent channels, and streams of
 * many channels in one dataset. Called by archive_layout.c under the HDF5 lock. sinks/hdf5_out.h has the
 * layout. */
#include "pipeline/hdf5_lock.h"
#include "sources/archive_layout.h"
#include "sources/hdf5_read.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PATH_BYTES = 2 * GW_NAME_BYTES, MAX_CHANNELS = 1 << 24, NEWEST = 2 };

/* ---- the grid ---- */

static int read_grid(hid_t group, gw_archive_channel *c)
{
    int64_t num = 0, den = 0, block = 0;
    bool found;
    GW_TRY(gw_hdf5_attr_int(group, "rate_num", &num, NULL));
    GW_TRY(gw_hdf5_attr_int(group, "rate_den", &den, NULL));
    GW_TRY(gw_hdf5_attr_int(group, "phase_ns", &c->phase_ns, NULL));
    GW_TRY(gw_hdf5_attr_int(group, "sample0", &c->sample0, NULL));
    GW_TRY(gw_hdf5_attr_int(group, "block_samples", &block, &found));
    c->rate = (gw_rate){(uint32_t)num, (uint32_t)den};
    c->block_samples = found && block > 0 && block <= 1 << 28 ? (uint32_t)block : 0;
    const double start_s = (double)c->sample0 / gw_rate_hz(c->rate) + (double)c->phase_ns * 1e-9;
    if (num <= 0 || num > UINT32_MAX || den <= 0 || den > UINT32_MAX || !(start_s >= 0 && start_s < 9e9) ||
        llabs(c->phase_ns) >= INT64_C(9000000000000000000) / 2)
        return gw_fail(GW_EFORMAT,
                       "rate %" PRId64 "/%" PRId64 ", phase_ns %" PRId64 ", sample0 %" PRId64 " are absurd",
                       num, den, c->phase_ns, c->sample0);
    return GW_OK;
}

/* The exact grid, where x0 and dx are rounded. They must still agree, or somebody has rewritten the
 * dataset and left our group behind. */
static int exact_grid(hid_t group, gw_archive_channel *c)
{
    const gw_rate rate = c->rate;
    const double here_s = (double)gw_sample_to_ns(c->sample0, c->rate, c->phase_ns) * 1e-9;
    GW_TRY(read_grid(group, c));
    const double there_s = (double)c->sample0 / gw_rate_hz(c->rate) + (double)c->phase_ns * 1e-9;
    if (fabs(gw_rate_hz(c->rate) / gw_rate_hz(rate) - 1) < 1e-9 &&
        fabs(here_s - there_s) < 1e-6 + 0.01 / gw_rate_hz(rate))
        return GW_OK;
    return gw_fail(
        GW_EFORMAT,
        "%s: its x0 and dx are not those that were recorded; delete the group /gwstream to use them",
        c->path);
}

/* ---- what both layouts say ---- */

static int read_dtype(hid_t group, gw_dtype *dtype, bool *found)
{
    char text[16];
    GW_TRY(gw_hdf5_attr_text(group, "dtype", text, sizeof text, found));
    static const gw_dtype all[] = {GW_F32, GW_F64, GW_I16, GW_I32};
    for (size_t i = 0; *found && i < sizeof all / sizeof *all; i++)
        if (!strcmp(text, gw_dtype_text(all[i]))) {
            *dtype = all[i];
            return GW_OK;
        }
    return *found ? gw_fail(GW_ENOTSUP, "samples of type %s", text) : GW_OK;
}

static int common(hid_t group, const char *stream, gw_archive_channel *c)
{
    char detector[8];
    bool found;
    GW_TRY(gw_hdf5_attr_text(group, "detector", detector, sizeof detector, &found));
    memcpy(c->detector, detector, sizeof detector);
    GW_TRY(gw_hdf5_attr_text(group, "unit", c->unit, sizeof c->unit, &found));
    GW_TRY(gw_hdf5_attr_text(group, "whitening", c->whitening, sizeof c->whitening, &found));
    GW_TRY(gw_hdf5_attr_text(group, "cleaning", c->cleaning, sizeof c->cleaning, &found));
    GW_TRY(read_dtype(group, &c->dtype, &c->exact));
    snprintf(c->stream, sizeof c->stream, "%s", stream);
    gw_archive_set_group(c);
    return GW_OK;
}

/* ---- one dataset a channel ---- */

static bool is_float32(hid_t dataset)
{
    hid_t type = H5Dget_type(dataset);
    bool is = type >= 0 && H5Tget_class(type) == H5T_FLOAT && H5Tget_size(type) == 4;
    if (type >= 0)
        H5Tclose(type);
    return is;
}

static int gwpy_channel(hid_t file, hid_t group, const char *stream, uint32_t n, gw_archive_channel *c)
{
    GW_TRY(exact_grid(group, c));
    hid_t dataset = gw_hdf5_open_dataset(file, c->path);
    if (dataset >= 0 && is_float32(dataset))
        c->dtype = GW_F32;
    if (dataset >= 0)
        H5Oclose(dataset);
    GW_TRY(common(group, stream, c));
    return gw_archive_recorded_quality(group, n, c);
}

static int gwpy_stream(hid_t file, hid_t group, const char *stream, gw_archive_list *list)
{
    int64_t count = 0;
    hid_t paths = gw_hdf5_open_dataset(group, "paths");
    if (paths < 0)
        return gw_fail(GW_EFORMAT, "dataset paths is missing");
    int n = 0, err = gw_hdf5_length(paths, &count);
    if (err == GW_OK && (count < 1 || count > MAX_CHANNELS))
        err = gw_fail(GW_EFORMAT, "paths: %" PRId64 " channels are absurd", count);
    char(*path)[PATH_BYTES] = err == GW_OK ? calloc((size_t)count, sizeof *path) : NULL;
    if (err == GW_OK)
        err =
            path ? gw_hdf5_texts(paths, path[0], sizeof *path, (int)count, &n) : gw_fail(GW_ENOMEM, "paths");
    H5Oclose(paths);
    for (int i = 0; i < n && err == GW_OK; i++) {
        int k = 0; /* a dataset may have been deleted since: then it is not in the list */
        while (k < list->n && strcmp(list->channel[k].path, path[i]) != 0)
            k++;
        if (k == list->n)
            continue;
        list->channel[k].index = (uint32_t)i;
        err = gwpy_channel(file, group, stream, (uint32_t)n, &list->channel[k]);
    }
    free(path);
    return err;
}

/* ---- one dataset a stream ---- */

static int wide_shape(hid_t dataset, gw_archive_channel *c)
{
    hsize_t dims[2] = {0}, chunk[2] = {1, 1};
    hid_t space = H5Dget_space(dataset), create = H5Dget_create_plist(dataset);
    const int rank = space < 0 ? 0 : H5Sget_simple_extent_ndims(space);
    if (rank == 2)
        H5Sget_simple_extent_dims(space, dims, NULL);
    const bool chunked =
        create >= 0 && H5Pget_layout(create) == H5D_CHUNKED && H5Pget_chunk(create, 2, chunk) == 2;
    if (space >= 0)
        H5Sclose(space);
    if (create >= 0)
        H5Pclose(create);
    if (rank != 2 || dims[0] < 1 || dims[0] > MAX_CHANNELS || dims[1] > INT64_MAX / 2)
        return gw_fail(GW_EFORMAT, "samples has %d dimensions, expected [channel][sample]", rank);
    c->n_channels = (uint32_t)dims[0];
    c->n_data = (int64_t)dims[1];
    c->chunk_samples = chunked && chunk[1] > 0 ? (int64_t)chunk[1] : c->block_samples ? c->block_samples : 1;
    return gw_hdf5_is_number(dataset) ? GW_OK : gw_fail(GW_EFORMAT, "samples does not hold numbers");
}

static int wide_names(hid_t file, const char *stream, gw_archive_channel *c)
{
    char path[PATH_BYTES];
    int count;
    snprintf(path, sizeof path, "%s/channels", stream);
    hid_t channels = gw_hdf5_open_dataset(file, path);
    c->names = calloc(c->n_channels, sizeof *c->names);
    int err = !c->names ? gw_fail(GW_ENOMEM, "%s", path)
              : channels < 0
                  ? gw_fail(GW_EFORMAT, "dataset %s is missing", path)
                  : gw_hdf5_texts(channels, c->names[0], sizeof *c->names, (int)c->n_channels, &count);
    if (err == GW_OK && count != (int)c->n_channels)
        err = gw_fail(GW_EFORMAT, "%s: %d names for %" PRIu32 " channels", path, count, c->n_channels);
    if (channels >= 0)
        H5Oclose(channels);
    return err;
}

static int wide_stream(hid_t file, hid_t group, const char *stream, gw_archive_list *list)
{
    char path[PATH_BYTES];
    gw_archive_channel *c;
    snprintf(path, sizeof path, "%s/samples", stream);
    hid_t dataset = gw_hdf5_open_dataset(file, path);
    if (dataset < 0)
        return gw_fail(GW_EFORMAT, "dataset %s is missing", path);
    int err = gw_archive_add(list, path, &c);
    if (err == GW_OK)
        err = read_grid(group, c);
    if (err == GW_OK)
        err = wide_shape(dataset, c);
    H5Oclose(dataset);
    GW_TRY(err);
    GW_TRY(wide_names(file, stream, c));
    snprintf(c->name, sizeof c->name, "%s", stream);
    GW_TRY(common(group, stream, c));
    if (!c->exact)
        return gw_fail(GW_EFORMAT, "attribute dtype is missing");
    return gw_archive_recorded_quality(group, c->n_channels, c);
}

/* ---- all of them ---- */

static int recorded_stream(hid_t file, hid_t group, const char *stream, gw_archive_list *list)
{
    char layout[16];
    bool found;
    GW_TRY(gw_hdf5_attr_text(group, "layout", layout, sizeof layout, &found));
    if (!found || !strcmp(layout, "gwpy"))
        return gwpy_stream(file, group, stream, list);
    if (!strcmp(layout, "wide"))
        return wide_stream(file, group, stream, list);
    return gw_fail(GW_ENOTSUP, "layout '%s'", layout);
}

/* Channels of which nothing was recorded (of a killed recorder) are none. */
static void forget_empty(gw_archive_list *list)
{
    int kept = 0;
    for (int i = 0; i < list->n; i++) {
        gw_archive_channel *c = &list->channel[i];
        if (c->n_samples == 0)
            gw_archive_channel_free(c);
        else
            list->channel[kept++] = *c;
    }
    list->n = kept;
}

int gw_archive_recorded(hid_t file, gw_archive_list *list)
{
    if (H5Lexists(file, "gwstream", H5P_DEFAULT) <= 0)
        return GW_OK;
    hid_t root = H5Gopen2(file, "gwstream", H5P_DEFAULT);
    H5G_info_t info;
    int64_t version = 0;
    int err = GW_OK;
    if (root < 0 || H5Gget_info(root, &info) < 0)
        err = gw_fail(GW_EFORMAT, "gwstream: %s", gw_hdf5_reason());
    else if ((err = gw_hdf5_attr_int(root, "version", &version, NULL)) == GW_OK &&
             (version < 1 || version > NEWEST))
        err = gw_fail(GW_ENOTSUP, "gwstream: recording of version %" PRId64 ", this program reads 1 to %d",
                      version, NEWEST);
    for (hsize_t i = 0; err == GW_OK && i < info.nlinks; i++) {
        char name[GW_NAME_BYTES];
        if (H5Lget_name_by_idx(root, ".", H5_INDEX_NAME, H5_ITER_INC, i, name, sizeof name, H5P_DEFAULT) < 0)
            name[0] = '\0';
        hid_t group = H5Gopen2(root, name, H5P_DEFAULT);
        err = group < 0 ? gw_fail(GW_EFORMAT, "%s", gw_hdf5_reason())
                        : recorded_stream(file, group, name, list);
        if (group >= 0)
            H5Gclose(group);
        if (err < 0)
            gw_fail_at(err, "gwstream/%s", name);
    }
    if (root >= 0)
        H5Gclose(root);
    forget_empty(list);
    return err;
}
