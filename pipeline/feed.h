/* SPDX-License-Identifier: GPL-3.0-or-later
 * Feeds carry events from one producer to one sink, over a link like any other: a block is one event, the end
 * of the stream is the end of the events. The producer waits when the sink has not taken the last 128 of
 * them, so nothing is ever lost; between processes the link's protocol sees to that. Each end belongs to one
 * thread. */
#ifndef GW_FEED_H
#define GW_FEED_H

#include "pipeline/event.h"
#include "pipeline/route.h"

enum { GW_FEED_CREDIT = 128 };

typedef struct gw_node gw_node;

/* Both ends are in one struct; each uses its own half. */
typedef struct gw_feed {
    gw_node *from, *to;
    gw_spec spec;
    gw_route route;
    /* the producer's */
    gw_pool *pool;
    gw_sender *sender;
    gw_link_counts sender_count;
    uint64_t sent;
    bool gone; /* the sink is */
    /* the sink's */
    gw_receiver *receiver;
    gw_link_counts receiver_count;
    bool ended;
} gw_feed;

/* What must be the same at both ends: the program's version and the event's size. */
void gw_feed_spec(gw_spec *s, const char *producer);
int gw_feed_make_pool(gw_feed *f, gw_space space);
size_t gw_feed_bytes(void); /* of the pool */

/* `c` comes with the graph's own settings. */
int gw_feed_open_sender(gw_feed *f, gw_link_conf *c);
int gw_feed_open_receiver(gw_feed *f, gw_link_conf *c);

/* GW_EAGAIN: no credit or no slab now. */
int gw_feed_give(gw_feed *f, uint64_t run_id, const gw_event *e);
/* GW_EAGAIN: nothing there. GW_EEND: sets ended. */
int gw_feed_take(gw_feed *f, gw_event *e);

#endif
