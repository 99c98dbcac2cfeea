/* SPDX-License-Identifier: GPL-3.0-or-later
 * Minimum phase by its definition, in double. */
#include "kernels/minphase.h"
#include "kernels/spectrum.h"

#include <math.h>
#include <stdlib.h>

typedef struct ref_plan {
    gw_spectrum_ops ops;
    gw_fft *fft;
} ref_plan;

static void minphase_destroy(gw_minphase **m)
{
    if (!*m)
        return;
    ref_plan *p = (*m)->plan;
    if (p)
        p->ops.fft_destroy(&p->fft);
    free(p);
    free((*m)->power);
    free((*m)->h);
    free(*m);
    *m = NULL;
}

static int minphase_new(gw_minphase **out, uint32_t n)
{
    *out = NULL;
    gw_minphase *m = calloc(1, sizeof *m);
    if (!m)
        return gw_fail(GW_ENOMEM, "minimum phase on %u points", n);
    ref_plan *p = m->plan = calloc(1, sizeof *p);
    m->n = n;
    m->power = calloc((size_t)n / 2 + 1, sizeof *m->power);
    m->h = calloc((size_t)n + 1, sizeof *m->h);
    int err = GW_OK;
    if (p) {
        gw_spectrum_ref(&p->ops);
        err = p->ops.fft_new(&p->fft, n);
    }
    if (err == GW_OK && (!p || !m->power || !m->h))
        err = gw_fail(GW_ENOMEM, "minimum phase on %u points", n);
    if (err != GW_OK) {
        minphase_destroy(&m);
        return err;
    }
    *out = m;
    return GW_OK;
}

static void minphase_run(gw_minphase *m)
{
    const ref_plan *p = m->plan;
    gw_fft *f = p->fft;
    const uint32_t n = m->n, half = n / 2;
    for (uint32_t k = 0; k <= half; k++)
        f->freq[k] = (gw_complex){0.5 * log((double)m->power[k]), 0};
    p->ops.fft_inverse(f);
    for (uint32_t j = 1; j < n; j++)
        f->time[j] *= j < half ? 2 : j == half ? 1 : 0;
    p->ops.fft_forward(f);
    for (uint32_t k = 0; k <= half; k++) {
        const double size = exp(f->freq[k].re);
        f->freq[k] = (gw_complex){size * cos(f->freq[k].im), size * sin(f->freq[k].im)};
    }
    p->ops.fft_inverse(f);
    for (uint32_t j = 0; j < n; j++)
        m->h[j] = (float)f->time[j];
}

void gw_minphase_ref(gw_minphase_ops *ops)
{
    *ops = (gw_minphase_ops){minphase_new, minphase_destroy, minphase_run};
}
