/* SPDX-License-Identifier: GPL-3.0-or-later
 * Strict YAML: text -> tree of nodes that know their line and column, and the accounting of which keys
 * were asked for. Called by the graph and by every kind's configure(). The typed values and their units
 * are in config_value.c; what the keys mean, nobody here knows.
 *
 * The tree is built from libyaml's events, not from its ready-made document, because a document has
 * already forgotten the anchors and some of the tags that we refuse, and its depth has no limit. */
#include "pipeline/config.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <yaml.h>

enum { MAX_DEPTH = 32, MAX_BYTES = 16 << 20, MAX_ASKED = 64, MAX_WORD = 48 };

typedef struct entry {
    gw_conf *key; /* maps only: a scalar */
    gw_conf *value;
    bool known;
} entry;

struct gw_conf {
    gw_conf_file *file;
    const char *name;      /* the key under which it stands, or NULL */
    uint32_t line, column; /* from 1 */
    gw_conf_type type;
    bool plain; /* a scalar without quotes */
    int count, room;
    union {
        char *text;     /* scalar */
        entry *entries; /* [count] list, map */
    } u;
    char **asked; /* [n_asked] keys that were asked of this map, for suggestions */
    int n_asked;
};

struct gw_conf_file {
    char *name;
    gw_conf *root;
};

/* ---- complaints ---- */

/* One thread's "file:line:column"; of a long path the end is kept. */
static const char *where_text(const char *name, size_t line, size_t column)
{
    static _Thread_local char text[320];
    size_t n = strlen(name), most = sizeof text - 48;
    snprintf(text, sizeof text, "%s%s:%zu:%zu", n > most ? "..." : "", n > most ? name + n - most : name,
             line, column);
    return text;
}

const char *gw_conf_where(const gw_conf *c)
{
    return c ? where_text(c->file->name, c->line, c->column) : "configuration";
}

int gw_conf_fail(const gw_conf *c, const char *fmt, ...)
{
    char text[768];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    return gw_fail(GW_ECONFIG, "%s: %s", gw_conf_where(c), text);
}

static int fail_mark(const gw_conf_file *f, yaml_mark_t m, const char *text)
{
    return gw_fail(GW_ECONFIG, "%s: %s", where_text(f->name, m.line + 1, m.column + 1), text);
}

/* libyaml's own complaint. Its reader (bad UTF-8) gives a byte offset and no line. */
static int fail_parser(const gw_conf_file *f, const yaml_parser_t *p, const char *text, size_t bytes)
{
    const char *problem = p->problem ? p->problem : "not YAML";
    if (p->error == YAML_MEMORY_ERROR)
        return gw_fail(GW_ENOMEM, "%s: reading YAML", f->name);
    if (p->error != YAML_READER_ERROR) {
        const char *context = p->context ? p->context : "";
        return gw_fail(GW_ECONFIG, "%s: not YAML: %s%s%s",
                       where_text(f->name, p->problem_mark.line + 1, p->problem_mark.column + 1), context,
                       *context ? ", " : "", problem);
    }
    size_t line = 1, column = 1;
    for (size_t i = 0; i < p->problem_offset && i < bytes; i++) {
        column = text[i] == '\n' ? 1 : column + 1;
        line += text[i] == '\n';
    }
    return gw_fail(GW_ECONFIG, "%s: %s (write the file in UTF-8)", where_text(f->name, line, column),
                   problem);
}

/* ---- from events to a tree ---- */

static void node_free(gw_conf *c) /* at most MAX_DEPTH deep */
{
    if (!c)
        return;
    if (c->type == GW_CONF_SCALAR) {
        free(c->u.text);
    } else {
        for (int i = 0; i < c->count; i++) {
            node_free(c->u.entries[i].key);
            node_free(c->u.entries[i].value);
        }
        free(c->u.entries);
    }
    for (int i = 0; i < c->n_asked; i++)
        free(c->asked[i]);
    free(c->asked);
    free(c);
}

