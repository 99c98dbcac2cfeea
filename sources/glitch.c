/* SPDX-License-Identifier: GPL-3.0-or-later
 * Glitches, rendered one at a time into 8 s round their centre. */
#include "sources/glitch.h"

#include "sources/fourier.h"
#include "sources/random.h"

#include <math.h>
#include <stdlib.h>

enum { CELL_S = 8, MAX_PER_CELL = 512, SHARED = 0xffff };
static const double render_s = 8, from_hz = 20, soft_hz = 15, apart_s = 0.010;

struct gw_glitches {
    gw_glitch_conf conf;
    const gw_asd *asd;
    const gw_noise *noise;
    gw_rate rate;
    double rate_hz;
    uint64_t seed;
    uint32_t detector;
    int64_t cell; /* the next to be rendered */
    int64_t first;
    gw_fourier *fourier;
    double *colour; /* [n / 2] root of the floor PSD with the soft edge */
};

int gw_glitch_configure(gw_glitch_conf *g, gw_conf *conf)
{
    gw_rate rate = {1, 30};
    *g = (gw_glitch_conf){.snr_low = 4, .snr_high = 80};
    GW_TRY(gw_conf_get_rate(conf, "rate", &rate));
    g->rate_hz = gw_rate_hz(rate);
    if (g->rate_hz > 10)
        return gw_conf_fail(gw_conf_find(conf, "rate"), "glitches: rate must be at most 10Hz");
    gw_conf *snr = gw_conf_find(conf, "snr");
    if (snr) {
        if (gw_conf_kind(snr) != GW_CONF_LIST || gw_conf_count(snr) != 2)
            return gw_conf_fail(snr, "glitches: snr is a list of two, lowest and highest: [4, 80]");
        GW_TRY(gw_conf_double(gw_conf_item(snr, 0), 0.1, 1e5, &g->snr_low));
        GW_TRY(gw_conf_double(gw_conf_item(snr, 1), g->snr_low, 1e5, &g->snr_high));
    }
    GW_TRY(gw_conf_get_double(conf, "coincident", 0, 1, &g->coincident));
    return gw_conf_done(conf, "glitches");
}

static int64_t cell_of(int64_t sample, gw_rate rate)
{
    const int64_t ns = gw_sample_to_ns(sample, rate, 0), cell_ns = CELL_S * GW_SECOND_NS;
    return ns / cell_ns - (ns % cell_ns < 0);
}

int gw_glitches_new(gw_glitches **out, const gw_glitch_conf *conf, const gw_asd *asd, const gw_noise *noise,
                    gw_rate rate, int64_t first, uint64_t seed, uint32_t detector)
{
    *out = NULL;
    gw_glitches *g = calloc(1, sizeof *g);
    if (!g)
        return gw_fail(GW_ENOMEM, "glitches");
    *g = (gw_glitches){.conf = *conf,
                       .asd = asd,
                       .noise = noise,
                       .rate = rate,
                       .rate_hz = gw_rate_hz(rate),
                       .seed = seed,
                       .detector = detector,
                       .first = first};
    /* One cell early: what was centred before the first sample may reach into it. */
    g->cell = cell_of(first, rate) - 1;
    const uint32_t n = gw_fourier_size(fmax(render_s * g->rate_hz, 64));
    g->colour = malloc(n / 2 * sizeof *g->colour);
    int err = g->colour ? gw_fourier_new(&g->fourier, n) : gw_fail(GW_ENOMEM, "glitches");
    if (err != GW_OK) {
        gw_glitches_destroy(&g);
        return err;
    }
    for (uint32_t k = 0; k < n / 2; k++) {
        const double f = k * g->rate_hz / n, x = (f - soft_hz) / (from_hz - soft_hz);
        const double edge = x <= 0 ? 0 : x >= 1 ? 1 : 0.5 - 0.5 * cos(M_PI * x);
        g->colour[k] = edge > 0 ? edge * sqrt(gw_asd_floor(asd, f)) : 0;
    }
    *out = g;
    return GW_OK;
}

/* The shapes, as they look after whitening, centred at sample n / 2. */

static void sine_gaussian(gw_glitches *g, gw_random *r)
{
    const double f = gw_random_log_range(r, 25, fmin(800, 0.4 * g->rate_hz));
    const double q = gw_random_log_range(r, 2, 60), phase = gw_random_range(r, 0, 2 * M_PI);
    const double tau = q / (sqrt(2) * M_PI * f);
    for (uint32_t i = 0; i < g->fourier->n; i++) {
        const double t = ((double)i - g->fourier->n / 2) / g->rate_hz;
        g->fourier->time[i] = exp(-t * t / (tau * tau)) * cos(2 * M_PI * f * t + phase);
    }
}

static void blip(gw_glitches *g, gw_random *r)
{
    const double tau = gw_random_range(r, 0.001, 0.010);
    const double turn = gw_random_range(r, 0, 3) / tau, phase = gw_random_range(r, 0, 2 * M_PI);
    for (uint32_t i = 0; i < g->fourier->n; i++) {
        const double t = ((double)i - g->fourier->n / 2) / g->rate_hz;
        g->fourier->time[i] = exp(-t * t / (tau * tau)) * cos(turn * t + phase);
    }
}

