/* SPDX-License-Identifier: GPL-3.0-or-later
 * One lock guards the little that goes to and fro: a network that waits, networks to be dropped, events to be
 * written down. It is never held over a file. */
#include "pipeline/stages/canary.h"

#include "pipeline/block.h"
#include "pipeline/log.h"
#include "pipeline/stages/verdict.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { PATH_BYTES = 1100, EVENTS = 16, GIVEN = 8, NICE = 10, POLL_MS = 500 };

static const char KEPT[] = "kept";

/* What is known of the file without reading it. */
typedef struct face {
    ino_t inode;
    off_t bytes;
    struct timespec changed;
} face;

struct gw_canary {
    gw_canary_keys keys;
    gw_canary_ops ops;
    char where[GW_NAME_BYTES], coupling[GW_NAME_BYTES], production[PATH_BYTES], verdict[PATH_BYTES];
    face seen, done; /* at the last look; as it was read last */
    bool failing;    /* verdicts cannot be written, and that was said */
    pthread_t thread;
    bool thread_runs;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    /* under the lock */
    bool leaving;
    gw_canary_model waits;
    void *given[GIVEN];
    int n_given, n_events;
    gw_verdict event[EVENTS];
};

/* -- keys -------------------------------------------------------------------------------------------- */

int gw_canary_keys_read(gw_canary_keys *k, gw_conf *coupling)
{
    *k = (gw_canary_keys){.over_s = 60, .watch_s = 120, .better = 0.98};
    gw_conf *map = gw_conf_find(coupling, "canary");
    if (!map)
        return GW_OK;
    if (gw_conf_kind(map) != GW_CONF_MAP)
        return gw_conf_fail(map, "canary: want {path: FILE.onnx}");
    const char *path = NULL;
    int64_t over_ns = k->over_s * GW_SECOND_NS, watch_ns = k->watch_s * GW_SECOND_NS;
    gw_conf *node;
    GW_TRY(gw_conf_need(map, "path", &node));
    GW_TRY(gw_conf_get_text(map, "path", &path));
    GW_TRY(gw_conf_get_span_ns(map, "over", &over_ns));
    GW_TRY(gw_conf_get_span_ns(map, "watch", &watch_ns));
    GW_TRY(gw_conf_get_double(map, "better", 0, 1, &k->better));
    GW_TRY(gw_conf_get_bool(map, "keep", &k->keep));
    if (!path || !*path || strlen(path) >= sizeof k->path || path[strlen(path) - 1] == '/')
        return gw_conf_fail(node, "canary: path: want the path of a file");
    if (over_ns < GW_SECOND_NS || over_ns % GW_SECOND_NS || watch_ns % GW_SECOND_NS)
        return gw_conf_fail(map, "canary: over and watch: want whole seconds, over at least 1 s");
    memcpy(k->path, path, strlen(path) + 1);
    k->over_s = over_ns / GW_SECOND_NS;
    k->watch_s = watch_ns / GW_SECOND_NS;
    return gw_conf_done(map, "canary");
}

/* -- files ------------------------------------------------------------------------------------------- */

static void folder_of(const char *path, char folder[PATH_BYTES])
{
    const char *slash = strrchr(path, '/');
    if (slash == path)
        snprintf(folder, PATH_BYTES, "/");
    else
        snprintf(folder, PATH_BYTES, "%.*s", slash ? (int)(slash - path) : 1, slash ? path : ".");
}

/* -- verdicts ---------------------------------------------------------------------------------------- */

static void carry_out(gw_canary *c, const gw_verdict *v)
{
    const gw_trial_result *r = &v->result;
    char gps[48] = "";
    if (isfinite(v->gps))
        snprintf(gps, sizeof gps, "GPS %.0f: ", v->gps);
    if (r->seconds > 0)
        gw_log(GW_LOG_INFO, c->where,
               "%s%s: canary %s (%.12s) %s: %s; ratio %.4f against %.4f over %" PRId64 " s", gps, c->coupling,
               v->name, v->sha256, v->word, v->reason, r->canary, r->production, r->seconds);
    else
        gw_log(v->final ? GW_LOG_WARN : GW_LOG_INFO, c->where, "%s%s: canary %s (%.12s) %s: %s", gps,
               c->coupling, v->name, v->sha256, v->word, v->reason);
    if (c->keys.keep && !strcmp(v->word, KEPT)) {
        if (gw_verdict_keep(c->keys.path, v->sha256, c->production) == GW_OK)
            gw_log(GW_LOG_INFO, c->where, "%s: %s is now the canary's, what it was is %s.previous",
                   c->coupling, c->production, c->production);
        else
            gw_log(GW_LOG_WARN, c->where, "%s: %s stays as it was: %s", c->coupling, c->production,
                   gw_err_detail());
    }
    const int err = gw_verdict_write(v, c->verdict, c->where, c->coupling);
    if (err != GW_OK && !c->failing)
        gw_log(GW_LOG_WARN, c->where, "the verdict on a canary cannot be written (%s)", gw_err_detail());
    c->failing = err != GW_OK;
}

