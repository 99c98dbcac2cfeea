/* SPDX-License-Identifier: GPL-3.0-or-later
 * Bulk whitening by cuFFT: for windows and segments that do not fit into one block's shared memory or are no
 * power of two, and as the form that the fused kernel is measured against. Called by bulk.cu. Its calls
 * only enqueue. */
#ifndef GW_BULK_FFT_CUH
#define GW_BULK_FFT_CUH

#include "kernels/cuda/bulk.cuh"
#include "kernels/cuda/cufft.cuh"

struct gw_bulk_fft; /* plans and memory of one slot */

/* The least even number of at least n points, divisible by 2 * decimate, with no prime factor beyond 5. */
unsigned gw_fft_even_size(unsigned n, unsigned decimate);

/* Neither windows nor segments that are done elsewhere get plans. *f is for at most n_batch channels a call.
 */
int gw_bulk_fft_new(gw_bulk_fft **f, const gw_gpu_shape *p, bool no_windows, bool no_segments,
                    unsigned n_batch, cudaStream_t stream);
void gw_bulk_fft_destroy(gw_bulk_fft **f);

void gw_bulk_fft_respond(gw_bulk_fft *f, cudaStream_t stream, const float *taps, float gain,
                         gw_gpu_response *w);
void gw_bulk_fft_whiten(gw_bulk_fft *f, cudaStream_t stream, const gw_gpu_call *call, bool fading);
void gw_bulk_fft_segments(gw_bulk_fft *f, cudaStream_t stream,
                          const gw_gpu_call *call); /* the PSD, after it */

#endif
