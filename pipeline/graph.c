/* SPDX-License-Identifier: GPL-3.0-or-later
 * From YAML to wired nodes: reads the parts, puts them in an order in which everybody comes after those it
 * takes from, makes one node for each part (or for each stream of a per-stream kind), plans it, and
 * gives every link its address, credit and slabs. Running is graph_run.c. */
#include "pipeline/graph.h"
#include "pipeline/node.h"
#include "pipeline/parallel.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <zmq.h>

__extension__ typedef unsigned __int128 uint128;

/* A part of the file: what the user named. */
typedef struct part {
    const char *name;
    gw_conf *conf;
    const gw_kind *kind;
    gw_conf *from;           /* scalar or list; NULL for sources */
    gw_process *process;     /* that runs it; NULL: the file names none */
    gw_route_wish wish;      /* for the links it takes from */
    int first_node, n_nodes; /* its nodes, once made */
    bool live;               /* a source that is fed at the pace of the world */
    bool made, visiting;
} part;

typedef struct builder {
    gw_graph *g;
    const char *file;
    part *part;
    int n_parts;
    gw_origin origin;
} builder;

static bool publish_all; /* see gw_graph_set_publish */

static bool name_is_good(const char *name)
{
    size_t n = strlen(name);
    return n > 0 && n < 32 &&
           strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-") == n;
}

/* Fed from outside, at the pace of the world. */
static bool is_live(const gw_kind *k)
{
    return strcmp(k->kind, "live") == 0;
}

static int read_parts(builder *b, const char *section, gw_role role)
{
    gw_conf *map = gw_conf_find(gw_conf_root(b->g->file), section);
    if (!map)
        return GW_OK;
    if (gw_conf_kind(map) != GW_CONF_MAP)
        return gw_conf_fail(map, "'%s' wants a map of name: {kind: ...}", section);
    for (int i = 0; i < gw_conf_count(map); i++) {
        const char *name = gw_conf_key(map, i), *word = NULL;
        gw_conf *conf = gw_conf_item(map, i);
        if (!name_is_good(name))
            return gw_conf_fail(conf, "'%s' is no name: letters, digits, '_' and '-', at most 31", name);
        if (gw_conf_kind(conf) != GW_CONF_MAP)
            return gw_conf_fail(conf, "'%s' wants a map: {kind: ...}", name);
        for (int k = 0; k < b->n_parts; k++)
            if (strcmp(b->part[k].name, name) == 0)
                return gw_conf_fail(conf, "the name '%s' is taken", name);
        gw_conf *kind_conf;
        GW_TRY(gw_conf_need(conf, "kind", &kind_conf));
        GW_TRY(gw_conf_text(kind_conf, &word));
        const gw_kind *kind = gw_kind_find(word);
        if (!kind || kind->role != role) {
            char known[256] = "";
            for (int k = 0; gw_kinds[k]; k++)
                if (gw_kinds[k]->role == role)
                    snprintf(known + strlen(known), sizeof known - strlen(known), "%s%s",
                             known[0] ? ", " : "", gw_kinds[k]->kind);
            return gw_conf_fail(kind_conf, "no kind '%s' among the %s (%s)", word, section, known);
        }
        part *list = realloc(b->part, (size_t)(b->n_parts + 1) * sizeof *list);
        if (!list)
            return gw_fail(GW_ENOMEM, "graph");
        b->part = list;
        b->part[b->n_parts] = (part){.name = name, .conf = conf, .kind = kind};
        GW_TRY(gw_process_of(&b->g->processes, conf, name, &b->part[b->n_parts].process));
        if (role != GW_SOURCE) {
            GW_TRY(gw_conf_need(conf, "from", &b->part[b->n_parts].from));
            GW_TRY(gw_route_wish_read(&b->part[b->n_parts].wish, conf));
        } else {
            double pace = is_live(kind) ? 1 : 0;
            GW_TRY(gw_conf_get_double(conf, "pace", 0, 1e6, &pace));
            b->g->paced |= pace > 0;
            b->part[b->n_parts].live = is_live(kind) && pace > 0;
        }
        b->n_parts++;
    }
    return GW_OK;
}

