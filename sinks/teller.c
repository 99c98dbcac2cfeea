/* SPDX-License-Identifier: GPL-3.0-or-later
 * teller.h. */
#include "sinks/teller.h"

#include "pipeline/log.h"

#include <stdio.h>
#include <string.h>

enum { WAIT_FOR_SUBSCRIBERS_MS = 1000 };

/* Printing is a convenience beside the journal: a closed pipe or a full disk does not end the search; it
 * is said once, and again by drain's return value. */
static void print_line(gw_teller *t, size_t bytes)
{
    if (t->lines < 0 || gw_lines_write(t->lines, t->print, t->json, bytes) == 0)
        return;
    if (t->unprinted++ == 0)
        gw_log(GW_LOG_WARN, t->name, "%s; events go on to the journal", gw_err_detail());
}

static int to_socket(gw_teller *t, const char *topic, const char *text, size_t bytes)
{
    return t->publisher ? gw_publisher_send(t->publisher, topic, text, bytes) : 0;
}

void gw_teller_news(void *teller, const char *topic, const char *text)
{
    gw_teller *t = teller;
    if (to_socket(t, topic, text, strlen(text)) < 0)
        gw_log(GW_LOG_WARN, t->name, "%s", gw_err_detail());
}

/* ---- what the journal cannot take ---- */

bool gw_teller_is_ours(int err)
{
    return err == GW_EBUG || err == GW_ERANGE;
}

static void keep(gw_teller *t, const gw_unkept_item *item)
{
    if (gw_unkept_count(t->unkept) == 0)
        gw_log(
            GW_LOG_ERROR, t->name,
            "%s; alerts go on, marked as not journaled, and are kept in memory until the journal takes them",
            gw_err_detail());
    gw_unkept_add(t->unkept, item);
    gw_env_gauge(t->env, "journal_unkept", gw_unkept_count(t->unkept));
}

/* The next try after a pause: another program that locks the journal makes each try wait. */
int gw_teller_write_unkept(gw_teller *t)
{
    const int64_t now_ns = gw_monotonic_ns();
    const char *name[GW_MAX_BROKERS];
    const int n = gw_unkept_count(t->unkept);
    if (n == 0)
        return 0;
    if (now_ns < t->write_again_ns)
        return gw_fail(GW_EAGAIN, "journal %s: not yet", t->journal_path);
    for (int i = 0; i < t->brokers->n; i++)
        name[i] = t->brokers->broker[i].name;
    const int err = gw_unkept_write(t->unkept, t->journal, name, t->brokers->n, gw_brokers_held);
    gw_env_gauge(t->env, "journal_unkept", gw_unkept_count(t->unkept));
    t->write_again_ns = gw_monotonic_ns() + (err == GW_EBUSY ? 30 : 1) * GW_SECOND_NS;
    if (err == 0) {
        t->write_again_ns = 0;
        gw_log(GW_LOG_WARN, t->name,
               "journal %s: takes messages again; the last %d were kept in memory until now", t->journal_path,
               n);
    }
    return err;
}

/* Out on all faces under the name that it will have in the journal. */
static int tell_unkept(gw_teller *t, const gw_event *e, uint32_t held)
{
    gw_unkept_item item = {.event = *e, .serial = 1, .published_ns = gw_gps_now_ns(), .held = held};
    bool published = false;
    char why[256], topic[32];
    snprintf(why, sizeof why, "%s", gw_err_detail());
    if (gw_journal_next_serial(t->journal, e, &item.serial, &published) < 0)
        item.serial = 1;
    item.serial += gw_unkept_words(t->unkept, e);
    if (!published)
        gw_brokers_post(t->brokers, e, item.serial, item.published_ns, held);
    int n = gw_journal_json(e, item.serial, item.published_ns, false, t->json, sizeof t->json);
    GW_TRY(n);
    n = gw_journal_json_unkept(t->json, n, sizeof t->json);
    GW_TRY(n);
    snprintf(topic, sizeof topic, "event.%s", gw_phase_text(e->phase));
    if (!published)
        GW_TRY(to_socket(t, topic, t->json, (size_t)n));
    print_line(t, (size_t)n);
    (void)gw_fail(GW_EIO, "%s", why);
    keep(t, &item);
    return 0;
}

/* ---- publishing ---- */

/* To the brokers' couriers, to the socket, to the lines, and into the journal that it has been done. */
static int publish(gw_teller *t, const gw_event *e, int serial, bool recovered)
{
    gw_brokers_wake(t->brokers);
    int64_t now = gw_gps_now_ns();
    char topic[32];
    int n = gw_journal_json(e, serial, now, recovered, t->json, sizeof t->json);
    GW_TRY(n);
    snprintf(topic, sizeof topic, "event.%s", gw_phase_text(e->phase));
    GW_TRY(to_socket(t, topic, t->json, (size_t)n));
    print_line(t, (size_t)n);
    const int err = gw_journal_mark(t->journal, e, serial, now, recovered, t->json);
    if (err == 0 || gw_teller_is_ours(err) || recovered)
        return err;
    keep(t, &(gw_unkept_item){.event = *e, .serial = serial, .published_ns = now, .committed = true});
    return 0;
}

