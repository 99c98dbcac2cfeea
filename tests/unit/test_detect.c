/* SPDX-License-Identifier: GPL-3.0-or-later
 * The stage detect with a network of our own: its logit is the last sample of a frame in its first channel,
 * its arrival scores are samples of each channel, so a test writes the network's answers into the data.
 * Events, statistic stream, readiness, holes, independence of the hop, and every mismatch refused. */
#include "kernels/nn/net.h"
#include "pipeline/stage.h"
#include "pipeline/stages/card.h"
#include "pipeline/stages/detail.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

extern const gw_kind gw_kind_detect;

enum { HOP = 64, WINDOW = 16, BOX = 2, COLUMN = 16, FRAMES = 640, MAX_EVENTS = 32 };

static const int64_t frame0 = INT64_C(1126259446) * 32;

/* ---- the network, the ONNX file and the house that we pretend to be ---- */

static const char *meta[][2] = {
    {"gwstream.format", "1"},
    {"gwstream.name", "fake"},
    {"gwstream.detectors", "H1,L1"},
    {"gwstream.sample_rate", "2048"},
    {"gwstream.window_samples", "1024"},
    {"gwstream.hop_samples", "64"},
    {"gwstream.smoothing_frames", "2"},
    {"gwstream.whitening", "v1 test"},
    {"gwstream.arrival_offset_s", "-0.010"},
    {"gwstream.arrival_sigma_scale", "0.5"},
    {"gwstream.arrival_sigma_floor_s", "0.003"},
};
enum { N_META = sizeof meta / sizeof meta[0] };

static gw_onnx_value fake_input = {.name = "strain", .type = GW_ONNX_FLOAT, .rank = 3, .dim = {1, 2, 1024}};
static gw_onnx fake_onnx = {.n_inputs = 1, .input = &fake_input};
static int onnx_open, net_resets;

int gw_onnx_load(gw_onnx **m, const char *path)
{
    fake_onnx.path = path;
    *m = &fake_onnx;
    onnx_open++;
    return GW_OK;
}

void gw_onnx_free(gw_onnx **m)
{
    onnx_open -= *m != NULL;
    *m = NULL;
}

const char *gw_onnx_meta(const gw_onnx *m, const char *key)
{
    (void)m;
    for (int i = 0; i < N_META; i++)
        if (strcmp(meta[i][0], key) == 0)
            return meta[i][1];
    return NULL;
}

struct gw_net {
    uint32_t hop;
};
static gw_net fake_net;
static gw_net_info fake_info;

static gw_net_output fake_output[2];

int gw_net_open(gw_net **n, const gw_onnx *m, const gw_kernels *k, const gw_net_options *o)
{
    (void)k;
    assert_ptr_equal(m, &fake_onnx);
    assert_int_equal(o->mode, GW_NET_STREAM);
    fake_net.hop = o->hop_samples;
    fake_output[0] = (gw_net_output){
        .name = "arrival", .channels = 2, .columns = o->hop_samples / COLUMN, .column_samples = COLUMN};
    fake_output[1] = (gw_net_output){.name = "logit",
                                     .channels = 1,
                                     .columns = o->hop_samples / HOP,
                                     .column_samples = HOP,
                                     .pooled = true};
    fake_info = (gw_net_info){.n_channels = 2,
                              .window_samples = WINDOW * HOP,
                              .frame_samples = HOP,
                              .n_outputs = 2,
                              .output = fake_output};
    *n = &fake_net;
    return GW_OK;
}

const gw_net_info *gw_net_get_info(const gw_net *n)
{
    (void)n;
    return &fake_info;
}

int gw_net_find_output(const gw_net *n, const char *name)
{
    (void)n;
    return strcmp(name, "arrival") == 0 ? 0 : strcmp(name, "logit") == 0 ? 1 : -1;
}

int gw_net_run(gw_net *n, const gw_net_in *in, float *const *out)
{
    for (uint32_t k = 0; k < n->hop / HOP; k++)
        out[1][k] = in->channel[0][(k + 1) * HOP - 1];
    for (uint32_t d = 0; d < 2; d++)
        for (uint32_t j = 0; j < n->hop / COLUMN; j++)
            out[0][d * (n->hop / COLUMN) + j] = in->channel[d][j * COLUMN + COLUMN / 2];
    return GW_OK;
}

void gw_net_reset(gw_net *n)
{
    (void)n;
    net_resets++;
}

void gw_net_close(gw_net **n)
{
    *n = NULL;
}

int gw_kernels_init(gw_kernels *k, gw_kernels_level best)
{
    (void)k;
    (void)best;
    return GW_OK;
}

struct gw_env {
    int n;
    gw_event event[MAX_EVENTS];
    int64_t reached_ns;
    /* What was said of it, neighbours of one kind joined. */
    int n_stretches;
    struct {
        int64_t until_ns;
        bool searched;
    } stretch[MAX_EVENTS];
};

