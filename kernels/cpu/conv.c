/* SPDX-License-Identifier: GPL-3.0-or-later
 * Convolution layers through oneDNN 2.x, one thread. The only file that includes its headers: version 3
 * has another API. Layers that oneDNN refuses run in the reference instead.
 *
 * Measured on small causal networks: with channels-last activations and weights in whatever order the
 * library likes ("any") it picks its fast paths at every shape we use, grouped ones included; with
 * channels first it falls back to im2col, 2 to 6 times slower. */
#include "kernels/conv.h"

#include <oneapi/dnnl/dnnl.h>
#include <stdlib.h>
#include <string.h>

#if DNNL_VERSION_MAJOR != 2
#error "kernels/cpu/conv.c is written for oneDNN 2.x"
#endif

/* libgomp's. Declared here because <omp.h> is missing beside some compilers; Debian's oneDNN is built
 * on libgomp. With a team of one, oneDNN calls its kernels straight from our thread: no pool, no
 * barriers (two threads on a busy machine were slower than one). */
extern void omp_set_num_threads(int n);

enum { MAX_ARGS = 5 };

struct gw_conv {
    gw_conv_desc d;
    gw_conv *plain; /* the reference, when oneDNN has no such layer; then nothing below is set */
    dnnl_engine_t engine;
    dnnl_stream_t stream;
    dnnl_primitive_t layer;
    dnnl_memory_t src, dst, weight, bias, scratch;
};

static gw_conv_ops plain_ops(void)
{
    gw_conv_ops ops;
    gw_conv_ref(&ops);
    return ops;
}

static void conv_close(gw_conv **out)
{
    gw_conv *c = *out;
    if (!c)
        return;
    plain_ops().close(&c->plain);
    const dnnl_memory_t memory[] = {c->src, c->dst, c->weight, c->bias, c->scratch};
    for (size_t i = 0; i < sizeof memory / sizeof *memory; i++)
        if (memory[i])
            dnnl_memory_destroy(memory[i]);
    if (c->layer)
        dnnl_primitive_destroy(c->layer);
    if (c->stream)
        dnnl_stream_destroy(c->stream);
    if (c->engine)
        dnnl_engine_destroy(c->engine);
    free(c);
    *out = NULL;
}

/* The layer without its weights: shapes, fusions. */
static dnnl_status_t describe(const gw_conv_desc *d, dnnl_engine_t engine, dnnl_primitive_desc_t *pd)
{
    const dnnl_dims_t src_dims = {1, d->in_channels, (dnnl_dim_t)gw_conv_in_columns(d)};
    const dnnl_dims_t dst_dims = {1, d->out_channels, d->columns};
    const dnnl_dims_t plain_dims = {d->out_channels, d->in_channels, d->kernel};
    const dnnl_dims_t group_dims = {d->groups, d->out_channels / d->groups, d->in_channels / d->groups,
                                    d->kernel};
    const dnnl_dims_t bias_dims = {d->out_channels};
    const dnnl_dims_t stride = {d->stride}, dilation = {d->dilation - 1}, no_padding = {0};

    dnnl_memory_desc_t src, dst, weight, bias;
    dnnl_status_t s = dnnl_memory_desc_init_by_tag(&src, 3, src_dims, dnnl_f32, dnnl_acb);
    if (s == dnnl_success)
        s = dnnl_memory_desc_init_by_tag(&dst, 3, dst_dims, dnnl_f32, dnnl_acb);
    if (s == dnnl_success)
        s = d->groups == 1
                ? dnnl_memory_desc_init_by_tag(&weight, 3, plain_dims, dnnl_f32, dnnl_format_tag_any)
                : dnnl_memory_desc_init_by_tag(&weight, 4, group_dims, dnnl_f32, dnnl_format_tag_any);
    if (s == dnnl_success)
        s = dnnl_memory_desc_init_by_tag(&bias, 1, bias_dims, dnnl_f32, dnnl_a);
    dnnl_convolution_desc_t conv;
    if (s == dnnl_success)
        s = dnnl_dilated_convolution_forward_desc_init(&conv, dnnl_forward_inference, dnnl_convolution_direct,
                                                       &src, &weight, &bias, &dst, stride, dilation,
                                                       no_padding, no_padding);
    if (s != dnnl_success)
        return s;

    dnnl_primitive_attr_t attr = NULL;
    dnnl_post_ops_t after = NULL;
    s = dnnl_primitive_attr_create(&attr);
    if (s == dnnl_success)
        s = dnnl_post_ops_create(&after);
    if (s == dnnl_success && d->residual)
        s = dnnl_post_ops_append_sum(after, 1);
    if (s == dnnl_success && d->act != GW_ACT_NONE) {
        const dnnl_alg_kind_t alg = d->act == GW_ACT_RELU   ? dnnl_eltwise_relu
                                    : d->act == GW_ACT_TANH ? dnnl_eltwise_tanh
                                                            : dnnl_eltwise_logistic;
        s = dnnl_post_ops_append_eltwise(after, 1, alg, 0, 0);
    }
    if (s == dnnl_success)
        s = dnnl_primitive_attr_set_post_ops(attr, after);
    /* A scratchpad of its own for each layer: Debian's build shares the default one between threads. */
    if (s == dnnl_success)
        s = dnnl_primitive_attr_set_scratchpad_mode(attr, dnnl_scratchpad_mode_user);
    if (s == dnnl_success)
        s = dnnl_primitive_desc_create(pd, &conv, attr, engine, NULL);
    if (after)
        dnnl_post_ops_destroy(after);
    if (attr)
        dnnl_primitive_attr_destroy(attr);
    return s;
}

