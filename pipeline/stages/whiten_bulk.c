/* SPDX-License-Identifier: GPL-3.0-or-later
 * kind: whiten_bulk. Very many channels in, each through a filter learnt from its own past, float32 of unit
 * one-sided PSD 2 / fs out; a hop of all channels at a time, over all threads. What whiten is for the few
 * channels of the search, in double and in pieces of 1/64 s, this is for the rest: in float32, later by a
 * hop.
 *
 *   hop: 1s (a multiple of the stream's blocks)   decimate: 1 | 2 | 4 | 8   update: 60s   half: false | true
 *   psd: {segment: 2s, average: mean | median, memory: 64s, bins: 2Hz}      checkpoint: ... (psd_file.h)
 *   phase, duration, highpass, lowpass (of the output's Nyquist), warmup, gate: as for whiten
 *
 * Here hops are put together and handed on; the channels are whiten_bulk_bank.c's. Where a block is a hop,
 * the samples are read where the source wrote them; where a hop takes several blocks, these are held on to
 * until the last has come. A hop that is not whole is lost. A channel that cannot be used is absent, alone.
 *
 * Where there is a GPU all this is done there (float32 input; blocks and hops of multiples of 4 samples): a
 * step enqueues, what came of it is settled in finish, and a hop of several blocks is put together on the
 * device. */
#include "pipeline/log.h"
#include "pipeline/stage.h"
#include "pipeline/stages/marks.h"
#include "pipeline/stages/psd_file.h"
#include "pipeline/stages/whiten_bulk_bank.h"
#include "pipeline/stages/whiten_keys.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_PARTS = 1024, MEDIAN_OF = 5, CHECKPOINT_S = 60 };

typedef struct whiten_bulk {
    /* configuration */
    gw_conf *conf;
    gw_whiten_keys keys;
    gw_checkpoint_keys checkpoint;
    gw_rate hop, update; /* hop.num 0: a second, or a block where that is longer */
    int64_t decimate;
    double bins_hz;
    bool half_precision;
    /* plan */
    gw_spec in; /* borrowed values */
    gw_bank_shape shape;
    uint32_t half;  /* samples that the output lies before the input */
    bool on_device; /* no block is held then */
    char where[GW_NAME_BYTES], whitening[128];
    /* run */
    gw_kernels kernels;
    gw_bank *bank;
    gw_psd_file *file;
    gw_env *env;
    gw_marks marks;
    gw_bank_part *part; /* [n_parts] */
    gw_block **held;    /* [n_parts] */
    uint8_t *presence;  /* [(n_channels + 7) / 8] of the hop being put together */
    uint32_t n_parts;   /* of it */
    int64_t next;       /* the sample that comes next in it */
    bool some_absent, anew, begun;
    bool under_way;       /* on the device: finish has a hop to settle */
    int64_t end;          /* of the last hop done */
    int64_t said_ns;      /* monotonic: when states were told last */
    bool to_say, was_bad; /* states: something is to be told; some channel was out of order */
} whiten_bulk;

/* -- configuration ----------------------------------------------------------------------------------- */

static int configure(void *self, gw_conf *conf)
{
    whiten_bulk *w = self;
    w->conf = conf;
    w->update = (gw_rate){60, 1};
    w->decimate = 1;
    w->bins_hz = 2;
    GW_TRY(gw_whiten_keys_read(&w->keys, conf));
    if (!w->keys.psd || !gw_conf_find(w->keys.psd, "average"))
        w->keys.average = GW_AVERAGE_MEAN;
    if (w->keys.psd) {
        GW_TRY(gw_conf_get_frequency(w->keys.psd, "bins", &w->bins_hz));
        GW_TRY(gw_conf_done(w->keys.psd, "psd"));
    }
    GW_TRY(gw_conf_get_span(conf, "hop", &w->hop));
    GW_TRY(gw_conf_get_span(conf, "update", &w->update));
    GW_TRY(gw_conf_get_int(conf, "decimate", 1, 8, &w->decimate));
    GW_TRY(gw_conf_get_bool(conf, "half", &w->half_precision));
    return gw_checkpoint_keys_read(&w->checkpoint, conf, 3600 * GW_SECOND_NS);
}

