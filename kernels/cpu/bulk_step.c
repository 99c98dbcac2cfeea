/* SPDX-License-Identifier: GPL-3.0-or-later
 * A hop of bulk whitening. One channel's hop is taken in, transformed, multiplied, transformed back and its
 * PSD kept while all of it is in the second-level cache; meanwhile the next channel is fetched from memory.
 *
 * A tail (the part that a whole block of a level above the first adds to the next block) is made when the
 * first hop of that next block asks for it, from the spectra in the state; so it is also made anew when a
 * channel changes its filter, and nothing else is needed for a cross-fade in mid-block. */
#include "kernels/cpu/bulk_inside.h"

#include <math.h>
#include <string.h>
#ifdef __SSE2__
#include <xmmintrin.h>
#endif

/* ---- the past ---- */

/* to[n]: the samples from `back` before `end` on, the first one not yet kept; back at most layout.past. */
static void past_read(const gw_bulk *b, cpu_state *s, int64_t end, uint32_t back, float *to, uint32_t n)
{
    const uint32_t size = b->layout.past;
    const float *past = state_array(s, b->layout.past_at);
    if (size <= b->shape.hop) {
        memcpy(to, past + size - back, n * sizeof *to);
        return;
    }
    const uint32_t at = (uint32_t)(end % size), from = (at + size - back) % size;
    const uint32_t first = size - from < n ? size - from : n;
    memcpy(to, past + from, first * sizeof *to);
    memcpy(to + first, past, (n - first) * sizeof *to);
}

static void past_keep(const gw_bulk *b, cpu_state *s, int64_t sample0, const float *x)
{
    const uint32_t size = b->layout.past, hop = b->shape.hop;
    float *past = state_array(s, b->layout.past_at);
    if (size <= hop)
        memcpy(past, x + hop - size, size * sizeof *x);
    else
        memcpy(past + sample0 % size, x, hop * sizeof *x);
}

/* The spectrum of block number `block` at level v. */
static float *kept_spectrum(cpu_state *s, const gw_bulk_level *v, int64_t block)
{
    return state_array(s, v->spectra_at) + (size_t)(block % v->kept) * v->row;
}

static void keep_spectrum(gw_bulk_scratch *w, cpu_state *s, const gw_bulk_level *v, int64_t block)
{
    if (v->kept)
        memcpy(kept_spectrum(s, v, block), w->spectrum, v->row * sizeof(float));
}

/* ---- filtering ---- */

/* Through level i into w->out[n / decimate], of which the last block is good. newest: the
 * spectrum of block number `block`; NULL: it is in the state. */
static void filter_level(gw_bulk_scratch *w, cpu_state *s, uint32_t i, const cpu_response *r, int64_t block,
                         const float *newest)
{
    const gw_bulk *b = w->b;
    const gw_bulk_level *v = &b->layout.level[i];
    const float *x[GW_BULK_PARTS];
    const void *h[GW_BULK_PARTS];
    for (uint32_t p = 0; p < v->parts; p++) {
        const size_t at = v->response_at + (size_t)p * v->row;
        h[p] = r->data + at * (b->shape.half ? sizeof(uint16_t) : sizeof(float));
        x[p] = p == 0 && newest ? newest : kept_spectrum(s, v, block - p + v->kept);
    }
    b->loops->multiply(w->product, x, h, v->parts, b->shape.half, r->factor, v->row);
    if (b->shape.decimate > 1 && v->bins > v->n / 2)
        b->loops->fold(w->product, v->n, b->shape.decimate);
    gw_fft32_run(b->inverse[i], w->product, w->out, &w->ahead);
}

/* From w->block through level 0 into w->out, without a spectrum by itself unless the PSD wants it. */
static void in_one(gw_bulk_scratch *w, const cpu_response *r)
{
    const gw_bulk *b = w->b;
    const gw_bulk_level *v = b->layout.level;
    const uint32_t d = b->shape.decimate;
    const gw_fft32_product p = {.response = r->data,
                                .half = b->shape.half,
                                .factor = r->factor,
                                .keep = b->layout.psd_level == 0 ? w->spectrum : NULL,
                                .from = v->n - b->shape.hop};
    if (d == 1) {
        gw_fft32_filter(b->forward[0], &p, w->block, w->product, w->out, &w->ahead);
        return;
    }
    gw_fft32_low_product(b->forward[0], &p, d, w->block, w->spectrum, w->product, &w->ahead);
    gw_fft32_run(b->inverse[0], w->product, w->out, &w->ahead);
}

