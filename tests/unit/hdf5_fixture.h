/* SPDX-License-Identifier: GPL-3.0-or-later
 * For the tests of replay and record: makes small HDF5 files, runs one source or sink without a runner,
 * and stands in for what the runner lends (gw_env). Include it in one .c file per test program. */
#ifndef GW_HDF5_FIXTURE_H
#define GW_HDF5_FIXTURE_H

#include "pipeline/hdf5_lock.h"
#include "pipeline/stage.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <hdf5.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- what the runner lends ---- */

struct gw_env {
    int bad_inputs;
    char bad[2][512]; /* the first two complaints */
    int64_t start_ns, waited_ns;
    bool waited_backwards;
};

const char *gw_env_name(const gw_env *env)
{
    (void)env;
    return "test";
}

uint64_t gw_env_run_id(const gw_env *env)
{
    (void)env;
    return 42;
}

void gw_env_start(gw_env *env, double pace, int64_t data_ns)
{
    (void)pace;
    env->start_ns = data_ns;
}

int gw_env_wait_until(gw_env *env, int64_t data_ns)
{
    env->waited_backwards |= data_ns < env->waited_ns;
    env->waited_ns = data_ns;
    return GW_OK;
}

void gw_env_bad_input(gw_env *env, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    if (env->bad_inputs < 2)
        vsnprintf(env->bad[env->bad_inputs], sizeof env->bad[0], fmt, args);
    va_end(args);
    env->bad_inputs++;
}

/* ---- places ---- */

static char fixture_folder[64];

static inline int fixture_setup(void **state)
{
    (void)state;
    snprintf(fixture_folder, sizeof fixture_folder, "/tmp/gwstream-test-XXXXXX");
    return mkdtemp(fixture_folder) ? 0 : -1;
}

static inline int fixture_teardown(void **state)
{
    (void)state;
    char command[128];
    snprintf(command, sizeof command, "rm -r %s", fixture_folder);
    return system(command);
}

/* A path in this test's own folder; four are kept. */
static inline const char *temporary(const char *name)
{
    static char text[4][128];
    static int next;
    next = (next + 1) % 4;
    snprintf(text[next], sizeof text[next], "%s/%s", fixture_folder, name);
    return text[next];
}

/* A file of the real recordings, or NULL where they are not. Four are kept. */
static inline const char *real_file(const char *name)
{
    static char text[4][512];
    static int next;
    next = (next + 1) % 4;
    const char *data = getenv("GWSTREAM_DATA");
    snprintf(text[next], sizeof text[next], "%s/gwosc/%s", data ? data : "../shared/data", name);
    return access(text[next], R_OK) == 0 ? text[next] : NULL;
}

#define NEED_REAL(path)                                                                                      \
    do {                                                                                                     \
        if (!(path)) {                                                                                       \
            print_message("skipped: no real recordings (set GWSTREAM_DATA)\n");                              \
            skip();                                                                                          \
        }                                                                                                    \
    } while (0)

#define assert_fails(err, code, ...)                                                                         \
    do {                                                                                                     \
        int err_ = (err);                                                                                    \
        const char *words_[] = {__VA_ARGS__};                                                                \
        if (err_ != (code))                                                                                  \
            fail_msg("%s, expected %s: %s", gw_err_name(err_), gw_err_name(code), gw_err_detail());          \
        for (size_t w_ = 0; w_ < sizeof words_ / sizeof *words_; w_++)                                       \
            if (!strstr(gw_err_detail(), words_[w_]))                                                        \
                fail_msg("'%s' is not in: %s", words_[w_], gw_err_detail());                                 \
    } while (0)

#define assert_works(err)                                                                                    \
    do {                                                                                                     \
        int err_ = (err);                                                                                    \
        if (err_ < 0)                                                                                        \
            fail_msg("%s: %s", gw_err_name(err_), gw_err_detail());                                          \
    } while (0)

/* ---- HDF5 files ---- */

