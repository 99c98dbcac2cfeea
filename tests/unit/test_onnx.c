/* SPDX-License-Identifier: GPL-3.0-or-later
 * The ONNX reader: what it reads, in which order, and that every kind of damage is one clear refusal. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "kernels/nn/onnx.h"
#include "tests/unit/onnx_build.h"

#include <unistd.h>

static const float weight[6] = {1, 2, 3, 4, 5, 6};

/* conv(x, w) -> relu -> y, the nodes in the wrong order on request. */
static bytes small_model(int64_t ir, int64_t opset, bool reversed)
{
    build b = {0};
    add_input(&b, "x", 1, -1, 8);
    add_output(&b, "y");
    add_floats(&b, "w", 3, (int64_t[]){1, 2, 3}, weight);
    for (int i = 0; i < 2; i++) {
        bytes a = {0};
        attr_ints(&a, "pads", 2, (int64_t[]){2, 0});
        attr_int(&a, "group", -1);
        attr_float(&a, "slope", 0.25f);
        attr_text(&a, "auto_pad", "NOTSET");
        if (i == reversed)
            add_node(&b, "Conv", "x w", "h", &a);
        else
            add_node(&b, "Relu", "h", "y", NULL);
        free(a.data);
    }
    return finish(&b, ir, opset);
}

static void reads_a_model(void **state)
{
    (void)state;
    for (int reversed = 0; reversed < 2; reversed++) {
        bytes file = small_model(7, 13, reversed);
        gw_onnx *m;
        assert_int_equal(gw_onnx_parse(&m, "small", file.data, file.n), GW_OK);
        assert_int_equal(m->ir_version, 7);
        assert_int_equal(m->opset, 13);
        assert_string_equal(m->producer, "onnx_build");
        assert_string_equal(m->path, "small");
        assert_int_equal(m->n_nodes, 2);
        assert_int_equal(m->n_inputs, 1);
        assert_int_equal(m->n_outputs, 1);
        assert_int_equal(m->n_initialisers, 1);
        assert_int_equal(m->input[0].rank, 3);
        assert_int_equal(m->input[0].dim[0], 1);
        assert_int_equal(m->input[0].dim[1], -1);
        assert_int_equal(m->input[0].dim[2], 8);
        assert_string_equal(m->node[0].op, "Conv"); /* whatever the file's order */
        assert_string_equal(m->node[1].op, "Relu");
        assert_string_equal(m->node[1].in[0], "h");
        const gw_onnx_attr *pads = gw_onnx_attr_find(&m->node[0], "pads");
        assert_int_equal(pads->type, GW_ATTR_INTS);
        assert_int_equal(pads->count, 2);
        assert_int_equal(pads->ints[0], 2);
        assert_int_equal(gw_onnx_attr_find(&m->node[0], "group")->i, -1);
        assert_true(gw_onnx_attr_find(&m->node[0], "slope")->f == 0.25f);
        assert_string_equal(gw_onnx_attr_find(&m->node[0], "auto_pad")->s, "NOTSET");
        assert_null(gw_onnx_attr_find(&m->node[0], "strides"));
        assert_int_equal(m->initialiser[0].bytes, sizeof weight);
        assert_memory_equal(m->initialiser[0].data, weight, sizeof weight);
        assert_string_equal(gw_onnx_meta(m, "detectors"), "H1,\nL1");
        assert_null(gw_onnx_meta(m, "rate"));
        gw_onnx_free(&m);
        assert_null(m);
        free(file.data);
    }
}

/* Expects a refusal whose detail contains `word`. Takes the file. */
static void refused(bytes file, int err, const char *word)
{
    gw_onnx *m;
    const int got = gw_onnx_parse(&m, "bad.onnx", file.data, file.n);
    free(file.data);
    if (got != err || !strstr(gw_err_detail(), word) || !strstr(gw_err_detail(), "bad.onnx"))
        fail_msg("got %s '%s', wanted %s with '%s'", gw_err_name(got), gw_err_detail(), gw_err_name(err),
                 word);
    assert_null(m);
}

static void refuses_other_versions(void **state)
{
    (void)state;
    refused(small_model(2, 13, false), GW_ENOTSUP, "IR version 2");
    refused(small_model(11, 13, false), GW_ENOTSUP, "IR version 11");
    refused(small_model(7, 0, false), GW_ENOTSUP, "operator set 0");
    refused(small_model(7, 22, false), GW_ENOTSUP, "operator set 22");
    refused(small_model(0, 13, false), GW_EFORMAT, "not an ONNX model");
}

static bytes with_tensor(int type, int rank, const int64_t *dim, size_t n_bytes)
{
    static const unsigned char zeros[64];
    build b = {0};
    add_input(&b, "x", 1, 1, 8);
    add_output(&b, "y");
    add_raw(&b, "w", type, rank, dim, zeros, n_bytes);
    add_node(&b, "Add", "x w", "y", NULL);
    return finish(&b, 7, 13);
}