/* The hop through one filter into y: the largest |y|. spectrum: of w->block, or NULL: still to be made. */
static float filter(gw_bulk_scratch *w, cpu_state *s, int64_t sample0, const void *response,
                    const float *spectrum, float *y, bool away)
{
    const gw_bulk *b = w->b;
    const uint32_t hop = b->shape.hop, d = b->shape.decimate;
    const gw_bulk_level *v = b->layout.level;
    const float *add = NULL;
    for (uint32_t i = 1; i < b->layout.n_levels; i++) {
        float *tail = state_array(s, v[i].tail_at);
        if (s->tail_of[i] != response) {
            filter_level(w, s, i, response, sample0 / v[i].block - 1 + v[i].kept, NULL);
            memcpy(tail, w->out + (v[i].n - v[i].block) / d, v[i].block / d * sizeof *tail);
            s->tail_of[i] = response;
        }
        add = tail + sample0 % v[i].block / d;
    }
    if (spectrum) {
        filter_level(w, s, 0, response, sample0 / hop + v->kept, spectrum);
    } else {
        in_one(w, response);
    }
    return b->loops->give(y, w->out + (v->n - hop) / d, add, hop / d, away);
}

/* ---- the PSD ---- */

static uint32_t rows_stride(const gw_bulk *b)
{
    return (b->info.psd_bins + PAD - 1) / PAD * PAD;
}

/* One more in the average: what it weighs. */
static float next_weight(const gw_bulk *b, cpu_state *s)
{
    s->averaged += s->averaged < UINT32_MAX;
    return 1 / (float)(s->averaged < b->shape.memory ? s->averaged : b->shape.memory);
}

/* w->spectrum of a segment enters. It is spoilt. */
static void enter(gw_bulk_scratch *w, cpu_state *s)
{
    const gw_bulk *b = w->b;
    const uint32_t bins = b->psd_bins, pool = b->shape.pool, n = b->info.psd_bins, rows = b->shape.median_of;
    float *x = w->spectrum, *last = x + 2 * (bins - 1);
    x[0] = x[1] = 0; /* the mean */
    x[-2] = x[2];
    x[-1] = -x[3];
    last[1] = 0;
    last[2] = last[-2];
    last[3] = -last[-1];
    if (pool == 1 &&
        !rows) { /* straight into the average; the two bins that stand for themselves alone apart */
        float *psd = state_array(s, b->layout.psd_at), edge[2], old[2] = {psd[0], psd[bins - 1]};
        const float weight = next_weight(b, s);
        b->loops->power(&edge[0], x, b->power_factor / 2, 1);
        b->loops->power(&edge[1], last, b->power_factor / 2, 1);
        b->loops->power_average(psd, x, b->power_factor, weight, bins);
        psd[0] = old[0] + weight * (edge[0] - old[0]);
        psd[bins - 1] = old[1] + weight * (edge[1] - old[1]);
        memset(last + 2, 0, 2 * sizeof *last);
        return;
    }
    b->loops->power(w->power, x, b->power_factor, bins);
    memset(last + 2, 0, 2 * sizeof *last);
    w->power[0] /= 2;
    w->power[bins - 1] /= 2;
    for (uint32_t k = 0; pool > 1 && k < n; k++) {
        const uint32_t end = (k + 1) * pool < bins ? (k + 1) * pool : bins;
        float sum = 0;
        for (uint32_t i = k * pool; i < end; i++)
            sum += w->power[i];
        w->pooled[k] = sum / (float)(end - k * pool);
    }
    if (rows) {
        float *row0 = state_array(s, b->layout.rows_at);
        if (s->collected < rows - 1) {
            memcpy(row0 + (size_t)s->collected++ * rows_stride(b), w->pooled, n * sizeof *row0);
            return;
        }
        const float *row[GW_BULK_MEDIAN_MAX];
        for (uint32_t r = 0; r + 1 < rows; r++)
            row[r] = row0 + (size_t)r * rows_stride(b);
        row[rows - 1] = w->pooled;
        b->loops->median(w->pooled, row, rows, b->median_factor, n);
        s->collected = 0;
    }
    b->loops->average(state_array(s, b->layout.psd_at), w->pooled, next_weight(b, s), n);
}

