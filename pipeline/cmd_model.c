/* SPDX-License-Identifier: GPL-3.0-or-later
 * `gwstream model`: looks at networks (ONNX files), runs them on files and times them, with the engine that
 * the stages use. Called by main.c. This file has the options and `check`; the other verbs have files of
 * their own. */
#include "pipeline/cmd_model.h"
#include "pipeline/cmd.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char help[] =
    "usage: gwstream model show  FILE.onnx\n"
    "       gwstream model check FILE.onnx\n"
    "       gwstream model run   FILE.onnx --in X --out Y [--stream] [--hop N]\n"
    "       gwstream model bench FILE.onnx [--batch 1,8,32] [--stream | --pairs] [--seconds S]\n"
    "\n"
    "  show         inputs, outputs, layers, cost, what each column depends on, whether it can follow a\n"
    "               stream or why not, which engine runs it, metadata\n"
    "  check        reads it and makes it ready to run: one line; status 2 when that cannot be\n"
    "  run          from files to files: X.npy or X.h5:/dataset. [channel][sample] is a batch of one; a\n"
    "               longer one is cut into windows\n"
    "  bench        inferences a second on one core, times of a call, share of this core's peak\n"
    "\n"
    "  -i, --in [NAME=]X    an input (run); in the network's order, or by name\n"
    "  -o, --out [NAME=]Y   where an output goes (run); the same\n"
    "  -s, --stream         hop by hop, each hop's new columns alone (run, bench)\n"
    "      --hop N          samples a hop; without --stream: from one window to the next\n"
    "  -b, --batch N,...    windows (streams, pairs) in one call (bench; show: of a batch left open)\n"
    "  -d, --dim NAME=N     what another dimension without a number becomes\n"
    "  -p, --pairs          the layers behind those of each detector alone, as for a time slide (bench)\n"
    "  -t, --seconds S      how long to measure each (bench; default 1)\n"
    "  -l, --level L        ref (plain C), cpu, or cuda where it is there (default)\n"
    "      --device D       cpu (default), or cuda: the whole network on the GPU (run, bench; bench: "
    "numbers\n"
    "                       that lie there, inferences a second of wall time)\n"
    "      --precision P    with --device cuda: tf32 (default), fp16, both by cuDNN where it is\n"
    "                       there; or fp32 (strict)\n"
    "      --nodes          node by node, even if the network can be planned\n"
    "      --json           a line of JSON for each measurement (bench)\n"
    "  -h, --help           this text\n";

enum { HOP = 256, NODES, JSON, DEVICE, PRECISION };

static const struct option longs[] = {{"in", required_argument, NULL, 'i'},
                                      {"out", required_argument, NULL, 'o'},
                                      {"stream", no_argument, NULL, 's'},
                                      {"hop", required_argument, NULL, HOP},
                                      {"batch", required_argument, NULL, 'b'},
                                      {"dim", required_argument, NULL, 'd'},
                                      {"pairs", no_argument, NULL, 'p'},
                                      {"seconds", required_argument, NULL, 't'},
                                      {"level", required_argument, NULL, 'l'},
                                      {"device", required_argument, NULL, DEVICE},
                                      {"precision", required_argument, NULL, PRECISION},
                                      {"nodes", no_argument, NULL, NODES},
                                      {"json", no_argument, NULL, JSON},
                                      {"help", no_argument, NULL, 'h'},
                                      {0}};

static int whole(const char *text, const char *what, int64_t *v)
{
    char *end;
    errno = 0;
    const long long n = strtoll(text, &end, 10);
    if (errno || end == text || *end || n < 1 || n > 1 << 30)
        return gw_fail(GW_EUSAGE, "%s: '%s' is no whole number from 1 to 2^30", what, text);
    *v = n;
    return GW_OK;
}

static int batches(gw_model_options *o, char *list)
{
    char *rest;
    for (char *one = strtok_r(list, ",", &rest); one; one = strtok_r(NULL, ",", &rest)) {
        if (o->n_batches == GW_MODEL_BATCHES)
            return gw_fail(GW_EUSAGE, "--batch: at most %d numbers", GW_MODEL_BATCHES);
        GW_TRY(whole(one, "--batch", &o->batch[o->n_batches++]));
    }
    return GW_OK;
}

static int named(const char **list, int *n)
{
    if (*n == GW_MODEL_FILES)
        return gw_fail(GW_EUSAGE, "at most %d inputs and outputs", GW_MODEL_FILES);
    list[(*n)++] = optarg;
    return GW_OK;
}

