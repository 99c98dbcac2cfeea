/* SPDX-License-Identifier: GPL-3.0-or-later
 * Small writes to HDF5 objects: attributes, lists of names, and tables whose last row still grows. Used by
 * hdf5_out.c, gwpy_out.c and wide_out.c, which hold the HDF5 lock. Knows no layout. Functions return < 0 on
 * failure and set no detail: the caller says which file it was. */
#ifndef GW_HDF5_PUT_H
#define GW_HDF5_PUT_H

#include <hdf5.h>
#include <stddef.h>
#include <stdint.h>

/* New attributes. */
int gw_hdf5_put(hid_t object, const char *name, hid_t type, hsize_t n, const void *value); /* n 0 = scalar */
int gw_hdf5_put_int(hid_t object, const char *name, int64_t value);
int gw_hdf5_put_real(hid_t object, const char *name, double value);
int gw_hdf5_put_text(hid_t object, const char *name, const char *text);
/* New values for an attribute that is there. */
int gw_hdf5_set(hid_t object, const char *name, hid_t type, const void *value);

/* A dataset of n strings of `bytes` each. */
int gw_hdf5_put_names(hid_t where, const char *name, const char *text, size_t bytes, hsize_t n);

/* A growing table. What was pushed since the last settle is kept in memory, and so is the last row, so that
 * it can grow without touching the file: nothing of it reaches the disk before its time. */
typedef struct gw_hdf5_table {
    hid_t dataset, type; /* the table's own */
    size_t row_bytes, room;
    int64_t n, first; /* rows, the last one included; the first of them in memory */
    char *row;        /* [room][row_bytes] rows first .. n - 2, without padding */
    void *last;       /* [row_bytes], aligned; means something when n > 0 */
} gw_hdf5_table;

#define GW_HDF5_NO_TABLE ((gw_hdf5_table){.dataset = -1, .type = -1})

/* `type` of `row_bytes` becomes the table's, also on failure. */
int gw_hdf5_table_new(gw_hdf5_table *t, hid_t where, const char *name, hid_t type, size_t row_bytes,
                      hsize_t rows_a_chunk);
int gw_hdf5_table_push(gw_hdf5_table *t, const void *row);
int gw_hdf5_table_settle(gw_hdf5_table *t); /* all rows to the file */
/* `touch` false leaves the library's handles alone (their file cannot be closed any more). */
void gw_hdf5_table_free(gw_hdf5_table *t, int touch);

#endif
