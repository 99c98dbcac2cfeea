/* SPDX-License-Identifier: GPL-3.0-or-later
 * The stage `detect`: two whitened detectors -> network -> ranking statistic and events. It joins the
 * network (kernels/nn), what the model says of itself (model.c), its card (card.c) and the clustering
 * (candidate.c), and fills in events what only a stage can know.
 *
 *     search: {kind: detect, from: white, model: models/bbh-small.onnx}
 *
 *   model       the .onnx file
 *   card        its card; default: beside it, with .card.yaml for .onnx
 *   candidate   threshold of the ranking statistic for a candidate; default: the card's (1 an hour)
 *   alert       the same for an alert; default: the card's (1 a day)
 *   refractory  8s: how long after a peak everything belongs to the same event, see candidate.h
 *   retract     8s, or the refractory time if that is shorter: where the data quality of a detector turns bad
 *               this soon after an event, the event is withdrawn: RETRACTED, with the reason in its detail.
 *               Soon after the start that may be an event of an earlier run, which the sink has to find: DOUBT,
 *               once. 0s: never
 *   hop         how much is computed at once; default: one frame of the model
 *
 * Output: the stream of the statistic, float32, unit "logit", one sample a frame, channels "H1,L1:LOGIT"
 * and "H1,L1:STATISTIC". Its sample k belongs to the input samples [k * hop, (k + 1) * hop) (hop: the
 * model's): the value is that of the window that ends with them, so what sample k says is known one sample
 * later. After the start or a hole nothing is searched until the network's window and the smoothing are full
 * of good data; the output is a GAP there ("history"), as where DATA or CBC_CAT1 does not pass. */
#include "kernels/nn/net.h"
#include "pipeline/stage.h"
#include "pipeline/stages/candidate.h"
#include "pipeline/stages/card.h"
#include "pipeline/stages/detail.h"
#include "pipeline/stages/model.h"

#include <inttypes.h>
#include <math.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { N = GW_MODEL_DETECTORS, HASH_DIGITS = 16, MAX_HOP_FRAMES = 4096 };

static const uint64_t searched_dq = GW_DQ_DATA | GW_DQ_CBC_CAT1; /* only where both hold */

/* An event that is to be withdrawn, and why. Told only when all inputs are past the hop in which the data turned
 * bad: both may in the same hop, and which the runner hears of first is chance. */
typedef struct withdrawal {
    bool due;
    bool own;     /* verdict is to be told, */
    bool earlier; /* or that what an earlier run told is in doubt */
    gw_verdict verdict;
    int channel;    /* of the network: whose data it was first, */
    int64_t sample; /* from here on, */
    uint64_t dq;    /* with these bits still holding */
    int64_t until;  /* no sample before this is searched */
} withdrawal;

typedef struct detect {
    gw_env *env;
    /* YAML */
    char path[4096], card_path[4096];
    double candidate, alert; /* NAN: the card's */
    int64_t refractory_ns, retract_ns;
    gw_rate hop_s; /* {0, 0}: one frame */
    /* plan */
    gw_onnx *onnx; /* until open */
    gw_card *card;
    gw_model model;
    char model_hash[GW_SHA256_TEXT];
    int order[N]; /* channel of the network -> input port */
    gw_rate rate;
    int64_t phase_ns;
    uint32_t frames;  /* a hop */
    gw_detail detail; /* of every event */
    /* open */
    gw_kernels kernels;
    gw_net *net;
    gw_candidate *cluster;
    float **out; /* [the network's outputs]: of these two, the others are not wanted */
    int logit_out, arrival_out;
    uint32_t columns; /* of arrival scores, a frame */
    uint32_t warmup;  /* ... that are worth little, from a hole on */
    float *logit;     /* [frames] */
    float *arrival;   /* [N][frames * columns] */
    /* running */
    int64_t next_sample;
    int64_t good_frames; /* since the start or the last hole */
    int64_t due_ns, ingest_ns;
    uint64_t networks[N]; /* that cleaned the newest samples of each detector */
    int64_t told_ns;      /* of the frame at hand */
    int64_t reached_ns;   /* as said */
    int64_t seen_ns;      /* ... and what could be, of which this is true: */
    bool searched;
    char id[GW_EVENT_ID_BYTES];
    int64_t began_ns; /* of what came first; INT64_MIN: nothing yet */
    bool doubted;
    withdrawal withdrawal;
} detect;