/* -- who takes from whom ----------------------------------------------------------------------------- */

static int from_count(const part *p)
{
    return !p->from ? 0 : gw_conf_kind(p->from) == GW_CONF_LIST ? gw_conf_count(p->from) : 1;
}

static int from_item(const part *p, int i, const char **name, gw_conf **where)
{
    *where = gw_conf_kind(p->from) == GW_CONF_LIST ? gw_conf_item(p->from, i) : p->from;
    return gw_conf_text(*where, name);
}

/* The part that `name` ("sky" or "sky.H1") belongs to. */
static part *find_part(builder *b, const char *name)
{
    size_t n = strcspn(name, ".");
    for (int i = 0; i < b->n_parts; i++)
        if (strlen(b->part[i].name) == n && memcmp(b->part[i].name, name, n) == 0)
            return &b->part[i];
    return NULL;
}

typedef struct sources {
    struct {
        gw_node *node;
        int port;
    } stream[GW_MAX_PORTS];
    int n_streams;
    gw_node *feed[GW_MAX_FAN];
    int n_feeds;
} sources;

static bool wants_streams(const gw_kind *k)
{
    return k->role == GW_STAGE || k->take;
}

static int collect_from(builder *b, part *p, const char *name, gw_conf *where, sources *s)
{
    part *q = find_part(b, name);
    if (!q)
        return gw_conf_fail(where, "'%s' takes from '%s', which does not exist", p->name, name);
    const char *stream = strchr(name, '.') ? name : NULL;
    int taken = 0;
    for (int i = q->first_node; i < q->first_node + q->n_nodes; i++) {
        gw_node *n = b->g->node[i];
        for (int port = 0; wants_streams(p->kind) && port < n->n_out; port++) {
            if (stream && strcmp(stream, n->out[port].spec.name) != 0)
                continue;
            if (s->n_streams == GW_MAX_PORTS)
                return gw_conf_fail(where, "'%s' takes more than %d streams", p->name, GW_MAX_PORTS);
            s->stream[s->n_streams].node = n;
            s->stream[s->n_streams++].port = port;
            taken++;
        }
        if (p->kind->takes_events && n->kind->makes_events && !stream) {
            if (s->n_feeds == GW_MAX_FAN)
                return gw_conf_fail(where, "'%s' listens to more than %d parts", p->name, GW_MAX_FAN);
            s->feed[s->n_feeds++] = n;
            taken++;
        }
    }
    if (!taken)
        return gw_conf_fail(where, "'%s' (%s) can take nothing from '%s'", p->name, p->kind->kind, name);
    return GW_OK;
}

/* -- making nodes ------------------------------------------------------------------------------------ */

static int add_node(builder *b, part *p, const char *suffix, gw_node **out)
{
    gw_graph *g = b->g;
    if (g->n_nodes == GW_MAX_NODES)
        return gw_fail(GW_ENOTSUP, "more than %d stages", GW_MAX_NODES);
    gw_node *n = calloc(1, sizeof *n);
    void *self = calloc(1, p->kind->state_size ? p->kind->state_size : 1);
    if (!n || !self) {
        free(n);
        free(self);
        return gw_fail(GW_ENOMEM, "stage %s", p->name);
    }
    snprintf(n->name, sizeof n->name, "%s%s%s", p->name, suffix ? "." : "", suffix ? suffix : "");
    n->kind = p->kind;
    n->conf = p->conf;
    n->self = self;
    n->graph = g;
    n->process = p->process;
    n->here = true;
    n->live = p->live;
    n->origin = p->kind->role == GW_SOURCE ? n : NULL;
    g->node[g->n_nodes++] = n;
    p->n_nodes++;
    *out = n;
    return GW_OK;
}

