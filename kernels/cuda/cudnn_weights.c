/* SPDX-License-Identifier: GPL-3.0-or-later
 * Weights of layers by cuDNN on the GPU, once for all layers that have the same: those of one net for several
 * batches. Called by cudnn.c. */
#include "kernels/cuda/cudnn_inside.h"

#include <stdlib.h>
#include <string.h>

void gw_cudnn_weights_drop(gw_cudnn_weights **list, gw_cudnn_weights *w)
{
    if (!w || --w->users > 0)
        return;
    for (gw_cudnn_weights **at = list; *at; at = &(*at)->next)
        if (*at == w) {
            *at = w->next;
            break;
        }
    gw_cudnn_memory_free(&w->weight);
    if (w->bias != w->bias32)
        gw_cudnn_memory_free(&w->bias);
    gw_cudnn_memory_free(&w->bias32);
    free(w->host);
    free(w);
}

/* n floats in host memory -> the GPU's, as they are or as __half. */
static int bring(void *stream, const float *from, size_t n, bool half, void **to)
{
    void *floats = NULL;
    int err = gw_cudnn_memory_new(&floats, n * sizeof(float));
    if (err == GW_OK)
        err = gw_cudnn_upload(floats, from, n * sizeof(float));
    if (err == GW_OK && half) {
        err = gw_cudnn_memory_new(to, n * 2);
        if (err == GW_OK)
            err = gw_cudnn_copy(stream, 1, n, (gw_cudnn_array){floats, n, false},
                                (gw_cudnn_array){*to, n, true});
        if (err == GW_OK)
            err = gw_cudnn_stream_wait(stream);
        gw_cudnn_memory_free(&floats);
        return err;
    }
    *to = floats;
    return err;
}

static int upload(void *stream, gw_cudnn_weights *w, bool has_bias)
{
    const size_t n = (size_t)w->out * w->in * w->kernel;
    float *order = malloc(n * sizeof *order);
    if (!order)
        return gw_fail(GW_ENOMEM, "convolution: no memory for %zu weights", n);
    for (size_t o = 0; o < w->out; o++)
        for (size_t k = 0; k < w->kernel; k++)
            for (size_t i = 0; i < w->in; i++)
                order[(o * w->kernel + k) * w->in + i] = w->host[(o * w->in + i) * w->kernel + k];
    int err = bring(stream, order, n, w->half, &w->weight);
    free(order);
    if (err == GW_OK && has_bias)
        err = bring(stream, w->host + n, w->out, false, &w->bias32);
    if (err == GW_OK && has_bias && w->half)
        err = bring(stream, w->host + n, w->out, true, &w->bias);
    else
        w->bias = w->bias32;
    return err;
}

int gw_cudnn_weights_get(gw_cudnn_weights **list, void *stream, const gw_conv_desc *d, bool half,
                         const float *weight, const float *bias, gw_cudnn_weights **out)
{
    const uint32_t in = d->in_channels / d->groups;
    const size_t n = (size_t)d->out_channels * in * d->kernel, n_bias = bias ? d->out_channels : 0;
    *out = NULL;
    for (gw_cudnn_weights *w = *list; w; w = w->next)
        if (w->half == half && w->in == in && w->out == d->out_channels && w->kernel == d->kernel &&
            !w->bias32 == !bias && memcmp(w->host, weight, n * sizeof *weight) == 0 &&
            (!bias || memcmp(w->host + n, bias, n_bias * sizeof *bias) == 0)) {
            w->users++;
            *out = w;
            return GW_OK;
        }
    gw_cudnn_weights *w = calloc(1, sizeof *w);
    if (w)
        w->host = malloc((n + n_bias) * sizeof *w->host);
    if (!w || !w->host) {
        free(w);
        return gw_fail(GW_ENOMEM, "convolution: no memory for %zu weights", n);
    }
    *w = (gw_cudnn_weights){.next = *list,
                            .users = 1,
                            .half = half,
                            .in = in,
                            .out = d->out_channels,
                            .kernel = d->kernel,
                            .host = w->host};
    memcpy(w->host, weight, n * sizeof *weight);
    if (bias)
        memcpy(w->host + n, bias, n_bias * sizeof *bias);
    *list = w;
    const int err = upload(stream, w, bias != NULL);
    if (err != GW_OK) {
        gw_cudnn_weights_drop(list, w);
        return err;
    }
    *out = w;
    return GW_OK;
}
