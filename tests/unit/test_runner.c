/* SPDX-License-Identifier: GPL-3.0-or-later
 * The runner and the graph, with small kinds of our own: hops on the absolute grid whatever the blocks,
 * history, holes widened by it, alignment of two streams, events, a stage that fails, a stop. */
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

static int counter_configure(void *self, gw_conf *c)
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

static int counter_plan(void *self, gw_plan *p)
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

static int counter_open(void *self, gw_env *env)
{
    (void)self;
    gw_env_start(env, 0, 0);
    return GW_OK;
}

static int counter_next(void *self, int port, gw_piece *p)
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

static int summer_configure(void *self, gw_conf *c)
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

static int summer_plan(void *self, gw_plan *p)
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

static int summer_open(void *self, gw_env *env)
{
    ((summer *)self)->env = env;
    return GW_OK;
}

static int summer_step(void *self, const gw_view *in, gw_out *out)
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

static int summer_gap(void *self, int port, const gw_hole *hole)
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

static int keep_take(void *self, int port, const gw_view *v)
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

static int keep_gap(void *self, int port, const gw_hole *h)
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

static int keep_event(void *self, const gw_event *e)
{
    (void)self;
    (void)e;
    seen.events++;
    return GW_OK;
}

static int keep_drain(void *self, gw_out *out)
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

static int mute_take(void *self, int port, const gw_view *v)
{
    (void)self;
    (void)port;
    (void)v;
    return GW_OK;
}

/* -- channels that come and go: channel c of three is absent in block b where b % 5 == c -------------- */

static int flaky_plan(void *self, gw_plan *p)
{
    (void)self;
    p->n_out = 1;
    p->out[0] = (gw_spec){.rate = {100, 1}, .dtype = GW_F64, .block_samples = 10};
    return gw_spec_set_channels(&p->out[0], 3, NULL);
}

static int flaky_next(void *self, int port, gw_piece *p)
{
    int64_t *at = self;
    (void)port;
    if (*at == 1000)
        return GW_EEND;
    p->sample0 = *at;
    p->n_samples = 10;
    for (int i = 0; i < 30; i++)
        ((double *)p->data)[i] = (double)(*at + i % 10);
    const int64_t absent = *at / 10 % 5;
    if (absent < 3)
        p->presence[0] &= (uint8_t) ~(1u << absent);
    *at += 10;
    return GW_OK;
}

static const gw_kind kind_flaky = {.kind = "flaky",
                                   .role = GW_SOURCE,
                                   .state_size = sizeof(int64_t),
                                   .plan = flaky_plan,
                                   .next = flaky_next};

/* Minds its channels: each is handed on as absent where it is absent in the hop or its history. */
static int minder_step(void *self, const gw_view *in, gw_out *out)
{
    (void)self;
    for (uint32_t c = 0; c < 3; c++) {
        memcpy((double *)out->data + c * in->n_samples, (const double *)in->data + c * in->stride,
               in->n_samples * sizeof(double));
        if (!gw_present(in->presence, c))
            out->presence[0] &= (uint8_t) ~(1u << c);
    }
    out->n_samples = in->n_samples;
    out->sample0 = in->sample0;
    return GW_OK;
}

static const gw_kind kind_minder = {.kind = "minder",
                                    .role = GW_STAGE,
                                    .takes_presence = true,
                                    .state_size = sizeof(summer),
                                    .configure = summer_configure,
                                    .plan = summer_plan,
                                    .step = minder_step};

static uint8_t present[1000]; /* bits of each sample's channels */

static int look_take(void *self, int port, const gw_view *v)
{
    (void)self;
    (void)port;
    for (uint32_t i = 0; i < v->n_samples; i++)
        for (uint32_t c = 0; c < 3; c++)
            if (gw_present(v->presence, c))
                present[v->sample0 + i] |= (uint8_t)(1u << c);
    return GW_OK;
}

static const gw_kind kind_look = {.kind = "look", .role = GW_SINK, .takes_presence = true, .take = look_take};

/* -- a sink that holds on to the last two seconds ----------------------------------------------------- */

enum { HELD = 20 };

typedef struct holder {
    gw_block *held[HELD];
    int n;
} holder;

