/* SPDX-License-Identifier: GPL-3.0-or-later
 * The error list's names and texts, and the thread's one line of detail. */
#include "pipeline/error.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static _Thread_local char detail[1024];

const char *gw_err_name(int err)
{
    switch (err) {
#define X(code, value, text)                                                                                 \
    case value:                                                                                              \
        return #code;
        GW_ERRORS(X)
#undef X
    default:
        return "GW_UNKNOWN";
    }
}

const char *gw_err_text(int err)
{
    switch (err) {
#define X(code, value, text)                                                                                 \
    case value:                                                                                              \
        return text;
        GW_ERRORS(X)
#undef X
    default:
        return "unknown error";
    }
}

bool gw_err_is_input(int err)
{
    switch (err) {
    case GW_EUSAGE:
    case GW_ECONFIG:
    case GW_EFORMAT:
    case GW_EMISSING:
    case GW_EMISMATCH:
    case GW_EBUSY:
    case GW_EACCESS:
    case GW_ERANGE:
    case GW_ENOTSUP:
        return true;
    default:
        return false;
    }
}

const char *gw_err_detail(void)
{
    return detail;
}

void gw_err_clear(void)
{
    detail[0] = '\0';
}

int gw_fail(int err, const char *fmt, ...)
{
    char text[sizeof detail]; /* an argument may point into `detail` itself */
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    memcpy(detail, text, sizeof detail);
    return err;
}

int gw_fail_at(int err, const char *fmt, ...)
{
    char where[sizeof detail];
    va_list args;
    va_start(args, fmt);
    int n = vsnprintf(where, sizeof where, fmt, args);
    va_end(args);
    if (n < 0)
        return err;
    size_t used = strlen(where);
    snprintf(where + used, sizeof where - used, "%s%s", detail[0] ? ": " : "", detail);
    memcpy(detail, where, sizeof detail);
    return err;
}
