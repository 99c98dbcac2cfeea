/* SPDX-License-Identifier: GPL-3.0-or-later
 * The source `sim`: seeded, exactly repeatable detector data. One stream of float64 strain for each
 * detector (noise + lines + glitches + signals), one event feed with the truth, and on request a stream of
 * witness channels for each detector, with the noise that what they see makes in strain, and one stream of
 * auxiliary channels. Run by the graph through gw_kind_sim.
 *
 * Everything it emits is a function of its configuration and the sample number: block length, pace and
 * the order in which ports are asked change nothing.
 *
 *   kind: sim        seed: 0             start: 1400000000   duration: (endless)
 *   rate: 16384Hz    block: 1/16s        pace: 0             detectors: [H1, L1]
 *   asd: design | design-plain | FILE    excess: true (design only)    lines: true (false for a FILE)
 *   sensitivity: [1, 1]                  glitches: {...}     signals: [{...}]   population: {...}
 *   parts: false                         auxiliary: {channels: N, rate: R}
 *   witnesses: {rate: R, noise: 0.02, strain: 0, channels: [{...}], couplings: [{...}]}   (witness.h) */
#include "pipeline/stage.h"
#include "sources/auxiliary.h"
#include "sources/glitch.h"
#include "sources/population.h"
#include "sources/witness.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { NOISE_CHANNEL, SIGNAL_CHANNEL, COUPLED_CHANNEL, MAX_CHANNELS };
enum { MAX_AUXILIARY = 1 << 20, MAX_BLOCK = 1 << 26 };

/* One detector's stream. A block is made in `stage` ahead of its time and handed out when it is due. */
typedef struct stream {
    const gw_detector *detector;
    gw_asd *asd;
    gw_noise *noise;
    gw_glitches *glitches;
    gw_overlay *overlays;
    double sensitivity;
    double *stage;          /* [channel][staged], packed */
    uint32_t staged, taken; /* samples */
    int64_t made, given;    /* next sample to be made, to be handed out */
    uint32_t flags;         /* of the staged block */
    /* Witnesses: made with strain's block; a block of either waits until the one before is taken by both. */
    gw_witnesses *witnesses;
    double *coupled, *strain; /* of the block: [block_samples] */
    float *seen;              /* [channel][seen_staged], packed */
    uint32_t seen_staged, seen_taken;
    int64_t seen_given; /* next sample of the witnesses */
} stream;

typedef struct sim {
    gw_env *env;
    uint64_t seed;
    gw_rate rate, block; /* block in seconds */
    int64_t start_ns, end_ns;
    double pace;
    bool parts, started;
    uint32_t n_channels, block_samples;
    int64_t first, end; /* samples */
    int n_detectors;
    stream streams[GW_MAX_DETECTORS];
    gw_glitch_conf glitches;
    gw_population *population;
    uint32_t aux_channels, aux_block;
    gw_rate aux_rate;
    int64_t aux_at, aux_end;
    gw_auxiliary *aux;
    gw_witness_design witness; /* n_channels 0: none */
} sim;

/* ---- configuration ---- */

static int read_detectors(sim *s, gw_conf *conf)
{
    static const char *const usual[] = {"H1", "L1"};
    gw_conf *list = gw_conf_find(conf, "detectors");
    if (list && gw_conf_kind(list) != GW_CONF_LIST)
        return gw_conf_fail(list, "detectors: a list, for example [H1, L1]");
    const int n = list ? gw_conf_count(list) : 2;
    if (n > GW_MAX_DETECTORS)
        return gw_conf_fail(list, "detectors: at most %d", GW_MAX_DETECTORS);
    for (int d = 0; d < n; d++) {
        const char *name = list ? NULL : usual[d];
        if (list)
            GW_TRY(gw_conf_text(gw_conf_item(list, d), &name));
        const gw_detector *detector = gw_detector_find(name);
        if (!detector)
            return gw_conf_fail(gw_conf_item(list, d), "detectors: '%.16s' is not one of H1, L1, V1", name);
        for (int i = 0; i < d; i++)
            if (s->streams[i].detector == detector)
                return gw_conf_fail(gw_conf_item(list, d), "detectors: %s appears twice", name);
        s->streams[d].detector = detector;
        s->streams[d].sensitivity = 1;
    }
    s->n_detectors = n;
    return GW_OK;
}

