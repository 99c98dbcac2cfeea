/* SPDX-License-Identifier: GPL-3.0-or-later
 * One cleaning network at work, see cleaner.h. Times here are of three kinds: samples of strain, samples of
 * the network (strain's divided by `up`), and the column of a hop. Column i of a hop that begins at network
 * sample b is the prediction for sample b - lag + i. */
#include "pipeline/stages/cleaner.h"
#include "kernels/nn/net.h"
#include "pipeline/nearest.h"
#include "pipeline/stages/card.h"
#include "pipeline/stages/prolong.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { REACH = GW_FIR_SHORT, MOST_UP = 4096 };

struct gw_cleaner {
    gw_denoise_model model;
    char sha256[GW_SHA256_TEXT], path[1024];
    const gw_kernels *kernels;
    gw_witness_feed *feed;
    gw_net *net;
    uint32_t hop, up, columns; /* strain samples a hop, strain samples a column, columns a hop */
    uint32_t lag;              /* network samples */
    uint32_t reach;            /* of the interpolation: REACH, or 0 where up is 1 */
    uint32_t warmup;           /* columns after a reset that are not to be used */
    uint32_t extra;            /* strain samples that the result waits for others */
    float *x, *out;            /* [witnesses][columns]; [columns] */
    double *phases;            /* [up][2 * reach] */
    double *past;              /* predictions: [n_past] before the hop, then the hop's */
    uint32_t n_past;
    double *future;          /* [n_future]: the prolongation */
    uint32_t n_future, told; /* told: so much of it was used; n_future: all, or there is none */
    double *scratch, *phase;
    double *late; /* [extra + hop] */
    uint64_t fed; /* columns since the network was reset */
    bool good;    /* the last hop's columns were the network's own */
    int64_t bad_from, good_from;
};

/* -- which channel is which witness ------------------------------------------------------------------ */

static int find_witness(const gw_cleaner_shape *s, const gw_denoise_model *m, uint32_t i, gw_witness_at *at)
{
    const char *name = s->n_witnesses ? s->witness[i] : m->witness[i];
    char near[4 * GW_NAME_BYTES];
    int found = 0;
    for (int p = 1; p < s->n_in; p++)
        for (uint32_t c = 0; s->in[p].channel && c < s->in[p].n_channels; c++)
            if (!strcmp(s->in[p].channel[c], name)) {
                *at = (gw_witness_at){p, c};
                found++;
            }
    if (found > 1)
        return gw_fail(GW_EMISMATCH, "witness %s comes in %d times", name, found);
    if (found && s->in[at->port].dtype == GW_U8)
        return gw_fail(GW_EMISMATCH, "witness %s is of bytes, want numbers", name);
    if (found && s->in[at->port].phase_ns != s->in[0].phase_ns)
        return gw_fail(GW_EMISMATCH, "witness %s and strain %s count their samples from different instants",
                       name, s->in[0].name);
    if (found)
        return GW_OK;
    gw_nearest_channels(s->in + 1, s->n_in - 1, name, near, sizeof near);
    return gw_fail(GW_EMISMATCH, "no witness %s comes in (%s)%s%s", name,
                   s->n_witnesses ? "list 'witnesses'" : "named by the model",
                   near[0] ? "; the nearest names are " : "; 'from' names no stream with channel names",
                   near);
}

static int find_witnesses(gw_cleaner *c, const gw_cleaner_shape *s, gw_witness_at *at)
{
    const gw_denoise_model *m = &c->model;
    if (s->n_witnesses && s->n_witnesses != m->n_witnesses)
        return gw_fail(GW_EMISMATCH,
                       "%" PRIu32 " witnesses are listed, but the network of %s takes %" PRIu32 " channels",
                       s->n_witnesses, c->path, m->n_witnesses);
    for (uint32_t i = 0; i < m->n_witnesses; i++)
        GW_TRY(find_witness(s, m, i, &at[i]));
    return GW_OK;
}

/* -- the network ------------------------------------------------------------------------------------- */