static void refuses_bad_tensors(void **state)
{
    (void)state;
    refused(with_tensor(1, 1, (int64_t[]){3}, 8), GW_EFORMAT, "8 bytes of data, its shape needs 12");
    refused(with_tensor(1, 1, (int64_t[]){-1}, 4), GW_EFORMAT, "negative");
    refused(with_tensor(1, 2, (int64_t[]){INT64_C(1) << 32, INT64_C(1) << 32}, 0), GW_EFORMAT,
            "larger than any");
    refused(with_tensor(1, 3, (int64_t[]){INT64_MAX, 2, 2}, 0), GW_EFORMAT, "larger than any");
    refused(with_tensor(11, 2, (int64_t[]){INT64_C(1) << 31, 1}, 0), GW_EFORMAT, "larger than any");
    refused(with_tensor(1, 9, (int64_t[]){1, 1, 1, 1, 1, 1, 1, 1, 1}, 4), GW_EFORMAT, "9 dimensions");
    refused(with_tensor(8, 1, (int64_t[]){1}, 4), GW_ENOTSUP, "element type 8");
    refused(with_tensor(0, 1, (int64_t[]){1}, 4), GW_ENOTSUP, "element type 0");
}

static void reads_typed_data(void **state)
{
    (void)state;
    build b = {0};
    add_input(&b, "x", 1, 1, 8);
    add_output(&b, "y");
    bytes t = {0}, packed = {0};
    put_int(&t, 1, 3); /* int8 in int32_data, two packed and one alone, one of them negative */
    put_int(&t, 2, GW_ONNX_INT8);
    put_text(&t, 8, "a");
    put_varint(&packed, 5);
    put_varint(&packed, (uint64_t)INT64_C(-3));
    put_message(&t, 5, &packed);
    put_int(&t, 5, 7);
    put_message(&b.graph, 5, &t);
    put_int(&t, 1, 2); /* float_data, not packed */
    put_int(&t, 2, GW_ONNX_FLOAT);
    put_text(&t, 8, "f");
    put_float(&t, 4, 1.5f);
    put_float(&t, 4, -2.5f);
    put_message(&b.graph, 5, &t);
    put_int(&t, 2, GW_ONNX_INT64); /* a scalar; its data comes before its name */
    put_int(&t, 7, INT64_MIN);
    put_text(&t, 8, "s");
    put_message(&b.graph, 5, &t);
    add_node(&b, "Add", "x f", "y", NULL);
    bytes file = finish(&b, 3, 6);
    gw_onnx *m;
    assert_int_equal(gw_onnx_parse(&m, "typed", file.data, file.n), GW_OK);
    assert_memory_equal(m->initialiser[0].data, ((int8_t[]){5, -3, 7}), 3);
    assert_int_equal(m->initialiser[0].bytes, 3);
    assert_memory_equal(m->initialiser[1].data, ((float[]){1.5f, -2.5f}), 8);
    assert_int_equal(m->initialiser[2].rank, 0);
    assert_memory_equal(m->initialiser[2].data, ((int64_t[]){INT64_MIN}), 8);
    gw_onnx_free(&m);
    free(file.data);
}

static void refuses_external_data(void **state)
{
    (void)state;
    build b = {0};
    bytes t = {0};
    add_output(&b, "y");
    put_int(&t, 1, 2);
    put_int(&t, 2, 1);
    put_text(&t, 8, "w");
    put_int(&t, 14, 1);
    put_message(&b.graph, 5, &t);
    add_node(&b, "Relu", "w", "y", NULL);
    refused(finish(&b, 7, 13), GW_ENOTSUP, "'w' keeps its data in another file");
}

/* One node per line of the table: "in out in out ..." */
static bytes with_names(const char *const *in, const char *const *out, int n, const char *output)
{
    build b = {0};
    add_input(&b, "x", 1, 1, 8);
    add_output(&b, output);
    for (int i = 0; i < n; i++)
        add_node(&b, "Relu", in[i], out[i], NULL);
    return finish(&b, 7, 13);
}

