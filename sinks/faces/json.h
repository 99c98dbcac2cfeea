/* SPDX-License-Identifier: GPL-3.0-or-later
 * A text of fixed size that JSON is put into. Used by the faces. It remembers when something did not fit, so
 * that only the end need be asked. ASCII only: any other byte becomes \ufffd. */
#ifndef GW_FACES_JSON_H
#define GW_FACES_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct gw_json {
    char *s;
    size_t size, used;
    bool full;
} gw_json;

/* As printf; no quoting. */
void gw_json_put(gw_json *t, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* In quotes, at most n bytes or to the first NUL. */
void gw_json_string(gw_json *t, const char *s, size_t n);
/* A finite number that reads back as itself, else null. */
void gw_json_number(gw_json *t, double v);
/* ["H1","L1"] of "H1,L1", of at most n bytes. */
void gw_json_list(gw_json *t, const char *commas, size_t n);

#endif
