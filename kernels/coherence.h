/* SPDX-License-Identifier: GPL-3.0-or-later
 * Which channels explain a target channel: coherence, how probable it is by chance, and the greedy choice of
 * channels that explain what the ones before them leave. Pure arithmetic upon cross spectra; plain C, once a
 * minute. Called by sinks/rank_table.c. Knows no streams, names or files.
 *
 * Chance: with n independent averages and unrelated Gaussian channels, P(coherence > c) = (1 - c)^(n - 1), so
 * e = -(n - 1) ln(1 - c) is exponentially distributed with mean 1 in each bin (Carter, Proc. IEEE 75 (1987)
 * 236). After m channels have been taken out of both sides, n becomes n - m. */
#ifndef GW_COHERENCE_H
#define GW_COHERENCE_H

#include "kernels/spectrum.h"

/* Independent averages in `segments` Hann segments at 50 % overlap (Welch, 1967). */
double gw_coherence_averages(double segments);

/* ln of the probability that unrelated channels show as much as this in `bins` bins that lie `step` bins of
 * a Hann window apart: the larger surprise of the sum and of the greatest of e[bins], as a pair. 0 at most.
 */
double gw_coherence_log_chance(const double *e, uint32_t bins, uint32_t step);

/* ln P(G > x) of a Gamma variable of this shape and scale 1. Relative error of P below 1e-6. */
double gw_coherence_log_tail(double shape, double x);

/* Cross spectra of `channels` channels and the target, which comes last, in each bin of one band. */
typedef struct gw_gram {
    uint32_t bins, channels, step; /* step: as above */
    double averages;               /* behind each element */
    gw_complex *g;                 /* [bins][channels + 1][channels + 1]: <x_i conj(x_j)>, Hermitian */
    const bool *may;               /* [channels] be taken out of this band; NULL: all */
} gw_gram;

typedef struct gw_choice {
    uint32_t channel;
    int band;          /* in which it gains most */
    uint32_t bands;    /* bit k: it was taken out of band k */
    double log_chance; /* there, after the channels before it */
} gw_choice;

/* Chooses up to `most` channels, one after the other, each time the one that lowers the predicted ratio of
 * ASDs most: the mean over bins of sqrt(residual / whole), times what n - m degrees of freedom have flattered
 * it; summed as logarithms over the bands in which its partial coherence is less probable by chance than
 * exp(log_limit). It is taken out of those bands alone, of others when it has become significant there too.
 * Stops where nobody gains 0.01 %. The grams are destroyed: what is left in them is the residual.
 * choice[most], ratio[most][n_bands]: the predicted ratio in each band after each choice. n_bands <= 32.
 * Returns how many were chosen, or GW_ENOMEM. */
int gw_coherence_choose(gw_gram *gram, int n_bands, double log_limit, uint32_t most, gw_choice *choice,
                        double *ratio);

#endif
