/* SPDX-License-Identifier: GPL-3.0-or-later
 * What bulk.c (the object, memory, filters) and bulk_step.c (a hop) share. Nobody else includes it. */
#ifndef GW_BULK_INSIDE_H
#define GW_BULK_INSIDE_H

#include "kernels/bulk_shared.h"
#include "kernels/cpu/bulk_layout.h"
#include "kernels/cpu/bulk_loops.h"
#include "kernels/cpu/fft32.h"

enum { LINE = 64, PAD = LINE / sizeof(float) };

struct gw_bulk {
    gw_bulk_shape shape;
    gw_bulk_info info;
    gw_bulk_layout layout;
    const gw_bulk_loops *loops;
    gw_fft32 *forward[GW_BULK_LEVELS], *inverse[GW_BULK_LEVELS], *segment;
    bool in_one;        /* forward, product and back in one go, unless two filters fade */
    float *rise;        /* [hop / decimate] of a fade */
    uint32_t n_max;     /* points of the longest transform */
    uint32_t psd_bins;  /* before pooling */
    float power_factor; /* of inner bins */
    float median_factor;
};

struct gw_bulk_scratch {
    const gw_bulk *b;
    void *memory;
    float *block;         /* [n_max] samples; then, unless the PSD wants them, what the inverse makes */
    float *out;           /* [n_max] what the inverse makes */
    float *spectrum;      /* [-PAD .. n_max + 2 * PAD] */
    float *product;       /* [n_max + PAD] */
    float *old;           /* [hop / decimate] through the filter that fades out */
    float *power;         /* [psd_bins] */
    float *pooled;        /* [info.psd_bins] */
    gw_fft32_ahead ahead; /* of the next channel */
    unsigned mode;        /* of the caller, for numbers below 1e-38 */
};

/* What a channel's state begins with: one line. The layout's arrays follow. */
typedef struct cpu_state {
    int64_t next;                        /* the sample expected next; INT64_MIN: any */
    int64_t past_from;                   /* first sample since the last hole */
    int64_t clean_from;                  /* first one that may be in a segment */
    uint32_t averaged;                   /* segments or medians in the PSD */
    uint32_t collected;                  /* segments waiting for their median */
    const void *tail_of[GW_BULK_LEVELS]; /* whose tail lies there; NULL: of no use any more */
    int64_t opens;                       /* the gate: gw_bulk_settle */
    float scale;                         /* of the last good hop; 0: there was none */
    _Alignas(LINE) float data[];
} cpu_state;
_Static_assert(sizeof(cpu_state) == LINE, "one line");

/* What a response begins with. */
typedef struct cpu_response {
    float factor; /* of its values when they are halves: a power of two */
    _Alignas(LINE) unsigned char data[];
} cpu_response;

static inline float *state_array(cpu_state *s, size_t at)
{
    return s->data + at;
}

/* The ops `past_clear` and `state_clear`. */
void gw_bulk_past_clear(const gw_bulk *b, void *state);
void gw_bulk_state_clear(const gw_bulk *b, void *state);

/* The op `step`. */
void gw_bulk_step(gw_bulk_scratch *w, int64_t sample0, gw_bulk_channel *channel, uint32_t n, const float *x,
                  size_t x_stride, float *y, size_t y_stride);

#endif
