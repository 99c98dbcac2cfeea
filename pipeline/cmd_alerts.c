/* SPDX-License-Identifier: GPL-3.0-or-later
 * `gwstream alerts`: what can be asked of a journal of events, and ordered, as verbs (cmd_alerts_*.c). This file
 * reads the command line and gives each verb an open journal and a place to write. Called by main.c, and part of
 * it: it prints. It may run beside a search; only what `retract` and `resend` order changes anything. */
#include "pipeline/cmd_alerts.h"
#include "pipeline/cmd.h"
#include "pipeline/config.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

static const char help[] =
    "usage: gwstream alerts [list] [--limit N] [--since GPS] [--json]\n"
    "       gwstream alerts show ID [--json]\n"
    "       gwstream alerts stats [--since GPS] [--json]\n"
    "       gwstream alerts efficiency [--since GPS] [--json]\n"
    "       gwstream alerts export [--json | --csv] [--limit N] [--since GPS]\n"
    "                              [--injections | --brokers] [--output FILE]\n"
    "       gwstream alerts retract ID --reason TEXT [--yes]\n"
    "       gwstream alerts resend [ID] [--since GPS] [--refused] [--broker NAME] [--yes]\n"
    "\n"
    "Reads the journal of events that a run has kept, and orders what is to be done about them.\n"
    "\n"
    "  list         one line an event: its latest phase, time, detectors, statistic, how rarely noise\n"
    "               reaches it, the time from merger to first publication, and whether it was an injection\n"
    "  show         everything about one event, phase by phase; the beginning of its id is enough\n"
    "  stats        how long alerts took from the merger to each broker's acknowledgement, and where the\n"
    "               time went; how many there were, and what brokers have refused and why\n"
    "  efficiency   how many of the injections were found, by their network SNR\n"
    "  export       every phase of every event, as JSON lines (as they were published) or CSV\n"
    "  retract      withdraws an event: everybody who was told of it is told so, with the reason\n"
    "  resend       sends brokers again what they have had or refused, under the same _id\n"
    "\n"
    "retract and resend are done by the run that holds the journal; where there is none, the next run tells\n"
    "it. On a terminal they ask first.\n"
    "\n"
    "  -j, --journal FILE   default gwstream.sqlite\n"
    "  -n, --limit N        the last N events (or injections) only\n"
    "  -s, --since GPS      events (or injections) at or after this GPS time only\n"
    "      --json, --csv    machine-readable output\n"
    "      --injections     export what was injected instead of what was found\n"
    "      --brokers        export what brokers have acknowledged and refused instead\n"
    "  -o, --output FILE    write there instead of to the standard output\n"
    "      --reason TEXT    why an event is retracted; goes out with it\n"
    "      --broker NAME    this broker only; it also gets what was there before it was first named\n"
    "      --refused        only what was refused for good\n"
    "  -y, --yes            do not ask\n"
    "  -h, --help           this text\n";

/* Which options a verb takes, by their letters; capitals have no short form. */
typedef struct verb {
    const char *name;
    gw_alerts_verb *run;
    enum { NO_ID, MAY_ID, MUST_ID } id;
    const char *takes;
} verb;

static const verb verbs[] = {
    {"list", gw_alerts_list, NO_ID, "nsJ"},         {"show", gw_alerts_show, MUST_ID, "J"},
    {"stats", gw_alerts_stats, NO_ID, "sJ"},        {"efficiency", gw_alerts_efficiency, NO_ID, "sJ"},
    {"export", gw_alerts_export, NO_ID, "nsoJCIB"}, {"retract", gw_alerts_retract, MUST_ID, "Ry"},
    {"resend", gw_alerts_resend, MAY_ID, "sNFy"},
};
enum { N_VERBS = sizeof verbs / sizeof *verbs };

static const struct option longs[] = {
    {"journal", required_argument, NULL, 'j'}, {"limit", required_argument, NULL, 'n'},
    {"since", required_argument, NULL, 's'},   {"output", required_argument, NULL, 'o'},
    {"json", no_argument, NULL, 'J'},          {"csv", no_argument, NULL, 'C'},
    {"injections", no_argument, NULL, 'I'},    {"brokers", no_argument, NULL, 'B'},
    {"reason", required_argument, NULL, 'R'},  {"broker", required_argument, NULL, 'N'},
    {"refused", no_argument, NULL, 'F'},       {"yes", no_argument, NULL, 'y'},
    {"help", no_argument, NULL, 'h'},          {NULL, 0, NULL, 0}};

