/* SPDX-License-Identifier: GPL-3.0-or-later
 * The witnesses of one cleaning network, hop by hop: out of the streams that they come in, at the network's
 * rate, scaled as it wants them, and looked at whether they can be believed. Used by cleaner.c. Keeps no
 * samples: each hop is made from the view and its history, so it depends on the absolute samples alone.
 *
 * Rates are whole multiples or whole parts of the network's. Down by gw_fir_short; up by the same, or, from
 * less than GW_FEED_SLOW_HZ, by straight lines; all filters are symmetric: the network's sample m lies at the
 * time m / rate. The first sample of a hop's n is the hop's beginning minus the reach (in samples of the
 * network's rate, the longest of all witnesses). */
#ifndef GW_WITNESS_FEED_H
#define GW_WITNESS_FEED_H

#include "kernels/kernels.h"
#include "pipeline/stage.h"
#include "pipeline/stages/denoise_model.h"

enum { GW_FEED_SLOW_HZ = 256 };

/* Why a witness cannot be believed in a hop. */
typedef enum gw_witness_fault {
    GW_WITNESS_FINE,
    GW_WITNESS_ABSENT, /* missing from its stream, or the stream from the hop */
    GW_WITNESS_NAN,
    GW_WITNESS_HUGE,    /* further than 1000 scales from its mean */
    GW_WITNESS_DEAD,    /* the same value for 1 s and 64 samples */
    GW_WITNESS_CLIPPED, /* a fifth of the hop at its own largest or smallest value, in runs of 8 and more,
                           while it moves by half a scale */
    GW_NETWORK_NAN      /* not the witness: what the network made of it */
} gw_witness_fault;
const char *gw_witness_fault_text(gw_witness_fault f);

typedef struct gw_witness_at { /* where a witness comes in */
    int port;
    uint32_t channel;
} gw_witness_at;

typedef struct gw_witness_feed gw_witness_feed;

/* hop: of the network's samples. GW_EMISMATCH where a rate does not go with the network's, naming both and
 * the remedy. at[model's witnesses]. */
int gw_witness_feed_new(gw_witness_feed **f, const gw_denoise_model *m, const gw_kernels *k,
                        const gw_spec *in, const gw_witness_at *at, uint32_t hop);
void gw_witness_feed_destroy(gw_witness_feed **f);
uint32_t gw_witness_feed_reach(const gw_witness_feed *f);             /* network samples of look-ahead */
uint32_t gw_witness_feed_history(const gw_witness_feed *f, int port); /* samples that its view must have */
size_t gw_witness_feed_bytes(const gw_witness_feed *f);

/* x[witnesses][hop]. The first fault found, and whose (*witness); x is then not to be used. */
gw_witness_fault gw_witness_feed_take(gw_witness_feed *f, const gw_view *view, float *x, uint32_t *witness);
void gw_witness_feed_reset(gw_witness_feed *f); /* after a hole: nobody has been dead for long */

#endif
