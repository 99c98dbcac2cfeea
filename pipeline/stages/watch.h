/* SPDX-License-Identifier: GPL-3.0-or-later
 * What an operator is told of one detector's noise: its range, and whether its PSD drifts. Fed by strand.c
 * whenever a new filter was learnt; decides nothing about the samples.
 *
 *   range  of binary neutron stars (kernels/range.h), from a PSD of its own: the median over the last 15
 *          segments of 4 s, one begun every 2 s on the absolute grid. The filter's PSD will not do: its
 *          segments of 2 s smear the lines and the seismic wall over what lies between (7 % of the range of
 *          H1 at GW150914). Known from 12 segments on (26 s); the median of fewer is too rough.
 *   drift  in each octave from the high-pass up, the mean logarithm of the filter's PSD against its own
 *          average over 10 minutes. The alarm is raised where the ratio exceeds `drift` or its inverse, and
 *          is over when all bands are back within its square root. */
#ifndef GW_WATCH_H
#define GW_WATCH_H

#include "kernels/spectrum.h"

#include <stdbool.h>

typedef struct gw_watch_shape {
    uint32_t rate_hz, tick_samples;
    uint32_t bins;          /* of the filter's PSD, from 0 Hz to Nyquist */
    double low_hz, high_hz; /* the band in which the PSD is the detector's */
    double drift;           /* 0: no alarm */
    bool range;             /* the samples are strain */
} gw_watch_shape;

typedef struct gw_watch gw_watch;

int gw_watch_new(gw_watch **w, const gw_spectrum_ops *ops, const gw_watch_shape *s);
void gw_watch_destroy(gw_watch **w);
size_t gw_watch_memory(const gw_watch_shape *s); /* bytes, roughly */
uint32_t gw_watch_samples(const gw_watch *w);    /* of a segment of the range's PSD; 0: no range is wanted */

/* A tick ended before tick number `tick`. psd[bins]: the filter's, of so many segments; its drift is judged
 * from 7 on, for fewer lie too low (a mean of logarithms) and scatter. past[gw_watch_samples]: the samples up
 * to the tick's end, or NULL where they are not all good. */
void gw_watch_look(gw_watch *w, int64_t tick, const double *psd, uint32_t segments, const double *past);
void gw_watch_forget(gw_watch *w);

double gw_watch_range_mpc(const gw_watch *w); /* 0: not known yet */
double gw_watch_drift(const gw_watch *w);     /* the band's ratio that is furthest from 1 */
/* One line, once for each crossing: true, and `line` says what was crossed. */
bool gw_watch_alarm(gw_watch *w, char *line, size_t n);

#endif
