/* SPDX-License-Identifier: GPL-3.0-or-later
 * Where events leave the program: a ZeroMQ PUB socket, and lines of JSON on a file or a terminal. Used by
 * the alerts sink, in one thread. It knows no journal and decides nothing. */
#ifndef GW_PUBLISHER_H
#define GW_PUBLISHER_H

#include "pipeline/error.h"

#include <stddef.h>

/* Is `endpoint` one that can be bound for publishing: tcp://ADDRESS:PORT on this host's loopback (any
 * address with beyond_host), or ipc://PATH? GW_ECONFIG with the reason if not. */
int gw_publisher_check(const char *endpoint, bool beyond_host);

typedef struct gw_publisher gw_publisher;

/* Binds. GW_EBUSY when the port or path is in use by another program. */
int gw_publisher_open(gw_publisher **p, const char *endpoint);
/* Waits until somebody has subscribed, at most `ms`. */
void gw_publisher_wait(gw_publisher *p, int ms);
/* Three frames: topic, text, and the number of the message since the socket was bound, 1, 2, ... as decimal
 * text, by which who takes every topic sees what it has missed. Returns at once; a subscriber that has not yet
 * come does not get it. */
int gw_publisher_send(gw_publisher *p, const char *topic, const char *text, size_t bytes);
/* Gives what was sent up to 1 s to leave. Nulls. */
void gw_publisher_close(gw_publisher **p);

/* Lines: `to` is stdout, stderr or the path of a file, which is appended to. *fd is the caller's. */
int gw_lines_open(const char *to, int *fd);
/* One write() for the text and its newline, repeated only where the system takes part of it. On a terminal
 * the progress bar makes room for it (gw_log_lock). */
int gw_lines_write(int fd, const char *to, const char *text, size_t bytes);
void gw_lines_close(int *fd); /* leaves stdout and stderr open */

#endif
