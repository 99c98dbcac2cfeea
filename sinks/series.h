/* SPDX-License-Identifier: GPL-3.0-or-later
 * A recording of several streams as one file, or as a series of files on the absolute GPS grid. Called by
 * record.c; the files are hdf5_out.c's. Decides which file a block belongs to, and what becomes of a series
 * when the disk is full. One thread.
 *
 * Files of a series are PATH with the GPS start and the length before its extension,
 * "strain-1400000000-60.hdf5". One that is there already (of a run that was killed) stays as it is: the new
 * one becomes "strain-1400000000-60.2.hdf5". A hole is told in the file in which it begins, files that would
 * hold nothing but a hole are not made. */
#ifndef GW_SERIES_H
#define GW_SERIES_H

#include "sinks/hdf5_out.h"

typedef struct gw_series gw_series;

typedef struct gw_series_conf {
    const char *name;      /* who records, for the log */
    gw_hdf5_out_conf file; /* path, layout, specs ...; first and limit are the series' own work */
    int64_t every_ns;      /* length of a file; 0 = one file for all (GWpy layout only) */
} gw_series_conf;

/* Whether these streams can be cut so, and whether files may be made there. Touches nothing. */
int gw_series_check(const gw_series_conf *c);
int gw_series_new(gw_series **s,
                  const gw_series_conf *c); /* the conf's texts and specs are lent until destroy */

/* As gw_hdf5_out_write and _gap. A disk that takes no more ends a recording in one file with GW_EIO. A series
 * goes on: what comes is counted as lost until a new file can be made (tried every second), which states the
 * hole with reason DROPPED. */
int gw_series_write(gw_series *s, int stream, const gw_view *v);
int gw_series_gap(gw_series *s, int stream, const gw_hole *h);
int gw_series_flush(gw_series *s);
/* GW_EIO if something was lost for want of room, with how much. */
int gw_series_finish(gw_series *s);
void gw_series_destroy(gw_series **s);

#endif
