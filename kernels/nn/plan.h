/* SPDX-License-Identifier: GPL-3.0-or-later
 * From an ONNX graph to a list of steps over buffers: constants read, constant factors folded into
 * convolutions, residual sums and activations fused, transposed convolutions turned into plain ones. Called
 * by net.c; does no arithmetic on data and needs no kernels. Takes what simplify.h leaves of a model.
 *
 * Operators: Conv and ConvTranspose (1-D), Gemm, MatMul (by a constant), BatchNormalization,
 * InstanceNormalization, GroupNormalization, LayerNormalization (all but the first axis), MaxPool,
 * AveragePool, GlobalAveragePool, ReduceMean (over time), Concat (of channels), Slice (of time or
 * channels), Pad (with zeros, of time), Add, Sub, Mul, Div, Neg (of series, or with a constant per channel),
 * activations, Flatten, Reshape, Squeeze, Unsqueeze (where nothing moves in memory), Identity, Dropout,
 * Constant. Batch 1. Float32 or float64 weights, used as float32.
 *
 * A buffer is channels-last with room for what its readers need around its new columns:
 *   [before + columns + after][channels]
 * In a window `before` and `after` are zeros, the padding; in a stream `before` is the past. After the
 * pooling over time a column belongs to a window (stream: to each frame's).
 *
 * Transposed convolution with stride s: y[s v + r - origin] = sum over i of w[s (v - i) + r + ...] x[i], that
 * is a plain convolution to s times as many channels, whose channels-last result is the interleaved
 * series already (`phases`). A tap that only some phases have is zero in the others, so a not-a-number may
 * reach a column further than it should. In a window origin is 0; in a stream it is chosen such that no
 * phase waits for another. */
#ifndef GW_PLAN_H
#define GW_PLAN_H

#include "kernels/conv.h"
#include "kernels/nn/net.h"
#include "kernels/nn/onnx.h"

typedef struct gw_netbuffer {
    uint32_t channels;
    uint32_t columns; /* new ones in a run: of the window, or of a hop; 0 = not used after all */
    uint32_t before, after;
    uint32_t samples; /* input samples a column; 0: not a whole number */
    uint32_t stale;   /* columns at the start of a window that depend on left padding */
    bool pooled;      /* one column a window; samples: those of a frame, 0 without pooling */
    bool mixed;       /* depends on more than one channel of the input in one of its parts */
    uint64_t field;   /* input samples a column depends on */
    /* Stream: the buffer's column 0 is the window's column -origin, and after n new columns the newest is
     * number n - lag - 1. */
    uint32_t origin, lag;
} gw_netbuffer;

typedef enum gw_netstep_kind {
    GW_STEP_CONV,
    GW_STEP_JOIN,
    GW_STEP_ACT,
    GW_STEP_MEAN,
    GW_STEP_POOL,
    GW_STEP_NORM,
    GW_STEP_COPY,
    GW_STEP_MEET /* out = act(bias + in[.. from .. from + channels] + in2): see plan_split.c */
} gw_netstep_kind;

typedef struct gw_netstep {
    gw_netstep_kind kind;
    uint32_t only;    /* 0: all windows; else only windows w with w % members == only - 1 (conv, norm) */
    const char *node; /* for messages */
    const char *why;  /* NULL, or why it cannot stream */
    int in, in2, out; /* buffers; in2: the other operand or a residual, or -1 */
    int32_t at, at2;  /* the column of in (in2) from which output column 0 is made, negative in `before` */
    uint32_t columns; /* to write; with phases, so many times `phases` */
    gw_act act;
    uint64_t parameters;
    /* conv: weight [out][in / groups][taps], bias [out]. norm: groups, epsilon, weight and bias [channels].
     * meet: bias [out]. */
    uint32_t groups, kernel, stride, dilation;
    float *weight, *bias, epsilon;
    bool transposed; /* then: its stride, its kernel and its left padding in ONNX's words */
    uint32_t phases, taps, pad;
    gw_join join;
    bool one_column;               /* join: in2 has one column for all */
    uint32_t span, tail;           /* mean: columns; and how many come after them in the window */
    bool mean, count_padding;      /* pool */
    uint32_t pad_left, in_columns; /* pool, window: columns that are not there; columns that are */
    uint32_t from, to, channels;   /* copy, meet: channels from .. of in become to .. of out (meet: all) */
} gw_netstep;

