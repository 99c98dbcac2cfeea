/* SPDX-License-Identifier: GPL-3.0-or-later
 * Decimation by a whole factor through a symmetric (linear-phase) low-pass FIR, in double: raw strain is
 * 1e-21 upon an offset of 1e-18, too much for float32. Called by the stage resample and by check_fir.
 * No state, no rates: which samples lie where is the caller's business. */
#ifndef GW_FIR_H
#define GW_FIR_H

#include <stdint.h>

typedef struct gw_fir_ops {
    /* y[i] = sum over k < n_taps of h[k] * x[i * factor + k], for i < n_out.
     * x: [(n_out - 1) * factor + n_taps], no alignment asked. Every output is one sum in an order that
     * depends on n_taps alone, so the bits do not depend on how a stream is cut into calls.
     * Against ref: |difference| <= 4 * n_taps * 2^-53 * sum |h[k] x[...]|. NaN and Inf spoil the outputs
     * that they reach and no others. */
    void (*decimate)(const double *h, uint32_t n_taps, uint32_t factor, const double *x, double *y,
                     uint32_t n_out);
} gw_fir_ops;

void gw_fir_ref(gw_fir_ops *ops);
void gw_fir_cpu(gw_fir_ops *ops);

/* How far the resampler's filter reaches to each side, in output samples: 9.3 ms at 2048 Hz. */
enum { GW_FIR_REACH = 19 };

/* The resampler's filter for a factor >= 2: h[2 * GW_FIR_REACH * factor + 1], symmetric, sum 1. A sinc
 * under a Kaiser window (J. F. Kaiser, Proc. IEEE ISCAS 1974, p. 20). Flat within 0.1 dB up to 0.88 of the
 * output's Nyquist frequency, and at least 80 dB down from 1.12 of it on, so nothing folds into that band. */
void gw_fir_lowpass(uint32_t factor, double *h);

/* A filter of small reach, for streams whose content lies below a quarter of the lower of two rates:
 * GW_FIR_SHORT samples of the lower rate to each side, h[2 * GW_FIR_SHORT * factor + 1], symmetric, sum 1,
 *   h(t) ~ sinc(t) I0(7.75 sqrt(1 - (t / GW_FIR_SHORT)^2)),   t = k / factor.
 * Flat to 0.003 dB up to a quarter of the lower rate, 76 dB down from three quarters of it on. Down:
 * y[m] = sum_k h[k] x[m * factor + k]. Up: h * factor upon x with factor - 1 zeros between its samples, which
 * passes x itself through at its own instants (gw_fir_phases). */
enum { GW_FIR_SHORT = 5 };
void gw_fir_short(uint32_t factor, double *h);

/* Straight lines between samples, for slow streams: h[2 * factor + 1], a triangle of sum 1. */
void gw_fir_triangle(uint32_t factor, double *h);

/* Interpolation as `factor` filters: those of h[2 * reach * factor + 1] (times factor) that are met at the
 * offsets 0 .. factor - 1 after a sample. Filter j is at phases + j * 2 * reach and weighs the samples
 * -reach + 1 .. reach round the one at or before the output. */
void gw_fir_phases(const double *h, uint32_t reach, uint32_t factor, double *phases);

#endif