static int read_sensitivity(sim *s, gw_conf *conf)
{
    gw_conf *list = gw_conf_find(conf, "sensitivity");
    if (!list)
        return GW_OK;
    if (gw_conf_kind(list) != GW_CONF_LIST || gw_conf_count(list) != s->n_detectors)
        return gw_conf_fail(list, "sensitivity: a list with one relative ASD for each of the %d detectors",
                            s->n_detectors);
    for (int d = 0; d < s->n_detectors; d++)
        GW_TRY(gw_conf_double(gw_conf_item(list, d), 1e-6, 1e6, &s->streams[d].sensitivity));
    return GW_OK;
}

static int read_asd(sim *s, gw_conf *conf)
{
    const char *asd = "design";
    GW_TRY(gw_conf_get_text(conf, "asd", &asd));
    const bool design = !strcmp(asd, "design"), file = !design && strcmp(asd, "design-plain") != 0;
    bool excess = design, lines = !file;
    GW_TRY(gw_conf_get_bool(conf, "excess", &excess));
    GW_TRY(gw_conf_get_bool(conf, "lines", &lines));
    if (excess && !design)
        return gw_conf_fail(gw_conf_find(conf, "excess"), "excess: goes with 'asd: design' only");
    for (int d = 0; d < s->n_detectors; d++) {
        stream *t = &s->streams[d];
        const gw_asd_conf c = {.path = file ? asd : NULL,
                               .excess = excess,
                               .lines = lines,
                               .scale = t->sensitivity,
                               .seed = s->seed,
                               .detector = (uint32_t)t->detector->number};
        int err = gw_asd_new(&t->asd, &c);
        if (err != GW_OK)
            return gw_fail_at(err, "%s", gw_conf_where(gw_conf_find(conf, "asd")));
    }
    return GW_OK;
}

/* Samples of a block: has to be a whole number. */
static int whole_block(gw_conf *where, gw_rate block_s, gw_rate rate, uint32_t *samples)
{
    const double about = gw_rate_hz(block_s) * gw_rate_hz(rate);
    if (about > MAX_BLOCK)
        return gw_conf_fail(where, "block: %.0f samples are too many; shorten it", about);
    const uint64_t num = (uint64_t)block_s.num * rate.num, den = (uint64_t)block_s.den * rate.den;
    if (num % den)
        return gw_conf_fail(where, "block: %g s at %g Hz are %g samples; it must be a whole number",
                            gw_rate_hz(block_s), gw_rate_hz(rate), about);
    *samples = (uint32_t)(num / den);
    return GW_OK;
}

static int read_auxiliary(sim *s, gw_conf *conf)
{
    gw_conf *aux = gw_conf_find(conf, "auxiliary");
    if (!aux)
        return GW_OK;
    if (gw_conf_kind(aux) != GW_CONF_MAP)
        return gw_conf_fail(aux, "auxiliary: a map: {channels: 100, rate: 512Hz}");
    gw_conf *node;
    int64_t channels = 0;
    GW_TRY(gw_conf_need(aux, "channels", &node));
    GW_TRY(gw_conf_get_int(aux, "channels", 1, MAX_AUXILIARY, &channels));
    GW_TRY(gw_conf_need(aux, "rate", &node));
    GW_TRY(gw_conf_get_rate(aux, "rate", &s->aux_rate));
    s->aux_channels = (uint32_t)channels;
    GW_TRY(whole_block(node, s->block, s->aux_rate, &s->aux_block));
    return gw_conf_done(aux, "auxiliary");
}

