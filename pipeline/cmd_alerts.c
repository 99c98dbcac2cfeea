/* SPDX-License-Identifier: GPL-3.0-or-later
 * `gwstream alerts`: reads a journal for a person (list, show, efficiency) or another program (export).
 * Called by main.c, and part of it: it prints. It never changes a journal, and may run beside a search. */
#include "pipeline/cmd.h"
#include "pipeline/config.h"
#include "sinks/journal.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

static const char help[] =
    "usage: gwstream alerts [list] [--limit N] [--since GPS] [--json]\n"
    "       gwstream alerts show ID [--json]\n"
    "       gwstream alerts export [--json | --csv] [--limit N] [--since GPS] [--injections]\n"
    "                              [--output FILE]\n"
    "       gwstream alerts efficiency [--since GPS] [--json]\n"
    "\n"
    "Reads the journal of events that a run has kept.\n"
    "\n"
    "  list         one line an event: its latest phase, time, detectors, statistic, how rarely noise\n"
    "               reaches it, the time from merger to first publication, and whether it was an injection\n"
    "  show         everything about one event, phase by phase; the beginning of its id is enough\n"
    "  export       every phase of every event, as JSON lines (as they were published) or CSV\n"
    "  efficiency   how many of the injections were found, by their network SNR\n"
    "\n"
    "  -j, --journal FILE   default gwstream.sqlite\n"
    "  -n, --limit N        the last N events (or injections) only\n"
    "  -s, --since GPS      events (or injections) at or after this GPS time only\n"
    "      --json, --csv    machine-readable output\n"
    "      --injections     export what was injected instead of what was found\n"
    "  -o, --output FILE    write there instead of to the standard output\n"
    "  -h, --help           this text\n";

typedef struct options {
    const char *verb, *id, *journal, *output;
    int64_t limit, since_ns;
    bool json, csv, injections;
} options;

typedef struct report {
    const options *o;
    FILE *to;
    uint64_t rows;
} report;

/* ---- how a person reads numbers ---- */

/* A rate of noise as "1 per 3.2 d". */
static const char *rarity(double rate_hz, char *text, size_t n)
{
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
    snprintf(text, n, v < 9.95 ? "1 per %.1f %s" : "1 per %.0f %s", v, units[i].unit);
    return text;
}

static const char *milliseconds(double s, char *text, size_t n)
{
    if (isnan(s))
        snprintf(text, n, "-");
    else
        snprintf(text, n, fabs(s) < 9.9995 ? "%.0f ms" : "%.1f s", fabs(s) < 9.9995 ? s * 1e3 : s);
    return text;
}

static const char *gps_text(int64_t ns, int decimals, char *text, size_t n)
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

static int list_row(void *user, const gw_journal_row *r)
{
    report *p = user;
    const gw_event *e = &r->event;
    if (p->o->json) {
        char json[GW_JOURNAL_JSON_BYTES];
        if (!r->json)
            GW_TRY(gw_journal_json(e, r->serial, GW_NOT_KNOWN_NS, false, json, sizeof json));
        fprintf(p->to, "%s\n", r->json ? r->json : json);
        p->rows++;
        return 0;
    }
    if (p->rows++ == 0)
        fprintf(p->to, "%-17s  %-9s  %-24s  %-14s  %-9s  %9s  %-13s  %8s  %s\n", "id", "phase", "UTC", "GPS",
                "detectors", "statistic", "noise reaches", "latency", "kind");
    char utc[32], gps[32], rate[32], latency[32];
    fprintf(p->to, "%-17s  %-9s  %-24s  %-14s  %-9s  %9.2f  %-13s  %8s  %s%s%s\n", e->id,
            gw_phase_text(e->phase), gw_gps_utc(e->gps_ns, utc, sizeof utc),
            gps_text(e->gps_ns, 3, gps, sizeof gps), e->detectors, e->statistic,
            rarity(e->noise_rate_hz, rate, sizeof rate),
            milliseconds(r->first_latency_s, latency, sizeof latency), e->alert ? "ALERT" : "candidate",
            e->injection ? ", injection" : "", r->published_ns == GW_NOT_KNOWN_NS ? ", not published" : "");
    return 0;
}

