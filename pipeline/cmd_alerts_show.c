/* SPDX-License-Identifier: GPL-3.0-or-later
 * `gwstream alerts list` and `show`: events for a person to read; and how a person reads numbers, for the
 * other verbs too. */
#include "pipeline/cmd_alerts.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- how a person reads numbers ---- */

/* A rate of noise as "1 per 3.2 d". */
/* Nothing as loud was seen in the background: the rate is 1/T, for each of the branches. */
static bool is_bound(const gw_event *e)
{
    const char *member = strstr(e->detail, "\"trials\":");
    const int trials = member ? atoi(member + strlen("\"trials\":")) : 1;
    return e->noise_rate_hz * e->background_s < 1.001 * (trials > 1 ? trials : 1);
}

const char *gw_alerts_rarity(const gw_event *e, char *text, size_t n)
{
    const double rate_hz = e->noise_rate_hz;
    static const struct {
        double seconds;
        const char *unit;
    } units[] = {{365.25 * 86400, "yr"}, {86400, "d"}, {3600, "h"}, {60, "min"}, {0, "s"}};
    if (!(rate_hz > 0)) {
        snprintf(text, n, "-");
        return text;
    }
    double period = 1 / rate_hz;
    size_t i = 0;
    while (period < units[i].seconds * 0.995)
        i++;
    double v = period / (units[i].seconds > 0 ? units[i].seconds : 1);
    snprintf(text, n, v < 9.95 ? "%s1 per %.1f %s" : "%s1 per %.0f %s", is_bound(e) ? "< " : "", v,
             units[i].unit);
    return text;
}

const char *gw_alerts_milliseconds(double s, char *text, size_t n)
{
    if (isnan(s))
        snprintf(text, n, "-");
    else
        snprintf(text, n, fabs(s) < 9.9995 ? "%.0f ms" : "%.1f s", fabs(s) < 9.9995 ? s * 1e3 : s);
    return text;
}

const char *gw_alerts_gps_text(int64_t ns, int decimals, char *text, size_t n)
{
    int64_t unit = 1;
    for (int i = decimals; i < 9; i++)
        unit *= 10;
    if (ns <= INT64_MIN / 2 || ns >= INT64_MAX / 2) { /* not known, or nonsense */
        snprintf(text, n, "-");
        return text;
    }
    int64_t r = (ns + (ns < 0 ? -unit / 2 : unit / 2)) / unit, scale = GW_SECOND_NS / unit,
            size = r < 0 ? -r : r;
    snprintf(text, n, "%s%" PRId64 ".%0*" PRId64, r < 0 ? "-" : "", size / scale, decimals, size % scale);
    return text;
}

/* ---- list ---- */

int gw_alerts_line(FILE *to, const gw_journal_row *r)
{
    char json[GW_JOURNAL_JSON_BYTES];
    if (!r->json)
        GW_TRY(gw_journal_json(&r->event, r->serial, GW_NOT_KNOWN_NS, false, json, sizeof json));
    fprintf(to, "%s\n", r->json ? r->json : json);
    return 0;
}

static int list_row(void *user, const gw_journal_row *r)
{
    gw_alerts_report *p = user;
    const gw_event *e = &r->event;
    if (p->o->json)
        return gw_alerts_line(p->to, r);
    if (p->rows++ == 0)
        fprintf(p->to, "%-17s  %-9s  %-24s  %-14s  %-9s  %9s  %-13s  %8s  %s\n", "id", "phase", "UTC", "GPS",
                "detectors", "statistic", "noise reaches", "latency", "kind");
    char utc[32], gps[32], rate[32], latency[32];
    fprintf(
        p->to, "%-17s  %-9s  %-24s  %-14s  %-9s  %9.2f  %-13s  %8s  %s%s%s\n", e->id, gw_phase_text(e->phase),
        gw_gps_utc(e->gps_ns, utc, sizeof utc), gw_alerts_gps_text(e->gps_ns, 3, gps, sizeof gps),
        e->detectors, e->statistic, gw_alerts_rarity(e, rate, sizeof rate),
        gw_alerts_milliseconds(r->first_latency_s, latency, sizeof latency), e->alert ? "ALERT" : "candidate",
        e->injection ? ", injection" : "", r->published_ns == GW_NOT_KNOWN_NS ? ", not published" : "");
    return 0;
}

