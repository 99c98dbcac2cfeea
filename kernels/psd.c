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
    uint32_t bins, max, count, oldest, reach; /* reach: smooth_bins */
    bool mean;
    double scale;   /* one-sided, without the doubling of the inner bins */
    double *window; /* [segment] */
    double *power;  /* [bin] of the newest segment */
    double *held;   /* [max][bin] in a ring */
    double *sorted; /* [bin][max], count of them in use */
    double *level;  /* [bin] logarithm of the average */
    double *middle; /* [bin] median of the levels around; not for the outer `reach` bins */
    double *around; /* [2 reach + 1] those levels, ascending */
    bool *alone;    /* [bin] not smoothed */
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
    free((*p)->level);
    free((*p)->middle);
    free((*p)->around);
    free((*p)->alone);
    free(*p);
    *p = NULL;
}

int gw_psd_new(gw_psd **p, const gw_spectrum_ops *ops, double rate_hz, uint32_t segment_samples,
               uint32_t max_segments, bool mean, uint32_t smooth_bins)
{
    *p = NULL;
    gw_psd *q = calloc(1, sizeof *q);
    if (!q)
        return gw_fail(GW_ENOMEM, "PSD");
    q->ops = ops;
    q->bins = segment_samples / 2 + 1;
    q->max = max_segments;
    q->mean = mean;
    /* Where that many do not fit, none is smoothed. */
    q->reach = smooth_bins < q->bins / 2 ? smooth_bins : 0;
    int err = ops->fft_new(&q->fft, segment_samples);
    q->window = calloc(segment_samples, sizeof *q->window);
    q->power = calloc(q->bins, sizeof *q->power);
    q->held = calloc((size_t)q->bins * q->max, sizeof *q->held);
    q->sorted = calloc((size_t)q->bins * q->max, sizeof *q->sorted);
    q->level = calloc(q->bins, sizeof *q->level);
    q->middle = calloc(q->bins, sizeof *q->middle);
    q->around = calloc(2 * (size_t)q->reach + 1, sizeof *q->around);
    q->alone = calloc(q->bins, sizeof *q->alone);
    if (err == GW_OK &&
        !(q->window && q->power && q->held && q->sorted && q->level && q->middle && q->around && q->alone))
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

/* Takes v out of the ascending row[n], which holds it. */
static void leave(double *row, uint32_t n, double v)
{
    const uint32_t at = place(row, n, v);
    memmove(row + at, row + at + 1, (n - 1 - at) * sizeof *row);
}

/* Puts v into the ascending row[n], which becomes one longer. */
static void enter(double *row, uint32_t n, double v)
{
    const uint32_t at = place(row, n, v);
    memmove(row + at + 1, row + at, (n - at) * sizeof *row);
    row[at] = v;
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
    gw_psd_put(p, p->power);
    return GW_OK;
}

void gw_psd_put(gw_psd *p, const double *power)
{
    const bool full = p->count == p->max;
    const uint32_t slot = full ? p->oldest : p->count;
    double *ring = p->held + (size_t)slot * p->bins;
    for (uint32_t k = 0; k < p->bins; k++) {
        double *row = p->sorted + (size_t)k * p->max;
        uint32_t used = p->count;
        if (full) {
            leave(row, used, ring[k]);
            used--;
        }
        enter(row, used, power[k]);
        ring[k] = power[k];
    }
    if (full)
        p->oldest = (p->oldest + 1) % p->max;
    else
        p->count++;
}

const double *gw_psd_held(const gw_psd *p, uint32_t i)
{
    const uint32_t slot = p->count == p->max ? (p->oldest + i) % p->max : i;
    return p->held + (size_t)slot * p->bins;
}

/* See the header. The logarithm of a bin without power is -inf: its median may be too, and the difference
 * NaN, so comparisons are written such that NaN leaves a bin alone or a pair out. */
static void smooth(gw_psd *p, double *psd)
{
    const uint32_t reach = p->reach, first = reach, end = p->bins - reach;
    if (reach == 0)
        return;
    const double limit = 4 / sqrt(p->count);
    for (uint32_t b = 0; b < p->bins; b++) {
        p->level[b] = log(psd[b]);
        p->alone[b] = b < first || b >= end;
    }
    for (uint32_t b = 0; b < 2 * reach; b++)
        enter(p->around, b, p->level[b]);
    for (uint32_t b = first; b < end; b++) {
        enter(p->around, 2 * reach, p->level[b + reach]);
        p->middle[b] = p->around[reach];
        leave(p->around, 2 * reach + 1, p->level[b - reach]);
    }
    for (uint32_t b = first; b < end; b++)
        if (!(p->level[b] <= p->middle[b] + limit))
            p->alone[b - 1] = p->alone[b] = p->alone[b + 1] = true;
    for (uint32_t b = first; b < end; b++) {
        if (p->alone[b])
            continue;
        double sum = p->level[b];
        uint32_t count = 1;
        for (uint32_t k = 1; k <= reach; k++) {
            const double pair = 0.5 * (p->level[b - k] + p->level[b + k]);
            if (p->alone[b - k] || p->alone[b + k] || !(fabs(pair - p->middle[b]) <= limit))
                continue;
            sum += 2 * pair;
            count += 2;
        }
        psd[b] = exp(sum / count);
    }
}

int gw_psd_estimate(gw_psd *p, double *psd)
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
    smooth(p, psd);
    return GW_OK;
}
