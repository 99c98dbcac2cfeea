/* SPDX-License-Identifier: GPL-3.0-or-later
 * What a running graph says about itself: one JSON object (monitor.h). Called by the monitor's thread. Reads
 * the counters and what never changes after the graph was built; of all else that belongs to the nodes'
 * threads it keeps away. docs/operations.md lists the fields. Spans are nanoseconds, counts begin at the
 * start of the run. */
#include "pipeline/graph.h"
#include "pipeline/monitor.h"
#include "pipeline/node.h"
#include "pipeline/quote.h"

#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

enum { STATUS_VERSION = 1 };

/* Items of a list or map: a comma before all but the first. */
static void comma(FILE *to, bool *first)
{
    fputs(*first ? "\n  " : ",\n  ", to);
    *first = false;
}

static uint64_t u(const atomic_uint_fast64_t *count)
{
    return gw_count_read(count);
}

static int64_t s(const atomic_int_fast64_t *count)
{
    return atomic_load_explicit(count, memory_order_relaxed);
}

/* -- the process ------------------------------------------------------------------------------------- */

static int files_in(const char *path)
{
    DIR *d = opendir(path);
    int n = 0;
    if (!d)
        return 0;
    while (readdir(d))
        n++;
    closedir(d);
    return n - 2; /* . and .. */
}

static uint64_t resident_bytes(void)
{
    unsigned long long pages = 0;
    FILE *f = fopen("/proc/self/statm", "re");
    if (!f)
        return 0;
    const int got = fscanf(f, "%*u %llu", &pages);
    fclose(f);
    return got == 1 ? pages * (uint64_t)sysconf(_SC_PAGESIZE) : 0;
}

static void write_process(FILE *to)
{
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    const uint64_t now = resident_bytes(),
                   peak = (uint64_t)used.ru_maxrss * 1024; /* the peak lags a little */
    const double cpu_s = (double)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) +
                         (double)(used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6;
    fprintf(to,
            " \"process\": {\"rss_bytes\": %" PRIu64 ", \"rss_peak_bytes\": %" PRIu64
            ", \"fds\": %d, \"threads\": %d, \"cores\": %ld, \"cpu_s\": %.2f},\n",
            now, peak > now ? peak : now, files_in("/proc/self/fd") - 1, files_in("/proc/self/task"),
            sysconf(_SC_NPROCESSORS_ONLN), cpu_s);
}

/* "tid (name) S ...": the name may hold anything, so from the last ')' on; user and system time are the 12th
 * and 13th word after it. */
static bool thread_times(const char *tid, char name[32], double *cpu_s)
{
    char path[64], line[1024];
    snprintf(path, sizeof path, "/proc/self/task/%.20s/stat", tid);
    FILE *f = fopen(path, "re");
    if (!f)
        return false; /* ended meanwhile */
    const bool got = fgets(line, sizeof line, f) != NULL;
    fclose(f);
    char *open = got ? strchr(line, '(') : NULL, *close = got ? strrchr(line, ')') : NULL;
    unsigned long long user, system;
    if (!open || !close ||
        sscanf(close + 1, " %*c %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %llu %llu", &user, &system) != 2)
        return false;
    *close = '\0';
    snprintf(name, 32, "%s", open + 1);
    *cpu_s = (double)(user + system) / (double)sysconf(_SC_CLK_TCK);
    return true;
}

static void write_threads(FILE *to)
{
    bool first = true;
    fputs(" \"threads\": [", to);
    DIR *d = opendir("/proc/self/task");
    for (struct dirent *e; d && (e = readdir(d));) {
        char name[32];
        double cpu_s;
        if (e->d_name[0] == '.' || !thread_times(e->d_name, name, &cpu_s))
            continue;
        comma(to, &first);
        fprintf(to, "{\"tid\": %s, \"name\": ", e->d_name);
        gw_quote(to, name);
        fprintf(to, ", \"cpu_s\": %.2f}", cpu_s);
    }
    if (d)
        closedir(d);
    fputs("],\n", to);
}

