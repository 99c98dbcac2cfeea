/* SPDX-License-Identifier: GPL-3.0-or-later
 * gw_parallel (parallel.h). A call is a job on the caller's stack. Workers of its class find it in their
 * queue, join it, and draw piece after piece from its counter; only joining and leaving take the lock. The
 * caller draws too, so it finishes alone where all workers are busy: no call waits for another. Which class
 * goes first is the system's work: it puts a thread of the search in a bulk thread's place within
 * microseconds, in the middle of a piece, for every thread of the search and not only for what it hands over.
 */
#include "pipeline/parallel.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

enum { BULK_NICE = 10 }; /* a tenth of the weight: what wakes up goes first, and bulk still moves on */

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

/* The workers of one class. */
typedef struct team {
    pthread_cond_t work; /* a job has come */
    job *queue;          /* first in, first served; the caller takes its job out */
    pthread_t *thread;
    int workers;
} team;

static struct {
    pthread_mutex_t lock, life; /* life: starting and stopping */
    pthread_cond_t left;        /* a worker has left a job */
    team team[2];               /* by gw_class */
    bool stopping;
    int users;
} pool = {.lock = PTHREAD_MUTEX_INITIALIZER,
          .life = PTHREAD_MUTEX_INITIALIZER,
          .left = PTHREAD_COND_INITIALIZER,
          .team = {{.work = PTHREAD_COND_INITIALIZER}, {.work = PTHREAD_COND_INITIALIZER}}};

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

static void draw(job *j)
{
    for (size_t i; (i = atomic_fetch_add_explicit(&j->next, 1, memory_order_relaxed)) < j->n;) {
        gw_err_clear();
        in_piece = true;
        const int err = j->fn(j->arg, i);
        in_piece = false;
        if (err < 0)
            give_up(j, err);
    }
}

/* -- workers ----------------------------------------------------------------------------------------- */

/* From now on this thread works on bulk: the system runs any other thread of this process first that has
 * something to do. Nobody may take that back without privileges, so it is for ever. */
static void step_back(void)
{
    static _Thread_local bool done;
    if (!done)
        setpriority(PRIO_PROCESS, 0, BULK_NICE); /* Linux: of the calling thread */
    done = true;
}

/* The oldest job with pieces. Under the lock. */
static job *find_job(const team *t)
{
    job *j = t->queue;
    while (j && !has_pieces(j))
        j = j->after;
    return j;
}

static void work(team *t)
{
    pthread_mutex_lock(&pool.lock);
    while (!pool.stopping) {
        job *j = find_job(t);
        if (!j) {
            pthread_cond_wait(&t->work, &pool.lock);
            continue;
        }
        j->inside++;
        pthread_mutex_unlock(&pool.lock);
        draw(j);
        pthread_mutex_lock(&pool.lock);
        if (--j->inside == 0)
            pthread_cond_broadcast(&pool.left);
    }
    pthread_mutex_unlock(&pool.lock);
}

static void *search_worker(void *arg)
{
    number = (int)(intptr_t)arg;
    work(&pool.team[GW_SEARCH]);
    return NULL;
}

static void *bulk_worker(void *arg)
{
    number = (int)(intptr_t)arg;
    step_back();
    work(&pool.team[GW_BULK]);
    return NULL;
}

/* -- calling ----------------------------------------------------------------------------------------- */

static void put(job *j, team *t)
{
    job **end = &t->queue;
    while (*end)
        end = &(*end)->after;
    *end = j;
    if (j->n > 2)
        pthread_cond_broadcast(&t->work);
    else
        pthread_cond_signal(&t->work); /* the caller takes one piece, a worker the other */
}

static void take_out(job *j, team *t)
{
    job **at = &t->queue;
    while (*at != j)
        at = &(*at)->after;
    *at = j->after;
}

int gw_parallel(gw_class priority, size_t n, int (*fn)(void *arg, size_t i), void *arg)
{
    if (in_piece)
        return gw_fail(GW_EBUG, "gw_parallel called from inside one of its pieces");
    if (priority == GW_BULK)
        step_back();
    team *t = &pool.team[priority];
    job j = {.fn = fn, .arg = arg, .n = n};
    atomic_init(&j.next, 0);
    if (n > 1) {
        pthread_mutex_lock(&pool.lock);
        put(&j, t);
        pthread_mutex_unlock(&pool.lock);
    }
    draw(&j);
    if (n > 1) {
        pthread_mutex_lock(&pool.lock);
        take_out(&j, t); /* all pieces are drawn: nobody joins any more */
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
    for (int c = GW_SEARCH; c <= GW_BULK; c++)
        pthread_cond_broadcast(&pool.team[c].work);
    pthread_mutex_unlock(&pool.lock);
    for (int c = GW_SEARCH; c <= GW_BULK; c++) {
        team *t = &pool.team[c];
        for (int i = 0; i < t->workers; i++)
            pthread_join(t->thread[i], NULL);
        free(t->thread);
        t->thread = NULL;
        t->workers = 0;
    }
    pool.stopping = false;
}

static int start_team(team *t, int workers, void *(*worker)(void *), const char *word)
{
    t->thread = calloc(workers > 0 ? (size_t)workers : 1, sizeof *t->thread);
    if (!t->thread)
        return gw_fail(GW_ENOMEM, "%d threads", workers);
    while (t->workers < workers) {
        const int err =
            pthread_create(&t->thread[t->workers], NULL, worker, (void *)(intptr_t)(t->workers + 1));
        if (err)
            return gw_fail(GW_ESYSTEM, "thread %d of gw_parallel: %s", t->workers, strerror(err));
        char name[16];
        snprintf(name, sizeof name, "%s.%d", word, t->workers);
        pthread_setname_np(t->thread[t->workers++], name);
    }
    return GW_OK;
}

static int start_workers(int workers)
{
    int err = start_team(&pool.team[GW_SEARCH], workers, search_worker, "search");
    if (err == GW_OK)
        err = start_team(&pool.team[GW_BULK], workers, bulk_worker, "bulk");
    if (err < 0)
        join_all();
    return err;
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

int gw_parallel_place(gw_class priority, const cpu_set_t *cores)
{
    int err = 0;
    pthread_mutex_lock(&pool.life);
    const team *t = &pool.team[priority];
    for (int i = 0; i < t->workers && !err; i++)
        err = pthread_setaffinity_np(t->thread[i], sizeof *cores, cores);
    pthread_mutex_unlock(&pool.life);
    return err ? gw_fail(GW_ESYSTEM, "%s", strerror(err)) : GW_OK;
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
    const int threads = pool.team[GW_SEARCH].workers + 1;
    pthread_mutex_unlock(&pool.life);
    return threads;
}
