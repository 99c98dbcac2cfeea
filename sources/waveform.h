/* SPDX-License-Identifier: GPL-3.0-or-later
 * Inspiral, merger and ringdown of two black holes by the closed formula IMRPhenomB, in the frequency
 * domain. Called by injection.c, which projects the result onto detectors.
 *
 * Source: Ajith et al. 2011, Phys. Rev. Lett. 106, 241101 (arXiv:0909.2867), equations 1 and 2 and
 * Table I. Aligned spins, through chi = (m1 s1 + m2 s2) / (m1 + m2); fitted for mass ratios up to 4 and
 * |chi| up to 0.85; (2,2) mode only, no precession, no eccentricity, no tides. Masses are those in the
 * detector's frame, in solar masses. */
#ifndef GW_WAVEFORM_H
#define GW_WAVEFORM_H

#include "pipeline/clock.h"
#include "pipeline/error.h"

#include <complex.h>

/* What the simulator accepts. */
#define GW_MASS_MIN       1.2 /* lighter pairs would not fit into 256 s */
#define GW_MASS_MAX       300.0
#define GW_TOTAL_MASS_MAX 400.0
#define GW_SPIN_MAX       0.99

/* The formula's constants for one binary. */
typedef struct gw_phenom {
    double mass_s;             /* pi G M / c^3 */
    double phase0, phase[9];   /* 3 / (128 eta); psi_0 .. psi_8 */
    double alpha2, alpha3;     /* inspiral amplitude */
    double epsilon1, epsilon2; /* merger amplitude */
    double merger_weight, ring_weight;
    double merger_hz, ring_hz, width_hz, cut_hz;
    double amplitude; /* strain / Hz at merger_hz, optimally oriented, at 1 Mpc */
} gw_phenom;

void gw_phenom_init(gw_phenom *p, double mass1, double mass2, double chi);
/* h+ at f_hz > 0, seen face-on from 1 Mpc, in strain / Hz; transform exp(-2 pi i f t). Its time and phase
 * of coalescence are arbitrary. Not cut at cut_hz. */
double complex gw_phenom_strain(const gw_phenom *p, double f_hz);

/* A waveform on a grid of frequencies, ready to be put on samples. */
typedef struct gw_waveform {
    double df_hz;
    uint32_t n_samples; /* of the time series that the grid stands for: rate / df_hz */
    uint32_t n_bins;    /* bins [n_bins] and above are zero */
    double complex *h;  /* [n_bins] h+ in strain / Hz, face-on from 1 Mpc; the largest |h+ - i hx| is at
                           time 0 and has phase 0 there */
} gw_waveform;

/* How long before and after coalescence a waveform's samples reach: a power of two of seconds, 8 to 256,
 * of which GW_AFTER_S lie after. */
#define GW_AFTER_S 0.75
double gw_waveform_seconds(double mass1, double mass2);

/* From about 5 s before coalescence, or from 20 Hz if that is earlier, but from 10 Hz at the lowest; a
 * cosine taper over the first fifth of that frequency. Band-limited to the Nyquist frequency of `rate`.
 * GW_ERANGE when nothing of it lies below that. */
int gw_waveform_new(gw_waveform **w, double mass1, double mass2, double chi, gw_rate rate);
void gw_waveform_destroy(gw_waveform **w);

#endif
