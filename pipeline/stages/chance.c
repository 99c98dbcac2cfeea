/* SPDX-License-Identifier: GPL-3.0-or-later
 * chance.h: the life of it, and what each hop brings. */
#include "pipeline/stages/chance_inside.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* -- life -------------------------------------------------------------------------------------------- */

static int32_t longest(const gw_chance_conf *conf)
{
    int32_t most = 0;
    for (uint32_t k = 0; k < conf->n_slides; k++)
        most = abs(conf->offset_hops[k]) > most ? abs(conf->offset_hops[k]) : most;
    return most;
}

/* Twice as much as is needed at any time, so that moving down is rare. */
static size_t words_of(const gw_chance_conf *conf)
{
    return 2 * ((conf->memory_hops + (size_t)longest(conf) + conf->need_hops) / WORD + 2);
}

size_t gw_chance_bytes(const gw_chance_conf *conf)
{
    return conf->max_triggers * (sizeof(trigger) + 3 * sizeof(float)) +
           conf->n_slides * (sizeof(cluster) + sizeof(int32_t)) + 5 * words_of(conf) * sizeof(uint64_t) +
           (size_t)BLOCKS * BLOCKS *
               (sizeof(uint64_t) + sizeof(uint32_t) * (1 + GW_NOISE_STEPS) + sizeof(gw_redraw_pair));
}

static bool make_blocks(gw_chance *c)
{
    blocks *b = &c->blocks;
    b->of = calloc(c->words, sizeof *b->of);
    b->hops = calloc((size_t)BLOCKS * BLOCKS, sizeof *b->hops);
    b->pair_at = calloc((size_t)BLOCKS * BLOCKS, sizeof *b->pair_at);
    b->pair = calloc((size_t)BLOCKS * BLOCKS, sizeof *b->pair);
    b->triggers = calloc((size_t)BLOCKS * BLOCKS * GW_NOISE_STEPS, sizeof *b->triggers);
    b->scratch = calloc((size_t)GW_NOISE_STEPS * GW_REDRAWS, sizeof *b->scratch);
    return b->of && b->hops && b->pair_at && b->pair && b->triggers && b->scratch;
}

int gw_chance_new(gw_chance **out, const gw_chance_conf *conf)
{
    gw_chance *c = *out = calloc(1, sizeof *c);
    if (!c)
        return gw_fail(GW_ENOMEM, "false-alarm rates");
    c->conf = *conf;
    c->conf.offset_hops = NULL;
    c->floor = conf->floor;
    c->card_floor = -INFINITY;
    c->longest = longest(conf);
    c->words = words_of(conf);
    c->base = c->now = INT64_MIN;
    c->offset = calloc(conf->n_slides + 1, sizeof *c->offset);
    c->cluster = calloc(conf->n_slides + 1, sizeof *c->cluster);
    c->trigger = calloc(conf->max_triggers + 1, sizeof *c->trigger);
    c->scratch = calloc(conf->max_triggers + 1, sizeof *c->scratch);
    uint64_t **row[] = {&c->there, &c->fit, &c->withdrawn, &c->kept, &c->late};
    bool whole = c->offset && c->cluster && c->trigger && c->scratch && make_blocks(c);
    for (int i = 0; i < 5; i++)
        whole &= (*row[i] = calloc(c->words, sizeof **row[i])) != NULL;
    for (int i = 0; i < 2; i++)
        whole &= (c->counted[i].statistic = calloc(conf->max_triggers + 1, sizeof(float))) != NULL;
    if (!whole) {
        gw_chance_destroy(out);
        return gw_fail(GW_ENOMEM, "false-alarm rates of %u slides", conf->n_slides);
    }
    memcpy(c->offset, conf->offset_hops, conf->n_slides * sizeof *c->offset);
    if (gw_chance_spell_begins(c, conf->n_slides, true) < 0) {
        gw_chance_destroy(out);
        return gw_fail(GW_ENOMEM, "false-alarm rates of %u slides", conf->n_slides);
    }
    return GW_OK;
}

void gw_chance_destroy(gw_chance **out)
{
    gw_chance *c = *out;
    *out = NULL;
    if (!c)
        return;
    free(c->offset);
    free(c->cluster);
    free(c->trigger);
    free(c->scratch);
    free(c->there);
    free(c->fit);
    free(c->withdrawn);
    free(c->kept);
    free(c->late);
    free(c->spell);
    free(c->blocks.of);
    free(c->blocks.hops);
    free(c->blocks.pair_at);
    free(c->blocks.pair);
    free(c->blocks.triggers);
    free(c->blocks.scratch);
    free(c->card.statistic);
    free(c->counted[0].statistic);
    free(c->counted[1].statistic);
    free(c);
}

/* -- bits of hops ------------------------------------------------------------------------------------ */

void gw_chance_reach(gw_chance *c, int64_t hop)
{
    const int64_t room = (int64_t)(c->words * WORD);
    if (c->base == INT64_MIN || hop - c->base >= 2 * room) {
        uint64_t *row[] = {c->there, c->fit, c->withdrawn};
        for (int i = 0; i < 3; i++)
            memset(row[i], 0, c->words * sizeof **row);
        const int64_t base = hop - room / 2, within = base % WORD;
        c->base = base - within - (within < 0 ? WORD : 0);
    } else if (hop - c->base >= room) {
        const size_t gone = (size_t)(hop - c->base - room / 2) / WORD;
        uint64_t *row[] = {c->there, c->fit, c->withdrawn};
        for (int i = 0; i < 3; i++) {
            memmove(row[i], row[i] + gone, (c->words - gone) * sizeof **row);
            memset(row[i] + c->words - gone, 0, gone * sizeof **row);
        }
        c->base += (int64_t)gone * WORD;
    }
}

