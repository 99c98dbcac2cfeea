/* SPDX-License-Identifier: GPL-3.0-or-later
 * Weights that a model keeps in files beside it (data_location EXTERNAL; torch writes NAME.onnx.data).
 * Only from below the model's own folder: a model from elsewhere must not read whatever file it names, so
 * absolute paths, ".." and links that lead out are refused by the kernel (openat2), or all links where that
 * call is not to be had. Each file is read once, whole: read, not mapped, so that somebody who truncates it
 * meanwhile cannot end the program (SIGBUS). */
#include "kernels/nn/onnx_reader.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static const uint64_t MAX_BYTES = (uint64_t)8 << 30; /* of all such files of a model */

typedef struct gw_onnx_external {
    struct gw_onnx_external *next;
    const char *name;
    unsigned char *data;
    size_t bytes;
} gw_onnx_external;

void gw_onnx_release_external(gw_onnx_reader *o)
{
    while (o->external) {
        gw_onnx_external *next = o->external->next;
        free(o->external->data);
        free(o->external);
        o->external = next;
    }
}

/* Step by step, and no step may be a link. */
static int open_by_steps(int folder, const char *name)
{
    int at = dup(folder);
    while (at >= 0) {
        const size_t n = strcspn(name, "/");
        char step[NAME_MAX + 1];
        if (n > NAME_MAX) {
            errno = ENAMETOOLONG;
            break;
        }
        memcpy(step, name, n);
        step[n] = '\0';
        const bool last = name[n] == '\0';
        const int next =
            openat(at, step, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOFOLLOW | (last ? 0 : O_DIRECTORY));
        close(at);
        if (last || next < 0)
            return next;
        at = next;
        name += n + 1;
    }
    if (at >= 0)
        close(at);
    return -1;
}

static bool stays_below(const char *name)
{
    if (name[0] == '\0' || name[0] == '/')
        return false;
    for (const char *at = name; *at; at += strcspn(at, "/"), at += *at == '/') {
        const size_t n = strcspn(at, "/");
        if (n == 0 || (n == 2 && at[0] == '.' && at[1] == '.'))
            return false;
    }
    return true;
}

