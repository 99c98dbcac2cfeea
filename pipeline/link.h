/* SPDX-License-Identifier: GPL-3.0-or-later
 * Links carry blocks from one stage to one other over ZeroMQ. Each end belongs to one thread: open, use and
 * close it there. One protocol (wire.h), four transports; which one it is nobody else needs to know:
 *
 *   inproc  same process: the message is the block's reference, nothing is copied
 *   shm     same host: descriptors over ZeroMQ ipc, samples in the sender's memfd, which is passed once over
 * a Unix socket; nothing is copied. That socket also tells exactly when the other process is gone ipc same
 * host, tcp anywhere: header and payload as two frames; the receiver's block is the message
 *
 *   receiver -> HELLO(next, limit)   "send from `next`, none from `limit` on"
 *   sender   -> SPEC                 refused unless it is the stream that the receiver expects
 *   sender   -> block, block, ...    never more than the credit allows
 *   receiver -> CREDIT(done, limit)  cumulative; the sender lets go of what is done
 *   sender   -> EOS(n)               n blocks were sent, nothing follows
 *   receiver -> BYE(n)               all n have been worked off; only now may the sender let go
 *   either   -> GONE(why)            this end gave up
 *
 * The sender keeps every block until it is known to be worked off. So nothing is lost on the way: a receiver
 * that sees a number missing, a checksum wrong or a connection cut asks again from the first block it lacks
 * (go back N), and one that was killed and started anew gets what its predecessor had not finished. What dies
 * with a sender is a hole when the next one comes: the input (input.c) says so.
 *
 * Of the two ends one listens (ZeroMQ ROUTER, so that a stranger who connects too cannot take a share of the
 * messages) and the other connects (DEALER). A link of several lanes is that many sockets, each with a
 * slice of the channels; the receiver puts them together (one counted copy). */
#ifndef GW_LINK_H
#define GW_LINK_H

#include "pipeline/block.h"
#include "pipeline/keys.h"

#include <zmq.h>

/* What a sender does when the credit is spent: wait (the caller asks gw_sender_ready first), or drop
 * whole blocks, oldest first, and send a GAP in their place. */
typedef enum gw_on_full { GW_WAIT, GW_DROP } gw_on_full;

typedef enum gw_transport { GW_INPROC, GW_SHM, GW_IPC, GW_TCP } gw_transport;
const char *gw_transport_text(gw_transport t); /* "shm" */

typedef struct gw_sender gw_sender;
typedef struct gw_receiver gw_receiver;

/* Counted by the end's thread, read by anybody (counters.h). The caller owns it; it outlives the link. */
typedef struct gw_link_counts {
    atomic_uint_fast64_t blocks, gaps, bytes; /* given or taken; GAPs among the blocks; payload bytes */
    atomic_uint_fast64_t copied_bytes;        /* copied in this process on the way in */
    atomic_uint_fast64_t dropped, dropped_samples;
    atomic_uint_fast64_t resent;     /* blocks sent again */
    atomic_uint_fast64_t duplicates; /* blocks that had come already */
    atomic_uint_fast64_t malformed;  /* messages that were not of this protocol, or damaged */
    atomic_uint_fast64_t sessions;   /* how often another peer process came */
    atomic_int_fast64_t credits;     /* sender: blocks it may still send; receiver: blocks held */
    atomic_int_fast64_t heard_ns;    /* monotonic time of the peer's last message; 0 = never */
} gw_link_counts;

enum { GW_MAX_LANES = 16 };

