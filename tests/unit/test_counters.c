/* SPDX-License-Identifier: GPL-3.0-or-later
 * Counting: the age histogram against a sorted list, ages by the timebase, gaps, the mailbox that carries
 * commands. */
#include "pipeline/counters.h"
#include "pipeline/mailbox.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static void test_buckets(void **state)
{
    (void)state;
    assert_int_equal(gw_ages_bucket(-5), 0);
    assert_int_equal(gw_ages_bucket(0), 0);
    assert_int_equal(gw_ages_bucket(65535), 0);
    assert_int_equal(gw_ages_bucket(65536), 1);
    assert_int_equal(gw_ages_bucket(INT64_MAX), GW_AGE_BUCKETS - 1);
    for (int b = 1; b < GW_AGE_BUCKETS; b++) { /* the edges tile, each bucket at most an eighth wide */
        const int64_t lower = gw_ages_lower_ns(b);
        assert_int_equal(gw_ages_bucket(lower), b);
        assert_int_equal(gw_ages_bucket(lower - 1), b - 1);
        if (b > 1)
            assert_true(8 * (lower - gw_ages_lower_ns(b - 1)) <= lower);
    }
    assert_int_equal(gw_ages_lower_ns(GW_AGE_BUCKETS - 1), INT64_C(1) << 33);
}

static int by_value(const void *a, const void *b)
{
    const int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return x < y ? -1 : x > y;
}

static void test_quantiles(void **state)
{
    (void)state;
    enum { N = 20000 };
    static int64_t age[N];
    static gw_ages ages;
    gw_ages_seen seen;
    gw_ages_read(&ages, &seen);
    assert_int_equal(seen.n, 0);
    assert_int_equal(gw_ages_quantile_ns(&seen, 0.99), 0);
    uint64_t x = 12345;
    for (int i = 0; i < N; i++) { /* 1 ms to 1 s, evenly in the logarithm, and one of 3 s */
        x = x * 6364136223846793005u + 1442695040888963407u;
        age[i] = 1000000;
        for (uint64_t k = x >> 33; k > 0; k -= k < 21000000 ? k : 21000000)
            age[i] += age[i] / 15;
    }
    age[777] = 3 * GW_SECOND_NS;
    for (int i = 0; i < N; i++)
        gw_ages_add(&ages, age[i]);
    qsort(age, N, sizeof age[0], by_value);
    gw_ages_read(&ages, &seen);
    assert_int_equal(seen.n, N);
    assert_int_equal(seen.max_ns, 3 * GW_SECOND_NS);
    const double q[] = {0.01, 0.5, 0.9, 0.99, 0.999};
    for (size_t i = 0; i < sizeof q / sizeof q[0]; i++) {
        const double exact = (double)age[(int)(q[i] * N) - 1];
        const double told = (double)gw_ages_quantile_ns(&seen, q[i]);
        assert_true(told >= exact && told <= 1.126 * exact);
    }
    assert_int_equal(gw_ages_quantile_ns(&seen, 1), 3 * GW_SECOND_NS);
}

static void test_taken(void **state)
{
    (void)state;
    static gw_input_counters c;
    gw_meter m = {.now_ns = 0};
    assert_true(gw_meter_tick(&m)); /* never renewed */
    gw_header h = {.n_samples = 16, .due_ns = 1000 * GW_SECOND_NS};
    gw_count_taken(&c, NULL, &h);
    gw_meter_renew(&m, (gw_timebase){.pace = 0});
    assert_false(gw_meter_tick(&m));
    gw_count_taken(&c, &m, &h); /* as fast as it goes: a block has no age */
    assert_int_equal(gw_count_read(&c.age.count[0]), 0);
    /* At twice real time, anchored now: the block at data second 1000 was due 3 s after second 994. */
    gw_meter_renew(&m, (gw_timebase){.pace = 2, .anchor_data_ns = 994 * GW_SECOND_NS});
    m.timebase.anchor_wall_ns = m.now_ns + m.wall_ns - 5 * GW_SECOND_NS;
    gw_count_taken(&c, &m, &h);
    assert_int_equal(c.age.max_ns, 2 * GW_SECOND_NS);
    assert_true(llabs(m.now_ns + m.wall_ns - gw_gps_now_ns()) < GW_SECOND_NS);
    h = (gw_header){.flags = GW_FLAG_GAP, .gap_reason = GW_GAP_LATE, .gap_samples = 77};
    gw_count_taken(&c, &m, &h);
    gw_count_taken(&c, &m, &h);
    h.gap_reason = 123456; /* of a peer that knows more reasons */
    gw_count_taken(&c, &m, &h);
    for (int r = 0; r < GW_GAP_REASON_COUNT; r++)
        assert_int_equal(gw_count_read(&c.gap_samples[r]), r == GW_GAP_LATE ? 154 : 0);
    gw_ages_seen seen;
    gw_ages_read(&c.age, &seen);
    assert_int_equal(seen.n, 1); /* gaps have none */
}

