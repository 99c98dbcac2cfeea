/* SPDX-License-Identifier: GPL-3.0-or-later
 * The Unix socket beside a shm link (shm.h). */
#include "pipeline/shm.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

/* An abstract name of bounded length: two addresses share one only if two 64-bit hashes collide. */
static socklen_t name_of(struct sockaddr_un *a, const char *address)
{
    uint64_t h = UINT64_C(0xcbf29ce484222325);
    for (const char *c = address; *c; c++)
        h = (h ^ (unsigned char)*c) * UINT64_C(0x100000001b3);
    *a = (struct sockaddr_un){.sun_family = AF_UNIX};
    const int n = snprintf(a->sun_path + 1, sizeof a->sun_path - 1, "gwstream-shm-%" PRIu64 "-%016" PRIx64,
                           (uint64_t)geteuid(), h);
    return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)n);
}

static bool same_user(int fd)
{
    struct ucred who;
    socklen_t n = sizeof who;
    return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &n) == 0 && (who.uid == geteuid() || who.uid == 0);
}

int gw_shm_listen(int *fd, const char *address)
{
    struct sockaddr_un a;
    const socklen_t n = name_of(&a, address);
    *fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (*fd >= 0 && bind(*fd, (struct sockaddr *)&a, n) == 0 && listen(*fd, 8) == 0)
        return GW_OK;
    int err = gw_fail(errno == EADDRINUSE ? GW_EBUSY : GW_ESYSTEM, "link %s: socket for shared memory: %s",
                      address, strerror(errno));
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
    return err;
}

int gw_shm_accept(gw_shm_door *d, int *conn, uint64_t *session)
{
    for (;;) {
        if (d->half < 0) {
            d->half = accept4(d->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
            if (d->half < 0)
                return GW_EAGAIN;
            if (!same_user(d->half)) {
                close(d->half);
                d->half = -1;
                continue;
            }
        }
        const ssize_t n = recv(d->half, session, sizeof *session, MSG_DONTWAIT | MSG_PEEK);
        if (n == (ssize_t)sizeof *session) {
            (void)recv(d->half, session, sizeof *session, MSG_DONTWAIT);
            *conn = d->half;
            d->half = -1;
            return GW_OK;
        }
        if (n > 0 || (n < 0 && (errno == EAGAIN || errno == EINTR))) {
            /* Whoever connects says its session in the same breath. One that does not must not keep the door.
             */
            struct pollfd next = {.fd = d->listener, .events = POLLIN};
            if (poll(&next, 1, 0) != 1)
                return GW_EAGAIN;
        }
        close(d->half);
        d->half = -1;
    }
}

int gw_shm_pass(int conn, int memfd, size_t bytes)
{
    uint64_t size = bytes;
    struct iovec v = {.iov_base = &size, .iov_len = sizeof size};
    union {
        struct cmsghdr head;
        char room[CMSG_SPACE(sizeof(int))];
    } control = {.room = {0}};
    struct msghdr m = {
        .msg_iov = &v, .msg_iovlen = 1, .msg_control = control.room, .msg_controllen = sizeof control.room};
    struct cmsghdr *c = CMSG_FIRSTHDR(&m);
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(c), &memfd, sizeof memfd);
    if (sendmsg(conn, &m, MSG_NOSIGNAL | MSG_DONTWAIT) == (ssize_t)sizeof size)
        return GW_OK;
    return gw_fail(GW_EPEER, "passing shared memory: %s", strerror(errno));
}

bool gw_shm_hung_up(int conn)
{
    struct pollfd p = {.fd = conn, .events = POLLIN | POLLRDHUP};
    return poll(&p, 1, 0) > 0 && (p.revents & (POLLHUP | POLLRDHUP | POLLERR));
}

int gw_shm_connect(int *conn, const char *address, uint64_t session)
{
    struct sockaddr_un a;
    const socklen_t n = name_of(&a, address);
    *conn = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (*conn < 0)
        return gw_fail(GW_ESYSTEM, "link %s: socket: %s", address, strerror(errno));
    if (connect(*conn, (struct sockaddr *)&a, n) == 0 && same_user(*conn) &&
        send(*conn, &session, sizeof session, MSG_NOSIGNAL | MSG_DONTWAIT) == (ssize_t)sizeof session)
        return GW_OK;
    close(*conn);
    *conn = -1;
    return GW_EAGAIN; /* the sender is not there (yet): it will say its SPEC again */
}

int gw_segment_receive(int conn, gw_segment **out)
{
    *out = NULL;
    uint64_t size = 0;
    struct iovec v = {.iov_base = &size, .iov_len = sizeof size};
    union {
        struct cmsghdr head;
        char room[CMSG_SPACE(sizeof(int))];
    } control = {.room = {0}};
    struct msghdr m = {
        .msg_iov = &v, .msg_iovlen = 1, .msg_control = control.room, .msg_controllen = sizeof control.room};
    const ssize_t n = recvmsg(conn, &m, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return GW_EAGAIN;
    int fd = -1;
    struct cmsghdr *c = n > 0 ? CMSG_FIRSTHDR(&m) : NULL;
    if (c && c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS &&
        c->cmsg_len == CMSG_LEN(sizeof(int)))
        memcpy(&fd, CMSG_DATA(c), sizeof fd);
    if (n != (ssize_t)sizeof size || fd < 0) {
        if (fd >= 0)
            close(fd);
        return GW_EPEER;
    }
    struct stat st;
    gw_segment *s = calloc(1, sizeof *s);
    void *map = MAP_FAILED;
    if (s && size > 0 && fstat(fd, &st) == 0 && (uint64_t)st.st_size == size)
        map = mmap(NULL, (size_t)size, PROT_READ, MAP_SHARED | MAP_POPULATE, fd, 0);
    close(fd);
    if (map == MAP_FAILED) {
        free(s);
        return gw_fail(GW_ESYSTEM, "shared memory of %" PRIu64 " bytes cannot be mapped: %s", size,
                       strerror(errno));
    }
    *s = (gw_segment){.map = map, .bytes = (size_t)size, .refs = 1};
    *out = s;
    return GW_OK;
}

void gw_segment_unref(gw_segment **ss)
{
    gw_segment *s = *ss;
    *ss = NULL;
    if (!s || --s->refs > 0)
        return;
    munmap((void *)s->map, s->bytes);
    free(s);
}
