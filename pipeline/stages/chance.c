/* SPDX-License-Identifier: GPL-3.0-or-later
 * chance.h. Which hops were there is a row of bits; a slide's time is the number of bits that the row and the
 * row shifted by the offset have in common, 64 hops a step. */
#include "pipeline/stages/chance.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { WORD = 64, MAX_OWN = 64 };

typedef struct cluster {
    bool open;
    float peak;
    int64_t frame; /* of the peak, absolute */
} cluster;

typedef struct trigger {
    float statistic;
    int64_t hop[2]; /* of the first and the second detector */
} trigger;

typedef struct counted {
    float *statistic; /* [n], the loudest first */
    uint32_t n;
    uint64_t slid_hops;
} counted;

struct gw_chance {
    gw_chance_conf conf;
    int32_t *offset;
    cluster *cluster;
    trigger *trigger; /* [n_triggers] of max_triggers, in the order of their hops */
    uint32_t n_triggers;
    float *scratch;     /* [max_triggers] */
    counted counted[2]; /* all, exclusive */
    uint64_t distinct_hops;
    /* Bits of hops base .. base + WORD * words. */
    int64_t base, now;
    size_t words;
    uint64_t *there, *fit, *withdrawn, *kept; /* fit: it and need_hops before it were there */
    double floor;
    gw_chance_peak own[MAX_OWN];
    uint32_t n_own;
};

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
           conf->n_slides * (sizeof(cluster) + sizeof(int32_t)) + 4 * words_of(conf) * sizeof(uint64_t);
}

int gw_chance_new(gw_chance **out, const gw_chance_conf *conf)
{
    gw_chance *c = *out = calloc(1, sizeof *c);
    if (!c)
        return gw_fail(GW_ENOMEM, "false-alarm rates");
    c->conf = *conf;
    c->conf.offset_hops = NULL;
    c->floor = conf->floor;
    c->words = words_of(conf);
    c->base = c->now = INT64_MIN;
    c->offset = calloc(conf->n_slides + 1, sizeof *c->offset);
    c->cluster = calloc(conf->n_slides + 1, sizeof *c->cluster);
    c->trigger = calloc(conf->max_triggers + 1, sizeof *c->trigger);
    c->scratch = calloc(conf->max_triggers + 1, sizeof *c->scratch);
    uint64_t **row[] = {&c->there, &c->fit, &c->withdrawn, &c->kept};
    bool whole = c->offset && c->cluster && c->trigger && c->scratch;
    for (int i = 0; i < 4; i++)
        whole &= (*row[i] = calloc(c->words, sizeof **row[i])) != NULL;
    for (int i = 0; i < 2; i++)
        whole &= (c->counted[i].statistic = calloc(conf->max_triggers + 1, sizeof(float))) != NULL;
    if (!whole) {
        gw_chance_destroy(out);
        return gw_fail(GW_ENOMEM, "false-alarm rates of %u slides", conf->n_slides);
    }
    memcpy(c->offset, conf->offset_hops, conf->n_slides * sizeof *c->offset);
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
    free(c->counted[0].statistic);
    free(c->counted[1].statistic);
    free(c);
}

/* -- bits of hops ------------------------------------------------------------------------------------ */

static bool has(const gw_chance *c, const uint64_t *row, int64_t hop)
{
    const int64_t at = hop - c->base;
    return at >= 0 && at < (int64_t)(c->words * WORD) && (row[at / WORD] >> at % WORD & 1);
}

static void set(gw_chance *c, uint64_t *row, int64_t hop)
{
    const int64_t at = hop - c->base;
    if (at >= 0 && at < (int64_t)(c->words * WORD))
        row[at / WORD] |= UINT64_C(1) << at % WORD;
}

/* 64 bits from `at` on, which may lie before the row's beginning. */
static uint64_t bits(const gw_chance *c, const uint64_t *row, int64_t at)
{
    const int64_t word = at >= 0 ? at / WORD : -((-at + WORD - 1) / WORD), shift = at - word * WORD;
    const uint64_t low = word >= 0 && word < (int64_t)c->words ? row[word] : 0;
    const uint64_t high = word + 1 >= 0 && word + 1 < (int64_t)c->words ? row[word + 1] : 0;
    return shift ? low >> shift | high << (WORD - shift) : low;
}

