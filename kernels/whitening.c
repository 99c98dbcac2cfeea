/* SPDX-License-Identifier: GPL-3.0-or-later
 * The design of whitening filters; see the header for the formulas.
 *
 * Outside the pass band the target is 0, whose logarithm does not exist: the magnitude is floored smoothly,
 * sqrt(a^2 + floor^2). The floor lies 100 dB below the peak: at 80 dB the seismic wall of the first observing
 * runs (8 Hz: 7000 times the noise at 100 Hz) came through with 12 % of the in-band rms, at 100 dB with 1 %.
 */
#include "kernels/whitening.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const double floor_ratio = 1e-5;

struct gw_whitening {
    const gw_spectrum_ops *ops;
    gw_fft *fft;
    gw_whitening_shape shape;
    double *root;         /* [psd_bins] S^(-1/2) */
    double *ramp;         /* [grid / 2 + 1] times sqrt(2 / fs) */
    double *taper, *bump; /* [n_taps]; the bump sums to 1 */
};

/* 0 below `from`, 1 above `to`, sin^2 between. */
static double rise(double f, double from, double to)
{
    if (f <= from)
        return 0;
    if (f >= to)
        return 1;
    const double s = sin(M_PI / 2 * (f - from) / (to - from));
    return s * s;
}

void gw_whitening_destroy(gw_whitening **w)
{
    if (!*w)
        return;
    free((*w)->root);
    free((*w)->ramp);
    free((*w)->taper);
    free((*w)->bump);
    free(*w);
    *w = NULL;
}

int gw_whitening_new(gw_whitening **w, const gw_spectrum_ops *ops, gw_fft *fft, const gw_whitening_shape *s)
{
    *w = NULL;
    const uint32_t grid_bins = s->grid_samples / 2 + 1, n = s->n_taps;
    if (fft->n != s->grid_samples || n < 3 || n >= s->grid_samples / 2 || s->psd_bins < 2 ||
        (s->linear && n % 2 == 0))
        return gw_fail(GW_ERANGE, "a whitening filter of %u taps does not fit a grid of %u samples", n,
                       s->grid_samples);
    gw_whitening *q = calloc(1, sizeof *q);
    if (q) {
        *q = (gw_whitening){.ops = ops, .fft = fft, .shape = *s};
        q->root = calloc(s->psd_bins, sizeof *q->root);
        q->ramp = calloc(grid_bins, sizeof *q->ramp);
        q->taper = calloc(n, sizeof *q->taper);
        q->bump = calloc(n, sizeof *q->bump);
    }
    if (!q || !q->root || !q->ramp || !q->taper || !q->bump) {
        gw_whitening_destroy(&q);
        return gw_fail(GW_ENOMEM, "whitening filter of %u taps", n);
    }
    for (uint32_t k = 0; k < grid_bins; k++) {
        const double f = (double)s->rate_hz * k / s->grid_samples;
        q->ramp[k] = sqrt(2.0 / s->rate_hz) * rise(f, s->highpass_hz[0], s->highpass_hz[1]) *
                     (1 - rise(f, s->lowpass_hz[0], s->lowpass_hz[1]));
    }
    double sum = 0;
    for (uint32_t t = 0; t < n; t++) {
        const double c = s->linear ? sin(M_PI * t / (n - 1)) : cos(M_PI / 2 * t / n);
        const double b = sin(M_PI * (t + 0.5) / n);
        q->taper[t] = c * c;
        q->bump[t] = b * b;
        sum += q->bump[t];
    }
    for (uint32_t t = 0; t < n; t++)
        q->bump[t] /= sum;
    *w = q;
    return GW_OK;
}

/* fft->freq[].re becomes the target magnitude; returns its peak, or 0 if the PSD cannot be used. */
static double set_target(gw_whitening *w, const double *psd)
{
    const gw_whitening_shape *s = &w->shape;
    const double bin_hz = 0.5 * s->rate_hz / (s->psd_bins - 1);
    for (uint32_t b = 0; b < s->psd_bins; b++) {
        const bool usable = psd[b] > 0 && isfinite(1 / psd[b]);
        if (!usable && b * bin_hz > s->highpass_hz[0] - bin_hz && b * bin_hz < s->lowpass_hz[1] + bin_hz)
            return 0;
        w->root[b] = usable ? 1 / sqrt(psd[b]) : 0;
    }
    double peak = 0;
    const uint32_t bins = s->grid_samples / 2 + 1;
    for (uint32_t k = 0; k < bins; k++) {
        const double x = (double)k * (s->psd_bins - 1) / (bins - 1);
        uint32_t b = (uint32_t)x;
        b = b > s->psd_bins - 2 ? s->psd_bins - 2 : b;
        const double a = w->ramp[k] * (w->root[b] + (x - b) * (w->root[b + 1] - w->root[b]));
        w->fft->freq[k] = (gw_complex){a, 0};
        peak = a > peak ? a : peak;
    }
    return peak;
}

/* freq: magnitude -> time: the minimum-phase sequence. */
static void minimum_phase(gw_whitening *w, double peak)
{
    gw_fft *f = w->fft;
    const uint32_t half = f->n / 2;
    const double floor2 = peak * floor_ratio * (peak * floor_ratio);
    for (uint32_t k = 0; k <= half; k++)
        f->time[k] = f->freq[k].re * f->freq[k].re + floor2;
    w->ops->log(f->time, half + 1);
    for (uint32_t k = 0; k <= half; k++)
        f->freq[k] = (gw_complex){0.5 * f->time[k], 0};
    w->ops->fft_inverse(f);
    for (uint32_t j = 1; j < half; j++)
        f->time[j] *= 2;
    memset(f->time + half + 1, 0, (half - 1) * sizeof *f->time);
    w->ops->fft_forward(f);
    w->ops->exp(f->freq, half + 1);
    w->ops->fft_inverse(f);
}

int gw_whitening_design(gw_whitening *w, const double *psd, double *taps)
{
    const uint32_t n = w->shape.n_taps, grid = w->shape.grid_samples;
    const double peak = set_target(w, psd);
    if (!(peak > 0) || !isfinite(peak))
        return gw_fail(GW_ERANGE, "the PSD is zero or not finite inside the pass band");
    uint32_t first = 0;
    if (w->shape.linear) {
        w->ops->fft_inverse(w->fft);
        first = grid - (n - 1) / 2; /* the response is symmetric about sample 0 of a periodic grid */
    } else {
        minimum_phase(w, peak);
    }
    double sum = 0;
    for (uint32_t t = 0; t < n; t++) {
        taps[t] = w->fft->time[(first + t) % grid] * w->taper[t];
        sum += taps[t];
    }
    for (uint32_t t = 0; t < n; t++)
        taps[t] -= sum * w->bump[t];
    return GW_OK;
}

double gw_whitening_fraction(const gw_whitening_shape *s)
{
    /* The mean of sin^4 over a quarter period is 3/8. */
    const double pass = s->lowpass_hz[0] - s->highpass_hz[1] +
                        0.375 * (s->highpass_hz[1] - s->highpass_hz[0] + s->lowpass_hz[1] - s->lowpass_hz[0]);
    return pass / (0.5 * s->rate_hz);
}
