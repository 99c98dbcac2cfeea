/* SPDX-License-Identifier: GPL-3.0-or-later
 * Running a graph: its threads, the meeting point after open, stop, the first failure, the timebase, and
 * what an observer may ask while it runs. */
#include "pipeline/graph.h"
#include "pipeline/log.h"
#include "pipeline/node.h"
#include "pipeline/parallel.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
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

int gw_graph_choose(gw_graph *g, const char *node)
{
    if (!g->processes.n)
        return gw_fail(GW_EUSAGE, "--node %s: the graph has no `nodes:`, one process runs all of it", node);
    g->chosen = gw_process_find(&g->processes, node);
    if (!g->chosen) {
        char known[256] = "";
        for (int i = 0; i < g->processes.n; i++)
            snprintf(known + strlen(known), sizeof known - strlen(known), "%s%s", i ? ", " : "",
                     g->processes.item[i].name);
        return gw_fail(GW_EUSAGE, "--node %s: the graph has no such node (%s)", node, known);
    }
    g->n_here = 0;
    g->source_here = false;
    for (int i = 0; i < g->n_nodes; i++) {
        gw_node *n = g->node[i];
        n->here = n->process == g->chosen;
        g->n_here += n->here;
        g->source_here |= n->here && n->kind->role == GW_SOURCE;
    }
    return GW_OK;
}

/* As many I/O threads as lanes that share one link: one thread moves one socket's bytes. */
static int io_threads(const gw_graph *g)
{
    int threads = 1;
    for (int i = 0; i < g->n_nodes; i++)
        for (int k = 0; k < g->node[i]->n_in; k++) {
            const gw_input *in = &g->node[i]->in[k];
            if (in->node->here != in->from->here && in->route.lanes > threads)
                threads = in->route.lanes;
        }
    return threads;
}

/* Only clients whose key stands in the file may take what this process sends. */
static int open_guard(gw_graph *g)
{
    if (!g->chosen || !g->chosen->key[0])
        return GW_OK;
    GW_TRY(gw_processes_load_keys(&g->processes, g->chosen));
    GW_TRY(gw_guard_new(&g->guard, g->zmq));
    for (int i = 0; i < g->processes.n; i++)
        if (g->processes.item[i].key[0])
            GW_TRY(gw_guard_allow(g->guard, g->processes.item[i].keys.server));
    return GW_OK;
}