/* Where a complaint about `key` points to: its value, or the stage. */
static gw_conf *place(const whiten_bulk *w, const char *key)
{
    gw_conf *c = gw_conf_find(w->conf, key);
    return c ? c : w->conf;
}

/* -- plan -------------------------------------------------------------------------------------------- */

static int samples_of(const whiten_bulk *w, const char *key, gw_rate span, uint32_t max_s, uint32_t *samples)
{
    const uint32_t rate = w->in.rate.num;
    if (gw_whole_samples(key, span, rate, max_s * rate, samples) == GW_OK)
        return GW_OK;
    char why[256];
    snprintf(why, sizeof why, "%s", gw_err_detail());
    return gw_conf_fail(place(w, key), "%s", why);
}

static int plan_hop(whiten_bulk *w, uint32_t *hop)
{
    const uint32_t rate = w->in.rate.num, block = w->in.block_samples;
    *hop = block > rate ? block : rate;
    if (w->hop.num)
        GW_TRY(samples_of(w, "hop", w->hop, 16, hop));
    if (*hop % block || *hop / block > MAX_PARTS)
        return gw_conf_fail(place(w, "hop"),
                            "hop: %g s is not a multiple of the %g s of a block of %s (1 to %d of them)",
                            (double)*hop / rate, (double)block / rate, w->in.name, MAX_PARTS);
    w->shape.n_parts = *hop / block;
    return GW_OK;
}

static int plan_psd(whiten_bulk *w, gw_bulk_shape *b)
{
    uint32_t memory = 0, warmup = 0, update = 0;
    GW_TRY(samples_of(w, "psd", w->keys.segment, 64, &b->segment));
    GW_TRY(samples_of(w, "psd", w->keys.memory, 3600, &memory));
    GW_TRY(samples_of(w, "warmup", w->keys.warmup, 3600, &warmup));
    GW_TRY(samples_of(w, "update", w->update, 3600, &update));
    const double pool = w->bins_hz * b->segment / b->rate_hz;
    if (!(pool >= 1) || pool > b->segment / 8.0 || pool != floor(pool))
        return gw_conf_fail(place(w, "psd"),
                            "psd: bins of %g Hz are not a whole number of those of %g Hz that a segment has, "
                            "or are too wide",
                            w->bins_hz, (double)b->rate_hz / b->segment);
    const uint32_t tick = b->segment / 2;
    b->pool = (uint32_t)pool;
    b->median_of = w->keys.average == GW_AVERAGE_MEDIAN ? MEDIAN_OF : 0;
    b->memory = memory / tick / (b->median_of ? b->median_of : 1);
    b->memory = b->memory ? b->memory : 1;
    w->shape.segments_needed = warmup > tick ? warmup / tick - 1 : 0;
    if (w->shape.segments_needed < (b->median_of ? b->median_of : 3))
        return gw_conf_fail(place(w, "warmup"),
                            "warmup: %g s is too short to learn from segments of %g s: at least %g s",
                            (double)warmup / b->rate_hz, (double)b->segment / b->rate_hz,
                            (double)(tick * ((b->median_of ? b->median_of : 3) + 1)) / b->rate_hz);
    if (b->median_of) /* a median counts when it is complete */
        w->shape.segments_needed -= w->shape.segments_needed % b->median_of;
    w->shape.forget_hops = (warmup + b->hop - 1) / b->hop;
    w->shape.update_hops = update > b->hop ? update / b->hop : 1;
    /* First filters all fall due at once: at most some hundred a second, or all within a quarter of update.
     */
    const uint64_t a_hop = 256 * (uint64_t)b->hop / b->rate_hz + 1;
    const uint64_t spread = (w->in.n_channels + a_hop - 1) / a_hop, most = w->shape.update_hops / 4 + 1;
    w->shape.first_hops = (uint32_t)(spread < most ? spread : most);
    b->dead_run = b->rate_hz / 16 < b->hop ? b->rate_hz / 16 : b->hop;
    b->taper = b->rate_hz / b->decimate / 4;
    return GW_OK;
}

