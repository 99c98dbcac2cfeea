/* SPDX-License-Identifier: GPL-3.0-or-later
 * The memory of the ranking: short spectra of every channel at the bins of interest, for the last minutes.
 * Filled by rank.c as blocks come, read by rank_table.c. One thread; transforms run in the shared pool.
 *
 * All on the grid of whole GPS seconds, whatever the rates: segment j is the 2 s from second j on, under a
 * periodic Hann window, bins every 0.5 Hz, no mean taken off. Overlapping by half, such windows add up to 1,
 * so that what is slow (below 8 Hz) and what lies round a line are put together again from the same segments
 * as series at 16 Hz: x(t) of every channel, and of those that are fast enough d(t), the line's complex
 * envelope, x = Re d exp(2 pi i f0 t). Slow segment q is the 16 s from second 8 q on, of x.
 *
 * The sidebands of a line: Z = transform of d_strain conj(d_carrier) / |d_carrier|, whose bins at +f and -f
 * are strain's upper and lower sideband relative to the carrier's phase, to be compared with x at f. The
 * carrier is a witness that is mostly this line, coherent with strain's if any is, and no copy of strain;
 * else strain's own phase, and then both sidebands are one. */
#ifndef GW_RANK_SPECTRA_H
#define GW_RANK_SPECTRA_H

#include "kernels/kernels.h"
#include "pipeline/stage.h"

enum {
    GW_RANK_BANDS = 16,     /* and lines, at most */
    GW_RANK_BAND_BINS = 48, /* of a band: a wider one is thinned */
    GW_RANK_PROBES = 32,    /* bins from 20 to 1000 Hz, for what sees strain everywhere */
    GW_RANK_SEGMENT_S = 2,
    GW_RANK_SLOW_HZ = 16,
    GW_RANK_SLOW_S = 16, /* of a slow segment */
    GW_RANK_SLOW_HOP_S = 8,
    GW_RANK_SLOW_FIRST = 2, /* bins of 1/16 Hz: 0.125 to 3 Hz */
    GW_RANK_SLOW_BINS = 47,
    GW_RANK_SERIES = 64 * GW_RANK_SLOW_HZ, /* samples that are kept of a series at 16 Hz */
    GW_RANK_SPARE_S = 32                   /* streams may be this far apart */
};

typedef struct gw_bin {
    float re, im;
} gw_bin;

typedef struct gw_rank_band {
    double low_hz, high_hz;
    uint32_t first, bins; /* in a row */
    uint32_t step;        /* of 0.5 Hz, from bin to bin */
} gw_rank_band;

typedef struct gw_rank_line {
    double hz;                   /* rounded to 0.5 Hz */
    uint32_t bin;                /* in a row: the line's own */
    int carrier_stream, carrier; /* stream -1: strain itself; -2: not known yet */
    gw_bin *sideband;            /* [slow_slots][2][SLOW_BINS]: upper, lower (conjugate) */
    uint8_t *good;               /* [slow_slots] */
} gw_rank_line;

typedef struct gw_rank_stream {
    gw_dtype dtype;
    uint32_t rate, channels; /* samples a second */
    const char (*name)[GW_NAME_BYTES];
    char *raw;           /* [channel][2 rate]: sample s at s mod 2 rate */
    int64_t at;          /* next sample; INT64_MIN before the first */
    int64_t valid;       /* everything from here on has come */
    int64_t segment;     /* next */
    int64_t flagged;     /* second until which an injection reaches */
    int64_t *absent;     /* [channel] sample until which it is not to be used */
    gw_bin *row;         /* [channel][slots][row_bins] */
    uint8_t *good;       /* [slots][channel] */
    int64_t *slot;       /* [slots] the segment that is there */
    uint8_t *injected;   /* [slots] */
    double *slow;        /* [channel][SERIES] */
    int64_t *slow_valid; /* [channel] second from which slow and line are whole */
    gw_bin *slow_row;    /* [channel][slow_slots][SLOW_BINS] */
    uint8_t *slow_good;  /* [slow_slots][channel] */
    int64_t *slow_slot;  /* [slow_slots] */
    gw_bin *line;        /* [channel][n_lines][SERIES] */
    float *prominence;   /* [channel][n_lines][2]: of the first segments, power at the line and beside it */
    uint8_t *seen;       /* [channel] segments in prominence */
    uint8_t *refused;    /* [channel] by list: to be set after open */
    gw_fft **fft;        /* [threads] of a segment */
    double *window;      /* [2 rate] */
} gw_rank_stream;

typedef struct gw_rank_spectra {
    gw_kernels kernels;
    int n_streams, n_bands, n_lines;
    gw_rank_stream stream[GW_MAX_PORTS];
    gw_rank_band band[GW_RANK_BANDS];
    gw_rank_line line[GW_RANK_BANDS];
    int strain_stream;
    uint32_t strain;
    uint32_t slots, slow_slots; /* segments kept */
    uint32_t row_bins, probe;   /* of a row; where its probes begin */
    uint32_t *row_bin;          /* [row_bins] which bin of 0.5 Hz */
    int64_t slow_done;          /* next slow segment whose sidebands are to be made; INT64_MIN: none yet */
    int threads;
    gw_fft **slow_fft; /* [threads + 2] */
    double *slow_window;
} gw_rank_spectra;

/* Bands, lines, strain, streams (dtype, rate, channels, name) and slots are set. `bytes` of what new will
 * allocate for `threads` threads. */
void gw_rank_spectra_layout(gw_rank_spectra *s, int64_t memory_s);
size_t gw_rank_spectra_bytes(const gw_rank_spectra *s, int threads);
int gw_rank_spectra_open(gw_rank_spectra *s);
void gw_rank_spectra_close(gw_rank_spectra *s);

int gw_rank_spectra_block(gw_rank_spectra *s, int stream, const gw_view *v);
void gw_rank_spectra_hole(gw_rank_spectra *s, int stream, int64_t until);
/* Second before which all segments that begin there are done in all streams. INT64_MIN before all began. */
int64_t gw_rank_spectra_done(const gw_rank_spectra *s);
/* Makes the sidebands of all lines up to there. Call it whenever `done` has grown. */
void gw_rank_spectra_sidebands(gw_rank_spectra *s, int64_t done);

/* A channel's row of segment j, or NULL where there is none. */
const gw_bin *gw_rank_row(const gw_rank_spectra *s, int stream, uint32_t channel, int64_t j, bool *injected);
const gw_bin *gw_rank_slow_row(const gw_rank_spectra *s, int stream, uint32_t channel, int64_t q);
/* [2][SLOW_BINS] of slow segment q, or NULL. */
const gw_bin *gw_rank_sideband(const gw_rank_spectra *s, int line, int64_t q);

#endif