/* Of a network of which nothing was measured. */
static gw_verdict verdict_on(const gw_canary_model *m, const char *word, double gps)
{
    gw_verdict v = {.word = word, .final = true, .gps = gps};
    v.result = (gw_trial_result){.canary = NAN, .production = NAN, .canary_out = NAN, .production_out = NAN};
    memcpy(v.name, m->name, sizeof v.name);
    memcpy(v.sha256, m->sha256, sizeof v.sha256);
    return v;
}

/* -- what comes -------------------------------------------------------------------------------------- */

static bool same(const face *a, const face *b)
{
    return a->inode == b->inode && a->bytes == b->bytes && a->changed.tv_sec == b->changed.tv_sec &&
           a->changed.tv_nsec == b->changed.tv_nsec;
}

static bool look(const gw_canary *c, face *f)
{
    struct stat st;
    *f = (face){0};
    if (stat(c->keys.path, &st) != 0)
        return false;
    *f = (face){.inode = st.st_ino, .bytes = st.st_size, .changed = st.st_mtim};
    return true;
}

/* Reads the file and lets it wait for its trial. False: it changed under our hands; look again. */
static bool fetch(gw_canary *c)
{
    char after[GW_SHA256_TEXT];
    gw_canary_model m = {0};
    int err = gw_sha256_file(c->keys.path, m.sha256);
    if (err == GW_OK)
        err = c->ops.load(c->ops.self, c->keys.path, &m.network, m.name);
    if (err != GW_OK) {
        gw_verdict v = verdict_on(&m, "refused", NAN);
        snprintf(v.reason, sizeof v.reason, "%s", gw_err_detail());
        carry_out(c, &v);
        return true;
    }
    if (gw_sha256_file(c->keys.path, after) != GW_OK || strcmp(after, m.sha256) != 0) {
        c->ops.drop(c->ops.self, m.network);
        return false;
    }
    pthread_mutex_lock(&c->lock);
    const gw_canary_model old = c->waits;
    c->waits = m;
    pthread_mutex_unlock(&c->lock);
    if (old.network) {
        gw_verdict v = verdict_on(&old, "superseded", NAN);
        snprintf(v.reason, sizeof v.reason, "a newer one came before its trial began");
        c->ops.drop(c->ops.self, old.network);
        carry_out(c, &v);
    }
    return true;
}

/* at_once: do not wait until it has stopped to change. */
static void poll_file(gw_canary *c, bool at_once)
{
    face now;
    const bool there = look(c, &now);
    const bool settled = at_once || same(&now, &c->seen);
    c->seen = now;
    if (there && settled && !same(&now, &c->done) && fetch(c))
        c->done = now;
}

static void drop_given(gw_canary *c)
{
    void *given[GIVEN];
    pthread_mutex_lock(&c->lock);
    const int n = c->n_given;
    memcpy(given, c->given, sizeof given);
    c->n_given = 0;
    pthread_mutex_unlock(&c->lock);
    for (int i = 0; i < n; i++)
        c->ops.drop(c->ops.self, given[i]);
}

static bool next_event(gw_canary *c, gw_verdict *e)
{
    pthread_mutex_lock(&c->lock);
    const bool some = c->n_events > 0;
    if (some) {
        *e = c->event[0];
        memmove(c->event, c->event + 1, (size_t)--c->n_events * sizeof *c->event);
    }
    pthread_mutex_unlock(&c->lock);
    return some;
}

static void wait_a_while(gw_canary *c)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += POLL_MS / 1000;
    until.tv_nsec += POLL_MS % 1000 * 1000000L;
    pthread_mutex_lock(&c->lock);
    int err = 0;
    while (!c->leaving && c->n_events == 0 && c->n_given == 0 && err == 0)
        err = pthread_cond_timedwait(&c->wake, &c->lock, &until);
    pthread_mutex_unlock(&c->lock);
}

static bool is_leaving(gw_canary *c)
{
    pthread_mutex_lock(&c->lock);
    const bool leaving = c->leaving;
    pthread_mutex_unlock(&c->lock);
    return leaving;
}

static void *watcher(void *arg)
{
    gw_canary *c = arg;
    gw_verdict e;
    pthread_setname_np(pthread_self(), "canary");
    setpriority(PRIO_PROCESS, 0, NICE); /* Linux: of the calling thread */
    int64_t looked = gw_monotonic_ns();
    while (!is_leaving(c)) {
        wait_a_while(c);
        drop_given(c);
        while (next_event(c, &e))
            carry_out(c, &e);
        if (gw_monotonic_ns() - looked >= POLL_MS * (GW_SECOND_NS / 1000) && !is_leaving(c)) {
            looked = gw_monotonic_ns();
            poll_file(c, false);
        }
    }
    while (next_event(c, &e))
        carry_out(c, &e);
    return NULL;
}

/* -- life -------------------------------------------------------------------------------------------- */

