/* SPDX-License-Identifier: GPL-3.0-or-later
 * The journal's file: opening it safely, its tables and their versions, and what SQLite's failures are called. Writing
 * is in journal.c, reading in journal_read.c.
 *
 * Two locks. SQLite's own keep each commit whole. A lock on `<file>-lock` for as long as a run lasts keeps
 * a second run out: it would take the first one's half-done publications for those of a crash. */
#include "pipeline/log.h"
#include "sinks/journal.h"
#include "sinks/journal_db.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#ifndef GW_VERSION
#define GW_VERSION "0.1.0"
#endif

enum { APPLICATION_ID = 0x47575331 /* "GWS1" */, BUSY_MS = 5000 };

#define X(type, name) #name " " GW_SQL_##type ", "
static const char create_sql[] =
    "CREATE TABLE schema (version INTEGER NOT NULL, software TEXT NOT NULL, created_utc TEXT NOT NULL);"
    "CREATE TABLE runs (run INTEGER PRIMARY KEY, started_ns INTEGER NOT NULL, started_utc TEXT NOT NULL,"
    " software TEXT NOT NULL);"
    /* `number` is the order of commitment; last_run the latest run that said the same */
    "CREATE TABLE events (number INTEGER PRIMARY KEY, phase TEXT NOT NULL, serial INTEGER NOT "
    "NULL, " GW_EVENT_COLUMNS(
        X) "run INTEGER NOT NULL, last_run INTEGER NOT NULL, committed_ns INTEGER NOT NULL, published_ns "
           "INTEGER,"
           " recovered INTEGER NOT NULL DEFAULT 0, latency_s REAL, json TEXT, UNIQUE (id, phase, serial));"
           "CREATE INDEX events_gps ON events (gps_ns);"
           "CREATE INDEX events_pending ON events (number) WHERE published_ns IS NULL;"
           "CREATE VIEW latest AS SELECT * FROM events AS e"
           " WHERE number = (SELECT max(number) FROM events AS o WHERE o.id = e.id);"
           "CREATE TABLE injections (number INTEGER PRIMARY KEY, gps_ns INTEGER NOT NULL, detectors TEXT NOT "
           "NULL,"
           " detail TEXT NOT NULL, run INTEGER NOT NULL, last_run INTEGER NOT NULL,"
           " UNIQUE (gps_ns, detectors, detail));";
#undef X

/* What the versions added. An older journal gets it when it is next written. Rows of broker_ack are what is
 * settled: acknowledged, or refused for the reason that is there. */
static const char version_2_sql[] =
    "ALTER TABLE runs ADD COLUMN origin TEXT NOT NULL DEFAULT 'live';"
    "CREATE TABLE brokers (name TEXT PRIMARY KEY, since INTEGER NOT NULL);" /* an events.number */
    "CREATE TABLE broker_ack (broker TEXT NOT NULL, id TEXT NOT NULL, phase TEXT NOT NULL,"
    " serial INTEGER NOT NULL, acked_ns INTEGER, latency_s REAL, refused TEXT,"
    " PRIMARY KEY (broker, id, phase, serial)) WITHOUT ROWID;";
/* again: to be sent once more, though settled. A new journal's events have their column from the start. */
static const char version_3_sql[] =
    "ALTER TABLE broker_ack ADD COLUMN again INTEGER NOT NULL DEFAULT 0;"
    "CREATE INDEX broker_ack_again ON broker_ack (broker) WHERE again;"
    "CREATE TABLE orders (number INTEGER PRIMARY KEY, what TEXT NOT NULL, id TEXT NOT NULL, phase TEXT,"
    " serial INTEGER, broker TEXT, reason TEXT NOT NULL, at_ns INTEGER NOT NULL, done_ns INTEGER, answer "
    "TEXT);"
    "CREATE INDEX orders_open ON orders (number) WHERE done_ns IS NULL;";
/* run: that carried it out. */
static const char version_4_sql[] = "ALTER TABLE orders ADD COLUMN run INTEGER;";

