/* SPDX-License-Identifier: GPL-3.0-or-later
 * Networks: a stream equals its windows, for hops of 1, 2, 4 and 32 frames and over 10,000 hops with gaps
 * and restarts, causal or not, in every implementation of the kernels; what cannot run, or cannot stream, is
 * refused with names and reasons. (That windows are right is shown against torch and ONNX's own cases by
 * tests/check/onnx_cases.py.) */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "tests/unit/net_build.h"

enum { FRAMES = 128, SAMPLES = FRAMES * FRAME, COLUMNS = WINDOW / 16 };

/* Windows [end - WINDOW, end) of x, at every frame: logits and arrival. */
static void all_windows(gw_net *n, const float *x, float *logit, float *arrival)
{
    for (int f = WINDOW / FRAME; f <= FRAMES; f++)
        run_detector(n, x + f * FRAME - WINDOW, SAMPLES, &logit[f - 1],
                     arrival + (size_t)(f - 1) * 2 * COLUMNS);
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
        gw_net *w = opened(m, &k, window_mode());
        const gw_net_info *info = gw_net_get_info(w);
        const gw_net_output *arrives = &info->output[gw_net_find_output(w, "arrival")];
        assert_int_equal(info->n_channels, 2);
        assert_int_equal(info->window_samples, WINDOW);
        assert_int_equal(arrives->channels, 2);
        assert_int_equal(arrives->column_samples, 16);
        assert_int_equal(gw_net_find_output(w, "arriva"), -1);
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
            gw_net *n = opened(m, &k, stream_mode(hop));
            assert_int_equal(gw_net_get_info(n)->frame_samples, FRAME);
            assert_int_equal(gw_net_get_info(n)->lookahead_samples, 0);
            for (int pass = 0; pass < 2; pass++) { /* the second after a reset: the same bits */
                double worst = 0, worst_arrival = 0;
                for (int f = 0; f + hops[h] <= FRAMES; f += hops[h]) {
                    run_detector(n, x + f * FRAME, SAMPLES, &got[f], piece);
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
    gw_net *n = opened(m, &k, stream_mode(FRAME));
    float quiet[CHANNELS * FRAME] = {0}, loud[CHANNELS * FRAME], logit, silence = 0;
    for (int i = 0; i < CHANNELS * FRAME; i++)
        loud[i] = 1e3f;
    for (int f = 0; f < 2 * WINDOW / FRAME; f++)
        run_detector(n, quiet, FRAME, &silence, NULL);
    run_detector(n, loud, FRAME, &logit, NULL);
    assert_true(logit != silence);
    for (int f = 1; f < WINDOW / FRAME; f++)
        run_detector(n, quiet, FRAME, &logit, NULL);
    run_detector(n, quiet, FRAME, &logit, NULL);
    assert_true(logit == silence);
    /* Not-a-number passes through and out again. */
    loud[0] = NAN;
    run_detector(n, loud, FRAME, &logit, NULL);
    for (int f = 0; f < WINDOW / FRAME; f++)
        run_detector(n, quiet, FRAME, &logit, NULL);
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
    const int got = gw_net_open(&n, m, &k, &(gw_net_options){.mode = mode, .hop_samples = hop});
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
    tried(small(8, 2, 2, 15), GW_NET_STREAM, 0, GW_ENOTSUP, "it looks ahead");
    tried(small(8, 2, 2, 15), GW_NET_WINDOW, 0, GW_OK, NULL);
    tried(small(8, 0, 0, 15), GW_NET_STREAM, 0, GW_OK, NULL); /* no padding at all */
    tried(detector_network(48), GW_NET_STREAM, 0, GW_ENOTSUP, "see the padding");
}

static void names_all_that_is_missing(void **state)
{
    (void)state;
    build b = {0};
    add_input(&b, "x", 1, 2, 64);
    add_node(&b, "Softmax", "x", "a", NULL);
    add_node(&b, "Sin", "a", "b", NULL);
    add_node(&b, "Softmax", "x", "unused", NULL);
    add_node(&b, "GlobalAveragePool", "b", "logit", NULL);
    add_output(&b, "logit");
    gw_onnx *m;
    bytes file = finish(&b, 7, 13);
    m = parsed(file);
    const gw_kernels k = kernels(true);
    gw_net *n;
    assert_int_equal(gw_net_open(&n, m, &k, &(gw_net_options){0}), GW_ENOTSUP);
    assert_non_null(strstr(gw_err_detail(), "'Softmax.a'"));
    assert_non_null(strstr(gw_err_detail(), "'Sin.b'"));
    assert_null(strstr(gw_err_detail(), "unused"));
    gw_onnx_free(&m);
    free(file.data);
}

/* One node between input and output; refused with `word`, by the simplifier or by the plan. */
static void one(const char *op, const char *in, bytes *attrs, int err, const char *word)
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
    tried(finish(&b, 7, 13), GW_NET_WINDOW, 0, err, word);
}

static void bad_nodes(void **state)
{
    (void)state;
    bytes a = {0};
    one("Conv", "x", NULL, GW_EFORMAT, "input 1 is missing");
    one("Conv", "x x", NULL, GW_ENOTSUP, "weights that are not constant");
    one("Conv", "x w2", NULL, GW_EMISMATCH, "weights of 4");
    one("Conv", "x empty", NULL, GW_EMISMATCH, "with weights for");
    one("Conv", "x w v2", NULL, GW_EMISMATCH, "bias is not one number for each");
    attr_int(&a, "group", 0);
    one("Conv", "x w", &a, GW_EMISMATCH, "0 groups");
    attr_int(&a, "group", INT64_MAX);
    one("Conv", "x w", &a, GW_EMISMATCH, "9223372036854775807 groups");
    attr_ints(&a, "strides", 1, (int64_t[]){0});
    one("Conv", "x w", &a, GW_ERANGE, "strides of 0");
    attr_ints(&a, "pads", 2, (int64_t[]){INT64_MAX, INT64_MAX});
    one("Conv", "x w", &a, GW_ERANGE, "pads of 9223372036854775807");
    attr_ints(&a, "pads", 4, (int64_t[]){0, 0, 0, 0});
    one("Conv", "x w", &a, GW_EMISMATCH, "pads has 4 values");
    attr_ints(&a, "dilations", 1, (int64_t[]){5});
    one("Conv", "x w", &a, GW_EMISMATCH, "a window of 11 over 8");
    attr_text(&a, "auto_pad", "AROUND");
    one("Conv", "x w", &a, GW_EFORMAT, "auto_pad 'AROUND'");
    one("Gemm", "x m", NULL, GW_EMISMATCH, "cannot be multiplied");
    one("Add", "x", NULL, GW_EFORMAT, "input 1 is missing");
    one("Add", "x v8", NULL, GW_ENOTSUP, "one number a channel");
    one("Mul", "v2 v2", NULL, GW_ENOTSUP, "output 'logit' does not depend on the input");
    one("Slice", "x imax imin", NULL, GW_ENOTSUP, "nothing left");
    one("Slice", "x i0 i1 i0 imin", NULL, GW_ENOTSUP, "a step");
    one("Slice", "x i0 i1 imin", NULL, GW_EMISMATCH, "axis -9223372036854775808");
    one("Slice", "x i0 i1 i0", NULL, GW_ENOTSUP, "output 'logit'");
    one("Reshape", "x imin", NULL, GW_EFORMAT, "a negative dimension");
    one("Unsqueeze", "x imin", NULL, GW_EMISMATCH, "axis -9223372036854775808 of a tensor");
    one("Squeeze", "x imax", NULL, GW_EMISMATCH, "axis 9223372036854775807 of a tensor of 3");
    one("Flatten", "x", NULL, GW_ENOTSUP, "does not depend on the input");
    one("ReduceMean", "x i1", NULL, GW_ENOTSUP, "anything but time");
    one("BatchNormalization", "x v2 v2 v2 v8", NULL, GW_EMISMATCH, "'v8' is not one number for each channel");
    one("Nothing", "x", NULL, GW_ENOTSUP, "are not built: 'Nothing.logit'");
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
    add_input(&b, "x", 1, 1, 8); /* no weights at all: the mean of the window */
    add_node(&b, "GlobalAveragePool", "x", "score", NULL);
    add_output(&b, "score");
    bytes file = finish(&b, 7, 13);
    gw_onnx *m = parsed(file);
    const gw_kernels k = kernels(true);
    gw_net *n = opened(m, &k, window_mode());
    float y = 0, *out[] = {&y};
    const gw_net_in in = {.x = (const float[]){1, 2, 3, 4, 5, 6, 7, 9}, .channel_stride = 8, .n_windows = 1};
    assert_int_equal(gw_net_run(n, &in, out), GW_OK);
    assert_true(y == 37.f / 8);
    assert_int_equal(gw_net_run(n, &(gw_net_in){.features = &in.x, .n_windows = 1}, out), GW_EBUG);
    gw_net_close(&n);
    n = opened(m, &k, stream_mode(4)); /* frames of one sample: a running mean */
    float four[4], *outs[] = {four};
    assert_int_equal(gw_net_run(n, &(gw_net_in){.x = in.x, .channel_stride = 4}, outs), GW_OK);
    assert_int_equal(gw_net_run(n, &(gw_net_in){.x = in.x + 4, .channel_stride = 4}, outs), GW_OK);
    assert_true(four[3] == 37.f / 8);
    assert_int_equal(gw_net_run(n, &(gw_net_in){.x = in.x, .n_windows = 2}, outs), GW_EBUG);
    gw_net_close(&n);
    gw_onnx_free(&m);
    free(file.data);
}

/* ---- Networks that look ahead ---- */

/* y = transposed convolution; w [in][out][kernel]. */
static void add_transposed(build *b, const char *in, const char *out, int64_t c_in, int64_t c_out,
                           int64_t kernel, int64_t stride, int64_t left, int64_t right, int64_t more)
{
    const size_t n = (size_t)(c_in * c_out * kernel);
    float *w = malloc((n + (size_t)c_out) * sizeof *w);
    assert_non_null(w);
    for (size_t i = 0; i < n + (size_t)c_out; i++)
        w[i] = uniform() * (i < n ? 1.7f / sqrtf((float)(c_in * kernel / stride)) : 0.1f);
    char names[256], weight[64], bias[64];
    snprintf(weight, sizeof weight, "%s.w", out);
    snprintf(bias, sizeof bias, "%s.b", out);
    snprintf(names, sizeof names, "%s %s %s", in, weight, bias);
    add_floats(b, weight, 3, (int64_t[]){c_in, c_out, kernel}, w);
    add_floats(b, bias, 1, (int64_t[]){c_out}, w + n);
    bytes a = {0};
    attr_ints(&a, "pads", 2, (int64_t[]){left, right});
    attr_ints(&a, "strides", 1, (int64_t[]){stride});
    if (more)
        attr_ints(&a, "output_padding", 1, (int64_t[]){more});
    add_node(b, "ConvTranspose", names, out, &a);
    free(w);
}

enum { CLEAN_WINDOW = 1024, CLEAN_EARLY = 81, CLEAN_LATE = 96 };

/* DeepClean's network, narrower: conv 7, four strided down, four transposed up, conv 7; tanh between. */
static bytes cleaning_network(void)
{
    build b = {0};
    add_input(&b, "x", 1, 3, CLEAN_WINDOW);
    add_conv(&b, "x", "a", 3, 3, 7, 1, 1, 3, 3);
    add_node(&b, "Tanh", "a", "a.t", NULL);
    const char *last = "a.t";
    static const char *const down[] = {"d0", "d1", "d2", "d3"}, *const down_t[] = {"d0.t", "d1.t", "d2.t",
                                                                                   "d3.t"};
    static const char *const lift[] = {"u0", "u1", "u2", "u3"}, *const lift_t[] = {"u0.t", "u1.t", "u2.t",
                                                                                   "u3.t"};
    static const int64_t width[] = {3, 4, 6, 8, 10};
    for (int i = 0; i < 4; i++) {
        add_conv(&b, last, down[i], width[i], width[i + 1], 7, 2, 1, 3, 3);
        add_node(&b, "Tanh", down[i], down_t[i], NULL);
        last = down_t[i];
    }
    for (int i = 0; i < 4; i++) {
        add_transposed(&b, last, lift[i], width[4 - i], width[3 - i], 7, 2, 3, 3, 1);
        add_node(&b, "Tanh", lift[i], lift_t[i], NULL);
        last = lift_t[i];
    }
    add_conv(&b, last, "noise", 3, 1, 7, 1, 1, 3, 3);
    add_output(&b, "noise");
    return finish(&b, 7, 13);
}

static void looks_ahead(void **state)
{
    (void)state;
    enum { LONG = 4096 };
    static float x[3 * LONG], y[LONG], window[CLEAN_WINDOW];
    bytes file = cleaning_network();
    gw_onnx *m = parsed(file);
    for (size_t i = 0; i < 3 * LONG; i++)
        x[i] = uniform();
    for (int cpu = 0; cpu < 2; cpu++) {
        const gw_kernels k = kernels(cpu);
        gw_net *w = opened(m, &k, window_mode());
        static const uint32_t hops[] = {16, 48, 256};
        for (int h = 0; h < 3; h++) {
            gw_net *n = opened(m, &k, stream_mode(hops[h]));
            const gw_net_info *info = gw_net_get_info(n);
            assert_int_equal(info->frame_samples, 16);
            assert_int_equal(info->lookahead_samples, CLEAN_LATE);
            assert_int_equal(info->receptive_samples, 193);
            assert_int_equal(info->output[0].delay_samples, CLEAN_LATE);
            assert_int_equal(info->output[0].warmup_columns, CLEAN_LATE + CLEAN_EARLY);
            assert_int_equal(info->output[0].columns, hops[h]);
            size_t done = 0;
            for (; done + hops[h] <= LONG; done += hops[h]) {
                float *out[] = {y + done};
                assert_int_equal(gw_net_run(n, &(gw_net_in){.x = x + done, .channel_stride = LONG}, out),
                                 GW_OK);
            }
            double edge = 0;
            for (size_t start = 0; start + CLEAN_WINDOW <= done; start += 16 * 37) {
                float *out[] = {window};
                assert_int_equal(
                    gw_net_run(w, &(gw_net_in){.x = x + start, .channel_stride = LONG, .n_windows = 1}, out),
                    GW_OK);
                for (size_t i = start ? CLEAN_EARLY : 0; i < CLEAN_WINDOW - CLEAN_LATE; i++) {
                    const double error = fabs((double)y[start + i + CLEAN_LATE] - (double)window[i]);
                    if (i < CLEAN_EARLY)
                        edge = fmax(edge, error); /* after a start the stream is not the window's yet */
                    else if (cpu ? error > 1e-6 : y[start + i + CLEAN_LATE] != window[i])
                        fail_msg("cpu %d hop %u window %zu sample %zu: %g %g", cpu, hops[h], start, i,
                                 (double)y[start + i + CLEAN_LATE], (double)window[i]);
                }
                if (start &&
                    !cpu) /* one sample earlier would be wrong: the numbers are not larger than they must be
                           */
                    assert_true(y[start + CLEAN_EARLY - 1 + CLEAN_LATE] != window[CLEAN_EARLY - 1] &&
                                y[start + CLEAN_WINDOW] != window[CLEAN_WINDOW - CLEAN_LATE]);
            }
            assert_true(edge > 0.01);
            gw_net_close(&n);
        }
        gw_net_close(&w);
    }
    gw_onnx_free(&m);
    free(file.data);
}

/* Transposed convolutions of all sorts against their definition, and against their own stream. */
static void transposed(void **state)
{
    (void)state;
    /* kernel, stride, left, right, more */
    static const int64_t sorts[][5] = {{7, 2, 3, 3, 1}, {4, 4, 0, 0, 0}, {5, 3, 1, 2, 2}, {3, 1, 1, 1, 0},
                                       {2, 5, 0, 0, 3}, {9, 4, 6, 2, 0}, {1, 2, 0, 0, 0}, {8, 3, 7, 7, 1}};
    enum { IN = 24, CI = 2, CO = 3 };
    for (size_t s = 0; s < sizeof sorts / sizeof *sorts; s++) {
        const int64_t kernel = sorts[s][0], stride = sorts[s][1], left = sorts[s][2], more = sorts[s][4];
        const int64_t columns = (IN - 1) * stride + kernel + more - left - sorts[s][3];
        build b = {0};
        state64 = 7 + s;
        add_input(&b, "x", 1, CI, IN);
        add_transposed(&b, "x", "y", CI, CO, kernel, stride, left, sorts[s][3], more);
        add_output(&b, "y");
        bytes file = finish(&b, 7, 13);
        state64 = 7 + s;
        float w[CI * CO * 9 + CO], x[CI * IN], got[CO * 200];
        for (int64_t i = 0; i < CI * CO * kernel + CO; i++)
            w[i] = uniform() * (i < CI * CO * kernel ? 1.7f / sqrtf((float)(CI * kernel / stride)) : 0.1f);
        for (int i = 0; i < CI * IN; i++)
            x[i] = uniform();
        gw_onnx *m = parsed(file);
        const gw_kernels k = kernels(s & 1);
        gw_net *n = opened(m, &k, window_mode());
        assert_int_equal(gw_net_get_info(n)->output[0].columns, columns);
        float *out[] = {got};
        assert_int_equal(gw_net_run(n, &(gw_net_in){.x = x, .channel_stride = IN, .n_windows = 1}, out),
                         GW_OK);
        for (int64_t o = 0; o < CO; o++)
            for (int64_t t = 0; t < columns; t++) {
                double want = (double)w[CI * CO * kernel + o];
                for (int64_t i = 0; i < IN; i++)
                    for (int64_t c = 0; c < CI; c++)
                        if (t + left - i * stride >= 0 && t + left - i * stride < kernel)
                            want += (double)w[(c * CO + o) * kernel + t + left - i * stride] *
                                    (double)x[c * IN + i];
                if (fabs(want - (double)got[o * columns + t]) > 1e-5)
                    fail_msg("sort %zu channel %d column %d: %g, want %g", s, (int)o, (int)t,
                             (double)got[o * columns + t], want);
            }
        gw_net_close(&n);
        gw_onnx_free(&m);
        free(file.data);
    }
}

/* 10,000 hops with gaps and restarts in between: every 61st logit against its window. */
static void long_stream(void **state)
{
    (void)state;
    enum { HOPS = 10000 };
    bytes file = detector_network(30);
    gw_onnx *m = parsed(file);
    const gw_kernels k = kernels(true);
    gw_net *n = opened(m, &k, stream_mode(FRAME)), *w = opened(m, &k, (gw_net_options){.share = n});
    float *x = malloc((size_t)CHANNELS * HOPS * FRAME * sizeof *x);
    assert_non_null(x);
    for (size_t i = 0; i < (size_t)CHANNELS * HOPS * FRAME; i++)
        x[i] = uniform();
    int good = 0, compared = 0;
    double worst = 0;
    for (int h = 0; h < HOPS; h++, good++) {
        float logit, want;
        if (h % 1237 == 1000) { /* a gap: hops that never come */
            h += 5;
            gw_net_reset(n);
            good = 0;
        }
        if (h % 2999 == 2000) { /* a restart, from what was saved */
            const size_t bytes_ = gw_net_state_bytes(n);
            void *saved = malloc(bytes_);
            assert_non_null(saved);
            gw_net_state_save(n, saved);
            gw_net_close(&n);
            n = opened(m, &k, stream_mode(FRAME));
            assert_int_equal(gw_net_state_load(n, saved, bytes_), GW_OK);
            free(saved);
        }
        run_detector(n, x + h * FRAME, (size_t)HOPS * FRAME, &logit, NULL);
        if (good + 1 < WINDOW / FRAME || (h % 61 != 0 && good + 1 > WINDOW / FRAME))
            continue;
        run_detector(w, x + (h + 1) * FRAME - WINDOW, (size_t)HOPS * FRAME, &want, NULL);
        worst = fmax(worst, fabs((double)logit - (double)want));
        compared++;
    }
    assert_true(compared > 150);
    if (!(worst <= 1e-5))
        fail_msg("worst %g", worst);
    free(x);
    gw_net_close(&n);
    gw_net_close(&w);
    gw_onnx_free(&m);
    free(file.data);
}

/* Padding-free and centred: the head leaves out what sees the padding on either side. */
static void head_in_the_middle(void **state)
{
    (void)state;
    for (int bad = 0; bad < 2; bad++) {
        build b = {0};
        add_input(&b, "x", 1, 2, 96);
        add_conv(&b, "x", "c", 2, 4, 5, 2, 1, 2, 2);
        add_node(&b, "Relu", "c", "r", NULL);
        add_conv(&b, "r", "e", 4, 4, 5, 1, 1, 2, 2);
        add_ints(&b, "starts", 1, (int64_t[]){3});
        add_ints(&b, "ends", 1, (int64_t[]){bad ? -2 : -3});
        add_ints(&b, "axes", 1, (int64_t[]){2});
        add_node(&b, "Slice", "e starts ends axes", "middle", NULL);
        add_node(&b, "GlobalAveragePool", "middle", "logit", NULL);
        add_output(&b, "logit");
        bytes file = finish(&b, 7, 13);
        if (bad) {
            tried(file, GW_NET_STREAM, 0, GW_ENOTSUP, "the last 3 see the padding");
            break;
        }
        gw_onnx *m = parsed(file);
        const gw_kernels k = kernels(false); /* to the bit */
        gw_net *n = opened(m, &k, stream_mode(0)), *w = opened(m, &k, window_mode());
        assert_int_equal(gw_net_get_info(n)->output[0].delay_samples, 0);
        float x[2 * 200], y[4], want[4];
        for (int i = 0; i < 400; i++)
            x[i] = uniform();
        for (int h = 0; h < 100; h++) {
            float *out[] = {y}, *wanted[] = {want};
            assert_int_equal(gw_net_run(n, &(gw_net_in){.x = x + 2 * h, .channel_stride = 200}, out), GW_OK);
            if (2 * (h + 1) < 96)
                continue;
            assert_int_equal(
                gw_net_run(w, &(gw_net_in){.x = x + 2 * (h + 1) - 96, .channel_stride = 200, .n_windows = 1},
                           wanted),
                GW_OK);
            assert_memory_equal(y, want, sizeof y);
        }
        gw_net_close(&n);
        gw_net_close(&w);
        gw_onnx_free(&m);
        free(file.data);
    }
}

/* What stands in the way of a stream is said node by node, also of a net for windows. */
static void says_why(void **state)
{
    (void)state;
    build b = {0};
    bytes a = {0};
    const float one4[4] = {1, 1, 1, 1};
    add_input(&b, "x", 1, 2, 64);
    add_conv(&b, "x", "c", 2, 4, 5, 2, 1, 2, 2);
    add_floats(&b, "ones", 1, (int64_t[]){4}, one4);
    attr_int(&a, "num_groups", 2);
    add_node(&b, "GroupNormalization", "c ones ones", "g", &a);
    add_node(&b, "GlobalAveragePool", "g", "mean", NULL);
    add_node(&b, "Sigmoid", "mean", "gate", NULL);
    add_node(&b, "Mul", "g gate", "y", NULL);
    add_output(&b, "y");
    bytes file = finish(&b, 8, 21);
    gw_onnx *m = parsed(file);
    const gw_kernels k = kernels(true);
    gw_net *n;
    assert_int_equal(gw_net_open(&n, m, &k, &(gw_net_options){.mode = GW_NET_STREAM}), GW_ENOTSUP);
    assert_non_null(
        strstr(gw_err_detail(), "'GroupNormalization.g' takes its statistics from the whole window"));
    assert_non_null(strstr(gw_err_detail(), "'Mul.y' applies what it pooled from the whole window"));
    n = opened(m, &k, window_mode());
    int count, told = 0;
    const gw_net_layer *layer = gw_net_layers(n, &count);
    for (int i = 0; i < count; i++) {
        told += layer[i].not_streamable != NULL;
        if (strcmp(layer[i].node, "Conv.c") == 0) {
            assert_string_equal(layer[i].what, "conv 5 / 2");
            assert_int_equal(layer[i].parameters, 44);
            assert_int_equal(layer[i].columns, 32);
        }
    }
    assert_true(told >= 3 && count >= 4);
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
        cmocka_unit_test(looks_ahead),
        cmocka_unit_test(transposed),
        cmocka_unit_test(long_stream),
        cmocka_unit_test(head_in_the_middle),
        cmocka_unit_test(says_why),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
