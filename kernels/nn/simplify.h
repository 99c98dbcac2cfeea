/* SPDX-License-Identifier: GPL-3.0-or-later
 * From a model as it was exported to the same model with nothing left to work out: every symbolic dimension
 * bound, every shape known, every constant computed, and the long-winded ways in which exporters write down
 * simple things said in one node. A model in, a model out, in the words of onnx.h: whoever runs models
 * (exec.h, plan.h) sees no exporter's habits. Called at load; runs reference operators on constants only.
 *
 *   bind       the batch and other symbolic dimensions of inputs get values; half types become float32
 *   functions  model-local functions are written out in place
 *   fold       a node whose inputs are all constants (also Shape of a known shape) becomes an initialiser
 *   alias      Identity, Dropout, Cast to the same type, Reshape to the same shape ... vanish
 *   recognise  ReduceMean / Pow / Sub / Sqrt ... -> LayerNormalization, InstanceNormalization or
 *              GroupNormalization (opset 21 form: scale and bias a channel); Reshape - InstanceNormalization
 *              - Reshape -> GroupNormalization; Erf -> Gelu, x * Tanh(Softplus(x)) -> Mish (in the default
 *              domain whatever the opset); x * Sigmoid(x) -> domain "gwstream", op "Silu"; Pad of zeros -
 * Conv
 *              -> Conv
 *   affine     BatchNormalization, and Mul, Add, Sub, Div with a constant a channel, go into the weights of
 *              the Conv, ConvTranspose, Gemm or normalisation before them
 *   dead       what no output needs is gone
 *
 * Folding has a budget (100 million operations, 256 MiB): what goes beyond stays a node. An output of the
 * model may be an input's or an initialiser's value: then an Identity makes it, or it is an initialiser. */
#ifndef GW_SIMPLIFY_H
#define GW_SIMPLIFY_H

#include "kernels/nn/onnx.h"

typedef struct gw_onnx_binding {
    int64_t batch;    /* what a symbolic first dimension of an input becomes */
    const char *name; /* NULL, or another symbolic dimension by its name ... */
    int64_t value;    /* ... and its value */
} gw_onnx_binding;

/* *out keeps what it needs of m; m may be freed. GW_ENOTSUP names every unknown operator at once, by node
 * name; GW_EMISMATCH a shape that cannot be, GW_ENOTSUP a dimension that stays symbolic, with the remedy. */
int gw_onnx_simplify(gw_onnx **out, const gw_onnx *m, const gw_onnx_binding *bind);

/* Shape and type of any value of a simplified model; NULL for a name that is not there. */
const gw_onnx_value *gw_onnx_shape(const gw_onnx *m, const char *name);

#endif