static int fit_rate(gw_cleaner *c, const gw_cleaner_shape *s)
{
    const gw_spec *strain = &s->in[0];
    const uint64_t high = strain->rate.num, low = (uint64_t)c->model.rate_hz * strain->rate.den;
    if (high % low || high / low > MOST_UP)
        return gw_fail(GW_EMISMATCH,
                       "strain %s has %g Hz, model %s %" PRIu32 " Hz: strain's rate must be a whole multiple",
                       strain->name, gw_rate_hz(strain->rate), c->path, c->model.rate_hz);
    if (strain->channel && strcmp(strain->channel[0], c->model.strain) != 0)
        return gw_fail(GW_EMISMATCH, "model %s was trained for %s, strain is %s", c->path, c->model.strain,
                       strain->channel[0]);
    c->up = (uint32_t)(high / low);
    c->hop = s->hop;
    if (s->hop % c->up)
        return gw_fail(GW_EMISMATCH, "a hop of %g s is no whole number of samples at %" PRIu32 " Hz of %s",
                       s->hop / gw_rate_hz(strain->rate), c->model.rate_hz, c->path);
    c->columns = s->hop / c->up;
    c->reach = c->up > 1 ? REACH : 0;
    return GW_OK;
}

static int open_net(gw_cleaner *c, const gw_onnx *onnx)
{
    const gw_net_options o = {.mode = GW_NET_STREAM, .hop_samples = c->columns};
    GW_TRY(gw_net_open(&c->net, onnx, c->kernels, &o));
    const gw_net_info *info = gw_net_get_info(c->net);
    const gw_net_output *y = &info->output[0];
    if (y->not_streamable)
        return gw_fail(GW_ENOTSUP, "%s: cannot be run as a stream: %s", c->path, y->not_streamable);
    if (y->pooled || y->channels != 1 || y->column_samples != 1 || y->columns != c->columns)
        return gw_fail(GW_EMISMATCH,
                       "%s: its output has %" PRIu32 " channels and a column every %" PRIu32
                       " samples; want one channel, and one sample for each that goes in",
                       c->path, y->channels, y->column_samples);
    if (c->model.shift_samples > y->delay_samples)
        return gw_fail(GW_EMISMATCH,
                       "%s: gwstream.shift_samples is %" PRIu32 ", the network looks only %" PRIu32
                       " samples ahead",
                       c->path, c->model.shift_samples, y->delay_samples);
    c->lag = gw_witness_feed_reach(c->feed) + y->delay_samples - c->model.shift_samples;
    c->warmup = y->warmup_columns;
    return GW_OK;
}

static int load(gw_cleaner *c, const gw_onnx *onnx, const gw_cleaner_shape *s)
{
    GW_TRY(gw_denoise_model_read(&c->model, onnx));
    GW_TRY(fit_rate(c, s));
    gw_witness_at *at = calloc(c->model.n_witnesses, sizeof *at);
    int err = at ? find_witnesses(c, s, at) : gw_fail(GW_ENOMEM, "%s", c->path);
    if (err == GW_OK)
        err = gw_witness_feed_new(&c->feed, &c->model, s->kernels, s->in, at, c->columns);
    free(at);
    GW_TRY(err);
    return open_net(c, onnx);
}

static int allocate(gw_cleaner *c)
{
    const uint32_t second = c->model.rate_hz, least = 2 * GW_PROLONG_ORDER, tail = 2 * REACH;
    c->n_past = second < least ? least : second;
    c->n_future = (uint32_t)ceil(GW_CLEANER_FADE_S * second) + tail + 2 * c->columns;
    c->told = c->n_future;
    c->x = calloc((size_t)c->model.n_witnesses * c->columns, sizeof *c->x);
    c->out = calloc(c->columns, sizeof *c->out);
    c->past = calloc((size_t)c->n_past + tail + c->columns, sizeof *c->past);
    c->future = calloc(c->n_future, sizeof *c->future);
    c->scratch = calloc(gw_prolong_scratch(c->n_past), sizeof *c->scratch);
    c->phase = calloc(c->columns, sizeof *c->phase);
    c->phases = calloc((size_t)c->up * 2 * REACH, sizeof *c->phases);
    double *h = calloc(2 * (size_t)REACH * c->up + 1, sizeof *h);
    const bool all = c->x && c->out && c->past && c->future && c->scratch && c->phase && c->phases && h;
    if (all && c->up > 1) {
        gw_fir_short(c->up, h);
        gw_fir_phases(h, REACH, c->up, c->phases);
    }
    free(h);
    return all ? GW_OK : gw_fail(GW_ENOMEM, "%s", c->path);
}

