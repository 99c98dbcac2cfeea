/* SPDX-License-Identifier: GPL-3.0-or-later
 * An evaluation as files for programs: the model card and evaluate.json. The page for people is
 * sinks/evaluation_page.c. */
#include "pipeline/cmd_evaluate.h"
#include "pipeline/quote.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char *const rate_name[GW_RATES] = {"one_per_hour", "one_per_day"};

/* ---- files that are replaced whole ---- */

static int open_part(const char *path, char *part, size_t size, FILE **to)
{
    if (snprintf(part, size, "%s.part", path) >= (int)size)
        return gw_fail(GW_EUSAGE, "'%.100s...' is too long for the name of a file", path);
    *to = fopen(part, "w");
    if (!*to)
        return gw_fail(GW_EIO, "%s: cannot be written (%s)", path, strerror(errno));
    return GW_OK;
}

static int close_part(const char *path, const char *part, FILE *to)
{
    const bool put = fflush(to) == 0 && !ferror(to) && fsync(fileno(to)) == 0;
    const int why = errno;
    if (fclose(to) != 0 || !put) {
        remove(part);
        return gw_fail(GW_EIO, "%s: cannot be written (%s)", path, strerror(put ? errno : why));
    }
    return GW_OK;
}

static int put_in_place(const char *path, const char *part)
{
    if (rename(part, path) == 0)
        return GW_OK;
    const int why = errno;
    remove(part);
    return gw_fail(GW_EIO, "%s: cannot be written (%s)", path, strerror(why));
}

int gw_evaluate_card_writable(const char *path)
{
    char part[GW_EVALUATE_PATH + 80];
    FILE *to;
    gw_card *old = NULL;
    const int err = gw_card_load(&old, path);
    gw_card_free(&old);
    if (err != GW_OK && err != GW_EMISSING)
        return gw_fail_at(err, "%s is there and is no model card; it is not replaced", path);
    GW_TRY(open_part(path, part, sizeof part, &to));
    fclose(to);
    remove(part);
    return GW_OK;
}

/* ---- the card ---- */

static void card_table(FILE *to, const char *indent, const char *name, const gw_eval *m,
                       const gw_eval_share *share)
{
    fprintf(to, "%s%s: {", indent, name);
    for (int k = 0, n = 0; k < m->n_snrs; k++)
        if (share[k].n)
            fprintf(to, "%s%g: %.4g", n++ ? ", " : "", m->snr[k], round(1e4 * share[k].share) / 1e4);
    fputs("}\n", to);
}

