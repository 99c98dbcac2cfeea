/* SPDX-License-Identifier: GPL-3.0-or-later
 * Spectra: the analytic design, a file, and what makes each detector a little different. Lines are part
 * of the spectrum, not sinusoids: a narrow Gaussian band wanders in amplitude and phase as real ones do,
 * and the signal-to-noise ratio of an injection is taken against them like against all other noise. */
#include "sources/asd.h"

#include "sources/random.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { N_TILT = 5, N_LINES = 27, MAX_POINTS = 1 << 20 };
static const double frozen_hz = 10, tilt_low_hz = 8, tilt_octaves = 128;

typedef struct line {
    double centre_hz, width_hz; /* half width at half maximum */
    double power;               /* strain^2 */
} line;

typedef struct point {
    double log_f, log_psd;
} point;

struct gw_asd {
    double power_scale;
    int n_points; /* 0 = design */
    point *points;
    bool excess;
    double knee_hz, knee_psd, slope, tilt[N_TILT];
    int n_lines;
    line lines[N_LINES];
};

static double design_psd(double f_hz)
{
    const double x = f_hz / 215, x2 = x * x;
    const double shape = pow(x, -4.14) - 5 / x2 + 111 * (1 - x2 + 0.5 * x2 * x2) / (1 + 0.5 * x2);
    return 4e-49 * shape;
}

static double file_psd(const gw_asd *a, double f_hz)
{
    const double x = log(f_hz);
    int low = 0, high = a->n_points - 1;
    if (x <= a->points[low].log_f)
        return exp(a->points[low].log_psd);
    if (x >= a->points[high].log_f)
        return exp(a->points[high].log_psd);
    while (high - low > 1) {
        const int middle = (low + high) / 2;
        if (a->points[middle].log_f <= x)
            low = middle;
        else
            high = middle;
    }
    const point *p = &a->points[low], *q = &a->points[high];
    return exp(p->log_psd + (q->log_psd - p->log_psd) * (x - p->log_f) / (q->log_f - p->log_f));
}

static double base_psd(const gw_asd *a, double f_hz)
{
    return a->n_points ? file_psd(a, f_hz) : design_psd(f_hz);
}

static double tilt(const gw_asd *a, double f_hz)
{
    const double x = fmin(fmax(log(f_hz / tilt_low_hz) / log(tilt_octaves), 0), 1);
    double sum = 0;
    for (int k = 0; k < N_TILT; k++)
        sum += a->tilt[k] * cos(M_PI * (k + 1) * x);
    return pow(10, 2 * sum);
}

double gw_asd_floor(const gw_asd *a, double f_hz)
{
    const double f = fmax(f_hz, frozen_hz);
    double psd = base_psd(a, f);
    if (a->excess)
        psd = (psd + a->knee_psd * pow(f / a->knee_hz, -a->slope)) * tilt(a, f);
    return a->power_scale * psd;
}

/* Within some widths of its centre a line is far narrower than a bin: there its exact mean is needed. */
static double line_psd(const line *l, double f_hz, double width_hz)
{
    const double off = f_hz - l->centre_hz;
    if (fabs(off) > 20 * width_hz)
        return l->power / M_PI * l->width_hz / (off * off + l->width_hz * l->width_hz);
    return l->power / (M_PI * width_hz) *
           (atan((off + 0.5 * width_hz) / l->width_hz) - atan((off - 0.5 * width_hz) / l->width_hz));
}

double gw_asd_psd(const gw_asd *a, double f_hz, double width_hz)
{
    double psd = gw_asd_floor(a, f_hz);
    for (int i = 0; i < a->n_lines; i++)
        psd += line_psd(&a->lines[i], f_hz, width_hz);
    return psd;
}

static void draw_shape(gw_asd *a, gw_random r)
{
    a->knee_hz = gw_random_range(&r, 28, 62);
    a->slope = gw_random_range(&r, 5, 10);
    a->knee_psd = base_psd(a, a->knee_hz);
    for (int k = 0; k < N_TILT; k++) {
        double z[2];
        gw_random_normals(&r, z);
        a->tilt[k] = 0.06 * z[0];
    }
}

