/* SPDX-License-Identifier: GPL-3.0-or-later
 * Where the detectors stand and how they see a wave: antenna factors and arrival times for H1, L1 and V1.
 * Called by the simulator. Long-wavelength limit; the Earth is at rest during a signal, turned to its
 * sidereal time at coalescence. */
#ifndef GW_DETECTOR_H
#define GW_DETECTOR_H

#include <stdint.h>

typedef struct gw_detector {
    const char *name;
    int number;        /* of this list: H1 0, L1 1, V1 2; keeps a detector's noise its own in any order */
    double place_m[3]; /* vertex, Earth-fixed, from the geocentre (WGS 84) */
    double arm_x[3], arm_y[3]; /* unit vectors along the arms, Earth-fixed */
} gw_detector;

/* NULL if unknown. */
const gw_detector *gw_detector_find(const char *name);

/* Greenwich mean sidereal time, radians in [0, 2 pi), UT1 taken as UTC (IAU 1982: Aoki et al. 1982,
 * A&A 105, 359; within 1 s of time, that is 7e-5 rad). */
double gw_sidereal_rad(int64_t gps_ns);

/* F+ and Fx for a source at (ra, dec) with polarisation angle psi, all in radians (conventions of Anderson
 * et al. 2001, Phys. Rev. D 63, 042003, as in LAL: h = F+ h+ + Fx hx). */
void gw_detector_antenna(const gw_detector *d, double ra, double dec, double psi, double sidereal_rad,
                         double *plus, double *cross);

/* Arrival at the detector minus arrival at the geocentre. */
double gw_detector_delay_s(const gw_detector *d, double ra, double dec, double sidereal_rad);

#endif
