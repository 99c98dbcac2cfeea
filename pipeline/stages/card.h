/* SPDX-License-Identifier: GPL-3.0-or-later
 * The model card: what is known about a trained network, beside its .onnx file. detect needs the
 * thresholds and the archived background, and the hash that ties the card to the weights; everything
 * else in the card is for people and is left alone, whatever its keys.
 *
 *     model:      {name: bbh-small, sha256: <64 hex digits of the .onnx file>}
 *     thresholds: {candidate: 2.85, alert: 4.60}  # ranking statistic exceeded once an hour, once a day
 *     background:                                 # loudest statistic of each noise cluster
 *       live_time: 259200s                        # searched time, slides included
 *       bin_width: 0.05
 *       first_bin: -10.0                        # lower edge of bin 0; bin i is [first + i w, first + (i + 1) w)
 *       counts: [0, 3, 17, ...]                 # clusters a bin: whole numbers, at most 100,000 bins
 *
 * A maximum below first_bin is left out or counted in bin 0; one above the last bin must get a bin. */
#ifndef GW_CARD_H
#define GW_CARD_H

#include "pipeline/error.h"

#include <stdint.h>

enum { GW_SHA256_TEXT = 65 }; /* 64 hex digits and NUL */

typedef struct gw_card {
    char name[48];
    char model_sha256[GW_SHA256_TEXT]; /* of the .onnx file, lower case */
    char sha256[GW_SHA256_TEXT];       /* of the card itself */
    double candidate, alert;
    double live_time_s, bin_width, first_bin;
    uint32_t n_bins;
    double *above; /* [n_bins]: clusters in bin i and all later ones */
} gw_card;

/* GW_EMISSING, GW_EACCESS, GW_ECONFIG (with line and column), GW_ENOMEM. */
int gw_card_load(gw_card **card, const char *path);
void gw_card_free(gw_card **card);

/* How often noise alone reaches `statistic`, in Hz: (n + 1) / T (a rate that is not zero where nothing
 * was seen), n counting the whole bin that `statistic` lies in. NAN counts as below everything. */
double gw_card_noise_rate_hz(const gw_card *card, double statistic);

/* SHA-256 of a file as lower-case hex. GW_EMISSING, GW_EACCESS, GW_EIO. */
int gw_sha256_file(const char *path, char hex[GW_SHA256_TEXT]);

#endif
