/* SPDX-License-Identifier: GPL-3.0-or-later
 * `gwstream background`: what a background's checkpoints and archives hold, and several of them as one. The
 * files and their rules are stages/chance_file.c's. */
#include "pipeline/clock.h"
#include "pipeline/cmd.h"
#include "pipeline/stages/chance_file.h"
#include "pipeline/stages/checkpoint.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static const char help[] = "usage: gwstream background show FILE...\n"
                           "       gwstream background merge FILE FILE... -o FILE\n\n"
                           "FILE is what the stage `background` wrote (`checkpoint:`), or a merge of such "
                           "files: all noise triggers of\n"
                           "its time slides. `show` says of what, how much, and which statistic noise "
                           "reaches how often. `merge` adds\n"
                           "the counts of runs of different times, same model and slides, into a new file, "
                           "to be used as `archive:`.\n";

static void show_rate(const gw_chance *c, const char *how_often, double rate_hz)
{
    const double at[2] = {gw_chance_threshold(c, rate_hz, false), gw_chance_threshold(c, rate_hz, true)};
    printf("  once %-7s", how_often);
    for (int exclusive = 0; exclusive < 2; exclusive++) {
        if (isinf(at[exclusive]))
            printf("%s", "         -");
        else
            printf("%10.4f", at[exclusive]);
    }
    printf("%s\n", isinf(at[0]) ? "   (the slid time is too short to tell)" : "");
}

static int show(const char *path)
{
    gw_chance_record r;
    gw_chance *c = NULL;
    GW_TRY(gw_chance_file_read(&r, path));
    const gw_chance_span span = gw_chance_record_span(&r);
    const int err = gw_chance_of(&c, &r);
    if (err == GW_OK) {
        uint32_t rings = 0;
        for (uint32_t i = 0; i < r.memory.n_spells; i++)
            rings += r.memory.spell[i].new_ring;
        printf("%s: %s of %s, model %.16s\n", path, r.name, r.rules.detectors, r.rules.model);
        printf("  GPS %.0f to %.0f, %u run%s, %u slides, refractory %g s\n",
               (double)span.from * r.rules.hop_s, (double)span.to * r.rules.hop_s, rings,
               rings == 1 ? "" : "s", r.n_slides - (r.n_slides > 0),
               r.rules.cluster_frames * r.rules.hop_s / r.rules.hop_frames);
        printf("  slid %.4f d inclusive, %.4f d exclusive, of %.4f d of data\n",
               gw_chance_slid_s(c, false) / 86400, gw_chance_slid_s(c, true) / 86400,
               gw_chance_distinct_s(c) / 86400);
        printf("  %u triggers inclusive, %u exclusive, above %g\n", gw_chance_triggers(c, false),
               gw_chance_triggers(c, true), gw_chance_floor(c));
        printf("  noise reaches  inclusive exclusive\n");
        show_rate(c, "an hour", 1.0 / 3600);
        show_rate(c, "a day", 1.0 / 86400);
        show_rate(c, "a month", 1.0 / (30 * 86400.0));
        show_rate(c, "a year", 1.0 / (365.25 * 86400));
    }
    gw_chance_destroy(&c);
    gw_chance_record_free(&r);
    return err;
}

static int write_file(void *arg, const char *path)
{
    return gw_chance_file_write(arg, path);
}

static int merge(char **path, int n, const char *to)
{
    gw_chance_record all, more;
    if (access(to, F_OK) == 0)
        return gw_fail(GW_EUSAGE, "%s is there already; nothing is overwritten", to);
    GW_TRY(gw_chance_file_read(&all, path[0]));
    int err = GW_OK;
    for (int i = 1; i < n && err == GW_OK; i++) {
        err = gw_chance_file_read(&more, path[i]);
        if (err < 0)
            break;
        err = gw_chance_record_add(&all, path[0], &more, path[i]);
        gw_chance_record_free(&more);
    }
    if (err == GW_OK)
        err = gw_checkpoint_replace(to, write_file, &all);
    gw_chance_record_free(&all);
    return err == GW_OK ? show(to) : err;
}

int gw_cmd_background(int argc, char **argv)
{
    if (argc == 2 && (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0)) {
        fputs(help, stdout);
        return GW_OK;
    }
    const char *what = argc > 1 ? argv[1] : "", *to = NULL;
    char *file[64];
    int n = 0;
    for (int i = 2; i < argc; i++) {
        if (strcmp(argv[i], "-o") == 0 && i + 1 < argc && !to)
            to = argv[++i];
        else if (argv[i][0] == '-' || n == 64)
            return gw_fail(GW_EUSAGE, "%s: no such option, or too many files (gwstream background --help)",
                           argv[i]);
        else
            file[n++] = argv[i];
    }
    if (strcmp(what, "merge") == 0 && n >= 2 && to)
        return merge(file, n, to);
    if (strcmp(what, "show") != 0 || n < 1 || to)
        return gw_fail(GW_EUSAGE,
                       "wants 'show FILE...' or 'merge FILE FILE... -o FILE' (gwstream background --help)");
    for (int i = 0; i < n; i++)
        GW_TRY(show(file[i]));
    return GW_OK;
}
