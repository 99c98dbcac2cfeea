/* SPDX-License-Identifier: GPL-3.0-or-later
 * The mark "being written" that HDF5 leaves in a file's superblock in SWMR mode. Used by out_file.c for wide
 * recordings. Knows only that one structure of the format. */
#ifndef GW_SWMR_MARK_H
#define GW_SWMR_MARK_H

#include <hdf5.h>

/* Under gw_hdf5_lock. Files made with this access list never have the mark on disk: they open in any reader,
 * without repair, at any moment, also when their writer is killed. -1: the library refuses. */
int gw_swmr_driver(hid_t list);

#endif
