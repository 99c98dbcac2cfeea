/* SPDX-License-Identifier: GPL-3.0-or-later
 * kind: ring. The last seconds of its streams in memory, and stretches of them as files, round events or on
 * command. Run by the runner; a stretch as a file is dump.c's. Copies no sample: it holds the blocks.
 *
 * Files are written between two blocks, for at most BUDGET_NS at a time, so that the link behind never waits
 * long. Yet no wall clock decides what is in a file: a block that must leave the ring and is still to be
 * written is written first. */
#include "pipeline/log.h"
#include "pipeline/stage.h"
#include "sinks/dump.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_DUMPS = 8, MAX_AGAIN = 1000, BUDGET_NS = 50000000, MIN_ENTRIES = 64 };

/* A block that is held, or a hole. */
typedef struct entry {
    gw_block *block; /* NULL: a hole */
    gw_hole hole;
    int64_t start, end;
} entry;

/* What is held of one stream: entries [tail, tail + n) of a ring of `room`. */
typedef struct port {
    entry *entry;
    size_t room, tail, n;
    int64_t keep_samples;
    int64_t end; /* the newest sample's */
} port;

typedef struct ring {
    char *path;
    int64_t keep_ns, before_ns, after_ns;
    bool on[GW_PHASE_INJECTION + 1];
    gw_spec spec[GW_MAX_PORTS];
    port port[GW_MAX_PORTS];
    int n_ports;
    gw_hdf5_out_conf conf;
    char *name;
    gw_dump *dump[MAX_DUMPS];
    bool of_events[MAX_DUMPS];
    int64_t next_flush_ns;
    int failed;
} ring;

/* ---- configure and plan ---- */

static double gps(int64_t ns)
{
    return (double)ns * 1e-9;
}

static int read_phases(gw_conf *conf, ring *r)
{
    gw_conf *list = gw_conf_find(conf, "on");
    r->on[GW_PHASE_FINAL] = !list;
    if (list && gw_conf_kind(list) != GW_CONF_LIST)
        return gw_conf_fail(list, "on: expected a list of phases of events, [final]");
    for (int i = 0; list && i < gw_conf_count(list); i++) {
        const char *word;
        int phase = GW_PHASE_FIRST;
        GW_TRY(gw_conf_text(gw_conf_item(list, i), &word));
        while (phase <= GW_PHASE_RETRACTED && strcmp(word, gw_phase_text((gw_phase)phase)) != 0)
            phase++;
        if (phase > GW_PHASE_RETRACTED)
            return gw_conf_fail(gw_conf_item(list, i), "on: '%s' is none of first, update, final, retracted",
                                word);
        r->on[phase] = true;
    }
    return GW_OK;
}

static int ring_configure(void *self, gw_conf *conf)
{
    ring *r = self;
    gw_conf *node;
    const char *path = "";
    r->keep_ns = 60 * GW_SECOND_NS;
    r->before_ns = r->after_ns = 8 * GW_SECOND_NS;
    GW_TRY(gw_conf_need(conf, "path", &node));
    GW_TRY(gw_conf_get_text(conf, "path", &path));
    if (!*path)
        return gw_conf_fail(node, "path: is empty");
    GW_TRY(gw_conf_get_span_ns(conf, "keep", &r->keep_ns));
    GW_TRY(gw_conf_get_span_ns(conf, "before", &r->before_ns));
    GW_TRY(gw_conf_get_span_ns(conf, "after", &r->after_ns));
    GW_TRY(read_phases(conf, r));
    node = gw_conf_find(conf, "before");
    if (r->before_ns > r->keep_ns)
        return gw_conf_fail(node ? node : conf, "before: %g s is longer than keep: %g s", gps(r->before_ns),
                            gps(r->keep_ns));
    if (r->before_ns + r->after_ns == 0)
        return gw_conf_fail(node ? node : conf, "before and after: nothing is left to write");
    r->path = strdup(path);
    return r->path ? GW_OK : gw_fail(GW_ENOMEM, "%s", path);
}

static void free_specs(ring *r)
{
    while (r->n_ports > 0)
        gw_spec_free(&r->spec[--r->n_ports]);
}

static int64_t block_ns(const gw_spec *s)
{
    return gw_sample_to_ns(s->block_samples, s->rate, 0);
}

