/* SPDX-License-Identifier: GPL-3.0-or-later
 * kind: alerts. Takes the events of every part it listens to: commits each to the journal, publishes it,
 * and marks it as published, in this order; so whatever anybody heard is in the journal, whenever this
 * program dies. What a crash left unmarked is published again at the next start ("recovered": true): a
 * subscriber may hear it twice, under the same id, phase and serial, and never not at all. Brokers are served
 * by couriers, out of the journal; here they are only woken. What the journal cannot take (its disk is full, and
 * what was set aside for that is used up) goes out all the same, with "_journaled":false, and is kept in memory until
 * the journal takes it.
 *
 *   journal: gwstream.sqlite           the journal's file
 *   publish: tcp://127.0.0.1:5556      ZeroMQ PUB, or ipc://PATH; frames "event.first", JSON. Default: none
 *   beyond_host: false                 whether `publish` may be heard from other hosts
 *   print: stdout                      stdout | stderr | none | a file to append JSON lines to
 *   print_injections: false            also print what a simulation says it injected
 *   background_least: 1d               slid time from which a live background takes the place of the card's
 *   brokers: [{name, bootstrap, topic, face, ...}]   Kafka: brokers.h, kafka.h
 *   storm: {alerts: 10, within: 10min}   more new events than this are held back from the brokers; or none
 *   refractory: 8s                     where several detect stages come in: their events this close are one
 *
 * Several detect stages (raw and cleaned strain, several models) are branches of one search: merge.c makes
 * one event of what they say of one signal, before the journal. */
