/* SPDX-License-Identifier: GPL-3.0-or-later
 * Witnesses to a network's rate, see witness_feed.h. Only whole factors: the instants of both rates then
 * meet, and every sample is one sum in an order that does not depend on hops. */
#include "pipeline/stages/witness_feed.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_FACTOR = 4096, CLIP_RUN = 8, CLIP_SHARE = 5, DEAD_SAMPLES = 64 };
static const double huge_scales = 1000, clip_scales = 0.5;

/* One rate: witnesses of equal rate go through equal filters. */
typedef struct way {
    uint32_t up, down; /* one of them is 1 */
    uint32_t reach;    /* samples of the lower rate */
    double *taps;      /* down > 1: [2 * reach * down + 1]; up > 1: [up][2 * reach] */
    uint32_t hop;      /* of its own samples */
    uint32_t before;   /* of them before the hop that are wanted */
} way;

typedef struct witness {
    int port;
    uint32_t channel;
    gw_dtype dtype;
    way way;
    double mean, scale;
    double last;     /* newest value */
    uint32_t equals; /* so many samples in a row, up to `dead` */
    uint32_t dead;
} witness;

struct gw_witness_feed {
    const gw_kernels *kernels;
    uint32_t n, hop, reach;
    witness *w;    /* [n] */
    double *raw;   /* [most before + hop of a witness] */
    double *phase; /* [most results of one filter] */
    double *y;     /* [hop] */
    size_t most;
};

const char *gw_witness_fault_text(gw_witness_fault f)
{
    static const char *const text[] = {"fine",
                                       "absent",
                                       "not a number",
                                       "of an impossible value",
                                       "dead (the same value all the time)",
                                       "clipped",
                                       "fine, but the network's output is not a number"};
    return text[f];
}

/* -- plan -------------------------------------------------------------------------------------------- */

static int find_way(way *w, const gw_denoise_model *m, const char *name, const gw_spec *s, uint32_t hop)
{
    const uint64_t theirs = s->rate.num, ours = (uint64_t)m->rate_hz * s->rate.den;
    const bool down = theirs >= ours;
    const uint64_t high = down ? theirs : ours, low = down ? ours : theirs;
    if (high % low || high / low > MOST_FACTOR)
        return gw_fail(GW_EMISMATCH,
                       "witness %s has %g Hz, model %s %" PRIu32
                       " Hz: one must be a whole multiple of the other; resample the witness",
                       name, gw_rate_hz(s->rate), m->name, m->rate_hz);
    const uint32_t factor = (uint32_t)(high / low);
    w->down = down ? factor : 1;
    w->up = down ? 1 : factor;
    w->reach = factor == 1 ? 0 : !down && gw_rate_hz(s->rate) < GW_FEED_SLOW_HZ ? 1 : GW_FIR_SHORT;
    if (hop % w->up)
        return gw_fail(GW_EMISMATCH,
                       "witness %s has %g Hz: a hop of %g s is no whole number of its samples; make the hop "
                       "longer",
                       name, gw_rate_hz(s->rate), (double)hop / m->rate_hz);
    w->hop = hop / w->up * w->down;
    return GW_OK;
}

static int make_taps(way *w)
{
    const uint32_t factor = w->up > 1 ? w->up : w->down;
    const size_t n = 2 * (size_t)w->reach * factor + 1;
    if (factor == 1)
        return GW_OK;
    double *h = calloc(n, sizeof *h), *phases = calloc(n, sizeof *phases);
    if (!h || !phases) {
        free(h);
        free(phases);
        return gw_fail(GW_ENOMEM, "a filter of %zu taps", n);
    }
    if (w->reach == 1)
        gw_fir_triangle(factor, h);
    else
        gw_fir_short(factor, h);
    if (w->up > 1)
        gw_fir_phases(h, w->reach, factor, phases);
    w->taps = w->up > 1 ? phases : h;
    free(w->up > 1 ? h : phases);
    return GW_OK;
}

static uint32_t reach_of(const way *w)
{
    return w->reach * w->up;
}

