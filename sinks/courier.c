/* SPDX-License-Identifier: GPL-3.0-or-later
 * The courier's thread: a round takes a batch from the outbox, hands it over, waits for all reports, settles.
 * One eventfd wakes it, written to by the sink (something was committed) and by librdkafka (something was
 * reported). What the broker would not take now stays in the journal and is tried again, ever less often. */
#include "sinks/courier.h"

#include "pipeline/log.h"
#include "sinks/satchel.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum { BATCH = 32, ASK_MS = 1500, FIRST_PAUSE_S = 1, LONGEST_PAUSE_S = 60, END_S = 5 };

typedef enum state { UNDER_WAY, REPORTED, SETTLED, AGAIN } state;

typedef struct parcel {
    gw_outbox_row row; /* first, so that a report's tag is both */
    state state;
    bool silent; /* the face has nothing to say of it, and that is as it should be */
} parcel;

struct gw_courier {
    gw_broker broker;
    gw_outbox *outbox;
    gw_satchel *satchel;
    gw_kafka *kafka;
    void (*changed)(void *user);
    void *user;
    pthread_t thread;
    int fd;
    atomic_bool ending;
    gw_courier_totals *totals;
    int64_t acked, refused, waiting, troubles; /* this one's share of them */
    parcel parcel[BATCH];
    int n, under_way;
    int64_t until_ns; /* ending: at the latest; 0 = not ending */
    int64_t retry_ns, pause_ns, beat_ns, settle_ns;
    int64_t clock_ns; /* wall minus monotonic, at the last look; 0 = none */
    bool beat_under_way, asked;
    uint64_t failures, lost; /* ours; those of producers that are gone */
    char said[256], unsettled[256];
};

/* This courier's share of a total becomes `now`. */
static void count(atomic_int_least64_t *total, int64_t *share, int64_t now)
{
    atomic_fetch_add_explicit(total, now - *share, memory_order_relaxed);
    *share = now;
}

/* Says the thread's last failure, once until something goes well again, and waits before the next try. */
static void complain(gw_courier *c, const char *text)
{
    c->failures++;
    if (strncmp(c->said, text, sizeof c->said - 1) != 0) {
        snprintf(c->said, sizeof c->said, "%s", text);
        gw_log(GW_LOG_WARN, c->broker.name, "%s; it is tried again, events wait in the journal", text);
    }
    const int64_t now_ns = gw_monotonic_ns();
    if (now_ns < c->retry_ns) /* another parcel of the same batch */
        return;
    c->pause_ns = c->pause_ns ? 2 * c->pause_ns : FIRST_PAUSE_S * GW_SECOND_NS;
    if (c->pause_ns > LONGEST_PAUSE_S * GW_SECOND_NS)
        c->pause_ns = LONGEST_PAUSE_S * GW_SECOND_NS;
    c->retry_ns = now_ns + c->pause_ns;
}

/* ---- parcels ---- */

static void on_report(void *user, void *tag, int err, const char *why)
{
    gw_courier *c = user;
    if (tag == &c->beat_under_way) {
        c->beat_under_way = false;
        return;
    }
    parcel *p = tag;
    c->under_way--;
    p->state = err == GW_EAGAIN ? AGAIN : REPORTED;
    p->row.acked_ns = gw_gps_now_ns();
    if (err == GW_ERANGE)
        snprintf(p->row.refused, sizeof p->row.refused, "broker: %s", why);
    if (err == GW_EAGAIN) {
        char text[256];
        snprintf(text, sizeof text, "broker %s: topic %s: %s", c->broker.name, c->broker.topic, why);
        complain(c, text);
    }
}

static void hand_over(gw_courier *c, parcel *p)
{
    char text[GW_FACE_BYTES];
    unsigned char id[16];
    gw_kafka_message m;
    p->state = REPORTED;
    int err = gw_broker_message(&c->broker, &p->row, text, id, &m);
    p->silent = err == 0;
    if (p->silent)
        snprintf(p->row.refused, sizeof p->row.refused, "%s has no such message", c->broker.face->name);
    if (err == 1) {
        m.tag = p;
        err = gw_kafka_send(c->kafka, &m);
        if (err == 0) {
            p->state = UNDER_WAY;
            c->under_way++;
            return;
        }
    }
    if (err == GW_EAGAIN) {
        p->state = AGAIN;
        complain(c, gw_err_detail());
    } else if (err < 0) {
        snprintf(p->row.refused, sizeof p->row.refused, "%s", gw_err_detail());
    }
}

