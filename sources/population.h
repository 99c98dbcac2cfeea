/* SPDX-License-Identifier: GPL-3.0-or-later
 * Which signals a simulation contains and when: the list under 'signals' and the endless random stream of
 * binaries under 'population'. Called by sim.c. Renders signals as the stream comes near them, remembers
 * the truth until the stream has passed, and knows which blocks to flag.
 *
 * Signal k of the population depends on the seed and on k alone. Coalescence at the geocentre: start +
 * first + k spacing, +- jitter. */
#ifndef GW_POPULATION_H
#define GW_POPULATION_H

#include "pipeline/config.h"
#include "sources/injection.h"

/* A block is flagged where it holds any part of [arrival - 1 s, arrival + 0.3 s] in its detector. */
#define GW_FLAG_BEFORE_NS INT64_C(1000000000)
#define GW_FLAG_AFTER_NS  INT64_C(300000000)

typedef struct gw_population gw_population;

/* Reads 'signals' and 'population' of the source's map. The stream covers [start_ns, end_ns). */
int gw_population_new(gw_population **p, gw_conf *conf, uint64_t seed, int64_t start_ns, int64_t end_ns);
void gw_population_destroy(gw_population **p);

/* Renders every signal that may begin before until_ns, once. */
int gw_population_render(gw_population *p, int64_t until_ns, const gw_target *target, int n_targets,
                         gw_rate rate);
/* Whether [from_ns, to_ns) of the stream of target `d` is to be flagged. After gw_population_render. */
bool gw_population_flags(const gw_population *p, int d, int64_t from_ns, int64_t to_ns);
/* The earliest rendered signal whose last arrival lies before now_ns, once each; GW_EAGAIN if none. */
int gw_population_passed(gw_population *p, int64_t now_ns, gw_injection *out);

#endif
