/* SPDX-License-Identifier: GPL-3.0-or-later
 * What the verbs of `gwstream alerts` share. Each gets a journal that is open for reading and writes to `to`. Only
 * they include this. */
#ifndef GW_CMD_ALERTS_H
#define GW_CMD_ALERTS_H

#include "sinks/journal.h"

#include <stdio.h>

typedef struct gw_alerts_options {
    const char *verb, *id, *journal, *output, *broker, *reason;
    int64_t limit, since_ns;
    bool json, csv, injections, brokers, refused, yes;
} gw_alerts_options;

typedef struct gw_alerts_report {
    const gw_alerts_options *o;
    FILE *to;
    uint64_t rows;
} gw_alerts_report;

typedef int gw_alerts_verb(gw_journal *j, const gw_alerts_options *o, FILE *to);
gw_alerts_verb gw_alerts_list, gw_alerts_show, gw_alerts_export, gw_alerts_efficiency, gw_alerts_stats,
    gw_alerts_retract, gw_alerts_resend;

/* The one id that begins with o->id. GW_EMISSING, GW_EUSAGE when several do. */
int gw_alerts_find(gw_journal *j, const gw_alerts_options *o, char id[GW_EVENT_ID_BYTES]);

/* A row as one line of JSON, as it was published where it was. */
int gw_alerts_line(FILE *to, const gw_journal_row *r);

/* For a person; all return text, "-" where nothing is known. */
const char *gw_alerts_rarity(const gw_event *e, char *text, size_t n); /* "1 per 3.2 d"; "< 1 per ..." */
const char *gw_alerts_milliseconds(double s, char *text, size_t n);
const char *gw_alerts_gps_text(int64_t ns, int decimals, char *text, size_t n);

#endif
