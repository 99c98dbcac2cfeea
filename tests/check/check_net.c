/* SPDX-License-Identifier: GPL-3.0-or-later
 * Whole networks on the GPU against the same on the processor (which tests/networks holds against PyTorch):
 * windows and streams, any size of a batch with the same bits, arrays in the host's memory and the
 * device's, gaps, saved states, and networks in two parts. */
#include "kernels/nn/net.h"
#include "tests/check/check.h"
#include "tests/unit/onnx_build.h"

#include <math.h>

enum { MOST_OUTPUTS = 4 };

/* ---- Networks ---- */

static void add_layer(gw_check *c, build *b, const char *op, const char *in, const char *out, int64_t c_in,
                      int64_t c_out, int64_t kernel, int64_t stride, int64_t left, int64_t right)
{
    const bool up = strcmp(op, "ConvTranspose") == 0;
    const size_t n = (size_t)(c_in * c_out * kernel);
    float *w = gw_check_buffer(c, (n + (size_t)c_out) * sizeof *w, 0);
    const double size = sqrt(2.0 / (double)(up ? c_in * kernel / stride : c_in * kernel));
    for (size_t i = 0; i < n + (size_t)c_out; i++)
        w[i] = (float)(gw_check_normal(c) * (i < n ? size : 0.1));
    char names[256], weight[64], bias[64];
    snprintf(weight, sizeof weight, "%s.w", out);
    snprintf(bias, sizeof bias, "%s.b", out);
    snprintf(names, sizeof names, "%s %s %s", in, weight, bias);
    add_floats(b, weight, 3, up ? (int64_t[]){c_in, c_out, kernel} : (int64_t[]){c_out, c_in, kernel}, w);
    add_floats(b, bias, 1, (int64_t[]){c_out}, w + n);
    bytes a = {0};
    attr_ints(&a, "pads", 2, (int64_t[]){left, right});
    attr_ints(&a, "strides", 1, (int64_t[]){stride});
    if (up)
        attr_ints(&a, "output_padding", 1, (int64_t[]){1});
    add_node(b, op, names, out, &a);
}

/* DeepClean's: conv 7, four strided down, four transposed up, conv 7; tanh between. */
static bytes cleaning(gw_check *c)
{
    static const int64_t width[] = {21, 8, 16, 32, 64};
    build b = {0};
    char in[16] = "x", out[16], bare[16];
    add_input(&b, "x", 1, 21, 256);
    for (int i = 0; i < 9; i++) {
        const int level = i <= 4 ? i : 9 - i;
        snprintf(bare, sizeof bare, "l%d", i);
        snprintf(out, sizeof out, "t%d", i);
        if (i <= 4)
            add_layer(c, &b, "Conv", in, bare, width[i > 0 ? i - 1 : 0], width[level], 7, i > 0 ? 2 : 1, 3,
                      3);
        else
            add_layer(c, &b, "ConvTranspose", in, bare, width[level], width[level - 1], 7, 2, 3, 3);
        add_node(&b, "Tanh", bare, out, NULL);
        memcpy(in, out, sizeof in);
    }
    add_layer(c, &b, "Conv", in, "noise", 21, 1, 7, 1, 3, 3);
    add_output(&b, "noise");
    return finish(&b, 7, 13);
}

