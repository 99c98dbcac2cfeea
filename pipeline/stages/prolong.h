/* SPDX-License-Identifier: GPL-3.0-or-later
 * How a prediction goes on when what it is made of is missing: by linear prediction from its own last second,
 * for the quarter of a second in which the gate fades it out. So it has no step and no kink at the hole: a
 * mains line goes on as a line. Used by the denoise stage's couplings.
 *
 * Burg's method (Maximum entropy spectral analysis, 1975): stable whatever the data. An order of 64. */
#ifndef GW_PROLONG_H
#define GW_PROLONG_H

#include "pipeline/error.h"

#include <stddef.h>
#include <stdint.h>

enum { GW_PROLONG_ORDER = 64 };

/* Doubles of scratch that gw_prolong wants. */
size_t gw_prolong_scratch(uint32_t n_past);
/* future[n_future] goes on from past[n_past] (n_past >= 2 GW_PROLONG_ORDER, of the newest second or so). All
 * zero, or a past that is not finite: goes on with zeros. Allocates nothing. */
void gw_prolong(const double *past, uint32_t n_past, double *future, uint32_t n_future, double *scratch);

#endif
