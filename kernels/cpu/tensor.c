/* SPDX-License-Identifier: GPL-3.0-or-later
 * Heavy ONNX operators through oneDNN 2.x, one thread: Conv, ConvTranspose, MatMul, Gemm, pools; float32.
 * Called by kernels/nn/exec.c, which runs what is refused here by the reference. The only file that
 * includes oneDNN's headers: version 3 has another API.
 *
 * ONNX's tensors are channels-first, where oneDNN falls back to im2col; so a layer may choose its own order
 * ("any"), and a reorder stands before and behind it where it does. Constant weights are brought into that
 * order once. */
#include "kernels/ref/tensor.h"

#include <oneapi/dnnl/dnnl.h>
#include <stdlib.h>
#include <string.h>

#if DNNL_VERSION_MAJOR != 2
#error "kernels/cpu/tensor.c is written for oneDNN 2.x"
#endif

/* libgomp's, on which Debian's oneDNN is built; <omp.h> is missing beside some compilers. With a team of one
 * oneDNN calls its kernels straight from our thread. */
extern void omp_set_num_threads(int n);

enum { MAX_STEPS = 5, MAX_ARGS = 5, MAX_MEMORY = 12 };

typedef struct step {
    dnnl_primitive_t primitive;
    dnnl_exec_arg_t arg[MAX_ARGS];
    int n_args;
} step;

typedef struct library { /* the state of a call */
    dnnl_engine_t engine;
    dnnl_stream_t stream;
    step step[MAX_STEPS];
    int n_steps;
    dnnl_memory_t memory[MAX_MEMORY];
    int tensor[MAX_MEMORY]; /* whose data is that memory: input i, -1 - output i; OWN */
    int n_memory;
} library;
enum { OWN = 1 << 20 };

static void drop(library *l)
{
    if (!l)
        return;
    for (int i = 0; i < l->n_steps; i++)
        if (l->step[i].primitive)
            dnnl_primitive_destroy(l->step[i].primitive);
    for (int i = 0; i < l->n_memory; i++)
        dnnl_memory_destroy(l->memory[i]);
    if (l->stream)
        dnnl_stream_destroy(l->stream);
    if (l->engine)
        dnnl_engine_destroy(l->engine);
    free(l);
}

static dnnl_status_t add_memory(library *l, const dnnl_memory_desc_t *d, int tensor, dnnl_memory_t *out)
{
    dnnl_memory_t m = NULL;
    if (l->n_memory == MAX_MEMORY)
        return dnnl_runtime_error;
    const dnnl_status_t s =
        dnnl_memory_create(&m, d, l->engine, tensor == OWN ? DNNL_MEMORY_ALLOCATE : DNNL_MEMORY_NONE);
    if (s != dnnl_success)
        return s;
    l->tensor[l->n_memory] = tensor;
    l->memory[l->n_memory++] = m;
    *out = m;
    return s;
}

static dnnl_status_t add_step(library *l, const_dnnl_primitive_desc_t pd, const dnnl_exec_arg_t *arg,
                              int n_args)
{
    if (l->n_steps == MAX_STEPS)
        return dnnl_runtime_error;
    step *p = &l->step[l->n_steps];
    const dnnl_status_t s = dnnl_primitive_create(&p->primitive, pd);
    if (s != dnnl_success)
        return s;
    memcpy(p->arg, arg, (size_t)n_args * sizeof *arg);
    p->n_args = n_args;
    l->n_steps++;
    return s;
}

static dnnl_status_t add_reorder(library *l, dnnl_memory_t from, const dnnl_memory_desc_t *from_desc,
                                 dnnl_memory_t to, const dnnl_memory_desc_t *to_desc)
{
    dnnl_primitive_desc_t pd = NULL;
    dnnl_status_t s = dnnl_reorder_primitive_desc_create(&pd, from_desc, l->engine, to_desc, l->engine, NULL);
    const dnnl_exec_arg_t arg[] = {{DNNL_ARG_FROM, from}, {DNNL_ARG_TO, to}};
    if (s == dnnl_success)
        s = add_step(l, pd, arg, 2);
    if (pd)
        dnnl_primitive_desc_destroy(pd);
    return s;
}

static dnnl_status_t execute(const library *l, int first)
{
    dnnl_status_t s = dnnl_success;
    for (int i = first; i < l->n_steps && s == dnnl_success; i++)
        s = dnnl_primitive_execute(l->step[i].primitive, l->stream, l->step[i].n_args, l->step[i].arg);
    return s;
}

