/* SPDX-License-Identifier: GPL-3.0-or-later
 * The stage whiten_bulk without a runner: the same bits for any block length, warm-up, holes, and channels
 * that are out of order, each alone; health of a hop; designs. The kernel under it is held against ref by
 * tests/check/check_bulk.c, the whole stage on real recordings against scipy by tests/flow/check_bulk.py. */
#include "kernels/kernels.h"
#include "pipeline/log.h"
#include "pipeline/parallel.h"
#include "pipeline/stage.h"
#include "pipeline/stages/whiten_bulk_design.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

extern const gw_kind gw_kind_whiten_bulk;

enum { RATE = 1024, CHANNELS = 20, SECONDS = 40, N = RATE * SECONDS, LAST = CHANNELS - 1 };
static const int64_t begin0 = INT64_C(1400000000) * RATE;
static const char *const plain = "{duration: 1/2s, psd: {bins: 4Hz}, update: 6s, warmup: 8s}";

static uint64_t seed = 1;

static double uniform(void)
{
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return ((double)(seed >> 11) + 0.5) * 0x1p-53;
}

static double normal(void)
{
    return sqrt(-2 * log(uniform())) * cos(2 * M_PI * uniform());
}

/* -- a stage without a runner ------------------------------------------------------------------------ */

typedef struct run {
    gw_conf_file *file;
    void *self;
    gw_spec in;
    gw_plan plan;
    gw_block *block; /* the one in hand */
    float *slab, *y; /* y[channel][n_y]: output from begin0 on, NaN where nothing came or it is absent */
    size_t n_y;
    uint8_t presence[(CHANNELS + 7) / 8];
    gw_out last;
    int blocks_alive;
} run;

static int alive; /* blocks that somebody holds */

static void release(gw_block *b)
{
    free(b->data);
    free(b);
    alive--;
}

static int run_plan(run *r, const char *yaml, uint32_t rate, uint32_t block, uint32_t channels,
                    gw_dtype dtype)
{
    *r = (run){.n_y = 0};
    assert_int_equal(gw_conf_parse(&r->file, "test.yaml", yaml, strlen(yaml)), 0);
    r->self = calloc(1, gw_kind_whiten_bulk.state_size);
    assert_non_null(r->self);
    r->in = (gw_spec){.name = "in", .rate = {rate, 1}, .dtype = dtype, .block_samples = block};
    assert_int_equal(gw_spec_set_channels(&r->in, channels, NULL), 0);
    int err = gw_kind_whiten_bulk.configure(r->self, gw_conf_root(r->file));
    if (err == GW_OK)
        err = gw_conf_done(gw_conf_root(r->file), "test");
    if (err != GW_OK)
        return err;
    r->plan = (gw_plan){.name = "test", .n_in = 1, .in = &r->in};
    return gw_kind_whiten_bulk.plan(r->self, &r->plan);
}

static void run_open(run *r, const char *yaml, uint32_t block, gw_dtype dtype)
{
    if (run_plan(r, yaml, RATE, block, CHANNELS, dtype) != GW_OK)
        fail_msg("%s", gw_err_detail());
    assert_int_equal(gw_kind_whiten_bulk.open(r->self, NULL), 0);
    r->slab = calloc(gw_spec_slab_bytes(&r->plan.out[0]), 1);
    r->n_y = (size_t)SECONDS * r->plan.out[0].rate.num;
    r->y = calloc(CHANNELS * r->n_y, sizeof *r->y);
    assert_true(r->slab && r->y);
    for (size_t i = 0; i < CHANNELS * r->n_y; i++)
        r->y[i] = NAN;
}

static void run_close(run *r)
{
    if (r->self)
        gw_kind_whiten_bulk.close(r->self);
    assert_int_equal(alive, 0);
    gw_spec_free(&r->plan.out[0]);
    gw_spec_free(&r->in);
    gw_conf_free(&r->file);
    free(r->self);
    free(r->slab);
    free(r->y);
}

