/* SPDX-License-Identifier: GPL-3.0-or-later
 * Orders in SQL. An order in the table is one retraction, or one message to one broker, so that each has an
 * answer of its own; what the operator's selection comes to (since, refused, every broker) is settled when it is
 * given. */
#include "sinks/orders.h"

#include "sinks/journal_db.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
    RETRACTIONS = 16,
    MESSAGES_AT_ONCE = 1000,
    LOOK_MS = 50,
    WITH_ORDERS = 3 /* the journal's version that has the table */
};

/* ---- small statements ---- */

/* Runs a bound statement to its first row or its end: 1 with a row, 0 without, or an error. */
static int step(gw_journal *j, sqlite3_stmt *s)
{
    const int rc = sqlite3_step(s);
    return rc == SQLITE_ROW ? 1 : rc == SQLITE_DONE ? 0 : gw_journal_fail(j, rc);
}

static int run_and_end(gw_journal *j, sqlite3_stmt *s)
{
    const int err = step(j, s);
    sqlite3_finalize(s);
    return err < 0 ? err : 0;
}

static int roll_back(gw_journal *j, int err)
{
    if (err < 0)
        sqlite3_exec(j->db, "ROLLBACK", NULL, NULL, NULL); /* keeps the first failure's text */
    return err;
}

/* ---- what an order comes to ---- */

/* The length of the character at s (RFC 3629); 0 for a control character and for what is no UTF-8. */
static size_t character(const unsigned char *s)
{
    if (s[0] < 0x80)
        return s[0] >= 0x20 && s[0] != 0x7f;
    const size_t n = s[0] < 0xe0 ? 2 : s[0] < 0xf0 ? 3 : 4;
    if (s[0] < 0xc2 || s[0] > 0xf4)
        return 0;
    for (size_t i = 1; i < n; i++)
        if ((s[i] & 0xc0) != 0x80) /* so is the end of the text */
            return 0;
    const bool overlong = (s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xf0 && s[1] < 0x90);
    const bool nobody = (s[0] == 0xed && s[1] > 0x9f) || (s[0] == 0xf4 && s[1] > 0x8f);
    return overlong || nobody ? 0 : n;
}

static int check_reason(const char *reason)
{
    const size_t n = reason ? strlen(reason) : 0;
    if (n == 0 || n > GW_ORDER_REASON_BYTES)
        return gw_fail(GW_EUSAGE, "retract: the reason has %zu bytes; say it in 1 to %d", n,
                       GW_ORDER_REASON_BYTES);
    const unsigned char *s = (const unsigned char *)reason;
    for (size_t at = 0, length; at < n; at += length)
        if ((length = character(s + at)) == 0)
            return gw_fail(GW_EUSAGE, "retract: the reason is no plain text (byte 0x%02x at %zu)", s[at], at);
    return 0;
}

/* May event `id` be retracted now? */
static int check_retraction(gw_journal *j, const char *id)
{
    char utc[32];
    sqlite3_stmt *s = NULL;
    GW_TRY(gw_journal_prepare(j, "SELECT phase = 'retracted', committed_ns FROM latest WHERE id = ?1", &s));
    sqlite3_bind_text(s, 1, id, -1, SQLITE_STATIC);
    int err = step(j, s);
    const bool gone = err == 1 && sqlite3_column_int(s, 0);
    const int64_t at_ns = err == 1 ? sqlite3_column_int64(s, 1) : 0;
    sqlite3_finalize(s);
    if (err == 0)
        return gw_fail(GW_EMISSING, "retract: %s: no event '%s'; 'gwstream alerts list' names them", j->path,
                       id);
    if (gone)
        return gw_fail(GW_EMISMATCH, "retract: %s has been retracted already, at %s", id,
                       gw_gps_utc(at_ns, utc, sizeof utc));
    return err < 0 ? err : 0;
}

/* Messages that an order sends again: ?1 id, ?2 broker, ?3 since, ?4 only what was refused. A broker has had what
 * it has settled; what is under way comes anyway. A broker by name also gets what was there before its own first
 * day, if it is of the sky. What a face has no words for stays unsaid, and so does what was overtaken. */
