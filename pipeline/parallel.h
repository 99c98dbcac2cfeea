/* SPDX-License-Identifier: GPL-3.0-or-later
 * The one pool of threads of a process. A stage that has n independent pieces of work hands them over and
 * takes part itself; it goes on when all are done. Two classes, the search's own channels before bulk
 * channels, each with workers of its own: those of bulk, and for ever any thread that calls for bulk work,
 * run at a lower priority of the system (nice), so that whatever the search has to do is done first. The pool
 * sets no floating-point mode: a piece that needs one sets it. */
#ifndef GW_PARALLEL_H
#define GW_PARALLEL_H

#include "pipeline/error.h"

#include <sched.h>
#include <stddef.h>

typedef enum gw_class { GW_SEARCH, GW_BULK } gw_class;

/* `threads` work at once for one caller, itself among them; 0 = as many as this process may use cores.
 * Started by the graph before its nodes open; each start wants one stop. Where the pool runs already, it is
 * shared as it is. */
int gw_parallel_start(int threads);
int gw_parallel_planned(int threads); /* what _threads() will be after _start(threads) */
void gw_parallel_stop(void);          /* no call may be under way */
/* From now on that class's workers run on these cores alone; callers stay where they are. GW_ESYSTEM where the
 * system does not let them. */
int gw_parallel_place(gw_class priority, const cpu_set_t *cores);
int gw_parallel_threads(void); /* 1 where no pool runs: the caller alone */
/* Inside a piece: which of the threads that work for one caller this is, 0 (the caller itself) to
 * gw_parallel_threads() - 1; for memory that each thread has of its own. */
int gw_parallel_worker(void);

/* fn(arg, i) for each i in [0, n), in any order, in any of the pool's threads or this one. Returns when all
 * have returned: GW_OK, or the error that came first with its detail (what has not begun by then never
 * begins). Any thread may call, several at once. GW_EBUG from inside a piece: calls never nest. */
int gw_parallel(gw_class priority, size_t n, int (*fn)(void *arg, size_t i), void *arg);

#endif
