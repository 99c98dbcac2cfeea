/* SPDX-License-Identifier: GPL-3.0-or-later
 * A quoted text (quote.h). Called by the writers of the status file, of specs, and of what commands print. */
#include "pipeline/quote.h"

void gw_quote(FILE *to, const char *s)
{
    fputc('"', to);
    for (; *s; s++) {
        const unsigned char c = (unsigned char)*s;
        if (c == '"' || c == '\\')
            fprintf(to, "\\%c", c);
        else if (c < 0x20 || c == 0x7f)
            fprintf(to, "\\u%04x", c);
        else
            fputc(c, to);
    }
    fputc('"', to);
}
