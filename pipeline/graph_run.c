/* SPDX-License-Identifier: GPL-3.0-or-later
 * Running a graph: its threads, the meeting point after open, stop, the first failure, the timebase, and
 * what an observer may ask while it runs. */
#include "pipeline/graph.h"
#include "pipeline/log.h"
#include "pipeline/node.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <time.h>
#include <zmq.h>

static void *node_thread(void *arg)
{
    gw_node *n = arg;
    gw_graph *g = n->graph;
    gw_node_run(n);
    pthread_mutex_lock(&g->lock);
    g->running--;
    pthread_cond_broadcast(&g->changed);
    pthread_mutex_unlock(&g->lock);
    return NULL;
}

int gw_graph_start(gw_graph *g)
{
    g->zmq = zmq_ctx_new();
    if (!g->zmq)
        return gw_fail(GW_ESYSTEM, "zmq_ctx_new: %s", zmq_strerror(zmq_errno()));
    zmq_ctx_set(g->zmq, ZMQ_MAX_SOCKETS, 16 * GW_MAX_NODES);
    /* Sinks first, so that nothing is sent before its receiver's thread exists. */
    for (int i = g->n_nodes - 1; i >= 0; i--) {
        pthread_mutex_lock(&g->lock);
        g->running++;
        pthread_mutex_unlock(&g->lock);
        int err = pthread_create(&g->node[i]->thread, NULL, node_thread, g->node[i]);
        if (err) {
            pthread_mutex_lock(&g->lock);
            g->running--;
            g->opened += i + 1; /* those that will never come must not be waited for */
            g->open_failed = true;
            pthread_cond_broadcast(&g->changed);
            pthread_mutex_unlock(&g->lock);
            gw_fail(GW_ESYSTEM, "thread: %s", strerror(err));
            gw_graph_fail(g, g->node[i], GW_ESYSTEM, false);
            break;
        }
        g->node[i]->thread_runs = true;
    }
    return GW_OK;
}

static struct timespec monotonic_in(int64_t ns)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    int64_t at = (int64_t)t.tv_sec * GW_SECOND_NS + t.tv_nsec + ns;
    return (struct timespec){.tv_sec = (time_t)(at / GW_SECOND_NS), .tv_nsec = (long)(at % GW_SECOND_NS)};
}

bool gw_graph_wait(gw_graph *g, int ms)
{
    const struct timespec until = monotonic_in((int64_t)ms * 1000000);
    pthread_mutex_lock(&g->lock);
    while (g->running > 0)
        if (pthread_cond_timedwait(&g->changed, &g->lock, &until) == ETIMEDOUT)
            break;
    bool ended = g->running == 0;
    pthread_mutex_unlock(&g->lock);
    if (!ended)
        return false;
    for (int i = 0; i < g->n_nodes; i++)
        if (g->node[i]->thread_runs && g->node[i]->thread) {
            pthread_join(g->node[i]->thread, NULL);
            g->node[i]->thread = 0;
        }
    return true;
}

void gw_graph_stop(gw_graph *g)
{
    pthread_mutex_lock(&g->lock);
    atomic_store(&g->stopping, true);
    pthread_cond_broadcast(&g->changed);
    pthread_mutex_unlock(&g->lock);
}

int gw_graph_result(gw_graph *g, uint64_t *bad_inputs)
{
    *bad_inputs = 0;
    for (int i = 0; i < g->n_nodes; i++)
        *bad_inputs += atomic_load(&g->node[i]->count.bad_inputs);
    pthread_mutex_lock(&g->lock);
    int err = g->err;
    if (err)
        gw_fail(err, "%s", g->err_text);
    pthread_mutex_unlock(&g->lock);
    return err;
}

/* -- for the runner ---------------------------------------------------------------------------------- */

void *gw_graph_zmq(gw_graph *g)
{
    return g->zmq;
}

uint64_t gw_graph_run_id(const gw_graph *g)
{
    return g->run_id;
}

bool gw_graph_stopping(const gw_graph *g)
{
    return atomic_load_explicit(&g->stopping, memory_order_acquire);
}

bool gw_graph_opened(gw_graph *g, bool well)
{
    pthread_mutex_lock(&g->lock);
    g->open_failed |= !well;
    if (++g->opened == g->n_nodes)
        g->timebase.anchor_wall_ns = gw_gps_now_ns(); /* the clock starts when everybody is ready */
    pthread_cond_broadcast(&g->changed);
    while (g->opened < g->n_nodes)
        pthread_cond_wait(&g->changed, &g->lock);
    bool go = !g->open_failed;
    pthread_mutex_unlock(&g->lock);
    return go;
}

void gw_graph_fail(gw_graph *g, const gw_node *n, int err, bool goes_on)
{
    pthread_mutex_lock(&g->lock);
    if (!g->err) {
        g->err = err;
        snprintf(g->err_text, sizeof g->err_text, "%s: %s", n->name,
                 gw_err_detail()[0] ? gw_err_detail() : gw_err_text(err));
    }
    pthread_mutex_unlock(&g->lock);
    if (goes_on)
        gw_log(GW_LOG_ERROR, n->name, "%s; the rest goes on without it", gw_err_detail());
    else
        gw_graph_stop(g);
}

