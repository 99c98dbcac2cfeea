/* SPDX-License-Identifier: GPL-3.0-or-later
 * The stage `background`: how often noise alone would do what the search sees, from time slides of the
 * running stream itself. It takes the whitened streams that `detect` takes, on a thread of its own beside it;
 * slides.c makes the statistics, chance.c counts them. Renewed each minute of GPS time, so a function of the
 * data and the configuration alone.
 *
 *     noise: {kind: background, from: white, model: models/bbh-small.onnx}
 *
 *   model       the .onnx file
 *   slides      1000: how many time slides
 *   step        3s: offsets are multiples of it, the differences between two of them too
 *   memory      1d: so long a trigger counts
 *   floor       0: triggers below it are not kept
 *   refractory  8s: as detect's
 *   of          the detect stage whose false-alarm rate this is; default: none, only the stream comes out
 *   checkpoint, checkpoint_age (default: memory), checkpoint_replay    of the counts: checkpoint.h
 *   archive     counts that are added from the first minute: a checkpoint of another run, or `card`: the
 *               model card's; default: none
 *   card        that card; default: beside the model, with .card.yaml for .onnx
 *   skipped     a live run's journal: slide what that run did
 *
 * Sinks that take its events (alerts) get the rates as they are counted, each minute, to be used for what
 * `of` finds from a minute later on (SOON_S): so a live run that is not a minute behind gives the rates that
 * a replay of its recording gives.
 *
 * A run at pace 1 that cannot keep up takes fewer of the slides in the next minute (ration.h); how many, and
 * which seconds of the last minute it has slid, is told with the counts.
 *
 * What the search itself finds at less than 1 a month is withdrawn, 8 s to either side in both detectors,
 * from the exclusive background; the inclusive one keeps it. Data that carry injections are no background.
 *
 * Output: a sample each second, float64: the statistic that noise exceeds once an hour, once a day and once a
 * month (inclusive; NAN where the slid time is too short to tell), slid and distinct time in seconds, and how
 * many triggers there are. */
#include "pipeline/log.h"
#include "pipeline/noise_rate.h"
#include "pipeline/parallel.h"
#include "pipeline/stage.h"
#include "pipeline/stages/card.h"
#include "pipeline/stages/chance.h"
#include "pipeline/stages/ration.h"
#include "pipeline/stages/slides.h"
#include "pipeline/stages/tally.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    N = GW_MODEL_DETECTORS,
    MINUTE = GW_RATION_MINUTE, /* hops */
    SAVE_MINUTES = 10,         /* between two checkpoints */
    SAY_MINUTES = 60,          /* between two lines of the log */
    WITHDRAW_S = 8,
    SOON_S = 60, /* between the end of a minute and the use of its count */
    TRIGGERS_A_SLIDE_HOUR = 20,
    MAX_OWN = 16
};
static const double hour_hz = 1.0 / 3600, day_hz = 1.0 / 86400, month_hz = 1.0 / (30 * 86400.0);

typedef struct background {
    gw_env *env;
    char path[4096], card[4096], archive[4096], skipped_path[4096], of[48];
    gw_checkpoint_keys checkpoint;
    int64_t slides, step_ns, memory_ns, refractory_ns;
    double floor;
    /* plan */
    gw_onnx *onnx; /* until open */
    gw_model model;
    int order[N];
    uint32_t hop_frames;
    /* open */
    gw_kernels kernels;
    gw_slides *pairs;
    gw_chance *chance;
    gw_tally *tally;
    gw_ration ration;
    gw_skipped *skipped; /* NULL: the ration decides */
    /* running */
    int64_t counted;                       /* minute of the newest count */
    double one_per[3], slid_s, distinct_s; /* as of the newest count */
    double triggers;
    uint64_t slid;     /* bit i: second i of the minute at hand */
    uint32_t said_run; /* slides that the log knows of */
} background;

