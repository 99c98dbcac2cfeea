/* SPDX-License-Identifier: GPL-3.0-or-later
 * The layouts of archived HDF5 files: what archive.c asks of archive_layout.c (which layout, its channels),
 * archive_recorded.c (what recordings add) and archive_quality.c (where data is good). Nobody else includes
 * this. The caller holds the HDF5 lock; details name the place in the file, not the file. */
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

/* For archive_recorded.c. An empty channel at `path` is added to the list. */
void gw_archive_channel_free(gw_archive_channel *c);
int gw_archive_add(gw_archive_list *list, const char *path, gw_archive_channel **c);
void gw_archive_set_group(gw_archive_channel *c); /* from detector, stream and name */
/* Adds to the channels what /gwstream says about them, and the wide ones. */
int gw_archive_recorded(hid_t file, gw_archive_list *list);

/* One run over the whole channel: nothing is known against it. */
int gw_archive_all_good(gw_archive_channel *c);
/* GWOSC: DQmask and Injmask, by short names, once a second. `start_s` is the strain's Xstart. A file
 * without masks is all good. */
int gw_archive_gwosc_quality(hid_t file, double start_s, gw_archive_channel *c);
/* Recorded: the tables `dq` and `absent` of the group /gwstream/<stream>. Begins with c->sample0 of the
 * dataset and its n_data, and sets sample0, n_samples (0: nothing was recorded), skip, runs and absences. */
int gw_archive_recorded_quality(hid_t group, uint32_t stream_channels, gw_archive_channel *c);

#endif