static int ring_plan(void *self, gw_plan *plan)
{
    ring *r = self;
    free_specs(r);
    if (plan->n_in == 0)
        return gw_fail(GW_ECONFIG, "%s: 'from' names no stream of samples", plan->name);
    for (; r->n_ports < plan->n_in; r->n_ports++) {
        const gw_spec *s = &plan->in[r->n_ports];
        GW_TRY(gw_hdf5_out_check_spec(s));
        GW_TRY(gw_spec_copy(&r->spec[r->n_ports], s));
        r->port[r->n_ports] =
            (port){.keep_samples = gw_sample_at_or_after(r->keep_ns, s->rate, 0), .end = INT64_MIN};
        plan->keep_ns[r->n_ports] = r->keep_ns + 2 * block_ns(s);
    }
    return gw_hdf5_out_check(r->path, true);
}

static int ring_open(void *self, gw_env *env)
{
    ring *r = self;
    r->conf = (gw_hdf5_out_conf){.spec = r->spec, .n_streams = r->n_ports, .run_id = gw_env_run_id(env)};
    r->name = strdup(gw_env_name(env));
    return r->name ? GW_OK : gw_fail(GW_ENOMEM, "ring");
}

/* ---- what is held ---- */

static entry *entry_at(port *p, size_t i)
{
    return &p->entry[(p->tail + i) % p->room];
}

static int grow(port *p)
{
    if (p->n < p->room)
        return GW_OK;
    const size_t room = p->room ? 2 * p->room : MIN_ENTRIES;
    entry *more = malloc(room * sizeof *more);
    if (!more)
        return gw_fail(GW_ENOMEM, "a ring of %zu blocks", room);
    for (size_t i = 0; i < p->n; i++)
        more[i] = *entry_at(p, i);
    free(p->entry);
    p->entry = more;
    p->room = room;
    p->tail = 0;
    return GW_OK;
}

/* The first entry that ends after `sample`. */
static size_t find(port *p, int64_t sample)
{
    size_t lo = 0, hi = p->n;
    while (lo < hi) {
        const size_t mid = lo + (hi - lo) / 2;
        if (entry_at(p, mid)->end > sample)
            hi = mid;
        else
            lo = mid + 1;
    }
    return lo;
}

/* ---- dumps ---- */

/* A dump that fails costs that file, not the ring. */
static void fail_dump(ring *r, int i)
{
    gw_log(GW_LOG_ERROR, r->name, "%s; this dump is given up", gw_err_detail());
    gw_dump_destroy(&r->dump[i]);
    r->failed++;
}

static void finish_dump(ring *r, int i)
{
    int64_t from_ns, to_ns;
    if (gw_dump_finish(r->dump[i]) < 0) {
        fail_dump(r, i);
        return;
    }
    gw_dump_span(r->dump[i], &from_ns, &to_ns);
    gw_log(GW_LOG_INFO, r->name, "GPS %.3f to %.3f is in %s", gps(from_ns), gps(to_ns),
           gw_dump_path(r->dump[i]));
    gw_dump_destroy(&r->dump[i]);
}

static int write_entry(gw_dump *d, int port_number, const entry *e)
{
    return e->block ? gw_dump_block(d, port_number, e->block) : gw_dump_hole(d, port_number, &e->hole);
}

/* One entry of each port at a time, oldest first, until `until_ns` (monotonic). */
static int advance(ring *r, gw_dump *d, int64_t until_ns, bool *done)
{
    for (bool progress = true; progress && gw_monotonic_ns() < until_ns;) {
        bool beyond = true;
        progress = false;
        for (int i = 0; i < r->n_ports; i++) {
            port *p = &r->port[i];
            const size_t k = p->n ? find(p, gw_dump_at(d, i)) : p->n;
            if (k < p->n && gw_dump_wants(d, i, entry_at(p, k)->start, entry_at(p, k)->end)) {
                GW_TRY(write_entry(d, i, entry_at(p, k)));
                progress = true;
            }
            beyond &= gw_dump_beyond(d, i, p->end);
        }
        *done = beyond && !progress;
    }
    return GW_OK;
}