int gw_witness_feed_new(gw_witness_feed **feed, const gw_denoise_model *m, const gw_kernels *k,
                        const gw_spec *in, const gw_witness_at *at, uint32_t hop)
{
    gw_witness_feed *f = *feed = calloc(1, sizeof *f);
    if (!f)
        return gw_fail(GW_ENOMEM, "witnesses of %s", m->name);
    f->kernels = k;
    f->hop = hop;
    f->w = calloc(m->n_witnesses, sizeof *f->w);
    if (!f->w)
        return gw_fail(GW_ENOMEM, "%" PRIu32 " witnesses", m->n_witnesses);
    f->n = m->n_witnesses;
    for (uint32_t i = 0; i < f->n; i++) {
        const gw_spec *s = &in[at[i].port];
        witness *w = &f->w[i];
        *w = (witness){.port = at[i].port,
                       .channel = at[i].channel,
                       .dtype = s->dtype,
                       .mean = m->mean[i],
                       .scale = m->scale[i]};
        GW_TRY(find_way(&w->way, m, s->channel[at[i].channel], s, hop));
        w->dead = (uint32_t)gw_rate_hz(s->rate);
        w->dead = w->dead < DEAD_SAMPLES ? DEAD_SAMPLES : w->dead;
        f->reach = reach_of(&w->way) > f->reach ? reach_of(&w->way) : f->reach;
        GW_TRY(make_taps(&w->way));
    }
    for (uint32_t i = 0; i < f->n; i++) { /* the sample that lies `reach` before the hop, and its filter */
        way *w = &f->w[i].way;
        w->before = (f->reach + w->up - 1) / w->up * w->down + w->reach * w->down;
        const size_t n = (size_t)w->before + w->hop;
        f->most = n > f->most ? n : f->most;
    }
    f->raw = calloc(f->most, sizeof *f->raw);
    f->phase = calloc(f->most, sizeof *f->phase);
    f->y = calloc(hop + f->reach, sizeof *f->y);
    return f->raw && f->phase && f->y ? GW_OK : gw_fail(GW_ENOMEM, "witnesses of %s", m->name);
}

void gw_witness_feed_destroy(gw_witness_feed **feed)
{
    gw_witness_feed *f = *feed;
    if (!f)
        return;
    for (uint32_t i = 0; f->w && i < f->n; i++)
        free(f->w[i].way.taps);
    free(f->w);
    free(f->raw);
    free(f->phase);
    free(f->y);
    free(f);
    *feed = NULL;
}

uint32_t gw_witness_feed_reach(const gw_witness_feed *f)
{
    return f->reach;
}

uint32_t gw_witness_feed_history(const gw_witness_feed *f, int port)
{
    uint32_t most = 0;
    for (uint32_t i = 0; i < f->n; i++)
        if (f->w[i].port == port && f->w[i].way.before > most)
            most = f->w[i].way.before;
    return most;
}

size_t gw_witness_feed_bytes(const gw_witness_feed *f)
{
    return (2 * f->most + f->hop) * sizeof(double) + f->n * sizeof *f->w;
}

void gw_witness_feed_reset(gw_witness_feed *f)
{
    for (uint32_t i = 0; i < f->n; i++)
        f->w[i].equals = 0;
}

/* -- whether it can be believed ---------------------------------------------------------------------- */

/* Of the hop x[n], which moves between its smallest and largest value: how many samples are in long runs at
 * one of them. */
static uint32_t count_clipped(const double *x, uint32_t n, double low, double high)
{
    uint32_t clipped = 0;
    for (uint32_t i = 0, run; i < n; i += run) {
        for (run = 1; i + run < n && x[i + run] == x[i]; run++)
            ;
        if (run >= CLIP_RUN && (x[i] == low || x[i] == high))
            clipped += run;
    }
    return clipped;
}