static int start(gw_canary *c)
{
    char folder[PATH_BYTES];
    folder_of(c->keys.path, folder);
    if (access(folder, W_OK | X_OK) != 0)
        return gw_fail(errno == ENOENT ? GW_EMISSING : GW_EACCESS,
                       "canary %s: the folder %s, which is to take its verdict: %s", c->keys.path, folder,
                       strerror(errno));
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&c->wake, &attr);
    pthread_condattr_destroy(&attr);
    poll_file(c, true);
    pthread_attr_t plain; /* not the stage's own scheduling */
    pthread_attr_init(&plain);
    pthread_attr_setinheritsched(&plain, PTHREAD_EXPLICIT_SCHED);
    const int no = pthread_create(&c->thread, &plain, watcher, c);
    pthread_attr_destroy(&plain);
    if (no)
        return gw_fail(GW_ESYSTEM, "a thread for the canary: %s", strerror(no));
    c->thread_runs = true;
    return GW_OK;
}

int gw_canary_new(gw_canary **out, const gw_canary_keys *keys, const gw_canary_ops *ops, const char *stage,
                  const char *coupling, const char *production)
{
    *out = NULL;
    gw_canary *c = calloc(1, sizeof *c);
    if (!c)
        return gw_fail(GW_ENOMEM, "canary");
    *c = (gw_canary){.keys = *keys, .ops = *ops, .lock = PTHREAD_MUTEX_INITIALIZER};
    snprintf(c->where, sizeof c->where, "%s", stage);
    snprintf(c->coupling, sizeof c->coupling, "%s", coupling);
    snprintf(c->production, sizeof c->production, "%s", production);
    snprintf(c->verdict, sizeof c->verdict, "%s.verdict", keys->path);
    const int err = start(c);
    if (err != GW_OK) {
        gw_canary_destroy(&c);
        return err;
    }
    *out = c;
    return GW_OK;
}

void gw_canary_destroy(gw_canary **cc)
{
    gw_canary *c = *cc;
    if (!c)
        return;
    *cc = NULL;
    if (c->thread_runs) {
        pthread_mutex_lock(&c->lock);
        c->leaving = true;
        pthread_cond_signal(&c->wake);
        pthread_mutex_unlock(&c->lock);
        pthread_join(c->thread, NULL);
    }
    drop_given(c);
    if (c->waits.network)
        c->ops.drop(c->ops.self, c->waits.network);
    free(c);
}

/* -- for step ---------------------------------------------------------------------------------------- */

static void push(gw_canary *c, const gw_verdict *e)
{
    pthread_mutex_lock(&c->lock);
    if (c->n_events == EVENTS) /* the disk has not answered for a quarter of an hour: the oldest is lost */
        memmove(c->event, c->event + 1, (size_t)--c->n_events * sizeof *c->event);
    c->event[c->n_events++] = *e;
    pthread_cond_signal(&c->wake);
    pthread_mutex_unlock(&c->lock);
}

bool gw_canary_take(gw_canary *c, int64_t gps_ns, gw_canary_model *m)
{
    pthread_mutex_lock(&c->lock);
    *m = c->waits;
    c->waits = (gw_canary_model){0};
    pthread_mutex_unlock(&c->lock);
    if (!m->network)
        return false;
    gw_verdict v = verdict_on(m, "trial", (double)gps_ns / 1e9);
    v.final = false;
    snprintf(v.reason, sizeof v.reason, "runs beside the one in use for %" PRId64 " s", c->keys.over_s);
    push(c, &v);
    return true;
}

void gw_canary_give(gw_canary *c, void *network)
{
    pthread_mutex_lock(&c->lock);
    const bool room = c->n_given < GIVEN;
    if (room)
        c->given[c->n_given++] = network;
    pthread_cond_signal(&c->wake);
    pthread_mutex_unlock(&c->lock);
    if (!room) /* the thread hangs on a disk: better a pause than a leak */
        c->ops.drop(c->ops.self, network);
}

void gw_canary_tell(gw_canary *c, const gw_canary_model *m, gw_trial_event what, int64_t gps_ns,
                    const gw_trial_result *r)
{
    gw_verdict v = verdict_on(m, "", (double)gps_ns / 1e9);
    const char *reason = "";
    v.result = *r;
    switch (what) {
    case GW_TRIAL_PROMOTED:
        v.word = "promoted";
        v.final = false;
        reason = "better than the one in use, which it replaces by a cross-fade";
        break;
    case GW_TRIAL_REJECTED:
        v.word = "rejected";
        reason = r->canary < 1 && r->canary < c->keys.better * r->production
                     ? "it adds noise out of band"
                     : "not better than the one in use by what is asked for";
        break;
    case GW_TRIAL_ROLLED_BACK:
        v.word = "rolled back";
        reason = "worse than the one that it replaced, which is in use again";
        break;
    case GW_TRIAL_KEPT:
        v.word = KEPT;
        reason = "it held what it promised";
        break;
    default:
        return;
    }
    snprintf(v.reason, sizeof v.reason, "%s", reason);
    push(c, &v);
}
