# SPDX-License-Identifier: GPL-3.0-or-later
"""Test cases that libonnx-testdata has not: operators as opset 18 to 21 define them, functions, half types,
weights in other files, and the ways in which exporters write down norms and activations. Expected values by
numpy and scipy in double. For onnx_conform.py; fixed seed."""
import os

import numpy as np
from onnx import AttributeProto, FunctionProto, TensorProto, helper, numpy_helper
from scipy.special import erf, logsumexp

RNG = np.random.default_rng(20170817)


def f32(*shape):
    return RNG.standard_normal(shape).astype(np.float32)


def i64(*values):
    return np.array(values, np.int64)


class Case:
    """Nodes as (op, "inputs", "outputs", attributes), x -> y, with initialisers."""

    def __init__(self, name, opset, nodes, x, want, inits=None, domain=None):
        self.name, self.x, self.want = name, x, want if isinstance(want, list) else [want]
        self.want = [np.ascontiguousarray(np.asarray(w).astype(np.float32 if np.asarray(w).dtype.kind == "f"
                                                               else np.asarray(w).dtype)) for w in self.want]
        kinds = {np.dtype(np.float32): TensorProto.FLOAT, np.dtype(np.int64): TensorProto.INT64,
                 np.dtype(bool): TensorProto.BOOL}
        made = [helper.make_node(op, i.split(), o.split(), name=f"n{k}", domain=a.pop("domain", ""), **a)
                for k, (op, i, o, a) in enumerate(nodes)]
        for node in made:  # an input that is left out
            for k, name_in in enumerate(node.input):
                if name_in == "-":
                    node.input[k] = ""
        outputs = ["y"] if len(self.want) == 1 else [f"y{k}" for k in range(len(self.want))]
        graph = helper.make_graph(
            made, "g", [helper.make_tensor_value_info("x", kinds[x.dtype], x.shape)],
            [helper.make_tensor_value_info(o, kinds[w.dtype], w.shape) for o, w in zip(outputs, self.want)],
            [v if isinstance(v, TensorProto) else numpy_helper.from_array(np.asarray(v), k)
             for k, v in (inits or {}).items()])
        imports = [helper.make_opsetid("", opset)] + ([helper.make_opsetid(domain, 1)] if domain else [])
        self.model = helper.make_model(graph, opset_imports=imports, ir_version=10 if opset >= 21 else 8)

    def write(self, folder):
        path = os.path.join(folder, self.name)
        os.makedirs(path + "/test_data_set_0", exist_ok=True)
        for kind, arrays in (("input", [self.x]), ("output", self.want)):
            for k, array in enumerate(arrays):
                with open(f"{path}/test_data_set_0/{kind}_{k}.pb", "wb") as out:
                    out.write(numpy_helper.from_array(array).SerializeToString())
        with open(path + "/model.onnx", "wb") as out:
            out.write(self.model.SerializeToString())
        return path


def reductions():
    x = np.abs(f32(3, 4, 5)) + 0.1
    d = x.astype(float)
    by = {"Sum": lambda a: d.sum(a), "Mean": lambda a: d.mean(a), "Max": lambda a: d.max(a), "Min": lambda a: d.min(a),
          "Prod": lambda a: d.prod(a), "L1": lambda a: np.abs(d).sum(a), "L2": lambda a: np.sqrt((d * d).sum(a)),
          "SumSquare": lambda a: (d * d).sum(a), "LogSum": lambda a: np.log(d.sum(a)),
          "LogSumExp": lambda a: logsumexp(d, axis=a)}
    for op, f in by.items():
        yield Case(f"reduce_{op.lower()}_18", 18, [("Reduce" + op, "x axes", "y", {"keepdims": 0})], x, f((0, 2)),
                   {"axes": i64(0, -1)})
        yield Case(f"reduce_{op.lower()}_18_noop", 18, [("Reduce" + op, "x axes", "y", {"noop_with_empty_axes": 1})], x,
                   {"L1": d, "L2": d, "SumSquare": d * d, "LogSum": np.log(d)}.get(op, d), {"axes": i64()})
        yield Case(f"reduce_{op.lower()}_18_all", 18, [("Reduce" + op, "x", "y", {"keepdims": 1})], x,
                   np.reshape(f((0, 1, 2)), (1, 1, 1)))


