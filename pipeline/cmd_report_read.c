/* SPDX-License-Identifier: GPL-3.0-or-later
 * `gwstream report`, one strain channel: opens what belongs to it, feeds it to the measure second by second,
 * gathers what the run told beside it, and hands all to the page. */
#include "kernels/kernels.h"
#include "pipeline/cmd_report.h"
#include "sources/tape.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { BEFORE, AFTER, NOISE, TRUTH, TAPES, PHASE_TOLERANCE_NS = 1000 };
static const char *const suffixes[] = {"", "_CLEANED", "_NOISE", "_COUPLED"};

typedef struct subject {
    const gw_report_input *in;
    const char *strain;
    gw_tape tape[TAPES];
    bool open[TAPES];
    char text[3][2 * GW_NAME_BYTES + 16];
    char remark[256];
    int64_t first; /* second */
    gw_report_band band[GW_REPORT_BANDS];
    gw_report_coupling coupling[GW_REPORT_COUPLINGS];
    gw_report_subject out;
} subject;

/* ---- what there is ---- */

static double gps(const gw_tape *t, int64_t sample)
{
    return (double)gw_sample_to_ns(sample, t->rate, t->phase_ns) * 1e-9;
}

static int open_tape(subject *s, int k)
{
    const gw_report_entry *e = gw_report_find(s->in, s->strain, suffixes[k]);
    if (!e)
        return GW_OK;
    bool twin = false; /* another channel of this name is something else */
    for (int i = 0; i < s->in->n; i++)
        twin = twin || (&s->in->entry[i] != e && !strcmp(s->in->entry[i].name, e->name));
    s->open[k] = true;
    return gw_tape_open(&s->tape[k], e->archive, e->n_archives, e->name, e->wide || twin ? e->path : NULL);
}

static int check_rate(const subject *s, int k)
{
    const gw_tape *t = &s->tape[k], *u = &s->tape[s->open[BEFORE] ? BEFORE : AFTER];
    if (t->rate.den != 1 || t->rate.num % 2 || t->rate.num < 32 || t->rate.num > 1 << 20)
        return gw_fail(GW_ENOTSUP,
                       "%s: %.10g Hz; a report wants strain at a whole, even rate of 32 Hz to 1 MHz", t->name,
                       gw_rate_hz(t->rate));
    if (!gw_rate_equal(t->rate, u->rate) || llabs(t->phase_ns - u->phase_ns) > PHASE_TOLERANCE_NS)
        return gw_fail(GW_EMISMATCH, "%s is at %.10g Hz and %s at %.10g Hz, or they do not lie on one grid",
                       u->name, gw_rate_hz(u->rate), t->name, gw_rate_hz(t->rate));
    return GW_OK;
}

static int open_tapes(subject *s)
{
    for (int k = 0; k < TAPES; k++)
        GW_TRY(open_tape(s, k));
    if (s->open[AFTER] && s->open[BEFORE] && s->open[NOISE]) {
        gw_tape_close(&s->tape[NOISE]); /* two are enough */
        s->open[NOISE] = false;
    }
    if (s->open[BEFORE] + s->open[AFTER] + s->open[NOISE] < 2)
        return gw_fail(GW_EMISSING,
                       "%s%s is there, but nothing to compare it with: record the strain before it too (%s)",
                       s->strain, suffixes[s->open[AFTER] ? AFTER : NOISE], s->strain);
    for (int k = 0; k < TAPES; k++)
        if (s->open[k])
            GW_TRY(check_rate(s, k));
    return GW_OK;
}

/* The whole seconds that all have, as far as they are wanted. The truth must not make them fewer than 8. */
static void overlap(const subject *s, bool truth, int64_t *first, int64_t *end)
{
    int64_t from_ns = s->in->start_ns, to_ns = s->in->end_ns;
    for (int k = 0; k < TAPES; k++) {
        if (!s->open[k] || (k == TRUTH && !truth))
            continue;
        const gw_tape *t = &s->tape[k];
        const int64_t a = gw_sample_to_ns(t->start, t->rate, t->phase_ns),
                      b = gw_sample_to_ns(t->end, t->rate, t->phase_ns);
        from_ns = a > from_ns ? a : from_ns;
        to_ns = b < to_ns ? b : to_ns;
    }
    *first = (from_ns + GW_SECOND_NS - 2) / GW_SECOND_NS;
    *end = (to_ns + 1) / GW_SECOND_NS;
}

