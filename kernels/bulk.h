/* SPDX-License-Identifier: GPL-3.0-or-later
 * Whitening of very many channels in float32: filter, PSD and decimation in one visit to a channel while its
 * hop is in L2. Called by the stage whiten_bulk. The search's own channels go through convolver.h in double.
 *
 * A hop of every channel comes at a time. The filter is cut into partitions (Gardner, J. Audio Eng. Soc. 43,
 * 127, 1995): one of hop + n_taps points where the hop is long, blocks that grow where it is short, so that a
 * short hop leaves as soon as it came and the tail of a long filter costs little. The PSD is made of
 * the same spectra wherever a partition has the length of a segment: Hann is the three-tap convolution
 * -1/4, 1/2, -1/4 of bins, so no second transform is needed. Decimation shortens the inverse transform.
 *
 * A hop is judged before it counts (bulk_health.h), by the same rule everywhere: dead, saturated or not
 * finite, it leaves no trace in filter or PSD. With `taper` the output is judged as well, so that on a device
 * nobody has to look at samples between this and the next stage.
 *
 * No threads in here: a gw_bulk is read by all threads, a gw_bulk_scratch belongs to one, a channel is
 * worked on by one at a time. Results of a channel depend on its own samples alone, to the last bit: not on
 * its neighbours, nor on how channels are grouped into calls or threads. */
#ifndef GW_BULK_H
#define GW_BULK_H

#include "kernels/bulk_health.h"
#include "pipeline/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { GW_BULK_MEDIAN_MAX = 63 };
#define GW_BULK_LIMIT 1e14f /* a scaled sample beyond it counts as not finite: its power would overflow */

typedef struct gw_bulk_shape {
    uint32_t rate_hz;
    uint32_t hop;       /* samples a call; even, at least 64; hops begin at multiples of it */
    uint32_t n_taps;    /* of the filter */
    uint32_t decimate;  /* 1, 2, 4 or 8; goes into half the hop */
    uint32_t segment;   /* samples of a PSD segment; they begin at every multiple of segment / 2, which is
                           a multiple of the hop or divides it; 0: no PSD */
    uint32_t pool;      /* so many neighbouring bins of the PSD are kept as their mean; 1: all */
    uint32_t median_of; /* 0: average by mean. Else odd, at most GW_BULK_MEDIAN_MAX: the median of so many
                           segments in a row, over its bias (gw_bulk_median_bias) */
    uint32_t memory;    /* segments (or medians): until so many the plain mean of all, then exponential
                           with weight 1 / memory */
    float gate;         /* sigma: where |y| exceeds it, no segment that overlaps the hop enters the PSD; 0: no
                           gate */
    bool half;          /* filters are kept in half precision: half the memory, 3e-4 of error */
    uint32_t dead_run;  /* hops are judged, with this run (16 to hop); 0: only whether they are finite */
    uint32_t taper; /* output samples. 0: y is what the filter gives. Else it is what may be searched: 0 for
                       a hop without a filter, or not whole; and from the first |y| beyond `gate` until
                       taper samples after the last 0, then up by sin^2 over taper more */
} gw_bulk_shape;

typedef struct gw_bulk gw_bulk;
typedef struct gw_bulk_scratch gw_bulk_scratch;

typedef struct gw_bulk_info {
    size_t state_bytes;    /* of a channel: past and PSD */
    size_t response_bytes; /* of a filter made ready */
    uint32_t psd_bins;     /* pooled ones: bin k is the mean of bins [k * pool, (k + 1) * pool) */
    uint32_t n_partitions;
    double hop_bytes; /* of the device's memory that a channel's hop moves, each thing once; 0: not told */
    char layout[96];  /* for people: "4 x 1024 + 4 x 4096" */
} gw_bulk_info;

/* What is forgotten before a hop is taken. */
typedef enum gw_bulk_forget {
    GW_BULK_KEEP,
    GW_BULK_FORGET_PAST, /* as past_clear */
    GW_BULK_FORGET_ALL   /* as state_clear */
} gw_bulk_forget;

/* One channel of a call. */
typedef struct gw_bulk_channel {
    void *state; /* [state_bytes], 64-byte aligned; first of all through state_clear. NULL: the channel
                    did not come; y is 0 with `taper`, else left alone, and nothing is said */
    const void *response; /* NULL: no filter yet; y is 0 with `taper`, else left alone. Not rewritten while it
                             is in use */
    const void *fading;   /* NULL, or the filter before: y goes over from it, by sin^2 over this hop */
    float scale; /* samples are multiplied by it on their way in: a power of two that brings them near 1. 0:
                    by the state's own: what its last good hop used, or chooses as its first (gw_bulk_scale);
                    only state_clear forgets it. Said here */
    uint8_t forget; /* gw_bulk_forget */
    /* said by step: */
    uint8_t health;  /* gw_bulk_health. Not good: y is zero, the past forgotten, the PSD as it was */
    bool finite;     /* false: a sample (or y) was not: GW_BULK_NAN */
    bool whole;      /* the filter's memory was full for all of y */
    bool entered;    /* a segment entered the PSD */
    float peak;      /* max |y|, before the gate */
    float low, high; /* least and greatest sample, unscaled: equal in a dead channel. If finite */
    uint32_t shut;   /* with `taper`: how often the gate shut in this hop ... */
    bool muted;      /* ... and whether it took any of y away */
} gw_bulk_channel;

