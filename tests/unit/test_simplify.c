/* SPDX-License-Identifier: GPL-3.0-or-later
 * Simplifying and running models node by node: what becomes of a graph, that a run allocates and forgets
 * nothing, and that everything which cannot be is one clear line. Values are compared with ONNX's own cases
 * and with numpy in tests/check/onnx_conform.py. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "kernels/nn/exec.h"
#include "kernels/nn/simplify.h"
#include "tests/unit/onnx_build.h"

#include <math.h>
#include <sys/stat.h>
#include <unistd.h>

static gw_onnx *simplified(build *b, int64_t opset, const gw_onnx_binding *bind)
{
    bytes file = finish(b, 8, opset);
    gw_onnx *m, *s;
    assert_int_equal(gw_onnx_parse(&m, "model", file.data, file.n), GW_OK);
    if (gw_onnx_simplify(&s, m, bind) != GW_OK)
        fail_msg("%s", gw_err_detail());
    gw_onnx_free(&m);
    memset(file.data, 0xa5, file.n); /* nothing of the file may be in use any more */
    free(file.data);
    return s;
}

static void refused(build *b, int64_t opset, const gw_onnx_binding *bind, int want, const char *const *words)
{
    bytes file = finish(b, 8, opset);
    gw_onnx *m, *s = NULL;
    gw_exec *e = NULL;
    gw_kernels k;
    memset(&k, 0, sizeof k);
    gw_tensor_ref(&k.tensor);
    gw_err_clear();
    int err = gw_onnx_parse(&m, "bad.onnx", file.data, file.n);
    if (err == GW_OK)
        err = gw_onnx_simplify(&s, m, bind);
    if (err == GW_OK)
        err = gw_exec_open(&e, s, &k);
    const char *said = gw_err_detail();
    bool all = strstr(said, "bad.onnx") && !strchr(said, '\n');
    for (; *words; words++)
        all &= strstr(said, *words) != NULL;
    if (err != want || !all)
        fail_msg("got %s '%s', wanted %s", gw_err_name(err), said, gw_err_name(want));
    assert_null(e);
    gw_onnx_free(&s);
    gw_onnx_free(&m);
    free(file.data);
}
#define WORDS(...) ((const char *const[]){__VA_ARGS__, NULL})

static void graph_of(build *b)
{
    add_input(b, "x", -1, 2, 8);
    add_output(b, "y");
}

static void binds_and_folds(void **state)
{
    (void)state;
    build b = {0};
    graph_of(&b); /* y = Reshape(x, [N, C * L]), worked out as exporters do */
    add_ints(&b, "i0", 1, (int64_t[]){0});
    add_ints(&b, "open", 1, (int64_t[]){-1});
    bytes axis = {0};
    add_node(&b, "Shape", "x", "shape", NULL);
    attr_int(&axis, "axis", 0);
    add_node(&b, "Gather", "shape i0", "n", &axis);
    attr_int(&axis, "axis", 0);
    add_node(&b, "Concat", "n open", "to", &axis);
    add_node(&b, "Relu", "x", "unused", NULL);
    add_node(&b, "Identity", "x", "same", NULL);
    add_node(&b, "Reshape", "same to", "y", NULL);
    gw_onnx *s = simplified(&b, 13, &(gw_onnx_binding){.batch = 3});
    assert_int_equal(s->n_nodes, 1);
    assert_string_equal(s->node[0].op, "Reshape");
    assert_string_equal(s->node[0].in[0], "x");
    assert_int_equal(s->input[0].dim[0], 3);
    assert_int_equal(s->n_initialisers, 1);
    assert_memory_equal(s->initialiser[0].data, ((int64_t[]){3, -1}), 16);
    const gw_onnx_value *y = gw_onnx_shape(s, "y");
    assert_non_null(y);
    assert_int_equal(y->rank, 2);
    assert_int_equal(y->dim[0], 3);
    assert_int_equal(y->dim[1], 16);
    assert_int_equal(s->output[0].dim[1], 16);
    assert_null(gw_onnx_shape(s, "unused"));
    assert_string_equal(gw_onnx_meta(s, "detectors"), "H1,\nL1");
    gw_onnx_free(&s);

    graph_of(&b);
    add_node(&b, "Relu", "x", "y", NULL);
    s = simplified(&b, 13, &(gw_onnx_binding){.name = "N", .value = 5}); /* by the dimension's name */
    assert_int_equal(s->output[0].dim[0], 5);
    gw_onnx_free(&s);
}