/* One block, as a slab of its own: what the stage holds on to must not change under it. */
static void run_block(run *r, const double *x, int64_t from, uint32_t n, uint64_t dq, const uint8_t *presence)
{
    const bool wide = r->in.dtype == GW_F64;
    gw_block *b = calloc(1, sizeof *b);
    assert_non_null(b);
    b->data = malloc((size_t)CHANNELS * n * (wide ? sizeof(double) : sizeof(float)));
    assert_non_null(b->data);
    b->release = release;
    atomic_init(&b->refs, 1);
    alive++;
    for (uint32_t c = 0; c < CHANNELS; c++)
        for (uint32_t i = 0; i < n; i++) {
            const double v = x[(size_t)c * N + (size_t)from + i];
            if (wide)
                ((double *)b->data)[c * n + i] = v;
            else
                ((float *)b->data)[c * n + i] = (float)v;
        }
    const gw_view v = {.data = b->data,
                       .stride = n,
                       .n_samples = n,
                       .n_channels = CHANNELS,
                       .sample0 = begin0 + from,
                       .dq = dq,
                       .presence = presence,
                       .block = b};
    gw_out *o = &r->last;
    memset(r->presence, 0xff, sizeof r->presence);
    memset(r->slab, 0x55, gw_spec_slab_bytes(&r->plan.out[0]));
    *o = (gw_out){
        .data = r->slab, .capacity_samples = r->plan.out[0].block_samples, .dq = dq, .presence = r->presence};
    const int err = gw_kind_whiten_bulk.step(r->self, &v, o);
    if (err != GW_OK)
        fail_msg("%s", gw_err_detail());
    gw_block_unref(&b);
    assert_true(o->n_samples <= o->capacity_samples);
    const int64_t first0 = begin0 / (RATE / r->plan.out[0].rate.num);
    for (uint32_t c = 0; c < CHANNELS && o->n_samples; c++) {
        assert_int_equal(o->sample0 % o->capacity_samples, 0);
        for (uint32_t i = 0; i < o->n_samples; i++) {
            const int64_t at = o->sample0 + i - first0;
            const float s = r->slab[(size_t)c * o->n_samples + i];
            assert_true(at >= 0 && (size_t)at < r->n_y && isnan(r->y[c * r->n_y + (size_t)at]));
            if (gw_present(r->presence, c))
                r->y[c * r->n_y + (size_t)at] = s;
            else
                assert_true(s == 0);
        }
    }
}

/* Samples [from, to), numbered from begin0, in whole blocks. */
static void run_span(run *r, const double *x, int64_t from, int64_t to)
{
    for (int64_t i = from; i < to; i += r->in.block_samples)
        run_block(r, x, i, r->in.block_samples, GW_DQ_ALL, NULL);
}

/* First sample of channel c at or after `from` that is, or is not, there. */
static size_t seek(const run *r, uint32_t c, size_t from, bool there)
{
    while (from < r->n_y && isnan(r->y[c * r->n_y + from]) == there)
        from++;
    return from;
}

static double deviation(const run *r, uint32_t c, size_t from, size_t to)
{
    double sum = 0;
    for (size_t i = from; i < to; i++)
        sum += (double)r->y[c * r->n_y + i] * (double)r->y[c * r->n_y + i];
    return sqrt(sum / (double)(to - from));
}

/* Noise that falls with frequency, of another strength in each channel (one of them strain's), upon an
 * offset. */
static double *noise(void)
{
    double *x = malloc((size_t)CHANNELS * N * sizeof *x);
    assert_non_null(x);
    for (uint32_t c = 0; c < CHANNELS; c++) {
        const double strength = c == 3 ? 1e-21 : pow(10, (double)c - 10);
        double slow = 0;
        for (size_t i = 0; i < N; i++) {
            slow = 0.9 * slow + normal();
            x[c * N + i] = strength * (normal() + slow + 5);
        }
    }
    return x;
}

/* What the ramps leave of unit variance. */
static double expected(double nyquist)
{
    return sqrt((0.88 * nyquist - 30 + 0.375 * (10 + 0.07 * nyquist)) / nyquist);
}

/* Channels but `c` of r are those of s, bit by bit. */
static void neighbours_are_the_same(const run *r, const run *s, uint32_t c)
{
    for (uint32_t i = 0; i < CHANNELS; i++)
        if (i != c)
            assert_memory_equal(r->y + i * r->n_y, s->y + i * s->n_y, r->n_y * sizeof *r->y);
}