def shapes():
    x = f32(2, 7, 3)
    yield Case("split_18", 18, [("Split", "x", "y0 y1 y2", {"axis": 1, "num_outputs": 3})], x,
               [x[:, :3], x[:, 3:6], x[:, 6:]])
    pads = ((0, 0), (2, 1), (0, 0))
    for mode, np_mode, opset in (("constant", "constant", 18), ("reflect", "reflect", 18), ("edge", "edge", 18),
                                 ("wrap", "wrap", 19)):
        yield Case(f"pad_{mode}_{opset}", opset, [("Pad", "x pads - axes", "y", {"mode": mode})], x,
                   np.pad(x, pads, np_mode), {"pads": i64(2, 1), "axes": i64(-2)})
    yield Case("pad_value_21", 21, [("Pad", "x pads value", "y", {})], x,
               np.pad(x, ((0, 1), (1, 0), (0, 0)), constant_values=1.5)[:, :, 1:],
               {"pads": i64(0, 1, -1, 1, 0, 0), "value": np.float32(1.5)})
    yield Case("reshape_21", 21, [("Reshape", "x shape", "y", {"allowzero": 0})], x, x.reshape(2, 3, 7),
               {"shape": i64(0, 3, -1)})
    yield Case("shape_arithmetic_21", 21, [  # [N, 7, 3] -> [N, 21] as exporters do it
        ("Shape", "x", "s", {}), ("Gather", "s zero", "n", {"axis": 0}), ("Slice", "s one two", "rest", {}),
        ("ReduceProd", "rest", "m", {"keepdims": 1}), ("Unsqueeze", "n at0", "n1", {}),
        ("Concat", "n1 m", "shape", {"axis": 0}), ("Reshape", "x shape", "y", {})], x, x.reshape(2, 21),
        {"zero": np.int64(0), "one": i64(1), "two": i64(3), "at0": i64(0)})
    yield Case("averagepool_19_dilated", 19, [("AveragePool", "x", "y", {"kernel_shape": [2], "dilations": [2]})],
               x.transpose(0, 2, 1).copy(), (x[:, :-2] + x[:, 2:]).transpose(0, 2, 1).astype(float) / 2)
    up = np.repeat(x, 2, 1)
    yield Case("resize_nearest_19", 19, [("Resize", "x - scales", "y", {
        "mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor", "axes": [1]})], x, up,
        {"scales": np.float32([2])})
    half = np.clip((np.arange(14) + 0.5) / 2 - 0.5, 0, 6)
    low, part = np.floor(half).astype(int), (half - np.floor(half))[None, :, None]
    yield Case("resize_linear_18", 18, [("Resize", "x - - sizes", "y", {"mode": "linear", "axes": [-2]})], x,
               x[:, low] * (1 - part) + x[:, np.minimum(low + 1, 6)] * part, {"sizes": i64(14)})


def group_norm(x, groups, scale, bias, epsilon=1e-5):
    n, c = x.shape[:2]
    d = x.astype(float).reshape(n, groups, -1)
    d = (d - d.mean(-1, keepdims=True)) / np.sqrt(d.var(-1, keepdims=True) + epsilon)
    return d.reshape(x.shape) * scale.reshape(1, c, *[1] * (x.ndim - 2)) + bias.reshape(1, c, *[1] * (x.ndim - 2))


