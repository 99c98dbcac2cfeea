/* SPDX-License-Identifier: GPL-3.0-or-later
 * chance.h: what is kept over runs, or comes from elsewhere. */
#include "pipeline/stages/chance_inside.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

void gw_chance_add_archive(gw_chance *c, gw_chance *archive)
{
    c->archive = archive;
}

int gw_chance_add_counts(gw_chance *c, const float *statistic, uint32_t n, double slid_s, double floor)
{
    float *list = realloc(c->card.statistic, (n + 1) * sizeof *list);
    if (!list)
        return gw_fail(GW_ENOMEM, "an archive of %u triggers", n);
    memcpy(list, statistic, n * sizeof *list);
    qsort(list, n, sizeof *list, louder);
    c->card = (counted){.statistic = list, .n = n};
    c->card_s = slid_s;
    c->card_floor = floor;
    return GW_OK;
}

/* Room for `n` of something. */
static bool room(void **data, uint32_t *max, size_t n, size_t bytes)
{
    if (n <= *max)
        return true;
    void *more = realloc(*data, (n + n / 2 + 16) * bytes);
    if (!more)
        return false;
    *data = more;
    *max = (uint32_t)(n + n / 2 + 16);
    return true;
}

static bool save_row(const gw_chance *c, const uint64_t *row, gw_chance_span **span, uint32_t *n,
                     uint32_t *max)
{
    *n = 0;
    for (int64_t hop = c->base; hop <= c->base + (int64_t)(c->words * WORD); hop++) {
        const bool in = has(c, row, hop), was = *n && (*span)[*n - 1].to == hop;
        if (in && !was) {
            if (!room((void **)span, max, *n + 1, sizeof **span))
                return false;
            (*span)[(*n)++] = (gw_chance_span){hop, hop + 1};
        } else if (in) {
            (*span)[*n - 1].to++;
        }
    }
    return true;
}

int gw_chance_save(const gw_chance *c, gw_chance_memory *m)
{
    m->now = c->now;
    m->floor = c->floor;
    m->n_triggers = m->n_fit = m->n_withdrawn = m->n_spells = 0;
    if (c->now == INT64_MIN)
        return GW_OK;
    if (!room((void **)&m->trigger, &m->max_triggers, (size_t)c->n_triggers + c->conf.n_slides,
              sizeof *m->trigger) ||
        !room((void **)&m->spell, &m->max_spells, c->n_spells, sizeof *m->spell) ||
        !save_row(c, c->fit, &m->fit, &m->n_fit, &m->max_fit) ||
        !save_row(c, c->withdrawn, &m->withdrawn, &m->n_withdrawn, &m->max_withdrawn))
        return gw_fail(GW_ENOMEM, "a copy of %u triggers", c->n_triggers);
    m->n_spells = c->n_spells;
    memcpy(m->spell, c->spell, c->n_spells * sizeof *m->spell);
    m->n_triggers = c->n_triggers;
    memcpy(m->trigger, c->trigger, c->n_triggers * sizeof *m->trigger);
    for (uint32_t s = 0; s < c->conf.n_slides; s++) {
        const cluster *k = &c->cluster[s];
        if (!k->open || c->offset[s] == 0 || (double)k->peak < c->floor)
            continue;
        trigger *t = &m->trigger[m->n_triggers++];
        t->statistic = k->peak;
        pair_of(c, s, k->frame / c->conf.hop_frames, t->hop);
    }
    return GW_OK;
}

static void load_row(gw_chance *c, uint64_t *row, const gw_chance_span *span, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        for (int64_t hop = span[i].from > c->base ? span[i].from : c->base; hop < span[i].to; hop++)
            set(c, row, hop);
}

int gw_chance_load(gw_chance *c, const gw_chance_memory *m)
{
    if (m->now == INT64_MIN)
        return GW_OK;
    if (!room((void **)&c->spell, &c->max_spells, m->n_spells + 1, sizeof *c->spell))
        return gw_fail(GW_ENOMEM, "%u spells of time slides", m->n_spells);
    memcpy(c->spell, m->spell, m->n_spells * sizeof *c->spell);
    c->n_spells = m->n_spells;
    c->floor = fmax(c->floor, m->floor);
    gw_chance_reach(c, m->now);
    c->now = m->now;
    load_row(c, c->fit, m->fit, m->n_fit);
    load_row(c, c->withdrawn, m->withdrawn, m->n_withdrawn);
    for (uint32_t i = 0; i < m->n_triggers; i++)
        gw_chance_add_trigger(c, &m->trigger[i]);
    return GW_OK;
}

void gw_chance_memory_free(gw_chance_memory *m)
{
    free(m->trigger);
    free(m->fit);
    free(m->withdrawn);
    free(m->spell);
    *m = (gw_chance_memory){.now = INT64_MIN};
}
