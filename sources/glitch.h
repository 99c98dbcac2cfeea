/* SPDX-License-Identifier: GPL-3.0-or-later
 * Simulated glitches of one detector: short transients that are no signals. Called by sim.c.
 *
 * Classes: 55 % sine-Gaussians (25-800 Hz, Q 2-60), 25 % blips (1-10 ms), 20 % bursts of band-limited
 * noise (5-300 ms). Each is drawn as it looks after whitening, then coloured by the floor of the true ASD
 * from 20 Hz up (softly from 15 Hz) and scaled to its SNR against the true PSD.
 * Times: a Poisson process on cells of 8 s counted from GPS 0, so a glitch does not depend on where a run
 * begins. Coincident ones come from a process shared by all detectors, within 10 ms of a common time,
 * each with a shape and SNR of its own. */
#ifndef GW_GLITCH_H
#define GW_GLITCH_H

#include "pipeline/config.h"
#include "sources/noise.h"
#include "sources/overlay.h"

typedef struct gw_glitch_conf {
    double rate_hz;           /* in one detector, coincident ones included; 0 = none */
    double snr_low, snr_high; /* uniform in the logarithm */
    double coincident;        /* fraction */
} gw_glitch_conf;

/* The map under 'glitches'. */
int gw_glitch_configure(gw_glitch_conf *g, gw_conf *conf);

typedef struct gw_glitches gw_glitches;

/* asd and noise (of that detector) must outlive the glitches. From sample `first` on. */
int gw_glitches_new(gw_glitches **g, const gw_glitch_conf *conf, const gw_asd *asd, const gw_noise *noise,
                    gw_rate rate, int64_t first, uint64_t seed, uint32_t detector);
void gw_glitches_destroy(gw_glitches **g);

/* Puts every glitch that begins before sample `until`, and was not put yet, on the list (channel 0). */
int gw_glitches_render(gw_glitches *g, int64_t until, gw_overlay **list);

#endif
