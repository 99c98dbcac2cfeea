/* SPDX-License-Identifier: GPL-3.0-or-later
 * One simulated signal: a binary somewhere in the sky, projected onto the detectors and scaled. Called by
 * population.c, which says which signals there are.
 *
 * SNR is the optimal one, against the true PSD of the simulation with its lines (not against a realised or
 * estimated one): rho^2 = 4 sum |h(f)|^2 / S(f) df from 20 Hz to the Nyquist frequency; the network SNR is
 * the root of the sum of rho^2 over the detectors of the list. */
#ifndef GW_INJECTION_H
#define GW_INJECTION_H

#include "pipeline/event.h"
#include "sources/detector.h"
#include "sources/noise.h"
#include "sources/overlay.h"
#include "sources/random.h"

enum { GW_MAX_DETECTORS = 3 };

/* Where signals go. */
typedef struct gw_target {
    const gw_detector *detector;
    const gw_noise *noise; /* its true spectrum */
    gw_overlay **list;     /* its stream; channel `channel` */
    int channel;
} gw_target;

typedef struct gw_injection {
    uint64_t number;     /* in its run: part of the id and of the order of sums */
    int64_t gps_ns;      /* coalescence (peak of |h|) at the geocentre */
    double mass1, mass2; /* solar masses, detector frame */
    double spin1z, spin2z;
    double ra, dec, psi, iota; /* radians */
    double phase;              /* orbital, at coalescence */
    double network_snr;        /* asked for; 0 = the distance is given. Set by gw_injection_render */
    double distance_mpc;       /* set by gw_injection_render when an SNR was asked for */
    bool any_sky;              /* draw ra .. phase from `random`, again and again until min_ratio is met */
    double min_ratio;          /* of the weakest to the strongest detector's SNR */
    gw_random random;
    /* set by gw_injection_render */
    int n_detectors;
    struct {
        const char *name;
        int64_t arrival_ns;
        double snr;
    } at[GW_MAX_DETECTORS];
    int64_t arrival_ns; /* at the latest of them */
} gw_injection;

double gw_injection_chi(const gw_injection *i); /* (m1 s1 + m2 s2) / (m1 + m2) */
/* Nothing of the signal lies more than this before gps_ns. */
double gw_injection_before_s(const gw_injection *i);

/* Makes the waveform, settles sky, distance and SNRs, and puts the signal on the list of each target.
 * GW_ERANGE when there is nothing to be seen of it. */
int gw_injection_render(gw_injection *i, const gw_target *target, int n_targets, gw_rate rate);

/* The truth as an event; the caller adds stream and times. */
void gw_injection_event(const gw_injection *i, uint64_t seed, gw_event *e);

#endif