static int take_path(gw_conf *conf, const char *key, char *path, size_t n)
{
    const char *text = "";
    GW_TRY(gw_conf_get_text(conf, key, &text));
    if (strlen(text) >= n || (gw_conf_find(conf, key) && !*text))
        return gw_conf_fail(gw_conf_find(conf, key), "%s: want the path of a file", key);
    memcpy(path, text, strlen(text) + 1);
    return GW_OK;
}

/* Where detect looks for it too. */
static int find_card(background *b, gw_conf *node)
{
    static const char onnx[] = ".onnx", card[] = ".card.yaml";
    const size_t length = strlen(b->path), cut = length > strlen(onnx) ? length - strlen(onnx) : 0;
    if (b->card[0] || strcmp(b->archive, "card") != 0)
        return GW_OK;
    if (strcmp(b->path + cut, onnx) != 0 || cut + sizeof card > sizeof b->card)
        return gw_conf_fail(
            node, "model: '%.200s' does not end in .onnx, so say where its card is (card: FILE)", b->path);
    memcpy(b->card, b->path, cut);
    memcpy(b->card + cut, card, sizeof card);
    return GW_OK;
}

static int configure(void *self, gw_conf *conf)
{
    background *b = self;
    gw_conf *node;
    const char *path;
    b->slides = 1000;
    b->step_ns = 3 * GW_SECOND_NS;
    b->memory_ns = 86400 * GW_SECOND_NS;
    b->refractory_ns = 8 * GW_SECOND_NS;
    GW_TRY(gw_conf_need(conf, "model", &node));
    GW_TRY(gw_conf_get_text(conf, "model", &path));
    if (!*path || strlen(path) >= sizeof b->path)
        return gw_conf_fail(node, "model: want the path of a file");
    memcpy(b->path, path, strlen(path) + 1);
    GW_TRY(take_path(conf, "card", b->card, sizeof b->card));
    GW_TRY(take_path(conf, "archive", b->archive, sizeof b->archive));
    GW_TRY(take_path(conf, "skipped", b->skipped_path, sizeof b->skipped_path));
    GW_TRY(find_card(b, node));
    const char *of = "";
    GW_TRY(gw_conf_get_text(conf, "of", &of));
    if (strlen(of) >= sizeof b->of)
        return gw_conf_fail(gw_conf_find(conf, "of"), "of: want the name of a detect stage");
    memcpy(b->of, of, strlen(of) + 1);
    GW_TRY(gw_conf_get_int(conf, "slides", 1, 100000, &b->slides));
    GW_TRY(gw_conf_get_span_ns(conf, "step", &b->step_ns));
    if (b->step_ns < 3 * GW_SECOND_NS || b->step_ns > 60 * GW_SECOND_NS || b->step_ns % GW_SECOND_NS)
        return gw_conf_fail(gw_conf_find(conf, "step"),
                            "step: want whole seconds, 3s (what one signal may reach) to 60s");
    GW_TRY(gw_conf_get_span_ns(conf, "memory", &b->memory_ns));
    if (b->memory_ns < 60 * GW_SECOND_NS || b->memory_ns > 100 * 86400 * GW_SECOND_NS)
        return gw_conf_fail(gw_conf_find(conf, "memory"), "memory: want 60s to 100d");
    GW_TRY(gw_checkpoint_keys_read(&b->checkpoint, conf, b->memory_ns));
    GW_TRY(gw_conf_get_span_ns(conf, "refractory", &b->refractory_ns));
    if (b->refractory_ns < 3 * GW_SECOND_NS || b->refractory_ns > 3600 * GW_SECOND_NS)
        return gw_conf_fail(gw_conf_find(conf, "refractory"), "refractory: want 3s to 1h");
    return gw_conf_get_double(conf, "floor", -1e6, 1e6, &b->floor);
}

