/* SPDX-License-Identifier: GPL-3.0-or-later
 * The bank on a device. A hop is one enqueued call for all channels; what the kernel says of each comes back
 * into pinned memory. Behind it the PSDs are read of those channels whose turn comes in the next hop, so that
 * the host designs their filters while the device copies; and, while a checkpoint is being made, of some
 * more. Where the next hop is not the one that follows (after a hole, at the beginning), its PSDs are read
 * and waited for: a device with nothing to do. */
#include "pipeline/parallel.h"
#include "pipeline/stages/whiten_bulk_inside.h"

#include <stdlib.h>
#include <string.h>

enum { SAVE_S = 30 /* a checkpoint's PSDs are read within */ };

struct gw_bank_device {
    const gw_device *device;
    gw_queue *queue;
    gw_bulk_scratch *scratch;
    gw_bulk_channel *call; /* [n_channels], pinned */
    float *x;              /* [n_channels][hop] on the device; NULL where a block is a hop */
    /* PSDs that were read: of the channels due in hop `number`, then of those to be saved */
    int64_t number; /* INT64_MIN: of none */
    uint32_t n_due, n_read, room;
    uint32_t *who;       /* [room] */
    const void **state;  /* [room] */
    float *psd;          /* [room][psd_bins], pinned */
    uint32_t *segments;  /* [room], pinned */
    uint32_t *spare;     /* [most_due] response slots */
    double *taps;        /* [most_due][n_taps] */
    const void **fading; /* [most_due] */
    bool *designed;      /* [most_due] */
    gw_psd_file *file;   /* being filled; NULL: none */
    uint32_t save_at;    /* its next channel */
    bool saved;
};

/* -- memory ------------------------------------------------------------------------------------------ */

static uint32_t most_due(const gw_bank_shape *s)
{
    const uint64_t n = s->n_channels;
    const uint64_t most = n / s->first_hops + 1 + n / s->update_hops + 1;
    return (uint32_t)(most < n ? most : n);
}

static uint32_t saved_a_hop(const gw_bank_shape *s)
{
    const uint64_t hops = (uint64_t)SAVE_S * s->design.bulk.rate_hz / s->design.bulk.hop;
    return (uint32_t)(s->n_channels / (hops ? hops : 1) + 1);
}

uint32_t gw_bank_device_spares(const gw_bank_shape *s)
{
    return most_due(s);
}

void gw_bank_device_bytes(const gw_bank_shape *s, const gw_bulk_info *info, gw_bank_memory *m)
{
    const size_t due = most_due(s), room = due + saved_a_hop(s);
    m->channel_bytes += sizeof(gw_bulk_channel);
    m->rest_bytes =
        room * (info->psd_bins * sizeof(float) + 16) + due * (s->design.bulk.n_taps * sizeof(double) + 16);
    m->device_bytes =
        info->state_bytes + info->response_bytes + (s->n_parts > 1 ? s->design.bulk.hop * sizeof(float) : 0);
    m->device_rest_bytes = due * info->response_bytes;
}

static int pinned(const gw_device *device, void **m, size_t bytes)
{
    GW_TRY(device->memory_new(m, bytes, GW_SPACE_PINNED));
    memset(*m, 0, bytes);
    return GW_OK;
}

static int make(gw_bank *b, gw_bank_device *d)
{
    const gw_bulk_shape *s = &b->shape.design.bulk;
    const size_t n = b->shape.n_channels, due = most_due(&b->shape);
    d->room = (uint32_t)due + saved_a_hop(&b->shape);
    d->who = calloc(d->room, sizeof *d->who);
    d->state = calloc(d->room, sizeof *d->state);
    d->spare = calloc(due, sizeof *d->spare);
    d->taps = calloc(due * s->n_taps, sizeof *d->taps);
    d->fading = calloc(due, sizeof *d->fading);
    d->designed = calloc(due, sizeof *d->designed);
    if (!d->who || !d->state || !d->spare || !d->taps || !d->fading || !d->designed)
        return gw_fail(GW_ENOMEM, "bulk whitening of %zu channels", n);
    for (uint32_t i = 0; i < due; i++)
        d->spare[i] = (uint32_t)n + i;
    void *m = NULL;
    GW_TRY(pinned(d->device, &m, n * sizeof *d->call));
    d->call = m;
    GW_TRY(pinned(d->device, &m, d->room * b->info.psd_bins * sizeof *d->psd));
    d->psd = m;
    GW_TRY(pinned(d->device, &m, d->room * sizeof *d->segments));
    d->segments = m;
    if (b->shape.n_parts > 1) {
        GW_TRY(d->device->memory_new(&m, n * s->hop * sizeof *d->x, GW_SPACE_DEVICE));
        d->x = m;
    }
    return b->ops->scratch_new(&d->scratch, b->bulk);
}

