/* SPDX-License-Identifier: GPL-3.0-or-later
 * Tables and lists of a ranking. */
#include "sinks/rank_write.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

static const char *const words[] = {
    [GW_RANK_CHOSEN] = "chosen",   [GW_RANK_COHERENT] = "coherent", [GW_RANK_CHANCE] = "chance",
    [GW_RANK_NO_DATA] = "no data", [GW_RANK_LISTED] = "listed",     [GW_RANK_COPY] = "copy of strain",
    [GW_RANK_UNSAFE] = "unsafe"};
const char *gw_rank_verdict_text(gw_rank_verdict v)
{
    return words[v];
}

/* ---- Files that are whole or not there ---- */

typedef struct file {
    const char *path;
    char part[1024];
    FILE *f;
} file;

static int begin(file *f, const char *path)
{
    f->path = path;
    snprintf(f->part, sizeof f->part, "%s.part", path);
    f->f = fopen(f->part, "w");
    return f->f ? GW_OK : gw_fail(GW_EACCESS, "%s: cannot be written: %s", path, strerror(errno));
}

static int end(file *f)
{
    const bool written = !ferror(f->f) && fflush(f->f) == 0;
    if (fclose(f->f) == 0 && written && rename(f->part, f->path) == 0)
        return GW_OK;
    const int why = errno;
    remove(f->part);
    return gw_fail(GW_EIO, "%s: cannot be written: %s", f->path, strerror(why));
}

/* ---- The table ---- */

/* A probability as the power of ten that it is. */
static void chance_text(double log_chance, char *text, size_t n)
{
    const double power = log_chance / M_LN10;
    if (power > -0.005)
        snprintf(text, n, "1");
    else
        snprintf(text, n, power < -999 ? "10^%.3g" : "10^%.1f", power);
}

static double ratio_of(const gw_rank_table *t, uint32_t after, int target)
{
    return t->ratio[(size_t)after * (size_t)t->n_targets + (size_t)target];
}

static void put_head(const gw_rank_table *t, const gw_rank_spectra *s, FILE *f)
{
    fprintf(f,
            "# %s from GPS %" PRId64 " to %" PRId64 ": %" PRIu32 " good seconds, %" PRIu32
            " of them with injections; %" PRIu32 " channels\n",
            s->stream[s->strain_stream].name[s->strain], t->from_s, t->to_s, t->segments, t->injected, t->n);
    for (int k = 0; k < t->n_targets; k++) {
        char where[64];
        gw_rank_target_text(s, k, where, sizeof where);
        fprintf(f, "# %s: ", where);
        if (t->n_chosen)
            fprintf(f, "%.3f of the ASD would be left after the %" PRIu32 " chosen",
                    ratio_of(t, t->n_chosen - 1, k), t->n_chosen);
        else
            fprintf(f, "nothing explains it");
        if (k >= s->n_bands) {
            const gw_rank_line *l = &s->line[k - s->n_bands];
            fprintf(f, "; phase from %s",
                    l->carrier_stream >= 0    ? s->stream[l->carrier_stream].name[l->carrier]
                    : l->carrier_stream == -1 ? "strain itself"
                                              : "nothing yet");
        }
        fputc('\n', f);
    }
    fprintf(f, "# chance begins at 10^%.1f\n", t->log_limit / M_LN10);
    fprintf(f, "%5s %-40s %-15s %-18s %9s %10s %9s %7s\n", "rank", "channel", "verdict", "where", "coherence",
            "at", "chance", "leaves");
}

int gw_rank_write_table(const gw_rank_table *t, const gw_rank_spectra *s, uint32_t rows, const char *path)
{
    file out;
    GW_TRY(begin(&out, path));
    put_head(t, s, out.f);
    uint32_t told = 0;
    for (uint32_t i = 0; i < t->n; i++) {
        const gw_rank_entry *e = &t->entry[i];
        if (e->verdict == GW_RANK_CHANCE || e->verdict == GW_RANK_COHERENT)
            if (told++ >= rows)
                continue;
        char where[64], chance[32], leaves[16] = "", peak[16] = "", at[16] = "";
        gw_rank_target_text(s, e->target, where, sizeof where);
        chance_text(e->log_chance, chance, sizeof chance);
        if (e->verdict == GW_RANK_CHOSEN)
            snprintf(leaves, sizeof leaves, "%.3f", ratio_of(t, i, e->target));
        if (e->verdict == GW_RANK_COPY)
            snprintf(where, sizeof where, "20-1000 Hz");
        if (e->verdict == GW_RANK_UNSAFE)
            snprintf(where, sizeof where, "injections");
        if (e->verdict == GW_RANK_COPY || e->verdict == GW_RANK_UNSAFE)
            snprintf(peak, sizeof peak, "%.4f", e->broad);
        else if (e->verdict <= GW_RANK_CHANCE) {
            snprintf(peak, sizeof peak, "%.4f", e->peak);
            snprintf(at, sizeof at, e->target < s->n_bands ? "%.1f Hz" : "%+.2f Hz", e->peak_hz);
        } else
            where[0] = chance[0] = '\0';
        fprintf(out.f, "%5" PRIu32 " %-40s %-15s %-18s %9s %10s %9s %7s\n", i + 1, e->name, words[e->verdict],
                where, peak, at, chance, leaves);
    }
    if (told > rows)
        fprintf(out.f, "# and %" PRIu32 " more\n", told - rows);
    return end(&out);
}

