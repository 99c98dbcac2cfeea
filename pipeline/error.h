/* SPDX-License-Identifier: GPL-3.0-or-later
 * Failure, in one list. Every gw_ function that can fail returns 0 (GW_OK) or one of these negative
 * codes. Beside the code a thread keeps one line of detail: what failed, where, with which values.
 * Nothing here logs, exits or allocates. */
#ifndef GW_ERROR_H
#define GW_ERROR_H

#include <stdbool.h>

/* code, value, text. The GW_E*INPUT family (see gw_err_is_input) ends the program with status 2:
 * the user can mend it; all others end it with status 1. */
#define GW_ERRORS(X)                                                                                         \
    X(GW_OK, 0, "done")                                                                                      \
    X(GW_EUSAGE, -1, "bad usage")                                                                            \
    X(GW_ECONFIG, -2, "bad configuration")                                                                   \
    X(GW_EFORMAT, -3, "not in the expected format")                                                          \
    X(GW_EMISSING, -4, "not found")                                                                          \
    X(GW_EMISMATCH, -5, "two parts do not fit each other")                                                   \
    X(GW_EBUSY, -6, "in use by somebody else")                                                               \
    X(GW_EACCESS, -7, "not permitted")                                                                       \
    X(GW_EIO, -8, "input or output failed")                                                                  \
    X(GW_ENOMEM, -9, "out of memory")                                                                        \
    X(GW_ERANGE, -10, "out of range")                                                                        \
    X(GW_ENOTSUP, -11, "not supported")                                                                      \
    X(GW_EPEER, -12, "the other end is gone")                                                                \
    X(GW_ECANCELED, -13, "stopped on request")                                                               \
    X(GW_EEND, -14, "end of stream")                                                                         \
    X(GW_EAGAIN, -15, "not now, try again")                                                                  \
    X(GW_ESYSTEM, -16, "the system refused")                                                                 \
    X(GW_EBUG, -17, "internal error")

typedef enum gw_err {
#define X(code, value, text) code = (value),
    GW_ERRORS(X)
#undef X
} gw_err;

const char *gw_err_name(int err); /* "GW_EFORMAT" */
const char *gw_err_text(int err); /* "not in the expected format" */

/* True for what the user can mend: usage, configuration, files, models, ports (exit status 2). */
bool gw_err_is_input(int err);

/* The detail of the last failure in this thread; "" if none. Valid until the next gw_fail here. */
const char *gw_err_detail(void);
void gw_err_clear(void);

/* Sets this thread's detail and returns `err`, so that a failing function ends with
 * `return gw_fail(GW_EFORMAT, "%s: no dataset strain/Strain", path);` */
int gw_fail(int err, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Puts "fmt: " before the existing detail and returns `err` (adds where, on the way up). */
int gw_fail_at(int err, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Returns from the calling function on failure. */
#define GW_TRY(expr)                                                                                         \
    do {                                                                                                     \
        int gw_try_err_ = (expr);                                                                            \
        if (gw_try_err_ < 0)                                                                                 \
            return gw_try_err_;                                                                              \
    } while (0)

#endif
