/* SPDX-License-Identifier: GPL-3.0-or-later
 * The channels of whiten_bulk. A design (1 to 2 ms) is done where its channel is filtered, by the same
 * worker, just before: so it needs no thread, queue or hand-over of its own, and which samples a filter has
 * learnt from does not depend on who was busy. The price, that a hop is later by its share of designs, is
 * small: they are spread. */
#include "pipeline/stages/whiten_bulk_bank.h"

#include "pipeline/parallel.h"
#include "pipeline/stages/whiten_bulk_health.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { GROUP = 8 };

typedef struct channel {
    uint32_t slot; /* where its response lies */
    float scale;   /* a power of two; 0: no good hop yet */
    bool filtered; /* it has a filter */
    uint8_t state; /* gw_bank_state */
    uint32_t loud; /* hops in a row */
    int64_t opens; /* the gate: shut until this output sample; INT64_MIN: open */
} channel;

/* What a thread works with. */
typedef struct worker {
    gw_bulk_scratch *scratch;
    gw_bulk_designer *designer;
    float *psd;            /* [psd_bins] */
    float *x;              /* [GROUP][hop], where a hop must be put together or converted */
    uint32_t spare[GROUP]; /* slots for the filters of channels that have one */
} worker;

struct gw_bank {
    gw_bank_shape shape;
    const gw_bulk_ops *ops;
    gw_bulk *bulk;
    gw_bulk_info info;
    void *states, *responses;
    channel *channel; /* [n_channels] */
    uint8_t *seen;    /* [n_channels]: the states, for who asks */
    worker *worker;   /* [n_workers] */
    uint32_t n_workers, dead_run, taper;
    const gw_bank_hop *hop; /* the one under way */
    int64_t number;         /* of the hop */
    atomic_bool changed;
    atomic_uint_fast32_t counting[GW_BANK_STATES];
    uint32_t count[GW_BANK_STATES];
    atomic_uint_fast64_t filtered, designs, gated, forgotten, filter_ns, design_ns;
};

/* -- memory ------------------------------------------------------------------------------------------ */

static bool needs_copy(const gw_bank_shape *s)
{
    return s->n_parts > 1 || s->dtype != GW_F32;
}

void gw_bank_bytes(const gw_bank_shape *s, const gw_bulk_info *info, size_t *a_channel, size_t *thread)
{
    *a_channel = info->state_bytes + info->response_bytes + sizeof(channel) + 1;
    *thread = GROUP * info->response_bytes + gw_bulk_designer_bytes(&s->design) +
              (needs_copy(s) ? GROUP * s->design.bulk.hop * sizeof(float) : 0);
}

static void *state_of(const gw_bank *b, uint32_t c)
{
    return (char *)b->states + (size_t)c * b->info.state_bytes;
}

static void *response_of(const gw_bank *b, uint32_t slot)
{
    return (char *)b->responses + (size_t)slot * b->info.response_bytes;
}

