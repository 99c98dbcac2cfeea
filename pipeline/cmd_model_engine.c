/* SPDX-License-Identifier: GPL-3.0-or-later
 * A model made ready for `gwstream model`: loaded, simplified, and opened as a plan, or node by node where no
 * plan covers it. Runs any number of windows through either, row-major tensors in and out. */
#include "pipeline/cmd_model.h"

#include "kernels/nn/simplify.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int gw_model_load(gw_onnx **m, const gw_model_options *o, int64_t batch)
{
    gw_onnx *file = NULL;
    GW_TRY(gw_onnx_load(&file, o->path));
    const gw_onnx_binding bind = {.batch = batch, .name = o->dim_name, .value = o->dim_value};
    const int err = gw_onnx_simplify(m, file, &bind);
    gw_onnx_free(&file);
    return err;
}

/* One tensor for all windows of an output. */
static int make_output(gw_tensor *t, const char *path, gw_onnx_type type, int rank, const int64_t *dim,
                       int64_t calls)
{
    int64_t all[GW_ONNX_MAX_RANK] = {calls};
    memcpy(all, dim, (size_t)rank * sizeof *all);
    if (rank > 0)
        all[0] *= calls;
    else if (calls > 1)
        rank = 1;
    GW_TRY(gw_tensor_set(t, type, rank, all));
    t->data = calloc(gw_tensor_elements(t) + 1, gw_tensor_type_bytes(type));
    return t->data ? GW_OK : gw_fail(GW_ENOMEM, "%s: no memory for its outputs", path);
}

static int open_plan(gw_model_engine *e, int64_t windows, const gw_model_options *o)
{
    const gw_net_options want = {.mode = GW_NET_WINDOW, .device = o->device, .precision = o->precision};
    GW_TRY(gw_net_open(&e->net, e->m, &e->k, &want));
    e->calls = windows > 0 ? windows : 1;
    const gw_net_info *info = gw_net_get_info(e->net);
    e->channel_stride = info->window_samples;
    e->window_stride = (size_t)info->n_channels * info->window_samples;
    for (int i = 0; i < info->n_outputs; i++) {
        const gw_net_output *out = &info->output[i];
        GW_TRY(make_output(&e->out[i], e->m->path, GW_ONNX_FLOAT, out->rank, out->dim, e->calls));
        e->n_out++;
    }
    return GW_OK;
}

static int open_nodes(gw_model_engine *e, const gw_model_options *o, int64_t windows)
{
    if (windows > 1) { /* as many in one call as the file allows */
        gw_onnx_free(&e->m);
        GW_TRY(gw_model_load(&e->m, o, windows));
    }
    const gw_onnx_value *x = e->m->n_inputs ? &e->m->input[0] : NULL;
    const int64_t batch = x && x->rank > 0 ? x->dim[0] : 1;
    if (batch < 1 || windows % batch)
        return gw_fail(GW_EMISMATCH, "%s: takes windows %lld at a time, not %lld", e->m->path,
                       (long long)batch, (long long)windows);
    e->calls = windows > 0 ? windows / batch : 1;
    if (e->calls > 1 && e->m->n_inputs > 1)
        return gw_fail(GW_ENOTSUP, "%s: has %d inputs and a batch of %lld; give it exactly that", e->m->path,
                       e->m->n_inputs, (long long)batch);
    GW_TRY(gw_exec_open(&e->exec, e->m, &e->k));
    for (int i = 0; i < e->m->n_outputs; i++) {
        const gw_onnx_value *out = &e->m->output[i];
        GW_TRY(make_output(&e->out[i], e->m->path, out->type, out->rank, out->dim, e->calls));
        e->n_out++;
    }
    return GW_OK;
}

static int open_either(gw_model_engine *e, const gw_model_options *o, int64_t windows)
{
    GW_TRY(gw_kernels_init(&e->k, o->level));
    GW_TRY(gw_model_load(&e->m, o, 1));
    if (e->m->n_outputs > GW_MODEL_FILES || e->m->n_inputs > GW_MODEL_FILES)
        return gw_fail(GW_ENOTSUP, "%s: more than %d inputs or outputs", o->path, GW_MODEL_FILES);
    if (o->nodes && o->device)
        return gw_fail(GW_EUSAGE, "%s: --device cuda needs a plan; --nodes has none", o->path);
    if (!o->nodes) {
        const int err = open_plan(e, windows, o);
        if (err != GW_ENOTSUP || o->device)
            return err;
        snprintf(e->why, sizeof e->why, "%s", gw_err_detail());
        gw_net_close(&e->net);
    }
    return open_nodes(e, o, windows);
}

int gw_model_engine_open(gw_model_engine *e, const gw_model_options *o, int64_t windows)
{
    *e = (gw_model_engine){0};
    const int err = open_either(e, o, windows);
    if (err < 0)
        gw_model_engine_close(e);
    return err;
}

void gw_model_engine_close(gw_model_engine *e)
{
    gw_net_close(&e->net);
    gw_exec_close(&e->exec);
    gw_onnx_free(&e->m);
    for (int i = 0; i < GW_MODEL_FILES; i++)
        free(e->out[i].data);
    *e = (gw_model_engine){0};
}

static int run_plan(gw_model_engine *e, const gw_tensor *in)
{
    const gw_net_in x = {.x = in[0].data,
                         .channel_stride = e->channel_stride,
                         .window_stride = e->window_stride,
                         .n_windows = (uint32_t)e->calls};
    float *out[GW_MODEL_FILES];
    for (int i = 0; i < e->n_out; i++)
        out[i] = e->out[i].data;
    return gw_net_run(e->net, &x, out);
}

static int run_nodes(gw_model_engine *e, const gw_tensor *in)
{
    gw_tensor part[GW_MODEL_FILES], out[GW_MODEL_FILES];
    for (int64_t call = 0; call < e->calls; call++) {
        for (int i = 0; i < e->m->n_inputs; i++) {
            const gw_onnx_value *v = &e->m->input[i];
            part[i] = in[i];
            memcpy(part[i].dim, v->dim, sizeof part[i].dim);
            const size_t bytes = gw_tensor_elements(&part[i]) * gw_tensor_type_bytes(part[i].type);
            part[i].data = (char *)in[i].data + (size_t)call * bytes;
        }
        GW_TRY(gw_exec_run(e->exec, part, out));
        for (int i = 0; i < e->n_out; i++) {
            const size_t bytes = gw_tensor_elements(&out[i]) * gw_tensor_type_bytes(out[i].type);
            memcpy((char *)e->out[i].data + (size_t)call * bytes, out[i].data, bytes);
        }
    }
    return GW_OK;
}

int gw_model_engine_run(gw_model_engine *e, const gw_tensor *in)
{
    return e->net ? run_plan(e, in) : run_nodes(e, in);
}