static void burst(gw_glitches *g, gw_random *r)
{
    gw_fourier *f = g->fourier;
    const double tau = gw_random_range(r, 0.005, 0.3);
    const double low = gw_random_log_range(r, 25, fmin(600, 0.3 * g->rate_hz));
    const double high = low * gw_random_range(r, 1.3, 3);
    /* First the band, then the envelope: the other way round the band's edges would ring for seconds. */
    for (uint32_t i = 0; i < f->n; i += 2)
        gw_random_normals(r, f->time + i);
    gw_fourier_forward(f);
    for (uint32_t k = 0; k <= f->n / 2; k++) {
        const double hz = k * g->rate_hz / f->n;
        f->bins[k] *= hz > low && hz < high ? 1.0 / f->n : 0;
    }
    gw_fourier_inverse(f);
    for (uint32_t i = 0; i < f->n; i++) {
        const double t = ((double)i - f->n / 2) / g->rate_hz;
        f->time[i] *= exp(-t * t / (tau * tau));
    }
}

/* Whitened shape -> strain of the given SNR. False where nothing of it lies in the band. */
static bool colour(gw_glitches *g, double snr)
{
    gw_fourier *f = g->fourier;
    gw_fourier_forward(f);
    f->bins[0] = f->bins[f->n / 2] = 0;
    double power = 0;
    const double df = g->rate_hz / f->n;
    for (uint32_t k = 1; k < f->n / 2; k++) {
        f->bins[k] *= g->colour[k];
        if (k * df >= from_hz) {
            const double re = creal(f->bins[k]), im = cimag(f->bins[k]);
            power += (re * re + im * im) / gw_noise_psd(g->noise, k * df);
        }
    }
    /* SNR^2 = 4 sum |h(f)|^2 / S(f) df with h(f) = bins / rate */
    const double unit = sqrt(4 * df * power) / g->rate_hz;
    if (!(unit > 0))
        return false;
    for (uint32_t k = 1; k < f->n / 2; k++)
        f->bins[k] *= snr / (unit * f->n);
    gw_fourier_inverse(f);
    return true;
}

static int render_one(gw_glitches *g, gw_random r, int64_t centre, uint64_t serial, gw_overlay **list)
{
    const double snr = gw_random_log_range(&r, g->conf.snr_low, g->conf.snr_high);
    const double kind = gw_random_unit(&r);
    if (kind < 0.55)
        sine_gaussian(g, &r);
    else if (kind < 0.80)
        blip(g, &r);
    else
        burst(g, &r);
    const int64_t begins = centre - g->fourier->n / 2;
    if (begins + g->fourier->n <= g->first || !colour(g, snr))
        return GW_OK;
    return gw_overlay_put(list, begins, g->fourier->n, 0, serial, g->fourier->time);
}

/* One process in one cell. Coincident glitches (part SHARED) take their number and times from numbers
 * that all detectors share, everything else from their own. */
static int render_cell(gw_glitches *g, double rate_hz, gw_purpose purpose, uint32_t part, gw_overlay **list)
{
    gw_random when = gw_random_at(g->seed, purpose, part, g->cell);
    const int count = gw_random_poisson(&when, rate_hz * CELL_S);
    for (int i = 0; i < count && i < MAX_PER_CELL; i++) {
        double at_s = gw_random_range(&when, 0, CELL_S);
        const uint64_t serial = ((uint64_t)(part == SHARED) * MAX_PER_CELL + (uint64_t)i) << 1;
        gw_random what = gw_random_at(g->seed, purpose, g->detector + 1 + (uint32_t)(i + 1) * 64, g->cell);
        const double offset_s = gw_random_range(&what, -apart_s, apart_s);
        if (part == SHARED)
            at_s += offset_s;
        const int64_t ns = g->cell * CELL_S * GW_SECOND_NS + (int64_t)(at_s * 1e9);
        GW_TRY(render_one(g, what, gw_sample_at_or_before(ns, g->rate, 0), serial, list));
    }
    return GW_OK;
}

int gw_glitches_render(gw_glitches *g, int64_t until, gw_overlay **list)
{
    /* A glitch begins half its buffer, at least 4 s, before its centre. */
    const int64_t last = cell_of(until + g->fourier->n / 2, g->rate) + 1;
    for (; g->cell <= last; g->cell++) {
        const double shared = g->conf.rate_hz * g->conf.coincident;
        GW_TRY(render_cell(g, g->conf.rate_hz - shared, GW_FOR_GLITCH, g->detector, list));
        GW_TRY(render_cell(g, shared, GW_FOR_COINCIDENCE, SHARED, list));
    }
    return GW_OK;
}

void gw_glitches_destroy(gw_glitches **g)
{
    if (!*g)
        return;
    gw_fourier_destroy(&(*g)->fourier);
    free((*g)->colour);
    free(*g);
    *g = NULL;
}
