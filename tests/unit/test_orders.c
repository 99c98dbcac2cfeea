/* SPDX-License-Identifier: GPL-3.0-or-later
 * Orders to a journal: what they come to, carried out by a run and without one; what is refused, and that the
 * journal then is as it was. */
#include "pipeline/block.h"
#include "sinks/doubts.h"
#include "sinks/journal_stats.h"
#include "sinks/orders.h"
#include "sinks/outbox.h"

#include <math.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/unit/journal_rig.h"

static void commit_at(gw_journal *j, const char *id, gw_phase phase, bool alert, int second,
                      const char *detail)
{
    gw_event e = an_event(id, phase, AT + second);
    e.alert = alert;
    snprintf(e.detail, sizeof e.detail, "%s", detail);
    assert_false(commit_event(j, &e, 0.1));
}

static void commit(gw_journal *j, const char *id, gw_phase phase, bool alert)
{
    commit_at(j, id, phase, alert, 0, "{\"a\":\"it's\"}");
}

static int look(const gw_order *o, int64_t *messages)
{
    gw_journal *j = NULL;
    assert_int_equal(gw_journal_open_read(&j, path), 0);
    const int err = gw_orders_look(j, o, messages);
    gw_journal_close(&j);
    return err;
}

static gw_order retraction(const char *id, const char *reason)
{
    return (gw_order){.retract = true, .id = id, .reason = reason};
}

/* What a run would tell. */
typedef struct heard {
    int n, wakes;
    gw_event e;
    int serial;
} heard;

static int hear(void *user, const gw_event *e, int serial)
{
    heard *h = user;
    if (!e) {
        h->wakes++;
        return 0;
    }
    h->n++;
    h->e = *e;
    h->serial = serial;
    return 0;
}

static void retracts_without_a_run(void **state)
{
    (void)state;
    gw_journal *j = NULL;
    gw_orders_told t;
    assert_int_equal(gw_journal_open(&j, path), 0);
    assert_int_equal(gw_journal_set_origin(j, "replay"), 0);
    commit(j, "GA", GW_PHASE_FIRST, true);
    commit(j, "GA", GW_PHASE_FINAL, true);
    gw_journal_close(&j);

    gw_order o = retraction("GA", "light in the \"tunnel\" \xc3\xa9");
    assert_int_equal(gw_orders_give(path, &o, 1000, &t), 0);
    assert_true(t.given == 1 && t.done == 1 && t.refused == 0 && !t.by_run);
    assert_string_equal(t.answer, "retracted");
    assert_string_equal(
        ask("SELECT group_concat(phase || serial || run, ' ') FROM (SELECT * FROM events ORDER BY"
            " number)"),
        "first11 final11 retracted11");
    assert_string_equal(ask("SELECT detail FROM latest"),
                        "{\"a\":\"it's\",\"reason\":\"light in the \\\"tunnel\\\" \xc3\xa9\"}");
    assert_string_equal(
        ask("SELECT published_ns IS NULL AND due_ns IS NULL AND alert AND statistic = 7.25 FROM latest"),
        "1");
    assert_string_equal(ask("SELECT count(*) FROM runs"), "1"); /* a command is no run */
    assert_string_equal(ask("SELECT done_ns >= at_ns AND what = 'retract' FROM orders"), "1");

    assert_int_equal(gw_orders_give(path, &o, 1000, &t), GW_EMISMATCH);
    assert_non_null(strstr(gw_err_detail(), "GA has been retracted already, at 20"));
    o.id = "GB";
    assert_int_equal(gw_orders_give(path, &o, 1000, &t), GW_EMISSING);
    assert_string_equal(ask("SELECT count(*) FROM events"), "3");
    assert_string_equal(ask("SELECT count(*) FROM orders"), "1");

    /* the next run tells it, as what is committed and not known to be published */
    gw_outbox *box = NULL;
    assert_int_equal(gw_journal_open(&j, path), 0);
    assert_int_equal(gw_outbox_open(&box, path, "notices", false, GW_OUTBOX_ANY), 0);
    gw_outbox_close(&box);
    commit_at(j, "GA", GW_PHASE_UPDATE, true, 0, ""); /* speaks again: may be retracted again */
    gw_journal_close(&j);
    o.id = "GA";
    assert_int_equal(gw_orders_give(path, &o, 1000, &t), 0);
    assert_string_equal(ask("SELECT serial || detail FROM latest"),
                        "2{\"reason\":\"light in the \\\"tunnel\\\" \xc3\xa9\"}");
    assert_string_equal(ask("SELECT origin FROM runs JOIN latest USING (run)"),
                        "live"); /* of the run that spoke last */
}

