/* SPDX-License-Identifier: GPL-3.0-or-later
 * One stage of a running graph: shared by graph.c, which makes nodes and wires them, input.c, which cuts
 * streams into hops, and runner.c, which runs each node in its own thread; monitor.c and status.c look on.
 * Nobody else includes this. */
#ifndef GW_NODE_H
#define GW_NODE_H

#include "pipeline/counters.h"
#include "pipeline/feed.h"
#include "pipeline/link.h"
#include "pipeline/mailbox.h"
#include "pipeline/placement.h"
#include "pipeline/route.h"
#include "pipeline/stage.h"

#include <pthread.h>

enum { GW_MAX_FAN = 16, GW_MAX_META = 64 };

typedef struct gw_graph gw_graph;
typedef struct gw_node gw_node;

/* What a block said about its samples, kept until the last of them has left the buffer. */
typedef struct gw_meta {
    int64_t end; /* sample after the block's last */
    uint64_t dq;
    uint32_t flags;
    uint64_t networks;
    int slot; /* its presence bits among the input's; -1: every channel is there */
    int64_t due_ns, ingest_ns;
} gw_meta;

/* What comes to an input: samples, or a hole, also one that nobody sent. */
typedef struct gw_arrival {
    gw_block *block;         /* NULL for a hole */
    const uint8_t *presence; /* the block's; NULL when every channel is there */
    gw_hole hole;            /* samples > 0 */
    bool anew;               /* from another run of the sender: what came before is no history of it */
} gw_arrival;

/* An input: a link, and the buffer that turns blocks into hops with history. */
typedef struct gw_input {
    const gw_spec *spec; /* the producer's */
    gw_node *node, *from;
    gw_route route;
    int credit; /* blocks in flight */
    int keep;   /* blocks beyond those that its node may hold on to (plan's keep_ns) */
    bool credit_given;
    gw_on_full on_full;
    gw_receiver *link;
    uint64_t session;  /* of the sender that was heard last; 0 = none yet */
    gw_block *waiting; /* taken from the link, but there is a hole before it */
    gw_arrival next;   /* not yet handed on */
    bool has_next;
    bool anew;     /* the sender is another run, and the next arrival must say so */
    bool loose;    /* what comes next need not tile: another run, or we went on without this input */
    bool late;     /* we went on without it, and it is not back */
    bool may_lack; /* its node goes on without it where it is not whole */
    uint32_t hop, history, ahead; /* ahead: samples beyond the hop that may be taken before they are needed */
    bool ended, started;
    int64_t end;     /* everything before this sample has come, as samples or as a hole */
    int64_t lo, hi;  /* the buffer holds [lo, hi) without a hole */
    int64_t base;    /* sample number of the buffer's first place */
    size_t capacity; /* samples a channel */
    char *buffer;    /* [channel][capacity] */
    gw_meta meta[GW_MAX_META];
    int n_meta;
    uint8_t *presence;    /* [GW_MAX_META + 1][(channels + 7) / 8]: of the metas, and of the last view */
    uint64_t slots_used;  /* a bit each */
    gw_gap_reason reason; /* of the latest hole */
    uint64_t hole_dq;     /* ... the bits that hold in it */
    atomic_uint_fast64_t given_up_samples; /* for which we went on without it */
    gw_input_counters count;
    gw_link_counts link_count;
    const gw_meter *meter; /* the node's */
} gw_input;

typedef struct gw_output {
    gw_spec spec;
    int n_links;
    struct gw_output_link {
        gw_input *to;
        gw_sender *link;
        gw_pool *gaps;                /* for a dropping link */
        bool gone;                    /* its receiver gave up: what would go there is discarded */
        atomic_uint_fast64_t dropped; /* blocks */
        gw_link_counts count;
    } link[GW_MAX_FAN];
    int slabs;
    gw_space space; /* of the slabs, unless another process reads them too (then SHARED) */
    gw_pool *pool;
    gw_block *slab;    /* reserved for the coming step */
    uint8_t *presence; /* [(channels + 7) / 8] of the coming step */
    bool started;
    int64_t end; /* sent until here */
    uint64_t seq;
    atomic_uint_fast64_t gap_samples[GW_GAP_REASON_COUNT]; /* sent as GAPs, by reason */
} gw_output;

