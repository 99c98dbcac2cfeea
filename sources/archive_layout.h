/* SPDX-License-Identifier: GPL-3.0-or-later
 * The layouts of archived HDF5 files: what archive.c asks of archive_layout.c (which layout, its channels)
 * and archive_quality.c (where data is good). Nobody else includes this. The caller holds the HDF5 lock;
 * details name the place in the file, not the file. */
#ifndef GW_ARCHIVE_LAYOUT_H
#define GW_ARCHIVE_LAYOUT_H

#include "sources/archive.h"

#include <hdf5.h>

typedef struct gw_archive_list {
    gw_archive_channel *channel; /* [n] */
    int n, room;
} gw_archive_list;

/* Describes every channel of `file`. `path` is its name, where a detector may stand. */
int gw_archive_layout(hid_t file, const char *path, gw_archive_list *list);
void gw_archive_list_free(gw_archive_list *list);

/* One run over the whole channel: nothing is known against it. */
int gw_archive_all_good(gw_archive_channel *c);
/* GWOSC: DQmask and Injmask, by short names, once a second. `start_s` is the strain's Xstart. A file
 * without masks is all good. */
int gw_archive_gwosc_quality(hid_t file, double start_s, gw_archive_channel *c);
/* Recorded: the table `dq` of the group /gwstream/<stream>. */
int gw_archive_recorded_quality(hid_t group, gw_archive_channel *c);

#endif
