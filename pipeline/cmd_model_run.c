/* SPDX-License-Identifier: GPL-3.0-or-later
 * `gwstream model run`: a network from files to files, in windows or as a stream. A series longer than a
 * window is read window by window, so both ways can be held beside each other. */
#include "pipeline/cmd_model.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct files {
    gw_tensor in[GW_MODEL_FILES];
    const char *out[GW_MODEL_FILES]; /* where each output goes; NULL: nowhere */
    int64_t windows;
    int64_t
        hop; /* the first input is a series [1][channel][samples], a window each `hop`; 0: it is windows */
} files;

/* "NAME=FILE" -> the file if NAME is this one; a bare FILE belongs to its own place in the list. */
static const char *file_for(const char *const *list, int n, int place, const char *name)
{
    const size_t length = strlen(name);
    int bare = 0;
    for (int i = 0; i < n; i++) {
        const char *equal = strchr(list[i], '=');
        if (!equal && bare++ == place)
            return list[i];
        if (equal && (size_t)(equal - list[i]) == length && strncmp(list[i], name, length) == 0)
            return equal + 1;
    }
    return NULL;
}

/* Every NAME= that was given is the name of one of these. */
static int names_known(const char *const *list, int n, const gw_onnx_value *v, int n_v, const char *what)
{
    int bare = 0;
    for (int i = 0; i < n; i++) {
        const char *equal = strchr(list[i], '=');
        bool known = !equal && bare++ < n_v;
        for (int k = 0; equal && k < n_v; k++)
            known = known || (strlen(v[k].name) == (size_t)(equal - list[i]) &&
                              strncmp(list[i], v[k].name, (size_t)(equal - list[i])) == 0);
        if (!known)
            return gw_fail(GW_EUSAGE, "'%s': the network has %d %ss, the first is '%s'", list[i], n_v, what,
                           n_v ? v[0].name : "");
    }
    return GW_OK;
}

/* float64 files do for float32 networks. */
static int as_type(gw_tensor *t, gw_onnx_type type, const char *file)
{
    if (t->type == type)
        return GW_OK;
    if (t->type != GW_ONNX_DOUBLE || type != GW_ONNX_FLOAT)
        return gw_fail(GW_EMISMATCH, "%s: holds %s, the network wants %s", file, gw_array_type_text(t->type),
                       gw_array_type_text(type));
    const size_t n = gw_tensor_elements(t);
    const double *from = t->data;
    float *to = malloc((n + 1) * sizeof *to);
    if (!to)
        return gw_fail(GW_ENOMEM, "%s: no memory", file);
    for (size_t i = 0; i < n; i++)
        to[i] = (float)from[i];
    free(t->data);
    t->data = to;
    t->type = GW_ONNX_FLOAT;
    return GW_OK;
}

/* [channel][sample] -> [1][channel][sample]. */
static void as_batch(gw_tensor *t, int rank)
{
    if (t->rank != rank - 1 || rank > GW_ONNX_MAX_RANK)
        return;
    memmove(t->dim + 1, t->dim, (size_t)t->rank * sizeof *t->dim);
    t->dim[0] = 1;
    t->rank = rank;
}

/* A series [1][channel][samples] -> n windows [n][channel][window], for the engine that cannot read them in
 * place. */
static int cut(gw_tensor *t, int64_t n, int64_t window, int64_t hop)
{
    const int64_t samples = t->dim[2], channels = t->dim[1], shape[3] = {n, channels, window};
    gw_tensor all;
    GW_TRY(gw_tensor_set(&all, t->type, 3, shape));
    const size_t each = gw_tensor_type_bytes(t->type);
    all.data = malloc(gw_tensor_elements(&all) * each + 1);
    if (!all.data)
        return gw_fail(GW_ENOMEM, "no memory for %lld windows", (long long)n);
    for (int64_t i = 0; i < n; i++)
        for (int64_t c = 0; c < channels; c++)
            memcpy((char *)all.data + (size_t)((i * channels + c) * window) * each,
                   (const char *)t->data + (size_t)(c * samples + i * hop) * each, (size_t)window * each);
    free(t->data);
    *t = all;
    return GW_OK;
}