/* ResNet-18 with its norms folded in, narrower. */
static bytes residual(gw_check *c)
{
    build b = {0};
    char in[24] = "pool", one[24], act[24], two[24], side[24], sum[24], both[64];
    add_input(&b, "x", 1, 2, 512);
    add_layer(c, &b, "Conv", "x", "stem", 2, 8, 7, 2, 3, 3);
    add_node(&b, "Relu", "stem", "stem.r", NULL);
    bytes a = {0};
    attr_ints(&a, "kernel_shape", 1, (int64_t[]){3});
    attr_ints(&a, "pads", 2, (int64_t[]){1, 1});
    attr_ints(&a, "strides", 1, (int64_t[]){2});
    add_node(&b, "MaxPool", "stem.r", "pool", &a);
    for (int64_t i = 0, wide = 8; i < 8; i++) {
        const int64_t stride = i > 0 && i % 2 == 0 ? 2 : 1, more = wide * stride;
        snprintf(one, sizeof one, "a%d", (int)i);
        snprintf(act, sizeof act, "r%d", (int)i);
        snprintf(two, sizeof two, "b%d", (int)i);
        snprintf(side, sizeof side, "s%d", (int)i);
        snprintf(sum, sizeof sum, "y%d", (int)i);
        add_layer(c, &b, "Conv", in, one, wide, more, 3, stride, 1, 1);
        add_node(&b, "Relu", one, act, NULL);
        add_layer(c, &b, "Conv", act, two, more, more, 3, 1, 1, 1);
        if (stride > 1)
            add_layer(c, &b, "Conv", in, side, wide, more, 1, stride, 0, 0);
        snprintf(both, sizeof both, "%s %s", two, stride > 1 ? side : in);
        add_node(&b, "Add", both, sum, NULL);
        snprintf(in, sizeof in, "z%d", (int)i);
        add_node(&b, "Relu", sum, in, NULL);
        wide = more;
    }
    add_node(&b, "GlobalAveragePool", in, "mean", NULL);
    add_layer(c, &b, "Conv", "mean", "logit", 64, 3, 1, 1, 0, 0);
    add_output(&b, "logit");
    return finish(&b, 7, 13);
}

typedef struct model {
    const char *windows, *streams; /* the ops; NULL: not so */
    const char *file;              /* below $GWSTREAM_ROOT; NULL: ... */
    bytes (*make)(gw_check *c);    /* ... made here */
    uint32_t hop;
} model;

static const model models[] = {
    {"DeepClean", "DeepClean, stream", NULL, cleaning, 16},
    {NULL, "DeepClean, longer hops", NULL, cleaning, 48},
    {"ResNet-18, narrow", NULL, NULL, residual, 0},
    {"one channel", NULL, "tests/networks/dynamo/small.onnx", NULL, 0},
    {"ResNet, GroupNorm", NULL, "tests/networks/dynamo/tiny-torch-group.onnx", NULL, 0},
    {"autoencoder", NULL, "tests/networks/dynamo/autoencoder.onnx", NULL, 0},
    {"shipped", "shipped, stream", "models/bbh-small.onnx", NULL, 64}};
enum { N_MODELS = sizeof models / sizeof *models };

static gw_onnx *read_model(gw_check *c, const model *what)
{
    gw_onnx *m = NULL;
    int err;
    if (what->make) {
        bytes file = what->make(c);
        void *kept = gw_check_buffer(c, file.n, 0); /* the model points into it */
        memcpy(kept, file.data, file.n);
        free(file.data);
        err = gw_onnx_parse(&m, "made here", kept, file.n);
    } else {
        char path[600];
        const char *root = getenv("GWSTREAM_ROOT");
        snprintf(path, sizeof path, "%s/%s", root ? root : ".", what->file);
        err = gw_onnx_load(&m, path);
    }
    gw_check_that(c, err == GW_OK, "%s: %s", what->windows ? what->windows : what->streams, gw_err_detail());
    return m;
}

/* ---- Nets ---- */

static gw_net *open_net(gw_check *c, const gw_onnx *m, const gw_kernels *k, gw_net_options o)
{
    gw_net *n = NULL;
    if (gw_net_open(&n, m, k, &o) < 0)
        gw_check_that(c, false, "%s: %s", m->path, gw_err_detail());
    return n;
}

static void run_net(gw_check *c, gw_net *n, const gw_net_in *in, float *const *out)
{
    if (gw_net_run(n, in, out) < 0)
        gw_check_that(c, false, "run: %s", gw_err_detail());
}

static size_t floats_of(const gw_net *n, int output)
{
    const gw_net_output *o = &gw_net_get_info(n)->output[output];
    return (size_t)o->channels * o->columns;
}

static void make_outputs(gw_check *c, const gw_net *n, size_t windows, float **out)
{
    for (int i = 0; i < gw_net_get_info(n)->n_outputs && i < MOST_OUTPUTS; i++)
        out[i] = gw_check_buffer(c, windows * floats_of(n, i) * sizeof(float), 4);
}

