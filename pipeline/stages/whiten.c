/* SPDX-License-Identifier: GPL-3.0-or-later
 * kind: whiten. Strain in, float32 of unit one-sided PSD 2 / fs out, through a filter that is learnt from the
 * past (whitener.h) and replaced once a tick with a short cross-fade; both lie on the absolute sample grid.
 * Work is done in pieces of PIECE samples on that grid as soon as they are whole, so the bits do not
 * depend on the blocks. Silent until `warmup` after the first good sample; after a hole, until the
 * filter's memory is full again. What exceeds `gate` sigma is gated and kept out of PSD and gain.
 *
 *   phase: minimum | linear    duration: 1s     highpass: [20Hz, 30Hz]   lowpass: [0.88, 0.95] of Nyquist
 *   psd: {segment: 2s, average: median | mean, memory: 64s}   warmup: 8s    gate: 100
 *   follow_first: false        true: every channel goes through the filter learnt from the first */
#include "kernels/convolver.h"
#include "kernels/kernels.h"
#include "pipeline/log.h"
#include "pipeline/stage.h"
#include "pipeline/stages/marks.h"
#include "pipeline/stages/whitener.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A filter learnt from one channel, and the one before it while the two are cross-faded. */
typedef struct learner {
    gw_whitener *whitener;
    double *response[2];
    int current;
    bool has_filter;
    int64_t fade_from; /* INT64_MIN: no fade */
} learner;

typedef struct channel {
    gw_convolver *memory;
    double *waiting;    /* [piece] samples of the piece that is not whole yet */
    double *y;          /* [capacity] output of this step */
    int64_t shut_until; /* the gate; INT64_MIN: open */
    uint64_t gated_samples, gated_times;
} channel;

typedef struct whiten {
    /* configuration */
    int phase, average;
    gw_rate duration, segment, psd_memory, warmup;
    double highpass_hz[2], lowpass[2], gate;
    bool follow_first;
    /* plan */
    gw_spec in; /* borrowed values */
    gw_whitener_shape shape;
    uint32_t piece, tick, half, fade, taper, capacity;
    int64_t warmup_ticks;
    /* run */
    char where[GW_NAME_BYTES];
    gw_kernels kernels;
    uint32_t n_learners;
    learner *learner; /* [n_learners] */
    channel *channel; /* [n_channels] */
    double *fading;   /* [piece] */
    gw_marks marks;
    bool begun, warming; /* warming: no tick of readiness yet */
    int64_t next;        /* input sample that comes next */
    uint32_t n_waiting;
    int64_t good_from; /* first sample in the filters' memory */
    int64_t ready_tick;
    /* output of one step */
    uint32_t n_out;
    int64_t out0;
} whiten;

enum { SMOOTH_HZ = 4 }; /* over which the PSD is smoothed; it changes little across so much, lines excepted */
enum { PHASE_MINIMUM, PHASE_LINEAR, AVERAGE_MEDIAN = 0, AVERAGE_MEAN };

/* -- configuration and plan -------------------------------------------------------------------------- */

static int read_pair(gw_conf *conf, const char *key, bool frequency, double pair[2])
{
    gw_conf *list = gw_conf_find(conf, key);
    if (!list)
        return GW_OK;
    if (gw_conf_kind(list) != GW_CONF_LIST || gw_conf_count(list) != 2)
        return gw_conf_fail(list, "%s wants two values: where the ramp begins and where it ends", key);
    for (int i = 0; i < 2; i++) {
        gw_conf *item = gw_conf_item(list, i);
        if (!frequency) {
            GW_TRY(gw_conf_double(item, 0, 1, &pair[i]));
            continue;
        }
        const char *text;
        GW_TRY(gw_conf_text(item, &text));
        if (gw_parse_frequency(text, &pair[i]) != GW_OK)
            return gw_conf_fail(item, "%s: '%s' is not a frequency such as 20Hz", key, text);
    }
    if (!(pair[0] >= 0 && pair[0] < pair[1]))
        return gw_conf_fail(list, "%s: the ramp must rise: [lower, higher]", key);
    return GW_OK;
}

