/* SPDX-License-Identifier: GPL-3.0-or-later
 * Placement: what the YAML may say, what the kernel then says of the thread, and that nothing fails where it
 * is not permitted. Lists of cores are compared with what /sys and sched_getaffinity tell. */
#include "pipeline/log.h"
#include "pipeline/parallel.h"
#include "pipeline/placement.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include <zmq.h>

#include <cmocka.h>

static void test_lists(void **state)
{
    (void)state;
    cpu_set_t c;
    char text[256];
    assert_true(gw_cores_parse("0-3,8,10-11\n", &c));
    assert_int_equal(CPU_COUNT(&c), 7);
    assert_true(CPU_ISSET(8, &c) && CPU_ISSET(11, &c) && !CPU_ISSET(9, &c));
    assert_string_equal(gw_cores_text(&c, text, sizeof text), "0-3,8,10-11");
    assert_true(gw_cores_parse("", &c));
    assert_string_equal(gw_cores_text(&c, text, sizeof text), "none");
    assert_true(gw_cores_parse("1022-99999999999999999999", &c));
    assert_string_equal(gw_cores_text(&c, text, sizeof text), "1022-1023");
    assert_false(gw_cores_parse("a", &c));
    assert_false(gw_cores_parse("1-", &c));
    assert_false(gw_cores_parse("-1", &c));
    assert_false(gw_cores_parse("1;2", &c));
    for (size_t k = 0; k < CPU_SETSIZE; k += 2)
        CPU_SET(k, &c);
    (void)gw_cores_text(&c, text, sizeof text); /* longer than the text: cut, not beyond it */
    assert_true(strlen(text) < sizeof text);
}

static int read_part(const char *yaml, gw_placement *p)
{
    gw_conf_file *f;
    assert_int_equal(gw_conf_parse(&f, "x.yaml", yaml, strlen(yaml)), GW_OK);
    int err = gw_placement_read(gw_conf_root(f), p);
    err = err == GW_OK ? gw_conf_done(gw_conf_root(f), "white") : err;
    gw_conf_free(&f);
    return err;
}

static void test_keys(void **state)
{
    (void)state;
    gw_placement p;
    assert_int_equal(read_part("{cores: [0], priority: 50}", &p), GW_OK);
    assert_int_equal(CPU_COUNT(&p.cores), 1);
    assert_true(CPU_ISSET(0, &p.cores));
    assert_int_equal(p.priority, 50);
    assert_false(p.has_numa);
    assert_int_equal(read_part("{cores: 0}", &p), GW_OK);
    assert_int_equal(CPU_COUNT(&p.cores), 1);
    assert_int_equal(read_part("{numa: 0}", &p), GW_OK);
    assert_true(p.has_numa);
    const char *const bad[] = {"{cores: [-1]}",   "{cores: [1024]}", "{cores: []}",    "{cores: [x]}",
                               "{cores: {a: 1}}", "{cores: [1.5]}",  "{priority: 0}",  "{priority: 100}",
                               "{numa: -1}",      "{numa: 5000}",    "{cores: [[0]]}", "{priority: high}"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_int_equal(read_part(bad[i], &p), GW_ECONFIG);
        assert_non_null(strstr(gw_err_detail(), "x.yaml:1:"));
    }
    /* What only this machine has not is taken out. */
    assert_int_equal(read_part("{cores: [0, 1000]}", &p), GW_OK);
    assert_int_equal(CPU_COUNT(&p.cores), 2);
    gw_placement_fit(&p, "white.H1");
    assert_int_equal(CPU_COUNT(&p.cores), 1);
    assert_true(CPU_ISSET(0, &p.cores));
    assert_int_equal(read_part("{cores: [1000], numa: 1000}", &p), GW_OK);
    gw_placement_fit(&p, "white.H1");
    assert_int_equal(CPU_COUNT(&p.cores), 0);
    assert_false(p.has_numa);
}

static int read_run(const char *yaml, gw_run_conf *r)
{
    gw_conf_file *f;
    assert_int_equal(gw_conf_parse(&f, "x.yaml", yaml, strlen(yaml)), GW_OK);
    int err = gw_run_conf_read(gw_conf_root(f), r);
    gw_conf_free(&f);
    return err;
}

