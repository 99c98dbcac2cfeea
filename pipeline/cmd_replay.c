/* SPDX-License-Identifier: GPL-3.0-or-later
 * The short ways: `gwstream replay FILES` and `gwstream simulate` write the YAML that a user would have
 * written and run it as any other graph. Neither publishes beyond this host. --yaml shows the graph. */
#include "pipeline/cmd.h"
#include "pipeline/cmd_text.h"
#include "pipeline/config.h"
#include "pipeline/log.h"
#include "pipeline/stages/model.h"
#include "sources/join.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int bad_option(char **argv)
{
    return gw_fail(GW_EUSAGE, "no option '%s', or its value is missing (gwstream %s --help)",
                   argv[optind - 1], argv[0]);
}

/* -- replay ------------------------------------------------------------------------------------------ */

static const char replay_help[] =
    "usage: gwstream replay [options] FILE.hdf5 ...\n\n"
    "Searches archived recordings of two detectors or more (GWOSC, GWpy, MLGWSC-1 or one-dataset-per-channel "
    "HDF5;\n"
    "any number of files, joined in time) and prints each event as a line of JSON. Of three detectors each "
    "pair\n"
    "that there is a network for is searched, and what they find is one event. Nothing leaves this host.\n\n"
    "  --model F         network (default: models/bbh-small.onnx, and bbh-virgo.onnx beside it where it is; "
    "each\n"
    "                    with its card beside it); may be given again, for other pairs\n"
    "  --journal F       SQLite journal of events (default: gwstream.sqlite; see gwstream alerts)\n"
    "  --output F        append the JSON lines to this file instead of stdout\n"
    "  --speed N         N times real time (default 0: as fast as it goes)\n"
    "  --block T         block length, 1/64s to 4s (default 1/16s)\n"
    "  --start GPS, --end GPS   only this span\n"
    "  --offset D=T      shift a detector's data in time (L1=30ms), for controls and time slides\n"
    "  --candidate X     candidate threshold instead of the card's 1/hour\n"
    "  --whitened F      record the whitened strain (HDF5)\n"
    "  --statistic F     record the ranking statistic (HDF5)\n"
    "  --picture F       draw the event (PNG), with the first pair's statistic\n"
    "  --challenge F     write the event file of the MLGWSC-1 challenge (HDF5: time, stat, var); of one "
    "pair\n"
    "  --yaml            print the graph instead of running it\n"
    "  --quiet           no progress\n";

enum { MOST_MODELS = 8, MOST_SEARCHES = 16, MODEL_PATH = 640 };

typedef struct replay_options {
    char model[MOST_MODELS][MODEL_PATH];
    int models;
    const char *journal, *output, *speed, *block, *start, *end, *candidate, *whitened, *statistic, *picture,
        *challenge;
    const char *offset[8];
    int offsets;
    bool yaml, quiet;
} replay_options;

enum {
    MODEL = 256,
    JOURNAL,
    OUTPUT,
    SPEED,
    BLOCK,
    START,
    END,
    OFFSET,
    CANDIDATE,
    WHITENED,
    STATISTIC,
    PICTURE,
    CHALLENGE,
    YAML
};

static int replay_option(int c, replay_options *o, char **argv)
{
    switch (c) {
    case MODEL:
        if (o->models == MOST_MODELS)
            return gw_fail(GW_EUSAGE, "--model: at most %d", MOST_MODELS);
        if (strlen(optarg) >= MODEL_PATH)
            return gw_fail(GW_EUSAGE, "--model '%.100s...': too long for the name of a file", optarg);
        strcpy(o->model[o->models++], optarg);
        break;
    case JOURNAL:
        o->journal = optarg;
        break;
    case OUTPUT:
        o->output = optarg;
        break;
    case SPEED:
        o->speed = optarg;
        break;
    case BLOCK:
        o->block = optarg;
        break;
    case START:
        o->start = optarg;
        break;
    case END:
        o->end = optarg;
        break;
    case OFFSET:
        if (o->offsets == 8 || !strchr(optarg, '='))
            return gw_fail(GW_EUSAGE, "--offset wants DETECTOR=TIME (L1=30ms), not '%s'", optarg);
        o->offset[o->offsets++] = optarg;
        break;
    case CANDIDATE:
        o->candidate = optarg;
        break;
    case WHITENED:
        o->whitened = optarg;
        break;
    case STATISTIC:
        o->statistic = optarg;
        break;
    case PICTURE:
        o->picture = optarg;
        break;
    case CHALLENGE:
        o->challenge = optarg;
        break;
    case YAML:
        o->yaml = true;
        break;
    case 'q':
        o->quiet = true;
        break;
    default:
        return bad_option(argv);
    }
    return GW_OK;
}

