/* SPDX-License-Identifier: GPL-3.0-or-later
 * A text between quotes as JSON, and a double-quoted scalar of YAML, have it: for who writes either to a file. */
#ifndef GW_QUOTE_H
#define GW_QUOTE_H

#include <stdio.h>

/* `s` is UTF-8; its quotes, backslashes and control characters are escaped. Errors stay in the stream. */
void gw_quote(FILE *to, const char *s);

#endif
