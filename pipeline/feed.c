/* SPDX-License-Identifier: GPL-3.0-or-later
 * Event feeds (feed.h). */
#include "pipeline/feed.h"

#include <errno.h>
#include <zmq.h>

static int open_socket(void **socket, void *zmq, const char *address, int type)
{
    *socket = zmq_socket(zmq, type);
    if (!*socket)
        return gw_fail(GW_ESYSTEM, "feed %s: %s", address, zmq_strerror(zmq_errno()));
    const int none = 0;
    zmq_setsockopt(*socket, ZMQ_SNDHWM, &none, sizeof none);
    zmq_setsockopt(*socket, ZMQ_RCVHWM, &none, sizeof none);
    zmq_setsockopt(*socket, ZMQ_LINGER, &none, sizeof none); /* inproc: what was sent is already there */
    if ((type == ZMQ_PULL ? zmq_bind(*socket, address) : zmq_connect(*socket, address)) != 0) {
        int err = gw_fail(GW_ESYSTEM, "feed %s: %s", address, zmq_strerror(zmq_errno()));
        gw_feed_close(socket);
        return err;
    }
    return GW_OK;
}

int gw_feed_push_open(void **socket, void *zmq, const char *address)
{
    return open_socket(socket, zmq, address, ZMQ_PUSH);
}

int gw_feed_pull_open(void **socket, void *zmq, const char *address)
{
    return open_socket(socket, zmq, address, ZMQ_PULL);
}

int gw_feed_send(void *socket, const gw_event *e)
{
    if (zmq_send(socket, e, sizeof *e, ZMQ_DONTWAIT) == (int)sizeof *e)
        return GW_OK;
    return gw_fail(zmq_errno() == EAGAIN ? GW_EPEER : GW_ESYSTEM, "feed: %s", zmq_strerror(zmq_errno()));
}

int gw_feed_take(void *socket, gw_event *e)
{
    int n = zmq_recv(socket, e, sizeof *e, ZMQ_DONTWAIT);
    if (n < 0)
        return zmq_errno() == EAGAIN ? GW_EAGAIN : gw_fail(GW_ESYSTEM, "feed: %s", zmq_strerror(zmq_errno()));
    if (n != (int)sizeof *e)
        return gw_fail(GW_EFORMAT, "feed: a message of %d bytes", n);
    return GW_OK;
}

void gw_feed_close(void **socket)
{
    if (*socket)
        zmq_close(*socket);
    *socket = NULL;
}
