/* SPDX-License-Identifier: GPL-3.0-or-later
 * Medians of power spectra, bin by bin: over the last few, and over all that ever came. For report_measure.c.
 * Held as float, scaled: strain's powers lie below what a float holds. */
#ifndef GW_REPORT_MEDIAN_H
#define GW_REPORT_MEDIAN_H

#include "pipeline/error.h"

#include <stddef.h>
#include <stdint.h>

typedef struct gw_median {
    uint32_t bins, room; /* spectra that are held at most */
    uint32_t held, next; /* a ring */
    float *row;          /* [room][bins] */
    float *group;        /* [groups][bins] medians of what was held before */
    uint32_t groups;
    uint64_t total; /* that ever came */
} gw_median;

int gw_median_new(gw_median *m, uint32_t bins, uint32_t room);
void gw_median_free(gw_median *m);

/* Takes power[bins]: in place of the oldest where `room` are held. */
void gw_median_slide(gw_median *m, const double *power);
/* Takes power[bins]: where `room` are held they become one group first. GW_ENOMEM. */
int gw_median_pile(gw_median *m, const double *power);
void gw_median_forget(gw_median *m);

/* psd[bins]: the median over what is held, divided by its bias for so many; with groups, the median over
 * theirs and this one. Something must be held. GW_ENOMEM. */
int gw_median_estimate(const gw_median *m, double *psd);

#endif
