/* SPDX-License-Identifier: GPL-3.0-or-later
 * kind: denoise. Subtracts from strain the noise that networks foretell from witness channels, as far as
 * strain becomes quieter by it.
 *
 *     clean: {kind: denoise, from: [sky.H1, sky.H1_witness], couplings: [{name: mains, model: FILE.onnx}]}
 *
 *   from       the strain first: one channel, float64, a whole rate; then streams with the witnesses
 *   couplings  a list of {name, model, witnesses, bands, canary}, see cleaning.c
 *   hop        1/16s: so much at once; a whole part of a second
 *   gate       {out, after, in, for, pause, start} or always, see gate.h
 *
 * Outputs: the cleaned strain (clean.H1, channel H1:STRAIN_CLEANED), what was subtracted (clean.H1_noise,
 * H1:STRAIN_NOISE), and once a second for each coupling how well it does (clean.H1_ratio; NaN: not known).
 * The delay is the longest of the couplings'.
 *
 * Strain goes on whatever happens to witnesses and networks. Where they fail, the coupling that needs them
 * fades out (cleaned = raw). What does not fit from the start turns the coupling off: `check` refuses it,
 * `run` says it in one line, goes on without, and ends with status 2. A hole in strain is a hole here, wider
 * by the delay. */
#include "kernels/kernels.h"
#include "pipeline/parallel.h"
#include "pipeline/stage.h"
#include "pipeline/stages/cleaning.h"
#include "pipeline/stages/marks.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_COUPLINGS = 32, OUT_CLEAN = 0, OUT_NOISE, OUT_RATIO, OUTS };

typedef struct denoise {
    /* YAML */
    gw_rate hop_s;
    gw_gate_keys gate;
    int n_couplings;
    gw_cleaning *coupling[MOST_COUPLINGS];
    /* plan */
    gw_kernels kernels;
    char where[GW_NAME_BYTES];
    int n_in;
    gw_spec in[GW_MAX_PORTS]; /* copies, with their names */
    uint32_t hop, rate_hz, delay;
    uint32_t history[GW_MAX_PORTS];
    int n_on;
    gw_cleaning *on[MOST_COUPLINGS]; /* of `coupling`, those that fit */
    char off[MOST_COUPLINGS][400];   /* why the others do not */
    int n_off;
    /* run */
    gw_env *env;
    gw_asd_ratio *ratio;
    gw_asd_ratios ratios[2 * MOST_COUPLINGS];
    const double *p[2 * MOST_COUPLINGS];
    const gw_view *view; /* of this step */
    double *noise;       /* [hop] */
    gw_marks marks;
    bool whole;    /* what came last is followed by what comes next */
    int64_t next;  /* strain sample that comes next; 0: none came yet */
    int64_t since; /* first sample that was put out since the start or the last hole */
} denoise;

/* -- configuration ----------------------------------------------------------------------------------- */

static int configure(void *self, gw_conf *conf)
{
    denoise *d = self;
    gw_conf *list;
    d->hop_s = (gw_rate){1, 16};
    GW_TRY(gw_conf_get_span(conf, "hop", &d->hop_s));
    if (d->hop_s.num != 1)
        return gw_conf_fail(gw_conf_find(conf, "hop"), "hop: want a whole part of a second, such as 1/16s");
    GW_TRY(gw_gate_keys_read(&d->gate, conf));
    GW_TRY(gw_conf_need(conf, "couplings", &list));
    const int n = gw_conf_kind(list) == GW_CONF_LIST ? gw_conf_count(list) : 0;
    if (n < 1 || n > MOST_COUPLINGS)
        return gw_conf_fail(list, "couplings: want a list of 1 to %d: [{name: mains, model: FILE.onnx}]",
                            MOST_COUPLINGS);
    for (int i = 0; i < n; i++) {
        gw_conf *item = gw_conf_item(list, i);
        d->n_couplings = i + 1;
        GW_TRY(gw_cleaning_configure(&d->coupling[i], item, &d->gate));
        for (int k = 0; k < i; k++)
            if (!strcmp(gw_cleaning_name(d->coupling[k]), gw_cleaning_name(d->coupling[i])))
                return gw_conf_fail(item, "two couplings are called %s", gw_cleaning_name(d->coupling[i]));
    }
    return GW_OK;
}

/* -- plan -------------------------------------------------------------------------------------------- */

static void free_plan(denoise *d)
{
    for (int i = 0; i < d->n_in; i++)
        gw_spec_free(&d->in[i]);
    d->n_in = d->n_on = d->n_off = 0;
}