/* -- tests ------------------------------------------------------------------------------------------- */

static void warm_up_and_blocks(void **unused)
{
    (void)unused;
    double *x = noise();
    run r, s;
    run_open(&r, plain, RATE, GW_F32);
    assert_string_equal(
        r.plan.out[0].whitening,
        "v2 minimum-phase 1024Hz 0.5s highpass=20-30Hz lowpass=0.88-0.95 psd=mean,2s,64s,bins=4Hz");
    assert_string_equal(r.plan.out[0].unit, "whitened");
    assert_int_equal(r.plan.delay_ns, GW_SECOND_NS);
    assert_int_equal(r.plan.keep_ns[0], 0);
    assert_non_null(strstr(r.plan.note, "filter"));
    run_span(&r, x, 0, N);
    for (uint32_t c = 0; c < CHANNELS; c++) {
        assert_int_equal(seek(&r, c, 0, true), 8 * RATE);
        assert_int_equal(seek(&r, c, 8 * RATE, false), N);
        const double d = deviation(&r, c, 8 * RATE, N) / expected(RATE / 2);
        if (fabs(d - 1) > 0.03)
            fail_msg("channel %u: %g", c, d);
    }
    static const uint32_t blocks[] = {RATE / 2, RATE / 16, RATE / 64};
    for (size_t b = 0; b < sizeof blocks / sizeof *blocks; b++) {
        run_open(&s, "{duration: 1/2s, psd: {bins: 4Hz}, update: 6s, hop: 1s}", blocks[b], GW_F32);
        assert_int_equal(s.plan.keep_ns[0], GW_SECOND_NS - GW_SECOND_NS * blocks[b] / RATE);
        run_span(&s, x, 0, N);
        assert_memory_equal(r.y, s.y, CHANNELS * N * sizeof *r.y);
        run_close(&s);
    }
    assert_int_equal(gw_parallel_start(3), GW_OK); /* nor does it matter who works */
    run_open(&s, plain, RATE, GW_F32);
    run_span(&s, x, 0, N);
    assert_memory_equal(r.y, s.y, CHANNELS * N * sizeof *r.y);
    run_close(&s);
    gw_parallel_stop();
    run_close(&r);
    free(x);
}

static void shorter_hops_and_doubles(void **unused)
{
    (void)unused;
    double *x = noise();
    run r, s;
    run_open(&r, plain, RATE, GW_F64);
    run_span(&r, x, 0, N);
    run_open(&s, "{duration: 1/2s, psd: {bins: 4Hz}, update: 6s, hop: 1/4s}", RATE / 4, GW_F32);
    assert_int_equal(s.plan.delay_ns, GW_SECOND_NS / 4);
    run_span(&s, x, 0, N);
    for (uint32_t c = 0; c < CHANNELS; c++) {
        assert_int_equal(seek(&s, c, 0, true), 8 * RATE);
        const double a = deviation(&r, c, 8 * RATE, N) / expected(RATE / 2),
                     b = deviation(&s, c, 8 * RATE, N) / expected(RATE / 2);
        assert_true(fabs(a - 1) < 0.03 && fabs(b - 1) < 0.03);
    }
    /* Until the first update the filters are the same, made from the same segments. */
    for (uint32_t c = 0; c < CHANNELS; c++)
        for (size_t i = 8 * RATE; i < 9 * RATE; i++)
            assert_true(fabsf(r.y[c * N + i] - s.y[c * N + i]) < 1e-4f);
    run_close(&s);
    run_close(&r);
    free(x);
}

/* Channel LAST - 1 is spoilt from `from` to `to` in some way; it is absent there and until its memory is
 * full, learns nothing anew, and nobody else notices. */
