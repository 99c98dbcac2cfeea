/* SPDX-License-Identifier: GPL-3.0-or-later
 * Geometry of three detectors. Vertices and arms: LIGO-T980044 (H1, L1) and Anderson et al. 2001
 * (LIGO-P000006-D-E), the numbers of LAL's detector list. */
#include "sources/detector.h"

#include "pipeline/clock.h"

#include <math.h>
#include <string.h>

static const double light_m_s = 299792458.0;

static const gw_detector detectors[] = {
    {"H1",
     0,
     {-2.16141492636e6, -3.83469517889e6, 4.60035022664e6},
     {-0.22389266154, 0.79983062746, 0.55690487831},
     {-0.91397818574, 0.02609403989, -0.40492342125}},
    {"L1",
     1,
     {-7.42760447238e4, -5.49628371971e6, 3.22425701744e6},
     {-0.95457412153, -0.14158077340, -0.26218911324},
     {0.29774156894, -0.48791033647, -0.82054461286}},
    {"V1",
     2,
     {4.54637409900e6, 8.42989697626e5, 4.37857696241e6},
     {-0.70045821479, 0.20848948619, 0.68256166277},
     {-0.05379255368, -0.96908180549, 0.24080451708}},
};

const gw_detector *gw_detector_find(const char *name)
{
    for (size_t i = 0; i < sizeof detectors / sizeof detectors[0]; i++)
        if (!strcmp(detectors[i].name, name))
            return &detectors[i];
    return NULL;
}

double gw_sidereal_rad(int64_t gps_ns)
{
    static const int64_t j2000_unix_ns = INT64_C(946728000) * GW_SECOND_NS; /* 2000-01-01T12:00 */
    const double since_s = (double)(gw_gps_to_unix_ns(gps_ns) - j2000_unix_ns) / 1e9;
    const double t = since_s / (36525.0 * 86400.0); /* Julian centuries */
    /* One turn a day of UT, taken from whole seconds so that nothing is lost to rounding. */
    const double sidereal_s =
        67310.54841 + fmod(since_s, 86400.0) + t * (8640184.812866 + t * (0.093104 - t * 6.2e-6));
    const double turns = sidereal_s / 86400.0;
    return 2 * M_PI * (turns - floor(turns));
}

static double dot(const double a[3], const double b[3])
{
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
}

void gw_detector_antenna(const gw_detector *d, double ra, double dec, double psi, double sidereal_rad,
                         double *plus, double *cross)
{
    const double lon = ra - sidereal_rad;
    const double west[3] = {sin(lon), -cos(lon), 0};
    const double north[3] = {-sin(dec) * cos(lon), -sin(dec) * sin(lon), cos(dec)};
    double p[3], q[3]; /* the axes of the wave's polarisation, turned by psi */
    for (int i = 0; i < 3; i++) {
        p[i] = cos(psi) * west[i] + sin(psi) * north[i];
        q[i] = cos(psi) * north[i] - sin(psi) * west[i];
    }
    const double xp = dot(d->arm_x, p), xq = dot(d->arm_x, q);
    const double yp = dot(d->arm_y, p), yq = dot(d->arm_y, q);
    *plus = 0.5 * ((xp * xp - xq * xq) - (yp * yp - yq * yq));
    *cross = xp * xq - yp * yq;
}

double gw_detector_delay_s(const gw_detector *d, double ra, double dec, double sidereal_rad)
{
    const double lon = ra - sidereal_rad;
    const double towards[3] = {cos(dec) * cos(lon), cos(dec) * sin(lon), sin(dec)};
    return -dot(d->place_m, towards) / light_m_s;
}
