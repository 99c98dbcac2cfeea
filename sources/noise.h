/* SPDX-License-Identifier: GPL-3.0-or-later
 * Coloured Gaussian noise of one detector, as an endless function of the sample number: any stretch of it
 * can be asked for, in pieces of any length, and the same sample is always the same number. Called by
 * sim.c; glitch.c and injection.c read its spectrum.
 *
 * How: segments of about 16 s at fixed places on the sample grid, half overlapping, each an independent
 * Gaussian spectrum of the wanted PSD, joined under sine windows, whose squares sum to one. So the
 * variance is constant, and the PSD is the wanted one seen with a resolution of about 0.1 Hz. */
#ifndef GW_NOISE_H
#define GW_NOISE_H

#include "pipeline/clock.h"
#include "sources/asd.h"

#include <stddef.h>

typedef struct gw_noise gw_noise;

/* `asd` is read now and not kept. */
int gw_noise_new(gw_noise **n, const gw_asd *asd, gw_rate rate, uint64_t seed, uint32_t detector);
/* White from low_hz to high_hz, nothing elsewhere, of unit variance. */
int gw_noise_new_band(gw_noise **n, double low_hz, double high_hz, gw_rate rate, uint64_t seed,
                      uint32_t part);
void gw_noise_destroy(gw_noise **n);
size_t gw_noise_bytes(gw_rate rate); /* that gw_noise_new allocates */

/* x[i] = sample sample0 + i. Cheap when it continues where the last call ended. */
void gw_noise_fill(gw_noise *n, int64_t sample0, uint32_t n_samples, double *x);

/* The true one-sided PSD, lines included, by its 1/16-Hz table; 0 < f_hz < rate / 2. */
double gw_noise_psd(const gw_noise *n, double f_hz);

#endif
