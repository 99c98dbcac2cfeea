/* SPDX-License-Identifier: GPL-3.0-or-later
 * The ranking itself: from the spectra of the last minutes to one ordered table. Called by rank.c each time
 * the table is due; written out by rank_write.c and rank_plot.c.
 *
 * Targets are the bands (strain against each channel, bin by bin) and the lines (strain's sidebands against
 * each channel's slow motion). The order: channels chosen one after the other, each for what it explains
 * beyond those before it (kernels/coherence.h); then the others by the chance that they are unrelated, of
 * themselves or to what the chosen ones leave; last what is refused: by list; as a copy of strain (coherent
 * with it from 20 to 1000 Hz); as unsafe (in segments with injected signals its cross power with strain is
 * more than in the others by what is no chance). Segments with injections count for that alone. */
#ifndef GW_RANK_TABLE_H
#define GW_RANK_TABLE_H

#include "sinks/rank_spectra.h"

enum { GW_RANK_TARGETS = 2 * GW_RANK_BANDS, GW_RANK_CANDIDATES = 64 };

typedef enum gw_rank_verdict {
    GW_RANK_CHOSEN,
    GW_RANK_COHERENT, /* but adds nothing to those chosen */
    GW_RANK_CHANCE,
    GW_RANK_NO_DATA, /* not enough good segments */
    GW_RANK_LISTED,  /* refused, this and what follows */
    GW_RANK_COPY,
    GW_RANK_UNSAFE
} gw_rank_verdict;
const char *gw_rank_verdict_text(gw_rank_verdict v);

typedef struct gw_rank_entry {
    int stream;
    uint32_t channel;
    const char *name;
    gw_rank_verdict verdict;
    int target;           /* in which it is most coherent, or gains most */
    double log_chance;    /* ln; there. Of an unsafe channel: that its response is chance */
    double peak, peak_hz; /* greatest coherence there; of a line the distance from it, with its sign */
    double broad;         /* median coherence from 20 to 1000 Hz; 0 if too slow */
} gw_rank_entry;

typedef struct gw_rank_table {
    int64_t from_s, to_s; /* GPS */
    uint32_t segments, slow_segments, injected;
    double log_limit; /* a channel is chance above this */
    int n_targets;
    uint32_t n, n_chosen;
    gw_rank_entry *entry; /* [n] in order */
    double *ratio;        /* [n_chosen][n_targets] of ASDs, predicted, after each */
} gw_rank_table;

/* Of the segments of [to_s - memory_s, to_s). most: to choose. The names stay the spectra's. */
int gw_rank_table_make(gw_rank_table *t, const gw_rank_spectra *s, int64_t to_s, int64_t memory_s,
                       uint32_t most);
void gw_rank_table_free(gw_rank_table *t);

/* "10-30 Hz", "60 Hz +- 3 Hz" */
void gw_rank_target_text(const gw_rank_spectra *s, int target, char *text, size_t n);
/* Coherence of one channel in one target, of the same segments: coherence[bins], hz[bins]; a line's lower
 * sideband first, hz relative to it. At most 2 * GW_RANK_SLOW_BINS bins; returns how many. */
uint32_t gw_rank_coherence(const gw_rank_spectra *s, const gw_rank_table *t, int target, int stream,
                           uint32_t channel, double *hz, double *coherence);

#endif
