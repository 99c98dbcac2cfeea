/* SPDX-License-Identifier: GPL-3.0-or-later
 * For messages about a channel that is not there: the names that are most like the one asked for. */
#ifndef GW_NEAREST_H
#define GW_NEAREST_H

#include "pipeline/block.h"

/* "H1:PEM-MAINS_1, H1:PEM-MAINS_2": up to three channels of in[n_in], the likest first, case aside; "" where
 * no channel has a name. Writes text[n]. */
void gw_nearest_channels(const gw_spec *in, int n_in, const char *name, char *text, size_t n);

#endif