static int holder_plan(void *self, gw_plan *p)
{
    (void)self;
    for (int i = 0; i < p->n_in; i++)
        p->keep_ns[i] = 2 * GW_SECOND_NS;
    return GW_OK;
}

static int holder_take(void *self, int port, const gw_view *v)
{
    holder *h = self;
    (void)port;
    gw_block **oldest = &h->held[h->n++ % HELD];
    if (*oldest && (*oldest)->hdr.sample0 != v->sample0 - HELD * 10)
        return gw_fail(GW_EBUG, "it holds the wrong block");
    if (*oldest && ((double *)(*oldest)->data)[9] != (double)((*oldest)->hdr.sample0 + 9))
        return gw_fail(GW_EBUG, "a block that is held was written to");
    gw_block_unref(oldest);
    *oldest = v->block;
    gw_block_ref(v->block);
    return GW_OK;
}

static void holder_close(void *self)
{
    holder *h = self;
    for (int i = 0; i < HELD; i++)
        gw_block_unref(&h->held[i]);
}

static const gw_kind kind_hold = {.kind = "hold",
                                  .role = GW_SINK,
                                  .state_size = sizeof(holder),
                                  .plan = holder_plan,
                                  .take = holder_take,
                                  .close = holder_close};

/* -- a stage that tells of every block, and a sink that fails at the first ----------------------------- */

typedef struct chatter {
    gw_env *env;
} chatter;

static int chatter_plan(void *self, gw_plan *p)
{
    (void)self;
    p->n_out = 1;
    GW_TRY(gw_spec_copy(&p->out[0], &p->in[0]));
    p->out[0].name[0] = '\0';
    return GW_OK;
}

static int chatter_open(void *self, gw_env *env)
{
    ((chatter *)self)->env = env;
    return GW_OK;
}

static int chatter_step(void *self, const gw_view *in, gw_out *out)
{
    memcpy(out->data, in->data, in->n_samples * sizeof(double));
    out->n_samples = in->n_samples;
    out->sample0 = in->sample0;
    const gw_event e = {.phase = GW_PHASE_INJECTION, .gps_ns = in->sample0};
    return gw_env_emit(((chatter *)self)->env, &e);
}

static const gw_kind kind_chatter = {.kind = "chatter",
                                     .role = GW_STAGE,
                                     .per_stream = true,
                                     .makes_events = true,
                                     .state_size = sizeof(chatter),
                                     .plan = chatter_plan,
                                     .open = chatter_open,
                                     .step = chatter_step};

static int broken_take(void *self, int port, const gw_view *v)
{
    (void)self;
    (void)port;
    (void)v;
    return gw_fail(GW_EIO, "broken from the start");
}

static int broken_event(void *self, const gw_event *e)
{
    (void)self;
    (void)e;
    return GW_OK;
}

static const gw_kind kind_broken = {
    .kind = "broken", .role = GW_SINK, .takes_events = true, .take = broken_take, .event = broken_event};

static const gw_kind kind_mute = {.kind = "mute", .role = GW_SINK, .take = mute_take};

const gw_kind *const gw_kinds[] = {&kind_counter, &kind_sum,     &kind_both,   &kind_keep,
                                   &kind_mute,    &kind_flaky,   &kind_minder, &kind_look,
                                   &kind_hold,    &kind_chatter, &kind_broken, NULL};

const gw_kind *gw_kind_find(const char *word)
{
    for (int i = 0; gw_kinds[i]; i++)
        if (strcmp(gw_kinds[i]->kind, word) == 0)
            return gw_kinds[i];
    return NULL;
}

static int run(const char *yaml)
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

/* -- tests ------------------------------------------------------------------------------------------- */

