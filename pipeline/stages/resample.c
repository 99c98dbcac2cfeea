/* SPDX-License-Identifier: GPL-3.0-or-later
 * kind: resample. Brings a stream down to `rate` (default 2048Hz) by a whole factor; an equal rate passes
 * through. Output sample n lies exactly at the time of input sample n * factor: the filter is symmetric,
 * and its reach (kernels/fir.h) is look-ahead, declared as delay. Each output is one sum over the same
 * input samples whatever the blocks are, so the result does not depend on them. Float64 out. A channel that
 * is absent from a block is absent where the filter would have reached into it; the others go on. */
#include "kernels/kernels.h"
#include "pipeline/stage.h"
#include "pipeline/stages/marks.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* Input samples of a channel that are missing, [from, to): one span, for two that one filter reaches are
 * as good as one. */
typedef struct span {
    int64_t from, to;
} span;

typedef struct resample {
    gw_rate rate;
    gw_spec in; /* borrowed values; its channel names are not used */
    uint32_t factor, half;
    gw_kernels kernels;
    double *taps; /* [2 * half + 1] */
    double *held; /* [channel][capacity]: input samples base .. base + n_held */
    size_t capacity, n_held;
    int64_t base, next; /* next: the output sample that comes next */
    span *missing;      /* [channel] */
    bool begun;
    gw_marks marks;
} resample;

static int configure(void *self, gw_conf *conf)
{
    resample *r = self;
    r->rate = (gw_rate){2048, 1};
    return gw_conf_get_rate(conf, "rate", &r->rate);
}

static int plan(void *self, gw_plan *p)
{
    resample *r = self;
    const gw_spec *in = &p->in[0];
    if (in->dtype != GW_F64 && in->dtype != GW_F32)
        return gw_fail(GW_EMISMATCH, "stream %s is neither float32 nor float64", in->name);
    const uint64_t high = (uint64_t)in->rate.num * r->rate.den, low = (uint64_t)in->rate.den * r->rate.num;
    if (low == 0 || high % low != 0 || high / low > 1024)
        return gw_fail(GW_EMISMATCH,
                       "stream %s at %g Hz cannot become %g Hz: the input rate must be 1 to 1024 whole times "
                       "the output rate (key rate)",
                       in->name, gw_rate_hz(in->rate), gw_rate_hz(r->rate));
    r->in = *in;
    r->factor = (uint32_t)(high / low);
    r->half = r->factor == 1 ? 0 : GW_FIR_REACH * r->factor;
    /* Room for the samples that wait for their look-ahead, and a block. */
    r->capacity = 2 * (size_t)r->half + r->factor + in->block_samples;

    p->n_out = 1;
    gw_spec *out = &p->out[0];
    GW_TRY(gw_spec_copy(out, in));
    out->rate = r->rate;
    out->dtype = GW_F64;
    out->block_samples = (in->block_samples + r->factor - 1) / r->factor;
    p->delay_ns = gw_sample_to_ns(r->half, in->rate, 0);
    p->memory_bytes = r->capacity * in->n_channels * sizeof(double);
    return GW_OK;
}

static int open(void *self, gw_env *env)
{
    (void)env;
    resample *r = self;
    GW_TRY(gw_kernels_init(&r->kernels, GW_KERNELS_CUDA));
    r->taps = calloc(2 * (size_t)r->half + 1, sizeof *r->taps);
    r->held = calloc(r->capacity * r->in.n_channels, sizeof *r->held);
    r->missing = calloc(r->in.n_channels, sizeof *r->missing);
    if (!r->taps || !r->held || !r->missing)
        return gw_fail(GW_ENOMEM, "resample of %" PRIu32 " channels", r->in.n_channels);
    if (r->factor > 1)
        gw_fir_lowpass(r->factor, r->taps);
    else
        r->taps[0] = 1;
    return GW_OK;
}

/* After the start or a hole: nothing is held, and the first output is the first whose filter lies wholly in
 * what comes from `sample0` on. */
static void begin(resample *r, int64_t sample0)
{
    r->begun = true;
    r->base = sample0;
    r->n_held = 0;
    r->next = (sample0 + r->half + r->factor - 1) / r->factor;
    memset(r->missing, 0, r->in.n_channels * sizeof *r->missing);
    gw_marks_clear(&r->marks);
}

