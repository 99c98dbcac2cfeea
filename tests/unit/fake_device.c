/* SPDX-License-Identifier: GPL-3.0-or-later
 * The device made of threads (fake_device.h). Memory of the device is mapped twice: where its pointers say,
 * without any access, and once for the threads that work on it. */
#include "tests/unit/fake_device.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { MAX_QUEUES = 64 };

typedef struct span {
    const char *at;
    size_t bytes;
} span;

typedef struct memory {
    char *seen, *own; /* the same, if the host may touch it */
    size_t bytes;
    gw_space space;
    struct memory *next;
} memory;

typedef enum what { COPY, WORK, MARK, AFTER } what;

typedef struct op {
    what what;
    uint64_t number; /* in its queue */
    span reads, writes;
    size_t dst_pitch, src_pitch, row_bytes, rows;
    fake_work f;
    double k;
    gw_mark *mark;
    uint64_t round; /* of the mark */
    struct op *next;
} op;

struct gw_queue {
    int index;
    op *first, *last; /* not done */
    uint64_t given, done;
    uint64_t knows[MAX_QUEUES]; /* what was given to that queue up to here is done before what comes next */
    int err;
    char why[128];
    bool ends;
    unsigned state;
    pthread_t thread;
};

struct gw_mark {
    uint64_t set, fired; /* rounds */
    uint64_t knows[MAX_QUEUES];
    int err;
    char why[128];
};

static struct {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    fake_wish wish;
    fake_report report;
    memory *memory;
    gw_queue *queue[MAX_QUEUES];
    int64_t work_number;
    int pending;
} fake = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

static void violate(const char *text)
{
    if (fake.report.violations++ == 0)
        snprintf(fake.report.text, sizeof fake.report.text, "%s", text);
}

/* -- memory ------------------------------------------------------------------------------------------ */

static memory *find(const void *p)
{
    const char *at = p;
    for (memory *m = fake.memory; m; m = m->next)
        if (at >= m->seen && at < m->seen + m->bytes)
            return m;
    return NULL;
}

/* Where the threads find it. */
static char *own(const void *p)
{
    const memory *m = find(p);
    return m ? m->own + ((const char *)p - m->seen) : (char *)(uintptr_t)p;
}

static bool is_device(const void *p)
{
    const memory *m = find(p);
    return m && m->space == GW_SPACE_DEVICE;
}

