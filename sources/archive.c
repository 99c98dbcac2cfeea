/* SPDX-License-Identifier: GPL-3.0-or-later
 * Opens an archived HDF5 file, finds out its layout through archive_layout.c, and reads samples. Called by
 * replay.c. What the layouts look like is not known here. */
#include "pipeline/hdf5_lock.h"
#include "sources/archive_layout.h"
#include "sources/hdf5_read.h"

#include <errno.h>
#include <inttypes.h>
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
    return strcmp(((const gw_archive_channel *)x)->path, ((const gw_archive_channel *)y)->path);
}

static int describe(gw_archive *a)
{
    GW_TRY(open_file(a));
    int err = gw_archive_layout(a->file, a->path, &a->list);
    if (err < 0)
        return gw_fail_at(err, "%s", a->path);
    qsort(a->list.channel, (size_t)a->list.n, sizeof *a->list.channel, by_path);
    a->dataset = malloc((size_t)a->list.n * sizeof *a->dataset);
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
    if (gw_hdf5_length(a->dataset[i], &n) < 0 || n < c->n_samples)
        return gw_fail(GW_EFORMAT, "%s: %s: has changed while it was being replayed", a->path, c->path);
    return GW_OK;
}

static int read_samples(gw_archive *a, int i, int64_t first, size_t n, void *to)
{
    GW_TRY(open_dataset(a, i));
    const gw_archive_channel *c = &a->list.channel[i];
    const hsize_t start = (hsize_t)first, count = n;
    hid_t memory = H5Screate_simple(1, &count, NULL), file = H5Dget_space(a->dataset[i]);
    int err = GW_OK;
    if (memory < 0 || file < 0 || H5Sselect_hyperslab(file, H5S_SELECT_SET, &start, NULL, &count, NULL) < 0 ||
        H5Dread(a->dataset[i], c->dtype == GW_F32 ? H5T_NATIVE_FLOAT : H5T_NATIVE_DOUBLE, memory, file,
                H5P_DEFAULT, to) < 0) {
        const char *why = gw_hdf5_reason();
        double from = (double)gw_sample_to_ns(c->sample0 + first, c->rate, c->phase_ns) * 1e-9;
        err = gw_fail(strstr(why, "Input/output") ? GW_EIO : GW_EFORMAT,
                      "%s: %s: cannot read samples %" PRId64 " to %" PRId64 " (from GPS %.3f): %s", a->path,
                      c->path, first, first + (int64_t)n, from, why);
    }
    if (file >= 0)
        H5Sclose(file);
    if (memory >= 0)
        H5Sclose(memory);
    return err;
}

int gw_archive_read(gw_archive *a, int i, int64_t first, size_t n, void *to)
{
    if (i < 0 || i >= a->list.n || first < 0 || first > a->list.channel[i].n_samples ||
        n > (size_t)(a->list.channel[i].n_samples - first))
        return gw_fail(GW_EBUG, "%s: read of %zu samples from %" PRId64 " on", a->path, n, first);
    if (n == 0)
        return GW_OK;
    gw_hdf5_lock();
    int err = read_samples(a, i, first, n, to);
    gw_hdf5_unlock();
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
    free(a->path);
    free(a);
}
