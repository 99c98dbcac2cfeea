/* SPDX-License-Identifier: GPL-3.0-or-later
 * `gwstream evaluate`: how good a search is. Time slides of simulated noise with glitches give the thresholds of
 * one an hour and one a day; injections through the same stages as online give efficiency, sensitive distance,
 * timing and latency at them. Here: the options, and the order of things. It reaches no broker. */
#include "pipeline/cmd_evaluate.h"
#include "pipeline/cmd.h"
#include "sources/waveform.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <math.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

static const char help[] =
    "usage: gwstream evaluate [options]\n\n"
    "How good is a search? Simulates noise with glitches and binary mergers by the thousand, searches them "
    "with\n"
    "the stages of a live run as fast as the machine can, and writes into a folder: evaluate.html (with its\n"
    "pictures also as PNG), evaluate.json, and on request a model card. Efficiency against SNR and chirp "
    "mass at\n"
    "one false alarm an hour and one a day, sensitive distance, timing, latency. What is finished is kept: "
    "the\n"
    "same command goes on where it was stopped. Nothing leaves this host.\n\n"
    "  --model F         network (default: that of --config, else models/bbh-small.onnx); needs no card\n"
    "  --config F        take simulation and stages of this graph (one `sim`; each of its `detect`\n"
    "                    stages: of several the one event that `alerts` makes of them is judged)\n"
    "  --detectors A,B   of a network for several pairs, this one (default: its first)\n"
    "  --out D           folder of the results (default: evaluate)\n"
    "  --days N          background, in days of time slides (default 10 for each search of a set), of\n"
    "                    each search\n"
    "  --hours N         ... of so many hours of noise (default 6)\n"
    "  --slides N        so many slides instead of as many as the days want\n"
    "  --background F    a background stage's archive (HDF5) instead of making one; may be given again\n"
    "  --injections N    at each SNR (default 1000)\n"
    "  --snr L           optimal network SNRs (default 8,10,12,15,20)\n"
    "  --mass A,B        masses of either body, in solar masses (default 5,80)\n"
    "  --seed N          other noise, other mergers (default 1)\n"
    "  --card F          write the model card\n"
    "  --jobs N          runs at the same time (default: one a core)\n"
    "  --json            print evaluate.json instead of the table\n"
    "  --quiet           no progress\n";

enum {
    MOST_ARCHIVES = 64,
    PIECE_S = 1800,
    LEAST_PIECE_S = 60,
    LOST_S = 12,
    STEP_S = 3,
    REFRACTORY_S = 9,
    MOST_SLIDES = 100000
};

typedef struct options {
    gw_evaluate e;
    const char *model, *detectors, *archive[MOST_ARCHIVES];
    int n_archives;
} options;

/* ---- options ---- */

static int whole(const char *name, const char *text, int64_t least, int64_t most, int64_t *value)
{
    if (gw_parse_int(text, value) != GW_OK || *value < least || *value > most)
        return gw_fail(GW_EUSAGE, "--%s '%s': want a whole number from %" PRId64 " to %" PRId64, name, text,
                       least, most);
    return GW_OK;
}

static int real(const char *name, const char *text, double least, double most, double *value)
{
    if (gw_parse_double(text, value) != GW_OK || !(*value >= least) || !(*value <= most))
        return gw_fail(GW_EUSAGE, "--%s '%s': want a number from %g to %g", name, text, least, most);
    return GW_OK;
}