def norms():
    x, s2, b2, s6, b6 = f32(2, 6, 9) + 3, f32(2), f32(2), f32(6), f32(6)
    yield Case("groupnorm_18", 18, [("GroupNormalization", "x s b", "y", {"num_groups": 2, "epsilon": 1e-3})], x,
               group_norm(x, 2, np.repeat(s2, 3), np.repeat(b2, 3), 1e-3), {"s": s2, "b": b2})
    yield Case("groupnorm_21", 21, [("GroupNormalization", "x s b", "y", {"num_groups": 3})], x,
               group_norm(x, 3, s6, b6), {"s": s6, "b": b6})
    yield Case("groupnorm_torch", 13, [  # torch's own way before opset 18
        ("Reshape", "x before", "r", {}), ("InstanceNormalization", "r ones zeros", "i", {"epsilon": 1e-5}),
        ("Shape", "x", "shape", {}), ("Reshape", "i shape", "n", {}), ("Mul", "n s", "m", {}), ("Add", "m b", "y", {})],
        x, group_norm(x, 2, s6, b6), {"before": i64(0, 2, -1), "ones": np.ones(2, np.float32),
                                      "zeros": np.zeros(2, np.float32), "s": s6[:, None], "b": b6[:, None]})
    moments = [("Pow", "x two", "sq", {}), ("ReduceMean", "x", "m1", {"axes": [-1], "keepdims": 0}),
               ("ReduceMean", "sq", "m2", {"axes": [-1], "keepdims": 0}), ("Unsqueeze", "m1 one", "u1", {}),
               ("Unsqueeze", "m2 one", "u2", {}), ("Concat", "u1 u2", "u", {"axis": 1}), ("Reshape", "u split", "g", {}),
               ("ReduceMean", "g", "gm", {"axes": [-1], "keepdims": 1}), ("Expand", "gm wide", "e", {}),
               ("Reshape", "e back", "r", {}), ("Gather", "r i0", "mean", {"axis": 1}),
               ("Gather", "r i1", "square", {"axis": 1}), ("Pow", "mean two", "mm", {}), ("Sub", "square mm", "var", {}),
               ("Add", "var eps", "ve", {}), ("Pow", "ve half", "sd", {}), ("Div", "s sd", "f", {}),
               ("Mul", "f mean", "fm", {}), ("Sub", "b fm", "shift", {}), ("Mul", "x f", "xf", {})]
    consts = {"two": np.float32(2), "one": i64(1), "split": i64(-1, 2, 2, 3), "wide": i64(1, 1, 1, 3),
              "back": i64(-1, 2, 6, 1), "i0": np.int64(0), "i1": np.int64(1), "eps": np.float32(1e-5),
              "half": np.float32(0.5), "s": s6[:, None], "b": b6[:, None]}
    yield Case("groupnorm_ml4gw", 13, moments + [("Add", "shift xf", "y", {})], x, group_norm(x, 2, s6, b6), consts)
    yield Case("groupnorm_ml4gw_swapped", 13, moments + [("Add", "xf shift", "y", {})], x, group_norm(x, 2, s6, b6),
               consts)
    # The same with the means of two different tensors: no norm, and it must not become one.
    other = [("Mul", "x two", "x2", {})] + moments[:-1] + [("Mul", "x2 f", "xf", {})]
    yield Case("groupnorm_no_norm", 13, other + [("Add", "shift xf", "y", {})], x,
               2 * group_norm(x, 2, s6, b6 * 0) + b6[:, None] + (
                   lambda d: s6[:, None] * np.repeat(d.mean(-1), 3, 1)[..., None] / np.repeat(
                       np.sqrt(d.var(-1) + 1e-5), 3, 1)[..., None])(x.astype(float).reshape(2, 2, -1)), consts)
    w, c = f32(9), f32(9)
    layer = [("ReduceMean", "x", "m", {"axes": [-1]}), ("Sub", "x m", "d", {}), ("Pow", "d two", "sq", {}),
             ("ReduceMean", "sq", "v", {"axes": [-1]}), ("Add", "v eps", "ve", {}), ("Sqrt", "ve", "sd", {}),
             ("Div", "d sd", "n", {})]
    d = x.astype(float)
    d = (d - d.mean(-1, keepdims=True)) / np.sqrt(d.var(-1, keepdims=True) + 1e-5)
    eps = {"two": np.float32(2), "eps": np.float32(1e-5)}
    yield Case("layernorm_decomposed", 13, layer + [("Mul", "n w", "nw", {}), ("Add", "nw c", "y", {})], x, d * w + c,
               {**eps, "w": w, "c": c})
    yield Case("instancenorm_decomposed", 13, layer + [("Mul", "n w", "nw", {}), ("Add", "nw c", "y", {})], x,
               d * s6[:, None] + b6[:, None], {**eps, "w": s6[:, None], "c": b6[:, None]})
    yield Case("layernorm_bare", 13, layer[:-1] + [("Div", "d sd", "y", {})], x, d, eps)


def activations():
    x = np.clip(f32(2, 3, 5), -2, 2)  # 1 + erf cancels in float32 further out
    d = x.astype(float)
    gelu = 0.5 * d * (1 + erf(d / np.sqrt(2)))
    tanh = 0.5 * d * (1 + np.tanh(np.sqrt(2 / np.pi) * (d + 0.044715 * d ** 3)))
    sigmoid = 1 / (1 + np.exp(-d))
    softplus = np.log1p(np.exp(d))
    k = {"half": np.float32(0.5), "one": np.float32(1), "root": np.float32(2 ** 0.5), "inverse": np.float32(0.5 ** 0.5),
         "k": f32(3, 1)}
    yield Case("gelu_20", 20, [("Gelu", "x", "y", {})], x, gelu)
    yield Case("gelu_20_tanh", 20, [("Gelu", "x", "y", {"approximate": "tanh"})], x, tanh)
    yield Case("gelu_decomposed", 13, [("Div", "x root", "d", {}), ("Erf", "d", "e", {}), ("Add", "e one", "a", {}),
                                       ("Mul", "x a", "m", {}), ("Mul", "m half", "y", {})], x, gelu, k)
    yield Case("gelu_decomposed_2", 13, [("Mul", "inverse x", "d", {}), ("Erf", "d", "e", {}), ("Add", "one e", "a", {}),
                                         ("Mul", "half a", "m", {}), ("Mul", "x m", "y", {})], x, gelu, k)
    yield Case("gelu_no_gelu", 13, [("Div", "x root", "d", {}), ("Erf", "d", "e", {}), ("Add", "e one", "a", {}),
                                    ("Mul", "x a", "m", {}), ("Mul", "m root", "y", {})], x, 2 * 2 ** 0.5 * gelu, k)
    yield Case("mish_18", 18, [("Mish", "x", "y", {})], x, d * np.tanh(softplus))
    yield Case("mish_decomposed", 13, [("Softplus", "x", "s", {}), ("Tanh", "s", "t", {}), ("Mul", "x t", "y", {})], x,
               d * np.tanh(softplus))
    yield Case("silu_decomposed", 13, [("Sigmoid", "x", "s", {}), ("Mul", "s x", "y", {})], x, d * sigmoid)
    yield Case("silu_used_twice", 13, [("Sigmoid", "x", "s", {}), ("Mul", "x s", "m", {}), ("Add", "m s", "y", {})], x,
               d * sigmoid + sigmoid)
    yield Case("equal_19", 19, [("Equal", "x x", "y", {})], x, np.ones(x.shape, bool))


