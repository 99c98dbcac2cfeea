/* SPDX-License-Identifier: GPL-3.0-or-later
 * Time slides against the whole network run on data that were slid by hand: the shipped model, noise, a hole,
 * and its passage through the delays. */
#include "pipeline/parallel.h"
#include "pipeline/stages/slides.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { FRAMES = 32, SAMPLES = 64 * FRAMES, HOPS = 24, HOLE = 9, SLIDES = 37, START = 1000 };

static gw_kernels kernels;
static gw_onnx *onnx;
static gw_model model;
static float noise[2][HOPS * SAMPLES];

static int set_up(void **state)
{
    (void)state;
    uint64_t seed = 7;
    for (int d = 0; d < 2; d++)
        for (int i = 0; i < HOPS * SAMPLES; i++) {
            double sum = 0;
            for (int k = 0; k < 12; k++) {
                seed = seed * 6364136223846793005u + 1442695040888963407u;
                sum += (double)(seed >> 11) * 0x1p-53;
            }
            noise[d][i] = (float)(sum - 6);
        }
    assert_int_equal(gw_parallel_start(2), GW_OK);
    assert_int_equal(gw_kernels_init(&kernels, GW_KERNELS_CUDA), GW_OK);
    assert_int_equal(gw_onnx_load(&onnx, "models/bbh-small.onnx"), GW_OK);
    return gw_model_read(&model, onnx);
}

static int tear_down(void **state)
{
    (void)state;
    gw_onnx_free(&onnx);
    gw_parallel_stop();
    return 0;
}

/* The statistic of each frame of the pair (first detector at hop h, second at h - offset), by the whole
 * network, begun anew after each hole of either; NAN as long as it has not seen a window and the smoothing.
 */
static void by_hand(int32_t offset, float statistic[HOPS * FRAMES])
{
    gw_net *net;
    assert_int_equal(
        gw_net_open(&net, onnx, &kernels, &(gw_net_options){.mode = GW_NET_STREAM, .hop_samples = SAMPLES}),
        GW_OK);
    const gw_net_info *info = gw_net_get_info(net);
    static float logit[HOPS * FRAMES];
    float *out[4] = {0};
    const int at = gw_net_find_output(net, "logit");
    assert_true(at >= 0 && info->n_outputs <= 4);
    const int64_t need = model.window_samples / model.hop_samples + model.smoothing_frames - 1;
    int64_t good = 0;
    for (int32_t h = 0; h < HOPS; h++) {
        const int32_t hop[2] = {offset < 0 ? h + offset : h, offset > 0 ? h - offset : h};
        const bool whole = hop[0] >= 0 && hop[1] >= 0 && hop[0] != HOLE && hop[1] != HOLE && h != HOLE;
        if (!whole) {
            gw_net_reset(net);
            good = 0;
        } else {
            const float *x[2] = {noise[0] + hop[0] * SAMPLES, noise[1] + hop[1] * SAMPLES};
            out[at] = logit + h * FRAMES;
            assert_int_equal(gw_net_run(net, &(gw_net_in){.channel = x}, out), GW_OK);
        }
        for (int f = h * FRAMES; f < (h + 1) * FRAMES; f++) {
            statistic[f] = NAN;
            if (!whole || ++good < need)
                continue;
            statistic[f] = 0;
            for (uint32_t i = 0; i < model.smoothing_frames; i++)
                statistic[f] += logit[f - (int)i] / (float)model.smoothing_frames;
        }
    }
    gw_net_close(&net);
}

static void test_slides_are_the_network_on_slid_data(void **state)
{
    (void)state;
    gw_slides *s;
    int32_t offset[SLIDES];
    for (int k = 0; k < SLIDES; k++)
        offset[k] = k % 2 ? -(k + 1) / 2 : k / 2; /* 0, -1, 1, -2 ... */
    const gw_slides_conf conf = {.onnx = onnx,
                                 .model = &model,
                                 .kernels = &kernels,
                                 .hop_frames = FRAMES,
                                 .n_slides = SLIDES,
                                 .offset_hops = offset};
    assert_int_equal(gw_slides_new(&s, &conf), GW_OK);
    static float got[SLIDES][HOPS * FRAMES], want[HOPS * FRAMES];
    for (int32_t h = 0; h < HOPS; h++) {
        for (int k = 0; k < SLIDES; k++)
            for (int f = 0; f < FRAMES; f++)
                got[k][h * FRAMES + f] = NAN;
        if (h == HOLE)
            continue;
        const float *x[2] = {noise[0] + h * SAMPLES, noise[1] + h * SAMPLES};
        assert_int_equal(gw_slides_hop(s, START + h, x), GW_OK);
        for (uint32_t k = 0; k < SLIDES; k++)
            memcpy(&got[k][h * FRAMES], gw_slides_statistic(s, k), FRAMES * sizeof(float));
    }
    double worst = 0;
    int known = 0;
    for (uint32_t k = 0; k < SLIDES; k++) {
        by_hand(offset[k], want);
        for (int f = 0; f < HOPS * FRAMES; f++) {
            assert_int_equal(isnan(got[k][f]), isnan(want[f]));
            if (isnan(want[f]))
                continue;
            known++;
            const double off = fabs((double)got[k][f] - (double)want[f]) / (1 + fabs((double)want[f]));
            worst = off > worst ? off : worst;
        }
    }
    print_message("%d frames, worst difference %.1e\n", known, worst);
    assert_true(known > 2000);
    assert_true(worst < 2e-5);
    gw_slides_destroy(&s);
    assert_null(s);
}

static void test_no_going_back(void **state)
{
    (void)state;
    gw_slides *s;
    const gw_slides_conf conf = {.onnx = onnx,
                                 .model = &model,
                                 .kernels = &kernels,
                                 .hop_frames = FRAMES,

                                 .n_slides = 2,
                                 .offset_hops = (const int32_t[]){3, -3}};
    assert_int_equal(gw_slides_new(&s, &conf), GW_OK);
    const float *x[2] = {noise[0], noise[1]};
    assert_true(gw_slides_ring_bytes(s) > 0);
    assert_int_equal(gw_slides_hop(s, START, x), GW_OK);
    assert_int_equal(gw_slides_hop(s, START, x), GW_EBUG);
    gw_slides_destroy(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_slides_are_the_network_on_slid_data),
                                       cmocka_unit_test(test_no_going_back)};
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