int gw_journal_fail(const gw_journal *j, int rc)
{
    const char *why = j->db ? sqlite3_errmsg(j->db) : sqlite3_errstr(rc);
    int system = j->db ? sqlite3_system_errno(j->db) : 0;
    const char *because = system ? strerror(system) : why;
    switch (rc & 0xff) {
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
        return gw_fail(GW_EBUSY,
                       "journal %s: another program has kept it locked for 5 s; end that program or "
                       "name another journal",
                       j->path);
    case SQLITE_READONLY:
    case SQLITE_PERM:
    case SQLITE_AUTH:
        return gw_fail(GW_EACCESS, "journal %s: cannot be written (%s); name another journal", j->path, why);
    case SQLITE_CANTOPEN:
        return gw_fail(system == ENOENT ? GW_EMISSING : GW_EACCESS,
                       "journal %s: cannot be opened (%s); name another journal", j->path, because);
    case SQLITE_NOTADB:
        return gw_fail(GW_EFORMAT,
                       "journal %s: not a gwstream journal (not an SQLite file); name another file", j->path);
    case SQLITE_CORRUPT:
        return gw_fail(GW_EFORMAT,
                       "journal %s: damaged (%s); move it away and keep it: "
                       "'sqlite3 FILE .recover' may read it",
                       j->path, why);
    case SQLITE_FULL:
        return gw_fail(GW_EIO, "journal %s: no space left; free some on its disk", j->path);
    case SQLITE_NOMEM:
        return gw_fail(GW_ENOMEM, "journal %s: out of memory", j->path);
    default:
        return gw_fail(GW_EIO, "journal %s: %s (%s)", j->path, why, system ? because : "no system error");
    }
}

int gw_journal_exec(gw_journal *j, const char *sql)
{
    int rc = sqlite3_exec(j->db, sql, NULL, NULL, NULL);
    return rc == SQLITE_OK ? 0 : gw_journal_fail(j, rc);
}

int gw_journal_prepare(gw_journal *j, const char *sql, sqlite3_stmt **s)
{
    int rc = sqlite3_prepare_v3(j->db, sql, -1, SQLITE_PREPARE_PERSISTENT, s, NULL);
    return rc == SQLITE_OK ? 0 : gw_journal_fail(j, rc);
}

/* A number that a statement gives in its only row; `otherwise` when it gives none. */
static int ask_int(gw_journal *j, const char *sql, int64_t otherwise, int64_t *value)
{
    sqlite3_stmt *s = NULL;
    GW_TRY(gw_journal_prepare(j, sql, &s));
    int rc = sqlite3_step(s);
    *value = rc == SQLITE_ROW ? sqlite3_column_int64(s, 0) : otherwise;
    int err = rc == SQLITE_ROW || rc == SQLITE_DONE ? 0 : gw_journal_fail(j, rc);
    sqlite3_finalize(s);
    return err;
}

/* ---- opening ---- */

/* Takes `<file>-lock`. The file is removed at the end of the run by whoever holds its lock; so a lock is
 * good only if the name still leads to the file that was locked. */
static int lock_run(gw_journal *j)
{
    char name[GW_JOURNAL_PATH_BYTES + 8];
    snprintf(name, sizeof name, "%s-lock", j->path);
    for (int tries = 0; tries < 100; tries++) {
        int fd = open(name, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644);
        if (fd < 0)
            return gw_fail(errno == ENOENT                   ? GW_EMISSING
                           : errno == ENOSPC || errno == EIO ? GW_EIO
                                                             : GW_EACCESS,
                           "journal %s: cannot be written (%s: %s); name another journal", j->path, name,
                           strerror(errno));
        if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
            int why = errno;
            close(fd);
            if (why != EWOULDBLOCK)
                return gw_fail(GW_EIO, "journal %s: cannot be locked (%s)", j->path, strerror(why));
            return gw_fail(GW_EBUSY,
                           "journal %s: another gwstream is writing it; give this run a journal of its "
                           "own",
                           j->path);
        }
        struct stat held, named;
        if (fstat(fd, &held) == 0 && stat(name, &named) == 0 && held.st_ino == named.st_ino &&
            held.st_dev == named.st_dev) {
            j->lock = fd;
            return 0;
        }
        close(fd);
    }
    return gw_fail(GW_EBUSY, "journal %s: another gwstream is writing it; give this run a journal of its own",
                   j->path);
}

static void unlock_run(gw_journal *j)
{
    char name[GW_JOURNAL_PATH_BYTES + 8];
    if (j->lock < 0)
        return;
    snprintf(name, sizeof name, "%s-lock", j->path);
    unlink(name);
    close(j->lock);
    j->lock = -1;
}