/* A step that a device works on. */
typedef struct gw_flight {
    gw_arrival arrival; /* what it reads; its block is NULL for a drain */
    gw_header about;
    gw_out out[GW_MAX_PORTS];
    gw_block *slab[GW_MAX_PORTS];    /* what it writes */
    uint8_t *presence[GW_MAX_PORTS]; /* [(channels + 7) / 8] */
    gw_mark *mark;                   /* behind all that it enqueued */
} gw_flight;

struct gw_env {
    gw_node *node;
};

struct gw_node {
    char name[GW_NAME_BYTES];
    const gw_kind *kind;
    gw_conf *conf;
    void *self;
    gw_graph *graph;
    gw_plan plan;
    int64_t late_ns; /* look-ahead of all stages from the source to this one's output */
    int n_in, n_out;
    gw_input in[GW_MAX_PORTS];
    gw_output out[GW_MAX_PORTS];
    atomic_int_fast64_t first_ns; /* stream time of its first piece or block; 0 before */
    int64_t hop_index;            /* the next hop to work on: hop h is samples [h * hop, (h + 1) * hop) */
    bool hop_known;
    /* Hops up to here were lost and the outputs have not been told yet. */
    int64_t lost_until_hop;
    gw_gap_reason lost_reason;
    uint64_t lost_dq;
    /* Several inputs of live data: how long one may be missing before the others go on; 0 = for ever. */
    int64_t patience_ns;
    int64_t waiting_since_ns; /* monotonic: only some inputs have the next hop; 0 = not so */
    /* Feeds: where this node's events go, and those it listens to. */
    int n_feeds_out, n_feeds_in;
    gw_feed *feed_out[GW_MAX_FAN], *feed_in[GW_MAX_FAN];
    gw_process *process;   /* that runs this node; NULL: the file names none */
    bool here;             /* this process runs it */
    bool live;             /* its data come from a live source */
    const gw_node *origin; /* the one source, of the same process, of all its data; NULL: there are several */
    zmq_pollitem_t *item;  /* [max_items] */
    int max_items;
    int64_t opened_ns;    /* monotonic */
    bool said_waiting;    /* for another process: to send something */
    bool said_blocked;    /* ... or to take something */
    gw_timebase timebase; /* the graph's, for the links to tell; all 0 until it is known */
    gw_counters count;
    gw_meter meter;
    gw_cause blocked; /* why an output is not ready, for gw_node_wait */
    gw_mailbox mail;  /* commands to a sink */
    gw_placement place;
    bool on_device; /* its steps only enqueue: flight.c runs it */
    gw_queue *queue;
    gw_flight flight[GW_IN_FLIGHT]; /* from first_flight on, round the end, n_flights are under way */
    int first_flight, n_flights;
    pthread_t thread;
    bool thread_runs;
    gw_env env;
};

/* input.c */
size_t gw_input_bytes(const gw_input *in); /* of its buffer */
int gw_input_open(gw_input *in);
/* The next arrival, which follows the last one without overlap or hole. GW_OK: give it back by gw_input_done.
 * GW_EAGAIN, GW_EEND (sets ended), or an error. */
int gw_input_next(gw_input *in, gw_arrival *a);
int gw_input_done(gw_input *in, gw_arrival *a);
/* Takes one arrival, if there is one, into the buffer: GW_OK taken, GW_EAGAIN, GW_EEND. need_from: samples
 * before it are no longer of use. ahead: only samples, a hole stays for later. *a then says what it was; its
 * block is gone. */
int gw_input_take(gw_input *in, int64_t need_from, bool ahead, gw_arrival *a);
/* Everything before this sample has come, or is known to be a hole. */
int64_t gw_input_known(const gw_input *in);
/* Goes on without what has not come before `until`. */
void gw_input_give_up(gw_input *in, int64_t until);
bool gw_input_has(const gw_input *in, int64_t from, int64_t to); /* [from, to) is in the buffer, whole */
/* v->presence lies in the input and is good until the next view. */
void gw_input_view(const gw_input *in, int64_t from, uint32_t n, gw_view *v);
void gw_input_close(gw_input *in);

