/* SPDX-License-Identifier: GPL-3.0-or-later
 * GPS time against Python's fractions and datetime (the tables below), the published times of three
 * mergers, and the host's own list of leap seconds where it has one. */
#include "pipeline/clock.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

/* From Python: ns = floor(n * den * 10^9 / num + 1/2) + phase; before and after are floor and ceil of
 * (at - phase) * num / (den * 10^9), all with fractions.Fraction. */
static const struct {
    gw_rate rate;
    int64_t phase_ns, sample, ns, at_ns, before, after;
} exact[] = {
    {{16384, 1}, 1126259462391000000, 1, 1126259462391061035, 1126259462391061035, 0, 1},
    {{16384, 1}, 1126259462391000000, -1, 1126259462390938965, 1126259462390938965, -1, 0},
    {{16384, 1}, -7, 3, 183098, 183097, 2, 3},
    {{16384, 1}, 0, -636343332, -38839314697266, -38839314684921, -636343332, -636343331},
    {{16384, 1},
     1126259462391000000,
     9176387590986,
     1686341712817391602,
     1686341712817403947,
     9176387590986,
     9176387590987},
    {{4096, 1}, 0, -1, -244141, -244141, -2, -1},
    {{4096, 1}, 1, 416425, 101666259767, 101666259767, 416425, 416426},
    {{2048, 1}, -7, 0, -7, 12338, 0, 1},
    {{2048, 1}, 0, 748819, 365634277344, 365634277343, 748818, 748819},
    {{16, 1}, 1, -894939241, -55933702562499999, -55933702562499999, -894939241, -894939241},
    {{1, 60}, -7, 1, 59999999993, 59999999994, 1, 2},
    {{1, 60}, 0, -1, -60000000000, -60000000001, -2, -1},
    {{1, 60}, 0, 505415, 30324900000000000, 30324900000000000, 505415, 505415},
    {{44100, 1}, 1, 23289831140796, 528114084825306123, 528114084825306122, 23289831140795, 23289831140796},
    {{1000000, 1001}, -7, -1, -1001007, -988662, -1, 0},
    {{1000000, 1001}, 1126259462391000000, 163786, 1126259626340786000, 1126259626340786000, 163786, 163786},
    {{4294967295u, 1}, 0, -773428319, -180077813, -180065468, -773375297, -773375296},
    {{1, 4294967295u}, 1, 1, 4294967295000000001, 4294967295000000000, 0, 1},
    {{3, 7}, 0, -674276951, -1573312885666666667, -1573312885666666667, -674276952, -674276951},
};

/* From Python's datetime: seconds since 1980-01-06 plus the leap seconds inserted until then. */
static const struct {
    int64_t gps_s;
    const char *utc;
} moment[] = {
    {-432001, "1979-12-31T23:59:59.000Z"},
    {0, "1980-01-06T00:00:00.000Z"},
    {46828799, "1981-06-30T23:59:59.000Z"},
    {46828801, "1981-07-01T00:00:00.000Z"},
    {425520007, "1993-06-30T23:59:59.000Z"},
    {425520009, "1993-07-01T00:00:00.000Z"},
    {635860813, "2000-02-29T12:00:00.000Z"},
    {1126259462, "2015-09-14T09:50:45.000Z"}, /* GW150914 */
    {1167264016, "2016-12-31T23:59:59.000Z"},
    {1167264018, "2017-01-01T00:00:00.000Z"},
    {1167559936, "2017-01-04T10:11:58.000Z"},
    {1187008882, "2017-08-17T12:41:04.000Z"}, /* GW170104, GW170817 */
    {1262304018, "2020-01-06T00:00:00.000Z"},
    {3791577618, "2100-03-01T00:00:00.000Z"},
    {8898681617, "2261-12-31T23:59:59.000Z"},
};

