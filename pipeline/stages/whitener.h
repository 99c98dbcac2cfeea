/* SPDX-License-Identifier: GPL-3.0-or-later
 * What whiten learns from one channel: its PSD, the filter that follows from it, and the filter's gain.
 * Everything advances in ticks, half a PSD segment long (1 s by default), that begin at multiples of their
 * length counted from sample 0 of the stream: so a filter is a function of the data and the time alone, never
 * of blocks or of where the stream began. It filters nothing: whiten.c runs the taps over the stream.
 *
 * At the end of each tick that was seen whole and was not loud:
 *   PSD   a segment of this tick and the one before goes in, if that one was whole and quiet too;
 *   taps  designed from the PSD (kernels/whitening.h), all from data before the tick's end;
 *   gain  the last 16 s are filtered with these taps, and the taps scaled so that the median of |output| over
 *         the good ticks of them is 0.6745 of what unit noise gives in the pass band, over sqrt(1 + 0.25 / n)
 * for a PSD of n segments: a filter is quieter on the data it was learnt from (see whitener.c). */
#ifndef GW_WHITENER_H
#define GW_WHITENER_H

#include "kernels/kernels.h"

#include <stdbool.h>
#include <stdint.h>

typedef struct gw_whitener_shape {
    uint32_t rate_hz, n_taps;
    bool linear;
    double highpass_hz[2], lowpass_hz[2];
    uint32_t segment_samples; /* even; a tick is half of it */
    uint32_t max_segments;
    bool mean;
    double smooth_hz;      /* width over which the PSD is smoothed (kernels/psd.h) */
    uint32_t forget_ticks; /* so many loud ticks in a row: the noise itself has changed, forget the PSD */
} gw_whitener_shape;

typedef struct gw_whitener gw_whitener;

/* `ops` must outlive it. Allocates everything. */
int gw_whitener_new(gw_whitener **w, const gw_spectrum_ops *ops, const gw_whitener_shape *s);
void gw_whitener_destroy(gw_whitener **w);

typedef enum gw_whitener_news {
    GW_WHITENER_SAME,
    GW_WHITENER_FILTER, /* new taps, to be used from sample0 of this call on */
    GW_WHITENER_FORGOT  /* no taps: the warm-up begins anew */
} gw_whitener_news;

/* The next samples, finite, all of one tick. Samples left out between calls are a hole. */
gw_whitener_news gw_whitener_feed(gw_whitener *w, int64_t sample0, const double *x, uint32_t n);
/* The tick fed last holds something far above the noise: it stays out of PSD and gain. */
void gw_whitener_loud(gw_whitener *w);

const double *gw_whitener_taps(const gw_whitener *w); /* [n_taps]; NULL before the first filter */
/* [segment_samples / 2 + 1]: the one-sided PSD from which the taps were made; NULL before the first filter */
const double *gw_whitener_psd(const gw_whitener *w);
uint32_t gw_whitener_segments(const gw_whitener *w); /* in the PSD */
/* The newest samples of whole ticks, up to 16 s; NULL where not all of those ticks were good. */
const double *gw_whitener_past(const gw_whitener *w, uint32_t samples);
size_t gw_whitener_memory(const gw_whitener_shape *s); /* bytes, roughly */

/* What was learnt, for a checkpoint: the PSD's segments times *scale squared, oldest first, and the taps.
 * rows[max_segments][segment_samples / 2 + 1], taps[n_taps]. Returns how many segments; 0: no filter yet. */
uint32_t gw_whitener_save(const gw_whitener *w, float *rows, double *taps, double *scale);
/* Into a whitener that has learnt nothing. The filter is good at once; the gain of the next is measured when
 * the past of this run is long enough for it. */
void gw_whitener_restore(gw_whitener *w, uint32_t segments, const float *rows, const double *taps,
                         double scale);

#endif