/* -- nodes ------------------------------------------------------------------------------------------- */

/* Every reason by its name, also those that never were. */
static void write_gaps(FILE *to, const atomic_uint_fast64_t samples[GW_GAP_REASON_COUNT])
{
    fputs("\"gap_samples\": {", to);
    for (int r = GW_GAP_NONE + 1; r < GW_GAP_REASON_COUNT; r++)
        fprintf(to, "%s\"%s\": %" PRIu64, r > 1 ? ", " : "", gw_gap_reason_text((gw_gap_reason)r),
                u(&samples[r]));
    fputc('}', to);
}

static void write_rate(FILE *to, const gw_spec *s)
{
    fprintf(to, "\"rate\": [%" PRIu32 ", %" PRIu32 "], \"channels\": %" PRIu32, s->rate.num, s->rate.den,
            s->n_channels);
}

/* False after the last. */
static bool read_gauge(const gw_counters *c, int k, const char **name, double *value)
{
    *name = k < GW_MAX_GAUGES ? atomic_load_explicit(&c->gauge[k].name, memory_order_acquire) : NULL;
    if (*name)
        *value = atomic_load_explicit(&c->gauge[k].value, memory_order_relaxed);
    return *name;
}

static void write_gauges(FILE *to, const gw_counters *c)
{
    const char *name;
    double value = 0;
    fputs(", \"gauges\": {", to);
    for (int k = 0; read_gauge(c, k, &name, &value); k++) {
        fprintf(to, "%s\"%s\": ", k ? ", " : "", name);
        if (isfinite(value))
            fprintf(to, "%.9g", value);
        else
            fputs("null", to);
    }
    fputc('}', to);
}

void gw_monitor_print_gauges(const gw_graph *g, FILE *to)
{
    for (int i = 0; i < g->n_nodes; i++) {
        const char *name;
        double value = 0;
        int k = 0;
        for (; g->node[i]->here && read_gauge(&g->node[i]->count, k, &name, &value); k++)
            fprintf(to, fabs(value) < 1e4 ? "%s%s %s %.4g" : "%s%s %s %.0f", k ? "," : g->node[i]->name,
                    k ? "" : ":", name, value);
        if (k)
            fputc('\n', to);
    }
}

static void write_node(FILE *to, const gw_node *n)
{
    static const char *const role[] = {"source", "stage", "sink"};
    const gw_counters *c = &n->count;
    fputs("{\"name\": ", to);
    gw_quote(to, n->name);
    fprintf(to, ", \"kind\": \"%s\", \"role\": \"%s\", \"tid\": %d, \"data_ns\": %" PRId64, n->kind->kind,
            role[n->kind->role], atomic_load_explicit(&c->tid, memory_order_relaxed), s(&c->data_ns));
    fprintf(to, ", \"steps\": %" PRIu64 ", \"step_ns\": %" PRIu64 ", \"step_max_ns\": %" PRIu64, u(&c->steps),
            u(&c->step_ns), u(&c->step_max_ns));
    for (int w = 0; w < GW_CAUSE_COUNT; w++)
        fprintf(to, "%s\"%s\": {\"times\": %" PRIu64 ", \"ns\": %" PRIu64 "}", w ? ", " : ", \"waits\": {",
                gw_cause_text((gw_cause)w), u(&c->waits[w]), u(&c->wait_ns[w]));
    fprintf(to, "}, \"events\": %" PRIu64 ", \"bad_inputs\": %" PRIu64, u(&c->events), u(&c->bad_inputs));
    write_gauges(to, c);
    fprintf(to, ", \"takes_commands\": %s, \"outputs\": [", n->kind->command ? "true" : "false");
    for (int o = 0; o < n->n_out; o++) {
        const gw_output *out = &n->out[o];
        fprintf(to, "%s{\"stream\": ", o ? ", " : "");
        gw_quote(to, out->spec.name);
        fputs(", ", to);
        write_rate(to, &out->spec);
        fprintf(to, ", \"slabs\": %d, \"slabs_free\": %d, \"slab_bytes\": %zu, ", gw_pool_slabs(out->pool),
                gw_pool_free_slabs(out->pool), gw_pool_bytes(out->pool) / (size_t)gw_pool_slabs(out->pool));
        write_gaps(to, out->gap_samples);
        fputc('}', to);
    }
    fputs("]}", to);
}