/* ---- configure, plan ---- */

static int take_path(gw_conf *conf, const char *key, char *to, size_t n)
{
    const char *text = NULL;
    GW_TRY(gw_conf_get_text(conf, key, &text));
    if (text && (!*text || strlen(text) >= n))
        return gw_conf_fail(gw_conf_find(conf, key), "%s: want the path of a file", key);
    if (text)
        memcpy(to, text, strlen(text) + 1);
    return GW_OK;
}

static int configure(void *self, gw_conf *conf)
{
    detect *d = self;
    gw_conf *node;
    d->candidate = d->alert = NAN;
    d->refractory_ns = 8 * GW_SECOND_NS;
    d->retract_ns = -1;
    d->hop_s = (gw_rate){0, 0};
    GW_TRY(gw_conf_need(conf, "model", &node));
    GW_TRY(take_path(conf, "model", d->path, sizeof d->path));
    GW_TRY(take_path(conf, "card", d->card_path, sizeof d->card_path));
    if (!d->card_path[0]) {
        static const char onnx[] = ".onnx", card[] = ".card.yaml";
        const size_t n = strlen(d->path), cut = n >= sizeof onnx ? n - (sizeof onnx - 1) : n;
        if (strcmp(d->path + cut, onnx) != 0 || cut + sizeof card > sizeof d->card_path)
            return gw_conf_fail(
                node, "model: '%.200s' does not end in .onnx, so say where its card is (card: FILE)",
                d->path);
        memcpy(d->card_path, d->path, cut);
        memcpy(d->card_path + cut, card, sizeof card);
    }
    GW_TRY(gw_conf_get_double(conf, "candidate", -1e6, 1e6, &d->candidate));
    GW_TRY(gw_conf_get_double(conf, "alert", -1e6, 1e6, &d->alert));
    GW_TRY(gw_conf_get_span_ns(conf, "refractory", &d->refractory_ns));
    /* Shorter, and two events could share a GPS second, and so an id. */
    if (d->refractory_ns < 3 * GW_SECOND_NS || d->refractory_ns > 3600 * GW_SECOND_NS)
        return gw_conf_fail(gw_conf_find(conf, "refractory"), "refractory: want 3s to 1h");
    GW_TRY(gw_conf_get_span_ns(conf, "retract", &d->retract_ns));
    if (d->retract_ns > d->refractory_ns) /* later, another event may be the last one */
        return gw_conf_fail(gw_conf_find(conf, "retract"), "retract: want 0s to the refractory time of %gs",
                            (double)d->refractory_ns / 1e9);
    if (d->retract_ns < 0)
        d->retract_ns = d->refractory_ns < 8 * GW_SECOND_NS ? d->refractory_ns : 8 * GW_SECOND_NS;
    return gw_conf_get_span(conf, "hop", &d->hop_s);
}

static void free_plan(detect *d)
{
    gw_onnx_free(&d->onnx);
    gw_card_free(&d->card);
}

static int read_card(detect *d)
{
    const int err = gw_card_load(&d->card, d->card_path);
    if (err == GW_EMISSING)
        return gw_fail(err, "%s: no such model card; put it beside the model or say where it is (card: FILE)",
                       d->card_path);
    GW_TRY(err);
    if (strcmp(d->card->model_sha256, d->model_hash) != 0)
        return gw_fail(GW_EMISMATCH, "card %s is for the model with SHA-256 %s, but %s has %s", d->card_path,
                       d->card->model_sha256, d->path, d->model_hash);
    if (isnan(d->candidate))
        d->candidate = d->card->candidate;
    if (isnan(d->alert))
        d->alert = d->card->alert;
    if (d->alert < d->candidate)
        return gw_fail(GW_ECONFIG, "the alert threshold %g lies below the candidate threshold %g", d->alert,
                       d->candidate);
    return GW_OK;
}

