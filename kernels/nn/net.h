/* SPDX-License-Identifier: GPL-3.0-or-later
 * A network made ready to run: ONNX graph -> plan -> steps. Called by stages and by `gwstream model`. One
 * input [1, channels, samples], any outputs. Two ways to run the same graph:
 *   window  whole inputs at once, as the file says, any number of them in a call;
 *   stream  each layer keeps the columns it needs, a hop computes only new columns; exact for networks
 *           whose layers are local in time, causal or not, and whose heads pool columns that see no padding
 *           of the window. A layer that looks ahead delays its output.
 * Where the early layers do not mix the input's channels (detectors), or only in convolutions, which split
 * into a part for each, a net can also be one of two parts:
 *   trunk   one detector's early layers and its part of the convolutions in which the detectors meet:
 *           [1, 1, samples] -> "features", computed once per detector; of one detector, or of all in one
 *           batch, whose windows are theirs in turn: a layer that is the same for all of them runs once;
 *   merged  the rest: the features of all detectors -> the outputs. A time slide is the merged part on
 *           features of different times; a batch of streams is a batch of slides.
 * Together they give the whole network's outputs within 1e-5 of their size (the sum has another order).
 * f32 throughout, nothing allocated after open. Not thread safe: one net a thread; nets of the same model
 * can share their weights. */
#ifndef GW_NET_H
#define GW_NET_H

#include "kernels/kernels.h"
#include "kernels/nn/onnx.h"

typedef struct gw_net gw_net;

typedef enum gw_net_mode { GW_NET_WINDOW, GW_NET_STREAM } gw_net_mode;
typedef enum gw_net_part { GW_NET_WHOLE, GW_NET_TRUNK, GW_NET_MERGED } gw_net_part;

enum { GW_NET_ALL_DETECTORS = 1 << 20 };

typedef struct gw_net_options {
    gw_net_mode mode;
    gw_net_part part;
    uint32_t detector; /* trunk: of which channel of the input, or GW_NET_ALL_DETECTORS: window (stream) b is
                          of detector b % n_detectors */
    uint32_t hop_samples; /* stream: input samples (merged part: columns of the features) a run, a multiple of
                             frame_samples; 0 = frame_samples */
    uint32_t batch; /* stream: independent streams that advance together; 0 = 1. window: how many windows
                       go through a layer at once; 0 = chosen. It changes no result. Trunk of all detectors:
                       counts sets of them */
    bool device;    /* all of it on the GPU; GW_ENOTSUP where there is none */
    gw_precision precision; /* device */
    void *queue;            /* device: whose work runs in order with the caller's (a CUDA stream), or NULL */
    gw_net *share;          /* NULL, or an open net: layers with the same weights are used, not copied. It may
                               be closed before this one. */
} gw_net_options;

typedef struct gw_net_output {
    const char *name;
    int rank; /* of a window, in ONNX's words */
    int64_t dim[GW_ONNX_MAX_RANK];
    uint32_t channels, columns; /* of a window, or of a hop */
    bool pooled;                /* one column a window; stream: one a frame */
    bool channels_last;         /* "features": run() gives [columns][channels] */
    uint32_t column_samples;    /* input samples from column to column; 0: not a whole number, or unknown */
    uint32_t delay_samples;     /* stream: the newest column given by a run stands for the column_samples that
                                   end so many samples before the end of the hop */
    uint32_t warmup_columns; /* stream: the first so many since open or reset are not what a window gives */
    const char *not_streamable; /* NULL: it is; else why not */
} gw_net_output;

typedef struct gw_net_info {
    uint32_t n_channels;     /* of the input; merged part: of one detector's features */
    uint32_t n_detectors;    /* merged part: how many features it takes; trunk of all: of how many; else 1 */
    uint32_t window_samples; /* of the input (merged part: columns of features) */
    uint32_t frame_samples;  /* stream: the least hop */
    uint32_t hop_samples;    /* stream */
    uint32_t batch;          /* as chosen */
    uint32_t lookahead_samples; /* stream: the longest delay of an output */
    uint64_t receptive_samples; /* the most input samples that a column of an output depends on */
    int n_outputs;
    const gw_net_output *output;
    uint64_t parameters;
    uint64_t memory_bytes; /* weights left out */
    double flop;           /* 2 x multiply-adds of one window, or of one hop of one stream */
} gw_net_info;

/* For `gwstream model show`. */
typedef struct gw_net_layer {
    const char *node, *what; /* what: "conv 7 / 2, tanh" */
    uint32_t channels, columns;
    uint64_t parameters;
    double flop;
    bool meets;                 /* merged part: sums what the detectors' trunks made of a split convolution */
    const char *not_streamable; /* NULL: it is; else why not */
} gw_net_layer;

/* GW_ENOTSUP names every operator or property that stands in the way, with its node. The net keeps what
 * it needs of `m`; m may be freed after open. `k` must outlive the net. */
int gw_net_open(gw_net **n, const gw_onnx *m, const gw_kernels *k, const gw_net_options *o);
const gw_net_info *gw_net_get_info(const gw_net *n);
int gw_net_find_output(const gw_net *n, const char *name); /* -1: there is none */
/* Do both compute the same function, hop by hop (equal layers, weights, part, mode and hop)? Then one of
 * them, opened for a larger batch, does the work of both: detectors with equal trunks are streams of one net,
 * and models with equal trunks need it once. */
bool gw_net_equal(const gw_net *a, const gw_net *b);
/* For nets in window mode. They belong to the net. */
const gw_net_layer *gw_net_layers(const gw_net *n, int *count);
void gw_net_close(gw_net **n);

typedef struct gw_net_in {
    /* Whole and trunk: channel c of window (stream) b is at x + b * window_stride + c * channel_stride:
     * `window_samples` of it, or `hop_samples`. Windows may overlap, so they can lie in a ring. Or, if
     * `channel` is given, at channel[b * n_channels + c]: windows of several rings in one call. */
    const float *x;
    size_t channel_stride, window_stride; /* floats */
    const float *const *channel;
    /* Merged: features[b * n_detectors + d] is detector d's [columns][n_channels], as the trunk gave them. */
    const float *const *features;
    uint32_t n_windows; /* window mode: any number; stream: the batch (0 stands for it) */
} gw_net_in;

/* out[i]: [n_windows][channels][columns] of output i, or NULL where it is not wanted. A net on the device
 * takes arrays in either memory (all inputs of a call in the same one). If all are in the device's, the call
 * only enqueues; else all is done when it returns. */
int gw_net_run(gw_net *n, const gw_net_in *in, float *const *out);
/* Until all that was enqueued is done. */
int gw_net_wait(gw_net *n);

/* Stream mode. Forget the past: of all streams, or of one. The past is zeros then. */
void gw_net_reset(gw_net *n);
void gw_net_reset_stream(gw_net *n, uint32_t stream);
/* All that the streams remember, for a checkpoint. load: GW_EMISMATCH unless saved by a net of the same
 * model, part, hop and batch. */
size_t gw_net_state_bytes(const gw_net *n);
int gw_net_state_save(const gw_net *n, void *to);
int gw_net_state_load(gw_net *n, const void *from, size_t bytes);

#endif
