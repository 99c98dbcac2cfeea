/* SPDX-License-Identifier: GPL-3.0-or-later
 * `gwstream witness rank`: which channels are witnesses of strain's noise. Makes a graph of the files, or of
 * the sources of a graph's file, with the sink `rank` behind them, and runs it. --yaml shows the graph. */
#include "pipeline/cmd.h"
#include "pipeline/cmd_text.h"
#include "pipeline/config.h"

#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static const char rank_help[] =
    "usage: gwstream witness rank [options] --strain CHANNEL FILE.hdf5 ...\n"
    "       gwstream witness rank [options] --strain CHANNEL --config GRAPH.yaml\n\n"
    "Ranks channels as witnesses of strain's noise: by coherence in bands, by coherence of slow channels "
    "with\n"
    "the sidebands of lines, and by what each explains beyond those before it. Channels of all rates.\n\n"
    "  --strain NAME     the channel to be explained (H1:STRAIN)\n"
    "  --config F        take the sources of this graph (its stages and sinks are left out)\n"
    "  --from A,B        of the sources' streams only these (sky.H1,sky.H1_witness)\n"
    "  --bands A-B,...   in Hz (default with no --lines: 10-30,57-63)\n"
    "  --lines F,...     in Hz (default with no --bands: 60)\n"
    "  --duration T      look at so much (default 300s of a --config, all of files); tables tell of the last "
    "300s\n"
    "  --start GPS       of files: from here on\n"
    "  --refuse F        patterns of channels never to be chosen, one a line (H1:GDS-*), beside what "
    "cleaning\n"
    "                    makes of strain (H1:STRAIN_*)\n"
    "  --top N           choose at most N (default 32)\n"
    "  --list F          write the names of those chosen, one a line: for `witnesses:` of denoise\n"
    "  --picture F       coherence as a PNG\n"
    "  --json F          everything\n"
    "  --output F        the table to this file instead of stdout\n"
    "  --yaml            print the graph instead of running it\n"
    "  --quiet           no progress\n";

enum {
    STRAIN = 1024,
    CONFIG,
    FROM,
    BANDS,
    LINES,
    DURATION,
    START,
    REFUSE,
    TOP,
    LIST,
    PICTURE,
    JSON,
    OUTPUT,
    YAML
};

typedef struct options {
    const char *value[YAML - STRAIN + 1]; /* of the option with that number */
    bool yaml, quiet;
} options;

static const char *given(const options *o, int option)
{
    return o->value[option - STRAIN];
}

/* ---- the sources of another graph ---- */

/* Whether a source keeps `duration` and `pace`, so that it may be given others. */
static bool ends_by_itself(const char *kind)
{
    return strcmp(kind, "sim") == 0 || strcmp(kind, "repeat") == 0;
}

/* Writes the sources and their names for `from`; *endless: one of them does not end by itself. */
static int add_sources(gw_text *t, gw_text *names, const char *path, const char *duration, bool *endless)
{
    static const char *const always[] = {"node", "link", "lanes", NULL};
    static const char *const timed[] = {"node", "link", "lanes", "duration", "pace", NULL};
    gw_conf_file *file = NULL;
    gw_conf *sources = NULL;
    GW_TRY(gw_conf_load(&file, path));
    int err = gw_conf_need(gw_conf_root(file), "sources", &sources);
    if (err == GW_OK && (gw_conf_kind(sources) != GW_CONF_MAP || gw_conf_count(sources) == 0))
        err = gw_conf_fail(sources, "sources: a map of at least one");
    gw_text_add(t, "sources:\n");
    for (int i = 0; err == GW_OK && i < gw_conf_count(sources); i++) {
        gw_conf *source = gw_conf_item(sources, i);
        const char *kind = "";
        if (gw_conf_kind(source) != GW_CONF_MAP) {
            err = gw_conf_fail(source, "a source is a map");
            break;
        }
        err = gw_conf_get_text(source, "kind", &kind);
        const bool own = ends_by_itself(kind);
        *endless |= strcmp(kind, "live") == 0;
        gw_text_add(t, "  ");
        gw_text_quote(t, gw_conf_key(sources, i));
        gw_text_add(t, ": ");
        if (err == GW_OK)
            err = gw_text_node(t, source, own ? timed : always);
        if (own && t->used && t->s[t->used - 1] == '}') { /* the map is not empty: it has a kind */
            t->s[--t->used] = '\0';
            gw_text_add(t, ", duration: %s, pace: 0}", duration);
        }
        gw_text_add(t, "\n");
        gw_text_add(names, "%s", i ? ", " : "");
        gw_text_quote(names, gw_conf_key(sources, i));
    }
    gw_conf_free(&file);
    return err;
}

