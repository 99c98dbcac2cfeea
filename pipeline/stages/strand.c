/* SPDX-License-Identifier: GPL-3.0-or-later
 * Work is done in pieces on the absolute grid as soon as they are whole, so the bits do not depend on the
 * blocks. See the header. */
#include "pipeline/stages/strand.h"

#include "kernels/convolver.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { STUCK_SAMPLES = 32 };

/* The stretch up to now in which a signal took at most two values. A sensor that is dead, or that is driven
 * from one end of its range to the other, does so for long; noise does not. */
typedef struct two_values {
    double now, other;
    uint32_t length, same; /* samples of the stretch; of them, the newest that are equal to `now` */
} two_values;

typedef struct channel {
    gw_convolver *memory;
    double *waiting;    /* [piece] of the piece that is not whole yet */
    bool absent;        /* a sample of it is missing */
    gw_fault fault;     /* of the newest whole piece */
    bool empty;         /* the memory was reset and nothing has come since */
    int64_t good_from;  /* first sample in the memory */
    int64_t shut_until; /* the gate; INT64_MIN: open */
    double *y;          /* [capacity] output of this step, from `origin` on */
    gw_strand_out out;
    uint64_t gated_samples, gated_times;
} channel;

struct gw_strand {
    gw_strand_shape shape;
    gw_whitener *whitener;
    gw_watch *watch;
    double *response[2], *fading; /* fading: [piece] */
    int current;
    bool has_filter;
    int64_t fade_from; /* INT64_MIN: no fade */
    bool warming;      /* no good piece yet, so no tick of readiness */
    int64_t ready_tick;
    two_values values; /* of the first channel */
    uint32_t stuck_samples, linger;
    int64_t stuck_until;
    /* the stream */
    bool begun;
    int64_t next, align_to; /* the input sample that comes next; pieces begin at align_to */
    uint32_t n_waiting;
    int64_t origin;   /* first sample of the step's first piece; INT64_MIN: none yet */
    channel *channel; /* [n_channels] */
};

const char *gw_fault_text(gw_fault f)
{
    static const char *const text[] = {[GW_FIT] = "fit",
                                       [GW_UNFIT_ABSENT] = "absent",
                                       [GW_UNFIT_NAN] = "not a number",
                                       [GW_UNFIT_STUCK] = "stuck at one value or two"};
    return text[f];
}

/* -- life -------------------------------------------------------------------------------------------- */

static uint32_t capacity_of(const gw_strand_shape *s)
{
    return (s->block_samples + s->piece - 1) / s->piece * s->piece;
}

size_t gw_strand_memory(const gw_strand_shape *s)
{
    return gw_whitener_memory(&s->whitener) + gw_watch_memory(&s->watch) +
           s->n_channels * (4 * (size_t)s->whitener.n_taps + capacity_of(s)) * sizeof(double);
}

void gw_strand_destroy(gw_strand **ss)
{
    gw_strand *s = *ss;
    if (!s)
        return;
    *ss = NULL;
    for (uint32_t c = 0; s->channel && c < s->shape.n_channels; c++) {
        gw_convolver_destroy(&s->channel[c].memory);
        free(s->channel[c].waiting);
        free(s->channel[c].y);
    }
    gw_whitener_destroy(&s->whitener);
    gw_watch_destroy(&s->watch);
    free(s->response[0]);
    free(s->response[1]);
    free(s->fading);
    free(s->channel);
    free(s);
}

static int allocate(gw_strand *s, const gw_spectrum_ops *ops)
{
    const gw_strand_shape *shape = &s->shape;
    GW_TRY(gw_whitener_new(&s->whitener, ops, &shape->whitener));
    GW_TRY(gw_watch_new(&s->watch, ops, &shape->watch));
    s->channel = calloc(shape->n_channels, sizeof *s->channel);
    s->fading = calloc(shape->piece, sizeof *s->fading);
    if (!s->channel || !s->fading)
        return gw_fail(GW_ENOMEM, "whitening");
    for (uint32_t c = 0; c < shape->n_channels; c++) {
        channel *ch = &s->channel[c];
        ch->shut_until = INT64_MIN;
        GW_TRY(gw_convolver_new(&ch->memory, ops, shape->whitener.n_taps, shape->piece));
        ch->waiting = calloc(shape->piece, sizeof *ch->waiting);
        ch->y = calloc(capacity_of(shape), sizeof *ch->y);
        if (!ch->waiting || !ch->y)
            return gw_fail(GW_ENOMEM, "whitening");
    }
    for (int i = 0; i < 2; i++) {
        s->response[i] = calloc(gw_convolver_response_size(s->channel[0].memory), sizeof(double));
        if (!s->response[i])
            return gw_fail(GW_ENOMEM, "whitening");
    }
    return GW_OK;
}

