/* SPDX-License-Identifier: GPL-3.0-or-later
 * What the tests of the stage detect share: a network of our own (its logit is the last sample of a frame in its
 * first channel, its arrival scores are samples of each channel, so a test writes the network's answers into the
 * data), a stand-in for the runner, and a run over quiet data. Has their functions: one program includes it once. */
#ifndef GW_DETECT_RIG_H
#define GW_DETECT_RIG_H

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
    {"gwstream.arrival_skew", "0"},
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
    gw_event doubt; /* the last of n_doubts */
    int n_doubts;
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
    if (e->phase != GW_PHASE_DOUBT) {
        env->event[env->n++] = *e;
        return GW_OK;
    }
    env->doubt = *e;
    env->n_doubts++;
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

static inline void write_card(const char *sha256)
{
    FILE *f = fopen(card_path, "w");
    assert_non_null(f);
    fprintf(f,
            "model: {name: fake, sha256: %s}\nthresholds: {candidate: 3, alert: 5}\n"
            "background: {live_time: 86400s, bin_width: 1, first_bin: 0, counts: [9, 9, 9, 5, 1]}\n",
            sha256);
    fclose(f);
}

static inline int make_files(void **state)
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

static inline int remove_files(void **state)
{
    (void)state;
    unlink(model_path);
    unlink(card_path);
    return rmdir(folder);
}

/* ---- a run ---- */

static inline gw_spec stream(const char *detector)
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

static inline int begin(run *r, const char *yaml)
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

static inline void end(run *r)
{
    gw_kind_detect.close(r->self);
    gw_spec_free(&r->plan.out[0]);
    free(r->self);
    assert_int_equal(onnx_open, 0);
}

static inline void usual_streams(void)
{
    streams[0] = stream("L1");
    streams[1] = stream("H1");
    streams[2] = (gw_spec){.n_channels = 0};
}

/* Quiet data: logit -2, scores 0. */
static inline run *new_run(void)
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

static inline void free_run(run *r)
{
    free(r->data[0]);
    free(r->data[1]);
    free(r);
}

/* A signal: logits high in 8 frames from `frame`, arriving at `column` of H1 and `column` + 1 of L1. */
static inline void put_signal(run *r, int frame, float logit, int column)
{
    for (int i = 0; i < 8; i++)
        r->data[1][(frame + i) * HOP + HOP - 1] = logit;
    r->data[1][column * COLUMN + COLUMN / 2] = 20;
    r->data[0][(column + 1) * COLUMN + COLUMN / 2] = 20;
}

static inline void do_run(run *r, int frames)
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

#endif
