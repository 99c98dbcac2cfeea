/* SPDX-License-Identifier: GPL-3.0-or-later
 * kind: alerts. Takes the events of every part it listens to: commits each to the journal, publishes it,
 * and marks it as published, in this order; so whatever anybody heard is in the journal, whenever this
 * program dies. What a crash left unmarked is published again at the next start ("recovered": true): a
 * subscriber may hear it twice, under the same id, phase and serial, and never not at all.
 *
 *   journal: gwstream.sqlite           the journal's file
 *   publish: tcp://127.0.0.1:5556      ZeroMQ PUB, or ipc://PATH; frames "event.first", JSON. Default: none
 *   beyond_host: false                 whether `publish` may be heard from other hosts
 *   print: stdout                      stdout | stderr | none | a file to append JSON lines to
 *   print_injections: false            also print what a simulation says it injected */
#include "pipeline/log.h"
#include "pipeline/stage.h"
#include "sinks/journal.h"
#include "sinks/publisher.h"

#include <stdio.h>
#include <string.h>

enum { WAIT_FOR_SUBSCRIBERS_MS = 1000 };

typedef struct alerts {
    const char *name, *journal_path, *publish, *print; /* the configuration's */
    bool beyond_host, print_injections;
    gw_journal *journal;
    gw_publisher *publisher;
    int lines; /* descriptor; -1 = none */
    uint64_t events, again, unprinted;
    int64_t commit_sum_ns, commit_max_ns;
    char json[GW_JOURNAL_JSON_BYTES];
} alerts;

static int configure(void *self, gw_conf *conf)
{
    alerts *a = self;
    a->name = "alerts";
    a->journal_path = "gwstream.sqlite";
    a->print = "stdout";
    a->lines = -1;
    GW_TRY(gw_conf_get_text(conf, "journal", &a->journal_path));
    GW_TRY(gw_conf_get_text(conf, "publish", &a->publish));
    GW_TRY(gw_conf_get_bool(conf, "beyond_host", &a->beyond_host));
    GW_TRY(gw_conf_get_text(conf, "print", &a->print));
    GW_TRY(gw_conf_get_bool(conf, "print_injections", &a->print_injections));
    if (!*a->journal_path)
        return gw_conf_fail(conf, "alerts: journal: wants the name of a file");
    if (!*a->print)
        return gw_conf_fail(conf, "alerts: print: wants stdout, stderr, none or the name of a file");
    if (a->publish && strcmp(a->publish, "none") == 0)
        a->publish = NULL;
    if (a->publish && gw_publisher_check(a->publish, a->beyond_host) < 0)
        return gw_conf_fail(conf, "alerts: %s", gw_err_detail());
    return 0;
}

static int plan(void *self, gw_plan *p)
{
    (void)self;
    if (!p->has_events_in)
        return gw_fail(GW_ECONFIG, "%s: nothing in its 'from' makes events; name a detect stage", p->name);
    p->n_out = 0;
    p->memory_bytes = 4u << 20; /* SQLite's page cache */
    return 0;
}

/* Printing is a convenience beside the journal: a closed pipe or a full disk does not end the search; it
 * is said once, and again by drain's return value. */
static void print_line(alerts *a, size_t bytes)
{
    if (a->lines < 0 || gw_lines_write(a->lines, a->print, a->json, bytes) == 0)
        return;
    if (a->unprinted++ == 0)
        gw_log(GW_LOG_WARN, a->name, "%s; events go on to the journal", gw_err_detail());
}

/* To the socket, to the lines, and into the journal that it has been done. */
static int publish(alerts *a, const gw_event *e, int serial, bool recovered)
{
    int64_t now = gw_gps_now_ns();
    int n = gw_journal_json(e, serial, now, recovered, a->json, sizeof a->json);
    GW_TRY(n);
    if (a->publisher) {
        char topic[32];
        snprintf(topic, sizeof topic, "event.%s", gw_phase_text(e->phase));
        GW_TRY(gw_publisher_send(a->publisher, topic, a->json, (size_t)n));
    }
    print_line(a, (size_t)n);
    return gw_journal_mark(a->journal, e, serial, now, recovered, a->json);
}

static int publish_again(void *self, const gw_journal_row *row)
{
    alerts *a = self;
    if (a->again++ == 0 && a->publisher)
        gw_publisher_wait(a->publisher, WAIT_FOR_SUBSCRIBERS_MS);
    return publish(a, &row->event, row->serial, true);
}