def conv1d(x, w, b, stride=1, pads=(0, 0)):
    d = np.pad(x.astype(float), ((0, 0), (0, 0), pads))
    n = (d.shape[2] - w.shape[2]) // stride + 1
    cols = np.stack([d[:, :, i * stride:i * stride + w.shape[2]] for i in range(n)], 2)
    return np.einsum("ncik,ock->noi", cols, w.astype(float)) + b[:, None]


def folding():
    x, w, b = f32(2, 3, 16), f32(4, 3, 5), f32(4)
    s, t, m, v = f32(4), f32(4), f32(4), f32(4) ** 2 + 0.1
    bn = {"w": w, "b": b, "s": s, "t": t, "m": m, "v": v, "k": f32(4, 1)}
    c = conv1d(x, w, b, 2, (2, 1))
    norm = (c - m[:, None]) / np.sqrt(v[:, None] + 1e-5) * s[:, None] + t[:, None]
    conv = {"pads": [2, 1], "strides": [2]}
    yield Case("conv_bn_mul_add", 15, [("Conv", "x w b", "c", dict(conv)), ("BatchNormalization", "c s t m v", "n", {}),
                                       ("Mul", "k n", "q", {}), ("Sub", "b1 q", "y", {})], x,
               b[:, None] - norm * bn["k"], {**bn, "b1": b[:, None]})
    yield Case("conv_bn_used_twice", 15, [("Conv", "x w b", "c", dict(conv)),
                                          ("BatchNormalization", "c s t m v", "n", {}), ("Add", "n c", "y", {})], x,
               norm + c, bn)
    yield Case("conv_bn_output", 15, [("Conv", "x w b", "y0", dict(conv)),
                                      ("BatchNormalization", "y0 s t m v", "y1", {})], x, [c, norm], bn)
    yield Case("conv_wide_add", 15, [("Conv", "x w b", "c", dict(conv)), ("Add", "c wide", "y", {})], x,
               c + bn["k"][None], {**bn, "wide": bn["k"][None]})
    yield Case("pad_conv", 15, [("Pad", "x p", "q", {}), ("Conv", "q w b", "y", {"pads": [1, 0]})], x,
               conv1d(x, w, b, 1, (4, 2)), {**bn, "p": i64(0, 0, 3, 0, 0, 2)})
    tw = f32(3, 2, 4)  # [in][out / group][kernel]; group 1
    up = np.zeros((2, 2, 16 * 2 + 2))
    for i in range(16):
        up[:, :, 2 * i:2 * i + 4] += np.einsum("nc,cok->nok", x[:, :, i].astype(float), tw.astype(float))
    yield Case("convtranspose_bn", 15, [("ConvTranspose", "x tw", "c", {"strides": [2]}),
                                        ("BatchNormalization", "c s t m v", "y", {})], x,
               (up - m[:2, None]) / np.sqrt(v[:2, None] + 1e-5) * s[:2, None] + t[:2, None],
               {"tw": tw, "s": s[:2], "t": t[:2], "m": m[:2], "v": v[:2]})
    gw = f32(6, 2, 3)
    gx = f32(1, 6, 8)
    grouped = np.concatenate([sum(
        np.pad(np.einsum("nci,co->noi", gx[:, 3 * g:3 * g + 3].astype(float), gw[3 * g:3 * g + 3, :, k].astype(float)),
               ((0, 0), (0, 0), (k, 2 - k))) for k in range(3)) for g in range(2)], 1)
    yield Case("convtranspose_groups_mul", 15, [("ConvTranspose", "x gw", "c", {"group": 2}), ("Mul", "c k", "y", {})], gx,
               grouped * bn["k"], {"gw": gw, "k": bn["k"]})
    a, g = f32(3, 5), f32(4, 5)
    yield Case("gemm_bn", 15, [("Gemm", "x g b", "c", {"transB": 1}), ("BatchNormalization", "c s t m v", "y", {})], a,
               (a.astype(float) @ g.T + b - m) / np.sqrt(v + 1e-5) * s + t, {**bn, "g": g})
    yield Case("outputs_alias", 15, [("Relu", "x", "r", {}), ("Identity", "r", "y0", {}), ("Identity", "r", "y1", {}),
                                     ("Identity", "x", "y2", {}), ("Identity", "b", "y3", {})], x,
               [np.maximum(x, 0), np.maximum(x, 0), x, b], bn)