static int configure(void *self, gw_conf *conf)
{
    static const char *const phases[] = {"minimum", "linear", NULL}, *const averages[] = {"median", "mean",
                                                                                          NULL};
    whiten *w = self;
    w->duration = (gw_rate){1, 1};
    w->segment = (gw_rate){2, 1};
    w->psd_memory = (gw_rate){64, 1};
    w->warmup = (gw_rate){8, 1};
    w->highpass_hz[0] = 20;
    w->highpass_hz[1] = 30;
    w->lowpass[0] = 0.88;
    w->lowpass[1] = 0.95;
    w->gate = 100;
    GW_TRY(gw_conf_get_choice(conf, "phase", phases, &w->phase));
    GW_TRY(gw_conf_get_span(conf, "duration", &w->duration));
    GW_TRY(read_pair(conf, "highpass", true, w->highpass_hz));
    GW_TRY(read_pair(conf, "lowpass", false, w->lowpass));
    GW_TRY(gw_conf_get_span(conf, "warmup", &w->warmup));
    GW_TRY(gw_conf_get_bool(conf, "follow_first", &w->follow_first));
    GW_TRY(gw_conf_get_double(conf, "gate", 5, 1e6, &w->gate));
    gw_conf *psd = gw_conf_find(conf, "psd");
    if (psd) {
        if (gw_conf_kind(psd) != GW_CONF_MAP)
            return gw_conf_fail(psd, "psd wants a map: {segment: 2s, average: median, memory: 64s}");
        GW_TRY(gw_conf_get_span(psd, "segment", &w->segment));
        GW_TRY(gw_conf_get_choice(psd, "average", averages, &w->average));
        GW_TRY(gw_conf_get_span(psd, "memory", &w->psd_memory));
        GW_TRY(gw_conf_done(psd, "psd"));
    }
    return GW_OK;
}

/* A span in whole samples. */
static int whole_samples(const char *key, gw_rate span, uint32_t rate_hz, uint32_t max, uint32_t *samples)
{
    const uint64_t n = (uint64_t)span.num * rate_hz;
    if (span.den == 0 || n % span.den != 0 || n / span.den < 2 || n / span.den > max)
        return gw_fail(GW_EMISMATCH,
                       "%s: %" PRIu32 "/%" PRIu32 " s at %" PRIu32 " Hz is not 2 to %" PRIu32
                       " whole samples",
                       key, span.num, span.den, rate_hz, max);
    *samples = (uint32_t)(n / span.den);
    return GW_OK;
}

/* "2s", "0.5s" */
static const char *span_text(gw_rate span, char *text, size_t n)
{
    snprintf(text, n, "%.9gs", gw_rate_hz(span));
    return text;
}

/* All that matters to a network trained on the output, as one text that models carry and detect compares. */
static int name_whitening(const whiten *w, gw_spec *out)
{
    char text[256], duration[24], segment[24], memory[24];
    snprintf(text, sizeof text,
             "v2 %s-phase %" PRIu32 "Hz %s highpass=%g-%gHz lowpass=%g-%g psd=%s,%s,%s,smooth=%dHz",
             w->phase == PHASE_LINEAR ? "linear" : "minimum", w->shape.rate_hz,
             span_text(w->duration, duration, sizeof duration), w->highpass_hz[0], w->highpass_hz[1],
             w->lowpass[0], w->lowpass[1], w->average == AVERAGE_MEAN ? "mean" : "median",
             span_text(w->segment, segment, sizeof segment), span_text(w->psd_memory, memory, sizeof memory),
             SMOOTH_HZ);
    const size_t length = strlen(text);
    if (length >= sizeof out->whitening)
        return gw_fail(GW_ERANGE, "these numbers are too long to be written down in %zu characters: %s",
                       sizeof out->whitening - 1, text);
    memcpy(out->whitening, text, length + 1);
    return GW_OK;
}

