/* SPDX-License-Identifier: GPL-3.0-or-later
 * tally.h. */
#include "pipeline/stages/tally.h"

#include "pipeline/log.h"
#include "pipeline/stages/card.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct gw_tally {
    gw_chance_rules rules;
    gw_checkpoint *file;     /* NULL: no checkpoint */
    gw_chance_record record; /* what was read, until _begin; then the buffer of the file's thread */
    bool found;
    gw_chance *archive; /* NULL: none */
    gw_chance_span archived;
    char name[GW_CHANCE_NAME];
};

static int write_file(void *arg, const char *path)
{
    const gw_chance_record *r = &((gw_tally *)arg)->record;
    if (r->memory.now == INT64_MIN)
        return gw_fail(GW_ENOMEM, "%s: no memory for a copy of the counts", path);
    return gw_chance_file_write(r, path);
}

/* ---- the archive ---- */

static int add_card(const gw_tally_conf *conf, const gw_card *card, gw_chance *chance)
{
    if (strcmp(card->model_sha256, conf->rules.model) != 0)
        return gw_fail(GW_EMISMATCH,
                       "archive: the card %s is of another model (SHA-256 %.12s..., here %.12s...)",
                       conf->card, card->model_sha256, conf->rules.model);
    if (card->above[0] > 1e8)
        return gw_fail(GW_ERANGE, "archive: %s: %.0f counts are too many", conf->card, card->above[0]);
    const uint32_t all = (uint32_t)card->above[0];
    float *statistic = calloc((size_t)all + 1, sizeof *statistic);
    if (!statistic)
        return gw_fail(GW_ENOMEM, "archive: %s: %u counts", conf->card, all);
    uint32_t n = 0;
    for (uint32_t i = 0; i < card->n_bins; i++) {
        const double here = card->above[i] - (i + 1 < card->n_bins ? card->above[i + 1] : 0);
        /* Anywhere in its bin: counted as loud as it can be. */
        const float edge = nextafterf((float)(card->first_bin + (i + 1) * card->bin_width), -INFINITY);
        for (double k = 0; k < here && n < all; k++)
            statistic[n++] = edge;
    }
    const int err = gw_chance_add_counts(chance, statistic, n, card->live_time_s, card->first_bin);
    free(statistic);
    if (err == GW_OK)
        gw_log(GW_LOG_INFO, conf->name, "archive: the card's %u triggers in %.1f days", n,
               card->live_time_s / 86400);
    return err;
}

static int add_file(gw_tally *t, const gw_tally_conf *conf, gw_chance *chance)
{
    gw_chance_record r;
    int err = gw_chance_file_read(&r, conf->archive);
    if (err == GW_OK)
        err = gw_chance_record_match(&r, conf->archive, &conf->rules);
    if (err == GW_OK)
        err = gw_chance_of(&t->archive, &r);
    t->archived = gw_chance_record_span(&r);
    gw_chance_record_free(&r);
    if (err < 0)
        return gw_fail_at(err, "archive");
    gw_chance_add_archive(chance, t->archive);
    gw_log(GW_LOG_INFO, conf->name, "archive %s: %u triggers in %.1f days of slides of %.2f h", conf->archive,
           gw_chance_triggers(t->archive, false), gw_chance_slid_s(t->archive, false) / 86400,
           gw_chance_distinct_s(t->archive) / 3600);
    return GW_OK;
}

static int add_archive(gw_tally *t, const gw_tally_conf *conf, gw_chance *chance)
{
    if (!conf->archive[0])
        return GW_OK;
    if (strcmp(conf->archive, "card") != 0)
        return add_file(t, conf, chance);
    gw_card *card;
    int err = gw_card_load(&card, conf->card);
    if (err == GW_OK)
        err = add_card(conf, card, chance);
    gw_card_free(&card);
    return err;
}

/* ---- the checkpoint ---- */

static bool same_slides(const gw_chance_record *r, const gw_tally_conf *conf)
{
    return r->n_slides == conf->n_slides &&
           memcmp(r->offset_hops, conf->offset_hops, conf->n_slides * sizeof *conf->offset_hops) == 0;
}