static int plan_band(whiten_bulk *w, gw_bulk_design_shape *d)
{
    const double nyquist = 0.5 * d->bulk.rate_hz / d->bulk.decimate;
    for (int i = 0; i < 2; i++) {
        d->highpass_hz[i] = w->keys.highpass_hz[i];
        d->lowpass_hz[i] = w->keys.lowpass[i] * nyquist;
    }
    if (d->highpass_hz[1] >= d->lowpass_hz[0])
        return gw_conf_fail(place(w, "highpass"),
                            "highpass ends at %g Hz, above the beginning of lowpass at %g Hz",
                            d->highpass_hz[1], d->lowpass_hz[0]);
    return GW_OK;
}

static int plan_shape(whiten_bulk *w)
{
    const gw_spec *in = &w->in;
    gw_bulk_design_shape *d = &w->shape.design;
    gw_bulk_shape *b = &d->bulk;
    if (in->dtype != GW_F64 && in->dtype != GW_F32)
        return gw_conf_fail(w->conf, "stream %s is neither float32 nor float64", in->name);
    if (in->whitening[0])
        return gw_conf_fail(w->conf, "stream %s is already whitened (%s)", in->name, in->whitening);
    if (in->rate.den != 1 || in->rate.num < 256 || in->rate.num > 262144 || in->rate.num % w->decimate)
        return gw_conf_fail(
            w->conf, "stream %s at %g Hz: wants a whole rate of 256 to 262144 Hz that `decimate` divides",
            in->name, gw_rate_hz(in->rate));
    b->rate_hz = in->rate.num;
    b->decimate = (uint32_t)w->decimate;
    b->gate = (float)w->keys.gate;
    b->half = w->half_precision;
    w->shape.n_channels = in->n_channels;
    w->shape.dtype = in->dtype;
    GW_TRY(plan_hop(w, &b->hop));
    uint32_t duration = 0;
    GW_TRY(samples_of(w, "duration", w->keys.duration, 16, &duration));
    d->linear = w->keys.phase == GW_PHASE_LINEAR_FILTER;
    w->half = d->linear ? duration / 2 : 0;
    b->n_taps = d->linear ? duration + 1 : duration;
    if (duration % 2 || w->half % b->hop)
        return gw_conf_fail(
            place(w, "duration"),
            "duration: %g s: an even number of samples, and with linear phase its half a multiple "
            "of the hop of %g s",
            gw_rate_hz(w->keys.duration), (double)b->hop / b->rate_hz);
    GW_TRY(plan_psd(w, b));
    return plan_band(w, d);
}

/* In the form of whiten's, at the output's rate. */
static int name_whitening(whiten_bulk *w)
{
    char text[256], duration[24], segment[24], memory[24];
    const bool mean = w->keys.average == GW_AVERAGE_MEAN;
    snprintf(text, sizeof text,
             "v2 %s-phase %" PRIu32 "Hz %s highpass=%g-%gHz lowpass=%g-%g psd=%s,%s,%s,bins=%gHz",
             w->shape.design.linear ? "linear" : "minimum",
             w->shape.design.bulk.rate_hz / w->shape.design.bulk.decimate,
             gw_span_text(w->keys.duration, duration, sizeof duration), w->keys.highpass_hz[0],
             w->keys.highpass_hz[1], w->keys.lowpass[0], w->keys.lowpass[1], mean ? "mean" : "median",
             gw_span_text(w->keys.segment, segment, sizeof segment),
             gw_span_text(w->keys.memory, memory, sizeof memory), w->bins_hz);
    if (strlen(text) >= sizeof w->whitening)
        return gw_conf_fail(w->conf, "these numbers are too long to be written down in %zu characters: %s",
                            sizeof w->whitening - 1, text);
    snprintf(w->whitening, sizeof w->whitening, "%s", text);
    return GW_OK;
}