static void test_hops_do_not_depend_on_blocks(void **state)
{
    (void)state;
    static const int blocks[] = {1, 3, 7, 10, 64, 1000};
    for (size_t b = 0; b < sizeof blocks / sizeof blocks[0]; b++) {
        for (int history = 0; history < 30; history += 14) {
            char yaml[512];
            snprintf(yaml, sizeof yaml,
                     "sources: {a: {kind: counter, block: %d, from: 13, to: 777}}\n"
                     "stages: {s: {kind: sum, from: a, hop: 20, history: %d, late: 5}}\n"
                     "sinks: {k: {kind: keep, from: s}}\n",
                     blocks[b], history);
            assert_int_equal(run(yaml), GW_OK);
            assert_true(seen.tiles);
            assert_int_equal(seen.drains, 1);
            /* the first whole hop with its history behind it, on the grid; five samples late */
            int64_t first = history == 0 ? 20 : history == 14 ? 40 : 60;
            assert_int_equal(seen.end[0], 760 - 5);
            for (int64_t i = 0; i < 755; i++)
                assert_true(seen.value[0][i] == (i + 5 < first ? -1 : (double)(2 * (i + 5) - history)));
        }
    }
}

static void test_blocks_as_they_come(void **state)
{
    (void)state;
    assert_int_equal(run("sources: {a: {kind: counter, block: 7, to: 100, hole_from: 30, hole_to: 50}}\n"
                         "stages: {s: {kind: sum, from: a, hop: 0}}\n"
                         "sinks: {k: {kind: keep, from: s}}\n"),
                     GW_OK);
    assert_true(seen.tiles);
    assert_int_equal(seen.end[0], 100);
    assert_int_equal(seen.lost[0], 0);
    assert_int_equal(seen.lost[1], 20);
    assert_true(seen.value[0][99] == 198 && seen.value[1][29] == 58 && seen.value[1][50] == 100);
}

static void test_hole_is_widened_by_history(void **state)
{
    (void)state;
    assert_int_equal(run("sources: {a: {kind: counter, block: 10, to: 1000, hole_from: 303, hole_to: 404}}\n"
                         "stages: {s: {kind: sum, from: a, hop: 10, history: 25}}\n"
                         "sinks: {k: {kind: keep, from: s}}\n"),
                     GW_OK);
    assert_true(seen.tiles);
    assert_true(seen.value[1][299] == 2 * 299 - 25);
    for (int i = 300; i < 430; i++) /* 404 + 25 = 429: the next hop begins at 430 */
        assert_true(seen.value[1][i] == -1);
    assert_true(seen.value[1][430] == 2 * 430 - 25);
    assert_true(seen.value[0][350] == 2 * 350 - 25); /* the other detector does not suffer */
    assert_int_equal(seen.lost[1], 30 + 130);        /* the first hops had no history either */
    assert_int_equal(seen.end[1], 1000);
    assert_int_equal(seen.events, 1); /* gap() was called once, and its event came through */
}

/* A client with other time stamps, or a sender that was started anew with other data: one GAP, at once, not a
 * turn for each of 1.6e9 hops. As before: it ends where a short one would. */
#define TEN_YEARS INT64_C(31557600000) /* samples */
static void test_a_hole_of_ten_years(void **state)
{
    (void)state;
    static const int64_t longer[] = {0, TEN_YEARS};
    for (int i = 0; i < 2; i++) {
        const int64_t more = longer[i];
        char yaml[700];
        snprintf(yaml, sizeof yaml,
                 "sources: {a: {kind: counter, to: %" PRId64 ", hole_from: 303, hole_to: %" PRId64
                 ", both: true}}\n"
                 "stages: {s: {kind: sum, from: a, hop: 10, history: 25}}\n"
                 "sinks: {k: {kind: keep, from: s}}\n",
                 more + 1000, more + 404);
        assert_int_equal(run(yaml), GW_OK);
        assert_true(seen.tiles && seen.value[1][299] == 2 * 299 - 25);
        assert_int_equal(seen.lost[1], more + 30 + 130);
        assert_int_equal(seen.end[1], more + 1000);
        /* two that differ: the next whole hop begins at 850 */
        snprintf(yaml, sizeof yaml,
                 "sources: {a: {kind: counter, to: %" PRId64 ", hole_from: 303, hole_to: %" PRId64
                 ", both: true},\n"
                 "          b: {kind: counter, to: %" PRId64 ", hole_from: 407, hole_to: %" PRId64
                 ", both: true, block: 9}}\n"
                 "stages: {s: {kind: both, from: [a.H1, b.L1], hop: 50}}\n"
                 "sinks: {k: {kind: keep, from: s}, m: {kind: mute, from: [a.L1, b.H1]}}\n",
                 more + 1000, more + 404, more + 1000, more + 808);
        assert_int_equal(run(yaml), GW_OK);
        assert_true(seen.tiles && seen.value[0][299] == 2 * 299);
        assert_int_equal(seen.lost[0], more + 550);
        assert_int_equal(seen.end[0], more + 1000);
    }
}