static int node_new(gw_conf_file *f, gw_conf_type type, yaml_mark_t m, gw_conf **out)
{
    gw_conf *c = calloc(1, sizeof *c);
    if (!c)
        return gw_fail(GW_ENOMEM, "%s: reading YAML", f->name);
    c->file = f;
    c->type = type;
    c->line = (uint32_t)m.line + 1;
    c->column = (uint32_t)m.column + 1;
    *out = c;
    return GW_OK;
}

/* The parent owns the child even when this fails. */
static int node_append(gw_conf *parent, gw_conf *key, gw_conf *value)
{
    if (parent->count == parent->room) {
        int room = parent->room ? parent->room * 2 : 8;
        entry *more = realloc(parent->u.entries, (size_t)room * sizeof *more);
        if (!more) {
            node_free(key);
            node_free(value);
            return gw_fail(GW_ENOMEM, "%s: reading YAML", parent->file->name);
        }
        parent->u.entries = more;
        parent->room = room;
    }
    parent->u.entries[parent->count++] = (entry){.key = key, .value = value};
    value->name = key ? key->u.text : parent->name;
    return GW_OK;
}

static int by_text(const void *a, const void *b)
{
    const gw_conf *x = *(gw_conf *const *)a, *y = *(gw_conf *const *)b;
    int order = strcmp(x->u.text, y->u.text);
    if (order)
        return order;
    if (x->line != y->line)
        return x->line < y->line ? -1 : 1;
    return (x->column > y->column) - (x->column < y->column);
}

/* Sorted, so that a hostile file of a million keys takes no hours. */
static int refuse_duplicates(const gw_conf *map)
{
    if (map->count < 2)
        return GW_OK;
    gw_conf **key = malloc((size_t)map->count * sizeof *key);
    if (!key)
        return gw_fail(GW_ENOMEM, "%s: reading YAML", map->file->name);
    for (int i = 0; i < map->count; i++)
        key[i] = map->u.entries[i].key;
    qsort(key, (size_t)map->count, sizeof *key, by_text);
    int err = GW_OK;
    for (int i = 1; i < map->count && !err; i++)
        if (!strcmp(key[i - 1]->u.text, key[i]->u.text))
            err = gw_conf_fail(key[i], "key '%.*s' appears twice, first in line %u", MAX_WORD, key[i]->u.text,
                               (unsigned)key[i - 1]->line);
    free(key);
    return err;
}

/* What an escape can name although a file may not hold it, in UTF-8: control characters, U+0080 to U+009F
 * among them, the separators of lines and paragraphs, U+FFFE and U+FFFF. (text[n] is a NUL.) */
static bool is_control(const unsigned char *c)
{
    return c[0] < 0x20 || c[0] == 0x7f || (c[0] == 0xc2 && c[1] < 0xa0) ||
           (c[0] == 0xe2 && c[1] == 0x80 && (c[2] & 0xfe) == 0xa8) ||
           (c[0] == 0xef && c[1] == 0xbf && c[2] >= 0xbe);
}

/* A value is a short text in one line. That also keeps every later complaint in one line. */
static int scalar_new(gw_conf_file *f, const yaml_event_t *e, gw_conf **out)
{
    const unsigned char *text = e->data.scalar.value;
    size_t n = e->data.scalar.length;
    for (size_t i = 0; i < n; i++)
        if (is_control(text + i))
            return fail_mark(f, e->start_mark,
                             "a value with a line break or control character; write it in one line");
    GW_TRY(node_new(f, GW_CONF_SCALAR, e->start_mark, out));
    (*out)->plain = e->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
    (*out)->u.text = malloc(n + 1);
    if (!(*out)->u.text) {
        node_free(*out);
        *out = NULL;
        return gw_fail(GW_ENOMEM, "%s: reading YAML", f->name);
    }
    memcpy((*out)->u.text, text, n);
    (*out)->u.text[n] = '\0';
    return GW_OK;
}

