/* SPDX-License-Identifier: GPL-3.0-or-later
 * An event as one line of JSON: what the journal keeps, the sockets publish and a person reads. Called by
 * the sinks. It allocates nothing. Everything that two runs over the same data must share comes first;
 * what depends on the wall clock is the last member, "wall", so that a comparison can leave it out. */
#include "pipeline/event.h"
#include "pipeline/block.h"

#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#ifndef GW_VERSION
#define GW_VERSION "0.1.0"
#endif

const char *gw_phase_text(gw_phase p)
{
    switch (p) {
    case GW_PHASE_FIRST:
        return "first";
    case GW_PHASE_UPDATE:
        return "update";
    case GW_PHASE_FINAL:
        return "final";
    case GW_PHASE_RETRACTED:
        return "retracted";
    case GW_PHASE_INJECTION:
        return "injection";
    case GW_PHASE_REACHED:
        return "reached";
    case GW_PHASE_BACKGROUND:
        return "background";
    case GW_PHASE_DOUBT:
        return "doubt";
    }
    return "unknown";
}

/* b - a in seconds, NAN where either is not known. Two int64 may be further apart than one can say. */
static double seconds_between(int64_t a, int64_t b)
{
    if (a == GW_NOT_KNOWN_NS || b == GW_NOT_KNOWN_NS)
        return NAN;
    int64_t ns;
    if (__builtin_sub_overflow(b, a, &ns))
        return NAN;
    return (double)ns / 1e9;
}

static bool at_pace_one(const gw_event *e)
{
    return fabs(e->pace - 1) < 1e-9;
}

double gw_event_latency_s(const gw_event *e, int64_t wall_ns)
{
    if (!at_pace_one(e))
        return NAN;
    return seconds_between(e->anchor_wall_ns, wall_ns) - seconds_between(e->anchor_data_ns, e->gps_ns);
}

/* ---- the writer: appends to a text of fixed size and remembers when it did not fit ---- */

typedef struct out {
    char *text;
    size_t size, used;
    bool full;
} out;

