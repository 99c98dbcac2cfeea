/* SPDX-License-Identifier: GPL-3.0-or-later
 * In rounds: the channels that are coherent by themselves are the first candidates; what the chosen of them
 * leave of strain is laid against every channel again, for a weak witness is hidden under a strong one. */
#include "sinks/rank_table.h"

#include "kernels/coherence.h"
#include "pipeline/parallel.h"
#include "sinks/rank_measure.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { ROUNDS = 4 };
static const double copy_coherence = 0.8, false_alarms = 0.01, false_refusals = 1e-4, enough = 0.8;

typedef struct work {
    const gw_rank_spectra *s;
    gw_rank_table *table;
    int64_t from, to; /* seconds */
    int n_targets;
    gw_rank_target target[GW_RANK_TARGETS], residual[GW_RANK_TARGETS];
    uint32_t n;
    int *stream;        /* [n] */
    uint32_t *channel;  /* [n] */
    gw_rank_measure *m; /* [n] */
    bool again;         /* measure against the residuals */
    uint32_t chosen;
    uint32_t candidate[GW_RANK_CANDIDATES]; /* number of a channel */
    uint32_t n_candidates;
    gw_gram gram[GW_RANK_TARGETS];
    bool may[GW_RANK_TARGETS][GW_RANK_CANDIDATES];
    int at_hand; /* target */
    gw_choice choice[GW_RANK_CANDIDATES];
    uint32_t taken[GW_RANK_TARGETS][GW_RANK_CANDIDATES]; /* channels taken out of a target */
    uint32_t n_taken[GW_RANK_TARGETS];
} work;

/* ---- Each channel ---- */

static void measure_one(const work *w, uint32_t i)
{
    const int stream = w->stream[i];
    const uint32_t c = w->channel[i];
    gw_rank_measure *m = &w->m[i];
    for (int k = 0; k < w->n_targets; k++)
        if (w->again)
            m->left[k] =
                fmin(m->left[k], gw_rank_measure_chance(w->s, &w->residual[k], stream, c, w->n_taken[k]));
        else
            gw_rank_measure_target(w->s, &w->target[k], k, stream, c, m);
    if (!w->again)
        gw_rank_look_broadly(w->s, w->from, w->to, stream, c, m);
}

static int measure_some(void *arg, size_t i)
{
    const work *w = arg;
    for (uint32_t k = (uint32_t)i * 4; k < w->n && k < (uint32_t)i * 4 + 4; k++)
        measure_one(w, k);
    return GW_OK;
}

/* ---- The choice ---- */

/* The matrix of one bin. What lacks a candidate's segment is left out. */
static int fill_gram(void *arg, size_t bin)
{
    work *w = arg;
    const gw_rank_target *t = &w->target[w->at_hand];
    const gw_gram *g = &w->gram[w->at_hand];
    const size_t m = g->channels + 1;
    gw_complex *all = g->g + bin * m * m, x[GW_RANK_CANDIDATES + 1];
    for (size_t i = 0; i < t->n; i++) {
        bool whole = true;
        for (uint32_t k = 0; k < w->n_candidates && whole; k++) {
            const uint32_t c = w->candidate[k];
            const gw_bin *row = gw_rank_target_row(w->s, t, w->stream[c], w->channel[c], i);
            whole = row != NULL;
            if (whole)
                x[k] = (gw_complex){(double)row[bin % t->bins].re, (double)row[bin % t->bins].im};
        }
        if (!whole)
            continue;
        x[m - 1] = (gw_complex){(double)t->y[i][bin].re, (double)t->y[i][bin].im};
        for (size_t a = 0; a < m; a++)
            for (size_t b = a; b < m; b++) {
                all[a * m + b].re += x[a].re * x[b].re + x[a].im * x[b].im;
                all[a * m + b].im += x[a].im * x[b].re - x[a].re * x[b].im;
            }
    }
    for (size_t a = 0; a < m; a++)
        for (size_t b = 0; b < a; b++)
            all[a * m + b] = (gw_complex){all[b * m + a].re, -all[b * m + a].im};
    return GW_OK;
}

static size_t common_segments(const work *w, const gw_rank_target *t, const uint32_t *channel, uint32_t n)
{
    size_t whole = 0;
    for (size_t i = 0; i < t->n; i++) {
        uint32_t k = 0;
        while (k < n && gw_rank_target_row(w->s, t, w->stream[channel[k]], w->channel[channel[k]], i))
            k++;
        whole += k == n;
    }
    return whole;
}

