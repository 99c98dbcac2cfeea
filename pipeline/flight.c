/* SPDX-License-Identifier: GPL-3.0-or-later
 * Stages on a device. A step only enqueues; here it is a flight: launched when its block comes, and landed
 * when the device has come past the mark behind it. Then finish() is called, and what it made is sent. So a
 * block that is sent is done, and one that is read stays until who reads it is done: the marks are here and
 * nowhere else. A few flights at a time, first in, first out, so that the device always has the next step at
 * hand. Called by runner.c, in the node's own thread. */
#include "pipeline/node.h"

#include <stdlib.h>
#include <string.h>

static const gw_device *device_of(const gw_node *n)
{
    return n->graph->device;
}

int gw_node_open_flights(gw_node *n)
{
    if (!n->on_device)
        return GW_OK;
    const gw_device *d = device_of(n);
    GW_TRY(d->queue_new(&n->queue));
    for (int i = 0; i < GW_IN_FLIGHT; i++) {
        gw_flight *f = &n->flight[i];
        GW_TRY(d->mark_new(&f->mark));
        for (int o = 0; o < n->n_out; o++) {
            f->presence[o] = malloc((n->out[o].spec.n_channels + 7) / 8);
            if (!f->presence[o])
                return gw_fail(GW_ENOMEM, "stream %s", n->out[o].spec.name);
        }
    }
    return GW_OK;
}

void gw_node_close_flights(gw_node *n)
{
    if (!n->on_device)
        return;
    const gw_device *d = device_of(n);
    for (int i = 0; i < GW_IN_FLIGHT; i++) {
        gw_flight *f = &n->flight[i];
        if (f->mark)
            d->mark_destroy(&f->mark);
        for (int o = 0; o < n->n_out; o++)
            free(f->presence[o]);
    }
    if (n->queue)
        d->queue_destroy(&n->queue);
}

static gw_flight *oldest(gw_node *n)
{
    return &n->flight[n->first_flight];
}

/* -- launch ------------------------------------------------------------------------------------------ */

/* The slabs of a flight. Nobody waits for one while another flight could land: who holds the slabs may want
 * just that. GW_EAGAIN then. */
static int reserve(gw_node *n)
{
    for (int o = 0; o < n->n_out; o++) {
        if (gw_output_try(&n->out[o]))
            continue;
        if (n->n_flights)
            return GW_EAGAIN;
        GW_TRY(gw_output_reserve(n, &n->out[o]));
    }
    return GW_OK;
}

/* A step on what came, or a drain. The slabs are reserved. The flight is under way when this returns, well or
 * not: some of it may have been enqueued. */
static int launch(gw_node *n, const gw_arrival *a)
{
    const int slot = (n->first_flight + n->n_flights) % GW_IN_FLIGHT;
    gw_flight *f = &n->flight[slot];
    gw_view view = {0};
    f->about = (gw_header){.dq = GW_DQ_ALL};
    f->arrival = (gw_arrival){0};
    if (a) {
        view = gw_arrival_view(a);
        f->arrival = *a;
        f->about.dq = view.dq;
        f->about.flags = view.flags;
        f->about.networks = view.networks;
        f->about.due_ns = view.due_ns;
        f->about.ingest_ns = view.ingest_ns;
    }
    for (int o = 0; o < n->n_out; o++) {
        gw_output *out = &n->out[o];
        f->slab[o] = out->slab;
        out->slab = NULL;
        memset(f->presence[o], 0xff, (out->spec.n_channels + 7) / 8);
        f->out[o] = (gw_out){.data = f->slab[o]->data,
                             .space = f->slab[o]->space,
                             .slot = slot,
                             .capacity_samples = out->spec.block_samples,
                             .dq = f->about.dq,
                             .flags = f->about.flags,
                             .networks = f->about.networks,
                             .presence = f->presence[o]};
    }
    n->n_flights++;
    const int64_t since_ns = gw_node_tick(n);
    int err = a ? n->kind->step(n->self, &view, f->out) : n->kind->drain(n->self, f->out);
    if (err == GW_OK)
        err = device_of(n)->mark(n->queue, f->mark);
    gw_node_stepped(n, since_ns);
    return err;
}

/* -- land -------------------------------------------------------------------------------------------- */

static int wait_for(gw_node *n, gw_mark *mark)
{
    int err = device_of(n)->fired(mark);
    if (err != GW_EAGAIN)
        return err;
    const int64_t since_ns = gw_node_tick(n);
    err = device_of(n)->wait(mark);
    gw_node_waited(n, GW_FOR_DEVICE, since_ns);
    return err;
}

