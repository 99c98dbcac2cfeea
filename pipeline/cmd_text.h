/* SPDX-License-Identifier: GPL-3.0-or-later
 * What the short commands (replay, simulate, witness, evaluate) share: they write the YAML that a user would have
 * written, and run it. Only these commands call it. */
#ifndef GW_CMD_TEXT_H
#define GW_CMD_TEXT_H

#include "pipeline/config.h"
#include "pipeline/error.h"

#include <stddef.h>

/* Growing text; begin with {0}. A failure is remembered until it is run. */
typedef struct gw_text {
    char *s;
    size_t used, size;
    bool failed;
} gw_text;

void gw_text_add(gw_text *t, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void gw_text_quote(gw_text *t, const char *s); /* a YAML double-quoted scalar: file names may hold anything */
/* A node of a YAML tree in flow style. `without`: keys of this map that are left out, then NULL; or NULL. */
int gw_text_node(gw_text *t, gw_conf *c, const char *const *without);
/* Prints the graph (show), or runs it to its end. Takes the text. */
int gw_text_run(gw_text *t, const char *name, bool show, bool quiet);

/* An output (NULL: none) that is one of the n inputs would destroy it: GW_EUSAGE. */
int gw_spare_inputs(const char *output, char **files, int n);

#endif
