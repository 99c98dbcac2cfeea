/* SPDX-License-Identifier: GPL-3.0-or-later
 * One whitening filter and the channels that go through it: usually one channel, the one it is learnt from;
 * with follow_first all channels of a stream. The stage whiten has one strand a channel and hands each the
 * blocks as they come; strands know nothing of each other, so whatever is wrong with a channel stays there,
 * and several may work at once. Here are the pieces on the absolute grid, the filter's memory, the cross-fade
 * from filter to filter, the gate, the warm-up, and what makes a channel unfit:
 *
 *   absent        its presence bit is clear
 *   not a number  a sample is NaN or infinite
 *   stuck         the first channel takes at most two values for 1/64 s and at least 32 samples: dead,
 *                 zero, or at the ends of its range; and for 1/16 s after that
 *
 * An unfit channel forgets its filter memory and gives nothing until that is full again; what was learnt
 * stays. Where nothing had been learnt yet, the warm-up begins anew. */
#ifndef GW_STRAND_H
#define GW_STRAND_H

#include "pipeline/stage.h"
#include "pipeline/stages/watch.h"
#include "pipeline/stages/whitener.h"

typedef struct gw_strand_shape {
    gw_whitener_shape whitener;
    gw_watch_shape watch;
    uint32_t n_channels;    /* the filter is learnt from the first */
    uint32_t block_samples; /* the longest step */
    uint32_t piece;         /* divides a tick: filters change between pieces */
    uint32_t tick, fade, taper;
    int64_t warmup_ticks;
    double gate; /* sigma */
} gw_strand_shape;

typedef enum gw_fault { GW_FIT, GW_UNFIT_ABSENT, GW_UNFIT_NAN, GW_UNFIT_STUCK } gw_fault;
const char *gw_fault_text(gw_fault f);

/* What a step has made of one channel. */
typedef struct gw_strand_out {
    int64_t from, to;  /* input samples whose output is there: one stretch; from = to: none */
    const double *y;   /* [to - from], until the next step */
    int64_t done;      /* input before this sample has been worked off */
    gw_gap_reason why; /* of what is missing before `done` */
    gw_fault fault;    /* the newest in the step */
} gw_strand_out;

typedef enum gw_strand_news { GW_STRAND_NONE, GW_STRAND_LEARNT, GW_STRAND_FORGOT } gw_strand_news;

typedef struct gw_strand gw_strand;

int gw_strand_new(gw_strand **s, const gw_spectrum_ops *ops, const gw_strand_shape *shape);
void gw_strand_destroy(gw_strand **s);
size_t gw_strand_memory(const gw_strand_shape *shape); /* bytes, roughly */

/* What comes next is not what follows, or lacks data quality. What was learnt stays. */
void gw_strand_gap(gw_strand *s);

/* The channels [first, first + n_channels) of a block. LEARNT: a new filter in this step. */
gw_strand_news gw_strand_take(gw_strand *s, const gw_view *in, gw_dtype dtype, uint32_t first);
const gw_strand_out *gw_strand_result(const gw_strand *s, uint32_t channel);

gw_whitener *gw_strand_whitener(gw_strand *s);
gw_watch *gw_strand_watch(gw_strand *s);
/* The whitener was restored: its filter is used as soon as the memory is full, without a warm-up. */
void gw_strand_warm(gw_strand *s);
uint64_t gw_strand_gated_samples(const gw_strand *s, uint32_t channel, uint64_t *times);

#endif