static int open_all(void *self, gw_env *env)
{
    alerts *a = self;
    a->name = gw_env_name(env);
    GW_TRY(gw_journal_open(&a->journal, a->journal_path));
    if (a->publish)
        GW_TRY(gw_publisher_open(&a->publisher, a->publish));
    if (strcmp(a->print, "none") != 0)
        GW_TRY(gw_lines_open(a->print, &a->lines));
    GW_TRY(gw_journal_each(a->journal, &(gw_journal_query){.pending = true}, publish_again, a));
    if (a->again)
        gw_log(GW_LOG_WARN, a->name,
               "%s: %llu message%s committed but not known to be published; published again", a->journal_path,
               (unsigned long long)a->again, a->again == 1 ? " was" : "s were");
    return 0;
}

static int take_injection(alerts *a, const gw_event *e)
{
    GW_TRY(gw_journal_put_injection(a->journal, e));
    if (!a->print_injections)
        return 0;
    int n = gw_event_json(e, GW_NOT_KNOWN_NS, a->json, sizeof a->json);
    GW_TRY(n);
    print_line(a, (size_t)n);
    return 0;
}

static int take_event(alerts *a, const gw_event *e)
{
    int serial = 0;
    bool published = false;
    int64_t start = gw_monotonic_ns();
    GW_TRY(gw_journal_put(a->journal, e, &serial, &published));
    int64_t took = gw_monotonic_ns() - start;
    a->events++;
    a->commit_sum_ns += took;
    if (took > a->commit_max_ns)
        a->commit_max_ns = took;
    if (!published)
        return publish(a, e, serial, false);

    /* A replay of what has been published before: the same line, and nothing else. */
    int n = gw_journal_json(e, serial, gw_gps_now_ns(), false, a->json, sizeof a->json);
    GW_TRY(n);
    print_line(a, (size_t)n);
    return 0;
}

static int event(void *self, const gw_event *e)
{
    alerts *a = self;
    int err = e->phase == GW_PHASE_INJECTION ? take_injection(a, e) : take_event(a, e);
    if (err < 0) /* the run ends with this; what could not be kept is at least said in full */
        gw_log(GW_LOG_ERROR, a->name,
               "event %.23s %s, GPS %lld.%09lld, statistic %g: not journaled or not published", e->id,
               gw_phase_text(e->phase), (long long)(e->gps_ns / GW_SECOND_NS),
               (long long)(e->gps_ns % GW_SECOND_NS), e->statistic);
    return err;
}

/* This run in up to three lines, for the operator. */
static void say_summary(alerts *a)
{
    gw_journal_summary s;
    char text[640], *rest = text;
    if (gw_journal_summarise(a->journal, gw_journal_run(a->journal), &s) != GW_OK)
        return;
    gw_journal_summary_text(&s, text, sizeof text);
    for (char *line; (line = strsep(&rest, "\n")) && *line;)
        gw_log(GW_LOG_INFO, a->name, "%s", line);
}

static int drain(void *self, gw_out *out)
{
    (void)out;
    alerts *a = self;
    if (a->events)
        gw_log(GW_LOG_DEBUG, a->name, "%s: %llu message%s committed in %.1f ms each, %.1f ms at most",
               a->journal_path, (unsigned long long)a->events, a->events == 1 ? "" : "s",
               (double)a->commit_sum_ns / (double)a->events / 1e6, (double)a->commit_max_ns / 1e6);
    say_summary(a);
    if (a->unprinted)
        return gw_fail(
            GW_EIO, "print: %s: %llu line%s could not be written; what was found is in the journal %s",
            a->print, (unsigned long long)a->unprinted, a->unprinted == 1 ? "" : "s", a->journal_path);
    return 0;
}

static void close_all(void *self)
{
    alerts *a = self;
    gw_publisher_close(&a->publisher);
    gw_journal_close(&a->journal);
    gw_lines_close(&a->lines);
}

const gw_kind gw_kind_alerts = {
    .kind = "alerts",
    .help = "journals events in SQLite, then publishes them (ZeroMQ PUB, JSON lines)",
    .role = GW_SINK,
    .takes_events = true,
    .state_size = sizeof(alerts),
    .configure = configure,
    .plan = plan,
    .open = open_all,
    .event = event,
    .drain = drain,
    .close = close_all,
};
