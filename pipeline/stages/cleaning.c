/* SPDX-License-Identifier: GPL-3.0-or-later
 * One coupling of the stage denoise, see cleaning.h.
 *
 *   name       of letters, digits, '_' and '-'
 *   model      FILE.onnx
 *   witnesses  a list of names and patterns ("H1:PEM-*"), or a file with one a line; default: the model's names
 *   bands      "57-63,118-122"; default: the model's
 *   canary     see canary.h */
#include "pipeline/stages/cleaning.h"
#include "pipeline/log.h"

#include <ctype.h>
#include <errno.h>
#include <fnmatch.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SLOTS = 2, SAY_S = 10, MOST_LISTED = 4096 };

typedef char name_text[GW_NAME_BYTES];

struct gw_cleaning {
    /* YAML */
    char name[24], path[1024], stage[GW_NAME_BYTES];
    name_text *listed; /* names and patterns */
    uint32_t n_listed;
    bool has_bands;
    gw_bands bands;
    char bands_text[128];
    gw_gate_keys gate_keys;
    gw_canary_keys canary_keys;
    /* plan */
    name_text *witness; /* patterns resolved */
    uint32_t n_witnesses;
    gw_cleaner_shape shape;
    const uint32_t *history; /* [shape.n_in], of the stage */
    uint32_t delay, rate_hz;
    /* run */
    gw_env *env;
    gw_canary *canary;
    gw_trial trial;
    gw_gate gate;
    struct {
        gw_cleaner *cleaner; /* NULL: none */
        gw_canary_model model;
        gw_cleaner_out out;
    } slot[SLOTS];
    gw_asd_ratios ratio;
    double *weight, *share; /* [hop] */
    double newest_weight;
    gw_witness_fault said;
    int64_t said_until;
    char gauge[3][40];
};

/* -- configuration ----------------------------------------------------------------------------------- */

static int add_listed(gw_cleaning *c, const char *name, size_t n)
{
    if (n == 0 || n >= GW_NAME_BYTES)
        return gw_fail(GW_ECONFIG, "witness %" PRIu32 " has %zu characters, want 1 to %d", c->n_listed + 1, n,
                       GW_NAME_BYTES - 1);
    if (c->n_listed == MOST_LISTED)
        return gw_fail(GW_ECONFIG, "more than %d witnesses are listed", MOST_LISTED);
    if (!(c->n_listed & (c->n_listed + 1))) { /* 0, 1, 3, 7 ...: room for twice as many */
        name_text *more = realloc(c->listed, (2 * (size_t)c->n_listed + 2) * sizeof *more);
        if (!more)
            return gw_fail(GW_ENOMEM, "a list of witnesses");
        c->listed = more;
    }
    memset(c->listed[c->n_listed], 0, sizeof *c->listed);
    memcpy(c->listed[c->n_listed++], name, n);
    return GW_OK;
}

/* A name a line; what follows a '#', and empty lines, do not count. */
static int read_list_file(gw_cleaning *c, gw_conf *node, const char *path)
{
    FILE *f = fopen(path, "re");
    if (!f)
        return gw_conf_fail(node, "witnesses: %s: %s; want a list, or a file with one name a line", path,
                            strerror(errno));
    char line[512];
    int err = GW_OK;
    for (int number = 1; err == GW_OK && fgets(line, sizeof line, f); number++) {
        line[strcspn(line, "#\r\n")] = '\0';
        char *name = line + strspn(line, " \t");
        size_t n = strlen(name);
        while (n && isspace((unsigned char)name[n - 1]))
            n--;
        if (n && add_listed(c, name, n) != GW_OK)
            err = gw_conf_fail(node, "%s:%d: %s", path, number, gw_err_detail());
    }
    const bool failed = ferror(f);
    fclose(f);
    if (err == GW_OK && failed)
        err = gw_conf_fail(node, "witnesses: %s cannot be read", path);
    if (err == GW_OK && !c->n_listed)
        err = gw_conf_fail(node, "witnesses: %s names none", path);
    return err;
}

static int read_witnesses(gw_cleaning *c, gw_conf *conf)
{
    gw_conf *list = gw_conf_find(conf, "witnesses");
    const char *text;
    if (!list)
        return GW_OK;
    if (gw_conf_kind(list) == GW_CONF_SCALAR) {
        GW_TRY(gw_conf_text(list, &text));
        return read_list_file(c, list, text);
    }
    if (gw_conf_kind(list) != GW_CONF_LIST || gw_conf_count(list) == 0)
        return gw_conf_fail(list, "witnesses: want a list of channel names, or a file with one name a line");
    for (int i = 0; i < gw_conf_count(list); i++) {
        GW_TRY(gw_conf_text(gw_conf_item(list, i), &text));
        if (add_listed(c, text, strlen(text)) != GW_OK)
            return gw_conf_fail(gw_conf_item(list, i), "witnesses: %s", gw_err_detail());
    }
    return GW_OK;
}

