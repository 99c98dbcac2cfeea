/* SPDX-License-Identifier: GPL-3.0-or-later
 * kind: alerts. Takes the events of every part it listens to: commits each to the journal, publishes it,
 * and marks it as published, in this order; so whatever anybody heard is in the journal, whenever this
 * program dies. What a crash left unmarked is published again at the next start ("recovered": true): a
 * subscriber may hear it twice, under the same id, phase and serial, and never not at all. Brokers are served
 * by couriers, out of the journal; here they are only woken.
 *
 *   journal: gwstream.sqlite           the journal's file
 *   publish: tcp://127.0.0.1:5556      ZeroMQ PUB, or ipc://PATH; frames "event.first", JSON. Default: none
 *   beyond_host: false                 whether `publish` may be heard from other hosts
 *   print: stdout                      stdout | stderr | none | a file to append JSON lines to
 *   print_injections: false            also print what a simulation says it injected
 *   background_least: 1d               slid time from which a live background takes the place of the card's
 *   brokers: [{name, bootstrap, topic, face, ...}]   Kafka: broker.h, kafka.h
 *   refractory: 8s                     where several detect stages come in: their events this close are one
 *
 * Several detect stages (raw and cleaned strain, several models) are branches of one search: merge.c makes
 * one event of what they say of one signal, before the journal. */
#include "pipeline/log.h"
#include "pipeline/stage.h"
#include "sinks/courier.h"
#include "sinks/journal.h"
#include "sinks/live_rate.h"
#include "sinks/merge.h"
#include "sinks/publisher.h"

#include <stdio.h>
#include <string.h>

enum { WAIT_FOR_SUBSCRIBERS_MS = 1000 };

typedef struct alerts {
    const char *name, *journal_path, *publish, *print; /* the configuration's */
    bool beyond_host, print_injections;
    int64_t refractory_ns;
    gw_merge_conf branches;
    gw_merge *merge; /* NULL: events come from one stage */
    gw_journal *journal;
    gw_publisher *publisher;
    gw_env *env;
    gw_origin origin;
    int n_brokers;
    gw_broker broker[GW_MAX_BROKERS];
    gw_courier *courier[GW_MAX_BROKERS];
    gw_courier_totals totals;
    int lines; /* descriptor; -1 = none */
    gw_live_rates live;
    uint64_t events, again, unprinted;
    int64_t commit_sum_ns, commit_max_ns;
    char json[GW_JOURNAL_JSON_BYTES];
} alerts;

static int read_brokers(alerts *a, gw_conf *conf)
{
    gw_conf *list = gw_conf_find(conf, "brokers");
    if (list && gw_conf_kind(list) != GW_CONF_LIST)
        return gw_conf_fail(list, "brokers: a list of maps with name, bootstrap, topic and face");
    if (list && gw_conf_count(list) > GW_MAX_BROKERS)
        return gw_conf_fail(list, "brokers: at most %d", GW_MAX_BROKERS);
    for (int i = 0; list && i < gw_conf_count(list); i++) {
        gw_conf *item = gw_conf_item(list, i);
        GW_TRY(gw_broker_configure(&a->broker[i], item));
        for (int k = 0; k < i; k++)
            if (strcmp(a->broker[k].name, a->broker[i].name) == 0)
                return gw_conf_fail(item, "brokers: two are named %s", a->broker[i].name);
        a->n_brokers++;
    }
    return 0;
}

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
    int64_t least_ns = 86400 * GW_SECOND_NS;
    GW_TRY(gw_conf_get_span_ns(conf, "background_least", &least_ns));
    a->live.least_s = (double)least_ns / 1e9;
    a->refractory_ns = 8 * GW_SECOND_NS;
    GW_TRY(gw_conf_get_span_ns(conf, "refractory", &a->refractory_ns));
    /* Shorter, and two events could share a GPS second, and so an id. */
    if (a->refractory_ns < 3 * GW_SECOND_NS || a->refractory_ns > 3600 * GW_SECOND_NS)
        return gw_conf_fail(gw_conf_find(conf, "refractory"), "refractory: want 3s to 1h");
    GW_TRY(read_brokers(a, conf));
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
    alerts *a = self;
    if (!p->has_events_in)
        return gw_fail(GW_ECONFIG, "%s: nothing in its 'from' makes events; name a detect stage", p->name);
    if (p->n_branches > GW_MERGE_BRANCHES)
        return gw_fail(GW_ECONFIG, "%s: %d stages make events for it, at most %d can", p->name, p->n_branches,
                       GW_MERGE_BRANCHES);
    a->origin = p->origin;
    for (int i = 0; i < a->n_brokers; i++)
        GW_TRY(gw_broker_allow(&a->broker[i], p->origin, p->publish));
    if (!p->n_branches && p->n_backgrounds)
        return gw_fail(GW_ECONFIG, "%s: a background, and no detect stage whose events get their rate by it",
                       p->name);
    a->branches.n_branches = p->n_branches > 1 || p->n_backgrounds ? p->n_branches : 0;
    a->branches.n_tables = p->n_backgrounds;
    for (int i = 0; i < p->n_backgrounds; i++)
        a->branches.table_of[i] = p->background[i];
    for (int i = 0; i < a->branches.n_branches; i++)
        a->branches.branch[i] = p->branch[i];
    p->n_out = 0;
    p->memory_bytes = 4u << 20; /* SQLite's page cache */
    if (a->branches.n_branches > 1)
        snprintf(p->note, sizeof p->note, "one event out of %d branches, its rate times %d", p->n_branches,
                 p->n_branches);
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

