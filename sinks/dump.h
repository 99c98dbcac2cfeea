/* SPDX-License-Identifier: GPL-3.0-or-later
 * One stretch of GPS time of several streams, as one file in the layout of a recording. Called by ring.c,
 * which holds the blocks and decides what is dumped when; the file is hdf5_out.c's. One thread.
 *
 * Whole blocks are written: the file begins and ends with the blocks that the stretch touches. */
#ifndef GW_DUMP_H
#define GW_DUMP_H

#include "sinks/hdf5_out.h"

typedef struct gw_dump gw_dump;

/* Makes the file at `path`. `specs` and the rest of `c` are lent until destroy; first and limit of `c` are
 * not used. The layout is the usual one for the streams. */
int gw_dump_new(gw_dump **d, const char *path, const gw_hdf5_out_conf *c, int64_t from_ns, int64_t to_ns);
const char *gw_dump_path(const gw_dump *d);
void gw_dump_span(const gw_dump *d, int64_t *from_ns, int64_t *to_ns);
void gw_dump_extend(gw_dump *d, int64_t to_ns); /* never shortens */

/* Whether samples [start, end) of a stream are still to be written. Streams are given in order of time. */
bool gw_dump_wants(const gw_dump *d, int stream, int64_t start, int64_t end);
/* Whether nothing that comes after `end` is wanted of this stream. */
bool gw_dump_beyond(const gw_dump *d, int stream, int64_t end);
/* Where the next samples of this stream are expected. */
int64_t gw_dump_at(const gw_dump *d, int stream);
int gw_dump_block(gw_dump *d, int stream, const gw_block *b);
int gw_dump_hole(gw_dump *d, int stream, const gw_hole *h); /* what of it is in the stretch */

int gw_dump_flush(gw_dump *d);
int gw_dump_finish(gw_dump *d);
void gw_dump_destroy(gw_dump **d);

#endif
