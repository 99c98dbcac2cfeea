/* SPDX-License-Identifier: GPL-3.0-or-later
 * Where threads run and memory lies: cores, NUMA node, SCHED_FIFO, locked memory, as the graph's YAML asks.
 *
 *   run: {threads: 4, lock_memory: true, io_cores: [1], bulk_cores: [1], device: false}   top level
 *   cores: [2, 3]   numa: 0   priority: 50                     any part
 *
 * graph.c reads it, the runner applies it. What this machine has not or does not permit is said in one line
 * and left out: the same graph runs everywhere, only slower. docs/operations.md says what to permit. */
#ifndef GW_PLACEMENT_H
#define GW_PLACEMENT_H

#include "pipeline/block.h"
#include "pipeline/config.h"

#include <sched.h>

/* Of one part. All zero: wherever the system likes. */
typedef struct gw_placement {
    cpu_set_t cores; /* empty: any */
    bool has_numa;
    int numa;
    int priority; /* SCHED_FIFO 1..99; 0 = the normal scheduler */
} gw_placement;

/* Of the whole process. */
typedef struct gw_run_conf {
    int threads; /* of gw_parallel; 0 = one a core */
    bool lock_memory;
    bool device;          /* a GPU may be used where there is one; true unless the file says false */
    cpu_set_t io_cores;   /* of ZeroMQ's I/O threads; empty: any */
    cpu_set_t bulk_cores; /* of gw_parallel's workers for bulk; empty: any */
} gw_run_conf;

/* The keys cores, numa and priority of a part. GW_ECONFIG for what no machine has (a negative core, core
 * 1024). */
int gw_placement_read(gw_conf *part, gw_placement *p);
/* The top level's `run`, absent or not. */
int gw_run_conf_read(gw_conf *root, gw_run_conf *r);

/* Takes out what this machine has not, with a warning (a graph's parts may run on different ones). */
void gw_placement_fit(gw_placement *p, const char *name);
void gw_run_conf_fit(gw_run_conf *r);

/* Places the calling thread; memory it touches first from now on lies on its NUMA node. */
void gw_placement_apply(const gw_placement *p, const char *name);
/* Moves a pool's slabs, all of them free, to the NUMA node of the thread that will fill them. */
void gw_placement_move_pool(const gw_placement *p, const char *name, gw_pool *pool);

/* Keeps what has been touched in memory. Before the first thread starts. */
void gw_run_lock_memory(const gw_run_conf *r);
/* Starts the context's I/O threads on their cores; they inherit nothing from whichever thread opens the first
 * socket. After ZMQ_IO_THREADS has been set, before any socket. */
void gw_run_start_io(const gw_run_conf *r, void *zmq);
/* Puts gw_parallel's workers for bulk on their cores. After gw_parallel_start. */
void gw_run_place_bulk(const gw_run_conf *r);

/* "0-3,8" as the kernel writes lists; false when it is none. Cores beyond CPU_SETSIZE are left out. */
bool gw_cores_parse(const char *text, cpu_set_t *cores);
const char *gw_cores_text(const cpu_set_t *cores, char *text, size_t n); /* "0-3,8"; "none" */

#endif