static int read_name(gw_cleaning *c, gw_conf *conf)
{
    gw_conf *node;
    const char *text;
    GW_TRY(gw_conf_need(conf, "name", &node));
    GW_TRY(gw_conf_text(node, &text));
    bool good = *text && strlen(text) < sizeof c->name;
    for (const char *s = text; *s; s++)
        good = good && (isalnum((unsigned char)*s) || *s == '_' || *s == '-');
    if (!good)
        return gw_conf_fail(node, "name: '%.40s'; want 1 to %zu letters, digits, '_' and '-'", text,
                            sizeof c->name - 1);
    memcpy(c->name, text, strlen(text) + 1);
    return GW_OK;
}

int gw_cleaning_configure(gw_cleaning **cleaning, gw_conf *conf, const gw_gate_keys *gate)
{
    gw_cleaning *c = *cleaning = calloc(1, sizeof *c);
    gw_conf *node;
    const char *text = NULL;
    if (!c)
        return gw_fail(GW_ENOMEM, "a coupling");
    if (gw_conf_kind(conf) != GW_CONF_MAP)
        return gw_conf_fail(conf, "couplings: want maps such as {name: mains, model: FILE.onnx}");
    c->gate_keys = *gate;
    GW_TRY(read_name(c, conf));
    GW_TRY(gw_conf_need(conf, "model", &node));
    GW_TRY(gw_conf_text(node, &text));
    if (!*text || strlen(text) >= sizeof c->path)
        return gw_conf_fail(node, "model: want the path of a file");
    memcpy(c->path, text, strlen(text) + 1);
    GW_TRY(read_witnesses(c, conf));
    node = gw_conf_find(conf, "bands");
    if (node) {
        GW_TRY(gw_conf_text(node, &text));
        if (strlen(text) >= sizeof c->bands_text || gw_bands_parse(&c->bands, "bands", text) != GW_OK)
            return gw_conf_fail(node, "bands: '%.60s'; want frequencies in Hz such as \"57-63,118-122\"",
                                text);
        memcpy(c->bands_text, text, strlen(text) + 1);
        c->has_bands = true;
    }
    GW_TRY(gw_canary_keys_read(&c->canary_keys, conf));
    return gw_conf_done(conf, "couplings");
}

static void drop_networks(gw_cleaning *c)
{
    for (int s = 0; s < SLOTS; s++)
        gw_cleaner_destroy(&c->slot[s].cleaner);
    free(c->witness);
    c->witness = NULL;
    c->n_witnesses = 0;
}

void gw_cleaning_destroy(gw_cleaning **cleaning)
{
    gw_cleaning *c = *cleaning;
    if (!c)
        return;
    gw_canary_destroy(&c->canary);
    drop_networks(c);
    free(c->listed);
    free(c->weight);
    free(c->share);
    free(c);
    *cleaning = NULL;
}

/* -- plan -------------------------------------------------------------------------------------------- */

static int add_witness(gw_cleaning *c, uint32_t *room, const char *name)
{
    for (uint32_t i = 0; i < c->n_witnesses; i++)
        if (!strcmp(c->witness[i], name))
            return GW_OK; /* two patterns may meet in one channel */
    if (c->n_witnesses == *room) {
        name_text *more = realloc(c->witness, (2 * (size_t)*room + 8) * sizeof *more);
        if (!more)
            return gw_fail(GW_ENOMEM, "witnesses of coupling %s", c->name);
        c->witness = more;
        *room = 2 * *room + 8;
    }
    snprintf(c->witness[c->n_witnesses++], GW_NAME_BYTES, "%s", name);
    return GW_OK;
}

/* Patterns become the channels that they match, in the order of the streams. */
static int resolve(gw_cleaning *c, const gw_spec *in, int n_in)
{
    uint32_t room = 0;
    for (uint32_t i = 0; i < c->n_listed; i++) {
        const char *pattern = c->listed[i];
        uint32_t found = 0;
        if (!strpbrk(pattern, "*?[")) {
            GW_TRY(add_witness(c, &room, pattern));
            continue;
        }
        for (int p = 1; p < n_in; p++)
            for (uint32_t k = 0; in[p].channel && k < in[p].n_channels; k++)
                if (fnmatch(pattern, in[p].channel[k], 0) == 0) {
                    GW_TRY(add_witness(c, &room, in[p].channel[k]));
                    found++;
                }
        if (!found)
            return gw_fail(GW_EMISMATCH, "no witness that comes in matches '%s'", pattern);
    }
    return GW_OK;
}