/* ---- which pairs ---- */

typedef struct search {
    char name[40], pair[2][8]; /* pair empty: all streams */
    const char *model;
} search;

typedef struct searches {
    search s[MOST_SEARCHES];
    int n, of_model;                /* of the model at hand */
    char detectors[8][8], list[80]; /* in the files */
    int n_detectors;
} searches;

/* The one that is shipped, and that for pairs with V1 where it lies beside it. */
static int default_models(replay_options *o)
{
    GW_TRY(gw_default_model(o->model[0], MODEL_PATH));
    o->models = 1;
    char *name = strrchr(o->model[0], '/');
    const int folder = name ? (int)(name - o->model[0]) : 0;
    const int n =
        snprintf(o->model[1], MODEL_PATH, "%.*s%sbbh-virgo.onnx", folder, o->model[0], name ? "/" : "");
    o->models += n < MODEL_PATH && access(o->model[1], R_OK) == 0;
    return GW_OK;
}

/* What cannot be read is left to the graph, which says why. */
static void list_detectors(searches *all, char **files, int n)
{
    const gw_join_wish wish = {.file = files, .n_files = n, .start_ns = INT64_MIN, .end_ns = INT64_MAX};
    gw_join j = {0};
    const int err = gw_join_open(&j, &wish);
    for (int i = 0; err == GW_OK && i < j.n_streams && all->n_detectors < 8; i++) {
        const gw_spec *s = &j.stream[i].spec;
        const size_t used = strlen(all->list);
        if (!s->detector[0] || strcmp(s->name, s->detector) != 0) /* witnesses and slow channels */
            continue;
        snprintf(all->detectors[all->n_detectors++], 8, "%.7s", s->detector);
        snprintf(all->list + used, sizeof all->list - used, "%s%.7s", used ? ", " : "", s->detector);
    }
    gw_join_close(&j);
}

static bool has_detector(const searches *all, const char *name)
{
    for (int i = 0; i < all->n_detectors; i++)
        if (strcmp(all->detectors[i], name) == 0)
            return true;
    return false;
}

static int add_pairs(searches *all, const char *path)
{
    gw_onnx *onnx = NULL;
    gw_model m;
    GW_TRY(gw_onnx_load(&onnx, path));
    const int err = gw_model_read(&m, onnx);
    gw_onnx_free(&onnx);
    GW_TRY(err);
    for (int p = 0; p < m.n_pairs; p++) {
        const char *a = m.pair[p][0], *b = m.pair[p][1];
        if (!has_detector(all, a) || !has_detector(all, b))
            continue;
        if (all->n == MOST_SEARCHES)
            return gw_fail(GW_EUSAGE, "more than %d pairs of detectors and networks for them", MOST_SEARCHES);
        search *s = &all->s[all->n++];
        *s = (search){.model = path};
        snprintf(s->pair[0], sizeof s->pair[0], "%s", a);
        snprintf(s->pair[1], sizeof s->pair[1], "%s", b);
        int twice = 1;
        for (int i = 0; i + 1 < all->n; i++)
            twice += strcmp(all->s[i].pair[0], a) == 0 && strcmp(all->s[i].pair[1], b) == 0;
        if (twice > 1)
            snprintf(s->name, sizeof s->name, "search_%s%s_%d", a, b, twice);
        else
            snprintf(s->name, sizeof s->name, "search_%s%s", a, b);
    }
    return GW_OK;
}

/* Two detectors and one network: all that comes, and the graph says what does not fit. Else the pairs that there are, each
 * by itself. */
