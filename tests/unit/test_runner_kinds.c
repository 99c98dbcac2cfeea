/* SPDX-License-Identifier: GPL-3.0-or-later
 * What kinds may ask of the runner: to see which channels are there, to hold on to blocks; and a sink that fails
 * while others go on. */
#include "tests/unit/runner_rig.h"

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

const gw_kind *const gw_kinds[] = {&kind_counter, &kind_keep,    &kind_flaky,  &kind_minder, &kind_look,
                                   &kind_hold,    &kind_chatter, &kind_broken, NULL};

/* -- tests -- */

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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_absent_channels),
        cmocka_unit_test(test_a_sink_holds_on),
        cmocka_unit_test(test_a_failed_sink_lets_all_its_producers_go_on),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