/* The block lacks the channel; `need`: the first input sample that outputs to come look at. */
static void miss(span *m, int64_t from, int64_t to, int64_t need)
{
    if (m->to <= need)
        m->from = from;
    m->to = to;
}

static void append(resample *r, const gw_view *in)
{
    for (uint32_t c = 0; c < in->n_channels; c++) {
        double *to = r->held + c * r->capacity + r->n_held;
        if (!gw_present(in->presence, c)) {
            memset(to, 0, in->n_samples * sizeof *to);
            miss(&r->missing[c], in->sample0, in->sample0 + in->n_samples, r->next * r->factor - r->half);
        } else if (r->in.dtype == GW_F64) {
            memcpy(to, (const double *)in->data + c * in->stride, in->n_samples * sizeof *to);
        } else {
            const float *from = (const float *)in->data + c * in->stride;
            for (uint32_t i = 0; i < in->n_samples; i++)
                to[i] = from[i];
        }
    }
    r->n_held += in->n_samples;
    gw_marks_add(&r->marks, in->sample0 + in->n_samples, in);
}

/* Forgets input samples that no output to come needs. */
static void trim(resample *r)
{
    const int64_t need = r->next * r->factor - r->half - r->base;
    const size_t gone = need <= 0 ? 0 : (size_t)need < r->n_held ? (size_t)need : r->n_held;
    if (gone == 0)
        return;
    r->n_held -= gone;
    for (uint32_t c = 0; c < r->in.n_channels; c++) {
        double *row = r->held + c * r->capacity;
        memmove(row, row + gone, r->n_held * sizeof *row);
    }
    r->base += (int64_t)gone;
}

static int step(void *self, const gw_view *in, gw_out *out)
{
    resample *r = self;
    if (!r->begun || in->sample0 != r->base + (int64_t)r->n_held)
        begin(r, in->sample0);
    if (r->n_held + in->n_samples > r->capacity)
        return gw_fail(GW_EBUG,
                       "resample: a block of %" PRIu32 " samples is longer than the stream's spec says",
                       in->n_samples);
    append(r, in);
    const int64_t last = r->base + (int64_t)r->n_held - 1 - r->half; /* centre of the last whole filter */
    const int64_t count = last < r->next * r->factor ? 0 : last / r->factor - r->next + 1;
    if (count == 0)
        return GW_OK;
    const uint32_t n = (uint32_t)count;
    const int64_t from = r->next * r->factor - r->half, to = (r->next + n - 1) * r->factor + r->half + 1;
    uint32_t here = 0;
    for (uint32_t c = 0; c < r->in.n_channels; c++) {
        double *y = (double *)out->data + (size_t)c * n;
        if (r->missing[c].from < to && r->missing[c].to > from) {
            out->presence[c / 8] &= (uint8_t) ~(1u << c % 8);
            memset(y, 0, n * sizeof *y);
            continue;
        }
        here++;
        r->kernels.fir.decimate(r->taps, 2 * r->half + 1, r->factor,
                                r->held + c * r->capacity + (from - r->base), y, n);
    }
    if (here) {
        out->n_samples = n;
        out->sample0 = r->next;
        gw_marks_take(&r->marks, r->next * r->factor, (r->next + n) * r->factor, out);
    } else {
        out->lost = true;
        out->lost_until = r->next + n;
        out->reason = GW_GAP_ABSENT;
    }
    r->next += n;
    trim(r);
    return GW_OK;
}

static int gap(void *self, int port, const gw_hole *hole)
{
    (void)port;
    (void)hole;
    resample *r = self;
    r->begun = false;
    return GW_OK;
}

static void close_stage(void *self)
{
    resample *r = self;
    free(r->taps);
    free(r->held);
    free(r->missing);
    r->taps = r->held = NULL;
    r->missing = NULL;
}

const gw_kind gw_kind_resample = {.kind = "resample",
                                  .help = "bring streams down to one sample rate by a whole factor",
                                  .role = GW_STAGE,
                                  .per_stream = true,
                                  .takes_presence = true,
                                  .state_size = sizeof(resample),
                                  .configure = configure,
                                  .plan = plan,
                                  .open = open,
                                  .step = step,
                                  .gap = gap,
                                  .close = close_stage};