static void read_checkpoint(gw_tally *t, const gw_tally_conf *conf)
{
    const char *path = gw_checkpoint_path(t->file);
    if (!gw_checkpoint_exists(t->file))
        return;
    int err = gw_chance_file_read(&t->record, path);
    if (err == GW_OK)
        err = gw_chance_record_match(&t->record, path, &conf->rules);
    if (err == GW_OK && !same_slides(&t->record, conf))
        err = gw_fail(GW_EMISMATCH, "%s has other slides", path);
    t->found = err == GW_OK;
    if (!t->found)
        gw_log(GW_LOG_WARN, t->name, "checkpoint %s: not used, starting cold", gw_err_detail());
}

static int open_checkpoint(gw_tally *t, const gw_tally_conf *conf)
{
    t->record.memory.now = INT64_MIN;
    if (!conf->checkpoint->path[0])
        return GW_OK;
    GW_TRY(gw_checkpoint_new(&t->file, conf->checkpoint, conf->name, write_file, t));
    read_checkpoint(t, conf);
    gw_chance_record *r = &t->record;
    r->rules = conf->rules;
    snprintf(r->name, sizeof r->name, "%s", conf->name);
    free(r->offset_hops);
    r->n_slides = conf->n_slides;
    r->offset_hops = calloc(conf->n_slides + 1, sizeof *r->offset_hops);
    if (!r->offset_hops)
        return gw_fail(GW_ENOMEM, "checkpoint of %u slides", conf->n_slides);
    memcpy(r->offset_hops, conf->offset_hops, conf->n_slides * sizeof *r->offset_hops);
    return GW_OK;
}

/* ---- life ---- */

int gw_tally_new(gw_tally **out, const gw_tally_conf *conf, gw_chance *chance)
{
    gw_tally *t = *out = calloc(1, sizeof *t);
    if (!t)
        return gw_fail(GW_ENOMEM, "a background's counts");
    t->rules = conf->rules;
    snprintf(t->name, sizeof t->name, "%s", conf->name);
    int err = add_archive(t, conf, chance);
    if (err == GW_OK)
        err = open_checkpoint(t, conf);
    if (err < 0)
        gw_tally_destroy(out);
    return err;
}

void gw_tally_destroy(gw_tally **out)
{
    gw_tally *t = *out;
    *out = NULL;
    if (!t)
        return;
    gw_checkpoint_destroy(&t->file);
    gw_chance_record_free(&t->record);
    gw_chance_destroy(&t->archive);
    free(t);
}

static int warm_start(gw_tally *t, gw_chance *chance, int64_t hop, uint32_t flags, bool *known)
{
    const gw_chance_record *r = &t->record;
    const double hop_s = t->rules.hop_s;
    const int64_t now = r->memory.now;
    const bool found = t->found && now != INT64_MIN;
    const int64_t file_ns = found ? (int64_t)((double)(now + 1) * hop_s * 1e9) : 0;
    if (!gw_checkpoint_warm(t->file, found, file_ns, (int64_t)((double)hop * hop_s * 1e9), flags))
        return GW_OK;
    GW_TRY(gw_chance_load(chance, &r->memory));
    gw_log(GW_LOG_INFO, t->name,
           "warm start from %s, %.0f s old: %u triggers in %.1f days of slides of %.2f h",
           gw_checkpoint_path(t->file), (double)(hop - now - 1) * hop_s, r->memory.n_triggers,
           r->slid_s[0] / 86400, r->distinct_s / 3600);
    *known = true;
    return GW_OK;
}

int gw_tally_begin(gw_tally *t, gw_chance *chance, int64_t hop, uint32_t flags, bool *known)
{
    *known = gw_chance_archived_s(chance) > 0;
    if (hop < t->archived.to)
        gw_log(GW_LOG_INFO, t->name, "the archive knows GPS %.0f to %.0f: what comes from there counts once",
               (double)t->archived.from * t->rules.hop_s, (double)t->archived.to * t->rules.hop_s);
    return t->file ? warm_start(t, chance, hop, flags, known) : GW_OK;
}

void gw_tally_save(gw_tally *t, const gw_chance *chance, bool last)
{
    gw_chance_record *r = &t->record;
    if (t->file && last)
        gw_checkpoint_wait(t->file);
    if (!t->file || !(gw_chance_own_distinct_s(chance) > 0) || !gw_checkpoint_begin(t->file))
        return;
    if (gw_chance_save(chance, &r->memory) < 0)
        r->memory.now = INT64_MIN; /* the thread says it */
    for (int exclusive = 0; exclusive < 2; exclusive++)
        r->slid_s[exclusive] = gw_chance_own_slid_s(chance, exclusive);
    r->distinct_s = gw_chance_own_distinct_s(chance);
    gw_checkpoint_save(t->file);
}
