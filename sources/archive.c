/* SPDX-License-Identifier: GPL-3.0-or-later
 * Opens an archived HDF5 file, finds out its layout through archive_layout.c, and reads samples. Called by
 * replay.c. What the layouts look like is not known here.
 *
 * Wide recordings are read chunk by chunk with H5Dread_chunk, from the file to where the samples are wanted:
 * the library's own reading copies twice. */
#include "pipeline/hdf5_lock.h"
#include "sources/archive_layout.h"
#include "sources/hdf5_read.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* A chunk is decoded whole, so it must fit the library's cache once; more than this is refused. */
enum { MAX_CHUNK_BYTES = 1 << 28 };

struct gw_archive {
    char *path;
    hid_t file;           /* < 0 while parked */
    hid_t *dataset;       /* [n], < 0 until read */
    gw_archive_list list; /* channels */
    char *bounce;         /* a chunk that has more rows than are wanted */
    size_t bounce_bytes;
};

/* What can be said of a file before HDF5 sees it. */
static int look_at_file(const char *path)
{
    struct stat s;
    if (stat(path, &s) < 0) {
        if (errno == ENOENT || errno == ENOTDIR)
            return gw_fail(GW_EMISSING, "%s: no such file", path);
        return gw_fail(errno == EACCES ? GW_EACCESS : GW_EIO, "%s: %s", path, strerror(errno));
    }
    if (S_ISDIR(s.st_mode))
        return gw_fail(GW_EFORMAT, "%s: is a directory; name the HDF5 files in it", path);
    if (!S_ISREG(s.st_mode))
        return gw_fail(GW_EFORMAT, "%s: is not a regular file, expected HDF5", path);
    if (s.st_size == 0)
        return gw_fail(GW_EFORMAT, "%s: is empty, expected HDF5; fetch it again", path);
    if (access(path, R_OK) < 0)
        return gw_fail(GW_EACCESS, "%s: %s", path, strerror(errno));
    return GW_OK;
}

static int open_file(gw_archive *a)
{
    if (a->file >= 0)
        return GW_OK;
    a->file = H5Fopen(a->path, H5F_ACC_RDONLY, H5P_DEFAULT);
    if (a->file >= 0)
        return GW_OK;
    const char *why = gw_hdf5_reason();
    if (strstr(why, "already open for")) { /* marked as being written, by somebody who may have been killed */
        a->file = H5Fopen(a->path, H5F_ACC_RDONLY | H5F_ACC_SWMR_READ, H5P_DEFAULT);
        if (a->file >= 0)
            return GW_OK;
        why = "it is open for writing";
    }
    GW_TRY(look_at_file(a->path)); /* clears nothing of `why`, which is the thread's own text */
    if (strstr(why, "signature"))
        return gw_fail(GW_EFORMAT, "%s: is not an HDF5 file", a->path);
    if (strstr(why, "truncated"))
        return gw_fail(GW_EFORMAT, "%s: is cut short (%s); fetch it again", a->path, why);
    if (strstr(why, "Resource temporarily unavailable") || strstr(why, "already open for"))
        return gw_fail(GW_EBUSY, "%s: is being written (%s)", a->path, why);
    return gw_fail(GW_EFORMAT, "%s: is not readable HDF5 (%s)", a->path, why);
}

static void park(gw_archive *a)
{
    for (int i = 0; a->dataset && i < a->list.n; i++) {
        if (a->dataset[i] >= 0)
            H5Oclose(a->dataset[i]);
        a->dataset[i] = -1;
    }
    if (a->file >= 0)
        H5Fclose(a->file);
    a->file = -1;
}

static int by_path(const void *x, const void *y)
{
    const gw_archive_channel *a = x, *b = y;
    const int streams = strcmp(a->stream, b->stream);
    if (streams || !*a->stream || a->index == b->index)
        return streams ? streams : strcmp(a->path, b->path);
    return a->index < b->index ? -1 : 1;
}

