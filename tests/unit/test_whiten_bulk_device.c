/* SPDX-License-Identifier: GPL-3.0-or-later
 * whiten_bulk as a stage on a device, against the same graph on the host: the same samples, presence and gaps
 * to the bit, through a warm-up, updates of filters, channels that are absent, not finite, dead, clipped or
 * louder for good, a hole, and checkpoints. The device is fake_device.h; what it runs are the processor's
 * kernels, late. CUDA's are held against these by tests/check/check_bulk.c. */
#include "kernels/kernels.h"
#include "pipeline/graph.h"
#include "pipeline/node.h"
#include "tests/unit/fake_device.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

extern const gw_kind gw_kind_whiten_bulk;

enum { CHANNELS = 11, RATE = 512, SECONDS = 40, END = RATE * SECONDS, HOLE = 31 * RATE };

/* -- the processor's kernels in the device's queue ------------------------------------------------------ */

enum { MOST_READ = 64 };

typedef struct call {
    gw_bulk_scratch *w;
    int64_t sample0;
    gw_bulk_channel *channel;
    size_t stride, y_stride;
    const gw_bulk *b;
    const void *state[MOST_READ];
    uint32_t n, *segments, bins;
} call;

static gw_bulk_ops cpu;
static call calls[64];
static uint32_t n_calls;
/* Of the one stage. */
static const gw_bulk *the_bulk;
static void *powers; /* on the device: PSDs on their way to the host */

static void do_step(void *dst, const void *src, size_t bytes, double k)
{
    (void)bytes;
    const call *c = &calls[(int)k];
    cpu.step(c->w, c->sample0, c->channel, c->n, src, c->stride, dst, c->y_stride);
}

static void do_read(void *dst, const void *src, size_t bytes, double k)
{
    (void)src;
    (void)bytes;
    const call *c = &calls[(int)k];
    for (uint32_t i = 0; i < c->n; i++)
        c->segments[i] = cpu.psd_get(c->b, c->state[i], (float *)dst + (size_t)i * c->bins);
}

static int enqueue(gw_bulk_scratch *w, void *queue, int64_t sample0, gw_bulk_channel *channel, uint32_t n,
                   const float *x, size_t x_stride, float *y, size_t y_stride)
{
    const uint32_t at = n_calls++ % 64;
    calls[at] = (call){
        .w = w, .sample0 = sample0, .channel = channel, .n = n, .stride = x_stride, .y_stride = y_stride};
    return fake_run(queue, do_step, y, x, n * x_stride * sizeof *x, at);
}

static int psd_read(gw_bulk_scratch *w, void *queue, const void *const *state, uint32_t n, float *psd,
                    uint32_t *segments)
{
    const uint32_t at = n_calls++ % 64;
    if (n > MOST_READ)
        return gw_fail(GW_EBUG, "too many PSDs");
    calls[at] =
        (call){.w = w, .b = the_bulk, .n = n, .segments = segments, .bins = cpu.info(the_bulk)->psd_bins};
    memcpy(calls[at].state, state, n * sizeof *state);
    const size_t bytes = n * calls[at].bins * sizeof *psd;
    GW_TRY(fake_run(queue, do_read, powers, powers, bytes, at));
    return gw_device_get()->copy(queue, psd, powers, bytes);
}

static int scratch_new(gw_bulk_scratch **w, const gw_bulk *b)
{
    the_bulk = b;
    GW_TRY(gw_device_get()->memory_new(&powers, MOST_READ * cpu.info(b)->psd_bins * sizeof(float),
                                       GW_SPACE_DEVICE));
    return cpu.scratch_new(w, b);
}

static void scratch_destroy(gw_bulk_scratch **w)
{
    if (*w)
        gw_device_get()->memory_destroy(&powers, GW_SPACE_DEVICE);
    cpu.scratch_destroy(w);
}

int gw_kernels_init(gw_kernels *k, gw_kernels_level best)
{
    *k = (gw_kernels){0};
    gw_spectrum_cpu(&k->spectrum);
    gw_minphase_cpu(&k->minphase);
    gw_bulk_cpu(&k->bulk);
    cpu = k->bulk;
    if (best == GW_KERNELS_CUDA) {
        k->bulk.enqueue = enqueue;
        k->bulk.psd_read = psd_read;
        k->bulk.scratch_new = scratch_new;
        k->bulk.scratch_destroy = scratch_destroy;
    }
    return GW_OK;
}

/* -- a source of noise with everything wrong in it ----------------------------------------------------- */

typedef struct noisy {
    int64_t block, at;
} noisy;

static int noisy_configure(void *self, gw_conf *c)
{
    ((noisy *)self)->block = RATE;
    return gw_conf_get_int(c, "block", 1, RATE, &((noisy *)self)->block);
}

