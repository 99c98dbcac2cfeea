/* SPDX-License-Identifier: GPL-3.0-or-later
 * checkpoint.h. */
#include "pipeline/stages/checkpoint.h"

#include "pipeline/log.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { PATH_BYTES = 1200 };

typedef enum turn { IDLE, FILLING, WRITING } turn;

struct gw_checkpoint {
    gw_checkpoint_keys keys;
    char name[GW_NAME_BYTES], path[PATH_BYTES];
    gw_checkpoint_write *write;
    void *user;
    bool writes; /* this run replaces the file */
    pthread_t thread;
    bool thread_runs, failing;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    turn turn;    /* under the lock */
    bool leaving; /* under the lock */
};

/* -- keys and names ---------------------------------------------------------------------------------- */

int gw_checkpoint_keys_read(gw_checkpoint_keys *k, gw_conf *conf, int64_t age_ns)
{
    *k = (gw_checkpoint_keys){.age_ns = age_ns};
    const char *path = NULL;
    GW_TRY(gw_conf_get_text(conf, "checkpoint", &path));
    GW_TRY(gw_conf_get_span_ns(conf, "checkpoint_age", &k->age_ns));
    GW_TRY(gw_conf_get_bool(conf, "checkpoint_replay", &k->replay));
    if (!path)
        return GW_OK;
    if (!*path || strlen(path) >= sizeof k->path || path[strlen(path) - 1] == '/')
        return gw_conf_fail(gw_conf_find(conf, "checkpoint"), "checkpoint: want the path of a file");
    memcpy(k->path, path, strlen(path) + 1);
    return GW_OK;
}

/* "dir/psd.hdf5" of white.H1 -> "dir/psd-white.H1.hdf5" */
static void name_file(gw_checkpoint *c)
{
    const char *path = c->keys.path, *slash = strrchr(path, '/'), *base = slash ? slash + 1 : path;
    const char *dot = strrchr(base, '.');
    const char *end = path + strlen(path);
    dot = dot && dot != base ? dot : end;
    snprintf(c->path, sizeof c->path, "%.*s-%s%s", (int)(dot - path), path, c->name, dot);
}

static void folder_of(const char *path, char folder[PATH_BYTES])
{
    const char *slash = strrchr(path, '/');
    if (slash == path)
        snprintf(folder, PATH_BYTES, "/");
    else
        snprintf(folder, PATH_BYTES, "%.*s", slash ? (int)(slash - path) : 1, slash ? path : ".");
}

/* -- replacing a file -------------------------------------------------------------------------------- */

static int sync_path(const char *path, int flags)
{
    const int fd = open(path, flags | O_CLOEXEC);
    const bool well = fd >= 0 && fsync(fd) == 0;
    const int why = errno;
    if (fd >= 0)
        close(fd);
    return well ? GW_OK : gw_fail(GW_EIO, "%s: %s", path, strerror(why));
}

int gw_checkpoint_replace(const char *path, gw_checkpoint_write *write, void *user)
{
    char part[PATH_BYTES + 8], folder[PATH_BYTES];
    snprintf(part, sizeof part, "%s.part", path);
    folder_of(path, folder);
    GW_TRY(write(user, part));
    GW_TRY(sync_path(part, O_RDWR));
    if (rename(part, path) != 0)
        return gw_fail(GW_EIO, "%s: %s", path, strerror(errno));
    return sync_path(folder, O_RDONLY | O_DIRECTORY);
}

/* -- the thread -------------------------------------------------------------------------------------- */

static void *writer(void *arg)
{
    gw_checkpoint *c = arg;
    pthread_setname_np(pthread_self(), "checkpoint");
    pthread_mutex_lock(&c->lock);
    for (;;) {
        while (c->turn != WRITING && !c->leaving)
            pthread_cond_wait(&c->changed, &c->lock);
        if (c->turn != WRITING)
            break;
        pthread_mutex_unlock(&c->lock);
        const int err = gw_checkpoint_replace(c->path, c->write, c->user);
        if (err != GW_OK && !c->failing)
            gw_log(GW_LOG_WARN, c->name, "the checkpoint cannot be written (%s); the search goes on",
                   gw_err_detail());
        if (err == GW_OK && c->failing)
            gw_log(GW_LOG_INFO, c->name, "the checkpoint is being written again");
        c->failing = err != GW_OK;
        pthread_mutex_lock(&c->lock);
        c->turn = IDLE;
        pthread_cond_broadcast(&c->changed);
    }
    pthread_mutex_unlock(&c->lock);
    return NULL;
}

