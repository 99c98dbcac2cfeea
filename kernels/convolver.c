/* SPDX-License-Identifier: GPL-3.0-or-later
 * Partitioned overlap-save. Spectra lie in rows of real parts, then imaginary parts, padded to whole lanes,
 * which is what multiply_add wants. */
#include "kernels/convolver.h"

#include <stdlib.h>
#include <string.h>

struct gw_convolver {
    const gw_spectrum_ops *ops;
    gw_fft *fft; /* two hops: overlap-save drops the first */
    uint32_t n_taps, hop, parts, bins, head;
    double *past;   /* [part][2][bins], newest at head */
    double *sum;    /* [2][bins] */
    double *before; /* [hop] the samples of the last push */
};

void gw_convolver_destroy(gw_convolver **c)
{
    if (!*c)
        return;
    (*c)->ops->fft_destroy(&(*c)->fft);
    free((*c)->past);
    free((*c)->sum);
    free((*c)->before);
    free(*c);
    *c = NULL;
}

int gw_convolver_new(gw_convolver **c, const gw_spectrum_ops *ops, uint32_t n_taps, uint32_t hop)
{
    *c = NULL;
    if (n_taps == 0 || hop == 0)
        return gw_fail(GW_ERANGE, "a filter of %u taps in hops of %u", n_taps, hop);
    gw_convolver *q = calloc(1, sizeof *q);
    if (!q)
        return gw_fail(GW_ENOMEM, "filter of %u taps", n_taps);
    q->ops = ops;
    q->n_taps = n_taps;
    q->hop = hop;
    q->parts = (n_taps + hop - 1) / hop;
    q->bins = (hop + GW_SPECTRUM_LANES) / GW_SPECTRUM_LANES * GW_SPECTRUM_LANES; /* hop + 1, rounded up */
    int err = ops->fft_new(&q->fft, 2 * hop);
    q->past = calloc(gw_convolver_response_size(q), sizeof *q->past);
    q->sum = calloc(2 * (size_t)q->bins, sizeof *q->sum);
    q->before = calloc(hop, sizeof *q->before);
    if (err == GW_OK && !(q->past && q->sum && q->before))
        err = gw_fail(GW_ENOMEM, "filter of %u taps", n_taps);
    if (err != GW_OK) {
        gw_convolver_destroy(&q);
        return err;
    }
    *c = q;
    return GW_OK;
}

size_t gw_convolver_response_size(const gw_convolver *c)
{
    return (size_t)c->parts * 2 * c->bins;
}

/* fft->time -> row */
static void transform(gw_convolver *c, double *row)
{
    c->ops->fft_forward(c->fft);
    for (uint32_t k = 0; k <= c->hop; k++) {
        row[k] = c->fft->freq[k].re;
        row[c->bins + k] = c->fft->freq[k].im;
    }
}

void gw_convolver_prepare(gw_convolver *c, const double *taps, double *response)
{
    memset(response, 0, gw_convolver_response_size(c) * sizeof *response);
    for (uint32_t p = 0; p < c->parts; p++) {
        const uint32_t from = p * c->hop, n = c->n_taps - from < c->hop ? c->n_taps - from : c->hop;
        memset(c->fft->time, 0, c->fft->n * sizeof *c->fft->time);
        memcpy(c->fft->time, taps + from, n * sizeof *taps);
        transform(c, response + (size_t)p * 2 * c->bins);
    }
}

void gw_convolver_reset(gw_convolver *c)
{
    memset(c->past, 0, gw_convolver_response_size(c) * sizeof *c->past);
    memset(c->before, 0, c->hop * sizeof *c->before);
}

void gw_convolver_push(gw_convolver *c, const double *x)
{
    c->head = (c->head + 1) % c->parts;
    memcpy(c->fft->time, c->before, c->hop * sizeof *x);
    memcpy(c->fft->time + c->hop, x, c->hop * sizeof *x);
    memcpy(c->before, x, c->hop * sizeof *x);
    transform(c, c->past + (size_t)c->head * 2 * c->bins);
}

void gw_convolver_run(gw_convolver *c, const double *response, double *y)
{
    const size_t row = 2 * (size_t)c->bins;
    memset(c->sum, 0, row * sizeof *c->sum);
    for (uint32_t p = 0; p < c->parts; p++)
        c->ops->multiply_add(c->past + (c->head + c->parts - p) % c->parts * row, response + p * row, c->sum,
                             c->bins);
    for (uint32_t k = 0; k <= c->hop; k++)
        c->fft->freq[k] = (gw_complex){c->sum[k], c->sum[c->bins + k]};
    c->ops->fft_inverse(c->fft);
    memcpy(y, c->fft->time + c->hop, c->hop * sizeof *y);
}