int gw_strand_new(gw_strand **out, const gw_spectrum_ops *ops, const gw_strand_shape *shape)
{
    *out = NULL;
    gw_strand *s = calloc(1, sizeof *s);
    if (!s)
        return gw_fail(GW_ENOMEM, "whitening");
    s->shape = *shape;
    s->fade_from = INT64_MIN;
    s->warming = true;
    s->stuck_until = INT64_MIN;
    s->linger = shape->whitener.rate_hz / 16;
    s->stuck_samples = shape->whitener.rate_hz / 64;
    s->stuck_samples = s->stuck_samples < STUCK_SAMPLES ? STUCK_SAMPLES : s->stuck_samples;
    const int err = allocate(s, ops);
    if (err != GW_OK) {
        gw_strand_destroy(&s);
        return err;
    }
    *out = s;
    return GW_OK;
}

gw_whitener *gw_strand_whitener(gw_strand *s)
{
    return s->whitener;
}

gw_watch *gw_strand_watch(gw_strand *s)
{
    return s->watch;
}

uint64_t gw_strand_gated_samples(const gw_strand *s, uint32_t channel, uint64_t *times)
{
    *times = s->channel[channel].gated_times;
    return s->channel[channel].gated_samples;
}

const gw_strand_out *gw_strand_result(const gw_strand *s, uint32_t channel)
{
    return &s->channel[channel].out;
}

void gw_strand_warm(gw_strand *s)
{
    gw_convolver_prepare(s->channel[0].memory, gw_whitener_taps(s->whitener), s->response[s->current]);
    s->has_filter = true;
    s->warming = false;
    s->ready_tick = 0;
}

/* -- fit or not -------------------------------------------------------------------------------------- */

/* The memory of a channel is empty, and fills again from `sample` on. */
static void empty(channel *ch, int64_t sample)
{
    if (!ch->empty)
        gw_convolver_reset(ch->memory);
    ch->empty = true;
    ch->shut_until = INT64_MIN;
    ch->good_from = sample;
}

static void begin(gw_strand *s, int64_t sample)
{
    const int64_t piece = s->shape.piece;
    s->begun = true;
    s->next = sample;
    s->n_waiting = 0;
    s->align_to = (sample + piece - 1) / piece * piece;
    s->warming |= !s->has_filter;
    s->values.length = 0;
    s->stuck_until = INT64_MIN;
    for (uint32_t c = 0; c < s->shape.n_channels; c++) {
        empty(&s->channel[c], s->align_to);
        s->channel[c].absent = false;
    }
}

void gw_strand_gap(gw_strand *s)
{
    s->begun = false;
}

static void count_values(two_values *v, double x)
{
    if (v->length && x == v->now) {
        v->same++;
    } else {
        const bool third = v->same < v->length && x != v->other;
        if (third) /* what is left is the newest run of one */
            v->length = v->same;
        v->other = v->now;
        v->now = x;
        v->same = 1;
    }
    v->length++;
}

/* The piece that begins at `sample0`. */
static gw_fault judge(const gw_strand *s, const channel *ch, int64_t sample0)
{
    if (ch->absent)
        return GW_UNFIT_ABSENT;
    double sum = 0;
    for (uint32_t i = 0; i < s->shape.piece; i++)
        sum += 0 * ch->waiting[i];
    if (sum != 0) /* it is NaN */
        return GW_UNFIT_NAN;
    return ch == &s->channel[0] && sample0 < s->stuck_until ? GW_UNFIT_STUCK : GW_FIT;
}

static gw_gap_reason reason_of(gw_fault f)
{
    return f == GW_UNFIT_NAN ? GW_GAP_NAN : GW_GAP_ABSENT;
}

