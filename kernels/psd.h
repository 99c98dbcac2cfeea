/* SPDX-License-Identifier: GPL-3.0-or-later
 * A running power spectral density: Welch's method (IEEE Trans. Audio Electroacoust. 15, 70, 1967) over the
 * last segments that the caller gave: periodic Hann window, per-segment mean removal, one-sided. Used by
 * the whitener. It does not choose segments: overlap, holes and loud stretches are the caller's business.
 *
 * The average runs over a sliding set of the newest segments, not over an exponentially fading past: then
 * the estimate is a function of a known stretch of data, so a restarted search, a spare and a replay that
 * begins elsewhere agree exactly once they have seen that stretch, and one loud segment is gone for good
 * when it leaves. Costs one stored spectrum a segment (about 2 MB a channel at 63 segments of 4096).
 *
 * The estimate is smoothed over frequency, lines excepted. The median of the 7 segments of 8 s scatters by
 * 50 %, and a filter that follows the scatter takes 3.8 % of a signal's SNR (simulated; 0.4 % at 64 s);
 * smoothed over 4 Hz it takes 1.4 % (0.2 %). With l = log of the average of each bin, n segments, h bins
 * either side, and m the median of l over the 2 h + 1 bins around b:
 *   a bin stands alone if l > m + 4 / sqrt(n) in it or in a bin next to it, or if it lies within h bins of
 *   either end; it keeps its value. Any other becomes exp of the mean of its own l and of the pairs
 *   l[b - k], l[b + k], k = 1 .. h, without those of which one stands alone or whose mean is further than
 *   4 / sqrt(n) from m (a step, the foot of a line).
 * In pairs and in the logarithm, because the seismic wall is a slope there and cancels. */
#ifndef GW_PSD_H
#define GW_PSD_H

#include "kernels/spectrum.h"

#include <stdbool.h>

typedef struct gw_psd gw_psd;

/* segment_samples: even. max_segments: how many are held. mean: average by mean instead of by median.
 * smooth_bins: h, the bins on either side that each is smoothed with; 0 = as it is. */
int gw_psd_new(gw_psd **p, const gw_spectrum_ops *ops, double rate_hz, uint32_t segment_samples,
               uint32_t max_segments, bool mean, uint32_t smooth_bins);
void gw_psd_destroy(gw_psd **p);

/* Takes x[segment_samples]. GW_ERANGE, and the segment is left out, if its power is not finite. */
int gw_psd_add(gw_psd *p, const double *x);
/* Takes power[segment_samples / 2 + 1], unit^2 / Hz, of a segment as gw_psd_held gave it: a set that was
 * kept elsewhere comes back oldest first. */
void gw_psd_put(gw_psd *p, const double *power);
const double *gw_psd_held(const gw_psd *p, uint32_t i); /* power of the i-th oldest; good until the next */
void gw_psd_forget(gw_psd *p);
uint32_t gw_psd_segments(const gw_psd *p); /* held now */

/* psd[segment_samples / 2 + 1], unit^2 / Hz: the mean, or the median divided by its bias for n segments of
 * exponentially distributed power, b(n) = 1 + sum over k = 1 .. (n - 1) / 2 of 1 / (2k + 1) - 1 / (2k)
 * (Allen et al., Phys. Rev. D 85, 122006, appendix B); then smoothed. A mean of logarithms lies below the
 * logarithm of the mean, by the same factor (0.9 at n = 7) in every bin but the lines. A bin without power
 * stays so. GW_EAGAIN: no segment yet. */
int gw_psd_estimate(gw_psd *p, double *psd);

#endif
