/* SPDX-License-Identifier: GPL-3.0-or-later
 * One event out of several branches (raw and cleaned strain, several models, several pairs of detectors), each
 * with a detect stage of its own. Pure logic, used by alerts.c before its journal: it knows no files, clocks
 * or threads. What one branch says is candidate.h's; here the branches' words become one event's:
 *
 *   FIRST   what the branch that spoke first said, at once: no branch waits for another
 *   UPDATE  while open: at once when a word first is an alert's; else, at most every 0.25 s, when since they
 *           were last told the best word's rate has fallen to less than half, its statistic (of one model)
 *           grown by more than 1, or its time moved by more than 10 ms
 *   FINAL   each branch that opened the event has said FINAL; one that has not, and was silent for 10 s of
 *           stream time, is not waited for
 *   After FINAL a better word (by more than 1 % in rate, of another model) within the refractory time of the
 *   peak is an UPDATE again, and a FINAL follows; what is not belongs to the same signal and is not told. RETRACTED: every branch has
 *   withdrawn its word.
 *
 * Better is what noise alone does less often (noise_rate_hz); of one model, where rates are within 1 %, the
 * statistic that is higher by more than 0.01: branches on the same data differ by rounding. An event
 * tells the best word, except: its id; `injection`, `archived` if any branch's; `alert` as well, and then for good: by a live
 * background where the rate times the trials is one a day or less, else as the branch says; `detectors` of all branches that
 * see it, `dq` what holds in all of them; noise_rate_hz times the trials; and in detail, beside the best word's
 * own members, "trials", "arrivals" at each detector, the best word's before others', and "branches": each
 * branch's last word with its own rate and, as far as there is room, its own members. RETRACTED has the detail
 * of the word that withdrew it.
 *
 * Trials: the branches that have a word in the event or were searching. A branch searches at stream time t
 * if it has said of some stretch within 3/4 s before t that it was searched (gw_merge_reached). Where words are
 * not held, a branch that is behind the others by its way through the program is not taken for one that is
 * silent: t is at most what the first of them has reached. So a detector that is lost is out of the rate within
 * a second, and back as soon as it is searched again.
 *
 * The id is a hash of the first word's GPS second and of the group's name. A word belongs to the event whose
 * peak is nearest and within `refractory_ns`, unless that peak is of another event of the same branch; else to that which holds the branch's event of this id; else to
 * one that `known` knows of (of an earlier run); else it is a new one's.
 *
 * Order. Where pace is 1 words count as they come, and a table from its own told_ns on. Elsewhere no latency exists and the result must not depend
 * on threads: words are held until every branch is known to be past them, then count in the order of told_ns,
 * the stream time at which they could be said; equal ones in the order of the branches. */
#ifndef GW_MERGE_H
#define GW_MERGE_H

#include "pipeline/event.h"

typedef struct gw_merge gw_merge;

enum { GW_MERGE_BRANCHES = 16 };

/* An event of this group that was kept before, whose FIRST lies nearest to gps_ns and within refractory_ns: 1
 * and its id; 0 if there is none; or an error. gw_merge_has_id says whether an id and the GPS time of its
 * FIRST are of a group. */
typedef int gw_merge_known(void *user, int64_t gps_ns, int64_t refractory_ns, char id[GW_EVENT_ID_BYTES]);

typedef struct gw_merge_conf {
    const char *group;                     /* the sink's name; borrowed */
    int n_branches;                        /* 1 .. GW_MERGE_BRANCHES */
    const char *branch[GW_MERGE_BRANCHES]; /* what their events have as `stream`; borrowed */
    int64_t refractory_ns;
    gw_merge_known *known; /* NULL: none */
    /* Stages that measure a background (GW_PHASE_BACKGROUND): their tables take their place in the order of
     * the words, and are then handed to `table`; `rate` may give a word the rate that it has by them. */
    int n_tables;
    const char *table_of[GW_MERGE_BRANCHES]; /* borrowed */
    int (*table)(void *user, const gw_event *e);
    bool (*rate)(void *user, gw_event *word); /* whether it has */
    void *user;
} gw_merge_conf;

int gw_merge_new(gw_merge **m, const gw_merge_conf *conf); /* GW_ENOMEM, GW_ESYSTEM */
void gw_merge_destroy(gw_merge **m);

/* Whether the events of this stream are of one of the branches. */
bool gw_merge_has_branch(const gw_merge *m, const char *stream);
bool gw_merge_has_id(const char *group, int64_t first_gps_ns, const char *id);

/* A branch's word, or a table. After it, after reached and after end: gw_merge_next until it returns 0. */
int gw_merge_take(gw_merge *m, const gw_event *e); /* GW_ENOMEM */
/* This branch says nothing more whose told_ns is at or before this; whether it searched since the last time.
 * GW_ENOMEM. */
int gw_merge_reached(gw_merge *m, const char *stream, int64_t told_ns, bool searched);
/* No branch will say anything more. */
void gw_merge_end(gw_merge *m);
/* 1: *e is to be told. 0: nothing now. */
int gw_merge_next(gw_merge *m, gw_event *e);

#endif