/* x[before + hop]: what lies before the hop still goes into the filters. */
static gw_witness_fault judge(witness *w, const double *x)
{
    const uint32_t before = w->way.before, n = w->way.hop;
    double nothing = 0, most = 0;
    for (uint32_t i = 0; i < before + n; i++) {
        nothing += x[i] * 0; /* NaN and Inf go on */
        most = fmax(most, fabs(x[i] - w->mean));
    }
    const double *hop = x + before;
    double low = hop[0], high = hop[0];
    for (uint32_t i = 0; i < n; i++) {
        w->equals = hop[i] != w->last ? 1 : w->equals < w->dead ? w->equals + 1 : w->dead;
        w->last = hop[i];
        low = hop[i] < low ? hop[i] : low;
        high = hop[i] > high ? hop[i] : high;
    }
    if (nothing != 0)
        return GW_WITNESS_NAN;
    if (most > huge_scales * w->scale)
        return GW_WITNESS_HUGE;
    if (w->equals >= w->dead)
        return GW_WITNESS_DEAD;
    if (high - low > clip_scales * w->scale && count_clipped(hop, n, low, high) > n / CLIP_SHARE)
        return GW_WITNESS_CLIPPED;
    return GW_WITNESS_FINE;
}

/* -- to the network's rate --------------------------------------------------------------------------- */

static void load(const witness *w, const gw_view *v, double *to)
{
    const size_t n = (size_t)w->way.before + w->way.hop, at = w->channel * v->stride;
    switch (w->dtype) {
    case GW_F64:
        memcpy(to, (const double *)v->data + at - w->way.before, n * sizeof *to);
        break;
    case GW_F32:
        for (size_t i = 0; i < n; i++)
            to[i] = ((const float *)v->data + at - w->way.before)[i];
        break;
    case GW_I16:
        for (size_t i = 0; i < n; i++)
            to[i] = ((const int16_t *)v->data + at - w->way.before)[i];
        break;
    default:
        for (size_t i = 0; i < n; i++)
            to[i] = ((const int32_t *)v->data + at - w->way.before)[i];
    }
}

/* raw begins `before` samples before the hop; y[hop] begins `reach` samples of the network before it. */
static const double *convert(gw_witness_feed *f, const way *w)
{
    const double *raw = f->raw;
    const gw_fir_ops *fir = &f->kernels->fir;
    if (w->down > 1) {
        fir->decimate(w->taps, 2 * w->reach * w->down + 1, w->down, raw, f->y, f->hop);
        return f->y;
    }
    if (w->up == 1)
        return raw;
    /* The sample at or before y[0] is whole[0]; y[0] lies `skip` after it. */
    const uint32_t back = (f->reach + w->up - 1) / w->up, skip = back * w->up - f->reach;
    const uint32_t count = (f->hop + skip + w->up - 1) / w->up;
    for (uint32_t j = 0; j < w->up; j++) {
        fir->decimate(w->taps + (size_t)j * 2 * w->reach, 2 * w->reach, 1, raw + 1, f->phase, count);
        for (uint32_t i = 0; i < count; i++) {
            const int64_t at = (int64_t)i * w->up + j - skip;
            if (at >= 0 && at < f->hop)
                f->y[at] = f->phase[i];
        }
    }
    return f->y;
}

gw_witness_fault gw_witness_feed_take(gw_witness_feed *f, const gw_view *view, float *x, uint32_t *who)
{
    gw_witness_fault fault = GW_WITNESS_FINE;
    for (uint32_t i = 0; i < f->n; i++) {
        witness *w = &f->w[i];
        const gw_view *v = &view[w->port];
        gw_witness_fault his = GW_WITNESS_ABSENT;
        if (v->data && gw_present(v->presence, w->channel)) {
            load(w, v, f->raw);
            his = judge(w, f->raw);
        } else {
            w->equals = 0;
        }
        if (his != GW_WITNESS_FINE && fault == GW_WITNESS_FINE) {
            fault = his;
            *who = i;
        }
        if (fault != GW_WITNESS_FINE) /* the others are looked at all the same */
            continue;
        const double *y = convert(f, &w->way);
        float *to = x + (size_t)i * f->hop;
        for (uint32_t k = 0; k < f->hop; k++)
            to[k] = (float)((y[k] - w->mean) / w->scale);
    }
    return fault;
}
