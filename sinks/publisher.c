/* SPDX-License-Identifier: GPL-3.0-or-later
 * The PUB socket and the lines of JSON. Called by the alerts sink.
 *
 * The socket is an XPUB: it speaks to SUB sockets as a PUB does, and also tells who has come. That is
 * needed once, after a crash, when what was left is published again and nobody has reconnected yet. */
#include "sinks/publisher.h"

#include "pipeline/clock.h"
#include "pipeline/log.h"
#include "sinks/loopback.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include <zmq.h>

enum { LINGER_MS = 1000, MAX_WAITING = 65536 /* messages for a slow subscriber; an event has 2 KiB */ };

struct gw_publisher {
    void *context, *socket;
    char endpoint[256];
    const char *bound_path; /* in endpoint; NULL unless it is a bound ipc path */
    uint64_t sent;          /* messages */
};

/* "lo" is the interface, which ZeroMQ knows by name. */
static bool is_loopback(const char *host, size_t n)
{
    return gw_host_is_loopback(host, n) || (n == 2 && strncmp(host, "lo", 2) == 0);
}

int gw_publisher_check(const char *endpoint, bool beyond_host)
{
    if (strncmp(endpoint, "ipc://", 6) == 0) {
        if (!endpoint[6] || strlen(endpoint + 6) >= sizeof((struct sockaddr_un *)0)->sun_path)
            return gw_fail(GW_ECONFIG, "publish: %s: the path must have 1 to 107 bytes", endpoint);
        return 0;
    }
    const char *host = endpoint + 6, *colon = strrchr(endpoint, ':');
    if (strncmp(endpoint, "tcp://", 6) != 0 || colon < host || strlen(endpoint) > 200)
        return gw_fail(GW_ECONFIG, "publish: '%.200s' is neither tcp://ADDRESS:PORT nor ipc://PATH",
                       endpoint);
    char *end;
    long port = strtol(colon + 1, &end, 10);
    if (colon == host || *end || colon[1] < '0' || colon[1] > '9' || port < 1 || port > 65535)
        return gw_fail(GW_ECONFIG, "publish: %s: wants an address and a port from 1 to 65535", endpoint);
    if (!beyond_host && !is_loopback(host, (size_t)(colon - host)))
        return gw_fail(GW_ECONFIG,
                       "publish: %s can be heard beyond this host; publish on 127.0.0.1, or say "
                       "beyond_host: true",
                       endpoint);
    return 0;
}

/* ZeroMQ removes whatever is at an ipc path and binds there: it would take the place of a living program
 * without a word. So ask first whether anybody answers. */
static bool somebody_listens(const char *path)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    snprintf(a.sun_path, sizeof a.sun_path, "%s", path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return false;
    bool yes = connect(fd, (const struct sockaddr *)&a, sizeof a) == 0;
    close(fd);
    return yes;
}

static int bind_failed(const char *endpoint, int why)
{
    if (why == EADDRINUSE)
        return gw_fail(GW_EBUSY, "publish: %s is in use by another program; end it or choose another port",
                       endpoint);
    if (why == EACCES || why == EPERM)
        return gw_fail(GW_EACCESS, "publish: %s: not permitted; choose another", endpoint);
    return gw_fail(GW_EUSAGE, "publish: %s cannot be bound (%s); choose another", endpoint,
                   zmq_strerror(why));
}

static int open_socket(gw_publisher *p)
{
    const char *endpoint = p->endpoint;
    if (strncmp(endpoint, "ipc://", 6) == 0 && endpoint[6] != '@' && somebody_listens(endpoint + 6))
        return bind_failed(endpoint, EADDRINUSE);
    p->context = zmq_ctx_new();
    p->socket = p->context ? zmq_socket(p->context, ZMQ_XPUB) : NULL;
    if (!p->socket)
        return gw_fail(GW_ESYSTEM, "publish: no ZeroMQ socket (%s)", zmq_strerror(zmq_errno()));
    const int linger = LINGER_MS, limit = MAX_WAITING, ipv6 = strchr(endpoint, '[') != NULL;
    zmq_setsockopt(p->socket, ZMQ_LINGER, &linger, sizeof linger);
    zmq_setsockopt(p->socket, ZMQ_SNDHWM, &limit, sizeof limit);
    zmq_setsockopt(p->socket, ZMQ_IPV6, &ipv6, sizeof ipv6);
    if (zmq_bind(p->socket, endpoint) < 0)
        return bind_failed(endpoint, zmq_errno());
    if (strncmp(endpoint, "ipc://", 6) == 0 && endpoint[6] != '@')
        p->bound_path = endpoint + 6;
    return 0;
}