static int find_span(subject *s)
{
    int64_t end, plain, plain_end;
    overlap(s, false, &plain, &plain_end);
    overlap(s, true, &s->first, &end);
    if (s->open[TRUTH] && end - s->first < 8 && plain_end > plain) {
        snprintf(s->remark, sizeof s->remark,
                 "%s spans other times (GPS %.3f to %.3f): there is no ideal in this report.",
                 s->tape[TRUTH].name, gps(&s->tape[TRUTH], s->tape[TRUTH].start),
                 gps(&s->tape[TRUTH], s->tape[TRUTH].end));
        s->open[TRUTH] = false;
        gw_tape_close(&s->tape[TRUTH]);
        s->first = plain;
        end = plain_end;
    }
    if (end <= s->first) {
        const gw_tape *a = &s->tape[s->open[BEFORE] ? BEFORE : AFTER],
                      *b = &s->tape[s->open[NOISE] ? NOISE : AFTER];
        return gw_fail(
            GW_ERANGE,
            "nothing to report on: %s spans GPS %.3f to %.3f, %s %.3f to %.3f, and --start and --end may cut "
            "that",
            a->name, gps(a, a->start), gps(a, a->end), b->name, gps(b, b->start), gps(b, b->end));
    }
    s->out.start_gps = s->first;
    s->out.seconds = end - s->first;
    s->out.rate_hz = s->tape[s->open[BEFORE] ? BEFORE : AFTER].rate.num;
    return GW_OK;
}

static void tell_sources(subject *s)
{
    const char *n = s->strain;
    const size_t room = sizeof s->text[0];
    snprintf(s->text[0], room, s->open[BEFORE] ? "%s" : "%s_CLEANED + %s_NOISE", n, n);
    snprintf(s->text[1], room, s->open[AFTER] ? "%s_CLEANED" : "%s - %s_NOISE", n, n);
    snprintf(s->text[2], room, "%s - %s_COUPLED", n, n);
    s->out.strain = s->strain;
    s->out.before = s->text[0];
    s->out.after = s->text[1];
    s->out.truth = s->open[TRUTH] ? s->text[2] : NULL;
    s->out.remark = *s->remark ? s->remark : NULL;
}

/* ---- couplings ---- */

static gw_report_coupling *coupling_of(subject *s, const char *name, size_t n)
{
    for (int i = 0; i < s->out.n_couplings; i++)
        if (strlen(s->coupling[i].name) == n && !strncmp(s->coupling[i].name, name, n))
            return &s->coupling[i];
    if (s->out.n_couplings == GW_REPORT_COUPLINGS || n >= sizeof s->coupling[0].name)
        return NULL;
    gw_report_coupling *c = &s->coupling[s->out.n_couplings++];
    *c = (gw_report_coupling){.open = NAN};
    snprintf(c->name, sizeof c->name, "%.*s", (int)n, name);
    return c;
}

/* "mains:deepclean-demo:0123456789abcdef:57-63,118-122; low:..." as pipeline/block.h has it. */
static void read_cleaning(subject *s)
{
    const gw_tape *t = &s->tape[s->open[AFTER] ? AFTER : NOISE];
    char text[sizeof t->cleaning], *rest = text;
    snprintf(text, sizeof text, "%s", t->cleaning);
    for (char *one; (one = strsep(&rest, ";"));) {
        one += strspn(one, " ");
        char *part[4];
        int n = 0;
        while (n < 4 && (part[n] = strsep(&one, ":")))
            n++;
        gw_report_coupling *c = n == 4 ? coupling_of(s, part[0], strlen(part[0])) : NULL;
        if (!c)
            continue;
        snprintf(c->model, sizeof c->model, "%s", part[1]);
        snprintf(c->hash, sizeof c->hash, "%s", part[2]);
        snprintf(c->bands, sizeof c->bands, "%s", part[3]);
    }
}

