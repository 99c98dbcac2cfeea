/* SPDX-License-Identifier: GPL-3.0-or-later
 * Where a network lies and who computes it: the seam under net_run.c. On the host (place_host.c) the memory
 * is plain and each call is done when it returns; on a GPU (kernels/cuda/net.cu) it is the device's and the
 * calls of one pass are recorded once for each size of a batch, then launched as a whole. Both take all
 * windows of a pass in one call. Sizes are floats, columns or channels; layers are those of kernels/conv.h.
 *
 * Arrays and also the bias and scale of `meet` and `norm` are floats of the place.
 *
 * A pass is begin, the calls that make it up, end. Between passes: floats, move, zero, wait. One thread. All
 * calls return GW_OK or an error of ours with its detail; begin without error is always followed by end. */
#ifndef GW_PLACE_H
#define GW_PLACE_H

#include "kernels/conv.h"

/* Window w of an array begins at x + w * step. */
typedef struct gw_place_array {
    float *x;
    size_t step;
} gw_place_array;

typedef struct gw_place_output {
    uint32_t channels, columns; /* of a window */
    bool channels_last;         /* given as it lies; else as [channel][column] */
} gw_place_output;

/* Convolutions on a device. TF32 and FP16: by cuDNN where that is there and faster than our own, inputs of
 * products rounded to 10 bits of mantissa (FP16: and their range is half precision's), sums in float32; what
 * lies in memory is float32. FP32: strict, by our own kernels. */
typedef enum gw_precision { GW_PRECISION_TF32, GW_PRECISION_FP32, GW_PRECISION_FP16 } gw_precision;

typedef struct gw_place_shape {
    uint32_t batch;                    /* the most windows of a pass */
    uint32_t channels, columns, first; /* of a window's input: columns first .. of what a call gives */
    uint32_t parts; /* of features: how many of them make an input; 0: it is no features' */
    bool summed;    /* features are added up; else side by side, channels / parts of each */
    bool in_place;  /* nothing is around the input's columns */
    int n_outputs;
    const gw_place_output *output; /* must outlive the place */
    void *queue;                   /* device: of kernels/cuda; NULL = one of its own */
    gw_precision precision;
} gw_place_shape;

/* Where the windows of a pass are and where its outputs go. `known`: the place has recorded a pass of this
 * many windows, the caller leaves out what it is made of. */
typedef struct gw_place_call {
    uint32_t count;   /* windows that are given and wanted ... */
    uint32_t windows; /* ... and that are computed; those beyond count of whatever is there */
    const float *x;   /* window w, channel c: x + w * window_stride + c * channel_stride */
    size_t channel_stride, window_stride;
    const float *const *channel;  /* or [count][channels]: each channel of each window; NULL: none */
    const float *const *features; /* or [count][parts], each [column][channel]; NULL: none */
    float *const *out;            /* [n_outputs]: [count][...], NULL: not wanted. Itself NULL: only record */
} gw_place_call;

/* `past` floats before `fresh` new ones: the last `past` of both are moved to the start. */
typedef struct gw_place_past {
    gw_place_array start;
    size_t past, fresh;
} gw_place_past;

typedef struct gw_place gw_place;

typedef struct gw_place_ops {
    gw_conv_ops layers; /* device: open and close of the convolutions that `conv` takes */

    int (*open)(gw_place **p, const gw_place_shape *s, const gw_conv_ops *layers);
    void (*close)(gw_place **p);
    /* Zeros, aligned to 64 bytes. */
    int (*floats_new)(float **x, size_t n);
    void (*floats_free)(float **x);
    /* `rows` rows of n floats between the place and the host or inside one; done on return. */
    int (*move)(gw_place *p, float *to, size_t to_step, const float *from, size_t from_step, size_t n,
                size_t rows);
    int (*wait)(gw_place *p); /* until all passes are done */

    int (*begin)(gw_place *p, const gw_place_call *call, bool *known);
    int (*end)(gw_place *p, int err); /* returns err, or what went wrong here. Arrays on the host are done. */

    /* The input as [column][channel]; may instead let *to be where it lies already (in_place). */
    int (*load)(gw_place *p, uint32_t count, gw_place_array *to);
    int (*give)(gw_place *p, uint32_t count, int output, gw_place_array from);
    int (*conv)(gw_place *p, const gw_conv *c, const gw_conv_io *io);
    /* Looks for a faster way, of the place's precision, of just this call of `conv`. NULL: there is none.
     * Before the first pass; the weights are as gw_conv_ops.open wants them. */
    int (*tune)(gw_place *p, const gw_conv *c, const gw_conv_desc *d, const gw_conv_io *io,
                const float *weight, const float *bias);
    /* b: a column each, or (one_column) one for all. */
    int (*join)(gw_place *p, uint32_t count, gw_join kind, gw_act act, uint32_t columns, uint32_t channels,
                gw_place_array a, gw_place_array b, bool one_column, gw_place_array dst);
    /* dst[i][c] = act(bias[c] + a[i][c] + b[i][c]), b.x may be NULL; columns of a are a_channels apart. */
    int (*meet)(gw_place *p, uint32_t count, gw_act act, uint32_t columns, uint32_t channels,
                const float *bias, gw_place_array a, uint32_t a_channels, gw_place_array b,
                gw_place_array dst);
    int (*act)(gw_place *p, uint32_t count, gw_act act, size_t n, gw_place_array x, gw_place_array dst);
    int (*mean)(gw_place *p, uint32_t count, uint32_t n, uint32_t span, uint32_t channels, gw_place_array x,
                gw_place_array dst);
    int (*pool)(gw_place *p, uint32_t count, const gw_pool *pool, gw_place_array src, gw_place_array dst);
    /* residual.x may be NULL. */
    int (*norm)(gw_place *p, uint32_t count, const gw_norm *norm, gw_place_array x, gw_place_array residual,
                gw_place_array dst);
    /* `channels` channels of each column; columns are from_channels (to_channels) apart. */
    int (*copy)(gw_place *p, uint32_t count, uint32_t columns, uint32_t channels, gw_place_array from,
                uint32_t from_channels, gw_place_array to, uint32_t to_channels);
    /* n floats from a on, and `after` floats behind `between` that stay as they are. */
    int (*zero)(gw_place *p, uint32_t count, gw_place_array a, size_t n, size_t between, size_t after);
    int (*keep)(gw_place *p, uint32_t count, const gw_place_past *past, int n);
} gw_place_ops;

void gw_place_host(gw_place_ops *ops);

#endif
