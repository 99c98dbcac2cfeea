/* SPDX-License-Identifier: GPL-3.0-or-later
 * kind: whiten. Strain in, float32 of unit one-sided PSD 2 / fs out, through filters that are learnt from the
 * past and replaced once a tick with a short cross-fade; both lie on the absolute sample grid. Each channel
 * is a strand of its own (strand.h): what is wrong with one makes that one absent in the output, and the
 * others do not notice. Only where all are missing is the output a hole. Silent until `warmup` after the
 * first good sample; after a hole, until the filter's memory is full again. What exceeds `gate` sigma is
 * gated and kept out of PSD and gain. The work of a strand is in strand.c; here are the stage's life, what it
 * hands on, and what it tells: faults, range, drift, checkpoints.
 *
 *   phase: minimum | linear    duration: 1s     highpass: [20Hz, 30Hz]   lowpass: [0.88, 0.95] of Nyquist
 *   psd: {segment: 2s, average: median | mean, memory: 64s}   warmup: 8s    gate: 100
 *   follow_first: false        true: every channel goes through the filter learnt from the first
 *   drift: 2                   0: no alarm (watch.h)
 *   checkpoint, checkpoint_age, checkpoint_replay: psd_file.h */
#include "kernels/kernels.h"
#include "pipeline/log.h"
#include "pipeline/parallel.h"
#include "pipeline/stage.h"
#include "pipeline/stages/marks.h"
#include "pipeline/stages/psd_file.h"
#include "pipeline/stages/strand.h"
#include "pipeline/stages/whiten_conf.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SAVE_S = 60, SAY_S = 10 };

typedef struct whiten {
    gw_whiten_conf conf;
    /* plan */
    gw_spec in; /* a copy, with its names */
    gw_strand_shape shape;
    uint32_t half; /* a linear-phase filter's look-ahead */
    char where[GW_NAME_BYTES], settings[sizeof((gw_spec *)0)->whitening];
    /* run */
    gw_env *env;
    gw_kernels kernels;
    uint32_t n_strands;
    gw_strand **strand;   /* [n_strands] */
    gw_strand_news *news; /* [n_strands] of this step */
    const gw_view *view;  /* of this step */
    gw_psd_file *file;    /* NULL: no checkpoint */
    gw_marks marks;
    bool begun;         /* good samples have come */
    int64_t next;       /* input sample that comes next */
    int64_t saved;      /* number of the minute of the newest checkpoint */
    uint32_t n_unfit;   /* as it was said last */
    int64_t said_until; /* so soon nothing is said of it again */
} whiten;

/* -- configuration and plan -------------------------------------------------------------------------- */

static int configure(void *self, gw_conf *conf)
{
    whiten *w = self;
    return gw_whiten_conf_read(&w->conf, conf);
}

static gw_psd_shape file_shape(const whiten *w)
{
    const gw_whitener_shape *s = &w->shape.whitener;
    return (gw_psd_shape){.name = w->where,
                          .in = &w->in,
                          .settings = w->settings,
                          .n_channels = w->n_strands,
                          .rows = s->max_segments,
                          .bins = s->segment_samples / 2 + 1,
                          .taps = s->n_taps,
                          .bin_hz = (double)s->rate_hz / s->segment_samples};
}

