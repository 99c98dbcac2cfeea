/* SPDX-License-Identifier: GPL-3.0-or-later
 * Witness channels and the noise that what they see makes in strain, so that the perfect subtraction is
 * known: what is added to strain is also given by itself. Called by sim.c, one gw_witnesses for each
 * detector.
 *
 * Each channel sees a process of unit variance, s: a line (shared by all channels of its group, each with a
 * phase of its own) or Gaussian noise in a band (each channel its own). It is written as
 *   x = gain * (s + noise * white + strain * h / h0)
 * with h the strain itself, low-passed and 32 samples late, and h0 = sqrt(S(100 Hz) * rate / 2), S the floor.
 * Each coupling adds to strain
 *   c = scale * R[u^power * v],   u, v: sums of processes with weights from the seed, of unit variance
 * where v is 1 unless `times` is given, an even power has its mean taken off, and R is a sum of resonators
 * (two poles, unit gain at the peak) or nothing. The scale makes the ASD of c, in 2 s Hann segments of the 64
 * s from GPS 0 on, `height` times the floor's where that is largest.
 *
 * All of it is a function of configuration and sample number (a resonator begins 40 of its time constants
 * before the first sample), made at the witnesses' rate and brought to that of strain by a windowed sinc of
 * 64 taps, good to .4 of that rate. */
#ifndef GW_WITNESS_H
#define GW_WITNESS_H

#include "pipeline/config.h"
#include "sources/asd.h"

enum { GW_MAX_WITNESSES = 512, GW_MAX_COUPLINGS = 64, GW_MAX_RESONANCES = 8 };

typedef struct gw_witness_group {
    const char *name;
    uint32_t first, count; /* channels */
    double line_hz;        /* 0: noise in a band */
    double low_hz, high_hz;
    double wander_hz; /* line: its frequency keeps within about so much */
} gw_witness_group;

typedef struct gw_coupling {
    uint32_t of_first, of_count, times_first, times_count; /* channels; times_count 0: none */
    int power, n_resonances;
    double resonance_hz[GW_MAX_RESONANCES], q[GW_MAX_RESONANCES];
    double height;
} gw_coupling;

/* From YAML; the same for all detectors. Text belongs to the file. */
typedef struct gw_witness_design {
    gw_rate rate;
    uint32_t ratio, block_samples; /* strain samples a sample; samples of a block */
    double noise, strain;
    uint32_t n_channels;
    int n_groups, n_couplings;
    gw_witness_group *group;
    gw_coupling *coupling;
} gw_witness_design;

/* conf: {rate, noise, strain, channels: [...], couplings: [...]}. block_s, strain_rate: as for strain. */
int gw_witness_configure(gw_witness_design *d, gw_conf *conf, gw_rate strain_rate, gw_rate block_s);
void gw_witness_release(gw_witness_design *d);
/* "H1:PEM-MAINS_2" */
void gw_witness_name(const gw_witness_design *d, uint32_t channel, const char *detector, char *text,
                     size_t n);
size_t gw_witness_bytes(const gw_witness_design *d); /* that gw_witnesses_new allocates */

typedef struct gw_witnesses gw_witnesses;

/* `d` must outlive it; `asd` is read now. first: the first sample of strain. */
int gw_witnesses_new(gw_witnesses **w, const gw_witness_design *d, const gw_asd *asd, uint64_t seed,
                     uint32_t detector, int64_t first);
void gw_witnesses_destroy(gw_witnesses **w);
/* What the couplings add to the next n samples of strain: exact[n]. */
void gw_witnesses_couple(gw_witnesses *w, uint32_t n, double *exact);
/* The witnesses of the same n samples of strain h[n], after gw_witnesses_couple: [channel][samples], packed;
 * returns how many samples (those at multiples of `ratio`). */
uint32_t gw_witnesses_see(gw_witnesses *w, uint32_t n, const double *h, float *x);

#endif