/* Conv - BatchNormalization - Mul by a constant is one convolution, with the weights that follow. */
static void folds_batchnorm(void **state)
{
    (void)state;
    static const float w[4] = {1, 2, 3, 4}, scale[2] = {1, 2}, shift[2] = {3, 4}, mean[2] = {5, 6},
                       var[2] = {4, 16}, k[1] = {10};
    build b = {0};
    graph_of(&b);
    add_floats(&b, "w", 3, (int64_t[]){2, 2, 1}, w);
    add_floats(&b, "s", 1, (int64_t[]){2}, scale);
    add_floats(&b, "b", 1, (int64_t[]){2}, shift);
    add_floats(&b, "m", 1, (int64_t[]){2}, mean);
    add_floats(&b, "v", 1, (int64_t[]){2}, var);
    add_floats(&b, "k", 1, (int64_t[]){1}, k);
    bytes a = {0};
    attr_float(&a, "epsilon", 0);
    add_node(&b, "Conv", "x w", "c", NULL);
    add_node(&b, "BatchNormalization", "c s b m v", "n", &a);
    add_node(&b, "Mul", "k n", "y", NULL);
    gw_onnx *s = simplified(&b, 15, &(gw_onnx_binding){.batch = 1});
    assert_int_equal(s->n_nodes, 1);
    assert_string_equal(s->node[0].op, "Conv");
    assert_string_equal(s->node[0].out[0], "y");
    assert_int_equal(s->node[0].n_in, 3);
    assert_int_equal(s->n_initialisers, 2);
    for (int i = 0; i < 2; i++) {
        const float *t = s->initialiser[i].data;
        if (s->initialiser[i].rank == 3)
            assert_memory_equal(t, ((float[]){5, 10, 15, 20}), 16);
        else
            assert_memory_equal(t, ((float[]){5, 10}), 8); /* 10 * (3 - 5 / 2), 10 * (4 - 6 * 2 / 4) */
    }
    gw_onnx_free(&s);
}

static void finds_activations(void **state)
{
    (void)state;
    static const float half = 0.5f, one = 1, root = 1.41421356f;
    build b = {0};
    graph_of(&b);
    add_floats(&b, "half", 0, NULL, &half);
    add_floats(&b, "one", 0, NULL, &one);
    add_floats(&b, "root", 0, NULL, &root);
    add_node(&b, "Sigmoid", "x", "s", NULL);
    add_node(&b, "Mul", "s x", "silu", NULL);
    add_node(&b, "Div", "silu root", "d", NULL);
    add_node(&b, "Erf", "d", "e", NULL);
    add_node(&b, "Add", "one e", "a", NULL);
    add_node(&b, "Mul", "a silu", "p", NULL);
    add_node(&b, "Mul", "p half", "y", NULL);
    gw_onnx *s = simplified(&b, 13, &(gw_onnx_binding){.batch = 1});
    assert_int_equal(s->n_nodes, 2);
    assert_string_equal(s->node[0].domain, "gwstream");
    assert_string_equal(s->node[0].op, "Silu");
    assert_string_equal(s->node[1].op, "Gelu");
    assert_true(gw_exec_knows("gwstream", "Silu", 13));
    assert_false(gw_exec_knows("", "Silu", 13));
    assert_false(gw_exec_knows("", "Gelu", 22));
    gw_onnx_free(&s);
}

