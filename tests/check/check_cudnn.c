/* SPDX-License-Identifier: GPL-3.0-or-later
 * Has cuDNN a plan for every convolution of the networks that gwstream is for? Plans are finalised for a
 * described H200, so this needs the library and no GPU; whether they run and how fast is another matter.
 * Each layer at batch 1 and 256, in float32, TF32 and half precision.
 *
 *   check_cudnn [MODEL.onnx ...]   these too; first those below and the shipped model
 *   check_cudnn --list MODEL.onnx  its layers as rows for the table below, which stands for the networks of
 *                                  tests/networks/export.py where there is no PyTorch to export them
 *
 * Exit 0 all have one, 1 one has none, 77 there is no cuDNN. */
#ifdef GW_HAVE_CUDNN
#include "kernels/cuda/cudnn_inside.h"
#include "kernels/nn/plan.h"
#include "kernels/nn/simplify.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct layer {
    gw_conv_desc d;
    uint32_t columns;
    bool residual;
    uint64_t src_after, dst_after; /* floats from the end of a window to the next one's start */
} layer;

typedef struct network {
    const char *name;
    const layer *layer;
    int n;
} network;

/* What --list says of tests/networks/export.py's: in, out, groups, kernel, stride, dilation, activation;
 * columns, residual, floats between windows. */
#define RELU                                                                                                 \
    {                                                                                                        \
        GW_ACT_RELU, 0, 0                                                                                    \
    }
#define TANH                                                                                                 \
    {                                                                                                        \
        GW_ACT_TANH, 0, 0                                                                                    \
    }
#define NONE                                                                                                 \
    {                                                                                                        \
        GW_ACT_NONE, 0, 0                                                                                    \
    }
static const layer deepclean[] = {
    {{21, 21, 1, 7, 1, 1, TANH}, 4096, false, 0, 105}, {{21, 8, 1, 7, 2, 1, TANH}, 2048, false, 0, 40},
    {{8, 16, 1, 7, 2, 1, TANH}, 1024, false, 0, 80},   {{16, 32, 1, 7, 2, 1, TANH}, 512, false, 0, 160},
    {{32, 64, 1, 7, 2, 1, TANH}, 256, false, 0, 192},  {{64, 64, 1, 4, 1, 1, TANH}, 256, false, 0, 96},
    {{32, 32, 1, 4, 1, 1, TANH}, 512, false, 0, 48},   {{16, 16, 1, 4, 1, 1, TANH}, 1024, false, 0, 24},
    {{8, 42, 1, 4, 1, 1, TANH}, 2048, false, 0, 126},  {{21, 1, 1, 7, 1, 1, NONE}, 4096, false, 0, 0},
};
static const layer resnet18[] = {
    {{2, 64, 1, 7, 2, 1, RELU}, 1024, false, 0, 0},      {{64, 64, 1, 3, 1, 1, RELU}, 512, false, 0, 128},
    {{64, 64, 1, 3, 1, 1, RELU}, 512, true, 0, 128},     {{64, 64, 1, 3, 1, 1, RELU}, 512, true, 0, 64},
    {{64, 128, 1, 3, 2, 1, RELU}, 256, false, 0, 256},   {{128, 128, 1, 3, 1, 1, NONE}, 256, false, 0, 0},
    {{64, 128, 1, 1, 2, 1, RELU}, 256, true, 128, 256},  {{128, 128, 1, 3, 1, 1, RELU}, 256, false, 0, 256},
    {{128, 128, 1, 3, 1, 1, RELU}, 256, true, 0, 128},   {{128, 256, 1, 3, 2, 1, RELU}, 128, false, 0, 512},
    {{256, 256, 1, 3, 1, 1, NONE}, 128, false, 0, 0},    {{128, 256, 1, 1, 2, 1, RELU}, 128, true, 256, 512},
    {{256, 256, 1, 3, 1, 1, RELU}, 128, false, 0, 512},  {{256, 256, 1, 3, 1, 1, RELU}, 128, true, 0, 256},
    {{256, 512, 1, 3, 2, 1, RELU}, 64, false, 0, 1024},  {{512, 512, 1, 3, 1, 1, NONE}, 64, false, 0, 0},
    {{256, 512, 1, 1, 2, 1, RELU}, 64, true, 512, 1024}, {{512, 512, 1, 3, 1, 1, RELU}, 64, false, 0, 1024},
    {{512, 512, 1, 3, 1, 1, RELU}, 64, true, 0, 0},      {{512, 1, 1, 1, 1, 1, NONE}, 1, false, 0, 0},
};
static const layer resnet34[] = {
    {{2, 64, 1, 7, 2, 1, NONE}, 1536, false, 0, 0},    {{64, 64, 1, 3, 1, 1, NONE}, 768, false, 0, 0},
    {{64, 128, 1, 3, 2, 1, NONE}, 384, false, 0, 0},   {{128, 128, 1, 3, 1, 1, NONE}, 384, false, 0, 0},
    {{64, 128, 1, 1, 2, 1, NONE}, 384, false, 128, 0}, {{128, 256, 1, 3, 2, 1, NONE}, 192, false, 0, 0},
    {{256, 256, 1, 3, 1, 1, NONE}, 192, false, 0, 0},  {{128, 256, 1, 1, 2, 1, NONE}, 192, false, 256, 0},
    {{256, 512, 1, 3, 2, 1, NONE}, 96, false, 0, 0},   {{512, 512, 1, 3, 1, 1, NONE}, 96, false, 0, 0},
    {{256, 512, 1, 1, 2, 1, NONE}, 96, false, 512, 0}, {{512, 1, 1, 1, 1, 1, NONE}, 1, false, 0, 0},
};
static const layer small[] = {
    {{1, 8, 1, 16, 4, 1, RELU}, 512, false, 0, 32},
    {{8, 16, 1, 8, 4, 1, RELU}, 128, false, 0, 64},
    {{16, 32, 1, 8, 4, 1, RELU}, 32, false, 0, 0},
    {{32, 1, 1, 1, 1, 1, NONE}, 1, false, 0, 0},
};