static void refuses_bad_names(void **state)
{
    (void)state;
    refused(with_names((const char *[]){"x", "b"}, (const char *[]){"a", "y"}, 2, "y"), GW_EFORMAT,
            "uses 'b', which nothing makes");
    refused(with_names((const char *[]){"x", "x"}, (const char *[]){"y", "y"}, 2, "y"), GW_EFORMAT,
            "made twice");
    refused(with_names((const char *[]){"x"}, (const char *[]){"x"}, 1, "x"), GW_EFORMAT, "made twice");
    refused(with_names((const char *[]){"b", "a"}, (const char *[]){"a", "b"}, 2, "a"), GW_EFORMAT, "loop");
    refused(with_names((const char *[]){"a"}, (const char *[]){"a"}, 1, "a"), GW_EFORMAT, "loop");
    refused(with_names((const char *[]){"x"}, (const char *[]){"y"}, 1, "z"), GW_EFORMAT, "output 'z'");
    /* A name goes to a terminal: its control characters do not. */
    refused(with_names((const char *[]){"\033[2J"}, (const char *[]){"y"}, 1, "y"), GW_EFORMAT, "'?[2J'");
}

static void skips_nested_graphs(void **state)
{
    (void)state;
    bytes inner = {0};
    for (int i = 0; i < 2000; i++) { /* graphs in attributes in nodes in graphs ... */
        bytes attr = {0}, node = {0}, graph = {0};
        put_text(&attr, 1, "then_branch");
        put_message(&attr, 6, &inner);
        put_int(&attr, 20, 5);
        put_text(&node, 4, "If");
        put_message(&node, 5, &attr);
        put_message(&graph, 1, &node);
        inner = graph;
    }
    build b = {0};
    add_input(&b, "x", 1, 1, 8);
    add_output(&b, "y");
    bytes attrs = {0}, attr = {0};
    put_text(&attr, 1, "then_branch");
    put_message(&attr, 6, &inner);
    put_int(&attr, 20, 5);
    put_message(&attrs, 5, &attr);
    add_node(&b, "If", "x", "y", &attrs);
    bytes file = finish(&b, 7, 13);
    gw_onnx *m;
    assert_int_equal(gw_onnx_parse(&m, "nested", file.data, file.n), GW_OK);
    assert_int_equal(m->node[0].n_attr, 0);
    gw_onnx_free(&m);
    free(file.data);
}

/* Cut anywhere, or with any byte changed, it is read or refused, and nothing else happens (ASan looks). */
static void survives_damage(void **state)
{
    (void)state;
    bytes file = small_model(7, 13, false);
    gw_onnx *m;
    int cut_ok = 0, changed_ok = 0;
    for (size_t n = 0; n < file.n; n++) {
        unsigned char *exact = malloc(n ? n : 1);
        assert_non_null(exact);
        memcpy(exact, file.data, n);
        cut_ok += gw_onnx_parse(&m, "cut", exact, n) == GW_OK;
        gw_onnx_free(&m);
        free(exact);
    }
    for (size_t i = 0; i < file.n; i++) {
        for (int value = 0; value < 256; value++) {
            const unsigned char was = file.data[i];
            file.data[i] = (unsigned char)value;
            changed_ok += gw_onnx_parse(&m, "changed", file.data, file.n) == GW_OK;
            gw_onnx_free(&m);
            file.data[i] = was;
        }
    }
    assert_in_range(cut_ok, 0, 3); /* only where a whole field at the very end is gone */
    assert_in_range(changed_ok, 256, 256 * (int)file.n - 256);
    free(file.data);
}

static void loads_files(void **state)
{
    (void)state;
    gw_onnx *m;
    char path[] = "/tmp/gw_test_onnx_XXXXXX";
    const int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(gw_onnx_load(&m, path), GW_EFORMAT);
    assert_non_null(strstr(gw_err_detail(), "empty"));
    bytes file = small_model(7, 13, false);
    assert_int_equal(write(fd, file.data, file.n), (ssize_t)file.n);
    close(fd);
    assert_int_equal(gw_onnx_load(&m, path), GW_OK);
    assert_memory_equal(m->initialiser[0].data, weight, sizeof weight);
    gw_onnx_free(&m);
    unlink(path);
    free(file.data);
    assert_int_equal(gw_onnx_load(&m, path), GW_EMISSING);
    assert_non_null(strstr(gw_err_detail(), path));
    assert_int_equal(gw_onnx_load(&m, "/tmp"), GW_EFORMAT);
    assert_null(m);
    static const char text[] = "\211HDF\r\n\032\n and then something that is no model";
    assert_int_equal(gw_onnx_parse(&m, "x.hdf5", text, sizeof text), GW_EFORMAT);
    assert_non_null(strstr(gw_err_detail(), "is this an ONNX file?"));
    assert_int_equal(gw_onnx_parse(&m, "nothing", NULL, 0), GW_EFORMAT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_a_model),         cmocka_unit_test(refuses_other_versions),
        cmocka_unit_test(refuses_bad_tensors),   cmocka_unit_test(reads_typed_data),
        cmocka_unit_test(refuses_external_data), cmocka_unit_test(refuses_bad_names),
        cmocka_unit_test(skips_nested_graphs),   cmocka_unit_test(survives_damage),
        cmocka_unit_test(loads_files),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
