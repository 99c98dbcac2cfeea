/* SPDX-License-Identifier: GPL-3.0-or-later
 * Is this text what its readers were promised? A reader of JSON that walks a finished message and compares it
 * with a list of fields: names, types, words, bounds. It shares nothing with the writers, so that it sees
 * what they do wrong. Called for every message before it may leave. */
#ifndef GW_FACES_CHECK_H
#define GW_FACES_CHECK_H

#include "pipeline/error.h"

#include <stddef.h>

typedef enum gw_field_type {
    GW_FIELD_TEXT,   /* not empty */
    GW_FIELD_TIME,   /* ISO 8601 UTC, "2018-11-01T22:22:46.654Z" or whole seconds */
    GW_FIELD_NUMBER, /* within min and max */
    GW_FIELD_WHOLE,  /* the same, without a fraction */
    GW_FIELD_BOOL,
    GW_FIELD_WORDS,  /* a list of texts, each not empty */
    GW_FIELD_OBJECT, /* its members are fields themselves, "event.far" */
    GW_FIELD_SHARES, /* names with numbers from 0 to 1; may be empty */
    GW_FIELD_MAP,    /* names with texts; may be empty */
    GW_FIELD_NULL    /* null and nothing else */
} gw_field_type;

typedef struct gw_field {
    const char *path;
    gw_field_type type;
    const char *one_of; /* texts and lists: "a|b|c", or NULL = any */
    double min, max;    /* numbers */
    bool may_be_null, may_lack;
} gw_field;

/* fields ends with a NULL path. GW_EFORMAT with the first thing that is wrong: "gwalert: event.far: ...". */
int gw_check_json(const char *what, const char *json, size_t bytes, const gw_field *fields);

#endif