/* GPS minus UTC from each date on, as the International Earth Rotation Service announced it. */
static const struct {
    int year, month, gps_minus_utc_s;
} offset[] = {{1980, 1, 0},  {1981, 7, 1},  {1982, 7, 2},  {1983, 7, 3},  {1985, 7, 4},
              {1988, 1, 5},  {1990, 1, 6},  {1991, 1, 7},  {1992, 7, 8},  {1993, 7, 9},
              {1994, 7, 10}, {1996, 1, 11}, {1997, 7, 12}, {1999, 1, 13}, {2006, 1, 14},
              {2009, 1, 15}, {2012, 7, 16}, {2015, 7, 17}, {2017, 1, 18}};
#define COUNT(a) (sizeof(a) / sizeof *(a))

static const int64_t epoch_s = 315964800;

static void samples_convert_exactly(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(exact); i++) {
        gw_rate r = exact[i].rate;
        assert_int_equal(gw_sample_to_ns(exact[i].sample, r, exact[i].phase_ns), exact[i].ns);
        assert_int_equal(gw_sample_at_or_before(exact[i].at_ns, r, exact[i].phase_ns), exact[i].before);
        assert_int_equal(gw_sample_at_or_after(exact[i].at_ns, r, exact[i].phase_ns), exact[i].after);
    }
    for (int64_t s = 1400000000; s < 1400000100; s++) /* whole seconds are whole samples */
        assert_int_equal(gw_sample_at_or_before(s * GW_SECOND_NS, (gw_rate){16384, 1}, 0), s * 16384);
}

static void far_ends_saturate(void **state)
{
    (void)state;
    gw_rate slow = {1, UINT32_MAX}, fast = {UINT32_MAX, 1};
    assert_int_equal(gw_sample_to_ns(INT64_MAX, slow, 0), INT64_MAX);
    assert_int_equal(gw_sample_to_ns(INT64_MIN, slow, 0), INT64_MIN);
    assert_int_equal(gw_sample_at_or_before(INT64_MAX, fast, INT64_MIN), INT64_MAX);
    assert_int_equal(gw_sample_at_or_after(INT64_MIN, fast, INT64_MAX), INT64_MIN);
    char text[32];
    assert_string_equal(gw_gps_utc(INT64_MAX, text, sizeof text), "2272-04-15T23:46:58.855Z");
    assert_string_equal(gw_gps_utc(INT64_MIN, text, sizeof text), "1687-09-26T00:12:43.145Z");
    assert_int_equal(gw_gps_from_unix_ns(INT64_MIN), INT64_MIN);
    assert_int_equal(gw_gps_to_unix_ns(INT64_MAX), INT64_MAX);
}

static void rates_compare(void **state)
{
    (void)state;
    assert_true(gw_rate_equal((gw_rate){2048, 1}, (gw_rate){4096, 2}));
    assert_false(gw_rate_equal((gw_rate){2048, 1}, (gw_rate){2048, 2}));
    assert_true(gw_rate_hz((gw_rate){1, 4}) > 0.2499 && gw_rate_hz((gw_rate){1, 4}) < 0.2501);
}

static void utc_reads_as_published(void **state)
{
    (void)state;
    char text[32];
    for (size_t i = 0; i < COUNT(moment); i++) {
        assert_string_equal(gw_gps_utc(moment[i].gps_s * GW_SECOND_NS, text, sizeof text), moment[i].utc);
        int64_t unix_ns = gw_gps_to_unix_ns(moment[i].gps_s * GW_SECOND_NS + 123);
        assert_int_equal(gw_gps_from_unix_ns(unix_ns), moment[i].gps_s * GW_SECOND_NS + 123);
    }
    assert_string_equal(gw_gps_utc(1126259462391000000, text, sizeof text), "2015-09-14T09:50:45.391Z");
}