static int check_strain(const gw_spec *s)
{
    if (s->n_channels != 1 || s->dtype != GW_F64 || s->rate.den != 1 || s->rate.num % 2 ||
        s->rate.num > 65536)
        return gw_fail(GW_EMISMATCH,
                       "stream %s: %" PRIu32
                       " channels of %s at %g Hz; the first in 'from' is the strain: one "
                       "channel, float64, an even whole rate up to 65536 Hz",
                       s->name, s->n_channels, gw_dtype_text(s->dtype), gw_rate_hz(s->rate));
    if (s->whitening[0])
        return gw_fail(GW_EMISMATCH, "stream %s is whitened (%s); denoise comes before whiten", s->name,
                       s->whitening);
    return GW_OK;
}

static int plan_hops(denoise *d, gw_plan *p)
{
    for (int i = 0; i < p->n_in; i++) {
        const gw_spec *s = &p->in[i];
        const uint64_t samples = s->rate.num, parts = (uint64_t)s->rate.den * d->hop_s.den;
        p->may_lack[i] = i > 0;
        p->hop[i] = (uint32_t)(samples / parts);
        if (samples % parts == 0 && s->phase_ns == p->in[0].phase_ns)
            continue;
        if (i == 0)
            return gw_fail(GW_EMISMATCH,
                           "stream %s at %g Hz: a hop of 1/%" PRIu32 " s is no whole number of samples",
                           s->name, gw_rate_hz(s->rate), d->hop_s.den);
        p->hop[i] = 0; /* of no use; who needs it is off */
    }
    d->hop = p->hop[0];
    d->rate_hz = p->in[0].rate.num;
    return GW_OK;
}

static int plan_couplings(denoise *d, gw_plan *p)
{
    for (int i = 0; i < d->n_couplings; i++) {
        gw_cleaning *c = d->coupling[i];
        const int err = gw_cleaning_plan(c, d->in, d->n_in, d->hop, &d->kernels);
        if (err == GW_ENOMEM)
            return err;
        if (err != GW_OK) {
            snprintf(d->off[d->n_off++], sizeof d->off[0], "coupling %s is off: %s", gw_cleaning_name(c),
                     gw_err_detail());
            continue;
        }
        d->on[d->n_on++] = c;
        const gw_cleaner *n = gw_cleaning_network(c);
        const uint32_t delay = gw_cleaner_delay(n);
        d->delay = delay > d->delay ? delay : d->delay;
        for (int k = 1; k < d->n_in; k++) {
            const uint32_t history = gw_cleaner_history(n, k);
            d->history[k] = history > d->history[k] ? history : d->history[k];
        }
        p->memory_bytes += gw_cleaner_bytes(n);
    }
    if (d->n_off)
        snprintf(p->unfit, sizeof p->unfit, "%s", d->off[0]);
    d->history[0] = d->delay;
    memcpy(p->history, d->history, sizeof d->history);
    return GW_OK;
}

/* The strain's channel, whose name the others grow from. */
static int set_channels(const denoise *d, gw_spec *out, int what)
{
    static const char *const words[OUTS] = {"CLEANED", "NOISE", ""};
    const gw_spec *in = &d->in[0];
    char base[GW_NAME_BYTES], word[64], names[MOST_COUPLINGS * GW_CLEANING_NUMBERS][GW_NAME_BYTES];
    const char *list[MOST_COUPLINGS * GW_CLEANING_NUMBERS];
    uint32_t n = 0;
    if (in->channel && in->channel[0][0])
        memcpy(base, in->channel[0], sizeof base);
    else
        snprintf(base, sizeof base, "%s:STRAIN", in->detector[0] ? in->detector : "X1");
    const int count = what == OUT_RATIO ? d->n_on * GW_CLEANING_NUMBERS : 1;
    for (int i = 0; i < count; i++) {
        snprintf(word, sizeof word, "%s", words[what]);
        if (what == OUT_RATIO)
            gw_cleaning_number_name(d->on[i / GW_CLEANING_NUMBERS], i % GW_CLEANING_NUMBERS, word,
                                    sizeof word);
        if (strlen(base) + 1 + strlen(word) >= GW_NAME_BYTES)
            return gw_fail(GW_EMISMATCH, "channel %s: with _%s its name would have more than %d characters",
                           base, word, GW_NAME_BYTES - 1);
        snprintf(names[n], sizeof names[n], "%s_%s", base, word);
        list[n] = names[n];
        n++;
    }
    return gw_spec_set_channels(out, n, list);
}

static void name_stream(const denoise *d, gw_spec *out, const char *word)
{
    if (d->in[0].detector[0])
        snprintf(out->name, sizeof out->name, "%s%s%s", d->in[0].detector, word[0] ? "_" : "", word);
    else
        snprintf(out->name, sizeof out->name, "%s", word);
}

