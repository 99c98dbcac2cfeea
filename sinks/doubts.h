/* SPDX-License-Identifier: GPL-3.0-or-later
 * Events that were told before a restart, and whose data turned bad after it. A `detect` stage remembers only what it
 * told itself; of what lies before its beginning it says that it is in doubt (GW_PHASE_DOUBT), and the journal knows
 * the events: each whose branches are all in doubt at its time gets an order to be retracted (orders.h), which the run
 * then carries out like an operator's. Used by the alerts sink, in the journal's thread. */
#ifndef GW_DOUBTS_H
#define GW_DOUBTS_H

#include "sinks/journal.h"

/* Remembers it for as long as the journal is open. GW_EIO: its detail is none of a doubt. */
int gw_doubts_take(gw_journal *j, const gw_event *doubt);
/* Orders what follows from all that was taken; returns how many retractions. Only events of runs whose data were what
 * this run's are: an archive does not withdraw what the sky said. Asked again, it orders nothing twice. */
int gw_doubts_order(gw_journal *j);

#endif