static int ascending(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static int read_snrs(gw_evaluate *e, const char *list)
{
    char one[32];
    e->n_snrs = 0;
    for (const char *s = list; *s;) {
        const size_t n = strcspn(s, ",");
        if (e->n_snrs == GW_EVAL_SNRS)
            return gw_fail(GW_EUSAGE, "--snr '%s': at most %d", list, GW_EVAL_SNRS);
        snprintf(one, sizeof one, "%.*s", (int)(n < sizeof one ? n : sizeof one - 1), s);
        GW_TRY(real("snr", one, 1, 900, &e->snr[e->n_snrs++]));
        s += n;
        if (*s == ',' && !*++s)
            return gw_fail(GW_EUSAGE, "--snr '%s': ends with a comma", list);
    }
    if (!e->n_snrs)
        return gw_fail(GW_EUSAGE, "--snr: a list of numbers is wanted (8,10,12)");
    qsort(e->snr, (size_t)e->n_snrs, sizeof *e->snr, ascending);
    for (int k = 1; k < e->n_snrs; k++)
        if (e->snr[k] == e->snr[k - 1])
            return gw_fail(GW_EUSAGE, "--snr '%s': %g is there twice", list, e->snr[k]);
    return GW_OK;
}

static int read_mass(gw_evaluate *e, const char *range)
{
    char low[32];
    const size_t n = strcspn(range, ",");
    if (!range[n] || n >= sizeof low)
        return gw_fail(GW_EUSAGE, "--mass '%s': want the least and the most, as 5,80", range);
    snprintf(low, sizeof low, "%.*s", (int)n, range);
    GW_TRY(real("mass", low, GW_MASS_MIN, GW_TOTAL_MASS_MAX / 2, &e->mass[0]));
    return real("mass", range + n + 1, e->mass[0], GW_TOTAL_MASS_MAX / 2, &e->mass[1]);
}

enum {
    MODEL = 256,
    CONFIG,
    DETECTORS,
    OUT,
    DAYS,
    HOURS,
    SLIDES,
    BACKGROUND,
    INJECTIONS,
    SNR,
    MASS,
    SEED,
    CARD,
    JOBS,
    JSON
};

static int take(int c, options *o)
{
    gw_evaluate *e = &o->e;
    switch (c) {
    case MODEL:
        o->model = optarg;
        return GW_OK;
    case CONFIG:
        e->config = optarg;
        return GW_OK;
    case DETECTORS:
        o->detectors = optarg;
        return GW_OK;
    case OUT:
        e->out = optarg;
        return GW_OK;
    case DAYS:
        return real("days", optarg, 1e-3, 1e4, &e->days);
    case HOURS:
        return real("hours", optarg, 1.0 / 60, 1e4, &e->hours);
    case SLIDES:
        return whole("slides", optarg, 1, MOST_SLIDES, &e->slides);
    case BACKGROUND:
        if (o->n_archives == MOST_ARCHIVES)
            return gw_fail(GW_EUSAGE, "--background: at most %d archives", MOST_ARCHIVES);
        o->archive[o->n_archives++] = optarg;
        return GW_OK;
    case INJECTIONS:
        return whole("injections", optarg, 2, 1000000, &e->injections);
    case SNR:
        return read_snrs(e, optarg);
    case MASS:
        return read_mass(e, optarg);
    case SEED:
        return whole("seed", optarg, 0, 1000000000, &e->seed);
    case CARD:
        e->card = optarg;
        return GW_OK;
    case JOBS:
        return whole("jobs", optarg, 1, 256, &e->jobs);
    case JSON:
        e->json = true;
        return GW_OK;
    case 'q':
        e->quiet = true;
        return GW_OK;
    default:
        return gw_fail(GW_EBUG, "option %d", c);
    }
}

/* ---- settling ---- */

static int absolute(const char *path, char *to, size_t size)
{
    char *real_path = realpath(path, NULL);
    if (!real_path)
        return gw_fail(errno == EACCES ? GW_EACCESS : GW_EMISSING, "%s: %s", path, strerror(errno));
    const bool fits = strlen(real_path) < size;
    memcpy(to, fits ? real_path : "", fits ? strlen(real_path) + 1 : 1);
    free(real_path);
    return fits ? GW_OK : gw_fail(GW_EUSAGE, "'%.100s...' is too long for the name of a file", path);
}

/* A --config says itself which detectors there are. */
static int choose_pair(gw_evaluate *e, const char *wanted)
{
    gw_model *m = &e->search[0].about;
    char pair[2 * sizeof m->pair[0][0] + 2], known[GW_MODEL_PAIRS * sizeof pair] = "";
    if (e->graph)
        return gw_fail(GW_EUSAGE,
                       "--detectors and --config: the graph's simulation has its detectors already");
    for (int i = 0; i < m->n_pairs; i++) {
        const char *a = m->pair[i][0], *b = m->pair[i][1];
        snprintf(pair, sizeof pair, "%s,%s", strcmp(a, b) < 0 ? a : b, strcmp(a, b) < 0 ? b : a);
        if (strcmp(pair, wanted) == 0) {
            memcpy(m->detectors, pair, sizeof pair);
            return GW_OK;
        }
        const size_t used = strlen(known);
        snprintf(known + used, sizeof known - used, "%s%s", used ? " or " : "", pair);
    }
    return gw_fail(GW_EUSAGE, "--detectors '%s': %s is for %s", wanted, e->search[0].model, known);
}

static int settle_model(options *o, gw_search *s)
{
    const char *given = o->model ? o->model : s->asked;
    char found[GW_EVALUATE_PATH];
    gw_onnx *onnx = NULL;
    if (!given) {
        GW_TRY(gw_default_model(found, sizeof found));
        given = found;
    }
    GW_TRY(absolute(given, s->model, sizeof s->model));
    GW_TRY(gw_onnx_load(&onnx, s->model));
    const int err = gw_model_read(&s->about, onnx);
    gw_onnx_free(&onnx);
    GW_TRY(err);
    if (o->detectors)
        GW_TRY(choose_pair(&o->e, o->detectors));
    return gw_sha256_file(s->model, s->sha256);
}

static int settle_searches(options *o)
{
    gw_evaluate *e = &o->e;
    GW_TRY(gw_evaluate_searches(e));
    if (e->n_searches > 1 && o->model)
        return gw_fail(GW_EUSAGE, "--model and %s, which has %d searches with models of their own", e->config,
                       e->n_searches);
    if (e->n_searches > 1 && e->card)
        return gw_fail(
            GW_EUSAGE,
            "--card and %s, which has %d searches: a card is of one network, evaluate it by --model",
            e->config, e->n_searches);
    for (int i = 0; i < e->n_searches; i++)
        GW_TRY(settle_model(o, &e->search[i]));
    if (e->days <= 0) /* so that once a day of all rests on as much noise as of one */
        e->days = 10 * e->n_searches;
    return GW_OK;
}

static int make_folder(const char *path)
{
    struct stat s;
    if (mkdir(path, 0777) == 0 || (errno == EEXIST && stat(path, &s) == 0 && S_ISDIR(s.st_mode)))
        return GW_OK;
    return gw_fail(GW_EIO, "--out %s: cannot make this folder (%s)", path, strerror(errno));
}

static int settle_folder(gw_evaluate *e)
{
    char full[GW_EVALUATE_PATH - 16];
    GW_TRY(make_folder(e->out));
    GW_TRY(absolute(e->out, full, sizeof full));
    if (access(full, W_OK) != 0)
        return gw_fail(GW_EACCESS, "--out %s: cannot be written to (%s)", e->out, strerror(errno));
    snprintf(e->folder, sizeof e->folder, "%s/pieces", full);
    for (int i = 0; i < e->n_searches; i++)
        if (i)
            snprintf(e->search[i].card, sizeof e->search[i].card, "%s/card-%d.yaml", e->folder, i + 1);
        else
            snprintf(e->search[i].card, sizeof e->search[i].card, "%s/card.yaml", e->folder);
    return make_folder(e->folder);
}

/* Two in one folder would take each other's pieces away. The lock goes with the process. */
static int lock_folder(const gw_evaluate *e, int *lock)
{
    char path[GW_EVALUATE_PATH + 16];
    snprintf(path, sizeof path, "%s/lock", e->folder);
    *lock = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (*lock < 0)
        return gw_fail(GW_EIO, "%s: cannot be written (%s)", path, strerror(errno));
    if (flock(*lock, LOCK_EX | LOCK_NB) != 0)
        return gw_fail(GW_EBUSY, "--out %s: another gwstream evaluate is at work here", e->out);
    return GW_OK;
}

static int64_t cores(void)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    return sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
}

