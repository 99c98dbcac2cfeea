/* SPDX-License-Identifier: GPL-3.0-or-later
 * What a source, a stage or a sink is: one table of functions. The runner (runner.c), written once, does
 * threads, credits, alignment, history, gaps, counting and errors; so a stage is only its own work.
 *
 * Life: configure (its YAML), plan (shapes only, no hardware), open (allocate everything, in its own
 * thread), then next / step / event / gap as data comes, drain at the end of the stream, close always
 * (also after a failed configure, plan or open: state is zeroed before configure).
 *
 * Every input stream is cut into hops on the absolute sample grid: a hop begins at a multiple of `hop`
 * samples counted from GPS 0 + phase, whatever the block length. step() sees one hop of every input at
 * the same stream time, each with `history` samples before it. Where any input has a hole (but for those that
 * plan's may_lack names), the hop is lost for the stage: gap() is called once per hole (state that spans time
 * must be forgotten), and step() resumes when hop and history are whole again.
 *
 * On a device (plan's on_device) views and outs lie in the device's memory; where the neighbours' do not, the
 * graph copies in between. step() only enqueues on gw_env_queue(): what it reads and writes stays put until
 * finish(), which comes when all that the step enqueued is done; then the block is sealed and sent. So
 * whoever receives a block of the device may read it at once. Several steps may be under way, the first in is
 * the first finished; gap() and drain() are called when there are none, and drain() is followed by a finish()
 * like a step. If the device fails, finish() is not called. */
#ifndef GW_STAGE_H
#define GW_STAGE_H

#include "pipeline/block.h"
#include "pipeline/config.h"
#include "pipeline/event.h"

enum {
    GW_MAX_PORTS = 16,
    GW_IN_FLIGHT = 3 /* steps of a stage on the device that may be enqueued and not finished, at most */
};

typedef enum gw_role { GW_SOURCE, GW_STAGE, GW_SINK } gw_role;

/* What a source's data are: only the first are of the sky of now. */
typedef enum gw_origin { GW_LIVE, GW_ARCHIVED, GW_SIMULATED } gw_origin;

/* What the runner lends to a running stage. Use it only in the stage's own calls. */
typedef struct gw_env gw_env;
const char *gw_env_name(const gw_env *env); /* "whiten.H1" */
uint64_t gw_env_run_id(const gw_env *env);
/* Sources: the first sample of the graph is at `data_ns`. Sets the timebase; later calls change nothing. */
void gw_env_start(gw_env *env, double pace, int64_t data_ns);
gw_timebase gw_env_timebase(const gw_env *env);
/* Waits until stream time `data_ns` is due (at once when pace is 0). GW_ECANCELED when stopped. */
int gw_env_wait_until(gw_env *env, int64_t data_ns);
/* Sources: of the time in next(), so much was spent waiting for something to come in (counted as such). */
void gw_env_waited(gw_env *env, int64_t ns);
/* Sends an event to every sink that listens; waits where one has not taken the last 128, so that none is
 * lost. Only where makes_events is set. */
int gw_env_emit(gw_env *env, const gw_event *e);
/* Says to every sink that listens that no event of this stage with told_ns at or before this is still to
 * come; and whether what lies between the last call's told_ns and this one's was searched. A stage that makes
 * events does so several times a second of stream time, and where it begins and ends to search. */
int gw_env_reached(gw_env *env, int64_t told_ns, bool searched);
/* Look-ahead of all stages from the sources to this one's output. */
int64_t gw_env_late_ns(const gw_env *env);
/* Sets a named number that `gwstream top` and the end of a run show: at most GW_MAX_GAUGES a node, `name`
 * such as "bns_range_mpc". Any step may; costs next to nothing. Does nothing without an env (tests). */
void gw_env_gauge(gw_env *env, const char *name, double value);
/* Stages on the device: the device, and a queue of the stage's own. NULL elsewhere. Good until close() ends.
 */