/* Some bin of the ratio's spectra (0.5 Hz) lies in the bands. */
static int check_bands(const gw_cleaning *c, const gw_cleaner *n)
{
    const gw_bands *b = c->has_bands ? &c->bands : &gw_cleaner_model(n)->bands;
    for (int i = 0; i < b->n; i++)
        if (ceil(2 * b->lo[i]) < 2 * b->hi[i] && ceil(2 * b->lo[i]) < c->rate_hz)
            return GW_OK;
    return gw_fail(GW_EMISMATCH, "no frequency of strain at %" PRIu32 " Hz lies in the bands %s", c->rate_hz,
                   c->has_bands ? c->bands_text : gw_cleaner_model(n)->bands_text);
}

int gw_cleaning_plan(gw_cleaning *c, const gw_spec *in, int n_in, uint32_t hop, const gw_kernels *k)
{
    drop_networks(c);
    c->rate_hz = in[0].rate.num;
    GW_TRY(resolve(c, in, n_in));
    c->shape = (gw_cleaner_shape){.kernels = k,
                                  .in = in,
                                  .n_in = n_in,
                                  .hop = hop,
                                  .n_witnesses = c->n_witnesses,
                                  .witness = (const name_text *)c->witness};
    GW_TRY(gw_cleaner_new(&c->slot[0].cleaner, c->path, &c->shape));
    GW_TRY(check_bands(c, c->slot[0].cleaner));
    gw_canary_model *m = &c->slot[0].model;
    snprintf(m->name, sizeof m->name, "%s", gw_cleaner_model(c->slot[0].cleaner)->name);
    snprintf(m->sha256, sizeof m->sha256, "%s", gw_cleaner_sha256(c->slot[0].cleaner));
    return GW_OK;
}

const char *gw_cleaning_name(const gw_cleaning *c)
{
    return c->name;
}

const gw_cleaner *gw_cleaning_network(const gw_cleaning *c)
{
    return c->slot[c->trial.used].cleaner;
}

const gw_bands *gw_cleaning_bands(const gw_cleaning *c, int slot)
{
    const gw_cleaner *n = c->slot[slot].cleaner;
    return c->has_bands || !n ? &c->bands : &gw_cleaner_model(n)->bands;
}

void gw_cleaning_text(const gw_cleaning *c, char *text, size_t n)
{
    const gw_canary_model *m = &c->slot[0].model;
    snprintf(text, n, "%s:%s:%.16s:%s", c->name, m->name, m->sha256,
             c->has_bands ? c->bands_text : gw_cleaner_model(c->slot[0].cleaner)->bands_text);
}

uint64_t gw_cleaning_network_bits(const gw_cleaning *c)
{
    char digits[17];
    snprintf(digits, sizeof digits, "%.16s", c->slot[c->trial.used].model.sha256);
    return strtoull(digits, NULL, 16);
}

/* -- open, and networks that come later -------------------------------------------------------------- */

/* In the canary's thread. */
static int load_canary(void *self, const char *path, void **network, char name[48])
{
    const gw_cleaning *c = self;
    gw_cleaner *n = NULL;
    GW_TRY(gw_cleaner_new(&n, path, &c->shape));
    int err = check_bands(c, n);
    for (int p = 1; p < c->shape.n_in && err == GW_OK; p++)
        if (gw_cleaner_history(n, p) > c->history[p])
            err = gw_fail(GW_EMISMATCH, "%s looks further back or ahead in stream %s than the one in use",
                          path, c->shape.in[p].name);
    if (err == GW_OK)
        err = gw_cleaner_start(n, c->delay);
    if (err != GW_OK) {
        gw_cleaner_destroy(&n);
        return err;
    }
    snprintf(name, 48, "%s", gw_cleaner_model(n)->name);
    *network = n;
    return GW_OK;
}

static void drop_canary(void *self, void *network)
{
    (void)self;
    gw_cleaner *n = network;
    gw_cleaner_destroy(&n);
}

