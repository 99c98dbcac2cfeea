/* SPDX-License-Identifier: GPL-3.0-or-later
 * kind: record. Any number of streams to one HDF5 file that GWpy, h5py and our own replay read. Run by the
 * runner; the file's layout is hdf5_out.c's. Changes no sample.
 *
 * Flushing goes by the wall clock: it bounds what a crash costs and decides nothing about the content. */
#include "pipeline/stage.h"
#include "sinks/hdf5_out.h"

#include <stdlib.h>
#include <string.h>

typedef struct record {
    char *path;
    int64_t flush_ns;
    bool overwrite;
    gw_spec spec[GW_MAX_PORTS];
    int n_specs;
    gw_hdf5_out *out;
    int64_t next_flush_ns;
} record;

static int record_configure(void *self, gw_conf *conf)
{
    record *r = self;
    gw_conf *node;
    const char *path = "";
    r->flush_ns = GW_SECOND_NS;
    GW_TRY(gw_conf_need(conf, "path", &node));
    GW_TRY(gw_conf_get_text(conf, "path", &path));
    GW_TRY(gw_conf_get_span_ns(conf, "flush", &r->flush_ns));
    GW_TRY(gw_conf_get_bool(conf, "overwrite", &r->overwrite));
    if (!*path)
        return gw_conf_fail(node, "path: is empty");
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
    GW_TRY(gw_hdf5_out_check(r->path, r->overwrite));
    if (plan->n_in == 0)
        return gw_fail(GW_ECONFIG, "%s: 'from' names no stream of samples", plan->name);
    for (; r->n_specs < plan->n_in; r->n_specs++)
        GW_TRY(gw_spec_copy(&r->spec[r->n_specs], &plan->in[r->n_specs]));
    return GW_OK;
}

static int record_open(void *self, gw_env *env)
{
    record *r = self;
    r->next_flush_ns = gw_monotonic_ns() + r->flush_ns;
    return gw_hdf5_out_new(&r->out, r->path, r->overwrite, r->spec, r->n_specs, gw_env_run_id(env));
}

static int flush_if_due(record *r)
{
    const int64_t now_ns = gw_monotonic_ns();
    if (now_ns < r->next_flush_ns)
        return GW_OK;
    r->next_flush_ns = now_ns + r->flush_ns;
    return gw_hdf5_out_flush(r->out);
}

static int record_take(void *self, int port, const gw_view *in)
{
    record *r = self;
    GW_TRY(gw_hdf5_out_write(r->out, port, in));
    return flush_if_due(r);
}

static int record_gap(void *self, int port, const gw_hole *hole)
{
    record *r = self;
    GW_TRY(gw_hdf5_out_gap(r->out, port, hole));
    return flush_if_due(r);
}

static int record_drain(void *self, gw_out *out)
{
    record *r = self;
    (void)out;
    return gw_hdf5_out_finish(r->out);
}

static void record_close(void *self)
{
    record *r = self;
    gw_hdf5_out_destroy(&r->out);
    free_specs(r);
    free(r->path);
    *r = (record){0};
}

const gw_kind gw_kind_record = {
    .kind = "record",
    .help = "streams to one HDF5 file in the GWpy layout",
    .role = GW_SINK,
    .state_size = sizeof(record),
    .configure = record_configure,
    .plan = record_plan,
    .open = record_open,
    .take = record_take,
    .gap = record_gap,
    .drain = record_drain,
    .close = record_close,
};
