/* SPDX-License-Identifier: GPL-3.0-or-later
 * A network made ready to run: ONNX graph -> plan -> steps. Two ways to run the same graph:
 *   window  the whole input at once, as the file says;
 *   stream  each layer keeps the columns it needs, a hop computes only new columns; exact for causal
 *           networks (left-padded convolutions, then a head over the last F frames).
 * One detector-window network has one input [1, channels, window] and the outputs
 *   "logit"   [1, 1]                     the raw ranking logit of the window
 *   "arrival" [1, detectors, columns]    optional: a score for each column of window / columns samples:
 *                                        log-probability (unnormalised) that the signal arrives there
 * f32 throughout, nothing allocated after open. Not thread safe: one net a thread. */
#ifndef GW_NET_H
#define GW_NET_H

#include "kernels/kernels.h"
#include "kernels/nn/onnx.h"

typedef struct gw_net gw_net;

typedef struct gw_net_info {
    uint32_t n_channels;      /* of the input */
    uint32_t window_samples;  /* of the input */
    uint32_t frame_samples;   /* stream mode: a logit for each frame; product of the trunk's strides */
    uint32_t n_arrival;       /* channels of "arrival"; 0 = the network has none */
    uint32_t arrival_samples; /* input samples a column of "arrival" */
    uint64_t parameters;
    double flop_window; /* 2 x multiply-adds of one whole window */
    double flop_second; /* stream mode, at sample rate `rate_hz` given to open */
} gw_net_info;

typedef enum gw_net_mode { GW_NET_WINDOW, GW_NET_STREAM } gw_net_mode;

/* hop_samples: stream mode, a multiple of frame_samples (0 = one frame); window mode: ignored.
 * GW_ENOTSUP names every operator or property that stands in the way, with its node. The net keeps what
 * it needs of `m`; m may be freed after open. `k` must outlive the net. */
int gw_net_open(gw_net **n, const gw_onnx *m, const gw_kernels *k, gw_net_mode mode, uint32_t hop_samples);
const gw_net_info *gw_net_get_info(const gw_net *n);

/* Stream mode. x: [channel][hop], channels `stride` floats apart. logit: [hop / frame]; the k-th belongs
 * to the window that ends (exclusive) with the hop's (k + 1) * frame_samples-th sample. arrival (may be
 * NULL): [n_arrival][hop / arrival_samples]. Values are those of the window evaluation only once
 * window_samples have been seen since open or reset (before that, the past counts as zeros). */
int gw_net_step(gw_net *n, const float *x, size_t stride, float *logit, float *arrival);
void gw_net_reset(gw_net *n); /* forget the past */

/* Window mode. x: [channel][window]. logit: [1]; arrival: [n_arrival][window / arrival_samples] or NULL. */
int gw_net_window(gw_net *n, const float *x, size_t stride, float *logit, float *arrival);

void gw_net_close(gw_net **n);

#endif