static void no_room_in_the_detail(void **state)
{
    (void)state;
    gw_journal *j = NULL;
    gw_orders_told t;
    gw_order o = retraction("GA", "why");
    char detail[2048] = "{\"a\":\"";
    memset(detail + 6, 'x', 2038);
    strcpy(detail + 2044, "\"}");
    assert_int_equal(gw_journal_open(&j, path), 0);
    commit_at(j, "GA", GW_PHASE_FIRST, true, 0, detail);
    gw_journal_close(&j);
    assert_int_equal(gw_orders_give(path, &o, 0, &t), 0);
    assert_string_equal(ask("SELECT detail FROM latest"), "{\"reason\":\"why\"}");
}

static void *give_it(void *user)
{
    static gw_orders_told t;
    const int err = gw_orders_give(path, user, 20000, &t);
    return err == 0 ? &t : NULL;
}

static void a_run_carries_out(void **state)
{
    (void)state;
    gw_journal *j = NULL;
    gw_orders_told t;
    heard h = {0};
    gw_order o = retraction("GA", "a test");
    assert_int_equal(gw_journal_open(&j, path), 0);
    commit(j, "GA", GW_PHASE_FIRST, true);
    commit(j, "GB", GW_PHASE_FIRST, true);
    assert_int_equal(gw_orders_obey(j, hear, &h), 0); /* nothing is ordered */

    /* the run has other things to do: the order stays */
    assert_int_equal(gw_orders_give(path, &o, 0, &t), 0);
    assert_true(t.by_run && t.given == 1 && t.done == 0);
    assert_string_equal(ask("SELECT count(*) FROM events"), "2");
    assert_int_equal(gw_orders_obey(j, hear, &h), 0);
    assert_true(h.n == 1 && h.serial == 1 && h.e.phase == GW_PHASE_RETRACTED && h.wakes == 0);
    assert_string_equal(h.e.id, "GA");
    assert_string_equal(h.e.detail, "{\"a\":\"it's\",\"reason\":\"a test\"}");

    assert_int_equal(gw_orders_withdrawn(j, "GA"), 1);
    run_sql("UPDATE orders SET done_ns = 0"); /* the clock was stepped since */
    assert_int_equal(gw_orders_withdrawn(j, "GA"), 1);
    assert_int_equal(gw_orders_withdrawn(j, "GB"), 0);

    /* twice at the same moment: one is refused */
    o.id = "GB";
    assert_int_equal(gw_orders_give(path, &o, 0, &t), 0);
    assert_int_equal(gw_orders_give(path, &o, 0, &t), 0);
    assert_int_equal(gw_orders_obey(j, hear, &h), 0);
    assert_int_equal(h.n, 2);
    assert_string_equal(
        ask("SELECT answer LIKE 'retract: GB has been retracted already%' FROM orders WHERE number = 3"),
        "1");
    assert_string_equal(ask("SELECT count(*) FROM orders WHERE done_ns IS NULL"), "0");

    /* who waits is told */
    commit(j, "GC", GW_PHASE_FIRST, false);
    o.id = "GC";
    pthread_t thread;
    void *told = NULL;
    assert_int_equal(pthread_create(&thread, NULL, give_it, &o), 0);
    for (int i = 0; i < 2000 && h.n < 3; i++) {
        assert_int_equal(gw_orders_obey(j, hear, &h), 0);
        usleep(5000);
    }
    pthread_join(thread, &told);
    assert_non_null(told);
    assert_true(((gw_orders_told *)told)->by_run && ((gw_orders_told *)told)->done == 1);
    gw_journal_close(&j);

    /* the next run, a replay perhaps, says what it has to say */
    usleep(2000);
    assert_int_equal(gw_journal_open(&j, path), 0);
    assert_int_equal(gw_orders_withdrawn(j, "GA"), 0);
    gw_journal_close(&j);
}

