/* SPDX-License-Identifier: GPL-3.0-or-later
 * What all checkpoints share: their keys, the file's name and age, the thread that writes it, and how a file
 * is replaced. Used by psd_file.c and background.c, which know what is in their files. Keys, the same in all
 * stages:
 *
 *   checkpoint: FILE          the stage's name goes before the extension: psd.hdf5 -> psd-white.H1.hdf5
 *   checkpoint_age: 1h        a file older than this, by GPS time, or later than the data, is not used
 *   checkpoint_replay: false  archived data (GW_FLAG_REPLAY) neither read nor write one unless this is true
 *
 * A file is replaced as a whole (temporary beside it, fsync, rename): whoever is killed leaves the old one or
 * the new one. One buffer, the owner's, goes to and fro between the stage, which fills it, and the thread,
 * which writes it: so neither step nor the disk waits for the other, and a disk that is too slow costs
 * nothing but the age of the file. */
#ifndef GW_CHECKPOINT_H
#define GW_CHECKPOINT_H

#include "pipeline/block.h"
#include "pipeline/config.h"

typedef struct gw_checkpoint_keys {
    char path[1024]; /* "" = no checkpoint */
    int64_t age_ns;
    bool replay;
} gw_checkpoint_keys;

/* Reads the three keys; `age_ns` is the default of the second. In configure. */
int gw_checkpoint_keys_read(gw_checkpoint_keys *k, gw_conf *conf, int64_t age_ns);

typedef struct gw_checkpoint gw_checkpoint;
/* Writes a whole new file at `path`. In the thread; the buffer is its until it returns. */
typedef int gw_checkpoint_write(void *user, const char *path);

/* In open: names the file after the stage `name`, makes sure of the folder, starts the thread. GW_ENOMEM,
 * GW_ESYSTEM; GW_EMISSING, GW_EACCESS where the folder could not take a file. */
int gw_checkpoint_new(gw_checkpoint **c, const gw_checkpoint_keys *k, const char *name,
                      gw_checkpoint_write *write, void *user);
/* Waits for the write under way. */
void gw_checkpoint_destroy(gw_checkpoint **c);

const char *gw_checkpoint_path(const gw_checkpoint *c);
/* Whether there is a file; says so in one line where there is none. */
bool gw_checkpoint_exists(const gw_checkpoint *c);
/* Once, with the first good samples (`flags`: of their block): settles whether this run writes, and says
 * whether what was read of data before file_ns (`found`: it was) is young enough to go on from. Where it is
 * not, one line says why. */
bool gw_checkpoint_warm(gw_checkpoint *c, bool found, int64_t file_ns, int64_t now_ns, uint32_t flags);

/* Opens the buffer for filling. False: the last file is still being written, or this run writes none; nothing
 * may be filled then. Filling may take many steps. */
bool gw_checkpoint_begin(gw_checkpoint *c);
/* The buffer is filled. Returns at once: the thread writes it. A file that cannot be written is said once,
 * and once more when it can be again. */
void gw_checkpoint_save(gw_checkpoint *c);
/* At the end of a run, before _begin and _save for the last time: waits until the thread is idle. */
void gw_checkpoint_wait(gw_checkpoint *c);

/* Replaces the file at `path` by what `write` makes beside it. GW_EIO, or what `write` returns; then the old
 * file is as it was. */
int gw_checkpoint_replace(const char *path, gw_checkpoint_write *write, void *user);

#endif