static void add_files(gw_text *t, gw_text *names, const options *o, char **files, int n)
{
    gw_text_add(t, "sources:\n  archive: {kind: replay");
    if (given(o, START))
        gw_text_add(t, ", start: %s", given(o, START));
    gw_text_add(t, ", files: [");
    for (int i = 0; i < n; i++) {
        gw_text_add(t, "%s", i ? ", " : "");
        gw_text_quote(t, files[i]);
    }
    gw_text_add(t, "]}\n");
    gw_text_add(names, "archive");
}

/* ---- the sink ---- */

/* "10-30,57-63" as [[10Hz, 30Hz], [57Hz, 63Hz]]; "60,180" as [60Hz, 180Hz]. */
static int add_frequencies(gw_text *t, const char *key, const char *text, bool pairs)
{
    gw_text_add(t, ", %s: [", key);
    for (const char *s = text; *s;) {
        const size_t n = strcspn(s, ",");
        const char *dash = memchr(s, '-', n);
        const int low = (int)(dash ? dash - s : (ptrdiff_t)n);
        if (n == 0 || (dash != NULL) != pairs || low == 0 || (pairs && (size_t)low + 1 == n) || n > 40)
            return gw_fail(GW_EUSAGE, "--%s wants %s, not '%s'", key,
                           pairs ? "10-30,57-63 (in Hz)" : "60,180 (in Hz)", text);
        gw_text_add(t, "%s", s > text ? ", " : "");
        if (pairs)
            gw_text_add(t, "[%.*sHz, %.*sHz]", low, s, (int)n - low - 1, dash + 1);
        else
            gw_text_add(t, "%.*sHz", low, s);
        s += n + (s[n] == ',');
    }
    gw_text_add(t, "]");
    return GW_OK;
}

static void add_path(gw_text *t, const char *key, const char *path)
{
    if (!path)
        return;
    gw_text_add(t, ", %s: ", key);
    gw_text_quote(t, path);
}

static int add_sink(gw_text *t, const options *o, const char *names, const char *duration, const char *table)
{
    gw_text_add(t, "sinks:\n  rank: {kind: rank, on_full: wait, from: [%s]",
                given(o, FROM) ? given(o, FROM) : names);
    add_path(t, "strain", given(o, STRAIN));
    if (given(o, BANDS))
        GW_TRY(add_frequencies(t, "bands", given(o, BANDS), true));
    if (given(o, LINES))
        GW_TRY(add_frequencies(t, "lines", given(o, LINES), false));
    if (duration)
        gw_text_add(t, ", duration: %s", duration);
    if (given(o, TOP))
        gw_text_add(t, ", top: %s", given(o, TOP));
    add_path(t, "refuse", given(o, REFUSE));
    add_path(t, "path", table);
    add_path(t, "list", given(o, LIST));
    add_path(t, "picture", given(o, PICTURE));
    add_path(t, "json", given(o, JSON));
    gw_text_add(t, "}\n");
    return GW_OK;
}

/* ---- running ---- */

/* Live data do not end: the graph is asked to stop, as by Ctrl-C, some seconds after the last that is wanted.
 */
static int stop_after(const char *duration)
{
    gw_rate span;
    timer_t timer;
    struct sigevent how = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGTERM};
    if (gw_parse_span(duration, &span) != GW_OK)
        return gw_fail(GW_EUSAGE, "--duration wants a time such as 300s, not '%s'", duration);
    const struct itimerspec when = {.it_value = {.tv_sec = (time_t)gw_rate_hz(span) + 5}};
    if (timer_create(CLOCK_MONOTONIC, &how, &timer) != 0 || timer_settime(timer, 0, &when, NULL) != 0)
        return gw_fail(GW_ESYSTEM, "no timer");
    return GW_OK;
}

