/* SPDX-License-Identifier: GPL-3.0-or-later
 * Overlapping segments of Gaussian noise. Segment j covers the samples [j, j + 2) half segments; only the
 * current one and the second half of the one before it are kept. */
#include "sources/noise.h"

#include "sources/fourier.h"
#include "sources/random.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const double segment_s = 16;
enum { SHORTEST = 64 };

struct gw_noise {
    gw_fourier *fourier; /* its time[] is the current segment, windowed */
    uint32_t n, half;    /* samples of a segment and of its half */
    double df_hz;
    double *deviation; /* [n / 2] of the real and of the imaginary part of each bin */
    double *window;    /* [half] rising half of the sine */
    double *tail;      /* [half] second half of the segment before */
    int64_t segment;   /* the current one */
    bool filled;
    uint64_t seed;
    uint32_t detector;
};

static uint32_t segment_samples(gw_rate rate)
{
    return 2 * gw_fourier_size(fmax(0.5 * segment_s * gw_rate_hz(rate), SHORTEST / 2));
}

size_t gw_noise_bytes(gw_rate rate)
{
    return (size_t)segment_samples(rate) * sizeof(double) * 4;
}

/* All but the spectrum. */
static int new_segments(gw_noise **out, gw_rate rate, uint64_t seed, uint32_t detector)
{
    *out = NULL;
    gw_noise *n = calloc(1, sizeof *n);
    if (!n)
        return gw_fail(GW_ENOMEM, "noise at %g Hz", gw_rate_hz(rate));
    n->n = segment_samples(rate);
    n->half = n->n / 2;
    n->df_hz = gw_rate_hz(rate) / n->n;
    n->seed = seed;
    n->detector = detector;
    n->deviation = malloc(n->half * sizeof *n->deviation);
    n->window = malloc(n->half * sizeof *n->window);
    n->tail = malloc(n->half * sizeof *n->tail);
    int err = n->deviation && n->window && n->tail ? gw_fourier_new(&n->fourier, n->n)
                                                   : gw_fail(GW_ENOMEM, "noise at %g Hz", gw_rate_hz(rate));
    if (err != GW_OK) {
        gw_noise_destroy(&n);
        return err;
    }
    n->deviation[0] = 0; /* no constant offset */
    for (uint32_t i = 0; i < n->half; i++)
        n->window[i] = sin(M_PI * (i + 0.5) / n->n);
    *out = n;
    return GW_OK;
}

int gw_noise_new(gw_noise **out, const gw_asd *asd, gw_rate rate, uint64_t seed, uint32_t detector)
{
    GW_TRY(new_segments(out, rate, seed, detector));
    gw_noise *n = *out;
    /* A bin of width df holds the power S df, on two sides, in two parts. */
    for (uint32_t k = 1; k < n->half; k++)
        n->deviation[k] = sqrt(gw_asd_psd(asd, k * n->df_hz, n->df_hz) * n->df_hz / 4);
    return GW_OK;
}

int gw_noise_new_band(gw_noise **out, double low_hz, double high_hz, gw_rate rate, uint64_t seed,
                      uint32_t part)
{
    GW_TRY(new_segments(out, rate, seed, part));
    gw_noise *n = *out;
    const double last = n->half - 1;
    const uint32_t from = (uint32_t)fmin(fmax(ceil(low_hz / n->df_hz), 1), last);
    const uint32_t to = (uint32_t)fmax(fmin(floor(high_hz / n->df_hz), last), from);
    for (uint32_t k = 1; k < n->half; k++)
        n->deviation[k] = k >= from && k <= to ? sqrt(0.25 / (to - from + 1)) : 0;
    return GW_OK;
}

static void make_segment(gw_noise *n, int64_t segment)
{
    gw_random r = gw_random_at(n->seed, GW_FOR_NOISE, n->detector, segment);
    double complex *bin = n->fourier->bins;
    bin[0] = bin[n->half] = 0;
    for (uint32_t k = 1; k < n->half; k++) {
        double z[2];
        gw_random_normals(&r, z);
        bin[k] = n->deviation[k] * z[0] + I * (n->deviation[k] * z[1]);
    }
    gw_fourier_inverse(n->fourier);
    double *x = n->fourier->time;
    for (uint32_t i = 0; i < n->half; i++) {
        x[i] *= n->window[i];
        x[n->n - 1 - i] *= n->window[i];
    }
    n->segment = segment;
}

static void go_to(gw_noise *n, int64_t segment)
{
    if (n->filled && n->segment == segment)
        return;
    if (!n->filled || n->segment != segment - 1)
        make_segment(n, segment - 1);
    memcpy(n->tail, n->fourier->time + n->half, n->half * sizeof *n->tail);
    make_segment(n, segment);
    n->filled = true;
}

void gw_noise_fill(gw_noise *n, int64_t sample0, uint32_t n_samples, double *x)
{
    while (n_samples) {
        const int64_t half = n->half;
        const int64_t segment = sample0 / half - (sample0 % half < 0);
        const uint32_t from = (uint32_t)(sample0 - segment * half);
        const uint32_t count = n_samples < n->half - from ? n_samples : n->half - from;
        go_to(n, segment);
        for (uint32_t i = 0; i < count; i++)
            x[i] = n->tail[from + i] + n->fourier->time[from + i];
        x += count;
        sample0 += count;
        n_samples -= count;
    }
}

double gw_noise_psd(const gw_noise *n, double f_hz)
{
    const double at = f_hz / n->df_hz;
    const uint32_t k = at < 1 ? 1 : at > n->half - 2 ? n->half - 2 : (uint32_t)at;
    const double low = n->deviation[k], high = n->deviation[k + 1], x = at - k;
    const double psd = low * low + x * (high * high - low * low);
    return 4 / n->df_hz * (psd > 0 ? psd : low * low);
}

void gw_noise_destroy(gw_noise **n)
{
    if (!*n)
        return;
    gw_fourier_destroy(&(*n)->fourier);
    free((*n)->deviation);
    free((*n)->window);
    free((*n)->tail);
    free(*n);
    *n = NULL;
}
