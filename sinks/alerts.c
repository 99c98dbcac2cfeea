/* SPDX-License-Identifier: GPL-3.0-or-later
 * kind: alerts. Takes the events of every part it listens to: what of them is told, teller.c tells (to journal, brokers,
 * socket and lines, in an order that loses nothing). Here: branches become one event, live backgrounds give it its
 * rate, operators' orders and doubts after a restart withdraw it, and the host's clock is watched.
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
#include "sinks/doubts.h"
#include "sinks/journal_background.h"
#include "sinks/live_rate.h"
#include "sinks/merge.h"
#include "sinks/orders.h"
#include "sinks/teller.h"
#include "sinks/wall.h"

#include <stdio.h>
#include <string.h>

typedef struct alerts {
    gw_teller teller;
    bool beyond_host, said_archived;
    int64_t refractory_ns;
    gw_merge_conf branches;
    gw_merge *merge; /* NULL: events come from one stage */
    gw_origin origin;
    gw_brokers brokers;
    int64_t tick_ns, look_ns; /* monotonic: at orders, and at the clock, not again before */
    int64_t data_ns;          /* stream time reached, 0 = not known */
    bool disobeyed;           /* the journal's orders could not be looked at, and it was said */
    bool doubting; /* what an earlier run told is in doubt, and not yet looked for in the journal */
    gw_wall wall;
    gw_live_rates live;
    uint64_t unkept_tables;
} alerts;