const gw_device *gw_env_device(const gw_env *env);
gw_queue *gw_env_queue(const gw_env *env);
/* Says that the input is bad but work goes on: logs one line; the run will end with exit status 2. */
void gw_env_bad_input(gw_env *env, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* plan(): inputs are given; the stage says the rest. */
typedef struct gw_plan {
    /* given */
    const char *name;
    int n_in;
    const gw_spec *in;         /* [n_in] */
    bool has_events_in;        /* an event feed is connected (sinks) */
    int n_branches;            /* stages whose events come in (sinks) ... */
    const char *const *branch; /* ... and their names, in the order of `from` */
    int n_backgrounds;         /* the same of stages that measure a background */
    const char *const *background;
    gw_origin origin;        /* the least real of the graph's sources */
    bool publish;            /* the run was told to let replayed and simulated events leave this host */
    const gw_device *device; /* NULL: there is none, or it may not be used */
    int threads;             /* that gw_parallel will have */
    /* to be said */
    uint32_t hop[GW_MAX_PORTS];     /* samples of input i a step; 0 = blocks as they come (zero copy) */
    uint32_t history[GW_MAX_PORTS]; /* samples of input i before the hop */
    bool may_lack[GW_MAX_PORTS];    /* with hops, not input 0: where input i is not whole the step comes all
                                       the same, its view with data NULL; gap() does not speak of it. Its own
                                       hop 0: it is of no use, and always missing */
    int64_t keep_ns[GW_MAX_PORTS];  /* sinks, and stages with hop 0: references (gw_block_ref on a view's
                                       block) that this much of input i may be under at any time, beyond
                                       the block at hand; what a stage keeps it lets go in drain */
    int n_out;
    gw_spec out[GW_MAX_PORTS]; /* zeroed; name and stream_id are filled by the graph afterwards; a
                                  per-stream stage's out[0].detector is copied from its input if empty */
    int64_t delay_ns;          /* look-ahead: an output sample needs input up to this much later */
    size_t memory_bytes;       /* that open() will allocate, roughly */
    bool on_device;            /* stages with one input and hop 0, where a device is given: see above */
    int in_flight;             /* on the device: at most so many steps under way; 0 = GW_IN_FLIGHT */
    size_t device_bytes;       /* that open() will allocate on the device, roughly */
    char note[200];            /* one more line for `gwstream check`; "" = none */
    char unfit[400];           /* why part of what the YAML says cannot be done, though the stage goes on
                                  without it: `gwstream check` says it and ends with status 2; "" = all can */
} gw_plan;

/* A read-only view of one hop of one input with its history before it. */
typedef struct gw_view {
    const void *data;   /* dtype of the spec; channel c's first hop sample is data[c * stride]; its history
                           lies at negative indices down to -history. NULL: it is missing (may_lack) */
    size_t stride;      /* samples from channel to channel */
    gw_space space;     /* where data lies */
    uint32_t n_samples; /* the hop (with hop 0: the block's length) */
    uint32_t n_channels;
    int64_t sample0;           /* of the hop's first sample */
    uint64_t dq;               /* holds for every sample of the hop */
    uint32_t flags;            /* GW_FLAG_INJECTION, GW_FLAG_REPLAY if set on any sample of the hop */
    uint64_t networks;         /* that cleaned the newest samples of the hop (gw_header) */
    const uint8_t *presence;   /* a bit a channel (gw_present), 1 = present in all of hop and history; NULL =
                                  all. Only kinds with takes_presence ever see it set */
    gw_block *block;           /* sinks, and stages with hop 0: the block itself; they may keep it by
                                  gw_block_ref within what plan's keep_ns allows */
    int64_t due_ns, ingest_ns; /* of the newest block in the hop */
} gw_view;

/* What a step hands on. The runner lends one writable slab per output; the stage fills `data` (packed:
 * channels n_samples apart), sample0 and n_samples, and leaves n_samples 0 when it has nothing yet.
 * GAPs before and after are the runner's work: it compares sample0 with the end of what was sent. */
typedef struct gw_out {
    void *data;
    gw_space space;            /* where data lies */
    int slot;                  /* on a device: 0 .. GW_IN_FLIGHT - 1, which no other step under way has */
    uint32_t capacity_samples; /* per channel */
    uint32_t n_samples;
    int64_t sample0;
    bool lost;            /* n_samples is 0 and this hop's output will never come ... */
    int64_t lost_until;   /* ... so everything before this output sample is a GAP ... */
    gw_gap_reason reason; /* ... for this reason */
    uint64_t dq;          /* preset to the AND of the inputs' */
    uint32_t flags;       /* preset to the OR of the inputs' */
    uint64_t networks;    /* preset to the XOR of the inputs' */
    uint8_t *presence;    /* [(channels + 7) / 8], preset to all ones: clear the bit of an absent channel */
} gw_out;

/* A source's next piece. */
typedef struct gw_piece {
    void *data;                /* [channel][capacity]: pack channels n_samples apart */
    uint32_t capacity_samples; /* fill at most this many, and do not cross a multiple of block_samples */
    uint32_t n_samples;        /* filled; or 0 with gap_samples */
    uint64_t gap_samples;      /* a hole instead of samples */
    gw_gap_reason reason;
    int64_t sample0;
    uint64_t dq;
    uint32_t flags;
    uint64_t networks;
    uint8_t *presence; /* [(channels + 7) / 8], preset to all ones: clear the bit of an absent channel */
} gw_piece;

/* A hole on input `port`: [sample0, sample0 + samples). */
typedef struct gw_hole {
    int64_t sample0;
    uint64_t samples;
    gw_gap_reason reason;
    uint64_t dq;
} gw_hole;

typedef struct gw_kind {
    const char *kind; /* the word in YAML */
    const char *help; /* one line for --help and docs */
    gw_role role;
    gw_origin origin;    /* sources */
    bool per_stream;     /* one instance for each incoming stream, with one input and one output each */
    bool takes_events;   /* a sink that listens to event feeds */
    bool takes_presence; /* minds absent channels itself; without it a hop that lacks a channel is a hole */
    bool makes_events;
    bool makes_background; /* with makes_events: of phase GW_PHASE_BACKGROUND, and no others */
    bool side_branch; /* a stage off the search's path: its links drop, as a sink's do, where a source keeps
                         time */
    size_t state_size;
    int (*configure)(void *self, gw_conf *conf);
    int (*plan)(void *self, gw_plan *plan);
    int (*open)(void *self, gw_env *env);
    /* Sources: fill the next piece of output `port`. The runner asks the port whose next block is
     * complete first. GW_EEND when this port is done. May wait with gw_env_wait_until. GW_EAGAIN, after a
     * wait of at most 50 ms: nothing for this port yet; other ports may be asked before it is asked again. */
    int (*next)(void *self, int port, gw_piece *piece);
    /* Stages: one aligned hop, in[n_in] -> out[n_out]. Neither sleeps, allocates nor logs per hop. */
    int (*step)(void *self, const gw_view *in, gw_out *out);
    /* Optional, stages on the device: what only the host can do once a step's work is done, whether it left
     * samples or not. out[n_out] is as step() left it (the same slot); its data is the device's. It may still
     * change dq, flags, presence, and lose the block: n_samples 0, lost as in step(). */
    int (*finish)(void *self, gw_out *out);
    /* Sinks: one block of input `port` as it comes (no hops, no alignment between ports). May block. */
    int (*take)(void *self, int port, const gw_view *in);
    /* Sinks with takes_events. */
    int (*event)(void *self, const gw_event *e);
    /* Optional, sinks with takes_events: an event of phase GW_PHASE_BACKGROUND. */
    int (*background)(void *self, const gw_event *e);
    /* Optional, sinks with takes_events: an event of phase GW_PHASE_DOUBT. */
    int (*doubt)(void *self, const gw_event *e);
    /* Optional, sinks with takes_events: what a stage said by gw_env_reached. */
    int (*reached)(void *self, const char *stage, int64_t told_ns, bool searched);
    /* Optional. Stages: forget what spans time, once per hole of input `port`, and, with a hole of no samples,
     * when the sender in another process has begun anew. Sinks: every hole of every
     * input. */
    int (*gap)(void *self, int port, const gw_hole *hole);
    /* Optional, sinks: nothing has come just now; several times a second as long as that is so. */
    int (*idle)(void *self);
    /* Optional, at the end of the stream. Stages: out[n_out] as in step, called again until nothing is
     * filled. Sinks: out is NULL; flush. */
    int (*drain)(void *self, gw_out *out);
    /* Optional, sinks: a command from outside (`gwstream dump`), as "dump SECONDS PATH", between two blocks
     * and in the sink's own thread. Writes one line of answer, without a newline; what it returns says
     * whether it is an error. */
    int (*command)(void *self, const char *words, char *answer, size_t n);
    void (*close)(void *self); /* optional */
} gw_kind;

/* The one list of all kinds (kinds.c), ended by NULL. */
extern const gw_kind *const gw_kinds[];
const gw_kind *gw_kind_find(const char *word);

#endif
