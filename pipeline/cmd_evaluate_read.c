/* SPDX-License-Identifier: GPL-3.0-or-later
 * What the pieces of an evaluation have left: journals become injections and what was found of each, archives
 * become the background. */
#include "pipeline/cmd_evaluate.h"
#include "pipeline/stages/chance_file.h"
#include "sinks/journal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- archives ---- */

/* All that was slid: the inclusive background, for simulated noise holds no signals to be withdrawn. */
static int add_record(const gw_chance_record *r, gw_eval_background *b)
{
    const gw_chance_memory *m = &r->memory;
    gw_chance *c = NULL;
    uint32_t n = 0;
    GW_TRY(gw_chance_of(&c, r));
    const double floor = gw_chance_floor(c);
    float *statistic = malloc((m->n_triggers + (size_t)1) * sizeof *statistic);
    for (uint32_t i = 0; statistic && i < m->n_triggers; i++)
        if ((double)m->trigger[i].statistic >= floor)
            statistic[n++] = m->trigger[i].statistic;
    const int err = !statistic ? gw_fail(GW_ENOMEM, "%u clusters of noise", m->n_triggers)
                               : gw_eval_background_add(b, statistic, n, gw_chance_slid_s(c, false),
                                                        gw_chance_distinct_s(c), floor);
    free(statistic);
    gw_chance_destroy(&c);
    return err;
}

/* The search that the graph's background stage of this name is `of`, or -1. */
static int search_of(const gw_evaluate *e, const char *stage)
{
    const char *of = "";
    gw_conf *map = e->graph ? gw_conf_find(gw_conf_root(e->graph), "stages") : NULL,
            *c = map && gw_conf_kind(map) == GW_CONF_MAP ? gw_conf_find(map, stage) : NULL;
    if (!c || gw_conf_kind(c) != GW_CONF_MAP || gw_conf_get_text(c, "of", &of) != GW_OK)
        return -1;
    for (int i = 0; i < e->n_searches; i++)
        if (strcmp(e->search[i].name, of) == 0)
            return i;
    return -1;
}

/* Whose archive it is. */
static int find_search(const gw_evaluate *e, const char *path, const gw_chance_record *r, int *found)
{
    int n = 0;
    *found = e->n_searches > 1 ? search_of(e, r->name) : 0;
    for (int i = 0; *found < 0 && i < e->n_searches; i++)
        n += strcmp(r->rules.model, e->search[i].sha256) == 0;
    if (n > 1)
        return gw_fail(
            GW_EMISMATCH,
            "%s is of a stage '%s' and of the model of %d searches; %s has no background of this name, "
            "whose 'of' would say of which it is",
            path, r->name, n, e->config);
    for (int i = 0; *found < 0 && i < e->n_searches; i++)
        if (n == 0 || strcmp(r->rules.model, e->search[i].sha256) == 0)
            *found = i;
    return GW_OK;
}

int gw_evaluate_archive(const gw_evaluate *e, int i, const char *path, gw_eval_search *list)
{
    gw_chance_record r = {0};
    GW_TRY(gw_chance_file_read(&r, path));
    int err = i < 0 ? find_search(e, path, &r, &i) : GW_OK;
    if (err == GW_OK && strcmp(r.rules.model, e->search[i].sha256) != 0)
        err = gw_fail(GW_EMISMATCH, "%s was counted with the model of SHA-256 %.16s..., %s has %.16s...",
                      path, r.rules.model, e->search[i].model, e->search[i].sha256);
    if (err == GW_OK)
        err = add_record(&r, &list[i].noise);
    if (err == GW_OK && e->n_searches > 1) /* which of its network's pairs it is */
        snprintf(list[i].detectors, sizeof list[i].detectors, "%s", r.rules.detectors);
    gw_chance_record_free(&r);
    return err;
}

/* ---- journals ---- */

/* An event: when it was first said, and its last word. */
typedef struct found {
    gw_event last;
    int64_t crossed_ns;
    bool matched;
} found;

typedef struct reading {
    const gw_evaluate *e;
    const gw_piece *piece;
    gw_signals *all;
    found *event; /* [n] */
    size_t n, room;
    uint32_t injections;
} reading;