static void test_run(void **state)
{
    (void)state;
    gw_run_conf r;
    assert_int_equal(read_run("{sources: 1}", &r), GW_OK);
    assert_int_equal(r.threads, 0);
    assert_false(r.lock_memory);
    assert_int_equal(
        read_run("{run: {threads: 4, lock_memory: true, io_cores: [0], bulk_cores: [1, 2]}}", &r), GW_OK);
    assert_int_equal(r.threads, 4);
    assert_true(r.lock_memory);
    assert_int_equal(CPU_COUNT(&r.io_cores), 1);
    assert_true(CPU_COUNT(&r.bulk_cores) == 2 && CPU_ISSET(2, &r.bulk_cores));
    const char *const bad[] = {"{run: 4}",
                               "{run: {threads: 0}}",
                               "{run: {thread: 4}}",
                               "{run: {io_cores: [-2]}}",
                               "{run: {bulk_cores: []}}",
                               "{run: {lock_memory: yes}}"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_int_equal(read_run(bad[i], &r), GW_ECONFIG);
}

/* -- what the kernel says ---------------------------------------------------------------------------- */

static gw_placement wanted;
static cpu_set_t seen;
static int seen_policy, seen_priority;

static void *placed(void *arg)
{
    gw_placement_apply(&wanted, "white.H1");
    (void)pthread_getaffinity_np(pthread_self(), sizeof seen, &seen);
    struct sched_param how;
    (void)pthread_getschedparam(pthread_self(), &seen_policy, &how);
    seen_priority = how.sched_priority;
    return arg;
}

static void place(gw_placement p)
{
    pthread_t t;
    wanted = p;
    assert_int_equal(pthread_create(&t, NULL, placed, NULL), 0);
    pthread_join(t, NULL);
}

static void test_apply(void **state)
{
    (void)state;
    cpu_set_t ours;
    assert_int_equal(sched_getaffinity(0, sizeof ours, &ours), 0);
    place((gw_placement){.numa = 0});
    assert_true(CPU_EQUAL(&seen, &ours));
    assert_int_equal(seen_policy, SCHED_OTHER);
    for (size_t c = 0; c < CPU_SETSIZE; c++) { /* each core that we may use */
        if (!CPU_ISSET(c, &ours))
            continue;
        gw_placement p = {.numa = 0};
        CPU_SET(c, &p.cores);
        place(p);
        assert_true(CPU_EQUAL(&seen, &p.cores));
    }
    gw_placement far = {.numa = 0};
    CPU_SET(CPU_SETSIZE - 1, &far.cores); /* not ours: said, and on with all of them */
    place(far);
    assert_true(CPU_EQUAL(&seen, &ours));
    place((gw_placement){.has_numa = true, .numa = 0});
    place((gw_placement){.has_numa = true, .numa = 999}); /* the kernel refuses: said, and on */
}

static void test_priority(void **state)
{
    (void)state;
    struct sched_param how = {.sched_priority = 1};
    const bool may = pthread_setschedparam(pthread_self(), SCHED_FIFO, &how) == 0;
    how.sched_priority = 0;
    (void)pthread_setschedparam(pthread_self(), SCHED_OTHER, &how);
    place((gw_placement){.priority = 7});
    assert_int_equal(seen_policy, may ? SCHED_FIFO : SCHED_OTHER);
    assert_int_equal(seen_priority, may ? 7 : 0);
}

static void test_move_pool(void **state)
{
    (void)state;
    gw_pool *pool;
    gw_block *b;
    assert_int_equal(gw_pool_new(&pool, "x", 5, 10000, GW_SPACE_HOST), GW_OK);
    assert_int_equal(gw_pool_take(pool, &b), GW_OK); /* somebody holds one: the others are moved */
    memset(b->data, 7, 10000);
    gw_placement_move_pool(&(gw_placement){.has_numa = true}, "x", pool);
    gw_placement_move_pool(&(gw_placement){.has_numa = true, .numa = 999}, "x", pool);
    assert_int_equal(gw_pool_free_slabs(pool), 4);
    assert_int_equal(((char *)b->data)[9999], 7);
    gw_block_unref(&b);
    assert_int_equal(gw_pool_free_slabs(pool), 5);
    gw_pool_destroy(&pool);
}

/* In a child: it may lock all its memory, and lower its limits. */
static void test_lock_memory(void **state)
{
    (void)state;
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        gw_run_lock_memory(&(gw_run_conf){.lock_memory = true});
        char *p = malloc(32 << 20); /* allocation goes on either way */
        if (p)
            memset(p, 1, 32 << 20);
        _exit(p && p[(32 << 20) - 1] == 1 ? 0 : 1);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
}

static void test_io(void **state)
{
    (void)state;
    gw_run_conf r = {.threads = 0};
    CPU_SET(0, &r.io_cores);
    void *zmq = zmq_ctx_new();
    gw_run_start_io(&r, zmq);
    void *a = zmq_socket(zmq, ZMQ_PAIR), *b = zmq_socket(zmq, ZMQ_PAIR);
    assert_int_equal(zmq_bind(a, "ipc://@gwstream-test-placement"), 0);
    assert_int_equal(zmq_connect(b, "ipc://@gwstream-test-placement"), 0);
    assert_int_equal(zmq_send(b, "x", 1, 0), 1);
    char c;
    assert_int_equal(zmq_recv(a, &c, 1, 0), 1);
    zmq_close(a);
    zmq_close(b);
    zmq_ctx_term(zmq);
}

static int where(void *arg, size_t i)
{
    (void)i;
    cpu_set_t *cores = arg;
    usleep(200); /* so that the worker gets some */
    return sched_getaffinity(0, sizeof *cores, &cores[gw_parallel_worker()]) ? GW_ESYSTEM : GW_OK;
}

static void test_bulk(void **state)
{
    (void)state;
    cpu_set_t all, at[2];
    assert_int_equal(sched_getaffinity(0, sizeof all, &all), 0);
    size_t last = CPU_SETSIZE - 1;
    while (!CPU_ISSET(last, &all))
        last--;
    gw_run_conf r = {.threads = 2};
    CPU_SET(last, &r.bulk_cores);
    assert_int_equal(gw_parallel_start(r.threads), GW_OK);
    gw_run_place_bulk(&r);
    for (gw_class c = GW_SEARCH; c <= GW_BULK; c++) {
        memset(at, 0, sizeof at);
        for (int k = 0; k < 200 && !CPU_COUNT(&at[1]); k++)
            assert_int_equal(gw_parallel(c, 20, where, at), GW_OK);
        assert_true(CPU_EQUAL(&at[0], &all)); /* the caller */
        assert_true(CPU_EQUAL(&at[1], c == GW_BULK ? &r.bulk_cores : &all));
    }
    gw_parallel_stop();
}

int main(void)
{
    gw_log_set_level(GW_LOG_ERROR);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lists),       cmocka_unit_test(test_keys),     cmocka_unit_test(test_run),
        cmocka_unit_test(test_apply),       cmocka_unit_test(test_priority), cmocka_unit_test(test_move_pool),
        cmocka_unit_test(test_lock_memory), cmocka_unit_test(test_io),       cmocka_unit_test(test_bulk),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