static const network networks[] = {
    {"DeepClean, 21 channels", deepclean, sizeof deepclean / sizeof *deepclean},
    {"ResNet-18, 2 x 2048", resnet18, sizeof resnet18 / sizeof *resnet18},
    {"ResNet-34 with GroupNorm, 2 x 3072", resnet34, sizeof resnet34 / sizeof *resnet34},
    {"small, per channel", small, sizeof small / sizeof *small},
};

static const char *const precisions[] = {
    [GW_CUDNN_FP32] = "float32", [GW_CUDNN_TF32] = "TF32", [GW_CUDNN_FP16] = "float16"};

/* The largest power of two up to 16 that divides n bytes. */
static uint32_t align_of(size_t n)
{
    return n % 16 == 0 ? 16 : n % 8 == 0 ? 8 : n % 4 == 0 ? 4 : 2;
}

/* Returns how many layers have no plan. */
static int check_one(gw_cudnn *c, const network *w, uint32_t batch, gw_cudnn_precision precision, bool half)
{
    int fused = 0, compiled = 0, left_out = 0, wrong = 0;
    size_t most = 0;
    for (int i = 0; i < w->n; i++) {
        const layer *a = &w->layer[i];
        const size_t out = (size_t)a->columns * a->d.out_channels, size = half ? 2 : 4;
        gw_cudnn_layer l = {.d = a->d,
                            .batch = batch,
                            .columns = a->columns,
                            .src_step = (size_t)gw_conv_in_columns(&a->d, a->columns) * a->d.in_channels +
                                        a->src_after,
                            .dst_step = out + a->dst_after,
                            .residual_step = out + a->dst_after,
                            .residual = a->residual,
                            .precision = precision,
                            .half = half};
        l.src_align = align_of(a->d.in_channels * size);
        l.dst_align = align_of(a->d.out_channels * size);
        const float bias = 0; /* without a GPU nobody reads it */
        gw_cudnn_conv *p = NULL;
        if (gw_cudnn_conv_open(&p, c, &l, &bias, &bias) != GW_OK) {
            printf("%s, batch %u, %s: layer %d: %s\n", w->name, batch, precisions[precision], i,
                   gw_err_detail());
            wrong++;
            continue;
        }
        const gw_cudnn_info *info = gw_cudnn_conv_info(p);
        fused += info->fused;
        compiled += info->compiled;
        left_out += info->left_out;
        most = info->workspace_bytes > most ? info->workspace_bytes : most;
        if (getenv("GW_CHECK_VERBOSE"))
            printf("  %u > %u / %u, kernel %u / %u, %u columns%s: engine %d%s, %d plans, %d left out, %zu "
                   "bytes\n",
                   a->d.in_channels, a->d.out_channels, a->d.groups, a->d.kernel, a->d.stride, a->columns,
                   a->residual ? ", residual" : "", info->engine, info->fused ? " fused" : "", info->plans,
                   info->left_out, info->workspace_bytes);
        gw_cudnn_conv_close(&p);
    }
    printf("%s, batch %u, %s%s: %d of %d layers have a plan, %d with all inside", w->name, batch,
           precisions[precision], half ? " throughout" : "", w->n - wrong, w->n, fused);
    if (compiled > 0)
        printf(", %d compiled", compiled);
    if (left_out > 0)
        printf(", %d proposals left out (compiled at run time, which wants a driver)", left_out);
    printf(", working memory %.1f MB\n", 1e-6 * (double)most);
    return wrong;
}