/* Couplings that only their streams tell of. */
static void find_couplings(subject *s)
{
    static const char *const kinds[] = {"_ASDR-", "_GATE-", "_MODEL-"};
    const size_t n = strlen(s->strain);
    for (int i = 0; i < s->in->n; i++)
        for (int k = 0; k < 3; k++) {
            const char *name = s->in->entry[i].name;
            if (strncmp(name, s->strain, n) != 0 || strncmp(name + n, kinds[k], strlen(kinds[k])) != 0)
                continue;
            const char *rest = name + n + strlen(kinds[k]);
            size_t m = strlen(rest);
            if (k == 0 && m > 11 && !strcmp(rest + m - 11, "_INTEGRATED"))
                m -= 11;
            else if (k == 0 && m > 4 && !strcmp(rest + m - 4, "_OUT"))
                m -= 4;
            coupling_of(s, rest, m);
        }
}

typedef struct told { /* one of a coupling's streams, as it is averaged */
    gw_report_coupling *c;
    double *sum;
    uint32_t *count;
    int64_t open, known; /* samples */
    uint64_t model;
} told;

static void note_model(told *w, double t_s, double v)
{
    gw_report_coupling *c = w->c;
    const uint64_t model = v >= 0 && v < 4503599627370496.0 ? (uint64_t)v : 0; /* 52 bits */
    if (model == w->model || c->n_models == GW_REPORT_MODELS)
        return;
    w->model = model;
    c->used[c->n_models].t_s = t_s;
    snprintf(c->used[c->n_models++].hash, sizeof c->used[0].hash, "%013llx", (unsigned long long)model);
}

static int average(subject *s, gw_tape *t, told *w, bool model)
{
    enum { PIECE = 4096 };
    double x[PIECE];
    const int64_t from_ns = s->first * GW_SECOND_NS, to_ns = from_ns + s->out.seconds * GW_SECOND_NS;
    const int64_t end = gw_sample_at_or_after(to_ns, t->rate, t->phase_ns);
    for (int64_t at = gw_sample_at_or_after(from_ns, t->rate, t->phase_ns), n; at < end; at += n) {
        n = end - at < PIECE ? end - at : PIECE;
        GW_TRY(gw_tape_read(t, at, (size_t)n, x));
        for (int64_t i = 0; i < n; i++) {
            const double t_s = (double)(gw_sample_to_ns(at + i, t->rate, t->phase_ns) - from_ns) * 1e-9;
            const size_t column = (size_t)(t_s / w->c->step_s);
            if (!isfinite(x[i]) || column >= w->c->n)
                continue;
            w->sum[column] += x[i];
            w->count[column]++;
            w->known++;
            w->open += x[i] > 0.5;
            if (model)
                note_model(w, t_s, x[i]);
        }
    }
    return GW_OK;
}

/* Reads <strain><kind><coupling><tail> into columns; *to NULL where it was not recorded. */
static int read_told(subject *s, gw_report_coupling *c, const char *kind, const char *tail, double **to)
{
    char suffix[GW_NAME_BYTES];
    snprintf(suffix, sizeof suffix, "%s%s%s", kind, c->name, tail);
    const gw_report_entry *e = gw_report_find(s->in, s->strain, suffix);
    if (!e)
        return GW_OK;
    const bool model = !to, gate = to == &c->gate;
    gw_tape t;
    told w = {.c = c, .sum = calloc(c->n, sizeof *w.sum), .count = calloc(c->n, sizeof *w.count)};
    int err = w.sum && w.count
                  ? gw_tape_open(&t, e->archive, e->n_archives, e->name, e->wide ? e->path : NULL)
                  : gw_fail(GW_ENOMEM, "%s", e->name);
    if (w.sum && w.count) {
        if (err == GW_OK)
            err = average(s, &t, &w, model);
        gw_tape_close(&t);
    }
    for (size_t i = 0; err == GW_OK && i < c->n; i++)
        w.sum[i] = w.count[i] ? w.sum[i] / w.count[i] : NAN;
    if (gate && w.known)
        c->open = (double)w.open / (double)w.known;
    if (err == GW_OK && !model)
        *to = w.sum;
    else
        free(w.sum);
    free(w.count);
    return err;
}

