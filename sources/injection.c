/* SPDX-License-Identifier: GPL-3.0-or-later
 * From a waveform to samples. In the frequency domain a detector's signal is the face-on waveform times
 * one complex number (antenna, inclination, phase) and a delay, so any sky position costs nothing once
 * the waveform and its norm in each detector are known; and a delay need not be a whole sample. */
#include "sources/injection.h"

#include "pipeline/block.h"
#include "sources/fourier.h"
#include "sources/waveform.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

enum { MAX_TRIES = 10000 };
static const double from_hz = 20, fade_in_s = 0.25, fade_out_s = 0.05;
static const double light_s = 0.022; /* centre of the Earth to its surface, rounded up */

double gw_injection_chi(const gw_injection *i)
{
    return (i->mass1 * i->spin1z + i->mass2 * i->spin2z) / (i->mass1 + i->mass2);
}

double gw_injection_before_s(const gw_injection *i)
{
    /* The transform's size is rounded up to a product of small primes, at most by a fifteenth or so. */
    return 1.1 * gw_waveform_seconds(i->mass1, i->mass2) + light_s;
}

/* SNR of the face-on waveform from 1 Mpc in a detector that sees F+ = 1, Fx = 0. */
static double norm(const gw_waveform *w, const gw_noise *noise)
{
    double sum = 0;
    for (uint32_t k = (uint32_t)ceil(from_hz / w->df_hz); k < w->n_bins; k++) {
        const double re = creal(w->h[k]), im = cimag(w->h[k]);
        sum += (re * re + im * im) / gw_noise_psd(noise, k * w->df_hz);
    }
    return sqrt(4 * w->df_hz * sum);
}

/* Detector signal / face-on h+, delay aside: F+ (1 + cos^2 i) / 2 - i Fx cos i, turned by twice the
 * orbital phase. (h+ goes with cos of the wave's phase, hx with its sine.) */
static double complex response(const gw_injection *i, const gw_detector *d, double sidereal_rad)
{
    double plus, cross;
    gw_detector_antenna(d, i->ra, i->dec, i->psi, sidereal_rad, &plus, &cross);
    const double c = cos(i->iota);
    return (plus * 0.5 * (1 + c * c) - I * cross * c) * (cos(2 * i->phase) + I * sin(2 * i->phase));
}

static void draw_sky(gw_injection *i)
{
    gw_random *r = &i->random;
    i->ra = gw_random_range(r, 0, 2 * M_PI);
    i->dec = asin(gw_random_range(r, -1, 1));
    i->psi = gw_random_range(r, 0, M_PI);
    i->iota = acos(gw_random_range(r, -1, 1));
    i->phase = gw_random_range(r, 0, M_PI);
}

/* SNR in each detector from 1 Mpc; returns weakest / strongest. */
static double unit_snrs(gw_injection *i, const gw_target *target, int n, const double *norms,
                        double sidereal_rad)
{
    double least = INFINITY, most = 0;
    for (int d = 0; d < n; d++) {
        i->at[d].snr = norms[d] * cabs(response(i, target[d].detector, sidereal_rad));
        least = fmin(least, i->at[d].snr);
        most = fmax(most, i->at[d].snr);
    }
    return most > 0 ? least / most : 0;
}

/* Fixes sky, distance and SNRs. */
static int settle(gw_injection *i, const gw_target *target, int n, const gw_waveform *w, double sidereal_rad)
{
    double norms[GW_MAX_DETECTORS], sum = 0;
    for (int d = 0; d < n; d++)
        norms[d] = norm(w, target[d].noise);
    if (i->any_sky) {
        int tries = 0;
        do {
            if (tries++ == MAX_TRIES)
                return gw_fail(GW_ERANGE, "no sky position gives a detector SNR ratio of %g; lower min_ratio",
                               i->min_ratio);
            draw_sky(i);
        } while (unit_snrs(i, target, n, norms, sidereal_rad) < i->min_ratio);
    } else {
        (void)unit_snrs(i, target, n, norms, sidereal_rad);
    }
    for (int d = 0; d < n; d++)
        sum += i->at[d].snr * i->at[d].snr;
    const double unit = sqrt(sum); /* network SNR from 1 Mpc */
    if (!(unit > 0) || !isfinite(unit))
        return gw_fail(GW_ERANGE, "the signal at GPS %.3f (%g + %g solar masses) has no power above %g Hz",
                       (double)i->gps_ns / 1e9, i->mass1, i->mass2, from_hz);
    if (i->network_snr > 0)
        i->distance_mpc = unit / i->network_snr;
    else
        i->network_snr = unit / i->distance_mpc;
    for (int d = 0; d < n; d++)
        i->at[d].snr /= i->distance_mpc;
    return GW_OK;
}

/* The detector's samples of the signal, in f->time; returns the number of the first. */
static int64_t project(const gw_waveform *w, double complex scale, int64_t arrival_ns, gw_rate rate,
                       gw_fourier *f)
{
    const uint32_t n = w->n_samples;
    const double rate_hz = gw_rate_hz(rate);
    const int64_t at = gw_sample_at_or_before(arrival_ns, rate, 0);
    const uint32_t place = n - (uint32_t)(GW_AFTER_S * rate_hz); /* of sample `at` in the buffer */
    const double late = (double)(arrival_ns - gw_sample_to_ns(at, rate, 0)) * 1e-9 * rate_hz;
    const double turns = (place + late) / n;
    for (uint32_t k = 0; k <= n / 2; k++)
        f->bins[k] = 0;
    for (uint32_t k = 0; k < w->n_bins; k++) {
        const double angle = -2 * M_PI * fmod(k * turns, 1);
        f->bins[k] = w->df_hz * scale * w->h[k] * (cos(angle) + I * sin(angle));
    }
    gw_fourier_inverse(f);
    /* The buffer is a circle; its ends must not show. */
    const uint32_t in = (uint32_t)(fade_in_s * rate_hz), out = (uint32_t)(fade_out_s * rate_hz);
    for (uint32_t k = 0; k < in; k++)
        f->time[k] *= 0.5 - 0.5 * cos(M_PI * (k + 0.5) / in);
    for (uint32_t k = 0; k < out; k++)
        f->time[n - 1 - k] *= 0.5 - 0.5 * cos(M_PI * (k + 0.5) / out);
    return at - place;
}

