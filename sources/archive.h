/* SPDX-License-Identifier: GPL-3.0-or-later
 * An archived HDF5 file as a list of channels, whatever its layout:
 *
 *   GWOSC      strain/Strain (Xstart, Xspacing), quality/simple/DQmask and quality/injections/Injmask read
 *              by their short names; detector from meta/Detector or the file's name. GPS from Xstart, never
 *              from meta/UTCstart, which is wrong in older files.
 *   GWpy       one dataset a channel, attributes x0, dx; at the root or in groups
 *   one dataset per channel: attributes t0, sample_rate; or start_time, delta_t
 *   MLGWSC-1   a group a detector, in it a dataset a stretch of time, named by its start ("H1/1253977219");
 *              attributes start_time, delta_t. Each stretch is a channel here
 *   recorded   by the record sink: GWpy's, or wide (one dataset [channel][sample] a stream); the group
 *              /gwstream adds what GWpy has no place for: exact grid, holes, absent channels. Also what a
 * killed recorder left, and what one is still writing (as far as it was flushed when it was opened)
 *
 * replay.c makes streams of it. Joins nothing, waits for nothing, judges no data quality. Takes the HDF5
 * lock itself. One archive belongs to one thread at a time. */
#ifndef GW_ARCHIVE_H
#define GW_ARCHIVE_H

#include "pipeline/block.h"

/* A stretch with one state: from the end of the run before it (the first: from sample 0). */
typedef struct gw_archive_run {
    int64_t end; /* in samples from the channel's first */
    uint64_t dq;
    uint32_t flags;    /* GW_FLAG_INJECTION if it was recorded so */
    uint64_t networks; /* that cleaned it, as recorded (gw_header) */
    gw_gap_reason gap; /* the recording has nothing here, for this reason; else GW_GAP_NONE */
} gw_archive_run;

/* A stretch in which not every channel of the recorded stream was there. */
typedef struct gw_archive_absence {
    int64_t start, end;     /* in samples from the channel's first */
    const uint8_t *present; /* a bit a channel (gw_present), in recorded order; the channel owns it */
} gw_archive_absence;

/* One dataset. A wide recording's holds a whole stream. */
typedef struct gw_archive_channel {
    char *path;                 /* of the dataset, without leading '/': "strain/Strain", "H1:STRAIN" */
    char name[GW_NAME_BYTES];   /* "H1:STRAIN" (always so for GWOSC); else the last part of the path */
    char group[GW_NAME_BYTES];  /* channels with one group form one stream: the detector; where there is none,
                                   the recorded stream, or what stands before ':' */
    char stream[GW_NAME_BYTES]; /* the stream's name in a recording; else "" */
    char detector[8];           /* "H1" or "" */
    bool stretch; /* others of this name in the file are not beside it, but before or after it */
    char unit[16], whitening[128], cleaning[256];
    gw_rate rate;
    int64_t phase_ns;      /* GPS time of sample 0, within [0, 1 sample) */
    int64_t sample0;       /* number of the first sample */
    int64_t n_samples;     /* >= 1 */
    gw_dtype dtype;        /* as read: GW_F64, or what was recorded */
    int64_t chunk_samples; /* reads that begin and end at multiples of it decode nothing twice; >= 1 */
    bool quality;        /* the file says where data is good: NaN in a good stretch is a fault, not a hole */
    gw_archive_run *run; /* [n_runs], sorted, the last ends at n_samples */
    size_t n_runs;
    /* Recordings. */
    bool exact;             /* the runs say all: samples are taken as they are, NaN and bad quality too */
    uint32_t index;         /* its place among its stream's channels */
    uint32_t block_samples; /* of the stream; 0 = not stated */
    int64_t skip, n_data; /* the dataset holds samples [-skip, n_data - skip); what is not there is a hole */
    gw_archive_absence *absence; /* [n_absences], sorted */
    size_t n_absences;
    uint8_t *present; /* all their bits */
    /* Wide recordings. */
    uint32_t n_channels;          /* 1 in all other layouts */
    char (*names)[GW_NAME_BYTES]; /* [n_channels]; NULL in all other layouts */
} gw_archive_channel;

typedef struct gw_archive gw_archive;

/* Reads names, attributes and data quality, no samples, and lets go of the file again. GW_EMISSING,
 * GW_EACCESS, GW_EBUSY (another program writes it), GW_EFORMAT, GW_ENOTSUP, GW_ENOMEM; the detail begins with
 * the path. */
int gw_archive_open(gw_archive **a, const char *path);
const char *gw_archive_path(const gw_archive *a);
int gw_archive_count(const gw_archive *a); /* channels, sorted by path, recorded ones by stream and place; 0
                                              for a recording that was killed before it held anything */
const gw_archive_channel *gw_archive_channel_at(const gw_archive *a, int i);

/* Samples [first, first + n) of channel i, counted from its first, in its dtype. Opens the file if need be
 * and keeps it open. GW_EFORMAT (damaged) or GW_EIO, naming file and place. */
int gw_archive_read(gw_archive *a, int i, int64_t first, size_t n, void *to);

/* Wide channels: the chunk_samples samples round sample `at`, between two multiples of chunk_samples in the
 * dataset, to `to` [n_channels][chunk_samples]. Goes from the file to `to` without a copy where the file has
 * whole chunks. [*start, *end) is what of it is in the dataset; *start is where to[0] lies. */
int gw_archive_read_column(gw_archive *a, int i, int64_t at, void *to, int64_t *start, int64_t *end);

/* Closes the file, keeps the description: thousands of archives can be held. Reading opens it again. */
void gw_archive_park(gw_archive *a);
void gw_archive_close(gw_archive **a);

#endif
