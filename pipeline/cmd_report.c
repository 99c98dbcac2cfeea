/* SPDX-License-Identifier: GPL-3.0-or-later
 * `gwstream report FILES`: what the subtraction of noise did, from recordings, as one HTML file. Here: the
 * options, and which strain channels the files hold before and after. */
#include "pipeline/cmd_report.h"
#include "pipeline/cmd.h"
#include "pipeline/config.h"
#include "sources/join.h"

#include <getopt.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static const char help[] =
    "usage: gwstream report [options] FILE.hdf5 ...\n\n"
    "Writes one HTML file about strain that was cleaned, from recordings of it before and after: spectra, "
    "the\n"
    "ratio in time, gates, spectrograms, range, and a table of figures. Files, folders and patterns; any\n"
    "number of detectors. Looks for H1:STRAIN, H1:STRAIN_CLEANED and H1:STRAIN_NOISE (any two make the "
    "third),\n"
    "for what the denoise stage tells beside them (_ASDR-, _GATE-, _MODEL-), and for H1:STRAIN_COUPLED, the\n"
    "truth of a simulation.\n\n"
    "  --output F        the report (default: report.html); replaced if it is there\n"
    "  --start GPS, --end GPS   only this span\n"
    "  --bands L         \"58-62,10-30\": bands in Hz (default: the couplings' own, else these)\n"
    "  --strain C        only this strain channel (H1:STRAIN); may be given again\n";

enum { MAX_STRAINS = 16 };

typedef struct options {
    const char *output, *strain[MAX_STRAINS];
    int n_strains;
} options;

/* ---- what the files hold ---- */

const gw_report_entry *gw_report_find(const gw_report_input *in, const char *strain, const char *suffix)
{
    const size_t n = strlen(strain);
    for (int i = 0; i < in->n; i++)
        if (!in->entry[i].simulated && !strncmp(in->entry[i].name, strain, n) &&
            !strcmp(in->entry[i].name + n, suffix))
            return &in->entry[i];
    return NULL;
}

static int add_archive(gw_report_entry *e, gw_archive *a)
{
    if (e->n_archives && e->archive[e->n_archives - 1] == a)
        return GW_OK;
    gw_archive **more = realloc(e->archive, (size_t)(e->n_archives + 1) * sizeof(gw_archive *));
    if (!more)
        return gw_fail(GW_ENOMEM, "%s", e->name);
    e->archive = more;
    more[e->n_archives++] = a;
    return GW_OK;
}

static int add_entry(gw_report_input *in, gw_archive *a, const char *name, const char *path, bool wide,
                     bool simulated)
{
    for (int i = 0; i < in->n; i++)
        if (!strcmp(in->entry[i].name, name) && in->entry[i].simulated == simulated)
            return add_archive(&in->entry[i], a);
    if (in->n == in->room) {
        const int room = in->room ? 2 * in->room : 32;
        gw_report_entry *more = realloc(in->entry, (size_t)room * sizeof *more);
        if (!more)
            return gw_fail(GW_ENOMEM, "%d channels", room);
        in->entry = more;
        in->room = room;
    }
    gw_report_entry *e = &in->entry[in->n];
    *e = (gw_report_entry){.wide = wide, .simulated = simulated, .path = strdup(path)};
    snprintf(e->name, sizeof e->name, "%s", name);
    if (!e->path)
        return gw_fail(GW_ENOMEM, "%s", name);
    in->n++;
    return add_archive(e, a);
}

static bool ends_with(const char *name, const char *suffix)
{
    const size_t n = strlen(name), m = strlen(suffix);
    return n > m && !strcmp(name + n - m, suffix);
}

/* Whether the stream that c belongs to also has the channel `name` with `suffix` in place of "_NOISE". */
static bool has_mate(const gw_archive *a, const gw_archive_channel *c, const char *name, const char *suffix)
{
    char mate[2 * GW_NAME_BYTES];
    snprintf(mate, sizeof mate, "%.*s%s", (int)(strlen(name) - strlen("_NOISE")), name, suffix);
    for (uint32_t k = 0; c->names && k < c->n_channels; k++)
        if (!strcmp(c->names[k], mate))
            return true;
    for (int i = 0; i < gw_archive_count(a) && !c->names; i++) {
        const gw_archive_channel *d = gw_archive_channel_at(a, i);
        if (!strcmp(d->stream, c->stream) && !strcmp(d->name, mate))
            return true;
    }
    return false;
}

