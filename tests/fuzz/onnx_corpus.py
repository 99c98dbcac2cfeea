#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes the seed corpus of fuzz_onnx: small networks of every operator, and broken files. Fixed seed,
so that the same files come out again. usage: onnx_corpus.py FOLDER"""
import os
import sys

import numpy as np
from onnx import TensorProto, helper, numpy_helper

folder = sys.argv[1]
rng = np.random.default_rng(20150914)
count = 0


def f32(*shape):
    return (rng.standard_normal(shape) / 2).astype(np.float32)


def i64(*values):
    return np.array(values, np.int64)


def write(name, data):
    global count
    count += 1
    assert len(data) < 4096, (name, len(data))
    with open(os.path.join(folder, name), "wb") as out:
        out.write(data)


def model(nodes, inits, shape=(1, 2, 32), outputs=("logit",), opset=13, ir=7, **props):
    graph = helper.make_graph(
        [helper.make_node(op, i.split(), o.split(), name=f"n{k}", **a) for k, (op, i, o, a) in enumerate(nodes)], "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(o, TensorProto.FLOAT, None) for o in outputs],
        [numpy_helper.from_array(v, k) for k, v in inits.items()])
    m = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir)
    helper.set_model_props(m, {"gwstream." + k: v for k, v in props.items()})
    return m


def save(name, *args, **kwargs):
    write(name + ".onnx", model(*args, **kwargs).SerializeToString())


HEAD = [("Slice", "f start end axis", "last", {}), ("GlobalAveragePool", "last", "mean", {}),
        ("Flatten", "mean", "flat", {"axis": 1}), ("Gemm", "flat hw hb", "logit", {"transB": 1})]


def head(channels, frames):
    return {"start": i64(-frames), "end": i64(2**63 - 1), "axis": i64(2), "hw": f32(1, channels), "hb": f32(1)}


conv = ("Conv", "x w b", "c", {"pads": [4, 0], "strides": [4], "kernel_shape": [8], "group": 2})
weights = {"w": f32(4, 1, 8), "b": f32(4)}
save("stream", [conv, ("Relu", "c", "f", {})] + HEAD, {**weights, **head(4, 7)}, detectors="H1,L1",
     sample_rate="2048", window_samples="32")
save("residual", [conv, ("Conv", "x w1", "s", {"strides": [4], "group": 2}), ("Add", "c s", "a", {}),
                  ("Relu", "a", "f", {})] + HEAD, {**weights, "w1": f32(4, 1, 1), **head(4, 6)})
save("arrival", [conv, ("Tanh", "c", "f", {}), ("Conv", "f w2", "arrival", {})] + HEAD,
     {**weights, "w2": f32(2, 4, 1), **head(4, 7)}, outputs=("logit", "arrival"))
save("identity-shortcut", [conv, ("Conv", "c w3", "d", {"pads": [2, 0]}), ("Add", "d c", "f", {})] + HEAD,
     {**weights, "w3": f32(4, 4, 3), **head(4, 5)})
save("batchnorm", [("Conv", "x w", "c", {}), ("BatchNormalization", "c s h m v", "d", {}),
                   ("BatchNormalization", "d s h m v", "f", {"epsilon": 0.1})] + HEAD,
     {"w": f32(3, 2, 5), "s": f32(3), "h": f32(3), "m": f32(3), "v": f32(3) ** 2, **head(3, 4)})
save("batchnorm-alone", [("BatchNormalization", "x s h m v", "f", {})] + HEAD,
     {"s": f32(2), "h": f32(2), "m": f32(2), "v": f32(2) ** 2, **head(2, 4)})
save("constants", [("Mul", "x k", "a", {}), ("Add", "one a", "b", {}), ("Sigmoid", "b", "s", {}),
                   ("Mul", "a s", "f", {})] + HEAD,
     {"k": f32(2, 1), "one": np.float32(0.5).reshape(()), **head(2, 4)})
save("same-pads", [("Conv", "x w", "f", {"auto_pad": "SAME_LOWER", "dilations": [3]})] + HEAD,
     {"w": f32(3, 2, 4), **head(3, 4)})
save("reduce-mean-13", [("ReduceMean", "x", "m", {"axes": [-1], "keepdims": 0}), ("Gemm", "m hw", "logit", {})],
     {"hw": f32(2, 1)})
save("reduce-mean-18", [("ReduceMean", "x axes", "m", {}), ("Squeeze", "m axes", "q", {}),
                        ("Unsqueeze", "q axes", "u", {}), ("Reshape", "u shape", "r", {}),
                        ("Gemm", "r hw", "logit", {"alpha": 0.5, "beta": 2.0, "transB": 1})],
     {"axes": i64(2), "shape": i64(0, -1), "hw": f32(1, 2)}, opset=18, ir=8)
save("slice-6", [("Slice", "x", "f", {"starts": [3], "ends": [-1], "axes": [2]}), ("Dropout", "f", "d mask", {}),
                 ("GlobalAveragePool", "d", "m", {}), ("Squeeze", "m", "q", {"axes": [2]}),
                 ("Gemm", "q hw hb", "logit", {"broadcast": 1})], {"hw": f32(2, 1), "hb": f32(1)}, opset=6, ir=3)
save("constant-nodes", [("Constant", "", "k", {"value": numpy_helper.from_array(f32(2, 1))}),
                        ("Constant", "", "j", {"value_float": 2.0}), ("Identity", "k", "k2", {}),
                        ("Mul", "x k2", "a", {}), ("Mul", "a j", "f", {})] + HEAD, head(2, 4))
save("unsupported", [("Softmax", "x", "s", {"axis": -1}), ("MaxPool", "s", "p", {"kernel_shape": [2]}),
                     ("ReduceMean", "p", "logit", {"axes": [-1]})], {})
save("symbolic", [("GlobalAveragePool", "x", "logit", {})], {}, shape=("N", 1, "T"))
save("rank-2", [("Gemm", "x w b", "logit", {})], {"w": f32(2, 3), "b": f32(1, 3)}, shape=(1, 2))
save("unordered", [("Relu", "c", "f", {}), conv] + HEAD, {**weights, **head(4, 7)})
save("loop", [("Relu", "b", "a", {}), ("Relu", "a", "b", {}), ("GlobalAveragePool", "x", "logit", {})], {})
save("nobody-makes-it", [("Add", "x z", "logit", {})], {})

m = model([("Add", "x t", "f", {})] + HEAD, head(2, 4))
for name, kind, values in (("t", TensorProto.FLOAT, [1.5]), ("d", TensorProto.DOUBLE, [1.5, 2]),
                           ("i", TensorProto.INT32, [-1, 2]), ("h", TensorProto.FLOAT16, [0.5]),
                           ("n", TensorProto.INT8, [-3]), ("l", TensorProto.INT64, [-(2**63)])):
    m.graph.initializer.append(helper.make_tensor(name, kind, [len(values)], values))
write("typed-data.onnx", m.SerializeToString())

m = model([("Add", "x t", "f", {})] + HEAD, head(2, 4))
t = m.graph.initializer.add(name="t", data_type=TensorProto.FLOAT, dims=[2**40, 2**40])
write("huge-dims.onnx", m.SerializeToString())
del t.dims[:]
t.data_location = TensorProto.EXTERNAL
entry = t.external_data.add(key="location", value="../../etc/passwd")
write("external-data.onnx", m.SerializeToString())

inner = b""
for _ in range(300):  # a graph in an attribute in a node in a graph ...
    for field in (6, 5, 1):
        size = len(inner)
        varint = bytes([size & 0x7F]) if size < 128 else bytes([size & 0x7F | 0x80, size >> 7])
        inner = bytes([field << 3 | 2]) + varint + inner
m = model([("If", "x", "logit", {})], {})
write("nested.onnx", m.SerializeToString() + b"\x3a" + bytes([len(inner) & 0x7F | 0x80, len(inner) >> 7]) + inner)

whole = model([conv, ("Relu", "c", "f", {})] + HEAD, {**weights, **head(4, 7)}).SerializeToString()
write("cut.onnx", whole[:len(whole) // 2])
write("not-onnx", b"\x89HDF\r\n\x1a\n" + bytes(24))
write("long-varint", b"\x08" + b"\xff" * 10 + b"\x01")
write("empty", b"")
print(count, "files")