static int refuse_extras(const gw_conf_file *f, const yaml_event_t *e)
{
    const yaml_char_t *anchor = NULL, *tag = NULL;
    switch (e->type) {
    case YAML_ALIAS_EVENT:
        return fail_mark(f, e->start_mark, "an alias (*name) is not read here; write the value out");
    case YAML_SCALAR_EVENT:
        anchor = e->data.scalar.anchor;
        tag = e->data.scalar.tag;
        break;
    case YAML_SEQUENCE_START_EVENT:
        anchor = e->data.sequence_start.anchor;
        tag = e->data.sequence_start.tag;
        break;
    case YAML_MAPPING_START_EVENT:
        anchor = e->data.mapping_start.anchor;
        tag = e->data.mapping_start.tag;
        break;
    default:
        break;
    }
    if (anchor)
        return fail_mark(f, e->start_mark, "an anchor (&name) is not read here; remove it");
    if (tag)
        return fail_mark(f, e->start_mark, "a tag (!name) is not read here; remove it");
    return GW_OK;
}

typedef struct builder {
    gw_conf_file *file;
    gw_conf *open[MAX_DEPTH]; /* the lists and maps we are in */
    gw_conf *key[MAX_DEPTH];  /* in a map: the key that waits for its value */
    int depth;
} builder;

/* Puts a finished scalar, or a list or map that begins, into its place. */
static int place(builder *b, gw_conf *node)
{
    if (!b->depth) {
        b->file->root = node;
        return GW_OK;
    }
    gw_conf *parent = b->open[b->depth - 1];
    if (parent->type == GW_CONF_LIST)
        return node_append(parent, NULL, node);
    gw_conf *key = b->key[b->depth - 1];
    if (key) {
        b->key[b->depth - 1] = NULL;
        return node_append(parent, key, node);
    }
    if (node->type != GW_CONF_SCALAR || !*node->u.text) {
        int err = gw_conf_fail(node, "a key must be a word");
        node_free(node);
        return err;
    }
    b->key[b->depth - 1] = node;
    return GW_OK;
}

static int take_event(builder *b, const yaml_event_t *e)
{
    gw_conf *node = NULL;
    GW_TRY(refuse_extras(b->file, e));
    switch (e->type) {
    case YAML_DOCUMENT_START_EVENT:
        if (b->file->root)
            return fail_mark(b->file, e->start_mark, "a second document (---); one file is one document");
        return GW_OK;
    case YAML_SCALAR_EVENT:
        GW_TRY(scalar_new(b->file, e, &node));
        return place(b, node);
    case YAML_SEQUENCE_START_EVENT:
    case YAML_MAPPING_START_EVENT:
        if (b->depth == MAX_DEPTH)
            return fail_mark(b->file, e->start_mark, "nested deeper than 32 levels");
        GW_TRY(node_new(b->file, e->type == YAML_MAPPING_START_EVENT ? GW_CONF_MAP : GW_CONF_LIST,
                        e->start_mark, &node));
        GW_TRY(place(b, node));
        b->open[b->depth++] = node;
        return GW_OK;
    case YAML_SEQUENCE_END_EVENT:
        b->depth--;
        return GW_OK;
    case YAML_MAPPING_END_EVENT:
        b->depth--;
        return refuse_duplicates(b->open[b->depth]);
    default:
        return GW_OK;
    }
}

static int build(gw_conf_file *f, const char *text, size_t bytes)
{
    yaml_parser_t parser;
    yaml_event_t event;
    builder b = {.file = f};
    int err = GW_OK;
    bool more = true;

    if (bytes >= 3 && !memcmp(text, "\xef\xbb\xbf", 3)) { /* some editors' mark of UTF-8 */
        text += 3;
        bytes -= 3;
    }
    if (!yaml_parser_initialize(&parser))
        return gw_fail(GW_ENOMEM, "%s: reading YAML", f->name);
    yaml_parser_set_encoding(&parser, YAML_UTF8_ENCODING);
    yaml_parser_set_input_string(&parser, (const unsigned char *)(text ? text : ""), bytes);
    while (more && !err) {
        if (!yaml_parser_parse(&parser, &event)) {
            err = fail_parser(f, &parser, text, bytes);
            break;
        }
        more = event.type != YAML_STREAM_END_EVENT;
        err = take_event(&b, &event);
        yaml_event_delete(&event);
    }
    yaml_parser_delete(&parser);
    for (int i = 0; i < MAX_DEPTH; i++) /* after a failure a key may wait in vain */
        node_free(b.key[i]);
    if (!err && !f->root)
        err = gw_fail(GW_ECONFIG, "%s: is empty", f->name);
    return err;
}

