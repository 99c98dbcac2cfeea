#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Networks run by gwstream against torch, numpy and ONNX's own test cases.

usage: onnx_cases.py PATH/onnx_run

1. the shipped architecture with random weights, built and evaluated in torch, written with onnx.helper:
   window and stream, oneDNN and reference kernels, within 1e-4;
2. a graph of the operators that the shipped one does not use, against numpy in float64;
3. the 1-D cases of Debian's libonnx-testdata that the operator set covers (the others are named).

Exit 0 all agree, 1 a difference, 77 when torch or onnx is not installed."""
import os
import subprocess
import sys
import tempfile

try:
    import numpy as np
    import onnx
    import torch
    from onnx import TensorProto, helper, numpy_helper
except ImportError as missing:
    print(f"skipped: {missing}")
    sys.exit(77)

torch.set_num_threads(1)
RUN = sys.argv[1] if len(sys.argv) > 1 else "onnx_run"
WINDOW, FRAMES = 3072, 32
DATA = os.path.join(os.path.dirname(onnx.__file__), "backend", "test", "data")  # libonnx-testdata fills it
failures = 0


def check(name, error, bound):
    global failures
    good = error <= bound
    failures += not good
    print(f"{'ok  ' if good else 'FAIL'} {name}: {error:.2e} (bound {bound:.0e})")


def run(path, x, *options):
    x = np.ascontiguousarray(x, dtype="<f4")
    done = subprocess.run([RUN, path, *options], input=x.tobytes(), capture_output=True, timeout=60)
    if done.returncode != 0:
        raise RuntimeError(done.stderr.decode().strip())
    return np.frombuffer(done.stdout, dtype="<f4")


def worst(a, b):
    a, b = np.ravel(a).astype(float), np.ravel(b).astype(float)
    return float(np.max(np.abs(a - b))) if a.shape == b.shape else float("inf")


class Causal(torch.nn.Module):
    """Conv + BatchNorm, padded on the left only."""

    def __init__(self, i, o, k, s, groups=1):
        super().__init__()
        self.conv = torch.nn.Conv1d(i, o, k, s, groups=groups, bias=False)
        self.bn = torch.nn.BatchNorm1d(o)
        self.pad = max(k - s, 0)
        torch.nn.init.normal_(self.conv.weight, std=(2 / (i // groups * k)) ** 0.5)
        torch.nn.init.uniform_(self.bn.weight, 0.5, 1.5)
        torch.nn.init.normal_(self.bn.bias, std=0.1)
        self.bn.running_mean.normal_(std=0.1)
        self.bn.running_var.uniform_(0.5, 2)

    def forward(self, x):
        return self.bn(self.conv(torch.nn.functional.pad(x, (self.pad, 0))))


class Block(torch.nn.Module):
    def __init__(self, i, o, k, s, groups):
        super().__init__()
        self.a, self.b, self.c = Causal(i, o, k, s, groups), Causal(o, o, k, 1, groups), Causal(i, o, 1, s, groups)

    def forward(self, x):
        return torch.relu(self.b(torch.relu(self.a(x))) + self.c(x))


class Net(torch.nn.Module):
    """The shipped architecture: two detectors apart (groups of 2) until 128 Hz, then together."""

    def __init__(self):
        super().__init__()
        self.stem = Causal(2, 32, 16, 4, 2)
        self.blocks = torch.nn.ModuleList(
            [Block(32, 48, 7, 2, 2), Block(48, 64, 7, 2, 2), Block(64, 64, 5, 2, 1), Block(64, 64, 5, 2, 1)])
        self.arrival = torch.nn.Conv1d(64, 2, 1)
        self.head = torch.nn.Linear(64, 1)

    def forward(self, x):
        x = torch.relu(self.stem(x))
        for i, block in enumerate(self.blocks):
            x = block(x)
            if i == 1:
                arrival = self.arrival(x)
        return self.head(x[:, :, -FRAMES:].mean(-1)), arrival


class Graph:
    """onnx.helper with names counted up."""

    def __init__(self):
        self.nodes, self.inits, self.n = [], [], 0

    def init(self, value):
        name = f"w{len(self.inits)}"
        self.inits.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def add(self, op, inputs, out=None, **attributes):
        self.n += 1
        out = out or f"v{self.n}"
        self.nodes.append(helper.make_node(op, inputs, [out], name=f"{op.lower()}{self.n}", **attributes))
        return out

    def save(self, path, shape, outputs, opset=13):
        graph = helper.make_graph(
            self.nodes, "net", [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
            [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in outputs], self.inits)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=7)
        onnx.checker.check_model(model)
        onnx.save(model, path)


def export(net, path, fold, arrival):
    g = Graph()

    def causal(c, x):
        w, pads = c.conv.weight.detach().numpy(), [c.pad, 0]
        attributes = dict(kernel_shape=[w.shape[2]], strides=list(c.conv.stride), pads=pads, group=c.conv.groups)
        bn = [t.detach().numpy() for t in (c.bn.weight, c.bn.bias, c.bn.running_mean, c.bn.running_var)]
        if not fold:
            y = g.add("Conv", [x, g.init(w)], **attributes)
            return g.add("BatchNormalization", [y] + [g.init(t) for t in bn], epsilon=c.bn.eps)
        scale = bn[0] / np.sqrt(bn[3] + c.bn.eps)
        return g.add("Conv", [x, g.init(w * scale[:, None, None]), g.init(bn[1] - bn[2] * scale)], **attributes)

    x = g.add("Relu", [causal(net.stem, "x")])
    for i, b in enumerate(net.blocks):
        y = causal(b.b, g.add("Relu", [causal(b.a, x)]))
        x = g.add("Relu", [g.add("Add", [y, causal(b.c, x)])])
        if i == 1 and arrival:
            w, bias = net.arrival.weight.detach().numpy(), net.arrival.bias.detach().numpy()
            g.add("Conv", [x, g.init(w), g.init(bias)], "arrival", kernel_shape=[1])
    i64 = lambda v: g.init(np.array([v], np.int64))
    x = g.add("Slice", [x, i64(-FRAMES), i64(2**63 - 1), i64(2)])
    x = g.add("Flatten", [g.add("GlobalAveragePool", [x])])
    g.add("Gemm", [x, g.init(net.head.weight.detach().numpy()), g.init(net.head.bias.detach().numpy())], "logit",
          transB=1)
    g.save(path, [1, 2, WINDOW], [("logit", [1, 1])] + ([("arrival", [1, 2, WINDOW // 16])] if arrival else []))


def shipped_architecture(folder):
    torch.manual_seed(7)
    net = Net().eval()
    rng = np.random.default_rng(7)
    with torch.no_grad():
        for fold, arrival in ((True, False), (False, True)):
            name = f"shipped architecture{'' if fold else ', BatchNorm not folded'}{', arrival' if arrival else ''}"
            path = os.path.join(folder, f"net{fold:d}.onnx")
            export(net, path, fold, arrival)
            x = rng.standard_normal((2, WINDOW)) * np.array([[1.0], [1.3]])
            logit, arrive = net(torch.tensor(x[None], dtype=torch.float32))
            want = np.concatenate([logit.numpy().ravel(), arrive.numpy().ravel()]) if arrival else logit.numpy()
            check(f"{name}: window, oneDNN against torch", worst(run(path, x), want), 1e-4)
            check(f"{name}: window, reference against torch", worst(run(path, x, "--ref"), want), 1e-4)

        # Stream: every frame's logit against torch on the window that ends with the frame.
        path, arrive_path = (os.path.join(folder, f"net{f}.onnx") for f in (1, 0))
        x = rng.standard_normal((2, WINDOW + 64 * 64))
        ends = range(WINDOW, x.shape[1] + 1, 64)
        windows = torch.tensor(np.stack([x[:, e - WINDOW:e] for e in ends]), dtype=torch.float32)
        logit, arrive = (t.numpy() for t in net(windows))
        for frames in (1, 2, 4, 32):
            got = run(path, x, "--stream", str(64 * frames))
            check(f"stream, hop {frames} frames, against torch's windows",
                  worst(got[WINDOW // 64 - 1:], logit[:len(got) - WINDOW // 64 + 1]), 1e-4)
        got = run(arrive_path, x, "--stream", "128")
        frames = x.shape[1] // 64
        series = got[frames:].reshape(2, -1)
        # A window's columns that do not see its padding (the first 14 do) are the stream's.
        error = max(worst(series[:, e // 16 - 178:e // 16], arrive[i][:, 14:]) for i, e in enumerate(ends))
        check("stream, arrival against torch's windows", error, 1e-4)


def other_operators(folder):
    rng = np.random.default_rng(3)
    x = rng.standard_normal((3, 40))
    g = Graph()
    f32 = lambda *s: rng.standard_normal(s).astype(np.float32)
    w1, s1, w2, k1, w3, b3 = f32(4, 3, 5), f32(4, 1), f32(4, 4, 3), f32(1), f32(4, 2), f32(2)
    b1 = f32(4)
    a = g.add("Conv", ["x", g.init(w1), g.init(b1)], dilations=[2], pads=[3, 5])
    t = g.add("Tanh", [g.add("Mul", [a, g.init(s1)])])
    s = g.add("Sigmoid", [g.add("Conv", [t, g.init(w2)], auto_pad="SAME_UPPER")])
    m = g.add("Mul", [t, s])
    q = g.add("Add", [g.add("Identity", [m]), g.init(k1)])
    c = g.add("Slice", [q, g.init(np.array([4], np.int64)), g.init(np.array([-2], np.int64)),
                        g.init(np.array([-1], np.int64))])
    r = g.add("ReduceMean", [c], axes=[-1], keepdims=1)
    u = g.add("Squeeze", [r, g.init(np.array([2], np.int64))])
    g.add("Gemm", [u, g.init(w3), g.init(b3)], "y", alpha=0.5, beta=2.0)
    g.add("Identity", [c], "c")
    path = os.path.join(folder, "others.onnx")
    g.save(path, [1, 3, 40], [("y", [1, 2]), ("c", [1, 4, 34])])

    def conv(v, w, dilation, left, right):
        v = np.pad(v, ((0, 0), (left, right)))
        n = v.shape[1] - dilation * (w.shape[2] - 1)
        return sum(w[:, :, k].astype(float) @ v[:, k * dilation:k * dilation + n] for k in range(w.shape[2]))

    v = np.tanh((conv(x.astype(np.float32).astype(float), w1, 2, 3, 5) + b1[:, None]) * s1)
    v = (v / (1 + np.exp(-conv(v, w2, 1, 1, 1))) + k1)[:, 4:-2]
    want = np.concatenate([0.5 * v.mean(1) @ w3 + 2 * b3, v.ravel()])
    for options in ((), ("--ref",)):
        check(f"other operators {options or 'oneDNN'} against numpy", worst(run(path, x, *options), want), 2e-6)


# Suite and case: all the 1-D ones there are, and a few that are shape or point by point.
CASES = [("pytorch-converted", n) for n in (
    "Conv1d Conv1d_dilated Conv1d_groups Conv1d_pad1 Conv1d_pad1size1 Conv1d_pad2 Conv1d_pad2size1 Conv1d_stride "
    "BatchNorm1d_3d_input_eval Linear Linear_no_bias MaxPool1d MaxPool1d_stride AvgPool1d AvgPool1d_stride").split()]
CASES += [("node", n) for n in "relu tanh sigmoid gemm_default_vector_bias globalaveragepool averagepool_1d_default maxpool_1d_default".split()]


def array(path):
    tensor = onnx.TensorProto()
    with open(path, "rb") as f:
        tensor.ParseFromString(f.read())
    return numpy_helper.to_array(tensor)


def onnx_case(folder, suite, name):
    """The network has batch 1: the case's batch goes through it row by row. Returns error and rows."""
    base = f"{DATA}/{suite}/test_{name}"
    model = onnx.load(f"{base}/model.onnx")
    x, want = array(f"{base}/test_data_set_0/input_0.pb"), array(f"{base}/test_data_set_0/output_0.pb")
    inits = {i.name for i in model.graph.initializer}
    inputs = [i for i in model.graph.input if i.name not in inits]
    for k, extra in enumerate(inputs[1:], 1):  # further inputs become constants
        value = array(f"{base}/test_data_set_0/input_{k}.pb")
        model.graph.initializer.append(numpy_helper.from_array(value, extra.name))
        model.graph.input.remove(extra)
    if x.ndim not in (2, 3):
        raise RuntimeError(f"input of {x.ndim} dimensions")
    inputs[0].type.tensor_type.shape.dim[0].dim_value = 1
    path = os.path.join(folder, "case.onnx")
    onnx.save(model, path)
    return max(worst(run(path, row), w) / (1e-7 + 1e-3 * np.abs(w).max()) for row, w in zip(x, want)), len(x)


def onnx_cases(folder):
    if not os.path.isdir(DATA):
        print("not compared: libonnx-testdata is not installed")
        return
    passed, left_out = 0, []
    for suite, name in CASES:
        try:
            error, rows = onnx_case(folder, suite, name)
        except RuntimeError as why:
            left_out.append(f"{name} ({str(why).split('cannot run: ')[-1]})")
            continue
        passed += 1
        check(f"onnx {suite} {name}, {rows} rows, error of its tolerance (rtol 1e-3, atol 1e-7)", error, 1)
    check("onnx cases covered: missing of 14", max(0, 14 - passed), 0)
    print("not covered by the operator set: " + "; ".join(left_out))


with tempfile.TemporaryDirectory() as folder:
    shipped_architecture(folder)
    other_operators(folder)
    onnx_cases(folder)
sys.exit(1 if failures else 0)
