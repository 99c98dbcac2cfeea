/* SPDX-License-Identifier: GPL-3.0-or-later
 * Minimum phase by single-precision transforms. The factors 1 / n of the inverse ones go into the passes over
 * the bins. */
#include "kernels/minphase.h"

#include "kernels/cpu/build.h"
#include "kernels/cpu/elementary.h"
#include "kernels/cpu/fft32.h"

#include <stdlib.h>
#include <string.h>

typedef struct cpu_plan {
    const gw_elementary *elementary;
    gw_fft32 *forward, *inverse;
    float *freq; /* [n + 2] real and imaginary parts in turn */
} cpu_plan;

static const gw_elementary *elementary(void)
{
#ifdef __x86_64__
    switch (gw_build_best()) {
    case GW_BUILD_AVX512:
        return &gw_elementary_avx512;
    case GW_BUILD_AVX2:
        return &gw_elementary_avx2;
    case GW_BUILD_ANY:
        break;
    }
#endif
    return &gw_elementary_any;
}

static void minphase_destroy(gw_minphase **m)
{
    if (!*m)
        return;
    cpu_plan *p = (*m)->plan;
    if (p) {
        gw_fft32_destroy(&p->forward);
        gw_fft32_destroy(&p->inverse);
        free(p->freq);
    }
    free(p);
    free((*m)->power);
    free((*m)->h);
    free(*m);
    *m = NULL;
}

static float *floats(size_t n)
{
    const size_t bytes = (n * sizeof(float) + GW_FFT32_ALIGN - 1) / GW_FFT32_ALIGN * GW_FFT32_ALIGN;
    float *x = aligned_alloc(GW_FFT32_ALIGN, bytes);
    return x ? memset(x, 0, bytes) : NULL;
}

static int minphase_new(gw_minphase **out, uint32_t n)
{
    *out = NULL;
    if (n < 2 || n % 2)
        return gw_fail(GW_ERANGE, "minimum phase needs an even number of points, not %u", n);
    gw_minphase *m = calloc(1, sizeof *m);
    if (!m)
        return gw_fail(GW_ENOMEM, "minimum phase on %u points", n);
    cpu_plan *p = m->plan = calloc(1, sizeof *p);
    m->n = n;
    m->power = floats(n / 2 + 1);
    m->h = floats(n);
    int err = p && m->power && m->h ? GW_OK : gw_fail(GW_ENOMEM, "minimum phase on %u points", n);
    if (err == GW_OK) {
        p->elementary = elementary();
        p->freq = floats((size_t)n + 2);
        err = p->freq ? gw_fft32_new(&p->forward, n, false)
                      : gw_fail(GW_ENOMEM, "minimum phase on %u points", n);
    }
    if (err == GW_OK)
        err = gw_fft32_new(&p->inverse, n, true);
    if (err != GW_OK) {
        minphase_destroy(&m);
        return err;
    }
    *out = m;
    return GW_OK;
}

static void minphase_run(gw_minphase *m)
{
    const cpu_plan *p = m->plan;
    const uint32_t n = m->n, half = n / 2;
    float *z = p->freq, *h = m->h;
    const float once = 0.5f / (float)n, twice = 1 / (float)n;
    p->elementary->log32(m->power, half + 1);
    for (uint32_t k = 0; k <= half; k++) {
        z[2 * k] = m->power[k];
        z[2 * k + 1] = 0;
    }
    gw_fft32_run(p->inverse, z, h, NULL);
    h[0] *= once;
    for (uint32_t j = 1; j < half; j++)
        h[j] *= twice;
    h[half] *= once;
    memset(h + half + 1, 0, (half - 1) * sizeof *h);
    gw_fft32_run(p->forward, h, z, NULL);
    p->elementary->exp32(z, half + 1);
    gw_fft32_run(p->inverse, z, h, NULL);
    for (uint32_t j = 0; j < n; j++)
        h[j] *= twice;
}

void gw_minphase_cpu(gw_minphase_ops *ops)
{
    *ops = (gw_minphase_ops){minphase_new, minphase_destroy, minphase_run};
}
