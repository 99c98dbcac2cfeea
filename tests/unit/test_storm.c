/* SPDX-License-Identifier: GPL-3.0-or-later
 * The limit against a storm, in stream time; and what is said of the host's clock. */
#include "sinks/storm.h"
#include "sinks/wall.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define S      GW_SECOND_NS
#define AT     (1400000000 * S)
#define MINUTE (60 * S)

static bool holds(gw_storm *s, int number, gw_phase phase, int64_t gps_ns)
{
    gw_event e = {.phase = phase, .gps_ns = gps_ns};
    snprintf(e.id, sizeof e.id, "G%d", number);
    return gw_storm_holds(s, &e);
}

static void quiet_days_pass(void **state)
{
    (void)state;
    gw_storm s = {.most = 3, .within_ns = 10 * MINUTE};
    for (int i = 0; i < 2000; i++) /* three in ten minutes, for days */
        assert_false(holds(&s, i, GW_PHASE_FIRST, AT + i * 200 * S));
    assert_false(s.on);
    gw_storm none = {.most = 0, .within_ns = 10 * MINUTE};
    for (int i = 0; i < 2000; i++)
        assert_false(holds(&none, i, GW_PHASE_FIRST, AT + i));
}

static void a_storm_is_held_back(void **state)
{
    (void)state;
    gw_storm s = {.most = 4, .within_ns = 10 * MINUTE};
    for (int i = 0; i < 20; i++)
        assert_int_equal(holds(&s, i, GW_PHASE_FIRST, AT + i * 10 * S), i >= 4);
    assert_true(s.on && s.held == 16 && s.since_ns == AT + 40 * S);
    for (int i = 0; i < 20; i++) { /* an event is let through as a whole, or not at all */
        assert_int_equal(holds(&s, i, GW_PHASE_FINAL, AT + (i + 1) * 10 * S), i >= 4);
        assert_int_equal(holds(&s, i, GW_PHASE_RETRACTED, AT + i * 10 * S), i >= 4);
    }
    assert_false(holds(&s, 1000, GW_PHASE_RETRACTED, AT)); /* long ago */
    assert_int_equal(s.held, 16);
}

static void it_ends_when_half_as_many_come(void **state)
{
    (void)state;
    gw_storm s = {.most = 4, .within_ns = 10 * MINUTE};
    for (int i = 0; i < 8; i++)
        (void)holds(&s, i, GW_PHASE_FIRST, AT + i * 10 * S);
    assert_true(s.on);
    assert_true(holds(&s, 8, GW_PHASE_FIRST, AT + 9 * MINUTE));
    assert_true(holds(&s, 9, GW_PHASE_FIRST, AT + 10 * MINUTE + 30 * S)); /* five of the ten minutes before */
    assert_false(holds(&s, 10, GW_PHASE_FIRST, AT + 12 * MINUTE));        /* two */
    assert_false(s.on);
    assert_int_equal(s.held, 6);
    for (int i = 11; i < 20; i++)
        (void)holds(&s, i, GW_PHASE_FIRST, AT + 13 * MINUTE + i * S);
    assert_true(s.on && s.held < 9); /* a storm of its own */
    gw_storm_reached(&s, AT + 15 * MINUTE);
    assert_true(s.on);
    gw_storm_reached(&s, AT + 30 * MINUTE); /* time itself ends it */
    assert_false(s.on);
    gw_storm_reached(&s, INT64_MIN);
}

static void a_restart_knows_what_was_told(void **state)
{
    (void)state;
    gw_storm s = {.most = 4, .within_ns = 10 * MINUTE};
    for (int i = 0; i < 6; i++) {
        char id[GW_EVENT_ID_BYTES];
        snprintf(id, sizeof id, "G%d", i);
        gw_storm_recall(&s, id, AT + i * S, i >= 4);
    }
    assert_false(holds(&s, 3, GW_PHASE_UPDATE, AT + 3 * S));
    assert_true(holds(&s, 4, GW_PHASE_UPDATE, AT + 4 * S));
    assert_true(holds(&s, 6, GW_PHASE_FIRST, AT + 10 * S));
    assert_false(holds(&s, 7, GW_PHASE_FIRST, AT - 86400 * S)); /* another recording, of the day before */
}

/* ---- the clock ---- */

static const char *look(gw_wall *w, double wall_s, double monotonic_s, double data_s)
{
    static char text[256];
    const gw_timebase t = {.pace = 1, .anchor_wall_ns = AT, .anchor_data_ns = AT};
    return gw_wall_look(w, AT + (int64_t)(wall_s * 1e9), (int64_t)(monotonic_s * 1e9), &t,
                        AT + (int64_t)(data_s * 1e9), text, sizeof text);
}

static void a_clock_that_is_right_is_not_spoken_of(void **state)
{
    (void)state;
    gw_wall w = {.live = true};
    for (int i = 0; i < 100; i++) /* data 12 s old, the clock is slewed by 500 ppm */
        assert_null(look(&w, i * 1.0005, i, i - 12));
    assert_true(w.error_s == 0);
}

static void a_step_is_said_once(void **state)
{
    (void)state;
    gw_wall w = {0};
    assert_null(look(&w, 0, 0, 0));
    const char *text = look(&w, 61, 1, 0);
    assert_non_null(text);
    assert_non_null(strstr(text, "stepped by +60.000 s"));
    assert_null(look(&w, 62, 2, 0));
    assert_true(w.error_s == 60);
    assert_non_null(strstr(look(&w, 3, 3, 0), "stepped by -60.000 s"));
    assert_true(w.error_s == 0);
}

static void live_data_a_minute_off_are_said(void **state)
{
    (void)state;
    gw_wall w = {.live = true};
    const char *text = look(&w, 0, 0, 60); /* the clock is a minute behind */
    assert_non_null(text);
    assert_non_null(strstr(text, "60.0 s before their time"));
    assert_null(look(&w, 1, 1, 61));
    assert_true(w.error_s == -60);
    assert_non_null(strstr(look(&w, 2, 2, 1), "agree again"));
    assert_non_null(strstr(look(&w, 64, 64, 4), "60.0 s after their time"));
    assert_true(w.error_s == 60);
    gw_wall old = {.live = false}; /* a recording's time says nothing */
    assert_null(look(&old, 0, 0, 60));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(quiet_days_pass),
        cmocka_unit_test(a_storm_is_held_back),
        cmocka_unit_test(it_ends_when_half_as_many_come),
        cmocka_unit_test(a_restart_knows_what_was_told),
        cmocka_unit_test(a_clock_that_is_right_is_not_spoken_of),
        cmocka_unit_test(a_step_is_said_once),
        cmocka_unit_test(live_data_a_minute_off_are_said),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