static void work(ring *r, int64_t budget_ns)
{
    const int64_t now_ns = gw_monotonic_ns(),
                  until_ns = budget_ns == INT64_MAX ? INT64_MAX : now_ns + budget_ns;
    const bool flush = now_ns >= r->next_flush_ns;
    if (flush)
        r->next_flush_ns = now_ns + GW_SECOND_NS;
    for (int i = 0; i < MAX_DUMPS; i++) {
        bool done = false;
        if (!r->dump[i])
            continue;
        if (advance(r, r->dump[i], until_ns, &done) < 0 || (flush && gw_dump_flush(r->dump[i]) < 0))
            fail_dump(r, i);
        else if (done)
            finish_dump(r, i);
    }
}

/* The oldest entry leaves; who has still to write it does so now. */
static void evict(ring *r, int number)
{
    port *p = &r->port[number];
    entry *e = entry_at(p, 0);
    for (int i = 0; i < MAX_DUMPS; i++)
        if (r->dump[i] && gw_dump_wants(r->dump[i], number, e->start, e->end) &&
            write_entry(r->dump[i], number, e) < 0)
            fail_dump(r, i);
    gw_block_unref(&e->block);
    p->tail = (p->tail + 1) % p->room;
    p->n--;
}

static void name_dump(const ring *r, int64_t from_ns, int again, char *path, size_t n)
{
    const char *slash = strrchr(r->path, '/'), *dot = strrchr(r->path, '.');
    const bool has = dot && dot > r->path && (!slash || dot > slash + 1);
    const int stem = has ? (int)(dot - r->path) : (int)strlen(r->path);
    char more[16] = "";
    if (again > 1)
        snprintf(more, sizeof more, ".%d", again);
    snprintf(path, n, "%.*s-%" PRId64 "%s%s", stem, r->path, from_ns / GW_SECOND_NS, more,
             has ? dot : ".hdf5");
}

/* path NULL: a name of the ring's own. */
static int start_dump(ring *r, const char *path, int64_t from_ns, int64_t to_ns, gw_dump **out)
{
    int i = 0, err = GW_EBUSY;
    const size_t bytes = strlen(r->path) + 64;
    while (i < MAX_DUMPS && r->dump[i])
        i++;
    if (i == MAX_DUMPS)
        return gw_fail(GW_EBUSY, "%d dumps are being written already", MAX_DUMPS);
    r->of_events[i] = !path;
    char *own = path ? NULL : malloc(bytes);
    if (!path && !own)
        return gw_fail(GW_ENOMEM, "%s", r->path);
    for (int again = 1; err == GW_EBUSY && again <= (path ? 1 : MAX_AGAIN); again++) {
        if (own)
            name_dump(r, from_ns, again, own, bytes);
        err = gw_dump_new(&r->dump[i], path ? path : own, &r->conf, from_ns, to_ns);
    }
    free(own);
    *out = r->dump[i];
    return err;
}

/* ---- what comes ---- */

static int hold(ring *r, int number, entry e)
{
    port *p = &r->port[number];
    GW_TRY(grow(p));
    if (e.block)
        gw_block_ref(e.block);
    *entry_at(p, p->n++) = e;
    p->end = e.end;
    while (p->n > 1 && entry_at(p, 0)->end <= p->end - p->keep_samples)
        evict(r, number);
    work(r, BUDGET_NS);
    return GW_OK;
}

static int ring_take(void *self, int port, const gw_view *in)
{
    ring *r = self;
    if (!in->block)
        return gw_fail(GW_EBUG, "%s: a view without its block", r->name);
    return hold(r, port,
                (entry){.block = in->block, .start = in->sample0, .end = in->sample0 + in->n_samples});
}

static int ring_gap(void *self, int port, const gw_hole *hole)
{
    return hold(
        self, port,
        (entry){.hole = *hole, .start = hole->sample0, .end = hole->sample0 + (int64_t)hole->samples});
}