static int plan(void *self, gw_plan *p)
{
    whiten *w = self;
    const gw_spec *in = &p->in[0];
    GW_TRY(gw_whiten_conf_fit(&w->conf, in, &w->shape));
    GW_TRY(gw_spec_copy(&w->in, in));
    snprintf(w->where, sizeof w->where, "%s", p->name);
    w->n_strands = in->n_channels / w->shape.n_channels;
    w->half = w->shape.whitener.linear ? w->shape.whitener.n_taps / 2 : 0;
    p->n_out = 1;
    gw_spec *out = &p->out[0];
    GW_TRY(gw_spec_copy(out, in));
    out->dtype = GW_F32;
    out->block_samples = (in->block_samples + w->shape.piece - 1) / w->shape.piece * w->shape.piece;
    snprintf(out->unit, sizeof out->unit, "whitened");
    GW_TRY(gw_whiten_conf_name(&w->conf, in, out));
    memcpy(w->settings, out->whitening, sizeof w->settings);
    /* A sample waits for its piece to be whole, and for the later half of a linear-phase filter. */
    p->delay_ns = gw_sample_to_ns(w->half + w->shape.piece - 1, in->rate, 0);
    p->memory_bytes = w->n_strands * gw_strand_memory(&w->shape);
    if (w->conf.checkpoint.path[0]) {
        const gw_psd_shape file = file_shape(w);
        p->memory_bytes += gw_psd_file_bytes(&file);
    }
    return GW_OK;
}

static int open_stage(void *self, gw_env *env)
{
    whiten *w = self;
    w->env = env;
    GW_TRY(gw_kernels_init(&w->kernels, GW_KERNELS_CUDA));
    w->strand = calloc(w->n_strands, sizeof *w->strand);
    w->news = calloc(w->n_strands, sizeof *w->news);
    if (!w->strand || !w->news)
        return gw_fail(GW_ENOMEM, "whitening of %" PRIu32 " channels", w->in.n_channels);
    for (uint32_t k = 0; k < w->n_strands; k++)
        GW_TRY(gw_strand_new(&w->strand[k], &w->kernels.spectrum, &w->shape));
    if (w->conf.checkpoint.path[0]) {
        const gw_psd_shape file = file_shape(w);
        GW_TRY(gw_psd_file_new(&w->file, &w->conf.checkpoint, &file));
    }
    return GW_OK;
}

/* -- checkpoint -------------------------------------------------------------------------------------- */

static int64_t sample_ns(const whiten *w, int64_t sample)
{
    return gw_sample_to_ns(sample, w->in.rate, w->in.phase_ns);
}

/* The first good samples of the run. */
static void start(whiten *w, const gw_view *in)
{
    w->begun = true;
    w->saved = sample_ns(w, in->sample0) / (SAVE_S * GW_SECOND_NS);
    if (!w->file || !gw_psd_file_warm(w->file, sample_ns(w, in->sample0), in->flags))
        return;
    for (uint32_t k = 0; k < w->n_strands; k++) {
        const gw_psd_entry *e = gw_psd_file_entry(w->file, k);
        if (!e->segments)
            continue;
        gw_whitener_restore(gw_strand_whitener(w->strand[k]), e->segments, e->psd, e->taps, e->scale);
        gw_strand_warm(w->strand[k]);
    }
}

static void save(whiten *w)
{
    bool learnt = false;
    for (uint32_t k = 0; k < w->n_strands; k++)
        learnt |= gw_whitener_taps(gw_strand_whitener(w->strand[k])) != NULL;
    if (!learnt || !gw_psd_file_begin(w->file))
        return;
    for (uint32_t k = 0; k < w->n_strands; k++) {
        gw_psd_entry *e = gw_psd_file_entry(w->file, k);
        e->segments = gw_whitener_save(gw_strand_whitener(w->strand[k]), e->psd, e->taps, &e->scale);
    }
    gw_psd_file_save(w->file, sample_ns(w, w->next));
}

/* -- what it tells ----------------------------------------------------------------------------------- */

static const gw_strand_out *result(const whiten *w, uint32_t channel)
{
    return gw_strand_result(w->strand[channel / w->shape.n_channels], channel % w->shape.n_channels);
}

static const char *channel_name(const whiten *w, uint32_t channel, char text[GW_NAME_BYTES])
{
    if (w->in.channel && w->in.channel[channel][0])
        return w->in.channel[channel];
    snprintf(text, GW_NAME_BYTES, "%" PRIu32, channel);
    return text;
}

