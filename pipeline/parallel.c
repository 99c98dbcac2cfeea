/* SPDX-License-Identifier: GPL-3.0-or-later
 * gw_parallel (parallel.h). A call is a job on the caller's stack. Workers find it in the queue of its class,
 * join it, and draw piece after piece from its counter; only joining and leaving take the lock. The caller
 * draws too, so it finishes alone where all workers are busy: no call waits for another, and bulk cannot
 * starve. */
#include "pipeline/parallel.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct job {
    int (*fn)(void *arg, size_t i);
    void *arg;
    size_t n;
    atomic_size_t next; /* piece that nobody has drawn yet */
    /* under the pool's lock */
    struct job *after; /* in the queue */
    int inside;        /* workers that have joined */
    int err;
    char detail[512];
} job;

static struct {
    pthread_mutex_t lock, life; /* life: starting and stopping */
    pthread_cond_t work, left;  /* a job has come; a worker has left one */
    job *queue[2];              /* first in, first served; the caller takes its job out */
    atomic_int searching;       /* search jobs that still have pieces, as a hint to bulk workers */
    bool stopping;
    int users, workers;
    pthread_t *thread;
} pool = {.lock = PTHREAD_MUTEX_INITIALIZER,
          .life = PTHREAD_MUTEX_INITIALIZER,
          .work = PTHREAD_COND_INITIALIZER,
          .left = PTHREAD_COND_INITIALIZER};

static _Thread_local bool in_piece;
static _Thread_local int number; /* of this thread: 0 in all that are not the pool's */

/* -- drawing ----------------------------------------------------------------------------------------- */

static bool has_pieces(const job *j)
{
    return atomic_load_explicit(&j->next, memory_order_relaxed) < j->n;
}

/* The first error stays, and nothing more is drawn. */
static void give_up(job *j, int err)
{
    pthread_mutex_lock(&pool.lock);
    if (!j->err) {
        j->err = err;
        snprintf(j->detail, sizeof j->detail, "%s", gw_err_detail());
    }
    pthread_mutex_unlock(&pool.lock);
    atomic_store_explicit(&j->next, j->n, memory_order_relaxed);
}

static void draw(job *j, bool yields)
{
    for (size_t i; (i = atomic_fetch_add_explicit(&j->next, 1, memory_order_relaxed)) < j->n;) {
        gw_err_clear();
        in_piece = true;
        const int err = j->fn(j->arg, i);
        in_piece = false;
        if (err < 0)
            give_up(j, err);
        if (yields && atomic_load_explicit(&pool.searching, memory_order_relaxed) > 0)
            return;
    }
}

/* -- workers ----------------------------------------------------------------------------------------- */

/* The oldest job with pieces, of the search before bulk. Under the lock. */
static job *find_job(gw_class *priority)
{
    for (int c = GW_SEARCH; c <= GW_BULK; c++)
        for (job *j = pool.queue[c]; j; j = j->after)
            if (has_pieces(j)) {
                *priority = (gw_class)c;
                return j;
            }
    return NULL;
}

static void *worker(void *arg)
{
    number = (int)(intptr_t)arg;
    pthread_mutex_lock(&pool.lock);
    while (!pool.stopping) {
        gw_class priority;
        job *j = find_job(&priority);
        if (!j) {
            pthread_cond_wait(&pool.work, &pool.lock);
            continue;
        }
        j->inside++;
        pthread_mutex_unlock(&pool.lock);
        draw(j, priority == GW_BULK);
        pthread_mutex_lock(&pool.lock);
        if (--j->inside == 0)
            pthread_cond_broadcast(&pool.left);
    }
    pthread_mutex_unlock(&pool.lock);
    return NULL;
}

/* -- calling ----------------------------------------------------------------------------------------- */