static int find_searches(searches *all, const replay_options *o, char **files, int n)
{
    list_detectors(all, files, n);
    if (o->models > 1 || all->n_detectors > 2)
        for (int i = 0; i < o->models; i++)
            GW_TRY(add_pairs(all, o->model[i]));
    if (all->n_detectors > 2 && !all->n)
        return gw_fail(GW_EMISMATCH, "the files have %s, and %s is for none of their pairs", all->list,
                       o->model[0]);
    if (all->n == 0)
        all->s[all->n++] = (search){.model = o->model[0]};
    if (all->n == 1) /* as if nothing else came: the same events under the same ids */
        strcpy(all->s[0].name, "search");
    if (all->n_detectors == 2)
        for (int i = 0; i < all->n; i++)
            all->s[i].pair[0][0] = '\0';
    for (int d = 0; d < all->n_detectors; d++) {
        bool searched = !all->s[0].pair[0][0];
        for (int i = 0; i < all->n; i++)
            searched |= strcmp(all->s[i].pair[0], all->detectors[d]) == 0 ||
                        strcmp(all->s[i].pair[1], all->detectors[d]) == 0;
        if (!searched)
            gw_log(GW_LOG_WARN, "replay", "%s is not searched: no network is for a pair with it (--model)",
                   all->detectors[d]);
    }
    return GW_OK;
}

/* "search", or "[search_H1L1, search_H1V1]". */
static void add_names(gw_text *t, const searches *all)
{
    for (int i = 0; i < all->n; i++)
        gw_text_add(t, "%s%s", i ? ", " : all->n > 1 ? "[" : "", all->s[i].name);
    gw_text_add(t, "%s", all->n > 1 ? "]" : "");
}

static void add_searches(gw_text *t, const searches *all, const char *candidate)
{
    for (int i = 0; i < all->n; i++) {
        const search *s = &all->s[i];
        if (s->pair[0][0])
            gw_text_add(t, "  %s: {kind: detect, from: [white.%s, white.%s], model: ", s->name, s->pair[0],
                        s->pair[1]);
        else
            gw_text_add(t, "  %s: {kind: detect, from: white, model: ", s->name);
        gw_text_quote(t, s->model);
        if (candidate)
            gw_text_add(t, ", candidate: %s", candidate);
        gw_text_add(t, "}\n");
    }
}