static int plan_hop(detect *d)
{
    d->frames = 1;
    if (!d->hop_s.den)
        return GW_OK;
    const uint64_t samples = (uint64_t)d->hop_s.num * d->rate.num,
                   unit = (uint64_t)d->hop_s.den * d->rate.den;
    const uint64_t frame = unit * d->model.hop_samples;
    if (!samples || samples % frame || samples / frame > MAX_HOP_FRAMES)
        return gw_fail(GW_ECONFIG,
                       "hop: %" PRIu32 "/%" PRIu32 " s is not 1 to %d times the model's %" PRIu32 "/%" PRIu32
                       " s",
                       d->hop_s.num, d->hop_s.den, MAX_HOP_FRAMES, d->model.hop_samples, d->model.rate_hz);
    d->frames = (uint32_t)(samples / frame);
    return GW_OK;
}

static int plan(void *self, gw_plan *p)
{
    detect *d = self;
    free_plan(d);
    GW_TRY(gw_onnx_load(&d->onnx, d->path));
    GW_TRY(gw_model_read(&d->model, d->onnx));
    GW_TRY(gw_sha256_file(d->path, d->model_hash));
    GW_TRY(read_card(d));
    GW_TRY(gw_model_match(&d->model, d->path, p->in, p->n_in, d->order));
    gw_detail_begin(d->detail, d->candidate, d->alert, p->in, p->n_in);
    d->rate = p->in[0].rate;
    d->phase_ns = p->in[0].phase_ns;
    GW_TRY(plan_hop(d));
    for (int i = 0; i < p->n_in; i++)
        p->hop[i] = d->frames * d->model.hop_samples;
    p->memory_bytes = (size_t)16 << 20;
    p->n_out = 1;
    gw_spec *out = &p->out[0];
    /* model.rate_hz / hop_samples in lowest terms */
    uint32_t a = d->model.rate_hz, b = d->model.hop_samples;
    while (b) {
        uint32_t r = a % b;
        a = b;
        b = r;
    }
    out->rate = (gw_rate){d->model.rate_hz / a, d->model.hop_samples / a};
    out->phase_ns = d->phase_ns;
    out->dtype = GW_F32;
    out->block_samples = d->frames;
    snprintf(out->unit, sizeof out->unit, "logit");
    char logit[GW_NAME_BYTES], statistic[GW_NAME_BYTES];
    snprintf(logit, sizeof logit, "%s:LOGIT", d->model.detectors);
    snprintf(statistic, sizeof statistic, "%s:STATISTIC", d->model.detectors);
    return gw_spec_set_channels(out, 2, (const char *const[]){logit, statistic});
}

/* ---- open, close ---- */

/* The network, once ready to run, must be what the file's metadata promised, with the outputs
 *   "logit"    [1, 1]                    the raw ranking logit of the window
 *   "arrival"  [1, detectors, columns]   optional: a score for each column of window / columns samples:
 *                                        log-probability (unnormalised) that the signal arrives there */
static int check_net(detect *d)
{
    const gw_net_info *i = gw_net_get_info(d->net);
    const gw_model *m = &d->model;
    if (i->n_channels != N || i->window_samples != m->window_samples || i->frame_samples != m->hop_samples)
        return gw_fail(GW_EMISMATCH,
                       "%s: the network takes %" PRIu32 " x %" PRIu32 " samples in frames of %" PRIu32
                       ", its metadata say %d x %" PRIu32 " in frames of %" PRIu32,
                       d->path, i->n_channels, i->window_samples, i->frame_samples, N, m->window_samples,
                       m->hop_samples);
    d->logit_out = gw_net_find_output(d->net, "logit");
    d->arrival_out = gw_net_find_output(d->net, "arrival");
    const gw_net_output *logit = d->logit_out < 0 ? NULL : &i->output[d->logit_out];
    if (!logit || !logit->pooled || logit->channels != 1 || logit->columns != d->frames)
        return gw_fail(GW_EMISMATCH, "%s: the network has no output 'logit' [1, 1] that pools over time",
                       d->path);
    d->columns = 0;
    if (d->arrival_out < 0)
        return GW_OK;
    const gw_net_output *a = &i->output[d->arrival_out];
    if (a->pooled || a->channels != N || !a->column_samples || m->hop_samples % a->column_samples ||
        a->delay_samples)
        return gw_fail(GW_EMISMATCH,
                       "%s: output 'arrival' has %" PRIu32 " rows, columns of %" PRIu32
                       " samples and a delay of %" PRIu32
                       ", want %d rows and whole columns in a frame of %" PRIu32 " without delay",
                       d->path, a->channels, a->column_samples, a->delay_samples, N, m->hop_samples);
    d->columns = m->hop_samples / a->column_samples;
    d->warmup = a->warmup_columns;
    return GW_OK;
}