static int plan_shape(whiten *w, const gw_spec *in)
{
    if (in->dtype != GW_F64 && in->dtype != GW_F32)
        return gw_fail(GW_EMISMATCH, "stream %s is neither float32 nor float64", in->name);
    if (in->whitening[0])
        return gw_fail(GW_EMISMATCH, "stream %s is already whitened (%s)", in->name, in->whitening);
    if (in->rate.den != 1 || in->rate.num < 64 || in->rate.num > 65536)
        return gw_fail(GW_EMISMATCH, "stream %s at %g Hz: whitening wants a whole rate of 64 to 65536 Hz",
                       in->name, gw_rate_hz(in->rate));
    const uint32_t rate = in->rate.num;
    uint32_t duration = 0, segment = 0, memory = 0, warmup = 0;
    GW_TRY(whole_samples("duration", w->duration, rate, 4 * rate, &duration));
    GW_TRY(whole_samples("psd segment", w->segment, rate, 8 * rate, &segment));
    GW_TRY(whole_samples("psd memory", w->psd_memory, rate, 600 * rate, &memory));
    GW_TRY(whole_samples("warmup", w->warmup, rate, 3600 * rate, &warmup));
    const uint32_t tick = segment / 2;
    if (segment % 2 || segment < rate / 4 || duration % 2 || memory < segment)
        return gw_fail(GW_EMISMATCH,
                       "the psd segment must be an even number of samples, at least 1/4 s and at "
                       "most the psd memory; the duration an even number of samples");
    /* A segment takes two ticks, and the gain is measured on ticks whose filter memory is whole. */
    const uint32_t reach = (duration + tick - 1) / tick;
    if (warmup < (reach + 2) * tick)
        return gw_fail(GW_EMISMATCH,
                       "warmup: %g s is too short to learn a filter of %g s from segments of %g s: "
                       "at least %g s",
                       (double)warmup / rate, (double)duration / rate, (double)segment / rate,
                       (double)((reach + 2) * tick) / rate);
    const double nyquist = 0.5 * rate;
    if (w->highpass_hz[1] >= w->lowpass[0] * nyquist)
        return gw_fail(GW_EMISMATCH, "highpass ends at %g Hz, above the beginning of lowpass at %g Hz",
                       w->highpass_hz[1], w->lowpass[0] * nyquist);
    w->tick = tick;
    w->warmup_ticks = (warmup + tick - 1) / tick;
    w->half = w->phase == PHASE_LINEAR ? duration / 2 : 0;
    w->shape = (gw_whitener_shape){.rate_hz = rate,
                                   .n_taps = w->phase == PHASE_LINEAR ? duration + 1 : duration,
                                   .linear = w->phase == PHASE_LINEAR,
                                   .highpass_hz = {w->highpass_hz[0], w->highpass_hz[1]},
                                   .lowpass_hz = {w->lowpass[0] * nyquist, w->lowpass[1] * nyquist},
                                   .segment_samples = segment,
                                   .max_segments = memory / tick - 1,
                                   .mean = w->average == AVERAGE_MEAN,
                                   .smooth_hz = SMOOTH_HZ,
                                   .forget_ticks = (uint32_t)w->warmup_ticks};
    /* The longest piece of at most 1/64 s that divides a tick: filters change between pieces. */
    for (w->piece = rate / 64; tick % w->piece != 0;)
        w->piece--;
    w->fade = rate / 16;
    w->taper = rate / 4;
    w->capacity = (in->block_samples + w->piece - 1) / w->piece * w->piece;
    return GW_OK;
}

static int plan(void *self, gw_plan *p)
{
    whiten *w = self;
    const gw_spec *in = &p->in[0];
    GW_TRY(plan_shape(w, in));
    w->in = *in;
    snprintf(w->where, sizeof w->where, "%s", p->name);
    w->n_learners = w->follow_first ? 1 : in->n_channels;
    p->n_out = 1;
    gw_spec *out = &p->out[0];
    GW_TRY(gw_spec_copy(out, in));
    out->dtype = GW_F32;
    out->block_samples = w->capacity;
    snprintf(out->unit, sizeof out->unit, "whitened");
    GW_TRY(name_whitening(w, out));
    /* A sample waits for its piece to be whole, and for the later half of a linear-phase filter. */
    p->delay_ns = gw_sample_to_ns(w->half + w->piece - 1, in->rate, 0);
    p->memory_bytes = w->n_learners * gw_whitener_memory(&w->shape) +
                      in->n_channels * (4 * (size_t)w->shape.n_taps + w->capacity) * sizeof(double);
    return GW_OK;
}

