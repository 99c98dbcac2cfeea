/* SPDX-License-Identifier: GPL-3.0-or-later
 * Networks in parts and in batches: trunks and merged part together are the whole network, for windows,
 * streams, slides and one to three detectors, whether the first layer mixes them or a later one; all
 * detectors' trunks in one batch, windows that lie anywhere, passes of any size, shared weights and saved
 * states change no bit; columns that no output sees are left out and change none. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "tests/unit/net_build.h"

enum { LENGTH = 512, MOST = 3, STREAM = 3 * LENGTH };

typedef enum sort {
    STEM_MIXES,   /* the very first layer mixes the detectors, one convolution */
    BLOCK_MIXES,  /* a layer of each, then a block whose first layer and whose skip mix them; has "arrival" */
    LOOKS_AHEAD,  /* the same with centred kernels, and a series as output */
    ALL_THE_SAME, /* BLOCK_MIXES, with equal weights for the detectors */
    SORTS
} sort;

/* A convolution of one group a detector. */
static void add_each(build *b, const char *in, const char *out, int64_t detectors, int64_t c_in,
                     int64_t c_out, int64_t kernel, int64_t stride, int64_t left, int64_t right, bool same)
{
    const uint64_t start = state64;
    if (!same) {
        add_conv(b, in, out, detectors * c_in, detectors * c_out, kernel, stride, detectors, left, right);
        return;
    }
    const size_t n = (size_t)(c_out * c_in * kernel), each = (size_t)c_out;
    float w[MOST * 1024], bias[MOST * 64];
    for (int64_t d = 0; d < detectors; d++) {
        state64 = start;
        for (size_t i = 0; i < n; i++)
            w[(size_t)d * n + i] = uniform();
        for (size_t i = 0; i < each; i++)
            bias[(size_t)d * each + i] = uniform();
    }
    char weight[32], add[32], names[100];
    snprintf(weight, sizeof weight, "%s.w", out);
    snprintf(add, sizeof add, "%s.b", out);
    snprintf(names, sizeof names, "%s %s %s", in, weight, add);
    add_floats(b, weight, 3, (int64_t[]){detectors * c_out, c_in, kernel}, w);
    add_floats(b, add, 1, (int64_t[]){detectors * c_out}, bias);
    bytes a = {0};
    attr_ints(&a, "pads", 2, (int64_t[]){left, right});
    attr_ints(&a, "strides", 1, (int64_t[]){stride});
    attr_int(&a, "group", detectors);
    add_node(b, "Conv", names, out, &a);
}

static gw_onnx *network(sort s, int64_t detectors, bytes *file)
{
    build b = {0};
    const bool same = s == ALL_THE_SAME;
    state64 = 11;
    add_input(&b, "x", 1, detectors, LENGTH);
    if (s == STEM_MIXES) {
        add_causal(&b, "x", "stem", detectors, 8, 7, 2, 1);
        add_node(&b, "Relu", "stem", "s", NULL);
        add_block(&b, "s", "f", 8, 12, 5, 2, 1, true);
        add_block(&b, "f", "g", 12, 12, 3, 1, 1, false);
        add_head(&b, "g", 12, 20);
    } else if (s == LOOKS_AHEAD) {
        add_each(&b, "x", "stem", detectors, 1, 6, 5, 1, 2, 2, false);
        add_node(&b, "Relu", "stem", "s", NULL);
        add_conv(&b, "s", "c", detectors * 6, 10, 7, 2, 1, 3, 3);
        add_node(&b, "Tanh", "c", "t", NULL);
        add_conv(&b, "t", "e", 10, 10, 3, 1, 1, 1, 1);
        add_conv(&b, "s", "skip", detectors * 6, 10, 1, 2, 1, 0, 0);
        add_node(&b, "Add", "skip e", "sum", NULL);
        add_node(&b, "Relu", "sum", "r", NULL);
        add_conv(&b, "r", "y", 10, 2, 3, 1, 1, 1, 1);
        add_output(&b, "y");
    } else {
        add_each(&b, "x", "stem", detectors, 1, 8, 8, 4, 4, 0, same);
        add_node(&b, "Relu", "stem", "s", NULL);
        add_each(&b, "s", "score", detectors, 8, 1, 3, 1, 2, 0, same);
        add_node(&b, "Sigmoid", "score", "arrival", NULL);
        add_output(&b, "arrival");
        add_block(&b, "s", "f", 8 * detectors, 12, 5, 2, 1, true);
        add_head(&b, "f", 12, 20);
    }
    *file = finish(&b, 7, 13);
    return parsed(*file);
}