int gw_alerts_list(gw_journal *j, const gw_alerts_options *o, FILE *to)
{
    gw_alerts_report p = {.o = o, .to = to};
    const gw_journal_query q = {.since_ns = o->since_ns, .limit = o->limit, .latest = true};
    GW_TRY(gw_journal_each(j, &q, list_row, &p));
    if (o->json)
        return 0;
    gw_journal_summary s;
    GW_TRY(gw_journal_summarise(j, 0, &s));
    if (p.rows == 0)
        fprintf(to, "%s: no events%s\n", o->journal, s.events ? " at or after that time" : " yet");
    if (s.timed) {
        char median[32], longest[32];
        fprintf(to,
                "\nmerger to first publication: median %s, longest %s (of %" PRIu64
                " events at real-time pace)\n",
                gw_alerts_milliseconds(s.latency_median_s, median, sizeof median),
                gw_alerts_milliseconds(s.latency_max_s, longest, sizeof longest), s.timed);
    }
    return 0;
}

/* ---- show ---- */

typedef struct found {
    const gw_alerts_options *o;
    char *id;
} found;

/* Refuses a second id that begins so. All ids are of one length. */
static int same_id(void *user, const gw_journal_row *r)
{
    found *f = user;
    if (f->id[0])
        return gw_fail(GW_EUSAGE, "%s: '%s' begins more than one id (%s, %s); give more of it", f->o->verb,
                       f->o->id, f->id, r->event.id);
    snprintf(f->id, GW_EVENT_ID_BYTES, "%s", r->event.id);
    return 0;
}

int gw_alerts_find(gw_journal *j, const gw_alerts_options *o, char id[GW_EVENT_ID_BYTES])
{
    found f = {o, id};
    id[0] = '\0';
    GW_TRY(gw_journal_each(j, &(gw_journal_query){.id = o->id, .latest = true}, same_id, &f));
    return id[0] ? 0
                 : gw_fail(GW_EMISSING, "%s: %s: no event '%s'; 'gwstream alerts list' names them", o->verb,
                           o->journal, o->id);
}

typedef struct shown {
    gw_alerts_report p;
    gw_journal *journal;
} shown;

/* Why an event was retracted, as its detail says it; "" when it does not. */
static const char *reason_of(const gw_event *e, char *text, size_t n)
{
    static const char key[] = "\"reason\":\"";
    const char *from = strstr(e->detail, key), *to = from ? from + sizeof key - 1 : NULL;
    text[0] = '\0';
    if (!from)
        return text;
    for (from = to; *to && *to != '"'; to++)
        to += *to == '\\' && to[1];
    snprintf(text, n, "%.*s", (int)(to - from), from);
    return text;
}

/* When the signal came to each detector, as the detail's "arrivals" has it (pipeline/event.h). */
static void show_arrivals(const gw_event *e, FILE *to)
{
    const char *from = strstr(e->detail, "\"arrivals\":{");
    char name[sizeof e->detectors], key[64], gps[40], *rest = name;
    double sigma_s;
    snprintf(name, sizeof name, "%s", e->detectors);
    for (const char *d; from && (d = strsep(&rest, ","));) {
        snprintf(key, sizeof key, "\"%s\":{", d);
        const char *at = strstr(from, key);
        if (at && sscanf(at + strlen(key), "\"gps\":\"%39[0-9.]\",\"sigma_s\":%lf", gps, &sigma_s) == 2)
            fprintf(to, "    arrival     %s: %s, +- %.1f ms\n", d, gps, sigma_s * 1e3);
    }
}