/* Segments that end in this hop and have a transform of their own. */
static bool own_segments(gw_bulk_scratch *w, cpu_state *s, int64_t sample0)
{
    const gw_bulk *b = w->b;
    const int64_t half = b->shape.segment / 2, from = s->next - b->layout.level[0].n;
    bool entered = false;
    for (int64_t end = (sample0 / half + 1) * half; end <= s->next; end += half) {
        const int64_t begin = end - 2 * half;
        if (s->clean_from > begin)
            continue;
        if (b->layout.psd_in_block)
            memcpy(w->product, w->block + (begin - from), b->shape.segment * sizeof(float));
        else
            past_read(b, s, s->next, (uint32_t)(s->next - begin), w->product, b->shape.segment);
        gw_fft32_run(b->segment, w->product, w->spectrum, &w->ahead);
        enter(w, s);
        entered = true;
    }
    return entered;
}

/* ---- a hop ---- */

/* Into w->block, behind as much of the past as the transform wants; and into the past. */
static gw_bulk_range take_hop(gw_bulk_scratch *w, cpu_state *s, int64_t sample0, const float *x, float scale)
{
    const gw_bulk *b = w->b;
    const uint32_t hop = b->shape.hop, before = b->layout.level[0].n - hop, size = b->layout.past;
    float *past = state_array(s, b->layout.past_at);
    if (before == hop && size % hop == 0)
        return b->loops->take(w->block + before, x, scale, hop, past + (sample0 + size - hop) % size,
                              past + sample0 % size);
    const gw_bulk_range range = b->loops->take(w->block + before, x, scale, hop, NULL, NULL);
    past_read(b, s, sample0, before, w->block, before);
    past_keep(b, s, sample0, w->block + before);
    return range;
}

/* Results too small for a normal float become 0, and such inputs count as 0: they cost a hundredfold. Returns
 * the mode before, for set_mode. */
static unsigned small_is_zero(void)
{
#ifdef __SSE2__
    enum { FLUSH_TO_ZERO = 0x8000, DENORMALS_ARE_ZERO = 0x40 };
    const unsigned mode = _mm_getcsr();
    _mm_setcsr(mode | FLUSH_TO_ZERO | DENORMALS_ARE_ZERO);
    return mode;
#else
    return 0;
#endif
}

static void set_mode(unsigned mode)
{
#ifdef __SSE2__
    _mm_setcsr(mode);
#else
    (void)mode;
#endif
}

/* Judges a hop, and a first one before it is scaled. What is not clear at a glance is seen by the rule for
 * all machines, in whose comparisons small numbers are what they are. */
static void examine(gw_bulk_scratch *w, const cpu_state *s, gw_bulk_channel *c, const float *x,
                    const gw_bulk_range *range)
{
    const gw_bulk_shape *shape = &w->b->shape;
    if (range && !(range->suspicious && shape->dead_run)) {
        gw_bulk_examine(shape, c, x, s->scale, range->low, range->high, range->finite, false);
        return;
    }
    set_mode(w->mode);
    float low = x[0], high = x[0];
    bool finite = true;
    for (uint32_t i = 0; i < shape->hop; i++) {
        low = x[i] < low ? x[i] : low;
        high = x[i] > high ? x[i] : high;
        finite &= isfinite(x[i]) != 0;
    }
    gw_bulk_examine(shape, c, x, s->scale, low, high, finite, true);
    small_is_zero();
}

/* The hop at the end of w->block into y, if there is a filter; its spectrum into w->spectrum, if that is
 * wanted. False: y is no number. */
static bool whiten(gw_bulk_scratch *w, cpu_state *s, int64_t sample0, gw_bulk_channel *c, float *y)
{
    const gw_bulk *b = w->b;
    const bool in_one = b->in_one && c->response && !c->fading;
    const float *spectrum = in_one ? NULL : w->spectrum;
    if (!in_one)
        gw_fft32_run(b->forward[0], w->block, w->spectrum, &w->ahead);
    if (c->response && c->fading)
        filter(w, s, sample0, c->fading, spectrum, w->old, false);
    if (c->response)
        c->peak = filter(w, s, sample0, c->response, spectrum, y, !c->fading);
    if (c->response && c->fading)
        c->peak = b->loops->fade(y, w->old, b->rise, b->shape.hop / b->shape.decimate);
    return isfinite(c->peak);
}