static int describe(gw_archive *a)
{
    GW_TRY(open_file(a));
    int err = gw_archive_layout(a->file, a->path, &a->list);
    if (err < 0)
        return gw_fail_at(err, "%s", a->path);
    if (a->list.n)
        qsort(a->list.channel, (size_t)a->list.n, sizeof *a->list.channel, by_path);
    a->dataset = malloc(((size_t)a->list.n + 1) * sizeof *a->dataset);
    if (!a->dataset)
        return gw_fail(GW_ENOMEM, "%s: %d channels", a->path, a->list.n);
    for (int i = 0; i < a->list.n; i++)
        a->dataset[i] = -1;
    return GW_OK;
}

int gw_archive_open(gw_archive **out, const char *path)
{
    *out = NULL;
    GW_TRY(look_at_file(path));
    gw_archive *a = calloc(1, sizeof *a);
    if (!a || !(a->path = strdup(path))) {
        free(a);
        return gw_fail(GW_ENOMEM, "%s", path);
    }
    a->file = -1;
    gw_hdf5_lock();
    int err = describe(a);
    park(a);
    gw_hdf5_unlock();
    if (err < 0)
        gw_archive_close(&a);
    *out = a;
    return err;
}

const char *gw_archive_path(const gw_archive *a)
{
    return a->path;
}

int gw_archive_count(const gw_archive *a)
{
    return a->list.n;
}

const gw_archive_channel *gw_archive_channel_at(const gw_archive *a, int i)
{
    return &a->list.channel[i];
}

static hid_t memory_type(gw_dtype t)
{
    return t == GW_F32   ? H5T_NATIVE_FLOAT
           : t == GW_I16 ? H5T_NATIVE_INT16
           : t == GW_I32 ? H5T_NATIVE_INT32
                         : H5T_NATIVE_DOUBLE;
}

/* Channels a chunk, where chunks hold exactly what memory wants; else 0. */
static uint32_t chunk_channels(hid_t dataset, gw_dtype dtype)
{
    hsize_t chunk[2] = {0};
    hid_t create = H5Dget_create_plist(dataset), type = H5Dget_type(dataset);
    if (create < 0 || type < 0 || H5Pget_layout(create) != H5D_CHUNKED ||
        H5Pget_chunk(create, 2, chunk) != 2 || H5Pget_nfilters(create) != 0 ||
        H5Tequal(type, memory_type(dtype)) <= 0 || chunk[0] > UINT32_MAX)
        chunk[0] = 0;
    if (create >= 0)
        H5Pclose(create);
    if (type >= 0)
        H5Tclose(type);
    return (uint32_t)chunk[0];
}

/* Samples that a dataset holds. */
static int dataset_length(hid_t dataset, const gw_archive_channel *c, int64_t *n)
{
    hsize_t dims[2] = {0};
    if (!c->names)
        return gw_hdf5_length(dataset, n);
    hid_t space = H5Dget_space(dataset);
    const bool two = space >= 0 && H5Sget_simple_extent_ndims(space) == 2 &&
                     H5Sget_simple_extent_dims(space, dims, NULL) == 2 && dims[0] == c->n_channels;
    if (space >= 0)
        H5Sclose(space);
    *n = (int64_t)dims[1];
    return two ? GW_OK : GW_EFORMAT;
}

/* The dataset of channel i, as it was described: a file that has changed since is refused. */
static int open_dataset(gw_archive *a, int i)
{
    if (a->dataset[i] >= 0)
        return GW_OK;
    const gw_archive_channel *c = &a->list.channel[i];
    GW_TRY(open_file(a));
    if (c->chunk_samples > MAX_CHUNK_BYTES / 8)
        return gw_fail(GW_ENOTSUP,
                       "%s: %s: chunks of %" PRId64 " samples; rewrite it with chunks of about a second",
                       a->path, c->path, c->chunk_samples);
    hid_t access = H5Pcreate(H5P_DATASET_ACCESS);
    size_t cache = (size_t)c->chunk_samples * 8;
    if (access >= 0)
        H5Pset_chunk_cache(access, 7, cache > 1 << 20 ? cache : 1 << 20, 1.0);
    a->dataset[i] = H5Dopen2(a->file, c->path, access >= 0 ? access : H5P_DEFAULT);
    const char *why = a->dataset[i] < 0 ? gw_hdf5_reason() : "";
    if (access >= 0)
        H5Pclose(access);
    if (a->dataset[i] < 0)
        return gw_fail(GW_EFORMAT, "%s: %s: %s", a->path, c->path, why);
    int64_t n = 0;
    if (dataset_length(a->dataset[i], c, &n) < 0 || n < c->n_data)
        return gw_fail(GW_EFORMAT, "%s: %s: has changed while it was being replayed", a->path, c->path);
    return GW_OK;
}