static int show_ack(void *user, const gw_journal_ack *k)
{
    FILE *to = user;
    char text[32];
    if (k->refused) {
        fprintf(to, "    broker      %s: never, %s\n", k->broker, k->refused);
        return 0;
    }
    if (k->acked_ns == GW_NOT_KNOWN_NS) {
        fprintf(to, "    broker      %s: waits, by order\n", k->broker);
        return 0;
    }
    fprintf(to, "    broker      %s: acknowledged %s", k->broker, gw_gps_utc(k->acked_ns, text, sizeof text));
    if (!isnan(k->latency_s))
        fprintf(to, ", %s after the merger", gw_alerts_milliseconds(k->latency_s, text, sizeof text));
    fputc('\n', to);
    return 0;
}

static int show_row(void *user, const gw_journal_row *r)
{
    shown *s = user;
    const gw_event *e = &r->event;
    FILE *to = s->p.to;
    if (s->p.o->json)
        return gw_alerts_line(to, r);
    char a[32], b[48], reason[512];
    if (s->p.rows++ == 0) {
        fprintf(to, "%s\n", e->id);
        fprintf(to, "  detectors   %s\n  found in    %s\n", e->detectors, e->stream);
        fprintf(to, "  model       %s (sha256 %s, card %s)\n", e->model, e->model_hash, e->card_hash);
        fprintf(to, "  injection   %s\n", e->injection ? "yes" : "no");
    }
    fprintf(to, "\n  %s", gw_phase_text(e->phase));
    if (e->phase == GW_PHASE_UPDATE || r->serial > 1)
        fprintf(to, " %d", r->serial);
    fprintf(to, "%s\n", e->alert ? ", above the alert threshold" : "");
    if (e->phase == GW_PHASE_RETRACTED)
        fprintf(to, "    because     %s\n", reason_of(e, reason, sizeof reason));
    fprintf(to, "    GPS         %s", gw_alerts_gps_text(e->gps_ns, 9, b, sizeof b));
    if (!isnan(e->gps_error_s))
        fprintf(to, ", +- %.1f ms", e->gps_error_s * 1e3);
    fprintf(to, "\n    UTC         %s\n", gw_gps_utc(e->gps_ns, a, sizeof a));
    show_arrivals(e, to);
    fprintf(to, "    statistic   %.4f\n", e->statistic);
    fprintf(to, "    noise       reaches it %s", gw_alerts_rarity(e, a, sizeof a));
    fprintf(to, " (%.3g Hz, from %.3g d of background)\n", e->noise_rate_hz, e->background_s / 86400);
    fprintf(to, "    quality     0x%08" PRIx64 "\n", e->dq);
    fprintf(to, "    committed   %s\n", gw_gps_utc(r->committed_ns, a, sizeof a));
    if (r->published_ns == GW_NOT_KNOWN_NS) {
        fprintf(to, "    published   not yet\n");
        return gw_journal_each_ack(s->journal, r, show_ack, to);
    }
    fprintf(to, "    published   %s%s\n", gw_gps_utc(r->published_ns, a, sizeof a),
            r->recovered ? " (by a later run)" : "");
    if (!isnan(r->latency_s))
        fprintf(to, "    latency     %s after the merger\n",
                gw_alerts_milliseconds(r->latency_s, a, sizeof a));
    return gw_journal_each_ack(s->journal, r, show_ack, to);
}

int gw_alerts_show(gw_journal *j, const gw_alerts_options *o, FILE *to)
{
    shown s = {.p = {.o = o, .to = to}, .journal = j};
    char id[GW_EVENT_ID_BYTES];
    GW_TRY(gw_alerts_find(j, o, id));
    return gw_journal_each(j, &(gw_journal_query){.id = id}, show_row, &s);
}
