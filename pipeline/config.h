/* SPDX-License-Identifier: GPL-3.0-or-later
 * Strict YAML: a tree built from libyaml's events, so that every complaint has a line and a column.
 * A gw_conf is a node of that tree. Readers mark a key as known; gw_conf_done() then refuses any key
 * that nobody asked for. Sizes and times carry units. No templating, no arithmetic, no aliases.
 *
 * Messages read "configs/x.yaml:12:9: whiten: unknown key 'fduraton' (did you mean 'fduration'?)". */
#ifndef GW_CONFIG_H
#define GW_CONFIG_H

#include "pipeline/clock.h"
#include "pipeline/error.h"

typedef struct gw_conf_file gw_conf_file; /* owns the text and the tree */
typedef struct gw_conf gw_conf;           /* a node; belongs to its file; never freed by the caller */

/* Limits: 16 MiB of text, nesting 32. GW_EMISSING / GW_EACCESS / GW_ECONFIG. */
int gw_conf_load(gw_conf_file **f, const char *path);
int gw_conf_parse(gw_conf_file **f, const char *name, const char *text, size_t bytes);
void gw_conf_free(gw_conf_file **f);
gw_conf *gw_conf_root(gw_conf_file *f);

/* "file:line:column" of a node, in a thread-local buffer. */
const char *gw_conf_where(const gw_conf *c);
/* gw_fail(GW_ECONFIG, "<where>: ...") */
int gw_conf_fail(const gw_conf *c, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

typedef enum gw_conf_type { GW_CONF_SCALAR, GW_CONF_LIST, GW_CONF_MAP } gw_conf_type;
gw_conf_type gw_conf_kind(const gw_conf *c);

/* Lists and maps by position (order of the file). gw_conf_item: a list's element, or a map's value;
 * gw_conf_key: the map's i-th key. Asking by position marks the key as known. */
int gw_conf_count(const gw_conf *c);
gw_conf *gw_conf_item(gw_conf *c, int i);
const char *gw_conf_key(const gw_conf *c, int i);

/* The value of `key` in map `c`, or NULL; marks it known. A node that is not a map has no keys. */
gw_conf *gw_conf_find(gw_conf *c, const char *key);
/* The same, GW_ECONFIG when it is absent. */
int gw_conf_need(gw_conf *c, const char *key, gw_conf **value);

/* Typed values of a map's key. An absent key leaves *value as it was (its default) and returns 0;
 * use gw_conf_need first where there is no default. Text stays owned by the file. */
int gw_conf_get_text(gw_conf *c, const char *key, const char **value);
int gw_conf_get_bool(gw_conf *c, const char *key, bool *value); /* true | false, nothing else */
int gw_conf_get_int(gw_conf *c, const char *key, int64_t min, int64_t max, int64_t *value);
int gw_conf_get_double(gw_conf *c, const char *key, double min, double max, double *value); /* no unit */
int gw_conf_get_rate(gw_conf *c, const char *key, gw_rate *value);        /* 16384Hz, 1/60Hz, 16kHz */
int gw_conf_get_frequency(gw_conf *c, const char *key, double *value_hz); /* 20Hz, 1.5kHz: real */
/* A time span, exact as a rational number of seconds: 62.5ms, 1/16s, 8s, 5min, 2h, 1d. */
int gw_conf_get_span(gw_conf *c, const char *key, gw_rate *seconds);
int gw_conf_get_span_ns(gw_conf *c, const char *key, int64_t *value_ns); /* nearest ns, >= 0 */
int gw_conf_get_gps_ns(gw_conf *c, const char *key, int64_t *value_ns);  /* 1126259462.4395 (exact decimal) */
int gw_conf_get_bytes(gw_conf *c, const char *key, uint64_t *value);     /* 4096B 64KiB 4MiB 2GiB */
/* One of `words` (NULL-terminated); *value becomes its index. */
int gw_conf_get_choice(gw_conf *c, const char *key, const char *const *words, int *value);

/* Text of a scalar node itself (for lists): GW_ECONFIG if it is not a scalar. */
int gw_conf_text(gw_conf *c, const char **value);
int gw_conf_double(gw_conf *c, double min, double max, double *value);

/* Refuses keys of map `c` that nobody asked for; `what` names the map ("stage whiten"). */
int gw_conf_done(gw_conf *c, const char *what);

/* The parsers themselves, for command-line flags; the whole text must match. GW_ECONFIG without a place. */
int gw_parse_rate(const char *text, gw_rate *value);
int gw_parse_span(const char *text, gw_rate *seconds);
int gw_parse_frequency(const char *text, double *hz);
int gw_parse_gps_ns(const char *text, int64_t *ns);
int gw_parse_double(const char *text, double *value);
int gw_parse_int(const char *text, int64_t *value);

#endif