/* Runs twice with different inputs; out is the exec's own until the next run. */
static void runs(void **state)
{
    (void)state;
    build b = {0};
    graph_of(&b);
    add_output(&b, "r");
    static const float w[2] = {1, NAN};
    add_floats(&b, "w", 2, (int64_t[]){2, 1}, w);
    add_node(&b, "Relu", "x", "r", NULL);
    add_node(&b, "Add", "r w", "y", NULL);
    gw_onnx *s = simplified(&b, 13, &(gw_onnx_binding){.batch = 1});
    gw_kernels k;
    memset(&k, 0, sizeof k);
    gw_tensor_ref(&k.tensor);
    gw_exec *e;
    assert_int_equal(gw_exec_open(&e, s, &k), GW_OK);
    float x[16];
    gw_tensor in = {.type = GW_ONNX_FLOAT, .rank = 3, .dim = {1, 2, 8}, .data = x}, out[2];
    for (int sign = -1; sign <= 1; sign += 2) {
        for (int i = 0; i < 16; i++)
            x[i] = (float)(sign * (i + 1));
        assert_int_equal(gw_exec_run(e, &in, out), GW_OK);
        for (int i = 0; i < 16; i++) {
            const float relu = x[i] < 0 ? 0 : x[i], y = ((float *)out[0].data)[i];
            assert_true(((float *)out[1].data)[i] == relu);
            assert_true(i < 8 ? y == relu + 1 : isnan(y)); /* a weight that is no number stays where it is */
        }
    }
    in.dim[2] = 9;
    assert_int_equal(gw_exec_run(e, &in, out), GW_EMISMATCH);
    assert_non_null(strstr(gw_err_detail(), "'x'"));
    gw_exec_close(&e);
    assert_null(e);
    gw_onnx_free(&s);
}

static void names_all_unknown(void **state)
{
    (void)state;
    build b = {0};
    graph_of(&b);
    add_node(&b, "Warp", "x", "a", NULL);
    add_node(&b, "Relu", "a", "c", NULL);
    add_node(&b, "Weft", "c", "y", NULL);
    refused(&b, 13, &(gw_onnx_binding){.batch = 1}, GW_ENOTSUP,
            WORDS("2 nodes", "'Warp.a' (Warp)", "'Weft.y' (Weft)", "opset 13"));
}

static void refuses_open_dimensions(void **state)
{
    (void)state;
    build b = {0};
    graph_of(&b);
    add_node(&b, "Relu", "x", "y", NULL);
    refused(&b, 13, NULL, GW_ENOTSUP, WORDS("dimension 0 of input 'x'", "'N'", "give it a size"));
}

static void refuses_wrong_shapes(void **state)
{
    (void)state;
    const gw_onnx_binding one = {.batch = 1};
    static const float w[12] = {0};
    build b = {0};
    graph_of(&b);
    add_floats(&b, "w", 3, (int64_t[]){2, 3, 2}, w);
    add_node(&b, "Conv", "x w", "y", NULL);
    refused(&b, 13, &one, GW_EMISMATCH, WORDS("'Conv.y'", "2 channels, the weights are for 3"));

    graph_of(&b);
    add_ints(&b, "to", 2, (int64_t[]){5, -1});
    add_node(&b, "Reshape", "x to", "y", NULL);
    refused(&b, 13, &one, GW_EMISMATCH, WORDS("'Reshape.y'", "16 elements do not fill whole rows of 5"));

    graph_of(&b);
    bytes a = {0};
    attr_int(&a, "axis", 3);
    add_node(&b, "Softmax", "x", "y", &a);
    refused(&b, 13, &one, GW_EMISMATCH, WORDS("'Softmax.y'", "axis 3"));

    graph_of(&b);
    attr_float(&a, "axis", 1);
    add_node(&b, "Softmax", "x", "y", &a);
    refused(&b, 13, &one, GW_EFORMAT, WORDS("'axis'", "another type"));

    graph_of(&b);
    attr_int(&a, "sharpness", 1);
    add_node(&b, "Softmax", "x", "y", &a);
    refused(&b, 13, &one, GW_ENOTSUP, WORDS("'sharpness' is not known"));

    graph_of(&b);
    add_node(&b, "Add", "x", "y", NULL);
    refused(&b, 13, &one, GW_EFORMAT, WORDS("'Add.y'", "input 1 is missing"));

    graph_of(&b);
    add_ints(&b, "at", 1, (int64_t[]){7});
    add_ints(&b, "list", 3, (int64_t[]){1, 2, 3});
    add_node(&b, "Gather", "list at", "y", NULL); /* among constants: at load */
    refused(&b, 13, &one, GW_ERANGE, WORDS("'Gather.y'", "index 7 into 3 elements"));
}

