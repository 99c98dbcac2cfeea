/* SPDX-License-Identifier: GPL-3.0-or-later
 * The HDF5 side of a checkpoint: one file written whole, or read whole and checked. Called by psd_file.c,
 * whose header describes the layout; knows nothing of threads, ages and names of files. Takes the HDF5 lock
 * itself, for about 4 MiB at a time, for recorders want it too. */
#ifndef GW_PSD_HDF5_H
#define GW_PSD_HDF5_H

#include "pipeline/block.h"

enum { GW_PSD_SETTINGS_BYTES = 256 };

typedef struct gw_psd_contents {
    char name[GW_NAME_BYTES], settings[GW_PSD_SETTINGS_BYTES];
    uint64_t spec_hash;
    int64_t gps_ns;
    double rate_hz, bin_hz;
    uint32_t n_channels, rows, bins, n_taps;
    char (*channel)[GW_NAME_BYTES]; /* [n_channels] */
    uint32_t *segments;             /* [n_channels] */
    double *scale;                  /* [n_channels] */
    float *psd;                     /* [channel][row][bin] */
    double *taps;                   /* [channel][tap] */
} gw_psd_contents;

/* Makes the file anew. GW_EIO with the reason. */
int gw_psd_hdf5_write(const gw_psd_contents *c, const char *path);

/* Fills gps_ns, segments, scale, psd and taps from a file that says of the rest what *c says. GW_EFORMAT or
 * GW_EMISMATCH with the reason; what is filled then means nothing. */
int gw_psd_hdf5_read(gw_psd_contents *c, const char *path);

#endif