/* output.c */
enum { GW_POLL_MS = 200 };
#define GW_ALL_INPUTS ((1u << GW_MAX_PORTS) - 1)
int gw_node_open_links(gw_node *n);
/* Sleeps until a message comes to one of `inputs` (a bit each; inputs that are not wanted now may have
 * messages and must not wake us) or to a feed, or a credit to an output. GW_EPEER: nobody is left to work
 * for. */
int gw_node_wait(gw_node *n, unsigned inputs);
/* What waiting does besides: talks to the links' other ends. Who sleeps elsewhere calls it every GW_POLL_MS.
 */
int gw_node_pump(gw_node *n);
/* Sends an event to every sink that listens; waits for credit when too many are under way. */
int gw_node_emit(gw_node *n, const gw_event *e);
int gw_output_reserve(gw_node *n, gw_output *o); /* o->slab, and the credit to send it; waits */
bool gw_output_try(gw_output *o);                /* the same if that is possible at once */
int gw_output_allow(gw_node *n, gw_output *o);   /* the credit to send a slab that is already there; waits */
/* Everything up to `until` that was not sent is a hole. */
int gw_output_gap(gw_node *n, gw_output *o, int64_t until, gw_gap_reason reason, uint64_t dq);
/* Sends the reserved slab with n_samples from sample0, after the hole before it (for reason `before`) if
 * there is one. `about` gives flags, data quality and times, o->presence the channels that are there. */
int gw_output_samples(gw_node *n, gw_output *o, int64_t sample0, uint32_t n_samples, const gw_header *about,
                      gw_gap_reason before);
/* EOS of one output to its receivers, while others go on; does not wait for their BYE. */
int gw_output_end(gw_output *o);
/* EOS to every receiver at once (one may wait for what another must first let go), then their BYE. */
int gw_node_goodbye(gw_node *n);
void gw_node_close_links(gw_node *n); /* what is still open */

/* runner.c: the body of a node's thread. */
void *gw_node_run(void *node);
/* For hops.c. One step of the stage, and what came of it to the outputs. */
int gw_node_step(gw_node *n, const gw_view *view);
/* Tells the stage of a hole, or of a sender that begins anew (then without a hole, for stages only). */
int gw_node_gap(gw_node *n, int port, const gw_arrival *a);
/* Tells the outputs that the input up to GPS time `until_ns` brings nothing more. */
int gw_node_lose(gw_node *n, int64_t until_ns, gw_gap_reason reason, uint64_t dq);

/* A block as a stage sees it. */
gw_view gw_arrival_view(const gw_arrival *a);
/* Sends what a step left in *out, which lies in o->slab and o->presence, or the GAP. about: what the inputs
 * say of themselves; NULL after a drain. */
int gw_node_send(gw_node *n, gw_output *o, const gw_header *about, const gw_out *out);
/* At the first block or hole that comes: where the outputs begin. */
void gw_node_begin(gw_node *n, const gw_arrival *a);

/* Steps that may be under way at a time. */
static inline int gw_node_flights(const gw_node *n)
{
    const int most = n->plan.in_flight;
    return !n->on_device ? 1 : most > 0 && most < GW_IN_FLIGHT ? most : GW_IN_FLIGHT;
}

/* flight.c: stages on a device. Open before the stage's open; ground after its work, well or not, and before
 * anything that it used goes away; close after the stage's close. */
int gw_node_open_flights(gw_node *n);
int gw_node_run_flights(gw_node *n); /* as long as there is input, and the drain */
void gw_node_ground_flights(gw_node *n);
void gw_node_close_flights(gw_node *n);

/* hops.c. Until some input has ended; and then, after the stage has drained, the others to their end. */
int gw_node_run_hops(gw_node *n);
int gw_node_run_out(gw_node *n);
static inline int64_t gw_input_ns(const gw_input *in, int64_t sample)
{
    return gw_sample_to_ns(sample, in->spec->rate, in->spec->phase_ns);
}