static int check_network(gw_cudnn *c, const network *w)
{
    static const uint32_t batches[] = {1, 256};
    int wrong = 0;
    for (int b = 0; b < 2; b++) {
        for (gw_cudnn_precision p = GW_CUDNN_FP32; p <= GW_CUDNN_FP16; p++)
            wrong += check_one(c, w, batches[b], p, false);
        wrong += check_one(c, w, batches[b], GW_CUDNN_FP16, true);
    }
    return wrong;
}

/* What the choices on disk lean on: a plan as text and back. */
static int check_text(void)
{
    gw_cudnn_target t = {.library = gw_cudnn_library_get()};
    const gw_cudnn_shape s = {.d = {64, 64, 1, 3, 1, 1, RELU},
                              .batch = 16,
                              .columns = 512,
                              .x_step = (size_t)514 * 64,
                              .y_step = (size_t)512 * 64,
                              .residual_step = (size_t)512 * 64,
                              .x_align = 16,
                              .y_align = 16,
                              .bias = true,
                              .residual = true,
                              .precision = GW_CUDNN_TF32};
    gw_cudnn_plan plan[3], back = {0};
    char *text = NULL;
    int left_out = 0, n = gw_cudnn_target_describe(&t), wrong = 0;
    if (n == GW_OK)
        n = gw_cudnn_plans(&t, &s, plan, 3, &left_out);
    for (int i = 0; i < n; i++) {
        int err = gw_cudnn_plan_text(&t, &plan[i], &text);
        if (err == GW_OK)
            err = gw_cudnn_plan_from(&t, text, &back);
        if (err == GW_OK && back.workspace_bytes != plan[i].workspace_bytes)
            err = gw_fail(GW_EMISMATCH, "a plan from text wants other working memory");
        if (err == GW_OK) {
            text[strlen(text) / 2] = '\0';
            gw_cudnn_plan_free(&t, &back);
            if (gw_cudnn_plan_from(&t, text, &back) == GW_OK)
                err = gw_fail(GW_EMISMATCH, "half a text made a plan");
        }
        if (err != GW_OK)
            printf("plan %d, engine %lld: %s\n", i, (long long)plan[i].engine, gw_err_detail());
        wrong += err != GW_OK;
        free(text);
        gw_cudnn_plan_free(&t, &back);
        gw_cudnn_plan_free(&t, &plan[i]);
    }
    if (t.description)
        t.library->cudnnBackendDestroyDescriptor(t.description);
    printf("%d of %d plans are the same when written down and read\n", n - wrong, n);
    return wrong + (n <= 0);
}

/* ---- From ONNX files ---- */

static bool same(const layer *a, const layer *b)
{
    return a->d.in_channels == b->d.in_channels && a->d.out_channels == b->d.out_channels &&
           a->d.groups == b->d.groups && a->d.kernel == b->d.kernel && a->d.stride == b->d.stride &&
           a->d.dilation == b->d.dilation && a->d.act.kind == b->d.act.kind && a->columns == b->columns &&
           a->residual == b->residual && a->src_after == b->src_after && a->dst_after == b->dst_after;
}

static size_t window_of(const gw_netbuffer *b)
{
    return (size_t)(b->before + b->columns + b->after) * b->channels;
}

