/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "pipeline/stages/verdict.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PATH_BYTES = 1100 };

/* -- files ------------------------------------------------------------------------------------------- */

static int write_all(int fd, const char *data, size_t bytes)
{
    while (bytes > 0) {
        const ssize_t n = write(fd, data, bytes);
        if (n < 0 && errno != EINTR)
            return -1;
        data += n > 0 ? n : 0;
        bytes -= n > 0 ? (size_t)n : 0;
    }
    return 0;
}

/* `path` becomes these bytes, or stays what it was. */
static int replace_file(const char *path, const char *data, size_t bytes)
{
    char part[PATH_BYTES + 8];
    snprintf(part, sizeof part, "%s.part", path);
    const int fd = open(part, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    bool well = fd >= 0 && write_all(fd, data, bytes) == 0 && fsync(fd) == 0;
    int why = errno;
    if (fd >= 0)
        close(fd);
    if (well && rename(part, path) != 0) {
        well = false;
        why = errno;
    }
    if (well)
        return GW_OK;
    unlink(part);
    return gw_fail(GW_EIO, "%s: %s", path, strerror(why));
}

static int read_file(const char *path, char **data, size_t *bytes)
{
    struct stat st;
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    *data = NULL;
    *bytes = 0;
    if (fd < 0 || fstat(fd, &st) != 0 || !(*data = malloc((size_t)st.st_size + 1))) {
        const int why = errno;
        if (fd >= 0)
            close(fd);
        return gw_fail(GW_EIO, "%s: %s", path, strerror(why));
    }
    ssize_t n = 1;
    while (*bytes < (size_t)st.st_size && n > 0) {
        n = read(fd, *data + *bytes, (size_t)st.st_size - *bytes);
        *bytes += n > 0 ? (size_t)n : 0;
    }
    close(fd);
    if (*bytes == (size_t)st.st_size)
        return GW_OK;
    free(*data);
    *data = NULL;
    return gw_fail(GW_EIO, "%s: it changed while it was read", path);
}

/* -- verdicts ---------------------------------------------------------------------------------------- */

/* JSON has no NaN and no infinity. */
static const char *number(double x, int digits, char text[32])
{
    if (isfinite(x))
        snprintf(text, 32, "%.*f", digits, x);
    else
        snprintf(text, 32, "null");
    return text;
}

static void quote(const char *from, char *to, size_t n)
{
    size_t at = 0;
    for (; *from && at + 3 < n; from++) {
        if (*from == '"' || *from == '\\')
            to[at++] = '\\';
        to[at++] = (unsigned char)*from < 0x20 ? ' ' : *from;
    }
    to[at] = 0;
}

int gw_verdict_write(const gw_verdict *v, const char *path, const char *stage, const char *coupling)
{
    char line[2400], reason[2 * GW_REASON_BYTES], by[128], of[128], name[96], t[5][32];
    const gw_trial_result *r = &v->result;
    quote(v->reason, reason, sizeof reason);
    quote(stage, by, sizeof by);
    quote(coupling, of, sizeof of);
    quote(v->name, name, sizeof name);
    const int n = snprintf(
        line, sizeof line,
        "{\"format\":\"gwstream-verdict-1\",\"stage\":\"%s\",\"coupling\":\"%s\",\"name\":\"%s\","
        "\"sha256\":\"%s\",\"verdict\":\"%s\",\"reason\":\"%s\",\"final\":%s,\"gps\":%s,\"seconds\":%" PRId64
        ",\"canary\":%s,\"production\":%s,\"canary_out\":%s,\"production_out\":%s}\n",
        by, of, name, v->sha256, v->word, reason, v->final ? "true" : "false", number(v->gps, 3, t[0]),
        r->seconds, number(r->canary, 6, t[1]), number(r->production, 6, t[2]),
        number(r->canary_out, 6, t[3]), number(r->production_out, 6, t[4]));
    return replace_file(path, line, (size_t)n);
}

static int copy_file(const char *from, const char *to)
{
    char *data;
    size_t bytes;
    int err = read_file(from, &data, &bytes);
    if (err == GW_OK)
        err = replace_file(to, data, bytes);
    free(data);
    return err;
}

int gw_verdict_keep(const char *canary, const char *sha256, const char *production)
{
    char is[GW_SHA256_TEXT], previous[PATH_BYTES + 16];
    GW_TRY(gw_sha256_file(canary, is));
    if (strcmp(is, sha256) != 0)
        return gw_fail(GW_EMISMATCH, "%s has been replaced since", canary);
    snprintf(previous, sizeof previous, "%s.previous", production);
    GW_TRY(copy_file(production, previous));
    return copy_file(canary, production);
}
