/* SPDX-License-Identifier: GPL-3.0-or-later
 * White noise by copying: a generator would be the bottleneck of every load test. */
#include "sources/auxiliary.h"

#include "sources/random.h"

#include <stdlib.h>
#include <string.h>

enum { TABLE = 1 << 20, PIECE = 256 };

struct gw_auxiliary {
    uint64_t seed;
    float table[TABLE + PIECE];
};

int gw_auxiliary_new(gw_auxiliary **out, uint64_t seed)
{
    gw_auxiliary *a = *out = malloc(sizeof *a);
    if (!a)
        return gw_fail(GW_ENOMEM, "auxiliary channels");
    a->seed = seed;
    gw_random r = gw_random_at(seed, GW_FOR_AUXILIARY, 0, 0);
    for (uint32_t i = 0; i < TABLE + PIECE; i += 2) {
        double z[2];
        gw_random_normals(&r, z);
        a->table[i] = (float)z[0];
        a->table[i + 1] = (float)z[1];
    }
    return GW_OK;
}

void gw_auxiliary_fill(const gw_auxiliary *a, uint32_t n_channels, int64_t sample0, uint32_t n_samples,
                       float *x)
{
    for (uint32_t c = 0; c < n_channels; c++) {
        for (uint32_t done = 0; done < n_samples;) {
            const int64_t at = sample0 + done, piece = at / PIECE;
            const uint32_t into = (uint32_t)(at % PIECE), rest = n_samples - done;
            const uint32_t count = PIECE - into < rest ? PIECE - into : rest;
            /* Four pieces in a row take the four words of one counter. */
            const uint32_t key[2] = {(uint32_t)a->seed, (uint32_t)(a->seed >> 32)};
            const uint32_t counter[4] = {c, (uint32_t)GW_FOR_AUXILIARY << 16 | 1, (uint32_t)(piece >> 2),
                                         (uint32_t)((uint64_t)piece >> 34)};
            uint32_t word[4];
            gw_philox(key, counter, word);
            memcpy(x + done, a->table + word[piece & 3] % TABLE + into, count * sizeof *x);
            done += count;
        }
        x += n_samples;
    }
}

void gw_auxiliary_destroy(gw_auxiliary **a)
{
    free(*a);
    *a = NULL;
}