/* ---- pieces ---- */

static void free_pieces(gw_piece *p, int n)
{
    for (int i = 0; p && i < n; i++)
        free(p[i].yaml);
    free(p);
}

static int write_graphs(const gw_evaluate *e, gw_piece *p, int n)
{
    for (int i = 0; i < n; i++)
        GW_TRY(gw_piece_graph(e, &p[i]));
    return GW_OK;
}

/* Slid time of `slides` offsets of 3, -3, 6, -6 ... s in pieces of so many seconds: background.c. */
static double slid_s(int64_t slides, int pieces, double seconds)
{
    double sum = 0;
    for (int64_t k = 0; k < slides; k++)
        sum += fmax(seconds - LOST_S - STEP_S * (double)(k / 2 + 1), 0);
    return sum * pieces;
}

static int plan_background(gw_evaluate *e, gw_piece **out, int *n)
{
    const double total_s = e->hours * 3600;
    *n = (int)fmax(round(total_s / PIECE_S), 1);
    const double seconds = floor(total_s / *n);
    if (!e->slides) {
        const double wanted_s = e->days * 86400;
        const int64_t most = (int64_t)fmin(2 * (seconds - LOST_S - LEAST_PIECE_S) / STEP_S, MOST_SLIDES);
        while (e->slides < most && slid_s(e->slides, *n, seconds) < wanted_s)
            e->slides++;
        if (!(slid_s(e->slides, *n, seconds) >= wanted_s))
            return gw_fail(GW_EUSAGE,
                           "%g days of slides do not come out of %g hours of noise (%.1f at most): more "
                           "--hours",
                           e->days, e->hours, slid_s(most > 0 ? most : 0, *n, seconds) / 86400);
    }
    gw_piece *p = calloc((size_t)*n, sizeof *p);
    if (!p)
        return gw_fail(GW_ENOMEM, "%d pieces", *n);
    for (int i = 0; i < *n; i++) {
        p[i] = (gw_piece){.number = i, .seconds = seconds};
        snprintf(p[i].name, sizeof p[i].name, "noise-%04d", i);
    }
    *out = p;
    return GW_OK;
}