static int read_times(sim *s, gw_conf *conf)
{
    gw_rate duration = {0, 1};
    s->rate = (gw_rate){16384, 1};
    s->block = (gw_rate){1, 16};
    s->start_ns = 1400000000 * GW_SECOND_NS;
    GW_TRY(gw_conf_get_rate(conf, "rate", &s->rate));
    GW_TRY(gw_conf_get_span(conf, "block", &s->block));
    GW_TRY(gw_conf_get_gps_ns(conf, "start", &s->start_ns));
    GW_TRY(gw_conf_get_span(conf, "duration", &duration));
    GW_TRY(gw_conf_get_double(conf, "pace", 0, 1e6, &s->pace));
    gw_conf *rate = gw_conf_find(conf, "rate"), *block = gw_conf_find(conf, "block");
    if (gw_rate_hz(s->rate) < 1 || gw_rate_hz(s->rate) > 1e6)
        return gw_conf_fail(rate, "rate: %g Hz is out of range (1 Hz to 1 MHz)", gw_rate_hz(s->rate));
    GW_TRY(whole_block(block ? block : conf, s->block, s->rate, &s->block_samples));
    const double duration_ns = gw_rate_hz(duration) * 1e9;
    s->end_ns = INT64_MAX;
    if (duration.num && duration_ns < (double)(INT64_MAX - s->start_ns))
        s->end_ns = s->start_ns + (int64_t)llround(duration_ns);
    s->first = gw_sample_at_or_after(s->start_ns, s->rate, 0);
    s->end = s->end_ns == INT64_MAX ? INT64_MAX : gw_sample_at_or_after(s->end_ns, s->rate, 0);
    return GW_OK;
}

static int sim_configure(void *self, gw_conf *conf)
{
    sim *s = self;
    int64_t seed = 0;
    GW_TRY(gw_conf_get_int(conf, "seed", 0, INT64_MAX, &seed));
    s->seed = (uint64_t)seed;
    GW_TRY(read_times(s, conf));
    GW_TRY(read_detectors(s, conf));
    GW_TRY(read_sensitivity(s, conf));
    GW_TRY(read_asd(s, conf));
    GW_TRY(read_auxiliary(s, conf));
    GW_TRY(gw_conf_get_bool(conf, "parts", &s->parts));
    gw_conf *witnesses = gw_conf_find(conf, "witnesses");
    if (witnesses)
        GW_TRY(gw_witness_configure(&s->witness, witnesses, s->rate, s->block));
    s->n_channels = s->parts ? witnesses ? 3 : 2 : 1;
    gw_conf *glitches = gw_conf_find(conf, "glitches");
    if (glitches)
        GW_TRY(gw_glitch_configure(&s->glitches, glitches));
    if (!s->n_detectors && witnesses)
        return gw_conf_fail(witnesses, "sim: witnesses need detectors");
    if (!s->n_detectors && !s->aux_channels)
        return gw_conf_fail(conf, "sim: neither detectors nor auxiliary channels: nothing to simulate");
    if (!s->n_detectors && (gw_conf_find(conf, "signals") || gw_conf_find(conf, "population")))
        return gw_conf_fail(conf, "sim: signals need detectors");
    return gw_population_new(&s->population, conf, s->seed, s->start_ns, s->end_ns);
}

/* ---- shapes ---- */

static int name_channels(gw_spec *spec, const char *detector, uint32_t n)
{
    char name[MAX_CHANNELS][GW_NAME_BYTES];
    snprintf(name[NOISE_CHANNEL], sizeof name[0], "%s:STRAIN%s", detector, n > 1 ? "_NOISE" : "");
    snprintf(name[SIGNAL_CHANNEL], sizeof name[0], "%s:STRAIN_SIGNAL", detector);
    snprintf(name[COUPLED_CHANNEL], sizeof name[0], "%s:STRAIN_COUPLED", detector);
    return gw_spec_set_channels(
        spec, n, (const char *const[]){name[NOISE_CHANNEL], name[SIGNAL_CHANNEL], name[COUPLED_CHANNEL]});
}

static int plan_witnesses(sim *s, const char *detector, gw_spec *o)
{
    snprintf(o->name, sizeof o->name, "%s_witness", detector);
    snprintf(o->detector, sizeof o->detector, "%s", detector);
    o->rate = s->witness.rate;
    o->dtype = GW_F32;
    o->block_samples = s->witness.block_samples;
    GW_TRY(gw_spec_set_channels(o, s->witness.n_channels, NULL));
    for (uint32_t c = 0; c < o->n_channels; c++)
        gw_witness_name(&s->witness, c, detector, o->channel[c], GW_NAME_BYTES);
    return GW_OK;
}

