/* SPDX-License-Identifier: GPL-3.0-or-later
 * The channels of whiten_bulk: on the host all of it, for a device what does not touch samples. A design (0.3
 * ms) is done where its channel is filtered, by the same worker, just before: so it needs no thread, queue or
 * hand-over of its own, and which samples a filter has learnt from does not depend on who was busy. The
 * price, that a hop is later by its share of designs, is small: they are spread. */
#include "pipeline/parallel.h"
#include "pipeline/stages/whiten_bulk_inside.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { GROUP = GW_BANK_GROUP };

/* -- memory ------------------------------------------------------------------------------------------ */

static bool needs_copy(const gw_bank_shape *s)
{
    return s->n_parts > 1 || s->dtype != GW_F32;
}

void gw_bank_bytes(const gw_bank_shape *s, const gw_bulk_info *info, bool on_device, gw_bank_memory *m)
{
    *m = (gw_bank_memory){.channel_bytes = sizeof(gw_bank_channel) + 1,
                          .thread_bytes = gw_bulk_designer_bytes(&s->design)};
    if (on_device) {
        gw_bank_device_bytes(s, info, m);
        return;
    }
    m->channel_bytes += info->state_bytes + info->response_bytes;
    m->thread_bytes += GROUP * info->response_bytes + info->psd_bins * sizeof(float) +
                       (needs_copy(s) ? GROUP * s->design.bulk.hop * sizeof(float) : 0);
}

void gw_bank_destroy(gw_bank **out)
{
    gw_bank *b = *out;
    if (!b)
        return;
    gw_bank_device_destroy(b);
    for (uint32_t i = 0; b->worker && i < b->n_workers; i++) {
        b->ops->scratch_destroy(&b->worker[i].scratch);
        gw_bulk_designer_destroy(&b->worker[i].designer);
        free(b->worker[i].psd);
        free(b->worker[i].x);
    }
    b->ops->memory_destroy(&b->states);
    b->ops->memory_destroy(&b->responses);
    b->ops->bulk_destroy(&b->bulk);
    free(b->channel);
    free(b->seen);
    free(b->worker);
    free(b);
    *out = NULL;
}

static int make_worker(gw_bank *b, uint32_t i)
{
    const gw_bulk_shape *s = &b->shape.design.bulk;
    gw_bank_worker *w = &b->worker[i];
    GW_TRY(b->ops->scratch_new(&w->scratch, b->bulk));
    w->psd = calloc(b->info.psd_bins, sizeof *w->psd);
    if (needs_copy(&b->shape))
        w->x = aligned_alloc(64, (GROUP * s->hop * sizeof *w->x + 63) / 64 * 64);
    if (!w->psd || (needs_copy(&b->shape) && !w->x))
        return gw_fail(GW_ENOMEM, "bulk whitening");
    for (uint32_t j = 0; j < GROUP; j++)
        w->spare[j] = b->shape.n_channels + i * GROUP + j;
    return GW_OK;
}

static int clear_piece(void *arg, size_t i)
{
    gw_bank *b = arg;
    for (uint32_t c = (uint32_t)i * GROUP; c < (i + 1) * GROUP && c < b->shape.n_channels; c++)
        b->ops->state_clear(b->bulk, gw_bank_state_of(b, c));
    return GW_OK;
}

size_t gw_bank_pieces(const gw_bank *b)
{
    return (b->shape.n_channels + GROUP - 1) / GROUP;
}