static int open_cluster(detect *d)
{
    const gw_model *m = &d->model;
    const gw_candidate_conf conf = {.rate = d->rate,
                                    .phase_ns = d->phase_ns,
                                    .hop_samples = m->hop_samples,
                                    .window_samples = m->window_samples,
                                    .smoothing_frames = m->smoothing_frames,
                                    .candidate = d->candidate,
                                    .alert = d->alert,
                                    .refractory_s = (double)d->refractory_ns / 1e9,
                                    .arrival_samples = d->columns ? m->hop_samples / d->columns : 0,
                                    .arrival_warmup = d->warmup,
                                    .travel_s = m->travel_s,
                                    .reach_s = m->arrival_reach_s,
                                    .arrival_offset_s = m->arrival_offset_s,
                                    .arrival_skew = m->arrival_skew,
                                    .arrival_sigma_scale = m->arrival_sigma_scale,
                                    .arrival_sigma_floor_s = m->arrival_sigma_floor_s,
                                    .peak_offset_s = m->peak_offset_s};
    return gw_candidate_new(&d->cluster, &conf);
}

static int open_stage(void *self, gw_env *env)
{
    detect *d = self;
    d->env = env;
    d->began_ns = INT64_MIN;
    const uint32_t hop = d->frames * d->model.hop_samples;
    GW_TRY(gw_kernels_init(&d->kernels, GW_KERNELS_CUDA));
    GW_TRY(gw_net_open(&d->net, d->onnx, &d->kernels,
                       &(gw_net_options){.mode = GW_NET_STREAM, .hop_samples = hop}));
    gw_onnx_free(&d->onnx);
    GW_TRY(check_net(d));
    GW_TRY(open_cluster(d));
    d->logit = calloc(d->frames, sizeof *d->logit);
    d->arrival = calloc((size_t)N * d->frames * (d->columns ? d->columns : 1), sizeof *d->arrival);
    d->out = calloc((size_t)gw_net_get_info(d->net)->n_outputs, sizeof(float *));
    if (!d->logit || !d->arrival || !d->out)
        return gw_fail(GW_ENOMEM, "buffers for %" PRIu32 " frames", d->frames);
    d->out[d->logit_out] = d->logit;
    if (d->columns)
        d->out[d->arrival_out] = d->arrival;
    if (sodium_init() < 0)
        return gw_fail(GW_ESYSTEM, "libsodium cannot start");
    return GW_OK;
}

static void close_stage(void *self)
{
    detect *d = self;
    free_plan(d);
    gw_net_close(&d->net);
    gw_candidate_destroy(&d->cluster);
    free(d->logit);
    free(d->arrival);
    free(d->out);
    d->logit = d->arrival = NULL;
    d->out = NULL;
}

/* ---- events ---- */

/* The same for a restart, a spare and a replay: a hash of what they share. */
static void make_id(detect *d, int64_t gps_ns)
{
    char text[256], hex[GW_SHA256_TEXT];
    unsigned char digest[crypto_hash_sha256_BYTES];
    int n = snprintf(text, sizeof text, "%" PRId64 " %s %s %s", gps_ns / GW_SECOND_NS, d->model.detectors,
                     d->model.name, gw_env_name(d->env));
    crypto_hash_sha256(digest, (const unsigned char *)text, (unsigned long long)n);
    sodium_bin2hex(hex, sizeof hex, digest, sizeof digest);
    snprintf(d->id, sizeof d->id, "G%.*s", HASH_DIGITS, hex);
}