static int name_auxiliary(gw_spec *spec, uint32_t n)
{
    GW_TRY(gw_spec_set_channels(spec, n, NULL));
    for (uint32_t c = 0; c < n; c++)
        snprintf(spec->channel[c], GW_NAME_BYTES, "AUX:WHITE_%06" PRIu32, c);
    return GW_OK;
}

static int sim_plan(void *self, gw_plan *plan)
{
    sim *s = self;
    const int witnessed = s->witness.n_channels ? s->n_detectors : 0;
    plan->n_out = s->n_detectors + witnessed + (s->aux_channels ? 1 : 0);
    for (int d = 0; d < s->n_detectors; d++) {
        gw_spec *o = &plan->out[d];
        const char *name = s->streams[d].detector->name;
        o->rate = s->rate;
        o->dtype = GW_F64;
        o->block_samples = s->block_samples;
        snprintf(o->detector, sizeof o->detector, "%s", name);
        snprintf(o->unit, sizeof o->unit, "strain");
        GW_TRY(name_channels(o, name, s->n_channels));
        plan->memory_bytes += gw_noise_bytes(s->rate) + sizeof(double) * s->n_channels * s->block_samples;
        if (witnessed) {
            GW_TRY(plan_witnesses(s, name, &plan->out[s->n_detectors + d]));
            plan->memory_bytes += gw_witness_bytes(&s->witness);
        }
    }
    if (s->aux_channels) {
        gw_spec *o = &plan->out[s->n_detectors + witnessed];
        snprintf(o->name, sizeof o->name, "aux");
        o->rate = s->aux_rate;
        o->dtype = GW_F32;
        o->block_samples = s->aux_block;
        GW_TRY(name_auxiliary(o, s->aux_channels));
        plan->memory_bytes += (size_t)4 << 20;
    }
    return GW_OK;
}

/* ---- running ---- */

static int open_witnesses(sim *s, stream *t, uint32_t number)
{
    GW_TRY(gw_witnesses_new(&t->witnesses, &s->witness, t->asd, s->seed, number, s->first));
    t->coupled = calloc(s->block_samples, sizeof *t->coupled);
    t->strain = calloc(s->block_samples, sizeof *t->strain);
    t->seen = calloc((size_t)s->witness.n_channels * (s->witness.block_samples + 1), sizeof *t->seen);
    t->seen_given = gw_sample_at_or_after(gw_sample_to_ns(s->first, s->rate, 0), s->witness.rate, 0);
    return t->coupled && t->strain && t->seen ? GW_OK : gw_fail(GW_ENOMEM, "a block of witness channels");
}

static int open_stream(sim *s, stream *t)
{
    const uint32_t number = (uint32_t)t->detector->number;
    GW_TRY(gw_noise_new(&t->noise, t->asd, s->rate, s->seed, number));
    if (s->glitches.rate_hz > 0)
        GW_TRY(gw_glitches_new(&t->glitches, &s->glitches, t->asd, t->noise, s->rate, s->first, s->seed,
                               number));
    t->stage = calloc((size_t)s->n_channels * s->block_samples, sizeof *t->stage);
    if (!t->stage)
        return gw_fail(GW_ENOMEM, "a block of %" PRIu32 " samples", s->block_samples);
    t->made = t->given = s->first;
    return s->witness.n_channels ? open_witnesses(s, t, number) : GW_OK;
}

static int sim_open(void *self, gw_env *env)
{
    sim *s = self;
    s->env = env;
    for (int d = 0; d < s->n_detectors; d++)
        GW_TRY(open_stream(s, &s->streams[d]));
    if (s->aux_channels) {
        s->aux_at = gw_sample_at_or_after(s->start_ns, s->aux_rate, 0);
        s->aux_end = s->end_ns == INT64_MAX ? INT64_MAX : gw_sample_at_or_after(s->end_ns, s->aux_rate, 0);
        GW_TRY(gw_auxiliary_new(&s->aux, s->seed));
    }
    return GW_OK;
}

/* Samples from `at` to the next multiple of `block`, but not past `end`. */
static uint32_t piece_length(int64_t at, uint32_t block, int64_t end)
{
    const int64_t into = at % block, whole = block - into;
    return (uint32_t)(whole < end - at ? whole : end - at);
}

