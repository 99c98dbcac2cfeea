/* SPDX-License-Identifier: GPL-3.0-or-later
 * The challenge sink, driven by hand: an event's last word in the order of time, what is left out, the file
 * without events, and what is refused. */
#include "pipeline/stage.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>
#include <hdf5.h>

extern const gw_kind gw_kind_challenge;
static const gw_kind *const kind = &gw_kind_challenge;

static char dir[] = "/tmp/gw-challenge-XXXXXX", path[64];

const char *gw_env_name(const gw_env *env)
{
    (void)env;
    return "challenge";
}

static int make_dir(void **state)
{
    (void)state;
    if (!mkdtemp(strcpy(dir, "/tmp/gw-challenge-XXXXXX")))
        return -1;
    snprintf(path, sizeof path, "%s/events.hdf5", dir);
    return 0;
}

static int remove_dir(void **state)
{
    (void)state;
    unlink(path);
    return rmdir(dir);
}

typedef struct sink {
    gw_conf_file *file;
    void *self;
} sink;

static int begin(sink *s, const char *more)
{
    char yaml[200];
    snprintf(yaml, sizeof yaml, "path: %s\n%s", path, more);
    s->self = calloc(1, kind->state_size);
    assert_non_null(s->self);
    assert_int_equal(gw_conf_parse(&s->file, "test.yaml", yaml, strlen(yaml)), 0);
    GW_TRY(kind->configure(s->self, gw_conf_root(s->file)));
    GW_TRY(gw_conf_done(gw_conf_root(s->file), "sink challenge"));
    gw_plan p = {.name = "challenge", .has_events_in = true};
    assert_int_equal(kind->plan(s->self, &p), 0);
    return kind->open(s->self, NULL);
}

static void end(sink *s)
{
    kind->close(s->self);
    free(s->self);
    gw_conf_free(&s->file);
}

static void say(sink *s, gw_phase phase, const char *id, double gps_s, double statistic)
{
    gw_event e = {.phase = phase, .gps_ns = llround(gps_s * 1e6) * 1000, .statistic = statistic};
    snprintf(e.id, sizeof e.id, "%s", id);
    assert_int_equal(kind->event(s->self, &e), 0);
}

/* The dataset's values; -1 if it is not what a reader of the challenge expects. */
static int values(const char *name, double *x, int room)
{
    const hid_t file = H5Fopen(path, H5F_ACC_RDONLY, H5P_DEFAULT);
    const hid_t set = file < 0 ? -1 : H5Dopen2(file, name, H5P_DEFAULT);
    const hid_t space = set < 0 ? -1 : H5Dget_space(set);
    const int n =
        space >= 0 && H5Sget_simple_extent_ndims(space) == 1 ? (int)H5Sget_simple_extent_npoints(space) : -1;
    assert_true(n <= room);
    if (n > 0)
        assert_true(H5Dread(set, H5T_NATIVE_DOUBLE, H5S_ALL, H5S_ALL, H5P_DEFAULT, x) >= 0);
    if (space >= 0)
        H5Sclose(space);
    if (set >= 0)
        H5Dclose(set);
    if (file >= 0)
        H5Fclose(file);
    return n;
}

static void test_last_words(void **state)
{
    (void)state;
    sink s;
    double x[4];
    assert_int_equal(begin(&s, "tolerance: 300ms"), 0);
    say(&s, GW_PHASE_FIRST, "Gb", 1400000050.5, 2);
    say(&s, GW_PHASE_INJECTION, "I1", 1400000012, 0);
    say(&s, GW_PHASE_FIRST, "Gwithdrawn", 1400000030, 9);
    say(&s, GW_PHASE_FINAL, "Gb", 1400000050.25, 3);
    say(&s, GW_PHASE_FIRST, "Ga", 1400000012.125, 4);
    say(&s, GW_PHASE_RETRACTED, "Gwithdrawn", 1400000030, 9);
    say(&s, GW_PHASE_RETRACTED, "Gnever", 1400000031, 9);
    say(&s, GW_PHASE_FINAL, "Ga", 1400000012.25, 5);
    assert_int_equal(access(path, F_OK), -1); /* nothing before the end */
    assert_int_equal(kind->drain(s.self, NULL), 0);
    assert_int_equal(values("time", x, 4), 2);
    assert_true(fabs(x[0] - 1400000012.25) < 1e-6 && fabs(x[1] - 1400000050.25) < 1e-6);
    assert_int_equal(values("stat", x, 4), 2);
    assert_true(x[0] == 5 && x[1] == 3);
    assert_int_equal(values("var", x, 4), 2);
    assert_true(fabs(x[0] - 0.3) < 1e-12 && fabs(x[1] - 0.3) < 1e-12);
    end(&s);
}

static void test_no_events(void **state)
{
    (void)state;
    sink s;
    double x[1];
    assert_int_equal(begin(&s, ""), GW_EBUSY); /* the file of the test before */
    end(&s);
    assert_int_equal(begin(&s, "overwrite: true"), 0);
    assert_int_equal(kind->drain(s.self, NULL), 0);
    assert_int_equal(values("time", x, 1), 0);
    assert_int_equal(values("var", x, 1), 0);
    end(&s);
}

static void test_refused(void **state)
{
    (void)state;
    sink s;
    assert_int_equal(begin(&s, "tolerance: 0s"), GW_ECONFIG);
    end(&s);
    assert_int_equal(begin(&s, "tolerance: 11s"), GW_ECONFIG);
    end(&s);
    gw_plan p = {.name = "challenge"};
    assert_int_equal(kind->plan(NULL, &p), GW_ECONFIG);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_last_words),
        cmocka_unit_test(test_no_events),
        cmocka_unit_test(test_refused),
    };
    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