#define MESSAGES                                                                                             \
    " FROM events AS e JOIN brokers AS b LEFT JOIN broker_ack AS a ON a.broker = b.name AND a.id = e.id"     \
    " AND a.phase = e.phase AND a.serial = e.serial"                                                         \
    " WHERE (?1 IS NULL OR e.id = ?1) AND (?2 IS NULL OR b.name = ?2)"                                       \
    " AND (?3 IS NULL OR e.id IN (SELECT id FROM latest WHERE gps_ns >= ?3))"                                \
    " AND (a.acked_ns IS NOT NULL OR NOT EXISTS (SELECT 1 FROM events AS l JOIN broker_ack AS t USING (id,"  \
    " phase, serial) WHERE l.id = e.id AND l.number > e.number AND t.broker = b.name AND t.acked_ns "        \
    "NOTNULL))"                                                                                              \
    " AND (a.refused IS NULL OR a.refused NOT LIKE '% has no such message')"                                 \
    " AND CASE WHEN ?4 THEN a.refused IS NOT NULL WHEN a.broker IS NOT NULL THEN 1"                          \
    " ELSE ?2 IS NOT NULL AND e.number <= b.since AND e.alert AND NOT e.archived"                            \
    " AND EXISTS (SELECT 1 FROM runs WHERE runs.run = e.run AND runs.origin = 'live') END"

static void bind_selection(sqlite3_stmt *s, const gw_order *o)
{
    if (o->id)
        sqlite3_bind_text(s, 1, o->id, -1, SQLITE_STATIC);
    if (o->broker)
        sqlite3_bind_text(s, 2, o->broker, -1, SQLITE_STATIC);
    if (o->since_ns)
        sqlite3_bind_int64(s, 3, o->since_ns);
    sqlite3_bind_int(s, 4, o->refused);
}

/* The journal's brokers in one line; whether `name` is one of them. */
static int find_broker(gw_journal *j, const char *name, bool *found, char *list, size_t size)
{
    sqlite3_stmt *s = NULL;
    size_t used = 0;
    int err;
    *found = false;
    list[0] = '\0';
    GW_TRY(gw_journal_prepare(j, "SELECT name FROM brokers ORDER BY name", &s));
    while ((err = step(j, s)) == 1) {
        const char *text = (const char *)sqlite3_column_text(s, 0);
        *found |= name && text && strcmp(text, name) == 0;
        if (used < size)
            used += (size_t)snprintf(list + used, size - used, "%s%s", used ? ", " : "", text ? text : "");
    }
    sqlite3_finalize(s);
    return err;
}

static int count_messages(gw_journal *j, const gw_order *o, int64_t *messages)
{
    char list[512] = "";
    bool found = false;
    if (j->version >= 2)
        GW_TRY(find_broker(j, o->broker, &found, list, sizeof list));
    if (!list[0])
        return gw_fail(GW_EMISSING, "resend: %s: no broker has ever been served out of this journal",
                       j->path);
    if (o->broker && !found)
        return gw_fail(GW_EMISSING, "resend: %s: no broker '%s'; there are: %s", j->path, o->broker, list);
    sqlite3_stmt *s = NULL;
    GW_TRY(gw_journal_prepare(j, "SELECT count(*)" MESSAGES, &s));
    bind_selection(s, o);
    const int err = step(j, s);
    *messages = err == 1 ? sqlite3_column_int64(s, 0) : 0;
    sqlite3_finalize(s);
    if (err == 1 && *messages == 0)
        return gw_fail(
            GW_EMISSING,
            "resend: %s: nothing that %s has %s%s%s, but for what a later word of the same event has "
            "overtaken; 'gwstream alerts stats' counts",
            j->path, o->broker ? o->broker : "a broker", o->refused ? "refused" : "had or refused",
            o->id ? " of " : "", o->id ? o->id : "");
    return err < 0 ? err : 0;
}

int gw_orders_look(gw_journal *j, const gw_order *o, int64_t *messages)
{
    *messages = 1;
    if (!o->retract)
        return count_messages(j, o, messages);
    GW_TRY(check_reason(o->reason));
    return check_retraction(j, o->id);
}

/* ---- carrying out ---- */

typedef struct entry {
    int64_t number, row; /* of the order; of the retraction in events, 0 = there is none */
    char id[GW_EVENT_ID_BYTES], reason[GW_ORDER_REASON_BYTES + 1];
} entry;

static int answer(gw_journal *j, const entry *e, const char *text)
{
    sqlite3_stmt *s = NULL;
    GW_TRY(
        gw_journal_prepare(j, "UPDATE orders SET done_ns = ?2, answer = ?3, run = ?4 WHERE number = ?1", &s));
    sqlite3_bind_int64(s, 1, e->number);
    sqlite3_bind_int64(s, 2, gw_gps_now_ns());
    sqlite3_bind_text(s, 3, text, -1, SQLITE_TRANSIENT);
    sqlite3_bind_int64(s, 4, j->run);
    return run_and_end(j, s);
}

