/* SPDX-License-Identifier: GPL-3.0-or-later
 * A ranking as files: a table to read, JSON, a list of names for `denoise`, a picture. Called by rank.c. Each
 * is written beside its place and renamed, so that a reader sees the old one or the new one, whole. */
#ifndef GW_RANK_WRITE_H
#define GW_RANK_WRITE_H

#include "sinks/rank_table.h"

/* `rows`: how many channels the table tells of besides those chosen, and JSON with their coherences. */
int gw_rank_write_table(const gw_rank_table *t, const gw_rank_spectra *s, uint32_t rows, const char *path);
int gw_rank_write_json(const gw_rank_table *t, const gw_rank_spectra *s, uint32_t rows, const char *path);
int gw_rank_write_list(const gw_rank_table *t, const char *path); /* the chosen ones, a name a line */
/* PNG: coherence of the first channels in every bin of every target, and what each leaves (rank_plot.c). */
int gw_rank_write_picture(const gw_rank_table *t, const gw_rank_spectra *s, const char *path);

#endif