/* Memory as the layer wants it, filled from the call's input: at each run, or once if it is constant. */
static dnnl_status_t bring(library *l, const gw_tensor_call *c, int input, const dnnl_memory_desc_t *plain,
                           const dnnl_memory_desc_t *wanted, dnnl_memory_t *out)
{
    dnnl_memory_t from = NULL;
    dnnl_status_t s = add_memory(l, plain, input, &from);
    *out = from;
    if (s != dnnl_success || dnnl_memory_desc_equal(plain, wanted))
        return s;
    s = add_memory(l, wanted, OWN, out);
    if (s == dnnl_success)
        s = add_reorder(l, from, plain, *out, wanted);
    if (s != dnnl_success || !c->in[input]->data)
        return s;
    /* Now, and not again. */
    step *p = &l->step[l->n_steps - 1];
    s = dnnl_memory_set_data_handle(from, c->in[input]->data);
    if (s == dnnl_success)
        s = execute(l, l->n_steps - 1);
    dnnl_primitive_destroy(p->primitive);
    *p = (step){0};
    l->n_steps--;
    return s;
}

/* The layer of this description between its inputs' and its output's own orders. plain: of input, weights,
 * bias, output; weights and bias may be NULL. */
static dnnl_status_t make_layer(library *l, const gw_tensor_call *c, const_dnnl_op_desc_t description,
                                const_dnnl_primitive_attr_t attr, const dnnl_memory_desc_t *plain[4])
{
    static const int role[4] = {DNNL_ARG_SRC, DNNL_ARG_WEIGHTS, DNNL_ARG_BIAS, DNNL_ARG_DST};
    dnnl_primitive_desc_t pd = NULL;
    dnnl_exec_arg_t arg[MAX_ARGS];
    int n = 0;
    dnnl_status_t s = dnnl_primitive_desc_create(&pd, description, attr, l->engine, NULL);
    if (s != dnnl_success)
        return s;
    for (int i = 0; i < 3 && s == dnnl_success; i++) {
        if (!plain[i])
            continue;
        arg[n].arg = role[i];
        s = bring(l, c, i, plain[i], dnnl_primitive_desc_query_md(pd, dnnl_query_exec_arg_md, role[i]),
                  &arg[n++].memory);
    }
    const dnnl_memory_desc_t *wanted = dnnl_primitive_desc_query_md(pd, dnnl_query_dst_md, 0);
    const bool same = dnnl_memory_desc_equal(plain[3], wanted);
    dnnl_memory_t out = NULL;
    if (s == dnnl_success)
        s = add_memory(l, wanted, same ? -1 : OWN, &out);
    arg[n].arg = DNNL_ARG_DST;
    arg[n++].memory = out;
    if (s == dnnl_success)
        s = add_memory(l, dnnl_primitive_desc_query_md(pd, dnnl_query_scratchpad_md, 0), OWN, &arg[n].memory);
    arg[n++].arg = DNNL_ARG_SCRATCHPAD;
    if (s == dnnl_success)
        s = add_step(l, pd, arg, n);
    if (s == dnnl_success && !same) {
        dnnl_memory_t to = NULL;
        s = add_memory(l, plain[3], -1, &to);
        if (s == dnnl_success)
            s = add_reorder(l, out, wanted, to, plain[3]);
    }
    dnnl_primitive_desc_destroy(pd);
    return s;
}

/* ---- What all operators share ---- */

static int begin(const gw_tensor_call *c, library **out, dnnl_primitive_attr_t *attr)
{
    for (int i = 0; i < c->n_in; i++)
        if (c->in[i] && (c->in[i]->type != GW_ONNX_FLOAT || gw_tensor_elements(c->in[i]) == 0))
            return GW_ENOTSUP;
    if (c->out[0]->type != GW_ONNX_FLOAT || gw_tensor_elements(c->out[0]) == 0)
        return GW_ENOTSUP;
    library *l = calloc(1, sizeof *l);
    if (!l)
        return gw_fail(GW_ENOMEM, "node '%s': no memory", c->node->name);
    omp_set_num_threads(1);
    dnnl_status_t s = dnnl_engine_create(&l->engine, dnnl_cpu, 0);
    if (s == dnnl_success)
        s = dnnl_stream_create(&l->stream, l->engine, dnnl_stream_default_flags);
    if (s == dnnl_success)
        s = dnnl_primitive_attr_create(attr);
    if (s == dnnl_success) /* the library's own scratchpad is shared between threads */
        s = dnnl_primitive_attr_set_scratchpad_mode(*attr, dnnl_scratchpad_mode_user);
    if (s != dnnl_success) {
        drop(l);
        return GW_ENOTSUP;
    }
    *out = l;
    return GW_OK;
}