/* First a slide of zero: the search itself, which always runs. */
static int32_t *offsets(const background *b)
{
    int32_t *o = calloc((size_t)b->slides + 1, sizeof *o);
    for (int64_t k = 0; o && k < b->slides; k++) {
        const int32_t late = (int32_t)(b->step_ns / GW_SECOND_NS * (k / 2 + 1));
        o[k + 1] = k % 2 ? -late : late;
    }
    return o;
}

static gw_chance_conf chance_conf(const background *b, const int32_t *offset)
{
    const gw_model *m = &b->model;
    const uint32_t need = m->window_samples / m->hop_samples + m->smoothing_frames - 1;
    const double hours = (double)b->memory_ns / (3600.0 * GW_SECOND_NS) + 1;
    const double most = (double)b->slides * hours * TRIGGERS_A_SLIDE_HOUR;
    return (gw_chance_conf){.n_slides = (uint32_t)b->slides + 1,
                            .offset_hops = offset,
                            .hop_frames = b->hop_frames,
                            .cluster_frames = (uint32_t)(b->refractory_ns * b->hop_frames / GW_SECOND_NS),
                            .need_hops = (need + b->hop_frames - 1) / b->hop_frames,
                            .memory_hops = (uint32_t)(b->memory_ns / GW_SECOND_NS),
                            .hop_s = 1,
                            .floor = b->floor,
                            .max_triggers = most < 2e7 ? (uint32_t)most : 20000000};
}

static int plan(void *self, gw_plan *p)
{
    background *b = self;
    gw_onnx_free(&b->onnx);
    GW_TRY(gw_onnx_load(&b->onnx, b->path));
    GW_TRY(gw_model_read(&b->model, b->onnx));
    GW_TRY(gw_model_match(&b->model, b->path, p->in, p->n_in, b->order));
    const gw_model *m = &b->model;
    if (m->rate_hz % m->hop_samples)
        return gw_fail(GW_ENOTSUP, "%s: a second is no whole number of frames of %" PRIu32 " samples",
                       b->path, m->hop_samples);
    b->hop_frames = m->rate_hz / m->hop_samples;
    for (int i = 0; i < p->n_in; i++)
        p->hop[i] = m->rate_hz;
    int32_t *offset = offsets(b);
    if (!offset)
        return gw_fail(GW_ENOMEM, "%" PRId64 " slides", b->slides);
    const gw_chance_conf c = chance_conf(b, offset);
    const size_t ring_s = (size_t)(b->step_ns / GW_SECOND_NS * ((b->slides + 1) / 2) + 1);
    p->memory_bytes =
        gw_chance_bytes(&c) + ring_s * m->rate_hz * N * sizeof(float) * 4 + (size_t)b->slides * 160 * 1024;
    free(offset);
    p->n_out = 1;
    gw_spec *out = &p->out[0];
    out->rate = (gw_rate){1, 1};
    out->phase_ns = p->in[0].phase_ns;
    out->dtype = GW_F64;
    out->block_samples = 1;
    snprintf(p->note, sizeof p->note,
             "%" PRId64 " time slides of up to %" PRId64 " s; %.3g days of background an hour", b->slides,
             b->step_ns / GW_SECOND_NS * ((b->slides + 1) / 2), (double)b->slides / 24);
    static const char *const what[] = {"ONE_PER_HOUR", "ONE_PER_DAY",   "ONE_PER_MONTH",
                                       "SLID_TIME",    "DISTINCT_TIME", "TRIGGERS"};
    char name[6][GW_NAME_BYTES];
    const char *names[6];
    for (int i = 0; i < 6; i++) {
        snprintf(name[i], sizeof name[i], "%s:BACKGROUND_%s", m->detectors, what[i]);
        names[i] = name[i];
    }
    return gw_spec_set_channels(out, 6, names);
}

