/* SPDX-License-Identifier: GPL-3.0-or-later
 * Networks: a stream equals its windows, for hops of 1, 2, 4 and 32 frames, in every implementation of
 * the kernels; what cannot run, or cannot stream, is refused with names and reasons. (That windows are
 * right is shown against torch and ONNX's own cases by tests/check/onnx_cases.py.) */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "kernels/nn/net.h"
#include "tests/unit/onnx_build.h"

#include <math.h>

static uint64_t state64 = 20150914;

static float uniform(void) /* -1 .. 1 */
{
    state64 ^= state64 << 13; /* xorshift64 (Marsaglia 2003) */
    state64 ^= state64 >> 7;
    state64 ^= state64 << 17;
    return (float)(int32_t)(state64 >> 32) * 0x1p-31f;
}

static gw_kernels kernels(bool cpu)
{
    gw_kernels k;
    memset(&k, 0, sizeof k);
    gw_conv_ref(&k.conv);
    if (cpu)
        gw_conv_cpu(&k.conv);
    return k;
}

/* A convolution with random weights and bias, left-padded by `left`, right-padded by `right`. */
static void add_conv(build *b, const char *in, const char *out, int64_t c_in, int64_t c_out, int64_t kernel,
                     int64_t stride, int64_t groups, int64_t left, int64_t right)
{
    const size_t n = (size_t)(c_out * (c_in / groups) * kernel);
    float *w = malloc((n + (size_t)c_out) * sizeof *w);
    assert_non_null(w);
    const float scale = 1.7f / sqrtf((float)(c_in / groups * kernel)); /* keeps the variance through ReLUs */
    for (size_t i = 0; i < n + (size_t)c_out; i++)
        w[i] = uniform() * (i < n ? scale : 0.1f);
    char names[256], weight[64], bias[64];
    snprintf(weight, sizeof weight, "%s.w", out);
    snprintf(bias, sizeof bias, "%s.b", out);
    snprintf(names, sizeof names, "%s %s %s", in, weight, bias);
    add_floats(b, weight, 3, (int64_t[]){c_out, c_in / groups, kernel}, w);
    add_floats(b, bias, 1, (int64_t[]){c_out}, w + n);
    bytes a = {0};
    attr_ints(&a, "pads", 2, (int64_t[]){left, right});
    attr_ints(&a, "strides", 1, (int64_t[]){stride});
    attr_int(&a, "group", groups);
    add_node(b, "Conv", names, out, &a);
    free(w);
}

static void add_causal(build *b, const char *in, const char *out, int64_t c_in, int64_t c_out, int64_t kernel,
                       int64_t stride, int64_t groups)
{
    add_conv(b, in, out, c_in, c_out, kernel, stride, groups, kernel > stride ? kernel - stride : 0, 0);
}

/* relu(conv(relu(conv(in))) + skip(in)); skip is a convolution, or the input itself. */
static void add_block(build *b, const char *in, const char *out, int64_t c_in, int64_t c_out, int64_t kernel,
                      int64_t stride, int64_t groups, bool project)
{
    char a[32], r[32], c[32], s[32], sum[32], both[80];
    snprintf(a, sizeof a, "%s.1", out);
    snprintf(r, sizeof r, "%s.2", out);
    snprintf(c, sizeof c, "%s.3", out);
    snprintf(s, sizeof s, "%s.4", out);
    snprintf(sum, sizeof sum, "%s.5", out);
    add_causal(b, in, a, c_in, c_out, kernel, stride, groups);
    add_node(b, "Relu", a, r, NULL);
    add_causal(b, r, c, c_out, c_out, kernel, 1, groups);
    if (project)
        add_causal(b, in, s, c_in, c_out, 1, stride, groups);
    snprintf(both, sizeof both, "%s %s", c, project ? s : in);
    add_node(b, "Add", both, sum, NULL);
    add_node(b, "Relu", sum, out, NULL);
}

