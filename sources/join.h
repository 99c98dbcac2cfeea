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
    int *channel; /* [n_channels] of the archive; one that is wide stands for the whole stream */
    int n_channels;
    int64_t origin;     /* where the archive's sample 0 lies */
    int64_t start, end; /* what of it is used */
} gw_join_segment;

typedef struct gw_join_stream {
    gw_spec spec; /* name = detector or group; of several with one name those that a stage called "H1_witness"
                     by that, of several rates the slower ones with "_16Hz", and of several stages all but
                     the first "H1_clean"; all but stream_id; block_samples as recorded or 0 */
    char port[GW_NAME_BYTES];     /* "H1_witness", where it was recorded under such a name; else "" */
    char recorded[GW_NAME_BYTES]; /* "clean.H1"; "" in files of other programs */
    gw_join_segment *segment;     /* [n_segments], by time, no overlap */
    int n_segments, room;
    int64_t shift;      /* samples later than archived */
    int64_t start, end; /* the shared span on this stream's grid */
} gw_join_stream;

typedef struct gw_join {
    gw_archive **archive;
    bool lent; /* they are somebody else's */
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
    gw_archive *const *lent; /* [n_lent] instead of files: opened already, and to outlive the join; or NULL */
    int n_lent;
    char **file, **detector, **channel; /* detector, channel: only these; none = all */
    int n_files, n_detectors, n_channels;
    gw_join_shift *shift;
    int n_shifts;
    int64_t start_ns, end_ns; /* cut to this; INT64_MIN, INT64_MAX = all */
} gw_join_wish;

/* Opens all files and joins them. An entry of `file` is a file, a folder (its .hdf5, .hdf and .h5 files), or
 * a pattern ("night-*.hdf5"). Errors name the files. gw_join_close also after a failure. */
int gw_join_open(gw_join *j, const gw_join_wish *w);
/* Only the first half: the archives, for who wants to see what is in them. */
int gw_join_files(gw_join *j, char *const *file, int n_files);
void gw_join_close(gw_join *j);

/* The segment of the stream that ends after `sample`, or n_segments. */
int gw_join_segment_at(const gw_join_stream *s, int64_t sample);

#endif
