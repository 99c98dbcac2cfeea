/* SPDX-License-Identifier: GPL-3.0-or-later
 * Long FIR filters on a stream, a short hop at a time without delay: overlap-save in equal partitions
 * (Stockham, AFIPS 28, 229, 1966; Gardner, J. Audio Eng. Soc. 43, 127, 1995). The taps are cut into pieces of
 * one hop; the spectra of the last hops are kept, so a hop costs one short transform, a multiply-add for each
 * piece, and one transform back, whatever the length of the filter. A convolver is the memory of one channel;
 * several filters may be run on it (a cross-fade), and one filter on many channels. */
#ifndef GW_CONVOLVER_H
#define GW_CONVOLVER_H

#include "kernels/spectrum.h"

typedef struct gw_convolver gw_convolver;

int gw_convolver_new(gw_convolver **c, const gw_spectrum_ops *ops, uint32_t n_taps, uint32_t hop);
void gw_convolver_destroy(gw_convolver **c);

/* A filter made ready: taps[n_taps] -> response[gw_convolver_response_size()], good for every convolver of
 * the same n_taps and hop. */
size_t gw_convolver_response_size(const gw_convolver *c); /* doubles */
void gw_convolver_prepare(gw_convolver *c, const double *taps, double *response);

void gw_convolver_reset(gw_convolver *c);                 /* the past becomes zeros */
void gw_convolver_push(gw_convolver *c, const double *x); /* x[hop], the next samples */

/* y[hop] = the response on the samples pushed last: y[i] = sum over k of taps[k] x[i - k], to within
 * 1e-14 of the rms of the terms. Values are whole once n_taps - 1 + hop samples have been pushed. */
void gw_convolver_run(gw_convolver *c, const double *response, double *y);

#endif
