/* SPDX-License-Identifier: GPL-3.0-or-later
 * From a magnitude to the sequence of least delay that has it, in single precision: the costly part of the
 * design of very many filters. Called by whitening.c where it is lent one; the search's own filters are
 * designed in double, through spectrum.h. An object belongs to one thread at a time. */
#ifndef GW_MINPHASE_H
#define GW_MINPHASE_H

#include "pipeline/error.h"

#include <stdint.h>

/* A grid of n points with its own buffers, which the caller fills and reads. */
typedef struct gw_minphase {
    uint32_t n;   /* even, >= 2 */
    float *power; /* [n / 2 + 1] the square of the magnitude, 1e-30 to 1e30 */
    float *h;     /* [n] the sequence */
    void *plan;   /* of the implementation */
} gw_minphase;

typedef struct gw_minphase_ops {
    /* GW_ERANGE: n is odd or 0; GW_ENOMEM. minphase_destroy nulls; NULL is fine. */
    int (*minphase_new)(gw_minphase **m, uint32_t n);
    void (*minphase_destroy)(gw_minphase **m);
    /* h = F^-1 exp F u (F^-1 ln(power) / 2), where u folds the cepstrum to positive times (Oppenheim &
     * Schafer, Discrete-Time Signal Processing, ch. 13); power is destroyed. Against ref: rms(difference)
     * <= 3e-6 rms(h), for a power that spans 1e10. */
    void (*minphase_run)(gw_minphase *m);
} gw_minphase_ops;

void gw_minphase_ref(gw_minphase_ops *ops);
void gw_minphase_cpu(gw_minphase_ops *ops);

#endif
