/* SPDX-License-Identifier: GPL-3.0-or-later
 * The token command: what it may answer, what its failures are called, and that one which does not end is killed,
 * whatever it has done with its pipes. */
#include "pipeline/clock.h"
#include "sinks/token.h"

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static char token[GW_TOKEN_BYTES];
static int64_t seconds;

static int fetch(const char *command)
{
    return gw_token_fetch(command, token, sizeof token, &seconds);
}

static void what_it_prints_is_the_token(void **state)
{
    (void)state;
    assert_int_equal(fetch("echo secret"), 0);
    assert_string_equal(token, "secret");
    assert_int_equal(seconds, 300);
    assert_int_equal(fetch("echo '{\"access_token\": \"s\", \"expires_in\": 60}'"), 0);
    assert_string_equal(token, "s");
    assert_int_equal(seconds, 60);
    assert_int_equal(fetch("echo two words"), GW_EFORMAT);
    assert_int_equal(fetch("true"), GW_EFORMAT);
}

/* A command that has closed its pipes is still waited for: it may yet fail. */
static void its_status_counts(void **state)
{
    (void)state;
    assert_int_equal(fetch("echo old; echo first >&2; echo no route >&2; exit 6"), GW_EACCESS);
    assert_string_equal(gw_err_detail(), "token_command: failed with status 6: no route");
    assert_int_equal(fetch("echo secret; exec >&- 2>&-; sleep 0.3"), 0);
    assert_string_equal(token, "secret");
    assert_int_equal(fetch("echo secret; exec >&- 2>&-; sleep 0.3; exit 3"), GW_EACCESS);
    assert_string_equal(gw_err_detail(), "token_command: failed with status 3");
    assert_int_equal(fetch("kill -TERM $$"), GW_EACCESS);
    assert_string_equal(gw_err_detail(), "token_command: failed with status 143");
}

typedef struct endless {
    const char *command; /* after it has written down who it is */
    char dir[32], said[200];
    int err;
    long pid;
    double took_s;
} endless;

static void *fetch_endless(void *arg)
{
    endless *e = arg;
    char text[200], got[64];
    int64_t life;
    snprintf(text, sizeof text, "echo $$ > %s/pid; %s", e->dir, e->command);
    const int64_t from_ns = gw_monotonic_ns();
    e->err = gw_token_fetch(text, got, sizeof got, &life);
    e->took_s = (double)(gw_monotonic_ns() - from_ns) * 1e-9;
    snprintf(e->said, sizeof e->said, "%s", gw_err_detail());
    return NULL;
}

static long written_pid(const char *dir)
{
    char path[64];
    long pid = 0;
    snprintf(path, sizeof path, "%s/pid", dir);
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    assert_int_equal(fscanf(f, "%ld", &pid), 1);
    fclose(f);
    unlink(path);
    return pid;
}

/* All at once: each has its 10 s. */
static void one_that_does_not_end_is_killed(void **state)
{
    (void)state;
    endless e[] = {
        {.command = "sleep 40"},
        {.command = "exec >&- 2>&-; exec sleep 40"},
        {.command = "echo secret; exec >&- 2>&-; trap '' TERM HUP; while :; do sleep 1; done"},
        {.command = "while echo secret; do sleep 0.1; done"},
    };
    enum { N = sizeof e / sizeof *e };
    pthread_t thread[N];
    for (int i = 0; i < N; i++) {
        assert_non_null(mkdtemp(strcpy(e[i].dir, "/tmp/gw-token-XXXXXX")));
        assert_int_equal(pthread_create(&thread[i], NULL, fetch_endless, &e[i]), 0);
    }
    for (int i = 0; i < N; i++)
        pthread_join(thread[i], NULL);
    for (int i = 0; i < N; i++) {
        e[i].pid = written_pid(e[i].dir);
        rmdir(e[i].dir);
    }
    for (int i = 0; i < N; i++) {
        assert_int_equal(e[i].err, GW_EACCESS);
        assert_string_equal(e[i].said, "token_command: did not end within 10 s");
        assert_true(e[i].took_s > 9.9);
        assert_true(kill((pid_t)e[i].pid, 0) < 0 && errno == ESRCH); /* and reaped */
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_it_prints_is_the_token),
        cmocka_unit_test(its_status_counts),
        cmocka_unit_test(one_that_does_not_end_is_killed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