static int print_file(const char *path)
{
    char line[1024];
    FILE *f = fopen(path, "r");
    if (!f)
        return gw_fail(GW_EIO, "%s: the table is not there", path);
    while (fgets(line, sizeof line, f))
        fputs(line, stdout);
    fclose(f);
    return GW_OK;
}

static int run_rank(const options *o, char **files, int n)
{
    const char *config = given(o, CONFIG), *duration = given(o, DURATION);
    char table[] = "/tmp/gwstream-rank-XXXXXX";
    const bool show = !given(o, OUTPUT) && !o->yaml;
    bool endless = false;
    gw_text t = {0}, names = {0};
    if (config && !duration)
        duration = "300s";
    const int fd = show ? mkstemp(table) : -1;
    if (show && fd < 0)
        return gw_fail(GW_ESYSTEM, "%s: cannot be made", table);
    if (fd >= 0)
        close(fd);
    int err = GW_OK;
    if (config)
        err = add_sources(&t, &names, config, duration, &endless);
    else
        add_files(&t, &names, o, files, n);
    if (err == GW_OK)
        err = add_sink(&t, o, names.s ? names.s : "", duration,
                       show               ? table
                       : given(o, OUTPUT) ? given(o, OUTPUT)
                                          : "rank.txt");
    free(names.s);
    if (err == GW_OK && endless && !o->yaml)
        err = stop_after(duration);
    if (err == GW_OK)
        err = gw_text_run(&t, "witness rank", o->yaml, o->quiet);
    else
        free(t.s);
    if (show && (err == GW_OK || err == GW_EFORMAT)) { /* what could be ranked in spite of bad input */
        char detail[1024];
        snprintf(detail, sizeof detail, "%s", gw_err_detail());
        const int printed = print_file(table);
        err = err == GW_OK ? printed : gw_fail(err, "%s", detail);
    }
    if (show)
        remove(table);
    return err;
}

int gw_cmd_witness(int argc, char **argv)
{
    static const struct option list[] = {{"help", no_argument, NULL, 'h'},
                                         {"strain", required_argument, NULL, STRAIN},
                                         {"config", required_argument, NULL, CONFIG},
                                         {"from", required_argument, NULL, FROM},
                                         {"bands", required_argument, NULL, BANDS},
                                         {"lines", required_argument, NULL, LINES},
                                         {"duration", required_argument, NULL, DURATION},
                                         {"start", required_argument, NULL, START},
                                         {"refuse", required_argument, NULL, REFUSE},
                                         {"top", required_argument, NULL, TOP},
                                         {"list", required_argument, NULL, LIST},
                                         {"picture", required_argument, NULL, PICTURE},
                                         {"json", required_argument, NULL, JSON},
                                         {"output", required_argument, NULL, OUTPUT},
                                         {"yaml", no_argument, NULL, YAML},
                                         {"quiet", no_argument, NULL, 'q'},
                                         {NULL, 0, NULL, 0}};
    options o = {0};
    if (argc > 1 && (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0)) {
        fputs(rank_help, stdout);
        return GW_OK;
    }
    if (argc < 2 || strcmp(argv[1], "rank") != 0)
        return gw_fail(GW_EUSAGE, "what of witnesses? gwstream witness rank (--help)");
    argc--;
    argv++;
    opterr = 0;
    optind = 1;
    for (int c; (c = getopt_long(argc, argv, "hq", list, NULL)) != -1;) {
        if (c == 'h') {
            fputs(rank_help, stdout);
            return GW_OK;
        }
        if (c == 'q')
            o.quiet = true;
        else if (c == YAML)
            o.yaml = true;
        else if (c >= STRAIN && c < YAML)
            o.value[c - STRAIN] = optarg;
        else
            return gw_fail(GW_EUSAGE,
                           "no option '%s', or its value is missing (gwstream witness rank --help)",
                           argv[optind - 1]);
    }
    if ((optind == argc) == !given(&o, CONFIG))
        return gw_fail(
            GW_EUSAGE,
            "which data? FILES or --config GRAPH.yaml, one of them (gwstream witness rank --help)");
    if (given(&o, CONFIG) && given(&o, START))
        return gw_fail(GW_EUSAGE, "--start goes with files; a graph's sources have their own");
    for (int i = LIST; i <= OUTPUT; i++)
        GW_TRY(gw_spare_inputs(given(&o, i), argv + optind, argc - optind));
    return run_rank(&o, argv + optind, argc - optind);
}
