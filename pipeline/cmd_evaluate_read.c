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

int gw_evaluate_archive(const gw_evaluate *e, const char *path, gw_eval_background *b)
{
    gw_chance_record r = {0};
    GW_TRY(gw_chance_file_read(&r, path));
    int err = GW_OK;
    if (strcmp(r.rules.model, e->sha256) != 0)
        err = gw_fail(GW_EMISMATCH, "%s was counted with the model of SHA-256 %.16s..., %s has %.16s...",
                      path, r.rules.model, e->model, e->sha256);
    if (err == GW_OK)
        err = add_record(&r, b);
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

/* Each detector's arrival as the event tells it, against the injection's `gps`. */
static int read_arrivals(const gw_event *e, gw_conf *gps, gw_eval_signal *s)
{
    gw_conf_file *file = NULL;
    if (!e->detail[0])
        return GW_OK;
    int err = gw_conf_parse(&file, e->id, e->detail, strlen(e->detail));
    gw_conf *told = err == GW_OK ? gw_conf_find(gw_conf_root(file), "arrivals") : NULL;
    for (int i = 0; told && err == GW_OK && i < gw_conf_count(told) && s->n_arrivals < GW_EVAL_DETECTORS;
         i++) {
        int64_t truth_ns = 0, told_ns = 0;
        double sigma_s = NAN;
        gw_conf *one = gw_conf_item(told, i);
        if (!gw_conf_find(gps, gw_conf_key(told, i)) || !gw_conf_find(one, "gps"))
            continue;
        err = gw_conf_get_gps_ns(gps, gw_conf_key(told, i), &truth_ns);
        if (err == GW_OK)
            err = gw_conf_get_gps_ns(one, "gps", &told_ns);
        const char *text = "";
        if (err == GW_OK)
            err = gw_conf_get_text(one, "sigma_s", &text);
        if (err == GW_OK && *text && strcmp(text, "null") != 0)
            err = gw_parse_double(text, &sigma_s);
        s->arrival_error_s[s->n_arrivals] = (double)(told_ns - truth_ns) / 1e9;
        s->arrival_sigma_s[s->n_arrivals++] = sigma_s;
    }
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
        return read_arrivals(&f->last, gps, s);
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
    char path[GW_EVALUATE_PATH + 64];
    gw_journal *j = NULL;
    reading r = {.piece = p, .all = all};
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
