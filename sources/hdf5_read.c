/* SPDX-License-Identifier: GPL-3.0-or-later
 * Small typed reads from HDF5 objects, for archive.c. Knows types and shapes, no layout of any archive. */
#include "sources/hdf5_read.h"
#include "pipeline/hdf5_lock.h"

#include <stdlib.h>
#include <string.h>

static bool is_number(hid_t type)
{
    H5T_class_t c = H5Tget_class(type);
    return c == H5T_INTEGER || c == H5T_FLOAT;
}

bool gw_hdf5_is_number(hid_t dataset)
{
    hid_t type = H5Dget_type(dataset);
    bool number = type >= 0 && is_number(type);
    if (type >= 0)
        H5Tclose(type);
    return number;
}

static hssize_t points(hid_t space)
{
    return space < 0 ? -1 : H5Sget_simple_extent_npoints(space);
}

/* One number of `memory` type out of attribute `name`. */
static int attr_number(hid_t object, const char *name, hid_t memory, void *value, bool *found)
{
    bool there = H5Aexists(object, name) > 0;
    if (found)
        *found = there;
    if (!there)
        return found ? GW_OK : gw_fail(GW_EFORMAT, "attribute %s is missing", name);
    hid_t attr = H5Aopen(object, name, H5P_DEFAULT);
    hid_t type = attr < 0 ? -1 : H5Aget_type(attr);
    hid_t space = attr < 0 ? -1 : H5Aget_space(attr);
    int err = GW_OK;
    if (attr < 0 || type < 0)
        err = gw_fail(GW_EFORMAT, "attribute %s: %s", name, gw_hdf5_reason());
    else if (!is_number(type) || points(space) != 1)
        err = gw_fail(GW_EFORMAT, "attribute %s is not one number", name);
    else if (H5Aread(attr, memory, value) < 0)
        err = gw_fail(GW_EFORMAT, "attribute %s: %s", name, gw_hdf5_reason());
    if (space >= 0)
        H5Sclose(space);
    if (type >= 0)
        H5Tclose(type);
    if (attr >= 0)
        H5Aclose(attr);
    return err;
}

int gw_hdf5_attr_double(hid_t object, const char *name, double *value, bool *found)
{
    return attr_number(object, name, H5T_NATIVE_DOUBLE, value, found);
}

int gw_hdf5_attr_int(hid_t object, const char *name, int64_t *value, bool *found)
{
    return attr_number(object, name, H5T_NATIVE_INT64, value, found);
}

/* Copies at most n - 1 bytes of a string that ends at `size` or at its first NUL, and trims spaces. */
static void put_text(char *to, size_t n, const char *from, size_t size)
{
    size_t used = from ? strnlen(from, size) : 0;
    if (used > n - 1)
        used = n - 1;
    while (used > 0 && from[used - 1] == ' ')
        used--;
    if (used)
        memcpy(to, from, used);
    to[used] = '\0';
}

/* Reads all `count` strings of an attribute or a dataset. */
static int read_texts(hid_t id, bool attribute, hid_t type, hid_t space, char *text, size_t n, int count)
{
    bool variable = H5Tis_variable_str(type) > 0;
    size_t size = variable ? sizeof(char *) : H5Tget_size(type);
    if (size == 0 || size > 1u << 20)
        return gw_fail(GW_EFORMAT, "strings of %zu bytes", size);
    char *raw = calloc((size_t)count, size);
    if (!raw)
        return gw_fail(GW_ENOMEM, "%d strings of %zu bytes", count, size);
    int err = (attribute ? H5Aread(id, type, raw) : H5Dread(id, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, raw)) < 0
                  ? gw_fail(GW_EFORMAT, "strings: %s", gw_hdf5_reason())
                  : GW_OK;
    for (int i = 0; i < count && err == GW_OK; i++) {
        const char *place = raw + (size_t)i * size, *at = place;
        if (variable)
            memcpy(&at, place, sizeof at);
        put_text(text + (size_t)i * n, n, at, variable ? SIZE_MAX / 2 : size);
    }
    if (variable && err == GW_OK)
        H5Dvlen_reclaim(type, space, H5P_DEFAULT, raw);
    free(raw);
    return err;
}

int gw_hdf5_attr_text(hid_t object, const char *name, char *text, size_t n, bool *found)
{
    *found = false;
    text[0] = '\0';
    if (H5Aexists(object, name) <= 0)
        return GW_OK;
    hid_t attr = H5Aopen(object, name, H5P_DEFAULT);
    if (attr < 0)
        return gw_fail(GW_EFORMAT, "attribute %s: %s", name, gw_hdf5_reason());
    hid_t type = H5Aget_type(attr), space = H5Aget_space(attr);
    int err = GW_OK;
    if (type >= 0 && H5Tget_class(type) == H5T_STRING && points(space) == 1) {
        err = read_texts(attr, true, type, space, text, n, 1);
        *found = err == GW_OK;
    }
    if (space >= 0)
        H5Sclose(space);
    if (type >= 0)
        H5Tclose(type);
    H5Aclose(attr);
    return err < 0 ? gw_fail_at(err, "attribute %s", name) : err;
}

int gw_hdf5_texts(hid_t dataset, char *text, size_t n, int max, int *count)
{
    hid_t type = H5Dget_type(dataset), space = H5Dget_space(dataset);
    hssize_t have = points(space);
    int err = GW_OK;
    *count = 0;
    if (type < 0 || H5Tget_class(type) != H5T_STRING)
        err = gw_fail(GW_EFORMAT, "does not hold strings");
    else if (have < 1 || have > max)
        err = gw_fail(GW_EFORMAT, "holds %lld strings, expected 1 to %d", (long long)have, max);
    else
        err = read_texts(dataset, false, type, space, text, n, (int)have);
    if (err == GW_OK)
        *count = (int)have;
    if (space >= 0)
        H5Sclose(space);
    if (type >= 0)
        H5Tclose(type);
    return err;
}

int gw_hdf5_length(hid_t dataset, int64_t *n)
{
    hid_t space = H5Dget_space(dataset);
    int rank = space < 0 ? -1 : H5Sget_simple_extent_ndims(space);
    hssize_t have = points(space);
    if (space >= 0)
        H5Sclose(space);
    if (rank != 1 || have < 0)
        return gw_fail(GW_EFORMAT, "has %d dimensions, expected 1", rank < 0 ? 0 : rank);
    *n = (int64_t)have;
    return GW_OK;
}

hid_t gw_hdf5_open_dataset(hid_t file, const char *path)
{
    hid_t id = H5Oopen(file, path, H5P_DEFAULT);
    if (id >= 0 && H5Iget_type(id) != H5I_DATASET) {
        H5Oclose(id);
        return -1;
    }
    return id;
}