int gw_teller_publish(gw_teller *t, const gw_event *e, int serial)
{
    return publish(t, e, serial, false);
}

static int publish_again(void *self, const gw_journal_row *row)
{
    gw_teller *t = self;
    const int alike = gw_journal_is_alike(t->journal, row->run);
    if (alike <= 0) /* what a replay left is not told by a live run */
        return alike;
    if (t->again++ == 0 && t->publisher)
        gw_publisher_wait(t->publisher, WAIT_FOR_SUBSCRIBERS_MS);
    return publish(t, &row->event, row->serial, true);
}

int gw_teller_open(gw_teller *t)
{
    GW_TRY(gw_unkept_new(&t->unkept));
    gw_env_gauge(t->env, "journal_unkept", 0);
    if (t->publish)
        GW_TRY(gw_publisher_open(&t->publisher, t->publish));
    if (strcmp(t->print, "none") != 0)
        GW_TRY(gw_lines_open(t->print, &t->lines));
    GW_TRY(gw_journal_each(t->journal, &(gw_journal_query){.pending = true}, publish_again, t));
    if (t->again)
        gw_log(GW_LOG_WARN, t->name,
               "%s: %llu message%s committed but not known to be published; published again", t->journal_path,
               (unsigned long long)t->again, t->again == 1 ? " was" : "s were");
    return 0;
}

int gw_teller_injection(gw_teller *t, const gw_event *e)
{
    int err = gw_teller_write_unkept(t);
    if (err == 0)
        err = gw_journal_put_injection(t->journal, e);
    if (gw_teller_is_ours(err))
        return err;
    if (err < 0)
        keep(t, &(gw_unkept_item){.event = *e});
    if (!t->print_injections)
        return 0;
    int n = gw_event_json(e, GW_NOT_KNOWN_NS, t->json, sizeof t->json);
    GW_TRY(n);
    print_line(t, (size_t)n);
    return 0;
}

static int put(gw_teller *t, const gw_event *e, uint32_t held, int *serial, bool *published)
{
    gw_journal_ack ack[GW_MAX_BROKERS];
    int n = 0;
    for (int i = 0; i < t->brokers->n; i++)
        if (held >> i & 1)
            ack[n++] = (gw_journal_ack){.broker = t->brokers->broker[i].name, .refused = gw_brokers_held};
    return gw_journal_put_settled(t->journal, e, ack, n, serial, published);
}

int gw_teller_tell(gw_teller *t, const gw_event *e)
{
    int serial = 0;
    bool published = false;
    int64_t start = gw_monotonic_ns();
    const uint32_t held = gw_brokers_hold(t->brokers, e);
    int err = gw_teller_write_unkept(t);
    if (err == 0)
        err = put(t, e, held, &serial, &published);
    if (gw_teller_is_ours(err))
        return err;
    if (err < 0)
        return tell_unkept(t, e, held);
    int64_t took = gw_monotonic_ns() - start;
    t->events++;
    t->commit_sum_ns += took;
    if (took > t->commit_max_ns)
        t->commit_max_ns = took;
    if (!published)
        return publish(t, e, serial, false);

    /* A replay of what has been published before: the same line, and nothing else. */
    int n = gw_journal_json(e, serial, gw_gps_now_ns(), false, t->json, sizeof t->json);
    GW_TRY(n);
    print_line(t, (size_t)n);
    return 0;
}

int gw_teller_end(gw_teller *t)
{
    if (t->events)
        gw_log(GW_LOG_DEBUG, t->name, "%s: %llu message%s committed in %.1f ms each, %.1f ms at most",
               t->journal_path, (unsigned long long)t->events, t->events == 1 ? "" : "s",
               (double)t->commit_sum_ns / (double)t->events / 1e6, (double)t->commit_max_ns / 1e6);
    const int unkept = gw_unkept_count(t->unkept);
    if (unkept) {
        gw_unkept_say(t->unkept);
        return gw_fail(GW_EIO, "journal %s: %d message%s could not be committed; the log has them in full",
                       t->journal_path, unkept, unkept == 1 ? "" : "s");
    }
    if (t->unprinted)
        return gw_fail(
            GW_EIO, "print: %s: %llu line%s could not be written; what was found is in the journal %s",
            t->print, (unsigned long long)t->unprinted, t->unprinted == 1 ? "" : "s", t->journal_path);
    return 0;
}

void gw_teller_close(gw_teller *t)
{
    gw_unkept_destroy(&t->unkept);
    gw_publisher_close(&t->publisher);
    gw_lines_close(&t->lines);
}
