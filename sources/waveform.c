/* SPDX-License-Identifier: GPL-3.0-or-later
 * IMRPhenomB on a frequency grid. The formula leaves time and phase of coalescence open; here the peak of
 * |h(t)| is looked up once and moved to t = 0, phase 0, so that a caller can speak of "the" coalescence. */
#include "sources/waveform.h"

#include "sources/fourier.h"

#include <math.h>
#include <stdlib.h>

static const double sun_s = 4.925491025543576e-6; /* G Msun / c^3 */
static const double mpc_s = 3.0856775814913673e22 / 299792458.0;

/* Table I: the coefficients x(ij) of eta^i chi^j, in the order 10 11 12 20 21 30. Rows psi_2 .. psi_8
 * (psi_5 is absent), then f1 (merger), f2 (ringdown), sigma, f3 (cut). */
enum { PSI2, PSI3, PSI4, PSI6, PSI7, PSI8, MERGER, RING, WIDTH, CUT, N_ROWS };
static const double table[N_ROWS][6] = {
    [PSI2] = {-920.91, 492.13, 135.03, 6741.9, -1053.4, -13397},
    [PSI3] = {17022, -9565.9, -2182.1, -121370, 20752, 238590},
    [PSI4] = {-125440, 75066, 13382, 873540, -165730, -1693600},
    [PSI6] = {-889770, 631020, 50676, 5980800, -1414800, -11280000},
    [PSI7] = {869600, -670980, -30082, -5837900, 1514500, 10891000},
    [PSI8] = {-366000, 306700, 631.76, 2426500, -721800, -4552400},
    [MERGER] = {0.64365, 0.82696, -0.27063, -0.058218, -3.9346, -7.0916},
    [RING] = {0.14690, -0.12281, -0.026091, -0.024900, 0.17013, 2.3252},
    [WIDTH] = {-0.40979, -0.035226, 0.10082, 1.8286, -0.020169, -2.8698},
    [CUT] = {-0.13313, -0.081719, 0.14512, -0.27140, 0.12788, 4.9220},
};

static double row(int r, double eta, double chi)
{
    const double *x = table[r];
    return eta * (x[0] + chi * (x[1] + chi * x[2]) + eta * (x[3] + chi * x[4] + eta * x[5]));
}

static double power_law_merger(double v, const gw_phenom *p)
{
    return 1 + v * (p->epsilon1 + v * p->epsilon2);
}

static double lorentzian(double f, double centre, double width)
{
    return width / (2 * M_PI * ((f - centre) * (f - centre) + 0.25 * width * width));
}

void gw_phenom_init(gw_phenom *p, double mass1, double mass2, double chi)
{
    const double total = mass1 + mass2, eta = mass1 * mass2 / (total * total);
    const double anti = 1 - chi;
    *p = (gw_phenom){.mass_s = M_PI * total * sun_s, .phase0 = 3 / (128 * eta)};

    /* The first terms are the test-mass limit. */
    p->phase[0] = 1;
    p->phase[2] = 3715.0 / 756 + row(PSI2, eta, chi);
    p->phase[3] = -16 * M_PI + 113 * chi / 3 + row(PSI3, eta, chi);
    p->phase[4] = 15293365.0 / 508032 - 405 * chi * chi / 8 + row(PSI4, eta, chi);
    p->phase[6] = row(PSI6, eta, chi);
    p->phase[7] = row(PSI7, eta, chi);
    p->phase[8] = row(PSI8, eta, chi);

    const double ring = 1 - 0.63 * pow(anti, 0.3);
    p->merger_hz =
        (1 - 4.4547 * pow(anti, 0.217) + 3.521 * pow(anti, 0.26) + row(MERGER, eta, chi)) / p->mass_s;
    p->ring_hz = (ring / 2 + row(RING, eta, chi)) / p->mass_s;
    p->width_hz = (ring * pow(anti, 0.45) / 4 + row(WIDTH, eta, chi)) / p->mass_s;
    p->cut_hz = (0.32361 + chi * (0.048935 + 0.013463 * chi) + row(CUT, eta, chi)) / p->mass_s;

    p->alpha2 = -323.0 / 224 + 451 * eta / 168;
    p->alpha3 = (27.0 / 8 - 11 * eta / 6) * chi;
    p->epsilon1 = 1.4547 * chi - 1.8897;
    p->epsilon2 = -1.8153 * chi + 1.6557;

    /* The weights make the amplitude continuous where its three pieces meet. */
    const double vm = cbrt(p->mass_s * p->merger_hz), vr = cbrt(p->mass_s * p->ring_hz);
    p->merger_weight = (1 + vm * vm * (p->alpha2 + p->alpha3 * vm)) / power_law_merger(vm, p);
    p->ring_weight = p->merger_weight * pow(p->ring_hz / p->merger_hz, -2.0 / 3) * power_law_merger(vr, p) /
                     lorentzian(p->ring_hz, p->ring_hz, p->width_hz);
    p->amplitude = sqrt(5 * eta / 24) * pow(total * sun_s, 5.0 / 6) * pow(p->merger_hz, -7.0 / 6) /
                   (pow(M_PI, 2.0 / 3) * mpc_s);
}

