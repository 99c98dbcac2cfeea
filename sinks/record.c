/* SPDX-License-Identifier: GPL-3.0-or-later
 * kind: record. Any number of streams to HDF5 that h5py, GWpy and our own replay read. Run by the runner;
 * which file a block goes to is series.c's, the files' layout hdf5_out.c's. Changes no sample.
 *
 * Flushing goes by the wall clock: it bounds what a crash costs and decides nothing about the content. */
#include "pipeline/stage.h"
#include "sinks/series.h"

#include <stdlib.h>
#include <string.h>

enum { WIDE_FILE_SECONDS = 60 };

typedef struct record {
    char *path;
    int64_t flush_ns;
    int layout; /* an index of `layouts` */
    gw_series_conf conf;
    gw_spec spec[GW_MAX_PORTS];
    int n_specs;
    gw_series *series;
    int64_t next_flush_ns;
} record;

static const char *const layouts[] = {"auto", "gwpy", "wide", NULL};

static int record_configure(void *self, gw_conf *conf)
{
    record *r = self;
    gw_conf *node;
    const char *path = "";
    uint64_t chunk_bytes = 0;
    r->flush_ns = GW_SECOND_NS;
    GW_TRY(gw_conf_need(conf, "path", &node));
    GW_TRY(gw_conf_get_text(conf, "path", &path));
    GW_TRY(gw_conf_get_choice(conf, "layout", layouts, &r->layout));
    GW_TRY(gw_conf_get_span_ns(conf, "every", &r->conf.every_ns));
    GW_TRY(gw_conf_get_span_ns(conf, "flush", &r->flush_ns));
    GW_TRY(gw_conf_get_bytes(conf, "chunk", &chunk_bytes));
    GW_TRY(gw_conf_get_bool(conf, "sync", &r->conf.file.sync));
    GW_TRY(gw_conf_get_bool(conf, "overwrite", &r->conf.file.overwrite));
    if (!*path)
        return gw_conf_fail(node, "path: is empty");
    if (chunk_bytes > 1u << 30)
        return gw_conf_fail(gw_conf_find(conf, "chunk"), "chunk: at most 1GiB");
    r->conf.file.chunk_bytes = (size_t)chunk_bytes;
    r->path = strdup(path);
    return r->path ? GW_OK : gw_fail(GW_ENOMEM, "%s", path);
}

static void free_specs(record *r)
{
    while (r->n_specs > 0)
        gw_spec_free(&r->spec[--r->n_specs]);
}

static int record_plan(void *self, gw_plan *plan)
{
    record *r = self;
    free_specs(r);
    if (plan->n_in == 0)
        return gw_fail(GW_ECONFIG, "%s: 'from' names no stream of samples", plan->name);
    for (; r->n_specs < plan->n_in; r->n_specs++)
        GW_TRY(gw_spec_copy(&r->spec[r->n_specs], &plan->in[r->n_specs]));
    gw_hdf5_out_conf *file = &r->conf.file;
    file->path = r->path;
    file->spec = r->spec;
    file->n_streams = r->n_specs;
    file->layout = r->layout == 0   ? gw_layout_for(r->spec, r->n_specs)
                   : r->layout == 1 ? GW_LAYOUT_GWPY
                                    : GW_LAYOUT_WIDE;
    if (file->layout == GW_LAYOUT_WIDE && r->conf.every_ns == 0)
        r->conf.every_ns = WIDE_FILE_SECONDS * GW_SECOND_NS;
    return gw_series_check(&r->conf);
}

static int record_open(void *self, gw_env *env)
{
    record *r = self;
    r->conf.name = gw_env_name(env);
    r->conf.file.run_id = gw_env_run_id(env);
    r->next_flush_ns = gw_monotonic_ns() + r->flush_ns;
    return gw_series_new(&r->series, &r->conf);
}

static int flush_if_due(record *r)
{
    const int64_t now_ns = gw_monotonic_ns();
    if (now_ns < r->next_flush_ns)
        return GW_OK;
    r->next_flush_ns = now_ns + r->flush_ns;
    return gw_series_flush(r->series);
}

static int record_take(void *self, int port, const gw_view *in)
{
    record *r = self;
    GW_TRY(gw_series_write(r->series, port, in));
    return flush_if_due(r);
}

static int record_gap(void *self, int port, const gw_hole *hole)
{
    record *r = self;
    GW_TRY(gw_series_gap(r->series, port, hole));
    return flush_if_due(r);
}

static int record_drain(void *self, gw_out *out)
{
    record *r = self;
    (void)out;
    return gw_series_finish(r->series);
}

static void record_close(void *self)
{
    record *r = self;
    gw_series_destroy(&r->series);
    free_specs(r);
    free(r->path);
    *r = (record){0};
}

const gw_kind gw_kind_record = {
    .kind = "record",
    .help = "streams to HDF5: GWpy's layout, or a wide one for many channels",
    .role = GW_SINK,
    .takes_presence = true,
    .state_size = sizeof(record),
    .configure = record_configure,
    .plan = record_plan,
    .open = record_open,
    .take = record_take,
    .gap = record_gap,
    .drain = record_drain,
    .close = record_close,
};