/* Writes the answers down. Where that fails they are kept, and what comes next is sent all the same. */
static void write_answers(gw_courier *c, int64_t now_ns)
{
    if (now_ns < c->settle_ns && !c->until_ns)
        return;
    if (gw_satchel_settle(c->satchel, c->outbox) == 0) {
        c->unsettled[0] = '\0';
        return;
    }
    c->failures++;
    c->settle_ns = now_ns + FIRST_PAUSE_S * GW_SECOND_NS;
    if (strncmp(c->unsettled, gw_err_detail(), sizeof c->unsettled - 1) == 0)
        return;
    snprintf(c->unsettled, sizeof c->unsettled, "%s", gw_err_detail());
    gw_log(GW_LOG_WARN, c->broker.name, "%s; what broker %s has answered is written down later", c->unsettled,
           c->broker.name);
}

static void note_answer(gw_courier *c, const parcel *p)
{
    const gw_outbox_row *r = &p->row;
    gw_satchel_answered(c->satchel, r);
    if (!r->refused[0])
        count(&c->totals->acked, &c->acked, c->acked + 1);
    if (!r->refused[0] || p->silent)
        return;
    count(&c->totals->refused, &c->refused, c->refused + 1);
    gw_log(GW_LOG_ERROR, c->broker.name, "broker %s: event %.23s %s %d is kept and not sent: %s",
           c->broker.name, r->event.id, gw_phase_text(r->event.phase), r->serial, r->refused);
}

/* One transaction for all that has been reported since. */
static void settle(gw_courier *c, int64_t now_ns)
{
    int n = 0;
    for (int i = 0; i < c->n; i++)
        if (c->parcel[i].state == REPORTED) {
            note_answer(c, &c->parcel[i]);
            c->parcel[i].state = SETTLED;
            n++;
        }
    write_answers(c, now_ns);
    if (n == 0)
        return;
    c->said[0] = '\0';
    c->pause_ns = 0;
    c->changed(c->user);
}

static bool batch_is_over(const gw_courier *c)
{
    for (int i = 0; i < c->n; i++)
        if (c->parcel[i].state == UNDER_WAY || c->parcel[i].state == REPORTED)
            return false;
    return true;
}

/* What only memory has comes after what the journal has: it was said later. */
static void take_unkept(gw_courier *c, gw_outbox_row *rows, int *n)
{
    const int kept = *n;
    gw_satchel_take(c->satchel, rows, n, BATCH);
    for (int i = kept; i < *n; i++) {
        int before = 0;
        rows[i].named_ns = rows[i].event.gps_ns;
        if (gw_outbox_records(c->outbox, rows[i].event.id, &before, &rows[i].named_ns) < 0)
            before = 0;
        rows[i].record += before;
    }
}

/* GW_OK with c->n parcels handed over; none when nothing waits. */
static void begin_batch(gw_courier *c)
{
    gw_outbox_row rows[BATCH];
    c->n = 0;
    int n = gw_outbox_take(c->outbox, rows, BATCH, gw_satchel_is_answered, c->satchel);
    if (n < 0)
        complain(c, gw_err_detail());
    int64_t waiting = n < 0 ? c->waiting : n;
    if (n == BATCH && gw_outbox_count(c->outbox, &waiting) < 0)
        waiting = n;
    for (int i = 0; i < n; i++)
        gw_satchel_leave(c->satchel, &rows[i]);
    n = n < 0 ? 0 : n;
    waiting += gw_satchel_waiting(c->satchel);
    count(&c->totals->waiting, &c->waiting, waiting);
    take_unkept(c, rows, &n);
    for (c->n = 0; c->n < n; c->n++) {
        c->parcel[c->n].row = rows[c->n];
        hand_over(c, &c->parcel[c->n]);
    }
    c->changed(c->user);
}