/* Under the lock, right after the failure. `first` as in the dataset. */
static int fail_read(const gw_archive *a, int i, int64_t first, int64_t n)
{
    const gw_archive_channel *c = &a->list.channel[i];
    const char *why = gw_hdf5_reason();
    double from = (double)gw_sample_to_ns(c->sample0 + first - c->skip, c->rate, c->phase_ns) * 1e-9;
    return gw_fail(strstr(why, "Input/output") ? GW_EIO : GW_EFORMAT,
                   "%s: %s: cannot read samples %" PRId64 " to %" PRId64 " (from GPS %.3f): %s", a->path,
                   c->path, first, first + n, from, why);
}

static int read_samples(gw_archive *a, int i, int64_t first, size_t n, void *to)
{
    GW_TRY(open_dataset(a, i));
    const gw_archive_channel *c = &a->list.channel[i];
    const hsize_t start = (hsize_t)first, count = n;
    hid_t memory = H5Screate_simple(1, &count, NULL), file = H5Dget_space(a->dataset[i]);
    int err = GW_OK;
    if (memory < 0 || file < 0 || H5Sselect_hyperslab(file, H5S_SELECT_SET, &start, NULL, &count, NULL) < 0 ||
        H5Dread(a->dataset[i], memory_type(c->dtype), memory, file, H5P_DEFAULT, to) < 0)
        err = fail_read(a, i, first, (int64_t)n);
    if (file >= 0)
        H5Sclose(file);
    if (memory >= 0)
        H5Sclose(memory);
    return err;
}

int gw_archive_read(gw_archive *a, int i, int64_t first, size_t n, void *to)
{
    const gw_archive_channel *c = i < 0 || i >= a->list.n ? NULL : &a->list.channel[i];
    if (!c || c->names || first < -c->skip || first > c->n_data - c->skip ||
        n > (size_t)(c->n_data - c->skip - first))
        return gw_fail(GW_EBUG, "%s: read of %zu samples from %" PRId64 " on", a->path, n, first);
    if (n == 0)
        return GW_OK;
    gw_hdf5_lock();
    int err = read_samples(a, i, first + c->skip, n, to);
    gw_hdf5_unlock();
    return err;
}

/* ---- wide ---- */

/* What a chunk holds that was never written. */
static void fill_missing(gw_dtype dtype, void *to, size_t n)
{
    if (dtype == GW_F32)
        for (size_t k = 0; k < n; k++)
            ((float *)to)[k] = NAN;
    else if (dtype == GW_F64)
        for (size_t k = 0; k < n; k++)
            ((double *)to)[k] = NAN;
    else
        memset(to, 0, n * gw_dtype_bytes(dtype));
}

static int need_bounce(gw_archive *a, size_t bytes)
{
    if (bytes <= a->bounce_bytes)
        return GW_OK;
    char *more = realloc(a->bounce, bytes);
    if (!more)
        return gw_fail(GW_ENOMEM, "%s: %zu bytes", a->path, bytes);
    a->bounce = more;
    a->bounce_bytes = bytes;
    return GW_OK;
}

