/* SPDX-License-Identifier: GPL-3.0-or-later
 * Each bin keeps its powers sorted, so a new segment costs one removal and one insertion in a short row
 * instead of a sort, and the median is read off. `held` remembers which power leaves next. */
#include "kernels/psd.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

struct gw_psd {
    const gw_spectrum_ops *ops;
    gw_fft *fft;
    uint32_t bins, max, count, oldest;
    bool mean;
    double scale;   /* one-sided, without the doubling of the inner bins */
    double *window; /* [segment] */
    double *power;  /* [bin] of the newest segment */
    double *held;   /* [max][bin] in a ring */
    double *sorted; /* [bin][max], count of them in use */
};

void gw_psd_destroy(gw_psd **p)
{
    if (!*p)
        return;
    (*p)->ops->fft_destroy(&(*p)->fft);
    free((*p)->window);
    free((*p)->power);
    free((*p)->held);
    free((*p)->sorted);
    free(*p);
    *p = NULL;
}

int gw_psd_new(gw_psd **p, const gw_spectrum_ops *ops, double rate_hz, uint32_t segment_samples,
               uint32_t max_segments, bool mean)
{
    *p = NULL;
    gw_psd *q = calloc(1, sizeof *q);
    if (!q)
        return gw_fail(GW_ENOMEM, "PSD");
    q->ops = ops;
    q->bins = segment_samples / 2 + 1;
    q->max = max_segments;
    q->mean = mean;
    int err = ops->fft_new(&q->fft, segment_samples);
    q->window = calloc(segment_samples, sizeof *q->window);
    q->power = calloc(q->bins, sizeof *q->power);
    q->held = calloc((size_t)q->bins * q->max, sizeof *q->held);
    q->sorted = calloc((size_t)q->bins * q->max, sizeof *q->sorted);
    if (err == GW_OK && !(q->window && q->power && q->held && q->sorted))
        err = gw_fail(GW_ENOMEM, "PSD of %u bins over %u segments", q->bins, q->max);
    if (err != GW_OK) {
        gw_psd_destroy(&q);
        return err;
    }
    double sum = 0;
    for (uint32_t j = 0; j < segment_samples; j++) {
        q->window[j] = 0.5 - 0.5 * cos(2 * M_PI * j / segment_samples);
        sum += q->window[j] * q->window[j];
    }
    q->scale = 1 / (rate_hz * sum);
    *p = q;
    return GW_OK;
}

void gw_psd_forget(gw_psd *p)
{
    p->count = p->oldest = 0;
}

uint32_t gw_psd_segments(const gw_psd *p)
{
    return p->count;
}

/* First place in the ascending row[n] whose value is not below v. */
static uint32_t place(const double *row, uint32_t n, double v)
{
    uint32_t lo = 0;
    while (n > 0) {
        const uint32_t half = n / 2;
        if (row[lo + half] < v) {
            lo += half + 1;
            n -= half + 1;
        } else {
            n = half;
        }
    }
    return lo;
}

int gw_psd_add(gw_psd *p, const double *x)
{
    const uint32_t n = p->fft->n;
    double mean = 0;
    for (uint32_t j = 0; j < n; j++)
        mean += x[j];
    mean /= n;
    for (uint32_t j = 0; j < n; j++)
        p->fft->time[j] = (x[j] - mean) * p->window[j];
    p->ops->fft_forward(p->fft);
    double total = 0;
    for (uint32_t k = 0; k < p->bins; k++) {
        const gw_complex z = p->fft->freq[k];
        p->power[k] = (z.re * z.re + z.im * z.im) * p->scale * (k == 0 || k == n / 2 ? 1 : 2);
        total += p->power[k];
    }
    if (!isfinite(total))
        return gw_fail(GW_ERANGE, "the power of a PSD segment is not finite");

    const bool full = p->count == p->max;
    const uint32_t slot = full ? p->oldest : p->count;
    double *ring = p->held + (size_t)slot * p->bins;
    for (uint32_t k = 0; k < p->bins; k++) {
        double *row = p->sorted + (size_t)k * p->max;
        uint32_t used = p->count;
        if (full) {
            const uint32_t gone = place(row, used, ring[k]);
            used--;
            memmove(row + gone, row + gone + 1, (used - gone) * sizeof *row);
        }
        const uint32_t at = place(row, used, p->power[k]);
        memmove(row + at + 1, row + at, (used - at) * sizeof *row);
        row[at] = p->power[k];
        ring[k] = p->power[k];
    }
    if (full)
        p->oldest = (p->oldest + 1) % p->max;
    else
        p->count++;
    return GW_OK;
}

int gw_psd_estimate(const gw_psd *p, double *psd)
{
    const uint32_t n = p->count;
    if (n == 0)
        return gw_fail(GW_EAGAIN, "no PSD segment yet");
    double bias = 1;
    for (uint32_t k = 1; k <= (n - 1) / 2; k++)
        bias += 1.0 / (2 * k + 1) - 1.0 / (2 * k);
    for (uint32_t b = 0; b < p->bins; b++) {
        const double *row = p->sorted + (size_t)b * p->max;
        if (p->mean) {
            double sum = 0;
            for (uint32_t i = 0; i < n; i++)
                sum += row[i];
            psd[b] = sum / n;
        } else {
            psd[b] = 0.5 * (row[(n - 1) / 2] + row[n / 2]) / bias;
        }
    }
    return GW_OK;
}