static int choose(work *w, uint32_t most)
{
    int err = GW_OK;
    const size_t m = w->n_candidates + 1;
    for (int k = 0; k < w->n_targets && err == GW_OK; k++) {
        const gw_rank_target *t = &w->target[k];
        const uint32_t bins = t->sides * t->bins;
        const size_t n = common_segments(w, t, w->candidate, w->n_candidates);
        w->gram[k] = (gw_gram){.bins = n < GW_RANK_LEAST_SEGMENTS ? 0 : bins,
                               .channels = w->n_candidates,
                               .step = t->step,
                               .averages = gw_coherence_averages((double)n),
                               .g = calloc((size_t)bins * m * m, sizeof(gw_complex))};
        for (uint32_t c = 0; c < w->n_candidates; c++) {
            const gw_rank_measure *of = &w->m[w->candidate[c]];
            w->may[k][c] = fmin(of->chance[k], of->left[k]) < w->table->log_limit;
        }
        w->gram[k].may = w->may[k];
        w->at_hand = k;
        if (!w->gram[k].g)
            err = gw_fail(GW_ENOMEM, "the ranking");
        else
            err = gw_parallel(GW_BULK, w->gram[k].bins, fill_gram, w);
    }
    if (err == GW_OK)
        err =
            gw_coherence_choose(w->gram, w->n_targets, w->table->log_limit, most, w->choice, w->table->ratio);
    w->chosen = err > 0 ? (uint32_t)err : 0;
    for (int k = 0; k < w->n_targets; k++) {
        free(w->gram[k].g);
        w->gram[k].g = NULL;
    }
    return err < 0 ? err : GW_OK;
}

/* What the chosen channels leave of y in one bin. */
static int fill_residual(void *arg, size_t bin)
{
    work *w = arg;
    const gw_rank_target *t = &w->target[w->at_hand], *r = &w->residual[w->at_hand];
    const size_t n = r->n, bins = t->sides * t->bins;
    const uint32_t m = w->n_taken[w->at_hand], *taken = w->taken[w->at_hand];
    gw_complex *q = calloc((m + 1) * n + 1, sizeof *q);
    if (!q)
        return gw_fail(GW_ENOMEM, "the ranking");
    for (uint32_t k = 0; k <= m; k++) {
        gw_complex *x = q + k * n;
        size_t to = 0;
        for (size_t i = 0; i < t->n && to < n; i++) {
            if (t->at[i] != r->at[to])
                continue;
            const gw_bin *row =
                k == m ? &t->y[i][bin]
                       : gw_rank_target_row(w->s, t, w->stream[taken[k]], w->channel[taken[k]], i) +
                             bin % t->bins;
            x[to++] = (gw_complex){(double)row->re, (double)row->im};
        }
        double before = 0, after = 0;
        for (size_t i = 0; i < n; i++)
            before += x[i].re * x[i].re + x[i].im * x[i].im;
        for (uint32_t j = 0; j < k; j++) {
            const gw_complex *u = q + j * n;
            gw_complex z = {0, 0};
            for (size_t i = 0; i < n; i++) {
                z.re += x[i].re * u[i].re + x[i].im * u[i].im;
                z.im += x[i].im * u[i].re - x[i].re * u[i].im;
            }
            for (size_t i = 0; i < n; i++) {
                x[i].re -= z.re * u[i].re - z.im * u[i].im;
                x[i].im -= z.re * u[i].im + z.im * u[i].re;
            }
        }
        for (size_t i = 0; i < n; i++)
            after += x[i].re * x[i].re + x[i].im * x[i].im;
        const double scale = k == m ? 1 : after > 1e-9 * before ? 1 / sqrt(after) : 0;
        for (size_t i = 0; i < n; i++) {
            x[i].re *= scale;
            x[i].im *= scale;
        }
    }
    for (size_t i = 0; i < n; i++)
        r->own[i * bins + bin] = (gw_bin){(float)q[m * n + i].re, (float)q[m * n + i].im};
    free(q);
    return GW_OK;
}

