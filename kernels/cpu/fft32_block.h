/* SPDX-License-Identifier: GPL-3.0-or-later
 * Real transforms of 2^a 5^b points that stay in the second-level cache, built three times like bulk_loops.h.
 * Behind fft32.h; nobody else calls them. */
#ifndef GW_FFT32_BLOCK_H
#define GW_FFT32_BLOCK_H

#include "kernels/cpu/fft32.h"

enum {
    GW_FFT32_BLOCK_MAX = 1 << 18,
    GW_FFT32_BLOCK_COLUMN = 512
}; /* points, of a transform and of a column */

typedef struct gw_fft32_block gw_fft32_block; /* tables of one length, for both directions */

typedef struct gw_fft32_block_ops {
    /* rows: gw_fft32_block_rows(n), not 0. NULL: no memory. free() ends it. */
    gw_fft32_block *(*tables_new)(uint32_t n, uint32_t rows);
    /* As gw_fft32_run says. */
    void (*forward)(const gw_fft32_block *t, const float *time, float *freq, gw_fft32_ahead *ahead);
    void (*inverse)(const gw_fft32_block *t, float *freq, float *time, gw_fft32_ahead *ahead);
    /* As gw_fft32_filter says, where can_filter. */
    bool (*can_filter)(const gw_fft32_block *t);
    void (*filter)(const gw_fft32_block *t, const gw_fft32_product *f, const float *time, float *work,
                   float *out, gw_fft32_ahead *ahead);
    void (*low_product)(const gw_fft32_block *t, const gw_fft32_product *f, uint32_t bins, const float *time,
                        float *work, float *freq, gw_fft32_ahead *ahead);
    uint32_t width;
} gw_fft32_block_ops;

/* How n / 2 complex numbers are laid out in rows and columns, so that all builds can do it: 0 if they cannot.
 */
uint32_t gw_fft32_block_rows(uint32_t n);

extern const gw_fft32_block_ops gw_fft32_block_any, gw_fft32_block_avx2, gw_fft32_block_avx512;

#endif
