/* SPDX-License-Identifier: GPL-3.0-or-later
 * Reading and writing of checkpoints; see the header. */
#include "pipeline/stages/psd_hdf5.h"

#include "pipeline/hdf5_lock.h"
#include "pipeline/stages/attribute.h"

#include <hdf5.h>
#include <math.h>
#include <string.h>

enum { SLICE_BYTES = 4 << 20 };
static const char format[] = "gwstream-psd-1";

/* -- parts of a file, under the lock ----------------------------------------------------------------- */

/* Whether the attribute is there and says just this. */
static bool has_text(hid_t file, const char *key, const char *text)
{
    char found[GW_PSD_SETTINGS_BYTES + 1];
    return gw_attribute_get_text(file, key, found, sizeof found) && strcmp(found, text) == 0;
}

/* One dataset of a row a channel: written where `to_file`, else read. A slice at a time. */
typedef struct table {
    const char *name;
    hid_t type; /* in the file and here */
    int rank;
    hsize_t dims[3];
    size_t row_bytes;
    void *data;
} table;

static bool move_table(hid_t file, const table *t, bool to_file)
{
    const uint32_t n = (uint32_t)t->dims[0];
    const uint32_t at_once = (uint32_t)(SLICE_BYTES / t->row_bytes > 0 ? SLICE_BYTES / t->row_bytes : 1);
    hid_t space = H5Screate_simple(t->rank, t->dims, NULL);
    const hid_t set = to_file
                          ? H5Dcreate2(file, t->name, t->type, space, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT)
                          : H5Dopen2(file, t->name, H5P_DEFAULT);
    bool well = set >= 0;
    if (well && !to_file) { /* the shape, and floats for floats, must be ours */
        hsize_t dims[3] = {0};
        H5Sclose(space);
        space = H5Dget_space(set);
        well = H5Sget_simple_extent_ndims(space) == t->rank &&
               H5Sget_simple_extent_dims(space, dims, NULL) >= 0 &&
               memcmp(dims, t->dims, (size_t)t->rank * sizeof dims[0]) == 0;
        const hid_t is = H5Dget_type(set);
        well = well && H5Tget_class(is) == H5Tget_class(t->type);
        H5Tclose(is);
    }
    for (uint32_t c = 0; well && c < n; c += at_once) {
        const hsize_t from[3] = {c, 0, 0},
                      count[3] = {n - c < at_once ? n - c : at_once, t->dims[1], t->dims[2]};
        void *data = (char *)t->data + c * t->row_bytes;
        const hid_t here = H5Screate_simple(t->rank, count, NULL);
        well = here >= 0 && H5Sselect_hyperslab(space, H5S_SELECT_SET, from, NULL, count, NULL) >= 0 &&
               (to_file ? H5Dwrite(set, t->type, here, space, H5P_DEFAULT, data)
                        : H5Dread(set, t->type, here, space, H5P_DEFAULT, data)) >= 0;
        if (here >= 0)
            H5Sclose(here);
        gw_hdf5_unlock(); /* whoever waits for it has his turn */
        gw_hdf5_lock();
    }
    if (set >= 0)
        H5Dclose(set);
    H5Sclose(space);
    return well;
}

static int make_tables(const gw_psd_contents *c, hid_t name_type, table to[5])
{
    const hsize_t n = c->n_channels;
    int k = 0;
    to[k++] = (table){"channels", name_type, 1, {n}, GW_NAME_BYTES, c->channel};
    to[k++] = (table){"segments", H5T_NATIVE_UINT32, 1, {n}, sizeof *c->segments, c->segments};
    to[k++] = (table){"scale", H5T_NATIVE_DOUBLE, 1, {n}, sizeof *c->scale, c->scale};
    to[k++] =
        (table){"psd", H5T_NATIVE_FLOAT, 3, {n, c->rows, c->bins}, (size_t)c->rows * c->bins * sizeof *c->psd,
                c->psd};
    if (c->n_taps)
        to[k++] = (table){"taps", H5T_NATIVE_DOUBLE, 2, {n, c->n_taps}, c->n_taps * sizeof *c->taps, c->taps};
    return k;
}

static uint32_t checksum(const gw_psd_contents *c)
{
    const size_t n = c->n_channels;
    uint32_t crc = gw_crc32c(0, &c->gps_ns, sizeof c->gps_ns);
    crc = gw_crc32c(crc, c->segments, n * sizeof *c->segments);
    crc = gw_crc32c(crc, c->scale, n * sizeof *c->scale);
    crc = gw_crc32c(crc, c->psd, n * c->rows * c->bins * sizeof *c->psd);
    return gw_crc32c(crc, c->taps, n * c->n_taps * sizeof *c->taps);
}

/* -- reading ----------------------------------------------------------------------------------------- */

