/* SPDX-License-Identifier: GPL-3.0-or-later
 * Runs ONNX test cases (a folder each: model.onnx, test_data_set_0/input_i.pb and output_i.pb, as ONNX's
 * own suites have them) node by node and compares, for onnx_conform.py. Not installed.
 *
 *   onnx_conform ref|cpu < list of folders, one a line
 *
 * One line a folder: "pass", "unsupported" (why), "fail" (why), and the folder. Tolerances are those of
 * ONNX's own runner: rtol 1e-3, atol 1e-7. An input that an operator must know at load (a shape, say) is
 * tried as an input first and then given as a constant. */
#include "kernels/nn/exec.h"
#include "kernels/nn/onnx_reader.h"
#include "kernels/nn/simplify.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MAX_TENSORS = 16 };

typedef struct file_tensor {
    unsigned char *file;
    gw_onnx_reader reader;
    gw_onnx_tensor t;
    gw_tensor wide; /* data NULL: an empty one */
} file_tensor;

typedef struct test_case {
    const char *folder;
    gw_onnx *model;
    file_tensor in[MAX_TENSORS], out[MAX_TENSORS];
    int n_in, n_out;
} test_case;

static void drop(file_tensor *f)
{
    gw_onnx_release(&f->reader);
    free(f->file);
    free(f->wide.data);
    *f = (file_tensor){0};
}

/* GW_EMISSING: no such file. */
static int read_tensor(file_tensor *f, const char *path)
{
    *f = (file_tensor){.reader = {.m = {.path = path}, .index = -1}};
    FILE *in = fopen(path, "rb");
    if (!in)
        return gw_fail(GW_EMISSING, "%s", path);
    fseek(in, 0, SEEK_END);
    const long bytes = ftell(in);
    rewind(in);
    f->file = malloc((size_t)bytes + 1);
    const bool whole = f->file && fread(f->file, 1, (size_t)bytes, in) == (size_t)bytes;
    fclose(in);
    if (!whole)
        return gw_fail(GW_EIO, "%s", path);
    GW_TRY(gw_onnx_read_tensor(&f->reader, gw_pb_span(f->file, (size_t)bytes), &f->t));
    const bool half = f->t.type == GW_ONNX_FLOAT16 || f->t.type == GW_ONNX_BFLOAT16;
    GW_TRY(gw_tensor_set(&f->wide, half ? GW_ONNX_FLOAT : f->t.type, f->t.rank, f->t.dim));
    f->wide.data = malloc(gw_tensor_elements(&f->wide) * 8 + 8);
    if (!f->wide.data)
        return gw_fail(GW_ENOMEM, "no memory");
    gw_tensor_widen(&f->t, f->wide.data);
    return GW_OK;
}

static int read_all(const char *folder, const char *what, file_tensor *list, int *n)
{
    for (*n = 0; *n < MAX_TENSORS; ++*n) {
        char path[4096];
        snprintf(path, sizeof path, "%s/test_data_set_0/%s_%d.pb", folder, what, *n);
        const int err = read_tensor(&list[*n], path);
        if (err == GW_EMISSING)
            return GW_OK;
        if (err < 0) {
            drop(&list[*n]);
            return err;
        }
    }
    return GW_OK;
}

static double element(const gw_tensor *t, size_t i)
{
    switch (t->type) {
    case GW_ONNX_FLOAT:
        return (double)((const float *)t->data)[i];
    case GW_ONNX_DOUBLE:
        return ((const double *)t->data)[i];
    case GW_ONNX_INT64:
        return (double)((const int64_t *)t->data)[i];
    case GW_ONNX_INT32:
        return ((const int32_t *)t->data)[i];
    case GW_ONNX_INT8:
        return ((const int8_t *)t->data)[i];
    default:
        return ((const uint8_t *)t->data)[i];
    }
}

static int compare(const gw_tensor *got, const gw_tensor *want, int which)
{
    bool same = got->type == want->type && got->rank == want->rank;
    for (int i = 0; same && i < got->rank; i++)
        same = got->dim[i] == want->dim[i];
    if (!same)
        return gw_fail(GW_EMISMATCH,
                       "output %d has type %d, rank %d, first dimension %lld; wanted %d, %d, %lld", which,
                       (int)got->type, got->rank, got->rank ? (long long)got->dim[0] : 0, (int)want->type,
                       want->rank, want->rank ? (long long)want->dim[0] : 0);
    for (size_t i = 0; i < gw_tensor_elements(want); i++) {
        const double a = element(got, i), b = element(want, i);
        if ((isnan(a) && isnan(b)) || a == b || fabs(a - b) <= 1e-7 + 1e-3 * fabs(b))
            continue;
        return gw_fail(GW_EMISMATCH, "output %d, element %zu is %.9g, wanted %.9g", which, i, a, b);
    }
    return GW_OK;
}