static int take_row(void *user, const gw_journal_row *row)
{
    reading *r = user;
    for (size_t i = 0; i < r->n; i++)
        if (strcmp(r->event[i].last.id, row->event.id) == 0) {
            r->event[i].last = row->event;
            return 0;
        }
    if (r->n == r->room) {
        const size_t room = r->room ? 2 * r->room : 64;
        found *more = realloc(r->event, room * sizeof *more);
        if (!more)
            return gw_fail(GW_ENOMEM, "%zu events", room);
        r->event = more;
        r->room = room;
    }
    r->event[r->n++] = (found){.last = row->event, .crossed_ns = row->event.due_ns};
    return 0;
}

/* Weakest / strongest of the map of SNRs. */
static int read_ratio(gw_conf *snr, double *ratio)
{
    double least = INFINITY, most = 0;
    for (int i = 0; i < gw_conf_count(snr); i++) {
        double v = 0;
        GW_TRY(gw_conf_double(gw_conf_item(snr, i), 0, 1e9, &v));
        least = fmin(least, v);
        most = fmax(most, v);
    }
    *ratio = most > 0 ? least / most : 0;
    return GW_OK;
}

/* One detector's arrival as the event tells it, against the injection's `gps`. */
static int read_arrival(const char *detector, gw_conf *one, gw_conf *gps, gw_eval_signal *s)
{
    int64_t truth_ns = 0, told_ns = 0;
    double sigma_s = NAN;
    const char *text = "";
    GW_TRY(gw_conf_get_gps_ns(gps, detector, &truth_ns));
    GW_TRY(gw_conf_get_gps_ns(one, "gps", &told_ns));
    GW_TRY(gw_conf_get_text(one, "sigma_s", &text));
    if (*text && strcmp(text, "null") != 0)
        GW_TRY(gw_parse_double(text, &sigma_s));
    snprintf(s->arrival_at[s->n_arrivals], sizeof s->arrival_at[0], "%s", detector);
    s->arrival_error_s[s->n_arrivals] = (double)(told_ns - truth_ns) / 1e9;
    s->arrival_sigma_s[s->n_arrivals++] = sigma_s;
    return GW_OK;
}

/* The injection's arrival at the latest of these detectors ("H1,L1"). */
static int latest_arrival(gw_conf *gps, const char *detectors, int64_t *latest_ns)
{
    *latest_ns = GW_NOT_KNOWN_NS;
    for (int i = 0; i < gw_conf_count(gps); i++) {
        int64_t ns;
        const char *key = gw_conf_key(gps, i), *at = strstr(detectors, key);
        if (!at)
            continue;
        GW_TRY(gw_conf_get_gps_ns(gps, key, &ns));
        *latest_ns = ns > *latest_ns ? ns : *latest_ns;
    }
    return GW_OK;
}

/* Of a set: which searches have a word in the event, and the error of the best word's time at the later one of its own
 * detectors (the event names those of all words). */
static int read_words(const gw_evaluate *e, const gw_event *last, gw_conf *words, gw_conf *gps,
                      gw_eval_signal *s)
{
    for (int i = 0; i < gw_conf_count(words); i++) {
        const char *stream = "", *detectors = "";
        int64_t truth_ns;
        GW_TRY(gw_conf_get_text(gw_conf_item(words, i), "stream", &stream));
        GW_TRY(gw_conf_get_text(gw_conf_item(words, i), "detectors", &detectors));
        for (int k = 0; k < e->n_searches; k++)
            s->searches |= strcmp(e->search[k].name, stream) == 0 ? 1u << k : 0;
        if (strcmp(stream, last->stream) != 0)
            continue;
        GW_TRY(latest_arrival(gps, detectors, &truth_ns));
        if (truth_ns != GW_NOT_KNOWN_NS)
            s->error_s = (double)(last->gps_ns - truth_ns) / 1e9;
    }
    return GW_OK;
}

