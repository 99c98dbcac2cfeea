/* SPDX-License-Identifier: GPL-3.0-or-later
 * Philox4x32-10 and the few distributions that a simulator needs. Every draw takes a fixed number of
 * words, except where a loop cannot be helped (Poisson). */
#include "sources/random.h"

#include <math.h>

static const uint32_t multiplier0 = 0xD2511F53u, multiplier1 = 0xCD9E8D57u;
static const uint32_t weyl0 = 0x9E3779B9u, weyl1 = 0xBB67AE85u;
enum { ROUNDS = 10 };

void gw_philox(const uint32_t key[2], const uint32_t counter[4], uint32_t out[4])
{
    uint32_t k0 = key[0], k1 = key[1];
    uint32_t c0 = counter[0], c1 = counter[1], c2 = counter[2], c3 = counter[3];
    for (int i = 0; i < ROUNDS; i++) {
        const uint64_t p0 = (uint64_t)multiplier0 * c0, p1 = (uint64_t)multiplier1 * c2;
        c0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0;
        c1 = (uint32_t)p1;
        c2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
        c3 = (uint32_t)p0;
        k0 += weyl0;
        k1 += weyl1;
    }
    out[0] = c0;
    out[1] = c1;
    out[2] = c2;
    out[3] = c3;
}

gw_random gw_random_at(uint64_t seed, gw_purpose purpose, uint32_t part, int64_t index)
{
    return (gw_random){
        .key = {(uint32_t)seed, (uint32_t)(seed >> 32)},
        .counter = {0, (uint32_t)purpose << 16 | part, (uint32_t)index, (uint32_t)((uint64_t)index >> 32)},
        .used = 4,
    };
}

uint64_t gw_random_bits(gw_random *r)
{
    if (r->used > 2) {
        gw_philox(r->key, r->counter, r->word);
        r->counter[0]++;
        r->used = 0;
    }
    const uint64_t bits = (uint64_t)r->word[r->used] << 32 | r->word[r->used + 1];
    r->used += 2;
    return bits;
}

double gw_random_unit(gw_random *r)
{
    /* Odd multiples of 2^-53: neither 0, whose logarithm is infinite, nor 1. */
    return ((double)(gw_random_bits(r) >> 12) + 0.5) * 0x1p-52;
}

double gw_random_range(gw_random *r, double low, double high)
{
    return low + (high - low) * gw_random_unit(r);
}

double gw_random_log_range(gw_random *r, double low, double high)
{
    return low * exp(log(high / low) * gw_random_unit(r));
}

int gw_random_poisson(gw_random *r, double mean)
{
    const double least = exp(-mean);
    int n = 0;
    for (double p = gw_random_unit(r); p > least; p *= gw_random_unit(r))
        n++;
    return n;
}

void gw_random_normals(gw_random *r, double z[2])
{
    const double radius = sqrt(-2 * log(gw_random_unit(r)));
    const double angle = 2 * M_PI * gw_random_unit(r);
    z[0] = radius * cos(angle);
    z[1] = radius * sin(angle);
}
