/* SPDX-License-Identifier: GPL-3.0-or-later
 * What the tests of stages on a device share: a source, a stage that works on the device where there is one, a
 * sink that keeps everything, and a run of a graph of these on the host and on a device that does everything
 * late (fake_device.h). Has the table of kinds: one program includes it once. */
#ifndef GW_DEVICE_RIG_H
#define GW_DEVICE_RIG_H

#include "pipeline/graph.h"
#include "pipeline/node.h"
#include "tests/unit/fake_device.h"

#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

enum { CHANNELS = 11, END = 4000 };

/* -- a source: channel c of sample i is i + c / 16; a hole; channel 3 absent in every fourth block ------ */

typedef struct ramp {
    int64_t block, to, hole_from, hole_to, at;
    bool endless;
} ramp;

static inline int ramp_configure(void *self, gw_conf *c)
{
    ramp *s = self;
    s->block = 20;
    s->to = END;
    GW_TRY(gw_conf_get_int(c, "block", 1, 1000, &s->block));
    GW_TRY(gw_conf_get_int(c, "hole_from", 0, END, &s->hole_from));
    GW_TRY(gw_conf_get_int(c, "hole_to", 0, END, &s->hole_to));
    return gw_conf_get_bool(c, "endless", &s->endless);
}

static inline int ramp_plan(void *self, gw_plan *p)
{
    p->n_out = 1;
    p->out[0] = (gw_spec){.rate = {100, 1},
                          .dtype = GW_F32,
                          .block_samples = (uint32_t)((ramp *)self)->block,
                          .detector = "H1"};
    return gw_spec_set_channels(&p->out[0], CHANNELS, NULL);
}

static inline int ramp_open(void *self, gw_env *env)
{
    (void)self;
    gw_env_start(env, 0, 0);
    return GW_OK;
}

static inline int ramp_next(void *self, int port, gw_piece *p)
{
    (void)port;
    ramp *s = self;
    const int64_t at = s->at;
    if (at >= s->to && !s->endless)
        return GW_EEND;
    p->sample0 = at;
    if (at >= s->hole_from && at < s->hole_to) {
        p->gap_samples = (uint64_t)(s->hole_to - at);
        p->reason = GW_GAP_ABSENT;
        s->at = s->hole_to;
        return GW_OK;
    }
    int64_t end = (at / s->block + 1) * s->block;
    if (at < s->hole_from && end > s->hole_from)
        end = s->hole_from;
    if (end > s->to && !s->endless)
        end = s->to;
    p->n_samples = (uint32_t)(end - at);
    for (uint32_t c = 0; c < CHANNELS; c++)
        for (uint32_t i = 0; i < p->n_samples; i++)
            ((float *)p->data)[c * p->n_samples + i] = (float)(at + i) + (float)c / 16;
    if (at / s->block % 4 == 3)
        p->presence[0] &= (uint8_t) ~(1u << 3);
    p->flags = at / s->block % 8 == 5 ? GW_FLAG_INJECTION : 0;
    s->at = end;
    return GW_OK;
}

static const gw_kind kind_ramp = {.kind = "ramp",
                                  .role = GW_SOURCE,
                                  .state_size = sizeof(ramp),
                                  .configure = ramp_configure,
                                  .plan = ramp_plan,
                                  .open = ramp_open,
                                  .next = ramp_next};

/* -- a stage: k times its input, on the device where there is one; one block late with `late` ----------- */

typedef struct gain {
    double k;
    bool late, sieve, host, on_device;
    int64_t in_flight, fail_at;
    gw_env *env;
    void *scratch; /* of the device */
    size_t slab_bytes;
    gw_block *held;               /* late: the block that goes out next */
    gw_block *used[GW_IN_FLIGHT]; /* late: that the step of this slot reads */
    int64_t stepped, finished;
    int slot[GW_IN_FLIGHT]; /* of the steps under way, by number */
} gain;