static int open_below(const char *folder, const char *name)
{
    const int at = open(folder, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (at < 0)
        return -1;
    struct open_how how = {.flags = O_RDONLY | O_CLOEXEC | O_NONBLOCK,
                           .resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS};
    int fd = (int)syscall(SYS_openat2, at, name, &how, sizeof how);
    if (fd < 0 && (errno == ENOSYS || errno == EPERM || errno == EINVAL))
        fd = open_by_steps(at, name);
    const int e = errno;
    close(at);
    errno = e;
    return fd;
}

static int read_whole(const gw_onnx_reader *o, gw_onnx_external *x, const char *who)
{
    uint64_t others = 0;
    for (const gw_onnx_external *e = o->external; e; e = e->next)
        others += e->bytes;
    const int fd = open_below(o->folder, x->name);
    if (fd < 0) {
        const int e = errno;
        return gw_onnx_fail(o,
                            e == ENOENT || e == ENOTDIR                             ? GW_EMISSING
                            : e == EACCES || e == EXDEV || e == ELOOP || e == EPERM ? GW_EACCESS
                                                                                    : GW_EIO,
                            "the weights of '%s' should be in %s%s: %s", who, o->folder, x->name,
                            e == EXDEV || e == ELOOP ? "a link leads out of the model's folder"
                                                     : strerror(e));
    }
    struct stat st;
    int err = GW_OK;
    if (fstat(fd, &st) < 0)
        err = gw_onnx_fail(o, GW_EIO, "%s: %s", x->name, strerror(errno));
    else if (!S_ISREG(st.st_mode))
        err = gw_onnx_fail(o, GW_EFORMAT, "%s, the weights of '%s', is not a regular file", x->name, who);
    else if ((uint64_t)st.st_size + others > MAX_BYTES)
        err =
            gw_onnx_fail(o, GW_EFORMAT, "more than %d GiB of weights in other files", (int)(MAX_BYTES >> 30));
    else if (!(x->data = malloc((size_t)st.st_size + 1)))
        err = gw_onnx_fail(o, GW_ENOMEM, "no memory for %lld bytes of %s", (long long)st.st_size, x->name);
    while (err == GW_OK && x->bytes < (size_t)st.st_size) {
        const ssize_t got = read(fd, x->data + x->bytes, (size_t)st.st_size - x->bytes);
        if (got > 0)
            x->bytes += (size_t)got;
        else if (got == 0)
            err = gw_onnx_fail(o, GW_EFORMAT, "%s became shorter while it was read", x->name);
        else if (errno != EINTR)
            err = gw_onnx_fail(o, GW_EIO, "%s: %s", x->name, strerror(errno));
    }
    close(fd);
    return err;
}

static int file_of(gw_onnx_reader *o, const char *name, const char *who, const gw_onnx_external **out)
{
    for (const gw_onnx_external *e = o->external; e; e = e->next) {
        if (strcmp(e->name, name) == 0) {
            *out = e;
            return GW_OK;
        }
    }
    gw_onnx_external *x = calloc(1, sizeof *x);
    if (!x)
        return gw_onnx_fail(o, GW_ENOMEM, "no memory");
    x->name = name;
    const int err = read_whole(o, x, who);
    if (err < 0) {
        free(x->data);
        free(x);
        return err;
    }
    x->next = o->external;
    o->external = x;
    *out = x;
    return GW_OK;
}

static int read_number(const gw_onnx_reader *o, const char *text, const char *key, uint64_t *out)
{
    char *end;
    errno = 0;
    const unsigned long long v = strtoull(text, &end, 10);
    if (text[0] < '0' || text[0] > '9' || *end || errno)
        return gw_onnx_fail(o, GW_EFORMAT, "external data with %s '%.40s'", key, text);
    *out = v;
    return GW_OK;
}

int gw_onnx_read_external(gw_onnx_reader *o, gw_pb m, gw_onnx_tensor *t, size_t bytes)
{
    const char *location = "";
    uint64_t offset = 0, length = bytes;
    if (!o->folder)
        return gw_onnx_fail(
            o, GW_ENOTSUP,
            "tensor '%s' keeps its data in another file, which a model in memory has not got; "
            "save the model with its weights inside",
            t->name);
    gw_pb_field f, entry;
    while (gw_pb_next(&m, &f) == 1) { /* well formed: it has been walked */
        if (f.number != 13 || f.wire != GW_PB_BYTES)
            continue;
        const char *key = "", *value = "";
        int more;
        while ((more = gw_pb_next(&f.bytes, &entry)) == 1) {
            if (entry.wire == GW_PB_BYTES && entry.number == 1)
                GW_TRY(gw_onnx_take_text(o, entry.bytes, &key));
            else if (entry.wire == GW_PB_BYTES && entry.number == 2)
                GW_TRY(gw_onnx_take_text(o, entry.bytes, &value));
        }
        if (more < 0)
            return gw_onnx_broken(o, "external data");
        if (strcmp(key, "location") == 0)
            location = value;
        else if (strcmp(key, "offset") == 0)
            GW_TRY(read_number(o, value, key, &offset));
        else if (strcmp(key, "length") == 0)
            GW_TRY(read_number(o, value, key, &length));
    }
    if (!stays_below(location))
        return gw_onnx_fail(o, GW_EACCESS,
                            "tensor '%s' has its data in '%s', which is not below the model's folder",
                            t->name, location);
    const gw_onnx_external *file = NULL;
    GW_TRY(file_of(o, location, t->name, &file));
    if (offset > file->bytes || length > file->bytes - offset)
        return gw_onnx_fail(o, GW_EFORMAT, "tensor '%s' wants %llu bytes from %llu of %s, which has %zu",
                            t->name, (unsigned long long)length, (unsigned long long)offset, location,
                            file->bytes);
    t->data = file->data + offset;
    t->bytes = (size_t)length;
    return GW_OK;
}