/* A hundred bytes may ask for 2^40 elements, or for 2^31 of them, or for an hour of arithmetic. */
static void bears_bombs(void **state)
{
    (void)state;
    const gw_onnx_binding one = {.batch = 1};
    build b = {0};
    graph_of(&b);
    add_ints(&b, "to", 3, (int64_t[]){1 << 20, 1 << 20, 2});
    add_node(&b, "ConstantOfShape", "to", "y", NULL);
    refused(&b, 13, &one, GW_ERANGE, WORDS("'ConstantOfShape.y'", "2^31"));

    graph_of(&b);
    bytes a = {0};
    attr_ints(&a, "pads", 6, (int64_t[]){0, 0, INT64_MAX, 0, 0, INT64_MAX});
    add_node(&b, "Pad", "x", "y", &a);
    refused(&b, 6, &one, GW_ERANGE, WORDS("'Pad.y'", "2^31"));

    graph_of(&b);
    attr_ints(&a, "dilations", 1, (int64_t[]){INT64_MAX});
    attr_ints(&a, "kernel_shape", 1, (int64_t[]){3});
    add_node(&b, "MaxPool", "x", "y", &a);
    refused(&b, 13, &one, GW_ERANGE, WORDS("'MaxPool.y'", "dilations"));

    graph_of(&b); /* 2^36 multiply-adds among constants: left for the run, not done at load */
    add_ints(&b, "square", 2, (int64_t[]){1 << 12, 1 << 12});
    add_node(&b, "ConstantOfShape", "square", "p", NULL);
    add_node(&b, "MatMul", "p p", "y", NULL);
    gw_onnx *s = simplified(&b, 13, &one);
    assert_int_equal(s->n_nodes, 1);
    assert_string_equal(s->node[0].op, "MatMul");
    gw_onnx_free(&s);
}

/* A function that calls itself, and a tree of functions: sixteen million nodes from 700 bytes. */
static void bears_function_bombs(void **state)
{
    (void)state;
    for (int tree = 0; tree < 2; tree++) {
        build b = {0};
        graph_of(&b);
        add_node(&b, "F0", "x", "y", NULL);
        bytes model = finish(&b, 8, 13);
        for (int i = 0; i < (tree ? 7 : 1); i++) {
            build body = {0};
            char name[8], calls[8], from[8] = "a", to[8];
            snprintf(name, sizeof name, "F%d", i);
            snprintf(calls, sizeof calls, tree && i == 6 ? "Relu" : "F%d", tree ? i + 1 : 0);
            bytes fn = {0};
            put_text(&fn, 1, name);
            put_text(&fn, 4, "a");
            put_text(&fn, 5, "z");
            for (int k = 0; k < (tree ? 11 : 1); k++) {
                snprintf(to, sizeof to, k == (tree ? 10 : 0) ? "z" : "t%d", k);
                add_node(&body, calls, from, to, NULL);
                memcpy(from, to, sizeof to);
            }
            /* A graph's nodes have field 1, a function's 7. */
            for (size_t at = 0; at < body.graph.n; at += (size_t)body.graph.data[at + 1] + 2)
                body.graph.data[at] = 7 << 3 | 2;
            put(&fn, body.graph.data, body.graph.n);
            free(body.graph.data);
            put_message(&model, 25, &fn);
        }
        gw_onnx *m, *s;
        assert_int_equal(gw_onnx_parse(&m, "bomb.onnx", model.data, model.n), GW_OK);
        assert_int_equal(m->n_functions, tree ? 7 : 1);
        assert_int_equal(gw_onnx_simplify(&s, m, &(gw_onnx_binding){.batch = 1}), GW_EFORMAT);
        assert_non_null(strstr(gw_err_detail(), tree ? "more than 100000 nodes" : "more than 8 deep"));
        gw_onnx_free(&m);
        free(model.data);
    }
}

