/* SPDX-License-Identifier: GPL-3.0-or-later
 * The file of a recording: made, handed to the system, closed, whatever the disk says. Called by hdf5_out.c,
 * which knows what is in it.
 *
 * A killed recording must open in any reader, without repair. In the GWpy layout the file keeps the library's
 * oldest format, which has no "being written" mark, and the metadata cache is large enough that structure
 * goes to disk in a flush and not between two. A wide file is in SWMR mode, whose writes are ordered, and
 * its mark never reaches the disk (swmr_mark.c). Neither is locked: a lock would only keep readers out. */
#include "pipeline/hdf5_lock.h"
#include "sinks/hdf5_layout.h"
#include "sinks/swmr_mark.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { METADATA_BYTES = 16 << 20, ALIGN_FROM = 64 << 10, ALIGN_TO = 4096 };

int gw_hdf5_out_check(const char *path, bool overwrite)
{
    struct stat s;
    if (stat(path, &s) == 0) {
        if (S_ISDIR(s.st_mode))
            return gw_fail(GW_EACCESS, "%s: is a directory; name a file to record to", path);
        if (!overwrite)
            return gw_fail(GW_EBUSY, "%s: exists; choose another path or set overwrite: true", path);
        if (!S_ISREG(s.st_mode))
            return gw_fail(GW_EACCESS, "%s: is not a regular file", path);
        return access(path, W_OK) == 0 ? GW_OK : gw_fail(GW_EACCESS, "%s: %s", path, strerror(errno));
    }
    if (errno != ENOENT)
        return gw_fail(GW_EACCESS, "%s: %s", path, strerror(errno));
    const char *slash = strrchr(path, '/');
    char *folder = slash ? strndup(path, (size_t)(slash - path) + 1) : strdup(".");
    if (!folder)
        return gw_fail(GW_ENOMEM, "%s", path);
    int bad = stat(folder, &s) < 0 || access(folder, W_OK | X_OK) < 0 ? errno : 0;
    free(folder);
    if (bad == ENOENT)
        return gw_fail(GW_EMISSING, "%s: its folder does not exist", path);
    return bad ? gw_fail(GW_EACCESS, "%s: its folder is not writable: %s", path, strerror(bad)) : GW_OK;
}

hid_t gw_out_file_create(const gw_hdf5_out *o)
{
    const bool wide = o->c.layout == GW_LAYOUT_WIDE;
    hid_t list = H5Pcreate(H5P_FILE_ACCESS), file = -1;
    H5AC_cache_config_t cache = {.version = H5AC__CURR_CACHE_CONFIG_VERSION};
    if (list >= 0 && H5Pget_mdc_config(list, &cache) >= 0) {
        cache.set_initial_size = true;
        cache.initial_size = cache.min_size = METADATA_BYTES;
        H5Pset_mdc_config(list, &cache);
    }
    if (list >= 0 && H5Pset_file_locking(list, false, true) >= 0 &&
        (!wide ||
         (gw_swmr_driver(list) == 0 && H5Pset_libver_bounds(list, H5F_LIBVER_V110, H5F_LIBVER_V110) >= 0 &&
          H5Pset_alignment(list, ALIGN_FROM, ALIGN_TO) >= 0)))
        file = H5Fcreate(o->path, o->c.overwrite ? H5F_ACC_TRUNC : H5F_ACC_EXCL, H5P_DEFAULT, list);
    if (list >= 0)
        H5Pclose(list);
    return file;
}

/* The file's descriptor; -1 if it has none. */
static int descriptor(const gw_hdf5_out *o)
{
    int *fd;
    return H5Fget_vfd_handle(o->file, H5P_DEFAULT, (void **)&fd) < 0 ? -1 : *fd;
}

/* Room on the disk for all that a flush may write (chunks get their place only then): one that fails half way
 * may leave a file that does not open. What is too much goes when the file is closed. */
static int make_room(gw_hdf5_out *o, int fd)
{
    struct stat st;
    hsize_t end;
    if (H5Fget_filesize(o->file, &end) < 0 || fstat(fd, &st) < 0 ||
        (hsize_t)st.st_size >= end + o->pending_bytes ||
        fallocate(fd, 0, st.st_size, (off_t)(end + o->pending_bytes) - st.st_size) == 0 ||
        errno == EOPNOTSUPP)
        return GW_OK;
    o->broken = true;
    return gw_fail(GW_EIO, "%s: cannot write the file: %s", o->path, strerror(errno));
}

int gw_out_file_hand_over(gw_hdf5_out *o)
{
    const int fd = descriptor(o);
    GW_TRY(make_room(o, fd));
    if (H5Fflush(o->file, H5F_SCOPE_LOCAL) < 0)
        return gw_out_fail(o, "the file");
    if (o->c.sync && fdatasync(fd) < 0) {
        o->broken = true;
        return gw_fail(GW_EIO, "%s: cannot write the file: %s", o->path, strerror(errno));
    }
    return GW_OK;
}

/* After a failed write the library cannot close the file: it tries to write once more, fails, and leaves a
 * handle to freed memory. So a file in memory takes the place of the one on the full disk, which keeps what
 * was last flushed, and the library may close that. Under a limit on file sizes even this is not allowed. */
bool gw_out_file_bury(const gw_hdf5_out *o)
{
    struct stat st;
    const int fd = descriptor(o), grave = memfd_create("gwstream", MFD_CLOEXEC);
    bool done = fd >= 0 && grave >= 0 && fstat(fd, &st) == 0 &&
                pwrite(grave, "", 1, st.st_size + (64 << 20)) == 1 && dup2(grave, fd) == fd;
    if (grave >= 0)
        close(grave);
    return done;
}

/* The library does not know of the room that was made, and leaves it to us. */
int gw_out_file_close(gw_hdf5_out *o)
{
    struct stat st;
    hsize_t end = 0;
    const int fd = o->broken ? -1 : dup(descriptor(o));
    if (fd >= 0 && H5Fget_filesize(o->file, &end) < 0)
        end = INT64_MAX;
    int err = H5Fclose(o->file) < 0 && !o->broken ? gw_out_fail(o, "the file") : GW_OK;
    if (fd >= 0 && err == GW_OK && fstat(fd, &st) == 0 && (hsize_t)st.st_size > end &&
        ftruncate(fd, (off_t)end) < 0)
        err = gw_fail(GW_EIO, "%s: cannot write the file: %s", o->path, strerror(errno));
    if (fd >= 0)
        close(fd);
    return err;
}
