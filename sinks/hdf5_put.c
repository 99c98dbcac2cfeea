/* SPDX-License-Identifier: GPL-3.0-or-later
 * Attributes, names and tables in HDF5 files. Called by the writers of recordings under the HDF5 lock. */
#include "sinks/hdf5_put.h"

#include <stdlib.h>
#include <string.h>

int gw_hdf5_put(hid_t object, const char *name, hid_t type, hsize_t n, const void *value)
{
    hid_t space = n ? H5Screate_simple(1, &n, NULL) : H5Screate(H5S_SCALAR);
    hid_t attr = space < 0 ? -1 : H5Acreate2(object, name, type, space, H5P_DEFAULT, H5P_DEFAULT);
    int err = attr < 0 || H5Awrite(attr, type, value) < 0 ? -1 : 0;
    if (attr >= 0)
        H5Aclose(attr);
    if (space >= 0)
        H5Sclose(space);
    return err;
}

int gw_hdf5_put_int(hid_t object, const char *name, int64_t value)
{
    return gw_hdf5_put(object, name, H5T_NATIVE_INT64, 0, &value);
}

int gw_hdf5_put_real(hid_t object, const char *name, double value)
{
    return gw_hdf5_put(object, name, H5T_NATIVE_DOUBLE, 0, &value);
}

int gw_hdf5_put_text(hid_t object, const char *name, const char *text)
{
    hid_t type = H5Tcopy(H5T_C_S1);
    if (type < 0)
        return -1;
    int err = H5Tset_size(type, H5T_VARIABLE) < 0 || H5Tset_cset(type, H5T_CSET_UTF8) < 0
                  ? -1
                  : gw_hdf5_put(object, name, type, 0, &text);
    H5Tclose(type);
    return err;
}

int gw_hdf5_set(hid_t object, const char *name, hid_t type, const void *value)
{
    hid_t attr = H5Aopen(object, name, H5P_DEFAULT);
    if (attr < 0)
        return -1;
    int err = H5Awrite(attr, type, value) < 0 ? -1 : 0;
    H5Aclose(attr);
    return err;
}

int gw_hdf5_put_names(hid_t where, const char *name, const char *text, size_t bytes, hsize_t n)
{
    hid_t type = H5Tcopy(H5T_C_S1), space = H5Screate_simple(1, &n, NULL), dataset = -1;
    int err = -1;
    if (type >= 0 && space >= 0 && H5Tset_size(type, bytes) >= 0 &&
        (dataset = H5Dcreate2(where, name, type, space, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT)) >= 0)
        err = H5Dwrite(dataset, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, text) < 0 ? -1 : 0;
    if (dataset >= 0)
        H5Dclose(dataset);
    if (space >= 0)
        H5Sclose(space);
    if (type >= 0)
        H5Tclose(type);
    return err;
}

/* ---- tables ---- */

int gw_hdf5_table_new(gw_hdf5_table *t, hid_t where, const char *name, hid_t type, size_t row_bytes,
                      hsize_t rows_a_chunk)
{
    const hsize_t none = 0, unlimited = H5S_UNLIMITED;
    *t = (gw_hdf5_table){.dataset = -1, .type = type, .row_bytes = row_bytes, .room = 16};
    t->row = malloc(t->room * row_bytes);
    t->last = malloc(row_bytes);
    hid_t space = H5Screate_simple(1, &none, &unlimited), create = H5Pcreate(H5P_DATASET_CREATE);
    if (t->row && t->last && type >= 0 && space >= 0 && create >= 0 &&
        H5Pset_chunk(create, 1, &rows_a_chunk) >= 0 && H5Pset_obj_track_times(create, false) >= 0)
        t->dataset = H5Dcreate2(where, name, type, space, H5P_DEFAULT, create, H5P_DEFAULT);
    if (create >= 0)
        H5Pclose(create);
    if (space >= 0)
        H5Sclose(space);
    return t->dataset < 0 ? -1 : 0;
}

/* The last row behind the others in memory. */
static int gather(gw_hdf5_table *t)
{
    const size_t held = (size_t)(t->n - 1 - t->first);
    if (held == t->room) {
        char *more = realloc(t->row, 2 * t->room * t->row_bytes);
        if (!more)
            return -1;
        t->row = more;
        t->room *= 2;
    }
    memcpy(t->row + held * t->row_bytes, t->last, t->row_bytes);
    return 0;
}

int gw_hdf5_table_settle(gw_hdf5_table *t)
{
    if (t->n == 0)
        return 0;
    const hsize_t rows = (hsize_t)t->n, start = (hsize_t)t->first, count = rows - start;
    if (gather(t) < 0 || H5Dset_extent(t->dataset, &rows) < 0)
        return -1;
    hid_t memory = H5Screate_simple(1, &count, NULL), file = H5Dget_space(t->dataset);
    int err = memory < 0 || file < 0 ||
                      H5Sselect_hyperslab(file, H5S_SELECT_SET, &start, NULL, &count, NULL) < 0 ||
                      H5Dwrite(t->dataset, t->type, memory, file, H5P_DEFAULT, t->row) < 0
                  ? -1
                  : 0;
    if (file >= 0)
        H5Sclose(file);
    if (memory >= 0)
        H5Sclose(memory);
    t->first = t->n - 1;
    return err;
}

int gw_hdf5_table_push(gw_hdf5_table *t, const void *row)
{
    if (t->n > 0 && gather(t) < 0)
        return -1;
    memcpy(t->last, row, t->row_bytes);
    t->n++;
    return 0;
}

void gw_hdf5_table_free(gw_hdf5_table *t, int touch)
{
    if (touch && t->dataset >= 0)
        H5Dclose(t->dataset);
    if (touch && t->type >= 0)
        H5Tclose(t->type);
    free(t->row);
    free(t->last);
    *t = GW_HDF5_NO_TABLE;
}