/* graph_run.c, for the runner */
void *gw_graph_zmq(gw_graph *g);
uint64_t gw_graph_run_id(const gw_graph *g);
bool gw_graph_stopping(const gw_graph *g);
/* All threads meet here after open: true = go; false = somebody failed, close and leave. */
bool gw_graph_opened(gw_graph *g, bool well);
/* Keeps the first failure. Unless the graph can go on without this node, the sources are stopped. */
void gw_graph_fail(gw_graph *g, const gw_node *n, int err, bool goes_on);
void gw_graph_set_timebase(gw_graph *g, double pace, int64_t data_ns);
/* A process without a source of its own takes what the first link says, or one whose sender began anew. */
void gw_graph_adopt_timebase(gw_graph *g, const gw_timebase *t, bool anew);
bool gw_graph_knows_timebase(gw_graph *g, gw_timebase *t); /* complete, with its wall anchor */
gw_timebase gw_graph_timebase(gw_graph *g);
/* The monotonic time at which stream time `data_ns` is due; INT64_MIN without a pace. */
int64_t gw_graph_due_ns(gw_graph *g, int64_t data_ns);
int gw_graph_sleep_until(gw_graph *g, int64_t monotonic_ns); /* GW_ECANCELED when the graph is stopped */
/* Stopped, and the other processes have had their time to end the streams that come from them. */
bool gw_graph_past_grace(const gw_graph *g);
bool gw_graph_has_failed(gw_graph *g);

/* graph_credit.c, for graph.c: blocks in flight on each link, so that nothing can stall. GW_ECONFIG where the
 * file wants too few. Then the slabs for them. */
int gw_graph_fit_credits(gw_graph *g);
void gw_graph_count_slabs(gw_graph *g);
int gw_graph_make_pools(gw_graph *g);    /* of the nodes that run here */
size_t gw_node_memory(const gw_node *n); /* the host's bytes: the stage's own, buffers, slabs */
size_t gw_node_device_memory(const gw_node *n);

/* graph_copy.c, for graph.c: puts a copy between every two ends of a link that want memory of different
 * spaces. After the credits are fitted, which are then the same in every process, with a device or without.
 */
int gw_graph_add_copies(gw_graph *g);

/* Counting, in the node's thread: the clock, and the span since an earlier reading of it. */
static inline int64_t gw_node_tick(gw_node *n)
{
    if (gw_meter_tick(&n->meter))
        gw_meter_renew(&n->meter, gw_graph_timebase(n->graph));
    return n->meter.now_ns;
}
/* Stream time [from, to) has been worked off. */
static inline void gw_node_reached(gw_node *n, int64_t from_ns, int64_t to_ns)
{
    if (!atomic_load_explicit(&n->first_ns, memory_order_relaxed))
        atomic_store_explicit(&n->first_ns, from_ns, memory_order_relaxed);
    atomic_store_explicit(&n->count.data_ns, to_ns, memory_order_relaxed);
}
static inline void gw_node_stepped(gw_node *n, int64_t since_ns)
{
    gw_count_step(&n->count, gw_node_tick(n) - since_ns);
}
static inline void gw_node_waited(gw_node *n, gw_cause cause, int64_t since_ns)
{
    gw_count_add(&n->count.waits[cause], 1);
    gw_count_add(&n->count.wait_ns[cause], (uint64_t)(gw_node_tick(n) - since_ns));
}

enum { GW_MAX_NODES = 256 };

struct gw_graph {
    gw_conf_file *file;
    gw_processes processes;
    gw_process *chosen; /* this process; NULL: all parts run here */
    int n_here;         /* nodes that run here */
    bool source_here;   /* and one of them is a source, which sets the timebase */
    gw_guard *guard;
    gw_feed *feed[GW_MAX_NODES];
    int n_feeds, n_routes;
    gw_node *node[GW_MAX_NODES];
    int n_nodes;
    void *zmq;
    uint64_t run_id;
    bool paced; /* some source keeps time with the wall clock */
    gw_run_conf run;
    const gw_device *device; /* NULL: none, or not to be used */
    int64_t started_ns;      /* monotonic */
    bool parallel;           /* gw_parallel was started */
    atomic_bool stopping;
    atomic_int_fast64_t stopped_ns; /* monotonic; 0 = not */
    int running;                    /* threads that have not returned */
    pthread_mutex_t lock;
    pthread_cond_t changed;
    /* under the lock */
    int opened;
    bool open_failed, timebase_set;
    gw_timebase timebase;
    int64_t anchor_monotonic_ns; /* when its anchor_wall_ns was taken */
    int err;
    char err_text[1024];
};

#endif
