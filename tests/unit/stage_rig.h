/* SPDX-License-Identifier: GPL-3.0-or-later
 * What the tests of resample and whiten share: seeded noise, and a rig that runs one stage without a runner
 * and lays its output out in time. */
#ifndef GW_STAGE_RIG_H
#define GW_STAGE_RIG_H

#include "pipeline/stage.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* -- numbers ----------------------------------------------------------------------------------------- */

static uint64_t state = 1;

static inline double uniform(void)
{
    state = state * 6364136223846793005u + 1442695040888963407u;
    return ((double)(state >> 11) + 0.5) * 0x1p-53;
}

static inline double normal(void)
{
    return sqrt(-2 * log(uniform())) * cos(2 * M_PI * uniform());
}

/* |H(f)|, f in cycles a sample. */
static inline double response(const double *h, uint32_t n, double f)
{
    double re = 0, im = 0;
    for (uint32_t k = 0; k < n; k++) {
        re += h[k] * cos(2 * M_PI * f * k);
        im -= h[k] * sin(2 * M_PI * f * k);
    }
    return hypot(re, im);
}

/* -- a stage without a runner ------------------------------------------------------------------------ */

enum { RATE = 256, MAX = 64 * RATE, CHANNELS = 4 };

typedef struct rig {
    const gw_kind *kind;
    gw_conf_file *file;
    void *self;
    gw_spec in;
    gw_plan plan;
    void *slab;
    double y[CHANNELS][MAX]; /* output from out0 on; NaN where nothing came */
    int64_t out0;
    const uint8_t *presence; /* of the blocks to come; NULL: every channel is there */
    uint8_t out_presence[1];
    gw_out last;
} rig;

static inline int rig_plan(rig *r, const gw_kind *kind, const char *yaml, uint32_t rate, uint32_t block,
                           uint32_t channels, gw_dtype dtype)
{
    *r = (rig){.kind = kind};
    assert_int_equal(gw_conf_parse(&r->file, "test.yaml", yaml, strlen(yaml)), 0);
    r->self = calloc(1, kind->state_size);
    assert_non_null(r->self);
    r->in = (gw_spec){.name = "in", .rate = {rate, 1}, .dtype = dtype, .block_samples = block};
    assert_int_equal(gw_spec_set_channels(&r->in, channels, NULL), 0);
    int err = kind->configure(r->self, gw_conf_root(r->file));
    if (err == GW_OK)
        err = gw_conf_done(gw_conf_root(r->file), "test");
    if (err != GW_OK)
        return err;
    r->plan = (gw_plan){.name = "test", .n_in = 1, .in = &r->in};
    return kind->plan(r->self, &r->plan);
}

static inline void rig_open(rig *r, const gw_kind *kind, const char *yaml, uint32_t rate, uint32_t block,
                            uint32_t channels, int64_t out0)
{
    assert_int_equal(rig_plan(r, kind, yaml, rate, block, channels, GW_F64), 0);
    assert_int_equal(kind->open(r->self, NULL), 0);
    assert_true(channels <= CHANNELS);
    r->slab = calloc((size_t)r->plan.out[0].block_samples * channels, sizeof(double));
    assert_non_null(r->slab);
    r->out0 = out0;
    for (int c = 0; c < CHANNELS; c++)
        for (int i = 0; i < MAX; i++)
            r->y[c][i] = NAN;
}

static inline void rig_close(rig *r)
{
    if (r->self)
        r->kind->close(r->self);
    gw_spec_free(&r->plan.out[0]);
    gw_spec_free(&r->in);
    gw_conf_free(&r->file);
    free(r->self);
    free(r->slab);
}

static inline void rig_block(rig *r, int64_t sample0, const double *x, size_t stride, uint32_t n, uint64_t dq,
                             uint32_t flags)
{
    const gw_view v = {.data = x,
                       .stride = stride,
                       .n_samples = n,
                       .n_channels = r->in.n_channels,
                       .sample0 = sample0,
                       .dq = dq,
                       .flags = flags,
                       .presence = r->presence};
    gw_out *o = &r->last;
    r->out_presence[0] = 0xff;
    *o = (gw_out){.data = r->slab,
                  .capacity_samples = r->plan.out[0].block_samples,
                  .dq = dq,
                  .flags = flags,
                  .presence = r->out_presence};
    assert_int_equal(r->kind->step(r->self, &v, o), 0);
    assert_true(o->n_samples <= o->capacity_samples);
    for (uint32_t c = 0; c < r->in.n_channels; c++) {
        for (uint32_t i = 0; gw_present(o->presence, c) && i < o->n_samples; i++) {
            const int64_t at = o->sample0 + i - r->out0;
            assert_true(at >= 0 && at < MAX && isnan(r->y[c][at]));
            const size_t k = (size_t)c * o->n_samples + i;
            r->y[c][at] =
                r->plan.out[0].dtype == GW_F64 ? ((double *)r->slab)[k] : (double)((float *)r->slab)[k];
        }
    }
}

/* x[channel][stride], samples [from, to) numbered from sample0, in blocks of the spec's length. */
static inline void rig_run(rig *r, int64_t sample0, const double *x, size_t stride, int64_t from, int64_t to)
{
    for (int64_t i = from; i < to;) {
        int64_t n = r->in.block_samples - (sample0 + i) % r->in.block_samples;
        n = n < to - i ? n : to - i;
        rig_block(r, sample0 + i, x + i, stride, (uint32_t)n, GW_DQ_ALL, 0);
        i += n;
    }
}

/* First output (from 0) at or after `from` that is, or is not, there. */
static inline int seek(const double *y, int from, bool there)
{
    while (from < MAX && isnan(y[from]) == there)
        from++;
    return from;
}

#endif
