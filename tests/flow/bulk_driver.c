/* SPDX-License-Identifier: GPL-3.0-or-later
 * Runs the bulk whitening kernel over samples from a file, for check_bulk_scipy.py, which holds what comes
 * out against scipy.
 *
 *   bulk_driver ref|cpu X TAPS OUT rate hop taps decimate segment pool median_of memory half scale
 * X: float32, one channel, as many whole hops as there are. TAPS: float64. OUT: float32 y, then the PSD. On
 * stdout: the segments in the PSD, its bins, the layout. */
#include "kernels/kernels.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void *read_all(const char *path, size_t *bytes)
{
    FILE *f = fopen(path, "rb");
    if (!f || fseek(f, 0, SEEK_END) != 0)
        return NULL;
    *bytes = (size_t)ftell(f);
    rewind(f);
    void *data = malloc(*bytes + 1);
    if (data && fread(data, 1, *bytes, f) != *bytes) {
        free(data);
        data = NULL;
    }
    fclose(f);
    return data;
}

static int run(char **arg)
{
    enum { NUMBERS = 9 };
    uint32_t v[NUMBERS];
    for (int i = 0; i < NUMBERS; i++)
        v[i] = (uint32_t)strtoul(arg[5 + i], NULL, 10);
    const gw_bulk_shape shape = {v[0], v[1], v[2], v[3], v[4], v[5], v[6], v[7], 0, v[8] != 0, 0, 0};
    gw_kernels k;
    GW_TRY(gw_kernels_init(&k, strcmp(arg[1], "ref") == 0 ? GW_KERNELS_REF : GW_KERNELS_CPU));
    const gw_bulk_ops *ops = &k.bulk;
    size_t x_bytes, taps_bytes;
    float *x = read_all(arg[2], &x_bytes);
    double *taps = read_all(arg[3], &taps_bytes);
    FILE *out = fopen(arg[4], "wb");
    if (!x || !taps || !out || taps_bytes != shape.n_taps * sizeof *taps)
        return gw_fail(GW_EIO, "cannot read %s or %s, or write %s", arg[2], arg[3], arg[4]);

    gw_bulk *b;
    gw_bulk_scratch *w;
    void *state, *response;
    GW_TRY(ops->bulk_new(&b, &shape));
    const gw_bulk_info *info = ops->info(b);
    GW_TRY(ops->scratch_new(&w, b));
    GW_TRY(ops->memory_new(&state, info->state_bytes));
    GW_TRY(ops->memory_new(&response, info->response_bytes));
    ops->state_clear(b, state);
    ops->prepare(w, taps, response);
    gw_bulk_channel c = {.state = state, .response = response, .scale = strtof(arg[14], NULL)};
    const size_t hops = x_bytes / sizeof *x / shape.hop, n_out = shape.hop / shape.decimate;
    float *y = calloc(n_out + info->psd_bins, sizeof *y);
    if (!y)
        return gw_fail(GW_ENOMEM, "driver");
    for (size_t h = 0; h < hops; h++) {
        ops->step(w, (int64_t)(h * shape.hop), &c, 1, x + h * shape.hop, shape.hop, y, n_out);
        fwrite(y, sizeof *y, n_out, out);
    }
    const uint32_t segments = ops->psd_get(b, state, y);
    fwrite(y, sizeof *y, info->psd_bins, out);
    printf("%u %u %s\n", segments, info->psd_bins, info->layout);
    free(y);
    ops->memory_destroy(&state);
    ops->memory_destroy(&response);
    ops->scratch_destroy(&w);
    ops->bulk_destroy(&b);
    free(x);
    free(taps);
    return fclose(out) == 0 ? GW_OK : gw_fail(GW_EIO, "%s", arg[4]);
}

int main(int argc, char **argv)
{
    if (argc != 15) {
        fprintf(stderr, "see the top of bulk_driver.c\n");
        return 2;
    }
    if (run(argv) != GW_OK) {
        fprintf(stderr, "bulk_driver: %s\n", gw_err_detail());
        return 1;
    }
    return 0;
}
