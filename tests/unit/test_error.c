/* SPDX-License-Identifier: GPL-3.0-or-later
 * The error list, the thread's line of detail, and the log, whose lines must stay whole. */
#include "pipeline/error.h"
#include "pipeline/log.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static void every_code_has_name_and_text(void **state)
{
    (void)state;
    static const int code[] = {
#define X(name, value, text) value,
        GW_ERRORS(X)
#undef X
    };
    for (size_t i = 0; i < sizeof code / sizeof *code; i++) {
        assert_int_equal(code[i], -(int)i); /* contiguous, 0 or negative */
        assert_memory_equal(gw_err_name(code[i]), "GW_", 3);
        assert_true(strlen(gw_err_text(code[i])) > 2);
    }
    assert_string_equal(gw_err_name(GW_EFORMAT), "GW_EFORMAT");
    assert_string_equal(gw_err_text(GW_EFORMAT), "not in the expected format");
    assert_string_equal(gw_err_name(-999), "GW_UNKNOWN");
}

static void what_the_user_can_mend(void **state)
{
    (void)state;
    assert_true(gw_err_is_input(GW_ECONFIG));
    assert_true(gw_err_is_input(GW_EMISSING));
    assert_true(gw_err_is_input(GW_EBUSY));
    assert_false(gw_err_is_input(GW_OK));
    assert_false(gw_err_is_input(GW_ENOMEM));
    assert_false(gw_err_is_input(GW_EBUG));
}

static void the_detail_grows_on_the_way_up(void **state)
{
    (void)state;
    gw_err_clear();
    assert_string_equal(gw_err_detail(), "");
    assert_int_equal(gw_fail(GW_EIO, "%s: %d bytes", "a.hdf5", 7), GW_EIO);
    assert_string_equal(gw_err_detail(), "a.hdf5: 7 bytes");
    assert_int_equal(gw_fail_at(GW_EFORMAT, "source %s", "sky"), GW_EFORMAT);
    assert_string_equal(gw_err_detail(), "source sky: a.hdf5: 7 bytes");
    gw_fail(GW_EIO, "again: %s", gw_err_detail()); /* its own text as an argument */
    assert_string_equal(gw_err_detail(), "again: source sky: a.hdf5: 7 bytes");
    gw_err_clear();
    gw_fail_at(GW_EIO, "alone");
    assert_string_equal(gw_err_detail(), "alone");
}

static void the_detail_is_cut_not_overrun(void **state)
{
    (void)state;
    char big[4000];
    memset(big, 'x', sizeof big - 1);
    big[sizeof big - 1] = '\0';
    gw_fail(GW_EIO, "%s", big);
    size_t n = strlen(gw_err_detail());
    assert_true(n > 500 && n < sizeof big);
    for (int i = 0; i < 3; i++)
        gw_fail_at(GW_EIO, "where %d", i);
    assert_memory_equal(gw_err_detail(), "where 2: where 1: where 0: xxx", 30);
    gw_fail_at(GW_EIO, "%s", big);
    assert_true(strlen(gw_err_detail()) < sizeof big);
}

static void *fail_elsewhere(void *arg)
{
    gw_fail(GW_EPEER, "other thread");
    strcpy(arg, gw_err_detail());
    return NULL;
}

static void each_thread_has_its_own_detail(void **state)
{
    (void)state;
    char other[64] = "";
    pthread_t t;
    gw_fail(GW_EIO, "this thread");
    assert_int_equal(pthread_create(&t, NULL, fail_elsewhere, other), 0);
    pthread_join(t, NULL);
    assert_string_equal(gw_err_detail(), "this thread");
    assert_string_equal(other, "other thread");
}

static int try_it(int err)
{
    GW_TRY(err);
    return 1;
}

static void try_returns_on_failure_only(void **state)
{
    (void)state;
    assert_int_equal(try_it(GW_OK), 1);
    assert_int_equal(try_it(5), 1);
    assert_int_equal(try_it(GW_EAGAIN), GW_EAGAIN);
}

/* ---- the log ---- */

static int before_calls, after_calls;

static void count_calls(bool before)
{
    *(before ? &before_calls : &after_calls) += 1;
}

