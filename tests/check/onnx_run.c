/* SPDX-License-Identifier: GPL-3.0-or-later
 * Runs one ONNX network on one input, for onnx_cases.py: float32 [channel][sample] on stdin, results as
 * float32 on stdout. Not installed.
 *
 *   onnx_run MODEL [--ref]               a window; every output in the file's order, [channel][column]
 *   onnx_run MODEL [--ref] --stream HOP  hops of HOP samples; all logits, then arrival [channel][column]
 *   onnx_run MODEL [--ref] --bench HOP   prints the time of a hop; reads nothing */
#include "kernels/nn/plan.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static int window(const gw_onnx *m, const gw_kernels *k)
{
    gw_net *n = NULL;
    int err = gw_net_open_any(&n, m, k);
    if (err < 0)
        return err;
    const gw_net_info *info = gw_net_get_info(n);
    const size_t values = (size_t)info->n_channels * info->window_samples;
    float *x = calloc(values, sizeof *x);
    err = x ? GW_OK : gw_fail(GW_ENOMEM, "no memory");
    if (err == GW_OK && fread(x, sizeof *x, values, stdin) != values)
        err = gw_fail(GW_EFORMAT, "stdin: fewer than %zu values", values);
    for (int twice = 0; twice < 2 && err == GW_OK; twice++) /* a second run must not see the first */
        err = gw_net_run_any(n, x, info->window_samples);
    const gw_netplan *p = gw_net_plan(n);
    for (int i = 0; i < p->n_outputs && err == GW_OK; i++) {
        const size_t size = (size_t)p->buffer[p->output[i].buffer].channels * p->output[i].columns;
        float *y = calloc(size, sizeof *y);
        err = y ? gw_net_output(n, i, y) : gw_fail(GW_ENOMEM, "no memory");
        if (err == GW_OK && fwrite(y, sizeof *y, size, stdout) != size)
            err = gw_fail(GW_EIO, "stdout: short write");
        free(y);
    }
    free(x);
    gw_net_close(&n);
    return err;
}

static int stream(const gw_onnx *m, const gw_kernels *k, uint32_t hop)
{
    gw_net *n = NULL;
    int err = gw_net_open(&n, m, k, GW_NET_STREAM, hop);
    if (err < 0)
        return err;
    const gw_net_info *info = gw_net_get_info(n);
    size_t room = 1 << 16, values = 0, got;
    float *x = malloc(room * sizeof *x);
    while (x && (got = fread(x + values, sizeof *x, room - values, stdin)) > 0) {
        values += got;
        if (values == room) {
            float *more = realloc(x, 2 * room * sizeof *x);
            if (!more) {
                free(x);
                x = NULL;
                break;
            }
            x = more;
            room *= 2;
        }
    }
    const size_t samples = values / info->n_channels, hops = samples / hop;
    const size_t frames = hop / info->frame_samples;
    const size_t columns = info->n_arrival ? hop / info->arrival_samples : 0;
    float *logit = calloc(hops * frames + 1, sizeof *logit);
    float *piece = calloc(columns * info->n_arrival + 1, sizeof *piece);
    float *arrival = calloc(hops * columns * info->n_arrival + 1, sizeof *arrival);
    err = x && logit && piece && arrival ? GW_OK : gw_fail(GW_ENOMEM, "no memory");
    for (size_t i = 0; i < hops && err == GW_OK; i++) {
        err = gw_net_step(n, x + i * hop, samples, logit + i * frames, piece);
        for (size_t c = 0; c < info->n_arrival; c++)
            memcpy(arrival + (c * hops + i) * columns, piece + c * columns, columns * sizeof *piece);
    }
    const size_t n_arrival = hops * columns * info->n_arrival;
    if (err == GW_OK && (fwrite(logit, sizeof *logit, hops * frames, stdout) != hops * frames ||
                         fwrite(arrival, sizeof *arrival, n_arrival, stdout) != n_arrival))
        err = gw_fail(GW_EIO, "stdout: short write");
    free(x);
    free(logit);
    free(piece);
    free(arrival);
    gw_net_close(&n);
    return err;
}

static double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int bench(const gw_onnx *m, const gw_kernels *k, uint32_t hop)
{
    gw_net *n = NULL;
    int err = gw_net_open(&n, m, k, GW_NET_STREAM, hop);
    if (err < 0)
        return err;
    const gw_net_info *info = gw_net_get_info(n);
    float *x = malloc((size_t)hop * info->n_channels * sizeof *x);
    float *logit = calloc(hop / info->frame_samples, sizeof *logit);
    err = x && logit ? GW_OK : gw_fail(GW_ENOMEM, "no memory");
    uint32_t state = 1;
    for (size_t i = 0; x && i < (size_t)hop * info->n_channels; i++) {
        state = state * 1664525u + 1013904223u;
        x[i] = (float)(int32_t)state * 0x1p-30f;
    }
    double best = 1e9;
    for (int run = 0; run < 20 && err == GW_OK; run++) {
        const int hops = (int)(1 + 65536 / hop);
        const double start = seconds();
        for (int i = 0; i < hops && err == GW_OK; i++)
            err = gw_net_step(n, x, hop, logit, NULL);
        const double took = (seconds() - start) / hops;
        best = took < best ? took : best;
    }
    if (err == GW_OK)
        printf("hop %u samples (%u frames): %.1f us, %.0f x real time at 2048 Hz, %.1f GFLOP/s\n", hop,
               hop / info->frame_samples, best * 1e6, hop / 2048.0 / best,
               gw_net_plan(n)->flop / best * 1e-9);
    free(x);
    free(logit);
    gw_net_close(&n);
    return err;
}

int main(int argc, char **argv)
{
    const char *model = NULL;
    bool ref = false;
    long stream_hop = 0, bench_hop = 0;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--ref") == 0)
            ref = true;
        else if (strcmp(argv[i], "--stream") == 0 && i + 1 < argc)
            stream_hop = strtol(argv[++i], NULL, 10);
        else if (strcmp(argv[i], "--bench") == 0 && i + 1 < argc)
            bench_hop = strtol(argv[++i], NULL, 10);
        else
            model = argv[i];
    }
    if (!model || stream_hop < 0 || stream_hop > 1 << 24 || bench_hop < 0 || bench_hop > 1 << 24) {
        fprintf(stderr, "usage: onnx_run MODEL [--ref] [--stream HOP | --bench HOP]\n");
        return 2;
    }
    gw_kernels k;
    memset(&k, 0, sizeof k);
    gw_conv_ref(&k.conv);
    if (!ref)
        gw_conv_cpu(&k.conv);
    gw_onnx *m = NULL;
    int err = gw_onnx_load(&m, model);
    if (err == GW_OK)
        err = stream_hop  ? stream(m, &k, (uint32_t)stream_hop)
              : bench_hop ? bench(m, &k, (uint32_t)bench_hop)
                          : window(m, &k);
    gw_onnx_free(&m);
    if (err < 0)
        fprintf(stderr, "%s\n", gw_err_detail());
    return err < 0 ? gw_err_is_input(err) ? 2 : 1 : 0;
}
