/* SPDX-License-Identifier: GPL-3.0-or-later
 * Links carry blocks from one stage to one other over a ZeroMQ DEALER pair. Each end belongs to one
 * thread: open, use and close it there.
 *
 *   receiver -> HELLO(spec hash, credit)   the sender refuses a hash that is not its own
 *   sender   -> block, block, ...          never more than the credit allows
 *   receiver -> CREDIT(n)                  cumulative: "you may send up to message n"
 *   sender   -> EOS(n)                     n messages were sent, nothing follows
 *   receiver -> BYE(n)                     all n have been worked off; only now may the sender let go
 *   receiver -> GONE                       instead: this end gave up, send no more
 *
 * Transport inproc: the message is the block's reference, nothing is copied, and a message that nobody
 * reads gives its reference back. */
#ifndef GW_LINK_H
#define GW_LINK_H

#include "pipeline/block.h"

/* What a sender does when the credit is spent: wait (the caller asks gw_sender_ready first), or drop
 * whole blocks, oldest first, and send a GAP in their place. */
typedef enum gw_on_full { GW_WAIT, GW_DROP } gw_on_full;

typedef struct gw_sender gw_sender;
typedef struct gw_receiver gw_receiver;

typedef struct gw_link_conf {
    void *zmq;           /* context */
    const char *address; /* "inproc://..." */
    const gw_spec *spec; /* of the stream; must outlive the link */
    int credit;          /* messages in flight, >= 1 */
    gw_on_full on_full;
    gw_pool *gaps; /* dropping sender only: `credit` + 2 slabs of no bytes, for GAPs; must outlive the
                      context, because messages nobody reads are released by its threads */
} gw_link_conf;

int gw_sender_open(gw_sender **s, const gw_link_conf *c);
int gw_receiver_open(gw_receiver **r, const gw_link_conf *c);

/* The socket to poll for input. After any wake-up of a sender's socket call gw_sender_pump. */
void *gw_sender_socket(const gw_sender *s);
void *gw_receiver_socket(const gw_receiver *r);

/* Reads credits and, on a dropping link, sends what they allow. GW_EMISMATCH: the receiver expects another
 * stream (both specs are in the detail). GW_EPEER: it is gone. */
int gw_sender_pump(gw_sender *s);
/* True when gw_sender_give would neither wait nor exceed the credit. A dropping link is always ready. */
bool gw_sender_ready(const gw_sender *s);
/* Sends a sealed block; takes the caller's reference, also on failure. */
int gw_sender_give(gw_sender *s, gw_block *b);
uint64_t gw_sender_dropped(const gw_sender *s); /* blocks */

/* End of stream. GW_OK once the receiver has said BYE (or GONE), GW_EAGAIN while it has not: poll the socket
 * and call again. Sends EOS on the first call. */
int gw_sender_finish(gw_sender *s);
void gw_sender_close(gw_sender **s);

/* The next block: the caller owns a reference, to be returned by gw_receiver_done. GW_EAGAIN: nothing there.
 * GW_EEND: EOS was reached and every message has come. GW_EBUG: messages are missing. */
int gw_receiver_take(gw_receiver *r, gw_block **b);
/* The block has been worked off: drops the reference, nulls, and gives one credit back. */
int gw_receiver_done(gw_receiver *r, gw_block **b);
/* Says BYE if EOS was reached and all blocks are done, else GONE. */
void gw_receiver_close(gw_receiver **r);

#endif