static void compare(gw_check *c, const gw_net *n, size_t windows, float *const *want, float *const *got,
                    const char *model, double bound, const char *what)
{
    for (int i = 0; i < gw_net_get_info(n)->n_outputs; i++) {
        const size_t count = windows * floats_of(n, i);
        double most = 0, worst = 0;
        for (size_t k = 0; k < count; k++) {
            const double away = fabs((double)want[i][k] - (double)got[i][k]);
            most = fmax(most, fabs((double)want[i][k]));
            worst = away <= worst ? worst : away; /* a NaN stays */
        }
        gw_check_that(c, worst <= bound * most && most > 0, "%s, output %d, %s: %.2g of %.2g away", model, i,
                      what, worst, most);
    }
}

static void same_bits(gw_check *c, const gw_net *n, size_t windows, float *const *want, float *const *got,
                      const char *model, const char *what)
{
    for (int i = 0; i < gw_net_get_info(n)->n_outputs; i++)
        gw_check_that(c, memcmp(want[i], got[i], windows * floats_of(n, i) * sizeof(float)) == 0,
                      "%s, output %d: %s changes bits", model, i, what);
}

/* ---- Arrays on the device ---- */

static gw_place *desk_open(gw_check *c, const gw_kernels *k)
{
    gw_place *p = NULL;
    if (k->place.open(&p, &(gw_place_shape){.batch = 1, .channels = 1, .columns = 1}, &k->place.layers) < 0)
        gw_check_that(c, false, "%s", gw_err_detail());
    return p;
}

static float *to_device(gw_check *c, const gw_kernels *k, gw_place *p, const float *x, size_t n)
{
    float *there = NULL;
    int err = k->place.floats_new(&there, n);
    if (err == GW_OK && x)
        err = k->place.move(p, there, n, x, n, n, 1);
    gw_check_that(c, err == GW_OK, "device array: %s", err < 0 ? gw_err_detail() : "");
    return there;
}

/* ---- Windows ---- */

enum { WINDOWS = 8, FAR = 2 };

static void check_windows(gw_check *c, const gw_kernels *cpu, const gw_kernels *gpu, const model *what)
{
    static const uint32_t batches[] = {1, 3, 8};
    gw_onnx *m = read_model(c, what);
    gw_net *plain = m ? open_net(c, m, cpu, (gw_net_options){.batch = 1}) : NULL;
    gw_place *desk = plain ? desk_open(c, gpu) : NULL;
    if (!desk) {
        gw_net_close(&plain);
        gw_onnx_free(&m);
        return;
    }
    const gw_net_info *info = gw_net_get_info(plain);
    const size_t channels = info->n_channels, apart = info->window_samples / 3 + 1,
                 row = info->window_samples + (WINDOWS - 1) * apart, n = channels * row;
    float *x = gw_check_buffer(c, n * sizeof *x, 4), *want[MOST_OUTPUTS], *first[MOST_OUTPUTS],
          *got[MOST_OUTPUTS];
    gw_check_fill_f32(c, GW_FILL_NORMAL, x, n);
    const gw_net_in in = {.x = x, .channel_stride = row, .window_stride = apart, .n_windows = WINDOWS};
    make_outputs(c, plain, WINDOWS, want);
    make_outputs(c, plain, WINDOWS, first);
    make_outputs(c, plain, WINDOWS, got);
    run_net(c, plain, &in, want);
    for (size_t i = 0; i < sizeof batches / sizeof *batches; i++) {
        gw_net *net = open_net(
            c, m, gpu, (gw_net_options){.batch = batches[i], .device = true, .precision = GW_PRECISION_FP32});
        if (!net)
            break;
        run_net(c, net, &in, i == 0 ? first : got);
        compare(c, plain, WINDOWS, want, i == 0 ? first : got, what->windows, 2e-5, "windows");
        if (i > 0)
            same_bits(c, plain, WINDOWS, first, got, what->windows, "a batch");
        if (i == 2) { /* a pass that is not full, whose layers know only full ones */
            const gw_precision precision[] = {GW_PRECISION_TF32, GW_PRECISION_FP16};
            for (int r = 0; r < 2; r++) {
                gw_net *rough = open_net(
                    c, m, gpu, (gw_net_options){.batch = 5, .device = true, .precision = precision[r]});
                if (rough) {
                    run_net(c, rough, &in, got);
                    compare(c, plain, WINDOWS, want, got, what->windows, 2e-3,
                            r ? "windows in fp16" : "windows in tf32");
                }
                gw_net_close(&rough);
            }
        }
        if (i == 2) {
            const float *plane[WINDOWS * 64]; /* each channel of each window by itself */
            for (size_t w = 0; w < WINDOWS && channels <= 64; w++)
                for (size_t k = 0; k < channels; k++)
                    plane[w * channels + k] = x + k * row + w * apart;
            make_outputs(c, plain, WINDOWS, got);
            run_net(c, net, &(gw_net_in){.channel = plane, .n_windows = WINDOWS}, got);
            same_bits(c, plain, WINDOWS, first, got, what->windows, "where the channels lie");
            float *there = to_device(c, gpu, desk, x, n), *y[MOST_OUTPUTS] = {NULL};
            for (int k = 0; k < info->n_outputs; k++)
                y[k] = to_device(c, gpu, desk, NULL, FAR * floats_of(plain, k));
            gw_net_in far = in;
            far.x = there;
            far.n_windows = FAR;
            for (int again = 0; again < 6; again++) /* several on their way */
                run_net(c, net, &far, y);
            gw_check_that(c, gw_net_wait(net) == GW_OK, "wait");
            make_outputs(c, plain, WINDOWS, got);
            for (int k = 0; k < info->n_outputs; k++) {
                const size_t all = FAR * floats_of(plain, k);
                gw_check_that(c, gpu->place.move(desk, got[k], all, y[k], all, all, 1) == GW_OK, "fetch");
                gpu->place.floats_free(&y[k]);
            }
            gpu->place.floats_free(&there);
            same_bits(c, plain, FAR, first, got, what->windows, "the device's memory");
        }
        gw_net_close(&net);
    }
    gpu->place.close(&desk);
    gw_net_close(&plain);
    gw_onnx_free(&m);
    gw_check_release(c);
}

