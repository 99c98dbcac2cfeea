/* SPDX-License-Identifier: GPL-3.0-or-later
 * chance.h: counting, and the rates that follow. */
#include "pipeline/stages/chance_inside.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* -- counting ---------------------------------------------------------------------------------------- */

/* Rows are blocks of the first detector, columns of the second. */
static uint64_t *cell_of(const gw_chance *c, uint64_t *cell, int32_t offset, int64_t late, int64_t early)
{
    const uint32_t a = c->blocks.of[late], b = c->blocks.of[early];
    return &cell[offset > 0 ? a * BLOCKS + b : b * BLOCKS + a];
}

/* Hops [from, to) of the slide's first half that are in `late` and their other half in `early`; `cell`, if
 * given: by pair of blocks. */
static uint64_t common(const gw_chance *c, const uint64_t *late, const uint64_t *early, int32_t offset,
                       int64_t from, int64_t to, uint64_t *cell)
{
    const int64_t begin = from - c->base > 0 ? from - c->base : 0, end = to - c->base, o = abs(offset);
    uint64_t n = 0;
    for (int64_t at = begin / WORD * WORD; at < end; at += WORD) {
        uint64_t both = late[at / WORD] & bits(c, early, at - o);
        if (at < begin)
            both &= ~UINT64_C(0) << (begin - at);
        if (end - at < WORD)
            both &= (UINT64_C(1) << (end - at)) - 1;
        n += (uint64_t)__builtin_popcountll(both);
        if (!cell || !both)
            continue;
        const int64_t other = at - o, next = other < 0 ? 0 : other / WORD + 1; /* words of the other half */
        const int64_t cut = next * WORD - other;
        const uint64_t low = cut >= WORD ? both : both & ((UINT64_C(1) << cut) - 1), high = both & ~low;
        if (low)
            *cell_of(c, cell, offset, at / WORD, next - 1) += (uint64_t)__builtin_popcountll(low);
        if (high)
            *cell_of(c, cell, offset, at / WORD, next) += (uint64_t)__builtin_popcountll(high);
    }
    return n;
}

/* Of the slide, in the memory: spell by spell. */
static uint64_t slid_hops(const gw_chance *c, const uint64_t *early, const uint64_t *late, uint32_t slide,
                          uint64_t *cell)
{
    int64_t ring = INT64_MIN, since = INT64_MAX;
    uint64_t n = 0;
    for (uint32_t i = 0; i < c->n_spells; i++) {
        const gw_chance_spell *spell = &c->spell[i];
        if (spell->new_ring)
            ring = spell->from;
        since = gw_chance_since(c, spell, ring, slide, since);
        const int64_t oldest = c->now - c->conf.memory_hops + 1;
        const int64_t begin = spell->from > oldest ? spell->from : oldest,
                      from = since > begin ? since : begin;
        const int64_t end = i + 1 < c->n_spells ? c->spell[i + 1].from : c->now + 1;
        if (from < end)
            n += common(c, late, early, c->offset[slide], from, end, cell);
    }
    return n;
}

/* Blocks of about equal time: words of hops, numbered where any hop counts. */
static void number_blocks(gw_chance *c)
{
    blocks *b = &c->blocks;
    const int64_t first = (c->now - c->conf.memory_hops - c->longest - c->base) / WORD;
    const size_t from = first > 0 ? (size_t)first : 0;
    uint32_t used = 0;
    for (size_t i = from; i < c->words; i++)
        used += c->fit[i] != 0;
    const uint32_t each = (used + BLOCKS - 1) / BLOCKS;
    b->n = each ? (used + each - 1) / each : 0;
    used = 0;
    for (size_t i = 0; i < c->words; i++) {
        b->of[i] = each && used ? (used - 1) / each : 0;
        if (i < from || !c->fit[i])
            continue;
        b->of[i] = used++ / each;
    }
    memset(b->hops, 0, (size_t)BLOCKS * BLOCKS * sizeof *b->hops);
}

static void list_pairs(gw_chance *c)
{
    blocks *b = &c->blocks;
    b->n_pairs = 0;
    for (uint32_t i = 0; i < BLOCKS * BLOCKS; i++) {
        b->pair_at[i] = b->n_pairs;
        if (b->hops[i])
            b->pair[b->n_pairs++] = (gw_redraw_pair){.block = {i / BLOCKS, i % BLOCKS},
                                                     .slid = (double)b->hops[i] * c->conf.hop_s};
    }
}

static bool counts(const gw_chance *c, const uint64_t *late, const uint64_t *early, const trigger *t)
{
    const bool first = t->hop[0] > t->hop[1];
    return has(c, late, t->hop[!first]) && has(c, early, t->hop[first]);
}