static int open_stage(void *self, gw_env *env)
{
    (void)env;
    whiten *w = self;
    GW_TRY(gw_kernels_init(&w->kernels, GW_KERNELS_CUDA));
    const gw_spectrum_ops *ops = &w->kernels.spectrum;
    w->channel = calloc(w->in.n_channels, sizeof *w->channel);
    w->learner = calloc(w->n_learners, sizeof *w->learner);
    w->fading = calloc(w->piece, sizeof *w->fading);
    if (!w->channel || !w->learner || !w->fading)
        return gw_fail(GW_ENOMEM, "whitening of %" PRIu32 " channels", w->in.n_channels);
    for (uint32_t c = 0; c < w->in.n_channels; c++) {
        channel *ch = &w->channel[c];
        ch->shut_until = INT64_MIN;
        GW_TRY(gw_convolver_new(&ch->memory, ops, w->shape.n_taps, w->piece));
        ch->waiting = calloc(w->piece, sizeof *ch->waiting);
        ch->y = calloc(w->capacity, sizeof *ch->y);
        if (!ch->waiting || !ch->y)
            return gw_fail(GW_ENOMEM, "whitening of %" PRIu32 " channels", w->in.n_channels);
    }
    for (uint32_t l = 0; l < w->n_learners; l++) {
        learner *le = &w->learner[l];
        le->fade_from = INT64_MIN;
        GW_TRY(gw_whitener_new(&le->whitener, ops, &w->shape));
        for (int i = 0; i < 2; i++) {
            le->response[i] = calloc(gw_convolver_response_size(w->channel[0].memory), sizeof(double));
            if (!le->response[i])
                return gw_fail(GW_ENOMEM, "whitening of %" PRIu32 " channels", w->in.n_channels);
        }
    }
    w->warming = true;
    return GW_OK;
}

/* -- work -------------------------------------------------------------------------------------------- */

/* The filters' memory is empty, and fills again from the first whole piece at or after `sample`. What was
 * learnt stays. */
static void begin(whiten *w, int64_t sample)
{
    for (uint32_t c = 0; c < w->in.n_channels; c++) {
        gw_convolver_reset(w->channel[c].memory);
        w->channel[c].shut_until = INT64_MIN;
    }
    gw_marks_clear(&w->marks);
    w->begun = true;
    w->next = sample;
    w->n_waiting = 0;
    w->good_from = (sample + w->piece - 1) / w->piece * w->piece;
}

/* The warm-up runs from the tick boundary nearest to the first good sample: a recording that begins at a
 * whole second loses some milliseconds to the resampler, and is ready `warmup` after its beginning all the
 * same. */
static void warm_up_from(whiten *w, int64_t sample)
{
    w->warming = false;
    w->ready_tick = (sample + w->tick / 2) / w->tick + w->warmup_ticks;
}

static void learn(whiten *w, int64_t sample0)
{
    for (uint32_t l = 0; l < w->n_learners; l++) {
        learner *le = &w->learner[l];
        switch (gw_whitener_feed(le->whitener, sample0, w->channel[l].waiting, w->piece)) {
        case GW_WHITENER_SAME:
            break;
        case GW_WHITENER_FILTER:
            le->fade_from = le->has_filter ? sample0 : INT64_MIN;
            le->current = !le->current;
            le->has_filter = true;
            gw_convolver_prepare(w->channel[l].memory, gw_whitener_taps(le->whitener),
                                 le->response[le->current]);
            break;
        case GW_WHITENER_FORGOT:
            le->has_filter = false;
            warm_up_from(w, sample0);
            gw_log(GW_LOG_WARN, w->where,
                   "channel %" PRIu32 ": the noise has changed for good, learning it anew", l);
            break;
        }
    }
}

