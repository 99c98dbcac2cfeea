/* SPDX-License-Identifier: GPL-3.0-or-later
 * Networks for unit tests: random numbers, layers with random weights, the shipped architecture. Included by
 * tests of kernels/nn/net.h, after cmocka.h. */
#ifndef GW_TEST_NET_BUILD_H
#define GW_TEST_NET_BUILD_H

#include "kernels/nn/net.h"
#include "tests/unit/onnx_build.h"

#include <math.h>

static uint64_t state64 = 20150914;

static inline float uniform(void) /* -1 .. 1 */
{
    state64 ^= state64 << 13; /* xorshift64 (Marsaglia 2003) */
    state64 ^= state64 >> 7;
    state64 ^= state64 << 17;
    return (float)(int32_t)(state64 >> 32) * 0x1p-31f;
}

static inline gw_kernels kernels(bool cpu)
{
    gw_kernels k;
    memset(&k, 0, sizeof k);
    gw_conv_ref(&k.conv);
    gw_tensor_ref(&k.tensor);
    if (cpu)
        gw_conv_cpu(&k.conv);
    return k;
}

/* A convolution with random weights and bias, left-padded by `left`, right-padded by `right`. */
static inline void add_conv(build *b, const char *in, const char *out, int64_t c_in, int64_t c_out,
                            int64_t kernel, int64_t stride, int64_t groups, int64_t left, int64_t right)
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

static inline void add_causal(build *b, const char *in, const char *out, int64_t c_in, int64_t c_out,
                              int64_t kernel, int64_t stride, int64_t groups)
{
    add_conv(b, in, out, c_in, c_out, kernel, stride, groups, kernel > stride ? kernel - stride : 0, 0);
}

/* relu(conv(relu(conv(in))) + skip(in)); skip is a convolution, or the input itself. */
static inline void add_block(build *b, const char *in, const char *out, int64_t c_in, int64_t c_out,
                             int64_t kernel, int64_t stride, int64_t groups, bool project)
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

static inline void add_head(build *b, const char *in, int64_t channels, int64_t last_frames)
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
static inline bytes detector_network(int64_t last_frames)
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

static inline gw_onnx *parsed(bytes file)
{
    gw_onnx *m;
    if (gw_onnx_parse(&m, "test", file.data, file.n) < 0)
        fail_msg("%s", gw_err_detail());
    return m;
}

static inline gw_net *opened(const gw_onnx *m, const gw_kernels *k, gw_net_options o)
{
    gw_net *n;
    if (gw_net_open(&n, m, k, &o) < 0)
        fail_msg("%s", gw_err_detail());
    return n;
}

static inline gw_net_options window_mode(void)
{
    return (gw_net_options){.mode = GW_NET_WINDOW};
}

static inline gw_net_options stream_mode(uint32_t hop)
{
    return (gw_net_options){.mode = GW_NET_STREAM, .hop_samples = hop};
}

/* Outputs of the detection network by name. */
static inline void run_detector(gw_net *n, const float *x, size_t stride, float *logit, float *arrival)
{
    float *out[2];
    assert_int_equal(gw_net_get_info(n)->n_outputs, 2);
    out[gw_net_find_output(n, "logit")] = logit;
    out[gw_net_find_output(n, "arrival")] = arrival;
    assert_int_equal(gw_net_run(n, &(gw_net_in){.x = x, .channel_stride = stride, .n_windows = 1}, out),
                     GW_OK);
}

#endif
