/* SPDX-License-Identifier: GPL-3.0-or-later
 * What the tests of the runner share: a source of numbered samples, a stage that adds them, a sink that
 * remembers, and a run of a graph of these. Each program has a table of kinds (gw_kinds) of its own. */
#ifndef GW_RUNNER_RIG_H
#define GW_RUNNER_RIG_H

#include "pipeline/graph.h"

#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

/* -- a source of two streams: the sample's value is its number; a hole in one of them ----------------- */

typedef struct counter {
    int64_t block, from, to, hole_from, hole_to, at[2];
    bool endless, both;                  /* both: the hole is in either stream */
    int64_t slow_ms, stall_at, stall_ms; /* before the block that begins at stall_at */
} counter;

static inline int counter_configure(void *self, gw_conf *c)
{
    counter *s = self;
    s->block = 10;
    s->to = 1000;
    GW_TRY(gw_conf_get_int(c, "block", 1, 1000, &s->block));
    GW_TRY(gw_conf_get_int(c, "from", 0, 1000, &s->from));
    GW_TRY(gw_conf_get_int(c, "to", 1, INT64_C(1) << 40, &s->to));
    GW_TRY(gw_conf_get_int(c, "hole_from", 0, 100000, &s->hole_from));
    GW_TRY(gw_conf_get_int(c, "hole_to", 0, INT64_C(1) << 40, &s->hole_to));
    GW_TRY(gw_conf_get_bool(c, "both", &s->both));
    GW_TRY(gw_conf_get_int(c, "slow_ms", 0, 1000, &s->slow_ms));
    s->stall_at = -1;
    GW_TRY(gw_conf_get_int(c, "stall_at", 0, 100000, &s->stall_at));
    GW_TRY(gw_conf_get_int(c, "stall_ms", 0, 10000, &s->stall_ms));
    return gw_conf_get_bool(c, "endless", &s->endless);
}

static inline int counter_plan(void *self, gw_plan *p)
{
    counter *s = self;
    p->n_out = 2;
    for (int i = 0; i < 2; i++) {
        p->out[i] = (gw_spec){.rate = {100, 1}, .dtype = GW_F64, .block_samples = (uint32_t)s->block};
        snprintf(p->out[i].detector, sizeof p->out[i].detector, i ? "L1" : "H1");
        const char *name = i ? "L1:X" : "H1:X";
        GW_TRY(gw_spec_set_channels(&p->out[i], 1, &name));
        s->at[i] = s->from;
    }
    return GW_OK;
}

static inline int counter_open(void *self, gw_env *env)
{
    (void)self;
    gw_env_start(env, 0, 0);
    return GW_OK;
}

static inline int counter_next(void *self, int port, gw_piece *p)
{
    counter *s = self;
    int64_t at = s->at[port];
    if (at >= s->to && !s->endless)
        return GW_EEND;
    if (s->slow_ms)
        usleep((useconds_t)s->slow_ms * 1000);
    if (at == s->stall_at)
        usleep((useconds_t)s->stall_ms * 1000);
    p->sample0 = at;
    const bool holed = port == 1 || s->both;
    if (holed && at >= s->hole_from && at < s->hole_to) {
        p->gap_samples = (uint64_t)(s->hole_to - at);
        p->reason = GW_GAP_ABSENT;
        s->at[port] = s->hole_to;
        return GW_OK;
    }
    int64_t end = (at / s->block + 1) * s->block;
    end = end > s->to && !s->endless ? s->to : end;
    if (holed && at < s->hole_from && end > s->hole_from)
        end = s->hole_from;
    p->n_samples = (uint32_t)(end - at);
    for (int64_t i = at; i < end; i++)
        ((double *)p->data)[i - at] = (double)i;
    s->at[port] = end;
    return GW_OK;
}

static const gw_kind kind_counter = {.kind = "counter",
                                     .role = GW_SOURCE,
                                     .state_size = sizeof(counter),
                                     .configure = counter_configure,
                                     .plan = counter_plan,
                                     .open = counter_open,
                                     .next = counter_next};

/* -- a stage: sum of a sample and the one `history` before it, `late` samples behind ------------------ */

typedef struct summer {
    int64_t hop, history, late, fail_at, gaps, slow_ms;
    bool spare, useless; /* input 1 may be missing; is of no use */
    gw_env *env;
} summer;

static inline int summer_configure(void *self, gw_conf *c)
{
    summer *s = self;
    s->hop = 10;
    s->fail_at = -1;
    GW_TRY(gw_conf_get_int(c, "hop", 0, 1000, &s->hop));
    GW_TRY(gw_conf_get_int(c, "history", 0, 1000, &s->history));
    GW_TRY(gw_conf_get_int(c, "late", 0, 1000, &s->late));
    GW_TRY(gw_conf_get_int(c, "slow_ms", 0, 1000, &s->slow_ms));
    GW_TRY(gw_conf_get_bool(c, "spare", &s->spare));
    GW_TRY(gw_conf_get_bool(c, "useless", &s->useless));
    return gw_conf_get_int(c, "fail_at", 0, 100000, &s->fail_at);
}

static inline int summer_plan(void *self, gw_plan *p)
{
    summer *s = self;
    for (int i = 0; i < p->n_in; i++) {
        p->hop[i] = (uint32_t)s->hop;
        p->history[i] = (uint32_t)s->history;
        p->may_lack[i] = i && (s->spare || s->useless);
        if (i && s->useless)
            p->hop[i] = 0;
    }
    p->n_out = 1;
    GW_TRY(gw_spec_copy(&p->out[0], &p->in[0]));
    p->out[0].name[0] = '\0';
    if (p->n_in > 1)
        p->out[0].detector[0] = '\0';
    if (s->hop)
        p->out[0].block_samples = (uint32_t)s->hop;
    p->delay_ns = s->late * 10000000;
    return GW_OK;
}