/* Rows [row, row + rows) of the column from dataset sample `first` on. */
static int read_chunk(gw_archive *a, int i, uint32_t row, uint32_t rows, uint32_t group, int64_t first,
                      char *to)
{
    const gw_archive_channel *c = &a->list.channel[i];
    const size_t row_bytes = (size_t)c->chunk_samples * gw_dtype_bytes(c->dtype);
    const hsize_t at[] = {row, (hsize_t)first};
    hsize_t stored = 0;
    uint32_t filters = 0;
    const bool there = H5Dget_chunk_storage_size(a->dataset[i], at, &stored) >= 0;
    if (!there && !strstr(gw_hdf5_reason(), "not allocated"))
        return fail_read(a, i, first, c->chunk_samples);
    if (!there || stored == 0) {
        fill_missing(c->dtype, to, (size_t)rows * (size_t)c->chunk_samples);
        return GW_OK;
    }
    if (stored != group * row_bytes)
        return gw_fail(GW_EFORMAT, "%s: %s: a chunk of %llu bytes, expected %zu", a->path, c->path,
                       (unsigned long long)stored, group * row_bytes);
    if (rows < group)
        GW_TRY(need_bounce(a, group * row_bytes));
    if (H5Dread_chunk(a->dataset[i], H5P_DEFAULT, at, &filters, rows < group ? a->bounce : to) < 0)
        return fail_read(a, i, first, c->chunk_samples);
    if (rows < group)
        memcpy(to, a->bounce, rows * row_bytes);
    return GW_OK;
}

/* Whatever lies between file and memory: filters, another type or byte order, other chunks. */
static int read_plainly(gw_archive *a, int i, int64_t first, int64_t end, void *to)
{
    const gw_archive_channel *c = &a->list.channel[i];
    const hsize_t room[] = {c->n_channels, (hsize_t)c->chunk_samples}, none[] = {0, 0};
    const hsize_t from[] = {0, (hsize_t)first}, count[] = {c->n_channels, (hsize_t)(end - first)};
    fill_missing(c->dtype, to, (size_t)c->n_channels * (size_t)c->chunk_samples);
    hid_t memory = H5Screate_simple(2, room, NULL), file = H5Dget_space(a->dataset[i]);
    int err = GW_OK;
    if (memory < 0 || file < 0 || H5Sselect_hyperslab(file, H5S_SELECT_SET, from, NULL, count, NULL) < 0 ||
        H5Sselect_hyperslab(memory, H5S_SELECT_SET, none, NULL, count, NULL) < 0 ||
        H5Dread(a->dataset[i], memory_type(c->dtype), memory, file, H5P_DEFAULT, to) < 0)
        err = fail_read(a, i, first, end - first);
    if (file >= 0)
        H5Sclose(file);
    if (memory >= 0)
        H5Sclose(memory);
    return err;
}

int gw_archive_read_column(gw_archive *a, int i, int64_t sample, void *to, int64_t *start, int64_t *end)
{
    const gw_archive_channel *c = i < 0 || i >= a->list.n ? NULL : &a->list.channel[i];
    if (!c || !c->names || sample < -c->skip || sample >= c->n_data - c->skip)
        return gw_fail(GW_EBUG, "%s: read of a column at %" PRId64, a->path, sample);
    const int64_t n = c->chunk_samples, first = (sample + c->skip) / n * n;
    const int64_t last = first + n < c->n_data ? first + n : c->n_data;
    const size_t row_bytes = (size_t)n * gw_dtype_bytes(c->dtype);
    gw_hdf5_lock();
    int err = open_dataset(a, i);
    const uint32_t group = err == GW_OK ? chunk_channels(a->dataset[i], c->dtype) : 0;
    if (err == GW_OK && group == 0)
        err = read_plainly(a, i, first, last, to);
    gw_hdf5_unlock();
    for (uint32_t row = 0; err == GW_OK && group && row < c->n_channels; row += group) {
        gw_hdf5_lock(); /* for one chunk at a time: others read and write files too */
        err = read_chunk(a, i, row, c->n_channels - row < group ? c->n_channels - row : group, group, first,
                         (char *)to + row * row_bytes);
        gw_hdf5_unlock();
    }
    *start = first - c->skip;
    *end = last - c->skip;
    return err;
}

void gw_archive_park(gw_archive *a)
{
    gw_hdf5_lock();
    park(a);
    gw_hdf5_unlock();
}

void gw_archive_close(gw_archive **out)
{
    gw_archive *a = *out;
    *out = NULL;
    if (!a)
        return;
    gw_archive_park(a);
    gw_archive_list_free(&a->list);
    free(a->dataset);
    free(a->bounce);
    free(a->path);
    free(a);
}