/* ---- the producer ---- */

static void lose_producer(gw_courier *c)
{
    c->lost += gw_kafka_troubles(c->kafka);
    gw_kafka_close(&c->kafka);
    for (int i = 0; i < c->n; i++)
        if (c->parcel[i].state == UNDER_WAY)
            c->parcel[i].state = AGAIN;
    c->under_way = 0;
    c->beat_under_way = false;
}

/* A token is good until a time of the wall clock. After a step back librdkafka would ask for the next one too late. */
static void mind_the_clock(gw_courier *c, int64_t now_ns)
{
    const int64_t clock_ns = gw_gps_now_ns() - now_ns, step_ns = clock_ns - c->clock_ns;
    const bool stepped = c->clock_ns && (step_ns > 10 * GW_SECOND_NS || step_ns < -10 * GW_SECOND_NS);
    c->clock_ns = clock_ns;
    if (!stepped || !c->kafka || !c->broker.kafka.token_command)
        return;
    gw_log(GW_LOG_INFO, c->broker.name,
           "broker %s: this host's clock was stepped; connects anew with a new token", c->broker.name);
    lose_producer(c);
}

static bool has_producer(gw_courier *c, int64_t now_ns)
{
    if (c->kafka)
        return true;
    if (now_ns < c->retry_ns)
        return false;
    if (gw_kafka_open(&c->kafka, &c->broker.kafka, c->fd, on_report, c) < 0)
        complain(c, gw_err_detail());
    return c->kafka != NULL;
}

/* Once, when the broker is first there: a topic that is not for us is known before the first event. */
static void ask_topic(gw_courier *c)
{
    if (c->asked)
        return;
    c->asked = true;
    const int err = gw_kafka_ask_topic(c->kafka, c->broker.topic, ASK_MS);
    if (err == GW_OK)
        gw_log(GW_LOG_INFO, c->broker.name, "broker %s (%s) is there, topic %s%s", c->broker.name,
               c->broker.kafka.bootstrap, c->broker.topic, c->broker.test ? ", all marked as test" : "");
    else if (err != GW_EAGAIN)
        complain(c, gw_err_detail());
}

/* One beat a second, and none while the one before has not arrived: they must not pile up. */
static void beat(gw_courier *c, int64_t now_ns)
{
    char text[GW_FACE_BYTES];
    gw_kafka_message m;
    if (!c->broker.heartbeat || c->until_ns || now_ns < c->beat_ns)
        return;
    c->beat_ns = now_ns + GW_SECOND_NS;
    if (c->beat_under_way)
        return;
    gw_broker_heartbeat(&c->broker, text, &m);
    m.tag = &c->beat_under_way;
    c->beat_under_way = gw_kafka_send(c->kafka, &m) == 0;
}

/* ---- the thread ---- */

static void wait_for_something(gw_courier *c, int64_t now_ns)
{
    int64_t wake_ns = now_ns + GW_SECOND_NS;
    if (c->retry_ns > now_ns && c->retry_ns < wake_ns)
        wake_ns = c->retry_ns;
    if (c->until_ns && now_ns + 50000000 < wake_ns)
        wake_ns = now_ns + 50000000;
    struct pollfd fd = {.fd = c->fd, .events = POLLIN};
    uint64_t times;
    if (poll(&fd, 1, (int)((wake_ns - now_ns + 999999) / 1000000)) > 0 &&
        read(c->fd, &times, sizeof times) < 0 && errno != EAGAIN)
        gw_log(GW_LOG_DEBUG, c->broker.name, "eventfd: %s", strerror(errno));
}

