/* SPDX-License-Identifier: GPL-3.0-or-later
 * Runs the stages resample and whiten over samples from a file, in blocks of any length, without the rest of
 * the program: for check_whiten.py, which holds the output against scipy.
 *
 *   whiten_driver CONFIG RATE SAMPLE0 BLOCK CHANNELS IN OUT
 * CONFIG is YAML: {down: {rate: 2048Hz}, white: {...}}; without `down` the input goes straight to whiten.
 * IN: float64 [channel][sample]. OUT: records of int64 sample0, int64 n, float32 [channel][n], one for each
 * stretch handed out; NaN where a channel is absent. On stdout: the whitening text, and the seconds of CPU
 * time. */
#include "pipeline/stage.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

extern const gw_kind gw_kind_resample, gw_kind_whiten;

typedef struct unit {
    const gw_kind *kind;
    void *self;
    gw_plan plan;
    void *slab;
    uint8_t presence[8]; /* of the latest output */
} unit;

static int unit_start(unit *u, const gw_kind *kind, gw_conf *conf, const gw_spec *in)
{
    u->kind = kind;
    u->self = calloc(1, kind->state_size);
    if (!u->self)
        return gw_fail(GW_ENOMEM, "driver");
    GW_TRY(kind->configure(u->self, conf));
    GW_TRY(gw_conf_done(conf, kind->kind));
    u->plan = (gw_plan){.name = kind->kind, .n_in = 1, .in = in};
    GW_TRY(kind->plan(u->self, &u->plan));
    u->slab = calloc((size_t)u->plan.out[0].block_samples * in->n_channels, sizeof(double));
    if (!u->slab)
        return gw_fail(GW_ENOMEM, "driver");
    return kind->open(u->self, NULL);
}

static void unit_stop(unit *u)
{
    if (u->self && u->kind->close)
        u->kind->close(u->self);
    gw_spec_free(&u->plan.out[0]);
    free(u->self);
    free(u->slab);
}

static int unit_step(unit *u, const gw_view *in, gw_view *result)
{
    gw_out out = {.data = u->slab,
                  .capacity_samples = u->plan.out[0].block_samples,
                  .dq = in->dq,
                  .flags = in->flags,
                  .presence = memset(u->presence, 0xff, sizeof u->presence)};
    GW_TRY(u->kind->step(u->self, in, &out));
    *result = (gw_view){.data = u->slab,
                        .stride = out.n_samples,
                        .n_samples = out.n_samples,
                        .n_channels = in->n_channels,
                        .sample0 = out.sample0,
                        .dq = out.dq,
                        .flags = out.flags,
                        .presence = u->presence};
    return GW_OK;
}

static int run(char **argv, unit *down, unit *white, gw_spec *in)
{
    gw_conf_file *file;
    GW_TRY(gw_conf_parse(&file, "config", argv[1], strlen(argv[1])));
    gw_conf *d = gw_conf_find(gw_conf_root(file), "down"), *w = gw_conf_find(gw_conf_root(file), "white");
    *in = (gw_spec){.name = "in", .rate = {(uint32_t)atoi(argv[2]), 1}, .dtype = GW_F64};
    const int64_t sample0 = atoll(argv[3]);
    in->block_samples = (uint32_t)atoi(argv[4]);
    GW_TRY(gw_spec_set_channels(in, (uint32_t)atoi(argv[5]), NULL));
    if (d)
        GW_TRY(unit_start(down, &gw_kind_resample, d, in));
    GW_TRY(unit_start(white, &gw_kind_whiten, w, d ? &down->plan.out[0] : in));

    FILE *from = fopen(argv[6], "rb"), *to = fopen(argv[7], "wb");
    if (!from || !to)
        return gw_fail(GW_EIO, "%s, %s", argv[6], argv[7]);
    fseek(from, 0, SEEK_END);
    const size_t n = (size_t)ftell(from) / sizeof(double) / in->n_channels;
    rewind(from);
    double *x = calloc(n * in->n_channels, sizeof *x);
    if (!x || fread(x, sizeof *x, n * in->n_channels, from) != n * in->n_channels)
        return gw_fail(GW_EIO, "%s", argv[6]);
    fclose(from);

    struct timespec a, b;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &a);
    for (size_t i = 0; i < n;) { /* blocks end at multiples of their length, as the contract says */
        const int64_t at = sample0 + (int64_t)i;
        size_t m = in->block_samples - (size_t)(at % in->block_samples);
        m = m < n - i ? m : n - i;
        gw_view v = {.data = x + i,
                     .stride = n,
                     .n_samples = (uint32_t)m,
                     .n_channels = in->n_channels,
                     .sample0 = at,
                     .dq = GW_DQ_ALL};
        i += m;
        if (d) {
            gw_view lower;
            GW_TRY(unit_step(down, &v, &lower));
            v = lower;
        }
        if (v.n_samples == 0)
            continue;
        gw_view y;
        GW_TRY(unit_step(white, &v, &y));
        for (uint32_t c = 0; c < y.n_channels; c++)
            for (uint32_t k = 0; k < y.n_samples && !gw_present(y.presence, c); k++)
                ((float *)white->slab)[(size_t)c * y.n_samples + k] = NAN;
        const int64_t head[2] = {y.sample0, y.n_samples};
        if (y.n_samples && (fwrite(head, sizeof head, 1, to) != 1 ||
                            fwrite(y.data, sizeof(float) * y.n_channels, y.n_samples, to) != y.n_samples))
            return gw_fail(GW_EIO, "%s", argv[7]);
    }
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &b);
    printf("%s\n%.6f\n", white->plan.out[0].whitening,
           (double)(b.tv_sec - a.tv_sec) + 1e-9 * (double)(b.tv_nsec - a.tv_nsec));
    free(x);
    gw_conf_free(&file);
    return fclose(to) == 0 ? GW_OK : gw_fail(GW_EIO, "%s", argv[7]);
}

int main(int argc, char **argv)
{
    if (argc != 8) {
        fprintf(stderr, "usage: whiten_driver CONFIG RATE SAMPLE0 BLOCK CHANNELS IN OUT\n");
        return 2;
    }
    unit down = {0}, white = {0};
    gw_spec in;
    const int err = run(argv, &down, &white, &in);
    if (err != GW_OK)
        fprintf(stderr, "whiten_driver: %s: %s\n", gw_err_text(err), gw_err_detail());
    unit_stop(&white);
    unit_stop(&down);
    gw_spec_free(&in);
    return err == GW_OK ? 0 : 1;
}
