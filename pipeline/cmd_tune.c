/* SPDX-License-Identifier: GPL-3.0-or-later
 * `gwstream tune`: lets FFTW try, once for a machine, how it computes fastest those transforms of bulk
 * whitening that are not ours (kernels/cpu/fft32.h), and keeps what it found (its "wisdom") in a file that
 * `run` and `replay` read before they start. FFTW times by the wall clock: on a busy machine it has chosen
 * plans 2 to 4 times slower than its own rule. So every plan is timed again, by processor time, in turns with
 * the plan by rule, and kept only if it is faster. */
#include "kernels/cpu/bulk_layout.h"
#include "kernels/cpu/fft32.h"
#include "pipeline/cmd.h"
#include "pipeline/config.h"
#include "pipeline/log.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { MAX_SPANS = 8, MAX_PLANS = 128, ROUNDS = 9, MAX_WISDOM_BYTES = 1 << 22 };
static const double WORTH =
    0.97; /* of the time by rule: a plan that saves less is not worth another result */

static const char help[] =
    "usage: gwstream tune [options]\n\n"
    "Finds the fastest transforms for whitening many channels (kind whiten_bulk) on this machine, where they "
    "are\n"
    "not gwstream's own (those need no tuning). Takes up to a few minutes; nothing else should run "
    "meanwhile.\n"
    "What it finds is used by every later run.\n\n"
    "--rate LIST     rates of the channels                 (16384Hz)\n"
    "--hop LIST      hops, 1/16s,1/4s,1s                   (these)\n"
    "--taps LIST     lengths of the filters                (1/4s,1/2s,1s,2s)\n"
    "--segment LIST  segments of the PSD                   (2s)\n"
    "--decimate LIST of the output                         (1,4,8)\n"
    "--seconds S     at most, for one plan                 (5)\n"
    "--file FILE     keep it there                         (a file of this processor and library in\n"
    "                $XDG_CACHE_HOME/gwstream or ~/.cache/gwstream; runs read another one if\n"
    "                GWSTREAM_WISDOM names it)\n";

/* -- the file ---------------------------------------------------------------------------------------- */

/* Letters and digits of the text; anything else becomes one dash. */
static void plain(char *to, size_t n, const char *text)
{
    size_t at = 0;
    for (; *text && at + 1 < n; text++) {
        const bool fine = (*text >= 'a' && *text <= 'z') || (*text >= 'A' && *text <= 'Z') ||
                          (*text >= '0' && *text <= '9') || *text == '.';
        if (fine)
            to[at++] = *text;
        else if (at && to[at - 1] != '-')
            to[at++] = '-';
    }
    while (at && to[at - 1] == '-')
        at--;
    to[at] = '\0';
}

static void processor(char *name, size_t n)
{
    snprintf(name, n, "cpu");
    FILE *f = fopen("/proc/cpuinfo", "r");
    char line[256];
    while (f && fgets(line, sizeof line, f)) {
        const char *colon = strchr(line, ':');
        if (colon && strncmp(line, "model name", 10) == 0) {
            plain(name, n, colon + 1);
            break;
        }
    }
    if (f)
        fclose(f);
}

static int usual_file(char *path, size_t n)
{
    char cpu[96], library[64];
    processor(cpu, sizeof cpu);
    plain(library, sizeof library, gw_fft32_library());
    const char *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    int used;
    if (cache && cache[0] == '/')
        used = snprintf(path, n, "%s/gwstream/%s-%s.wisdom", cache, cpu, library);
    else if (home && home[0])
        used = snprintf(path, n, "%s/.cache/gwstream/%s-%s.wisdom", home, cpu, library);
    else
        return gw_fail(GW_EMISSING, "neither XDG_CACHE_HOME nor HOME is set: name a file with --file");
    return used > 0 && (size_t)used < n ? GW_OK : gw_fail(GW_ERANGE, "the path of the cache is too long");
}

static int read_file(const char *path, char **text)
{
    *text = NULL;
    FILE *f = fopen(path, "r");
    if (!f)
        return gw_fail(errno == ENOENT ? GW_EMISSING : GW_EIO, "%s: %s", path, strerror(errno));
    *text = malloc(MAX_WISDOM_BYTES);
    const size_t n = *text ? fread(*text, 1, MAX_WISDOM_BYTES - 1, f) : 0;
    const bool bad = ferror(f) || (*text && !feof(f));
    fclose(f);
    if (!*text)
        return gw_fail(GW_ENOMEM, "%s", path);
    (*text)[n] = '\0';
    if (bad || strlen(*text) != n) {
        free(*text);
        *text = NULL;
        return gw_fail(GW_EFORMAT, "%s: not a file that `gwstream tune` wrote", path);
    }
    return GW_OK;
}