static int make(gw_bank *b, const gw_kernels *k, const gw_device *device, gw_queue *queue)
{
    const uint32_t n = b->shape.n_channels;
    GW_TRY(b->ops->bulk_new(&b->bulk, &b->shape.design.bulk));
    b->info = *b->ops->info(b->bulk);
    b->channel = calloc(n, sizeof *b->channel);
    b->seen = calloc(n, sizeof *b->seen);
    b->worker = calloc(b->n_workers, sizeof *b->worker);
    if (!b->channel || !b->seen || !b->worker)
        return gw_fail(GW_ENOMEM, "bulk whitening of %u channels", n);
    const size_t spares = device ? gw_bank_device_spares(&b->shape) : (size_t)GROUP * b->n_workers;
    GW_TRY(b->ops->memory_new(&b->states, n * b->info.state_bytes));
    GW_TRY(b->ops->memory_new(&b->responses, (n + spares) * b->info.response_bytes));
    for (uint32_t i = 0; i < b->n_workers; i++) {
        GW_TRY(gw_bulk_designer_new(&b->worker[i].designer, k, &b->shape.design));
        if (!device)
            GW_TRY(make_worker(b, i));
    }
    for (uint32_t c = 0; c < n; c++) {
        b->channel[c] = (gw_bank_channel){.slot = c, .state = GW_BANK_LEARNING};
        b->seen[c] = GW_BANK_LEARNING;
    }
    b->count[GW_BANK_LEARNING] = n;
    if (!device)
        return gw_parallel(GW_BULK, gw_bank_pieces(b), clear_piece, b);
    for (size_t i = 0; i < gw_bank_pieces(b); i++)
        clear_piece(b, i);
    return gw_bank_device_new(b, device, queue);
}

int gw_bank_new(gw_bank **out, const gw_kernels *k, const gw_bank_shape *s, const gw_device *device,
                gw_queue *queue)
{
    *out = NULL;
    gw_bank *b = calloc(1, sizeof *b);
    if (!b)
        return gw_fail(GW_ENOMEM, "bulk whitening");
    b->shape = *s;
    b->ops = &k->bulk;
    b->n_workers = (uint32_t)gw_parallel_threads();
    int err = make(b, k, device, queue);
    if (err != GW_OK) {
        gw_bank_destroy(&b);
        return err;
    }
    *out = b;
    return GW_OK;
}

/* -- a channel's hop --------------------------------------------------------------------------------- */

/* Of this thread, so that what it costs is told and not what else the machine does. */
int64_t gw_bank_cpu_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (int64_t)t.tv_sec * GW_SECOND_NS + t.tv_nsec;
}

const double *gw_bank_design(gw_bank *b, gw_bank_worker *w, uint32_t c, const float *psd, uint32_t segments)
{
    if (b->channel[c].forget || segments == 0 || segments < b->shape.segments_needed)
        return NULL;
    return gw_bulk_designer_run(w->designer, psd, segments);
}

void *gw_bank_change_filter(gw_bank *b, uint32_t c, uint32_t *spare, const void **fading)
{
    gw_bank_channel *ch = &b->channel[c];
    *fading = NULL;
    if (ch->filtered) {
        const uint32_t old = ch->slot;
        ch->slot = *spare;
        *spare = old;
        *fading = gw_bank_response_of(b, old);
    }
    ch->filtered = true;
    atomic_fetch_add_explicit(&b->designs, 1, memory_order_relaxed);
    return gw_bank_response_of(b, ch->slot);
}

void gw_bank_ask(const gw_bank *b, uint32_t c, gw_bulk_channel *k)
{
    const gw_bank_channel *ch = &b->channel[c];
    *k = (gw_bulk_channel){.scale = ch->scale};
    if (!gw_present(b->hop.presence, c))
        return;
    k->state = gw_bank_state_of(b, c);
    k->response = ch->filtered ? gw_bank_response_of(b, ch->slot) : NULL;
    k->forget = (uint8_t)(ch->forget ? GW_BULK_FORGET_ALL : b->hop.anew ? GW_BULK_FORGET_PAST : GW_BULK_KEEP);
}

