/* SPDX-License-Identifier: GPL-3.0-or-later
 * Antenna factors and delays against published numbers and against a second derivation, from the sites'
 * latitudes, longitudes and arm azimuths instead of the arm vectors. */
#include "sources/detector.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

/* cmocka compares in float. */
#define assert_near(a, b, within) assert_true(fabs((double)(a) - (double)(b)) <= (within))

static const int64_t second_ns = 1000000000;
static const double light_m_s = 299792458.0;

/* Geodetic latitude, longitude, height (m) and azimuths of the arms, clockwise from North (LIGO-T980044,
 * LIGO-P000006). */
static const struct site {
    const char *name;
    double lat, lon, height_m, x_azimuth, y_azimuth;
} sites[] = {
    {"H1", 0.81079526383, -2.08405676917, 142.554, 5.65487724844, 4.08408092164},
    {"L1", 0.53342313506, -1.58430937078, -6.574, 4.40317772346, 2.83238139666},
    {"V1", 0.76151183984, 0.18333805213, 51.884, 0.33916285222, 5.05155183261},
};

static void sidereal_time(void **state)
{
    (void)state;
    /* J2000.0: GPS 630763213 is 2000-01-01T12:00:00 UTC; 280.46061837 degrees. */
    assert_near(gw_sidereal_rad(630763213 * second_ns) * 180 / M_PI, 280.46061837, 1e-6);
    /* Meeus, Astronomical Algorithms, example 12.b: 1987-04-10T19:21:00 UT, 8h 34m 57.0896s.
     * 1987-04-10 is 2651 days after 1980-01-06, and GPS was 4 s ahead of UTC. */
    const int64_t gps = (INT64_C(2651) * 86400 + 19 * 3600 + 21 * 60 + 4) * second_ns;
    const double expected_s = 8 * 3600 + 34 * 60 + 57.0896;
    assert_near(gw_sidereal_rad(gps) * 43200 / M_PI, expected_s, 2e-4);
    /* A sidereal day later it is the same again. */
    const double a = gw_sidereal_rad(1126259462 * second_ns);
    const double b = gw_sidereal_rad(1126259462 * second_ns + INT64_C(86164090530833));
    assert_near(a, b, 1e-6);
}

static double distance_s(const char *a, const char *b)
{
    const gw_detector *p = gw_detector_find(a), *q = gw_detector_find(b);
    double sum = 0;
    for (int i = 0; i < 3; i++)
        sum += (p->place_m[i] - q->place_m[i]) * (p->place_m[i] - q->place_m[i]);
    return sqrt(sum) / light_m_s;
}

static void light_travel_times(void **state)
{
    (void)state;
    assert_near(distance_s("H1", "L1") * 1e3, 10.012, 0.002);
    assert_near(distance_s("H1", "V1") * 1e3, 27.288, 0.005);
    assert_near(distance_s("L1", "V1") * 1e3, 26.448, 0.005);
    double most = 0;
    for (double ra = 0; ra < 6.28; ra += 0.05)
        for (double dec = -1.55; dec < 1.56; dec += 0.05) {
            const double d = gw_detector_delay_s(gw_detector_find("H1"), ra, dec, 1) -
                             gw_detector_delay_s(gw_detector_find("L1"), ra, dec, 1);
            most = fmax(most, fabs(d));
        }
    assert_true(most <= 10.02e-3 && most > 9.98e-3);
}

/* A source in the zenith arrives early by the site's distance from the centre of the Earth, or nearly so:
 * the zenith is perpendicular to the ellipsoid. */
static void zenith_arrives_first(void **state)
{
    (void)state;
    for (int i = 0; i < 3; i++) {
        const double sidereal = 2.5, ra = sites[i].lon + sidereal;
        const double delay = gw_detector_delay_s(gw_detector_find(sites[i].name), ra, sites[i].lat, sidereal);
        const double a = 6378137, e2 = 6.69437999014e-3, sine = sin(sites[i].lat);
        /* N (1 - e^2 sin^2) + h = a sqrt(1 - e^2 sin^2) + h: the height of the tangent plane. */
        const double expected = -(a * sqrt(1 - e2 * sine * sine) + sites[i].height_m) / light_m_s;
        assert_near(delay * 1e6, expected * 1e6, 0.01);
    }
}

/* F+ and Fx from azimuths: the detector tensor in the local frame East, North, Up, and the source's
 * direction by its altitude and azimuth seen from the site. */