static const char *size_text(size_t bytes, char *text, size_t n)
{
    const char *const unit[] = {"KiB", "MiB", "GiB", "TiB"};
    double x = (double)bytes / 1024;
    int u = 0;
    for (; x >= 1024 && u < 3; u++)
        x /= 1024;
    snprintf(text, n, "%.*f %s", x < 100, x, unit[u]);
    return text;
}

static gw_psd_shape file_shape(const whiten_bulk *w, const gw_spec *in)
{
    const gw_bulk_shape *b = &w->shape.design.bulk;
    return (gw_psd_shape){.name = w->where,
                          .in = in,
                          .settings = w->whitening,
                          .n_channels = in->n_channels,
                          .rows = 1,
                          .bins = gw_bulk_psd_bins(b),
                          .bin_hz = w->bins_hz};
}

/* Kernels for the device where it can be there, else the host's. */
static int plan_place(whiten_bulk *w, gw_plan *p)
{
    const gw_bulk_shape *b = &w->shape.design.bulk;
    const bool fits = w->in.dtype == GW_F32 && w->in.block_samples % 4 == 0 && b->hop / b->decimate % 4 == 0;
    w->on_device = false;
    if (p->device && fits) {
        GW_TRY(gw_kernels_init(&w->kernels, GW_KERNELS_CUDA));
        w->on_device = w->kernels.bulk.enqueue != NULL;
    }
    p->on_device = w->on_device;
    p->in_flight = 1; /* filters and states feed back */
    return w->on_device ? GW_OK : gw_kernels_init(&w->kernels, GW_KERNELS_CPU);
}

/* What the kernel says to this shape: memory, and the filter's layout. */
static int plan_memory(whiten_bulk *w, gw_plan *p)
{
    const gw_bulk_ops *ops = &w->kernels.bulk;
    gw_bulk *bulk;
    if (ops->bulk_new(&bulk, &w->shape.design.bulk) != GW_OK) {
        char why[256];
        snprintf(why, sizeof why, "%s", gw_err_detail());
        return gw_conf_fail(w->conf, "%s", why);
    }
    const gw_bulk_info info = *ops->info(bulk);
    ops->bulk_destroy(&bulk);
    gw_bank_memory m;
    gw_bank_bytes(&w->shape, &info, w->on_device, &m);
    if (w->checkpoint.path[0]) {
        const gw_psd_shape s = file_shape(w, &p->in[0]);
        p->memory_bytes += gw_psd_file_bytes(&s);
    }
    p->memory_bytes +=
        w->in.n_channels * m.channel_bytes + (size_t)p->threads * m.thread_bytes + m.rest_bytes;
    p->device_bytes = w->in.n_channels * m.device_bytes + m.device_rest_bytes;
    char state[24], response[24];
    snprintf(p->note, sizeof p->note,
             "filters of %s; a channel: %s of past and PSD, %s of filter; designs: %" PRIu32 " a hop",
             info.layout, size_text(info.state_bytes, state, sizeof state),
             size_text(info.response_bytes, response, sizeof response),
             (w->in.n_channels + w->shape.update_hops - 1) / w->shape.update_hops);
    return GW_OK;
}

static int plan(void *self, gw_plan *p)
{
    whiten_bulk *w = self;
    const gw_spec *in = &p->in[0];
    w->in = *in;
    snprintf(w->where, sizeof w->where, "%s", p->name);
    GW_TRY(plan_shape(w));
    GW_TRY(name_whitening(w));
    GW_TRY(plan_place(w, p));
    GW_TRY(plan_memory(w, p));
    const gw_bulk_shape *b = &w->shape.design.bulk;
    p->n_out = 1;
    gw_spec *out = &p->out[0];
    GW_TRY(gw_spec_copy(out, in));
    out->dtype = GW_F32;
    out->rate.num /= b->decimate;
    out->block_samples = b->hop / b->decimate;
    snprintf(out->unit, sizeof out->unit, "whitened");
    snprintf(out->whitening, sizeof out->whitening, "%s", w->whitening);
    p->keep_ns[0] = w->on_device ? 0 : gw_sample_to_ns(b->hop - in->block_samples, in->rate, 0);
    p->delay_ns = gw_sample_to_ns(b->hop + w->half, in->rate, 0);
    return GW_OK;
}