int gw_cleaning_open(gw_cleaning *c, gw_env *env, const char *stage, uint32_t delay, const uint32_t *history)
{
    const uint32_t hop = c->shape.hop;
    c->env = env;
    c->delay = delay;
    c->history = history;
    snprintf(c->stage, sizeof c->stage, "%s", stage);
    snprintf(c->gauge[0], sizeof c->gauge[0], "asd_ratio_%s", c->name);
    snprintf(c->gauge[1], sizeof c->gauge[1], "gate_%s", c->name);
    snprintf(c->gauge[2], sizeof c->gauge[2], "trial_%s", c->name);
    c->weight = calloc(hop, sizeof *c->weight);
    c->share = calloc(hop, sizeof *c->share);
    if (!c->weight || !c->share)
        return gw_fail(GW_ENOMEM, "coupling %s", c->name);
    c->ratio = (gw_asd_ratios){false, NAN, NAN, NAN, NAN};
    gw_gate_init(&c->gate, &c->gate_keys, c->rate_hz);
    gw_trial_init(&c->trial, c->canary_keys.over_s, c->canary_keys.watch_s, c->canary_keys.better,
                  c->rate_hz);
    GW_TRY(gw_cleaner_start(c->slot[0].cleaner, delay));
    if (!c->canary_keys.path[0])
        return GW_OK;
    const gw_canary_ops ops = {.self = c, .load = load_canary, .drop = drop_canary};
    return gw_canary_new(&c->canary, &c->canary_keys, &ops, stage, c->name, c->path);
}

/* -- a hop ------------------------------------------------------------------------------------------- */

int gw_cleaning_step(gw_cleaning *c, const gw_view *view)
{
    for (int s = 0; s < SLOTS; s++)
        if (c->slot[s].cleaner)
            GW_TRY(gw_cleaner_step(c->slot[s].cleaner, view, &c->slot[s].out));
    return GW_OK;
}

/* One line when it begins, and one when it is over; a witness that comes and goes is said every SAY_S. */
static void tell_fault(gw_cleaning *c, const gw_cleaner_out *o, int64_t out0)
{
    if ((o->fault == GW_WITNESS_FINE) == (c->said == GW_WITNESS_FINE) || out0 < c->said_until)
        return;
    const gw_denoise_model *m = gw_cleaner_model(gw_cleaning_network(c));
    const int64_t ns = gw_sample_to_ns(out0 + c->delay, c->shape.in[0].rate, c->shape.in[0].phase_ns);
    if (o->fault == GW_WITNESS_FINE)
        gw_log(GW_LOG_INFO, c->stage, "GPS %.3f: coupling %s: its witnesses are all well again",
               (double)ns / 1e9, c->name);
    else
        gw_log(GW_LOG_WARN, c->stage, "GPS %.3f: coupling %s fades out: witness %s is %s", (double)ns / 1e9,
               c->name, c->n_witnesses ? c->witness[o->witness] : m->witness[o->witness],
               gw_witness_fault_text(o->fault));
    c->said = o->fault;
    c->said_until = out0 + SAY_S * (int64_t)c->rate_hz;
}

void gw_cleaning_stepped(gw_cleaning *c, int64_t out0)
{
    const gw_cleaner_out *o = &c->slot[c->trial.used].out;
    if (o->good_from == INT64_MAX)
        gw_gate_hurt(&c->gate, o->bad_from > out0 ? o->bad_from : out0);
    else
        gw_gate_well(&c->gate, o->good_from > out0 ? o->good_from : out0);
    tell_fault(c, o, out0);
}

const double *gw_cleaning_prediction(const gw_cleaning *c, int slot)
{
    return c->slot[slot].cleaner && c->slot[slot].out.valid ? c->slot[slot].out.p : NULL;
}

/* -- every second ------------------------------------------------------------------------------------ */

static void tell_gate(const gw_cleaning *c, gw_gate_change change, int64_t gps_ns)
{
    static const char *const what[] = {[GW_GATE_IN] = "fades in: it has proven itself",
                                       [GW_GATE_BACK] = "fades in again: its witnesses are well",
                                       [GW_GATE_HARMS] = "fades out: strain is not quieter with it",
                                       [GW_GATE_HARMS_OUT] =
                                           "fades out: strain is louder with it outside its bands"};
    if (change != GW_GATE_SAME)
        gw_log(change == GW_GATE_HARMS || change == GW_GATE_HARMS_OUT ? GW_LOG_WARN : GW_LOG_INFO, c->stage,
               "GPS %.3f: coupling %s %s (ratio %.3f, out of band %.3f)", (double)gps_ns / 1e9, c->name,
               what[change], c->ratio.mean, c->ratio.out);
}