int gw_cmd_replay(int argc, char **argv)
{
    static const struct option options[] = {{"help", no_argument, NULL, 'h'},
                                            {"model", required_argument, NULL, MODEL},
                                            {"journal", required_argument, NULL, JOURNAL},
                                            {"output", required_argument, NULL, OUTPUT},
                                            {"speed", required_argument, NULL, SPEED},
                                            {"block", required_argument, NULL, BLOCK},
                                            {"start", required_argument, NULL, START},
                                            {"end", required_argument, NULL, END},
                                            {"offset", required_argument, NULL, OFFSET},
                                            {"candidate", required_argument, NULL, CANDIDATE},
                                            {"whitened", required_argument, NULL, WHITENED},
                                            {"statistic", required_argument, NULL, STATISTIC},
                                            {"picture", required_argument, NULL, PICTURE},
                                            {"challenge", required_argument, NULL, CHALLENGE},
                                            {"yaml", no_argument, NULL, YAML},
                                            {"quiet", no_argument, NULL, 'q'},
                                            {NULL, 0, NULL, 0}};
    replay_options o = {.journal = "gwstream.sqlite", .speed = "0", .block = "1/16s"};
    opterr = 0;
    optind = 1;
    for (int c; (c = getopt_long(argc, argv, "hq", options, NULL)) != -1;) {
        if (c == 'h') {
            fputs(replay_help, stdout);
            return GW_OK;
        }
        GW_TRY(replay_option(c, &o, argv));
    }
    if (optind == argc)
        return gw_fail(GW_EUSAGE, "which files? (gwstream replay --help)");
    const char *const outputs[] = {o.journal, o.output, o.whitened, o.statistic, o.picture, o.challenge};
    for (size_t i = 0; i < sizeof outputs / sizeof outputs[0]; i++)
        GW_TRY(gw_spare_inputs(outputs[i], argv + optind, argc - optind));
    if (!o.models)
        GW_TRY(default_models(&o));
    searches all = {0};
    GW_TRY(find_searches(&all, &o, argv + optind, argc - optind));
    if (o.challenge && all.n > 1)
        return gw_fail(GW_EUSAGE,
                       "--challenge: %d searches of %s; the challenge scores one, of two detectors", all.n,
                       all.list);

    gw_text t = {0};
    gw_text_add(&t, "sources:\n  archive: {kind: replay, block: %s, pace: %s", o.block, o.speed);
    if (o.start)
        gw_text_add(&t, ", start: %s", o.start);
    if (o.end)
        gw_text_add(&t, ", end: %s", o.end);
    if (o.offsets) {
        gw_text_add(&t, ", offset: {");
        for (int i = 0; i < o.offsets; i++) {
            const char *eq = strchr(o.offset[i], '=');
            gw_text_add(&t, "%s%.*s: %s", i ? ", " : "", (int)(eq - o.offset[i]), o.offset[i], eq + 1);
        }
        gw_text_add(&t, "}");
    }
    gw_text_add(&t, ", files: [");
    for (int i = optind; i < argc; i++) {
        gw_text_add(&t, "%s", i > optind ? ", " : "");
        gw_text_quote(&t, argv[i]);
    }
    gw_text_add(&t, "]}\nstages:\n  down: {kind: resample, from: archive, rate: 2048Hz}\n"
                    "  white: {kind: whiten, from: down}\n");
    add_searches(&t, &all, o.candidate);
    gw_text_add(&t, "sinks:\n  alerts: {kind: alerts, from: ");
    add_names(&t, &all);
    gw_text_add(&t, ", journal: ");
    gw_text_quote(&t, o.journal);
    gw_text_add(&t, ", print: ");
    gw_text_quote(&t, o.output ? o.output : "stdout");
    gw_text_add(&t, "}\n");
    if (o.whitened) {
        gw_text_add(&t, "  keep_whitened: {kind: record, from: white, overwrite: true, path: ");
        gw_text_quote(&t, o.whitened);
        gw_text_add(&t, "}\n");
    }
    if (o.statistic) {
        gw_text_add(&t, "  keep_statistic: {kind: record, from: ");
        add_names(&t, &all);
        gw_text_add(&t, ", overwrite: true, path: ");
        gw_text_quote(&t, o.statistic);
        gw_text_add(&t, "}\n");
    }
    if (o.challenge) {
        gw_text_add(&t, "  challenge: {kind: challenge, from: search, overwrite: true, path: ");
        gw_text_quote(&t, o.challenge);
        gw_text_add(&t, "}\n");
    }
    if (o.picture) {
        gw_text_add(&t, "  picture: {kind: picture, from: [white, %s], path: ", all.s[0].name);
        gw_text_quote(&t, o.picture);
        gw_text_add(&t, "}\n");
    }
    return gw_text_run(&t, "replay", o.yaml, o.quiet);
}

/* -- simulate ---------------------------------------------------------------------------------------- */

static const char simulate_help[] =
    "usage: gwstream simulate [options] --output F.hdf5\n\n"
    "Writes simulated strain in GWpy's HDF5 layout: coloured noise with lines and glitches, and signals. "
    "The\n"
    "same seed gives the same samples.\n\n"
    "  --output F        the file to write (required)\n"
    "  --duration T      64s\n"
    "  --seed N          1\n"
    "  --start GPS       1400000000\n"
    "  --rate F          16384Hz\n"
    "  --detectors A,B   H1,L1\n"
    "  --asd F           two columns, frequency and ASD; or design, design-plain\n"
    "  --glitches F      rate in each detector (default: none), as 1/30Hz\n"
    "  --signal K=V,...  a compact binary merger: gps, mass1, mass2, spin1z, spin2z, network_snr or "
    "distance,\n"
    "                    ra, dec, psi, iota, phase; may be given again\n"
    "  --overwrite       replace an existing file\n"
    "  --yaml            print the graph instead of running it\n"
    "  --quiet           no progress\n";

enum { DURATION = 512, SEED, RATE, DETECTORS, ASD, GLITCHES, SIGNAL, OVERWRITE };

