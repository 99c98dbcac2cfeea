/* SPDX-License-Identifier: GPL-3.0-or-later
 * From the network's frames to candidates: smoothing, clustering, arrival time, and when to say what.
 * Pure logic, used by detect.c: it knows no files, clocks, threads or networks. A decision depends on
 * the frames alone, never on how they were grouped: a frame is `hop_samples` samples on the absolute
 * grid, frame f ends (exclusive) at sample (f + 1) * hop_samples, counted from GPS 0 + phase.
 *
 * The ranking statistic of a frame is the mean of the last `smoothing_frames` logits.
 *
 * One event is one cluster in time:
 *   FIRST   the statistic reaches the candidate threshold, no cluster being near. The event is open.
 *   UPDATE  while open: at once when the peak first reaches the alert threshold; else, at most every
 *           0.25 s, when the peak has grown by more than 1 or its arrival time moved by more than 10 ms
 *           since they were last told.
 *   FINAL   the peak's statistic and arrival time, when 0.5 s long the statistic has stayed below the
 *           candidate threshold or more than 2 below the peak; at the latest one window after the peak (by
 *           then no sample of the peak's window is seen any more); at a hole; at the end.
 *   After FINAL, until `refractory_s` after the peak, what is not louder belongs to the same signal and
 *   is not told. What is louder re-opens the event: an UPDATE with the new peak, later a FINAL, and the
 *   refractory time counts from the new peak. What comes later is a new event.
 *   RETRACTED  when gw_candidate_withdraw says so, once, after FINAL, and for good: what follows within the
 *           refractory time is not told, however loud.
 * At most one verdict a frame.
 *
 * Arrival times. The scores a_i, b_j of the columns of two detectors are log-probabilities, unnormalised,
 * that the signal arrives there. Of all pairs (i, j) in the last reach_s before the end of the peak's frame
 * that lie no further apart than light travels (and one column: each is right to half its length), take the
 * best, and of those pairs all with both columns within 3 of it; each has the weight exp(a_i + b_j). Then, of
 * the columns' centres,
 *   arrival at a detector   the mean, plus arrival_offset_s, less arrival_skew standard deviations: the
 *                           less is known of a time, the longer is the tail after it. The event's time is the
 *                           later of the two
 *   1-sigma of each         sqrt((arrival_sigma_scale * standard deviation)^2 + arrival_sigma_floor_s^2)
 * Of a `first` the arrival may not be in the scores yet: where the pairs round the best have less than half of
 * the weight of all, the deviation is that of all; where columns round it are still to come, their length is
 * added in quadrature. What is final is hardly ever one of these.
 * A peak soon after the start or a hole may be a late one, of what was over before there was a statistic: then
 * the columns of its whole window are looked through. Where the best pair lies among the first of all, the
 * signal may have come before them: it gives the event's time, but no arrival and no error is told.
 * Offset, skew, scale and floor come with the network, from signals that it was tried on: what whitening and
 * network add to a time is in them. More columns change nothing (tried: 3 to 10); the mean of the later column
 * of each pair would be late by up to 1.5 ms where both detectors hear the signal at once. */
#ifndef GW_CANDIDATE_H
#define GW_CANDIDATE_H

#include "pipeline/event.h"

typedef struct gw_candidate gw_candidate;

enum { GW_CANDIDATE_DETECTORS = 2 };

typedef struct gw_candidate_conf {
    gw_rate rate; /* of the samples */
    int64_t phase_ns;
    uint32_t hop_samples;
    uint32_t window_samples; /* what one logit has seen; a multiple of hop_samples */
    uint32_t smoothing_frames;
    double candidate, alert; /* thresholds of the statistic; alert >= candidate */
    double refractory_s;
    uint32_t
        arrival_samples;     /* samples a column of arrival scores, a divisor of hop_samples; 0 = no scores */
    uint32_t arrival_warmup; /* the first so many columns after the start or a hole are worth little */
    double travel_s;         /* light travel time between the two detectors */
    double reach_s;          /* arrivals are looked for this far back from the end of the peak's frame */
    double arrival_offset_s; /* added to an arrival found from scores */
    double arrival_skew;     /* of the standard deviation; 0 to 10 */
    double arrival_sigma_scale, arrival_sigma_floor_s;
    double peak_offset_s; /* arrival minus end of the peak's frame, where there are no scores */
} gw_candidate_conf;

typedef struct gw_frame {
    int64_t index;
    float logit; /* NAN: as yet the network has not seen a whole window. All else of the frame counts */
    /* Scores of the frame's columns, [detector][hop_samples / arrival_samples], detectors
     * arrival_stride floats apart; ignored without arrival_samples. */
    const float *arrival;
    size_t arrival_stride;
    uint64_t dq;    /* GW_DQ_ bits that hold in all detectors */
    bool injection; /* a simulated or hardware injection is in the frame's samples */
    bool archived;  /* archived data are among them */
} gw_frame;

typedef struct gw_verdict {
    gw_phase phase;
    int64_t gps_ns;                             /* arrival at the later detector, of the peak so far */
    double gps_error_s;                         /* its 1-sigma; NAN where not known */
    int64_t arrival_ns[GW_CANDIDATE_DETECTORS]; /* at each detector; GW_NOT_KNOWN_NS with that NAN */
    double arrival_error_s[GW_CANDIDATE_DETECTORS];
    int64_t first_gps_ns; /* the same as it was told with FIRST: constant for the event */
    int64_t peak_frame;
    double statistic; /* at the peak so far */
    bool alert;
    bool injection, archived; /* any frame of the peak's window */
    uint64_t dq;              /* holds over the last second before the peak's end */
} gw_verdict;

/* Allocates everything. GW_ERANGE for a configuration that contradicts itself; GW_ENOMEM. */
int gw_candidate_new(gw_candidate **c, const gw_candidate_conf *conf);
void gw_candidate_destroy(gw_candidate **c);

/* The next frame; its index follows the last one's, except after gw_candidate_gap (GW_EBUG otherwise). The
 * first ones after the start or a hole come too, without a logit. *statistic is NAN while fewer than
 * smoothing_frames logits have come since. Returns 1 with *v filled, 0 with nothing to say, or an error. A
 * logit that is not a number makes no candidate. */
int gw_candidate_frame(gw_candidate *c, const gw_frame *f, double *statistic, gw_verdict *v);

/* A hole or the end: finalises an open event (1 and *v, else 0) and forgets the frames, not the cluster. */
int gw_candidate_gap(gw_candidate *c, gw_verdict *v);

/* The data from GPS time bad_ns on are bad: withdraws the last event if it lies no more than `within_ns` before
 * that, or up to a window after it. Once (1 and *v, else 0), and only what is final: after gw_candidate_gap. */
int gw_candidate_withdraw(gw_candidate *c, int64_t bad_ns, int64_t within_ns, gw_verdict *v);

#endif
