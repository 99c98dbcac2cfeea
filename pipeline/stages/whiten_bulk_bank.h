/* SPDX-License-Identifier: GPL-3.0-or-later
 * All channels of one stream of whiten_bulk: their memory, their filters, and what state each is in. A hop
 * goes through gw_parallel in pieces of eight channels (one byte of presence bits), so nothing is shared
 * between pieces; the state of a channel is a function of its own samples and the hop's number alone. Knows
 * no YAML, blocks or runner: whiten_bulk.c does that.
 *
 * A channel learns until its PSD holds `segments_needed`; then its filter is designed, by turns: in hop h
 * those channels that are h modulo the interval of designs, so that every hop has its share. A channel
 * without a usable hop is absent in the output for that hop and until its filter's memory is full again; its
 * PSD and filter stay.
 *
 * On a device the samples, states and filters lie there, and the host sees what the kernel says of each
 * channel, and the PSDs of those whose turn it is. A hop is a step, which only enqueues, and a finish; the
 * next step comes after it, so that filters and states are those of the host. */
#ifndef GW_WHITEN_BULK_BANK_H
#define GW_WHITEN_BULK_BANK_H

#include "kernels/kernels.h"
#include "pipeline/block.h"
#include "pipeline/stages/psd_file.h"
#include "pipeline/stages/whiten_bulk_design.h"

#include <stdatomic.h>

typedef enum gw_bank_state {
    GW_BANK_GOOD,
    GW_BANK_LEARNING, /* no filter yet */
    GW_BANK_FILLING,  /* its memory is not full yet */
    GW_BANK_ABSENT,   /* did not come */
    GW_BANK_NAN,
    GW_BANK_DEAD,
    GW_BANK_SATURATED,
    GW_BANK_STATES
} gw_bank_state;

typedef struct gw_bank_shape {
    gw_bulk_design_shape design; /* .bulk.gate is also the output's */
    uint32_t n_channels;
    gw_dtype dtype; /* GW_F32 or GW_F64 */
    uint32_t n_parts;
    uint32_t segments_needed;
    uint32_t forget_hops; /* so many hops in a row above the gate: the noise has changed, learn anew */
    uint32_t update_hops, first_hops; /* intervals of designs; first_hops: while a channel has no filter */
} gw_bank_shape;

typedef struct gw_bank gw_bank;

/* A hop: n_parts blocks of hop / n_parts samples. */
typedef struct gw_bank_part {
    const void *data; /* [channel][stride] */
    size_t stride;
} gw_bank_part;

typedef struct gw_bank_hop {
    int64_t sample0;
    const gw_bank_part *part; /* on a device with n_parts > 1: NULL, they were handed over one by one */
    const uint8_t *presence;  /* NULL = all */
    bool anew;                /* what came before is of another run: forget the past */
    gw_psd_file *save;        /* not NULL: each channel's entry is to be filled; on a device, from now on */
    float *y;                 /* [channel][hop / decimate]: 0 where a channel is absent */
    uint8_t *y_presence;      /* bits are cleared; on a device only in finish */
} gw_bank_hop;

typedef struct gw_bank_memory {
    size_t channel_bytes, thread_bytes;                 /* the host's: of a channel, of a thread */
    size_t device_bytes, device_rest_bytes, rest_bytes; /* a channel's on the device; once, there and here */
} gw_bank_memory;

/* `k` must outlive it. In open: allocates everything for as many threads as gw_parallel has. `device` and a
 * queue of it, or NULL: `k` can enqueue on it, samples are GW_F32, and hop / decimate and what a block has
 * are multiples of 4. */
int gw_bank_new(gw_bank **b, const gw_kernels *k, const gw_bank_shape *s, const gw_device *device,
                gw_queue *queue);
void gw_bank_destroy(gw_bank **b);
void gw_bank_bytes(const gw_bank_shape *s, const gw_bulk_info *info, bool on_device, gw_bank_memory *m);

/* Every channel goes on from what the file holds. */
void gw_bank_warm(gw_bank *b, gw_psd_file *f);
/* What gw_bank_hop.save does, by itself: at the end. An error is a device's. */
int gw_bank_save(gw_bank *b, gw_psd_file *f);

int gw_bank_step(gw_bank *b, const gw_bank_hop *h);
/* On a device. part: block `index` of the hop to come, 0 .. n_parts - 1; enqueues a copy. finish: when what
 * step has enqueued is done. saved: whether all entries of the `save` of an earlier step are filled; says so
 * once. */
int gw_bank_part_take(gw_bank *b, const gw_bank_part *part, uint32_t index);
void gw_bank_finish(gw_bank *b, uint8_t *y_presence);
bool gw_bank_saved(gw_bank *b);
bool gw_bank_saving(const gw_bank *b); /* some are filled */
/* After the latest hop: how many channels are in each state, whether any changed, and who is in which. */
const uint32_t *gw_bank_count(const gw_bank *b); /* [GW_BANK_STATES] */
bool gw_bank_changed(const gw_bank *b);
const uint8_t *gw_bank_states(const gw_bank *b); /* [n_channels] gw_bank_state */

/* Since the start. */
typedef struct gw_bank_work {
    uint64_t filtered, designs, gated, forgotten; /* channel-hops; filters; openings of a gate; PSDs */
    uint64_t filter_ns, design_ns;                /* of all threads together */
} gw_bank_work;
gw_bank_work gw_bank_worked(const gw_bank *b);

#endif