/* ---- JSON ---- */

static void put_text(FILE *f, const char *text)
{
    fputc('"', f);
    for (const char *p = text; *p; p++) {
        const unsigned char c = (unsigned char)*p;
        if (c == '"' || c == '\\')
            fprintf(f, "\\%c", c);
        else if (c < 0x20)
            fprintf(f, "\\u%04x", c);
        else
            fputc(c, f);
    }
    fputc('"', f);
}

static void put_numbers(FILE *f, const char *name, const double *x, uint32_t n)
{
    fprintf(f, "\"%s\":[", name);
    for (uint32_t i = 0; i < n; i++)
        fprintf(f, "%s%.8g", i ? "," : "", x[i]);
    fputc(']', f);
}

static void put_coherences(const gw_rank_table *t, const gw_rank_spectra *s, const gw_rank_entry *e, FILE *f)
{
    fputs(",\"coherence\":[", f);
    for (int k = 0; k < t->n_targets; k++) {
        double hz[2 * GW_RANK_SLOW_BINS], value[2 * GW_RANK_SLOW_BINS];
        const uint32_t n = gw_rank_coherence(s, t, k, e->stream, e->channel, hz, value);
        char where[64];
        gw_rank_target_text(s, k, where, sizeof where);
        fprintf(f, "%s{\"target\":\"%s\",", k ? "," : "", where);
        put_numbers(f, "hz", hz, n);
        fputc(',', f);
        put_numbers(f, "coherence", value, n);
        fputc('}', f);
    }
    fputc(']', f);
}

int gw_rank_write_json(const gw_rank_table *t, const gw_rank_spectra *s, uint32_t rows, const char *path)
{
    file out;
    GW_TRY(begin(&out, path));
    fputs("{\"strain\":", out.f);
    put_text(out.f, s->stream[s->strain_stream].name[s->strain]);
    fprintf(out.f,
            ",\"from\":%" PRId64 ",\"to\":%" PRId64 ",\"segments\":%" PRIu32 ",\"injected\":%" PRIu32
            ",\"slow_segments\":%" PRIu32 ",\"chance_log10\":%.6g,\"targets\":[",
            t->from_s, t->to_s, t->segments, t->injected, t->slow_segments, t->log_limit / M_LN10);
    for (int k = 0; k < t->n_targets; k++) {
        char where[64];
        gw_rank_target_text(s, k, where, sizeof where);
        fprintf(out.f, "%s{\"name\":\"%s\",\"ratio\":%.6g", k ? "," : "", where,
                t->n_chosen ? ratio_of(t, t->n_chosen - 1, k) : 1);
        if (k >= s->n_bands && s->line[k - s->n_bands].carrier_stream >= 0) {
            const gw_rank_line *l = &s->line[k - s->n_bands];
            fputs(",\"carrier\":", out.f);
            put_text(out.f, s->stream[l->carrier_stream].name[l->carrier]);
        }
        fputc('}', out.f);
    }
    fputs("],\"channels\":[\n", out.f);
    for (uint32_t i = 0; i < t->n; i++) {
        const gw_rank_entry *e = &t->entry[i];
        char where[64];
        gw_rank_target_text(s, e->target, where, sizeof where);
        fputs(i ? ",\n{\"channel\":" : "{\"channel\":", out.f);
        put_text(out.f, e->name);
        fprintf(out.f,
                ",\"verdict\":\"%s\",\"target\":\"%s\",\"log10_chance\":%.6g,\"peak\":%.6g,\"peak_hz\":%.6g,"
                "\"broad\":%.6g",
                words[e->verdict], where, e->log_chance / M_LN10, e->peak, e->peak_hz, e->broad);
        if (e->verdict == GW_RANK_CHOSEN) {
            fputc(',', out.f);
            put_numbers(out.f, "ratio", t->ratio + (size_t)i * (size_t)t->n_targets, (uint32_t)t->n_targets);
        }
        if (i < t->n_chosen + rows)
            put_coherences(t, s, e, out.f);
        fputc('}', out.f);
    }
    fputs("\n]}\n", out.f);
    return end(&out);
}

/* ---- The list ---- */

int gw_rank_write_list(const gw_rank_table *t, const char *path)
{
    file out;
    GW_TRY(begin(&out, path));
    for (uint32_t i = 0; i < t->n_chosen; i++)
        fprintf(out.f, "%s\n", t->entry[i].name);
    return end(&out);
}