void gw_bank_destroy(gw_bank **out)
{
    gw_bank *b = *out;
    if (!b)
        return;
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

static int make_worker(gw_bank *b, worker *w, const gw_kernels *k)
{
    const gw_bulk_shape *s = &b->shape.design.bulk;
    GW_TRY(b->ops->scratch_new(&w->scratch, b->bulk));
    GW_TRY(gw_bulk_designer_new(&w->designer, &k->spectrum, &b->shape.design));
    w->psd = calloc(b->info.psd_bins, sizeof *w->psd);
    if (needs_copy(&b->shape))
        w->x = aligned_alloc(64, (GROUP * s->hop * sizeof *w->x + 63) / 64 * 64);
    if (!w->psd || (needs_copy(&b->shape) && !w->x))
        return gw_fail(GW_ENOMEM, "bulk whitening");
    return GW_OK;
}

static int clear_piece(void *arg, size_t i)
{
    gw_bank *b = arg;
    for (uint32_t c = (uint32_t)i * GROUP; c < (i + 1) * GROUP && c < b->shape.n_channels; c++) {
        b->channel[c] = (channel){.slot = c, .state = GW_BANK_LEARNING, .opens = INT64_MIN};
        b->seen[c] = GW_BANK_LEARNING;
        b->ops->state_clear(b->bulk, state_of(b, c));
    }
    return GW_OK;
}

static size_t pieces(const gw_bank *b)
{
    return (b->shape.n_channels + GROUP - 1) / GROUP;
}

static int make(gw_bank *b, const gw_kernels *k)
{
    const size_t n = b->shape.n_channels;
    GW_TRY(b->ops->bulk_new(&b->bulk, &b->shape.design.bulk));
    b->info = *b->ops->info(b->bulk);
    b->channel = calloc(n, sizeof *b->channel);
    b->seen = calloc(n, sizeof *b->seen);
    b->worker = calloc(b->n_workers, sizeof *b->worker);
    if (!b->channel || !b->seen || !b->worker)
        return gw_fail(GW_ENOMEM, "bulk whitening of %zu channels", n);
    GW_TRY(b->ops->memory_new(&b->states, n * b->info.state_bytes));
    GW_TRY(b->ops->memory_new(&b->responses, (n + GROUP * b->n_workers) * b->info.response_bytes));
    for (uint32_t i = 0; i < b->n_workers; i++) {
        GW_TRY(make_worker(b, &b->worker[i], k));
        for (uint32_t j = 0; j < GROUP; j++)
            b->worker[i].spare[j] = (uint32_t)n + i * GROUP + j;
    }
    b->count[GW_BANK_LEARNING] = (uint32_t)n;
    return gw_parallel(GW_BULK, pieces(b), clear_piece, b);
}

int gw_bank_new(gw_bank **out, const gw_kernels *k, const gw_bank_shape *s)
{
    *out = NULL;
    gw_bank *b = calloc(1, sizeof *b);
    if (!b)
        return gw_fail(GW_ENOMEM, "bulk whitening");
    const uint32_t rate = s->design.bulk.rate_hz, hop = s->design.bulk.hop;
    b->shape = *s;
    b->ops = &k->bulk;
    b->n_workers = (uint32_t)gw_parallel_threads();
    b->dead_run = rate / 16 < hop ? rate / 16 : hop;
    b->taper = rate / s->design.bulk.decimate / 4;
    int err = make(b, k);
    if (err != GW_OK) {
        gw_bank_destroy(&b);
        return err;
    }
    *out = b;
    return GW_OK;
}

/* -- a channel's hop --------------------------------------------------------------------------------- */

static const gw_bank_state state_of_health[] = {[GW_HEALTH_GOOD] = GW_BANK_GOOD,
                                                [GW_HEALTH_NAN] = GW_BANK_NAN,
                                                [GW_HEALTH_DEAD] = GW_BANK_DEAD,
                                                [GW_HEALTH_SATURATED] = GW_BANK_SATURATED};

static void gather(const gw_bank *b, uint32_t c, float *x)
{
    const uint32_t parts = b->shape.n_parts, n = b->shape.design.bulk.hop / parts;
    for (uint32_t p = 0; p < parts; p++) {
        const gw_bank_part *part = &b->hop->part[p];
        const size_t at = c * part->stride;
        if (b->shape.dtype == GW_F32) {
            memcpy(x + (size_t)p * n, (const float *)part->data + at, n * sizeof *x);
            continue;
        }
        for (uint32_t i = 0; i < n; i++)
            x[(size_t)p * n + i] = (float)((const double *)part->data)[at + i];
    }
}

/* A power of two that brings the rms near 1. */
static float scale_for(const float *x, uint32_t n)
{
    double sum = 0;
    for (uint32_t i = 0; i < n; i++)
        sum += (double)x[i] * (double)x[i];
    int exponent;
    (void)frexp(sqrt(sum / n), &exponent);
    return ldexpf(1, exponent < -120 ? 120 : exponent > 120 ? -120 : -exponent);
}

/* Of this thread, so that what it costs is told and not what else the machine does. */
static int64_t cpu_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (int64_t)t.tv_sec * GW_SECOND_NS + t.tv_nsec;
}

/* Whether it is this channel's turn. */
static bool is_due(const gw_bank *b, uint32_t c)
{
    const int64_t interval = b->channel[c].filtered ? b->shape.update_hops : b->shape.first_hops;
    return (b->number - c) % interval == 0;
}