static int find_verb(const char *name, const verb **v)
{
    for (*v = verbs; *v < verbs + N_VERBS; (*v)++)
        if (strcmp((*v)->name, name) == 0)
            return 0;
    return gw_fail(GW_EUSAGE, "'%s' is none of list, show, stats, efficiency, export, retract, resend", name);
}

/* An option that the verb does not take: says who does. */
static int misplaced(const verb *v, int letter)
{
    char who[160] = "";
    size_t used = 0;
    const struct option *o = longs;
    while (o->val != letter)
        o++;
    for (int i = 0; i < N_VERBS; i++)
        if (strchr(verbs[i].takes, letter) && used < sizeof who)
            used += (size_t)snprintf(who + used, sizeof who - used, "%s'alerts %s'", used ? ", " : "",
                                     verbs[i].name);
    return gw_fail(GW_EUSAGE, "%s: --%s belongs to %s", v->name, o->name, who);
}

static int read_value(int letter, gw_alerts_options *o)
{
    switch (letter) {
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
    case 'R':
        o->reason = optarg;
        break;
    case 'N':
        o->broker = optarg;
        break;
    default:
        o->json |= letter == 'J';
        o->csv |= letter == 'C';
        o->injections |= letter == 'I';
        o->brokers |= letter == 'B';
        o->refused |= letter == 'F';
        o->yes |= letter == 'y';
    }
    return 0;
}

/* What only makes sense together, or not. */
static int check(const gw_alerts_options *o)
{
    if (o->csv && o->json)
        return gw_fail(GW_EUSAGE, "export: --json or --csv, not both");
    if (o->injections && o->brokers)
        return gw_fail(GW_EUSAGE, "export: --injections or --brokers, not both");
    if (strcmp(o->verb, "retract") == 0 && !o->reason)
        return gw_fail(GW_EUSAGE, "retract: wants --reason TEXT; it goes out with the retraction");
    if (strcmp(o->verb, "resend") == 0 && !o->id && !o->since_ns && !o->refused)
        return gw_fail(GW_EUSAGE, "resend: wants an event's id, --since GPS or --refused");
    return 0;
}

static int read_options(int argc, char **argv, gw_alerts_options *o, const verb **v, bool *done)
{
    char given[32] = "";
    size_t n = 0;
    int c;
    optind = 0; /* main.c may have used getopt before */
    opterr = 0;
    while ((c = getopt_long(argc, argv, ":j:n:s:o:yh", longs, NULL)) != -1) {
        if (c == 'h') {
            fputs(help, stdout);
            *done = true;
            return 0;
        }
        if (c == ':')
            return gw_fail(GW_EUSAGE, "%s wants a value; see 'gwstream alerts --help'", argv[optind - 1]);
        if (c == '?')
            return gw_fail(GW_EUSAGE, "unknown option '%s'; see 'gwstream alerts --help'", argv[optind - 1]);
        GW_TRY(read_value(c, o));
        if (!strchr(given, c) && n < sizeof given - 1)
            given[n++] = (char)c;
    }
    if (optind < argc)
        o->verb = argv[optind++];
    GW_TRY(find_verb(o->verb, v));
    if ((*v)->id != NO_ID && optind < argc)
        o->id = argv[optind++];
    if ((*v)->id == MUST_ID && !o->id)
        return gw_fail(GW_EUSAGE, "%s: wants an event's id; 'gwstream alerts list' names them", o->verb);
    if (optind < argc)
        return gw_fail(GW_EUSAGE, "%s: what is '%s'? see 'gwstream alerts --help'", o->verb, argv[optind]);
    for (const char *g = given; *g; g++)
        if (*g != 'j' && !strchr((*v)->takes, *g))
            return misplaced(*v, *g);
    return check(o);
}

static int write_to(FILE *to, gw_journal *j, const gw_alerts_options *o, gw_alerts_verb *run)
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
    static const char *const beside[] = {"", "-wal", "-shm", "-journal", "-lock"};
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
static int write_output(gw_journal *j, const gw_alerts_options *o, gw_alerts_verb *run)
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
    gw_alerts_options o = {.verb = "list", .journal = "gwstream.sqlite"};
    const verb *v = NULL;
    gw_journal *j = NULL;
    bool done = false;
    GW_TRY(read_options(argc, argv, &o, &v, &done));
    if (done)
        return 0;
    GW_TRY(gw_journal_open_read(&j, o.journal));
    int err = o.output ? write_output(j, &o, v->run) : write_to(stdout, j, &o, v->run);
    gw_journal_close(&j);
    return err;
}