/* y[piece] of one channel, cross-faded while the filter is new. */
static void filter(whiten *w, const learner *le, const channel *ch, int64_t sample0, double *y)
{
    gw_convolver_run(ch->memory, le->response[le->current], y);
    if (le->fade_from == INT64_MIN || sample0 - le->fade_from >= w->fade)
        return;
    const int64_t age = sample0 - le->fade_from;
    gw_convolver_run(ch->memory, le->response[!le->current], w->fading);
    for (uint32_t i = 0; i < w->piece; i++) {
        const double s = age + i < w->fade ? sin(M_PI / 2 * (double)(age + i) / w->fade) : 1;
        y[i] = w->fading[i] + s * s * (y[i] - w->fading[i]);
    }
}

/* Shuts at once (there is no look-ahead to taper in), stays shut for 1/4 s after the last loud sample, and
 * opens over another 1/4 s. Returns whether anything was loud. */
static bool gate(const whiten *w, channel *ch, int64_t sample0, double *y)
{
    bool loud = false;
    for (uint32_t i = 0; i < w->piece; i++) {
        const int64_t n = sample0 + i;
        if (!(fabs(y[i]) <= w->gate)) {
            ch->gated_times += ch->shut_until == INT64_MIN || n >= ch->shut_until;
            ch->shut_until = n + w->taper;
            loud = true;
        }
        if (ch->shut_until == INT64_MIN)
            continue;
        if (n >= ch->shut_until + w->taper) {
            ch->shut_until = INT64_MIN;
            continue;
        }
        const double s = n < ch->shut_until ? 0 : sin(M_PI / 2 * (double)(n - ch->shut_until) / w->taper);
        y[i] *= s * s;
        ch->gated_samples++;
    }
    return loud;
}

static bool finite_piece(const whiten *w)
{
    double sum = 0;
    for (uint32_t c = 0; c < w->in.n_channels; c++)
        for (uint32_t i = 0; i < w->piece; i++)
            sum += 0 * w->channel[c].waiting[i];
    return sum == 0;
}

/* The piece at `sample0` is whole, in every channel's `waiting`. */
static void do_piece(whiten *w, int64_t sample0, gw_gap_reason *why)
{
    if (!finite_piece(w)) {
        begin(w, sample0 + w->piece);
        *why = GW_GAP_NAN;
        return;
    }
    if (w->warming)
        warm_up_from(w, sample0);
    learn(w, sample0);
    const bool memory_full = sample0 - w->good_from >= w->shape.n_taps - 1;
    bool ready = memory_full && sample0 >= w->ready_tick * w->tick;
    for (uint32_t l = 0; l < w->n_learners; l++)
        ready = ready && w->learner[l].has_filter;
    /* A step hands out one stretch; what follows a hole inside a block is left to the next. */
    ready = ready && (w->n_out == 0 || sample0 == w->out0 + w->n_out);
    if (ready && w->n_out == 0)
        w->out0 = sample0;
    for (uint32_t c = 0; c < w->in.n_channels; c++) {
        channel *ch = &w->channel[c];
        learner *le = &w->learner[w->follow_first ? 0 : c];
        gw_convolver_push(ch->memory, ch->waiting);
        if (!memory_full || !le->has_filter)
            continue;
        double *y = ch->y + w->n_out; /* beyond the output if not ready */
        filter(w, le, ch, sample0, y);
        if (gate(w, ch, sample0, y) && (!w->follow_first || c == 0))
            gw_whitener_loud(le->whitener);
    }
    if (ready)
        w->n_out += w->piece;
    else if (*why != GW_GAP_NAN)
        *why = sample0 < w->ready_tick * w->tick || memory_full ? GW_GAP_WARMUP : GW_GAP_HISTORY;
}

static void copy_in(const whiten *w, const gw_view *in, uint32_t from, uint32_t n)
{
    for (uint32_t c = 0; c < w->in.n_channels; c++) {
        double *to = w->channel[c].waiting + w->n_waiting;
        const size_t at = c * in->stride + from;
        if (w->in.dtype == GW_F64) {
            memcpy(to, (const double *)in->data + at, n * sizeof *to);
        } else {
            for (uint32_t i = 0; i < n; i++)
                to[i] = ((const float *)in->data)[at + i];
        }
    }
}