static int slide_noise(gw_evaluate *e, gw_eval_search *list)
{
    char path[GW_EVALUATE_PATH + 80];
    gw_piece *p = NULL;
    int n = 0;
    GW_TRY(plan_background(e, &p, &n));
    int err = write_graphs(e, p, n);
    if (err == GW_OK)
        err = gw_pieces_run(e, p, n, "noise");
    for (int k = 0; err == GW_OK && k < n * e->n_searches; k++) {
        gw_piece_archive(e, &p[k / e->n_searches], k % e->n_searches, path);
        err = gw_evaluate_archive(e, k % e->n_searches, path, list);
    }
    free_pieces(p, n);
    return err;
}

static int make_background(options *o, gw_eval_search *list, const gw_eval_about *about)
{
    gw_evaluate *e = &o->e;
    for (int i = 0; i < o->n_archives; i++)
        GW_TRY(gw_evaluate_archive(e, -1, o->archive[i], list));
    if (!o->n_archives)
        GW_TRY(slide_noise(e, list));
    for (int i = 0; i < e->n_searches; i++) {
        if (!(list[i].noise.slid_s > 0))
            return gw_fail(GW_EUSAGE, "--background: none of the archives is of %s", e->search[i].name);
        GW_TRY(gw_eval_background_count(&list[i].noise, e->n_searches));
        /* Written each time: the same background gives the same bytes, and so the same pieces. */
        remove(e->search[i].card);
        GW_TRY(gw_evaluate_card(e, e->search[i].card, i, NULL, about));
    }
    return GW_OK;
}

