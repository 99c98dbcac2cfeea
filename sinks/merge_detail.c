/* SPDX-License-Identifier: GPL-3.0-or-later
 * merge_detail.h. Details are texts that stages wrote, so they are taken apart by a scanner of JSON's outermost
 * members and put together again; nothing inside them is looked at but the names of the detectors. */
#include "sinks/merge_detail.h"

#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { ARRIVALS_BYTES = 700 };

/* ---- writing ---- */

typedef struct out {
    char *text;
    size_t size, used;
} out;

/* Appends, and says whether it fitted; what did not fit leaves no trace. */
static bool add(out *o, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static bool add(out *o, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    const int n = vsnprintf(o->text + o->used, o->size - o->used, fmt, args);
    va_end(args);
    const bool fits = n >= 0 && (size_t)n < o->size - o->used;
    if (fits)
        o->used += (size_t)n;
    else
        o->text[o->used] = '\0';
    return fits;
}

/* A name as it may stand in JSON. */
static const char *plain(const char *name, size_t n, char text[64])
{
    size_t i = 0;
    for (; i < n && i < 63 && name[i]; i++)
        text[i] = name[i] == '"' || name[i] == '\\' || name[i] < 0x20 || name[i] > 0x7e ? '?' : name[i];
    text[i] = '\0';
    return text;
}

/* ---- reading ---- */

typedef struct span {
    const char *at, *end;
} span;

typedef struct member {
    span name, value; /* the name with its quotes */
} member;

static size_t length(span s)
{
    return (size_t)(s.end - s.at);
}

static bool same(span a, span b)
{
    return length(a) == length(b) && memcmp(a.at, b.at, length(a)) == 0;
}

/* What is between the braces; empty where there is no object. */
static span inside(const char *text, size_t n)
{
    const bool object = n >= 2 && text[0] == '{' && text[n - 1] == '}';
    return object ? (span){text + 1, text + n - 1} : (span){text, text};
}

static span members_of(const gw_event *e)
{
    return inside(e->detail, strnlen(e->detail, sizeof e->detail));
}

/* Behind the string that begins at `at`. NULL: it has no end, or is none. */
static const char *string_end(const char *at, const char *end)
{
    if (at >= end || *at != '"')
        return NULL;
    for (at++; at < end; at++) {
        if (*at == '\\')
            at++;
        else if (*at == '"')
            return at + 1;
    }
    return NULL;
}

/* Behind the value that begins at `at`. NULL: a string or a bracket in it has no end. */
static const char *value_end(const char *at, const char *end)
{
    int depth = 0;
    while (at < end && (depth || *at != ',')) {
        if (*at == '"') {
            at = string_end(at, end);
            if (!at)
                return NULL;
            continue;
        }
        depth += (*at == '{' || *at == '[') - (*at == '}' || *at == ']');
        if (depth < 0)
            return NULL;
        at++;
    }
    return depth ? NULL : at;
}

/* Takes the next member off the front of *rest. */
static bool take_member(span *rest, member *m)
{
    while (rest->at < rest->end && (*rest->at == ' ' || *rest->at == ','))
        rest->at++;
    const char *name = rest->at, *colon = string_end(name, rest->end);
    if (!colon || colon + 1 >= rest->end || *colon != ':')
        return false;
    const char *end = value_end(colon + 1, rest->end);
    if (!end || end == colon + 1)
        return false;
    *m = (member){{name, colon}, {colon + 1, end}};
    rest->at = end;
    return true;
}

static bool find_member(span in, span name, member *m)
{
    while (take_member(&in, m))
        if (same(m->name, name))
            return true;
    return false;
}

static span literal(const char *text)
{
    return (span){text, text + strlen(text)};
}

static span arrivals_of(const gw_event *e)
{
    member m;
    if (!find_member(members_of(e), literal("\"arrivals\""), &m))
        return (span){NULL, NULL};
    return inside(m.value.at, length(m.value));
}

/* ---- detectors ---- */

void gw_merge_detectors(const gw_event *const *word, int n_words, char text[sizeof((gw_event *)0)->detectors])
{
    enum { MOST = 16, BYTES = 8, SIZE = sizeof((gw_event *)0)->detectors };
    char name[MOST][BYTES];
    int n = 0;
    for (int w = 0; w < n_words; w++) {
        char own[SIZE], *rest = own;
        snprintf(own, sizeof own, "%.*s", SIZE - 1, word[w] ? word[w]->detectors : "");
        for (char *d; (d = strsep(&rest, ","));) {
            int i = 0;
            while (i < n && strncmp(name[i], d, BYTES - 1) < 0)
                i++;
            if (!*d || n == MOST || (i < n && strncmp(name[i], d, BYTES - 1) == 0))
                continue;
            memmove(name[i + 1], name[i], (size_t)(n++ - i) * BYTES);
            snprintf(name[i], BYTES, "%s", d);
        }
    }
    out o = {text, SIZE, 0};
    text[0] = '\0';
    for (int i = 0; i < n; i++)
        add(&o, "%s%s", i ? "," : "", name[i]);
}

/* ---- detail ---- */

/* All that `top` says of arrivals, and of other detectors what the others say. */
static void add_arrivals(out *o, const gw_event *top, const gw_event *const *word, int n_words)
{
    char text[ARRIVALS_BYTES];
    out list = {text, sizeof text, 0};
    text[0] = '\0';
    for (int w = -1; w < n_words; w++) {
        const gw_event *e = w < 0 ? top : word[w];
        span rest = e ? arrivals_of(e) : (span){NULL, NULL};
        member m, old;
        while (take_member(&rest, &m))
            if (!find_member((span){text, text + list.used}, m.name, &old))
                add(&list, "%s%.*s", list.used ? "," : "", (int)(m.value.end - m.name.at), m.name.at);
    }
    if (list.used)
        add(o, "\"arrivals\":{%s},", text);
}

typedef enum members { NO_MEMBERS, NO_BACKGROUND, ALL_MEMBERS } members;

static bool add_branch(out *o, const char *comma, const gw_event *e, members own)
{
    char name[64], model[64], hash[64], detectors[64], value[2][40];
    const size_t before = o->used;
    const double number[2] = {e->statistic, e->noise_rate_hz};
    for (int i = 0; i < 2; i++)
        snprintf(value[i], sizeof value[i], isfinite(number[i]) ? "%.9g" : "null", number[i]);
    const uint64_t gps = (uint64_t)(e->gps_ns < 0 ? 0 : e->gps_ns), second = (uint64_t)GW_SECOND_NS;
    bool fits = add(o,
                    "%s{\"stream\":\"%s\",\"detectors\":\"%s\",\"phase\":\"%s\",\"gps\":%" PRIu64
                    ".%09" PRIu64 ",\"statistic\":%s,\"noise_rate_hz\":%s,\"model\":\"%s\",\"sha256\":\"%s\"",
                    comma, plain(e->stream, sizeof e->stream, name),
                    plain(e->detectors, sizeof e->detectors, detectors), gw_phase_text(e->phase),
                    gps / second, gps % second, value[0], value[1], plain(e->model, sizeof e->model, model),
                    plain(e->model_hash, sizeof e->model_hash, hash));
    span rest = members_of(e);
    member m;
    while (fits && own && take_member(&rest, &m))
        if (own == ALL_MEMBERS || !same(m.name, literal("\"background\"")))
            fits = add(o, ",%.*s", (int)(m.value.end - m.name.at), m.name.at);
    if (fits && add(o, "}"))
        return true;
    o->used = before;
    o->text[before] = '\0';
    return false;
}

/* The first `whole` of the words with their own members. False: some are not in it. */
static bool add_branches(out *o, const gw_event *const *word, int n_words, int whole, members own)
{
    const char *comma = "";
    bool all = true;
    for (int w = 0; w < n_words; w++) {
        if (!word[w])
            continue;
        const bool added = add_branch(o, comma, word[w], w < whole ? own : NO_MEMBERS);
        comma = added ? "," : comma;
        all &= added;
    }
    return all;
}

void gw_merge_detail(char text[sizeof((gw_event *)0)->detail], const gw_event *top,
                     const gw_event *const *word, int n_words, int trials)
{
    char list[48]; /* always fits, and so does the end */
    const int n_list = snprintf(list, sizeof list, "\"trials\":%d,\"branches\":[", trials);
    out o = {text, sizeof((gw_event *)0)->detail - (size_t)n_list - 3, 0};
    span rest = members_of(top);
    member m;
    add(&o, "{");
    add_arrivals(&o, top, word, n_words);
    while (take_member(&rest, &m))
        if (!same(m.name, literal("\"arrivals\"")))
            add(&o, "%.*s,", (int)(m.value.end - m.name.at), m.name.at);
    o.size += (size_t)n_list;
    add(&o, "%s", list);
    const size_t before = o.used;
    bool all = add_branches(&o, word, n_words, n_words, ALL_MEMBERS);
    for (int whole = n_words; !all && whole >= 0; whole--) {
        o.used = before;
        all = add_branches(&o, word, n_words, whole, NO_BACKGROUND);
    }
    memcpy(text + o.used, "]}", 3);
}
