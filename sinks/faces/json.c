/* SPDX-License-Identifier: GPL-3.0-or-later
 * The writer of the faces' JSON. Knows no event and no field. */
#include "sinks/faces/json.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void gw_json_put(gw_json *t, const char *fmt, ...)
{
    if (t->full)
        return;
    va_list args;
    va_start(args, fmt);
    int n = vsnprintf(t->s + t->used, t->size - t->used, fmt, args);
    va_end(args);
    if (n < 0 || (size_t)n >= t->size - t->used)
        t->full = true;
    else
        t->used += (size_t)n;
}

void gw_json_string(gw_json *t, const char *s, size_t n)
{
    gw_json_put(t, "\"");
    for (size_t i = 0; i < n && s[i]; i++) {
        const unsigned char c = (unsigned char)s[i];
        if (c == '"' || c == '\\')
            gw_json_put(t, "\\%c", c);
        else if (c < 0x20 || c == 0x7f)
            gw_json_put(t, "\\u%04x", c);
        else if (c < 0x7f)
            gw_json_put(t, "%c", c);
        else if (c >= 0xc0) /* once for each character that is none of ours */
            gw_json_put(t, "\\ufffd");
    }
    gw_json_put(t, "\"");
}

void gw_json_number(gw_json *t, double v)
{
    char text[40];
    if (!isfinite(v)) {
        gw_json_put(t, "null");
        return;
    }
    for (int digits = 9; digits <= 17; digits += 4) { /* 9, 13, 17: 17 always does */
        snprintf(text, sizeof text, "%.*g", digits, v);
        if (strtod(text, NULL) == v)
            break;
    }
    gw_json_put(t, "%s", text);
}

void gw_json_list(gw_json *t, const char *commas, size_t n)
{
    n = strnlen(commas, n);
    const char *comma = "";
    gw_json_put(t, "[");
    for (size_t from = 0; from < n;) {
        const char *end = memchr(commas + from, ',', n - from);
        const size_t to = end ? (size_t)(end - commas) : n;
        if (to > from) {
            gw_json_put(t, "%s", comma);
            gw_json_string(t, commas + from, to - from);
            comma = ",";
        }
        from = to + 1;
    }
    gw_json_put(t, "]");
}
