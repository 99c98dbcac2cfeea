/* SPDX-License-Identifier: GPL-3.0-or-later
 * Runs one ONNX network on one input, for onnx_cases.py: float32 [channel][sample] on stdin, results as
 * float32 on stdout. Not installed.
 *
 *   onnx_run MODEL [--ref]               a window; every output in the file's order, [channel][column]
 *   onnx_run MODEL [--ref] --stream HOP  hops of HOP samples; every output, [channel][all columns]
 *   onnx_run MODEL [--ref] --bench HOP   prints the time of a hop (0: of a window); reads nothing */
#include "kernels/nn/net.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { MAX_OUTPUTS = 8 };

typedef struct outputs {
    float *y[MAX_OUTPUTS], *all[MAX_OUTPUTS];
} outputs;

static int take_outputs(outputs *o, const gw_net_info *info, size_t runs)
{
    *o = (outputs){0};
    if (info->n_outputs > MAX_OUTPUTS)
        return gw_fail(GW_ENOTSUP, "more than %d outputs", MAX_OUTPUTS);
    for (int i = 0; i < info->n_outputs; i++) {
        const size_t size = (size_t)info->output[i].channels * info->output[i].columns;
        o->y[i] = calloc(size + 1, sizeof(float));
        o->all[i] = calloc(size * runs + 1, sizeof(float));
        if (!o->y[i] || !o->all[i])
            return gw_fail(GW_ENOMEM, "no memory");
    }
    return GW_OK;
}

static void drop_outputs(outputs *o)
{
    for (int i = 0; i < MAX_OUTPUTS; i++) {
        free(o->y[i]);
        free(o->all[i]);
    }
}

/* The k-th hop's columns into the long rows. */
static void append(outputs *o, const gw_net_info *info, size_t k, size_t runs)
{
    for (int i = 0; i < info->n_outputs; i++)
        for (size_t c = 0; c < info->output[i].channels; c++)
            memcpy(o->all[i] + (c * runs + k) * info->output[i].columns,
                   o->y[i] + c * info->output[i].columns, info->output[i].columns * sizeof(float));
}

static int print(const outputs *o, const gw_net_info *info, size_t runs)
{
    for (int i = 0; i < info->n_outputs; i++) {
        const size_t size = (size_t)info->output[i].channels * info->output[i].columns * runs;
        if (fwrite(o->all[i], sizeof(float), size, stdout) != size)
            return gw_fail(GW_EIO, "stdout: short write");
    }
    return GW_OK;
}

static int read_all(float **x, size_t *values)
{
    size_t room = 1 << 16, got;
    *x = malloc(room * sizeof **x);
    *values = 0;
    while (*x && (got = fread(*x + *values, sizeof **x, room - *values, stdin)) > 0) {
        *values += got;
        if (*values < room)
            continue;
        float *more = realloc(*x, 2 * room * sizeof **x);
        if (!more)
            return gw_fail(GW_ENOMEM, "no memory");
        *x = more;
        room *= 2;
    }
    return *x ? GW_OK : gw_fail(GW_ENOMEM, "no memory");
}

static int run(gw_net *n, uint32_t hop)
{
    const gw_net_info *info = gw_net_get_info(n);
    const size_t length = hop ? hop : info->window_samples;
    float *x = NULL;
    size_t values = 0;
    outputs o = {0};
    int err = read_all(&x, &values);
    const size_t samples = values / info->n_channels, runs = hop ? samples / length : 1;
    if (err == GW_OK && (samples < length || values % info->n_channels != 0))
        err = gw_fail(GW_EFORMAT, "stdin: %zu values are not %u channels of %zu samples", values,
                      info->n_channels, length);
    if (err == GW_OK)
        err = take_outputs(&o, info, runs);
    const gw_net_in in = {.x = x, .channel_stride = samples, .n_windows = 1};
    if (err == GW_OK && !hop) /* a second run must not see the first */
        err = gw_net_run(n, &in, o.y);
    for (size_t k = 0; k < runs && err == GW_OK; k++) {
        gw_net_in at = in;
        at.x = x + k * length;
        err = gw_net_run(n, &at, o.y);
        if (err == GW_OK)
            append(&o, info, k, runs);
    }
    if (err == GW_OK)
        err = print(&o, info, runs);
    drop_outputs(&o);
    free(x);
    return err;
}