static int plan_outputs(const denoise *d, gw_plan *p)
{
    static const char *const words[OUTS] = {"", "noise", "ratio"};
    const gw_spec *in = &d->in[0];
    p->n_out = d->n_on ? OUTS : OUT_RATIO;
    for (int o = 0; o < p->n_out; o++) {
        gw_spec *out = &p->out[o];
        GW_TRY(gw_spec_copy(out, in));
        GW_TRY(set_channels(d, out, o));
        name_stream(d, out, words[o]);
        out->block_samples = d->hop + (o == OUT_RATIO ? 1 - d->hop : 0);
        if (o == OUT_RATIO) {
            out->rate = (gw_rate){1, 1};
            out->unit[0] = '\0';
        }
        size_t used = strlen(out->cleaning);
        for (int i = 0; i < d->n_on && used < sizeof out->cleaning; i++) {
            char text[sizeof out->cleaning];
            gw_cleaning_text(d->on[i], text, sizeof text);
            const int more =
                snprintf(out->cleaning + used, sizeof out->cleaning - used, "%s%s", used ? "; " : "", text);
            used += more > 0 ? (size_t)more : 0;
        }
    }
    return GW_OK;
}

static int plan(void *self, gw_plan *p)
{
    denoise *d = self;
    free_plan(d);
    d->delay = 0;
    memset(d->history, 0, sizeof d->history);
    if (p->n_in < 2)
        return gw_fail(GW_EMISMATCH, "'from' names %d stream; want the strain and at least one of witnesses",
                       p->n_in);
    GW_TRY(check_strain(&p->in[0]));
    snprintf(d->where, sizeof d->where, "%s", p->name);
    for (int i = 0; i < p->n_in; i++) {
        GW_TRY(gw_spec_copy(&d->in[i], &p->in[i]));
        d->n_in = i + 1;
    }
    GW_TRY(gw_kernels_init(&d->kernels, GW_KERNELS_CPU));
    GW_TRY(plan_hops(d, p));
    GW_TRY(plan_couplings(d, p));
    p->delay_ns = gw_sample_to_ns(d->delay, d->in[0].rate, 0);
    p->memory_bytes += gw_asd_ratio_bytes(d->rate_hz, 2 * (uint32_t)d->n_on);
    snprintf(p->note, sizeof p->note, "%d of %d couplings, %.1f ms of look-ahead", d->n_on, d->n_couplings,
             (double)p->delay_ns / 1e6);
    return plan_outputs(d, p);
}

/* -- open, close ------------------------------------------------------------------------------------- */

static int open_stage(void *self, gw_env *env)
{
    denoise *d = self;
    d->env = env;
    gw_bands bands[2 * MOST_COUPLINGS];
    d->noise = calloc(d->hop, sizeof *d->noise);
    if (!d->noise)
        return gw_fail(GW_ENOMEM, "a hop");
    for (int i = 0; i < d->n_off && env; i++)
        gw_env_bad_input(env, "%s", d->off[i]);
    for (int i = 0; i < d->n_on; i++) {
        GW_TRY(gw_cleaning_open(d->on[i], env, d->where, d->delay, d->history));
        bands[2 * i] = bands[2 * i + 1] = *gw_cleaning_bands(d->on[i], 0);
    }
    if (!d->n_on)
        return GW_OK;
    return gw_asd_ratio_new(&d->ratio, &d->kernels.spectrum, d->rate_hz, 2 * (uint32_t)d->n_on, bands);
}

static void close_stage(void *self)
{
    denoise *d = self;
    for (int i = 0; i < d->n_couplings; i++)
        gw_cleaning_destroy(&d->coupling[i]);
    gw_asd_ratio_destroy(&d->ratio);
    free(d->noise);
    d->noise = NULL;
    free_plan(d);
}

/* -- work -------------------------------------------------------------------------------------------- */

/* What comes next begins at output sample `from`; nothing before it is of use. */
static void begin(denoise *d, int64_t from)
{
    const int64_t lost = d->next ? from - (d->next - d->delay) : 0;
    for (int i = 0; i < d->n_on; i++)
        gw_cleaning_hole(d->on[i], from, lost > 0 ? lost : 0);
    gw_marks_clear(&d->marks);
    d->whole = true;
    d->since = from;
}

static int step_coupling(void *self, size_t i)
{
    denoise *d = self;
    return gw_cleaning_step(d->on[i], d->view);
}