/* One line when channels become unfit or fit again, at most every SAY_S of stream time. */
static void tell_faults(whiten *w)
{
    uint32_t n = 0, first = 0;
    for (uint32_t c = w->in.n_channels; c-- > 0;)
        if (result(w, c)->fault != GW_FIT) {
            n++;
            first = c;
        }
    gw_env_gauge(w->env, "unfit_channels", n);
    if (n == w->n_unfit || w->next < w->said_until)
        return;
    char text[GW_NAME_BYTES];
    const double gps = (double)sample_ns(w, w->next) / 1e9;
    if (n == 0)
        gw_log(GW_LOG_INFO, w->where, "GPS %.3f: every channel is fit again", gps);
    else
        gw_log(GW_LOG_WARN, w->where, "GPS %.3f: %" PRIu32 " of %" PRIu32 " channels unfit, first %s: %s",
               gps, n, w->in.n_channels, channel_name(w, first, text),
               gw_fault_text(result(w, first)->fault));
    w->n_unfit = n;
    w->said_until = w->next + SAY_S * (int64_t)w->shape.whitener.rate_hz;
}

static void log_learnt(const whiten *w, uint32_t k)
{
    char text[GW_NAME_BYTES], line[160];
    const char *name = channel_name(w, k * w->shape.n_channels, text);
    if (w->news[k] == GW_STRAND_FORGOT)
        gw_log(GW_LOG_WARN, w->where, "channel %s: the noise has changed for good, learning it anew", name);
    if (gw_watch_alarm(gw_strand_watch(w->strand[k]), line, sizeof line))
        gw_log(GW_LOG_WARN, w->where, "channel %s: %s", name, line);
}

/* Of several channels the least known, and the one that drifts most; the range of the first. */
static void tell_learnt(whiten *w)
{
    const double range_mpc = gw_watch_range_mpc(gw_strand_watch(w->strand[0]));
    double drift = 1;
    uint32_t segments = UINT32_MAX;
    uint64_t gated = 0, times;
    for (uint32_t k = 0; k < w->n_strands; k++) {
        log_learnt(w, k);
        const uint32_t n = gw_whitener_segments(gw_strand_whitener(w->strand[k]));
        const double d = gw_watch_drift(gw_strand_watch(w->strand[k]));
        segments = n < segments ? n : segments;
        drift = fabs(log(d)) > fabs(log(drift)) ? d : drift;
        for (uint32_t c = 0; c < w->shape.n_channels; c++)
            gated += gw_strand_gated_samples(w->strand[k], c, &times);
    }
    if (w->shape.watch.range && (range_mpc > 0 || w->news[0] == GW_STRAND_FORGOT))
        gw_env_gauge(w->env, "bns_range_mpc", range_mpc);
    gw_env_gauge(w->env, "psd_segments", segments);
    gw_env_gauge(w->env, "psd_drift", drift);
    gw_env_gauge(w->env, "gated_samples", (double)gated);
}

static void tell(whiten *w)
{
    bool learnt = false;
    for (uint32_t k = 0; k < w->n_strands; k++)
        learnt |= w->news[k] != GW_STRAND_NONE;
    tell_faults(w);
    if (learnt)
        tell_learnt(w);
    const int64_t minute = sample_ns(w, w->next) / (SAVE_S * GW_SECOND_NS);
    if (w->file && learnt && minute != w->saved) {
        w->saved = minute;
        save(w);
    }
}

/* -- work -------------------------------------------------------------------------------------------- */

static int take_strand(void *self, size_t k)
{
    whiten *w = self;
    w->news[k] = gw_strand_take(w->strand[k], w->view, w->in.dtype, (uint32_t)k * w->shape.n_channels);
    return GW_OK;
}

/* Everything before input sample `until` that was not handed out will never come. */
static int lose(const whiten *w, gw_out *out, int64_t until, gw_gap_reason why)
{
    out->lost = true;
    out->lost_until = until - w->half;
    out->reason = why;
    return GW_OK;
}

