/* SPDX-License-Identifier: GPL-3.0-or-later
 * Random numbers by counter: the n-th number of a (seed, purpose, index) is a pure function of those
 * three, so that simulated data do not depend on the order, the block length or the thread in which they
 * are made. Called by the simulator only. Not for secrets.
 *
 * Generator: Philox4x32-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3", SC11). */
#ifndef GW_RANDOM_H
#define GW_RANDOM_H

#include <stdint.h>

/* What the numbers are for. Two purposes never share a number. */
typedef enum gw_purpose {
    GW_FOR_NOISE = 1,   /* index: segment */
    GW_FOR_ASD,         /* index: 0 shape, 1 lines */
    GW_FOR_GLITCH,      /* index: cell of time */
    GW_FOR_COINCIDENCE, /* index: cell of time; shared by all detectors */
    GW_FOR_POPULATION,  /* index: number of the signal */
    GW_FOR_AUXILIARY,   /* index: 0 the table, else channel */
    GW_FOR_WITNESS      /* index: negative the set-up, else pair of samples */
} gw_purpose;

typedef struct gw_random {
    uint32_t key[2], counter[4];
    uint32_t word[4];
    int used; /* of word[] */
} gw_random;

/* One application of the bare generator: 128 bits from a counter under a key. */
void gw_philox(const uint32_t key[2], const uint32_t counter[4], uint32_t out[4]);

/* The beginning of a sequence of 2^34 words. `part` tells detectors apart (less than 65536). */
gw_random gw_random_at(uint64_t seed, gw_purpose purpose, uint32_t part, int64_t index);

uint64_t gw_random_bits(gw_random *r);
double gw_random_unit(gw_random *r); /* uniform in the open interval (0, 1), 52 bits */
double gw_random_range(gw_random *r, double low, double high);
double gw_random_log_range(gw_random *r, double low, double high); /* uniform in the logarithm */
int gw_random_poisson(gw_random *r, double mean);                  /* mean at most 600 */
/* Two independent standard normal numbers (Box and Muller 1958). */
void gw_random_normals(gw_random *r, double z[2]);

#endif
