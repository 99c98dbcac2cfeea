/* SPDX-License-Identifier: GPL-3.0-or-later
 * Feeds carry events from any number of producers to one sink, over a ZeroMQ PUSH / PULL pair. There is no
 * credit and no limit: an event is a few hundred bytes and is never lost. Each producer ends its feed
 * with an event of phase GW_PHASE_END. Each end belongs to one thread. */
#ifndef GW_FEED_H
#define GW_FEED_H

#include "pipeline/event.h"

int gw_feed_push_open(void **socket, void *zmq, const char *address);
int gw_feed_pull_open(void **socket, void *zmq, const char *address);
int gw_feed_send(void *socket, const gw_event *e); /* GW_EPEER: the sink is gone */
int gw_feed_take(void *socket, gw_event *e);       /* GW_EAGAIN: nothing there */
void gw_feed_close(void **socket);

#endif