int gw_cleaner_new(gw_cleaner **cleaner, const char *path, const gw_cleaner_shape *s)
{
    gw_cleaner *c = *cleaner = calloc(1, sizeof *c);
    if (!c)
        return gw_fail(GW_ENOMEM, "%s", path);
    c->kernels = s->kernels;
    snprintf(c->path, sizeof c->path, "%s", path);
    gw_onnx *onnx = NULL;
    int err = gw_onnx_load(&onnx, path);
    if (err == GW_OK)
        err = load(c, onnx, s);
    gw_onnx_free(&onnx);
    if (err == GW_OK)
        err = gw_sha256_file(path, c->sha256);
    if (err == GW_OK)
        err = allocate(c);
    if (err != GW_OK)
        gw_cleaner_destroy(cleaner);
    return err;
}

void gw_cleaner_destroy(gw_cleaner **cleaner)
{
    gw_cleaner *c = *cleaner;
    if (!c)
        return;
    gw_net_close(&c->net);
    gw_witness_feed_destroy(&c->feed);
    gw_denoise_model_free(&c->model);
    free(c->x);
    free(c->out);
    free(c->past);
    free(c->future);
    free(c->scratch);
    free(c->phase);
    free(c->phases);
    free(c->late);
    free(c);
    *cleaner = NULL;
}

const gw_denoise_model *gw_cleaner_model(const gw_cleaner *c)
{
    return &c->model;
}

const char *gw_cleaner_sha256(const gw_cleaner *c)
{
    return c->sha256;
}

uint32_t gw_cleaner_delay(const gw_cleaner *c)
{
    return (c->lag + c->reach) * c->up;
}

uint32_t gw_cleaner_history(const gw_cleaner *c, int port)
{
    return gw_witness_feed_history(c->feed, port);
}

size_t gw_cleaner_bytes(const gw_cleaner *c)
{
    return gw_net_get_info(c->net)->memory_bytes + gw_net_get_info(c->net)->parameters * sizeof(float) +
           gw_witness_feed_bytes(c->feed) + (2 * c->n_past + c->n_future + 2 * c->hop) * sizeof(double);
}

int gw_cleaner_start(gw_cleaner *c, uint32_t delay)
{
    if (delay < gw_cleaner_delay(c))
        return gw_fail(GW_EMISMATCH,
                       "%s needs %" PRIu32 " samples of look-ahead at strain's rate, the stage has %" PRIu32,
                       c->path, gw_cleaner_delay(c), delay);
    c->extra = delay - gw_cleaner_delay(c);
    c->late = calloc((size_t)c->extra + c->hop, sizeof *c->late);
    if (!c->late)
        return gw_fail(GW_ENOMEM, "%s", c->path);
    gw_cleaner_reset(c);
    return GW_OK;
}

void gw_cleaner_reset(gw_cleaner *c)
{
    gw_net_reset(c->net);
    gw_witness_feed_reset(c->feed);
    c->fed = 0;
    c->good = false;
    c->told = c->n_future;
    memset(c->past, 0, ((size_t)c->n_past + 2 * REACH + c->columns) * sizeof *c->past);
    memset(c->late, 0, ((size_t)c->extra + c->hop) * sizeof *c->late);
    c->bad_from = INT64_MIN;
    c->good_from = INT64_MAX;
}

/* -- a hop ------------------------------------------------------------------------------------------- */

