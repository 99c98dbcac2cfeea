/* SPDX-License-Identifier: GPL-3.0-or-later
 * What became of a canary (canary.h), on disk: the line of JSON beside its file, and its place as the network
 * of the next start. Files are replaced as a whole (temporary beside them, fsync, rename). Called in the
 * canary's own thread. */
#ifndef GW_VERDICT_H
#define GW_VERDICT_H

#include "pipeline/stages/card.h"
#include "pipeline/stages/trial.h"

enum { GW_REASON_BYTES = 400 };

typedef struct gw_verdict {
    const char *word; /* "rejected" */
    bool final;       /* nothing more will be said of this network */
    char reason[GW_REASON_BYTES], name[48], sha256[GW_SHA256_TEXT];
    double gps;             /* s; NAN: before the first sample */
    gw_trial_result result; /* NAN where nothing was measured */
} gw_verdict;

/* The line that canary.h shows becomes the file `path`. GW_EIO. */
int gw_verdict_write(const gw_verdict *v, const char *path, const char *stage, const char *coupling);

/* The file `production` becomes a copy of `canary`, and what it was PRODUCTION.previous. GW_EMISMATCH where
 * `canary` is no longer the file of this hash; GW_EIO, and `production` is what it was. */
int gw_verdict_keep(const char *canary, const char *sha256, const char *production);

#endif