static gw_bank_state judge(gw_bank *b, gw_bank_channel *ch, const gw_bulk_channel *k)
{
    static const gw_bank_state ill[] = {
        [GW_BULK_NAN] = GW_BANK_NAN, [GW_BULK_DEAD] = GW_BANK_DEAD, [GW_BULK_SATURATED] = GW_BANK_SATURATED};
    if (!k->state)
        return GW_BANK_ABSENT;
    ch->scale = k->scale;
    ch->forget = false;
    if (k->health != GW_BULK_GOOD)
        return ill[k->health];
    if (!k->response)
        return GW_BANK_LEARNING;
    if (k->shut)
        atomic_fetch_add_explicit(&b->gated, k->shut, memory_order_relaxed);
    ch->loud = k->peak > b->shape.design.bulk.gate ? ch->loud + 1 : 0;
    if (ch->loud >= b->shape.forget_hops) { /* a glitch passes; this stays */
        ch->forget = true;
        ch->filtered = false;
        ch->scale = 0;
        ch->loud = 0;
        atomic_fetch_add_explicit(&b->forgotten, 1, memory_order_relaxed);
    }
    return k->whole ? GW_BANK_GOOD : GW_BANK_FILLING;
}

void gw_bank_settle(gw_bank *b, uint32_t c, const gw_bulk_channel *k, uint8_t *y_presence)
{
    gw_bank_channel *ch = &b->channel[c];
    const gw_bank_state state = judge(b, ch, k);
    if (state != GW_BANK_GOOD)
        y_presence[c / 8] &= (uint8_t) ~(1u << c % 8);
    if (state >= GW_BANK_ABSENT)
        ch->loud = 0;
    if (ch->state != state)
        atomic_store_explicit(&b->changed, true, memory_order_relaxed);
    ch->state = b->seen[c] = (uint8_t)state;
    atomic_fetch_add_explicit(&b->counting[state], 1, memory_order_relaxed);
    if (state <= GW_BANK_FILLING)
        atomic_fetch_add_explicit(&b->filtered, 1, memory_order_relaxed);
}

void gw_bank_entry(const gw_bank *b, uint32_t c, gw_psd_entry *e, uint32_t segments)
{
    const gw_bank_channel *ch = &b->channel[c];
    const bool known = ch->scale > 0 && !ch->forget;
    e->segments = known ? segments : 0;
    e->scale = known ? (double)ch->scale : 1;
}

void gw_bank_count_begin(gw_bank *b)
{
    atomic_store_explicit(&b->changed, false, memory_order_relaxed);
    for (int i = 0; i < GW_BANK_STATES; i++)
        atomic_store_explicit(&b->counting[i], 0, memory_order_relaxed);
}

void gw_bank_count_end(gw_bank *b)
{
    for (int i = 0; i < GW_BANK_STATES; i++)
        b->count[i] = (uint32_t)atomic_load_explicit(&b->counting[i], memory_order_relaxed);
}

/* -- on the host ------------------------------------------------------------------------------------- */

static void gather(const gw_bank *b, uint32_t c, float *x)
{
    const uint32_t parts = b->shape.n_parts, n = b->shape.design.bulk.hop / parts;
    for (uint32_t p = 0; p < parts; p++) {
        const gw_bank_part *part = &b->hop.part[p];
        const size_t at = c * part->stride;
        if (b->shape.dtype == GW_F32) {
            memcpy(x + (size_t)p * n, (const float *)part->data + at, n * sizeof *x);
            continue;
        }
        for (uint32_t i = 0; i < n; i++)
            x[(size_t)p * n + i] = (float)((const double *)part->data)[at + i];
    }
}

static void design_if_due(gw_bank *b, gw_bank_worker *w, uint32_t c, uint32_t *spare, gw_bulk_channel *k)
{
    if (!gw_bank_is_due(b, c, b->number))
        return;
    const int64_t since_ns = gw_bank_cpu_ns();
    const uint32_t segments = b->ops->psd_get(b->bulk, gw_bank_state_of(b, c), w->psd);
    const double *taps = gw_bank_design(b, w, c, w->psd, segments);
    if (!taps)
        return;
    void *response = gw_bank_change_filter(b, c, spare, &k->fading);
    b->ops->prepare(w->scratch, taps, response);
    k->response = response;
    atomic_fetch_add_explicit(&b->design_ns, (uint64_t)(gw_bank_cpu_ns() - since_ns), memory_order_relaxed);
}

static void fill_entry(const gw_bank *b, uint32_t c, gw_psd_file *f)
{
    gw_psd_entry *e = gw_psd_file_entry(f, c);
    gw_bank_entry(b, c, e, b->ops->psd_get(b->bulk, gw_bank_state_of(b, c), e->psd));
}