static void utc_rounds_to_milliseconds(void **state)
{
    (void)state;
    char text[32];
    int64_t day = 1126259462 * GW_SECOND_NS;
    assert_string_equal(gw_gps_utc(day + 499999, text, sizeof text), "2015-09-14T09:50:45.000Z");
    assert_string_equal(gw_gps_utc(day + 500000, text, sizeof text), "2015-09-14T09:50:45.001Z");
    assert_string_equal(gw_gps_utc(day - 1, text, sizeof text), "2015-09-14T09:50:45.000Z");
    assert_string_equal(gw_gps_utc(-400000000, text, sizeof text), "1980-01-05T23:59:59.600Z");
}

static void a_leap_second_has_second_60(void **state)
{
    (void)state;
    char text[32];
    int64_t leap = 1167264017 * GW_SECOND_NS;
    assert_string_equal(gw_gps_utc(leap - 600000, text, sizeof text), "2016-12-31T23:59:59.999Z");
    assert_string_equal(gw_gps_utc(leap - 400000, text, sizeof text), "2016-12-31T23:59:60.000Z");
    assert_string_equal(gw_gps_utc(leap + 500000000, text, sizeof text), "2016-12-31T23:59:60.500Z");
    assert_string_equal(gw_gps_utc(leap + 999600000, text, sizeof text), "2017-01-01T00:00:00.000Z");
}

static void offsets_follow_the_bulletins(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(offset); i++) {
        struct tm t = {.tm_year = offset[i].year - 1900, .tm_mon = offset[i].month - 1, .tm_mday = i ? 1 : 6};
        int64_t unix_s = timegm(&t);
        int64_t gps_s = gw_gps_from_unix_ns(unix_s * GW_SECOND_NS) / GW_SECOND_NS;
        assert_int_equal(gps_s - (unix_s - epoch_s), offset[i].gps_minus_utc_s);
        if (i) {
            int64_t before_s = gw_gps_from_unix_ns((unix_s - 1) * GW_SECOND_NS) / GW_SECOND_NS;
            assert_int_equal(gps_s - before_s, 2);
        }
    }
}

/* Lines "NTP-seconds TAI-UTC"; NTP counts from 1900, TAI is 19 s ahead of GPS. */
static void offsets_follow_the_host(void **state)
{
    (void)state;
    FILE *in = fopen("/usr/share/zoneinfo/leap-seconds.list", "r");
    if (!in) {
        print_message("no /usr/share/zoneinfo/leap-seconds.list here: not compared\n");
        skip();
    }
    char line[256];
    int seen = 0;
    while (fgets(line, sizeof line, in)) {
        long long ntp_s;
        int tai_minus_utc_s;
        if (*line == '#' || sscanf(line, "%lld %d", &ntp_s, &tai_minus_utc_s) != 2)
            continue;
        int64_t unix_s = ntp_s - INT64_C(2208988800);
        if (unix_s < epoch_s)
            continue;
        int64_t gps_s = gw_gps_from_unix_ns(unix_s * GW_SECOND_NS) / GW_SECOND_NS;
        assert_int_equal(gps_s - (unix_s - epoch_s), tai_minus_utc_s - 19);
        seen++;
    }
    fclose(in);
    assert_true(seen >= 18);
}

static void the_host_has_clocks(void **state)
{
    (void)state;
    int64_t unix_s = (int64_t)time(NULL);
    int64_t gps_s = gw_gps_now_ns() / GW_SECOND_NS;
    assert_in_range(gps_s - (unix_s - epoch_s + 18) + 2, 0, 4);
    int64_t a = gw_monotonic_ns(), b = gw_monotonic_ns();
    assert_true(a > 0 && b >= a);
    (void)gw_clock_synchronised(); /* either answer is right */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(samples_convert_exactly),
        cmocka_unit_test(far_ends_saturate),
        cmocka_unit_test(rates_compare),
        cmocka_unit_test(utc_reads_as_published),
        cmocka_unit_test(utc_rounds_to_milliseconds),
        cmocka_unit_test(a_leap_second_has_second_60),
        cmocka_unit_test(offsets_follow_the_bulletins),
        cmocka_unit_test(offsets_follow_the_host),
        cmocka_unit_test(the_host_has_clocks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
