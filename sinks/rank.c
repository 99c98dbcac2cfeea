/* SPDX-License-Identifier: GPL-3.0-or-later
 * kind: rank. Which channels are witnesses of strain's noise: every minute a table, most useful first. Takes
 * strain and any number of other streams, whatever their rates. `gwstream witness rank` runs a graph with it.
 *
 *   strain: H1:STRAIN            the channel to be explained; may be left out where one stream has unit
 * strain bands: [[10Hz, 30Hz], ...]   where coherence is looked for; at most 48 bins of each are used lines:
 * [60Hz]                whose sidebands are compared with each channel's slow motion memory: 300s what a
 * table is made of every: 1min                  how often; on the absolute grid duration: none what comes
 * later is not looked at top: 32                      channels to choose at most, and to tell of besides
 *   refuse: [PATTERN] or FILE    channels never to be chosen, beside H1:STRAIN_*; shell patterns
 *   path, json, list, picture    files; one at least
 *
 * The arithmetic is in rank_spectra.c and rank_table.c. Changes nothing and publishes nothing. */
#include "pipeline/log.h"
#include "pipeline/nearest.h"
#include "pipeline/stage.h"
#include "sinks/rank_write.h"

#include <errno.h>
#include <fnmatch.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_RATE = 1 << 17, LEAST_MEMORY_S = 32, MOST_MEMORY_S = 3600 };

typedef struct rank {
    gw_env *env;
    const char *name, *strain, *path, *json, *list, *picture;
    int64_t memory_s, every_s, duration_s, top;
    char **pattern;
    uint32_t n_patterns;
    gw_spec spec[GW_MAX_PORTS]; /* for their names */
    int n_specs;
    gw_rank_spectra spectra;
    int64_t began_s, told_s; /* first second; end of the last table. INT64_MIN: none */
    bool over;
} rank;

/* ---- configuration ---- */

static int read_frequency(gw_conf *c, const char *key, double *hz)
{
    const char *text;
    GW_TRY(gw_conf_text(c, &text));
    if (gw_parse_frequency(text, hz) != GW_OK)
        return gw_conf_fail(c, "%s: '%.32s' is not a frequency such as 60Hz", key, text);
    return GW_OK;
}

static int read_bands(rank *r, gw_conf *conf)
{
    gw_rank_spectra *s = &r->spectra;
    gw_conf *list = gw_conf_find(conf, "bands"), *lines = gw_conf_find(conf, "lines");
    if ((list && gw_conf_kind(list) != GW_CONF_LIST) || (lines && gw_conf_kind(lines) != GW_CONF_LIST))
        return gw_conf_fail(conf, "rank: bands and lines are lists: bands: [[10Hz, 30Hz]], lines: [60Hz]");
    s->n_bands = list ? gw_conf_count(list) : 0;
    s->n_lines = lines ? gw_conf_count(lines) : 0;
    if (s->n_bands > GW_RANK_BANDS || s->n_lines > GW_RANK_BANDS)
        return gw_conf_fail(conf, "rank: at most %d bands and as many lines", GW_RANK_BANDS);
    for (int i = 0; i < s->n_bands; i++) {
        gw_conf *pair = gw_conf_item(list, i);
        gw_rank_band *b = &s->band[i];
        if (gw_conf_kind(pair) != GW_CONF_LIST || gw_conf_count(pair) != 2)
            return gw_conf_fail(pair, "bands: each is a list of two frequencies: [10Hz, 30Hz]");
        GW_TRY(read_frequency(gw_conf_item(pair, 0), "bands", &b->low_hz));
        GW_TRY(read_frequency(gw_conf_item(pair, 1), "bands", &b->high_hz));
        if (b->low_hz < 1 || b->high_hz < b->low_hz + 0.5)
            return gw_conf_fail(pair, "bands: from %g to %g Hz; rising, from 1 Hz on, at least 0.5 Hz wide",
                                b->low_hz, b->high_hz);
    }
    for (int i = 0; i < s->n_lines; i++) {
        GW_TRY(read_frequency(gw_conf_item(lines, i), "lines", &s->line[i].hz));
        if (s->line[i].hz < 10)
            return gw_conf_fail(gw_conf_item(lines, i), "lines: %g Hz; from 10 Hz on", s->line[i].hz);
        s->line[i].hz = (double)lround(s->line[i].hz * GW_RANK_SEGMENT_S) / GW_RANK_SEGMENT_S;
    }
    if (!list && !lines) { /* the field's first two, and mains with their sidebands */
        s->n_bands = 2;
        s->band[0] = (gw_rank_band){.low_hz = 10, .high_hz = 30};
        s->band[1] = (gw_rank_band){.low_hz = 57, .high_hz = 63};
        s->n_lines = 1;
        s->line[0].hz = 60;
    }
    if (s->n_bands + s->n_lines == 0)
        return gw_conf_fail(conf, "rank: neither bands nor lines: nothing to explain");
    return GW_OK;
}