int gw_bank_device_new(gw_bank *b, const gw_device *device, gw_queue *queue)
{
    gw_bank_device *d = b->device = calloc(1, sizeof *d);
    if (!d)
        return gw_fail(GW_ENOMEM, "bulk whitening");
    d->device = device;
    d->queue = queue;
    d->number = INT64_MIN;
    return make(b, d);
}

void gw_bank_device_destroy(gw_bank *b)
{
    gw_bank_device *d = b->device;
    if (!d)
        return;
    (void)d->device->queue_wait(d->queue); /* what fails here has failed before */
    b->ops->scratch_destroy(&d->scratch);
    void *host[] = {d->call, d->psd, d->segments}, *x = d->x;
    for (size_t i = 0; i < sizeof host / sizeof *host; i++)
        if (host[i])
            d->device->memory_destroy(&host[i], GW_SPACE_PINNED);
    if (x)
        d->device->memory_destroy(&x, GW_SPACE_DEVICE);
    free(d->who);
    free(d->state);
    free(d->spare);
    free(d->taps);
    free(d->fading);
    free(d->designed);
    free(d);
    b->device = NULL;
}

/* -- PSDs -------------------------------------------------------------------------------------------- */

static void list(gw_bank *b, uint32_t c)
{
    gw_bank_device *d = b->device;
    d->who[d->n_read] = c;
    d->state[d->n_read++] = gw_bank_state_of(b, c);
}

/* Enqueues the reading of the PSDs that hop `number` wants, and of `more` that the checkpoint does. */
static int read_psds(gw_bank *b, int64_t number, uint32_t more)
{
    gw_bank_device *d = b->device;
    const uint32_t most = most_due(&b->shape);
    d->number = number;
    d->n_read = 0;
    for (uint32_t c = 0; c < b->shape.n_channels && d->n_read < most; c++)
        if (gw_bank_is_due(b, c, number))
            list(b, c);
    d->n_due = d->n_read;
    for (uint32_t i = 0; i < more && d->file && d->save_at + i < b->shape.n_channels; i++)
        list(b, d->save_at + i);
    return d->n_read ? b->ops->psd_read(d->scratch, d->queue, d->state, d->n_read, d->psd, d->segments)
                     : GW_OK;
}

/* Those behind the due ones into the checkpoint. */
static void fill_entries(gw_bank *b)
{
    gw_bank_device *d = b->device;
    for (uint32_t i = d->n_due; i < d->n_read; i++) {
        gw_psd_entry *e = gw_psd_file_entry(d->file, d->who[i]);
        memcpy(e->psd, d->psd + (size_t)i * b->info.psd_bins, b->info.psd_bins * sizeof *e->psd);
        gw_bank_entry(b, d->who[i], e, d->segments[i]);
        d->save_at = d->who[i] + 1;
    }
    d->n_read = d->n_due;
    if (d->file && d->save_at == b->shape.n_channels) {
        d->file = NULL;
        d->saved = true;
    }
}

bool gw_bank_saved(gw_bank *b)
{
    const bool saved = b->device && b->device->saved;
    if (saved)
        b->device->saved = false;
    return saved;
}

bool gw_bank_saving(const gw_bank *b)
{
    return b->device && b->device->file;
}

int gw_bank_device_save(gw_bank *b, gw_psd_file *f)
{
    gw_bank_device *d = b->device;
    d->file = f;
    d->save_at = 0;
    d->number = INT64_MIN;
    while (d->file) {
        d->n_due = d->n_read = 0;
        for (uint32_t c = d->save_at; c < b->shape.n_channels && d->n_read < d->room; c++)
            list(b, c);
        GW_TRY(b->ops->psd_read(d->scratch, d->queue, d->state, d->n_read, d->psd, d->segments));
        GW_TRY(d->device->queue_wait(d->queue));
        fill_entries(b);
    }
    return GW_OK;
}