static inline int gain_configure(void *self, gw_conf *c)
{
    gain *g = self;
    g->k = 2;
    g->fail_at = -1;
    GW_TRY(gw_conf_get_double(c, "k", 0, 100, &g->k));
    GW_TRY(gw_conf_get_bool(c, "late", &g->late));
    GW_TRY(gw_conf_get_bool(c, "sieve", &g->sieve));
    GW_TRY(gw_conf_get_bool(c, "host", &g->host));
    GW_TRY(gw_conf_get_int(c, "fail_at", 0, END, &g->fail_at));
    return gw_conf_get_int(c, "in_flight", 0, 9, &g->in_flight);
}

static inline int gain_plan(void *self, gw_plan *p)
{
    gain *g = self;
    g->on_device = p->on_device = p->device && !g->host;
    p->in_flight = (int)g->in_flight;
    g->slab_bytes = gw_spec_slab_bytes(&p->in[0]);
    p->n_out = 1;
    GW_TRY(gw_spec_copy(&p->out[0], &p->in[0]));
    p->out[0].name[0] = '\0';
    if (g->late) {
        p->delay_ns = gw_sample_to_ns(p->in[0].block_samples, p->in[0].rate, 0);
        p->keep_ns[0] = (GW_IN_FLIGHT + 1) * p->delay_ns;
    }
    return GW_OK;
}

static inline int gain_open(void *self, gw_env *env)
{
    gain *g = self;
    g->env = env;
    const bool lent = gw_env_device(env) && gw_env_queue(env);
    if (lent != g->on_device)
        return gw_fail(GW_EBUG, "a queue where none was wanted, or none");
    return lent ? gw_env_device(env)->memory_new(&g->scratch, g->slab_bytes, GW_SPACE_DEVICE) : GW_OK;
}

static inline void multiply(void *dst, const void *src, size_t bytes, double k)
{
    for (size_t i = 0; i < bytes / sizeof(float); i++)
        ((float *)dst)[i] = (float)k * ((const float *)src)[i];
}

static inline int work_on(gain *g, const gw_header *h, const void *data, const uint8_t *presence, gw_out *out)
{
    const size_t bytes = (size_t)h->n_samples * CHANNELS * sizeof(float);
    out->n_samples = h->n_samples;
    out->sample0 = h->sample0;
    if (presence)
        memcpy(out->presence, presence, (CHANNELS + 7) / 8);
    if (g->on_device) {
        gw_queue *q = gw_env_queue(g->env);
        GW_TRY(fake_run(q, multiply, g->scratch, data, bytes, g->k));
        return gw_env_device(g->env)->copy(q, out->data, g->scratch, bytes);
    }
    multiply(out->data, data, bytes, g->k);
    return GW_OK;
}

/* The block that is held goes out, and stays until that is done. */
static inline int let_out(gain *g, gw_out *out)
{
    gw_block *b = g->held;
    g->held = NULL;
    if (!b)
        return GW_OK;
    const int err = work_on(g, &b->hdr, b->data, gw_block_presence(b), out);
    if (g->on_device)
        g->used[out->slot] = b;
    else
        gw_block_unref(&b);
    return err;
}

/* What finish does on the device, step does on the host. */
static inline void sift(gain *g, gw_out *out)
{
    if (!g->sieve || !out->n_samples)
        return;
    const int64_t number = out->sample0 / 20;
    out->presence[1] &= (uint8_t) ~(number % 3 == 0 ? 1u : 0u);
    out->dq &= ~(uint64_t)(number % 5 == 0 ? GW_DQ_CBC_CAT2 : 0);
    if (number % 7 != 0)
        return;
    out->lost = true;
    out->lost_until = out->sample0 + out->n_samples;
    out->reason = GW_GAP_NAN;
    out->n_samples = 0;
}

