/* SPDX-License-Identifier: GPL-3.0-or-later
 * A piece of an evaluation as the YAML that a user would have written: the same stages as online behind a
 * simulation at pace 0. Of a --config its simulation and its stages are taken, and what makes a piece this
 * piece is put in their place. No sink of it is: nothing of an evaluation leaves this host. */
#include "pipeline/cmd_evaluate.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Between two injections: more than the refractory time of detect, 8 s, so that none hides the next. The first
 * comes when the PSD is of 64 s. */
enum { FIRST_S = 72, SPACING_S = 12, JITTER_S = 1, END_S = 5, START_GPS = 1300000000 };

/* Low enough that what noise does once an hour is above it for any network; where triggers become too many the
 * stage raises it. */
static const char floor_text[] = "-5";

double gw_piece_seconds(int injections)
{
    return FIRST_S + SPACING_S * injections - END_S;
}

void gw_piece_journal(const gw_evaluate *e, const gw_piece *p, char path[GW_EVALUATE_PATH + 80])
{
    snprintf(path, GW_EVALUATE_PATH + 80, "%s/%s.sqlite", e->folder, p->name);
}

void gw_piece_archive(const gw_evaluate *e, const gw_piece *p, int i, char path[GW_EVALUATE_PATH + 80])
{
    snprintf(path, GW_EVALUATE_PATH + 80, "%s/%s-%s.hdf5", e->folder, p->name, e->search[i].noise);
}

/* Each piece has its own noise. The SNR's place in the list must not change it. */
static uint64_t seed_of(const gw_evaluate *e, const gw_piece *p)
{
    return (uint64_t)e->seed * 1000000000u + (uint64_t)llround(p->snr * 10) * 100000u + (uint64_t)p->number;
}

