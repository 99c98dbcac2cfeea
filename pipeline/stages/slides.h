/* SPDX-License-Identifier: GPL-3.0-or-later
 * Time slides of a running search: the ranking statistic that pairs one detector's data with the other's of
 * another time, where no signal can be in both. Called by background.c, once a hop; knows no files, clocks
 * or events.
 *
 * Each detector's features (the network's early layers and its part of the convolutions in which the
 * detectors meet, kernels/nn/net.h "trunk") are computed once and kept in a ring; a slide costs only the
 * merged layers, as a stream of its own. So a slide's statistic is what the search would give on the same
 * data slid, to 1e-5 of its size.
 *
 * Slide k pairs hop h of one detector with hop h - |o| of the other, o = offset_hops[k]: the second detector
 * is the late one where o is positive, the first where it is negative; with 0 it is the search itself. Hops
 * are counted on the absolute grid. A hop that is not given is a hole in both detectors: a slide is silent
 * from there, and at the hole's later passage through its delay, until the network's window and the smoothing
 * are full of good data of both. */
#ifndef GW_SLIDES_H
#define GW_SLIDES_H

#include "kernels/nn/net.h"
#include "pipeline/stages/model.h"

typedef struct gw_slides gw_slides;

enum { GW_SLIDES_TOGETHER = 32 }; /* are computed together: as many cost as much as one */

typedef struct gw_slides_conf {
    const gw_onnx *onnx; /* needed until _new returns */
    const gw_model *model;
    const gw_kernels *kernels; /* outlives it */
    uint32_t hop_frames;       /* of the model, a hop */
    uint32_t n_slides;
    const int32_t *offset_hops; /* [n_slides], read in _new */
} gw_slides_conf;

/* GW_ENOTSUP where the network's detectors do not part (kernels/nn/net.h), GW_EMISMATCH where it has no
 * output "logit". */
int gw_slides_new(gw_slides **s, const gw_slides_conf *conf);
void gw_slides_destroy(gw_slides **s);
size_t gw_slides_ring_bytes(const gw_slides *s); /* the rings of features; the networks' own comes on top */

/* Hop number `hop` of both detectors, in the network's order, hop_frames * hop_samples whitened samples each.
 * Numbers grow; what was left out is a hole. Work goes over gw_parallel, as bulk. */
int gw_slides_hop(gw_slides *s, int64_t hop, const float *const x[GW_MODEL_DETECTORS]);
/* From the next hop on only the first n slides are run; the others are silent, and when they are run again
 * they are as after a hole. */
void gw_slides_run(gw_slides *s, uint32_t n);
/* Of the last hop: the slide's statistic of each of its hop_frames frames; NAN where there is none. */
const float *gw_slides_statistic(const gw_slides *s, uint32_t slide);

#endif