#define X(type, name) #name ", "
static const char copy_sql[] = "INSERT INTO events (" GW_EVENT_COLUMNS(
    X) "phase, serial, run, last_run, committed_ns)"
       " SELECT " GW_EVENT_COLUMNS(X) "'retracted',"
                                      " (SELECT coalesce(max(serial), 0) + 1 FROM events WHERE id = ?1 AND "
                                      "phase = 'retracted'), run, last_run, ?2"
                                      " FROM events WHERE id = ?1 ORDER BY number DESC LIMIT 1";
#undef X

/* No data are behind this word. A detail that has no room for the reason gives way. */
#define WITH_REASON "json_set(CASE WHEN json_valid(detail) THEN detail ELSE '{}' END, '$.reason', ?2)"
static const char reason_sql[] =
    "UPDATE events SET due_ns = NULL, ingest_ns = NULL, decided_ns = ?3, detail ="
    " CASE WHEN length(CAST(" WITH_REASON " AS BLOB)) < ?4 THEN " WITH_REASON
    " ELSE json_object('reason', ?2) END WHERE number = ?1";

static int retract(gw_journal *j, entry *e)
{
    const int refused = check_retraction(j, e->id);
    if (refused == GW_EMISSING || refused == GW_EMISMATCH)
        return answer(j, e, gw_err_detail());
    GW_TRY(refused);
    sqlite3_stmt *s = NULL;
    const int64_t now_ns = gw_gps_now_ns();
    GW_TRY(gw_journal_prepare(j, copy_sql, &s));
    sqlite3_bind_text(s, 1, e->id, -1, SQLITE_STATIC);
    sqlite3_bind_int64(s, 2, now_ns);
    GW_TRY(run_and_end(j, s));
    e->row = sqlite3_last_insert_rowid(j->db);
    GW_TRY(gw_journal_prepare(j, reason_sql, &s));
    sqlite3_bind_int64(s, 1, e->row);
    sqlite3_bind_text(s, 2, e->reason, -1, SQLITE_STATIC);
    sqlite3_bind_int64(s, 3, now_ns);
    sqlite3_bind_int64(s, 4, (int64_t)sizeof((gw_event *)0)->detail);
    GW_TRY(run_and_end(j, s));
    return answer(j, e, "retracted");
}

static void copy_text(sqlite3_stmt *s, int i, char *to, size_t size)
{
    const unsigned char *text = sqlite3_column_text(s, i);
    snprintf(to, size, "%s", text ? (const char *)text : "");
}

static int open_retractions(gw_journal *j, entry *list, int *n)
{
    sqlite3_stmt *s = NULL;
    int err = 0;
    *n = 0;
    GW_TRY(gw_journal_prepare(
        j, "SELECT number, id, reason FROM orders WHERE done_ns IS NULL AND what = 'retract' ORDER BY number",
        &s));
    while (*n < RETRACTIONS && (err = step(j, s)) == 1) {
        entry *e = &list[(*n)++];
        *e = (entry){.number = sqlite3_column_int64(s, 0)};
        copy_text(s, 1, e->id, sizeof e->id);
        copy_text(s, 2, e->reason, sizeof e->reason);
    }
    sqlite3_finalize(s);
    return err < 0 ? err : 0;
}

/* Of all that are open the oldest; two statements, for there may be many. */
#define OPEN_RESENDS                                                                                         \
    " done_ns IS NULL AND what = 'resend' AND number <= (SELECT max(number) FROM (SELECT number FROM orders" \
    " WHERE done_ns IS NULL AND what = 'resend' ORDER BY number LIMIT ?1))"

/* What the broker has had of these events since the order was given goes again too, behind them. */
#define AFTER_THEM                                                                                           \
    "UPDATE broker_ack SET again = 1 WHERE acked_ns IS NOT NULL AND (broker, id, phase, serial) IN"          \
    " (SELECT o.broker, l.id, l.phase, l.serial FROM (SELECT * FROM orders WHERE" OPEN_RESENDS               \
    ") AS o JOIN events AS f ON f.id = o.id AND f.phase = o.phase AND f.serial = o.serial"                   \
    " JOIN events AS l ON l.id = f.id AND l.number > f.number)"

/* So does what takes them back, though the broker was to hear nothing of it while it had none of them. */
#define TAKEN_BACK                                                                                           \
    "INSERT INTO broker_ack (broker, id, phase, serial, again) SELECT o.broker, l.id, l.phase, l.serial, 1"  \
    " FROM (SELECT * FROM orders WHERE" OPEN_RESENDS                                                         \
    ") AS o JOIN events AS f ON f.id = o.id AND f.phase = o.phase AND f.serial = o.serial"                   \
    " JOIN events AS l ON l.id = f.id AND l.number > f.number AND l.phase = 'retracted' WHERE true"          \
    " ON CONFLICT DO NOTHING"

