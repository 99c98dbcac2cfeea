/* SPDX-License-Identifier: GPL-3.0-or-later
 * How many blocks may be in flight on each link, how many slabs that takes, and what memory: from the plans,
 * before anything runs. The proof that nothing can stall is slack.c's; here its numbers are made. */
#include "pipeline/node.h"
#include "pipeline/slack.h"

#include <inttypes.h>
#include <stdlib.h>

static int64_t span_ns(const gw_spec *s, uint32_t samples)
{
    return gw_sample_to_ns(samples, s->rate, 0);
}

/* -- can it stall? ----------------------------------------------------------------------------------- */

typedef struct slack {
    gw_slack_stage stage[GW_MAX_NODES];
    int64_t message_ns[GW_MAX_NODES][GW_MAX_PORTS]; /* stream time of one message of each output */
    gw_slack_link *link;                            /* [n_links] */
    gw_input **input;                               /* [n_links] whose link it is */
    int n_links;
} slack;

static int index_of(const gw_graph *g, const gw_node *n)
{
    for (int i = 0; i < g->n_nodes; i++)
        if (g->node[i] == n)
            return i;
    return -1;
}

static int port_of(const gw_input *in)
{
    int port = 0;
    while (&in->from->out[port].spec != in->spec)
        port++;
    return port;
}

/* A source sends a block at a time; a stage with hops at most a message a hop; one that takes blocks as they
 * come at most a message a message. */
static void describe_stage(const gw_graph *g, int i, slack *s)
{
    const gw_node *n = g->node[i];
    gw_slack_stage *st = &s->stage[i];
    int64_t step_ns = INT64_MAX;
    if (n->n_in && n->in[0].hop)
        step_ns = span_ns(n->in[0].spec, n->in[0].hop);
    else if (n->n_in)
        step_ns = s->message_ns[index_of(g, n->in[0].from)][port_of(&n->in[0])];
    int64_t longest_ns = 0;
    for (int o = 0; o < n->n_out; o++) {
        const int64_t block_ns = span_ns(&n->out[o].spec, n->out[o].spec.block_samples);
        s->message_ns[i][o] = block_ns < step_ns ? block_ns : step_ns;
        longest_ns = block_ns > longest_ns ? block_ns : longest_ns;
    }
    st->least_ns = n->plan.delay_ns + (n->n_in && n->in[0].hop ? step_ns : 0);
    st->hold_ns = st->least_ns + longest_ns; /* it may collect a block before it sends one */
    if (n->n_in && n->in[0].keep) { /* what it collects it lacks only until the last block of it has come */
        const int64_t kept_ns = n->plan.keep_ns[0] + step_ns;
        st->least_ns = st->least_ns > kept_ns ? st->least_ns - kept_ns : 0;
    }
    st->skew_ns = n->n_out > 1 ? longest_ns : 0;
}

static void describe_links(const gw_graph *g, slack *s)
{
    for (int i = 0; i < g->n_nodes; i++) {
        gw_node *n = g->node[i];
        for (int k = 0; k < n->n_in && n->kind->role == GW_STAGE; k++) {
            gw_input *in = &n->in[k];
            const int from = index_of(g, in->from), port = port_of(in);
            s->input[s->n_links] = in;
            s->link[s->n_links++] = (gw_slack_link){.from = from,
                                                    .to = i,
                                                    .port = port,
                                                    .message_ns = s->message_ns[from][port],
                                                    .credit = in->credit,
                                                    .drops = in->on_full == GW_DROP,
                                                    .fixed = in->credit_given};
        }
    }
}

static int refuse(const slack *s, int link, int waits_for)
{
    const gw_input *in = s->input[link];
    const gw_slack_link *l = &s->link[link];
    char why[200] = "";
    if (waits_for >= 0)
        snprintf(why, sizeof why, " while %s waits for %s", s->input[waits_for]->node->name,
                 s->input[waits_for]->spec->name);
    return gw_conf_fail(
        in->node->conf,
        "%s: credit %d for %s could stall the graph: %.0f ms of it may have to queue up%s; it "
        "needs credit: %d",
        in->node->name, in->credit, in->spec->name, (double)(l->credit * l->message_ns) / 1e6, why,
        l->credit);
}

static int fit(gw_graph *g, slack *s)
{
    int links = 0;
    for (int i = 0; i < g->n_nodes; i++)
        links += g->node[i]->n_in;
    s->link = calloc((size_t)links + 1, sizeof *s->link);
    s->input = calloc((size_t)links + 1, sizeof(gw_input *));
    if (!s->link || !s->input)
        return gw_fail(GW_ENOMEM, "graph");
    for (int i = 0; i < g->n_nodes; i++) /* producers stand before consumers */
        describe_stage(g, i, s);
    describe_links(g, s);
    int waits_for = -1;
    const int link = gw_slack_fit(s->link, s->n_links, s->stage, &waits_for);
    if (link == GW_SLACK_ENOMEM)
        return gw_fail(GW_ENOMEM, "graph");
    if (link >= 0)
        return refuse(s, link, waits_for);
    for (int i = 0; i < s->n_links; i++)
        s->input[i]->credit = s->link[i].credit;
    return GW_OK;
}

