/* SPDX-License-Identifier: GPL-3.0-or-later
 * One cleaning network at work: witnesses in, the noise that they foretell in strain out, in strain units and
 * at strain's rate. Used by the stage denoise, one for each coupling, and one more while a canary is tried.
 * It neither subtracts nor judges.
 *
 * A hop: the witnesses at the network's rate (witness_feed.h) -> network, streaming -> times output_scale, in
 * double -> up to strain's rate by gw_fir_short -> delayed to what the stage delays all. Look-ahead is reach
 * of the feed + (the net's delay - shift) + GW_FIR_SHORT (0 at equal rates), in samples of the network's
 * rate. The network's frames begin at the hop's first sample minus the feed's reach.
 *
 * Where a witness fails, the network forgets, and the prediction goes on by linear prediction from its own
 * past (prolong.h) for GW_CLEANER_FADE_S at least, then as 0, until the network's memory is full of good
 * samples again. */
#ifndef GW_CLEANER_H
#define GW_CLEANER_H

#include "pipeline/stages/witness_feed.h"

#define GW_CLEANER_FADE_S 0.5 /* that a prediction is prolonged: the gate's fast fade, and hops */

typedef struct gw_cleaner gw_cleaner;

typedef struct gw_cleaner_shape {
    const gw_kernels *kernels; /* must outlive it */
    const gw_spec *in;         /* [n_in]: streams, in[0] is strain; used in _new alone */
    int n_in;
    uint32_t hop;                         /* strain samples */
    uint32_t n_witnesses;                 /* 0: the model's own names */
    const char (*witness)[GW_NAME_BYTES]; /* else their names, in the order of the model's channels */
} gw_cleaner_shape;

/* Reads and checks model and streams. Errors: those of gw_onnx_load, gw_denoise_model_read and gw_net_open;
 * GW_EMISMATCH where a witness is not there (with the nearest names), twice there, or rates do not go
 * together. Any thread. */
int gw_cleaner_new(gw_cleaner **c, const char *path, const gw_cleaner_shape *s);
void gw_cleaner_destroy(gw_cleaner **c);

const gw_denoise_model *gw_cleaner_model(const gw_cleaner *c);
const char *gw_cleaner_sha256(const gw_cleaner *c);         /* of the file, lower-case hex */
uint32_t gw_cleaner_delay(const gw_cleaner *c);             /* strain samples: what it needs */
uint32_t gw_cleaner_history(const gw_cleaner *c, int port); /* samples of the input before the hop */
size_t gw_cleaner_bytes(const gw_cleaner *c);               /* roughly */

/* Before the first step: what the stage delays, at least gw_cleaner_delay. GW_EMISMATCH when it is less. */
int gw_cleaner_start(gw_cleaner *c, uint32_t delay);
void gw_cleaner_reset(gw_cleaner *c); /* a hole in strain: forget */

typedef struct gw_cleaner_out {
    const double *p;        /* [hop]: for strain samples view[0].sample0 - delay on. Never NaN */
    bool valid;             /* all of them are what the network says of good witnesses */
    int64_t bad_from;       /* first strain sample that is not, once it was, or the first ever ... */
    int64_t good_from;      /* ... to this one: INT64_MAX while it is not known */
    gw_witness_fault fault; /* of this hop */
    uint32_t witness;       /* whose */
} gw_cleaner_out;

/* view[n_in] as the stage gets them; those of witnesses may be missing (data NULL). GW_OK, or what the
 * network failed with. */
int gw_cleaner_step(gw_cleaner *c, const gw_view *view, gw_cleaner_out *out);

#endif
