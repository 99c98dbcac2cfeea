/* SPDX-License-Identifier: GPL-3.0-or-later
 * Writes streams to one HDF5 file in the GWpy layout. Called by record.c. Knows no YAML and no clock.
 *
 * A killed recording must open in any reader, without repair. So the file keeps the library's oldest
 * format, which has no "being written" mark (a killed single-writer-multiple-reader file opens only after
 * h5clear, or with a special flag), and the metadata cache is large enough that structure goes to disk in
 * a flush and not between two. */
#include "sinks/hdf5_out.h"
#include "pipeline/hdf5_lock.h"

#include <errno.h>
#include <hdf5.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#ifndef GW_VERSION
#define GW_VERSION "0.1.0"
#endif

enum {
    PATH_BYTES = 2 * GW_NAME_BYTES,
    LAYOUT_VERSION = 1,
    MIN_CHUNK = 1024,
    MAX_CHUNK = 65536,
    ROWS_CHUNK = 256
};
enum { METADATA_BYTES = 16 << 20 };

/* A row of the table dq. */
typedef struct row {
    int64_t sample0, n_samples;
    uint64_t dq;
    uint32_t flags, gap_reason;
} row;

typedef struct stream {
    const gw_spec *spec;
    bool in_group;          /* its datasets stand in a group named after it */
    hid_t *dataset;         /* [n_channels]; NULL until the first block or hole */
    hid_t group, dq, total; /* /gwstream/<stream>, its table, its attribute gap_samples */
    hid_t memory;           /* element type of a view */
    int64_t sample0, end;   /* what came: [sample0, end) */
    int64_t extent;         /* samples the datasets hold */
    int64_t gap_samples;
    row row; /* the last one: not on disk, or shorter there */
    int64_t n_rows;
} stream;

struct gw_hdf5_out {
    char *path;
    hid_t file, root; /* < 0 once finished */
    hid_t row_type;
    stream *stream;
    int n_streams;
    bool broken; /* a write failed */
};

static int fail_io(gw_hdf5_out *o, const char *what)
{
    const char *why = gw_hdf5_reason();
    o->broken = true;
    return gw_fail(GW_EIO, "%s: cannot write %s: %s", o->path, what, why);
}

/* ---- the file ---- */

int gw_hdf5_out_check(const char *path, bool overwrite)
{
    struct stat s;
    if (stat(path, &s) == 0) {
        if (S_ISDIR(s.st_mode))
            return gw_fail(GW_EACCESS, "%s: is a directory; name a file to record to", path);
        if (!overwrite)
            return gw_fail(GW_EBUSY, "%s: exists; choose another path or set overwrite: true", path);
        if (!S_ISREG(s.st_mode))
            return gw_fail(GW_EACCESS, "%s: is not a regular file", path);
        return access(path, W_OK) == 0 ? GW_OK : gw_fail(GW_EACCESS, "%s: %s", path, strerror(errno));
    }
    if (errno != ENOENT)
        return gw_fail(GW_EACCESS, "%s: %s", path, strerror(errno));
    const char *slash = strrchr(path, '/');
    char *folder = slash ? strndup(path, (size_t)(slash - path) + 1) : strdup(".");
    if (!folder)
        return gw_fail(GW_ENOMEM, "%s", path);
    int bad = stat(folder, &s) < 0 || access(folder, W_OK | X_OK) < 0 ? errno : 0;
    free(folder);
    if (bad == ENOENT)
        return gw_fail(GW_EMISSING, "%s: its folder does not exist", path);
    return bad ? gw_fail(GW_EACCESS, "%s: its folder is not writable: %s", path, strerror(bad)) : GW_OK;
}

static hid_t create_file(const char *path, bool overwrite)
{
    hid_t access_list = H5Pcreate(H5P_FILE_ACCESS);
    H5AC_cache_config_t cache = {.version = H5AC__CURR_CACHE_CONFIG_VERSION};
    if (access_list >= 0 && H5Pget_mdc_config(access_list, &cache) >= 0) {
        cache.set_initial_size = true;
        cache.initial_size = cache.min_size = METADATA_BYTES;
        H5Pset_mdc_config(access_list, &cache);
    }
    hid_t file = H5Fcreate(path, overwrite ? H5F_ACC_TRUNC : H5F_ACC_EXCL, H5P_DEFAULT,
                           access_list >= 0 ? access_list : H5P_DEFAULT);
    if (file >= 0 && access_list >= 0)
        H5Pclose(access_list);
    return file;
}