static int add_pattern(rank *r, const char *text)
{
    char **all = realloc(r->pattern, (r->n_patterns + 1) * sizeof *all);
    if (!all)
        return gw_fail(GW_ENOMEM, "refuse");
    r->pattern = all;
    r->pattern[r->n_patterns] = strdup(text);
    return r->pattern[r->n_patterns++] ? GW_OK : gw_fail(GW_ENOMEM, "refuse");
}

/* A pattern a line; what follows # is a remark. */
static int read_patterns(rank *r, gw_conf *where, const char *path)
{
    FILE *f = fopen(path, "r");
    char line[256];
    int err = f ? GW_OK : gw_conf_fail(where, "refuse: %s: %s", path, strerror(errno));
    while (err == GW_OK && fgets(line, sizeof line, f)) {
        line[strcspn(line, "#\r\n")] = '\0';
        char *from = line + strspn(line, " \t");
        from[strcspn(from, " \t")] = '\0';
        if (*from)
            err = add_pattern(r, from);
    }
    if (f)
        fclose(f);
    return err;
}

/* Those of the configuration, and what cleaning makes of the strain itself: H1:STRAIN_NOISE would explain it
 * best. */
static int read_refused(rank *r, gw_conf *conf)
{
    gw_conf *list = gw_conf_find(conf, "refuse");
    const char *text;
    char made[GW_NAME_BYTES + 2];
    snprintf(made, sizeof made, "%.*s_*", GW_NAME_BYTES - 1, r->strain ? r->strain : "");
    if (r->strain)
        GW_TRY(add_pattern(r, made));
    if (!list)
        return GW_OK;
    if (gw_conf_kind(list) != GW_CONF_LIST) {
        GW_TRY(gw_conf_text(list, &text));
        return read_patterns(r, list, text);
    }
    for (int i = 0; i < gw_conf_count(list); i++) {
        GW_TRY(gw_conf_text(gw_conf_item(list, i), &text));
        GW_TRY(add_pattern(r, text));
    }
    return GW_OK;
}

static int read_seconds(gw_conf *conf, const char *key, int64_t low, int64_t high, int64_t *value)
{
    gw_rate span = {(uint32_t)*value, 1};
    gw_conf *node = gw_conf_find(conf, key);
    if (!node)
        return GW_OK;
    GW_TRY(gw_conf_get_span(conf, key, &span));
    if (span.den != 1 || (int64_t)span.num < low || (int64_t)span.num > high)
        return gw_conf_fail(node, "%s: whole seconds, %" PRId64 " to %" PRId64, key, low, high);
    *value = (int64_t)span.num;
    return GW_OK;
}

static int configure(void *self, gw_conf *conf)
{
    rank *r = self;
    r->name = "rank";
    r->memory_s = 300;
    r->every_s = 60;
    r->top = 32;
    r->began_s = r->told_s = INT64_MIN;
    GW_TRY(gw_conf_get_text(conf, "strain", &r->strain));
    GW_TRY(read_bands(r, conf));
    GW_TRY(read_refused(r, conf));
    GW_TRY(read_seconds(conf, "memory", LEAST_MEMORY_S, MOST_MEMORY_S, &r->memory_s));
    GW_TRY(read_seconds(conf, "every", 1, 86400, &r->every_s));
    GW_TRY(read_seconds(conf, "duration", LEAST_MEMORY_S, 1000000, &r->duration_s));
    GW_TRY(gw_conf_get_int(conf, "top", 1, GW_RANK_CANDIDATES, &r->top));
    const struct {
        const char *key, **path;
    } file[] = {{"path", &r->path}, {"json", &r->json}, {"list", &r->list}, {"picture", &r->picture}};
    bool any = false;
    for (size_t i = 0; i < sizeof file / sizeof *file; i++) {
        GW_TRY(gw_conf_get_text(conf, file[i].key, file[i].path));
        any = any || *file[i].path;
        if (*file[i].path && (!**file[i].path || strlen(*file[i].path) > 900))
            return gw_conf_fail(gw_conf_find(conf, file[i].key),
                                "%s: the name of a file of at most 900 bytes", file[i].key);
    }
    return any ? GW_OK : gw_conf_fail(conf, "rank: nowhere to write to: path, json, list or picture");
}