/* -- links ------------------------------------------------------------------------------------------- */

static void write_end(FILE *to, const char *name, const gw_link_counts *c)
{
    fprintf(to, ",\n    \"%s\": ", name);
    if (!c) { /* in another process */
        fputs("null", to);
        return;
    }
    fprintf(to,
            "{\"blocks\": %" PRIu64 ", \"gaps\": %" PRIu64 ", \"bytes\": %" PRIu64
            ", \"copied_bytes\": %" PRIu64 ", \"dropped\": %" PRIu64 ", \"dropped_samples\": %" PRIu64
            ", \"resent\": %" PRIu64,
            u(&c->blocks), u(&c->gaps), u(&c->bytes), u(&c->copied_bytes), u(&c->dropped),
            u(&c->dropped_samples), u(&c->resent));
    fprintf(to,
            ", \"duplicates\": %" PRIu64 ", \"malformed\": %" PRIu64 ", \"sessions\": %" PRIu64
            ", \"credits\": %" PRId64 ", \"heard_ns\": %" PRId64 "}",
            u(&c->duplicates), u(&c->malformed), u(&c->sessions), s(&c->credits), s(&c->heard_ns));
}

static void write_ages(FILE *to, const gw_ages *ages)
{
    gw_ages_seen seen;
    gw_ages_read(ages, &seen);
    fprintf(to,
            ",\n    \"age\": {\"blocks\": %" PRIu64 ", \"p50_ns\": %" PRId64 ", \"p99_ns\": %" PRId64
            ", \"p999_ns\": %" PRId64 ", \"max_ns\": %" PRId64 ", \"from_ns\": [",
            seen.n, gw_ages_quantile_ns(&seen, 0.5), gw_ages_quantile_ns(&seen, 0.99),
            gw_ages_quantile_ns(&seen, 0.999), seen.max_ns);
    const char *between = "";
    for (int b = 0; b < GW_AGE_BUCKETS; b++)
        if (seen.count[b]) {
            fprintf(to, "%s%" PRId64, between, gw_ages_lower_ns(b));
            between = ", ";
        }
    fputs("], \"count\": [", to);
    between = "";
    for (int b = 0; b < GW_AGE_BUCKETS; b++)
        if (seen.count[b]) {
            fprintf(to, "%s%" PRIu64, between, seen.count[b]);
            between = ", ";
        }
    fputs("]}", to);
}

/* What both kinds of link have; `crosses`: the other end is in another process. */
static void write_way(FILE *to, const gw_spec *spec, const char *from, const char *taker,
                      const gw_route *route, bool crosses, int credit, bool drops)
{
    fputs("{\"stream\": ", to);
    gw_quote(to, spec->name);
    fputs(", \"from\": ", to);
    gw_quote(to, from);
    fputs(", \"to\": ", to);
    gw_quote(to, taker);
    fprintf(to, ", \"transport\": \"%s\", \"lanes\": %d, \"on_full\": \"%s\", \"credit\": %d, ",
            gw_transport_text(crosses ? route->transport : GW_INPROC), crosses ? route->lanes : 1,
            drops ? "drop" : "wait", credit);
    write_rate(to, spec);
}

/* The sender's end of the link to `in`. */
static const gw_link_counts *sent_counts(const gw_input *in)
{
    const gw_node *n = in->from;
    for (int o = 0; o < n->n_out; o++)
        for (int k = 0; k < n->out[o].n_links; k++)
            if (n->out[o].link[k].to == in)
                return &n->out[o].link[k].count;
    return NULL;
}