/* The hop's columns: y[columns]. The first *lost of them are not the network's own, and not filled. */
static int predict(gw_cleaner *c, const gw_view *view, double *y, uint32_t *lost, gw_cleaner_out *out)
{
    out->fault = gw_witness_feed_take(c->feed, view, c->x, &out->witness);
    *lost = c->columns;
    if (out->fault == GW_WITNESS_FINE) {
        const gw_net_in in = {.x = c->x, .channel_stride = c->columns};
        GW_TRY(gw_net_run(c->net, &in, &c->out));
        *lost = c->fed >= c->warmup               ? 0
                : c->warmup - c->fed < c->columns ? (uint32_t)(c->warmup - c->fed)
                                                  : c->columns;
        c->fed += c->columns;
        double nothing = 0;
        for (uint32_t i = *lost; i < c->columns; i++) {
            y[i] = c->out[i] * c->model.output_scale;
            nothing += y[i] * 0;
        }
        if (nothing == 0)
            return GW_OK;
        out->fault = GW_NETWORK_NAN;
        *lost = c->columns;
    }
    if (c->fed)
        gw_net_reset(c->net);
    c->fed = 0;
    return GW_OK;
}

/* Fills the columns [0, lost) with what can be said without the network. */
static void fill_in(gw_cleaner *c, double *y, uint32_t lost)
{
    const double *past = y - c->n_past;
    if (c->good && lost) {
        gw_prolong(past, c->n_past, c->future, c->n_future, c->scratch);
        c->told = 0;
    }
    for (uint32_t i = 0; i < lost; i++)
        y[i] = c->told < c->n_future ? c->future[c->told++] : 0;
    c->good = lost == 0;
    if (c->good)
        c->told = c->n_future;
}

/* Keeps what the hop that begins at strain sample `from` says of validity, for outputs that come later. */
static void mark(gw_cleaner *c, int64_t from, bool was_good, uint32_t lost)
{
    const int64_t first = from - (int64_t)gw_cleaner_delay(c);
    const int64_t reach = 2 * (int64_t)c->reach * c->up; /* the interpolation's whole width */
    if (lost && was_good) {
        /* What went before and is not out yet stays as it was said. */
        if (c->good_from <= first - c->extra)
            c->bad_from = first;
        else
            c->good_from = INT64_MAX;
    }
    if (lost == c->columns)
        c->good_from = INT64_MAX;
    else if (c->good_from == INT64_MAX)
        c->good_from = first + (int64_t)lost * c->up + reach;
}

/* p[hop] from the predictions of this hop and those before. */
static void interpolate(gw_cleaner *c, const double *y, double *p)
{
    if (c->up == 1) {
        memcpy(p, y, c->hop * sizeof *p);
        return;
    }
    /* p[0] lies at the column -REACH: it weighs the columns -2 REACH + 1 .. 0 */
    for (uint32_t j = 0; j < c->up; j++) {
        c->kernels->fir.decimate(c->phases + (size_t)j * 2 * REACH, 2 * REACH, 1, y - 2 * REACH + 1, c->phase,
                                 c->columns);
        for (uint32_t i = 0; i < c->columns; i++)
            p[(size_t)i * c->up + j] = c->phase[i];
    }
}

int gw_cleaner_step(gw_cleaner *c, const gw_view *view, gw_cleaner_out *out)
{
    const size_t keep = (size_t)c->n_past + 2 * REACH;
    double *y = c->past + keep;
    uint32_t lost;
    *out = (gw_cleaner_out){.p = c->late};
    memmove(c->past, c->past + c->columns, keep * sizeof *c->past);
    GW_TRY(predict(c, view, y, &lost, out));
    const bool was_good = c->good;
    if (c->told < c->n_future) /* the gate may still be fading: no change back before it is shut */
        lost = c->columns;
    fill_in(c, y, lost);
    mark(c, view[0].sample0, was_good, lost);
    memmove(c->late, c->late + c->hop, c->extra * sizeof *c->late);
    interpolate(c, y, c->late + c->extra);
    const int64_t from = view[0].sample0 - (int64_t)gw_cleaner_delay(c) - c->extra;
    out->bad_from = c->bad_from;
    out->good_from = c->good_from;
    out->valid = from + c->hop <= c->bad_from || from >= c->good_from;
    return GW_OK;
}