static int connect_stream(builder *b, gw_node *from, int port, gw_node *to, part *p, int64_t credit,
                          gw_on_full on_full)
{
    gw_output *o = &from->out[port];
    if (o->n_links == GW_MAX_FAN)
        return gw_fail(GW_ENOTSUP, "stream %s feeds more than %d stages", o->spec.name, GW_MAX_FAN);
    gw_input *in = &to->in[to->n_in++];
    in->spec = &o->spec;
    in->node = to;
    in->from = from;
    in->credit_given = credit > 0;
    if (!credit) {
        /* Where blocks are dropped, two seconds of them: a sink that writes or draws is late now and then. */
        const int64_t two_seconds = 2 * (int64_t)o->spec.rate.num / o->spec.rate.den / o->spec.block_samples;
        credit = on_full == GW_DROP && two_seconds > 8 ? (two_seconds < 256 ? two_seconds : 256) : 8;
    }
    in->credit = (int)credit;
    in->on_full = on_full;
    to->live |= from->live;
    const bool same = from->process == to->process && (to->n_in == 1 || to->origin == from->origin);
    to->origin = same ? from->origin : NULL;
    char what[2 * GW_NAME_BYTES + 16];
    snprintf(what, sizeof what, "%s -> %s", o->spec.name, to->name);
    GW_TRY(gw_route_decide(&in->route, from->process, to->process, &p->wish, b->g->n_routes++,
                           o->spec.n_channels, b->file, what));
    o->link[o->n_links++].to = in;
    return GW_OK;
}

static int connect_feed(builder *b, gw_node *from, gw_node *to, part *p)
{
    gw_graph *g = b->g;
    if (from->n_feeds_out == GW_MAX_FAN)
        return gw_fail(GW_ENOTSUP, "%s feeds more than %d sinks", from->name, GW_MAX_FAN);
    if (g->n_feeds == GW_MAX_NODES)
        return gw_fail(GW_ENOTSUP, "more than %d event feeds", GW_MAX_NODES);
    gw_feed *f = calloc(1, sizeof *f);
    if (!f)
        return gw_fail(GW_ENOMEM, "feed of %s", from->name);
    g->feed[g->n_feeds++] = f;
    f->from = from;
    f->to = to;
    gw_feed_spec(&f->spec, from->name);
    char what[2 * GW_NAME_BYTES + 16];
    snprintf(what, sizeof what, "%s => %s", f->spec.name, to->name);
    GW_TRY(gw_route_decide(&f->route, from->process, to->process, &p->wish, g->n_routes++, 1, b->file, what));
    from->feed_out[from->n_feeds_out++] = f;
    to->feed_in[to->n_feeds_in++] = f;
    return GW_OK;
}

/* "sky.H1": the part's name and what the stage called its output, or the output's detector. */
static void name_output(gw_node *n, int port, uint32_t stream_id)
{
    gw_spec *s = &n->out[port].spec;
    const char *suffix = s->name[0] ? s->name : s->detector;
    char name[GW_NAME_BYTES];
    if (suffix[0] && !n->kind->per_stream)
        snprintf(name, sizeof name, "%.31s.%.31s", n->name, suffix);
    else
        snprintf(name, sizeof name, "%s", n->name);
    memcpy(s->name, name, sizeof name);
    s->stream_id = stream_id;
}

static int check_hops(const gw_node *n)
{
    const gw_input *a = &n->in[0];
    for (int i = 1; i < n->n_in && n->kind->role == GW_STAGE; i++) {
        const gw_input *in = &n->in[i];
        if (in->may_lack && !in->hop)
            continue;
        if (in->spec->phase_ns != a->spec->phase_ns)
            return gw_fail(GW_EMISMATCH, "%s: %s and %s count their samples from different instants", n->name,
                           a->spec->name, in->spec->name);
        /* equal hop durations: hop_a / rate_a == hop_i / rate_i, exactly */
        if ((uint128)a->hop * a->spec->rate.den * in->spec->rate.num !=
            (uint128)in->hop * in->spec->rate.den * a->spec->rate.num)
            return gw_fail(GW_EBUG, "%s: the hops of %s and %s differ in time", n->name, a->spec->name,
                           in->spec->name);
        if (!in->hop)
            return gw_fail(GW_EBUG, "%s: several inputs want hops", n->name);
    }
    return GW_OK;
}

