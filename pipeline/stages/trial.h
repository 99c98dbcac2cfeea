/* SPDX-License-Identifier: GPL-3.0-or-later
 * Two networks for one coupling, side by side: the one in use, and another that wants to be or has been. Says
 * which of them is subtracted, how one becomes the other, and when the other may go. Used by the denoise
 * stage, one a coupling; canary.h brings the networks and writes down what became of them. All times are of
 * the stream: a trial ends the same way however fast the data come.
 *
 *   trying    the other is a canary. Over `over` seconds in which the ratio of both is measured it must be
 *             better: its mean ratio below `better` x that of the one in use and below 1, and out of band not
 *             above 1.01 unless it is below what the one in use makes. Then it is promoted, else rejected
 *   watching  the other is the one that was in use before. Over `watch` measured seconds: where the new one
 *             is worse than the old one in each of 16 seconds in a row (in band; or above 1.02 out of band,
 *             and worse there), it is rolled back, else kept
 *
 * Promotion and rolling back are cross-fades of 1 s (two halves of a Hann window, of sum 1): no sample is
 * lost and there is no step. Networks are in slots 0 and 1 of the caller's; only their roles change. */
#ifndef GW_TRIAL_H
#define GW_TRIAL_H

#include "pipeline/stages/gate.h"

typedef enum gw_trial_event {
    GW_TRIAL_NONE,
    GW_TRIAL_PROMOTED,    /* the other slot's network is now in use; the old one stays as the other */
    GW_TRIAL_REJECTED,    /* the other one has no use any more: drop it */
    GW_TRIAL_ROLLED_BACK, /* the old one is in use again; the other is dropped after the cross-fade */
    GW_TRIAL_KEPT,        /* the old one has no use any more: drop it */
    GW_TRIAL_FREE         /* after a rolling back: the cross-fade is over, drop the other */
} gw_trial_event;

typedef enum gw_trial_phase {
    GW_TRIAL_IDLE,
    GW_TRIAL_TRYING,
    GW_TRIAL_WATCHING,
    GW_TRIAL_LEAVING /* rolled back, the cross-fade is under way */
} gw_trial_phase;

typedef struct gw_trial {
    int64_t over_s, watch_s;
    double better;
    int64_t rate;
    gw_trial_phase phase;
    int used;                  /* slot in use, 0 or 1; the other is 1 - used */
    gw_fade fade;              /* share of slot 1 */
    int64_t until;             /* the newest cross-fade ends */
    int64_t seconds;           /* measured so far */
    int64_t worse;             /* watching: seconds in a row */
    double sum[2], sum_out[2]; /* [0]: of the canary, [1]: of the old one */
} gw_trial;

typedef struct gw_trial_result { /* what was measured: means over the seconds */
    int64_t seconds;
    double canary, production, canary_out, production_out;
} gw_trial_result;

/* Slot 0 is in use. rate_hz: of strain. */
void gw_trial_init(gw_trial *t, int64_t over_s, int64_t watch_s, double better, uint32_t rate_hz);
/* A canary is in the other slot. Only when idle. */
void gw_trial_begin(gw_trial *t);
/* At every whole second, like gw_gate_second. *result is filled with every event but NONE and FREE. */
gw_trial_event gw_trial_second(gw_trial *t, int64_t second, const gw_asd_ratios *used,
                               const gw_asd_ratios *other, gw_trial_result *result);
/* share[i]: how much of the prediction of slot 1 is in sample from + i; slot 0 has the rest. False: no
 * cross-fade lies in these samples or ahead of them, all are of slot `used`, and share is not written. */
bool gw_trial_share(const gw_trial *t, int64_t from, uint32_t n, double *share);

#endif