static void close_to(const float *got, const float *want, size_t n, const char *what, int s, int detectors)
{
    double most = 0;
    for (size_t i = 0; i < n; i++)
        most = fmax(most, fabs((double)want[i]));
    assert_true(most > 0.01);
    for (size_t i = 0; i < n; i++)
        if (!(fabs((double)got[i] - (double)want[i]) <= 1e-5 * fmax(most, 1)))
            fail_msg("%s, sort %d, %d detectors, value %zu: %g, whole %g", what, s, detectors, i,
                     (double)got[i], (double)want[i]);
}

static void fill(float *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        x[i] = uniform();
}

/* What the merged part gives, by name, or the trunk's output of that name. */
static int last_output(const gw_net *n)
{
    const int logit = gw_net_find_output(n, "logit");
    return logit >= 0 ? logit : gw_net_find_output(n, "y");
}

/* Windows: features of each detector once, in one batch, then pairings of any of them. */
static void windows_in_parts(void **state)
{
    (void)state;
    enum { SETS = 3, WIDE = 16384 };
    static float x[SETS * MOST * LENGTH], features[SETS * MOST][WIDE], one[WIDE], slid[MOST * LENGTH];
    static float many[SETS * MOST * WIDE], got[2 * LENGTH], want[2 * LENGTH], *no_out[4];
    for (int at = 0; at < SORTS * 2 * 2; at++) {
        const int s = at / 4, detectors = 2 + at / 2 % 2, cpu = at % 2;
        bytes file;
        gw_onnx *m = network((sort)s, detectors, &file);
        const gw_kernels k = kernels(cpu);
        fill(x, SETS * MOST * LENGTH);
        gw_net *whole = opened(m, &k, window_mode());
        gw_net *all = opened(m, &k, (gw_net_options){.part = GW_NET_TRUNK, .detector = GW_NET_ALL_DETECTORS});
        gw_net *merged = opened(m, &k, (gw_net_options){.part = GW_NET_MERGED});
        const gw_net_info *t = gw_net_get_info(all), *i = gw_net_get_info(merged);
        const size_t each = (size_t)t->output[0].columns * t->output[0].channels;
        assert_true(each <= WIDE && t->output[0].channels_last);
        assert_int_equal(t->n_channels, 1);
        assert_int_equal(t->n_detectors, detectors);
        assert_int_equal(i->n_detectors, detectors);
        assert_int_equal(i->n_channels, t->output[0].channels);
        assert_int_equal(i->window_samples, t->output[0].columns);
        float *out[4] = {many};
        const uint32_t windows = (uint32_t)(SETS * detectors);
        const gw_net_in in = {.x = x, .window_stride = LENGTH, .n_windows = windows};
        assert_int_equal(gw_net_run(all, &in, out), GW_OK);
        for (int w = 0; w < SETS * detectors; w++)
            memcpy(features[w], many + (size_t)w * each, each * sizeof **features);
        for (int d = 0; d < detectors; d++) { /* one by one: the same bits */
            gw_net *trunk =
                opened(m, &k, (gw_net_options){.part = GW_NET_TRUNK, .detector = (uint32_t)d, .share = all});
            out[0] = one;
            for (int w = d; w < SETS * detectors; w += detectors) {
                assert_int_equal(gw_net_run(trunk, &(gw_net_in){.x = x + w * LENGTH, .n_windows = 1}, out),
                                 GW_OK);
                assert_memory_equal(one, features[w], each * sizeof *one);
            }
            gw_net_close(&trunk);
        }
        for (int slide = 0; slide < SETS * SETS; slide++) {
            const float *paired[MOST];
            for (int d = 0; d < detectors; d++) {
                const int w = (d ? slide % SETS : slide / SETS) * detectors + d;
                paired[d] = features[w];
                memcpy(slid + d * LENGTH, x + w * LENGTH, LENGTH * sizeof *x);
            }
            memcpy(out, no_out, sizeof out);
            out[last_output(merged)] = got;
            assert_int_equal(gw_net_run(merged, &(gw_net_in){.features = paired, .n_windows = 1}, out),
                             GW_OK);
            memcpy(out, no_out, sizeof out);
            out[last_output(whole)] = want;
            assert_int_equal(
                gw_net_run(whole, &(gw_net_in){.x = slid, .channel_stride = LENGTH, .n_windows = 1}, out),
                GW_OK);
            const gw_net_output *o = &i->output[last_output(merged)];
            close_to(got, want, (size_t)o->channels * o->columns, "window", s, detectors);
        }
        gw_net_close(&whole);
        gw_net_close(&all);
        gw_net_close(&merged);
        gw_onnx_free(&m);
        free(file.data);
    }
}

