/* SPDX-License-Identifier: GPL-3.0-or-later
 * The true noise spectrum of a simulated detector. noise.c draws from it, injection.c and glitch.c scale
 * signals against it. PSDs are one-sided, in strain^2 / Hz, at any real frequency.
 *
 * design: 4 S_a(f) with the analytic S_a of initial LIGO / VIRGO studies (Sathyaprakash and Schutz 2009,
 *   Living Rev. Relativity 12:2, Table 1), x = f / 215 Hz:
 *   S_a = 1e-49 [x^-4.14 - 5 x^-2 + 111 (1 - x^2 + x^4 / 2) / (1 + x^2 / 2)] / Hz
 *   which at four times the power is the level of LIGO's first observing run.
 * excess: plus S(fk) (f / fk)^-p with fk in 28-62 Hz and p in 5-10, then times a smooth random tilt of
 *   10^(2 sum_k c_k cos(pi k ln(f / 8 Hz) / ln 128)), k = 1..5, c_k normal with deviation 0.06.
 * lines: plus 27 Lorentzians: mains and harmonics, calibration, suspension (violin) modes, others.
 * Below 10 Hz everything keeps its value at 10 Hz. All random choices follow from (seed, detector). */
#ifndef GW_ASD_H
#define GW_ASD_H

#include "pipeline/error.h"

#include <stdbool.h>
#include <stdint.h>

typedef struct gw_asd gw_asd;

typedef struct gw_asd_conf {
    const char *path; /* two columns: frequency in Hz, rising, and ASD in strain / sqrt(Hz); # begins a
                         comment. Read on log-log axes, constant beyond its ends. NULL = design */
    bool excess, lines;
    double scale; /* multiplies the ASD */
    uint64_t seed;
    uint32_t detector; /* number */
} gw_asd_conf;

/* GW_EMISSING, GW_EACCESS, GW_EFORMAT ("file:line: ..."). */
int gw_asd_new(gw_asd **a, const gw_asd_conf *c);
void gw_asd_destroy(gw_asd **a);

double gw_asd_floor(const gw_asd *a, double f_hz); /* PSD without the lines */
/* PSD with the lines, each of them averaged over f_hz +- width_hz / 2. */
double gw_asd_psd(const gw_asd *a, double f_hz, double width_hz);

#endif