static void spoilt(const double *clean, const run *good, int how)
{
    enum { C = LAST - 1 };
    /* A rail is where nothing is beyond it in the whole hop. */
    const size_t from = 15 * RATE + (how == 3 ? 0 : 100), to = how == 3 ? 18 * RATE : 17 * RATE + 200;
    double *x = malloc((size_t)CHANNELS * N * sizeof *x);
    assert_non_null(x);
    memcpy(x, clean, (size_t)CHANNELS * N * sizeof *x);
    double *y = x + (size_t)C * N;
    for (size_t i = from; i < to; i++)
        switch (how) {
        case 0:
            y[i] = NAN;
            break;
        case 1:
            y[i] = 0;
            break;
        case 2:
            y[i] = 3e8;
            break;
        case 3: /* clips at half a deviation */
            y[i] = fmin(y[i], 5.5 * pow(10, C - 10));
            break;
        default:
            break;
        }
    run r;
    run_open(&r, plain, RATE, GW_F32);
    uint8_t presence[] = {0xff, 0xff, 0xff};
    presence[C / 8] &= (uint8_t) ~(1u << C % 8);
    for (int64_t i = 0; i < N; i += RATE) /* the hops from 15 s to 18 s are touched */
        run_block(&r, x, i, RATE, GW_DQ_ALL, how == 4 && i >= 15 * RATE && i < 18 * RATE ? presence : NULL);
    neighbours_are_the_same(&r, good, C);
    assert_memory_equal(r.y + C * N, good->y + C * N, 15 * RATE * sizeof *r.y);
    assert_int_equal(seek(&r, C, 8 * RATE, false), 15 * RATE);
    assert_int_equal(seek(&r, C, 15 * RATE, true), 19 * RATE); /* half a second of memory, in whole hops */
    assert_int_equal(seek(&r, C, 19 * RATE, false), N);
    /* The PSD has lost some segments and nothing else: those good hops before and after it count. */
    const double d = deviation(&r, C, 19 * RATE, N) / expected(RATE / 2);
    if (fabs(d - 1) > 0.03)
        fail_msg("%d: %g", how, d);
    run_close(&r);
    free(x);
}

static void channels_out_of_order(void **unused)
{
    (void)unused;
    double *x = noise();
    run good;
    run_open(&good, plain, RATE, GW_F32);
    run_span(&good, x, 0, N);
    for (int how = 0; how < 5; how++)
        spoilt(x, &good, how);
    run_close(&good);
    free(x);
}

static void holes(void **unused)
{
    (void)unused;
    double *x = noise();
    run r;
    run_open(&r, plain, RATE / 4, GW_F32);
    run_span(&r, x, 0, 20 * RATE + RATE / 4); /* into a hop */
    assert_int_equal(alive, 1);
    assert_int_equal(
        gw_kind_whiten_bulk.gap(
            r.self, 0, &(gw_hole){.sample0 = begin0 + 20 * RATE + RATE / 4, .samples = RATE + RATE / 2}),
        0);
    assert_int_equal(alive, 0);
    run_block(&r, x, 21 * RATE + 3 * RATE / 4, 10, GW_DQ_ALL, NULL); /* a fragment */
    assert_true(r.last.lost && r.last.reason == GW_GAP_PARTIAL);
    run_span(&r, x, 22 * RATE, 30 * RATE);
    const size_t stop = seek(&r, 0, 8 * RATE, false), again = seek(&r, 0, stop, true);
    assert_int_equal(stop, 20 * RATE);
    assert_int_equal(again, 23 * RATE); /* within 2 s of the end of the hole */
    /* A block that must not be used, in the middle of a hop: CAT2 would change nothing. */
    run_block(&r, x, 30 * RATE, RATE / 4, GW_DQ_ALL, NULL);
    run_block(&r, x, 30 * RATE + RATE / 4, RATE / 4, GW_DQ_ALL & ~(uint64_t)GW_DQ_CBC_CAT1, NULL);
    assert_true(r.last.lost && r.last.reason == GW_GAP_QUALITY);
    assert_int_equal(alive, 0);
    run_block(&r, x, 30 * RATE + RATE / 2, RATE / 4, GW_DQ_ALL, NULL);
    run_block(&r, x, 30 * RATE + 3 * RATE / 4, RATE / 4, GW_DQ_ALL, NULL);
    run_span(&r, x, 31 * RATE, 33 * RATE);
    assert_int_equal(seek(&r, 0, again, false), 30 * RATE);
    assert_int_equal(seek(&r, 0, 30 * RATE, true), 32 * RATE);
    /* Another run of the sender at the same place: no past, the PSD stays. */
    assert_int_equal(gw_kind_whiten_bulk.gap(r.self, 0, &(gw_hole){.sample0 = begin0 + 33 * RATE}), 0);
    run_span(&r, x, 33 * RATE, 36 * RATE + RATE / 4);
    assert_int_equal(seek(&r, 0, 33 * RATE, true), 34 * RATE);
    for (size_t i = again; i < N; i++)
        assert_true(isnan(r.y[i]) || fabsf(r.y[i]) < 7);
    assert_int_equal(alive, 1);
    gw_out out = {.data = NULL};
    assert_int_equal(gw_kind_whiten_bulk.drain(r.self, &out), 0);
    assert_true(alive == 0 && out.n_samples == 0);
    run_span(&r, x, 36 * RATE, 36 * RATE + RATE / 4); /* what is held at the end is let go by close */
    run_close(&r);
    free(x);
}