/* What goes on after a good hop: spectra, the PSD, the levels above the first. */
static void go_on(gw_bulk_scratch *w, cpu_state *s, int64_t sample0, gw_bulk_channel *c)
{
    const gw_bulk *b = w->b;
    const gw_bulk_layout *l = &b->layout;
    keep_spectrum(w, s, l->level, sample0 / b->shape.hop);
    if (b->shape.gate > 0 && c->peak > b->shape.gate)
        s->clean_from = s->next;
    const bool clean = b->shape.segment && s->clean_from <= s->next - b->shape.segment;
    c->entered = b->segment && own_segments(w, s, sample0);
    if (l->psd_level == 0 && clean) {
        enter(w, s);
        c->entered = true;
    }
    for (uint32_t i = 1; i < l->n_levels; i++) {
        const gw_bulk_level *v = &l->level[i];
        if (s->next % v->block)
            continue;
        past_read(b, s, s->next, v->n, w->block, v->n);
        gw_fft32_run(b->forward[i], w->block, w->spectrum, &w->ahead);
        keep_spectrum(w, s, v, s->next / v->block - 1);
        s->tail_of[i] = NULL;
        if (l->psd_level == (int)i && clean) {
            enter(w, s);
            c->entered = true;
        }
    }
}

static void step_one(gw_bulk_scratch *w, int64_t sample0, gw_bulk_channel *c, const float *x, float *y)
{
    const gw_bulk *b = w->b;
    cpu_state *s = c->state;
    if (!s) {
        gw_bulk_absent(&b->shape, y);
        return;
    }
    if (c->forget == GW_BULK_FORGET_ALL)
        gw_bulk_state_clear(b, s);
    if (c->forget != GW_BULK_KEEP || s->next != sample0) {
        gw_bulk_past_clear(b, s);
        s->past_from = s->clean_from = sample0;
    }
    s->next = sample0 + b->shape.hop;

    if (c->scale == 0 && s->scale == 0)
        examine(w, s, c, x, NULL);
    const gw_bulk_range range = take_hop(w, s, sample0, x, c->scale != 0 ? c->scale : s->scale);
    examine(w, s, c, x, &range);
    c->whole = c->entered = false;
    c->peak = 0;
    if (c->health == GW_BULK_GOOD && !whiten(w, s, sample0, c, y)) {
        c->finite = false;
        c->health = GW_BULK_NAN;
    }
    if (c->health == GW_BULK_GOOD) {
        s->scale = c->scale;
        c->whole = s->past_from <= sample0 - (int64_t)(b->shape.n_taps - 1);
        go_on(w, s, sample0, c);
    } else {
        c->peak = 0;
        gw_bulk_past_clear(b, s);
    }
    gw_bulk_settle(&b->shape, c, sample0, y, &s->opens);
}

/* The next channel comes from memory while this one's transforms run: of the levels above the first nothing,
 * for they are seldom wanted. */
static void look_ahead(gw_bulk_scratch *w, const gw_bulk_channel *c, const float *x)
{
    const gw_bulk_layout *l = &w->b->layout;
    const gw_bulk_level *v = l->level;
    const size_t value = w->b->shape.half ? sizeof(uint16_t) : sizeof(float);
    const size_t state = l->n_levels > 1 ? v->tail_at : l->psd_level == 0 ? l->state_floats : l->psd_at;
    w->ahead =
        (gw_fft32_ahead){.at = {(const char *)x, c->state, c->response},
                         .bytes = {w->b->shape.hop * sizeof *x, sizeof(cpu_state) + state * sizeof(float),
                                   c->response ? LINE + (size_t)v->parts * v->row * value : 0}};
    const uint32_t points = v->n + v->n / w->b->shape.decimate, turns = points / (4 * gw_fft32_width());
    w->ahead.lines =
        (uint32_t)((w->ahead.bytes[0] + w->ahead.bytes[1] + w->ahead.bytes[2]) / LINE / turns + 1);
}

void gw_bulk_step(gw_bulk_scratch *w, int64_t sample0, gw_bulk_channel *channel, uint32_t n, const float *x,
                  size_t x_stride, float *y, size_t y_stride)
{
    w->mode = small_is_zero();
    for (uint32_t i = 0; i < n; i++) {
        w->ahead.lines = 0;
        if (i + 1 < n && channel[i + 1].state)
            look_ahead(w, &channel[i + 1], x + (i + 1) * x_stride);
        step_one(w, sample0, &channel[i], x + i * x_stride, y + i * y_stride);
    }
#ifdef __SSE2__
    _mm_sfence(); /* streamed outputs, before another thread hears of them */
#endif
    set_mode(w->mode);
}
