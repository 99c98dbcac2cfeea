/* SPDX-License-Identifier: GPL-3.0-or-later
 * Copies between the host's memory and a device's: nodes of their own, with a thread and a queue of their
 * own, so that a block is copied while the one before it is worked on. The graph puts them where the two ends
 * of a link want memory of different spaces; no file names them. What they copied they count. Called by
 * graph.c. */
#include "pipeline/node.h"

#include <stdlib.h>
#include <string.h>

/* -- the stage --------------------------------------------------------------------------------------- */

typedef struct copy {
    gw_env *env;
    size_t sample_bytes;
    const char *counted; /* the gauge: which way it goes */
    double bytes;
} copy;

static int copy_open(void *self, gw_env *env)
{
    ((copy *)self)->env = env;
    return GW_OK;
}

static int copy_step(void *self, const gw_view *in, gw_out *out)
{
    copy *c = self;
    const size_t bytes = (size_t)in->n_samples * in->n_channels * c->sample_bytes;
    GW_TRY(gw_env_device(c->env)->copy(gw_env_queue(c->env), out->data, in->data, bytes));
    out->n_samples = in->n_samples;
    out->sample0 = in->sample0;
    if (in->presence)
        memcpy(out->presence, in->presence, (in->n_channels + 7) / 8);
    c->bytes += (double)bytes;
    gw_env_gauge(c->env, c->counted, c->bytes);
    return GW_OK;
}

static const gw_kind kind_copy = {.kind = "copy",
                                  .help = "a stream from the host's memory to the device's, or back",
                                  .role = GW_STAGE,
                                  .takes_presence = true,
                                  .state_size = sizeof(copy),
                                  .open = copy_open,
                                  .step = copy_step};

/* -- where they go ----------------------------------------------------------------------------------- */

/* On the device's side of a link to `to`: what it works on and one more. Few, for a slab may be of gigabytes;
 * the host's side of the copy has the credit that the link had. */
static int device_credit(const gw_node *to, int credit)
{
    const int enough = gw_node_flights(to) + 1;
    return credit < enough ? credit : enough;
}

/* A node behind output `port` of `from`, right after it in the graph. */
static int add_node(gw_graph *g, gw_node *from, int port, bool up, gw_process *process, gw_node **out)
{
    if (g->n_nodes == GW_MAX_NODES)
        return gw_fail(GW_ENOTSUP, "more than %d stages", GW_MAX_NODES);
    gw_node *n = calloc(1, sizeof *n);
    copy *c = calloc(1, sizeof *c);
    const gw_output *src = &from->out[port];
    if (!n || !c || gw_spec_copy(&n->out[0].spec, &src->spec) != GW_OK) {
        free(n);
        free(c);
        return gw_fail(GW_ENOMEM, "copy of %s", src->spec.name);
    }
    c->sample_bytes = gw_dtype_bytes(src->spec.dtype);
    c->counted = up ? "bytes_to_device" : "bytes_to_host";
    snprintf(n->name, sizeof n->name, "%.50s>%s", src->spec.name, up ? "device" : "host");
    n->kind = &kind_copy;
    n->conf = from->conf;
    n->self = c;
    n->graph = g;
    n->process = process;
    n->here = true;
    n->live = from->live;
    n->origin = from->origin;
    n->late_ns = from->late_ns;
    n->on_device = true;
    n->plan.in_flight = 2; /* one copies, one waits: enough to leave no pause */
    n->n_in = n->n_out = 1;
    n->in[0] = (gw_input){.spec = &src->spec, .node = n, .from = from, .on_full = GW_WAIT};
    n->out[0].space = up ? GW_SPACE_DEVICE : GW_SPACE_PINNED;
    int at = g->n_nodes++;
    for (; g->node[at - 1] != from; at--)
        g->node[at] = g->node[at - 1];
    g->node[at] = n;
    *out = n;
    return GW_OK;
}

/* The link to `in` goes through `n` now, its last part. */
static void hang_behind(gw_node *n, gw_input *in)
{
    n->out[0].link[n->out[0].n_links++].to = in;
    in->spec = &n->out[0].spec;
    in->from = n;
}

static gw_route own_route(gw_graph *g, const gw_process *process)
{
    gw_route r = {.transport = GW_INPROC, .lanes = 1, .from = process, .to = process};
    snprintf(r.inproc, sizeof r.inproc, "inproc://link-%d", g->n_routes++);
    return r;
}

/* To the device, in the process of whom it is for. Links within a process that wait share the copy; one from
 * another process keeps its way, and one that drops does so before the copy. *made: the copy, if it is new.
 */
static int copy_up(gw_graph *g, gw_node *from, int port, gw_input *in, gw_node **shared, gw_node **made)
{
    const bool alone = in->route.across || in->on_full == GW_DROP;
    gw_node *n = alone ? NULL : *shared;
    if (!n) {
        GW_TRY(add_node(g, from, port, true, in->node->process, &n));
        n->place = in->node->place;
        n->in[0].route = in->route;
        n->in[0].on_full = in->on_full;
        *made = n;
    }
    if (!alone)
        *shared = n;
    if (in->credit > n->in[0].credit)
        n->in[0].credit = in->credit;
    in->route = own_route(g, in->node->process);
    in->credit = device_credit(in->node, in->credit);
    in->on_full = GW_WAIT;
    hang_behind(n, in);
    return GW_OK;
}

/* To the host, in the process of whom it is from, once for all who want it; who drops does so behind it. */
static int copy_down(gw_graph *g, gw_node *from, int port, gw_input *in, gw_node **shared, gw_node **made)
{
    if (!*shared) {
        GW_TRY(add_node(g, from, port, false, from->process, shared));
        (*shared)->place = from->place;
        (*shared)->in[0].route = own_route(g, from->process);
        (*shared)->in[0].credit = device_credit(*shared, in->credit);
        *made = *shared;
    }
    hang_behind(*shared, in);
    return GW_OK;
}

/* The links of one output: in place of those that now go through a copy it has the copy. */
static int add_copies(gw_graph *g, gw_node *from, int port)
{
    gw_output *o = &from->out[port];
    const bool device = o->space == GW_SPACE_DEVICE;
    gw_node *shared = NULL;
    int kept = 0;
    for (int k = 0; k < o->n_links; k++) {
        gw_input *in = o->link[k].to;
        const bool wants_device = in->node->on_device && in->node->kind != &kind_copy;
        gw_node *made = NULL;
        if (device && (!wants_device || in->route.across))
            GW_TRY(copy_down(g, from, port, in, &shared, &made));
        else if (!device && wants_device)
            GW_TRY(copy_up(g, from, port, in, &shared, &made));
        else
            o->link[kept++].to = in;
        if (made)
            o->link[kept++].to = &made->in[0];
    }
    o->n_links = kept;
    return GW_OK;
}

/* A copy to the host is met in its turn, so from device to device of another process there are two. */
int gw_graph_add_copies(gw_graph *g)
{
    for (int i = 0; i < g->n_nodes; i++)
        for (int o = 0; o < g->node[i]->n_out; o++)
            GW_TRY(add_copies(g, g->node[i], o));
    return GW_OK;
}