/* Makes room for `hop`, forgetting what is older than memory and the longest offset. */
static void reach(gw_chance *c, int64_t hop)
{
    const int64_t room = (int64_t)(c->words * WORD);
    if (c->base == INT64_MIN || hop - c->base >= 2 * room) {
        uint64_t *row[] = {c->there, c->fit, c->withdrawn};
        for (int i = 0; i < 3; i++)
            memset(row[i], 0, c->words * sizeof **row);
        c->base = hop - room / 2;
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

static void pair_of(const gw_chance *c, uint32_t slide, int64_t hop, int64_t of[2])
{
    const int32_t o = c->offset[slide];
    of[0] = o < 0 ? hop + o : hop;
    of[1] = o > 0 ? hop - o : hop;
}

static int louder(const void *a, const void *b)
{
    const float x = *(const float *)a, y = *(const float *)b;
    return (x < y) - (x > y);
}

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
    if (c->n_triggers == c->conf.max_triggers)
        raise_floor(c);
    if ((double)k->peak < c->floor || c->n_triggers == c->conf.max_triggers)
        return;
    trigger *t = &c->trigger[c->n_triggers++];
    t->statistic = k->peak;
    pair_of(c, slide, hop, t->hop);
}

void gw_chance_hop(gw_chance *c, int64_t hop)
{
    reach(c, hop);
    c->now = hop;
    set(c, c->there, hop);
    for (uint32_t i = 1; i <= c->conf.need_hops; i++)
        if (!has(c, c->there, hop - i))
            return;
    set(c, c->fit, hop);
}

void gw_chance_slide(gw_chance *c, uint32_t slide, const float *statistic)
{
    cluster *k = &c->cluster[slide];
    int64_t of[2];
    pair_of(c, slide, c->now, of);
    if (!has(c, c->fit, of[0]) || !has(c, c->fit, of[1])) {
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

/* -- counting ---------------------------------------------------------------------------------------- */

/* Hops of (now - memory, now] of the slide's first half that have both sides in `row`. */
static uint64_t slid_hops(const gw_chance *c, const uint64_t *row, int32_t offset)
{
    const int64_t end = c->now - c->base + 1, begin = end - c->conf.memory_hops;
    uint64_t n = 0;
    for (int64_t at = begin > 0 ? begin : 0; at < end; at += WORD) {
        uint64_t both = bits(c, row, at) & bits(c, row, at - abs(offset));
        if (end - at < WORD)
            both &= (UINT64_C(1) << (end - at)) - 1;
        n += (uint64_t)__builtin_popcountll(both);
    }
    return n;
}

static void count(gw_chance *c, bool exclusive)
{
    counted *k = &c->counted[exclusive];
    const uint64_t *row = exclusive ? c->kept : c->fit;
    k->n = 0;
    k->slid_hops = 0;
    for (uint32_t s = 0; s < c->conf.n_slides; s++)
        if (c->offset[s] != 0)
            k->slid_hops += slid_hops(c, row, c->offset[s]);
    for (uint32_t i = 0; i < c->n_triggers; i++) {
        const trigger *t = &c->trigger[i];
        if (has(c, row, t->hop[0]) && has(c, row, t->hop[1]))
            k->statistic[k->n++] = t->statistic;
    }
    qsort(k->statistic, k->n, sizeof *k->statistic, louder);
}

void gw_chance_count(gw_chance *c)
{
    if (c->now == INT64_MIN)
        return;
    uint32_t n = 0;
    for (uint32_t i = 0; i < c->n_triggers; i++) {
        const trigger *t = &c->trigger[i];
        const int64_t at = t->hop[0] > t->hop[1] ? t->hop[0] : t->hop[1];
        if (at > c->now - c->conf.memory_hops)
            c->trigger[n++] = *t;
    }
    c->n_triggers = n;
    for (size_t i = 0; i < c->words; i++)
        c->kept[i] = c->fit[i] & ~c->withdrawn[i];
    count(c, false);
    count(c, true);
    c->distinct_hops = slid_hops(c, c->fit, 0);
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

double gw_chance_rate_hz(const gw_chance *c, double statistic, bool exclusive)
{
    const double slid_s = gw_chance_slid_s(c, exclusive);
    return slid_s > 0 ? (above(&c->counted[exclusive], statistic) + 1) / slid_s : NAN;
}

double gw_chance_threshold(const gw_chance *c, double rate_hz, bool exclusive)
{
    const counted *k = &c->counted[exclusive];
    const double allowed = floor(rate_hz * gw_chance_slid_s(c, exclusive) * (1 + 1e-12)) - 1;
    if (allowed < 0)
        return INFINITY;
    if (allowed >= k->n)
        return c->floor;
    /* Just above the loudest one too many. */
    const double at = (double)nextafterf(k->statistic[(uint32_t)allowed], INFINITY);
    return at > c->floor ? at : c->floor;
}

/* A step below a trigger, where text can say it: it and all louder ones are above. */
static double step_below(float statistic)
{
    return floor((double)statistic * 1e4) / 1e4;
}

void gw_chance_steps(const gw_chance *c, gw_noise_rate *r)
{
    const counted *k = &c->counted[0];
    double falling[GW_NOISE_STEPS];
    int n = 0;
    for (double rank = 1; rank <= k->n && n < GW_NOISE_STEPS - 1; rank = rank < 8 ? rank + 1 : rank * 1.5) {
        const double at = step_below(k->statistic[(uint32_t)rank - 1]);
        if (n == 0 || at < falling[n - 1])
            falling[n++] = at;
    }
    const double floor_step = ceil(c->floor * 1e4) / 1e4; /* nothing is known below the floor */
    while (n > 0 && falling[n - 1] <= floor_step)
        n--;
    falling[n++] = floor_step;
    r->n = n;
    for (int i = 0; i < n; i++) {
        r->statistic[i] = falling[n - 1 - i];
        for (int exclusive = 0; exclusive < 2; exclusive++)
            r->above[exclusive][i] = above(&c->counted[exclusive], r->statistic[i]);
    }
    for (int exclusive = 0; exclusive < 2; exclusive++)
        r->slid_s[exclusive] = gw_chance_slid_s(c, exclusive);
    r->distinct_s = gw_chance_distinct_s(c);
}

double gw_chance_slid_s(const gw_chance *c, bool exclusive)
{
    return (double)c->counted[exclusive].slid_hops * c->conf.hop_s;
}

double gw_chance_distinct_s(const gw_chance *c)
{
    return (double)c->distinct_hops * c->conf.hop_s;
}

uint32_t gw_chance_triggers(const gw_chance *c, bool exclusive)
{
    return c->counted[exclusive].n;
}

double gw_chance_floor(const gw_chance *c)
{
    return c->floor;
}
