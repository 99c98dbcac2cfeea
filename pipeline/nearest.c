/* SPDX-License-Identifier: GPL-3.0-or-later
 * Names like a name. */
#include "pipeline/nearest.h"

#include <stdio.h>
#include <string.h>

enum { NEAREST = 3 };

/* Levenshtein's distance, without case; of b the first GW_NAME_BYTES count. */
static unsigned distance(const char *a, const char *b)
{
    unsigned row[GW_NAME_BYTES + 1];
    const size_t n = strnlen(b, GW_NAME_BYTES);
    for (size_t j = 0; j <= n; j++)
        row[j] = (unsigned)j;
    for (size_t i = 0; a[i]; i++) {
        unsigned corner = row[0]++;
        for (size_t j = 0; j < n; j++) {
            const unsigned change = corner + ((a[i] | 32) != (b[j] | 32));
            const unsigned either = (row[j] < row[j + 1] ? row[j] : row[j + 1]) + 1;
            corner = row[j + 1];
            row[j + 1] = change < either ? change : either;
        }
    }
    return row[n];
}

void gw_nearest_channels(const gw_spec *in, int n_in, const char *name, char *text, size_t n)
{
    struct {
        const char *name;
        unsigned distance;
    } best[NEAREST] = {{NULL, UINT32_MAX}, {NULL, UINT32_MAX}, {NULL, UINT32_MAX}};
    for (int p = 0; p < n_in; p++)
        for (uint32_t c = 0; in[p].channel && c < in[p].n_channels; c++) {
            const unsigned d = distance(name, in[p].channel[c]);
            int at = NEAREST;
            while (at > 0 && d < best[at - 1].distance)
                at--;
            if (at == NEAREST || !in[p].channel[c][0])
                continue;
            memmove(&best[at + 1], &best[at], (size_t)(NEAREST - 1 - at) * sizeof best[0]);
            best[at].name = in[p].channel[c];
            best[at].distance = d;
        }
    size_t used = 0;
    text[0] = '\0';
    for (int i = 0; i < NEAREST && best[i].name && used < n; i++) {
        const int more = snprintf(text + used, n - used, "%s%s", i ? ", " : "", best[i].name);
        used += more > 0 ? (size_t)more : 0;
    }
}
