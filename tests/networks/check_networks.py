#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""`gwstream model run` against PyTorch: the networks of export.py, in several opsets, windowed and, where they can,
streamed, planned and node by node; float32 outputs within 1e-4 of PyTorch's, relative to the largest. What the newer
exporter of PyTorch 2.15 wrote (opset 18, weights in the file and beside it) lies in dynamo/ with PyTorch's results.

usage: check_networks.py quick | large      (large: exit 77 without PyTorch)"""
import pathlib
import re
import sys
import warnings

import numpy as np

try:
    import torch
except ImportError:
    torch = None

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "flow")]
import flow  # noqa: E402
from flow import check, finish, folder, run  # noqa: E402

warnings.filterwarnings("ignore")
BOUND = 1e-4

# network, opset, dynamic batch, windows in the file, how gwstream is to run it
LARGE = (("deepclean", 17, True, 2, "planned"), ("resnet18", 13, True, 2, "planned"),
         ("resnet34-group", 17, False, 1, "planned"), ("resnet34-torch-group", 13, True, 1, "planned"))
QUICK = (("small", 17, True, 5, "planned"), ("small", 11, False, 1, "planned"),
         ("deepclean", 11, False, 1, "planned"), ("deepclean-relu", 13, True, 2, "planned"),
         ("narrow-batch", 13, True, 3, "planned"), ("narrow-group", 11, True, 2, "planned"),
         ("narrow-group", 13, False, 1, "planned"), ("narrow-group", 17, True, 2, "planned"),
         ("narrow-torch-group", 11, True, 2, "planned"), ("narrow-torch-group", 17, False, 1, "planned"),
         ("narrow-each", 17, True, 2, "planned"), ("narrow-instance", 13, True, 2, "planned"),
         ("bottleneck", 17, True, 2, "planned"), ("autoencoder", 13, True, 2, ""), ("autoencoder", 17, False, 1, ""),
         ("autoencoder-groups", 11, False, 1, ""), ("wavenet", 13, True, 2, "planned"), ("mixed", 17, True, 3, ""),
         ("transformer", 17, False, 1, "node by node"), ("transformer", 13, False, 2, "node by node"),
         ("recurrent", 13, False, 1, "node by node"))


def relative(y, want):
    if y.shape != want.shape:
        return float("inf")
    return float(np.max(np.abs(y.astype(float) - want)) / np.max(np.abs(want)))


def compare(what, path, x, want, engine, y):
    """On the engine it is to run on ("": whichever), and node by node."""
    for nodes in ([], ["--nodes"])[:1 if engine == "node by node" else 2]:
        status, out, err = run("model", "run", path, "--in", x, "--out", y, *nodes)
        if status:
            check(False, f"{what}: exit {status}: {err.strip()}")
            continue
        error, ran = relative(np.load(y), want), out.strip().rsplit(", ", 1)[-1]
        check(error < BOUND and (nodes or engine in ran), f"{what}: {ran}, {error:.1e} from PyTorch")


def torch_of(net, x):
    with torch.no_grad():
        return net(torch.as_tensor(x)).numpy()


def windows(work, name, opset, dynamic, batch, engine):
    net, x = export.build(name), export.example(name, batch)
    export.export(net, x, f"{work}/net.onnx", opset, dynamic)
    np.save(f"{work}/x.npy", x.numpy())
    what = f"{name}, opset {opset}, {batch} windows{', dynamic' if dynamic else ''}"
    compare(what, f"{work}/net.onnx", f"{work}/x.npy", torch_of(net, x), engine, f"{work}/y.npy")


def fixtures(work):
    """Needs no PyTorch: it has been."""
    for path in sorted((HERE / "dynamo").glob("*.onnx")):
        name = str(path)[:-len(".onnx")]
        compare(f"{path.stem}, torch.export", path, f"{name}-in.npy", np.load(f"{name}-out.npy"), "", f"{work}/y.npy")


def streamed(work, name, hop, samples):
    """A long series through torch at once: the same but where torch has seen the padding at its ends."""
    net, x = export.build(name), export.example(name, 1)
    export.export(net, x, f"{work}/net.onnx")
    torch.manual_seed(2)
    x = torch.randn(1, x.shape[1], samples)
    np.save(f"{work}/x.npy", x[0].numpy())
    status, out, err = run("model", "run", f"{work}/net.onnx", "--in", f"{work}/x.npy", "--out", f"{work}/y.npy",
                           "--stream", "--hop", hop)
    said = re.search(r"(\d+) samples late; as a window's after (\d+) columns", out)
    if status or not said:
        return check(False, f"{name}, hops of {hop}: exit {status}: {err.strip()} {out}")
    late, warm = map(int, said.groups())
    y, want = np.load(f"{work}/y.npy"), torch_of(net, x)
    y = y[:, max(late, warm):]
    want = want.reshape(len(y), -1)[:, max(late, warm) - late:][:, :y.shape[1]]
    error = relative(y, want)
    check(error < BOUND and y.shape[1] > samples // 2,
          f"{name}, hops of {hop}: {late} samples late, {warm} columns of warm-up, {error:.1e} from PyTorch")


def reach(work, name):
    """What `model show` says an output column depends on, beside PyTorch's gradients."""
    net, x = export.build(name), export.example(name, 1).requires_grad_()
    export.export(net, x.detach(), f"{work}/net.onnx")
    said = re.search(r"sees (\d+): from (\d+) before .* to (\d+) after", run("model", "show", f"{work}/net.onnx")[1])
    y, first, last = net(x).reshape(-1, x.shape[2])[0], 0, 0
    for place in range(x.shape[2] // 2, x.shape[2] // 2 + 16):  # all phases of the strides
        seen = torch.autograd.grad(y[place], x, retain_graph=True)[0].abs().sum((0, 1)).nonzero()
        first, last = max(first, place - int(seen.min())), max(last, int(seen.max()) - place)
    check(said and list(map(int, said.groups())) == [first + last + 1, first, last],
          f"{name}: sees {first} samples before and {last} after, as PyTorch's gradients have it ({said and said.group()})")


suite = sys.argv[1] if len(sys.argv) > 1 else "quick"
with folder() as work:
    if suite == "quick":
        fixtures(work)
    if not torch:
        print("skipped: PyTorch is not installed")
        sys.exit(1 if flow.failures else 77)
    import export

    torch.set_num_threads(1)
    for case in LARGE if suite == "large" else QUICK:
        windows(work, *case)
    if suite == "large":
        for hop in (16, 256, 4096):
            streamed(work, "deepclean", hop, 16384)
    else:
        streamed(work, "wavenet", 64, 4096)
        streamed(work, "wavenet", 1, 1024)
        streamed(work, "autoencoder-groups", 64, 4096)
        for name in ("deepclean", "wavenet", "autoencoder"):
            reach(work, name)
finish()
