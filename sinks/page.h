/* SPDX-License-Identifier: GPL-3.0-or-later
 * An HTML file that stands alone: its style and its pictures are in it, nothing is fetched, nothing runs.
 * What report_page.c (cleaning) and evaluation_page.c (a search) share. */
#ifndef GW_PAGE_H
#define GW_PAGE_H

#include "sinks/chart.h"

#include <stdio.h>

typedef struct gw_page gw_page;

/* Begins a file that becomes `path` when it is finished, or never. GW_EIO: it cannot be written. */
int gw_page_new(gw_page **p, const char *path, const char *title);
void gw_page_destroy(gw_page **p);
FILE *gw_page_file(gw_page *p); /* where the page's body is written to */
int gw_page_finish(gw_page *p); /* GW_EIO: the disk does not take it; then there is no file */
/* gw_fail of a write that errno tells of. */
int gw_page_fail(const gw_page *p);

/* Text with what HTML would take for its own escaped. */
void gw_page_text(FILE *to, const char *text);
/* The chart (SVG) as a picture in the page; `what` stands for it. GW_EIO, GW_ENOMEM. */
int gw_page_figure(FILE *to, const gw_chart *c, const char *what);

#endif