static int piece(void *arg, size_t group)
{
    gw_bank *b = arg;
    gw_bank_worker *w = &b->worker[gw_parallel_worker()];
    const gw_bulk_shape *s = &b->shape.design.bulk;
    const uint32_t first = (uint32_t)group * GROUP, hop = s->hop;
    const uint32_t n = b->shape.n_channels - first < GROUP ? b->shape.n_channels - first : GROUP;
    const size_t n_out = hop / s->decimate;
    const int64_t since_ns = gw_bank_cpu_ns();
    const float *x = w->x;
    size_t stride = hop;
    if (!needs_copy(&b->shape)) {
        stride = b->hop.part[0].stride;
        x = (const float *)b->hop.part[0].data + first * stride;
    }
    gw_bulk_channel k[GROUP];
    for (uint32_t i = 0; i < n; i++) {
        gw_bank_ask(b, first + i, &k[i]);
        if (!k[i].state)
            continue;
        if (w->x)
            gather(b, first + i, w->x + (size_t)i * hop);
        design_if_due(b, w, first + i, &w->spare[i], &k[i]);
    }
    b->ops->step(w->scratch, b->hop.sample0, k, n, x, stride, b->hop.y + first * n_out, n_out);
    for (uint32_t i = 0; i < n; i++) {
        gw_bank_settle(b, first + i, &k[i], b->hop.y_presence);
        if (b->hop.save)
            fill_entry(b, first + i, b->hop.save);
    }
    atomic_fetch_add_explicit(&b->filter_ns, (uint64_t)(gw_bank_cpu_ns() - since_ns), memory_order_relaxed);
    return GW_OK;
}

int gw_bank_step(gw_bank *b, const gw_bank_hop *h)
{
    b->hop = *h;
    b->number = h->sample0 / b->shape.design.bulk.hop;
    if (b->device)
        return gw_bank_device_step(b);
    gw_bank_count_begin(b);
    int err = gw_parallel(GW_BULK, gw_bank_pieces(b), piece, b);
    gw_bank_count_end(b);
    return err;
}

void gw_bank_finish(gw_bank *b, uint8_t *y_presence)
{
    gw_bank_device_finish(b, y_presence);
}

int gw_bank_part_take(gw_bank *b, const gw_bank_part *part, uint32_t index)
{
    return gw_bank_device_part(b, part, index);
}

/* -- what else is asked of it ------------------------------------------------------------------------ */

void gw_bank_warm(gw_bank *b, gw_psd_file *f)
{
    for (uint32_t c = 0; c < b->shape.n_channels; c++) {
        const gw_psd_entry *e = gw_psd_file_entry(f, c);
        if (!e->segments)
            continue;
        b->channel[c].scale = (float)e->scale;
        b->ops->psd_set(b->bulk, gw_bank_state_of(b, c), e->psd, e->segments);
    }
}

int gw_bank_save(gw_bank *b, gw_psd_file *f)
{
    if (b->device)
        return gw_bank_device_save(b, f);
    for (uint32_t c = 0; c < b->shape.n_channels; c++)
        fill_entry(b, c, f);
    return GW_OK;
}

const uint32_t *gw_bank_count(const gw_bank *b)
{
    return b->count;
}

bool gw_bank_changed(const gw_bank *b)
{
    return atomic_load_explicit(&b->changed, memory_order_relaxed);
}

const uint8_t *gw_bank_states(const gw_bank *b)
{
    return b->seen;
}

gw_bank_work gw_bank_worked(const gw_bank *b)
{
    const uint64_t filter_ns = atomic_load(&b->filter_ns), design_ns = atomic_load(&b->design_ns);
    return (gw_bank_work){.filtered = atomic_load(&b->filtered),
                          .designs = atomic_load(&b->designs),
                          .gated = atomic_load(&b->gated),
                          .forgotten = atomic_load(&b->forgotten),
                          .filter_ns = b->device ? 0 : filter_ns - design_ns,
                          .design_ns = design_ns};
}