static int noisy_plan(void *self, gw_plan *p)
{
    p->n_out = 1;
    p->out[0] = (gw_spec){.rate = {RATE, 1},
                          .dtype = GW_F32,
                          .block_samples = (uint32_t)((noisy *)self)->block,
                          .detector = "H1"};
    return gw_spec_set_channels(&p->out[0], CHANNELS, NULL);
}

static int noisy_open(void *self, gw_env *env)
{
    (void)self;
    gw_env_start(env, 0, 0);
    return GW_OK;
}

/* A function of channel and sample alone. */
static float value(uint32_t c, int64_t at)
{
    uint64_t h = ((uint64_t)at * CHANNELS + c + 1) * UINT64_C(0x9e3779b97f4a7c15);
    double sum = 0;
    for (int i = 0; i < 6; i++) {
        h ^= h >> 29;
        h *= UINT64_C(0xbf58476d1ce4e5b9);
        h ^= h >> 32;
        sum += (double)(h >> 11) * 0x1p-53 - 0.5;
    }
    double y = sum * pow(10, (double)c - 5);
    const int64_t second = at / RATE;
    if (c == 4 && second == 14)
        return NAN;
    if (c == 5 && second >= 15 && second < 18)
        return 0;
    if (c == 6 && second >= 20 && second < 23)
        y = fmin(y, 0.5 * pow(10, 1));
    if (c == 7 && second >= 18)
        y *= 3e4;
    if (c == 8 && at == 19 * RATE + 77)
        y *= 1e5;
    return (float)y;
}

static int noisy_next(void *self, int port, gw_piece *p)
{
    (void)port;
    noisy *s = self;
    if (s->at >= END)
        return GW_EEND;
    p->sample0 = s->at;
    p->dq = GW_DQ_ALL;
    if (s->at == HOLE) {
        p->gap_samples = RATE;
        p->reason = GW_GAP_ABSENT;
        s->at += RATE;
        return GW_OK;
    }
    p->n_samples = (uint32_t)s->block;
    for (uint32_t c = 0; c < CHANNELS; c++)
        for (uint32_t i = 0; i < p->n_samples; i++)
            ((float *)p->data)[c * p->n_samples + i] = value(c, s->at + i);
    if (s->at / RATE >= 11 && s->at / RATE < 13)
        p->presence[0] &= 0xf7;
    s->at += s->block;
    return GW_OK;
}

static const gw_kind kind_noisy = {.kind = "noisy",
                                   .role = GW_SOURCE,
                                   .state_size = sizeof(noisy),
                                   .configure = noisy_configure,
                                   .plan = noisy_plan,
                                   .open = noisy_open,
                                   .next = noisy_next};

/* -- a sink that keeps what it was given ----------------------------------------------------------------- */

typedef struct seen {
    float value[CHANNELS][END];
    uint8_t presence[2][END], reason[END];
    int64_t blocks;
} seen;
static seen kept;

static int look_take(void *self, int port, const gw_view *v)
{
    (void)self;
    (void)port;
    if (v->space == GW_SPACE_DEVICE)
        return gw_fail(GW_EBUG, "a sink got the device's memory");
    kept.blocks++;
    for (uint32_t i = 0; i < v->n_samples; i++) {
        const int64_t at = v->sample0 + i;
        for (uint32_t c = 0; c < CHANNELS; c++)
            kept.value[c][at] = ((const float *)v->data)[c * v->stride + i];
        for (int k = 0; k < 2; k++)
            kept.presence[k][at] = v->presence ? v->presence[k] : 0xff;
    }
    return GW_OK;
}

static int look_gap(void *self, int port, const gw_hole *h)
{
    (void)self;
    (void)port;
    for (uint64_t i = 0; i < h->samples; i++)
        kept.reason[h->sample0 + (int64_t)i] = (uint8_t)h->reason;
    return GW_OK;
}

static const gw_kind kind_look = {.kind = "look",
                                  .role = GW_SINK,
                                  .takes_presence = true,
                                  .state_size = 1,
                                  .take = look_take,
                                  .gap = look_gap};

const gw_kind *const gw_kinds[] = {&kind_noisy, &gw_kind_whiten_bulk, &kind_look, NULL};

const gw_kind *gw_kind_find(const char *word)
{
    for (int i = 0; gw_kinds[i]; i++)
        if (strcmp(gw_kinds[i]->kind, word) == 0)
            return gw_kinds[i];
    return NULL;
}

/* -- a run ---------------------------------------------------------------------------------------------- */

static int run(const char *yaml)
{
    memset(&kept, 0, sizeof kept);
    gw_graph *g;
    GW_TRY(gw_graph_parse(&g, "test", yaml));
    int err = gw_graph_start(g);
    if (err == GW_OK) {
        assert_true(gw_graph_wait(g, 30000));
        uint64_t bad;
        err = gw_graph_result(g, &bad);
    }
    char detail[512];
    snprintf(detail, sizeof detail, "%s", gw_err_detail());
    gw_graph_free(&g);
    return err == GW_OK ? GW_OK : gw_fail(err, "%s", detail);
}

