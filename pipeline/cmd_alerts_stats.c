/* SPDX-License-Identifier: GPL-3.0-or-later
 * `gwstream alerts stats` and `efficiency`: the journal in figures. */
#include "pipeline/cmd_alerts.h"
#include "pipeline/quote.h"
#include "sinks/journal_stats.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>

/* ---- efficiency ---- */

enum { N_BINS = 10 };
static const double edges[N_BINS] = {0,  4,  6,  8,  10,
                                     12, 15, 20, 30, 50}; /* of network SNR; the last is open */

typedef struct bins {
    struct {
        uint64_t n, found, alert;
        double offset; /* sum of |event - injection| */
    } bin[N_BINS + 1]; /* the last: SNR not known */
} bins;

static int bin_truth(void *user, const gw_journal_truth *t)
{
    bins *b = user;
    int i = N_BINS;
    if (!isnan(t->network_snr))
        for (i = N_BINS - 1; i > 0 && t->network_snr < edges[i];)
            i--;
    b->bin[i].n++;
    if (t->found) {
        b->bin[i].found++;
        b->bin[i].alert += t->alert;
        b->bin[i].offset += fabs(t->offset_s);
    }
    return 0;
}

int gw_alerts_efficiency(gw_journal *j, const gw_alerts_options *o, FILE *to)
{
    bins b = {0};
    GW_TRY(gw_journal_each_truth(j, &(gw_journal_truths){.since_ns = o->since_ns}, bin_truth, &b));
    uint64_t n = 0, found = 0, alert = 0;
    if (!o->json)
        fprintf(to, "%-12s %9s %7s %6s %6s %6s  %s\n", "network SNR", "injected", "found", "", "alert", "",
                "mean time error");
    for (int i = 0; i <= N_BINS; i++) {
        if (b.bin[i].n == 0)
            continue;
        double count = (double)b.bin[i].n, f = (double)b.bin[i].found / count,
               a = (double)b.bin[i].alert / count;
        char range[32], error[32] = "-";
        if (i == N_BINS)
            snprintf(range, sizeof range, "not known");
        else if (i == N_BINS - 1)
            snprintf(range, sizeof range, "%g and more", edges[i]);
        else
            snprintf(range, sizeof range, "%g to %g", edges[i], edges[i + 1]);
        if (b.bin[i].found)
            snprintf(error, sizeof error, "%.1f ms", b.bin[i].offset / (double)b.bin[i].found * 1e3);
        if (o->json)
            fprintf(to,
                    "{\"network_snr\":\"%s\",\"injected\":%" PRIu64 ",\"found\":%" PRIu64
                    ",\"alert\":%" PRIu64 "}\n",
                    range, b.bin[i].n, b.bin[i].found, b.bin[i].alert);
        else
            fprintf(to, "%-12s %9" PRIu64 " %7" PRIu64 " %5.1f%% %6" PRIu64 " %5.1f%%  %s\n", range,
                    b.bin[i].n, b.bin[i].found, 100 * f, b.bin[i].alert, 100 * a, error);
        n += b.bin[i].n;
        found += b.bin[i].found;
        alert += b.bin[i].alert;
    }
    if (!o->json && n)
        fprintf(to, "%-12s %9" PRIu64 " %7" PRIu64 " %5.1f%% %6" PRIu64 " %5.1f%%\n", "all", n, found,
                100 * (double)found / (double)n, alert, 100 * (double)alert / (double)n);
    if (!o->json && !n)
        fprintf(to, "%s: no injections%s\n", o->journal,
                o->since_ns ? " at or after that time" : " in this journal");
    return 0;
}

/* ---- stats ---- */

static void json_seconds(FILE *to, const char *name, double v)
{
    fprintf(to, isnan(v) ? ",\"%s\":null" : ",\"%s\":%.6f", name, v);
}

static void json_spread(FILE *to, const char *name, const gw_spread *s)
{
    fprintf(to, "\"%s\":{\"n\":%" PRIu64, name, s->n);
    json_seconds(to, "median_s", s->median_s);
    json_seconds(to, "p90_s", s->p90_s);
    json_seconds(to, "p95_s", s->p95_s);
    json_seconds(to, "p99_s", s->p99_s);
    json_seconds(to, "max_s", s->max_s);
    fputc('}', to);
}

static void json_broker(FILE *to, const gw_broker_stats *b)
{
    fputs("{\"name\":", to);
    gw_quote(to, b->name);
    fprintf(to,
            ",\"acked\":%" PRIu64 ",\"waiting\":%" PRIu64 ",\"refused\":%" PRIu64 ",\"again\":%" PRIu64
            ",\"held\":%" PRIu64 ",\"reasons\":[",
            b->acked, b->waiting, b->refused, b->again, b->held);
    for (int i = 0; i < b->n_reasons; i++) {
        fprintf(to, "%s{\"n\":%" PRIu64 ",\"reason\":", i ? "," : "", b->reason[i].n);
        gw_quote(to, b->reason[i].text);
        fputc('}', to);
    }
    fputs("],", to);
    json_spread(to, "publish", &b->publish);
    fputc(',', to);
    json_spread(to, "total", &b->total);
    fputc('}', to);
}

