/* SPDX-License-Identifier: GPL-3.0-or-later
 * How far a detector sees: the sky-averaged distance at which the inspiral of two neutron stars of 1.4 solar
 * masses each has SNR 8. Pure; called by the whitener once a tick.
 *
 * The leading-order inspiral seen face on from overhead at distance D has
 *   |h(f)| = sqrt(5 / 24) pi^(-2/3) (G M)^(5/6) c^(-3/2) f^(-7/6) / D
 * with the chirp mass M (Allen et al., Phys. Rev. D 85, 122006, eq. 3.4), the SNR^2 is 4 times the integral
 * of |h|^2 / S, from 10 Hz to twice the orbital frequency of the innermost stable circular orbit,
 * c^3 / (6^(3/2) pi G (m1 + m2)) = 1570 Hz, and the mean over the sky and orientations divides the distance
 * by 2.2648 (Finn & Chernoff, Phys. Rev. D 47, 2198; Chen et al., arXiv:1709.08079). */
#ifndef GW_RANGE_H
#define GW_RANGE_H

#include <stdint.h>

/* In Mpc. psd[bins], strain^2 / Hz, one-sided, bin k at k * bin_hz. Bins above high_hz are left out, beyond
 * which the PSD is not the detector's (an anti-alias filter); so are bins without power. Sums the bins. */
double gw_range_mpc(const double *psd, uint32_t bins, double bin_hz, double high_hz);

#endif
