/* SPDX-License-Identifier: GPL-3.0-or-later
 * A real Fourier transform in double precision with buffers of its own, as the simulator needs it: FFTW
 * with ESTIMATE plans, which are the same on every run. Called by noise, glitch, waveform and injection;
 * the stages have their transforms in kernels/. */
#ifndef GW_FOURIER_H
#define GW_FOURIER_H

#include "pipeline/error.h"

#include <complex.h>
#include <stdint.h>

typedef struct gw_fourier {
    uint32_t n;              /* samples, even */
    double *time;            /* [n] */
    double complex *bins;    /* [n / 2 + 1] */
    void *forward, *inverse; /* plans */
} gw_fourier;

/* The smallest even 2^a 3^b 5^c that is at least `least` (at most 2^30). */
uint32_t gw_fourier_size(double least);

/* n even, at most 2^30. GW_ENOMEM. Buffers are zero. */
int gw_fourier_new(gw_fourier **f, uint32_t n);
/* bins[k] = sum over i of time[i] exp(-2 pi i k / n). Leaves time as it was. */
void gw_fourier_forward(gw_fourier *f);
/* time[i] = sum over all n frequencies, so without 1 / n. Spoils bins. */
void gw_fourier_inverse(gw_fourier *f);
void gw_fourier_destroy(gw_fourier **f);

#endif