static int list(gw_journal *j, const options *o, FILE *to)
{
    report p = {.o = o, .to = to};
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
                milliseconds(s.latency_median_s, median, sizeof median),
                milliseconds(s.latency_max_s, longest, sizeof longest), s.timed);
    }
    return 0;
}

/* ---- show ---- */

typedef struct shown {
    report p;
    gw_journal *journal;
    char id[GW_EVENT_ID_BYTES];
} shown;

/* Refuses a second id that begins so. All ids are of one length. */
static int same_id(void *user, const gw_journal_row *r)
{
    shown *s = user;
    if (s->id[0])
        return gw_fail(GW_EUSAGE, "show: '%s' begins more than one id (%s, %s); give more of it", s->p.o->id,
                       s->id, r->event.id);
    snprintf(s->id, sizeof s->id, "%s", r->event.id);
    return 0;
}

static int show_ack(void *user, const gw_journal_ack *k)
{
    FILE *to = user;
    char text[32];
    if (k->refused) {
        fprintf(to, "    broker      %s: never, %s\n", k->broker, k->refused);
        return 0;
    }
    fprintf(to, "    broker      %s: acknowledged %s", k->broker, gw_gps_utc(k->acked_ns, text, sizeof text));
    if (!isnan(k->latency_s))
        fprintf(to, ", %s after the merger", milliseconds(k->latency_s, text, sizeof text));
    fputc('\n', to);
    return 0;
}

static int show_row(void *user, const gw_journal_row *r)
{
    shown *s = user;
    const gw_event *e = &r->event;
    FILE *to = s->p.to;
    if (s->p.o->json)
        return list_row(&s->p, r);
    char a[32], b[48];
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
    fprintf(to, "    GPS         %s\n    UTC         %s\n", gps_text(e->gps_ns, 9, b, sizeof b),
            gw_gps_utc(e->gps_ns, a, sizeof a));
    fprintf(to, "    statistic   %.4f\n", e->statistic);
    fprintf(to, "    noise       reaches it %s", rarity(e->noise_rate_hz, a, sizeof a));
    fprintf(to, " (%.3g Hz, from %.3g d of background)\n", e->noise_rate_hz, e->background_s / 86400);
    fprintf(to, "    quality     0x%08" PRIx64 "\n", e->dq);
    fprintf(to, "    committed   %s\n", gw_gps_utc(r->committed_ns, a, sizeof a));
    if (r->published_ns == GW_NOT_KNOWN_NS) {
        fprintf(to, "    published   not yet\n");
        return gw_journal_each_ack(s->journal, r, show_ack, to);
    }
    fprintf(to, "    published   %s%s\n", gw_gps_utc(r->published_ns, a, sizeof a),
            r->recovered ? " (by a later run, after a crash)" : "");
    if (!isnan(r->latency_s))
        fprintf(to, "    latency     %s after the merger\n", milliseconds(r->latency_s, a, sizeof a));
    return gw_journal_each_ack(s->journal, r, show_ack, to);
}

static int show(gw_journal *j, const options *o, FILE *to)
{
    shown s = {.p = {.o = o, .to = to}, .journal = j};
    GW_TRY(gw_journal_each(j, &(gw_journal_query){.id = o->id, .latest = true}, same_id, &s));
    if (!s.id[0])
        return gw_fail(GW_EMISSING, "show: %s: no event '%s'; 'gwstream alerts list' names them", o->journal,
                       o->id);
    return gw_journal_each(j, &(gw_journal_query){.id = s.id}, show_row, &s);
}

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
    fprintf(to, "%s,", ns == GW_NOT_KNOWN_NS ? "" : gps_text(ns, 9, text, sizeof text));
}