/* Is this ours? Reads only, so that a file which is not ours stays as it was. */
static int look(gw_journal *j, bool *empty)
{
    int64_t application = 0, tables = 0;
    GW_TRY(ask_int(j, "PRAGMA application_id", 0, &application));
    GW_TRY(ask_int(j, "SELECT count(*) FROM sqlite_master", 0, &tables));
    *empty = application == 0 && tables == 0;
    if (*empty)
        return 0;
    if (application != APPLICATION_ID)
        return gw_fail(GW_EFORMAT,
                       "journal %s: an SQLite file of another program, not a gwstream journal; name "
                       "another file",
                       j->path);
    GW_TRY(ask_int(j, "SELECT max(version) FROM schema", 0, &j->version));
    if (j->version > GW_JOURNAL_VERSION)
        return gw_fail(GW_ENOTSUP,
                       "journal %s: written by a newer gwstream (journal version %lld, this one knows "
                       "%d); use that one or name another journal",
                       j->path, (long long)j->version, GW_JOURNAL_VERSION);
    if (j->version < 1)
        return gw_fail(GW_EFORMAT, "journal %s: damaged (no schema version); move it away", j->path);
    return 0;
}

/* All tables of a new journal, or what an old one lacks. */
static int create_tables(gw_journal *j, bool empty)
{
    char utc[32], sql[512];
    snprintf(sql, sizeof sql, "INSERT INTO schema VALUES (%d, '%s', '%s'); PRAGMA application_id = %d;",
             GW_JOURNAL_VERSION, GW_VERSION, gw_gps_utc(gw_gps_now_ns(), utc, sizeof utc), APPLICATION_ID);
    GW_TRY(gw_journal_exec(j, "BEGIN IMMEDIATE"));
    if (empty)
        GW_TRY(gw_journal_exec(j, create_sql));
    if (j->version < 2)
        GW_TRY(gw_journal_exec(j, version_2_sql));
    if (!empty && j->version < 2) /* it did not say, so nothing of it may pass for the sky */
        GW_TRY(gw_journal_exec(j, "UPDATE runs SET origin = 'unknown'"));
    if (j->version < 3)
        GW_TRY(gw_journal_exec(j, version_3_sql));
    if (!empty && j->version < 3)
        GW_TRY(gw_journal_exec(j, "ALTER TABLE events ADD COLUMN gps_error_s REAL"));
    GW_TRY(gw_journal_exec(j, version_4_sql));
    if (!empty)
        GW_TRY(gw_journal_exec(j, "ALTER TABLE events ADD COLUMN archived INTEGER NOT NULL DEFAULT 0"));
    GW_TRY(gw_journal_exec(j, sql));
    j->version = GW_JOURNAL_VERSION;
    return gw_journal_exec(j, "COMMIT");
}

static int begin_run(gw_journal *j)
{
    char utc[32], sql[256];
    int64_t now = gw_gps_now_ns();
    snprintf(sql, sizeof sql,
             "INSERT INTO runs (started_ns, started_utc, software) VALUES (%lld, '%s', '%s')", (long long)now,
             gw_gps_utc(now, utc, sizeof utc), GW_VERSION);
    GW_TRY(gw_journal_exec(j, sql));
    j->run = sqlite3_last_insert_rowid(j->db);
    return 0;
}

static int start(gw_journal **out, const char *path)
{
    *out = NULL;
    if (strlen(path) >= GW_JOURNAL_PATH_BYTES || !*path)
        return gw_fail(GW_ERANGE, "journal: its path must have 1 to %d bytes", GW_JOURNAL_PATH_BYTES - 1);
    struct stat st;
    if (stat(path, &st) == 0 && !S_ISREG(st.st_mode))
        return gw_fail(GW_EACCESS, "journal %s: %s; name a file", path,
                       S_ISDIR(st.st_mode) ? "is a directory" : "is not a plain file");
    gw_journal *j = calloc(1, sizeof *j);
    if (!j)
        return gw_fail(GW_ENOMEM, "journal %s: out of memory", path);
    snprintf(j->path, sizeof j->path, "%s", path);
    j->lock = -1;
    *out = j;
    return 0;
}

static int connect_db(gw_journal *j, const char *name, int flags)
{
    int rc = sqlite3_open_v2(name, &j->db, flags | SQLITE_OPEN_NOMUTEX, NULL);
    if (rc != SQLITE_OK)
        return gw_journal_fail(j, rc);
    sqlite3_extended_result_codes(j->db, 1);
    sqlite3_busy_timeout(j->db, BUSY_MS);
    return 0;
}