static int end(gw_tensor_call *c, library *l, dnnl_primitive_attr_t attr, dnnl_status_t s)
{
    dnnl_primitive_attr_destroy(attr);
    if (s == dnnl_success) {
        c->state = l;
        return GW_OK;
    }
    drop(l);
    return s == dnnl_out_of_memory ? gw_fail(GW_ENOMEM, "node '%s': no memory for the layer", c->node->name)
                                   : GW_ENOTSUP;
}

static int library_run(gw_tensor_call *c)
{
    const library *l = c->state;
    dnnl_status_t s = dnnl_success;
    omp_set_num_threads(1); /* this may be another thread than open's */
    for (int i = 0; i < l->n_memory && s == dnnl_success; i++)
        if (l->tensor[i] != OWN)
            s = dnnl_memory_set_data_handle(l->memory[i], l->tensor[i] < 0 ? c->out[-1 - l->tensor[i]]->data
                                                                           : c->in[l->tensor[i]]->data);
    if (s == dnnl_success)
        s = execute(l, 0);
    return s == dnnl_success
               ? GW_OK
               : gw_fail(GW_EBUG, "node '%s' (%s): oneDNN refused to run a layer that it made (status %d)",
                         c->node->name, c->node->op, (int)s);
}

static void library_close(gw_tensor_call *c)
{
    drop(c->state);
    c->state = NULL;
}

/* Row-major strides, or given ones. */
static dnnl_status_t describe(dnnl_memory_desc_t *d, int rank, const int64_t *dim, const int64_t *stride)
{
    dnnl_dims_t dims, strides;
    int64_t step_size = 1;
    for (int i = rank - 1; i >= 0; step_size *= dim[i--]) {
        dims[i] = dim[i];
        strides[i] = stride ? stride[i] : step_size;
    }
    return dnnl_memory_desc_init_by_strides(d, rank, dims, dnnl_f32, strides);
}

static dnnl_status_t any_order(dnnl_memory_desc_t *d, const dnnl_memory_desc_t *like)
{
    return dnnl_memory_desc_init_by_tag(d, like->ndims, like->dims, dnnl_f32, dnnl_format_tag_any);
}

/* The window's spatial part as oneDNN counts it; false: it cannot be said. */
static bool spatial(const gw_op_window *w, bool transposed, dnnl_dims_t kernel, dnnl_dims_t stride,
                    dnnl_dims_t dilation, dnnl_dims_t before, dnnl_dims_t after)
{
    for (int i = 0; i < w->spatial; i++) {
        const int d = 3 - w->spatial + i;
        const int64_t small = transposed ? w->in[d] : w->out[d], large = transposed ? w->out[d] : w->in[d];
        const int64_t extent = (w->kernel[d] - 1) * w->dilation[d] + 1;
        kernel[i] = w->kernel[d];
        stride[i] = w->stride[d];
        dilation[i] = w->dilation[d] - 1;
        before[i] = w->before[d];
        after[i] = (small - 1) * w->stride[d] + extent - large - w->before[d];
        if (!transposed && after[i] < w->after[d])
            after[i] = w->after[d];                    /* what the last stride leaves over */
        if (before[i] >= extent || after[i] >= extent) /* windows of nothing but padding: not its strength */
            return false;
    }
    return true;
}

/* ---- Conv, ConvTranspose ---- */