static void card_results(FILE *to, const gw_evaluate *e, const gw_eval *m, const gw_eval_about *about)
{
    const gw_eval_background *b = &about->search[0].noise;
    fputs("evaluation:\n  by: ", to);
    gw_quote(to, "gwstream " GW_VERSION " evaluate");
    fputs("\n  how: ", to);
    gw_quote(to, about->how);
    fprintf(to, "\n  seed: %" PRId64 "\n  injections: %" PRId64 " # at each SNR\n", e->seed, e->injections);
    if (isfinite(b->rate_low_hz[GW_PER_DAY]))
        fprintf(to,
                "  true_rate: {candidate: [%.2f, %.2f], alert: [%.2f, %.2f]} # 5-95 %%, an hour and a day\n",
                3600 * b->rate_low_hz[GW_PER_HOUR], 3600 * b->rate_high_hz[GW_PER_HOUR],
                86400 * b->rate_low_hz[GW_PER_DAY], 86400 * b->rate_high_hz[GW_PER_DAY]);
    fputs("efficiency: # share found\n", to);
    for (int r = 0; r < GW_RATES; r++) {
        fprintf(to, "  %s:\n", rate_name[r]);
        card_table(to, "    ", "all", m, m->found[r][GW_EVAL_BINS]);
        fputs("    interval_of_all: {", to);
        for (int k = 0; k < m->n_snrs; k++)
            fprintf(to, "%s%g: [%.3f, %.3f]", k ? ", " : "", m->snr[k], m->found[r][GW_EVAL_BINS][k].low,
                    m->found[r][GW_EVAL_BINS][k].high);
        fputs("}\n", to);
        card_table(to, "    ", "detector_ratio_over_0.3", m, m->even[r]);
        fputs("    chirp_mass:\n", to);
        for (int bin = 0; bin < GW_EVAL_BINS; bin++) {
            char name[32];
            snprintf(name, sizeof name, "%g-%g", gw_eval_edge[bin], gw_eval_edge[bin + 1]);
            card_table(to, "      ", name, m, m->found[r][bin]);
        }
    }
    fputs("sensitive_distance_mpc: # and its 1 sigma; no redshift, a lower bound\n", to);
    for (int r = 0; r < GW_RATES; r++)
        if (isfinite(m->distance[r][GW_EVAL_BINS].mpc))
            fprintf(to, "  %s: [%.4g, %.2g]\n", rate_name[r], m->distance[r][GW_EVAL_BINS].mpc,
                    m->distance[r][GW_EVAL_BINS].error_mpc);
    const gw_eval_latency *l = &m->latency[GW_EVAL_SNRS];
    if (l->n)
        fprintf(
            to,
            "latency_ms: {first_crossing_median: %.0f, first_crossing_90: %.0f, of: 'end of the block that "
            "crosses 1/hour less the later arrival, all SNRs'}\n",
            1e3 * l->median_s, 1e3 * l->most_s);
    fputs("timing_ms:\n  median_and_90:\n", to);
    for (int k = 0; k < m->n_snrs; k++)
        if (m->later[k].n)
            fprintf(to, "    %g: [%.2f, %.2f]\n", m->snr[k], 1e3 * m->later[k].median_s,
                    1e3 * m->later[k].most_s);
    const gw_eval_timing *t = &m->timed[GW_EVAL_BINS];
    if (t->n)
        fprintf(to, "  bias: %.3f # median error, SNR %g and above\n", 1e3 * t->bias_s, m->timed_from);
    if (t->covered.n)
        fprintf(to, "  covered: %.3f # by the stated 1 sigma, SNR %g and above\n", t->covered.share,
                m->timed_from);
    fputs("  of: arrival at the later detector, found at 1/hour\n", to);
}