static int read_couplings(subject *s)
{
    read_cleaning(s);
    find_couplings(s);
    for (int i = 0; i < s->out.n_couplings; i++) {
        gw_report_coupling *c = &s->coupling[i];
        c->step_s = (double)(1 + s->out.seconds / GW_REPORT_COLUMNS);
        c->n = (size_t)ceil((double)s->out.seconds / c->step_s);
        c->t_s = calloc(c->n, sizeof *c->t_s);
        if (!c->t_s)
            return gw_fail(GW_ENOMEM, "%s", c->name);
        for (size_t k = 0; k < c->n; k++)
            c->t_s[k] = (double)k * c->step_s;
        GW_TRY(read_told(s, c, "_ASDR-", "", &c->ratio));
        GW_TRY(read_told(s, c, "_ASDR-", "_INTEGRATED", &c->integrated));
        GW_TRY(read_told(s, c, "_ASDR-", "_OUT", &c->outside));
        GW_TRY(read_told(s, c, "_GATE-", "", &c->gate));
        GW_TRY(read_told(s, c, "_MODEL-", "", NULL));
    }
    s->out.coupling = s->coupling;
    return GW_OK;
}

/* ---- bands ---- */

static int add_bands(subject *s, const gw_bands *b, const char *whose)
{
    const double nyquist = 0.5 * s->out.rate_hz;
    for (int i = 0; i < b->n && s->out.n_bands < GW_REPORT_BANDS - 16; i++) {
        if (b->hi[i] > nyquist)
            return gw_fail(GW_EUSAGE, "band %g-%g Hz: %s at %u Hz ends at %g Hz; choose with --bands",
                           b->lo[i], b->hi[i], s->strain, s->out.rate_hz, nyquist);
        gw_report_band *o = &s->band[s->out.n_bands++];
        *o = (gw_report_band){.low_hz = b->lo[i], .high_hz = b->hi[i]};
        snprintf(o->name, sizeof o->name, "%.20s%s%g-%g", whose, *whose ? " " : "", b->lo[i], b->hi[i]);
    }
    return GW_OK;
}

static int choose_bands(subject *s)
{
    gw_bands b = s->in->bands;
    if (b.n)
        GW_TRY(add_bands(s, &b, ""));
    for (int i = 0; i < s->out.n_couplings && !s->in->bands.n; i++)
        if (gw_bands_parse(&b, "cleaning", s->coupling[i].bands) == GW_OK)
            GW_TRY(add_bands(s, &b, s->coupling[i].name));
    if (s->out.n_bands == 0) {
        GW_TRY(gw_bands_parse(&b, "bands", "58-62,10-30"));
        GW_TRY(add_bands(s, &b, ""));
    }
    const double top_hz = 0.45 * s->out.rate_hz;
    for (double hz = 8; hz < top_hz && s->out.n_bands < GW_REPORT_BANDS; hz *= 2) {
        gw_report_band *o = &s->band[s->out.n_bands++];
        *o = (gw_report_band){.low_hz = hz, .high_hz = fmin(2 * hz, top_hz), .outside = true};
        snprintf(o->name, sizeof o->name, "%g-%g elsewhere", hz, o->high_hz);
    }
    s->out.band = s->band;
    return GW_OK;
}

/* ---- samples ---- */

static void note_holes(subject *s)
{
    for (int k = 0; k < TAPES; k++) {
        if (!s->open[k])
            continue;
        const gw_tape *t = &s->tape[k];
        const int64_t from_ns = s->first * GW_SECOND_NS;
        const int64_t first = gw_sample_at_or_after(from_ns - 1, t->rate, t->phase_ns),
                      end = first + s->out.seconds * t->rate.num;
        for (int64_t at = first, until; at < end; at = until) {
            const gw_gap_reason why = gw_tape_state(t, at, &until);
            until = until > end || until <= at ? end : until;
            if (why == GW_GAP_NONE)
                continue;
            if (s->out.n_holes == GW_REPORT_HOLES) {
                s->out.more_holes++;
                continue;
            }
            s->out.hole[s->out.n_holes++] = (gw_report_hole){.from_s = (double)(at - first) / t->rate.num,
                                                             .to_s = (double)(until - first) / t->rate.num,
                                                             .channel = t->name,
                                                             .why = gw_gap_reason_text(why)};
        }
    }
}