/* All brokers together, for who watches. Called by the couriers. */
static void show_brokers(void *self)
{
    alerts *a = self;
    gw_env_gauge(a->env, "broker_acked", (double)a->totals.acked);
    gw_env_gauge(a->env, "broker_waiting", (double)a->totals.waiting);
    gw_env_gauge(a->env, "broker_refused", (double)a->totals.refused);
    gw_env_gauge(a->env, "broker_troubles", (double)a->totals.troubles);
}

/* Everything that is told is committed before, so couriers find it in the journal. */
static int start_couriers(alerts *a)
{
    static const char *const origin[] = {"live", "replay", "sim"};
    GW_TRY(gw_journal_set_origin(a->journal, origin[a->origin]));
    if (a->n_brokers)
        show_brokers(a); /* makes the gauges, in this thread */
    for (int i = 0; i < a->n_brokers; i++)
        GW_TRY(gw_courier_start(&a->courier[i], &a->broker[i], a->journal_path, &a->totals, show_brokers, a));
    return 0;
}

/* All of them get their last seconds at the same time. */
static void end_couriers(alerts *a)
{
    for (int i = 0; i < a->n_brokers; i++)
        if (a->courier[i])
            gw_courier_finish(a->courier[i]);
    for (int i = 0; i < a->n_brokers; i++)
        gw_courier_end(&a->courier[i]);
}

/* To the brokers' couriers, to the socket, to the lines, and into the journal that it has been done. */
static int publish(alerts *a, const gw_event *e, int serial, bool recovered)
{
    for (int i = 0; i < a->n_brokers; i++)
        gw_courier_wake(a->courier[i]);
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

/* Of the events in the journal that this sink made of branches, the one whose first word is nearest. */
typedef struct nearest {
    const char *group;
    int64_t gps_ns, least_ns;
    char id[GW_EVENT_ID_BYTES];
    bool found;
} nearest;

static int look_at(void *user, const char *id, int64_t gps_ns)
{
    nearest *n = user;
    const int64_t away_ns = gps_ns > n->gps_ns ? gps_ns - n->gps_ns : n->gps_ns - gps_ns;
    if (away_ns > n->least_ns || !gw_merge_has_id(n->group, gps_ns, id))
        return 0;
    n->least_ns = away_ns;
    n->found = true;
    snprintf(n->id, sizeof n->id, "%s", id);
    return 0;
}

static int look_up(void *user, int64_t gps_ns, int64_t refractory_ns, char id[GW_EVENT_ID_BYTES])
{
    alerts *a = user;
    nearest n = {.group = a->name, .gps_ns = gps_ns, .least_ns = refractory_ns};
    GW_TRY(gw_journal_each_first(a->journal, gps_ns - refractory_ns, gps_ns + refractory_ns, look_at, &n));
    if (n.found)
        memcpy(id, n.id, sizeof n.id);
    return n.found;
}

static int take_table(void *user, const gw_event *e)
{
    return gw_live_rates_take(&((alerts *)user)->live, e);
}

static void give_rate(void *user, gw_event *word)
{
    gw_live_rates_give(&((alerts *)user)->live, word);
}

static int open_all(void *self, gw_env *env)
{
    alerts *a = self;
    a->name = gw_env_name(env);
    if (a->branches.n_branches) {
        a->branches.group = a->name;
        a->branches.refractory_ns = a->refractory_ns;
        a->branches.known = look_up;
        a->branches.table = take_table;
        a->branches.rate = give_rate;
        a->branches.user = a;
        GW_TRY(gw_merge_new(&a->merge, &a->branches));
    }
    a->env = env;
    GW_TRY(gw_journal_open(&a->journal, a->journal_path));
    GW_TRY(start_couriers(a));
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

/* All that the branches' words make due. */
static int tell_merged(alerts *a)
{
    gw_event e;
    int due;
    while ((due = gw_merge_next(a->merge, &e)) == 1)
        GW_TRY(take_event(a, &e));
    return due;
}

static int take_word(alerts *a, const gw_event *e)
{
    if (!a->merge || !gw_merge_has_branch(a->merge, e->stream))
        return take_event(a, e);
    GW_TRY(gw_merge_take(a->merge, e));
    return tell_merged(a);
}

static int reached(void *self, const char *stage, int64_t told_ns)
{
    alerts *a = self;
    if (!a->merge)
        return 0;
    gw_merge_reached(a->merge, stage, told_ns);
    return tell_merged(a);
}

static int background(void *self, const gw_event *e)
{
    alerts *a = self;
    if (!a->merge)
        return 0;
    GW_TRY(gw_merge_take(a->merge, e));
    return tell_merged(a);
}

static int event(void *self, const gw_event *e)
{
    alerts *a = self;
    int err = e->phase == GW_PHASE_INJECTION ? take_injection(a, e) : take_word(a, e);
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
    if (a->merge) {
        gw_merge_end(a->merge);
        GW_TRY(tell_merged(a));
    }
    end_couriers(a);
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
    end_couriers(a);
    gw_merge_destroy(&a->merge);
    gw_publisher_close(&a->publisher);
    gw_journal_close(&a->journal);
    gw_lines_close(&a->lines);
}

const gw_kind gw_kind_alerts = {
    .kind = "alerts",
    .help = "journals events in SQLite, then publishes them (ZeroMQ PUB, JSON lines, Kafka)",
    .role = GW_SINK,
    .takes_events = true,
    .state_size = sizeof(alerts),
    .configure = configure,
    .plan = plan,
    .open = open_all,
    .event = event,
    .background = background,
    .reached = reached,
    .drain = drain,
    .close = close_all,
};
