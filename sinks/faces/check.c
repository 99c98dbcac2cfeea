/* SPDX-License-Identifier: GPL-3.0-or-later
 * A strict JSON reader (RFC 8259) that holds what it reads against a list of fields. It keeps nothing of what
 * it has read but where it is, and which fields it has seen. */
#include "sinks/faces/check.h"

#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_DEPTH = 8, PATH_BYTES = 128, TEXT_BYTES = 512, MAX_FIELDS = 64 };

typedef struct reader {
    const char *what, *at, *end;
    const gw_field *fields;
    char path[PATH_BYTES];
    uint64_t seen; /* a bit a field */
} reader;

static int wrong(const reader *r, const char *why)
{
    return gw_fail(GW_EFORMAT, "%s: %s%s%s", r->what, r->path, r->path[0] ? ": " : "", why);
}

static void skip_space(reader *r)
{
    while (r->at < r->end && strchr(" \t\r\n", *r->at) && *r->at)
        r->at++;
}

static bool next_is(reader *r, char c)
{
    skip_space(r);
    if (r->at == r->end || *r->at != c)
        return false;
    r->at++;
    return true;
}

static bool word(reader *r, const char *w)
{
    const size_t n = strlen(w);
    skip_space(r);
    if ((size_t)(r->end - r->at) < n || memcmp(r->at, w, n) != 0)
        return false;
    r->at += n;
    return true;
}

/* A string; escapes stay as they are, but for what follows a backslash: no field needs more. */
static int read_text(reader *r, char *text)
{
    size_t n = 0;
    if (!next_is(r, '"'))
        return wrong(r, "is no text");
    for (; r->at < r->end && *r->at != '"'; r->at++) {
        if ((unsigned char)*r->at < 0x20)
            return wrong(r, "a control character inside a text");
        if (*r->at == '\\') {
            if (++r->at == r->end || !strchr("\"\\/bfnrtu", *r->at))
                return wrong(r, "a backslash before nothing known");
            for (int k = 1; *r->at == 'u' && k <= 4; k++)
                if (r->end - r->at <= k || !memchr("0123456789abcdefABCDEF", r->at[k], 22))
                    return wrong(r, "\\u without four hex digits");
        }
        if (n + 1 < TEXT_BYTES)
            text[n++] = *r->at;
    }
    text[n] = '\0';
    return next_is(r, '"') ? 0 : wrong(r, "a text without end");
}

static bool digits(reader *r)
{
    const char *from = r->at;
    while (r->at < r->end && *r->at >= '0' && *r->at <= '9')
        r->at++;
    return r->at > from;
}

static int read_number(reader *r, double *v, bool *whole)
{
    skip_space(r);
    const char *from = r->at;
    r->at += r->at < r->end && *r->at == '-';
    const char *first = r->at;
    bool good = digits(r) && (first[0] != '0' || r->at == first + 1);
    *whole = true;
    if (good && r->at < r->end && *r->at == '.') {
        *whole = false;
        r->at++;
        good = digits(r);
    }
    if (good && r->at < r->end && (*r->at == 'e' || *r->at == 'E')) {
        *whole = false;
        r->at++;
        r->at += r->at < r->end && (*r->at == '+' || *r->at == '-');
        good = digits(r);
    }
    char text[64];
    const size_t n = (size_t)(r->at - from);
    if (!good || n >= sizeof text)
        return wrong(r, "is no number");
    memcpy(text, from, n);
    text[n] = '\0';
    *v = strtod(text, NULL);
    return isfinite(*v) ? 0 : wrong(r, "is no finite number");
}

static bool one_of(const char *words, const char *text)
{
    const size_t n = strlen(text);
    while (words) {
        if (strncmp(words, text, n) == 0 && (words[n] == '|' || !words[n]))
            return true;
        const char *bar = strchr(words, '|');
        words = bar ? bar + 1 : NULL;
    }
    return false;
}

static bool is_time(const char *t)
{
    static const char form[] = "dddd-dd-ddTdd:dd:dd";
    for (size_t i = 0; i < sizeof form - 1; i++)
        if (form[i] == 'd' ? t[i] < '0' || t[i] > '9' : t[i] != form[i])
            return false;
    t += sizeof form - 1;
    if (*t == '.')
        for (t++; *t >= '0' && *t <= '9';)
            t++;
    return strcmp(t, "Z") == 0 && t[-1] != '.';
}

static int check_text(reader *r, const gw_field *f)
{
    char text[TEXT_BYTES];
    GW_TRY(read_text(r, text));
    if (!text[0])
        return wrong(r, "is empty");
    if (f->one_of && !one_of(f->one_of, text))
        return gw_fail(GW_EFORMAT, "%s: %s: '%.60s' is none of %s", r->what, r->path, text, f->one_of);
    return f->type == GW_FIELD_TIME && !is_time(text) ? wrong(r, "is no time such as 2018-11-01T22:22:46Z")
                                                      : 0;
}