typedef struct gw_link_conf {
    void *zmq; /* context */
    gw_transport transport;
    /* "inproc://x", "ipc://@x" or "ipc:///path" (shm too), "tcp://host:port" (lane k: port + k; on all others
     * the lane's number is appended). A name after '@' is no file and so leaves none behind. */
    const char *address;
    bool listen;         /* exactly one end does; inproc, shm: the sender */
    int lanes;           /* 0 counts as 1; more only for ipc and tcp */
    const gw_spec *spec; /* of the stream; must outlive the link */
    uint64_t session;    /* this process's run id, and of every block it sends */
    int credit;          /* blocks in flight, >= 1 */
    gw_on_full on_full;
    gw_pool *pool;       /* shm sender: of the blocks it will be given, in space SHARED */
    gw_pool *gaps;       /* dropping sender only: `credit` + 2 slabs of no bytes, for GAPs; must outlive the
                            context,       because messages nobody reads are released by its threads */
    bool crc;            /* sender: a CRC32C of each payload (the receiver checks what it finds) */
    const gw_keys *keys; /* CURVE, or NULL */
    const gw_timebase *timebase; /* sender: travels with the spec once its pace or anchor is set; or NULL.
                                    Read in the end's own thread: let it point to that thread's copy */
    gw_link_counts *counts;      /* or NULL */
} gw_link_conf;

int gw_sender_open(gw_sender **s, const gw_link_conf *c);
int gw_receiver_open(gw_receiver **r, const gw_link_conf *c);

/* Fills at most `max` items to poll for input; returns how many. They may change with every call into the
 * link. After a wake-up, and at least every 200 ms (heartbeats), call pump. */
int gw_sender_poll(gw_sender *s, zmq_pollitem_t *item, int max);
int gw_receiver_poll(gw_receiver *r, zmq_pollitem_t *item, int max);

/* Reads what the receiver says and, on a dropping link, sends what that allows. GW_EMISMATCH: the receiver
 * expects another stream (both specs are in the detail). GW_EPEER: it gave up. A receiver that merely died is
 * no error: the link waits for the next one. */
int gw_sender_pump(gw_sender *s);
/* True when gw_sender_give would neither wait nor exceed the credit. A dropping link is always ready. */
bool gw_sender_ready(const gw_sender *s);
/* Sends a sealed block; takes the caller's reference, also on failure. */
int gw_sender_give(gw_sender *s, gw_block *b);
uint64_t gw_sender_dropped(const gw_sender *s); /* blocks */

/* End of stream. GW_OK once the receiver has said BYE (or GONE), GW_EAGAIN while it has not: poll the socket
 * and call again. Sends EOS on the first call. A wire's receiver that stays silent for 10 s after that:
 * GW_EPEER, with the number of blocks it never confirmed. */
int gw_sender_finish(gw_sender *s);
/* Whether nobody listens: a wire's receiver has left, or has not been heard for 10 s. Only a sender that
 * wants to end needs to care; any other waits for the next receiver. */
bool gw_sender_deserted(const gw_sender *s);
/* Waits for no receiver any more: every call answers GW_EPEER from now on. Lets go of all blocks and returns
 * how many of them are not known to have been worked off. */
uint64_t gw_sender_abandon(gw_sender *s);
void gw_sender_close(gw_sender **s);

/* The next block: the caller owns a reference, to be returned by gw_receiver_done. GW_EAGAIN: nothing there.
 * GW_EEND: EOS was reached and every message has come. GW_EMISMATCH: the sender's stream is another one.
 * GW_EPEER: the sender gave up. Numbers are contiguous within a sender's session (gw_receiver_session
 * changes when a new sender process takes over: what it sends need not tile with what came before). */
int gw_receiver_take(gw_receiver *r, gw_block **b);
/* The block has been worked off: drops the reference and nulls. Its credit goes back when every other
 * reference to it is gone too (on a wire; inproc: at once). */
int gw_receiver_done(gw_receiver *r, gw_block **b);
/* For a caller that waits elsewhere and takes nothing for a while: every 200 ms, so that the sender knows it
 * lives. */
int gw_receiver_beat(gw_receiver *r);
/* Grows whenever the numbers begin anew; 0 = no sender yet. */
uint64_t gw_receiver_session(const gw_receiver *r);
/* What the sender's SPEC said about pace and anchor. False: nothing yet. */
bool gw_receiver_timebase(const gw_receiver *r, gw_timebase *t);
/* Says BYE if EOS was reached and all blocks are done, else GONE. */
void gw_receiver_close(gw_receiver **r);

#endif