static void *log_much(void *arg)
{
    for (int i = 0; i < 200; i++)
        gw_log(GW_LOG_INFO, arg, "line %d of %s", i, (const char *)arg);
    return NULL;
}

/* Runs `talk` with stderr in a file and returns what it wrote. */
static char *capture(void (*talk)(void))
{
    FILE *file = tmpfile();
    assert_non_null(file);
    fflush(stderr);
    int keep = dup(STDERR_FILENO);
    dup2(fileno(file), STDERR_FILENO);
    talk();
    dup2(keep, STDERR_FILENO);
    close(keep);
    long n = lseek(fileno(file), 0, SEEK_END);
    char *text = calloc(1, (size_t)n + 1);
    assert_non_null(text);
    assert_int_equal(pread(fileno(file), text, (size_t)n, 0), n);
    fclose(file);
    return text;
}

static void talk_once(void)
{
    gw_log(GW_LOG_WARN, "whiten.H1", "sigma %d", 3);
    gw_log(GW_LOG_DEBUG, "whiten.H1", "not to be seen");
    gw_log(GW_LOG_ERROR, NULL, "two\nlines\x1b[0m");
}

static void a_log_line_has_its_form(void **state)
{
    (void)state;
    gw_log_set_hook(count_calls);
    before_calls = after_calls = 0;
    char *text = capture(talk_once);
    gw_log_set_hook(NULL);
    assert_int_equal(strlen(text),
                     24 + strlen(" warn stage=whiten.H1 sigma 3\n") + 24 + strlen(" error two lines [0m\n"));
    assert_string_equal(strchr(text, ' '), text + 24); /* 2026-11-21T09:50:45.391Z */
    assert_int_equal(text[23], 'Z');
    assert_non_null(strstr(text, "Z warn stage=whiten.H1 sigma 3\n"));
    assert_non_null(strstr(text, "Z error two lines [0m\n"));
    assert_int_equal(before_calls, 2);
    assert_int_equal(after_calls, 2);
    free(text);
}

static void talk_around(void)
{
    gw_log_lock();
    assert_int_equal(before_calls * 10 + after_calls, 10);
    (void)!write(STDERR_FILENO, "{}\n", 3);
    gw_log_unlock();
    gw_log(GW_LOG_INFO, NULL, "after it");
}

static void other_lines_come_between_log_lines(void **state)
{
    (void)state;
    gw_log_set_hook(count_calls);
    before_calls = after_calls = 0;
    char *text = capture(talk_around);
    gw_log_set_hook(NULL);
    assert_memory_equal(text, "{}\n2", 4);
    assert_non_null(strstr(text, "info after it\n"));
    assert_int_equal(before_calls * 10 + after_calls, 22);
    free(text);
}

static void talk_together(void)
{
    static char name[4][8] = {"a", "bb", "ccc", "dddd"};
    pthread_t t[4];
    for (int i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&t[i], NULL, log_much, name[i]), 0);
    for (int i = 0; i < 4; i++)
        pthread_join(t[i], NULL);
}

static void log_lines_of_threads_do_not_mix(void **state)
{
    (void)state;
    char *text = capture(talk_together);
    int lines = 0;
    for (char *line = text, *end; (end = strchr(line, '\n')); line = end + 1, lines++) {
        char stage[16], by[16];
        int number, used = 0;
        *end = '\0';
        assert_int_equal(sscanf(line + 24, " info stage=%15s line %d of %15s%n", stage, &number, by, &used),
                         3);
        assert_string_equal(stage, by);
        assert_int_equal(line[24 + used], '\0');
    }
    assert_int_equal(lines, 800);
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_code_has_name_and_text),
        cmocka_unit_test(what_the_user_can_mend),
        cmocka_unit_test(the_detail_grows_on_the_way_up),
        cmocka_unit_test(the_detail_is_cut_not_overrun),
        cmocka_unit_test(each_thread_has_its_own_detail),
        cmocka_unit_test(try_returns_on_failure_only),
        cmocka_unit_test(a_log_line_has_its_form),
        cmocka_unit_test(log_lines_of_threads_do_not_mix),
        cmocka_unit_test(other_lines_come_between_log_lines),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