/* Reads one second of all, makes before, after and the ideal of it. */
static int read_second(subject *s, int64_t second, double *const *x, double *noise)
{
    double *const to[] = {x[GW_RAW], x[GW_CLEAN], noise, x[GW_IDEAL]};
    const size_t n = s->out.rate_hz;
    int64_t at = 0;
    for (int k = 0; k < TAPES; k++) {
        if (!s->open[k])
            continue;
        gw_tape *t = &s->tape[k];
        at = gw_sample_at_or_after((s->first + second) * GW_SECOND_NS - 1, t->rate, t->phase_ns);
        GW_TRY(gw_tape_read(t, at, n, to[k]));
    }
    for (size_t i = 0; i < n; i++) {
        if (!s->open[BEFORE])
            x[GW_RAW][i] = x[GW_CLEAN][i] + noise[i];
        if (!s->open[AFTER])
            x[GW_CLEAN][i] = x[GW_RAW][i] - noise[i];
        x[GW_IDEAL][i] = x[GW_RAW][i] - x[GW_IDEAL][i];
    }
    bool whole = true;
    for (int k = 0; k < (s->open[TRUTH] ? GW_STRAIN_KINDS : GW_IDEAL); k++)
        for (size_t i = 0; i < n && whole; i++)
            whole = isfinite(x[k][i]);
    s->out.lost_s += !whole;
    return GW_OK;
}

static int feed(subject *s, gw_measure *m)
{
    const size_t n = s->out.rate_hz;
    double *all = calloc(4 * n, sizeof *all);
    if (!all)
        return gw_fail(GW_ENOMEM, "%s", s->strain);
    double *x[GW_STRAIN_KINDS] = {all, all + n, all + 2 * n};
    int err = GW_OK;
    for (int64_t second = 0; second < s->out.seconds && err == GW_OK; second++) {
        err = read_second(s, second, x, all + 3 * n);
        if (err == GW_OK)
            err = gw_measure_second(m, (const double *const *)x);
    }
    free(all);
    return err;
}

static int measure(subject *s, gw_report *r)
{
    gw_kernels kernels;
    gw_measure *m;
    GW_TRY(gw_kernels_init(&kernels, GW_KERNELS_CPU));
    GW_TRY(gw_measure_new(&m, &kernels.spectrum, s->out.rate_hz, s->out.seconds, s->band, s->out.n_bands,
                          s->open[TRUTH]));
    int err = feed(s, m);
    if (err == GW_OK && (err = gw_measure_finish(m, &s->out.m)) < 0)
        gw_fail_at(err, "%s", s->strain);
    if (err == GW_OK)
        err = gw_report_add(r, &s->out);
    if (err == GW_OK) {
        printf("%s: %.0f s", s->strain, s->out.m->seconds);
        for (int b = 0; b < s->out.n_bands && !s->band[b].outside; b++)
            printf(", %s Hz %.3f", s->band[b].name, s->out.m->figures[b][GW_CLEAN].mean);
        printf("%s\n",
               s->open[TRUTH] ? " (mean ASD ratio; the ideal is in the report)" : " (mean ASD ratio)");
    }
    gw_measure_destroy(&m);
    return err;
}

int gw_report_strain(const gw_report_input *in, const char *strain, gw_report *r)
{
    subject *s = calloc(1, sizeof *s);
    if (!s)
        return gw_fail(GW_ENOMEM, "%s", strain);
    s->in = in;
    s->strain = strain;
    int err = open_tapes(s);
    if (err == GW_OK)
        err = find_span(s);
    if (err == GW_OK)
        err = read_couplings(s);
    if (err == GW_OK)
        err = choose_bands(s);
    if (err == GW_OK) {
        tell_sources(s);
        note_holes(s);
        err = measure(s, r);
    }
    for (int k = 0; k < TAPES; k++)
        if (s->open[k])
            gw_tape_close(&s->tape[k]);
    for (int i = 0; i < s->out.n_couplings; i++) {
        gw_report_coupling *c = &s->coupling[i];
        double *const of[] = {c->t_s, c->gate, c->ratio, c->integrated, c->outside};
        for (size_t k = 0; k < sizeof of / sizeof *of; k++)
            free(of[k]);
    }
    free(s);
    return err;
}