static hid_t make_row_type(void)
{
    hid_t t = H5Tcreate(H5T_COMPOUND, sizeof(row));
    if (t < 0)
        return t;
    H5Tinsert(t, "sample0", offsetof(row, sample0), H5T_NATIVE_INT64);
    H5Tinsert(t, "n_samples", offsetof(row, n_samples), H5T_NATIVE_INT64);
    H5Tinsert(t, "dq", offsetof(row, dq), H5T_NATIVE_UINT64);
    H5Tinsert(t, "flags", offsetof(row, flags), H5T_NATIVE_UINT32);
    H5Tinsert(t, "gap_reason", offsetof(row, gap_reason), H5T_NATIVE_UINT32);
    return t;
}

/* ---- attributes and strings ---- */

/* Writes a scalar attribute; keeps it open in *keep if that is given. */
static int put_attr(hid_t object, const char *name, hid_t type, const void *value, hid_t *keep)
{
    hid_t space = H5Screate(H5S_SCALAR);
    hid_t attr = space < 0 ? -1 : H5Acreate2(object, name, type, space, H5P_DEFAULT, H5P_DEFAULT);
    int err = attr < 0 || H5Awrite(attr, type, value) < 0 ? -1 : 0;
    if (keep)
        *keep = attr;
    else if (attr >= 0)
        H5Aclose(attr);
    if (space >= 0)
        H5Sclose(space);
    return err;
}

static int put_number(hid_t object, const char *name, int64_t value)
{
    return put_attr(object, name, H5T_NATIVE_INT64, &value, NULL);
}

static int put_real(hid_t object, const char *name, double value)
{
    return put_attr(object, name, H5T_NATIVE_DOUBLE, &value, NULL);
}

static int put_text(hid_t object, const char *name, const char *text)
{
    hid_t type = H5Tcopy(H5T_C_S1);
    if (type < 0)
        return -1;
    int err = H5Tset_size(type, H5T_VARIABLE) < 0 || H5Tset_cset(type, H5T_CSET_UTF8) < 0
                  ? -1
                  : put_attr(object, name, type, &text, NULL);
    H5Tclose(type);
    return err;
}

static void dataset_path(const stream *s, uint32_t c, char path[PATH_BYTES])
{
    const char *name = s->spec->channel ? s->spec->channel[c] : "";
    char numbered[GW_NAME_BYTES];
    if (!*name) {
        snprintf(numbered, sizeof numbered, "%.40s:%" PRIu32, s->spec->name, c);
        name = numbered;
    }
    snprintf(path, PATH_BYTES, "%s%s%s", s->in_group ? s->spec->name : "", s->in_group ? "/" : "", name);
}

static int put_paths(const stream *s)
{
    const hsize_t n = s->spec->n_channels;
    char(*path)[PATH_BYTES] = calloc((size_t)n, sizeof *path);
    hid_t type = H5Tcopy(H5T_C_S1), space = H5Screate_simple(1, &n, NULL), dataset = -1;
    int err = -1;
    for (uint32_t c = 0; path && c < n; c++)
        dataset_path(s, c, path[c]);
    if (path && type >= 0 && space >= 0 && H5Tset_size(type, PATH_BYTES) >= 0 &&
        (dataset = H5Dcreate2(s->group, "paths", type, space, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT)) >= 0)
        err = H5Dwrite(dataset, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, path) < 0 ? -1 : 0;
    if (dataset >= 0)
        H5Dclose(dataset);
    if (space >= 0)
        H5Sclose(space);
    if (type >= 0)
        H5Tclose(type);
    free(path);
    return err;
}

/* ---- a stream's objects ---- */

static hid_t float_type(const gw_spec *s)
{
    return s->dtype == GW_F64 || s->dtype == GW_I32 ? H5T_NATIVE_DOUBLE : H5T_NATIVE_FLOAT;
}

static hid_t memory_type(const gw_spec *s)
{
    switch (s->dtype) {
    case GW_F32:
        return H5T_NATIVE_FLOAT;
    case GW_F64:
        return H5T_NATIVE_DOUBLE;
    case GW_I16:
        return H5T_NATIVE_INT16;
    case GW_I32:
        return H5T_NATIVE_INT32;
    }
    return -1;
}

