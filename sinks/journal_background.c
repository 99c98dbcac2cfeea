/* SPDX-License-Identifier: GPL-3.0-or-later
 * journal_background.h. One row a minute: its statement is prepared anew each time. */
#include "sinks/journal_background.h"

#include "pipeline/noise_rate.h"
#include "sinks/journal_db.h"

#include <math.h>

static int make_table(gw_journal *j)
{
    return gw_journal_exec(j,
                           "CREATE TABLE IF NOT EXISTS background (stage TEXT NOT NULL, minute_gps INTEGER "
                           "NOT NULL, slides_run INTEGER NOT NULL, hops INTEGER NOT NULL, slid_s REAL NOT "
                           "NULL, PRIMARY KEY (stage, minute_gps)) WITHOUT ROWID");
}

int gw_journal_put_background(gw_journal *j, const gw_event *table)
{
    gw_noise_rate r;
    GW_TRY(gw_noise_rate_read(&r, table->detail));
    if (!r.slides || !(fabs(table->pace - 1) < 1e-9))
        return GW_OK;
    GW_TRY(make_table(j));
    sqlite3_stmt *s;
    GW_TRY(gw_journal_prepare(j, "INSERT OR IGNORE INTO background VALUES (?, ?, ?, ?, ?)", &s));
    sqlite3_bind_text(s, 1, table->stream, -1, SQLITE_TRANSIENT);
    sqlite3_bind_int64(s, 2, r.until_ns / GW_SECOND_NS);
    sqlite3_bind_int64(s, 3, r.slides);
    sqlite3_bind_int64(s, 4, (int64_t)r.hops);
    sqlite3_bind_double(s, 5, r.slid_s[0]);
    const int rc = sqlite3_step(s);
    sqlite3_finalize(s);
    return rc == SQLITE_DONE ? GW_OK : gw_journal_fail(j, rc);
}
