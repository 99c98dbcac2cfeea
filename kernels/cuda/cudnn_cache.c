/* SPDX-License-Identifier: GPL-3.0-or-later
 * Choices of plans on disk: a file a key in $XDG_CACHE_HOME/gwstream/cudnn or ~/.cache/gwstream/cudnn, named
 * by the key's hash. Four parts, a line each: what the file is, the key, the hash and length of the text, the
 * text. Written beside its place and renamed, so a reader sees a whole file or none; one that is damaged, or
 * whose key only has the same hash, is as good as none. Called by cudnn.c; knows nothing of cuDNN. */
#include "kernels/cuda/cudnn_inside.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MOST_BYTES = 64 << 20, PATH_BYTES = 1024 };
static const char first_line[] = "gwstream cuDNN plan 1";

/* FNV-1a */
static uint64_t hash(const char *text, size_t n)
{
    uint64_t h = 0xcbf29ce484222325u;
    for (size_t i = 0; i < n; i++)
        h = (h ^ (unsigned char)text[i]) * 0x100000001b3u;
    return h;
}

static int folder(char *path, size_t n)
{
    const char *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    int used = -1;
    if (cache && *cache)
        used = snprintf(path, n, "%s/gwstream/cudnn", cache);
    else if (home && *home)
        used = snprintf(path, n, "%s/.cache/gwstream/cudnn", home);
    if (used < 0 || (size_t)used >= n)
        return gw_fail(GW_EMISSING, "no folder for choices of plans: XDG_CACHE_HOME and HOME are not set");
    return GW_OK;
}

static int path_of(const char *key, char *path, size_t n)
{
    GW_TRY(folder(path, n));
    const size_t used = strlen(path);
    if ((size_t)snprintf(path + used, n - used, "/%016" PRIx64, hash(key, strlen(key))) >= n - used)
        return gw_fail(GW_ERANGE, "%s: too long a path", path);
    return GW_OK;
}

static char *read_all(const char *path, size_t *n)
{
    FILE *f = fopen(path, "rb");
    struct stat s;
    if (!f)
        return NULL;
    char *all = NULL;
    if (fstat(fileno(f), &s) == 0 && S_ISREG(s.st_mode) && s.st_size >= 0 && s.st_size <= MOST_BYTES)
        all = malloc((size_t)s.st_size + 1);
    if (all) {
        *n = fread(all, 1, (size_t)s.st_size, f);
        all[*n] = '\0';
    }
    fclose(f);
    return all;
}

/* The text in a file, or NULL with what is wrong with it. */
static const char *text_in(char *all, size_t n, const char *key, const char **wrong)
{
    char *line[4] = {all};
    for (int i = 1; i < 4; i++) {
        char *end = memchr(line[i - 1], '\n', n - (size_t)(line[i - 1] - all));
        if (!end) {
            *wrong = "damaged";
            return NULL;
        }
        *end = '\0';
        line[i] = end + 1;
    }
    const size_t length = n - (size_t)(line[3] - all);
    char sum[64];
    snprintf(sum, sizeof sum, "%016" PRIx64 " %zu", hash(line[3], length), length);
    *wrong = strcmp(line[0], first_line) != 0                         ? "of another kind"
             : strcmp(line[2], sum) != 0 || strlen(line[3]) != length ? "damaged"
             : strcmp(line[1], key) != 0                              ? "for something else"
                                                                      : NULL;
    return *wrong ? NULL : line[3];
}

int gw_cudnn_cache_load(const char *key, char **text)
{
    char path[PATH_BYTES];
    *text = NULL;
    GW_TRY(path_of(key, path, sizeof path));
    size_t n = 0;
    errno = 0;
    char *all = read_all(path, &n);
    if (!all && errno == ENOENT)
        return gw_fail(GW_EMISSING, "%s: not there", path);
    const char *wrong = "not to be read", *found = all ? text_in(all, n, key, &wrong) : NULL;
    if (!found) {
        free(all);
        gw_cudnn_remark("%s: the kept choice of a plan is %s: ignored", path, wrong);
        return gw_fail(GW_EMISSING, "%s: %s", path, wrong);
    }
    memmove(all, found, strlen(found) + 1);
    *text = all;
    return GW_OK;
}

/* All folders on the way to the file. */
static int make_folders(const char *path)
{
    char part[PATH_BYTES];
    for (const char *end = strchr(path + 1, '/'); end; end = strchr(end + 1, '/')) {
        snprintf(part, sizeof part, "%.*s", (int)(end - path), path);
        if (mkdir(part, 0700) != 0 && errno != EEXIST)
            return gw_fail(GW_EIO, "%s: %s", part, strerror(errno));
    }
    return GW_OK;
}

int gw_cudnn_cache_store(const char *key, const char *text)
{
    char path[PATH_BYTES], temporary[PATH_BYTES + 16];
    GW_TRY(path_of(key, path, sizeof path));
    GW_TRY(make_folders(path));
    snprintf(temporary, sizeof temporary, "%s.XXXXXX", path);
    const int fd = mkstemp(temporary);
    FILE *f = fd >= 0 ? fdopen(fd, "wb") : NULL;
    if (!f) {
        const int e = errno;
        if (fd >= 0) {
            close(fd);
            unlink(temporary);
        }
        return gw_fail(GW_EIO, "%s: %s", temporary, strerror(e));
    }
    const size_t n = strlen(text);
    const bool written =
        fprintf(f, "%s\n%s\n%016" PRIx64 " %zu\n%s", first_line, key, hash(text, n), n, text) > 0;
    const bool good = fclose(f) == 0 && written && rename(temporary, path) == 0;
    if (!good) {
        const int e = errno;
        unlink(temporary);
        return gw_fail(GW_EIO, "%s: %s", path, strerror(e));
    }
    return GW_OK;
}
