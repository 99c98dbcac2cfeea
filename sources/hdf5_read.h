/* SPDX-License-Identifier: GPL-3.0-or-later
 * Small typed reads from HDF5 objects: numbers and strings in attributes and datasets, whatever of
 * HDF5's many spellings (fixed or variable length, any byte order, scalar or one element) they are in.
 * Used by archive.c. The caller holds the HDF5 lock. Details name the object, not the file. */
#ifndef GW_HDF5_READ_H
#define GW_HDF5_READ_H

#include "pipeline/error.h"

#include <hdf5.h>
#include <stdint.h>

/* Attributes of one number. *found is false, with GW_OK, where there is no such attribute (found may be
 * NULL: then that is GW_EFORMAT). Otherwise GW_EFORMAT if it is not one number. */
int gw_hdf5_attr_double(hid_t object, const char *name, double *value, bool *found);
int gw_hdf5_attr_int(hid_t object, const char *name, int64_t *value, bool *found);
/* One string; cut to n - 1 bytes, trailing padding removed. A number or an array is left out: *found false.
 */
int gw_hdf5_attr_text(hid_t object, const char *name, char *text, size_t n, bool *found);

/* A dataset of strings: at most `max` of them, `n` bytes each (with NUL). *count says how many. GW_EFORMAT
 * if it is not strings or has more. */
int gw_hdf5_texts(hid_t dataset, char *text, size_t n, int max, int *count);

/* Elements of a dataset with one dimension; GW_EFORMAT for any other shape. */
int gw_hdf5_length(hid_t dataset, int64_t *n);
/* True for integer and floating-point elements. */
bool gw_hdf5_is_number(hid_t dataset);

/* The dataset at `path` (close it with H5Oclose), or < 0 if there is none. */
hid_t gw_hdf5_open_dataset(hid_t file, const char *path);

#endif
