/* SPDX-License-Identifier: GPL-3.0-or-later
 * `gwstream alerts export`: everything that the journal holds, for other programs, as JSON lines or CSV. */
#include "pipeline/cmd_alerts.h"
#include "pipeline/quote.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

/* ---- export ---- */

/* A text in CSV (RFC 4180): in quotes, and quotes doubled. */
static void csv_text(FILE *to, const char *text, const char *end)
{
    fputc('"', to);
    for (; *text; text++) {
        if (*text == '"')
            fputc('"', to);
        fputc(*text, to);
    }
    fputc('"', to);
    fputs(end, to);
}

static void csv_number(FILE *to, double v, const char *end)
{
    if (isnan(v)) /* an empty field */
        fputs(end, to);
    else
        fprintf(to, "%.17g%s", v, end);
}

static void csv_time(FILE *to, int64_t ns)
{
    char text[48];
    fprintf(to, "%s,", ns == GW_NOT_KNOWN_NS ? "" : gw_alerts_gps_text(ns, 9, text, sizeof text));
}

static int csv_row(void *user, const gw_journal_row *r)
{
    gw_alerts_report *p = user;
    const gw_event *e = &r->event;
    FILE *to = p->to;
    char utc[32];
    if (p->rows++ == 0)
        fputs(
            "id,phase,serial,gps,utc,gps_error_s,detectors,stream,statistic,noise_rate_hz,background_s,alert,"
            "injection,"
            "dq,"
            "model,model_hash,card_hash,due_gps,ingest_gps,decided_gps,committed_gps,published_gps,recovered,"
            "latency_s\n",
            to);
    csv_text(to, e->id, ",");
    fprintf(to, "%s,%d,", gw_phase_text(e->phase), r->serial);
    csv_time(to, e->gps_ns);
    fprintf(to, "%s,", gw_gps_utc(e->gps_ns, utc, sizeof utc));
    csv_number(to, e->gps_error_s, ",");
    csv_text(to, e->detectors, ",");
    csv_text(to, e->stream, ",");
    csv_number(to, e->statistic, ",");
    csv_number(to, e->noise_rate_hz, ",");
    csv_number(to, e->background_s, ",");
    fprintf(to, "%d,%d,%" PRIu64 ",", e->alert, e->injection, e->dq);
    csv_text(to, e->model, ",");
    csv_text(to, e->model_hash, ",");
    csv_text(to, e->card_hash, ",");
    csv_time(to, e->due_ns);
    csv_time(to, e->ingest_ns);
    csv_time(to, e->decided_ns);
    csv_time(to, r->committed_ns);
    csv_time(to, r->published_ns);
    fprintf(to, "%d,", r->recovered);
    csv_number(to, r->latency_s, "\n");
    return 0;
}

static int truth_row(void *user, const gw_journal_truth *t)
{
    gw_alerts_report *p = user;
    FILE *to = p->to;
    char gps[48], utc[32];
    gw_alerts_gps_text(t->gps_ns, 9, gps, sizeof gps);
    gw_gps_utc(t->gps_ns, utc, sizeof utc);
    if (p->o->csv) {
        if (p->rows++ == 0)
            fputs("gps,utc,detectors,network_snr,found,id,alert,offset_s,parameters\n", to);
        fprintf(to, "%s,%s,", gps, utc);
        csv_text(to, t->detectors, ",");
        csv_number(to, t->network_snr, ",");
        fprintf(to, "%d,%s,%d,", t->found, t->id, t->alert);
        csv_number(to, t->offset_s, ",");
        csv_text(to, t->detail, "\n");
        return 0;
    }
    fprintf(to, "{\"type\":\"injection\",\"gps\":%s,\"utc\":\"%s\",\"detectors\":\"%s\",\"found\":%s", gps,
            utc, t->detectors, t->found ? "true" : "false");
    if (t->found)
        fprintf(to, ",\"id\":\"%s\",\"alert\":%s,\"offset_s\":%.9f", t->id, t->alert ? "true" : "false",
                t->offset_s);
    bool object = t->detail[0] == '{' && t->detail[strlen(t->detail) - 1] == '}';
    fprintf(to, ",\"parameters\":%s}\n", object ? t->detail : "null");
    return 0;
}

/* ---- what brokers have said ---- */

typedef struct told {
    gw_alerts_report *p;
    const gw_journal_row *row;
} told;

static int ack_row(void *user, const gw_journal_ack *k)
{
    const told *t = user;
    const gw_event *e = &t->row->event;
    FILE *to = t->p->to;
    char gps[48];
    if (t->p->o->csv) {
        if (t->p->rows++ == 0)
            fputs("broker,id,phase,serial,acked_gps,latency_s,refused\n", to);
        csv_text(to, k->broker, ",");
        csv_text(to, e->id, ",");
        fprintf(to, "%s,%d,", gw_phase_text(e->phase), t->row->serial);
        csv_time(to, k->acked_ns);
        csv_number(to, k->latency_s, ",");
        csv_text(to, k->refused ? k->refused : "", "\n");
        return 0;
    }
    fprintf(to, "{\"type\":\"ack\",\"broker\":\"%s\",\"id\":\"%s\",\"phase\":\"%s\",\"serial\":%d", k->broker,
            e->id, gw_phase_text(e->phase), t->row->serial);
    if (k->acked_ns != GW_NOT_KNOWN_NS)
        fprintf(to, ",\"acked_gps\":%s", gw_alerts_gps_text(k->acked_ns, 9, gps, sizeof gps));
    if (!isnan(k->latency_s))
        fprintf(to, ",\"latency_s\":%.6f", k->latency_s);
    if (k->refused) {
        fputs(",\"refused\":", to);
        gw_quote(to, k->refused);
    }
    fputs("}\n", to);
    return 0;
}

typedef struct acks {
    gw_alerts_report *p;
    gw_journal *journal;
} acks;

static int acks_of_row(void *user, const gw_journal_row *r)
{
    const acks *a = user;
    told t = {a->p, r};
    return gw_journal_each_ack(a->journal, r, ack_row, &t);
}

/* ---- the verb ---- */

static int line_row(void *user, const gw_journal_row *r)
{
    return gw_alerts_line(((gw_alerts_report *)user)->to, r);
}

int gw_alerts_export(gw_journal *j, const gw_alerts_options *o, FILE *to)
{
    gw_alerts_report p = {.o = o, .to = to};
    acks a = {&p, j};
    const gw_journal_query q = {.since_ns = o->since_ns, .limit = o->limit};
    if (o->injections)
        return gw_journal_each_truth(j, &(gw_journal_truths){.since_ns = o->since_ns, .limit = o->limit},
                                     truth_row, &p);
    if (o->brokers)
        return gw_journal_each(j, &q, acks_of_row, &a);
    return gw_journal_each(j, &q, o->csv ? csv_row : line_row, &p);
}
