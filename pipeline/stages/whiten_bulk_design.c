/* SPDX-License-Identifier: GPL-3.0-or-later
 * Design of bulk filters. The transforms' grid is 4 s, or 4 filters where these are longer: the coarse PSD
 * has a short cepstrum, so the 16 s of the search's own channels would buy nothing. */
#include "pipeline/stages/whiten_bulk_design.h"

#include "kernels/whitening.h"

#include <math.h>
#include <stdlib.h>

/* Noise to come has the power S, the filter |a|^2 = 1 / P with P scattered about S by 1 / sqrt(m): the mean
 * of S / P is 1 + 1 / m. Between the middles of two pools the powers are averaged, and the taper on the taps
 * averages on: of the excess this much is left, by simulation 0.6 to 0.75 for filters of 1/2 to 1 s (1 for
 * medians of single bins), from m = 4 to 60. */
static const double in_sample = 0.7;

struct gw_bulk_designer {
    const gw_spectrum_ops *ops;
    gw_bulk_design_shape shape;
    gw_fft *fft;
    gw_whitening *design;
    uint32_t n_pools, n_points;
    double worth; /* of a segment: independent powers in a pool */
    double *psd;  /* [n_points] */
    double *taps; /* [n_taps] */
};

static uint32_t grid_samples(const gw_bulk_design_shape *s)
{
    const uint32_t rate = s->bulk.rate_hz, taps = s->bulk.n_taps + s->bulk.n_taps % 2;
    return 4 * (rate > taps ? rate : taps);
}

/* Two points a pool, so that interpolating twice is like interpolating once. */
static uint32_t points(const gw_bulk_shape *b)
{
    return b->pool == 1 ? b->segment / 2 + 1 : 2 * gw_bulk_psd_bins(b);
}

size_t gw_bulk_designer_bytes(const gw_bulk_design_shape *s)
{
    return sizeof(double) *
           (3 * (size_t)grid_samples(s) + 3 * (size_t)points(&s->bulk) + 3 * (size_t)s->bulk.n_taps);
}

void gw_bulk_designer_destroy(gw_bulk_designer **d)
{
    gw_bulk_designer *q = *d;
    if (!q)
        return;
    gw_whitening_destroy(&q->design);
    q->ops->fft_destroy(&q->fft);
    free(q->psd);
    free(q->taps);
    free(q);
    *d = NULL;
}

/* Neighbouring bins of a Hann window correlate by 4/9, the next ones by 1/36; segments that overlap by half,
 * too by 1/36 (all of their powers). A median of several scatters more than their mean, by pi / 2. */
static double worth(const gw_bulk_shape *b)
{
    const double p = b->pool;
    const double bins = p / (1 + 2 * (4.0 / 9) * (p - 1) / p + (p > 2 ? 2 * (1.0 / 36) * (p - 2) / p : 0));
    return bins / (1 + 2.0 / 36) / (b->median_of ? M_PI / 2 : 1);
}

static int allocate(gw_bulk_designer *q)
{
    const gw_bulk_design_shape *s = &q->shape;
    const gw_whitening_shape shape = {.rate_hz = s->bulk.rate_hz,
                                      .linear = s->linear,
                                      .n_taps = s->bulk.n_taps,
                                      .psd_bins = q->n_points,
                                      .grid_samples = grid_samples(s),
                                      .highpass_hz = {s->highpass_hz[0], s->highpass_hz[1]},
                                      .lowpass_hz = {s->lowpass_hz[0], s->lowpass_hz[1]}};
    GW_TRY(q->ops->fft_new(&q->fft, shape.grid_samples));
    GW_TRY(gw_whitening_new(&q->design, q->ops, q->fft, &shape));
    q->psd = calloc(q->n_points, sizeof *q->psd);
    q->taps = calloc(s->bulk.n_taps, sizeof *q->taps);
    if (!q->psd || !q->taps)
        return gw_fail(GW_ENOMEM, "design of bulk filters");
    return GW_OK;
}

int gw_bulk_designer_new(gw_bulk_designer **d, const gw_spectrum_ops *ops, const gw_bulk_design_shape *s)
{
    *d = NULL;
    gw_bulk_designer *q = calloc(1, sizeof *q);
    if (!q)
        return gw_fail(GW_ENOMEM, "design of bulk filters");
    q->ops = ops;
    q->shape = *s;
    q->n_pools = gw_bulk_psd_bins(&s->bulk);
    q->n_points = points(&s->bulk);
    q->worth = worth(&s->bulk);
    int err = allocate(q);
    if (err != GW_OK) {
        gw_bulk_designer_destroy(&q);
        return err;
    }
    *d = q;
    return GW_OK;
}

/* Linear in power between the middles of the pools, so that the amplitude halfway is that of the stronger
 * one: somewhere in its pool is a line, perhaps near the edge. Bands without power (of a channel that was
 * sampled up, or of a period) are taken for 120 dB below the strongest, more than float32 tells apart. */
static void spread_pools(gw_bulk_designer *d, const float *psd)
{
    const gw_bulk_shape *b = &d->shape.bulk;
    const uint32_t last = d->n_pools - 1;
    float strongest = 0;
    for (uint32_t k = 0; k <= last; k++)
        strongest = psd[k] > strongest ? psd[k] : strongest;
    const double least = 1e-12 * (double)strongest;
    for (uint32_t i = 0; i < d->n_points; i++) {
        uint32_t k = i;
        double t = 0;
        if (b->pool > 1) { /* in bins of the segment; pool k has its middle at k * pool + (pool - 1) / 2 */
            const double bin = 0.5 * b->segment * i / (d->n_points - 1);
            const double at = (bin - 0.5 * (b->pool - 1)) / b->pool;
            k = at <= 0 ? 0 : at >= last - 1 ? last - 1 : (uint32_t)at;
            t = at - k < 0 ? 0 : at - k > 1 ? 1 : at - k;
        }
        const double s = (1 - t) * (double)psd[k] + (t > 0 ? t * (double)psd[k + 1] : 0);
        d->psd[i] = s < least ? least : s;
    }
}

const double *gw_bulk_designer_run(gw_bulk_designer *d, const float *psd, uint32_t segments)
{
    const gw_bulk_shape *b = &d->shape.bulk;
    spread_pools(d, psd);
    if (gw_whitening_design(d->design, d->psd, d->taps) != GW_OK)
        return NULL;
    const double memory = 2.0 * b->memory * (b->median_of ? b->median_of : 1);
    const double m = d->worth * (segments < memory ? segments : memory);
    const double gain = sqrt(b->decimate / (1 + in_sample / m));
    for (uint32_t t = 0; t < b->n_taps; t++)
        d->taps[t] *= gain;
    return d->taps;
}
