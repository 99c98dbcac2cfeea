/* SPDX-License-Identifier: GPL-3.0-or-later
 * doubts.h, in SQL: doubts are a temporary table in memory, so that a full disk does not forget them. */
#include "sinks/doubts.h"

#include "sinks/journal_db.h"

static int run(gw_journal *j, sqlite3_stmt *s)
{
    const int rc = sqlite3_step(s);
    const int err = rc == SQLITE_DONE ? 0 : gw_journal_fail(j, rc);
    sqlite3_finalize(s);
    return err;
}

int gw_doubts_take(gw_journal *j, const gw_event *doubt)
{
    sqlite3_stmt *s = NULL;
    GW_TRY(gw_journal_exec(
        j, "PRAGMA temp_store = MEMORY; CREATE TEMP TABLE IF NOT EXISTS doubts (stream TEXT, from_ns"
           " INTEGER, to_ns INTEGER, bad_ns INTEGER, reason TEXT)"));
    GW_TRY(gw_journal_prepare(j,
                              "INSERT INTO doubts SELECT ?1, json_extract(?2, '$.from_ns'), json_extract(?2, "
                              "'$.to_ns'), json_extract(?2, '$.bad_ns'), json_extract(?2, '$.reason')",
                              &s));
    sqlite3_bind_text(s, 1, doubt->stream, -1, SQLITE_STATIC);
    sqlite3_bind_text(s, 2, doubt->detail, -1, SQLITE_STATIC);
    return run(j, s);
}

/* A merged event's branches are in its detail (merge.h); elsewhere its stream is the only one. */
#define BRANCHES                                                                                             \
    "json_each(CASE WHEN json_valid(e.detail) AND json_type(e.detail, '$.branches') = 'array'"               \
    " AND json_array_length(e.detail, '$.branches') THEN json_extract(e.detail, '$.branches')"               \
    " ELSE json_array(json_object('stream', e.stream)) END)"

int gw_doubts_order(gw_journal *j)
{
    sqlite3_stmt *s = NULL;
    GW_TRY(gw_journal_prepare(
        j,
        "INSERT INTO orders (what, id, reason, at_ns) SELECT 'retract', e.id, (SELECT printf('%s, %.1f s "
        "after the"
        " event', d.reason, (d.bad_ns - e.gps_ns) / 1e9) FROM doubts AS d WHERE e.gps_ns BETWEEN d.from_ns "
        "AND"
        " d.to_ns AND d.stream IN (SELECT json_extract(b.value, '$.stream') FROM " BRANCHES
        " AS b) ORDER BY d.bad_ns DESC LIMIT 1), ?1 FROM latest AS e"
        " WHERE e.gps_ns BETWEEN (SELECT min(from_ns) FROM doubts) AND (SELECT max(to_ns) FROM doubts)"
        " AND e.phase <> 'retracted' AND NOT EXISTS (SELECT 1 FROM " BRANCHES
        " AS b WHERE NOT EXISTS (SELECT 1 FROM doubts AS d WHERE d.stream = json_extract(b.value, '$.stream')"
        " AND e.gps_ns BETWEEN d.from_ns AND d.to_ns))"
        " AND (SELECT origin FROM runs WHERE run = e.run) = (SELECT origin FROM runs WHERE run = ?2)"
        " AND NOT EXISTS (SELECT 1 FROM orders AS o WHERE o.id = e.id AND o.what = 'retract' AND o.done_ns "
        "IS NULL)",
        &s));
    sqlite3_bind_int64(s, 1, gw_gps_now_ns());
    sqlite3_bind_int64(s, 2, j->run);
    GW_TRY(run(j, s));
    return sqlite3_changes(j->db);
}