const char *gw_env_name(const gw_env *env)
{
    (void)env;
    return "search";
}

gw_timebase gw_env_timebase(const gw_env *env)
{
    (void)env;
    return (gw_timebase){.pace = 1, .anchor_wall_ns = 111, .anchor_data_ns = 222};
}

int gw_env_emit(gw_env *env, const gw_event *e)
{
    assert_true(env->n < MAX_EVENTS);
    env->event[env->n++] = *e;
    return GW_OK;
}

int gw_env_reached(gw_env *env, int64_t told_ns, bool searched)
{
    assert_true(told_ns > env->reached_ns);
    env->reached_ns = told_ns;
    if (env->n_stretches == 0 || env->stretch[env->n_stretches - 1].searched != searched)
        env->stretch[env->n_stretches++].searched = searched;
    assert_true(env->n_stretches < MAX_EVENTS);
    env->stretch[env->n_stretches - 1].until_ns = told_ns;
    return GW_OK;
}

int64_t gw_env_late_ns(const gw_env *env)
{
    (void)env;
    return 10000000;
}

/* ---- files ---- */

static char folder[] = "/tmp/gw-detect-XXXXXX", model_path[64], card_path[64];

static void write_card(const char *sha256)
{
    FILE *f = fopen(card_path, "w");
    assert_non_null(f);
    fprintf(f,
            "model: {name: fake, sha256: %s}\nthresholds: {candidate: 3, alert: 5}\n"
            "background: {live_time: 86400s, bin_width: 1, first_bin: 0, counts: [9, 9, 9, 5, 1]}\n",
            sha256);
    fclose(f);
}