static void local_antenna(const struct site *s, double ra, double dec, double psi, double sidereal,
                          double *plus, double *cross)
{
    const double hour = sidereal + s->lon - ra; /* local hour angle */
    /* Towards the source, and celestial North and West there, in (East, North, Up). */
    const double north[3] = {sin(dec) * sin(hour),
                             cos(dec) * cos(s->lat) + sin(dec) * sin(s->lat) * cos(hour),
                             cos(dec) * sin(s->lat) - sin(dec) * cos(s->lat) * cos(hour)};
    const double west[3] = {-cos(hour), sin(s->lat) * sin(hour), -cos(s->lat) * sin(hour)};
    double tensor[3][3] = {{0}};
    const double arm[2][3] = {{sin(s->x_azimuth), cos(s->x_azimuth), 0},
                              {sin(s->y_azimuth), cos(s->y_azimuth), 0}};
    for (int i = 0; i < 3; i++)
        for (int j = 0; j < 3; j++)
            tensor[i][j] = 0.5 * (arm[0][i] * arm[0][j] - arm[1][i] * arm[1][j]);
    double at0[2] = {0, 0};
    for (int i = 0; i < 3; i++)
        for (int j = 0; j < 3; j++) {
            at0[0] += tensor[i][j] * (west[i] * west[j] - north[i] * north[j]);
            at0[1] += tensor[i][j] * (west[i] * north[j] + north[i] * west[j]);
        }
    *plus = at0[0] * cos(2 * psi) + at0[1] * sin(2 * psi);
    *cross = at0[1] * cos(2 * psi) - at0[0] * sin(2 * psi);
}

static void antenna_from_azimuths(void **state)
{
    (void)state;
    for (int i = 0; i < 3; i++)
        for (double ra = 0.1; ra < 6.2; ra += 0.7)
            for (double dec = -1.5; dec < 1.5; dec += 0.4)
                for (double psi = 0; psi < 3; psi += 0.8) {
                    double p, c, plus, cross;
                    local_antenna(&sites[i], ra, dec, psi, 4.2, &p, &c);
                    gw_detector_antenna(gw_detector_find(sites[i].name), ra, dec, psi, 4.2, &plus, &cross);
                    assert_near(plus, p, 2e-3); /* the arms are tilted by up to 6e-4 rad */
                    assert_near(cross, c, 2e-3);
                }
}

/* The sky average of F+^2 + Fx^2 of two perpendicular arms is 2/5, its greatest value 1. */
static void sky_average(void **state)
{
    (void)state;
    const gw_detector *d = gw_detector_find("V1");
    double sum = 0, most = 0;
    const int n = 200;
    for (int i = 0; i < n; i++)
        for (int j = 0; j < n; j++) {
            double plus, cross;
            gw_detector_antenna(d, 2 * M_PI * (i + 0.5) / n, asin(2 * (j + 0.5) / n - 1), 0.3, 0, &plus,
                                &cross);
            const double power = plus * plus + cross * cross;
            sum += power;
            most = fmax(most, power);
        }
    assert_near(sum / (n * n), 0.4, 1e-3);
    assert_true(most <= 1 + 1e-9 && most > 0.999);
}

/* Overlap of the two LIGO tensors, the limit of their overlap reduction function at 0 Hz: -0.89
 * (Allen and Romano 1999). */
static void ligo_overlap(void **state)
{
    (void)state;
    const gw_detector *d[2] = {gw_detector_find("H1"), gw_detector_find("L1")};
    double sum = 0;
    for (int i = 0; i < 3; i++)
        for (int j = 0; j < 3; j++)
            sum += 0.5 * (d[0]->arm_x[i] * d[0]->arm_x[j] - d[0]->arm_y[i] * d[0]->arm_y[j]) *
                   (d[1]->arm_x[i] * d[1]->arm_x[j] - d[1]->arm_y[i] * d[1]->arm_y[j]);
    assert_near(sum, -0.89, 0.005);
}

static void unknown_detector(void **state)
{
    (void)state;
    assert_null(gw_detector_find("X1"));
    assert_null(gw_detector_find(""));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sidereal_time),        cmocka_unit_test(light_travel_times),
        cmocka_unit_test(zenith_arrives_first), cmocka_unit_test(antenna_from_azimuths),
        cmocka_unit_test(sky_average),          cmocka_unit_test(ligo_overlap),
        cmocka_unit_test(unknown_detector),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