/* ---- Streams ---- */

enum { STREAMS = 3, HOPS = 12 };

/* HOPS hops of all streams; out[i] holds hop after hop. */
static void follow(gw_check *c, gw_net *n, const float *x, size_t first, size_t hops, float *const *out)
{
    const gw_net_info *info = gw_net_get_info(n);
    const size_t row = (size_t)HOPS * info->hop_samples;
    for (size_t h = first; h < first + hops; h++) {
        float *at[MOST_OUTPUTS];
        for (int i = 0; i < info->n_outputs; i++)
            at[i] = out[i] + h * floats_of(n, i) * info->batch;
        const gw_net_in in = {
            .x = x + h * info->hop_samples, .channel_stride = row, .window_stride = row * info->n_channels};
        run_net(c, n, &in, at);
    }
}

static void check_stream(gw_check *c, const gw_kernels *cpu, const gw_kernels *gpu, const model *what)
{
    const gw_net_options o = {.mode = GW_NET_STREAM, .hop_samples = what->hop, .batch = STREAMS};
    gw_net_options there = o;
    there.device = true;
    there.precision = GW_PRECISION_FP32;
    gw_onnx *m = read_model(c, what);
    gw_net *a = m ? open_net(c, m, cpu, o) : NULL, *b = a ? open_net(c, m, gpu, there) : NULL,
           *d = b ? open_net(c, m, gpu, there) : NULL;
    if (d) {
        const gw_net_info *info = gw_net_get_info(a);
        const size_t n = (size_t)STREAMS * info->n_channels * HOPS * info->hop_samples;
        float *x = gw_check_buffer(c, n * sizeof *x, 0), *want[MOST_OUTPUTS], *got[MOST_OUTPUTS],
              *more[MOST_OUTPUTS];
        gw_check_fill_f32(c, GW_FILL_NORMAL, x, n);
        make_outputs(c, a, HOPS * STREAMS, want);
        make_outputs(c, a, HOPS * STREAMS, got);
        make_outputs(c, a, HOPS * STREAMS, more);
        follow(c, a, x, 0, HOPS, want);
        follow(c, b, x, 0, HOPS, got);
        compare(c, a, HOPS * STREAMS, want, got, what->streams, 2e-5, "a stream");
        gw_net_reset(b); /* the same from the start */
        follow(c, b, x, 0, HOPS, more);
        same_bits(c, a, HOPS * STREAMS, got, more, what->streams, "a reset");
        gw_net_reset(a); /* a gap in one of them, and the rest by another net from what was saved */
        gw_net_reset(b);
        follow(c, a, x, 0, HOPS / 2, want);
        follow(c, b, x, 0, HOPS / 2, got);
        gw_net_reset_stream(a, 1);
        gw_net_reset_stream(b, 1);
        const size_t bytes = gw_net_state_bytes(b);
        void *saved = gw_check_buffer(c, bytes, 0);
        gw_check_that(c, bytes == gw_net_state_bytes(a), "%zu bytes of state", bytes);
        gw_check_that(c, gw_net_state_save(b, saved) == GW_OK && gw_net_state_load(d, saved, bytes) == GW_OK,
                      "%s: state", what->streams);
        follow(c, a, x, HOPS / 2, HOPS / 2, want);
        follow(c, b, x, HOPS / 2, HOPS / 2, got);
        compare(c, a, HOPS * STREAMS, want, got, what->streams, 2e-5, "a stream with a gap");
        for (int i = 0; i < info->n_outputs; i++)
            memcpy(more[i], got[i], HOPS / 2 * STREAMS * floats_of(a, i) * sizeof(float));
        follow(c, d, x, HOPS / 2, HOPS / 2, more);
        same_bits(c, a, HOPS * STREAMS, got, more, what->streams, "a saved state");
    }
    gw_net_close(&a);
    gw_net_close(&b);
    gw_net_close(&d);
    gw_onnx_free(&m);
    gw_check_release(c);
}

