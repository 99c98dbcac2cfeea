/* SPDX-License-Identifier: GPL-3.0-or-later
 * Many cleaning networks on one core, for bench_denoise.py: so many of one file, each with weights, past,
 * samples and output of its own, as if each were another detector's or band's. A round is a hop of all of
 * them in turn; where they do not fit into a cache together, each finds its own in memory, as it would in a
 * stream.
 *
 *   bench_denoise FILE [--networks 400] [--hop 256] [--rate 4096] [--seconds 1]
 *
 * One line of JSON: how many would run in real time by this thread's CPU time, and the wall clock of rounds.
 */
#include "kernels/kernels.h"
#include "kernels/limit.h"
#include "kernels/nn/net.h"
#include "kernels/nn/simplify.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

enum { MAX_ROUNDS = 1 << 16, WARM_ROUNDS = 3 };

typedef struct network {
    gw_net *net;
    float *x, *out;
} network;

typedef struct bench {
    const char *file;
    uint32_t networks, hop, rate;
    double seconds;
    network *network; /* [networks] */
    double *round;    /* [rounds]: seconds of wall clock */
    size_t rounds;
    double cpu;
} bench;

static double now(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int by_value(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static int open_network(network *n, const bench *b, const gw_onnx *m, const gw_kernels *k, uint32_t *state)
{
    GW_TRY(gw_net_open(&n->net, m, k, &(gw_net_options){.mode = GW_NET_STREAM, .hop_samples = b->hop}));
    const gw_net_info *info = gw_net_get_info(n->net);
    const size_t floats = (size_t)info->n_channels * b->hop;
    if (info->n_outputs != 1 || info->output[0].not_streamable)
        return gw_fail(GW_ENOTSUP, "%s: %s", b->file,
                       info->n_outputs == 1 ? info->output[0].not_streamable : "more than one output");
    n->x = malloc(floats * sizeof *n->x);
    n->out = calloc((size_t)info->output[0].channels * info->output[0].columns, sizeof *n->out);
    if (!n->x || !n->out)
        return gw_fail(GW_ENOMEM, "no memory for %u networks", b->networks);
    for (size_t i = 0; i < floats; i++) { /* uniform, variance 1: no call is spoilt by denormals */
        *state = *state * 1664525u + 1013904223u;
        n->x[i] = (float)(int32_t)*state * 0x1.bb67aep-31f;
    }
    return GW_OK;
}

static int open_all(bench *b)
{
    static gw_kernels k; /* outlives the networks */
    gw_onnx *file = NULL, *m = NULL;
    uint32_t state = 1;
    b->network = calloc(b->networks, sizeof *b->network);
    b->round = calloc(MAX_ROUNDS, sizeof *b->round);
    if (!b->network || !b->round)
        return gw_fail(GW_ENOMEM, "no memory for %u networks", b->networks);
    GW_TRY(gw_kernels_init(&k, GW_KERNELS_CPU));
    GW_TRY(gw_onnx_load(&file, b->file));
    int err = gw_onnx_simplify(&m, file, &(gw_onnx_binding){.batch = 1});
    gw_onnx_free(&file);
    for (uint32_t i = 0; i < b->networks && err == GW_OK; i++)
        err = open_network(&b->network[i], b, m, &k, &state);
    gw_onnx_free(&m);
    return err;
}

static int run_round(bench *b)
{
    for (uint32_t i = 0; i < b->networks; i++) {
        const network *n = &b->network[i];
        float *out[] = {n->out};
        GW_TRY(gw_net_run(n->net, &(gw_net_in){.x = n->x, .channel_stride = b->hop}, out));
    }
    return GW_OK;
}

static int measure(bench *b)
{
    for (int i = 0; i < WARM_ROUNDS; i++)
        GW_TRY(run_round(b));
    const double start = now(CLOCK_MONOTONIC), cpu = now(CLOCK_THREAD_CPUTIME_ID);
    double last = start;
    while (b->rounds < MAX_ROUNDS && (b->rounds == 0 || last - start < b->seconds)) {
        GW_TRY(run_round(b));
        const double t = now(CLOCK_MONOTONIC);
        b->round[b->rounds++] = t - last;
        last = t;
    }
    b->cpu = (now(CLOCK_THREAD_CPUTIME_ID) - cpu) / (double)b->rounds;
    qsort(b->round, b->rounds, sizeof *b->round, by_value);
    return GW_OK;
}

static void report(const bench *b)
{
    const gw_net_info *info = gw_net_get_info(b->network[0].net);
    struct rusage memory;
    getrusage(RUSAGE_SELF, &memory);
    const double hop_s = (double)b->hop / b->rate, share = b->cpu / hop_s;
    printf("{\"networks\": %u, \"channels\": %u, \"hop_samples\": %u, \"rate_hz\": %u, \"rounds\": %zu, "
           "\"hop_us\": %.4g, \"core_share\": %.4g, \"networks_in_real_time\": %.5g, \"round_p50_ms\": %.4g, "
           "\"round_p99_ms\": %.4g, \"resident_MiB\": %.4g, \"look_ahead_samples\": %u, \"share_of_peak\": "
           "%.3g}\n",
           b->networks, info->n_channels, b->hop, b->rate, b->rounds, 1e6 * b->cpu / b->networks, share,
           b->networks / share, 1e3 * b->round[b->rounds / 2],
           1e3 * b->round[b->rounds - 1 - (b->rounds - 1) / 100], (double)memory.ru_maxrss / 1024,
           info->lookahead_samples, info->flop * b->networks / b->cpu / gw_limit_flop());
}

static void close_all(bench *b)
{
    for (uint32_t i = 0; b->network && i < b->networks; i++) {
        gw_net_close(&b->network[i].net);
        free(b->network[i].x);
        free(b->network[i].out);
    }
    free(b->network);
    free(b->round);
}

int main(int argc, char **argv)
{
    static const struct option options[] = {{"networks", required_argument, NULL, 'n'},
                                            {"hop", required_argument, NULL, 'h'},
                                            {"rate", required_argument, NULL, 'r'},
                                            {"seconds", required_argument, NULL, 's'},
                                            {0}};
    bench b = {.networks = 400, .hop = 256, .rate = 4096, .seconds = 1};
    for (int c; (c = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        if (c == '?')
            return 2;
        if (c == 's')
            b.seconds = strtod(optarg, NULL);
        else
            *(c == 'n' ? &b.networks : c == 'h' ? &b.hop : &b.rate) = (uint32_t)strtoul(optarg, NULL, 10);
    }
    if (optind + 1 != argc || b.networks == 0 || b.hop == 0 || b.rate == 0) {
        fputs("usage: bench_denoise FILE [--networks 400] [--hop 256] [--rate 4096] [--seconds 1]\n", stderr);
        return 2;
    }
    b.file = argv[optind];
    int err = open_all(&b);
    if (err == GW_OK)
        err = measure(&b);
    if (err == GW_OK)
        report(&b);
    else
        fprintf(stderr, "bench_denoise: %s\n", gw_err_detail());
    close_all(&b);
    return err == GW_OK ? 0 : 1;
}
