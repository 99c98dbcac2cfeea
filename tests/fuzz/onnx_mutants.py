#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Models that are well formed and wrong: what byte by byte fuzzing seldom gets to.

usage: onnx_mutants.py PATH/corpus_onnx_exec [--count N] [--seed S]

Takes ONNX's own cases and ours (tests/check/onnx_fixtures.py), gives their inputs as constants now and then,
and changes one to three things in each: an operator, an attribute, a shape, a type, an element, who reads
whom. Each mutant is simplified and run; none may end the program. Exit 0, 1 when one did (its file is kept and
named), 77 without onnx."""
import argparse
import glob
import os
import random
import subprocess
import sys
import tempfile

try:
    import numpy as np
    import onnx
    from onnx import AttributeProto, TensorProto, numpy_helper
except ImportError as missing:
    print(f"skipped: {missing}")
    sys.exit(77)

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "check"))
import onnx_fixtures  # noqa: E402

NUMBERS = [-2**63, -2**31, -3, -2, -1, 0, 1, 2, 3, 4, 5, 7, 8, 16, 255, 2**20, 2**31 - 1, 2**31, 2**40, 2**63 - 1]
FLOATS = [0.0, -0.0, 1.0, -1.0, 0.5, 1e-30, 1e30, 3e38, float("inf"), float("-inf"), float("nan")]
TYPES = [1, 2, 3, 6, 7, 9, 10, 11, 16, 0, 8, 12, 99]


def seeds(folder):
    """The models with their first data set's inputs."""
    data = os.path.join(os.path.dirname(onnx.__file__), "backend", "test", "data")
    found = sorted(glob.glob(data + "/*/*/model.onnx")) + [f + "/model.onnx" for f in onnx_fixtures.write(folder)]
    for path in found:
        if os.path.getsize(path) > 20000:
            continue
        model, inputs = onnx.load(path, load_external_data=False), []
        for k in range(len(model.graph.input)):
            tensor = TensorProto()
            try:
                with open(f"{os.path.dirname(path)}/test_data_set_0/input_{k}.pb", "rb") as f:
                    tensor.ParseFromString(f.read())
            except Exception:
                break
            inputs.append(tensor)
        yield model, inputs


def change(rng, model, operators):
    g = model.graph
    node = rng.choice(g.node) if g.node else None
    what = rng.randrange(12)
    if what == 0 and node:
        node.op_type = rng.choice(operators)
    elif what in (1, 2) and node and node.attribute:
        a = rng.choice(node.attribute)
        if a.type == AttributeProto.INTS and a.ints:
            a.ints[rng.randrange(len(a.ints))] = rng.choice(NUMBERS)
            if rng.random() < 0.2:
                a.ints.append(rng.choice(NUMBERS))
        elif a.type == AttributeProto.INT:
            a.i = rng.choice(NUMBERS)
        elif a.type == AttributeProto.FLOAT:
            a.f = rng.choice(FLOATS)
        elif a.type == AttributeProto.STRING:
            a.s = rng.choice([b"SAME_UPPER", b"SAME_LOWER", b"VALID", b"", b"reflect", b"edge", b"wrap", b"linear"])
        elif a.type == AttributeProto.TENSOR and a.t.dims:
            a.t.dims[rng.randrange(len(a.t.dims))] = rng.choice(NUMBERS)
    elif what == 3 and node and node.input:
        names = [i.name for i in g.input] + [i.name for i in g.initializer] + [o for n in g.node for o in n.output]
        node.input[rng.randrange(len(node.input))] = rng.choice(names + [""])
    elif what == 4 and g.input:
        dims = rng.choice(g.input).type.tensor_type.shape.dim
        if dims:
            d = rng.choice(dims)
            d.dim_value = rng.choice(NUMBERS[3:14])
    elif what == 5 and g.input:
        dims = rng.choice(g.input).type.tensor_type.shape.dim
        if dims and rng.random() < 0.5:
            dims.pop()
        else:
            dims.add(dim_value=rng.choice([0, 1, 2, 5]))
    elif what == 6 and g.input:
        rng.choice(g.input).type.tensor_type.elem_type = rng.choice(TYPES)
    elif what == 7 and g.initializer:
        t = rng.choice(g.initializer)
        try:
            a = numpy_helper.to_array(t).copy()
        except Exception:
            return
        if a.dtype == object or a.size == 0:
            return
        k = rng.randrange(a.size)
        flat = a.reshape(-1)
        if a.dtype.kind == "f":
            flat[k] = rng.choice(FLOATS[:-3] + [float("nan")])
        elif a.dtype.kind in "iu":
            flat[k] = np.array(rng.choice(NUMBERS)).astype(a.dtype)
        if rng.random() < 0.3:
            a = flat[:rng.randrange(a.size + 1)]
        if rng.random() < 0.3:
            a = a.reshape((1,) * rng.randrange(3) + a.shape)
        t.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(a), t.name))
    elif what == 8 and node and node.input:
        if rng.random() < 0.5:
            node.input.pop()
        else:
            node.input.append(rng.choice(list(node.input)))
    elif what == 9 and node:
        node.output.append(f"more{len(node.output)}")
    elif what == 10:
        for o in model.opset_import:
            o.version = rng.choice([1, 6, 7, 9, 10, 11, 12, 13, 17, 18, 21])
    elif what == 11 and node and len(g.node) > 1:
        g.output.add(name=rng.choice([o for n in g.node for o in n.output]))


def main():
    options = argparse.ArgumentParser()
    options.add_argument("program")
    options.add_argument("--count", type=int, default=3000)
    options.add_argument("--seed", type=int, default=1)
    args = options.parse_args()
    rng = random.Random(args.seed)
    np.seterr(all="ignore")
    with tempfile.TemporaryDirectory() as top:
        models = list(seeds(os.path.join(top, "own")))
        having = {}  # models by operator: each operator as often as any other
        for m in models:
            for op in {n.op_type for n in m[0].graph.node}:
                having.setdefault(op, []).append(m)
        operators = sorted(having)
        folder = os.path.join(top, "mutants")
        os.makedirs(folder)
        for k in range(args.count):
            model, inputs = onnx.ModelProto(), []
            source, tensors = rng.choice(having[rng.choice(operators)])
            model.CopyFrom(source)
            for t, value in zip(tensors, list(model.graph.input)):
                if rng.random() < 0.4:  # as a constant
                    model.graph.initializer.add().CopyFrom(t)
                    model.graph.initializer[-1].name = value.name
            for _ in range(rng.randrange(1, 4)):
                try:
                    change(rng, model, operators)
                except (ValueError, TypeError):  # not even protobuf takes it
                    pass
            with open(f"{folder}/{k:06d}", "wb") as out:
                out.write(model.SerializeToString())
        done = subprocess.run([args.program, folder], capture_output=True, text=True)
        if done.returncode:
            last = [line for line in done.stderr.splitlines() if line.startswith(folder)]
            kept = f"/tmp/onnx-mutant-{args.seed}-{os.path.basename(last[-1])}" if last else "none"
            if last:
                os.replace(last[-1], kept)
            print(f"FAIL status {done.returncode} on {kept}:")
            print("\n".join(line for line in done.stderr.splitlines() if not line.startswith(folder))[-2500:])
            return 1
        print(f"ok   {done.stdout.strip()} made from {len(models)} models")
        return 0


if __name__ == "__main__":
    sys.exit(main())