void gw_graph_set_timebase(gw_graph *g, double pace, int64_t data_ns)
{
    pthread_mutex_lock(&g->lock);
    if (!g->timebase_set) {
        g->timebase_set = true;
        g->timebase.pace = pace;
        g->timebase.anchor_data_ns = data_ns;
        if (!g->timebase.anchor_wall_ns)
            g->timebase.anchor_wall_ns = gw_gps_now_ns();
    }
    pthread_mutex_unlock(&g->lock);
}

gw_timebase gw_graph_timebase(gw_graph *g)
{
    pthread_mutex_lock(&g->lock);
    gw_timebase t = g->timebase;
    pthread_mutex_unlock(&g->lock);
    return t;
}

int gw_graph_sleep_until(gw_graph *g, int64_t wall_ns)
{
    pthread_mutex_lock(&g->lock);
    while (!atomic_load(&g->stopping)) {
        const int64_t left = wall_ns - gw_gps_now_ns();
        if (left <= 0)
            break;
        const struct timespec until = monotonic_in(left);
        pthread_cond_timedwait(&g->changed, &g->lock, &until);
    }
    bool stopped = atomic_load(&g->stopping);
    pthread_mutex_unlock(&g->lock);
    return stopped ? GW_ECANCELED : GW_OK;
}

/* -- for an observer --------------------------------------------------------------------------------- */

void gw_graph_get_status(gw_graph *g, gw_graph_status *s)
{
    *s = (gw_graph_status){.data_ns = GW_NOT_KNOWN_NS};
    for (int i = 0; i < g->n_nodes; i++) {
        const gw_node *n = g->node[i];
        if (n->kind->role == GW_STAGE)
            s->events += atomic_load_explicit(&n->count.events, memory_order_relaxed);
        const int64_t at = atomic_load_explicit(&n->count.data_ns, memory_order_relaxed);
        const int64_t first = atomic_load_explicit(&n->first_ns, memory_order_relaxed);
        if (n->kind->role != GW_SOURCE || !at)
            continue;
        if (s->data_ns == GW_NOT_KNOWN_NS || at < s->data_ns) { /* the slowest source, from its own start */
            s->data_ns = at;
            s->first_ns = first;
        }
    }
}

static double stream_seconds(uint64_t samples, const gw_spec *s)
{
    return (double)samples / gw_rate_hz(s->rate);
}

void gw_graph_print_losses(const gw_graph *g, FILE *to)
{
    for (int i = 0; i < g->n_nodes; i++) {
        for (int o = 0; o < g->node[i]->n_out; o++) {
            const gw_output *out = &g->node[i]->out[o];
            bool some = false;
            for (int r = 0; r < GW_GAP_REASON_COUNT; r++) {
                const uint64_t samples = atomic_load(&out->gap_samples[r]);
                if (!samples)
                    continue;
                fprintf(to, "%s%s %.3f s %s", some ? "," : out->spec.name, some ? "" : ": nothing sent for",
                        stream_seconds(samples, &out->spec), gw_gap_reason_text((gw_gap_reason)r));
                some = true;
            }
            uint64_t dropped = 0;
            for (int k = 0; k < out->n_links; k++)
                dropped += atomic_load(&out->link[k].dropped);
            if (dropped)
                fprintf(to, "%s%s %" PRIu64 " blocks dropped on side branches", some ? "," : out->spec.name,
                        some ? "" : ":", dropped);
            if (some || dropped)
                fputc('\n', to);
        }
    }
}

static const char *bytes_text(size_t bytes, char *text, size_t n)
{
    static const char *const unit[] = {"B", "KiB", "MiB", "GiB"};
    double v = (double)bytes;
    int u = 0;
    while (v >= 1024 && u < 3) {
        v /= 1024;
        u++;
    }
    snprintf(text, n, u ? "%.1f %s" : "%.0f %s", v, unit[u]);
    return text;
}

void gw_graph_print(const gw_graph *g, FILE *to)
{
    size_t total = 0;
    int64_t worst_ns = 0;
    char text[256], size[32];
    for (int i = 0; i < g->n_nodes; i++) {
        const gw_node *n = g->node[i];
        size_t memory = n->plan.memory_bytes;
        for (int k = 0; k < n->n_in; k++)
            memory += n->in[k].hop
                          ? 2 * ((size_t)n->in[k].history + n->in[k].hop + n->in[k].spec->block_samples) *
                                n->in[k].spec->n_channels * gw_dtype_bytes(n->in[k].spec->dtype)
                          : 0;
        for (int o = 0; o < n->n_out; o++)
            memory += gw_pool_bytes(n->out[o].pool);
        total += memory;
        worst_ns = n->late_ns > worst_ns ? n->late_ns : worst_ns;
        fprintf(to, "%-16s %-9s look-ahead %5.1f ms  memory %s\n", n->name, n->kind->kind,
                (double)n->plan.delay_ns / 1e6, bytes_text(memory, size, sizeof size));
        for (int k = 0; k < n->n_in; k++)
            fprintf(to, "    <- %s (hop %" PRIu32 ", history %" PRIu32 ", credit %d, %s)\n",
                    n->in[k].spec->name, n->in[k].hop, n->in[k].history, n->in[k].credit,
                    n->in[k].on_full == GW_DROP ? "drops when full" : "waits when full");
        for (int o = 0; o < n->n_out; o++) {
            gw_spec_text(&n->out[o].spec, text, sizeof text);
            fprintf(to, "    -> %s\n", text);
        }
    }
    fprintf(to, "%d threads, %s, look-ahead %.1f ms\n", g->n_nodes, bytes_text(total, size, sizeof size),
            (double)worst_ns / 1e6);
}
