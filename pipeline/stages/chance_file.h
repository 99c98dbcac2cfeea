/* SPDX-License-Identifier: GPL-3.0-or-later
 * What a background has counted, as an HDF5 file: the checkpoint of the stage `background`, and, once the run
 * is over, an archive for others (`archive:`, `gwstream background`, evaluation). One file written whole, or
 * read whole and checked; takes the HDF5 lock itself, for at most a few MiB at a time. Knows no threads, ages
 * or names of files.
 *
 * Layout: attributes format ("gwstream-background-1"), name, model (SHA-256 of the .onnx file), detectors,
 * hop_s, hop_frames, cluster_frames, need_hops, now_hop, floor, slid_s and exclusive_slid_s and distinct_s
 * (as of the last count, archives not included), crc32c (of all datasets in this order, as they lie in
 * memory); datasets
 *   offset_hops [slide] int32    how late the second detector is (negative: the first); 0 is the search itself
 *   statistic [trigger] float32  of each trigger of the slides
 *   hop [trigger][2] int64       when, in hops since GPS 0, in each detector
 *   fit [span][2] int64          hops [from, to) that count
 *   withdrawn [span][2] int64    and do not in the exclusive background
 *   spells [spell][3] int64      from this hop on: so many slides are run; 1: the rings begin anew
 * 20 bytes a trigger: 0.3 MB for 15,000 (a day of 1200 slides at one each two hours), 8.4 MB for 420,000. */
#ifndef GW_CHANCE_FILE_H
#define GW_CHANCE_FILE_H

#include "pipeline/stages/chance.h"

enum { GW_CHANCE_NAME = 64, GW_CHANCE_SHA256 = 65 };

/* By which rules it was counted. */
typedef struct gw_chance_rules {
    char model[GW_CHANCE_SHA256], detectors[32];
    double hop_s;
    uint32_t hop_frames, cluster_frames, need_hops;
} gw_chance_rules;

/* The arrays are its own (gw_chance_record_free). */
typedef struct gw_chance_record {
    char name[GW_CHANCE_NAME]; /* of the stage */
    gw_chance_rules rules;
    uint32_t n_slides;
    int32_t *offset_hops;
    double slid_s[2], distinct_s; /* inclusive, exclusive */
    gw_chance_memory memory;
} gw_chance_record;

/* Makes the file anew. GW_EIO with the reason. */
int gw_chance_file_write(const gw_chance_record *r, const char *path);
/* GW_EMISSING, GW_EFORMAT for what is no such file or a damaged one, GW_ENOMEM; *r is then empty. */
int gw_chance_file_read(gw_chance_record *r, const char *path);
void gw_chance_record_free(gw_chance_record *r);

/* GW_EMISMATCH, with `path` and both values, where the record was counted by other rules. */
int gw_chance_record_match(const gw_chance_record *r, const char *path, const gw_chance_rules *rules);
/* Adds what `more` has counted to `r`: same rules, same slides, and another time. GW_EMISMATCH with one
 * line, which names the two; GW_ENOMEM. Of the two floors the higher one counts. Afterwards slid_s and
 * distinct_s are those of gw_chance_of. */
int gw_chance_record_add(gw_chance_record *r, const char *path, const gw_chance_record *more,
                         const char *more_path);

/* First and last hop that counts, [from, to); 0, 0 where none does. */
gw_chance_span gw_chance_record_span(const gw_chance_record *r);
/* The counts themselves, counted: rates, thresholds and times as in chance.h. */
int gw_chance_of(gw_chance **c, const gw_chance_record *r);

#endif