static int plan_node(builder *b, gw_node *n)
{
    gw_plan *p = &n->plan;
    gw_spec *in = calloc(n->n_in ? (size_t)n->n_in : 1, sizeof *in);
    if (!in)
        return gw_fail(GW_ENOMEM, "%s", n->name);
    for (int i = 0; i < n->n_in; i++)
        in[i] = *n->in[i].spec; /* borrowed: the channel names stay the producer's */
    p->name = n->name;
    p->n_in = n->n_in;
    p->in = in;
    p->has_events_in = n->n_feeds_in > 0;
    const char *branch[GW_MAX_FAN], *background[GW_MAX_FAN];
    for (int i = 0; i < n->n_feeds_in; i++) {
        const gw_node *from = n->feed_in[i]->from;
        if (from->kind->makes_background)
            background[p->n_backgrounds++] = from->name;
        else if (from->kind->role == GW_STAGE)
            branch[p->n_branches++] = from->name;
    }
    p->branch = branch;
    p->background = background;
    p->origin = b->origin;
    p->publish = publish_all;
    p->device = b->g->device;
    p->threads = gw_parallel_planned(b->g->run.threads);
    int err = n->kind->plan ? n->kind->plan(n->self, p) : GW_OK;
    p->in = NULL;
    p->branch = p->background = NULL;
    for (int i = 0; i < n->n_in; i++) {
        gw_input *k = &n->in[i];
        k->hop = p->hop[i];
        k->history = p->history[i];
        k->may_lack = i > 0 && p->may_lack[i];
        const int64_t block_ns = gw_sample_to_ns(k->spec->block_samples, k->spec->rate, 0);
        if (!k->hop && p->keep_ns[i] > 0)
            k->keep = (int)((p->keep_ns[i] + block_ns - 1) / block_ns) + 1;
        if (n->patience_ns)
            k->ahead =
                (uint32_t)gw_sample_at_or_after(n->patience_ns, k->spec->rate, 0) + k->spec->block_samples;
    }
    n->n_out = n->kind->role == GW_SINK ? 0 : p->n_out;
    for (int o = 0; o < n->n_out; o++) {
        gw_output *out = &n->out[o];
        out->spec = p->out[o];
        out->space = p->on_device ? GW_SPACE_DEVICE : GW_SPACE_HOST;
        if (n->kind->per_stream && !out->spec.detector[0])
            memcpy(out->spec.detector, in[0].detector, sizeof out->spec.detector);
        name_output(n, o, (uint32_t)(b->g->n_nodes * GW_MAX_PORTS + o));
    }
    free(in);
    if (err != GW_OK)
        return gw_fail_at(err, "%s", n->name);
    n->on_device = p->on_device;
    if (n->on_device &&
        (!p->device || n->kind->role != GW_STAGE || n->n_in != 1 || p->hop[0] || p->history[0]))
        return gw_fail(GW_EBUG, "%s: on a device a stage takes one stream, in blocks as they come", n->name);
    for (int o = 0; o < n->n_out; o++) {
        const gw_spec *s = &n->out[o].spec;
        if (!s->rate.num || !s->rate.den || !s->n_channels || !s->block_samples || !gw_dtype_bytes(s->dtype))
            return gw_fail(GW_EBUG, "%s: plan left stream %s without a shape", n->name, s->name);
        if (gw_spec_slab_bytes(s) > UINT32_MAX)
            return gw_fail(GW_ERANGE,
                           "%s: a block of %s would be %.1f GiB, at most 4 are possible; make it shorter",
                           n->name, s->name, (double)gw_spec_slab_bytes(s) / (1 << 30));
    }
    return check_hops(n);
}

