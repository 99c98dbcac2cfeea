# SPDX-License-Identifier: GPL-3.0-or-later
"""PyTorch and ONNX Runtime, one thread each, on the networks of tests/networks/export.py and the shipped one: what
bench_nn.py measures gwstream against. Runs in a virtual environment of its own (bench_nn.py makes it) and answers one
JSON line on stdout to each on stdin:

    {"export": NAME, "to": FILE, "model": SHIPPED}              -> {"shape": [C, T]}
    {"open": NAME, "file": FILE, "batch": N, "compile": false}  -> {"torch_mode": which is fastest, "differ": relative}
    {"run": "torch" | "onnxruntime", "seconds": S}              -> the same figures as `gwstream model bench --json`
    {"versions": 1}
"""
import json
import os
import pathlib
import sys
import time
import warnings

import numpy as np
import onnx
import onnxruntime
import torch
from torch import nn
from torch.nn import functional

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "tests" / "networks"))
import export  # noqa: E402

warnings.filterwarnings("ignore")
WARM_S = 0.1
SHIPPED = "shipped"


class FromFile(nn.Module):
    """A network of the few operators that the shipped one has, built from its file."""

    def __init__(self, model):
        super().__init__()
        self.graph = model.graph
        self.constant = {i.name: torch.from_numpy(onnx.numpy_helper.to_array(i).copy()) for i in self.graph.initializer}

    def forward(self, x):
        value = {**self.constant, self.graph.input[0].name: x}
        for node in self.graph.node:
            a = {i.name: onnx.helper.get_attribute_value(i) for i in node.attribute}
            v = [value[name] for name in node.input]
            if node.op_type == "Conv":
                left, right = a.get("pads", [0, 0])
                y = functional.pad(v[0], (left, right)) if left or right else v[0]
                y = functional.conv1d(y, v[1], v[2], a["strides"][0], 0, a["dilations"][0], a["group"])
            elif node.op_type == "Relu":
                y = torch.relu(v[0])
            elif node.op_type == "Add":
                y = v[0] + v[1]
            elif node.op_type == "Slice":
                y = v[0][:, :, int(v[1]):]
            elif node.op_type == "GlobalAveragePool":
                y = v[0].mean(-1, keepdim=True)
            elif node.op_type == "Flatten":
                y = torch.flatten(v[0], 1)
            elif node.op_type == "Gemm":
                y = functional.linear(v[0], v[1], v[2])
            else:
                raise SystemExit(f"nn_peers.py knows no {node.op_type}")
            value[node.output[0]] = y
        return tuple(value[o.name] for o in self.graph.output)


def write(name, path, shipped):
    """The file that all of them run: a batch of any size."""
    if name != SHIPPED:
        export.export(export.build(name), export.example(name, 2), path, 17, dynamic=True)
        return list(export.NETWORKS[name][1])
    model = onnx.load(shipped)
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    onnx.save(model, path)
    return [d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim[1:]]


class Bench:
    def __init__(self, name, path, batch, compile_too):
        model = onnx.load(path)
        shape = [d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim[1:]]
        self.batch, self.x = batch, torch.from_numpy(np.random.default_rng(1).standard_normal((batch, *shape), np.float32))
        net = FromFile(model).eval() if name == SHIPPED else export.build(name)
        for p in net.parameters():
            p.requires_grad_(False)
        self.torch, self.mode = self.fastest(net, compile_too)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
        self.session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self.binding = self.session.io_binding()
        self.binding.bind_ortvalue_input(self.session.get_inputs()[0].name,
                                         onnxruntime.OrtValue.ortvalue_from_numpy(self.x.numpy()))
        for out in self.session.get_outputs():
            self.binding.bind_output(out.name, "cpu")
        self.session.run_with_iobinding(self.binding)
        other, mine = self.binding.copy_outputs_to_cpu()[0], self.call_torch()
        mine = (mine[0] if isinstance(mine, tuple) else mine).numpy()
        self.differ = float(np.abs(other - mine).max() / np.abs(mine).max())

    def fastest(self, net, compile_too):
        """PyTorch as it is, frozen, and with oneDNN's weights packed: the one that takes the least time here."""
        ways = {"eager": net}
        try:
            ways["frozen"] = torch.jit.freeze(torch.jit.trace(net, self.x))
            ways["optimised"] = torch.jit.optimize_for_inference(torch.jit.trace(net, self.x))
        except Exception as why:  # a way that this version of PyTorch has no more
            print(f"nn_peers.py: {type(why).__name__}: {why}".splitlines()[0], file=sys.stderr)
        if compile_too:
            ways["compiled"] = torch.compile(net, dynamic=False)
        times = {}
        for way, f in ways.items():
            for _ in range(2 if self.batch > 32 else 3):  # what is traced is optimised in its first calls
                f(self.x)
            n, start = 0, time.thread_time()
            while n < 1 or time.thread_time() - start < 0.1:
                f(self.x)
                n += 1
            times[way] = (time.thread_time() - start) / n
        best = min(times, key=times.get)
        return ways[best], best

    def call_torch(self):
        return self.torch(self.x)

    def call_onnxruntime(self):
        self.session.run_with_iobinding(self.binding)

    def run(self, engine, seconds):
        call = getattr(self, "call_" + engine)
        end = time.perf_counter() + WARM_S
        while time.perf_counter() < end:
            call()
        times, cpu, start = [], time.thread_time(), time.perf_counter()
        last = start
        while last - start < seconds or not times:
            call()
            now = time.perf_counter()
            times.append(now - last)
            last = now
        cpu = time.thread_time() - cpu
        times.sort()
        return {"inferences_per_s": len(times) * self.batch / cpu, "p50_us": 1e6 * times[len(times) // 2],
                "inferences_per_wall_s": len(times) * self.batch / (last - start),
                "p99_us": 1e6 * times[len(times) - 1 - (len(times) - 1) // 100]}


def main():
    torch.set_num_threads(1)
    torch.set_num_interop_threads(1)
    answers, bench = os.fdopen(os.dup(1), "w"), None
    os.dup2(2, 1)  # what libraries print must not come between the answers
    with torch.inference_mode():
        for line in sys.stdin:
            q = json.loads(line)
            if "versions" in q:
                a = {"torch": torch.__version__, "onnxruntime": onnxruntime.__version__}
            elif "export" in q:
                with torch.inference_mode(False):
                    a = {"shape": write(q["export"], q["to"], q["model"])}
            elif "open" in q:
                bench = None
                bench = Bench(q["open"], q["file"], q["batch"], q["compile"])
                a = {"torch_mode": bench.mode, "differ": bench.differ}
            else:
                a = bench.run(q["run"], q["seconds"])
            print(json.dumps(a), file=answers, flush=True)


if __name__ == "__main__":
    main()