/* ---- shapes ---- */

static int find_strain(rank *r, const gw_plan *plan)
{
    gw_rank_spectra *s = &r->spectra;
    int found = 0;
    for (int i = 0; i < plan->n_in; i++)
        for (uint32_t c = 0; c < plan->in[i].n_channels; c++) {
            const gw_spec *in = &plan->in[i];
            const bool is = r->strain ? in->channel && strcmp(in->channel[c], r->strain) == 0
                                      : strcmp(in->unit, "strain") == 0 && in->n_channels == 1;
            if (!is)
                continue;
            s->strain_stream = i;
            s->strain = c;
            found++;
        }
    if (found == 1)
        return GW_OK;
    char near[4 * GW_NAME_BYTES];
    if (!r->strain)
        return gw_fail(GW_ECONFIG, "%s; say which channel is to be explained: strain: H1:STRAIN",
                       found ? "there are several streams of strain" : "no stream is strain by its unit");
    if (found)
        return gw_fail(GW_ECONFIG, "channel %s comes %d times", r->strain, found);
    gw_nearest_channels(plan->in, plan->n_in, r->strain, near, sizeof near);
    return gw_fail(GW_ECONFIG, "there is no channel %s (nearest: %s)", r->strain, near);
}

static int plan_stream(const gw_spec *in, gw_rank_stream *t)
{
    if (in->dtype == GW_U8)
        return gw_fail(GW_EMISMATCH, "%s holds no numbers", in->name);
    if (in->rate.den != 1 || in->rate.num < 1 || in->rate.num > MOST_RATE)
        return gw_fail(GW_EMISMATCH, "%s at %g Hz: wants a whole number of samples a second, at most %d",
                       in->name, gw_rate_hz(in->rate), MOST_RATE);
    t->dtype = in->dtype;
    t->rate = (uint32_t)in->rate.num;
    t->channels = in->n_channels;
    return GW_OK;
}

static int plan_rank(void *self, gw_plan *plan)
{
    rank *r = self;
    gw_rank_spectra *s = &r->spectra;
    GW_TRY(find_strain(r, plan));
    s->n_streams = plan->n_in;
    uint32_t n = 0;
    for (int i = 0; i < plan->n_in; i++) {
        GW_TRY(plan_stream(&plan->in[i], &s->stream[i]));
        n += plan->in[i].n_channels;
    }
    if (n < 2)
        return gw_fail(GW_ECONFIG, "only strain comes in: name the witnesses' streams too");
    const double top_hz = s->stream[s->strain_stream].rate / 2.0;
    for (int i = 0; i < s->n_bands; i++)
        if (s->band[i].high_hz >= top_hz)
            return gw_fail(GW_ERANGE, "a band up to %g Hz; strain's rate allows less than %g Hz",
                           s->band[i].high_hz, top_hz);
    for (int i = 0; i < s->n_lines; i++)
        if (s->line[i].hz + 8 >= top_hz)
            return gw_fail(GW_ERANGE, "a line at %g Hz; strain's rate allows less than %g Hz", s->line[i].hz,
                           top_hz - 8);
    for (int i = 0; i < plan->n_in; i++, r->n_specs++)
        GW_TRY(gw_spec_copy(&r->spec[i], &plan->in[i]));
    gw_rank_spectra_layout(s, r->memory_s);
    plan->memory_bytes = gw_rank_spectra_bytes(s, plan->threads);
    snprintf(plan->note, sizeof plan->note,
             "%" PRIu32 " channels, %" PRIu32 " bins of each for %" PRId64 " s", n - 1,
             s->row_bins + GW_RANK_SLOW_BINS, r->memory_s);
    return GW_OK;
}