static void settle(gw_outbox *o, const char *refused)
{
    gw_outbox_row row[8], *one = &row[0];
    assert_true(gw_outbox_take(o, row, 8, NULL, NULL) > 0);
    row[0].acked_ns = row[0].event.anchor_wall_ns + GW_SECOND_NS;
    snprintf(row[0].refused, sizeof row[0].refused, "%s", refused);
    assert_int_equal(gw_outbox_settle(o, &one, 1), 0);
}

static int64_t count(gw_outbox *o)
{
    int64_t n = -1;
    assert_int_equal(gw_outbox_count(o, &n), 0);
    return n;
}

static void sends_again(void **state)
{
    (void)state;
    gw_journal *j = NULL;
    gw_outbox *box = NULL;
    gw_outbox_row row[8];
    gw_orders_told t;
    heard h = {0};
    int64_t n = 0;
    assert_int_equal(gw_journal_open(&j, path), 0);
    assert_int_equal(look(&(gw_order){.refused = true}, &n), GW_EMISSING);
    assert_non_null(strstr(gw_err_detail(), "no broker has ever been served"));
    commit(j, "GOLD", GW_PHASE_FIRST, true); /* before the broker's first day */
    assert_int_equal(gw_outbox_open(&box, path, "notices", false, GW_OUTBOX_ANY), 0);
    commit_at(j, "GA", GW_PHASE_FIRST, true, 10, "");
    commit_at(j, "GB", GW_PHASE_FIRST, true, 20, "");
    settle(box, "");
    settle(box, "broker: too large");
    assert_int_equal(gw_outbox_take(box, row, 8, NULL, NULL), 0);

    assert_int_equal(look(&(gw_order){.broker = "nobody", .refused = true}, &n), GW_EMISSING);
    assert_non_null(strstr(gw_err_detail(), "no broker 'nobody'; there are: notices"));
    assert_int_equal(look(&(gw_order){.id = "GOLD"}, &n), GW_EMISSING);
    assert_int_equal(look(&(gw_order){.id = "GA", .refused = true}, &n), GW_EMISSING);
    assert_int_equal(look(&(gw_order){.refused = true}, &n), 0);
    assert_int_equal(n, 1);
    assert_int_equal(look(&(gw_order){.since_ns = (AT + 5) * GW_SECOND_NS}, &n), 0);
    assert_int_equal(n, 2);
    assert_int_equal(look(&(gw_order){.id = "GOLD", .broker = "notices"}, &n), 0); /* by name */
    assert_int_equal(n, 1);

    assert_int_equal(gw_orders_give(path, &(gw_order){.since_ns = (AT + 5) * GW_SECOND_NS}, 0, &t), 0);
    assert_true(t.given == 2 && t.done == 0 && t.by_run);
    assert_int_equal(gw_orders_give(path, &(gw_order){.id = "GOLD", .broker = "notices"}, 0, &t), 0);
    assert_int_equal(count(box), 0);
    assert_int_equal(gw_orders_obey(j, hear, &h), 0);
    assert_true(h.n == 0 && h.wakes == 1);
    assert_int_equal(count(box), 3);
    gw_journal_stats s;
    assert_int_equal(gw_journal_measure(j, 0, &s), 0);
    assert_true(s.n_brokers == 1 && s.broker[0].again == 3 && s.broker[0].acked == 1 &&
                s.broker[0].refused == 1);

    /* the same message, and the time of the first acknowledgement stays */
    assert_int_equal(gw_outbox_take(box, row, 8, NULL, NULL), 3);
    assert_string_equal(row[0].event.id, "GOLD");
    assert_string_equal(row[1].event.id, "GA");
    assert_int_equal(row[1].serial, 1);
    const gw_outbox_row *all[3] = {&row[0], &row[1], &row[2]};
    for (int i = 0; i < 3; i++)
        row[i].acked_ns = row[i].event.anchor_wall_ns + 3600 * GW_SECOND_NS;
    assert_int_equal(gw_outbox_settle(box, (gw_outbox_row *const *)all, 3), 0);
    assert_int_equal(count(box), 0);
    assert_string_equal(
        ask("SELECT (acked_ns - 1500000000000000000) / 1000000000 FROM broker_ack WHERE id = 'GA'"), "1");
    assert_string_equal(ask("SELECT refused IS NULL AND acked_ns > 0 FROM broker_ack WHERE id = 'GB'"), "1");
    assert_int_equal(look(&(gw_order){.refused = true}, &n), GW_EMISSING);

    gw_outbox_close(&box);
    gw_journal_close(&j);

    /* without a run: it waits for the next one */
    assert_int_equal(gw_orders_give(path, &(gw_order){.id = "GB"}, 0, &t), 0);
    assert_true(t.given == 1 && t.done == 1 && !t.by_run);
    assert_int_equal(gw_journal_open(&j, path), 0);
    assert_int_equal(gw_outbox_open(&box, path, "notices", false, GW_OUTBOX_ANY), 0);
    assert_int_equal(count(box), 1);
    gw_outbox_close(&box);
    gw_journal_close(&j);
}