int gw_graph_start(gw_graph *g)
{
    GW_TRY(gw_graph_make_pools(g));
    g->zmq = zmq_ctx_new();
    if (!g->zmq)
        return gw_fail(GW_ESYSTEM, "zmq_ctx_new: %s", zmq_strerror(zmq_errno()));
    zmq_ctx_set(g->zmq, ZMQ_MAX_SOCKETS, 32 * GW_MAX_NODES);
    zmq_ctx_set(g->zmq, ZMQ_IO_THREADS, io_threads(g));
    g->started_ns = gw_monotonic_ns();
    gw_run_lock_memory(&g->run);
    gw_run_conf_fit(&g->run);
    gw_run_start_io(&g->run, g->zmq);
    GW_TRY(open_guard(g));
    GW_TRY(gw_parallel_start(g->run.threads));
    g->parallel = true;
    gw_run_place_bulk(&g->run);
    /* Sinks first, so that nothing is sent before its receiver's thread exists. */
    int started = 0;
    for (int i = g->n_nodes - 1; i >= 0; i--) {
        if (!g->node[i]->here)
            continue;
        pthread_mutex_lock(&g->lock);
        g->running++;
        pthread_mutex_unlock(&g->lock);
        int err = pthread_create(&g->node[i]->thread, NULL, node_thread, g->node[i]);
        if (err) {
            pthread_mutex_lock(&g->lock);
            g->running--;
            g->opened += g->n_here - started; /* those that will never come must not be waited for */
            g->open_failed = true;
            pthread_cond_broadcast(&g->changed);
            pthread_mutex_unlock(&g->lock);
            gw_fail(GW_ESYSTEM, "thread: %s", strerror(err));
            gw_graph_fail(g, g->node[i], GW_ESYSTEM, false);
            break;
        }
        g->node[i]->thread_runs = true;
        started++;
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
    if (g->parallel)
        gw_parallel_stop();
    g->parallel = false;
    return true;
}

void gw_graph_stop(gw_graph *g)
{
    pthread_mutex_lock(&g->lock);
    if (!atomic_load(&g->stopping))
        atomic_store(&g->stopped_ns, gw_monotonic_ns());
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

/* Ages are told against the wall clock; what is due is decided by the monotonic one, so that a wall clock
 * that is stepped neither holds up a source nor sends it racing. Under the lock. */
static void anchor(gw_graph *g)
{
    g->timebase.anchor_wall_ns = gw_gps_now_ns();
    g->anchor_monotonic_ns = gw_monotonic_ns();
}

bool gw_graph_opened(gw_graph *g, bool well)
{
    pthread_mutex_lock(&g->lock);
    g->open_failed |= !well;
    if (++g->opened == g->n_here && g->source_here)
        anchor(g); /* the clock starts when everybody is ready */
    pthread_cond_broadcast(&g->changed);
    while (g->opened < g->n_here)
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
            anchor(g);
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

void gw_graph_adopt_timebase(gw_graph *g, const gw_timebase *t, bool anew)
{
    pthread_mutex_lock(&g->lock);
    if ((anew || !g->timebase_set) && !g->source_here) {
        g->timebase_set = true;
        g->timebase = *t;
    }
    pthread_mutex_unlock(&g->lock);
}

bool gw_graph_knows_timebase(gw_graph *g, gw_timebase *t)
{
    pthread_mutex_lock(&g->lock);
    const bool known = g->timebase_set && g->opened >= g->n_here;
    if (known)
        *t = g->timebase;
    pthread_mutex_unlock(&g->lock);
    return known;
}

bool gw_graph_has_failed(gw_graph *g)
{
    pthread_mutex_lock(&g->lock);
    const bool failed = g->err != GW_OK;
    pthread_mutex_unlock(&g->lock);
    return failed;
}

/* Both ends of a link hear the same Ctrl-C: the stream's end is worth a moment. */
bool gw_graph_past_grace(const gw_graph *g)
{
    return gw_graph_stopping(g) && gw_monotonic_ns() - atomic_load(&g->stopped_ns) > 2 * GW_SECOND_NS;
}

int64_t gw_graph_due_ns(gw_graph *g, int64_t data_ns)
{
    pthread_mutex_lock(&g->lock);
    const gw_timebase t = g->timebase;
    const int64_t anchor_ns = g->anchor_monotonic_ns;
    pthread_mutex_unlock(&g->lock);
    return t.pace > 0 ? anchor_ns + (int64_t)((double)(data_ns - t.anchor_data_ns) / t.pace) : INT64_MIN;
}

int gw_graph_sleep_until(gw_graph *g, int64_t monotonic_ns)
{
    pthread_mutex_lock(&g->lock);
    while (!atomic_load(&g->stopping)) {
        const int64_t left = monotonic_ns - gw_monotonic_ns();
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
        if (!n->here || !at || (n->kind->role == GW_SOURCE) != g->source_here)
            continue;
        if (s->data_ns == GW_NOT_KNOWN_NS || at < s->data_ns) { /* the slowest, from its own start */
            s->data_ns = at;
            s->first_ns = first;
        }
    }
}

static double stream_seconds(uint64_t samples, const gw_spec *s)
{
    return (double)samples / gw_rate_hz(s->rate);
}

static void print_input_losses(const gw_node *n, FILE *to)
{
    for (int k = 0; k < n->n_in; k++) {
        const gw_input *in = &n->in[k];
        const uint64_t given_up = gw_count_read(&in->given_up_samples),
                       late = gw_count_read(&in->count.late_samples);
        if (given_up)
            fprintf(to, "%s: went on without %.3f s of %s\n", n->name, stream_seconds(given_up, in->spec),
                    in->spec->name);
        if (late)
            fprintf(to, "%s: %.3f s of %s came too late or twice\n", n->name, stream_seconds(late, in->spec),
                    in->spec->name);
    }
}

void gw_graph_print_losses(const gw_graph *g, FILE *to)
{
    for (int i = 0; i < g->n_nodes; i++) {
        print_input_losses(g->node[i], to);
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

static const char *device_text(size_t bytes, char *text, size_t n)
{
    char size[32];
    text[0] = '\0';
    if (bytes)
        snprintf(text, n, ", %s on the device", bytes_text(bytes, size, sizeof size));
    return text;
}

static void print_route(const gw_route *r, FILE *to)
{
    if (!r->across)
        return;
    fprintf(to, ", from node %s by %s", r->from->name, gw_transport_text(r->transport));
    if (r->lanes > 1)
        fprintf(to, " in %d lanes", r->lanes);
    fprintf(to, "%s at %s", r->transport == GW_TCP && r->from->key[0] ? " with CURVE" : "", r->address);
    if (strcmp(r->bind, r->address) != 0)
        fprintf(to, " (listening at %s)", r->bind);
}

static void print_input(const gw_input *in, FILE *to)
{
    fprintf(to, "    <- %s (hop %" PRIu32 ", history %" PRIu32 ", credit %d, %s)", in->spec->name, in->hop,
            in->history, in->credit, in->on_full == GW_DROP ? "drops when full" : "waits when full");
    print_route(&in->route, to);
    fputc('\n', to);
}

void gw_graph_fit_machine(gw_graph *g)
{
    gw_run_conf_fit(&g->run);
    for (int i = 0; i < g->n_nodes; i++)
        gw_placement_fit(&g->node[i]->place, g->node[i]->name);
}

int gw_graph_fits(const gw_graph *g)
{
    for (int i = 0; i < g->n_nodes; i++)
        if (g->node[i]->plan.unfit[0])
            return gw_fail(GW_EMISMATCH, "%s: %s", g->node[i]->name, g->node[i]->plan.unfit);
    return GW_OK;
}

void gw_graph_print(const gw_graph *g, FILE *to)
{
    size_t total = 0, device_total = 0;
    int64_t worst_ns = 0;
    char text[256], size[32], on_device[64];
    for (int i = 0; i < g->n_nodes; i++) {
        const gw_node *n = g->node[i];
        const size_t memory = gw_node_memory(n);
        total += memory;
        worst_ns = n->late_ns > worst_ns ? n->late_ns : worst_ns;
        device_total += gw_node_device_memory(n);
        fprintf(to, "%-16s %-9s look-ahead %5.1f ms  memory %s%s%s%s\n", n->name, n->kind->kind,
                (double)n->plan.delay_ns / 1e6, bytes_text(memory, size, sizeof size),
                device_text(gw_node_device_memory(n), on_device, sizeof on_device), n->process ? "  on " : "",
                n->process ? n->process->name : "");
        if (n->plan.note[0])
            fprintf(to, "    %s\n", n->plan.note);
        for (int k = 0; k < n->n_in; k++)
            print_input(&n->in[k], to);
        for (int k = 0; k < n->n_feeds_in; k++) {
            fprintf(to, "    <= events of %s", n->feed_in[k]->from->name);
            print_route(&n->feed_in[k]->route, to);
            fputc('\n', to);
        }
        for (int o = 0; o < n->n_out; o++) {
            gw_spec_text(&n->out[o].spec, text, sizeof text);
            fprintf(to, "    -> %s\n", text);
        }
    }
    for (int i = 0; i < g->processes.n; i++) {
        const gw_process *p = &g->processes.item[i];
        size_t memory = 0;
        int threads = 0;
        for (int k = 0; k < g->n_nodes; k++)
            if (g->node[k]->process == p) {
                memory += gw_node_memory(g->node[k]);
                threads++;
            }
        fprintf(to, "node %s: %d threads, %s\n", p->name, threads, bytes_text(memory, size, sizeof size));
    }
    fprintf(to, "%d threads, %s%s, look-ahead %.1f ms\n", g->n_nodes, bytes_text(total, size, sizeof size),
            device_text(device_total, on_device, sizeof on_device), (double)worst_ns / 1e6);
}