/* Everything before input sample `until` that was not handed out will never come. */
static int lose(const whiten *w, gw_out *out, int64_t until, gw_gap_reason why)
{
    out->lost = true;
    out->lost_until = until - w->half;
    out->reason = why;
    return GW_OK;
}

static int step(void *self, const gw_view *in, gw_out *out)
{
    const uint64_t needed = GW_DQ_DATA | GW_DQ_CBC_CAT1;
    whiten *w = self;
    const int64_t end = in->sample0 + in->n_samples;
    if (in->n_samples > w->in.block_samples)
        return gw_fail(GW_EBUG,
                       "whiten: a block of %" PRIu32 " samples is longer than the stream's spec says",
                       in->n_samples);
    if ((in->dq & needed) != needed) {
        w->begun = false;
        return lose(w, out, end, GW_GAP_QUALITY);
    }
    if (!w->begun || in->sample0 != w->next)
        begin(w, in->sample0);
    gw_marks_add(&w->marks, end, in->dq, in->flags);
    w->n_out = 0;
    gw_gap_reason why = GW_GAP_HISTORY;
    int64_t done = w->next - w->n_waiting; /* end of the last whole piece */
    for (uint32_t i = 0; i < in->n_samples;) {
        if (w->next < w->good_from) { /* up to the grid */
            const int64_t skip = w->good_from - w->next, left = in->n_samples - i;
            i += (uint32_t)(skip < left ? skip : left);
            w->next += skip < left ? skip : left;
            continue;
        }
        const uint32_t room = w->piece - w->n_waiting, left = in->n_samples - i,
                       n = left < room ? left : room;
        copy_in(w, in, i, n);
        i += n;
        w->next += n;
        w->n_waiting += n;
        if (w->n_waiting == w->piece) {
            w->n_waiting = 0;
            done = w->next;
            do_piece(w, w->next - w->piece, &why);
        }
    }
    if (w->n_out == 0)
        return done > in->sample0 ? lose(w, out, done, why) : GW_OK;
    for (uint32_t c = 0; c < w->in.n_channels; c++)
        for (uint32_t i = 0; i < w->n_out; i++)
            ((float *)out->data)[(size_t)c * w->n_out + i] = (float)w->channel[c].y[i];
    out->n_samples = w->n_out;
    out->sample0 = w->out0 - w->half;
    gw_marks_take(&w->marks, out->sample0, out->sample0 + w->n_out, &out->dq, &out->flags);
    return GW_OK;
}

static int gap(void *self, int port, const gw_hole *hole)
{
    (void)port;
    (void)hole;
    whiten *w = self;
    w->begun = false;
    return GW_OK;
}

static void close_stage(void *self)
{
    whiten *w = self;
    for (uint32_t c = 0; w->channel && c < w->in.n_channels; c++) {
        channel *ch = &w->channel[c];
        if (ch->gated_times)
            gw_log(GW_LOG_INFO, w->where,
                   "channel %" PRIu32 ": gated %" PRIu64 " times above %g sigma, %.3f s in all", c,
                   ch->gated_times, w->gate, (double)ch->gated_samples / w->shape.rate_hz);
        gw_convolver_destroy(&ch->memory);
        free(ch->waiting);
        free(ch->y);
    }
    for (uint32_t l = 0; w->learner && l < w->n_learners; l++) {
        gw_whitener_destroy(&w->learner[l].whitener);
        free(w->learner[l].response[0]);
        free(w->learner[l].response[1]);
    }
    free(w->channel);
    free(w->learner);
    free(w->fading);
    w->channel = NULL;
    w->learner = NULL;
    w->fading = NULL;
}

const gw_kind gw_kind_whiten = {.kind = "whiten",
                                .help = "whiten strain with a filter learnt from the past",
                                .role = GW_STAGE,
                                .per_stream = true,
                                .state_size = sizeof(whiten),
                                .configure = configure,
                                .plan = plan,
                                .open = open_stage,
                                .step = step,
                                .gap = gap,
                                .close = close_stage};