static void gate_and_change_for_good(void **unused)
{
    (void)unused;
    enum { C = 9, AT = 20 * RATE + 300 };
    double *x = noise();
    run good, r;
    run_open(&good, plain, RATE, GW_F32);
    run_span(&good, x, 0, N);
    const double strength = pow(10, C - 10);
    x[C * N + AT] += 1000 * strength;
    run_open(&r, plain, RATE, GW_F32);
    run_span(&r, x, 0, N);
    neighbours_are_the_same(&r, &good, C);
    size_t zero = AT;
    while (r.y[C * N + zero] != 0)
        zero++;
    assert_in_range(zero, AT, AT + 4);
    for (size_t i = zero; i < zero + RATE / 4; i++)
        assert_true(r.y[C * N + i] == 0);
    float peak = 0;
    for (size_t i = 8 * RATE; i < N; i++)
        peak = fmaxf(peak, fabsf(r.y[C * N + i]));
    assert_true(peak < 100);
    const double d = deviation(&r, C, 22 * RATE, N) / deviation(&good, C, 22 * RATE, N);
    assert_true(fabs(d - 1) < 0.03); /* the PSD has not noticed */
    run_close(&r);
    for (size_t i = AT; i < N; i++)
        x[C * N + i] *= 1e4;
    run_open(&r, plain, RATE, GW_F32);
    run_span(&r, x, 0, N);
    neighbours_are_the_same(&r, &good, C);
    const size_t shut = seek(&r, C, 21 * RATE, false), open = seek(&r, C, shut, true);
    assert_int_equal(shut, 28 * RATE); /* after eight hops that are too loud */
    assert_in_range(open, 36 * RATE, 38 * RATE);
    assert_true(fabs(deviation(&r, C, open, N) / expected(RATE / 2) - 1) < 0.06);
    run_close(&r);
    run_close(&good);
    free(x);
}

static void decimated_and_linear(void **unused)
{
    (void)unused;
    double *x = noise();
    run r, s;
    run_open(&r, "{duration: 1/2s, decimate: 4, psd: {bins: 4Hz}}", RATE, GW_F32);
    assert_true(r.plan.out[0].rate.num == RATE / 4 && r.plan.out[0].block_samples == RATE / 4);
    assert_non_null(strstr(r.plan.out[0].whitening, " 256Hz 0.5s "));
    run_span(&r, x, 0, N);
    run_open(&s, "{duration: 1/2s, phase: linear, hop: 1/4s, decimate: 4, psd: {bins: 4Hz}}", RATE / 4,
             GW_F32);
    assert_int_equal(s.plan.delay_ns, GW_SECOND_NS / 2);
    run_span(&s, x, 0, N);
    double mean[2] = {0};
    for (uint32_t c = 0; c < CHANNELS; c++) {
        const size_t first = seek(&r, c, 0, true);
        assert_int_equal(first, 2 * RATE);
        assert_int_equal(seek(&s, c, 0, true), 2 * RATE - RATE / 16);
        const double a = deviation(&r, c, first, r.n_y) / expected(RATE / 8),
                     b = deviation(&s, c, first, s.n_y - RATE / 16) / expected(RATE / 8);
        assert_true(fabs(a - 1) < 0.08 && fabs(b - 1) < 0.08); /* a narrow band: few numbers */
        mean[0] += a / CHANNELS;
        mean[1] += b / CHANNELS;
    }
    if (fabs(mean[0] - 1) > 0.02 || fabs(mean[1] - 1) > 0.02)
        fail_msg("%g %g", mean[0], mean[1]);
    run_close(&r);
    run_close(&s);
    free(x);
}

