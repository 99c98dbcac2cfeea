/* SPDX-License-Identifier: GPL-3.0-or-later
 * The sink `challenge`: at the end of the run it writes the events as the event file of MLGWSC-1, the machine-learning
 * mock data challenge, so that its own evaluation can score a search. Run by the graph through
 * gw_kind_challenge; `gwstream replay --challenge` writes the graph.
 *
 *   kind: challenge    from: search    path: events.hdf5    tolerance: 200ms    overwrite: false
 *
 * HDF5 with three float64 datasets of one length, in the order of time: `time` (GPS s, the arrival at the later
 * detector), `stat` (the ranking statistic), `var` (tolerance, s: an injection no further away has been found).
 * One row an event, with its last word; what was retracted is left out, and so is what a source says that it
 * injected. */
#include "pipeline/hdf5_lock.h"
#include "pipeline/log.h"
#include "pipeline/stage.h"
#include "sinks/hdf5_out.h"

#include <errno.h>
#include <hdf5.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct row {
    char id[GW_EVENT_ID_BYTES];
    int64_t gps_ns;
    double statistic;
} row;

typedef struct challenge {
    const char *path, *name;
    bool overwrite;
    int64_t tolerance_ns;
    row *row; /* [n] in the order of the first words */
    size_t n, room;
} challenge;

static int configure(void *self, gw_conf *conf)
{
    challenge *c = self;
    gw_conf *value;
    c->name = "challenge";
    c->tolerance_ns = GW_SECOND_NS / 5;
    GW_TRY(gw_conf_need(conf, "path", &value));
    GW_TRY(gw_conf_text(value, &c->path));
    if (!*c->path)
        return gw_conf_fail(value, "challenge: path: wants the name of a file");
    GW_TRY(gw_conf_get_span_ns(conf, "tolerance", &c->tolerance_ns));
    if (c->tolerance_ns <= 0 || c->tolerance_ns > 10 * GW_SECOND_NS)
        return gw_conf_fail(conf, "challenge: tolerance: %.3g s; more than 0 and at most 10 s make sense",
                            (double)c->tolerance_ns / 1e9);
    return gw_conf_get_bool(conf, "overwrite", &c->overwrite);
}

static int plan(void *self, gw_plan *plan)
{
    (void)self;
    if (!plan->has_events_in)
        return gw_fail(GW_ECONFIG, "%s: nothing in its 'from' makes events; name a detect stage", plan->name);
    return GW_OK;
}

static int open_sink(void *self, gw_env *env)
{
    challenge *c = self;
    c->name = gw_env_name(env);
    return gw_hdf5_out_check(c->path, c->overwrite); /* better said now than after a month of data */
}

/* ---- while it runs ---- */

/* Of the newest events only a few are still open: looked for from the end. */
static row *find(challenge *c, const char *id)
{
    for (size_t i = c->n; i-- > 0;)
        if (strcmp(c->row[i].id, id) == 0)
            return &c->row[i];
    return NULL;
}

static int add(challenge *c, const gw_event *e)
{
    if (c->n == c->room) {
        const size_t room = c->room ? 2 * c->room : 64;
        row *more = realloc(c->row, room * sizeof *more);
        if (!more)
            return gw_fail(GW_ENOMEM, "%zu events", room);
        c->row = more;
        c->room = room;
    }
    row *r = &c->row[c->n++];
    *r = (row){.gps_ns = e->gps_ns, .statistic = e->statistic};
    memcpy(r->id, e->id, sizeof r->id);
    return GW_OK;
}

static int event(void *self, const gw_event *e)
{
    challenge *c = self;
    if (e->phase == GW_PHASE_INJECTION)
        return GW_OK;
    row *known = find(c, e->id);
    if (e->phase == GW_PHASE_RETRACTED) {
        if (known)
            memmove(known, known + 1, (size_t)(&c->row[--c->n] - known) * sizeof *known);
        return GW_OK;
    }
    if (!known)
        return add(c, e);
    known->gps_ns = e->gps_ns;
    known->statistic = e->statistic;
    return GW_OK;
}

static int take(void *self, int port, const gw_view *v)
{
    (void)self, (void)port, (void)v;
    return GW_OK;
}

/* ---- the file ---- */

static int put(hid_t file, const char *name, const double *x, size_t n)
{
    const hsize_t size = n;
    const hid_t space = H5Screate_simple(1, &size, NULL);
    const hid_t set =
        space < 0 ? -1 : H5Dcreate2(file, name, H5T_IEEE_F64LE, space, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
    const bool well =
        set >= 0 && (n == 0 || H5Dwrite(set, H5T_NATIVE_DOUBLE, H5S_ALL, H5S_ALL, H5P_DEFAULT, x) >= 0);
    if (set >= 0)
        H5Dclose(set);
    if (space >= 0)
        H5Sclose(space);
    return well ? GW_OK : GW_EIO;
}

static int by_time(const void *x, const void *y)
{
    const row *a = x, *b = y;
    return a->gps_ns < b->gps_ns ? -1 : a->gps_ns > b->gps_ns;
}

/* To `part` first: a file under its own name is whole. */
static int write_file(challenge *c, const char *part)
{
    double *x = malloc((3 * c->n + 1) * sizeof *x);
    if (!x)
        return gw_fail(GW_ENOMEM, "%zu events", c->n);
    if (c->n)
        qsort(c->row, c->n, sizeof *c->row, by_time);
    for (size_t i = 0; i < c->n; i++) {
        x[i] = (double)c->row[i].gps_ns * 1e-9;
        x[c->n + i] = c->row[i].statistic;
        x[2 * c->n + i] = (double)c->tolerance_ns * 1e-9;
    }
    gw_hdf5_lock();
    const hid_t file = H5Fcreate(part, H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
    int err = file < 0 || put(file, "time", x, c->n) < 0 || put(file, "stat", x + c->n, c->n) < 0 ||
                      put(file, "var", x + 2 * c->n, c->n) < 0
                  ? GW_EIO
                  : GW_OK;
    if (err < 0)
        err = gw_fail(GW_EIO, "%s: %s", c->path, gw_hdf5_reason());
    if (file >= 0 && H5Fclose(file) < 0 && err == GW_OK)
        err = gw_fail(GW_EIO, "%s: %s", c->path, gw_hdf5_reason());
    gw_hdf5_unlock();
    free(x);
    if (err == GW_OK && rename(part, c->path) < 0)
        err = gw_fail(GW_EIO, "%s: %s", c->path, strerror(errno));
    if (err < 0)
        unlink(part);
    return err;
}

static int drain(void *self, gw_out *out)
{
    challenge *c = self;
    char part[4096];
    (void)out;
    if (snprintf(part, sizeof part, "%s.part", c->path) >= (int)sizeof part)
        return gw_fail(GW_ERANGE, "%s: the name is too long", c->path);
    GW_TRY(write_file(c, part));
    gw_log(GW_LOG_INFO, c->name, "%s: %zu events", c->path, c->n);
    return GW_OK;
}

static void close_sink(void *self)
{
    challenge *c = self;
    free(c->row);
    c->row = NULL;
}

const gw_kind gw_kind_challenge = {
    .kind = "challenge",
    .help = "writes the events as the event file of the MLGWSC-1 challenge",
    .role = GW_SINK,
    .takes_events = true,
    .state_size = sizeof(challenge),
    .configure = configure,
    .plan = plan,
    .open = open_sink,
    .take = take,
    .event = event,
    .drain = drain,
    .close = close_sink,
};