/* What the broker gets, until nothing waits: "first1 update1 final1". Each is acknowledged. */
static const char *sent(gw_outbox *o)
{
    static char text[256];
    gw_outbox_row row[8], *one = &row[0];
    text[0] = '\0';
    while (gw_outbox_take(o, row, 8, NULL, NULL) > 0) {
        snprintf(text + strlen(text), sizeof text - strlen(text), "%s%s%d", text[0] ? " " : "",
                 gw_phase_text(row[0].event.phase), row[0].serial);
        row[0].acked_ns = gw_gps_now_ns();
        assert_int_equal(gw_outbox_settle(o, &one, 1), 0);
    }
    return text;
}

static void words_stay_in_their_order(void **state)
{
    (void)state;
    gw_journal *j = NULL;
    gw_outbox *box = NULL;
    gw_outbox_row row[8], *one = &row[0];
    gw_orders_told t;
    heard h = {0};
    int64_t n = 0;
    assert_int_equal(gw_journal_open(&j, path), 0);
    assert_int_equal(gw_outbox_open(&box, path, "notices", false, GW_OUTBOX_ANY), 0);

    /* the last word is on its way while the others are ordered again: it goes again, behind them */
    commit(j, "GA", GW_PHASE_FIRST, true);
    commit(j, "GA", GW_PHASE_UPDATE, true);
    assert_string_equal(sent(box), "first1 update1");
    commit(j, "GA", GW_PHASE_FINAL, true);
    assert_int_equal(gw_outbox_take(box, row, 8, NULL, NULL), 1);
    assert_int_equal(gw_orders_give(path, &(gw_order){.id = "GA"}, 0, &t), 0);
    assert_int_equal(t.given, 2);
    assert_int_equal(gw_orders_obey(j, hear, &h), 0);
    row[0].acked_ns = gw_gps_now_ns();
    assert_int_equal(gw_outbox_settle(box, &one, 1), 0);
    assert_string_equal(sent(box), "first1 update1 final1");
    assert_string_equal(sent(box), "");

    /* ... or it arrives before the order is carried out */
    commit(j, "GB", GW_PHASE_FIRST, true);
    settle(box, "broker: too large");
    assert_int_equal(gw_orders_give(path, &(gw_order){.refused = true}, 0, &t), 0);
    assert_int_equal(t.given, 1);
    commit(j, "GB", GW_PHASE_FINAL, true);
    assert_string_equal(sent(box), "final1");
    assert_int_equal(gw_orders_obey(j, hear, &h), 0);
    assert_string_equal(sent(box), "first1 final1");

    /* refused, and overtaken since */
    commit(j, "GC", GW_PHASE_FIRST, true);
    settle(box, "broker: too large");
    commit_at(j, "GC", GW_PHASE_FINAL, true, -5, "");
    assert_string_equal(sent(box), "final1");
    assert_int_equal(look(&(gw_order){.refused = true}, &n), GW_EMISSING);
    assert_non_null(strstr(gw_err_detail(), "overtaken"));
    assert_int_equal(look(&(gw_order){.id = "GC"}, &n), 0);
    assert_int_equal(n, 1);

    /* whole events: those whose latest word is not before */
    assert_int_equal(look(&(gw_order){.since_ns = (AT - 4) * GW_SECOND_NS}, &n), 0);
    assert_int_equal(n, 5);

    /* held back, retracted, and wanted after all: what takes it back goes too */
    commit(j, "GD", GW_PHASE_FIRST, true);
    settle(box, "storm");
    commit(j, "GD", GW_PHASE_RETRACTED, true);
    assert_string_equal(sent(box), "");
    assert_int_equal(gw_orders_give(path, &(gw_order){.id = "GD", .refused = true}, 0, &t), 0);
    assert_int_equal(gw_orders_obey(j, hear, &h), 0);
    assert_string_equal(sent(box), "first1 retracted1");
    gw_outbox_close(&box);
    gw_journal_close(&j);
}