static inline int gain_step(void *self, const gw_view *in, gw_out *out)
{
    gain *g = self;
    const gw_space space = g->on_device ? GW_SPACE_DEVICE : GW_SPACE_HOST;
    if ((in->space == GW_SPACE_DEVICE) != g->on_device || (out->space == GW_SPACE_DEVICE) != g->on_device)
        return gw_fail(GW_EBUG, "memory in another space than %d", (int)space);
    if (g->fail_at >= 0 && in->sample0 + in->n_samples > g->fail_at)
        return gw_fail(GW_EFORMAT, "told to fail");
    g->slot[g->stepped++ % GW_IN_FLIGHT] = out->slot;
    int err;
    if (g->late) {
        err = let_out(g, out);
        gw_block_ref(in->block);
        g->held = in->block;
    } else {
        err = work_on(g, &(gw_header){.n_samples = in->n_samples, .sample0 = in->sample0}, in->data,
                      in->presence, out);
    }
    if (!g->on_device)
        sift(g, out);
    return err;
}

static inline int gain_finish(void *self, gw_out *out)
{
    gain *g = self;
    if (!g->on_device || g->finished >= g->stepped || out->slot != g->slot[g->finished++ % GW_IN_FLIGHT])
        return gw_fail(GW_EBUG, "finish of another step");
    if (g->in_flight && g->stepped - g->finished >= g->in_flight)
        return gw_fail(GW_EBUG, "too many steps are under way");
    gw_block_unref(&g->used[out->slot]);
    sift(g, out);
    return GW_OK;
}

static inline int gain_gap(void *self, int port, const gw_hole *hole)
{
    (void)port;
    (void)hole;
    gain *g = self;
    if (g->on_device && g->finished != g->stepped)
        return gw_fail(GW_EBUG, "gap while a step is under way");
    gw_block_unref(&g->held);
    return GW_OK;
}

static inline int gain_drain(void *self, gw_out *out)
{
    gain *g = self;
    if (g->on_device && g->finished != g->stepped)
        return gw_fail(GW_EBUG, "drain while a step is under way");
    g->slot[g->stepped++ % GW_IN_FLIGHT] = out->slot;
    const int err = let_out(g, out);
    if (!g->on_device)
        sift(g, out);
    return err;
}

static inline void gain_close(void *self)
{
    gain *g = self;
    gw_block_unref(&g->held);
    for (int i = 0; i < GW_IN_FLIGHT; i++)
        gw_block_unref(&g->used[i]);
    if (g->scratch)
        gw_env_device(g->env)->memory_destroy(&g->scratch, GW_SPACE_DEVICE);
}

static const gw_kind kind_gain = {.kind = "gain",
                                  .role = GW_STAGE,
                                  .per_stream = true,
                                  .takes_presence = true,
                                  .state_size = sizeof(gain),
                                  .configure = gain_configure,
                                  .plan = gain_plan,
                                  .open = gain_open,
                                  .step = gain_step,
                                  .finish = gain_finish,
                                  .gap = gain_gap,
                                  .drain = gain_drain,
                                  .close = gain_close};

/* -- a sink that keeps everything it was given, by its number ------------------------------------------- */

enum { SINKS = 4 };

typedef struct seen {
    float value[CHANNELS][END]; /* NAN: nothing */
    uint8_t presence[2][END];
    uint32_t flags[END];
    uint64_t dq[END];
    uint8_t reason[END];
    int64_t end, blocks, drains;
} seen;
static seen kept[SINKS];

typedef struct look {
    int64_t number, slow_us;
} look;

static inline int look_configure(void *self, gw_conf *c)
{
    look *l = self;
    GW_TRY(gw_conf_get_int(c, "number", 0, SINKS - 1, &l->number));
    return gw_conf_get_int(c, "slow_us", 0, 100000, &l->slow_us);
}