double complex gw_phenom_strain(const gw_phenom *p, double f_hz)
{
    const double v = cbrt(p->mass_s * f_hz), v2 = v * v;
    double a;
    if (f_hz <= p->merger_hz) {
        const double x = cbrt(f_hz / p->merger_hz), x2 = x * x;
        a = (1 + v2 * (p->alpha2 + p->alpha3 * v)) / (x2 * x * sqrt(x)); /* x^-7/2 = (f / f1)^-7/6 */
    } else if (f_hz <= p->ring_hz) {
        const double x = cbrt(f_hz / p->merger_hz);
        a = p->merger_weight * power_law_merger(v, p) / (x * x);
    } else {
        a = p->ring_weight * lorentzian(f_hz, p->ring_hz, p->width_hz);
    }
    double series = 0;
    for (int k = 8; k >= 0; k--)
        series = series * v + p->phase[k];
    const double psi = p->phase0 * series / (v2 * v2 * v);
    /* The phase of the formula is the one of exp(+2 pi i f t); we transform with the other sign. */
    return p->amplitude * a * (cos(psi) - I * sin(psi));
}

/* Newtonian time to coalescence from f_hz (Peters and Mathews 1963). */
static double chirp_s(double mass1, double mass2, double f_hz)
{
    const double total = mass1 + mass2, eta = mass1 * mass2 / (total * total);
    return 5 * total * sun_s / (256 * eta) * pow(M_PI * total * sun_s * f_hz, -8.0 / 3);
}

enum { SHORTEST_S = 8, LONGEST_S = 256 };

double gw_waveform_seconds(double mass1, double mass2)
{
    const double need = 1.1 * chirp_s(mass1, mass2, 20) + 2;
    double seconds = SHORTEST_S;
    while (seconds < need && seconds < LONGEST_S)
        seconds *= 2;
    return seconds;
}

static double lowest_hz(double mass1, double mass2)
{
    const double want_s = SHORTEST_S - 3;
    const double f = 20 * pow(chirp_s(mass1, mass2, 20) / want_s, 3.0 / 8);
    return fmin(20, fmax(10, f));
}

/* Half a cosine from 0 at `from` to 1 at `to`. */
static double ramp(double f, double from, double to)
{
    const double x = (f - from) / (to - from);
    return x <= 0 ? 0 : x >= 1 ? 1 : 0.5 - 0.5 * cos(M_PI * x);
}

/* Finds the peak of |h(t)| on a grid twice as fine as the band needs, then between grid points by a
 * parabola, and moves it to t = 0 with phase 0. */
static int centre(gw_waveform *w)
{
    gw_fourier *plus = NULL, *cross = NULL;
    const uint32_t m = gw_fourier_size(2.0 * w->n_bins);
    int err = gw_fourier_new(&plus, m);
    if (err == GW_OK)
        err = gw_fourier_new(&cross, m);
    if (err == GW_OK) {
        for (uint32_t k = 0; k < w->n_bins; k++) {
            plus->bins[k] = w->h[k];
            cross->bins[k] = -I * w->h[k];
        }
        gw_fourier_inverse(plus);
        gw_fourier_inverse(cross);
        uint32_t top = 0;
        for (uint32_t i = 0; i < m; i++) {
            plus->time[i] = plus->time[i] * plus->time[i] + cross->time[i] * cross->time[i];
            if (plus->time[i] > plus->time[top])
                top = i;
        }
        const double before = plus->time[(top + m - 1) % m], at = plus->time[top];
        const double after = plus->time[(top + 1) % m], bend = before - 2 * at + after;
        const double offset = bend < 0 ? 0.5 * (before - after) / bend : 0;
        const double turns = ((double)top + offset) / m; /* of bin 1 */
        double complex sum = 0;
        for (uint32_t k = 0; k < w->n_bins; k++) {
            const double angle = 2 * M_PI * fmod(k * turns, 1);
            w->h[k] *= cos(angle) + I * sin(angle);
            sum += w->h[k];
        }
        if (cabs(sum) > 0)
            for (uint32_t k = 0; k < w->n_bins; k++)
                w->h[k] *= conj(sum) / cabs(sum);
    }
    gw_fourier_destroy(&plus);
    gw_fourier_destroy(&cross);
    return err;
}

int gw_waveform_new(gw_waveform **out, double mass1, double mass2, double chi, gw_rate rate)
{
    *out = NULL;
    const double rate_hz = gw_rate_hz(rate);
    const uint32_t n = gw_fourier_size(gw_waveform_seconds(mass1, mass2) * rate_hz);
    const double df = rate_hz / n, low = lowest_hz(mass1, mass2);
    gw_phenom p;
    gw_phenom_init(&p, mass1, mass2, chi);
    /* Beyond cut_hz the fit was not made; a soft end rings less than a hard one. */
    const double high = fmin(1.1 * p.cut_hz, 0.5 * rate_hz);
    if (high <= 1.2 * low)
        return gw_fail(GW_ERANGE, "a merger of %g + %g solar masses has no signal between %g Hz and %g Hz",
                       mass1, mass2, 1.2 * low, 0.5 * rate_hz);
    gw_waveform *w = calloc(1, sizeof *w);
    if (!w)
        return gw_fail(GW_ENOMEM, "a waveform");
    w->df_hz = df;
    w->n_samples = n;
    w->n_bins = (uint32_t)ceil(high / df);
    w->h = calloc(w->n_bins, sizeof *w->h);
    if (!w->h) {
        gw_waveform_destroy(&w);
        return gw_fail(GW_ENOMEM, "a waveform");
    }
    for (uint32_t k = (uint32_t)(low / df) + 1; k < w->n_bins; k++) {
        const double f = k * df;
        w->h[k] = gw_phenom_strain(&p, f) * ramp(f, low, 1.2 * low) * (1 - ramp(f, p.cut_hz, 1.1 * p.cut_hz));
    }
    int err = centre(w);
    if (err != GW_OK)
        gw_waveform_destroy(&w);
    *out = w;
    return err;
}

void gw_waveform_destroy(gw_waveform **w)
{
    if (!*w)
        return;
    free((*w)->h);
    free(*w);
    *w = NULL;
}