typedef struct gw_netvalue { /* an output: columns first .. of a buffer */
    const char *name;
    const char *why; /* NULL, or why a stream cannot give it */
    int buffer;
    uint32_t first, columns;
    int rank;
    int64_t dim[GW_ONNX_MAX_RANK];
} gw_netvalue;

typedef struct gw_netplan {
    gw_netbuffer *buffer;
    gw_netstep *step;
    gw_netvalue *output;
    int n_buffers, n_steps, n_outputs;
    int input; /* a buffer */
    uint32_t window_samples;
    uint32_t frame_samples; /* stream: the least hop */
    uint32_t input_first;   /* window: the input buffer begins at this column of what comes in */
    uint32_t n_detectors;   /* merged part: whose features together are its input; else 1 */
    bool summed;            /* ... their sum; else side by side */
    uint32_t members;       /* trunk of all: the detectors, whose windows take turns; else 1 */
    uint64_t parameters;
    double flop;           /* of a window, or of a hop */
    void *owned, *weights; /* memory of all sorts; of the convolutions' weights */
} gw_netplan;

/* The plan of one window. GW_ENOTSUP names all that stands in the way. Keeps nothing of m. */
int gw_netplan_window(gw_netplan **p, const gw_onnx *m);
/* Leaves the early steps of one detector, or the rest (plan_cut.c, plan_split.c). GW_ENOTSUP when they
 * cannot be cut. */
int gw_netplan_cut(gw_netplan *p, const char *path, gw_net_part part, uint32_t detector);
/* For gw_netplan_cut: turns the convolutions that mix the detectors first into a part for each detector and
 * what is left of them, where that can be done, and sets `summed` (plan_split.c). */
int gw_netplan_split(gw_netplan *p, uint32_t detectors);
/* Leaves out what no output of a window depends on (plan_trim.c). Not before gw_netplan_check_stream. */
int gw_netplan_trim(gw_netplan *p);
/* Is the buffer the input, or written by a step? */
bool gw_netplan_uses(const gw_netplan *p, int buffer);
/* Fills in every `why`; returns how many there are (plan_stream.c). */
int gw_netplan_check_stream(gw_netplan *p);
/* Turns it into the plan of a stream of hops, or GW_ENOTSUP / GW_ERANGE with the reasons. 0 = least hop. */
int gw_netplan_stream(gw_netplan *p, const char *path, uint32_t hop_samples);
void gw_netplan_free(gw_netplan **p);
/* A number for all that decides what it computes. Before the weights are dropped. */
uint64_t gw_netplan_mark(const gw_netplan *p);

/* Kernel size and `at` of a transposed convolution for an origin; at0: `at` of its input's column 0. */
void gw_netstep_phases(const gw_netstep *s, uint32_t origin, int32_t at0, uint32_t *kernel, int32_t *at);
/* Its weights [phases * out][in][kernel] and bias [phases * out]. */
void gw_netstep_weights(const gw_netstep *s, uint32_t in, uint32_t out, uint32_t origin, float *weight,
                        float *bias);
double gw_netstep_flop(const gw_netplan *p, const gw_netstep *s);
/* "conv 7 / 2, tanh" */
void gw_netstep_text(const gw_netplan *p, const gw_netstep *s, char *text, size_t n);

/* Zeroed memory that lives as long as the plan; NULL with the detail set. */
void *gw_plan_take(gw_netplan *p, size_t count, size_t bytes);
/* The same for weights of convolutions, which nobody needs once the layers are open. */
float *gw_plan_take_weights(gw_netplan *p, size_t count);
void gw_netplan_drop_weights(gw_netplan *p);

#endif