#include "pipeline/log.h"
#include "pipeline/stage.h"
#include "sinks/brokers.h"
#include "sinks/journal.h"
#include "sinks/journal_background.h"
#include "sinks/live_rate.h"
#include "sinks/merge.h"
#include "sinks/orders.h"
#include "sinks/publisher.h"
#include "sinks/unkept.h"
#include "sinks/wall.h"

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
    gw_brokers brokers;
    gw_unkept *unkept;
    int64_t write_again_ns, tick_ns, data_ns; /* monotonic; monotonic; stream time reached, 0 = not known */
    bool disobeyed; /* the journal's orders could not be looked at, and it was said */
    gw_wall wall;
    int lines; /* descriptor; -1 = none */
    gw_live_rates live;
    uint64_t unkept_tables;
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
    int64_t least_ns = 86400 * GW_SECOND_NS;
    GW_TRY(gw_conf_get_span_ns(conf, "background_least", &least_ns));
    a->live.least_s = (double)least_ns / 1e9;
    a->refractory_ns = 8 * GW_SECOND_NS;
    GW_TRY(gw_conf_get_span_ns(conf, "refractory", &a->refractory_ns));
    /* Shorter, and two events could share a GPS second, and so an id. */
    if (a->refractory_ns < 3 * GW_SECOND_NS || a->refractory_ns > 3600 * GW_SECOND_NS)
        return gw_conf_fail(gw_conf_find(conf, "refractory"), "refractory: want 3s to 1h");
    GW_TRY(gw_brokers_configure(&a->brokers, conf));
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
    GW_TRY(gw_brokers_allow(&a->brokers, p->origin, p->publish));
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
        snprintf(p->note, sizeof p->note, "one event out of %d branches, its rate times those that search",
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

static int to_socket(alerts *a, const char *topic, const char *text, size_t bytes)
{
    return a->publisher ? gw_publisher_send(a->publisher, topic, text, bytes) : 0;
}

static void news(void *self, const char *topic, const char *text)
{
    alerts *a = self;
    if (to_socket(a, topic, text, strlen(text)) < 0)
        gw_log(GW_LOG_WARN, a->name, "%s", gw_err_detail());
}

/* ---- what the journal cannot take ---- */

/* Any failure of a commit but our own mistakes: the search goes on, and what it finds goes out. */
static bool is_ours(int err)
{
    return err == GW_EBUG || err == GW_ERANGE;
}

static void keep(alerts *a, const gw_unkept_item *item)
{
    if (gw_unkept_count(a->unkept) == 0)
        gw_log(
            GW_LOG_ERROR, a->name,
            "%s; alerts go on, marked as not journaled, and are kept in memory until the journal takes them",
            gw_err_detail());
    gw_unkept_add(a->unkept, item);
    gw_env_gauge(a->env, "journal_unkept", gw_unkept_count(a->unkept));
}

/* The next try after a pause: another program that locks the journal makes each try wait. */
static int write_unkept(alerts *a)
{
    const int64_t now_ns = gw_monotonic_ns();
    const char *name[GW_MAX_BROKERS];
    const int n = gw_unkept_count(a->unkept);
    if (n == 0)
        return 0;
    if (now_ns < a->write_again_ns)
        return gw_fail(GW_EAGAIN, "journal %s: not yet", a->journal_path);
    for (int i = 0; i < a->brokers.n; i++)
        name[i] = a->brokers.broker[i].name;
    const int err = gw_unkept_write(a->unkept, a->journal, name, a->brokers.n, gw_brokers_held);
    gw_env_gauge(a->env, "journal_unkept", gw_unkept_count(a->unkept));
    a->write_again_ns = gw_monotonic_ns() + (err == GW_EBUSY ? 30 : 1) * GW_SECOND_NS;
    if (err == 0) {
        a->write_again_ns = 0;
        gw_log(GW_LOG_WARN, a->name,
               "journal %s: takes messages again; the last %d were kept in memory until now", a->journal_path,
               n);
    }
    return err;
}

/* Out on all faces under the name that it will have in the journal. */
static int tell_unkept(alerts *a, const gw_event *e, uint32_t held)
{
    gw_unkept_item item = {.event = *e, .serial = 1, .published_ns = gw_gps_now_ns(), .held = held};
    bool published = false;
    char why[256], topic[32];
    snprintf(why, sizeof why, "%s", gw_err_detail());
    if (gw_journal_next_serial(a->journal, e, &item.serial, &published) < 0)
        item.serial = 1;
    item.serial += gw_unkept_words(a->unkept, e);
    if (!published)
        gw_brokers_post(&a->brokers, e, item.serial, item.published_ns, held);
    int n = gw_journal_json(e, item.serial, item.published_ns, false, a->json, sizeof a->json);
    GW_TRY(n);
    n = gw_journal_json_unkept(a->json, n, sizeof a->json);
    GW_TRY(n);
    snprintf(topic, sizeof topic, "event.%s", gw_phase_text(e->phase));
    if (!published)
        GW_TRY(to_socket(a, topic, a->json, (size_t)n));
    print_line(a, (size_t)n);
    (void)gw_fail(GW_EIO, "%s", why);
    keep(a, &item);
    return 0;
}

/* ---- publishing ---- */

/* To the brokers' couriers, to the socket, to the lines, and into the journal that it has been done. */
static int publish(alerts *a, const gw_event *e, int serial, bool recovered)
{
    gw_brokers_wake(&a->brokers);
    int64_t now = gw_gps_now_ns();
    char topic[32];
    int n = gw_journal_json(e, serial, now, recovered, a->json, sizeof a->json);
    GW_TRY(n);
    snprintf(topic, sizeof topic, "event.%s", gw_phase_text(e->phase));
    GW_TRY(to_socket(a, topic, a->json, (size_t)n));
    print_line(a, (size_t)n);
    const int err = gw_journal_mark(a->journal, e, serial, now, recovered, a->json);
    if (err == 0 || is_ours(err) || recovered)
        return err;
    keep(a, &(gw_unkept_item){.event = *e, .serial = serial, .published_ns = now, .committed = true});
    return 0;
}

/* What an operator has ordered: a retraction, or (NULL) to send something to a broker again. */
static int say_order(void *self, const gw_event *e, int serial)
{
    alerts *a = self;
    if (e)
        return publish(a, e, serial, false);
    gw_brokers_wake(&a->brokers);
    return 0;
}

/* About once a second, as events and stream time come. */
static int tick(alerts *a)
{
    const int64_t now_ns = gw_monotonic_ns();
    char line[256];
    if (now_ns < a->tick_ns)
        return 0;
    a->tick_ns = now_ns + GW_SECOND_NS;
    if (a->env && a->data_ns) {
        const gw_timebase t = gw_env_timebase(a->env);
        if (gw_wall_look(&a->wall, gw_gps_now_ns(), now_ns, &t, a->data_ns, line, sizeof line))
            gw_log(GW_LOG_WARN, a->name, "%s", line);
        gw_env_gauge(a->env, "clock_error_s", a->wall.error_s);
    }
    if (write_unkept(a) < 0)
        return 0;
    const int err = gw_orders_obey(a->journal, say_order, a);
    if (err < 0 && !a->disobeyed)
        gw_log(GW_LOG_WARN, a->name, "orders: %s; they wait", gw_err_detail());
    a->disobeyed = err < 0;
    return is_ours(err) ? err : 0;
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
    alerts *a = user;
    if (gw_journal_put_background(a->journal, e) < 0 && !a->unkept_tables++)
        gw_log(GW_LOG_WARN, a->name, "what the background slid is not kept: %s", gw_err_detail());
    return gw_live_rates_take(&a->live, e);
}

static bool give_rate(void *user, gw_event *word)
{
    return gw_live_rates_give(&((alerts *)user)->live, word);
}

/* What cannot be written from the start is the operator's to mend: exit status 2, as for a file that may not be. */
static int open_journal(alerts *a)
{
    char why[400];
    const int err = gw_journal_open(&a->journal, a->journal_path);
    if (err != GW_EIO)
        return err;
    snprintf(why, sizeof why, "%s", gw_err_detail());
    return gw_fail(GW_EACCESS, "%s", why);
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
    GW_TRY(open_journal(a));
    static const char *const origin[] = {"live", "replay", "sim"};
    GW_TRY(gw_journal_set_origin(a->journal, origin[a->origin]));
    a->wall.live = a->origin == GW_LIVE;
    GW_TRY(gw_unkept_new(&a->unkept));
    gw_env_gauge(env, "journal_unkept", 0);
    if (a->publish)
        GW_TRY(gw_publisher_open(&a->publisher, a->publish));
    if (strcmp(a->print, "none") != 0)
        GW_TRY(gw_lines_open(a->print, &a->lines));
    GW_TRY(gw_journal_each(a->journal, &(gw_journal_query){.pending = true}, publish_again, a));
    if (a->again)
        gw_log(GW_LOG_WARN, a->name,
               "%s: %llu message%s committed but not known to be published; published again", a->journal_path,
               (unsigned long long)a->again, a->again == 1 ? " was" : "s were");
    /* Only now, so that no courier writes to the journal while it is walked through. */
    GW_TRY(gw_brokers_start(&a->brokers, a->name, a->journal, a->journal_path, env, news, a));
    return 0;
}

static int take_injection(alerts *a, const gw_event *e)
{
    int err = write_unkept(a);
    if (err == 0)
        err = gw_journal_put_injection(a->journal, e);
    if (is_ours(err))
        return err;
    if (err < 0)
        keep(a, &(gw_unkept_item){.event = *e});
    if (!a->print_injections)
        return 0;
    int n = gw_event_json(e, GW_NOT_KNOWN_NS, a->json, sizeof a->json);
    GW_TRY(n);
    print_line(a, (size_t)n);
    return 0;
}

static int put(alerts *a, const gw_event *e, uint32_t held, int *serial, bool *published)
{
    gw_journal_ack ack[GW_MAX_BROKERS];
    int n = 0;
    for (int i = 0; i < a->brokers.n; i++)
        if (held >> i & 1)
            ack[n++] = (gw_journal_ack){.broker = a->brokers.broker[i].name, .refused = gw_brokers_held};
    return gw_journal_put_settled(a->journal, e, ack, n, serial, published);
}

static int take_event(alerts *a, const gw_event *e)
{
    int serial = 0;
    bool published = false;
    int64_t start = gw_monotonic_ns();
    if (e->phase != GW_PHASE_FIRST && gw_orders_withdrawn(a->journal, e->id) == 1) {
        gw_log(GW_LOG_INFO, a->name, "event %.23s was retracted by order: its %s is not told", e->id,
               gw_phase_text(e->phase));
        return 0;
    }
    const uint32_t held = gw_brokers_hold(&a->brokers, e);
    int err = write_unkept(a);
    if (err == 0)
        err = put(a, e, held, &serial, &published);
    if (is_ours(err))
        return err;
    if (err < 0)
        return tell_unkept(a, e, held);
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

static int reached(void *self, const char *stage, int64_t told_ns, bool searched)
{
    alerts *a = self;
    if (told_ns != INT64_MAX) { /* the end */
        a->data_ns = told_ns;
        GW_TRY(tick(a));
        gw_brokers_reached(&a->brokers, told_ns);
    }
    if (!a->merge)
        return 0;
    GW_TRY(gw_merge_reached(a->merge, stage, told_ns, searched));
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
    GW_TRY(tick(a));
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
    a->write_again_ns = 0;
    (void)write_unkept(a);
    gw_brokers_end(&a->brokers);
    if (a->events)
        gw_log(GW_LOG_DEBUG, a->name, "%s: %llu message%s committed in %.1f ms each, %.1f ms at most",
               a->journal_path, (unsigned long long)a->events, a->events == 1 ? "" : "s",
               (double)a->commit_sum_ns / (double)a->events / 1e6, (double)a->commit_max_ns / 1e6);
    say_summary(a);
    const int unkept = gw_unkept_count(a->unkept);
    if (unkept) {
        gw_unkept_say(a->unkept);
        return gw_fail(GW_EIO, "journal %s: %d message%s could not be committed; the log has them in full",
                       a->journal_path, unkept, unkept == 1 ? "" : "s");
    }
    if (a->unprinted)
        return gw_fail(
            GW_EIO, "print: %s: %llu line%s could not be written; what was found is in the journal %s",
            a->print, (unsigned long long)a->unprinted, a->unprinted == 1 ? "" : "s", a->journal_path);
    return 0;
}

static void close_all(void *self)
{
    alerts *a = self;
    gw_brokers_end(&a->brokers);
    gw_unkept_destroy(&a->unkept);
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
