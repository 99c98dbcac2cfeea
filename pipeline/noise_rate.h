/* SPDX-License-Identifier: GPL-3.0-or-later
 * How often noise alone reaches a statistic, as one stage has measured it (background) and sinks that give
 * events their false-alarm rate read it (alerts). It travels as an event of phase GW_PHASE_BACKGROUND, whose
 * detail is its text.
 *
 *   rate(x) = (n + 1) / T,  n: what noise did at least as loud as x in the slid time T
 * with n of the step below x, so never too low. Inclusive: all that was slid; exclusive: without the
 * stretches in which the search itself found something that noise hardly does. */
#ifndef GW_NOISE_RATE_H
#define GW_NOISE_RATE_H

#include "pipeline/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { GW_NOISE_STEPS = 48 };

typedef struct gw_noise_rate {
    char of[48];       /* the search that it is of: its stage's name */
    int64_t from_ns;   /* for what is told from this stream time on, until the next one's */
    int64_t until_ns;  /* of data before this */
    double slid_s[2];  /* inclusive, exclusive */
    double distinct_s; /* real time that the slides share */
    int n;
    double statistic[GW_NOISE_STEPS];  /* rising, multiples of 1e-4 */
    uint32_t above[2][GW_NOISE_STEPS]; /* at least as loud: inclusive, exclusive */
} gw_noise_rate;

/* One JSON object; 1900 bytes always suffice. GW_ERANGE. */
int gw_noise_rate_write(const gw_noise_rate *r, char *text, size_t n);
/* Only what _write wrote. GW_EFORMAT. */
int gw_noise_rate_read(gw_noise_rate *r, const char *text);

/* NAN below the lowest step, or where there is no slid time. `bound`, if given: nothing as loud was seen, so
 * the rate is at most about this. */
double gw_noise_rate_hz(const gw_noise_rate *r, double statistic, bool exclusive, bool *bound);

#endif
