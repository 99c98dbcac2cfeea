/* SPDX-License-Identifier: GPL-3.0-or-later
 * What a detection says of itself beyond the fields that every event has: members of the JSON object in
 * gw_event.detail, added one by one. Called by detect.c for each event. What does not fit is left out whole,
 * so that the object is always one. */
#ifndef GW_DETAIL_H
#define GW_DETAIL_H

#include "pipeline/stages/candidate.h"
#include "pipeline/stages/model.h"

typedef char gw_detail[sizeof((gw_event *)0)->detail];

/* A new object: the thresholds, and what was subtracted from the strain of each stream before it came here. */
void gw_detail_begin(gw_detail to, double candidate, double alert, const gw_spec *in, int n_in);

/* "arrivals" at each detector with their 1-sigma; nothing where they are not known. */
void gw_detail_add_arrivals(gw_detail to, const gw_model *m, const gw_verdict *v);

/* "networks": those that cleaned what the event rests on (gw_header.networks); nothing where none did. */
void gw_detail_add_networks(gw_detail to, const gw_model *m, const uint64_t networks[GW_MODEL_DETECTORS]);

/* "reason" of a withdrawal: from bad_ns on, so long after the event, these GW_DQ_ bits do not hold. */
void gw_detail_add_reason(gw_detail to, const char *detector, uint64_t lost, int64_t bad_ns,
                          int64_t event_ns);

/* The whole detail of a GW_PHASE_DOUBT: the same of all events from from_ns to to_ns. */
void gw_detail_doubt(gw_detail to, const char *detector, uint64_t lost, int64_t bad_ns, int64_t from_ns,
                     int64_t to_ns);

#endif
