/* SPDX-License-Identifier: GPL-3.0-or-later
 * The view of `gwstream top` (cmd_top.h): text from two status documents. What a document lacks counts as 0,
 * so an older or a newer pipeline can be watched too. */
#include "pipeline/clock.h"
#include "pipeline/cmd_top.h"
#include "pipeline/counters.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

/* -- documents --------------------------------------------------------------------------------------- */

/* "sent.bytes" in a map; NULL when it is not there. */
static gw_conf *at(gw_conf *c, const char *path)
{
    while (c && *path) {
        char key[64];
        const size_t n = strcspn(path, ".");
        snprintf(key, sizeof key, "%.*s", (int)n, path);
        c = gw_conf_kind(c) == GW_CONF_MAP ? gw_conf_find(c, key) : NULL;
        path += n + (path[n] == '.');
    }
    return c;
}

static double num(gw_conf *c, const char *path)
{
    const char *text;
    double value;
    gw_conf *found = at(c, path);
    if (!found || gw_conf_kind(found) != GW_CONF_SCALAR || gw_conf_text(found, &text) != GW_OK ||
        gw_parse_double(text, &value) != GW_OK)
        return 0;
    return value;
}

static const char *str(gw_conf *c, const char *path)
{
    const char *text;
    gw_conf *found = at(c, path);
    return found && gw_conf_kind(found) == GW_CONF_SCALAR && gw_conf_text(found, &text) == GW_OK ? text : "";
}

static int items(gw_conf *c, const char *path)
{
    gw_conf *list = at(c, path);
    return list && gw_conf_kind(list) != GW_CONF_SCALAR ? gw_conf_count(list) : 0;
}

/* The i-th of a list, in either document: a run's stages and links do not change. */
static gw_conf *item(gw_conf *c, const char *path, int i)
{
    return i < items(c, path) ? gw_conf_item(at(c, path), i) : NULL;
}

static double since(gw_conf *now, gw_conf *before, const char *path)
{
    return num(now, path) - num(before, path);
}

static double cpu_of_thread(gw_conf *doc, double tid)
{
    for (int i = 0; i < items(doc, "threads"); i++)
        if (num(item(doc, "threads", i), "tid") == tid)
            return num(item(doc, "threads", i), "cpu_s");
    return 0;
}

static void ages_of(gw_conf *link, gw_ages_seen *seen)
{
    *seen = (gw_ages_seen){.max_ns = (int64_t)num(link, "age.max_ns")};
    for (int i = 0; i < items(link, "age.from_ns"); i++) {
        const int b = gw_ages_bucket((int64_t)num(item(link, "age.from_ns", i), ""));
        const uint64_t n = (uint64_t)num(item(link, "age.count", i), "");
        seen->count[b] += n;
        seen->n += n;
    }
}

/* -- text -------------------------------------------------------------------------------------------- */

static const char *span_text(double s, char *text, size_t n)
{
    if (s < 1)
        snprintf(text, n, s < 0.01 ? "%.2f ms" : "%.0f ms", s * 1e3);
    else if (s < 120)
        snprintf(text, n, "%.1f s", s);
    else if (s < 7200)
        snprintf(text, n, "%.0f min", s / 60);
    else
        snprintf(text, n, s < 172800 ? "%.1f h" : "%.1f d", s < 172800 ? s / 3600 : s / 86400);
    return text;
}