/* Of a stage that began at AT + 4, whose data turn bad at AT + 5. */
static gw_event a_doubt(const char *stream)
{
    gw_event e = an_event("", GW_PHASE_DOUBT, AT + 5);
    snprintf(e.stream, sizeof e.stream, "%s", stream);
    snprintf(e.detail, sizeof e.detail,
             "{\"from_ns\":%lld,\"to_ns\":%lld,\"bad_ns\":%lld,\"reason\":\"data quality: %s\"}",
             (AT - 3) * 1000000000LL, (AT + 4) * 1000000000LL, (AT + 5) * 1000000000LL, stream);
    return e;
}

static int order_doubted(gw_journal *j, const char *stream)
{
    const gw_event e = a_doubt(stream);
    assert_int_equal(gw_doubts_take(j, &e), 0);
    return gw_doubts_order(j);
}

static void doubts_withdraw_what_was_told_before(void **state)
{
    (void)state;
    static const char branches[] = "{\"branches\":[{\"stream\":\"one\"},{\"stream\":\"two\"}]}";
    gw_journal *j = NULL;
    heard h = {0};
    assert_int_equal(gw_journal_open(&j, path), 0);
    commit_at(j, "GEARLY", GW_PHASE_FINAL, true, -4, "");
    commit_at(j, "GA", GW_PHASE_FIRST, true, 1, "");
    commit_at(j, "GB", GW_PHASE_FINAL, true, 2, branches);
    commit_at(j, "GLATE", GW_PHASE_FINAL, true, 5, "");
    gw_journal_close(&j);

    assert_int_equal(gw_journal_open(&j, path), 0);
    assert_int_equal(gw_journal_set_origin(j, "replay"), 0); /* of what the sky said */
    assert_int_equal(order_doubted(j, "search"), 0);
    gw_journal_close(&j);

    assert_int_equal(gw_journal_open(&j, path), 0);
    assert_int_equal(order_doubted(j, "another"), 0);
    assert_int_equal(order_doubted(j, "search"), 1);
    assert_int_equal(gw_doubts_order(j), 0);
    assert_int_equal(gw_orders_obey(j, hear, &h), 0);
    assert_true(h.n == 1 && h.e.phase == GW_PHASE_RETRACTED && h.serial == 1);
    assert_string_equal(h.e.id, "GA");
    assert_string_equal(h.e.detail, "{\"reason\":\"data quality: search, 4.0 s after the event\"}");
    assert_int_equal(order_doubted(j, "one"), 0); /* the other branch stands by its word */
    assert_int_equal(order_doubted(j, "two"), 1);
    assert_int_equal(gw_orders_obey(j, hear, &h), 0);
    assert_string_equal(h.e.id, "GB");
    assert_int_equal(gw_doubts_order(j), 0);
    gw_event broken = a_doubt("search");
    snprintf(broken.detail, sizeof broken.detail, "no JSON");
    assert_int_equal(gw_doubts_take(j, &broken), GW_EIO);
    gw_journal_close(&j);
}

static void refuses_reasons(void **state)
{
    (void)state;
    static const char *const bad[] = {"",     "two\nlines", "\xc0\xaf", "cut \xe2\x82", "\xed\xa0\x80",
                                      "\xff", "\x7f"};
    gw_journal *j = NULL;
    int64_t n = 0;
    char longest[GW_ORDER_REASON_BYTES + 2];
    memset(longest, 'x', sizeof longest - 1);
    longest[sizeof longest - 1] = '\0';
    assert_int_equal(gw_journal_open(&j, path), 0);
    commit(j, "GA", GW_PHASE_FIRST, true);
    gw_journal_close(&j);
    gw_order o = retraction("GA", longest);
    assert_int_equal(look(&o, &n), GW_EUSAGE);
    o.reason = longest + 1;
    assert_int_equal(look(&o, &n), 0);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        o.reason = bad[i];
        assert_int_equal(look(&o, &n), GW_EUSAGE);
    }
    o.reason = NULL;
    assert_int_equal(look(&o, &n), GW_EUSAGE);
}

