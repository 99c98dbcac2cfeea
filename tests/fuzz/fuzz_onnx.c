/* SPDX-License-Identifier: GPL-3.0-or-later
 * Fuzz target of the ONNX reader and of what is made from a file: plan, stream plan, and, where it is
 * small, a run in the reference kernels. Nothing may crash, leak, or read outside the input. */
#include "kernels/nn/plan.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Every pointer that the reader hands out is read once. */
static size_t touch(const gw_onnx *m)
{
    size_t sum = 0;
    for (int i = 0; i < m->n_initialisers; i++)
        for (size_t k = 0; k < m->initialiser[i].bytes; k++)
            sum += ((const unsigned char *)m->initialiser[i].data)[k];
    for (int i = 0; i < m->n_nodes; i++) {
        const gw_onnx_node *n = &m->node[i];
        sum += strlen(n->name) + strlen(n->op) + strlen(n->domain);
        for (int k = 0; k < n->n_in; k++)
            sum += strlen(n->in[k]);
        for (int k = 0; k < n->n_out; k++)
            sum += strlen(n->out[k]);
        for (int k = 0; k < n->n_attr; k++) {
            const gw_onnx_attr *a = &n->attr[k];
            sum += strlen(a->name) + (a->type == GW_ATTR_STRING ? strlen(a->s) : 0);
            for (int j = 0; j < a->count; j++)
                sum += a->type == GW_ATTR_INTS ? (size_t)a->ints[j] : a->floats[j] > 0;
        }
    }
    for (int i = 0; i < m->n_inputs; i++)
        sum += strlen(m->input[i].name);
    return sum + (gw_onnx_meta(m, "gwstream.window_samples") != NULL);
}

static bool is_small(const gw_netplan *p)
{
    double values = p->flop;
    for (int i = 0; i < p->n_buffers; i++)
        values +=
            ((double)p->buffer[i].before + p->buffer[i].columns + p->buffer[i].after) * p->buffer[i].channels;
    return values < 1e6;
}

static void run(const gw_onnx *m)
{
    gw_kernels k;
    memset(&k, 0, sizeof k);
    gw_conv_ref(&k.conv);
    gw_net *n = NULL;
    if (gw_net_open_any(&n, m, &k) < 0)
        return;
    const gw_net_info *info = gw_net_get_info(n);
    float *x = calloc((size_t)info->n_channels * info->window_samples, sizeof *x);
    if (x)
        (void)gw_net_run_any(n, x, info->window_samples);
    const gw_netplan *p = gw_net_plan(n);
    for (int i = 0; i < p->n_outputs; i++) {
        float *y = calloc((size_t)p->buffer[p->output[i].buffer].channels * p->output[i].columns, sizeof *y);
        if (y)
            (void)gw_net_output(n, i, y);
        free(y);
    }
    gw_net_close(&n);
    if (x && gw_net_open(&n, m, &k, GW_NET_STREAM, 0) == GW_OK) {
        float logit, arrival[4096];
        info = gw_net_get_info(n);
        const bool fits =
            info->n_arrival == 0 || info->frame_samples / info->arrival_samples < 4096 / info->n_arrival;
        for (int i = 0; i < 2; i++)
            (void)gw_net_step(n, x, info->frame_samples, &logit, fits ? arrival : NULL);
    }
    gw_net_close(&n);
    free(x);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static volatile size_t sum;
    gw_onnx *m;
    gw_err_clear();
    if (gw_onnx_parse(&m, "fuzz", data, size) < 0) {
        if (m || gw_err_detail()[0] == '\0')
            abort(); /* a refusal gives nothing and says why */
        return 0;
    }
    sum = touch(m);
    (void)sum;
    gw_netplan *p = NULL;
    if (gw_netplan_window(&p, m) == GW_OK && is_small(p)) {
        if (gw_netplan_stream(p, "fuzz", 0) < 0 || is_small(p))
            run(m);
    }
    gw_netplan_free(&p);
    gw_onnx_free(&m);
    return 0;
}
