/* SPDX-License-Identifier: GPL-3.0-or-later
 * psd_file.h. Names, ages and the thread are checkpoint.c's; what is in the file, and how, is psd_hdf5.c's. */
#include "pipeline/stages/psd_file.h"

#include "pipeline/log.h"
#include "pipeline/stages/psd_hdf5.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

struct gw_psd_file {
    gw_psd_contents is;  /* of the file that was read, or is written next */
    gw_psd_entry *entry; /* [n_channels], into its tables */
    gw_checkpoint *file;
    bool found; /* read and fitting */
};

/* In the thread. */
static int write_file(void *arg, const char *path)
{
    gw_psd_file *f = arg;
    for (uint32_t c = 0; c < f->is.n_channels; c++) {
        f->is.segments[c] = f->entry[c].segments;
        f->is.scale[c] = f->entry[c].scale;
    }
    return gw_psd_hdf5_write(&f->is, path);
}

/* -- life -------------------------------------------------------------------------------------------- */

size_t gw_psd_file_bytes(const gw_psd_shape *s)
{
    return s->n_channels * ((size_t)s->rows * s->bins * sizeof(float) + s->taps * sizeof(double) +
                            sizeof(gw_psd_entry) + GW_NAME_BYTES);
}

static int allocate(gw_psd_file *f, const gw_psd_shape *s)
{
    gw_psd_contents *is = &f->is;
    const size_t n = is->n_channels, row = (size_t)is->rows * is->bins;
    is->channel = calloc(n, sizeof *is->channel);
    is->segments = calloc(n, sizeof *is->segments);
    is->scale = calloc(n, sizeof *is->scale);
    is->psd = calloc(n * row, sizeof *is->psd);
    is->taps = calloc(n * is->n_taps + 1, sizeof *is->taps);
    f->entry = calloc(n, sizeof *f->entry);
    if (!is->channel || !is->segments || !is->scale || !is->psd || !is->taps || !f->entry)
        return gw_fail(GW_ENOMEM, "checkpoint of %" PRIu32 " channels", is->n_channels);
    for (size_t c = 0; c < n; c++) {
        if (s->in->channel)
            snprintf(is->channel[c], sizeof is->channel[c], "%s", s->in->channel[c]);
        f->entry[c] = (gw_psd_entry){.scale = 1, .psd = is->psd + c * row, .taps = is->taps + c * is->n_taps};
    }
    return GW_OK;
}

static void read_file(gw_psd_file *f)
{
    if (!gw_checkpoint_exists(f->file))
        return;
    f->found = gw_psd_hdf5_read(&f->is, gw_checkpoint_path(f->file)) == GW_OK;
    if (!f->found)
        gw_log(GW_LOG_WARN, f->is.name, "checkpoint %s: not used, starting cold", gw_err_detail());
    for (uint32_t c = 0; f->found && c < f->is.n_channels; c++) {
        f->entry[c].segments = f->is.segments[c];
        f->entry[c].scale = f->is.scale[c];
    }
}

int gw_psd_file_new(gw_psd_file **out, const gw_checkpoint_keys *k, const gw_psd_shape *s)
{
    *out = NULL;
    gw_psd_file *f = calloc(1, sizeof *f);
    if (!f)
        return gw_fail(GW_ENOMEM, "checkpoint");
    gw_spec any_block = *s->in;
    any_block.block_samples = 0;
    *f = (gw_psd_file){.is = {.spec_hash = gw_spec_hash(&any_block),
                              .rate_hz = gw_rate_hz(s->in->rate),
                              .bin_hz = s->bin_hz,
                              .n_channels = s->n_channels,
                              .rows = s->rows,
                              .bins = s->bins,
                              .n_taps = s->taps}};
    snprintf(f->is.name, sizeof f->is.name, "%s", s->name);
    snprintf(f->is.settings, sizeof f->is.settings, "%s", s->settings);
    int err = allocate(f, s);
    if (err == GW_OK)
        err = gw_checkpoint_new(&f->file, k, f->is.name, write_file, f);
    if (err != GW_OK) {
        gw_psd_file_destroy(&f);
        return err;
    }
    read_file(f);
    *out = f;
    return GW_OK;
}

void gw_psd_file_destroy(gw_psd_file **ff)
{
    gw_psd_file *f = *ff;
    if (!f)
        return;
    *ff = NULL;
    gw_checkpoint_destroy(&f->file);
    free(f->is.channel);
    free(f->is.segments);
    free(f->is.scale);
    free(f->is.psd);
    free(f->is.taps);
    free(f->entry);
    free(f);
}

bool gw_psd_file_warm(gw_psd_file *f, int64_t now_ns, uint32_t flags)
{
    if (!gw_checkpoint_warm(f->file, f->found, f->is.gps_ns, now_ns, flags))
        return false;
    uint32_t known = 0;
    for (uint32_t c = 0; c < f->is.n_channels; c++)
        known += f->entry[c].segments > 0;
    gw_log(GW_LOG_INFO, f->is.name, "warm start from %s, %.0f s old: %" PRIu32 " of %" PRIu32 " PSDs",
           gw_checkpoint_path(f->file), (double)(now_ns - f->is.gps_ns) / 1e9, known, f->is.n_channels);
    return known > 0;
}

gw_psd_entry *gw_psd_file_entry(gw_psd_file *f, uint32_t channel)
{
    return &f->entry[channel];
}

bool gw_psd_file_begin(gw_psd_file *f)
{
    return gw_checkpoint_begin(f->file);
}

void gw_psd_file_save(gw_psd_file *f, int64_t gps_ns)
{
    f->is.gps_ns = gps_ns;
    gw_checkpoint_save(f->file);
}

void gw_psd_file_wait(gw_psd_file *f)
{
    gw_checkpoint_wait(f->file);
}
