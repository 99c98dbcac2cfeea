/* SPDX-License-Identifier: GPL-3.0-or-later
 * Writes streams to one HDF5 file, in one of two layouts. Called by series.c (record) and dump.c (ring),
 * which own configuration, timing and file names. Takes the HDF5 lock itself, for one chunk at a time. One
 * thread.
 *
 * gwpy   Each channel is a dataset with GWpy's attributes and no others (GWpy hands every attribute to its
 *        constructor): x0, dx, xunit, unit, name, channel. It stands at the root under the channel's name
 *        ("H1:STRAIN"), or under "<stream>/<channel>" where two streams share a channel name. Integers become
 *        floats. For few channels.
 * wide   Each stream is a group "<stream>" with `samples` [channel][sample] in the stream's own type
 *        (attributes start_gps, rate_hz, unit) and `channels`, their names. A chunk is some channels x one
 *        block, so that a block's rows go to the file as they lie in memory. The file is in SWMR mode: it can
 *        be read (h5py: swmr=True) while it grows.
 *
 * Samples that never came are NaN (0 where the type has none) and cost no disk; so are absent channels.
 * What was lost, and what GWpy has no place for, is in /gwstream (attributes version, software, run_id,
 * complete: 1 once the file was closed as it should be) / <stream>:
 *   attributes  layout, detector, unit, whitening, cleaning, dtype, rate_num, rate_den, phase_ns, sample0,
 *               block_samples, gap_samples, gap_reasons (texts) and gap_samples_by_reason
 *   paths       gwpy: the stream's datasets, as strings
 *   dq          rows {sample0, n_samples, dq, flags, gap_reason, networks}: they tile all that came; flags and
 *               networks are a block's, GW_FLAG_GAP and the reason for a hole. A hole may begin before the datasets do, and
 *               end after them
 *   absent      rows {sample0, n_samples, present}: where not every channel was there, a bit each
 * On disk a row never comes before its samples: after kill -9 the file holds all that came until the last
 * flush, and says no more than it holds. */
#ifndef GW_HDF5_OUT_H
#define GW_HDF5_OUT_H

#include "pipeline/stage.h"

typedef enum gw_layout { GW_LAYOUT_GWPY, GW_LAYOUT_WIDE } gw_layout;

/* The layout for these streams where nobody has chosen: wide from 65 channels in a stream on. */
gw_layout gw_layout_for(const gw_spec *spec, int n_streams);

typedef struct gw_hdf5_out gw_hdf5_out;

typedef struct gw_hdf5_out_conf {
    const char *path;
    bool overwrite;
    gw_layout layout;
    bool sync;           /* each flush waits for the disk */
    size_t chunk_bytes;  /* wide: about so much a chunk; 0 = 4 MiB */
    const gw_spec *spec; /* [n_streams], lent until destroy */
    int n_streams;
    uint64_t run_id;
    /* Per stream, or NULL. Where its datasets begin (needed for wide: a multiple of block_samples; gwpy: else
     * with what comes first) and where they end at the latest (else: they grow over every hole). */
    const int64_t *first, *limit;
} gw_hdf5_out_conf;

/* Whether a file may be made at `path`: GW_EBUSY if there is one and `overwrite` is not set; GW_EMISSING,
 * GW_EACCESS for its folder. Touches nothing. */
int gw_hdf5_out_check(const char *path, bool overwrite);
/* GW_ENOTSUP for a stream whose samples are no numbers. */
int gw_hdf5_out_check_spec(const gw_spec *s);

/* Makes the file; from then on it opens in a reader. */
int gw_hdf5_out_new(gw_hdf5_out **o, const gw_hdf5_out_conf *c);
const char *gw_hdf5_out_path(const gw_hdf5_out *o);

/* The next samples, or the next hole, of a stream. GW_EIO when the disk does not take it, GW_EBUG when time
 * runs backwards. */
int gw_hdf5_out_write(gw_hdf5_out *o, int stream, const gw_view *v);
int gw_hdf5_out_gap(gw_hdf5_out *o, int stream, const gw_hole *h);
/* What has come of a stream, [start, end), and how much of that the file is sure to hold. start = end:
 * nothing yet. */
void gw_hdf5_out_span(const gw_hdf5_out *o, int stream, int64_t *start, int64_t *end, int64_t *safe);

/* Hands everything to the system: after kill -9 the file opens and holds what came until the last flush. */
int gw_hdf5_out_flush(gw_hdf5_out *o);

/* Flushes and closes the file; later calls do nothing. Destroy also closes, but cannot say that it failed. */
int gw_hdf5_out_finish(gw_hdf5_out *o);
void gw_hdf5_out_destroy(gw_hdf5_out **o);

#endif