typedef struct gw_bulk_ops {
    /* GW_ERANGE with the reason for a shape that cannot be. */
    int (*bulk_new)(gw_bulk **b, const gw_bulk_shape *s);
    void (*bulk_destroy)(gw_bulk **b);
    const gw_bulk_info *(*info)(const gw_bulk *b);
    int (*scratch_new)(gw_bulk_scratch **w, const gw_bulk *b); /* in the thread that will use it */
    void (*scratch_destroy)(gw_bulk_scratch **w);
    /* Memory for n states or responses side by side, in this implementation's own memory space. */
    int (*memory_new)(void **m, size_t bytes);
    void (*memory_destroy)(void **m);
    void (*state_clear)(const gw_bulk *b, void *state); /* no past, no PSD */
    void (*past_clear)(const gw_bulk *b, void *state);  /* a hole: no past; the PSD stays */

    /* taps[n_taps], in the units that make unit noise of scaled input -> response, for what this scratch
     * steps or enqueues from now on. */
    void (*prepare)(gw_bulk_scratch *w, const double *taps, void *response);

    /* One hop, samples [sample0, sample0 + hop), sample0 >= 0, of n channels; where it does not begin with
     * the sample that the state expects next, there is a hole, as after past_clear. Channel i reads x + i *
     * x_stride (hop samples; any alignment, fastest at 64 bytes) and writes y + i * y_stride (hop /
     * decimate). y[j] = sum over k of taps[k] * scale * x[j * decimate - k]. Against double-precision
     * convolution: rms(difference) <= 1e-6 rms(y) on white noise, whatever the hop (3e-4 with `half`).
     * With decimation the filter must be zero above the output's Nyquist frequency; what it is not may be
     * dropped or folded. */
    void (*step)(gw_bulk_scratch *w, int64_t sample0, gw_bulk_channel *channel, uint32_t n, const float *x,
                 size_t x_stride, float *y, size_t y_stride);

    /* psd[psd_bins], (scaled unit)^2 / Hz, one-sided. Returns the segments in it, 0: none, psd is not
     * touched. psd_set is its inverse, for a warm start. Against scipy.signal.welch with the same segments,
     * of white noise: 1e-6 relative, rms over the bins. */
    uint32_t (*psd_get)(const gw_bulk *b, const void *state, float *psd);
    void (*psd_set)(const gw_bulk *b, void *state, const float *psd, uint32_t segments);

    /* For a device with queues of its own (CUDA: a cudaStream_t); elsewhere both are NULL, and step is all
     * there is. They only enqueue; what is enqueued on one queue is done in its order, and a scratch is used
     * with one queue.
     *
     * enqueue: a step. x and y lie on the device, rows 16-byte aligned. channel[n] lies in pinned host memory
     * and is left alone until the queue has come past it: then what step says stands in it, and responses
     * that only it used may be rewritten. Else GW_ERANGE. A device that fails says so in a later call or
     * mark.
     *
     * psd_read: psd_get of n channels into psd[n][psd_bins] and segments[n], pinned host memory, valid when
     * the queue has come past it; state[n] may go at once. */
    int (*enqueue)(gw_bulk_scratch *w, void *queue, int64_t sample0, gw_bulk_channel *channel, uint32_t n,
                   const float *x, size_t x_stride, float *y, size_t y_stride);
    int (*psd_read)(gw_bulk_scratch *w, void *queue, const void *const *state, uint32_t n, float *psd,
                    uint32_t *segments);
} gw_bulk_ops;

/* GW_ERANGE, and which value of the shape cannot be. */
int gw_bulk_shape_check(const gw_bulk_shape *s);
uint32_t gw_bulk_psd_bins(const gw_bulk_shape *s);

/* What the median of median_of pooled powers is on average, for noise of mean power 1. With pool 1 these are
 * exponentially distributed, and it is Allen et al.'s b(n) (psd.h). The mean of several is taken as gamma
 * distributed, with the variance that neighbouring Hann bins give it (they correlate by 4/9 and 1/36). */
double gw_bulk_median_bias(const gw_bulk_shape *s);

void gw_bulk_ref(gw_bulk_ops *ops); /* fills all: direct sums and transforms in double, to be read */
void gw_bulk_cpu(gw_bulk_ops *ops); /* single precision, fused, for this processor */

#endif