/* Rows `kept` and `late` for this count. */
static void make_rows(gw_chance *c, bool exclusive)
{
    const gw_chance *a = c->archive;
    for (size_t i = 0; i < c->words; i++) {
        c->kept[i] = c->fit[i] & ~(exclusive ? c->withdrawn[i] : 0);
        c->late[i] = c->kept[i];
        if (a && a->now != INT64_MIN)
            c->late[i] &= ~bits(a, a->fit, c->base + (int64_t)i * WORD - a->base);
    }
}

static void count(gw_chance *c, bool exclusive)
{
    counted *k = &c->counted[exclusive];
    make_rows(c, exclusive);
    k->n = 0;
    k->slid_hops = 0;
    if (!exclusive)
        number_blocks(c);
    for (uint32_t s = 0; s < c->conf.n_slides; s++)
        if (c->offset[s] != 0)
            k->slid_hops += slid_hops(c, c->kept, c->late, s, exclusive ? NULL : c->blocks.hops);
    for (uint32_t i = 0; i < c->n_triggers; i++)
        if (counts(c, c->late, c->kept, &c->trigger[i]))
            k->statistic[k->n++] = c->trigger[i].statistic;
    qsort(k->statistic, k->n, sizeof *k->statistic, louder);
    if (exclusive)
        return;
    list_pairs(c);
    c->distinct_hops = common(c, c->late, c->kept, 0, c->now - c->conf.memory_hops + 1, c->now + 1, NULL);
}

void gw_chance_count(gw_chance *c)
{
    if (c->now == INT64_MIN)
        return;
    uint32_t n = 0;
    for (uint32_t i = 0; i < c->n_triggers; i++)
        if (later(c->trigger[i].hop) > c->now - c->conf.memory_hops)
            c->trigger[n++] = c->trigger[i];
    c->n_triggers = n;
    gw_chance_forget_spells(c);
    count(c, true);
    count(c, false);
}

