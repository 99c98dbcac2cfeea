/* SPDX-License-Identifier: GPL-3.0-or-later
 * What a courier carries in memory, because the journal cannot: rows that it could not take yet, and are sent all the
 * same; notes that are no events; and what a broker has said to rows while that could not be written down. Put in by
 * the alerts sink, taken out by the courier's thread. A row is known by its event's id, phase and serial. */
#ifndef GW_SATCHEL_H
#define GW_SATCHEL_H

#include "sinks/outbox.h"

typedef struct gw_satchel gw_satchel;

int gw_satchel_new(gw_satchel **s); /* GW_ENOMEM */
void gw_satchel_destroy(gw_satchel **s);

/* To be sent. GW_ENOMEM: not taken. */
int gw_satchel_post(gw_satchel *s, const gw_outbox_row *row);
/* Adds copies of what is to be sent to rows[*n], oldest first, none of an id that is there already. */
void gw_satchel_take(gw_satchel *s, gw_outbox_row *row, int *n, int max);
/* The journal has this row: it is sent from there. */
void gw_satchel_leave(gw_satchel *s, const gw_outbox_row *row);
/* The broker has answered (row->refused, row->acked_ns). A note is done with; a row stays until it is settled. */
void gw_satchel_answered(gw_satchel *s, const gw_outbox_row *row);
/* Whether the broker has answered and it is not settled yet. */
bool gw_satchel_is_answered(void *satchel, const gw_event *e, int serial);
/* Settles all answers in the journal, as far as it goes. */
int gw_satchel_settle(gw_satchel *s, gw_outbox *o);
int gw_satchel_waiting(gw_satchel *s);
bool gw_satchel_is_empty(gw_satchel *s); /* nothing waits, and all is settled */

#endif
