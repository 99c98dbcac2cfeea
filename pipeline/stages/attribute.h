/* SPDX-License-Identifier: GPL-3.0-or-later
 * Attributes of the HDF5 files in which stages keep what they have learnt: one number or one text of fixed length.
 * Called by psd_hdf5.c and chance_file.c, under the HDF5 lock. False: it could not be written, is not there, or is
 * of another kind. */
#ifndef GW_ATTRIBUTE_H
#define GW_ATTRIBUTE_H

#include <hdf5.h>
#include <stdbool.h>

bool gw_attribute_put(hid_t file, const char *key, hid_t type, const void *value);
bool gw_attribute_get(hid_t file, const char *key, hid_t type, void *value);
bool gw_attribute_put_text(hid_t file, const char *key, const char *text);
/* A text of at most n bytes, its NUL among them, into text[n]. */
bool gw_attribute_get_text(hid_t file, const char *key, char *text, size_t n);

#endif