static int open_rank(void *self, gw_env *env)
{
    rank *r = self;
    r->env = env;
    r->name = env ? gw_env_name(env) : "rank";
    for (int i = 0; i < r->n_specs; i++)
        r->spectra.stream[i].name = (const char(*)[GW_NAME_BYTES])r->spec[i].channel;
    GW_TRY(gw_rank_spectra_open(&r->spectra));
    for (int i = 0; i < r->n_specs; i++)
        for (uint32_t c = 0; c < r->spec[i].n_channels; c++)
            for (uint32_t p = 0; p < r->n_patterns; p++)
                if (fnmatch(r->pattern[p], r->spec[i].channel[c], 0) == 0)
                    r->spectra.stream[i].refused[c] = true;
    return GW_OK;
}

/* ---- running ---- */

static int tell(rank *r, int64_t to_s)
{
    const gw_rank_spectra *s = &r->spectra;
    gw_rank_table t;
    const uint32_t rows = (uint32_t)r->top;
    const int64_t before_ns = gw_monotonic_ns();
    const int64_t all_s = r->began_s == INT64_MIN ? r->memory_s : to_s - r->began_s;
    GW_TRY(gw_rank_table_make(&t, s, to_s, all_s < r->memory_s ? all_s : r->memory_s, rows));
    r->told_s = to_s;
    int err = GW_OK;
    if (r->path)
        err = gw_rank_write_table(&t, s, rows, r->path);
    if (err == GW_OK && r->json)
        err = gw_rank_write_json(&t, s, rows, r->json);
    if (err == GW_OK && r->list)
        err = gw_rank_write_list(&t, r->list);
    if (err == GW_OK && r->picture)
        err = gw_rank_write_picture(&t, s, r->picture);
    if (r->env) {
        gw_env_gauge(r->env, "witnesses", t.n_chosen);
        gw_env_gauge(r->env, "table_s", (double)(gw_monotonic_ns() - before_ns) / 1e9);
    }
    gw_rank_table_free(&t);
    return err;
}

/* Tables that are due, now that all streams have come so far. */
static int advance(rank *r)
{
    const int64_t done = gw_rank_spectra_done(&r->spectra);
    if (done == INT64_MIN)
        return GW_OK;
    gw_rank_spectra_sidebands(&r->spectra, done);
    if (r->began_s == INT64_MIN)
        r->began_s = r->told_s = done;
    if (r->duration_s && done >= r->began_s + r->duration_s) {
        r->over = true;
        return tell(r, r->began_s + r->duration_s);
    }
    const int64_t due = done / r->every_s * r->every_s;
    return due > r->told_s ? tell(r, due) : GW_OK;
}

static int take(void *self, int port, const gw_view *v)
{
    rank *r = self;
    if (r->over)
        return GW_OK;
    const int64_t before = gw_rank_spectra_done(&r->spectra);
    GW_TRY(gw_rank_spectra_block(&r->spectra, port, v));
    return gw_rank_spectra_done(&r->spectra) != before ? advance(r) : GW_OK;
}

static int gap(void *self, int port, const gw_hole *hole)
{
    rank *r = self;
    if (r->over)
        return GW_OK;
    gw_rank_spectra_hole(&r->spectra, port, hole->sample0 + (int64_t)hole->samples);
    return advance(r);
}

/* Streams may end at different times: as far as strain has come. */
static int drain(void *self, gw_out *out)
{
    rank *r = self;
    (void)out;
    const int64_t end = r->spectra.stream[r->spectra.strain_stream].segment;
    if (r->over)
        return GW_OK;
    if (end == INT64_MIN)
        return gw_fail(GW_EFORMAT, "no strain came in at all");
    gw_rank_spectra_sidebands(&r->spectra, end);
    return end > r->told_s ? tell(r, end) : GW_OK;
}

static void close_rank(void *self)
{
    rank *r = self;
    gw_rank_spectra_close(&r->spectra);
    for (int i = 0; i < r->n_specs; i++)
        gw_spec_free(&r->spec[i]);
    for (uint32_t p = 0; p < r->n_patterns; p++)
        free(r->pattern[p]);
    free(r->pattern);
}

const gw_kind gw_kind_rank = {
    .kind = "rank",
    .help = "ranks channels as witnesses of strain's noise: a table each minute",
    .role = GW_SINK,
    .takes_presence = true,
    .state_size = sizeof(rank),
    .configure = configure,
    .plan = plan_rank,
    .open = open_rank,
    .take = take,
    .gap = gap,
    .drain = drain,
    .close = close_rank,
};
