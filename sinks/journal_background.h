/* SPDX-License-Identifier: GPL-3.0-or-later
 * What a live background did, minute by minute, in the journal: which of its slides ran and which seconds, so
 * that a replay of the recording can do the same (`skipped:` of the stage `background`, ration.h, which reads
 * the table). Used by alerts.c.
 *
 *   background (stage TEXT, minute_gps INTEGER, slides_run INTEGER, hops INTEGER, slid_s REAL)
 *     at GPS minute_gps the stage had slid the seconds minute_gps - 60 + i, for each bit i of hops, and slid_s
 *     in all; from then on it ran slides_run slides. What was said of a minute first stands. */
#ifndef GW_JOURNAL_BACKGROUND_H
#define GW_JOURNAL_BACKGROUND_H

#include "sinks/journal.h"

/* Keeps the table of a background (GW_PHASE_BACKGROUND) of a run at pace 1, where it says which slides ran;
 * others are nothing to keep. In the journal's thread. */
int gw_journal_put_background(gw_journal *j, const gw_event *table);

#endif