static int open_tally(background *b, const gw_chance_conf *c)
{
    gw_tally_conf t = {.name = gw_env_name(b->env),
                       .checkpoint = &b->checkpoint,
                       .archive = b->archive,
                       .card = b->card,
                       .rules = {.hop_s = c->hop_s,
                                 .hop_frames = c->hop_frames,
                                 .cluster_frames = c->cluster_frames,
                                 .need_hops = c->need_hops},
                       .n_slides = c->n_slides,
                       .offset_hops = c->offset_hops};
    memcpy(t.rules.detectors, b->model.detectors, sizeof t.rules.detectors);
    GW_TRY(gw_sha256_file(b->path, t.rules.model));
    return gw_tally_new(&b->tally, &t, b->chance);
}

static int open_stage(void *self, gw_env *env)
{
    background *b = self;
    b->env = env;
    b->counted = INT64_MIN;
    GW_TRY(gw_kernels_init(&b->kernels, GW_KERNELS_CUDA));
    int32_t *offset = offsets(b);
    if (!offset)
        return gw_fail(GW_ENOMEM, "%" PRId64 " slides", b->slides);
    const gw_chance_conf c = chance_conf(b, offset);
    const gw_slides_conf s = {.onnx = b->onnx,
                              .model = &b->model,
                              .kernels = &b->kernels,
                              .hop_frames = b->hop_frames,
                              .n_slides = c.n_slides,
                              .offset_hops = offset};
    int err = gw_slides_new(&b->pairs, &s);
    if (err == GW_OK)
        err = gw_chance_new(&b->chance, &c);
    if (err == GW_OK)
        err = open_tally(b, &c);
    free(offset);
    if (err == GW_OK && b->skipped_path[0])
        err = gw_skipped_read(&b->skipped, b->skipped_path, gw_env_name(b->env));
    b->ration = (gw_ration){
        .together = GW_SLIDES_TOGETHER, .all = c.n_slides, .runs = c.n_slides, .hop_ns = GW_SECOND_NS};
    b->said_run = c.n_slides;
    for (int i = 0; i < 3; i++)
        b->one_per[i] = NAN;
    gw_onnx_free(&b->onnx);
    return err;
}

static void close_stage(void *self)
{
    background *b = self;
    gw_onnx_free(&b->onnx);
    if (b->tally && b->counted != INT64_MIN) {
        gw_chance_count(b->chance);
        gw_tally_save(b->tally, b->chance, true);
    }
    gw_slides_destroy(&b->pairs);
    gw_chance_destroy(&b->chance);
    gw_tally_destroy(&b->tally);
    gw_skipped_free(&b->skipped);
}

/* ---- running ---- */

/* What the search found and noise does less than once a month belongs to no exclusive background. */
static void withdraw_own(background *b)
{
    gw_chance_peak peak[MAX_OWN];
    uint32_t n;
    while ((n = gw_chance_own(b->chance, peak, MAX_OWN)) > 0)
        for (uint32_t i = 0; i < n; i++)
            if (gw_chance_rate_hz(b->chance, peak[i].statistic, true) < month_hz)
                gw_chance_withdraw(b->chance, peak[i].hop - WITHDRAW_S, peak[i].hop + WITHDRAW_S + 1);
}

static double known(double threshold)
{
    return isinf(threshold) ? NAN : threshold;
}

/* To whom it may concern: the counts of all data before until_ns, to be used from from_ns on. */
static int tell(const background *b, int64_t until_ns, int64_t from_ns, uint32_t slides)
{
    if (!b->of[0])
        return GW_OK;
    gw_noise_rate r = {.until_ns = until_ns, .from_ns = from_ns, .slides = slides, .hops = b->slid};
    memcpy(r.of, b->of, sizeof r.of);
    gw_chance_steps(b->chance, &r);
    gw_event e = {.phase = GW_PHASE_BACKGROUND,
                  .gps_ns = r.until_ns,
                  .told_ns = r.from_ns,
                  .background_s = r.slid_s[0],
                  .pace = gw_env_timebase(b->env).pace,
                  .decided_ns = gw_gps_now_ns()};
    snprintf(e.stream, sizeof e.stream, "%.*s", (int)sizeof e.stream - 1, gw_env_name(b->env));
    GW_TRY(gw_noise_rate_write(&r, e.detail, sizeof e.detail));
    return gw_env_emit(b->env, &e);
}