static int emit(detect *d, const gw_verdict *v)
{
    if (v->phase == GW_PHASE_FIRST)
        make_id(d, v->first_gps_ns);
    const gw_timebase t = gw_env_timebase(d->env);
    gw_event e = {.phase = v->phase,
                  .gps_ns = v->gps_ns,
                  .gps_error_s = v->gps_error_s,
                  .statistic = v->statistic,
                  .noise_rate_hz = gw_card_noise_rate_hz(d->card, v->statistic),
                  .background_s = d->card->live_time_s,
                  .alert = v->alert,
                  .injection = v->injection,
                  .archived = v->archived,
                  .dq = v->dq,
                  .told_ns = d->told_ns,
                  .due_ns = d->due_ns,
                  .ingest_ns = d->ingest_ns,
                  .decided_ns = gw_gps_now_ns(),
                  .pace = t.pace,
                  .anchor_wall_ns = t.anchor_wall_ns,
                  .anchor_data_ns = t.anchor_data_ns};
    memcpy(e.id, d->id, sizeof e.id);
    snprintf(e.detectors, sizeof e.detectors, "%s", d->model.detectors);
    snprintf(e.stream, sizeof e.stream, "%.*s", (int)sizeof e.stream - 1, gw_env_name(d->env));
    snprintf(e.model, sizeof e.model, "%s", d->model.name);
    snprintf(e.model_hash, sizeof e.model_hash, "%.*s", HASH_DIGITS, d->model_hash);
    snprintf(e.card_hash, sizeof e.card_hash, "%.*s", HASH_DIGITS, d->card->sha256);
    memcpy(e.detail, d->detail, sizeof e.detail);
    gw_detail_add_arrivals(e.detail, &d->model, v);
    gw_detail_add_networks(e.detail, &d->model, d->networks);
    const withdrawal *w = &d->withdrawal;
    if (v->phase == GW_PHASE_RETRACTED)
        gw_detail_add_reason(e.detail, d->model.detector[w->channel], searched_dq & ~w->dq,
                             gw_sample_to_ns(w->sample, d->rate, d->phase_ns), e.gps_ns);
    return gw_env_emit(d->env, &e);
}

/* What was told before this run began is known to sinks alone. */
static int emit_doubt(detect *d)
{
    const withdrawal *w = &d->withdrawal;
    const int64_t bad_ns = gw_sample_to_ns(w->sample, d->rate, d->phase_ns);
    const gw_timebase t = gw_env_timebase(d->env);
    gw_event e = {.phase = GW_PHASE_DOUBT,
                  .gps_ns = bad_ns,
                  .told_ns = d->told_ns,
                  .decided_ns = gw_gps_now_ns(),
                  .pace = t.pace,
                  .anchor_wall_ns = t.anchor_wall_ns,
                  .anchor_data_ns = t.anchor_data_ns};
    snprintf(e.detectors, sizeof e.detectors, "%s", d->model.detectors);
    snprintf(e.stream, sizeof e.stream, "%.*s", (int)sizeof e.stream - 1, gw_env_name(d->env));
    gw_detail_doubt(e.detail, d->model.detector[w->channel], searched_dq & ~w->dq, bad_ns,
                    bad_ns - d->retract_ns, d->began_ns);
    return gw_env_emit(d->env, &e);
}

/* ---- running ---- */

static void begin(detect *d, int64_t sample)
{
    if (d->began_ns == INT64_MIN)
        d->began_ns = gw_sample_to_ns(sample, d->rate, d->phase_ns);
}

/* Stream time at which what rests on the samples before this one can be known. */
static int64_t known_ns(const detect *d, int64_t sample)
{
    return gw_sample_to_ns(sample, d->rate, d->phase_ns) + gw_env_late_ns(d->env);
}

static int say_reached(detect *d)
{
    d->reached_ns = d->seen_ns;
    return gw_env_reached(d->env, d->seen_ns, d->searched);
}