/* How many are at least as loud. */
static uint32_t above(const counted *k, double statistic)
{
    uint32_t low = 0, high = k->n;
    while (low < high) {
        const uint32_t mid = (low + high) / 2;
        if ((double)k->statistic[mid] >= statistic)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

/* The same of all lists together: its own, the archive's, the card's. */
static uint32_t above_all(const gw_chance *c, double statistic, bool exclusive)
{
    return above(&c->counted[exclusive], statistic) +
           (c->archive ? above(&c->archive->counted[exclusive], statistic) : 0) + above(&c->card, statistic);
}

/* Walks down all lists together; false: there is nothing fainter. */
typedef struct descent {
    const counted *list[3];
    uint32_t at[3];
} descent;

static descent descend(const gw_chance *c, bool exclusive)
{
    static const counted none;
    return (descent){
        .list = {&c->counted[exclusive], c->archive ? &c->archive->counted[exclusive] : &none, &c->card}};
}

static bool next_down(descent *d, float *statistic)
{
    int loudest = -1;
    for (int i = 0; i < 3; i++)
        if (d->at[i] < d->list[i]->n &&
            (loudest < 0 || d->list[i]->statistic[d->at[i]] > d->list[loudest]->statistic[d->at[loudest]]))
            loudest = i;
    if (loudest < 0)
        return false;
    *statistic = d->list[loudest]->statistic[d->at[loudest]++];
    return true;
}

double gw_chance_rate_hz(const gw_chance *c, double statistic, bool exclusive)
{
    const double slid_s = gw_chance_slid_s(c, exclusive);
    return slid_s > 0 ? (above_all(c, statistic, exclusive) + 1) / slid_s : NAN;
}

double gw_chance_threshold(const gw_chance *c, double rate_hz, bool exclusive)
{
    const double allowed = floor(rate_hz * gw_chance_slid_s(c, exclusive) * (1 + 1e-12)) - 1;
    if (allowed < 0)
        return INFINITY;
    descent d = descend(c, exclusive);
    float statistic = 0;
    for (double rank = 0; rank <= allowed; rank++)
        if (!next_down(&d, &statistic))
            return gw_chance_floor(c);
    /* Just above the loudest one too many. */
    const double at = (double)nextafterf(statistic, INFINITY);
    return at > gw_chance_floor(c) ? at : gw_chance_floor(c);
}

/* -- steps ------------------------------------------------------------------------------------------- */

/* A step just above a trigger, where text can say it: only louder ones are above. So from there to the next
 * trigger n is what it is. */
static double step_above(float statistic)
{
    return floor((double)statistic * 1e4 + 1) / 1e4;
}

static void choose_steps(const gw_chance *c, gw_noise_rate *r)
{
    double falling[GW_NOISE_STEPS], wanted = 1;
    int n = 0;
    descent d = descend(c, false);
    float statistic;
    for (double rank = 1; n < GW_NOISE_STEPS - 1 && next_down(&d, &statistic); rank++) {
        if (rank < floor(wanted))
            continue;
        wanted = wanted < 8 ? wanted + 1 : wanted * 1.5;
        const double at = step_above(statistic);
        if (n == 0 || at < falling[n - 1])
            falling[n++] = at;
    }
    const double floor_step = ceil(gw_chance_floor(c) * 1e4) / 1e4; /* nothing is known below the floor */
    while (n > 0 && falling[n - 1] <= floor_step)
        n--;
    falling[n++] = floor_step;
    r->n = n;
    for (int i = 0; i < n; i++)
        r->statistic[i] = falling[n - 1 - i];
}

/* What was slid, with its triggers by pair of blocks and step. */
static gw_redraw_source source_of(gw_chance *c, const gw_noise_rate *r)
{
    blocks *b = &c->blocks;
    memset(b->triggers, 0, (size_t)b->n_pairs * (size_t)r->n * sizeof *b->triggers);
    make_rows(c, false);
    for (uint32_t k = 0; k < c->n_triggers; k++) {
        const trigger *t = &c->trigger[k];
        if (!((double)t->statistic >= r->statistic[0]) || !counts(c, c->late, c->kept, t))
            continue;
        int low = 0, high = r->n; /* statistic[low] <= it < statistic[high] */
        while (high - low > 1) {
            const int mid = (low + high) / 2;
            if ((double)t->statistic >= r->statistic[mid])
                low = mid;
            else
                high = mid;
        }
        const uint32_t row = b->of[(t->hop[0] - c->base) / WORD],
                       column = b->of[(t->hop[1] - c->base) / WORD];
        b->triggers[(size_t)b->pair_at[row * BLOCKS + column] * (size_t)r->n + (size_t)low]++;
    }
    return (gw_redraw_source){
        .n_blocks = b->n, .n_pairs = b->n_pairs, .pair = b->pair, .triggers = b->triggers};
}

_Static_assert((int)GW_NOISE_STEPS <= (int)GW_REDRAW_STEPS, "a table's steps are drawn at once");

static uint32_t percent(double part, double whole)
{
    return part > 0 ? (uint32_t)fmin(99999, fmax(1, round(100 * part / whole))) : 0;
}

static void find_interval(gw_chance *c, gw_noise_rate *r)
{
    gw_redraw_source source[2];
    double low[GW_NOISE_STEPS], high[GW_NOISE_STEPS], of_card[GW_NOISE_STEPS];
    int n = 0;
    if (c->counted[0].slid_hops)
        source[n++] = source_of(c, r);
    if (c->archive)
        source[n++] = source_of(c->archive, r);
    for (int i = 0; i < r->n; i++)
        of_card[i] = above(&c->card, r->statistic[i]) -
                     (i + 1 < r->n ? (double)above(&c->card, r->statistic[i + 1]) : 0);
    const gw_redraw_counts card = {.triggers = c->card.n ? of_card : NULL, .slid = c->card_s};
    gw_redraw(source, n, &card, r->n, (uint64_t)c->now, c->blocks.scratch, low, high);
    for (int i = 0; i < r->n; i++) {
        const double rate = (r->above[0][i] + 1) / r->slid_s[0];
        r->low[i] = percent(low[i], rate);
        r->high[i] = percent(high[i], rate);
    }
}

void gw_chance_steps(gw_chance *c, gw_noise_rate *r)
{
    choose_steps(c, r);
    for (int exclusive = 0; exclusive < 2; exclusive++) {
        for (int i = 0; i < r->n; i++)
            r->above[exclusive][i] = above_all(c, r->statistic[i], exclusive);
        r->slid_s[exclusive] = gw_chance_slid_s(c, exclusive);
    }
    r->distinct_s = gw_chance_distinct_s(c);
    r->archived_s = gw_chance_archived_s(c);
    find_interval(c, r);
}

double gw_chance_own_slid_s(const gw_chance *c, bool exclusive)
{
    return (double)c->counted[exclusive].slid_hops * c->conf.hop_s;
}

double gw_chance_slid_s(const gw_chance *c, bool exclusive)
{
    return gw_chance_own_slid_s(c, exclusive) +
           (c->archive ? gw_chance_own_slid_s(c->archive, exclusive) : 0) + c->card_s;
}

double gw_chance_archived_s(const gw_chance *c)
{
    return gw_chance_slid_s(c, false) - gw_chance_own_slid_s(c, false);
}

double gw_chance_own_distinct_s(const gw_chance *c)
{
    return (double)c->distinct_hops * c->conf.hop_s;
}

double gw_chance_distinct_s(const gw_chance *c)
{
    return gw_chance_own_distinct_s(c) + (c->archive ? gw_chance_own_distinct_s(c->archive) : 0);
}

uint32_t gw_chance_triggers(const gw_chance *c, bool exclusive)
{
    return c->counted[exclusive].n + (c->archive ? c->archive->counted[exclusive].n : 0) + c->card.n;
}

double gw_chance_floor(const gw_chance *c)
{
    const double floor = fmax(c->floor, c->card_floor);
    return c->archive ? fmax(floor, c->archive->floor) : floor;
}
