/* SPDX-License-Identifier: GPL-3.0-or-later
 * A journal in figures for `gwstream alerts stats`: how long alerts took, and what became of them. Reads only.
 *
 * Latencies are of the first word of each event (for a broker: the first that it had, which may be the update that
 * went over the alert threshold), of runs that kept pace with the clock (pace 1), in the words of the field:
 *   signal    merger -> the last sample that the search needed was taken   (not a delay of ours but of the method)
 *   data      last sample -> seen by this program
 *   pipeline  seen -> committed to the journal
 *   local     merger -> published on this host
 *   publish   committed -> acknowledged, for each broker
 *   total     merger -> acknowledged, for each broker
 * The merger is where the latest word of the event (retractions apart) puts it: the first word's time may be some
 * 10 ms off. What is not known of a row (NULL in the journal) is left out of the span that needs it, so each span
 * has its own n. Rows that a later run published after a crash have no `local`. */
#ifndef GW_JOURNAL_STATS_H
#define GW_JOURNAL_STATS_H

#include "sinks/journal.h"

typedef struct gw_spread {
    uint64_t n;
    double median_s, p90_s, p95_s, p99_s, max_s; /* NAN when n = 0 */
} gw_spread;

/* Quantiles of x[n], which it sorts; between two values linearly. Those that are NAN are left out. */
void gw_spread_of(double *x, uint64_t n, gw_spread *s);

enum { GW_STATS_BROKERS = 16, GW_STATS_REASONS = 5, GW_STATS_RATES = 6 };

typedef struct gw_broker_stats {
    char name[48];
    uint64_t acked, waiting, refused, again; /* messages; again: acknowledged once, and under way by order */
    uint64_t held;                           /* of those refused: held back in a storm */
    int n_reasons;                           /* why it refused, the most frequent first */
    struct {
        char text[192];
        uint64_t n;
    } reason[GW_STATS_REASONS];
    gw_spread publish, total;
} gw_broker_stats;

typedef struct gw_journal_stats {
    uint64_t phases[GW_PHASE_RETRACTED + 1];                   /* [gw_phase]: rows */
    uint64_t events, alerts, injections, retracted, recovered; /* ids; by their latest word */
    uint64_t timed, untimed;                                   /* `first` at pace 1; at another pace */
    gw_spread signal, data, pipeline, local;
    uint64_t rates[GW_STATS_RATES]; /* ids by noise_rate_hz of their latest word: gw_stats_rate */
    int n_brokers;
    gw_broker_stats broker[GW_STATS_BROKERS];
} gw_journal_stats;

/* "more than 1/h", ... : range i of rates. The last: not known. */
const char *gw_stats_rate(int i);

/* Of words with GPS time since_ns (0 = all) or later. Allocates while it runs. GW_ENOMEM, or the journal's. */
int gw_journal_measure(gw_journal *j, int64_t since_ns, gw_journal_stats *s);

#endif