static void goes_on_from_a_checkpoint(void **unused)
{
    (void)unused;
    char folder[] = "/tmp/gwstream-test-XXXXXX", yaml[256], path[128];
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/psd-test.hdf5", folder);
    snprintf(yaml, sizeof yaml, "{duration: 1/2s, psd: {bins: 4Hz}, update: 6s, checkpoint: %s/psd.hdf5}",
             folder);
    double *x = noise();
    run r;
    run_open(&r, yaml, RATE, GW_F32);
    run_span(&r, x, 0, 20 * RATE);
    assert_int_equal(seek(&r, 0, 0, true), 8 * RATE);
    run_close(&r);
    assert_int_equal(access(path, R_OK), 0);
    run_open(&r, yaml, RATE, GW_F32);
    run_span(&r, x, 21 * RATE, N);
    for (uint32_t c = 0; c < CHANNELS; c++) {
        assert_int_equal(seek(&r, c, 0, true), 22 * RATE);
        assert_true(fabs(deviation(&r, c, 22 * RATE, N) / expected(RATE / 2) - 1) < 0.03);
    }
    run_close(&r);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(rmdir(folder), 0);
    free(x);
}

static void refuses(void **unused)
{
    (void)unused;
    static const struct {
        const char *yaml, *says;
    } bad[] = {
        {"{hop: 3/2s}", "test.yaml:1:7: hop: 1.5 s is not a multiple of the 1 s of a block of in"},
        {"{phase: linear}", "linear phase its half a multiple of the hop"},
        {"{psd: {bins: 0.3Hz}}", "test.yaml:1:7: psd: bins of 0.3 Hz"},
        {"{psd: {bins: 2Hz, pool: 3}}", "pool"},
        {"{warmup: 2s}",
         "test.yaml:1:10: warmup: 2 s is too short to learn from segments of 2 s: at least 4 s"},
        {"{decimate: 3}", "decimate"},
        {"{highpass: [500Hz, 600Hz]}", "test.yaml:1:12: highpass ends at 600 Hz"},
        {"{duration: 1/1000s}", "duration"},
        {"{psd: {segment: 3/2s, bins: 2Hz}}", "segment"},
        {"{update: -1s}", "update"},
    };
    run r;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        const int err = run_plan(&r, bad[i].yaml, RATE, RATE, CHANNELS, GW_F32);
        if (err == GW_OK || !strstr(gw_err_detail(), bad[i].says) || strchr(gw_err_detail(), '\n'))
            fail_msg("%s: %s", bad[i].yaml, err == GW_OK ? "taken" : gw_err_detail());
        run_close(&r);
    }
    assert_true(run_plan(&r, "{}", RATE, RATE, CHANNELS, GW_I16) != GW_OK);
    assert_non_null(strstr(gw_err_detail(), "float"));
    run_close(&r);
}

/* As the stage's kernel does it: quickly where it can. */
static gw_bulk_health health_of(const float *x, uint32_t n, uint32_t dead_run)
{
    for (uint32_t i = 0; i < n; i++)
        if (!isfinite(x[i]))
            return GW_BULK_NAN;
    return gw_bulk_judge(x, n, dead_run);
}

