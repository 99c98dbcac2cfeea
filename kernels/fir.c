/* SPDX-License-Identifier: GPL-3.0-or-later
 * Design of the resampler's low-pass. Kaiser's window rather than an equiripple design: a closed formula,
 * the same bits everywhere, and its ripple falls off away from the band edge. */
#include "kernels/fir.h"

#include <math.h>
#include <stddef.h>

/* Found by a scan over reach, beta and cut-off with scipy: the shortest filter that keeps both promises of
 * the header for all factors. The cut-off is in units of the output's Nyquist frequency. */
static const double kaiser_beta = 8.0, cutoff = 0.982;

/* For the short filter, likewise: the least ripple at a reach of 5. Its cut-off is the lower Nyquist
 * frequency itself, so that interpolation meets the samples. */
static const double short_beta = 7.75;

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

void gw_fir_short(uint32_t factor, double *h)
{
    const int half = GW_FIR_SHORT * (int)factor;
    double sum = 0;
    for (int k = -half; k <= half; k++) {
        const double t = (double)k / factor, u = (double)k / half;
        const double sinc = k == 0 ? 1 : k % (int)factor == 0 ? 0 : sin(M_PI * t) / (M_PI * t);
        h[k + half] = sinc * bessel_i0(short_beta * sqrt(1 - u * u));
        sum += h[k + half];
    }
    for (int k = 0; k <= 2 * half; k++)
        h[k] /= sum;
}

void gw_fir_triangle(uint32_t factor, double *h)
{
    const int half = (int)factor;
    for (int k = -half; k <= half; k++)
        h[k + half] = (1 - fabs((double)k) / half) / half;
}

void gw_fir_phases(const double *h, uint32_t reach, uint32_t factor, double *phases)
{
    const size_t half = (size_t)reach * factor;
    for (size_t j = 0; j < factor; j++)
        for (size_t k = 0; k < 2 * (size_t)reach; k++) /* sample -reach + 1 + k lies j + (reach - 1 - k) *
                                                          factor before the output */
            phases[j * 2 * reach + k] = factor * h[half + j + (reach - 1) * factor - k * factor];
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
