/* SPDX-License-Identifier: GPL-3.0-or-later
 * Passing a sender's memfd to the receiving process, once, over a Unix socket with an abstract name, and
 * knowing by that same socket when the other process is gone (the kernel closes it, whatever killed it). Used
 * by link.c. Never blocks. */
#ifndef GW_SHM_H
#define GW_SHM_H

#include "pipeline/block.h"

/* The name both ends derive from a link's address. Only processes of the same user are let in. */
int gw_shm_listen(int *fd, const char *address);

/* Sender: takes the next connection, if any, and the session its first 8 bytes state. GW_EAGAIN: nobody, or
 * not yet complete. *conn is the caller's from then on: give it the memfd by gw_shm_pass, poll it, close it.
 */
typedef struct gw_shm_door {
    int listener;
    int half; /* a connection that has not said its session yet; -1 = none */
} gw_shm_door;
int gw_shm_accept(gw_shm_door *d, int *conn, uint64_t *session);
int gw_shm_pass(int conn, int memfd, size_t bytes);
bool gw_shm_hung_up(int conn);

/* Receiver: connects and says who it is; then, when the socket is readable, the segment. */
int gw_shm_connect(int *conn, const char *address, uint64_t session);

/* A mapped segment, read-only. Blocks that lie in it keep it (ref) until they are released. */
typedef struct gw_segment {
    const char *map;
    size_t bytes;
    int refs;
} gw_segment;
int gw_segment_receive(int conn, gw_segment **s); /* GW_EAGAIN: not here yet; GW_EPEER: hung up */
void gw_segment_unref(gw_segment **s);

#endif
