/* SPDX-License-Identifier: GPL-3.0-or-later
 * Events: a detection on its way to the sinks; and, from a simulation, the truth that it should have
 * found. A few hundred bytes by value, never lost: an event's link waits, it never drops. */
#ifndef GW_EVENT_H
#define GW_EVENT_H

#include "pipeline/clock.h"
#include "pipeline/error.h"

typedef enum gw_phase {
    GW_PHASE_FIRST = 1, /* the statistic crossed the candidate threshold */
    GW_PHASE_UPDATE,    /* it has grown past the alert threshold, or the time estimate moved */
    GW_PHASE_FINAL,     /* the peak; only a louder one within the refractory time re-opens the event */
    GW_PHASE_RETRACTED,
    GW_PHASE_INJECTION,  /* not a detection: a source says what it injected */
    GW_PHASE_REACHED,    /* not a detection: `stream` says nothing more with this told_ns or an earlier one */
    GW_PHASE_BACKGROUND, /* not a detection: how often noise does what `stream` finds (noise_rate.h) */
    GW_PHASE_DOUBT /* not a detection: what was said by `stream` before it began, and is not in its memory, of events
                      with detail's "from_ns" <= gps_ns <= "to_ns", is withdrawn for its "reason" at "bad_ns" */
} gw_phase;
const char *gw_phase_text(gw_phase p); /* "first" ... */

#define GW_EVENT_ID_BYTES 24
#define GW_NOT_KNOWN_NS   INT64_MIN

/* One more with each change of gw_event: both ends of a feed between processes must have the same. */
#define GW_EVENT_LAYOUT 2
typedef struct gw_event {
    char id[GW_EVENT_ID_BYTES]; /* "G" and 16 hex digits: of GPS second, detectors, model, stream */
    gw_phase phase;
    int64_t gps_ns;                     /* coalescence arrival, at the detector where it is later */
    double gps_error_s;                 /* 1-sigma of gps_ns; NAN where not known */
    char detectors[32];                 /* "H1,L1": sorted, comma separated */
    char stream[GW_EVENT_ID_BYTES * 2]; /* branch of the graph it was found in */
    double statistic;                   /* the ranking statistic (smoothed raw logit) */
    double noise_rate_hz; /* how often noise alone reaches it: (n + 1) / T of the card's background */
    double background_s;  /* T */
    bool alert;           /* above the alert threshold, not only the candidate threshold */
    bool injection;       /* from block flags or data-quality bits */
    bool archived;        /* any of its samples were marked as archived data (GW_FLAG_REPLAY) */
    bool searched; /* REACHED: what came since the stage's last one was searched, not lost or only history */
    uint64_t dq;   /* GW_DQ_ bits common to all detectors over the event */
    char model[48], model_hash[24]; /* name; first 16 hex digits of the file's SHA-256 */
    char card_hash[24];
    int64_t told_ns; /* stream time at which it could be said: the data it rests on, and its branch's
                        look-ahead */
    /* When: GPS wall clock. */
    int64_t due_ns;     /* last sample that was needed was taken (stream time) */
    int64_t ingest_ns;  /* ... was first in this program */
    int64_t decided_ns; /* the stage decided */
    /* How stream time maps to the wall (from the spec); pace 0: as fast as it goes, no latency exists. */
    double pace;
    int64_t anchor_wall_ns, anchor_data_ns;
    char detail[2048]; /* a JSON object or "". Injections: their parameters. Detections: further members of
                          the event's JSON: thresholds, cleaning, branches */
} gw_event;

/* Seconds from the arrival of the signal to `wall_ns`, at pace 1; NAN when there is no such thing. */
double gw_event_latency_s(const gw_event *e, int64_t wall_ns);

/* One line of JSON without newline. published_ns = GW_NOT_KNOWN_NS leaves the publication's own fields
 * null. Returns the length, or GW_ERANGE when n is too small (6 KiB always does). */
int gw_event_json(const gw_event *e, int64_t published_ns, char *text, size_t n);

#endif
