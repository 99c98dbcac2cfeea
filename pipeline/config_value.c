/* SPDX-License-Identifier: GPL-3.0-or-later
 * Values with units: "16384Hz", "1/16s", "4MiB", "1126259462.4395". The parsers serve command-line flags
 * too; the getters put the place in the file before their complaint. Rates and spans are exact: a number
 * is read as a fraction of integers and never passes through floating point. */
#include "pipeline/config.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

__extension__ typedef unsigned __int128 u128;

enum { SHOWN = 48 }; /* so much of a bad value is repeated in the complaint */

/* ---- numbers ---- */

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* [+-] digits [. digits] [e [+-] digits]: nothing hexadecimal, no "inf", no space. */
static bool is_decimal(const char *s)
{
    bool digits = false;
    s += *s == '+' || *s == '-';
    for (; is_digit(*s); s++)
        digits = true;
    if (*s == '.')
        for (s++; is_digit(*s); s++)
            digits = true;
    if (digits && (*s == 'e' || *s == 'E')) {
        s++;
        s += *s == '+' || *s == '-';
        for (digits = false; is_digit(*s); s++)
            digits = true;
    }
    return digits && !*s;
}

int gw_parse_double(const char *text, double *value)
{
    char *end = NULL;
    double v = is_decimal(text) ? strtod(text, &end) : 0;
    if (!end || *end)
        return gw_fail(GW_ECONFIG, "'%.*s' is not a number", SHOWN, text);
    if (!isfinite(v))
        return gw_fail(GW_ECONFIG, "'%.*s' is larger than any number here", SHOWN, text);
    *value = v;
    return GW_OK;
}

int gw_parse_int(const char *text, int64_t *value)
{
    const char *s = text + (*text == '+' || *text == '-');
    bool digits = is_digit(*s);
    while (is_digit(*s))
        s++;
    if (!digits || *s)
        return gw_fail(GW_ECONFIG, "'%.*s' is not a whole number", SHOWN, text);
    errno = 0;
    long long v = strtoll(text, NULL, 10);
    if (errno == ERANGE)
        return gw_fail(GW_ECONFIG, "'%.*s' does not fit in 64 bits", SHOWN, text);
    *value = v;
    return GW_OK;
}

/* At most 18 digits above and 18 + 9 below the bar: then products with a unit fit in 128 bits. */
typedef struct fraction {
    u128 num, den;
} fraction;

/* digits [. digits] [/ digits]; moves *s behind it. */
static bool read_fraction(const char **s, fraction *f)
{
    int digits = 0;
    bool point = false;
    *f = (fraction){0, 1};
    for (; is_digit(**s) || (**s == '.' && !point); (*s)++) {
        if (**s == '.') {
            point = true;
            continue;
        }
        f->num = f->num * 10 + (unsigned)(**s - '0');
        f->den *= point ? 10 : 1;
        if (++digits > 18)
            return false;
    }
    if (!digits)
        return false;
    if (**s != '/')
        return true;
    (*s)++;
    u128 by = 0;
    for (digits = 0; is_digit(**s); (*s)++) {
        by = by * 10 + (unsigned)(**s - '0');
        if (++digits > 9)
            return false;
    }
    f->den *= by;
    return digits && by;
}

static u128 gcd(u128 a, u128 b)
{
    while (b) {
        u128 r = a % b;
        a = b;
        b = r;
    }
    return a;
}

/* ---- numbers with a unit ---- */

typedef struct unit {
    const char *word; /* NULL ends the list */
    uint64_t num, den;
} unit;

typedef struct quantity {
    const char *name, *example, *units;
    const unit *unit;
} quantity;

static const unit rate_unit[] = {{"Hz", 1, 1}, {"kHz", 1000, 1}, {NULL, 0, 0}};
static const unit span_unit[] = {{"ns", 1, 1000000000}, {"us", 1, 1000000}, {"ms", 1, 1000}, {"s", 1, 1},
                                 {"min", 60, 1},        {"h", 3600, 1},     {"d", 86400, 1}, {NULL, 0, 0}};
static const unit size_unit[] = {{"B", 1, 1},         {"KiB", 1 << 10, 1},           {"MiB", 1 << 20, 1},
                                 {"GiB", 1 << 30, 1}, {"TiB", UINT64_C(1) << 40, 1}, {NULL, 0, 0}};
static const quantity rate = {"a rate", "16384Hz, 16kHz or 1/60Hz", "Hz or kHz", rate_unit};
static const quantity span = {"a time span", "62.5ms, 1/16s or 5min", "ns, us, ms, s, min, h or d",
                              span_unit};
static const quantity size = {"a size", "4096B, 64KiB or 4MiB", "B, KiB, MiB, GiB or TiB", size_unit};

static const unit *find_unit(const quantity *q, const char *word)
{
    for (const unit *u = q->unit; u->word; u++)
        if (!strcmp(u->word, word))
            return u;
    return NULL;
}

