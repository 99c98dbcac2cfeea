/* SPDX-License-Identifier: GPL-3.0-or-later
 * One socket of a link: frames, checks and who is at the other end. Used by link.c alone, in the thread of
 * its end. Knows nothing of credits, numbers or specs.
 *
 * A listening lane (ROUTER) serves one peer at a time. What a stranger says is heard, marked as such, and is
 * the link's to answer or to adopt; blocks from strangers are never heard. */
#ifndef GW_LANE_H
#define GW_LANE_H

#include "pipeline/link.h"
#include "pipeline/wire.h"

typedef struct gw_lane gw_lane;

/* One message; valid until the next gw_lane_hear or _close. */
typedef struct gw_heard {
    bool is_control, stranger;
    gw_control control;
    const char *text;  /* of a control message, NUL-terminated */
    gw_header header;  /* of a block, checked */
    gw_block *block;   /* inproc: the block, one reference to the caller */
    const void *where; /* shm: its descriptor, unchecked */
    size_t where_bytes;
    zmq_msg_t *payload; /* ipc, tcp: the frame, size and CRC checked; zmq_msg_move it away. NULL for a GAP */
} gw_heard;

/* index: which lane of c. */
int gw_lane_open(gw_lane **l, const gw_link_conf *c, int index, bool sender);
void gw_lane_close(gw_lane **l, int linger_ms);
void *gw_lane_socket(const gw_lane *l);

/* GW_EAGAIN: nothing there. GW_EFORMAT: a message of no use, dropped; call again. */
int gw_lane_hear(gw_lane *l, gw_heard *m);
/* After a GW_EFORMAT: counts it, and logs this thread's detail, but no more than a line in 10 s. */
void gw_lane_complain(gw_lane *l, gw_link_counts *count);

bool gw_lane_has_peer(const gw_lane *l); /* a connecting lane always has */
void gw_lane_adopt(gw_lane *l);          /* whoever was heard last is the peer from now on */
void gw_lane_forget(gw_lane *l);         /* nobody is */

/* To the peer, or (answer) to whoever was heard last. GW_EAGAIN: no room now. GW_EPEER: nobody there. */
int gw_lane_say(gw_lane *l, const gw_control *c, const char *text);
int gw_lane_answer(gw_lane *l, const gw_control *c, const char *text);

/* A block under this number, channels [channel0, channel0 + n_channels). Takes no reference of the caller's.
 * GW_EAGAIN, GW_EPEER as above. */
int gw_lane_send(gw_lane *l, gw_block *b, uint64_t number, uint32_t channel0, uint32_t n_channels);

#endif