/* Runs a whole network hop by hop over [detectors][STREAM]. Returns columns of the last output; late: by how
 * many its newest column is. */
static int stream_whole(const gw_onnx *m, const gw_kernels *k, const float *x, float *y, int *late)
{
    gw_net *n = opened(m, k, (gw_net_options){.mode = GW_NET_STREAM, .hop_samples = 32});
    const gw_net_info *i = gw_net_get_info(n);
    const gw_net_output *o = &i->output[last_output(n)];
    float piece[2 * 64], *out[4] = {0};
    int columns = 0;
    out[last_output(n)] = piece;
    for (int h = 0; h < STREAM / 32; h++, columns += (int)o->columns) {
        assert_int_equal(gw_net_run(n, &(gw_net_in){.x = x + h * 32, .channel_stride = STREAM}, out), GW_OK);
        memcpy(y + columns, piece, o->columns * sizeof *y); /* its first channel */
    }
    *late = o->column_samples ? (int)(o->delay_samples / o->column_samples) : 0;
    gw_net_close(&n);
    return columns;
}

/* Streams: the trunks as streams of one net, the slides as streams of another; both break off and go on from
 * a saved state. A slide is what the whole network gives on data so slid. */
static void streams_in_parts(void **state)
{
    (void)state;
    enum { HOP = 32, HOPS = STREAM / HOP, WIDE = 64, SLIDES = 4, ROOM = STREAM * WIDE };
    static const int slide[SLIDES] = {0, 1, 5, 16}; /* hops by which the later detectors are late */
    static float x[MOST * STREAM], slid[MOST * STREAM], ring[MOST][ROOM], piece[MOST * HOP * WIDE];
    static float got[SLIDES][STREAM], want[STREAM], part[SLIDES * 2 * HOP];
    for (int at = 0; at < SORTS * 2 * 2; at++) {
        const int s = at / 4, detectors = 2 + at / 2 % 2, cpu = at % 2;
        bytes file;
        gw_onnx *m = network((sort)s, detectors, &file);
        const gw_kernels k = kernels(cpu);
        fill(x, MOST * STREAM);
        memset(ring, 0, sizeof ring);
        const gw_net_options trunk_options = {.mode = GW_NET_STREAM,
                                              .part = GW_NET_TRUNK,
                                              .detector = GW_NET_ALL_DETECTORS,
                                              .hop_samples = HOP};
        gw_net *trunk = opened(m, &k, trunk_options);
        const gw_net_output *f = &gw_net_get_info(trunk)->output[0];
        assert_int_equal(gw_net_get_info(trunk)->batch, detectors);
        const uint32_t columns = f->columns, each = columns * f->channels;
        const gw_net_options merged_options = {
            .mode = GW_NET_STREAM, .part = GW_NET_MERGED, .hop_samples = columns, .batch = SLIDES};
        gw_net *merged = opened(m, &k, merged_options);
        const gw_net_output *o = &gw_net_get_info(merged)->output[last_output(merged)];
        assert_true(each <= HOP * WIDE && (size_t)HOPS * each <= ROOM);
        for (int h = 0; h < HOPS; h++) {
            if (h == HOPS / 2) { /* a restart of both */
                gw_net **both[] = {&trunk, &merged};
                for (int n = 0; n < 2; n++) {
                    const size_t size = gw_net_state_bytes(*both[n]);
                    void *saved = malloc(size);
                    assert_non_null(saved);
                    gw_net_state_save(*both[n], saved);
                    gw_net_close(both[n]);
                    *both[n] = opened(m, &k, n ? merged_options : trunk_options);
                    assert_int_equal(gw_net_state_load(*both[n], saved, size), GW_OK);
                    free(saved);
                }
                f = &gw_net_get_info(trunk)->output[0];
                o = &gw_net_get_info(merged)->output[last_output(merged)];
            }
            const float *from[MOST], *paired[SLIDES * MOST];
            float *out[4] = {piece};
            for (int d = 0; d < detectors; d++) /* each detector's samples lie somewhere else */
                from[d] = x + d * STREAM + h * HOP;
            assert_int_equal(gw_net_run(trunk, &(gw_net_in){.channel = from}, out), GW_OK);
            for (int d = 0; d < detectors; d++)
                memcpy(ring[d] + (size_t)h * each, piece + (size_t)d * each, each * sizeof *piece);
            static const float nothing[HOP * WIDE];
            for (int w = 0; w < SLIDES; w++)
                for (int d = 0; d < detectors; d++) {
                    const int then = h - (d ? slide[w] : 0);
                    paired[w * detectors + d] = then < 0 ? nothing : ring[d] + (size_t)then * each;
                }
            memset(out, 0, sizeof out);
            out[last_output(merged)] = part;
            assert_int_equal(gw_net_run(merged, &(gw_net_in){.features = paired}, out), GW_OK);
            for (int w = 0; w < SLIDES; w++)
                memcpy(got[w] + (size_t)h * o->columns, part + (size_t)w * o->channels * o->columns,
                       o->columns * sizeof *part);
        }
        /* Columns by which the parts are later than the whole (both look ahead, each to its own hops). */
        const uint32_t unit = o->column_samples ? o->column_samples * f->column_samples : 1;
        const int late_parts = (int)((f->delay_samples + o->delay_samples * f->column_samples) / unit);
        for (int w = 0; w < SLIDES; w++) {
            int late = 0;
            memset(slid, 0, sizeof slid);
            for (int d = 0; d < detectors; d++) {
                const int by = d ? slide[w] * HOP : 0;
                memcpy(slid + d * STREAM + by, x + d * STREAM, (size_t)(STREAM - by) * sizeof *x);
            }
            const int total = stream_whole(m, &k, slid, want, &late);
            const int more = late_parts - late, skip = total / 2 + total / 4; /* windows full of data */
            assert_true(more >= 0 && more < skip / 2);
            close_to(got[w] + skip + more, want + skip, (size_t)(total - skip - more), "stream", s,
                     detectors);
        }
        gw_net_close(&trunk);
        gw_net_close(&merged);
        gw_onnx_free(&m);
        free(file.data);
    }
}