/* One node of part p with these inputs. */
static int make_node(builder *b, part *p, const char *suffix, const sources *s)
{
    gw_node *n = NULL;
    GW_TRY(add_node(b, p, suffix, &n));
    int64_t credit = 0;
    const bool side = p->kind->role == GW_SINK || p->kind->side_branch;
    int on_full = side && b->g->paced ? GW_DROP : GW_WAIT;
    if (wants_streams(p->kind) && p->kind->role != GW_SOURCE) {
        static const char *const words[] = {"wait", "drop", NULL};
        GW_TRY(gw_conf_get_int(p->conf, "credit", 1, 1024, &credit));
        GW_TRY(gw_conf_get_choice(p->conf, "on_full", words, &on_full));
    }
    for (int i = 0; i < s->n_streams; i++)
        GW_TRY(connect_stream(b, s->stream[i].node, s->stream[i].port, n, p, credit, (gw_on_full)on_full));
    for (int i = 0; i < s->n_feeds; i++)
        GW_TRY(connect_feed(b, s->feed[i], n, p));
    if (p->kind->role == GW_STAGE && n->n_in > 1) {
        /* One live source keeps its streams together itself, and says there how long it waits. */
        n->patience_ns = n->live && !n->origin ? GW_SECOND_NS / 2 : 0;
        GW_TRY(gw_conf_get_span_ns(p->conf, "patience", &n->patience_ns));
    }
    GW_TRY(gw_placement_read(p->conf, &n->place));
    if (n->kind->configure) {
        int err = n->kind->configure(n->self, p->conf);
        if (err != GW_OK)
            return err;
    }
    char what[GW_NAME_BYTES];
    snprintf(what, sizeof what, "%.31s (%.24s)", p->name, p->kind->kind);
    GW_TRY(gw_conf_done(p->conf, what));
    return plan_node(b, n);
}

static int make_part(builder *b, part *p)
{
    if (p->made)
        return GW_OK;
    if (p->visiting)
        return gw_conf_fail(p->conf, "'%s' takes from itself, in a circle", p->name);
    p->visiting = true;
    sources s = {.n_streams = 0};
    for (int i = 0; i < from_count(p); i++) {
        const char *name;
        gw_conf *where;
        GW_TRY(from_item(p, i, &name, &where));
        part *q = find_part(b, name);
        if (q && q->kind->role == GW_SINK)
            return gw_conf_fail(where, "'%s' is a sink: nothing can be taken from it", name);
        if (q)
            GW_TRY(make_part(b, q));
        GW_TRY(collect_from(b, p, name, where, &s));
    }
    p->first_node = b->g->n_nodes;
    p->made = true;
    if (!p->kind->per_stream)
        return make_node(b, p, NULL, &s);
    for (int i = 0; i < s.n_streams; i++) {
        sources one = {.n_streams = 1};
        one.stream[0] = s.stream[i];
        const char *stream = s.stream[i].node->out[s.stream[i].port].spec.name;
        const char *dot = strchr(stream, '.');
        GW_TRY(make_node(b, p, dot ? dot + 1 : NULL, &one));
    }
    return GW_OK;
}

static int check_process(const builder *b, const gw_process *p)
{
    for (int i = 0; i < b->n_parts; i++)
        if (b->part[i].process == p)
            return GW_OK;
    return gw_conf_fail(p->conf, "node '%s' has no parts", p->name);
}