static void health(void **unused)
{
    (void)unused;
    enum { LENGTH = 1000, DEAD = 100 };
    float x[LENGTH];
    for (int at = 0; at < LENGTH - DEAD; at += 7) {
        for (int i = 0; i < LENGTH; i++)
            x[i] = (float)normal();
        assert_int_equal(health_of(x, LENGTH, DEAD), GW_BULK_GOOD);
        x[at] = at % 2 ? NAN : -INFINITY;
        assert_int_equal(health_of(x, LENGTH, DEAD), GW_BULK_NAN);
        for (int i = 0; i < 16; i++)
            x[at + i] = -9;
        assert_int_equal(health_of(x, LENGTH, DEAD), GW_BULK_SATURATED);
        x[at + 11] = 0;
        assert_int_equal(health_of(x, LENGTH, DEAD), GW_BULK_GOOD);
        for (int i = 0; i < DEAD; i++)
            x[at + i] = 0.25f;
        assert_int_equal(health_of(x, LENGTH, DEAD), GW_BULK_DEAD);
        x[at + 50] = 0.5f; /* runs in the middle of the range are nobody's business */
        assert_int_equal(health_of(x, LENGTH, DEAD), GW_BULK_GOOD);
    }
    x[LENGTH - 1] = NAN;
    assert_int_equal(health_of(x, LENGTH, DEAD), GW_BULK_NAN);
    /* A converter that idles between few codes has long runs at its extremes, and is well. */
    for (int i = 0; i < LENGTH; i++)
        x[i] = (float)(i / 10 % 3);
    assert_int_equal(health_of(x, LENGTH, DEAD), GW_BULK_GOOD);
    for (int i = 0; i < LENGTH; i++)
        x[i] = -3;
    assert_int_equal(health_of(x, LENGTH, LENGTH), GW_BULK_DEAD);
}

/* Kinds of clean signals, and noises to be clipped. */
typedef enum signal {
    WHITE,
    RED,
    SLOW,
    SINE,     /* any frequency and phase */
    PERIODIC, /* a whole number of samples, a phase that brings equal values */
    HELD,     /* a slow channel in a fast one */
    IDLE,     /* between few codes, with a glitch */
    CHI2,     /* piled up at its lower end */
    SIGNALS
} signal;

static void fill(signal kind, float *x, uint32_t n, double sigma, double count)
{
    double a = 0, b = 0, level = 0;
    const double hz = 0.5 * uniform(), phase = 2 * M_PI * uniform();
    const uint32_t period = 2 + (uint32_t)(400 * uniform()), hold = 2 + (uint32_t)(200 * uniform());
    for (uint32_t i = 0; i < 2000 + n; i++) {
        const double w = normal();
        a = 0.9 * a + sqrt(1 - 0.81) * w;
        b = 0.98 * b + 0.02 * w;
        level = 0.98 * level + 0.02 * b;
        const uint32_t k = i < 2000 ? 0 : i - 2000;
        const double y = kind == WHITE      ? w
                         : kind == RED      ? a
                         : kind == SLOW     ? level / 0.0707
                         : kind == SINE     ? sin(2 * M_PI * hz * hz * k + phase)
                         : kind == PERIODIC ? sin(2 * M_PI * (k % period) / period + M_PI / 4 * (period % 8))
                         : kind == HELD     ? (k % hold == 0 || k == 0 ? w : (double)x[k - 1] / sigma)
                         : kind == IDLE     ? (0.6 * w + (k / 20 == 7 ? 1000 * w : 0)) / sigma
                                            : w * w;
        x[k] = (float)(kind == IDLE ? rint(y * sigma)
                       : count > 0  ? rint(y * sigma / count) * count
                                    : y * sigma);
    }
}