/* -- a piece ----------------------------------------------------------------------------------------- */

/* The warm-up runs from the tick boundary nearest to the first good sample: a recording that begins at a
 * whole second loses some milliseconds to the resampler, and is ready `warmup` after its beginning all the
 * same. */
static void warm_up_from(gw_strand *s, int64_t sample)
{
    s->warming = false;
    s->ready_tick = (sample + s->shape.tick / 2) / s->shape.tick + s->shape.warmup_ticks;
}

static gw_strand_news learn(gw_strand *s, int64_t sample0)
{
    const channel *ch = &s->channel[0];
    switch (gw_whitener_feed(s->whitener, sample0, ch->waiting, s->shape.piece)) {
    case GW_WHITENER_SAME:
        return GW_STRAND_NONE;
    case GW_WHITENER_FILTER:
        s->fade_from = s->has_filter ? sample0 : INT64_MIN;
        s->current = !s->current;
        s->has_filter = true;
        gw_convolver_prepare(ch->memory, gw_whitener_taps(s->whitener), s->response[s->current]);
        gw_watch_look(s->watch, sample0 / s->shape.tick, gw_whitener_psd(s->whitener),
                      gw_whitener_segments(s->whitener),
                      gw_whitener_past(s->whitener, gw_watch_samples(s->watch)));
        return GW_STRAND_LEARNT;
    case GW_WHITENER_FORGOT:
        s->has_filter = false;
        gw_watch_forget(s->watch);
        warm_up_from(s, sample0);
        return GW_STRAND_FORGOT;
    }
    return GW_STRAND_NONE;
}

/* y[piece] of one channel, cross-faded while the filter is new. */
static void filter(gw_strand *s, const channel *ch, int64_t sample0, double *y)
{
    const uint32_t fade = s->shape.fade;
    gw_convolver_run(ch->memory, s->response[s->current], y);
    if (s->fade_from == INT64_MIN || sample0 - s->fade_from >= fade)
        return;
    const int64_t age = sample0 - s->fade_from;
    gw_convolver_run(ch->memory, s->response[!s->current], s->fading);
    for (uint32_t i = 0; i < s->shape.piece; i++) {
        const double r = age + i < fade ? sin(M_PI / 2 * (double)(age + i) / fade) : 1;
        y[i] = s->fading[i] + r * r * (y[i] - s->fading[i]);
    }
}

/* Shuts at once (there is no look-ahead to taper in), stays shut for 1/4 s after the last loud sample, and
 * opens over another 1/4 s. Returns whether anything was loud. */
static bool gate(const gw_strand_shape *shape, channel *ch, int64_t sample0, double *y)
{
    bool loud = false;
    for (uint32_t i = 0; i < shape->piece; i++) {
        const int64_t n = sample0 + i;
        if (!(fabs(y[i]) <= shape->gate)) {
            ch->gated_times += ch->shut_until == INT64_MIN || n >= ch->shut_until;
            ch->shut_until = n + shape->taper;
            loud = true;
        }
        if (ch->shut_until == INT64_MIN)
            continue;
        if (n >= ch->shut_until + shape->taper) {
            ch->shut_until = INT64_MIN;
            continue;
        }
        const double r = n < ch->shut_until ? 0 : sin(M_PI / 2 * (double)(n - ch->shut_until) / shape->taper);
        y[i] *= r * r;
        ch->gated_samples++;
    }
    return loud;
}

static void do_channel(gw_strand *s, uint32_t c, int64_t sample0)
{
    channel *ch = &s->channel[c];
    gw_strand_out *out = &ch->out;
    if (ch->fault != GW_FIT) {
        out->why = reason_of(ch->fault);
        return;
    }
    gw_convolver_push(ch->memory, ch->waiting);
    ch->empty = false;
    const bool memory_full = sample0 - ch->good_from >= s->shape.whitener.n_taps - 1;
    const bool warm = !s->warming && sample0 >= s->ready_tick * s->shape.tick;
    if (memory_full && s->has_filter) {
        double *y = ch->y + (sample0 - s->origin);
        filter(s, ch, sample0, y);
        if (gate(&s->shape, ch, sample0, y) && c == 0)
            gw_whitener_loud(s->whitener);
        /* A step hands out one stretch; what follows a fault inside a block is left to the next. */
        if (warm && (out->from == out->to || sample0 == out->to)) {
            if (out->from == out->to) {
                out->from = sample0;
                out->y = y;
            }
            out->to = sample0 + s->shape.piece;
            return;
        }
    }
    if (out->why != GW_GAP_NAN && out->why != GW_GAP_ABSENT)
        out->why = warm && !memory_full ? GW_GAP_HISTORY : GW_GAP_WARMUP;
}

