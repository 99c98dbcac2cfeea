/* SPDX-License-Identifier: GPL-3.0-or-later
 * The source `repeat` and the sink `null` without a runner: what is sent, that slabs are filled once only,
 * what is refused, and what null says at the end. */
#include "pipeline/stage.h"

#include <inttypes.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

extern const gw_kind gw_kind_repeat, gw_kind_null;

/* ---- a stand-in for the runner ---- */

struct gw_env {
    gw_timebase timebase;
    int64_t waited_ns;
};

const char *gw_env_name(const gw_env *env)
{
    (void)env;
    return "rig";
}

void gw_env_start(gw_env *env, double pace, int64_t data_ns)
{
    env->timebase = (gw_timebase){pace, 0, data_ns};
}

gw_timebase gw_env_timebase(const gw_env *env)
{
    return env->timebase;
}

int gw_env_wait_until(gw_env *env, int64_t data_ns)
{
    env->waited_ns = data_ns;
    return GW_OK;
}

typedef struct rig {
    const gw_kind *kind;
    gw_conf_file *file;
    void *state;
    gw_env env;
    gw_plan plan;
} rig;

static int make(rig *r, const gw_kind *kind, const char *yaml, int n_in, const gw_spec *in)
{
    *r = (rig){.kind = kind};
    GW_TRY(gw_conf_parse(&r->file, "test.yaml", yaml, strlen(yaml)));
    r->state = calloc(1, kind->state_size);
    assert_non_null(r->state);
    GW_TRY(kind->configure(r->state, gw_conf_root(r->file)));
    GW_TRY(gw_conf_done(gw_conf_root(r->file), "rig"));
    r->plan = (gw_plan){.name = "rig", .n_in = n_in, .in = in};
    GW_TRY(kind->plan(r->state, &r->plan));
    return kind->open(r->state, &r->env);
}

static void unmake(rig *r)
{
    if (r->state && r->kind->close)
        r->kind->close(r->state);
    for (int o = 0; o < r->plan.n_out; o++)
        gw_spec_free(&r->plan.out[o]);
    free(r->state);
    gw_conf_free(&r->file);
}

/* ---- repeat ---- */

enum { BLOCK = 100, SLABS = 3 };
static const char *const five =
    "{channels: 5, streams: 2, rate: 1600Hz, start: 1000, duration: 1s, seed: 7, pace: 2}";

static void test_blocks(void **state)
{
    (void)state;
    rig r;
    assert_int_equal(make(&r, &gw_kind_repeat, five, 0, NULL), GW_OK);
    assert_int_equal(r.plan.n_out, 2);
    const uint32_t channels[2] = {3, 2};
    const char *first[2] = {"REPEAT:WHITE_000000", "REPEAT:WHITE_000003"};
    static float slab[2][SLABS][3 * BLOCK];
    for (int p = 0; p < 2; p++) {
        const gw_spec *o = &r.plan.out[p];
        assert_int_equal(o->n_channels, channels[p]);
        assert_int_equal(o->block_samples, BLOCK);
        assert_int_equal(o->dtype, GW_F32);
        assert_string_equal(o->channel[0], first[p]);
        const size_t n = channels[p] * (size_t)BLOCK;
        for (int k = 0; k < 16; k++) {
            gw_piece piece = {.data = slab[p][k % SLABS], .capacity_samples = BLOCK};
            assert_int_equal(gw_kind_repeat.next(r.state, p, &piece), GW_OK);
            assert_int_equal(piece.n_samples, BLOCK);
            assert_int_equal(piece.sample0, 1000 * 1600 + k * BLOCK);
            assert_int_equal(r.env.waited_ns, 1000 * GW_SECOND_NS + (k + 1) * GW_SECOND_NS / 16);
            float *x = slab[p][k % SLABS];
            if (k < SLABS) /* the same block in each ... */
                assert_memory_equal(x, slab[p][0], (n - 1) * sizeof *x);
            else /* ... and never touched again */
                assert_true(x[n - 1] == 1000.0f);
            x[n - 1] = 1000.0f;
        }
        gw_piece piece = {.data = slab[p][0], .capacity_samples = BLOCK};
        assert_int_equal(gw_kind_repeat.next(r.state, p, &piece), GW_EEND);
    }
    assert_true(r.env.timebase.pace == 2 && r.env.timebase.anchor_data_ns == 1000 * GW_SECOND_NS);
    assert_memory_not_equal(slab[0][0], slab[1][0], BLOCK * sizeof(float));
    unmake(&r);
}

