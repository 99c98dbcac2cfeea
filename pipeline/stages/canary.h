/* SPDX-License-Identifier: GPL-3.0-or-later
 * A file in which new networks appear while the stream runs: a thread of its own, of low priority, looks at
 * it twice a second, loads what is new and hands it over; step() never opens a file. It also writes down what
 * became of each network, and puts the ones that proved themselves in the place of the old. Used by the
 * denoise stage, one a coupling; what a network is it does not know (ops), and when it is better neither
 * (trial.h).
 *
 *   canary: {path: FILE.onnx, over: 60s, better: 0.98, watch: 120s, keep: false}
 *
 * A file is put there by rename(), as a whole. A file that grows is waited for: it is read when size and time
 * of change were the same twice. One that cannot be loaded or does not fit is refused with one line, and not
 * read again until it changes. What is there at the start is loaded before the first sample, and its trial
 * begins with the data: a function of the data alone. What comes later comes by the wall clock, in a replay
 * too: when it is found, the trial begins at the next second of the stream; from there on data alone decide.
 * While a trial runs a newer file waits; of several only the newest.
 *
 * FILE.onnx.verdict, replaced as a whole with every event, is one line of JSON for who makes the networks:
 *   {"format":"gwstream-verdict-1","stage":"clean.H1","coupling":"mains","name":"deepclean-demo",
 *    "sha256":"<64 hex digits>","verdict":"rejected","reason":"...","final":true,"gps":1400000123.0,
 *    "seconds":60,"canary":0.412,"production":0.401,"canary_out":1.001,"production_out":1.002}
 * verdict: refused | trial | superseded | rejected | promoted | kept | rolled back; trial and promoted are
 * not final. Ratios are null where nothing was measured; gps is the stream's, null before the first sample.
 *
 * keep: true: a network that was kept becomes the one that the next start begins with: FILE.onnx is copied
 * over the coupling's `model` (temporary beside it, fsync, rename), whose old file stays as MODEL.previous.
 * Without it the next start begins with `model` again, and tries FILE.onnx again. */
#ifndef GW_CANARY_H
#define GW_CANARY_H

#include "pipeline/config.h"
#include "pipeline/stages/card.h"
#include "pipeline/stages/trial.h"

typedef struct gw_canary_keys {
    char path[1024]; /* "" = there is none */
    int64_t over_s, watch_s;
    double better;
    bool keep;
} gw_canary_keys;

/* Reads the map `canary` of a coupling's map, and sets defaults. */
int gw_canary_keys_read(gw_canary_keys *k, gw_conf *coupling);

/* What a network is. Both are called in the canary's own thread, load also in that of gw_canary_new: they may
 * touch nothing that a step touches. */
typedef struct gw_canary_ops {
    void *self;
    /* Loads, checks that it fits in the place of the one in use, warms up. On failure the detail says why. */
    int (*load)(void *self, const char *path, void **network, char name[48]);
    void (*drop)(void *self, void *network);
} gw_canary_ops;

typedef struct gw_canary gw_canary;

/* In open. stage and coupling: for the log and the verdict. production: the file in use. Reads what is there,
 * starts the thread. GW_ENOMEM, GW_ESYSTEM; GW_EMISSING, GW_EACCESS where the folder could not take a
 * verdict. */
int gw_canary_new(gw_canary **c, const gw_canary_keys *keys, const gw_canary_ops *ops, const char *stage,
                  const char *coupling, const char *production);
/* Waits for the thread (at most the load under way); drops what was not taken. */
void gw_canary_destroy(gw_canary **c);

typedef struct gw_canary_model {
    void *network; /* NULL: none */
    char name[48], sha256[GW_SHA256_TEXT];
} gw_canary_model;

/* In step, at a whole second when no trial runs: a network that waits for its trial, which from now on is the
 * caller's; its verdict becomes "trial". Returns at once. */
bool gw_canary_take(gw_canary *c, int64_t gps_ns, gw_canary_model *m);
/* The caller uses it no more: the thread drops it. Returns at once. */
void gw_canary_give(gw_canary *c, void *network);
/* An event of the trial (but NONE and FREE) of the network `m`: one log line, and the verdict. Returns at
 * once: the thread writes. */
void gw_canary_tell(gw_canary *c, const gw_canary_model *m, gw_trial_event event, int64_t gps_ns,
                    const gw_trial_result *r);

#endif