static void refused(gw_onnx *m, bytes *file, uint32_t detector, int err, const char *word)
{
    const gw_kernels k = kernels(true);
    gw_net *n;
    const gw_net_options o = {.part = GW_NET_TRUNK, .detector = detector};
    assert_int_equal(gw_net_open(&n, m, &k, &o), err);
    assert_null(n);
    assert_non_null(strstr(gw_err_detail(), word));
    if (!file)
        return;
    gw_onnx_free(&m);
    free(file->data);
}

static void no_parts(void **state)
{
    (void)state;
    bytes file, a = {0};
    gw_onnx *m = network(BLOCK_MIXES, 1, &file);
    refused(m, &file, 0, GW_ENOTSUP, "one detector");
    m = network(STEM_MIXES, 2, &file);
    refused(m, &file, 2, GW_ERANGE, "detector 2 of 2");
    build b = {0};
    const float two[2] = {1, 1};
    add_input(&b, "x", 1, 2, 64);
    add_floats(&b, "ones", 1, (int64_t[]){2}, two);
    attr_int(&a, "num_groups", 1);
    add_node(&b, "GroupNormalization", "x ones ones", "g", &a);
    add_conv(&b, "g", "y", 2, 4, 3, 1, 1, 1, 1);
    add_output(&b, "y");
    file = finish(&b, 8, 21);
    refused(parsed(file), &file, 0, GW_ENOTSUP, "the first layer mixes the detectors");
    b = (build){0}; /* two places, one of which is no convolution */
    add_input(&b, "x", 1, 2, 64);
    add_conv(&b, "x", "a", 2, 4, 3, 1, 2, 1, 1);
    add_node(&b, "Relu", "a", "r", NULL);
    add_conv(&b, "r", "c", 4, 4, 3, 1, 1, 1, 1);
    add_node(&b, "Add", "c a", "sum", NULL);
    add_node(&b, "Relu", "sum", "y", NULL);
    add_output(&b, "y");
    file = finish(&b, 7, 13);
    refused(parsed(file), &file, 0, GW_ENOTSUP, "meet in 2 places");
}