static int open_write(gw_journal *j)
{
    GW_TRY(lock_run(j));
    GW_TRY(connect_db(j, j->path, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE));
    /* SQLite falls back to reading when it may not write */
    if (sqlite3_db_readonly(j->db, "main"))
        return gw_fail(GW_EACCESS, "journal %s: cannot be written (no permission); name another journal",
                       j->path);
    bool empty = false;
    GW_TRY(look(j, &empty));

    sqlite3_stmt *s = NULL;
    GW_TRY(gw_journal_prepare(j, "PRAGMA journal_mode = WAL", &s));
    int rc = sqlite3_step(s);
    bool wal = rc == SQLITE_ROW && strcmp((const char *)sqlite3_column_text(s, 0), "wal") == 0;
    int err = rc == SQLITE_ROW ? 0 : gw_journal_fail(j, rc);
    sqlite3_finalize(s);
    GW_TRY(err);
    if (!wal)
        return gw_fail(GW_EIO, "journal %s: its file system has no shared memory; put it on a local disk",
                       j->path);
    GW_TRY(gw_journal_exec(j, "PRAGMA synchronous = FULL"));

    if (empty || j->version < GW_JOURNAL_VERSION)
        GW_TRY(create_tables(j, empty));
    GW_TRY(begin_run(j));
    GW_TRY(gw_journal_set_aside(j));
    return gw_journal_prepare_writes(j);
}

int gw_journal_open(gw_journal **j, const char *path)
{
    GW_TRY(start(j, path));
    int err = open_write(*j);
    if (err < 0)
        gw_journal_close(j);
    return err;
}

static int open_read(gw_journal *j)
{
    struct stat st;
    if (stat(j->path, &st) < 0)
        return gw_fail(errno == ENOENT || errno == ENOTDIR ? GW_EMISSING : GW_EACCESS,
                       "journal %s: %s; name it with --journal FILE", j->path, strerror(errno));
    /* Not SQLITE_OPEN_READONLY where it can be helped: such a reader leaves its -wal and -shm files behind.
     */
    GW_TRY(connect_db(j, j->path, SQLITE_OPEN_READWRITE));
    bool empty = false;
    int err = look(j, &empty);
    if (err == 0 && empty)
        err = gw_fail(GW_EFORMAT, "journal %s: empty, not a gwstream journal; name another file", j->path);
    GW_TRY(err);
    if (j->version < GW_JOURNAL_VERSION) { /* what it lacks is not known; the file stays as it is */
        char sql[160];
        snprintf(sql, sizeof sql,
                 "PRAGMA temp_store = MEMORY; CREATE TEMP VIEW events AS SELECT *%s, 0 AS archived FROM"
                 " main.events",
                 j->version < 3 ? ", NULL AS gps_error_s" : "");
        GW_TRY(gw_journal_exec(j, sql));
    }
    GW_TRY(gw_journal_exec(j, "PRAGMA query_only = 1"));
    return ask_int(j, "SELECT max(run) FROM runs", 0, &j->run);
}

int gw_journal_open_read(gw_journal **j, const char *path)
{
    GW_TRY(start(j, path));
    int err = open_read(*j);
    if (err < 0)
        gw_journal_close(j);
    return err;
}

void gw_journal_close(gw_journal **p)
{
    gw_journal *j = *p;
    if (!j)
        return;
    sqlite3_stmt *all[] = {j->put, j->find, j->newest, j->again, j->mark, j->inject, j->settle};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        sqlite3_finalize(all[i]);
    sqlite3_close(j->db); /* also moves the WAL into the file, unless a reader is there */
    unlock_run(j);
    free(j);
    *p = NULL;
}

int gw_journal_attach(gw_journal **j, const char *path)
{
    GW_TRY(start(j, path));
    int err = connect_db(*j, path, SQLITE_OPEN_READWRITE);
    if (err == 0)
        err = gw_journal_exec(*j, "PRAGMA synchronous = NORMAL; PRAGMA wal_autocheckpoint = 256");
    if (err < 0)
        gw_journal_close(j);
    return err;
}

int gw_journal_set_origin(gw_journal *j, const char *origin)
{
    char sql[96];
    snprintf(sql, sizeof sql, "UPDATE runs SET origin = '%.16s' WHERE run = %lld", origin, (long long)j->run);
    return gw_journal_exec(j, sql);
}

int gw_journal_is_alike(gw_journal *j, int64_t run)
{
    char sql[128];
    int64_t alike = 0;
    snprintf(sql, sizeof sql, "SELECT count(DISTINCT origin) = 1 FROM runs WHERE run IN (%lld, %lld)",
             (long long)run, (long long)j->run);
    GW_TRY(ask_int(j, sql, 0, &alike));
    return alike != 0;
}

int64_t gw_journal_run(const gw_journal *j)
{
    return j->run;
}