static int write_file(const char *path, const char *text)
{
    char folder[4096], part[4096];
    if (snprintf(folder, sizeof folder, "%s", path) >= (int)sizeof folder ||
        snprintf(part, sizeof part, "%s.part", path) >= (int)sizeof part)
        return gw_fail(GW_ERANGE, "%s: the path is too long", path);
    for (char *p = folder + 1; *p; p++)
        if (*p == '/') {
            *p = '\0';
            if (mkdir(folder, 0777) != 0 && errno != EEXIST)
                return gw_fail(GW_EIO, "%s: %s", folder, strerror(errno));
            *p = '/';
        }
    FILE *f = fopen(part, "w");
    if (!f)
        return gw_fail(GW_EIO, "%s: %s", part, strerror(errno));
    const bool wrote = fputs(text, f) >= 0;
    if (fclose(f) != 0 || !wrote || rename(part, path) != 0) {
        unlink(part);
        return gw_fail(GW_EIO, "%s: cannot be written", path);
    }
    return GW_OK;
}

void gw_tuning_load(void)
{
    const char *given = getenv("GWSTREAM_WISDOM");
    char path[4096], *text;
    if (!given && usual_file(path, sizeof path) != GW_OK)
        return;
    const int err = read_file(given ? given : path, &text);
    if (err == GW_EMISSING && !given)
        return;
    if (err != GW_OK)
        gw_log(GW_LOG_WARN, NULL, "%s; transforms go by rule", gw_err_detail());
    else if (!gw_fft32_wisdom_set(text))
        gw_log(GW_LOG_WARN, NULL, "%s: not made by `gwstream tune` with this %s; transforms go by rule",
               given ? given : path, gw_fft32_library());
    free(text);
}

/* -- timing ------------------------------------------------------------------------------------------ */

typedef struct arrays {
    float *time, *freq;
} arrays;

static double now_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e6 + (double)t.tv_nsec * 1e-3;
}

/* Microseconds of one run: of so many as take a millisecond. */
static double time_runs(const gw_fft32 *f, bool inverse, const arrays *a)
{
    for (int runs = 1;; runs *= 2) {
        const double begin = now_us();
        for (int i = 0; i < runs; i++)
            gw_fft32_run(f, inverse ? a->freq : a->time, inverse ? a->time : a->freq, NULL);
        const double took = now_us() - begin;
        if (took > 1000 || runs > 1 << 20)
            return took / runs;
    }
}

