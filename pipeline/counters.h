/* SPDX-License-Identifier: GPL-3.0-or-later
 * What is counted on every hop. Each counter is written by the one thread it belongs to and read by anybody,
 * so relaxed atomics are enough: an observer sees every value that was, each by itself. All begin at zero and
 * are there from the start, so "0" always means "none", never "not counted". The runner (runner.c, input.c,
 * output.c) counts; monitor.c tells; nothing decides by them. The links' own counts are in link.h. */
#ifndef GW_COUNTERS_H
#define GW_COUNTERS_H

#include "pipeline/block.h"

/* What a thread waits for. */
#define GW_CAUSES(X)                                                                                         \
    X(INPUT, "input")   /* the next block or event */                                                        \
    X(SLAB, "slab")     /* a free slab: its readers still hold all of them */                                \
    X(CREDIT, "credit") /* a receiver's permission to send */                                                \
    X(DUE, "due")       /* a source: stream time is ahead of the clock */                                    \
    X(DEVICE, "device") /* what its steps enqueued there */
typedef enum gw_cause {
#define X(name, text) GW_FOR_##name,
    GW_CAUSES(X)
#undef X
        GW_CAUSE_COUNT
} gw_cause;
const char *gw_cause_text(gw_cause c);

/* One writer, so no read-modify-write instruction is needed. */
static inline void gw_count_add(atomic_uint_fast64_t *count, uint64_t n)
{
    atomic_store_explicit(count, atomic_load_explicit(count, memory_order_relaxed) + n, memory_order_relaxed);
}
static inline uint64_t gw_count_read(const atomic_uint_fast64_t *count)
{
    return atomic_load_explicit(count, memory_order_relaxed);
}

/* -- ages -------------------------------------------------------------------------------------------- */

/* Ages of blocks: 8 buckets an octave from 65.5 us (2^16 ns) to 8.6 s (2^33 ns), so a quantile is right to 9
 * %; what is below (also a clock that runs behind) is in the first bucket, what is above in the last. */
enum { GW_AGE_LOW_BITS = 16, GW_AGE_OCTAVES = 17, GW_AGE_BUCKETS = 8 * GW_AGE_OCTAVES + 2 };
typedef struct gw_ages {
    atomic_uint_fast64_t count[GW_AGE_BUCKETS];
    atomic_int_fast64_t max_ns;
} gw_ages;

void gw_ages_add(gw_ages *a, int64_t age_ns);
int gw_ages_bucket(int64_t age_ns);
int64_t gw_ages_lower_ns(int bucket); /* the least age in it; of bucket 0: 0 */

/* A histogram as it was at one moment; two of them can be subtracted. */
typedef struct gw_ages_seen {
    uint64_t count[GW_AGE_BUCKETS], n;
    int64_t max_ns; /* since the start */
} gw_ages_seen;
void gw_ages_read(const gw_ages *a, gw_ages_seen *seen);
/* The age that a share `q` (0..1) of the blocks do not exceed: its bucket's upper edge, but never more than
 * max_ns. 0 when there are none. */
int64_t gw_ages_quantile_ns(const gw_ages_seen *seen, double q);

/* -- a node ------------------------------------------------------------------------------------------ */

/* A stage's own numbers, by name. Who reads sees a name, then some value that it had. */
enum { GW_MAX_GAUGES = 16, GW_GAUGE_BYTES = 48 };
typedef struct gw_gauge {
    const char *_Atomic name; /* its text; NULL: free, and so are all after it */
    char text[GW_GAUGE_BYTES];
    _Atomic double value;
} gw_gauge;

typedef struct gw_counters {
    atomic_int tid;                                   /* the node's thread; 0 before it runs */
    atomic_uint_fast64_t steps, step_ns, step_max_ns; /* calls of next, step, take or event */
    atomic_uint_fast64_t waits[GW_CAUSE_COUNT], wait_ns[GW_CAUSE_COUNT];
    atomic_uint_fast64_t events, bad_inputs;
    atomic_int_fast64_t data_ns; /* stream time reached */
    gw_gauge gauge[GW_MAX_GAUGES];
} gw_counters;

/* Sets the gauge of that name (copied; 47 characters of it), or makes it; one too many is left out. */
void gw_count_gauge(gw_counters *c, const char *name, double value);

void gw_count_step(gw_counters *c, int64_t took_ns);

/* -- an input ---------------------------------------------------------------------------------------- */

typedef struct gw_input_counters {
    gw_ages age; /* of each block when it was taken up, in a paced run */
    atomic_uint_fast64_t
        gap_samples[GW_GAP_REASON_COUNT]; /* that came as GAPs, or that the input itself gave up */
    atomic_uint_fast64_t late_samples;    /* came after the input had gone on without them */
} gw_input_counters;

/* -- the node's clock -------------------------------------------------------------------------------- */

/* Two readings of the monotonic clock a hop (when a step begins and ends), one more when a wait ends. A block
 * is taken up right after one of them, so its age costs no reading of its own. The offset of the wall clock
 * and the timebase are looked up ten times a second. */
typedef struct gw_meter {
    int64_t now_ns;     /* monotonic: the latest reading */
    int64_t renewed_ns; /* when the next two were looked up; 0 = never */
    int64_t wall_ns;    /* GPS wall clock minus monotonic */
    gw_timebase timebase;
} gw_meter;

/* Reads the clock. True when it is time for gw_meter_renew. */
bool gw_meter_tick(gw_meter *m);
void gw_meter_renew(gw_meter *m, gw_timebase timebase);

/* A block came to an input: its gap or, in a paced run, its age (none without a meter). */
void gw_count_taken(gw_input_counters *c, const gw_meter *m, const gw_header *h);

#endif