static bool sound_channel(const gw_psd_contents *c, uint32_t k)
{
    const uint32_t n = c->segments[k];
    if (!n)
        return true;
    if (!(c->scale[k] > 0) || !isfinite(c->scale[k]) || (c->rows > 1 && n > c->rows))
        return false;
    const float *psd = c->psd + (size_t)k * c->rows * c->bins;
    const double *taps = c->taps + (size_t)k * c->n_taps;
    const size_t used = (c->rows > 1 ? n : 1) * (size_t)c->bins;
    bool well = true;
    for (size_t i = 0; i < used; i++)
        well &= psd[i] >= 0 && psd[i] < INFINITY;
    for (uint32_t t = 0; t < c->n_taps; t++)
        well &= isfinite(taps[t]) != 0;
    return well;
}

/* The reason why not, or NULL. */
static const char *read_open(gw_psd_contents *c, hid_t file)
{
    uint64_t hash = 0;
    uint32_t crc = 0;
    double bin_hz = 0;
    if (!has_text(file, "format", format))
        return "is no checkpoint of this version";
    if (!gw_attribute_get(file, "spec_hash", H5T_NATIVE_UINT64, &hash) || hash != c->spec_hash)
        return "is of another stream";
    if (!has_text(file, "settings", c->settings))
        return "was made with other settings";
    if (!gw_attribute_get(file, "gps_ns", H5T_NATIVE_INT64, &c->gps_ns) ||
        !gw_attribute_get(file, "crc32c", H5T_NATIVE_UINT32, &crc) ||
        !gw_attribute_get(file, "bin_hz", H5T_NATIVE_DOUBLE, &bin_hz) ||
        !(fabs(bin_hz - c->bin_hz) <= 1e-9 * bin_hz))
        return "does not fit";
    table t[5];
    const int n = make_tables(c, -1, t);
    for (int k = 1; k < n; k++) /* not the names: the hash is of them */
        if (!move_table(file, &t[k], false))
            return "is of other shapes, or damaged";
    if (checksum(c) != crc)
        return "is damaged";
    for (uint32_t k = 0; k < c->n_channels; k++)
        if (!sound_channel(c, k))
            return "holds numbers that are no PSD";
    return NULL;
}

int gw_psd_hdf5_read(gw_psd_contents *c, const char *path)
{
    gw_hdf5_lock();
    const hid_t file = H5Fopen(path, H5F_ACC_RDONLY, H5P_DEFAULT);
    const char *why = file < 0 ? NULL : read_open(c, file);
    int err = GW_OK;
    if (file < 0)
        err = gw_fail(GW_EFORMAT, "%s cannot be read: %s", path, gw_hdf5_reason());
    else if (why)
        err = gw_fail(GW_EMISMATCH, "%s %s", path, why);
    if (file >= 0)
        H5Fclose(file);
    gw_hdf5_unlock();
    return err;
}

/* -- writing ----------------------------------------------------------------------------------------- */

static bool write_open(const gw_psd_contents *c, hid_t file)
{
    const uint32_t crc = checksum(c);
    bool well = gw_attribute_put_text(file, "format", format) &&
                gw_attribute_put_text(file, "name", c->name) &&
                gw_attribute_put_text(file, "settings", c->settings) &&
                gw_attribute_put(file, "spec_hash", H5T_NATIVE_UINT64, &c->spec_hash) &&
                gw_attribute_put(file, "gps_ns", H5T_NATIVE_INT64, &c->gps_ns) &&
                gw_attribute_put(file, "crc32c", H5T_NATIVE_UINT32, &crc) &&
                gw_attribute_put(file, "bin_hz", H5T_NATIVE_DOUBLE, &c->bin_hz) &&
                gw_attribute_put(file, "rate_hz", H5T_NATIVE_DOUBLE, &c->rate_hz);
    table t[5];
    const hid_t name_type = H5Tcopy(H5T_C_S1);
    H5Tset_size(name_type, GW_NAME_BYTES);
    const int n = make_tables(c, name_type, t);
    for (int k = 0; well && k < n; k++)
        well = move_table(file, &t[k], true);
    H5Tclose(name_type);
    return well;
}

int gw_psd_hdf5_write(const gw_psd_contents *c, const char *path)
{
    int err = GW_OK;
    gw_hdf5_lock();
    const hid_t file = H5Fcreate(path, H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
    if (file < 0 || !write_open(c, file))
        err = gw_fail(GW_EIO, "%s: %s", path, gw_hdf5_reason());
    if (file >= 0 && H5Fclose(file) < 0 && err == GW_OK)
        err = gw_fail(GW_EIO, "%s: %s", path, gw_hdf5_reason());
    gw_hdf5_unlock();
    return err;
}