/* ---- Two parts ---- */

static void check_parts(gw_check *c, const gw_kernels *cpu, const gw_kernels *gpu, const model *what)
{
    enum { SLIDES = 3 };
    const gw_net_options o = {
        .mode = GW_NET_STREAM, .part = GW_NET_MERGED, .batch = SLIDES, .hop_samples = what->hop / 16};
    gw_net_options there = o;
    there.device = true;
    there.precision = GW_PRECISION_FP32;
    gw_onnx *m = read_model(c, what);
    gw_net *a = m ? open_net(c, m, cpu, o) : NULL, *b = a ? open_net(c, m, gpu, there) : NULL;
    if (b) {
        const gw_net_info *info = gw_net_get_info(a);
        const size_t each = (size_t)info->n_channels * info->hop_samples, n = each * (HOPS + SLIDES);
        float *f = gw_check_buffer(c, info->n_detectors * n * sizeof *f, 0), *want[MOST_OUTPUTS],
              *got[MOST_OUTPUTS];
        gw_check_fill_f32(c, GW_FILL_NORMAL, f, info->n_detectors * n);
        make_outputs(c, a, SLIDES, want);
        make_outputs(c, a, SLIDES, got);
        for (size_t h = 0; h < HOPS; h++) {
            const float *features[SLIDES * 4];
            for (size_t s = 0; s < SLIDES; s++)
                for (size_t d = 0; d < info->n_detectors && d < 4; d++)
                    features[s * info->n_detectors + d] = f + d * n + (h + (d ? s : 0)) * each;
            run_net(c, a, &(gw_net_in){.features = features}, want);
            run_net(c, b, &(gw_net_in){.features = features}, got);
            compare(c, a, SLIDES, want, got, what->windows, 2e-5, "slides");
        }
    }
    gw_net_close(&a);
    gw_net_close(&b);
    gw_onnx_free(&m);
    gw_check_release(c);
}

static void run_suite(gw_check *c, const gw_kernels *r, const gw_kernels *k)
{
    gw_kernels cpu;
    if (!k->place.open || gw_kernels_init(&cpu, GW_KERNELS_CPU) < 0) /* this level has no GPU */
        return;
    for (int i = 0; i < N_MODELS; i++) {
        const model *m = &models[i];
        if (m->windows &&
            gw_check_begin(c, m->windows, (gw_check_fn)r->conv.open, (gw_check_fn)k->place.open))
            check_windows(c, &cpu, k, m);
        if (m->streams &&
            gw_check_begin(c, m->streams, (gw_check_fn)r->conv.open, (gw_check_fn)k->place.open))
            check_stream(c, &cpu, k, m);
    }
    if (gw_check_begin(c, "two parts", (gw_check_fn)r->conv.open, (gw_check_fn)k->place.open))
        check_parts(c, &cpu, k, &models[N_MODELS - 1]);
}

const gw_check_family gw_check_suite = {.name = "net", .run = run_suite};
