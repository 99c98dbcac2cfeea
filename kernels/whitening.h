/* SPDX-License-Identifier: GPL-3.0-or-later
 * Design of a whitening filter: from a PSD to the taps of an FIR. Used by the whitener, once a second.
 * Stateless but for its buffers; knows nothing of streams.
 *
 * Target magnitude: a(f) = sqrt(2 / (fs S(f))) between sin^2 ramps, so that noise of PSD S comes out with the
 * one-sided PSD 2 / fs in the pass band (unit variance were it white up to Nyquist). S^(-1/2) is taken
 * linearly between the PSD's bins.
 *   minimum phase  h = the causal sequence of that magnitude with the least delay, by folding the real
 *                  cepstrum (Oppenheim & Schafer, Discrete-Time Signal Processing, ch. 13), of which the first
 *                  n_taps are kept under the falling half of a Hann window. No look-ahead.
 *   linear phase   h = irfft(a) under a Hann window of n_taps (odd); look-ahead (n_taps - 1) / 2.
 * Either way the taps are then corrected to
 * sum to zero: the offset of raw strain is thousands of times its noise. */
#ifndef GW_WHITENING_H
#define GW_WHITENING_H

#include "kernels/minphase.h"
#include "kernels/spectrum.h"

#include <stdbool.h>

typedef struct gw_whitening_shape {
    uint32_t rate_hz;
    bool linear;
    uint32_t n_taps;       /* odd for linear phase; below grid_samples / 2 */
    uint32_t psd_bins;     /* from 0 Hz to Nyquist */
    uint32_t grid_samples; /* even: of the transforms; 16 s keeps the cepstrum from folding onto itself */
    double highpass_hz[2]; /* 0 below the first, 1 above the second */
    double lowpass_hz[2];  /* 1 below the first, 0 above the second, which is at most Nyquist */
} gw_whitening_shape;

typedef struct gw_whitening gw_whitening;

/* `fft` has grid_samples points, is lent, and is overwritten by each design. */
int gw_whitening_new(gw_whitening **w, const gw_spectrum_ops *ops, gw_fft *fft, const gw_whitening_shape *s);
/* The same in single precision, minimum phase only, at a fifth of the cost: for filters that run in single
 * precision. `m` has grid_samples points and is lent. */
int gw_whitening_new_single(gw_whitening **w, const gw_minphase_ops *ops, gw_minphase *m,
                            const gw_whitening_shape *s);
void gw_whitening_destroy(gw_whitening **w);

/* psd[psd_bins] -> taps[n_taps]. GW_ERANGE, and taps are not touched, where the PSD is zero or not finite
 * inside the pass band (a dead channel). */
int gw_whitening_design(gw_whitening *w, const double *psd, double *taps);

/* The part of the variance of white noise that the ramps let through: the mean of their square. */
double gw_whitening_fraction(const gw_whitening_shape *s);

#endif