static inline int summer_open(void *self, gw_env *env)
{
    ((summer *)self)->env = env;
    return GW_OK;
}

static inline int summer_step(void *self, const gw_view *in, gw_out *out)
{
    summer *s = self;
    const double *x = in[0].data;
    if (s->fail_at >= 0 && in[0].sample0 + in[0].n_samples > s->fail_at)
        return gw_fail(GW_EFORMAT, "told to fail");
    usleep((useconds_t)s->slow_ms * 1000);
    const bool alone = (s->spare || s->useless) && !in[1].data;
    for (uint32_t i = 0; i < in[0].n_samples; i++) {
        if (x[i] != (double)(in[0].sample0 + i))
            return gw_fail(GW_EBUG, "sample %g at %lld", x[i], (long long)(in[0].sample0 + i));
        ((double *)out[0].data)[i] = x[i] + (alone ? 0 : x[(int64_t)i - s->history]);
    }
    out[0].n_samples = in[0].n_samples;
    out[0].sample0 = in[0].sample0 - s->late;
    return GW_OK;
}

static inline int summer_gap(void *self, int port, const gw_hole *hole)
{
    (void)port;
    (void)hole;
    ((summer *)self)->gaps++;
    gw_event e = {.phase = GW_PHASE_FINAL, .gps_ns = hole->sample0};
    return gw_env_emit(((summer *)self)->env, &e);
}

static const gw_kind kind_sum = {.kind = "sum",
                                 .role = GW_STAGE,
                                 .per_stream = true,
                                 .makes_events = true,
                                 .state_size = sizeof(summer),
                                 .configure = summer_configure,
                                 .plan = summer_plan,
                                 .open = summer_open,
                                 .step = summer_step,
                                 .gap = summer_gap};
static const gw_kind kind_both = {.kind = "both",
                                  .role = GW_STAGE,
                                  .makes_events = true,
                                  .state_size = sizeof(summer),
                                  .configure = summer_configure,
                                  .plan = summer_plan,
                                  .open = summer_open,
                                  .step = summer_step,
                                  .gap = summer_gap};

/* -- a sink that remembers --------------------------------------------------------------------------- */

enum { KEEP = 4000 };

static struct {
    double value[2][KEEP];
    int64_t first[2], end[2], lost[2];
    int64_t lost_for[GW_GAP_REASON_COUNT];
    int events, drains;
    bool tiles;
} seen;

static inline int keep_take(void *self, int port, const gw_view *v)
{
    (void)self;
    if (seen.first[port] < 0)
        seen.first[port] = seen.end[port] = v->sample0;
    seen.tiles &= v->sample0 == seen.end[port];
    for (uint32_t i = 0; i < v->n_samples && v->sample0 + i < KEEP; i++)
        if (v->sample0 + i >= 0)
            seen.value[port][v->sample0 + i] = ((const double *)v->data)[i];
    seen.end[port] = v->sample0 + v->n_samples;
    return GW_OK;
}

static inline int keep_gap(void *self, int port, const gw_hole *h)
{
    (void)self;
    if (seen.first[port] < 0)
        seen.first[port] = seen.end[port] = h->sample0;
    seen.tiles &= h->sample0 == seen.end[port];
    seen.lost[port] += (int64_t)h->samples;
    seen.lost_for[h->reason] += (int64_t)h->samples;
    seen.end[port] = h->sample0 + (int64_t)h->samples;
    return GW_OK;
}

static inline int keep_event(void *self, const gw_event *e)
{
    (void)self;
    (void)e;
    seen.events++;
    return GW_OK;
}

static inline int keep_drain(void *self, gw_out *out)
{
    (void)self;
    (void)out;
    seen.drains++;
    return GW_OK;
}

static const gw_kind kind_keep = {.kind = "keep",
                                  .role = GW_SINK,
                                  .takes_events = true,
                                  .take = keep_take,
                                  .gap = keep_gap,
                                  .event = keep_event,
                                  .drain = keep_drain};

static inline int mute_take(void *self, int port, const gw_view *v)
{
    (void)self;
    (void)port;
    (void)v;
    return GW_OK;
}

static const gw_kind kind_mute = {.kind = "mute", .role = GW_SINK, .take = mute_take};

/* -- a run -------------------------------------------------------------------------------------------- */

const gw_kind *gw_kind_find(const char *word)
{
    for (int i = 0; gw_kinds[i]; i++)
        if (strcmp(gw_kinds[i]->kind, word) == 0)
            return gw_kinds[i];
    return NULL;
}

static inline int run(const char *yaml)
{
    memset(&seen, 0, sizeof seen);
    seen.tiles = true;
    seen.first[0] = seen.first[1] = -1;
    for (int p = 0; p < 2; p++)
        for (int i = 0; i < KEEP; i++)
            seen.value[p][i] = -1;
    gw_graph *g;
    int err = gw_graph_parse(&g, "test", yaml);
    if (err != GW_OK)
        return err;
    err = gw_graph_start(g);
    assert_int_equal(err, GW_OK);
    assert_true(gw_graph_wait(g, 20000));
    uint64_t bad;
    err = gw_graph_result(g, &bad);
    char detail[512];
    snprintf(detail, sizeof detail, "%s", gw_err_detail());
    gw_graph_free(&g);
    return err == GW_OK ? GW_OK : gw_fail(err, "%s", detail);
}

#endif