static void put(job *j, gw_class priority)
{
    job **end = &pool.queue[priority];
    while (*end)
        end = &(*end)->after;
    *end = j;
    if (priority == GW_SEARCH)
        atomic_fetch_add_explicit(&pool.searching, 1, memory_order_relaxed);
    if (j->n > 2)
        pthread_cond_broadcast(&pool.work);
    else
        pthread_cond_signal(&pool.work); /* the caller takes one piece, a worker the other */
}

static void take_out(job *j, gw_class priority)
{
    job **at = &pool.queue[priority];
    while (*at != j)
        at = &(*at)->after;
    *at = j->after;
    if (priority == GW_SEARCH)
        atomic_fetch_sub_explicit(&pool.searching, 1, memory_order_relaxed);
}

int gw_parallel(gw_class priority, size_t n, int (*fn)(void *arg, size_t i), void *arg)
{
    if (in_piece)
        return gw_fail(GW_EBUG, "gw_parallel called from inside one of its pieces");
    job j = {.fn = fn, .arg = arg, .n = n};
    atomic_init(&j.next, 0);
    if (n > 1) {
        pthread_mutex_lock(&pool.lock);
        put(&j, priority);
        pthread_mutex_unlock(&pool.lock);
    }
    draw(&j, false);
    if (n > 1) {
        pthread_mutex_lock(&pool.lock);
        take_out(&j, priority); /* all pieces are drawn: nobody joins any more */
        while (j.inside > 0)
            pthread_cond_wait(&pool.left, &pool.lock);
        pthread_mutex_unlock(&pool.lock);
    }
    return j.err ? gw_fail(j.err, "%s", j.detail[0] ? j.detail : gw_err_text(j.err)) : GW_OK;
}

int gw_parallel_worker(void)
{
    return number;
}

/* -- the pool's life --------------------------------------------------------------------------------- */

static int cores(void)
{
    cpu_set_t mine;
    return sched_getaffinity(0, sizeof mine, &mine) == 0 ? CPU_COUNT(&mine) : 1;
}

/* With the life lock held. */
static void join_all(void)
{
    pthread_mutex_lock(&pool.lock);
    pool.stopping = true;
    pthread_cond_broadcast(&pool.work);
    pthread_mutex_unlock(&pool.lock);
    for (int i = 0; i < pool.workers; i++)
        pthread_join(pool.thread[i], NULL);
    free(pool.thread);
    pool.thread = NULL;
    pool.workers = 0;
    pool.stopping = false;
}

static int start_workers(int workers)
{
    pool.thread = calloc(workers > 0 ? (size_t)workers : 1, sizeof *pool.thread);
    if (!pool.thread)
        return gw_fail(GW_ENOMEM, "%d threads", workers);
    while (pool.workers < workers) {
        const int err =
            pthread_create(&pool.thread[pool.workers], NULL, worker, (void *)(intptr_t)(pool.workers + 1));
        if (err) {
            join_all();
            return gw_fail(GW_ESYSTEM, "thread %d of gw_parallel: %s", pool.workers, strerror(err));
        }
        char name[16];
        snprintf(name, sizeof name, "parallel.%d", pool.workers);
        pthread_setname_np(pool.thread[pool.workers++], name);
    }
    return GW_OK;
}

int gw_parallel_planned(int threads)
{
    return threads > 0 ? threads : cores();
}

int gw_parallel_start(int threads)
{
    pthread_mutex_lock(&pool.life);
    const int err = pool.users ? GW_OK : start_workers(gw_parallel_planned(threads) - 1);
    pool.users += err == GW_OK;
    pthread_mutex_unlock(&pool.life);
    return err;
}

void gw_parallel_stop(void)
{
    pthread_mutex_lock(&pool.life);
    if (pool.users > 0 && --pool.users == 0)
        join_all();
    pthread_mutex_unlock(&pool.life);
}

int gw_parallel_threads(void)
{
    pthread_mutex_lock(&pool.life);
    const int threads = pool.workers + 1;
    pthread_mutex_unlock(&pool.life);
    return threads;
}
