/* SPDX-License-Identifier: GPL-3.0-or-later
 * How much quieter strain becomes by subtracting a prediction, measured while it happens: the ratio of
 * amplitude spectra, cleaned over raw, of any number of predictions of one strain channel at once. Used by
 * the denoise stage for its gates and trials. It decides nothing.
 *
 * Every whole second of the absolute grid ends a segment of 2 s (periodic Hann, mean removed, 50 % overlap).
 * S is the median of the newest 7 segments (8 s), bin by bin (0.5 Hz), of raw strain s and of s - p. A
 * transform is linear: one of s and one of each p give all of them. The bias of the median cancels. A segment
 * that touches a hole, or samples whose prediction is not valid, is none; and a ratio needs all 7: after a
 * hole it comes again 8 s later, and is a function of known data.
 *
 *   mean        mean over the bins lo <= f < hi of all bands of sqrt(S_clean / S_raw)
 *   integrated  sqrt(sum of S_clean / sum of S_raw) over the same bins
 *   out         out of band: the largest of the means over octaves (8-16, 16-32, ... 512-1024 Hz; up to 0.9
 *               of Nyquist), each without the bands and 2 Hz either side of them; what is left of an octave
 *               with fewer than 32 bins is joined to the next. Each is a mean over the last 16 seconds, or as
 *               many as were measured in a row: what a weak leak adds scatters by as much as it is, and here
 *               it is small. 1 where nothing is left at all
 *   out_worst   the largest single bin of them, of this second
 *
 * A bin in which raw strain has no power counts 1 if the cleaned one has none either, else infinity. */
#ifndef GW_ASD_RATIO_H
#define GW_ASD_RATIO_H

#include "kernels/spectrum.h"

#include <stdbool.h>

enum { GW_ASD_SEGMENTS = 7, GW_ASD_MAX_BANDS = 16 };

typedef struct gw_bands { /* Hz */
    int n;
    double lo[GW_ASD_MAX_BANDS], hi[GW_ASD_MAX_BANDS];
} gw_bands;

/* "57-63,118-122" -> bands. GW_EFORMAT, `what` in front, unless 0 <= lo < hi, each in turn, at most 16. */
int gw_bands_parse(gw_bands *b, const char *what, const char *text);

typedef struct gw_asd_ratios {
    bool measured; /* else the rest is NAN */
    double mean, integrated, out, out_worst;
} gw_asd_ratios;

typedef struct gw_asd_ratio gw_asd_ratio;

/* rate_hz: of strain; whole, even. n: predictions. GW_ERANGE where the bands of one hold no bin. */
int gw_asd_ratio_new(gw_asd_ratio **a, const gw_spectrum_ops *ops, uint32_t rate_hz, uint32_t n,
                     const gw_bands *bands);
void gw_asd_ratio_destroy(gw_asd_ratio **a);
size_t gw_asd_ratio_bytes(uint32_t rate_hz, uint32_t n); /* that _new allocates, about */

/* Prediction k is of another network from now on, with these bands: nothing of its past counts. */
int gw_asd_ratio_anew(gw_asd_ratio *a, uint32_t k, const gw_bands *bands);

/* Takes samples [sample0, sample0 + n_samples), n_samples at most one second, contiguous with the last call
 * or not (then it is a hole). p[k]: prediction k, ungated, or NULL where it is not valid in all of them; NULL
 * for all is a strain not to be counted. Returns the second's last sample + 1 if a second of the grid ended
 * in these samples (ratios[n] then say what is known of each), else 0. Sample number 0 is a multiple: the
 * grid is sample % rate_hz == 0. */
int64_t gw_asd_ratio_add(gw_asd_ratio *a, int64_t sample0, uint32_t n_samples, const double *s,
                         const double *const *p, gw_asd_ratios *ratios);

#endif