/* The exact value in lowest terms. */
static int parse_quantity(const quantity *q, const char *text, fraction *f)
{
    const char *s = text;
    if (!read_fraction(&s, f))
        return gw_fail(GW_ECONFIG, "'%.*s' is not %s (write for example %s)", SHOWN, text, q->name,
                       q->example);
    if (!*s)
        return gw_fail(GW_ECONFIG, "'%.*s' needs a unit (%s)", SHOWN, text, q->units);
    const unit *u = find_unit(q, s);
    if (!u)
        return gw_fail(GW_ECONFIG, "'%.*s': '%.*s' is not a unit here (%s)", SHOWN, text, SHOWN, s, q->units);
    f->num *= u->num;
    f->den *= u->den;
    u128 common = gcd(f->num, f->den);
    f->num /= common;
    f->den /= common;
    return GW_OK;
}

static int parse_rational(const quantity *q, const char *text, gw_rate *value)
{
    fraction f;
    GW_TRY(parse_quantity(q, text, &f));
    if (!f.num)
        return gw_fail(GW_ECONFIG, "'%.*s' must be more than zero", SHOWN, text);
    if (f.num > UINT32_MAX || f.den > UINT32_MAX)
        return gw_fail(GW_ECONFIG, "'%.*s' is no fraction of two 32-bit numbers", SHOWN, text);
    *value = (gw_rate){(uint32_t)f.num, (uint32_t)f.den};
    return GW_OK;
}

int gw_parse_rate(const char *text, gw_rate *value)
{
    return parse_rational(&rate, text, value);
}

int gw_parse_span(const char *text, gw_rate *seconds)
{
    return parse_rational(&span, text, seconds);
}

static int parse_span_ns(const char *text, int64_t *ns)
{
    fraction f;
    GW_TRY(parse_quantity(&span, text, &f));
    u128 ns2 = f.num * (u128)GW_SECOND_NS * 2; /* at most 10^18 days: far from 2^128, and so is f.den */
    u128 v = (ns2 + f.den) / (f.den * 2);
    if (v > INT64_MAX)
        return gw_fail(GW_ECONFIG, "'%.*s' is longer than 292 years", SHOWN, text);
    *ns = (int64_t)v;
    return GW_OK;
}

static int parse_bytes(const char *text, uint64_t *bytes)
{
    fraction f;
    GW_TRY(parse_quantity(&size, text, &f));
    if (f.den != 1)
        return gw_fail(GW_ECONFIG, "'%.*s' is not a whole number of bytes", SHOWN, text);
    if (f.num > UINT64_MAX)
        return gw_fail(GW_ECONFIG, "'%.*s' does not fit in 64 bits", SHOWN, text);
    *bytes = (uint64_t)f.num;
    return GW_OK;
}

int gw_parse_frequency(const char *text, double *hz)
{
    size_t n = strlen(text);
    double scale = n > 3 && !strcmp(text + n - 3, "kHz") ? 1e3 : 1;
    size_t unit_bytes = scale > 1 ? 3 : n > 2 && !strcmp(text + n - 2, "Hz") ? 2 : 0;
    char number[64];
    double v = 0;
    if (!unit_bytes && is_decimal(text))
        return gw_fail(GW_ECONFIG, "'%.*s' needs a unit (%s)", SHOWN, text, rate.units);
    if (!unit_bytes || n - unit_bytes >= sizeof number)
        return gw_fail(GW_ECONFIG, "'%.*s' is not a frequency (write for example 20Hz or 1.5kHz)", SHOWN,
                       text);
    memcpy(number, text, n - unit_bytes);
    number[n - unit_bytes] = '\0';
    GW_TRY(gw_parse_double(number, &v));
    if (v < 0 || !isfinite(v * scale))
        return gw_fail(GW_ECONFIG, "'%.*s' is out of range for a frequency", SHOWN, text);
    *hz = v * scale;
    return GW_OK;
}

int gw_parse_gps_ns(const char *text, int64_t *ns)
{
    const char *s = text;
    uint64_t whole = 0, rest = 0, place = GW_SECOND_NS;
    int digits = 0;
    for (; is_digit(*s); s++, digits++)
        if (digits < 12)
            whole = whole * 10 + (uint64_t)(*s - '0');
    bool ok = digits > 0;
    if (ok && *s == '.')
        for (s++, ok = false; is_digit(*s); s++, ok = true) {
            place /= 10;
            rest += (uint64_t)(*s - '0') * place;
            if (!place && *s != '0')
                return gw_fail(GW_ECONFIG, "'%.*s' is finer than a nanosecond", SHOWN, text);
        }
    if (!ok || *s)
        return gw_fail(GW_ECONFIG, "'%.*s' is not a GPS time in seconds (write for example 1126259462.4)",
                       SHOWN, text);
    if (digits > 12 || whole >= INT64_MAX / GW_SECOND_NS)
        return gw_fail(GW_ECONFIG, "'%.*s' is out of range for a GPS time in seconds", SHOWN, text);
    *ns = (int64_t)(whole * GW_SECOND_NS + rest);
    return GW_OK;
}