static double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int bench(gw_net *n, uint32_t hop, uint32_t windows)
{
    const gw_net_info *info = gw_net_get_info(n);
    const size_t length = hop ? hop : info->window_samples, values = length * info->n_channels * windows;
    float *x = malloc(values * sizeof *x);
    outputs o = {0};
    int err = x ? take_outputs(&o, info, windows) : gw_fail(GW_ENOMEM, "no memory");
    uint32_t state = 1;
    for (size_t i = 0; x && i < values; i++) {
        state = state * 1664525u + 1013904223u;
        x[i] = (float)(int32_t)state * 0x1p-31f;
    }
    const gw_net_in in = {
        .x = x, .channel_stride = length, .window_stride = length * info->n_channels, .n_windows = windows};
    double best = 1e9;
    for (int k = 0; k < 20 && err == GW_OK; k++) {
        const int times = 1 + (int)(2e7 / (info->flop * windows + 1e4));
        const double start = seconds();
        for (int i = 0; i < times && err == GW_OK; i++)
            err = gw_net_run(n, &in, o.all);
        const double took = (seconds() - start) / times / windows;
        best = took < best ? took : best;
    }
    if (err == GW_OK)
        printf("%s of %zu samples, %u at once in passes of %u: %.2f us, %.1f GFLOP/s\n",
               hop ? "hop" : "window", length, windows, info->batch, best * 1e6, info->flop / best * 1e-9);
    drop_outputs(&o);
    free(x);
    return err;
}

int main(int argc, char **argv)
{
    const char *model = NULL;
    bool ref = false, timed = false;
    long hop = 0, windows = 1;
    gw_net_options options = {0};
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--ref") == 0) {
            ref = true;
        } else if ((strcmp(argv[i], "--stream") == 0 || strcmp(argv[i], "--bench") == 0) && i + 1 < argc) {
            timed = argv[i][2] == 'b';
            hop = strtol(argv[++i], NULL, 10);
        } else if (strcmp(argv[i], "--windows") == 0 && i + 1 < argc) {
            windows = strtol(argv[++i], NULL, 10);
        } else if (strcmp(argv[i], "--pass") == 0 && i + 1 < argc) {
            options.batch = (uint32_t)strtol(argv[++i], NULL, 10);
        } else {
            model = argv[i];
        }
    }
    if (!model || hop < 0 || hop > 1 << 24 || windows < 1 || windows > 1 << 12) {
        fprintf(stderr,
                "usage: onnx_run MODEL [--ref] [--stream HOP | --bench HOP] [--windows N] [--pass N]\n");
        return 2;
    }
    options.mode = hop ? GW_NET_STREAM : GW_NET_WINDOW;
    options.hop_samples = (uint32_t)hop;
    gw_kernels k;
    gw_onnx *m = NULL;
    gw_net *n = NULL;
    int err = gw_kernels_init(&k, ref ? GW_KERNELS_REF : GW_KERNELS_CPU);
    if (err == GW_OK)
        err = gw_onnx_load(&m, model);
    if (err == GW_OK)
        err = gw_net_open(&n, m, &k, &options);
    if (err == GW_OK)
        err = timed ? bench(n, (uint32_t)hop, (uint32_t)windows) : run(n, (uint32_t)hop);
    gw_net_close(&n);
    gw_onnx_free(&m);
    if (err < 0)
        fprintf(stderr, "%s\n", gw_err_detail());
    return err < 0 ? gw_err_is_input(err) ? 2 : 1 : 0;
}