static int make_files(void **state)
{
    (void)state;
    if (!mkdtemp(folder))
        return -1;
    snprintf(model_path, sizeof model_path, "%s/fake.onnx", folder);
    snprintf(card_path, sizeof card_path, "%s/fake.card.yaml", folder);
    FILE *f = fopen(model_path, "w");
    if (!f)
        return -1;
    fputs("abc", f);
    fclose(f);
    write_card("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    return 0;
}

static int remove_files(void **state)
{
    (void)state;
    unlink(model_path);
    unlink(card_path);
    return rmdir(folder);
}

/* ---- a run ---- */

static gw_spec stream(const char *detector)
{
    gw_spec s = {.rate = {2048, 1}, .dtype = GW_F32, .n_channels = 1, .block_samples = 128};
    snprintf(s.name, sizeof s.name, "white.%s", detector);
    snprintf(s.detector, sizeof s.detector, "%s", detector);
    snprintf(s.whitening, sizeof s.whitening, "v1 test");
    return s;
}

static gw_spec streams[3]; /* L1 first: not the network's order */

typedef struct run {
    void *self;
    gw_env env;
    gw_plan plan;
    float *data[2]; /* [FRAMES * HOP]: L1, H1 */
    uint64_t dq[FRAMES];
    uint32_t flags[FRAMES];
    int gap_before[2];     /* frames before which gap() is called */
    int bad_port[2];       /* ... for bad data of this port; -1: for a hole of another kind */
    int64_t bad_sample[2]; /* ... from here, in the frame */
    float logit[FRAMES], statistic[FRAMES]; /* NAN: not there */
    gw_gap_reason reason[FRAMES];
} run;

static int begin(run *r, const char *yaml)
{
    char text[512];
    snprintf(text, sizeof text, "{model: \"%s\"%s}", model_path, yaml);
    gw_conf_file *file;
    r->self = calloc(1, gw_kind_detect.state_size);
    assert_non_null(r->self);
    assert_int_equal(gw_conf_parse(&file, "t.yaml", text, strlen(text)), GW_OK);
    int err = gw_kind_detect.configure(r->self, gw_conf_root(file));
    if (err == GW_OK)
        err = gw_conf_done(gw_conf_root(file), "detect");
    gw_conf_free(&file);
    if (err != GW_OK)
        return err;
    r->plan = (gw_plan){.name = "search", .n_in = 2, .in = streams};
    if (streams[2].name[0])
        r->plan.n_in = 3;
    return gw_kind_detect.plan(r->self, &r->plan);
}

static void end(run *r)
{
    gw_kind_detect.close(r->self);
    gw_spec_free(&r->plan.out[0]);
    free(r->self);
    assert_int_equal(onnx_open, 0);
}

static void usual_streams(void)
{
    streams[0] = stream("L1");
    streams[1] = stream("H1");
    streams[2] = (gw_spec){.n_channels = 0};
}

/* Quiet data: logit -2, scores 0. */
static run *new_run(void)
{
    run *r = calloc(1, sizeof *r);
    assert_non_null(r);
    for (int d = 0; d < 2; d++) {
        r->data[d] = calloc(FRAMES * HOP, sizeof(float));
        assert_non_null(r->data[d]);
    }
    for (int i = 0; i < FRAMES; i++) {
        r->data[1][i * HOP + HOP - 1] = -2;
        r->dq[i] = GW_DQ_ALL;
        r->logit[i] = r->statistic[i] = NAN;
    }
    r->gap_before[0] = r->gap_before[1] = r->bad_port[0] = r->bad_port[1] = -1;
    usual_streams();
    return r;
}

static void free_run(run *r)
{
    free(r->data[0]);
    free(r->data[1]);
    free(r);
}

/* A signal: logits high in 8 frames from `frame`, arriving at `column` of H1 and `column` + 1 of L1. */
static void put_signal(run *r, int frame, float logit, int column)
{
    for (int i = 0; i < 8; i++)
        r->data[1][(frame + i) * HOP + HOP - 1] = logit;
    r->data[1][column * COLUMN + COLUMN / 2] = 20;
    r->data[0][(column + 1) * COLUMN + COLUMN / 2] = 20;
}

static void do_run(run *r, int frames)
{
    char yaml[64];
    snprintf(yaml, sizeof yaml, ", hop: %d/32s", frames);
    assert_int_equal(begin(r, frames > 1 ? yaml : ""), GW_OK);
    assert_int_equal(r->plan.hop[0], frames * HOP);
    assert_int_equal(gw_kind_detect.open(r->self, &r->env), GW_OK);
    float *slab = malloc(2 * (size_t)frames * sizeof *slab); /* exactly what the spec asks for */
    assert_non_null(slab);
    for (int i = 0; i + frames <= FRAMES; i += frames) {
        for (int g = 0; g < 2; g++)
            if (i == r->gap_before[g]) {
                const bool bad = r->bad_port[g] >= 0;
                const gw_hole hole = {.sample0 = (frame0 + i) * HOP + r->bad_sample[g],
                                      .samples = 1,
                                      .reason = bad ? GW_GAP_QUALITY : GW_GAP_ABSENT,
                                      .dq = bad ? GW_DQ_ALL & ~(uint64_t)GW_DQ_CBC_CAT1 : GW_DQ_ALL};
                assert_int_equal(gw_kind_detect.gap(r->self, bad ? r->bad_port[g] : 0, &hole), GW_OK);
            }
        gw_view in[2];
        for (int d = 0; d < 2; d++) {
            in[d] = (gw_view){.data = r->data[d] + i * HOP,
                              .stride = FRAMES * HOP,
                              .n_channels = 1,
                              .n_samples = (uint32_t)(frames * HOP),
                              .sample0 = (frame0 + i) * HOP,
                              .dq = UINT64_MAX,
                              .due_ns = 1000 + d,
                              .ingest_ns = 2000 + i};
            for (int k = 0; k < frames; k++) { /* quality comes with L1, flags with H1 */
                in[d].dq &= d ? UINT64_MAX : r->dq[i + k];
                in[d].flags |= d ? r->flags[i + k] : 0;
            }
        }
        gw_out out = {.data = slab, .capacity_samples = (uint32_t)frames};
        assert_int_equal(gw_kind_detect.step(r->self, in, &out), GW_OK);
        assert_true(out.n_samples ? !out.lost : out.lost && out.lost_until == frame0 + i + frames);
        for (int k = 0; k < frames; k++)
            r->reason[i + k] = out.n_samples ? GW_GAP_NONE : out.reason;
        for (uint32_t k = 0; k < out.n_samples; k++) {
            const int64_t at = out.sample0 + k - frame0;
            assert_in_range(at, i, i + frames - 1);
            r->logit[at] = slab[k];
            r->statistic[at] = slab[out.n_samples + k];
        }
    }
    free(slab);
    gw_out none = {.data = NULL};
    assert_int_equal(gw_kind_detect.drain(r->self, &none), GW_OK);
    assert_int_equal(none.n_samples, 0);
    end(r);
}

/* ---- tests ---- */

static void test_plan(void **state)
{
    (void)state;
    run *r = new_run();
    assert_int_equal(begin(r, ""), GW_OK);
    const gw_spec *s = &r->plan.out[0];
    assert_int_equal(r->plan.n_out, 1);
    assert_true(s->rate.num == 32 && s->rate.den == 1 && s->phase_ns == 0);
    assert_true(s->dtype == GW_F32 && s->n_channels == 2 && s->block_samples == 1);
    assert_string_equal(s->channel[0], "H1,L1:LOGIT");
    assert_string_equal(s->channel[1], "H1,L1:STATISTIC");
    assert_string_equal(s->unit, "logit");
    assert_true(r->plan.delay_ns == 0 && r->plan.history[0] == 0);
    end(r); /* planned, never opened */
    free_run(r);
}

static void test_event(void **state)
{
    (void)state;
    run *r = new_run();
    put_signal(r, 100, 6, 100 * 4 + 1);
    for (int i = 0; i < 8; i++)
        r->flags[93 + i] = i == 0 ? GW_FLAG_INJECTION : 0; /* frame 93 is within the window */
    do_run(r, 1);
    assert_int_equal(r->env.n, 2); /* the peak stays at 101 */
    const gw_event *first = &r->env.event[0], *final = &r->env.event[1];
    assert_int_equal(first->phase, GW_PHASE_FIRST);
    assert_int_equal(final->phase, GW_PHASE_FINAL);
    /* The centre of column 402 of 128 Hz, at L1, less 10 ms. */
    assert_in_range(first->gps_ns, INT64_C(1126259449134000000), INT64_C(1126259449135000000));
    assert_true(final->gps_ns == first->gps_ns);
    assert_true(fabs(final->gps_error_s - 0.003) < 1e-4); /* one column holds all: the floor */
    assert_non_null(
        strstr(final->detail, ",\"arrivals\":{\"H1\":{\"gps\":\"1126259449.126719\",\"sigma_s\":0.0030"));
    assert_non_null(strstr(final->detail, "\"L1\":{\"gps\":\"1126259449.134531\",\"sigma_s\":0.0030"));
    assert_true(final->statistic == 6 && final->alert && final->injection);
    assert_true(final->noise_rate_hz == 1 / 86400.0 && final->background_s == 86400);
    assert_true(final->dq == GW_DQ_ALL);
    assert_string_equal(final->detectors, "H1,L1");
    assert_string_equal(final->stream, "search");
    assert_string_equal(final->model, "fake");
    assert_string_equal(final->model_hash, "ba7816bf8f01cfea");
    assert_int_equal(strlen(final->card_hash), 16);
    /* echo -n "1126259449 H1,L1 fake search" | sha256sum */
    assert_string_equal(first->id, "G5078ab354baaa2f1");
    assert_string_equal(final->id, first->id);
    assert_true(first->due_ns == 1001 && first->ingest_ns == 2000 + 101);
    assert_true(llabs(first->decided_ns - gw_gps_now_ns()) < 60 * GW_SECOND_NS);
    assert_true(first->pace == 1 && first->anchor_wall_ns == 111 && first->anchor_data_ns == 222);
    free_run(r);
}

static void test_statistic(void **state)
{
    (void)state;
    const int hops[] = {1, 2, 5, 40, 640};
    for (size_t h = 0; h < sizeof hops / sizeof hops[0]; h++) {
        run *r = new_run();
        for (int i = 0; i < FRAMES; i++)
            r->data[1][i * HOP + HOP - 1] = (float)sin(i);
        do_run(r, hops[h]);
        for (int i = 0; i < FRAMES; i++) {
            const bool ready = i >= WINDOW + BOX - 2;
            assert_true(isnan(r->statistic[i]) == !ready && isnan(r->logit[i]) == !ready);
            if (!ready)
                continue;
            assert_true(r->logit[i] == (float)sin(i));
            assert_true(fabs((double)r->statistic[i] - (sin(i) + sin(i - 1)) / 2) < 1e-6);
        }
        assert_int_equal(r->env.n, 0);
        free_run(r);
    }
}

/* What differs in two runs at different speeds: nothing but the wall clock. */
static void test_hop_changes_nothing(void **state)
{
    (void)state;
    const int hops[] = {1, 2, 4, 8, 32, 640};
    gw_env seen = {.n = 0};
    for (size_t h = 0; h < sizeof hops / sizeof hops[0]; h++) {
        run *r = new_run();
        put_signal(r, 50, 4, 50 * 4);
        put_signal(r, 150, 5.5F, 150 * 4);
        put_signal(r, 500, 7, 500 * 4 + 2);
        for (int i = 0; i < 40; i++)
            r->data[1][(300 + i) * HOP + HOP - 1] = 0.2F * (float)i;
        r->data[1][(FRAMES - 1) * HOP + HOP - 1] = 30;
        do_run(r, hops[h]);
        if (h == 0) {
            seen = r->env;
            assert_int_equal(seen.event[seen.n - 1].phase, GW_PHASE_FINAL);
            assert_in_range(seen.n, 8, MAX_EVENTS - 1);
        }
        assert_int_equal(r->env.n, seen.n);
        for (int i = 0; i < seen.n; i++) {
            gw_event e = r->env.event[i];
            e.ingest_ns = seen.event[i].ingest_ns;
            e.decided_ns = seen.event[i].decided_ns;
            const gw_event *s = &seen.event[i];
            assert_string_equal(e.id, s->id);
            assert_int_equal(e.phase, s->phase);
            assert_true(e.gps_ns == s->gps_ns && e.statistic == s->statistic && e.alert == s->alert);
        }
        free_run(r);
    }
}

static void test_not_ready(void **state)
{
    (void)state;
    run *r = new_run();
    for (int i = 0; i < WINDOW - 1; i++) /* loud while the window is not full: no event, not even later */
        r->data[1][i * HOP + HOP - 1] = 50;
    do_run(r, 1);
    assert_int_equal(r->env.n, 0);
    assert_int_equal(r->reason[0], GW_GAP_HISTORY);
    assert_int_equal(r->reason[WINDOW + BOX - 3], GW_GAP_HISTORY);
    assert_int_equal(r->reason[WINDOW + BOX - 2], GW_GAP_NONE);
    free_run(r);
}

static void test_gap(void **state)
{
    (void)state;
    run *r = new_run();
    put_signal(r, 100, 4, 100 * 4);
    r->gap_before[0] = 104;
    const int before = net_resets;
    do_run(r, 1);
    assert_true(net_resets > before);
    assert_int_equal(r->env.n, 2);
    assert_int_equal(r->env.event[1].phase, GW_PHASE_FINAL);
    assert_true(r->env.event[1].ingest_ns == 2000 + 103); /* at the hole, not later */
    for (int i = 104; i < 104 + WINDOW + BOX - 2; i++)
        assert_true(isnan(r->statistic[i]) && r->reason[i] == GW_GAP_HISTORY);
    assert_true(r->statistic[104 + WINDOW + BOX - 2] == -2);
    free_run(r);
}

static void test_quality(void **state)
{
    (void)state;
    const uint64_t bad[] = {GW_DQ_DATA, GW_DQ_CBC_CAT1}, fine[] = {GW_DQ_CBC_CAT2, GW_DQ_CBC_CAT3};
    for (int k = 0; k < 2; k++) {
        run *r = new_run();
        put_signal(r, 200, 6, 200 * 4);
        r->dq[199] &= ~bad[k];
        do_run(r, 1);
        assert_int_equal(r->env.n, 0); /* the window is not clean again before the signal is gone */
        assert_int_equal(r->reason[199], GW_GAP_QUALITY);
        assert_int_equal(r->reason[200], GW_GAP_HISTORY);
        assert_int_equal(r->reason[199 + WINDOW + BOX - 1], GW_GAP_NONE);
        free_run(r);
        r = new_run();
        put_signal(r, 200, 6, 200 * 4);
        r->dq[199] &= ~fine[k];
        do_run(r, 1);
        assert_int_equal(r->env.n, 2);
        assert_true(r->env.event[0].dq == (GW_DQ_ALL & ~fine[k]) && !r->env.event[0].injection);
        free_run(r);
    }
    run *r = new_run(); /* a hardware injection */
    put_signal(r, 200, 6, 200 * 4);
    r->dq[201] &= ~(uint64_t)GW_DQ_NO_CBC_HW_INJ;
    do_run(r, 1);
    assert_true(r->env.n > 0 && r->env.event[r->env.n - 1].injection);
    free_run(r);
}

/* The members of an event's detail one by one; what does not fit leaves an object behind that is whole. */
static void test_detail(void **state)
{
    (void)state;
    gw_detail text;
    gw_spec in[2] = {stream("L1"), stream("H1")};
    const gw_model model = {.detector = {"H1", "L1"}};
    const uint64_t networks[2][2] = {{0, 0}, {0, 0xabc}};
    gw_verdict v = {.arrival_ns = {GW_NOT_KNOWN_NS, 5}};
    gw_detail_begin(text, 1.5, 4, in, 2);
    gw_detail_add_arrivals(text, &model, &v);
    gw_detail_add_networks(text, &model, networks[0]);
    assert_string_equal(text, "{\"thresholds\":{\"candidate\":1.5,\"alert\":4}}");
    snprintf(in[1].cleaning, sizeof in[1].cleaning, "mains\":x");
    v = (gw_verdict){.arrival_ns = {1999999600, 2000000000}, .arrival_error_s = {0.002, 0.5}};
    gw_detail_begin(text, 1.5, 4, in, 2);
    gw_detail_add_arrivals(text, &model, &v);
    gw_detail_add_networks(text, &model, networks[1]);
    gw_detail_add_reason(text, "H1", GW_DQ_DATA, 3960000000, 2000000000);
    static const char want[] =
        "{\"thresholds\":{\"candidate\":1.5,\"alert\":4},\"cleaning\":{\"H1\":\"mains?:x\"},"
        "\"arrivals\":{\"H1\":{\"gps\":\"2.000000\",\"sigma_s\":0.002000},"
        "\"L1\":{\"gps\":\"2.000000\",\"sigma_s\":0.500000}},\"networks\":{\"L1\":\"0000000000000abc\"},"
        "\"reason\":\"data quality: DATA of H1 not good from about GPS 4.0, 2.0 s after the event\"}";
    assert_string_equal(text, want);
    for (int i = 0; i < 40; i++)
        gw_detail_add_arrivals(text, &model, &v);
    assert_in_range(strlen(text), sizeof text - 120, sizeof text - 1);
    assert_string_equal(text + strlen(text) - 3, "}}}");
}

/* Withdrawn where the data turn bad soon after, once, with the reason; not for a hole of another kind, not
 * later. Which of two detectors is named does not depend on which the stage hears of first. */
static void test_retraction(void **state)
{
    (void)state;
    static const struct {
        int gap[2], port[2];
        int64_t sample[2];
        const char *reason; /* NULL: none */
    } given[] = {
        {{150, -1}, {0, -1}, {5}, "CBC_CAT1 of L1 not good from about GPS 1126259450.7, 1.6 s after"},
        {{150, -1}, {-1, -1}, {5}, NULL},
        {{350, -1}, {0, -1}, {0}, "CBC_CAT1 of L1 not good from about GPS 1126259456.9, 7.8 s after"},
        {{360, -1}, {0, -1}, {0}, NULL}, /* more than 8 s */
        {{150, 150}, {0, 1}, {5, 5}, "CBC_CAT1 of H1 not good from about GPS 1126259450.7"},
        {{150, 150}, {1, 0}, {5, 5}, "CBC_CAT1 of H1 not good from about GPS 1126259450.7"},
        {{150, 150}, {0, 1}, {5, 6}, "CBC_CAT1 of L1 not good from about GPS 1126259450.7"},
        {{150, 150}, {1, 0}, {6, 5}, "CBC_CAT1 of L1 not good from about GPS 1126259450.7"},
        {{150, 200}, {0, 1}, {0, 0}, "CBC_CAT1 of L1 not good from about GPS 1126259450.7"}, /* once */
        {{102, -1},
         {0, -1},
         {0},
         "CBC_CAT1 of L1 not good from about GPS 1126259449.2"}, /* while it is open */
    };
    for (size_t g = 0; g < sizeof given / sizeof *given; g++) {
        run *r = new_run();
        put_signal(r, 100, 6, 100 * 4 + 1);
        for (int i = 0; i < 2; i++) {
            r->gap_before[i] = given[g].gap[i];
            r->bad_port[i] = given[g].port[i];
            r->bad_sample[i] = given[g].sample[i];
        }
        do_run(r, 1);
        assert_int_equal(r->env.n, given[g].reason ? 3 : 2);
        const gw_event *final = &r->env.event[1], *e = &r->env.event[2];
        assert_int_equal(final->phase, GW_PHASE_FINAL);
        assert_null(strstr(final->detail, "reason"));
        if (given[g].reason) {
            assert_int_equal(e->phase, GW_PHASE_RETRACTED);
            assert_string_equal(e->id, final->id);
            assert_true(e->gps_ns == final->gps_ns && e->told_ns > final->told_ns);
            if (!strstr(e->detail, given[g].reason))
                fail_msg("%zu: %s", g, e->detail);
        }
        free_run(r);
    }
    for (int hop = 1; hop <= 4; hop *= 4) { /* the same by bits that a block carries */
        run *r = new_run();
        put_signal(r, 100, 6, 100 * 4 + 1);
        for (int i = 160; i < 200; i++)
            r->dq[i] = 0;
        do_run(r, hop);
        assert_int_equal(r->env.n, 3);
        assert_int_equal(r->env.event[2].phase, GW_PHASE_RETRACTED);
        assert_non_null(
            strstr(r->env.event[2].detail,
                   "\"reason\":\"data quality: DATA, CBC_CAT1 of L1 not good from about GPS 1126259451.0"));
        free_run(r);
    }
}

/* Sinks hear from where to where it searched. */
static void test_searched(void **state)
{
    (void)state;
    for (int hop = 1; hop <= 8; hop += 7) { /* whole hops, each of these is one */
        const int need = WINDOW + BOX - 2, at[] = {need, 104, 104 + need, 200, 200 + hop + need, FRAMES};
        run *r = new_run();
        r->gap_before[0] = 104;
        r->dq[200] &= ~(uint64_t)GW_DQ_DATA;
        do_run(r, hop);
        assert_int_equal(r->env.n_stretches, 7);
        for (int i = 0; i < 7; i++) {
            const int64_t sample = (frame0 + (i < 6 ? at[i] : 0)) * HOP;
            assert_true(r->env.stretch[i].searched == (i % 2 == 1));
            assert_true(r->env.stretch[i].until_ns ==
                        (i < 6 ? gw_sample_to_ns(sample, (gw_rate){2048, 1}, 0) + 10000000 : INT64_MAX));
        }
        free_run(r);
    }
}

/* A network for several pairs serves the pair that it is given. */
static void test_pairs(void **state)
{
    (void)state;
    int at = 0;
    while (strcmp(meta[at][0], "gwstream.detectors") != 0)
        at++;
    const char *usual = meta[at][1];
    meta[at][1] = "H1,V1;L1,V1";
    for (int pair = 0; pair < 3; pair++) {
        static const char *const names[3][3] = {
            {"H1", "V1", "H1,V1:LOGIT"}, {"L1", "V1", "L1,V1:LOGIT"}, {"H1", "L1", ""}};
        run *r = calloc(1, sizeof *r);
        assert_non_null(r);
        streams[0] = stream(names[pair][1]); /* not the network's order */
        streams[1] = stream(names[pair][0]);
        streams[2] = (gw_spec){.n_channels = 0};
        gw_err_clear();
        if (pair < 2) {
            assert_int_equal(begin(r, ""), GW_OK);
            assert_string_equal(r->plan.out[0].channel[0], names[pair][2]);
        } else {
            assert_int_equal(begin(r, ""), GW_EMISMATCH);
            assert_non_null(strstr(gw_err_detail(), "wants H1,V1 or L1,V1, the streams are L1 (white.L1)"));
        }
        end(r);
        free(r);
    }
    meta[at][1] = usual;
    usual_streams();
}

static void refused(const char *yaml, int code, const char *one, const char *other)
{
    run *r = calloc(1, sizeof *r);
    assert_non_null(r);
    gw_err_clear();
    int err = begin(r, yaml);
    if (err != code || !strstr(gw_err_detail(), one) || !strstr(gw_err_detail(), other))
        fail_msg("%s '%s': wanted %s, '%s' and '%s'", gw_err_name(err), gw_err_detail(), gw_err_name(code),
                 one, other);
    end(r);
    free(r);
    usual_streams();
}

static void refused_meta(const char *key, const char *value, int code, const char *one, const char *other)
{
    for (int i = 0; i < N_META; i++)
        if (strcmp(meta[i][0] + strlen("gwstream."), key) == 0) {
            const char *good = meta[i][1];
            meta[i][1] = value;
            refused("", code, one, other);
            meta[i][1] = good;
            return;
        }
    fail_msg("no metadata %s", key);
}

static void test_wrong_streams(void **state)
{
    (void)state;
    usual_streams();
    streams[0] = stream("V1");
    refused("", GW_EMISMATCH, "L1 is missing", "V1 (white.V1)");
    streams[2] = stream("V1");
    refused("", GW_EMISMATCH, "too many", "V1 (white.V1)");
    streams[0] = stream("H1");
    refused("", GW_EMISMATCH, "two streams of detector H1", "white.H1");
    streams[0].detector[0] = '\0';
    refused("", GW_EMISMATCH, "L1 is missing", "no detector (white.L1)");
    streams[1].rate.num = 4096;
    refused("", GW_EMISMATCH, "4096 Hz", "2048 Hz");
    streams[1].rate.den = 2;
    refused("", GW_EMISMATCH, "1024 Hz", "2048 Hz");
    snprintf(streams[1].whitening, sizeof streams[1].whitening, "v2 other");
    refused("", GW_EMISMATCH, "'v2 other'", "'v1 test'");
    streams[1].whitening[0] = '\0';
    refused("", GW_EMISMATCH, "not at all", "'v1 test'");
    streams[0].n_channels = 2;
    refused("", GW_EMISMATCH, "2 channels", "white.L1");
    streams[0].dtype = GW_F64;
    refused("", GW_EMISMATCH, "8 bytes", "float32");
    streams[0].phase_ns = 5;
    refused("", GW_EMISMATCH, "white.H1", "white.L1");
}

static void test_wrong_models(void **state)
{
    (void)state;
    usual_streams();
    refused_meta("format", NULL, GW_EFORMAT, "gwstream.format", "fake.onnx");
    refused_meta("format", "2", GW_ENOTSUP, "'2'", "format 1");
    refused_meta("name", "", GW_EFORMAT, "gwstream.name", "fake.onnx");
    refused_meta("name", "a-name-that-is-longer-than-any-name-can-be-in-an-event", GW_EFORMAT,
                 "gwstream.name", "47");
    refused_meta("detectors", "H1", GW_ENOTSUP, "1 detectors", "two");
    refused_meta("detectors", "H1,L1,V1", GW_ENOTSUP, "3 detectors", "two");
    refused_meta("detectors", "H1,H1", GW_EFORMAT, "twice", "fake.onnx");
    refused_meta("detectors", "H1,", GW_EFORMAT, "H1,L1", "fake.onnx");
    refused_meta("detectors", "H1,L1;", GW_EFORMAT, "H1,L1", "fake.onnx");
    refused_meta("detectors", "H1,L1;H1", GW_ENOTSUP, "1 detectors", "two");
    refused_meta("detectors", "A,B;A,C;A,D;A,E;A,F;A,G;A,H;A,I;A,J", GW_ENOTSUP, "more than 8 pairs",
                 "fake.onnx");
    refused_meta("detectors", "K1,V1", GW_EMISMATCH, "K1,V1", "H1 (white.H1)");
    refused_meta("sample_rate", "fast", GW_EFORMAT, "'fast'", "gwstream.sample_rate");
    refused_meta("sample_rate", "4096", GW_EMISMATCH, "2048 Hz", "4096 Hz");
    refused_meta("window_samples", "1000", GW_EFORMAT, "1000", "64");
    refused_meta("window_samples", "2048", GW_EFORMAT, "[1, 2, 2048]", "fake.onnx");
    refused_meta("hop_samples", "0", GW_EFORMAT, "'0'", "gwstream.hop_samples");
    refused_meta("smoothing_frames", "-1", GW_EFORMAT, "'-1'", "gwstream.smoothing_frames");
    refused_meta("whitening", "v9", GW_EMISMATCH, "'v1 test'", "'v9'");
    refused_meta("whitening", NULL, GW_EFORMAT, "gwstream.whitening", "fake.onnx");
    refused_meta("arrival_offset_s", "soon", GW_EFORMAT, "'soon'", "arrival_offset_s");
    refused_meta("arrival_sigma_scale", "-1", GW_EFORMAT, "'-1'", "arrival_sigma_scale");
    refused_meta("arrival_sigma_floor_s", "2", GW_EFORMAT, "0 to 1", "arrival_sigma_floor_s");
    /* A network that is not what its file says is found on opening. */
    run *r = new_run();
    meta[5][1] = "128";
    assert_int_equal(begin(r, ""), GW_OK);
    assert_int_equal(gw_kind_detect.open(r->self, &r->env), GW_EMISMATCH);
    assert_non_null(strstr(gw_err_detail(), "frames of 128"));
    end(r);
    meta[5][1] = "64";
    free_run(r);
}

static void test_wrong_cards_and_keys(void **state)
{
    (void)state;
    usual_streams();
    const char *other = "ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb";
    write_card(other);
    refused("", GW_EMISMATCH, other, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    refused(", card: /nonexistent.yaml", GW_EMISSING, "/nonexistent.yaml", "model card");
    write_card("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    refused(", candidate: 6", GW_ECONFIG, "6", "5");
    refused(", candidate: high", GW_ECONFIG, "t.yaml:1:", "high");
    refused(", refractory: 1s", GW_ECONFIG, "t.yaml:1:", "3s");
    refused(", refractory: 8", GW_ECONFIG, "t.yaml:1:", "unit");
    refused(", retract: 9s", GW_ECONFIG, "t.yaml:1:", "8s");
    refused(", refractory: 5s, retract: 6s", GW_ECONFIG, "t.yaml:1:", "5s");
    refused(", hop: 10ms", GW_ECONFIG, "hop", "64/2048");
    refused(", hop: 0s", GW_ECONFIG, "hop", "zero");
    refused(", refactory: 8s", GW_ECONFIG, "refactory", "refractory");
    refused(", card: \"\"", GW_ECONFIG, "card", "t.yaml:1:");
}

static void test_thresholds(void **state)
{
    (void)state;
    run *r = new_run();
    put_signal(r, 100, 4, 100 * 4);
    assert_int_equal(begin(r, ", candidate: 4.5"), GW_OK);
    end(r);
    assert_int_equal(begin(r, ", candidate: 1, alert: 3.5"), GW_OK);
    end(r);
    do_run(r, 1); /* the card's: a candidate, no alert */
    assert_true(r->env.n == 2 && !r->env.event[1].alert);
    assert_true(r->env.event[1].noise_rate_hz == 2 / 86400.0);
    free_run(r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_plan),         cmocka_unit_test(test_event),
        cmocka_unit_test(test_statistic),    cmocka_unit_test(test_hop_changes_nothing),
        cmocka_unit_test(test_not_ready),    cmocka_unit_test(test_gap),
        cmocka_unit_test(test_quality),      cmocka_unit_test(test_retraction),
        cmocka_unit_test(test_detail),       cmocka_unit_test(test_searched),
        cmocka_unit_test(test_pairs),        cmocka_unit_test(test_wrong_streams),
        cmocka_unit_test(test_wrong_models), cmocka_unit_test(test_wrong_cards_and_keys),
        cmocka_unit_test(test_thresholds),
    };
    return cmocka_run_group_tests(tests, make_files, remove_files);
}