/* -- life -------------------------------------------------------------------------------------------- */

static int start(gw_checkpoint *c)
{
    char folder[PATH_BYTES];
    folder_of(c->path, folder);
    if (access(folder, W_OK | X_OK) != 0)
        return gw_fail(errno == ENOENT ? GW_EMISSING : GW_EACCESS, "checkpoint %s: the folder %s: %s",
                       c->path, folder, strerror(errno));
    const int no = pthread_create(&c->thread, NULL, writer, c);
    if (no)
        return gw_fail(GW_ESYSTEM, "a thread for the checkpoint: %s", strerror(no));
    c->thread_runs = true;
    return GW_OK;
}

int gw_checkpoint_new(gw_checkpoint **out, const gw_checkpoint_keys *k, const char *name,
                      gw_checkpoint_write *write, void *user)
{
    gw_checkpoint *c = *out = calloc(1, sizeof *c);
    if (!c)
        return gw_fail(GW_ENOMEM, "checkpoint");
    *c = (gw_checkpoint){.keys = *k,
                         .write = write,
                         .user = user,
                         .lock = PTHREAD_MUTEX_INITIALIZER,
                         .changed = PTHREAD_COND_INITIALIZER};
    snprintf(c->name, sizeof c->name, "%s", name);
    name_file(c);
    const int err = start(c);
    if (err != GW_OK)
        gw_checkpoint_destroy(out);
    return err;
}

void gw_checkpoint_destroy(gw_checkpoint **out)
{
    gw_checkpoint *c = *out;
    *out = NULL;
    if (!c)
        return;
    if (c->thread_runs) {
        pthread_mutex_lock(&c->lock);
        c->leaving = true;
        pthread_cond_broadcast(&c->changed);
        pthread_mutex_unlock(&c->lock);
        pthread_join(c->thread, NULL);
    }
    free(c);
}

const char *gw_checkpoint_path(const gw_checkpoint *c)
{
    return c->path;
}

bool gw_checkpoint_exists(const gw_checkpoint *c)
{
    if (access(c->path, F_OK) == 0)
        return true;
    gw_log(GW_LOG_INFO, c->name, "no checkpoint %s yet: starting cold", c->path);
    return false;
}

bool gw_checkpoint_warm(gw_checkpoint *c, bool found, int64_t file_ns, int64_t now_ns, uint32_t flags)
{
    c->writes = c->keys.replay || !(flags & GW_FLAG_REPLAY);
    if (!c->writes) {
        gw_log(GW_LOG_INFO, c->name,
               "archived data: checkpoint %s neither read nor written (checkpoint_replay: true)", c->path);
        return false;
    }
    if (!found)
        return false;
    const double age_s = (double)(now_ns - file_ns) / 1e9;
    if (now_ns >= file_ns && now_ns - file_ns <= c->keys.age_ns)
        return true;
    gw_log(GW_LOG_INFO, c->name,
           "checkpoint %s not used, starting cold: it is %.0f s %s (checkpoint_age: %.0f s)", c->path,
           fabs(age_s), age_s < 0 ? "later than the data" : "old", (double)c->keys.age_ns / 1e9);
    return false;
}

/* -- the buffer -------------------------------------------------------------------------------------- */

bool gw_checkpoint_begin(gw_checkpoint *c)
{
    pthread_mutex_lock(&c->lock);
    const bool free_now = c->writes && c->turn == IDLE;
    if (free_now)
        c->turn = FILLING;
    pthread_mutex_unlock(&c->lock);
    return free_now;
}

void gw_checkpoint_save(gw_checkpoint *c)
{
    pthread_mutex_lock(&c->lock);
    c->turn = WRITING;
    pthread_cond_broadcast(&c->changed);
    pthread_mutex_unlock(&c->lock);
}

void gw_checkpoint_wait(gw_checkpoint *c)
{
    pthread_mutex_lock(&c->lock);
    while (c->turn == WRITING)
        pthread_cond_wait(&c->changed, &c->lock);
    pthread_mutex_unlock(&c->lock);
}
