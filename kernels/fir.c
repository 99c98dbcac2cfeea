/* SPDX-License-Identifier: GPL-3.0-or-later
 * Design of the resampler's low-pass. Kaiser's window rather than an equiripple design: a closed formula,
 * the same bits everywhere, and its ripple falls off away from the band edge. */
#include "kernels/fir.h"

#include <math.h>
#include <stddef.h>

/* Found by a scan over reach, beta and cut-off with scipy: the shortest filter that keeps both promises of
 * the header for all factors. The cut-off is in units of the output's Nyquist frequency. */
static const double kaiser_beta = 8.0, cutoff = 0.982;

/* Modified Bessel function of the first kind, order 0, by its power series. */
static double bessel_i0(double x)
{
    double sum = 1, term = 1;
    for (int k = 1; term > 1e-18 * sum; k++) {
        term *= x / (2 * k) * (x / (2 * k));
        sum += term;
    }
    return sum;
}

void gw_fir_lowpass(uint32_t factor, double *h)
{
    const int half = GW_FIR_REACH * (int)factor;
    double sum = 0;
    for (int k = -half; k <= half; k++) {
        const double t = (double)k / factor, u = (double)k / half;
        const double sinc = k == 0 ? cutoff : sin(M_PI * cutoff * t) / (M_PI * t);
        h[k + half] = sinc * bessel_i0(kaiser_beta * sqrt(1 - u * u));
        sum += h[k + half];
    }
    for (int k = 0; k <= 2 * half; k++)
        h[k] /= sum;
}