/* One round; false at the end. */
static bool go_round(gw_courier *c)
{
    const int64_t now_ns = gw_monotonic_ns();
    if (!c->until_ns && atomic_load(&c->ending)) {
        c->until_ns = now_ns + END_S * GW_SECOND_NS;
        c->retry_ns = 0; /* one more try */
    }
    mind_the_clock(c, now_ns);
    if (has_producer(c, now_ns)) {
        if (gw_kafka_poll(c->kafka) < 0) {
            complain(c, gw_err_detail());
            lose_producer(c);
        }
        settle(c, now_ns);
        const int64_t troubles =
            (int64_t)(c->failures + c->lost + (c->kafka ? gw_kafka_troubles(c->kafka) : 0));
        if (troubles != c->troubles) {
            count(&c->totals->troubles, &c->troubles, troubles);
            c->changed(c->user);
        }
    }
    if (c->kafka && batch_is_over(c) && now_ns >= c->retry_ns) {
        begin_batch(c);
        settle(c, now_ns); /* what was refused here */
        if (c->n == 0)
            ask_topic(c);
    }
    if (c->kafka)
        beat(c, now_ns);
    const bool done = c->kafka && c->n == 0 && !c->beat_under_way && gw_satchel_is_empty(c->satchel);
    if (c->until_ns && (done || now_ns >= c->until_ns))
        return false;
    if (c->n == 0 || !batch_is_over(c) || c->retry_ns > now_ns)
        wait_for_something(c, now_ns);
    return true;
}

static void *run(void *self)
{
    gw_courier *c = self;
    char name[16];
    snprintf(name, sizeof name, "to %.12s", c->broker.name);
    pthread_setname_np(pthread_self(), name);
    while (go_round(c))
        ;
    gw_kafka_close(&c->kafka);
    return NULL;
}

int gw_courier_start(gw_courier **out, const gw_broker *b, const char *journal, gw_courier_totals *totals,
                     void (*changed)(void *user), void *user)
{
    *out = NULL;
    gw_courier *c = calloc(1, sizeof *c);
    if (!c)
        return gw_fail(GW_ENOMEM, "broker %s: out of memory", b->name);
    c->broker = *b;
    c->totals = totals;
    c->changed = changed;
    c->user = user;
    c->fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    int err = c->fd < 0 ? gw_fail(GW_ESYSTEM, "broker %s: %s", b->name, strerror(errno))
                        : gw_outbox_open(&c->outbox, journal, b->name, b->candidates, b->of);
    if (err == 0)
        err = gw_satchel_new(&c->satchel);
    /* Opened here once, so that a missing password or key ends the run at its start, with its reason. */
    if (err == 0)
        err = gw_kafka_open(&c->kafka, &b->kafka, c->fd, on_report, c);
    if (err == 0 && pthread_create(&c->thread, NULL, run, c) != 0)
        err = gw_fail(GW_ESYSTEM, "broker %s: no thread for it", b->name);
    if (err < 0) {
        gw_kafka_close(&c->kafka);
        gw_outbox_close(&c->outbox);
        gw_satchel_destroy(&c->satchel);
        if (c->fd >= 0)
            close(c->fd);
        free(c);
        return err;
    }
    *out = c;
    return 0;
}

int gw_courier_post(gw_courier *c, const gw_outbox_row *row)
{
    GW_TRY(gw_satchel_post(c->satchel, row));
    gw_courier_wake(c);
    return 0;
}

void gw_courier_wake(gw_courier *c)
{
    static const uint64_t one = 1;
    if (write(c->fd, &one, sizeof one) < 0)
        return; /* full: it is awake */
}

void gw_courier_finish(gw_courier *c)
{
    atomic_store(&c->ending, true);
    gw_courier_wake(c);
}

void gw_courier_end(gw_courier **out)
{
    gw_courier *c = *out;
    int64_t left = 0;
    if (!c)
        return;
    gw_courier_finish(c);
    pthread_join(c->thread, NULL);
    if (gw_outbox_count(c->outbox, &left) == 0 && left)
        gw_log(GW_LOG_WARN, c->broker.name,
               "broker %s: %lld message%s not acknowledged; the journal keeps %s for the next start",
               c->broker.name, (long long)left, left == 1 ? "" : "s", left == 1 ? "it" : "them");
    else if (c->acked)
        gw_log(GW_LOG_INFO, c->broker.name, "broker %s: %lld message%s acknowledged, none waits",
               c->broker.name, (long long)c->acked, c->acked == 1 ? "" : "s");
    gw_outbox_close(&c->outbox);
    gw_satchel_destroy(&c->satchel);
    close(c->fd);
    free(c);
    *out = NULL;
}