/* So far all has been told, and since the last time it was searched or not. Said where that changes, at an
 * instant that depends on the data alone, and every quarter of a second: sinks count who searches. */
static int reach(detect *d, int64_t now_ns, bool searched)
{
    if (now_ns <= d->seen_ns) /* a hole of one detector within another's */
        return GW_OK;
    if (searched != d->searched && d->seen_ns > d->reached_ns)
        GW_TRY(say_reached(d));
    d->searched = searched;
    d->seen_ns = now_ns;
    return now_ns - d->reached_ns < GW_SECOND_NS / 4 ? GW_OK : say_reached(d);
}

/* A hole: nothing on its other side may meet what was before it. What it ends is told after all that the last
 * frame told, and before what the next one will tell. */
static int forget(detect *d)
{
    gw_verdict v;
    gw_net_reset(d->net);
    d->good_frames = 0;
    if (!gw_candidate_gap(d->cluster, &v))
        return GW_OK;
    d->told_ns++;
    return emit(d, &v);
}

/* The data of a channel are bad from this sample on. After forget(): what is open has been made final. */
static void turn_bad(detect *d, int channel, int64_t sample, uint64_t dq)
{
    withdrawal *w = &d->withdrawal;
    const int64_t bad_ns = gw_sample_to_ns(sample, d->rate, d->phase_ns);
    const bool own = d->retract_ns && gw_candidate_withdraw(d->cluster, bad_ns, d->retract_ns, &w->verdict);
    const bool earlier = d->retract_ns && !d->doubted && bad_ns - d->retract_ns <= d->began_ns;
    if (own || earlier) {
        w->due = true;
        w->own |= own;
        w->earlier |= earlier;
        w->sample = INT64_MAX;
        d->doubted |= earlier;
    }
    if (sample < w->sample || (sample == w->sample && channel < w->channel)) {
        w->sample = sample;
        w->channel = channel;
        w->dq = dq;
    }
}

/* All inputs are past the samples before this one. */
static int tell_withdrawn(detect *d, int64_t sample)
{
    withdrawal *w = &d->withdrawal;
    const int64_t frame = d->model.hop_samples, hop = d->frames * frame;
    if (!w->due || sample < (w->sample / hop + 1) * hop)
        return GW_OK;
    w->due = false;
    d->told_ns = known_ns(d, (w->sample / frame + 1) * frame);
    if (d->told_ns <= d->reached_ns)
        d->told_ns = d->reached_ns + 1;
    if (w->own)
        GW_TRY(emit(d, &w->verdict));
    if (w->earlier)
        GW_TRY(emit_doubt(d));
    w->own = w->earlier = false;
    return reach(d, known_ns(d, w->until), false);
}

static int gap(void *self, int port, const gw_hole *hole)
{
    detect *d = self;
    withdrawal *w = &d->withdrawal;
    const int64_t end = hole->sample0 + (int64_t)hole->samples;
    begin(d, hole->sample0);
    GW_TRY(forget(d));
    GW_TRY(tell_withdrawn(d, hole->sample0));
    if (hole->reason == GW_GAP_QUALITY)
        turn_bad(d, d->order[1] == port, hole->sample0, hole->dq);
    if (!w->due)
        return reach(d, known_ns(d, end), false);
    w->until = end > w->until ? end : w->until;
    return GW_OK;
}

static int lose(detect *d, const gw_view *in, gw_out *out, gw_gap_reason reason)
{
    out->lost = true;
    out->lost_until = in->sample0 / d->model.hop_samples + d->frames;
    out->reason = reason;
    return GW_OK;
}

/* One frame of the hop to the clustering, and its statistic. Its logit counts once the network has seen a whole
 * window; signals that it then finds have arrived before. */
static int take_frame(detect *d, int64_t index, uint32_t k, uint64_t dq, uint32_t flags, double *statistic)
{
    const bool whole = ++d->good_frames >= d->model.window_samples / d->model.hop_samples;
    const gw_frame f = {.index = index,
                        .logit = whole ? d->logit[k] : NAN,
                        .arrival = d->arrival + (size_t)k * d->columns,
                        .arrival_stride = (size_t)d->frames * d->columns,
                        .dq = dq,
                        .injection = (flags & GW_FLAG_INJECTION) || !(dq & GW_DQ_NO_CBC_HW_INJ),
                        .archived = flags & GW_FLAG_REPLAY};
    gw_verdict v;
    d->told_ns = known_ns(d, (index + 1) * d->model.hop_samples);
    int said = gw_candidate_frame(d->cluster, &f, statistic, &v);
    return said == 1 ? emit(d, &v) : said;
}