static void write_link(FILE *to, const gw_input *in)
{
    const bool sender = in->from->here, receiver = in->node->here;
    write_way(to, in->spec, in->from->name, in->node->name, &in->route, !sender || !receiver, in->credit,
              in->on_full == GW_DROP);
    write_end(to, "sent", sender ? sent_counts(in) : NULL);
    write_end(to, "received", receiver ? &in->link_count : NULL);
    if (receiver) {
        write_ages(to, &in->count.age);
        fprintf(to, ",\n    \"late_samples\": %" PRIu64 ", ", u(&in->count.late_samples));
        write_gaps(to, in->count.gap_samples);
    }
    fputc('}', to);
}

/* A block of a feed is an event. */
static void write_feed(FILE *to, const gw_feed *f)
{
    const bool sender = f->from->here, receiver = f->to->here;
    write_way(to, &f->spec, f->from->name, f->to->name, &f->route, !sender || !receiver, GW_FEED_CREDIT,
              false);
    write_end(to, "sent", sender ? &f->sender_count : NULL);
    write_end(to, "received", receiver ? &f->receiver_count : NULL);
    fputc('}', to);
}

static void write_links(FILE *to, const gw_graph *g)
{
    bool first = true;
    fputs(" \"links\": [", to);
    for (int k = 0; k < g->n_nodes; k++) {
        for (int i = 0; i < g->node[k]->n_in; i++) {
            const gw_input *in = &g->node[k]->in[i];
            if (!in->from->here && !in->node->here)
                continue;
            comma(to, &first);
            write_link(to, in);
        }
    }
    fputs("],\n \"feeds\": [", to);
    first = true;
    for (int k = 0; k < g->n_feeds; k++) {
        if (!g->feed[k]->from->here && !g->feed[k]->to->here)
            continue;
        comma(to, &first);
        write_feed(to, g->feed[k]);
    }
    fputs("],\n", to);
}

/* -- all of it --------------------------------------------------------------------------------------- */

/* gw_conf_where says "file:line:column" of the tree's root. */
static void write_file(FILE *to, const gw_graph *g)
{
    char name[512];
    snprintf(name, sizeof name, "%s", gw_conf_where(gw_conf_root(g->file)));
    for (int k = 0; k < 2; k++) {
        char *colon = strrchr(name, ':');
        if (colon)
            *colon = '\0';
    }
    gw_quote(to, name);
}

void gw_monitor_write(gw_graph *g, FILE *to)
{
    gw_graph_status s;
    gw_graph_get_status(g, &s);
    const gw_timebase t = gw_graph_timebase(g);
    const bool begun = s.data_ns != GW_NOT_KNOWN_NS;
    fprintf(to, "{\"gwstream\": \"%s\", \"status_version\": %d, \"pid\": %d, \"run_id\": \"%" PRIu64 "\",\n",
            GW_VERSION, STATUS_VERSION, (int)getpid(), g->run_id);
    fputs(" \"graph\": ", to);
    write_file(to, g);
    fputs(", \"node\": ", to);
    gw_quote(to, g->chosen ? g->chosen->name : "");
    fprintf(to, ", \"monotonic_ns\": %" PRId64 ", \"uptime_ns\": %" PRId64 ",\n", gw_monotonic_ns(),
            gw_monotonic_ns() - g->started_ns);
    fprintf(to,
            " \"pace\": %.9g, \"begun\": %s, \"first_ns\": %" PRId64 ", \"data_ns\": %" PRId64
            ", \"events\": %" PRIu64 ", \"stopping\": %s,\n",
            t.pace, begun ? "true" : "false", begun ? s.first_ns : 0, begun ? s.data_ns : 0, s.events,
            gw_graph_stopping(g) ? "true" : "false");
    write_process(to);
    write_threads(to);
    write_links(to, g);
    bool first = true;
    fputs(" \"nodes\": [", to);
    for (int k = 0; k < g->n_nodes; k++) {
        if (!g->node[k]->here)
            continue;
        comma(to, &first);
        write_node(to, g->node[k]);
    }
    fputs("]}\n", to);
}
