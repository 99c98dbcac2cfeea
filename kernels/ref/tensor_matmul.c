/* SPDX-License-Identifier: GPL-3.0-or-later
 * Products of matrices: MatMul over stacks of them, with broadcasting, and Gemm. A row of results is kept
 * in double (the scratch). */
#include "kernels/ref/tensor.h"

#include <string.h>

/* sum[0 .. n) += row i of a times b. Strides in elements. */
static void row_product(const gw_tensor *a, int64_t a_first, int64_t a_step, const gw_tensor *b,
                        int64_t b_first, int64_t b_row, int64_t b_column, int64_t k, int64_t n, double *sum)
{
    for (int64_t i = 0; i < k; i++) {
        const double factor = gw_op_get(a, (size_t)(a_first + i * a_step));
        const int64_t from = b_first + i * b_row;
        if (b->type == GW_ONNX_FLOAT) {
            const float *row = (const float *)b->data;
            for (int64_t j = 0; j < n; j++)
                sum[j] += factor * (double)row[from + j * b_column];
        } else {
            for (int64_t j = 0; j < n; j++)
                sum[j] += factor * gw_op_get(b, (size_t)(from + j * b_column));
        }
    }
}

/* ---- MatMul ---- */

/* Lists are rows or columns: the matrices, and the shape of the stacks. */
typedef struct stacks {
    gw_tensor a, b;
    int64_t m, k, n;
    int rank; /* of the stacks */
    int64_t dim[GW_ONNX_MAX_RANK];
} stacks;

static int matmul_of(const gw_tensor_call *c, stacks *s)
{
    s->a = *c->in[0];
    s->b = *c->in[1];
    if (s->a.rank == 0 || s->b.rank == 0)
        return gw_op_fail(c, GW_EMISMATCH, "a single number");
    if (s->a.rank == 1) {
        s->a.rank = 2;
        s->a.dim[1] = s->a.dim[0];
        s->a.dim[0] = 1;
    }
    if (s->b.rank == 1) {
        s->b.rank = 2;
        s->b.dim[1] = 1;
    }
    s->m = s->a.dim[s->a.rank - 2];
    s->k = s->a.dim[s->a.rank - 1];
    s->n = s->b.dim[s->b.rank - 1];
    if (s->b.dim[s->b.rank - 2] != s->k)
        return gw_op_fail(c, GW_EMISMATCH, "%lld columns times %lld rows", (long long)s->k,
                          (long long)s->b.dim[s->b.rank - 2]);
    gw_tensor a = s->a, b = s->b;
    a.rank -= 2;
    b.rank -= 2;
    if (!gw_op_broadcast(&a, &b, &s->rank, s->dim))
        return gw_op_fail(c, GW_EMISMATCH, "the stacks of matrices do not fit each other");
    return GW_OK;
}

static int matmul_shape(gw_tensor_call *c)
{
    stacks s;
    int64_t dim[GW_ONNX_MAX_RANK + 2];
    GW_TRY(matmul_of(c, &s));
    memcpy(dim, s.dim, (size_t)s.rank * sizeof *dim);
    int rank = s.rank;
    if (c->in[0]->rank > 1)
        dim[rank++] = s.m;
    if (c->in[1]->rank > 1)
        dim[rank++] = s.n;
    GW_TRY(gw_op_set(c, 0, c->in[0]->type, rank, dim));
    c->work = (double)gw_tensor_elements(c->out[0]) * (double)s.k;
    c->scratch_bytes = (size_t)s.n * sizeof(double);
    return GW_OK;
}