/* Brings the weights into the order that the layer wants. */
static dnnl_status_t fill_weights(gw_conv *c, const_dnnl_primitive_desc_t pd, const float *weight)
{
    const gw_conv_desc *d = &c->d;
    const dnnl_memory_desc_t *wanted = dnnl_primitive_desc_query_md(pd, dnnl_query_weights_md, 0);
    const dnnl_dims_t plain_dims = {d->out_channels, d->in_channels, d->kernel};
    const dnnl_dims_t group_dims = {d->groups, d->out_channels / d->groups, d->in_channels / d->groups,
                                    d->kernel};
    dnnl_memory_desc_t given;
    dnnl_status_t s = d->groups == 1
                          ? dnnl_memory_desc_init_by_tag(&given, 3, plain_dims, dnnl_f32, dnnl_abc)
                          : dnnl_memory_desc_init_by_tag(&given, 4, group_dims, dnnl_f32, dnnl_abcd);
    dnnl_memory_t from = NULL;
    dnnl_primitive_desc_t reorder_pd = NULL;
    dnnl_primitive_t reorder = NULL;
    if (s == dnnl_success)
        s = dnnl_memory_create(&c->weight, wanted, c->engine, DNNL_MEMORY_ALLOCATE);
    if (s == dnnl_success) /* the library's handle is not const; a reorder only reads its source */
        s = dnnl_memory_create(&from, &given, c->engine, (void *)(uintptr_t)weight);
    if (s == dnnl_success)
        s = dnnl_reorder_primitive_desc_create(&reorder_pd, &given, c->engine, wanted, c->engine, NULL);
    if (s == dnnl_success)
        s = dnnl_primitive_create(&reorder, reorder_pd);
    if (s == dnnl_success) {
        const dnnl_exec_arg_t args[] = {{DNNL_ARG_FROM, from}, {DNNL_ARG_TO, c->weight}};
        s = dnnl_primitive_execute(reorder, c->stream, 2, args);
    }
    if (reorder)
        dnnl_primitive_destroy(reorder);
    if (reorder_pd)
        dnnl_primitive_desc_destroy(reorder_pd);
    if (from)
        dnnl_memory_destroy(from);
    return s;
}

