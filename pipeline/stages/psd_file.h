/* SPDX-License-Identifier: GPL-3.0-or-later
 * The checkpoint of what a whitener has learnt: an HDF5 file of PSDs a channel, written each minute and at
 * the end, read once at the start. Used by whiten and whiten_bulk, which fill and read the entries; what is
 * in the file is here. Its name, its age and the thread that writes it are as for all checkpoints
 * (checkpoint.h, with the keys). It fits only the same stream (gw_spec_hash, whatever the block length) and
 * the same settings.
 *
 * What comes back is what the segments of the earlier run were, and they count as segments of this run until
 * real ones push them out: whiten keeps its whole sliding set (`rows` spectra a channel), whiten_bulk the one
 * mean (rows = 1) and how many segments stand behind it. So a warm start is like a hole as long as the time
 * between the runs. A filter is a function of the data and the time alone where there was a cold start, and
 * again once the PSD's memory is full of data of this run.
 *
 * Layout: attributes format ("gwstream-psd-1"), name, settings, spec_hash, gps_ns, bin_hz, rate_hz, crc32c
 * (of gps_ns, segments, scale, psd, taps as they lie in memory); datasets channels [channel] (names),
 * segments [channel] uint32, scale [channel] float64, psd [channel][row][bin] float32 in (scale x unit)^2 /
 * Hz, oldest row first, and taps [channel][tap] float64 where there are taps. */
#ifndef GW_PSD_FILE_H
#define GW_PSD_FILE_H

#include "pipeline/stages/checkpoint.h"

typedef struct gw_psd_shape {
    const char *name;     /* of the stage: "white.H1" */
    const gw_spec *in;    /* its input, lent for the call */
    const char *settings; /* all else that the entries depend on, as one line; at most 255 characters */
    uint32_t n_channels;  /* entries: the input's channels, or fewer */
    uint32_t rows, bins;  /* spectra an entry, and bins of each */
    uint32_t taps;        /* 0: none are kept */
    double bin_hz;        /* distance of the bins */
} gw_psd_shape;

typedef struct gw_psd_file gw_psd_file;

/* In the file's own buffer: psd[rows][bins], taps[taps]. */
typedef struct gw_psd_entry {
    uint32_t segments; /* that the PSD stands on; 0: nothing learnt, psd means nothing */
    double scale;      /* > 0: a power of two that brings the powers into float32's range */
    float *psd;
    double *taps;
} gw_psd_entry;

/* Bytes that _new allocates, for plan. */
size_t gw_psd_file_bytes(const gw_psd_shape *s);

/* In open. Allocates the one buffer, starts the thread and, if the file is there and fits, reads it. A file
 * that is missing, damaged or of another spec is no error: one line says so, and the start is a cold one.
 * GW_ENOMEM, GW_ESYSTEM; GW_EMISSING, GW_EACCESS where the folder could not take a file. */
int gw_psd_file_new(gw_psd_file **f, const gw_checkpoint_keys *k, const gw_psd_shape *s);
/* Waits for the write under way. */
void gw_psd_file_destroy(gw_psd_file **f);

/* Once, with the first good samples (`flags`: of their block): whether the entries are those of a file young
 * enough to go on from. Says in one line what came of it. Also settles whether this run writes. */
bool gw_psd_file_warm(gw_psd_file *f, int64_t now_ns, uint32_t flags);

/* The entry of a channel. Where _warm said true: what was read, until the first _begin. Between _begin and
 * _save: to be filled, in any thread, each channel by one. */
gw_psd_entry *gw_psd_file_entry(gw_psd_file *f, uint32_t channel);

/* Opens the buffer for filling. False: the last file is still being written, or this run writes none (an
 * archive is replayed); nothing may be filled then. Filling may take many steps. */
bool gw_psd_file_begin(gw_psd_file *f);
/* The entries are complete and hold what was learnt from data before `gps_ns`. Returns at once: the thread
 * writes them. A file that cannot be written is said once, and once more when it can be again. */
void gw_psd_file_save(gw_psd_file *f, int64_t gps_ns);
/* At the end of a run, before _begin and _save for the last time: waits until the thread is idle. */
void gw_psd_file_wait(gw_psd_file *f);

#endif
