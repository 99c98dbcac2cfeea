/* SPDX-License-Identifier: GPL-3.0-or-later
 * The range of a detector; the formula is in the header. */
#include "kernels/range.h"

#include <math.h>

static const double sun_s = 4.925490947641267e-6; /* G m_sun / c^3 */
static const double mpc_s = 1.0292712503e14;      /* Mpc / c */
static const double mass = 1.4, snr = 8, sky = 2.2648, low_hz = 10;

double gw_range_mpc(const double *psd, uint32_t bins, double bin_hz, double high_hz)
{
    const double isco_hz = 1 / (pow(6, 1.5) * M_PI * 2 * mass * sun_s);
    const double end_hz = fmin(isco_hz, high_hz);
    double sum = 0;
    for (uint32_t k = 0; k < bins; k++) {
        const double f = k * bin_hz;
        if (f >= low_hz && f <= end_hz && psd[k] > 0 && isfinite(psd[k]))
            sum += pow(f, -7.0 / 3) / psd[k];
    }
    const double chirp_s = mass * pow(2, -0.2) * sun_s; /* (m1 m2)^(3/5) / (m1 + m2)^(1/5) */
    const double amplitude_s = sqrt(5.0 / 24) * pow(M_PI, -2.0 / 3) * pow(chirp_s, 5.0 / 6);
    return amplitude_s * sqrt(4 * sum * bin_hz) / snr / sky / mpc_s;
}