def containers():
    x, w = f32(2, 3), f32(3, 4)
    want = np.maximum(x.astype(float) @ w * 2.5, 0)
    fn = FunctionProto(name="scaled", domain="local", input=["a", "b"], output=["c"], attribute=["by"],
                       opset_import=[helper.make_opsetid("", 18)])
    fn.node.append(helper.make_node("MatMul", ["a", "b"], ["p"]))
    k = helper.make_node("Constant", [], ["k"])
    k.attribute.append(AttributeProto(name="value_float", ref_attr_name="by", type=AttributeProto.FLOAT))
    fn.node.append(k)
    fn.node.append(helper.make_node("Mul", ["p", "k"], ["c"]))
    outer = FunctionProto(name="layer", domain="local", input=["u", "v"], output=["w"], attribute=["factor"],
                          opset_import=[helper.make_opsetid("", 18)])
    call = helper.make_node("scaled", ["u", "v"], ["p"], domain="local", name="inner")
    call.attribute.append(AttributeProto(name="by", ref_attr_name="factor", type=AttributeProto.FLOAT))
    outer.node.append(helper.make_node("Relu", ["p"], ["w"]))  # in the wrong order
    outer.node.append(call)
    case = Case("functions", 18, [("layer", "x m", "y", {"domain": "local", "factor": 2.5})], x, want, {"m": w},
                domain="local")
    case.model.functions.extend([fn, outer])
    yield case
    yield Case("half_weights", 18, [("MatMul", "x m", "p", {}), ("Cast", "p", "h", {"to": TensorProto.FLOAT16}),
                                    ("Cast", "h", "f", {"to": TensorProto.FLOAT}), ("Relu", "f", "y", {})], x,
               np.maximum(x.astype(float) @ w.astype(np.float16), 0), {"m": w.astype(np.float16)})
    bits = (w.view(np.uint32) >> 16).astype(np.uint16)
    brain = helper.make_tensor("m", TensorProto.BFLOAT16, w.shape, bits.tobytes(), raw=True)
    yield Case("bfloat_weights", 18, [("MatMul", "x m", "y", {})], x,
               x.astype(float) @ (bits.astype(np.uint32) << 16).view(np.float32), {"m": brain})
    typed = TensorProto(name="m", dims=w.shape, data_type=TensorProto.FLOAT16,
                        int32_data=[int(v) for v in w.astype(np.float16).view(np.uint16).ravel()])
    yield Case("half_in_int32_data", 18, [("MatMul", "x m", "y", {})], x, x.astype(float) @ w.astype(np.float16),
               {"m": typed})


class External(Case):
    """The weights in weights/m.data, beginning at an odd place."""

    def write(self, folder):
        path = super().write(folder)
        os.makedirs(path + "/weights", exist_ok=True)
        with open(path + "/weights/m.data", "wb") as out:
            out.write(b"abc" + self.data.tobytes() + b"z")
        return path


def external():
    x, w = f32(2, 3), f32(3, 4)
    t = TensorProto(name="m", dims=w.shape, data_type=TensorProto.FLOAT, data_location=TensorProto.EXTERNAL)
    for key, value in (("location", "weights/m.data"), ("offset", "3"), ("length", str(w.nbytes))):
        t.external_data.add(key=key, value=value)
    case = External("external", 18, [("MatMul", "x m", "y", {})], x, x.astype(float) @ w, {"m": t})
    case.data = w
    yield case


def write(folder):
    """All cases below the folder; returns theirs."""
    return [case.write(folder) for family in (reductions, shapes, norms, activations, folding, containers, external)
            for case in family()]