static int build(builder *b)
{
    gw_conf *root = gw_conf_root(b->g->file);
    if (gw_conf_kind(root) != GW_CONF_MAP)
        return gw_conf_fail(root, "a graph is a map with sources, stages and sinks");
    GW_TRY(gw_processes_read(&b->g->processes, root));
    GW_TRY(read_parts(b, "sources", GW_SOURCE));
    GW_TRY(read_parts(b, "stages", GW_STAGE));
    GW_TRY(read_parts(b, "sinks", GW_SINK));
    GW_TRY(gw_run_conf_read(root, &b->g->run));
    b->g->device = b->g->run.device ? gw_device_get() : NULL;
    GW_TRY(gw_conf_done(root, "the graph"));
    if (!b->n_parts || b->part[0].kind->role != GW_SOURCE)
        return gw_conf_fail(root, "a graph needs at least one source");
    for (int i = 0; i < b->n_parts; i++)
        if (b->part[i].kind->origin > b->origin)
            b->origin = b->part[i].kind->origin;
    for (int i = 0; i < b->n_parts; i++)
        GW_TRY(make_part(b, &b->part[i]));
    for (int i = 0; i < b->n_parts; i++)
        if (b->part[i].kind->role == GW_SINK)
            goto has_sink;
    return gw_conf_fail(root, "a graph needs at least one sink");
has_sink:
    for (int i = 0; i < b->g->processes.n; i++)
        GW_TRY(check_process(b, &b->g->processes.item[i]));
    GW_TRY(gw_graph_fit_credits(b->g));
    GW_TRY(gw_graph_add_copies(b->g));
    gw_graph_count_slabs(b->g);
    b->g->n_here = b->g->n_nodes;
    b->g->source_here = true;
    return GW_OK;
}

static int build_graph(gw_graph **out, gw_conf_file *file, const char *name)
{
    gw_graph *g = calloc(1, sizeof *g);
    if (!g) {
        gw_conf_free(&file);
        return gw_fail(GW_ENOMEM, "graph");
    }
    pthread_mutex_init(&g->lock, NULL);
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&g->changed, &attr);
    pthread_condattr_destroy(&attr);
    atomic_init(&g->stopping, false);
    g->file = file;
    g->run_id = (uint64_t)gw_gps_now_ns();
    builder b = {.g = g, .file = name};
    int err = build(&b);
    free(b.part);
    if (err != GW_OK) {
        gw_graph_free(&g);
        return err;
    }
    *out = g;
    return GW_OK;
}

void gw_graph_set_publish(bool publish)
{
    publish_all = publish;
}

int gw_graph_load(gw_graph **g, const char *path)
{
    *g = NULL;
    gw_conf_file *file;
    GW_TRY(gw_conf_load(&file, path));
    return build_graph(g, file, path);
}

int gw_graph_parse(gw_graph **g, const char *name, const char *yaml)
{
    *g = NULL;
    gw_conf_file *file;
    GW_TRY(gw_conf_parse(&file, name, yaml, strlen(yaml)));
    return build_graph(g, file, name);
}

bool gw_graph_keeps_time(const gw_graph *g)
{
    return g->paced;
}

void gw_graph_free(gw_graph **gg)
{
    gw_graph *g = *gg;
    if (!g)
        return;
    *gg = NULL;
    gw_guard_destroy(&g->guard);
    /* The context first: its threads may still hold messages, and so slabs. */
    if (g->zmq)
        zmq_ctx_term(g->zmq);
    for (int i = 0; i < g->n_feeds; i++) {
        gw_pool_destroy(&g->feed[i]->pool);
        free(g->feed[i]);
    }
    for (int i = 0; i < g->n_nodes; i++) {
        gw_node *n = g->node[i];
        if (n->kind->close && !n->thread_runs)
            n->kind->close(n->self); /* configured or planned, never run */
        for (int o = 0; o < n->n_out; o++) {
            gw_pool_destroy(&n->out[o].pool);
            for (int k = 0; k < n->out[o].n_links; k++)
                gw_pool_destroy(&n->out[o].link[k].gaps);
            gw_spec_free(&n->out[o].spec);
        }
        free(n->self);
        free(n);
    }
    pthread_cond_destroy(&g->changed);
    pthread_mutex_destroy(&g->lock);
    gw_conf_free(&g->file);
    free(g);
}