/* The filter with which the channel goes on, and the one it fades from. */
static void choose_filter(gw_bank *b, worker *w, uint32_t c, uint32_t *spare, gw_bulk_channel *k)
{
    channel *ch = &b->channel[c];
    k->fading = NULL;
    k->response = ch->filtered ? response_of(b, ch->slot) : NULL;
    if (!is_due(b, c))
        return;
    const int64_t since_ns = cpu_ns();
    const uint32_t segments = b->ops->psd_get(b->bulk, k->state, w->psd);
    const double *taps = NULL;
    if (segments && segments >= b->shape.segments_needed)
        taps = gw_bulk_designer_run(w->designer, w->psd, segments);
    if (!taps)
        return;
    if (ch->filtered) {
        const uint32_t old = ch->slot;
        ch->slot = *spare;
        *spare = old;
        k->fading = response_of(b, old);
    }
    b->ops->prepare(w->scratch, taps, response_of(b, ch->slot));
    k->response = response_of(b, ch->slot);
    ch->filtered = true;
    atomic_fetch_add_explicit(&b->designs, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&b->design_ns, (uint64_t)(cpu_ns() - since_ns), memory_order_relaxed);
}

/* As in whiten: shut from the first sample that is too loud until 1/4 s after the last, then opened over 1/4
 * s. */
static void gate(gw_bank *b, channel *ch, float *y, uint32_t n, int64_t first)
{
    for (uint32_t i = 0; i < n; i++) {
        const int64_t at = first + i;
        if (!(fabsf(y[i]) <= b->shape.design.bulk.gate)) {
            if (ch->opens == INT64_MIN || at >= ch->opens)
                atomic_fetch_add_explicit(&b->gated, 1, memory_order_relaxed);
            ch->opens = at + b->taper;
        }
        if (ch->opens == INT64_MIN)
            continue;
        if (at >= ch->opens + b->taper) {
            ch->opens = INT64_MIN;
            continue;
        }
        const double s = at < ch->opens ? 0 : sin(M_PI / 2 * (double)(at - ch->opens) / b->taper);
        y[i] *= (float)(s * s);
    }
}

/* What came of a hop that was filtered. */
static gw_bank_state judge(gw_bank *b, uint32_t c, const gw_bulk_channel *k, float *y)
{
    channel *ch = &b->channel[c];
    const gw_bulk_shape *s = &b->shape.design.bulk;
    if (!k->finite)
        return GW_BANK_NAN;
    if (!k->response)
        return GW_BANK_LEARNING;
    const bool loud = k->peak > s->gate;
    ch->loud = loud ? ch->loud + 1 : 0;
    if (loud || ch->opens != INT64_MIN)
        gate(b, ch, y, s->hop / s->decimate, b->hop->sample0 / s->decimate);
    if (ch->loud < b->shape.forget_hops)
        return k->whole ? GW_BANK_GOOD : GW_BANK_FILLING;
    /* A glitch passes; this stays. */
    b->ops->state_clear(b->bulk, k->state);
    ch->filtered = false;
    ch->loud = 0;
    ch->opens = INT64_MIN;
    atomic_fetch_add_explicit(&b->forgotten, 1, memory_order_relaxed);
    return GW_BANK_LEARNING;
}

static void settle(gw_bank *b, uint32_t c, gw_bank_state state, float *y)
{
    channel *ch = &b->channel[c];
    if (state != GW_BANK_GOOD) {
        memset(y, 0, b->shape.design.bulk.hop / b->shape.design.bulk.decimate * sizeof *y);
        b->hop->y_presence[c / 8] &= (uint8_t) ~(1u << c % 8);
    }
    if (state >= GW_BANK_ABSENT) {
        ch->loud = 0;
        ch->opens = INT64_MIN;
    }
    if (ch->state != state)
        atomic_store_explicit(&b->changed, true, memory_order_relaxed);
    ch->state = b->seen[c] = (uint8_t)state;
}

static void fill_entry(const gw_bank *b, uint32_t c, gw_psd_file *f)
{
    gw_psd_entry *e = gw_psd_file_entry(f, c);
    const channel *ch = &b->channel[c];
    e->segments = ch->scale > 0 ? b->ops->psd_get(b->bulk, state_of(b, c), e->psd) : 0;
    e->scale = ch->scale > 0 ? (double)ch->scale : 1;
}