static void test_noise(void **state)
{
    (void)state;
    static float x[64 * 1024], y[64 * 1024];
    float *to[] = {x, y};
    for (int seed = 0; seed < 2; seed++) {
        char yaml[100];
        snprintf(yaml, sizeof yaml, "{channels: 64, seed: %d}", seed);
        rig r;
        assert_int_equal(make(&r, &gw_kind_repeat, yaml, 0, NULL), GW_OK);
        gw_piece piece = {.data = to[seed], .capacity_samples = 1024};
        assert_int_equal(gw_kind_repeat.next(r.state, 0, &piece), GW_OK);
        assert_int_equal(piece.sample0, INT64_C(1400000000) * 16384);
        unmake(&r);
    }
    double sum = 0, square = 0, cross = 0;
    for (int i = 0; i < 64 * 1024; i++) {
        sum += (double)x[i];
        square += (double)x[i] * (double)x[i];
        cross += (double)x[i] * (double)y[i];
    }
    assert_true(fabs(sum / 65536) < 0.02 && fabs(square / 65536 - 1) < 0.03 && fabs(cross / 65536) < 0.02);
}

static void test_refusals(void **state)
{
    (void)state;
    static const char *const bad[][2] = {
        {"{channels: 5, rate: 16384Hz, block: 1/10s}", "whole number"},
        {"{channels: 5, duration: 100ms}", "whole number"},
        {"{channels: 5, duration: 10ms}", "whole number"},
        {"{channels: 5, start: 1000.01}", "multiple of the block"},
        {"{channels: 5, block: 100000s}", "whole number"},
        {"{channels: 1, streams: 2}", "cannot be split"},
        {"{channels: 0}", "channels"},
        {"{channels: 5, streams: 17}", "streams"},
        {"{rate: 16384Hz}", "channels"},
        {"{channels: 5, sede: 3}", "unknown key"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        rig r;
        assert_int_equal(make(&r, &gw_kind_repeat, bad[i][0], 0, NULL), GW_ECONFIG);
        if (!strstr(gw_err_detail(), bad[i][1]))
            fail_msg("%s: %s", bad[i][0], gw_err_detail());
        unmake(&r);
    }
}

/* ---- null ---- */

/* What drain logs. */
static void end_line(rig *r, char *text, size_t n)
{
    FILE *file = tmpfile();
    assert_non_null(file);
    fflush(stderr);
    const int before = dup(STDERR_FILENO);
    dup2(fileno(file), STDERR_FILENO);
    assert_int_equal(gw_kind_null.drain(r->state, NULL), GW_OK);
    fflush(stderr);
    dup2(before, STDERR_FILENO);
    close(before);
    rewind(file);
    text[fread(text, 1, n - 1, file)] = '\0';
    fclose(file);
}

#define assert_says(text, part)                                                                              \
    do {                                                                                                     \
        if (!strstr(text, part))                                                                             \
            fail_msg("'%s' is not in '%s'", part, text);                                                     \
    } while (0)

static void test_checksum(void **state)
{
    (void)state;
    static int32_t x[4][600];
    uint32_t want = 0, without_2 = 0;
    for (uint32_t c = 0; c < 4; c++)
        for (uint32_t i = 0; i < 600; i++) {
            x[c][i] = (int32_t)((c * 600 + i) * 2654435761u);
            want += (uint32_t)x[c][i];
            without_2 += c == 2 ? 0 : (uint32_t)x[c][i];
        }
    const gw_spec spec = {.dtype = GW_I32, .n_channels = 4};
    const uint32_t length[] = {600, 1, 7, 200};
    const uint8_t no_2 = 0x0b;
    char text[512], sum[128];
    for (int absent = 0; absent < 2; absent++)
        for (size_t l = 0; l < 4; l++) {
            rig r;
            assert_int_equal(make(&r, &gw_kind_null, "{}", 1, &spec), GW_OK);
            uint32_t blocks = 0;
            for (uint32_t i = 0, n; i < 600; i += n, blocks++) {
                n = length[l] < 600 - i ? length[l] : 600 - i;
                const gw_view v = {.data = &x[0][i],
                                   .stride = 600,
                                   .n_samples = n,
                                   .n_channels = 4,
                                   .presence = absent ? &no_2 : NULL};
                assert_int_equal(gw_kind_null.take(r.state, 0, &v), GW_OK);
            }
            end_line(&r, text, sizeof text);
            snprintf(sum, sizeof sum, "checksum %08" PRIx32, absent ? without_2 : want);
            assert_says(text, sum);
            snprintf(sum, sizeof sum,
                     "rig %" PRIu32 " blocks, 600 samples, 9600 bytes, 0 gaps of 0 samples, %" PRIu32
                     " absent",
                     blocks, absent ? blocks : 0);
            assert_says(text, sum);
            assert_null(strstr(text, "p50"));
            unmake(&r);
        }
}

static void test_sixteen_bit(void **state)
{
    (void)state;
    const int16_t x[2][3] = {{1, 2, 3}, {4, 5, 6}}; /* rows of 6 bytes: the second begins in mid-word */
    const gw_spec spec = {.dtype = GW_I16, .n_channels = 2};
    const uint8_t second = 0x02;
    rig r;
    assert_int_equal(make(&r, &gw_kind_null, "{}", 1, &spec), GW_OK);
    const gw_view v = {.data = x, .stride = 3, .n_samples = 3, .n_channels = 2, .presence = &second};
    assert_int_equal(gw_kind_null.take(r.state, 0, &v), GW_OK);
    char text[512];
    end_line(&r, text, sizeof text);
    assert_says(text, "checksum 0005000a"); /* 4 | 5 << 16, and 6 */
    unmake(&r);
}

static void test_ages(void **state)
{
    (void)state;
    const gw_spec spec = {.dtype = GW_F32, .n_channels = 1};
    const float x[4] = {1, 2, 3, 4};
    rig r;
    assert_int_equal(make(&r, &gw_kind_null, "{read: none, delay: 2ms, settle: 1s}", 1, &spec), GW_OK);
    const int64_t now_ns = gw_gps_now_ns();
    /* Twice real time; stream time 1000 s was due 3.5 s ago, so 1005 s was due 1 s ago and 1006 s half a
     * second. */
    r.env.timebase = (gw_timebase){2, now_ns - INT64_C(3500000000), 1000 * GW_SECOND_NS};
    for (int i = 0; i < 3; i++) {
        const gw_view v = {
            .data = x, .stride = 4, .n_samples = 4, .n_channels = 1, .due_ns = (1004 + i) * GW_SECOND_NS};
        assert_int_equal(gw_kind_null.take(r.state, 0, &v), GW_OK);
    }
    assert_true(gw_gps_now_ns() - now_ns >= 6 * 1000000); /* three delays */
    assert_int_equal(gw_kind_null.gap(r.state, 0, &(gw_hole){.samples = 40}), GW_OK);
    assert_int_equal(gw_kind_null.gap(r.state, 0, &(gw_hole){.samples = 2}), GW_OK);
    char text[512];
    end_line(&r, text, sizeof text);
    assert_says(text,
                "3 blocks, 12 samples, 48 bytes, 2 gaps of 42 samples, 0 absent, checksum 00000000, age");
    double p50 = 0, p99 = 0, p999 = 0, max = 0;
    assert_int_equal(
        sscanf(strstr(text, "p50"), "p50 %lf p99 %lf p99.9 %lf max %lf", &p50, &p99, &p999, &max), 4);
    /* Of two ages, 1.0 and 0.5 s; the first block lies in what settles. */
    assert_true(p50 >= 500 && p50 < 900 && p99 >= 1000 && p999 >= p99 && max >= p999 && max < 3000);
    unmake(&r);
    assert_int_equal(make(&r, &gw_kind_null, "{delay: 61s}", 1, &spec), GW_ECONFIG);
    unmake(&r);
    assert_int_equal(make(&r, &gw_kind_null, "{read: some}", 1, &spec), GW_ECONFIG);
    unmake(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_blocks),   cmocka_unit_test(test_noise),       cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_checksum), cmocka_unit_test(test_sixteen_bit), cmocka_unit_test(test_ages),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
