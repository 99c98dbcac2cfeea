/* SPDX-License-Identifier: GPL-3.0-or-later
 * Whether a graph can stall. A stage that takes from several streams waits for the latest; meanwhile the
 * others queue up, and when their links are full, their producers wait too, perhaps those the latest depends
 * on. Here it is proved that this cannot happen, or the credits are raised until it cannot. Used by
 * graph_credit.c; knows no stages, only times: all in stream nanoseconds.
 *
 * The proof. If all stand still, each stage waits for another: for the data of a producer on an empty link,
 * or for room on a full link to a consumer. These waits form a circle. With S the stream time that a stage
 * has sent: a stage v that lacks data of u has S_u < S_v + hold_v; a stage u that lacks room to v has S_u >=
 * S_v + least_v
 * + room. Round a circle the S cancel; what is left is a condition on the numbers alone. Where no circle
 * of waits fulfils it, the graph cannot stall, in any timing. */
#ifndef GW_SLACK_H
#define GW_SLACK_H

#include "pipeline/error.h"

#include <stdint.h>

/* Messages of each link that the proof does not count on: a full one is partly read, and a hole cuts one
 * block into fragment, GAP, fragment. */
enum { GW_SLACK_SPARE = 3 };

typedef struct gw_slack_stage {
    int64_t hold_ns;  /* it may have sent this much less than it has been given */
    int64_t least_ns; /* and has certainly sent this much less once it has all inputs of its next hop */
    int64_t skew_ns;  /* one of its outputs may be this much ahead of another */
} gw_slack_stage;

/* A link between two stages (sinks take whatever comes, so nobody waits for one for ever). */
typedef struct gw_slack_link {
    int from, to;       /* stages; from's come first in the array */
    int port;           /* from's output */
    int64_t message_ns; /* stream time of a message */
    int credit;         /* messages in flight */
    bool drops;         /* never makes its producer wait */
    bool fixed;         /* the credit may not be raised */
} gw_slack_link;

/* Raises credits where a stall is possible; `stage` has one for every number in `link`. -1: none is possible
 * now. Else the number of a fixed link that has too few; its credit is then the least that would do, and
 * *waits_for the link whose data its consumer waits for meanwhile (-1: none). GW_SLACK_ENOMEM. */
enum { GW_SLACK_ENOMEM = -2 };
int gw_slack_fit(gw_slack_link *link, int n_links, const gw_slack_stage *stage, int *waits_for);

#endif