static inline int look_take(void *self, int port, const gw_view *v)
{
    (void)port;
    const look *l = self;
    seen *s = &kept[l->number];
    if (v->space == GW_SPACE_DEVICE)
        return gw_fail(GW_EBUG, "a sink got the device's memory");
    if (l->slow_us)
        usleep((useconds_t)l->slow_us);
    s->blocks++;
    s->end = v->sample0 + v->n_samples;
    for (uint32_t i = 0; i < v->n_samples && v->sample0 + i < END; i++) {
        const int64_t at = v->sample0 + i;
        for (uint32_t c = 0; c < CHANNELS; c++)
            s->value[c][at] = ((const float *)v->data)[c * v->stride + i];
        for (int k = 0; k < 2; k++)
            s->presence[k][at] = v->presence ? v->presence[k] : 0xff;
        s->flags[at] = v->flags;
        s->dq[at] = v->dq;
    }
    return GW_OK;
}

static inline int look_gap(void *self, int port, const gw_hole *h)
{
    (void)port;
    seen *s = &kept[((look *)self)->number];
    for (uint64_t i = 0; i < h->samples && h->sample0 + (int64_t)i < END; i++)
        s->reason[h->sample0 + (int64_t)i] = (uint8_t)h->reason;
    s->end = h->sample0 + (int64_t)h->samples;
    return GW_OK;
}

static inline int look_drain(void *self, gw_out *out)
{
    (void)out;
    kept[((look *)self)->number].drains++;
    return GW_OK;
}

static const gw_kind kind_look = {.kind = "look",
                                  .role = GW_SINK,
                                  .takes_presence = true,
                                  .state_size = sizeof(look),
                                  .configure = look_configure,
                                  .take = look_take,
                                  .gap = look_gap,
                                  .drain = look_drain};

const gw_kind *const gw_kinds[] = {&kind_ramp, &kind_gain, &kind_look, NULL};

const gw_kind *gw_kind_find(const char *word)
{
    for (int i = 0; gw_kinds[i]; i++)
        if (strcmp(gw_kinds[i]->kind, word) == 0)
            return gw_kinds[i];
    return NULL;
}

/* -- a run ---------------------------------------------------------------------------------------------- */

/* Ends by itself, or is stopped after stop_ms. */
static inline int run(const char *yaml, int stop_ms)
{
    memset(kept, 0, sizeof kept);
    gw_graph *g;
    GW_TRY(gw_graph_parse(&g, "test", yaml));
    int err = gw_graph_start(g);
    if (err == GW_OK) {
        if (stop_ms) {
            assert_false(gw_graph_wait(g, stop_ms));
            gw_graph_stop(g);
        }
        assert_true(gw_graph_wait(g, 30000));
        uint64_t bad;
        err = gw_graph_result(g, &bad);
    }
    char detail[512];
    snprintf(detail, sizeof detail, "%s", gw_err_detail());
    gw_graph_free(&g);
    return err == GW_OK ? GW_OK : gw_fail(err, "%s", detail);
}

static const fake_wish late_and_by_chance = {.seed = 5, .delay_us = 300};

static inline fake_report run_on(const fake_wish *w, const char *yaml, int stop_ms, int *err)
{
    gw_device_set(fake_device_begin(w));
    *err = run(yaml, stop_ms);
    gw_device_set(NULL);
    const fake_report r = fake_device_end();
    if (r.violations && !w->hasty)
        print_message("violation: %s\n", r.text);
    assert_int_equal(r.memory_bytes, 0);
    assert_int_equal(r.queues + r.marks, 0);
    return r;
}

/* The same graph on the host and on the device: the same samples, presence, marks, gaps. */
static inline fake_report compare(const fake_wish *w, const char *yaml)
{
    static seen host[SINKS];
    assert_int_equal(run(yaml, 0), GW_OK);
    memcpy(host, kept, sizeof kept);
    int err;
    const fake_report r = run_on(w, yaml, 0, &err);
    assert_int_equal(err, GW_OK);
    assert_int_equal(r.violations, 0);
    assert_true(host[0].blocks > 0 && host[0].drains == 1);
    for (int i = 0; i < SINKS; i++)
        assert_memory_equal(&host[i], &kept[i], sizeof kept[i]);
    return r;
}

#endif