static int make_injections(const gw_evaluate *e, gw_signals *all, double *searched_s)
{
    const int each = (int)((e->injections + GW_PIECE_INJECTIONS - 1) / GW_PIECE_INJECTIONS),
              n = each * e->n_snrs;
    gw_piece *p = calloc((size_t)n, sizeof *p);
    if (!p)
        return gw_fail(GW_ENOMEM, "%d pieces", n);
    for (int i = 0; i < n; i++) {
        const int number = i / e->n_snrs, left = (int)e->injections - number * GW_PIECE_INJECTIONS;
        p[i] = (gw_piece){.snr = e->snr[i % e->n_snrs],
                          .number = number,
                          .injections = left < GW_PIECE_INJECTIONS ? left : GW_PIECE_INJECTIONS};
        p[i].seconds = gw_piece_seconds(p[i].injections);
        *searched_s += p[i].seconds - LOST_S;
        snprintf(p[i].name, sizeof p[i].name, "snr-%g-%05d", p[i].snr, number);
    }
    int err = write_graphs(e, p, n);
    if (err == GW_OK)
        err = gw_pieces_run(e, p, n, "injections");
    for (int i = 0; err == GW_OK && i < n; i++)
        err = gw_piece_read(e, &p[i], all);
    free_pieces(p, n);
    /* What follows a find for the refractory time belongs to it. */
    for (size_t i = 0; i < all->n; i++)
        *searched_s -= all->s[i].found[GW_PER_HOUR] ? REFRACTORY_S : 0;
    return err;
}

/* ---- what came out ---- */

static void describe(const options *o, gw_eval_about *about)
{
    const gw_evaluate *e = &o->e;
    const gw_eval_background *b = &about->search[0].noise;
    char own[160];
    snprintf(
        own, sizeof own,
        "%d detect stages, whose events `alerts` makes into one: its rate is that of the best word times %d",
        e->n_searches, e->n_searches);
    for (int i = 1; i < e->n_searches; i++)
        b = about->search[i].noise.slid_s < b->slid_s ? &about->search[i].noise : b;
    snprintf(
        about->how, sizeof about->how,
        "%s, through the stages of a live run (%s%s%s). Background: %.2f days of time slides of %.2f h%s%s. "
        "Injections: %" PRId64
        " at each SNR, m1 and m2 log-uniform %g-%g solar masses, ratio below 8, aligned spin below 0.6, "
        "isotropic, no least detector ratio, in noise of other seeds; SNR is optimal network SNR over "
        "the true "
        "PSD from 20 Hz; PSD of 64 s of data that hold the injections.",
        e->config ? "Simulated by the graph that was given"
                  : "Simulated noise with lines and a glitch of SNR 4-80 every 30 s in each detector, "
                    "sensitivities 0.75-1.3 of design",
        e->config ? e->config : "resample, whiten, detect", e->n_searches > 1 ? "; " : "",
        e->n_searches > 1 ? own : "", b->slid_s / 86400, b->distinct_s / 3600,
        o->n_archives ? " from archives" : " of noise", e->n_searches > 1 ? " for each search" : "",
        e->injections, e->mass[0], e->mass[1]);
}

static int finish(const options *o, const gw_eval *m, gw_eval_about *about)
{
    const gw_evaluate *e = &o->e;
    describe(o, about);
    GW_TRY(gw_evaluate_write_json(e, m, about));
    GW_TRY(gw_eval_write_page(e->out, m, about));
    if (e->card)
        GW_TRY(gw_evaluate_card(e, e->card, 0, m, about));
    if (e->json)
        return gw_evaluate_json(e, stdout, m, about);
    gw_evaluate_print(e, m, about);
    return GW_OK;
}

