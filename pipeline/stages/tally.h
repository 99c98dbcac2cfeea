/* SPDX-License-Identifier: GPL-3.0-or-later
 * A background's counts beyond one run: the checkpoint, from which the next run goes on, and the archive,
 * whose counts are added from the first minute. Used by background.c; the counts themselves are chance.c's,
 * the files chance_file.c's, names, ages and the writing thread checkpoint.c's. */
#ifndef GW_TALLY_H
#define GW_TALLY_H

#include "pipeline/stages/chance_file.h"
#include "pipeline/stages/checkpoint.h"

typedef struct gw_tally gw_tally;

typedef struct gw_tally_conf {
    const char *name; /* of the stage */
    const gw_checkpoint_keys *checkpoint;
    const char *archive; /* a file of chance_file.h; "card": the model card's counts; "": none */
    const char *card;    /* the model card's file */
    gw_chance_rules rules;
    uint32_t n_slides;
    const int32_t *offset_hops; /* [n_slides], read in _new */
} gw_tally_conf;

/* In open, for a new `chance`, which takes the archive and must not outlive the tally. An archive that is not
 * there or does not fit is an error, a checkpoint that does not fit one line. */
int gw_tally_new(gw_tally **t, const gw_tally_conf *conf, gw_chance *chance);
void gw_tally_destroy(gw_tally **t);

/* Once, before the first hop (`flags`: of its block): brings back what the checkpoint holds, where it is
 * young enough. *known: whether there is anything to tell rates by. */
int gw_tally_begin(gw_tally *t, gw_chance *chance, int64_t hop, uint32_t flags, bool *known);
/* Lets the checkpoint be written, if there is one and the last one is done; the counts are of the last
 * gw_chance_count. `last`: at the end of the run, waits for it. */
void gw_tally_save(gw_tally *t, const gw_chance *chance, bool last);

#endif