/* -- a hop ------------------------------------------------------------------------------------------- */

int gw_bank_device_part(gw_bank *b, const gw_bank_part *part, uint32_t index)
{
    const gw_bank_device *d = b->device;
    const uint32_t hop = b->shape.design.bulk.hop, n = hop / b->shape.n_parts;
    return d->device->copy_rows(d->queue, d->x + (size_t)index * n, hop * sizeof(float), part->data,
                                part->stride * sizeof(float), n * sizeof(float), b->shape.n_channels);
}

static int design_piece(void *arg, size_t i)
{
    gw_bank *b = arg;
    gw_bank_device *d = b->device;
    const uint32_t n_taps = b->shape.design.bulk.n_taps;
    const int64_t since_ns = gw_bank_cpu_ns();
    const double *taps = NULL;
    if (gw_present(b->hop.presence, d->who[i]))
        taps = gw_bank_design(b, &b->worker[gw_parallel_worker()], d->who[i], d->psd + i * b->info.psd_bins,
                              d->segments[i]);
    d->designed[i] = taps != NULL;
    if (taps)
        memcpy(d->taps + i * n_taps, taps, n_taps * sizeof *taps);
    atomic_fetch_add_explicit(&b->design_ns, (uint64_t)(gw_bank_cpu_ns() - since_ns), memory_order_relaxed);
    return GW_OK;
}

static int ask_piece(void *arg, size_t group)
{
    gw_bank *b = arg;
    const uint32_t first = (uint32_t)group * GW_BANK_GROUP;
    for (uint32_t c = first; c < first + GW_BANK_GROUP && c < b->shape.n_channels; c++)
        gw_bank_ask(b, c, &b->device->call[c]);
    return GW_OK;
}

int gw_bank_device_step(gw_bank *b)
{
    gw_bank_device *d = b->device;
    const gw_bulk_shape *s = &b->shape.design.bulk;
    const uint32_t n = b->shape.n_channels;
    const size_t n_out = s->hop / s->decimate;
    if (b->hop.save) {
        d->file = b->hop.save;
        d->save_at = 0;
    }
    if (d->number != b->number) {
        GW_TRY(read_psds(b, b->number, 0));
        GW_TRY(d->device->queue_wait(d->queue));
    }
    GW_TRY(gw_parallel(GW_BULK, d->n_due, design_piece, b));
    for (uint32_t i = 0; i < d->n_due; i++)
        if (d->designed[i])
            b->ops->prepare(d->scratch, d->taps + (size_t)i * s->n_taps,
                            gw_bank_change_filter(b, d->who[i], &d->spare[i], &d->fading[i]));
    GW_TRY(gw_parallel(GW_BULK, gw_bank_pieces(b), ask_piece, b));
    for (uint32_t i = 0; i < d->n_due; i++)
        if (d->designed[i])
            d->call[d->who[i]].fading = d->fading[i];
    const float *x = d->x ? d->x : b->hop.part[0].data;
    GW_TRY(b->ops->enqueue(d->scratch, d->queue, b->hop.sample0, d->call, n, x,
                           d->x ? s->hop : b->hop.part[0].stride, b->hop.y, n_out));
    b->hop.presence = NULL; /* lent for the step */
    return read_psds(b, b->number + 1, saved_a_hop(&b->shape));
}

static int settle_piece(void *arg, size_t group)
{
    gw_bank *b = arg;
    const uint32_t first = (uint32_t)group * GW_BANK_GROUP;
    for (uint32_t c = first; c < first + GW_BANK_GROUP && c < b->shape.n_channels; c++)
        gw_bank_settle(b, c, &b->device->call[c], b->hop.y_presence);
    return GW_OK;
}

void gw_bank_device_finish(gw_bank *b, uint8_t *y_presence)
{
    b->hop.y_presence = y_presence;
    gw_bank_count_begin(b);
    (void)gw_parallel(GW_BULK, gw_bank_pieces(b), settle_piece, b); /* pieces do not fail */
    gw_bank_count_end(b);
    fill_entries(b);
}
