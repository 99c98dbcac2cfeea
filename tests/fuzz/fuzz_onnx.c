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

/* Twice, with room for every output. */
static void run_net(const gw_onnx *m, const gw_kernels *k, gw_net_mode mode)
{
    gw_net *n = NULL;
    if (gw_net_open(&n, m, k, &(gw_net_options){.mode = mode, .batch = 1}) < 0)
        return;
    const gw_net_info *info = gw_net_get_info(n);
    const size_t length = mode == GW_NET_STREAM ? info->hop_samples : info->window_samples;
    float *x = calloc((size_t)info->n_channels * length, sizeof *x);
    float **y = calloc((size_t)info->n_outputs + 1, sizeof(float *));
    for (int i = 0; x && y && i < info->n_outputs; i++)
        y[i] = calloc((size_t)info->output[i].channels * info->output[i].columns + 1, sizeof(float));
    for (int i = 0; x && y && i < 2; i++)
        (void)gw_net_run(n, &(gw_net_in){.x = x, .channel_stride = length, .n_windows = 1}, y);
    for (int i = 0; y && i < info->n_outputs; i++)
        free(y[i]);
    free(y);
    free(x);
    gw_net_close(&n);
}

static void run(const gw_onnx *m)
{
    gw_kernels k;
    memset(&k, 0, sizeof k);
    gw_conv_ref(&k.conv);
    gw_tensor_ref(&k.tensor);
    run_net(m, &k, GW_NET_WINDOW);
    run_net(m, &k, GW_NET_STREAM);
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