static int csv_row(void *user, const gw_journal_row *r)
{
    report *p = user;
    const gw_event *e = &r->event;
    FILE *to = p->to;
    char utc[32];
    if (p->rows++ == 0)
        fputs(
            "id,phase,serial,gps,utc,detectors,stream,statistic,noise_rate_hz,background_s,alert,injection,"
            "dq,"
            "model,model_hash,card_hash,due_gps,ingest_gps,decided_gps,committed_gps,published_gps,recovered,"
            "latency_s\n",
            to);
    csv_text(to, e->id, ",");
    fprintf(to, "%s,%d,", gw_phase_text(e->phase), r->serial);
    csv_time(to, e->gps_ns);
    fprintf(to, "%s,", gw_gps_utc(e->gps_ns, utc, sizeof utc));
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
    report *p = user;
    FILE *to = p->to;
    char gps[48], utc[32];
    gps_text(t->gps_ns, 9, gps, sizeof gps);
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

static int export(gw_journal *j, const options *o, FILE *to)
{
    report p = {.o = o, .to = to};
    const gw_journal_query q = {.since_ns = o->since_ns, .limit = o->limit};
    if (o->injections)
        return gw_journal_each_truth(j, &(gw_journal_truths){.since_ns = o->since_ns, .limit = o->limit},
                                     truth_row, &p);
    if (o->csv)
        return gw_journal_each(j, &q, csv_row, &p);
    const options as_json = {.json = true};
    p.o = &as_json;
    return gw_journal_each(j, &q, list_row, &p);
}

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

static int efficiency(gw_journal *j, const options *o, FILE *to)
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

/* ---- the command ---- */

enum { OPT_JSON = 256, OPT_CSV, OPT_INJECTIONS };

static int read_options(int argc, char **argv, options *o, bool *done)
{
    static const struct option longs[] = {{"journal", required_argument, NULL, 'j'},
                                          {"limit", required_argument, NULL, 'n'},
                                          {"since", required_argument, NULL, 's'},
                                          {"output", required_argument, NULL, 'o'},
                                          {"json", no_argument, NULL, OPT_JSON},
                                          {"csv", no_argument, NULL, OPT_CSV},
                                          {"injections", no_argument, NULL, OPT_INJECTIONS},
                                          {"help", no_argument, NULL, 'h'},
                                          {NULL, 0, NULL, 0}};
    int c;
    optind = 0; /* main.c may have used getopt before */
    opterr = 0;
    while ((c = getopt_long(argc, argv, ":j:n:s:o:h", longs, NULL)) != -1) {
        switch (c) {
        case 'j':
            o->journal = optarg;
            break;
        case 'n':
            if (gw_parse_int(optarg, &o->limit) < 0 || o->limit < 1)
                return gw_fail(GW_EUSAGE, "--limit %s: wants a whole number from 1 on", optarg);
            break;
        case 's':
            if (gw_parse_gps_ns(optarg, &o->since_ns) < 0)
                return gw_fail(GW_EUSAGE, "--since %s: wants GPS seconds such as 1126259462.4", optarg);
            break;
        case 'o':
            o->output = optarg;
            break;
        case OPT_JSON:
            o->json = true;
            break;
        case OPT_CSV:
            o->csv = true;
            break;
        case OPT_INJECTIONS:
            o->injections = true;
            break;
        case 'h':
            fputs(help, stdout);
            *done = true;
            return 0;
        case ':':
            return gw_fail(GW_EUSAGE, "%s wants a value; see 'gwstream alerts --help'", argv[optind - 1]);
        default:
            return gw_fail(GW_EUSAGE, "unknown option '%s'; see 'gwstream alerts --help'", argv[optind - 1]);
        }
    }
    if (optind < argc)
        o->verb = argv[optind++];
    if (strcmp(o->verb, "show") == 0) {
        if (optind == argc)
            return gw_fail(GW_EUSAGE, "show: wants an event's id; 'gwstream alerts list' names them");
        o->id = argv[optind++];
    }
    if (optind < argc)
        return gw_fail(GW_EUSAGE, "%s: what is '%s'? see 'gwstream alerts --help'", o->verb, argv[optind]);
    bool exports = strcmp(o->verb, "export") == 0;
    if ((o->csv || o->injections || o->output) && !exports)
        return gw_fail(GW_EUSAGE, "%s: --csv, --injections and --output belong to 'alerts export'", o->verb);
    bool efficiency_of = strcmp(o->verb, "efficiency") == 0;
    if ((o->limit || o->since_ns) && o->id)
        return gw_fail(GW_EUSAGE, "show: --limit and --since belong to 'alerts list' and 'alerts export'");
    if (o->limit && efficiency_of)
        return gw_fail(GW_EUSAGE, "efficiency: --limit belongs to 'alerts list' and 'alerts export'");
    if (o->csv && o->json)
        return gw_fail(GW_EUSAGE, "export: --json or --csv, not both");
    return 0;
}

typedef int verb_run(gw_journal *j, const options *o, FILE *to);

static int write_to(FILE *to, gw_journal *j, const options *o, verb_run *run)
{
    int err = run(j, o, to);
    if ((fflush(to) != 0 || ferror(to)) && err == 0)
        err = gw_fail(GW_EIO, "%s: %s", o->output ? o->output : "the standard output", strerror(errno));
    return err;
}

/* Would writing to `path` destroy the journal, under whatever name: the file itself or one of those that
 * SQLite and a search keep beside it? */
static bool is_journal(const char *path, const char *journal)
{
    static const char *const beside[] = {"", "-wal", "-shm", "-lock"};
    struct stat ours, theirs;
    char name[1100];
    if (stat(path, &ours) < 0)
        return false;
    for (size_t i = 0; i < sizeof beside / sizeof *beside; i++) {
        snprintf(name, sizeof name, "%s%s", journal, beside[i]);
        if (stat(name, &theirs) == 0 && ours.st_dev == theirs.st_dev && ours.st_ino == theirs.st_ino)
            return true;
    }
    return false;
}

/* Into a file beside it that takes its name when it is whole. What is no plain file - a device, a pipe, a
 * link such as /dev/stdout - is written to as it is. */
static int write_output(gw_journal *j, const options *o, verb_run *run)
{
    char part[4096];
    struct stat st;
    bool direct = lstat(o->output, &st) == 0 && !S_ISREG(st.st_mode);
    if ((size_t)snprintf(part, sizeof part, direct ? "%s" : "%s.part", o->output) >= sizeof part)
        return gw_fail(GW_ERANGE, "export: --output %.60s...: its path is too long", o->output);
    if (is_journal(o->output, o->journal) || is_journal(part, o->journal))
        return gw_fail(GW_EUSAGE, "export: --output %s would write over the journal; name another file",
                       o->output);
    FILE *to = fopen(part, "w");
    if (!to)
        return gw_fail(GW_EACCESS, "export: %s: %s", part, strerror(errno));
    int err = write_to(to, j, o, run);
    if (fclose(to) != 0 && err == 0)
        err = gw_fail(GW_EIO, "%s: %s", o->output, strerror(errno));
    if (!direct && err == 0 && rename(part, o->output) != 0)
        err = gw_fail(GW_EACCESS, "export: %s: %s", o->output, strerror(errno));
    if (!direct && err < 0)
        remove(part);
    return err;
}

int gw_cmd_alerts(int argc, char **argv)
{
    static const struct {
        const char *verb;
        verb_run *run;
    } verbs[] = {{"list", list}, {"show", show}, {"export", export}, {"efficiency", efficiency}};

    options o = {.verb = "list", .journal = "gwstream.sqlite"};
    bool done = false;
    GW_TRY(read_options(argc, argv, &o, &done));
    if (done)
        return 0;
    size_t v = 0;
    while (v < sizeof verbs / sizeof *verbs && strcmp(verbs[v].verb, o.verb) != 0)
        v++;
    if (v == sizeof verbs / sizeof *verbs)
        return gw_fail(GW_EUSAGE, "'%s' is none of list, show, export, efficiency", o.verb);

    gw_journal *j = NULL;
    GW_TRY(gw_journal_open_read(&j, o.journal));
    int err = o.output ? write_output(j, &o, verbs[v].run) : write_to(stdout, j, &o, verbs[v].run);
    gw_journal_close(&j);
    return err;
}