/* Trunks of detectors with equal weights are the same function, and of models that share them. */
static void equal_trunks(void **state)
{
    (void)state;
    const gw_kernels k = kernels(true);
    for (int s = 0; s < SORTS; s++) {
        bytes file, again;
        gw_onnx *m = network((sort)s, 2, &file), *other = network((sort)s, 2, &again);
        const gw_net_options first = {.part = GW_NET_TRUNK}, second = {.part = GW_NET_TRUNK, .detector = 1};
        const gw_net_options stream = {.part = GW_NET_TRUNK, .mode = GW_NET_STREAM};
        gw_net *a = opened(m, &k, first), *b = opened(other, &k, first), *c = opened(m, &k, second),
               *d = opened(m, &k, stream), *e = opened(m, &k, window_mode());
        assert_true(gw_net_equal(a, b));
        assert_false(gw_net_equal(a, c)); /* their parts of the mixing layer are not */
        assert_false(gw_net_equal(a, d));
        assert_false(gw_net_equal(a, e));
        gw_net *nets[] = {a, b, c, d, e};
        for (int i = 0; i < 5; i++)
            gw_net_close(&nets[i]);
        /* As many layers as one detector's where all are the same, but for the parts of the mixing layers. */
        gw_net *all = opened(m, &k, (gw_net_options){.part = GW_NET_TRUNK, .detector = GW_NET_ALL_DETECTORS});
        gw_net *one = opened(m, &k, first);
        int n_all, n_one;
        (void)gw_net_layers(all, &n_all);
        (void)gw_net_layers(one, &n_one);
        assert_int_equal(n_all - n_one, s == ALL_THE_SAME  ? 2
                                        : s == STEM_MIXES  ? 1
                                        : s == LOOKS_AHEAD ? 3
                                                           : 4);
        assert_true(gw_net_get_info(all)->flop == gw_net_get_info(one)->flop);
        gw_net_close(&all);
        gw_net_close(&one);
        gw_onnx_free(&m);
        gw_onnx_free(&other);
        free(file.data);
        free(again.data);
    }
}

/* The merged part says where the detectors meet, and a slide of the shipped kind costs a fraction. */
static void says_where_they_meet(void **state)
{
    (void)state;
    bytes file = detector_network(16);
    gw_onnx *m = parsed(file);
    const gw_kernels k = kernels(true);
    gw_net *whole = opened(m, &k, window_mode()),
           *merged = opened(m, &k, (gw_net_options){.part = GW_NET_MERGED});
    int count, meets = 0;
    const gw_net_layer *layer = gw_net_layers(merged, &count);
    for (int i = 0; i < count; i++) {
        if (!layer[i].meets)
            continue;
        meets++;
        assert_non_null(strstr(layer[i].what, "parts of 2 detectors"));
        assert_string_equal(layer[i].node, meets == 1 ? "Conv.r.1" : "Conv.r.4");
    }
    assert_int_equal(meets, 2);
    assert_true(3 * gw_net_get_info(merged)->flop < gw_net_get_info(whole)->flop);
    gw_net_close(&whole);
    gw_net_close(&merged);
    gw_onnx_free(&m);
    free(file.data);
}

/* A network of all sorts of layers whose head sees the middle; `full`: and all series as outputs, so that
 * nothing can be left out. */