static void remember(background *b)
{
    const double rate[3] = {hour_hz, day_hz, month_hz};
    for (int i = 0; i < 3; i++)
        b->one_per[i] = known(gw_chance_threshold(b->chance, rate[i], false));
    b->slid_s = gw_chance_slid_s(b->chance, false);
    b->distinct_s = gw_chance_distinct_s(b->chance);
    b->triggers = gw_chance_triggers(b->chance, false);
    gw_env_gauge(b->env, "slid_days", b->slid_s / 86400);
    gw_env_gauge(b->env, "one_per_hour", b->one_per[0]);
    gw_env_gauge(b->env, "one_per_day", b->one_per[1]);
}

/* How many slides run from this minute on: as an earlier run did, or as the machine can. */
static int choose_slides(background *b, int64_t minute)
{
    const uint32_t ran = b->ration.runs;
    uint32_t slides = ran - 1;
    const bool keeps_time = fabs(gw_env_timebase(b->env).pace - 1) < 1e-9;
    if (b->skipped)
        gw_skipped_slides(b->skipped, minute, &slides);
    else if (keeps_time)
        slides = gw_ration_next(&b->ration) - 1;
    slides = slides < b->slides ? slides : (uint32_t)b->slides;
    b->ration.runs = slides + 1;
    gw_slides_run(b->pairs, b->ration.runs);
    if (b->ration.runs != ran)
        GW_TRY(gw_chance_spell_begins(b->chance, b->ration.runs, false));
    gw_env_gauge(b->env, "slides_run", slides);
    const bool much = slides < 0.75 * b->said_run || slides > 1.33 * b->said_run || slides == b->slides;
    if (!much || b->said_run == b->ration.runs)
        return GW_OK;
    gw_log(slides < b->slides ? GW_LOG_WARN : GW_LOG_INFO, gw_env_name(b->env),
           "GPS %" PRId64 ": %u of %" PRId64 " slides run%s", minute * MINUTE, slides, b->slides,
           slides < b->slides ? ": this machine has no time for more" : " again");
    b->said_run = b->ration.runs;
    return GW_OK;
}

static int count(background *b, int64_t minute)
{
    const gw_skipped *s = b->skipped;
    uint32_t slides;
    if (s && !gw_skipped_ended(s, minute) && !gw_skipped_slides(s, minute, &slides))
        return GW_OK; /* nor did that run count */
    withdraw_own(b);
    gw_chance_count(b->chance);
    remember(b);
    if (minute % SAY_MINUTES == 0 && b->slid_s > 0)
        gw_log(GW_LOG_INFO, gw_env_name(b->env),
               "GPS %" PRId64
               ": noise exceeds %.2f once an hour, %.2f once a day (%.1f days of slides of %.2f h)",
               minute * MINUTE, gw_chance_threshold(b->chance, hour_hz, false),
               gw_chance_threshold(b->chance, day_hz, false), b->slid_s / 86400, b->distinct_s / 3600);
    if (minute / SAVE_MINUTES > b->counted / SAVE_MINUTES)
        gw_tally_save(b->tally, b->chance, false);
    b->counted = minute;
    GW_TRY(choose_slides(b, minute));
    const int64_t until_ns = minute * MINUTE * GW_SECOND_NS;
    GW_TRY(tell(b, until_ns, until_ns + SOON_S * GW_SECOND_NS, b->ration.runs - 1));
    b->slid = 0;
    return GW_OK;
}

