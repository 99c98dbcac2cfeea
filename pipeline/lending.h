/* SPDX-License-Identifier: GPL-3.0-or-later
 * The blocks a receiver has lent to its caller, and the count of those that came back: that count is the
 * credit. Used by receiver.c alone. A lent block carries its own bookkeeping, so a credit goes back only when
 * nobody looks at the samples any more; what is still out when the link closes keeps the lending alive until
 * it comes home. Knows messages and memory, neither sockets nor sessions. Everything happens in the thread
 * of the receiving end. */
#ifndef GW_LENDING_H
#define GW_LENDING_H

#include "pipeline/lane.h"
#include "pipeline/shm.h"

typedef struct gw_lending gw_lending;

/* Keeps what it needs of c, but for c->spec and c->counts, which must outlive it. counts: not NULL. */
int gw_lending_new(gw_lending **l, const gw_link_conf *c, int lanes, gw_link_counts *counts);
/* The caller's blocks stay valid; the last of them to come back frees it. */
void gw_lending_close(gw_lending **l);

/* Numbers begin anew at `number`: blocks of before no longer count when they come back. */
void gw_lending_restart(gw_lending *l, uint64_t number);
uint64_t gw_lending_handed(const gw_lending *l); /* the number that the caller gets next */
uint64_t gw_lending_done(const gw_lending *l);   /* all numbers below it have come back */

/* One lane: the message as a block. It is the message itself (ipc, tcp: the copy out of the kernel is the
 * one there is), or lies in the sender's memory (shm: `segment`, in which the descriptor was checked). */
int gw_lending_whole(gw_lending *l, gw_heard *m, gw_segment *segment, gw_block **b);
/* inproc: the block comes and goes by reference, only the numbers are kept here. */
void gw_lending_pass(gw_lending *l, const gw_heard *m);
void gw_lending_passed(gw_lending *l);

/* Several lanes: lane `lane` brings its channels, from channel0 on, of block `number`. GW_EFORMAT: it does
 * not fit to what the others brought. gw_lending_joined: the next block, once all lanes have brought their
 * part; else NULL. */
int gw_lending_slice(gw_lending *l, int lane, uint64_t number, uint32_t channel0, const gw_heard *m);
gw_block *gw_lending_joined(gw_lending *l);

#endif