/* What it read goes back, what it wrote and nobody sent too. */
static int let_go(gw_node *n, gw_flight *f)
{
    for (int o = 0; o < n->n_out; o++)
        gw_block_unref(&f->slab[o]);
    return gw_input_done(&n->in[0], &f->arrival);
}

static int send(gw_node *n, gw_flight *f)
{
    int err = GW_OK;
    for (int o = 0; o < n->n_out && err == GW_OK; o++) {
        gw_output *out = &n->out[o];
        gw_block *spare = out->slab; /* reserved for the next one */
        uint8_t *presence = out->presence;
        out->slab = f->slab[o];
        out->presence = f->presence[o];
        f->slab[o] = NULL;
        if (f->out[o].n_samples || f->out[o].lost)
            err = gw_output_allow(n, out);
        if (err == GW_OK)
            err = gw_node_send(n, out, f->arrival.block ? &f->about : NULL, &f->out[o]);
        out->presence = presence;
        gw_block_unref(&out->slab);
        out->slab = spare;
    }
    return err;
}

/* The oldest flight. */
static int land(gw_node *n)
{
    gw_flight *f = oldest(n);
    GW_TRY(wait_for(n, f->mark));
    int err = n->kind->finish ? n->kind->finish(n->self, f->out) : GW_OK;
    if (err == GW_OK)
        err = send(n, f);
    const int done = let_go(n, f);
    n->first_flight = (n->first_flight + 1) % GW_IN_FLIGHT;
    n->n_flights--;
    return err == GW_OK ? done : err;
}

static int land_all(gw_node *n)
{
    while (n->n_flights)
        GW_TRY(land(n));
    return GW_OK;
}

/* -- the loop ---------------------------------------------------------------------------------------- */

/* Whether the oldest flight must land before the next block: there is no room, or it has arrived anyway. */
static bool is_due(gw_node *n)
{
    return n->n_flights == gw_node_flights(n) ||
           (n->n_flights && device_of(n)->fired(oldest(n)->mark) != GW_EAGAIN);
}

/* Room for one more flight, and its slabs. */
static int prepare(gw_node *n)
{
    for (;;) {
        const int err = n->n_flights < gw_node_flights(n) ? reserve(n) : GW_EAGAIN;
        if (err != GW_EAGAIN)
            return err;
        GW_TRY(land(n));
    }
}

/* A hole: what came before it goes first. */
static int meet_hole(gw_node *n, const gw_arrival *a)
{
    GW_TRY(land_all(n));
    GW_TRY(gw_node_gap(n, 0, a));
    return a->block ? GW_OK
                    : gw_node_lose(n, gw_input_ns(&n->in[0], n->in[0].end), a->hole.reason, a->hole.dq);
}

static int drain(gw_node *n)
{
    GW_TRY(land_all(n));
    for (bool filled = true; filled && n->kind->drain;) {
        GW_TRY(prepare(n));
        GW_TRY(launch(n, NULL));
        const gw_flight *f = oldest(n);
        GW_TRY(land(n));
        filled = false;
        for (int o = 0; o < n->n_out; o++)
            filled |= f->out[o].n_samples > 0;
    }
    return GW_OK;
}

int gw_node_run_flights(gw_node *n)
{
    gw_input *in = &n->in[0];
    for (;;) {
        gw_arrival a;
        const bool first = !in->started;
        while (is_due(n))
            GW_TRY(land(n));
        int err = gw_input_next(in, &a);
        if (err == GW_EEND)
            return drain(n);
        if (err == GW_EAGAIN) {
            GW_TRY(n->n_flights ? land(n) : gw_node_wait(n, GW_ALL_INPUTS));
            continue;
        }
        GW_TRY(err);
        if (first)
            gw_node_begin(n, &a);
        if (!a.block || a.anew)
            err = meet_hole(n, &a);
        if (err == GW_OK && a.block)
            err = prepare(n);
        if (err == GW_OK && a.block) {
            GW_TRY(launch(n, &a)); /* which has the block now */
            continue;
        }
        const int done = gw_input_done(in, &a);
        GW_TRY(err);
        GW_TRY(done);
    }
}

void gw_node_ground_flights(gw_node *n)
{
    if (!n->on_device || !n->queue)
        return;
    (void)device_of(n)->queue_wait(n->queue); /* what went wrong there has been said */
    for (; n->n_flights; n->n_flights--) {
        (void)let_go(n, oldest(n));
        n->first_flight = (n->first_flight + 1) % GW_IN_FLIGHT;
    }
}