static bytes middle(bool full, bool norm)
{
    build b = {0};
    bytes a = {0};
    const float ones[6] = {1, 1, 1, 1, 1, 1};
    state64 = 5;
    add_input(&b, "x", 1, 2, 200);
    add_conv(&b, "x", "c", 2, 6, 5, 1, 1, 2, 2);
    attr_ints(&a, "kernel_shape", 1, (int64_t[]){3});
    attr_ints(&a, "strides", 1, (int64_t[]){2});
    attr_ints(&a, "pads", 2, (int64_t[]){1, 1});
    add_node(&b, "MaxPool", "c", "p", &a); /* 100 */
    if (norm) {
        add_floats(&b, "ones", 1, (int64_t[]){6}, ones);
        attr_int(&a, "num_groups", 3);
        add_node(&b, "GroupNormalization", "p ones ones", "g", &a);
    } else {
        add_node(&b, "Tanh", "p", "g", NULL);
    }
    float w[6 * 6 * 4];
    fill(w, 6 * 6 * 4);
    add_floats(&b, "up.w", 3, (int64_t[]){6, 6, 4}, w);
    attr_ints(&a, "strides", 1, (int64_t[]){2});
    attr_ints(&a, "pads", 2, (int64_t[]){1, 1});
    add_node(&b, "ConvTranspose", "g up.w", "up", &a); /* 200 */
    attr_ints(&a, "kernel_shape", 1, (int64_t[]){5});
    attr_ints(&a, "strides", 1, (int64_t[]){2});
    attr_ints(&a, "pads", 2, (int64_t[]){1, 3}); /* its first column of use lies within a phase */
    attr_int(&a, "count_include_pad", 1);
    add_node(&b, "AveragePool", "up", "down", &a); /* 100 */
    attr_int(&a, "axis", 1);
    add_node(&b, "Concat", "down g", "both", &a);
    add_conv(&b, "both", "mix", 12, 6, 9, 1, 1, 8, 0);
    add_node(&b, "Mul", "mix g", "gated", NULL);
    add_ints(&b, "starts", 1, (int64_t[]){45});
    add_ints(&b, "ends", 1, (int64_t[]){60});
    add_ints(&b, "axes", 1, (int64_t[]){2});
    add_node(&b, "Slice", "gated starts ends axes", "some", NULL);
    add_node(&b, "GlobalAveragePool", "some", "logit", NULL);
    add_output(&b, "logit");
    if (full) {
        const char *const all[] = {"c", "p", "up", "down", "mix", "gated"};
        for (size_t i = 0; i < sizeof all / sizeof *all; i++)
            add_output(&b, all[i]);
    }
    return finish(&b, 8, 21);
}

static void columns_left_out(void **state)
{
    (void)state;
    enum { WINDOWS = 5, STEP = 17, LONG = 200 + WINDOWS * STEP };
    static float x[2 * LONG];
    for (int at = 0; at < 4; at++) {
        const gw_kernels k = kernels(at & 1);
        float got[WINDOWS * 6], want[WINDOWS * 6], *out[8] = {0};
        double flop[2];
        for (int full = 0; full < 2; full++) {
            bytes file = middle(full, at & 2);
            gw_onnx *m = parsed(file);
            gw_net *n = opened(m, &k, (gw_net_options){.batch = 3});
            flop[full] = gw_net_get_info(n)->flop;
            state64 = 77;
            fill(x, 2 * LONG);
            out[gw_net_find_output(n, "logit")] = full ? want : got;
            const gw_net_in in = {
                .x = x, .channel_stride = LONG, .window_stride = STEP, .n_windows = WINDOWS};
            assert_int_equal(gw_net_run(n, &in, out), GW_OK);
            memset(out, 0, sizeof out);
            gw_net_close(&n);
            gw_onnx_free(&m);
            free(file.data);
        }
        if (at & 1) /* sums in another order, perhaps */
            close_to(got, want, WINDOWS * 6, "columns left out", at, 2);
        else
            assert_memory_equal(got, want, sizeof got);
        assert_true(flop[0] < flop[1] * (at & 2 ? 0.7 : 0.4));
    }
}

/* Windows that overlap, at once and one by one, in passes of any size, with weights of another net, and each
 * channel of each window somewhere else. */
