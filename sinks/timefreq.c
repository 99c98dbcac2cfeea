/* SPDX-License-Identifier: GPL-3.0-or-later
 * Time-frequency energy and one band of whitened strain, for pictures. Called by plot.c only.
 *
 * Each row of the map turns the strain down by its frequency once, for all columns; a column is then the
 * sum of what lies under the window. Written for clarity: two detectors take about 0.1 s. */
#include "sinks/timefreq.h"

#include "pipeline/error.h"

#include <math.h>
#include <stdlib.h>

static const double two_pi = 6.283185307179586;

/* z = x exp(-i w n), NaN as 0. */
static void turn_down(const gw_series *s, double f_hz, float *re, float *im)
{
    double w = two_pi * f_hz / s->rate_hz;
    for (size_t n = 0; n < s->n; n++) {
        double x = isnan(s->x[n]) ? 0 : (double)s->x[n], phase = fmod(w * (double)n, two_pi);
        re[n] = (float)(x * cos(phase));
        im[n] = (float)(-x * sin(phase));
    }
}

/* half[k] = w(k samples); returns how many are worth it (down to 1 %). */
static size_t gaussian(double sigma_samples, size_t most, float *half, double *energy)
{
    size_t n = (size_t)ceil(3.03 * sigma_samples) + 1;
    n = n < most ? n : most;
    *energy = 0;
    for (size_t k = 0; k < n; k++) {
        double u = (double)k / sigma_samples, w = exp(-0.5 * u * u);
        half[k] = (float)w;
        *energy += (k ? 2 : 1) * w * w;
    }
    return n;
}

static float under_window(const gw_series *s, const float *re, const float *im, size_t at, const float *half,
                          size_t n, double energy)
{
    float a = re[at] * half[0], b = im[at] * half[0];
    size_t before = at < n - 1 ? at : n - 1, after = s->n - 1 - at < n - 1 ? s->n - 1 - at : n - 1;
    for (size_t k = 1; k <= before; k++) {
        a += re[at - k] * half[k];
        b += im[at - k] * half[k];
    }
    for (size_t k = 1; k <= after; k++) {
        a += re[at + k] * half[k];
        b += im[at + k] * half[k];
    }
    return (float)(((double)a * (double)a + (double)b * (double)b) / energy);
}

int gw_timefreq(const gw_series *s, double q, const double *f_hz, size_t rows, const double *t_s, size_t cols,
                float *energy)
{
    float *work = malloc((3 * s->n + 1) * sizeof *work);
    if (!work)
        return gw_fail(GW_ENOMEM, "time-frequency map: out of memory");
    float *re = work, *im = work + s->n, *half = im + s->n;
    for (size_t r = 0; r < rows; r++) {
        double window_energy;
        size_t n = gaussian(q / (two_pi * f_hz[r]) * s->rate_hz, s->n + 1, half, &window_energy);
        turn_down(s, f_hz[r], re, im);
        for (size_t c = 0; c < cols; c++) {
            double at = nearbyint((t_s[c] - s->t0_s) * s->rate_hz);
            bool there = at >= 0 && at < (double)s->n && !isnan(s->x[(size_t)at]);
            energy[r * cols + c] = there ? under_window(s, re, im, (size_t)at, half, n, window_energy) : NAN;
        }
    }
    free(work);
    return 0;
}

int gw_band_pass(const gw_series *s, double low_hz, double high_hz, float *y)
{
    size_t half = (size_t)(s->rate_hz / 16);
    double *tap = malloc((half + 1) * sizeof *tap);
    if (!tap)
        return gw_fail(GW_ENOMEM, "band pass: out of memory");
    double lo = 2 * low_hz / s->rate_hz, hi = 2 * high_hz / s->rate_hz; /* cycles in two samples */
    tap[0] = hi - lo;
    for (size_t k = 1; k <= half; k++) {
        double u = (double)k * two_pi / 2, hann = 0.5 + 0.5 * cos(u / (double)(half + 1));
        tap[k] = hann * (sin(hi * u) - sin(lo * u)) / u;
    }
    for (size_t n = 0; n < s->n; n++) {
        if (isnan(s->x[n])) {
            y[n] = NAN;
            continue;
        }
        double sum = tap[0] * (double)s->x[n];
        for (size_t k = 1; k <= half; k++) {
            if (n >= k && !isnan(s->x[n - k]))
                sum += tap[k] * (double)s->x[n - k];
            if (n + k < s->n && !isnan(s->x[n + k]))
                sum += tap[k] * (double)s->x[n + k];
        }
        y[n] = (float)sum;
    }
    free(tap);
    return 0;
}