/* An extendible one-dimensional dataset whose unwritten chunks take no space. */
static int create_growing(gw_hdf5_out *o, hid_t where, const char *path, hid_t type, hsize_t chunk,
                          const double *fill, hid_t *dataset)
{
    const hsize_t none = 0, unlimited = H5S_UNLIMITED;
    hid_t space = H5Screate_simple(1, &none, &unlimited), create = H5Pcreate(H5P_DATASET_CREATE);
    hid_t access_list = H5Pcreate(H5P_DATASET_ACCESS), link = H5Pcreate(H5P_LINK_CREATE);
    *dataset = -1;
    if (space >= 0 && create >= 0 && access_list >= 0 && link >= 0 && H5Pset_chunk(create, 1, &chunk) >= 0 &&
        H5Pset_alloc_time(create, H5D_ALLOC_TIME_INCR) >= 0 && H5Pset_obj_track_times(create, false) >= 0 &&
        (!fill || H5Pset_fill_value(create, H5T_NATIVE_DOUBLE, fill) >= 0) &&
        H5Pset_chunk_cache(access_list, 3, 2 * chunk * H5Tget_size(type), 1.0) >= 0 &&
        H5Pset_create_intermediate_group(link, 1) >= 0)
        *dataset = H5Dcreate2(where, path, type, space, link, create, access_list);
    int err = *dataset < 0 ? fail_io(o, path) : GW_OK;
    const hid_t list[] = {create, access_list, link};
    for (size_t i = 0; i < sizeof list / sizeof *list; i++)
        if (list[i] >= 0)
            H5Pclose(list[i]);
    if (space >= 0)
        H5Sclose(space);
    return err;
}

/* Whole seconds and the rest apart: nanoseconds since 1980 do not fit a double, seconds do to 1e-7. */
static double seconds(int64_t ns)
{
    return (double)(ns / GW_SECOND_NS) + (double)(ns % GW_SECOND_NS) * 1e-9;
}

static int create_dataset(gw_hdf5_out *o, stream *s, uint32_t c)
{
    const gw_spec *spec = s->spec;
    const double hz = gw_rate_hz(spec->rate), nan_value = NAN;
    const double second = hz < MIN_CHUNK ? MIN_CHUNK : hz > MAX_CHUNK ? MAX_CHUNK : hz;
    char path[PATH_BYTES];
    dataset_path(s, c, path);
    GW_TRY(create_growing(o, o->file, path, float_type(spec), (hsize_t)second, &nan_value, &s->dataset[c]));
    const hid_t d = s->dataset[c];
    const char *name = strrchr(path, '/') ? strrchr(path, '/') + 1 : path;
    if (put_real(d, "x0", seconds(gw_sample_to_ns(s->sample0, spec->rate, spec->phase_ns))) < 0 ||
        put_real(d, "dx", (double)spec->rate.den / spec->rate.num) < 0 || put_text(d, "xunit", "s") < 0 ||
        put_text(d, "unit", spec->unit) < 0 || put_text(d, "name", name) < 0 ||
        put_text(d, "channel", name) < 0)
        return fail_io(o, path);
    return GW_OK;
}