int gw_publisher_open(gw_publisher **out, const char *endpoint)
{
    *out = NULL;
    gw_publisher *p = calloc(1, sizeof *p);
    if (!p)
        return gw_fail(GW_ENOMEM, "publish: out of memory");
    snprintf(p->endpoint, sizeof p->endpoint, "%s", endpoint);
    int err = open_socket(p);
    if (err < 0)
        gw_publisher_close(&p);
    *out = p;
    return err;
}

void gw_publisher_wait(gw_publisher *p, int ms)
{
    int64_t until = gw_monotonic_ns() + (int64_t)ms * 1000000;
    for (;;) {
        int64_t left_ms = (until - gw_monotonic_ns()) / 1000000;
        zmq_pollitem_t item = {.socket = p->socket, .events = ZMQ_POLLIN};
        if (left_ms <= 0 || zmq_poll(&item, 1, (long)left_ms) < 0)
            return;
        unsigned char said[1];
        if ((item.revents & ZMQ_POLLIN) && zmq_recv(p->socket, said, 1, ZMQ_DONTWAIT) > 0 && said[0] == 1)
            return;
    }
}

int gw_publisher_send(gw_publisher *p, const char *topic, const char *text, size_t bytes)
{
    unsigned char ignored[1]; /* comings and goings; unread ones would pile up */
    while (zmq_recv(p->socket, ignored, 1, ZMQ_DONTWAIT) >= 0)
        ;
    char number[24];
    const int digits = snprintf(number, sizeof number, "%llu", (unsigned long long)++p->sent);
    if (zmq_send(p->socket, topic, strlen(topic), ZMQ_SNDMORE) < 0 ||
        zmq_send(p->socket, text, bytes, ZMQ_SNDMORE) < 0 ||
        zmq_send(p->socket, number, (size_t)digits, 0) < 0)
        return gw_fail(GW_EIO, "publish: %s: %s", p->endpoint, zmq_strerror(zmq_errno()));
    return 0;
}

void gw_publisher_close(gw_publisher **out)
{
    gw_publisher *p = *out;
    if (!p)
        return;
    if (p->socket)
        zmq_close(p->socket);
    if (p->context)
        while (zmq_ctx_term(p->context) < 0 && zmq_errno() == EINTR)
            ;
    if (p->bound_path)
        unlink(p->bound_path); /* ZeroMQ leaves it there */
    free(p);
    *out = NULL;
}

int gw_lines_open(const char *to, int *fd)
{
    if (strcmp(to, "stdout") == 0 || strcmp(to, "stderr") == 0) {
        *fd = to[3] == 'o' ? STDOUT_FILENO : STDERR_FILENO;
        return 0;
    }
    *fd = open(to, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    if (*fd >= 0)
        return 0;
    return gw_fail(errno == ENOENT                   ? GW_EMISSING
                   : errno == ENOSPC || errno == EIO ? GW_EIO
                                                     : GW_EACCESS,
                   "print: %s: %s; name a file that can be written", to, strerror(errno));
}

int gw_lines_write(int fd, const char *to, const char *text, size_t bytes)
{
    char line[8192];
    if (bytes >= sizeof line)
        return gw_fail(GW_ERANGE, "print: a line of %zu bytes", bytes);
    memcpy(line, text, bytes);
    line[bytes] = '\n';
    bool terminal = isatty(fd);
    int why = 0;
    if (terminal)
        gw_log_lock();
    for (size_t done = 0; done < bytes + 1 && why == 0;) {
        ssize_t n = write(fd, line + done, bytes + 1 - done);
        if (n < 0 && errno != EINTR)
            why = errno;
        if (n > 0)
            done += (size_t)n;
    }
    if (terminal)
        gw_log_unlock();
    return why ? gw_fail(GW_EIO, "print: %s: %s", to, strerror(why)) : 0;
}

void gw_lines_close(int *fd)
{
    if (*fd > STDERR_FILENO)
        close(*fd);
    *fd = -1;
}
