/* SPDX-License-Identifier: GPL-3.0-or-later
 * The members of a detection's detail (detail.h). Names of detectors and cleanings are made plain, so nothing
 * in them can end a text. */
#include "pipeline/stages/detail.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* Before the brace that ends the object; all or nothing. */
static void add(gw_detail to, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void add(gw_detail to, const char *fmt, ...)
{
    const size_t end = strlen(to) - 1, room = sizeof(gw_detail) - 1 - end;
    va_list args;
    va_start(args, fmt);
    const int n = vsnprintf(to + end, room, fmt, args);
    va_end(args);
    memcpy(to + (n >= 0 && (size_t)n < room ? end + (size_t)n : end), "}", 2);
}

/* At most n characters of a text as it may stand in JSON. */
static const char *plain(char *to, size_t size, const char *text, size_t n)
{
    snprintf(to, size, "%.*s", (int)n, text);
    for (char *c = to; *c; c++)
        if (*c == '"' || *c == '\\' || *c < 0x20 || *c > 0x7e)
            *c = '?';
    return to;
}

void gw_detail_begin(gw_detail to, double candidate, double alert, const gw_spec *in, int n_in)
{
    char detector[sizeof in->detector + 1], cleaning[sizeof in->cleaning + 1];
    char text[GW_MODEL_DETECTORS * (sizeof detector + sizeof cleaning + 8)] = "";
    size_t used = 0;
    for (int i = 0; i < n_in && i < GW_MODEL_DETECTORS; i++)
        if (in[i].cleaning[0])
            used += (size_t)snprintf(text + used, sizeof text - used, "%s\"%s\":\"%s\"", used ? "," : "",
                                     plain(detector, sizeof detector, in[i].detector, sizeof in->detector),
                                     plain(cleaning, sizeof cleaning, in[i].cleaning, sizeof in->cleaning));
    snprintf(to, sizeof(gw_detail), "{\"thresholds\":{\"candidate\":%.9g,\"alert\":%.9g}}", candidate, alert);
    if (used)
        add(to, ",\"cleaning\":{%s}", text);
}

void gw_detail_add_arrivals(gw_detail to, const gw_model *m, const gw_verdict *v)
{
    char text[GW_MODEL_DETECTORS][96];
    for (int c = 0; c < GW_MODEL_DETECTORS; c++) {
        const int64_t us = (v->arrival_ns[c] + 500) / 1000;
        if (v->arrival_ns[c] == GW_NOT_KNOWN_NS || us < 0)
            return;
        snprintf(text[c], sizeof text[c], "\"%s\":{\"gps\":\"%" PRId64 ".%06" PRId64 "\",\"sigma_s\":%.6f}",
                 m->detector[c], us / 1000000, us % 1000000, v->arrival_error_s[c]);
    }
    add(to, ",\"arrivals\":{%s,%s}", text[0], text[1]);
}

void gw_detail_add_networks(gw_detail to, const gw_model *m, const uint64_t networks[GW_MODEL_DETECTORS])
{
    char text[GW_MODEL_DETECTORS * 40] = "";
    size_t used = 0;
    for (int c = 0; c < GW_MODEL_DETECTORS; c++)
        if (networks[c])
            used += (size_t)snprintf(text + used, sizeof text - used, "%s\"%s\":\"%016" PRIx64 "\"",
                                     used ? "," : "", m->detector[c], networks[c]);
    if (used)
        add(to, ",\"networks\":{%s}", text);
}

typedef char reason[96];

/* To a tenth of a second: filters on the way to the search widen a hole by some hundredths. */
static const char *say_reason(reason text, const char *detector, uint64_t lost, int64_t bad_ns)
{
    const int64_t tenths = (bad_ns + GW_SECOND_NS / 20) / (GW_SECOND_NS / 10);
    snprintf(text, sizeof(reason), "data quality: %s of %.16s not good from about GPS %" PRId64 ".%" PRId64,
             lost == GW_DQ_DATA       ? "DATA"
             : lost == GW_DQ_CBC_CAT1 ? "CBC_CAT1"
                                      : "DATA, CBC_CAT1",
             detector, tenths / 10, tenths % 10);
    return text;
}

void gw_detail_add_reason(gw_detail to, const char *detector, uint64_t lost, int64_t bad_ns, int64_t event_ns)
{
    reason text;
    add(to, ",\"reason\":\"%s, %.1f s after the event\"", say_reason(text, detector, lost, bad_ns),
        (double)(bad_ns - event_ns) / 1e9);
}

void gw_detail_doubt(gw_detail to, const char *detector, uint64_t lost, int64_t bad_ns, int64_t from_ns,
                     int64_t to_ns)
{
    reason text;
    snprintf(to, sizeof(gw_detail),
             "{\"from_ns\":%" PRId64 ",\"to_ns\":%" PRId64 ",\"bad_ns\":%" PRId64 ",\"reason\":\"%s\"}",
             from_ns, to_ns, bad_ns, say_reason(text, detector, lost, bad_ns));
}
