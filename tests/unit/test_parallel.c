/* SPDX-License-Identifier: GPL-3.0-or-later
 * The pool: every piece once, the first error, no nesting, and the search before bulk. What comes first is
 * told by counts of pieces, never by time. */
#include "pipeline/parallel.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cmocka.h>

enum { N = 1000 };

typedef struct work {
    atomic_int done[N];
    int plain[N]; /* written without atomics: the pool itself must order it before the caller reads */
    atomic_int fail_at, calls;
} work;

static int piece(void *arg, size_t i)
{
    work *w = arg;
    atomic_fetch_add(&w->calls, 1);
    atomic_fetch_add(&w->done[i], 1);
    w->plain[i] = (int)i * 3;
    if (atomic_load(&w->fail_at) == (int)i)
        return gw_fail(GW_ERANGE, "piece %zu", i);
    return GW_OK;
}

static void all_once(gw_class priority, size_t n)
{
    static work w;
    memset(&w, 0, sizeof w);
    w.fail_at = -1;
    assert_int_equal(gw_parallel(priority, n, piece, &w), GW_OK);
    for (size_t i = 0; i < N; i++) {
        assert_int_equal(w.done[i], i < n);
        assert_int_equal(w.plain[i], i < n ? (int)i * 3 : 0);
    }
}

static void test_every_piece_once(void **state)
{
    (void)state;
    all_once(GW_SEARCH, N); /* no pool: the caller alone */
    const int threads[] = {1, 2, 5};
    for (int k = 0; k < 3; k++) {
        assert_int_equal(gw_parallel_start(threads[k]), GW_OK);
        assert_int_equal(gw_parallel_threads(), threads[k]);
        const size_t n[] = {0, 1, 2, 3, 17, N};
        for (int j = 0; j < 6; j++) {
            all_once(GW_SEARCH, n[j]);
            all_once(GW_BULK, n[j]);
        }
        gw_parallel_stop();
        assert_int_equal(gw_parallel_threads(), 1);
    }
    assert_int_equal(gw_parallel_start(0), GW_OK);
    assert_true(gw_parallel_threads() >= 1);
    assert_int_equal(gw_parallel_start(7), GW_OK); /* shared */
    gw_parallel_stop();
    all_once(GW_BULK, N);
    gw_parallel_stop();
}

static void test_first_error(void **state)
{
    (void)state;
    static work w;
    for (int threads = 1; threads <= 4; threads++) {
        assert_int_equal(gw_parallel_start(threads), GW_OK);
        for (int k = 0; k < 50; k++) {
            memset(&w, 0, sizeof w);
            w.fail_at = k;
            assert_int_equal(gw_parallel(k % 2 ? GW_BULK : GW_SEARCH, N, piece, &w), GW_ERANGE);
            char text[32];
            snprintf(text, sizeof text, "piece %d", k);
            assert_string_equal(gw_err_detail(), text); /* also when it was in another thread */
            if (threads == 1)
                assert_int_equal(w.calls, k + 1); /* nothing more begins */
        }
        all_once(GW_SEARCH, N);
        gw_parallel_stop();
    }
}

/* -- who works ---------------------------------------------------------------------------------------- */

static atomic_int busy[8];

static int numbered(void *arg, size_t i)
{
    (void)i;
    const int me = gw_parallel_worker();
    if (me < 0 || me >= *(const int *)arg || atomic_fetch_add(&busy[me], 1) != 0)
        return gw_fail(GW_EBUG, "number %d is taken or none", me);
    usleep(100);
    atomic_fetch_sub(&busy[me], 1);
    return GW_OK;
}

/* Each thread that works for a caller has a number of its own. */
static void test_workers_are_numbered(void **state)
{
    (void)state;
    for (int threads = 1; threads <= 8; threads++) {
        assert_int_equal(gw_parallel_start(threads), GW_OK);
        assert_int_equal(gw_parallel(GW_BULK, 100, numbered, &threads), GW_OK);
        gw_parallel_stop();
    }
}

static int nested(void *arg, size_t i)
{
    (void)i;
    return gw_parallel(GW_SEARCH, 1, piece, arg);
}

static void test_never_nested(void **state)
{
    (void)state;
    static work w;
    w.fail_at = -1;
    assert_int_equal(gw_parallel_start(3), GW_OK);
    assert_int_equal(gw_parallel(GW_BULK, 4, nested, &w), GW_EBUG);
    assert_non_null(strstr(gw_err_detail(), "inside"));
    assert_int_equal(w.calls, 0);
    all_once(GW_SEARCH, N);
    gw_parallel_stop();
}

/* -- several callers at once ------------------------------------------------------------------------- */

static void *caller(void *arg)
{
    const uintptr_t me = (uintptr_t)arg;
    work *w = calloc(1, sizeof *w);
    for (size_t k = 0; k < 200; k++) {
        memset(w, 0, sizeof *w);
        const size_t n = 1 + (k * 7 + me * 13) % 40;
        w->fail_at = k % 5 == 4 ? (int)(n / 2) : -1;
        int err = gw_parallel(me % 2 ? GW_BULK : GW_SEARCH, n, piece, w);
        bool well = err == (k % 5 == 4 ? GW_ERANGE : GW_OK);
        for (size_t i = 0; i < N && k % 5 != 4; i++)
            well &= w->done[i] == (i < n);
        if (!well) {
            free(w);
            return (void *)1;
        }
    }
    free(w);
    return NULL;
}

static void test_many_callers(void **state)
{
    (void)state;
    pthread_t thread[6];
    assert_int_equal(gw_parallel_start(4), GW_OK);
    for (uintptr_t i = 0; i < 6; i++)
        assert_int_equal(pthread_create(&thread[i], NULL, caller, (void *)i), 0);
    for (int i = 0; i < 6; i++) {
        void *failed;
        pthread_join(thread[i], &failed);
        assert_null(failed);
    }
    gw_parallel_stop();
}