/* A number that is not one is subtracted from nothing: it goes through, and is not measured. */
static bool is_finite(const double *x, uint32_t n)
{
    double nothing = 0;
    for (uint32_t i = 0; i < n; i++)
        nothing += x[i] * 0;
    return nothing == 0;
}

/* The whole second that ended in this hop, if one did. */
static int measure(denoise *d, int64_t from, const double *s, uint64_t dq, gw_out *out)
{
    const uint64_t needed = GW_DQ_DATA | GW_DQ_CBC_CAT1;
    const bool counts = (dq & needed) == needed && is_finite(s, d->hop);
    for (int i = 0; i < 2 * d->n_on; i++)
        d->p[i] = counts ? gw_cleaning_prediction(d->on[i / 2], i % 2) : NULL;
    const int64_t second = gw_asd_ratio_add(d->ratio, from, d->hop, s, d->p, d->ratios);
    if (!second)
        return GW_OK;
    const int64_t gps_ns = gw_sample_to_ns(second, d->in[0].rate, d->in[0].phase_ns);
    for (int i = 0; i < d->n_on; i++) {
        bool fresh[2];
        gw_cleaning_second(d->on[i], second, gps_ns, d->ratios + 2 * i, fresh);
        for (int k = 0; k < 2; k++)
            if (fresh[k])
                GW_TRY(gw_asd_ratio_anew(d->ratio, 2 * (uint32_t)i + (uint32_t)k,
                                         gw_cleaning_bands(d->on[i], k)));
        gw_cleaning_numbers(d->on[i], (double *)out->data + (size_t)i * GW_CLEANING_NUMBERS);
    }
    if (second - d->rate_hz < d->since)
        return GW_OK;
    out->n_samples = 1;
    out->sample0 = second / d->rate_hz - 1;
    return GW_OK;
}

static int lose(const denoise *d, int64_t until, gw_out *out)
{
    for (int o = 0; o < (d->n_on ? OUTS : OUT_RATIO); o++) {
        out[o].lost = true;
        out[o].lost_until = o == OUT_RATIO ? until / d->rate_hz : until;
        out[o].reason = GW_GAP_CHANNEL;
    }
    return GW_OK;
}

static int step(void *self, const gw_view *in, gw_out *out)
{
    denoise *d = self;
    const int64_t from = in[0].sample0 - d->delay, end = in[0].sample0 + d->hop;
    if (!gw_present(in[0].presence, 0)) {
        d->whole = false;
        return lose(d, from + d->hop, out);
    }
    if (!d->whole || in[0].sample0 != d->next)
        begin(d, from);
    d->next = end;
    gw_marks_add(&d->marks, end, in);
    d->view = in;
    GW_TRY(gw_parallel(GW_SEARCH, (size_t)d->n_on, step_coupling, d));
    for (int i = 0; i < d->n_on; i++)
        gw_cleaning_stepped(d->on[i], from);

    gw_out said = {0};
    gw_marks_take(&d->marks, from, from + d->hop, &said);
    for (int i = 0; i < d->n_on; i++)
        said.networks ^= gw_cleaning_network_bits(d->on[i]);
    const double *s = (const double *)in[0].data - d->delay;
    for (int o = 0; o < (d->n_on ? OUTS : OUT_RATIO); o++) {
        out[o].dq = said.dq;
        out[o].flags = said.flags;
        out[o].networks = said.networks;
    }
    if (d->n_on)
        GW_TRY(measure(d, from, s, said.dq, &out[OUT_RATIO]));
    memset(d->noise, 0, d->hop * sizeof *d->noise);
    for (int i = 0; i < d->n_on; i++)
        gw_cleaning_add(d->on[i], from, d->noise);
    double *clean = out[OUT_CLEAN].data, *noise = out[OUT_NOISE].data;
    for (uint32_t i = 0; i < d->hop; i++) {
        clean[i] = s[i] - d->noise[i];
        noise[i] = d->noise[i];
    }
    for (int o = OUT_CLEAN; o <= OUT_NOISE; o++) {
        out[o].n_samples = d->hop;
        out[o].sample0 = from;
    }
    return GW_OK;
}

static int gap(void *self, int port, const gw_hole *hole)
{
    (void)port;
    (void)hole;
    denoise *d = self;
    d->whole = false;
    return GW_OK;
}

const gw_kind gw_kind_denoise = {.kind = "denoise",
                                 .help = "subtract from strain the noise that its witnesses foretell",
                                 .role = GW_STAGE,
                                 .takes_presence = true,
                                 .state_size = sizeof(denoise),
                                 .configure = configure,
                                 .plan = plan,
                                 .open = open_stage,
                                 .step = step,
                                 .gap = gap,
                                 .close = close_stage};