static int matmul_run(gw_tensor_call *c)
{
    stacks s = {0};
    GW_TRY(matmul_of(c, &s));
    gw_tensor a = s.a, b = s.b;
    a.rank -= 2;
    b.rank -= 2;
    int64_t step_a[GW_ONNX_MAX_RANK], step_b[GW_ONNX_MAX_RANK], at[GW_ONNX_MAX_RANK] = {0};
    gw_op_strides(&a, s.rank, s.dim, step_a);
    gw_op_strides(&b, s.rank, s.dim, step_b);
    double *sum = c->scratch;
    size_t out = 0;
    if (gw_tensor_elements(c->out[0]) == 0)
        return GW_OK;
    do {
        int64_t ia = 0, ib = 0;
        for (int i = 0; i < s.rank; i++) {
            ia += at[i] * step_a[i] * s.m * s.k;
            ib += at[i] * step_b[i] * s.k * s.n;
        }
        for (int64_t i = 0; i < s.m; i++) {
            memset(sum, 0, (size_t)s.n * sizeof *sum);
            row_product(c->in[0], ia + i * s.k, 1, c->in[1], ib, s.n, 1, s.k, s.n, sum);
            for (int64_t j = 0; j < s.n; j++)
                gw_op_put(c->out[0], out++, sum[j]);
        }
    } while (gw_op_next(s.rank, s.dim, at));
    return GW_OK;
}

/* ---- Gemm: alpha * a * b + beta * c ---- */

static int gemm_shape(gw_tensor_call *c)
{
    const gw_tensor *a = c->in[0], *b = c->in[1], *add = gw_op_in(c, 2);
    const bool ta = gw_op_int(c, "transA", 0) != 0, tb = gw_op_int(c, "transB", 0) != 0;
    if (a->rank != 2 || b->rank != 2 || a->dim[!ta] != b->dim[tb])
        return gw_op_fail(c, GW_EMISMATCH, "'%s' and '%s' cannot be multiplied", c->node->in[0],
                          c->node->in[1]);
    gw_tensor all = {.rank = 2, .dim = {a->dim[ta], b->dim[!tb]}}, both = {0};
    if (add && (!gw_op_broadcast(&all, add, &both.rank, both.dim) || both.rank != 2 ||
                both.dim[0] != all.dim[0] || both.dim[1] != all.dim[1]))
        return gw_op_fail(c, GW_EMISMATCH, "'%s' does not fit the product", c->node->in[2]);
    GW_TRY(gw_op_set(c, 0, a->type, 2, all.dim));
    c->work = (double)all.dim[0] * (double)all.dim[1] * (double)a->dim[!ta];
    c->scratch_bytes = (size_t)all.dim[1] * sizeof(double);
    return GW_OK;
}

static int gemm_run(gw_tensor_call *c)
{
    const gw_tensor *a = c->in[0], *b = c->in[1], *add = gw_op_in(c, 2);
    gw_tensor *y = c->out[0];
    const bool ta = gw_op_int(c, "transA", 0) != 0, tb = gw_op_int(c, "transB", 0) != 0;
    const double alpha = gw_op_float(c, "alpha", 1), beta = gw_op_float(c, "beta", 1);
    const int64_t k = a->dim[!ta];
    int64_t step[2] = {0};
    if (add)
        gw_op_strides(add, 2, y->dim, step);
    double *sum = c->scratch;
    for (int64_t i = 0; i < y->dim[0]; i++) {
        memset(sum, 0, (size_t)y->dim[1] * sizeof *sum);
        row_product(a, ta ? i : i * k, ta ? a->dim[1] : 1, b, 0, tb ? 1 : b->dim[1], tb ? k : 1, k, y->dim[1],
                    sum);
        for (int64_t j = 0; j < y->dim[1]; j++)
            gw_op_put(y, (size_t)(i * y->dim[1] + j),
                      alpha * sum[j] +
                          (add ? beta * gw_op_get(add, (size_t)(i * step[0] + j * step[1])) : 0));
    }
    return GW_OK;
}

const gw_tensor_op gw_ops_matmul[] = {
    {"MatMul", "", 2, 2, 2, GW_T_FLOATS | GW_T(INT32) | GW_T(INT64), 1, matmul_shape, matmul_run, NULL},
    {"Gemm", "alpha:f beta:f transA:i transB:i broadcast:i", 2, 3, 3, GW_T_FLOATS | GW_T(INT32) | GW_T(INT64),
     1, gemm_shape, gemm_run, NULL},
    {0},
};
