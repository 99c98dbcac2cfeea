/* SPDX-License-Identifier: GPL-3.0-or-later
 * Functions of a model (FunctionProto): operators that it defines by other operators, as torch's newer
 * exporter writes them. Read here as they stand; simplify_inline.c writes them out in place. */
#include "kernels/nn/onnx_reader.h"

int gw_onnx_read_function(gw_onnx_reader *o, gw_pb m, gw_onnx_function *fn)
{
    enum { NAME = 1, INPUT = 4, OUTPUT = 5, NODE = 7, OPSET = 9, DOMAIN_NAME = 10, DEFAULT = 11 };
    gw_pb unused;
    long n_in, n_out, n_nodes, n_defaults;
    GW_TRY(gw_onnx_find(o, m, "a function", INPUT, &unused, &n_in));
    GW_TRY(gw_onnx_find(o, m, "a function", OUTPUT, &unused, &n_out));
    GW_TRY(gw_onnx_find(o, m, "a function", NODE, &unused, &n_nodes));
    GW_TRY(gw_onnx_find(o, m, "a function", DEFAULT, &unused, &n_defaults));
    if (n_in > GW_ONNX_MAX_PARTS || n_out > GW_ONNX_MAX_PARTS || n_nodes > GW_ONNX_MAX_PARTS)
        return gw_onnx_fail(o, GW_EFORMAT, "a function of more than %d parts", GW_ONNX_MAX_PARTS);
    const char **in = gw_onnx_take(o, (size_t)n_in, sizeof *in),
               **out = gw_onnx_take(o, (size_t)n_out, sizeof *out);
    gw_onnx_node *node = gw_onnx_take(o, (size_t)n_nodes, sizeof *node);
    gw_onnx_attr *defaults = gw_onnx_take(o, (size_t)n_defaults, sizeof *defaults);
    if (!in || !out || !node || !defaults)
        return o->err;
    *fn = (gw_onnx_function){
        .domain = "", .name = "", .in = in, .out = out, .node = node, .defaults = defaults};
    gw_pb_field f;
    while (gw_pb_next(&m, &f) == 1) { /* well formed: it has been counted */
        if (f.wire != GW_PB_BYTES)
            continue;
        bool kept;
        switch (f.number) {
        case NAME:
            GW_TRY(gw_onnx_take_text(o, f.bytes, &fn->name));
            break;
        case INPUT:
            GW_TRY(gw_onnx_take_text(o, f.bytes, &in[fn->n_in++]));
            break;
        case OUTPUT:
            GW_TRY(gw_onnx_take_text(o, f.bytes, &out[fn->n_out++]));
            break;
        case NODE:
            GW_TRY(gw_onnx_read_node(o, f.bytes, &node[fn->n_nodes++]));
            break;
        case OPSET:
            GW_TRY(gw_onnx_read_opset(o, f.bytes, &fn->opset));
            break;
        case DOMAIN_NAME:
            GW_TRY(gw_onnx_take_text(o, f.bytes, &fn->domain));
            break;
        case DEFAULT:
            GW_TRY(gw_onnx_read_attr(o, f.bytes, &defaults[fn->n_defaults], &kept));
            fn->n_defaults += kept;
            break;
        default:
            break;
        }
    }
    if (fn->name[0] == '\0')
        return gw_onnx_fail(o, GW_EFORMAT, "a function without a name");
    return GW_OK;
}