/* One input jumps while the other is late, and given up. */
static void test_a_hole_of_ten_years_in_live_data(void **state)
{
    (void)state;
    char yaml[700];
    snprintf(yaml, sizeof yaml,
             "sources: {a: {kind: counter, to: %" PRId64 ", hole_from: 303, hole_to: %" PRId64
             ", both: true},\n"
             "          b: {kind: counter, to: 1000, stall_at: 300, stall_ms: 400}}\n"
             "stages: {s: {kind: both, from: [b.L1, a.H1], hop: 20, patience: 100ms}}\n"
             "sinks: {k: {kind: keep, from: s}, m: {kind: mute, from: [a.L1, b.H1]}}\n",
             TEN_YEARS + 1000, TEN_YEARS + 404);
    assert_int_equal(run(yaml), GW_OK);
    assert_true(seen.tiles && seen.value[0][299] == 2 * 299);
    assert_true(seen.end[0] >= TEN_YEARS + 400 && seen.lost[0] == seen.end[0] - 300);
}

static void test_two_streams_are_aligned(void **state)
{
    (void)state;
    assert_int_equal(
        run("sources: {a: {kind: counter, block: 9, to: 1000, hole_from: 303, hole_to: 404}}\n"
            "stages: {early: {kind: sum, from: a, hop: 3, late: 3}, s: {kind: both, from: a, hop: 50}}\n"
            "sinks: {k: {kind: keep, from: s}, l: {kind: mute, from: early.L1}}\n"),
        GW_OK);
    assert_int_equal(run("sources: {a: {kind: counter, block: 9, to: 1000, hole_from: 303, hole_to: 404}}\n"
                         "stages: {s: {kind: both, from: a, hop: 50}}\n"
                         "sinks: {k: {kind: keep, from: s}}\n"),
                     GW_OK);
    assert_true(seen.tiles);
    assert_true(seen.value[0][299] == 2 * 299);
    for (int i = 300; i < 450; i++)
        assert_true(seen.value[0][i] == -1);
    assert_true(seen.value[0][450] == 2 * 450);
    assert_int_equal(seen.events, 1);
}

/* Two sources, one late and slow: the stage sleeps while it lacks that input, although the other has blocks
 * for it; and a source whose streams start elsewhere than another's does not starve itself. */
static void test_waiting_for_one_input_costs_nothing(void **state)
{
    (void)state;
    const clock_t before = clock();
    assert_int_equal(run("sources: {a: {kind: counter, block: 10, to: 400},\n"
                         "          b: {kind: counter, block: 10, from: 200, to: 400, slow_ms: 20}}\n"
                         "stages: {s: {kind: both, from: [b.L1, a.H1], hop: 20}}\n"
                         "sinks: {k: {kind: keep, from: s}, m: {kind: mute, from: [a.L1, b.H1]}}\n"),
                     GW_OK);
    const double cpu_s = (double)(clock() - before) / CLOCKS_PER_SEC;
    assert_true(seen.tiles);
    assert_int_equal(seen.end[0], 400);
    assert_true(seen.value[0][200] == 400);
    if (cpu_s > 0.3) /* it runs for 0.8 s; a stage that spins takes all of that */
        fail_msg("%.2f s of CPU for a run that mostly waits", cpu_s);
}

/* b stalls for a second while a goes on: with patience the stage does too, and takes b again when it is back.
 */