static int ring_event(void *self, const gw_event *e)
{
    ring *r = self;
    gw_dump *d;
    if (e->phase < GW_PHASE_FIRST || e->phase > GW_PHASE_RETRACTED || !r->on[e->phase])
        return GW_OK;
    const int64_t from_ns = e->gps_ns - r->before_ns, to_ns = e->gps_ns + r->after_ns;
    for (int i = 0; i < MAX_DUMPS; i++) {
        int64_t begun_ns, end_ns;
        if (!r->dump[i] || !r->of_events[i])
            continue;
        gw_dump_span(r->dump[i], &begun_ns, &end_ns);
        if (from_ns >= begun_ns && from_ns <= end_ns) {
            gw_dump_extend(r->dump[i], to_ns);
            gw_log(GW_LOG_INFO, r->name, "event %s: also in %s", e->id, gw_dump_path(r->dump[i]));
            return GW_OK;
        }
    }
    if (start_dump(r, NULL, from_ns, to_ns, &d) < 0) {
        gw_log(GW_LOG_ERROR, r->name, "event %s is not dumped: %s", e->id, gw_err_detail());
        r->failed++;
        return GW_OK;
    }
    gw_log(GW_LOG_INFO, r->name, "event %s: to %s", e->id, gw_dump_path(d));
    work(r, BUDGET_NS);
    return GW_OK;
}

/* "dump SECONDS PATH": the newest SECONDS, as far as they are held. */
static int ring_command(void *self, const char *words, char *answer, size_t n)
{
    ring *r = self;
    char span[32] = "", path[4096] = "";
    gw_rate seconds;
    gw_dump *d;
    int64_t newest_ns = INT64_MIN;
    double plain;
    int err = GW_OK;
    for (int i = 0; i < r->n_ports; i++) {
        const port *p = &r->port[i];
        const int64_t ns = p->n ? gw_sample_to_ns(p->end, r->spec[i].rate, r->spec[i].phase_ns) : INT64_MIN;
        newest_ns = ns > newest_ns ? ns : newest_ns;
    }
    if (sscanf(words, "dump %31s %4095[^\n]", span, path) != 2)
        err = gw_fail(GW_EUSAGE, "a ring understands: dump SECONDS PATH");
    else if (gw_parse_double(span, &plain) == GW_OK)
        err = plain > 0 && plain <= 1e9 ? GW_OK : gw_fail(GW_EUSAGE, "dump: %s seconds", span);
    else if ((err = gw_parse_span(span, &seconds)) == GW_OK)
        plain = gw_rate_hz(seconds);
    if (err == GW_OK && newest_ns == INT64_MIN)
        err = gw_fail(GW_EAGAIN, "nothing has come yet");
    if (err == GW_OK) {
        const int64_t span_ns = plain * 1e9 < (double)r->keep_ns ? (int64_t)(plain * 1e9) : r->keep_ns;
        err = start_dump(r, path, newest_ns - span_ns, newest_ns, &d);
        if (err == GW_OK)
            snprintf(answer, n, "GPS %.3f to %.3f goes to %s", gps(newest_ns - span_ns), gps(newest_ns),
                     path);
    }
    if (err < 0)
        snprintf(answer, n, "%s", gw_err_detail());
    return err;
}

static int ring_drain(void *self, gw_out *out)
{
    ring *r = self;
    (void)out;
    work(r, INT64_MAX);
    for (int i = 0; i < MAX_DUMPS; i++)
        if (r->dump[i])
            finish_dump(r, i); /* the stream has ended before the stretch */
    return r->failed ? gw_fail(GW_EIO, "%d dumps could not be written", r->failed) : GW_OK;
}

static void ring_close(void *self)
{
    ring *r = self;
    for (int i = 0; i < MAX_DUMPS; i++)
        gw_dump_destroy(&r->dump[i]);
    for (int i = 0; i < r->n_ports; i++) {
        port *p = &r->port[i];
        for (size_t k = 0; k < p->n; k++)
            gw_block_unref(&entry_at(p, k)->block);
        free(p->entry);
    }
    free_specs(r);
    free(r->name);
    free(r->path);
    *r = (ring){0};
}

const gw_kind gw_kind_ring = {
    .kind = "ring",
    .help = "the last seconds in memory; stretches round events, or on command, to HDF5",
    .role = GW_SINK,
    .takes_events = true,
    .takes_presence = true,
    .state_size = sizeof(ring),
    .configure = ring_configure,
    .plan = ring_plan,
    .open = ring_open,
    .take = ring_take,
    .event = ring_event,
    .gap = ring_gap,
    .drain = ring_drain,
    .command = ring_command,
    .close = ring_close,
};