static int make_residuals(work *w)
{
    for (int k = 0; k < w->n_targets; k++) {
        const uint32_t *channel = w->taken[k];
        const gw_rank_target *t = &w->target[k];
        gw_rank_target *r = &w->residual[k];
        const size_t bins = t->sides * t->bins;
        gw_rank_target_free(r);
        w->n_taken[k] = 0;
        *r = *t;
        r->at = NULL, r->y = NULL, r->own = NULL, r->n = 0;
        GW_TRY(gw_rank_target_new(r, t->n));
        r->own = calloc(t->n * bins + 1, sizeof *r->own);
        if (!r->own)
            return gw_fail(GW_ENOMEM, "the ranking");
        for (uint32_t c = 0; c < w->chosen; c++)
            if (w->choice[c].bands >> k & 1)
                w->taken[k][w->n_taken[k]++] = w->candidate[w->choice[c].channel];
        for (size_t i = 0; i < t->n; i++) {
            uint32_t c = 0;
            while (c < w->n_taken[k] &&
                   gw_rank_target_row(w->s, t, w->stream[channel[c]], w->channel[channel[c]], i))
                c++;
            if (c < w->n_taken[k])
                continue;
            r->at[r->n] = t->at[i];
            r->y[r->n] = r->own + r->n * bins;
            r->n++;
        }
        w->at_hand = k;
        GW_TRY(gw_parallel(GW_BULK, bins, fill_residual, w));
    }
    return GW_OK;
}

/* ---- The order ---- */

static double least_of(const double *x, int n, int *where)
{
    double best = 0;
    *where = 0;
    for (int i = 0; i < n; i++)
        if (x[i] < best) {
            best = x[i];
            *where = i;
        }
    return best;
}

static void judge(const work *w, uint32_t i, gw_rank_entry *e)
{
    const gw_rank_measure *m = &w->m[i];
    int where, left_where;
    const double left = least_of(m->left, w->n_targets, &left_where);
    *e = (gw_rank_entry){.stream = w->stream[i],
                         .channel = w->channel[i],
                         .name = w->s->stream[w->stream[i]].name[w->channel[i]],
                         .log_chance = least_of(m->chance, w->n_targets, &where),
                         .broad = m->broad};
    if (left < e->log_chance) {
        e->log_chance = left;
        where = left_where;
    }
    e->target = where;
    e->peak = m->peak[where];
    e->peak_hz = m->peak_hz[where];
    e->verdict = e->log_chance < w->table->log_limit ? GW_RANK_COHERENT : GW_RANK_CHANCE;
    if (w->s->stream[e->stream].refused[e->channel])
        e->verdict = GW_RANK_LISTED;
    else if (m->broad > copy_coherence)
        e->verdict = GW_RANK_COPY;
    else if (m->unsafe < log(false_refusals / w->n)) {
        e->verdict = GW_RANK_UNSAFE;
        e->log_chance = m->unsafe;
    } else if (m->good <= 0)
        e->verdict = GW_RANK_NO_DATA;
}

static int by_rank(const void *a, const void *b)
{
    const gw_rank_entry *x = a, *y = b;
    if (x->verdict != y->verdict)
        return x->verdict < y->verdict ? -1 : 1;
    if (x->log_chance < y->log_chance || x->log_chance > y->log_chance)
        return x->log_chance < y->log_chance ? -1 : 1;
    return strcmp(x->name, y->name);
}

/* Candidates: those chosen before, then the least probable by chance, of those that are not chance. */
static int find_candidates(work *w)
{
    gw_rank_entry *e = calloc(w->n + 1, sizeof *e);
    if (!e)
        return gw_fail(GW_ENOMEM, "the ranking");
    uint32_t kept[GW_RANK_CANDIDATES];
    for (uint32_t k = 0; k < w->chosen; k++)
        kept[k] = w->candidate[w->choice[k].channel];
    uint32_t m = 0;
    for (uint32_t i = 0; i < w->n; i++) {
        judge(w, i, &e[m]);
        e[m].peak_hz = i; /* which one it is */
        if (e[m].verdict <= GW_RANK_COHERENT && w->m[i].good >= enough) {
            for (uint32_t k = 0; k < w->chosen; k++)
                if (kept[k] == i)
                    e[m].verdict = GW_RANK_CHOSEN;
            m++;
        }
    }
    qsort(e, m, sizeof *e, by_rank);
    w->n_candidates = m < GW_RANK_CANDIDATES ? m : GW_RANK_CANDIDATES;
    for (uint32_t k = 0; k < w->n_candidates; k++)
        w->candidate[k] = (uint32_t)e[k].peak_hz;
    free(e);
    return GW_OK;
}