static void batches(void **state)
{
    (void)state;
    enum { WINDOWS = 11, STEP = 100, LONG = WINDOW + WINDOWS * STEP };
    static float x[CHANNELS * LONG], one[WINDOWS], many[WINDOWS];
    static float arrive_one[WINDOWS][2 * 192], arrive_many[WINDOWS][2 * 192];
    bytes file = detector_network(30);
    gw_onnx *m = parsed(file);
    fill(x, CHANNELS * LONG);
    const gw_kernels k = kernels(true);
    gw_net *first = opened(m, &k, (gw_net_options){.batch = 1}), *before = first;
    for (int w = 0; w < WINDOWS; w++)
        run_detector(first, x + w * STEP, LONG, &one[w], arrive_one[w]);
    const float *anywhere[WINDOWS * CHANNELS];
    for (int i = 0; i < WINDOWS * CHANNELS; i++)
        anywhere[i] = x + i % CHANNELS * LONG + i / CHANNELS * STEP;
    for (uint32_t pass = 0; pass < 10; pass++) { /* 0: as many as it likes */
        gw_net *n = opened(m, &k, (gw_net_options){.batch = pass / 2, .share = before});
        gw_net_close(&before); /* what was shared lives on */
        memset(many, 0, sizeof many);
        float *out[2];
        out[gw_net_find_output(n, "logit")] = many;
        out[gw_net_find_output(n, "arrival")] = arrive_many[0];
        gw_net_in in = {.x = x, .channel_stride = LONG, .window_stride = STEP, .n_windows = WINDOWS};
        if (pass % 2)
            in = (gw_net_in){.channel = anywhere, .n_windows = WINDOWS};
        assert_int_equal(gw_net_run(n, &in, out), GW_OK);
        assert_memory_equal(one, many, sizeof one);
        assert_memory_equal(arrive_one, arrive_many, sizeof arrive_one);
        before = n;
    }
    gw_net_close(&before);
    gw_onnx_free(&m);
    free(file.data);
}

/* A saved state goes on where it was; one stream of two forgets and the other does not notice. */
static void states(void **state)
{
    (void)state;
    enum { HOPS = 70, HALF = 60 };
    enum { EACH = CHANNELS * HOPS * FRAME };
    static float x[2 * EACH], all[HOPS][2], rest[HOPS][2];
    bytes file = detector_network(30);
    gw_onnx *m = parsed(file);
    for (size_t i = 0; i < 2 * EACH; i++)
        x[i] = uniform();
    const gw_kernels k = kernels(true);
    const gw_net_options two = {.mode = GW_NET_STREAM, .batch = 2};
    gw_net *a = opened(m, &k, two), *b = opened(m, &k, two), *other = opened(m, &k, stream_mode(2 * FRAME));
    float *out[2] = {0};
    const int logit = gw_net_find_output(a, "logit");
    void *saved = NULL;
    const size_t bytes_ = gw_net_state_bytes(a);
    gw_net_in in = {.channel_stride = HOPS * FRAME, .window_stride = EACH};
    for (int h = 0; h < HOPS; h++) {
        if (h == HALF) {
            saved = malloc(bytes_);
            assert_non_null(saved);
            gw_net_state_save(a, saved);
        }
        in.x = x + h * FRAME;
        out[logit] = all[h];
        assert_int_equal(gw_net_run(a, &in, out), GW_OK);
    }
    assert_int_equal(gw_net_state_load(b, saved, bytes_), GW_OK);
    for (int h = HALF; h < HOPS; h++) {
        in.x = x + h * FRAME;
        out[logit] = rest[h];
        if (h == HALF + 3)
            gw_net_reset_stream(b, 1);
        assert_int_equal(gw_net_run(b, &in, out), GW_OK);
        assert_true(rest[h][0] == all[h][0]);
        assert_true((rest[h][1] == all[h][1]) == (h < HALF + 3));
    }
    assert_int_equal(gw_net_state_load(b, saved, bytes_ - 1), GW_EMISMATCH);
    assert_int_equal(gw_net_state_load(other, saved, bytes_), GW_EMISMATCH);
    ((unsigned char *)saved)[0] ^= 1;
    assert_int_equal(gw_net_state_load(b, saved, bytes_), GW_EMISMATCH);
    free(saved);
    gw_net_close(&a);
    gw_net_close(&b);
    gw_net_close(&other);
    gw_onnx_free(&m);
    free(file.data);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(windows_in_parts),
        cmocka_unit_test(streams_in_parts),
        cmocka_unit_test(no_parts),
        cmocka_unit_test(equal_trunks),
        cmocka_unit_test(says_where_they_meet),
        cmocka_unit_test(columns_left_out),
        cmocka_unit_test(batches),
        cmocka_unit_test(states),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