static void test_a_late_input_is_given_up(void **state)
{
    (void)state;
    const char *yaml = "sources: {a: {kind: counter, block: 10, to: 1000, slow_ms: 3},\n"
                       "          b: {kind: counter, block: 10, to: 1000, stall_at: 300, stall_ms: 400}}\n"
                       "stages: {s: {kind: both, from: [b.L1, a.H1], hop: 20%s}}\n"
                       "sinks: {k: {kind: keep, from: s}, m: {kind: mute, from: [a.L1, b.H1]}}\n";
    char text[600];
    snprintf(text, sizeof text, yaml, ", patience: 100ms");
    assert_int_equal(run(text), GW_OK);
    assert_true(seen.tiles);
    assert_int_equal(seen.end[0], 1000);
    for (int i = 0; i < 300; i++)
        assert_true(seen.value[0][i] == 2 * i);
    assert_true(seen.lost[0] >= 20 && seen.lost[0] == seen.lost_for[GW_GAP_LATE]);
    assert_true(seen.value[0][999] == 2 * 999); /* it was back */
    assert_true(seen.events >= 1);              /* gap() was called */
    snprintf(text, sizeof text, yaml, "");
    assert_int_equal(run(text), GW_OK);
    assert_int_equal(seen.lost[0], 0); /* without, it waits */
}

/* One that never comes must not keep the others from beginning. */
static void test_an_absent_input_is_given_up(void **state)
{
    (void)state;
    assert_int_equal(run("sources: {a: {kind: counter, block: 10, to: 500, slow_ms: 2},\n"
                         "          b: {kind: counter, block: 10, to: 500, stall_at: 0, stall_ms: 600}}\n"
                         "stages: {s: {kind: both, from: [b.L1, a.H1], hop: 20, patience: 100ms}}\n"
                         "sinks: {k: {kind: keep, from: s}, m: {kind: mute, from: [a.L1, b.H1]}}\n"),
                     GW_OK);
    assert_true(seen.tiles);
    assert_true(seen.lost_for[GW_GAP_LATE] > 0 && seen.first[0] == 0);
}

/* An input that may be missing: a hole in it, its end and its lateness cost the others nothing, and gap()
 * does not speak of it. */
static void test_an_input_may_be_missing(void **state)
{
    (void)state;
    assert_int_equal(run("sources: {a: {kind: counter, block: 9, to: 1000, hole_from: 303, hole_to: 404}}\n"
                         "stages: {s: {kind: both, from: [a.H1, a.L1], hop: 50, spare: true}}\n"
                         "sinks: {k: {kind: keep, from: s}}\n"),
                     GW_OK);
    assert_true(seen.tiles && seen.first[0] == 0 && seen.end[0] == 1000);
    assert_int_equal(seen.lost[0], 0);
    assert_int_equal(seen.events, 0);
    for (int i = 0; i < 1000; i++)
        assert_true(seen.value[0][i] == (i >= 300 && i < 450 ? i : 2 * i));
    assert_int_equal(run("sources: {a: {kind: counter, to: 1000}, b: {kind: counter, from: 100, to: 500}}\n"
                         "stages: {s: {kind: both, from: [a.H1, b.L1], hop: 20, history: 10, spare: true}}\n"
                         "sinks: {k: {kind: keep, from: s}, m: {kind: mute, from: [a.L1, b.H1]}}\n"),
                     GW_OK);
    assert_true(seen.tiles && seen.end[0] == 1000);
    for (int i = 20; i < 1000; i++) /* b has a hop's history from 120 on */
        assert_true(seen.value[0][i] == (i < 120 || i >= 500 ? i : 2 * i - 10));
    assert_int_equal(
        run("sources: {a: {kind: counter, block: 10, to: 1000, slow_ms: 3},\n"
            "          b: {kind: counter, block: 10, to: 1000, stall_at: 300, stall_ms: 400}}\n"
            "stages: {s: {kind: both, from: [a.H1, b.L1], hop: 20, spare: true, patience: 100ms}}\n"
            "sinks: {k: {kind: keep, from: s}, m: {kind: mute, from: [a.L1, b.H1]}}\n"),
        GW_OK);
    assert_true(seen.tiles && seen.end[0] == 1000 && seen.lost[0] == 0 && seen.events == 0);
    assert_true(seen.value[0][300] == 300 && seen.value[0][299] == 2 * 299 && seen.value[0][999] == 2 * 999);
    assert_int_equal(
        run("sources: {a: {kind: counter, block: 10, to: 500, stall_at: 100, stall_ms: 300},\n"
            "          b: {kind: counter, block: 10, to: 500}}\n"
            "stages: {s: {kind: both, from: [a.H1, b.L1], hop: 20, spare: true, patience: 50ms}}\n"
            "sinks: {k: {kind: keep, from: s}, m: {kind: mute, from: [a.L1, b.H1]}}\n"),
        GW_OK);
    assert_true(seen.end[0] == 500 && seen.lost[0] == 0); /* it gives nobody up ... */
    assert_int_equal(
        run("sources: {a: {kind: counter, block: 10, to: 500, stall_at: 0, stall_ms: 200},\n"
            "          b: {kind: counter, block: 10, to: 500}}\n"
            "stages: {s: {kind: both, from: [a.H1, b.L1], hop: 20, spare: true, patience: 50ms}}\n"
            "sinks: {k: {kind: keep, from: s}, m: {kind: mute, from: [a.L1, b.H1]}}\n"),
        GW_OK);
    assert_true(seen.first[0] == 0 && seen.end[0] == 500 &&
                seen.lost[0] == 0); /* ... before the first hop too */
    assert_int_equal(
        run("sources: {a: {kind: counter, block: 7, from: 60, to: 1000, both: true, hole_from: 303, "
            "hole_to: 404}}\n"
            "stages: {s: {kind: both, from: [a.H1, a.L1], hop: 50, history: 10, useless: true}}\n"
            "sinks: {k: {kind: keep, from: s}}\n"),
        GW_OK);
    assert_true(seen.tiles && seen.end[0] == 1000 && seen.value[0][999] == 999);
}

