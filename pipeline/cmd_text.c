/* SPDX-License-Identifier: GPL-3.0-or-later
 * Graphs as text. */
#include "pipeline/cmd_text.h"

#include "kernels/kernels.h"
#include "pipeline/cmd.h"
#include "pipeline/graph.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

void gw_text_add(gw_text *t, const char *fmt, ...)
{
    for (int tries = 0; tries < 2 && !t->failed; tries++) {
        va_list args;
        va_start(args, fmt);
        int n = vsnprintf(t->s ? t->s + t->used : NULL, t->size - t->used, fmt, args);
        va_end(args);
        if (n >= 0 && (size_t)n < t->size - t->used) {
            t->used += (size_t)n;
            return;
        }
        size_t size = 2 * t->size + (n > 0 ? (size_t)n : 0) + 256;
        char *s = realloc(t->s, size);
        if (!s || n < 0) {
            t->failed = true;
            return;
        }
        t->s = s;
        t->size = size;
    }
}

void gw_text_quote(gw_text *t, const char *s)
{
    gw_text_add(t, "\"");
    for (; *s; s++) {
        const unsigned char c = (unsigned char)*s;
        if (c == '"' || c == '\\')
            gw_text_add(t, "\\%c", c);
        else if (c < 0x20 || c == 0x7f)
            gw_text_add(t, "\\x%02x", c);
        else
            gw_text_add(t, "%c", c);
    }
    gw_text_add(t, "\"");
}

int gw_text_node(gw_text *t, gw_conf *c, const char *const *without)
{
    const gw_conf_type kind = gw_conf_kind(c);
    if (kind == GW_CONF_SCALAR) {
        const char *text;
        GW_TRY(gw_conf_text(c, &text));
        gw_text_quote(t, text);
        return GW_OK;
    }
    bool first = true;
    gw_text_add(t, kind == GW_CONF_MAP ? "{" : "[");
    for (int i = 0; i < gw_conf_count(c); i++) {
        const char *key = kind == GW_CONF_MAP ? gw_conf_key(c, i) : NULL;
        int out = 0;
        for (int k = 0; key && without && without[k]; k++)
            out |= strcmp(key, without[k]) == 0;
        if (out)
            continue;
        gw_text_add(t, "%s", first ? "" : ", ");
        first = false;
        if (key) {
            gw_text_quote(t, key);
            gw_text_add(t, ": ");
        }
        GW_TRY(gw_text_node(t, gw_conf_item(c, i), NULL));
    }
    gw_text_add(t, kind == GW_CONF_MAP ? "}" : "]");
    return GW_OK;
}

int gw_text_run(gw_text *t, const char *name, bool show, bool quiet)
{
    if (t->failed || !t->s) {
        free(t->s);
        return gw_fail(GW_ENOMEM, "%s", name);
    }
    if (show) {
        fputs(t->s, stdout);
        free(t->s);
        return GW_OK;
    }
    gw_graph *g;
    gw_device_set(gw_kernels_device());
    int err = gw_graph_parse(&g, name, t->s);
    free(t->s);
    GW_TRY(err);
    return gw_run_graph(g, quiet);
}

int gw_spare_inputs(const char *output, char **files, int n)
{
    struct stat out, in;
    if (!output || stat(output, &out) != 0)
        return GW_OK;
    for (int i = 0; i < n; i++)
        if (stat(files[i], &in) == 0 && in.st_dev == out.st_dev && in.st_ino == out.st_ino)
            return gw_fail(GW_EUSAGE, "%s is an input; writing to it would destroy it", output);
    return GW_OK;
}
