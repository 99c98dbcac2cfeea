/* SPDX-License-Identifier: GPL-3.0-or-later
 * Lets other programs of the same user look at a running graph: a thread that answers on the abstract Unix
 * socket
 * "@gwstream/<uid>/<pid>", which leaves no file behind. One request a connection, one line:
 *
 *   status                   the counters as one JSON object (status.c; cumulative: who wants rates asks
 * twice) dump NAME SECONDS PATH   "dump SECONDS PATH" to the sink NAME; its answer: "ok ..." or "error ..."
 *
 * Whoever asks slowly, or never reads the answer, holds up nobody: his connection ends. cmd_top.c is the
 * other end. */
#ifndef GW_MONITOR_H
#define GW_MONITOR_H

#include "pipeline/error.h"

#include <stddef.h>
#include <stdio.h>

struct gw_graph;

typedef struct gw_monitor gw_monitor;
/* After gw_graph_start, before gw_graph_free. Signals should be blocked. */
int gw_monitor_start(gw_monitor **m, struct gw_graph *g);
void gw_monitor_stop(gw_monitor **m);

/* The status document. Any thread, while the graph exists. */
void gw_monitor_write(struct gw_graph *g, FILE *to);

/* One line for each stage that has gauges, "white.H1: bns_range_mpc 74.1, psd_segments 31": for the end of a
 * run. */
void gw_monitor_print_gauges(const struct gw_graph *g, FILE *to);

/* The socket's address of a process: sun_path bytes, the first of them 0; returns how many. */
size_t gw_monitor_name(char path[64], unsigned uid, int pid);

#endif