static void put_in_order(work *w)
{
    gw_rank_table *t = w->table;
    for (uint32_t i = 0; i < w->n; i++)
        judge(w, i, &t->entry[i]);
    for (uint32_t k = 0; k < w->chosen; k++) {
        const gw_choice *c = &w->choice[k];
        const uint32_t i = w->candidate[c->channel];
        gw_rank_entry *e = &t->entry[i];
        e->verdict = GW_RANK_CHOSEN;
        e->target = c->band;
        e->peak = w->m[i].peak[c->band];
        e->peak_hz = w->m[i].peak_hz[c->band];
        e->log_chance = -1e30 + k * 1e20; /* sorts in the order of choice; put right below */
    }
    qsort(t->entry, w->n, sizeof *t->entry, by_rank);
    for (uint32_t k = 0; k < w->chosen; k++)
        t->entry[k].log_chance = w->choice[k].log_chance;
    t->n = w->n;
    t->n_chosen = w->chosen;
}

/* ---- The whole ---- */

static int list_channels(work *w)
{
    const gw_rank_spectra *s = w->s;
    uint32_t n = 0;
    for (int i = 0; i < s->n_streams; i++)
        n += s->stream[i].channels;
    w->stream = calloc(n, sizeof *w->stream);
    w->channel = calloc(n, sizeof *w->channel);
    w->m = calloc(n, sizeof *w->m);
    w->table->entry = calloc(n, sizeof *w->table->entry);
    w->table->ratio = calloc((size_t)GW_RANK_CANDIDATES * (size_t)w->n_targets + 1, sizeof *w->table->ratio);
    if (!w->stream || !w->channel || !w->m || !w->table->entry || !w->table->ratio)
        return gw_fail(GW_ENOMEM, "the ranking of %u channels", n);
    for (int i = 0; i < s->n_streams; i++)
        for (uint32_t c = 0; c < s->stream[i].channels; c++) {
            if (i == s->strain_stream && c == s->strain)
                continue;
            w->stream[w->n] = i;
            w->channel[w->n++] = c;
        }
    return GW_OK;
}

static int rank_all(work *w, uint32_t most)
{
    gw_rank_table *t = w->table;
    GW_TRY(list_channels(w));
    for (int k = 0; k < w->n_targets; k++)
        GW_TRY(gw_rank_target_fill(w->s, k, w->from, w->to, &w->target[k]));
    for (int64_t j = w->from; j < w->to; j++) {
        bool injected = false;
        if (!gw_rank_row(w->s, w->s->strain_stream, w->s->strain, j, &injected))
            continue;
        t->segments++;
        t->injected += injected;
    }
    for (int k = w->s->n_bands; k < w->n_targets; k++)
        t->slow_segments =
            (uint32_t)w->target[k].n > t->slow_segments ? (uint32_t)w->target[k].n : t->slow_segments;
    t->log_limit = log(false_alarms / ((double)w->n * w->n_targets + 1));
    const size_t pieces = (w->n + 3) / 4;
    GW_TRY(gw_parallel(GW_BULK, pieces, measure_some, w));
    GW_TRY(find_candidates(w));
    GW_TRY(choose(w, most));
    uint32_t before = 0;
    for (int round = 1; round < ROUNDS && w->chosen > before; round++) {
        before = w->chosen;
        GW_TRY(make_residuals(w));
        w->again = true;
        GW_TRY(gw_parallel(GW_BULK, pieces, measure_some, w));
        GW_TRY(find_candidates(w));
        GW_TRY(choose(w, most));
    }
    put_in_order(w);
    return GW_OK;
}

int gw_rank_table_make(gw_rank_table *t, const gw_rank_spectra *s, int64_t to_s, int64_t memory_s,
                       uint32_t most)
{
    *t = (gw_rank_table){.from_s = to_s - memory_s, .to_s = to_s, .n_targets = s->n_bands + s->n_lines};
    work *w = calloc(1, sizeof *w);
    if (!w)
        return gw_fail(GW_ENOMEM, "the ranking");
    *w = (work){.s = s, .table = t, .from = t->from_s, .to = to_s, .n_targets = t->n_targets};
    const int err = rank_all(w, most < GW_RANK_CANDIDATES ? most : GW_RANK_CANDIDATES);
    for (int k = 0; k < w->n_targets; k++) {
        gw_rank_target_free(&w->target[k]);
        gw_rank_target_free(&w->residual[k]);
    }
    free(w->stream);
    free(w->channel);
    free(w->m);
    free(w);
    if (err != GW_OK)
        gw_rank_table_free(t);
    return err;
}

void gw_rank_table_free(gw_rank_table *t)
{
    free(t->entry);
    free(t->ratio);
    *t = (gw_rank_table){0};
}