/* -- credits and slabs ------------------------------------------------------------------------------- */

/* Look-ahead of all stages from the sources on. */
static void sum_delays(gw_graph *g)
{
    for (int i = 0; i < g->n_nodes; i++) {
        gw_node *n = g->node[i];
        int64_t latest_ns = 0;
        for (int k = 0; k < n->n_in; k++)
            latest_ns = n->in[k].from->late_ns > latest_ns ? n->in[k].from->late_ns : latest_ns;
        n->late_ns = latest_ns + n->plan.delay_ns;
    }
}

/* What a sink or stage holds on to is beyond what is in flight: within a process a block is worked off all
 * the same. A dropping link has a queue besides, and over ipc and tcp also messages on their way of blocks
 * that were asked for twice and are worked off already: none of them may take a slab from the other links. */
static int slabs_for(const gw_input *in)
{
    const bool resends = in->route.across && in->route.transport != GW_SHM;
    return in->keep + (in->on_full != GW_DROP ? 1 : resends ? 3 : 2) * in->credit;
}

int gw_graph_fit_credits(gw_graph *g)
{
    sum_delays(g);
    slack *s = calloc(1, sizeof *s);
    int err = s ? fit(g, s) : gw_fail(GW_ENOMEM, "graph");
    if (s) {
        free(s->link);
        free(s->input);
    }
    free(s);
    GW_TRY(err);
    for (int i = 0; i < g->n_nodes; i++)
        for (int k = 0; k < g->node[i]->n_in; k++) {
            gw_input *in = &g->node[i]->in[k];
            if (in->route.across) /* between processes it is not, and must not use up the credit */
                in->credit += in->keep;
        }
    return GW_OK;
}

/* What a device works on is not in flight yet. */
void gw_graph_count_slabs(gw_graph *g)
{
    for (int i = 0; i < g->n_nodes; i++)
        for (int o = 0; o < g->node[i]->n_out; o++) {
            gw_output *out = &g->node[i]->out[o];
            /* being written, a GAP before it, one on its way home */
            out->slabs = gw_node_flights(g->node[i]) + 2;
            for (int k = 0; k < out->n_links; k++)
                out->slabs += slabs_for(out->link[k].to);
        }
}

size_t gw_node_memory(const gw_node *n)
{
    size_t bytes = n->plan.memory_bytes + (size_t)n->n_feeds_out * gw_feed_bytes();
    for (int i = 0; i < n->n_in; i++) {
        const gw_input *in = &n->in[i];
        bytes += gw_input_bytes(in);
        if (in->route.across && in->route.transport != GW_SHM) /* the messages, until they are worked off */
            bytes += (size_t)in->credit * gw_spec_slab_bytes(in->spec);
    }
    for (int o = 0; o < n->n_out; o++)
        if (n->out[o].space != GW_SPACE_DEVICE)
            bytes += (size_t)n->out[o].slabs * gw_spec_slab_bytes(&n->out[o].spec);
    return bytes;
}

size_t gw_node_device_memory(const gw_node *n)
{
    size_t bytes = n->on_device ? n->plan.device_bytes : 0;
    for (int o = 0; o < n->n_out; o++)
        if (n->out[o].space == GW_SPACE_DEVICE)
            bytes += (size_t)n->out[o].slabs * gw_spec_slab_bytes(&n->out[o].spec);
    return bytes;
}

static bool goes_by_shm(const gw_route *r, const gw_node *to)
{
    return !to->here && r->transport == GW_SHM;
}

static int make_pool(gw_output *out, const gw_device *device)
{
    gw_space space = out->space;
    for (int k = 0; k < out->n_links; k++) {
        const gw_input *in = out->link[k].to;
        if (goes_by_shm(&in->route, in->node))
            space = GW_SPACE_SHARED;
        else if (in->node->on_device && in->node->here && space == GW_SPACE_HOST)
            space = GW_SPACE_PINNED;
        if (in->on_full == GW_DROP)
            GW_TRY(gw_pool_new(&out->link[k].gaps, out->spec.name, in->credit + 2, 0, GW_SPACE_HOST));
    }
    out->space = space;
    return gw_pool_new_on(&out->pool, device, out->spec.name, out->slabs, gw_spec_slab_bytes(&out->spec),
                          (out->spec.n_channels + 7) / 8, space);
}

int gw_graph_make_pools(gw_graph *g)
{
    for (int i = 0; i < g->n_nodes; i++) {
        gw_node *n = g->node[i];
        for (int o = 0; o < n->n_out && n->here; o++)
            GW_TRY(make_pool(&n->out[o], g->device));
        for (int k = 0; k < n->n_feeds_out && n->here; k++) {
            gw_feed *f = n->feed_out[k];
            GW_TRY(gw_feed_make_pool(f, goes_by_shm(&f->route, f->to) ? GW_SPACE_SHARED : GW_SPACE_HOST));
        }
    }
    return GW_OK;
}