/* A simulation's parts: noise, signal and coupled in one stream, and their sum nowhere in it. */
static bool is_part(const gw_archive *a, const gw_archive_channel *c, const char *name)
{
    return ends_with(name, "_NOISE") &&
           (has_mate(a, c, name, "_SIGNAL") || has_mate(a, c, name, "_COUPLED")) &&
           !has_mate(a, c, name, "") && !has_mate(a, c, name, "_CLEANED");
}

static int list_archive(gw_report_input *in, gw_archive *a)
{
    for (int i = 0; i < gw_archive_count(a); i++) {
        const gw_archive_channel *c = gw_archive_channel_at(a, i);
        for (uint32_t k = 0; c->names && k < c->n_channels; k++)
            GW_TRY(add_entry(in, a, c->names[k], c->path, true, is_part(a, c, c->names[k])));
        if (!c->names)
            GW_TRY(add_entry(in, a, c->name, c->path, false, is_part(a, c, c->name)));
    }
    return GW_OK;
}

static int list_files(gw_report_input *in, gw_join *all)
{
    GW_TRY(gw_join_files(all, in->file, in->n_files));
    for (int i = 0; i < all->n_archives; i++)
        GW_TRY(list_archive(in, all->archive[i]));
    return GW_OK;
}

/* ---- which strains ---- */

typedef struct strains {
    char (*name)[GW_NAME_BYTES];
    int n;
} strains;

/* Strain channels that are there with what was made of them. */
static int find_strains(const gw_report_input *in, strains *s)
{
    static const char *const made[] = {"_CLEANED", "_NOISE"};
    s->name = calloc((size_t)in->n + 1, sizeof *s->name);
    if (!s->name)
        return gw_fail(GW_ENOMEM, "%d channels", in->n);
    for (int i = 0; i < in->n; i++)
        for (int m = 0; m < 2 && !in->entry[i].simulated; m++) {
            const char *name = in->entry[i].name;
            if (!ends_with(name, made[m]))
                continue;
            char base[GW_NAME_BYTES];
            snprintf(base, sizeof base, "%.*s", (int)(strlen(name) - strlen(made[m])), name);
            bool there = false;
            for (int k = 0; k < s->n; k++)
                there = there || !strcmp(s->name[k], base);
            if (!there)
                memcpy(s->name[s->n++], base, sizeof base);
        }
    return GW_OK;
}

/* "H1:STRAIN, H1:STRAIN_COUPLED, ..." */
static const char *list_names(const gw_report_input *in, const strains *s, char *text, size_t n)
{
    size_t used = 0;
    const int count = s ? s->n : in->n;
    text[0] = '\0';
    for (int i = 0; i < count && used < n - 1; i++)
        used += (size_t)snprintf(text + used, n - used, "%s%s", i ? ", " : "",
                                 s ? s->name[i] : in->entry[i].name);
    if (used >= n - 1)
        memcpy(text + n - 4, "...", 4);
    return text;
}

static int check_strains(const gw_report_input *in, const strains *s, const options *o)
{
    char names[200];
    if (s->n == 0)
        return gw_fail(
            GW_EMISSING,
            "no strain before and after cleaning: wanted are two of H1:STRAIN, H1:STRAIN_CLEANED and "
            "H1:STRAIN_NOISE; the files hold %s",
            in->n ? list_names(in, NULL, names, sizeof names) : "nothing");
    for (int i = 0; i < o->n_strains; i++) {
        bool there = false;
        for (int k = 0; k < s->n; k++)
            there = there || !strcmp(o->strain[i], s->name[k]);
        if (!there)
            return gw_fail(GW_EMISSING,
                           "--strain %s: the files hold no %s_CLEANED and no %s_NOISE; cleaned were %s",
                           o->strain[i], o->strain[i], o->strain[i], list_names(in, s, names, sizeof names));
    }
    return GW_OK;
}