static int resend(gw_journal *j, bool *any)
{
    sqlite3_stmt *s = NULL;
    GW_TRY(gw_journal_prepare(
        j,
        "INSERT INTO broker_ack (broker, id, phase, serial, again) SELECT broker, id, phase,"
        " serial, 1 FROM orders WHERE" OPEN_RESENDS " ON CONFLICT DO UPDATE SET again = 1",
        &s));
    sqlite3_bind_int(s, 1, MESSAGES_AT_ONCE);
    GW_TRY(run_and_end(j, s));
    GW_TRY(gw_journal_prepare(j, AFTER_THEM, &s));
    sqlite3_bind_int(s, 1, MESSAGES_AT_ONCE);
    GW_TRY(run_and_end(j, s));
    GW_TRY(gw_journal_prepare(j, TAKEN_BACK, &s));
    sqlite3_bind_int(s, 1, MESSAGES_AT_ONCE);
    GW_TRY(run_and_end(j, s));
    GW_TRY(gw_journal_prepare(
        j, "UPDATE orders SET done_ns = ?2, answer = 'waits for the broker again' WHERE" OPEN_RESENDS, &s));
    sqlite3_bind_int(s, 1, MESSAGES_AT_ONCE);
    sqlite3_bind_int64(s, 2, gw_gps_now_ns());
    GW_TRY(run_and_end(j, s));
    *any = sqlite3_changes(j->db) > 0;
    return 0;
}

static int any_open(gw_journal *j)
{
    sqlite3_stmt *s = NULL;
    GW_TRY(gw_journal_prepare(j, "SELECT 1 FROM orders WHERE done_ns IS NULL LIMIT 1", &s));
    const int any = step(j, s);
    sqlite3_finalize(s);
    return any;
}

/* A row of the journal, to be said. */
static int say_row(gw_journal *j, int64_t number, gw_orders_say *say, void *user)
{
    sqlite3_stmt *s = NULL;
    gw_journal_row row = {0};
    GW_TRY(gw_journal_prepare(j, "SELECT " GW_JOURNAL_COLUMNS " FROM events AS e WHERE e.number = ?1", &s));
    sqlite3_bind_int64(s, 1, number);
    const int err = step(j, s);
    if (err == 1)
        gw_journal_read_row(s, &row);
    sqlite3_finalize(s);
    return err == 1 ? say(user, &row.event, row.serial) : err;
}

static int carry_out(gw_journal *j, entry *list, int *n, bool *again)
{
    GW_TRY(open_retractions(j, list, n));
    for (int i = 0; i < *n; i++)
        GW_TRY(retract(j, &list[i]));
    return resend(j, again);
}

int gw_orders_obey(gw_journal *j, gw_orders_say *say, void *user)
{
    entry list[RETRACTIONS];
    int n = 0;
    bool again = false;
    const int any = any_open(j);
    if (any <= 0)
        return any;
    GW_TRY(gw_journal_exec(j, "BEGIN IMMEDIATE"));
    int err = carry_out(j, list, &n, &again);
    if (err == 0)
        err = gw_journal_exec(j, "COMMIT");
    GW_TRY(roll_back(j, err));
    for (int i = 0; say && i < n; i++)
        if (list[i].row)
            GW_TRY(say_row(j, list[i].row, say, user));
    return say && again ? say(user, NULL, 0) : 0;
}

int gw_orders_withdrawn(gw_journal *j, const char *id)
{
    sqlite3_stmt *s = NULL;
    GW_TRY(gw_journal_prepare(
        j,
        "SELECT 1 FROM orders WHERE id = ?1 AND what = 'retract' AND answer = 'retracted' AND run = ?2"
        " LIMIT 1",
        &s));
    sqlite3_bind_text(s, 1, id, -1, SQLITE_STATIC);
    sqlite3_bind_int64(s, 2, j->run);
    const int yes = step(j, s);
    sqlite3_finalize(s);
    return yes;
}

/* ---- giving ---- */