/* What the event's detail tells beyond its columns. */
static int read_detail(const gw_evaluate *e, const gw_event *last, gw_conf *gps, gw_eval_signal *s)
{
    gw_conf_file *file = NULL;
    if (!last->detail[0])
        return GW_OK;
    int err = gw_conf_parse(&file, last->id, last->detail, strlen(last->detail));
    gw_conf *told = err == GW_OK ? gw_conf_find(gw_conf_root(file), "arrivals") : NULL;
    for (int i = 0; told && err == GW_OK && i < gw_conf_count(told) && s->n_arrivals < GW_EVAL_DETECTORS;
         i++) {
        gw_conf *one = gw_conf_item(told, i);
        if (gw_conf_find(gps, gw_conf_key(told, i)) && gw_conf_find(one, "gps"))
            err = read_arrival(gw_conf_key(told, i), one, gps, s);
    }
    gw_conf *words = err == GW_OK && e->n_searches > 1 ? gw_conf_find(gw_conf_root(file), "branches") : NULL;
    if (words)
        err = read_words(e, last, words, gps, s);
    gw_conf_free(&file);
    return err;
}

static int read_found(reading *r, const gw_journal_truth *t, gw_conf *gps, gw_eval_signal *s)
{
    for (size_t i = 0; i < r->n; i++) {
        found *f = &r->event[i];
        if (strcmp(f->last.id, t->id) != 0)
            continue;
        f->matched = true;
        s->found[GW_PER_HOUR] = true;
        s->found[GW_PER_DAY] = t->alert;
        s->statistic = f->last.statistic;
        s->error_s = t->offset_s;
        s->sigma_s = f->last.gps_error_s > 0 ? f->last.gps_error_s : NAN;
        s->latency_s = f->crossed_ns == GW_NOT_KNOWN_NS ? NAN : (double)(f->crossed_ns - t->gps_ns) / 1e9;
        snprintf(s->detectors, sizeof s->detectors, "%s", f->last.detectors);
        return read_detail(r->e, &f->last, gps, s);
    }
    return GW_OK;
}

static int read_truth(reading *r, const gw_journal_truth *t, gw_conf *detail)
{
    gw_eval_signal s = {
        .snr = r->piece->snr, .statistic = NAN, .error_s = NAN, .sigma_s = NAN, .latency_s = NAN};
    double snr = 0, distance_mpc = 0;
    gw_conf *snrs, *gps;
    GW_TRY(gw_conf_get_double(detail, "chirp_mass", 0, 1e6, &s.chirp_mass));
    GW_TRY(gw_conf_get_double(detail, "network_snr", 0, 1e6, &snr));
    GW_TRY(gw_conf_get_double(detail, "distance_mpc", 0, 1e12, &distance_mpc));
    GW_TRY(gw_conf_need(detail, "snr", &snrs));
    GW_TRY(gw_conf_need(detail, "gps", &gps));
    GW_TRY(read_ratio(snrs, &s.ratio));
    s.unit_snr = snr * distance_mpc;
    if (t->found)
        GW_TRY(read_found(r, t, gps, &s));
    gw_signals *all = r->all;
    if (all->n == all->room) {
        const size_t room = all->room ? 2 * all->room : 1024;
        gw_eval_signal *more = realloc(all->s, room * sizeof *more);
        if (!more)
            return gw_fail(GW_ENOMEM, "%zu injections", room);
        all->s = more;
        all->room = room;
    }
    all->s[all->n++] = s;
    return GW_OK;
}

static int take_truth(void *user, const gw_journal_truth *t)
{
    reading *r = user;
    gw_conf_file *file = NULL;
    r->injections++;
    GW_TRY(gw_conf_parse(&file, r->piece->name, t->detail, strlen(t->detail)));
    const int err = read_truth(r, t, gw_conf_root(file));
    gw_conf_free(&file);
    return err;
}

int gw_piece_read(const gw_evaluate *e, const gw_piece *p, gw_signals *all)
{
    char path[GW_EVALUATE_PATH + 80];
    gw_journal *j = NULL;
    reading r = {.e = e, .piece = p, .all = all};
    gw_piece_journal(e, p, path);
    GW_TRY(gw_journal_open_read(&j, path));
    int err = gw_journal_each(j, &(gw_journal_query){0}, take_row, &r);
    if (err == GW_OK)
        err = gw_journal_each_truth(j, &(gw_journal_truths){0}, take_truth, &r);
    gw_journal_close(&j);
    for (size_t i = 0; i < r.n; i++)
        all->chance += !r.event[i].matched && r.event[i].last.phase != GW_PHASE_RETRACTED;
    free(r.event);
    if (err == GW_OK && r.injections != (uint32_t)p->injections)
        err = gw_fail(GW_EFORMAT, "%s: %u injections instead of %d: the run was ended early", path,
                      r.injections, p->injections);
    return err;
}