int gw_injection_render(gw_injection *i, const gw_target *target, int n, gw_rate rate)
{
    gw_waveform *w = NULL;
    gw_fourier *f = NULL;
    const double sidereal = gw_sidereal_rad(i->gps_ns);
    int err = gw_waveform_new(&w, i->mass1, i->mass2, gw_injection_chi(i), rate);
    if (err == GW_OK)
        err = settle(i, target, n, w, sidereal);
    if (err == GW_OK)
        err = gw_fourier_new(&f, w->n_samples);
    i->n_detectors = n;
    i->arrival_ns = INT64_MIN;
    for (int d = 0; d < n && err == GW_OK; d++) {
        const gw_detector *detector = target[d].detector;
        const double delay_s = gw_detector_delay_s(detector, i->ra, i->dec, sidereal);
        const double complex scale = response(i, detector, sidereal) / i->distance_mpc;
        i->at[d].name = detector->name;
        i->at[d].arrival_ns = i->gps_ns + (int64_t)llround(delay_s * 1e9);
        if (i->at[d].arrival_ns > i->arrival_ns)
            i->arrival_ns = i->at[d].arrival_ns;
        const int64_t first = project(w, scale, i->at[d].arrival_ns, rate, f);
        err = gw_overlay_put(target[d].list, first, f->n, target[d].channel, i->number << 1 | 1, f->time);
    }
    gw_fourier_destroy(&f);
    gw_waveform_destroy(&w);
    return err;
}

/* "H1,L1", sorted. */
static void list_detectors(const gw_injection *i, char *text, size_t size)
{
    const char *name[GW_MAX_DETECTORS];
    for (int d = 0; d < i->n_detectors; d++) {
        int at = d;
        for (; at > 0 && strcmp(name[at - 1], i->at[d].name) > 0; at--)
            name[at] = name[at - 1];
        name[at] = i->at[d].name;
    }
    text[0] = '\0';
    for (int d = 0; d < i->n_detectors; d++) {
        const size_t used = strlen(text);
        snprintf(text + used, size - used, "%s%s", d ? "," : "", name[d]);
    }
}

/* A GPS time to the nanosecond, as a JSON number. */
static void gps_text(int64_t ns, char text[32])
{
    snprintf(text, 32, "%" PRId64 ".%09" PRId64, ns / GW_SECOND_NS, ns % GW_SECOND_NS);
}

static void describe(const gw_injection *i, char *text, size_t size)
{
    char gps[32];
    const double total = i->mass1 + i->mass2, product = i->mass1 * i->mass2;
    gps_text(i->gps_ns, gps);
    snprintf(text, size,
             "{\"geocentre_gps\":%s,\"mass1\":%.6g,\"mass2\":%.6g,\"chirp_mass\":%.6g,\"spin1z\":%.6g,"
             "\"spin2z\":%.6g,\"chi\":%.6g,\"ra\":%.6g,\"dec\":%.6g,\"psi\":%.6g,\"iota\":%.6g,"
             "\"phase\":%.6g,\"distance_mpc\":%.6g,\"network_snr\":%.6g",
             gps, i->mass1, i->mass2, pow(product, 0.6) / pow(total, 0.2), i->spin1z, i->spin2z,
             gw_injection_chi(i), i->ra, i->dec, i->psi, i->iota, i->phase, i->distance_mpc, i->network_snr);
    for (int what = 0; what < 2; what++) {
        size_t used = strlen(text);
        snprintf(text + used, size - used, what ? "},\"gps\":{" : ",\"snr\":{");
        for (int d = 0; d < i->n_detectors; d++) {
            used = strlen(text);
            gps_text(i->at[d].arrival_ns, gps);
            if (what)
                snprintf(text + used, size - used, "%s\"%s\":%s", d ? "," : "", i->at[d].name, gps);
            else
                snprintf(text + used, size - used, "%s\"%s\":%.6g", d ? "," : "", i->at[d].name,
                         i->at[d].snr);
        }
    }
    const size_t used = strlen(text);
    snprintf(text + used, size - used, "}}");
}

void gw_injection_event(const gw_injection *i, uint64_t seed, gw_event *e)
{
    *e = (gw_event){.phase = GW_PHASE_INJECTION,
                    .gps_ns = i->arrival_ns,
                    .statistic = i->network_snr,
                    .noise_rate_hz = NAN,
                    .background_s = NAN,
                    .injection = true,
                    .dq = GW_DQ_ALL,
                    .due_ns = i->arrival_ns,
                    .ingest_ns = GW_NOT_KNOWN_NS,
                    .decided_ns = GW_NOT_KNOWN_NS};
    gw_random id = gw_random_at(seed, GW_FOR_POPULATION, 0xffff, i->gps_ns ^ (int64_t)(i->number << 40));
    snprintf(e->id, sizeof e->id, "I%016" PRIx64, gw_random_bits(&id));
    list_detectors(i, e->detectors, sizeof e->detectors);
    describe(i, e->detail, sizeof e->detail);
}