/* The piece at `sample0` is whole, in every channel's `waiting`. */
static gw_strand_news do_piece(gw_strand *s, int64_t sample0)
{
    const int64_t end = sample0 + s->shape.piece;
    gw_strand_news news = GW_STRAND_NONE;
    const bool first = s->origin == INT64_MIN;
    s->origin = first ? sample0 : s->origin;
    for (uint32_t c = 0; c < s->shape.n_channels; c++) {
        channel *ch = &s->channel[c];
        ch->fault = judge(s, ch, sample0);
        if (first || ch->fault != GW_FIT)
            ch->out.fault = ch->fault;
        if (ch->fault != GW_FIT)
            empty(ch, end);
    }
    if (s->channel[0].fault != GW_FIT) {
        s->warming |= !s->has_filter;
    } else {
        if (s->warming)
            warm_up_from(s, sample0);
        news = learn(s, sample0);
    }
    for (uint32_t c = 0; c < s->shape.n_channels; c++) {
        do_channel(s, c, sample0);
        s->channel[c].out.done = end;
        s->channel[c].absent = false;
    }
    return news;
}

/* -- blocks ------------------------------------------------------------------------------------------ */

static void copy_in(gw_strand *s, const gw_view *in, gw_dtype dtype, uint32_t first, uint32_t from,
                    uint32_t n)
{
    for (uint32_t c = 0; c < s->shape.n_channels; c++) {
        channel *ch = &s->channel[c];
        double *to = ch->waiting + s->n_waiting;
        const size_t at = (first + c) * in->stride + from;
        if (!gw_present(in->presence, first + c)) {
            ch->absent = true;
            memset(to, 0, n * sizeof *to);
        } else if (dtype == GW_F64) {
            memcpy(to, (const double *)in->data + at, n * sizeof *to);
        } else {
            for (uint32_t i = 0; i < n; i++)
                to[i] = ((const float *)in->data)[at + i];
        }
    }
    if (s->channel[0].absent)
        s->values.length = 0;
    for (uint32_t i = 0; !s->channel[0].absent && i < n; i++) {
        count_values(&s->values, s->channel[0].waiting[s->n_waiting + i]);
        if (s->values.length >= s->stuck_samples) /* a while longer: a resampler rings where it ends */
            s->stuck_until = s->next + i + 1 + s->linger;
    }
}

gw_strand_news gw_strand_take(gw_strand *s, const gw_view *in, gw_dtype dtype, uint32_t first)
{
    gw_strand_news news = GW_STRAND_NONE;
    if (!s->begun || in->sample0 != s->next)
        begin(s, in->sample0);
    s->origin = INT64_MIN;
    for (uint32_t c = 0; c < s->shape.n_channels; c++) {
        const gw_fault fault = s->channel[c].out.fault;
        s->channel[c].out =
            (gw_strand_out){.done = s->next - s->n_waiting, .why = GW_GAP_HISTORY, .fault = fault};
    }
    for (uint32_t i = 0; i < in->n_samples;) {
        const uint32_t left = in->n_samples - i;
        if (s->next < s->align_to) { /* up to the grid */
            const int64_t skip = s->align_to - s->next;
            const uint32_t n = skip < left ? (uint32_t)skip : left;
            i += n;
            s->next += n;
            continue;
        }
        const uint32_t room = s->shape.piece - s->n_waiting, n = left < room ? left : room;
        copy_in(s, in, dtype, first, i, n);
        i += n;
        s->next += n;
        s->n_waiting += n;
        if (s->n_waiting == s->shape.piece) {
            s->n_waiting = 0;
            const gw_strand_news now = do_piece(s, s->next - s->shape.piece);
            news = now > news ? now : news;
        }
    }
    return news;
}
