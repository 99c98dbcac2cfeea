/* SPDX-License-Identifier: GPL-3.0-or-later
 * ration.h. Slides cost about the same each, so the time that a minute took says how many fit. */
#include "pipeline/stages/ration.h"

#include "pipeline/clock.h"

#include <inttypes.h>
#include <math.h>
#include <sqlite3.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- deciding ---- */

static const double much = 0.9, enough = 0.6, wanted = 0.75; /* of the time there is */
static const int64_t late_hops = 3;

void gw_ration_hop(gw_ration *r, int64_t busy_ns, int64_t late_ns)
{
    r->busy_ns += busy_ns;
    r->hops++;
    if (late_ns > r->late_ns)
        r->late_ns = late_ns;
}

uint32_t gw_ration_next(gw_ration *r)
{
    const double busy = r->hops ? (double)r->busy_ns / ((double)r->hops * (double)r->hop_ns) : 0;
    const bool behind = r->lost || r->late_ns > late_hops * r->hop_ns || busy > much;
    double next = r->runs;
    if (behind)
        next *= fmin(much, busy > 0 ? wanted / busy : 0.5);
    else if (r->runs < r->all && r->hops && busy < enough)
        next *= fmin(2, wanted / busy);
    if (next < r->all)
        next = floor(next / r->together) * r->together;
    next = fmin(fmax(next, fmin(r->together, r->all)), r->all);
    r->busy_ns = r->late_ns = 0;
    r->hops = 0;
    r->lost = false;
    return r->runs = (uint32_t)next;
}

/* ---- what was decided ---- */

typedef struct row {
    int64_t minute;
    uint32_t slides;
    uint64_t hops; /* of the minute before */
} row;

struct gw_skipped {
    size_t n, max;
    row *row; /* in order of time */
};

static int take_row(gw_skipped *s, sqlite3_stmt *q, const char *journal)
{
    if (s->n == s->max) {
        const size_t max = s->max ? 2 * s->max : 1024;
        row *more = realloc(s->row, max * sizeof *more);
        if (!more)
            return gw_fail(GW_ENOMEM, "%s: %zu minutes of a background", journal, max);
        s->row = more;
        s->max = max;
    }
    const int64_t gps = sqlite3_column_int64(q, 0), slides = sqlite3_column_int64(q, 1);
    if (gps % GW_RATION_MINUTE || slides < 1 || slides > 1000000)
        return gw_fail(GW_EFORMAT, "%s: %" PRId64 " slides at GPS %" PRId64 " make no sense", journal, slides,
                       gps);
    s->row[s->n++] = (row){.minute = gps / GW_RATION_MINUTE,
                           .slides = (uint32_t)slides,
                           .hops = (uint64_t)sqlite3_column_int64(q, 2)};
    return GW_OK;
}

static int read_rows(gw_skipped *s, sqlite3 *db, const char *journal, const char *stage)
{
    static const char sql[] =
        "SELECT minute_gps, slides_run, hops FROM background WHERE stage = ? ORDER BY minute_gps";
    sqlite3_stmt *q = NULL;
    int err = GW_OK, rc = sqlite3_prepare_v2(db, sql, -1, &q, NULL);
    if (rc == SQLITE_OK)
        rc = sqlite3_bind_text(q, 1, stage, -1, SQLITE_TRANSIENT);
    while (rc == SQLITE_OK || rc == SQLITE_ROW) {
        rc = sqlite3_step(q);
        if (rc != SQLITE_ROW)
            break;
        err = take_row(s, q, journal);
        if (err < 0)
            break;
    }
    if (err == GW_OK && rc != SQLITE_DONE)
        err = gw_fail(GW_EFORMAT, "skipped: %s: %s", journal, sqlite3_errmsg(db));
    sqlite3_finalize(q);
    if (err == GW_OK && !s->n)
        err = gw_fail(GW_EMISSING, "skipped: %s says nothing of a background '%s'", journal, stage);
    return err;
}

int gw_skipped_read(gw_skipped **out, const char *journal, const char *stage)
{
    *out = NULL;
    if (access(journal, R_OK) != 0)
        return gw_fail(GW_EMISSING, "skipped: %s: no such journal", journal);
    gw_skipped *s = calloc(1, sizeof *s);
    sqlite3 *db = NULL;
    int err = s ? GW_OK : gw_fail(GW_ENOMEM, "skipped: %s", journal);
    if (err == GW_OK && sqlite3_open_v2(journal, &db, SQLITE_OPEN_READONLY, NULL) != SQLITE_OK)
        err = gw_fail(GW_EFORMAT, "skipped: %s: %s", journal, db ? sqlite3_errmsg(db) : "no memory");
    if (err == GW_OK)
        sqlite3_busy_timeout(db, 5000);
    if (err == GW_OK)
        err = read_rows(s, db, journal, stage);
    sqlite3_close(db);
    if (err == GW_OK)
        *out = s;
    else
        gw_skipped_free(&s);
    return err;
}

void gw_skipped_free(gw_skipped **s)
{
    if (!*s)
        return;
    free((*s)->row);
    free(*s);
    *s = NULL;
}

static const row *find(const gw_skipped *s, int64_t minute)
{
    size_t low = 0, high = s->n;
    while (low < high) {
        const size_t mid = (low + high) / 2;
        if (s->row[mid].minute < minute)
            low = mid + 1;
        else
            high = mid;
    }
    return low < s->n && s->row[low].minute == minute ? &s->row[low] : NULL;
}

bool gw_skipped_slides(const gw_skipped *s, int64_t minute, uint32_t *slides)
{
    const row *r = find(s, minute);
    if (r)
        *slides = r->slides;
    return r != NULL;
}

bool gw_skipped_ended(const gw_skipped *s, int64_t minute)
{
    return minute > s->row[s->n - 1].minute;
}

bool gw_skipped_slid(const gw_skipped *s, int64_t hop)
{
    const int64_t end = hop / GW_RATION_MINUTE + 1; /* it is told there */
    const row *r = find(s, end);
    return r ? r->hops >> hop % GW_RATION_MINUTE & 1 : gw_skipped_ended(s, end);
}