/* -- clusters ---------------------------------------------------------------------------------------- */

/* Half of them go, the faintest: what stays is whole above the new floor. */
static void raise_floor(gw_chance *c)
{
    float *sorted = c->scratch;
    for (uint32_t i = 0; i < c->n_triggers; i++)
        sorted[i] = c->trigger[i].statistic;
    qsort(sorted, c->n_triggers, sizeof *sorted, louder);
    c->floor = (double)nextafterf(sorted[c->n_triggers / 2], INFINITY);
    uint32_t n = 0;
    for (uint32_t i = 0; i < c->n_triggers; i++)
        if ((double)c->trigger[i].statistic >= c->floor)
            c->trigger[n++] = c->trigger[i];
    c->n_triggers = n;
}

void gw_chance_add_trigger(gw_chance *c, const trigger *t)
{
    if (c->n_triggers == c->conf.max_triggers)
        raise_floor(c);
    if ((double)t->statistic >= c->floor && c->n_triggers < c->conf.max_triggers)
        c->trigger[c->n_triggers++] = *t;
}

static void close_cluster(gw_chance *c, uint32_t slide)
{
    cluster *k = &c->cluster[slide];
    if (!k->open)
        return;
    k->open = false;
    const int64_t hop = k->frame / c->conf.hop_frames;
    if (c->offset[slide] == 0) {
        if (c->n_own < MAX_OWN)
            c->own[c->n_own++] = (gw_chance_peak){.statistic = (double)k->peak, .hop = hop};
        return;
    }
    trigger t = {.statistic = k->peak};
    pair_of(c, slide, hop, t.hop);
    gw_chance_add_trigger(c, &t);
}

/* -- spells ------------------------------------------------------------------------------------------ */

int gw_chance_spell_begins(gw_chance *c, uint32_t slides, bool new_ring)
{
    if (c->n_spells == c->max_spells) {
        const uint32_t max = c->max_spells ? 2 * c->max_spells : 16;
        gw_chance_spell *spell = realloc(c->spell, max * sizeof *spell);
        if (!spell)
            return gw_fail(GW_ENOMEM, "%u spells of time slides", max);
        c->spell = spell;
        c->max_spells = max;
    }
    c->next = (gw_chance_spell){.slides = slides, .new_ring = new_ring || (c->new_spell && c->next.new_ring)};
    c->new_spell = true;
    return GW_OK;
}

int64_t gw_chance_since(const gw_chance *c, const gw_chance_spell *spell, int64_t ring, uint32_t slide,
                        int64_t before)
{
    const int64_t paired = ring + abs(c->offset[slide]), whole = spell->from + c->conf.need_hops;
    if (slide >= spell->slides)
        return INT64_MAX;
    if (spell->new_ring) /* what the network needs, `fit` knows */
        return paired;
    return before != INT64_MAX ? before : whole > paired ? whole : paired;
}

static void begin_spell(gw_chance *c, int64_t hop)
{
    c->new_spell = false;
    c->next.from = hop;
    c->spell[c->n_spells++] = c->next;
    if (c->next.new_ring)
        c->ring = hop;
    for (uint32_t s = 0; s < c->conf.n_slides; s++) {
        cluster *k = &c->cluster[s];
        const int64_t before = k->since;
        k->since = gw_chance_since(c, &c->next, c->ring, s, before);
        if (k->since != before)
            close_cluster(c, s);
    }
}

/* What ended before all that is kept goes; that a ring began before that makes no difference. */
void gw_chance_forget_spells(gw_chance *c)
{
    const int64_t oldest = c->now - c->conf.memory_hops - c->longest - c->conf.need_hops;
    uint32_t gone = 0;
    for (uint32_t i = 1; i < c->n_spells && c->spell[i].from <= oldest; i++)
        gone = i;
    c->n_spells -= gone;
    memmove(c->spell, c->spell + gone, c->n_spells * sizeof *c->spell);
    if (gone)
        c->spell[0].new_ring = true;
}

/* -- a hop ------------------------------------------------------------------------------------------- */

void gw_chance_hop(gw_chance *c, int64_t hop)
{
    gw_chance_reach(c, hop);
    c->now = hop;
    if (c->new_spell)
        begin_spell(c, hop);
    set(c, c->there, hop);
    for (uint32_t i = 1; i <= c->conf.need_hops; i++)
        if (hop - i < c->ring || !has(c, c->there, hop - i))
            return;
    set(c, c->fit, hop);
}

void gw_chance_slide(gw_chance *c, uint32_t slide, const float *statistic)
{
    cluster *k = &c->cluster[slide];
    int64_t of[2];
    pair_of(c, slide, c->now, of);
    if (c->now < k->since || !has(c, c->fit, of[0]) || !has(c, c->fit, of[1])) {
        close_cluster(c, slide);
        return;
    }
    for (uint32_t i = 0; i < c->conf.hop_frames; i++) {
        const int64_t frame = c->now * c->conf.hop_frames + i;
        if (k->open && frame - k->frame > c->conf.cluster_frames)
            close_cluster(c, slide);
        if (!((double)statistic[i] >= c->floor) || (k->open && statistic[i] <= k->peak))
            continue;
        *k = (cluster){.open = true, .peak = statistic[i], .frame = frame};
    }
}

void gw_chance_withdraw(gw_chance *c, int64_t from, int64_t to)
{
    for (int64_t hop = from; hop < to; hop++)
        set(c, c->withdrawn, hop);
}

uint32_t gw_chance_own(gw_chance *c, gw_chance_peak *peak, uint32_t n)
{
    n = n < c->n_own ? n : c->n_own;
    memcpy(peak, c->own, n * sizeof *peak);
    c->n_own -= n;
    memmove(c->own, c->own + n, c->n_own * sizeof *c->own);
    return n;
}