static bool near(double a, double b)
{
    return fabs(a - b) < 1e-9;
}

static void quantiles(void **state)
{
    (void)state;
    gw_spread s;
    double x[101], none[2] = {NAN, NAN};
    for (int i = 0; i <= 100; i++)
        x[i] = (i * 37) % 101; /* 0 .. 100, out of order */
    gw_spread_of(x, 101, &s);
    assert_true(s.n == 101 && near(s.median_s, 50) && near(s.p90_s, 90) && near(s.p95_s, 95) &&
                near(s.p99_s, 99) && near(s.max_s, 100));
    double few[] = {3, NAN, 1};
    gw_spread_of(few, 3, &s); /* numpy.quantile([1, 3], [.5, .9]) */
    assert_true(s.n == 2 && near(s.median_s, 2) && near(s.p90_s, 2.8) && near(s.max_s, 3));
    gw_spread_of(none, 2, &s);
    assert_true(s.n == 0 && isnan(s.median_s) && isnan(s.max_s));
}

static void measures(void **state)
{
    (void)state;
    gw_journal *j = NULL;
    gw_outbox *box = NULL;
    gw_journal_stats s;
    assert_int_equal(gw_journal_open(&j, path), 0);
    assert_int_equal(gw_outbox_open(&box, path, "notices", false, GW_OUTBOX_ANY), 0);
    commit_at(j, "GA", GW_PHASE_FIRST, true, 10, "");
    commit_at(j, "GA", GW_PHASE_FINAL, true, 9,
              ""); /* the merger was a second earlier than thought at first */
    commit_at(j, "GB", GW_PHASE_FIRST, false, 30, "");
    settle(box, "");
    assert_int_equal(gw_journal_measure(j, 0, &s), 0);
    assert_true(s.events == 2 && s.alerts == 1 && s.timed == 2 && s.untimed == 0 &&
                s.phases[GW_PHASE_FIRST] == 2);
    assert_true(s.rates[2] == 2); /* 1/month to 1/d */
    assert_true(s.signal.n == 2 && near(s.signal.median_s, 0.54) && near(s.signal.max_s, 1.04));
    assert_true(near(s.data.median_s, 0.001) && near(s.local.max_s, 1.1));
    /* acknowledged a second after the anchor: 8 s before the merger, and long before it was committed */
    const gw_broker_stats *b = &s.broker[0];
    assert_true(s.n_brokers == 1 && b->acked == 1 && b->waiting == 1 && b->total.n == 1 &&
                near(b->total.median_s, -8));
    assert_int_equal(gw_journal_measure(j, (AT + 25) * GW_SECOND_NS, &s), 0);
    assert_true(s.events == 1 && s.timed == 1 && near(s.local.median_s, 0.1) && s.broker[0].acked == 0);
    settle(box, "");
    commit_at(j, "GC", GW_PHASE_FIRST, true, 40, "");
    settle(box, "held back: alert storm");
    assert_int_equal(gw_journal_measure(j, 0, &s), 0);
    assert_true(b->acked == 2 && b->waiting == 0 && b->refused == 1 && b->held == 1 && b->n_reasons == 1);
    assert_true(b->total.n == 1 &&
                near(b->total.median_s, -8)); /* of an event, the word that the broker had first */
    gw_outbox_close(&box);
    gw_journal_close(&j);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(retracts_without_a_run, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(no_room_in_the_detail, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(a_run_carries_out, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(sends_again, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(words_stay_in_their_order, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(doubts_withdraw_what_was_told_before, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(refuses_reasons, make_dir, remove_dir),
        cmocka_unit_test(quantiles),
        cmocka_unit_test_setup_teardown(measures, make_dir, remove_dir),
    };
    return cmocka_run_group_tests_name("orders", tests, NULL, NULL);
}
