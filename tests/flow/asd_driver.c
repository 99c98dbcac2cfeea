/* SPDX-License-Identifier: GPL-3.0-or-later
 * Lets check_asd_ratio.py see what pipeline/stages/asd_ratio.c measures.
 *
 *   asd_driver RATE FIRST_SAMPLE CHUNK BANDS...   float64 on stdin: (1 + predictions) a sample, strain first
 *
 * A line a prediction for every second that ends: second, prediction, measured, mean, integrated, out, worst.
 * A prediction that is not finite is not valid in its chunk. */
#include "kernels/kernels.h"
#include "pipeline/stages/asd_ratio.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { MOST = 4, CHUNK = 1 << 16 };

static double row[MOST + 1], x[MOST + 1][CHUNK];

int main(int argc, char **argv)
{
    const int n = argc - 4;
    if (n < 1 || n > MOST)
        return 1;
    const uint32_t rate = (uint32_t)atoi(argv[1]), chunk = (uint32_t)atoi(argv[3]);
    int64_t at = atoll(argv[2]);
    gw_bands bands[MOST];
    gw_kernels k;
    gw_asd_ratio *a = NULL;
    int err = gw_kernels_init(&k, GW_KERNELS_CPU);
    for (int i = 0; i < n && err == GW_OK; i++)
        err = gw_bands_parse(&bands[i], "bands", argv[4 + i]);
    if (err == GW_OK)
        err = gw_asd_ratio_new(&a, &k.spectrum, rate, (uint32_t)n, bands);
    if (err != GW_OK || chunk > CHUNK) {
        fprintf(stderr, "%s\n", gw_err_detail());
        return 2;
    }
    uint32_t have = 0;
    while (fread(row, sizeof *row, (size_t)n + 1, stdin) == (size_t)n + 1) {
        for (int i = 0; i <= n; i++)
            x[i][have] = row[i];
        if (++have < chunk)
            continue;
        const double *p[MOST];
        gw_asd_ratios r[MOST];
        for (int i = 0; i < n; i++) {
            p[i] = x[i + 1];
            for (uint32_t j = 0; j < chunk; j++)
                if (!isfinite(x[i + 1][j]))
                    p[i] = NULL;
        }
        const int64_t second = gw_asd_ratio_add(a, at, chunk, x[0], p, r);
        for (int i = 0; second && i < n; i++)
            printf("%" PRId64 " %d %d %.17g %.17g %.17g %.17g\n", second / rate, i, r[i].measured, r[i].mean,
                   r[i].integrated, r[i].out, r[i].out_worst);
        at += chunk;
        have = 0;
    }
    gw_asd_ratio_destroy(&a);
    return 0;
}
