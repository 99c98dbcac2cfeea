/* SPDX-License-Identifier: GPL-3.0-or-later
 * Archived files joined into streams: which channels of which files form a stream, in what order, and the
 * span that all streams share. Called by replay.c when a graph is planned. Refuses whatever does not fit
 * together (rates, overlaps, channels); reads no samples. */
#ifndef GW_JOIN_H
#define GW_JOIN_H

#include "sources/archive.h"

/* A file's part of a stream. In samples of the stream, a time shift included. */
typedef struct gw_join_segment {
    gw_archive *archive;
    int *channel; /* [n_channels] of the archive */
    int n_channels;
    int64_t start, end;
} gw_join_segment;

typedef struct gw_join_stream {
    gw_spec spec;             /* name = detector or group; all but block_samples and stream_id */
    gw_join_segment *segment; /* [n_segments], by time, no overlap */
    int n_segments, room;
    int64_t shift;      /* samples later than archived */
    int64_t start, end; /* the shared span on this stream's grid */
} gw_join_stream;

typedef struct gw_join {
    gw_archive **archive;
    int n_archives;
    gw_join_stream *stream; /* [n_streams], sorted by name */
    int n_streams;
    int64_t start_ns, end_ns;
} gw_join;

typedef struct gw_join_shift {
    char *stream;
    int64_t ns; /* later by this, rounded to whole samples */
} gw_join_shift;

typedef struct gw_join_wish {
    char **file, **detector, **channel; /* detector, channel: only these; none = all */
    int n_files, n_detectors, n_channels;
    gw_join_shift *shift;
    int n_shifts;
    int64_t start_ns, end_ns; /* cut to this; INT64_MIN, INT64_MAX = all */
} gw_join_wish;

/* Opens all files and joins them. Errors name the files. gw_join_close also after a failure. */
int gw_join_open(gw_join *j, const gw_join_wish *w);
void gw_join_close(gw_join *j);

/* The segment of the stream that ends after `sample`, or n_segments. */
int gw_join_segment_at(const gw_join_stream *s, int64_t sample);
/* If no stream has anything at GPS time `ns`: when the first one has again, or the end of the span. Else
 * `ns`. */
int64_t gw_join_hole_end(const gw_join *j, int64_t ns);

#endif