static void put(out *o, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void put(out *o, const char *fmt, ...)
{
    if (o->full)
        return;
    va_list args;
    va_start(args, fmt);
    int n = vsnprintf(o->text + o->used, o->size - o->used, fmt, args);
    va_end(args);
    if (n < 0 || (size_t)n >= o->size - o->used)
        o->full = true;
    else
        o->used += (size_t)n;
}

/* Length of the well-formed UTF-8 sequence at s (RFC 3629), 0 if there is none. A name cut to the size of
 * its field may end in half a character. */
static size_t utf8_length(const unsigned char *s, size_t n)
{
    if (s[0] < 0x80)
        return 1;
    size_t want = s[0] < 0xe0 ? 2 : s[0] < 0xf0 ? 3 : 4;
    if (s[0] < 0xc2 || s[0] > 0xf4 || n < want) /* a stray continuation, an overlong form, over U+10FFFF */
        return 0;
    for (size_t i = 1; i < want; i++)
        if ((s[i] & 0xc0) != 0x80)
            return 0;
    if ((s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xed && s[1] > 0x9f) || /* overlong; surrogate */
        (s[0] == 0xf0 && s[1] < 0x90) || (s[0] == 0xf4 && s[1] > 0x8f))   /* overlong; over U+10FFFF */
        return 0;
    return want;
}

static void put_string(out *o, const char *text, size_t n)
{
    put(o, "\"");
    for (size_t i = 0; i < n;) {
        const unsigned char *s = (const unsigned char *)text + i;
        size_t len = utf8_length(s, n - i);
        if (*s == '"' || *s == '\\')
            put(o, "\\%c", *s);
        else if (*s < 0x20 || *s == 0x7f)
            put(o, "\\u%04x", *s);
        else if (len)
            put(o, "%.*s", (int)len, (const char *)s);
        else
            put(o, "\\ufffd");
        i += len ? len : 1;
    }
    put(o, "\"");
}

/* A field of fixed size; the last byte need not be NUL. */
#define PUT_FIELD(o, name, field)                                                                            \
    do {                                                                                                     \
        put((o), "\"%s\":", (name));                                                                         \
        put_string((o), (field), strnlen((field), sizeof(field)));                                           \
    } while (0)

/* JSON has no NaN and no infinity. */
static void put_number(out *o, const char *name, double v)
{
    put(o, isfinite(v) ? "\"%s\":%.9g" : "\"%s\":null", name, v);
}

static void put_seconds(out *o, const char *name, double v)
{
    put(o, isfinite(v) ? "\"%s\":%.6f" : "\"%s\":null", name, v);
}

static void put_gps(out *o, int64_t ns)
{
    uint64_t size = ns < 0 ? 0 - (uint64_t)ns : (uint64_t)ns;
    put(o, "\"gps\":%s%" PRIu64 ".%09" PRIu64, ns < 0 ? "-" : "", size / (uint64_t)GW_SECOND_NS,
        size % (uint64_t)GW_SECOND_NS);
}

static void put_detectors(out *o, const gw_event *e)
{
    size_t n = strnlen(e->detectors, sizeof e->detectors);
    const char *comma = "";
    put(o, ",\"detectors\":[");
    for (size_t from = 0; from < n;) {
        const char *end = memchr(e->detectors + from, ',', n - from);
        size_t to = end ? (size_t)(end - e->detectors) : n;
        if (to > from) {
            put(o, "%s", comma);
            put_string(o, e->detectors + from, to - from);
            comma = ",";
        }
        from = to + 1;
    }
    put(o, "]");
}

static void put_quality(out *o, uint64_t dq)
{
    static const struct {
        uint64_t bit;
        const char *name; /* GWOSC's short names */
    } known[] = {{GW_DQ_DATA, "DATA"},
                 {GW_DQ_CBC_CAT1, "CBC_CAT1"},
                 {GW_DQ_CBC_CAT2, "CBC_CAT2"},
                 {GW_DQ_CBC_CAT3, "CBC_CAT3"},
                 {GW_DQ_BURST_CAT1, "BURST_CAT1"},
                 {GW_DQ_BURST_CAT2, "BURST_CAT2"},
                 {GW_DQ_BURST_CAT3, "BURST_CAT3"},
                 {GW_DQ_NO_CBC_HW_INJ, "NO_CBC_HW_INJ"},
                 {GW_DQ_NO_BURST_HW_INJ, "NO_BURST_HW_INJ"},
                 {GW_DQ_NO_DETCHAR_HW_INJ, "NO_DETCHAR_HW_INJ"},
                 {GW_DQ_NO_CW_HW_INJ, "NO_CW_HW_INJ"},
                 {GW_DQ_NO_STOCH_HW_INJ, "NO_STOCH_HW_INJ"}};
    const char *comma = "";
    put(o, ",\"data_quality\":{\"bits\":%" PRIu64 ",\"passes\":[", dq);
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (dq & known[i].bit) {
            put(o, "%s\"%s\"", comma, known[i].name);
            comma = ",";
        }
    put(o, "]}");
}

static void put_wall(out *o, const gw_event *e, int64_t published_ns)
{
    char utc[32];
    put(o, ",\"wall\":{\"published\":");
    if (published_ns == GW_NOT_KNOWN_NS)
        put(o, "null");
    else
        put(o, "\"%s\"", gw_gps_utc(published_ns, utc, sizeof utc));

    bool real = at_pace_one(e); /* else there is no such thing as a latency */
    put(o, ",\"latency\":{");
    put_seconds(o, "merger_to_data_s", real ? seconds_between(e->gps_ns, e->due_ns) : NAN);
    put(o, ",");
    put_seconds(o, "merger_to_decision_s",
                e->decided_ns == GW_NOT_KNOWN_NS ? NAN : gw_event_latency_s(e, e->decided_ns));
    put(o, ",");
    put_seconds(o, "merger_to_publication_s", gw_event_latency_s(e, published_ns));
    put(o, ",");
    put_seconds(o, "ingest_to_decision_s", real ? seconds_between(e->ingest_ns, e->decided_ns) : NAN);
    put(o, ",");
    put_seconds(o, "ingest_to_publication_s", real ? seconds_between(e->ingest_ns, published_ns) : NAN);
    put(o, "}}");
}

/* Who wrote this object knew JSON; one that was cut off would spoil the whole line. Its length, or 0. */
static size_t detail_length(const gw_event *e)
{
    const size_t n = strnlen(e->detail, sizeof e->detail);
    return n >= 2 && n < sizeof e->detail && e->detail[0] == '{' && e->detail[n - 1] == '}' ? n : 0;
}

static void put_detection(out *o, const gw_event *e, int64_t published_ns)
{
    char utc[32];
    put(o, "{\"type\":\"event\",");
    PUT_FIELD(o, "id", e->id);
    put(o, ",\"phase\":\"%s\",", gw_phase_text(e->phase));
    put_gps(o, e->gps_ns);
    put(o, ",\"utc\":\"%s\",", gw_gps_utc(e->gps_ns, utc, sizeof utc));
    put_number(o, "gps_error_s", e->gps_error_s);
    put_detectors(o, e);
    put(o, ",");
    put_number(o, "statistic", e->statistic);
    put(o, ",");
    put_number(o, "noise_rate_hz", e->noise_rate_hz);
    put(o, ",");
    put_number(o, "background_s", e->background_s);
    put(o, ",\"alert\":%s,\"injection\":%s", e->alert ? "true" : "false", e->injection ? "true" : "false");
    put_quality(o, e->dq);
    put(o, ",\"model\":{");
    PUT_FIELD(o, "name", e->model);
    put(o, ",");
    PUT_FIELD(o, "sha256", e->model_hash);
    put(o, ",");
    PUT_FIELD(o, "card", e->card_hash);
    put(o, "},");
    PUT_FIELD(o, "stream", e->stream);
    const size_t n = detail_length(e);
    if (n > 2)
        put(o, ",%.*s", (int)n - 2, e->detail + 1);
    put(o, ",");
    PUT_FIELD(o, "software", GW_VERSION);
    put_wall(o, e, published_ns);
    put(o, "}");
}

static void put_injection(out *o, const gw_event *e)
{
    put(o, "{\"type\":\"injection\",");
    put_gps(o, e->gps_ns);
    put_detectors(o, e);
    const size_t n = detail_length(e);
    put(o, ",\"parameters\":%.*s}", n ? (int)n : 4, n ? e->detail : "null");
}

int gw_event_json(const gw_event *e, int64_t published_ns, char *text, size_t n)
{
    out o = {.text = text, .size = n, .full = n == 0};
    if (e->phase == GW_PHASE_INJECTION)
        put_injection(&o, e);
    else
        put_detection(&o, e, published_ns);
    if (o.full)
        return gw_fail(GW_ERANGE, "event %.*s: its JSON is longer than %zu bytes", (int)sizeof e->id, e->id,
                       n);
    return (int)o.used;
}
