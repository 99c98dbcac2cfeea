/* SPDX-License-Identifier: GPL-3.0-or-later
 * brokers.h. */
#include "sinks/brokers.h"

#include "pipeline/log.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

const char gw_brokers_held[] = "held back: alert storm";

static const char *const origins[] = {"live", "replay", "sim"};

/* ---- keys ---- */

static int read_storm(gw_brokers *b, gw_conf *conf)
{
    gw_conf *storm = gw_conf_find(conf, "storm");
    int64_t most = 10, within_ns = 600 * GW_SECOND_NS;
    if (storm && gw_conf_kind(storm) == GW_CONF_SCALAR) {
        const char *word = NULL;
        GW_TRY(gw_conf_text(storm, &word));
        if (strcmp(word, "none") != 0)
            return gw_conf_fail(storm, "storm: wants {alerts: 10, within: 10min}, or none");
        most = 0;
    } else if (storm) {
        GW_TRY(gw_conf_get_int(storm, "alerts", 1, GW_STORM_MOST, &most));
        GW_TRY(gw_conf_get_span_ns(storm, "within", &within_ns));
        GW_TRY(gw_conf_done(storm, "storm"));
        if (within_ns < GW_SECOND_NS || within_ns > 86400 * GW_SECOND_NS)
            return gw_conf_fail(storm, "storm: within: want 1s to 1d");
    }
    for (int i = 0; i < 2; i++) {
        b->storm[i].most = (int)most;
        b->storm[i].within_ns = within_ns;
    }
    return 0;
}

int gw_brokers_configure(gw_brokers *b, gw_conf *conf)
{
    gw_conf *list = gw_conf_find(conf, "brokers");
    if (list && gw_conf_kind(list) != GW_CONF_LIST)
        return gw_conf_fail(list, "brokers: a list of maps with name, bootstrap, topic and face");
    if (list && gw_conf_count(list) > GW_MAX_BROKERS)
        return gw_conf_fail(list, "brokers: at most %d", GW_MAX_BROKERS);
    for (int i = 0; list && i < gw_conf_count(list); i++) {
        gw_conf *item = gw_conf_item(list, i);
        GW_TRY(gw_broker_configure(&b->broker[i], item));
        for (int k = 0; k < i; k++)
            if (strcmp(b->broker[k].name, b->broker[i].name) == 0)
                return gw_conf_fail(item, "brokers: two are named %s", b->broker[i].name);
        b->n++;
    }
    return read_storm(b, conf);
}

int gw_brokers_allow(gw_brokers *b, gw_origin origin, bool publish)
{
    b->origin = origin;
    for (int i = 0; i < b->n; i++)
        GW_TRY(gw_broker_allow(&b->broker[i], origin, publish));
    return 0;
}

/* ---- couriers ---- */

/* All brokers together, for who watches. Called by the couriers. */
static void show(void *self)
{
    gw_brokers *b = self;
    gw_env_gauge(b->env, "broker_acked", (double)b->totals.acked);
    gw_env_gauge(b->env, "broker_waiting", (double)b->totals.waiting);
    gw_env_gauge(b->env, "broker_refused", (double)b->totals.refused);
    gw_env_gauge(b->env, "broker_troubles", (double)b->totals.troubles);
}

static int recall(void *storm, const char *id, int64_t gps_ns, bool held)
{
    gw_storm_recall(storm, id, gps_ns, held);
    return 0;
}

int gw_brokers_start(gw_brokers *b, const char *sink, gw_journal *j, const char *journal, gw_env *env,
                     gw_brokers_news *news, void *user)
{
    b->sink = sink;
    b->env = env;
    b->news = news;
    b->user = user;
    if (!b->n)
        return 0;
    for (int i = 0; i < 2; i++)
        GW_TRY(gw_journal_each_told(j, i == 1, GW_STORM_MOST, gw_brokers_held, recall, &b->storm[i]));
    show(b); /* makes the gauges, in this thread */
    gw_env_gauge(env, "storm_held", 0);
    for (int i = 0; i < b->n; i++)
        GW_TRY(gw_courier_start(&b->courier[i], &b->broker[i], journal, &b->totals, show, b));
    return 0;
}

void gw_brokers_wake(gw_brokers *b)
{
    for (int i = 0; i < b->n; i++)
        if (b->courier[i])
            gw_courier_wake(b->courier[i]);
}