static void add_head(build *b, const char *in, int64_t channels, int64_t last_frames)
{
    float w[64];
    for (int64_t i = 0; i < channels; i++)
        w[i] = uniform();
    add_ints(b, "starts", 1, (int64_t[]){-last_frames});
    add_ints(b, "ends", 1, (int64_t[]){INT64_MAX});
    add_ints(b, "axes", 1, (int64_t[]){2});
    add_floats(b, "head.w", 2, (int64_t[]){1, channels}, w);
    add_floats(b, "head.b", 1, (int64_t[]){1}, w);
    char names[64];
    snprintf(names, sizeof names, "%s starts ends axes", in);
    bytes a = {0};
    add_node(b, "Slice", names, "last", NULL);
    add_node(b, "GlobalAveragePool", "last", "mean", NULL);
    attr_int(&a, "axis", 1);
    add_node(b, "Flatten", "mean", "flat", &a);
    attr_int(&a, "transB", 1);
    add_node(b, "Gemm", "flat head.w head.b", "logit", &a);
    add_output(b, "logit");
}

enum { WINDOW = 3072, FRAME = 64, CHANNELS = 2 };

/* The shipped architecture, with a score for each detector's arrival and one identity shortcut more. */
static bytes detector_network(int64_t last_frames)
{
    build b = {0};
    add_input(&b, "x", 1, CHANNELS, WINDOW);
    add_causal(&b, "x", "stem", 2, 32, 16, 4, 2);
    add_node(&b, "Relu", "stem", "s", NULL);
    add_block(&b, "s", "p", 32, 48, 7, 2, 2, true);
    add_block(&b, "p", "q", 48, 64, 7, 2, 2, true);
    add_causal(&b, "q", "score", 64, 8, 3, 1, 2);
    add_node(&b, "Tanh", "score", "t", NULL);
    add_causal(&b, "t", "arrival", 8, 2, 1, 1, 2);
    add_output(&b, "arrival");
    add_block(&b, "q", "r", 64, 64, 5, 2, 1, true);
    add_block(&b, "r", "f", 64, 64, 5, 2, 1, true);
    add_block(&b, "f", "g", 64, 64, 3, 1, 1, false);
    add_head(&b, "g", 64, last_frames);
    return finish(&b, 7, 13);
}

static gw_onnx *parsed(bytes file)
{
    gw_onnx *m;
    if (gw_onnx_parse(&m, "test", file.data, file.n) < 0)
        fail_msg("%s", gw_err_detail());
    return m;
}

static gw_net *opened(const gw_onnx *m, const gw_kernels *k, gw_net_mode mode, uint32_t hop)
{
    gw_net *n;
    if (gw_net_open(&n, m, k, mode, hop) < 0)
        fail_msg("%s", gw_err_detail());
    return n;
}

enum { FRAMES = 128, SAMPLES = FRAMES * FRAME, COLUMNS = WINDOW / 16 };

/* Windows [end - WINDOW, end) of x, at every frame: logits and arrival. */
static void all_windows(gw_net *n, const float *x, float *logit, float *arrival)
{
    for (int f = WINDOW / FRAME; f <= FRAMES; f++)
        assert_int_equal(gw_net_window(n, x + f * FRAME - WINDOW, SAMPLES, &logit[f - 1],
                                       arrival + (size_t)(f - 1) * 2 * COLUMNS),
                         GW_OK);
}