/* -- the search before bulk -------------------------------------------------------------------------- */

/* Bulk pieces that each draw a number and wait until it is called, so that the test decides how many are
 * worked off, and when. */
typedef struct bulk {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    int begun, called, done;
} bulk;

static int bulk_piece(void *arg, size_t i)
{
    (void)i;
    bulk *b = arg;
    pthread_mutex_lock(&b->lock);
    const int number = b->begun++;
    pthread_cond_broadcast(&b->changed);
    while (number >= b->called)
        pthread_cond_wait(&b->changed, &b->lock);
    b->done++;
    pthread_mutex_unlock(&b->lock);
    return GW_OK;
}

static void *bulk_caller(void *arg)
{
    return (void *)(intptr_t)gw_parallel(GW_BULK, 64, bulk_piece, arg);
}

static void until_begun(bulk *b, int n)
{
    pthread_mutex_lock(&b->lock);
    while (b->begun < n)
        pthread_cond_wait(&b->changed, &b->lock);
    pthread_mutex_unlock(&b->lock);
}

static void call_below(bulk *b, int n)
{
    pthread_mutex_lock(&b->lock);
    b->called = n;
    pthread_cond_broadcast(&b->changed);
    pthread_mutex_unlock(&b->lock);
}

/* A search call of two pieces that meet: it ends only when a worker has come to help. */
typedef struct meeting {
    atomic_int came;
} meeting;

static int meet(void *arg, size_t i)
{
    (void)i;
    meeting *m = arg;
    atomic_fetch_add(&m->came, 1);
    for (int k = 0; k < 100000 && atomic_load(&m->came) < 2; k++)
        usleep(100);
    return atomic_load(&m->came) == 2 ? GW_OK : gw_fail(GW_EAGAIN, "nobody came");
}

static void *search_caller(void *arg)
{
    return (void *)(intptr_t)gw_parallel(GW_SEARCH, 2, meet, arg);
}

static void test_search_first(void **state)
{
    (void)state;
    bulk b = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};
    meeting m = {0};
    pthread_t heavy, quick;
    void *result;
    assert_int_equal(gw_parallel_start(3), GW_OK); /* two workers */
    assert_int_equal(pthread_create(&heavy, NULL, bulk_caller, &b), 0);
    until_begun(&b, 3); /* the caller and both workers are in bulk pieces */
    assert_int_equal(pthread_create(&quick, NULL, search_caller, &m), 0);
    /* The search has workers of its own: one of them comes to the meeting while all of bulk's stay where they
     * are. */
    pthread_join(quick, &result);
    assert_int_equal((intptr_t)result, GW_OK);
    pthread_mutex_lock(&b.lock);
    assert_int_equal(b.done, 0);
    pthread_mutex_unlock(&b.lock);
    call_below(&b, 64);
    pthread_join(heavy, &result);
    assert_int_equal((intptr_t)result, GW_OK);
    assert_int_equal(b.done, 64);
    gw_parallel_stop();
}

/* The system is told which goes first: at what priority does each thread that does a piece run? */
static int own_nice(void *arg, size_t i)
{
    ((int *)arg)[i] = getpriority(PRIO_PROCESS, 0);
    usleep(1000); /* so that the others come too */
    return GW_OK;
}

static void *call_bulk(void *arg)
{
    return (void *)(intptr_t)gw_parallel(GW_BULK, 32, own_nice, arg);
}

static void test_bulk_steps_back(void **state)
{
    (void)state;
    pthread_t thread;
    int bulk[32], search[32];
    const int usual = getpriority(PRIO_PROCESS, 0);
    assert_int_equal(gw_parallel_start(3), GW_OK);
    assert_int_equal(pthread_create(&thread, NULL, call_bulk, bulk), 0);
    pthread_join(thread, NULL);
    assert_int_equal(gw_parallel(GW_SEARCH, 32, own_nice, search), GW_OK);
    for (int i = 0; i < 32; i++) {
        assert_true(bulk[i] > usual || usual >= 10);
        assert_int_equal(search[i], usual);
    }
    gw_parallel_stop();
}

/* Bulk goes on while the search never stops calling: its caller takes part. */
static atomic_bool enough;

static int nothing(void *arg, size_t i)
{
    (void)arg;
    (void)i;
    return GW_OK;
}

static void *endless_search(void *arg)
{
    (void)arg;
    int err = GW_OK;
    while (err == GW_OK && !atomic_load(&enough))
        err = gw_parallel(GW_SEARCH, 16, nothing, NULL);
    return (void *)(intptr_t)err;
}

static void test_bulk_does_not_starve(void **state)
{
    (void)state;
    pthread_t thread;
    void *result;
    atomic_store(&enough, false);
    assert_int_equal(gw_parallel_start(2), GW_OK);
    assert_int_equal(pthread_create(&thread, NULL, endless_search, NULL), 0);
    for (int k = 0; k < 20; k++)
        all_once(GW_BULK, N);
    atomic_store(&enough, true);
    pthread_join(thread, &result);
    assert_int_equal((intptr_t)result, GW_OK);
    gw_parallel_stop();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_piece_once),     cmocka_unit_test(test_first_error),
        cmocka_unit_test(test_never_nested),         cmocka_unit_test(test_workers_are_numbered),
        cmocka_unit_test(test_many_callers),         cmocka_unit_test(test_search_first),
        cmocka_unit_test(test_bulk_does_not_starve), cmocka_unit_test(test_bulk_steps_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