/* Reads one input; the shape is the network's but for the number of windows. */
static int read_input(files *f, int i, const gw_onnx_value *v, const gw_model_options *o, const char *file)
{
    char has[200], wants[200];
    gw_tensor *t = &f->in[i];
    GW_TRY(gw_array_read(t, file));
    GW_TRY(as_type(t, v->type, file));
    as_batch(t, v->rank);
    const bool series = i == 0 && v->rank == 3 && t->rank == 3 && t->dim[0] == 1 && t->dim[1] == v->dim[1];
    if (o->stream && series)
        return GW_OK;
    if (series && t->dim[2] > v->dim[2]) {
        f->hop = o->hop ? o->hop : v->dim[2];
        f->windows = (t->dim[2] - v->dim[2]) / f->hop + 1;
        return GW_OK;
    }
    bool fits = t->rank == v->rank && !o->stream && (i == 0 || !f->hop);
    for (int d = 1; fits && d < t->rank; d++)
        fits = t->dim[d] == v->dim[d];
    if (i == 0)
        f->windows = t->rank > 0 ? t->dim[0] : 1;
    return fits ? GW_OK
                : gw_fail(GW_EMISMATCH, "%s: is %s, the network's '%s' is %s%s", file,
                          gw_array_shape_text(t->rank, t->dim, has, sizeof has), v->name,
                          gw_array_shape_text(v->rank, v->dim, wants, sizeof wants),
                          o->stream ? " (a stream: [channel][sample])" : "");
}

static int read_inputs(files *f, const gw_onnx *m, const gw_model_options *o)
{
    GW_TRY(names_known(o->in, o->n_in, m->input, m->n_inputs, "input"));
    GW_TRY(names_known(o->out, o->n_out, m->output, m->n_outputs, "output"));
    if (o->n_out == 0)
        return gw_fail(GW_EUSAGE, "run: no --out file for '%s'", m->n_outputs ? m->output[0].name : "");
    for (int i = 0; i < m->n_outputs; i++)
        f->out[i] = file_for(o->out, o->n_out, i, m->output[i].name);
    for (int i = 0; i < m->n_inputs; i++) {
        const char *file = file_for(o->in, o->n_in, i, m->input[i].name);
        if (!file)
            return gw_fail(GW_EUSAGE, "run: no --in file for input '%s'", m->input[i].name);
        GW_TRY(read_input(f, i, &m->input[i], o, file));
    }
    return GW_OK;
}

/* ---- windows ---- */

static int run_windows(files *f, const gw_onnx *m, const gw_model_options *o)
{
    gw_model_engine e;
    char shape[200];
    GW_TRY(gw_model_engine_open(&e, o, f->windows));
    int err = GW_OK;
    if (f->hop && e.net) {
        e.channel_stride = (size_t)f->in[0].dim[2];
        e.window_stride = (size_t)f->hop;
    } else if (f->hop) {
        err = cut(&f->in[0], f->windows, m->input[0].dim[2], f->hop);
    }
    if (err == GW_OK)
        err = gw_model_engine_run(&e, f->in);
    for (int i = 0; i < e.n_out && err == GW_OK; i++) {
        if (!f->out[i])
            continue;
        err = gw_array_write(&e.out[i], f->out[i]);
        if (err == GW_OK)
            printf("%s: %s %s, %s\n", f->out[i], e.m->output[i].name,
                   gw_array_shape_text(e.out[i].rank, e.out[i].dim, shape, sizeof shape),
                   e.net ? "planned" : "node by node");
    }
    gw_model_engine_close(&e);
    return err;
}

/* ---- stream ---- */

/* Hop by hop: x [channels][samples] -> all[i] [channels][hops x columns]. */
static int step(gw_net *net, const gw_tensor *x, int64_t hops, gw_tensor *all, float **piece)
{
    const gw_net_info *info = gw_net_get_info(net);
    const size_t samples = (size_t)x->dim[2];
    for (int64_t h = 0; h < hops; h++) {
        const gw_net_in in = {.x = (const float *)x->data + (size_t)h * info->hop_samples,
                              .channel_stride = samples};
        GW_TRY(gw_net_run(net, &in, piece));
        for (int i = 0; i < info->n_outputs; i++) {
            const size_t columns = info->output[i].columns;
            for (size_t c = 0; c < info->output[i].channels; c++)
                memcpy((float *)all[i].data + (c * (size_t)hops + (size_t)h) * columns,
                       piece[i] + c * columns, columns * sizeof(float));
        }
    }
    return GW_OK;
}