static const char *bytes_text(double bytes, char *text, size_t n)
{
    static const char *const unit[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    int k = 0;
    for (; bytes >= 1024 && k < 4; k++)
        bytes /= 1024;
    snprintf(text, n, k ? "%.1f %s" : "%.0f %s", bytes, unit[k]);
    return text;
}

static double samples_to_s(gw_conf *stream, double samples)
{
    const double rate = num(item(stream, "rate", 0), "");
    return rate > 0 ? samples * num(item(stream, "rate", 1), "") / rate : 0;
}

static void draw_header(gw_conf *now, gw_conf *before, double wall_s, FILE *to)
{
    char a[32], b[32], utc[40];
    fprintf(to, "gwstream %s  pid %s  %s%s%s  up %s%s\n", str(now, "gwstream"), str(now, "pid"),
            str(now, "graph"), *str(now, "node") ? " node " : "", str(now, "node"),
            span_text(num(now, "uptime_ns") / 1e9, a, sizeof a),
            strcmp(str(now, "stopping"), "true") == 0 ? "  stopping" : "");
    if (strcmp(str(now, "begun"), "true") != 0) {
        fprintf(to, "no data yet");
    } else {
        int64_t data_ns = 0;
        (void)gw_conf_get_int(now, "data_ns", INT64_MIN, INT64_MAX, &data_ns);
        const double data_s = (num(now, "data_ns") - num(now, "first_ns")) / 1e9;
        const double moved_s =
            strcmp(str(before, "begun"), "true") == 0 ? since(now, before, "data_ns") / 1e9 : data_s;
        fprintf(to, "GPS %.1f  %s  %.1f s of data  %.1fx real time  %s event message%s",
                (double)data_ns / 1e9, gw_gps_utc(data_ns, utc, sizeof utc), data_s,
                wall_s > 0 ? moved_s / wall_s : 0, str(now, "events"), num(now, "events") == 1 ? "" : "s");
    }
    fprintf(to, "\ncpu %.2f of %s cores  memory %s (peak %s)  %s threads  %s files\n",
            wall_s > 0 ? since(now, before, "process.cpu_s") / wall_s : 0, str(now, "process.cores"),
            bytes_text(num(now, "process.rss_bytes"), a, sizeof a),
            bytes_text(num(now, "process.rss_peak_bytes"), b, sizeof b), str(now, "process.threads"),
            str(now, "process.fds"));
}

/* -- tables ------------------------------------------------------------------------------------------ */

static void draw_node(gw_conf *node, gw_conf *old, double cpu_s, double wall_s, FILE *to)
{
    const double percent = wall_s > 0 ? 100 / (wall_s * 1e9) : 0;
    char longest[32];
    fprintf(to, "%-20.20s %-9.9s %8.1f %5.0f |", str(node, "name"), str(node, "kind"),
            wall_s > 0 ? since(node, old, "steps") / wall_s : 0, percent * since(node, old, "step_ns"));
    for (int c = 0; c < GW_CAUSE_COUNT; c++) {
        char path[64];
        snprintf(path, sizeof path, "waits.%s.ns", gw_cause_text((gw_cause)c));
        fprintf(to, " %6.0f", percent * since(node, old, path));
    }
    fprintf(to, " | %5.0f %9s\n", wall_s > 0 ? 100 * cpu_s / wall_s : 0,
            span_text(num(node, "step_max_ns") / 1e9, longest, sizeof longest));
}

static void draw_nodes(gw_conf *now, gw_conf *before, double wall_s, FILE *to)
{
    fprintf(to, "\n%-20s %-9s %8s %5s |", "stage", "kind", "steps/s", "step%");
    for (int c = 0; c < GW_CAUSE_COUNT; c++)
        fprintf(to, " %5s%%", gw_cause_text((gw_cause)c));
    fprintf(to, " | %5s %9s\n", "cpu%", "longest");
    for (int i = 0; i < items(now, "nodes"); i++) {
        gw_conf *node = item(now, "nodes", i);
        const double tid = num(node, "tid");
        draw_node(node, item(before, "nodes", i), cpu_of_thread(now, tid) - cpu_of_thread(before, tid),
                  wall_s, to);
    }
}

/* What stages say of themselves; a line for each that says something. */
static void draw_gauges(gw_conf *now, FILE *to)
{
    bool some = false;
    for (int i = 0; i < items(now, "nodes"); i++) {
        gw_conf *node = item(now, "nodes", i), *gauges = at(node, "gauges");
        for (int k = 0; k < items(node, "gauges"); k++) {
            if (k == 0)
                fprintf(to, "%s%-20.20s", some ? "\n" : "\ngauges\n", str(node, "name"));
            some = true;
            const double value = num(gw_conf_item(gauges, k), "");
            fprintf(to, fabs(value) < 1e4 ? "  %s %.4g" : "  %s %.0f", gw_conf_key(gauges, k), value);
        }
    }
    if (some)
        fputc('\n', to);
}

/* "absent 3.0 s, late 0.5 s" with `lead` before it; nothing when nothing is missing. */
static bool draw_gaps(gw_conf *stream, double late_samples, const char *lead, FILE *to)
{
    gw_conf *gaps = at(stream, "gap_samples");
    bool some = false;
    char span[32];
    for (int i = 0; i < items(stream, "gap_samples"); i++) {
        const double samples = num(gw_conf_item(gaps, i), "");
        if (samples <= 0)
            continue;
        fprintf(to, "%s%s %s", some ? ", " : lead, gw_conf_key(gaps, i),
                span_text(samples_to_s(stream, samples), span, sizeof span));
        some = true;
    }
    if (late_samples > 0) {
        fprintf(to, "%scame too late %s", some ? ", " : lead,
                span_text(samples_to_s(stream, late_samples), span, sizeof span));
        some = true;
    }
    return some;
}

static void draw_link(gw_conf *link, gw_conf *old, double wall_s, FILE *to)
{
    const char *end = at(link, "sent.blocks") ? "sent" : "received";
    char name[160], path[64], p50[32] = "-", p99[32] = "-", most[32] = "-";
    snprintf(name, sizeof name, "%s > %s", str(link, "stream"),
             *str(link, "to") ? str(link, "to") : "(away)");
    fprintf(to, "%-34.34s %-6s", name, str(link, "transport"));
    snprintf(path, sizeof path, "%s.bytes", end);
    fprintf(to, " %8.2f", wall_s > 0 ? since(link, old, path) / wall_s / 1e6 : 0);
    snprintf(path, sizeof path, "%s.blocks", end);
    fprintf(to, " %8.1f", wall_s > 0 ? since(link, old, path) / wall_s : 0);
    const double credit = num(link, "credit");
    const double used =
        at(link, "sent.credits") ? credit - num(link, "sent.credits") : num(link, "received.credits");
    fprintf(to, " %4.0f/%-4.0f", used > 0 ? used : 0, credit);
    gw_ages_seen ages, ages_before;
    ages_of(link, &ages);
    ages_of(old, &ages_before);
    for (int b = 0; b < GW_AGE_BUCKETS; b++)
        ages.count[b] -= ages_before.count[b] <= ages.count[b] ? ages_before.count[b] : 0;
    ages.n -= ages_before.n <= ages.n ? ages_before.n : 0;
    if (ages.n) {
        span_text((double)gw_ages_quantile_ns(&ages, 0.5) / 1e9, p50, sizeof p50);
        span_text((double)gw_ages_quantile_ns(&ages, 0.99) / 1e9, p99, sizeof p99);
    }
    if (ages.max_ns)
        span_text((double)ages.max_ns / 1e9, most, sizeof most);
    fprintf(to, " %9s %9s %9s %7.0f %7.0f", p50, p99, most, num(link, "sent.dropped"),
            num(link, "sent.resent") + num(link, "received.duplicates"));
    (void)draw_gaps(link, num(link, "late_samples"), "  ", to);
    fputc('\n', to);
}

/* Streams first, then the feeds, whose blocks are events. */
static void draw_links(gw_conf *now, gw_conf *before, double wall_s, FILE *to)
{
    fprintf(to, "\n%-34s %-6s %8s %8s %9s %9s %9s %9s %7s %7s  %s\n", "link", "via", "MB/s", "blocks/s",
            "credit", "age p50", "p99", "max", "dropped", "resent", "missing");
    for (int i = 0; i < items(now, "links"); i++)
        draw_link(item(now, "links", i), item(before, "links", i), wall_s, to);
    for (int i = 0; i < items(now, "feeds"); i++)
        draw_link(item(now, "feeds", i), item(before, "feeds", i), wall_s, to);
}

/* What the run has lost so far, by where it was lost. */
static void draw_losses(gw_conf *now, FILE *to)
{
    bool some = false;
    for (int i = 0; i < items(now, "nodes"); i++) {
        gw_conf *node = item(now, "nodes", i);
        for (int o = 0; o < items(node, "outputs"); o++) {
            gw_conf *out = item(node, "outputs", o);
            char lead[160];
            snprintf(lead, sizeof lead, "%s  %s: nothing sent for ", some ? "" : "\nlosses\n",
                     str(out, "stream"));
            if (draw_gaps(out, 0, lead, to)) {
                fputc('\n', to);
                some = true;
            }
        }
    }
    for (int i = 0; i < items(now, "links"); i++) {
        gw_conf *link = item(now, "links", i);
        char span[32];
        const double dropped = num(link, "sent.dropped"), bad = num(link, "received.malformed");
        if (dropped > 0 || bad > 0) {
            fprintf(to, "%s  %s > %s:", some ? "" : "\nlosses\n", str(link, "stream"), str(link, "to"));
            some = true;
        }
        if (dropped > 0)
            fprintf(to, " %.0f blocks dropped (%s), it was too slow", dropped,
                    span_text(samples_to_s(link, num(link, "sent.dropped_samples")), span, sizeof span));
        if (bad > 0)
            fprintf(to, "%s %.0f damaged messages refused", dropped > 0 ? "," : "", bad);
        if (dropped > 0 || bad > 0)
            fputc('\n', to);
    }
    if (!some)
        fputs("\nno losses\n", to);
}

void gw_top_draw(gw_conf *now, gw_conf *before, FILE *to)
{
    if (before && strcmp(str(now, "run_id"), str(before, "run_id")) != 0)
        before = NULL; /* another run took the same process id */
    const double wall_s = (before ? since(now, before, "monotonic_ns") : num(now, "uptime_ns")) / 1e9;
    draw_header(now, before, wall_s, to);
    draw_nodes(now, before, wall_s, to);
    draw_gauges(now, to);
    draw_links(now, before, wall_s, to);
    draw_losses(now, to);
}