/* Noise clipped at 3 sigma is told from noise, and nothing clean from it. */
static void clipping(void **unused)
{
    (void)unused;
    enum { MOST = 16384, DEAD = 1024, TURNS = 6 };
    static const double counts[] = {0, 1e-4, 1.0 / 1000, 1.0 / 300, 1.0 / 100, 1.0 / 30, 0.1, 0.5, 2};
    static const uint32_t lengths[] = {MOST, 4096, DEAD};
    static float x[MOST];
    const uint64_t before = seed;
    for (signal kind = 0; kind < SIGNALS; kind++)
        for (size_t c = 0; c < sizeof counts / sizeof *counts; c++)
            for (uint32_t turn = 0; turn < TURNS; turn++) {
                const uint32_t n = lengths[turn % 3];
                fill(kind, x, n, 3.5, 3.5 * counts[c]);
                if (gw_bulk_judge(x, n, DEAD) == GW_BULK_SATURATED)
                    fail_msg("clean signal %d of %u samples, counts of %g sigma", (int)kind, n, counts[c]);
            }
    for (signal kind = WHITE; kind <= SLOW; kind++)
        for (size_t c = 0; c < 4; c++) {
            const double clip = kind == SLOW ? 2 : 3; /* slow noise comes to 3 sigma once in a while only */
            uint32_t seen = 0;
            for (uint32_t turn = 0; turn < 10; turn++) {
                fill(kind, x, MOST, 1, 0);
                for (uint32_t i = 0; i < MOST; i++) {
                    x[i] = fmaxf(-(float)clip, fminf((float)clip, x[i]));
                    if (counts[c] > 0)
                        x[i] = (float)(rint((double)x[i] / counts[c]) * counts[c]);
                }
                seen += gw_bulk_judge(x, MOST, DEAD) == GW_BULK_SATURATED;
            }
            if (seen < 9)
                fail_msg("noise %d clipped at %g sigma, counts of %g: seen %u times of 10", (int)kind, clip,
                         counts[c], seen);
        }
    seed = before; /* the noise of the tests that follow does not hang on this one's */
}

static void designs_follow_the_pools(void **unused)
{
    (void)unused;
    gw_kernels k;
    assert_int_equal(gw_kernels_init(&k, GW_KERNELS_CPU), 0);
    const gw_bulk_design_shape s = {.bulk = {.rate_hz = RATE,
                                             .hop = RATE,
                                             .n_taps = RATE,
                                             .decimate = 2,
                                             .segment = 2 * RATE,
                                             .pool = 8,
                                             .memory = 60},
                                    .highpass_hz = {20, 30},
                                    .lowpass_hz = {220, 240}};
    gw_bulk_designer *d;
    assert_int_equal(gw_bulk_designer_new(&d, &k, &s), 0);
    float psd[RATE / 8 + 1];
    const uint32_t bins = gw_bulk_psd_bins(&s.bulk);
    assert_int_equal(bins, RATE / 8 + 1);
    for (uint32_t i = 0; i < bins; i++) /* 4 Hz each; the middle of pool i is at 4 i + 1.75 Hz */
        psd[i] = (float)(1e-6 * pow(50 + 4 * i + 1.75, -2));
    const double *h = gw_bulk_designer_run(d, psd, 1000);
    assert_non_null(h);
    for (double hz = 35; hz < 215; hz += 3.7) {
        double re = 0, im = 0;
        for (uint32_t t = 0; t < RATE; t++) {
            re += h[t] * cos(2 * M_PI * hz / RATE * t);
            im -= h[t] * sin(2 * M_PI * hz / RATE * t);
        }
        const double want = sqrt(2.0 * 2 / RATE / 1e-6) * (50 + hz);
        if (fabs(hypot(re, im) / want - 1) > 0.012)
            fail_msg("%g Hz: %g", hz, hypot(re, im) / want);
    }
    psd[20] = 0; /* a band without power */
    h = gw_bulk_designer_run(d, psd, 1000);
    assert_true(h && isfinite(h[0]) && h[0] != 0);
    psd[20] = INFINITY;
    assert_null(gw_bulk_designer_run(d, psd, 1000));
    memset(psd, 0, sizeof psd);
    assert_null(gw_bulk_designer_run(d, psd, 1000));
    gw_bulk_designer_destroy(&d);
    assert_null(d);
}

int main(void)
{
    gw_log_set_level(GW_LOG_ERROR);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(health),
        cmocka_unit_test(clipping),
        cmocka_unit_test(designs_follow_the_pools),
        cmocka_unit_test(refuses),
        cmocka_unit_test(warm_up_and_blocks),
        cmocka_unit_test(shorter_hops_and_doubles),
        cmocka_unit_test(channels_out_of_order),
        cmocka_unit_test(holes),
        cmocka_unit_test(gate_and_change_for_good),
        cmocka_unit_test(decimated_and_linear),
        cmocka_unit_test(goes_on_from_a_checkpoint),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