static void stream_equals_window(void **state)
{
    (void)state;
    static float x[CHANNELS * SAMPLES], want[FRAMES], got[FRAMES], past[FRAMES];
    static float arrival[FRAMES * 2 * COLUMNS], piece[2 * 32 * 4];
    bytes file = detector_network(30);
    gw_onnx *m = parsed(file);
    for (size_t i = 0; i < CHANNELS * SAMPLES; i++)
        x[i] = uniform() * 2;
    double spread = 0;
    for (int cpu = 0; cpu < 2; cpu++) {
        const gw_kernels k = kernels(cpu);
        gw_net *w = opened(m, &k, GW_NET_WINDOW, 0);
        const gw_net_info *info = gw_net_get_info(w);
        assert_int_equal(info->n_channels, 2);
        assert_int_equal(info->window_samples, WINDOW);
        assert_int_equal(info->n_arrival, 2);
        assert_int_equal(info->arrival_samples, 16);
        if (cpu == 0) { /* slow: every window once, for both */
            all_windows(w, x, want, arrival);
            for (int f = WINDOW / FRAME; f < FRAMES; f++)
                spread = fmax(spread, fabs((double)want[f] - (double)want[f - 1]));
            assert_true(spread > 0.01); /* the logits do vary, or the rest would prove nothing */
        }
        gw_net_close(&w);
        assert_null(w);
        static const int hops[] = {1, 2, 4, 32};
        for (size_t h = 0; h < sizeof hops / sizeof *hops; h++) {
            const uint32_t hop = (uint32_t)hops[h] * FRAME;
            gw_net *n = opened(m, &k, GW_NET_STREAM, hop);
            assert_int_equal(gw_net_get_info(n)->frame_samples, FRAME);
            for (int pass = 0; pass < 2; pass++) { /* the second after a reset: the same bits */
                double worst = 0, worst_arrival = 0;
                for (int f = 0; f + hops[h] <= FRAMES; f += hops[h]) {
                    assert_int_equal(gw_net_step(n, x + f * FRAME, SAMPLES, &got[f], piece), GW_OK);
                    for (int c = 0; c < 2; c++) /* newest columns of the window that ends with this hop */
                        for (int i = 0; i < hops[h] * 4; i++) {
                            const size_t last = (size_t)(f + hops[h] - 1) * 2 * COLUMNS;
                            const size_t at = last + (size_t)(c * COLUMNS + COLUMNS - hops[h] * 4 + i);
                            if (f + hops[h] >= WINDOW / FRAME)
                                worst_arrival = fmax(worst_arrival, fabs((double)piece[c * hops[h] * 4 + i] -
                                                                         (double)arrival[at]));
                        }
                }
                const int n_frames = FRAMES / hops[h] * hops[h];
                for (int f = WINDOW / FRAME - 1; f < n_frames; f++)
                    worst = fmax(worst, fabs((double)got[f] - (double)want[f]));
                if (!(worst <= 1e-4 && worst_arrival <= 1e-4))
                    fail_msg("hop %d frames, cpu %d: logit %g arrival %g", hops[h], cpu, worst,
                             worst_arrival);
                if (pass == 1)
                    assert_memory_equal(got, past, sizeof got);
                memcpy(past, got, sizeof got);
                gw_net_reset(n);
            }
            gw_net_close(&n);
        }
    }
    gw_onnx_free(&m);
    free(file.data);
}

/* A frame's logit uses WINDOW samples and not one more or less than the receptive field says. */
static void memory_ends(void **state)
{
    (void)state;
    bytes file = detector_network(30);
    gw_onnx *m = parsed(file);
    const gw_kernels k = kernels(true);
    gw_net *n = opened(m, &k, GW_NET_STREAM, FRAME);
    float quiet[CHANNELS * FRAME] = {0}, loud[CHANNELS * FRAME], logit, silence = 0;
    for (int i = 0; i < CHANNELS * FRAME; i++)
        loud[i] = 1e3f;
    for (int f = 0; f < 2 * WINDOW / FRAME; f++)
        assert_int_equal(gw_net_step(n, quiet, FRAME, &silence, NULL), GW_OK);
    assert_int_equal(gw_net_step(n, loud, FRAME, &logit, NULL), GW_OK);
    assert_true(logit != silence);
    for (int f = 1; f < WINDOW / FRAME; f++)
        assert_int_equal(gw_net_step(n, quiet, FRAME, &logit, NULL), GW_OK);
    assert_int_equal(gw_net_step(n, quiet, FRAME, &logit, NULL), GW_OK);
    assert_true(logit == silence);
    /* Not-a-number passes through and out again. */
    loud[0] = NAN;
    assert_int_equal(gw_net_step(n, loud, FRAME, &logit, NULL), GW_OK);
    for (int f = 0; f < WINDOW / FRAME; f++)
        assert_int_equal(gw_net_step(n, quiet, FRAME, &logit, NULL), GW_OK);
    assert_true(logit == silence);
    gw_net_close(&n);
    gw_onnx_free(&m);
    free(file.data);
}

/* Opens; expects GW_OK (word NULL) or `err` with the word in the detail. Takes the file. */
static void tried(bytes file, gw_net_mode mode, uint32_t hop, int err, const char *word)
{
    gw_onnx *m = parsed(file);
    const gw_kernels k = kernels(true);
    gw_net *n;
    const int got = gw_net_open(&n, m, &k, mode, hop);
    if (got != err || (word && !strstr(gw_err_detail(), word)))
        fail_msg("got %s '%s', wanted %s '%s'", gw_err_name(got), gw_err_detail(), gw_err_name(err),
                 word ? word : "");
    if (word) {
        assert_non_null(strstr(gw_err_detail(), "test: "));
        assert_null(n);
    }
    gw_net_close(&n);
    gw_onnx_free(&m);
    free(file.data);
}