static int read_precision(const char *text, gw_precision *precision)
{
    static const char *const words[] = {
        [GW_PRECISION_TF32] = "tf32", [GW_PRECISION_FP32] = "fp32", [GW_PRECISION_FP16] = "fp16"};
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++)
        if (strcmp(text, words[i]) == 0) {
            *precision = (gw_precision)i;
            return GW_OK;
        }
    return gw_fail(GW_EUSAGE, "--precision: '%s' is none of tf32, fp32, fp16", text);
}

static int option(gw_model_options *o, int c, char **argv)
{
    char *end;
    switch (c) {
    case 'i':
        return named(o->in, &o->n_in);
    case 'o':
        return named(o->out, &o->n_out);
    case 's':
        o->stream = true;
        return GW_OK;
    case 'p':
        o->pairs = true;
        return GW_OK;
    case NODES:
        o->nodes = true;
        return GW_OK;
    case JSON:
        o->json = true;
        return GW_OK;
    case PRECISION:
        return read_precision(optarg, &o->precision);
    case DEVICE:
        o->device = strcmp(optarg, "cuda") == 0;
        return o->device || strcmp(optarg, "cpu") == 0
                   ? GW_OK
                   : gw_fail(GW_EUSAGE, "--device: '%s' is none of cpu, cuda", optarg);
    case HOP:
        return whole(optarg, "--hop", &o->hop);
    case 'b':
        return batches(o, optarg);
    case 'd':
        end = strchr(optarg, '=');
        if (!end || end == optarg)
            return gw_fail(GW_EUSAGE, "--dim: '%s' is not NAME=N", optarg);
        *end = '\0';
        o->dim_name = optarg;
        return whole(end + 1, "--dim", &o->dim_value);
    case 't':
        o->seconds = strtod(optarg, &end);
        if (end == optarg || *end || !(o->seconds > 0 && o->seconds <= 3600))
            return gw_fail(GW_EUSAGE, "--seconds: '%s' is no number above 0 and up to 3600", optarg);
        return GW_OK;
    case 'l':
        o->level = strcmp(optarg, "ref") == 0   ? GW_KERNELS_REF
                   : strcmp(optarg, "cpu") == 0 ? GW_KERNELS_CPU
                                                : GW_KERNELS_CUDA;
        if (o->level == GW_KERNELS_CUDA && strcmp(optarg, "cuda") != 0)
            return gw_fail(GW_EUSAGE, "--level: '%s' is none of ref, cpu, cuda", optarg);
        return GW_OK;
    default:
        return gw_fail(GW_EUSAGE, "no option '%s', or its value is missing (gwstream model --help)",
                       argv[optind - 1]);
    }
}

static int check(const gw_model_options *o)
{
    gw_model_engine e;
    GW_TRY(gw_model_engine_open(&e, o, o->batch[0]));
    printf("%s: good; inputs: %d, outputs: %d, nodes after simplification: %d, engine: %s\n", o->path,
           e.m->n_inputs, e.m->n_outputs, e.m->n_nodes, e.net ? "planned" : "node by node");
    gw_model_engine_close(&e);
    return GW_OK;
}

int gw_cmd_model(int argc, char **argv)
{
    static const struct {
        const char *name;
        int (*run)(const gw_model_options *o);
    } verb[] = {{"show", gw_model_show}, {"check", check}, {"run", gw_model_run}, {"bench", gw_model_bench}};
    gw_model_options o = {.level = GW_KERNELS_CUDA, .seconds = 1};
    opterr = 0;
    for (int c; (c = getopt_long(argc, argv, "i:o:sb:d:pt:l:h", longs, NULL)) != -1;) {
        if (c == 'h') {
            fputs(help, stdout);
            return GW_OK;
        }
        GW_TRY(option(&o, c, argv));
    }
    if (argc - optind != 2)
        return gw_fail(GW_EUSAGE,
                       "wants a verb (show, check, run, bench) and one FILE.onnx (gwstream model --help)");
    o.path = argv[optind + 1];
    for (size_t i = 0; i < sizeof verb / sizeof verb[0]; i++)
        if (strcmp(argv[optind], verb[i].name) == 0)
            return verb[i].run(&o);
    return gw_fail(GW_EUSAGE, "no verb '%s': show, check, run, bench", argv[optind]);
}
