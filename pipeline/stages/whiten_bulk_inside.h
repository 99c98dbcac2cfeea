/* SPDX-License-Identifier: GPL-3.0-or-later
 * What the two halves of a bank share: whiten_bulk_bank.c, which is all of it on the host, and
 * whiten_bulk_device.c, which does the same on a device. Included by these alone. */
#ifndef GW_WHITEN_BULK_INSIDE_H
#define GW_WHITEN_BULK_INSIDE_H

#include "pipeline/stages/whiten_bulk_bank.h"

enum { GW_BANK_GROUP = 8 };

typedef struct gw_bank_channel {
    uint32_t slot; /* where its response lies */
    float scale;   /* a power of two; 0: no good hop yet */
    bool filtered; /* it has a filter */
    bool forget;   /* the next hop begins with nothing learnt */
    uint8_t state; /* gw_bank_state */
    uint32_t loud; /* hops in a row */
} gw_bank_channel;

/* What a thread works with. */
typedef struct gw_bank_worker {
    gw_bulk_scratch *scratch; /* on the host */
    gw_bulk_designer *designer;
    float *psd; /* [psd_bins], on the host */
    float *x;   /* [GROUP][hop], on the host where a hop must be put together or converted */
    uint32_t spare[GW_BANK_GROUP]; /* slots for the filters of channels that have one */
} gw_bank_worker;

typedef struct gw_bank_device gw_bank_device;

struct gw_bank {
    gw_bank_shape shape;
    const gw_bulk_ops *ops;
    gw_bulk *bulk;
    gw_bulk_info info;
    void *states, *responses; /* in the memory of `ops` */
    gw_bank_channel *channel; /* [n_channels] */
    uint8_t *seen;            /* [n_channels]: the states, for who asks */
    gw_bank_worker *worker;   /* [n_workers] */
    uint32_t n_workers;
    gw_bank_device *device; /* NULL: on the host */
    gw_bank_hop hop;        /* the one under way */
    int64_t number;         /* of the hop */
    atomic_bool changed;
    atomic_uint_fast32_t counting[GW_BANK_STATES];
    uint32_t count[GW_BANK_STATES];
    atomic_uint_fast64_t filtered, designs, gated, forgotten, filter_ns, design_ns;
};

static inline void *gw_bank_state_of(const gw_bank *b, uint32_t c)
{
    return (char *)b->states + (size_t)c * b->info.state_bytes;
}

static inline void *gw_bank_response_of(const gw_bank *b, uint32_t slot)
{
    return (char *)b->responses + (size_t)slot * b->info.response_bytes;
}

/* Whether it is the channel's turn for a design in hop `number`. */
static inline bool gw_bank_is_due(const gw_bank *b, uint32_t c, int64_t number)
{
    const int64_t interval = b->channel[c].filtered ? b->shape.update_hops : b->shape.first_hops;
    return (number - c) % interval == 0;
}

/* In whiten_bulk_bank.c. */

int64_t gw_bank_cpu_ns(void); /* of this thread */
size_t gw_bank_pieces(const gw_bank *b);
/* The filter for a PSD of so many segments; NULL: not enough is known, or it cannot be used. Any worker. */
const double *gw_bank_design(gw_bank *b, gw_bank_worker *w, uint32_t c, const float *psd, uint32_t segments);
/* Channel c goes on with the filter that comes into *spare, or into its own slot; `fading` is the one it had,
 * or NULL. Returns where to prepare it. */
void *gw_bank_change_filter(gw_bank *b, uint32_t c, uint32_t *spare, const void **fading);
/* What the kernel is to do with channel c of this hop, but for `fading`. */
void gw_bank_ask(const gw_bank *b, uint32_t c, gw_bulk_channel *k);
/* What came of it. */
void gw_bank_settle(gw_bank *b, uint32_t c, const gw_bulk_channel *k, uint8_t *y_presence);
void gw_bank_entry(const gw_bank *b, uint32_t c, gw_psd_entry *e, uint32_t segments);
void gw_bank_count_begin(gw_bank *b);
void gw_bank_count_end(gw_bank *b);

/* In whiten_bulk_device.c. As the functions of the bank. */

int gw_bank_device_new(gw_bank *b, const gw_device *device, gw_queue *queue);
void gw_bank_device_destroy(gw_bank *b);
void gw_bank_device_bytes(const gw_bank_shape *s, const gw_bulk_info *info, gw_bank_memory *m);
int gw_bank_device_step(gw_bank *b);
void gw_bank_device_finish(gw_bank *b, uint8_t *y_presence);
int gw_bank_device_part(gw_bank *b, const gw_bank_part *part, uint32_t index);
int gw_bank_device_save(gw_bank *b, gw_psd_file *f);
uint32_t gw_bank_device_spares(const gw_bank_shape *s); /* responses beyond one a channel */

#endif
