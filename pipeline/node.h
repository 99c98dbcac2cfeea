/* SPDX-License-Identifier: GPL-3.0-or-later
 * One stage of a running graph: shared by graph.c, which makes nodes and wires them, input.c, which cuts
 * streams into hops, and runner.c, which runs each node in its own thread. Nobody else includes this. */
#ifndef GW_NODE_H
#define GW_NODE_H

#include "pipeline/feed.h"
#include "pipeline/link.h"
#include "pipeline/stage.h"

#include <pthread.h>

enum { GW_MAX_FAN = 16, GW_MAX_META = 64 };

/* Counted by the node's thread, read by anybody. */
typedef struct gw_counters {
    atomic_uint_fast64_t events, bad_inputs;
    atomic_int_fast64_t data_ns; /* stream time reached */
} gw_counters;

/* What a block said about its samples, kept until the last of them has left the buffer. */
typedef struct gw_meta {
    int64_t end; /* sample after the block's last */
    uint64_t dq;
    uint32_t flags;
    int64_t due_ns, ingest_ns;
} gw_meta;

/* An input: a link, and the buffer that turns blocks into hops with history. */
typedef struct gw_input {
    const gw_spec *spec; /* the producer's */
    char address[64];
    int credit;
    gw_on_full on_full;
    gw_receiver *link;
    uint32_t hop, history;
    bool ended, started;
    int64_t end;     /* everything before this sample has come, as samples or as a hole */
    int64_t lo, hi;  /* the buffer holds [lo, hi) without a hole */
    int64_t base;    /* sample number of the buffer's first place */
    size_t capacity; /* samples a channel */
    char *buffer;    /* [channel][capacity] */
    gw_meta meta[GW_MAX_META];
    int n_meta;
    gw_gap_reason reason; /* of the latest hole */
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
    } link[GW_MAX_FAN];
    gw_pool *pool;
    gw_block *slab; /* reserved for the coming step */
    bool started;
    int64_t end; /* sent until here */
    uint64_t seq;
    atomic_uint_fast64_t gap_samples[GW_GAP_REASON_COUNT]; /* sent as GAPs, by reason */
} gw_output;

typedef struct gw_graph gw_graph;

typedef struct gw_node gw_node;

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
    atomic_int_fast64_t first_ns; /* a source's: stream time of its first piece; 0 before */
    int64_t hop_index;            /* the next hop to work on: hop h is samples [h * hop, (h + 1) * hop) */
    bool hop_known;
    /* Hops up to here were lost and the outputs have not been told yet. */
    int64_t lost_until_hop;
    gw_gap_reason lost_reason;
    uint64_t lost_dq;
    /* Feeds: where this node's events go, and the one it listens to. */
    int n_feeds_out;
    const char *feed_out_address[GW_MAX_FAN];
    void *feed_out[GW_MAX_FAN];
    char feed_in_address[64];
    void *feed_in;
    int feeds_in; /* producers that have not ended yet */
    gw_counters count;
    pthread_t thread;
    bool thread_runs;
    gw_env env;
};

/* input.c */
int gw_input_open(gw_input *in, void *zmq);
/* The next message as it is, checked to follow the last one without overlap or hole. GW_OK: the caller owns
 * it (gw_receiver_done). GW_EAGAIN, GW_EEND (sets ended), or an error. */
int gw_input_next(gw_input *in, gw_block **b);
/* Takes one message if there is one: GW_OK taken, GW_EAGAIN, GW_EEND. need_from: samples before it are no
 * longer of use. On a hole *hole has samples > 0. */
int gw_input_take(gw_input *in, int64_t need_from, gw_hole *hole);
bool gw_input_has(const gw_input *in, int64_t from, int64_t to); /* [from, to) is in the buffer, whole */
void gw_input_view(const gw_input *in, int64_t from, uint32_t n, gw_view *v);
void gw_input_close(gw_input *in);

/* output.c */
enum { GW_POLL_MS = 200 };
#define GW_ALL_INPUTS ((1u << GW_MAX_PORTS) - 1)
/* Sleeps until a message comes to one of `inputs` (a bit each; inputs that are not wanted now may have
 * messages and must not wake us) or to the feed, or a credit to an output. GW_EPEER: nobody is left to work
 * for. */
int gw_node_wait(gw_node *n, unsigned inputs);
int gw_output_reserve(gw_node *n, gw_output *o); /* o->slab, and the credit to send it; waits */
/* Everything up to `until` that was not sent is a hole. */
int gw_output_gap(gw_node *n, gw_output *o, int64_t until, gw_gap_reason reason, uint64_t dq);
/* Sends the reserved slab with n_samples from sample0, after the hole before it (for reason `before`) if
 * there is one. `about` gives flags, data quality and times. */
int gw_output_samples(gw_node *n, gw_output *o, int64_t sample0, uint32_t n_samples, const gw_header *about,
                      gw_gap_reason before);
/* EOS to every receiver at once (one may wait for what another must first let go), then their BYE. */
int gw_node_goodbye(gw_node *n);

/* runner.c: the body of a node's thread. */
void *gw_node_run(void *node);

/* graph_run.c, for the runner */
void *gw_graph_zmq(gw_graph *g);
uint64_t gw_graph_run_id(const gw_graph *g);
bool gw_graph_stopping(const gw_graph *g);
/* All threads meet here after open: true = go; false = somebody failed, close and leave. */
bool gw_graph_opened(gw_graph *g, bool well);
/* Keeps the first failure. Unless the graph can go on without this node, the sources are stopped. */
void gw_graph_fail(gw_graph *g, const gw_node *n, int err, bool goes_on);
void gw_graph_set_timebase(gw_graph *g, double pace, int64_t data_ns);
gw_timebase gw_graph_timebase(gw_graph *g);
int gw_graph_sleep_until(gw_graph *g, int64_t wall_ns); /* GW_ECANCELED when the graph is stopped */

enum { GW_MAX_NODES = 256 };

struct gw_graph {
    gw_conf_file *file;
    gw_node *node[GW_MAX_NODES];
    int n_nodes;
    void *zmq;
    uint64_t run_id;
    bool paced; /* some source keeps time with the wall clock */
    atomic_bool stopping;
    int running; /* threads that have not returned */
    pthread_mutex_t lock;
    pthread_cond_t changed;
    /* under the lock */
    int opened;
    bool open_failed, timebase_set;
    gw_timebase timebase;
    int err;
    char err_text[1024];
};

#endif