static void test_a_stage_may_drop(void **state)
{
    (void)state;
    assert_int_equal(run("sources: {a: {kind: counter, to: 1000, slow_ms: 1}}\n"
                         "stages: {fast: {kind: sum, from: a.H1}, s: {kind: both, from: a.L1, slow_ms: 10, "
                         "on_full: drop, credit: 2}}\n"
                         "sinks: {k: {kind: keep, from: [fast, s]}}\n"),
                     GW_OK);
    assert_true(seen.tiles);
    assert_int_equal(seen.lost[0], 0);
    assert_int_equal(seen.end[0], 1000);
    assert_true(seen.lost[1] > 0 && seen.lost[1] == seen.lost_for[GW_GAP_DROPPED]);
    assert_int_equal(seen.end[1], 1000);
}

static void test_absent_channels(void **state)
{
    (void)state;
    memset(present, 0, sizeof present);
    assert_int_equal(run("sources: {a: {kind: flaky}}\n"
                         "sinks: {k: {kind: keep, from: a}, l: {kind: look, from: a}}\n"),
                     GW_OK);
    for (int i = 0; i < 1000; i++)
        assert_int_equal(present[i], 7 & ~(1 << i / 10 % 5));
    assert_true(seen.tiles); /* who does not mind them has holes instead */
    assert_int_equal(seen.lost[0], 600);
    assert_int_equal(seen.lost_for[GW_GAP_CHANNEL], 600);
    memset(present, 0, sizeof present);
    assert_int_equal(run("sources: {a: {kind: flaky}}\n"
                         "stages: {m: {kind: minder, from: a, hop: 15, history: 5}}\n"
                         "sinks: {l: {kind: look, from: m}}\n"),
                     GW_OK);
    for (int i = 15; i < 990; i++) { /* absent in any block of the hop or its history */
        const int from = i / 15 * 15 - 5, to = from + 20;
        int want = 7;
        for (int b = from / 10; b <= (to - 1) / 10; b++)
            want &= ~(1 << b % 5);
        assert_int_equal(present[i], want);
    }
}

static void test_a_sink_holds_on(void **state)
{
    (void)state;
    assert_int_equal(run("sources: {a: {kind: counter, to: 3000}}\n"
                         "sinks: {k: {kind: keep, from: a}, h: {kind: hold, from: a.H1, on_full: wait}}\n"),
                     GW_OK);
    assert_int_equal(seen.end[0], 3000);
}

static void test_failure_names_the_stage(void **state)
{
    (void)state;
    assert_int_equal(run("sources: {a: {kind: counter, endless: true}}\n"
                         "stages: {s: {kind: sum, from: a, fail_at: 500}}\n"
                         "sinks: {k: {kind: keep, from: s}}\n"),
                     GW_EFORMAT);
    assert_non_null(strstr(gw_err_detail(), "told to fail"));
    assert_non_null(strstr(gw_err_detail(), "s.")); /* s.H1 or s.L1, whichever comes first */
    assert_true(seen.tiles);
}

