/* SPDX-License-Identifier: GPL-3.0-or-later
 * What `gwstream top` draws from the status documents of a running graph (status.c writes them). */
#ifndef GW_CMD_TOP_H
#define GW_CMD_TOP_H

#include "pipeline/config.h"

#include <stdio.h>

/* Plain lines: rates and ages between two documents of one run, or since its start where `before` is NULL. A
 * document is a tree that gw_conf_parse made of the JSON. */
void gw_top_draw(gw_conf *now, gw_conf *before, FILE *to);

#endif