static void print_json(FILE *to, const gw_journal_stats *s)
{
    fprintf(to,
            "{\"events\":%" PRIu64 ",\"alerts\":%" PRIu64 ",\"injections\":%" PRIu64 ",\"retracted\":%" PRIu64
            ",\"recovered\":%" PRIu64 ",\"timed\":%" PRIu64 ",\"untimed\":%" PRIu64 ",\"phases\":{",
            s->events, s->alerts, s->injections, s->retracted, s->recovered, s->timed, s->untimed);
    for (int p = GW_PHASE_FIRST; p <= GW_PHASE_RETRACTED; p++)
        fprintf(to, "%s\"%s\":%" PRIu64, p > GW_PHASE_FIRST ? "," : "", gw_phase_text((gw_phase)p),
                s->phases[p]);
    fputs("},\"noise_rate\":{", to);
    for (int i = 0; i < GW_STATS_RATES; i++)
        fprintf(to, "%s\"%s\":%" PRIu64, i ? "," : "", gw_stats_rate(i), s->rates[i]);
    fputs("},\"latency\":{", to);
    json_spread(to, "signal", &s->signal);
    fputc(',', to);
    json_spread(to, "data", &s->data);
    fputc(',', to);
    json_spread(to, "pipeline", &s->pipeline);
    fputc(',', to);
    json_spread(to, "local", &s->local);
    fputs("},\"brokers\":[", to);
    for (int i = 0; i < s->n_brokers; i++) {
        if (i)
            fputc(',', to);
        json_broker(to, &s->broker[i]);
    }
    fputs("]}\n", to);
}

static void print_spread(FILE *to, const char *what, const char *broker, const gw_spread *s)
{
    char text[5][32];
    const double v[5] = {s->median_s, s->p90_s, s->p95_s, s->p99_s, s->max_s};
    fprintf(to, "%-40s %-12s %6" PRIu64, what, broker, s->n);
    for (int i = 0; i < 5; i++)
        fprintf(to, " %9s", gw_alerts_milliseconds(v[i], text[i], sizeof text[i]));
    fputc('\n', to);
}

static void print_latencies(FILE *to, const gw_journal_stats *s)
{
    if (s->untimed)
        fprintf(to,
                "\n%" PRIu64 " event%s found at another pace than the clock's: there is no latency of %s\n",
                s->untimed, s->untimed == 1 ? " was" : "s were", s->untimed == 1 ? "it" : "them");
    if (!s->timed)
        return;
    fprintf(to, "\n%-40s %-12s %6s %9s %9s %9s %9s %9s\n", "latency of the first word", "broker", "n",
            "median", "90 %", "95 %", "99 %", "longest");
    print_spread(to, "signal    merger -> last sample", "", &s->signal);
    print_spread(to, "data      last sample -> seen", "", &s->data);
    print_spread(to, "pipeline  seen -> journal", "", &s->pipeline);
    print_spread(to, "local     merger -> published on this host", "", &s->local);
    for (int i = 0; i < s->n_brokers; i++)
        print_spread(to, "publish   journal -> acknowledged", s->broker[i].name, &s->broker[i].publish);
    for (int i = 0; i < s->n_brokers; i++)
        print_spread(to, "total     merger -> acknowledged", s->broker[i].name, &s->broker[i].total);
    if (s->signal.n < s->timed || s->data.n < s->timed || s->pipeline.n < s->timed || s->local.n < s->timed)
        fprintf(to, "Of %" PRIu64 " first words; where n is less, the journal does not have the time.\n",
                s->timed);
}

static void print_brokers(FILE *to, const gw_journal_stats *s)
{
    for (int i = 0; i < s->n_brokers; i++) {
        const gw_broker_stats *b = &s->broker[i];
        fprintf(to, "%sbroker      %s: %" PRIu64 " acknowledged, %" PRIu64 " waiting, %" PRIu64 " refused",
                i ? "" : "\n", b->name, b->acked, b->waiting, b->refused);
        if (b->held)
            fprintf(to, " (%" PRIu64 " held back in a storm)", b->held);
        if (b->again)
            fprintf(to, ", %" PRIu64 " to be sent again", b->again);
        fputc('\n', to);
        for (int k = 0; k < b->n_reasons; k++)
            fprintf(to, "  refused   %" PRIu64 ": %s\n", b->reason[k].n, b->reason[k].text);
    }
}

int gw_alerts_stats(gw_journal *j, const gw_alerts_options *o, FILE *to)
{
    gw_journal_stats s;
    GW_TRY(gw_journal_measure(j, o->since_ns, &s));
    if (o->json) {
        print_json(to, &s);
        return 0;
    }
    if (!s.events) {
        fprintf(to, "%s: no events%s\n", o->journal, o->since_ns ? " at or after that time" : " yet");
        return 0;
    }
    fprintf(to,
            "events      %" PRIu64 ": %" PRIu64 " above the alert threshold, %" PRIu64 " injections, %" PRIu64
            " retracted\nwords       ",
            s.events, s.alerts, s.injections, s.retracted);
    for (int p = GW_PHASE_FIRST; p <= GW_PHASE_RETRACTED; p++)
        fprintf(to, "%s%" PRIu64 " %s", p > GW_PHASE_FIRST ? ", " : "", s.phases[p],
                gw_phase_text((gw_phase)p));
    fprintf(to, "%s\nnoise rate  ", s.recovered ? "; some published by a later run" : "");
    bool any = false;
    for (int i = 0; i < GW_STATS_RATES; i++)
        if (s.rates[i]) {
            fprintf(to, "%s%s: %" PRIu64, any ? ", " : "", gw_stats_rate(i), s.rates[i]);
            any = true;
        }
    fputc('\n', to);
    print_brokers(to, &s);
    print_latencies(to, &s);
    return 0;
}