static void draw_lines(gw_asd *a, gw_random r)
{
    static const struct {
        int count;
        double low_hz, high_hz;
    } band[] = {{1, 60, 60},   {1, 120, 120}, {1, 180, 180},  {1, 300, 300}, {3, 33, 38},
                {2, 300, 335}, {6, 498, 516}, {4, 990, 1015}, {8, 22, 1000}};
    for (size_t b = 0; b < sizeof band / sizeof band[0]; b++)
        for (int i = 0; i < band[b].count; i++) {
            line *l = &a->lines[a->n_lines++];
            l->centre_hz = gw_random_range(&r, band[b].low_hz, band[b].high_hz);
            l->width_hz = pow(10, gw_random_range(&r, -2.3, -1));
            /* 10^0.5 to 10^3.5 times what the floor holds in half a hertz */
            l->power = pow(10, gw_random_range(&r, 0.5, 3.5)) * 0.5 * gw_asd_floor(a, l->centre_hz);
        }
}

/* One line of the file: GW_OK with a point, GW_EAGAIN for an empty one. */
static int read_point(const char *path, int number, char *text, const point *last, point *p)
{
    text[strcspn(text, "#\r\n")] = '\0';
    const char *s = text + strspn(text, " \t,");
    if (!*s)
        return GW_EAGAIN;
    char *f_end, *asd_end;
    const double f = strtod(s, &f_end);
    const char *rest = f_end + strspn(f_end, " \t,");
    const double asd = strtod(rest, &asd_end);
    if (f_end == s || asd_end == rest || asd_end[strspn(asd_end, " \t,")])
        return gw_fail(GW_EFORMAT, "%s:%d: expected two numbers, frequency in Hz and ASD in strain/sqrt(Hz)",
                       path, number);
    if (!(f >= 0) || !isfinite(f) || !(asd > 0) || !isfinite(asd))
        return gw_fail(GW_EFORMAT, "%s:%d: frequency and ASD must be positive numbers", path, number);
    if (f == 0)
        return GW_EAGAIN; /* many files begin with 0 Hz, which has no logarithm */
    *p = (point){log(f), 2 * log(asd)};
    if (last && p->log_f <= last->log_f)
        return gw_fail(GW_EFORMAT, "%s:%d: %g Hz does not rise above the line before it; sort the file", path,
                       number, f);
    return GW_OK;
}

static int read_file(gw_asd *a, const char *path)
{
    FILE *file = fopen(path, "r");
    if (!file) {
        const int err = errno == EACCES ? GW_EACCESS : GW_EMISSING;
        return gw_fail(err, "%s: %s; 'asd' is 'design', 'design-plain' or a file of two columns", path,
                       strerror(errno));
    }
    char text[256];
    int err = GW_OK, room = 0;
    for (int number = 1; err == GW_OK && fgets(text, sizeof text, file); number++) {
        if (a->n_points == room) {
            room = room ? 2 * room : 1024;
            point *more = room > MAX_POINTS ? NULL : realloc(a->points, (size_t)room * sizeof *more);
            if (!more) {
                err = gw_fail(GW_ENOMEM, "%s: more than %d lines", path, room / 2);
                break;
            }
            a->points = more;
        }
        err = read_point(path, number, text, a->n_points ? &a->points[a->n_points - 1] : NULL,
                         &a->points[a->n_points]);
        if (err == GW_OK)
            a->n_points++;
        else if (err == GW_EAGAIN)
            err = GW_OK;
    }
    if (err == GW_OK && ferror(file))
        err = gw_fail(GW_EIO, "%s: cannot be read (is it a folder?)", path);
    fclose(file);
    if (err == GW_OK && a->n_points < 2)
        err = gw_fail(GW_EFORMAT, "%s: needs at least two lines of frequency and ASD", path);
    return err;
}

int gw_asd_new(gw_asd **out, const gw_asd_conf *c)
{
    *out = NULL;
    gw_asd *a = calloc(1, sizeof *a);
    if (!a)
        return gw_fail(GW_ENOMEM, "a noise spectrum");
    int err = c->path ? read_file(a, c->path) : GW_OK;
    if (err != GW_OK) {
        gw_asd_destroy(&a);
        return err;
    }
    a->power_scale = c->scale * c->scale;
    draw_shape(a, gw_random_at(c->seed, GW_FOR_ASD, c->detector, 0));
    a->excess = c->excess;
    if (c->lines)
        draw_lines(a, gw_random_at(c->seed, GW_FOR_ASD, c->detector, 1));
    *out = a;
    return GW_OK;
}

void gw_asd_destroy(gw_asd **a)
{
    if (!*a)
        return;
    free((*a)->points);
    free(*a);
    *a = NULL;
}
