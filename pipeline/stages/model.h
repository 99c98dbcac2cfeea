/* SPDX-License-Identifier: GPL-3.0-or-later
 * What a detection network says of itself, in its ONNX metadata (metadata_props, all text), and whether
 * the streams of a graph are what it was trained on. Used by detect.c; runs nothing.
 *
 *     gwstream.format            1
 *     gwstream.name              bbh-small
 *     gwstream.detectors         H1,L1    two; their order is the order of the input channels. A network for
 *                                         several pairs: H1,V1;L1,V1, and the streams it is given choose
 *     gwstream.sample_rate       2048     Hz
 *     gwstream.window_samples    3072     a multiple of hop_samples
 *     gwstream.hop_samples       64       one frame: a logit each
 *     gwstream.smoothing_frames  4        box average that makes the ranking statistic
 *     gwstream.whitening         the canonical text that the whitened streams must carry
 *     gwstream.pooling           for people
 *   optional, decimal seconds:
 *     gwstream.arrival_offset_s  0        added to the arrival time found from the arrival scores
 *     gwstream.arrival_reach_s            how far before the end of the peak's frame an arrival may lie;
 *                                         0.75 s and the smoothing when it is not said
 *     gwstream.arrival_skew      0        (a number): standard deviations that an arrival is late by besides
 *     gwstream.arrival_sigma_floor_s  0   and
 *     gwstream.arrival_sigma_scale    1   (a number): how its 1-sigma is made, see candidate.h
 *     gwstream.peak_offset_s     0        arrival minus end of the peak's frame, without arrival scores */
#ifndef GW_MODEL_H
#define GW_MODEL_H

#include "kernels/nn/onnx.h"
#include "pipeline/block.h"

enum { GW_MODEL_DETECTORS = 2, GW_MODEL_PAIRS = 8 };

typedef struct gw_model {
    char name[48];
    int n_pairs;
    char pair[GW_MODEL_PAIRS][GW_MODEL_DETECTORS][8];
    /* Of the pair in use: until gw_model_match, the first one. */
    char detector[GW_MODEL_DETECTORS][8]; /* in the order of the input channels */
    char detectors[32];                   /* the same, sorted: "H1,L1" */
    uint32_t rate_hz, window_samples, hop_samples, smoothing_frames;
    char whitening[sizeof((gw_spec *)0)->whitening];
    double arrival_offset_s, arrival_reach_s, peak_offset_s;
    double arrival_skew, arrival_sigma_scale, arrival_sigma_floor_s;
    double travel_s; /* light travel time between the two detectors (Earth's diameter if one is unknown) */
} gw_model;

/* GW_EFORMAT for metadata that are not there or make no sense, GW_ENOTSUP for a network of another format
 * version or number of detectors; the message names file, key and value. */
int gw_model_read(gw_model *m, const gw_onnx *onnx);

/* Finds the model's detectors among the streams, and so which of its pairs is in use: input stream order[c] is
 * channel c of the network. GW_EMISMATCH with both sides when detectors, rate, whitening, channels or sample
 * type do not fit. */
int gw_model_match(gw_model *m, const char *path, const gw_spec *in, int n_in, int order[GW_MODEL_DETECTORS]);

#endif