static int judge(options *o, gw_eval_search *list, gw_eval *m)
{
    gw_evaluate *e = &o->e;
    gw_eval_about about = {.search = list, .n_searches = e->n_searches};
    gw_signals all = {0};
    int lock = -1;
    for (int i = 0; i < e->n_searches; i++) {
        const gw_search *s = &e->search[i];
        snprintf(list[i].name, sizeof list[i].name, "%s", s->name);
        snprintf(list[i].model, sizeof list[i].model, "%s", s->about.name);
        snprintf(list[i].sha256, sizeof list[i].sha256, "%s", s->sha256);
        snprintf(list[i].detectors, sizeof list[i].detectors, "%s", s->about.detectors);
    }
    int err = lock_folder(e, &lock);
    if (err == GW_OK)
        err = make_background(o, list, &about);
    if (err == GW_OK)
        err = make_injections(e, &all, &about.searched_s);
    if (err == GW_OK)
        err = gw_eval_measure(m, all.s, all.n, e->snr, e->n_snrs);
    about.chance = all.chance;
    if (err == GW_OK)
        err = finish(o, m, &about);
    if (lock >= 0)
        close(lock);
    free(all.s);
    return err;
}

static int evaluate(options *o)
{
    gw_evaluate *e = &o->e;
    if (e->config)
        GW_TRY(gw_conf_load(&e->graph, e->config));
    GW_TRY(settle_searches(o));
    if (e->card)
        GW_TRY(gw_evaluate_card_writable(e->card));
    GW_TRY(settle_folder(e));
    if (!e->jobs)
        e->jobs = cores();
    gw_eval *m = calloc(1, sizeof *m);
    gw_eval_search *list = calloc(GW_EVAL_SEARCHES, sizeof *list);
    const int err = m && list ? judge(o, list, m) : gw_fail(GW_ENOMEM, "an evaluation");
    for (int i = 0; list && i < GW_EVAL_SEARCHES; i++)
        gw_eval_background_free(&list[i].noise);
    free(list);
    free(m);
    return err;
}

int gw_cmd_evaluate(int argc, char **argv)
{
    static const struct option table[] = {{"help", no_argument, NULL, 'h'},
                                          {"model", required_argument, NULL, MODEL},
                                          {"config", required_argument, NULL, CONFIG},
                                          {"detectors", required_argument, NULL, DETECTORS},
                                          {"out", required_argument, NULL, OUT},
                                          {"days", required_argument, NULL, DAYS},
                                          {"hours", required_argument, NULL, HOURS},
                                          {"slides", required_argument, NULL, SLIDES},
                                          {"background", required_argument, NULL, BACKGROUND},
                                          {"injections", required_argument, NULL, INJECTIONS},
                                          {"snr", required_argument, NULL, SNR},
                                          {"mass", required_argument, NULL, MASS},
                                          {"seed", required_argument, NULL, SEED},
                                          {"card", required_argument, NULL, CARD},
                                          {"jobs", required_argument, NULL, JOBS},
                                          {"json", no_argument, NULL, JSON},
                                          {"quiet", no_argument, NULL, 'q'},
                                          {NULL, 0, NULL, 0}};
    options o = {.e = {.out = "evaluate",
                       .hours = 6,
                       .injections = 1000,
                       .seed = 1,
                       .n_snrs = 5,
                       .snr = {8, 10, 12, 15, 20},
                       .mass = {5, 80}}};
    opterr = 0;
    optind = 1;
    for (int c; (c = getopt_long(argc, argv, ":hq", table, NULL)) != -1;) {
        if (c == 'h') {
            fputs(help, stdout);
            return GW_OK;
        }
        if (c == ':')
            return gw_fail(GW_EUSAGE, "'%s' wants a value (gwstream evaluate --help)", argv[optind - 1]);
        if (c == '?')
            return gw_fail(GW_EUSAGE, "no option '%s' (gwstream evaluate --help)", argv[optind - 1]);
        GW_TRY(take(c, &o));
    }
    if (optind != argc)
        return gw_fail(GW_EUSAGE, "what is '%s'? (gwstream evaluate --help)", argv[optind]);
    const int err = evaluate(&o);
    gw_conf_free(&o.e.graph);
    return err;
}