/* Distinct convolutions of a plan. The caller frees them. */
static int layers_of(const gw_netplan *p, layer **out)
{
    int n = 0;
    layer *to = calloc((size_t)p->n_steps + 1, sizeof *to);
    if (!to)
        return gw_fail(GW_ENOMEM, "no memory");
    for (int i = 0; i < p->n_steps; i++) {
        const gw_netstep *s = &p->step[i];
        if (s->kind != GW_STEP_CONV || s->columns == 0)
            continue;
        const gw_netbuffer *from = &p->buffer[s->in], *into = &p->buffer[s->out];
        layer l = {.d = {.in_channels = from->channels,
                         .out_channels = into->channels * s->phases,
                         .groups = s->groups,
                         .kernel = s->kernel,
                         .stride = s->stride,
                         .dilation = s->dilation,
                         .act = s->act},
                   .columns = s->columns,
                   .residual = s->in2 >= 0};
        const size_t reads = (size_t)gw_conv_in_columns(&l.d, l.columns) * l.d.in_channels,
                     writes = (size_t)l.columns * l.d.out_channels;
        l.src_after = window_of(from) > reads ? window_of(from) - reads : 0;
        l.dst_after = window_of(into) > writes ? window_of(into) - writes : 0;
        bool again = false;
        for (int j = 0; j < n; j++)
            again = again || same(&to[j], &l);
        if (!again)
            to[n++] = l;
    }
    *out = to;
    return n;
}

static int load(const char *path, layer **out)
{
    gw_onnx *m = NULL, *simple = NULL;
    gw_netplan *p = NULL;
    *out = NULL;
    int err = gw_onnx_load(&m, path);
    if (err == GW_OK)
        err = gw_onnx_simplify(&simple, m, &(gw_onnx_binding){.batch = 1});
    if (err == GW_OK)
        err = gw_netplan_window(&p, simple);
    if (err == GW_OK)
        err = layers_of(p, out);
    gw_netplan_free(&p);
    gw_onnx_free(&simple);
    gw_onnx_free(&m);
    return err;
}

static int list(const char *path)
{
    layer *l;
    const int n = load(path, &l);
    if (n < 0) {
        printf("%s\n", gw_err_detail());
        return 1;
    }
    for (int i = 0; i < n; i++)
        printf("    {{%u, %u, %u, %u, %u, %u, {%d, %g, %g}}, %u, %s, %llu, %llu},\n", l[i].d.in_channels,
               l[i].d.out_channels, l[i].d.groups, l[i].d.kernel, l[i].d.stride, l[i].d.dilation,
               (int)l[i].d.act.kind, (double)l[i].d.act.a, (double)l[i].d.act.b, l[i].columns,
               l[i].residual ? "true" : "false", (unsigned long long)l[i].src_after,
               (unsigned long long)l[i].dst_after);
    free(l);
    return 0;
}

static int check_file(gw_cudnn *c, const char *path)
{
    layer *l;
    const int n = load(path, &l);
    if (n < 0) {
        printf("%s\n", gw_err_detail());
        return 1;
    }
    const network w = {path, l, n};
    const int wrong = n == 0 ? 1 : check_network(c, &w);
    free(l);
    return wrong;
}

static void remark(const char *line)
{
    printf("%s\n", line);
}

int main(int argc, char **argv)
{
    if (argc == 3 && strcmp(argv[1], "--list") == 0)
        return list(argv[2]);
    gw_cudnn_remarks(remark);
    gw_cudnn *c = NULL;
    if (gw_cudnn_open(&c, false) != GW_OK) {
        printf("skipped: %s\n", gw_err_detail());
        return 77;
    }
    printf("cuDNN %s, plans for a described H200\n", gw_cudnn_status());
    const char *root = getenv("GWSTREAM_ROOT");
    char shipped[1024];
    snprintf(shipped, sizeof shipped, "%s/models/bbh-small.onnx", root ? root : ".");
    int wrong = check_text() + check_file(c, shipped);
    for (size_t i = 0; i < sizeof networks / sizeof *networks; i++)
        wrong += check_network(c, &networks[i]);
    for (int i = 1; i < argc; i++)
        wrong += check_file(c, argv[i]);
    gw_cudnn_close(&c);
    return wrong > 0;
}
#else
#include <stdio.h>
int main(void)
{
    printf("skipped: built without cuDNN's header\n");
    return 77;
}
#endif