/* Conv (pads as given) -> pool the last `frames` of 16 -> logit. */
static bytes small(int64_t kernel, int64_t left, int64_t right, int64_t frames)
{
    build b = {0};
    add_input(&b, "x", -1, 3, 64);
    add_conv(&b, "x", "f", 3, 4, kernel, 4, 1, left, right);
    add_head(&b, "f", 4, frames);
    return finish(&b, 7, 13);
}

static void stream_refusals(void **state)
{
    (void)state;
    tried(small(8, 4, 0, 15), GW_NET_STREAM, 0, GW_OK, NULL);
    tried(small(8, 4, 0, 15), GW_NET_STREAM, 12, GW_OK, NULL);
    tried(small(8, 4, 0, 15), GW_NET_STREAM, 6, GW_ERANGE,
          "hop of 6 samples is not a multiple of the frame of 4");
    tried(small(8, 4, 0, 16), GW_NET_STREAM, 0, GW_ENOTSUP, "the first 1 see the padding");
    tried(small(8, 2, 2, 15), GW_NET_STREAM, 0, GW_ENOTSUP, "'Conv.f' looks ahead");
    tried(small(8, 2, 2, 15), GW_NET_WINDOW, 0, GW_OK, NULL);
    tried(small(8, 0, 0, 15), GW_NET_STREAM, 0, GW_ENOTSUP, "does not make one column of each 4");
    tried(detector_network(48), GW_NET_STREAM, 0, GW_ENOTSUP, "see the padding");
}

static void names_all_that_is_missing(void **state)
{
    (void)state;
    build b = {0};
    add_input(&b, "x", 1, 2, 64);
    add_node(&b, "Softmax", "x", "a", NULL);
    add_node(&b, "LSTM", "a", "b", NULL);
    add_node(&b, "Softmax", "x", "unused", NULL);
    add_node(&b, "GlobalAveragePool", "b", "logit", NULL);
    add_output(&b, "logit");
    gw_onnx *m;
    bytes file = finish(&b, 7, 13);
    m = parsed(file);
    const gw_kernels k = kernels(true);
    gw_net *n;
    assert_int_equal(gw_net_open(&n, m, &k, GW_NET_WINDOW, 0), GW_ENOTSUP);
    assert_non_null(strstr(gw_err_detail(), "'Softmax.a'"));
    assert_non_null(strstr(gw_err_detail(), "'LSTM.b'"));
    assert_null(strstr(gw_err_detail(), "unused"));
    gw_onnx_free(&m);
    free(file.data);
}

/* One node between input and output; refused with `word`. */
static void one(const char *op, const char *in, bytes *attrs, const char *word)
{
    build b = {0};
    const float w[24] = {1};
    add_input(&b, "x", 1, 2, 8);
    add_floats(&b, "w", 3, (int64_t[]){3, 2, 3}, w);
    add_floats(&b, "w2", 4, (int64_t[]){3, 2, 1, 3}, w);
    add_floats(&b, "m", 2, (int64_t[]){2, 4}, w);
    add_floats(&b, "v8", 1, (int64_t[]){8}, w);
    add_floats(&b, "v2", 1, (int64_t[]){2}, w);
    add_floats(&b, "empty", 3, (int64_t[]){3, 0, 3}, w);
    add_ints(&b, "i0", 1, (int64_t[]){0});
    add_ints(&b, "i1", 1, (int64_t[]){1});
    add_ints(&b, "imin", 1, (int64_t[]){INT64_MIN});
    add_ints(&b, "imax", 1, (int64_t[]){INT64_MAX});
    add_node(&b, op, in, "logit", attrs);
    add_output(&b, "logit");
    tried(finish(&b, 7, 13), GW_NET_WINDOW, 0, GW_ENOTSUP, word);
}