/* Each of the failed sink's feeds ends only after the other's producer could go on. */
static void test_a_failed_sink_lets_all_its_producers_go_on(void **state)
{
    (void)state;
    assert_int_equal(run("sources: {a: {kind: counter, to: 5000}}\n"
                         "stages: {s: {kind: chatter, from: a}}\n"
                         "sinks: {k: {kind: keep, from: s}, b: {kind: broken, from: s}}\n"),
                     GW_EIO);
    assert_non_null(strstr(gw_err_detail(), "broken from the start"));
    assert_true(seen.tiles && seen.end[0] == 5000 && seen.end[1] == 5000);
    assert_int_equal(seen.events, 1000);
}

static void test_stop_drains(void **state)
{
    (void)state;
    gw_graph *g;
    memset(&seen, 0, sizeof seen);
    seen.tiles = true;
    assert_int_equal(gw_graph_parse(&g, "test",
                                    "sources: {a: {kind: counter, endless: true}}\n"
                                    "stages: {s: {kind: sum, from: a}}\n"
                                    "sinks: {k: {kind: keep, from: s}}\n"),
                     GW_OK);
    assert_int_equal(gw_graph_start(g), GW_OK);
    assert_false(gw_graph_wait(g, 100));
    gw_graph_stop(g);
    assert_true(gw_graph_wait(g, 10000));
    assert_int_equal(seen.drains, 1);
    assert_true(seen.tiles && seen.end[0] > 0 && llabs(seen.end[0] - seen.end[1]) <= 20);
    gw_graph_free(&g);
}

static void bad(const char *yaml, const char *say)
{
    gw_graph *g = NULL;
    int err = gw_graph_parse(&g, "bad.yaml", yaml);
    assert_int_equal(err, GW_ECONFIG);
    if (!strstr(gw_err_detail(), say))
        fail_msg("'%s' does not say '%s'", gw_err_detail(), say);
    assert_null(g);
}

static void test_bad_graphs(void **state)
{
    (void)state;
    bad("sources: {a: {kind: counter}}\n", "at least one sink");
    bad("sinks: {k: {kind: keep, from: a}}\n", "at least one source");
    bad("sources: {a: {kind: nothing}}\n", "bad.yaml:1:");
    bad("sources: {a: {kind: counter}}\nsinks: {k: {kind: keep, from: b}}\n", "does not exist");
    bad("sources: {a: {kind: counter}}\nsinks: {k: {kind: keep, from: a.V1}}\n", "nothing from 'a.V1'");
    bad("sources: {a: {kind: counter}}\nsinks: {k: {kind: keep, from: a, frm: a}}\n", "frm");
    bad("sources: {a: {kind: counter}}\nstages: {s: {kind: sum, from: t}, t: {kind: sum, from: s}}\n"
        "sinks: {k: {kind: keep, from: s}}\n",
        "circle");
    bad("sources: {a: {kind: counter}}\nsinks: {a: {kind: keep, from: a}}\n", "taken");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_hops_do_not_depend_on_blocks),
        cmocka_unit_test(test_blocks_as_they_come),
        cmocka_unit_test(test_hole_is_widened_by_history),
        cmocka_unit_test(test_a_hole_of_ten_years),
        cmocka_unit_test(test_a_hole_of_ten_years_in_live_data),
        cmocka_unit_test(test_two_streams_are_aligned),
        cmocka_unit_test(test_waiting_for_one_input_costs_nothing),
        cmocka_unit_test(test_a_late_input_is_given_up),
        cmocka_unit_test(test_an_absent_input_is_given_up),
        cmocka_unit_test(test_an_input_may_be_missing),
        cmocka_unit_test(test_a_stage_may_drop),
        cmocka_unit_test(test_absent_channels),
        cmocka_unit_test(test_a_sink_holds_on),
        cmocka_unit_test(test_failure_names_the_stage),
        cmocka_unit_test(test_a_failed_sink_lets_all_its_producers_go_on),
        cmocka_unit_test(test_stop_drains),
        cmocka_unit_test(test_bad_graphs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
