/* SPDX-License-Identifier: GPL-3.0-or-later
 * How long a live stream is waited for. Arithmetic on times that the caller gives (stream time, and the
 * monotonic clock); reads no clock. Called by live.c, one for all of a source's streams.
 *
 * A block's lag is the moment it arrived minus the stream time of its end. The smallest lag over all streams
 * says when a block can be here at the best; what is not here `patience` after that is overdue. The smallest
 * lag is forgotten after one to two minutes, because the host's clock and the detectors' drift apart.
 *
 * While the source itself is held up (by what is behind it, or because the machine slept), clients keep
 * their blocks and send them afterwards as fast as they can. So the time lost is granted, and melts as fast
 * as time passes: they have as long again to catch up. */
#ifndef GW_PATIENCE_H
#define GW_PATIENCE_H

#include <stdbool.h>
#include <stdint.h>

typedef struct gw_patience {
    int64_t patience_ns; /* set by the caller; all else starts as 0 */
    bool known;
    int64_t before_ns, least_ns,
        since_ns;                  /* smallest lag of the minute before and of this one; its beginning */
    int64_t grace_ns, grace_at_ns; /* granted, and when */
} gw_patience;

/* A block that ends at stream time end_ns has come, in turn. */
void gw_patience_came(gw_patience *p, int64_t end_ns, int64_t now_ns);
/* The source could not listen from since_ns until now_ns. */
void gw_patience_held_up(gw_patience *p, int64_t since_ns, int64_t now_ns);

/* The stream time up to which blocks can be here at the best, or all of them have to be. False: nothing has
 * come yet. */
bool gw_patience_best(const gw_patience *p, int64_t now_ns, int64_t *stream_ns);
bool gw_patience_deadline(const gw_patience *p, int64_t now_ns, int64_t *stream_ns);

#endif