static bool chosen(const options *o, const char *strain)
{
    bool is = o->n_strains == 0;
    for (int i = 0; i < o->n_strains; i++)
        is = is || !strcmp(o->strain[i], strain);
    return is;
}

/* The report must not replace what it is made of. */
static int spare_inputs(const gw_report_input *in, const char *output)
{
    struct stat a, b;
    for (int i = 0; i < in->n_files && stat(output, &a) == 0; i++)
        if (stat(in->file[i], &b) == 0 && a.st_dev == b.st_dev && a.st_ino == b.st_ino)
            return gw_fail(GW_EUSAGE, "%s is an input; writing to it would destroy it", output);
    return GW_OK;
}

static int write_report(const gw_report_input *in, const strains *s, const options *o)
{
    gw_report *r;
    GW_TRY(check_strains(in, s, o));
    GW_TRY(spare_inputs(in, o->output));
    GW_TRY(gw_report_new(&r, o->output, in->file, in->n_files));
    int err = GW_OK;
    for (int i = 0; i < s->n && err == GW_OK; i++)
        if (chosen(o, s->name[i]))
            err = gw_report_strain(in, s->name[i], r);
    if (err == GW_OK)
        err = gw_report_finish(r);
    gw_report_destroy(&r);
    if (err == GW_OK)
        printf("written: %s\n", o->output);
    return err;
}

int gw_cmd_report(int argc, char **argv)
{
    static const struct option table[] = {{"help", no_argument, NULL, 'h'},
                                          {"output", required_argument, NULL, 'o'},
                                          {"start", required_argument, NULL, 's'},
                                          {"end", required_argument, NULL, 'e'},
                                          {"bands", required_argument, NULL, 'b'},
                                          {"strain", required_argument, NULL, 'c'},
                                          {NULL, 0, NULL, 0}};
    options o = {.output = "report.html"};
    gw_report_input in = {.start_ns = INT64_MIN, .end_ns = INT64_MAX};
    opterr = 0;
    optind = 1;
    for (int c; (c = getopt_long(argc, argv, ":ho:", table, NULL)) != -1;) {
        switch (c) {
        case 'h':
            fputs(help, stdout);
            return GW_OK;
        case 'o':
            o.output = optarg;
            break;
        case 's':
        case 'e':
            if (gw_parse_gps_ns(optarg, c == 's' ? &in.start_ns : &in.end_ns) != GW_OK)
                return gw_fail(GW_EUSAGE, "--%s '%s': wants a GPS time in seconds",
                               c == 's' ? "start" : "end", optarg);
            break;
        case 'b':
            GW_TRY(gw_bands_parse(&in.bands, "--bands", optarg));
            break;
        case 'c':
            if (o.n_strains == MAX_STRAINS)
                return gw_fail(GW_EUSAGE, "--strain: at most %d", MAX_STRAINS);
            o.strain[o.n_strains++] = optarg;
            break;
        case ':':
            return gw_fail(GW_EUSAGE, "'%s' wants a value (gwstream report --help)", argv[optind - 1]);
        default:
            return gw_fail(GW_EUSAGE, "no option '%s' (gwstream report --help)", argv[optind - 1]);
        }
    }
    if (optind == argc)
        return gw_fail(GW_EUSAGE, "which files? (gwstream report --help)");
    if (in.start_ns >= in.end_ns)
        return gw_fail(GW_EUSAGE, "--start must lie before --end");
    in.file = argv + optind;
    in.n_files = argc - optind;
    strains s = {0};
    gw_join all;
    int err = list_files(&in, &all);
    if (err == GW_OK)
        err = find_strains(&in, &s);
    if (err == GW_OK)
        err = write_report(&in, &s, &o);
    for (int i = 0; i < in.n; i++) {
        free(in.entry[i].archive);
        free(in.entry[i].path);
    }
    gw_join_close(&all);
    free(in.entry);
    free(s.name);
    return err;
}
