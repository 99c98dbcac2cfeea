/* SPDX-License-Identifier: GPL-3.0-or-later
 * The design of whitening filters; see the header for the formulas.
 *
 * Outside the pass band the target is 0, whose logarithm does not exist: the magnitude is floored smoothly,
 * sqrt(a^2 + floor^2). The floor lies 100 dB below the peak: at 80 dB the seismic wall of the first observing
 * runs (8 Hz: 7000 times the noise at 100 Hz) came through with 12 % of the in-band rms, at 100 dB with 1 %.
 */
#include "kernels/whitening.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static const double floor_ratio = 1e-5;

struct gw_whitening {
    const gw_spectrum_ops *ops;
    gw_fft *fft;
    const gw_minphase_ops *single; /* NULL: in double, by ops and fft */
    gw_minphase *minphase;
    gw_whitening_shape shape;
    double *root;         /* [psd_bins] S^(-1/2) */
    float *ramp32;        /* [grid / 2 + 1] of a single one */
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
    free((*w)->ramp32);
    free((*w)->taper);
    free((*w)->bump);
    free(*w);
    *w = NULL;
}

static int make(gw_whitening **w, uint32_t points, const gw_whitening_shape *s)
{
    *w = NULL;
    const uint32_t grid_bins = s->grid_samples / 2 + 1, n = s->n_taps;
    if (points != s->grid_samples || n < 3 || n >= s->grid_samples / 2 || s->psd_bins < 2 ||
        (s->linear && n % 2 == 0))
        return gw_fail(GW_ERANGE, "a whitening filter of %u taps does not fit a grid of %u samples", n,
                       s->grid_samples);
    gw_whitening *q = calloc(1, sizeof *q);
    if (q) {
        q->shape = *s;
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

int gw_whitening_new(gw_whitening **w, const gw_spectrum_ops *ops, gw_fft *fft, const gw_whitening_shape *s)
{
    GW_TRY(make(w, fft->n, s));
    (*w)->ops = ops;
    (*w)->fft = fft;
    return GW_OK;
}

int gw_whitening_new_single(gw_whitening **w, const gw_minphase_ops *ops, gw_minphase *m,
                            const gw_whitening_shape *s)
{
    GW_TRY(make(w, m->n, s));
    const uint32_t bins = s->grid_samples / 2 + 1;
    (*w)->single = ops;
    (*w)->minphase = m;
    (*w)->ramp32 = calloc(bins, sizeof *(*w)->ramp32);
    if (!(*w)->ramp32 || s->linear) {
        gw_whitening_destroy(w);
        return s->linear ? gw_fail(GW_ENOTSUP, "linear phase is not designed in single precision")
                         : gw_fail(GW_ENOMEM, "whitening filter of %u taps", s->n_taps);
    }
    for (uint32_t k = 0; k < bins; k++)
        (*w)->ramp32[k] = (float)(*w)->ramp[k];
    return GW_OK;
}

/* root[] from the PSD; false if that cannot be used. */
static bool set_root(gw_whitening *w, const double *psd)
{
    const gw_whitening_shape *s = &w->shape;
    const double bin_hz = 0.5 * s->rate_hz / (s->psd_bins - 1);
    for (uint32_t b = 0; b < s->psd_bins; b++) {
        const bool usable = psd[b] >= DBL_MIN;
        if (!usable && b * bin_hz > s->highpass_hz[0] - bin_hz && b * bin_hz < s->lowpass_hz[1] + bin_hz)
            return false;
        w->root[b] = !usable ? 0 : w->single ? (double)(1 / sqrtf((float)psd[b])) : 1 / sqrt(psd[b]);
    }
    return true;
}

/* fft->freq[].re becomes the target magnitude; returns its peak. */
static double set_target(gw_whitening *w)
{
    const gw_whitening_shape *s = &w->shape;
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

/* minphase->power becomes the square of the target over its peak, with the floor; returns the peak. */
static double set_power(gw_whitening *w)
{
    const uint32_t bins = w->shape.grid_samples / 2 + 1, last = w->shape.psd_bins - 1;
    float *a = w->minphase->h; /* not used yet */
    const float *ramp = w->ramp32;
    const double step = (double)last / (bins - 1);
    for (uint32_t b = 0, k = 0; b < last; b++) {
        const double slope = w->root[b + 1] - w->root[b];
        const uint32_t end =
            b + 1 == last ? bins : (uint32_t)(((uint64_t)(b + 1) * (bins - 1) + last - 1) / last);
        const float from = (float)(w->root[b] + (k * step - b) * slope), by = (float)(step * slope);
        for (uint32_t i = 0; i < end - k; i++)
            a[k + i] = ramp[k + i] * (from + (float)i * by);
        k = end;
    }
    float peak = 0;
    for (uint32_t k = 0; k < bins; k++)
        peak = a[k] > peak ? a[k] : peak;
    if (!(peak > 0) || !isfinite(peak))
        return 0;
    const float unit = 1 / peak, least = (float)(floor_ratio * floor_ratio);
    for (uint32_t k = 0; k < bins; k++)
        w->minphase->power[k] = unit * a[k] * (unit * a[k]) + least;
    return (double)peak;
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

/* Under the taper, and corrected to sum to zero. */
static void finish(const gw_whitening *w, double *taps)
{
    const uint32_t n = w->shape.n_taps;
    double sum = 0;
    for (uint32_t t = 0; t < n; t++) {
        taps[t] *= w->taper[t];
        sum += taps[t];
    }
    for (uint32_t t = 0; t < n; t++)
        taps[t] -= sum * w->bump[t];
}

int gw_whitening_design(gw_whitening *w, const double *psd, double *taps)
{
    const uint32_t n = w->shape.n_taps, grid = w->shape.grid_samples;
    const double peak = !set_root(w, psd) ? 0 : w->single ? set_power(w) : set_target(w);
    if (!(peak > 0) || !isfinite(peak))
        return gw_fail(GW_ERANGE, "the PSD is zero or not finite inside the pass band");
    if (w->single) {
        w->single->minphase_run(w->minphase);
        for (uint32_t t = 0; t < n; t++)
            taps[t] = peak * (double)w->minphase->h[t];
        finish(w, taps);
        return GW_OK;
    }
    uint32_t first = 0;
    if (w->shape.linear) {
        w->ops->fft_inverse(w->fft);
        first = grid - (n - 1) / 2; /* the response is symmetric about sample 0 of a periodic grid */
    } else {
        minimum_phase(w, peak);
    }
    for (uint32_t t = 0; t < n; t++)
        taps[t] = w->fft->time[(first + t) % grid];
    finish(w, taps);
    return GW_OK;
}

double gw_whitening_fraction(const gw_whitening_shape *s)
{
    /* The mean of sin^4 over a quarter period is 3/8. */
    const double pass = s->lowpass_hz[0] - s->highpass_hz[1] +
                        0.375 * (s->highpass_hz[1] - s->highpass_hz[0] + s->lowpass_hz[1] - s->lowpass_hz[0]);
    return pass / (0.5 * s->rate_hz);
}