int gw_conf_parse(gw_conf_file **out, const char *name, const char *text, size_t bytes)
{
    *out = NULL;
    if (bytes > MAX_BYTES)
        return gw_fail(GW_ECONFIG, "%s: larger than 16 MiB; keep long lists in files of their own", name);
    gw_conf_file *f = calloc(1, sizeof *f);
    if (f)
        f->name = strdup(name);
    if (!f || !f->name) {
        free(f);
        return gw_fail(GW_ENOMEM, "%s: reading YAML", name);
    }
    int err = build(f, text, bytes);
    if (err) {
        gw_conf_free(&f);
        return err;
    }
    *out = f;
    return GW_OK;
}

int gw_conf_load(gw_conf_file **out, const char *path)
{
    *out = NULL;
    FILE *in = fopen(path, "rb");
    if (!in) {
        int code = errno == ENOENT || errno == ENOTDIR ? GW_EMISSING : errno == EACCES ? GW_EACCESS : GW_EIO;
        return gw_fail(code, "%s: %s", path, strerror(errno));
    }
    size_t used = 0, room = 0;
    char *text = NULL;
    int err = GW_OK;
    while (!err && !feof(in) && used <= MAX_BYTES) {
        if (used == room) {
            room = room ? room * 2 : 65536;
            char *more = realloc(text, room);
            if (!more) {
                err = gw_fail(GW_ENOMEM, "%s: reading YAML", path);
                break;
            }
            text = more;
        }
        used += fread(text + used, 1, room - used, in);
        if (ferror(in)) /* a folder opens, but does not read */
            err = errno == EISDIR ? gw_fail(GW_ECONFIG, "%s: is a folder, want a YAML file", path)
                                  : gw_fail(GW_EIO, "%s: %s", path, strerror(errno));
    }
    fclose(in);
    if (!err)
        err = gw_conf_parse(out, path, text, used);
    free(text);
    return err;
}

void gw_conf_free(gw_conf_file **ff)
{
    gw_conf_file *f = *ff;
    if (!f)
        return;
    *ff = NULL;
    node_free(f->root);
    free(f->name);
    free(f);
}

gw_conf *gw_conf_root(gw_conf_file *f)
{
    return f->root;
}

/* ---- walking the tree ---- */

gw_conf_type gw_conf_kind(const gw_conf *c)
{
    return c->type;
}

int gw_conf_count(const gw_conf *c)
{
    return c->type == GW_CONF_SCALAR ? 0 : c->count;
}

gw_conf *gw_conf_item(gw_conf *c, int i)
{
    if (i < 0 || i >= gw_conf_count(c))
        return NULL;
    c->u.entries[i].known = true;
    return c->u.entries[i].value;
}

const char *gw_conf_key(const gw_conf *c, int i)
{
    if (c->type != GW_CONF_MAP || i < 0 || i >= c->count)
        return NULL;
    c->u.entries[i].known = true;
    return c->u.entries[i].key->u.text;
}

/* Remembers what was asked of a map. Without memory only a suggestion is lost. */
static void remember(gw_conf *c, const char *key)
{
    for (int i = 0; i < c->n_asked; i++)
        if (!strcmp(c->asked[i], key))
            return;
    if (c->n_asked == MAX_ASKED)
        return;
    if (!c->asked)
        c->asked = calloc(MAX_ASKED, sizeof *c->asked);
    char *copy = c->asked ? strdup(key) : NULL;
    if (copy)
        c->asked[c->n_asked++] = copy;
}

gw_conf *gw_conf_find(gw_conf *c, const char *key)
{
    if (!c || c->type != GW_CONF_MAP)
        return NULL;
    remember(c, key);
    for (int i = 0; i < c->count; i++)
        if (!strcmp(c->u.entries[i].key->u.text, key)) {
            c->u.entries[i].known = true;
            return c->u.entries[i].value;
        }
    return NULL;
}

