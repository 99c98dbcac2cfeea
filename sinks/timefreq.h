/* SPDX-License-Identifier: GPL-3.0-or-later
 * What a picture needs to compute from whitened strain: how its energy lies in time and frequency, and the
 * strain in one band. Used by plot.c. Offline and in plain C: a picture is drawn once an event. */
#ifndef GW_TIMEFREQ_H
#define GW_TIMEFREQ_H

#include <stddef.h>

/* A stretch of one channel. A sample that is NaN is not there. */
typedef struct gw_series {
    const float *x; /* [n] */
    size_t n;
    double rate_hz;
    double t0_s; /* time of x[0] */
} gw_series;

/* Constant Q: energy[row][col] at frequency f_hz[row] and time t_s[col], from the Gaussian-windowed transform
 *     X = sum_n x[n] w(t[n] - t) exp(-2 pi i f t[n]) / sqrt(sum_n w^2),  w(t) = exp(-t^2 / (2 s^2)),
 *     s = q / (2 pi f)
 * as |X|^2: 1 on average in white noise of variance 1. NaN where there is no sample at t. 0, or GW_ENOMEM.
 * (Chatterji et al., Class. Quantum Grav. 21 (2004) S1809, with a Gaussian for the bisquare window.) */
int gw_timefreq(const gw_series *s, double q, const double *f_hz, size_t rows, const double *t_s, size_t cols,
                float *energy);

/* y[n] = x in the band [low_hz, high_hz], without delay (symmetric windowed sinc of +-1/16 s). NaN samples
 * count as 0 and stay NaN. 0, or GW_ENOMEM. */
int gw_band_pass(const gw_series *s, double low_hz, double high_hz, float *y);

#endif