static int conv_open(gw_tensor_call *c)
{
    const bool transposed = strcmp(c->node->op, "ConvTranspose") == 0;
    const gw_tensor *x = c->in[0], *weight = c->in[1], *bias = gw_op_in(c, 2), *y = c->out[0];
    const int64_t groups = gw_op_int(c, "group", 1), n = x->rank;
    gw_op_window w;
    GW_TRY(transposed ? gw_op_window_transposed(c, x, weight->dim + 2, &w)
                      : gw_op_window_of(c, x, weight->dim + 2, &w));
    dnnl_dims_t kernel, stride, dilation, before, after;
    if (!spatial(&w, transposed, kernel, stride, dilation, before, after))
        return GW_ENOTSUP;
    library *l;
    dnnl_primitive_attr_t attr;
    GW_TRY(begin(c, &l, &attr));

    /* oneDNN wants [group][out][in][kernel] (without the group if there is one); ONNX stores a transposed
     * convolution's as [group][in][out][kernel]. */
    int64_t dim[GW_ONNX_MAX_RANK + 1], step_size[GW_ONNX_MAX_RANK + 1];
    const int64_t in_each = x->dim[1] / groups, out_each = y->dim[1] / groups;
    const int64_t size = (int64_t)gw_op_product(weight->dim, 2, (int)n);
    dim[0] = groups;
    dim[1] = out_each;
    dim[2] = in_each;
    step_size[0] = in_each * out_each * size;
    step_size[1] = transposed ? size : in_each * size;
    step_size[2] = transposed ? out_each * size : size;
    int64_t left = size;
    for (int i = 2; i < n; i++) {
        left /= weight->dim[i];
        dim[i + 1] = weight->dim[i];
        step_size[i + 1] = left;
    }
    const int skip = groups == 1;
    dnnl_memory_desc_t dx, dw, db, dy, ax, aw, ay;
    dnnl_status_t s = describe(&dx, x->rank, x->dim, NULL);
    if (s == dnnl_success)
        s = describe(&dy, y->rank, y->dim, NULL);
    if (s == dnnl_success)
        s = describe(&dw, (int)n + 1 - skip, dim + skip, step_size + skip);
    if (s == dnnl_success)
        s = describe(&db, 1, &y->dim[1], NULL);
    if (s == dnnl_success)
        s = any_order(&ax, &dx);
    if (s == dnnl_success)
        s = any_order(&aw, &dw);
    if (s == dnnl_success)
        s = any_order(&ay, &dy);
    const dnnl_memory_desc_t *plain[4] = {&dx, &dw, bias ? &db : NULL, &dy};
    dnnl_convolution_desc_t forward;
    dnnl_deconvolution_desc_t backward;
    if (s == dnnl_success && transposed)
        s = dnnl_dilated_deconvolution_forward_desc_init(
            &backward, dnnl_forward_inference, dnnl_deconvolution_direct, &ax, &aw, bias ? &db : NULL, &ay,
            stride, dilation, before, after);
    else if (s == dnnl_success)
        s = dnnl_dilated_convolution_forward_desc_init(&forward, dnnl_forward_inference,
                                                       dnnl_convolution_direct, &ax, &aw, bias ? &db : NULL,
                                                       &ay, stride, dilation, before, after);
    if (s == dnnl_success)
        s = make_layer(l, c, transposed ? (const void *)&backward : &forward, attr, plain);
    return end(c, l, attr, s);
}

/* ---- Pools ---- */

static int pool_open(gw_tensor_call *c)
{
    const gw_tensor *x = c->in[0], *y = c->out[0];
    const bool max = strcmp(c->node->op, "MaxPool") == 0,
               with_pad = gw_op_int(c, "count_include_pad", 0) != 0;
    gw_op_window w;
    GW_TRY(gw_op_window_of(c, x, NULL, &w));
    dnnl_dims_t kernel, stride, dilation, before, after;
    if (gw_op_out(c, 1) || !spatial(&w, false, kernel, stride, dilation, before, after))
        return GW_ENOTSUP;
    for (int i = 0; i < w.spatial; i++)
        if (after[i] > w.after[3 - w.spatial + i]) /* rounded up: windows reach beyond the padding */
            return GW_ENOTSUP;
    library *l;
    dnnl_primitive_attr_t attr;
    GW_TRY(begin(c, &l, &attr));
    dnnl_memory_desc_t dx, dy;
    dnnl_pooling_v2_desc_t pool;
    dnnl_status_t s = describe(&dx, x->rank, x->dim, NULL);
    if (s == dnnl_success)
        s = describe(&dy, y->rank, y->dim, NULL);
    const dnnl_alg_kind_t alg = max        ? dnnl_pooling_max
                                : with_pad ? dnnl_pooling_avg_include_padding
                                           : dnnl_pooling_avg_exclude_padding;
    if (s == dnnl_success)
        s = dnnl_pooling_v2_forward_desc_init(&pool, dnnl_forward_inference, alg, &dx, &dy, stride, kernel,
                                              dilation, before, after);
    const dnnl_memory_desc_t *plain[4] = {&dx, NULL, NULL, &dy};
    if (s == dnnl_success)
        s = make_layer(l, c, &pool, attr, plain);
    return end(c, l, attr, s);
}

/* ---- MatMul, Gemm ---- */

