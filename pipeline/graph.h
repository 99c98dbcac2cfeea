/* SPDX-License-Identifier: GPL-3.0-or-later
 * A graph is data: one YAML file says which sources, stages and sinks there are and who takes from whom.
 *
 *   sources: {sky: {kind: sim, ...}}
 *   stages:  {white: {kind: whiten, from: sky, ...}}
 *   sinks:   {alerts: {kind: alerts, from: [search, sky], ...}}
 *
 * `from` names parts (all their streams, and their events where the taker listens to events) or single
 * streams ("sky.H1"). A per-stream kind is made once for each stream it is given. Common keys of every part
 * that takes streams: kind, from, credit (blocks in flight on each link it takes from; by default 8, two
 * seconds where blocks are dropped, more where the graph could stall otherwise), on_full: wait | drop (drop
 * for sinks when a source keeps real time, else wait). A stage of several streams: patience. With `nodes:`
 * (route.h): node, link, lanes. */
#ifndef GW_GRAPH_H
#define GW_GRAPH_H

#include "pipeline/stage.h"

#include <stdio.h>

typedef struct gw_graph gw_graph;

/* Reads, configures, plans and wires everything; touches no hardware and starts nothing. */
int gw_graph_load(gw_graph **g, const char *path);
int gw_graph_parse(gw_graph **g, const char *name, const char *yaml);
/* Before the first graph is read: sinks may let replayed and simulated events leave this host. */
void gw_graph_set_publish(bool publish);
/* Before gw_graph_start: this process runs only the parts of `node`. Otherwise it runs all. GW_EUSAGE. */
int gw_graph_choose(gw_graph *g, const char *node);
void gw_graph_free(gw_graph **g);

/* What `gwstream check` prints: every node with its streams, look-ahead and memory, and the sums. */
void gw_graph_print(const gw_graph *g, FILE *to);
/* GW_EMISMATCH where a node cannot do all that the file says, though `run` would go on without (plan's
 * unfit).
 */
int gw_graph_fits(const gw_graph *g);
/* Warns of cores and NUMA nodes that the file asks for and this machine has not (starting does it too). */
void gw_graph_fit_machine(gw_graph *g);

/* Whether some source is paced by the wall clock. */
bool gw_graph_keeps_time(const gw_graph *g);

/* One thread a node. Block the signals you want to handle before this. */
int gw_graph_start(gw_graph *g);
/* True when all threads have ended; waits at most `ms`. */
bool gw_graph_wait(gw_graph *g, int ms);
/* Sources end with the piece in hand; everything behind them is drained and flushed. Any thread. */
void gw_graph_stop(gw_graph *g);
/* After gw_graph_wait said true. GW_OK or the first failure, whose text is then this thread's detail.
 * *bad_inputs: how often a source said that its input is bad but went on. */
int gw_graph_result(gw_graph *g, uint64_t *bad_inputs);

typedef struct gw_graph_status {
    int64_t data_ns;  /* stream time reached by the slowest source; GW_NOT_KNOWN_NS before the first block */
    int64_t first_ns; /* that source's first sample */
    uint64_t events;  /* event messages sent by stages (not injections) */
} gw_graph_status;
void gw_graph_get_status(gw_graph *g, gw_graph_status *s);

/* One line for each stream that lost samples or blocks, with the reasons. */
void gw_graph_print_losses(const gw_graph *g, FILE *to);

#endif