static int check_number(reader *r, double min, double max, bool want_whole)
{
    double v = 0;
    bool whole = false;
    GW_TRY(read_number(r, &v, &whole));
    if (want_whole && !whole)
        return wrong(r, "is no whole number");
    if (v < min || v > max)
        return gw_fail(GW_EFORMAT, "%s: %s: %g is not between %g and %g", r->what, r->path, v, min, max);
    return 0;
}

static int check_list(reader *r, const gw_field *f)
{
    if (!next_is(r, '['))
        return wrong(r, "is no list");
    if (next_is(r, ']'))
        return 0;
    do
        GW_TRY(check_text(r, f));
    while (next_is(r, ','));
    return next_is(r, ']') ? 0 : wrong(r, "a list without end");
}

static int check_value(reader *r, const gw_field *f, int depth);

/* What `path` is: a field of its own, or a member of a field that takes any. */
static const gw_field *find_field(reader *r, size_t parent_bytes)
{
    static const gw_field share = {.type = GW_FIELD_NUMBER, .max = 1}, text = {.type = GW_FIELD_TEXT};
    for (const gw_field *f = r->fields; f->path; f++) {
        const size_t n = strlen(f->path);
        if (strcmp(f->path, r->path) == 0) {
            r->seen |= UINT64_C(1) << (f - r->fields);
            return f;
        }
        if (n && n == parent_bytes && memcmp(f->path, r->path, n) == 0 && f->type == GW_FIELD_SHARES)
            return &share;
        if (n && n == parent_bytes && memcmp(f->path, r->path, n) == 0 && f->type == GW_FIELD_MAP)
            return &text;
    }
    return NULL;
}

static int check_members(reader *r, int depth)
{
    char name[TEXT_BYTES];
    const size_t parent = strlen(r->path);
    if (depth > MAX_DEPTH)
        return wrong(r, "nested too deep");
    if (!next_is(r, '{'))
        return wrong(r, "is no object");
    if (next_is(r, '}'))
        return 0;
    do {
        GW_TRY(read_text(r, name));
        const int n = snprintf(r->path + parent, PATH_BYTES - parent, "%s%s", parent ? "." : "", name);
        if (n < 0 || (size_t)n >= PATH_BYTES - parent)
            return wrong(r, "a name too long");
        const gw_field *f = find_field(r, parent);
        if (!f)
            return wrong(r, "is none of the published fields");
        if (!next_is(r, ':'))
            return wrong(r, "has no value");
        GW_TRY(check_value(r, f, depth + 1));
        r->path[parent] = '\0';
    } while (next_is(r, ','));
    return next_is(r, '}') ? 0 : wrong(r, "an object without end");
}

static int check_value(reader *r, const gw_field *f, int depth)
{
    if ((f->may_be_null || f->type == GW_FIELD_NULL) && word(r, "null"))
        return 0;
    switch (f->type) {
    case GW_FIELD_TEXT:
    case GW_FIELD_TIME:
        return check_text(r, f);
    case GW_FIELD_NUMBER:
        return check_number(r, f->min, f->max, false);
    case GW_FIELD_WHOLE:
        return check_number(r, f->min, f->max, true);
    case GW_FIELD_BOOL:
        return word(r, "true") || word(r, "false") ? 0 : wrong(r, "is neither true nor false");
    case GW_FIELD_WORDS:
        return check_list(r, f);
    case GW_FIELD_OBJECT:
    case GW_FIELD_SHARES:
    case GW_FIELD_MAP:
        return check_members(r, depth);
    case GW_FIELD_NULL:
        break;
    }
    return wrong(r, "is not null");
}

/* A member of an object that is null need not be there. */
static bool parent_seen(const reader *r, const gw_field *f)
{
    const char *dot = strrchr(f->path, '.');
    if (!dot)
        return true;
    char path[PATH_BYTES];
    snprintf(path, sizeof path, "%.*s.", (int)(dot - f->path), f->path);
    for (const gw_field *g = r->fields; g->path; g++)
        if (strncmp(g->path, path, strlen(path)) == 0 && (r->seen >> (g - r->fields) & 1))
            return true; /* one of its members was there, so the object was */
    return false;
}

int gw_check_json(const char *what, const char *json, size_t bytes, const gw_field *fields)
{
    reader r = {.what = what, .at = json, .end = json + bytes, .fields = fields};
    int n = 0;
    while (fields[n].path)
        n++;
    if (n > MAX_FIELDS)
        return gw_fail(GW_EBUG, "%s: more than %d fields", what, MAX_FIELDS);
    GW_TRY(check_members(&r, 0));
    skip_space(&r);
    if (r.at != r.end)
        return wrong(&r, "something follows the message");
    for (int i = 0; i < n; i++)
        if (!(r.seen >> i & 1) && !fields[i].may_lack && parent_seen(&r, &fields[i]))
            return gw_fail(GW_EFORMAT, "%s: %s is missing", what, fields[i].path);
    return 0;
}
