/* SPDX-License-Identifier: GPL-3.0-or-later
 * How often noise alone reaches a statistic, as one stage has measured it (background) and sinks that give
 * events their false-alarm rate read it (alerts). It travels as an event of phase GW_PHASE_BACKGROUND, whose
 * detail is its text.
 *
 *   rate(x) = (n + 1) / T,  n: what noise did at least as loud as x in the slid time T
 * exact at the steps and among the loudest; where two steps are further apart the logarithm of n + 1 is
 * linear in x between them. Above the last step, where n is 0, it is 1/T, and only a bound. Inclusive: all that was slid; exclusive: without the
 * stretches in which the search itself found something that noise hardly does. The interval of a rate is of
 * drawing the data again (redraw.h): slides share their data, so Poisson on n would be too narrow. */
#ifndef GW_NOISE_RATE_H
#define GW_NOISE_RATE_H

#include "pipeline/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { GW_NOISE_STEPS = 40 };

typedef struct gw_noise_rate {
    char of[48];       /* the search that it is of: its stage's name */
    int64_t from_ns;   /* for what is told from this stream time on, until the next one's */
    int64_t until_ns;  /* of data before this */
    double slid_s[2];  /* inclusive, exclusive */
    double distinct_s; /* real time that the slides share */
    double archived_s; /* of slid_s[0], what was counted elsewhere */
    /* What ran, so that a replay can do the same: */
    uint32_t slides; /* so many of the slides from until_ns on; 0: not said */
    uint64_t hops;   /* of the last minute before until_ns: bit i, second i was slid */
    int n;
    double statistic[GW_NOISE_STEPS];  /* rising, multiples of 1e-4 */
    uint32_t above[2][GW_NOISE_STEPS]; /* at least as loud: inclusive, exclusive */
    uint32_t low[GW_NOISE_STEPS];      /* 5 % and 95 % of the inclusive rate, in hundredths of it; ... */
    uint32_t high[GW_NOISE_STEPS];     /* ... 0: not known */
} gw_noise_rate;

/* One JSON object; 1900 bytes always suffice. GW_ERANGE. */
int gw_noise_rate_write(const gw_noise_rate *r, char *text, size_t n);
/* Only what _write wrote. GW_EFORMAT. */
int gw_noise_rate_read(gw_noise_rate *r, const char *text);

/* NAN below the lowest step, or where there is no slid time. `bound`, if given: nothing as loud was seen, so
 * the rate is at most about this. */
double gw_noise_rate_hz(const gw_noise_rate *r, double statistic, bool exclusive, bool *bound);
/* The interval of the inclusive rate, 5 % and 95 %. False, and nothing filled, where it is not known. */
bool gw_noise_rate_interval(const gw_noise_rate *r, double statistic, double *low_hz, double *high_hz);

#endif
