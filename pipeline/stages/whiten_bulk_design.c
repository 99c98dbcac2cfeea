/* SPDX-License-Identifier: GPL-3.0-or-later
 * Design of bulk filters. The transforms' grid is 5/2 s, or filters where these are longer, and single
 * precision: the coarse PSD has a short cepstrum, so the 16 s of the search's own channels would buy nothing
 * (by simulation, filters of 1 s with lines of 1 Hz: taps within 5e-4 rms of those of 16 s in double,
 * response within 0.4 % in the worst bin; single precision itself 3e-7). */
#include "pipeline/stages/whiten_bulk_design.h"

#include "kernels/whitening.h"

#include <math.h>
#include <stdlib.h>

/* Noise to come has the power S, the filter |a|^2 = 1 / P with P scattered about S by 1 / sqrt(m): the mean
 * of S / P is 1 + 1 / m. Between the middles of two pools the powers are averaged, and the taper on the taps
 * averages on: of the excess this much is left, by simulation 0.6 to 0.75 for filters of 1/2 to 1 s (1 for
 * medians of single bins), from m = 4 to 60. */
static const double in_sample = 0.7;

/* A point of the PSD lies between two pools. */
typedef struct between {
    uint32_t pool;
    float part; /* 0: at the middle of `pool`; 1: of the next */
} between;

struct gw_bulk_designer {
    const gw_kernels *k;
    gw_bulk_design_shape shape;
    gw_minphase *minphase; /* what of the two the phase wants */
    gw_fft *fft;
    gw_whitening *design;
    uint32_t n_pools, n_points;
    double worth;   /* of a segment: independent powers in a pool */
    between *point; /* [n_points] */
    double *psd;    /* [n_points] */
    double *taps;   /* [n_taps] */
};

static uint32_t grid_samples(const gw_bulk_design_shape *s)
{
    const uint32_t rate = s->bulk.rate_hz, taps = s->bulk.n_taps + s->bulk.n_taps % 2;
    const uint32_t longer = rate > taps ? rate : taps;
    return (5 * longer / 2 + 1) / 2 * 2;
}

/* Two points a pool, so that interpolating twice is like interpolating once. */
static uint32_t points(const gw_bulk_shape *b)
{
    return b->pool == 1 ? b->segment / 2 + 1 : 2 * gw_bulk_psd_bins(b);
}

size_t gw_bulk_designer_bytes(const gw_bulk_design_shape *s)
{
    return sizeof(double) *
           (3 * (size_t)grid_samples(s) + 4 * (size_t)points(&s->bulk) + 3 * (size_t)s->bulk.n_taps);
}

void gw_bulk_designer_destroy(gw_bulk_designer **d)
{
    gw_bulk_designer *q = *d;
    if (!q)
        return;
    gw_whitening_destroy(&q->design);
    q->k->spectrum.fft_destroy(&q->fft);
    q->k->minphase.minphase_destroy(&q->minphase);
    free(q->point);
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
    if (s->linear) {
        GW_TRY(q->k->spectrum.fft_new(&q->fft, shape.grid_samples));
        GW_TRY(gw_whitening_new(&q->design, &q->k->spectrum, q->fft, &shape));
    } else {
        GW_TRY(q->k->minphase.minphase_new(&q->minphase, shape.grid_samples));
        GW_TRY(gw_whitening_new_single(&q->design, &q->k->minphase, q->minphase, &shape));
    }
    q->point = calloc(q->n_points, sizeof *q->point);
    q->psd = calloc(q->n_points, sizeof *q->psd);
    q->taps = calloc(s->bulk.n_taps, sizeof *q->taps);
    if (!q->point || !q->psd || !q->taps)
        return gw_fail(GW_ENOMEM, "design of bulk filters");
    return GW_OK;
}

/* Two points a pool; pool k has its middle at bin k * pool + (pool - 1) / 2 of the segment. */
static void place_points(gw_bulk_designer *d)
{
    const gw_bulk_shape *b = &d->shape.bulk;
    const uint32_t last = d->n_pools - 1;
    for (uint32_t i = 0; i < d->n_points; i++) {
        const double bin = 0.5 * b->segment * i / (d->n_points - 1);
        const double at = b->pool > 1 ? (bin - 0.5 * (b->pool - 1)) / b->pool : i;
        const uint32_t k = at <= 0 ? 0 : at >= last - 1 ? last - 1 : (uint32_t)at;
        d->point[i] = (between){k, (float)(at - k < 0 ? 0 : at - k > 1 ? 1 : at - k)};
    }
}

int gw_bulk_designer_new(gw_bulk_designer **d, const gw_kernels *k, const gw_bulk_design_shape *s)
{
    *d = NULL;
    gw_bulk_designer *q = calloc(1, sizeof *q);
    if (!q)
        return gw_fail(GW_ENOMEM, "design of bulk filters");
    q->k = k;
    q->shape = *s;
    q->n_pools = gw_bulk_psd_bins(&s->bulk);
    q->n_points = points(&s->bulk);
    q->worth = worth(&s->bulk);
    int err = allocate(q);
    if (err != GW_OK) {
        gw_bulk_designer_destroy(&q);
        return err;
    }
    place_points(q);
    *d = q;
    return GW_OK;
}

/* Linear in power between the middles of the pools, so that the amplitude halfway is that of the stronger
 * one: somewhere in its pool is a line, perhaps near the edge. Bands without power (of a channel that was
 * sampled up, or of a period) are taken for 120 dB below the strongest, more than float32 tells apart. */
static void spread_pools(gw_bulk_designer *d, const float *psd)
{
    float strongest = 0;
    for (uint32_t k = 0; k < d->n_pools; k++)
        strongest = psd[k] > strongest ? psd[k] : strongest;
    const double least = 1e-12 * (double)strongest;
    for (uint32_t i = 0; i < d->n_points; i++) {
        const between *p = &d->point[i];
        const double s = (double)((1 - p->part) * psd[p->pool] + p->part * psd[p->pool + 1]);
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