static fake_report run_on(const fake_wish *w, const char *yaml, int *err)
{
    gw_device_set(fake_device_begin(w));
    *err = run(yaml);
    gw_device_set(NULL);
    const fake_report r = fake_device_end();
    assert_int_equal(r.memory_bytes, 0);
    assert_int_equal(r.queues + r.marks, 0);
    return r;
}

static const fake_wish late = {.seed = 3, .delay_us = 200};

static bool there(uint32_t c, int second)
{
    return kept.presence[c / 8][second * RATE] >> c % 8 & 1;
}

static void the_same_as_on_the_host(void **unused)
{
    (void)unused;
    static const struct {
        int block;
        const char *more;
    } turn[] = {
        {RATE, ""}, {RATE / 4, ""}, {RATE / 4, ", hop: 1/4s"}, {RATE, ", phase: linear, duration: 2s"}};
    static seen host;
    for (size_t t = 0; t < sizeof turn / sizeof *turn; t++) {
        char yaml[400];
        snprintf(yaml, sizeof yaml,
                 "sources: {a: {kind: noisy, block: %d}}\n"
                 "stages: {w: {kind: whiten_bulk, from: a, duration: 1/2s, psd: {bins: 4Hz}, warmup: 4s, "
                 "update: 3s%s}}\n"
                 "sinks: {k: {kind: look, from: w}}\n",
                 turn[t].block, strstr(turn[t].more, "duration") ? "" : turn[t].more);
        if (strstr(turn[t].more, "duration"))
            snprintf(yaml, sizeof yaml,
                     "sources: {a: {kind: noisy, block: %d}}\n"
                     "stages: {w: {kind: whiten_bulk, from: a, psd: {bins: 4Hz}, warmup: 4s, update: 3s%s}}\n"
                     "sinks: {k: {kind: look, from: w}}\n",
                     turn[t].block, turn[t].more);
        if (run(yaml) != GW_OK)
            fail_msg("%s", gw_err_detail());
        assert_true(kept.blocks > 10);
        if (t == 0) { /* what the comparison is about does come about */
            assert_true(!there(3, 11) && !there(3, 12) && there(3, 14) && there(3, 10));
            assert_true(!there(4, 14) && there(4, 13) && there(4, 17));
            assert_true(!there(5, 15) && !there(5, 17) && there(5, 20));
            assert_true(!there(6, 20) && !there(6, 22) && there(6, 25));
            assert_true(there(7, 17) && !there(7, 24));
        }
        host = kept;
        int err;
        const fake_report r = run_on(&late, yaml, &err);
        if (err != GW_OK)
            fail_msg("%s", gw_err_detail());
        if (r.violations)
            fail_msg("%s", r.text);
        assert_true(r.works > 2 * (uint64_t)kept.blocks); /* it did run there */
        assert_int_equal(kept.blocks, host.blocks);
        assert_memory_equal(kept.presence, host.presence, sizeof kept.presence);
        assert_memory_equal(kept.reason, host.reason, sizeof kept.reason);
        assert_memory_equal(kept.value, host.value, sizeof kept.value);
    }
}

static void goes_on_from_a_checkpoint(void **unused)
{
    (void)unused;
    char folder[] = "/tmp/gwstream-test-XXXXXX", path[128], yaml[400];
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/psd-w.H1.hdf5", folder);
    snprintf(yaml, sizeof yaml,
             "sources: {a: {kind: noisy}}\n"
             "stages: {w: {kind: whiten_bulk, from: a, duration: 1/2s, psd: {bins: 4Hz}, warmup: 6s, "
             "checkpoint: %s/psd.hdf5, checkpoint_age: 1h}}\n"
             "sinks: {k: {kind: look, from: w}}\n",
             folder);
    int err;
    fake_report r = run_on(&late, yaml, &err);
    if (err != GW_OK || r.violations)
        fail_msg("%s %s", gw_err_detail(), r.text);
    assert_int_equal(access(path, R_OK), 0);
    unlink(path);
    rmdir(folder);
}

static void a_device_that_fails(void **unused)
{
    (void)unused;
    for (int64_t at = 3; at < 90; at += 29) {
        int err;
        run_on(&(fake_wish){.seed = 3, .delay_us = 100, .fail_at = at},
               "sources: {a: {kind: noisy, block: 128}}\n"
               "stages: {w: {kind: whiten_bulk, from: a, duration: 1/2s, psd: {bins: 4Hz}, warmup: 4s}}\n"
               "sinks: {k: {kind: look, from: w}}\n",
               &err);
        assert_true(err < 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_same_as_on_the_host),
        cmocka_unit_test(goes_on_from_a_checkpoint),
        cmocka_unit_test(a_device_that_fails),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