/* -- life -------------------------------------------------------------------------------------------- */

static int open_stage(void *self, gw_env *env)
{
    whiten_bulk *w = self;
    w->env = env;
    w->part = calloc(w->shape.n_parts, sizeof *w->part);
    w->held = calloc(w->shape.n_parts, sizeof(gw_block *));
    w->presence = calloc((w->in.n_channels + 7) / 8, 1);
    if (!w->part || !w->held || !w->presence)
        return gw_fail(GW_ENOMEM, "bulk whitening of %" PRIu32 " channels", w->in.n_channels);
    GW_TRY(gw_bank_new(&w->bank, &w->kernels, &w->shape, w->on_device ? gw_env_device(env) : NULL,
                       w->on_device ? gw_env_queue(env) : NULL));
    if (!w->checkpoint.path[0])
        return GW_OK;
    const gw_psd_shape s = file_shape(w, &w->in);
    return gw_psd_file_new(&w->file, &w->checkpoint, &s);
}

static void let_go(whiten_bulk *w)
{
    for (uint32_t i = 0; w->held && !w->on_device && i < w->n_parts; i++)
        gw_block_unref(&w->held[i]);
    w->n_parts = 0;
    w->some_absent = false;
}

static void say_work(const whiten_bulk *w)
{
    const gw_bank_work k = gw_bank_worked(w->bank);
    if (!k.filtered)
        return;
    char cost[64] = "";
    if (k.filter_ns)
        snprintf(cost, sizeof cost, " of %.1f us, %.1f %% of the work designs",
                 (double)k.filter_ns / 1e3 / (double)k.filtered,
                 100 * (double)k.design_ns / (double)(k.design_ns + k.filter_ns));
    gw_log(GW_LOG_INFO, w->where,
           "%" PRIu64 " channel-hops%s; %" PRIu64 " filters designed in %.2f ms each; gated %" PRIu64
           " times; learnt anew %" PRIu64 " times",
           k.filtered, cost, k.designs, k.designs ? (double)k.design_ns / 1e6 / (double)k.designs : 0,
           k.gated, k.forgotten);
}

static void close_stage(void *self)
{
    whiten_bulk *w = self;
    let_go(w);
    if (w->bank)
        say_work(w);
    if (w->file && w->begun) {
        gw_psd_file_wait(w->file);
        if ((gw_bank_saving(w->bank) || gw_psd_file_begin(w->file)) &&
            gw_bank_save(w->bank, w->file) == GW_OK)
            gw_psd_file_save(w->file, gw_sample_to_ns(w->end, w->in.rate, w->in.phase_ns));
    }
    gw_psd_file_destroy(&w->file);
    gw_bank_destroy(&w->bank);
    free(w->part);
    free(w->held);
    free(w->presence);
    w->part = NULL;
    w->held = NULL;
    w->presence = NULL;
}

/* -- a hop ------------------------------------------------------------------------------------------- */

