/* SPDX-License-Identifier: GPL-3.0-or-later
 * The inside of chance.h, shared by chance.c, which takes hops, chance_count.c, which counts, and
 * chance_memory.c, which keeps counts over runs. Nobody else includes this. Which hops were there is a row of
 * bits; a slide's time is the number of bits that the row and the row shifted by the offset have in common, 64
 * hops a step. */
#ifndef GW_CHANCE_INSIDE_H
#define GW_CHANCE_INSIDE_H

#include "pipeline/stages/chance.h"
#include "pipeline/stages/redraw.h"

#include <stdlib.h>

enum { WORD = 64, MAX_OWN = 64, BLOCKS = GW_REDRAW_BLOCKS };

typedef gw_chance_trigger trigger;

typedef struct cluster {
    bool open;
    float peak;
    int64_t frame; /* of the peak, absolute */
    int64_t since; /* the slide counts from this hop on; INT64_MAX: it is not run */
} cluster;

typedef struct counted {
    float *statistic; /* [n], the loudest first */
    uint32_t n;
    uint64_t slid_hops;
} counted;

/* What the interval needs of the inclusive count: slid hops by pair of blocks. */
typedef struct blocks {
    uint32_t n, n_pairs;
    uint32_t *of;         /* [words] */
    uint64_t *hops;       /* [BLOCKS][BLOCKS] */
    uint32_t *pair_at;    /* [BLOCKS][BLOCKS] */
    gw_redraw_pair *pair; /* [n_pairs] of BLOCKS * BLOCKS */
    uint32_t *triggers;   /* [n_pairs][steps] */
    double *scratch;
} blocks;

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
    uint64_t *late;                           /* kept, but for what is in the archive */
    double floor;
    gw_chance_spell *spell; /* [n_spells], the first one begins before all that is kept */
    uint32_t n_spells, max_spells;
    int64_t ring;    /* its first hop */
    int32_t longest; /* offset */
    bool new_spell;
    gw_chance_spell next; /* begins with the next hop, where new_spell */
    blocks blocks;
    gw_chance *archive;
    counted card; /* gw_chance_add_counts */
    double card_s, card_floor;
    gw_chance_peak own[MAX_OWN];
    uint32_t n_own;
};

static inline bool has(const gw_chance *c, const uint64_t *row, int64_t hop)
{
    const int64_t at = hop - c->base;
    return at >= 0 && at < (int64_t)(c->words * WORD) && (row[at / WORD] >> at % WORD & 1);
}

static inline void set(gw_chance *c, uint64_t *row, int64_t hop)
{
    const int64_t at = hop - c->base;
    if (at >= 0 && at < (int64_t)(c->words * WORD))
        row[at / WORD] |= UINT64_C(1) << at % WORD;
}

/* 64 bits from `at` on, which may lie before the row's beginning. */
static inline uint64_t bits(const gw_chance *c, const uint64_t *row, int64_t at)
{
    const int64_t word = at >= 0 ? at / WORD : -((-at + WORD - 1) / WORD), shift = at - word * WORD;
    const uint64_t low = word >= 0 && word < (int64_t)c->words ? row[word] : 0;
    const uint64_t high = word + 1 >= 0 && word + 1 < (int64_t)c->words ? row[word + 1] : 0;
    return shift ? low >> shift | high << (WORD - shift) : low;
}

static inline void pair_of(const gw_chance *c, uint32_t slide, int64_t hop, int64_t of[2])
{
    const int32_t o = c->offset[slide];
    of[0] = o < 0 ? hop + o : hop;
    of[1] = o > 0 ? hop - o : hop;
}

static inline int64_t later(const int64_t hop[2])
{
    return hop[0] > hop[1] ? hop[0] : hop[1];
}

static inline int louder(const void *a, const void *b)
{
    const float x = *(const float *)a, y = *(const float *)b;
    return (x < y) - (x > y);
}

/* Makes room for `hop`, forgetting what is older than memory and the longest offset. */
void gw_chance_reach(gw_chance *c, int64_t hop);
/* Where there is no room the floor rises. */
void gw_chance_add_trigger(gw_chance *c, const trigger *t);
/* From which hop of its first half on a slide counts, with a spell that begins: `before`, so it was until then;
 * INT64_MAX: it does not run. */
int64_t gw_chance_since(const gw_chance *c, const gw_chance_spell *spell, int64_t ring, uint32_t slide,
                        int64_t before);
/* Spells that ended before all that is kept. */
void gw_chance_forget_spells(gw_chance *c);

#endif