static int configure(void *self, gw_conf *conf)
{
    alerts *a = self;
    a->teller.name = "alerts";
    a->teller.journal_path = "gwstream.sqlite";
    a->teller.print = "stdout";
    a->teller.lines = -1;
    GW_TRY(gw_conf_get_text(conf, "journal", &a->teller.journal_path));
    GW_TRY(gw_conf_get_text(conf, "publish", &a->teller.publish));
    GW_TRY(gw_conf_get_bool(conf, "beyond_host", &a->beyond_host));
    GW_TRY(gw_conf_get_text(conf, "print", &a->teller.print));
    GW_TRY(gw_conf_get_bool(conf, "print_injections", &a->teller.print_injections));
    int64_t least_ns = 86400 * GW_SECOND_NS;
    GW_TRY(gw_conf_get_span_ns(conf, "background_least", &least_ns));
    a->live.least_s = (double)least_ns / 1e9;
    a->refractory_ns = 8 * GW_SECOND_NS;
    GW_TRY(gw_conf_get_span_ns(conf, "refractory", &a->refractory_ns));
    /* Shorter, and two events could share a GPS second, and so an id. */
    if (a->refractory_ns < 3 * GW_SECOND_NS || a->refractory_ns > 3600 * GW_SECOND_NS)
        return gw_conf_fail(gw_conf_find(conf, "refractory"), "refractory: want 3s to 1h");
    GW_TRY(gw_brokers_configure(&a->brokers, conf));
    if (!*a->teller.journal_path)
        return gw_conf_fail(conf, "alerts: journal: wants the name of a file");
    if (!*a->teller.print)
        return gw_conf_fail(conf, "alerts: print: wants stdout, stderr, none or the name of a file");
    if (a->teller.publish && strcmp(a->teller.publish, "none") == 0)
        a->teller.publish = NULL;
    if (a->teller.publish && gw_publisher_check(a->teller.publish, a->beyond_host) < 0)
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
    if (a->teller.publish && p->origin != GW_LIVE && !p->publish &&
        gw_publisher_check(a->teller.publish, false) < 0)
        return gw_fail(
            GW_ECONFIG,
            "%s: publish: %s can be heard beyond this host, and this graph's data are %s; 'gwstream "
            "run --publish' lets them out",
            p->name, a->teller.publish, p->origin == GW_ARCHIVED ? "a recording" : "simulated");
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

/* What an operator has ordered: a retraction, or (NULL) to send something to a broker again. */
static int say_order(void *self, const gw_event *e, int serial)
{
    alerts *a = self;
    if (e)
        return gw_teller_publish(&a->teller, e, serial);
    gw_brokers_wake(&a->brokers);
    return 0;
}

/* What was told before the restart, and is in doubt, becomes orders; then all orders are carried out. */
static int obey(alerts *a)
{
    if (a->doubting) {
        const int withdrawn = gw_doubts_order(a->teller.journal);
        GW_TRY(withdrawn);
        a->doubting = false;
        if (withdrawn)
            gw_log(GW_LOG_WARN, a->teller.name,
                   "%d event%s told before this run began: withdrawn, the data turned bad", withdrawn,
                   withdrawn == 1 ? " that was" : "s that were");
    }
    return gw_orders_obey(a->teller.journal, say_order, a);
}

static void mind_the_clock(alerts *a, int64_t now_ns)
{
    char line[256];
    if (!a->teller.env || !a->data_ns || now_ns < a->look_ns)
        return;
    a->look_ns = now_ns + GW_SECOND_NS;
    const gw_timebase t = gw_env_timebase(a->teller.env);
    if (gw_wall_look(&a->wall, gw_gps_now_ns(), now_ns, &t, a->data_ns, line, sizeof line))
        gw_log(GW_LOG_WARN, a->teller.name, "%s", line);
    gw_env_gauge(a->teller.env, "clock_error_s", a->wall.error_s);
}

/* About once a second, as events and stream time come, and while nothing comes: then the data say nothing of the
 * clock. */
static int tick(alerts *a, bool comes)
{
    const int64_t now_ns = gw_monotonic_ns();
    if (comes)
        mind_the_clock(a, now_ns);
    if (now_ns < a->tick_ns)
        return 0;
    a->tick_ns = now_ns + GW_SECOND_NS;
    if (gw_teller_write_unkept(&a->teller) < 0)
        return 0;
    const int err = obey(a);
    if (err < 0 && !a->disobeyed)
        gw_log(GW_LOG_WARN, a->teller.name, "orders: %s; they wait", gw_err_detail());
    a->disobeyed = err < 0;
    return gw_teller_is_ours(err) ? err : 0;
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
    nearest n = {.group = a->teller.name, .gps_ns = gps_ns, .least_ns = refractory_ns};
    GW_TRY(gw_journal_each_first(a->teller.journal, gps_ns - refractory_ns, gps_ns + refractory_ns, look_at,
                                 &n));
    if (n.found)
        memcpy(id, n.id, sizeof n.id);
    return n.found;
}

static int take_table(void *user, const gw_event *e)
{
    alerts *a = user;
    if (gw_journal_put_background(a->teller.journal, e) < 0 && !a->unkept_tables++)
        gw_log(GW_LOG_WARN, a->teller.name, "what the background slid is not kept: %s", gw_err_detail());
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
    const int err = gw_journal_open(&a->teller.journal, a->teller.journal_path);
    if (err != GW_EIO)
        return err;
    snprintf(why, sizeof why, "%s", gw_err_detail());
    return gw_fail(GW_EACCESS, "%s", why);
}

static int open_all(void *self, gw_env *env)
{
    alerts *a = self;
    a->teller.name = gw_env_name(env);
    if (a->branches.n_branches) {
        a->branches.group = a->teller.name;
        a->branches.refractory_ns = a->refractory_ns;
        a->branches.known = look_up;
        a->branches.table = take_table;
        a->branches.rate = give_rate;
        a->branches.user = a;
        GW_TRY(gw_merge_new(&a->merge, &a->branches));
    }
    a->teller.env = env;
    GW_TRY(open_journal(a));
    static const char *const origin[] = {"live", "replay", "sim"};
    GW_TRY(gw_journal_set_origin(a->teller.journal, origin[a->origin]));
    a->wall.live = a->origin == GW_LIVE;
    a->teller.brokers = &a->brokers;
    GW_TRY(gw_teller_open(&a->teller));
    /* Only now, so that no courier writes to the journal while it is walked through. */
    GW_TRY(gw_brokers_start(&a->brokers, a->teller.name, a->teller.journal, a->teller.journal_path, env,
                            gw_teller_news, &a->teller));
    return 0;
}

/* Once; the brokers' own threads leave it out. */
static void say_archived(alerts *a, const gw_event *e)
{
    bool kept_back = false;
    for (int i = 0; i < a->brokers.n; i++)
        kept_back |= a->brokers.broker[i].of == GW_OUTBOX_SKY;
    if (!e->archived || a->origin != GW_LIVE || !kept_back || a->said_archived)
        return;
    a->said_archived = true;
    gw_log(
        GW_LOG_WARN, a->teller.name,
        "event %.23s: its data are marked as archived; this and others of such data are not sent beyond this "
        "host, 'gwstream run --publish' lets them out, marked as archival",
        e->id);
}

static int take_event(alerts *a, const gw_event *e)
{
    say_archived(a, e);
    if (e->phase == GW_PHASE_FIRST || gw_orders_withdrawn(a->teller.journal, e->id) != 1)
        return gw_teller_tell(&a->teller, e);
    gw_log(GW_LOG_INFO, a->teller.name, "event %.23s was retracted by order: its %s is not told", e->id,
           gw_phase_text(e->phase));
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
        GW_TRY(tick(a, true));
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

static int doubt(void *self, const gw_event *e)
{
    alerts *a = self;
    if (gw_doubts_take(a->teller.journal, e) < 0) {
        gw_log(GW_LOG_ERROR, a->teller.name,
               "%s; what was told before this run began is not withdrawn, though the data of %s turned bad",
               gw_err_detail(), e->stream);
        return 0;
    }
    a->doubting = true;
    a->tick_ns = 0; /* now */
    return tick(a, true);
}

static int idle(void *self)
{
    return tick(self, false);
}

static int event(void *self, const gw_event *e)
{
    alerts *a = self;
    GW_TRY(tick(a, true));
    int err = e->phase == GW_PHASE_INJECTION ? gw_teller_injection(&a->teller, e) : take_word(a, e);
    if (err < 0) /* the run ends with this; what could not be kept is at least said in full */
        gw_log(GW_LOG_ERROR, a->teller.name,
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
    if (gw_journal_summarise(a->teller.journal, gw_journal_run(a->teller.journal), &s) != GW_OK)
        return;
    gw_journal_summary_text(&s, text, sizeof text);
    for (char *line; (line = strsep(&rest, "\n")) && *line;)
        gw_log(GW_LOG_INFO, a->teller.name, "%s", line);
}

static int drain(void *self, gw_out *out)
{
    (void)out;
    alerts *a = self;
    if (a->merge) {
        gw_merge_end(a->merge);
        GW_TRY(tell_merged(a));
    }
    a->teller.write_again_ns = 0;
    (void)gw_teller_write_unkept(&a->teller);
    gw_brokers_end(&a->brokers);
    say_summary(a);
    return gw_teller_end(&a->teller);
}

static void close_all(void *self)
{
    alerts *a = self;
    gw_brokers_end(&a->brokers);
    gw_merge_destroy(&a->merge);
    gw_teller_close(&a->teller);
    gw_journal_close(&a->teller.journal);
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
    .doubt = doubt,
    .idle = idle,
    .reached = reached,
    .drain = drain,
    .close = close_all,
};