/* The longest stretch that a channel has; who has less of it is absent. */
static void hand_out(whiten *w, const gw_strand_out *best, gw_out *out)
{
    const uint32_t n = (uint32_t)(best->to - best->from);
    for (uint32_t c = 0; c < w->in.n_channels; c++) {
        const gw_strand_out *r = result(w, c);
        float *to = (float *)out->data + (size_t)c * n;
        if (r->from > best->from || r->to < best->to) {
            out->presence[c / 8] &= (uint8_t) ~(1u << c % 8);
            memset(to, 0, n * sizeof *to);
            continue;
        }
        const double *y = r->y + (best->from - r->from);
        for (uint32_t i = 0; i < n; i++)
            to[i] = (float)y[i];
    }
    out->n_samples = n;
    out->sample0 = best->from - w->half;
    gw_marks_take(&w->marks, out->sample0, out->sample0 + n, out);
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
    const bool good = (in->dq & needed) == needed;
    if (!good || !w->begun || in->sample0 != w->next) {
        gw_marks_clear(&w->marks);
        for (uint32_t k = 0; k < w->n_strands; k++)
            gw_strand_gap(w->strand[k]);
    }
    w->next = end;
    if (!good)
        return lose(w, out, end, GW_GAP_QUALITY);
    if (!w->begun)
        start(w, in);
    gw_marks_add(&w->marks, end, in);
    w->view = in;
    GW_TRY(gw_parallel(GW_SEARCH, w->n_strands, take_strand, w));
    tell(w);
    const gw_strand_out *best = result(w, 0);
    for (uint32_t c = 1; c < w->in.n_channels; c++) {
        const gw_strand_out *r = result(w, c);
        best = r->to - r->from > best->to - best->from ? r : best;
    }
    if (best->to > best->from)
        hand_out(w, best, out);
    else if (best->done > in->sample0)
        return lose(w, out, best->done, best->why);
    return GW_OK;
}

static int gap(void *self, int port, const gw_hole *hole)
{
    (void)port;
    (void)hole;
    whiten *w = self;
    gw_marks_clear(&w->marks);
    for (uint32_t k = 0; k < w->n_strands; k++)
        gw_strand_gap(w->strand[k]);
    return GW_OK;
}

static void tell_gated(const whiten *w)
{
    char text[GW_NAME_BYTES];
    for (uint32_t c = 0; c < w->in.n_channels; c++) {
        uint64_t times;
        const uint64_t samples =
            gw_strand_gated_samples(w->strand[c / w->shape.n_channels], c % w->shape.n_channels, &times);
        if (times)
            gw_log(GW_LOG_INFO, w->where, "channel %s: gated %" PRIu64 " times above %g sigma, %.3f s in all",
                   channel_name(w, c, text), times, w->shape.gate,
                   (double)samples / w->shape.whitener.rate_hz);
    }
}

static void close_stage(void *self)
{
    whiten *w = self;
    if (w->begun)
        tell_gated(w);
    if (w->begun && w->file) {
        gw_psd_file_wait(w->file);
        save(w);
    }
    gw_psd_file_destroy(&w->file);
    for (uint32_t k = 0; w->strand && k < w->n_strands; k++)
        gw_strand_destroy(&w->strand[k]);
    free(w->strand);
    free(w->news);
    gw_spec_free(&w->in);
    w->strand = NULL;
    w->news = NULL;
}

const gw_kind gw_kind_whiten = {.kind = "whiten",
                                .help = "whiten strain with a filter learnt from the past",
                                .role = GW_STAGE,
                                .per_stream = true,
                                .takes_presence = true,
                                .state_size = sizeof(whiten),
                                .configure = configure,
                                .plan = plan,
                                .open = open_stage,
                                .step = step,
                                .gap = gap,
                                .close = close_stage};
