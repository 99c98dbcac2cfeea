/* SPDX-License-Identifier: GPL-3.0-or-later
 * Fuzz target of the simplifier and of the executor: whatever a file says is simplified, and where it is
 * small, run by the reference operators. Nothing may crash, leak, or read outside; a refusal gives nothing
 * and says why. Shares its corpus with fuzz_onnx. */
#include "kernels/nn/exec.h"
#include "kernels/nn/simplify.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { SMALL = 20000, MAX_VALUES = 64 };

static double elements(const gw_onnx_value *v)
{
    double n = 1;
    for (int i = 0; v && i < v->rank; i++)
        n *= (double)v->dim[i];
    return n;
}

static bool is_small(const gw_onnx *m)
{
    double n = 0;
    for (int i = 0; i < m->n_inputs; i++)
        n += elements(&m->input[i]);
    for (int i = 0; i < m->n_initialisers; i++)
        n += (double)m->initialiser[i].bytes;
    for (int i = 0; i < m->n_nodes; i++)
        for (int k = 0; k < m->node[i].n_out; k++)
            n += m->node[i].out[k][0] ? elements(gw_onnx_shape(m, m->node[i].out[k])) : 0;
    return n < SMALL && m->n_inputs <= MAX_VALUES && m->n_outputs <= MAX_VALUES;
}

static void need(bool holds)
{
    if (!holds)
        abort();
}

static void run(const gw_onnx *m)
{
    gw_kernels k;
    memset(&k, 0, sizeof k);
    gw_tensor_ref(&k.tensor);
    gw_exec *e = NULL;
    gw_tensor in[MAX_VALUES] = {0}, out[MAX_VALUES];
    if (gw_exec_open(&e, m, &k) < 0) {
        need(!e && gw_err_detail()[0]);
        return;
    }
    bool ready = true;
    for (int i = 0; i < m->n_inputs; i++) {
        ready &= gw_tensor_set(&in[i], m->input[i].type, m->input[i].rank, m->input[i].dim) == GW_OK;
        in[i].data = calloc(gw_tensor_elements(&in[i]) + 1, 8);
        ready &= in[i].data != NULL;
        for (size_t j = 0; ready && m->input[i].type == GW_ONNX_FLOAT && j < gw_tensor_elements(&in[i]); j++)
            ((float *)in[i].data)[j] = j % 7 == 6 ? NAN : (float)j - 3;
    }
    for (int twice = 0; ready && twice < 2; twice++) {
        if (gw_exec_run(e, in, out) < 0) {
            need(gw_err_detail()[0]);
            break;
        }
        static volatile unsigned sum;
        for (int i = 0; i < m->n_outputs; i++)
            for (size_t b = 0; b < gw_tensor_elements(&out[i]) * gw_tensor_type_bytes(out[i].type); b++)
                sum = sum + ((unsigned char *)out[i].data)[b];
    }
    for (int i = 0; i < m->n_inputs; i++)
        free(in[i].data);
    gw_exec_close(&e);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    gw_onnx *m = NULL, *s = NULL;
    gw_err_clear();
    if (gw_onnx_parse(&m, "fuzz", data, size) < 0)
        return 0; /* fuzz_onnx.c looks at that */
    const int err = gw_onnx_simplify(&s, m, &(gw_onnx_binding){.batch = 2, .name = "T", .value = 16});
    gw_onnx_free(&m);
    need((err < 0) == !s && (err == GW_OK || (gw_err_detail()[0] && err != GW_EBUG)));
    if (s && is_small(s))
        run(s);
    gw_onnx_free(&s);
    return 0;
}