/* Renders what may begin before sample `until` in any stream. */
static int render(sim *s, int64_t until)
{
    gw_target target[GW_MAX_DETECTORS];
    for (int d = 0; d < s->n_detectors; d++) {
        stream *t = &s->streams[d];
        target[d] = (gw_target){.detector = t->detector,
                                .noise = t->noise,
                                .list = &t->overlays,
                                .channel = s->parts ? SIGNAL_CHANNEL : NOISE_CHANNEL};
        if (t->glitches)
            GW_TRY(gw_glitches_render(t->glitches, until, &t->overlays));
    }
    return gw_population_render(s->population, gw_sample_to_ns(until, s->rate, 0), target, s->n_detectors,
                                s->rate);
}

/* What the witnesses' couplings add to the staged block, and what they see. */
static void witness_block(sim *s, stream *t, uint32_t n)
{
    double *noise = t->stage, *signal = t->stage + n, *coupled = t->stage + 2 * (size_t)n;
    gw_witnesses_couple(t->witnesses, n, t->coupled);
    for (uint32_t i = 0; i < n; i++) {
        noise[i] += t->coupled[i];
        t->strain[i] = noise[i] + (s->parts ? signal[i] : 0);
    }
    if (s->parts)
        memcpy(coupled, t->coupled, n * sizeof *coupled);
    t->seen_staged = gw_witnesses_see(t->witnesses, n, t->strain, t->seen);
    t->seen_taken = 0;
}

/* Makes the next block of a stream that has none. */
static int make_block(sim *s, int d)
{
    stream *t = &s->streams[d];
    if (t->taken < t->staged || t->seen_taken < t->seen_staged || t->made >= s->end)
        return GW_OK;
    const int64_t at = t->made;
    const uint32_t n = piece_length(at, s->block_samples, s->end);
    GW_TRY(render(s, at + n));
    gw_overlay_drop(&t->overlays, at);
    gw_noise_fill(t->noise, at, n, t->stage);
    gw_overlay_add(t->overlays, NOISE_CHANNEL, at, n, t->stage);
    if (s->parts) {
        memset(t->stage + n, 0, n * sizeof *t->stage);
        gw_overlay_add(t->overlays, SIGNAL_CHANNEL, at, n, t->stage + n);
    }
    if (t->witnesses)
        witness_block(s, t, n);
    const int64_t from_ns = gw_sample_to_ns(at, s->rate, 0), to_ns = gw_sample_to_ns(at + n, s->rate, 0);
    t->flags = gw_population_flags(s->population, d, from_ns, to_ns) ? GW_FLAG_INJECTION : 0;
    t->made = at + n;
    t->staged = n;
    t->taken = 0;
    return GW_OK;
}

/* Tells the truth about the signals that all streams have passed. */
static int tell(sim *s)
{
    int64_t given = INT64_MAX;
    for (int d = 0; d < s->n_detectors; d++)
        if (s->streams[d].given < given)
            given = s->streams[d].given;
    const int64_t now_ns = gw_sample_to_ns(given, s->rate, 0);
    const gw_timebase base = gw_env_timebase(s->env);
    gw_injection signal;
    while (gw_population_passed(s->population, now_ns, &signal) == GW_OK) {
        gw_event e;
        gw_injection_event(&signal, s->seed, &e);
        snprintf(e.stream, sizeof e.stream, "%s", gw_env_name(s->env));
        e.decided_ns = e.ingest_ns = gw_gps_now_ns();
        e.pace = base.pace;
        e.anchor_wall_ns = base.anchor_wall_ns;
        e.anchor_data_ns = base.anchor_data_ns;
        GW_TRY(gw_env_emit(s->env, &e));
    }
    return GW_OK;
}