/* ---- typed values of a map's key ---- */

/* The text of key's value, *text = NULL when it is absent. */
static int find_text(gw_conf *c, const char *key, gw_conf **node, const char **text)
{
    *text = NULL;
    *node = gw_conf_find(c, key);
    return *node ? gw_conf_text(*node, text) : GW_OK;
}

/* Every getter is a parser, told where it stands. */
#define GET(c, key, parse)                                                                                   \
    do {                                                                                                     \
        gw_conf *node_;                                                                                      \
        const char *text;                                                                                    \
        GW_TRY(find_text((c), (key), &node_, &text));                                                        \
        int err_ = text ? (parse) : GW_OK;                                                                   \
        return err_ ? gw_fail_at(err_, "%s: %s", gw_conf_where(node_), (key)) : GW_OK;                       \
    } while (0)

int gw_conf_get_rate(gw_conf *c, const char *key, gw_rate *value)
{
    GET(c, key, gw_parse_rate(text, value));
}

int gw_conf_get_frequency(gw_conf *c, const char *key, double *value_hz)
{
    GET(c, key, gw_parse_frequency(text, value_hz));
}

int gw_conf_get_span(gw_conf *c, const char *key, gw_rate *seconds)
{
    GET(c, key, gw_parse_span(text, seconds));
}

int gw_conf_get_span_ns(gw_conf *c, const char *key, int64_t *value_ns)
{
    GET(c, key, parse_span_ns(text, value_ns));
}

int gw_conf_get_gps_ns(gw_conf *c, const char *key, int64_t *value_ns)
{
    GET(c, key, gw_parse_gps_ns(text, value_ns));
}

int gw_conf_get_bytes(gw_conf *c, const char *key, uint64_t *value)
{
    GET(c, key, parse_bytes(text, value));
}

int gw_conf_get_text(gw_conf *c, const char *key, const char **value)
{
    gw_conf *node;
    const char *text;
    GW_TRY(find_text(c, key, &node, &text));
    if (text)
        *value = text;
    return GW_OK;
}

int gw_conf_get_bool(gw_conf *c, const char *key, bool *value)
{
    static const char *const words[] = {"false", "true", NULL};
    int i = *value;
    GW_TRY(gw_conf_get_choice(c, key, words, &i));
    *value = i != 0;
    return GW_OK;
}

int gw_conf_get_int(gw_conf *c, const char *key, int64_t min, int64_t max, int64_t *value)
{
    gw_conf *node;
    const char *text;
    int64_t v;
    GW_TRY(find_text(c, key, &node, &text));
    if (!text)
        return GW_OK;
    int err = gw_parse_int(text, &v);
    if (err)
        return gw_fail_at(err, "%s: %s", gw_conf_where(node), key);
    if (v < min || v > max)
        return gw_conf_fail(node, "%s: %" PRId64 " is out of range (%" PRId64 " to %" PRId64 ")", key, v, min,
                            max);
    *value = v;
    return GW_OK;
}

static int double_of(gw_conf *node, const char *name, double min, double max, double *value)
{
    const char *text;
    double v = 0;
    GW_TRY(gw_conf_text(node, &text));
    int err = gw_parse_double(text, &v);
    if (err)
        return gw_fail_at(err, "%s%s%s", gw_conf_where(node), name ? ": " : "", name ? name : "");
    if (!(v >= min && v <= max))
        return gw_conf_fail(node, "%s%s%g is out of range (%g to %g)", name ? name : "", name ? ": " : "", v,
                            min, max);
    *value = v;
    return GW_OK;
}

int gw_conf_get_double(gw_conf *c, const char *key, double min, double max, double *value)
{
    gw_conf *node = gw_conf_find(c, key);
    return node ? double_of(node, key, min, max, value) : GW_OK;
}

int gw_conf_double(gw_conf *c, double min, double max, double *value)
{
    return double_of(c, NULL, min, max, value);
}

int gw_conf_get_choice(gw_conf *c, const char *key, const char *const *words, int *value)
{
    gw_conf *node;
    const char *text;
    GW_TRY(find_text(c, key, &node, &text));
    if (!text)
        return GW_OK;
    char list[400] = "";
    for (int i = 0; words[i]; i++) {
        if (!strcmp(words[i], text)) {
            *value = i;
            return GW_OK;
        }
        size_t used = strlen(list);
        snprintf(list + used, sizeof list - used, "%s%s", i ? ", " : "", words[i]);
    }
    return gw_conf_fail(node, "%s: '%.*s' is not one of: %s", key, SHOWN, text, list);
}