void gw_brokers_end(gw_brokers *b)
{
    for (int i = 0; i < b->n; i++)
        if (b->courier[i])
            gw_courier_finish(b->courier[i]);
    for (int i = 0; i < b->n; i++)
        gw_courier_end(&b->courier[i]);
}

void gw_brokers_post(gw_brokers *b, const gw_event *e, int serial, int64_t said_ns, uint32_t held)
{
    gw_outbox_row row = {.event = *e, .serial = serial, .record = 1, .committed_ns = said_ns, .unkept = true};
    snprintf(row.origin, sizeof row.origin, "%s", origins[b->origin]);
    for (int i = 0; i < b->n; i++) {
        if (!(e->alert || b->broker[i].candidates) || held >> i & 1 ||
            (e->archived && b->broker[i].of == GW_OUTBOX_SKY))
            continue;
        if (gw_courier_post(b->courier[i], &row) < 0)
            gw_log(GW_LOG_ERROR, b->sink, "broker %s: %s", b->broker[i].name, gw_err_detail());
    }
}

/* ---- storms ---- */

/* To the socket, and to brokers whose readers can be told what is no event. */
static void tell(gw_brokers *b, int kind, bool begins)
{
    const gw_storm *s = &b->storm[kind];
    char utc[32];
    gw_outbox_row row = {.serial = 1, .record = 1, .note = true};
    row.event.phase = begins ? GW_PHASE_FIRST : GW_PHASE_FINAL;
    snprintf(row.event.id, sizeof row.event.id, "storm-%" PRId64, s->since_ns / GW_SECOND_NS);
    snprintf(row.origin, sizeof row.origin, "%s", origins[b->origin]);
    snprintf(row.event.detail, sizeof row.event.detail,
             "{\"type\":\"storm\",\"phase\":\"%s\",\"of\":\"%s\",\"since\":%" PRId64 ",\"since_utc\":\"%s\","
             "\"most\":%d,\"within_s\":%" PRId64 ",\"held\":%" PRId64 "}",
             begins ? "begin" : "end", kind ? "candidates" : "alerts", s->since_ns / GW_SECOND_NS,
             gw_gps_utc(s->since_ns, utc, sizeof utc), s->most, s->within_ns / GW_SECOND_NS, s->held);
    b->news(b->user, begins ? "storm.begin" : "storm.end", row.event.detail);
    for (int i = 0; i < b->n; i++)
        if (b->broker[i].candidates == (kind == 1) && gw_broker_takes_notes(&b->broker[i]) &&
            gw_courier_post(b->courier[i], &row) < 0)
            gw_log(GW_LOG_ERROR, b->sink, "broker %s: %s", b->broker[i].name, gw_err_detail());
}

static void say_changes(gw_brokers *b)
{
    for (int i = 0; i < 2; i++) {
        const gw_storm *s = &b->storm[i];
        char utc[32];
        if (s->on == b->said[i])
            continue;
        b->said[i] = s->on;
        gw_gps_utc(s->since_ns, utc, sizeof utc);
        if (s->on)
            gw_log(GW_LOG_ERROR, b->sink,
                   "alert storm since %s: more than %d %s within %" PRId64
                   " s; what is new stays in the journal and on "
                   "this host until fewer come",
                   utc, s->most, i ? "events" : "alerts", s->within_ns / GW_SECOND_NS);
        else
            gw_log(GW_LOG_WARN, b->sink,
                   "the alert storm since %s is over: %" PRId64
                   " event%s held back; 'gwstream alerts resend' sends "
                   "what should go out after all",
                   utc, s->held, s->held == 1 ? " was" : "s were");
        tell(b, i, s->on);
    }
}

uint32_t gw_brokers_hold(gw_brokers *b, const gw_event *e)
{
    uint32_t held = 0, of[2] = {0, 0};
    for (int i = 0; i < b->n; i++)
        of[b->broker[i].candidates] |= UINT32_C(1) << i;
    for (int i = 0; i < 2; i++)
        if (of[i] && (i == 1 || e->alert || e->phase == GW_PHASE_RETRACTED) &&
            gw_storm_holds(&b->storm[i], e))
            held |= of[i];
    if (held && e->phase != GW_PHASE_RETRACTED)
        gw_env_gauge(b->env, "storm_held", (double)++b->held);
    say_changes(b);
    return held;
}

void gw_brokers_reached(gw_brokers *b, int64_t gps_ns)
{
    for (int i = 0; i < 2; i++)
        gw_storm_reached(&b->storm[i], gps_ns);
    say_changes(b);
}