/* ---- Weights in other files ---- */

static bytes external_model(const char *location, const char *offset)
{
    build b = {0};
    bytes t = {0}, entry = {0};
    add_input(&b, "x", 1, 1, 2);
    add_output(&b, "y");
    put_int(&t, 1, 2);
    put_int(&t, 2, 1);
    put_text(&t, 8, "w");
    put_text(&entry, 1, "location");
    put_text(&entry, 2, location);
    put_message(&t, 13, &entry);
    put_text(&entry, 1, "offset");
    put_text(&entry, 2, offset);
    put_message(&t, 13, &entry);
    put_int(&t, 14, 1);
    put_message(&b.graph, 5, &t);
    add_node(&b, "Add", "x w", "y", NULL);
    return finish(&b, 8, 13);
}

static void put_file(const char *folder, const char *name, const void *data, size_t n)
{
    char path[256];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *out = fopen(path, "wb");
    assert_non_null(out);
    assert_int_equal(fwrite(data, 1, n, out), n);
    assert_int_equal(fclose(out), 0);
}

static void reads_weights_below_the_folder(void **state)
{
    (void)state;
    char top[] = "/tmp/gw_external_XXXXXX", folder[64], path[128], link[128];
    assert_non_null(mkdtemp(top));
    snprintf(folder, sizeof folder, "%s/model", top);
    snprintf(path, sizeof path, "%s/model.onnx", folder);
    assert_int_equal(mkdir(folder, 0700), 0);
    const float w[3] = {1, 2, 3};
    put_file(folder, "w.data", w, sizeof w);
    put_file(top, "secret", w, sizeof w);
    snprintf(link, sizeof link, "%s/out", folder);
    assert_int_equal(symlink("../secret", link), 0);
    static const struct {
        const char *location, *offset;
        int err;
        const char *word;
    } cases[] = {
        {"w.data", "4", GW_OK, ""},
        {"./w.data", "0", GW_OK, ""},
        {"w.data", "8", GW_EFORMAT, "8 bytes from 8 of w.data, which has 12"},
        {"w.data", "18446744073709551615", GW_EFORMAT, "which has 12"},
        {"w.data", "-4", GW_EFORMAT, "offset '-4'"},
        {"gone.data", "0", GW_EMISSING, "gone.data"},
        {"../secret", "0", GW_EACCESS, "not below the model's folder"},
        {"/etc/passwd", "0", GW_EACCESS, "not below the model's folder"},
        {"out", "0", GW_EACCESS, "link leads out"},
        {"", "0", GW_EACCESS, "not below the model's folder"},
        {".", "0", GW_EFORMAT, "not a regular file"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        bytes file = external_model(cases[i].location, cases[i].offset);
        put_file(folder, "model.onnx", file.data, file.n);
        free(file.data);
        gw_onnx *m;
        gw_err_clear();
        const int err = gw_onnx_load(&m, path);
        if (err != cases[i].err || !strstr(gw_err_detail(), cases[i].word))
            fail_msg("%s: %s '%s'", cases[i].location, gw_err_name(err), gw_err_detail());
        if (i == 0)
            assert_memory_equal(m->initialiser[0].data, w + 1, 8);
        gw_onnx_free(&m);
    }
    unlink(link);
    unlink(path);
    snprintf(path, sizeof path, "%s/w.data", folder);
    unlink(path);
    rmdir(folder);
    snprintf(path, sizeof path, "%s/secret", top);
    unlink(path);
    rmdir(top);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(binds_and_folds),      cmocka_unit_test(folds_batchnorm),
        cmocka_unit_test(finds_activations),    cmocka_unit_test(runs),
        cmocka_unit_test(names_all_unknown),    cmocka_unit_test(refuses_open_dimensions),
        cmocka_unit_test(refuses_wrong_shapes), cmocka_unit_test(bears_bombs),
        cmocka_unit_test(bears_function_bombs), cmocka_unit_test(reads_weights_below_the_folder),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