static int create_stream(gw_hdf5_out *o, stream *s, int64_t sample0)
{
    const gw_spec *spec = s->spec;
    const int64_t zero = 0;
    s->sample0 = s->end = sample0;
    s->dataset = malloc(spec->n_channels * sizeof *s->dataset);
    if (!s->dataset)
        return gw_fail(GW_ENOMEM, "%s: %" PRIu32 " channels", o->path, spec->n_channels);
    for (uint32_t c = 0; c < spec->n_channels; c++)
        s->dataset[c] = -1;
    for (uint32_t c = 0; c < spec->n_channels; c++)
        GW_TRY(create_dataset(o, s, c));
    s->group = H5Gcreate2(o->root, spec->name, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
    if (s->group < 0 || put_text(s->group, "detector", spec->detector) < 0 ||
        put_text(s->group, "unit", spec->unit) < 0 || put_text(s->group, "whitening", spec->whitening) < 0 ||
        put_number(s->group, "rate_num", spec->rate.num) < 0 ||
        put_number(s->group, "rate_den", spec->rate.den) < 0 ||
        put_number(s->group, "phase_ns", spec->phase_ns) < 0 ||
        put_number(s->group, "sample0", sample0) < 0 ||
        put_attr(s->group, "gap_samples", H5T_NATIVE_INT64, &zero, &s->total) < 0 || put_paths(s) < 0)
        return fail_io(o, spec->name);
    return create_growing(o, s->group, "dq", o->row_type, ROWS_CHUNK, NULL, &s->dq);
}

/* ---- data quality ---- */

static int write_row(gw_hdf5_out *o, stream *s)
{
    if (s->n_rows == 0)
        return GW_OK;
    const hsize_t rows = (hsize_t)s->n_rows, start = rows - 1, one = 1;
    if (H5Dset_extent(s->dq, &rows) < 0)
        return fail_io(o, "dq");
    hid_t memory = H5Screate_simple(1, &one, NULL), file = H5Dget_space(s->dq);
    int err = memory < 0 || file < 0 ||
                      H5Sselect_hyperslab(file, H5S_SELECT_SET, &start, NULL, &one, NULL) < 0 ||
                      H5Dwrite(s->dq, o->row_type, memory, file, H5P_DEFAULT, &s->row) < 0
                  ? fail_io(o, "dq")
                  : GW_OK;
    if (file >= 0)
        H5Sclose(file);
    if (memory >= 0)
        H5Sclose(memory);
    return err;
}

/* Notes what came: the last row grows while nothing changes. */
static int note(gw_hdf5_out *o, stream *s, row r)
{
    row *last = &s->row;
    s->end = r.sample0 + r.n_samples;
    if (s->n_rows && last->dq == r.dq && last->flags == r.flags && last->gap_reason == r.gap_reason &&
        last->sample0 + last->n_samples == r.sample0) {
        last->n_samples += r.n_samples;
        return GW_OK;
    }
    int err = write_row(o, s);
    *last = r;
    s->n_rows++;
    return err;
}

/* ---- samples ---- */

static int extend(gw_hdf5_out *o, stream *s, int64_t end)
{
    const hsize_t extent = (hsize_t)(end - s->sample0);
    if (end - s->sample0 <= s->extent)
        return GW_OK;
    for (uint32_t c = 0; c < s->spec->n_channels; c++)
        if (H5Dset_extent(s->dataset[c], &extent) < 0)
            return fail_io(o, s->spec->name);
    s->extent = end - s->sample0;
    return GW_OK;
}

static int begin(gw_hdf5_out *o, int number, int64_t sample0, stream **out)
{
    stream *s = *out = &o->stream[number];
    if (o->file < 0)
        return gw_fail(GW_EBUG, "%s: written to after its end", o->path);
    if (!s->dataset)
        GW_TRY(create_stream(o, s, sample0));
    if (sample0 < s->end)
        return gw_fail(GW_EBUG, "%s: %s sends sample %" PRId64 " after %" PRId64, o->path, s->spec->name,
                       sample0, s->end);
    return GW_OK;
}

static int write_samples(gw_hdf5_out *o, int number, const gw_view *v)
{
    stream *s;
    GW_TRY(begin(o, number, v->sample0, &s));
    if (v->n_channels != s->spec->n_channels || v->n_samples == 0)
        return gw_fail(GW_EBUG, "%s: %s sends %" PRIu32 " x %" PRIu32 " samples", o->path, s->spec->name,
                       v->n_channels, v->n_samples);
    GW_TRY(extend(o, s, v->sample0 + v->n_samples));
    const hsize_t n = v->n_samples, start = (hsize_t)(v->sample0 - s->sample0), extent = (hsize_t)s->extent;
    hid_t memory = H5Screate_simple(1, &n, NULL), file = H5Screate_simple(1, &extent, NULL);
    int err = memory < 0 || file < 0 || H5Sselect_hyperslab(file, H5S_SELECT_SET, &start, NULL, &n, NULL) < 0
                  ? fail_io(o, s->spec->name)
                  : GW_OK;
    for (uint32_t c = 0; c < v->n_channels && err == GW_OK; c++) {
        const char *from = (const char *)v->data + (size_t)c * v->stride * gw_dtype_bytes(s->spec->dtype);
        if (H5Dwrite(s->dataset[c], s->memory, memory, file, H5P_DEFAULT, from) < 0)
            err = fail_io(o, s->spec->channel ? s->spec->channel[c] : s->spec->name);
    }
    if (file >= 0)
        H5Sclose(file);
    if (memory >= 0)
        H5Sclose(memory);
    GW_TRY(err);
    return note(o, s, (row){v->sample0, v->n_samples, v->dq, v->flags, GW_GAP_NONE});
}

int gw_hdf5_out_write(gw_hdf5_out *o, int number, const gw_view *v)
{
    gw_hdf5_lock();
    int err = write_samples(o, number, v);
    gw_hdf5_unlock();
    return err;
}

int gw_hdf5_out_gap(gw_hdf5_out *o, int number, const gw_hole *h)
{
    stream *s;
    gw_hdf5_lock();
    int err = begin(o, number, h->sample0, &s);
    if (err == GW_OK) {
        s->gap_samples += (int64_t)h->samples;
        err = note(o, s, (row){h->sample0, (int64_t)h->samples, h->dq, GW_FLAG_GAP, h->reason});
    }
    gw_hdf5_unlock();
    return err;
}

/* ---- ends ---- */

static int flush(gw_hdf5_out *o)
{
    for (int i = 0; i < o->n_streams; i++) {
        stream *s = &o->stream[i];
        if (!s->dataset)
            continue;
        GW_TRY(extend(o, s, s->end)); /* a hole at the end is part of the recording */
        GW_TRY(write_row(o, s));
        if (H5Awrite(s->total, H5T_NATIVE_INT64, &s->gap_samples) < 0)
            return fail_io(o, s->spec->name);
    }
    return H5Fflush(o->file, H5F_SCOPE_LOCAL) < 0 ? fail_io(o, "the file") : GW_OK;
}

int gw_hdf5_out_flush(gw_hdf5_out *o)
{
    gw_hdf5_lock();
    int err = o->file < 0 ? GW_OK : flush(o);
    gw_hdf5_unlock();
    return err;
}

/* After a failed write the library cannot close the file: it tries to write once more, fails, and leaves a
 * handle to freed memory. So its handles are left alone then; the disk has what was last flushed. */
static void close_handles(const stream *s)
{
    for (uint32_t c = 0; s->dataset && c < s->spec->n_channels; c++)
        if (s->dataset[c] >= 0)
            H5Dclose(s->dataset[c]);
    if (s->dq >= 0)
        H5Dclose(s->dq);
    if (s->total >= 0)
        H5Aclose(s->total);
    if (s->group >= 0)
        H5Gclose(s->group);
}

static int close_all(gw_hdf5_out *o)
{
    int err = GW_OK;
    for (int i = 0; i < o->n_streams; i++) {
        if (!o->broken)
            close_handles(&o->stream[i]);
        free(o->stream[i].dataset);
        o->stream[i].dataset = NULL;
    }
    if (!o->broken) {
        if (o->row_type >= 0)
            H5Tclose(o->row_type);
        if (o->root >= 0)
            H5Gclose(o->root);
        if (o->file >= 0 && H5Fclose(o->file) < 0)
            err = fail_io(o, "the file");
    }
    o->file = o->root = o->row_type = -1;
    return err;
}

int gw_hdf5_out_finish(gw_hdf5_out *o)
{
    gw_hdf5_lock();
    int err = GW_OK;
    if (o->file >= 0) {
        err = o->broken ? GW_OK : flush(o);
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
    for (int i = 0; i < o->n_streams; i++)
        for (int k = 0; k < o->n_streams; k++)
            for (uint32_t a = 0; k != i && a < o->stream[i].spec->n_channels; a++)
                for (uint32_t b = 0; b < o->stream[k].spec->n_channels && !o->stream[i].in_group; b++) {
                    const gw_spec *x = o->stream[i].spec, *y = o->stream[k].spec;
                    o->stream[i].in_group = x->channel && y->channel && !strcmp(x->channel[a], y->channel[b]);
                }
}

static int create_root(gw_hdf5_out *o, uint64_t run_id)
{
    o->root = H5Gcreate2(o->file, "gwstream", H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
    o->row_type = make_row_type();
    if (o->root < 0 || o->row_type < 0 || put_number(o->root, "version", LAYOUT_VERSION) < 0 ||
        put_text(o->root, "software", "gwstream " GW_VERSION) < 0 ||
        put_attr(o->root, "run_id", H5T_NATIVE_UINT64, &run_id, NULL) < 0)
        return fail_io(o, "the file");
    return H5Fflush(o->file, H5F_SCOPE_LOCAL) < 0 ? fail_io(o, "the file") : GW_OK; /* opens from now on */
}

int gw_hdf5_out_new(gw_hdf5_out **out, const char *path, bool overwrite, const gw_spec *spec, int n_streams,
                    uint64_t run_id)
{
    *out = NULL;
    GW_TRY(gw_hdf5_out_check(path, overwrite));
    gw_hdf5_out *o = calloc(1, sizeof *o);
    if (!o)
        return gw_fail(GW_ENOMEM, "%s", path);
    o->path = strdup(path);
    o->stream = calloc((size_t)n_streams, sizeof *o->stream);
    o->file = o->root = o->row_type = -1;
    if (!o->path || !o->stream) {
        gw_hdf5_out_destroy(&o);
        return gw_fail(GW_ENOMEM, "%s", path);
    }
    gw_hdf5_lock();
    o->n_streams = n_streams;
    for (int i = 0; i < n_streams; i++)
        o->stream[i] =
            (stream){.spec = &spec[i], .group = -1, .dq = -1, .total = -1, .memory = memory_type(&spec[i])};
    find_names(o);
    o->file = create_file(path, overwrite);
    int err = o->file < 0 ? fail_io(o, "the file") : create_root(o, run_id);
    gw_hdf5_unlock();
    if (err < 0)
        gw_hdf5_out_destroy(&o);
    *out = o;
    return err;
}