/* Channels [first, first + n), all good, through the kernel in one call. */
static void filter_run(gw_bank *b, worker *w, uint32_t first, uint32_t n, const float *x, size_t stride,
                       gw_bank_state *state)
{
    const gw_bulk_shape *s = &b->shape.design.bulk;
    const size_t n_out = s->hop / s->decimate;
    float *y = b->hop->y + first * n_out;
    gw_bulk_channel k[GROUP] = {0};
    for (uint32_t i = 0; i < n; i++) {
        k[i].state = state_of(b, first + i);
        k[i].scale = b->channel[first + i].scale;
        choose_filter(b, w, first + i, &w->spare[i], &k[i]);
        if (b->hop->anew)
            b->ops->past_clear(b->bulk, k[i].state);
    }
    b->ops->step(w->scratch, b->hop->sample0, k, n, x, stride, y, n_out);
    for (uint32_t i = 0; i < n; i++)
        state[i] = judge(b, first + i, &k[i], y + i * n_out);
}

static int piece(void *arg, size_t group)
{
    gw_bank *b = arg;
    worker *w = &b->worker[gw_parallel_worker()];
    const uint32_t first = (uint32_t)group * GROUP, hop = b->shape.design.bulk.hop;
    const uint32_t n = b->shape.n_channels - first < GROUP ? b->shape.n_channels - first : GROUP;
    const int64_t since_ns = cpu_ns();
    const float *x = w->x;
    size_t stride = hop;
    if (!needs_copy(&b->shape)) {
        stride = b->hop->part[0].stride;
        x = (const float *)b->hop->part[0].data + first * stride;
    }
    gw_bank_state state[GROUP];
    for (uint32_t i = 0; i < n; i++) {
        const uint32_t c = first + i;
        if (!gw_present(b->hop->presence, c)) {
            state[i] = GW_BANK_ABSENT;
            continue;
        }
        if (w->x)
            gather(b, c, w->x + (size_t)i * hop);
        state[i] = state_of_health[gw_health_of(x + i * stride, hop, b->dead_run)];
        if (state[i] == GW_BANK_GOOD && b->channel[c].scale == 0)
            b->channel[c].scale = scale_for(x + i * stride, hop);
    }
    uint32_t filtered = 0;
    for (uint32_t i = 0, end; i < n; i = end + 1) {
        for (end = i; end < n && state[end] == GW_BANK_GOOD;)
            end++;
        if (end > i)
            filter_run(b, w, first + i, end - i, x + i * stride, stride, state + i);
        filtered += end - i;
    }
    const size_t n_out = hop / b->shape.design.bulk.decimate;
    for (uint32_t i = 0; i < n; i++) {
        settle(b, first + i, state[i], b->hop->y + (first + i) * n_out);
        atomic_fetch_add_explicit(&b->counting[state[i]], 1, memory_order_relaxed);
        if (b->hop->save)
            fill_entry(b, first + i, b->hop->save);
    }
    atomic_fetch_add_explicit(&b->filtered, filtered, memory_order_relaxed);
    atomic_fetch_add_explicit(&b->filter_ns, (uint64_t)(cpu_ns() - since_ns), memory_order_relaxed);
    return GW_OK;
}

int gw_bank_step(gw_bank *b, const gw_bank_hop *h)
{
    b->hop = h;
    b->number = h->sample0 / b->shape.design.bulk.hop;
    atomic_store_explicit(&b->changed, false, memory_order_relaxed);
    for (int i = 0; i < GW_BANK_STATES; i++)
        atomic_store_explicit(&b->counting[i], 0, memory_order_relaxed);
    int err = gw_parallel(GW_BULK, pieces(b), piece, b);
    for (int i = 0; i < GW_BANK_STATES; i++)
        b->count[i] = (uint32_t)atomic_load_explicit(&b->counting[i], memory_order_relaxed);
    b->hop = NULL;
    return err;
}

/* -- what else is asked of it ------------------------------------------------------------------------ */

void gw_bank_warm(gw_bank *b, gw_psd_file *f)
{
    for (uint32_t c = 0; c < b->shape.n_channels; c++) {
        const gw_psd_entry *e = gw_psd_file_entry(f, c);
        if (!e->segments)
            continue;
        b->channel[c].scale = (float)e->scale;
        b->ops->psd_set(b->bulk, state_of(b, c), e->psd, e->segments);
    }
}

void gw_bank_save(gw_bank *b, gw_psd_file *f)
{
    for (uint32_t c = 0; c < b->shape.n_channels; c++)
        fill_entry(b, c, f);
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
                          .filter_ns = filter_ns - design_ns,
                          .design_ns = design_ns};
}