static int step(void *self, const gw_view *in, gw_out *out)
{
    detect *d = self;
    const gw_model *m = &d->model;
    const uint32_t hop = d->frames * m->hop_samples;
    uint64_t dq = GW_DQ_ALL;
    uint32_t flags = 0;
    if (in[0].n_samples != hop || out->capacity_samples < d->frames)
        return gw_fail(GW_EBUG, "a hop of %" PRIu32 " samples, not %" PRIu32, in[0].n_samples, hop);
    begin(d, in[0].sample0);
    if (in[0].sample0 != d->next_sample && d->good_frames)
        GW_TRY(forget(d));
    GW_TRY(tell_withdrawn(d, in[0].sample0));
    d->next_sample = in[0].sample0 + hop;
    d->due_ns = d->ingest_ns = INT64_MIN;
    const float *x[N]; /* the network reads the blocks where they lie */
    for (int c = 0; c < N; c++) {
        const gw_view *v = &in[d->order[c]];
        x[c] = v->data;
        dq &= v->dq;
        flags |= v->flags;
        d->networks[c] = v->networks;
        d->due_ns = v->due_ns > d->due_ns ? v->due_ns : d->due_ns;
        d->ingest_ns = v->ingest_ns > d->ingest_ns ? v->ingest_ns : d->ingest_ns;
    }
    if ((dq & searched_dq) != searched_dq) {
        GW_TRY(forget(d));
        for (int c = 0; c < N; c++)
            if (~in[d->order[c]].dq & searched_dq)
                turn_bad(d, c, in[0].sample0, in[d->order[c]].dq);
        GW_TRY(tell_withdrawn(d, INT64_MAX));
        GW_TRY(reach(d, known_ns(d, d->next_sample), false));
        return lose(d, in, out, GW_GAP_QUALITY);
    }
    GW_TRY(gw_net_run(d->net, &(gw_net_in){.channel = x}, d->out));

    /* Logits count once the network has seen a whole window, the statistic once the box is full of them. */
    const int64_t need = m->window_samples / m->hop_samples + m->smoothing_frames - 1;
    const int64_t frame0 = in[0].sample0 / m->hop_samples;
    const int64_t early = need - 1 - d->good_frames; /* frames of this hop without a statistic */
    const uint32_t skip = early <= 0 ? 0 : early < d->frames ? (uint32_t)early : d->frames;
    const uint32_t n = d->frames - skip;
    float *logit = out->data, *statistic = logit + n;
    for (uint32_t k = 0; k < d->frames; k++) {
        double s;
        GW_TRY(take_frame(d, frame0 + k, k, dq, flags, &s));
        if (k >= skip) {
            logit[k - skip] = d->logit[k];
            statistic[k - skip] = (float)s;
        }
    }
    GW_TRY(reach(d, known_ns(d, d->next_sample), n > 0));
    if (!n)
        return lose(d, in, out, GW_GAP_HISTORY);
    out->sample0 = frame0 + skip;
    out->n_samples = n;
    return GW_OK;
}

static int drain(void *self, gw_out *out)
{
    (void)out;
    detect *d = self;
    GW_TRY(forget(d));
    GW_TRY(tell_withdrawn(d, INT64_MAX));
    return reach(d, INT64_MAX, false);
}

const gw_kind gw_kind_detect = {
    .kind = "detect",
    .help = "find signals: whitened detectors -> network -> ranking statistic and events",
    .role = GW_STAGE,
    .makes_events = true,
    .state_size = sizeof(detect),
    .configure = configure,
    .plan = plan,
    .open = open_stage,
    .step = step,
    .gap = gap,
    .drain = drain,
    .close = close_stage};