static int ascending(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Both in turns: their medians. All values are 0, which costs what others do and cannot grow. */
static void compare(const gw_fft32 *a, const gw_fft32 *b, bool inverse, const arrays *m, double us[2])
{
    double all[2][ROUNDS];
    for (int r = 0; r < ROUNDS; r++)
        for (int turn = 0; turn < 2; turn++) {
            const int which = (r + turn) % 2;
            all[which][r] = time_runs(which ? b : a, inverse, m);
        }
    for (int i = 0; i < 2; i++) {
        qsort(all[i], ROUNDS, sizeof *all[i], ascending);
        us[i] = all[i][ROUNDS / 2];
    }
}

/* -- tuning ------------------------------------------------------------------------------------------ */

typedef struct wanted {
    uint32_t n;
    bool inverse;
} wanted;

typedef struct tune {
    gw_rate rate[MAX_SPANS], hop[MAX_SPANS], taps[MAX_SPANS], segment[MAX_SPANS];
    int64_t decimate[MAX_SPANS];
    int rates, hops, lengths, segments, decimates;
    double long_s;
    const char *file;
    wanted plan[MAX_PLANS];
    int plans;
    bool any;   /* a shape can be */
    char *good; /* wisdom of the plans kept so far; NULL: of none */
} tune;

static void want(tune *t, uint32_t n, bool inverse)
{
    if (gw_fft32_ours(n))
        return;
    for (int i = 0; i < t->plans; i++)
        if (t->plan[i].n == n && t->plan[i].inverse == inverse)
            return;
    if (t->plans < MAX_PLANS)
        t->plan[t->plans++] = (wanted){n, inverse};
}

/* The transforms of one shape, if there can be such a one. */
static void want_shape(tune *t, uint64_t rate_hz, gw_rate hop, gw_rate taps, gw_rate segment,
                       int64_t decimate)
{
    const gw_bulk_shape s = {.rate_hz = (uint32_t)rate_hz,
                             .hop = (uint32_t)(rate_hz * hop.num / hop.den),
                             .n_taps = (uint32_t)(rate_hz * taps.num / taps.den),
                             .decimate = (uint32_t)decimate,
                             .segment = (uint32_t)(rate_hz * segment.num / segment.den),
                             .pool = 1,
                             .memory = 1};
    if (gw_bulk_shape_check(&s) != GW_OK)
        return;
    gw_bulk_layout l;
    gw_bulk_layout_choose(&l, &s);
    t->any = true;
    for (uint32_t i = 0; i < l.n_levels; i++) {
        want(t, l.level[i].n, false);
        want(t, l.level[i].n / s.decimate, true);
    }
    if (l.psd_level < 0)
        want(t, s.segment, false);
}

/* Plans, times against the rule, keeps or throws away; one line. */
static int tune_one(tune *t, const wanted *p)
{
    arrays a = {aligned_alloc(GW_FFT32_ALIGN, ((size_t)p->n * 4 + 127) / 64 * 64),
                aligned_alloc(GW_FFT32_ALIGN, ((size_t)p->n * 4 + 191) / 64 * 64)};
    gw_fft32 *rule = NULL, *found = NULL;
    int err = a.time && a.freq ? GW_OK : gw_fail(GW_ENOMEM, "a transform of %u points", p->n);
    if (err == GW_OK) {
        memset(a.time, 0, (size_t)p->n * 4);
        memset(a.freq, 0, (size_t)p->n * 4 + 8);
        gw_fft32_wisdom_forget(); /* or the rule would be wise */
        err = gw_fft32_plan_fftw(&rule, p->n, p->inverse, GW_FFT32_BY_RULE, 0);
    }
    static const gw_fft32_effort efforts[] = {GW_FFT32_PATIENT, GW_FFT32_MEASURED};
    double us[2] = {0, 0};
    bool kept = false;
    for (size_t i = 0; i < 2 && err == GW_OK && !kept; i++) {
        gw_fft32_wisdom_forget();
        if (t->good)
            gw_fft32_wisdom_set(t->good);
        err = gw_fft32_plan_fftw(&found, p->n, p->inverse, efforts[i], t->long_s);
        if (err != GW_OK)
            break;
        compare(rule, found, p->inverse, &a, us);
        kept = us[1] < WORTH * us[0];
        gw_fft32_destroy(&found);
    }
    if (kept) {
        free(t->good);
        t->good = gw_fft32_wisdom_get();
    }
    if (err == GW_OK)
        printf("%6u points, %s: %7.2f us, by rule %7.2f us: %s\n", p->n, p->inverse ? "inverse" : "forward",
               us[1], us[0], kept ? "kept" : "not kept");
    fflush(stdout);
    gw_fft32_destroy(&rule);
    gw_fft32_destroy(&found);
    free(a.time);
    free(a.freq);
    return err;
}

static int tune_all(tune *t)
{
    char path[4096];
    if (!t->file)
        GW_TRY(usual_file(path, sizeof path));
    const char *file = t->file ? t->file : path;
    for (int i = 0; i < t->rates; i++)
        for (int j = 0; j < t->hops; j++)
            for (int k = 0; k < t->lengths; k++)
                for (int m = 0; m < t->segments; m++)
                    for (int d = 0; d < t->decimates; d++)
                        want_shape(t, t->rate[i].num / t->rate[i].den, t->hop[j], t->taps[k], t->segment[m],
                                   t->decimate[d]);
    if (!t->any)
        return gw_fail(GW_EUSAGE, "no such shape can be: %s", gw_err_detail());
    if (t->plans == 0) {
        printf("all these transforms are gwstream's own: nothing to tune\n");
        return GW_OK;
    }
    printf("%s, %d transforms, at most %.0f s\n", gw_fft32_library(), t->plans, 2 * t->long_s * t->plans);
    for (int i = 0; i < t->plans; i++)
        GW_TRY(tune_one(t, &t->plan[i]));
    if (!t->good) {
        printf("the rule is as good everywhere: nothing written\n");
        return GW_OK;
    }
    GW_TRY(write_file(file, t->good));
    printf("written to %s\n", file);
    return GW_OK;
}

/* "a,b,c", each through the reader that fits. */
static int read_list(const char *option, const char *text, int (*read)(const char *, void *), void *values,
                     size_t size, int *n)
{
    char part[64];
    *n = 0;
    for (const char *p = text; *p; p += *p == ',') {
        const size_t length = strcspn(p, ",");
        if (length == 0 || length >= sizeof part || *n == MAX_SPANS)
            return gw_fail(GW_EUSAGE, "--%s '%s': a list of 1 to %d values", option, text, MAX_SPANS);
        memcpy(part, p, length);
        part[length] = '\0';
        if (read(part, (char *)values + (size_t)(*n)++ * size) != GW_OK)
            return gw_fail(GW_EUSAGE, "--%s: '%s' is none", option, part);
        p += length;
    }
    return *n ? GW_OK : gw_fail(GW_EUSAGE, "--%s: an empty list", option);
}

static int read_rate(const char *text, void *value)
{
    gw_rate *r = value;
    GW_TRY(gw_parse_rate(text, r));
    return r->num % r->den == 0 ? GW_OK : gw_fail(GW_ERANGE, "whole Hz only");
}

static int read_span(const char *text, void *value)
{
    gw_rate *s = value;
    GW_TRY(gw_parse_span(text, s));
    return s->num / s->den <= 64 ? GW_OK : gw_fail(GW_ERANGE, "at most 64 s");
}

static int read_number(const char *text, void *value)
{
    return gw_parse_int(text, value);
}

int gw_cmd_tune(int argc, char **argv)
{
    static const struct option options[] = {{"help", no_argument, NULL, 'h'},
                                            {"rate", required_argument, NULL, 'r'},
                                            {"hop", required_argument, NULL, 'o'},
                                            {"taps", required_argument, NULL, 't'},
                                            {"segment", required_argument, NULL, 's'},
                                            {"decimate", required_argument, NULL, 'd'},
                                            {"seconds", required_argument, NULL, 'l'},
                                            {"file", required_argument, NULL, 'f'},
                                            {NULL, 0, NULL, 0}};
    tune t = {.rate = {{16384, 1}},
              .hop = {{1, 16}, {1, 4}, {1, 1}},
              .taps = {{1, 4}, {1, 2}, {1, 1}, {2, 1}},
              .segment = {{2, 1}},
              .decimate = {1, 4, 8},
              .rates = 1,
              .hops = 3,
              .lengths = 4,
              .segments = 1,
              .decimates = 3,
              .long_s = 5};
    opterr = 0;
    optind = 1;
    for (int c; (c = getopt_long(argc, argv, ":h", options, NULL)) != -1;) {
        switch (c) {
        case 'h':
            fputs(help, stdout);
            return GW_OK;
        case 'r':
            GW_TRY(read_list("rate", optarg, read_rate, t.rate, sizeof *t.rate, &t.rates));
            break;
        case 'o':
            GW_TRY(read_list("hop", optarg, read_span, t.hop, sizeof *t.hop, &t.hops));
            break;
        case 't':
            GW_TRY(read_list("taps", optarg, read_span, t.taps, sizeof *t.taps, &t.lengths));
            break;
        case 's':
            GW_TRY(read_list("segment", optarg, read_span, t.segment, sizeof *t.segment, &t.segments));
            break;
        case 'd':
            GW_TRY(read_list("decimate", optarg, read_number, t.decimate, sizeof *t.decimate, &t.decimates));
            break;
        case 'l':
            if (gw_parse_double(optarg, &t.long_s) != GW_OK || !(t.long_s > 0 && t.long_s <= 3600))
                return gw_fail(GW_EUSAGE, "--seconds '%s': wants 0 to 3600", optarg);
            break;
        case 'f':
            t.file = optarg;
            break;
        case ':':
            return gw_fail(GW_EUSAGE, "'%s' wants a value (gwstream tune --help)", argv[optind - 1]);
        default:
            return gw_fail(GW_EUSAGE, "no option '%s' (gwstream tune --help)", argv[optind - 1]);
        }
    }
    if (optind != argc)
        return gw_fail(GW_EUSAGE, "takes options only, not '%s' (gwstream tune --help)", argv[optind]);
    const int err = tune_all(&t);
    free(t.good);
    return err;
}