static void bad_nodes(void **state)
{
    (void)state;
    bytes a = {0};
    one("Conv", "x", NULL, "weights that are not constant");
    one("Conv", "x x", NULL, "weights that are not constant");
    one("Conv", "x w2", NULL, "do not fit");
    one("Conv", "x empty", NULL, "do not fit");
    one("Conv", "x w v2", NULL, "do not fit");
    attr_int(&a, "group", 0);
    one("Conv", "x w", &a, "do not fit");
    attr_int(&a, "group", INT64_MAX);
    one("Conv", "x w", &a, "do not fit");
    attr_ints(&a, "strides", 1, (int64_t[]){0});
    one("Conv", "x w", &a, "make no sense");
    attr_ints(&a, "pads", 2, (int64_t[]){INT64_MAX, INT64_MAX});
    one("Conv", "x w", &a, "make no sense");
    attr_ints(&a, "pads", 4, (int64_t[]){0, 0, 0, 0});
    one("Conv", "x w", &a, "make no sense");
    attr_ints(&a, "dilations", 1, (int64_t[]){5});
    one("Conv", "x w", &a, "a kernel over 11 columns of an input of 8");
    attr_text(&a, "auto_pad", "AROUND");
    one("Conv", "x w", &a, "auto_pad 'AROUND'");
    one("Gemm", "x m", NULL, "not [1, channels]");
    one("Add", "x", NULL, "only one input");
    one("Add", "x v8", NULL, "one number a channel");
    one("Mul", "v2 v2", NULL, "a constant input");
    one("Slice", "x imax imin", NULL, "nothing left");
    one("Slice", "x i0 i1 i0 imin", NULL, "a step");
    one("Slice", "x i0 i1 imin", NULL, "an axis");
    one("Slice", "x i0 i1 i1", NULL, "a cut in anything but time");
    one("Reshape", "x imin", NULL, "does not fit");
    one("Unsqueeze", "x imin", NULL, "not there");
    one("Squeeze", "x imax", NULL, "not 1");
    one("Flatten", "x", NULL, "moves data");
    one("ReduceMean", "x i1", NULL, "anything but time");
    one("BatchNormalization", "x v2 v2 v2 v8", NULL, "for each channel");
    one("Relu", "x", NULL, "output 'logit'");
    one("Nothing", "x", NULL, "operator not supported");
}

static void other_interfaces(void **state)
{
    (void)state;
    build b = {0};
    add_input(&b, "x", 1, 2, 8);
    add_input(&b, "z", 1, 2, 8);
    add_node(&b, "GlobalAveragePool", "x", "logit", NULL);
    add_output(&b, "logit");
    tried(finish(&b, 7, 13), GW_NET_WINDOW, 0, GW_ENOTSUP, "2 inputs");
    add_input(&b, "x", 1, 1, -1);
    add_node(&b, "GlobalAveragePool", "x", "logit", NULL);
    add_output(&b, "logit");
    tried(finish(&b, 7, 13), GW_NET_WINDOW, 0, GW_ENOTSUP, "fixed window");
    add_input(&b, "x", 1, 1, 8);
    add_node(&b, "GlobalAveragePool", "x", "score", NULL);
    add_output(&b, "score");
    tried(finish(&b, 7, 13), GW_NET_WINDOW, 0, GW_ENOTSUP, "'score' is neither");
    add_input(&b, "x", 4, 1, 8);
    add_node(&b, "GlobalAveragePool", "x", "logit", NULL);
    add_output(&b, "logit");
    tried(finish(&b, 7, 13), GW_NET_WINDOW, 0, GW_ENOTSUP, "[1, channels, samples]");
    add_input(&b, "x", 1, 1, 8); /* no weights at all: the mean of the window */
    add_node(&b, "GlobalAveragePool", "x", "logit", NULL);
    add_output(&b, "logit");
    bytes file = finish(&b, 7, 13);
    gw_onnx *m = parsed(file);
    const gw_kernels k = kernels(true);
    gw_net *n = opened(m, &k, GW_NET_WINDOW, 0);
    float y = 0;
    assert_int_equal(gw_net_window(n, (const float[]){1, 2, 3, 4, 5, 6, 7, 9}, 8, &y, NULL), GW_OK);
    assert_true(y == 37.f / 8);
    assert_int_equal(gw_net_step(n, NULL, 0, &y, NULL), GW_EBUG);
    gw_net_close(&n);
    n = opened(m, &k, GW_NET_STREAM, 4); /* frames of one sample: a running mean */
    float four[4];
    assert_int_equal(gw_net_step(n, (const float[]){1, 2, 3, 4}, 4, four, NULL), GW_OK);
    assert_int_equal(gw_net_step(n, (const float[]){5, 6, 7, 9}, 4, four, NULL), GW_OK);
    assert_true(four[3] == 37.f / 8);
    gw_net_close(&n);
    gw_onnx_free(&m);
    free(file.data);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(stream_equals_window),
        cmocka_unit_test(memory_ends),
        cmocka_unit_test(stream_refusals),
        cmocka_unit_test(names_all_that_is_missing),
        cmocka_unit_test(bad_nodes),
        cmocka_unit_test(other_interfaces),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