static int make_outputs(const gw_net_info *info, int64_t hops, gw_tensor *all, float **piece)
{
    if (info->n_outputs > GW_MODEL_FILES)
        return gw_fail(GW_ENOTSUP, "more than %d outputs", GW_MODEL_FILES);
    for (int i = 0; i < info->n_outputs; i++) {
        const gw_net_output *out = &info->output[i];
        const int64_t dim[2] = {out->channels, hops * out->columns};
        GW_TRY(gw_tensor_set(&all[i], GW_ONNX_FLOAT, 2, dim));
        all[i].data = calloc(gw_tensor_elements(&all[i]) + 1, sizeof(float));
        piece[i] = calloc((size_t)out->channels * out->columns + 1, sizeof(float));
        if (!all[i].data || !piece[i])
            return gw_fail(GW_ENOMEM, "no memory for output '%s'", out->name);
    }
    return GW_OK;
}

static int write_stream(const files *f, const gw_net_info *info, const gw_tensor *all)
{
    char shape[200];
    for (int i = 0; i < info->n_outputs; i++) {
        const gw_net_output *out = &info->output[i];
        if (!f->out[i])
            continue;
        GW_TRY(gw_array_write(&all[i], f->out[i]));
        printf("%s: %s %s, a column each %u samples, %u samples late; as a window's after %u columns\n",
               f->out[i], out->name, gw_array_shape_text(2, all[i].dim, shape, sizeof shape),
               out->column_samples, out->delay_samples, out->warmup_columns);
    }
    return GW_OK;
}

static int run_stream(files *f, const gw_onnx *m, const gw_model_options *o)
{
    gw_kernels k;
    gw_net *net = NULL;
    gw_tensor all[GW_MODEL_FILES] = {0};
    float *piece[GW_MODEL_FILES] = {0};
    const gw_net_options want = {.mode = GW_NET_STREAM,
                                 .hop_samples = (uint32_t)o->hop,
                                 .device = o->device,
                                 .precision = o->precision};
    GW_TRY(gw_kernels_init(&k, o->level));
    GW_TRY(gw_net_open(&net, m, &k, &want));
    const gw_net_info *info = gw_net_get_info(net);
    const int64_t hops = f->in[0].dim[2] / info->hop_samples;
    int err = hops < 1 ? gw_fail(GW_EMISMATCH, "the series of %lld samples is shorter than a hop of %u",
                                 (long long)f->in[0].dim[2], info->hop_samples)
                       : make_outputs(info, hops, all, piece);
    if (err == GW_OK)
        err = step(net, &f->in[0], hops, all, piece);
    if (err == GW_OK)
        err = write_stream(f, info, all);
    for (int i = 0; i < GW_MODEL_FILES; i++) {
        free(all[i].data);
        free(piece[i]);
    }
    gw_net_close(&net);
    return err;
}

int gw_model_run(const gw_model_options *o)
{
    files f = {0};
    gw_onnx *m = NULL;
    if (o->stream && o->nodes)
        return gw_fail(GW_EUSAGE, "run: a stream needs a plan; --nodes has none");
    GW_TRY(gw_model_load(&m, o, 1));
    int err = m->n_inputs > GW_MODEL_FILES || m->n_outputs > GW_MODEL_FILES || m->n_inputs < 1
                  ? gw_fail(GW_ENOTSUP, "%s: %d inputs and %d outputs; at most %d, and one input at least",
                            o->path, m->n_inputs, m->n_outputs, GW_MODEL_FILES)
                  : read_inputs(&f, m, o);
    if (err == GW_OK)
        err = o->stream ? run_stream(&f, m, o) : run_windows(&f, m, o);
    for (int i = 0; i < GW_MODEL_FILES; i++)
        free(f.in[i].data);
    gw_onnx_free(&m);
    return err;
}