static dnnl_status_t make_layer(gw_conv *c, const float *weight, const float *bias)
{
    dnnl_primitive_desc_t pd = NULL;
    dnnl_status_t s = dnnl_engine_create(&c->engine, dnnl_cpu, 0);
    if (s == dnnl_success)
        s = dnnl_stream_create(&c->stream, c->engine, dnnl_stream_default_flags);
    if (s == dnnl_success)
        s = describe(&c->d, c->engine, &pd);
    if (s != dnnl_success)
        return s;
    s = dnnl_primitive_create(&c->layer, pd);
    if (s == dnnl_success)
        s = fill_weights(c, pd, weight);
    if (s == dnnl_success)
        s = dnnl_memory_create(&c->bias,
                               dnnl_primitive_desc_query_md(pd, dnnl_query_exec_arg_md, DNNL_ARG_BIAS),
                               c->engine, DNNL_MEMORY_ALLOCATE);
    void *to = NULL;
    if (s == dnnl_success)
        s = dnnl_memory_get_data_handle(c->bias, &to);
    if (s == dnnl_success) {
        memset(to, 0, c->d.out_channels * sizeof *bias);
        if (bias)
            memcpy(to, bias, c->d.out_channels * sizeof *bias);
        s = dnnl_memory_create(&c->src, dnnl_primitive_desc_query_md(pd, dnnl_query_src_md, 0), c->engine,
                               DNNL_MEMORY_NONE);
    }
    if (s == dnnl_success)
        s = dnnl_memory_create(&c->dst, dnnl_primitive_desc_query_md(pd, dnnl_query_dst_md, 0), c->engine,
                               DNNL_MEMORY_NONE);
    if (s == dnnl_success)
        s = dnnl_memory_create(&c->scratch, dnnl_primitive_desc_query_md(pd, dnnl_query_scratchpad_md, 0),
                               c->engine, DNNL_MEMORY_ALLOCATE);
    dnnl_primitive_desc_destroy(pd);
    return s;
}

static int conv_open(gw_conv **out, const gw_conv_desc *d, const float *weight, const float *bias)
{
    *out = NULL;
    GW_TRY(gw_conv_desc_check(d));
    gw_conv *c = calloc(1, sizeof *c);
    if (!c)
        return gw_fail(GW_ENOMEM, "convolution: no memory");
    c->d = *d;
    omp_set_num_threads(1); /* also here: the library divides the work when it makes the layer */
    const dnnl_status_t s = make_layer(c, weight, bias);
    if (s == dnnl_success) {
        *out = c;
        return GW_OK;
    }
    conv_close(&c);
    if (s == dnnl_out_of_memory)
        return gw_fail(GW_ENOMEM, "convolution: no memory for the layer");
    if (s != dnnl_unimplemented)
        return gw_fail(GW_EBUG, "convolution: oneDNN refused the layer (status %d)", (int)s);
    c = calloc(1, sizeof *c);
    if (!c)
        return gw_fail(GW_ENOMEM, "convolution: no memory");
    c->d = *d;
    const int err = plain_ops().open(&c->plain, d, weight, bias);
    if (err < 0) {
        conv_close(&c);
        return err;
    }
    *out = c;
    return GW_OK;
}

static int conv_run(gw_conv *c, const float *src, const float *residual, float *dst)
{
    if (c->plain)
        return plain_ops().run(c->plain, src, residual, dst);
    if (residual && residual != dst)
        memcpy(dst, residual, (size_t)c->d.columns * c->d.out_channels * sizeof *dst);
    omp_set_num_threads(1); /* this may be another thread than open's */
    dnnl_status_t s = dnnl_memory_set_data_handle(c->src, (void *)(uintptr_t)src);
    if (s == dnnl_success)
        s = dnnl_memory_set_data_handle(c->dst, dst);
    const dnnl_exec_arg_t args[MAX_ARGS] = {{DNNL_ARG_SRC, c->src},
                                            {DNNL_ARG_WEIGHTS, c->weight},
                                            {DNNL_ARG_BIAS, c->bias},
                                            {DNNL_ARG_DST, c->dst},
                                            {DNNL_ARG_SCRATCHPAD, c->scratch}};
    if (s == dnnl_success)
        s = dnnl_primitive_execute(c->layer, c->stream, MAX_ARGS, args);
    if (s != dnnl_success)
        return gw_fail(GW_EBUG, "convolution: oneDNN refused to run a layer that it made (status %d)",
                       (int)s);
    return GW_OK;
}

void gw_conv_cpu(gw_conv_ops *ops)
{
    ops->open = conv_open;
    ops->run = conv_run;
    ops->close = conv_close;
}
