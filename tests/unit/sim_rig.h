/* SPDX-License-Identifier: GPL-3.0-or-later
 * What the tests of the source `sim` share: a small stand-in for the runner that plays a configuration to its end
 * and keeps samples, flags and events. Has the functions of the runner: one program includes it once. */
#ifndef GW_SIM_RIG_H
#define GW_SIM_RIG_H

#include "pipeline/stage.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define assert_near(a, b, within) assert_true(fabs((double)(a) - (double)(b)) <= (within))

extern const gw_kind gw_kind_sim;

/* ---- a stand-in for the runner ---- */

enum { MAX_EVENTS = 64, START = 1187008880 };

struct gw_env {
    int n_events;
    gw_event event[MAX_EVENTS];
    double pace;
    int64_t started_ns, waited_ns;
    bool stop;
};

const char *gw_env_name(const gw_env *env)
{
    (void)env;
    return "sky";
}

void gw_env_start(gw_env *env, double pace, int64_t data_ns)
{
    env->pace = pace;
    env->started_ns = data_ns;
}

gw_timebase gw_env_timebase(const gw_env *env)
{
    return (gw_timebase){env->pace, 5, env->started_ns};
}

int gw_env_wait_until(gw_env *env, int64_t data_ns)
{
    env->waited_ns = data_ns;
    return env->stop ? GW_ECANCELED : GW_OK;
}

int gw_env_emit(gw_env *env, const gw_event *e)
{
    assert_true(env->n_events < MAX_EVENTS);
    env->event[env->n_events++] = *e;
    return GW_OK;
}

typedef struct recording {
    gw_spec spec;
    int64_t first;
    size_t n;       /* samples */
    double *x[3];   /* per channel */
    uint8_t *flags; /* [n] of each sample's block */
    size_t longest; /* block */
} recording;

typedef struct run {
    gw_conf_file *file;
    void *state;
    gw_env env;
    gw_plan plan;
    recording port[4];
    uint32_t small; /* pieces of at most so many samples; 0: blocks */
} run;

static inline int configure(run *r, const char *yaml)
{
    *r = (run){0};
    GW_TRY(gw_conf_parse(&r->file, "test.yaml", yaml, strlen(yaml)));
    r->state = calloc(1, gw_kind_sim.state_size);
    assert_non_null(r->state);
    gw_conf *root = gw_conf_root(r->file);
    GW_TRY(gw_kind_sim.configure(r->state, root));
    GW_TRY(gw_conf_done(root, "source sky"));
    r->plan.name = "sky";
    return gw_kind_sim.plan(r->state, &r->plan);
}

static inline void append(recording *rec, const gw_piece *p)
{
    const size_t n = p->n_samples;
    if (!rec->n)
        rec->first = p->sample0;
    assert_true(n > 0 && n <= rec->spec.block_samples);
    assert_int_equal(p->sample0, rec->first + (int64_t)rec->n);
    assert_int_equal(p->sample0 / rec->spec.block_samples,
                     (p->sample0 + (int64_t)n - 1) / rec->spec.block_samples);
    assert_int_equal(p->dq, GW_DQ_ALL);
    for (uint32_t c = 0; c < rec->spec.n_channels && c < 3; c++) {
        rec->x[c] = realloc(rec->x[c], (rec->n + n) * sizeof(double));
        assert_non_null(rec->x[c]);
        for (size_t i = 0; i < n; i++)
            rec->x[c][rec->n + i] = rec->spec.dtype == GW_F64 ? ((double *)p->data)[c * n + i]
                                                              : (double)((float *)p->data)[c * n + i];
    }
    rec->flags = realloc(rec->flags, rec->n + n);
    assert_non_null(rec->flags);
    memset(rec->flags + rec->n, (int)p->flags, n);
    rec->n += n;
    rec->longest = n > rec->longest ? n : rec->longest;
}

/* Runs to the end; port orders differ with `turn`. */
static inline void play_small(run *r, const char *yaml, int turn, uint32_t small)
{
    const int err = configure(r, yaml);
    r->small = small;
    if (err != GW_OK)
        fail_msg("%s", gw_err_detail());
    if (gw_kind_sim.open(r->state, &r->env) != GW_OK)
        fail_msg("%s", gw_err_detail());
    bool done[4] = {false};
    void *data[4] = {0};
    const int n_out = r->plan.n_out;
    for (int o = 0; o < n_out; o++) {
        r->port[o].spec = r->plan.out[o];
        data[o] = malloc((size_t)r->plan.out[o].block_samples * r->plan.out[o].n_channels * 8);
        assert_non_null(data[o]);
    }
    for (int left = n_out; left > 0;)
        for (int k = 0; k < n_out; k++) {
            const int o = turn ? n_out - 1 - k : k;
            if (done[o])
                continue;
            const uint32_t block = r->plan.out[o].block_samples;
            gw_piece p = {.data = data[o],
                          .capacity_samples = r->small && r->small < block ? r->small : block};
            const int e = gw_kind_sim.next(r->state, o, &p);
            if (e == GW_EEND) {
                done[o] = true;
                left--;
                continue;
            }
            if (e == GW_EAGAIN)
                continue;
            if (e != GW_OK)
                fail_msg("%s", gw_err_detail());
            /* A piece is handed out when its last sample has been taken. */
            assert_int_equal(r->env.waited_ns,
                             gw_sample_to_ns(p.sample0 + p.n_samples, r->plan.out[o].rate, 0));
            append(&r->port[o], &p);
        }
    for (int o = 0; o < n_out; o++)
        free(data[o]);
}

static inline void play(run *r, const char *yaml, int turn)
{
    play_small(r, yaml, turn, 0);
}

static inline void finish(run *r)
{
    if (r->state)
        gw_kind_sim.close(r->state);
    free(r->state);
    for (int o = 0; o < r->plan.n_out; o++)
        gw_spec_free(&r->plan.out[o]);
    for (int o = 0; o < 4; o++) {
        free(r->port[o].x[0]);
        free(r->port[o].x[1]);
        free(r->port[o].x[2]);
        free(r->port[o].flags);
    }
    gw_conf_free(&r->file);
}

static inline double number_in(const char *json, const char *after, const char *key)
{
    const char *at = strstr(json, after);
    assert_non_null(at);
    at = strstr(at, key);
    assert_non_null(at);
    return strtod(at + strlen(key), NULL);
}

#endif
