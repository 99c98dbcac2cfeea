/* SPDX-License-Identifier: GPL-3.0-or-later
 * Space set aside for the journal, so that a full disk does not stop it at once. SQLite commits by appending to
 * its write-ahead log, and starts that again from its beginning when all in it has been copied to the database:
 * so the log gets its blocks before there is anything to write, and what is committed while the disk is full
 * goes into them. A database that cannot grow is copied to later; the log only becomes longer meanwhile. Called by
 * journal.c when it opens for writing. Where a file system gives new blocks to what is overwritten (btrfs, zfs)
 * this is of no use, and nothing is worse than without it. */
#include "pipeline/log.h"
#include "sinks/journal_db.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum {
    COPY_PAGES = 256, /* the log is copied when it is this long, 1 MiB; all beyond it is for bad days */
    FRAME_BYTES = 4096 + 24, /* a page and its header in the log */
};

int64_t gw_journal_room_bytes(const gw_journal *j)
{
    const int64_t used = 32 + (int64_t)j->log_pages * FRAME_BYTES;
    return used < GW_JOURNAL_ROOM_BYTES ? GW_JOURNAL_ROOM_BYTES - used : 0;
}

/* After each commit. Says when the disk begins to be full, and when that is over. */
static int after_commit(void *user, sqlite3 *db, const char *name, int pages)
{
    gw_journal *j = user;
    j->log_pages = pages;
    if (pages < COPY_PAGES)
        return SQLITE_OK;
    const int rc = sqlite3_wal_checkpoint_v2(db, name, SQLITE_CHECKPOINT_PASSIVE, NULL, NULL) & 0xff;
    const bool tight = rc == SQLITE_FULL || rc == SQLITE_IOERR;
    if (tight && !j->tight)
        gw_log(GW_LOG_ERROR, NULL,
               "journal %s: no space left on its disk; it goes on in the %.1f MiB that are left of what was "
               "set aside; "
               "free some",
               j->path, (double)gw_journal_room_bytes(j) / 1048576);
    if (j->tight && rc == SQLITE_OK)
        gw_log(GW_LOG_INFO, NULL, "journal %s: its disk has space again", j->path);
    if (tight || rc == SQLITE_OK)
        j->tight = tight;
    return SQLITE_OK; /* what was committed is committed */
}

int gw_journal_set_aside(gw_journal *j)
{
    char name[GW_JOURNAL_PATH_BYTES + 8];
    snprintf(name, sizeof name, "%s-wal", j->path);
    const int fd = open(name, O_RDWR | O_CLOEXEC);
    const int why = fd < 0 ? errno : posix_fallocate(fd, 0, GW_JOURNAL_ROOM_BYTES);
    if (fd >= 0)
        close(fd); /* SQLite locks other files than this one, so no lock goes with it */
    sqlite3_wal_hook(j->db, after_commit, j);
    if (why == ENOSPC || why == EDQUOT || why == EFBIG)
        return gw_fail(GW_EIO, "journal %s: %d MiB cannot be set aside for it (%s); free some on its disk",
                       j->path, GW_JOURNAL_ROOM_BYTES >> 20, strerror(why));
    if (why)
        gw_log(GW_LOG_WARN, NULL,
               "journal %s: no space can be set aside for it (%s); a full disk will stop it at once", j->path,
               strerror(why));
    return 0;
}