/* Even in [0, 1): SplitMix64. */
static double even(uint64_t *state)
{
    uint64_t z = (*state += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return (double)((z ^ (z >> 31)) >> 11) / 9007199254740992.0;
}

/* What makes a simulation this piece's; to be put after other keys of the map. */
static void add_piece(gw_text *t, const gw_evaluate *e, const gw_piece *p)
{
    gw_text_add(t, ", seed: %" PRIu64 ", start: %d, duration: %.0fs, pace: 0", seed_of(e, p), START_GPS,
                p->seconds);
    if (p->injections)
        gw_text_add(t,
                    ", population: {spacing: %ds, jitter: %ds, first: %ds, mass: [%.17g, %.17g], "
                    "max_mass_ratio: 8, spin: 0.6, network_snr: [%.17g, %.17g], min_ratio: 0}",
                    SPACING_S, JITTER_S, FIRST_S, e->mass[0], e->mass[1], p->snr, p->snr);
    gw_text_add(t, "}\n");
}

static void add_search(gw_text *t, const gw_search *s)
{
    gw_text_add(t, "  ");
    gw_text_quote(t, s->name);
    gw_text_add(t, ": {kind: detect, model: ");
    gw_text_quote(t, s->model);
    gw_text_add(t, ", card: ");
    gw_text_quote(t, s->card);
}

static void add_noise(gw_text *t, const gw_evaluate *e, const gw_search *s, const gw_piece *p)
{
    char path[GW_EVALUATE_PATH + 80];
    gw_text_add(t, "  %s: {kind: background, model: ", s->noise);
    gw_text_quote(t, s->model);
    gw_text_add(t, ", slides: %" PRId64 ", floor: %s, memory: %.0fs, checkpoint_replay: true, checkpoint: ",
                e->slides, floor_text, p->seconds + 60);
    snprintf(path, sizeof path, "%s/%s.hdf5", e->folder,
             p->name); /* the stage puts its name before the dot */
    gw_text_quote(t, path);
}

static int add_sinks(gw_text *t, const gw_evaluate *e, const gw_piece *p, const char *source,
                     gw_conf *refractory)
{
    char path[GW_EVALUATE_PATH + 80];
    if (!p->injections) {
        gw_text_add(t, "sinks:\n  rest: {kind: \"null\", from: ");
        for (int i = 0; i < e->n_searches; i++)
            gw_text_add(t, "%s%s", i ? ", " : e->n_searches > 1 ? "[" : "", e->search[i].noise);
        gw_text_add(t, "%s}\n", e->n_searches > 1 ? "]" : "");
        return GW_OK;
    }
    gw_piece_journal(e, p, path);
    gw_text_add(t, "sinks:\n  alerts: {kind: alerts, print: none, from: [");
    for (int i = 0; i < e->n_searches; i++) {
        gw_text_quote(t, e->search[i].name);
        gw_text_add(t, ", ");
    }
    gw_text_quote(t, source);
    gw_text_add(t, "], journal: ");
    gw_text_quote(t, path);
    if (refractory) {
        gw_text_add(t, ", refractory: ");
        GW_TRY(gw_text_node(t, refractory, NULL));
    }
    gw_text_add(t, "}\n");
    return GW_OK;
}

/* ---- the program's own graph ---- */

static int add_plain(gw_text *t, const gw_evaluate *e, const gw_piece *p)
{
    const gw_model *about = &e->search[0].about;
    uint64_t state = seed_of(e, p);
    gw_text_add(t, "sources:\n  sky: {kind: sim, rate: %" PRIu32 "Hz, detectors: [%s], sensitivity: [",
                2 * about->rate_hz, about->detectors);
    int detectors = 1;
    for (const char *c = about->detectors; *c; c++)
        detectors += *c == ',';
    for (int d = 0; d < detectors; d++)
        gw_text_add(t, "%s%.3f", d ? ", " : "", 0.75 + 0.55 * even(&state));
    gw_text_add(t, "], glitches: {rate: 1/30Hz, snr: [4, 80]}");
    add_piece(t, e, p);
    gw_text_add(t,
                "stages:\n  down: {kind: resample, from: sky, rate: %" PRIu32
                "Hz}\n  white: {kind: whiten, from: down}\n",
                about->rate_hz);
    if (p->injections)
        add_search(t, &e->search[0]);
    else
        add_noise(t, e, &e->search[0], p);
    gw_text_add(t, ", from: white}\n");
    return add_sinks(t, e, p, "sky", NULL);
}

/* ---- a --config ---- */

static bool is_kind(gw_conf *c, const char *wanted)
{
    const char *kind = "";
    return gw_conf_get_text(c, "kind", &kind) == GW_OK && strcmp(kind, wanted) == 0;
}

/* The simulation; what other sources there may be does not matter here. */
static int find_sim(gw_evaluate const *e, gw_conf **found, const char **name)
{
    gw_conf *map;
    *found = NULL;
    GW_TRY(gw_conf_need(gw_conf_root(e->graph), "sources", &map));
    for (int i = 0; gw_conf_kind(map) == GW_CONF_MAP && i < gw_conf_count(map); i++) {
        gw_conf *c = gw_conf_item(map, i);
        if (!is_kind(c, "sim"))
            continue;
        if (*found)
            return gw_conf_fail(c, "evaluate wants one sim, this is the second");
        *found = c;
        *name = gw_conf_key(map, i);
    }
    return *found ? GW_OK : gw_conf_fail(map, "evaluate wants a sim here, and there is none");
}

int gw_evaluate_searches(gw_evaluate *e)
{
    gw_conf *map, *node;
    e->search[0] = (gw_search){.name = "search", .noise = "noise"};
    e->n_searches = 1;
    if (!e->graph)
        return GW_OK;
    GW_TRY(gw_conf_need(gw_conf_root(e->graph), "stages", &map));
    e->n_searches = 0;
    for (int i = 0; gw_conf_kind(map) == GW_CONF_MAP && i < gw_conf_count(map); i++) {
        gw_conf *c = gw_conf_item(map, i);
        if (!is_kind(c, "detect"))
            continue;
        if (e->n_searches == GW_EVAL_SEARCHES)
            return gw_conf_fail(c, "evaluate takes at most %d detect stages", GW_EVAL_SEARCHES);
        gw_search *s = &e->search[e->n_searches++];
        s->name = gw_conf_key(map, i);
        GW_TRY(gw_conf_need(c, "model", &node));
        GW_TRY(gw_conf_text(node, &s->asked));
        if (e->n_searches > 1)
            snprintf(s->noise, sizeof s->noise, "noise_%d", e->n_searches);
    }
    return e->n_searches ? GW_OK : gw_conf_fail(map, "evaluate wants a detect here, and there is none");
}

/* Opens the map again that was just written. */
static void reopen(gw_text *t)
{
    if (!t->failed && t->used && t->s[t->used - 1] == '}')
        t->s[--t->used] = '\0';
}

static int add_stages(gw_text *t, const gw_evaluate *e, const gw_piece *p)
{
    /* Neither where it runs nor what it keeps: a piece leaves nothing outside its folder. */
    static const char *const left_out[] = {
        "node", "link", "lanes", "checkpoint", "checkpoint_age", "checkpoint_replay", NULL};
    /* Of detect: how events are told apart, which the background's clusters follow; and how it computes. */
    static const char *const kept[] = {"refractory", "hop"};
    gw_conf *map, *from;
    const gw_search *s = e->search; /* in the order of the graph */
    GW_TRY(gw_conf_need(gw_conf_root(e->graph), "stages", &map));
    gw_text_add(t, "stages:\n");
    for (int i = 0; i < gw_conf_count(map); i++) {
        gw_conf *c = gw_conf_item(map, i);
        if (is_kind(c, "background")) /* evaluate has its own */
            continue;
        if (!is_kind(c, "detect")) {
            gw_text_add(t, "  ");
            gw_text_quote(t, gw_conf_key(map, i));
            gw_text_add(t, ": ");
            GW_TRY(gw_text_node(t, c, left_out));
            gw_text_add(t, "\n");
            continue;
        }
        GW_TRY(gw_conf_need(c, "from", &from));
        if (p->injections)
            add_search(t, s++);
        else
            add_noise(t, e, s++, p);
        gw_text_add(t, ", from: ");
        GW_TRY(gw_text_node(t, from, NULL));
        for (int k = 0; k < (p->injections ? 2 : 1); k++) {
            gw_conf *value = gw_conf_find(c, kept[k]);
            if (!value)
                continue;
            gw_text_add(t, ", %s: ", kept[k]);
            GW_TRY(gw_text_node(t, value, NULL));
        }
        gw_text_add(t, "}\n");
    }
    return GW_OK;
}

/* How the events of several searches become one. */
static gw_conf *find_refractory(const gw_evaluate *e)
{
    gw_conf *map = gw_conf_find(gw_conf_root(e->graph), "sinks"), *found = NULL;
    for (int i = 0; map && !found && gw_conf_kind(map) == GW_CONF_MAP && i < gw_conf_count(map); i++)
        if (is_kind(gw_conf_item(map, i), "alerts"))
            found = gw_conf_find(gw_conf_item(map, i), "refractory");
    return found;
}

static int add_config(gw_text *t, const gw_evaluate *e, const gw_piece *p)
{
    static const char *const of_sim[] = {"seed",  "start", "duration", "pace",  "population", "signals",
                                         "parts", "node",  "link",     "lanes", NULL};
    gw_conf *sim;
    const char *source = NULL;
    GW_TRY(find_sim(e, &sim, &source));
    gw_text_add(t, "sources:\n  ");
    gw_text_quote(t, source);
    gw_text_add(t, ": ");
    GW_TRY(gw_text_node(t, sim, of_sim));
    reopen(t);
    add_piece(t, e, p);
    GW_TRY(add_stages(t, e, p));
    return add_sinks(t, e, p, source, e->n_searches > 1 ? find_refractory(e) : NULL);
}

/* What a piece depends on and its graph names only by a path: with it, an equal text is an equal piece. */
static int add_heading(gw_text *t, const gw_evaluate *e, const gw_piece *p)
{
    char card[GW_SHA256_TEXT] = "";
    gw_text_add(t, "# gwstream " GW_VERSION);
    for (int i = 0; i < e->n_searches; i++) {
        if (p->injections)
            GW_TRY(gw_sha256_file(e->search[i].card, card));
        gw_text_add(t, ", model %s%s%s", e->search[i].sha256, *card ? ", card " : "", card);
    }
    gw_text_add(t, "\n");
    return GW_OK;
}

int gw_piece_graph(const gw_evaluate *e, gw_piece *p)
{
    gw_text t = {0};
    int err = add_heading(&t, e, p);
    if (err == GW_OK && e->graph)
        err = add_config(&t, e, p);
    else if (err == GW_OK)
        err = add_plain(&t, e, p);
    if (err == GW_OK && t.failed)
        err = gw_fail(GW_ENOMEM, "the graph of %s", p->name);
    if (err != GW_OK) {
        free(t.s);
        return err;
    }
    p->yaml = t.s;
    return GW_OK;
}