static int map_twice(memory *m)
{
    const int fd = memfd_create("fake device", MFD_CLOEXEC);
    if (fd < 0 || ftruncate(fd, (off_t)m->bytes) != 0)
        return gw_fail(GW_ESYSTEM, "fake device: memfd");
    void *own_ = mmap(NULL, m->bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    void *seen = mmap(NULL, m->bytes, PROT_NONE, MAP_SHARED, fd, 0);
    close(fd);
    if (own_ == MAP_FAILED || seen == MAP_FAILED)
        return gw_fail(GW_ENOMEM, "fake device: mmap");
    m->own = own_;
    m->seen = seen;
    return GW_OK;
}

static int memory_new(void **out, size_t bytes, gw_space space)
{
    memory *m = calloc(1, sizeof *m);
    if (!m)
        return gw_fail(GW_ENOMEM, "fake device");
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    m->bytes = (bytes + page - 1) / page * page;
    m->space = space;
    pthread_mutex_lock(&fake.lock);
    const size_t used = fake.report.memory_bytes + bytes, limit = fake.wish.memory_bytes;
    int err = limit && used > limit && space == GW_SPACE_DEVICE
                  ? gw_fail(GW_ENOMEM, "fake device: %zu bytes, and it has %zu", used, limit)
                  : GW_OK;
    if (err == GW_OK && space == GW_SPACE_DEVICE)
        err = map_twice(m);
    else if (err == GW_OK && !(m->seen = m->own = aligned_alloc(page, m->bytes)))
        err = gw_fail(GW_ENOMEM, "fake device");
    if (err == GW_OK) {
        memset(m->own, 0xa5, m->bytes);
        m->next = fake.memory;
        fake.memory = m;
        fake.report.memory_bytes += m->bytes;
        *out = m->seen;
    }
    pthread_mutex_unlock(&fake.lock);
    if (err != GW_OK)
        free(m);
    return err;
}

static bool overlap(span a, span b)
{
    return a.bytes && b.bytes && a.at < b.at + b.bytes && b.at < a.at + a.bytes;
}

static bool clash(const op *a, const op *b)
{
    return overlap(a->writes, b->writes) || overlap(a->writes, b->reads) || overlap(a->reads, b->writes);
}

static void memory_destroy(void **p, gw_space space)
{
    if (!*p)
        return;
    pthread_mutex_lock(&fake.lock);
    memory **at = &fake.memory;
    while (*at && (*at)->seen != *p)
        at = &(*at)->next;
    memory *m = *at;
    if (!m || m->space != space)
        violate("memory is given back that was not given, or as another kind");
    if (m) {
        *at = m->next;
        fake.report.memory_bytes -= m->bytes;
        const op whole = {.writes = {m->seen, m->bytes}};
        for (int q = 0; q < MAX_QUEUES; q++)
            for (const op *o = fake.queue[q] ? fake.queue[q]->first : NULL; o; o = o->next)
                if (clash(o, &whole))
                    violate("memory is given back while work on it is under way");
        if (m->space == GW_SPACE_DEVICE) {
            munmap(m->own, m->bytes);
            munmap(m->seen, m->bytes);
        } else {
            free(m->own);
        }
        free(m);
    }
    pthread_mutex_unlock(&fake.lock);
    *p = NULL;
}

/* -- queues ------------------------------------------------------------------------------------------ */

/* What it does, without the lock: nobody else may touch its memory now. */
static void perform(const op *o, char *dst, const char *src)
{
    if (o->what == WORK)
        o->f(dst, src, o->row_bytes, o->k);
    for (size_t r = 0; o->what == COPY && r < o->rows; r++)
        memcpy(dst + r * o->dst_pitch, src + r * o->src_pitch, o->row_bytes);
}

static void fail_queue(gw_queue *q, int err, const char *why)
{
    if (q->err)
        return;
    q->err = err;
    snprintf(q->why, sizeof q->why, "%s", why);
}

/* Under the lock. */
static void do_op(gw_queue *q, op *o)
{
    if (o->what == MARK) {
        o->mark->fired = o->round;
        o->mark->err = q->err;
        snprintf(o->mark->why, sizeof o->mark->why, "%s", q->why);
        return;
    }
    if (o->what == AFTER) {
        while (o->mark->fired < o->round)
            pthread_cond_wait(&fake.changed, &fake.lock);
        if (o->mark->err)
            fail_queue(q, o->mark->err, o->mark->why);
        return;
    }
    const unsigned delay_us =
        fake.wish.delay_us ? (unsigned)rand_r(&q->state) % (unsigned)fake.wish.delay_us : 0;
    char *dst = own(o->writes.at);
    const char *src = own(o->reads.at);
    if (++fake.work_number == fake.wish.fail_at)
        fail_queue(q, GW_ESYSTEM, "the fake device failed, as it was told to");
    const bool works = !q->err && !fake.wish.hasty; /* where nobody waits it would be a race */
    pthread_mutex_unlock(&fake.lock);
    if (delay_us)
        usleep(delay_us);
    if (works)
        perform(o, dst, src);
    pthread_mutex_lock(&fake.lock);
}

static void *queue_thread(void *arg)
{
    gw_queue *q = arg;
    pthread_mutex_lock(&fake.lock);
    for (;;) {
        while (!q->first && !q->ends)
            pthread_cond_wait(&fake.changed, &fake.lock);
        op *o = q->first;
        if (!o)
            break;
        do_op(q, o);
        q->first = o->next;
        q->done = o->number;
        fake.pending--;
        free(o);
        pthread_cond_broadcast(&fake.changed);
    }
    pthread_mutex_unlock(&fake.lock);
    return NULL;
}

static int queue_new(gw_queue **out)
{
    gw_queue *q = calloc(1, sizeof *q);
    if (!q)
        return gw_fail(GW_ENOMEM, "fake device");
    pthread_mutex_lock(&fake.lock);
    while (q->index < MAX_QUEUES && fake.queue[q->index])
        q->index++;
    int err = q->index == MAX_QUEUES || pthread_create(&q->thread, NULL, queue_thread, q) != 0
                  ? gw_fail(GW_ESYSTEM, "fake device: a queue")
                  : GW_OK;
    if (err == GW_OK) {
        q->state = fake.wish.seed + (unsigned)q->index;
        fake.queue[q->index] = q;
        fake.report.queues++;
        *out = q;
    }
    pthread_mutex_unlock(&fake.lock);
    if (err != GW_OK)
        free(q);
    return err;
}

static void queue_destroy(gw_queue **qq)
{
    gw_queue *q = *qq;
    if (!q)
        return;
    *qq = NULL;
    pthread_mutex_lock(&fake.lock);
    q->ends = true;
    pthread_cond_broadcast(&fake.changed);
    pthread_mutex_unlock(&fake.lock);
    pthread_join(q->thread, NULL);
    pthread_mutex_lock(&fake.lock);
    fake.queue[q->index] = NULL;
    fake.report.queues--;
    pthread_mutex_unlock(&fake.lock);
    free(q);
}

/* Whether work of other queues that is not done may meet this one. */
static void check(const gw_queue *q, const op *o)
{
    for (int k = 0; k < MAX_QUEUES; k++) {
        const gw_queue *other = fake.queue[k];
        if (!other || other == q)
            continue;
        for (const op *p = other->first; p; p = p->next)
            if (p->number > q->knows[k] && clash(p, o))
                violate("work was enqueued on memory that unfinished work of another queue uses");
    }
}

static int enqueue(gw_queue *q, const op *what)
{
    op *o = malloc(sizeof *o);
    if (!o)
        return gw_fail(GW_ENOMEM, "fake device");
    *o = *what;
    o->next = NULL;
    pthread_mutex_lock(&fake.lock);
    check(q, o);
    o->number = ++q->given;
    if (o->what == MARK) {
        o->round = ++o->mark->set;
        memcpy(o->mark->knows, q->knows, sizeof q->knows);
        o->mark->knows[q->index] = q->given;
    } else if (o->what == AFTER) {
        o->round = o->mark->set;
        for (int k = 0; k < MAX_QUEUES; k++)
            if (o->mark->knows[k] > q->knows[k])
                q->knows[k] = o->mark->knows[k];
    } else {
        const bool to = is_device(o->writes.at), from = is_device(o->reads.at);
        fake.report.works += o->what == WORK;
        if (o->what == COPY && to && !from) {
            fake.report.copies_up++;
            fake.report.bytes_up += o->row_bytes * o->rows;
        } else if (o->what == COPY && from && !to) {
            fake.report.copies_down++;
            fake.report.bytes_down += o->row_bytes * o->rows;
        }
        if (o->what == WORK && !(to && from))
            violate("work on memory that is not the device's");
    }
    if (q->first)
        q->last->next = o;
    else
        q->first = o;
    q->last = o;
    if (++fake.pending > fake.report.most_pending)
        fake.report.most_pending = fake.pending;
    pthread_cond_broadcast(&fake.changed);
    pthread_mutex_unlock(&fake.lock);
    return GW_OK;
}

static int copy_rows(gw_queue *q, void *dst, size_t dst_pitch, const void *src, size_t src_pitch,
                     size_t row_bytes, size_t rows)
{
    const op o = {.what = COPY,
                  .reads = {src, rows ? (rows - 1) * src_pitch + row_bytes : 0},
                  .writes = {dst, rows ? (rows - 1) * dst_pitch + row_bytes : 0},
                  .dst_pitch = dst_pitch,
                  .src_pitch = src_pitch,
                  .row_bytes = row_bytes,
                  .rows = rows};
    return enqueue(q, &o);
}

static int copy(gw_queue *q, void *dst, const void *src, size_t bytes)
{
    return copy_rows(q, dst, bytes, src, bytes, bytes, 1);
}

int fake_run(gw_queue *q, fake_work f, void *dst, const void *src, size_t bytes, double k)
{
    const op o = {
        .what = WORK, .reads = {src, bytes}, .writes = {dst, bytes}, .row_bytes = bytes, .f = f, .k = k};
    return enqueue(q, &o);
}

static int queue_wait(gw_queue *q)
{
    pthread_mutex_lock(&fake.lock);
    while (q->first)
        pthread_cond_wait(&fake.changed, &fake.lock);
    const int err = q->err ? gw_fail(q->err, "%s", q->why) : GW_OK;
    pthread_mutex_unlock(&fake.lock);
    return err;
}

/* -- marks ------------------------------------------------------------------------------------------- */

static int mark_new(gw_mark **m)
{
    *m = calloc(1, sizeof **m);
    if (!*m)
        return gw_fail(GW_ENOMEM, "fake device");
    pthread_mutex_lock(&fake.lock);
    fake.report.marks++;
    pthread_mutex_unlock(&fake.lock);
    return GW_OK;
}

static void mark_destroy(gw_mark **m)
{
    if (!*m)
        return;
    pthread_mutex_lock(&fake.lock);
    fake.report.marks--;
    while ((*m)->fired < (*m)->set) /* else the thread would write to it later */
        pthread_cond_wait(&fake.changed, &fake.lock);
    pthread_mutex_unlock(&fake.lock);
    free(*m);
    *m = NULL;
}

static int mark(gw_queue *q, gw_mark *m)
{
    const op o = {.what = MARK, .mark = m};
    return enqueue(q, &o);
}

static int after(gw_queue *q, gw_mark *m)
{
    const op o = {.what = AFTER, .mark = m};
    return enqueue(q, &o);
}

static int look(gw_mark *m, bool wait)
{
    pthread_mutex_lock(&fake.lock);
    while (wait && !fake.wish.hasty && m->fired < m->set)
        pthread_cond_wait(&fake.changed, &fake.lock);
    int err = m->fired < m->set && !fake.wish.hasty ? GW_EAGAIN : m->err;
    if (err != GW_OK && err != GW_EAGAIN)
        err = gw_fail(err, "%s", m->why);
    pthread_mutex_unlock(&fake.lock);
    return err;
}

static int fired(gw_mark *m)
{
    return look(m, false);
}

static int wait(gw_mark *m)
{
    return look(m, true);
}

/* -- the device -------------------------------------------------------------------------------------- */

static const gw_device device = {.name = "fake",
                                 .memory_new = memory_new,
                                 .memory_destroy = memory_destroy,
                                 .queue_new = queue_new,
                                 .queue_destroy = queue_destroy,
                                 .queue_wait = queue_wait,
                                 .copy = copy,
                                 .copy_rows = copy_rows,
                                 .mark_new = mark_new,
                                 .mark_destroy = mark_destroy,
                                 .mark = mark,
                                 .after = after,
                                 .fired = fired,
                                 .wait = wait};

const gw_device *fake_device_begin(const fake_wish *w)
{
    fake.wish = *w;
    fake.report = (fake_report){0};
    fake.work_number = 0;
    return &device;
}

fake_report fake_device_end(void)
{
    pthread_mutex_lock(&fake.lock);
    const fake_report r = fake.report;
    pthread_mutex_unlock(&fake.lock);
    return r;
}