static int run_model(const test_case *t, const gw_onnx *m, const file_tensor *const *in, const gw_kernels *k)
{
    gw_onnx *simple = NULL;
    gw_exec *e = NULL;
    gw_tensor inputs[MAX_TENSORS], outputs[MAX_TENSORS];
    int err = gw_onnx_simplify(&simple, m, NULL);
    if (err == GW_OK)
        err = gw_exec_open(&e, simple, k);
    for (int i = 0; i < m->n_inputs; i++)
        inputs[i] = in[i]->wide;
    for (int twice = 0; twice < 2 && err == GW_OK; twice++) /* a second run must not see the first */
        err = gw_exec_run(e, inputs, outputs);
    for (int i = 0; i < t->n_out && err == GW_OK; i++) {
        const gw_onnx_value *v = gw_onnx_shape(simple, m->output[i].name);
        err = compare(&outputs[i], &t->out[i].wide, i);
        if (err == GW_OK && (!v || v->type != outputs[i].type || v->rank != outputs[i].rank))
            err = gw_fail(GW_EMISMATCH, "output %d is not as simplify described it", i);
    }
    gw_exec_close(&e);
    gw_onnx_free(&simple);
    return err;
}

typedef enum binding { LISTS, ALL_BUT_FIRST, ALL, N_BINDINGS } binding;

/* The model with some inputs as constants: lists of integers, or more. */
static int run_bound(const test_case *t, binding which, const gw_kernels *k)
{
    gw_onnx m = *t->model;
    gw_onnx_tensor init[MAX_TENSORS + 64];
    gw_onnx_value input[MAX_TENSORS];
    const file_tensor *in[MAX_TENSORS] = {0};
    if (m.n_initialisers > 64)
        return gw_fail(GW_ENOTSUP, "too many initialisers to bind inputs");
    if (m.n_initialisers)
        memcpy(init, m.initialiser, (size_t)m.n_initialisers * sizeof *init);
    m.initialiser = init;
    m.input = input;
    m.n_inputs = 0;
    for (int i = 0; i < t->n_in; i++) {
        const gw_onnx_tensor *x = &t->in[i].t;
        const bool list =
            x->rank <= 1 && (x->type == GW_ONNX_INT64 || x->type == GW_ONNX_INT32 || x->type == GW_ONNX_BOOL);
        if (which == ALL || (which == ALL_BUT_FIRST && i > 0) || list) {
            init[m.n_initialisers] = *x;
            init[m.n_initialisers++].name = t->model->input[i].name;
        } else {
            in[m.n_inputs] = &t->in[i];
            input[m.n_inputs++] = t->model->input[i];
        }
    }
    return run_model(t, &m, in, k);
}

static int run_case(test_case *t, const gw_kernels *k)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/model.onnx", t->folder);
    GW_TRY(gw_onnx_load(&t->model, path));
    for (int i = 0; i < t->model->n_inputs; i++)
        if (t->model->input[i].type == 0)
            return gw_fail(GW_ENOTSUP, "input %d is no tensor", i);
    for (int i = 0; i < t->model->n_outputs; i++)
        if (t->model->output[i].type == 0)
            return gw_fail(GW_ENOTSUP, "output %d is no tensor", i);
    GW_TRY(read_all(t->folder, "input", t->in, &t->n_in));
    GW_TRY(read_all(t->folder, "output", t->out, &t->n_out));
    if (t->n_in != t->model->n_inputs || t->n_out != t->model->n_outputs)
        return gw_fail(GW_ENOTSUP, "%d inputs and %d outputs, the case has %d and %d", t->model->n_inputs,
                       t->model->n_outputs, t->n_in, t->n_out);
    gw_onnx_value *input = (gw_onnx_value *)t->model->input; /* open dimensions: as the data has them */
    const file_tensor *in[MAX_TENSORS] = {0};
    for (int i = 0; i < t->n_in; i++) {
        if (input[i].rank != t->in[i].t.rank || (input[i].type != t->in[i].t.type))
            return gw_fail(GW_ENOTSUP, "input %d is not what the model says", i);
        memcpy(input[i].dim, t->in[i].t.dim, sizeof input[i].dim);
        in[i] = &t->in[i];
    }
    int err = run_model(t, t->model, in, k);
    for (int b = LISTS; b < N_BINDINGS && err == GW_ENOTSUP; b++)
        err = run_bound(t, (binding)b, k);
    return err;
}

int main(int argc, char **argv)
{
    gw_kernels k;
    const bool cpu = argc == 2 && strcmp(argv[1], "cpu") == 0;
    if (argc != 2 || (!cpu && strcmp(argv[1], "ref") != 0)) {
        fprintf(stderr, "usage: onnx_conform ref|cpu < folders\n");
        return 2;
    }
    memset(&k, 0, sizeof k);
    gw_tensor_ref(&k.tensor);
    if (cpu)
        gw_tensor_cpu(&k.tensor);
    char line[4096];
    while (fgets(line, sizeof line, stdin)) {
        line[strcspn(line, "\n")] = '\0';
        test_case *t = calloc(1, sizeof *t);
        if (!t)
            return 1;
        t->folder = line;
        gw_err_clear();
        const int err = run_case(t, &k);
        if (err < 0 && gw_err_detail()[0] == '\0') {
            printf("fail %s: %s without a word\n", line, gw_err_name(err));
        } else {
            printf("%s %s%s%s\n",
                   err == GW_OK        ? "pass"
                   : err == GW_ENOTSUP ? "unsupported"
                                       : "fail",
                   line, err < 0 ? ": " : "", err < 0 ? gw_err_detail() : "");
        }
        fflush(stdout);
        for (int i = 0; i < MAX_TENSORS; i++) {
            drop(&t->in[i]);
            drop(&t->out[i]);
        }
        gw_onnx_free(&t->model);
        free(t);
    }
    return 0;
}