/* "17 dead, first H1:X; 3 saturated, first L1:Y; 980 of 1000 good", at most once a second. */
static void say_states(whiten_bulk *w)
{
    static const char *const word[GW_BANK_STATES] = {[GW_BANK_ABSENT] = "absent",
                                                     [GW_BANK_NAN] = "not finite",
                                                     [GW_BANK_DEAD] = "dead",
                                                     [GW_BANK_SATURATED] = "saturated"};
    const int64_t now_ns = gw_monotonic_ns();
    if (now_ns - w->said_ns < GW_SECOND_NS)
        return;
    const uint32_t *count = gw_bank_count(w->bank);
    const uint8_t *state = gw_bank_states(w->bank);
    char text[512] = "";
    for (int s = GW_BANK_ABSENT; s < GW_BANK_STATES; s++) {
        if (!count[s])
            continue;
        uint32_t first = 0;
        while (state[first] != s)
            first++;
        snprintf(text + strlen(text), sizeof text - strlen(text), "%" PRIu32 " %s, first %s; ", count[s],
                 word[s], w->in.channel ? w->in.channel[first] : "?");
    }
    gw_log(text[0] ? GW_LOG_WARN : GW_LOG_INFO, w->where, "%s%" PRIu32 " of %" PRIu32 " channels good%s",
           text, count[GW_BANK_GOOD], w->in.n_channels,
           count[GW_BANK_LEARNING] ? ", others still learning" : "");
    w->said_ns = now_ns;
    w->to_say = false;
}

/* States that a warm-up goes through are no news; who is out of order is, and when the last one is back. */
static void note_states(whiten_bulk *w)
{
    const uint32_t *count = gw_bank_count(w->bank);
    const uint32_t bad =
        count[GW_BANK_ABSENT] + count[GW_BANK_NAN] + count[GW_BANK_DEAD] + count[GW_BANK_SATURATED];
    gw_env_gauge(w->env, "channels_good", count[GW_BANK_GOOD]);
    gw_env_gauge(w->env, "channels_absent", count[GW_BANK_ABSENT]);
    gw_env_gauge(w->env, "channels_not_finite", count[GW_BANK_NAN]);
    gw_env_gauge(w->env, "channels_dead", count[GW_BANK_DEAD]);
    gw_env_gauge(w->env, "channels_saturated", count[GW_BANK_SATURATED]);
    if (gw_bank_changed(w->bank) && (bad || w->to_say || w->was_bad))
        w->to_say = true;
    w->was_bad = bad > 0;
    if (w->to_say)
        say_states(w);
}

static void lose(const whiten_bulk *w, gw_out *out, int64_t until, gw_gap_reason why)
{
    out->lost = true;
    out->lost_until = (until - w->half) / w->shape.design.bulk.decimate;
    out->reason = why;
}

static gw_gap_reason why_silent(const whiten_bulk *w)
{
    const uint32_t *count = gw_bank_count(w->bank);
    if (count[GW_BANK_LEARNING])
        return GW_GAP_WARMUP;
    if (count[GW_BANK_FILLING])
        return GW_GAP_HISTORY;
    return count[GW_BANK_NAN] ? GW_GAP_NAN : GW_GAP_CHANNEL;
}

/* Whether the checkpoint's time has come within this hop; the grid is absolute. */
static bool saves(const whiten_bulk *w, int64_t sample0)
{
    const int64_t every = (int64_t)CHECKPOINT_S * w->in.rate.num;
    return w->file && sample0 / every != (sample0 + w->shape.design.bulk.hop) / every &&
           gw_psd_file_begin(w->file);
}

/* What came of the hop that has just been done. */
static void settle(whiten_bulk *w, gw_out *out)
{
    note_states(w);
    if (gw_bank_count(w->bank)[GW_BANK_GOOD] == 0) {
        out->n_samples = 0;
        lose(w, out, w->end, why_silent(w));
    }
}

/* The hop that begins at sample0 is whole. */
static int do_hop(whiten_bulk *w, int64_t sample0, uint32_t flags, gw_out *out)
{
    const gw_bulk_shape *b = &w->shape.design.bulk;
    const int64_t end = sample0 + b->hop;
    if (!w->begun && w->file &&
        gw_psd_file_warm(w->file, gw_sample_to_ns(sample0, w->in.rate, w->in.phase_ns), flags))
        gw_bank_warm(w->bank, w->file);
    w->begun = true;
    w->end = end;
    const bool save = saves(w, sample0);
    const gw_bank_hop hop = {.sample0 = sample0,
                             .part = w->part,
                             .presence = w->some_absent ? w->presence : NULL,
                             .anew = w->anew,
                             .save = save ? w->file : NULL,
                             .y = out->data,
                             .y_presence = out->presence};
    w->anew = false;
    GW_TRY(gw_bank_step(w->bank, &hop));
    out->n_samples = b->hop / b->decimate;
    out->sample0 = (sample0 - w->half) / b->decimate;
    gw_marks_take(&w->marks, sample0 - w->half, end - w->half, out);
    w->under_way = w->on_device;
    if (w->on_device)
        return GW_OK;
    if (save)
        gw_psd_file_save(w->file, gw_sample_to_ns(end, w->in.rate, w->in.phase_ns));
    settle(w, out);
    return GW_OK;
}

