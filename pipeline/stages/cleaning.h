/* SPDX-License-Identifier: GPL-3.0-or-later
 * One coupling of the stage denoise: its network (cleaner.h), how much of what it says is subtracted
 * (gate.h), and the network that wants to take its place (canary.h, trial.h). It knows no streams: denoise.c
 * brings the hops, measures the ratios for all couplings at once, and publishes. Used in the stage's own
 * thread; only the step of a network may be any thread's. */
#ifndef GW_CLEANING_H
#define GW_CLEANING_H

#include "pipeline/stages/canary.h"
#include "pipeline/stages/cleaner.h"

typedef struct gw_cleaning gw_cleaning;

/* A map of the list `couplings`. gate: of the stage. */
int gw_cleaning_configure(gw_cleaning **c, gw_conf *conf, const gw_gate_keys *gate);
void gw_cleaning_destroy(gw_cleaning **c);

/* Loads the network and finds its witnesses; `in` (names included) must stay until the end. What does not fit
 * is an error, and the coupling is off: it has no part in what follows. */
int gw_cleaning_plan(gw_cleaning *c, const gw_spec *in, int n_in, uint32_t hop, const gw_kernels *k);

const char *gw_cleaning_name(const gw_cleaning *c);
const gw_cleaner *gw_cleaning_network(const gw_cleaning *c); /* in use; after a good plan */
const gw_bands *gw_cleaning_bands(const gw_cleaning *c, int slot);
/* "mains:deepclean-demo:0123456789abcdef:57-63,118-122", as the spec's `cleaning` says it. */
void gw_cleaning_text(const gw_cleaning *c, char *text, size_t n);
uint64_t
gw_cleaning_network_bits(const gw_cleaning *c); /* of the network in use: the first 64 of its SHA-256 */

/* delay: of the stage, in samples of strain; history[n_in]: samples that its views have. env may be NULL. */
int gw_cleaning_open(gw_cleaning *c, gw_env *env, const char *stage, uint32_t delay, const uint32_t *history);

/* A hop of its networks; in any thread. */
int gw_cleaning_step(gw_cleaning *c, const gw_view *view);
/* Then, once: what that says to the gate. out0: first sample of strain that this hop puts out. */
void gw_cleaning_stepped(gw_cleaning *c, int64_t out0);
/* The prediction of a slot for this hop, [hop]; NULL where it is not valid. */
const double *gw_cleaning_prediction(const gw_cleaning *c, int slot);
/* A whole second of strain ended before sample `second`: ratios[2], of the slots. gps_ns: of that sample.
 * Fills fresh[slot] where another network is in it now, whose ratio is to be measured anew. */
void gw_cleaning_second(gw_cleaning *c, int64_t second, int64_t gps_ns, const gw_asd_ratios *ratios,
                        bool *fresh);
/* noise[hop] += what is subtracted of samples out0 on. */
void gw_cleaning_add(gw_cleaning *c, int64_t out0, double *noise);
/* A hole of `lost` samples in strain; what comes next begins at out0. */
void gw_cleaning_hole(gw_cleaning *c, int64_t out0, int64_t lost);

enum { GW_CLEANING_NUMBERS = 5 };
/* The numbers that are published once a second: "ASDR-mains", "ASDR-mains_INTEGRATED", "ASDR-mains_OUT",
 * "GATE-mains", "MODEL-mains" (the first 52 bits of its SHA-256). */
void gw_cleaning_number_name(const gw_cleaning *c, int i, char *text, size_t n);
void gw_cleaning_numbers(const gw_cleaning *c, double *to);

#endif
