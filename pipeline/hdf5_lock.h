/* SPDX-License-Identifier: GPL-3.0-or-later
 * One lock for the HDF5 library, which is not thread safe as distributions build it. Every HDF5 call of
 * the program, in whatever room, is made while holding it. Also turns the library's stack of errors into
 * one line. Reads and writes no file itself. */
#ifndef GW_HDF5_LOCK_H
#define GW_HDF5_LOCK_H

/* Not recursive. Also stops the library from printing the calling thread's errors on stderr. */
void gw_hdf5_lock(void);
void gw_hdf5_unlock(void);

/* Why the last HDF5 call failed: its innermost cause on one line ("No space left on device", "data error
 * detected by Fletcher32 checksum"). Hold the lock, and ask before any further HDF5 call. The text belongs
 * to the thread until it asks again. */
const char *gw_hdf5_reason(void);

#endif
