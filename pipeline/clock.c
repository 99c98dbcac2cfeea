/* SPDX-License-Identifier: GPL-3.0-or-later
 * GPS time: samples to nanoseconds and back in exact rational arithmetic, leap seconds, the two clocks of
 * the host. Called from everywhere. It keeps no state and knows no time zone.
 *
 * One warning to callers: a nanosecond is not a sample. Sample 1 at 16384 Hz lies at 61035.15625 ns, its
 * nanosecond is 61035, and the last sample at or before 61035 ns is sample 0. Keep sample numbers. */
#include "pipeline/clock.h"

#include <stdio.h>
#include <sys/timex.h>
#include <time.h>

__extension__ typedef __int128 i128;

enum { GPS_EPOCH_UNIX_S = 315964800, N_LEAPS = 18 };

/* The GPS second that each inserted UTC second (23:59:60) occupies; IERS Bulletin C. UTC then lags GPS by
 * one second more than before. */
static const int64_t leap_gps_s[N_LEAPS] = {
    46828800,   /* 1981-06-30 */
    78364801,   /* 1982-06-30 */
    109900802,  /* 1983-06-30 */
    173059203,  /* 1985-06-30 */
    252028804,  /* 1987-12-31 */
    315187205,  /* 1989-12-31 */
    346723206,  /* 1990-12-31 */
    393984007,  /* 1992-06-30 */
    425520008,  /* 1993-06-30 */
    457056009,  /* 1994-06-30 */
    504489610,  /* 1995-12-31 */
    551750411,  /* 1997-06-30 */
    599184012,  /* 1998-12-31 */
    820108813,  /* 2005-12-31 */
    914803214,  /* 2008-12-31 */
    1025136015, /* 2012-06-30 */
    1119744016, /* 2015-06-30 */
    1167264017, /* 2016-12-31 */
};

static int64_t saturate(i128 v)
{
    return v > INT64_MAX ? INT64_MAX : v < INT64_MIN ? INT64_MIN : (int64_t)v;
}

/* b > 0. C's division rounds towards zero; time before an epoch needs the floor. */
static i128 floor_div(i128 a, i128 b)
{
    return a / b - (a % b < 0);
}

double gw_rate_hz(gw_rate r)
{
    return (double)r.num / (double)r.den;
}

bool gw_rate_equal(gw_rate a, gw_rate b)
{
    return (uint64_t)a.num * b.den == (uint64_t)b.num * a.den;
}

/* The products stay below 2^127: 63 bits of sample, 32 of den, 30 of nanoseconds, 1 for the rounding. */
int64_t gw_sample_to_ns(int64_t sample, gw_rate r, int64_t phase_ns)
{
    i128 twice = (i128)sample * r.den * GW_SECOND_NS * 2;
    return saturate(floor_div(twice + r.num, (i128)r.num * 2) + phase_ns);
}

int64_t gw_sample_at_or_before(int64_t gps_ns, gw_rate r, int64_t phase_ns)
{
    return saturate(floor_div(((i128)gps_ns - phase_ns) * r.num, (i128)r.den * GW_SECOND_NS));
}

int64_t gw_sample_at_or_after(int64_t gps_ns, gw_rate r, int64_t phase_ns)
{
    return saturate(-floor_div(((i128)phase_ns - gps_ns) * r.num, (i128)r.den * GW_SECOND_NS));
}

static int64_t read_clock(clockid_t id)
{
    struct timespec t = {0, 0};
    clock_gettime(id, &t); /* cannot fail with these two ids */
    return (int64_t)t.tv_sec * GW_SECOND_NS + t.tv_nsec;
}

int64_t gw_gps_now_ns(void)
{
    return gw_gps_from_unix_ns(read_clock(CLOCK_REALTIME));
}

int64_t gw_monotonic_ns(void)
{
    return read_clock(CLOCK_MONOTONIC);
}

int64_t gw_gps_from_unix_ns(int64_t unix_ns)
{
    i128 bare_ns = (i128)unix_ns - (i128)GPS_EPOCH_UNIX_S * GW_SECOND_NS; /* GPS, were there no leaps */
    int leaps = 0;
    while (leaps < N_LEAPS && bare_ns >= (i128)(leap_gps_s[leaps] - leaps) * GW_SECOND_NS)
        leaps++;
    return saturate(bare_ns + (i128)leaps * GW_SECOND_NS);
}

/* How many inserted seconds are over at gps_ns. During one, Unix time repeats the second after it. */
static int leaps_over(i128 gps_ns)
{
    int leaps = 0;
    while (leaps < N_LEAPS && gps_ns >= (i128)(leap_gps_s[leaps] + 1) * GW_SECOND_NS)
        leaps++;
    return leaps;
}

int64_t gw_gps_to_unix_ns(int64_t gps_ns)
{
    return saturate((i128)gps_ns + ((i128)GPS_EPOCH_UNIX_S - leaps_over(gps_ns)) * GW_SECOND_NS);
}

const char *gw_gps_utc(int64_t gps_ns, char *text, size_t n)
{
    int64_t gps_ms = (int64_t)floor_div((i128)gps_ns + 500000, 1000000);
    int64_t gps_s = (int64_t)floor_div(gps_ms, 1000);
    int ms = (int)(gps_ms - gps_s * 1000);
    int leaps = leaps_over((i128)gps_s * GW_SECOND_NS);
    bool inside = leaps < N_LEAPS && gps_s == leap_gps_s[leaps];

    /* A leap second is written as the second before it, with 60 in place of 59. */
    time_t unix_s = (time_t)(gps_s + GPS_EPOCH_UNIX_S - leaps - (inside ? 1 : 0));
    struct tm t = {0};
    gmtime_r(&unix_s, &t); /* int64 nanoseconds span the years 1687 to 2272 */
    snprintf(text, n, "%04d-%02d-%02dT%02d:%02d:%02d.%03dZ", t.tm_year + 1900, t.tm_mon + 1, t.tm_mday,
             t.tm_hour, t.tm_min, t.tm_sec + (inside ? 1 : 0), ms);
    return text;
}

bool gw_clock_synchronised(void)
{
    struct timex t = {.modes = 0}; /* ask only */
    int state = adjtimex(&t);
    return state >= 0 && state != TIME_ERROR && !(t.status & STA_UNSYNC);
}