static int add_signal(gw_text *t, const char *spec)
{
    gw_text_add(t, "{");
    for (const char *s = spec; *s;) {
        size_t n = strcspn(s, ",");
        const char *eq = memchr(s, '=', n);
        if (!eq || eq == s)
            return gw_fail(GW_EUSAGE, "--signal wants key=value,key=value, not '%s'", spec);
        gw_text_add(t, "%s%.*s: %.*s", s > spec ? ", " : "", (int)(eq - s), s, (int)(s + n - eq - 1), eq + 1);
        s += n;
        s += *s == ',';
    }
    gw_text_add(t, "}");
    return GW_OK;
}

int gw_cmd_simulate(int argc, char **argv)
{
    static const struct option options[] = {{"help", no_argument, NULL, 'h'},
                                            {"output", required_argument, NULL, OUTPUT},
                                            {"duration", required_argument, NULL, DURATION},
                                            {"seed", required_argument, NULL, SEED},
                                            {"start", required_argument, NULL, START},
                                            {"rate", required_argument, NULL, RATE},
                                            {"detectors", required_argument, NULL, DETECTORS},
                                            {"asd", required_argument, NULL, ASD},
                                            {"glitches", required_argument, NULL, GLITCHES},
                                            {"signal", required_argument, NULL, SIGNAL},
                                            {"overwrite", no_argument, NULL, OVERWRITE},
                                            {"yaml", no_argument, NULL, YAML},
                                            {"quiet", no_argument, NULL, 'q'},
                                            {NULL, 0, NULL, 0}};
    const char *output = NULL, *duration = "64s", *seed = "1", *start = "1400000000", *rate = "16384Hz",
               *detectors = "H1,L1", *asd = NULL, *glitches = NULL, *overwrite = "false";
    bool yaml = false, quiet = false;
    gw_text signals = {0};
    opterr = 0;
    optind = 1;
    int err = GW_OK;
    for (int c; err == GW_OK && (c = getopt_long(argc, argv, "hq", options, NULL)) != -1;) {
        switch (c) {
        case 'h':
            fputs(simulate_help, stdout);
            free(signals.s);
            return GW_OK;
        case OUTPUT:
            output = optarg;
            break;
        case DURATION:
            duration = optarg;
            break;
        case SEED:
            seed = optarg;
            break;
        case START:
            start = optarg;
            break;
        case RATE:
            rate = optarg;
            break;
        case DETECTORS:
            detectors = optarg;
            break;
        case ASD:
            asd = optarg;
            break;
        case GLITCHES:
            glitches = optarg;
            break;
        case SIGNAL:
            gw_text_add(&signals, "%s", signals.used ? ", " : "");
            err = add_signal(&signals, optarg);
            break;
        case OVERWRITE:
            overwrite = "true";
            break;
        case YAML:
            yaml = true;
            break;
        case 'q':
            quiet = true;
            break;
        default:
            err = bad_option(argv);
        }
    }
    if (err == GW_OK && optind != argc)
        err = gw_fail(GW_EUSAGE, "what is '%s'? (gwstream simulate --help)", argv[optind]);
    if (err == GW_OK && !output)
        err = gw_fail(GW_EUSAGE, "--output is missing (gwstream simulate --help)");
    if (err != GW_OK) {
        free(signals.s);
        return err;
    }
    gw_text t = {0};
    gw_text_add(
        &t,
        "sources:\n  sky: {kind: sim, seed: %s, start: %s, duration: %s, rate: %s, block: 1s, detectors: "
        "[%s]",
        seed, start, duration, rate, detectors);
    if (asd) {
        gw_text_add(&t, ", asd: ");
        gw_text_quote(&t, asd);
    }
    if (glitches)
        gw_text_add(&t, ", glitches: {rate: %s}", glitches);
    if (signals.used)
        gw_text_add(&t, ", signals: [%s]", signals.s);
    free(signals.s);
    gw_text_add(&t, "}\nsinks:\n  keep: {kind: record, from: sky, overwrite: %s, path: ", overwrite);
    gw_text_quote(&t, output);
    gw_text_add(&t, "}\n");
    return gw_text_run(&t, "simulate", yaml, quiet);
}