static void test_step(void **state)
{
    (void)state;
    gw_counters c = {0};
    gw_count_step(&c, 10);
    gw_count_step(&c, 30);
    gw_count_step(&c, -5); /* the clock does not go back, and if it did: nothing */
    assert_int_equal(c.steps, 3);
    assert_int_equal(c.step_ns, 40);
    assert_int_equal(c.step_max_ns, 30);
    assert_string_equal(gw_cause_text(GW_FOR_DUE), "due");
}

/* -- the mailbox ------------------------------------------------------------------------------------- */

static int echo(void *self, const char *words, char *answer, size_t n)
{
    ++*(int *)self;
    if (strcmp(words, "dump 0 /x") == 0)
        return gw_fail(GW_ERANGE, "no seconds");
    snprintf(answer, n, "did %s", words);
    return GW_OK;
}

typedef struct box {
    gw_mailbox mail;
    int calls;
} box;

static void *node(void *arg)
{
    box *b = arg;
    while (b->calls < 2) {
        gw_mailbox_serve(&b->mail, echo, &b->calls);
        usleep(200);
    }
    gw_mailbox_close(&b->mail);
    return NULL;
}

static int wait_for(gw_mailbox *m, int *result, char *answer, size_t n)
{
    int err;
    while ((err = gw_mailbox_collect(m, result, answer, n)) == GW_EAGAIN)
        usleep(200);
    return err;
}

static void test_mailbox(void **state)
{
    (void)state;
    static box b;
    char answer[GW_ANSWER_BYTES];
    int result;
    pthread_t thread;
    assert_int_equal(gw_mailbox_post(&b.mail, "dump 3 /y"), GW_OK);
    assert_int_equal(gw_mailbox_post(&b.mail, "dump 4 /z"), GW_EBUSY);
    assert_int_equal(gw_mailbox_collect(&b.mail, &result, answer, sizeof answer), GW_EAGAIN);
    assert_int_equal(pthread_create(&thread, NULL, node, &b), 0);
    assert_int_equal(wait_for(&b.mail, &result, answer, sizeof answer), GW_OK);
    assert_int_equal(result, GW_OK);
    assert_string_equal(answer, "did dump 3 /y");
    assert_int_equal(gw_mailbox_post(&b.mail, "dump 0 /x"), GW_OK);
    assert_int_equal(wait_for(&b.mail, &result, answer, sizeof answer), GW_OK);
    assert_int_equal(result, GW_ERANGE);
    assert_string_equal(answer, "no seconds");
    pthread_join(thread, NULL);
    assert_int_equal(gw_mailbox_post(&b.mail, "dump 3 /y"), GW_EPEER);
}

static void test_mailbox_closed(void **state)
{
    (void)state;
    static gw_mailbox m;
    char answer[64];
    int result, calls = 0;
    assert_int_equal(gw_mailbox_post(&m, "dump 3 /y"), GW_OK);
    gw_mailbox_close(&m); /* ended before it looked */
    assert_int_equal(gw_mailbox_collect(&m, &result, answer, sizeof answer), GW_EPEER);
    static gw_mailbox k;
    assert_int_equal(gw_mailbox_post(&k, "dump 3 /y"), GW_OK);
    gw_mailbox_serve(&k, echo, &calls);
    gw_mailbox_close(&k); /* ended after it answered */
    assert_int_equal(gw_mailbox_collect(&k, &result, answer, sizeof answer), GW_OK);
    assert_string_equal(answer, "did dump 3 /y");
    static gw_mailbox none;
    assert_int_equal(gw_mailbox_post(&none, "dump 3 /y"), GW_OK);
    gw_mailbox_serve(&none, NULL, NULL);
    assert_int_equal(gw_mailbox_collect(&none, &result, answer, sizeof answer), GW_OK);
    assert_int_equal(result, GW_ENOTSUP);
}

static void test_gauges(void **state)
{
    (void)state;
    static gw_counters c;
    static const char *const name[] = {"a", "b", "c", "d", "e", "f", "g", "h", "i",
                                       "j", "k", "l", "m", "n", "o", "p", "q"};
    char again[] = "b"; /* the same name at another place */
    for (int k = 0; k <= GW_MAX_GAUGES; k++)
        gw_count_gauge(&c, name[k], k);
    gw_count_gauge(&c, again, 0.5);
    for (int k = 0; k < GW_MAX_GAUGES; k++) {
        assert_string_equal(atomic_load(&c.gauge[k].name), name[k]);
        assert_true(atomic_load(&c.gauge[k].value) == (k == 1 ? 0.5 : k));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_buckets), cmocka_unit_test(test_quantiles),
        cmocka_unit_test(test_taken),   cmocka_unit_test(test_step),
        cmocka_unit_test(test_mailbox), cmocka_unit_test(test_mailbox_closed),
        cmocka_unit_test(test_gauges),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