/* t as a stack of matrices of `rank` dimensions in all. */
static dnnl_status_t matrices(dnnl_memory_desc_t *d, const gw_tensor *t, int rank, bool column)
{
    int64_t dim[GW_ONNX_MAX_RANK];
    for (int i = 0; i < rank; i++)
        dim[i] = 1;
    if (t->rank == 1)
        dim[column ? rank - 2 : rank - 1] = t->dim[0];
    else
        memcpy(dim + rank - t->rank, t->dim, (size_t)t->rank * sizeof *dim);
    return describe(d, rank, dim, NULL);
}

static int matmul_open(gw_tensor_call *c)
{
    const gw_tensor *a = c->in[0], *b = c->in[1];
    int rank = a->rank > b->rank ? a->rank : b->rank;
    rank = rank < 2 ? 2 : rank;
    if (rank > 6) /* what oneDNN's products take */
        return GW_ENOTSUP;
    library *l;
    dnnl_primitive_attr_t attr;
    GW_TRY(begin(c, &l, &attr));
    dnnl_memory_desc_t da, db, dy, any;
    dnnl_matmul_desc_t product;
    dnnl_status_t s = matrices(&da, a, rank, false);
    if (s == dnnl_success)
        s = matrices(&db, b, rank, true);
    int64_t dim[GW_ONNX_MAX_RANK];
    for (int i = 0; i < rank - 2; i++)
        dim[i] = da.dims[i] == 1 ? db.dims[i] : da.dims[i];
    dim[rank - 2] = da.dims[rank - 2];
    dim[rank - 1] = db.dims[rank - 1];
    if (s == dnnl_success)
        s = describe(&dy, rank, dim, NULL);
    if (s == dnnl_success && b->data)
        s = any_order(&any, &db);
    if (s == dnnl_success)
        s = dnnl_matmul_desc_init(&product, &da, b->data ? &any : &db, NULL, &dy);
    const dnnl_memory_desc_t *plain[4] = {&da, &db, NULL, &dy};
    if (s == dnnl_success)
        s = make_layer(l, c, &product, attr, plain);
    return end(c, l, attr, s);
}

static int gemm_open(gw_tensor_call *c)
{
    const gw_tensor *a = c->in[0], *b = c->in[1], *add = gw_op_in(c, 2), *y = c->out[0];
    if (gw_op_float(c, "alpha", 1) != 1 || (add && gw_op_float(c, "beta", 1) != 1))
        return GW_ENOTSUP;
    library *l;
    dnnl_primitive_attr_t attr;
    GW_TRY(begin(c, &l, &attr));
    const bool ta = gw_op_int(c, "transA", 0) != 0, tb = gw_op_int(c, "transB", 0) != 0;
    const int64_t k = a->dim[!ta], m = y->dim[0], n = y->dim[1];
    dnnl_memory_desc_t da, db, dc, dy, any;
    dnnl_matmul_desc_t product;
    dnnl_status_t s = describe(&da, 2, (int64_t[]){m, k}, (int64_t[]){ta ? 1 : k, ta ? m : 1});
    if (s == dnnl_success)
        s = describe(&db, 2, (int64_t[]){k, n}, (int64_t[]){tb ? 1 : n, tb ? k : 1});
    if (s == dnnl_success)
        s = describe(&dy, 2, y->dim, NULL);
    if (s == dnnl_success && add)
        s = matrices(&dc, add, 2, false);
    if (s == dnnl_success && b->data)
        s = any_order(&any, &db);
    if (s == dnnl_success)
        s = dnnl_matmul_desc_init(&product, &da, b->data ? &any : &db, add ? &dc : NULL, &dy);
    const dnnl_memory_desc_t *plain[4] = {&da, &db, add ? &dc : NULL, &dy};
    if (s == dnnl_success)
        s = make_layer(l, c, &product, attr, plain);
    return end(c, l, attr, s);
}

static const gw_tensor_fast *find(const char *domain, const char *name)
{
    static const gw_tensor_fast all[] = {
        {"Conv", conv_open, library_run, library_close},
        {"ConvTranspose", conv_open, library_run, library_close},
        {"MaxPool", pool_open, library_run, library_close},
        {"AveragePool", pool_open, library_run, library_close},
        {"MatMul", matmul_open, library_run, library_close},
        {"Gemm", gemm_open, library_run, library_close},
    };
    for (size_t i = 0; i < sizeof all / sizeof *all && domain[0] == '\0'; i++)
        if (strcmp(all[i].name, name) == 0)
            return &all[i];
    return NULL;
}

void gw_tensor_cpu(gw_tensor_ops *ops)
{
    ops->fast = find;
}
