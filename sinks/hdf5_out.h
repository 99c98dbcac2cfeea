/* SPDX-License-Identifier: GPL-3.0-or-later
 * Writes streams to one HDF5 file in the GWpy layout. Called by record.c, which owns configuration and
 * timing. Takes the HDF5 lock itself. One thread.
 *
 * Each channel is a dataset with GWpy's attributes and no others (GWpy hands every attribute to its
 * constructor): x0, dx, xunit, unit, name, channel. It stands at the root under the channel's name
 * ("H1:STRAIN"), or under "<stream>/<channel>" where two streams share a channel name. Samples that never
 * came are NaN and cost no disk.
 *
 * What GWpy has no place for is in /gwstream (attributes version, software, run_id) / <stream>:
 *   attributes  detector, unit, whitening, rate_num, rate_den, phase_ns, sample0, gap_samples
 *   paths       the stream's datasets, as strings
 *   dq          rows {sample0, n_samples, dq, flags, gap_reason}: they tile all that came; flags are a
 * block's, GW_FLAG_GAP and the reason for a hole */
#ifndef GW_HDF5_OUT_H
#define GW_HDF5_OUT_H

#include "pipeline/stage.h"

typedef struct gw_hdf5_out gw_hdf5_out;

/* Whether a file may be made at `path`: GW_EBUSY if there is one and `overwrite` is not set; GW_EMISSING,
 * GW_EACCESS for its folder. Touches nothing. */
int gw_hdf5_out_check(const char *path, bool overwrite);

/* Makes the file. The specs are lent until destroy. Streams are numbered as they stand there. */
int gw_hdf5_out_new(gw_hdf5_out **o, const char *path, bool overwrite, const gw_spec *spec, int n_streams,
                    uint64_t run_id);

/* The next samples, or the next hole, of a stream. Its first call fixes where its datasets begin. GW_EIO
 * when the disk does not take it, GW_EBUG when time runs backwards. */
int gw_hdf5_out_write(gw_hdf5_out *o, int stream, const gw_view *v);
int gw_hdf5_out_gap(gw_hdf5_out *o, int stream, const gw_hole *h);

/* Hands everything to the system: after kill -9 the file opens and holds what came until the last flush. */
int gw_hdf5_out_flush(gw_hdf5_out *o);

/* Flushes and closes the file; later calls do nothing. Destroy also closes, but cannot say that it failed. */
int gw_hdf5_out_finish(gw_hdf5_out *o);
void gw_hdf5_out_destroy(gw_hdf5_out **o);

#endif
