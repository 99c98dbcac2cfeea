/* SPDX-License-Identifier: GPL-3.0-or-later
 * The mark "being written" that HDF5 leaves in a file's superblock in SWMR mode. Used by hdf5_out.c after
 * each flush. Knows only that one structure of the format. */
#ifndef GW_SWMR_MARK_H
#define GW_SWMR_MARK_H

/* Takes the mark off the file behind `fd`, so that it opens in any reader, without repair, also when its
 * writer is killed. Harmless where there is no mark. -1 with errno if the file cannot be read or written. */
int gw_swmr_unmark(int fd);

#endif
