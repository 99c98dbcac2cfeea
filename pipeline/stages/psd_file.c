/* SPDX-License-Identifier: GPL-3.0-or-later
 * One buffer goes to and fro between the stage, which fills it, and a thread of its own, which writes it: so
 * neither step nor the disk waits for the other, and a disk that is too slow costs nothing but the age of the
 * file. What is in the file, and how, is in psd_hdf5.c. */
#include "pipeline/stages/psd_file.h"

#include "pipeline/log.h"
#include "pipeline/stages/psd_hdf5.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { PATH_BYTES = 1200 };

typedef enum turn { IDLE, FILLING, WRITING } turn;

struct gw_psd_file {
    gw_psd_contents is;  /* of the file that was read, or is written next */
    gw_psd_entry *entry; /* [n_channels], into its tables */
    gw_psd_keys keys;
    char path[PATH_BYTES], part[PATH_BYTES + 8], folder[PATH_BYTES];
    bool found, writes; /* read and fitting; this run replaces it */
    pthread_t thread;
    bool thread_runs, failing;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    turn turn;    /* under the lock */
    bool leaving; /* under the lock */
};

/* -- keys -------------------------------------------------------------------------------------------- */

int gw_psd_keys_read(gw_psd_keys *k, gw_conf *conf)
{
    *k = (gw_psd_keys){.age_ns = 3600 * GW_SECOND_NS};
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
static void name_file(gw_psd_file *f)
{
    const char *path = f->keys.path, *slash = strrchr(path, '/'), *base = slash ? slash + 1 : path;
    const char *dot = strrchr(base, '.');
    const char *end = path + strlen(path);
    dot = dot && dot != base ? dot : end;
    snprintf(f->path, sizeof f->path, "%.*s-%s%s", (int)(dot - path), path, f->is.name, dot);
    snprintf(f->part, sizeof f->part, "%s.part", f->path);
    if (slash == path)
        snprintf(f->folder, sizeof f->folder, "/");
    else
        snprintf(f->folder, sizeof f->folder, "%.*s", slash ? (int)(slash - path) : 1, slash ? path : ".");
}

/* -- the thread -------------------------------------------------------------------------------------- */

static int sync_path(const char *path, int flags)
{
    const int fd = open(path, flags | O_CLOEXEC);
    const bool well = fd >= 0 && fsync(fd) == 0;
    const int why = errno;
    if (fd >= 0)
        close(fd);
    return well ? GW_OK : gw_fail(GW_EIO, "%s: %s", path, strerror(why));
}

static int write_file(gw_psd_file *f)
{
    for (uint32_t c = 0; c < f->is.n_channels; c++) {
        f->is.segments[c] = f->entry[c].segments;
        f->is.scale[c] = f->entry[c].scale;
    }
    GW_TRY(gw_psd_hdf5_write(&f->is, f->part));
    GW_TRY(sync_path(f->part, O_RDWR));
    if (rename(f->part, f->path) != 0)
        return gw_fail(GW_EIO, "%s: %s", f->path, strerror(errno));
    return sync_path(f->folder, O_RDONLY | O_DIRECTORY);
}

static void *writer(void *arg)
{
    gw_psd_file *f = arg;
    pthread_setname_np(pthread_self(), "checkpoint");
    pthread_mutex_lock(&f->lock);
    for (;;) {
        while (f->turn != WRITING && !f->leaving)
            pthread_cond_wait(&f->changed, &f->lock);
        if (f->turn != WRITING)
            break;
        pthread_mutex_unlock(&f->lock);
        const int err = write_file(f);
        if (err != GW_OK && !f->failing)
            gw_log(GW_LOG_WARN, f->is.name, "the checkpoint cannot be written (%s); the search goes on",
                   gw_err_detail());
        if (err == GW_OK && f->failing)
            gw_log(GW_LOG_INFO, f->is.name, "the checkpoint is being written again");
        f->failing = err != GW_OK;
        pthread_mutex_lock(&f->lock);
        f->turn = IDLE;
        pthread_cond_broadcast(&f->changed);
    }
    pthread_mutex_unlock(&f->lock);
    return NULL;
}

/* -- life -------------------------------------------------------------------------------------------- */

size_t gw_psd_file_bytes(const gw_psd_shape *s)
{
    return s->n_channels * ((size_t)s->rows * s->bins * sizeof(float) + s->taps * sizeof(double) +
                            sizeof(gw_psd_entry) + GW_NAME_BYTES);
}

static int allocate(gw_psd_file *f, const gw_psd_shape *s)
{
    gw_psd_contents *is = &f->is;
    const size_t n = is->n_channels, row = (size_t)is->rows * is->bins;
    is->channel = calloc(n, sizeof *is->channel);
    is->segments = calloc(n, sizeof *is->segments);
    is->scale = calloc(n, sizeof *is->scale);
    is->psd = calloc(n * row, sizeof *is->psd);
    is->taps = calloc(n * is->n_taps + 1, sizeof *is->taps);
    f->entry = calloc(n, sizeof *f->entry);
    if (!is->channel || !is->segments || !is->scale || !is->psd || !is->taps || !f->entry)
        return gw_fail(GW_ENOMEM, "checkpoint of %" PRIu32 " channels", is->n_channels);
    for (size_t c = 0; c < n; c++) {
        if (s->in->channel)
            snprintf(is->channel[c], sizeof is->channel[c], "%s", s->in->channel[c]);
        f->entry[c] = (gw_psd_entry){.scale = 1, .psd = is->psd + c * row, .taps = is->taps + c * is->n_taps};
    }
    return GW_OK;
}

static void read_file(gw_psd_file *f)
{
    if (access(f->path, F_OK) != 0) {
        gw_log(GW_LOG_INFO, f->is.name, "no checkpoint %s yet: starting cold", f->path);
        return;
    }
    f->found = gw_psd_hdf5_read(&f->is, f->path) == GW_OK;
    if (!f->found)
        gw_log(GW_LOG_WARN, f->is.name, "checkpoint %s: not used, starting cold", gw_err_detail());
    for (uint32_t c = 0; f->found && c < f->is.n_channels; c++) {
        f->entry[c].segments = f->is.segments[c];
        f->entry[c].scale = f->is.scale[c];
    }
}

static int start(gw_psd_file *f)
{
    if (access(f->folder, W_OK | X_OK) != 0)
        return gw_fail(errno == ENOENT ? GW_EMISSING : GW_EACCESS, "checkpoint %s: the folder %s: %s",
                       f->path, f->folder, strerror(errno));
    read_file(f);
    const int no = pthread_create(&f->thread, NULL, writer, f);
    if (no)
        return gw_fail(GW_ESYSTEM, "a thread for the checkpoint: %s", strerror(no));
    f->thread_runs = true;
    return GW_OK;
}

int gw_psd_file_new(gw_psd_file **out, const gw_psd_keys *k, const gw_psd_shape *s)
{
    *out = NULL;
    gw_psd_file *f = calloc(1, sizeof *f);
    if (!f)
        return gw_fail(GW_ENOMEM, "checkpoint");
    gw_spec any_block = *s->in;
    any_block.block_samples = 0;
    *f = (gw_psd_file){.keys = *k,
                       .is = {.spec_hash = gw_spec_hash(&any_block),
                              .rate_hz = gw_rate_hz(s->in->rate),
                              .bin_hz = s->bin_hz,
                              .n_channels = s->n_channels,
                              .rows = s->rows,
                              .bins = s->bins,
                              .n_taps = s->taps},
                       .lock = PTHREAD_MUTEX_INITIALIZER,
                       .changed = PTHREAD_COND_INITIALIZER};
    snprintf(f->is.name, sizeof f->is.name, "%s", s->name);
    snprintf(f->is.settings, sizeof f->is.settings, "%s", s->settings);
    name_file(f);
    int err = allocate(f, s);
    if (err == GW_OK)
        err = start(f);
    if (err != GW_OK) {
        gw_psd_file_destroy(&f);
        return err;
    }
    *out = f;
    return GW_OK;
}

void gw_psd_file_destroy(gw_psd_file **ff)
{
    gw_psd_file *f = *ff;
    if (!f)
        return;
    *ff = NULL;
    if (f->thread_runs) {
        pthread_mutex_lock(&f->lock);
        f->leaving = true;
        pthread_cond_broadcast(&f->changed);
        pthread_mutex_unlock(&f->lock);
        pthread_join(f->thread, NULL);
    }
    free(f->is.channel);
    free(f->is.segments);
    free(f->is.scale);
    free(f->is.psd);
    free(f->is.taps);
    free(f->entry);
    free(f);
}

bool gw_psd_file_warm(gw_psd_file *f, int64_t now_ns, uint32_t flags)
{
    f->writes = f->keys.replay || !(flags & GW_FLAG_REPLAY);
    if (!f->writes) {
        gw_log(GW_LOG_INFO, f->is.name,
               "archived data: checkpoint %s neither read nor written (checkpoint_replay: true)", f->path);
        return false;
    }
    if (!f->found)
        return false;
    const double age_s = (double)(now_ns - f->is.gps_ns) / 1e9;
    if (now_ns < f->is.gps_ns || now_ns - f->is.gps_ns > f->keys.age_ns) {
        gw_log(GW_LOG_INFO, f->is.name,
               "checkpoint %s not used, starting cold: it is %.0f s %s (checkpoint_age: %.0f s)", f->path,
               fabs(age_s), age_s < 0 ? "later than the data" : "old", (double)f->keys.age_ns / 1e9);
        return false;
    }
    uint32_t known = 0;
    for (uint32_t c = 0; c < f->is.n_channels; c++)
        known += f->entry[c].segments > 0;
    gw_log(GW_LOG_INFO, f->is.name, "warm start from %s, %.0f s old: %" PRIu32 " of %" PRIu32 " PSDs",
           f->path, age_s, known, f->is.n_channels);
    return known > 0;
}

gw_psd_entry *gw_psd_file_entry(gw_psd_file *f, uint32_t channel)
{
    return &f->entry[channel];
}

bool gw_psd_file_begin(gw_psd_file *f)
{
    pthread_mutex_lock(&f->lock);
    const bool free_now = f->writes && f->turn == IDLE;
    if (free_now)
        f->turn = FILLING;
    pthread_mutex_unlock(&f->lock);
    return free_now;
}

void gw_psd_file_save(gw_psd_file *f, int64_t gps_ns)
{
    pthread_mutex_lock(&f->lock);
    f->is.gps_ns = gps_ns;
    f->turn = WRITING;
    pthread_cond_broadcast(&f->changed);
    pthread_mutex_unlock(&f->lock);
}

void gw_psd_file_wait(gw_psd_file *f)
{
    pthread_mutex_lock(&f->lock);
    while (f->turn == WRITING)
        pthread_cond_wait(&f->changed, &f->lock);
    pthread_mutex_unlock(&f->lock);
}