/* The key under which a node, or the list that it is in, stands. */
static const char *name_of(const gw_conf *c)
{
    return c && c->name ? c->name : "top level";
}

int gw_conf_need(gw_conf *c, const char *key, gw_conf **value)
{
    *value = gw_conf_find(c, key);
    if (*value)
        return GW_OK;
    if (c && c->type != GW_CONF_MAP)
        return gw_conf_fail(c, "%.*s: want a map with the key '%s'", MAX_WORD, name_of(c), key);
    return gw_conf_fail(c, "%.*s: key '%s' is missing", MAX_WORD, name_of(c), key);
}

int gw_conf_text(gw_conf *c, const char **value)
{
    if (c->type != GW_CONF_SCALAR)
        return gw_conf_fail(c, "%.*s: want one value, not a %s", MAX_WORD, name_of(c),
                            c->type == GW_CONF_LIST ? "list" : "map");
    const char *text = c->u.text;
    const bool null =
        !strcasecmp(text, "null") && strcmp(name_of(c), "kind") != 0; /* there is a kind `null` */
    if (c->plain && (!*text || !strcmp(text, "~") || null))
        return gw_conf_fail(c, "%.*s: has no value", MAX_WORD, name_of(c));
    *value = text;
    return GW_OK;
}

/* ---- unknown keys ---- */

/* Edits (insert, delete, replace a character, swap two) that turn a into b; both shorter than MAX_WORD. */
static size_t edit_distance(const char *a, const char *b)
{
    size_t row[3][MAX_WORD + 1] = {{0}}; /* two rows back, one row back, this one */
    size_t n = strlen(a), m = strlen(b);
    for (size_t j = 0; j <= m; j++)
        row[1][j] = j;
    for (size_t i = 1; i <= n; i++) {
        row[2][0] = i;
        for (size_t j = 1; j <= m; j++) {
            size_t best = row[1][j - 1] + (a[i - 1] != b[j - 1]);
            if (row[1][j] + 1 < best)
                best = row[1][j] + 1;
            if (row[2][j - 1] + 1 < best)
                best = row[2][j - 1] + 1;
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] && row[0][j - 2] + 1 < best)
                best = row[0][j - 2] + 1;
            row[2][j] = best;
        }
        memcpy(row[0], row[1], sizeof row[0]);
        memcpy(row[1], row[2], sizeof row[1]);
    }
    return row[1][m];
}

static const char *nearest(const gw_conf *c, const char *word)
{
    const char *found = NULL;
    size_t n = strlen(word), best = n / 3 + 2; /* fewer edits than this: a slip of the hand */
    if (n >= MAX_WORD)
        return NULL;
    for (int i = 0; i < c->n_asked; i++) {
        if (strlen(c->asked[i]) >= MAX_WORD)
            continue;
        size_t d = edit_distance(word, c->asked[i]);
        if (d < best) {
            best = d;
            found = c->asked[i];
        }
    }
    return found;
}

int gw_conf_done(gw_conf *c, const char *what)
{
    if (c->type != GW_CONF_MAP)
        return gw_conf_fail(c, "%s: want a map of keys", what);
    for (int i = 0; i < c->count; i++) {
        const gw_conf *key = c->u.entries[i].key;
        if (c->u.entries[i].known)
            continue;
        const char *guess = nearest(c, key->u.text);
        if (guess)
            return gw_conf_fail(key, "%s: unknown key '%.*s' (did you mean '%s'?)", what, MAX_WORD,
                                key->u.text, guess);
        char list[400] = "";
        for (int k = 0; k < c->n_asked; k++) {
            size_t used = strlen(list);
            snprintf(list + used, sizeof list - used, "%s%s", k ? ", " : "", c->asked[k]);
        }
        return gw_conf_fail(key, "%s: unknown key '%.*s' (known: %s)", what, MAX_WORD, key->u.text,
                            *list ? list : "none");
    }
    return GW_OK;
}