static void drop_slot(gw_cleaning *c, int slot)
{
    gw_canary_give(c->canary, c->slot[slot].cleaner);
    c->slot[slot].cleaner = NULL;
}

/* What has become of the network beside the one in use; and whether there is one that wants to be tried. */
static void go_on_with_trial(gw_cleaning *c, int64_t second, int64_t gps_ns, const gw_asd_ratios *r,
                             bool *fresh)
{
    const int used = c->trial.used, other = 1 - used;
    const bool watching = c->trial.phase != GW_TRIAL_TRYING;
    gw_trial_result result;
    const gw_trial_event e = gw_trial_second(&c->trial, second, &r[used], &r[other], &result);
    if (e != GW_TRIAL_NONE && e != GW_TRIAL_FREE) /* it speaks of the newer network */
        gw_canary_tell(c->canary, &c->slot[watching ? used : other].model, e, gps_ns, &result);
    if (e == GW_TRIAL_REJECTED || e == GW_TRIAL_KEPT)
        drop_slot(c, other);
    else if (e == GW_TRIAL_FREE)
        drop_slot(c, 1 - c->trial.used);
    gw_canary_model m;
    const int spare = 1 - c->trial.used;
    if (c->trial.phase != GW_TRIAL_IDLE || c->slot[spare].cleaner || !gw_canary_take(c->canary, gps_ns, &m))
        return;
    c->slot[spare].cleaner = m.network;
    c->slot[spare].model = m;
    c->slot[spare].out = (gw_cleaner_out){.bad_from = INT64_MIN, .good_from = INT64_MAX};
    gw_trial_begin(&c->trial);
    fresh[spare] = true;
}

void gw_cleaning_second(gw_cleaning *c, int64_t second, int64_t gps_ns, const gw_asd_ratios *r, bool *fresh)
{
    c->ratio = r[c->trial.used];
    tell_gate(c, gw_gate_second(&c->gate, second, &c->ratio), gps_ns);
    fresh[0] = fresh[1] = false;
    if (c->canary) {
        go_on_with_trial(c, second, gps_ns, r, fresh);
        gw_env_gauge(c->env, c->gauge[2], c->trial.phase);
    }
    gw_env_gauge(c->env, c->gauge[0], c->ratio.mean);
    gw_env_gauge(c->env, c->gauge[1], c->newest_weight);
}

void gw_cleaning_add(gw_cleaning *c, int64_t out0, double *noise)
{
    const uint32_t n = c->shape.hop;
    const bool any = gw_gate_weigh(&c->gate, out0, n, c->weight);
    const bool mixed = gw_trial_share(&c->trial, out0, n, c->share);
    c->newest_weight = any ? c->weight[n - 1] : 0;
    if (!any)
        return;
    const double *p = c->slot[c->trial.used].out.p;
    if (!mixed) {
        for (uint32_t i = 0; i < n; i++)
            noise[i] += c->weight[i] * p[i];
        return;
    }
    const double *p0 = c->slot[0].out.p, *p1 = c->slot[1].out.p;
    for (uint32_t i = 0; i < n; i++)
        noise[i] += c->weight[i] * (p0[i] + c->share[i] * (p1[i] - p0[i]));
}

void gw_cleaning_hole(gw_cleaning *c, int64_t out0, int64_t lost)
{
    for (int s = 0; s < SLOTS; s++)
        if (c->slot[s].cleaner)
            gw_cleaner_reset(c->slot[s].cleaner);
    gw_gate_hole(&c->gate, out0, lost);
}

/* -- what is published ------------------------------------------------------------------------------- */

void gw_cleaning_number_name(const gw_cleaning *c, int i, char *text, size_t n)
{
    static const struct {
        const char *before, *after;
    } form[GW_CLEANING_NUMBERS] = {
        {"ASDR-", ""}, {"ASDR-", "_INTEGRATED"}, {"ASDR-", "_OUT"}, {"GATE-", ""}, {"MODEL-", ""}};
    snprintf(text, n, "%s%s%s", form[i].before, c->name, form[i].after);
}

void gw_cleaning_numbers(const gw_cleaning *c, double *to)
{
    char digits[14] = {0}; /* 52 bits */
    memcpy(digits, c->slot[c->trial.used].model.sha256, 13);
    to[0] = c->ratio.mean;
    to[1] = c->ratio.integrated;
    to[2] = c->ratio.out;
    to[3] = c->newest_weight;
    to[4] = (double)strtoull(digits, NULL, 16);
}
