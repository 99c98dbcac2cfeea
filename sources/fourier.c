/* SPDX-License-Identifier: GPL-3.0-or-later
 * FFTW's planner is one for the whole process and every stage opens in a thread of its own: each plan is
 * made and unmade under FFTW's own lock, which fftw_make_planner_thread_safe() installs once. */
#include "sources/fourier.h"

#include <fftw3.h>
#include <stdlib.h>

uint32_t gw_fourier_size(double least)
{
    uint32_t best = UINT32_C(1) << 30;
    for (uint64_t five = 1; five <= best; five *= 5)
        for (uint64_t three = five; three <= best; three *= 3) {
            uint64_t n = three * 2;
            while ((double)n < least && n < best)
                n *= 2;
            if (n < best)
                best = (uint32_t)n;
        }
    return best;
}

int gw_fourier_new(gw_fourier **out, uint32_t n)
{
    *out = NULL;
    gw_fourier *f = calloc(1, sizeof *f);
    if (!f)
        return gw_fail(GW_ENOMEM, "a transform of %u samples", n);
    fftw_make_planner_thread_safe();
    f->n = n;
    f->time = fftw_alloc_real(n);
    f->bins = fftw_alloc_complex((size_t)n / 2 + 1);
    if (f->time && f->bins) {
        const int size = (int)n;
        f->forward = fftw_plan_dft_r2c_1d(size, f->time, f->bins, FFTW_ESTIMATE);
        f->inverse = fftw_plan_dft_c2r_1d(size, f->bins, f->time, FFTW_ESTIMATE);
    }
    if (!f->forward || !f->inverse) {
        gw_fourier_destroy(&f);
        return gw_fail(GW_ENOMEM, "a transform of %u samples", n);
    }
    for (uint32_t i = 0; i < n; i++)
        f->time[i] = 0;
    for (uint32_t k = 0; k <= n / 2; k++)
        f->bins[k] = 0;
    *out = f;
    return GW_OK;
}

void gw_fourier_forward(gw_fourier *f)
{
    fftw_execute((fftw_plan)f->forward);
}

void gw_fourier_inverse(gw_fourier *f)
{
    fftw_execute((fftw_plan)f->inverse);
}

void gw_fourier_destroy(gw_fourier **p)
{
    gw_fourier *f = *p;
    if (!f)
        return;
    if (f->forward)
        fftw_destroy_plan((fftw_plan)f->forward);
    if (f->inverse)
        fftw_destroy_plan((fftw_plan)f->inverse);
    fftw_free(f->time);
    fftw_free(f->bins);
    free(f);
    *p = NULL;
}
