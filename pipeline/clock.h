/* SPDX-License-Identifier: GPL-3.0-or-later
 * Time. Inside the program everything is GPS: integer nanoseconds since 1980-01-06T00:00:00 UTC
 * without leap seconds, or a sample number at a rational rate. UTC exists only at the edges. */
#ifndef GW_CLOCK_H
#define GW_CLOCK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define GW_SECOND_NS INT64_C(1000000000)

/* A rational sample rate in Hz: num / den, both positive, lowest terms. */
typedef struct gw_rate {
    uint32_t num, den;
} gw_rate;

double gw_rate_hz(gw_rate r);
bool gw_rate_equal(gw_rate a, gw_rate b);

/* Sample n of a stream lies at GPS time phase_ns + n * den / num seconds. These convert exactly
 * (128-bit arithmetic), rounding to the nearest nanosecond, and down / up to a whole sample. */
int64_t gw_sample_to_ns(int64_t sample, gw_rate r, int64_t phase_ns);
int64_t gw_sample_at_or_before(int64_t gps_ns, gw_rate r, int64_t phase_ns);
int64_t gw_sample_at_or_after(int64_t gps_ns, gw_rate r, int64_t phase_ns);

/* Wall clock as GPS nanoseconds, and monotonic nanoseconds for intervals. */
int64_t gw_gps_now_ns(void);
int64_t gw_monotonic_ns(void);

/* Leap seconds by table (last: 2017-01-01). Unix time has no value for a leap second itself; both
 * functions are exact everywhere else. */
int64_t gw_gps_from_unix_ns(int64_t unix_ns);
int64_t gw_gps_to_unix_ns(int64_t gps_ns);

/* "2015-09-14T09:50:45.391Z": ISO 8601 UTC with milliseconds, rounded to nearest. Returns `text`. A time
 * inside a leap second is written with second 60. n >= 32. */
const char *gw_gps_utc(int64_t gps_ns, char *text, size_t n);

/* Whether the host's clock is disciplined (adjtimex); false also when that cannot be asked. */
bool gw_clock_synchronised(void);

/* Stream time against the wall. pace > 0: stream time `anchor_data_ns` is due at GPS wall time
 * `anchor_wall_ns` and stream time runs `pace` times as fast. pace 0: as fast as it goes. Set once per
 * graph, by the first source that calls gw_env_start(), or by what the sender of a link says. */
typedef struct gw_timebase {
    double pace;
    int64_t anchor_wall_ns, anchor_data_ns;
} gw_timebase;

#endif