/* The key that a line at the left margin begins, if it begins one. */
static bool section_of(const char *line, char *name, size_t size)
{
    const size_t n = strspn(line, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_");
    if (n == 0 || n >= size || line[n] != ':')
        return false;
    memcpy(name, line, n);
    name[n] = '\0';
    return true;
}

static bool is_own(const char *section)
{
    static const char *const own[] = {"model",      "thresholds", "background",
                                      "evaluation", "efficiency", "sensitive_distance_mpc",
                                      "latency_ms", "timing_ms"};
    for (size_t i = 0; i < sizeof own / sizeof own[0]; i++)
        if (strcmp(section, own[i]) == 0)
            return true;
    return false;
}

/* Other people's sections of the card that is there, as they stand, comments and all: what was measured of
 * these weights stays true of them, of others not. */
static int keep_others(FILE *to, const gw_search *s, const char *path)
{
    gw_card *old = NULL;
    char *line = NULL, name[64];
    size_t room = 0;
    const int err = gw_card_load(&old, path);
    if (err == GW_EMISSING)
        return GW_OK;
    if (err != GW_OK)
        return gw_fail_at(err, "%s is there and is no model card; it is not replaced", path);
    const bool same = strcmp(old->model_sha256, s->sha256) == 0;
    gw_card_free(&old);
    FILE *f = same ? fopen(path, "r") : NULL;
    for (bool keep = false; f && getline(&line, &room, f) >= 0;) {
        if (section_of(line, name, sizeof name))
            keep = !is_own(name);
        if (keep)
            fputs(line, to);
    }
    free(line);
    if (f)
        fclose(f);
    return GW_OK;
}

static void write_card(FILE *to, const gw_search *s, const gw_eval_background *b)
{
    fputs("model: {name: ", to);
    gw_quote(to, s->about.name);
    fprintf(to, ", sha256: %s}\n", s->sha256);
    fprintf(to, "thresholds: {candidate: %.9g, alert: %.9g}\n", b->threshold[GW_PER_HOUR],
            b->threshold[GW_PER_DAY]);
    fprintf(to,
            "background:\n  live_time: %.0fs\n  distinct_time: %.0fs\n  bin_width: %g\n  first_bin: %.9g\n"
            "  counts: [",
            floor(b->slid_s), floor(b->distinct_s), b->bin_width, b->first_bin);
    for (uint32_t i = 0; i < b->bins; i++)
        fprintf(to, "%s%s%u", i ? "," : "", i % 24 ? " " : i ? "\n    " : "", b->count[i]);
    fputs("]\n", to);
}

int gw_evaluate_card(const gw_evaluate *e, const char *path, int i, const gw_eval *m,
                     const gw_eval_about *about)
{
    char part[GW_EVALUATE_PATH + 80];
    FILE *to;
    gw_card *card = NULL;
    GW_TRY(open_part(path, part, sizeof part, &to));
    write_card(to, &e->search[i], &about->search[i].noise);
    if (m)
        card_results(to, e, m, about);
    int err = keep_others(to, &e->search[i], path);
    if (err != GW_OK) {
        fclose(to);
        remove(part);
        return err;
    }
    GW_TRY(close_part(path, part, to));
    err = gw_card_load(&card, part); /* what detect will say of it */
    gw_card_free(&card);
    if (err != GW_OK) {
        remove(part);
        return err;
    }
    return put_in_place(path, part);
}

/* ---- evaluate.json ---- */

static void number(FILE *to, double v)
{
    if (isfinite(v))
        fprintf(to, "%.9g", v);
    else
        fputs("null", to);
}

static void member(FILE *to, const char *name, double v)
{
    fprintf(to, ", \"%s\": ", name);
    number(to, v);
}

static void json_share(FILE *to, const gw_eval_share *s, const char *n, const char *k, const char *share)
{
    fprintf(to, "{\"%s\": %u, \"%s\": %u", n, s->n, k, s->k);
    member(to, share, s->share);
    member(to, "low", s->low);
    member(to, "high", s->high);
    putc('}', to);
}

static void json_shares(FILE *to, const char *name, const gw_eval *m, const gw_eval_share *s)
{
    fprintf(to, "\"%s\": {", name);
    for (int k = 0; k < m->n_snrs; k++) {
        fprintf(to, "%s\"%g\": ", k ? ", " : "", m->snr[k]);
        json_share(to, &s[k], "injected", "found", "efficiency");
    }
    putc('}', to);
}

static void json_timing(FILE *to, const gw_eval_timing *t)
{
    fprintf(to, "{\"n\": %u", t->n);
    member(to, "median_ms", 1e3 * t->median_s);
    member(to, "p90_ms", 1e3 * t->most_s);
    member(to, "bias_ms", 1e3 * t->bias_s);
    fputs(", \"within_sigma\": ", to);
    json_share(to, &t->covered, "n", "within", "share");
    putc('}', to);
}

static void json_rate(FILE *to, const gw_eval *m, int r)
{
    fprintf(to, "    \"%s\": {\n      ", rate_name[r]);
    json_shares(to, "all", m, m->found[r][GW_EVAL_BINS]);
    fputs(",\n      ", to);
    json_shares(to, "detector_ratio_over_0.3", m, m->even[r]);
    fputs(",\n      \"chirp_mass\": {", to);
    for (int b = 0; b < GW_EVAL_BINS; b++) {
        char name[32];
        snprintf(name, sizeof name, "%g-%g", gw_eval_edge[b], gw_eval_edge[b + 1]);
        fputs(b ? ",\n        " : "\n        ", to);
        json_shares(to, name, m, m->found[r][b]);
    }
    fputs("},\n      \"sensitive_distance\": {", to);
    for (int b = 0; b <= GW_EVAL_BINS; b++) {
        const gw_eval_distance *d = &m->distance[r][b];
        if (b < GW_EVAL_BINS)
            fprintf(to, "%s\"%g-%g\": {\"mpc\": ", b ? ", " : "", gw_eval_edge[b], gw_eval_edge[b + 1]);
        else
            fputs(", \"all\": {\"mpc\": ", to);
        number(to, d->mpc);
        member(to, "error_mpc", d->error_mpc);
        member(to, "if_all_were_found_mpc", d->most_mpc);
        putc('}', to);
    }
    fputs("}}", to);
}

static void json_background(FILE *to, const gw_eval_background *b)
{
    fputs("\"background\": {\"slid_s\": ", to);
    number(to, b->slid_s);
    member(to, "distinct_s", b->distinct_s);
    fprintf(to, ", \"clusters\": %zu", b->n);
    member(to, "floor", b->floor);
    member(to, "one_per_hour", b->threshold[GW_PER_HOUR]);
    member(to, "one_per_day", b->threshold[GW_PER_DAY]);
    for (int r = 0; r < GW_RATES; r++) {
        fprintf(to, ", \"rate_at_%s_hz\": [", rate_name[r]); /* 5 and 95 % */
        number(to, b->rate_low_hz[r]);
        fputs(", ", to);
        number(to, b->rate_high_hz[r]);
        putc(']', to);
    }
    member(to, "bin_width", b->bin_width);
    member(to, "first_bin", b->first_bin);
    fputs(", \"counts\": [", to);
    for (uint32_t i = 0; i < b->bins; i++)
        fprintf(to, "%s%u", i ? ", " : "", b->count[i]);
    fputs("]}", to);
}

static void json_model(FILE *to, const gw_eval_search *s)
{
    fputs("\"model\": {\"name\": ", to);
    gw_quote(to, s->model);
    fprintf(to, ", \"sha256\": \"%s\", \"detectors\": ", s->sha256);
    gw_quote(to, s->detectors);
    putc('}', to);
}

static void json_counts(FILE *to, const gw_eval *m, const char *name,
                        const uint32_t found[GW_RATES][GW_EVAL_SNRS])
{
    gw_quote(to, name);
    fputs(": {", to);
    for (int r = 0; r < GW_RATES; r++) {
        fprintf(to, "%s\"%s\": {", r ? ", " : "", rate_name[r]);
        for (int k = 0; k < m->n_snrs; k++)
            fprintf(to, "%s\"%g\": %u", k ? ", " : "", m->snr[k], found[r][k]);
        putc('}', to);
    }
    putc('}', to);
}

/* Of several searches: what each does to noise, and who found how many. */
static void json_set(FILE *to, const gw_eval *m, const gw_eval_about *about)
{
    fprintf(to, "  \"trials\": %d, \"searches\": [", about->n_searches);
    for (int i = 0; i < about->n_searches; i++) {
        fputs(i ? ",\n    {\"name\": " : "\n    {\"name\": ", to);
        gw_quote(to, about->search[i].name);
        fputs(", ", to);
        json_model(to, &about->search[i]);
        fputs(",\n     ", to);
        json_background(to, &about->search[i].noise);
        putc('}', to);
    }
    fputs("],\n  \"found_in\": {", to);
    for (int i = 0; i < m->n_sets; i++) {
        fputs(i ? ",\n    " : "\n    ", to);
        json_counts(to, m, m->set[i].name, m->set[i].found);
    }
    fputs("},\n  \"found_with\": {", to);
    for (int i = 0; i < about->n_searches; i++) {
        fputs(i ? ",\n    " : "\n    ", to);
        json_counts(to, m, about->search[i].name, m->part[i]);
    }
    fputs("},\n", to);
}

int gw_evaluate_json(const gw_evaluate *e, FILE *to, const gw_eval *m, const gw_eval_about *about)
{
    const bool alone = about->n_searches == 1;
    fputs("{\n  \"software\": \"gwstream " GW_VERSION "\"", to);
    if (alone) {
        fputs(", ", to);
        json_model(to, &about->search[0]);
    }
    fputs(",\n  \"how\": ", to);
    gw_quote(to, about->how);
    fprintf(to, ",\n  \"seed\": %" PRId64 ", \"injections_per_snr\": %" PRId64 ",\n", e->seed, e->injections);
    if (alone) {
        fputs("  ", to);
        json_background(to, &about->search[0].noise);
        fputs(",\n", to);
    } else {
        json_set(to, m, about);
    }
    fputs("  \"intervals\": \"Wilson, 1 sigma\",\n  \"efficiency\": {\n", to);
    for (int r = 0; r < GW_RATES; r++) {
        json_rate(to, m, r);
        fputs(r + 1 < GW_RATES ? ",\n" : "\n  },\n", to);
    }
    fputs("  \"timing\": {\"later_detector\": {", to);
    for (int k = 0; k < m->n_snrs; k++) {
        fprintf(to, "%s\"%g\": ", k ? ", " : "", m->snr[k]);
        json_timing(to, &m->later[k]);
    }
    fputs("},\n    \"each_detector\": {", to);
    for (int k = 0; k < m->n_snrs; k++) {
        fprintf(to, "%s\"%g\": ", k ? ", " : "", m->snr[k]);
        json_timing(to, &m->each[k]);
    }
    fprintf(to, "},\n    \"snr_and_above\": %g, \"all\": ", m->timed_from);
    json_timing(to, &m->timed[GW_EVAL_BINS]);
    fputs(", \"all_each_detector\": ", to);
    json_timing(to, &m->timed_each);
    for (int d = 0; about->n_searches > 1 && d < m->n_detectors; d++) {
        fprintf(to, ", \"at_%s\": ", m->detector[d]);
        json_timing(to, &m->timed_at[d]);
    }
    fputs(",\n    \"chirp_mass\": {", to);
    for (int k = 0; k < GW_EVAL_BINS; k++) {
        fprintf(to, "%s\"%g-%g\": ", k ? ", " : "", gw_eval_edge[k], gw_eval_edge[k + 1]);
        json_timing(to, &m->timed[k]);
    }
    fputs("}},\n  \"latency\": {", to);
    for (int k = 0; k <= m->n_snrs; k++) {
        const gw_eval_latency *l = &m->latency[k < m->n_snrs ? k : GW_EVAL_SNRS];
        if (k < m->n_snrs)
            fprintf(to, "\"%g\": {\"n\": %u", m->snr[k], l->n);
        else
            fprintf(to, "\"all\": {\"n\": %u", l->n);
        member(to, "median_ms", 1e3 * l->median_s);
        member(to, "p90_ms", 1e3 * l->most_s);
        fputs(k < m->n_snrs ? "}, " : "}},\n", to);
    }
    fprintf(to, "  \"events_without_injection\": {\"n\": %u, \"searched_s\": %.0f}\n}\n", about->chance,
            about->searched_s);
    return ferror(to) ? gw_fail(GW_EIO, "evaluate.json cannot be written (%s)", strerror(errno)) : GW_OK;
}

int gw_evaluate_write_json(const gw_evaluate *e, const gw_eval *m, const gw_eval_about *about)
{
    char path[GW_EVALUATE_PATH], part[GW_EVALUATE_PATH + 80];
    FILE *to;
    snprintf(path, sizeof path, "%s/evaluate.json", e->out);
    GW_TRY(open_part(path, part, sizeof part, &to));
    (void)gw_evaluate_json(e, to, m, about);
    GW_TRY(close_part(path, part, to));
    return put_in_place(path, part);
}