/* With the first hop: what an earlier run has counted is told at once. */
static int begin(background *b, int64_t hop, uint32_t flags)
{
    bool known_before = false;
    b->counted = hop / MINUTE;
    GW_TRY(gw_tally_begin(b->tally, b->chance, hop, flags, &known_before));
    if (!known_before)
        return GW_OK;
    gw_chance_count(b->chance);
    remember(b);
    return tell(b, hop * GW_SECOND_NS, hop * GW_SECOND_NS, 0);
}

static int slide(background *b, int64_t hop, const float *const x[N])
{
    const int64_t start_ns = gw_monotonic_ns();
    const gw_timebase t = gw_env_timebase(b->env);
    const int64_t late_ns =
        gw_gps_now_ns() - t.anchor_wall_ns - ((hop + 1) * GW_SECOND_NS - t.anchor_data_ns);
    GW_TRY(gw_slides_hop(b->pairs, hop, x));
    gw_chance_hop(b->chance, hop);
    for (uint32_t k = 0; k <= (uint32_t)b->slides; k++)
        gw_chance_slide(b->chance, k, gw_slides_statistic(b->pairs, k));
    b->slid |= UINT64_C(1) << hop % MINUTE;
    gw_ration_hop(&b->ration, gw_monotonic_ns() - start_ns, late_ns);
    return GW_OK;
}

static int step(void *self, const gw_view *in, gw_out *out)
{
    background *b = self;
    const uint64_t searched = GW_DQ_DATA | GW_DQ_CBC_CAT1 | GW_DQ_NO_CBC_HW_INJ;
    const int64_t hop = in[0].sample0 / b->model.rate_hz, minute = hop / MINUTE;
    const float *x[N];
    bool good = true;
    for (int c = 0; c < N; c++) {
        const gw_view *v = &in[b->order[c]];
        x[c] = v->data;
        good &= (v->dq & searched) == searched && !(v->flags & GW_FLAG_INJECTION);
    }
    if (b->counted == INT64_MIN)
        GW_TRY(begin(b, hop, in[0].flags));
    if (minute > b->counted)
        GW_TRY(count(b, minute)); /* of all before this minute */
    if (good && (!b->skipped || gw_skipped_slid(b->skipped, hop)))
        GW_TRY(slide(b, hop, x));
    const double said[] = {b->one_per[0], b->one_per[1], b->one_per[2],
                           b->slid_s,     b->distinct_s, b->triggers};
    memcpy(out->data, said, sizeof said);
    out->n_samples = 1;
    out->sample0 = hop;
    return gw_env_reached(b->env, (hop + 1 + SOON_S) * GW_SECOND_NS - 1, true);
}

static int gap(void *self, int port, const gw_hole *hole)
{
    (void)port;
    background *b = self;
    const int64_t end = (hole->sample0 + (int64_t)hole->samples) / b->model.rate_hz;
    const int64_t minute = end / MINUTE;
    b->ration.lost |= hole->reason == GW_GAP_DROPPED;
    /* The minutes that end in a hole are told when data come again, the one that it began in for itself, for
     * what was slid of it; nothing is told of before. */
    if (b->counted != INT64_MIN && minute > b->counted + 1)
        GW_TRY(count(b, b->counted + 1));
    if (b->counted != INT64_MIN && minute > b->counted)
        GW_TRY(count(b, minute));
    return gw_env_reached(b->env, (end + SOON_S) * GW_SECOND_NS - 1, true);
}

static int drain(void *self, gw_out *out)
{
    (void)out;
    return gw_env_reached(((background *)self)->env, INT64_MAX, true);
}

const gw_kind gw_kind_background = {.kind = "background",
                                    .help =
                                        "how often noise alone does it: time slides of the running search",
                                    .role = GW_STAGE,
                                    .makes_events = true,
                                    .makes_background = true,
                                    .side_branch = true,
                                    .state_size = sizeof(background),
                                    .configure = configure,
                                    .plan = plan,
                                    .open = open_stage,
                                    .step = step,
                                    .gap = gap,
                                    .drain = drain,
                                    .close = close_stage};