/* Commits the order's entries; *first and *last become their numbers. */
static int write_orders(gw_journal *j, const gw_order *o, int64_t *first, int64_t *last)
{
    static const char retract_sql[] =
        "INSERT INTO orders (what, id, reason, at_ns) VALUES ('retract', ?1, ?6, ?5)";
    static const char resend_sql[] =
        "INSERT INTO orders (what, id, phase, serial, broker, reason, at_ns)"
        " SELECT 'resend', e.id, e.phase, e.serial, b.name, '', ?5" MESSAGES " ORDER BY e.number, b.name";
    sqlite3_stmt *s = NULL;
    GW_TRY(gw_journal_prepare(j, o->retract ? retract_sql : resend_sql, &s));
    bind_selection(s, o);
    sqlite3_bind_int64(s, 5, gw_gps_now_ns());
    if (o->retract)
        sqlite3_bind_text(s, 6, o->reason, -1, SQLITE_STATIC);
    GW_TRY(gw_journal_exec(j, "BEGIN IMMEDIATE"));
    const int err = step(j, s);
    sqlite3_finalize(s);
    GW_TRY(roll_back(j, err));
    *last = sqlite3_last_insert_rowid(j->db);
    *first = *last - sqlite3_changes(j->db) + 1;
    return roll_back(j, gw_journal_exec(j, "COMMIT"));
}

static int read_answers(gw_journal *j, int64_t first, int64_t last, gw_orders_told *t)
{
    sqlite3_stmt *s = NULL;
    GW_TRY(gw_journal_prepare(
        j,
        "SELECT count(done_ns), count(*) FILTER (WHERE answer LIKE 'retract: %'), (SELECT answer FROM orders"
        " WHERE number BETWEEN ?1 AND ?2 AND done_ns IS NOT NULL ORDER BY answer LIKE 'retract: %' DESC, "
        "number"
        " LIMIT 1) FROM orders WHERE number BETWEEN ?1 AND ?2",
        &s));
    sqlite3_bind_int64(s, 1, first);
    sqlite3_bind_int64(s, 2, last);
    const int err = step(j, s);
    if (err == 1) {
        t->done = sqlite3_column_int64(s, 0);
        t->refused = sqlite3_column_int64(s, 1);
        copy_text(s, 2, t->answer, sizeof t->answer);
    }
    sqlite3_finalize(s);
    return err < 0 ? err : 0;
}

/* The run that holds the journal does it. */
static int give_to_run(const char *path, const gw_order *o, int wait_ms, gw_orders_told *t)
{
    gw_journal *j = NULL;
    int64_t first = 0, last = 0;
    t->by_run = true;
    GW_TRY(gw_journal_attach(&j, path));
    int err = write_orders(j, o, &first, &last);
    t->given = last - first + 1;
    for (int waited_ms = 0; err == 0; waited_ms += LOOK_MS) {
        err = read_answers(j, first, last, t);
        if (t->done >= t->given || waited_ms >= wait_ms)
            break;
        nanosleep(&(struct timespec){.tv_nsec = LOOK_MS * 1000000L}, NULL);
    }
    gw_journal_close(&j);
    return err;
}

/* Nobody holds it. A command is no run: the run that opening for writing has begun is taken back. */
static int do_it_here(gw_journal *j, const gw_order *o, gw_orders_told *t)
{
    int64_t first = 0, last = 0;
    char sql[64];
    snprintf(sql, sizeof sql, "DELETE FROM runs WHERE run = %lld", (long long)j->run);
    GW_TRY(gw_journal_exec(j, sql));
    j->run = 0; /* its number is the next run's */
    GW_TRY(write_orders(j, o, &first, &last));
    t->given = last - first + 1;
    for (int64_t before = -1; t->done < t->given && t->done > before;) {
        before = t->done;
        GW_TRY(gw_orders_obey(j, NULL, NULL));
        GW_TRY(read_answers(j, first, last, t));
    }
    return 0;
}

int gw_orders_give(const char *path, const gw_order *o, int wait_ms, gw_orders_told *told)
{
    gw_journal *j = NULL;
    int64_t messages = 0;
    *told = (gw_orders_told){0};
    GW_TRY(gw_journal_open_read(&j, path));
    int err = gw_orders_look(j, o, &messages);
    const bool has_table = j->version >= WITH_ORDERS;
    gw_journal_close(&j);
    GW_TRY(err);
    err = gw_journal_open(&j, path);
    if (err == GW_EBUSY && !has_table)
        return gw_fail(
            GW_ENOTSUP,
            "journal %s: the run that holds it is of an older gwstream and takes no orders; end it "
            "first",
            path);
    if (err == GW_EBUSY)
        return give_to_run(path, o, wait_ms, told);
    GW_TRY(err);
    err = do_it_here(j, o, told);
    gw_journal_close(&j);
    return err;
}