static int finish(void *self, gw_out *out)
{
    whiten_bulk *w = self;
    if (!w->under_way)
        return GW_OK;
    w->under_way = false;
    gw_bank_finish(w->bank, out->presence);
    if (gw_bank_saved(w->bank))
        gw_psd_file_save(w->file, gw_sample_to_ns(w->end, w->in.rate, w->in.phase_ns));
    settle(w, out);
    return GW_OK;
}

static void add_presence(whiten_bulk *w, const uint8_t *presence)
{
    if (!presence)
        return;
    const size_t bytes = (w->in.n_channels + 7) / 8;
    if (!w->some_absent)
        memset(w->presence, 0xff, bytes);
    w->some_absent = true;
    for (size_t i = 0; i < bytes; i++)
        w->presence[i] &= presence[i];
}

static int step(void *self, const gw_view *in, gw_out *out)
{
    const uint64_t needed = GW_DQ_DATA | GW_DQ_CBC_CAT1;
    whiten_bulk *w = self;
    const uint32_t hop = w->shape.design.bulk.hop;
    const int64_t end = in->sample0 + in->n_samples;
    gw_marks_add(&w->marks, end, in);
    if ((in->dq & needed) != needed) {
        let_go(w);
        lose(w, out, end, GW_GAP_QUALITY);
        return GW_OK;
    }
    if (w->n_parts && in->sample0 != w->next)
        let_go(w);
    const bool whole = in->n_samples == w->in.block_samples && in->sample0 % in->n_samples == 0;
    if (!whole || (w->n_parts == 0 && in->sample0 % hop != 0)) {
        let_go(w);
        lose(w, out, end, GW_GAP_PARTIAL);
        return GW_OK;
    }
    w->part[w->n_parts] = (gw_bank_part){.data = in->data, .stride = in->stride};
    add_presence(w, in->presence);
    w->next = end;
    if (w->on_device && w->shape.n_parts > 1)
        GW_TRY(gw_bank_part_take(w->bank, &w->part[w->n_parts], w->n_parts));
    if (end % hop != 0 && w->on_device) {
        w->n_parts++;
        return GW_OK;
    }
    if (end % hop != 0) {
        gw_block_ref(in->block);
        w->held[w->n_parts++] = in->block;
        return GW_OK;
    }
    int err = do_hop(w, end - hop, in->flags, out);
    let_go(w);
    return err;
}

/* The kernel sees a hole by the sample numbers; not where another run goes on at the same place. */
static int gap(void *self, int port, const gw_hole *hole)
{
    (void)port;
    whiten_bulk *w = self;
    let_go(w);
    w->anew |= hole->samples == 0;
    return GW_OK;
}

/* What waits for the rest of its hop waits in vain. */
static int drain(void *self, gw_out *out)
{
    (void)out;
    let_go(self);
    return GW_OK;
}

const gw_kind gw_kind_whiten_bulk = {.kind = "whiten_bulk",
                                     .help = "whiten very many channels with filters learnt from the past",
                                     .role = GW_STAGE,
                                     .per_stream = true,
                                     .takes_presence = true,
                                     .state_size = sizeof(whiten_bulk),
                                     .configure = configure,
                                     .plan = plan,
                                     .open = open_stage,
                                     .step = step,
                                     .finish = finish,
                                     .gap = gap,
                                     .drain = drain,
                                     .close = close_stage};