static inline hid_t make_file(const char *path)
{
    gw_hdf5_lock(); /* once, to silence the library; the tests have one thread */
    gw_hdf5_unlock();
    hid_t file = H5Fcreate(path, H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
    assert_true(file >= 0);
    return file;
}

static inline void put_attribute(hid_t object, const char *name, double value)
{
    hid_t space = H5Screate(H5S_SCALAR);
    hid_t attr = H5Acreate2(object, name, H5T_IEEE_F64BE, space, H5P_DEFAULT, H5P_DEFAULT);
    assert_true(H5Awrite(attr, H5T_NATIVE_DOUBLE, &value) >= 0);
    H5Aclose(attr);
    H5Sclose(space);
}

/* A dataset of `type` in the file, made of doubles or, where memory says so, of something else. Left open. */
static inline hid_t put_dataset(hid_t file, const char *path, hid_t type, hid_t memory, size_t n,
                                const void *x)
{
    hsize_t count = n;
    hid_t space = H5Screate_simple(1, &count, NULL), link = H5Pcreate(H5P_LINK_CREATE);
    H5Pset_create_intermediate_group(link, 1);
    hid_t d = H5Dcreate2(file, path, type, space, link, H5P_DEFAULT, H5P_DEFAULT);
    assert_true(d >= 0 && (n == 0 || H5Dwrite(d, memory, H5S_ALL, H5S_ALL, H5P_DEFAULT, x) >= 0));
    H5Pclose(link);
    H5Sclose(space);
    return d;
}

/* One channel of a per-channel layout. */
static inline void put_channel(hid_t file, const char *path, hid_t type, size_t n, const double *x,
                               const char *start, double start_s, const char *step, double step_s)
{
    hid_t d = put_dataset(file, path, type, H5T_NATIVE_DOUBLE, n, x);
    put_attribute(d, start, start_s);
    put_attribute(d, step, step_s);
    H5Dclose(d);
}

static inline void put_strings(hid_t file, const char *path, size_t n, const char *const *text, bool variable)
{
    hid_t type = H5Tcopy(H5T_C_S1);
    char fixed[32][24] = {{0}};
    H5Tset_size(type, variable ? H5T_VARIABLE : sizeof fixed[0]);
    H5Tset_strpad(type, variable ? H5T_STR_NULLTERM : H5T_STR_NULLPAD);
    for (size_t i = 0; i < n; i++)
        strncpy(fixed[i], text[i], sizeof fixed[i] - 1);
    H5Dclose(put_dataset(file, path, type, type, n, variable ? (const void *)text : (const void *)fixed));
    H5Tclose(type);
}

typedef struct gwosc {
    double start_s;
    int rate, seconds;
    const double *x;
    const char *detector;
    int mask_seconds;         /* 0: as many as seconds */
    const uint32_t *dq, *inj; /* NULL: no masks at all */
    const char *const *dq_names, *const *inj_names;
    size_t n_dq, n_inj;
    bool variable;
} gwosc;

static inline void make_gwosc(const char *path, const gwosc *g)
{
    hid_t file = make_file(path);
    hid_t d = put_dataset(file, "strain/Strain", H5T_IEEE_F64LE, H5T_NATIVE_DOUBLE,
                          (size_t)(g->rate * g->seconds), g->x);
    put_attribute(d, "Xstart", g->start_s);
    put_attribute(d, "Xspacing", 1.0 / g->rate);
    H5Dclose(d);
    if (g->detector)
        put_strings(file, "meta/Detector", 1, &g->detector, g->variable);
    size_t n = (size_t)(g->mask_seconds ? g->mask_seconds : g->seconds);
    if (g->dq) {
        H5Dclose(put_dataset(file, "quality/simple/DQmask", H5T_STD_U32BE, H5T_NATIVE_UINT32, n, g->dq));
        put_strings(file, "quality/simple/DQShortnames", g->n_dq, g->dq_names, g->variable);
    }
    if (g->inj) {
        H5Dclose(
            put_dataset(file, "quality/injections/Injmask", H5T_STD_U32LE, H5T_NATIVE_UINT32, n, g->inj));
        put_strings(file, "quality/injections/InjShortnames", g->n_inj, g->inj_names, g->variable);
    }
    H5Fclose(file);
}

static const char *const usual_dq[] = {"DATA",       "CBC_CAT1",   "CBC_CAT2",  "CBC_CAT3",
                                       "BURST_CAT1", "BURST_CAT2", "BURST_CAT3"};
static const char *const usual_inj[] = {"NO_CBC_HW_INJ", "NO_BURST_HW_INJ", "NO_DETCHAR_HW_INJ",
                                        "NO_CW_HW_INJ", "NO_STOCH_HW_INJ"};

/* Repeatable numbers in (-1, 1). */
static inline void fill_noise(double *x, size_t n, uint64_t seed)
{
    for (size_t i = 0; i < n; i++) {
        seed = seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        x[i] = (double)(int64_t)seed / 9.3e18;
    }
}

/* ---- one source or sink without a runner ---- */

typedef struct alone {
    const gw_kind *kind;
    void *self;
    gw_plan plan;
    gw_env env;
} alone;

/* configure and plan; returns the first error. */
static inline int alone_plan(alone *a, const gw_kind *kind, const char *yaml)
{
    gw_conf_file *file = NULL;
    a->kind = kind;
    a->self = calloc(1, kind->state_size);
    assert_non_null(a->self);
    int err = gw_conf_parse(&file, "test.yaml", yaml, strlen(yaml));
    if (err == GW_OK)
        err = kind->configure(a->self, gw_conf_root(file));
    if (err == GW_OK)
        err = gw_conf_done(gw_conf_root(file), "test");
    gw_conf_free(&file);
    a->plan.name = "test";
    return err == GW_OK ? kind->plan(a->self, &a->plan) : err;
}

static inline void alone_close(alone *a)
{
    for (int i = 0; i < a->plan.n_out; i++)
        gw_spec_free(&a->plan.out[i]);
    if (a->self)
        a->kind->close(a->self);
    free(a->self);
    *a = (alone){0};
}

/* All that a source's port gave. */
typedef struct taken {
    int64_t sample0, end;
    double *x; /* [channel 0]: NaN in holes */
    uint8_t *reason;
    uint64_t *dq;
    uint32_t *flags;
    size_t room;
    int pieces;
    bool ended;
} taken;

static inline int taken_piece(taken *t, const gw_spec *s, const gw_piece *p)
{
    const int64_t n = p->n_samples ? p->n_samples : (int64_t)p->gap_samples;
    const size_t old = (size_t)(t->end - t->sample0), all = old + (size_t)n;
    if (n == 0)
        return 0;
    if (t->pieces++ == 0)
        t->sample0 = t->end = p->sample0;
    assert_int_equal(t->end, p->sample0);
    if (p->n_samples) {
        assert_true(p->n_samples <= p->capacity_samples);
        assert_true(p->sample0 / s->block_samples == (p->sample0 + n - 1) / s->block_samples);
        assert_true(p->flags & GW_FLAG_REPLAY);
    }
    t->end = p->sample0 + n;
    if (all > 1u << 24)
        return 1; /* long holes are counted, not kept */
    if (all > t->room) {
        t->room = 2 * all;
        t->x = realloc(t->x, t->room * sizeof *t->x);
        t->reason = realloc(t->reason, t->room);
        t->dq = realloc(t->dq, t->room * sizeof *t->dq);
        t->flags = realloc(t->flags, t->room * sizeof *t->flags);
    }
    for (size_t i = 0; i < (size_t)n; i++) {
        t->x[old + i] = !p->n_samples        ? NAN
                        : s->dtype == GW_F32 ? (double)((float *)p->data)[i]
                        : s->dtype == GW_I16 ? (double)((int16_t *)p->data)[i]
                        : s->dtype == GW_I32 ? (double)((int32_t *)p->data)[i]
                                             : ((double *)p->data)[i];
        t->reason[old + i] = p->n_samples ? GW_GAP_NONE : (uint8_t)p->reason;
        t->dq[old + i] = p->dq;
        t->flags[old + i] = p->n_samples ? p->flags : 0;
    }
    return 1;
}

/* Runs a planned source to its end, ports in turn as the runner does. *skew_ns, if given: by how much the
 * ports were apart at most. */
static inline int alone_run(alone *a, taken *t, int64_t *skew_ns)
{
    GW_TRY(a->kind->open(a->self, &a->env));
    void *data[GW_MAX_PORTS];
    for (int i = 0; i < a->plan.n_out; i++)
        data[i] = malloc(a->plan.out[i].block_samples * a->plan.out[i].n_channels * sizeof(double));
    int err = GW_OK;
    while (err == GW_OK) {
        int behind = -1; /* as the runner does: the port whose next block is complete first */
        int64_t due = INT64_MAX;
        int64_t least = INT64_MAX, most = INT64_MIN;
        for (int i = 0; i < a->plan.n_out; i++) {
            const gw_spec *s = &a->plan.out[i];
            if (t[i].ended)
                continue;
            int64_t ns = t[i].pieces ? gw_sample_to_ns(t[i].end, s->rate, s->phase_ns) : INT64_MIN;
            int64_t block = s->block_samples;
            int64_t at =
                t[i].pieces ? t[i].end : gw_sample_at_or_after(a->env.start_ns, s->rate, s->phase_ns);
            int64_t next = gw_sample_to_ns((at / block + 1) * block, s->rate, s->phase_ns);
            if (behind < 0 || next < due) {
                behind = i;
                due = next;
            }
            least = ns < least ? ns : least;
            most = ns > most ? ns : most;
        }
        if (behind < 0)
            break;
        if (skew_ns && least != INT64_MIN && most - least > *skew_ns)
            *skew_ns = most - least;
        const gw_spec *s = &a->plan.out[behind];
        uint8_t presence[64];
        memset(presence, 0xff, sizeof presence);
        assert_true(s->n_channels <= 8 * sizeof presence);
        gw_piece p = {.data = data[behind],
                      .capacity_samples = s->block_samples,
                      .dq = GW_DQ_ALL,
                      .presence = presence};
        err = a->kind->next(a->self, behind, &p);
        if (err == GW_EEND) {
            t[behind].ended = true;
            err = GW_OK;
        } else if (err == GW_OK) {
            assert_true(taken_piece(&t[behind], s, &p));
        }
    }
    for (int i = 0; i < a->plan.n_out; i++)
        free(data[i]);
    return err;
}

static inline void taken_free(taken *t, int n)
{
    for (int i = 0; i < n; i++) {
        free(t[i].x);
        free(t[i].reason);
        free(t[i].dq);
        free(t[i].flags);
        t[i] = (taken){0};
    }
}

#endif