static int next_strain(sim *s, int d, gw_piece *piece)
{
    stream *t = &s->streams[d];
    if (t->given >= s->end)
        return GW_EEND;
    /* All streams' next blocks are made before the wait, so that none is late for another's work. */
    for (int i = 0; i < s->n_detectors; i++)
        GW_TRY(make_block(s, i));
    const uint32_t left = t->staged - t->taken;
    const uint32_t n = left < piece->capacity_samples ? left : piece->capacity_samples;
    if (!left)
        return GW_EAGAIN; /* its witnesses are a block behind */
    if (!n)
        return gw_fail(GW_EBUG, "sim: asked to fill no samples");
    GW_TRY(gw_env_wait_until(s->env, gw_sample_to_ns(t->given + n, s->rate, 0)));
    double *out = piece->data;
    for (uint32_t c = 0; c < s->n_channels; c++)
        memcpy(out + (size_t)c * n, t->stage + (size_t)c * t->staged + t->taken, n * sizeof *out);
    piece->sample0 = t->given;
    piece->n_samples = n;
    piece->flags = t->flags;
    t->taken += n;
    t->given += n;
    return tell(s);
}

static int next_witnesses(sim *s, int d, gw_piece *piece)
{
    stream *t = &s->streams[d];
    GW_TRY(make_block(s, d));
    const uint32_t left = t->seen_staged - t->seen_taken;
    const uint32_t n = left < piece->capacity_samples ? left : piece->capacity_samples;
    if (!left)
        return t->made >= s->end ? GW_EEND : GW_EAGAIN; /* strain is a block behind */
    if (!n)
        return gw_fail(GW_EBUG, "sim: asked to fill no samples");
    GW_TRY(gw_env_wait_until(s->env, gw_sample_to_ns(t->seen_given + n, s->witness.rate, 0)));
    float *out = piece->data;
    for (uint32_t c = 0; c < s->witness.n_channels; c++)
        memcpy(out + (size_t)c * n, t->seen + (size_t)c * t->seen_staged + t->seen_taken, n * sizeof *out);
    piece->sample0 = t->seen_given;
    piece->n_samples = n;
    t->seen_taken += n;
    t->seen_given += n;
    return GW_OK;
}

static int next_auxiliary(sim *s, gw_piece *piece)
{
    if (s->aux_at >= s->aux_end)
        return GW_EEND;
    uint32_t n = piece_length(s->aux_at, s->aux_block, s->aux_end);
    if (n > piece->capacity_samples)
        n = piece->capacity_samples;
    if (!n)
        return gw_fail(GW_EBUG, "sim: asked to fill no samples");
    gw_auxiliary_fill(s->aux, s->aux_channels, s->aux_at, n, piece->data);
    GW_TRY(gw_env_wait_until(s->env, gw_sample_to_ns(s->aux_at + n, s->aux_rate, 0)));
    piece->sample0 = s->aux_at;
    piece->n_samples = n;
    s->aux_at += n;
    return GW_OK;
}

static int sim_next(void *self, int port, gw_piece *piece)
{
    sim *s = self;
    if (!s->started)
        gw_env_start(s->env, s->pace, gw_sample_to_ns(s->first, s->rate, 0));
    s->started = true;
    piece->dq = GW_DQ_ALL;
    if (port < s->n_detectors)
        return next_strain(s, port, piece);
    if (s->witness.n_channels && port < 2 * s->n_detectors)
        return next_witnesses(s, port - s->n_detectors, piece);
    return next_auxiliary(s, piece);
}

static void sim_close(void *self)
{
    sim *s = self;
    for (int d = 0; d < GW_MAX_DETECTORS; d++) {
        stream *t = &s->streams[d];
        gw_glitches_destroy(&t->glitches);
        gw_noise_destroy(&t->noise);
        gw_asd_destroy(&t->asd);
        gw_overlay_free(&t->overlays);
        gw_witnesses_destroy(&t->witnesses);
        free(t->stage);
        free(t->coupled);
        free(t->strain);
        free(t->seen);
        t->stage = t->coupled = t->strain = NULL;
        t->seen = NULL;
    }
    gw_witness_release(&s->witness);
    gw_population_destroy(&s->population);
    gw_auxiliary_destroy(&s->aux);
}

const gw_kind gw_kind_sim = {
    .kind = "sim",
    .help = "simulated detectors: noise, lines, glitches and binary mergers, repeatable from a seed",
    .role = GW_SOURCE,
    .origin = GW_SIMULATED,
    .makes_events = true,
    .state_size = sizeof(sim),
    .configure = sim_configure,
    .plan = sim_plan,
    .open = sim_open,
    .next = sim_next,
    .close = sim_close,
};
